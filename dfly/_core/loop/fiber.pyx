"""Implementation of waiters and fibers: see fiber.pxd for the contract.

Life of a fiber: fiber_spawn (ready, without a greenlet) -> the hub makes a greenlet, or the fiber came
from the pool with one -> running <-> suspended or ready -> job done: pooled, or beyond the pool's
limit finished. Suspending goes straight to the next ready fiber of the phase where that has a started
greenlet, and to the hub otherwise: new greenlets start on the hub's shallow stack only, since a
greenlet's stack begins where it is first switched to, and stays there while it is pooled.

Invariants:
1. Everything in fiber_hub_t belongs to the hub's thread; other threads reach it by messages only.
2. A fiber is in the ready list exactly when its state is FIBER_READY.
3. A fiber that waits does not run on before the wake-up was delivered on its own thread (or it expired the
   waiter itself), so no message is in flight any more when fiber_wait returns.

What crosses a suspension: nothing of this module but the fiber_t, which is heap memory.
"""

import logging

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from posix.unistd cimport usleep

from dfly._core.loop.baton cimport (
    baton_release, baton_seat_deinit, baton_seat_init, baton_try, baton_try_unmarked,
)
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_run, proactor_stop, proactor_t
from dfly._core.loop.timer cimport timer_start, timer_stop, timer_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_CHECK, DFLY_DCHECK, atomic_cas, atomic_load, atomic_load_relaxed, atomic_store,
    atomic_store_relaxed, dfly_on_thread_stack,
)
from dfly._core.sys.clock cimport monotonic_us

from greenlet import GreenletExit

cdef extern from "greenlet.h":
    ctypedef struct PyGreenlet:
        pass
    void PyGreenlet_Import()
    PyGreenlet *PyGreenlet_New(PyObject *run, PyGreenlet *parent) except NULL
    PyGreenlet *PyGreenlet_GetCurrent() except NULL
    # A NULL result means an exception is set; callers look at it themselves.
    PyObject *PyGreenlet_Switch(PyGreenlet *self, PyObject *args, PyObject *kwargs)
    PyObject *PyGreenlet_Throw(PyGreenlet *self, PyObject *kind, PyObject *value, PyObject *traceback)

cdef extern from "Python.h":
    void Py_INCREF(PyObject *object)
    void Py_DECREF(PyObject *object)
    PyObject *PyErr_Occurred()
    void PyErr_Clear()
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)

cdef extern from * nogil:
    """
    /* The hub of the calling thread. Here and not in a header: it must exist once in the process. */
    static __thread void *current_hub;
    """
    void *current_hub

__abi__ = DFLY_ABI_STAMP

cdef enum:
    FIBER_SUSPENDED = 0
    FIBER_READY = 1
    FIBER_RUNNING = 2
    FIBER_POOLED = 3
    FIBER_FINISHED = 4
    CLOSE_US = 1000000           # that close() grants fibers to unwind: a waker may be held up between its two steps
    CLOSE_PAUSE_US = 100         # between two ticks meanwhile

cdef struct spawn_request_t:
    message_t message
    fiber_hub_t *hub
    fiber_main_t main
    void *context

cdef object logger = logging.getLogger("dfly.fiber")
cdef object greenlet_exit = GreenletExit

PyGreenlet_Import()
if PyErr_Occurred() != NULL:
    raise ImportError("greenlet's C API is not there")


cdef inline void add(uint64_t *counter, int64_t delta) noexcept nogil:
    """Counters are written by the hub's thread and read by any."""
    atomic_store_relaxed(counter, counter[0] + <uint64_t>delta)


# --- Waiters -------------------------------------------------------------------------------------

cdef void waiter_init(waiter_t *self, proactor_t *proactor, continuation_t resume,
                      void *context) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(self), "a waiter must not lie on a stack")
    self.message.next = NULL
    self.message.run = waiter_arrive
    self.proactor = proactor
    self.resume = resume
    self.context = context
    atomic_store(&self.woken, WAITER_PENDING)


