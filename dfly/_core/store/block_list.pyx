"""Lists of packed blocks: see block_list.pxd for the layout.

Invariants: no block is empty; a root without the low bit is the only block; a directory holds at least two
blocks; the counts in its slots are those of their blocks, and their sum is its own count.

Free room of a block goes where pushes come from: a block that grows gets all of it on the pushing side,
and only a block that has its full size and at least an eighth of it free is shifted. So blocks filled
from one end are filled completely, and a queue through one block costs a shift every few dozen pushes.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from dfly._core.store.decimal_text cimport format_int64, parse_int64
from dfly._core.store.list_blocks cimport (TOUCHED, area, directory_of, directory_t, enter_block, has_directory,
                                           is_packed, new_block, new_directory, new_plain_block, set_directory, slot_t,
                                           slots_of)
from dfly._core.store.list_walk cimport before_change, before_change_at, free_block, list_walk_of, list_walk_step
from dfly._core.store.list_whole cimport list_block_count, list_data_bytes, list_dup, list_heap_bytes
from dfly._core.store.object cimport (TYPE_LIST, container_ops_t, object_pointer, object_register_container,
                                      object_root, object_t)
from dfly._core.sys.alloc cimport mem_free, mem_good_size, mem_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, clz64, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    PACKED_SIZE_MAX = 65000      # sizes and their sums with a header fit 16 bits
    BLOCK_BYTES = 8192
    SHRINK_MIN = 96              # capacity below which a block is not worth shrinking
    DIRECTORY_MIN = 4
    INTEGER_TEXT_MAX = 20

cdef struct piece_t:
    # An element about to be written.
    const char *data
    int64_t integer
    uint64_t total               # bytes it takes in a packed block
    uint32_t size
    bint is_integer


# ---- Elements --------------------------------------------------------------------------------

cdef inline bint looks_like_integer(const char *data, size_t size) noexcept nogil:
    return 0 < size <= INTEGER_TEXT_MAX and (<uint8_t>(data[0] - c'0') <= 9 or data[0] == c'-')


cdef inline uint32_t integer_width(int64_t value) noexcept nogil:
    """Bytes of the two's complement: a sign bit and what differs from it."""
    return <uint32_t>(72 - clz64(<uint64_t>(value ^ (value >> 63)) | 1)) >> 3


cdef inline void prepare_piece(piece_t *self, const char *data, size_t size) noexcept nogil:
    self.data = data
    self.size = <uint32_t>size
    self.is_integer = looks_like_integer(data, size) and parse_int64(data, size, &self.integer)
    if self.is_integer:
        self.total = 1 if <uint64_t>self.integer < ELEMENT_TINY else integer_width(self.integer) + 2
    elif size <= ELEMENT_SHORT_MAX:
        self.total = size + 2
    else:
        self.total = size + 3 + (1 if size + 3 <= ELEMENT_BACK_MAX else 3)


cdef inline bint piece_is_large(const piece_t *self, const list_limits_t *limits) noexcept nogil:
    return self.total + sizeof(block_t) > limits.bytes or self.size > PACKED_SIZE_MAX


cdef inline void write_piece(char *p, const piece_t *self) noexcept nogil:
    """Writes self.total bytes at p."""
    cdef uint32_t width
    if not self.is_integer:
        if likely(self.size <= ELEMENT_SHORT_MAX):
            p[0] = <char>self.size
            memcpy(p + 1, self.data, self.size)
            p[1 + self.size] = <char>(self.size + 1)
            return
        p[0] = ELEMENT_LONG
        p[1] = <char>(self.size & 0xFF)
        p[2] = <char>(self.size >> 8)
        memcpy(p + 3, self.data, self.size)
        write_back(p + 3 + self.size, self.size + 3)
    elif self.total == 1:
        p[0] = <char>(ELEMENT_TINY + self.integer)
    else:
        width = <uint32_t>self.total - 2
        p[0] = <char>(ELEMENT_INT + width)
        memcpy(p + 1, &self.integer, width)
        p[1 + width] = <char>(width + 1)


cdef inline void write_back(char *p, uint32_t size) noexcept nogil:
    if size <= ELEMENT_BACK_MAX:
        p[0] = <char>size
    else:
        p[0] = <char>(size & 0xFF)
        p[1] = <char>(size >> 8)
        p[2] = ELEMENT_BACK_LONG


cdef void list_needle(const char *data, size_t size, list_item_t *out) noexcept nogil:
    out.data = data
    out.size = <uint32_t>size
    if looks_like_integer(data, size) and parse_int64(data, size, &out.integer):
        out.data = NULL


