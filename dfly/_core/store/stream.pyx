"""Streams of packed blocks: see stream.pxd for the layout.

Invariants: no block is without live entries; master IDs rise, and all IDs of a block are smaller than the next
block's master ID; `length` is the sum of the blocks' counts.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from dfly._core.store.block_list cimport list_item_equals, list_item_t, list_needle
from dfly._core.store.id_index cimport (id_ceiling, id_check, id_equal, id_first, id_floor, id_heap_bytes,
                                        id_increment, id_insert, id_last, id_last_slot, id_less, id_next, id_place_t,
                                        id_pop_last, id_previous, id_remove_at, id_slot, id_slot_t, id_take_first,
                                        stream_id, stream_id_t)
from dfly._core.store.joined_packs cimport (JOINED_ALIGNMENT, joined_of, joined_room, joined_t, pack_free,
                                            pack_is_joined, pack_separate, packs_join)
from dfly._core.store.listpack cimport (LISTPACK_BYTES_MAX, LISTPACK_END, LISTPACK_HEADER, listpack_bytes,
                                        listpack_dup, listpack_is_valid,
                                        listpack_new, listpack_next, listpack_previous, listpack_put,
                                        listpack_put_int, listpack_read, listpack_read_number,
                                        listpack_replace_int,
                                        listpack_room, listpack_seal)
from dfly._core.store.object cimport (TYPE_STREAM, container_ops_t, object_pointer, object_register_container,
                                      object_root, object_t)
from dfly._core.store.stream_front cimport (FRONT_LEAST, block_entries, front_before, front_beyond,
                                            front_fetch_ahead)
from dfly._core.store.stream_groups cimport (groups_block_count, groups_check,
                                             groups_detach_walks, groups_dup_step, groups_free_step,
                                             groups_heap_bytes, groups_mark, groups_purge_step, groups_walk_owner,
                                             mark_mix)
from dfly._core.store.stream_progress cimport stream_drop_references, stream_is_needed
from dfly._core.store.stream_walk cimport (stream_walk_begin, stream_walk_keep, stream_walk_step, stream_walk_t,
                                           stream_walk_take)
from dfly._core.sys.alloc cimport mem_free, mem_good_size, mem_realloc, mem_usable, mem_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, atomic_add, likely, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    TAIL_ROOM_MAX = 4096         # how far ahead the last block's allocation grows
    MASTER_ELEMENTS = 4          # count, deleted, number of fields, terminator
    ENTRY_ELEMENTS = 4           # flags, ms delta, seq delta, size
    ID_BYTES = 16
    PENDING_A_BLOCK = 8          # pending entries are copied in the time that a block takes
    JOIN_LEAST = 4               # so many blocks at least, and at most, share an allocation
    JOIN_MOST = 16
    JOIN_SHARE = 8               # no more than one in so many blocks is kept, or has room, for its neighbours' sake
    JOIN_BYTES_MAX = 8192        # larger blocks waste little: they stay for themselves
    JOINED_LEAST_SHARE = 4       # joined ones of which only one in so many is left are separated
    READ_ON_MAX = 16             # entries that are read on the way to one that may be near

cdef struct head_t:
    # The master entry.
    int64_t count
    int64_t deleted
    int64_t field_count
    const uint8_t *fields
    const uint8_t *entries


# ---- Elements ----------------------------------------------------------------------------------

cdef inline const uint8_t *skip(const uint8_t *p) noexcept nogil:
    cdef list_item_t item
    cdef uint32_t kind = p[0]
    if kind < 128:
        return p + 2
    if kind < 192:
        return p + (kind & 63) + 2
    return listpack_read(p, &item)


cdef inline const uint8_t *back(const uint8_t *pack, const uint8_t *p) noexcept nogil:
    """The element before p; there is one."""
    if likely(p[-1] < 128):
        return p - 1 - p[-1]
    return listpack_previous(pack, p)


cdef inline const uint8_t *read_head(const uint8_t *pack, head_t *out) noexcept nogil:
    """All but `entries`; returns where the fields begin."""
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    out.count = listpack_read_number(&p)
    out.deleted = listpack_read_number(&p)
    out.field_count = listpack_read_number(&p)
    out.fields = p
    return p


cdef inline const uint8_t *entries_of(const head_t *head) noexcept nogil:
    cdef const uint8_t *p = head.fields
    cdef int64_t _i
    for _i in range(head.field_count):
        p = skip(p)
    return p + 2                 # the terminator


cdef inline bint text_equals(const list_item_t *item, slice_t text) noexcept nogil:
    cdef list_item_t needle
    if likely(item.data != NULL):
        return item.size == text.size and memcmp(item.data, text.data, text.size) == 0
    list_needle(text.data, text.size, &needle)
    return list_item_equals(item, &needle)


cdef inline uint8_t *pack_at(const stream_t *self, id_place_t place) noexcept nogil:
    return <uint8_t *>id_slot(&self.blocks, place).value


# ---- The walk ----------------------------------------------------------------------------------

cdef void stream_begin_walk(stream_t *self, stream_walk_t *walk) noexcept nogil:
    stream_walk_begin(walk, &self.blocks, &self.walk)


cdef inline void before_change(stream_t *self, const id_slot_t *slot) noexcept nogil:
    if unlikely(self.walk != NULL):
        stream_walk_keep(self.walk, slot.id)


cdef inline void give_up_pack(stream_t *self, const id_slot_t *slot) noexcept nogil:
    """The stream has it no more."""
    if likely(self.walk == NULL) or not stream_walk_take(self.walk, slot.id):
        pack_free(<uint8_t *>slot.value)


# ---- Whole streams -----------------------------------------------------------------------------

# Streams of all threads count.
cdef uint64_t epochs = 0


cdef inline void renew_epoch(stream_t *self) noexcept nogil:
    self.epoch = atomic_add(&epochs, 1)


cdef stream_t *stream_new() noexcept nogil:
    cdef stream_t *self = <stream_t *>mem_zalloc(sizeof(stream_t))
    renew_epoch(self)
    return self


cdef bint stream_free_step(stream_t **self, uint64_t *budget) noexcept nogil:
    cdef stream_t *stream = self[0]
    if stream == NULL:
        return True
    while stream.blocks.count > 0:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        give_up_pack(stream, id_last_slot(&stream.blocks))
        id_pop_last(&stream.blocks)
    if not groups_free_step(&stream.groups, budget):
        return False
    if unlikely(stream.walk != NULL):
        stream.walk.link = NULL
    mem_free(stream)
    self[0] = NULL
    return True


cdef void stream_free(stream_t **self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    stream_free_step(self, &budget)


cdef stream_t *stream_dup(const stream_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    cdef stream_t *copy
    if self == NULL:
        return NULL
    copy = stream_dup_begin(self)
    stream_dup_step(self, copy, &budget)
    return copy


cdef stream_t *stream_dup_begin(const stream_t *self) noexcept nogil:
    cdef stream_t *copy = stream_new()
    copy.length = self.length
    copy.entries_added = self.entries_added
    copy.first_id = self.first_id
    copy.last_id = self.last_id
    copy.max_deleted_id = self.max_deleted_id
    return copy


cdef bint stream_dup_step(const stream_t *self, stream_t *copy, uint64_t *budget) noexcept nogil:
    cdef id_place_t place
    cdef uint64_t pending
    cdef bint is_done
    cdef bint more
    if copy.blocks.count == 0:
        more = id_first(&self.blocks, &place)
    else:
        more = id_floor(&self.blocks, id_last_slot(&copy.blocks).id, &place) and id_next(&self.blocks, &place)
    while more:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        if copy.blocks.count > 0:
            finish_last(copy)
        id_insert(&copy.blocks, id_slot(&self.blocks, place).id, listpack_dup(pack_at(self, place)))
        more = id_next(&self.blocks, &place)
    if budget[0] == 0:
        return False
    pending = budget[0] if budget[0] > <uint64_t>-1 // PENDING_A_BLOCK else budget[0] * PENDING_A_BLOCK
    is_done = groups_dup_step(&self.groups, &copy.groups, &pending)
    budget[0] = min(budget[0], pending // PENDING_A_BLOCK)
    return is_done


cdef uint64_t stream_mark(const stream_t *self) noexcept nogil:
    cdef uint64_t numbers[7]
    cdef uint64_t mark = 0
    cdef int i
    numbers[0] = self.epoch
    numbers[1] = self.entries_added
    numbers[2] = self.length
    numbers[3] = self.last_id.ms
    numbers[4] = self.last_id.seq
    numbers[5] = self.max_deleted_id.ms
    numbers[6] = self.max_deleted_id.seq
    for i in range(7):
        mark = mark_mix(mark, numbers[i])
    return groups_mark(&self.groups, mark)


cdef uint64_t stream_block_count(const stream_t *self) noexcept nogil:
    return 1 + self.blocks.count + groups_block_count(&self.groups) if self != NULL else 0


cdef size_t stream_heap_bytes(const stream_t *self) noexcept nogil:
    cdef const joined_t *joined = NULL
    cdef const uint8_t *pack
    cdef id_place_t place
    cdef size_t total
    cdef bint more
    if self == NULL:
        return 0
    total = mem_usable(self) + id_heap_bytes(&self.blocks) + groups_heap_bytes(&self.groups)
    more = id_first(&self.blocks, &place)
    while more:
        pack = pack_at(self, place)
        if not pack_is_joined(pack):
            total += mem_usable(pack)
        elif joined != joined_of(pack):
            # Those that share one follow one another.
            joined = joined_of(pack)
            total += mem_usable(joined)
        more = id_next(&self.blocks, &place)
    return total


cdef size_t stream_data_bytes(const stream_t *self) noexcept nogil:
    cdef id_place_t place
    cdef size_t total = 0
    cdef bint more = self != NULL and id_first(&self.blocks, &place)
    while more:
        total += listpack_bytes(pack_at(self, place))
        more = id_next(&self.blocks, &place)
    return total


# ---- Allocations of blocks ---------------------------------------------------------------------

cdef void shrink(id_slot_t *slot) noexcept nogil:
    """The block stays by itself and will not grow any more."""
    cdef uint8_t *pack = <uint8_t *>slot.value
    # Copied: an allocator shrinks in place what fills half of its block.
    if not pack_is_joined(pack) and mem_good_size(listpack_bytes(pack)) < mem_usable(pack):
        slot.value = listpack_dup(pack)
        mem_free(pack)


cdef inline bint lies_in(const stream_t *self, id_place_t place, const joined_t *joined,
                         size_t size) noexcept nogil:
    """By the address alone: the block itself is not touched."""
    return 0 < <size_t>pack_at(self, place) - <size_t>joined < size


cdef void separate_few(stream_t *self, id_place_t place) noexcept nogil:
    """If the block is one of the last few in its allocation: so that they don't keep all of it."""
    cdef const uint8_t *pack = pack_at(self, place)
    cdef id_place_t next_ = place
    cdef const joined_t *joined
    cdef id_slot_t *slot
    cdef uint32_t count = 1
    cdef size_t size
    if not pack_is_joined(pack):
        return
    joined = joined_of(pack)
    size = mem_usable(joined)
    while id_previous(&self.blocks, &next_) and lies_in(self, next_, joined, size):
        place = next_
        count += 1
    next_ = place
    count = 1
    while id_next(&self.blocks, &next_) and lies_in(self, next_, joined, size):
        count += 1
    if count * JOINED_LEAST_SHARE >= joined.total:
        return
    while count > 0:
        slot = id_slot(&self.blocks, place)
        before_change(self, slot)
        slot.value = pack_separate(<uint8_t *>slot.value)
        id_next(&self.blocks, &place)
        count -= 1


