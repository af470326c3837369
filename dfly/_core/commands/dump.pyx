"""DUMP and RESTORE: one value as bytes that Redis and Valkey understand (persist/rdb_value).

Order of checks and texts as Redis 7.0. A payload is loaded as a whole before anything changes. Large values, but not
strings, go in slices (commands/long_reads).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.commands.long_reads cimport long_read_begin, long_read_step, long_read_t, long_read_wanted

from dfly._core.engine.access cimport access_set_frequency, access_set_idle
from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_KEYSPACE, COMMAND_DENYOOM, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_OW, KEY_RO, KEY_UPDATE, call_int_argument,
                                        call_t, command_spec_t, key_row, register_commands, reply_syntax_error,
                                        slice_equals, transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, delete_key, drop_value, find_read, find_write, insert_key,
                                         make_sticky, set_deadline, update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.engine.settings cimport settings_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.persist.crc64 cimport crc64
from dfly._core.persist.rdb_io cimport (RDB_STRING, rdb_flush, rdb_get_byte, rdb_left, rdb_loading_t, rdb_reader_t,
                                        rdb_saving_t, rdb_writer_deinit, rdb_writer_init, rdb_writer_t)
from dfly._core.persist.rdb_value cimport (RDB_DUMP_FOOTER, RDB_LOADED, rdb_dump, rdb_dump_begin, rdb_dump_footer,
                                           rdb_load_result, rdb_load_step, rdb_open_dump, rdb_restore, rdb_save_step,
                                           rdb_value_is_large)
from dfly._core.resp.reply cimport (REPLY_CHUNK, reply_bulk, reply_chain_header, reply_chain_take, reply_error,
                                    reply_null, reply_ok, reply_raw, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport (TYPE_LIST, TYPE_STREAM, key_t, object_block_count, object_is_container,
                                      object_is_string, object_pointer, object_set_string, object_t)
from dfly._core.store.stream cimport stream_mark, stream_t
from dfly._core.sys.alloc cimport net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    NOT_GIVEN = -1
    DUMP_STEP = 1024             # bytes
    DUMP_BUFFER = 65536          # bytes
    BLOCK_ELEMENTS = 128         # that blocks of lists and streams hold, about
    ELEMENT_BYTES = 16           # of a payload, about

cdef struct restore_options_t:
    bint replace
    bint absolute                # the TTL is a moment
    bint sticky                  # Dragonfly's STICK
    int64_t idle_seconds
    int64_t frequency

cdef struct restoring_t:
    # read.extra of a RESTORE in slices.
    rdb_reader_t reader          # of the transaction's payload
    rdb_loading_t loading
    restore_options_t options
    int64_t deadline
    int type


# ---- DUMP --------------------------------------------------------------------------------------

cdef struct dumping_t:
    # read.extra of a DUMP in slices, whose buffer is there from the first slice to the last one.
    rdb_writer_t writer
    rdb_saving_t saving
    transaction_t *tx            # of this slice
    uint64_t crc                 # of what is in the reply
    size_t size                  # and its bytes


cdef void put_reply(dumping_t *self, const void *data, size_t size) noexcept nogil:
    self.crc = crc64(self.crc, data, size)
    self.size += size
    reply_raw(&self.tx.reply, <const char *>data, size)
    if self.tx.reply.size >= REPLY_CHUNK:
        reply_chain_take(&self.tx.chain, &self.tx.reply, False)


cdef void flush_to_reply(rdb_writer_t *writer) noexcept nogil:
    put_reply(<dumping_t *>writer.context, writer.data, writer.size)
    writer.size = 0


cdef bint go_on_with_dump(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef dumping_t *self = <dumping_t *>read.extra
    cdef const settings_t *settings = tx.shards[0].settings
    cdef uint8_t footer[RDB_DUMP_FOOTER]
    if not read.is_begun:
        memset(self, 0, sizeof(dumping_t))
        rdb_writer_init(&self.writer, <uint32_t>settings.rdb_version, settings.rdb_compression != 0, flush_to_reply,
                        self, DUMP_BUFFER)
        rdb_dump_begin(&read.value, &self.writer)
    self.tx = tx
    while work_goes_on(&read.work):
        if rdb_save_step(&read.value, &self.writer, &self.saving, DUMP_STEP):
            rdb_flush(&self.writer)
            rdb_dump_footer(self.writer.version, self.crc, footer)
            put_reply(self, footer, RDB_DUMP_FOOTER)
            reply_chain_header(&tx.chain, &tx.reply, c'$', self.size)
            reply_raw(&tx.reply, "\r\n", 2)
            rdb_writer_deinit(&self.writer)
            return True
    return False


cdef void drop_dump(long_read_t *read) noexcept nogil:
    if read.is_begun:
        rdb_writer_deinit(&(<dumping_t *>read.extra).writer)


cdef bint is_same_stream(const long_read_t *read, const object_t *value) noexcept nogil:
    return (object_is_container(value, TYPE_STREAM) and object_pointer(value) == object_pointer(&read.value)
            and stream_mark(<const stream_t *>object_pointer(value)) == read.first)


cdef bint is_long(const call_t *call, const object_t *value) noexcept nogil:
    """A string's bytes are copied as those of GET are."""
    cdef uint64_t blocks
    if object_is_string(value) or not rdb_value_is_large(value):
        return False
    blocks = object_block_count(value)
    if object_is_container(value, TYPE_LIST) or object_is_container(value, TYPE_STREAM):
        blocks *= BLOCK_ELEMENTS
    return long_read_wanted(call, blocks)


