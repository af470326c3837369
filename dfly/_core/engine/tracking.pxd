"""CLIENT TRACKING: clients that cache what they read are told when it changes.

What a client reads is entered in the tables of its keys' shards (engine/tracking_table), under their
tokens; changes come back as messages to the client's thread, which writes the push. So a client hears of
a change after the reply it makes stale: while a batch of a connection is out (its replies not written
yet), pushes are kept behind it. Keys for clients in broadcasting mode are collected and sent once a
tick, sorted, each once for each prefix.

Of a change by a client itself it hears after the replies of its whole pipeline, where Redis puts the push
between them. Redis: redis.io/docs/latest/develop/reference/client-side-caching, commands/client-tracking.

Ownership: a connection owns its client_tracking_t from its first CLIENT TRACKING, or from being named
as a REDIRECT, to its end; tables, messages and those who redirect to it keep the struct (not the
connection) alive. All of it but the tracker is touched by its own thread only.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.command cimport command_spec_t
from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.engine.shard cimport caller_t, shard_t
from dfly._core.engine.tracking_table cimport (TRACKING_BCAST, TRACKING_ON, TRACKING_OPTIN, TRACKING_OPTOUT,
                                               tracker_t)
from dfly._core.net.connection cimport CONNECTION_NO_TOUCH, connection_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport key_t
from dfly._core.sys.base cimport slice_t, unlikely

cdef struct tracking_prefix_t:
    tracking_prefix_t *next      # sorted
    slice_t text                 # in the same block

cdef struct client_tracking_t:
    tracker_t tracker            # first: messages know it by its address
    uint64_t is_gone             # its connection is closed; read by those who redirect to it
    connection_t *connection     # NULL once closed
    client_tracking_t *next      # those of the thread in tracking mode
    client_tracking_t *previous
    bint is_caching              # CLIENT CACHING, for the next command
    bint is_redirect_broken
    client_tracking_t *redirect  # a reference; NULL: to itself
    tracking_prefix_t *prefixes
    reply_t late                 # pushes that wait for the replies of a batch

cdef struct tracking_thread_t:
    # executor.tracking
    client_tracking_t *first     # clients in tracking mode
    uint64_t count
    pending_key_t *pending       # for broadcasting, newest first
    uint32_t pending_count

cdef struct pending_key_t:
    pending_key_t *next
    uint64_t writer
    uint32_t order               # of arrival
    slice_t key                  # in the same block

cdef void tracking_init(server_t *server) noexcept nogil        # lives as long as the process
# The connection's, created if it has none.
cdef client_tracking_t *tracking_of(connection_t *connection) noexcept nogil
cdef void tracking_start(client_tracking_t *self, uint64_t mode, client_tracking_t *redirect) noexcept nogil
cdef void tracking_add_prefix(client_tracking_t *self, slice_t prefix) noexcept nogil
# Its shard's part of a new prefix, under the token.
cdef void tracking_want_prefix(shard_t *shard, slice_t prefix, const connection_t *connection) noexcept nogil
cdef void tracking_stop(connection_t *connection) noexcept nogil
cdef void tracking_leave(connection_t *connection) noexcept nogil            # its end
# A caller's read of a key, under the shard's token.
cdef void tracking_remember(shard_t *shard, const key_t *key, tracker_t *tracker) noexcept nogil
# All keys of some database are gone; while the tokens are held.
cdef void tracking_flushed(server_t *server) noexcept nogil
cdef void tracking_catch_up(connection_t *connection) noexcept nogil         # after the replies of a batch
cdef void tracking_flush(executor_t *executor) noexcept nogil                # once a tick


# CLIENT CACHING is for one command, or one EXEC. NULL: the EXEC.
cdef void tracking_command_done(connection_t *connection, const command_spec_t *spec) noexcept nogil


cdef inline uint64_t tracking_clients(const executor_t *executor) noexcept nogil:
    return (<const tracking_thread_t *>executor.tracking).count


cdef inline bint tracking_is_caching(const connection_t *connection) noexcept nogil:
    return (unlikely(connection.tracking != NULL)
            and (<const client_tracking_t *>connection.tracking).is_caching)


# What of a connection travels with its commands.
cdef inline void caller_of(const connection_t *connection, caller_t *out) noexcept nogil:
    cdef client_tracking_t *tracking = <client_tracking_t *>connection.tracking
    cdef uint64_t mode
    out.client_id = connection.id
    out.database_index = connection.database_index
    out.keep_access = (connection.flags & CONNECTION_NO_TOUCH) != 0
    out.tracker = NULL
    if unlikely(tracking != NULL):
        mode = tracking.tracker.mode
        if (mode & (TRACKING_ON | TRACKING_BCAST) == TRACKING_ON
                and (not mode & TRACKING_OPTIN or tracking.is_caching)
                and not (mode & TRACKING_OPTOUT and tracking.is_caching)):
            out.tracker = &tracking.tracker
