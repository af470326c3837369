"""CRC-64, eight bytes a step ("slicing by 8": Kounavis and Berry, 2008).

Table k holds the checksum of a byte with k zero bytes behind it, so eight bytes are eight look-ups that do
not wait for each other.
"""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP, load64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    TABLES = 8

cdef extern from *:
    """
    /* Jones' polynomial 0xad93d23594c935a9 with its bits in reverse order. */
    #define DFLY_CRC64_REFLECTED 0x95ac9329ac4bc9b5ull
    """
    const uint64_t DFLY_CRC64_REFLECTED

cdef uint64_t[TABLES][256] tables


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


fill_tables()


cdef uint64_t crc64(uint64_t crc, const void *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>data
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
