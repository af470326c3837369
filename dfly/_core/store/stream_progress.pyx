"""Groups and the entries of their stream: see stream_progress.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.store.id_index cimport id_compare, id_equal, id_is_zero, id_less, stream_id_t
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport (ENTRIES_READ_UNKNOWN, group_at, pending_find, pending_remove,
                                             stream_group_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


# ---- References ----------------------------------------------------------------------------------

cdef bint stream_is_needed(const stream_t *self, stream_id_t id) noexcept nogil:
    cdef const stream_group_t *group
    cdef uint32_t i
    for i in range(self.groups.count):
        group = group_at(&self.groups, i)
        if id_less(group.last_id, id) or pending_find(group, id) != NULL:
            return True
    return False


cdef void stream_drop_references(stream_t *self, stream_id_t id) noexcept nogil:
    cdef uint32_t i
    for i in range(self.groups.count):
        pending_remove(group_at(&self.groups, i), id)


# ---- How far groups are ------------------------------------------------------------------------

cdef bint stream_has_deleted_behind(const stream_t *self, stream_id_t id) noexcept nogil:
    if self.length == 0 or id_is_zero(self.max_deleted_id):
        return False
    return not id_less(self.max_deleted_id, id)


cdef inline bint is_whole(const stream_t *self) noexcept nogil:
    """Nothing from its first entry on was deleted."""
    return id_less(self.max_deleted_id, self.first_id)


cdef int64_t stream_distance(const stream_t *self, stream_id_t id) noexcept nogil:
    cdef int order = id_compare(id, self.last_id)
    if self.entries_added == 0:
        return 0
    if order == 0 or (self.length == 0 and order < 0):
        return <int64_t>self.entries_added
    if order > 0 or not is_whole(self):
        return ENTRIES_READ_UNKNOWN
    if id_less(id, self.first_id):
        return <int64_t>(self.entries_added - self.length)
    if id_equal(id, self.first_id):
        return <int64_t>(self.entries_added - self.length + 1)
    return ENTRIES_READ_UNKNOWN


cdef bint stream_lag(const stream_t *self, const stream_group_t *group, int64_t *out) noexcept nogil:
    cdef int64_t entries_read = group.entries_read
    if self.entries_added == 0 or self.length == 0:
        out[0] = 0
        return True
    if id_less(group.last_id, self.first_id) and is_whole(self):
        # Whatever was trimmed before, all that is there is still to come.
        out[0] = <int64_t>self.length
        return True
    if entries_read == ENTRIES_READ_UNKNOWN or stream_has_deleted_behind(self, group.last_id):
        entries_read = stream_distance(self, group.last_id)
        if entries_read == ENTRIES_READ_UNKNOWN:
            return False
    out[0] = <int64_t>(self.entries_added - <uint64_t>entries_read)
    return True


cdef void stream_advance_group(const stream_t *self, stream_group_t *group, stream_id_t id) noexcept nogil:
    if not id_less(group.last_id, id):
        return
    # As Redis 7.4: counting on is right only if nothing between the group's last entry and the end was deleted.
    if (group.entries_read != ENTRIES_READ_UNKNOWN and not id_less(group.last_id, self.first_id)
            and not stream_has_deleted_behind(self, group.last_id)):
        group.entries_read += 1
    elif self.entries_added > 0:
        group.entries_read = stream_distance(self, id)
    group.last_id = id
