"""Hash commands that look at many fields: HGETALL, HKEYS, HVALS, HRANDFIELD, HSCAN."""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from dfly._core.commands.element_scans cimport element_scan, element_scan_t
from dfly._core.commands.hashes cimport find_hash, reply_hash_item
from dfly._core.commands.long_reads cimport (long_read_at_once, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted)
from dfly._core.commands.scan_options cimport parse_scan_cursor, reply_empty_scan, scan_pattern_matches
from dfly._core.engine.command cimport (ACL_HASH, COMMAND_READONLY, KEY_ACCESS, KEY_RO, call_int_argument,
                                        call_t, command_spec_t, key_row, register_commands,
                                        reply_syntax_error, slice_equals, transaction_t)
from dfly._core.engine.slices cimport work_goes_on
from dfly._core.resp.reply cimport (reply_array, reply_chain_header, reply_defer_array, reply_error,
                                    reply_map, reply_null, reply_set_deferred, reply_t)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_text
from dfly._core.store.dash cimport DASH_CURSOR_BITS, dash_ref_t
from dfly._core.store.dash_scan cimport dash_draw, dash_draws_begin, dash_draws_t
from dfly._core.store.hash_map cimport (HASH_LISTPACK, hash_count, hash_entry_t, hash_next_deadline,
                                        hash_random, hash_read_table_entry, hash_scan, hash_table)
from dfly._core.store.object cimport object_encoding, object_t
from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    WITH_FIELDS = 1
    WITH_VALUES = 2
    NESTED = 4                   # each field with its value in an array of two
    REPEATING = 8                # HRANDFIELD: any fields, or a selection in a walk; else they are drawn
    SELECTING = 16
    HOW = 24
    SPARSE_FACTOR = 3            # a table this much larger than the count is sampled, else walked
    TRIES_FACTOR = 10


# ---- HGETALL, HKEYS, HVALS -----------------------------------------------------------------------

cdef struct walk_t:
    reply_t *reply
    int what
    uint64_t visited
    uint64_t left                # selection: fields not looked at yet, and those still wanted of them
    uint64_t wanted


cdef inline void reply_entry(walk_t *walk, const hash_entry_t *entry) noexcept nogil:
    if walk.what & NESTED:
        reply_array(walk.reply, 2)
    if walk.what & WITH_FIELDS:
        reply_hash_item(walk.reply, &entry.field)
    if walk.what & WITH_VALUES:
        reply_hash_item(walk.reply, &entry.value)
    walk.visited += 1


cdef void visit_entry(const hash_entry_t *entry, void *context) noexcept nogil:
    reply_entry(<walk_t *>context, entry)


cdef void reply_all(walk_t *walk, const object_t *hash, int64_t now_ms) noexcept nogil:
    cdef uint64_t cursor = 0
    while True:
        cursor = hash_scan(hash, cursor, now_ms, visit_entry, walk)
        if cursor == 0:
            return


cdef void reply_header_of(reply_t *reply, int what, uint64_t count) noexcept nogil:
    if what == WITH_FIELDS | WITH_VALUES:
        reply_map(reply, count)
    else:
        reply_array(reply, count)


cdef bint go_on_with_fields(long_read_t *read, transaction_t *tx) noexcept nogil:
    """A bucket a step. How many fields are not due shows at the end (read.left: those replied)."""
    cdef walk_t walk
    cdef bint is_complete = False
    walk.reply = &tx.reply
    walk.what = <int>read.what
    walk.visited = read.left
    while not is_complete and work_goes_on(&read.work):
        read.cursor.buckets = hash_scan(&read.value, read.cursor.buckets, tx.now_ms, visit_entry, &walk)
        is_complete = read.cursor.buckets == 0
    read.left = walk.visited
    if is_complete:
        reply_chain_header(&tx.chain, &tx.reply, c'%' if walk.what == WITH_FIELDS | WITH_VALUES else c'*',
                           walk.visited)
    return is_complete


cdef void get_all(call_t *call, int what) noexcept nogil:
    cdef long_read_t *read
    cdef dash_ref_t ref
    cdef walk_t walk
    cdef bint found
    cdef bint as_map = what == WITH_FIELDS | WITH_VALUES
    cdef size_t mark
    if not find_hash(call, &ref, &found):
        return
    walk.reply = call.reply
    walk.what = what
    walk.visited = 0
    if not found:
        reply_header_of(call.reply, what, 0)
    elif long_read_wanted(call, hash_count(&ref.entry.value)):
        read = long_read_begin(call, &ref.entry.value, go_on_with_fields)
        if read != NULL:
            read.what = what
            read.left = 0
            read.cursor.buckets = 0
    elif hash_next_deadline(&ref.entry.value) < 0:
        reply_header_of(call.reply, what, hash_count(&ref.entry.value))
        reply_all(&walk, &ref.entry.value, call.scope.now_ms)
    else:
        mark = reply_defer_array(call.reply)
        reply_all(&walk, &ref.entry.value, call.scope.now_ms)
        if as_map and call.reply.resp == 3:
            reply_set_deferred(call.reply, mark, c'%', walk.visited)
        else:
            reply_set_deferred(call.reply, mark, c'*', walk.visited * 2 if as_map else walk.visited)


