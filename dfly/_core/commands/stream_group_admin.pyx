"""XGROUP: making, changing and dropping groups and consumers.

Order of checks, replies and events as Redis 7.0. Neither WATCH nor caches see a change of groups, as there.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.streams cimport (STREAM_FOUND, STREAM_WRONG_TYPE, drop_group, parse_integer, parse_stream_id,
                                          reply_names_error, stream_lookup, stream_of, stream_subcommand_row)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_DENYOOM, COMMAND_LOADING, COMMAND_STALE, COMMAND_WRITE,
                                        KEY_DELETE, KEY_INSERT, KEY_RW, KEY_UPDATE, call_t, command_spec_t,
                                        connection_row, container_row, register_commands, reply_subcommand_syntax,
                                        reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport (NOTIFY_STREAM, insert_key, purge_later, update_begin, update_end,
                                         update_end_unseen, wake_waiters)
from dfly._core.resp.reply cimport reply_array, reply_error, reply_int, reply_ok, reply_simple
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport stream_id, stream_id_t
from dfly._core.store.object cimport TYPE_STREAM, object_set_container
from dfly._core.store.stream cimport stream_new, stream_t
from dfly._core.store.stream_groups cimport (ENTRIES_READ_UNKNOWN, consumer_create, consumer_delete, consumer_find,
                                             group_create, group_find, group_take, stream_consumer_t, stream_group_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


# ---- XGROUP ------------------------------------------------------------------------------------

cdef struct group_options_t:
    bint make_stream
    int64_t entries_read


cdef bint parse_group_options(call_t *call, bint is_create, group_options_t *out) noexcept nogil:
    cdef uint32_t i = 5
    out.make_stream = False
    out.entries_read = ENTRIES_READ_UNKNOWN
    while i < call.argc:
        if is_create and slice_equals(call.argv[i], "mkstream"):
            out.make_stream = True
            i += 1
        elif slice_equals(call.argv[i], "entriesread") and i + 1 < call.argc:
            if not parse_integer(call.reply, call.argv[i + 1], &out.entries_read):
                return False
            if out.entries_read < ENTRIES_READ_UNKNOWN:
                reply_error(call.reply, "ERR value for ENTRIESREAD must be positive or -1")
                return False
            i += 2
        else:
            reply_subcommand_syntax(call.reply, call.argv[1], "XGROUP")
            return False
    return True


cdef bint find_for_group(call_t *call, dash_ref_t *ref, bint make_stream, stream_t **stream) noexcept nogil:
    """*stream NULL: there is no key, and need not be one. False after an error reply."""
    cdef int result = stream_lookup(&call.scope, &call.key, ref)
    stream[0] = NULL
    if result == STREAM_WRONG_TYPE:
        reply_wrong_type(call.reply)
        return False
    if result == STREAM_FOUND:
        stream[0] = stream_of(ref)
    elif not make_stream:
        reply_error(call.reply, "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may "
                                "want to use the MKSTREAM option to create an empty stream automatically.")
        return False
    return True


cdef stream_group_t *find_group(call_t *call, dash_ref_t *ref) noexcept nogil:
    """NULL after an error reply."""
    cdef stream_t *stream
    cdef stream_group_t *group
    if not find_for_group(call, ref, False, &stream):
        return NULL
    group = group_find(&stream.groups, call.argv[3])
    if group == NULL:
        reply_names_error(call.reply, "NOGROUP No such consumer group '", call.argv[3], "' for key name '",
                          call.argv[2], "'")
    return group


cdef inline bint is_last(slice_t word) noexcept nogil:
    return word.size == 1 and word.data[0] == c'$'


cdef void xgroup_create(call_t *call) noexcept nogil:
    cdef group_options_t options
    cdef stream_t *stream
    cdef stream_id_t id = stream_id(0, 0)
    cdef dash_ref_t ref
    cdef bint is_new_key
    if not parse_group_options(call, True, &options):
        return
    if not find_for_group(call, &ref, options.make_stream, &stream):
        return
    if call.argc > 8:
        reply_subcommand_syntax(call.reply, call.argv[1], "XGROUP")
        return
    if is_last(call.argv[4]):
        if stream != NULL:
            id = stream.last_id
    elif not parse_stream_id(call.reply, call.argv[4], &id, 0, True, NULL):
        return
    is_new_key = stream == NULL
    if is_new_key:
        insert_key(&call.scope, &call.key, &ref)
        stream = stream_new()
        object_set_container(&ref.entry.value, TYPE_STREAM, stream)
    else:
        update_begin(&call.scope, &ref)
    if group_create(&stream.groups, call.argv[3], id, options.entries_read) == NULL:
        reply_error(call.reply, "BUSYGROUP Consumer Group name already exists")
        return
    reply_ok(call.reply)
    if is_new_key:
        update_end(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-create")
    else:
        update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-create")


cdef void xgroup_setid(call_t *call) noexcept nogil:
    cdef group_options_t options
    cdef stream_group_t *group
    cdef stream_id_t id
    cdef dash_ref_t ref
    if not parse_group_options(call, False, &options):
        return
    group = find_group(call, &ref)
    if group == NULL:
        return
    if call.argc > 7:
        reply_subcommand_syntax(call.reply, call.argv[1], "XGROUP")
        return
    if is_last(call.argv[4]):
        id = stream_of(&ref).last_id
    elif not parse_stream_id(call.reply, call.argv[4], &id, 0, False, NULL):
        return
    update_begin(&call.scope, &ref)
    group.last_id = id
    group.entries_read = options.entries_read
    reply_ok(call.reply)
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-setid")


cdef void xgroup_destroy(call_t *call) noexcept nogil:
    cdef stream_group_t *group
    cdef stream_t *stream
    cdef dash_ref_t ref
    if not find_for_group(call, &ref, False, &stream):
        return
    update_begin(&call.scope, &ref)
    group = group_take(&stream.groups, call.argv[3])
    if group == NULL:
        reply_int(call.reply, 0)
        return
    drop_group(&call.scope, group)
    reply_int(call.reply, 1)
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-destroy")
    # Readers through it hear of it.
    wake_waiters(&call.scope, &call.key)


cdef void xgroup_createconsumer(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef stream_group_t *group = find_group(call, &ref)
    if group == NULL:
        return
    update_begin(&call.scope, &ref)
    if consumer_create(group, call.argv[4], call.scope.now_ms) == NULL:
        reply_int(call.reply, 0)
        return
    reply_int(call.reply, 1)
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-createconsumer")


cdef void xgroup_delconsumer(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef stream_group_t *group = find_group(call, &ref)
    cdef stream_consumer_t *consumer
    if group == NULL:
        return
    consumer = consumer_find(group, call.argv[4])
    if consumer == NULL:
        reply_int(call.reply, 0)
        return
    update_begin(&call.scope, &ref)
    reply_int(call.reply, <int64_t>consumer_delete(group, consumer))
    purge_later(&call.scope, &call.key, &ref.entry.value)
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-delconsumer")


# ---- HELP --------------------------------------------------------------------------------------

cdef const char *XGROUP_HELP[17]
XGROUP_HELP[0] = "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
XGROUP_HELP[1] = "CREATE <key> <groupname> <id|$> [option]"
XGROUP_HELP[2] = "    Makes a group that has read up to the ID, or up to now. Options:"
XGROUP_HELP[3] = "    * MKSTREAM"
XGROUP_HELP[4] = "      Makes an empty stream if there is none."
XGROUP_HELP[5] = "    * ENTRIESREAD entries_read"
XGROUP_HELP[6] = "      How many entries the group has read, for its lag."
XGROUP_HELP[7] = "CREATECONSUMER <key> <groupname> <consumer>"
XGROUP_HELP[8] = "    Adds a consumer to a group."
XGROUP_HELP[9] = "DELCONSUMER <key> <groupname> <consumer>"
XGROUP_HELP[10] = "    Drops a consumer with what it has not acknowledged."
XGROUP_HELP[11] = "DESTROY <key> <groupname>"
XGROUP_HELP[12] = "    Drops a group."
XGROUP_HELP[13] = "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]"
XGROUP_HELP[14] = "    Says up to where the group has read."
XGROUP_HELP[15] = "HELP"
XGROUP_HELP[16] = "    Prints this help."


cdef void xgroup_help(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 17)
    for i in range(17):
        reply_simple(call.reply, XGROUP_HELP[i])


# ---- Rows --------------------------------------------------------------------------------------

cdef command_spec_t row
cdef command_spec_t[6] XGROUP


def register():
    """Registers the family's row."""
    global row
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    XGROUP[0] = stream_subcommand_row("xgroup|create", -5, grow, KEY_RW | KEY_INSERT, xgroup_create)
    XGROUP[1] = stream_subcommand_row("xgroup|setid", -5, COMMAND_WRITE, KEY_RW | KEY_UPDATE, xgroup_setid)
    XGROUP[2] = stream_subcommand_row("xgroup|destroy", 4, COMMAND_WRITE, KEY_RW | KEY_DELETE, xgroup_destroy)
    XGROUP[3] = stream_subcommand_row("xgroup|createconsumer", 5, grow, KEY_RW | KEY_INSERT, xgroup_createconsumer)
    XGROUP[4] = stream_subcommand_row("xgroup|delconsumer", 5, COMMAND_WRITE, KEY_RW | KEY_DELETE, xgroup_delconsumer)
    XGROUP[5] = connection_row("xgroup|help", 2, COMMAND_LOADING | COMMAND_STALE, ACL_STREAM, xgroup_help)
    row = container_row("xgroup", -2, 0, 0, XGROUP, 6)
    register_commands(&row, 1)
