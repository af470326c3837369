"""The heap of segments: see dash_due.pxd."""

from libc.stdint cimport uint32_t

from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_t
from dfly._core.store.dash_segment cimport segment_t
from dfly._core.sys.alloc cimport mem_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef void due_place(dash_t *self, segment_t *segment, uint32_t position) noexcept nogil:
    self.due[position - 1] = segment
    segment.due_position = position


cdef void due_sift(dash_t *self, segment_t *segment) noexcept nogil:
    """Restores heap order around a segment whose `earliest` changed."""
    cdef uint32_t position = segment.due_position
    cdef uint32_t child
    while position > 1 and self.due[position // 2 - 1].earliest > segment.earliest:
        due_place(self, self.due[position // 2 - 1], position)
        position //= 2
    while True:
        child = position * 2
        if child > self.due_count:
            break
        if child < self.due_count and self.due[child].earliest < self.due[child - 1].earliest:
            child += 1
        if self.due[child - 1].earliest >= segment.earliest:
            break
        due_place(self, self.due[child - 1], position)
        position = child
    due_place(self, segment, position)


cdef void due_remove(dash_t *self, segment_t *segment) noexcept nogil:
    cdef segment_t *last
    cdef uint32_t position = segment.due_position
    if position == 0:
        return
    last = self.due[self.due_count - 1]
    self.due_count -= 1
    segment.due_position = 0
    if last != segment:
        due_place(self, last, position)
        due_sift(self, last)


cdef void due_update(dash_t *self, segment_t *segment) noexcept nogil:
    """Puts the segment where its `earliest` says, or takes it out of the heap."""
    if segment.earliest == DASH_NO_DEADLINE:
        due_remove(self, segment)
        return
    if segment.due_position == 0:
        if self.due_count == self.due_capacity:
            self.due_capacity = self.due_capacity * 2 if self.due_capacity > 0 else 16
            self.due = <segment_t **>mem_realloc(self.due, self.due_capacity * sizeof(segment_t *))
        self.due_count += 1
        due_place(self, segment, self.due_count)
    due_sift(self, segment)
