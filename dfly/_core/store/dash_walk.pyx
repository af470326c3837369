"""Walks over dash tables: see dash_walk.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.dash cimport dash_ref_t, dash_t, dash_visit_t, dash_walk_t
from dfly._core.store.dash_segment cimport (PAIR_SHIFT, bucket_entry, bucket_t, directory_index, make_ref,
                                            segment_bucket, segment_t, word_segment)
from dfly._core.store.object cimport OBJECT_HEAP, OBJECT_TAG_MASK, object_is_string, object_t, object_tag
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, ctz, likely, prefetch

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CACHE_LINE = 64
    PREFETCHED_BYTES = 256


cdef inline void prefetch_values(segment_t *segment, uint32_t b) noexcept nogil:
    """All values of a bucket, strings up to PREFETCHED_BYTES."""
    cdef bucket_t *bucket = segment_bucket(segment, b)
    cdef uint32_t mask = bucket.busy
    cdef object_t *value
    cdef char *data
    cdef uint32_t size
    cdef uint32_t at
    if segment.entry_shift != PAIR_SHIFT:
        return
    while mask != 0:
        value = &bucket_entry(bucket, <uint32_t>ctz(mask), PAIR_SHIFT).value
        mask &= mask - 1
        if object_tag(value) & OBJECT_TAG_MASK >= OBJECT_HEAP:
            data = <char *>(value.lo & ~<uint64_t>7)
            prefetch(data)
            size = min(<uint32_t>value.hi, <uint32_t>PREFETCHED_BYTES) if object_is_string(value) else 0
            at = CACHE_LINE
            while at < size:
                prefetch(data + at)
                at += CACHE_LINE


cdef bint visit_bucket(dash_t *self, segment_t *segment, uint32_t b, bint must_finish) noexcept nogil:
    """Visits what the walk has not visited of a bucket; False: an entry is not finished."""
    cdef dash_walk_t *walk = self.walk
    cdef bucket_t *bucket = segment_bucket(segment, b)
    cdef uint32_t mask
    cdef dash_ref_t ref
    if is_visited(bucket, walk):
        return True
    mask = bucket.busy & ~visited_slots(bucket, walk)
    if bucket == walk.pending:
        mask = walk.pending_mask
        walk.pending = NULL
    walk.must_finish = must_finish
    while mask != 0:
        make_ref(&ref, segment, b, <uint32_t>ctz(mask))
        if not walk.visit(self, &ref, walk.context) and not must_finish:
            walk.pending = bucket
            walk.pending_mask = mask
            return False
        mask &= mask - 1
    bucket.version = walk.cut + 1
    return True


cdef void hand_over(dash_t *self, segment_t *segment, uint32_t b) noexcept nogil:
    if not is_visited(segment_bucket(segment, b), self.walk):
        self.walk.forced += 1
        prefetch_values(segment, b)
        visit_bucket(self, segment, b, True)


cdef void hand_over_segment(dash_t *self, segment_t *segment) noexcept nogil:
    cdef uint32_t b
    if likely(self.walk == NULL):
        return
    for b in range(segment.total):
        hand_over(self, segment, b)


cdef void dash_walk_begin(dash_t *self, dash_walk_t *walk, uint64_t cut, dash_visit_t visit,
                          void *context) noexcept nogil:
    DFLY_CHECK(self.walk == NULL, "dash table: two walks at once")
    walk.table = self
    walk.cut = cut
    walk.visit = visit
    walk.context = context
    walk.hash = 0
    walk.bucket = 0
    walk.forced = 0
    walk.pending = NULL
    walk.owner = NULL
    self.walk = walk


cdef void dash_walk_end(dash_t *self) noexcept nogil:
    self.walk = NULL


cdef void dash_walk_finish(dash_t *self) noexcept nogil:
    cdef dash_walk_t *walk = self.walk
    if likely(walk == NULL):
        return
    while not dash_walk_step(self, 0xFFFFFFFF):
        pass
    walk.table = NULL


cdef bint dash_walk_step(dash_t *self, uint32_t buckets) noexcept nogil:
    cdef dash_walk_t *walk = self.walk
    cdef segment_t *segment
    while buckets > 0:
        segment = word_segment(self.directory[directory_index(walk.hash, self.depth)])
        if walk.bucket < segment.total:
            if walk.bucket + 1 < segment.total:
                prefetch_values(segment, walk.bucket + 1)
            if not visit_bucket(self, segment, walk.bucket, False):
                return False
            walk.bucket += 1
            buckets -= 1
            continue
        if segment.prefix + 1 == <uint32_t>1 << segment.local_depth:
            self.walk = NULL
            return True
        # A segment that was split, rebuilt or merged since has been visited as a whole: no matter where we
        # go on in it.
        walk.hash = <uint64_t>(segment.prefix + 1) << (64 - segment.local_depth)
        walk.bucket = 0
    return False
