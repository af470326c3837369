"""Text of floating-point numbers as Redis writes and reads it, shared with the hash commands."""

cdef enum:
    LONG_DOUBLE_TEXT_MAX = 5120      # room for any value format_long_double writes

# Accepts what Redis' string2ld accepts.
cdef bint parse_long_double(const char *data, size_t size, long double *out) noexcept nogil
# Writes at most LONG_DOUBLE_TEXT_MAX bytes and returns their number; value is finite.
cdef size_t format_long_double(long double value, char *out) noexcept nogil