cdef inline bint items_equal(const list_item_t *a, const list_item_t *b) noexcept nogil:
    if a.data == NULL or b.data == NULL:
        # Canonical integers are kept as integers wherever they are packed.
        return a.data == b.data and a.integer == b.integer
    return a.size == b.size and memcmp(a.data, b.data, a.size) == 0


cdef bint list_item_equals(const list_item_t *self, const list_item_t *needle) noexcept nogil:
    return items_equal(self, needle)


cdef slice_t list_item_text(const list_item_t *self, char *scratch) noexcept nogil:
    cdef slice_t text
    text.data = self.data
    text.size = self.size
    if self.data == NULL:
        text.data = scratch
        text.size = format_int64(self.integer, scratch)
    return text


cdef list_limits_t list_limits(int64_t setting) noexcept nogil:
    cdef list_limits_t limits
    limits.bytes = BLOCK_BYTES
    limits.count = BLOCK_PLAIN
    if setting >= 0:
        limits.count = 1 if setting == 0 else (<uint32_t>setting if setting < 65536 else 65536)
    else:
        limits.bytes = <uint32_t>4096 << ((-setting if setting > -5 else 5) - 1)
    return limits


# ---- Blocks ----------------------------------------------------------------------------------

cdef block_t *block_of_piece(const piece_t *piece, uint32_t wanted, bint front,
                             const list_limits_t *limits) noexcept nogil:
    """A new block with one element. Its free room is before the element (front) or behind it."""
    cdef block_t *self
    if piece_is_large(piece, limits):
        return new_plain_block(piece.data, piece.size)
    self = new_block(<uint32_t>piece.total, wanted, limits.bytes)
    if front:
        self.begin = self.capacity - <uint32_t>piece.total
    self.end = self.begin + <uint32_t>piece.total
    self.count = 1
    write_piece(area(self) + self.begin, piece)
    return self


cdef inline uint32_t grown(uint32_t bytes_) noexcept nogil:
    return bytes_ + (bytes_ >> 2 if bytes_ < 256 else bytes_ >> 1 if bytes_ < 1024 else bytes_)


cdef void grow_block(block_t **place, bint front, uint32_t need, uint32_t limit) noexcept nogil:
    """A larger block in its place, all free room on one side."""
    cdef block_t *self = place[0]
    cdef uint32_t used = self.end - self.begin
    cdef block_t *larger = new_block(used + need, grown(used + need), limit)
    if front:
        larger.begin = larger.capacity - used
    larger.end = larger.begin + used
    larger.count = self.count
    memcpy(area(larger) + larger.begin, area(self) + self.begin, used)
    mem_free(self)
    place[0] = larger


cdef void shift_block(block_t *self, bint front) noexcept nogil:
    """Moves the elements so that three quarters of the free room are on the wanted side."""
    cdef uint32_t used = self.end - self.begin
    cdef uint32_t free_ = self.capacity - used
    cdef uint32_t begin = free_ - free_ // 4 if front else free_ // 4
    memmove(area(self) + begin, area(self) + self.begin, used)
    self.begin = begin
    self.end = begin + used


cdef bint make_room(block_t **place, bint front, uint32_t need, uint32_t limit) noexcept nogil:
    """Room for `need` bytes at one end of a packed block, which may move; False if it is full."""
    cdef block_t *self = place[0]
    cdef uint32_t used = self.end - self.begin
    cdef uint32_t free_ = self.capacity - used
    if (self.begin if front else self.capacity - self.end) >= need:
        return True
    # A quarter of the free room goes to the other side.
    if free_ - free_ // 4 >= need and free_ >= self.capacity // 8:
        shift_block(self, front)
        return True
    if sizeof(block_t) + self.capacity >= limit or sizeof(block_t) + used + need > limit:
        return False
    grow_block(place, front, need, limit)
    return True


cdef bint push_packed(block_t **place, const piece_t *piece, bint front,
                      const list_limits_t *limits) noexcept nogil:
    """Adds an element at an end of the block; False if it does not take it."""
    cdef block_t *self = place[0]
    cdef uint32_t need = <uint32_t>piece.total
    if unlikely(not is_packed(self) or self.count >= limits.count):
        return False
    if front:
        if unlikely(self.begin < need):
            if not make_room(place, front, need, limits.bytes):
                return False
            self = place[0]
        self.begin -= need
        write_piece(area(self) + self.begin, piece)
    else:
        if unlikely(self.capacity - self.end < need):
            if not make_room(place, front, need, limits.bytes):
                return False
            self = place[0]
        write_piece(area(self) + self.end, piece)
        self.end += need
    self.count += 1
    return True


