"""XREAD of many entries, in slices: see stream_long_reads.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.commands.stream_ranges cimport entries_count, entries_left_are_still, entries_left_note
from dfly._core.commands.streams cimport STREAM_FOUND, reply_entry
from dfly._core.engine.database cimport find_peek
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_PAUSED, SLICES_WORKED, slices_changed, slices_first, slices_next,
                                       slices_plan_t, slices_work, work_goes_on)
from dfly._core.engine.transaction cimport hop_on_keys, transaction_scope
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_map
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport id_increment, stream_id_t
from dfly._core.store.object cimport object_pointer
from dfly._core.store.stream cimport stream_cursor_t, stream_range_is_short, stream_read_next, stream_seek
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef inline streams_left_t *left_of(const transaction_t *tx) noexcept nogil:
    return <streams_left_t *>tx.state


# ---- One stream --------------------------------------------------------------------------------

cdef bint go_on_counting(streams_left_t *self, stream_left_t *left, transaction_t *tx) noexcept nogil:
    """Its array begins with how many there are; True when that is replied."""
    cdef const stream_t *stream = <const stream_t *>object_pointer(&left.value)
    if not entries_count(stream, &left.block, left.entries.start, left.entries.end, self.most, &left.count, &self.work):
        return False
    left.phase = LEFT_REPLYING
    if tx.reply.resp == 2:
        reply_array(&tx.reply, 2)
    reply_bulk(&tx.reply, tx.argv[self.first + self.next].data, tx.argv[self.first + self.next].size)
    reply_array(&tx.reply, left.count)
    return True


cdef bint go_on_replying(streams_left_t *self, stream_left_t *left, transaction_t *tx) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(&left.value)
    cdef stream_cursor_t cursor
    stream_seek(stream, left.entries.start, &cursor)
    stream_read_next(&cursor)
    while left.count > 0 and work_goes_on(&self.work):
        reply_entry(&tx.reply, &cursor)
        left.count -= 1
        if left.count > 0:
            stream_read_next(&cursor)
    if left.count == 0:
        left.phase = LEFT_NOTHING
        return True
    left.entries.start = cursor.id
    return False


# ---- Hops --------------------------------------------------------------------------------------

cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef streams_left_t *self = left_of(tx)
    cdef stream_left_t *left
    if slices_changed(&self.slices):
        self.slices.is_stale = True
        return
    slices_work(&self.slices, tx, &self.work)
    while self.next < tx.key_count:
        left = &self.streams[self.next]
        if left.phase == LEFT_COUNTING and not go_on_counting(self, left, tx):
            break
        if left.phase == LEFT_REPLYING and not go_on_replying(self, left, tx):
            break
        self.next += 1
    self.is_done = self.next == tx.key_count
    note_firsts(self, tx)


cdef void note_firsts(streams_left_t *self, transaction_t *tx) noexcept nogil:
    """What was trimmed until now is of no concern."""
    cdef stream_left_t *left
    cdef uint32_t i
    for i in range(self.next, tx.key_count):
        left = &self.streams[i]
        if left.phase != LEFT_NOTHING:
            entries_left_note(&left.entries, <const stream_t *>object_pointer(&left.value))


cdef void check_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """A source has changed: what is left of those of this shard."""
    cdef streams_left_t *self = left_of(tx)
    cdef stream_left_t *left
    cdef dash_ref_t ref
    cdef scope_t scope
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(self.next, tx.key_count):
        left = &self.streams[i]
        if (tx.key_shards[i] == shard.index and left.phase != LEFT_NOTHING
                and not (find_peek(&scope, &tx.keys[i], &ref)
                         and entries_left_are_still(&left.entries, &left.value, &ref.entry.value, False))):
            self.slices.is_stale = True


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Nothing has been built but the reply. A look counts twice, as in Redis, and this one shall not."""
    cdef uint32_t i
    for i in range(tx.key_count):
        if tx.results[i].number == STREAM_FOUND:
            tx.shards[tx.key_shards[i]].stats.hits -= 2
        else:
            tx.shards[tx.key_shards[i]].stats.misses -= 2


# ---- Steps -------------------------------------------------------------------------------------

cdef void streams_left_plan(slices_plan_t *out, hop_t look) noexcept nogil:
    out.look = look
    out.work = work_hop
    out.drop = drop_hop


cdef bint streams_left_is_long(const transaction_t *tx, const stream_t *stream, stream_id_t behind,
                               uint64_t most) noexcept nogil:
    cdef uint64_t many = <uint64_t>tx.shards[0].settings.slice_elements
    return (min(most, stream.length) > many and not tx.is_inside
            and not stream_range_is_short(stream, behind, stream.last_id, many))


cdef void streams_left_begin(streams_left_t *self, transaction_t *tx, uint32_t first, uint64_t most) noexcept nogil:
    cdef uint32_t i
    self.next = 0
    self.first = first
    self.most = most
    self.is_done = False
    for i in range(tx.key_count):
        self.streams[i].phase = LEFT_NOTHING


cdef void streams_left_add(streams_left_t *self, uint32_t i, const object_t *value, stream_id_t behind) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef stream_left_t *left = &self.streams[i]
    cdef stream_cursor_t cursor
    id_increment(&behind)
    stream_seek(stream, behind, &cursor)
    stream_read_next(&cursor)
    left.value = value[0]
    left.entries.start = cursor.id
    left.entries.end = stream.last_id
    left.block = cursor.master
    left.count = 0
    left.phase = LEFT_COUNTING
    entries_left_note(&left.entries, stream)


cdef int streams_left_first(transaction_t *tx, const slices_plan_t *plan) noexcept nogil:
    cdef streams_left_t *self = left_of(tx)
    cdef uint64_t served = 0
    cdef uint32_t i
    for i in range(tx.key_count):
        served += self.streams[i].phase != LEFT_NOTHING
    if tx.reply.resp == 2:
        reply_array(&tx.reply, served)
    else:
        reply_map(&tx.reply, served)
    self.slices.looks_itself = True
    return slices_first(&self.slices, tx, <uint64_t>-1, 0, plan)


cdef int streams_left_next(transaction_t *tx, const slices_plan_t *plan) noexcept nogil:
    cdef streams_left_t *self = left_of(tx)
    if tx.stage == SLICES_PAUSED and slices_changed(&self.slices):
        tx.now_ms = tx.origin.now_ms
        tx.stage = STREAMS_CHECKED
        return hop_on_keys(tx, check_hop)
    if tx.stage == STREAMS_CHECKED:
        tx.stage = SLICES_WORKED if self.slices.is_stale else SLICES_PAUSED
    return slices_next(&self.slices, tx, self.is_done, plan)
