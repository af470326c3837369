"""Copying a large value step by step: see value_copy.pxd."""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, list_count, list_item_t, list_item_text, list_next,
                                          list_push, list_seek)
from dfly._core.store.dash cimport DASH_NO_DEADLINE
from dfly._core.store.hash_map cimport (HASH_SHOW_ALL, HASH_TABLE, hash_count, hash_entry_t, hash_limits_t, hash_scan,
                                        hash_set, hash_to_table)
from dfly._core.store.member_set cimport (SET_TABLE, set_add, set_add_timed, set_begin, set_count, set_limits_t,
                                          set_next_timed, set_to_table)
from dfly._core.store.object cimport (TYPE_HASH, TYPE_LIST, TYPE_SET, TYPE_STREAM, TYPE_ZSET, object_dup,
                                      object_encoding, object_is_string, object_pointer, object_root,
                                      object_set_container, object_type, object_t)
from dfly._core.store.sorted_set cimport (zset_count, zset_entry_t, zset_is_compact, zset_limits_t, zset_make_large,
                                          zset_next, zset_place_t, zset_find, zset_insert, zset_seek)
from dfly._core.store.stream cimport stream_block_count, stream_dup_begin, stream_dup_step, stream_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

# The copy is made large at once, so these say nothing.
cdef hash_limits_t HASH_LIMITS
cdef set_limits_t SET_LIMITS
cdef zset_limits_t ZSET_LIMITS


cdef uint64_t steps_of(const object_t *source) noexcept nogil:
    if object_is_string(source):
        return 1
    if object_type(source) == TYPE_LIST:
        return list_count(object_pointer(source))
    if object_type(source) == TYPE_HASH and object_encoding(source) == HASH_TABLE:
        return hash_count(source)
    if object_type(source) == TYPE_SET and object_encoding(source) == SET_TABLE:
        return set_count(source)
    if object_type(source) == TYPE_ZSET and not zset_is_compact(source):
        return zset_count(source)
    if object_type(source) == TYPE_STREAM:
        return stream_block_count(<const stream_t *>object_pointer(source))
    return 1


cdef enum:
    # object_dup takes 12 to 32 ns a member and 1.2 us a block of a stream; commands some 0.4 us an element.
    MEMBERS_AN_ELEMENT = 16
    ELEMENTS_A_BLOCK = 4


cdef uint64_t value_copy_weight(const object_t *source) noexcept nogil:
    if not object_is_string(source) and object_type(source) == TYPE_STREAM:
        return ELEMENTS_A_BLOCK * steps_of(source)
    return steps_of(source) // MEMBERS_AN_ELEMENT


cdef void value_copy_begin(value_copy_t *self, const object_t *source, const list_limits_t *limits) noexcept nogil:
    self.source = source[0]
    self.limits = limits[0]
    object_set_container(&self.copy, TYPE_SET, NULL)
    if steps_of(source) == 1:
        return
    object_set_container(&self.copy, object_type(source), NULL)
    if object_type(source) == TYPE_LIST:
        list_seek(object_pointer(source), 0, &self.cursor.elements)
    elif object_type(source) == TYPE_HASH:
        hash_to_table(&self.copy)
        self.cursor.buckets = 0
    elif object_type(source) == TYPE_SET:
        set_to_table(&self.copy)
        set_begin(source, &self.cursor.members)
    elif object_type(source) == TYPE_ZSET:
        zset_make_large(&self.copy)
        zset_seek(source, 0, &self.cursor.scores)
    else:
        object_root(&self.copy)[0] = stream_dup_begin(<const stream_t *>object_pointer(source))


# ---- By type -----------------------------------------------------------------------------------

cdef bint copy_list(value_copy_t *self, uint64_t *budget) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_item_t item
    cdef slice_t text
    while budget[0] > 0:
        if not list_next(&self.cursor.elements, &item):
            return True
        text = list_item_text(&item, scratch)
        list_push(object_root(&self.copy), text.data, text.size, False, &self.limits)
        budget[0] -= 1
    return False


cdef struct fields_t:
    object_t *copy
    uint64_t count


cdef void add_field(const hash_entry_t *entry, void *context) noexcept nogil:
    cdef fields_t *fields = <fields_t *>context
    cdef char field_scratch[LIST_ITEM_SCRATCH]
    cdef char value_scratch[LIST_ITEM_SCRATCH]
    hash_set(fields.copy, list_item_text(&entry.field, field_scratch), list_item_text(&entry.value, value_scratch),
             entry.deadline, HASH_SHOW_ALL, &HASH_LIMITS)
    fields.count += 1


cdef bint copy_hash(value_copy_t *self, uint64_t *budget) noexcept nogil:
    cdef fields_t fields
    fields.copy = &self.copy
    while budget[0] > 0:
        fields.count = 1
        self.cursor.buckets = hash_scan(&self.source, self.cursor.buckets, HASH_SHOW_ALL, add_field, &fields)
        if self.cursor.buckets == 0:
            return True
        budget[0] -= min(fields.count, budget[0])
    return False


cdef bint copy_set(value_copy_t *self, uint64_t *budget) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef int64_t deadline
    cdef list_item_t item
    cdef slice_t text
    while budget[0] > 0:
        if not set_next_timed(&self.cursor.members, &item, &deadline):
            return True
        text = list_item_text(&item, scratch)
        if deadline == DASH_NO_DEADLINE:
            set_add(&self.copy, text.data, text.size, &SET_LIMITS)
        else:
            set_add_timed(&self.copy, text.data, text.size, deadline, &SET_LIMITS)
        budget[0] -= 1
    return False


cdef bint copy_zset(value_copy_t *self, uint64_t *budget) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef zset_entry_t entry
    cdef zset_place_t place
    cdef slice_t text
    while budget[0] > 0:
        if not zset_next(&self.cursor.scores, &entry):
            return True
        text = list_item_text(&entry.member, scratch)
        zset_find(&self.copy, text.data, text.size, &place)
        zset_insert(&self.copy, &place, text.data, text.size, entry.score, &ZSET_LIMITS)
        budget[0] -= 1
    return False


cdef bint value_copy_step(value_copy_t *self, uint64_t *budget) noexcept nogil:
    if steps_of(&self.source) == 1:
        object_dup(&self.source, &self.copy)
        return True
    if object_type(&self.source) == TYPE_LIST:
        return copy_list(self, budget)
    if object_type(&self.source) == TYPE_HASH:
        return copy_hash(self, budget)
    if object_type(&self.source) == TYPE_SET:
        return copy_set(self, budget)
    if object_type(&self.source) == TYPE_ZSET:
        return copy_zset(self, budget)
    return stream_dup_step(<const stream_t *>object_pointer(&self.source),
                           <stream_t *>object_pointer(&self.copy), budget)
