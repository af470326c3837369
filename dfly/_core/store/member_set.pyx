"""Sets: see member_set.pxd for the encodings."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text, list_needle
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_before_member_change, dash_bytes, dash_check,
                                    dash_clear_step, dash_deadline, dash_dup, dash_erase, dash_find, dash_init_keys,
                                    dash_insert, dash_next_due, dash_ref_t, dash_set_deadline, dash_t, dash_visit_due)
from dfly._core.store.dash_prefetch cimport dash_prefetch_member
from dfly._core.store.dash_walk cimport dash_walk_finish
from dfly._core.store.dash_scan cimport dash_begin, dash_draw, dash_next, dash_random
from dfly._core.store.decimal_text cimport format_int64
from dfly._core.store.intset cimport (intset_add, intset_bytes, intset_count, intset_dup, intset_find,
                                      intset_get, intset_is_valid, intset_new, intset_remove_at)
from dfly._core.store.listpack cimport (LISTPACK_BYTES_MAX, LISTPACK_END, LISTPACK_HEADER, listpack_bytes,
                                        listpack_count, listpack_delete, listpack_dup, listpack_find,
                                        listpack_insert, listpack_insert_int,
                                        listpack_is_valid, listpack_new, listpack_read, listpack_seek)
from dfly._core.store.object cimport (OBJECT_HEAP, TYPE_SET, container_ops_t, key_init, key_t, object_encoding,
                                      object_pointer, object_register_container, object_root, object_set_container,
                                      object_set_encoding, object_size, object_t, object_tag, object_view, parse_int64)
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_good_size, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, slice_t, unlikely
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    INTEGER_TEXT_MAX = 20
    INTEGER_PACKED_MAX = 10          # bytes of an integer in a listpack
    INTSET_COUNT_MAX = 0x40000000
    PREFETCHED_MIN = 8192        # members of a table that does not stay in the processor's cache


# ---- Members -----------------------------------------------------------------------------------

cdef inline bint is_integer(const char *data, size_t size, int64_t *out) noexcept nogil:
    return (0 < size <= INTEGER_TEXT_MAX and (<uint8_t>(data[0] - c'0') <= 9 or data[0] == c'-')
            and parse_int64(data, size, out))


cdef inline void key_of_item(key_t *key, const list_item_t *item, char *scratch) noexcept nogil:
    cdef slice_t text = list_item_text(item, scratch)
    key_init(key, text.data, text.size)


cdef inline void read_entry(const dash_ref_t *ref, list_item_t *out, char *scratch) noexcept nogil:
    cdef slice_t text = object_view(&ref.entry.key, scratch)
    out.data = text.data
    out.size = <uint32_t>text.size
    out.integer = 0


# ---- Tables ------------------------------------------------------------------------------------

cdef member_table_t *new_table() noexcept nogil:
    cdef member_table_t *self = <member_table_t *>mem_alloc(sizeof(member_table_t))
    dash_init_keys(&self.table)
    self.text_bytes = 0
    self.heap_bytes = 0
    return self


cdef inline bint add_key(member_table_t *self, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    if dash_find(&self.table, key, &ref):
        return False
    dash_insert(&self.table, key, &ref)
    self.text_bytes += key.size
    if object_tag(&ref.entry.key) == OBJECT_HEAP:
        self.heap_bytes += mem_usable(<const void *>ref.entry.key.lo)
    return True


cdef void set_erase_entry(member_table_t *self, dash_ref_t *ref) noexcept nogil:
    dash_before_member_change(&self.table, ref)
    self.text_bytes -= object_size(&ref.entry.key)
    if object_tag(&ref.entry.key) == OBJECT_HEAP:
        self.heap_bytes -= mem_usable(<const void *>ref.entry.key.lo)
    dash_erase(&self.table, ref)


cdef inline bint remove_key(member_table_t *self, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    if not dash_find(&self.table, key, &ref):
        return False
    set_erase_entry(self, &ref)
    return True


cdef inline bint contains_key(member_table_t *self, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    return dash_find(&self.table, key, &ref)


# ---- Conversions -------------------------------------------------------------------------------

cdef inline void become(object_t *self, uint32_t encoding, void *root) noexcept nogil:
    object_root(self)[0] = root
    object_set_encoding(self, encoding)


cdef void begin_compact(object_t *self, size_t room) noexcept nogil:
    become(self, SET_COMPACT, listpack_new(room))


cdef void integers_to_compact(object_t *self) noexcept nogil:
    cdef uint8_t *integers = <uint8_t *>object_pointer(self)
    cdef uint32_t count = intset_count(integers)
    cdef uint8_t *block = listpack_new(<size_t>INTEGER_PACKED_MAX * count)
    cdef uint32_t i
    for i in range(count):
        listpack_insert_int(&block, NULL, intset_get(integers, i))
    mem_free(integers)
    if mem_usable(block) > mem_good_size(listpack_bytes(block)):
        block = <uint8_t *>mem_realloc(block, listpack_bytes(block))
    become(self, SET_COMPACT, block)


cdef member_table_t *set_to_table(object_t *self) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef member_table_t *table
    cdef set_cursor_t cursor
    cdef list_item_t item
    cdef key_t key
    if object_encoding(self) == SET_TABLE:
        return set_table(self)
    table = new_table()
    set_begin(self, &cursor)
    while set_next(&cursor, &item):
        key_of_item(&key, &item, scratch)
        add_key(table, &key)
    mem_free(object_pointer(self))
    become(self, SET_TABLE, table)
    return table


cdef inline bint fits_compact(uint64_t count, size_t bytes, size_t size, const set_limits_t *limits) noexcept nogil:
    """Whether one more member of `size` bytes may come to `count` others."""
    return (<int64_t>count < limits.entries and <int64_t>size <= limits.value
            and bytes + size + LISTPACK_HEADER + INTEGER_PACKED_MAX < LISTPACK_BYTES_MAX)


cdef bint integers_fit_compact(const uint8_t *integers, size_t size, const set_limits_t *limits) noexcept nogil:
    cdef char text[LIST_ITEM_SCRATCH]
    cdef uint32_t count = intset_count(integers)
    cdef size_t longest = 0
    if count > 0:
        longest = max(format_int64(intset_get(integers, 0), text),
                      format_int64(intset_get(integers, count - 1), text))
    return (<int64_t>longest <= limits.value
            and fits_compact(count, <size_t>INTEGER_PACKED_MAX * count, size, limits))


# ---- Adding and removing -----------------------------------------------------------------------

cdef inline bint keeps_integers(uint64_t count, const set_limits_t *limits) noexcept nogil:
    return <int64_t>count <= limits.integers and count < INTSET_COUNT_MAX


cdef bint add_to_table(object_t *self, const char *data, size_t size) noexcept nogil:
    cdef key_t key
    key_init(&key, data, size)
    return add_key(set_to_table(self), &key)


cdef bint add_to_compact(object_t *self, const list_item_t *needle, const char *data, size_t size,
                         const set_limits_t *limits) noexcept nogil:
    cdef uint8_t **block = <uint8_t **>object_root(self)
    if listpack_find(block[0] + LISTPACK_HEADER, needle, 0) != NULL:
        return False
    if unlikely(not fits_compact(listpack_count(block[0]), listpack_bytes(block[0]), size, limits)):
        return add_to_table(self, data, size)
    if needle.data == NULL:
        listpack_insert_int(block, NULL, needle.integer)
    else:
        listpack_insert(block, NULL, data, size)
    return True


cdef bint add_to_integers(object_t *self, const list_item_t *needle, const char *data, size_t size,
                          const set_limits_t *limits) noexcept nogil:
    cdef uint8_t **block = <uint8_t **>object_root(self)
    if likely(needle.data == NULL):
        if not intset_add(block, needle.integer):
            return False
        if unlikely(not keeps_integers(intset_count(block[0]), limits)):
            set_to_table(self)
        return True
    if not integers_fit_compact(block[0], size, limits):
        return add_to_table(self, data, size)
    integers_to_compact(self)
    listpack_insert(block, NULL, data, size)
    return True


cdef void begin(object_t *self, bint integer, size_t size, const set_limits_t *limits) noexcept nogil:
    """The encoding of a set whose first member is this."""
    if integer and keeps_integers(1, limits):
        become(self, SET_INTEGERS, intset_new())
    elif fits_compact(0, 0, size, limits):
        begin_compact(self, size + 2)
    else:
        become(self, SET_TABLE, new_table())


cdef bint add(object_t *self, const list_item_t *needle, const char *data, size_t size,
              const set_limits_t *limits) noexcept nogil:
    """needle: the member as list_needle reads it."""
    if unlikely(object_pointer(self) == NULL):
        begin(self, needle.data == NULL, size, limits)
    if object_encoding(self) == SET_INTEGERS:
        return add_to_integers(self, needle, data, size, limits)
    if object_encoding(self) == SET_COMPACT:
        return add_to_compact(self, needle, data, size, limits)
    return add_to_table(self, data, size)


cdef bint set_add(object_t *self, const char *data, size_t size, const set_limits_t *limits) noexcept nogil:
    cdef list_item_t needle
    if object_encoding(self) == SET_TABLE:
        return add_to_table(self, data, size)
    list_needle(data, size, &needle)
    return add(self, &needle, data, size, limits)


cdef bint set_add_timed(object_t *self, const char *data, size_t size, int64_t deadline,
                        const set_limits_t *limits) noexcept nogil:
    cdef member_table_t *table
    cdef dash_ref_t ref
    cdef key_t key
    if not set_add(self, data, size, limits):
        return False
    table = set_to_table(self)
    key_init(&key, data, size)
    dash_find(&table.table, &key, &ref)
    dash_set_deadline(&table.table, &ref, deadline)
    return True


cdef bint set_add_item(object_t *self, const list_item_t *item, const set_limits_t *limits) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    if item.data == NULL and object_encoding(self) != SET_TABLE:
        return add(self, item, text.data, text.size, limits)
    return set_add(self, text.data, text.size, limits)


cdef void set_add_new_item(object_t *self, const list_item_t *item, const set_limits_t *limits) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef uint8_t **block = <uint8_t **>object_root(self)
    cdef slice_t text
    if object_encoding(self) == SET_COMPACT and object_pointer(self) != NULL:
        text = list_item_text(item, scratch)
        if fits_compact(listpack_count(block[0]), listpack_bytes(block[0]), text.size, limits):
            listpack_insert(block, NULL, text.data, text.size)
            return
    set_add_item(self, item, limits)


cdef void drop_if_empty(object_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    if set_count(self) == 0:
        free_step(self, &budget)


cdef bint remove_needle(object_t *self, const list_item_t *needle) noexcept nogil:
    """From a set that is not a table."""
    cdef uint8_t **block = <uint8_t **>object_root(self)
    cdef const uint8_t *p
    cdef int64_t index
    if object_encoding(self) == SET_INTEGERS:
        index = intset_find(block[0], needle.integer) if needle.data == NULL else -1
        if index < 0:
            return False
        intset_remove_at(block, <uint32_t>index)
    else:
        p = listpack_find(block[0] + LISTPACK_HEADER, needle, 0)
        if p == NULL:
            return False
        listpack_delete(block, p, 1)
    drop_if_empty(self)
    return True


cdef bint set_remove(object_t *self, const char *data, size_t size) noexcept nogil:
    cdef list_item_t needle
    cdef key_t key
    if object_pointer(self) == NULL:
        return False
    if object_encoding(self) == SET_TABLE:
        key_init(&key, data, size)
        if not remove_key(set_table(self), &key):
            return False
        drop_if_empty(self)
        return True
    list_needle(data, size, &needle)
    return remove_needle(self, &needle)


cdef bint set_remove_item(object_t *self, const list_item_t *item) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    return set_remove(self, text.data, text.size)


# ---- Reading -----------------------------------------------------------------------------------

cdef uint64_t set_count(const object_t *self) noexcept nogil:
    cdef uint32_t encoding = object_encoding(self)
    if object_pointer(self) == NULL:
        return 0
    if encoding == SET_INTEGERS:
        return intset_count(set_block(self))
    if encoding == SET_COMPACT:
        return listpack_count(set_block(self))
    return set_table(self).table.count


cdef inline bint block_contains(const object_t *self, const list_item_t *needle) noexcept nogil:
    if object_encoding(self) == SET_INTEGERS:
        return needle.data == NULL and intset_find(set_block(self), needle.integer) >= 0
    return listpack_find(set_block(self) + LISTPACK_HEADER, needle, 0) != NULL


cdef bint set_contains(const object_t *self, const char *data, size_t size) noexcept nogil:
    cdef list_item_t needle
    cdef key_t key
    if unlikely(object_pointer(self) == NULL):
        return False
    if object_encoding(self) == SET_TABLE:
        key_init(&key, data, size)
        return contains_key(set_table(self), &key)
    list_needle(data, size, &needle)
    return block_contains(self, &needle)


cdef bint set_contains_item(const object_t *self, const list_item_t *item) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text
    if item.data == NULL and object_pointer(self) != NULL and object_encoding(self) != SET_TABLE:
        return block_contains(self, item)
    text = list_item_text(item, scratch)
    return set_contains(self, text.data, text.size)


cdef void set_begin(const object_t *self, set_cursor_t *out) noexcept nogil:
    out.encoding = object_encoding(self) if object_pointer(self) != NULL else <uint32_t>SET_EMPTY
    out.block = set_block(self)
    out.index = 0
    if out.encoding == SET_COMPACT:
        out.position = out.block + LISTPACK_HEADER
    elif out.encoding == SET_TABLE:
        dash_begin(&set_table(self).table, &out.entries)


cdef bint set_next_timed(set_cursor_t *self, list_item_t *out, int64_t *deadline) noexcept nogil:
    cdef dash_ref_t ref
    deadline[0] = DASH_NO_DEADLINE
    if self.encoding != SET_TABLE:
        return set_next(self, out)
    if not dash_next(&self.entries, &ref):
        return False
    read_entry(&ref, out, self.scratch)
    deadline[0] = dash_deadline(&ref)
    return True


cdef bint set_has_deadlines(const object_t *self) noexcept nogil:
    return object_encoding(self) == SET_TABLE and set_table(self).table.deadline_count != 0


cdef bint set_next(set_cursor_t *self, list_item_t *out) noexcept nogil:
    cdef dash_ref_t ref
    if self.encoding == SET_TABLE:
        if not dash_next(&self.entries, &ref):
            return False
        read_entry(&ref, out, self.scratch)
        return True
    if self.encoding == SET_COMPACT:
        if self.position[0] == LISTPACK_END:
            return False
        self.position = listpack_read(self.position, out)
        return True
    if self.encoding == SET_EMPTY or self.index == intset_count(self.block):
        return False
    out.data = NULL
    out.size = 0
    out.integer = intset_get(self.block, self.index)
    self.index += 1
    return True


cdef inline uint32_t random_below(uint32_t count) noexcept nogil:
    return <uint32_t>(((random_u64() >> 32) * count) >> 32)


cdef void set_random(const object_t *self, set_place_t *out) noexcept nogil:
    cdef uint32_t encoding = object_encoding(self)
    if encoding == SET_TABLE:
        DFLY_CHECK(dash_random(&set_table(self).table, random_u64(), &out.ref), "a random member of nothing")
        read_entry(&out.ref, &out.item, out.scratch)
    elif encoding == SET_COMPACT:
        out.position = listpack_seek(set_block(self), random_below(<uint32_t>set_count(self)))
        listpack_read(out.position, &out.item)
    else:
        out.index = random_below(intset_count(set_block(self)))
        out.item.data = NULL
        out.item.size = 0
        out.item.integer = intset_get(set_block(self), out.index)


cdef void set_draw(const object_t *self, dash_draws_t *draws, set_place_t *out) noexcept nogil:
    if object_encoding(self) != SET_TABLE:
        set_random(self, out)
        return
    DFLY_CHECK(dash_draw(&set_table(self).table, draws, &out.ref), "a random member of nothing")
    read_entry(&out.ref, &out.item, out.scratch)


cdef void set_remove_at(object_t *self, set_place_t *place) noexcept nogil:
    if object_encoding(self) == SET_TABLE:
        set_erase_entry(set_table(self), &place.ref)
    elif object_encoding(self) == SET_COMPACT:
        listpack_delete(<uint8_t **>object_root(self), place.position, 1)
    else:
        intset_remove_at(<uint8_t **>object_root(self), place.index)
    drop_if_empty(self)


cdef void set_adopt(object_t *out, uint32_t encoding, uint8_t *block) noexcept nogil:
    object_set_container(out, TYPE_SET, NULL)
    become(out, encoding, block)


# ---- For every command -------------------------------------------------------------------------

cdef void dup(const object_t *self, object_t *out) noexcept nogil:
    cdef member_table_t *table
    cdef void *root = NULL
    if object_encoding(self) == SET_INTEGERS:
        root = intset_dup(set_block(self))
    elif object_encoding(self) == SET_COMPACT:
        root = listpack_dup(set_block(self))
    else:
        table = <member_table_t *>mem_alloc(sizeof(member_table_t))
        table[0] = set_table(self)[0]
        dash_dup(&set_table(self).table, &table.table)
        root = table
    become(out, object_encoding(self), root)


cdef bint free_step(object_t *self, uint64_t *budget) noexcept nogil:
    if object_pointer(self) == NULL:
        return True
    if object_encoding(self) == SET_TABLE:
        dash_walk_finish(&set_table(self).table)
        if not dash_clear_step(&set_table(self).table, budget):
            return False
    elif budget[0] == 0:
        return False
    else:
        budget[0] -= 1
    mem_free(object_pointer(self))
    become(self, SET_EMPTY, NULL)
    return True


cdef uint64_t block_count(const object_t *self) noexcept nogil:
    if object_encoding(self) == SET_TABLE:
        return set_table(self).table.count + set_table(self).table.segment_count
    return 0 if object_pointer(self) == NULL else 1


cdef uint64_t heap_bytes(const object_t *self) noexcept nogil:
    cdef uint64_t total
    if object_pointer(self) == NULL:
        return 0
    total = mem_usable(object_pointer(self))
    if object_encoding(self) == SET_TABLE:
        total += dash_bytes(&set_table(self).table) + set_table(self).heap_bytes
    return total


cdef uint64_t data_bytes(const object_t *self) noexcept nogil:
    if object_pointer(self) == NULL:
        return 0
    if object_encoding(self) == SET_INTEGERS:
        return intset_bytes(set_block(self))
    if object_encoding(self) == SET_COMPACT:
        return listpack_bytes(set_block(self))
    return set_table(self).text_bytes + set_table(self).table.count


cdef const char *encoding_name(const object_t *self) noexcept nogil:
    if object_encoding(self) == SET_INTEGERS:
        return "intset"
    return "listpack" if object_encoding(self) == SET_COMPACT else "hashtable"


cdef bint set_check(const object_t *self) noexcept nogil:
    cdef set_cursor_t cursor
    cdef list_item_t item
    cdef uint64_t count = 0
    cdef uint64_t text = 0
    cdef uint64_t heap = 0
    cdef dash_ref_t ref
    cdef const uint8_t *block = set_block(self)
    if block == NULL:
        DFLY_CHECK(object_encoding(self) == SET_EMPTY, "encoding of an empty set")
        return True
    DFLY_CHECK(set_count(self) > 0, "a set without members has a root")
    if object_encoding(self) == SET_INTEGERS:
        DFLY_CHECK(intset_is_valid(block, intset_bytes(block)), "integer set")
        DFLY_CHECK(intset_bytes(block) <= mem_usable(block), "room of an integer set")
    elif object_encoding(self) == SET_COMPACT:
        DFLY_CHECK(listpack_is_valid(block, listpack_bytes(block)), "listpack of a set")
    else:
        dash_check(&set_table(self).table)
        dash_begin(&set_table(self).table, &cursor.entries)
        while dash_next(&cursor.entries, &ref):
            text += object_size(&ref.entry.key)
            if object_tag(&ref.entry.key) == OBJECT_HEAP:
                heap += mem_usable(<const void *>ref.entry.key.lo)
        DFLY_CHECK(text == set_table(self).text_bytes, "text bytes of a set")
        DFLY_CHECK(heap == set_table(self).heap_bytes, "heap bytes of a set")
    set_begin(self, &cursor)
    while set_next(&cursor, &item):
        DFLY_CHECK(set_contains_item(self, &item), "a member that is not found")
        count += 1
    DFLY_CHECK(count == set_count(self), "count of a set")
    return True


# ---- Deadlines -------------------------------------------------------------------------------------

cdef bint erase_due_entry(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    set_erase_entry(<member_table_t *>context, ref)
    return True


cdef uint64_t expire_members(object_t *self, int64_t now_ms, uint64_t budget) noexcept nogil:
    cdef member_table_t *table = set_table(self)
    cdef uint64_t removed
    if object_encoding(self) != SET_TABLE:
        return 0
    removed = dash_visit_due(&table.table, now_ms, budget, erase_due_entry, table)
    drop_if_empty(self)
    return removed


cdef int64_t next_deadline(const object_t *self) noexcept nogil:
    if not set_has_deadlines(self):
        return DASH_NO_DEADLINE
    return dash_next_due(&set_table(self).table)


cdef const void *walk_owner(const object_t *self) noexcept nogil:
    if object_encoding(self) != SET_TABLE or set_table(self).table.walk == NULL:
        return NULL
    return set_table(self).table.walk.owner


cdef void finish_walk(object_t *self) noexcept nogil:
    dash_walk_finish(&set_table(self).table)


cdef bint is_worth_prefetching(const object_t *self) noexcept nogil:
    return object_encoding(self) == SET_TABLE and set_table(self).table.count >= PREFETCHED_MIN


cdef bint prefetch_member(const object_t *self, uint64_t hash, int number, void **probe) noexcept nogil:
    return dash_prefetch_member(&set_table(self).table, hash, number, probe)


cdef container_ops_t ops
memset(&ops, 0, sizeof(ops))
ops.dup = dup
ops.free_step = free_step
ops.block_count = block_count
ops.heap_bytes = heap_bytes
ops.data_bytes = data_bytes
ops.encoding_name = encoding_name
ops.expire_members = expire_members
ops.next_member_deadline = next_deadline
ops.walk_owner = walk_owner
ops.finish_walk = finish_walk
ops.is_worth_prefetching = is_worth_prefetching
ops.prefetch_member = prefetch_member
object_register_container(TYPE_SET, &ops)
