"""SORT and SORT_RO.

BY and GET look keys up that follow from the elements, so they may lie on any shard: with such a pattern the command
holds the tokens of all shards. The elements are copied first (sorting.pxd); then each shard in turn fills in the
weights of the keys it owns; then all is sorted; then each shard fills in what GET asks for; then the result is replied
or stored. What looks no keys up does all of this on the source's shard, in slices if there are many elements; the
others, whose keys nobody listens to, in one go. Order of checks, replies and events as Redis 7.0.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from dfly._core.commands.sorting cimport (arena_keep, elements_at, elements_begin, elements_copy_work, elements_count,
                                          elements_end, elements_read_weights, elements_sort_work, sort_elements_t,
                                          text_arena_t, text_t)
from dfly._core.commands.strings cimport overwrite_key
from dfly._core.commands.zsets cimport zset_long_argument
from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_LIST, ACL_SET, ACL_SORTEDSET, COMMAND_DENYOOM,
                                        COMMAND_MOVABLE_KEYS, COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS,
                                        KEY_INCOMPLETE, KEY_RO, TRANSACTION_DONE, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_LIST, delete_key, drop_value, find_read, find_write,
                                         update_end)
from dfly._core.engine.shard cimport scope_t, shard_of, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, SLICES_WORKED, slices_first, slices_look, slices_next,
                                       slices_plan_t, slices_t, slices_work, work_all, work_goes_on, work_t)
from dfly._core.engine.transaction cimport hop_on_all_shards, hop_on_shard, transaction_lock_all, transaction_scope
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_error, reply_int, reply_null
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, list_item_t, list_item_text, list_limits, list_limits_t,
                                          list_push)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hash_map cimport hash_find, hash_place_t, hash_value
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_HASH, TYPE_LIST, TYPE_SET, TYPE_ZSET, key_init, key_t,
                                      object_is_container, object_is_string, object_root, object_set_container,
                                      object_t, object_view)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum stage_t:
    # Behind those of slices.
    STAGE_COPIED = 5
    STAGE_WEIGHED = 6
    STAGE_FETCHED = 7
    STAGE_STORED = 8

cdef struct pattern_t:
    slice_t whole
    bint is_element              # "#"
    bint is_constant             # without "*": nothing is ever found
    slice_t prefix
    slice_t suffix
    slice_t field                # of a hash; data NULL: the key is a string

cdef struct job_t:
    # tx.state while the command runs. The arguments' slices in patterns are good in one go only: arguments move.
    slices_t slices
    work_t work
    sort_elements_t sorted
    bint is_found
    bint is_wrong_type
    object_t value               # the source, borrowed
    uint64_t start               # of the result, in what is sorted
    uint64_t result_count
    uint64_t written             # of the result
    object_t built               # what is stored
    pattern_t by
    pattern_t *gets
    uint32_t get_count
    text_t *fetched              # get_count of each result
    int64_t offset
    int64_t limit                # -1: none
    bint is_stored
    bint is_settled              # start and result_count are known
    bint is_done


# ---- Arguments ---------------------------------------------------------------------------------

cdef const char *find_arrow(const char *p, const char *end) noexcept nogil:
    """The arrow of a hash's field, if something follows it."""
    while p + 2 < end:
        if p[0] == c'-' and p[1] == c'>':
            return p
        p += 1
    return NULL


cdef void parse_pattern(slice_t text, pattern_t *out) noexcept nogil:
    cdef const char *end = text.data + text.size
    cdef const char *star = <const char *>memchr(text.data, c'*', text.size)
    cdef const char *arrow
    out.whole = text
    out.is_element = text.size == 1 and text.data[0] == c'#'
    out.is_constant = star == NULL
    out.field.data = NULL
    if star == NULL:
        return
    out.prefix.data = text.data
    out.prefix.size = <size_t>(star - text.data)
    out.suffix.data = star + 1
    out.suffix.size = <size_t>(end - star - 1)
    arrow = find_arrow(star + 1, end)
    if arrow != NULL:
        out.suffix.size = <size_t>(arrow - star - 1)
        out.field.data = arrow + 2
        out.field.size = <size_t>(end - arrow - 2)


