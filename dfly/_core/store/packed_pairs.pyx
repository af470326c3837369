"""Packed pairs: see packed_pairs.pxd for the format."""

from libc.math cimport INFINITY, isnan
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.decimal_text cimport parse_int64
from dfly._core.sys.alloc cimport mem_alloc, mem_good_size, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, clz64, likely, load32, load64, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    INTEGER_TEXT_MAX = 20
    HEAD_MAX = 6
    NO_HEAD = 0x10000                # equal to no two bytes
    OFFSET_MAX = 0xFFFF
    BYTES_MAX = 0x40000000

cdef double FLOAT_MAX = 3.4028234663852886e38

cdef struct code_t:
    # A member as it is stored.
    uint32_t code
    const char *data                 # NULL: the integer's bytes
    size_t size
    int64_t integer

cdef struct pair_t:
    # A pair about to be written: head, member, score.
    uint8_t head[HEAD_MAX]
    uint32_t head_size
    code_t member
    uint8_t score[8]
    uint32_t width


# ---- Reading -----------------------------------------------------------------------------------

cdef inline uint32_t head_of(const uint8_t *p) noexcept nogil:
    """The kind of the score, and above it the member's code."""
    return <uint32_t>p[0] | <uint32_t>p[1] << 8


cdef inline size_t pair_size(const uint8_t *p, uint32_t head) noexcept nogil:
    cdef uint32_t code = head >> 8
    cdef size_t width = head & PAIRS_WIDTH
    if likely(code < PAIRS_INTEGER):
        return 2 + code + width
    if code < PAIRS_LONG:
        return 2 + (code - PAIRS_INTEGER) + width
    return 6 + <size_t>load32(p + 2) + width


cdef inline size_t stride_of(const uint8_t *p, uint32_t *head, size_t *stride) noexcept nogil:
    """Bytes of the pair at p. One that begins as the last one did is as long, which is known without reading on: the
    processor foresees that and need not wait for one pair to find the next."""
    cdef uint32_t here = head_of(p)
    if likely(here == head[0]):
        return stride[0]
    stride[0] = pair_size(p, here)
    head[0] = here if here >> 8 != PAIRS_LONG else NO_HEAD
    return stride[0]


cdef const uint8_t *pass_pairs(const uint8_t *p, const uint8_t *end, uint32_t count) noexcept nogil:
    """What follows so many pairs, or the end."""
    cdef uint32_t head = NO_HEAD
    cdef size_t stride = 0
    while count > 0 and p != end:
        p += stride_of(p, &head, &stride)
        count -= 1
    return p


cdef const uint8_t *pairs_seek(const uint8_t *self, uint32_t rank) noexcept nogil:
    if rank >= pairs_count(self):
        return pairs_end(self)
    return pass_pairs(pairs_first(self), pairs_end(self), rank)


cdef const uint8_t *pairs_before(const uint8_t *self, uint32_t rank, pairs_trail_t *trail) noexcept nogil:
    cdef const uint8_t *p
    cdef uint32_t at
    rank -= 1
    # Also false where rank is before the first one: the difference wraps.
    if unlikely(rank - trail.first >= trail.count):
        at = rank + 1 - PAIRS_TRAIL if rank >= PAIRS_TRAIL else 0
        p = pairs_seek(self, at)
        trail.count = 0
        while at <= rank:
            if trail.count == 0 or p - trail.start > OFFSET_MAX:
                trail.start = p
                trail.first = at
                trail.count = 0
            trail.offsets[trail.count] = <uint16_t>(p - trail.start)
            trail.count += 1
            p += pair_size(p, head_of(p))
            at += 1
    return trail.start + trail.offsets[rank - trail.first]


# ---- Members -----------------------------------------------------------------------------------

