"""The server object: the one door through which Python starts, feeds and stops the data plane.

Python creates a Server from plain values, hands it listening sockets, and starts one
threading.Thread per shard thread. Each thread sets up its own proactor and then stays in nogil code;
it comes back only for fibers and at the end. The main thread meanwhile waits for work of the control
plane (wait_control): commands that Python executes, such as CONFIG and INFO.

Ownership: Server owns server_t, shards and executors; they are freed in close(), after all threads
have ended. A control request is a transaction_t that belongs to Python until reply() is called.
"""

import os
import select
import threading
import time

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.engine.acceptor cimport acceptor_open, acceptor_t
from dfly._core.engine.command cimport (ACL_ADMIN, ACL_BLOCKING, ACL_DANGEROUS, ACL_FAST, ACL_PUBSUB,
                                        ACL_READ, ACL_SLOW, ACL_WRITE, COMMAND_ADMIN, COMMAND_ALLOW_BUSY,
                                        COMMAND_BLOCKING, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_LOADING,
                                        COMMAND_MAX, COMMAND_MAY_REPLICATE, COMMAND_MOVABLE_KEYS,
                                        COMMAND_NO_ASYNC_LOADING, COMMAND_NO_AUTH, COMMAND_NO_MULTI,
                                        COMMAND_NOSCRIPT, COMMAND_PUBSUB, COMMAND_READONLY,
                                        COMMAND_SKIP_MONITOR, COMMAND_SKIP_SLOWLOG, COMMAND_STALE,
                                        COMMAND_WRITE, command_key_positions, command_registry,
                                        command_spec_t, find_command, find_subcommand, registry_t,
                                        transaction_t)
from dfly._core.engine.balance cimport balance_on_sent, balance_start
from dfly._core.engine.cron cimport cron_start
from dfly._core.engine.dispatch cimport dispatch_init, dispatch_service
from dfly._core.engine.eviction cimport eviction_set_baseline, memory_used_total
from dfly._core.engine.error_stats cimport ERROR_CODES_MAX, error_stats_t
from dfly._core.engine.latency cimport (LATENCY_BUCKETS, LATENCY_EVENTS, LATENCY_SAMPLES,
                                        latency_bucket_bounds, latency_event_name, latency_monitor_t,
                                        latency_series_t)
from dfly._core.engine.pubsub cimport (TOPIC_CHANNEL, TOPIC_PATTERN, TOPIC_SHARD_CHANNEL, pubsub_init,
                                       pubsub_topics)
from dfly._core.engine.server_state cimport CLIENT_PEAK_SECONDS, PAUSE_ALL, command_stats_t, executor_t, server_t
from dfly._core.engine.settings cimport password_t, settings_init_encoding_limits, settings_t
from dfly._core.engine.shard cimport database_t, shard_new, shard_t
from dfly._core.engine.tracking cimport tracking_clients, tracking_flush, tracking_init
from dfly._core.engine.transaction cimport transaction_complete
from dfly._core.loop.fiber cimport FiberHub
from dfly._core.loop.file cimport file_inject_fault
from dfly._core.loop.mailbox cimport mailbox_init, mailbox_take, message_t
from dfly._core.loop.proactor cimport (listener_close, proactor_init, proactor_options_t, proactor_post,
                                       proactor_stop, proactor_t)
from dfly._core.persist.load cimport (FAULT_SET, load_begin, load_cancel, load_end, load_flush, load_run, loader_init,
                                      loader_of, loader_t)
from dfly._core.persist.save cimport (SAVE_IDLE, save_ask, saver_entries_so_far, save_texts_t, saver_init, saver_of,
                                      saver_t, saver_texts, saver_version_sum)
from dfly._core.net.connection cimport (CONNECTION_ADMIN, CONNECTION_UNIX_SOCKET, connection_t,
                                        net_thread_flush, net_thread_init, net_thread_t)
from dfly._core.resp.reply cimport reply_raw
from dfly._core.store.glob cimport glob_match
from dfly._core.sys.alloc cimport (ACCOUNT_DATA, ACCOUNT_NET, mem_allocator_name, mem_total, net_free,
                                   net_zalloc)
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, atomic_cas, atomic_load, atomic_load_relaxed,
                                  atomic_store, atomic_store_relaxed, slice_t)
from dfly._core.sys.clock cimport monotonic_us, ticks_per_us, wall_ms

from dfly import command_docs, version
from dfly._core.commands import registration

__abi__ = DFLY_ABI_STAMP

registration.register_all()

