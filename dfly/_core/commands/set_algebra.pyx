"""Set commands over several keys: SMOVE, and SINTER, SUNION, SDIFF with their STORE forms and SINTERCARD.

The tokens of all shards concerned are held from the first step to the last. So one hop over the shards looks the
sources up (and removes members that are due), and then their sets are read in place, wherever they lie: nothing
can change them. The result is built by a hop on the shard that keeps it. It is complete before the destination
changes, which may be one of the sources. Where there are many members all that goes in slices (engine/slices).
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp

from dfly._core.commands.sets cimport (SET_ABSENT, SET_FOUND, SET_WRONG_TYPE, reply_member, set_finish_removal,
                                       set_limits_of, set_lookup_read, set_lookup_write,
                                       smembers_command)
from dfly._core.commands.strings cimport overwrite_key
from dfly._core.engine.command cimport (ACL_SET, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_MOVABLE_KEYS,
                                        COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_OW, KEY_RO,
                                        KEY_RW, KEY_UPDATE, TRANSACTION_DONE, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_SET, delete_key, drop_value, find_write, insert_key,
                                         update_begin, update_end)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_first, slices_look, slices_next, slices_plan_t, slices_t,
                                       slices_work, work_goes_on, work_t)
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport reply_chain_header, reply_error, reply_int, reply_set, reply_t
from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.member_set cimport (set_add, set_add_item, set_add_new_item, set_begin, set_contains,
                                          set_contains_item, set_count, set_cursor_t, set_limits_t, set_next,
                                          set_remove, set_remove_item)
from dfly._core.store.object cimport TYPE_SET, object_set_container, object_t, parse_int64
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    FIRST_SOURCE = 0             # 1 behind a destination
    OPERATION = 1
    LIMIT = 2                    # of SINTERCARD, 0: none
    RESULT = 3

cdef enum:
    ASKED_A_MEMBER = 3           # sets that are asked for it in the time that a new one takes it in

cdef enum operation_t:
    INTERSECTION = 0
    UNION = 1
    DIFFERENCE = 2

cdef enum step_t:
    STEP_START = 0
    STEP_LOOKED = 1              # of SMOVE, like the next
    STEP_REMOVED = 2
    STEP_ADDED = 3

cdef enum result_t:
    # What becomes of the members.
    RESULT_REPLIED = 0
    RESULT_STORED = 1            # under the first key
    RESULT_COUNTED = 2

cdef struct source_t:
    const object_t *value        # NULL: no such key
    uint64_t count

cdef struct job_t:
    # A command under way, in tx.state: what it asks for, and how far it is. Its sources lie behind it.
    slices_t slices
    work_t work
    operation_t operation
    result_t result
    uint64_t limit               # of SINTERCARD, 0: none
    source_t *sources            # in the order of the keys until an operation sorts them
    uint32_t source_count
    uint32_t at                  # the source that comes next
    bint is_walking
    set_cursor_t cursor
    bint uses_set                # members go into `built`, else into the reply, or nowhere
    object_t built
    set_limits_t limits
    uint64_t count               # members of the result
    bint is_complete             # the result is
    bint is_done


# ---- Sources -----------------------------------------------------------------------------------

cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Values are borrowed copies: an entry may move when another key goes, its set does not."""
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(<uint32_t>tx.numbers[FIRST_SOURCE], tx.key_count):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = set_lookup_read(&scope, &tx.keys[i], &ref)
            if tx.results[i].number == SET_FOUND:
                tx.results[i].value = ref.entry.value