stream_joins_always = False


cdef uint32_t choose_joined(const uint8_t *const *packs) noexcept nogil:
    """How many of the first ones, of JOIN_MOST, fit an allocation best; 0: they need no less than by themselves."""
    cdef size_t size = sizeof(joined_t)
    cdef size_t now = 0
    cdef size_t waste
    cdef size_t best_waste = 1
    cdef size_t best_size = 0
    cdef uint32_t best = 0
    cdef uint32_t i
    for i in range(JOIN_MOST):
        size += joined_room(listpack_bytes(packs[i]))
        now += mem_good_size(listpack_bytes(packs[i]))
        if i + 1 < JOIN_LEAST or (mem_good_size(size) >= now and not stream_joins_always):
            continue
        waste = mem_good_size(size) - size
        if best == 0 or waste * best_size < best_waste * size:
            best = i + 1
            best_waste = waste
            best_size = size
    return best


cdef void shrink_loose(stream_t *self) noexcept nogil:
    cdef id_place_t place
    cdef bint more = id_last(&self.blocks, &place)
    while more and self.loose > 0:
        before_change(self, id_slot(&self.blocks, place))
        shrink(id_slot(&self.blocks, place))
        self.loose -= 1
        more = id_previous(&self.blocks, &place)
    self.loose = 0


