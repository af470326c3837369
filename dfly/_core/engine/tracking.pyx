"""Implementation of client tracking: see tracking.pxd for the way of an invalidation."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, strcmp

from dfly._core.engine.command cimport COMMAND_IMMEDIATE
from dfly._core.engine.server_state cimport executor_of
from dfly._core.engine.settings cimport CLIENT_CLASS_PUBSUB
from dfly._core.engine.shard cimport shard_submit
from dfly._core.engine.tracking_table cimport (INVALIDATE_ALL, INVALIDATE_PREFIXES, TRACKING_NOLOOP,
                                               invalidation_new, invalidation_t, tracker_release,
                                               tracker_retain, tracking_table_add, tracking_table_evict,
                                               tracking_table_unwant, tracking_table_want)
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.net.connection cimport (CONNECTION_MULTI, CONNECTION_PUBSUB, connection_close,
                                        connection_output_bytes, connection_prepare_output,
                                        connection_queue_flush, net_thread_t)
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_deinit, reply_init, reply_int, reply_null,
                                    reply_push, reply_raw)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load, atomic_load_relaxed, atomic_store

__abi__ = DFLY_ABI_STAMP

cdef struct forward_t:
    # A finished push on its way to the thread of a REDIRECT. Holds a reference to its target.
    message_t message
    client_tracking_t *target
    slice_t *keys                # in the same block, as their bytes
    uint32_t count               # 0: all keys

cdef struct prefix_change_t:
    message_t message            # to a shard
    proactor_t *home
    slice_t prefix               # in the same block


cdef inline tracking_thread_t *thread_of(executor_t *executor) noexcept nogil:
    return <tracking_thread_t *>executor.tracking


cdef inline executor_t *executor_at(proactor_t *proactor) noexcept nogil:
    return <executor_t *>(<net_thread_t *>proactor.context).context


cdef void tracking_init(server_t *server) noexcept nogil:
    cdef uint32_t i
    for i in range(server.thread_count):
        server.executors[i].tracking = net_zalloc(sizeof(tracking_thread_t))
        server.shards[i].tracked.run = receive


# ---- Writing to a client -----------------------------------------------------------------------

cdef inline bint is_open(const connection_t *connection) noexcept nogil:
    return connection != NULL and not connection.is_closed and not connection.stream.is_closing


cdef inline bint is_batch_out(const connection_t *connection) noexcept nogil:
    """Replies are still to come that were made before what is to be pushed."""
    return connection.is_busy and not connection.is_blocked


cdef void close_if_full(connection_t *connection) noexcept nogil:
    """client-output-buffer-limit, the pubsub class: pushes that nobody reads must not pile up."""
    cdef executor_t *executor = executor_of(connection)
    cdef int64_t limit = executor.server.settings.output_limits[CLIENT_CLASS_PUBSUB].hard_bytes
    cdef client_tracking_t *tracking = <client_tracking_t *>connection.tracking
    cdef size_t kept = tracking.late.size if tracking != NULL else 0
    if limit != 0 and connection_output_bytes(connection) + kept > <size_t>limit:
        executor.stats.output_limit_closes += 1
        connection_close(connection)
        return
    connection_queue_flush(connection)


cdef reply_t *writer_of(client_tracking_t *self) noexcept nogil:
    """Where the next push goes: behind what is written, or behind what is still out."""
    if is_batch_out(self.connection):
        self.late.resp = self.connection.resp
        return &self.late
    connection_prepare_output(self.connection)
    self.connection.output.resp = self.connection.resp
    return &self.connection.output


cdef void write_push(client_tracking_t *self, bint is_redirected, const slice_t *keys,
                     uint32_t count) noexcept nogil:
    """On self's thread. Without RESP3 only a subscriber can be told, and only by a redirection."""
    cdef connection_t *connection = self.connection
    cdef reply_t *reply
    cdef uint32_t i
    if not is_open(connection):
        return
    if connection.resp != 3 and not (is_redirected and connection.flags & CONNECTION_PUBSUB):
        return
    reply = writer_of(self)
    if connection.resp == 3:
        reply_push(reply, 2)
        reply_bulk(reply, "invalidate", 10)
    else:
        reply_array(reply, 3)
        reply_bulk(reply, "message", 7)
        reply_bulk(reply, "__redis__:invalidate", 20)
    if count == 0:
        reply_null(reply)
    else:
        reply_array(reply, count)
        for i in range(count):
            reply_bulk(reply, keys[i].data, keys[i].size)
    close_if_full(connection)


