"""Walks over dash tables (dash_walk_t of dash.pxd), and what changes of a table have to tell them."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.dash cimport dash_t, dash_visit_t, dash_walk_t
from dfly._core.store.dash_segment cimport DASH_SLOTS, SLOT_MASK, bucket_t, segment_t
from dfly._core.sys.base cimport unlikely

cdef extern from *:
    """
    #define PARTIAL (1ULL << 63)
    """
    const uint64_t PARTIAL

# One walk at a time. The walk must stay in place until it is over.
cdef void dash_walk_begin(dash_t *self, dash_walk_t *walk, uint64_t cut, dash_visit_t visit,
                          void *context) noexcept nogil
# Visits up to so many buckets, or up to an entry that is not finished; True when the walk is over.
cdef bint dash_walk_step(dash_t *self, uint32_t buckets) noexcept nogil
cdef void dash_walk_end(dash_t *self) noexcept nogil          # before it is over
# Visits at once all that is left, if there is a walk: the table is about to go.
cdef void dash_walk_finish(dash_t *self) noexcept nogil

# Visits what the walk, which there is, has not visited of a bucket, or of all of a segment if there is one.
cdef void hand_over(dash_t *self, segment_t *segment, uint32_t b) noexcept nogil
cdef void hand_over_segment(dash_t *self, segment_t *segment) noexcept nogil


cdef inline bint is_visited(const bucket_t *bucket, const dash_walk_t *walk) noexcept nogil:
    return walk.cut < bucket.version < PARTIAL


cdef inline uint64_t partial_mark(const dash_walk_t *walk, uint64_t slots) noexcept nogil:
    return PARTIAL | ((walk.cut << DASH_SLOTS) & (PARTIAL - 1)) | slots


cdef inline uint32_t visited_slots(const bucket_t *bucket, const dash_walk_t *walk) noexcept nogil:
    """Of a bucket that is not visited as a whole."""
    cdef uint32_t slots = <uint32_t>bucket.version & SLOT_MASK
    return slots if bucket.version == partial_mark(walk, slots) else 0


cdef inline void hand_over_two(dash_t *self, segment_t *segment, uint32_t a, uint32_t b) noexcept nogil:
    if unlikely(self.walk != NULL):
        hand_over(self, segment, a)
        hand_over(self, segment, b)
