"""Cursors and options of SCAN, HSCAN, SSCAN and ZSCAN: see scan_options.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport reply_not_integer, reply_syntax_error, slice_equals
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_error, reply_t
from dfly._core.store.decimal_text cimport format_int64, parse_int64
from dfly._core.store.glob cimport glob_match
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef bint parse_scan_cursor(slice_t text, uint64_t *out) noexcept nogil:
    cdef uint64_t value = 0
    cdef size_t i
    cdef size_t first = 0
    # Redis reads it with strtoul: empty is 0, a sign is taken.
    if text.size > 21:
        return False
    if text.size > 1 and (text.data[0] == c'-' or text.data[0] == c'+'):
        first = 1
    for i in range(first, text.size):
        if text.data[i] < c'0' or text.data[i] > c'9':
            return False
        if value > (18446744073709551615ULL - <uint64_t>(text.data[i] - c'0')) // 10:
            return False
        value = value * 10 + <uint64_t>(text.data[i] - c'0')
    out[0] = 0 - value if first == 1 and text.data[0] == c'-' else value
    return True


cdef bint parse_element_scan(const slice_t *argv, uint32_t argc, bint allow_no_values, scan_options_t *out,
                             reply_t *reply) noexcept nogil:
    cdef uint32_t i = 3
    out.count = 10
    out.pattern.data = NULL
    out.no_values = False
    while i < argc:
        if slice_equals(argv[i], "count") and i + 1 < argc:
            if not parse_int64(argv[i + 1].data, argv[i + 1].size, &out.count):
                reply_not_integer(reply)
                return False
            if out.count < 1:
                reply_syntax_error(reply)
                return False
            i += 2
        elif slice_equals(argv[i], "match") and i + 1 < argc:
            out.pattern = argv[i + 1]
            if out.pattern.size == 1 and out.pattern.data[0] == c'*':
                out.pattern.data = NULL
            i += 2
        elif slice_equals(argv[i], "novalues"):
            if not allow_no_values:
                reply_error(reply, "ERR NOVALUES option can only be used in HSCAN")
                return False
            out.no_values = True
            i += 1
        else:
            reply_syntax_error(reply)
            return False
    return True


cdef bint scan_pattern_matches(const scan_options_t *self, const char *data, size_t size) noexcept nogil:
    return self.pattern.data == NULL or glob_match(self.pattern.data, self.pattern.size, data, size, False)


cdef uint64_t scan_bucket_limit(const scan_options_t *self) noexcept nogil:
    return <uint64_t>self.count * SCAN_EMPTY_FACTOR if self.count < 1000000 else 10000000


cdef void reply_empty_scan(reply_t *reply) noexcept nogil:
    reply_array(reply, 2)
    reply_bulk(reply, "0", 1)
    reply_array(reply, 0)


cdef void reply_scan_head(reply_t *reply, uint64_t cursor, uint64_t count) noexcept nogil:
    cdef char text[32]
    reply_array(reply, 2)
    reply_bulk(reply, text, format_int64(<int64_t>cursor, text))
    reply_array(reply, count)