cdef bint parse_options(transaction_t *tx, bint read_only, job_t *job, pattern_t *gets) noexcept nogil:
    """gets has room for all that may come."""
    cdef uint32_t i = 2
    cdef uint32_t more
    cdef slice_t word
    job.limit = -1
    job.gets = gets
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
            parse_pattern(tx.argv[i], &job.by)
            job.sorted.has_by = True
            # Once and for all, as in Redis: a later BY with a pattern sorts nothing either.
            job.sorted.dont_sort = job.sorted.dont_sort or job.by.is_constant
        elif more >= 1 and slice_equals(word, "get"):
            i += 1
            parse_pattern(tx.argv[i], &gets[job.get_count])
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

cdef char *make_key(const pattern_t *pattern, slice_t element, slice_t *out) noexcept nogil:
    """The caller frees what is returned."""
    cdef size_t size = pattern.prefix.size + element.size + pattern.suffix.size
    cdef char *text = <char *>net_alloc(size + 1)
    memcpy(text, pattern.prefix.data, pattern.prefix.size)
    memcpy(text + pattern.prefix.size, element.data, element.size)
    memcpy(text + pattern.prefix.size + element.size, pattern.suffix.data, pattern.suffix.size)
    out.data = text
    out.size = size
    return text


cdef void keep(text_arena_t *arena, slice_t text, text_t *out) noexcept nogil:
    out.text = arena_keep(arena, text)
    out.is_missing = False


cdef void look_up(scope_t *scope, const pattern_t *pattern, text_arena_t *arena, slice_t name,
                  text_t *out) noexcept nogil:
    """Under the token of the key's shard."""
    cdef char scratch[OBJECT_SCRATCH]
    cdef char number[LIST_ITEM_SCRATCH]
    cdef hash_place_t place
    cdef list_item_t item
    cdef dash_ref_t ref
    cdef key_t key
    key_init(&key, name.data, name.size)
    if not find_read(scope, &key, &ref):
        return
    if pattern.field.data == NULL:
        if object_is_string(&ref.entry.value):
            keep(arena, object_view(&ref.entry.value, scratch), out)
    elif (object_is_container(&ref.entry.value, TYPE_HASH)
            and hash_find(&ref.entry.value, pattern.field, scope.now_ms, &place)):
        hash_value(&ref.entry.value, &place, scratch, &item)
        keep(arena, list_item_text(&item, number), out)


cdef void fill(scope_t *scope, const pattern_t *pattern, job_t *job, slice_t text, text_t *out) noexcept nogil:
    """What the pattern says of the element, if this shard owns the key."""
    cdef slice_t name
    cdef key_t key
    cdef char *owned
    if pattern.is_constant:
        return
    owned = make_key(pattern, text, &name)
    key_init(&key, name.data, name.size)
    if shard_of(key.hash, scope.shard.shard_count) == scope.shard.index:
        look_up(scope, pattern, &job.sorted.arena, name, out)
    net_free(owned)


cdef void weigh_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    cdef uint64_t i
    transaction_scope(tx, shard, &scope)
    for i in range(job.sorted.count):
        fill(&scope, &job.by, job, job.sorted.elements[i].text, &job.sorted.elements[i].weight)


cdef void fetch_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    cdef uint64_t i
    cdef uint32_t g
    transaction_scope(tx, shard, &scope)
    for i in range(job.result_count):
        for g in range(job.get_count):
            fill(&scope, &job.gets[g], job, elements_at(&job.sorted, job.start + i).text,
                 &job.fetched[i * job.get_count + g])


# ---- Results -----------------------------------------------------------------------------------