cdef void waiter_arrive(message_t *message, void *context) noexcept nogil:
    cdef waiter_t *self = <waiter_t *>message
    cdef fiber_hub_t *hub = <fiber_hub_t *>current_hub
    if hub != NULL:
        add(&hub.stats.foreign_wakes, 1)
    atomic_store(&self.woken, WAITER_DELIVERED)
    self.resume(self)


cdef bint waiter_wake(waiter_t *self) noexcept nogil:
    cdef fiber_hub_t *hub = <fiber_hub_t *>current_hub
    if not atomic_cas(&self.woken, WAITER_PENDING, WAITER_WOKEN):
        return False
    if self.resume == fiber_resume and hub != NULL and hub.proactor == self.proactor:
        atomic_store(&self.woken, WAITER_DELIVERED)
        fiber_resume(self)
    else:
        proactor_post(self.proactor, &self.message)
    return True


cdef bint waiter_expire(waiter_t *self) noexcept nogil:
    return atomic_cas(&self.woken, WAITER_PENDING, WAITER_EXPIRED)


cdef void fiber_resume(waiter_t *waiter) noexcept nogil:
    cdef fiber_t *fiber = <fiber_t *>waiter.context
    # A fiber that has not come to its wait yet will see that the wake-up was delivered.
    if fiber.waiting_for == waiter and fiber.state == FIBER_SUSPENDED:
        make_ready(fiber)


# --- The ready list and the pool: no Python --------------------------------------------------------

cdef void make_ready(fiber_t *self) noexcept nogil:
    cdef fiber_hub_t *hub = self.hub
    self.state = FIBER_READY
    self.next = NULL
    if hub.ready_last == NULL:
        hub.ready_first = self
    else:
        hub.ready_last.next = self
    hub.ready_last = self
    add(&hub.ready_count, 1)


cdef fiber_t *pop_ready(fiber_hub_t *hub) noexcept nogil:
    cdef fiber_t *fiber = hub.ready_first
    hub.ready_first = fiber.next
    if hub.ready_first == NULL:
        hub.ready_last = NULL
    add(&hub.ready_count, -1)
    return fiber


cdef bint fibers_ready(proactor_t *proactor) noexcept nogil:
    cdef fiber_hub_t *hub = <fiber_hub_t *>current_hub
    return hub.ready_first != NULL and baton_try(&hub.seat)


cdef fiber_hub_t *fiber_hub_current() noexcept nogil:
    return <fiber_hub_t *>current_hub


cdef fiber_t *fiber_current() noexcept nogil:
    cdef fiber_hub_t *hub = <fiber_hub_t *>current_hub
    return hub.current if hub != NULL else NULL


cdef fiber_t *fiber_new(fiber_hub_t *hub) noexcept nogil:
    cdef fiber_t *self = <fiber_t *>net_zalloc(sizeof(fiber_t))
    self.hub = hub
    self.timer.fire = timer_fired
    self.timer.context = self
    self.all_next = hub.all_first
    if hub.all_first != NULL:
        hub.all_first.all_previous = self
    hub.all_first = self
    return self


cdef void fiber_unlink(fiber_t *self) noexcept nogil:
    if self.all_next != NULL:
        self.all_next.all_previous = self.all_previous
    if self.all_previous != NULL:
        self.all_previous.all_next = self.all_next
    else:
        self.hub.all_first = self.all_next


cdef fiber_t *fiber_spawn(fiber_hub_t *hub, fiber_main_t main, void *context) noexcept nogil:
    cdef fiber_t *self = hub.pool
    if self != NULL:
        hub.pool = self.next
        add(&hub.pool_count, -1)
        add(&hub.stats.reused, 1)
    else:
        self = fiber_new(hub)
    self.main = main
    self.context = context
    add(&hub.stats.live, 1)
    make_ready(self)
    return self