cdef void join_loose(stream_t *self) noexcept nogil:
    """JOIN_MOST blocks are loose, as far as is known."""
    cdef id_slot_t *slots[JOIN_MOST]
    cdef uint8_t *packs[JOIN_MOST]
    cdef uint32_t count = 0
    cdef uint32_t i
    cdef id_place_t place
    cdef bint more = id_last(&self.blocks, &place)
    while more and count < JOIN_MOST:
        i = JOIN_MOST - 1 - count
        slots[i] = id_slot(&self.blocks, place)
        packs[i] = <uint8_t *>slots[i].value
        if pack_is_joined(packs[i]) or listpack_bytes(packs[i]) > JOIN_BYTES_MAX:
            # Of those that were loose some were deleted.
            self.loose = count
            return
        count += 1
        more = id_previous(&self.blocks, &place)
    count = choose_joined(<const uint8_t *const *>packs)
    if count == 0:
        shrink_loose(self)
        return
    for i in range(count):
        before_change(self, slots[i])
    packs_join(packs, count)
    for i in range(count):
        slots[i].value = packs[i]
    self.loose = JOIN_MOST - count


cdef void finish_last(stream_t *self) noexcept nogil:
    """Another block will follow the last one, which a walk has already. It moves to an allocation of its size, or in a
    long stream later to one that it shares with others."""
    cdef id_slot_t *slot = id_last_slot(&self.blocks)
    self.loose = min(self.loose + 1, <uint32_t>JOIN_MOST)
    if unlikely(listpack_bytes(<uint8_t *>slot.value) > JOIN_BYTES_MAX):
        shrink_loose(self)
    elif self.blocks.count < JOIN_SHARE * JOIN_MOST:
        shrink(slot)
    elif unlikely(self.loose == JOIN_MOST):
        join_loose(self)


# ---- Adding ------------------------------------------------------------------------------------

cdef bint stream_next_id(const stream_t *self, int64_t now_ms, stream_id_t *out) noexcept nogil:
    if <uint64_t>now_ms > self.last_id.ms:
        out[0] = stream_id(<uint64_t>now_ms, 0)
        return True
    out[0] = self.last_id
    return id_increment(out)


cdef inline size_t texts_size(const slice_t *texts, uint32_t count) noexcept nogil:
    cdef size_t total = 0
    cdef uint32_t i
    for i in range(count):
        total += texts[i].size
    return total


cdef bint stream_entry_fits(const slice_t *texts, uint32_t count) noexcept nogil:
    # With what packing adds.
    return texts_size(texts, count) + (count + MASTER_ELEMENTS + ENTRY_ELEMENTS) * listpack_room(0) \
        <= LISTPACK_BYTES_MAX


cdef inline bint block_is_full(const uint8_t *pack, const head_t *head, size_t size, size_t room,
                               const stream_limits_t *limits) noexcept nogil:
    cdef uint64_t bytes_ = limits.bytes
    if bytes_ == 0 or bytes_ > STREAM_ELEMENTS_MAX:
        bytes_ = STREAM_ELEMENTS_MAX
    return (listpack_bytes(pack) + size >= bytes_ or listpack_bytes(pack) + room > LISTPACK_BYTES_MAX
            or (limits.entries != 0 and <uint64_t>(head.count + head.deleted) >= limits.entries))


cdef inline uint8_t *tail_with_room(stream_t *self, size_t more) noexcept nogil:
    """The last block, with room for so many bytes behind its end mark."""
    cdef id_slot_t *slot = id_last_slot(&self.blocks)
    cdef uint8_t *pack = <uint8_t *>slot.value
    cdef size_t size = listpack_bytes(pack)
    if likely(size + more <= self.tail_room):
        return pack
    pack = pack_separate(pack)
    slot.value = pack
    if size + more > mem_usable(pack):
        more += min(size + more, <size_t>TAIL_ROOM_MAX) // 2
        pack = <uint8_t *>mem_realloc(pack, mem_good_size(size + more))
        slot.value = pack
    self.tail_room = <uint32_t>mem_usable(pack)
    return pack


