"""ZUNION, ZINTER, ZDIFF with their STORE forms, and ZINTERCARD. Inputs are sorted sets, or sets, whose scores are 1.

As in set_algebra: the tokens of all shards concerned are held throughout, so one hop looks the sources up, and then
their members are read in place. The result is complete before the destination, which may be a source, changes.
Where there are many members all that goes in slices (engine/slices).
Order of checks, replies and events as Redis 7.0, where a source of the wrong type comes before wrong options.
"""

from libc.math cimport isnan, signbit
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.commands.float_arguments cimport parse_double
from dfly._core.commands.sets cimport SET_FOUND, SET_WRONG_TYPE, set_lookup_read
from dfly._core.commands.zsets cimport (reply_zset_entry, reply_zset_header, zset_limits_of, zset_long_argument,
                                        zset_store)
from dfly._core.engine.command cimport (ACL_SORTEDSET, COMMAND_DENYOOM, COMMAND_MOVABLE_KEYS, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_OW, KEY_RO, KEY_UPDATE, TRANSACTION_DONE,
                                        command_spec_t, register_commands, reply_syntax_error, reply_wrong_type,
                                        slice_equals, transaction_row, transaction_t)
from dfly._core.engine.database cimport drop_value
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport (SLICES_LOOKED, slices_first, slices_look, slices_next, slices_plan_t, slices_t,
                                       slices_work, work_goes_on, work_t)
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport reply_error, reply_int, reply_t
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.member_set cimport set_begin, set_contains, set_count, set_cursor_t, set_next
from dfly._core.store.object cimport TYPE_ZSET, object_free, object_set_container, object_t, parse_int64
from dfly._core.store.sorted_set cimport (is_zset, zset_add, zset_count, zset_cursor_t, zset_entry_t, zset_find,
                                          zset_insert,
                                          zset_limits_t, zset_next, zset_place_t, zset_score, zset_seek,
                                          zset_set_score)
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    OPERATION = 0
    HAS_DESTINATION = 1          # the first key is where the result goes

cdef enum operation_t:
    INTERSECTION = 0
    UNION = 1
    DIFFERENCE = 2
    CARDINALITY = 3              # of the intersection

cdef enum aggregate_t:
    AGGREGATE_SUM = 0
    AGGREGATE_MIN = 1
    AGGREGATE_MAX = 2

cdef enum step_t:
    STEP_START = 0

cdef enum found_t:
    FOUND_NOTHING = 0
    FOUND_ZSET = 1
    FOUND_SET = 2
    FOUND_OTHER = 3

cdef struct source_t:
    const object_t *value        # NULL: no such key
    bint is_set
    uint64_t count
    double weight

cdef struct walk_t:
    # Over one source, whatever it is.
    bint is_set
    set_cursor_t members
    zset_cursor_t entries

cdef struct job_t:
    # What the command asks for, and how far it is; in tx.state, with its sources behind it.
    slices_t slices
    work_t work
    source_t *sources
    uint32_t count
    aggregate_t aggregate
    bint with_scores
    uint64_t limit               # of ZINTERCARD, 0: none
    uint32_t at                  # the source that comes next
    bint is_walking
    walk_t walk
    object_t built
    bint is_complete             # the result is, and its members are replied
    zset_cursor_t replied
    bint is_done
    uint64_t found               # of ZINTERCARD


# ---- Sources -----------------------------------------------------------------------------------

cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Values are borrowed copies: an entry may move when another key goes, its members do not."""
    cdef int result
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(<uint32_t>tx.numbers[HAS_DESTINATION], tx.key_count):
        if tx.key_shards[i] != shard.index:
            continue
        result = set_lookup_read(&scope, &tx.keys[i], &ref)
        tx.results[i].number = FOUND_SET if result == SET_FOUND else FOUND_NOTHING
        if result == SET_WRONG_TYPE:
            tx.results[i].number = FOUND_ZSET if is_zset(&ref.entry.value) else FOUND_OTHER
        if tx.results[i].number != FOUND_NOTHING:
            tx.results[i].value = ref.entry.value


cdef void init_sources(transaction_t *tx, job_t *job) noexcept nogil:
    cdef uint32_t first = <uint32_t>tx.numbers[HAS_DESTINATION]
    cdef source_t *source
    cdef uint32_t i
    job.count = tx.key_count - first
    job.sources = <source_t *>(job + 1)
    job.at = 0
    job.is_walking = False
    job.is_complete = False
    job.is_done = False
    job.found = 0
    object_set_container(&job.built, TYPE_ZSET, NULL)
    for i in range(job.count):
        source = &job.sources[i]
        source.weight = 1
        source.value = NULL
        source.count = 0
        source.is_set = tx.results[first + i].number == FOUND_SET
        if tx.results[first + i].number != FOUND_NOTHING:
            source.value = &tx.results[first + i].value
            source.count = set_count(source.value) if source.is_set else zset_count(source.value)


cdef bint find_score(const source_t *source, slice_t member, double *score) noexcept nogil:
    score[0] = 1
    if source.value == NULL:
        return False
    if source.is_set:
        return set_contains(source.value, member.data, member.size)
    return zset_score(source.value, member.data, member.size, score)


cdef void walk_begin(walk_t *self, const source_t *source) noexcept nogil:
    self.is_set = source.is_set
    if source.is_set:
        set_begin(source.value, &self.members)
    else:
        zset_seek(source.value, 0, &self.entries)


cdef bint walk_next(walk_t *self, zset_entry_t *out) noexcept nogil:
    out.score = 1
    return set_next(&self.members, &out.member) if self.is_set else zset_next(&self.entries, out)


# ---- Operations --------------------------------------------------------------------------------

cdef inline double weighted(double score, double weight) noexcept nogil:
    score *= weight
    return 0 if isnan(score) else score


cdef inline void aggregate(double *target, double value, aggregate_t how) noexcept nogil:
    if how == AGGREGATE_SUM:
        target[0] += value
        if isnan(target[0]):
            target[0] = 0            # of both infinities
    elif how == AGGREGATE_MIN:
        target[0] = min(target[0], value)
    else:
        target[0] = max(target[0], value)


cdef void sort_by_count(job_t *job) noexcept nogil:
    """Smallest first. Stable, since the order of sums shows in their last digits."""
    cdef source_t moved
    cdef uint32_t i
    cdef uint32_t j
    for i in range(1, job.count):
        moved = job.sources[i]
        j = i
        while j > 0 and job.sources[j - 1].count > moved.count:
            job.sources[j] = job.sources[j - 1]
            j -= 1
        job.sources[j] = moved


cdef bint score_in_all(const job_t *job, slice_t member, double own, double *out) noexcept nogil:
    cdef double value
    cdef uint32_t i
    out[0] = weighted(own, job.sources[0].weight)
    for i in range(1, job.count):
        if not find_score(&job.sources[i], member, &value):
            return False
        aggregate(out, value * job.sources[i].weight, job.aggregate)
    return True


# Each goes on where it was when its time was up, and says True when it is complete. What is built is large from the
# start: members are found at once, and -0 stays what it is, as in Redis.

cdef zset_limits_t LARGE
LARGE.entries = 0
LARGE.value = 0


cdef inline void walk_on(job_t *job, uint32_t source) noexcept nogil:
    if not job.is_walking:
        job.is_walking = True
        walk_begin(&job.walk, &job.sources[source])


cdef inline void add_new(job_t *job, slice_t member, double score) noexcept nogil:
    cdef zset_place_t place
    zset_find(&job.built, member.data, member.size, &place)
    zset_insert(&job.built, &place, member.data, member.size, score, &LARGE)


cdef bint intersect(job_t *job, bint counts_only) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef zset_entry_t entry
    cdef slice_t member
    cdef double score
    if not job.is_walking:
        sort_by_count(job)
        if job.sources[0].count == 0:
            return True
    walk_on(job, 0)
    while work_goes_on(&job.work):
        if not walk_next(&job.walk, &entry):
            return True
        member = list_item_text(&entry.member, scratch)
        if not score_in_all(job, member, entry.score, &score):
            continue
        job.found += 1
        if not counts_only:
            add_new(job, member, score)
        elif job.found == job.limit:
            return True
    return False


cdef void add_or_aggregate(job_t *job, slice_t member, double score) noexcept nogil:
    cdef zset_place_t place
    cdef double sum
    if not zset_find(&job.built, member.data, member.size, &place):
        zset_insert(&job.built, &place, member.data, member.size, score, &LARGE)
        return
    sum = place.score
    aggregate(&sum, score, job.aggregate)
    # -0 and 0 become 0.
    if sum != place.score or signbit(sum) != signbit(place.score):
        zset_set_score(&job.built, &place, member.data, member.size, sum)


cdef bint unite_one(job_t *job, const source_t *source) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef zset_entry_t entry
    walk_on(job, job.at)
    while work_goes_on(&job.work):
        if not walk_next(&job.walk, &entry):
            job.is_walking = False
            return True
        add_or_aggregate(job, list_item_text(&entry.member, scratch), weighted(entry.score, source.weight))
    return False


cdef bint unite(job_t *job) noexcept nogil:
    if job.at == 0 and not job.is_walking:
        sort_by_count(job)
    while job.at < job.count:
        if job.sources[job.at].value != NULL and not unite_one(job, &job.sources[job.at]):
            return False
        job.at += 1
    return True


cdef bint is_in_any(const source_t *sources, uint32_t count, slice_t member) noexcept nogil:
    cdef double ignored
    cdef uint32_t i
    for i in range(count):
        if find_score(&sources[i], member, &ignored):
            return True
    return False


cdef bint subtract(job_t *job) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef zset_entry_t entry
    cdef slice_t member
    if job.sources[0].value == NULL:
        return True
    walk_on(job, 0)
    while work_goes_on(&job.work):
        if not walk_next(&job.walk, &entry):
            return True
        member = list_item_text(&entry.member, scratch)
        if not is_in_any(job.sources + 1, job.count - 1, member):
            add_new(job, member, entry.score)
    return False


cdef bint operate(job_t *job, int64_t operation) noexcept nogil:
    if operation == UNION:
        return unite(job)
    return subtract(job) if operation == DIFFERENCE else intersect(job, operation == CARDINALITY)


cdef uint64_t elements_of(const job_t *job, int64_t operation) noexcept nogil:
    """How many it looks at, about."""
    cdef uint64_t total = 0
    cdef uint64_t least = <uint64_t>-1
    cdef uint32_t i
    for i in range(job.count):
        total += job.sources[i].count
        least = min(least, job.sources[i].count)
    if operation == DIFFERENCE:
        return job.sources[0].count
    return total if operation == UNION else least


# ---- Arguments ---------------------------------------------------------------------------------

cdef bint parse_key_count(transaction_t *tx, uint32_t position, const char *name) noexcept nogil:
    cdef char text[128]
    cdef int64_t count
    if not zset_long_argument(&tx.reply, tx.argv[position].data, tx.argv[position].size, &count):
        return False
    if count < 1:
        snprintf(text, sizeof(text), "ERR at least 1 input key is needed for '%s' command", name)
        reply_error(&tx.reply, text)
        return False
    if count > <int64_t>tx.argc - <int64_t>position - 1:
        reply_syntax_error(&tx.reply)
        return False
    return True


cdef bint parse_weights(transaction_t *tx, uint32_t first, job_t *job) noexcept nogil:
    cdef uint32_t i
    for i in range(job.count):
        if not parse_double(tx.argv[first + i], &job.sources[i].weight):
            reply_error(&tx.reply, "ERR weight value is not a float")
            return False
    return True


cdef bint parse_aggregate(slice_t word, aggregate_t *out) noexcept nogil:
    if slice_equals(word, "sum"):
        out[0] = AGGREGATE_SUM
    elif slice_equals(word, "min"):
        out[0] = AGGREGATE_MIN
    elif slice_equals(word, "max"):
        out[0] = AGGREGATE_MAX
    else:
        return False
    return True


cdef bint parse_limit(transaction_t *tx, slice_t text, job_t *job) noexcept nogil:
    cdef int64_t limit
    if parse_int64(text.data, text.size, &limit) and limit >= 0:
        job.limit = <uint64_t>limit
        return True
    reply_error(&tx.reply, "ERR LIMIT can't be negative")
    return False


cdef bint parse_options(transaction_t *tx, job_t *job) noexcept nogil:
    cdef int64_t operation = tx.numbers[OPERATION]
    cdef bint has_destination = tx.numbers[HAS_DESTINATION] != 0
    cdef bint combines = operation == UNION or operation == INTERSECTION
    cdef uint32_t i = tx.key_count + 2        # behind command, numkeys and keys
    cdef slice_t word
    while i < tx.argc:
        word = tx.argv[i]
        if combines and tx.argc - i > job.count and slice_equals(word, "weights"):
            if not parse_weights(tx, i + 1, job):
                return False
            i += job.count + 1
        elif combines and i + 1 < tx.argc and slice_equals(word, "aggregate"):
            if not parse_aggregate(tx.argv[i + 1], &job.aggregate):
                reply_syntax_error(&tx.reply)
                return False
            i += 2
        elif not has_destination and operation != CARDINALITY and slice_equals(word, "withscores"):
            job.with_scores = True
            i += 1
        elif operation == CARDINALITY and i + 1 < tx.argc and slice_equals(word, "limit"):
            if not parse_limit(tx, tx.argv[i + 1], job):
                return False
            i += 2
        else:
            reply_syntax_error(&tx.reply)
            return False
    return True


cdef job_t *make_job(transaction_t *tx) noexcept nogil:
    """NULL after an error reply."""
    cdef job_t *job
    cdef uint32_t i
    for i in range(<uint32_t>tx.numbers[HAS_DESTINATION], tx.key_count):
        if tx.results[i].number == FOUND_OTHER:
            reply_wrong_type(&tx.reply)
            return NULL
    job = <job_t *>tx.state
    if job == NULL:
        job = <job_t *>net_zalloc(sizeof(job_t) + tx.key_count * sizeof(source_t))
        tx.state = job
    job.aggregate = AGGREGATE_SUM
    job.with_scores = False
    job.limit = 0
    init_sources(tx, job)
    return job if parse_options(tx, job) else NULL


# ---- Results -----------------------------------------------------------------------------------

cdef bint fits(const object_t *value, const zset_limits_t *limits) noexcept nogil:
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    if <int64_t>zset_count(value) > limits.entries:
        return False
    zset_seek(value, 0, &cursor)
    while zset_next(&cursor, &entry):
        if <int64_t>entry.member.size > limits.value:
            return False
    return True


cdef void make_compact(object_t *value, const zset_limits_t *limits) noexcept nogil:
    """A large one that fits the limits."""
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    cdef object_t compact
    object_set_container(&compact, TYPE_ZSET, NULL)
    zset_seek(value, 0, &cursor)
    while zset_next(&cursor, &entry):
        zset_add(&compact, entry.member.data, entry.member.size, entry.score, limits)
    object_free(value)
    value[0] = compact


cdef bint reply_built(job_t *job, reply_t *reply) noexcept nogil:
    """Goes on with the members of the finished result."""
    cdef bint nested = job.with_scores and reply.resp == 3
    cdef zset_entry_t entry
    while work_goes_on(&job.work):
        if not zset_next(&job.replied, &entry):
            return True
        reply_zset_entry(reply, &entry, job.with_scores, nested)
    return False


cdef const char *store_event(int64_t operation) noexcept nogil:
    if operation == INTERSECTION:
        return "zinterstore"
    return "zunionstore" if operation == UNION else "zdiffstore"


cdef void store(transaction_t *tx, job_t *job, scope_t *scope) noexcept nogil:
    cdef zset_limits_t limits = zset_limits_of(scope)
    if zset_count(&job.built) > 0 and fits(&job.built, &limits):
        make_compact(&job.built, &limits)
    reply_int(&tx.reply, <int64_t>zset_count(&job.built))
    zset_store(scope, &tx.keys[0], &job.built, store_event(tx.numbers[OPERATION]))


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """On the shard that keeps the result, or any of its keys, which books the set that is built."""
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    slices_work(&job.slices, tx, &job.work)
    if not job.is_complete:
        if not operate(job, tx.numbers[OPERATION]):
            return
        job.is_complete = True
        if tx.numbers[HAS_DESTINATION]:
            store(tx, job, &scope)
        elif tx.numbers[OPERATION] == CARDINALITY:
            reply_int(&tx.reply, <int64_t>job.found)
        else:
            reply_zset_header(&tx.reply, zset_count(&job.built), job.with_scores)
            if zset_count(&job.built) > 0:
                zset_seek(&job.built, 0, &job.replied)
                if not reply_built(job, &tx.reply):
                    return
                drop_value(&scope, &job.built)
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


cdef int step_generic(transaction_t *tx, operation_t operation, bint has_destination, const char *name) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    if tx.stage == STEP_START:
        if not parse_key_count(tx, 2 if has_destination else 1, name):
            return TRANSACTION_DONE
        tx.numbers[OPERATION] = operation
        tx.numbers[HAS_DESTINATION] = has_destination
        return slices_look(tx, &PLAN)
    if tx.stage == SLICES_LOOKED:
        job = make_job(tx)
        if job == NULL:
            return TRANSACTION_DONE
        return slices_first(&job.slices, tx, elements_of(job, operation), <uint32_t>has_destination, &PLAN)
    return slices_next(&job.slices, tx, job.is_done, &PLAN)


cdef int zunion_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, UNION, False, "zunion")


cdef int zinter_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, INTERSECTION, False, "zinter")


cdef int zdiff_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, DIFFERENCE, False, "zdiff")


cdef int zintercard_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, CARDINALITY, False, "zintercard")


cdef int zunionstore_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, UNION, True, "zunionstore")


cdef int zinterstore_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, INTERSECTION, True, "zinterstore")


cdef int zdiffstore_step(transaction_t *tx) noexcept nogil:
    return step_generic(tx, DIFFERENCE, True, "zdiffstore")


# ---- Key positions -----------------------------------------------------------------------------

cdef int counted_keys(const slice_t *argv, uint32_t argc, uint32_t position, uint32_t *out) noexcept nogil:
    cdef int64_t count = 0
    cdef int i
    if (not parse_int64(argv[position].data, argv[position].size, &count) or count < 1
            or count > <int64_t>argc - <int64_t>position - 1):
        return -1
    for i in range(<int>count):
        out[i] = position + 1 + <uint32_t>i
    return <int>count


cdef int source_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    return counted_keys(argv, argc, 1, out)


cdef int store_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    cdef int count = counted_keys(argv, argc, 2, out + 1)
    out[0] = 1
    return count + 1 if count > 0 else -1


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 7

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY | COMMAND_MOVABLE_KEYS
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_MOVABLE_KEYS
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t overwrite = KEY_OW | KEY_UPDATE
    cdef int i
    rows[0] = transaction_row("zunion", -3, read, ACL_SORTEDSET, 0, 0, 0, look, zunion_step)
    rows[1] = transaction_row("zinter", -3, read, ACL_SORTEDSET, 0, 0, 0, look, zinter_step)
    rows[2] = transaction_row("zdiff", -3, read, ACL_SORTEDSET, 0, 0, 0, look, zdiff_step)
    rows[3] = transaction_row("zintercard", -3, read, ACL_SORTEDSET, 0, 0, 0, look, zintercard_step)
    for i in range(4):
        rows[i].get_keys = source_keys
    rows[4] = transaction_row("zunionstore", -4, grow, ACL_SORTEDSET, 1, 1, 1, overwrite, zunionstore_step)
    rows[5] = transaction_row("zinterstore", -4, grow, ACL_SORTEDSET, 1, 1, 1, overwrite, zinterstore_step)
    rows[6] = transaction_row("zdiffstore", -4, grow, ACL_SORTEDSET, 1, 1, 1, overwrite, zdiffstore_step)
    for i in range(4, 7):
        rows[i].get_keys = store_keys
    register_commands(rows, ROW_COUNT)