cdef bint result(const job_t *job, uint64_t i, uint32_t g, slice_t *out) noexcept nogil:
    """False: there is nothing."""
    cdef const text_t *fetched
    if job.get_count == 0 or job.gets[g].is_element:
        out[0] = elements_at(&job.sorted, job.start + i).text
        return True
    fetched = &job.fetched[i * job.get_count + g]
    out[0] = fetched.text
    return not fetched.is_missing


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


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    if not elements_copy_work(&job.sorted, &job.work):
        return
    if is_refused(tx, job):
        job.is_done = True
    elif elements_sort_work(&job.sorted, &job.work):
        job.is_done = write_work(tx, job, &scope)


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    elements_end(&job.sorted)
    drop_value(&scope, &job.built)
    # The look that ends counts.
    shard.stats.hits -= 1


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = work_hop
PLAN.drop = drop_hop


# ---- In one go, with keys to look up -----------------------------------------------------------

cdef void copy_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    work_all(&job.work)
    elements_copy_work(&job.sorted, &job.work)


cdef int weigh(transaction_t *tx, job_t *job) noexcept nogil:
    tx.stage = STAGE_WEIGHED
    if job.sorted.dont_sort or not job.sorted.has_by:
        return fetch(tx, job)
    return hop_on_all_shards(tx, weigh_hop)


cdef int fetch(transaction_t *tx, job_t *job) noexcept nogil:
    cdef uint64_t i
    if job.sorted.has_by:
        elements_read_weights(&job.sorted)
    elements_sort_work(&job.sorted, &job.work)
    settle_range(job)
    tx.stage = STAGE_FETCHED
    job.fetched = <text_t *>net_zalloc((job.result_count * job.get_count + 1) * sizeof(text_t))
    for i in range(job.result_count * job.get_count):
        job.fetched[i].is_missing = True
    if job.sorted.is_not_numeric:
        return write(tx, job)
    return hop_on_all_shards(tx, fetch_hop)


cdef void write_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    write_work(tx, <job_t *>tx.state, &scope)


cdef int write(transaction_t *tx, job_t *job) noexcept nogil:
    if is_refused(tx, job):
        return TRANSACTION_DONE
    job.is_done = True
    tx.stage = SLICES_WORKED
    return hop_on_shard(tx, tx.key_shards[0], write_hop)


# ---- Steps -------------------------------------------------------------------------------------

cdef bint make_job(transaction_t *tx, bint read_only) noexcept nogil:
    """False after an error reply."""
    cdef job_t *job = <job_t *>net_zalloc(sizeof(job_t) + tx.argc * sizeof(pattern_t))
    tx.state = job
    return parse_options(tx, read_only, job, <pattern_t *>(job + 1))


cdef bint looks_up(const job_t *job) noexcept nogil:
    cdef uint32_t g
    if job.sorted.has_by and not job.sorted.dont_sort:
        return True
    for g in range(job.get_count):
        if not job.gets[g].is_element:
            return True
    return False


cdef int begin(transaction_t *tx, job_t *job) noexcept nogil:
    if job.is_wrong_type:
        reply_wrong_type(&tx.reply)
        return TRANSACTION_DONE
    object_set_container(&job.built, TYPE_LIST, NULL)
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
    if looks_up(job):
        tx.stage = STAGE_COPIED
        return hop_on_shard(tx, tx.key_shards[0], copy_hop)
    return slices_first(&job.slices, tx, elements_count(&job.value), 0, &PLAN)


cdef int run_step(transaction_t *tx, bint read_only) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef int result
    if tx.stage == 0:
        return slices_look(tx, &PLAN) if make_job(tx, read_only) else TRANSACTION_DONE
    if tx.stage == SLICES_LOOKED:
        return begin(tx, job)
    if tx.stage == STAGE_COPIED:
        return weigh(tx, job)
    if tx.stage == STAGE_WEIGHED:
        return fetch(tx, job)
    if tx.stage == STAGE_FETCHED:
        return write(tx, job)
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
        net_free(job.fetched)
        job.fetched = NULL
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