cdef void tell_broken(client_tracking_t *self) noexcept nogil:
    cdef reply_t *reply
    self.is_redirect_broken = True
    if not is_open(self.connection) or self.connection.resp != 3:
        return
    reply = writer_of(self)
    reply_push(reply, 2)
    reply_bulk(reply, "tracking-redir-broken", 21)
    reply_int(reply, <int64_t>self.redirect.tracker.client_id)
    close_if_full(self.connection)


cdef void run_forward(message_t *message, void *context) noexcept nogil:
    cdef forward_t *forward = <forward_t *>message
    write_push(forward.target, True, forward.keys, forward.count)
    tracker_release(&forward.target.tracker)
    net_free(forward)


cdef void forward(client_tracking_t *target, const slice_t *keys, uint32_t count) noexcept nogil:
    cdef size_t total = 0
    cdef forward_t *out
    cdef char *text
    cdef uint32_t i
    for i in range(count):
        total += keys[i].size
    out = <forward_t *>net_zalloc(sizeof(forward_t) + count * sizeof(slice_t) + total)
    out.message.run = run_forward
    out.target = target
    tracker_retain(&target.tracker)
    out.keys = <slice_t *>(out + 1)
    out.count = count
    text = <char *>(out.keys + count)
    for i in range(count):
        memcpy(text, keys[i].data, keys[i].size)
        out.keys[i].data = text
        out.keys[i].size = keys[i].size
        text += keys[i].size
    proactor_post(target.tracker.home, &out.message)


cdef void send_keys(client_tracking_t *self, const slice_t *keys, uint32_t count) noexcept nogil:
    """Tells one client, on its thread, of so many keys; of all with 0."""
    cdef client_tracking_t *target = self.redirect
    if self.connection == NULL:
        return
    if target == NULL:
        write_push(self, False, keys, count)
    elif atomic_load(&target.is_gone):
        tell_broken(self)
    elif target.tracker.home == self.tracker.home:
        write_push(target, True, keys, count)
    else:
        forward(target, keys, count)


cdef void tracking_catch_up(connection_t *connection) noexcept nogil:
    cdef client_tracking_t *self = <client_tracking_t *>connection.tracking
    if self == NULL or self.late.size == 0 or is_batch_out(connection) or not is_open(connection):
        return
    connection_prepare_output(connection)
    reply_raw(&connection.output, self.late.data, self.late.size)
    reply_deinit(&self.late)
    reply_init(&self.late, connection.resp)
    connection_queue_flush(connection)


# ---- Receiving -----------------------------------------------------------------------------------

cdef inline bint is_own(const client_tracking_t *self, uint64_t writer) noexcept nogil:
    return self.tracker.mode & TRACKING_NOLOOP != 0 and self.tracker.client_id == writer


cdef void collect(executor_t *executor, const invalidation_t *message) noexcept nogil:
    cdef tracking_thread_t *thread = thread_of(executor)
    cdef pending_key_t *key = <pending_key_t *>net_alloc(sizeof(pending_key_t) + message.key.size)
    memcpy(key + 1, message.key.data, message.key.size)
    key.key.data = <char *>(key + 1)
    key.key.size = message.key.size
    key.writer = message.writer
    key.order = thread.pending_count
    key.next = thread.pending
    thread.pending = key
    thread.pending_count += 1


cdef void receive(message_t *message, void *context) noexcept nogil:
    """An invalidation_t, on a thread that has clients concerned."""
    cdef invalidation_t *invalidation = <invalidation_t *>message
    cdef executor_t *executor = executor_at(<proactor_t *>context)
    cdef client_tracking_t *client
    cdef uint32_t i
    if invalidation.kind == INVALIDATE_PREFIXES:
        collect(executor, invalidation)
    elif invalidation.kind == INVALIDATE_ALL:
        client = thread_of(executor).first
        while client != NULL:
            send_keys(client, NULL, 0)
            client = client.next
    else:
        for i in range(invalidation.tracker_count):
            client = <client_tracking_t *>invalidation.trackers[i]
            if (client.tracker.mode & (TRACKING_ON | TRACKING_BCAST) == TRACKING_ON
                    and not is_own(client, invalidation.writer)):
                send_keys(client, &invalidation.key, 1)
            tracker_release(&client.tracker)
    net_free(invalidation)