cdef inline void prepare_member(code_t *out, const char *data, size_t size) noexcept nogil:
    cdef uint64_t magnitude
    if size <= INTEGER_TEXT_MAX and size > 0 and <uint8_t>(data[size - 1] - c'0') <= 9 \
            and (<uint8_t>(data[0] - c'0') <= 9 or data[0] == c'-') and parse_int64(data, size, &out.integer):
        magnitude = <uint64_t>(out.integer ^ (out.integer >> 63))
        # As many bytes as hold it and its sign.
        out.size = (72 - clz64(magnitude | 1)) >> 3
        out.code = PAIRS_INTEGER + <uint32_t>out.size
        out.data = NULL
        return
    out.data = data
    out.size = size
    out.code = <uint32_t>size if likely(size < PAIRS_INTEGER) else PAIRS_LONG


cdef inline const char *member_bytes(const code_t *self) noexcept nogil:
    return self.data if self.data != NULL else <const char *>&self.integer


cdef const uint8_t *find_long(const uint8_t *self, const char *data, size_t size, uint32_t *rank) noexcept nogil:
    cdef const uint8_t *p = pairs_first(self)
    cdef const uint8_t *end = pairs_end(self)
    rank[0] = 0
    while p != end:
        if p[1] == PAIRS_LONG and load32(p + 2) == size and memcmp(p + 6, data, size) == 0:
            return p
        p += pair_size(p, head_of(p))
        rank[0] += 1
    return NULL


cdef const uint8_t *pairs_find(const uint8_t *self, const char *data, size_t size, uint32_t *rank) noexcept nogil:
    """By runs of pairs that begin alike: only in those of the member's code the last eight bytes, which nearly always
    tell, are compared."""
    cdef const uint8_t *p = pairs_first(self)
    cdef const uint8_t *end = pairs_end(self)
    cdef uint32_t passed = 0
    cdef uint64_t wanted = 0
    cdef uint64_t mask = <uint64_t>-1
    cdef uint32_t head
    cdef size_t stride
    cdef code_t code
    prepare_member(&code, data, size)
    if unlikely(code.code == PAIRS_LONG):
        return find_long(self, data, size, rank)
    data = member_bytes(&code)
    size = code.size
    if size < 8:
        mask = (<uint64_t>-1 << (64 - 8 * size)) if size > 0 else 0
        memcpy(<char *>&wanted + 8 - size, data, size)
    else:
        wanted = load64(data + size - 8)
    while p != end:
        head = head_of(p)
        stride = pair_size(p, head)
        if head >> 8 == code.code:
            while True:
                # The eight bytes that end with the member's last lie in the block, since its header is before them.
                if load64(p + 2 + size - 8) & mask == wanted:
                    if size <= 8 or memcmp(p + 2, data, size - 8) == 0:
                        rank[0] = passed
                        return p
                p += stride
                passed += 1
                if p == end or head_of(p) != head:
                    break
        else:
            p += stride
            passed += 1
            while head >> 8 != PAIRS_LONG and p != end and head_of(p) == head:
                p += stride
                passed += 1
    return NULL


# ---- By score ----------------------------------------------------------------------------------

cdef uint32_t pairs_pass_scores(const uint8_t *self, const uint8_t **p, double score, bint inclusive) noexcept nogil:
    cdef const uint8_t *at = p[0]
    cdef const uint8_t *end = pairs_end(self)
    cdef uint32_t head = NO_HEAD
    cdef size_t stride = 0
    cdef uint32_t passed = 0
    cdef double here
    while at != end:
        stride_of(at, &head, &stride)
        here = pairs_score(at + stride, at[0])
        if here >= score and (here > score or not inclusive):
            break
        at += stride
        passed += 1
    p[0] = at
    return passed


cdef int compare_member(const uint8_t *p, const char *data, size_t size) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_item_t item
    cdef slice_t text
    cdef double score
    cdef int result
    if likely(p[1] < PAIRS_INTEGER):
        text.data = <const char *>p + 2
        text.size = p[1]
    else:
        pairs_read(p, &item, &score)
        text = list_item_text(&item, scratch)
    result = memcmp(text.data, data, text.size if text.size < size else size)
    if result != 0:
        return result
    return -1 if text.size < size else text.size > size


