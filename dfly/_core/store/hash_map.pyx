"""Hashes: see hash_map.pxd for the two encodings.

Invariants
1. The root is NULL exactly while there are no fields; then the encoding is HASH_LISTPACK.
2. A listpack holds each field once, followed by its value; what is an integer's canonical text is one.
3. Values in a table are strings or integers, never containers.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text, list_needle
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_before_member_change, dash_bytes, dash_check, dash_clear,
                                    dash_clear_step, dash_deadline, dash_dup, dash_erase, dash_find, dash_init,
                                    dash_insert, dash_next_due, dash_ref_t, dash_set_deadline, dash_t, dash_visit_due)
from dfly._core.store.dash_prefetch cimport dash_prefetch_member
from dfly._core.store.dash_walk cimport dash_walk_finish
from dfly._core.store.dash_scan cimport dash_random, dash_scan
from dfly._core.store.decimal_text cimport parse_int64
from dfly._core.store.listpack cimport (LISTPACK_BYTES_MAX, LISTPACK_END, LISTPACK_HEADER, listpack_bytes,
                                        listpack_count, listpack_delete, listpack_dup, listpack_find,
                                        listpack_first, listpack_insert, listpack_insert_int, listpack_new,
                                        listpack_next, listpack_read, listpack_replace, listpack_seek)
from dfly._core.store.object cimport (OBJECT_INT, OBJECT_TAG_MASK, TYPE_HASH, container_ops_t, key_init, key_t,
                                      object_free, object_heap_bytes, object_is_string,
                                      object_register_container, object_replace_string, object_root,
                                      object_set_container, object_set_encoding, object_set_int,
                                      object_set_string, object_size,
                                      object_tag, object_view)
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_good_size, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, slice_t, unlikely
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    ELEMENT_OVERHEAD = 2         # of a short text in a listpack
    LONG_ELEMENT_OVERHEAD = 10
    SHORT_ELEMENT = 64
    MEASURED_MAX = 1024          # entries whose heap blocks are looked at; more are estimated from these
    RANDOM_TRIES = 100
    PREFETCHED_MIN = 8192        # fields of a table that does not stay in the processor's cache


# ---- Listpacks ---------------------------------------------------------------------------------

cdef inline uint8_t **pack_root(object_t *self) noexcept nogil:
    return <uint8_t **>object_root(self)


cdef inline const uint8_t *pack_of(const object_t *self) noexcept nogil:
    return <const uint8_t *>object_pointer(self)


cdef uint64_t hash_listpack_count(const uint8_t *listpack) noexcept nogil:
    return listpack_count(listpack) // 2


cdef inline const uint8_t *find_in_pack(const uint8_t *pack, slice_t field) noexcept nogil:
    cdef list_item_t needle
    list_needle(field.data, field.size, &needle)
    return listpack_find(pack + LISTPACK_HEADER, &needle, 1)


cdef inline bint fits_pack(const uint8_t *pack, slice_t field, slice_t value,
                           const hash_limits_t *limits) noexcept nogil:
    return (field.size <= limits.bytes and value.size <= limits.bytes
            and field.size + value.size + 2 * LONG_ELEMENT_OVERHEAD + listpack_bytes(pack) < LISTPACK_BYTES_MAX)


cdef void hash_reserve(object_t *self, uint64_t elements, uint64_t bytes) noexcept nogil:
    if object_pointer(self) == NULL and bytes < LISTPACK_BYTES_MAX // 2:
        pack_root(self)[0] = listpack_new(bytes + elements * ELEMENT_OVERHEAD)


cdef void hash_trim(object_t *self) noexcept nogil:
    cdef size_t size
    if object_encoding(self) != HASH_LISTPACK or object_pointer(self) == NULL:
        return
    size = listpack_bytes(pack_of(self))
    if mem_usable(pack_of(self)) > mem_good_size(size):
        pack_root(self)[0] = <uint8_t *>mem_realloc(object_pointer(self), size)


cdef void put_in_table(dash_t *table, const list_item_t *field, const list_item_t *value) noexcept nogil:
    """Adds a field of a listpack, which is not there yet."""
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(field, scratch)
    cdef dash_ref_t ref
    cdef key_t key
    key_init(&key, text.data, text.size)
    dash_insert(table, &key, &ref)
    if value.data == NULL:
        object_set_int(&ref.entry.value, value.integer)
    else:
        object_set_string(&ref.entry.value, value.data, value.size)


cdef dash_t *new_table() noexcept nogil:
    cdef dash_t *table = <dash_t *>mem_alloc(sizeof(dash_t))
    dash_init(table)
    return table


cdef void hash_to_table(object_t *self) noexcept nogil:
    cdef uint8_t *pack = <uint8_t *>object_pointer(self)
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    cdef list_item_t field
    cdef list_item_t value
    cdef dash_t *table
    if object_encoding(self) == HASH_TABLE:
        return
    table = new_table()
    if pack != NULL:
        while p[0] != LISTPACK_END:
            p = listpack_read(p, &field)
            p = listpack_read(p, &value)
            put_in_table(table, &field, &value)
        mem_free(pack)
    object_root(self)[0] = table
    object_set_encoding(self, HASH_TABLE)


# ---- Looking up ----------------------------------------------------------------------------------

cdef inline bint is_due(int64_t deadline, int64_t now_ms) noexcept nogil:
    return deadline != DASH_NO_DEADLINE and deadline <= now_ms


cdef inline bint ref_is_due(const dash_ref_t *ref, int64_t now_ms) noexcept nogil:
    return unlikely((ref.bucket.deadline >> ref.slot) & 1) and is_due(dash_deadline(ref), now_ms)


cdef bint hash_find(const object_t *self, slice_t field, int64_t now_ms, hash_place_t *out) noexcept nogil:
    cdef key_t key
    if object_encoding(self) == HASH_LISTPACK:
        out.field = find_in_pack(pack_of(self), field)
        if out.field == NULL:
            return False
        out.value = listpack_next(out.field)
        return True
    key_init(&key, field.data, field.size)
    return dash_find(hash_table(self), &key, &out.ref) and not ref_is_due(&out.ref, now_ms)


cdef inline void read_object(const object_t *value, char *scratch, list_item_t *out) noexcept nogil:
    cdef slice_t view
    if object_tag(value) & OBJECT_TAG_MASK == OBJECT_INT:
        out.data = NULL
        out.integer = <int64_t>value.lo
        return
    view = object_view(value, scratch)
    out.data = view.data
    out.size = <uint32_t>view.size


cdef void hash_value(const object_t *self, const hash_place_t *place, char *scratch, list_item_t *out) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        listpack_read(place.value, out)
    else:
        read_object(&place.ref.entry.value, scratch, out)


cdef int64_t hash_deadline(const object_t *self, const hash_place_t *place) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        return HASH_NO_DEADLINE
    return dash_deadline(&place.ref)


# ---- Changing ------------------------------------------------------------------------------------

cdef hash_set_result_t set_in_pack(object_t *self, slice_t field, slice_t value,
                                   const hash_limits_t *limits) noexcept nogil:
    cdef uint8_t **pack = pack_root(self)
    cdef const uint8_t *found = find_in_pack(pack[0], field)
    if found != NULL:
        listpack_replace(pack, listpack_next(found), value.data, value.size)
    else:
        listpack_insert(pack, NULL, field.data, field.size)
        listpack_insert(pack, NULL, value.data, value.size)
    if unlikely(hash_listpack_count(pack[0]) > limits.entries):
        hash_to_table(self)
    return HASH_UPDATED if found != NULL else HASH_ADDED


cdef hash_set_result_t set_in_table(dash_t *table, slice_t field, slice_t value, int64_t deadline,
                                    int64_t now_ms) noexcept nogil:
    cdef hash_set_result_t result = HASH_UPDATED
    cdef dash_ref_t ref
    cdef key_t key
    key_init(&key, field.data, field.size)
    if not dash_find(table, &key, &ref):
        dash_insert(table, &key, &ref)
        object_set_string(&ref.entry.value, value.data, value.size)
        if deadline >= 0:
            dash_set_deadline(table, &ref, deadline)
        return HASH_ADDED
    dash_before_member_change(table, &ref)
    object_replace_string(&ref.entry.value, value.data, value.size)
    if unlikely((ref.bucket.deadline >> ref.slot) & 1 or deadline >= 0):
        if ref_is_due(&ref, now_ms):
            result = HASH_REVIVED
            if deadline == HASH_KEEP_DEADLINE:
                deadline = HASH_NO_DEADLINE
        if deadline != HASH_KEEP_DEADLINE:
            dash_set_deadline(table, &ref, deadline)
    return result


cdef hash_set_result_t hash_set(object_t *self, slice_t field, slice_t value, int64_t deadline, int64_t now_ms,
                                const hash_limits_t *limits) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        if object_pointer(self) == NULL:
            pack_root(self)[0] = listpack_new(field.size + value.size + 2 * ELEMENT_OVERHEAD)
        if likely(deadline < 0 and fits_pack(pack_of(self), field, value, limits)):
            return set_in_pack(self, field, value, limits)
        hash_to_table(self)
    return set_in_table(hash_table(self), field, value, deadline, now_ms)


cdef void hash_set_deadline(object_t *self, slice_t field, hash_place_t *place, int64_t deadline) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        if deadline == HASH_NO_DEADLINE:
            return
        hash_to_table(self)
        hash_find(self, field, HASH_SHOW_ALL, place)
    dash_set_deadline(hash_table(self), &place.ref, deadline)


cdef void free_if_empty(object_t *self) noexcept nogil:
    """Of a table."""
    cdef dash_t *table = hash_table(self)
    if table.count == 0:
        dash_walk_finish(table)
        dash_clear(table)
        mem_free(table)
        object_root(self)[0] = NULL
        object_set_encoding(self, HASH_LISTPACK)


cdef void hash_remove(object_t *self, hash_place_t *place) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        listpack_delete(pack_root(self), place.field, 2)
        if listpack_first(pack_of(self)) == NULL:
            mem_free(object_pointer(self))
            object_root(self)[0] = NULL
        return
    dash_before_member_change(hash_table(self), &place.ref)
    object_free(&place.ref.entry.value)
    dash_erase(hash_table(self), &place.ref)
    free_if_empty(self)


cdef bint expire_visit(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    dash_before_member_change(table, ref)
    object_free(&ref.entry.value)
    dash_erase(table, ref)
    return True


cdef uint64_t hash_expire(object_t *self, int64_t now_ms, uint64_t budget) noexcept nogil:
    cdef uint64_t removed
    if object_encoding(self) == HASH_LISTPACK:
        return 0
    removed = dash_visit_due(hash_table(self), now_ms, budget, expire_visit, NULL)
    free_if_empty(self)
    return removed


cdef int64_t hash_next_deadline(const object_t *self) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK or hash_table(self).deadline_count == 0:
        return HASH_NO_DEADLINE
    return dash_next_due(hash_table(self))


# ---- Walking -------------------------------------------------------------------------------------

cdef struct walk_t:
    hash_visit_t visit
    void *context
    int64_t now_ms
    hash_entry_t entry


cdef void hash_read_table_entry(const dash_ref_t *ref, hash_entry_t *out) noexcept nogil:
    read_object(&ref.entry.key, out.field_text, &out.field)
    read_object(&ref.entry.value, out.value_text, &out.value)
    out.deadline = dash_deadline(ref)


cdef bint visit_entry(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef walk_t *walk = <walk_t *>context
    hash_read_table_entry(ref, &walk.entry)
    if not is_due(walk.entry.deadline, walk.now_ms):
        walk.visit(&walk.entry, walk.context)
    return False


cdef uint64_t hash_scan(const object_t *self, uint64_t cursor, int64_t now_ms, hash_visit_t visit,
                        void *context) noexcept nogil:
    cdef const uint8_t *p
    cdef walk_t walk
    if object_encoding(self) == HASH_TABLE:
        walk.visit = visit
        walk.context = context
        walk.now_ms = now_ms
        return dash_scan(hash_table(self), cursor, visit_entry, &walk)
    if object_pointer(self) == NULL:
        return 0
    p = pack_of(self) + LISTPACK_HEADER
    walk.entry.deadline = HASH_NO_DEADLINE
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &walk.entry.field)
        p = listpack_read(p, &walk.entry.value)
        visit(&walk.entry, context)
    return 0


cdef bint hash_random(const object_t *self, int64_t now_ms, hash_entry_t *out) noexcept nogil:
    cdef const uint8_t *p
    cdef dash_ref_t ref
    cdef uint32_t _tries
    if object_pointer(self) == NULL:
        return False
    if object_encoding(self) == HASH_LISTPACK:
        p = listpack_seek(pack_of(self), <int64_t>(random_u64() % hash_listpack_count(pack_of(self))) * 2)
        listpack_read(listpack_read(p, &out.field), &out.value)
        out.deadline = HASH_NO_DEADLINE
        return True
    for _tries in range(RANDOM_TRIES):
        if not dash_random(hash_table(self), random_u64(), &ref):
            return False
        if not ref_is_due(&ref, now_ms):
            hash_read_table_entry(&ref, out)
            return True
    return False


# ---- Foreign listpacks ---------------------------------------------------------------------------

cdef bint has_integers_as_text(const uint8_t *pack) noexcept nogil:
    """Elements that we would write as integers: they would not be found."""
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    cdef list_item_t item
    cdef int64_t integer
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &item)
        if item.data != NULL and item.size > 0 and item.size <= 20 and parse_int64(item.data, item.size, &integer):
            return True
    return False


cdef uint8_t *rewritten(const uint8_t *pack) noexcept nogil:
    cdef uint8_t *copy = listpack_new(listpack_bytes(pack))
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    cdef list_item_t item
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &item)
        if item.data == NULL:
            listpack_insert_int(&copy, NULL, item.integer)
        else:
            listpack_insert(&copy, NULL, item.data, item.size)
    return copy


cdef bint has_each_field_once(const uint8_t *pack) noexcept nogil:
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    cdef list_item_t field
    cdef list_item_t value
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &field)
        if p[0] == LISTPACK_END:
            return False
        p = listpack_read(p, &value)
        if listpack_find(p, &field, 1) != NULL:
            return False
    return True


cdef bint fill_table(dash_t *table, const uint8_t *pack) noexcept nogil:
    """False if a field comes twice."""
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    cdef list_item_t field
    cdef list_item_t value
    cdef dash_ref_t ref
    cdef slice_t text
    cdef key_t key
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &field)
        if p[0] == LISTPACK_END:
            return False
        p = listpack_read(p, &value)
        text = list_item_text(&field, scratch)
        key_init(&key, text.data, text.size)
        if dash_find(table, &key, &ref):
            return False
        put_in_table(table, &field, &value)
    return True


cdef bint hash_adopt_listpack(object_t *self, uint8_t *listpack, const hash_limits_t *limits) noexcept nogil:
    cdef uint8_t *copy
    cdef dash_t *table
    if listpack_first(listpack) == NULL:
        return False
    if hash_listpack_count(listpack) > limits.entries:
        table = new_table()
        object_root(self)[0] = table
        object_set_encoding(self, HASH_TABLE)
        if not fill_table(table, listpack):
            object_free(self)
            object_set_container(self, TYPE_HASH, NULL)
            return False
        mem_free(listpack)
        return True
    if has_integers_as_text(listpack):
        copy = rewritten(listpack)
        if not has_each_field_once(copy):
            mem_free(copy)
            return False
        mem_free(listpack)
        listpack = copy
    elif not has_each_field_once(listpack):
        return False
    pack_root(self)[0] = listpack
    return True


# ---- Verification --------------------------------------------------------------------------------

cdef bint check_entry(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    DFLY_CHECK(object_is_string(&ref.entry.value), "a value of a hash is a string")
    (<uint64_t *>context)[0] += 1
    return False


cdef bint hash_check(const object_t *self) noexcept nogil:
    cdef uint64_t seen = 0
    cdef uint64_t cursor = 0
    if object_pointer(self) == NULL:
        DFLY_CHECK(object_encoding(self) == HASH_LISTPACK, "an empty hash has the first encoding")
        return True
    if object_encoding(self) == HASH_LISTPACK:
        DFLY_CHECK(listpack_first(pack_of(self)) != NULL, "a listpack with no field")
        DFLY_CHECK(has_each_field_once(pack_of(self)), "fields of a listpack")
        DFLY_CHECK(not has_integers_as_text(pack_of(self)), "integers of a listpack")
        return True
    dash_check(hash_table(self))
    while True:
        cursor = dash_scan(hash_table(self), cursor, check_entry, &seen)
        if cursor == 0:
            break
    DFLY_CHECK(seen == hash_table(self).count and seen > 0, "entries of a table")
    return True


# ---- As a container ------------------------------------------------------------------------------

cdef void dup_hash(const object_t *self, object_t *out) noexcept nogil:
    cdef dash_t *copy
    if object_encoding(self) == HASH_LISTPACK:
        object_root(out)[0] = listpack_dup(pack_of(self))
        return
    copy = <dash_t *>mem_alloc(sizeof(dash_t))
    dash_dup(hash_table(self), copy)
    object_root(out)[0] = copy


cdef bint free_hash_step(object_t *self, uint64_t *budget) noexcept nogil:
    cdef dash_t *table
    cdef bint is_done
    if object_pointer(self) == NULL:
        return True
    if budget[0] == 0:
        return False
    if object_encoding(self) == HASH_LISTPACK:
        budget[0] -= 1
        mem_free(object_pointer(self))
        object_root(self)[0] = NULL
        return True
    table = hash_table(self)
    dash_walk_finish(table)
    is_done = dash_clear_step(table, budget)
    if is_done:
        mem_free(table)
        object_root(self)[0] = NULL
        object_set_encoding(self, HASH_LISTPACK)
    return is_done


cdef uint64_t blocks_of_hash(const object_t *self) noexcept nogil:
    if object_pointer(self) == NULL:
        return 0
    return 1 if object_encoding(self) == HASH_LISTPACK else hash_table(self).count + 1


cdef struct measure_t:
    uint64_t entries
    uint64_t bytes
    bint of_data                 # texts, instead of the blocks they need


cdef bint measure_entry(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef measure_t *measure = <measure_t *>context
    measure.entries += 1
    if measure.of_data:
        measure.bytes += object_size(&ref.entry.key) + object_size(&ref.entry.value)
    else:
        measure.bytes += object_heap_bytes(&ref.entry.key) + object_heap_bytes(&ref.entry.value)
    return False


cdef uint64_t measure_table(dash_t *table, bint of_data) noexcept nogil:
    """Exact up to MEASURED_MAX entries, else an estimate from about as many."""
    cdef measure_t measure
    cdef uint64_t cursor = 0
    measure.entries = 0
    measure.bytes = 0
    measure.of_data = of_data
    while True:
        cursor = dash_scan(table, cursor, measure_entry, &measure)
        if cursor == 0 or measure.entries >= MEASURED_MAX:
            break
    if measure.entries == 0:
        return 0
    return <uint64_t>(<double>measure.bytes * <double>table.count / <double>measure.entries)


cdef uint64_t heap_of_hash(const object_t *self) noexcept nogil:
    if object_pointer(self) == NULL:
        return 0
    if object_encoding(self) == HASH_LISTPACK:
        return mem_usable(object_pointer(self))
    return mem_usable(object_pointer(self)) + dash_bytes(hash_table(self)) + measure_table(hash_table(self), False)


cdef uint64_t data_of_hash(const object_t *self) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        return listpack_bytes(pack_of(self))
    return measure_table(hash_table(self), True)


cdef const char *encoding_of_hash(const object_t *self) noexcept nogil:
    if object_encoding(self) == HASH_LISTPACK:
        return "listpack"
    return "hashtable"


cdef const void *walk_owner(const object_t *self) noexcept nogil:
    if object_encoding(self) != HASH_TABLE or hash_table(self).walk == NULL:
        return NULL
    return hash_table(self).walk.owner


cdef void finish_walk(object_t *self) noexcept nogil:
    dash_walk_finish(hash_table(self))


cdef bint is_worth_prefetching(const object_t *self) noexcept nogil:
    return object_encoding(self) == HASH_TABLE and hash_table(self).count >= PREFETCHED_MIN


cdef bint prefetch_field(const object_t *self, uint64_t hash, int number, void **probe) noexcept nogil:
    return dash_prefetch_member(hash_table(self), hash, number, probe)


cdef container_ops_t OPS
OPS.dup = dup_hash
OPS.free_step = free_hash_step
OPS.block_count = blocks_of_hash
OPS.heap_bytes = heap_of_hash
OPS.data_bytes = data_of_hash
OPS.encoding_name = encoding_of_hash
OPS.expire_members = hash_expire
OPS.next_member_deadline = hash_next_deadline
OPS.walk_owner = walk_owner
OPS.finish_walk = finish_walk
OPS.is_worth_prefetching = is_worth_prefetching
OPS.prefetch_member = prefetch_field
object_register_container(TYPE_HASH, &OPS)
