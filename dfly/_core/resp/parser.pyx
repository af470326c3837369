"""The request parser; see parser.pxd for the contract.

A command is "*<n>\\r\\n" and n times "$<len>\\r\\n<bytes>\\r\\n"; anything that does not begin with
"*" is an inline command, one line split at spaces with quotes.

Two paths give the same result. The short one (`read_bulks`) takes whole bulks whose header has up to
seven digits, one or two of them by hand, more by arithmetic on an 8-byte word. It stops at whatever
is not of that kind: an incomplete bulk, a wrong byte, a number over a limit. The careful one
(`read_bulk_size`) then says what it is, and remembers how far the search for a line end came.

Of argv, the first `args_kept` entries hold offsets from the start of the command, since the window
they were found in is gone; those of the current call hold addresses. A call that ends in
PARSE_NEED_MORE turns its own into offsets, the one that completes the command turns all into
addresses: work per argument is constant however many pieces a command comes in.

C string functions decide what a line is in Redis, so a NUL ahead of the line end hides it: such a
line stays incomplete until it is too long. The same here.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memset

from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, ctz64, likely, load64, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # A longer line is refused as long as it is incomplete. Redis looks after each read, so a longer
    # one passes if its end comes with the read that exceeds the limit: at 64 to 160 KB that is
    # chance. Here a read's worth more passes, if it is complete.
    LINE_MAX = 65536
    LINE_MAX_COMPLETE = 65536 + 16384
    ARGV_MIN = 8
    ARGS_MAX = 2147483647
    UNAUTHENTICATED_ARGS = 10
    UNAUTHENTICATED_BULK = 16384
    WORD_HEADER = 10             # "$", an 8-byte word that contains the "\r", and the byte behind it

cdef enum line_t:
    LINE_FOUND = 0
    LINE_PARTIAL = 1
    LINE_TOO_LONG = 2

cdef extern from *:
    """
    #define DFLY_EACH_BYTE(value) (0x0101010101010101ull * (value))
    """
    uint64_t EACH_BYTE "DFLY_EACH_BYTE"(uint8_t value) noexcept nogil


cdef void parser_init(parser_t *self) noexcept nogil:
    memset(self, 0, sizeof(parser_t))
    self.max_bulk_size = 512 * 1024 * 1024
    self.bulk_size = -1
    self.authenticated = True


cdef void parser_deinit(parser_t *self) noexcept nogil:
    parser_reset(self)
    parser_shrink(self)


cdef void parser_shrink(parser_t *self) noexcept nogil:
    if self.args_expected != 0:
        return
    net_free(self.argv)
    self.argv = NULL
    self.argc = 0
    self.argv_capacity = 0
    net_free(self.inline_storage)
    self.inline_storage = NULL
    self.inline_capacity = 0


cdef void parser_reset(parser_t *self) noexcept nogil:
    self.args_expected = 0
    self.args_kept = 0
    self.argc = 0
    self.offset = 0
    self.line_scanned = 0
    self.bulk_size = -1
    self.bytes_wanted = 0


cdef int fail(parser_t *self, const char *text) noexcept nogil:
    snprintf(self.error, sizeof(self.error), "Protocol error: %s", text)
    parser_reset(self)
    return PARSE_ERROR


cdef int need_more(parser_t *self, const char *data, size_t offset, size_t wanted) noexcept nogil:
    """Keeps what was parsed; `wanted` is the size of the window that would bring it further."""
    cdef uint32_t i
    for i in range(self.args_kept, self.argc):
        self.argv[i].data = <const char *>(<uintptr_t>self.argv[i].data - <uintptr_t>data)
    self.args_kept = self.argc
    self.offset = offset
    self.bytes_wanted = wanted
    return PARSE_NEED_MORE


cdef void grow_arguments(parser_t *self) noexcept nogil:
    """By doubling, as arguments really arrive: a header may promise anything."""
    cdef size_t capacity = self.argv_capacity * <size_t>2 if self.argv_capacity > 0 else ARGV_MIN
    if capacity > ARGS_MAX:
        capacity = ARGS_MAX
    self.argv = <slice_t *>net_realloc(self.argv, capacity * sizeof(slice_t))
    self.argv_capacity = <uint32_t>capacity


# ---- Headers -------------------------------------------------------------------------------

cdef bint parse_integer(const char *text, size_t size, int64_t *out) noexcept nogil:
    """A decimal as Redis accepts it here: optional minus, no plus, no leading zero, no space."""
    cdef bint negative = size > 0 and text[0] == c'-'
    cdef uint64_t limit = (<uint64_t>1 << 63) - (0 if negative else 1)
    cdef uint64_t value = 0
    cdef size_t i = 1 if negative else 0
    cdef uint64_t digit
    if size == i or size > 20:
        return False
    if text[i] == c'0' and size > 1:
        return False
    while i < size:
        digit = <uint8_t>(text[i] - c'0')
        if digit > 9 or value > (limit - digit) // 10:
            return False
        value = value * 10 + digit
        i += 1
    out[0] = <int64_t>(0 - value) if negative else <int64_t>value
    return True


cdef int find_line(parser_t *self, const char *line, size_t left, char terminator,
                   size_t *length) noexcept nogil:
    """Looks for the line end behind what earlier calls have searched."""
    cdef size_t limit = left if left < LINE_MAX_COMPLETE else LINE_MAX_COMPLETE
    cdef size_t start = self.line_scanned
    cdef const char *found = <const char *>memchr(line + start, terminator, limit - start)
    cdef size_t stop = <size_t>(found - line) if found != NULL else limit
    cdef const char *nul = <const char *>memchr(line + start, 0, stop - start)
    if nul != NULL:
        stop = <size_t>(nul - line)
        found = NULL
    self.line_scanned = stop
    if found != NULL:
        length[0] = stop
        return LINE_FOUND
    return LINE_TOO_LONG if left > LINE_MAX else LINE_PARTIAL


cdef int read_array_header(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    """The first line of an array. PARSE_OK: go on with the bulks at self.offset."""
    cdef int64_t count = 0
    cdef size_t length = 0
    cdef int line = find_line(self, data, size, c'\r', &length)
    if line == LINE_TOO_LONG:
        return fail(self, "too big mbulk count string")
    if line == LINE_PARTIAL or length + 2 > size:
        return need_more(self, data, 0, size + 1)
    if not parse_integer(data + 1, length - 1, &count) or count > ARGS_MAX:
        return fail(self, "invalid multibulk length")
    if count > UNAUTHENTICATED_ARGS and not self.authenticated:
        return fail(self, "unauthenticated multibulk length")
    self.line_scanned = 0
    if count <= 0:
        consumed[0] = length + 2
        parser_reset(self)
        return PARSE_EMPTY
    self.args_expected = <uint32_t>count
    self.offset = length + 2
    return PARSE_OK


cdef int read_bulk_size(parser_t *self, const char *data, size_t size, size_t *offset) noexcept nogil:
    """The header of one bulk, with care; PARSE_OK: self.bulk_size is set."""
    cdef const char *header = data + offset[0]
    cdef size_t left = size - offset[0]
    cdef int64_t bulk = 0
    cdef size_t length = 0
    cdef char text[32]
    cdef int line = find_line(self, header, left, c'\r', &length)
    if line == LINE_TOO_LONG:
        return fail(self, "too big bulk count string")
    if line == LINE_PARTIAL or length + 2 > left:
        return need_more(self, data, offset[0], size + 1)
    if header[0] != c'$':
        # Redis replaces line ends in an error by spaces.
        snprintf(text, sizeof(text), "expected '$', got '%c'",
                 <int>(c' ' if header[0] == c'\r' or header[0] == c'\n' else header[0]))
        return fail(self, text)
    if not parse_integer(header + 1, length - 1, &bulk) or bulk < 0 or bulk > self.max_bulk_size:
        return fail(self, "invalid bulk length")
    if bulk > UNAUTHENTICATED_BULK and not self.authenticated:
        return fail(self, "unauthenticated bulk length")
    self.bulk_size = bulk
    self.line_scanned = 0
    offset[0] += length + 2
    return PARSE_OK


cdef inline uint64_t word_number(uint64_t word, uint32_t *digits) noexcept nogil:
    """The decimal in front of the first "\\r" of an 8-byte word; *digits 0: it is not plain."""
    cdef uint64_t difference = word ^ EACH_BYTE(0x0D)
    cdef uint64_t ends = (difference - EACH_BYTE(1)) & ~difference & EACH_BYTE(0x80)
    cdef uint64_t value
    digits[0] = 0
    if ends == 0 or ends & 0x80:
        # No "\r", or no digit in front of it.
        return 0
    digits[0] = ctz64(ends) >> 3
    # The digits move to the top, most significant first; what is shifted in counts as zeros.
    value = (word ^ EACH_BYTE(c'0')) << (64 - 8 * digits[0])
    if ((value + EACH_BYTE(0x76)) | value) & EACH_BYTE(0x80) or <uint8_t>word == c'0':
        digits[0] = 0
        return 0
    # Neighbours join to pairs, pairs to fours, fours to eight.
    value = (value * 10 + (value >> 8)) & 0x00FF00FF00FF00FFULL
    value = (value * 100 + (value >> 16)) & 0x0000FFFF0000FFFFULL
    return (value * 10000 + (value >> 32)) & 0xFFFFFFFFULL


cdef inline slice_t *read_bulks(slice_t *argument, slice_t *last, const char **cursor, const char *end,
                                size_t limit) noexcept nogil:
    """Reads whole bulks into [argument, last) and moves the cursor; stops at anything unusual."""
    cdef const char *p = cursor[0]
    cdef const char *bytes
    cdef size_t size
    cdef uint32_t digits
    cdef uint8_t first
    cdef uint8_t second
    while argument < last and likely(end - p >= 6 and p[0] == c'$'):
        first = <uint8_t>(p[1] - c'0')
        second = <uint8_t>(p[2] - c'0')
        if p[2] == c'\r' and first <= 9:
            size = first
            bytes = p + 4
        elif p[3] == c'\r' and second <= 9 and <uint8_t>(first - 1) < 9:
            size = first * 10 + second
            bytes = p + 5
        else:
            if end - p < WORD_HEADER:
                break
            size = word_number(load64(p + 1), &digits)
            bytes = p + 3 + digits
            if digits == 0 or size > limit:
                break
        if unlikely(end - bytes < <int64_t>size + 2):
            break
        argument.data = bytes
        argument.size = size
        argument += 1
        p = bytes + size + 2
    cursor[0] = p
    return argument


# ---- Commands ------------------------------------------------------------------------------

cdef int finish_array(parser_t *self, const char *data, size_t used, size_t *consumed) noexcept nogil:
    cdef uint32_t i
    for i in range(self.args_kept):
        self.argv[i].data = <const char *>(<uintptr_t>data + <uintptr_t>self.argv[i].data)
    self.args_expected = 0
    self.args_kept = 0
    self.offset = 0
    self.bytes_wanted = 0
    consumed[0] = used
    return PARSE_OK


cdef int read_array(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    """The bulks of an array from self.offset on, in whatever state they are."""
    cdef size_t offset = self.offset
    cdef size_t limit = self.max_bulk_size if self.authenticated else UNAUTHENTICATED_BULK
    cdef const char *cursor
    cdef uint32_t room
    cdef int result
    while True:
        if self.argc == self.argv_capacity and self.argc < self.args_expected:
            grow_arguments(self)
        if self.bulk_size < 0:
            cursor = data + offset
            room = self.argv_capacity if self.argv_capacity < self.args_expected else self.args_expected
            self.argc = <uint32_t>(read_bulks(self.argv + self.argc, self.argv + room, &cursor,
                                              data + size, limit) - self.argv)
            offset = <size_t>(cursor - data)
            if offset != self.offset:
                # The search for a line end that an earlier call began was for the first of these.
                self.line_scanned = 0
            if self.argc == self.args_expected:
                return finish_array(self, data, offset, consumed)
            if self.argc == self.argv_capacity:
                continue
            if offset + self.line_scanned >= size:
                return need_more(self, data, offset, size + 1)
            result = read_bulk_size(self, data, size, &offset)
            if result != PARSE_OK:
                return result
        if size - offset < <size_t>self.bulk_size + 2:
            return need_more(self, data, offset, offset + <size_t>self.bulk_size + 2)
        self.argv[self.argc].data = data + offset
        self.argv[self.argc].size = <size_t>self.bulk_size
        self.argc += 1
        offset += <size_t>self.bulk_size + 2
        self.bulk_size = -1
        if self.argc == self.args_expected:
            return finish_array(self, data, offset, consumed)


cdef int resume(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    """Whatever is not a short array that begins and ends in this window."""
    cdef int result
    if size < self.bytes_wanted or size == 0:
        return PARSE_NEED_MORE
    if self.args_expected == 0:
        self.argc = 0
        self.argv_is_stored = False
        if data[0] != c'*':
            return read_inline(self, data, size, consumed)
        result = read_array_header(self, data, size, consumed)
        if result != PARSE_OK:
            return result
    return read_array(self, data, size, consumed)


cdef int parser_next(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    cdef const char *cursor
    cdef slice_t *last
    cdef uint32_t count
    consumed[0] = 0
    if unlikely(self.args_expected != 0 or self.line_scanned != 0 or size < 4
                or data[0] != c'*' or data[2] != c'\r'):
        return resume(self, data, size, consumed)
    count = <uint8_t>(data[1] - c'1') + 1
    if unlikely(count > 9 or count > self.argv_capacity):
        return resume(self, data, size, consumed)
    cursor = data + 4
    last = self.argv + count
    self.argv_is_stored = False
    self.argc = <uint32_t>(read_bulks(self.argv, last, &cursor, data + size,
                                      self.max_bulk_size if self.authenticated else UNAUTHENTICATED_BULK)
                           - self.argv)
    if likely(self.argc == count):
        self.bytes_wanted = 0
        consumed[0] = <size_t>(cursor - data)
        return PARSE_OK
    self.args_expected = count
    self.offset = <size_t>(cursor - data)
    return read_array(self, data, size, consumed)


# ---- Inline commands -----------------------------------------------------------------------

cdef inline bint is_space(char c) noexcept nogil:
    return c == c' ' or (c >= 9 and c <= 13)


cdef inline bint ends_word(char c) noexcept nogil:
    """A bare word goes on over vertical tab and form feed, which only count between words."""
    return c == c' ' or c == c'\t' or c == c'\n' or c == c'\r'


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
    """Unquotes from behind the opening quote; returns the place behind the closing one, or NULL."""
    cdef char *to = out[0]
    while p < end and p[0] != quote:
        if quote == c'"' and end - p > 3 and p[0] == c'\\' and p[1] == c'x' \
                and hex_value(p[2]) >= 0 and hex_value(p[3]) >= 0:
            to[0] = <char>(hex_value(p[2]) * 16 + hex_value(p[3]))
            p += 4
        elif quote == c'"' and end - p > 1 and p[0] == c'\\':
            to[0] = unescaped(p[1])
            p += 2
        elif quote == c"'" and end - p > 1 and p[0] == c'\\' and p[1] == c"'":
            to[0] = c"'"
            p += 2
        else:
            to[0] = p[0]
            p += 1
        to += 1
    out[0] = to
    # A closing quote must be followed by a space or nothing.
    if p == end or (end - p > 1 and not is_space(p[1])):
        return NULL
    return p + 1


cdef const char *read_word(const char *p, const char *end, char **out) noexcept nogil:
    """One argument with quotes in it; a quoted part ends it, as in ab"cd"."""
    while p < end and not ends_word(p[0]):
        if p[0] == c'"' or p[0] == c"'":
            return read_quoted(p + 1, end, p[0], out)
        out[0][0] = p[0]
        out[0] += 1
        p += 1
    return p


cdef int split_line(parser_t *self, const char *p, const char *end, bint has_quotes) noexcept nogil:
    cdef char *out = self.inline_storage
    cdef const char *start
    self.argc = 0
    while True:
        while p < end and is_space(p[0]):
            p += 1
        if p == end:
            return PARSE_OK
        if self.argc == self.argv_capacity:
            grow_arguments(self)
        start = p
        if has_quotes:
            start = out
            p = read_word(p, end, &out)
            if p == NULL:
                return fail(self, "unbalanced quotes in request")
            self.argv[self.argc].size = <size_t>(out - start)
        else:
            while p < end and not ends_word(p[0]):
                p += 1
            self.argv[self.argc].size = <size_t>(p - start)
        self.argv[self.argc].data = start
        self.argc += 1


cdef int read_inline(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil:
    cdef size_t length = 0
    cdef size_t used
    cdef bint has_quotes
    cdef int line = find_line(self, data, size, c'\n', &length)
    if line == LINE_TOO_LONG:
        return fail(self, "too big inline request")
    if line == LINE_PARTIAL:
        return need_more(self, data, 0, size + 1)
    used = length + 1
    if length > 0 and data[length - 1] == c'\r':
        length -= 1
    has_quotes = memchr(data, c'"', length) != NULL or memchr(data, c"'", length) != NULL
    if has_quotes and length > self.inline_capacity:
        self.inline_storage = <char *>net_realloc(self.inline_storage, length)
        self.inline_capacity = length
    if split_line(self, data, data + length, has_quotes) != PARSE_OK:
        return PARSE_ERROR
    self.line_scanned = 0
    self.bytes_wanted = 0
    self.argv_is_stored = has_quotes
    consumed[0] = used
    return PARSE_OK if self.argc > 0 else PARSE_EMPTY
