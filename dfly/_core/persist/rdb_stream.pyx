"""Streams in RDB files: see rdb_stream.pxd. Numbers are lengths unless said otherwise.

    blocks | (master ID: string of 16 bytes, big-endian; listpack: string) ... | entries | last ID: ms, seq
    from RDB_STREAM_2 on: first ID | largest deleted ID | entries ever added
    groups | group ...

    group     name | last ID | from RDB_STREAM_2 on: entries read | pending | (ID: 16 bytes, delivered: ms, deliveries)
              ... | consumers | consumer ...
    consumer  name | seen: ms | from RDB_STREAM_3 on: active: ms | pending | ID: 16 bytes ...
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport (RDB_STREAM, RDB_STREAM_2, RDB_STREAM_3, rdb_fail, rdb_get, rdb_get_count,
                                        rdb_get_length, rdb_get_ms, rdb_get_string, rdb_loading_t, rdb_put,
                                        rdb_put_length, rdb_put_ms, rdb_put_string, rdb_reader_t, rdb_saving_t,
                                        rdb_text_free, rdb_text_t, rdb_writer_t)
from dfly._core.persist.stream_rest cimport (PENDING_AT_ONCE, PENDING_BYTES_MAX, pending_to_bytes, stream_rest_init,
                                             stream_rest_keep_consumer, stream_rest_keep_group, stream_rest_t)
from dfly._core.store.id_index cimport (id_first, id_index_t, id_less, id_next, id_place_t, id_slot, stream_id,
                                        stream_id_t)
from dfly._core.store.listpack cimport listpack_bytes
from dfly._core.store.object cimport object_pointer, object_root, object_t
from dfly._core.store.stream cimport (stream_load_block, stream_new, stream_pack_is_valid, stream_refresh_first,
                                      stream_t)
from dfly._core.store.stream_groups cimport (consumer_at, consumer_create, group_at, group_create,
                                             group_pending_count, name_of,
                                             group_settle, group_sort_pending, pending_assign, pending_find,
                                             pending_load, pending_t, stream_consumer_t, stream_group_t)
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, byte_swap64, slice_t, store64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    VERSION_STREAM_2 = 10
    VERSION_STREAM_3 = 11
    ID_BYTES = 16
    PENDING_A_STEP = 16          # entries
    LIST_BYTES = 32              # so much, about, stands before a list's entries


# ---- Writing -----------------------------------------------------------------------------------

cdef int rdb_stream_type(const object_t *value, uint32_t version) noexcept nogil:
    if version >= VERSION_STREAM_3:
        return RDB_STREAM_3
    return RDB_STREAM_2 if version >= VERSION_STREAM_2 else RDB_STREAM


cdef inline void id_to_bytes(stream_id_t id, char *out) noexcept nogil:
    store64(out, byte_swap64(id.ms))
    store64(out + 8, byte_swap64(id.seq))


cdef void put_id(rdb_writer_t *out, stream_id_t id) noexcept nogil:
    rdb_put_length(out, id.ms)
    rdb_put_length(out, id.seq)


cdef struct rest_place_t:
    # How far what comes behind the blocks is written.
    uint32_t group
    uint32_t list                # of its lists of entries
    id_place_t entry
    bint has_entry
    bint is_begun
    bint is_in_list


cdef inline const id_index_t *list_of(const stream_group_t *group, uint32_t i) noexcept nogil:
    """The group's own list of entries, then those of its consumers."""
    return &group.pending if i == 0 else &consumer_at(group, i - 1).pending


cdef size_t put_entries(rdb_writer_t *out, const id_index_t *entries, bint with_delivery,
                        rest_place_t *place) noexcept nogil:
    """Some; returns how many bytes."""
    cdef uint8_t piece[PENDING_AT_ONCE * PENDING_BYTES_MAX]
    cdef const pending_t *pending
    cdef int64_t delivered_ms = 0
    cdef uint64_t deliveries = 0
    cdef uint8_t *end = piece
    cdef int count = 0
    while place.has_entry and count < PENDING_AT_ONCE:
        if with_delivery:
            pending = <const pending_t *>id_slot(entries, place.entry).value
            delivered_ms = pending.delivered_ms
            deliveries = pending.deliveries
        end += pending_to_bytes(id_slot(entries, place.entry).id, with_delivery, delivered_ms, deliveries, end)
        count += 1
        place.has_entry = id_next(entries, &place.entry)
    rdb_put(out, piece, end - piece)
    return <size_t>(end - piece)


