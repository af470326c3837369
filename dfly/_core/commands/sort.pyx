"""SORT and SORT_RO.

BY and GET look keys up that follow from the elements, so they may lie on any shard: with such a pattern the command
holds the tokens of all shards. The elements are copied first; then each shard in turn fills in the weights of the
keys it owns; then all is sorted; then each shard fills in what GET asks for; then the result is replied or stored.
Order of checks, replies and events as Redis 7.0; texts are compared byte by byte (the C locale).
"""

from libc.math cimport isnan
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort, strtod
from libc cimport errno as c_errno
from libc.string cimport memchr, memcmp, memcpy

from dfly._core.commands.strings cimport overwrite_key
from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_LIST, ACL_SET, ACL_SORTEDSET, COMMAND_DENYOOM,
                                        COMMAND_MOVABLE_KEYS, COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS,
                                        KEY_INCOMPLETE, KEY_RO, TRANSACTION_DONE, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_LIST, delete_key, drop_value, find_read, find_write,
                                         update_end)
from dfly._core.engine.shard cimport scope_t, shard_of, shard_t
from dfly._core.engine.transaction cimport hop_on_all_shards, hop_on_shard, transaction_lock_all, transaction_scope
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_error, reply_int, reply_null
from dfly._core.commands.zsets cimport zset_long_argument
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, list_count, list_cursor_t, list_item_t,
                                          list_item_text, list_limits, list_limits_t, list_next, list_push, list_seek)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hash_map cimport hash_find, hash_place_t, hash_value
from dfly._core.store.member_set cimport set_begin, set_count, set_cursor_t, set_next
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_HASH, TYPE_LIST, TYPE_SET, TYPE_ZSET, key_init, key_t,
                                      object_is_container, object_is_string, object_pointer, object_root,
                                      object_set_container, object_t, object_view)
from dfly._core.store.sorted_set cimport zset_count, zset_cursor_t, zset_entry_t, zset_next, zset_seek
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum step_t:
    STEP_START = 0
    STEP_COPIED = 1
    STEP_WEIGHED = 2
    STEP_FETCHED = 3
    STEP_STORED = 4

cdef enum:
    NUMBER_TEXT_MAX = 511
    ARENA_FIRST = 4096
    IS_SET = 0                   # place in tx.numbers

cdef struct arena_t:
    # Texts copied for one command; offsets, since it grows.
    char *data
    size_t size
    size_t capacity

cdef struct text_t:
    size_t offset
    size_t size
    bint is_missing

cdef struct element_t:
    text_t text
    text_t weight                # with BY and ALPHA
    double number
    uint64_t place               # in the source: equal ones keep their order
    const char *base             # of the arena, while sorting
    const job_t *job

cdef struct pattern_t:
    slice_t whole
    bint is_element              # "#"
    bint is_constant             # without "*": nothing is ever found
    slice_t prefix
    slice_t suffix
    slice_t field                # of a hash; data NULL: the key is a string

cdef struct job_t:
    # In tx.state's stead while the command runs; freed by its end.
    arena_t arena
    element_t *elements
    uint64_t count
    uint64_t start               # of the result, in the elements
    uint64_t result_count
    pattern_t by
    pattern_t *gets
    uint32_t get_count
    text_t *fetched              # get_count of each result
    int64_t offset
    int64_t limit                # -1: none
    bint has_by
    bint has_limit
    bint dont_sort
    bint is_alpha
    bint is_descending
    bint is_stored
    bint is_not_numeric
    bint is_wrong_type


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
            job.is_descending = False
        elif slice_equals(word, "desc"):
            job.is_descending = True
        elif slice_equals(word, "alpha"):
            job.is_alpha = True
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
            job.has_by = True
            # Once and for all, as in Redis: a later BY with a pattern sorts nothing either.
            job.dont_sort = job.dont_sort or job.by.is_constant
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


# ---- Copying the elements ----------------------------------------------------------------------

