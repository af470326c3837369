"""SADDEX, FIELDEXPIRE and FIELDTTL as Dragonfly has them: deadlines of set members, of hash fields too."""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t

from dfly._core.commands.sets cimport (SET_ABSENT, SET_FOUND, SET_WRONG_TYPE, set_limits_of, set_lookup_read,
                                       set_lookup_t, set_lookup_write)
from dfly._core.engine.command cimport (ACL_KEYSPACE, ACL_SET, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_INSERT, KEY_RO, KEY_RW, KEY_UPDATE,
                                        call_int_argument, call_t, command_spec_t, key_row, register_commands,
                                        reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport (NOTIFY_HASH, NOTIFY_SET, insert_key, notify, update_begin, update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.resp.reply cimport reply_array, reply_error, reply_int
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_deadline, dash_find, dash_ref_t, dash_set_deadline
from dfly._core.store.hash_map cimport HASH_NO_DEADLINE, hash_deadline, hash_find, hash_place_t, hash_set_deadline
from dfly._core.store.member_set cimport (SET_TABLE, set_add, set_contains, set_limits_t, set_table, set_to_table)
from dfly._core.store.object cimport (TYPE_HASH, TYPE_SET, key_init, key_t, object_encoding, object_is_container,
                                      object_set_container, object_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum member_reply_t:
    MEMBER_CHANGED = 1
    NO_DEADLINE = -1
    NO_KEY = -2                  # of FIELDEXPIRE: no such member either
    NO_MEMBER = -3


# ---- One member ----------------------------------------------------------------------------------

cdef inline bint find_member_entry(const object_t *value, slice_t member, dash_ref_t *entry) noexcept nogil:
    """Of a set that is a table."""
    cdef key_t key
    key_init(&key, member.data, member.size)
    return dash_find(&set_table(value).table, &key, entry)


cdef bint set_deadline_of(call_t *call, object_t *value, slice_t member, int64_t deadline) noexcept nogil:
    """False: there is no such field or member."""
    cdef hash_place_t place
    cdef dash_ref_t entry
    if object_is_container(value, TYPE_HASH):
        if not hash_find(value, member, call.scope.now_ms, &place):
            return False
        hash_set_deadline(value, member, &place, deadline)
        return True
    if not set_contains(value, member.data, member.size):
        return False
    set_to_table(value)
    if find_member_entry(value, member, &entry):
        dash_set_deadline(&set_table(value).table, &entry, deadline)
    return True


cdef int64_t deadline_of(call_t *call, const object_t *value, slice_t member) noexcept nogil:
    """As milliseconds, or what FIELDTTL replies instead."""
    cdef int64_t deadline = NO_DEADLINE
    cdef hash_place_t place
    cdef dash_ref_t entry
    if object_is_container(value, TYPE_HASH):
        if not hash_find(value, member, call.scope.now_ms, &place):
            return NO_MEMBER
        deadline = hash_deadline(value, &place)
        return NO_DEADLINE if deadline == HASH_NO_DEADLINE else deadline
    if not set_contains(value, member.data, member.size):
        return NO_MEMBER
    if object_encoding(value) == SET_TABLE and find_member_entry(value, member, &entry):
        deadline = dash_deadline(&entry)
    return NO_DEADLINE if deadline == DASH_NO_DEADLINE else deadline


# ---- Commands ------------------------------------------------------------------------------------

cdef bint find_collection(call_t *call, bint to_change, dash_ref_t *ref, bint *found) noexcept nogil:
    """A hash or a set, without members of it that are due; False after an error was replied."""
    cdef set_lookup_t result
    if to_change:
        result = set_lookup_write(&call.scope, &call.key, ref)
    else:
        result = set_lookup_read(&call.scope, &call.key, ref)
    found[0] = result != SET_ABSENT
    if result == SET_WRONG_TYPE and not object_is_container(&ref.entry.value, TYPE_HASH):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint parse_seconds(call_t *call, uint32_t position, int64_t *deadline) noexcept nogil:
    """False after an error was replied."""
    cdef int64_t seconds = 0
    if not call_int_argument(call, position, &seconds):
        return False
    if seconds <= 0 or seconds > (INT64_MAX - call.scope.now_ms) // 1000:
        reply_error(call.reply, "ERR value is not an integer or out of range")
        return False
    deadline[0] = call.scope.now_ms + seconds * 1000
    return True


cdef void saddex_command(call_t *call) noexcept nogil:
    """SADDEX key [KEEPTTL] seconds member ...: members that were there get the deadline too, unless KEEPTTL."""
    cdef bint keeps = slice_equals(call.argv[2], "keepttl")
    cdef uint32_t first = 4 if keeps else 3
    cdef set_limits_t limits = set_limits_of(&call.scope)
    cdef int64_t deadline = 0
    cdef int64_t added = 0
    cdef set_lookup_t result
    cdef object_t *value
    cdef dash_ref_t ref
    cdef bint is_new
    cdef uint32_t i
    if call.argc <= first:
        reply_error(call.reply, "ERR wrong number of arguments for 'saddex' command")
        return
    if not parse_seconds(call, first - 1, &deadline):
        return
    result = set_lookup_write(&call.scope, &call.key, &ref)
    if result == SET_WRONG_TYPE:
        reply_wrong_type(call.reply)
        return
    if result == SET_FOUND:
        update_begin(&call.scope, &ref)
    else:
        insert_key(&call.scope, &call.key, &ref)
        object_set_container(&ref.entry.value, TYPE_SET, NULL)
    value = &ref.entry.value
    for i in range(first, call.argc):
        is_new = set_add(value, call.argv[i].data, call.argv[i].size, &limits)
        added += is_new
        if is_new or not keeps:
            set_deadline_of(call, value, call.argv[i], deadline)
    if added > 0 or not keeps:
        members_track(&call.scope, &call.key, value)
        update_end(&call.scope, &call.key, NOTIFY_SET, "sadd" if added > 0 else "sexpire")
        if added > 0:
            notify(&call.scope, &call.key, NOTIFY_SET, "sexpire")
    reply_int(call.reply, added)


cdef void fieldexpire_command(call_t *call) noexcept nogil:
    cdef int64_t deadline = 0
    cdef dash_ref_t ref
    cdef object_t *value
    cdef bint is_changed = False
    cdef bint is_hash
    cdef bint found
    cdef bint done
    cdef uint32_t _i
    cdef uint32_t i
    if not parse_seconds(call, 2, &deadline):
        return
    if not find_collection(call, True, &ref, &found):
        return
    reply_array(call.reply, call.argc - 3)
    if not found:
        for _i in range(3, call.argc):
            reply_int(call.reply, NO_KEY)
        return
    value = &ref.entry.value
    is_hash = object_is_container(value, TYPE_HASH)
    update_begin(&call.scope, &ref)
    for i in range(3, call.argc):
        done = set_deadline_of(call, value, call.argv[i], deadline)
        is_changed = is_changed or done
        reply_int(call.reply, MEMBER_CHANGED if done else NO_KEY)
    if is_changed:
        members_track(&call.scope, &call.key, value)
        update_end(&call.scope, &call.key, NOTIFY_HASH if is_hash else NOTIFY_SET, "hexpire" if is_hash else "sexpire")


cdef void fieldttl_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef int64_t left
    cdef bint found
    if not find_collection(call, False, &ref, &found):
        return
    if not found:
        reply_int(call.reply, NO_KEY)
        return
    left = deadline_of(call, &ref.entry.value, call.argv[2])
    if left >= 0:
        left -= call.scope.now_ms
        left = left // 1000 + (left % 1000 >= 500)
    reply_int(call.reply, left)


# ---- Rows ----------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 3

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    rows[0] = key_row("fieldexpire", -4, COMMAND_WRITE | COMMAND_FAST, ACL_KEYSPACE, KEY_RW | KEY_UPDATE,
                      fieldexpire_command)
    rows[1] = key_row("fieldttl", 3, COMMAND_READONLY | COMMAND_FAST, ACL_KEYSPACE, KEY_RO | KEY_ACCESS,
                      fieldttl_command)
    rows[2] = key_row("saddex", -4, COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_FAST, ACL_SET, KEY_RW | KEY_INSERT,
                      saddex_command)
    register_commands(rows, ROW_COUNT)
