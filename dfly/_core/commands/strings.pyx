"""The string commands with one key: SET and GET in all their forms, APPEND, ranges, STRLEN.

GET and plain SET are the hot path of the server: no option is parsed, a value is overwritten in
place, a reply is written straight from the object. Everything that is optional lies in functions
of its own.

Order of checks, replies and notifications follow Redis 7.0; IFEQ and DELIFEQ follow Valkey 9. Where
a command reads and then writes (GETSET, GETDEL, GETEX, SET with GET) one lookup serves both: it
counts as a read, as in Redis. Arithmetic is in numbers.pyx, several keys in string_multi.pyx.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset

from dfly._core.commands.strings cimport (drop_deadline, overwrite_key, ref_has_deadline,
                                          reply_value, string_size_limit)
from dfly._core.engine.command cimport (ACL_STRING, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_OW, KEY_RM,
                                        KEY_RO, KEY_RW, KEY_UPDATE, KEY_VARIABLE_FLAGS, call_int_argument,
                                        call_t, command_spec_t, key_row, register_commands,
                                        reply_not_integer, reply_syntax_error, reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_STRING, delete_key, drop_value, find_read,
                                         find_write, insert_key, notify, set_deadline, update_begin,
                                         update_end)
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport (reply_bulk, reply_error, reply_int, reply_null, reply_ok, reply_t)
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_ref_t
from dfly._core.store.object cimport (OBJECT_SCRATCH, object_free, object_is_string, object_replace_string,
                                      object_resize, object_set_string, object_size, object_t, object_view,
                                      parse_int64)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum set_flag_t:
    SET_NX = 1
    SET_XX = 2
    SET_GET = 4
    SET_KEEPTTL = 8
    SET_EX = 16
    SET_PX = 32
    SET_EXAT = 64
    SET_PXAT = 128
    SET_PERSIST = 256
    SET_IFEQ = 512
    SET_EXPIRY = 240                 # SET_EX | SET_PX | SET_EXAT | SET_PXAT
    SET_TTL = 504                    # what concerns the TTL: at most one of these
    SET_CONDITION = 515              # SET_NX | SET_XX | SET_IFEQ

cdef enum:
    MS_PER_S = 1000

cdef struct set_options_t:
    uint32_t flags
    slice_t expiry
    slice_t comparison


# ---- Helpers -------------------------------------------------------------------------------

cdef bint check_string_size(scope_t *scope, reply_t *reply, uint64_t size, uint64_t more) noexcept nogil:
    cdef uint64_t total = size + more
    if likely(total <= string_size_limit(scope) and total >= size):
        return True
    reply_error(reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    return False


cdef bint object_equals_slice(const object_t *self, slice_t text) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view = object_view(self, scratch)
    return view.size == text.size and memcmp(view.data, text.data, text.size) == 0


cdef bint find_string(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    """Looks up for reading; False after the wrong type's error was replied."""
    found[0] = find_read(&call.scope, &call.key, ref)
    if unlikely(found[0] and not object_is_string(&ref.entry.value)):
        reply_wrong_type(call.reply)
        return False
    return True


cdef void reply_invalid_expire(call_t *call) noexcept nogil:
    cdef char text[96]
    snprintf(text, sizeof(text), "ERR invalid expire time in '%s' command", call.spec.name)
    reply_error(call.reply, text)


cdef bint expiry_deadline(call_t *call, slice_t argument, uint32_t unit_flag, int64_t *deadline) noexcept nogil:
    """The moment an EX, PX, EXAT or PXAT argument means; replies the error and returns False if none."""
    cdef int64_t value
    if not parse_int64(argument.data, argument.size, &value):
        reply_not_integer(call.reply)
        return False
    if value <= 0:
        reply_invalid_expire(call)
        return False
    if unit_flag & (SET_EX | SET_EXAT):
        if value > INT64_MAX // MS_PER_S:
            reply_invalid_expire(call)
            return False
        value *= MS_PER_S
    if unit_flag & (SET_EX | SET_PX):
        if value > INT64_MAX - call.scope.now_ms:
            reply_invalid_expire(call)
            return False
        value += call.scope.now_ms
    deadline[0] = value
    return True


cdef uint32_t expiry_word(slice_t word) noexcept nogil:
    """The flag of an option that takes a time, 0 for any other word."""
    if slice_equals(word, "ex"):
        return SET_EX
    if slice_equals(word, "px"):
        return SET_PX
    if slice_equals(word, "exat"):
        return SET_EXAT
    if slice_equals(word, "pxat"):
        return SET_PXAT
    return 0


