"""Ranges of sorted sets as arguments: by rank, by score, by text."""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport object_t
from dfly._core.store.sorted_set cimport zset_bound_t
from dfly._core.sys.base cimport slice_t

cdef enum range_kind_t:
    RANGE_AUTO = 0               # what the options say, by rank without any
    RANGE_RANK = 1
    RANGE_SCORE = 2
    RANGE_TEXT = 3

cdef struct zset_range_t:
    range_kind_t kind
    bint reverse
    bint with_scores
    int64_t start                # by rank; negative: from the end
    int64_t stop
    zset_bound_t low
    zset_bound_t high
    int64_t offset               # negative: nothing
    int64_t limit                # -1: none

# The two ends, low then high. False after an error reply.
cdef bint parse_range_ends(reply_t *reply, slice_t low, slice_t high, zset_range_t *out) noexcept nogil
# The rank of the first member in walking direction, and how many follow, options applied.
cdef void zset_resolve_range(const object_t *value, const zset_range_t *range, uint64_t *first,
                             uint64_t *count) noexcept nogil
