"""Test door to the RDB codec: bytes in, bytes out."""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from dfly._core.engine.settings cimport settings_init_encoding_limits, settings_t
from dfly._core.persist.crc64 cimport crc64, crc64_by_tables
from dfly._core.persist.lzf cimport lzf_compress, lzf_decompress
from dfly._core.persist.rdb_io cimport (rdb_flush, rdb_flush_t, rdb_get_string, rdb_put, rdb_put_length,
                                        rdb_put_string,
                                        rdb_reader_init, rdb_reader_t, rdb_text_free, rdb_text_t,
                                        rdb_writer_deinit, rdb_writer_init, rdb_writer_t)
from dfly._core.persist.rdb_value cimport (RDB_BROKEN, RDB_EMPTY, rdb_load_value, rdb_result_t,
                                           rdb_save_value,
                                           rdb_value_type, rdb_value_version)
from dfly._core.persist.rdb_stream cimport rdb_keep_stream_rest, rdb_save_stream
from dfly._core.persist.stream_rest cimport stream_rest_free, stream_rest_put, stream_rest_t
from dfly._core.store.id_index cimport stream_id, stream_id_t
from dfly._core.store.object cimport (TYPE_STREAM, object_encoding_name, object_free, object_pointer,
                                      object_set_container, object_t)
from dfly._core.store.stream cimport stream_new, stream_t
from dfly._core.store.stream_groups cimport (consumer_create, consumer_find, group_create, group_sort_pending,
                                             pending_assign, pending_load, pending_t, stream_consumer_t,
                                             stream_group_t)
from dfly._core.sys.alloc cimport mem_thread_balance, net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


def checksum(bytes data, uint64_t crc=0):
    return crc64(crc, <const char *>data, len(data))


def checksum_by_tables(bytes data, uint64_t crc=0):
    return crc64_by_tables(crc, <const char *>data, len(data))


def compress(bytes data, size_t room):
    """The compressed bytes, None if they do not fit the room."""
    cdef char *out = <char *>net_alloc(room + 1)
    cdef size_t size = lzf_compress(data, len(data), out, room)
    try:
        return out[:size] if size > 0 else None
    finally:
        net_free(out)


def decompress(bytes data, size_t size):
    cdef char *out = <char *>net_alloc(size + 1)
    try:
        return out[:size] if lzf_decompress(data, len(data), out, size) else None
    finally:
        net_free(out)


cdef void collect(rdb_writer_t *writer) noexcept nogil:
    with gil:
        (<list>writer.context).append(writer.data[:writer.size])
    writer.size = 0


def write(pieces, flush_bytes=0, compress=True, version=11):
    """Writes bytes as strings, integers as lengths; the blocks that were handed over."""
    cdef rdb_writer_t writer
    cdef rdb_flush_t flush = NULL
    blocks = []
    if flush_bytes:
        flush = collect
    rdb_writer_init(&writer, version, compress, flush, <void *>blocks, flush_bytes)
    for piece in pieces:
        if isinstance(piece, int):
            rdb_put_length(&writer, piece)
        else:
            rdb_put_string(&writer, piece, len(piece))
    rdb_put(&writer, <const char *>b"", 0)
    if flush_bytes:
        rdb_flush(&writer)
    else:
        blocks.append(writer.data[:writer.size])
    rdb_writer_deinit(&writer)
    return blocks


def read_string(bytes data):
    """(text, bytes that it took), or (None, reason)."""
    cdef rdb_reader_t reader
    cdef rdb_text_t text
    rdb_reader_init(&reader, data, len(data), 11)
    if not rdb_get_string(&reader, &text):
        return None, reader.error.decode()
    result = text.data[:text.size], reader.position
    rdb_text_free(&text)
    return result


def convert(int type, bytes data, int from_version=11, int to_version=11, int now_ms=0, flush_bytes=0,
            **limits):
    """Loads a value and writes it again: (encoding, type, body), or the reason why it is refused."""
    cdef settings_t settings
    cdef rdb_reader_t reader
    cdef rdb_writer_t writer
    cdef rdb_result_t result
    cdef rdb_flush_t flush = NULL
    cdef object_t value
    memset(&settings, 0, sizeof(settings))
    settings_init_encoding_limits(&settings)
    settings.list_max_listpack_size = limits.get("list_max_listpack_size", -2)
    settings.hash_max_listpack_entries = limits.get("hash_max_listpack_entries", 512)
    settings.set_max_intset_entries = limits.get("set_max_intset_entries", 512)
    settings.set_max_listpack_entries = limits.get("set_max_listpack_entries", 128)
    settings.zset_max_listpack_entries = limits.get("zset_max_listpack_entries", 128)
    before = mem_thread_balance()
    rdb_reader_init(&reader, data, len(data), from_version)
    result = rdb_load_value(type, &reader, &settings, now_ms, &value)
    if result == RDB_EMPTY or result == RDB_BROKEN:
        assert mem_thread_balance() == before, "memory was lost"
        return "empty" if result == RDB_EMPTY else reader.error.decode()
    blocks = []
    if flush_bytes:
        flush = collect
    rdb_writer_init(&writer, rdb_value_version(&value, to_version), True, flush, <void *>blocks, flush_bytes)
    written = rdb_value_type(&value, writer.version)
    rdb_save_value(&value, &writer)
    blocks.append(writer.data[:writer.size])
    rdb_writer_deinit(&writer)
    encoding = object_encoding_name(&value).decode()
    object_free(&value)
    assert mem_thread_balance() == before, "memory was lost"
    return encoding, written, b"".join(blocks)


def stream_rest(groups, size_t budget):
    """(What is written of a stream without entries at once, what is kept and written in pieces); groups: {name:
    [(ID, delivered ms, deliveries, consumer), ...]}, each ID once in its group."""
    cdef object_t value
    cdef rdb_writer_t at_once
    cdef rdb_writer_t later
    cdef stream_rest_t rest
    object_set_container(&value, TYPE_STREAM, stream_new())
    for name, entries in groups.items():
        add_group(<stream_t *>object_pointer(&value), name, entries)
    rdb_writer_init(&at_once, 11, False, NULL, NULL, 0)
    rdb_writer_init(&later, 11, False, NULL, NULL, 0)
    rdb_save_stream(&value, &at_once)
    rdb_keep_stream_rest(&value, 11, &rest, &rest)
    rdb_put_length(&later, 0)
    while not stream_rest_put(&rest, &later, budget):
        pass
    try:
        return at_once.data[:at_once.size], later.data[:later.size]
    finally:
        stream_rest_free(&rest)
        rdb_writer_deinit(&at_once)
        rdb_writer_deinit(&later)
        object_free(&value)


cdef slice_t slice_of(bytes text):
    cdef slice_t out
    out.data = text
    out.size = len(text)
    return out


cdef add_group(stream_t *stream, bytes name, entries):
    cdef stream_group_t *group = group_create(&stream.groups, slice_of(name), stream_id(1, 2), -1)
    cdef stream_consumer_t *consumer
    cdef pending_t *pending
    cdef stream_id_t id
    for (ms, seq), delivered_ms, deliveries, consumer_name in entries:
        id = stream_id(ms, seq)
        consumer = consumer_find(group, slice_of(consumer_name))
        if consumer == NULL:
            consumer = consumer_create(group, slice_of(consumer_name), 7)
        pending = pending_load(group, id, delivered_ms, deliveries)
        pending_assign(pending, id, consumer)
    group_sort_pending(group)
