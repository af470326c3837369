"""What fibers wait for: events, mutexes, channels, and counters of work done elsewhere.

Event, mutex and channel belong to the fibers of one thread: they need no atomics, and a fiber is woken
without a message. Two doors are open to other threads: event_set and counter_done. All of them are plain
structs of their owner, in heap memory; nothing is allocated but the channel's slots.

Suspending calls (`_wait`, `_lock`, `_push`, `_pop`) follow the rules of fiber.pxd: on a fiber, with the GIL,
-1 with an exception set when the hub is closed. A fiber that leaves by such an exception holds nothing.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.loop.fiber cimport fiber_t, waiter_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t

cdef struct fiber_queue_t:
    fiber_t *first
    fiber_t *last

# An event is set or not; waiting returns at once while it is set.
cdef struct event_t:
    message_t message            # takes a set of another thread to the owner
    proactor_t *proactor
    uint64_t is_set
    uint64_t in_flight           # the message is on its way: the event must not be freed
    fiber_queue_t waiting

# First come, first served; unlocking hands the mutex over.
cdef struct mutex_t:
    fiber_t *owner
    fiber_queue_t waiting

# A bounded queue of pointers.
cdef struct channel_t:
    void **slots
    uint32_t capacity
    uint32_t count
    uint32_t head                # the oldest
    bint is_closed
    fiber_queue_t producers
    fiber_queue_t consumers

# Waits until `count` pieces of work are done, wherever they are done; for one use.
cdef struct counter_t:
    waiter_t waiter
    uint64_t left

cdef void event_init(event_t *self, proactor_t *proactor) noexcept nogil
cdef void event_set(event_t *self) noexcept nogil                   # any thread
cdef void event_reset(event_t *self) noexcept nogil
cdef int event_wait(event_t *self) except -1

cdef void mutex_init(mutex_t *self) noexcept nogil
cdef int mutex_lock(mutex_t *self) except -1
cdef bint mutex_try_lock(mutex_t *self) noexcept nogil
cdef void mutex_unlock(mutex_t *self) noexcept nogil                # by the fiber that locked it

cdef void channel_init(channel_t *self, uint32_t capacity) noexcept nogil
cdef void channel_deinit(channel_t *self) noexcept nogil            # nobody waits any more
cdef int channel_push(channel_t *self, void *item) except -1        # 1, or 0 where it is closed
cdef int channel_pop(channel_t *self, void **item) except -1        # 1, or 0 where it is closed and empty
cdef void channel_close(channel_t *self) noexcept nogil             # what is in it can still be popped

cdef int counter_init(counter_t *self, uint64_t count) except -1    # on the fiber that will wait
cdef void counter_done(counter_t *self) noexcept nogil              # any thread; the caller's last touch
cdef int counter_wait(counter_t *self) except -1