cdef bint gather(transaction_t *tx) noexcept nogil:
    """Begins the job; False after the wrong type's error was replied."""
    cdef uint32_t first = <uint32_t>tx.numbers[FIRST_SOURCE]
    cdef uint32_t count = tx.key_count - first
    cdef job_t *job = <job_t *>tx.state
    cdef uint32_t i
    if job == NULL:
        job = <job_t *>net_zalloc(sizeof(job_t) + count * sizeof(source_t))
        tx.state = job
    job.operation = <operation_t>tx.numbers[OPERATION]
    job.result = <result_t>tx.numbers[RESULT]
    job.limit = <uint64_t>tx.numbers[LIMIT]
    job.sources = <source_t *>(job + 1)
    job.source_count = count
    job.at = 0
    job.is_walking = False
    job.count = 0
    job.is_complete = False
    job.is_done = False
    object_set_container(&job.built, TYPE_SET, NULL)
    for i in range(count):
        if tx.results[first + i].number == SET_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return False
        job.sources[i].value = NULL
        job.sources[i].count = 0
        if tx.results[first + i].number == SET_FOUND:
            job.sources[i].value = &tx.results[first + i].value
            job.sources[i].count = set_count(job.sources[i].value)
    if job.operation == UNION:
        # The fewer come later, the fewer are looked for.
        qsort(job.sources, count, sizeof(source_t), larger_first)
    job.uses_set = job.result == RESULT_STORED or (job.result == RESULT_REPLIED and needs_set(job))
    return True


cdef int smaller_first(const void *a, const void *b) noexcept nogil:
    cdef uint64_t left = (<const source_t *>a).count
    cdef uint64_t right = (<const source_t *>b).count
    return <int>(left > right) - <int>(left < right)


cdef int larger_first(const void *a, const void *b) noexcept nogil:
    return smaller_first(b, a)


cdef uint64_t elements_of(const job_t *job) noexcept nogil:
    """How many it looks at, about."""
    cdef uint64_t total = 0
    cdef uint64_t least = <uint64_t>-1
    cdef uint32_t i
    for i in range(job.source_count):
        total += job.sources[i].count
        least = min(least, job.sources[i].count)
    return least if job.operation == INTERSECTION else total


# ---- Operations --------------------------------------------------------------------------------
# Each goes on where it was when its time was up, and says True when it is complete.

cdef inline void emit(job_t *job, reply_t *reply, const list_item_t *item) noexcept nogil:
    """One that the result has not yet."""
    if job.uses_set:
        set_add_new_item(&job.built, item, &job.limits)
    elif job.result == RESULT_REPLIED:
        reply_member(reply, item)
    job.count += 1


cdef inline void walk(job_t *job, uint32_t source) noexcept nogil:
    if not job.is_walking:
        job.is_walking = True
        set_begin(job.sources[source].value, &job.cursor)


cdef inline bint all_contain(const source_t *sources, uint32_t count, const list_item_t *item) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if not set_contains_item(sources[i].value, item):
            return False
    return True


cdef inline bint any_contains(const source_t *sources, uint32_t count, const list_item_t *item) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if sources[i].value != NULL and set_contains_item(sources[i].value, item):
            return True
    return False


cdef bint intersect(job_t *job, reply_t *reply) noexcept nogil:
    """Walks over the smallest set."""
    cdef list_item_t item
    if not job.is_walking:
        qsort(job.sources, job.source_count, sizeof(source_t), smaller_first)
        if job.sources[0].value == NULL:
            return True
    walk(job, 0)
    while work_goes_on(&job.work):
        if not set_next(&job.cursor, &item):
            return True
        if all_contain(job.sources + 1, job.source_count - 1, &item):
            emit(job, reply, &item)
            if job.count == job.limit:
                return True
    return False


cdef bint emit_source(job_t *job, reply_t *reply, uint32_t source) noexcept nogil:
    """Those of its members that the result has not yet: the set is asked, or the sources before it are."""
    cdef list_item_t item
    walk(job, source)
    while work_goes_on(&job.work):
        if not set_next(&job.cursor, &item):
            job.is_walking = False
            return True
        if job.uses_set and source > 0:
            job.count += set_add_item(&job.built, &item, &job.limits)
        elif not any_contains(job.sources, source, &item):
            emit(job, reply, &item)
    return False


cdef bint unite(job_t *job, reply_t *reply) noexcept nogil:
    while job.at < job.source_count:
        if job.sources[job.at].value == NULL:
            return True
        if not emit_source(job, reply, job.at):
            return False
        job.at += 1
    return True


