"""XGROUP and XINFO: making and dropping groups and consumers, and looking at streams from outside.

Order of checks, replies and events as Redis 7.0; the fields "inactive" and "active-time" of consumers as 7.2. Neither
WATCH nor caches see a change of groups, as there.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.streams cimport (drop_stream, find_stream, parse_integer, parse_stream_id, reply_entry,
                                          reply_names_error, reply_stream_id, stream_lookup, stream_of, STREAM_FOUND,
                                          STREAM_WRONG_TYPE)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_DENYOOM, COMMAND_LOADING, COMMAND_READONLY, COMMAND_STALE,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_RO, KEY_RW, KEY_UPDATE,
                                        call_t, command_handler_t, command_spec_t, connection_row, container_row,
                                        key_row, register_commands, reply_subcommand_syntax, reply_wrong_type,
                                        slice_equals)
from dfly._core.engine.database cimport (NOTIFY_STREAM, insert_key, update_begin, update_end, update_end_unseen,
                                         wake_waiters)
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_text, reply_defer_array, reply_error, reply_int,
                                    reply_map, reply_null, reply_ok, reply_set_deferred, reply_simple, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport (id_first, id_index_t, id_next, id_place_t, id_slot, stream_id, stream_id_t)
from dfly._core.store.object cimport TYPE_STREAM, object_set_container
from dfly._core.store.stream cimport (stream_cursor_t, stream_new, stream_read_next, stream_read_previous, stream_seek,
                                      stream_seek_back, stream_t, stream_tree_nodes)
from dfly._core.store.stream_groups cimport (ENTRIES_READ_UNKNOWN, consumer_at, consumer_create, consumer_delete,
                                             consumer_find, group_add, group_at, group_create, group_find, group_take,
                                             name_of, pending_t, stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_lag
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    FULL_COUNT = 10              # entries, and pending ones of each list, that XINFO STREAM FULL shows


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
    cdef stream_t *dropped
    cdef dash_ref_t ref
    if not find_for_group(call, &ref, False, &stream):
        return
    update_begin(&call.scope, &ref)
    group = group_take(&stream.groups, call.argv[3])
    if group == NULL:
        reply_int(call.reply, 0)
        return
    # It may have millions of pending entries: as the group of a stream of nothing else it goes in slices.
    dropped = stream_new()
    group_add(&dropped.groups, group)
    drop_stream(&call.scope, dropped)
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
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xgroup-delconsumer")


# ---- XINFO -------------------------------------------------------------------------------------

cdef void reply_field_id(reply_t *reply, const char *name, stream_id_t id) noexcept nogil:
    reply_bulk_text(reply, name)
    reply_stream_id(reply, id)


cdef void reply_field_int(reply_t *reply, const char *name, int64_t value) noexcept nogil:
    reply_bulk_text(reply, name)
    reply_int(reply, value)


cdef void reply_field_name(reply_t *reply, const void *named) noexcept nogil:
    cdef slice_t name = name_of(named)
    reply_bulk_text(reply, "name")
    reply_bulk(reply, name.data, name.size)


cdef void reply_progress(reply_t *reply, const stream_t *stream, const stream_group_t *group) noexcept nogil:
    cdef int64_t lag
    reply_bulk_text(reply, "entries-read")
    if group.entries_read == ENTRIES_READ_UNKNOWN:
        reply_null(reply)
    else:
        reply_int(reply, group.entries_read)
    reply_bulk_text(reply, "lag")
    if stream_lag(stream, group, &lag):
        reply_int(reply, lag)
    else:
        reply_null(reply)


cdef bint find_existing(call_t *call, dash_ref_t *ref) noexcept nogil:
    cdef bint found
    if not find_stream(call, ref, &found):
        return False
    if not found:
        reply_error(call.reply, "ERR no such key")
    return found


cdef void xinfo_groups(call_t *call) noexcept nogil:
    cdef const stream_group_t *group
    cdef stream_t *stream
    cdef dash_ref_t ref
    cdef uint32_t i
    if not find_existing(call, &ref):
        return
    stream = stream_of(&ref)
    reply_array(call.reply, stream.groups.count)
    for i in range(stream.groups.count):
        group = group_at(&stream.groups, i)
        reply_map(call.reply, 6)
        reply_field_name(call.reply, group)
        reply_field_int(call.reply, "consumers", group.consumers.count)
        reply_field_int(call.reply, "pending", <int64_t>group.pending.count)
        reply_field_id(call.reply, "last-delivered-id", group.last_id)
        reply_progress(call.reply, stream, group)


cdef void xinfo_consumers(call_t *call) noexcept nogil:
    cdef int64_t now_ms = call.scope.now_ms
    cdef const stream_consumer_t *consumer
    cdef const stream_group_t *group
    cdef dash_ref_t ref
    cdef uint32_t i
    if not find_existing(call, &ref):
        return
    group = group_find(&stream_of(&ref).groups, call.argv[3])
    if group == NULL:
        reply_names_error(call.reply, "NOGROUP No such consumer group '", call.argv[3], "' for key name '",
                          call.argv[2], "'")
        return
    reply_array(call.reply, group.consumers.count)
    for i in range(group.consumers.count):
        consumer = consumer_at(group, i)
        reply_map(call.reply, 4)
        reply_field_name(call.reply, consumer)
        reply_field_int(call.reply, "pending", <int64_t>consumer.pending.count)
        reply_field_int(call.reply, "idle", max(now_ms - consumer.seen_ms, <int64_t>0))
        reply_field_int(call.reply, "inactive", now_ms - consumer.active_ms if consumer.active_ms != -1 else -1)


cdef void reply_pending(reply_t *reply, const id_index_t *entries, int64_t count, bint with_consumer) noexcept nogil:
    cdef size_t mark = reply_defer_array(reply)
    cdef const pending_t *pending
    cdef id_place_t place
    cdef int64_t written = 0
    cdef slice_t name
    cdef bint more = id_first(entries, &place)
    while more and (count == 0 or written < count):
        pending = <const pending_t *>id_slot(entries, place).value
        reply_array(reply, 4 if with_consumer else 3)
        reply_stream_id(reply, id_slot(entries, place).id)
        if with_consumer:
            name = name_of(pending.consumer)
            reply_bulk(reply, name.data, name.size)
        reply_int(reply, pending.delivered_ms)
        reply_int(reply, <int64_t>pending.deliveries)
        written += 1
        more = id_next(entries, &place)
    reply_set_deferred(reply, mark, c'*', <size_t>written)


cdef void reply_full_group(reply_t *reply, const stream_t *stream, const stream_group_t *group,
                           int64_t count) noexcept nogil:
    cdef const stream_consumer_t *consumer
    cdef uint32_t i
    reply_map(reply, 7)
    reply_field_name(reply, group)
    reply_field_id(reply, "last-delivered-id", group.last_id)
    reply_progress(reply, stream, group)
    reply_field_int(reply, "pel-count", <int64_t>group.pending.count)
    reply_bulk_text(reply, "pending")
    reply_pending(reply, &group.pending, count, True)
    reply_bulk_text(reply, "consumers")
    reply_array(reply, group.consumers.count)
    for i in range(group.consumers.count):
        consumer = consumer_at(group, i)
        reply_map(reply, 5)
        reply_field_name(reply, consumer)
        reply_field_int(reply, "seen-time", consumer.seen_ms)
        reply_field_int(reply, "active-time", consumer.active_ms)
        reply_field_int(reply, "pel-count", <int64_t>consumer.pending.count)
        reply_bulk_text(reply, "pending")
        reply_pending(reply, &consumer.pending, count, False)


cdef void reply_full(reply_t *reply, const stream_t *stream, int64_t count) noexcept nogil:
    cdef stream_cursor_t cursor
    cdef int64_t written = 0
    cdef uint32_t i
    cdef size_t mark
    reply_bulk_text(reply, "entries")
    mark = reply_defer_array(reply)
    stream_seek(stream, stream_id(0, 0), &cursor)
    while (count == 0 or written < count) and stream_read_next(&cursor):
        reply_entry(reply, &cursor)
        written += 1
    reply_set_deferred(reply, mark, c'*', <size_t>written)
    reply_bulk_text(reply, "groups")
    reply_array(reply, stream.groups.count)
    for i in range(stream.groups.count):
        reply_full_group(reply, stream, group_at(&stream.groups, i), count)


cdef void reply_ends(reply_t *reply, const stream_t *stream) noexcept nogil:
    cdef stream_cursor_t cursor
    reply_bulk_text(reply, "first-entry")
    stream_seek(stream, stream_id(0, 0), &cursor)
    if stream_read_next(&cursor):
        reply_entry(reply, &cursor)
    else:
        reply_null(reply)
    reply_bulk_text(reply, "last-entry")
    stream_seek_back(stream, stream_id(<uint64_t>-1, <uint64_t>-1), &cursor)
    if stream_read_previous(&cursor):
        reply_entry(reply, &cursor)
    else:
        reply_null(reply)


cdef bint parse_full(call_t *call, bint *full, int64_t *count) noexcept nogil:
    count[0] = FULL_COUNT
    full[0] = call.argc > 3
    if not full[0]:
        return True
    if ((call.argc != 4 and call.argc != 6) or not slice_equals(call.argv[3], "full")
            or (call.argc == 6 and not slice_equals(call.argv[4], "count"))):
        reply_subcommand_syntax(call.reply, call.argv[1], "XINFO")
        return False
    if call.argc == 6 and not parse_integer(call.reply, call.argv[5], count):
        return False
    if count[0] < 0:
        count[0] = FULL_COUNT
    return True


cdef void xinfo_stream(call_t *call) noexcept nogil:
    cdef reply_t *reply = call.reply
    cdef const stream_t *stream
    cdef dash_ref_t ref
    cdef int64_t count
    cdef bint full
    if not find_existing(call, &ref) or not parse_full(call, &full, &count):
        return
    stream = stream_of(&ref)
    reply_map(reply, 9 if full else 10)
    reply_field_int(reply, "length", <int64_t>stream.length)
    reply_field_int(reply, "radix-tree-keys", <int64_t>stream.blocks.count)
    reply_field_int(reply, "radix-tree-nodes", <int64_t>stream_tree_nodes(stream))
    reply_field_id(reply, "last-generated-id", stream.last_id)
    reply_field_id(reply, "max-deleted-entry-id", stream.max_deleted_id)
    reply_field_int(reply, "entries-added", <int64_t>stream.entries_added)
    reply_field_id(reply, "recorded-first-entry-id", stream.first_id)
    if full:
        reply_full(reply, stream, count)
    else:
        reply_field_int(reply, "groups", stream.groups.count)
        reply_ends(reply, stream)


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

cdef const char *XINFO_HELP[9]
XINFO_HELP[0] = "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
XINFO_HELP[1] = "CONSUMERS <key> <groupname>"
XINFO_HELP[2] = "    Shows the consumers of a group."
XINFO_HELP[3] = "GROUPS <key>"
XINFO_HELP[4] = "    Shows the groups of a stream."
XINFO_HELP[5] = "STREAM <key> [FULL [COUNT <count>]"
XINFO_HELP[6] = "    Shows a stream; FULL: with entries and groups."
XINFO_HELP[7] = "HELP"
XINFO_HELP[8] = "    Prints this help."


cdef void xgroup_help(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 17)
    for i in range(17):
        reply_simple(call.reply, XGROUP_HELP[i])


cdef void xinfo_help(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 9)
    for i in range(9):
        reply_simple(call.reply, XINFO_HELP[i])


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t[ROW_COUNT] ROWS
cdef command_spec_t[6] XGROUP
cdef command_spec_t[4] XINFO


cdef command_spec_t subcommand_row(const char *name, int arity, uint64_t flags, uint64_t key_flags,
                                   command_handler_t handler):
    """Of a subcommand with its key behind it."""
    cdef command_spec_t row = key_row(name, arity, flags, ACL_STREAM, key_flags, handler)
    row.first_key = 2
    row.last_key = 2
    return row


def register():
    """Registers the family's rows."""
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t help_flags = COMMAND_LOADING | COMMAND_STALE
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    XGROUP[0] = subcommand_row("xgroup|create", -5, grow, KEY_RW | KEY_INSERT, xgroup_create)
    XGROUP[1] = subcommand_row("xgroup|setid", -5, COMMAND_WRITE, KEY_RW | KEY_UPDATE, xgroup_setid)
    XGROUP[2] = subcommand_row("xgroup|destroy", 4, COMMAND_WRITE, KEY_RW | KEY_DELETE, xgroup_destroy)
    XGROUP[3] = subcommand_row("xgroup|createconsumer", 5, grow, KEY_RW | KEY_INSERT, xgroup_createconsumer)
    XGROUP[4] = subcommand_row("xgroup|delconsumer", 5, COMMAND_WRITE, KEY_RW | KEY_DELETE, xgroup_delconsumer)
    XGROUP[5] = connection_row("xgroup|help", 2, help_flags, ACL_STREAM, xgroup_help)
    XINFO[0] = subcommand_row("xinfo|consumers", 4, COMMAND_READONLY, look, xinfo_consumers)
    XINFO[1] = subcommand_row("xinfo|groups", 3, COMMAND_READONLY, look, xinfo_groups)
    XINFO[2] = subcommand_row("xinfo|stream", -3, COMMAND_READONLY, look, xinfo_stream)
    XINFO[3] = connection_row("xinfo|help", 2, help_flags, ACL_STREAM, xinfo_help)
    ROWS[0] = container_row("xgroup", -2, 0, 0, XGROUP, 6)
    ROWS[1] = container_row("xinfo", -2, 0, 0, XINFO, 4)
    register_commands(ROWS, ROW_COUNT)