cdef void spawn_arrive(message_t *message, void *context) noexcept nogil:
    cdef spawn_request_t *request = <spawn_request_t *>message
    fiber_spawn(request.hub, request.main, request.context)
    net_free(request)


cdef void fiber_spawn_on(fiber_hub_t *hub, fiber_main_t main, void *context) noexcept nogil:
    cdef spawn_request_t *request = <spawn_request_t *>net_zalloc(sizeof(spawn_request_t))
    request.message.run = spawn_arrive
    request.hub = hub
    request.main = main
    request.context = context
    proactor_post(hub.proactor, &request.message)


cdef void timer_fired(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef fiber_t *fiber = <fiber_t *>timer.context
    # A waiter that was woken first has its message on the way: that will resume the fiber.
    if fiber.waiting_for == NULL or waiter_expire(fiber.waiting_for):
        make_ready(fiber)


# --- Switching -------------------------------------------------------------------------------------

cdef inline fiber_t *next_of_phase(fiber_hub_t *hub) noexcept nogil:
    """The fiber to run next, still in the ready list; NULL where the phase is over."""
    if hub.phase_left == 0 or hub.ready_first == NULL or monotonic_us() >= hub.phase_end_us:
        return NULL
    return hub.ready_first


cdef inline void enter_next(fiber_hub_t *hub) noexcept nogil:
    hub.current = pop_ready(hub)
    hub.current.state = FIBER_RUNNING
    hub.phase_left -= 1
    add(&hub.stats.switches, 1)


cdef bint switch_away(fiber_t *self) noexcept:
    """Suspends the current fiber, whose state says why. False: resumed with an exception, which is set."""
    cdef fiber_hub_t *hub = self.hub
    cdef fiber_t *following = next_of_phase(hub)
    cdef PyObject *target = hub.greenlet
    cdef PyObject *result
    if following != NULL and following.greenlet != NULL:
        enter_next(hub)
        target = following.greenlet
    else:
        hub.current = NULL
    if target == self.greenlet:
        return True
    result = PyGreenlet_Switch(<PyGreenlet *>target, NULL, NULL)
    if result == NULL:
        return False
    Py_DECREF(result)
    return True


cdef fiber_t *require_fiber() except NULL:
    cdef fiber_t *fiber = fiber_current()
    if fiber == NULL:
        raise RuntimeError("a suspending call outside of a fiber")
    return fiber


cdef int waiter_init_fiber(waiter_t *self) except -1:
    cdef fiber_t *fiber = require_fiber()
    waiter_init(self, fiber.hub.proactor, fiber_resume, fiber)
    return 0


cdef waiter_t *fiber_own_waiter() except NULL:
    cdef fiber_t *fiber = require_fiber()
    waiter_init(&fiber.own_waiter, fiber.hub.proactor, fiber_resume, fiber)
    return &fiber.own_waiter


cdef int give_up_wait(fiber_t *self, waiter_t *waiter) except -1:
    """The wait was ended by an exception, which is set. Returns -1 once nobody has the waiter any more."""
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    timer_stop(&self.hub.proactor.timers, &self.timer)
    if not waiter_expire(waiter):
        PyErr_Fetch(&kind, &value, &traceback)
        while atomic_load(&waiter.woken) == WAITER_WOKEN:
            self.state = FIBER_SUSPENDED
            if not switch_away(self):
                PyErr_Clear()
        PyErr_Restore(kind, value, traceback)
    self.waiting_for = NULL
    return -1


cdef inline void check_waiter(fiber_t *self, waiter_t *waiter) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(waiter), "a waiter must not lie on a stack")
    DFLY_DCHECK(waiter.context == <void *>self and waiter.resume == fiber_resume, "not the fiber's waiter")
    DFLY_DCHECK(atomic_load(&waiter.woken) != WAITER_EXPIRED, "wait on an expired waiter")