cdef void begin_block(stream_t *self, stream_id_t master, const slice_t *texts, uint32_t pair_count,
                      size_t size) noexcept nogil:
    """A block with a master entry for one entry, and room for that; a full one before it says how large it gets."""
    cdef size_t room = size + (2 * pair_count + MASTER_ELEMENTS + ENTRY_ELEMENTS) * listpack_room(0)
    cdef uint8_t *pack
    cdef uint8_t *p
    cdef size_t before
    cdef uint32_t i
    if self.blocks.count > 0:
        before = listpack_bytes(<uint8_t *>id_last_slot(&self.blocks).value)
        before += before // 16
        if room < before <= TAIL_ROOM_MAX:
            room = before
    pack = listpack_new(room)
    p = pack + LISTPACK_HEADER
    p = listpack_put_int(p, 0)
    p = listpack_put_int(p, 0)
    p = listpack_put_int(p, pair_count)
    for i in range(pair_count):
        p = listpack_put(p, texts[2 * i].data, texts[2 * i].size)
    p = listpack_put_int(p, 0)
    listpack_seal(pack, p, pair_count + MASTER_ELEMENTS)
    id_insert(&self.blocks, master, pack)
    self.tail_room = <uint32_t>mem_usable(pack)


cdef inline bint has_same_fields(const head_t *head, const slice_t *texts, uint32_t pair_count) noexcept nogil:
    cdef const uint8_t *p = head.fields
    cdef list_item_t item
    cdef uint32_t i
    if head.field_count != pair_count:
        return False
    for i in range(pair_count):
        p = listpack_read(p, &item)
        if not text_equals(&item, texts[2 * i]):
            return False
    return True


cdef inline void set_count(stream_t *self, int64_t count) noexcept nogil:
    """Of live entries in the last block."""
    cdef id_slot_t *slot = id_last_slot(&self.blocks)
    cdef uint8_t *pack = <uint8_t *>slot.value
    if likely(count <= 127 and pack[LISTPACK_HEADER] < 128):
        pack[LISTPACK_HEADER] = <uint8_t>count
        return
    pack = pack_separate(pack)
    listpack_replace_int(&pack, pack + LISTPACK_HEADER, count)
    slot.value = pack
    self.tail_room = 0


cdef void stream_append(stream_t *self, stream_id_t id, const slice_t *texts, uint32_t pair_count,
                        const stream_limits_t *limits) noexcept nogil:
    cdef size_t size = texts_size(texts, 2 * pair_count)
    cdef size_t room = size + (2 * pair_count + ENTRY_ELEMENTS + 1) * listpack_room(0)
    cdef head_t head
    cdef stream_id_t master
    cdef uint8_t *pack
    cdef uint8_t *p
    cdef bint is_same
    cdef uint32_t i
    if likely(self.blocks.count > 0):
        pack = <uint8_t *>id_last_slot(&self.blocks).value
        read_head(pack, &head)
        before_change(self, id_last_slot(&self.blocks))
        if unlikely(block_is_full(pack, &head, size, room, limits)):
            finish_last(self)
            begin_block(self, id, texts, pair_count, size)
            head.count = 0
            is_same = True
        else:
            is_same = has_same_fields(&head, texts, pair_count)
    else:
        begin_block(self, id, texts, pair_count, size)
        head.count = 0
        is_same = True
    set_count(self, head.count + 1)
    master = id_last_slot(&self.blocks).id
    pack = tail_with_room(self, room)
    p = pack + listpack_bytes(pack) - 1
    p = listpack_put_int(p, STREAM_SAME_FIELDS if is_same else 0)
    p = listpack_put_int(p, <int64_t>(id.ms - master.ms))
    p = listpack_put_int(p, <int64_t>(id.seq - master.seq))
    if is_same:
        for i in range(pair_count):
            p = listpack_put(p, texts[2 * i + 1].data, texts[2 * i + 1].size)
        i = pair_count + 3
    else:
        p = listpack_put_int(p, pair_count)
        for i in range(2 * pair_count):
            p = listpack_put(p, texts[i].data, texts[i].size)
        i = 2 * pair_count + 4
    p = listpack_put_int(p, i)
    listpack_seal(pack, p, i + 1)
    self.length += 1
    self.entries_added += 1
    self.last_id = id
    if self.length == 1:
        self.first_id = id


# ---- Reading -----------------------------------------------------------------------------------

cdef inline void enter_block(stream_cursor_t *self) noexcept nogil:
    cdef const id_slot_t *slot = id_slot(&self.stream.blocks, self.place)
    cdef head_t head
    self.master = slot.id
    self.pack = <const uint8_t *>slot.value
    self.fields = read_head(self.pack, &head)
    self.entries = entries_of(&head)
    self.field_count = <uint32_t>head.field_count


cdef inline uint32_t read_entry(stream_cursor_t *self, const uint8_t *p) noexcept nogil:
    """Flags, ID and number of pairs of the entry at p; returns the flags."""
    cdef uint32_t flags = <uint32_t>listpack_read_number(&p)
    self.id.ms = self.master.ms + <uint64_t>listpack_read_number(&p)
    self.id.seq = self.master.seq + <uint64_t>listpack_read_number(&p)
    if likely(flags & STREAM_SAME_FIELDS):
        self.pair_count = self.field_count
        self.field = self.fields
    else:
        self.pair_count = <uint32_t>listpack_read_number(&p)
        self.field = NULL
    self.pairs_left = self.pair_count
    self.values = p
    return flags


cdef inline const uint8_t *entry_end(const stream_cursor_t *self) noexcept nogil:
    """Where the entry that was read ends, with its size."""
    cdef const uint8_t *p = self.values
    cdef uint32_t left = self.pairs_left if self.field != NULL else 2 * self.pairs_left
    while left > 0:
        p = skip(p)
        left -= 1
    return skip(p)


