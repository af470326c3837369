"""Handles by hash: see member_index.pxd.

In a segment the tags stand in ascending order, and between the slot where a tag belongs and the one where it is
there are no empty slots. So a search ends at the first larger tag or empty slot; removing moves what follows
back.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from dfly._core.store.member_arena cimport arena_t, member_at, member_text
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, slice_t, unlikely
from dfly._core.sys.hash cimport hash_bytes

__abi__ = DFLY_ABI_STAMP

cdef enum:
    DEPTH_MAX = 20                   # beyond it segments grow without end
    TAG_SHIFT = 28                   # of the hash: its upper 20 bits are the directory's
    CAPACITY_MIN = 16
    CAPACITY_SPLIT = 1600            # a segment that would grow beyond it splits instead
    ROOM_BEHIND = 16
    CURSOR_TAG_BITS = 16


cdef inline uint16_t tag_of(uint64_t hash) noexcept nogil:
    cdef uint16_t tag = <uint16_t>(hash >> TAG_SHIFT)
    return tag if tag != 0 else 1


cdef inline uint32_t home_of(const segment_t *self, uint32_t tag) noexcept nogil:
    return <uint32_t>((<uint64_t>tag * self.capacity) >> 16)


cdef inline uint32_t directory_slot(const index_t *self, uint64_t hash) noexcept nogil:
    # A shift by 64 would be none.
    return <uint32_t>((hash >> 1) >> (63 - self.depth))


cdef segment_t *new_segment(uint32_t capacity, uint32_t depth) noexcept nogil:
    cdef uint32_t room = (capacity + ROOM_BEHIND + capacity // 64 + 1) & ~<uint32_t>1
    cdef segment_t *self = <segment_t *>mem_alloc(16 + room * 6)
    self.capacity = capacity
    self.room = room
    self.count = 0
    self.depth = depth
    memset(segment_tags(self), 0, room * 2)
    return self


cdef void index_init(index_t *self) noexcept nogil:
    self.directory = <segment_t **>mem_alloc(sizeof(segment_t *))
    self.depth = 0
    self.freed = 0
    self.segment_count = 1
    self.directory[0] = new_segment(CAPACITY_MIN, 0)


# ---- Finding -----------------------------------------------------------------------------------

cdef inline bint is_member(const arena_t *arena, uint32_t handle, const char *data, size_t size) noexcept nogil:
    cdef slice_t text = member_text(member_at(arena, handle))
    return text.size == size and memcmp(text.data, data, size) == 0


cdef uint32_t index_find(const index_t *self, const arena_t *arena, uint64_t hash, const char *data,
                         size_t size) noexcept nogil:
    cdef segment_t *segment = self.directory[directory_slot(self, hash)]
    cdef const uint16_t *tags = segment_tags(segment)
    cdef uint32_t tag = tag_of(hash)
    cdef uint32_t i = home_of(segment, tag)
    while i < segment.room and tags[i] != 0 and tags[i] <= tag:
        if tags[i] == tag and is_member(arena, segment.handles[i], data, size):
            return segment.handles[i]
        i += 1
    return 0


cdef inline uint32_t slot_of(segment_t *self, uint32_t tag, uint32_t handle) noexcept nogil:
    cdef const uint16_t *tags = segment_tags(self)
    cdef uint32_t i = home_of(self, tag)
    while tags[i] != tag or self.handles[i] != handle:
        i += 1
        DFLY_CHECK(i < self.room, "a member is in the index")
    return i


# ---- Segments ----------------------------------------------------------------------------------

cdef inline bint append(segment_t *self, uint32_t *next_slot, uint32_t tag, uint32_t handle) noexcept nogil:
    """In ascending order of tags; False: it does not fit."""
    cdef uint32_t i = home_of(self, tag)
    if i < next_slot[0]:
        i = next_slot[0]
    if unlikely(i >= self.room):
        return False
    segment_tags(self)[i] = <uint16_t>tag
    self.handles[i] = handle
    self.count += 1
    next_slot[0] = i + 1
    return True


cdef segment_t *resized(segment_t *self, uint32_t capacity) noexcept nogil:
    """A copy with another capacity, a little larger than asked for if the tags are too unevenly spread."""
    cdef segment_t *result
    cdef const uint16_t *tags = segment_tags(self)
    cdef uint32_t next_slot
    cdef uint32_t i
    cdef bint fits
    while True:
        result = new_segment(capacity, self.depth)
        next_slot = 0
        fits = True
        for i in range(self.room):
            if tags[i] != 0 and not append(result, &next_slot, tags[i], self.handles[i]):
                fits = False
                break
        if fits:
            return result
        mem_free(result)
        capacity += capacity // 2


cdef void point_to(index_t *self, uint32_t slot, segment_t *segment, uint32_t aliases) noexcept nogil:
    """Every entry of the directory that shares the segment; slot is one of them."""
    cdef uint32_t first = slot & ~(aliases - 1)
    cdef uint32_t i
    for i in range(aliases):
        self.directory[first + i] = segment


cdef inline uint32_t aliases_of(const index_t *self, const segment_t *segment) noexcept nogil:
    return <uint32_t>1 << (self.depth - segment.depth)


cdef void resize(index_t *self, uint32_t slot, uint32_t capacity) noexcept nogil:
    cdef segment_t *old = self.directory[slot]
    point_to(self, slot, resized(old, capacity), aliases_of(self, old))
    mem_free(old)


cdef void double_directory(index_t *self) noexcept nogil:
    cdef uint32_t size = <uint32_t>1 << self.depth
    cdef uint32_t i
    self.directory = <segment_t **>mem_realloc(self.directory, 2 * size * sizeof(segment_t *))
    self.depth += 1
    for i in range(size - 1, 0, -1):
        self.directory[2 * i] = self.directory[i]
        self.directory[2 * i + 1] = self.directory[i]
    self.directory[1] = self.directory[0]


cdef void split(index_t *self, const arena_t *arena, uint64_t hash) noexcept nogil:
    cdef segment_t *old = self.directory[directory_slot(self, hash)]
    cdef const uint16_t *tags = segment_tags(old)
    cdef uint32_t capacity = old.count // 2 + old.count // 5 + CAPACITY_MIN
    cdef segment_t *halves[2]
    cdef uint32_t next_slots[2]
    cdef uint32_t half
    cdef uint32_t slot
    cdef uint32_t aliases
    cdef uint32_t i
    cdef slice_t text
    for half in range(2):
        halves[half] = new_segment(capacity, old.depth + 1)
        next_slots[half] = 0
    for i in range(old.room):
        if tags[i] == 0:
            continue
        text = member_text(member_at(arena, old.handles[i]))
        half = <uint32_t>(hash_bytes(text.data, text.size) >> (63 - old.depth)) & 1
        if not append(halves[half], &next_slots[half], tags[i], old.handles[i]):
            halves[half] = enlarged_half(halves[half], &next_slots[half])
            append(halves[half], &next_slots[half], tags[i], old.handles[i])
    if old.depth == self.depth:
        double_directory(self)
    aliases = aliases_of(self, old)
    slot = directory_slot(self, hash) & ~(aliases - 1)
    point_to(self, slot, halves[0], aliases // 2)
    point_to(self, slot + aliases // 2, halves[1], aliases // 2)
    self.segment_count += 1
    mem_free(old)


cdef segment_t *enlarged_half(segment_t *old, uint32_t *next_slot) noexcept nogil:
    cdef segment_t *result = resized(old, old.capacity + old.capacity // 2)
    next_slot[0] = result.room
    while next_slot[0] > 0 and segment_tags(result)[next_slot[0] - 1] == 0:
        next_slot[0] -= 1
    mem_free(old)
    return result


# ---- Changing ----------------------------------------------------------------------------------

cdef void index_add(index_t *self, const arena_t *arena, uint64_t hash, uint32_t handle) noexcept nogil:
    cdef uint32_t slot = directory_slot(self, hash)
    cdef segment_t *segment = self.directory[slot]
    cdef uint16_t *tags
    cdef uint32_t tag = tag_of(hash)
    cdef uint32_t i
    cdef uint32_t end
    while True:
        if unlikely((segment.count + 1) * 8 > segment.capacity * 7):
            if segment.capacity < CAPACITY_SPLIT or segment.depth >= DEPTH_MAX:
                resize(self, slot, segment.capacity + segment.capacity // 6 + CAPACITY_MIN // 2)
            else:
                split(self, arena, hash)
            slot = directory_slot(self, hash)
            segment = self.directory[slot]
        tags = segment_tags(segment)
        i = home_of(segment, tag)
        while i < segment.room and tags[i] != 0 and tags[i] <= tag:
            i += 1
        end = i
        while end < segment.room and tags[end] != 0:
            end += 1
        if end < segment.room:
            break
        # No slot behind is left: rare, the tags crowd at the upper end.
        resize(self, slot, segment.capacity + segment.capacity // 8 + 1)
        segment = self.directory[slot]
    memmove(tags + i + 1, tags + i, (end - i) * sizeof(uint16_t))
    memmove(segment.handles + i + 1, segment.handles + i, (end - i) * sizeof(uint32_t))
    tags[i] = <uint16_t>tag
    segment.handles[i] = handle
    segment.count += 1


cdef void index_discard(index_t *self, uint64_t hash, uint32_t handle) noexcept nogil:
    cdef segment_t *segment = self.directory[directory_slot(self, hash)]
    cdef const uint16_t *tags = segment_tags(segment)
    cdef uint32_t tag = tag_of(hash)
    cdef uint32_t i = home_of(segment, tag)
    # Tags ascend, without a gap from where one belongs to where it is.
    while i < segment.room and tags[i] != 0 and tags[i] <= tag:
        if tags[i] == tag and segment.handles[i] == handle:
            index_remove(self, hash, handle)
            return
        i += 1


cdef void index_remove(index_t *self, uint64_t hash, uint32_t handle) noexcept nogil:
    cdef uint32_t slot = directory_slot(self, hash)
    cdef segment_t *segment = self.directory[slot]
    cdef uint16_t *tags = segment_tags(segment)
    cdef uint32_t i = slot_of(segment, tag_of(hash), handle)
    cdef uint32_t end = i + 1
    while end < segment.room and tags[end] != 0 and home_of(segment, tags[end]) < end:
        end += 1
    memmove(tags + i, tags + i + 1, (end - 1 - i) * sizeof(uint16_t))
    memmove(segment.handles + i, segment.handles + i + 1, (end - 1 - i) * sizeof(uint32_t))
    tags[end - 1] = 0
    segment.count -= 1
    if unlikely(segment.capacity > 4 * CAPACITY_MIN and segment.count * 4 < segment.capacity):
        resize(self, slot, segment.count * 2)


# ---- Scanning ----------------------------------------------------------------------------------
# The cursor: the upper DEPTH_MAX bits of the hashes that come next, then the tag to go on with. A segment
# that has split meanwhile is seen again in part, one that was not is not.

cdef uint64_t index_scan(const index_t *self, uint64_t cursor, uint64_t count, index_visit_t visit,
                         void *context) noexcept nogil:
    cdef uint64_t prefix = (cursor >> CURSOR_TAG_BITS) & ((1 << DEPTH_MAX) - 1)
    cdef uint32_t tag = <uint32_t>(cursor & 0xFFFF)
    cdef uint32_t slot = <uint32_t>(prefix >> (DEPTH_MAX - self.depth))
    cdef uint32_t aliases
    cdef segment_t *segment
    cdef const uint16_t *tags
    cdef uint64_t visited = 0
    cdef uint32_t i
    while slot < <uint32_t>1 << self.depth:
        segment = self.directory[slot]
        aliases = aliases_of(self, segment)
        if slot & (aliases - 1) or prefix & ((<uint64_t>1 << (DEPTH_MAX - self.depth)) - 1):
            # Not where a segment begins: it is another set, or one that was made anew.
            tag = 0
        slot &= ~(aliases - 1)
        tags = segment_tags(segment)
        i = home_of(segment, tag)
        while i < segment.room:
            if tags[i] >= tag and tags[i] != 0:
                if visited >= count and tags[i] != tag:
                    return (<uint64_t>slot << (DEPTH_MAX - self.depth)) << CURSOR_TAG_BITS | tags[i]
                tag = tags[i]
                visit(segment.handles[i], context)
                visited += 1
            i += 1
        slot += aliases
        prefix = 0
        tag = 0
    return 0


# ---- All of it ---------------------------------------------------------------------------------

cdef void index_dup(const index_t *self, index_t *out) noexcept nogil:
    cdef uint32_t size = <uint32_t>1 << self.depth
    cdef uint32_t i
    cdef segment_t *segment
    out[0] = self[0]
    out.directory = <segment_t **>mem_alloc(size * sizeof(segment_t *))
    for i in range(size):
        segment = self.directory[i]
        if i > 0 and segment == self.directory[i - 1]:
            out.directory[i] = out.directory[i - 1]
            continue
        out.directory[i] = <segment_t *>mem_alloc(16 + segment.room * 6)
        memcpy(out.directory[i], segment, 16 + segment.room * 6)


cdef bint index_free_step(index_t *self, uint64_t *budget) noexcept nogil:
    cdef segment_t *segment
    if self.directory == NULL:
        return True
    while self.freed < <uint32_t>1 << self.depth:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        segment = self.directory[self.freed]
        self.freed += aliases_of(self, segment)
        self.segment_count -= 1
        mem_free(segment)
    mem_free(self.directory)
    self.directory = NULL
    return True


cdef uint64_t index_heap_bytes(const index_t *self) noexcept nogil:
    cdef uint64_t total
    cdef uint32_t i
    if self.directory == NULL:
        return 0
    total = mem_usable(self.directory)
    for i in range(<uint32_t>1 << self.depth):
        if i == 0 or self.directory[i] != self.directory[i - 1]:
            total += mem_usable(self.directory[i])
    return total


cdef uint64_t index_check(const index_t *self, const arena_t *arena) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t segments = 0
    cdef uint32_t size = <uint32_t>1 << self.depth
    cdef uint32_t at = 0
    cdef segment_t *segment
    cdef const uint16_t *tags
    cdef uint32_t last
    cdef uint32_t count
    cdef uint32_t i
    cdef uint64_t hash
    cdef slice_t text
    while at < size:
        segment = self.directory[at]
        tags = segment_tags(segment)
        last = 0
        count = 0
        for i in range(segment.room):
            if tags[i] == 0:
                continue
            text = member_text(member_at(arena, segment.handles[i]))
            hash = hash_bytes(text.data, text.size)
            DFLY_CHECK(tag_of(hash) == tags[i] and tags[i] >= last, "tags are those of the members and ascend")
            DFLY_CHECK(self.directory[directory_slot(self, hash)] == segment, "a member is in its segment")
            DFLY_CHECK(home_of(segment, tags[i]) <= i, "a tag is not before its place")
            DFLY_CHECK(home_of(segment, tags[i]) == i or tags[i - 1] != 0, "no empty slot before it")
            last = tags[i]
            count += 1
        DFLY_CHECK(count == segment.count and segment.depth <= self.depth, "a segment knows its members")
        for i in range(aliases_of(self, segment)):
            DFLY_CHECK(self.directory[at + i] == segment, "the directory has every alias")
        total += count
        segments += 1
        at += aliases_of(self, segment)
    DFLY_CHECK(segments == self.segment_count, "the index knows its segments")
    return total
