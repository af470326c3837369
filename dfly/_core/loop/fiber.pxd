"""Fibers: pooled greenlets of one thread, for what must wait in the middle.

The only module that touches greenlet. A fiber belongs to one thread for life. A switch copies the
C stack away, so nothing that another thread or the kernel may touch may lie on a fiber's stack:
waiters (waiter_t) live in longer-lived structs, and handing over a stack address aborts in
debug builds.

The shard thread's loop is FiberHub.run:
    while running: with nogil: proactor_run(); hub.run_ready_fibers()
The fiber phase needs the GIL. So that a shard thread never blocks on the GIL behind another, a
thread enters it only with the process-wide baton (baton.pxd): a thread that does not get it goes on
serving its data plane, and is woken when the baton is free. A phase is bounded: it runs each fiber that
was ready when it began at most once, and starts none after FIBER_PHASE_US.

A waiter is either a fiber or a continuation; who wakes it does not care which:
    waiter_init_fiber(&self.waiter)           in a heap struct, on the fiber
    ...hand &self.waiter to whoever will call waiter_wake...
    fiber_wait(&self.waiter)                  suspends until woken; returns at once if it already was
The waiter is the waker's from waiter_init to the return of fiber_wait (or to resume), then its owner's.

Suspending calls (fiber_wait, fiber_wait_until, fiber_sleep_us, fiber_yield, and those of fiber_sync)
need the GIL and a fiber to run on; code on the hub gets RuntimeError. They return -1 with an exception
set when the hub is closed meanwhile (GreenletExit). Keep the live C stack small where they are called:
a switch copies it.
Long work on a fiber that needs no Python goes between fiber_detach and fiber_attach:
    with nogil:
        fiber_detach(); ...; fiber_attach()
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.loop.baton cimport baton_seat_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.loop.timer cimport timer_t

cdef enum:
    FIBER_PHASE_US = 1000        # no fiber is started or resumed after that, in one phase
    FIBER_POOL_DEFAULT = 256     # finished greenlets that are kept, each with about 1 KB of saved stack

ctypedef void (*continuation_t)(waiter_t *waiter) noexcept nogil
ctypedef int (*fiber_main_t)(void *context) except -1

cdef enum waiter_state_t:
    WAITER_PENDING = 0
    WAITER_WOKEN = 1             # somebody woke it; the message is on its way to the owner
    WAITER_EXPIRED = 2           # the owner gave up before anybody woke it
    WAITER_DELIVERED = 3         # the wake-up has arrived on the owner's thread

cdef struct waiter_t:
    message_t message            # travels to the owner's mailbox when woken from another thread
    proactor_t *proactor         # the owner's thread
    continuation_t resume        # called on the owner's thread
    void *context                # the fiber, or whatever the continuation wants
    uint64_t woken               # waiter_state_t; leaves WAITER_PENDING once

cdef struct fiber_stats_t:
    uint64_t created             # greenlets made
    uint64_t reused              # jobs that found one in the pool
    uint64_t finished
    uint64_t failed              # ended with an exception (logged)
    uint64_t switches            # resumptions of a fiber
    uint64_t live                # spawned and not finished
    uint64_t phases              # each took the GIL once; nothing else on a shard thread takes it
    uint64_t empty_phases        # of them those that found no fiber: must stay zero
    uint64_t gil_wait_us         # time that the phases waited for the GIL, with the data plane standing still
    uint64_t gil_wait_us_max     # the longest of these waits: other Python threads, sys.setswitchinterval
    uint64_t foreign_wakes       # wake-ups that came from another thread; baton waits are counted by the seat

cdef struct fiber_t:
    fiber_hub_t *hub
    PyObject *greenlet           # owned; NULL until the fiber first runs
    fiber_main_t main            # the job that has not started; NULL from then on
    void *context
    fiber_t *next                # of the ready list or of the pool
    fiber_t *all_next            # every fiber of the hub that is not freed
    fiber_t *all_previous
    waiter_t *waiting_for
    waiter_t own_waiter          # fiber_own_waiter
    fiber_t *queue_next          # of the queue of fiber_sync it waits in
    timer_t timer
    uint32_t state

cdef struct fiber_hub_t:
    proactor_t *proactor
    PyObject *greenlet           # the greenlet that runs the loop; owned
    fiber_t *current             # NULL while the hub itself runs
    fiber_t *ready_first
    fiber_t *ready_last
    uint64_t ready_count
    uint64_t phase_left          # fibers that this phase may still run
    int64_t phase_end_us
    fiber_t *pool
    uint64_t pool_count
    uint32_t pool_limit
    fiber_t *all_first
    fiber_t *finished            # its greenlet has ended; the hub frees it
    bint closing
    baton_seat_t seat
    fiber_stats_t stats

cdef void waiter_init(waiter_t *self, proactor_t *proactor, continuation_t resume,
                      void *context) noexcept nogil
# Any thread, idempotent. A fiber of this thread becomes ready at once; everything else goes through the
# owner's mailbox, so that a continuation never runs inside waiter_wake. False: was woken or has expired.
cdef bint waiter_wake(waiter_t *self) noexcept nogil
# Owner's thread: True if nobody has woken it and from now on nobody will.
cdef bint waiter_expire(waiter_t *self) noexcept nogil

cdef fiber_hub_t *fiber_hub_current() noexcept nogil                  # of the calling thread, or NULL
cdef fiber_t *fiber_current() noexcept nogil                          # NULL where no fiber runs
# On the hub's own thread, also without the GIL. main starts in the next phase.
cdef fiber_t *fiber_spawn(fiber_hub_t *hub, fiber_main_t main, void *context) noexcept nogil
# From any thread; the hub must not be closed meanwhile.
cdef void fiber_spawn_on(fiber_hub_t *hub, fiber_main_t main, void *context) noexcept nogil

# A waiter for the current fiber. fiber_own_waiter is one that every fiber has anyway, for one wait at a
# time, by wakers that are known to be done with it when the wait ends.
cdef int waiter_init_fiber(waiter_t *self) except -1
cdef waiter_t *fiber_own_waiter() except NULL

cdef int fiber_wait(waiter_t *waiter) except -1
cdef int fiber_wait_until(waiter_t *waiter, int64_t due_us) except -1  # 1: woken; 0: due_us (monotonic) came
cdef int fiber_sleep_us(int64_t duration_us) except -1
cdef int fiber_yield() except -1                                       # behind all fibers that are ready now
cdef void fiber_detach() noexcept nogil
cdef void fiber_attach() noexcept nogil

cdef class FiberHub:
    """The fibers of one thread. Used on that thread only, except where a method says otherwise."""

    cdef fiber_hub_t *hub
    cdef dict final_stats

    cdef int attach(self, proactor_t *proactor) except -1              # on the thread that runs it
    cdef int run(self, proactor_t *proactor) except -1                 # attaches, and closes in the end
    cdef int run_ready_fibers(self) except -1
