"""Ranges of streams in slices: what XRANGE, XREVRANGE and XREAD share."""

from dfly._core.commands.long_reads cimport entries_left_t
from dfly._core.store.object cimport object_t
from dfly._core.store.stream cimport stream_t

# start and end are the caller's.
cdef void entries_left_note(entries_left_t *self, const stream_t *stream) noexcept nogil
# After changes of the key: has it the stream that was begun, and are the entries what they were?
cdef bint entries_left_are_still(const entries_left_t *self, const object_t *begun, const object_t *value,
                                 bint backward) noexcept nogil
