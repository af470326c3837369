"""A table's segments as a binary heap by their earliest deadline."""

from dfly._core.store.dash cimport dash_t
from dfly._core.store.dash_segment cimport segment_t

cdef void due_update(dash_t *self, segment_t *segment) noexcept nogil
cdef void due_remove(dash_t *self, segment_t *segment) noexcept nogil      # nothing, if it is not in it
