"""Test door of fibers and the baton: loops on Python threads, and scenarios whose fibers are C functions.

A LoopThread owns one proactor and one FiberHub; `run` is the body of the thread. A scenario keeps its
cells (waiters, counters) in one heap block, which must outlive the loops it runs on.
"""

import os

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport nanosleep, timespec

from dfly._core.loop.baton cimport baton_exists
from dfly._core.loop.fiber cimport (
    WAITER_PENDING, WAITER_WOKEN, FiberHub, fiber_attach, fiber_current, fiber_detach, fiber_hub_current,
    fiber_sleep_us, fiber_spawn_on, fiber_wait, fiber_wait_until, fiber_yield, waiter_init, waiter_init_fiber,
    waiter_t, waiter_wake,
)
from dfly._core.loop.fiber_sync cimport (
    channel_close, channel_deinit, channel_init, channel_pop, channel_push, channel_t, counter_done,
    counter_init, counter_t, counter_wait, event_init, event_reset, event_set, event_t, event_wait,
    mutex_init, mutex_lock, mutex_t, mutex_try_lock, mutex_unlock,
)
from dfly._core.loop.proactor cimport (
    proactor_deinit, proactor_init, proactor_options_t, proactor_post, proactor_stop, proactor_t,
)
from dfly._core.loop.timer cimport timer_start, timer_stop, timer_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_DEBUG_ENABLED, atomic_add, atomic_cas, atomic_load, atomic_load_relaxed, atomic_store,
)
from dfly._core.sys.clock cimport monotonic_us

__abi__ = DFLY_ABI_STAMP

is_debug_build = bool(DFLY_DEBUG_ENABLED)
has_baton = bool(baton_exists())


cdef class LoopThread:
    """One proactor with its fibers. `backend`: 0 automatic, 1 io_uring, 2 epoll."""

    cdef proactor_t *proactor
    cdef readonly FiberHub hub
    cdef int backend
    cdef uint32_t index

    def __cinit__(self, uint32_t index=0, int backend=0, uint32_t pool_limit=256):
        # Never freed, as the server's: the helper thread of files may look at it behind its last message.
        self.proactor = <proactor_t *>net_zalloc(sizeof(proactor_t))
        self.hub = FiberHub(pool_limit)
        self.index = index
        self.backend = backend

    def run(self, on_ready=None):
        """Body of the thread: ends after stop(). on_ready is called on a fiber, first of all."""
        cdef proactor_options_t options
        cdef int result
        memset(&options, 0, sizeof(options))
        options.backend = self.backend
        with nogil:
            result = proactor_init(self.proactor, self.index, &options)
        if result != 0:
            raise OSError(-result, self.proactor.backend_reason.decode("utf-8", "replace"))
        try:
            if on_ready is not None:
                self.hub.spawn(on_ready)
            self.hub.run(self.proactor)
        finally:
            with nogil:
                proactor_deinit(self.proactor)

    def stop(self):
        proactor_stop(self.proactor)

    def ticks(self):
        return atomic_load_relaxed(&self.proactor.stats.ticks)

    def sleeps(self):
        return atomic_load_relaxed(&self.proactor.stats.sleeps)


def sleep_us(int64_t duration_us):
    """Suspends the current fiber."""
    fiber_sleep_us(duration_us)


def yield_now():
    fiber_yield()


def on_fiber():
    return fiber_current() != NULL


def hold_gil(int64_t duration_us):
    """Keeps the thread busy without letting the GIL go."""
    cdef int64_t until = monotonic_us() + duration_us
    while monotonic_us() < until:
        pass


def sleep_detached(int64_t duration_us):
    """On a fiber: blocks the thread without GIL and baton."""
    cdef timespec pause
    pause.tv_sec = duration_us // 1000000
    pause.tv_nsec = duration_us % 1000000 * 1000
    with nogil:
        fiber_detach()
        nanosleep(&pause, NULL)
        fiber_attach()


def deep_sleep_us(int depth, int64_t duration_us):
    """Suspends with at least depth * 256 bytes of C stack that must be there again afterwards."""
    return sleep_below(depth, depth, duration_us)


cdef int sleep_below(int depth, int mark, int64_t duration_us) except -1:
    cdef unsigned char filling[256]
    cdef int i
    memset(filling, mark * 31 + depth & 255, sizeof(filling))
    if depth == 0:
        fiber_sleep_us(duration_us)
    else:
        sleep_below(depth - 1, mark, duration_us)
    for i in range(<int>sizeof(filling)):
        if filling[i] != (mark * 31 + depth & 255):
            raise AssertionError("a fiber's stack was not restored")
    return 0


