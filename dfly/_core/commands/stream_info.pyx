"""XINFO: streams, their groups and consumers from outside; FULL of many entries in slices.

What is pending changes without WATCH seeing it, so FULL in slices looks at all that it shows before each one. Order of
checks and replies as Redis 7.0; the fields "inactive" and "active-time" of consumers as 7.2.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.long_reads cimport (long_read_at_once, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted)
from dfly._core.commands.streams cimport (find_stream, parse_integer, reply_entry, reply_names_error, reply_stream_id,
                                          stream_of, stream_subcommand_row)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_LOADING, COMMAND_READONLY, COMMAND_STALE, KEY_ACCESS,
                                        KEY_RO, call_t, command_spec_t, connection_row, container_row,
                                        register_commands, reply_subcommand_syntax, slice_equals, transaction_t)
from dfly._core.engine.slices cimport work_goes_on, work_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_text, reply_error, reply_int, reply_map,
                                    reply_null, reply_simple, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport (id_ceiling, id_increment, id_index_t, id_next, id_place_t, id_slot, stream_id,
                                        stream_id_t)
from dfly._core.store.object cimport TYPE_STREAM, object_is_container, object_pointer, object_t
from dfly._core.store.stream cimport (stream_cursor_t, stream_read_next, stream_read_previous, stream_seek,
                                      stream_seek_back, stream_t, stream_tree_nodes)
from dfly._core.store.stream_groups cimport (ENTRIES_READ_UNKNOWN, consumer_at, group_at, group_find,
                                             group_pending_count, group_settle, name_of, pending_t,
                                             stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_lag
from dfly._core.sys.alloc cimport net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    FULL_COUNT = 10              # entries, and pending ones of each list, that FULL shows

cdef enum full_phase_t:
    FULL_HEAD = 0
    FULL_ENTRIES = 1
    FULL_GROUP = 2               # the next one, if there is one
    FULL_GROUP_PENDING = 3
    FULL_CONSUMER = 4            # of this group, the next one
    FULL_CONSUMER_PENDING = 5

cdef struct full_t:
    # How far FULL is.
    full_phase_t phase
    uint64_t most                # entries of each list
    uint32_t group
    uint32_t consumer
    uint64_t left                # of the list that is being shown
    stream_id_t next             # in it
    uint64_t stamp               # of all that there is to show


# ---- Fields ------------------------------------------------------------------------------------

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


# ---- Groups and consumers ----------------------------------------------------------------------

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
        reply_field_int(call.reply, "pending", <int64_t>group_pending_count(group))
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


# ---- FULL --------------------------------------------------------------------------------------

cdef void reply_general(reply_t *reply, const stream_t *stream) noexcept nogil:
    reply_field_int(reply, "length", <int64_t>stream.length)
    reply_field_int(reply, "radix-tree-keys", <int64_t>stream.blocks.count)
    reply_field_int(reply, "radix-tree-nodes", <int64_t>stream_tree_nodes(stream))
    reply_field_id(reply, "last-generated-id", stream.last_id)
    reply_field_id(reply, "max-deleted-entry-id", stream.max_deleted_id)
    reply_field_int(reply, "entries-added", <int64_t>stream.entries_added)
    reply_field_id(reply, "recorded-first-entry-id", stream.first_id)


cdef void begin_list(full_t *self, reply_t *reply, const char *name, uint64_t count, full_phase_t phase) noexcept nogil:
    self.left = min(count, self.most)
    self.next = stream_id(0, 0)
    self.phase = phase
    reply_bulk_text(reply, name)
    reply_array(reply, self.left)


cdef bint reply_entries(full_t *self, work_t *work, reply_t *reply, const stream_t *stream) noexcept nogil:
    cdef stream_cursor_t cursor
    stream_seek(stream, self.next, &cursor)
    while self.left > 0:
        if not work_goes_on(work):
            return False
        stream_read_next(&cursor)
        reply_entry(reply, &cursor)
        self.next = cursor.id
        id_increment(&self.next)
        self.left -= 1
    return True


cdef bint reply_pending(full_t *self, work_t *work, reply_t *reply, const id_index_t *entries,
                        bint with_consumer) noexcept nogil:
    cdef const pending_t *pending
    cdef id_place_t place
    cdef slice_t name
    if self.left > 0:
        id_ceiling(entries, self.next, &place)
    while self.left > 0:
        pending = <const pending_t *>id_slot(entries, place).value
        self.next = pending.id
        if not work_goes_on(work):
            return False
        reply_array(reply, 4 if with_consumer else 3)
        reply_stream_id(reply, pending.id)
        if with_consumer:
            name = name_of(pending.consumer)
            reply_bulk(reply, name.data, name.size)
        reply_int(reply, pending.delivered_ms)
        reply_int(reply, <int64_t>pending.deliveries)
        self.left -= 1
        id_next(entries, &place)
    return True


cdef void begin_group(full_t *self, reply_t *reply, const stream_t *stream, const stream_group_t *group) noexcept nogil:
    reply_map(reply, 7)
    reply_field_name(reply, group)
    reply_field_id(reply, "last-delivered-id", group.last_id)
    reply_progress(reply, stream, group)
    reply_field_int(reply, "pel-count", <int64_t>group.pending.count)
    begin_list(self, reply, "pending", group.pending.count, FULL_GROUP_PENDING)


cdef void begin_consumer(full_t *self, reply_t *reply, const stream_consumer_t *consumer) noexcept nogil:
    reply_map(reply, 5)
    reply_field_name(reply, consumer)
    reply_field_int(reply, "seen-time", consumer.seen_ms)
    reply_field_int(reply, "active-time", consumer.active_ms)
    reply_field_int(reply, "pel-count", <int64_t>consumer.pending.count)
    begin_list(self, reply, "pending", consumer.pending.count, FULL_CONSUMER_PENDING)


cdef bint reply_full(full_t *self, work_t *work, reply_t *reply, const stream_t *stream) noexcept nogil:
    """Goes on while there is work to be had; True: that was all."""
    cdef const stream_group_t *group = NULL
    while True:
        if self.phase > FULL_GROUP:
            group = group_at(&stream.groups, self.group)
        if self.phase == FULL_HEAD:
            reply_map(reply, 9)
            reply_general(reply, stream)
            begin_list(self, reply, "entries", stream.length, FULL_ENTRIES)
        elif self.phase == FULL_ENTRIES:
            if not reply_entries(self, work, reply, stream):
                return False
            reply_bulk_text(reply, "groups")
            reply_array(reply, stream.groups.count)
            self.group = 0
            self.phase = FULL_GROUP
        elif self.phase == FULL_GROUP:
            if self.group == stream.groups.count:
                return True
            if not work_goes_on(work):
                return False
            begin_group(self, reply, stream, group_at(&stream.groups, self.group))
        elif self.phase == FULL_GROUP_PENDING:
            if not reply_pending(self, work, reply, &group.pending, True):
                return False
            reply_bulk_text(reply, "consumers")
            reply_array(reply, group.consumers.count)
            self.consumer = 0
            self.phase = FULL_CONSUMER
        elif self.phase == FULL_CONSUMER:
            if self.consumer == group.consumers.count:
                self.group += 1
                self.phase = FULL_GROUP
                continue
            if not work_goes_on(work):
                return False
            begin_consumer(self, reply, consumer_at(group, self.consumer))
        else:
            if not reply_pending(self, work, reply, &consumer_at(group, self.consumer).pending, False):
                return False
            self.consumer += 1
            self.phase = FULL_CONSUMER


# ---- FULL in slices ----------------------------------------------------------------------------

cdef inline uint64_t mixed(uint64_t stamp, uint64_t value) noexcept nogil:
    """FNV's step (RFC 9923), for words."""
    return (stamp ^ value) * <uint64_t>0x100000001b3


