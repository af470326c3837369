"""The reply builder's cold half; see reply.pxd. Numbers are written as Redis writes them."""

from libc.math cimport isinf, isnan, signbit
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memmove, memset, strlen

from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_DCHECK, load64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CAPACITY_MIN = 1024
    DOUBLING_MAX = 67108864      # beyond this the buffer grows by halves
    HEADER_MAX = 24              # type, sign, 20 digits, line end
    DOUBLE_MAX = 32
    DEFERRED_ROOM = 4
    FRACTION_EXPONENT_MIN = 1015     # biased exponents of a double: from 2^-8 on ...
    FRACTION_EXPONENT_END = 1075     # ... to below 2^52, behind which all doubles are whole

cdef extern from *:
    """
    static const char dfly_digit_pairs[] =
        "00010203040506070809" "10111213141516171819" "20212223242526272829" "30313233343536373839"
        "40414243444546474849" "50515253545556575859" "60616263646566676869" "70717273747576777879"
        "80818283848586878889" "90919293949596979899";
    static const uint64_t dfly_powers_of_ten[] = {
        1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull,
        1000000000ull, 10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull,
        100000000000000ull, 1000000000000000ull, 10000000000000000ull, 100000000000000000ull,
        1000000000000000000ull, 10000000000000000000ull };
    typedef unsigned __int128 dfly_uint128_t;
    """
    const char *DIGIT_PAIRS "dfly_digit_pairs"
    const uint64_t *POWERS_OF_TEN "dfly_powers_of_ten"
    ctypedef unsigned long long uint128_t "dfly_uint128_t"

cdef double INTEGER_MAX = 1e17   # below it, %.17g writes a whole number without an exponent


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


cdef inline size_t count_digits(uint64_t value) noexcept nogil:
    cdef size_t count = 1
    while value >= 10000:
        value //= 10000
        count += 4
    return count + (value >= 10) + (value >= 100) + (value >= 1000)


cdef inline size_t format_unsigned(uint64_t value, char *out) noexcept nogil:
    """Decimal digits, two at a time from the end; at most 20."""
    cdef size_t count = count_digits(value)
    cdef size_t i = count
    cdef uint64_t rest
    while value >= 100:
        rest = value // 100
        i -= 2
        memcpy(out + i, DIGIT_PAIRS + 2 * (value - rest * 100), 2)
        value = rest
    if value >= 10:
        memcpy(out, DIGIT_PAIRS + 2 * value, 2)
    else:
        out[0] = <char>(c'0' + value)
    return count


cdef inline size_t format_signed(int64_t value, char *out) noexcept nogil:
    if value >= 0:
        return format_unsigned(<uint64_t>value, out)
    out[0] = c'-'
    # 0 - value is right for the smallest integer too.
    return 1 + format_unsigned(0 - <uint64_t>value, out + 1)


cdef inline size_t format_header(char kind, uint64_t value, char *out) noexcept nogil:
    cdef size_t size
    out[0] = kind
    size = 1 + format_unsigned(value, out + 1)
    out[size] = c'\r'
    out[size + 1] = c'\n'
    return size + 2


cdef void reply_header(reply_t *self, char kind, uint64_t value) noexcept nogil:
    self.size += format_header(kind, value, reply_reserve(self, HEADER_MAX))


cdef void reply_int_slow(reply_t *self, int64_t value) noexcept nogil:
    cdef char *p = reply_reserve(self, HEADER_MAX)
    cdef size_t size
    p[0] = c':'
    size = 1 + format_signed(value, p + 1)
    p[size] = c'\r'
    p[size + 1] = c'\n'
    self.size += size + 2


cdef void reply_line(reply_t *self, char kind, const char *text, size_t size) noexcept nogil:
    cdef char *p = reply_reserve(self, size + 3)
    p[0] = kind
    memcpy(p + 1, text, size)
    p[size + 1] = c'\r'
    p[size + 2] = c'\n'
    self.size += size + 3


cdef void reply_simple(reply_t *self, const char *text) noexcept nogil:
    reply_line(self, c'+', text, strlen(text))


