"""Collections written while they change: see rdb_walk.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dfly._core.persist.rdb_hash cimport rdb_hash_type
from dfly._core.persist.rdb_list cimport rdb_list_length, rdb_save_list_block
from dfly._core.persist.rdb_io cimport (RDB_HASH_TTL, rdb_put_double, rdb_put_integer, rdb_put_length,
                                        rdb_put_ms, rdb_put_string, rdb_writer_t)
from dfly._core.persist.rdb_stream cimport rdb_keep_stream_rest, rdb_save_stream_pack
from dfly._core.persist.stream_rest cimport stream_rest_free, stream_rest_put
from dfly._core.store.block_list cimport list_count, list_cursor_t
from dfly._core.store.list_walk cimport list_walk_begin, list_walk_end, list_walk_step
from dfly._core.store.list_whole cimport list_block_count
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_deadline, dash_ref_t, dash_t, dash_visit_t
from dfly._core.store.dash_walk cimport dash_walk_begin, dash_walk_end, dash_walk_step
from dfly._core.store.hash_map cimport HASH_TABLE, hash_next_deadline, hash_table
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.member_arena cimport arena_walk_end, arena_walk_step, member_score, member_text
from dfly._core.store.member_set cimport SET_TABLE, set_has_deadlines, set_table
from dfly._core.store.object cimport (OBJECT_INT, OBJECT_SCRATCH, OBJECT_TAG_MASK, TYPE_HASH, TYPE_LIST, TYPE_SET,
                                      TYPE_STREAM, TYPE_ZSET, object_encoding, object_pointer, object_t, object_tag,
                                      object_type, object_type_t, object_view)
from dfly._core.store.sorted_set cimport zset_can_be_walked, zset_count, zset_walk_begin
from dfly._core.store.stream cimport stream_begin_walk, stream_t
from dfly._core.store.stream_walk cimport stream_walk_end, stream_walk_step
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    STEP_BUCKETS = 2
    STEP_MEMBERS = 24
    STEP_REST = 4096             # bytes

# Of the walks over tables, of all threads: buckets that one has left behind are older than the next one's cut.
cdef uint64_t LAST_CUT
LAST_CUT = 0


cdef inline void put_object(rdb_writer_t *out, const object_t *text) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view
    if object_tag(text) & OBJECT_TAG_MASK == OBJECT_INT:
        rdb_put_integer(out, <int64_t>text.lo)
        return
    view = object_view(text, scratch)
    rdb_put_string(out, view.data, view.size)


cdef bint put_member(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef rdb_walk_t *self = <rdb_walk_t *>context
    put_object(self.out, &ref.entry.key)
    if self.is_timed:
        rdb_put_ms(self.out, dash_deadline(ref))
    return True


cdef bint put_field(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef rdb_walk_t *self = <rdb_walk_t *>context
    cdef int64_t deadline
    if self.is_timed:
        deadline = dash_deadline(ref)
        rdb_put_length(self.out, <uint64_t>(deadline - self.least + 1) if deadline != DASH_NO_DEADLINE else 0)
    put_object(self.out, &ref.entry.key)
    put_object(self.out, &ref.entry.value)
    return True


cdef void put_scored(const char *member, void *context) noexcept nogil:
    cdef rdb_walk_t *self = <rdb_walk_t *>context
    cdef slice_t text = member_text(member)
    rdb_put_string(self.out, text.data, text.size)
    rdb_put_double(self.out, member_score(<char *>member)[0])


cdef void put_block(const list_cursor_t *block, void *context) noexcept nogil:
    rdb_save_list_block(block, (<rdb_walk_t *>context).out)


cdef void put_pack(stream_id_t master, const uint8_t *pack, void *context) noexcept nogil:
    rdb_save_stream_pack(master, pack, (<rdb_walk_t *>context).out)


cdef inline stream_t *stream_of(const object_t *value) noexcept nogil:
    return <stream_t *>object_pointer(value)


cdef bint rdb_can_walk(const object_t *value, uint64_t members) noexcept nogil:
    cdef object_type_t type = object_type(value)
    if type == TYPE_STREAM:
        return stream_of(value).blocks.count > 1 and stream_of(value).length > members
    if type == TYPE_SET:
        return object_encoding(value) == SET_TABLE and set_table(value).table.count > members
    if type == TYPE_HASH:
        return object_encoding(value) == HASH_TABLE and hash_table(value).count > members
    if type == TYPE_LIST:
        return list_block_count(object_pointer(value)) > 1 and list_count(object_pointer(value)) > members
    return type == TYPE_ZSET and zset_count(value) > members and zset_can_be_walked(value)


cdef void begin_table(rdb_walk_t *self, dash_t *table, dash_visit_t visit, const void *owner) noexcept nogil:
    # Each walk takes two numbers: what has changed since it began has the second one.
    dash_walk_begin(table, &self.table, atomic_add(&LAST_CUT, 2), visit, self)
    self.table.owner = owner
    rdb_put_length(self.out, table.count)


cdef void begin_stream(rdb_walk_t *self, object_t *value, const void *owner) noexcept nogil:
    rdb_keep_stream_rest(value, self.out.version, owner, &self.rest)
    self.has_rest = True
    self.packs.visit = put_pack
    self.packs.context = self
    self.packs.owner = owner
    rdb_put_length(self.out, stream_of(value).blocks.count)
    stream_begin_walk(stream_of(value), &self.packs)


cdef void drop_rest(rdb_walk_t *self) noexcept nogil:
    if self.has_rest:
        self.has_rest = False
        stream_rest_free(&self.rest)


cdef bint step_stream(rdb_walk_t *self) noexcept nogil:
    if not stream_walk_step(&self.packs):
        return False
    if self.has_rest:
        if not stream_rest_put(&self.rest, self.out, STEP_REST):
            return False
        drop_rest(self)
    return True


cdef void rdb_walk_begin(rdb_walk_t *self, object_t *value, rdb_writer_t *out, const void *owner) noexcept nogil:
    self.type = object_type(value)
    self.out = out
    if self.type == TYPE_SET:
        self.is_timed = set_has_deadlines(value)
        begin_table(self, &set_table(value).table, put_member, owner)
    elif self.type == TYPE_HASH:
        self.is_timed = rdb_hash_type(value, out.version) == RDB_HASH_TTL
        # The earliest deadline or something before it does as well.
        self.least = hash_next_deadline(value)
        if self.is_timed:
            rdb_put_ms(out, self.least)
        begin_table(self, hash_table(value), put_field, owner)
    elif self.type == TYPE_LIST:
        rdb_put_length(out, rdb_list_length(object_pointer(value), out.version))
        self.blocks.visit = put_block
        self.blocks.context = self
        self.blocks.owner = owner
        list_walk_begin(object_pointer(value), &self.blocks)
    elif self.type == TYPE_STREAM:
        begin_stream(self, value, owner)
    else:
        rdb_put_length(out, zset_count(value))
        self.arena.visit = put_scored
        self.arena.context = self
        self.arena.owner = owner
        zset_walk_begin(value, &self.arena)


cdef bint rdb_walk_step(rdb_walk_t *self) noexcept nogil:
    if self.type == TYPE_LIST:
        return list_walk_step(&self.blocks)
    if self.type == TYPE_STREAM:
        return step_stream(self)
    if self.type == TYPE_ZSET:
        return self.arena.arena == NULL or arena_walk_step(self.arena.arena, STEP_MEMBERS)
    return self.table.table == NULL or dash_walk_step(self.table.table, STEP_BUCKETS)


cdef void rdb_walk_end(rdb_walk_t *self) noexcept nogil:
    if self.type == TYPE_ZSET:
        if self.arena.arena != NULL:
            arena_walk_end(self.arena.arena)
    elif self.type == TYPE_STREAM:
        stream_walk_end(&self.packs)
        drop_rest(self)
    elif self.type == TYPE_LIST:
        if self.blocks.slots != NULL:
            list_walk_end(&self.blocks)
    elif self.table.table != NULL:
        dash_walk_end(self.table.table)


cdef uint64_t rdb_walk_forced(const rdb_walk_t *self) noexcept nogil:
    if self.type == TYPE_LIST:
        return self.blocks.forced
    if self.type == TYPE_STREAM:
        return self.packs.forced
    return self.arena.forced if self.type == TYPE_ZSET else self.table.forced