cdef bint parse_set_word(slice_t word, bint has_next, slice_t next_word, set_options_t *options,
                         bint *took_next) noexcept nogil:
    """One option of SET; False: syntax error. The same option may come twice, as in Redis."""
    cdef uint32_t flags = options.flags
    cdef uint32_t unit
    took_next[0] = False
    if slice_equals(word, "nx") and not flags & (SET_XX | SET_IFEQ):
        options.flags |= SET_NX
    elif slice_equals(word, "xx") and not flags & (SET_NX | SET_IFEQ):
        options.flags |= SET_XX
    elif slice_equals(word, "get"):
        options.flags |= SET_GET
    elif slice_equals(word, "keepttl") and not flags & (SET_TTL & ~SET_KEEPTTL):
        options.flags |= SET_KEEPTTL
    elif slice_equals(word, "ifeq") and has_next and not flags & SET_CONDITION:
        options.flags |= SET_IFEQ
        options.comparison = next_word
        took_next[0] = True
    else:
        unit = expiry_word(word)
        if unit == 0 or not has_next or flags & (SET_TTL & ~unit):
            return False
        options.flags |= unit
        options.expiry = next_word
        took_next[0] = True
    return True


cdef bint parse_set_options(call_t *call, set_options_t *options) noexcept nogil:
    cdef uint32_t position = 3
    cdef bint has_next
    cdef bint took_next
    memset(options, 0, sizeof(set_options_t))
    while position < call.argc:
        has_next = position + 1 < call.argc
        if not parse_set_word(call.argv[position], has_next, call.argv[position + 1 if has_next else position],
                              options, &took_next):
            reply_syntax_error(call.reply)
            return False
        position += 2 if took_next else 1
    return True


# ---- SET and its relatives -----------------------------------------------------------------

cdef bint condition_holds(call_t *call, const set_options_t *options, bint found, dash_ref_t *ref) noexcept nogil:
    """NX, XX, IFEQ; when False, what SET replies then has been replied."""
    cdef bint holds = True
    if options.flags & SET_NX:
        holds = not found
    elif options.flags & SET_XX:
        holds = found
    elif options.flags & SET_IFEQ:
        if found and not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return False
        holds = found and object_equals_slice(&ref.entry.value, options.comparison)
    if not holds and not options.flags & SET_GET:
        reply_null(call.reply)
    return holds


cdef void set_with_options(call_t *call) noexcept nogil:
    cdef set_options_t options
    cdef dash_ref_t ref
    cdef int64_t deadline = DASH_NO_DEADLINE
    cdef bint found
    if not parse_set_options(call, &options):
        return
    if options.flags & SET_EXPIRY and not expiry_deadline(call, options.expiry, options.flags, &deadline):
        return
    if options.flags & SET_GET:
        if not find_string(call, &ref, &found):
            return
        if found:
            reply_value(call.reply, &ref.entry.value)
        else:
            reply_null(call.reply)
    else:
        found = find_write(&call.scope, &call.key, &ref)
    if not condition_holds(call, &options, found, &ref):
        return
    if found:
        update_begin(&call.scope, &ref)
        if not object_is_string(&ref.entry.value):
            drop_value(&call.scope, &ref.entry.value)
    else:
        insert_key(&call.scope, &call.key, &ref)
    object_replace_string(&ref.entry.value, call.argv[2].data, call.argv[2].size)
    if deadline != DASH_NO_DEADLINE:
        set_deadline(&call.scope, &ref, deadline)
    elif not options.flags & SET_KEEPTTL:
        drop_deadline(&call.scope, &ref)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "set")
    if deadline != DASH_NO_DEADLINE:
        notify(&call.scope, &call.key, NOTIFY_GENERIC, "expire")
    if not options.flags & SET_GET:
        reply_ok(call.reply)


cdef void set_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if unlikely(call.argc > 3):
        set_with_options(call)
        return
    overwrite_key(&call.scope, &call.key, &ref)
    object_replace_string(&ref.entry.value, call.argv[2].data, call.argv[2].size)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "set")
    reply_ok(call.reply)


cdef void setnx_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if find_write(&call.scope, &call.key, &ref):
        reply_int(call.reply, 0)
        return
    insert_key(&call.scope, &call.key, &ref)
    object_set_string(&ref.entry.value, call.argv[2].data, call.argv[2].size)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "set")
    reply_int(call.reply, 1)