cdef uint64_t stamp_of(const stream_t *stream) noexcept nogil:
    """Another one as soon as something changes that FULL shows."""
    cdef const stream_group_t *group
    cdef uint64_t stamp = mixed(<uint64_t>0xcbf29ce484222325, <uint64_t><size_t>stream)
    cdef uint32_t i
    stamp = mixed(mixed(stamp, stream.length), stream.epoch)
    stamp = mixed(mixed(stamp, stream.entries_added), stream.groups.count)
    stamp = mixed(mixed(stamp, stream.last_id.ms), stream.last_id.seq)
    stamp = mixed(mixed(stamp, stream.first_id.ms), stream.first_id.seq)
    stamp = mixed(mixed(stamp, stream.max_deleted_id.ms), stream.max_deleted_id.seq)
    for i in range(stream.groups.count):
        group = group_at(&stream.groups, i)
        stamp = mixed(mixed(stamp, <uint64_t><size_t>group), group.changes)
        stamp = mixed(mixed(stamp, group.last_id.ms), group.last_id.seq)
        stamp = mixed(stamp, <uint64_t>group.entries_read)
    return stamp


cdef bint is_unchanged(const long_read_t *read, const object_t *value) noexcept nogil:
    return (object_is_container(value, TYPE_STREAM)
            and stamp_of(<const stream_t *>object_pointer(value)) == (<const full_t *>read.extra).stamp)


