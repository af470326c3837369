"""Integer sets: see intset.pxd for the format."""

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from dfly._core.sys.alloc cimport mem_alloc, mem_good_size, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, load32

__abi__ = DFLY_ABI_STAMP


cdef inline uint32_t width_of(int64_t value) noexcept nogil:
    if value == <int16_t>value:
        return 2
    return 4 if value == <int32_t>value else 8


cdef inline int64_t read(const uint8_t *self, uint32_t width, uint32_t index) noexcept nogil:
    cdef const uint8_t *p = self + INTSET_HEADER + <size_t>index * width
    cdef int16_t two
    cdef int32_t four
    cdef int64_t eight
    if width == 2:
        memcpy(&two, p, 2)
        return two
    if width == 4:
        memcpy(&four, p, 4)
        return four
    memcpy(&eight, p, 8)
    return eight


cdef inline void write(uint8_t *self, uint32_t width, uint32_t index, int64_t value) noexcept nogil:
    memcpy(self + INTSET_HEADER + <size_t>index * width, &value, width)


cdef inline void set_header(uint8_t *self, uint32_t width, uint32_t count) noexcept nogil:
    memcpy(self, &width, 4)
    memcpy(self + 4, &count, 4)


cdef uint8_t *intset_new() noexcept nogil:
    cdef uint8_t *self = <uint8_t *>mem_alloc(INTSET_HEADER + 8)
    set_header(self, 2, 0)
    return self


cdef uint8_t *intset_dup(const uint8_t *self) noexcept nogil:
    cdef size_t size = intset_bytes(self)
    cdef uint8_t *copy = <uint8_t *>mem_alloc(size)
    memcpy(copy, self, size)
    return copy


cdef inline uint32_t lower_bound(const uint8_t *self, uint32_t width, uint32_t count, int64_t value) noexcept nogil:
    """Index of the first integer that is not smaller; a constant width makes this a tight loop."""
    cdef uint32_t first = 0
    cdef uint32_t half
    while count > 0:
        half = count // 2
        if read(self, width, first + half) < value:
            first += half + 1
            count -= half + 1
        else:
            count = half
    return first


cdef uint32_t place_of(const uint8_t *self, int64_t value) noexcept nogil:
    cdef uint32_t width = intset_width(self)
    cdef uint32_t count = intset_count(self)
    # Many sets are filled in order.
    if count > 0 and read(self, width, count - 1) < value:
        return count
    if width == 2:
        return lower_bound(self, 2, count, value)
    if width == 4:
        return lower_bound(self, 4, count, value)
    return lower_bound(self, 8, count, value)


cdef int64_t intset_find(const uint8_t *self, int64_t value) noexcept nogil:
    cdef uint32_t width = intset_width(self)
    cdef uint32_t index
    if width_of(value) > width:
        return -1
    index = place_of(self, value)
    if index < intset_count(self) and read(self, width, index) == value:
        return index
    return -1


cdef int64_t intset_get(const uint8_t *self, uint32_t index) noexcept nogil:
    return read(self, intset_width(self), index)


cdef uint8_t *grown(uint8_t *self, size_t size) noexcept nogil:
    if size > mem_usable(self):
        self = <uint8_t *>mem_realloc(self, size)
    return self


cdef bint add_wider(uint8_t **self, int64_t value, uint32_t width) noexcept nogil:
    """The value fits into no narrower set, so it belongs to one of the ends."""
    cdef uint32_t old_width = intset_width(self[0])
    cdef uint32_t count = intset_count(self[0])
    cdef uint32_t shift = 1 if value < 0 else 0
    cdef uint8_t *block = grown(self[0], INTSET_HEADER + <size_t>width * (count + 1))
    cdef uint32_t i = count
    while i > 0:
        i -= 1
        write(block, width, i + shift, read(block, old_width, i))
    write(block, width, 0 if value < 0 else count, value)
    set_header(block, width, count + 1)
    self[0] = block
    return True


cdef bint intset_add(uint8_t **self, int64_t value) noexcept nogil:
    cdef uint32_t width = intset_width(self[0])
    cdef uint32_t count = intset_count(self[0])
    cdef uint32_t index
    cdef uint8_t *block
    cdef uint8_t *p
    if width_of(value) > width:
        return add_wider(self, value, width_of(value))
    index = place_of(self[0], value)
    if index < count and read(self[0], width, index) == value:
        return False
    block = grown(self[0], INTSET_HEADER + <size_t>width * (count + 1))
    p = block + INTSET_HEADER + <size_t>index * width
    memmove(p + width, p, <size_t>(count - index) * width)
    write(block, width, index, value)
    set_header(block, width, count + 1)
    self[0] = block
    return True


cdef void intset_remove_at(uint8_t **self, uint32_t index) noexcept nogil:
    cdef uint8_t *block = self[0]
    cdef uint32_t width = intset_width(block)
    cdef uint32_t count = intset_count(block) - 1
    cdef uint8_t *p = block + INTSET_HEADER + <size_t>index * width
    cdef size_t size = INTSET_HEADER + <size_t>width * count
    memmove(p, p + width, <size_t>(count - index) * width)
    set_header(block, width, count)
    # What has become much smaller goes to a smaller block.
    if mem_usable(block) > 2 * mem_good_size(size):
        self[0] = <uint8_t *>mem_realloc(block, size)


cdef bint intset_is_valid(const uint8_t *data, size_t size) noexcept nogil:
    cdef uint32_t width
    cdef uint32_t count
    cdef uint32_t i
    if size < INTSET_HEADER:
        return False
    width = load32(data)
    count = load32(data + 4)
    if (width != 2 and width != 4 and width != 8) or count == 0:
        return False
    if size != INTSET_HEADER + <uint64_t>width * count:
        return False
    for i in range(1, count):
        if read(data, width, i - 1) >= read(data, width, i):
            return False
    return True
