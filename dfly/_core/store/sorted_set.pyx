"""Sorted sets: see sorted_set.pxd."""

from libc.math cimport INFINITY, isinf
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod
from libc.string cimport memcmp, memcpy

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.decimal_text cimport format_int64
from dfly._core.store.member_arena cimport (arena_add, arena_before_change, arena_check, arena_dup, arena_free_step,
                                            arena_heap_bytes, arena_init, arena_remove, arena_walk_begin,
                                            arena_walk_finish, arena_walk_t, member_at, member_score, member_text)
from dfly._core.store.member_index cimport (index_add, index_check, index_discard, index_dup, index_find,
                                            index_free_step,
                                            index_heap_bytes, index_init, index_remove, index_scan)
from dfly._core.store.object cimport (container_ops_t, object_encoding, object_pointer,
                                      object_register_container, object_root, object_set_encoding)
from dfly._core.store.packed_pairs cimport (pairs_before, pairs_bytes, pairs_check, pairs_count, pairs_dup, pairs_end,
                                            pairs_erase, pairs_find, pairs_first, pairs_insert, pairs_new,
                                            pairs_pass_scores, pairs_read, pairs_seek, pairs_set_score,
                                            whole_score)
from dfly._core.store.score_tree cimport (NODE_SLOTS, bound_set_member, bound_set_score, bound_set_text, bound_t,
                                          tree_add, tree_change_score, tree_check, tree_cut, tree_dup, tree_free_step,
                                          tree_heap_bytes, tree_holds, tree_init, tree_rank, tree_remove, tree_seek,
                                          tree_take)
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_good_size, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, unlikely
from dfly._core.sys.hash cimport hash_bytes

__abi__ = DFLY_ABI_STAMP

cdef enum:
    COMPACT_BYTES_MAX = 0x20000000
    COMPACT_ENTRIES_MAX = 32767      # of a listpack its count still says how many


cdef inline bint is_large(const object_t *self) noexcept nogil:
    return object_encoding(self) == ZSET_LARGE


cdef inline large_zset_t *large_of(const object_t *self) noexcept nogil:
    return <large_zset_t *>object_pointer(self)


cdef inline uint8_t *pack_of(const object_t *self) noexcept nogil:
    return <uint8_t *>object_pointer(self)


cdef uint64_t zset_count(const object_t *self) noexcept nogil:
    if is_large(self):
        return large_of(self).tree.count
    return pairs_count(pack_of(self)) if pack_of(self) != NULL else 0


# ---- Scores and texts --------------------------------------------------------------------------

cdef size_t score_text(double score, char *out) noexcept nogil:
    cdef int64_t whole
    if whole_score(score, &whole):
        return format_int64(whole, out)
    if isinf(score):
        memcpy(out, b"-inf", 4)
        if score > 0:
            memcpy(out, b"inf", 3)
            return 3
        return 4
    return <size_t>snprintf(out, SCORE_TEXT_MAX, "%.17g", score)


cdef double score_of_item(const list_item_t *item) noexcept nogil:
    cdef char text[64]
    if likely(item.data == NULL):
        return <double>item.integer
    if item.size >= sizeof(text):
        return 0
    memcpy(text, item.data, item.size)
    text[item.size] = 0
    return strtod(text, NULL)


cdef inline int compare_texts(slice_t a, slice_t b) noexcept nogil:
    cdef int result = memcmp(a.data, b.data, a.size if a.size < b.size else b.size)
    if result != 0:
        return result
    return -1 if a.size < b.size else a.size > b.size


cdef inline int compare_member(const list_item_t *member, slice_t text) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    return compare_texts(list_item_text(member, scratch), text)


# ---- Large sets --------------------------------------------------------------------------------

cdef large_zset_t *new_large() noexcept nogil:
    cdef large_zset_t *large = <large_zset_t *>mem_alloc(sizeof(large_zset_t))
    arena_init(&large.arena)
    index_init(&large.index)
    tree_init(&large.tree)
    large.cut = NULL
    large.cut_leaves = 0
    return large