# Settings that are one int64 in settings_t, by their Redis name.
POLICIES = ("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
            "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
FILE_OPERATIONS = ("open", "read", "write", "fsync", "rename", "unlink", "close")  # file_operation_t, from 1
CLIENT_CLASSES = ("normal", "replica", "pubsub")
STOP_LISTENING_S = 1.0           # how long stop_listening waits for the accepting thread


cdef void flush_hook(proactor_t *proactor) noexcept nogil:
    cdef executor_t *executor = <executor_t *>(<net_thread_t *>proactor.context).context
    if executor != NULL:
        tracking_flush(executor)
    net_thread_flush(<net_thread_t *>proactor.context)


cdef void on_open(connection_t *connection) noexcept nogil:
    pass


cdef class ControlRequest:
    """A command that Python must answer: name, args (bytes), and who asked."""

    cdef transaction_t *transaction
    cdef readonly bytes name
    cdef readonly list args
    cdef readonly int resp
    cdef readonly dict client

    @staticmethod
    cdef ControlRequest wrap(transaction_t *transaction):
        cdef ControlRequest self = ControlRequest.__new__(ControlRequest)
        cdef connection_t *connection = transaction.connection
        cdef uint32_t i
        self.transaction = transaction
        self.name = transaction.spec.name
        self.args = [transaction.argv[i].data[:transaction.argv[i].size] for i in range(transaction.argc)]
        self.resp = connection.resp
        self.client = {
            "id": connection.id, "db": transaction.caller.database_index, "flags": connection.flags,
            "addr": connection.peer_address.decode("ascii", "replace"),
            "laddr": connection.local_address.decode("ascii", "replace"),
            "name": connection.name.decode("utf-8", "replace") if connection.name != NULL else "",
        }
        return self

    def reply(self, bytes resp):
        """Sends finished RESP bytes as the reply; once."""
        if self.transaction == NULL:
            raise RuntimeError("this request has been answered")
        reply_raw(&self.transaction.reply, resp, len(resp))
        if resp[:1] == b"-":
            self.transaction.reply.error_count += 1
        transaction_complete(self.transaction)
        self.transaction = NULL


cdef class Server:
    """The running data plane. `settings` maps Redis setting names to Python values."""

    cdef server_t *server
    cdef dict listening          # the caller's descriptor -> (address of the acceptor_t, our descriptor)
    cdef list threads
    cdef list hubs               # the FiberHub of each thread
    cdef list start_errors
    cdef object ready
    cdef object go
    cdef int backend
    cdef bint running

    def __cinit__(self, dict settings, int threads=1, bint force_epoll=False, bint force_io_uring=False):
        cdef uint32_t i
        self.server = <server_t *>net_zalloc(sizeof(server_t))
        self.server.thread_count = threads
        self.server.settings.databases = settings.get("databases", 16)
        self.backend = 2 if force_epoll else (1 if force_io_uring else 0)
        self.threads = []
        self.hubs = [FiberHub() for _ in range(threads)]
        self.listening = {}
        self.start_errors = []
        self.server.started_ms = wall_ms()
        run_id = os.urandom(20).hex().encode()
        memcpy(self.server.run_id, <const char *>run_id, 40)
        mailbox_init(&self.server.control)
        self.server.control_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        dispatch_service(&self.server.service)
        self.server.service.on_open = on_open
        self.server.service.on_sent = balance_on_sent
        saver_init(self.server)
        loader_init(self.server)
        saver_of(self.server).redis_version = self._kept_text(version.REDIS_VERSION)
        self._set_defaults()
        for name, value in settings.items():
            self.apply(name, value)
        self.server.shards = <shard_t **>net_zalloc(threads * sizeof(shard_t *))
        self.server.executors = <executor_t **>net_zalloc(threads * sizeof(executor_t *))
        self.server.proactors = <proactor_t **>net_zalloc(threads * sizeof(proactor_t *))
        for i in range(<uint32_t>threads):
            self.server.shards[i] = shard_new(i, threads, &self.server.settings)
            self.server.shards[i].siblings = self.server.shards
            self.server.executors[i] = <executor_t *>net_zalloc(sizeof(executor_t))
            self.server.executors[i].server = self.server
            self.server.executors[i].shard = self.server.shards[i]
            self.server.proactors[i] = &self.server.executors[i].proactor
            dispatch_init(self.server.executors[i])
        pubsub_init(self.server)
        tracking_init(self.server)

    cdef void _set_defaults(self):
        """Redis' defaults, so that a bare Server works in tests."""
        self.server.settings.maxmemory_samples = 5
        self.server.settings.lfu_log_factor = 10
        self.server.settings.lfu_decay_time = 1
        self.server.settings.maxclients = 10000
        self.server.settings.tcp_keepalive_s = 300
        self.server.settings.protected_mode = 1
        self.server.settings.proto_max_bulk_len = 512 * 1024 * 1024
        self.server.settings.client_query_buffer_limit = 1024 * 1024 * 1024
        self.server.settings.slowlog_log_slower_than_us = 10000
        self.server.settings.slowlog_max_len = 128
        self.server.settings.latency_tracking = 1
        self.server.settings.slice_elements = 5000
        self.server.settings.snapshot_elements = 2000
        self.server.settings.snapshot_time_share = 1
        self.server.settings.tracking_table_max_keys = 1000000
        self.server.settings.active_expire_enabled = 1
        settings_init_encoding_limits(&self.server.settings)
        self.server.settings.output_limits[2].hard_bytes = 32 * 1024 * 1024
        self.server.settings.output_limits[2].soft_bytes = 8 * 1024 * 1024
        self.server.settings.output_limits[2].soft_seconds = 60
        self.server.settings.output_limits[1].hard_bytes = 256 * 1024 * 1024
        self.server.settings.output_limits[1].soft_bytes = 64 * 1024 * 1024
        self.server.settings.output_limits[1].soft_seconds = 60

    def apply(self, str name, value):
        """Sets one setting that the data plane reads; names it does not know are not its business."""
        if name == "maxmemory":
            self.server.settings.maxmemory = value
        elif name == "maxmemory-policy":
            self.server.settings.maxmemory_policy = POLICIES.index(value)
        elif name == "maxmemory-samples":
            self.server.settings.maxmemory_samples = value
        elif name == "cache_mode":
            self.server.settings.cache_mode = bool(value)
        elif name == "lfu-log-factor":
            self.server.settings.lfu_log_factor = value
        elif name == "lfu-decay-time":
            self.server.settings.lfu_decay_time = value
        elif name == "maxclients":
            self.server.settings.maxclients = value
        elif name == "timeout":
            self.server.settings.timeout_s = value
        elif name == "tcp-keepalive":
            self.server.settings.tcp_keepalive_s = value
        elif name == "protected-mode":
            self.server.settings.protected_mode = bool(value)
        elif name == "proto-max-bulk-len":
            self.server.settings.proto_max_bulk_len = value
        elif name == "client-query-buffer-limit":
            self.server.settings.client_query_buffer_limit = value
        elif name == "slowlog-log-slower-than":
            self.server.settings.slowlog_log_slower_than_us = value
        elif name == "slowlog-max-len":
            self.server.settings.slowlog_max_len = value
        elif name == "latency-monitor-threshold":
            self.server.settings.latency_monitor_threshold_ms = value
            self.server.settings.latency_monitor_ticks = <uint64_t>min(value * 1000 * ticks_per_us(), 2.0**63)
        elif name == "latency-tracking":
            self.server.settings.latency_tracking = bool(value)
        elif name == "notify-keyspace-events":
            self.server.settings.notify_keyspace_events = value
        elif name == "tracking-table-max-keys":
            self.server.settings.tracking_table_max_keys = value
        elif name == "active-expire":
            self.server.settings.active_expire_enabled = bool(value)
        elif name == "conn_io_threads":
            atomic_store_relaxed(<uint64_t *>&self.server.settings.conn_io_threads, value)
        elif name == "shuffle-connections":
            self.server.settings.shuffle_connections = bool(value)
        elif name == "interrupt-transactions":
            self.server.settings.interrupt_transactions = bool(value)
        elif name == "slice-elements":
            self.server.settings.slice_elements = value
        elif name == "snapshot-time-share":
            self.server.settings.snapshot_time_share = value
        elif name == "snapshot-elements":
            self.server.settings.snapshot_elements = value
        elif name == "list-max-listpack-size":
            self.server.settings.list_max_listpack_size = value
        elif name == "hash-max-listpack-entries":
            self.server.settings.hash_max_listpack_entries = value
        elif name == "hash-max-listpack-value":
            self.server.settings.hash_max_listpack_value = value
        elif name == "set-max-intset-entries":
            self.server.settings.set_max_intset_entries = value
        elif name == "set-max-listpack-entries":
            self.server.settings.set_max_listpack_entries = value
        elif name == "set-max-listpack-value":
            self.server.settings.set_max_listpack_value = value
        elif name == "zset-max-listpack-entries":
            self.server.settings.zset_max_listpack_entries = value
        elif name == "zset-max-listpack-value":
            self.server.settings.zset_max_listpack_value = value
        elif name == "stream-node-max-bytes":
            self.server.settings.stream_node_max_bytes = value
        elif name == "stream-node-max-entries":
            self.server.settings.stream_node_max_entries = value
        elif name == "hll-sparse-max-bytes":
            self.server.settings.hll_sparse_max_bytes = value
        elif name == "rdb-version":
            self.server.settings.rdb_version = value
        elif name == "rdbcompression":
            self.server.settings.rdb_compression = value
        elif name == "file-fault":
            operation, error, skip = value.split() if value else ("open", "0", "0")
            file_inject_fault(FILE_OPERATIONS.index(operation) + 1, int(error), int(skip))
        elif name == "dbfilename":
            saver_of(self.server).file_name = self._kept_text(value)
        elif name == "df_snapshot_format":
            saver_of(self.server).by_shard = bool(value)
        elif name == "compression_mode":
            saver_of(self.server).compression_mode = value
        elif name == "rdbchecksum":
            saver_of(self.server).with_checksum = bool(value)
        elif name == "admin_nopass":
            self.server.admin_without_password = bool(value)
        elif name == "requirepass":
            self._set_password(value.encode() if isinstance(value, str) else value)
        elif name == "client-output-buffer-limit":
            for which, (hard, soft, seconds) in value.items():
                self._set_output_limit(CLIENT_CLASSES.index(which), hard, soft, seconds)

    cdef const char *_kept_text(self, str value):
        """A copy that lives for ever: shard threads may be reading the one before."""
        cdef bytes encoded = os.fsencode(value)
        cdef char *copy = <char *>net_zalloc(len(encoded) + 1)
        memcpy(copy, <const char *>encoded, len(encoded))
        return copy

    cdef _set_password(self, bytes value):
        cdef password_t *password = <password_t *>net_zalloc(sizeof(password_t) + len(value))
        password.size = len(value)
        memcpy(password.text, <const char *>value, len(value))
        self.server.settings.password = password
        self.server.settings.has_password = 1 if value else 0

    cdef _set_output_limit(self, int index, int64_t hard, int64_t soft, int64_t seconds):
        self.server.settings.output_limits[index].hard_bytes = hard
        self.server.settings.output_limits[index].soft_bytes = soft
        self.server.settings.output_limits[index].soft_seconds = seconds

    def start(self):
        """Starts the shard threads. Returns (backend name, reason). Raises OSError if one cannot start."""
        self.go = threading.Event()
        for i in range(self.server.thread_count):
            self.ready = threading.Event()
            thread = threading.Thread(target=self._thread_main, args=(i,), name=f"shard-{i}", daemon=True)
            self.threads.append(thread)
            # One by one: many threads attaching at once can hang in CPython's stop-the-world.
            thread.start()
            self.ready.wait()
        if self.start_errors:
            self.running = True
            self.stop()
            raise OSError(self.start_errors[0])
        eviction_set_baseline()
        self.running = True
        self.go.set()
        kind = "io_uring" if self.server.proactors[0].backend_kind == 1 else "epoll"
        return kind, self.server.proactors[0].backend_reason.decode("utf-8", "replace")

    def _thread_main(self, uint32_t index):
        cdef executor_t *executor = self.server.executors[index]
        cdef FiberHub hub = self.hubs[index]
        cdef proactor_options_t options
        cdef int result
        memset(&options, 0, sizeof(options))
        options.backend = self.backend
        with nogil:
            result = proactor_init(&executor.proactor, index, &options)
        if result != 0:
            reason = executor.proactor.backend_reason.decode("utf-8", "replace")
            self.start_errors.append(f"{reason} ({os.strerror(-result)})")
            self.ready.set()
            return
        net_thread_init(&executor.net, &executor.proactor)
        executor.net.context = executor
        executor.net.tcp_keepalive_s = self.server.settings.tcp_keepalive_s
        executor.proactor.context = &executor.net
        executor.proactor.on_flush = flush_hook
        cron_start(executor)
        balance_start(executor)
        self.ready.set()
        self.go.wait()
        # Its fiber phases are the only way from a shard thread to the GIL (tests/tidy forbids `with gil` below).
        hub.run(&executor.proactor)

    def listen(self, int fd, bint unix_socket=False, bint admin=False, bint is_protected=False):
        """Accepts clients from a listening descriptor; call before start's threads are released or after.

        The descriptor stays the caller's: the loop has a duplicate.
        """
        cdef acceptor_t *acceptor = <acceptor_t *>net_zalloc(sizeof(acceptor_t))
        cdef uint32_t flags = 0
        cdef listen_message_t *message
        if unix_socket:
            flags |= CONNECTION_UNIX_SOCKET
        if admin:
            flags |= CONNECTION_ADMIN
        own = os.dup(fd)
        self.listening[fd] = (<size_t>acceptor, own)
        message = <listen_message_t *>net_zalloc(sizeof(listen_message_t))
        message.message.run = open_listener
        message.acceptor = acceptor
        message.server = self.server
        message.fd = own
        message.flags = flags
        message.is_protected = is_protected
        proactor_post(self.server.proactors[0], &message.message)

    def stop_listening(self, int fd):
        """Accepts no more clients from a descriptor that listen() was given; returns when that is so."""
        cdef unlisten_message_t *message = <unlisten_message_t *>net_zalloc(sizeof(unlisten_message_t))
        address, _ = self.listening.pop(fd)
        # The acceptor's memory stays: the loop may still hold it.
        message.acceptor = <acceptor_t *><size_t>address
        message.message.run = close_listener
        proactor_post(self.server.proactors[0], &message.message)
        limit = time.monotonic() + STOP_LISTENING_S
        while not atomic_load(&message.done):
            if time.monotonic() > limit:
                return           # the thread is busy for long: the message stays its own
            time.sleep(0.0002)
        net_free(message)

    def wait_control(self, double timeout_s):
        """Waits for control requests; returns a list of ControlRequest, empty on time-out or after wake_control()."""
        cdef message_t *message
        cdef message_t *following
        requests = []
        try:
            select.select([self.server.control_fd], [], [], timeout_s)
            os.eventfd_read(self.server.control_fd)
        except (BlockingIOError, InterruptedError):
            pass
        message = mailbox_take(&self.server.control)
        while message != NULL:
            following = message.next
            requests.append(ControlRequest.wrap(<transaction_t *>message))
            message = following
        return requests

    def stop(self):
        """Ends the shard threads and waits for them. Idempotent."""
        cdef uint32_t i
        if not self.running:
            return
        self.running = False
        for i in range(self.server.thread_count):
            proactor_stop(self.server.proactors[i])
        self.go.set()
        for thread in self.threads:
            thread.join()
        for _, own in self.listening.values():
            os.close(own)
        self.listening = {}

    @property
    def allocator(self):
        """Name and version of the allocator in use."""
        return mem_allocator_name().decode()

    def malloc_stats(self):
        """One line about the allocator."""
        return (f"{self.allocator}: {mem_total(ACCOUNT_DATA)} bytes of data, {mem_total(ACCOUNT_NET)} bytes of "
                "buffers, as handed out by the allocator\n")

    def glob(self, str pattern, str text):
        """Redis' glob, as KEYS uses it."""
        cdef bytes p = pattern.encode()
        cdef bytes t = text.encode()
        return bool(glob_match(p, len(p), t, len(t), True))

    def key_positions(self, str name, list command):
        """Positions of the keys in a command (a list of bytes), or None if it cannot be parsed."""
        cdef bytes encoded = name.partition("|")[0].encode()
        cdef command_spec_t *spec = find_command(encoded, len(encoded))
        cdef slice_t *argv
        cdef uint32_t *positions
        cdef int count
        cdef bytes argument
        if "|" in name:
            encoded = name.partition("|")[2].encode()
            spec = find_subcommand(spec, encoded, len(encoded))
        argv = <slice_t *>net_zalloc(len(command) * sizeof(slice_t))
        positions = <uint32_t *>net_zalloc(len(command) * sizeof(uint32_t))
        for i, argument in enumerate(command):
            argv[i].data = argument
            argv[i].size = len(argument)
        count = command_key_positions(spec, argv, len(command), positions)
        result = None if count < 0 else [positions[i] for i in range(count)]
        net_free(argv)
        net_free(positions)
        return result

    def command_table(self):
        """The registration table, a dict a row, in order of registration."""
        cdef registry_t *registry = command_registry()
        cdef uint32_t i
        return [describe_row(registry.specs[i]) for i in range(registry.count) if registry.specs[i].parent == NULL]

    @property
    def run_id(self):
        return self.server.run_id.decode()

    def reset_stats(self):
        """CONFIG RESETSTAT: counters of commands, keyspace and network start again."""
        cdef uint32_t t
        cdef uint32_t i
        cdef executor_t *executor
        cdef command_stats_t *stats
        for t in range(self.server.thread_count):
            executor = self.server.executors[t]
            for i in range(COMMAND_MAX):
                # The histogram stays the thread's.
                stats = &executor.command_stats[i]
                stats.calls = stats.ticks = stats.rejected = stats.failed = 0
                if stats.latency != NULL:
                    memset(stats.latency, 0, LATENCY_BUCKETS * sizeof(uint64_t))
            for i in range(ERROR_CODES_MAX):
                executor.error_stats.rows[i].count = 0
            memset(&executor.stats, 0, sizeof(executor.stats))
            memset(&executor.shard.stats, 0, sizeof(executor.shard.stats))
            executor.net.connections_received = 0
            executor.net.net_input_bytes = 0
            executor.net.net_output_bytes = 0

    def stats(self):
        """Numbers of all threads, summed, for INFO and /metrics. Reads without stopping anybody."""
        cdef uint32_t t
        cdef executor_t *executor
        cdef shard_t *shard
        total = {
            "connected_clients": atomic_load_relaxed(&self.server.connected_clients),
            "threads": self.server.thread_count,
            "started_ms": self.server.started_ms,
            "used_memory_data": mem_total(ACCOUNT_DATA),
            "used_memory_net": mem_total(ACCOUNT_NET),
            "used_memory": memory_used_total(),
            "peak_used_memory": self.server.peak_used,
        }
        sums = dict.fromkeys((
            "commands", "errors", "batches", "foreign_in_place", "foreign_messages", "connections_rejected",
            "input_limit_closes", "output_limit_closes", "timeout_closes", "hits", "misses", "expired_keys",
            "expired_fields", "evicted_keys", "oom_rejections", "mutations", "borrowed", "inbox_messages",
            "lazyfreed_objects", "connections_received", "connections_moved", "net_input_bytes", "net_output_bytes",
            "ticks", "sleeps",
            "wakeups_sent", "wakeups_received", "completions", "messages", "receive_buffer_shortages",
            "submission_overflows", "lazyfree_pending_objects", "expire_cap_reached", "blocked_clients",
            "tracking_clients", "tracking_keys", "tracking_items",
            "transactions_in_flight", "token_waits", "token_wait_ticks"), 0)
        total["tracking_prefixes"] = self.server.shards[0].tracked.prefix_count
        total["pubsub_channels"] = pubsub_topics(self.server, TOPIC_CHANNEL)
        total["pubsub_patterns"] = pubsub_topics(self.server, TOPIC_PATTERN)
        total["pubsubshard_channels"] = pubsub_topics(self.server, TOPIC_SHARD_CHANNEL)
        lag = 0
        # Not sums: the largest of all threads, or an average.
        input_peak = output_peak = exceeded_us = exceeding_us = expire_ticks = stale = 0
        now_us = monotonic_us()
        for t in range(self.server.thread_count):
            executor = self.server.executors[t]
            shard = executor.shard
            for name, value in (
                ("commands", executor.stats.commands), ("errors", executor.stats.errors),
                ("batches", executor.stats.batches), ("foreign_in_place", executor.stats.foreign_in_place),
                ("foreign_messages", executor.stats.foreign_messages),
                ("connections_rejected", executor.stats.connections_rejected),
                ("input_limit_closes", executor.stats.input_limit_closes),
                ("output_limit_closes", executor.stats.output_limit_closes),
                ("timeout_closes", executor.stats.timeout_closes),
                ("hits", shard.stats.hits), ("misses", shard.stats.misses),
                ("expired_keys", shard.stats.expired_keys),
                ("expired_fields", shard.stats.expired_fields), ("evicted_keys", shard.stats.evicted_keys),
                ("oom_rejections", shard.stats.oom_rejections), ("mutations", shard.stats.mutations),
                ("borrowed", shard.stats.borrowed), ("inbox_messages", shard.stats.inbox_messages),
                ("lazyfreed_objects", shard.stats.lazyfreed_objects),
                ("lazyfree_pending_objects", shard.reclaim_pending),
                ("expire_cap_reached", shard.stats.expire_cap_reached),
                ("blocked_clients", executor.paused_count + executor.blocked_count),
                ("tracking_clients", tracking_clients(executor)), ("tracking_keys", shard.tracked.count),
                ("tracking_items", shard.tracked.items),
                ("transactions_in_flight", executor.transactions_in_flight - executor.blocked_count),
                ("token_waits", executor.stats.token_waits),
                ("token_wait_ticks", executor.stats.token_wait_ticks),
                ("connections_received", executor.net.connections_received),
                ("connections_moved", executor.net.connections_moved),
                ("net_input_bytes", executor.net.net_input_bytes),
                ("net_output_bytes", executor.net.net_output_bytes),
                ("ticks", executor.proactor.stats.ticks), ("sleeps", executor.proactor.stats.sleeps),
                ("wakeups_sent", executor.proactor.stats.wakeups_sent),
                ("wakeups_received", executor.proactor.stats.wakeups_received),
                ("completions", executor.proactor.stats.completions),
                ("messages", executor.proactor.stats.messages),
                ("receive_buffer_shortages", executor.proactor.stats.receive_buffer_shortages),
                ("submission_overflows", executor.proactor.stats.submission_overflows),
            ):
                sums[name] += value
            lag = max(lag, shard.stats.expire_lag_ms_max)
            expire_ticks += shard.stats.expire_ticks
            stale += shard.stats.expire_stale_part
            since = shard.over_limit_since_us
            exceeding_us = max(exceeding_us, now_us - since if since else 0)
            exceeded_us = max(exceeded_us, shard.stats.eviction_exceeded_us + (now_us - since if since else 0))
            for slot in range(CLIENT_PEAK_SECONDS):
                input_peak = max(input_peak, executor.input_peaks[slot])
                output_peak = max(output_peak, executor.output_peaks[slot])
        total.update(sums)
        total.update(self._fiber_stats())
        total.update({
            "connection_threads": atomic_load(&self.server.connection_threads),
            "expire_lag_ms_max": lag, "token_wait_us": int(total["token_wait_ticks"] / ticks_per_us()),
            "expire_cycle_ms": int(expire_ticks / ticks_per_us() / 1000),
            "expire_stale_percent": 100.0 * stale / self.server.thread_count,
            "eviction_exceeded_ms": exceeded_us // 1000, "eviction_exceeding_ms": exceeding_us // 1000,
            "input_buffer_peak": input_peak, "output_buffer_peak": output_peak})
        return total

    def _fiber_stats(self):
        """Counters of the fiber phases of all threads; each phase took the GIL once."""
        hubs = [hub.stats() for hub in self.hubs]
        return {
            "fiber_switches": sum(each["switches"] for each in hubs),
            "fiber_phases": sum(each["phases"] for each in hubs),
            "fibers_live": sum(each["live"] for each in hubs),
            "baton_waits": sum(each["baton_waits"] for each in hubs),
            "gil_wait_us_max": max(each["gil_wait_us_max"] for each in hubs),
            # A phase without a fiber would be the data plane's.
            "gil_acquisitions": sum(each["empty_phases"] for each in hubs)}

    def hold_clients(self):
        """No command but those of connections is executed from here on; returns what let_clients_go wants."""
        was = (self.server.pause_mode, self.server.pause_until_ms)
        atomic_store(&self.server.pause_until_ms, <uint64_t>1 << 62)
        atomic_store(&self.server.pause_mode, PAUSE_ALL)
        # Batches that have looked at the mode before are through by then.
        time.sleep(0.01)
        return was

    def let_clients_go(self, was):
        mode, until_ms = was
        atomic_store(&self.server.pause_mode, mode)
        atomic_store(&self.server.pause_until_ms, until_ms)

    def save(self):
        """Asks for a snapshot, which begins soon; False: one is under way already."""
        return bool(save_ask(saver_of(self.server)))

    def take_scheduled_save(self):
        """Did BGSAVE inside a transaction ask for a snapshot? Once."""
        return atomic_cas(&saver_of(self.server).scheduled, 1, 0)

    def deny_writes_on_error(self, bint deny):
        """Writes are refused with -MISCONF while the last snapshot is one that failed, or not."""
        cdef saver_t *saver = saver_of(self.server)
        atomic_store(&saver.deny_on_error, deny)
        atomic_store(&self.server.deny_writes, deny and atomic_load(&saver.last_failed) != 0)

    def set_clean(self):
        """What is there now is what the file holds: after loading it."""
        saver_of(self.server).clean_version_sum = saver_version_sum(saver_of(self.server))

    def save_stats(self):
        """What is known of snapshots, for INFO, /metrics and the rules."""
        cdef saver_t *saver = saver_of(self.server)
        # A save that has ended has told before what is read after this.
        cdef uint64_t ended = atomic_load(&saver.ended)
        cdef const save_texts_t *texts = saver_texts(saver)
        return {
            "running": atomic_load(&saver.state) != SAVE_IDLE or atomic_load(&saver.asked) != 0,
            "started": saver.started_s, "ended": ended, "saves": saver.saves,
            "failed": bool(saver.last_failed), "error": saver.last_error,
            "reason": texts.reason.decode("utf-8", "replace"),
            "last_save": saver.last_save_s, "last_try": saver.last_try_s, "last_ms": saver.last_ms,
            "changes": max(0, <int64_t>(saver_version_sum(saver) - saver.clean_version_sum)),
            "path": os.fsdecode(texts.path), "bytes": saver.last_bytes, "entries": saver.last_entries,
            "forced": saver.last_forced, "total_bytes": saver.total_bytes, "total_entries": saver.total_entries,
            "total_forced": saver.total_forced, "total_ms": saver.total_ms, "pressure": saver.pressure_count,
            "current_entries": saver_entries_so_far(saver),
        }

    # -- Loading: see persist/load -------------------------------------------------------------------

    def load_begin(self, uint64_t total_bytes, dict options):
        """Commands are refused with -LOADING until load_end."""
        cdef loader_t *loader = loader_of(self.server)
        loader.with_checksum = options["checksum"]
        loader.keep_partial = options["partial"]
        loader.refuse_modules = options["refuse_modules"]
        loader.may_replace = options["may_replace"]
        load_begin(loader, total_bytes)

    def load_set_total(self, uint64_t total_bytes):
        loader_of(self.server).total_bytes = total_bytes

    def load_flush(self):
        """Drops all keys."""
        with nogil:
            load_flush(loader_of(self.server))

    def load_run(self, bytes path):
        """Loads a file, on the caller's thread. False: load_stats says why not."""
        cdef const char *name = path
        cdef bint loaded
        with nogil:
            loaded = load_run(loader_of(self.server), name)
        return bool(loaded)

    def load_end(self):
        load_end(loader_of(self.server))

    def load_cancel(self):
        load_cancel(loader_of(self.server))

    def load_notes(self):
        """Lines for the log, oldest first."""
        cdef loader_t *loader = loader_of(self.server)
        return [loader.notes[i].decode("utf-8", "replace") for i in range(<int>atomic_load(&loader.note_count))]

    def load_stats(self):
        """The load under way, or the last one."""
        cdef loader_t *loader = loader_of(self.server)
        total, done = loader.total_bytes, atomic_load(&loader.loaded_bytes)
        elapsed = max(0, monotonic_us() - loader.started_us) / 1e6
        has_fault = atomic_load(&loader.fault) == FAULT_SET
        return {
            "running": atomic_load(&self.server.loading) != 0, "started": loader.started_s, "total": total,
            "loaded": done, "percent": 100.0 * done / total if total else 0.0, "rate": done / max(elapsed, 1e-6),
            "eta": int(elapsed * max(0, total - done) / (done + 1)) if elapsed >= 1 else 1,
            "keys": atomic_load(&loader.keys), "expired": loader.expired, "empty": loader.empty,
            "broken": loader.broken, "modules": loader.modules, "functions": loader.functions,
            "fault_offset": loader.fault_offset if has_fault else 0,
            "reason": loader.reason.decode("utf-8", "replace") if has_fault else "",
        }

    def wake_control(self):
        """wait_control returns at once."""
        os.eventfd_write(self.server.control_fd, 1)

    def keyspace(self):
        """{database: (keys, keys with a deadline, mutations)} over all shards."""
        cdef uint32_t t
        cdef uint32_t d
        cdef shard_t *shard
        result = {}
        for d in range(self.server.settings.databases):
            keys = expires = 0
            for t in range(self.server.thread_count):
                shard = self.server.shards[t]
                if shard.databases[d] != NULL:
                    keys += shard.databases[d].table.count
                    expires += shard.databases[d].table.deadline_count
            if keys:
                result[d] = (keys, expires)
        return result

    def average_ttls(self):
        """{database: average time to live of its keys that have one, ms}; 0 before it was sampled."""
        cdef uint32_t t
        cdef uint32_t d
        cdef database_t *database
        result = {}
        for d in range(self.server.settings.databases):
            weighted = keys = 0
            for t in range(self.server.thread_count):
                database = self.server.shards[t].databases[d]
                if database != NULL and database.avg_ttl_ms > 0:
                    weighted += database.avg_ttl_ms * database.table.deadline_count
                    keys += database.table.deadline_count
            result[d] = weighted // keys if keys else 0
        return result

    def error_stats(self):
        """{code: error replies} since the last reset, of codes that occurred."""
        cdef uint32_t t
        cdef uint32_t i
        cdef error_stats_t *stats
        result = {}
        for t in range(self.server.thread_count):
            stats = &self.server.executors[t].error_stats
            for i in range(stats.used):
                if stats.rows[i].count:
                    code = stats.rows[i].code.decode("latin-1")
                    result[code] = result.get(code, 0) + stats.rows[i].count
        return result

    def latency_histograms(self):
        """{command: [(shortest us, longest us, calls), ...]} of steps that have calls, in rising order."""
        cdef registry_t *registry = command_registry()
        cdef uint64_t low
        cdef uint64_t high
        cdef uint32_t i
        cdef uint32_t t
        cdef uint32_t bucket
        cdef uint64_t *histogram
        cdef double us = 1 / ticks_per_us()
        result = {}
        for i in range(registry.count):
            sums = None
            for t in range(self.server.thread_count):
                histogram = self.server.executors[t].command_stats[i].latency
                if histogram != NULL:
                    sums = sums or [0] * LATENCY_BUCKETS
                    for bucket in range(LATENCY_BUCKETS):
                        if histogram[bucket]:
                            sums[bucket] += histogram[bucket]
            if not sums or not any(sums):
                continue
            rows = []
            for bucket in range(LATENCY_BUCKETS):
                if sums[bucket]:
                    latency_bucket_bounds(bucket, &low, &high)
                    rows.append((low * us, (high + 1) * us, sums[bucket]))
            result[registry.specs[i].name.decode()] = rows
        return result

    def latency_events(self):
        """{event: (longest ms, {second: longest ms in it})} of events that have samples, over all threads."""
        cdef uint32_t t
        cdef uint32_t event
        result = {}
        for event in range(LATENCY_EVENTS):
            longest, samples = 0, {}
            for t in range(self.server.thread_count):
                for each in (read_series(&self.server.settings, self.server.executors[t].latency, event),
                             read_series(&self.server.settings, self.server.shards[t].latency, event)):
                    longest = max(longest, each[0])
                    for second, duration in each[1]:
                        samples[second] = max(duration, samples.get(second, 0))
            if samples:
                kept = sorted(samples.items())[-LATENCY_SAMPLES:]
                result[latency_event_name(event).decode()] = (longest, dict(kept))
        return result

    def latency_reset(self, names):
        """Forgets the events of these names."""
        cdef uint32_t event
        for event in range(LATENCY_EVENTS):
            if latency_event_name(event).decode() in names:
                self.server.settings.latency_resets[event] += 1

    def command_stats(self):
        """{name: (calls, microseconds, rejected, failed)} of commands that were called."""
        cdef registry_t *registry = command_registry()
        cdef uint32_t i
        cdef uint32_t t
        result = {}
        for i in range(registry.count):
            calls = ticks = rejected = failed = 0
            for t in range(self.server.thread_count):
                calls += self.server.executors[t].command_stats[i].calls
                ticks += self.server.executors[t].command_stats[i].ticks
                rejected += self.server.executors[t].command_stats[i].rejected
                failed += self.server.executors[t].command_stats[i].failed
            if calls or rejected:
                result[registry.specs[i].name.decode()] = (calls, ticks / ticks_per_us(), rejected, failed)
        return result


cdef read_series(const settings_t *settings, latency_monitor_t *monitor, uint32_t event):
    """(longest ms, [(second, ms), ...]) of one writer, who may be writing: a sample can be half a second's."""
    cdef latency_series_t *series
    cdef uint32_t i
    if monitor == NULL or monitor.series[event].resets != settings.latency_resets[event]:
        return 0, []
    series = &monitor.series[event]
    return series.longest_ms, [(series.samples[i].time_s, series.samples[i].duration_ms)
                               for i in range(LATENCY_SAMPLES) if series.samples[i].time_s]


FLAG_NAMES = (
    (COMMAND_WRITE, "write"), (COMMAND_READONLY, "readonly"), (COMMAND_DENYOOM, "denyoom"), (COMMAND_ADMIN, "admin"),
    (COMMAND_PUBSUB, "pubsub"), (COMMAND_NOSCRIPT, "noscript"), (COMMAND_BLOCKING, "blocking"),
    (COMMAND_LOADING, "loading"), (COMMAND_STALE, "stale"), (COMMAND_SKIP_MONITOR, "skip_monitor"),
    (COMMAND_SKIP_SLOWLOG, "skip_slowlog"), (COMMAND_FAST, "fast"), (COMMAND_NO_AUTH, "no_auth"),
    (COMMAND_MAY_REPLICATE, "may_replicate"), (COMMAND_ALLOW_BUSY, "allow_busy"),
    (COMMAND_NO_ASYNC_LOADING, "no_async_loading"), (COMMAND_NO_MULTI, "no_multi"),
    (COMMAND_MOVABLE_KEYS, "movablekeys"))
CATEGORY_NAMES = ("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog",
                  "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection",
                  "transaction", "scripting")
KEY_FLAG_NAMES = ("RO", "RW", "OW", "RM", "access", "update", "insert", "delete", "variable_flags", "incomplete")


cdef uint64_t categories_of(const command_spec_t *spec):
    """The row's categories and those that follow from its flags, by Redis' rules."""
    cdef uint64_t acl = spec.acl
    if spec.flags & COMMAND_WRITE:
        acl |= ACL_WRITE
    if spec.flags & COMMAND_READONLY:
        acl |= ACL_READ
    if spec.flags & COMMAND_ADMIN:
        acl |= ACL_ADMIN | ACL_DANGEROUS
    if spec.flags & COMMAND_PUBSUB:
        acl |= ACL_PUBSUB
    if spec.flags & COMMAND_BLOCKING:
        acl |= ACL_BLOCKING
    return acl | (ACL_FAST if spec.flags & COMMAND_FAST else ACL_SLOW)


cdef describe_row(const command_spec_t *spec):
    """One row as a dict; summary and group come from dfly.command_docs."""
    cdef uint64_t acl = categories_of(spec)
    name = spec.name.decode()
    group, summary = command_docs.DOCS.get(name.partition("|")[0], ("generic", ""))
    return {
        "name": name, "arity": spec.arity, "first_key": spec.first_key, "last_key": spec.last_key,
        "key_step": spec.key_step, "group": group, "summary": summary,
        "flags": [text for flag, text in FLAG_NAMES if spec.flags & <uint64_t>flag],
        "categories": [text for i, text in enumerate(CATEGORY_NAMES) if (acl >> <int>i) & 1],
        "key_flags": [text for i, text in enumerate(KEY_FLAG_NAMES) if (spec.key_flags >> <int>i) & 1],
        "subcommands": [describe_row(&spec.subcommands[i]) for i in range(spec.subcommand_count)],
    }


cdef struct listen_message_t:
    message_t message
    acceptor_t *acceptor
    server_t *server
    int fd
    uint32_t flags
    bint is_protected


cdef void open_listener(message_t *message, void *context) noexcept nogil:
    """On the first shard thread: a listener belongs to the proactor that accepts."""
    cdef listen_message_t *wanted = <listen_message_t *>message
    acceptor_open(wanted.acceptor, wanted.server, wanted.server.executors[0], wanted.fd, wanted.flags)
    wanted.acceptor.is_protected = wanted.is_protected
    net_free(wanted)


cdef struct unlisten_message_t:
    message_t message
    acceptor_t *acceptor
    uint64_t done                # set when the loop accepts no more; then Python frees the message


cdef void close_listener(message_t *message, void *context) noexcept nogil:
    cdef unlisten_message_t *wanted = <unlisten_message_t *>message
    listener_close(&wanted.acceptor.listener)
    atomic_store(&wanted.done, 1)