cdef int fiber_wait(waiter_t *waiter) except -1:
    cdef fiber_t *self = require_fiber()
    check_waiter(self, waiter)
    self.waiting_for = waiter
    while atomic_load(&waiter.woken) != WAITER_DELIVERED:
        self.state = FIBER_SUSPENDED
        if not switch_away(self):
            return give_up_wait(self, waiter)
    self.waiting_for = NULL
    return 0


cdef int fiber_wait_until(waiter_t *waiter, int64_t due_us) except -1:
    cdef fiber_t *self = require_fiber()
    check_waiter(self, waiter)
    if atomic_load(&waiter.woken) != WAITER_DELIVERED:
        self.waiting_for = waiter
        timer_start(&self.hub.proactor.timers, &self.timer, due_us)
        while atomic_load(&waiter.woken) < WAITER_EXPIRED:
            self.state = FIBER_SUSPENDED
            if not switch_away(self):
                return give_up_wait(self, waiter)
        timer_stop(&self.hub.proactor.timers, &self.timer)
        self.waiting_for = NULL
    return atomic_load(&waiter.woken) == WAITER_DELIVERED


cdef int fiber_sleep_us(int64_t duration_us) except -1:
    cdef fiber_t *self = require_fiber()
    timer_start(&self.hub.proactor.timers, &self.timer, monotonic_us() + duration_us)
    self.state = FIBER_SUSPENDED
    if not switch_away(self):
        timer_stop(&self.hub.proactor.timers, &self.timer)
        return -1
    return 0


cdef int fiber_yield() except -1:
    cdef fiber_t *self = require_fiber()
    make_ready(self)
    return 0 if switch_away(self) else -1


cdef void fiber_detach() noexcept nogil:
    cdef fiber_hub_t *hub = <fiber_hub_t *>current_hub
    baton_release(&hub.seat)


cdef void fiber_attach() noexcept nogil:
    cdef fiber_hub_t *hub = <fiber_hub_t *>current_hub
    # The caller takes the GIL next, with the baton or without: it has nothing else to do. Without, the
    # phase ends where this fiber next suspends.
    if not hub.closing and not baton_try_unmarked(&hub.seat):
        hub.phase_left = 0


# --- What runs on a greenlet -------------------------------------------------------------------------

cdef class FiberEntry:
    """The callable of one pooled greenlet: runs jobs, one after the other."""

    cdef fiber_t *fiber

    def __call__(self):
        cdef fiber_t *fiber = self.fiber
        cdef fiber_hub_t *hub = fiber.hub
        while True:
            run_job(fiber)
            add(&hub.stats.finished, 1)
            add(&hub.stats.live, -1)
            if hub.closing or hub.pool_count >= hub.pool_limit:
                break
            fiber.state = FIBER_POOLED
            fiber.next = hub.pool
            hub.pool = fiber
            add(&hub.pool_count, 1)
            if not switch_away(fiber):
                PyErr_Clear()
                break
        fiber.state = FIBER_FINISHED
        hub.finished = fiber


cdef void run_job(fiber_t *self) noexcept:
    cdef fiber_main_t main = self.main
    self.main = NULL
    try:
        main(self.context)
    except BaseException as error:
        if not (self.hub.closing and isinstance(error, greenlet_exit)):
            add(&self.hub.stats.failed, 1)
            logger.error("a fiber ended with an exception", exc_info=error)
    DFLY_CHECK(self.waiting_for == NULL and self.timer.position == 0, "a fiber ended while it waited")


cdef int run_callable(void *context) except -1:
    """Main function of fibers that run a Python callable; context is an owned tuple."""
    call = <object>context
    Py_DECREF(<PyObject *>context)
    call[0](*call[1])
    return 0


cdef int make_greenlet(fiber_t *self) except -1:
    cdef FiberEntry entry = FiberEntry.__new__(FiberEntry)
    entry.fiber = self
    self.greenlet = <PyObject *>PyGreenlet_New(<PyObject *>entry, <PyGreenlet *>self.hub.greenlet)
    add(&self.hub.stats.created, 1)
    return 0


