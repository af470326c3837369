"""Deadlines of hash fields: HEXPIRE and its kin, HTTL, HPERSIST, HGETEX, HSETEX, HGETDEL.

Order of checks, replies and events as Valkey 9.1. A time in the past removes the field at once ("hexpired").
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.commands.hashes cimport (announce_revived, find_hash, find_hash_to_change,
                                         finish_hash_removal, hash_begin, hash_limits, reply_field)
from dfly._core.engine.command cimport (ACL_HASH, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_RO, KEY_RW,
                                        KEY_UPDATE, call_int_argument, call_t, command_spec_t, key_row,
                                        register_commands, reply_syntax_error, sanitize_error, slice_equals)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_HASH, delete_key, notify, update_begin,
                                         update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.resp.reply cimport reply_array, reply_error, reply_int, reply_null
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hash_map cimport (HASH_KEEP_DEADLINE, HASH_NO_DEADLINE, HASH_REVIVED, HASH_SHOW_ALL,
                                        hash_deadline, hash_find, hash_limits_t, hash_place_t, hash_remove,
                                        hash_set, hash_set_deadline)
from dfly._core.store.object cimport object_pointer, object_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum option_t:
    OPTION_NX = 1
    OPTION_XX = 2
    OPTION_GT = 4
    OPTION_LT = 8
    OPTION_FNX = 16
    OPTION_FXX = 32
    OPTION_KEEPTTL = 64
    OPTION_PERSIST = 128

# What became of one field, as clients are told.
cdef enum outcome_t:
    FIELD_ABSENT = -2
    FIELD_UNCHANGED = -1
    FIELD_REFUSED = 0
    FIELD_CHANGED = 1
    FIELD_EXPIRED = 2

cdef const char *COUNT_ERROR = "ERR numfields should be greater than 0 and match the provided number of fields"

cdef struct fields_t:
    # The fields of a call and what stands before them.
    uint32_t first               # of the fields in argv
    uint32_t count
    int options
    uint32_t expiry              # position of the time in argv, 0: none
    bint is_absolute
    bint in_seconds


# ---- Arguments -----------------------------------------------------------------------------------

cdef uint32_t find_keyword(call_t *call, uint32_t start) noexcept nogil:
    """Position of FIELDS, or of the last argument. The key itself may be taken for it, as in Valkey."""
    cdef uint32_t i = start
    while i < call.argc - 1 and not slice_equals(call.argv[i], "fields"):
        i += 1
    return i


cdef bint parse_count(call_t *call, uint32_t keyword, uint32_t width, const char *error,
                      fields_t *out) noexcept nogil:
    """The number behind FIELDS, which must fit what follows; width: arguments a field takes."""
    cdef int64_t count = 0
    out.first = keyword
    if keyword < call.argc - 1:
        if not call_int_argument(call, keyword + 1, &count):
            return False
        out.first = keyword + 2
    if count <= 0 or count > INT64_MAX // 2 or count * width != <int64_t>call.argc - <int64_t>out.first:
        reply_error(call.reply, error)
        return False
    out.count = <uint32_t>count
    return True


cdef bint parse_at_three(call_t *call, const char *error, fields_t *out) noexcept nogil:
    """key FIELDS n field ..."""
    if not slice_equals(call.argv[2], "fields"):
        reply_syntax_error(call.reply)
        return False
    return parse_count(call, 2, 1, error, out)


cdef bint parse_conditions(call_t *call, uint32_t end, fields_t *out) noexcept nogil:
    """NX XX GT LT between the time and FIELDS."""
    cdef char text[256]
    cdef uint32_t i
    for i in range(3, end):
        if slice_equals(call.argv[i], "nx"):
            out.options |= OPTION_NX
        elif slice_equals(call.argv[i], "xx"):
            out.options |= OPTION_XX
        elif slice_equals(call.argv[i], "gt"):
            out.options |= OPTION_GT
        elif slice_equals(call.argv[i], "lt"):
            out.options |= OPTION_LT
        else:
            snprintf(text, sizeof(text), "ERR Unsupported option %.*s",
                     <int>(call.argv[i].size if call.argv[i].size < 128 else 128), call.argv[i].data)
            sanitize_error(text)
            reply_error(call.reply, text)
            return False
    if out.options & OPTION_NX and out.options & (OPTION_XX | OPTION_GT | OPTION_LT):
        reply_error(call.reply, "ERR NX and XX, GT or LT options at the same time are not compatible")
        return False
    if out.options & OPTION_GT and out.options & OPTION_LT:
        reply_error(call.reply, "ERR GT and LT options at the same time are not compatible")
        return False
    return True


cdef bint take_expiry(call_t *call, uint32_t i, fields_t *out) noexcept nogil:
    """EX PX EXAT PXAT at position i, a value behind it."""
    cdef bint in_seconds = slice_equals(call.argv[i], "ex")
    cdef bint is_absolute = slice_equals(call.argv[i], "pxat")
    if slice_equals(call.argv[i], "exat"):
        in_seconds = True
        is_absolute = True
    elif not in_seconds and not is_absolute and not slice_equals(call.argv[i], "px"):
        return False
    # One kind of time; the same again overrides.
    if out.expiry != 0 and (in_seconds != out.in_seconds or is_absolute != out.is_absolute):
        return False
    if out.options & (OPTION_KEEPTTL | OPTION_PERSIST):
        return False
    out.expiry = i + 1
    out.in_seconds = in_seconds
    out.is_absolute = is_absolute
    return True


cdef int word_option(slice_t word, bint sets) noexcept nogil:
    if not sets:
        return OPTION_PERSIST if slice_equals(word, "persist") else 0
    if slice_equals(word, "nx"):
        return OPTION_NX
    if slice_equals(word, "xx"):
        return OPTION_XX
    if slice_equals(word, "fnx"):
        return OPTION_FNX
    if slice_equals(word, "fxx"):
        return OPTION_FXX
    return OPTION_KEEPTTL if slice_equals(word, "keepttl") else 0


cdef bint parse_words(call_t *call, uint32_t end, bint sets, fields_t *out) noexcept nogil:
    """Options of HSETEX (sets) and HGETEX, in argv[2] up to FIELDS."""
    cdef uint32_t i = 2
    cdef int option
    cdef int both
    while i < end:
        option = word_option(call.argv[i], sets)
        if option != 0:
            both = out.options | option
            if (both & OPTION_NX and both & OPTION_XX) or (both & OPTION_FNX and both & OPTION_FXX) \
                    or (option & (OPTION_KEEPTTL | OPTION_PERSIST) and out.expiry != 0):
                reply_syntax_error(call.reply)
                return False
            out.options = both
            i += 1
        elif i + 1 < end and take_expiry(call, i, out):
            i += 2
        else:
            reply_syntax_error(call.reply)
            return False
    return True


cdef bint parse_extended(call_t *call, bint sets, fields_t *out) noexcept nogil:
    cdef uint32_t keyword = find_keyword(call, 0)
    out.options = 0
    out.expiry = 0
    if keyword < call.argc - 1 and not parse_words(call, keyword, sets, out):
        return False
    return parse_count(call, keyword, 2 if sets else 1, COUNT_ERROR, out)


cdef bint parse_time(call_t *call, uint32_t position, bint is_absolute, bint in_seconds,
                     int64_t *deadline) noexcept nogil:
    cdef int64_t base_ms = 0 if is_absolute else call.scope.now_ms
    cdef int64_t when = 0
    cdef char text[128]
    if not call_int_argument(call, position, &when):
        return False
    if when < 0 or (in_seconds and when > INT64_MAX // 1000) \
            or (when * 1000 if in_seconds else when) > INT64_MAX - base_ms:
        snprintf(text, sizeof(text), "ERR invalid expire time in '%s' command", call.spec.name)
        reply_error(call.reply, text)
        return False
    deadline[0] = (when * 1000 if in_seconds else when) + base_ms
    return True


# ---- HEXPIRE and its kin ---------------------------------------------------------------------------

cdef bint allows(int options, int64_t current, int64_t wanted) noexcept nogil:
    """A field without a deadline counts as one that is infinitely far away."""
    if options & OPTION_NX and current != HASH_NO_DEADLINE:
        return False
    if options & OPTION_XX and current == HASH_NO_DEADLINE:
        return False
    if options & OPTION_GT and (current == HASH_NO_DEADLINE or wanted <= current):
        return False
    return not (options & OPTION_LT and current != HASH_NO_DEADLINE and wanted >= current)


cdef struct change_t:
    # A hash that one command changes field by field: the door is opened before the first change.
    call_t *call
    dash_ref_t ref
    object_t *hash               # NULL: there is none, or it has just lost its last field
    bint is_open


cdef void begin_change(change_t *change, call_t *call, bint found) noexcept nogil:
    change.call = call
    change.hash = &change.ref.entry.value if found else NULL
    change.is_open = False


cdef bint field_of(change_t *change, slice_t field, hash_place_t *place) noexcept nogil:
    return (change.hash != NULL and object_pointer(change.hash) != NULL
            and hash_find(change.hash, field, change.call.scope.now_ms, place))


cdef void open_change(change_t *change) noexcept nogil:
    if not change.is_open:
        change.is_open = True
        update_begin(&change.call.scope, &change.ref)


cdef void remove_field(change_t *change, hash_place_t *place) noexcept nogil:
    open_change(change)
    hash_remove(change.hash, place)


cdef void set_field_deadline(change_t *change, slice_t field, hash_place_t *place, int64_t deadline) noexcept nogil:
    open_change(change)
    hash_set_deadline(change.hash, field, place, deadline)


cdef void end_change(change_t *change, const char *event) noexcept nogil:
    """Nothing was changed: nothing happens."""
    if not change.is_open:
        return
    members_track(&change.call.scope, &change.call.key, change.hash)
    finish_hash_removal(change.call, &change.ref, event)


cdef outcome_t expire_field(change_t *change, slice_t field, int options, int64_t deadline) noexcept nogil:
    cdef hash_place_t place
    if not field_of(change, field, &place):
        return FIELD_ABSENT
    if not allows(options, hash_deadline(change.hash, &place), deadline):
        return FIELD_REFUSED
    if deadline <= change.call.scope.now_ms:
        remove_field(change, &place)
        return FIELD_EXPIRED
    set_field_deadline(change, field, &place, deadline)
    return FIELD_CHANGED


cdef void expire_generic(call_t *call, bint is_absolute, bint in_seconds) noexcept nogil:
    cdef uint32_t keyword = find_keyword(call, 3)
    cdef fields_t fields
    cdef change_t change
    cdef outcome_t outcome
    cdef int64_t deadline = 0
    cdef uint64_t expired = 0
    cdef uint32_t i
    cdef bint found
    fields.options = 0
    if keyword < call.argc - 1 and not parse_conditions(call, keyword, &fields):
        return
    if not parse_count(call, keyword, 1, COUNT_ERROR, &fields) \
            or not parse_time(call, 2, is_absolute, in_seconds, &deadline):
        return
    if not find_hash_to_change(call, &change.ref, &found):
        return
    begin_change(&change, call, found)
    reply_array(call.reply, fields.count)
    for i in range(fields.first, call.argc):
        outcome = expire_field(&change, call.argv[i], fields.options, deadline)
        expired += outcome == FIELD_EXPIRED
        reply_int(call.reply, outcome)
    call.scope.shard.stats.expired_fields += expired
    end_change(&change, "hexpired" if expired > 0 else "hexpire")


cdef void hexpire_command(call_t *call) noexcept nogil:
    expire_generic(call, False, True)


cdef void hpexpire_command(call_t *call) noexcept nogil:
    expire_generic(call, False, False)


cdef void hexpireat_command(call_t *call) noexcept nogil:
    expire_generic(call, True, True)


cdef void hpexpireat_command(call_t *call) noexcept nogil:
    expire_generic(call, True, False)


# ---- HTTL and its kin, HPERSIST --------------------------------------------------------------------

cdef int64_t time_left(call_t *call, const object_t *hash, slice_t field, bint is_absolute,
                       bint in_seconds) noexcept nogil:
    cdef hash_place_t place
    cdef int64_t value
    if not hash_find(hash, field, call.scope.now_ms, &place):
        return FIELD_ABSENT
    value = hash_deadline(hash, &place)
    if value == HASH_NO_DEADLINE:
        return FIELD_UNCHANGED
    if not is_absolute:
        value -= call.scope.now_ms
    return value // 1000 + (value % 1000 >= 500) if in_seconds else value


cdef void ttl_generic(call_t *call, bint is_absolute, bint in_seconds) noexcept nogil:
    cdef fields_t fields
    cdef dash_ref_t ref
    cdef uint32_t i
    cdef bint found
    if not parse_at_three(call, "ERR syntax error", &fields) or not find_hash(call, &ref, &found):
        return
    reply_array(call.reply, fields.count)
    for i in range(fields.first, call.argc):
        if found:
            reply_int(call.reply, time_left(call, &ref.entry.value, call.argv[i], is_absolute, in_seconds))
        else:
            reply_int(call.reply, FIELD_ABSENT)


cdef void httl_command(call_t *call) noexcept nogil:
    ttl_generic(call, False, True)


cdef void hpttl_command(call_t *call) noexcept nogil:
    ttl_generic(call, False, False)


cdef void hexpiretime_command(call_t *call) noexcept nogil:
    ttl_generic(call, True, True)


cdef void hpexpiretime_command(call_t *call) noexcept nogil:
    ttl_generic(call, True, False)


cdef outcome_t persist_field(change_t *change, slice_t field) noexcept nogil:
    cdef hash_place_t place
    if not field_of(change, field, &place):
        return FIELD_ABSENT
    if hash_deadline(change.hash, &place) == HASH_NO_DEADLINE:
        return FIELD_UNCHANGED
    set_field_deadline(change, field, &place, HASH_NO_DEADLINE)
    return FIELD_CHANGED


cdef void hpersist_command(call_t *call) noexcept nogil:
    cdef fields_t fields
    cdef change_t change
    cdef uint32_t i
    cdef bint found
    if not parse_at_three(call, COUNT_ERROR, &fields) or not find_hash_to_change(call, &change.ref, &found):
        return
    begin_change(&change, call, found)
    reply_array(call.reply, fields.count)
    for i in range(fields.first, call.argc):
        reply_int(call.reply, persist_field(&change, call.argv[i]))
    end_change(&change, "hpersist")


# ---- HGETEX, HGETDEL -------------------------------------------------------------------------------

cdef void reply_field_of(change_t *change, slice_t field) noexcept nogil:
    if change.hash != NULL and object_pointer(change.hash) != NULL:
        reply_field(change.call.reply, change.hash, field, change.call.scope.now_ms)
    else:
        reply_null(change.call.reply)


cdef void hgetex_command(call_t *call) noexcept nogil:
    cdef fields_t fields
    cdef change_t change
    cdef int64_t deadline = 0
    cdef uint32_t i
    cdef bint found
    cdef bint expires
    if not parse_extended(call, False, &fields) or not find_hash(call, &change.ref, &found):
        return
    if fields.expiry != 0 and not parse_time(call, fields.expiry, fields.is_absolute, fields.in_seconds, &deadline):
        return
    expires = fields.expiry != 0 and deadline <= call.scope.now_ms
    begin_change(&change, call, found)
    reply_array(call.reply, fields.count)
    for i in range(fields.first, call.argc):
        reply_field_of(&change, call.argv[i])
        if fields.options & OPTION_PERSIST:
            persist_field(&change, call.argv[i])
        elif fields.expiry != 0 and expire_field(&change, call.argv[i], 0, deadline) == FIELD_EXPIRED:
            call.scope.shard.stats.expired_fields += 1
    if fields.options & OPTION_PERSIST:
        end_change(&change, "hpersist")
    else:
        end_change(&change, "hexpired" if expires else "hexpire")


cdef void hgetdel_command(call_t *call) noexcept nogil:
    cdef hash_place_t place
    cdef fields_t fields
    cdef change_t change
    cdef uint32_t i
    cdef bint found
    if not parse_at_three(call, COUNT_ERROR, &fields) or not find_hash_to_change(call, &change.ref, &found):
        return
    begin_change(&change, call, found)
    reply_array(call.reply, fields.count)
    for i in range(fields.first, call.argc):
        reply_field_of(&change, call.argv[i])
        if field_of(&change, call.argv[i], &place):
            remove_field(&change, &place)
    end_change(&change, "hdel")


# ---- HSETEX ----------------------------------------------------------------------------------------

cdef bint field_conditions_hold(call_t *call, const object_t *hash, const fields_t *fields) noexcept nogil:
    """FNX: no field exists; FXX: all do. hash NULL: none."""
    cdef hash_place_t place
    cdef uint32_t i
    cdef bint exists
    if not fields.options & (OPTION_FNX | OPTION_FXX):
        return True
    for i in range(fields.first, call.argc, 2):
        exists = hash != NULL and hash_find(hash, call.argv[i], call.scope.now_ms, &place)
        if exists != (fields.options & OPTION_FXX != 0):
            return False
    return True


cdef void set_extended(call_t *call, object_t *hash, const fields_t *fields, int64_t deadline) noexcept nogil:
    cdef hash_limits_t limits = hash_limits(&call.scope)
    cdef uint64_t revived = 0
    cdef uint32_t i
    for i in range(fields.first, call.argc, 2):
        revived += hash_set(hash, call.argv[i], call.argv[i + 1], deadline, call.scope.now_ms,
                            &limits) == HASH_REVIVED
    members_track(&call.scope, &call.key, hash)
    if revived > 0:
        announce_revived(call, revived)


cdef void remove_fields(call_t *call, object_t *hash, const fields_t *fields) noexcept nogil:
    cdef hash_place_t place
    cdef uint32_t i
    for i in range(fields.first, call.argc, 2):
        if object_pointer(hash) != NULL and hash_find(hash, call.argv[i], HASH_SHOW_ALL, &place):
            hash_remove(hash, &place)
    call.scope.shard.stats.expired_fields += fields.count


cdef void hsetex_command(call_t *call) noexcept nogil:
    cdef fields_t fields
    cdef dash_ref_t ref
    cdef object_t *hash
    cdef int64_t deadline = HASH_NO_DEADLINE
    cdef bint found
    cdef bint expires
    if not parse_extended(call, True, &fields) or not find_hash_to_change(call, &ref, &found):
        return
    if (fields.options & OPTION_NX and found) or (fields.options & OPTION_XX and not found):
        reply_int(call.reply, 0)
        return
    if fields.options & OPTION_KEEPTTL:
        deadline = HASH_KEEP_DEADLINE
    elif fields.expiry != 0 and not parse_time(call, fields.expiry, fields.is_absolute, fields.in_seconds, &deadline):
        return
    if not field_conditions_hold(call, &ref.entry.value if found else NULL, &fields):
        reply_int(call.reply, 0)
        return
    expires = fields.expiry != 0 and deadline <= call.scope.now_ms
    hash = hash_begin(call, &ref, found)
    if expires:
        remove_fields(call, hash, &fields)
    else:
        set_extended(call, hash, &fields, deadline)
    update_end(&call.scope, &call.key, NOTIFY_HASH, "hset")
    if fields.expiry != 0:
        notify(&call.scope, &call.key, NOTIFY_HASH, "hexpire")
    if expires:
        notify(&call.scope, &call.key, NOTIFY_HASH, "hexpired")
    if object_pointer(hash) == NULL:
        delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
    reply_int(call.reply, 1)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 12

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY | COMMAND_FAST
    cdef uint64_t write = COMMAND_WRITE | COMMAND_FAST
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t update = KEY_RW | KEY_UPDATE
    rows[0] = key_row("hexpire", -6, write, ACL_HASH, update, hexpire_command)
    rows[1] = key_row("hpexpire", -6, write, ACL_HASH, update, hpexpire_command)
    rows[2] = key_row("hexpireat", -6, write, ACL_HASH, update, hexpireat_command)
    rows[3] = key_row("hpexpireat", -6, write, ACL_HASH, update, hpexpireat_command)
    rows[4] = key_row("httl", -5, read, ACL_HASH, look, httl_command)
    rows[5] = key_row("hpttl", -5, read, ACL_HASH, look, hpttl_command)
    rows[6] = key_row("hexpiretime", -5, read, ACL_HASH, look, hexpiretime_command)
    rows[7] = key_row("hpexpiretime", -5, read, ACL_HASH, look, hpexpiretime_command)
    rows[8] = key_row("hpersist", -5, write, ACL_HASH, update, hpersist_command)
    rows[9] = key_row("hgetex", -5, write, ACL_HASH, KEY_RW | KEY_ACCESS | KEY_UPDATE, hgetex_command)
    rows[10] = key_row("hsetex", -6, write | COMMAND_DENYOOM, ACL_HASH, KEY_RW | KEY_INSERT, hsetex_command)
    rows[11] = key_row("hgetdel", -5, write, ACL_HASH, KEY_RW | KEY_ACCESS | KEY_DELETE, hgetdel_command)
    register_commands(rows, ROW_COUNT)
