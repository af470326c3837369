"""Lists in RDB files: see rdb_list.pxd.

    RDB_LIST              count | string ...
    RDB_LIST_ZIPLIST      a string that is a ziplist
    RDB_LIST_QUICKLIST    count | string that is a ziplist ...
    RDB_LIST_QUICKLIST_2  count | (1 | string that is an element, or 2 | string that is a listpack) ...
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport (RDB_LIST, RDB_LIST_QUICKLIST_2, RDB_LIST_ZIPLIST, rdb_fail, rdb_get_count,
                                        rdb_get_length, rdb_get_string, rdb_loading_t, rdb_put_integer, rdb_put_length,
                                        rdb_put_string, rdb_reader_t, rdb_saving_t, rdb_scratch, rdb_text_free,
                                        rdb_text_t, rdb_writer_t)
from dfly._core.persist.ziplist cimport ZIPLIST_END, ziplist_first, ziplist_is_valid, ziplist_read
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, block_list_t, cursor_forward, element_read, list_count,
                                          list_cursor_t, list_item_t, list_item_text, list_limits, list_limits_t,
                                          list_next, list_push, list_seek)
from dfly._core.store.list_whole cimport list_block_count
from dfly._core.store.listpack cimport (LISTPACK_ELEMENT_MAX, LISTPACK_END, LISTPACK_HEADER,
                                        listpack_is_valid,
                                        listpack_read, listpack_write, listpack_write_ends)
from dfly._core.store.object cimport object_pointer, object_root, object_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    VERSION_QUICKLIST_2 = 10
    NODE_PLAIN = 1
    NODE_PACKED = 2


# ---- Writing -----------------------------------------------------------------------------------

cdef int rdb_list_type(const object_t *value, uint32_t version) noexcept nogil:
    return RDB_LIST_QUICKLIST_2 if version >= VERSION_QUICKLIST_2 else RDB_LIST


cdef void save_block(const list_cursor_t *block, rdb_writer_t *out) noexcept nogil:
    """The elements of a packed block as a listpack."""
    cdef const char *p = block.begin
    cdef list_item_t item
    cdef uint64_t count = 0
    cdef uint8_t *pack
    cdef uint8_t *target
    while p < block.end:
        p = element_read(p, &item)
        count += 1
    pack = <uint8_t *>rdb_scratch(
        out, LISTPACK_HEADER + 1 + <size_t>(block.end - block.begin) + count * LISTPACK_ELEMENT_MAX)
    target = pack + LISTPACK_HEADER
    p = block.begin
    while p < block.end:
        p = element_read(p, &item)
        target = listpack_write(target, &item)
    listpack_write_ends(pack, target, count)
    rdb_put_length(out, NODE_PACKED)
    rdb_put_string(out, <const char *>pack, <size_t>(target + 1 - pack))


cdef void save_item(const list_item_t *item, rdb_writer_t *out) noexcept nogil:
    if item.data == NULL:
        rdb_put_integer(out, item.integer)
    else:
        rdb_put_string(out, item.data, item.size)


cdef void save_elements(block_list_t elements, rdb_writer_t *out) noexcept nogil:
    cdef list_cursor_t cursor
    cdef list_item_t item
    rdb_put_length(out, list_count(elements))
    list_seek(elements, 0, &cursor)
    while list_next(&cursor, &item):
        save_item(&item, out)


cdef void save_node(const list_cursor_t *block, rdb_writer_t *out) noexcept nogil:
    if block.is_plain:
        rdb_put_length(out, NODE_PLAIN)
        rdb_put_string(out, block.begin, <size_t>(block.end - block.begin))
    else:
        save_block(block, out)


cdef uint64_t rdb_list_length(block_list_t elements, uint32_t version) noexcept nogil:
    return list_count(elements) if version < VERSION_QUICKLIST_2 else list_block_count(elements)


cdef void rdb_save_list_block(const list_cursor_t *block, rdb_writer_t *out) noexcept nogil:
    cdef const char *p = block.begin
    cdef list_item_t item
    if out.version >= VERSION_QUICKLIST_2:
        save_node(block, out)
    elif block.is_plain:
        rdb_put_string(out, block.begin, <size_t>(block.end - block.begin))
    else:
        while p < block.end:
            p = element_read(p, &item)
            save_item(&item, out)


cdef void rdb_save_list(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef block_list_t elements = object_pointer(value)
    cdef list_cursor_t cursor
    if out.version < VERSION_QUICKLIST_2:
        save_elements(elements, out)
        return
    rdb_put_length(out, list_block_count(elements))
    list_seek(elements, 0, &cursor)
    while True:
        save_node(&cursor, out)
        if not cursor_forward(&cursor):
            return


cdef bint rdb_save_list_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                             size_t budget) noexcept nogil:
    cdef block_list_t elements = object_pointer(value)
    cdef list_cursor_t *cursor = <list_cursor_t *>saving.place
    cdef list_item_t item
    cdef size_t written = 0
    if not saving.has_begun:
        saving.has_begun = True
        list_seek(elements, 0, cursor)
        rdb_put_length(out, list_block_count(elements) if out.version >= VERSION_QUICKLIST_2 else list_count(elements))
    while written < budget:
        if out.version >= VERSION_QUICKLIST_2:
            written += <size_t>(cursor.end - cursor.begin)
            save_node(cursor, out)
            if not cursor_forward(cursor):
                return True
            continue
        if not list_next(cursor, &item):
            return True
        written += item.size + 8
        save_item(&item, out)
    return False


# ---- Reading -----------------------------------------------------------------------------------

cdef void push_item(block_list_t *root, const list_item_t *item, const list_limits_t *limits) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    list_push(root, text.data, text.size, False, limits)


cdef void load_ziplist(rdb_reader_t *input, const rdb_text_t *node, block_list_t *root,
                       const list_limits_t *limits) noexcept nogil:
    cdef const uint8_t *p
    cdef list_item_t item
    if not ziplist_is_valid(<const uint8_t *>node.data, node.size):
        rdb_fail(input, "a ziplist that is broken")
        return
    p = ziplist_first(<const uint8_t *>node.data)
    while p[0] != ZIPLIST_END:
        p = ziplist_read(p, &item)
        push_item(root, &item, limits)


cdef void load_listpack(rdb_reader_t *input, const rdb_text_t *node, block_list_t *root,
                        const list_limits_t *limits) noexcept nogil:
    cdef const uint8_t *p
    cdef list_item_t item
    if not listpack_is_valid(<const uint8_t *>node.data, node.size):
        rdb_fail(input, "a listpack that is broken")
        return
    p = <const uint8_t *>node.data + LISTPACK_HEADER
    while p[0] != LISTPACK_END:
        p = listpack_read(p, &item)
        push_item(root, &item, limits)


cdef void load_node(int type, rdb_reader_t *input, block_list_t *root,
                    const list_limits_t *limits) noexcept nogil:
    cdef uint64_t container = NODE_PACKED
    cdef rdb_text_t text
    if type == RDB_LIST_QUICKLIST_2:
        container = rdb_get_length(input)
        if container != NODE_PLAIN and container != NODE_PACKED:
            rdb_fail(input, "unknown kind of a list's node")
            return
    if not rdb_get_string(input, &text):
        return
    if type == RDB_LIST or container == NODE_PLAIN:
        list_push(root, text.data, text.size, False, limits)
    elif type == RDB_LIST_QUICKLIST_2:
        load_listpack(input, &text, root, limits)
    else:
        load_ziplist(input, &text, root, limits)
    rdb_text_free(&text)


cdef bint rdb_load_list(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil:
    cdef list_limits_t limits = list_limits(settings.list_max_listpack_size)
    if not loading.has_begun:
        loading.has_begun = True
        loading.left = 1
        if type != RDB_LIST_ZIPLIST:
            loading.left = rdb_get_count(input, 2 if type == RDB_LIST_QUICKLIST_2 else 1)
    while loading.left > 0 and input.error == NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        load_node(type, input, object_root(out), &limits)
        loading.left -= 1
    return True
