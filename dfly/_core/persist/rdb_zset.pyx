"""Sorted sets in RDB files: see rdb_zset.pxd.

    RDB_ZSET            count | (string, score as text) ...
    RDB_ZSET_2          count | (string, score as double) ...    from the highest, so that Redis inserts at the front
    RDB_ZSET_ZIPLIST    a string that is a ziplist: member, score ...
    RDB_ZSET_LISTPACK   a string that is a listpack: member, score ...
"""

from libc.math cimport isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport (RDB_ZSET, RDB_ZSET_2, RDB_ZSET_LISTPACK, rdb_fail, rdb_get_count,
                                        rdb_get_double, rdb_get_double_text, rdb_get_string, rdb_loading_t,
                                        rdb_put_double, rdb_put_integer, rdb_put_length, rdb_put_string, rdb_reader_t,
                                        rdb_saving_t, rdb_scratch, rdb_text_free, rdb_text_t, rdb_writer_t)
from dfly._core.persist.ziplist cimport ZIPLIST_END, ziplist_first, ziplist_is_valid, ziplist_read
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.listpack cimport (LISTPACK_ELEMENT_MAX, LISTPACK_END, LISTPACK_HEADER, listpack_is_valid,
                                        listpack_put, listpack_put_int, listpack_read, listpack_write,
                                        listpack_write_ends)
from dfly._core.store.object cimport object_size, object_t
from dfly._core.store.packed_pairs cimport whole_score
from dfly._core.store.sorted_set cimport (SCORE_TEXT_MAX, score_of_item, score_text, zset_add, zset_count,
                                          zset_cursor_t, zset_entry_t, zset_is_compact, zset_limits_t, zset_next,
                                          zset_previous, zset_seek)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    VERSION_LISTPACK = 10


# ---- Writing -----------------------------------------------------------------------------------

cdef int rdb_zset_type(const object_t *value, uint32_t version) noexcept nogil:
    return RDB_ZSET_LISTPACK if zset_is_compact(value) and version >= VERSION_LISTPACK else RDB_ZSET_2


cdef void save_entry(const zset_entry_t *entry, rdb_writer_t *out) noexcept nogil:
    if entry.member.data == NULL:
        rdb_put_integer(out, entry.member.integer)
    else:
        rdb_put_string(out, entry.member.data, entry.member.size)
    rdb_put_double(out, entry.score)


cdef void save_listpack(const object_t *value, rdb_writer_t *out) noexcept nogil:
    """As Redis has it: whole scores are integers, others text of 17 digits."""
    cdef uint64_t count = zset_count(value)
    cdef char text[SCORE_TEXT_MAX]
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    cdef int64_t whole
    cdef uint8_t *target
    cdef uint8_t *pack = <uint8_t *>rdb_scratch(
        out, LISTPACK_HEADER + 1 + object_size(value) + count * (2 * LISTPACK_ELEMENT_MAX + SCORE_TEXT_MAX))
    target = pack + LISTPACK_HEADER
    zset_seek(value, 0, &cursor)
    while zset_next(&cursor, &entry):
        target = listpack_write(target, &entry.member)
        if whole_score(entry.score, &whole):
            target = listpack_put_int(target, whole)
        else:
            target = listpack_put(target, text, score_text(entry.score, text))
    listpack_write_ends(pack, target, 2 * count)
    rdb_put_string(out, <const char *>pack, <size_t>(target + 1 - pack))


cdef void rdb_save_zset(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    if rdb_zset_type(value, out.version) == RDB_ZSET_LISTPACK:
        save_listpack(value, out)
        return
    rdb_put_length(out, zset_count(value))
    zset_seek(value, zset_count(value), &cursor)
    while zset_previous(&cursor, &entry):
        save_entry(&entry, out)


cdef bint rdb_save_zset_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                             size_t budget) noexcept nogil:
    """A tree: the compact form is one block."""
    DFLY_CHECK(sizeof(zset_cursor_t) <= sizeof(saving.place), "a walk's cursor has room between steps")
    cdef zset_cursor_t *cursor = <zset_cursor_t *>saving.place
    cdef size_t written = 0
    cdef zset_entry_t entry
    if not saving.has_begun:
        saving.has_begun = True
        rdb_put_length(out, zset_count(value))
        zset_seek(value, zset_count(value), cursor)
    while written < budget:
        if not zset_previous(cursor, &entry):
            return True
        save_entry(&entry, out)
        written += entry.member.size + 16
    return False


# ---- Reading -----------------------------------------------------------------------------------

cdef void add(rdb_reader_t *input, object_t *out, slice_t member, double score,
              const zset_limits_t *limits) noexcept nogil:
    if isnan(score):
        rdb_fail(input, "a score that is not a number")
    elif not zset_add(out, member.data, member.size, score, limits):
        rdb_fail(input, "a sorted set with a member twice")


cdef void load_pack(int type, rdb_reader_t *input, const rdb_text_t *text, const zset_limits_t *limits,
                    object_t *out) noexcept nogil:
    cdef const uint8_t *data = <const uint8_t *>text.data
    cdef bint is_listpack = type == RDB_ZSET_LISTPACK
    cdef uint8_t end = LISTPACK_END if is_listpack else ZIPLIST_END
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_item_t member
    cdef list_item_t score
    cdef const uint8_t *p
    if not (listpack_is_valid(data, text.size) if is_listpack else ziplist_is_valid(data, text.size)):
        rdb_fail(input, "a listpack or ziplist that is broken")
        return
    p = data + LISTPACK_HEADER if is_listpack else ziplist_first(data)
    while p[0] != end and input.error == NULL:
        p = listpack_read(p, &member) if is_listpack else ziplist_read(p, &member)
        if p[0] == end:
            rdb_fail(input, "a member without a score")
            return
        p = listpack_read(p, &score) if is_listpack else ziplist_read(p, &score)
        add(input, out, list_item_text(&member, scratch), score_of_item(&score), limits)


cdef void load_member(int type, rdb_reader_t *input, const zset_limits_t *limits, object_t *out) noexcept nogil:
    cdef rdb_text_t text
    cdef slice_t member
    cdef double score
    if not rdb_get_string(input, &text):
        return
    score = rdb_get_double_text(input) if type == RDB_ZSET else rdb_get_double(input)
    if input.error == NULL:
        member.data = text.data
        member.size = text.size
        add(input, out, member, score, limits)
    rdb_text_free(&text)


cdef bint rdb_load_zset(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil:
    cdef zset_limits_t limits
    cdef rdb_text_t text
    limits.entries = settings.zset_max_listpack_entries
    limits.value = settings.zset_max_listpack_value
    if not loading.has_begun:
        loading.has_begun = True
        if type != RDB_ZSET and type != RDB_ZSET_2:
            if rdb_get_string(input, &text):
                load_pack(type, input, &text, &limits, out)
                rdb_text_free(&text)
            return True
        loading.left = rdb_get_count(input, 2)
    while loading.left > 0 and input.error == NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        load_member(type, input, &limits, out)
        loading.left -= 1
    return True
