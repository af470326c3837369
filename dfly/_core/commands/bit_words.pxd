"""Operations on strings of bits, a machine word at a time. Bit 0 is the highest bit of the first byte."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.sys.base cimport slice_t

cdef enum bit_operation_t:
    BITS_AND = 0
    BITS_OR = 1
    BITS_XOR = 2
    BITS_NOT = 3
    BITS_DIFF = 4                # in the first and in none of the others
    BITS_DIFF1 = 5               # in some of the others and not in the first
    BITS_ANDOR = 6               # in the first and in some of the others
    BITS_ONE = 7                 # in exactly one

# Bits set in positions first..last (both included, within the data).
cdef uint64_t bits_count(const char *data, uint64_t first, uint64_t last) noexcept nogil
# Position of the first bit equal to `bit` in first..last, -1: none.
cdef int64_t bits_find(const char *data, uint64_t first, uint64_t last, bint bit) noexcept nogil
# Combines the sources into out[0..size); shorter ones count as padded with zeros. NOT takes one source.
# out overlaps no source; count is at least 1, of DIFF, DIFF1 and ANDOR at least 2.
cdef void bits_combine(bit_operation_t operation, const slice_t *sources, uint64_t count,
                       char *out, size_t size) noexcept nogil
# Fields of 1 to 64 bits, highest bit first. Reading beyond size gives zeros; writing must stay inside.
cdef uint64_t bits_read_field(const char *data, size_t size, uint64_t offset, uint32_t width) noexcept nogil
cdef void bits_write_field(char *data, size_t size, uint64_t offset, uint32_t width, uint64_t value) noexcept nogil