cdef void stream_seek(const stream_t *self, stream_id_t start, stream_cursor_t *out) noexcept nogil:
    out.stream = self
    out.is_at_end = False
    out.pack = NULL
    if not id_floor(&self.blocks, start, &out.place) and not id_first(&self.blocks, &out.place):
        out.is_at_end = True
        return
    enter_block(out)
    # Up to the first one that is not smaller, deleted or not; the end of the block is for stream_read_next.
    out.position = out.entries
    while out.position[0] != LISTPACK_END:
        read_entry(out, out.position)
        if not id_less(out.id, start):
            break
        out.position = entry_end(out)
    out.values = NULL


cdef bint stream_read_next(stream_cursor_t *self) noexcept nogil:
    if unlikely(self.is_at_end):
        return False
    if likely(self.values != NULL):
        self.position = entry_end(self)
    while True:
        while unlikely(self.position[0] == LISTPACK_END):
            if not id_next(&self.stream.blocks, &self.place):
                self.is_at_end = True
                return False
            enter_block(self)
            self.position = self.entries
        if likely(read_entry(self, self.position) & STREAM_DELETED == 0):
            return True
        self.position = entry_end(self)


cdef bint stream_read_at(const stream_t *self, stream_id_t id, stream_cursor_t *cursor) noexcept nogil:
    cdef uint32_t left = READ_ON_MAX
    if self.length == 0 or id_less(id, self.first_id):
        return False
    if cursor.stream != NULL and not cursor.is_at_end and id_less(cursor.id, id):
        while id_less(cursor.id, id) and left > 0:
            if not stream_read_next(cursor):
                return False
            left -= 1
        if not id_less(cursor.id, id):
            return id_equal(cursor.id, id)
    stream_seek(self, id, cursor)
    return stream_read_next(cursor) and id_equal(cursor.id, id)


cdef const uint8_t *entry_before(const stream_cursor_t *self, const uint8_t *p) noexcept nogil:
    """Where the entry that ends at p begins."""
    cdef const uint8_t *last = back(self.pack, p)
    cdef const uint8_t *size_at = last
    cdef int64_t size = listpack_read_number(&size_at)
    while size > 0:
        last = back(self.pack, last)
        size -= 1
    return last


cdef void stream_seek_back(const stream_t *self, stream_id_t start, stream_cursor_t *out) noexcept nogil:
    out.stream = self
    out.is_at_end = not id_floor(&self.blocks, start, &out.place)
    if out.is_at_end:
        return
    enter_block(out)
    out.position = out.pack + listpack_bytes(out.pack) - 1
    # Down to behind the last one that is not larger: a block has one, its first.
    while out.position != out.entries:
        out.values = entry_before(out, out.position)
        read_entry(out, out.values)
        if not id_less(start, out.id):
            break
        out.position = entry_before(out, out.position)


cdef bint stream_read_previous(stream_cursor_t *self) noexcept nogil:
    if unlikely(self.is_at_end):
        return False
    while True:
        while unlikely(self.position == self.entries):
            if not id_previous(&self.stream.blocks, &self.place):
                self.is_at_end = True
                return False
            enter_block(self)
            self.position = self.pack + listpack_bytes(self.pack) - 1
        self.position = entry_before(self, self.position)
        if likely(read_entry(self, self.position) & STREAM_DELETED == 0):
            return True


cdef void stream_read_pair(stream_cursor_t *self, list_item_t *field, list_item_t *value) noexcept nogil:
    if likely(self.field != NULL):
        self.field = listpack_read(self.field, field)
    else:
        self.values = listpack_read(self.values, field)
    self.values = listpack_read(self.values, value)
    self.pairs_left -= 1


cdef bint stream_range_is_short(const stream_t *self, stream_id_t start, stream_id_t end,
                                uint64_t most) noexcept nogil:
    cdef uint64_t count = 0
    cdef id_place_t place
    cdef bint more = id_floor(&self.blocks, start, &place) or id_first(&self.blocks, &place)
    while more and not id_less(end, id_slot(&self.blocks, place).id):
        count += block_entries(pack_at(self, place))
        if count > most:
            return False
        more = id_next(&self.blocks, &place)
    return True


cdef uint64_t stream_count_in_block(const stream_t *self, const id_place_t *place, stream_id_t start,
                                    stream_id_t end) noexcept nogil:
    """By its header, unless an end of the range may be in it."""
    cdef stream_id_t master = id_slot(&self.blocks, place[0]).id
    cdef id_place_t behind = place[0]
    cdef stream_cursor_t cursor
    cdef uint64_t count = 0
    if (not id_less(master, start) and id_next(&self.blocks, &behind)
            and not id_less(end, id_slot(&self.blocks, behind).id)):
        return block_entries(pack_at(self, place[0]))
    stream_seek(self, start if id_less(master, start) else master, &cursor)
    while stream_read_next(&cursor) and id_equal(cursor.master, master) and not id_less(end, cursor.id):
        count += 1
    return count


cdef bint stream_has(const stream_t *self, stream_id_t id) noexcept nogil:
    cdef stream_cursor_t cursor
    cursor.stream = NULL
    return stream_read_at(self, id, &cursor)


cdef bint stream_last_entry(const stream_t *self, stream_id_t *out) noexcept nogil:
    cdef stream_cursor_t cursor
    stream_seek_back(self, stream_id(<uint64_t>-1, <uint64_t>-1), &cursor)
    if not stream_read_previous(&cursor):
        return False
    out[0] = cursor.id
    return True


cdef void stream_refresh_first(stream_t *self) noexcept nogil:
    cdef stream_cursor_t cursor
    stream_seek(self, stream_id(0, 0), &cursor)
    self.first_id = cursor.id if stream_read_next(&cursor) else stream_id(0, 0)