cdef bint go_on_with_full(long_read_t *read, transaction_t *tx) noexcept nogil:
    return reply_full(<full_t *>read.extra, &read.work, &tx.reply, <const stream_t *>object_pointer(&read.value))


cdef uint64_t shown(const stream_t *stream, uint64_t most) noexcept nogil:
    """At most so many entries and consumers."""
    cdef uint64_t total = min(most, stream.length)
    cdef uint64_t consumers
    cdef uint64_t pending
    cdef uint32_t i
    for i in range(stream.groups.count):
        pending = group_at(&stream.groups, i).pending.count
        consumers = group_at(&stream.groups, i).consumers.count
        total += min(most, pending) + consumers
        # Each that is pending is its consumer's too.
        total += pending if consumers > pending // most else min(pending, most * consumers)
    return total


cdef void show_full(call_t *call, const object_t *value, uint64_t most) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef long_read_t at_once
    cdef long_read_t *read
    cdef full_t full
    cdef uint32_t i
    for i in range(stream.groups.count):
        group_settle(group_at(&stream.groups, i))
    full.phase = FULL_HEAD
    full.most = most
    if not long_read_wanted(call, shown(stream, most)):
        long_read_at_once(&at_once, value)
        reply_full(&full, &at_once.work, call.reply, stream)
        return
    read = long_read_begin(call, value, go_on_with_full)
    if read != NULL:
        full.stamp = stamp_of(stream)
        read.extra = net_realloc(read.extra, sizeof(full_t))
        (<full_t *>read.extra)[0] = full
        read.still = is_unchanged
        read.is_unseen = True


# ---- XINFO STREAM ------------------------------------------------------------------------------

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
    """count 0: all."""
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
    cdef const stream_t *stream
    cdef dash_ref_t ref
    cdef int64_t count
    cdef bint full
    if not find_existing(call, &ref) or not parse_full(call, &full, &count):
        return
    if full:
        show_full(call, &ref.entry.value, <uint64_t>count if count > 0 else <uint64_t>-1)
        return
    stream = stream_of(&ref)
    reply_map(call.reply, 10)
    reply_general(call.reply, stream)
    reply_field_int(call.reply, "groups", stream.groups.count)
    reply_ends(call.reply, stream)


# ---- HELP --------------------------------------------------------------------------------------

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


cdef void xinfo_help(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 9)
    for i in range(9):
        reply_simple(call.reply, XINFO_HELP[i])


# ---- Rows --------------------------------------------------------------------------------------

cdef command_spec_t row
cdef command_spec_t[4] XINFO


def register():
    """Registers the family's row."""
    global row
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    XINFO[0] = stream_subcommand_row("xinfo|consumers", 4, COMMAND_READONLY, look, xinfo_consumers)
    XINFO[1] = stream_subcommand_row("xinfo|groups", 3, COMMAND_READONLY, look, xinfo_groups)
    XINFO[2] = stream_subcommand_row("xinfo|stream", -3, COMMAND_READONLY, look, xinfo_stream)
    XINFO[2].step = long_read_step
    XINFO[3] = connection_row("xinfo|help", 2, COMMAND_LOADING | COMMAND_STALE, ACL_STREAM, xinfo_help)
    row = container_row("xinfo", -2, 0, 0, XINFO, 4)
    register_commands(&row, 1)
