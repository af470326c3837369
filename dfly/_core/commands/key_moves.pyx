"""RENAME, RENAMENX and COPY: a value gets another key, maybe of another shard.

They look first, then take or copy, then put: up to three hops. COPY of much goes in slices (engine/slices): the copy is
built aside, and put when it is complete and the source has not changed meanwhile.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport (ACL_KEYSPACE, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_WRITE, KEY_ACCESS,
                                        KEY_DELETE, KEY_RO, KEY_RW, TRANSACTION_DONE, command_spec_t,
                                        register_commands, reply_not_integer, reply_syntax_error, slice_equals,
                                        transaction_row, transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, delete_key, drop_value, find_peek, find_read, find_write,
                                         get_deadline, insert_key, is_sticky, make_sticky, notify, purge_later,
                                         set_deadline, take_value, update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.engine.shard cimport scope_t, shard_database, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_first, slices_look, slices_next, slices_plan_t, slices_t,
                                       slices_work, work_goes_on, work_t)
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport reply_error, reply_int, reply_ok
from dfly._core.store.block_list cimport list_limits, list_limits_t
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_ref_t
from dfly._core.store.object cimport (TYPE_STREAM, object_dup, object_is_container, object_pointer, object_t,
                                      parse_int64)
from dfly._core.store.stream cimport stream_mark, stream_t
from dfly._core.store.value_copy cimport value_copy_begin, value_copy_step, value_copy_t, value_copy_weight
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

# ---- Hops --------------------------------------------------------------------------------------
# Key 0 is the source, key 1 the destination. numbers[0]: the value's deadline; numbers[1]: the
# destination's database (COPY); numbers[2]: COPY's REPLACE; numbers[3]: the source is sticky, and the destination too.

cdef enum:
    DEADLINE = 0
    TARGET_DATABASE = 1
    REPLACE = 2
    STICKY = 3


cdef void target_scope(transaction_t *tx, shard_t *shard, scope_t *scope) noexcept nogil:
    transaction_scope(tx, shard, scope)
    scope.database = shard_database(shard, <uint32_t>tx.numbers[TARGET_DATABASE])


cdef void look(transaction_t *tx, shard_t *shard, bint reads) noexcept nogil:
    """Which of source and destination exist. reads: the source stays (COPY), so hits and misses count."""
    cdef scope_t scope
    cdef dash_ref_t ref
    if tx.key_shards[0] == shard.index:
        transaction_scope(tx, shard, &scope)
        if reads:
            tx.results[0].flag = find_read(&scope, &tx.keys[0], &ref)
        else:
            tx.results[0].flag = find_write(&scope, &tx.keys[0], &ref)
        if reads and tx.results[0].flag:
            tx.results[0].number = <int64_t>value_copy_weight(&ref.entry.value)
    if tx.key_shards[1] == shard.index:
        target_scope(tx, shard, &scope)
        tx.results[1].flag = find_write(&scope, &tx.keys[1], &ref)


cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    look(tx, shard, False)


cdef void take_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    if not find_write(&scope, &tx.keys[0], &ref):
        return
    tx.numbers[DEADLINE] = get_deadline(&ref)
    tx.numbers[STICKY] = is_sticky(&ref)
    take_value(&scope, &tx.keys[0], &ref, &tx.results[0].value)
    tx.results[0].has_value = True


cdef void put_value(transaction_t *tx, shard_t *shard, const char *event,
                    const char *source_event) noexcept nogil:
    """Puts the taken or copied value at the destination, replacing what is there."""
    cdef scope_t scope
    cdef scope_t source
    cdef dash_ref_t ref
    target_scope(tx, shard, &scope)
    if find_write(&scope, &tx.keys[1], &ref):
        delete_key(&scope, &tx.keys[1], &ref, NOTIFY_GENERIC, NULL)
    insert_key(&scope, &tx.keys[1], &ref)
    ref.entry.value = tx.results[0].value
    tx.results[0].has_value = False
    if tx.numbers[DEADLINE] != DASH_NO_DEADLINE:
        set_deadline(&scope, &ref, tx.numbers[DEADLINE])
    if tx.numbers[STICKY]:
        make_sticky(&scope, &ref)
    members_track(&scope, &tx.keys[1], &ref.entry.value)
    purge_later(&scope, &tx.keys[1], &ref.entry.value)
    if source_event != NULL:
        # Redis' order of events: the new key, where it came from, where it went.
        transaction_scope(tx, tx.shards[tx.key_shards[0]], &source)
        notify(&source, &tx.keys[0], NOTIFY_GENERIC, source_event)
    update_end(&scope, &tx.keys[1], NOTIFY_GENERIC, event)


cdef void put_renamed_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    put_value(tx, shard, "rename_to", "rename_from")


cdef bint same_key(const transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    if tx.keys[0].size != tx.keys[1].size or tx.keys[0].hash != tx.keys[1].hash:
        return False
    for i in range(tx.keys[0].size):
        if tx.keys[0].data[i] != tx.keys[1].data[i]:
            return False
    return True


# ---- RENAME, RENAMENX --------------------------------------------------------------------------

cdef int rename_generic(transaction_t *tx, bint only_if_absent) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        tx.numbers[TARGET_DATABASE] = tx.caller.database_index
        return hop_on_keys(tx, look_hop)
    if tx.stage == 1:
        if not tx.results[0].flag:
            reply_error(&tx.reply, "ERR no such key")
            return TRANSACTION_DONE
        if same_key(tx) or (only_if_absent and tx.results[1].flag):
            if only_if_absent:
                reply_int(&tx.reply, 0)
            else:
                reply_ok(&tx.reply)
            return TRANSACTION_DONE
        tx.stage = 2
        return hop_on_shard(tx, tx.key_shards[0], take_hop)
    if tx.stage == 2:
        if not tx.results[0].has_value:
            # It expired, or another client took it, between the hops.
            reply_error(&tx.reply, "ERR no such key")
            return TRANSACTION_DONE
        tx.stage = 3
        return hop_on_shard(tx, tx.key_shards[1], put_renamed_hop)
    if only_if_absent:
        reply_int(&tx.reply, 1)
    else:
        reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int rename_step(transaction_t *tx) noexcept nogil:
    return rename_generic(tx, False)


cdef int renamenx_step(transaction_t *tx) noexcept nogil:
    return rename_generic(tx, True)


# ---- COPY --------------------------------------------------------------------------------------

cdef enum stage_t:
    # Behind those of slices.
    STAGE_LOOKED_AGAIN = 5
    STAGE_DROPPED = 6
    STAGE_PUT = 7

cdef struct copy_job_t:
    slices_t slices
    work_t work
    value_copy_t value
    uint64_t mark                # of a stream: WATCH does not see all changes of its groups
    bint is_begun
    bint is_done

cdef bint parse_copy(transaction_t *tx) noexcept nogil:
    cdef uint32_t i = 3
    cdef int64_t index = 0
    tx.numbers[TARGET_DATABASE] = tx.caller.database_index
    while i < tx.argc:
        if slice_equals(tx.argv[i], "replace"):
            tx.numbers[REPLACE] = 1
        elif slice_equals(tx.argv[i], "db") and i + 1 < tx.argc:
            i += 1
            if not parse_int64(tx.argv[i].data, tx.argv[i].size, &index) or index > 2147483647 \
                    or index < -2147483648:
                reply_not_integer(&tx.reply)
                return False
            if index < 0 or index >= <int64_t>tx.shards[0].settings.databases:
                reply_error(&tx.reply, "ERR DB index is out of range")
                return False
            tx.numbers[TARGET_DATABASE] = index
        else:
            reply_syntax_error(&tx.reply)
            return False
        i += 1
    if tx.numbers[TARGET_DATABASE] == tx.caller.database_index and same_key(tx):
        reply_error(&tx.reply, "ERR source and destination objects are the same")
        return False
    return True


cdef void look_copy_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    look(tx, shard, True)


cdef bint begin(copy_job_t *job, transaction_t *tx, scope_t *scope) noexcept nogil:
    cdef list_limits_t limits
    cdef dash_ref_t ref
    if not find_peek(scope, &tx.keys[0], &ref):
        return False
    tx.numbers[DEADLINE] = get_deadline(&ref)
    tx.numbers[STICKY] = is_sticky(&ref)
    if job.slices.listeners == NULL:
        # In one go, which costs less.
        object_dup(&ref.entry.value, &job.value.copy)
        job.is_done = True
    else:
        limits = list_limits(scope.shard.settings.list_max_listpack_size)
        value_copy_begin(&job.value, &ref.entry.value, &limits)
        job.mark = mark_of(&ref.entry.value)
    return True


cdef inline uint64_t mark_of(const object_t *value) noexcept nogil:
    if not object_is_container(value, TYPE_STREAM):
        return 0
    return stream_mark(<const stream_t *>object_pointer(value))


cdef void copy_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef copy_job_t *job = <copy_job_t *>tx.state
    cdef uint64_t budget
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    if not job.is_begun:
        job.is_begun = begin(job, tx, &scope)
        job.is_done = job.is_done or not job.is_begun
    elif mark_of(&job.value.source) != job.mark:
        job.slices.is_stale = True
        return
    while not job.is_done and work_goes_on(&job.work):
        budget = 1
        job.is_done = value_copy_step(&job.value, &budget)


cdef void drop_copy_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef copy_job_t *job = <copy_job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    if job.is_begun:
        drop_value(&scope, &job.value.copy)
        job.is_begun = False


cdef void begin_again_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    drop_copy_hop(tx, shard)
    # The look that ends counts.
    shard.stats.hits -= 1


cdef slices_plan_t PLAN
PLAN.look = look_copy_hop
PLAN.work = copy_hop
PLAN.drop = begin_again_hop


cdef void put_copied_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    tx.results[0].value = (<copy_job_t *>tx.state).value.copy
    put_value(tx, shard, "copy_to", NULL)


cdef int reply_none(transaction_t *tx) noexcept nogil:
    reply_int(&tx.reply, 0)
    return TRANSACTION_DONE


cdef bint is_in_the_way(const transaction_t *tx) noexcept nogil:
    return tx.results[1].flag and not tx.numbers[REPLACE]


cdef int copy_step(transaction_t *tx) noexcept nogil:
    cdef copy_job_t *job = <copy_job_t *>tx.state
    cdef int result
    if tx.stage == 0:
        return slices_look(tx, &PLAN) if parse_copy(tx) else TRANSACTION_DONE
    if tx.stage == SLICES_LOOKED:
        if not tx.results[0].flag or is_in_the_way(tx):
            return reply_none(tx)
        if job == NULL:
            job = <copy_job_t *>net_zalloc(sizeof(copy_job_t))
            tx.state = job
        job.is_done = False
        return slices_first(&job.slices, tx, <uint64_t>tx.results[0].number, 0, &PLAN)
    if tx.stage < STAGE_LOOKED_AGAIN:
        result = slices_next(&job.slices, tx, job.is_done, &PLAN)
        if result != TRANSACTION_DONE:
            return result
        if not job.is_begun:
            return reply_none(tx)
        tx.stage = STAGE_LOOKED_AGAIN
        if tx.numbers[TARGET_DATABASE] != tx.caller.database_index:
            # Nobody listened there.
            return hop_on_keys(tx, look_hop)
    if tx.stage == STAGE_LOOKED_AGAIN and is_in_the_way(tx):
        tx.stage = STAGE_DROPPED
        return hop_on_shard(tx, tx.key_shards[0], drop_copy_hop)
    if tx.stage == STAGE_LOOKED_AGAIN:
        tx.stage = STAGE_PUT
        return hop_on_shard(tx, tx.key_shards[1], put_copied_hop)
    reply_int(&tx.reply, tx.stage == STAGE_PUT)
    return TRANSACTION_DONE


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 3

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t take = KEY_RW | KEY_ACCESS | KEY_DELETE
    rows[0] = transaction_row("rename", 3, COMMAND_WRITE, ACL_KEYSPACE, 1, 2, 1, take, rename_step)
    rows[1] = transaction_row("renamenx", 3, COMMAND_WRITE | COMMAND_FAST, ACL_KEYSPACE, 1, 2, 1, take, renamenx_step)
    rows[2] = transaction_row("copy", -3, COMMAND_WRITE | COMMAND_DENYOOM, ACL_KEYSPACE, 1, 2, 1, KEY_RO | KEY_ACCESS,
                              copy_step)
    register_commands(rows, ROW_COUNT)
