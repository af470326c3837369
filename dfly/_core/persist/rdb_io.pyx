"""RDB primitives: see rdb_io.pxd."""

from libc.math cimport HUGE_VAL, NAN
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport strtod
from libc.string cimport memcpy, memset

from dfly._core.persist.lzf cimport LZF_RATIO_MAX, lzf_compress, lzf_decompress
from dfly._core.store.decimal_text cimport format_int64, parse_int64
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    LENGTH_6 = 0x00
    LENGTH_14 = 0x40
    LENGTH_32 = 0x80
    LENGTH_64 = 0x81
    LENGTH_SPECIAL = 0xC0
    SPECIAL_INT_8 = 0
    SPECIAL_INT_16 = 1
    SPECIAL_INT_32 = 2
    SPECIAL_LZF = 3
    INTEGER_TEXT_MAX = 11            # longer texts are no integers of 32 bits
    COMPRESS_MIN = 21                # bytes from which on Redis tries
    COMPRESS_MAX = 1048576           # and beyond which it would take too long in one go
    SKIP_MAX = 31
    BUFFER_MIN = 256
    SCORE_TEXT_NAN = 253
    SCORE_TEXT_INFINITE = 254
    SCORE_TEXT_NEGATIVE_INFINITE = 255


# ---- The writer ------------------------------------------------------------------------------

cdef void rdb_writer_init(rdb_writer_t *self, uint32_t version, bint compress, rdb_flush_t flush,
                          void *context,
                          size_t flush_bytes) noexcept nogil:
    memset(self, 0, sizeof(rdb_writer_t))
    self.version = version
    self.compress = compress
    self.flush = flush
    self.context = context
    if flush != NULL:
        self.capacity = flush_bytes
        if flush_bytes < BUFFER_MIN:
            self.capacity = BUFFER_MIN
        self.data = <char *>net_alloc(self.capacity)


cdef void rdb_writer_deinit(rdb_writer_t *self) noexcept nogil:
    net_free(self.data)
    net_free(self.scratch)
    net_free(self.packed)
    memset(self, 0, sizeof(rdb_writer_t))


cdef void rdb_flush(rdb_writer_t *self) noexcept nogil:
    if self.size > 0 and self.flush != NULL:
        if self.is_failed:
            self.size = 0
        else:
            self.flush(self)


cdef void grow(rdb_writer_t *self, size_t more) noexcept nogil:
    cdef size_t wanted = self.capacity * 2
    if wanted < self.size + more:
        wanted = self.size + more
    if wanted < BUFFER_MIN:
        wanted = BUFFER_MIN
    self.data = <char *>net_realloc(self.data, wanted)
    self.capacity = wanted


cdef void rdb_reserve(rdb_writer_t *self, size_t more) noexcept nogil:
    if self.flush == NULL and more > self.capacity - self.size:
        grow(self, more)


cdef void rdb_put(rdb_writer_t *self, const void *data, size_t size) noexcept nogil:
    cdef const char *p = <const char *>data
    cdef size_t piece
    if unlikely(size > self.capacity - self.size):
        if self.flush == NULL:
            grow(self, size)
        while size > self.capacity - self.size:
            piece = self.capacity - self.size
            memcpy(self.data + self.size, p, piece)
            self.size = self.capacity
            p += piece
            size -= piece
            rdb_flush(self)
    if likely(size > 0):
        memcpy(self.data + self.size, p, size)
        self.size += size


cdef void rdb_put_byte(rdb_writer_t *self, uint8_t byte) noexcept nogil:
    rdb_put(self, &byte, 1)


cdef int rdb_length_bytes(uint64_t length, uint8_t *out) noexcept nogil:
    cdef int bytes_ = 4
    cdef int i
    if length < 64:
        out[0] = <uint8_t>length
        return 1
    if length < 16384:
        out[0] = <uint8_t>(LENGTH_14 | length >> 8)
        out[1] = <uint8_t>length
        return 2
    out[0] = LENGTH_32
    if length > <uint64_t>0xFFFFFFFF:
        bytes_ = 8
        out[0] = LENGTH_64
    for i in range(bytes_):
        out[1 + i] = <uint8_t>(length >> (8 * (bytes_ - 1 - i)))
    return bytes_ + 1


cdef void rdb_put_length(rdb_writer_t *self, uint64_t length) noexcept nogil:
    cdef uint8_t text[RDB_LENGTH_MAX]
    rdb_put(self, text, rdb_length_bytes(length, text))


