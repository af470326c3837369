"""HyperLogLog in Redis' own representation, so that GET and DUMP of such a string are the same bytes.

    "HYLL" | encoding: 1 byte | 3 unused | cached cardinality: 8 bytes, little-endian | registers

A cached cardinality whose highest bit is set is stale. 16384 registers of 6 bits; dense: packed, lowest bits first.
Sparse, a sequence of runs:

    00nnnnnn            n + 1 registers that are zero
    01nnnnnn nnnnnnnn   n + 1 registers that are zero
    1vvvvvnn            n + 1 registers that are v + 1

Hash: MurmurHash64A. Estimate: O. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017).
Format: Redis' hyperloglog.c. The functions work on bytes of the caller's; sparse ones are in a sketch_t with room.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef enum:
    HLL_REGISTERS = 16384
    HLL_HEADER = 16
    HLL_DENSE_SIZE = 12304
    HLL_EMPTY_SIZE = 18
    HLL_DENSE = 0
    HLL_SPARSE = 1

cdef enum hll_result_t:
    HLL_SAME = 0
    HLL_CHANGED = 1
    HLL_CORRUPT = 2

cdef struct sketch_t:
    uint8_t *data                # room for HLL_DENSE_SIZE + a few bytes, the caller's
    size_t size
    int64_t sparse_max           # bytes up to which it stays sparse

cdef bint hll_is_valid(const char *data, size_t size) noexcept nogil       # a header, and a size that fits it
cdef void hll_init(sketch_t *self) noexcept nogil                          # empty, sparse
cdef hll_result_t hll_add(sketch_t *self, const char *data, size_t size) noexcept nogil
# Would it change nothing? Of a dense one.
cdef bint hll_dense_has(const uint8_t *sketch, const char *data, size_t size) noexcept nogil
cdef hll_result_t hll_set(sketch_t *self, uint64_t index, uint8_t value) noexcept nogil
cdef bint hll_to_dense(sketch_t *self) noexcept nogil                      # False: corrupt
# registers: HLL_REGISTERS bytes, each becomes the larger of both. False: corrupt.
cdef bint hll_merge(uint8_t *registers, const uint8_t *data, size_t size) noexcept nogil
# The other way round; none of these registers is below the sketch's own. False: corrupt.
cdef bint hll_raise_all(sketch_t *self, const uint8_t *registers) noexcept nogil
cdef uint64_t hll_count_registers(const uint8_t *registers) noexcept nogil
cdef bint hll_count(const uint8_t *data, size_t size, uint64_t *out) noexcept nogil    # False: corrupt


cdef inline int hll_encoding(const uint8_t *data) noexcept nogil:
    return data[4]


cdef inline bint hll_is_stale(const uint8_t *data) noexcept nogil:
    return data[15] & 0x80 != 0


cdef inline void hll_make_stale(uint8_t *data) noexcept nogil:
    data[15] |= 0x80


cdef inline bint run_is_value(uint8_t head) noexcept nogil:
    return head & 0x80 != 0


cdef inline bint run_is_long(uint8_t head) noexcept nogil:
    return head & 0xC0 == 0x40


cdef inline uint64_t run_length(const uint8_t *p) noexcept nogil:
    if run_is_value(p[0]):
        return (p[0] & 3) + 1
    return ((<uint64_t>(p[0] & 0x3F) << 8) | p[1]) + 1 if run_is_long(p[0]) else (p[0] & 0x3F) + 1


cdef inline uint8_t run_value(const uint8_t *p) noexcept nogil:
    return ((p[0] >> 2) & 0x1F) + 1 if run_is_value(p[0]) else 0
