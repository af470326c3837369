"""Loading snapshots: see load.pxd for how it works.

Invariants
1. outstanding counts the batches sent and not freed; load_run returns when it is 0, so no shard touches a loader's
   file after that.
2. The texts of fault and notes are written by who claimed them, and read by others only when they are complete.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from dfly._core.engine.access cimport access_set_frequency, access_set_idle
from dfly._core.engine.database cimport delete_key, flush_database, load_key, set_deadline
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.engine.server_state cimport server_t
from dfly._core.engine.shard cimport scope_t, shard_acquire, shard_database, shard_of, shard_release, shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post
from dfly._core.persist.rdb_file cimport (RDB_NEXT_END, RDB_NEXT_ERROR, RDB_NEXT_FUNCTION,
                                          RDB_NEXT_MODULE_AUX, RDB_NEXT_MODULE_VALUE, RDB_NEXT_RECORD, RDB_NEXT_SIZES,
                                          rdb_block_release, rdb_file_close, rdb_file_fail, rdb_file_next,
                                          rdb_file_done, rdb_file_offset, rdb_file_open, rdb_file_t, rdb_next_t,
                                          rdb_offset_note, rdb_record_t,
                                          sem_destroy, sem_init)
from dfly._core.persist.rdb_io cimport rdb_left, rdb_reader_init, rdb_reader_t
from dfly._core.persist.rdb_value cimport RDB_EMPTY, RDB_LOADED, rdb_load_value, rdb_result_t
from dfly._core.store.dash cimport dash_find, dash_ref_t, dash_reserve, dash_t
from dfly._core.store.dash_prefetch cimport dash_prefetch_bucket, dash_prefetch_entry
from dfly._core.store.object cimport key_init, key_t, object_free, object_is_string, object_t
from dfly._core.sys.alloc cimport net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, atomic_add, atomic_cas, atomic_load, atomic_store, atomic_sub,
                                  likely, unlikely)
from dfly._core.sys.clock cimport monotonic_us, wall_ms

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int microseconds) noexcept

cdef enum:
    RECORDS_MIN = 512
    TEXTS_MIN = 4096
    RECORD_BYTES_MIN = 4             # type, key, value
    AHEAD = 16                       # records whose buckets are fetched ahead
    DRAIN_US = 200
    SHOWN = 64                       # bytes of a name in a message


cdef void loader_init(server_t *server) noexcept nogil:
    cdef loader_t *self = <loader_t *>net_zalloc(sizeof(loader_t))
    self.server = server
    self.batches = <load_batch_t **>net_zalloc(server.thread_count * sizeof(load_batch_t *))
    server.loader = self


cdef loader_t *loader_of(server_t *server) noexcept nogil:
    return <loader_t *>server.loader


cdef void load_begin(loader_t *self, uint64_t total_bytes) noexcept nogil:
    self.is_cancelled = 0
    self.total_bytes = total_bytes
    self.loaded_bytes = 0
    self.keys = self.expired = self.empty = self.broken = self.modules = self.functions = 0
    self.now_ms = wall_ms()
    self.started_s = self.now_ms // 1000
    self.started_us = monotonic_us()
    self.fault = FAULT_NONE
    self.reason[0] = 0
    self.note_count = self.notes_begun = 0
    memset(self.notes, 0, sizeof(self.notes))
    atomic_store(&self.server.loading, 1)


cdef void load_end(loader_t *self) noexcept nogil:
    atomic_store(&self.server.loading, 0)


cdef void load_cancel(loader_t *self) noexcept nogil:
    atomic_store(&self.is_cancelled, 1)


# ---- What goes wrong, and what is worth a line in the log -----------------------------------------

cdef void fail(loader_t *self, uint64_t offset, const char *reason) noexcept nogil:
    if atomic_cas(&self.fault, FAULT_NONE, FAULT_WRITING):
        self.fault_offset = offset
        snprintf(self.reason, sizeof(self.reason), "%s", reason)
        atomic_store(&self.fault, FAULT_SET)


cdef void note(loader_t *self, const char *pattern, const char *name, size_t size) noexcept nogil:
    """A line for the log. Beyond LOAD_NOTES only the counters tell."""
    cdef uint64_t index = atomic_add(&self.notes_begun, 1) - 1
    cdef int shown = <int>(size if size < SHOWN else SHOWN)
    if index < LOAD_NOTES:
        snprintf(self.notes[index], LOAD_NOTE_MAX, pattern, shown, name)
        atomic_add(&self.note_count, 1)


# ---- On the shard's thread -------------------------------------------------------------------------

cdef void fail_key(load_batch_t *batch, uint64_t offset, const key_t *key, const char *reason) noexcept nogil:
    cdef char text[256]
    snprintf(text, sizeof(text), "%s (key '%.*s')%s", reason, <int>(key.size if key.size < SHOWN else SHOWN), key.data,
             rdb_offset_note(batch.block.is_unpacked))
    fail(batch.loader, offset, text)


cdef bint decode(load_batch_t *batch, const load_record_t *record, const key_t *key, object_t *out) noexcept nogil:
    """False: no value, for a reason that has been noted."""
    cdef loader_t *loader = batch.loader
    cdef uint64_t offset
    cdef rdb_reader_t reader
    cdef rdb_result_t result
    rdb_reader_init(&reader, record.value, record.value_size, batch.version)
    result = rdb_load_value(record.type, &reader, batch.shard.settings, loader.now_ms, out)
    if likely(result == RDB_LOADED and rdb_left(&reader) == 0):
        return True
    if result == RDB_EMPTY:
        atomic_add(&loader.empty, 1)
        note(loader, "the key '%.*s' has no elements and is left out", key.data, key.size)
        return False
    if result == RDB_LOADED:
        object_free(out)
        reader.error = "bytes behind the value"
        reader.error_position = reader.position
    if loader.keep_partial:
        atomic_add(&loader.broken, 1)
        note(loader, "the value of the key '%.*s' is broken and left out", key.data, key.size)
        return False
    offset = batch.block.offset + <uint64_t>(record.value - batch.block.data) + reader.error_position
    fail_key(batch, offset, key, reader.error)
    return False


cdef bint make_place(load_batch_t *batch, scope_t *scope, const load_record_t *record, const key_t *key,
                     dash_ref_t *ref) noexcept nogil:
    """The key may not exist, unless the load is to replace it."""
    if likely(not dash_find(&scope.database.table, key, ref)):
        return True
    if batch.loader.may_replace:
        delete_key(scope, key, ref, 0, NULL)
        return True
    if batch.loader.keep_partial:
        atomic_add(&batch.loader.broken, 1)
        note(batch.loader, "the key '%.*s' is there a second time; the first one is kept", key.data, key.size)
    else:
        fail_key(batch, batch.block.offset + <uint64_t>(record.value - batch.block.data), key,
                 "a key is there a second time")
    return False


cdef bint load_record(load_batch_t *batch, scope_t *scope, const load_record_t *record) noexcept nogil:
    """True if the key is there now."""
    cdef key_t key
    cdef dash_ref_t ref
    cdef object_t value
    key_init(&key, record.key if record.key != NULL else batch.texts + record.key_place, record.key_size)
    if not decode(batch, record, &key, &value):
        return False
    if not make_place(batch, scope, record, &key, &ref):
        object_free(&value)
        return False
    load_key(scope, &key, &ref)
    ref.entry.value = value
    if record.deadline_ms >= 0:
        set_deadline(scope, &ref, record.deadline_ms)
    if record.idle_seconds >= 0:
        access_set_idle(scope, &ref, record.idle_seconds)
    if record.frequency >= 0:
        access_set_frequency(scope, &ref, <uint32_t>record.frequency)
    if not object_is_string(&value):
        members_track(scope, &key, &ref.entry.value)
    return True


cdef void fetch_ahead(const load_batch_t *batch, uint32_t first) noexcept nogil:
    cdef uint32_t end = min(first + AHEAD, batch.count)
    cdef dash_t *table
    cdef uint32_t i
    for i in range(first, end):
        dash_prefetch_bucket(&batch.shard.databases[batch.records[i].database].table, batch.records[i].hash)
    for i in range(first, end):
        table = &batch.shard.databases[batch.records[i].database].table
        dash_prefetch_entry(table, dash_prefetch_bucket(table, batch.records[i].hash), batch.records[i].hash)


cdef void load_records(load_batch_t *batch) noexcept nogil:
    cdef loader_t *loader = batch.loader
    cdef uint64_t loaded = 0
    cdef scope_t scope
    cdef uint32_t i
    memset(&scope, 0, sizeof(scope))
    scope.shard = batch.shard
    scope.now_ms = loader.now_ms
    for i in range(batch.count):
        shard_database(batch.shard, batch.records[i].database)
    for i in range(batch.count):
        if i % AHEAD == 0:
            if atomic_load(&loader.fault) != FAULT_NONE:
                break
            fetch_ahead(batch, i)
        scope.database = batch.shard.databases[batch.records[i].database]
        loaded += load_record(batch, &scope, &batch.records[i])
    atomic_add(&loader.keys, loaded)


cdef void run_batch(message_t *message, void *context) noexcept nogil:
    cdef load_batch_t *batch = <load_batch_t *>message
    cdef uint32_t i
    shard_acquire(batch.shard)
    if batch.flush:
        for i in range(batch.shard.settings.databases):
            flush_database(batch.shard, i)
    if batch.expected != 0:
        dash_reserve(&shard_database(batch.shard, batch.database).table, batch.expected)
    load_records(batch)
    shard_release(batch.shard)
    free_batch(batch)


# ---- The reader ------------------------------------------------------------------------------------

cdef load_batch_t *new_batch(loader_t *self, shard_t *shard, rdb_block_t *block, uint32_t version) noexcept nogil:
    cdef load_batch_t *batch = <load_batch_t *>net_zalloc(sizeof(load_batch_t))
    batch.message.run = run_batch
    batch.loader = self
    batch.shard = shard
    batch.version = version
    batch.block = block
    if block != NULL:
        atomic_add(&block.references, 1)
    return batch


cdef void free_batch(load_batch_t *batch) noexcept nogil:
    cdef loader_t *loader = batch.loader
    if batch.block != NULL:
        rdb_block_release(batch.block)
    net_free(batch.records)
    net_free(batch.texts)
    net_free(batch)
    atomic_sub(&loader.outstanding, 1)


cdef void send_batch(loader_t *self, load_batch_t *batch) noexcept nogil:
    atomic_add(&self.outstanding, 1)
    proactor_post(self.server.proactors[batch.shard.index], &batch.message)


cdef void send_all(loader_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.server.thread_count):
        if self.batches[i] != NULL:
            send_batch(self, self.batches[i])
            self.batches[i] = NULL


cdef uint32_t keep_text(load_batch_t *batch, const char *data, size_t size) noexcept nogil:
    cdef size_t place = batch.texts_size
    if place + size > batch.texts_capacity:
        batch.texts_capacity = 2 * (place + size) + TEXTS_MIN
        batch.texts = <char *>net_realloc(batch.texts, batch.texts_capacity)
    memcpy(batch.texts + place, data, size)
    batch.texts_size = place + size
    return <uint32_t>place


cdef void add_record(loader_t *self, rdb_file_t *file, const rdb_record_t *record) noexcept nogil:
    cdef key_t key
    cdef load_batch_t *batch
    cdef load_record_t *out
    cdef uint32_t index
    key_init(&key, record.key, record.key_size)
    index = shard_of(key.hash, self.server.thread_count)
    batch = self.batches[index]
    if batch == NULL:
        batch = new_batch(self, self.server.shards[index], file.block, file.version)
        self.batches[index] = batch
    if batch.count == batch.capacity:
        batch.capacity = 2 * batch.capacity + RECORDS_MIN
        batch.records = <load_record_t *>net_realloc(batch.records, batch.capacity * sizeof(load_record_t))
    out = &batch.records[batch.count]
    batch.count += 1
    out.hash = key.hash
    out.key = record.key
    out.key_size = <uint32_t>record.key_size
    if unlikely(record.key_is_packed):
        out.key = NULL
        out.key_place = keep_text(batch, record.key, record.key_size)
    out.value = record.value
    out.value_size = record.value_size
    out.deadline_ms = record.deadline_ms
    out.idle_seconds = record.idle_seconds
    out.frequency = <short>record.frequency
    out.database = record.database
    out.type = <unsigned char>record.type


cdef bint take_record(loader_t *self, rdb_file_t *file, const rdb_record_t *record) noexcept nogil:
    cdef char text[256]
    if unlikely(record.database >= self.server.settings.databases):
        snprintf(text, sizeof(text), "the file has a database %u, and 'databases' is %u", record.database,
                 self.server.settings.databases)
        rdb_file_fail(file, record.offset, text)
        return False
    if unlikely(record.deadline_ms >= 0 and record.deadline_ms < self.now_ms):
        self.expired += 1
        return True
    add_record(self, file, record)
    return True


cdef bint skip_module_value(loader_t *self, rdb_file_t *file, const rdb_record_t *record) noexcept nogil:
    cdef char text[256]
    if self.refuse_modules:
        snprintf(text, sizeof(text), "the key '%.*s' holds a value of the module type '%.9s'",
                 <int>(record.key_size if record.key_size < SHOWN else SHOWN), record.key, file.first.data)
        rdb_file_fail(file, record.offset, text)
        return False
    self.modules += 1
    note(self, "values of the module type '%.*s' are left out: there is no such module", file.first.data,
         file.first.size)
    return True


cdef void make_room(loader_t *self, const rdb_file_t *file) noexcept nogil:
    """For the keys of a database that begins here. A number that the rest of the file cannot hold is none."""
    cdef uint64_t count = file.numbers[0]
    cdef load_batch_t *batch
    cdef uint32_t i
    if count > file.size // RECORD_BYTES_MIN or file.database >= self.server.settings.databases:
        return
    send_all(self)
    for i in range(self.server.thread_count):
        batch = new_batch(self, self.server.shards[i], NULL, 0)
        batch.expected = count // self.server.thread_count
        batch.database = file.database
        send_batch(self, batch)


cdef bint handle(loader_t *self, rdb_file_t *file, rdb_next_t kind, const rdb_record_t *record) noexcept nogil:
    if likely(kind == RDB_NEXT_RECORD):
        return take_record(self, file, record)
    if kind == RDB_NEXT_SIZES:
        make_room(self, file)
    elif kind == RDB_NEXT_FUNCTION:
        self.functions += 1
        note(self, "a library of functions is left out, since there are no functions yet: '%.*s'",
             file.second.data, file.second.size)
    elif kind == RDB_NEXT_MODULE_AUX:
        note(self, "data of the module '%.*s' are left out: there is no such module", file.first.data,
             file.first.size)
    elif kind == RDB_NEXT_MODULE_VALUE:
        return skip_module_value(self, file, record)
    return True


cdef void drain(loader_t *self) noexcept nogil:
    while atomic_load(&self.outstanding) != 0:
        usleep(DRAIN_US)


cdef void load_flush(loader_t *self) noexcept nogil:
    cdef load_batch_t *batch
    cdef uint32_t i
    for i in range(self.server.thread_count):
        batch = new_batch(self, self.server.shards[i], NULL, 0)
        batch.flush = True
        send_batch(self, batch)
    drain(self)


cdef void read_records(loader_t *self, rdb_file_t *file) noexcept nogil:
    cdef uint64_t before = self.loaded_bytes
    cdef rdb_block_t *block = file.block
    cdef rdb_record_t record
    cdef rdb_next_t kind
    while True:
        kind = rdb_file_next(file, &record)
        if unlikely(file.block != block or kind == RDB_NEXT_END or kind == RDB_NEXT_ERROR):
            # What was found in the block before.
            send_all(self)
            block = file.block
            atomic_store(&self.loaded_bytes, before + rdb_file_done(file))
            if kind == RDB_NEXT_END or kind == RDB_NEXT_ERROR:
                return
            if atomic_load(&self.is_cancelled) != 0:
                rdb_file_fail(file, rdb_file_offset(file), "loading was interrupted")
            if atomic_load(&self.fault) != FAULT_NONE:
                return
        if unlikely(not handle(self, file, kind, &record)):
            return


cdef bint load_run(loader_t *self, const char *path) noexcept nogil:
    cdef rdb_file_t file
    sem_init(&self.room, 0, LOAD_BLOCKS)
    if rdb_file_open(&file, path, self.with_checksum):
        file.room = &self.room
        read_records(self, &file)
        send_all(self)
    # What came before the fault is loaded, for load_partial.
    drain(self)
    if file.reason[0] != 0:
        fail(self, file.error_offset, file.reason)
    rdb_file_close(&file)
    sem_destroy(&self.room)
    return atomic_load(&self.fault) == FAULT_NONE
