"""Glob patterns as Redis has them (KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET): * ? [abc] [^a-z] \\x."""

cdef bint glob_match(const char *pattern, size_t pattern_size, const char *text, size_t text_size,
                     bint nocase) noexcept nogil