cdef void set_expiring(call_t *call, uint32_t unit_flag) noexcept nogil:
    """SETEX, PSETEX: key, time, value."""
    cdef dash_ref_t ref
    cdef int64_t deadline
    if not expiry_deadline(call, call.argv[2], unit_flag, &deadline):
        return
    overwrite_key(&call.scope, &call.key, &ref)
    object_replace_string(&ref.entry.value, call.argv[3].data, call.argv[3].size)
    set_deadline(&call.scope, &ref, deadline)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "set")
    notify(&call.scope, &call.key, NOTIFY_GENERIC, "expire")
    reply_ok(call.reply)


cdef void setex_command(call_t *call) noexcept nogil:
    set_expiring(call, SET_EX)


cdef void psetex_command(call_t *call) noexcept nogil:
    set_expiring(call, SET_PX)


cdef void delifeq_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint deleted = False
    if find_write(&call.scope, &call.key, &ref):
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return
        if object_equals_slice(&ref.entry.value, call.argv[2]):
            delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
            deleted = True
    reply_int(call.reply, deleted)


# ---- GET and its relatives -----------------------------------------------------------------

cdef void get_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    if unlikely(not find_read(&call.scope, &call.key, &ref)):
        reply_null(call.reply)
        return
    if unlikely(not object_is_string(&ref.entry.value)):
        reply_wrong_type(call.reply)
        return
    reply_value(call.reply, &ref.entry.value)


cdef void getset_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if not find_string(call, &ref, &found):
        return
    if found:
        reply_value(call.reply, &ref.entry.value)
        update_begin(&call.scope, &ref)
        object_free(&ref.entry.value)
        drop_deadline(&call.scope, &ref)
    else:
        reply_null(call.reply)
        insert_key(&call.scope, &call.key, &ref)
    object_set_string(&ref.entry.value, call.argv[2].data, call.argv[2].size)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "set")


cdef void getdel_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if not find_string(call, &ref, &found):
        return
    if not found:
        reply_null(call.reply)
        return
    reply_value(call.reply, &ref.entry.value)
    delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")


cdef bint parse_getex_options(call_t *call, set_options_t *options) noexcept nogil:
    cdef uint32_t position = 2
    cdef uint32_t unit
    options.flags = 0
    while position < call.argc:
        if slice_equals(call.argv[position], "persist"):
            unit = SET_PERSIST
        else:
            unit = expiry_word(call.argv[position])
            position += 1
        if unit == 0 or position >= call.argc or options.flags & ~unit:
            reply_syntax_error(call.reply)
            return False
        options.flags |= unit
        options.expiry = call.argv[position]
        position += 1
    return True


cdef void getex_command(call_t *call) noexcept nogil:
    cdef set_options_t options
    cdef dash_ref_t ref
    cdef int64_t deadline = DASH_NO_DEADLINE
    cdef bint found
    if not parse_getex_options(call, &options) or not find_string(call, &ref, &found):
        return
    if not found:
        reply_null(call.reply)
        return
    if options.flags & SET_EXPIRY and not expiry_deadline(call, options.expiry, options.flags, &deadline):
        return
    reply_value(call.reply, &ref.entry.value)
    if options.flags & (SET_EXAT | SET_PXAT) and deadline <= call.scope.now_ms:
        delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
    elif options.flags & SET_EXPIRY:
        update_begin(&call.scope, &ref)
        set_deadline(&call.scope, &ref, deadline)
        update_end(&call.scope, &call.key, NOTIFY_GENERIC, "expire")
    elif options.flags & SET_PERSIST and ref_has_deadline(&ref):
        update_begin(&call.scope, &ref)
        set_deadline(&call.scope, &ref, DASH_NO_DEADLINE)
        update_end(&call.scope, &call.key, NOTIFY_GENERIC, "persist")


cdef void strlen_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_string(call, &ref, &found):
        reply_int(call.reply, <int64_t>object_size(&ref.entry.value) if found else 0)


# ---- Parts of strings ----------------------------------------------------------------------

