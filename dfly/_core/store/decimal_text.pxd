"""Integers as decimal text. A text is canonical if formatting its integer gives the same bytes again."""

from libc.stdint cimport int64_t

# Accepts canonical texts of int64 only, exactly what Redis' string2ll accepts.
cdef bint parse_int64(const char *data, size_t size, int64_t *out) noexcept nogil
cdef size_t format_int64(int64_t value, char *out) noexcept nogil             # at most 20 bytes, no NUL