cdef int compare_pending(const void *a, const void *b) noexcept nogil:
    """By key; of the same key the newest first."""
    cdef const pending_key_t *left = (<const pending_key_t **>a)[0]
    cdef const pending_key_t *right = (<const pending_key_t **>b)[0]
    cdef size_t shorter = left.key.size if left.key.size < right.key.size else right.key.size
    cdef int order = memcmp(left.key.data, right.key.data, shorter)
    if order != 0:
        return order
    if left.key.size != right.key.size:
        return -1 if left.key.size < right.key.size else 1
    return -1 if left.order > right.order else 1


cdef inline bint same_text(slice_t a, slice_t b) noexcept nogil:
    return a.size == b.size and memcmp(a.data, b.data, a.size) == 0


cdef inline bint starts_with(slice_t text, slice_t prefix) noexcept nogil:
    return prefix.size <= text.size and memcmp(text.data, prefix.data, prefix.size) == 0


cdef void broadcast_to(client_tracking_t *client, pending_key_t **keys, uint32_t count,
                       slice_t *wanted) noexcept nogil:
    """One push a prefix. wanted: room for all keys."""
    cdef tracking_prefix_t *prefix = client.prefixes
    cdef uint32_t found
    cdef uint32_t i
    while prefix != NULL:
        found = 0
        for i in range(count):
            if starts_with(keys[i].key, prefix.text) and not is_own(client, keys[i].writer):
                wanted[found] = keys[i].key
                found += 1
        if found > 0:
            send_keys(client, wanted, found)
        prefix = prefix.next


cdef void tracking_flush(executor_t *executor) noexcept nogil:
    cdef tracking_thread_t *thread = thread_of(executor)
    cdef uint32_t count = thread.pending_count
    cdef uint32_t kept = 0
    cdef pending_key_t **keys
    cdef slice_t *wanted
    cdef client_tracking_t *client = thread.first
    cdef uint32_t i
    if count == 0:
        return
    keys = <pending_key_t **>net_alloc(count * sizeof(pending_key_t *))
    wanted = <slice_t *>net_alloc(count * sizeof(slice_t))
    for i in range(count):
        keys[i] = thread.pending
        thread.pending = keys[i].next
    thread.pending_count = 0
    qsort(keys, count, sizeof(pending_key_t *), compare_pending)
    for i in range(count):
        if i > 0 and same_text(keys[i].key, keys[kept - 1].key):
            net_free(keys[i])
        else:
            keys[kept] = keys[i]
            kept += 1
    while client != NULL:
        if client.tracker.mode & TRACKING_BCAST:
            broadcast_to(client, keys, kept, wanted)
        client = client.next
    for i in range(kept):
        net_free(keys[i])
    net_free(wanted)
    net_free(keys)


# ---- Shards ----------------------------------------------------------------------------------------

cdef void tracking_remember(shard_t *shard, const key_t *key, tracker_t *tracker) noexcept nogil:
    cdef int64_t limit = shard.settings.tracking_table_max_keys
    cdef int64_t total = 0
    cdef uint32_t i
    if not tracking_table_add(&shard.tracked, key, tracker) or limit == 0:
        return
    for i in range(shard.shard_count):
        total += <int64_t>atomic_load_relaxed(&shard.siblings[i].tracked.count)
    if total > limit:
        tracking_table_evict(&shard.tracked)


cdef void tracking_flushed(server_t *server) noexcept nogil:
    cdef invalidation_t *message
    cdef slice_t nothing
    cdef uint32_t i
    nothing.data = NULL
    nothing.size = 0
    for i in range(server.thread_count):
        if atomic_load_relaxed(&thread_of(server.executors[i]).count) > 0:
            message = invalidation_new(INVALIDATE_ALL, nothing, 0, 0)
            message.message.run = receive
            proactor_post(server.proactors[i], &message.message)


cdef void tracking_want_prefix(shard_t *shard, slice_t prefix, const connection_t *connection) noexcept nogil:
    tracking_table_want(&shard.tracked, prefix, connection.thread.proactor, receive)


cdef void unwant(message_t *message, void *context) noexcept nogil:
    cdef prefix_change_t *change = <prefix_change_t *>message
    tracking_table_unwant(&(<shard_t *>context).tracked, change.prefix, change.home)
    net_free(change)


