"""Members in chunks: see member_arena.pxd.

Chunks of one size of block that have room are in a list, and only the last one made may be smaller than a
full chunk: it grows by reallocation, so that small sets pay for what they use.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_realloc, mem_usable, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CHUNK_UNITS = 4096               # of a full chunk: 32 KB
    CHUNK_HEADER = 3                 # units
    FIRST_BLOCKS = 8                 # room of a set's first chunk of a size
    LATER_UNITS = 256                # of one that follows full ones
    LARGE_UNITS = 3
    CHUNKS_MAX = 1 << (32 - CHUNK_BITS)
    NO_CHUNK = 0xFFFFFFFF


cdef void arena_init(arena_t *self) noexcept nogil:
    memset(self, 0, sizeof(arena_t))
    memset(self.open, 0xFF, sizeof(self.open))
    memset(self.growing, 0xFF, sizeof(self.growing))


cdef inline chunk_t *chunk_of(const arena_t *self, uint32_t number) noexcept nogil:
    return <chunk_t *>self.chunks[number]


# ---- The list of chunks with room --------------------------------------------------------------

cdef void open_chunk(arena_t *self, uint32_t number) noexcept nogil:
    cdef chunk_t *chunk = chunk_of(self, number)
    cdef uint32_t first = self.open[chunk.units]
    chunk.next = first
    chunk.previous = NO_CHUNK
    chunk.is_open = True
    if first != NO_CHUNK:
        chunk_of(self, first).previous = number
    self.open[chunk.units] = number


cdef void close_chunk(arena_t *self, uint32_t number) noexcept nogil:
    cdef chunk_t *chunk = chunk_of(self, number)
    if not chunk.is_open:
        return
    if chunk.next != NO_CHUNK:
        chunk_of(self, chunk.next).previous = chunk.previous
    if chunk.previous != NO_CHUNK:
        chunk_of(self, chunk.previous).next = chunk.next
    else:
        self.open[chunk.units] = chunk.next
    chunk.is_open = False


# ---- The walk ----------------------------------------------------------------------------------

cdef inline uint32_t number_of(uint32_t handle) noexcept nogil:
    return handle >> CHUNK_BITS


cdef inline void mark_seen(arena_walk_t *walk, uint32_t handle) noexcept nogil:
    walk.seen[handle >> 6] |= <uint64_t>1 << (handle & 63)


cdef inline bint is_seen(const arena_walk_t *walk, uint32_t handle) noexcept nogil:
    return number_of(handle) >= walk.chunk_count or (walk.seen[handle >> 6] >> (handle & 63)) & 1


cdef inline void next_chunk(arena_walk_t *walk) noexcept nogil:
    walk.number += 1
    walk.place = CHUNK_HEADER


cdef void arena_walk_begin(arena_t *self, arena_walk_t *walk) noexcept nogil:
    DFLY_CHECK(self.walk == NULL, "arena: two walks at once")
    walk.arena = self
    walk.chunk_count = self.chunk_count
    # Zero pages of the system: only what is used of them becomes memory.
    walk.seen = <uint64_t *>net_zalloc(((<size_t>self.chunk_count << CHUNK_BITS) >> 3) + 8)
    walk.number = 0
    walk.place = CHUNK_HEADER
    walk.forced = 0
    self.walk = walk


cdef void arena_walk_end(arena_t *self) noexcept nogil:
    net_free(self.walk.seen)
    self.walk.seen = NULL
    self.walk = NULL


cdef bint arena_walk_step(arena_t *self, uint32_t members) noexcept nogil:
    cdef arena_walk_t *walk = self.walk
    cdef uint32_t handle
    cdef chunk_t *chunk
    cdef char *member
    while walk.number < walk.chunk_count:
        if is_number_free(self, walk.number) or walk.place >= chunk_of(self, walk.number).used:
            next_chunk(walk)
            continue
        if members == 0:
            return False
        members -= 1
        chunk = chunk_of(self, walk.number)
        handle = walk.number << CHUNK_BITS | walk.place
        member = <char *>chunk + walk.place * 8
        walk.place += chunk.units
        if <uint8_t>member[8] != MEMBER_FREE and not is_seen(walk, handle):
            mark_seen(walk, handle)
            walk.visit(member, walk.context)
    arena_walk_end(self)
    return True


cdef void arena_walk_finish(arena_t *self) noexcept nogil:
    cdef arena_walk_t *walk = self.walk
    if likely(walk == NULL):
        return
    while not arena_walk_step(self, 0xFFFFFFFF):
        pass
    walk.arena = NULL


cdef void arena_hand_over(arena_t *self, uint32_t handle) noexcept nogil:
    if not is_seen(self.walk, handle):
        mark_seen(self.walk, handle)
        self.walk.forced += 1
        self.walk.visit(member_at(self, handle), self.walk.context)


# ---- Chunks ------------------------------------------------------------------------------------

cdef uint32_t new_number(arena_t *self) noexcept nogil:
    cdef uint32_t number
    if self.free_number != 0:
        number = self.free_number - 1
        self.free_number = <uint32_t><uint64_t>self.chunks[number]
        return number
    if self.chunk_count == self.chunk_capacity:
        DFLY_CHECK(self.chunk_count < CHUNKS_MAX, "a sorted set of more than 32 GB")
        self.chunk_capacity += self.chunk_capacity // 2 + 2
        self.chunks = <char **>mem_realloc(self.chunks, self.chunk_capacity * sizeof(char *))
    self.chunk_count += 1
    return self.chunk_count - 1


cdef void add_chunk(arena_t *self, uint32_t units) noexcept nogil:
    cdef uint32_t number = new_number(self)
    cdef uint32_t capacity = CHUNK_HEADER + FIRST_BLOCKS * units
    cdef chunk_t *chunk
    if self.live_units > LATER_UNITS * 4:
        capacity = LATER_UNITS
    chunk = <chunk_t *>mem_alloc(capacity * 8)
    memset(chunk, 0, sizeof(chunk_t))
    chunk.units = <uint16_t>units
    chunk.used = CHUNK_HEADER
    chunk.capacity = <uint16_t>capacity
    self.chunks[number] = <char *>chunk
    if unlikely(self.walk != NULL) and self.walk.number == number:
        # All its members will be new, and they lie in other places than those of the one before.
        next_chunk(self.walk)
    self.growing[units] = number
    self.live_chunks += 1
    self.total_units += capacity
    open_chunk(self, number)


cdef void grow_chunk(arena_t *self, uint32_t units) noexcept nogil:
    cdef uint32_t number = self.growing[units]
    cdef chunk_t *chunk = chunk_of(self, number)
    cdef uint32_t capacity = chunk.capacity + chunk.capacity // 2
    if capacity > CHUNK_UNITS * 7 // 8:
        capacity = CHUNK_UNITS
        self.growing[units] = NO_CHUNK
    self.total_units += capacity - chunk.capacity
    chunk = <chunk_t *>mem_realloc(chunk, capacity * 8)
    chunk.capacity = <uint16_t>capacity
    self.chunks[number] = <char *>chunk
    open_chunk(self, number)


cdef void free_chunk(arena_t *self, uint32_t number) noexcept nogil:
    cdef chunk_t *chunk = chunk_of(self, number)
    close_chunk(self, number)
    if self.growing[chunk.units] == number:
        self.growing[chunk.units] = NO_CHUNK
    self.total_units -= chunk.capacity
    self.live_chunks -= 1
    mem_free(chunk)
    self.chunks[number] = <char *><uint64_t>self.free_number
    self.free_number = number + 1


cdef inline bint is_number_free(const arena_t *self, uint32_t number) noexcept nogil:
    # An address of the allocator is above every number.
    return <uint64_t>self.chunks[number] <= CHUNKS_MAX


cdef uint32_t take_block(arena_t *self, uint32_t units) noexcept nogil:
    cdef uint32_t number = self.open[units]
    cdef chunk_t *chunk
    cdef uint32_t place
    if unlikely(number == NO_CHUNK):
        if self.growing[units] != NO_CHUNK:
            grow_chunk(self, units)
        else:
            add_chunk(self, units)
        number = self.open[units]
    chunk = chunk_of(self, number)
    place = chunk.free_first
    if place != 0:
        chunk.free_first = <uint16_t>(<uint32_t *>(<char *>chunk + place * 8))[0]
    else:
        place = chunk.used
        chunk.used += <uint16_t>units
    chunk.live += 1
    self.live_units += units
    if unlikely(chunk.free_first == 0 and chunk.used + units > chunk.capacity):
        close_chunk(self, number)
    return number << CHUNK_BITS | place


# ---- Members -----------------------------------------------------------------------------------

cdef large_member_t *add_large(arena_t *self, const char *data, size_t size) noexcept nogil:
    cdef large_member_t *large = <large_member_t *>mem_alloc(sizeof(large_member_t) + size)
    large.size = <uint32_t>size
    memcpy(large.data, data, size)
    large.previous = NULL
    large.next = self.large
    if self.large != NULL:
        self.large.previous = large
    self.large = large
    self.large_count += 1
    self.large_bytes += mem_usable(large)
    return large


cdef void remove_large(arena_t *self, large_member_t *large) noexcept nogil:
    if large.next != NULL:
        large.next.previous = large.previous
    if large.previous != NULL:
        large.previous.next = large.next
    else:
        self.large = large.next
    self.large_count -= 1
    self.large_bytes -= mem_usable(large)
    mem_free(large)


cdef uint32_t arena_add(arena_t *self, const char *data, size_t size, double score) noexcept nogil:
    cdef uint32_t handle
    cdef char *member
    self.text_bytes += size
    if likely(size <= MEMBER_INLINE_MAX):
        handle = take_block(self, <uint32_t>(size + 16) >> 3)
        member = member_at(self, handle)
        member[8] = <char>size
        memcpy(member + 9, data, size)
    else:
        handle = take_block(self, LARGE_UNITS)
        member = member_at(self, handle)
        member[8] = <char>MEMBER_LARGE
        (<large_member_t **>(member + 16))[0] = add_large(self, data, size)
    member_score(member)[0] = score
    if unlikely(self.walk != NULL) and number_of(handle) < self.walk.chunk_count:
        mark_seen(self.walk, handle)
    return handle


cdef void arena_remove(arena_t *self, uint32_t handle) noexcept nogil:
    cdef uint32_t number = handle >> CHUNK_BITS
    cdef chunk_t *chunk = chunk_of(self, number)
    cdef char *member = member_at(self, handle)
    arena_before_change(self, handle)
    self.text_bytes -= member_text(member).size
    if unlikely(<uint8_t>member[8] == MEMBER_LARGE):
        remove_large(self, (<large_member_t **>(member + 16))[0])
    self.live_units -= chunk.units
    chunk.live -= 1
    if chunk.live == 0:
        free_chunk(self, number)
        return
    (<uint32_t *>member)[0] = chunk.free_first
    member[8] = <char>MEMBER_FREE
    chunk.free_first = <uint16_t>(handle & CHUNK_MASK)
    if not chunk.is_open:
        open_chunk(self, number)


# ---- All of them -------------------------------------------------------------------------------

cdef void dup_large_members(arena_t *self, chunk_t *chunk) noexcept nogil:
    """The blocks of a copied chunk still point to the original's outside members."""
    cdef large_member_t *original
    cdef char *member
    cdef uint32_t place = CHUNK_HEADER
    while place < chunk.used:
        member = <char *>chunk + place * 8
        if <uint8_t>member[8] == MEMBER_LARGE:
            original = (<large_member_t **>(member + 16))[0]
            (<large_member_t **>(member + 16))[0] = add_large(self, original.data, original.size)
        place += chunk.units


