"""Which entries groups still need, and how far behind the end of their stream they are (Redis 7.4's lag)."""

from libc.stdint cimport int64_t

from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport stream_group_t

# A group has not got it yet, or has it pending.
cdef bint stream_is_needed(const stream_t *self, stream_id_t id) noexcept nogil
# It is pending nowhere any more.
cdef void stream_drop_references(stream_t *self, stream_id_t id) noexcept nogil

# How far groups are
cdef bint stream_has_deleted_behind(const stream_t *self, stream_id_t id) noexcept nogil
# How many entries were added up to this ID; ENTRIES_READ_UNKNOWN.
cdef int64_t stream_distance(const stream_t *self, stream_id_t id) noexcept nogil
cdef bint stream_lag(const stream_t *self, const stream_group_t *group, int64_t *out) noexcept nogil   # False: unknown
# An entry is about to be delivered to a group: its last ID and its count of entries.
cdef void stream_advance_group(const stream_t *self, stream_group_t *group, stream_id_t id) noexcept nogil