# --- A ring of fibers over several threads -----------------------------------------------------------

cdef struct ring_t:
    uint64_t armed
    uint64_t finished
    uint32_t size
    uint32_t rounds
    ring_cell_t *cells

cdef struct ring_cell_t:
    waiter_t waiter
    ring_t *ring
    uint32_t index
    uint32_t passes


cdef int ring_main(void *context) except -1:
    cdef ring_cell_t *self = <ring_cell_t *>context
    cdef ring_t *ring = self.ring
    waiter_init_fiber(&self.waiter)
    atomic_add(&ring.armed, 1)
    while True:
        fiber_wait(&self.waiter)
        self.passes += 1
        if self.passes == ring.rounds:
            break
        waiter_init_fiber(&self.waiter)         # before the token moves on: it may come back at once
        waiter_wake(&ring.cells[(self.index + 1) % ring.size].waiter)
    waiter_wake(&ring.cells[(self.index + 1) % ring.size].waiter)
    atomic_add(&ring.finished, 1)
    return 0


cdef class Ring:
    """`size` fibers dealt out over the loops hand a token on `rounds` times round."""

    cdef ring_t *ring
    cdef list loops

    def __cinit__(self, list loops, uint32_t size, uint32_t rounds):
        cdef uint32_t i
        self.loops = loops
        self.ring = <ring_t *>net_zalloc(sizeof(ring_t))
        self.ring.size = size
        self.ring.rounds = rounds
        self.ring.cells = <ring_cell_t *>net_zalloc(size * sizeof(ring_cell_t))
        for i in range(size):
            self.ring.cells[i].ring = self.ring
            self.ring.cells[i].index = i

    def __dealloc__(self):
        net_free(self.ring.cells)
        net_free(self.ring)

    def spawn(self):
        cdef uint32_t i
        cdef LoopThread loop
        for i in range(self.ring.size):
            loop = self.loops[i % len(self.loops)]
            fiber_spawn_on(loop.hub.hub, ring_main, &self.ring.cells[i])

    def push_token(self):
        waiter_wake(&self.ring.cells[0].waiter)

    @property
    def armed(self):
        return atomic_load(&self.ring.armed)

    @property
    def finished(self):
        return atomic_load(&self.ring.finished)

    def passes(self):
        return [self.ring.cells[i].passes for i in range(self.ring.size)]


# --- Many wakers, many waiting fibers ------------------------------------------------------------------

cdef struct crowd_t:
    uint64_t armed
    uint64_t resumed
    uint64_t timed_out
    uint64_t count
    int64_t timeout_us                 # 0: wait for ever
    crowd_cell_t *cells

cdef struct crowd_cell_t:
    waiter_t waiter
    crowd_t *crowd
    uint64_t is_armed
    uint64_t resumptions
    uint64_t wakes                     # successful waiter_wake calls


cdef int crowd_main(void *context) except -1:
    cdef crowd_cell_t *self = <crowd_cell_t *>context
    cdef int woken = 1
    waiter_init_fiber(&self.waiter)
    atomic_store(&self.is_armed, 1)
    atomic_add(&self.crowd.armed, 1)
    if self.crowd.timeout_us:
        woken = fiber_wait_until(&self.waiter, monotonic_us() + self.crowd.timeout_us)
    else:
        fiber_wait(&self.waiter)
    self.resumptions += 1
    atomic_add(&self.crowd.resumed if woken else &self.crowd.timed_out, 1)
    return 0


