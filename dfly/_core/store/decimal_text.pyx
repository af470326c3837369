"""Integers as decimal text and back: see decimal_text.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef bint parse_int64(const char *data, size_t size, int64_t *out) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint64_t limit = 9223372036854775807ULL
    cdef size_t i = 0
    cdef uint8_t digit
    cdef bint negative = False
    if size == 0 or size > 20:
        return False
    if data[0] == c'-':
        negative = True
        limit += 1
        i = 1
        if size == 1:
            return False
    if data[i] == c'0':
        # "0" alone; no leading zeros, no "-0".
        out[0] = 0
        return size == 1
    while i < size:
        digit = <uint8_t>(data[i] - c'0')
        if digit > 9 or value > 922337203685477580ULL:
            return False
        value = value * 10 + digit
        i += 1
    if value > limit:
        return False
    out[0] = <int64_t>(0 - value) if negative else <int64_t>value
    return True


cdef size_t format_int64(int64_t value, char *out) noexcept nogil:
    cdef char digits[24]
    cdef uint64_t left = <uint64_t>value if value >= 0 else 0 - <uint64_t>value
    cdef size_t count = 0
    cdef size_t size = 0
    while True:
        digits[count] = <char>(c'0' + left % 10)
        count += 1
        left //= 10
        if left == 0:
            break
    if value < 0:
        out[0] = c'-'
        size = 1
    while count > 0:
        count -= 1
        out[size] = digits[count]
        size += 1
    return size
