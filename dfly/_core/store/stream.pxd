"""The stream type: entries in packed blocks, ordered by ID; with consumer groups (stream_groups.pxd).

A block is a listpack in Redis' own layout, so DUMP and snapshots copy it with its master ID:

    count | deleted | number of fields | field ... | 0                          the master entry
    flags | ms delta | seq delta | [number | field] value ... | size            each entry

The master ID is that of the block's first entry, the deltas are to it. An entry with the master's fields
(STREAM_SAME_FIELDS) has only values; `size` is the number of elements before it that belong to the entry, so
that blocks are read backwards too. Deleted entries are flagged; a block whose last one is deleted goes.
Format: RDB_TYPE_STREAM_LISTPACKS of Redis.

Blocks are indexed by master ID (id_index.pxd): 24 bytes for each hundred entries. Only the last block grows, with
room for its next entries; when it is full it moves to an allocation of its size, or in a long stream soon after to
one that it shares with its neighbours (joined_packs.pxd).

A walk (stream_walk.pxd) sees the blocks as they were when it began.

Ownership: a stream owns its blocks and groups (mem_alloc). Cursors, and items read through them, borrow: valid until
the stream changes. Nothing here suspends.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.id_index cimport id_index_t, id_place_t, stream_id_t
from dfly._core.store.stream_groups cimport name_table_t
from dfly._core.store.stream_walk cimport stream_walk_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    STREAM_DELETED = 1
    STREAM_SAME_FIELDS = 2
    STREAM_ELEMENTS_MAX = 0x40000000     # bytes of an entry's texts, and of a block

# For tests where the allocator's sizes leave nothing to gain, as libc's under a sanitizer: blocks share allocations
# nevertheless. Set before any thread has streams.
cdef bint stream_joins_always

cdef struct stream_limits_t:
    # How full a block may get; 0: no limit.
    uint64_t bytes
    uint64_t entries

cdef struct stream_t:
    id_index_t blocks            # of listpacks, by master ID
    uint64_t length              # entries that are not deleted
    uint64_t entries_added       # ever
    stream_id_t first_id         # of the first entry; zero if there is none
    stream_id_t last_id          # the largest ever given
    stream_id_t max_deleted_id   # the largest that was deleted by its ID
    stream_walk_t *walk          # under way, or NULL; its owner's
    uint64_t epoch               # unlike any other stream's; a new one when all entries go, or some not from the front
    name_table_t groups
    uint32_t tail_room           # bytes of the last block's allocation; 0: unknown
    uint32_t loose               # of the finished blocks at the end at most so many are to be joined yet

cdef struct stream_cursor_t:
    # Walks entries. What was read last: id, pair_count. Then stream_read_pair, so many times.
    const stream_t *stream
    id_place_t place             # the block that is being read
    stream_id_t master
    const uint8_t *pack          # NULL: none yet, it begins at `place`
    const uint8_t *fields        # the first field of the master entry
    const uint8_t *entries       # where entries begin
    const uint8_t *position      # what is read next; when walking back, the begin of what was read last
    const uint8_t *values        # of the entry: what stream_read_pair reads
    const uint8_t *field         # the master's next field; NULL: the entry has fields of its own
    uint32_t field_count         # of the master entry
    uint32_t pair_count
    uint32_t pairs_left
    bint is_at_end
    stream_id_t id

# Streams. A root that is NULL is an empty container; stream_new makes it a stream (which may have no entries).
cdef stream_t *stream_new() noexcept nogil
cdef void stream_free(stream_t **self) noexcept nogil
# Frees at most *budget allocations and takes them off the budget; True when all is gone and *self is NULL.
cdef bint stream_free_step(stream_t **self, uint64_t *budget) noexcept nogil
cdef stream_t *stream_dup(const stream_t *self) noexcept nogil
# The same in steps: at most *budget blocks, which it takes off the budget, or some pending entries for each. True when
# the copy is complete, with groups. Between two steps stream_mark must be what it was.
cdef stream_t *stream_dup_begin(const stream_t *self) noexcept nogil
cdef bint stream_dup_step(const stream_t *self, stream_t *copy, uint64_t *budget) noexcept nogil
# Another number after each change of entries, groups, consumers and what is pending.
cdef uint64_t stream_mark(const stream_t *self) noexcept nogil
cdef uint64_t stream_block_count(const stream_t *self) noexcept nogil        # allocations: blocks, groups ...
cdef size_t stream_heap_bytes(const stream_t *self) noexcept nogil
cdef size_t stream_data_bytes(const stream_t *self) noexcept nogil           # of the blocks
cdef bint stream_check(const stream_t *self) noexcept nogil                  # for tests

# Adding. The ID must be larger than last_id; texts: field, value, field, value ...
cdef bint stream_entry_fits(const slice_t *texts, uint32_t count) noexcept nogil
cdef void stream_append(stream_t *self, stream_id_t id, const slice_t *texts, uint32_t pair_count,
                        const stream_limits_t *limits) noexcept nogil
# The ID that `*` gives: of now, or behind last_id. False: there is none left.
cdef bint stream_next_id(const stream_t *self, int64_t now_ms, stream_id_t *out) noexcept nogil

cdef enum stream_references_t:
    # What becomes of the references that groups have to an entry that is to be deleted.
    STREAM_KEEP_REFERENCES = 0
    STREAM_DROP_REFERENCES = 1
    STREAM_ONLY_ACKNOWLEDGED = 2         # an entry that some group may still need stays

# Removing. Both keep first_id up to date; only stream_delete raises max_deleted_id.
cdef bint stream_delete(stream_t *self, stream_id_t id) noexcept nogil       # False: there is no such entry
# The oldest entries, down to `length`, or those with smaller IDs. approximate: whole blocks only.
# At most `limit` entries, 0: all. Blocks that go become a stream of their own in *dropped, for the caller to free.
cdef uint64_t stream_trim_length(stream_t *self, uint64_t length, bint approximate, uint64_t limit,
                                 stream_t **dropped) noexcept nogil
cdef uint64_t stream_trim_id(stream_t *self, stream_id_t first_kept, bint approximate, uint64_t limit,
                             stream_t **dropped) noexcept nogil
# The same entry by entry, with an eye on the groups: of a length (length >= 0) or by ID.
cdef uint64_t stream_trim_referenced(stream_t *self, int64_t length, stream_id_t first_kept, bint approximate,
                                     uint64_t limit, stream_references_t references) noexcept nogil

# Reading. From the first entry at or behind `start`; backward: from the last one at or before it.
cdef void stream_seek(const stream_t *self, stream_id_t start, stream_cursor_t *out) noexcept nogil
cdef void stream_seek_back(const stream_t *self, stream_id_t start, stream_cursor_t *out) noexcept nogil
cdef bint stream_read_next(stream_cursor_t *self) noexcept nogil             # False: at the end
# The entry of this ID; False: there is none. For many of them one cursor, its stream NULL at first: where they mostly
# ascend it goes on from the one before.
cdef bint stream_read_at(const stream_t *self, stream_id_t id, stream_cursor_t *cursor) noexcept nogil
cdef bint stream_read_previous(stream_cursor_t *self) noexcept nogil
cdef void stream_read_pair(stream_cursor_t *self, list_item_t *field, list_item_t *value) noexcept nogil
# Are there surely no more than so many entries in it? False: about so many, or more.
cdef bint stream_range_is_short(const stream_t *self, stream_id_t start, stream_id_t end,
                                uint64_t most) noexcept nogil
# How many entries of the range are in the block there.
cdef uint64_t stream_count_in_block(const stream_t *self, const id_place_t *place, stream_id_t start,
                                    stream_id_t end) noexcept nogil
cdef bint stream_has(const stream_t *self, stream_id_t id) noexcept nogil
cdef bint stream_last_entry(const stream_t *self, stream_id_t *out) noexcept nogil      # False: no entries

# Of at least one block; see stream_walk_begin.
cdef void stream_begin_walk(stream_t *self, stream_walk_t *walk) noexcept nogil

# How many nodes Redis' radix tree of the blocks would have.
cdef uint64_t stream_tree_nodes(const stream_t *self) noexcept nogil

# Saving and loading. Blocks in order: id_first(&self.blocks, &place), id_slot(...).id is the master ID, .value the
# listpack (listpack_bytes of it), id_next. Groups: group_at(&self.groups, i), consumers and pending entries in the
# same way. Loading: stream_new, stream_load_block, then length, entries_added, first_id, last_id and
# max_deleted_id are set by hand (stream_refresh_first for formats without first_id), then groups: group_create,
# pending_create, consumer_create, pending_assign.
#
# Of foreign bytes: is this a block, whose live entries are counted in *entries, and whose last ID is *last?
cdef bint stream_pack_is_valid(const uint8_t *pack, size_t size, stream_id_t master, uint64_t *entries,
                               stream_id_t *last) noexcept nogil
# Takes over the pack (mem_alloc). False, and nothing happened: its master ID is not behind that of the last block.
cdef bint stream_load_block(stream_t *self, stream_id_t master, uint8_t *pack) noexcept nogil
cdef void stream_refresh_first(stream_t *self) noexcept nogil
