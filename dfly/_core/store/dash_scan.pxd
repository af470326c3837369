"""Entries of a dash table in its own order: all of them, SCAN's steps, random ones, samples.

The order is that of dash.pxd's "Scan order": cursors of SCAN stay good while the table grows and shrinks.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.dash cimport dash_ref_t, dash_t, dash_visit_t
from dfly._core.store.dash_segment cimport segment_t

cdef struct dash_cursor_t:
    # A place in a table that does not change meanwhile.
    const dash_t *table
    segment_t *segment
    uint64_t word                # of the directory: the segment's first
    uint32_t bucket
    uint32_t mask                # slots of the bucket that are still to come

cdef enum:
    DASH_DRAWS = 16

cdef struct dash_draws_t:
    # Random draws to come, whose cache lines are being fetched: numbers alone, so the table may change between two.
    uint64_t state
    uint64_t seeds[DASH_DRAWS]
    uint32_t ahead               # so many are fetched
    uint32_t next
    bint is_filled

# All entries in storage order: dash_begin, then dash_next until False.
cdef void dash_begin(const dash_t *self, dash_cursor_t *out) noexcept nogil
cdef bint dash_next(dash_cursor_t *self, dash_ref_t *out) noexcept nogil

# Visits all entries whose home is the bucket at `cursor` (45 bits, 0 to start); returns the next
# cursor, 0 at the end. The visitor may not insert or erase; its result is ignored.
cdef uint64_t dash_scan(dash_t *self, uint64_t cursor, dash_visit_t visit, void *context) noexcept nogil
cdef bint dash_random(dash_t *self, uint64_t random, dash_ref_t *out) noexcept nogil   # uniform enough; False if empty
# The same for many, one after the other; about `count` are expected.
cdef void dash_draws_begin(dash_draws_t *self, uint64_t random, uint64_t count) noexcept nogil
cdef bint dash_draw(dash_t *self, dash_draws_t *draws, dash_ref_t *out) noexcept nogil
# Fills up to `capacity` refs of randomly chosen entries (only_volatile: that have a deadline), for eviction: none
# that is sticky. In a large table of hardly anything else it may give up.
cdef uint32_t dash_sample(dash_t *self, uint64_t random, bint only_volatile, dash_ref_t *out,
                          uint32_t capacity) noexcept nogil
