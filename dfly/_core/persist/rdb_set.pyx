"""Sets in RDB files: see rdb_set.pxd.

    RDB_SET           count | string ...
    RDB_SET_INTSET    a string that is an integer set
    RDB_SET_LISTPACK  a string that is a listpack
    RDB_SET_DEADLINES count | (member: string, deadline or -1: ms) ...
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport (RDB_SET, RDB_SET_DEADLINES, RDB_SET_INTSET, RDB_SET_LISTPACK, rdb_fail,
                                        rdb_get_count, rdb_get_ms, rdb_get_string, rdb_loading_t, rdb_put_integer,
                                        rdb_put_length, rdb_put_ms, rdb_put_string, rdb_reader_t, rdb_saving_t,
                                        rdb_text_free, rdb_text_t, rdb_writer_t)
from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport DASH_NO_DEADLINE
from dfly._core.store.intset cimport intset_bytes, intset_count, intset_is_valid, intset_get
from dfly._core.store.listpack cimport (LISTPACK_END, LISTPACK_HEADER, listpack_bytes, listpack_is_valid, listpack_read)
from dfly._core.store.member_set cimport (SET_COMPACT, SET_INTEGERS, set_add, set_add_item, set_add_timed, set_adopt,
                                          set_begin, set_block, set_count, set_cursor_t, set_has_deadlines,
                                          set_limits_t, set_next_timed)
from dfly._core.store.object cimport object_encoding, object_t
from dfly._core.sys.alloc cimport mem_alloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    VERSION_LISTPACK = 11


# ---- Writing -----------------------------------------------------------------------------------

cdef int rdb_set_type(const object_t *value, uint32_t version) noexcept nogil:
    if set_has_deadlines(value):
        return RDB_SET_DEADLINES
    if object_encoding(value) == SET_INTEGERS:
        return RDB_SET_INTSET
    if object_encoding(value) == SET_COMPACT and version >= VERSION_LISTPACK:
        return RDB_SET_LISTPACK
    return RDB_SET


cdef void save_item(const list_item_t *item, rdb_writer_t *out) noexcept nogil:
    if item.data == NULL:
        rdb_put_integer(out, item.integer)
    else:
        rdb_put_string(out, item.data, item.size)


cdef bint save_next(set_cursor_t *cursor, bint is_timed, rdb_writer_t *out, size_t *written) noexcept nogil:
    cdef int64_t deadline
    cdef list_item_t item
    if not set_next_timed(cursor, &item, &deadline):
        return False
    save_item(&item, out)
    if is_timed:
        rdb_put_ms(out, deadline)
    written[0] += item.size + 8
    return True


cdef void rdb_save_set(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef const uint8_t *block = set_block(value)
    cdef int type = rdb_set_type(value, out.version)
    cdef size_t written = 0
    cdef set_cursor_t cursor
    if type == RDB_SET_INTSET:
        rdb_put_string(out, <const char *>block, intset_bytes(block))
        return
    if type == RDB_SET_LISTPACK:
        rdb_put_string(out, <const char *>block, listpack_bytes(block))
        return
    rdb_put_length(out, set_count(value))
    set_begin(value, &cursor)
    while save_next(&cursor, type == RDB_SET_DEADLINES, out, &written):
        pass


cdef bint rdb_save_set_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                            size_t budget) noexcept nogil:
    """A table: the other forms are one block."""
    cdef set_cursor_t *cursor = <set_cursor_t *>saving.place
    cdef bint is_timed = set_has_deadlines(value)
    cdef size_t written = 0
    if not saving.has_begun:
        saving.has_begun = True
        rdb_put_length(out, set_count(value))
        set_begin(value, cursor)
    while written < budget:
        if not save_next(cursor, is_timed, out, &written):
            return True
    return False


# ---- Reading -----------------------------------------------------------------------------------

cdef void load_integers(rdb_reader_t *input, const rdb_text_t *text, const set_limits_t *limits,
                        object_t *out) noexcept nogil:
    cdef const uint8_t *data = <const uint8_t *>text.data
    cdef list_item_t item
    cdef uint8_t *block
    cdef uint32_t i
    if not intset_is_valid(data, text.size):
        rdb_fail(input, "an integer set that is broken")
    elif intset_count(data) == 0:
        return
    elif intset_count(data) <= limits.integers:
        block = <uint8_t *>mem_alloc(text.size)
        memcpy(block, data, text.size)
        set_adopt(out, SET_INTEGERS, block)
    else:
        item.data = NULL
        for i in range(intset_count(data)):
            item.integer = intset_get(data, i)
            set_add_item(out, &item, limits)


cdef void load_listpack(rdb_reader_t *input, const rdb_text_t *text, const set_limits_t *limits,
                        object_t *out) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>text.data + LISTPACK_HEADER
    cdef list_item_t item
    if not listpack_is_valid(<const uint8_t *>text.data, text.size):
        rdb_fail(input, "a listpack that is broken")
        return
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &item)
        if not set_add_item(out, &item, limits):
            rdb_fail(input, "a set with a member twice")
            return


cdef bint load_timed(rdb_reader_t *input, const rdb_text_t *text, const set_limits_t *limits,
                     object_t *out) noexcept nogil:
    """False: the member is there. One that is due is left out."""
    cdef int64_t deadline = rdb_get_ms(input)
    if input.error != NULL or DASH_NO_DEADLINE < deadline <= input.now_ms:
        return True
    if deadline < DASH_NO_DEADLINE:
        rdb_fail(input, "a deadline that is none")
        return True
    if deadline == DASH_NO_DEADLINE:
        return set_add(out, text.data, text.size, limits)
    return set_add_timed(out, text.data, text.size, deadline, limits)


cdef bint rdb_load_set(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                       rdb_loading_t *loading, uint64_t *budget) noexcept nogil:
    cdef set_limits_t limits
    cdef rdb_text_t text
    limits.integers = settings.set_max_intset_entries
    limits.entries = settings.set_max_listpack_entries
    limits.value = settings.set_max_listpack_value
    if not loading.has_begun:
        loading.has_begun = True
        loading.left = 1
        if type == RDB_SET or type == RDB_SET_DEADLINES:
            loading.left = rdb_get_count(input, 1 if type == RDB_SET else 9)
    while loading.left > 0 and input.error == NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        if not rdb_get_string(input, &text):
            return True
        loading.left -= 1
        if type == RDB_SET_INTSET:
            load_integers(input, &text, &limits, out)
        elif type == RDB_SET_LISTPACK:
            load_listpack(input, &text, &limits, out)
        elif not (load_timed(input, &text, &limits, out) if type == RDB_SET_DEADLINES
                  else set_add(out, text.data, text.size, &limits)):
            rdb_fail(input, "a set with a member twice")
        rdb_text_free(&text)
    return True