cdef bint remove_all(job_t *job, uint32_t source) noexcept nogil:
    cdef list_item_t item
    walk(job, source)
    while work_goes_on(&job.work):
        if job.count == 0 or not set_next(&job.cursor, &item):
            job.is_walking = False
            return True
        job.count -= set_remove_item(&job.built, &item)
    return False


cdef bint take_away(job_t *job, reply_t *reply) noexcept nogil:
    """From a copy of the first set the members of all others."""
    while job.at < job.source_count:
        if job.at == 0:
            if not emit_source(job, reply, 0):
                return False
        elif job.sources[job.at].value != NULL and not remove_all(job, job.at):
            return False
        job.at += 1
    return True


cdef bint pick_missing(job_t *job, reply_t *reply) noexcept nogil:
    """Members of the first set that no other has; large sets are asked first."""
    cdef list_item_t item
    if not job.is_walking:
        qsort(job.sources + 1, job.source_count - 1, sizeof(source_t), larger_first)
    walk(job, 0)
    while work_goes_on(&job.work):
        if not set_next(&job.cursor, &item):
            return True
        if not any_contains(job.sources + 1, job.source_count - 1, &item):
            emit(job, reply, &item)
    return False


cdef bint copy_is_cheaper(const job_t *job) noexcept nogil:
    """Redis' choice: the encoding of a stored difference depends on it."""
    cdef uint64_t asking = 0
    cdef uint64_t copying = 0
    cdef uint32_t i
    for i in range(job.source_count):
        if job.sources[i].value != NULL:
            asking += job.sources[0].count
            copying += job.sources[i].count
    return asking // 2 > copying


cdef inline bint asking_is_cheaper(const job_t *job) noexcept nogil:
    """For a union: whether those before have a member costs less than to keep it, if they are few."""
    cdef uint64_t asking = 0
    cdef uint32_t i
    for i in range(job.source_count):
        asking += i * job.sources[i].count
    return asking <= ASKED_A_MEMBER * elements_of(job)


cdef bint needs_set(const job_t *job) noexcept nogil:
    """Whether the result must be built in a set, even if it is only replied."""
    if job.operation == UNION:
        return not asking_is_cheaper(job)
    return job.operation == DIFFERENCE and job.sources[0].value != NULL and copy_is_cheaper(job)


cdef bint operate(job_t *job, reply_t *reply) noexcept nogil:
    if job.operation == INTERSECTION:
        return intersect(job, reply)
    if job.operation == UNION:
        return unite(job, reply)
    if job.sources[0].value == NULL:
        return True
    # No count changes from one slice to the next, and sorting the others changes nothing in their sum.
    return take_away(job, reply) if copy_is_cheaper(job) else pick_missing(job, reply)


# ---- Results -----------------------------------------------------------------------------------

cdef const char *store_event(operation_t operation) noexcept nogil:
    if operation == INTERSECTION:
        return "sinterstore"
    return "sunionstore" if operation == UNION else "sdiffstore"


cdef void store(transaction_t *tx, job_t *job, scope_t *scope) noexcept nogil:
    cdef dash_ref_t ref
    if job.count > 0:
        overwrite_key(scope, &tx.keys[0], &ref)
        drop_value(scope, &ref.entry.value)
        ref.entry.value = job.built
        update_end(scope, &tx.keys[0], NOTIFY_SET, store_event(job.operation))
    elif find_write(scope, &tx.keys[0], &ref):
        delete_key(scope, &tx.keys[0], &ref, NOTIFY_GENERIC, "del")
    reply_int(&tx.reply, <int64_t>job.count)


