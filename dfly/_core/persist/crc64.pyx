"""CRC-64, eight bytes a step ("slicing by 8": Kounavis and Berry, 2008), or 64 by folding (crc64_fold.h).

Table k holds the checksum of a byte with k zero bytes behind it, so eight bytes are eight look-ups that do
not wait for each other.
"""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP, load64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    TABLES = 8
    FOLDED_MIN = 256             # bytes that are worth the folding
    FOLDED_STEP = 64

cdef extern from *:
    """
    /* Jones' polynomial 0xad93d23594c935a9 with its bits in reverse order. */
    #define DFLY_CRC64_REFLECTED 0x95ac9329ac4bc9b5ull
    """
    const uint64_t DFLY_CRC64_REFLECTED

cdef extern from "crc64_fold.h" nogil:
    int dfly_crc64_can_fold() noexcept
    void dfly_crc64_fold(uint64_t crc, const uint8_t *p, size_t size, const uint64_t *far, const uint64_t *near,
                         uint8_t *out) noexcept

cdef uint64_t[TABLES][256] tables
cdef uint64_t[2] far
cdef uint64_t[2] near
cdef bint can_fold = dfly_crc64_can_fold()


cdef void fill_tables() noexcept nogil:
    cdef uint64_t crc
    cdef int byte
    cdef int i
    for byte in range(256):
        crc = <uint64_t>byte
        for _ in range(8):
            crc = (crc >> 1) ^ (DFLY_CRC64_REFLECTED if crc & 1 else 0)
        tables[0][byte] = crc
    for i in range(1, TABLES):
        for byte in range(256):
            crc = tables[i - 1][byte]
            tables[i][byte] = (crc >> 8) ^ tables[0][crc & 0xFF]


cdef uint64_t power_of_x(int exponent) noexcept nogil:
    """x^exponent mod P, reversed: the lowest degree is the highest bit."""
    cdef uint64_t power = <uint64_t>1 << 63
    for _ in range(exponent):
        power = (power >> 1) ^ (DFLY_CRC64_REFLECTED if power & 1 else 0)
    return power


fill_tables()
far[0] = power_of_x(575)
far[1] = power_of_x(511)
near[0] = power_of_x(191)
near[1] = power_of_x(127)


cdef uint64_t by_tables(uint64_t crc, const uint8_t *p, size_t size) noexcept nogil:
    while size >= 8:
        crc ^= load64(p)
        crc = (tables[7][crc & 0xFF] ^ tables[6][(crc >> 8) & 0xFF] ^ tables[5][(crc >> 16) & 0xFF]
               ^ tables[4][(crc >> 24) & 0xFF] ^ tables[3][(crc >> 32) & 0xFF]
               ^ tables[2][(crc >> 40) & 0xFF] ^ tables[1][(crc >> 48) & 0xFF] ^ tables[0][crc >> 56])
        p += 8
        size -= 8
    while size > 0:
        crc = (crc >> 8) ^ tables[0][(crc ^ p[0]) & 0xFF]
        p += 1
        size -= 1
    return crc


cdef uint64_t crc64(uint64_t crc, const void *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>data
    cdef size_t folded
    cdef uint8_t rest[16]
    if can_fold and size >= FOLDED_MIN:
        folded = size - size % FOLDED_STEP
        dfly_crc64_fold(crc, p, folded, far, near, rest)
        crc = by_tables(0, rest, sizeof(rest))
        p += folded
        size -= folded
    return by_tables(crc, p, size)


cdef uint64_t crc64_by_tables(uint64_t crc, const void *data, size_t size) noexcept nogil:
    return by_tables(crc, <const uint8_t *>data, size)
