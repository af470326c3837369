"""Error replies by code, the first word of the text: what INFO errorstats shows. One table a thread.

Written by the thread, read by anybody. A row, once begun, keeps its code; RESETSTAT zeroes the counts.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    ERROR_CODE_MAX = 30          # bytes: a longer first word counts as ERR, as in Redis
    ERROR_CODES_MAX = 64         # further codes count as ERR

cdef struct error_row_t:
    char code[32]                # NUL terminated
    uint64_t count

cdef struct error_stats_t:
    error_row_t rows[64]
    uint32_t used

# An error's text, with or without the dash that a reply begins with.
cdef void error_stats_add(error_stats_t *self, const char *text, size_t size) noexcept nogil
# Counts every error in finished RESP, nested ones too; returns their number.
cdef uint64_t error_stats_scan(error_stats_t *self, const char *data, size_t size) noexcept nogil
