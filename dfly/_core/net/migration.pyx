"""Moving a connection from one thread to another: see migration.pxd."""

from libc.stdint cimport uint64_t

from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t, stream_join, stream_leave, stream_t
from dfly._core.net.connection cimport (CONNECTION_CLOSE_AFTER_REPLY, CONNECTION_CLOSE_ASAP, CONNECTION_MONITOR,
                                        CONNECTION_MULTI, CONNECTION_PUBSUB, connection_has_output,
                                        connection_link, connection_t,
                                        connection_unlink, net_thread_t)
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_load, atomic_sub

__abi__ = DFLY_ABI_STAMP

cdef extern from "sched.h" nogil:
    int sched_yield() noexcept

cdef enum:
    STAYS = (CONNECTION_MONITOR | CONNECTION_PUBSUB | CONNECTION_MULTI | CONNECTION_CLOSE_AFTER_REPLY
             | CONNECTION_CLOSE_ASAP)

cdef struct move_message_t:
    message_t message            # first; freed by who receives it
    connection_t *connection

# Of the process: walks under way, and moves between "no walk is under way" and the posting of their message.
cdef uint64_t walks = 0
cdef uint64_t departures = 0


cdef void migration_hold() noexcept nogil:
    atomic_add(&walks, 1)
    while atomic_load(&departures):
        sched_yield()


cdef void migration_let_go() noexcept nogil:
    atomic_sub(&walks, 1)


cdef bint is_at_rest(const connection_t *self) noexcept nogil:
    return not (self.is_closed or self.stream.is_closing or self.stream.is_sending
                or self.is_busy or self.is_blocked or self.is_processing or self.is_client_paused
                or self.is_paused_for_output or self.is_peer_done or self.is_flush_queued or self.is_push_queued
                or self.flags & STAYS or connection_has_output(self) or self.references != 1
                or self.multi != NULL or self.subscriptions != NULL or self.watcher != NULL
                or self.tracking != NULL or self.waiter != NULL)


cdef bint connection_move(connection_t *self, net_thread_t *destination) noexcept nogil:
    if not is_at_rest(self) or self.stream.is_paused or self.destination != NULL or destination == self.thread:
        return False
    self.destination = destination
    self.stream.on_left = on_left
    stream_leave(&self.stream)
    return True


cdef void on_left(stream_t *stream) noexcept nogil:
    cdef connection_t *self = <connection_t *>stream
    cdef net_thread_t *destination = self.destination
    cdef move_message_t *move
    self.destination = NULL
    atomic_add(&departures, 1)
    if atomic_load(&walks) or not is_at_rest(self):
        atomic_sub(&departures, 1)
        stream_join(stream, self.thread.proactor)
        return
    connection_unlink(self)
    self.thread.connections_moved += 1
    move = <move_message_t *>net_alloc(sizeof(move_message_t))
    move.message.run = arrive
    move.connection = self
    proactor_post(destination.proactor, &move.message)
    atomic_sub(&departures, 1)


cdef void arrive(message_t *message, void *context) noexcept nogil:
    cdef move_message_t *move = <move_message_t *>message
    cdef net_thread_t *thread = <net_thread_t *>(<proactor_t *>context).context
    connection_link(move.connection, thread)
    stream_join(&move.connection.stream, thread.proactor)
    net_free(move)