cdef int back_on_hub(fiber_hub_t *hub, PyObject *result) except -1:
    """After a switch from the hub has returned: frees the fiber whose greenlet ended, if one did."""
    cdef fiber_t *fiber = hub.finished
    hub.current = NULL
    if fiber != NULL:
        hub.finished = NULL
        fiber_unlink(fiber)
        Py_DECREF(fiber.greenlet)
        net_free(fiber)
    if result == NULL:
        return -1
    Py_DECREF(result)
    return 0


cdef void note_gil_wait(fiber_hub_t *hub, uint64_t waited_us) noexcept nogil:
    add(&hub.stats.gil_wait_us, <int64_t>waited_us)
    if waited_us > hub.stats.gil_wait_us_max:
        atomic_store_relaxed(&hub.stats.gil_wait_us_max, waited_us)


cdef class FiberHub:

    def __cinit__(self, uint32_t pool_limit=FIBER_POOL_DEFAULT):
        self.hub = <fiber_hub_t *>net_zalloc(sizeof(fiber_hub_t))
        self.hub.pool_limit = pool_limit

    def __dealloc__(self):
        # Attached and not closed: its fibers cannot be unwound from here, so its memory stays.
        if self.hub != NULL and self.hub.proactor == NULL:
            drop_ready(self.hub)
            net_free(self.hub)

    cdef int attach(self, proactor_t *proactor) except -1:
        global current_hub
        cdef fiber_hub_t *hub = self.hub
        if hub == NULL or hub.proactor != NULL or current_hub != NULL:
            raise RuntimeError("this hub or this thread's hub is in use already")
        hub.greenlet = <PyObject *>PyGreenlet_GetCurrent()
        hub.proactor = proactor
        baton_seat_init(&hub.seat, proactor)
        current_hub = hub
        proactor.fibers_ready = fibers_ready
        return 0

    cdef int run(self, proactor_t *proactor) except -1:
        cdef fiber_hub_t *hub = self.hub
        cdef bint is_running = True
        cdef int64_t asked_us = 0
        self.attach(proactor)
        try:
            while True:
                with nogil:
                    baton_release(&hub.seat)
                    is_running = proactor_run(proactor)
                    asked_us = monotonic_us()
                if not is_running:
                    return 0
                note_gil_wait(hub, <uint64_t>(monotonic_us() - asked_us))
                self.run_ready_fibers()
        finally:
            self.close()

    cdef int run_ready_fibers(self) except -1:
        cdef fiber_hub_t *hub = self.hub
        cdef fiber_t *fiber
        add(&hub.stats.phases, 1)
        if hub.ready_first == NULL:
            add(&hub.stats.empty_phases, 1)
        hub.phase_left = hub.ready_count
        hub.phase_end_us = monotonic_us() + FIBER_PHASE_US
        while True:
            fiber = next_of_phase(hub)
            if fiber == NULL:
                break
            if fiber.greenlet == NULL:
                make_greenlet(fiber)
            enter_next(hub)
            back_on_hub(hub, PyGreenlet_Switch(<PyGreenlet *>fiber.greenlet, NULL, NULL))
        hub.phase_left = 0
        return 0

    def spawn(self, target, *args):
        """Runs target(*args) on a fiber. On the hub's thread, or before the hub runs."""
        if self.hub == NULL or self.hub.closing:
            raise RuntimeError("the hub is closed")
        call = (target, args)
        Py_INCREF(<PyObject *>call)
        fiber_spawn(self.hub, run_callable, <void *>call)

    def spawn_on(self, target, *args):
        """Runs target(*args) on a fiber of this hub. From any thread, while the hub runs."""
        if self.hub == NULL or self.hub.proactor == NULL:
            raise RuntimeError("the hub does not run")
        call = (target, args)
        Py_INCREF(<PyObject *>call)
        fiber_spawn_on(self.hub, run_callable, <void *>call)

    def stats(self):
        """Counters as a dict, from any thread; after close() what they were in the end."""
        cdef fiber_hub_t *hub = self.hub
        if hub == NULL:
            return dict(self.final_stats)
        return {
            "created": atomic_load_relaxed(&hub.stats.created),
            "reused": atomic_load_relaxed(&hub.stats.reused),
            "finished": atomic_load_relaxed(&hub.stats.finished),
            "failed": atomic_load_relaxed(&hub.stats.failed),
            "switches": atomic_load_relaxed(&hub.stats.switches),
            "live": atomic_load_relaxed(&hub.stats.live),
            "phases": atomic_load_relaxed(&hub.stats.phases),
            "empty_phases": atomic_load_relaxed(&hub.stats.empty_phases),
            "gil_wait_us": atomic_load_relaxed(&hub.stats.gil_wait_us),
            "gil_wait_us_max": atomic_load_relaxed(&hub.stats.gil_wait_us_max),
            "foreign_wakes": atomic_load_relaxed(&hub.stats.foreign_wakes),
            "baton_waits": atomic_load_relaxed(&hub.seat.waits),
            "pooled": atomic_load_relaxed(&hub.pool_count),
            "ready": atomic_load_relaxed(&hub.ready_count),
        }

    def close(self):
        """Ends all fibers with GreenletExit, and the hub. Stops the proactor, whose ticks it needs meanwhile.

        Fibers that have not started never run; a fiber that does not end is reported and left behind.
        """
        global current_hub
        cdef fiber_hub_t *hub = self.hub
        cdef int64_t until
        if hub == NULL:
            return
        hub.closing = True
        until = monotonic_us() + CLOSE_US
        hub.pool = NULL
        atomic_store_relaxed(&hub.pool_count, 0)
        if hub.proactor == NULL:
            drop_ready(hub)
        else:
            proactor_stop(hub.proactor)
            with nogil:
                hub.proactor.fibers_ready = NULL
                baton_seat_deinit(&hub.seat)
            while True:
                with nogil:
                    proactor_run(hub.proactor)
                drop_ready(hub)
                end_fibers(hub)
                if hub.all_first == NULL or monotonic_us() >= until:
                    break
                with nogil:
                    usleep(CLOSE_PAUSE_US)
            Py_DECREF(hub.greenlet)
            current_hub = NULL
        self.final_stats = self.stats()
        self.hub = NULL
        if hub.all_first == NULL:
            net_free(hub)
        else:
            logger.error("fibers did not end when their hub was closed: %d", hub.stats.live)


