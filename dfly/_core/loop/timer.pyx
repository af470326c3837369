"""Implementation of the timer heap: a binary min-heap over due times.

Invariants: nodes[i].position == i + 1 for every running timer; a parent is due no later than its
children. Start, move and stop cost O(log n), looking at the next one O(1). The array of pointers
is the only memory owned here.
"""

from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_DCHECK, dfly_on_thread_stack

__abi__ = DFLY_ABI_STAMP


cdef void timer_heap_init(timer_heap_t *self) noexcept nogil:
    self.nodes = NULL
    self.count = 0
    self.capacity = 0


cdef void timer_heap_deinit(timer_heap_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.count):
        self.nodes[i].position = 0
    net_free(self.nodes)
    timer_heap_init(self)


cdef inline void place(timer_heap_t *self, timer_t *timer, uint32_t i) noexcept nogil:
    self.nodes[i] = timer
    timer.position = i + 1


cdef void sift_up(timer_heap_t *self, timer_t *timer, uint32_t i) noexcept nogil:
    cdef uint32_t parent
    while i > 0:
        parent = (i - 1) // 2
        if self.nodes[parent].due_us <= timer.due_us:
            break
        place(self, self.nodes[parent], i)
        i = parent
    place(self, timer, i)


cdef void sift_down(timer_heap_t *self, timer_t *timer, uint32_t i) noexcept nogil:
    cdef uint32_t child
    while True:
        child = 2 * i + 1
        if child >= self.count:
            break
        if child + 1 < self.count and self.nodes[child + 1].due_us < self.nodes[child].due_us:
            child += 1
        if self.nodes[child].due_us >= timer.due_us:
            break
        place(self, self.nodes[child], i)
        i = child
    place(self, timer, i)


cdef void settle(timer_heap_t *self, timer_t *timer, uint32_t i) noexcept nogil:
    """Put `timer` where it belongs, starting from the hole at i."""
    if i > 0 and self.nodes[(i - 1) // 2].due_us > timer.due_us:
        sift_up(self, timer, i)
    else:
        sift_down(self, timer, i)


cdef void timer_start(timer_heap_t *self, timer_t *timer, int64_t due_us) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(timer), "a timer must not lie on a stack")
    timer.due_us = due_us
    if timer.position != 0:
        settle(self, timer, timer.position - 1)
        return
    if self.count == self.capacity:
        self.capacity = 16 if self.capacity == 0 else self.capacity * 2
        self.nodes = <timer_t **>net_realloc(self.nodes, self.capacity * sizeof(timer_t *))
    self.count += 1
    sift_up(self, timer, self.count - 1)


cdef void timer_stop(timer_heap_t *self, timer_t *timer) noexcept nogil:
    cdef uint32_t i = timer.position
    cdef timer_t *last
    if i == 0:
        return
    timer.position = 0
    self.count -= 1
    last = self.nodes[self.count]
    if last != timer:
        settle(self, last, i - 1)


cdef int64_t timer_next_due(timer_heap_t *self) noexcept nogil:
    return self.nodes[0].due_us if self.count else -1


cdef uint32_t timer_run_due(timer_heap_t *self, int64_t now_us, uint32_t limit) noexcept nogil:
    cdef uint32_t fired = 0
    cdef timer_t *timer
    while fired < limit and self.count and self.nodes[0].due_us <= now_us:
        timer = self.nodes[0]
        timer_stop(self, timer)
        fired += 1
        timer.fire(timer, now_us)
    return fired
