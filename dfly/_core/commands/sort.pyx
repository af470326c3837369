"""SORT and SORT_RO.

BY and GET look keys up that follow from the elements, so they may lie on any shard: with such a pattern the command
holds the tokens of all shards (sort_patterns). The elements are copied (sorting), BY's keys give them weights, they are
sorted, and what GET asks for is looked up while the result is replied or built. All of it goes in slices if there are
many elements: of the keys that are looked up, any that changes lets it begin again. What it sees of deadlines is what
there was when it began. Order of checks, replies and events as Redis 7.0.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.sort_patterns cimport (lookups_begin, lookups_end, lookups_forget, lookups_free, lookups_t,
                                                looks_up, sort_pattern_looks_up, sort_pattern_parse, sort_pattern_t)
from dfly._core.commands.sorting cimport (elements_at, elements_begin, elements_copy_work, elements_count,
                                          elements_end, elements_sort_work, elements_weigh, sort_elements_t)
from dfly._core.commands.strings cimport overwrite_key
from dfly._core.commands.zsets cimport zset_long_argument
from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_LIST, ACL_SET, ACL_SORTEDSET, COMMAND_DENYOOM,
                                        COMMAND_MOVABLE_KEYS, COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS,
                                        KEY_INCOMPLETE, KEY_RO, TRANSACTION_DONE, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_LIST, delete_key, drop_value, find_read, find_write,
                                         update_end)
from dfly._core.engine.pattern_listeners cimport key_pattern_t
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_first, slices_ignore_changes, slices_look, slices_next,
                                       slices_plan_t, slices_t, slices_work, work_goes_on, work_t)
from dfly._core.engine.transaction cimport (hop_on_shard, transaction_lock_all, transaction_own_arguments,
                                            transaction_scope)
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_error, reply_int, reply_null
from dfly._core.store.block_list cimport list_limits, list_limits_t, list_push
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport (TYPE_LIST, TYPE_SET, TYPE_ZSET, key_t, object_is_container, object_root,
                                      object_set_container, object_t)
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    STAGE_STORED = 5             # behind those of slices
    PATTERNS_IN_SLICES = 64      # each change of a key is compared with all

cdef struct job_t:
    # tx.state while the command runs.
    slices_t slices
    work_t work
    lookups_t lookups
    sort_elements_t sorted
    bint is_found
    bint is_wrong_type
    object_t value               # the source, borrowed
    int64_t now_ms               # when it began, for what it looks up
    uint64_t weighed             # of the elements
    uint64_t start               # of the result, in what is sorted
    uint64_t result_count
    uint64_t written             # of the result
    object_t built               # what is stored
    sort_pattern_t by
    sort_pattern_t *gets
    uint32_t get_count
    key_pattern_t *looked_up     # by BY and GET
    uint32_t looked_up_count
    int64_t offset
    int64_t limit                # -1: none
    bint is_stored
    bint is_settled              # start and result_count are known
    bint is_done


# ---- Arguments ---------------------------------------------------------------------------------

cdef bint parse_options(transaction_t *tx, bint read_only, job_t *job) noexcept nogil:
    """job.gets has room for all that may come."""
    cdef uint32_t i = 2
    cdef uint32_t more
    cdef slice_t word
    job.limit = -1
    while i < tx.argc:
        word = tx.argv[i]
        more = tx.argc - i - 1
        if slice_equals(word, "asc"):
            job.sorted.is_descending = False
        elif slice_equals(word, "desc"):
            job.sorted.is_descending = True
        elif slice_equals(word, "alpha"):
            job.sorted.is_alpha = True
        elif more >= 2 and slice_equals(word, "limit"):
            if (not zset_long_argument(&tx.reply, tx.argv[i + 1].data, tx.argv[i + 1].size, &job.offset)
                    or not zset_long_argument(&tx.reply, tx.argv[i + 2].data, tx.argv[i + 2].size, &job.limit)):
                return False
            i += 2
        elif not read_only and more >= 1 and slice_equals(word, "store"):
            job.is_stored = True
            i += 1
        elif more >= 1 and slice_equals(word, "by"):
            i += 1
            sort_pattern_parse(tx.argv[i], &job.by)
            job.sorted.has_by = True
            # Once and for all, as in Redis: a later BY with a pattern sorts nothing either.
            job.sorted.dont_sort = job.sorted.dont_sort or job.by.is_constant
        elif more >= 1 and slice_equals(word, "get"):
            i += 1
            sort_pattern_parse(tx.argv[i], &job.gets[job.get_count])
            job.get_count += 1
        else:
            reply_syntax_error(&tx.reply)
            return False
        i += 1
    return True


cdef int sort_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    """The source, and what STORE names last."""
    cdef uint32_t i = 2
    cdef int count = 1
    out[0] = 1
    while i < argc:
        if slice_equals(argv[i], "limit"):
            i += 2
        elif slice_equals(argv[i], "get") or slice_equals(argv[i], "by"):
            i += 1
        elif slice_equals(argv[i], "store") and i + 1 < argc:
            i += 1
            out[1] = i
            count = 2
        i += 1
    return count


cdef void sort_prepare(transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(2, tx.argc):
        if slice_equals(tx.argv[i], "by") or slice_equals(tx.argv[i], "get"):
            transaction_lock_all(tx)
            # Patterns are in use between slices, too.
            transaction_own_arguments(tx)
            return


# ---- The source --------------------------------------------------------------------------------

cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef const object_t *value
    cdef scope_t scope
    cdef dash_ref_t ref
    if tx.key_shards[0] != shard.index:
        return
    transaction_scope(tx, shard, &scope)
    job.is_found = find_read(&scope, &tx.keys[0], &ref)
    if not job.is_found:
        return
    value = &ref.entry.value
    job.is_wrong_type = not (object_is_container(value, TYPE_LIST) or object_is_container(value, TYPE_SET)
                             or object_is_container(value, TYPE_ZSET))
    job.value = value[0]


cdef void settle_range(job_t *job) noexcept nogil:
    """LIMIT, as offsets into the result."""
    cdef int64_t total = <int64_t>job.sorted.count
    cdef int64_t start = min(max(job.offset, <int64_t>0), total)
    cdef int64_t count = min(max(job.limit, <int64_t>-1), total)
    cdef int64_t end = total - 1 if count < 0 else start + count - 1
    if end >= total:
        end = total - 1
    job.start = <uint64_t>start
    job.result_count = <uint64_t>(end - start + 1) if start < total and end >= start else 0


# ---- Looking keys up ---------------------------------------------------------------------------

cdef bint weighs(const job_t *job) noexcept nogil:
    return job.sorted.has_by and not job.sorted.dont_sort


cdef void find_patterns(job_t *job) noexcept nogil:
    cdef uint32_t g
    job.looked_up_count = 0
    if weighs(job) and sort_pattern_looks_up(&job.by):
        job.looked_up[0] = job.by.key
        job.looked_up_count = 1
    for g in range(job.get_count):
        if sort_pattern_looks_up(&job.gets[g]):
            job.looked_up[job.looked_up_count] = job.gets[g].key
            job.looked_up_count += 1


cdef bint weigh_work(job_t *job) noexcept nogil:
    cdef slice_t text
    if not weighs(job):
        return True
    while job.weighed < job.sorted.count:
        if not work_goes_on(&job.work):
            return False
        if looks_up(&job.lookups, &job.by, job.sorted.elements[job.weighed].text, &text):
            elements_weigh(&job.sorted, job.weighed, text)
        job.weighed += 1
    return True


# ---- Results -----------------------------------------------------------------------------------

cdef inline bint result(job_t *job, uint64_t i, uint32_t g, slice_t *out) noexcept nogil:
    """False: there is nothing."""
    cdef slice_t element = elements_at(&job.sorted, job.start + i).text
    if job.get_count == 0:
        out[0] = element
        return True
    return looks_up(&job.lookups, &job.gets[g], element, out)


cdef bint reply_work(transaction_t *tx, job_t *job) noexcept nogil:
    cdef uint32_t columns = max(job.get_count, <uint32_t>1)
    cdef slice_t text
    cdef uint32_t g
    while job.written < job.result_count:
        if not work_goes_on(&job.work):
            return False
        for g in range(columns):
            if result(job, job.written, g, &text):
                reply_bulk(&tx.reply, text.data, text.size)
            else:
                reply_null(&tx.reply)
        job.written += 1
    return True


cdef bint build_work(job_t *job, const scope_t *scope) noexcept nogil:
    cdef list_limits_t limits = list_limits(scope.shard.settings.list_max_listpack_size)
    cdef uint32_t columns = max(job.get_count, <uint32_t>1)
    cdef slice_t text
    cdef uint32_t g
    while job.written < job.result_count:
        if not work_goes_on(&job.work):
            return False
        for g in range(columns):
            if not result(job, job.written, g, &text):
                text.data = ""
                text.size = 0
            list_push(object_root(&job.built), text.data, text.size, False, &limits)
        job.written += 1
    return True


cdef void store_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef key_t *key = &tx.keys[tx.key_count - 1]
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    if job.result_count > 0:
        overwrite_key(&scope, key, &ref)
        drop_value(&scope, &ref.entry.value)
        ref.entry.value = job.built
        update_end(&scope, key, NOTIFY_LIST, "sortstore")
    elif find_write(&scope, key, &ref):
        delete_key(&scope, key, &ref, NOTIFY_GENERIC, "del")
    reply_int(&tx.reply, <int64_t>(job.result_count * max(job.get_count, <uint32_t>1)))


# ---- In slices ---------------------------------------------------------------------------------

cdef bint is_refused(transaction_t *tx, const job_t *job) noexcept nogil:
    if job.sorted.is_not_numeric:
        reply_error(&tx.reply, "ERR One or more scores can't be converted into double")
    return job.sorted.is_not_numeric


cdef bint write_work(transaction_t *tx, job_t *job, const scope_t *scope) noexcept nogil:
    """What is sorted becomes the reply, or what is to be stored."""
    if not job.is_settled:
        job.is_settled = True
        settle_range(job)
        if not job.is_stored:
            reply_array(&tx.reply, job.result_count * max(job.get_count, <uint32_t>1))
    return build_work(job, scope) if job.is_stored else reply_work(tx, job)


cdef bint works(transaction_t *tx, job_t *job, const scope_t *scope) noexcept nogil:
    """True: there is a result."""
    if not elements_copy_work(&job.sorted, &job.work) or not weigh_work(job):
        return False
    if is_refused(tx, job):
        return True
    return elements_sort_work(&job.sorted, &job.work) and write_work(tx, job, scope)


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    lookups_begin(&job.lookups, tx, shard, job.now_ms)
    job.is_done = works(tx, job, &scope)
    lookups_end(&job.lookups, shard)
    if job.looked_up_count > 0:
        slices_ignore_changes(&job.slices)


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    elements_end(&job.sorted)
    drop_value(&scope, &job.built)
    # The look that ends counts.
    job.lookups.hits += 1
    lookups_forget(&job.lookups, tx)


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = work_hop
PLAN.drop = drop_hop


# ---- Steps -------------------------------------------------------------------------------------

cdef bint make_job(transaction_t *tx, bint read_only) noexcept nogil:
    """False after an error reply."""
    cdef job_t *job = <job_t *>net_zalloc(sizeof(job_t) + tx.argc * (sizeof(sort_pattern_t) + sizeof(key_pattern_t)))
    tx.state = job
    job.gets = <sort_pattern_t *>(job + 1)
    job.looked_up = <key_pattern_t *>(job.gets + tx.argc)
    return parse_options(tx, read_only, job)


cdef int begin(transaction_t *tx, job_t *job) noexcept nogil:
    cdef uint64_t elements
    if job.is_wrong_type:
        reply_wrong_type(&tx.reply)
        return TRANSACTION_DONE
    object_set_container(&job.built, TYPE_LIST, NULL)
    job.now_ms = tx.now_ms
    job.weighed = 0
    job.written = 0
    job.is_settled = False
    job.is_done = False
    if not job.is_found:
        object_set_container(&job.value, TYPE_LIST, NULL)
    elif object_is_container(&job.value, TYPE_SET) and job.sorted.dont_sort and job.is_stored:
        # What is stored must not depend on the order in which a set happens to lie.
        job.sorted.dont_sort = False
        job.sorted.is_alpha = True
        job.sorted.has_by = False
    elements_begin(&job.sorted, &job.value)
    find_patterns(job)
    job.slices.patterns = job.looked_up
    job.slices.pattern_count = job.looked_up_count
    elements = elements_count(&job.value) if job.looked_up_count <= PATTERNS_IN_SLICES else 0
    return slices_first(&job.slices, tx, elements, 0, &PLAN)


cdef int run_step(transaction_t *tx, bint read_only) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef int result
    if tx.stage == 0:
        return slices_look(tx, &PLAN) if make_job(tx, read_only) else TRANSACTION_DONE
    if tx.stage == SLICES_LOOKED:
        return begin(tx, job)
    if tx.stage == STAGE_STORED:
        return TRANSACTION_DONE
    result = slices_next(&job.slices, tx, job.is_done, &PLAN)
    if result != TRANSACTION_DONE or job.sorted.is_not_numeric or not job.is_stored:
        return result
    tx.stage = STAGE_STORED
    return hop_on_shard(tx, tx.key_shards[tx.key_count - 1], store_hop)


cdef int step_generic(transaction_t *tx, bint read_only) noexcept nogil:
    cdef int result = run_step(tx, read_only)
    cdef job_t *job = <job_t *>tx.state
    if result == TRANSACTION_DONE and job != NULL:
        elements_end(&job.sorted)
        lookups_free(&job.lookups)
    return result


cdef int sort_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, False)


cdef int sort_ro_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, True)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t acl = ACL_SET | ACL_SORTEDSET | ACL_LIST | ACL_DANGEROUS
    cdef uint64_t look = KEY_RO | KEY_ACCESS | KEY_INCOMPLETE
    rows[0] = transaction_row("sort", -2, COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_MOVABLE_KEYS, acl, 1, 1, 1, look,
                              sort_step)
    rows[0].get_keys = sort_keys
    rows[1] = transaction_row("sort_ro", -2, COMMAND_READONLY | COMMAND_MOVABLE_KEYS, acl, 1, 1, 1, look, sort_ro_step)
    rows[0].prepare = sort_prepare
    rows[1].prepare = sort_prepare
    register_commands(rows, ROW_COUNT)