cdef void getrange_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t ref
    cdef slice_t view
    cdef int64_t start
    cdef int64_t end
    cdef int64_t size
    cdef bint found
    if not call_int_argument(call, 2, &start) or not call_int_argument(call, 3, &end):
        return
    if not find_string(call, &ref, &found):
        return
    # Both negative and crossed is empty before the ends are clipped to the string.
    if not found or (start < 0 and end < 0 and start > end):
        reply_bulk(call.reply, "", 0)
        return
    view = object_view(&ref.entry.value, scratch)
    size = <int64_t>view.size
    if start < 0:
        start = start + size if start + size > 0 else 0
    if end < 0:
        end = end + size if end + size > 0 else 0
    if end >= size:
        end = size - 1
    if start > end:
        reply_bulk(call.reply, "", 0)
    else:
        reply_bulk(call.reply, view.data + start, <size_t>(end - start + 1))


cdef void setrange_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef slice_t patch = call.argv[3]
    cdef int64_t offset
    cdef uint64_t size = 0
    cdef bint found
    cdef char *data
    if not call_int_argument(call, 2, &offset):
        return
    if offset < 0:
        reply_error(call.reply, "ERR offset is out of range")
        return
    found = find_write(&call.scope, &call.key, &ref)
    if found:
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return
        size = object_size(&ref.entry.value)
    if patch.size == 0:
        reply_int(call.reply, <int64_t>size)
        return
    if not check_string_size(&call.scope, call.reply, <uint64_t>offset, patch.size):
        return
    if found:
        update_begin(&call.scope, &ref)
    else:
        insert_key(&call.scope, &call.key, &ref)
    if <uint64_t>offset + patch.size > size:
        size = <uint64_t>offset + patch.size
    data = object_resize(&ref.entry.value, size)
    memcpy(data + offset, patch.data, patch.size)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "setrange")
    reply_int(call.reply, <int64_t>size)


cdef void append_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef slice_t tail = call.argv[2]
    cdef size_t size = 0
    cdef char *data
    if find_write(&call.scope, &call.key, &ref):
        if unlikely(not object_is_string(&ref.entry.value)):
            reply_wrong_type(call.reply)
            return
        size = object_size(&ref.entry.value)
        if not check_string_size(&call.scope, call.reply, size, tail.size):
            return
        update_begin(&call.scope, &ref)
        data = object_resize(&ref.entry.value, size + tail.size)
        memcpy(data + size, tail.data, tail.size)
    else:
        insert_key(&call.scope, &call.key, &ref)
        object_set_string(&ref.entry.value, tail.data, tail.size)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "append")
    reply_int(call.reply, <int64_t>(size + tail.size))


# ---- Registration --------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 14

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Adds this family's rows to the registry."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t write = COMMAND_WRITE
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t fast = COMMAND_FAST
    cdef uint64_t update = KEY_RW | KEY_ACCESS | KEY_UPDATE
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    rows[0] = key_row("set", -3, grow, ACL_STRING, update | KEY_VARIABLE_FLAGS, set_command)
    rows[1] = key_row("get", 2, read | fast, ACL_STRING, look, get_command)
    rows[2] = key_row("getex", -2, write | fast, ACL_STRING, update, getex_command)
    rows[3] = key_row("getdel", 2, write | fast, ACL_STRING, KEY_RW | KEY_ACCESS | KEY_DELETE, getdel_command)
    rows[4] = key_row("getset", 3, grow | fast, ACL_STRING, update, getset_command)
    rows[5] = key_row("getrange", 4, read, ACL_STRING, look, getrange_command)
    rows[6] = key_row("substr", 4, read, ACL_STRING, look, getrange_command)
    rows[7] = key_row("setrange", 4, grow, ACL_STRING, KEY_RW | KEY_UPDATE, setrange_command)
    rows[8] = key_row("setex", 4, grow, ACL_STRING, KEY_OW | KEY_UPDATE, setex_command)
    rows[9] = key_row("psetex", 4, grow, ACL_STRING, KEY_OW | KEY_UPDATE, psetex_command)
    rows[10] = key_row("setnx", 3, grow | fast, ACL_STRING, KEY_OW | KEY_INSERT, setnx_command)
    rows[11] = key_row("append", 3, grow | fast, ACL_STRING, KEY_RW | KEY_INSERT, append_command)
    rows[12] = key_row("strlen", 2, read | fast, ACL_STRING, KEY_RO, strlen_command)
    rows[13] = key_row("delifeq", 3, write | fast, ACL_STRING, KEY_RM | KEY_DELETE, delifeq_command)
    register_commands(rows, ROW_COUNT)