cdef void put_name(rdb_writer_t *out, const void *named) noexcept nogil:
    cdef slice_t name = name_of(named)
    rdb_put_string(out, name.data, name.size)


cdef void begin_list(rdb_writer_t *out, const stream_group_t *group, uint32_t i, int type) noexcept nogil:
    """What comes before its entries."""
    cdef const stream_consumer_t *consumer
    if i == 0:
        put_name(out, group)
        put_id(out, group.last_id)
        if type >= RDB_STREAM_2:
            rdb_put_length(out, <uint64_t>group.entries_read)
    else:
        consumer = consumer_at(group, i - 1)
        put_name(out, consumer)
        rdb_put_ms(out, consumer.seen_ms)
        if type >= RDB_STREAM_3:
            rdb_put_ms(out, consumer.active_ms)
    rdb_put_length(out, group_pending_count(group) if i == 0 else consumer_at(group, i - 1).pending.count)


cdef inline void end_list(rdb_writer_t *out, const stream_group_t *group, uint32_t i) noexcept nogil:
    if i == 0:
        rdb_put_length(out, group.consumers.count)


cdef void rdb_save_stream_pack(stream_id_t master, const uint8_t *pack, rdb_writer_t *out) noexcept nogil:
    cdef char bytes[ID_BYTES]
    id_to_bytes(master, bytes)
    rdb_put_string(out, bytes, ID_BYTES)
    rdb_put_string(out, <const char *>pack, listpack_bytes(pack))


cdef void save_pack(const stream_t *stream, id_place_t place, rdb_writer_t *out, size_t *written) noexcept nogil:
    cdef const uint8_t *pack = <const uint8_t *>id_slot(&stream.blocks, place).value
    rdb_save_stream_pack(id_slot(&stream.blocks, place).id, pack, out)
    written[0] += listpack_bytes(pack)


cdef void begin_rest(const stream_t *stream, int type, rdb_writer_t *out) noexcept nogil:
    rdb_put_length(out, stream.length)
    put_id(out, stream.last_id)
    if type >= RDB_STREAM_2:
        put_id(out, stream.first_id)
        put_id(out, stream.max_deleted_id)
        rdb_put_length(out, stream.entries_added)
    rdb_put_length(out, stream.groups.count)


cdef bint put_rest(const stream_t *stream, int type, rdb_writer_t *out, rest_place_t *place,
                   size_t budget) noexcept nogil:
    """About so many bytes of what comes behind the blocks; True: all of it is written."""
    cdef const stream_group_t *group
    cdef size_t written = 0
    if not place.is_begun:
        place.is_begun = True
        begin_rest(stream, type, out)
    while place.group < stream.groups.count:
        if written >= budget:
            return False
        group = group_at(&stream.groups, place.group)
        if not place.is_in_list:
            place.is_in_list = True
            group_settle(group)
            begin_list(out, group, place.list, type)
            place.has_entry = id_first(list_of(group, place.list), &place.entry)
            written += LIST_BYTES
        elif place.has_entry:
            written += put_entries(out, list_of(group, place.list), place.list == 0, place)
        else:
            end_list(out, group, place.list)
            place.is_in_list = False
            place.list += 1
            if place.list > group.consumers.count:
                place.list = 0
                place.group += 1
    return True


cdef void rdb_keep_stream_rest(const object_t *value, uint32_t version, const void *owner,
                               stream_rest_t *out) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef int type = rdb_stream_type(value, version)
    cdef stream_group_t *group
    cdef uint32_t i
    cdef uint32_t list
    stream_rest_init(out, version, stream.groups.count)
    begin_rest(stream, type, &out.texts)
    for i in range(stream.groups.count):
        group = group_at(&stream.groups, i)
        for list in range(1 + group.consumers.count):
            begin_list(&out.texts, group, list, type)
            if list == 0:
                stream_rest_keep_group(out, group, owner)
            else:
                stream_rest_keep_consumer(out, consumer_at(group, list - 1).pending.count)
            end_list(&out.texts, group, list)


cdef void rdb_save_stream(const object_t *value, rdb_writer_t *out) noexcept nogil:
    cdef rdb_saving_t saving
    memset(&saving, 0, sizeof(rdb_saving_t))
    rdb_save_stream_step(value, out, &saving, <size_t>-1)


cdef struct stream_place_t:
    id_place_t block
    rest_place_t rest