cdef void keep(arena_t *self, slice_t text, text_t *out) noexcept nogil:
    if self.size + text.size > self.capacity:
        self.capacity = max(2 * self.capacity, self.size + text.size + ARENA_FIRST)
        self.data = <char *>net_realloc(self.data, self.capacity)
    if text.size > 0:
        memcpy(self.data + self.size, text.data, text.size)
    out.offset = self.size
    out.size = text.size
    out.is_missing = False
    self.size += text.size


cdef inline slice_t kept(const arena_t *self, const text_t *text) noexcept nogil:
    cdef slice_t out
    out.data = self.data + text.offset
    out.size = text.size
    return out


cdef void keep_item(job_t *job, const list_item_t *item) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef element_t *element = &job.elements[job.count]
    keep(&job.arena, list_item_text(item, scratch), &element.text)
    element.place = job.count
    job.count += 1


cdef void copy_list(job_t *job, const object_t *value) noexcept nogil:
    cdef list_cursor_t cursor
    cdef list_item_t item
    list_seek(object_pointer(value), 0, &cursor)
    while list_next(&cursor, &item):
        keep_item(job, &item)


cdef void copy_set(job_t *job, const object_t *value) noexcept nogil:
    cdef set_cursor_t cursor
    cdef list_item_t item
    set_begin(value, &cursor)
    while set_next(&cursor, &item):
        keep_item(job, &item)


cdef void copy_zset(job_t *job, const object_t *value) noexcept nogil:
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    zset_seek(value, 0, &cursor)
    while zset_next(&cursor, &entry):
        keep_item(job, &entry.member)


cdef uint64_t size_of(const object_t *value) noexcept nogil:
    if object_is_container(value, TYPE_LIST):
        return list_count(object_pointer(value))
    return set_count(value) if object_is_container(value, TYPE_SET) else zset_count(value)


cdef void copy_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef const object_t *value
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    if not find_read(&scope, &tx.keys[0], &ref):
        return
    value = &ref.entry.value
    if not (object_is_container(value, TYPE_LIST) or object_is_container(value, TYPE_SET)
            or object_is_container(value, TYPE_ZSET)):
        job.is_wrong_type = True
        return
    job.elements = <element_t *>net_zalloc(size_of(value) * sizeof(element_t))
    if object_is_container(value, TYPE_LIST):
        copy_list(job, value)
    elif object_is_container(value, TYPE_SET):
        copy_set(job, value)
        tx.numbers[IS_SET] = 1
        if job.dont_sort and job.is_stored:
            # What is stored must not depend on the order in which a set happens to lie.
            job.dont_sort = False
            job.is_alpha = True
            job.has_by = False
    else:
        copy_zset(job, value)


cdef void settle_range(job_t *job) noexcept nogil:
    """LIMIT, as offsets into the result."""
    cdef int64_t total = <int64_t>job.count
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


cdef void look_up(scope_t *scope, const pattern_t *pattern, arena_t *arena, slice_t name, text_t *out) noexcept nogil:
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


cdef void fill(scope_t *scope, const pattern_t *pattern, job_t *job, const element_t *element,
               text_t *out) noexcept nogil:
    """What the pattern says of the element, if this shard owns the key."""
    cdef slice_t text = kept(&job.arena, &element.text)
    cdef slice_t name
    cdef key_t key
    cdef char *owned
    if pattern.is_constant:
        return
    owned = make_key(pattern, text, &name)
    key_init(&key, name.data, name.size)
    if shard_of(key.hash, scope.shard.shard_count) == scope.shard.index:
        look_up(scope, pattern, &job.arena, name, out)
    net_free(owned)


cdef void weigh_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    cdef uint64_t i
    transaction_scope(tx, shard, &scope)
    for i in range(job.count):
        fill(&scope, &job.by, job, &job.elements[i], &job.elements[i].weight)


cdef void fetch_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    cdef scope_t scope
    cdef uint64_t i
    cdef uint32_t g
    transaction_scope(tx, shard, &scope)
    for i in range(job.result_count):
        for g in range(job.get_count):
            fill(&scope, &job.gets[g], job, &job.elements[job.start + i], &job.fetched[i * job.get_count + g])


# ---- Sorting -----------------------------------------------------------------------------------