cdef int common_bytes(stream_id_t a, stream_id_t b) noexcept nogil:
    """How many bytes of two different IDs, most significant ones first, are the same."""
    cdef uint64_t differing = a.ms ^ b.ms
    cdef int same = 0
    if differing == 0:
        differing = a.seq ^ b.seq
        same = sizeof(uint64_t)
    while differing >> 56 == 0:
        same += 1
        differing <<= 8
    return same


cdef inline uint64_t nodes_of(int depth, int parent) noexcept nogil:
    """A node, and one before it for bytes that do not branch, if there are any behind its parent's."""
    return 2 if depth > parent + 1 else 1


cdef uint64_t stream_tree_nodes(const stream_t *self) noexcept nogil:
    # Each block has a leaf; where neighbours differ first there is a branch. Open are the branches on the way to the
    # last block.
    cdef int open_depths[ID_BYTES + 1]
    cdef int open_count = 1
    cdef int before = -1
    cdef int depth
    cdef uint64_t total = 0
    cdef id_place_t place
    cdef stream_id_t id
    if not id_first(&self.blocks, &place):
        return 1
    open_depths[0] = -1
    id = id_slot(&self.blocks, place).id
    while id_next(&self.blocks, &place):
        depth = common_bytes(id, id_slot(&self.blocks, place).id)
        id = id_slot(&self.blocks, place).id
        total += nodes_of(ID_BYTES, max(before, depth))
        while open_depths[open_count - 1] > depth:
            open_count -= 1
            total += nodes_of(open_depths[open_count], max(depth, open_depths[open_count - 1]))
        if open_depths[open_count - 1] < depth:
            open_depths[open_count] = depth
            open_count += 1
        before = depth
    total += nodes_of(ID_BYTES, before)
    while open_count > 1:
        open_count -= 1
        total += nodes_of(open_depths[open_count], open_depths[open_count - 1])
    return total


# ---- Removing ----------------------------------------------------------------------------------

cdef void set_counts(stream_t *self, id_place_t place, int64_t count, int64_t deleted) noexcept nogil:
    """Of a block; it may move."""
    cdef uint8_t *pack = pack_at(self, place)
    cdef const uint8_t *p
    if pack_is_joined(pack):
        # Numbers of one byte change where they are.
        if count < 128 and deleted < 128 and pack[LISTPACK_HEADER] < 128 and pack[LISTPACK_HEADER + 2] < 128:
            pack[LISTPACK_HEADER] = <uint8_t>count
            pack[LISTPACK_HEADER + 2] = <uint8_t>deleted
            return
        pack = pack_separate(pack)
    p = listpack_replace_int(&pack, pack + LISTPACK_HEADER, count)
    listpack_replace_int(&pack, listpack_next(p), deleted)
    id_slot(&self.blocks, place).value = pack
    self.tail_room = 0


cdef void drop_block(stream_t *self, id_place_t place) noexcept nogil:
    cdef stream_id_t master = id_slot(&self.blocks, place).id
    give_up_pack(self, id_slot(&self.blocks, place))
    id_remove_at(&self.blocks, place)
    self.tail_room = 0
    if id_floor(&self.blocks, master, &place):
        separate_few(self, place)
    if id_ceiling(&self.blocks, master, &place):
        separate_few(self, place)


cdef bint stream_delete(stream_t *self, stream_id_t id) noexcept nogil:
    cdef stream_cursor_t cursor
    cdef head_t head
    stream_seek(self, id, &cursor)
    if not stream_read_next(&cursor) or not id_equal(cursor.id, id):
        return False
    read_head(cursor.pack, &head)
    if head.count == 1:
        drop_block(self, cursor.place)
    else:
        before_change(self, id_slot(&self.blocks, cursor.place))
        # The flags are one byte.
        (<uint8_t *>cursor.position)[0] |= STREAM_DELETED
        set_counts(self, cursor.place, head.count - 1, head.deleted + 1)
    renew_epoch(self)
    self.length -= 1
    if id_less(self.max_deleted_id, id):
        self.max_deleted_id = id
    if id_equal(self.first_id, id):
        stream_refresh_first(self)
    return True


cdef void detach_first(stream_t *self, stream_t **dropped) noexcept nogil:
    cdef id_place_t place
    id_first(&self.blocks, &place)
    if dropped[0] == NULL:
        dropped[0] = stream_new()
    if likely(self.walk == NULL) or not stream_walk_take(self.walk, id_slot(&self.blocks, place).id):
        id_insert(&dropped[0].blocks, id_slot(&self.blocks, place).id, pack_at(self, place))
    id_remove_at(&self.blocks, place)
    if self.blocks.count == 0:
        self.tail_room = 0


cdef bint block_is_before(const stream_t *self, id_place_t block, stream_id_t first_kept) noexcept nogil:
    """Are all its entries, deleted ones too, smaller?"""
    cdef stream_cursor_t cursor
    cdef id_place_t place = block
    cursor.stream = self
    cursor.place = block
    if id_next(&self.blocks, &place) and not id_less(first_kept, id_slot(&self.blocks, place).id):
        return True
    if not id_less(id_slot(&self.blocks, cursor.place).id, first_kept):
        return False
    enter_block(&cursor)
    read_entry(&cursor, entry_before(&cursor, cursor.pack + listpack_bytes(cursor.pack) - 1))
    return id_less(cursor.id, first_kept)


cdef bint may_trim(stream_t *self, stream_id_t id, stream_references_t references) noexcept nogil:
    if references == STREAM_ONLY_ACKNOWLEDGED:
        return not stream_is_needed(self, id)
    if references == STREAM_DROP_REFERENCES:
        stream_drop_references(self, id)
    return True


