"""A client connection: the socket's stream, its buffers, and the client's state.

A plain C struct without a stack of its own; an idle one holds no buffer. It belongs to one proactor
until it moves (net/migration), which
it does at rest only. The room above (engine/dispatch) is reached through the service_t the listener was given:
this room knows no command.

Input that cannot be executed yet is kept in `input`; one batch per connection is in flight at a time
(is_busy), so replies need no reordering between batches. Output is appended to `output` and sent once
per tick; the buffer being sent is `sending`. Both come from the thread's cache and go back to it.

Ownership: created by connection_open, freed by the loop's on_closed once `references` (pending
transactions and shard messages) are gone.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from dfly._core.loop.proactor cimport proactor_t, stream_t
from dfly._core.loop.timer cimport timer_t
from dfly._core.resp.parser cimport parser_t
from dfly._core.resp.reply cimport reply_chain_t, reply_t

cdef enum connection_flag_t:
    CONNECTION_AUTHENTICATED = 1
    CONNECTION_CLOSE_AFTER_REPLY = 2
    CONNECTION_MONITOR = 4
    CONNECTION_NO_EVICT = 8
    CONNECTION_NO_TOUCH = 16
    CONNECTION_REPLY_OFF = 32
    CONNECTION_REPLY_SKIP_NEXT = 64      # CLIENT REPLY SKIP: the next reply
    CONNECTION_REPLY_SKIP = 128          # the current one
    CONNECTION_UNIX_SOCKET = 256
    CONNECTION_ADMIN = 512               # arrived on the admin listener
    CONNECTION_CLOSE_ASAP = 1024
    CONNECTION_PUBSUB = 2048             # subscribed; RESP2 restricts commands
    CONNECTION_MULTI = 4096              # between MULTI and EXEC: commands are queued

cdef struct service_t:
    # What the room above does for a connection; all on the connection's thread.
    void (*on_open)(connection_t *connection) noexcept nogil
    # Parses and executes from connection.input or data; returns bytes of data consumed. See connection.pyx.
    void (*on_input)(connection_t *connection, const char *data, size_t size) noexcept nogil
    void (*on_close)(connection_t *connection) noexcept nogil
    # All of its output has been sent, while connections shall leave its thread (net_thread_t.leaving).
    void (*on_sent)(connection_t *connection) noexcept nogil

cdef struct connection_t:
    stream_t stream              # first: the loop hands back stream_t *
    const service_t *service
    net_thread_t *thread
    connection_t *next           # all connections of the thread
    connection_t *previous
    connection_t *next_flush
    connection_t *next_push
    bint is_flush_queued
    bint is_push_queued
    bint is_busy                 # a batch waits for other threads: input is kept
    bint is_blocked              # busy, with a command that waits for a key: closes with its peer
    bint is_closed               # the stream is gone; kept only for `references`
    bint is_paused_for_output
    bint is_peer_done            # half-closed: closes once all that arrived is answered
    bint is_processing           # on_input is running: bytes that arrive meanwhile are kept
    uint32_t references
    uint64_t id
    uint32_t flags
    uint32_t database_index
    int32_t resp
    parser_t parser
    char *input
    size_t input_size
    size_t input_capacity
    reply_chain_t queue          # finished output, before what is in `output`
    reply_t output
    reply_t sending
    size_t sending_done
    void *pending                # engine/dispatch: the batch in flight
    void *multi                  # engine/multi: the queue, while CONNECTION_MULTI is set
    void *subscriptions          # engine/pubsub: NULL, none
    void *watcher                # engine/watch: NULL, nothing is watched
    void *tracking               # engine/tracking: NULL, never asked for
    void *waiter                 # engine/blocking: NULL, no command of it waits
    connection_t *next_paused    # CLIENT PAUSE list
    bint is_client_paused
    net_thread_t *destination    # net/migration: it is about to leave for there; NULL: it stays
    int64_t created_ms
    int64_t last_interaction_ms
    int64_t output_soft_since_ms
    uint64_t commands
    uint64_t bytes_in
    uint64_t bytes_out
    void *last_command           # command_spec_t *
    char *name                   # net_alloc, NULL: none
    char *library_name
    char *library_version
    char peer_address[78]        # "127.0.0.1:5000" or "/path:0", cut where Redis cuts it
    char local_address[78]

cdef struct net_thread_t:
    # Per-thread state of this room.
    proactor_t *proactor
    connection_t *connections    # doubly linked, newest first
    connection_t *walk           # over them, a few at a time: the next one; goes on when that one goes
    uint64_t connection_count
    connection_t *flush_list
    connection_t *push_list      # pushes that may wait for more: see connection_queue_push
    uint32_t push_count
    int64_t push_due_us          # when they go; 0: nothing waits
    int64_t push_sent_us         # when the last ones had gone
    uint64_t push_tick           # the tick in which they were handed to the loop; 0: they have gone
    timer_t push_timer
    char **buffer_cache          # OUTPUT_BUFFER_SIZE blocks
    uint32_t buffer_cached
    uint64_t output_bytes_pending
    uint64_t connections_received
    uint64_t connections_moved   # to another thread
    uint64_t leaving             # connections that shall, as soon as they are at rest
    int64_t tcp_keepalive_s
    uint64_t net_input_bytes
    uint64_t net_output_bytes
    void *context                # the room above

cdef enum:
    OUTPUT_BUFFER_SIZE = 16384
    BUFFER_CACHE_MAX = 256

cdef void net_thread_init(net_thread_t *self, proactor_t *proactor) noexcept nogil
cdef void connection_link(connection_t *self, net_thread_t *thread) noexcept nogil      # among the thread's own
cdef void connection_unlink(connection_t *self) noexcept nogil
cdef void net_thread_flush(net_thread_t *self) noexcept nogil                  # the proactor's on_flush
cdef connection_t *connection_open(net_thread_t *thread, const service_t *service, int fd, uint64_t id,
                                   uint32_t flags) noexcept nogil
cdef void connection_close(connection_t *self) noexcept nogil                  # drops unsent output
# As connection_close, but what it was answered in this tick is offered to the kernel first.
cdef void connection_kill(connection_t *self) noexcept nogil
cdef void connection_close_after_reply(connection_t *self) noexcept nogil
cdef void connection_keep_input(connection_t *self, const char *data, size_t size) noexcept nogil
cdef void connection_consume_input(connection_t *self, size_t size) noexcept nogil
cdef void connection_queue_flush(connection_t *self) noexcept nogil            # after appending to output
# As connection_queue_flush, for what the client did not ask for (a published message). A push to many
# clients that follows close on another waits a moment, so that one send carries several.
cdef void connection_queue_push(connection_t *self) noexcept nogil
cdef void connection_prepare_output(connection_t *self) noexcept nogil         # makes sure output has a buffer
cdef void connection_retain(connection_t *self) noexcept nogil
cdef void connection_release(connection_t *self) noexcept nogil
# Takes over long finished replies: they are sent, and freed, part by part.
cdef void connection_append(connection_t *self, reply_chain_t *chain) noexcept nogil
cdef size_t connection_output_bytes(connection_t *self) noexcept nogil
cdef size_t connection_memory(connection_t *self) noexcept nogil               # CLIENT LIST tot-mem


cdef inline bint connection_has_output(const connection_t *self) noexcept nogil:
    """Something that is not given to the stream yet."""
    return self.output.size > 0 or self.queue.first != NULL
