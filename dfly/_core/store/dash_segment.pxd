"""How a segment of a dash table lies in memory, for the modules of the table alone: dash,
dash_due, dash_scan, dash_walk.

One block: segment_t (64 bytes), then `total` buckets, each with its metadata (bucket_t) and behind it its 14 entries:
so a bucket and what it holds lie on one page, where finding pays for a miss of the TLB once. Nothing crosses a cache
line. A word of the directory is the segment's address with its numbers of buckets.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dfly._core.store.object cimport object_t

cdef enum:
    DASH_SLOTS = 14
    PAIR_SHIFT = 5               # entries of 32 bytes: key and value
    KEY_SHIFT = 4                # of 16 bytes: a key only
    SEGMENT_HEADER = 64
    BUCKET_HEADER = 32
    SLOT_MASK = 0x3FFF           # DASH_SLOTS bits

cdef struct entry_t:
    object_t key
    object_t value

cdef struct bucket_t:
    # Metadata of one bucket, BUCKET_HEADER bytes; its entries follow.
    uint8_t fingerprint[14]
    uint16_t busy                # bit i: slot i is used
    uint16_t displaced           # bit i: slot i's home is the previous bucket
    uint16_t deadline            # bit i: slot i has a deadline
    uint8_t overflow             # entries of this home bucket that live in the stash
    uint8_t stash                # bit i: some of them may lie in its i-th bucket, counted modulo 8; 0: there are none
    uint16_t touched             # seconds stamp of the last access, for OBJECT IDLETIME
    uint64_t version             # for snapshots: see the pre-update hook

cdef struct segment_t:
    uint16_t regular
    uint16_t total               # regular + stash
    uint8_t local_depth
    uint8_t size_class
    uint8_t deadline_width
    uint8_t entry_shift
    uint32_t count
    uint32_t shrink_below
    uint32_t due_position        # 1-based place in the due heap, 0: not in it
    uint32_t prefix              # its local_depth bits of the hash
    int64_t earliest
    uint8_t *deadlines           # total * 14 cells: a block of their own, or inside this one; or NULL
    uint8_t *access              # total * 14 cells, or NULL
    int64_t deadline_base        # narrow deadlines count from here
    uint64_t unused3

cdef struct dash_ref_t:
    entry_t *entry
    segment_t *segment
    bucket_t *bucket
    uint16_t bucket_index
    uint8_t slot


cdef inline segment_t *word_segment(uint64_t word) noexcept nogil:
    return <segment_t *>(word & 0x0000FFFFFFFFFFFFULL)


cdef inline uint32_t word_regular(uint64_t word) noexcept nogil:
    return <uint32_t>((word >> 48) & 0xFF)


cdef inline uint32_t word_total(uint64_t word) noexcept nogil:
    return <uint32_t>(word >> 56)


cdef inline uint64_t make_word(segment_t *segment) noexcept nogil:
    return (<uint64_t>segment | (<uint64_t>segment.regular << 48) | (<uint64_t>segment.total << 56))


cdef inline uint64_t directory_index(uint64_t hash, uint32_t depth) noexcept nogil:
    # Two shifts, since a shift by 64 (depth 0) is undefined.
    return (hash >> 1) >> (63 - depth)


cdef inline uint32_t position_of(uint64_t hash) noexcept nogil:
    return <uint32_t>((hash >> 8) & 0xFFFF)


cdef inline uint32_t home_bucket(uint64_t hash, uint32_t regular) noexcept nogil:
    return (position_of(hash) * regular) >> 16


cdef inline size_t bucket_bytes(uint32_t shift) noexcept nogil:
    return BUCKET_HEADER + (<size_t>DASH_SLOTS << shift)


cdef inline bucket_t *bucket_at(segment_t *segment, uint32_t b, uint32_t shift) noexcept nogil:
    """shift, the segment's, is a constant where finding calls this."""
    return <bucket_t *>(<char *>segment + SEGMENT_HEADER + b * bucket_bytes(shift))


cdef inline bucket_t *segment_bucket(segment_t *segment, uint32_t b) noexcept nogil:
    return bucket_at(segment, b, segment.entry_shift)


cdef inline entry_t *bucket_entry(bucket_t *bucket, uint32_t slot, uint32_t shift) noexcept nogil:
    return <entry_t *>(<char *>bucket + BUCKET_HEADER + (<size_t>slot << shift))


cdef inline size_t cell_index(uint32_t bucket, uint32_t slot) noexcept nogil:
    return <size_t>bucket * DASH_SLOTS + slot


cdef inline uint32_t next_bucket(uint32_t bucket, uint32_t regular) noexcept nogil:
    return bucket + 1 if bucket + 1 < regular else 0


cdef inline uint32_t previous_bucket(uint32_t bucket, uint32_t regular) noexcept nogil:
    return bucket - 1 if bucket > 0 else regular - 1


cdef inline bint is_in_stash(const bucket_t *home, uint32_t b, uint32_t regular) noexcept nogil:
    """May entries of this home bucket lie in the stash's bucket b?"""
    return (home.stash >> ((b - regular) & 7)) & 1


cdef inline void make_ref(dash_ref_t *out, segment_t *segment, uint32_t bucket, uint32_t slot) noexcept nogil:
    out.segment = segment
    out.bucket = segment_bucket(segment, bucket)
    out.entry = bucket_entry(out.bucket, slot, segment.entry_shift)
    out.bucket_index = <uint16_t>bucket
    out.slot = <uint8_t>slot