cdef void dump_command(call_t *call) noexcept nogil:
    cdef rdb_writer_t writer
    cdef long_read_t *read
    cdef dash_ref_t ref
    if not find_read(&call.scope, &call.key, &ref):
        reply_null(call.reply)
        return
    if is_long(call, &ref.entry.value):
        read = long_read_begin(call, &ref.entry.value, go_on_with_dump)
        if read != NULL:
            read.extra = net_realloc(read.extra, sizeof(dumping_t))
            read.drop = drop_dump
            if object_is_container(&ref.entry.value, TYPE_STREAM):
                # WATCH does not see all changes of groups.
                read.first = stream_mark(<const stream_t *>object_pointer(&ref.entry.value))
                read.still = is_same_stream
                read.is_unseen = True
        return
    rdb_writer_init(&writer, <uint32_t>call.scope.shard.settings.rdb_version,
                    call.scope.shard.settings.rdb_compression != 0, NULL, NULL, 0)
    rdb_dump(&ref.entry.value, &writer)
    reply_bulk(call.reply, writer.data, writer.size)
    rdb_writer_deinit(&writer)


# ---- RESTORE -----------------------------------------------------------------------------------

cdef bint parse_restore(call_t *call, restore_options_t *options) noexcept nogil:
    cdef uint32_t i = 4
    cdef bint has_next
    options.replace = False
    options.absolute = False
    options.sticky = False
    options.idle_seconds = NOT_GIVEN
    options.frequency = NOT_GIVEN
    while i < call.argc:
        has_next = i + 1 < call.argc
        if slice_equals(call.argv[i], "replace"):
            options.replace = True
        elif slice_equals(call.argv[i], "absttl"):
            options.absolute = True
        elif slice_equals(call.argv[i], "stick"):
            options.sticky = True
        elif slice_equals(call.argv[i], "idletime") and has_next and options.frequency == NOT_GIVEN:
            i += 1
            if not call_int_argument(call, i, &options.idle_seconds):
                return False
            if options.idle_seconds < 0:
                reply_error(call.reply, "ERR Invalid IDLETIME value, must be >= 0")
                return False
        elif slice_equals(call.argv[i], "freq") and has_next and options.idle_seconds == NOT_GIVEN:
            i += 1
            if not call_int_argument(call, i, &options.frequency):
                return False
            if options.frequency < 0 or options.frequency > 255:
                reply_error(call.reply, "ERR Invalid FREQ value, must be >= 0 and <= 255")
                return False
        else:
            reply_syntax_error(call.reply)
            return False
        i += 1
    return True


cdef bint open_payload(slice_t payload, rdb_reader_t *out, reply_t *reply) noexcept nogil:
    if rdb_open_dump(payload.data, payload.size, out):
        return True
    reply_error(reply, "ERR DUMP payload version or checksum are wrong")
    return False


cdef bint load_payload(call_t *call, object_t *out) noexcept nogil:
    cdef rdb_reader_t reader
    if not open_payload(call.argv[3], &reader, call.reply):
        return False
    if rdb_restore(&reader, call.scope.shard.settings, call.scope.now_ms, out) != RDB_LOADED:
        reply_error(call.reply, "ERR Bad data format")
        return False
    return True