cdef void reply_error_slice(reply_t *self, const char *text, size_t size) noexcept nogil:
    cdef char *p
    cdef size_t i
    while size > 0 and (text[size - 1] == c'\r' or text[size - 1] == c'\n'):
        size -= 1
    p = reply_reserve(self, size + 3)
    p[0] = c'-'
    # A line end inside would end the reply: errors quote what clients sent.
    for i in range(size):
        p[1 + i] = c' ' if text[i] == c'\r' or text[i] == c'\n' else text[i]
    p[size + 1] = c'\r'
    p[size + 2] = c'\n'
    self.size += size + 3
    self.error_count += 1


cdef void reply_error(reply_t *self, const char *text) noexcept nogil:
    reply_error_slice(self, text, strlen(text))


cdef char *reply_bulk_reserve(reply_t *self, size_t size) noexcept nogil:
    cdef char *p = reply_reserve(self, HEADER_MAX + size + 2)
    p += format_header(c'$', size, p)
    p[size] = c'\r'
    p[size + 1] = c'\n'
    self.size = <size_t>(p + size + 2 - self.data)
    return p


cdef void reply_bulk_text(reply_t *self, const char *text) noexcept nogil:
    reply_bulk(self, text, strlen(text))


cdef void reply_bulk_int(reply_t *self, int64_t value) noexcept nogil:
    cdef char text[HEADER_MAX]
    cdef size_t size = format_signed(value, text)
    memcpy(reply_bulk_reserve(self, size), text, size)


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


cdef size_t format_fraction(uint64_t mantissa, uint32_t places, char *out) noexcept nogil:
    """mantissa / 2^places, not whole, with 17 significant digits; exact, so it rounds as printf does.

    At most 60 places, so the number is above 0.0039 and the product stays below 2^117.
    """
    cdef uint64_t whole = mantissa >> places
    cdef uint64_t rest = mantissa & ((<uint64_t>1 << places) - 1)
    cdef uint64_t half = <uint64_t>1 << (places - 1)
    cdef size_t digits = 17 - count_digits(whole) if whole > 0 else 17
    cdef uint128_t product = <uint128_t>rest * POWERS_OF_TEN[digits]
    cdef uint64_t decimals
    cdef size_t size
    # Zeros behind the point are not significant.
    while whole == 0 and <uint64_t>(product >> places) < POWERS_OF_TEN[16]:
        digits += 1
        product *= 10
    decimals = <uint64_t>(product >> places)
    rest = <uint64_t>product & ((<uint64_t>1 << places) - 1)
    if rest > half or (rest == half and decimals & 1):
        decimals += 1
        if decimals == POWERS_OF_TEN[digits]:
            decimals = 0
            whole += 1
    size = format_unsigned(whole, out)
    if decimals == 0:
        return size
    if decimals % 100000000 == 0:
        decimals //= 100000000
        digits -= 8
    while decimals % 10 == 0:
        decimals //= 10
        digits -= 1
    out[size] = c'.'
    memset(out + size + 1, c'0', digits - count_digits(decimals))
    format_unsigned(decimals, out + size + 1 + digits - count_digits(decimals))
    return size + 1 + digits


cdef size_t format_double(double value, char *out) noexcept nogil:
    """As printf's %.17g, except that a NaN never has a sign; at most 24 bytes."""
    cdef const char *name = NULL
    cdef uint64_t bits = load64(&value)
    cdef uint32_t exponent = (bits >> 52) & 0x7FF
    if -INTEGER_MAX < value < INTEGER_MAX and value == <double><int64_t>value \
            and not (value == 0 and signbit(value)):
        # 17 digits hold it, and most scores are of this kind: fifty times as fast as printf.
        return format_signed(<int64_t>value, out)
    if FRACTION_EXPONENT_MIN <= exponent < FRACTION_EXPONENT_END:
        bits = (bits & ((<uint64_t>1 << 52) - 1)) | (<uint64_t>1 << 52)
        out[0] = c'-'
        return (value < 0) + format_fraction(bits, FRACTION_EXPONENT_END - exponent, out + (value < 0))
    if isnan(value):
        name = "nan"
    elif isinf(value):
        name = "inf" if value > 0 else "-inf"
    if name == NULL:
        return <size_t>snprintf(out, DOUBLE_MAX, "%.17g", value)
    memcpy(out, name, strlen(name))
    return strlen(name)


