"""XPENDING: what was delivered and not acknowledged; long lists in slices.

What is pending changes without WATCH seeing it, so a list in slices looks at its group's count of changes before each
one. Order of checks and replies as Redis 7.0.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.long_reads cimport long_read_begin, long_read_step, long_read_t, long_read_wanted
from dfly._core.commands.streams cimport (find_stream, parse_integer, parse_range_end, parse_range_start,
                                          reply_no_group, reply_stream_id, stream_of)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_READONLY, KEY_ACCESS, KEY_RO, call_t, command_spec_t,
                                        key_row, register_commands, reply_syntax_error, slice_equals,
                                        transaction_t)
from dfly._core.engine.slices cimport work_all, work_goes_on, work_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_chain_header, reply_defer_array,
                                    reply_int, reply_null, reply_null_array, reply_set_deferred, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport (id_ceiling, id_first, id_index_t, id_last_slot, id_less, id_next, id_place_t,
                                        id_slot, stream_id_t)
from dfly._core.store.object cimport TYPE_STREAM, object_is_container, object_pointer, object_t
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport (consumer_at, consumer_find, group_find, group_settle, name_of, pending_t,
                                             stream_consumer_t, stream_group_t)
from dfly._core.sys.alloc cimport net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef struct pending_range_t:
    int64_t count                # at most
    int64_t min_idle             # ms
    stream_id_t start
    stream_id_t end
    uint32_t consumer            # where its name is in argv; 0: of all

cdef struct pending_list_t:
    # read.extra: a list in slices. What it borrows is there as long as the group has not changed.
    const stream_group_t *group
    const id_index_t *entries
    uint64_t changes             # of the group
    pending_range_t range        # what is left of it
    int64_t now_ms
    uint64_t written


cdef bint parse_pending_range(call_t *call, pending_range_t *out) noexcept nogil:
    cdef uint32_t i = 3
    out.min_idle = 0
    if slice_equals(call.argv[3], "idle"):
        if not parse_integer(call.reply, call.argv[4], &out.min_idle):
            return False
        if call.argc < 8:
            reply_syntax_error(call.reply)
            return False
        i = 5
    if not parse_integer(call.reply, call.argv[i + 2], &out.count):
        return False
    out.count = max(out.count, <int64_t>0)
    if not parse_range_start(call.reply, call.argv[i], &out.start):
        return False
    if not parse_range_end(call.reply, call.argv[i + 1], &out.end):
        return False
    out.consumer = i + 3 if i + 3 < call.argc else 0
    return True


cdef void reply_summary(reply_t *reply, const stream_group_t *group) noexcept nogil:
    cdef const stream_consumer_t *consumer
    cdef uint64_t written = 0
    cdef id_place_t place
    cdef slice_t name
    cdef size_t mark
    cdef uint32_t i
    reply_array(reply, 4)
    reply_int(reply, <int64_t>group.pending.count)
    if not id_first(&group.pending, &place):
        reply_null(reply)
        reply_null(reply)
        reply_null_array(reply)
        return
    reply_stream_id(reply, id_slot(&group.pending, place).id)
    reply_stream_id(reply, id_last_slot(&group.pending).id)
    mark = reply_defer_array(reply)
    for i in range(group.consumers.count):
        consumer = consumer_at(group, i)
        if consumer.pending.count > 0:
            name = name_of(consumer)
            reply_array(reply, 2)
            reply_bulk(reply, name.data, name.size)
            reply_bulk_int(reply, <int64_t>consumer.pending.count)
            written += 1
    reply_set_deferred(reply, mark, c'*', written)


# ---- A list ------------------------------------------------------------------------------------

cdef bint reply_pending_entry(reply_t *reply, const pending_t *pending, const pending_range_t *range,
                              int64_t now_ms) noexcept nogil:
    """False: it has not been pending for so long."""
    cdef slice_t name
    if range.min_idle != 0 and now_ms - pending.delivered_ms < range.min_idle:
        return False
    name = name_of(pending.consumer)
    reply_array(reply, 4)
    reply_stream_id(reply, pending.id)
    reply_bulk(reply, name.data, name.size)
    reply_int(reply, max(now_ms - pending.delivered_ms, <int64_t>0))
    reply_int(reply, <int64_t>pending.deliveries)
    return True


cdef bint reply_pending(pending_list_t *self, work_t *work, reply_t *reply) noexcept nogil:
    """Goes on while there is work to be had; True: that was all."""
    cdef const pending_t *pending
    cdef id_place_t place
    cdef bint more = id_ceiling(self.entries, self.range.start, &place)
    while more and self.range.count > 0:
        pending = <const pending_t *>id_slot(self.entries, place).value
        if id_less(self.range.end, pending.id):
            return True
        if not work_goes_on(work):
            self.range.start = pending.id
            return False
        if reply_pending_entry(reply, pending, &self.range, self.now_ms):
            self.written += 1
            self.range.count -= 1
        more = id_next(self.entries, &place)
    return True


cdef bint go_on_with_pending(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef pending_list_t *self = <pending_list_t *>read.extra
    if not reply_pending(self, &read.work, &tx.reply):
        return False
    reply_chain_header(&tx.chain, &tx.reply, c'*', self.written)
    return True


cdef bint is_unchanged(const long_read_t *read, const object_t *value) noexcept nogil:
    cdef const pending_list_t *self = <const pending_list_t *>read.extra
    cdef const stream_t *stream
    cdef uint32_t i
    if not object_is_container(value, TYPE_STREAM):
        return False
    stream = <const stream_t *>object_pointer(value)
    for i in range(stream.groups.count):
        if <const stream_group_t *>stream.groups.members[i] == self.group:
            return self.group.changes == self.changes
    return False


cdef bint is_long(const call_t *call, const id_index_t *entries, const pending_range_t *range) noexcept nogil:
    """Of those that have not been pending for so long many may be passed over."""
    return range.count > 0 and long_read_wanted(call, entries.count if range.min_idle > 0
                                                else min(entries.count, <uint64_t>range.count))


cdef void list_pending(call_t *call, const object_t *value, const stream_group_t *group, const id_index_t *entries,
                       const pending_range_t *range) noexcept nogil:
    cdef pending_list_t pending
    cdef long_read_t *read
    cdef work_t work
    cdef size_t mark
    pending.group = group
    pending.entries = entries
    pending.changes = group.changes
    pending.range = range[0]
    pending.now_ms = call.scope.now_ms
    pending.written = 0
    if not is_long(call, entries, range):
        mark = reply_defer_array(call.reply)
        work_all(&work)
        reply_pending(&pending, &work, call.reply)
        reply_set_deferred(call.reply, mark, c'*', pending.written)
        return
    read = long_read_begin(call, value, go_on_with_pending)
    if read != NULL:
        read.extra = net_realloc(read.extra, sizeof(pending_list_t))
        (<pending_list_t *>read.extra)[0] = pending
        read.still = is_unchanged
        read.is_unseen = True


# ---- The command -------------------------------------------------------------------------------

cdef void xpending_command(call_t *call) noexcept nogil:
    cdef const stream_consumer_t *consumer
    cdef stream_group_t *group = NULL
    cdef pending_range_t range
    cdef dash_ref_t ref
    cdef bint found
    if call.argc != 3 and (call.argc < 6 or call.argc > 9):
        reply_syntax_error(call.reply)
        return
    if call.argc > 3 and not parse_pending_range(call, &range):
        return
    if not find_stream(call, &ref, &found):
        return
    if found:
        group = group_find(&stream_of(&ref).groups, call.argv[2])
    if group != NULL:
        group_settle(group)
    if group == NULL:
        reply_no_group(call)
    elif call.argc == 3:
        reply_summary(call.reply, group)
    elif range.consumer == 0:
        list_pending(call, &ref.entry.value, group, &group.pending, &range)
    else:
        consumer = consumer_find(group, call.argv[range.consumer])
        if consumer == NULL:
            reply_array(call.reply, 0)
        else:
            list_pending(call, &ref.entry.value, group, &consumer.pending, &range)


# ---- Rows --------------------------------------------------------------------------------------

cdef command_spec_t row


def register():
    """Registers the family's row."""
    global row
    row = key_row("xpending", -3, COMMAND_READONLY, ACL_STREAM, KEY_RO | KEY_ACCESS, xpending_command)
    row.step = long_read_step
    register_commands(&row, 1)