cdef class Crowd:
    """Fibers that wait, each on its own waiter; wake_all may be called by many threads at once."""

    cdef crowd_t *crowd
    cdef list loops

    def __cinit__(self, list loops, uint64_t count, int64_t timeout_us=0):
        cdef uint64_t i
        self.loops = loops
        self.crowd = <crowd_t *>net_zalloc(sizeof(crowd_t))
        self.crowd.count = count
        self.crowd.timeout_us = timeout_us
        self.crowd.cells = <crowd_cell_t *>net_zalloc(count * sizeof(crowd_cell_t))
        for i in range(count):
            self.crowd.cells[i].crowd = self.crowd

    def __dealloc__(self):
        net_free(self.crowd.cells)
        net_free(self.crowd)

    def spawn(self):
        cdef uint64_t i
        cdef LoopThread loop
        for i in range(self.crowd.count):
            loop = self.loops[i % len(self.loops)]
            self.crowd.cells[i].crowd = self.crowd
            fiber_spawn_on(loop.hub.hub, crowd_main, &self.crowd.cells[i])

    def wake_all(self, uint64_t start=0, bint backwards=False):
        """Wakes every armed cell, from `start` on and round; returns how many wake-ups were the first."""
        cdef uint64_t i
        cdef uint64_t woken = 0
        cdef uint64_t n = self.crowd.count
        cdef crowd_cell_t *cell
        with nogil:
            for i in range(n):
                cell = &self.crowd.cells[(start + (n - 1 - i if backwards else i)) % n]
                if atomic_load(&cell.is_armed) and waiter_wake(&cell.waiter):
                    atomic_add(&cell.wakes, 1)
                    woken += 1
        return woken

    def begin_wake(self, uint64_t i):
        """The first of waiter_wake's two steps, on a thread that is no loop's."""
        return atomic_cas(&self.crowd.cells[i].waiter.woken, WAITER_PENDING, WAITER_WOKEN)

    def end_wake(self, uint64_t i):
        proactor_post(self.crowd.cells[i].waiter.proactor, &self.crowd.cells[i].waiter.message)

    @property
    def armed(self):
        return atomic_load(&self.crowd.armed)

    @property
    def resumed(self):
        return atomic_load(&self.crowd.resumed)

    @property
    def timed_out(self):
        return atomic_load(&self.crowd.timed_out)

    def resumptions(self):
        return [self.crowd.cells[i].resumptions for i in range(self.crowd.count)]

    def wakes(self):
        return [self.crowd.cells[i].wakes for i in range(self.crowd.count)]


# --- A continuation as a waiter ------------------------------------------------------------------------

cdef struct continuation_cell_t:
    waiter_t waiter
    uint64_t runs
    uint64_t runs_elsewhere            # on a thread that is not the owner's
    uint64_t inside_wake
    uint64_t waking


cdef void continuation_run(waiter_t *waiter) noexcept nogil:
    cdef continuation_cell_t *self = <continuation_cell_t *>waiter
    if fiber_hub_current() == NULL or fiber_hub_current().proactor != waiter.proactor:
        atomic_add(&self.runs_elsewhere, 1)
    if atomic_load(&self.waking):
        atomic_add(&self.inside_wake, 1)
    atomic_add(&self.runs, 1)


cdef class Continuation:
    """A waiter that is a function: it runs once, on the loop's thread, never inside waiter_wake."""

    cdef continuation_cell_t *cell

    def __cinit__(self, LoopThread loop):
        self.cell = <continuation_cell_t *>net_zalloc(sizeof(continuation_cell_t))
        waiter_init(&self.cell.waiter, loop.proactor, continuation_run, NULL)

    def __dealloc__(self):
        net_free(self.cell)

    def wake(self):
        return bool(waiter_wake(&self.cell.waiter))

    def wake_on_owner(self):
        """On a fiber of the owner: nothing else of that thread can run meanwhile."""
        cdef bint first
        atomic_store(&self.cell.waking, 1)
        first = waiter_wake(&self.cell.waiter)
        atomic_store(&self.cell.waking, 0)
        return bool(first)

    def runs(self):
        """(runs, runs on another thread, runs inside waiter_wake)"""
        return (atomic_load(&self.cell.runs), atomic_load(&self.cell.runs_elsewhere),
                atomic_load(&self.cell.inside_wake))


# --- fiber_sync ------------------------------------------------------------------------------------------

cdef class Event:
    """set() on any thread, the rest on fibers of the loop."""

    cdef event_t *event

    def __cinit__(self, LoopThread loop):
        self.event = <event_t *>net_zalloc(sizeof(event_t))
        event_init(self.event, loop.proactor)

    def __dealloc__(self):
        net_free(self.event)

    def set(self):
        event_set(self.event)

    def reset(self):
        event_reset(self.event)

    def wait(self):
        event_wait(self.event)


cdef class Mutex:
    cdef mutex_t *mutex

    def __cinit__(self):
        self.mutex = <mutex_t *>net_zalloc(sizeof(mutex_t))
        mutex_init(self.mutex)

    def __dealloc__(self):
        net_free(self.mutex)

    def __enter__(self):
        mutex_lock(self.mutex)

    def __exit__(self, *exc):
        mutex_unlock(self.mutex)

    def try_lock(self):
        return bool(mutex_try_lock(self.mutex))

    @property
    def is_locked(self):
        return self.mutex.owner != NULL