cdef void drop_prefix(const client_tracking_t *self, server_t *server, slice_t prefix) noexcept nogil:
    cdef prefix_change_t *change
    cdef uint32_t i
    for i in range(server.thread_count):
        change = <prefix_change_t *>net_zalloc(sizeof(prefix_change_t) + prefix.size)
        memcpy(change + 1, prefix.data, prefix.size)
        change.message.run = unwant
        change.home = self.tracker.home
        change.prefix.data = <char *>(change + 1)
        change.prefix.size = prefix.size
        shard_submit(server.shards[i], &change.message)


# ---- A client's mode -------------------------------------------------------------------------------

cdef client_tracking_t *tracking_of(connection_t *connection) noexcept nogil:
    cdef client_tracking_t *self = <client_tracking_t *>connection.tracking
    if self == NULL:
        self = <client_tracking_t *>net_zalloc(sizeof(client_tracking_t))
        self.tracker.references = 1
        self.tracker.client_id = connection.id
        self.tracker.home = connection.thread.proactor
        self.connection = connection
        reply_init(&self.late, connection.resp)
        connection.tracking = self
    return self


cdef void set_redirect(client_tracking_t *self, client_tracking_t *redirect) noexcept nogil:
    if self.redirect != NULL:
        tracker_release(&self.redirect.tracker)
    self.redirect = redirect


cdef void tracking_start(client_tracking_t *self, uint64_t mode, client_tracking_t *redirect) noexcept nogil:
    """Takes the reference to `redirect` over; a second start replaces the mode, and keeps prefixes."""
    cdef tracking_thread_t *thread = thread_of(executor_of(self.connection))
    if not self.tracker.mode & TRACKING_ON:
        self.previous = NULL
        self.next = thread.first
        if self.next != NULL:
            self.next.previous = self
        thread.first = self
        atomic_store(&thread.count, thread.count + 1)
    set_redirect(self, redirect)
    self.is_redirect_broken = False
    atomic_store(&self.tracker.mode, mode | TRACKING_ON)


cdef bint is_before(slice_t a, slice_t b) noexcept nogil:
    cdef int order = memcmp(a.data, b.data, a.size if a.size < b.size else b.size)
    return order < 0 or order == 0 and a.size < b.size


cdef void tracking_add_prefix(client_tracking_t *self, slice_t prefix) noexcept nogil:
    cdef tracking_prefix_t *added
    cdef tracking_prefix_t **link = &self.prefixes
    added = <tracking_prefix_t *>net_zalloc(sizeof(tracking_prefix_t) + prefix.size)
    if prefix.size > 0:
        memcpy(added + 1, prefix.data, prefix.size)
    added.text.data = <char *>(added + 1)
    added.text.size = prefix.size
    while link[0] != NULL and is_before(link[0].text, prefix):
        link = &link[0].next
    added.next = link[0]
    link[0] = added


cdef void tracking_stop(connection_t *connection) noexcept nogil:
    cdef client_tracking_t *self = <client_tracking_t *>connection.tracking
    cdef executor_t *executor = executor_of(connection)
    cdef tracking_prefix_t *prefix
    if self == NULL or not self.tracker.mode & TRACKING_ON:
        return
    if self.previous != NULL:
        self.previous.next = self.next
    else:
        thread_of(executor).first = self.next
    if self.next != NULL:
        self.next.previous = self.previous
    atomic_store(&thread_of(executor).count, thread_of(executor).count - 1)
    atomic_store(&self.tracker.mode, 0)
    self.is_caching = False
    self.is_redirect_broken = False
    set_redirect(self, NULL)
    while self.prefixes != NULL:
        prefix = self.prefixes
        self.prefixes = prefix.next
        drop_prefix(self, executor.server, prefix.text)
        net_free(prefix)


cdef void tracking_command_done(connection_t *connection, const command_spec_t *spec) noexcept nogil:
    cdef client_tracking_t *self = <client_tracking_t *>connection.tracking
    if self == NULL or not self.is_caching:
        return
    if spec != NULL:
        # MULTI, what it queues and CLIENT leave it to the EXEC.
        if connection.flags & CONNECTION_MULTI or spec.prepare != NULL and spec.flags & COMMAND_IMMEDIATE:
            return
        if spec.parent != NULL and strcmp(spec.parent.name, b"client") == 0:
            return
    self.is_caching = False


cdef void tracking_leave(connection_t *connection) noexcept nogil:
    cdef client_tracking_t *self = <client_tracking_t *>connection.tracking
    if self == NULL:
        return
    tracking_stop(connection)
    connection.tracking = NULL
    self.connection = NULL
    atomic_store(&self.is_gone, 1)
    reply_deinit(&self.late)
    tracker_release(&self.tracker)