cdef char *open_gap(block_t **place, uint32_t offset, uint32_t need, uint32_t limit) noexcept nogil:
    """`need` bytes before the element at offset of a packed block, which may move; NULL if it is full."""
    cdef block_t *self = place[0]
    cdef block_t *larger
    cdef char *data = area(self)
    cdef uint32_t before = offset - self.begin
    cdef uint32_t behind = self.end - offset
    cdef uint32_t room_behind = self.capacity - self.end
    if room_behind >= need and (behind <= before or self.begin < need):
        memmove(data + offset + need, data + offset, behind)
        self.end += need
        return data + offset
    if self.begin >= need:
        memmove(data + self.begin - need, data + self.begin, before)
        self.begin -= need
        return data + offset - need
    if self.begin + room_behind >= need:
        memmove(data, data + self.begin, before)
        memmove(data + before + need, data + offset, behind)
        self.begin = 0
        self.end = before + need + behind
        return data + before
    if sizeof(block_t) + before + behind + need > limit:
        return NULL
    larger = new_block(before + behind + need, grown(before + behind + need), limit)
    memcpy(area(larger), data + self.begin, before)
    memcpy(area(larger) + before + need, data + offset, behind)
    larger.end = before + need + behind
    larger.count = self.count
    mem_free(self)
    place[0] = larger
    return area(larger) + before


cdef void close_gap(block_t *self, uint32_t offset, uint32_t size) noexcept nogil:
    """Takes bytes out of a packed block; what is behind them moves to their place."""
    memmove(area(self) + offset, area(self) + offset + size, self.end - offset - size)
    self.end -= size


cdef void cut_block(block_t *self, uint32_t count, bint front) noexcept nogil:
    """Drops elements at one end; fewer than it has, so it is packed."""
    cdef list_item_t item
    cdef const char *p = area(self) + (self.begin if front else self.end)
    self.count -= count
    while count > 0:
        p = element_read(p, &item) if front else element_before(p)
        count -= 1
    if front:
        self.begin = <uint32_t>(p - area(self))
    else:
        self.end = <uint32_t>(p - area(self))


cdef void shrink_block(block_t **place) noexcept nogil:
    """Gives room back when three quarters are free."""
    cdef block_t *self = place[0]
    cdef uint32_t used = self.end - self.begin
    cdef size_t total
    if self.capacity <= SHRINK_MIN or not is_packed(self) or used > self.capacity // 4:
        return
    memmove(area(self), area(self) + self.begin, used)
    self.begin = 0
    self.end = used
    total = mem_good_size(sizeof(block_t) + grown(used))
    if total < sizeof(block_t) + self.capacity:
        self.capacity = <uint32_t>(total - sizeof(block_t))
        place[0] = <block_t *>mem_realloc(self, total)


# ---- The directory ---------------------------------------------------------------------------

cdef inline block_t **place_of(block_list_t *self, uint32_t slot) noexcept nogil:
    if has_directory(self[0]):
        return &slots_of(directory_of(self[0]))[slot].block
    return <block_t **>self


cdef inline void add_to_count(block_list_t *self, uint32_t slot, int delta) noexcept nogil:
    """The block in a slot has gained or lost elements."""
    cdef directory_t *directory
    if has_directory(self[0]):
        directory = directory_of(self[0])
        directory.count += delta
        slots_of(directory)[slot].count += delta


cdef void ensure_directory(block_list_t *self) noexcept nogil:
    cdef directory_t *directory
    cdef slot_t *slot
    cdef block_t *block
    if has_directory(self[0]):
        return
    block = <block_t *>self[0]
    directory = new_directory(DIRECTORY_MIN)
    directory.first = 1
    directory.size = 1
    directory.count = block.count
    slot = slots_of(directory)
    slot.block = block
    slot.count = block.count
    slot.mark = 0
    set_directory(self, directory)


cdef void place_directory(block_list_t *self, uint32_t capacity, uint32_t first) noexcept nogil:
    """Changes its capacity, or only where in it the slots lie."""
    cdef directory_t *directory = directory_of(self[0])
    cdef directory_t *other
    if capacity == directory.capacity:
        memmove(<slot_t *>(directory + 1) + first, slots_of(directory), directory.size * sizeof(slot_t))
        directory.first = first
        return
    other = new_directory(capacity)
    other.count = directory.count
    other.size = directory.size
    other.first = first
    memcpy(slots_of(other), slots_of(directory), directory.size * sizeof(slot_t))
    other.walk = directory.walk
    if unlikely(other.walk != NULL):
        other.walk.directory = other
    mem_free(directory)
    set_directory(self, other)