cdef class Channel:
    """Of integers."""

    cdef channel_t *channel

    def __cinit__(self, uint32_t capacity):
        self.channel = <channel_t *>net_zalloc(sizeof(channel_t))
        channel_init(self.channel, capacity)

    def __dealloc__(self):
        channel_deinit(self.channel)
        net_free(self.channel)

    def push(self, uint64_t item):
        return bool(channel_push(self.channel, <void *>item))

    def pop(self):
        """The oldest integer, or None where the channel is closed and empty."""
        # A popped pointer is written after the suspension, by this fiber itself: a local may take it.
        cdef void *item = NULL
        return <uint64_t>item if channel_pop(self.channel, &item) else None

    def close(self):
        channel_close(self.channel)

    @property
    def count(self):
        return self.channel.count


cdef class Counter:
    cdef counter_t *counter

    def __cinit__(self):
        self.counter = <counter_t *>net_zalloc(sizeof(counter_t))

    def __dealloc__(self):
        net_free(self.counter)

    def start(self, uint64_t count):
        counter_init(self.counter, count)

    def done(self):
        counter_done(self.counter)

    def wait(self):
        counter_wait(self.counter)


# --- Data plane in miniature -----------------------------------------------------------------------------

cdef struct heartbeat_t:
    timer_t timer
    proactor_t *proactor
    int64_t period_us
    int64_t last_us
    int64_t longest_gap_us
    uint64_t beats


cdef void heartbeat_fire(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef heartbeat_t *self = <heartbeat_t *>timer.context
    cdef int64_t now = monotonic_us()
    if self.last_us and now - self.last_us > self.longest_gap_us:
        self.longest_gap_us = now - self.last_us
    self.last_us = now
    atomic_store(&self.beats, self.beats + 1)
    timer_start(&self.proactor.timers, timer, now + self.period_us)


cdef class Heartbeat:
    """A timer that starts itself again: counts the ticks of a loop's data plane, needs no GIL."""

    cdef heartbeat_t *state

    def __cinit__(self, LoopThread loop, int64_t period_us):
        self.state = <heartbeat_t *>net_zalloc(sizeof(heartbeat_t))
        self.state.proactor = loop.proactor
        self.state.period_us = period_us
        self.state.timer.fire = heartbeat_fire
        self.state.timer.context = self.state

    def __dealloc__(self):
        net_free(self.state)

    def start(self):
        """On the loop's thread."""
        timer_start(&self.state.proactor.timers, &self.state.timer, monotonic_us())

    def stop(self):
        """On the loop's thread."""
        timer_stop(&self.state.proactor.timers, &self.state.timer)

    @property
    def beats(self):
        return atomic_load(&self.state.beats)

    def take_longest_gap_us(self):
        """The longest gap between two beats since the last call. On the loop's thread or after its end."""
        cdef int64_t gap = self.state.longest_gap_us
        self.state.longest_gap_us = 0
        return gap


# --- Costs -----------------------------------------------------------------------------------------------

cdef struct yielders_t:
    uint64_t left
    uint64_t rounds
    int64_t start_us
    int64_t end_us


cdef int yielder_main(void *context) except -1:
    cdef yielders_t *self = <yielders_t *>context
    cdef uint64_t _
    if self.start_us == 0:
        self.start_us = monotonic_us()
    for _ in range(self.rounds):
        fiber_yield()
    self.left -= 1
    if self.left == 0:
        self.end_us = monotonic_us()
    return 0


cdef class Yielders:
    """`count` C fibers of one loop that yield `rounds` times each; ns per resumption in the end."""

    cdef yielders_t *state
    cdef uint64_t count

    def __cinit__(self, uint64_t count, uint64_t rounds):
        self.state = <yielders_t *>net_zalloc(sizeof(yielders_t))
        self.state.left = self.count = count
        self.state.rounds = rounds

    def __dealloc__(self):
        net_free(self.state)

    def spawn(self, LoopThread loop):
        cdef uint64_t _
        for _ in range(self.count):
            fiber_spawn_on(loop.hub.hub, yielder_main, self.state)

    @property
    def left(self):
        return atomic_load_relaxed(&self.state.left)

    def ns_per_switch(self):
        return (self.state.end_us - self.state.start_us) * 1000.0 / (self.count * self.state.rounds)


cdef int failing_main(void *context) except -1:
    fiber_yield()
    raise ValueError("a C fiber fails")


def spawn_failing(LoopThread loop):
    """A fiber whose C function raises after a suspension. From any thread."""
    fiber_spawn_on(loop.hub.hub, failing_main, NULL)


def waiter_on_stack():
    """Aborts in debug builds; returns in others."""
    cdef waiter_t waiter
    waiter_init(&waiter, NULL, continuation_run, NULL)
    return os.getpid()