cdef bint read_number(slice_t text, double *out) noexcept nogil:
    """As C does, up to an end mark in the text."""
    cdef char copy[NUMBER_TEXT_MAX + 1]
    cdef char *end
    if text.size > NUMBER_TEXT_MAX:
        return False
    memcpy(copy, text.data, text.size)
    copy[text.size] = 0
    c_errno.errno = 0
    out[0] = strtod(copy, &end)
    return end[0] == 0 and not isnan(out[0]) and c_errno.errno != c_errno.ERANGE


cdef int compare_texts(slice_t a, slice_t b) noexcept nogil:
    cdef int order = memcmp(a.data, b.data, min(a.size, b.size))
    return order if order != 0 else <int>(a.size > b.size) - <int>(a.size < b.size)


cdef int compare_elements(const element_t *a, const element_t *b) noexcept nogil:
    cdef const job_t *job = a.job
    cdef const arena_t *arena = &job.arena
    if not job.is_alpha:
        if a.number != b.number:
            return 1 if a.number > b.number else -1
        return compare_texts(kept(arena, &a.text), kept(arena, &b.text))
    if not job.has_by:
        return compare_texts(kept(arena, &a.text), kept(arena, &b.text))
    if a.weight.is_missing or b.weight.is_missing:
        return <int>b.weight.is_missing - <int>a.weight.is_missing
    return compare_texts(kept(arena, &a.weight), kept(arena, &b.weight))


cdef int compare(const void *a, const void *b) noexcept nogil:
    cdef const element_t *left = <const element_t *>a
    cdef const element_t *right = <const element_t *>b
    cdef int order = compare_elements(left, right)
    if order == 0:
        return <int>(left.place > right.place) - <int>(left.place < right.place)
    return -order if left.job.is_descending else order


