"""Ziplists and zipmaps: see ziplist.pxd for the formats."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.store.block_list cimport list_item_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, load32

__abi__ = DFLY_ABI_STAMP

cdef enum:
    PREVIOUS_LARGE = 254
    COUNT_UNKNOWN = 0xFFFF
    STRING_14 = 0x40
    STRING_32 = 0x80
    INT_16 = 0xC0
    INT_32 = 0xD0
    INT_64 = 0xE0
    INT_24 = 0xF0
    INT_TINY_MIN = 0xF1              # 0; up to 0xFD, 12
    INT_TINY_MAX = 0xFD
    INT_8 = 0xFE
    MAP_LARGE = 254
    MAP_END = 255

cdef struct head_t:
    uint64_t previous                # what it says of the size of the one before
    uint32_t previous_size           # bytes of that field
    uint32_t size                    # bytes of the encoding
    uint64_t data                    # bytes behind it
    bint is_text


cdef bint read_head(const uint8_t *p, uint64_t room, head_t *out) noexcept nogil:
    """Reads what stands before an entry's data; False if it does not fit the room or is of no known kind."""
    cdef uint32_t kind
    out.previous_size = 5 if room > 0 and p[0] == PREVIOUS_LARGE else 1
    if room < out.previous_size + 1:
        return False
    out.previous = load32(p + 1) if out.previous_size == 5 else p[0]
    p += out.previous_size
    room -= out.previous_size
    kind = p[0]
    out.is_text = kind < INT_16
    out.size = 1
    if kind < STRING_14:
        out.data = kind
    elif kind < STRING_32:
        out.size = 2
        if room < 2:
            return False
        out.data = (kind & 0x3F) << 8 | p[1]
    elif kind == STRING_32:
        out.size = 5
        if room < 5:
            return False
        out.data = <uint64_t>p[1] << 24 | <uint64_t>p[2] << 16 | <uint64_t>p[3] << 8 | p[4]
    elif INT_TINY_MIN <= kind <= INT_TINY_MAX:
        out.data = 0
    elif kind == INT_8:
        out.data = 1
    elif kind == INT_16:
        out.data = 2
    elif kind == INT_24:
        out.data = 3
    elif kind == INT_32:
        out.data = 4
    elif kind == INT_64:
        out.data = 8
    else:
        return False
    return room >= out.size and out.data <= room - out.size


cdef bint ziplist_is_valid(const uint8_t *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = data + ZIPLIST_HEADER
    cdef const uint8_t *end = data + size - 1
    cdef const uint8_t *last = p
    cdef uint64_t count = 0
    cdef uint64_t previous = 0
    cdef uint32_t announced
    cdef head_t head
    if size < ZIPLIST_HEADER + 1 or load32(data) != size or end[0] != ZIPLIST_END:
        return False
    announced = <uint32_t>data[8] | <uint32_t>data[9] << 8
    while p < end:
        if not read_head(p, <uint64_t>(end - p), &head) or head.previous != previous:
            return False
        last = p
        previous = head.previous_size + head.size + head.data
        p += previous
        count += 1
    return (p == end and load32(data + 4) == <uint64_t>(last - data)
            and (announced == COUNT_UNKNOWN or announced == count))


cdef inline int64_t integer_at(const uint8_t *p, uint32_t kind) noexcept nogil:
    cdef int16_t two
    cdef int32_t four
    cdef int64_t eight
    if kind == INT_8:
        return <int8_t>p[0]
    if kind == INT_16:
        memcpy(&two, p, 2)
        return two
    if kind == INT_24:
        return <int32_t>(<uint32_t>p[0] << 8 | <uint32_t>p[1] << 16 | <uint32_t>p[2] << 24) >> 8
    if kind == INT_32:
        memcpy(&four, p, 4)
        return four
    if kind == INT_64:
        memcpy(&eight, p, 8)
        return eight
    return <int64_t>kind - INT_TINY_MIN


cdef const uint8_t *ziplist_read(const uint8_t *p, list_item_t *out) noexcept nogil:
    cdef head_t head
    # It is valid, so it ends by itself.
    read_head(p, <uint64_t>-1, &head)
    p += head.previous_size
    if head.is_text:
        out.data = <const char *>p + head.size
        out.size = <uint32_t>head.data
    else:
        out.data = NULL
        out.size = 0
        out.integer = integer_at(p + 1, p[0])
    return p + head.size + head.data


# ---- Zipmaps -----------------------------------------------------------------------------------

cdef bint map_part(const uint8_t **place, const uint8_t *end, bint has_free, list_item_t *out) noexcept nogil:
    """Reads a field or value at place and steps over it, with the free bytes behind a value."""
    cdef const uint8_t *p = place[0]
    cdef uint64_t size
    cdef uint64_t free_ = 0
    if p >= end or p[0] == MAP_END:
        return False
    size = p[0]
    p += 1
    if size == MAP_LARGE:
        if end - p < 4:
            return False
        size = load32(p)
        p += 4
    if has_free:
        if p >= end:
            return False
        free_ = p[0]
        p += 1
    if size > <uint64_t>(end - p) or free_ > <uint64_t>(end - p) - size:
        return False
    out.data = <const char *>p
    out.size = <uint32_t>size
    place[0] = p + size + free_
    return True


cdef bint zipmap_is_valid(const uint8_t *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = data + 1
    cdef const uint8_t *end = data + size - 1
    cdef list_item_t item
    cdef uint64_t count = 0
    if size < 2 or end[0] != MAP_END:
        return False
    while p < end:
        if not map_part(&p, end, False, &item) or not map_part(&p, end, True, &item):
            return False
        count += 1
    return p == end and (data[0] >= MAP_LARGE or data[0] == count)


cdef const uint8_t *zipmap_read(const uint8_t *p, list_item_t *field, list_item_t *value) noexcept nogil:
    # It is valid, so it ends by itself.
    cdef const uint8_t *end = p + <uint64_t>0xFFFFFFFFFF
    map_part(&p, end, False, field)
    map_part(&p, end, True, value)
    return p