cdef const uint8_t *place_of(const uint8_t *p, const uint8_t *end, const char *data, size_t size,
                             double score) noexcept nogil:
    """The first pair from p on that belongs behind this member of this score, or the end."""
    cdef uint32_t head = NO_HEAD
    cdef size_t stride = 0
    cdef double here
    while p != end:
        stride_of(p, &head, &stride)
        here = pairs_score(p + stride, p[0])
        if here >= score and (here > score or compare_member(p, data, size) > 0):
            break
        p += stride
    return p


# ---- Pairs about to be written -----------------------------------------------------------------

cdef void prepare_score(pair_t *self, double score) noexcept nogil:
    cdef int64_t whole
    cdef uint64_t magnitude
    cdef float narrow
    if likely(whole_score(score, &whole)):
        magnitude = <uint64_t>whole if whole >= 0 else 0 - <uint64_t>whole
        self.width = (71 - clz64(magnitude | 1)) >> 3
        self.head[0] = <uint8_t>self.width | (PAIRS_NEGATIVE if whole < 0 else 0)
        memcpy(self.score, &magnitude, sizeof(magnitude))
        return
    if -FLOAT_MAX <= score <= FLOAT_MAX:
        narrow = <float>score
        if <double>narrow == score:
            self.width = sizeof(narrow)
            self.head[0] = PAIRS_FRACTION | sizeof(narrow)
            memcpy(self.score, &narrow, sizeof(narrow))
            return
    self.width = sizeof(score)
    self.head[0] = PAIRS_FRACTION | sizeof(score)
    memcpy(self.score, &score, sizeof(score))


cdef size_t prepare_pair(pair_t *self, const char *data, size_t size, double score) noexcept nogil:
    """Its bytes."""
    cdef uint32_t stored
    prepare_member(&self.member, data, size)
    prepare_score(self, score)
    self.head[1] = <uint8_t>self.member.code
    self.head_size = 2
    if unlikely(self.member.code == PAIRS_LONG):
        stored = <uint32_t>size
        memcpy(&self.head[2], &stored, sizeof(stored))
        self.head_size = 6
    return self.head_size + self.member.size + self.width


cdef void write_pair(uint8_t *p, const pair_t *self) noexcept nogil:
    memcpy(p, self.head, self.head_size)
    p += self.head_size
    memcpy(p, member_bytes(&self.member), self.member.size)
    memcpy(p + self.member.size, self.score, self.width)


# ---- Changing ----------------------------------------------------------------------------------

cdef inline void set_total(uint8_t *self, size_t total) noexcept nogil:
    cdef uint32_t stored = <uint32_t>total
    DFLY_CHECK(total <= BYTES_MAX, "packed pairs grew out of all bounds")
    memcpy(self, &stored, sizeof(stored))


cdef inline void set_count(uint8_t *self, uint32_t count) noexcept nogil:
    DFLY_CHECK(count <= PAIRS_MAX, "more packed pairs than can be counted")
    self[4] = <uint8_t>(count & 0xFF)
    self[5] = <uint8_t>(count >> 8)


cdef uint8_t *pairs_new(size_t room) noexcept nogil:
    cdef uint8_t *self = <uint8_t *>mem_alloc(PAIRS_HEADER + room)
    set_total(self, PAIRS_HEADER)
    set_count(self, 0)
    return self


cdef uint8_t *pairs_dup(const uint8_t *self) noexcept nogil:
    cdef size_t size = pairs_bytes(self)
    cdef uint8_t *copy = <uint8_t *>mem_alloc(size)
    memcpy(copy, self, size)
    return copy


cdef inline void grow(uint8_t **self, size_t wanted) noexcept nogil:
    if wanted > pairs_bytes(self[0]) and wanted > mem_usable(self[0]):
        self[0] = <uint8_t *>mem_realloc(self[0], wanted)


