"""Listpacks: see listpack.pxd for the format."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from dfly._core.store.block_list cimport list_item_equals, list_item_t
from dfly._core.store.decimal_text cimport parse_int64
from dfly._core.sys.alloc cimport mem_alloc, mem_good_size, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, load32, load64, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    INTEGER_TEXT_MAX = 20
    # Encoding bytes. Below 128: an integer of 7 bits; 128..191: a string of up to 63 bytes; 192..223: an
    # integer of 13 bits; 224..239: a string of up to 4095 bytes.
    STRING_6 = 0x80
    INT_13 = 0xC0
    STRING_12 = 0xE0
    STRING_32 = 0xF0
    INT_16 = 0xF1
    INT_24 = 0xF2
    INT_32 = 0xF3
    INT_64 = 0xF4
    HEAD_MAX = 9                     # encoding with an integer's data, or with a string's size
    UNROLLED = 4                     # elements a turn of the search
    TAIL_MAX = 5
    NO_HEAD = 0x100                  # equal to no encoding byte

cdef struct piece_t:
    # An element about to be written: head, then text, then tail.
    uint8_t head[HEAD_MAX]
    uint8_t tail[TAIL_MAX]
    uint32_t head_size
    uint32_t tail_size
    const char *text
    size_t text_size


# ---- Reading -----------------------------------------------------------------------------------

cdef inline uint32_t tail_size_of(uint64_t body) noexcept nogil:
    """Bytes that say, behind the body, how long it is: seven bits each."""
    if likely(body <= 127):
        return 1
    if body < 16383:
        return 2
    if body < 2097151:
        return 3
    return 4 if body < 268435455 else 5


cdef inline uint64_t body_size(const uint8_t *p) noexcept nogil:
    """Bytes of encoding and data of the element at p."""
    cdef uint32_t kind = p[0]
    if kind < STRING_6:
        return 1
    if kind < INT_13:
        return 1 + (kind & 0x3F)
    if kind < STRING_12:
        return 2
    if kind < STRING_32:
        return 2 + ((kind & 0xF) << 8 | p[1])
    if kind == STRING_32:
        return 5 + <uint64_t>load32(p + 1)
    if kind == INT_16:
        return 3
    if kind == INT_24:
        return 4
    if kind == INT_32:
        return 5
    return 9


cdef inline const uint8_t *after(const uint8_t *p) noexcept nogil:
    cdef uint64_t body = body_size(p)
    return p + body + tail_size_of(body)


cdef inline uint32_t count_field(const uint8_t *self) noexcept nogil:
    return <uint32_t>self[4] | <uint32_t>self[5] << 8


cdef uint64_t listpack_count(const uint8_t *self) noexcept nogil:
    cdef uint64_t count = count_field(self)
    cdef const uint8_t *p
    if likely(count != LISTPACK_COUNT_UNKNOWN):
        return count
    count = 0
    p = self + LISTPACK_HEADER
    while p[0] != LISTPACK_END:
        p = after(p)
        count += 1
    return count


cdef const uint8_t *listpack_first(const uint8_t *self) noexcept nogil:
    return self + LISTPACK_HEADER if self[LISTPACK_HEADER] != LISTPACK_END else NULL


cdef const uint8_t *listpack_last(const uint8_t *self) noexcept nogil:
    return listpack_previous(self, self + listpack_bytes(self) - 1)


cdef const uint8_t *listpack_next(const uint8_t *p) noexcept nogil:
    p = after(p)
    return p if p[0] != LISTPACK_END else NULL


cdef const uint8_t *listpack_previous(const uint8_t *self, const uint8_t *p) noexcept nogil:
    cdef uint64_t body = 0
    cdef uint32_t shift = 0
    cdef const uint8_t *tail = p - 1
    if p == self + LISTPACK_HEADER:
        return NULL
    while True:
        body |= <uint64_t>(tail[0] & 127) << shift
        if tail[0] & 128 == 0:
            break
        shift += 7
        tail -= 1
    return p - body - tail_size_of(body)


cdef const uint8_t *listpack_seek(const uint8_t *self, int64_t index) noexcept nogil:
    cdef const uint8_t *p
    cdef int64_t count = <int64_t>count_field(self)
    # From whichever end is nearer, if that is known.
    if count != LISTPACK_COUNT_UNKNOWN:
        if index >= count or index < -count:
            return NULL
        if index > count // 2:
            index -= count
        elif index < 0 and -index > count // 2:
            index += count
    if index >= 0:
        p = listpack_first(self)
        while p != NULL and index > 0:
            p = listpack_next(p)
            index -= 1
    else:
        p = listpack_last(self)
        while p != NULL and index < -1:
            p = listpack_previous(self, p)
            index += 1
    return p


cdef inline int64_t read_integer(const uint8_t *p) noexcept nogil:
    cdef uint32_t kind = p[0]
    cdef int16_t two
    cdef int32_t four
    cdef int64_t eight
    if kind < STRING_6:
        return kind
    if kind < STRING_12:
        # Thirteen bits, the sign is the topmost.
        return <int32_t>(((kind & 0x1F) << 8 | p[1]) << 19) >> 19
    if kind == INT_16:
        memcpy(&two, p + 1, 2)
        return two
    if kind == INT_24:
        return <int32_t>(<uint32_t>p[1] << 8 | <uint32_t>p[2] << 16 | <uint32_t>p[3] << 24) >> 8
    if kind == INT_32:
        memcpy(&four, p + 1, 4)
        return four
    memcpy(&eight, p + 1, 8)
    return eight


cdef const uint8_t *listpack_read(const uint8_t *p, list_item_t *out) noexcept nogil:
    cdef uint32_t kind = p[0]
    cdef uint64_t body
    if STRING_6 <= kind < INT_13:
        out.size = kind & 0x3F
        out.data = <const char *>p + 1
        body = out.size + 1
        return p + body + 1
    body = body_size(p)
    if STRING_12 <= kind <= STRING_32:
        out.size = <uint32_t>(body - (5 if kind == STRING_32 else 2))
        out.data = <const char *>p + (body - out.size)
    else:
        out.data = NULL
        out.size = 0
        out.integer = read_integer(p)
    return p + body + tail_size_of(body)


cdef inline const uint8_t *step_over(const uint8_t *p) noexcept nogil:
    """As `after`, with the commonest case first."""
    cdef uint32_t kind = p[0]
    if likely(STRING_6 <= kind < INT_13):
        return p + (kind & 0x3F) + 2
    if kind < STRING_6:
        return p + 2
    return after(p)


cdef inline const uint8_t *step_alike(const uint8_t *p, uint32_t *head, size_t *stride) noexcept nogil:
    """As step_over; an element that begins as the last one did is as long, which is known without reading on: the
    processor foresees that and need not wait for one element to find the next."""
    if likely(p[0] == head[0]):
        return p + stride[0]
    head[0] = p[0]
    if head[0] < STRING_6:
        stride[0] = 2
    elif head[0] < INT_13:
        stride[0] = (head[0] & 0x3F) + 2
    else:
        head[0] = NO_HEAD
        return after(p)
    return p + stride[0]


cdef inline bint begins_alike(const uint8_t *p, const char *text, uint32_t size) noexcept nogil:
    """Of two texts of 8 bytes and more whose last 8 are equal."""
    if size <= 16:
        return load64(p) == load64(text)
    return memcmp(p, text, size - 8) == 0


cdef const uint8_t *find_short(const uint8_t *p, const char *text, uint32_t size, uint32_t skip) noexcept nogil:
    """listpack_find for a text of 1 to 63 bytes: one comparison of heads and last bytes tells nearly always."""
    cdef uint32_t head = STRING_6 | size
    cdef uint32_t shift = 8 * (8 - size) if size < 8 else 0
    cdef uint64_t wanted = 0
    cdef uint32_t skipped_head = NO_HEAD
    cdef size_t skipped_stride = 0
    cdef uint32_t _i
    memcpy(<char *>&wanted, text + (size - 8 if size > 8 else 0), 8 if size > 8 else size)
    if skip == 0:
        # Members of a set are often of one size: such a run takes two comparisons an element.
        while True:
            if likely(size >= 8):
                for _i in range(UNROLLED):
                    if unlikely(p[0] != head):
                        break
                    if unlikely(load64(p + 1 + size - 8) == wanted) and begins_alike(p + 1, text, size):
                        return p
                    p += size + 2
                else:
                    continue
            else:
                while p[0] == head:
                    if unlikely(load64(p + 1 + size - 8) >> shift == wanted):
                        return p
                    p += size + 2
            if p[0] == LISTPACK_END:
                return NULL
            p = step_over(p)
    while p[0] != LISTPACK_END:
        if p[0] == head:
            # The eight bytes that end with the text's last lie in the block, since its header is before them.
            if load64(p + 1 + size - 8) >> shift == wanted:
                if size <= 8 or memcmp(p + 1, text, size - 8) == 0:
                    return p
            p += size + 2
        else:
            p = step_over(p)
        for _i in range(skip):
            if unlikely(p[0] == LISTPACK_END):
                return NULL
            p = step_alike(p, &skipped_head, &skipped_stride)
    return NULL


cdef const uint8_t *listpack_find(const uint8_t *p, const list_item_t *needle, uint32_t skip) noexcept nogil:
    cdef list_item_t item
    cdef const uint8_t *following
    cdef uint32_t _i
    if p == NULL:
        return NULL
    if likely(needle.data != NULL and 0 < needle.size < 64):
        return find_short(p, needle.data, needle.size, skip)
    while p[0] != LISTPACK_END:
        following = listpack_read(p, &item)
        if list_item_equals(&item, needle):
            return p
        p = following
        for _i in range(skip):
            if p[0] == LISTPACK_END:
                return NULL
            p = step_over(p)
    return NULL


# ---- Elements about to be written --------------------------------------------------------------

cdef inline void finish_piece(piece_t *self) noexcept nogil:
    cdef uint64_t body = self.head_size + self.text_size
    cdef uint32_t size = tail_size_of(body)
    cdef uint32_t i
    self.tail_size = size
    for i in range(size):
        # The last byte holds the lowest seven bits; all but the first say that more stand before them.
        self.tail[i] = <uint8_t>((body >> (7 * (size - 1 - i))) & 127) | (128 if i > 0 else 0)


cdef void prepare_integer(piece_t *self, int64_t value) noexcept nogil:
    cdef int width
    self.text = NULL
    self.text_size = 0
    if 0 <= value <= 127:
        self.head[0] = <uint8_t>value
        self.head_size = 1
    elif -4096 <= value <= 4095:
        self.head[0] = <uint8_t>(INT_13 | ((value >> 8) & 0x1F))
        self.head[1] = <uint8_t>(value & 0xFF)
        self.head_size = 2
    else:
        if -32768 <= value <= 32767:
            self.head[0] = INT_16
            width = 2
        elif -8388608 <= value <= 8388607:
            self.head[0] = INT_24
            width = 3
        elif -2147483648LL <= value <= 2147483647LL:
            self.head[0] = INT_32
            width = 4
        else:
            self.head[0] = INT_64
            width = 8
        memcpy(&self.head[1], &value, width)
        self.head_size = 1 + width
    finish_piece(self)


cdef void prepare_text(piece_t *self, const char *data, size_t size) noexcept nogil:
    cdef int64_t value
    cdef uint32_t stored
    if 0 < size <= INTEGER_TEXT_MAX and (<uint8_t>(data[0] - c'0') <= 9 or data[0] == c'-') \
            and parse_int64(data, size, &value):
        prepare_integer(self, value)
        return
    self.text = data
    self.text_size = size
    if likely(size < 64):
        self.head[0] = <uint8_t>(STRING_6 | size)
        self.head_size = 1
    elif size < 4096:
        self.head[0] = <uint8_t>(STRING_12 | (size >> 8))
        self.head[1] = <uint8_t>(size & 0xFF)
        self.head_size = 2
    else:
        stored = <uint32_t>size
        self.head[0] = STRING_32
        memcpy(&self.head[1], &stored, 4)
        self.head_size = 5
    finish_piece(self)


cdef inline size_t piece_size(const piece_t *self) noexcept nogil:
    return self.head_size + self.text_size + self.tail_size


cdef void write_piece(uint8_t *p, const piece_t *self) noexcept nogil:
    memcpy(p, self.head, self.head_size)
    p += self.head_size
    if self.text_size > 0:
        memcpy(p, self.text, self.text_size)
        p += self.text_size
    memcpy(p, self.tail, self.tail_size)


cdef size_t listpack_element_size(const char *data, size_t size) noexcept nogil:
    cdef piece_t piece
    prepare_text(&piece, data, size)
    return piece_size(&piece)


# ---- Changing ----------------------------------------------------------------------------------

cdef inline void set_total(uint8_t *self, size_t total) noexcept nogil:
    cdef uint32_t stored = <uint32_t>total
    DFLY_CHECK(total <= LISTPACK_BYTES_MAX, "a listpack grew out of all bounds")
    memcpy(self, &stored, 4)


cdef inline void set_count(uint8_t *self, uint64_t count) noexcept nogil:
    if count > LISTPACK_COUNT_UNKNOWN:
        count = LISTPACK_COUNT_UNKNOWN
    self[4] = <uint8_t>(count & 0xFF)
    self[5] = <uint8_t>(count >> 8)


cdef void add_to_count(uint8_t *self, int64_t change) noexcept nogil:
    cdef uint32_t count = count_field(self)
    if unlikely(count == LISTPACK_COUNT_UNKNOWN):
        # Removing may bring it back into the field's range.
        if change < 0:
            set_count(self, listpack_count(self))
        return
    set_count(self, <uint64_t>(<int64_t>count + change))


cdef uint8_t *listpack_new(size_t room) noexcept nogil:
    cdef uint8_t *self = <uint8_t *>mem_alloc(LISTPACK_HEADER + 1 + room)
    set_total(self, LISTPACK_HEADER + 1)
    set_count(self, 0)
    self[LISTPACK_HEADER] = LISTPACK_END
    return self


cdef uint8_t *listpack_dup(const uint8_t *self) noexcept nogil:
    cdef size_t size = listpack_bytes(self)
    cdef uint8_t *copy = <uint8_t *>mem_alloc(size)
    memcpy(copy, self, size)
    return copy


cdef uint8_t *splice(uint8_t **self, size_t offset, size_t old, size_t new) noexcept nogil:
    """Makes `new` bytes of room where `old` were; where they begin."""
    cdef size_t total = listpack_bytes(self[0])
    cdef size_t wanted = total - old + new
    cdef uint8_t *block = self[0]
    if wanted > total and wanted > mem_usable(block):
        block = <uint8_t *>mem_realloc(block, wanted)
        self[0] = block
    if old != new:
        memmove(block + offset + new, block + offset + old, total - offset - old)
        set_total(block, wanted)
        # What has become much smaller goes to a smaller block.
        if wanted < total and mem_usable(block) > 2 * mem_good_size(wanted):
            block = <uint8_t *>mem_realloc(block, wanted)
            self[0] = block
    return block + offset


cdef const uint8_t *insert_piece(uint8_t **self, const uint8_t *before, const piece_t *piece) noexcept nogil:
    cdef size_t offset = listpack_bytes(self[0]) - 1 if before == NULL else <size_t>(before - self[0])
    cdef uint8_t *p = splice(self, offset, 0, piece_size(piece))
    write_piece(p, piece)
    add_to_count(self[0], 1)
    return p


cdef const uint8_t *replace_piece(uint8_t **self, const uint8_t *at, const piece_t *piece) noexcept nogil:
    cdef uint8_t *p = splice(self, at - self[0], after(at) - at, piece_size(piece))
    write_piece(p, piece)
    return p


cdef const uint8_t *listpack_insert(uint8_t **self, const uint8_t *before, const char *data,
                                    size_t size) noexcept nogil:
    cdef piece_t piece
    prepare_text(&piece, data, size)
    return insert_piece(self, before, &piece)


cdef const uint8_t *listpack_insert_int(uint8_t **self, const uint8_t *before, int64_t value) noexcept nogil:
    cdef piece_t piece
    prepare_integer(&piece, value)
    return insert_piece(self, before, &piece)


cdef const uint8_t *listpack_replace(uint8_t **self, const uint8_t *p, const char *data,
                                     size_t size) noexcept nogil:
    cdef piece_t piece
    prepare_text(&piece, data, size)
    return replace_piece(self, p, &piece)


cdef const uint8_t *listpack_replace_int(uint8_t **self, const uint8_t *p, int64_t value) noexcept nogil:
    cdef piece_t piece
    prepare_integer(&piece, value)
    return replace_piece(self, p, &piece)


cdef const uint8_t *listpack_delete(uint8_t **self, const uint8_t *p, uint64_t count) noexcept nogil:
    cdef const uint8_t *end = p
    cdef const uint8_t *following
    cdef int64_t removed = 0
    while <uint64_t>removed < count and end[0] != LISTPACK_END:
        end = after(end)
        removed += 1
    following = splice(self, p - self[0], end - p, 0)
    add_to_count(self[0], -removed)
    return following if following[0] != LISTPACK_END else NULL


# ---- Many elements at once ---------------------------------------------------------------------

cdef uint8_t *listpack_put(uint8_t *p, const char *data, size_t size) noexcept nogil:
    cdef piece_t piece
    prepare_text(&piece, data, size)
    write_piece(p, &piece)
    return p + piece_size(&piece)


cdef uint8_t *listpack_put_int(uint8_t *p, int64_t value) noexcept nogil:
    cdef piece_t piece
    if likely(0 <= value <= 127):
        p[0] = <uint8_t>value
        p[1] = 1
        return p + 2
    prepare_integer(&piece, value)
    write_piece(p, &piece)
    return p + piece_size(&piece)


cdef uint8_t *listpack_write(uint8_t *p, const list_item_t *item) noexcept nogil:
    return listpack_put(p, item.data, item.size) if item.data != NULL else listpack_put_int(p, item.integer)


cdef void listpack_seal(uint8_t *self, uint8_t *end, uint64_t added) noexcept nogil:
    end[0] = LISTPACK_END
    set_total(self, <size_t>(end + 1 - self))
    if count_field(self) != LISTPACK_COUNT_UNKNOWN:
        set_count(self, count_field(self) + added)


cdef void listpack_write_ends(uint8_t *self, uint8_t *end, uint64_t count) noexcept nogil:
    end[0] = LISTPACK_END
    set_total(self, <size_t>(end + 1 - self))
    set_count(self, count)


# ---- Foreign bytes -----------------------------------------------------------------------------

cdef inline bint head_fits(const uint8_t *p, uint64_t room) noexcept nogil:
    """Are the bytes that say the element's size there, and is the encoding a known one?"""
    cdef uint32_t kind = p[0]
    if kind == STRING_32:
        return room >= 5
    return room >= 2 if kind < STRING_32 else kind <= INT_64


cdef bint listpack_is_valid(const uint8_t *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = data + LISTPACK_HEADER
    cdef const uint8_t *end = data + size - 1
    cdef piece_t piece
    cdef uint64_t count = 0
    cdef uint64_t body
    if (size < LISTPACK_HEADER + 1 or size > LISTPACK_BYTES_MAX or load32(data) != size
            or end[0] != LISTPACK_END):
        return False
    while p < end:
        if not head_fits(p, <uint64_t>(end - p)):
            return False
        body = body_size(p)
        if body + tail_size_of(body) > <uint64_t>(end - p):
            return False
        # Its size once more, from the back.
        piece.head_size = 0
        piece.text_size = body
        finish_piece(&piece)
        if not same_tail(p + body, &piece):
            return False
        p += body + piece.tail_size
        count += 1
    return p == end and (count_field(data) == LISTPACK_COUNT_UNKNOWN or count_field(data) == count)


cdef bint same_tail(const uint8_t *p, const piece_t *piece) noexcept nogil:
    cdef uint32_t i
    for i in range(piece.tail_size):
        if p[i] != piece.tail[i]:
            return False
    return True
