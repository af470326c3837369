"""Hashes in RDB files: see rdb_hash.pxd.

    RDB_HASH                count | (field, value: strings) ...
    RDB_HASH_ZIPMAP         a string that is a zipmap
    RDB_HASH_ZIPLIST        a string that is a ziplist: field, value ...
    RDB_HASH_LISTPACK       a string that is a listpack: field, value ...
    RDB_HASH_TTL            least deadline: ms | count | (deadline - least + 1 or 0: length, field, value) ...
    RDB_HASH_TTL_LISTPACK   least deadline: ms | a string that is a listpack: field, value, deadline or 0 ...
    RDB_HASH_TTL_EARLY, RDB_HASH_TTL_LISTPACK_EARLY: the same without the least one; deadlines as they are.
    In Valkey's version 80, RDB_HASH_TTL_EARLY is: count | (field, value, deadline or -1: ms) ...
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport (RDB_HASH, RDB_HASH_LISTPACK, RDB_HASH_TTL, RDB_HASH_TTL_EARLY,
                                        RDB_HASH_TTL_LISTPACK, RDB_HASH_ZIPLIST, RDB_HASH_ZIPMAP, RDB_VERSION_VALKEY,
                                        rdb_fail, rdb_get_count, rdb_get_length, rdb_get_ms, rdb_get_string,
                                        rdb_loading_t, rdb_put_integer, rdb_put_length, rdb_put_ms, rdb_put_string,
                                        rdb_reader_t, rdb_saving_t, rdb_text_free, rdb_text_t, rdb_writer_t)
from dfly._core.persist.ziplist cimport (ZIPLIST_END, ziplist_first, ziplist_is_valid, ziplist_read, zipmap_first,
                                         zipmap_is_valid, zipmap_read)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.hash_map cimport (HASH_ADDED, HASH_NO_DEADLINE, HASH_SHOW_ALL, hash_adopt_listpack, hash_entry_t,
                                        hash_limits_t, hash_listpack, hash_next_deadline, hash_scan, hash_set)
from dfly._core.store.listpack cimport (LISTPACK_END, LISTPACK_HEADER, listpack_bytes, listpack_is_valid, listpack_read)
from dfly._core.store.object cimport object_t
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    VERSION_LISTPACK = 10
    SURVEY_COST = 100            # of one step of a scan, in bytes that could be written instead


# ---- Writing -----------------------------------------------------------------------------------

cdef struct walk_t:
    rdb_writer_t *out
    uint64_t count
    int64_t least                # deadline; HASH_NO_DEADLINE: none has one
    size_t written

cdef struct place_t:
    # Of rdb_save_hash_step.
    walk_t walk
    uint64_t cursor
    bint is_surveyed


cdef int rdb_hash_type(const object_t *value, uint32_t version) noexcept nogil:
    if hash_next_deadline(value) != HASH_NO_DEADLINE and version >= RDB_VERSION_FIELD_DEADLINES:
        return RDB_HASH_TTL
    if hash_listpack(value) != NULL and version >= VERSION_LISTPACK and hash_next_deadline(value) == HASH_NO_DEADLINE:
        return RDB_HASH_LISTPACK
    return RDB_HASH


cdef void survey(const hash_entry_t *entry, void *context) noexcept nogil:
    cdef walk_t *walk = <walk_t *>context
    walk.count += 1
    if entry.deadline != HASH_NO_DEADLINE and (walk.least == HASH_NO_DEADLINE or entry.deadline < walk.least):
        walk.least = entry.deadline


cdef inline void put_item(rdb_writer_t *out, const list_item_t *item) noexcept nogil:
    if item.data == NULL:
        rdb_put_integer(out, item.integer)
    else:
        rdb_put_string(out, item.data, item.size)


cdef void put_pair(const hash_entry_t *entry, void *context) noexcept nogil:
    cdef walk_t *walk = <walk_t *>context
    put_item(walk.out, &entry.field)
    put_item(walk.out, &entry.value)
    walk.written += entry.field.size + entry.value.size + 8


cdef void put_timed(const hash_entry_t *entry, void *context) noexcept nogil:
    cdef walk_t *walk = <walk_t *>context
    rdb_put_length(walk.out, <uint64_t>(entry.deadline - walk.least + 1) if entry.deadline != HASH_NO_DEADLINE else 0)
    put_pair(entry, context)


cdef void rdb_save_hash(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef const uint8_t *pack = hash_listpack(value)
    cdef int type = rdb_hash_type(value, out.version)
    cdef uint64_t cursor = 0
    cdef walk_t walk
    if type == RDB_HASH_LISTPACK:
        rdb_put_string(out, <const char *>pack, listpack_bytes(pack))
        return
    walk.out = out
    walk.count = 0
    walk.written = 0
    walk.least = HASH_NO_DEADLINE
    while True:
        cursor = hash_scan(value, cursor, HASH_SHOW_ALL, survey, &walk)
        if cursor == 0:
            break
    if type == RDB_HASH_TTL:
        rdb_put_ms(out, walk.least)
    rdb_put_length(out, walk.count)
    while True:
        cursor = hash_scan(value, cursor, HASH_SHOW_ALL, put_timed if type == RDB_HASH_TTL else put_pair, &walk)
        if cursor == 0:
            return


cdef bint rdb_save_hash_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                             size_t budget) noexcept nogil:
    """A table: the compact form is one block. Its fields are counted in steps too."""
    cdef place_t *place = <place_t *>saving.place
    cdef bint is_timed = rdb_hash_type(value, out.version) == RDB_HASH_TTL
    if not saving.has_begun:
        saving.has_begun = True
        place.walk.out = out
        place.walk.least = HASH_NO_DEADLINE
    place.walk.written = 0
    while not place.is_surveyed and place.walk.written < budget:
        place.cursor = hash_scan(value, place.cursor, HASH_SHOW_ALL, survey, &place.walk)
        place.walk.written += SURVEY_COST
        if place.cursor == 0:
            place.is_surveyed = True
            if is_timed:
                rdb_put_ms(out, place.walk.least)
            rdb_put_length(out, place.walk.count)
    while place.walk.written < budget:
        place.cursor = hash_scan(value, place.cursor, HASH_SHOW_ALL, put_timed if is_timed else put_pair, &place.walk)
        if place.cursor == 0:
            return True
    return False


# ---- Reading -----------------------------------------------------------------------------------

cdef void add(rdb_reader_t *input, object_t *out, slice_t field, slice_t value, int64_t deadline,
              const hash_limits_t *limits) noexcept nogil:
    if deadline != HASH_NO_DEADLINE and deadline <= input.now_ms:
        return
    if hash_set(out, field, value, deadline, HASH_SHOW_ALL, limits) != HASH_ADDED:
        rdb_fail(input, "a hash with a field twice")


cdef void add_items(rdb_reader_t *input, object_t *out, const list_item_t *field, const list_item_t *value,
                    int64_t deadline, const hash_limits_t *limits) noexcept nogil:
    cdef char field_text[LIST_ITEM_SCRATCH]
    cdef char value_text[LIST_ITEM_SCRATCH]
    add(input, out, list_item_text(field, field_text), list_item_text(value, value_text), deadline, limits)


cdef void load_zipmap(rdb_reader_t *input, const rdb_text_t *text, const hash_limits_t *limits,
                      object_t *out) noexcept nogil:
    cdef const uint8_t *p = zipmap_first(<const uint8_t *>text.data)
    cdef list_item_t field
    cdef list_item_t value
    if not zipmap_is_valid(<const uint8_t *>text.data, text.size):
        rdb_fail(input, "a zipmap that is broken")
        return
    while p[0] != ZIPLIST_END and input.error == NULL:
        p = zipmap_read(p, &field, &value)
        add_items(input, out, &field, &value, HASH_NO_DEADLINE, limits)


cdef void load_ziplist(rdb_reader_t *input, const rdb_text_t *text, const hash_limits_t *limits,
                       object_t *out) noexcept nogil:
    cdef const uint8_t *p = ziplist_first(<const uint8_t *>text.data)
    cdef list_item_t field
    cdef list_item_t value
    if not ziplist_is_valid(<const uint8_t *>text.data, text.size):
        rdb_fail(input, "a ziplist that is broken")
        return
    while p[0] != ZIPLIST_END and input.error == NULL:
        p = ziplist_read(p, &field)
        if p[0] == ZIPLIST_END:
            rdb_fail(input, "a field without a value")
            return
        p = ziplist_read(p, &value)
        add_items(input, out, &field, &value, HASH_NO_DEADLINE, limits)


cdef void load_listpack(rdb_reader_t *input, const rdb_text_t *text, const hash_limits_t *limits,
                        object_t *out) noexcept nogil:
    cdef uint8_t *copy
    if not listpack_is_valid(<const uint8_t *>text.data, text.size):
        rdb_fail(input, "a listpack that is broken")
        return
    if text.size == LISTPACK_HEADER + 1:
        return
    copy = <uint8_t *>mem_alloc(text.size)
    memcpy(copy, text.data, text.size)
    if not hash_adopt_listpack(out, copy, limits):
        mem_free(copy)
        rdb_fail(input, "a listpack that is no hash")


cdef void load_timed_listpack(rdb_reader_t *input, const rdb_text_t *text, const hash_limits_t *limits,
                              object_t *out) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>text.data + LISTPACK_HEADER
    cdef list_item_t items[3]
    cdef int i
    if not listpack_is_valid(<const uint8_t *>text.data, text.size):
        rdb_fail(input, "a listpack that is broken")
        return
    while p[0] != LISTPACK_END and input.error == NULL:
        for i in range(3):
            if p[0] == LISTPACK_END:
                rdb_fail(input, "a field without a deadline")
                return
            p = listpack_read(p, &items[i])
        if items[2].data != NULL or items[2].integer < 0:
            rdb_fail(input, "a deadline that is none")
            return
        add_items(input, out, &items[0], &items[1], items[2].integer if items[2].integer > 0 else HASH_NO_DEADLINE,
                  limits)


cdef void load_field(int type, rdb_reader_t *input, int64_t least, const hash_limits_t *limits,
                     object_t *out) noexcept nogil:
    cdef bint is_valkey = type == RDB_HASH_TTL_EARLY and input.version == RDB_VERSION_VALKEY
    cdef int64_t deadline = HASH_NO_DEADLINE
    cdef rdb_text_t texts[2]
    cdef slice_t field
    cdef slice_t value
    cdef uint64_t ttl = 0
    if type != RDB_HASH and not is_valkey:
        ttl = rdb_get_length(input)
    if ttl > 0:
        if type != RDB_HASH_TTL_EARLY:
            ttl += <uint64_t>least - 1
        deadline = <int64_t>ttl
        if least < 0 or deadline < 0:
            rdb_fail(input, "a deadline that is none")
            return
    if not rdb_get_string(input, &texts[0]):
        return
    if rdb_get_string(input, &texts[1]):
        if is_valkey:
            deadline = rdb_get_ms(input)
            if deadline < 0:
                deadline = HASH_NO_DEADLINE
        field.data = texts[0].data
        field.size = texts[0].size
        value.data = texts[1].data
        value.size = texts[1].size
        if input.error == NULL:
            add(input, out, field, value, deadline, limits)
        rdb_text_free(&texts[1])
    rdb_text_free(&texts[0])


cdef void load_packed(int type, rdb_reader_t *input, const hash_limits_t *limits, object_t *out) noexcept nogil:
    cdef rdb_text_t text
    if not rdb_get_string(input, &text):
        return
    if type == RDB_HASH_ZIPMAP:
        load_zipmap(input, &text, limits, out)
    elif type == RDB_HASH_ZIPLIST:
        load_ziplist(input, &text, limits, out)
    elif type == RDB_HASH_LISTPACK:
        load_listpack(input, &text, limits, out)
    else:
        load_timed_listpack(input, &text, limits, out)
    rdb_text_free(&text)


cdef bint rdb_load_hash(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil:
    cdef int64_t *least = <int64_t *>loading.place
    cdef hash_limits_t limits
    limits.entries = settings.hash_max_listpack_entries
    limits.bytes = settings.hash_max_listpack_value
    if not loading.has_begun:
        loading.has_begun = True
        if type == RDB_HASH_TTL or type == RDB_HASH_TTL_LISTPACK:
            least[0] = rdb_get_ms(input)
        if type != RDB_HASH and type != RDB_HASH_TTL and type != RDB_HASH_TTL_EARLY:
            load_packed(type, input, &limits, out)
            return True
        loading.left = rdb_get_count(input, 2)
    while loading.left > 0 and input.error == NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        load_field(type, input, least[0], &limits, out)
        loading.left -= 1
    return True
