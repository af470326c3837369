"""Fibers: pooled greenlets of one thread, for what must wait in the middle.

The only module that touches greenlet. A fiber belongs to one thread for life. A switch copies the
C stack away, so nothing that another thread or the kernel may touch may lie on a fiber's stack:
waiters (fiber_waiter_t) live in longer-lived structs, and handing over a stack address aborts in
debug builds.

The shard thread's loop is
    while running: with nogil: proactor_run(); hub.run_ready_fibers()
The fiber phase needs the GIL. So that a shard thread never blocks on the GIL behind another, a
thread enters it only with the process-wide baton, taken by try-lock: a thread that does not get it
leaves a mark, goes on serving its data plane, and is woken when the baton is free.

A waiter is either a fiber or a continuation; who wakes it does not care which.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t

ctypedef void (*continuation_t)(waiter_t *waiter) noexcept nogil

cdef struct waiter_t:
    message_t message            # travels to the owner's mailbox when woken from another thread
    proactor_t *proactor         # the owner's thread
    continuation_t resume        # called on the owner's thread
    void *context                # the fiber, or whatever the continuation wants
    uint64_t woken               # set once

cdef struct fiber_stats_t:
    uint64_t created
    uint64_t reused
    uint64_t switches
    uint64_t live
    uint64_t baton_waits
    uint64_t phases

cdef void waiter_init(waiter_t *self, proactor_t *proactor, continuation_t resume, void *context) noexcept nogil
cdef void waiter_wake(waiter_t *self) noexcept nogil          # any thread, idempotent