cdef void hgetall_command(call_t *call) noexcept nogil:
    get_all(call, WITH_FIELDS | WITH_VALUES)


cdef void hkeys_command(call_t *call) noexcept nogil:
    get_all(call, WITH_FIELDS)


cdef void hvals_command(call_t *call) noexcept nogil:
    get_all(call, WITH_VALUES)


# ---- HRANDFIELD ----------------------------------------------------------------------------------

cdef void visit_selected(const hash_entry_t *entry, void *context) noexcept nogil:
    """Takes each field with the probability that makes all selections equally likely (Knuth's algorithm S)."""
    cdef walk_t *walk = <walk_t *>context
    if walk.left > 0 and random_u64() % walk.left < walk.wanted:
        reply_entry(walk, entry)
        walk.wanted -= 1
    if walk.left > 0:
        walk.left -= 1


cdef bint select_fields(long_read_t *read, walk_t *walk, int64_t now_ms) noexcept nogil:
    """A bucket a step; read.first fields are not looked at yet, and read.left of them still wanted."""
    cdef bint is_complete = read.left == 0
    walk.left = read.first
    walk.wanted = read.left
    while not is_complete and work_goes_on(&read.work):
        read.cursor.buckets = hash_scan(&read.value, read.cursor.buckets, now_ms, visit_selected, walk)
        is_complete = walk.wanted == 0 or read.cursor.buckets == 0
    read.first = walk.left
    read.left = walk.wanted
    return is_complete


