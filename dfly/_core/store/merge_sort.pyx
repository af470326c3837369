"""A merge sort that can be interrupted: see merge_sort.pxd."""

from libc.stdint cimport uint64_t

from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    RUN = 16


cdef void merge_sort_begin(merge_sort_t *self, const void *first, size_t size, uint64_t count,
                           merge_compare_t compare) noexcept nogil:
    self.first = <const char *>first
    self.size = size
    self.count = count
    self.compare = compare
    self.items = <const void **>net_alloc(max(count, <uint64_t>1) * sizeof(void *))
    self.merged = <const void **>net_alloc(max(count, <uint64_t>1) * sizeof(void *))
    self.width = 0
    self.place = 0


cdef void merge_sort_end(merge_sort_t *self) noexcept nogil:
    net_free(self.items)
    net_free(self.merged)
    self.items = NULL
    self.merged = NULL


cdef void make_run(merge_sort_t *self, uint64_t begin, uint64_t end) noexcept nogil:
    cdef const void *item
    cdef uint64_t i
    cdef uint64_t at
    for i in range(begin, end):
        item = self.first + i * self.size
        at = i
        while at > begin and self.compare(self.items[at - 1], item) > 0:
            self.items[at] = self.items[at - 1]
            at -= 1
        self.items[at] = item


cdef bint make_runs(merge_sort_t *self, uint64_t *budget) noexcept nogil:
    cdef uint64_t end
    while self.place < self.count:
        if budget[0] == 0:
            return False
        end = min(self.place + RUN, self.count)
        make_run(self, self.place, end)
        budget[0] -= min(budget[0], end - self.place)
        self.place = end
    return True


cdef void begin_pass(merge_sort_t *self, uint64_t width) noexcept nogil:
    self.width = width
    self.place = 0
    self.left = 0
    self.right = min(width, self.count)


cdef bint merge_pass(merge_sort_t *self, uint64_t *budget) noexcept nogil:
    """Both runs together have been written as far as both of them have been read."""
    cdef uint64_t middle
    cdef uint64_t end
    cdef bint from_left
    while self.place < self.count:
        middle = min(self.place + self.width, self.count)
        end = min(middle + self.width, self.count)
        while self.left < middle or self.right < end:
            if budget[0] == 0:
                return False
            budget[0] -= 1
            from_left = self.right == end or (
                self.left < middle and self.compare(self.items[self.left], self.items[self.right]) <= 0)
            if from_left:
                self.merged[self.left + self.right - middle] = self.items[self.left]
                self.left += 1
            else:
                self.merged[self.left + self.right - middle] = self.items[self.right]
                self.right += 1
        self.place = end
        self.left = end
        self.right = min(end + self.width, self.count)
    return True


cdef bint merge_sort_step(merge_sort_t *self, uint64_t *budget) noexcept nogil:
    cdef const void **merged
    if self.width == 0:
        if not make_runs(self, budget):
            return False
        begin_pass(self, RUN)
    while self.width < self.count:
        if not merge_pass(self, budget):
            return False
        merged = self.merged
        self.merged = self.items
        self.items = merged
        begin_pass(self, 2 * self.width)
    return True