cdef inline bint is_gone(const large_zset_t *large, uint32_t handle) noexcept nogil:
    return unlikely(large.cut != NULL) and not tree_holds(&large.tree, &large.arena, handle)


cdef inline void add_to_large(large_zset_t *large, uint64_t hash, const char *data, size_t size,
                              double score) noexcept nogil:
    cdef uint32_t handle
    if unlikely(large.cut != NULL):
        # One of these bytes may have been cut out: the index finds only one of them.
        handle = index_find(&large.index, &large.arena, hash, data, size)
        if handle != 0:
            index_remove(&large.index, hash, handle)
    handle = arena_add(&large.arena, data, size, score)
    index_add(&large.index, &large.arena, hash, handle)
    tree_add(&large.tree, &large.arena, handle)


cdef void zset_make_large(object_t *self) noexcept nogil:
    cdef uint8_t *pack = pack_of(self)
    cdef large_zset_t *large
    cdef const uint8_t *p
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef zset_entry_t entry
    cdef slice_t text
    if is_large(self):
        return
    large = new_large()
    if pack != NULL:
        p = pairs_first(pack)
        while p != pairs_end(pack):
            p = pairs_read(p, &entry.member, &entry.score)
            text = list_item_text(&entry.member, scratch)
            add_to_large(large, hash_bytes(text.data, text.size), text.data, text.size, entry.score)
        mem_free(pack)
    object_root(self)[0] = large
    object_set_encoding(self, ZSET_LARGE)


