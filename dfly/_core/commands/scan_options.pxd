"""What SCAN and its kin over the elements of one key have in common: cursors and options."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.resp.reply cimport reply_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    SCAN_EMPTY_FACTOR = 10       # buckets visited per wanted element, as in Redis

cdef struct scan_options_t:
    int64_t count
    slice_t pattern              # data NULL: everything
    bint no_values

cdef bint parse_scan_cursor(slice_t text, uint64_t *out) noexcept nogil
# Of HSCAN, SSCAN, ZSCAN: argv[3] and what follows. False after an error reply. allow_no_values: HSCAN's NOVALUES.
cdef bint parse_element_scan(const slice_t *argv, uint32_t argc, bint allow_no_values, scan_options_t *out,
                             reply_t *reply) noexcept nogil
cdef bint scan_pattern_matches(const scan_options_t *self, const char *data, size_t size) noexcept nogil
# Buckets that one call may visit.
cdef uint64_t scan_bucket_limit(const scan_options_t *self) noexcept nogil
cdef void reply_empty_scan(reply_t *reply) noexcept nogil
# All of it but so many elements.
cdef void reply_scan_head(reply_t *reply, uint64_t cursor, uint64_t count) noexcept nogil