cdef int drop_ready(fiber_hub_t *hub) except -1:
    """Empties the ready list. Jobs that have not started are dropped; other fibers are suspended again."""
    cdef fiber_t *fiber
    while hub.ready_first != NULL:
        fiber = pop_ready(hub)
        fiber.state = FIBER_SUSPENDED
        if fiber.main == NULL:
            continue
        if fiber.main == run_callable:
            Py_DECREF(<PyObject *>fiber.context)
        fiber.main = NULL
        add(&hub.stats.live, -1)
        if fiber.greenlet == NULL:
            fiber_unlink(fiber)
            net_free(fiber)
    return 0


cdef int end_fibers(fiber_hub_t *hub) except -1:
    """Throws GreenletExit into every fiber, once."""
    cdef fiber_t *fiber = hub.all_first
    cdef fiber_t *following
    cdef PyObject *kind = <PyObject *>greenlet_exit
    while fiber != NULL:
        following = fiber.all_next
        hub.current = fiber
        fiber.state = FIBER_RUNNING
        back_on_hub(hub, PyGreenlet_Throw(<PyGreenlet *>fiber.greenlet, kind, NULL, NULL))
        # What the unwinding woke or spawned; new fibers are at the head of the list, so following stays good.
        drop_ready(hub)
        fiber = following
    return 0
