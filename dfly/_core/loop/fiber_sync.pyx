"""Implementation of events, mutexes, channels and counters: see fiber_sync.pxd for the contract.

Invariants: a fiber is in at most one queue, and in none while it runs; who takes it out of a queue wakes it.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.loop.fiber cimport (
    fiber_current, fiber_hub_current, fiber_own_waiter, fiber_t, fiber_wait, waiter_init_fiber,
    waiter_wake,
)
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_CHECK, DFLY_DCHECK, atomic_exchange, atomic_load, atomic_store, atomic_sub,
    dfly_on_thread_stack,
)

__abi__ = DFLY_ABI_STAMP


# --- Queues ----------------------------------------------------------------------------------------

cdef fiber_t *queue_pop(fiber_queue_t *self) noexcept nogil:
    cdef fiber_t *fiber = self.first
    if fiber != NULL:
        self.first = fiber.queue_next
        if self.first == NULL:
            self.last = NULL
    return fiber


cdef void queue_remove(fiber_queue_t *self, fiber_t *fiber) noexcept nogil:
    cdef fiber_t **link = &self.first
    cdef fiber_t *previous = NULL
    while link[0] != NULL and link[0] != fiber:
        previous = link[0]
        link = &previous.queue_next
    if link[0] == fiber:
        link[0] = fiber.queue_next
        if self.last == fiber:
            self.last = previous


cdef bint queue_wake_one(fiber_queue_t *self) noexcept nogil:
    cdef fiber_t *fiber = queue_pop(self)
    return fiber != NULL and waiter_wake(&fiber.own_waiter)


cdef void queue_wake_all(fiber_queue_t *self) noexcept nogil:
    while queue_wake_one(self):
        pass


cdef int queue_wait(fiber_queue_t *self) except -1:
    """Suspends the current fiber until it is taken out of the queue."""
    fiber_own_waiter()
    cdef fiber_t *fiber = fiber_current()
    fiber.queue_next = NULL
    if self.last == NULL:
        self.first = fiber
    else:
        self.last.queue_next = fiber
    self.last = fiber
    try:
        fiber_wait(&fiber.own_waiter)
    except BaseException:
        queue_remove(self, fiber)
        raise
    return 0


# --- Events ----------------------------------------------------------------------------------------

cdef void event_init(event_t *self, proactor_t *proactor) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(self), "an event must not lie on a stack")
    memset(self, 0, sizeof(event_t))
    self.message.run = event_arrive
    self.proactor = proactor


cdef void event_arrive(message_t *message, void *context) noexcept nogil:
    cdef event_t *self = <event_t *>message
    # First: a set that comes from here on sends the message again.
    atomic_exchange(&self.in_flight, 0)
    if atomic_load(&self.is_set):
        queue_wake_all(&self.waiting)


cdef void event_set(event_t *self) noexcept nogil:
    atomic_exchange(&self.is_set, 1)
    if fiber_hub_current() != NULL and fiber_hub_current().proactor == self.proactor:
        queue_wake_all(&self.waiting)
    elif atomic_exchange(&self.in_flight, 1) == 0:
        proactor_post(self.proactor, &self.message)


cdef void event_reset(event_t *self) noexcept nogil:
    atomic_store(&self.is_set, 0)


cdef int event_wait(event_t *self) except -1:
    if not atomic_load(&self.is_set):
        queue_wait(&self.waiting)
    return 0


# --- Mutexes ---------------------------------------------------------------------------------------

cdef void mutex_init(mutex_t *self) noexcept nogil:
    memset(self, 0, sizeof(mutex_t))


cdef bint mutex_try_lock(mutex_t *self) noexcept nogil:
    if self.owner != NULL:
        return False
    self.owner = fiber_current()
    return True


cdef int mutex_lock(mutex_t *self) except -1:
    cdef fiber_t *fiber = fiber_current()
    if fiber != NULL and mutex_try_lock(self):
        return 0
    DFLY_CHECK(fiber == NULL or self.owner != fiber, "a fiber locks a mutex that it has")
    try:
        queue_wait(&self.waiting)
    except BaseException:
        if fiber != NULL and self.owner == fiber:
            mutex_unlock(self)
        raise
    return 0


cdef void mutex_unlock(mutex_t *self) noexcept nogil:
    DFLY_CHECK(self.owner != NULL and self.owner == fiber_current(), "a mutex is unlocked by another fiber")
    self.owner = self.waiting.first
    queue_wake_one(&self.waiting)


# --- Channels --------------------------------------------------------------------------------------

cdef void channel_init(channel_t *self, uint32_t capacity) noexcept nogil:
    DFLY_CHECK(capacity > 0, "a channel without slots")
    memset(self, 0, sizeof(channel_t))
    self.slots = <void **>net_alloc(capacity * sizeof(void *))
    self.capacity = capacity


cdef void channel_deinit(channel_t *self) noexcept nogil:
    DFLY_CHECK(self.producers.first == NULL and self.consumers.first == NULL, "fibers wait in it")
    net_free(self.slots)
    self.slots = NULL


cdef int channel_push(channel_t *self, void *item) except -1:
    while self.count == self.capacity and not self.is_closed:
        queue_wait(&self.producers)
    if self.is_closed:
        return 0
    self.slots[(self.head + self.count) % self.capacity] = item
    self.count += 1
    queue_wake_one(&self.consumers)
    return 1


cdef int channel_pop(channel_t *self, void **item) except -1:
    while self.count == 0 and not self.is_closed:
        queue_wait(&self.consumers)
    if self.count == 0:
        return 0
    item[0] = self.slots[self.head]
    self.head = (self.head + 1) % self.capacity
    self.count -= 1
    queue_wake_one(&self.producers)
    return 1


cdef void channel_close(channel_t *self) noexcept nogil:
    self.is_closed = True
    queue_wake_all(&self.producers)
    queue_wake_all(&self.consumers)


# --- Counters --------------------------------------------------------------------------------------

cdef int counter_init(counter_t *self, uint64_t count) except -1:
    waiter_init_fiber(&self.waiter)
    atomic_store(&self.left, count)
    if count == 0:
        waiter_wake(&self.waiter)
    return 0


cdef void counter_done(counter_t *self) noexcept nogil:
    if atomic_sub(&self.left, 1) == 0:
        waiter_wake(&self.waiter)


cdef int counter_wait(counter_t *self) except -1:
    return fiber_wait(&self.waiter)