cdef bint rdb_save_stream_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                               size_t budget) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef stream_place_t *place = <stream_place_t *>saving.place
    cdef size_t written = 0
    if not saving.has_begun:
        saving.has_begun = True
        rdb_put_length(out, stream.blocks.count)
        id_first(&stream.blocks, &place.block)
    while saving.done < stream.blocks.count:
        if written >= budget:
            return False
        save_pack(stream, place.block, out, &written)
        saving.done += 1
        id_next(&stream.blocks, &place.block)
    return put_rest(stream, rdb_stream_type(value, out.version), out, &place.rest, budget)


# ---- Reading -----------------------------------------------------------------------------------

cdef stream_id_t bytes_to_id(const char *bytes) noexcept nogil:
    cdef stream_id_t id = stream_id(0, 0)
    cdef int i
    for i in range(8):
        id.ms = id.ms << 8 | <uint8_t>bytes[i]
        id.seq = id.seq << 8 | <uint8_t>bytes[i + 8]
    return id


cdef stream_id_t get_id(rdb_reader_t *input) noexcept nogil:
    cdef stream_id_t id
    id.ms = rdb_get_length(input)
    id.seq = rdb_get_length(input)
    return id


cdef void load_block(rdb_reader_t *input, stream_t *stream, uint64_t *entries, stream_id_t *last) noexcept nogil:
    cdef uint64_t live = 0
    cdef stream_id_t master
    cdef rdb_text_t text
    cdef uint8_t *pack
    if not rdb_get_string(input, &text):
        return
    if text.size != ID_BYTES:
        rdb_text_free(&text)
        rdb_fail(input, "a stream's block without an ID")
        return
    master = bytes_to_id(text.data)
    rdb_text_free(&text)
    if not rdb_get_string(input, &text):
        return
    if stream.blocks.count > 0 and not id_less(last[0], master):
        rdb_fail(input, "blocks of a stream that are not in order")
    elif not stream_pack_is_valid(<const uint8_t *>text.data, text.size, master, &live, last):
        rdb_fail(input, "a stream's block that is broken")
    else:
        entries[0] += live
        pack = <uint8_t *>mem_alloc(text.size)
        memcpy(pack, text.data, text.size)
        if not stream_load_block(stream, master, pack):
            mem_free(pack)
            rdb_fail(input, "blocks of a stream that are not in order")
    rdb_text_free(&text)


cdef void load_facts(int type, rdb_reader_t *input, stream_t *stream, uint64_t entries,
                     stream_id_t last) noexcept nogil:
    stream.length = rdb_get_length(input)
    stream.last_id = get_id(input)
    if type >= RDB_STREAM_2:
        stream.first_id = get_id(input)
        stream.max_deleted_id = get_id(input)
        stream.entries_added = rdb_get_length(input)
    else:
        stream.entries_added = stream.length
    # The first entry's own ID: whatever the file says of it.
    stream_refresh_first(stream)
    if input.error == NULL and (stream.length != entries or id_less(stream.last_id, last)):
        rdb_fail(input, "a stream that does not fit its blocks")


cdef enum stream_phase_t:
    LOAD_BLOCKS = 0
    LOAD_GROUPS = 1
    LOAD_PENDING = 2
    LOAD_CONSUMERS = 3
    LOAD_CONSUMER_PENDING = 4

cdef struct stream_loading_t:
    stream_phase_t phase
    uint64_t groups              # so many are still to come, as those below
    uint64_t consumers           # of the group
    uint64_t pending             # of the group, or of the consumer
    uint64_t entries             # in the blocks so far
    stream_id_t last             # of them
    stream_group_t *group
    stream_consumer_t *consumer


cdef void load_group_pending(rdb_reader_t *input, stream_loading_t *place) noexcept nogil:
    """Some entries."""
    cdef uint64_t count = min(place.pending, <uint64_t>PENDING_A_STEP)
    cdef int64_t delivered_ms
    cdef const char *bytes
    place.pending -= count
    while count > 0 and input.error == NULL:
        count -= 1
        bytes = rdb_get(input, ID_BYTES)
        if bytes == NULL:
            return
        delivered_ms = rdb_get_ms(input)
        if pending_load(place.group, bytes_to_id(bytes), delivered_ms, rdb_get_length(input)) == NULL:
            rdb_fail(input, "an entry that is pending twice")