cdef void add_block(block_list_t *self, uint32_t at, block_t *block) noexcept nogil:
    """Makes the block the one of slot `at`; those from there on move up by one."""
    cdef directory_t *directory
    cdef slot_t *slots
    cdef uint32_t capacity
    cdef uint32_t free_
    ensure_directory(self)
    directory = directory_of(self[0])
    capacity = directory.capacity
    if (at == 0 and directory.first == 0) or (at == directory.size and directory.first + at == capacity) \
            or directory.size == capacity:
        if directory.size >= capacity - capacity // 4:
            capacity *= 2
        free_ = capacity - directory.size
        place_directory(self, capacity, free_ - free_ // 4 if at == 0 else free_ // 4)
        directory = directory_of(self[0])
    slots = slots_of(directory)
    if directory.first > 0 and (at < directory.size // 2 or at == 0
                                or directory.first + directory.size == capacity):
        memmove(slots - 1, slots, at * sizeof(slot_t))
        directory.first -= 1
        slots -= 1
    else:
        memmove(slots + at + 1, slots + at, (directory.size - at) * sizeof(slot_t))
    slots[at].block = block
    slots[at].count = block.count
    slots[at].mark = 0
    directory.size += 1
    directory.count += block.count


cdef void settle(block_list_t *self) noexcept nogil:
    """After blocks went: one block needs no directory, a few need no large one."""
    cdef directory_t *directory = directory_of(self[0])
    if directory.size < 2:
        if unlikely(directory.walk != NULL):
            if directory.size == 1:
                before_change(directory, slots_of(directory))
            directory.walk.directory = NULL
        self[0] = slots_of(directory).block if directory.size == 1 else NULL
        mem_free(directory)
    elif directory.capacity > 4 * DIRECTORY_MIN and directory.size < directory.capacity // 8:
        place_directory(self, directory.size * 2, directory.size // 2)


cdef void detach_blocks(block_list_t *self, uint32_t count, bint front, block_list_t *dropped,
                        bint is_used) noexcept nogil:
    """Takes whole blocks off one end; their elements do not count any more. Of blocks that are used further a walk gets
    copies, of others what it still wants of them."""
    cdef directory_t *directory = directory_of(self[0])
    cdef directory_t *other
    cdef slot_t *slots = slots_of(directory) + (0 if front else directory.size - count)
    cdef uint32_t i
    if is_used:
        for i in range(count):
            before_change(directory, &slots[i])
    elif unlikely(directory.walk != NULL):
        dropped = NULL
    if dropped != NULL and count > 1:
        other = new_directory(count)
        other.size = count
        memcpy(slots_of(other), slots, count * sizeof(slot_t))
        for i in range(count):
            other.count += slots[i].count
        set_directory(dropped, other)
    elif dropped != NULL:
        dropped[0] = slots.block
    else:
        for i in range(count):
            free_block(directory, &slots[i])
    directory.size -= count
    if front:
        directory.first += count


# ---- Ends ------------------------------------------------------------------------------------

cdef uint64_t list_count(block_list_t self) noexcept nogil:
    if has_directory(self):
        return directory_of(self).count
    return (<block_t *>self).count if self != NULL else 0


cdef void push_piece(block_list_t *self, const piece_t *piece, bint front,
                     const list_limits_t *limits) noexcept nogil:
    cdef directory_t *directory = NULL
    cdef uint32_t slot = 0
    cdef uint32_t wanted
    if unlikely(self[0] == NULL):
        self[0] = block_of_piece(piece, <uint32_t>piece.total, front, limits)
        return
    if has_directory(self[0]):
        directory = directory_of(self[0])
        slot = 0 if front else directory.size - 1
        before_change(directory, &slots_of(directory)[slot])
    if likely(not piece_is_large(piece, limits)) and push_packed(place_of(self, slot), piece, front, limits):
        if directory != NULL:
            directory.count += 1
            slots_of(directory)[slot].count += 1
        return
    # More will come: a quarter of a block to begin with.
    wanted = limits.bytes // 4
    if wanted < piece.total:
        wanted = <uint32_t>piece.total
    if directory == NULL:
        slot = 0 if front else 1
    elif not front:
        slot += 1
    add_block(self, slot, block_of_piece(piece, wanted, front, limits))


cdef void list_push(block_list_t *self, const char *data, size_t size, bint front,
                    const list_limits_t *limits) noexcept nogil:
    cdef piece_t piece
    prepare_piece(&piece, data, size)
    push_piece(self, &piece, front, limits)


cdef inline block_t *end_block(block_list_t self, bint front) noexcept nogil:
    cdef directory_t *directory
    if not has_directory(self):
        return <block_t *>self
    directory = directory_of(self)
    return slots_of(directory)[0 if front else directory.size - 1].block


cdef bint list_peek(block_list_t self, bint front, list_item_t *out) noexcept nogil:
    cdef block_t *block = end_block(self, front)
    if block == NULL:
        return False
    if unlikely(not is_packed(block)):
        out.data = area(block)
        out.size = block.end
    elif front:
        element_read(area(block) + block.begin, out)
    else:
        element_read(element_before(area(block) + block.end), out)
    return True


cdef void drop_elements(block_list_t *self, uint64_t count, bint front, block_list_t *dropped,
                        bint are_used) noexcept nogil:
    cdef directory_t *directory
    cdef slot_t *slot
    cdef uint32_t whole = 0
    if dropped != NULL:
        dropped[0] = NULL
    if count >= list_count(self[0]):
        if dropped != NULL:
            dropped[0] = self[0]
            self[0] = NULL
        else:
            list_free(self)
        return
    if not has_directory(self[0]):
        cut_block(<block_t *>self[0], <uint32_t>count, front)
        shrink_block(<block_t **>self)
        return
    directory = directory_of(self[0])
    directory.count -= count
    slot = slots_of(directory) + (0 if front else directory.size - 1)
    while count >= slot.count:
        count -= slot.count
        whole += 1
        slot = slot + 1 if front else slot - 1
    if count > 0:
        before_change(directory, slot)
        cut_block(slot.block, <uint32_t>count, front)
        slot.count -= <uint32_t>count
    if whole > 0:
        detach_blocks(self, whole, front, dropped, are_used)
        settle(self)


cdef void list_drop(block_list_t *self, uint64_t count, bint front, block_list_t *dropped) noexcept nogil:
    drop_elements(self, count, front, dropped, False)


cdef uint64_t behind_whole_blocks(block_list_t self, uint64_t count, bint front) noexcept nogil:
    """How many of the first or last `count` elements, not all, lie in the block that keeps some."""
    cdef directory_t *directory
    cdef slot_t *slot
    if not has_directory(self):
        return count
    directory = directory_of(self)
    slot = slots_of(directory) + (0 if front else directory.size - 1)
    while count >= slot.count:
        count -= slot.count
        slot = slot + 1 if front else slot - 1
    return count


cdef void push_all(block_list_t *self, list_cursor_t *cursor, uint64_t count, bint front,
                   const list_limits_t *limits) noexcept nogil:
    """The next `count` elements from a place in another list, or the ones before it."""
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_item_t item
    cdef slice_t text
    while count > 0:
        if front:
            list_previous(cursor, &item)
        else:
            list_next(cursor, &item)
        text = list_item_text(&item, scratch)
        list_push(self, text.data, text.size, front, limits)
        count -= 1


cdef void list_cut(block_list_t *self, uint64_t count, bint front, block_list_t *out,
                   const list_limits_t *limits) noexcept nogil:
    cdef uint64_t total = list_count(self[0])
    cdef block_list_t rest = NULL
    cdef list_cursor_t cursor
    cdef uint64_t left
    if count >= total:
        out[0] = self[0]
        self[0] = NULL
        return
    # Whole blocks change hands; of the block that keeps some, copies go behind them.
    left = behind_whole_blocks(self[0], count, front)
    list_seek(self[0], count - left if front else total - count + left, &cursor)
    push_all(&rest, &cursor, left, not front, limits)
    drop_elements(self, count, front, out, True)
    list_seek(rest, 0 if front else left, &cursor)
    push_all(out, &cursor, left, not front, limits)
    list_free(&rest)


# ---- Cursors ---------------------------------------------------------------------------------

cdef bint cursor_forward(list_cursor_t *self) noexcept nogil:
    if not has_directory(self.root) or self.slot + 1 >= directory_of(self.root).size:
        return False
    self.slot += 1
    enter_block(self, False)
    return True


cdef bint cursor_backward(list_cursor_t *self) noexcept nogil:
    if self.slot == 0:
        return False
    self.slot -= 1
    enter_block(self, True)
    return True


cdef void step_into(list_cursor_t *self, uint32_t index, uint32_t count) noexcept nogil:
    """To element `index` of its block, from the nearer end."""
    cdef list_item_t item
    cdef uint32_t steps = index
    if index > count // 2 or index == count:
        self.position = self.end
        steps = count - index
        if self.is_plain:
            self.position = self.end if index > 0 else self.begin
            return
        while steps > 0:
            self.position = element_before(self.position)
            steps -= 1
        return
    while steps > 0:
        self.position = element_read(self.position, &item)
        steps -= 1


cdef void list_seek(block_list_t self, uint64_t index, list_cursor_t *out) noexcept nogil:
    cdef directory_t *directory
    cdef slot_t *slots
    cdef uint64_t behind
    cdef uint32_t i
    out.root = self
    out.slot = 0
    if self == NULL:
        out.is_plain = False
        out.begin = NULL
        out.position = NULL
        out.end = NULL
        return
    if not has_directory(self):
        enter_block(out, False)
        step_into(out, <uint32_t>index, (<block_t *>self).count)
        return
    directory = directory_of(self)
    slots = slots_of(directory)
    if index <= directory.count // 2:
        i = 0
        while index >= slots[i].count:
            index -= slots[i].count
            i += 1
    else:
        # From the back: behind is the number of elements from index to the end.
        behind = directory.count - index
        i = directory.size - 1
        while behind > slots[i].count:
            behind -= slots[i].count
            i -= 1
        index = slots[i].count - behind
    out.slot = i
    enter_block(out, False)
    step_into(out, <uint32_t>index, slots[i].count)


# ---- Changes in the middle -------------------------------------------------------------------

cdef void split_block(block_list_t *self, uint32_t slot, uint32_t offset,
                      const list_limits_t *limits) noexcept nogil:
    """What is behind the offset goes to a new block in the next slot. Neither part is empty."""
    cdef list_item_t item
    cdef block_t *block
    cdef block_t *other
    cdef const char *p
    cdef uint32_t kept = 0
    cdef uint32_t moved
    ensure_directory(self)
    block = place_of(self, slot)[0]
    p = area(block) + block.begin
    while p < area(block) + offset:
        p = element_read(p, &item)
        kept += 1
    moved = block.end - offset
    other = new_block(moved, grown(moved), limits.bytes)
    memcpy(area(other), area(block) + offset, moved)
    other.end = moved
    other.count = block.count - kept
    block.end = offset
    block.count = kept
    add_to_count(self, slot, -<int>other.count)
    add_block(self, slot + 1, other)


cdef void insert_between(block_list_t *self, uint32_t slot, uint32_t offset, const piece_t *piece,
                         const list_limits_t *limits) noexcept nogil:
    """Into a neighbouring block or a new one: the block itself is full, or the piece does not fit any."""
    cdef block_t *block = place_of(self, slot)[0]
    cdef bint large = piece_is_large(piece, limits)
    cdef uint32_t at = slot
    if offset > (block.begin if is_packed(block) else 0):
        at = slot + 1
        if offset < block.end:
            split_block(self, slot, offset, limits)
    ensure_directory(self)
    if at > 0:
        before_change_at(self, at - 1)
    if at < directory_of(self[0]).size:
        before_change_at(self, at)
    if not large and at > 0 and push_packed(place_of(self, at - 1), piece, False, limits):
        add_to_count(self, at - 1, 1)
    elif (not large and at < directory_of(self[0]).size
            and push_packed(place_of(self, at), piece, True, limits)):
        add_to_count(self, at, 1)
    else:
        add_block(self, at, block_of_piece(piece, <uint32_t>piece.total, False, limits))
    settle(self)


cdef void insert_piece(block_list_t *self, uint32_t slot, uint32_t offset, const piece_t *piece,
                       const list_limits_t *limits) noexcept nogil:
    cdef block_t **place = place_of(self, slot)
    cdef char *gap
    before_change_at(self, slot)
    if is_packed(place[0]) and place[0].count < limits.count and not piece_is_large(piece, limits):
        gap = open_gap(place, offset, <uint32_t>piece.total, limits.bytes)
        if gap != NULL:
            write_piece(gap, piece)
            place[0].count += 1
            add_to_count(self, slot, 1)
            return
    insert_between(self, slot, offset, piece, limits)


cdef inline uint32_t cursor_offset(block_list_t *self, const list_cursor_t *at) noexcept nogil:
    return <uint32_t>(at.position - area(place_of(self, at.slot)[0]))


cdef void list_insert(block_list_t *self, const list_cursor_t *at, const char *data, size_t size,
                      const list_limits_t *limits) noexcept nogil:
    cdef piece_t piece
    prepare_piece(&piece, data, size)
    if self[0] == NULL:
        push_piece(self, &piece, False, limits)
    else:
        insert_piece(self, at.slot, cursor_offset(self, at), &piece, limits)


cdef bint replace_packed(block_t **place, uint32_t offset, uint32_t old, const piece_t *piece,
                         const list_limits_t *limits) noexcept nogil:
    """Replaces an element of `old` bytes within its packed block; False if that is too full."""
    cdef uint32_t need = <uint32_t>piece.total
    cdef char *gap
    if need > old:
        gap = open_gap(place, offset, need - old, limits.bytes)
        if gap == NULL:
            return False
        write_piece(gap, piece)
        return True
    if need < old:
        close_gap(place[0], offset, old - need)
    write_piece(area(place[0]) + offset, piece)
    return True


cdef void list_replace(block_list_t *self, list_cursor_t *at, const char *data, size_t size,
                       const list_limits_t *limits) noexcept nogil:
    cdef list_item_t item
    cdef piece_t piece
    cdef block_t **place
    cdef uint32_t offset
    cdef uint32_t old
    prepare_piece(&piece, data, size)
    if at.position == at.end:
        cursor_forward(at)
    place = place_of(self, at.slot)
    offset = cursor_offset(self, at)
    if not at.is_plain:
        before_change_at(self, at.slot)
        old = <uint32_t>(element_read(at.position, &item) - at.position)
        if not piece_is_large(&piece, limits) and replace_packed(place, offset, old, &piece, limits):
            return
        if place[0].count > 1:
            close_gap(place[0], offset, old)
            place[0].count -= 1
            add_to_count(self, at.slot, -1)
            insert_piece(self, at.slot, offset, &piece, limits)
            return
    if has_directory(self[0]):
        free_block(directory_of(self[0]), &slots_of(directory_of(self[0]))[at.slot])
    else:
        mem_free(place[0])
    place[0] = block_of_piece(&piece, <uint32_t>piece.total, False, limits)


# ---- Removal by value ------------------------------------------------------------------------

cdef uint32_t count_equal(const block_t *self, const list_item_t *needle) noexcept nogil:
    """How often the packed block has the element."""
    cdef list_item_t item
    cdef const char *p = area(self) + self.begin
    cdef const char *end = area(self) + self.end
    cdef uint32_t count = 0
    while p < end:
        p = element_read(p, &item)
        count += items_equal(&item, needle)
    return count


cdef uint32_t filter_packed(block_t *self, const list_item_t *needle, uint64_t skip,
                            uint64_t limit) noexcept nogil:
    """Takes out up to `limit` equal elements behind the first `skip` equal ones; how many went."""
    cdef list_item_t item
    cdef const char *p = area(self) + self.begin
    cdef const char *end = area(self) + self.end
    cdef const char *following
    cdef char *out = <char *>p
    cdef uint32_t removed = 0
    while p < end and removed < limit:
        following = element_read(p, &item)
        if items_equal(&item, needle):
            if skip == 0:
                removed += 1
                p = following
                continue
            skip -= 1
        if out != p:
            memmove(out, p, following - p)
        out += following - p
        p = following
    if out != p:
        memmove(out, p, end - p)
        self.end -= <uint32_t>(p - out)
    self.count -= removed
    return removed


cdef bint has_equal(const block_t *self, const list_item_t *needle) noexcept nogil:
    cdef list_item_t item
    if is_packed(self):
        return count_equal(self, needle) > 0
    item.data = area(self)
    item.size = self.end
    return items_equal(&item, needle)


cdef uint32_t filter_block(block_t *self, const list_item_t *needle, uint64_t limit,
                           bint backward) noexcept nogil:
    cdef list_item_t item
    cdef uint32_t equal
    if not is_packed(self):
        item.data = area(self)
        item.size = self.end
        if not items_equal(&item, needle):
            return 0
        self.count = 0
        return 1
    if not backward:
        return filter_packed(self, needle, 0, limit)
    equal = count_equal(self, needle)
    if equal == 0:
        return 0
    return filter_packed(self, needle, equal - limit if equal > limit else 0, limit)


cdef bint merge_into(directory_t *directory, slot_t *target, slot_t *source,
                     const list_limits_t *limits) noexcept nogil:
    """Moves the source's elements behind the target's, if both together fill no more than three quarters."""
    cdef block_t *from_ = source.block
    cdef block_t *block = target.block
    cdef uint32_t moved = from_.end - from_.begin
    if not is_packed(block) or not is_packed(from_) or target.count + source.count > limits.count:
        return False
    if (block.end - block.begin + moved + sizeof(block_t)) * 4 > <uint64_t>limits.bytes * 3:
        return False
    before_change(directory, target)
    if block.capacity - block.end < moved:
        if block.capacity - (block.end - block.begin) >= moved:
            memmove(area(block), area(block) + block.begin, block.end - block.begin)
            block.end -= block.begin
            block.begin = 0
        else:
            grow_block(&target.block, False, moved, limits.bytes)
            block = target.block
    memcpy(area(block) + block.end, area(from_) + from_.begin, moved)
    block.end += moved
    block.count += from_.count
    target.count += source.count
    free_block(directory, source)
    return True


cdef void sweep(block_list_t *self, const list_limits_t *limits) noexcept nogil:
    """Frees the blocks that have become empty, merges those that have become small with a neighbour."""
    cdef directory_t *directory = directory_of(self[0])
    cdef slot_t *slots = slots_of(directory)
    cdef uint32_t kept = 0
    cdef uint32_t i
    cdef bint is_touched
    for i in range(directory.size):
        if slots[i].count == 0:
            free_block(directory, &slots[i])
            continue
        is_touched = slots[i].mark & TOUCHED
        if (kept > 0 and (is_touched or slots[kept - 1].mark & TOUCHED)
                and merge_into(directory, &slots[kept - 1], &slots[i], limits)):
            slots[kept - 1].mark |= TOUCHED
            continue
        slots[kept] = slots[i]
        kept += 1
    for i in range(kept):
        slots[i].mark &= ~<uint32_t>TOUCHED
    directory.size = kept
    settle(self)


cdef uint64_t remove_from_directory(block_list_t *self, const uint32_t *blocks, uint32_t block_count,
                                    const list_item_t *needle, uint64_t limit, bint backward,
                                    const list_limits_t *limits) noexcept nogil:
    """blocks NULL: all of them."""
    cdef directory_t *directory = directory_of(self[0])
    cdef slot_t *slot
    cdef uint64_t removed = 0
    cdef uint32_t i
    cdef uint32_t at
    cdef uint32_t here
    for i in range(directory.size if blocks == NULL else block_count):
        if blocks != NULL:
            at = blocks[i]
        else:
            at = directory.size - 1 - i if backward else i
        slot = slots_of(directory) + at
        if unlikely(directory.walk != NULL) and has_equal(slot.block, needle):
            before_change(directory, slot)
        here = filter_block(slot.block, needle, limit - removed, backward)
        if here > 0:
            slot.count -= here
            slot.mark |= TOUCHED
            removed += here
            if removed == limit:
                break
    directory.count -= removed
    if removed > 0:
        sweep(self, limits)
    return removed


cdef uint64_t list_remove(block_list_t *self, const char *data, size_t size, uint64_t count, bint backward,
                          const list_limits_t *limits) noexcept nogil:
    return list_remove_from(self, NULL, 0, data, size, count, backward, limits)


cdef uint64_t list_remove_from(block_list_t *self, const uint32_t *blocks, uint32_t block_count, const char *data,
                               size_t size, uint64_t count, bint backward, const list_limits_t *limits) noexcept nogil:
    cdef list_item_t needle
    cdef uint64_t limit = count if count > 0 else <uint64_t>-1
    cdef uint64_t removed
    list_needle(data, size, &needle)
    if self[0] == NULL:
        return 0
    if has_directory(self[0]):
        return remove_from_directory(self, blocks, block_count, &needle, limit, backward, limits)
    removed = filter_block(<block_t *>self[0], &needle, limit, backward)
    if (<block_t *>self[0]).count == 0:
        list_free(self)
    elif removed > 0:
        shrink_block(<block_t **>self)
    return removed


# ---- Whole lists -----------------------------------------------------------------------------

cdef bint list_free_step(block_list_t *self, uint64_t *budget) noexcept nogil:
    cdef directory_t *directory
    if self[0] == NULL:
        return True
    if not has_directory(self[0]):
        if budget[0] == 0:
            return False
        budget[0] -= 1
        mem_free(self[0])
        self[0] = NULL
        return True
    directory = directory_of(self[0])
    while directory.size > 0:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        directory.size -= 1
        directory.count -= slots_of(directory)[directory.size].count
        free_block(directory, &slots_of(directory)[directory.size])
    if unlikely(directory.walk != NULL):
        directory.walk.directory = NULL
    mem_free(directory)
    self[0] = NULL
    return True


cdef void list_free(block_list_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    list_free_step(self, &budget)


# ---- As a container ----------------------------------------------------------------------------

cdef void dup_object(const object_t *self, object_t *out) noexcept nogil:
    object_root(out)[0] = list_dup(object_pointer(self))


cdef bint free_object_step(object_t *self, uint64_t *budget) noexcept nogil:
    return list_free_step(object_root(self), budget)


cdef uint64_t object_blocks(const object_t *self) noexcept nogil:
    return list_block_count(object_pointer(self))


cdef uint64_t object_heap(const object_t *self) noexcept nogil:
    return list_heap_bytes(object_pointer(self))


cdef uint64_t object_data(const object_t *self) noexcept nogil:
    return list_data_bytes(object_pointer(self))


cdef const char *object_encoding_text(const object_t *self) noexcept nogil:
    # As Redis 7.0, where a list of any size is one.
    return "quicklist"


cdef const void *walk_owner(const object_t *self) noexcept nogil:
    cdef list_walk_t *walk = list_walk_of(object_pointer(self))
    return walk.owner if walk != NULL else NULL


cdef void finish_walk(object_t *self) noexcept nogil:
    cdef list_walk_t *walk = list_walk_of(object_pointer(self))
    while not list_walk_step(walk):
        pass


cdef container_ops_t OPS
OPS.dup = dup_object
OPS.free_step = free_object_step
OPS.block_count = object_blocks
OPS.heap_bytes = object_heap
OPS.data_bytes = object_data
OPS.encoding_name = object_encoding_text
OPS.walk_owner = walk_owner
OPS.finish_walk = finish_walk
object_register_container(TYPE_LIST, &OPS)
