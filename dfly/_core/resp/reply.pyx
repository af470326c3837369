"""The reply builder's cold half; see reply.pxd. Numbers are written as Redis writes them."""

from libc.math cimport isinf, isnan
from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memmove, memset, strlen

from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CAPACITY_MIN = 1024
    DOUBLING_MAX = 67108864      # beyond this the buffer grows by halves
    NUMBER_MAX = 24
    DEFERRED_ROOM = 24


cdef void reply_init(reply_t *self, int resp) noexcept nogil:
    memset(self, 0, sizeof(reply_t))
    self.resp = resp


cdef void reply_deinit(reply_t *self) noexcept nogil:
    net_free(self.data)
    self.data = NULL
    self.size = 0
    self.capacity = 0


cdef void reply_reset(reply_t *self) noexcept nogil:
    self.size = 0
    self.error_count = 0


cdef void reply_grow(reply_t *self, size_t more) noexcept nogil:
    cdef size_t wanted = self.size + more
    cdef size_t capacity = self.capacity if self.capacity > CAPACITY_MIN else CAPACITY_MIN
    while capacity < wanted:
        capacity += capacity if capacity < DOUBLING_MAX else capacity // 2
    self.data = <char *>net_realloc(self.data, capacity)
    self.capacity = capacity


cdef size_t format_unsigned(uint64_t value, char *out) noexcept nogil:
    cdef char digits[NUMBER_MAX]
    cdef size_t count = 0
    cdef size_t i
    while True:
        digits[count] = <char>(c'0' + value % 10)
        count += 1
        value //= 10
        if value == 0:
            break
    for i in range(count):
        out[i] = digits[count - 1 - i]
    return count


cdef void reply_header(reply_t *self, char kind, uint64_t value) noexcept nogil:
    cdef char *p = reply_reserve(self, NUMBER_MAX + 3)
    cdef size_t size
    p[0] = kind
    size = 1 + format_unsigned(value, p + 1)
    p[size] = c'\r'
    p[size + 1] = c'\n'
    self.size += size + 2


cdef void reply_int_slow(reply_t *self, int64_t value) noexcept nogil:
    cdef char *p
    if value >= 0:
        reply_header(self, c':', <uint64_t>value)
        return
    p = reply_reserve(self, 2)
    p[0] = c':'
    self.size += 1
    # The sign takes the header's type byte; 0 - value is right for the smallest integer too.
    reply_header(self, c'-', 0 - <uint64_t>value)


cdef void reply_simple(reply_t *self, const char *text) noexcept nogil:
    cdef size_t size = strlen(text)
    cdef char *p = reply_reserve(self, size + 3)
    p[0] = c'+'
    memcpy(p + 1, text, size)
    p[size + 1] = c'\r'
    p[size + 2] = c'\n'
    self.size += size + 3


cdef void reply_error_slice(reply_t *self, const char *text, size_t size) noexcept nogil:
    cdef char *p = reply_reserve(self, size + 3)
    p[0] = c'-'
    memcpy(p + 1, text, size)
    p[size + 1] = c'\r'
    p[size + 2] = c'\n'
    self.size += size + 3
    self.error_count += 1


cdef void reply_error(reply_t *self, const char *text) noexcept nogil:
    reply_error_slice(self, text, strlen(text))


cdef char *reply_bulk_reserve(reply_t *self, size_t size) noexcept nogil:
    cdef char *p
    reply_header(self, c'$', size)
    p = reply_reserve(self, size + 2)
    p[size] = c'\r'
    p[size + 1] = c'\n'
    self.size += size + 2
    return p


cdef void reply_bulk_text(reply_t *self, const char *text) noexcept nogil:
    reply_bulk(self, text, strlen(text))


cdef void reply_bulk_int(reply_t *self, int64_t value) noexcept nogil:
    cdef char text[NUMBER_MAX]
    cdef size_t size
    if value >= 0:
        size = format_unsigned(<uint64_t>value, text)
    else:
        text[0] = c'-'
        size = 1 + format_unsigned(0 - <uint64_t>value, text + 1)
    reply_bulk(self, text, size)


cdef void reply_null_array(reply_t *self) noexcept nogil:
    if self.resp == 3:
        reply_raw(self, b"_\r\n", 3)
    else:
        reply_raw(self, b"*-1\r\n", 5)


cdef void reply_bool(reply_t *self, bint value) noexcept nogil:
    if self.resp == 3:
        reply_raw(self, b"#t\r\n" if value else b"#f\r\n", 4)
    else:
        reply_int(self, 1 if value else 0)


cdef void reply_double(reply_t *self, double value) noexcept nogil:
    cdef char text[64]
    cdef int size
    if isinf(value):
        size = snprintf(text, sizeof(text), "inf" if value > 0 else "-inf")
    elif isnan(value):
        size = snprintf(text, sizeof(text), "nan")
    else:
        size = snprintf(text, sizeof(text), "%.17g", value)
    if self.resp == 3:
        reply_raw(self, b",", 1)
        reply_raw(self, text, size)
        reply_raw(self, b"\r\n", 2)
    else:
        reply_bulk(self, text, size)


cdef void reply_big_number(reply_t *self, const char *text) noexcept nogil:
    if self.resp == 3:
        reply_raw(self, b"(", 1)
        reply_raw(self, text, strlen(text))
        reply_raw(self, b"\r\n", 2)
    else:
        reply_bulk_text(self, text)


cdef void reply_verbatim(reply_t *self, const char *data, size_t size, const char *format3) noexcept nogil:
    cdef char *p
    if self.resp != 3:
        reply_bulk(self, data, size)
        return
    reply_header(self, c'=', size + 4)
    p = reply_reserve(self, size + 6)
    memcpy(p, format3, 3)
    p[3] = c':'
    memcpy(p + 4, data, size)
    p[size + 4] = c'\r'
    p[size + 5] = c'\n'
    self.size += size + 6


cdef void reply_array(reply_t *self, size_t count) noexcept nogil:
    reply_header(self, c'*', count)


cdef void reply_map(reply_t *self, size_t pairs) noexcept nogil:
    if self.resp == 3:
        reply_header(self, c'%', pairs)
    else:
        reply_header(self, c'*', pairs * 2)


cdef void reply_set(reply_t *self, size_t count) noexcept nogil:
    reply_header(self, c'~' if self.resp == 3 else c'*', count)


cdef void reply_push(reply_t *self, size_t count) noexcept nogil:
    reply_header(self, c'>' if self.resp == 3 else c'*', count)


cdef size_t reply_defer_array(reply_t *self) noexcept nogil:
    """Leaves room for the widest header; the gap is closed when the count is known."""
    cdef size_t mark = self.size
    reply_reserve(self, DEFERRED_ROOM)
    self.size += DEFERRED_ROOM
    return mark


cdef void reply_set_deferred(reply_t *self, size_t mark, char kind, size_t count) noexcept nogil:
    cdef char text[NUMBER_MAX + 4]
    cdef size_t size
    if self.resp != 3:
        count = count * 2 if kind == c'%' else count
        kind = c'*'
    text[0] = kind
    size = 1 + format_unsigned(count, text + 1)
    text[size] = c'\r'
    text[size + 1] = c'\n'
    size += 2
    memmove(self.data + mark + size, self.data + mark + DEFERRED_ROOM, self.size - mark - DEFERRED_ROOM)
    memcpy(self.data + mark, text, size)
    self.size -= DEFERRED_ROOM - size