cdef void reply_double(reply_t *self, double value) noexcept nogil:
    cdef char text[DOUBLE_MAX]
    cdef size_t size = format_double(value, text)
    if self.resp == 3:
        reply_line(self, c',', text, size)
    else:
        memcpy(reply_bulk_reserve(self, size), text, size)


cdef void reply_big_number(reply_t *self, const char *text) noexcept nogil:
    if self.resp == 3:
        reply_line(self, c'(', text, strlen(text))
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
    """Leaves room for a header of one digit, which then costs nothing to fill."""
    cdef size_t mark = self.size
    reply_reserve(self, DEFERRED_ROOM)
    self.size += DEFERRED_ROOM
    return mark


cdef size_t format_group(const reply_t *self, char kind, size_t count, char *out) noexcept nogil:
    if self.resp != 3 and kind != c'$':
        count = count * 2 if kind == c'%' else count
        kind = c'*'
    return format_header(kind, count, out)


cdef void reply_set_deferred(reply_t *self, size_t mark, char kind, size_t count) noexcept nogil:
    cdef char text[HEADER_MAX]
    cdef size_t size
    cdef size_t tail = mark + DEFERRED_ROOM
    DFLY_DCHECK(tail <= self.size, "a deferred header lies within the reply")
    size = format_group(self, kind, count, text)
    if size > DEFERRED_ROOM:
        reply_reserve(self, size - DEFERRED_ROOM)
        memmove(self.data + mark + size, self.data + tail, self.size - tail)
        self.size += size - DEFERRED_ROOM
    memcpy(self.data + mark, text, size)


# ---- Chains ------------------------------------------------------------------------------------

cdef void reply_chain_take(reply_chain_t *self, reply_t *reply, bint front) noexcept nogil:
    cdef reply_chunk_t *chunk
    if reply.size == 0:
        return
    chunk = <reply_chunk_t *>net_alloc(sizeof(reply_chunk_t))
    chunk.data = reply.data
    chunk.size = reply.size
    chunk.capacity = reply.capacity
    chunk.next = self.first if front else NULL
    if self.first == NULL:
        self.first = chunk
        self.last = chunk
    elif front:
        self.first = chunk
    else:
        self.last.next = chunk
        self.last = chunk
    self.size += chunk.size
    self.capacity += chunk.capacity
    reply.data = NULL
    reply.size = 0
    reply.capacity = 0


cdef void reply_chain_join(reply_chain_t *self, reply_chain_t *behind) noexcept nogil:
    if behind.first == NULL:
        return
    if self.first == NULL:
        self.first = behind.first
    else:
        self.last.next = behind.first
    self.last = behind.last
    self.size += behind.size
    self.capacity += behind.capacity
    memset(behind, 0, sizeof(reply_chain_t))


cdef bint reply_chain_pop(reply_chain_t *self, reply_t *out) noexcept nogil:
    cdef reply_chunk_t *chunk = self.first
    if chunk == NULL:
        return False
    self.first = chunk.next
    if self.first == NULL:
        self.last = NULL
    self.size -= chunk.size
    self.capacity -= chunk.capacity
    out.data = chunk.data
    out.size = chunk.size
    out.capacity = chunk.capacity
    net_free(chunk)
    return True


cdef void reply_chain_free(reply_chain_t *self) noexcept nogil:
    cdef reply_t part
    while reply_chain_pop(self, &part):
        net_free(part.data)


cdef void reply_chain_header(reply_chain_t *self, reply_t *reply, char kind, size_t count) noexcept nogil:
    cdef char text[HEADER_MAX]
    cdef size_t size = format_group(reply, kind, count, text)
    cdef reply_t header
    if self.first == NULL:
        reply_reserve(reply, size)
        memmove(reply.data + size, reply.data, reply.size)
        memcpy(reply.data, text, size)
        reply.size += size
        return
    reply_init(&header, reply.resp)
    reply_raw(&header, text, size)
    reply_chain_take(self, &header, True)