cdef void arena_dup(const arena_t *self, arena_t *out) noexcept nogil:
    cdef uint32_t number
    cdef chunk_t *chunk
    out[0] = self[0]
    out.walk = NULL
    out.large = NULL
    out.large_count = 0
    out.large_bytes = 0
    out.chunks = <char **>mem_alloc(self.chunk_capacity * sizeof(char *))
    memcpy(out.chunks, self.chunks, self.chunk_count * sizeof(char *))
    for number in range(self.chunk_count):
        if is_number_free(self, number):
            continue
        chunk = <chunk_t *>mem_alloc(chunk_of(self, number).capacity * 8)
        memcpy(chunk, self.chunks[number], chunk_of(self, number).used * 8)
        out.chunks[number] = <char *>chunk
        if self.large_count > 0 and chunk.units == LARGE_UNITS:
            dup_large_members(out, chunk)


cdef bint arena_free_step(arena_t *self, uint64_t *budget) noexcept nogil:
    while self.large != NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        remove_large(self, self.large)
    while self.chunk_count > 0:
        if not is_number_free(self, self.chunk_count - 1):
            if budget[0] == 0:
                return False
            budget[0] -= 1
            mem_free(self.chunks[self.chunk_count - 1])
            self.live_chunks -= 1
        self.chunk_count -= 1
    mem_free(self.chunks)
    self.chunks = NULL
    return True


