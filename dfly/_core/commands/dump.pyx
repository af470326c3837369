"""DUMP and RESTORE: one value as bytes that Redis and Valkey understand (persist/rdb_value).

Order of checks and texts as Redis 7.0. A payload is loaded as a whole before anything changes.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.access cimport access_set_frequency, access_set_idle
from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_KEYSPACE, COMMAND_DENYOOM, COMMAND_READONLY,
                                        COMMAND_WRITE,
                                        KEY_ACCESS, KEY_OW, KEY_RO, KEY_UPDATE, call_int_argument, call_t,
                                        command_spec_t, key_row, register_commands, reply_syntax_error,
                                        slice_equals)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, delete_key, drop_value, find_read, find_write, insert_key,
                                         make_sticky, set_deadline, update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.persist.rdb_io cimport rdb_reader_t, rdb_writer_deinit, rdb_writer_init, rdb_writer_t
from dfly._core.persist.rdb_value cimport RDB_LOADED, rdb_dump, rdb_open_dump, rdb_restore
from dfly._core.resp.reply cimport reply_bulk, reply_error, reply_null, reply_ok
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport object_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    NOT_GIVEN = -1

cdef struct restore_options_t:
    bint replace
    bint absolute                # the TTL is a moment
    bint sticky                  # Dragonfly's STICK
    int64_t idle_seconds
    int64_t frequency


cdef void dump_command(call_t *call) noexcept nogil:
    cdef rdb_writer_t writer
    cdef dash_ref_t ref
    if not find_read(&call.scope, &call.key, &ref):
        reply_null(call.reply)
        return
    rdb_writer_init(&writer, <uint32_t>call.scope.shard.settings.rdb_version,
                    call.scope.shard.settings.rdb_compression != 0, NULL, NULL, 0)
    rdb_dump(&ref.entry.value, &writer)
    reply_bulk(call.reply, writer.data, writer.size)
    rdb_writer_deinit(&writer)


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


cdef bint load_payload(call_t *call, object_t *out) noexcept nogil:
    cdef rdb_reader_t reader
    if not rdb_open_dump(call.argv[3].data, call.argv[3].size, &reader):
        reply_error(call.reply, "ERR DUMP payload version or checksum are wrong")
        return False
    if rdb_restore(&reader, call.scope.shard.settings, call.scope.now_ms, out) != RDB_LOADED:
        reply_error(call.reply, "ERR Bad data format")
        return False
    return True


cdef void store_restored(call_t *call, object_t *value, int64_t deadline,
                         const restore_options_t *options) noexcept nogil:
    """Puts the value, which it owns, under the key."""
    cdef bint is_due = deadline != 0 and deadline <= call.scope.now_ms
    cdef const char *event = NULL
    cdef dash_ref_t ref
    if options.replace and find_write(&call.scope, &call.key, &ref):
        if is_due:
            event = "del"
        delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, event)
    if is_due:
        drop_value(&call.scope, value)
        return
    insert_key(&call.scope, &call.key, &ref)
    ref.entry.value = value[0]
    members_track(&call.scope, &call.key, value)
    if deadline != 0:
        set_deadline(&call.scope, &ref, deadline)
    if options.sticky:
        make_sticky(&call.scope, &ref)
    if options.idle_seconds != NOT_GIVEN:
        access_set_idle(&call.scope, &ref, options.idle_seconds)
    if options.frequency != NOT_GIVEN:
        access_set_frequency(&call.scope, &ref, <uint32_t>options.frequency)
    update_end(&call.scope, &call.key, NOTIFY_GENERIC, "restore")


cdef void restore_command(call_t *call) noexcept nogil:
    cdef restore_options_t options
    cdef dash_ref_t ref
    cdef object_t value
    cdef int64_t deadline = 0
    if not parse_restore(call, &options):
        return
    if not options.replace and find_write(&call.scope, &call.key, &ref):
        reply_error(call.reply, "BUSYKEY Target key name already exists.")
        return
    if not call_int_argument(call, 2, &deadline):
        return
    if deadline < 0:
        reply_error(call.reply, "ERR Invalid TTL value, must be >= 0")
        return
    if not load_payload(call, &value):
        return
    if deadline != 0 and not options.absolute:
        # Beyond the end of time it wraps around, and is due: as in Redis.
        deadline = <int64_t>(<uint64_t>deadline + <uint64_t>call.scope.now_ms)
    store_restored(call, &value, deadline, &options)
    reply_ok(call.reply)


cdef enum:
    ROW_COUNT = 2

cdef command_spec_t[ROW_COUNT] rows


def register():
    """Registers the family's rows."""
    rows[0] = key_row("dump", 2, COMMAND_READONLY, ACL_KEYSPACE, KEY_RO | KEY_ACCESS, dump_command)
    rows[1] = key_row("restore", -4, COMMAND_WRITE | COMMAND_DENYOOM, ACL_KEYSPACE | ACL_DANGEROUS,
                      KEY_OW | KEY_UPDATE, restore_command)
    register_commands(rows, ROW_COUNT)
