"""What the threads of one server share, and what each thread keeps for executing commands.

server_t is written at start-up and by the main thread; words that several threads change are
changed with atomics. executor_t belongs to one shard thread (its numbers may be read by others, relaxed).
Reach it from a connection: <executor_t *>connection.thread.context; from a thread hop:
<executor_t *>(<net_thread_t *>proactor.context).context.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport call_t, transaction_t
from dfly._core.engine.error_stats cimport error_stats_t
from dfly._core.engine.latency cimport latency_monitor_t
from dfly._core.engine.settings cimport settings_t
from dfly._core.engine.shard cimport shard_t, token_set_t
from dfly._core.loop.mailbox cimport mailbox_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.loop.timer cimport timer_t
from dfly._core.net.connection cimport connection_t, net_thread_t, service_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    SLOWLOG_ARGS_MAX = 32
    SLOWLOG_ARG_BYTES = 128
    PAUSE_OFF = 0
    PAUSE_WRITE = 1
    PAUSE_ALL = 2
    CLIENT_PEAK_SECONDS = 8      # what "recent" means in INFO's client_recent_max_*

cdef struct command_stats_t:
    uint64_t calls
    uint64_t ticks
    uint64_t rejected
    uint64_t failed
    uint64_t *latency            # durations of the calls, see latency.pxd; NULL before the first one

cdef struct slow_entry_t:
    uint64_t id
    int64_t time_s
    int64_t duration_us
    uint32_t argc
    slice_t args[32]             # owned copies (net_alloc), shortened as Redis does
    char peer[78]
    char *client_name            # owned, may be NULL
    slow_entry_t *next           # newest first

cdef struct executor_stats_t:
    uint64_t commands
    uint64_t errors
    uint64_t batches
    uint64_t foreign_in_place    # foreign commands executed by borrowing
    uint64_t foreign_messages    # foreign commands that travelled
    uint64_t token_waits         # times a transaction found a shard busy
    uint64_t token_wait_ticks
    uint64_t connections_rejected
    uint64_t input_limit_closes
    uint64_t output_limit_closes
    uint64_t timeout_closes
    uint64_t instantaneous[4]

cdef struct executor_t:
    server_t *server
    shard_t *shard               # the shard this thread owns
    proactor_t proactor
    net_thread_t net
    executor_stats_t stats
    command_stats_t *command_stats       # by command_spec_t.index
    latency_monitor_t *latency           # events of commands; NULL before the first one
    error_stats_t error_stats
    uint64_t input_peaks[8]              # bytes of the largest input buffer of a client, by second % 8
    uint64_t output_peaks[8]
    # The batch being executed.
    token_set_t held             # tokens its transactions have left for the next one
    call_t *calls
    slice_t *arguments
    uint32_t arguments_capacity
    reply_t scratch              # replies of a batch over several shards
    reply_t discarded            # replies nobody wants (CLIENT REPLY OFF)
    void *pubsub                 # engine/pubsub: subscriptions of this thread's connections
    void *tracking               # engine/tracking: clients of this thread that cache
    # Slow log and monitors of this thread.
    slow_entry_t *slow_entries
    uint32_t slow_count
    connection_t *paused         # by CLIENT PAUSE
    uint64_t paused_count
    uint64_t blocked_count       # clients whose commands wait for a key
    uint64_t transactions_in_flight      # started and not complete; those that wait for a key too
    timer_t cron_timer           # every 100 ms: clients, statistics, eviction
    timer_t expire_timer
    timer_t pause_timer
    int64_t clients_walk_us      # when it began its walk over its clients, one a second
    int64_t clients_walk_ms      # the same by the clock ...
    int64_t clients_walk_before_ms       # ... and the one before
    uint64_t version_seen        # of all shards together, then
    uint64_t gone_seen           # clients that had gone from this thread, then
    uint64_t most_used           # bytes, at a look since pages were collected
    uint32_t quiet_looks         # since something changed, while the allocator may have pages to give back
    # engine/balance: what the other threads may know of this one's load.
    timer_t shuffle_timer        # for tests
    int64_t measured_us
    int64_t measured_cpu_us
    uint64_t busy_permille       # CPU time of the last period
    uint64_t client_count
    uint64_t command_count       # ever
    uint64_t wait_count          # for tokens, ever
    uint64_t longest_ticks       # of a command since the last look
    char *ring                   # what else the thread wants to keep

cdef struct trial_hold_t:
    int64_t until_ms             # no trial before
    int64_t last_ms              # how long the last one was; 0: there has been a success since

cdef struct spread_trial_t:
    # Of thread 0: whether connections on more threads get more done, or on fewer.
    uint64_t periods_left        # 0: there is no trial
    uint64_t threads_before
    uint64_t done_before         # commands a period
    uint64_t done                # commands of the periods that count
    uint64_t busy                # permille of all threads, likewise
    trial_hold_t spread_hold     # of trials of more threads
    trial_hold_t gather_hold     # of fewer
    int64_t gathered_until_ms    # fewer have done more: a slow command does not spread them until then

cdef struct server_t:
    settings_t settings
    uint32_t thread_count
    shard_t **shards             # one per thread
    executor_t **executors
    proactor_t **proactors
    void *pubsub                 # engine/pubsub: who is subscribed on which thread
    service_t service
    uint64_t next_client_id
    uint64_t connected_clients
    uint64_t monitor_count
    uint64_t slowlog_next_id
    uint64_t pause_mode          # PAUSE_*
    uint64_t pause_until_ms
    uint64_t shutdown_asked      # 1 after SHUTDOWN
    uint64_t listener_next       # round robin of accepted connections
    uint64_t connection_threads  # so many threads have connections, the first ones
    uint64_t spread_until_ms     # all of them until then, for the sake of a slow command
    uint64_t full_periods        # of thread 0, like the next: on end, with a thread that has no time left
    uint64_t idle_periods        # ... with less to do than fewer threads could take
    uint64_t waiting_periods     # ... with threads that wait for tokens
    uint64_t commands_seen
    uint64_t commands_done       # in the last period
    uint64_t waits_seen
    uint64_t waits_done
    spread_trial_t spread_trial
    uint64_t peak_used
    int64_t started_ms
    char run_id[41]
    mailbox_t control            # transactions for the Python control plane
    int control_fd               # eventfd that says the mailbox is not empty
    uint64_t tcp_port
    void *saver                  # persist/save
    void *loader                 # persist/load
    uint64_t loading             # a snapshot is being loaded: most commands are refused
    uint64_t save_pressure       # 1: clients that want to write wait, a snapshot has too much unwritten
    uint64_t deny_writes         # 1: the last snapshot failed, and stop-writes-on-bgsave-error says so
    uint64_t admin_without_password      # --admin_nopass

# SLOWLOG, MONITOR, CLIENT PAUSE as the dispatcher sees them.
cdef void slowlog_add(executor_t *self, connection_t *connection, const slice_t *argv, uint32_t argc,
                      int64_t duration_us) noexcept nogil
cdef void slowlog_clear(executor_t *self) noexcept nogil
cdef void monitor_feed(executor_t *self, connection_t *connection, const slice_t *argv, uint32_t argc) noexcept nogil

# Hands a command to the Python control plane, which completes it with transaction_complete.
cdef void control_submit(server_t *self, transaction_t *transaction) noexcept nogil

cdef inline executor_t *executor_of(connection_t *connection) noexcept nogil:
    return <executor_t *>connection.thread.context