cdef void free_if_empty(object_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    if zset_count(self) == 0:
        free_object_step(self, &budget)


# ---- One member --------------------------------------------------------------------------------

cdef bint zset_find(const object_t *self, const char *data, size_t size, zset_place_t *out) noexcept nogil:
    cdef large_zset_t *large
    cdef list_item_t item
    if is_large(self):
        large = large_of(self)
        out.hash = hash_bytes(data, size)
        out.handle = index_find(&large.index, &large.arena, out.hash, data, size)
        if out.handle == 0 or is_gone(large, out.handle):
            return False
        out.score = member_score(member_at(&large.arena, out.handle))[0]
        return True
    out.position = NULL
    if pack_of(self) == NULL:
        return False
    out.position = pairs_find(pack_of(self), data, size, &out.rank)
    if out.position == NULL:
        return False
    pairs_read(out.position, &item, &out.score)
    return True


cdef bint zset_score(const object_t *self, const char *data, size_t size, double *out) noexcept nogil:
    cdef zset_place_t place
    if not zset_find(self, data, size, &place):
        return False
    out[0] = place.score
    return True


cdef uint64_t zset_rank(const object_t *self, const zset_place_t *place) noexcept nogil:
    cdef large_zset_t *large
    cdef bound_t bound
    if not is_large(self):
        return place.rank
    large = large_of(self)
    bound_set_member(&bound, place.score, member_text(member_at(&large.arena, place.handle)), False)
    return tree_rank(&large.tree, &large.arena, &bound)


cdef void zset_insert(object_t *self, const zset_place_t *place, const char *data, size_t size, double score,
                      const zset_limits_t *limits) noexcept nogil:
    cdef uint64_t hash = place.hash
    cdef uint8_t *pack
    if not is_large(self):
        pack = pack_of(self)
        if (<int64_t>size <= limits.value and <int64_t>zset_count(self) < limits.entries
                and zset_count(self) < COMPACT_ENTRIES_MAX
                and (pack == NULL or pairs_bytes(pack) + size < COMPACT_BYTES_MAX)):
            if pack == NULL:
                object_root(self)[0] = pairs_new(size + 8)
            pairs_insert(<uint8_t **>object_root(self), data, size, score)
            return
        zset_make_large(self)
        hash = hash_bytes(data, size)
    add_to_large(large_of(self), hash, data, size, score)


cdef void zset_set_score(object_t *self, const zset_place_t *place, const char *data, size_t size,
                         double score) noexcept nogil:
    cdef large_zset_t *large
    if is_large(self):
        large = large_of(self)
        arena_before_change(&large.arena, place.handle)
        tree_change_score(&large.tree, &large.arena, place.handle, score)
        return
    pairs_set_score(<uint8_t **>object_root(self), place.position, data, size, score)


cdef void zset_erase(object_t *self, const zset_place_t *place) noexcept nogil:
    cdef large_zset_t *large
    if is_large(self):
        large = large_of(self)
        tree_remove(&large.tree, &large.arena, place.handle)
        index_remove(&large.index, place.hash, place.handle)
        arena_remove(&large.arena, place.handle)
    else:
        pairs_erase(<uint8_t **>object_root(self), place.position, 1)
    free_if_empty(self)


cdef bint zset_add(object_t *self, const char *data, size_t size, double score,
                   const zset_limits_t *limits) noexcept nogil:
    cdef zset_place_t place
    if zset_find(self, data, size, &place):
        if place.score != score:
            zset_set_score(self, &place, data, size, score)
        return False
    zset_insert(self, &place, data, size, score, limits)
    return True


# ---- Ranges ------------------------------------------------------------------------------------

cdef uint64_t rank_of_score(const large_zset_t *large, double score, bint inclusive) noexcept nogil:
    """How many members have a lower score (inclusive: or this one)."""
    cdef bound_t bound
    bound_set_score(&bound, score, inclusive)
    return tree_rank(&large.tree, &large.arena, &bound)


cdef void zset_range_by_score(const object_t *self, const zset_bound_t *low, const zset_bound_t *high,
                              uint64_t *start, uint64_t *count) noexcept nogil:
    cdef const uint8_t *p
    cdef uint64_t end
    start[0] = 0
    count[0] = 0
    if object_pointer(self) == NULL:
        return
    if low.score > high.score or (low.score == high.score and (low.exclusive or high.exclusive)):
        return
    if not is_large(self):
        p = pairs_first(pack_of(self))
        start[0] = pairs_pass_scores(pack_of(self), &p, low.score, low.exclusive)
        count[0] = pairs_pass_scores(pack_of(self), &p, high.score, not high.exclusive)
        return
    start[0] = rank_of_score(large_of(self), low.score, low.exclusive)
    end = rank_of_score(large_of(self), high.score, not high.exclusive)
    if end > start[0]:
        count[0] = end - start[0]


cdef inline bint text_reaches(const list_item_t *member, const zset_bound_t *low) noexcept nogil:
    """Is the member not before the range?"""
    cdef int compared
    if low.infinite != 0:
        return low.infinite < 0
    compared = compare_member(member, low.text)
    return compared > 0 or (compared == 0 and not low.exclusive)


cdef inline bint text_stays(const list_item_t *member, const zset_bound_t *high) noexcept nogil:
    """Is the member not behind the range?"""
    cdef int compared
    if high.infinite != 0:
        return high.infinite > 0
    compared = compare_member(member, high.text)
    return compared < 0 or (compared == 0 and not high.exclusive)


cdef uint64_t rank_of_text(const large_zset_t *large, const zset_bound_t *bound, bint inclusive) noexcept nogil:
    cdef bound_t place
    if bound.infinite != 0:
        return 0 if bound.infinite < 0 else large.tree.count
    bound_set_text(&place, bound.text, inclusive)
    return tree_rank(&large.tree, &large.arena, &place)


cdef bint may_reach_text(const object_t *self, const zset_bound_t *low, const zset_bound_t *high) noexcept nogil:
    """As Redis asks the first and the last member, which matters where scores differ."""
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    zset_seek(self, 0, &cursor)
    zset_next(&cursor, &entry)
    if not text_stays(&entry.member, high):
        return False
    zset_seek(self, zset_count(self), &cursor)
    zset_previous(&cursor, &entry)
    return text_reaches(&entry.member, low)


cdef void compact_text_range(const object_t *self, const zset_bound_t *low, const zset_bound_t *high,
                             bint backward, uint64_t *start, uint64_t *count) noexcept nogil:
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    cdef uint64_t total = zset_count(self)
    cdef uint64_t position = 0
    # Where scores differ, texts are in no order, and what Redis finds depends on how it looks: at both ends first
    # (may_reach_text), then for where the range begins, and from there on only for where it ends.
    zset_seek(self, total if backward else 0, &cursor)
    while zset_previous(&cursor, &entry) if backward else zset_next(&cursor, &entry):
        if text_stays(&entry.member, high) if backward else text_reaches(&entry.member, low):
            break
        position += 1
    if position == total:
        return
    start[0] = total - 1 - position if backward else position
    while text_reaches(&entry.member, low) if backward else text_stays(&entry.member, high):
        count[0] += 1
        if not (zset_previous(&cursor, &entry) if backward else zset_next(&cursor, &entry)):
            break
    if backward and count[0] > 0:
        start[0] -= count[0] - 1


cdef void zset_range_by_text(const object_t *self, const zset_bound_t *low, const zset_bound_t *high,
                             bint backward, uint64_t *start, uint64_t *count) noexcept nogil:
    cdef uint64_t end
    start[0] = 0
    count[0] = 0
    if (object_pointer(self) == NULL or low.infinite > 0 or high.infinite < 0
            or not may_reach_text(self, low, high)):
        return
    if not is_large(self):
        compact_text_range(self, low, high, backward, start, count)
        return
    start[0] = rank_of_text(large_of(self), low, low.exclusive)
    end = rank_of_text(large_of(self), high, not high.exclusive)
    if end > start[0]:
        count[0] = end - start[0]


cdef bint purge(large_zset_t *large, uint64_t *budget) noexcept nogil:
    cdef leaf_t *leaf
    cdef uint32_t handle
    cdef uint32_t i
    cdef slice_t text
    while large.cut != NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        leaf = large.cut
        for i in range(leaf.node.count):
            handle = leaf.node.handles[i]
            text = member_text(member_at(&large.arena, handle))
            index_discard(&large.index, hash_bytes(text.data, text.size), handle)
            arena_remove(&large.arena, handle)
        large.cut = leaf.next
        large.cut_leaves -= 1
        mem_free(leaf)
    return True


cdef bint purge_object_step(object_t *self, uint64_t *budget) noexcept nogil:
    return not is_large(self) or purge(large_of(self), budget)


cdef void zset_remove_range(object_t *self, uint64_t start, uint64_t count, uint64_t at_once) noexcept nogil:
    cdef uint32_t handles[NODE_SLOTS]
    cdef large_zset_t *large
    cdef uint32_t taken
    cdef uint32_t i
    cdef slice_t text
    if count == 0:
        return
    if not is_large(self):
        pairs_erase(<uint8_t **>object_root(self), pairs_seek(pack_of(self), <uint32_t>start), <uint32_t>count)
    elif count > at_once and count < zset_count(self):
        large = large_of(self)
        large.cut_leaves += tree_cut(&large.tree, start, count, &large.cut)
    else:
        large = large_of(self)
        while count > 0:
            taken = tree_take(&large.tree, start, count, handles)
            for i in range(taken):
                text = member_text(member_at(&large.arena, handles[i]))
                index_remove(&large.index, hash_bytes(text.data, text.size), handles[i])
                arena_remove(&large.arena, handles[i])
            count -= taken
    free_if_empty(self)


# ---- Walking -----------------------------------------------------------------------------------

cdef void zset_seek(const object_t *self, uint64_t rank, zset_cursor_t *out) noexcept nogil:
    cdef large_zset_t *large
    out.large = NULL
    out.pack = NULL
    out.position = NULL
    if is_large(self):
        large = large_of(self)
        out.large = large
        if rank < large.tree.count:
            out.leaf = tree_seek(&large.tree, rank, &out.slot)
        else:
            out.leaf = tree_seek(&large.tree, rank - 1, &out.slot)
            out.slot += 1
    elif pack_of(self) != NULL:
        out.pack = pack_of(self)
        out.rank = <uint32_t>min(rank, <uint64_t>pairs_count(out.pack))
        out.position = pairs_seek(out.pack, out.rank)
        out.trail.first = 0
        out.trail.count = 0


cdef inline void read_member(const zset_cursor_t *self, zset_entry_t *out) noexcept nogil:
    cdef char *member = member_at(&self.large.arena, self.leaf.node.handles[self.slot])
    cdef slice_t text = member_text(member)
    out.member.data = text.data
    out.member.size = <uint32_t>text.size
    out.score = member_score(member)[0]


cdef bint zset_next(zset_cursor_t *self, zset_entry_t *out) noexcept nogil:
    if self.large == NULL:
        if self.pack == NULL or self.position == pairs_end(self.pack):
            return False
        self.position = pairs_read(self.position, &out.member, &out.score)
        self.rank += 1
        return True
    if unlikely(self.slot == self.leaf.node.count):
        if self.leaf.next == NULL:
            return False
        self.leaf = self.leaf.next
        self.slot = 0
    read_member(self, out)
    self.slot += 1
    return True


cdef bint zset_previous(zset_cursor_t *self, zset_entry_t *out) noexcept nogil:
    if self.large == NULL:
        if self.pack == NULL or self.rank == 0:
            return False
        self.position = pairs_before(self.pack, self.rank, &self.trail)
        self.rank -= 1
        pairs_read(self.position, &out.member, &out.score)
        return True
    if unlikely(self.slot == 0):
        if self.leaf.previous == NULL:
            return False
        self.leaf = self.leaf.previous
        self.slot = self.leaf.node.count
    self.slot -= 1
    read_member(self, out)
    return True


cdef struct scan_t:
    const large_zset_t *large
    zset_visit_t visit
    void *context


cdef void visit_handle(uint32_t handle, void *context) noexcept nogil:
    cdef scan_t *scan = <scan_t *>context
    cdef char *member = member_at(&scan.large.arena, handle)
    cdef slice_t text = member_text(member)
    cdef zset_entry_t entry
    if is_gone(scan.large, handle):
        return
    entry.member.data = text.data
    entry.member.size = <uint32_t>text.size
    entry.score = member_score(member)[0]
    scan.visit(&entry, scan.context)


cdef uint64_t zset_scan(const object_t *self, uint64_t cursor, uint64_t count, zset_visit_t visit,
                        void *context) noexcept nogil:
    cdef scan_t scan
    cdef zset_cursor_t walk
    cdef zset_entry_t entry
    if is_large(self):
        scan.large = large_of(self)
        scan.visit = visit
        scan.context = context
        return index_scan(&scan.large.index, cursor, count, visit_handle, &scan)
    # All of a compact one at once, as Redis does.
    zset_seek(self, 0, &walk)
    while zset_next(&walk, &entry):
        visit(&entry, context)
    return 0


cdef bint zset_is_compact(const object_t *self) noexcept nogil:
    return not is_large(self) and pack_of(self) != NULL


# ---- As a container ----------------------------------------------------------------------------

cdef void dup_object(const object_t *self, object_t *out) noexcept nogil:
    cdef large_zset_t *large
    cdef uint64_t budget = <uint64_t>-1
    if object_pointer(self) == NULL:
        return
    if not is_large(self):
        object_root(out)[0] = pairs_dup(pack_of(self))
        return
    large = <large_zset_t *>mem_alloc(sizeof(large_zset_t))
    purge(large_of(self), &budget)
    large.cut = NULL
    large.cut_leaves = 0
    arena_dup(&large_of(self).arena, &large.arena)
    index_dup(&large_of(self).index, &large.index)
    tree_dup(&large_of(self).tree, &large.tree)
    object_root(out)[0] = large


cdef bint free_object_step(object_t *self, uint64_t *budget) noexcept nogil:
    cdef large_zset_t *large
    cdef leaf_t *leaf
    if object_pointer(self) == NULL:
        return True
    if budget[0] == 0:
        return False
    if is_large(self):
        large = large_of(self)
        arena_walk_finish(&large.arena)
        while large.cut != NULL:
            if budget[0] == 0:
                return False
            budget[0] -= 1
            leaf = large.cut
            large.cut = leaf.next
            large.cut_leaves -= 1
            mem_free(leaf)
        if (not tree_free_step(&large.tree, budget) or not index_free_step(&large.index, budget)
                or not arena_free_step(&large.arena, budget)):
            return False
    if budget[0] > 0:
        budget[0] -= 1
    mem_free(object_pointer(self))
    object_root(self)[0] = NULL
    object_set_encoding(self, ZSET_COMPACT)
    return True


cdef uint64_t object_blocks(const object_t *self) noexcept nogil:
    cdef large_zset_t *large
    if not is_large(self):
        return 1 if pack_of(self) != NULL else 0
    large = large_of(self)
    return (1 + large.cut_leaves + large.tree.leaf_count + large.tree.inner_count + large.index.segment_count
            + large.arena.live_chunks + large.arena.large_count)


cdef uint64_t object_heap(const object_t *self) noexcept nogil:
    cdef large_zset_t *large
    if not is_large(self):
        return mem_usable(pack_of(self)) if pack_of(self) != NULL else 0
    large = large_of(self)
    return (mem_usable(large) + arena_heap_bytes(&large.arena) + index_heap_bytes(&large.index)
            + tree_heap_bytes(&large.tree) + large.cut_leaves * <uint64_t>mem_good_size(sizeof(leaf_t)))


cdef uint64_t object_data(const object_t *self) noexcept nogil:
    if not is_large(self):
        return pairs_bytes(pack_of(self)) if pack_of(self) != NULL else 0
    # In a dump: a length, the bytes, a score of 8 bytes.
    return large_of(self).arena.text_bytes + 9 * <uint64_t>large_of(self).tree.count


cdef const char *object_encoding_text(const object_t *self) noexcept nogil:
    return "skiplist" if is_large(self) else "listpack"


cdef bint zset_can_be_walked(const object_t *self) noexcept nogil:
    return is_large(self) and large_of(self).cut == NULL


cdef void zset_walk_begin(object_t *self, arena_walk_t *walk) noexcept nogil:
    arena_walk_begin(&large_of(self).arena, walk)


cdef const void *walk_owner(const object_t *self) noexcept nogil:
    if not is_large(self) or large_of(self).arena.walk == NULL:
        return NULL
    return large_of(self).arena.walk.owner


cdef void finish_walk(object_t *self) noexcept nogil:
    arena_walk_finish(&large_of(self).arena)


cdef container_ops_t OPS
OPS.dup = dup_object
OPS.free_step = free_object_step
OPS.block_count = object_blocks
OPS.heap_bytes = object_heap
OPS.data_bytes = object_data
OPS.encoding_name = object_encoding_text
OPS.purge_step = purge_object_step
OPS.walk_owner = walk_owner
OPS.finish_walk = finish_walk
object_register_container(TYPE_ZSET, &OPS)


# ---- For tests ---------------------------------------------------------------------------------

cdef bint zset_check(const object_t *self) noexcept nogil:
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    cdef zset_place_t place
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text
    cdef double last = -INFINITY
    cdef uint64_t count = 0
    cdef large_zset_t *large
    if object_pointer(self) == NULL:
        return True
    if is_large(self):
        large = large_of(self)
        arena_check(&large.arena)
        tree_check(&large.tree, &large.arena)
        count = index_check(&large.index, &large.arena)
        DFLY_CHECK(count == large.tree.count or (large.cut != NULL and count > large.tree.count),
                   "index and tree agree")
        count = 0
    else:
        pairs_check(pack_of(self))
    zset_seek(self, 0, &cursor)
    while zset_next(&cursor, &entry):
        text = list_item_text(&entry.member, scratch)
        DFLY_CHECK(zset_find(self, text.data, text.size, &place) and place.score == entry.score, "a member is found")
        DFLY_CHECK(entry.score >= last and zset_rank(self, &place) == count, "members are in order")
        last = entry.score
        count += 1
    DFLY_CHECK(count == zset_count(self) and count > 0, "the set knows its count")
    return True