cdef void reverse(job_t *job) noexcept nogil:
    cdef element_t moved
    cdef uint64_t i
    for i in range(job.count // 2):
        moved = job.elements[i]
        job.elements[i] = job.elements[job.count - 1 - i]
        job.elements[job.count - 1 - i] = moved


cdef void sort_elements(job_t *job) noexcept nogil:
    cdef element_t *element
    cdef uint64_t i
    cdef slice_t text
    for i in range(job.count):
        element = &job.elements[i]
        element.job = job
        if job.is_alpha or (job.has_by and element.weight.is_missing):
            continue
        text = kept(&job.arena, &element.weight if job.has_by else &element.text)
        if not read_number(text, &element.number):
            job.is_not_numeric = True
    if job.count > 1:
        qsort(job.elements, job.count, sizeof(element_t), compare)


# ---- Results -----------------------------------------------------------------------------------

cdef bint result(const job_t *job, uint64_t i, uint32_t g, slice_t *out) noexcept nogil:
    """False: there is nothing."""
    cdef const text_t *text = &job.elements[job.start + i].text
    if job.get_count > 0 and not job.gets[g].is_element:
        text = &job.fetched[i * job.get_count + g]
        if text.is_missing:
            return False
    out[0] = kept(&job.arena, text)
    return True


cdef void reply_result(transaction_t *tx, const job_t *job) noexcept nogil:
    cdef uint32_t columns = max(job.get_count, <uint32_t>1)
    cdef slice_t text
    cdef uint64_t i
    cdef uint32_t g
    reply_array(&tx.reply, job.result_count * columns)
    for i in range(job.result_count):
        for g in range(columns):
            if result(job, i, g, &text):
                reply_bulk(&tx.reply, text.data, text.size)
            else:
                reply_null(&tx.reply)


cdef void store_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef const job_t *job = <const job_t *>tx.state
    cdef uint32_t columns = max(job.get_count, <uint32_t>1)
    cdef key_t *key = &tx.keys[tx.key_count - 1]
    cdef list_limits_t limits
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef object_t built
    cdef slice_t text
    cdef uint64_t i
    cdef uint32_t g
    transaction_scope(tx, shard, &scope)
    limits = list_limits(scope.shard.settings.list_max_listpack_size)
    object_set_container(&built, TYPE_LIST, NULL)
    for i in range(job.result_count):
        for g in range(columns):
            if not result(job, i, g, &text):
                text.data = ""
                text.size = 0
            list_push(object_root(&built), text.data, text.size, False, &limits)
    if job.result_count > 0:
        overwrite_key(&scope, key, &ref)
        drop_value(&scope, &ref.entry.value)
        ref.entry.value = built
        update_end(&scope, key, NOTIFY_LIST, "sortstore")
    elif find_write(&scope, key, &ref):
        delete_key(&scope, key, &ref, NOTIFY_GENERIC, "del")
    reply_int(&tx.reply, <int64_t>(job.result_count * columns))


# ---- Steps -------------------------------------------------------------------------------------

cdef job_t *make_job(transaction_t *tx, bint read_only) noexcept nogil:
    """NULL after an error reply."""
    cdef job_t *job = <job_t *>net_zalloc(sizeof(job_t) + tx.argc * sizeof(pattern_t))
    tx.state = job
    return job if parse_options(tx, read_only, job, <pattern_t *>(job + 1)) else NULL


cdef void mark_missing(text_t *texts, uint64_t count) noexcept nogil:
    cdef uint64_t i
    for i in range(count):
        texts[i].is_missing = True


cdef bint looks_up(const job_t *job) noexcept nogil:
    cdef uint32_t g
    for g in range(job.get_count):
        if not job.gets[g].is_constant:
            return True
    return False


cdef int weigh(transaction_t *tx, job_t *job) noexcept nogil:
    cdef uint64_t i
    tx.stage = STEP_WEIGHED
    if job.dont_sort or not job.has_by:
        return after_weighing(tx, job)
    for i in range(job.count):
        job.elements[i].weight.is_missing = True
    return hop_on_all_shards(tx, weigh_hop)


cdef int after_weighing(transaction_t *tx, job_t *job) noexcept nogil:
    if not job.dont_sort:
        sort_elements(job)
    elif job.is_descending and tx.numbers[IS_SET] == 0:
        reverse(job)
    settle_range(job)
    tx.stage = STEP_FETCHED
    job.fetched = <text_t *>net_zalloc((job.result_count * job.get_count + 1) * sizeof(text_t))
    mark_missing(job.fetched, job.result_count * job.get_count)
    if job.is_not_numeric or not looks_up(job):
        return after_fetching(tx, job)
    return hop_on_all_shards(tx, fetch_hop)


cdef int after_fetching(transaction_t *tx, job_t *job) noexcept nogil:
    tx.stage = STEP_STORED
    if job.is_not_numeric:
        reply_error(&tx.reply, "ERR One or more scores can't be converted into double")
        return TRANSACTION_DONE
    if job.is_stored:
        return hop_on_shard(tx, tx.key_shards[tx.key_count - 1], store_hop)
    reply_result(tx, job)
    return TRANSACTION_DONE


cdef void free_job(job_t *job) noexcept nogil:
    net_free(job.arena.data)
    net_free(job.elements)
    net_free(job.fetched)
    job.arena.data = NULL
    job.elements = NULL
    job.fetched = NULL


cdef int run_step(transaction_t *tx, bint read_only) noexcept nogil:
    cdef job_t *job = <job_t *>tx.state
    if tx.stage == STEP_START:
        if make_job(tx, read_only) == NULL:
            return TRANSACTION_DONE
        tx.stage = STEP_COPIED
        return hop_on_shard(tx, tx.key_shards[0], copy_hop)
    if tx.stage == STEP_COPIED:
        if job.is_wrong_type:
            reply_wrong_type(&tx.reply)
            return TRANSACTION_DONE
        return weigh(tx, job)
    if tx.stage == STEP_WEIGHED:
        return after_weighing(tx, job)
    if tx.stage == STEP_FETCHED:
        return after_fetching(tx, job)
    return TRANSACTION_DONE


cdef int step_generic(transaction_t *tx, bint read_only) noexcept nogil:
    cdef int result = run_step(tx, read_only)
    if result == TRANSACTION_DONE and tx.state != NULL:
        free_job(<job_t *>tx.state)
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