cdef void load_consumer_pending(rdb_reader_t *input, stream_loading_t *place) noexcept nogil:
    cdef uint64_t count = min(place.pending, <uint64_t>PENDING_A_STEP)
    cdef pending_t *pending
    cdef const char *bytes
    cdef stream_id_t id
    place.pending -= count
    while count > 0 and input.error == NULL:
        count -= 1
        bytes = rdb_get(input, ID_BYTES)
        if bytes == NULL:
            return
        id = bytes_to_id(bytes)
        pending = pending_find(place.group, id)
        if pending == NULL or pending.consumer != NULL:
            rdb_fail(input, "a consumer's entry that is not pending in its group, or twice")
            return
        pending_assign(pending, id, place.consumer)


cdef void load_consumer(int type, rdb_reader_t *input, stream_loading_t *place) noexcept nogil:
    """All but what it has."""
    cdef int64_t seen_ms
    cdef rdb_text_t text
    cdef slice_t name
    if not rdb_get_string(input, &text):
        return
    seen_ms = rdb_get_ms(input)
    name.data = text.data
    name.size = text.size
    place.consumer = consumer_create(place.group, name, seen_ms)
    rdb_text_free(&text)
    if place.consumer == NULL:
        rdb_fail(input, "a consumer's name twice")
        return
    place.consumer.active_ms = rdb_get_ms(input) if type >= RDB_STREAM_3 else seen_ms
    place.pending = rdb_get_count(input, ID_BYTES)


cdef bint all_have_consumers(const stream_group_t *group) noexcept nogil:
    cdef uint64_t owned = 0
    cdef uint32_t i
    for i in range(group.consumers.count):
        owned += consumer_at(group, i).pending.count
    return owned == group.pending.count


cdef void load_group(int type, rdb_reader_t *input, stream_t *stream, stream_loading_t *place) noexcept nogil:
    """All but what is pending and its consumers."""
    cdef stream_id_t last_id
    cdef int64_t entries_read
    cdef rdb_text_t text
    cdef slice_t name
    if not rdb_get_string(input, &text):
        return
    last_id = get_id(input)
    entries_read = <int64_t>rdb_get_length(input) if type >= RDB_STREAM_2 else -1
    name.data = text.data
    name.size = text.size
    place.group = group_create(&stream.groups, name, last_id, entries_read if entries_read >= 0 else -1)
    rdb_text_free(&text)
    if place.group == NULL:
        rdb_fail(input, "a group's name twice")
        return
    place.pending = rdb_get_count(input, ID_BYTES + 9)


cdef bint load_more(int type, rdb_reader_t *input, stream_t *stream, rdb_loading_t *loading) noexcept nogil:
    """A step; True: that was the last one."""
    cdef stream_loading_t *place = <stream_loading_t *>loading.place
    if place.phase == LOAD_BLOCKS:
        if loading.left > 0:
            loading.left -= 1
            load_block(input, stream, &place.entries, &place.last)
            return False
        load_facts(type, input, stream, place.entries, place.last)
        place.groups = rdb_get_count(input, 4)
        place.phase = LOAD_GROUPS
    elif place.phase == LOAD_GROUPS:
        if place.groups == 0:
            return True
        place.groups -= 1
        load_group(type, input, stream, place)
        place.phase = LOAD_PENDING
    elif place.phase == LOAD_PENDING:
        if place.pending > 0:
            load_group_pending(input, place)
            return False
        group_sort_pending(place.group)
        place.consumers = rdb_get_count(input, 10)
        place.phase = LOAD_CONSUMERS
    elif place.phase == LOAD_CONSUMERS:
        if place.consumers > 0:
            place.consumers -= 1
            load_consumer(type, input, place)
            place.phase = LOAD_CONSUMER_PENDING
            return False
        if not all_have_consumers(place.group):
            rdb_fail(input, "a pending entry without a consumer")
        place.phase = LOAD_GROUPS
    elif place.pending > 0:
        load_consumer_pending(input, place)
    else:
        place.phase = LOAD_CONSUMERS
    return False


cdef bint rdb_load_stream(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                          rdb_loading_t *loading, uint64_t *budget) noexcept nogil:
    if not loading.has_begun:
        loading.has_begun = True
        object_root(out)[0] = stream_new()
        loading.left = rdb_get_count(input, ID_BYTES + 2)
    while input.error == NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        if load_more(type, input, <stream_t *>object_pointer(out), loading):
            return True
    return True