cdef uint64_t trim_block(stream_t *self, id_place_t block, bint by_id, uint64_t length, stream_id_t first_kept,
                         stream_references_t references) noexcept nogil:
    """Flags entries, from the block's first one."""
    cdef stream_cursor_t cursor
    cdef head_t head
    cdef int64_t deleted = 0
    cdef uint32_t flags
    cursor.stream = self
    cursor.place = block
    enter_block(&cursor)
    before_change(self, id_slot(&self.blocks, block))
    cursor.position = cursor.entries
    while cursor.position[0] != LISTPACK_END:
        flags = read_entry(&cursor, cursor.position)
        if (not id_less(cursor.id, first_kept)) if by_id else self.length <= length:
            break
        if flags & STREAM_DELETED == 0 and may_trim(self, cursor.id, references):
            (<uint8_t *>cursor.position)[0] |= STREAM_DELETED
            self.length -= 1
            deleted += 1
        cursor.position = entry_end(&cursor)
    if deleted > 0:
        read_head(cursor.pack, &head)
        set_counts(self, cursor.place, head.count - deleted, head.deleted + deleted)
    return <uint64_t>deleted


cdef uint64_t trim_front(stream_t *self, bint by_id, uint64_t length, stream_id_t first_kept,
                         stream_t **dropped) noexcept nogil:
    """Takes whole blocks away by leaves of the index, where many go; returns how many entries went."""
    cdef uint64_t entries = 0
    cdef uint64_t gone
    if self.blocks.count < FRONT_LEAST or self.walk != NULL or (not by_id and self.length <= length):
        return 0
    if by_id:
        gone = front_before(&self.blocks, self.length, first_kept, &entries)
    else:
        gone = front_beyond(&self.blocks, self.length, length, &entries)
    if gone < FRONT_LEAST:
        return 0
    if dropped[0] == NULL:
        dropped[0] = stream_new()
    id_take_first(&self.blocks, gone, &dropped[0].blocks)
    if self.blocks.count == 0:
        self.tail_room = 0
    self.length -= entries
    return entries


cdef uint64_t trim(stream_t *self, bint by_id, uint64_t length, stream_id_t first_kept, bint approximate,
                   uint64_t limit, stream_t **dropped) noexcept nogil:
    cdef id_place_t place
    cdef uint64_t deleted = 0
    cdef uint64_t entries
    if limit == 0:
        deleted = trim_front(self, by_id, length, first_kept, dropped)
    while id_first(&self.blocks, &place):
        if not by_id and self.length <= length:
            break
        front_fetch_ahead(&self.blocks)
        entries = block_entries(pack_at(self, place))
        if limit != 0 and deleted + entries > limit:
            break
        if block_is_before(self, place, first_kept) if by_id else self.length - entries >= length:
            detach_first(self, dropped)
            self.length -= entries
            deleted += entries
            continue
        if not approximate:
            deleted += trim_block(self, place, by_id, length, first_kept, STREAM_KEEP_REFERENCES)
        break
    if deleted > 0:
        if id_first(&self.blocks, &place):
            separate_few(self, place)
        if self.length == 0:
            # XSETID may now give the same IDs once more.
            renew_epoch(self)
        stream_refresh_first(self)
    return deleted


cdef uint64_t stream_trim_length(stream_t *self, uint64_t length, bint approximate, uint64_t limit,
                                 stream_t **dropped) noexcept nogil:
    return trim(self, False, length, stream_id(0, 0), approximate, limit, dropped)


cdef uint64_t stream_trim_id(stream_t *self, stream_id_t first_kept, bint approximate, uint64_t limit,
                             stream_t **dropped) noexcept nogil:
    return trim(self, True, 0, first_kept, approximate, limit, dropped)


cdef uint64_t stream_trim_referenced(stream_t *self, int64_t length, stream_id_t first_kept, bint approximate,
                                     uint64_t limit, stream_references_t references) noexcept nogil:
    cdef bint by_id = length < 0
    cdef bint is_whole
    cdef bint more
    cdef id_place_t place
    cdef stream_id_t master
    cdef uint64_t deleted = 0
    cdef uint64_t entries
    cdef uint64_t gone
    more = id_first(&self.blocks, &place)
    while more and (by_id or self.length > <uint64_t>length):
        master = id_slot(&self.blocks, place).id
        entries = block_entries(pack_at(self, place))
        if limit != 0 and deleted + entries > limit:
            break
        is_whole = (block_is_before(self, place, first_kept) if by_id
                    else self.length - entries >= <uint64_t>length)
        if not is_whole and approximate:
            break
        gone = trim_block(self, place, by_id, <uint64_t>length, first_kept, references)
        deleted += gone
        if is_whole and gone == entries:
            drop_block(self, place)
            more = id_ceiling(&self.blocks, master, &place)
        else:
            more = id_next(&self.blocks, &place)
        if not is_whole and by_id:
            break
    if deleted > 0:
        renew_epoch(self)
        stream_refresh_first(self)
    return deleted


# ---- Loading -----------------------------------------------------------------------------------

cdef bint stream_load_block(stream_t *self, stream_id_t master, uint8_t *pack) noexcept nogil:
    if self.blocks.count > 0 and not id_less(id_last_slot(&self.blocks).id, master):
        return False
    self.tail_room = 0
    if self.blocks.count > 0:
        finish_last(self)
    return id_insert(&self.blocks, master, pack)


cdef bint take_number(const uint8_t **p, int64_t least, int64_t most, int64_t *out) noexcept nogil:
    """The integer at p, if there is one, in this range."""
    cdef list_item_t item
    if p[0][0] == LISTPACK_END:
        return False
    p[0] = listpack_read(p[0], &item)
    out[0] = item.integer
    return item.data == NULL and least <= item.integer <= most


cdef bint take_elements(const uint8_t **p, int64_t count) noexcept nogil:
    while count > 0:
        if p[0][0] == LISTPACK_END:
            return False
        p[0] = skip(p[0])
        count -= 1
    return True