cdef bint draw_fields(long_read_t *read, walk_t *walk, int64_t now_ms) noexcept nogil:
    """A few different fields of a large table: their entries' addresses tell them apart. Those taken are in an
    open-addressed table of read.first slots, in read.extra; where most are due it gives up."""
    cdef hash_entry_t entry
    cdef dash_draws_t draws
    cdef dash_ref_t ref
    cdef uint64_t *taken
    cdef uint64_t i
    if not read.is_begun:
        read.tries = read.left * TRIES_FACTOR
        read.first = 16
        while read.first < read.left * 2:
            read.first *= 2
        read.extra = net_realloc(read.extra, read.first * sizeof(uint64_t))
        memset(read.extra, 0, read.first * sizeof(uint64_t))
    taken = <uint64_t *>read.extra
    dash_draws_begin(&draws, random_u64(), read.left)
    while read.left > 0 and read.tries > 0:
        if not work_goes_on(&read.work):
            return False
        read.tries -= 1
        if not dash_draw(hash_table(&read.value), &draws, &ref):
            return True
        i = (<uint64_t>ref.entry // sizeof(ref.entry[0])) & (read.first - 1)
        while taken[i] != 0 and taken[i] != <uint64_t>ref.entry:
            i = (i + 1) & (read.first - 1)
        if taken[i] != 0:
            continue
        hash_read_table_entry(&ref, &entry)
        if entry.deadline < 0 or entry.deadline > now_ms:
            taken[i] = <uint64_t>ref.entry
            reply_entry(walk, &entry)
            read.left -= 1
    return True


cdef bint repeat_fields(long_read_t *read, walk_t *walk, int64_t now_ms) noexcept nogil:
    cdef hash_entry_t entry
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        if not hash_random(&read.value, now_ms, &entry):
            return True
        reply_entry(walk, &entry)
        read.left -= 1
    return True


cdef bint random_fields(long_read_t *read, reply_t *reply, int64_t now_ms) noexcept nogil:
    """read.visited counts those replied."""
    cdef bint is_complete
    cdef walk_t walk
    walk.reply = reply
    walk.what = <int>read.what & ~HOW
    walk.visited = read.visited
    if read.what & REPEATING:
        is_complete = repeat_fields(read, &walk, now_ms)
    elif read.what & SELECTING:
        is_complete = select_fields(read, &walk, now_ms)
    else:
        is_complete = draw_fields(read, &walk, now_ms)
    read.visited = walk.visited
    return is_complete


cdef uint64_t random_elements(const long_read_t *read, const reply_t *reply) noexcept nogil:
    return read.visited * 2 if read.what & WITH_VALUES and reply.resp == 2 else read.visited


cdef bint go_on_with_random(long_read_t *read, transaction_t *tx) noexcept nogil:
    if not random_fields(read, &tx.reply, tx.now_ms):
        return False
    reply_chain_header(&tx.chain, &tx.reply, c'*', random_elements(read, &tx.reply))
    return True


cdef void begin_random(long_read_t *read, int64_t count, bint with_values, bint nested) noexcept nogil:
    cdef uint64_t total = hash_count(&read.value)
    read.visited = 0
    read.cursor.buckets = 0
    read.first = total
    read.left = <uint64_t>-count if count < 0 else min(<uint64_t>count, total)
    read.what = WITH_FIELDS
    if with_values:
        read.what |= WITH_VALUES
        if nested:
            read.what |= NESTED
    if count < 0:
        read.what |= REPEATING
    elif object_encoding(&read.value) == HASH_LISTPACK or read.left * SPARSE_FACTOR > total:
        read.what |= SELECTING


cdef void reply_random(call_t *call, const object_t *hash, int64_t count, bint with_values) noexcept nogil:
    cdef uint64_t wanted = <uint64_t>-count if count < 0 else min(<uint64_t>count, hash_count(hash))
    cdef long_read_t *sliced
    cdef long_read_t read
    cdef size_t mark
    if long_read_wanted(call, wanted):
        sliced = long_read_begin(call, hash, go_on_with_random)
        if sliced != NULL:
            begin_random(sliced, count, with_values, call.reply.resp == 3)
        return
    mark = reply_defer_array(call.reply)
    long_read_at_once(&read, hash)
    begin_random(&read, count, with_values, call.reply.resp == 3)
    random_fields(&read, call.reply, call.scope.now_ms)
    reply_set_deferred(call.reply, mark, c'*', random_elements(&read, call.reply))
    net_free(read.extra)


cdef bint parse_random(call_t *call, int64_t *count, bint *with_values) noexcept nogil:
    cdef char text[128]
    with_values[0] = False
    if not call_int_argument(call, 2, count):
        return False
    if count[0] < -INT64_MAX:
        snprintf(text, sizeof(text), "ERR value is out of range, value must between %lld and %lld",
                 <long long>-INT64_MAX, <long long>INT64_MAX)
        reply_error(call.reply, text)
        return False
    if call.argc > 4 or (call.argc == 4 and not slice_equals(call.argv[3], "withvalues")):
        reply_syntax_error(call.reply)
        return False
    if call.argc == 4:
        with_values[0] = True
        if count[0] < -(INT64_MAX // 2) or count[0] > INT64_MAX // 2:
            reply_error(call.reply, "ERR value is out of range")
            return False
    return True


cdef void hrandfield_command(call_t *call) noexcept nogil:
    cdef hash_entry_t entry
    cdef dash_ref_t ref
    cdef int64_t count = 0
    cdef bint with_values
    cdef bint found
    if call.argc > 2:
        if not parse_random(call, &count, &with_values) or not find_hash(call, &ref, &found):
            return
        if not found or count == 0:
            reply_array(call.reply, 0)
        else:
            reply_random(call, &ref.entry.value, count, with_values)
        return
    if not find_hash(call, &ref, &found):
        return
    if found and hash_random(&ref.entry.value, call.scope.now_ms, &entry):
        reply_hash_item(call.reply, &entry.field)
    else:
        reply_null(call.reply)


# ---- HSCAN -----------------------------------------------------------------------------------------

cdef void visit_scanned(const hash_entry_t *entry, void *context) noexcept nogil:
    cdef element_scan_t *scan = <element_scan_t *>context
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t field
    if scan.options.pattern.data != NULL:
        field = list_item_text(&entry.field, scratch)
        if not scan_pattern_matches(&scan.options, field.data, field.size):
            return
    reply_hash_item(scan.elements, &entry.field)
    if not scan.options.no_values:
        reply_hash_item(scan.elements, &entry.value)
    scan.found += 1 if scan.options.no_values else 2
    scan.counted += 1


cdef uint64_t scan_bucket(element_scan_t *scan, uint64_t cursor) noexcept nogil:
    return hash_scan(scan.value, cursor, scan.now_ms, visit_scanned, scan)


cdef void hscan_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef uint64_t cursor = 0
    cdef bint found
    if not parse_scan_cursor(call.argv[2], &cursor):
        reply_error(call.reply, "ERR invalid cursor")
        return
    if not find_hash(call, &ref, &found):
        return
    if not found:
        reply_empty_scan(call.reply)
        return
    cursor &= (<uint64_t>1 << DASH_CURSOR_BITS) - 1
    element_scan(call, &ref.entry.value, hash_count(&ref.entry.value), cursor, scan_bucket, True)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 5

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef int i
    rows[0] = key_row("hgetall", 2, COMMAND_READONLY, ACL_HASH, look, hgetall_command)
    rows[1] = key_row("hkeys", 2, COMMAND_READONLY, ACL_HASH, look, hkeys_command)
    rows[2] = key_row("hvals", 2, COMMAND_READONLY, ACL_HASH, look, hvals_command)
    for i in range(3):
        rows[i].step = long_read_step
    rows[3] = key_row("hrandfield", -2, COMMAND_READONLY, ACL_HASH, look, hrandfield_command)
    rows[3].step = long_read_step
    rows[4] = key_row("hscan", -3, COMMAND_READONLY, ACL_HASH, look, hscan_command)
    rows[4].step = long_read_step
    register_commands(rows, ROW_COUNT)