cdef bint put_small_integer(rdb_writer_t *self, int64_t value) noexcept nogil:
    cdef uint8_t text[5]
    cdef int32_t stored = <int32_t>value
    if value != stored:
        return False
    if -128 <= value <= 127:
        text[0] = LENGTH_SPECIAL | SPECIAL_INT_8
        text[1] = <uint8_t>value
        rdb_put(self, text, 2)
    elif -32768 <= value <= 32767:
        text[0] = LENGTH_SPECIAL | SPECIAL_INT_16
        memcpy(text + 1, &stored, 2)
        rdb_put(self, text, 3)
    else:
        text[0] = LENGTH_SPECIAL | SPECIAL_INT_32
        memcpy(text + 1, &stored, 4)
        rdb_put(self, text, 5)
    return True


cdef inline bint is_hopeless(rdb_writer_t *self) noexcept nogil:
    """For gives_up: the ones before did not get smaller either."""
    if self.skip == 0:
        return False
    self.skip -= 1
    return True


cdef bint put_compressed(rdb_writer_t *self, const char *data, size_t size) noexcept nogil:
    cdef size_t packed
    if self.packed_size < size:
        net_free(self.packed)
        self.packed = <char *>net_alloc(size)
        self.packed_size = size
    packed = lzf_compress(data, size, self.packed, size - 4)
    if self.gives_up:
        if packed != 0 and packed <= size - size // 8:
            self.misses = 0
        else:
            self.misses += 1
            self.skip = self.misses if self.misses < SKIP_MAX else SKIP_MAX
    if packed == 0:
        return False
    rdb_put_byte(self, LENGTH_SPECIAL | SPECIAL_LZF)
    rdb_put_length(self, packed)
    rdb_put_length(self, size)
    rdb_put(self, self.packed, packed)
    return True


cdef void rdb_put_string(rdb_writer_t *self, const char *data, size_t size) noexcept nogil:
    cdef int64_t value
    if size <= INTEGER_TEXT_MAX:
        if parse_int64(data, size, &value) and put_small_integer(self, value):
            return
    elif (size >= COMPRESS_MIN and self.compress and size <= COMPRESS_MAX and not is_hopeless(self)
            and put_compressed(self, data, size)):
        return
    rdb_put_length(self, size)
    rdb_put(self, data, size)


cdef void rdb_put_integer(rdb_writer_t *self, int64_t value) noexcept nogil:
    cdef char text[RDB_TEXT_SCRATCH]
    cdef size_t size
    if put_small_integer(self, value):
        return
    size = format_int64(value, text)
    rdb_put_length(self, size)
    rdb_put(self, text, size)


cdef void rdb_put_double(rdb_writer_t *self, double value) noexcept nogil:
    rdb_put(self, &value, sizeof(value))


cdef void rdb_put_ms(rdb_writer_t *self, int64_t ms) noexcept nogil:
    rdb_put(self, &ms, sizeof(ms))


cdef char *rdb_scratch(rdb_writer_t *self, size_t size) noexcept nogil:
    if self.scratch_size < size:
        self.scratch_size = size + size // 2
        self.scratch = <char *>net_realloc(self.scratch, self.scratch_size)
    return self.scratch


# ---- The reader ------------------------------------------------------------------------------

cdef void rdb_reader_init(rdb_reader_t *self, const char *data, size_t size, uint32_t version) noexcept nogil:
    memset(self, 0, sizeof(rdb_reader_t))
    self.data = data
    self.size = size
    self.version = version


cdef bint rdb_fail(rdb_reader_t *self, const char *reason) noexcept nogil:
    if self.error == NULL:
        self.error = reason
        self.error_position = self.position
    return False


cdef const char *rdb_get(rdb_reader_t *self, size_t size) noexcept nogil:
    cdef const char *p = self.data + self.position
    if unlikely(self.error != NULL):
        return NULL
    if unlikely(size > self.size - self.position):
        rdb_fail(self, "unexpected end")
        return NULL
    self.position += size
    return p


cdef uint8_t rdb_get_byte(rdb_reader_t *self) noexcept nogil:
    cdef const char *p = rdb_get(self, 1)
    return <uint8_t>p[0] if p != NULL else 0


cdef uint64_t get_big_endian(rdb_reader_t *self, uint32_t bytes_) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>rdb_get(self, bytes_)
    cdef uint64_t value = 0
    cdef uint32_t i
    if p == NULL:
        return 0
    for i in range(bytes_):
        value = value << 8 | p[i]
    return value


cdef uint64_t read_length(rdb_reader_t *self, int *special) noexcept nogil:
    """special becomes -1, or the encoding of the string that follows."""
    cdef uint8_t first = rdb_get_byte(self)
    special[0] = -1
    if first < LENGTH_14:
        return first
    if first < LENGTH_32:
        return <uint64_t>(first & 0x3F) << 8 | rdb_get_byte(self)
    if first == LENGTH_32:
        return get_big_endian(self, 4)
    if first == LENGTH_64:
        return get_big_endian(self, 8)
    if first >= LENGTH_SPECIAL:
        special[0] = first & 0x3F
    else:
        rdb_fail(self, "unknown kind of length")
    return 0


