"""A stable merge sort that can be interrupted: runs of a few elements by insertion, then merged from bottom to top.

After Knuth, The Art of Computer Programming 3, 5.2.4. It sorts pointers to the elements of an array, not the elements.

    merge_sort_begin(&self, first, size, count, compare)
    while not merge_sort_step(&self, &budget): ...      the budget is spent; others run
    merge_sort_at(&self, i) ...
    merge_sort_end(&self)

Ownership: merge_sort_t owns two arrays of pointers, 16 bytes an element in all (net_alloc); elements are borrowed.
"""

from libc.stdint cimport uint64_t

# As qsort's: negative, zero or positive.
ctypedef int (*merge_compare_t)(const void *a, const void *b) noexcept nogil

cdef struct merge_sort_t:
    const char *first
    size_t size                  # bytes of an element
    uint64_t count
    merge_compare_t compare
    const void **items           # runs of `width`, all sorted; those before `place` are merged
    const void **merged          # what they become
    uint64_t width               # 0: runs are still being made
    uint64_t place               # in items: where the two runs begin
    uint64_t left                # the next of the one
    uint64_t right               # the next of the other

cdef void merge_sort_begin(merge_sort_t *self, const void *first, size_t size, uint64_t count,
                           merge_compare_t compare) noexcept nogil
# Takes the moves of elements off the budget; True when all is sorted.
cdef bint merge_sort_step(merge_sort_t *self, uint64_t *budget) noexcept nogil
cdef void merge_sort_end(merge_sort_t *self) noexcept nogil


cdef inline bint merge_sort_is_done(const merge_sort_t *self) noexcept nogil:
    return self.width > 0 and self.width >= self.count


cdef inline const void *merge_sort_at(const merge_sort_t *self, uint64_t i) noexcept nogil:
    """The element that is at place i when all is sorted."""
    return self.items[i]
