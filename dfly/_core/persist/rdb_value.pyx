"""Values in RDB format: see rdb_value.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.crc64 cimport crc64
from dfly._core.persist.rdb_hash cimport (RDB_VERSION_FIELD_DEADLINES, rdb_hash_type, rdb_load_hash, rdb_save_hash,
                                          rdb_save_hash_step)
from dfly._core.persist.rdb_io cimport (RDB_HASH, RDB_HASH_LISTPACK, RDB_HASH_TTL, RDB_HASH_TTL_EARLY,
                                        RDB_HASH_TTL_LISTPACK, RDB_HASH_TTL_LISTPACK_EARLY, RDB_HASH_ZIPLIST,
                                        RDB_HASH_ZIPMAP, RDB_LIST, RDB_LIST_QUICKLIST, RDB_LIST_QUICKLIST_2,
                                        RDB_LIST_ZIPLIST, RDB_SET, RDB_SET_DEADLINES, RDB_SET_INTSET,
                                        RDB_SET_LISTPACK, RDB_STREAM, RDB_STREAM_2, RDB_STREAM_3, RDB_STRING,
                                        RDB_ZSET, RDB_ZSET_2, RDB_ZSET_LISTPACK, RDB_ZSET_ZIPLIST, rdb_fail,
                                        rdb_get_byte, rdb_get_string, rdb_left, rdb_loading_t, rdb_put, rdb_put_byte,
                                        rdb_put_integer, rdb_put_length, rdb_put_string, rdb_reader_init, rdb_reader_t,
                                        rdb_saving_t, rdb_text_free, rdb_text_t, rdb_version_is_known, rdb_writer_t)
from dfly._core.persist.rdb_list cimport rdb_list_type, rdb_load_list, rdb_save_list, rdb_save_list_step
from dfly._core.persist.rdb_set cimport rdb_load_set, rdb_save_set, rdb_save_set_step, rdb_set_type
from dfly._core.persist.rdb_stream cimport rdb_load_stream, rdb_save_stream, rdb_save_stream_step, rdb_stream_type
from dfly._core.persist.rdb_zset cimport rdb_load_zset, rdb_save_zset, rdb_save_zset_step, rdb_zset_type
from dfly._core.store.hash_map cimport HASH_NO_DEADLINE, hash_next_deadline
from dfly._core.store.object cimport (OBJECT_INT, OBJECT_SCRATCH, OBJECT_TAG_MASK, TYPE_COUNT, TYPE_HASH, TYPE_LIST,
                                      TYPE_SET, TYPE_STREAM, TYPE_ZSET, object_block_count, object_free,
                                      object_is_container, object_is_string, object_pointer, object_set_container,
                                      object_set_string, object_size, object_t, object_tag, object_type, object_type_t,
                                      object_view)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, load64, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    LARGE_BYTES = 262144
    LARGE_BLOCKS = 64
    TYPES = 97                       # type bytes that may have a loader

ctypedef int (*type_of_t)(const object_t *value, uint32_t version) noexcept nogil
ctypedef void (*save_t)(const object_t *value, rdb_writer_t *out) noexcept nogil
ctypedef bint (*save_step_t)(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                             size_t budget) noexcept nogil
# As rdb_load_list: faults are the reader's, the caller frees.
ctypedef bint (*load_t)(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil

cdef struct writing_t:
    type_of_t type_of
    save_t save
    save_step_t step                 # NULL: it is written as a whole, however large

cdef struct reading_t:
    int type                         # object_type_t
    load_t load

cdef writing_t[TYPE_COUNT] writing
cdef reading_t[TYPES] reading

writing[<int>TYPE_LIST].type_of = rdb_list_type
writing[<int>TYPE_LIST].save = rdb_save_list
writing[<int>TYPE_LIST].step = rdb_save_list_step
writing[<int>TYPE_SET].type_of = rdb_set_type
writing[<int>TYPE_SET].save = rdb_save_set
writing[<int>TYPE_SET].step = rdb_save_set_step
writing[<int>TYPE_ZSET].type_of = rdb_zset_type
writing[<int>TYPE_ZSET].save = rdb_save_zset
writing[<int>TYPE_ZSET].step = rdb_save_zset_step
writing[<int>TYPE_HASH].type_of = rdb_hash_type
writing[<int>TYPE_HASH].save = rdb_save_hash
writing[<int>TYPE_HASH].step = rdb_save_hash_step
writing[<int>TYPE_STREAM].type_of = rdb_stream_type
writing[<int>TYPE_STREAM].save = rdb_save_stream
writing[<int>TYPE_STREAM].step = rdb_save_stream_step


cdef void read_as(int rdb_type, int type, load_t load) noexcept nogil:
    reading[rdb_type].type = type
    reading[rdb_type].load = load


read_as(RDB_LIST, TYPE_LIST, rdb_load_list)
read_as(RDB_LIST_ZIPLIST, TYPE_LIST, rdb_load_list)
read_as(RDB_LIST_QUICKLIST, TYPE_LIST, rdb_load_list)
read_as(RDB_LIST_QUICKLIST_2, TYPE_LIST, rdb_load_list)
read_as(RDB_SET, TYPE_SET, rdb_load_set)
read_as(RDB_SET_INTSET, TYPE_SET, rdb_load_set)
read_as(RDB_SET_LISTPACK, TYPE_SET, rdb_load_set)
read_as(RDB_SET_DEADLINES, TYPE_SET, rdb_load_set)
read_as(RDB_ZSET, TYPE_ZSET, rdb_load_zset)
read_as(RDB_ZSET_2, TYPE_ZSET, rdb_load_zset)
read_as(RDB_ZSET_ZIPLIST, TYPE_ZSET, rdb_load_zset)
read_as(RDB_ZSET_LISTPACK, TYPE_ZSET, rdb_load_zset)
read_as(RDB_HASH, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_ZIPMAP, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_ZIPLIST, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_LISTPACK, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_TTL_EARLY, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_TTL_LISTPACK_EARLY, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_TTL, TYPE_HASH, rdb_load_hash)
read_as(RDB_HASH_TTL_LISTPACK, TYPE_HASH, rdb_load_hash)
read_as(RDB_STREAM, TYPE_STREAM, rdb_load_stream)
read_as(RDB_STREAM_2, TYPE_STREAM, rdb_load_stream)
read_as(RDB_STREAM_3, TYPE_STREAM, rdb_load_stream)


cdef bint rdb_value_is_known(const object_t *value) noexcept nogil:
    return object_is_string(value) or writing[<int>object_type(value)].type_of != NULL


cdef int rdb_value_type(const object_t *value, uint32_t version) noexcept nogil:
    cdef const writing_t *row
    if object_is_string(value):
        return RDB_STRING
    row = &writing[<int>object_type(value)]
    DFLY_CHECK(row.type_of != NULL, "a type without an RDB form")
    return row.type_of(value, version)


cdef uint32_t rdb_value_version(const object_t *value, uint32_t version) noexcept nogil:
    if (version < RDB_VERSION_FIELD_DEADLINES and object_is_container(value, TYPE_HASH)
            and hash_next_deadline(value) != HASH_NO_DEADLINE):
        return RDB_VERSION_FIELD_DEADLINES
    return version


cdef void rdb_save_value(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t text
    if not object_is_string(value):
        writing[<int>object_type(value)].save(value, out)
    elif object_tag(value) & OBJECT_TAG_MASK == OBJECT_INT:
        rdb_put_integer(out, <int64_t>value.lo)
    else:
        text = object_view(value, scratch)
        rdb_put_string(out, text.data, text.size)


cdef bint rdb_value_is_large(const object_t *value) noexcept nogil:
    if object_is_string(value):
        return object_size(value) > LARGE_BYTES
    return (writing[<int>object_type(value)].step != NULL and object_block_count(value) > LARGE_BLOCKS)


cdef bint rdb_save_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving, size_t budget) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t text
    cdef size_t piece
    if not object_is_string(value):
        return writing[<int>object_type(value)].step(value, out, saving, budget)
    text = object_view(value, scratch)
    if not saving.has_begun:
        saving.has_begun = True
        rdb_put_length(out, text.size)
    piece = text.size - saving.done
    if piece > budget:
        piece = budget
    rdb_put(out, text.data + saving.done, piece)
    saving.done += piece
    return saving.done == text.size


cdef bint rdb_type_is_known(int type) noexcept nogil:
    return type == RDB_STRING or (0 < type < TYPES and reading[type].load != NULL)


cdef void load_string(rdb_reader_t *input, object_t *out) noexcept nogil:
    cdef rdb_text_t text
    if rdb_get_string(input, &text):
        object_set_string(out, text.data, text.size)
        rdb_text_free(&text)


cdef bint rdb_load_step(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil:
    if type == RDB_STRING:
        load_string(input, out)
        return True
    if not loading.has_begun:
        if not rdb_type_is_known(type):
            rdb_fail(input, "unknown type of a value")
            return True
        object_set_container(out, <object_type_t>reading[type].type, NULL)
    return reading[type].load(type, input, settings, out, loading, budget)


cdef rdb_result_t rdb_load_result(const rdb_reader_t *input, const object_t *out) noexcept nogil:
    if input.error != NULL:
        return RDB_BROKEN
    return RDB_LOADED if object_is_string(out) or object_pointer(out) != NULL else RDB_EMPTY


cdef rdb_result_t rdb_load_value(int type, rdb_reader_t *input, const settings_t *settings, int64_t now_ms,
                                 object_t *out) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    cdef rdb_loading_t loading
    cdef rdb_result_t result
    memset(&loading, 0, sizeof(rdb_loading_t))
    object_set_string(out, "", 0)
    input.now_ms = now_ms
    rdb_load_step(type, input, settings, out, &loading, &budget)
    result = rdb_load_result(input, out)
    if result == RDB_BROKEN:
        object_free(out)
    return result


# ---- DUMP payloads -----------------------------------------------------------------------------

cdef void rdb_dump_begin(const object_t *value, rdb_writer_t *out) noexcept nogil:
    out.version = rdb_value_version(value, out.version)
    rdb_put_byte(out, <uint8_t>rdb_value_type(value, out.version))


cdef void rdb_dump_footer(uint32_t version, uint64_t crc, uint8_t *out) noexcept nogil:
    """crc: of all before it."""
    out[0] = <uint8_t>version
    out[1] = <uint8_t>(version >> 8)
    crc = crc64(crc, out, 2)
    memcpy(out + 2, &crc, 8)


cdef void rdb_dump(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef uint8_t footer[RDB_DUMP_FOOTER]
    rdb_dump_begin(value, out)
    rdb_save_value(value, out)
    rdb_dump_footer(out.version, crc64(0, out.data, out.size), footer)
    rdb_put(out, footer, RDB_DUMP_FOOTER)


cdef bint rdb_open_dump(const char *data, size_t size, rdb_reader_t *out) noexcept nogil:
    cdef const uint8_t *footer = <const uint8_t *>data + size - RDB_DUMP_FOOTER
    cdef uint32_t version
    if size < RDB_DUMP_FOOTER + 1:
        return False
    version = <uint32_t>footer[0] | <uint32_t>footer[1] << 8
    if not rdb_version_is_known(version):
        return False
    rdb_reader_init(out, data, size - RDB_DUMP_FOOTER, version)
    return crc64(0, data, size - 8) == load64(footer + 2)


cdef rdb_result_t rdb_restore(rdb_reader_t *input, const settings_t *settings, int64_t now_ms,
                              object_t *out) noexcept nogil:
    cdef rdb_result_t result = rdb_load_value(rdb_get_byte(input), input, settings, now_ms, out)
    if result != RDB_BROKEN and rdb_left(input) > 0:
        rdb_fail(input, "bytes behind the value")
        if result == RDB_LOADED:
            object_free(out)
        return RDB_BROKEN
    return result
