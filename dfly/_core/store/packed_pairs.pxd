"""Packed pairs: members with scores in one block, in the order of score and member. The compact sorted set.

    total bytes: uint32 | pairs: uint16 | pair ...
    pair: kind of the score: 1 byte | code of the member: 1 byte | [size: uint32] | member | score

A whole score of magnitude at most 2^62 is that magnitude, else it is a float, if that loses nothing, or a double;
the kind says which, the sign, and the width in bytes. A member's code is its size, below 240; a member that is the
canonical decimal of an int64 is that integer, in as few bytes as hold it; a longer one has its size before it. All
little endian. So the two first bytes of nearly every pair tell where the next one begins, and pairs that are alike
in them are passed without reading on. There is no way backwards: pairs_before looks up where pairs begin.

Ownership: `uint8_t *` is a block of mem_alloc that its owner frees with mem_free. Positions (addresses of pairs) and
items borrow: valid until the block changes. Members given must not lie in it. Scores are not NaN; minus zero
becomes zero. Trusted bytes only: foreign ones come in other formats and are added pair by pair.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.store.block_list cimport list_item_t
from dfly._core.sys.base cimport likely, load32, load64, unlikely

cdef enum:
    PAIRS_HEADER = 6
    PAIRS_MAX = 0xFFFF
    # Kinds of scores, beside the width.
    PAIRS_WIDTH = 0x0F
    PAIRS_NEGATIVE = 0x10
    PAIRS_FRACTION = 0x20
    # Codes of members; below: a text of so many bytes.
    PAIRS_INTEGER = 0xF0             # with the width, 1..8
    PAIRS_LONG = 0xFF
    PAIRS_TRAIL = 32

cdef struct pairs_trail_t:
    # Where pairs begin, for a walk backwards. All zero at first.
    const uint8_t *start
    uint32_t first                   # rank of the pair at start
    uint32_t count
    uint16_t[PAIRS_TRAIL] offsets    # from start

cdef uint8_t *pairs_new(size_t room) noexcept nogil                  # empty; room: bytes of pairs to come
cdef uint8_t *pairs_dup(const uint8_t *self) noexcept nogil

# Positions. The one of that rank (at most the count; then the end), and that of a member with its rank, or NULL.
cdef const uint8_t *pairs_seek(const uint8_t *self, uint32_t rank) noexcept nogil
cdef const uint8_t *pairs_find(const uint8_t *self, const char *data, size_t size, uint32_t *rank) noexcept nogil
# The pair of rank - 1, for a rank above 0.
cdef const uint8_t *pairs_before(const uint8_t *self, uint32_t rank, pairs_trail_t *trail) noexcept nogil
# Moves *p behind the pairs from it on whose score is lower than this one (inclusive: or this one); how many.
cdef uint32_t pairs_pass_scores(const uint8_t *self, const uint8_t **p, double score, bint inclusive) noexcept nogil

# Changes move the block. A new member goes where its score and bytes belong.
cdef void pairs_insert(uint8_t **self, const char *data, size_t size, double score) noexcept nogil
cdef void pairs_set_score(uint8_t **self, const uint8_t *p, const char *data, size_t size,
                          double score) noexcept nogil               # data: the member that is at p
cdef void pairs_erase(uint8_t **self, const uint8_t *p, uint32_t count) noexcept nogil

cdef bint pairs_check(const uint8_t *self) noexcept nogil            # for tests; aborts on a broken invariant


cdef inline size_t pairs_bytes(const uint8_t *self) noexcept nogil:
    """All of it, header included."""
    return load32(self)


cdef inline uint32_t pairs_count(const uint8_t *self) noexcept nogil:
    return <uint32_t>self[4] | <uint32_t>self[5] << 8


cdef inline const uint8_t *pairs_first(const uint8_t *self) noexcept nogil:
    return self + PAIRS_HEADER


cdef inline const uint8_t *pairs_end(const uint8_t *self) noexcept nogil:
    return self + load32(self)


cdef inline bint whole_score(double score, int64_t *out) noexcept nogil:
    """Is it a whole number of magnitude at most 2^62? Those Redis keeps as integers."""
    if not -4611686018427387904.0 <= score <= 4611686018427387904.0:
        return False
    out[0] = <int64_t>score
    return <double>out[0] == score


cdef inline double pairs_score(const uint8_t *following, uint32_t kind) noexcept nogil:
    """The score that ends there; the eight bytes before that belong to the block."""
    cdef uint64_t bits
    cdef double wide
    cdef float narrow
    if unlikely(kind & PAIRS_FRACTION):
        if kind & PAIRS_WIDTH == sizeof(narrow):
            memcpy(&narrow, following - sizeof(narrow), sizeof(narrow))
            return narrow
        memcpy(&wide, following - sizeof(wide), sizeof(wide))
        return wide
    bits = load64(following - 8) >> (64 - 8 * (kind & PAIRS_WIDTH))
    return -<double><int64_t>bits if kind & PAIRS_NEGATIVE else <double><int64_t>bits


cdef inline const uint8_t *pairs_read(const uint8_t *p, list_item_t *member, double *score) noexcept nogil:
    """Reads the pair at p (not the end) and returns what follows it."""
    cdef uint32_t code = p[1]
    cdef uint32_t width
    cdef const uint8_t *following
    if likely(code < PAIRS_INTEGER):
        member.data = <const char *>p + 2
        member.size = code
        following = p + 2 + code
    elif code < PAIRS_LONG:
        width = code - PAIRS_INTEGER
        following = p + 2 + width
        member.data = NULL
        member.size = 0
        member.integer = <int64_t>load64(following - 8) >> (64 - 8 * width)
    else:
        member.data = <const char *>p + 6
        member.size = load32(p + 2)
        following = p + 6 + member.size
    following += p[0] & PAIRS_WIDTH
    score[0] = pairs_score(following, p[0])
    return following
