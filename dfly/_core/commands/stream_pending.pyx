"""Changes of what was delivered and not acknowledged: XACK, XCLAIM; XDELEX and XACKDEL of Redis 8.2.

Order of checks, replies and events as Redis 7.0. Neither WATCH nor caches see a change of what is pending, as there;
they see entries that go.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.streams cimport (STREAM_FOUND, STREAM_WRONG_TYPE, find_group_to_change, parse_references,
                                          parse_stream_id, reply_entry, reply_names_error, reply_no_group,
                                          reply_stream_id, stream_lookup, stream_of, take_claimer)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_FAST, COMMAND_WRITE, KEY_DELETE, KEY_RW, KEY_UPDATE,
                                        call_t, command_spec_t, key_row, register_commands, reply_syntax_error,
                                        reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport NOTIFY_STREAM, update_begin, update_end, update_end_unseen, wake_waiters
from dfly._core.resp.reply cimport (reply_array, reply_defer_array, reply_error, reply_int, reply_set_deferred,
                                    reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport id_less, stream_id, stream_id_t
from dfly._core.store.object cimport parse_int64
from dfly._core.store.stream cimport (STREAM_DROP_REFERENCES, STREAM_KEEP_REFERENCES, STREAM_ONLY_ACKNOWLEDGED,
                                      stream_cursor_t, stream_delete, stream_has, stream_read_at, stream_references_t,
                                      stream_t)
from dfly._core.store.stream_groups cimport (pending_assign, pending_create, pending_date, pending_find,
                                             pending_remove, pending_t, stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_drop_references, stream_is_needed
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    IDS_ON_STACK = 16


cdef struct ids_t:
    # IDs from arguments, all of them checked before anything is done.
    stream_id_t on_stack[16]
    stream_id_t *ids


cdef bint ids_parse(ids_t *self, call_t *call, uint32_t first, uint32_t count) noexcept nogil:
    """False after an error reply. ids_free in any case."""
    cdef uint32_t i
    self.ids = self.on_stack
    if count > IDS_ON_STACK:
        self.ids = <stream_id_t *>net_alloc(count * sizeof(stream_id_t))
    for i in range(count):
        if not parse_stream_id(call.reply, call.argv[first + i], &self.ids[i], 0, True, NULL):
            return False
    return True


cdef void ids_free(ids_t *self) noexcept nogil:
    if self.ids != self.on_stack:
        net_free(self.ids)


# ---- XACK --------------------------------------------------------------------------------------

cdef void acknowledge(call_t *call, dash_ref_t *ref, stream_group_t *group, const ids_t *ids) noexcept nogil:
    cdef int64_t acknowledged = 0
    cdef uint32_t i
    update_begin(&call.scope, ref)
    for i in range(call.argc - 3):
        acknowledged += pending_remove(group, ids.ids[i])
    if acknowledged > 0:
        update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, NULL)
    reply_int(call.reply, acknowledged)


cdef void xack_command(call_t *call) noexcept nogil:
    cdef stream_group_t *group
    cdef dash_ref_t ref
    cdef ids_t ids
    if not find_group_to_change(call, &ref, &group):
        return
    if group == NULL:
        reply_int(call.reply, 0)
        return
    if ids_parse(&ids, call, 3, call.argc - 3):
        acknowledge(call, &ref, group, &ids)
    ids_free(&ids)


# ---- XCLAIM ------------------------------------------------------------------------------------

cdef struct claim_t:
    int64_t min_idle
    int64_t delivered_ms         # -1: now
    int64_t retry_count          # -1: one more
    bint force
    bint just_id
    stream_id_t last_id
    uint32_t id_count


cdef bint parse_claim_number(call_t *call, uint32_t i, const char *error, int64_t *out) noexcept nogil:
    if parse_int64(call.argv[i].data, call.argv[i].size, out):
        return True
    reply_error(call.reply, error)
    return False


cdef bint parse_claim_options(call_t *call, uint32_t i, claim_t *out) noexcept nogil:
    cdef slice_t word
    cdef slice_t nothing
    cdef bint more
    nothing.data = NULL
    nothing.size = 0
    while i < call.argc:
        word = call.argv[i]
        more = i + 1 < call.argc
        if slice_equals(word, "force"):
            out.force = True
        elif slice_equals(word, "justid"):
            out.just_id = True
        elif more and slice_equals(word, "idle"):
            i += 1
            if not parse_claim_number(call, i, "ERR Invalid IDLE option argument for XCLAIM", &out.delivered_ms):
                return False
            # It wraps around, as there.
            out.delivered_ms = <int64_t>(<uint64_t>call.scope.now_ms - <uint64_t>out.delivered_ms)
        elif more and slice_equals(word, "time"):
            i += 1
            if not parse_claim_number(call, i, "ERR Invalid TIME option argument for XCLAIM", &out.delivered_ms):
                return False
        elif more and slice_equals(word, "retrycount"):
            i += 1
            if not parse_claim_number(call, i, "ERR Invalid RETRYCOUNT option argument for XCLAIM",
                                      &out.retry_count):
                return False
        elif more and slice_equals(word, "lastid"):
            i += 1
            if not parse_stream_id(call.reply, call.argv[i], &out.last_id, 0, True, NULL):
                return False
        else:
            reply_names_error(call.reply, "ERR Unrecognized XCLAIM option '", word, "'", nothing, "")
            return False
        i += 1
    return True


cdef bint parse_claim(call_t *call, claim_t *out, ids_t *ids) noexcept nogil:
    cdef uint32_t i = 5
    out.delivered_ms = -1
    out.retry_count = -1
    out.force = False
    out.just_id = False
    out.last_id = stream_id(0, 0)
    if not parse_claim_number(call, 4, "ERR Invalid min-idle-time argument for XCLAIM", &out.min_idle):
        return False
    out.min_idle = max(out.min_idle, <int64_t>0)
    if call.argc > IDS_ON_STACK:
        ids.ids = <stream_id_t *>net_alloc(call.argc * sizeof(stream_id_t))
    while i < call.argc and parse_stream_id(NULL, call.argv[i], &ids.ids[i - 5], 0, True, NULL):
        i += 1
    out.id_count = i - 5
    if not parse_claim_options(call, i, out):
        return False
    # What lies in the future, or before all time, is now: clients do sums with their own clocks.
    if out.delivered_ms < 0 or out.delivered_ms > call.scope.now_ms:
        out.delivered_ms = call.scope.now_ms
    return True


cdef void reply_claimed(reply_t *reply, stream_cursor_t *cursor, bint just_id) noexcept nogil:
    """What it has read."""
    if just_id:
        reply_stream_id(reply, cursor.id)
    else:
        reply_entry(reply, cursor)


cdef bint claim_one(call_t *call, stream_cursor_t *cursor, const stream_t *stream, stream_group_t *group,
                    stream_consumer_t **consumer, stream_id_t id, const claim_t *claim) noexcept nogil:
    cdef pending_t *pending = pending_find(group, id)
    if not stream_read_at(stream, id, cursor):
        # What has been deleted can no longer be pending.
        if pending != NULL:
            pending_remove(group, id)
        return False
    if pending == NULL:
        if not claim.force:
            return False
        pending = pending_create(group, id, call.scope.now_ms, 1)
    elif claim.min_idle > 0 and call.scope.now_ms - pending.delivered_ms < claim.min_idle:
        return False
    pending_date(group, pending, claim.delivered_ms)
    if claim.retry_count >= 0:
        pending.deliveries = <uint64_t>claim.retry_count
    elif not claim.just_id:
        pending.deliveries += 1
    if consumer[0] == NULL:
        consumer[0] = take_claimer(&call.scope, &call.key, group, call.argv[3])
    pending_assign(pending, id, consumer[0])
    reply_claimed(call.reply, cursor, claim.just_id)
    return True


cdef void claim_all(call_t *call, dash_ref_t *ref, stream_group_t *group, const claim_t *claim,
                    const ids_t *ids) noexcept nogil:
    cdef stream_consumer_t *consumer = NULL
    cdef stream_cursor_t cursor
    cdef uint64_t claimed = 0
    cdef size_t mark
    cdef uint32_t i
    cursor.stream = NULL
    update_begin(&call.scope, ref)
    if id_less(group.last_id, claim.last_id):
        group.last_id = claim.last_id
    mark = reply_defer_array(call.reply)
    for i in range(claim.id_count):
        claimed += claim_one(call, &cursor, stream_of(ref), group, &consumer, ids.ids[i], claim)
    reply_set_deferred(call.reply, mark, c'*', claimed)
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, NULL)
    # What is idle now may be what a reader with CLAIM waits for.
    if claimed > 0:
        wake_waiters(&call.scope, &call.key)


cdef void xclaim_command(call_t *call) noexcept nogil:
    cdef stream_group_t *group
    cdef dash_ref_t ref
    cdef claim_t claim
    cdef ids_t ids
    if not find_group_to_change(call, &ref, &group):
        return
    if group == NULL:
        reply_no_group(call)
        return
    ids.ids = ids.on_stack
    if parse_claim(call, &claim, &ids):
        claim_all(call, &ref, group, &claim, &ids)
    ids_free(&ids)


# ---- XDELEX, XACKDEL ---------------------------------------------------------------------------

cdef enum deletion_t:
    ID_UNKNOWN = -1
    ID_DELETED = 1
    ID_NEEDED = 2


cdef bint parse_deletion_ids(call_t *call, uint32_t i, uint32_t *first, uint32_t *count) noexcept nogil:
    """numids id ..."""
    cdef int64_t number = 0
    if not parse_int64(call.argv[i].data, call.argv[i].size, &number) or number <= 0:
        reply_error(call.reply, "ERR Number of IDs must be a positive integer")
        return False
    if number > <int64_t>(call.argc - i - 1):
        reply_error(call.reply, "ERR The `numids` parameter must match the number of arguments")
        return False
    first[0] = i + 1
    count[0] = <uint32_t>number
    return True


cdef bint parse_deletion(call_t *call, uint32_t i, stream_references_t *references, uint32_t *first,
                         uint32_t *count) noexcept nogil:
    """KEEPREF, DELREF or ACKED, and IDS numids id ..., in either order."""
    cdef bint has_references = False
    references[0] = STREAM_KEEP_REFERENCES
    first[0] = 0
    while i < call.argc:
        if i + 1 < call.argc and slice_equals(call.argv[i], "ids"):
            if not parse_deletion_ids(call, i + 1, first, count):
                return False
            i = first[0] + count[0]
            continue
        if has_references or not parse_references(call.argv[i], references):
            reply_syntax_error(call.reply)
            return False
        has_references = True
        i += 1
    if first[0] == 0:
        reply_error(call.reply, "ERR IDS option is required")
        return False
    return True


cdef int delete_one(stream_t *stream, stream_id_t id, stream_references_t references) noexcept nogil:
    if not stream_has(stream, id):
        if references == STREAM_DROP_REFERENCES:
            stream_drop_references(stream, id)
        return ID_UNKNOWN
    if references == STREAM_ONLY_ACKNOWLEDGED and stream_is_needed(stream, id):
        return ID_NEEDED
    stream_delete(stream, id)
    if references == STREAM_DROP_REFERENCES:
        stream_drop_references(stream, id)
    return ID_DELETED


cdef void reply_unknown(call_t *call, uint32_t count) noexcept nogil:
    reply_array(call.reply, count)
    while count > 0:
        reply_int(call.reply, ID_UNKNOWN)
        count -= 1


cdef void delete_all(call_t *call, dash_ref_t *ref, stream_group_t *group, stream_references_t references,
                     const stream_id_t *ids, uint32_t count) noexcept nogil:
    """group NULL: XDELEX; else only what is pending there, and acknowledged now, may go."""
    cdef stream_t *stream = stream_of(ref)
    cdef uint64_t deleted = 0
    cdef uint32_t i
    cdef int result
    update_begin(&call.scope, ref)
    reply_array(call.reply, count)
    for i in range(count):
        result = ID_UNKNOWN
        if group == NULL:
            result = delete_one(stream, ids[i], references)
        elif pending_remove(group, ids[i]):
            result = delete_one(stream, ids[i], references)
            # Acknowledged it is, whether or not the entry was still there.
            if result == ID_UNKNOWN:
                result = ID_DELETED
        deleted += result == ID_DELETED
        reply_int(call.reply, result)
    if deleted > 0:
        update_end(&call.scope, &call.key, NOTIFY_STREAM, "xdel")
    else:
        update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, NULL)


cdef void xdelex_command(call_t *call) noexcept nogil:
    cdef stream_references_t references
    cdef dash_ref_t ref
    cdef uint32_t first
    cdef uint32_t count
    cdef int result
    cdef ids_t ids
    result = stream_lookup(&call.scope, &call.key, &ref)
    if result == STREAM_WRONG_TYPE:
        reply_wrong_type(call.reply)
        return
    if not parse_deletion(call, 2, &references, &first, &count):
        return
    if ids_parse(&ids, call, first, count):
        if result == STREAM_FOUND:
            delete_all(call, &ref, NULL, references, ids.ids, count)
        else:
            reply_unknown(call, count)
    ids_free(&ids)


cdef void xackdel_command(call_t *call) noexcept nogil:
    cdef stream_references_t references
    cdef stream_group_t *group
    cdef dash_ref_t ref
    cdef uint32_t first
    cdef uint32_t count
    cdef ids_t ids
    if not find_group_to_change(call, &ref, &group) or not parse_deletion(call, 3, &references, &first, &count):
        return
    if ids_parse(&ids, call, first, count):
        if group != NULL:
            delete_all(call, &ref, group, references, ids.ids, count)
        else:
            reply_unknown(call, count)
    ids_free(&ids)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 4

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t quick = COMMAND_WRITE | COMMAND_FAST
    rows[0] = key_row("xack", -4, quick, ACL_STREAM, KEY_RW | KEY_UPDATE, xack_command)
    rows[1] = key_row("xclaim", -6, quick, ACL_STREAM, KEY_RW | KEY_UPDATE, xclaim_command)
    rows[2] = key_row("xdelex", -5, quick, ACL_STREAM, KEY_RW | KEY_DELETE, xdelex_command)
    rows[3] = key_row("xackdel", -6, quick, ACL_STREAM, KEY_RW | KEY_DELETE, xackdel_command)
    register_commands(rows, ROW_COUNT)
