"""The string commands with one key: SET and GET in all their forms, APPEND, ranges, STRLEN.

GET and plain SET are the hot path of the server: no option is parsed, a value is overwritten in
place, a reply is written straight from the object. Everything that is optional lies in functions
of its own.

Order of checks, replies and notifications follow Redis 7.0; IFEQ and DELIFEQ follow Valkey 9, the other
comparisons, DELEX and DIGEST Redis 8.4. Options are parsed in set_options.pyx. Where
a command reads and then writes (GETSET, GETDEL, GETEX, SET with GET) one lookup serves both: it
counts as a read, as in Redis. Arithmetic is in numbers.pyx, several keys in string_multi.pyx.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.commands.set_options cimport (DIGEST_TEXT_SIZE, SET_COMPARISON, SET_CONDITION, SET_EX, SET_EXAT,
                                              SET_EXPIRY, SET_GET, SET_IFDNE, SET_IFEQ, SET_IFNE, SET_KEEPTTL,
                                              SET_NX, SET_PERSIST, SET_PX, SET_PXAT, SET_STICK, SET_XX, check_digest,
                                              comparison_holds, comparison_word, digest_text, expiry_word,
                                              parse_expiry, parse_set_words, set_options_t)
from dfly._core.commands.strings cimport (drop_deadline, overwrite_key, ref_has_deadline,
                                          reply_value, string_size_limit)
from dfly._core.engine.command cimport (ACL_STRING, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_OW, KEY_RM,
                                        KEY_RO, KEY_RW, KEY_UPDATE, KEY_VARIABLE_FLAGS, call_int_argument,
                                        call_t, command_spec_t, key_row, register_commands,
                                        reply_syntax_error, reply_wrong_arity, reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_STRING, delete_key, drop_value, find_read,
                                         find_write, insert_key, make_sticky, notify, set_deadline,
                                         update_begin, update_end)
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport (reply_bulk, reply_error, reply_int, reply_null, reply_ok, reply_t)
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_ref_t
from dfly._core.store.object cimport (OBJECT_SCRATCH, object_free, object_is_string, object_replace_string,
                                      key_t, object_resize, object_set_string, object_size, object_t, object_view)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # All but PERSIST, GETEX' own.
    SET_WORDS = SET_CONDITION | SET_GET | SET_KEEPTTL | SET_EXPIRY | SET_STICK


# ---- Helpers -------------------------------------------------------------------------------

cdef bint check_string_size(scope_t *scope, reply_t *reply, uint64_t size, uint64_t more) noexcept nogil:
    cdef uint64_t total = size + more
    if likely(total <= string_size_limit(scope) and total >= size):
        return True
    reply_error(reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    return False


cdef bint find_string(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    """Looks up for reading; False after the wrong type's error was replied."""
    found[0] = find_read(&call.scope, &call.key, ref)
    if unlikely(found[0] and not object_is_string(&ref.entry.value)):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint expiry_deadline(call_t *call, slice_t argument, uint32_t unit_flag, int64_t *deadline) noexcept nogil:
    return parse_expiry(call.spec, call.reply, call.scope.now_ms, argument, unit_flag, deadline)


cdef void store_string(scope_t *scope, const key_t *key, dash_ref_t *ref, bint found, slice_t value,
                       int64_t deadline, bint keep_deadline) noexcept nogil:
    if found:
        update_begin(scope, ref)
        if not object_is_string(&ref.entry.value):
            drop_value(scope, &ref.entry.value)
    else:
        insert_key(scope, key, ref)
    object_replace_string(&ref.entry.value, value.data, value.size)
    if deadline != DASH_NO_DEADLINE:
        set_deadline(scope, ref, deadline)
    elif not keep_deadline:
        drop_deadline(scope, ref)
    update_end(scope, key, NOTIFY_STRING, "set")
    if deadline != DASH_NO_DEADLINE:
        notify(scope, key, NOTIFY_GENERIC, "expire")


# ---- SET and its relatives -----------------------------------------------------------------

cdef bint may_compare(call_t *call, const set_options_t *options, const object_t *value) noexcept nogil:
    """Of a value that exists; False after an error reply: it is no string, or the digest is none."""
    if not options.flags & SET_COMPARISON:
        return True
    if not object_is_string(value):
        reply_wrong_type(call.reply)
        return False
    return check_digest(options.flags, options.comparison, call.reply)