cdef bint stream_pack_is_valid(const uint8_t *pack, size_t size, stream_id_t master, uint64_t *entries,
                               stream_id_t *last) noexcept nogil:
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    cdef int64_t most = <int64_t>size
    cdef int64_t count
    cdef int64_t deleted
    cdef int64_t field_count
    cdef int64_t number = 0
    cdef int64_t flags = 0
    cdef int64_t ms = 0
    cdef int64_t seq = 0
    cdef stream_id_t id
    if not listpack_is_valid(pack, size):
        return False
    # No live entry is left where XTRIM by ID has met deleted ones: as in Redis, such a block stays.
    if (not take_number(&p, 0, most, &count) or not take_number(&p, 0, most, &deleted) or count + deleted == 0
            or not take_number(&p, 0, most, &field_count) or not take_elements(&p, field_count)
            or p[0] != 0):
        return False
    p += 2
    entries[0] = <uint64_t>count
    last[0] = master
    while p[0] != LISTPACK_END:
        # Flags are changed in place: one byte.
        if (p[0] >= 128 or not take_number(&p, 0, STREAM_DELETED | STREAM_SAME_FIELDS, &flags)
                or not take_number(&p, -INT64_MAX - 1, INT64_MAX, &ms)
                or not take_number(&p, -INT64_MAX - 1, INT64_MAX, &seq)):
            return False
        id = stream_id(master.ms + <uint64_t>ms, master.seq + <uint64_t>seq)
        if id_less(id, last[0]):
            return False
        last[0] = id
        number = field_count
        if flags & STREAM_SAME_FIELDS == 0:
            if not take_number(&p, 0, most, &number):
                return False
            number = 2 * number + 1
            if not take_elements(&p, number - 1):
                return False
        elif not take_elements(&p, number):
            return False
        number += 3
        if not take_number(&p, number, number, &number):
            return False
        if flags & STREAM_DELETED:
            deleted -= 1
        else:
            count -= 1
    return count == 0 and deleted == 0


# ---- For tests -----------------------------------------------------------------------------------

cdef bint stream_check(const stream_t *self) noexcept nogil:
    cdef id_place_t place
    cdef stream_id_t last = stream_id(0, 0)
    cdef stream_id_t block_last
    cdef uint64_t total = 0
    cdef uint64_t entries = 0
    cdef joined_t *joined
    cdef uint8_t *pack = NULL
    cdef bint more
    id_check(&self.blocks)
    more = id_first(&self.blocks, &place)
    while more:
        pack = pack_at(self, place)
        DFLY_CHECK(not id_less(id_slot(&self.blocks, place).id, last), "IDs rise from block to block")
        DFLY_CHECK(stream_pack_is_valid(pack, listpack_bytes(pack), id_slot(&self.blocks, place).id, &entries,
                                        &block_last), "a block is well formed")
        if pack_is_joined(pack):
            joined = joined_of(pack)
            DFLY_CHECK(<size_t>joined % JOINED_ALIGNMENT == 0 and 0 < joined.live <= joined.total
                       and pack + listpack_bytes(pack) <= <uint8_t *>joined + mem_usable(joined),
                       "a joined block lies inside its allocation")
        else:
            DFLY_CHECK(listpack_bytes(pack) <= mem_usable(pack), "a block lies inside its allocation")
        total += entries
        last = block_last
        more = id_next(&self.blocks, &place)
    DFLY_CHECK(total == self.length, "the stream knows how many entries it has")
    DFLY_CHECK(not id_less(self.last_id, last), "no entry is behind the last ID")
    DFLY_CHECK(self.tail_room == 0 or (not pack_is_joined(pack) and self.tail_room <= mem_usable(pack)),
               "the last block has its room")
    groups_check(&self.groups)
    return True


# ---- As a container ----------------------------------------------------------------------------

cdef void dup_object(const object_t *self, object_t *out) noexcept nogil:
    object_root(out)[0] = stream_dup(<const stream_t *>object_pointer(self))


cdef bint free_object_step(object_t *self, uint64_t *budget) noexcept nogil:
    return stream_free_step(<stream_t **>object_root(self), budget)


cdef bint purge_object_step(object_t *self, uint64_t *budget) noexcept nogil:
    cdef stream_t *stream = <stream_t *>object_pointer(self)
    return stream == NULL or groups_purge_step(&stream.groups, budget)


cdef uint64_t object_blocks(const object_t *self) noexcept nogil:
    return stream_block_count(<const stream_t *>object_pointer(self))


cdef uint64_t object_heap(const object_t *self) noexcept nogil:
    return stream_heap_bytes(<const stream_t *>object_pointer(self))


cdef uint64_t object_data(const object_t *self) noexcept nogil:
    return stream_data_bytes(<const stream_t *>object_pointer(self))


cdef const char *object_encoding_text(const object_t *self) noexcept nogil:
    return "stream"


cdef const void *walk_owner(const object_t *self) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(self)
    if stream == NULL:
        return NULL
    return stream.walk.owner if stream.walk != NULL else groups_walk_owner(&stream.groups)


cdef void finish_walk(object_t *self) noexcept nogil:
    """What is pending is noted, and written later."""
    cdef stream_t *stream = <stream_t *>object_pointer(self)
    while stream.walk != NULL and not stream_walk_step(stream.walk):
        pass
    groups_detach_walks(&stream.groups)


cdef container_ops_t OPS
OPS.walk_owner = walk_owner
OPS.finish_walk = finish_walk
OPS.dup = dup_object
OPS.free_step = free_object_step
OPS.purge_step = purge_object_step
OPS.block_count = object_blocks
OPS.heap_bytes = object_heap
OPS.data_bytes = object_data
OPS.encoding_name = object_encoding_text
object_register_container(TYPE_STREAM, &OPS)