cdef void store_restored(scope_t *scope, const key_t *key, object_t *value, int64_t deadline,
                         const restore_options_t *options) noexcept nogil:
    """Puts the value, which it owns, under the key."""
    cdef bint is_due = deadline != 0 and deadline <= scope.now_ms
    cdef const char *event = NULL
    cdef dash_ref_t ref
    if options.replace and find_write(scope, key, &ref):
        if is_due:
            event = "del"
        delete_key(scope, key, &ref, NOTIFY_GENERIC, event)
    if is_due:
        drop_value(scope, value)
        return
    insert_key(scope, key, &ref)
    ref.entry.value = value[0]
    members_track(scope, key, value)
    if deadline != 0:
        set_deadline(scope, &ref, deadline)
    if options.sticky:
        make_sticky(scope, &ref)
    if options.idle_seconds != NOT_GIVEN:
        access_set_idle(scope, &ref, options.idle_seconds)
    if options.frequency != NOT_GIVEN:
        access_set_frequency(scope, &ref, <uint32_t>options.frequency)
    update_end(scope, key, NOTIFY_GENERIC, "restore")


cdef bint is_in_the_way(scope_t *scope, const key_t *key, const restore_options_t *options,
                        reply_t *reply) noexcept nogil:
    cdef dash_ref_t ref
    if options.replace or not find_write(scope, key, &ref):
        return False
    reply_error(reply, "BUSYKEY Target key name already exists.")
    return True


cdef bint go_on_with_restoring(long_read_t *read, transaction_t *tx) noexcept nogil:
    """Builds it in the key's result; what is under the key meanwhile counts at the end."""
    cdef restoring_t *self = <restoring_t *>read.extra
    cdef object_t *value = &tx.results[0].value
    cdef bint is_over = False
    cdef uint64_t budget
    cdef scope_t scope
    if not tx.results[0].has_value:
        object_set_string(value, "", 0)
        tx.results[0].has_value = True
    # It has moved, if the transaction has waited.
    self.reader.data = tx.argv[3].data
    while not is_over:
        if not work_goes_on(&read.work):
            return False
        budget = 1
        is_over = rdb_load_step(self.type, &self.reader, tx.shards[0].settings, value, &self.loading, &budget)
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    tx.results[0].has_value = False
    if rdb_load_result(&self.reader, value) != RDB_LOADED or rdb_left(&self.reader) > 0:
        reply_error(&tx.reply, "ERR Bad data format")
        drop_value(&scope, value)
    elif is_in_the_way(&scope, &tx.keys[0], &self.options, &tx.reply):
        drop_value(&scope, value)
    else:
        store_restored(&scope, &tx.keys[0], value, self.deadline, &self.options)
        reply_ok(&tx.reply)
    return True


cdef void restore_in_slices(call_t *call, const restore_options_t *options, int64_t deadline) noexcept nogil:
    cdef long_read_t *read
    cdef restoring_t *self
    cdef object_t nothing
    object_set_string(&nothing, "", 0)
    read = long_read_begin(call, &nothing, go_on_with_restoring)
    if read == NULL:
        return
    # It reads no key.
    read.slices.first_key = 1
    self = <restoring_t *>net_realloc(read.extra, sizeof(restoring_t))
    read.extra = self
    memset(self, 0, sizeof(restoring_t))
    self.options = options[0]
    self.deadline = deadline
    if not open_payload(call.argv[3], &self.reader, call.reply):
        read.is_wanted = False
        return
    self.reader.now_ms = call.scope.now_ms
    self.type = rdb_get_byte(&self.reader)


cdef void restore_command(call_t *call) noexcept nogil:
    cdef restore_options_t options
    cdef object_t value
    cdef int64_t deadline = 0
    if not parse_restore(call, &options) or is_in_the_way(&call.scope, &call.key, &options, call.reply):
        return
    if not call_int_argument(call, 2, &deadline):
        return
    if deadline < 0:
        reply_error(call.reply, "ERR Invalid TTL value, must be >= 0")
        return
    if deadline != 0 and not options.absolute:
        # Beyond the end of time it wraps around, and is due: as in Redis.
        deadline = <int64_t>(<uint64_t>deadline + <uint64_t>call.scope.now_ms)
    if long_read_wanted(call, call.argv[3].size // ELEMENT_BYTES) and call.argv[3].data[0] != RDB_STRING:
        restore_in_slices(call, &options, deadline)
        return
    if not load_payload(call, &value):
        return
    store_restored(&call.scope, &call.key, &value, deadline, &options)
    reply_ok(call.reply)


cdef enum:
    ROW_COUNT = 2

cdef command_spec_t[ROW_COUNT] rows


def register():
    """Registers the family's rows."""
    rows[0] = key_row("dump", 2, COMMAND_READONLY, ACL_KEYSPACE, KEY_RO | KEY_ACCESS, dump_command)
    rows[0].step = long_read_step
    rows[1] = key_row("restore", -4, COMMAND_WRITE | COMMAND_DENYOOM, ACL_KEYSPACE | ACL_DANGEROUS,
                      KEY_OW | KEY_UPDATE, restore_command)
    rows[1].step = long_read_step
    register_commands(rows, ROW_COUNT)
