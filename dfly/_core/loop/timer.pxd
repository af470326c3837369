"""Timers of one proactor: a binary heap of intrusive nodes; single thread.

Ownership: the node is the caller's (heap or embedded in a longer-lived struct, never a stack);
`timer_stop` before it is freed. A timer fires once; its callback may start it again.
"""

from libc.stdint cimport int64_t, uint32_t

ctypedef void (*timer_fire_t)(timer_t *timer, int64_t now_us) noexcept nogil

cdef struct timer_t:
    int64_t due_us               # monotonic
    uint32_t position            # 1-based place in the heap, 0 = not running
    timer_fire_t fire
    void *context

cdef struct timer_heap_t:
    timer_t **nodes
    uint32_t count
    uint32_t capacity

cdef void timer_heap_init(timer_heap_t *self) noexcept nogil
cdef void timer_heap_deinit(timer_heap_t *self) noexcept nogil
cdef void timer_start(timer_heap_t *self, timer_t *timer, int64_t due_us) noexcept nogil   # or move it
cdef void timer_stop(timer_heap_t *self, timer_t *timer) noexcept nogil
cdef int64_t timer_next_due(timer_heap_t *self) noexcept nogil                             # -1 if none
cdef uint32_t timer_run_due(timer_heap_t *self, int64_t now_us, uint32_t limit) noexcept nogil