cdef uint64_t rdb_get_length(rdb_reader_t *self) noexcept nogil:
    cdef int special
    cdef uint64_t length = read_length(self, &special)
    if special >= 0:
        rdb_fail(self, "a special encoding where a length belongs")
        return 0
    return length


cdef uint64_t rdb_get_count(rdb_reader_t *self, size_t element_bytes) noexcept nogil:
    cdef uint64_t count = rdb_get_length(self)
    if count > (self.size - self.position) // element_bytes:
        rdb_fail(self, "more elements announced than can follow")
        return 0
    return count


cdef bint get_integer_text(rdb_reader_t *self, int special, rdb_text_t *out) noexcept nogil:
    cdef const char *p = rdb_get(self, <size_t>1 << special)
    cdef int64_t value
    cdef int16_t two
    cdef int32_t four
    if p == NULL:
        return False
    if special == SPECIAL_INT_8:
        value = <int8_t>p[0]
    elif special == SPECIAL_INT_16:
        memcpy(&two, p, 2)
        value = two
    else:
        memcpy(&four, p, 4)
        value = four
    out.size = format_int64(value, out.scratch)
    out.data = out.scratch
    return True


cdef bint get_compressed(rdb_reader_t *self, rdb_text_t *out) noexcept nogil:
    cdef uint64_t packed = rdb_get_length(self)
    cdef uint64_t size = rdb_get_length(self)
    cdef const char *p
    if self.error != NULL:
        return False
    p = rdb_get(self, packed)
    if p == NULL:
        return False
    if size == 0 or size > RDB_STRING_MAX or size // LZF_RATIO_MAX > packed:
        return rdb_fail(self, "a compressed string of an impossible size")
    out.owned = <char *>net_alloc(size)
    out.data = out.owned
    out.size = size
    if lzf_decompress(p, packed, out.owned, size):
        return True
    rdb_text_free(out)
    return rdb_fail(self, "a compressed string that is broken")


cdef bint rdb_get_string(rdb_reader_t *self, rdb_text_t *out) noexcept nogil:
    cdef int special
    cdef uint64_t length = read_length(self, &special)
    out.owned = NULL
    out.data = NULL
    out.size = 0
    if self.error != NULL:
        return False
    if special < 0:
        if length > RDB_STRING_MAX:
            return rdb_fail(self, "a string of an impossible size")
        out.data = rdb_get(self, length)
        out.size = length
        return out.data != NULL
    if special <= SPECIAL_INT_32:
        return get_integer_text(self, special, out)
    if special == SPECIAL_LZF:
        return get_compressed(self, out)
    return rdb_fail(self, "unknown encoding of a string")


cdef bint rdb_skip_string(rdb_reader_t *self) noexcept nogil:
    cdef int special
    cdef uint64_t length = read_length(self, &special)
    if special == SPECIAL_LZF:
        length = rdb_get_length(self)
        rdb_get_length(self)
    elif special >= 0:
        if special > SPECIAL_INT_32:
            return rdb_fail(self, "unknown encoding of a string")
        length = <uint64_t>1 << special
    return rdb_get(self, length) != NULL


cdef void rdb_text_free(rdb_text_t *self) noexcept nogil:
    net_free(self.owned)
    self.owned = NULL


cdef double rdb_get_double(rdb_reader_t *self) noexcept nogil:
    cdef const char *p = rdb_get(self, 8)
    cdef double value = 0
    if p != NULL:
        memcpy(&value, p, 8)
    return value


cdef double rdb_get_double_text(rdb_reader_t *self) noexcept nogil:
    cdef uint32_t size = rdb_get_byte(self)
    cdef char text[256]
    cdef char *end = NULL
    cdef const char *p
    cdef double value
    if size == SCORE_TEXT_NAN:
        return NAN
    if size >= SCORE_TEXT_INFINITE:
        return HUGE_VAL if size == SCORE_TEXT_INFINITE else -HUGE_VAL
    p = rdb_get(self, size)
    if p == NULL:
        return 0
    memcpy(text, p, size)
    text[size] = 0
    value = strtod(text, &end)
    if size == 0 or end != text + size:
        rdb_fail(self, "a score that is no number")
    return value


cdef int64_t rdb_get_ms(rdb_reader_t *self) noexcept nogil:
    cdef const char *p = rdb_get(self, 8)
    cdef int64_t value = 0
    if p != NULL:
        memcpy(&value, p, 8)
    return value