cdef bint condition_holds(call_t *call, const set_options_t *options, bint found, dash_ref_t *ref) noexcept nogil:
    """NX, XX, IFEQ and its kin; when False, what SET replies then has been replied."""
    cdef uint32_t flags = options.flags
    cdef bint holds = True
    if flags & SET_NX:
        holds = not found
    elif flags & SET_XX:
        holds = found
    elif flags & SET_COMPARISON:
        if found:
            holds = comparison_holds(flags, options.comparison, &ref.entry.value)
        else:
            # What does not exist differs from everything.
            holds = flags & (SET_IFNE | SET_IFDNE) != 0
    if not holds and not flags & SET_GET:
        reply_null(call.reply)
    return holds


cdef void set_with_options(call_t *call) noexcept nogil:
    cdef set_options_t options
    cdef dash_ref_t ref
    cdef int64_t deadline = DASH_NO_DEADLINE
    cdef bint found
    if not parse_set_words(call.argv, call.argc, 3, SET_WORDS, &options):
        reply_syntax_error(call.reply)
        return
    if options.flags & SET_EXPIRY and not expiry_deadline(call, options.expiry, options.flags, &deadline):
        return
    if not options.flags & SET_GET:
        found = find_write(&call.scope, &call.key, &ref)
    elif not find_string(call, &ref, &found):
        return
    if found and not may_compare(call, &options, &ref.entry.value):
        return
    if options.flags & SET_GET:
        if found:
            reply_value(call.reply, &ref.entry.value)
        else:
            reply_null(call.reply)
    if not condition_holds(call, &options, found, &ref):
        return
    store_string(&call.scope, &call.key, &ref, found, call.argv[2], deadline, options.flags & SET_KEEPTTL != 0)
    if options.flags & SET_STICK:
        make_sticky(&call.scope, &ref)
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


# ---- Deletion under a condition, DIGEST -------------------------------------------------------

cdef void delifeq_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint deleted = False
    if find_write(&call.scope, &call.key, &ref):
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return
        if comparison_holds(SET_IFEQ, call.argv[2], &ref.entry.value):
            delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
            deleted = True
    reply_int(call.reply, deleted)


cdef bint deletion_allowed(call_t *call, const object_t *value) noexcept nogil:
    """DELEX' condition on a value that exists; when False, the reply has been written."""
    cdef uint32_t flag
    if call.argc == 2:
        return True
    if not object_is_string(value):
        reply_error(call.reply, "ERR Key should be of string type if conditions are specified")
        return False
    flag = comparison_word(call.argv[2])
    if flag == 0:
        reply_error(call.reply, "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
        return False
    if not check_digest(flag, call.argv[3], call.reply):
        return False
    if not comparison_holds(flag, call.argv[3], value):
        reply_int(call.reply, 0)
        return False
    return True


cdef void delex_command(call_t *call) noexcept nogil:
    """Looks the key up before it reads the condition, so a missing key hides a wrong word: as Redis does."""
    cdef dash_ref_t ref
    if call.argc != 2 and call.argc != 4:
        reply_wrong_arity(call.reply, call.spec)
        return
    if not find_write(&call.scope, &call.key, &ref):
        reply_int(call.reply, 0)
    elif deletion_allowed(call, &ref.entry.value):
        delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
        reply_int(call.reply, 1)


cdef void digest_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef char text[DIGEST_TEXT_SIZE + 1]
    cdef bint found
    if not find_string(call, &ref, &found):
        return
    if not found:
        reply_null(call.reply)
        return
    digest_text(&ref.entry.value, text)
    reply_bulk(call.reply, text, DIGEST_TEXT_SIZE)


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
    ROW_COUNT = 16

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
    rows[14] = key_row("delex", -2, write | fast, ACL_STRING, KEY_RW | KEY_DELETE | KEY_VARIABLE_FLAGS, delex_command)
    rows[15] = key_row("digest", 2, read | fast, ACL_STRING, look, digest_command)
    register_commands(rows, ROW_COUNT)
