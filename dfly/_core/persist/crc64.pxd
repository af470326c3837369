"""CRC-64 of Redis' files and DUMP payloads: Jones' polynomial, reflected, from 0 and not inverted."""

from libc.stdint cimport uint64_t

# The checksum of what gave `crc` (0: of nothing) with these bytes behind it.
cdef uint64_t crc64(uint64_t crc, const void *data, size_t size) noexcept nogil
# The same without the processor's help, for tests.
cdef uint64_t crc64_by_tables(uint64_t crc, const void *data, size_t size) noexcept nogil