cdef uint64_t arena_heap_bytes(const arena_t *self) noexcept nogil:
    cdef uint64_t total = self.large_bytes
    cdef uint32_t number
    if self.chunks == NULL:
        return total
    total += mem_usable(self.chunks)
    for number in range(self.chunk_count):
        if not is_number_free(self, number):
            total += mem_usable(self.chunks[number])
    return total


cdef bint arena_check(const arena_t *self) noexcept nogil:
    cdef uint64_t live_units = 0
    cdef uint64_t total_units = 0
    cdef uint64_t text_bytes = 0
    cdef uint32_t number
    cdef uint32_t place
    cdef uint32_t live
    cdef uint32_t chunks = 0
    cdef chunk_t *chunk
    for number in range(self.chunk_count):
        if is_number_free(self, number):
            continue
        chunk = chunk_of(self, number)
        chunks += 1
        live = 0
        place = CHUNK_HEADER
        while place < chunk.used:
            if <uint8_t>(<char *>chunk)[place * 8 + 8] != MEMBER_FREE:
                live += 1
                text_bytes += member_text(<char *>chunk + place * 8).size
            place += chunk.units
        DFLY_CHECK(live == chunk.live and live > 0, "a chunk knows its members")
        DFLY_CHECK(chunk.used <= chunk.capacity, "blocks lie inside the chunk")
        DFLY_CHECK(not chunk.is_open or chunk.free_first != 0 or chunk.used + chunk.units <= chunk.capacity,
                   "an open chunk has room")
        live_units += live * chunk.units
        total_units += chunk.capacity
    DFLY_CHECK(chunks == self.live_chunks and total_units == self.total_units, "the arena knows its chunks")
    DFLY_CHECK(live_units == self.live_units and text_bytes == self.text_bytes, "the arena knows its members")
    return True
