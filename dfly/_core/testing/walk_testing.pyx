"""Test door to records that are written member by member while the collection changes (persist/rdb_walk)."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from dfly._core.engine.settings cimport settings_init_encoding_limits, settings_t
from dfly._core.persist.rdb_io cimport (rdb_put_byte, rdb_reader_init, rdb_reader_t, rdb_writer_deinit, rdb_writer_init,
                                        rdb_writer_t)
from dfly._core.persist.rdb_value cimport RDB_LOADED, rdb_load_value, rdb_save_value, rdb_value_type
from dfly._core.persist.rdb_walk cimport (rdb_can_walk, rdb_walk_begin, rdb_walk_end, rdb_walk_forced, rdb_walk_step,
                                          rdb_walk_t)
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, block_list_t, list_count, list_cursor_t, list_cut,
                                          list_drop, list_free, list_insert, list_item_t, list_item_text,
                                          list_limits_t, list_next, list_push, list_remove, list_replace, list_seek)
from dfly._core.store.list_whole cimport list_check
from dfly._core.store.dash cimport dash_find, dash_ref_t, dash_set_deadline
from dfly._core.store.hash_map cimport (HASH_KEEP_DEADLINE, HASH_SHOW_ALL, hash_check, hash_entry_t, hash_find,
                                        hash_limits_t, hash_place_t, hash_remove, hash_scan, hash_set,
                                        hash_set_deadline, hash_to_table)
from dfly._core.store.member_set cimport (set_add, set_begin, set_check, set_cursor_t, set_limits_t, set_next_timed,
                                          set_remove, set_table, set_to_table)
from dfly._core.store.id_index cimport (id_ceiling, id_increment, id_last_slot, id_next, id_place_t, id_slot, stream_id,
                                        stream_id_t)
from dfly._core.store.object cimport (TYPE_HASH, TYPE_LIST, TYPE_SET, TYPE_STREAM, TYPE_ZSET, key_init, key_t,
                                      object_dup, object_expire_members, object_finish_walk, object_free,
                                      object_pointer, object_purge_step, object_root, object_set_container,
                                      object_t, object_type, object_type_t, object_walk_owner)
from dfly._core.store.sorted_set cimport (zset_add, zset_check, zset_count, zset_cursor_t, zset_entry_t, zset_erase,
                                          zset_find, zset_limits_t, zset_make_large, zset_next, zset_place_t,
                                          zset_remove_range, zset_seek)
from dfly._core.store.stream cimport (STREAM_DROP_REFERENCES, STREAM_KEEP_REFERENCES, stream_append, stream_check,
                                      stream_delete, stream_free, stream_limits_t, stream_new, stream_t,
                                      stream_trim_id, stream_trim_length, stream_trim_referenced)
from dfly._core.store.stream_groups cimport (batch_add, batch_deliver, batch_new, consumer_create, consumer_delete,
                                             consumer_find, group_add, group_create, group_find, group_settle,
                                             group_take, groups_free_step, groups_purge_step, name_table_t,
                                             pending_deliver, pending_give_all, pending_remove, pending_remove_all,
                                             pending_t, stream_consumer_t, stream_group_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef bytes item_bytes(const list_item_t *item):
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    return text.data[:text.size]


cdef slice_t slice_of(bytes data):
    cdef slice_t result
    result.data = data
    result.size = len(data)
    return result


cdef void collect_field(const hash_entry_t *entry, void *context) noexcept nogil:
    with gil:
        (<dict>context)[item_bytes(&entry.field)] = item_bytes(&entry.value), entry.deadline


cdef list elements(object_t *value):
    cdef list_cursor_t cursor
    cdef list_item_t item
    found = []
    list_seek(object_pointer(value), 0, &cursor)
    while list_next(&cursor, &item):
        found.append(item_bytes(&item))
    return found


cdef bytes encoded(object_t *value):
    cdef rdb_writer_t writer
    rdb_writer_init(&writer, 12, False, NULL, NULL, 0)
    rdb_save_value(value, &writer)
    found = writer.data[:writer.size]
    rdb_writer_deinit(&writer)
    return found


cdef object contents(object_t *value):
    """{member: what it has}, of a list its elements, of a stream its bytes."""
    cdef set_cursor_t members
    cdef zset_cursor_t ranks
    cdef zset_entry_t entry
    cdef list_item_t item
    cdef int64_t deadline
    cdef uint64_t cursor = 0
    found = {}
    if object_type(value) == TYPE_LIST:
        return elements(value) if object_pointer(value) != NULL else []
    if object_pointer(value) == NULL:
        return found
    if object_type(value) == TYPE_STREAM:
        return encoded(value)
    if object_type(value) == TYPE_SET:
        set_begin(value, &members)
        while set_next_timed(&members, &item, &deadline):
            found[item_bytes(&item)] = deadline
    elif object_type(value) == TYPE_HASH:
        while True:
            cursor = hash_scan(value, cursor, HASH_SHOW_ALL, collect_field, <void *>found)
            if cursor == 0:
                break
    else:
        zset_seek(value, 0, &ranks)
        while zset_next(&ranks, &entry):
            found[item_bytes(&entry.member)] = entry.score
    return found


cdef class WalkedCollection:
    """A list, or a set, hash or sorted set in its large encoding, with at most one walk."""

    cdef object_t value
    cdef rdb_walk_t walk
    cdef rdb_writer_t writer
    cdef bint is_open
    cdef bint is_writing
    cdef int owner
    cdef list_limits_t limits

    def __cinit__(self, str kind):
        types = {"list": TYPE_LIST, "stream": TYPE_STREAM, "set": TYPE_SET, "hash": TYPE_HASH, "zset": TYPE_ZSET}
        object_set_container(&self.value, types[kind], NULL)
        self.limits.bytes = 256
        self.limits.count = 1000
        self.renew()

    def __dealloc__(self):
        if self.is_open:
            rdb_walk_end(&self.walk)
        object_free(&self.value)
        if self.is_writing:
            rdb_writer_deinit(&self.writer)

    def renew(self):
        """After the last member went."""
        cdef object_type_t type = object_type(&self.value)
        if object_pointer(&self.value) != NULL:
            return
        if type == TYPE_SET:
            # An empty table is no set, so that it becomes one with its first member.
            pass
        elif type == TYPE_HASH:
            hash_to_table(&self.value)
        elif type == TYPE_ZSET:
            zset_make_large(&self.value)
        elif type == TYPE_STREAM:
            object_root(&self.value)[0] = stream_new()

    def put(self, bytes member, bytes value, double score):
        cdef set_limits_t set_limits
        cdef hash_limits_t hash_limits
        cdef zset_limits_t zset_limits
        if object_type(&self.value) == TYPE_SET:
            set_limits.integers = set_limits.entries = set_limits.value = 0
            set_add(&self.value, member, len(member), &set_limits)
        elif object_type(&self.value) == TYPE_HASH:
            hash_limits.entries = hash_limits.bytes = 0
            hash_set(&self.value, slice_of(member), slice_of(value), HASH_KEEP_DEADLINE, HASH_SHOW_ALL, &hash_limits)
        else:
            zset_limits.entries = zset_limits.value = 0
            zset_add(&self.value, member, len(member), score, &zset_limits)

    def remove(self, bytes member):
        cdef hash_place_t field
        cdef zset_place_t place
        if object_pointer(&self.value) == NULL:
            return
        if object_type(&self.value) == TYPE_SET:
            set_remove(&self.value, member, len(member))
        elif object_type(&self.value) == TYPE_HASH:
            if hash_find(&self.value, slice_of(member), HASH_SHOW_ALL, &field):
                hash_remove(&self.value, &field)
        elif zset_find(&self.value, member, len(member), &place):
            zset_erase(&self.value, &place)

    def set_deadline(self, bytes member, int64_t deadline):
        cdef hash_place_t field
        cdef dash_ref_t ref
        cdef key_t key
        if object_pointer(&self.value) == NULL:
            return
        if object_type(&self.value) == TYPE_SET:
            key_init(&key, member, len(member))
            if dash_find(&set_to_table(&self.value).table, &key, &ref):
                dash_set_deadline(&set_table(&self.value).table, &ref, deadline)
        elif object_type(&self.value) == TYPE_HASH:
            if hash_find(&self.value, slice_of(member), HASH_SHOW_ALL, &field):
                hash_set_deadline(&self.value, slice_of(member), &field, deadline)

    def expire(self, int64_t now_ms):
        if object_type(&self.value) != TYPE_ZSET and object_pointer(&self.value) != NULL:
            object_expire_members(&self.value, now_ms, 1 << 30)

    def remove_range(self, uint64_t start, uint64_t count, uint64_t at_once):
        cdef uint64_t total
        if object_type(&self.value) == TYPE_ZSET and object_pointer(&self.value) != NULL:
            total = zset_count(&self.value)
            if start < total:
                zset_remove_range(&self.value, start, min(count, total - start), at_once)

    def purge(self, uint64_t budget):
        if object_pointer(&self.value) != NULL:
            object_purge_step(&self.value, &budget)

    # Of lists. Blocks are small, so that there are many of them.

    def push(self, bytes data, bint front):
        list_push(object_root(&self.value), data, len(data), front, &self.limits)

    def cut(self, uint64_t count, bint front, bint keeps_dropped):
        cdef block_list_t dropped = NULL
        if object_pointer(&self.value) != NULL:
            list_drop(object_root(&self.value), count, front, &dropped if keeps_dropped else NULL)
            list_free(&dropped)

    def cut_out(self, uint64_t count, bint front):
        """What is cut out is a list of its own."""
        cdef object_t out
        object_set_container(&out, TYPE_LIST, NULL)
        if object_pointer(&self.value) != NULL:
            list_cut(object_root(&self.value), count, front, object_root(&out), &self.limits)
        found = contents(&out)
        assert object_pointer(&out) == NULL or list_check(object_pointer(&out))
        object_free(&out)
        return found

    def insert(self, uint64_t index, bytes data):
        cdef list_cursor_t at
        list_seek(object_pointer(&self.value), min(index, list_count(object_pointer(&self.value))), &at)
        list_insert(object_root(&self.value), &at, data, len(data), &self.limits)

    def replace(self, uint64_t index, bytes data):
        cdef list_cursor_t at
        if index < list_count(object_pointer(&self.value)):
            list_seek(object_pointer(&self.value), index, &at)
            list_replace(object_root(&self.value), &at, data, len(data), &self.limits)

    def remove_equal(self, bytes data, uint64_t count, bint backward):
        list_remove(object_root(&self.value), data, len(data), count, backward, &self.limits)

    # Of streams. Blocks have few entries, with IDs that count up.

    cdef stream_t *stream(self):
        return <stream_t *>object_pointer(&self.value)

    def append(self, bytes value):
        cdef stream_limits_t limits
        cdef slice_t texts[2]
        limits.bytes = 400
        limits.entries = 7
        texts[0] = slice_of(b"field" if len(value) % 5 else b"another")
        texts[1] = slice_of(value)
        stream_append(self.stream(), stream_id(self.stream().last_id.ms + 1, 3), texts, 1, &limits)

    def delete(self, uint64_t number):
        return stream_delete(self.stream(), stream_id(number, 3))

    def trim(self, uint64_t length, bint by_id, bint approximate):
        cdef stream_t *dropped = NULL
        if by_id:
            stream_trim_id(self.stream(), stream_id(length, 0), approximate, 0, &dropped)
        else:
            stream_trim_length(self.stream(), length, approximate, 0, &dropped)
        stream_free(&dropped)

    def trim_referenced(self, int64_t length, bint drops):
        stream_trim_referenced(self.stream(), length, stream_id(0, 0), False, 0,
                               STREAM_DROP_REFERENCES if drops else STREAM_KEEP_REFERENCES)

    def group(self, bytes name):
        cdef stream_group_t *group = group_find(&self.stream().groups, slice_of(name))
        if group == NULL:
            group = group_create(&self.stream().groups, slice_of(name), stream_id(0, 0), 0)
        group.last_id = self.stream().last_id

    # What is pending in the stream's groups; IDs as those of entries, which need not be there.

    cdef stream_group_t *found_group(self, bytes name):
        cdef stream_group_t *group = group_find(&self.stream().groups, slice_of(name))
        if group == NULL:
            group = group_create(&self.stream().groups, slice_of(name), stream_id(0, 0), 0)
        return group

    cdef stream_consumer_t *found_consumer(self, bytes group, bytes name, int64_t now_ms):
        cdef stream_consumer_t *consumer = consumer_find(self.found_group(group), slice_of(name))
        if consumer == NULL:
            consumer = consumer_create(self.found_group(group), slice_of(name), now_ms)
        return consumer

    def deliver(self, bytes group, bytes name, uint64_t first, uint64_t count, int64_t now_ms):
        cdef stream_consumer_t *consumer = self.found_consumer(group, name, now_ms)
        for number in range(first, first + count):
            pending_deliver(self.found_group(group), consumer, stream_id(number, 3), now_ms)

    def deliver_batch(self, bytes group, bytes name, uint64_t count, int64_t now_ms):
        """As one, behind all that is pending."""
        cdef stream_group_t *found = self.found_group(group)
        cdef stream_consumer_t *consumer = self.found_consumer(group, name, now_ms)
        cdef stream_group_t *batch = batch_new(found)
        cdef stream_id_t last = stream_id(0, 0)
        if found.pending.count > 0:
            last = id_last_slot(&found.pending).id
        for _number in range(count):
            id_increment(&last)
            batch_add(batch, consumer, last, now_ms)
            batch.last_id = last
        batch_deliver(found, consumer, batch)

    cdef list pending_from(self, bytes group, uint64_t first, uint64_t count, uint64_t step):
        """Addresses of entries of consumers that are there."""
        cdef stream_group_t *found = self.found_group(group)
        cdef id_place_t place
        group_settle(found)
        entries = []
        more = id_ceiling(&found.pending, stream_id(first, 0), &place)
        while more and len(entries) < count * step:
            entries.append(<uint64_t>id_slot(&found.pending, place).value)
            more = id_next(&found.pending, &place)
        return entries[::step]

    def give(self, bytes group, bytes name, uint64_t first, uint64_t count, uint64_t step, int64_t now_ms):
        cdef pending_t *entries[400]
        found = self.pending_from(group, first, min(count, 400), step)
        for i, address in enumerate(found):
            entries[i] = <pending_t *><uint64_t>address
        pending_give_all(self.found_group(group), self.found_consumer(group, name, now_ms), entries, len(found), now_ms,
                         1)

    def acknowledge(self, bytes group, uint64_t first, uint64_t count):
        for number in range(first, first + count):
            pending_remove(self.found_group(group), stream_id(number, 3))

    def forget(self, bytes group, uint64_t first, uint64_t count, uint64_t step):
        cdef pending_t *entries[400]
        found = self.pending_from(group, first, min(count, 400), step)
        for i, address in enumerate(found):
            entries[i] = <pending_t *><uint64_t>address
        pending_remove_all(self.found_group(group), entries, len(found))

    def delete_consumer(self, bytes group, bytes name):
        consumer_delete(self.found_group(group), self.found_consumer(group, name, 0))

    def purge_pending(self, uint64_t budget):
        groups_purge_step(&self.stream().groups, &budget)

    def destroy_group(self, bytes name):
        cdef name_table_t gone
        cdef uint64_t budget = 5
        cdef stream_group_t *group = group_take(&self.stream().groups, slice_of(name))
        if group == NULL:
            return
        memset(&gone, 0, sizeof(gone))
        group_add(&gone, group)
        while not groups_free_step(&gone, &budget):
            budget = 5

    def copy(self):
        """What a copy holds; the original is as it was."""
        cdef object_t other
        if object_pointer(&self.value) == NULL:
            return contents(&self.value)
        other = self.value
        object_dup(&self.value, &other)
        result = contents(&other)
        object_free(&other)
        return result

    def drop(self):
        """The value goes, whatever walks over it."""
        cdef object_type_t type = object_type(&self.value)
        object_free(&self.value)
        object_set_container(&self.value, type, NULL)

    def contents(self):
        return contents(&self.value)

    def check(self):
        if object_pointer(&self.value) == NULL:
            return True
        if object_type(&self.value) == TYPE_LIST:
            return list_check(object_pointer(&self.value))
        if object_type(&self.value) == TYPE_STREAM:
            return stream_check(self.stream())
        if object_type(&self.value) == TYPE_SET:
            return set_check(&self.value)
        return hash_check(&self.value) if object_type(&self.value) == TYPE_HASH else zset_check(&self.value)

    def begin(self):
        """False: it cannot be walked over."""
        assert not self.is_open
        if object_pointer(&self.value) == NULL or not rdb_can_walk(&self.value, 0):
            return False
        if self.is_writing:
            rdb_writer_deinit(&self.writer)
        rdb_writer_init(&self.writer, 12, False, NULL, NULL, 0)
        self.is_writing = True
        rdb_put_byte(&self.writer, <unsigned char>rdb_value_type(&self.value, 12))
        rdb_walk_begin(&self.walk, &self.value, &self.writer, &self.owner)
        self.is_open = True
        assert object_walk_owner(&self.value) == &self.owner
        return True

    def step(self):
        """True: all is written."""
        if self.is_open and rdb_walk_step(&self.walk):
            self.is_open = False
        return not self.is_open

    def finish(self):
        if object_pointer(&self.value) != NULL and object_walk_owner(&self.value) != NULL:
            object_finish_walk(&self.value)

    def is_walked(self):
        return object_pointer(&self.value) != NULL and object_walk_owner(&self.value) != NULL

    def give_up(self):
        rdb_walk_end(&self.walk)
        self.is_open = False

    def forced(self):
        return rdb_walk_forced(&self.walk)

    def record(self):
        """What a reader makes of what was written: {member: what it has}."""
        cdef settings_t settings
        cdef rdb_reader_t reader
        cdef object_t loaded
        assert not self.is_open
        memset(&settings, 0, sizeof(settings))
        settings_init_encoding_limits(&settings)
        rdb_reader_init(&reader, self.writer.data + 1, self.writer.size - 1, 12)
        result = rdb_load_value(<unsigned char>self.writer.data[0], &reader, &settings, 0, &loaded)
        if result != RDB_LOADED:
            return reader.error.decode() if reader.error != NULL else "empty"
        found = contents(&loaded)
        object_free(&loaded)
        if reader.position != reader.size:
            return "bytes are left over"
        return found
