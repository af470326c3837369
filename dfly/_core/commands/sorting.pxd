"""What SORT sorts: copies of a key's elements, with their weights; in slices where there are many.

    elements_begin(&self, value)
    while not elements_copy_work(&self, work): ...       others run; the value does not change
    elements_weigh(&self, i, weight) ...                 with BY
    while not elements_sort_work(&self, work): ...
    elements_at(&self, i) ...
    elements_end(&self)

Ownership: sort_elements_t owns its elements and, in its arena, all texts (net_alloc). The value is borrowed.
"""

from libc.stdint cimport uint64_t

from dfly._core.engine.slices cimport work_t
from dfly._core.store.block_list cimport list_cursor_t
from dfly._core.store.member_set cimport set_cursor_t
from dfly._core.store.merge_sort cimport merge_sort_t
from dfly._core.store.object cimport object_t
from dfly._core.store.sorted_set cimport zset_cursor_t
from dfly._core.sys.base cimport slice_t

cdef struct arena_chunk_t:
    arena_chunk_t *next

cdef struct text_arena_t:
    # Texts copied for one command.
    arena_chunk_t *chunks        # the one in use first
    char *free
    size_t left

cdef struct text_t:
    slice_t text
    bint is_missing

cdef struct sort_element_t:
    slice_t text
    text_t weight                # with BY
    double number
    const sort_elements_t *all

cdef union sort_cursor_t:
    list_cursor_t elements
    set_cursor_t members
    zset_cursor_t scores

cdef struct sort_elements_t:
    # How they are sorted; set before elements_begin.
    bint has_by
    bint dont_sort
    bint is_alpha
    bint is_descending
    # Where it is.
    text_arena_t arena
    object_t value
    sort_cursor_t cursor
    sort_element_t *elements
    uint64_t count
    uint64_t copied
    bint is_reversed             # not sorted, but from the end
    bint is_not_numeric          # some element or weight: there is no order
    bint is_sorting
    merge_sort_t sort

cdef uint64_t elements_count(const object_t *value) noexcept nogil
cdef void elements_begin(sort_elements_t *self, const object_t *value) noexcept nogil
cdef bint elements_copy_work(sort_elements_t *self, work_t *work) noexcept nogil
# What BY has found for it; without it is 0, or missing.
cdef void elements_weigh(sort_elements_t *self, uint64_t i, slice_t weight) noexcept nogil
cdef bint elements_sort_work(sort_elements_t *self, work_t *work) noexcept nogil
# In the result's order, before LIMIT.
cdef sort_element_t *elements_at(const sort_elements_t *self, uint64_t i) noexcept nogil
cdef void elements_end(sort_elements_t *self) noexcept nogil
