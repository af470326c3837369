"""Ranges of streams in slices: what XRANGE, XREVRANGE and XREAD share."""

from libc.stdint cimport uint64_t

from dfly._core.commands.long_reads cimport entries_left_t
from dfly._core.engine.slices cimport work_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.object cimport object_t
from dfly._core.store.stream cimport stream_t

# start and end are the caller's.
cdef void entries_left_note(entries_left_t *self, const stream_t *stream) noexcept nogil
# After changes of the key: has it the stream that was begun, and are the entries what they were?
cdef bint entries_left_are_still(const entries_left_t *self, const object_t *begun, const object_t *value,
                                 bint backward) noexcept nogil
# Counts the entries from start to end, block by block, as long as there is work to be had: True when all, or `most`,
# are counted. *block: where the block begins that comes next, at first that of start.
cdef bint entries_count(const stream_t *stream, stream_id_t *block, stream_id_t start, stream_id_t end, uint64_t most,
                        uint64_t *count, work_t *work) noexcept nogil