cdef bint reply_built(job_t *job, reply_t *reply) noexcept nogil:
    """Goes on with the members of the finished set."""
    cdef list_item_t item
    while work_goes_on(&job.work):
        if not set_next(&job.cursor, &item):
            return True
        reply_member(reply, &item)
    return False


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """On the shard that keeps the result, or any of its keys, which books the set that is built."""
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    if job.at == 0 and not job.is_walking and not job.is_complete:
        job.limits = set_limits_of(&scope)
    if not job.is_complete:
        if not operate(job, &tx.reply):
            return
        job.is_complete = True
        if job.result == RESULT_REPLIED and job.uses_set:
            reply_set(&tx.reply, job.count)
            set_begin(&job.built, &job.cursor)
    if job.result == RESULT_STORED:
        store(tx, job, &scope)
    elif job.result == RESULT_COUNTED:
        reply_int(&tx.reply, <int64_t>job.count)
    elif not job.uses_set:
        reply_chain_header(&tx.chain, &tx.reply, c'~', job.count)
    elif reply_built(job, &tx.reply):
        drop_value(&scope, &job.built)
    else:
        return
    job.is_done = True


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    drop_value(&scope, &(<job_t *>tx.state).built)


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = work_hop
PLAN.drop = drop_hop


cdef int algebra_step(transaction_t *tx, operation_t operation, result_t result) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    if tx.stage == STEP_START:
        tx.numbers[FIRST_SOURCE] = 1 if result == RESULT_STORED else 0
        tx.numbers[OPERATION] = operation
        tx.numbers[RESULT] = result
        return slices_look(tx, &PLAN)
    if tx.stage == SLICES_LOOKED:
        if not gather(tx):
            return TRANSACTION_DONE
        job = <job_t *>tx.state
        return slices_first(&job.slices, tx, elements_of(job), <uint32_t>tx.numbers[FIRST_SOURCE], &PLAN)
    return slices_next(&job.slices, tx, job.is_done, &PLAN)


cdef int sinter_step(transaction_t *tx) noexcept nogil:
    return algebra_step(tx, INTERSECTION, RESULT_REPLIED)


cdef int sunion_step(transaction_t *tx) noexcept nogil:
    return algebra_step(tx, UNION, RESULT_REPLIED)


cdef int sdiff_step(transaction_t *tx) noexcept nogil:
    return algebra_step(tx, DIFFERENCE, RESULT_REPLIED)


cdef int sinterstore_step(transaction_t *tx) noexcept nogil:
    return algebra_step(tx, INTERSECTION, RESULT_STORED)


cdef int sunionstore_step(transaction_t *tx) noexcept nogil:
    return algebra_step(tx, UNION, RESULT_STORED)


cdef int sdiffstore_step(transaction_t *tx) noexcept nogil:
    return algebra_step(tx, DIFFERENCE, RESULT_STORED)


# ---- SINTERCARD --------------------------------------------------------------------------------

cdef bint parse_sintercard(transaction_t *tx) noexcept nogil:
    cdef int64_t key_count = 0
    cdef uint32_t i
    if not parse_int64(tx.argv[1].data, tx.argv[1].size, &key_count) or key_count <= 0:
        reply_error(&tx.reply, "ERR numkeys should be greater than 0")
        return False
    if key_count > <int64_t>tx.argc - 2:
        reply_error(&tx.reply, "ERR Number of keys can't be greater than number of args")
        return False
    i = <uint32_t>key_count + 2
    while i < tx.argc:
        if not slice_equals(tx.argv[i], "limit") or i + 1 == tx.argc:
            reply_syntax_error(&tx.reply)
            return False
        if not parse_int64(tx.argv[i + 1].data, tx.argv[i + 1].size, &tx.numbers[LIMIT]) or tx.numbers[LIMIT] < 0:
            reply_error(&tx.reply, "ERR LIMIT can't be negative")
            return False
        i += 2
    return True


cdef int sintercard_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START and not parse_sintercard(tx):
        return TRANSACTION_DONE
    return algebra_step(tx, INTERSECTION, RESULT_COUNTED)


cdef int sintercard_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    cdef int64_t key_count = 0
    cdef int i
    if (not parse_int64(argv[1].data, argv[1].size, &key_count) or key_count <= 0
            or key_count > <int64_t>argc - 2):
        return -1
    for i in range(<int>key_count):
        out[i] = <uint32_t>i + 2
    return <int>key_count


