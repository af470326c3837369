"""ZRANGE in every form and its older sisters, ZRANGESTORE, ZCOUNT, ZLEXCOUNT, ZREMRANGEBY*.

All are one shape: two ends and options become a rank and a count (store/sorted_set), then members are walked.
Order of checks, replies and events as Redis 7.0.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.float_arguments cimport parse_score_limit
from dfly._core.commands.long_reads cimport long_read_begin, long_read_step, long_read_t, long_read_wanted
from dfly._core.commands.zsets cimport (ZSET_FOUND, ZSET_WRONG_TYPE, find_zset, find_zset_to_change, reply_zset_entry,
                                        reply_zset_header, zset_finish_removal, zset_limits_of, zset_long_argument,
                                        zset_lookup_read, zset_store)
from dfly._core.engine.command cimport (ACL_SORTEDSET, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY, COMMAND_WRITE,
                                        KEY_ACCESS, KEY_DELETE, KEY_OW, KEY_RO, KEY_RW, KEY_UPDATE, TRANSACTION_DONE,
                                        call_t, command_spec_t, key_row, register_commands, reply_syntax_error,
                                        reply_wrong_type, slice_equals, transaction_row, transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_ZSET, delete_key, drop_value, notify, purge_later,
                                         update_begin)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_first, slices_look, slices_next, slices_plan_t, slices_t,
                                       slices_work, work_goes_on, work_t)
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport reply_array, reply_error, reply_int, reply_t
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport TYPE_ZSET, object_set_container, object_t
from dfly._core.store.sorted_set cimport (zset_add, zset_bound_t, zset_count, zset_cursor_t, zset_entry_t,
                                          zset_limits_t, zset_next, zset_previous, zset_range_by_score,
                                          zset_range_by_text, zset_remove_range, zset_seek)
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


# ---- Ends --------------------------------------------------------------------------------------

cdef bint parse_score_end(slice_t text, zset_bound_t *out) noexcept nogil:
    out.exclusive = text.size > 0 and text.data[0] == c'('
    if out.exclusive:
        text.data += 1
        text.size -= 1
    return parse_score_limit(text, &out.score)


cdef bint parse_text_end(slice_t text, zset_bound_t *out) noexcept nogil:
    out.infinite = 0
    out.exclusive = False
    if text.size == 0:
        return False
    if text.data[0] == c'+' or text.data[0] == c'-':
        out.infinite = 1 if text.data[0] == c'+' else -1
        return text.size == 1 or text.data[1] == 0
    if text.data[0] != c'[' and text.data[0] != c'(':
        return False
    out.exclusive = text.data[0] == c'('
    out.text.data = text.data + 1
    out.text.size = text.size - 1
    return True


cdef bint parse_range_ends(reply_t *reply, slice_t low, slice_t high, zset_range_t *out) noexcept nogil:
    if out.kind == RANGE_RANK:
        return (zset_long_argument(reply, low.data, low.size, &out.start)
                and zset_long_argument(reply, high.data, high.size, &out.stop))
    if out.kind == RANGE_SCORE:
        if parse_score_end(low, &out.low) and parse_score_end(high, &out.high):
            return True
        reply_error(reply, "ERR min or max is not a float")
        return False
    if parse_text_end(low, &out.low) and parse_text_end(high, &out.high):
        return True
    reply_error(reply, "ERR min or max not valid string range item")
    return False


cdef bint parse_options(reply_t *reply, const slice_t *argv, uint32_t argc, uint32_t first, bint is_store,
                        bint has_direction, zset_range_t *out) noexcept nogil:
    """What follows the ends; kind and reverse hold what the command's name says."""
    cdef bint is_open = out.kind == RANGE_AUTO
    cdef uint32_t i = first
    while i < argc:
        if not is_store and slice_equals(argv[i], "withscores"):
            out.with_scores = True
        elif slice_equals(argv[i], "limit") and i + 2 < argc:
            if (not zset_long_argument(reply, argv[i + 1].data, argv[i + 1].size, &out.offset)
                    or not zset_long_argument(reply, argv[i + 2].data, argv[i + 2].size, &out.limit)):
                return False
            i += 2
        elif not has_direction and slice_equals(argv[i], "rev"):
            has_direction = True
            out.reverse = True
        elif is_open and out.kind == RANGE_AUTO and slice_equals(argv[i], "bylex"):
            out.kind = RANGE_TEXT
        elif is_open and out.kind == RANGE_AUTO and slice_equals(argv[i], "byscore"):
            out.kind = RANGE_SCORE
        else:
            reply_syntax_error(reply)
            return False
        i += 1
    if out.kind == RANGE_AUTO:
        out.kind = RANGE_RANK
    if out.limit != -1 and out.kind == RANGE_RANK:
        reply_error(reply, "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        return False
    if out.with_scores and out.kind == RANGE_TEXT:
        reply_error(reply, "ERR syntax error, WITHSCORES not supported in combination with BYLEX")
        return False
    return True


cdef bint parse_range(reply_t *reply, const slice_t *argv, uint32_t argc, uint32_t first, bint is_store,
                      bint has_direction, zset_range_t *out) noexcept nogil:
    """Ends at `first`, then options. Reverse ranges by score and text name their high end first."""
    cdef bint swapped
    out.with_scores = False
    out.offset = 0
    out.limit = -1
    if not parse_options(reply, argv, argc, first + 2, is_store, has_direction, out):
        return False
    swapped = out.reverse and out.kind != RANGE_RANK
    return parse_range_ends(reply, argv[first + swapped], argv[first + 1 - swapped], out)


cdef bint resolve_ranks(int64_t start, int64_t stop, uint64_t total, uint64_t *first, uint64_t *count) noexcept nogil:
    """Negative ones count from the end. False: there is nothing between them."""
    cdef int64_t length = <int64_t>total
    if start < 0:
        start += length
    if stop < 0:
        stop += length
    if start < 0:
        start = 0
    if start > stop or start >= length:
        return False
    if stop >= length:
        stop = length - 1
    first[0] = <uint64_t>start
    count[0] = <uint64_t>(stop - start + 1)
    return True


cdef void zset_resolve_range(const object_t *value, const zset_range_t *range, uint64_t *first,
                             uint64_t *count) noexcept nogil:
    cdef uint64_t total = zset_count(value)
    cdef uint64_t start = 0
    count[0] = 0
    if range.kind == RANGE_RANK:
        # Ranks of a reverse range are counted from the end already.
        if not resolve_ranks(range.start, range.stop, total, first, count):
            count[0] = 0
        elif range.reverse:
            first[0] = total - 1 - first[0]
        return
    if range.kind == RANGE_SCORE:
        zset_range_by_score(value, &range.low, &range.high, &start, count)
    else:
        zset_range_by_text(value, &range.low, &range.high, range.reverse, &start, count)
    if range.offset < 0 or <uint64_t>range.offset >= count[0]:
        count[0] = 0
        return
    first[0] = start + count[0] - 1 - range.offset if range.reverse else start + range.offset
    count[0] -= range.offset
    if range.limit >= 0 and <uint64_t>range.limit < count[0]:
        count[0] = <uint64_t>range.limit


# ---- Replies -----------------------------------------------------------------------------------

cdef void reply_range(reply_t *reply, const object_t *value, const zset_range_t *range, uint64_t first,
                      uint64_t count) noexcept nogil:
    cdef bint nested = range.with_scores and reply.resp == 3
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    reply_zset_header(reply, count, range.with_scores)
    if count == 0:
        return
    if range.reverse:
        zset_seek(value, first + 1, &cursor)
        while count > 0:
            zset_previous(&cursor, &entry)
            reply_zset_entry(reply, &entry, range.with_scores, nested)
            count -= 1
        return
    zset_seek(value, first, &cursor)
    while count > 0:
        zset_next(&cursor, &entry)
        reply_zset_entry(reply, &entry, range.with_scores, nested)
        count -= 1


cdef bint go_on_with_range(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef bint nested = read.what and tx.reply.resp == 3
    cdef zset_entry_t entry
    if not read.is_begun:
        reply_zset_header(&tx.reply, read.left, read.what)
        zset_seek(&read.value, read.first + read.is_backward, &read.cursor.scores)
    while read.left > 0 and work_goes_on(&read.work):
        if read.is_backward:
            zset_previous(&read.cursor.scores, &entry)
        else:
            zset_next(&read.cursor.scores, &entry)
        reply_zset_entry(&tx.reply, &entry, read.what, nested)
        read.left -= 1
    return read.left == 0


cdef void range_generic(call_t *call, range_kind_t kind, bint reverse, bint has_direction) noexcept nogil:
    cdef zset_range_t range
    cdef long_read_t *read
    cdef uint64_t first = 0
    cdef uint64_t count = 0
    cdef dash_ref_t ref
    cdef bint found
    range.kind = kind
    range.reverse = reverse
    if not parse_range(call.reply, call.argv, call.argc, 2, False, has_direction, &range):
        return
    if not find_zset(call, &ref, &found):
        return
    if not found:
        reply_array(call.reply, 0)
        return
    zset_resolve_range(&ref.entry.value, &range, &first, &count)
    if long_read_wanted(call, count):
        read = long_read_begin(call, &ref.entry.value, go_on_with_range)
        if read != NULL:
            read.first = first
            read.left = count
            read.what = range.with_scores
            read.is_backward = range.reverse
    else:
        reply_range(call.reply, &ref.entry.value, &range, first, count)


cdef void zrange_command(call_t *call) noexcept nogil:
    range_generic(call, RANGE_AUTO, False, False)


cdef void zrevrange_command(call_t *call) noexcept nogil:
    range_generic(call, RANGE_RANK, True, True)


cdef void zrangebyscore_command(call_t *call) noexcept nogil:
    range_generic(call, RANGE_SCORE, False, True)


cdef void zrevrangebyscore_command(call_t *call) noexcept nogil:
    range_generic(call, RANGE_SCORE, True, True)


cdef void zrangebylex_command(call_t *call) noexcept nogil:
    range_generic(call, RANGE_TEXT, False, True)


cdef void zrevrangebylex_command(call_t *call) noexcept nogil:
    range_generic(call, RANGE_TEXT, True, True)


# ---- ZCOUNT, ZLEXCOUNT -------------------------------------------------------------------------

cdef void init_range(zset_range_t *self, range_kind_t kind) noexcept nogil:
    self.kind = kind
    self.reverse = False
    self.with_scores = False
    self.offset = 0
    self.limit = -1


cdef void count_generic(call_t *call, range_kind_t kind) noexcept nogil:
    cdef zset_range_t range
    cdef uint64_t first = 0
    cdef uint64_t count = 0
    cdef dash_ref_t ref
    cdef bint found
    init_range(&range, kind)
    if not parse_range_ends(call.reply, call.argv[2], call.argv[3], &range) or not find_zset(call, &ref, &found):
        return
    if found:
        zset_resolve_range(&ref.entry.value, &range, &first, &count)
    reply_int(call.reply, <int64_t>count)


cdef void zcount_command(call_t *call) noexcept nogil:
    count_generic(call, RANGE_SCORE)


cdef void zlexcount_command(call_t *call) noexcept nogil:
    count_generic(call, RANGE_TEXT)


# ---- ZREMRANGEBY* ------------------------------------------------------------------------------

cdef void remove_generic(call_t *call, range_kind_t kind, const char *event) noexcept nogil:
    cdef zset_range_t range
    cdef uint64_t first = 0
    cdef uint64_t count = 0
    cdef dash_ref_t ref
    cdef bint found
    init_range(&range, kind)
    if (not parse_range_ends(call.reply, call.argv[2], call.argv[3], &range)
            or not find_zset_to_change(call, &ref, &found)):
        return
    if found:
        zset_resolve_range(&ref.entry.value, &range, &first, &count)
    if count > 0 and count == zset_count(&ref.entry.value):
        # All of it: the value goes as a whole, in slices if it is large.
        notify(&call.scope, &call.key, NOTIFY_ZSET, event)
        delete_key(&call.scope, &call.key, &ref, NOTIFY_GENERIC, "del")
    elif count > 0:
        update_begin(&call.scope, &ref)
        zset_remove_range(&ref.entry.value, first, count, <uint64_t>call.scope.shard.settings.slice_elements)
        purge_later(&call.scope, &call.key, &ref.entry.value)
        zset_finish_removal(&call.scope, &call.key, &ref, event)
    reply_int(call.reply, <int64_t>count)


cdef void zremrangebyrank_command(call_t *call) noexcept nogil:
    remove_generic(call, RANGE_RANK, "zremrangebyrank")


cdef void zremrangebyscore_command(call_t *call) noexcept nogil:
    remove_generic(call, RANGE_SCORE, "zremrangebyscore")


cdef void zremrangebylex_command(call_t *call) noexcept nogil:
    remove_generic(call, RANGE_TEXT, "zremrangebylex")


# ---- ZRANGESTORE -------------------------------------------------------------------------------

cdef struct job_t:
    # A ZRANGESTORE under way, in tx.state.
    slices_t slices
    work_t work
    object_t value               # the source, borrowed
    zset_cursor_t cursor
    uint64_t first
    uint64_t left
    object_t built
    zset_limits_t limits
    bint is_begun
    bint is_done


cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """The value is a borrowed copy: slices drop it with any change."""
    cdef scope_t scope
    cdef dash_ref_t ref
    if tx.key_shards[1] != shard.index:
        return
    transaction_scope(tx, shard, &scope)
    tx.results[1].number = zset_lookup_read(&scope, &tx.keys[1], &ref)
    if tx.results[1].number == ZSET_FOUND:
        tx.results[1].value = ref.entry.value


cdef void store_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef zset_entry_t entry
    cdef slice_t member
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    if not job.is_begun:
        job.is_begun = True
        job.limits = zset_limits_of(&scope)
        if job.left > 0:
            zset_seek(&job.value, job.first, &job.cursor)
    while job.left > 0 and work_goes_on(&job.work):
        zset_next(&job.cursor, &entry)
        member = list_item_text(&entry.member, scratch)
        zset_add(&job.built, member.data, member.size, entry.score, &job.limits)
        job.left -= 1
    if job.left > 0:
        return
    reply_int(&tx.reply, <int64_t>zset_count(&job.built))
    zset_store(&scope, &tx.keys[0], &job.built, "zrangestore")
    job.is_done = True


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    drop_value(&scope, &(<job_t *>tx.state).built)


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = store_hop
PLAN.drop = drop_hop


cdef bint parse_stored_range(transaction_t *tx, zset_range_t *range) noexcept nogil:
    range.kind = RANGE_AUTO
    range.reverse = False
    return parse_range(&tx.reply, tx.argv, tx.argc, 3, True, False, range)


cdef void begin_job(transaction_t *tx, const zset_range_t *range) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    if job == NULL:
        job = <job_t *>net_zalloc(sizeof(job_t))
        tx.state = job
    job.left = 0
    job.is_begun = False
    job.is_done = False
    object_set_container(&job.built, TYPE_ZSET, NULL)
    if tx.results[1].number != ZSET_FOUND:
        return
    job.value = tx.results[1].value
    zset_resolve_range(&job.value, range, &job.first, &job.left)
    if range.reverse and job.left > 0:
        job.first = job.first + 1 - job.left


cdef int zrangestore_step(transaction_t *tx) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef zset_range_t range
    if tx.stage == 0:
        return slices_look(tx, &PLAN) if parse_stored_range(tx, &range) else TRANSACTION_DONE
    if tx.stage == SLICES_LOOKED:
        if tx.results[1].number == ZSET_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return TRANSACTION_DONE
        # Once more: its texts lie in the arguments, which move when it waits.
        parse_stored_range(tx, &range)
        begin_job(tx, &range)
        job = <job_t *>tx.state
        return slices_first(&job.slices, tx, job.left, 1, &PLAN)
    return slices_next(&job.slices, tx, job.is_done, &PLAN)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 12

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t remove = KEY_RW | KEY_DELETE
    cdef int i
    rows[0] = key_row("zrange", -4, read, ACL_SORTEDSET, look, zrange_command)
    rows[1] = key_row("zrevrange", -4, read, ACL_SORTEDSET, look, zrevrange_command)
    rows[2] = key_row("zrangebyscore", -4, read, ACL_SORTEDSET, look, zrangebyscore_command)
    rows[3] = key_row("zrevrangebyscore", -4, read, ACL_SORTEDSET, look, zrevrangebyscore_command)
    rows[4] = key_row("zrangebylex", -4, read, ACL_SORTEDSET, look, zrangebylex_command)
    rows[5] = key_row("zrevrangebylex", -4, read, ACL_SORTEDSET, look, zrevrangebylex_command)
    for i in range(6):
        rows[i].step = long_read_step
    rows[6] = key_row("zcount", 4, read | COMMAND_FAST, ACL_SORTEDSET, look, zcount_command)
    rows[7] = key_row("zlexcount", 4, read | COMMAND_FAST, ACL_SORTEDSET, look, zlexcount_command)
    rows[8] = key_row("zremrangebyrank", 4, COMMAND_WRITE, ACL_SORTEDSET, remove, zremrangebyrank_command)
    rows[9] = key_row("zremrangebyscore", 4, COMMAND_WRITE, ACL_SORTEDSET, remove, zremrangebyscore_command)
    rows[10] = key_row("zremrangebylex", 4, COMMAND_WRITE, ACL_SORTEDSET, remove, zremrangebylex_command)
    rows[11] = transaction_row("zrangestore", -5, COMMAND_WRITE | COMMAND_DENYOOM, ACL_SORTEDSET, 1, 2, 1,
                               KEY_OW | KEY_UPDATE, zrangestore_step)
    register_commands(rows, ROW_COUNT)