cdef inline void shrink(uint8_t **self) noexcept nogil:
    """What has become much smaller goes to a smaller block."""
    cdef size_t total = pairs_bytes(self[0])
    if mem_usable(self[0]) > 2 * mem_good_size(total):
        self[0] = <uint8_t *>mem_realloc(self[0], total)


cdef void pairs_insert(uint8_t **self, const char *data, size_t size, double score) noexcept nogil:
    cdef const uint8_t *before = place_of(pairs_first(self[0]), pairs_end(self[0]), data, size, score)
    cdef size_t offset = before - self[0]
    cdef size_t total = pairs_bytes(self[0])
    cdef pair_t pair
    cdef size_t added = prepare_pair(&pair, data, size, score)
    cdef uint8_t *p
    grow(self, total + added)
    p = self[0] + offset
    memmove(p + added, p, total - offset)
    write_pair(p, &pair)
    set_total(self[0], total + added)
    set_count(self[0], pairs_count(self[0]) + 1)


cdef void pairs_set_score(uint8_t **self, const uint8_t *p, const char *data, size_t size,
                          double score) noexcept nogil:
    """What lies between the old place and the new one moves by a pair; what is behind both only if the score's width
    is another one."""
    cdef size_t total = pairs_bytes(self[0])
    cdef size_t old = pair_size(p, head_of(p))
    cdef size_t start = p - self[0]
    cdef size_t target
    cdef size_t wanted
    cdef size_t new
    cdef pair_t pair
    cdef uint8_t *block
    new = prepare_pair(&pair, data, size, score)
    wanted = total - old + new
    if score >= pairs_score(p + old, p[0]):
        target = place_of(p + old, pairs_end(self[0]), data, size, score) - self[0]
    else:
        target = place_of(pairs_first(self[0]), p, data, size, score) - self[0]
    grow(self, wanted)
    block = self[0]
    if target > start:
        memmove(block + start, block + start + old, target - start - old)
        if new != old:
            memmove(block + target - old + new, block + target, total - target)
        target -= old
    else:
        if new != old:
            memmove(block + start + new, block + start + old, total - start - old)
        memmove(block + target + new, block + target, start - target)
    write_pair(block + target, &pair)
    set_total(block, wanted)
    if wanted < total:
        shrink(self)


cdef void pairs_erase(uint8_t **self, const uint8_t *p, uint32_t count) noexcept nogil:
    cdef uint8_t *at = self[0] + (p - self[0])
    cdef const uint8_t *following = pass_pairs(p, pairs_end(self[0]), count)
    cdef size_t removed = following - p
    cdef size_t total = pairs_bytes(self[0])
    memmove(at, following, total - (following - self[0]))
    set_total(self[0], total - removed)
    set_count(self[0], pairs_count(self[0]) - count)
    shrink(self)


# ---- For tests ---------------------------------------------------------------------------------

cdef bint pairs_check(const uint8_t *self) noexcept nogil:
    cdef const uint8_t *p = pairs_first(self)
    cdef const uint8_t *end = pairs_end(self)
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef const uint8_t *following
    cdef const uint8_t *last = NULL
    cdef double previous = -INFINITY
    cdef list_item_t item
    cdef slice_t text
    cdef uint32_t count = 0
    cdef pair_t pair
    cdef double score
    DFLY_CHECK(pairs_bytes(self) <= mem_usable(self), "packed pairs lie in their block")
    while p < end:
        following = pairs_read(p, &item, &score)
        text = list_item_text(&item, scratch)
        DFLY_CHECK(not isnan(score) and score >= previous, "scores are in order")
        DFLY_CHECK(last == NULL or score > previous or compare_member(last, text.data, text.size) < 0,
                   "members of one score are in order")
        # There is one form for each pair: the search compares bytes.
        DFLY_CHECK(<size_t>(following - p) == prepare_pair(&pair, text.data, text.size, score)
                   and memcmp(p, pair.head, pair.head_size) == 0, "a pair is written in the one way")
        previous = score
        last = p
        p = following
        count += 1
    DFLY_CHECK(p == end and count == pairs_count(self), "packed pairs know their end and count")
    return True
