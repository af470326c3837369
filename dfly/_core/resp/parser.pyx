"""The request parser; see parser.pxd for the contract.

A command is "*<n>\\r\\n" and n times "$<len>\\r\\n<bytes>\\r\\n"; anything that does not begin with
"*" is an inline command, one line split at spaces with quotes. Headers of one to three digits, which
is nearly all of them, take a path without a search for the line end.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy, memset

from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    INLINE_MAX = 65536           # of an inline line, and of a header line
    ARGV_MIN = 8
    ARGV_KEEP = 64
    ARGS_MAX = 2147483647
    UNAUTHENTICATED_ARGS = 10
    UNAUTHENTICATED_BULK = 16384

cdef enum header_t:
    HEADER_OK = 0
    HEADER_NEED_MORE = 1
    HEADER_BAD = 2
    HEADER_TOO_LONG = 3


cdef void parser_init(parser_t *self) noexcept nogil:
    memset(self, 0, sizeof(parser_t))
    self.max_bulk_size = 512 * 1024 * 1024
    self.bulk_size = -1
    self.authenticated = True


cdef void parser_deinit(parser_t *self) noexcept nogil:
    net_free(self.argv)
    net_free(self.inline_storage)
    self.argv = NULL
    self.inline_storage = NULL
    self.argv_capacity = 0
    self.inline_capacity = 0


cdef void parser_shrink(parser_t *self) noexcept nogil:
    if self.args_expected != 0:
        return
    if self.argv_capacity > ARGV_KEEP:
        net_free(self.argv)
        self.argv = NULL
        self.argv_capacity = 0
    if self.inline_storage != NULL:
        net_free(self.inline_storage)
        self.inline_storage = NULL
        self.inline_capacity = 0


cdef void parser_reset(parser_t *self) noexcept nogil:
    self.args_expected = 0
    self.argc = 0
    self.offset = 0
    self.bulk_size = -1
    self.bytes_wanted = 0


cdef int fail(parser_t *self, const char *text) noexcept nogil:
    snprintf(self.error, sizeof(self.error), "Protocol error: %s", text)
    parser_reset(self)
    return PARSE_ERROR


cdef void reserve_arguments(parser_t *self, uint32_t wanted) noexcept nogil:
    """Room for `wanted` arguments, grown as they really arrive: a header may promise anything."""
    cdef uint32_t capacity = self.argv_capacity if self.argv_capacity > 0 else ARGV_MIN
    if wanted <= self.argv_capacity:
        return
    while capacity < wanted:
        capacity *= 2
    self.argv = <slice_t *>net_realloc(self.argv, capacity * sizeof(slice_t))
    self.argv_capacity = capacity


cdef bint parse_digits(const char *text, size_t size, int64_t *out) noexcept nogil:
    """A decimal as Redis accepts it here: optional minus, no plus, no leading zero, no space."""
    cdef uint64_t value = 0
    cdef size_t i = 0
    cdef uint8_t digit
    cdef bint negative = False
    if size == 0 or size > 20:
        return False
    if text[0] == c'-':
        negative = True
        i = 1
        if size == 1:
            return False
    if text[i] == c'0' and (negative or size > 1):
        return False
    while i < size:
        digit = <uint8_t>(text[i] - c'0')
        if digit > 9 or value > 922337203685477580ULL:
            return False
        value = value * 10 + digit
        i += 1
    if value > 9223372036854775807ULL:
        return False
    out[0] = -<int64_t>value if negative else <int64_t>value
    return True


cdef inline int read_header(const char *data, size_t size, size_t *offset, int64_t *value) noexcept nogil:
    """Reads "<type><number>\\r\\n" at *offset; moves *offset behind it."""
    cdef const char *p = data + offset[0]
    cdef size_t left = size - offset[0]
    cdef const char *end
    cdef uint8_t first
    cdef uint8_t second
    cdef uint8_t third
    if likely(left >= 6):
        first = <uint8_t>(p[1] - c'0')
        second = <uint8_t>(p[2] - c'0')
        third = <uint8_t>(p[3] - c'0')
        if likely(first <= 9):
            if p[2] == c'\r':
                value[0] = first
                offset[0] += 4
                return HEADER_OK
            if first > 0 and second <= 9:
                if p[3] == c'\r':
                    value[0] = first * 10 + second
                    offset[0] += 5
                    return HEADER_OK
                if third <= 9 and p[4] == c'\r':
                    value[0] = first * 100 + second * 10 + third
                    offset[0] += 6
                    return HEADER_OK
    end = <const char *>memchr(p, c'\r', left)
    if end == NULL:
        return HEADER_TOO_LONG if left > INLINE_MAX else HEADER_NEED_MORE
    if <size_t>(end - p) + 2 > left:
        return HEADER_NEED_MORE
    if not parse_digits(p + 1, <size_t>(end - p) - 1, value):
        return HEADER_BAD
    offset[0] += <size_t>(end - p) + 2
    return HEADER_OK


cdef int need_more(parser_t *self, size_t offset, size_t wanted, const char *data) noexcept nogil:
    self.offset = offset
    self.bytes_wanted = wanted
    self.base = data
    return PARSE_NEED_MORE


cdef void rebase(parser_t *self, const char *data) noexcept nogil:
    """The caller moved the window (it copied the bytes to its own buffer)."""
    cdef uint32_t i
    if self.base != data:
        for i in range(self.argc):
            self.argv[i].data = data + (self.argv[i].data - self.base)
        self.base = data


cdef int begin_array(parser_t *self, const char *data, size_t size, size_t *offset, size_t *consumed) noexcept nogil:
    """Reads the array header; PARSE_OK: go on with the bulks."""
    cdef int64_t count = 0
    cdef int result = read_header(data, size, offset, &count)
    if result == HEADER_NEED_MORE:
        return need_more(self, 0, 0, data)
    if result == HEADER_TOO_LONG:
        return fail(self, "too big mbulk count string")
    if result == HEADER_BAD or count > ARGS_MAX:
        return fail(self, "invalid multibulk length")
    if count > UNAUTHENTICATED_ARGS and not self.authenticated:
        return fail(self, "unauthenticated multibulk length")
    if count <= 0:
        consumed[0] = offset[0]
        return PARSE_EMPTY
    self.args_expected = <uint32_t>count
    self.argc = 0
    self.bulk_size = -1
    self.base = data
    return PARSE_OK


cdef int read_bulk_size(parser_t *self, const char *data, size_t size, size_t *offset) noexcept nogil:
    cdef int64_t bulk = 0
    cdef char text[32]
    cdef size_t before = offset[0]
    cdef int result
    if offset[0] >= size:
        return need_more(self, offset[0], 0, data)
    result = read_header(data, size, offset, &bulk)
    if result == HEADER_NEED_MORE:
        return need_more(self, offset[0], 0, data)
    if result == HEADER_TOO_LONG:
        return fail(self, "too big bulk count string")
    if data[before] != c'$':
        snprintf(text, sizeof(text), "expected '$', got '%c'", <int>data[before])
        return fail(self, text)
    if result == HEADER_BAD or bulk < 0 or bulk > self.max_bulk_size:
        return fail(self, "invalid bulk length")
    if bulk > UNAUTHENTICATED_BULK and not self.authenticated:
        return fail(self, "unauthenticated bulk length")
    self.bulk_size = bulk
    return PARSE_OK


cdef int parser_next(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    cdef size_t offset = 0
    cdef int result
    if size == 0:
        return PARSE_NEED_MORE
    if likely(self.args_expected == 0):
        if unlikely(data[0] != c'*'):
            return parse_inline(self, data, size, consumed)
        result = begin_array(self, data, size, &offset, consumed)
        if result != PARSE_OK:
            return result
    else:
        offset = self.offset
        rebase(self, data)
    while self.argc < self.args_expected:
        if self.bulk_size < 0:
            result = read_bulk_size(self, data, size, &offset)
            if result != PARSE_OK:
                return result
        if unlikely(offset + <size_t>self.bulk_size + 2 > size):
            return need_more(self, offset, offset + <size_t>self.bulk_size + 2, data)
        if unlikely(self.argc >= self.argv_capacity):
            reserve_arguments(self, self.argc + 1)
        self.argv[self.argc].data = data + offset
        self.argv[self.argc].size = <size_t>self.bulk_size
        self.argc += 1
        offset += <size_t>self.bulk_size + 2
        self.bulk_size = -1
    self.args_expected = 0
    self.bytes_wanted = 0
    consumed[0] = offset
    return PARSE_OK


# ---- Inline commands -----------------------------------------------------------------------

cdef inline bint is_space(char c) noexcept nogil:
    return c == c' ' or (c >= 9 and c <= 13)


cdef inline int hex_value(char c) noexcept nogil:
    if c >= c'0' and c <= c'9':
        return c - c'0'
    if c >= c'a' and c <= c'f':
        return c - c'a' + 10
    if c >= c'A' and c <= c'F':
        return c - c'A' + 10
    return -1


cdef char unescaped(char c) noexcept nogil:
    if c == c'n':
        return c'\n'
    if c == c'r':
        return c'\r'
    if c == c't':
        return c'\t'
    if c == c'b':
        return 8
    if c == c'a':
        return 7
    return c


cdef const char *read_quoted(const char *p, const char *end, char quote, char **out) noexcept nogil:
    """Unquotes from behind the opening quote; NULL: the quotes do not balance."""
    while True:
        if p >= end or p[0] == 0:
            return NULL
        if quote == c'"' and p[0] == c'\\' and p + 3 < end and p[1] == c'x' \
                and hex_value(p[2]) >= 0 and hex_value(p[3]) >= 0:
            out[0][0] = <char>(hex_value(p[2]) * 16 + hex_value(p[3]))
            out[0] += 1
            p += 4
        elif quote == c'"' and p[0] == c'\\' and p + 1 < end and p[1] != 0:
            out[0][0] = unescaped(p[1])
            out[0] += 1
            p += 2
        elif quote == c"'" and p[0] == c'\\' and p + 1 < end and p[1] == c"'":
            out[0][0] = c"'"
            out[0] += 1
            p += 2
        elif p[0] == quote:
            p += 1
            # A closing quote must be followed by a space or nothing.
            if p < end and p[0] != 0 and not is_space(p[0]):
                return NULL
            return p
        else:
            out[0][0] = p[0]
            out[0] += 1
            p += 1


cdef const char *read_word(const char *p, const char *end, char **out) noexcept nogil:
    """One argument, quoted or not, possibly both in a row as Redis allows (ab"cd")."""
    while p < end and p[0] != 0 and not is_space(p[0]):
        if p[0] == c'"' or p[0] == c"'":
            return read_quoted(p + 1, end, p[0], out)
        out[0][0] = p[0]
        out[0] += 1
        p += 1
    return p


cdef int split_line(parser_t *self, const char *p, const char *end) noexcept nogil:
    cdef char *out = self.inline_storage
    cdef char *start
    self.argc = 0
    while True:
        while p < end and p[0] != 0 and is_space(p[0]):
            p += 1
        if p >= end or p[0] == 0:
            return PARSE_OK
        start = out
        p = read_word(p, end, &out)
        if p == NULL:
            return fail(self, "unbalanced quotes in request")
        reserve_arguments(self, self.argc + 1)
        self.argv[self.argc].data = start
        self.argv[self.argc].size = <size_t>(out - start)
        self.argc += 1


cdef int parse_inline(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    cdef const char *newline = <const char *>memchr(data, c'\n', size)
    cdef const char *end
    cdef size_t length
    if newline == NULL:
        if size > INLINE_MAX:
            return fail(self, "too big inline request")
        return PARSE_NEED_MORE
    end = newline
    if end > data and end[-1] == c'\r':
        end -= 1
    length = <size_t>(end - data)
    if length + 1 > self.inline_capacity:
        self.inline_storage = <char *>net_realloc(self.inline_storage, length + 1)
        self.inline_capacity = length + 1
    if split_line(self, data, end) != PARSE_OK:
        return PARSE_ERROR
    consumed[0] = <size_t>(newline - data) + 1
    return PARSE_OK if self.argc > 0 else PARSE_EMPTY
