"""Generic commands on one key: TYPE, the EXPIRE and TTL families, PERSIST, OBJECT, MOVE.

Behaviour and texts: redis.io/docs/latest/commands, group "generic", as of Redis 7.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf

from dfly._core.engine.access cimport access_frequency, access_idle_seconds, policy_is_lfu
from dfly._core.engine.command cimport (ACL_KEYSPACE, COMMAND_FAST, COMMAND_LOADING, COMMAND_READONLY,
                                        COMMAND_STALE, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_RO, KEY_RW,
                                        KEY_UPDATE, call_int_argument, call_t, command_spec_t, connection_row,
                                        container_row, key_row, register_commands, sanitize_error,
                                        slice_equals)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, delete_key, find_peek, find_untouched, find_write,
                                         get_deadline, insert_key, is_sticky, make_sticky, notify, set_deadline,
                                         purge_later, take_value, update_begin, update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.engine.shard cimport scope_t, shard_database
from dfly._core.resp.reply cimport (reply_array, reply_bulk_text, reply_error, reply_int, reply_null,
                                    reply_simple)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport object_encoding_name, object_get_int, object_t, object_type, type_name
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum expire_option_t:
    EXPIRE_NX = 1
    EXPIRE_XX = 2
    EXPIRE_GT = 4
    EXPIRE_LT = 8

cdef enum:
    SHARED_INTEGERS = 10000      # Redis shares the objects of smaller integers, and says so in REFCOUNT


cdef void type_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if find_untouched(&call.scope, &call.key, &ref):
        reply_simple(call.reply, type_name(object_type(&ref.entry.value)))
    else:
        reply_simple(call.reply, "none")


# ---- Deadlines -------------------------------------------------------------------------------

cdef void reply_invalid_expire(call_t *call) noexcept nogil:
    cdef char text[128]
    snprintf(text, sizeof(text), "ERR invalid expire time in '%s' command", call.spec.name)
    reply_error(call.reply, text)


cdef int parse_expire_options(call_t *call) noexcept nogil:
    """The options behind the time, -1 after an error reply."""
    cdef int options = 0
    cdef uint32_t i
    cdef char text[256]
    for i in range(3, call.argc):
        if slice_equals(call.argv[i], "nx"):
            options |= EXPIRE_NX
        elif slice_equals(call.argv[i], "xx"):
            options |= EXPIRE_XX
        elif slice_equals(call.argv[i], "gt"):
            options |= EXPIRE_GT
        elif slice_equals(call.argv[i], "lt"):
            options |= EXPIRE_LT
        else:
            snprintf(text, sizeof(text), "ERR Unsupported option %.*s",
                     <int>(call.argv[i].size if call.argv[i].size < 128 else 128), call.argv[i].data)
            sanitize_error(text)
            reply_error(call.reply, text)
            return -1
    if options & EXPIRE_NX and options & (EXPIRE_XX | EXPIRE_GT | EXPIRE_LT):
        reply_error(call.reply, "ERR NX and XX, GT or LT options at the same time are not compatible")
        return -1
    if options & EXPIRE_GT and options & EXPIRE_LT:
        reply_error(call.reply, "ERR GT and LT options at the same time are not compatible")
        return -1
    return options


cdef bint options_allow(int options, int64_t current, int64_t wanted) noexcept nogil:
    """current is -1 without a deadline, which counts as infinitely far away."""
    if options & EXPIRE_NX and current != -1:
        return False
    if options & EXPIRE_XX and current == -1:
        return False
    if options & EXPIRE_GT and (current == -1 or wanted <= current):
        return False
    return not (options & EXPIRE_LT and current != -1 and wanted >= current)


cdef void expire_generic(call_t *call, int64_t base_ms, int64_t unit_ms) noexcept nogil:
    cdef int options = parse_expire_options(call)
    cdef int64_t when = 0
    cdef dash_ref_t ref
    if options < 0 or not call_int_argument(call, 2, &when):
        return
    if unit_ms > 1 and (when > 9223372036854775807LL // unit_ms or when < -9223372036854775807LL // unit_ms):
        reply_invalid_expire(call)
        return
    when *= unit_ms
    if when > 9223372036854775807LL - base_ms:
        reply_invalid_expire(call)
        return
    when += base_ms
    if not find_write(&call.scope, &call.key, &ref) or not options_allow(options, get_deadline(&ref), when):
        reply_int(call.reply, 0)
        return
    if when <= call.scope.now_ms:
        delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
    else:
        update_begin(&call.scope, &ref)
        set_deadline(&call.scope, &ref, when)
        update_end(&call.scope, &call.key, NOTIFY_GENERIC, "expire")
    reply_int(call.reply, 1)


cdef void expire_command(call_t *call) noexcept nogil:
    expire_generic(call, call.scope.now_ms, 1000)


cdef void pexpire_command(call_t *call) noexcept nogil:
    expire_generic(call, call.scope.now_ms, 1)


cdef void expireat_command(call_t *call) noexcept nogil:
    expire_generic(call, 0, 1000)


cdef void pexpireat_command(call_t *call) noexcept nogil:
    expire_generic(call, 0, 1)


cdef void ttl_generic(call_t *call, bint absolute, bint milliseconds) noexcept nogil:
    cdef dash_ref_t ref
    cdef int64_t value
    if not find_untouched(&call.scope, &call.key, &ref):
        reply_int(call.reply, -2)
        return
    value = get_deadline(&ref)
    if value == -1:
        reply_int(call.reply, -1)
        return
    if not absolute:
        value -= call.scope.now_ms
        if value < 0:
            value = 0
    reply_int(call.reply, value if milliseconds else value // 1000 + (value % 1000 >= 500))


cdef void ttl_command(call_t *call) noexcept nogil:
    ttl_generic(call, False, False)


cdef void pttl_command(call_t *call) noexcept nogil:
    ttl_generic(call, False, True)


cdef void expiretime_command(call_t *call) noexcept nogil:
    ttl_generic(call, True, False)


cdef void pexpiretime_command(call_t *call) noexcept nogil:
    ttl_generic(call, True, True)


cdef void persist_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if not find_write(&call.scope, &call.key, &ref) or get_deadline(&ref) == -1:
        reply_int(call.reply, 0)
        return
    update_begin(&call.scope, &ref)
    set_deadline(&call.scope, &ref, -1)
    update_end(&call.scope, &call.key, NOTIFY_GENERIC, "persist")
    reply_int(call.reply, 1)


# ---- OBJECT ----------------------------------------------------------------------------------

cdef void object_encoding_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if find_peek(&call.scope, &call.key, &ref):
        reply_bulk_text(call.reply, object_encoding_name(&ref.entry.value))
    else:
        reply_null(call.reply)


cdef void object_refcount_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef int64_t value = 0
    if not find_peek(&call.scope, &call.key, &ref):
        reply_null(call.reply)
    elif object_get_int(&ref.entry.value, &value) and value >= 0 and value < SHARED_INTEGERS:
        reply_int(call.reply, 2147483647)
    else:
        reply_int(call.reply, 1)


cdef void object_idletime_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if not find_peek(&call.scope, &call.key, &ref):
        reply_null(call.reply)
    elif policy_is_lfu(call.scope.shard.settings):
        reply_error(call.reply, "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
                                "switching between policies at runtime LRU and LFU data will take some time to adjust.")
    else:
        reply_int(call.reply, access_idle_seconds(&call.scope, &ref))


cdef void object_freq_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if not find_peek(&call.scope, &call.key, &ref):
        reply_null(call.reply)
    elif not policy_is_lfu(call.scope.shard.settings):
        reply_error(call.reply, "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please "
                                "note that when switching between policies at runtime LRU and LFU data will take some "
                                "time to adjust.")
    else:
        reply_int(call.reply, access_frequency(&call.scope, &ref))


cdef const char *OBJECT_HELP[11]
OBJECT_HELP[0] = "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
OBJECT_HELP[1] = "ENCODING <key>"
OBJECT_HELP[2] = "    Return the kind of internal representation used in order to store the value"
OBJECT_HELP[3] = "    associated with a <key>."
OBJECT_HELP[4] = "FREQ <key>"
OBJECT_HELP[5] = "    Return the access frequency index of the <key>. The returned integer is"
OBJECT_HELP[6] = "    proportional to the logarithm of the recent access frequency of the key."
OBJECT_HELP[7] = "IDLETIME <key>"
OBJECT_HELP[8] = "    Return the idle time of the <key>, that is the approximated number of"
OBJECT_HELP[9] = "    seconds elapsed since the last access to the key."
OBJECT_HELP[10] = "REFCOUNT <key>"


cdef void object_help_command(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 15)
    for i in range(11):
        reply_simple(call.reply, OBJECT_HELP[i])
    reply_simple(call.reply, "    Return the number of references of the value associated with the specified")
    reply_simple(call.reply, "    <key>.")
    reply_simple(call.reply, "HELP")
    reply_simple(call.reply, "    Prints this help.")


# ---- MOVE ------------------------------------------------------------------------------------

cdef void move_command(call_t *call) noexcept nogil:
    """Both databases of a key are on the same shard, so this is a single-shard command."""
    cdef scope_t target = call.scope
    cdef int64_t index = 0
    cdef int64_t deadline
    cdef bint sticky
    cdef dash_ref_t ref
    cdef dash_ref_t moved
    cdef object_t value
    if not call_int_argument(call, 2, &index):
        return
    if index < 0 or index >= <int64_t>call.scope.shard.settings.databases:
        reply_error(call.reply, "ERR DB index is out of range")
        return
    target.database = shard_database(call.scope.shard, <uint32_t>index)
    if target.database == call.scope.database:
        reply_error(call.reply, "ERR source and destination objects are the same")
        return
    if not find_write(&call.scope, &call.key, &ref) or find_write(&target, &call.key, &moved):
        reply_int(call.reply, 0)
        return
    deadline = get_deadline(&ref)
    sticky = is_sticky(&ref)
    take_value(&call.scope, &call.key, &ref, &value)
    insert_key(&target, &call.key, &moved)
    moved.entry.value = value
    if deadline != -1:
        set_deadline(&target, &moved, deadline)
    if sticky:
        make_sticky(&target, &moved)
    members_track(&target, &call.key, &moved.entry.value)
    purge_later(&target, &call.key, &moved.entry.value)
    notify(&call.scope, &call.key, NOTIFY_GENERIC, "move_from")
    update_end(&target, &call.key, NOTIFY_GENERIC, "move_to")
    reply_int(call.reply, 1)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 12
    OBJECT_ROWS = 5
    READ = COMMAND_READONLY | COMMAND_FAST
    WRITE = COMMAND_WRITE | COMMAND_FAST

cdef command_spec_t[ROW_COUNT] ROWS
cdef command_spec_t[OBJECT_ROWS] OBJECT


cdef command_spec_t object_row(const char *name, void (*handler)(call_t *) noexcept nogil):
    cdef command_spec_t row = key_row(name, 3, COMMAND_READONLY, ACL_KEYSPACE, KEY_RO, handler)
    row.first_key = 2
    row.last_key = 2
    return row


def register():
    """Registers the family's rows."""
    OBJECT[0] = object_row("object|encoding", object_encoding_command)
    OBJECT[1] = object_row("object|freq", object_freq_command)
    OBJECT[2] = connection_row("object|help", 2, COMMAND_LOADING | COMMAND_STALE, ACL_KEYSPACE, object_help_command)
    OBJECT[3] = object_row("object|idletime", object_idletime_command)
    OBJECT[4] = object_row("object|refcount", object_refcount_command)
    ROWS[0] = key_row("type", 2, READ, ACL_KEYSPACE, KEY_RO, type_command)
    ROWS[1] = key_row("expire", -3, WRITE, ACL_KEYSPACE, KEY_RW | KEY_UPDATE, expire_command)
    ROWS[2] = key_row("pexpire", -3, WRITE, ACL_KEYSPACE, KEY_RW | KEY_UPDATE, pexpire_command)
    ROWS[3] = key_row("expireat", -3, WRITE, ACL_KEYSPACE, KEY_RW | KEY_UPDATE, expireat_command)
    ROWS[4] = key_row("pexpireat", -3, WRITE, ACL_KEYSPACE, KEY_RW | KEY_UPDATE, pexpireat_command)
    ROWS[5] = key_row("ttl", 2, READ, ACL_KEYSPACE, KEY_RO | KEY_ACCESS, ttl_command)
    ROWS[6] = key_row("pttl", 2, READ, ACL_KEYSPACE, KEY_RO | KEY_ACCESS, pttl_command)
    ROWS[7] = key_row("expiretime", 2, READ, ACL_KEYSPACE, KEY_RO | KEY_ACCESS, expiretime_command)
    ROWS[8] = key_row("pexpiretime", 2, READ, ACL_KEYSPACE, KEY_RO | KEY_ACCESS, pexpiretime_command)
    ROWS[9] = key_row("persist", 2, WRITE, ACL_KEYSPACE, KEY_RW | KEY_UPDATE, persist_command)
    ROWS[10] = container_row("object", -2, 0, 0, OBJECT, OBJECT_ROWS)
    ROWS[11] = key_row("move", 3, WRITE, ACL_KEYSPACE, KEY_RW | KEY_ACCESS | KEY_DELETE, move_command)
    register_commands(ROWS, ROW_COUNT)