# ---- SMOVE -------------------------------------------------------------------------------------

cdef void look_both_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(2):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = set_lookup_write(&scope, &tx.keys[i], &ref)
            if i == 0 and tx.results[i].number == SET_FOUND:
                tx.results[i].flag = set_contains(&ref.entry.value, tx.argv[3].data, tx.argv[3].size)


cdef void remove_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    set_lookup_write(&scope, &tx.keys[0], &ref)
    update_begin(&scope, &ref)
    set_remove(&ref.entry.value, tx.argv[3].data, tx.argv[3].size)
    set_finish_removal(&scope, &tx.keys[0], &ref, "srem")


cdef void add_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef set_limits_t limits
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    limits = set_limits_of(&scope)
    if set_lookup_write(&scope, &tx.keys[1], &ref) == SET_FOUND:
        update_begin(&scope, &ref)
    else:
        insert_key(&scope, &tx.keys[1], &ref)
        object_set_container(&ref.entry.value, TYPE_SET, NULL)
    if set_add(&ref.entry.value, tx.argv[3].data, tx.argv[3].size, &limits):
        update_end(&scope, &tx.keys[1], NOTIFY_SET, "sadd")


cdef bint same_key(const transaction_t *tx) noexcept nogil:
    return (tx.keys[0].hash == tx.keys[1].hash and tx.keys[0].size == tx.keys[1].size
            and memcmp(tx.keys[0].data, tx.keys[1].data, tx.keys[0].size) == 0)


cdef int smove_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START:
        tx.stage = STEP_LOOKED
        return hop_on_keys(tx, look_both_hop)
    if tx.stage == STEP_LOOKED:
        if tx.results[0].number == SET_ABSENT:
            reply_int(&tx.reply, 0)
            return TRANSACTION_DONE
        if tx.results[0].number == SET_WRONG_TYPE or tx.results[1].number == SET_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return TRANSACTION_DONE
        if same_key(tx) or not tx.results[0].flag:
            reply_int(&tx.reply, tx.results[0].flag)
            return TRANSACTION_DONE
        tx.stage = STEP_REMOVED
        return hop_on_shard(tx, tx.key_shards[0], remove_hop)
    if tx.stage == STEP_REMOVED:
        tx.stage = STEP_ADDED
        return hop_on_shard(tx, tx.key_shards[1], add_hop)
    reply_int(&tx.reply, 1)
    return TRANSACTION_DONE


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 8

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t overwrite = KEY_OW | KEY_UPDATE
    cdef int i
    rows[0] = transaction_row("sinter", -2, read, ACL_SET, 1, -1, 1, look, sinter_step)
    rows[1] = transaction_row("sunion", -2, read, ACL_SET, 1, -1, 1, look, sunion_step)
    rows[2] = transaction_row("sdiff", -2, read, ACL_SET, 1, -1, 1, look, sdiff_step)
    for i in range(3):
        rows[i].handler = smembers_command
    rows[3] = transaction_row("sinterstore", -3, grow, ACL_SET, 1, -1, 1, overwrite, sinterstore_step)
    rows[4] = transaction_row("sunionstore", -3, grow, ACL_SET, 1, -1, 1, overwrite, sunionstore_step)
    rows[5] = transaction_row("sdiffstore", -3, grow, ACL_SET, 1, -1, 1, overwrite, sdiffstore_step)
    rows[6] = transaction_row("smove", 4, COMMAND_WRITE | COMMAND_FAST, ACL_SET, 1, 2, 1,
                              KEY_RW | KEY_ACCESS | KEY_DELETE, smove_step)
    rows[7] = transaction_row("sintercard", -3, read | COMMAND_MOVABLE_KEYS, ACL_SET, 0, 0, 0, look, sintercard_step)
    rows[7].get_keys = sintercard_keys
    register_commands(rows, ROW_COUNT)
