"""Implementation of popping from the first key that exists: see pops.pxd."""

from dfly._core.commands.long_reads cimport long_read_t
from dfly._core.commands.timeouts cimport parse_timeout_seconds
from dfly._core.engine.blocking cimport blocking_is_over, blocking_wait
from dfly._core.engine.command cimport (TRANSACTION_DONE, reply_syntax_error, reply_wrong_type, slice_equals)
from dfly._core.engine.shard cimport shard_t
from dfly._core.engine.slices cimport (SLICES_DROPPED, SLICES_LOOKED, slices_first, slices_look, slices_next,
                                       slices_plan_t, slices_work)
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.engine.waiter cimport NO_SHARD
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_error, reply_null_array
from dfly._core.store.object cimport key_t, parse_int64
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    FAMILY = 4                   # its address
    CHOSEN = 5
    COUNT = 6
    FIRST_END = 7

cdef enum step_t:
    STEP_START = 0
    STEP_LOOKED = 1
    STEP_LAST = 2


cdef inline const pop_family_t *family_of(const transaction_t *tx) noexcept nogil:
    return <const pop_family_t *>tx.numbers[FAMILY]


# ---- Popping from the first key that exists ----------------------------------------------------

cdef void pop_at(transaction_t *tx, uint32_t position) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, tx.shards[tx.key_shards[position]], &scope)
    tx.numbers[CHOSEN] = position
    family_of(tx).pop(&scope, &tx.keys[position], <uint64_t>tx.numbers[COUNT], tx.numbers[FIRST_END] != 0, &tx.reply)


cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] != shard.index:
            continue
        tx.results[i].number = family_of(tx).look(&scope, &tx.keys[i])
        if tx.results[i].number != POP_ABSENT:
            # It comes before the others of this shard, which are not touched.
            break


cdef void pop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    pop_at(tx, <uint32_t>tx.numbers[CHOSEN])


cdef bint choose_key(transaction_t *tx) noexcept nogil:
    """False: there is none, or the first of them is of another type, which is replied."""
    cdef uint32_t i
    for i in range(tx.key_count):
        if tx.results[i].number == POP_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return False
        if tx.results[i].number == POP_FOUND:
            tx.numbers[CHOSEN] = i
            return True
    return False


# ---- The same in slices ------------------------------------------------------------------------

cdef bint is_long(const transaction_t *tx, int64_t count) noexcept nogil:
    """Who has waited is served at once: it must not take what it may not live to get."""
    return (count > <int64_t>tx.shards[0].settings.slice_elements and not tx.is_inside
            and tx.connection.waiter == NULL)


cdef void exchange_keys(transaction_t *tx, uint32_t position) noexcept nogil:
    """The key there becomes the first, and the first goes there: slices work on the first."""
    cdef key_t key = tx.keys[0]
    cdef uint32_t shard = tx.key_shards[0]
    cdef uint32_t in_argv = tx.key_positions[0]
    tx.keys[0] = tx.keys[position]
    tx.key_shards[0] = tx.key_shards[position]
    tx.key_positions[0] = tx.key_positions[position]
    tx.keys[position] = key
    tx.key_shards[position] = shard
    tx.key_positions[position] = in_argv


cdef void slice_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef long_read_t *read = <long_read_t *>tx.state
    cdef scope_t scope
    slices_work(&read.slices, tx, &read.work)
    if not read.is_begun:
        transaction_scope(tx, shard, &scope)
        reply_array(&tx.reply, 2)
        reply_bulk(&tx.reply, tx.keys[0].data, tx.keys[0].size)
        family_of(tx).begin(&scope, &tx.keys[0], <uint64_t>tx.numbers[COUNT], tx.numbers[FIRST_END] != 0, read)
    read.is_done = read.go_on(read, tx)
    read.is_begun = True


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Nothing has been built but the reply."""


cdef slices_plan_t PLAN
PLAN.look = look_hop
PLAN.work = slice_hop
PLAN.drop = drop_hop


cdef int slice_step(transaction_t *tx) noexcept nogil:
    cdef long_read_t *read = <long_read_t *>tx.state
    if tx.stage != SLICES_LOOKED:
        if tx.stage == SLICES_DROPPED:
            exchange_keys(tx, <uint32_t>tx.numbers[CHOSEN])
        return slices_next(&read.slices, tx, read.is_done, &PLAN)
    read.is_begun = False
    if choose_key(tx):
        exchange_keys(tx, <uint32_t>tx.numbers[CHOSEN])
        # A key before it that appears comes first; what was cut out of it needs no key any more.
        return slices_first(&read.slices, tx, <uint64_t>tx.numbers[COUNT],
                            tx.key_count if family_of(tx).is_cut else 0, &PLAN)
    net_free(tx.state)
    tx.state = NULL
    tx.stage = STEP_START
    return TRANSACTION_DONE


cdef int pop_first_step(transaction_t *tx, const pop_family_t *family, int64_t count, bint first_end) noexcept nogil:
    """Nothing in the reply when it is done: no key exists."""
    if tx.state != NULL:
        return slice_step(tx)
    if tx.stage == STEP_START:
        tx.numbers[FAMILY] = <int64_t>family
        tx.numbers[COUNT] = count
        tx.numbers[FIRST_END] = first_end
        if is_long(tx, count):
            tx.state = net_zalloc(sizeof(long_read_t))
            return slices_look(tx, &PLAN)
        tx.stage = STEP_LOOKED
        return hop_on_keys(tx, look_hop)
    if tx.stage == STEP_LOOKED and choose_key(tx):
        tx.stage = STEP_LAST
        return hop_on_shard(tx, tx.key_shards[tx.numbers[CHOSEN]], pop_hop)
    tx.stage = STEP_START
    return TRANSACTION_DONE


cdef inline bint has_nothing(const transaction_t *tx) noexcept nogil:
    """It is done, and no key was there."""
    return tx.reply.size == 0 and tx.state == NULL


# ---- LMPOP, ZMPOP ------------------------------------------------------------------------------

cdef bint parse_mpop(transaction_t *tx, const pop_family_t *family, uint32_t first, int64_t *count,
                     bint *first_end) noexcept nogil:
    """numkeys at `first`, keys, an end, COUNT."""
    cdef int64_t key_count = 0
    cdef uint32_t position
    count[0] = 1
    if not parse_int64(tx.argv[first].data, tx.argv[first].size, &key_count) or key_count <= 0:
        reply_error(&tx.reply, "ERR numkeys should be greater than 0")
        return False
    if key_count > <int64_t>tx.argc - <int64_t>first - 2:
        reply_syntax_error(&tx.reply)
        return False
    position = <uint32_t>key_count + first + 1
    first_end[0] = slice_equals(tx.argv[position], family.first_word)
    if not first_end[0] and not slice_equals(tx.argv[position], family.last_word):
        reply_syntax_error(&tx.reply)
        return False
    position += 1
    if position == tx.argc:
        return True
    if not slice_equals(tx.argv[position], "count") or position + 1 == tx.argc:
        reply_syntax_error(&tx.reply)
        return False
    position += 1
    if not parse_int64(tx.argv[position].data, tx.argv[position].size, count) or count[0] <= 0:
        reply_error(&tx.reply, "ERR count should be greater than 0")
        return False
    if position + 1 < tx.argc:
        reply_syntax_error(&tx.reply)
        return False
    return True


cdef int mpop_step(transaction_t *tx, const pop_family_t *family) noexcept nogil:
    cdef int64_t count
    cdef bint first_end
    cdef int result
    if not parse_mpop(tx, family, 1, &count, &first_end):
        return TRANSACTION_DONE
    result = pop_first_step(tx, family, count, first_end)
    if result == TRANSACTION_DONE and has_nothing(tx):
        reply_null_array(&tx.reply)
    return result


cdef int key_positions(const slice_t *argv, uint32_t argc, uint32_t first, uint32_t *out) noexcept nogil:
    cdef int64_t key_count = 0
    cdef int i
    if (not parse_int64(argv[first].data, argv[first].size, &key_count) or key_count <= 0
            or key_count > <int64_t>argc - <int64_t>first - 1):
        return -1
    for i in range(<int>key_count):
        out[i] = <uint32_t>i + first + 1
    return <int>key_count


cdef int mpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    return key_positions(argv, argc, 1, out)


cdef int bmpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    return key_positions(argv, argc, 2, out)


# ---- Putting back ------------------------------------------------------------------------------

cdef const char *read_header(const char *text, int64_t *number) noexcept nogil:
    number[0] = 0
    text += 1
    while text[0] != c'\r':
        number[0] = 10 * number[0] + text[0] - c'0'
        text += 1
    return text + 2


cdef const char *read_bulk(const char *text, slice_t *out) noexcept nogil:
    cdef int64_t size
    out.data = read_header(text, &size)
    out.size = <size_t>size
    return out.data + size + 2


cdef void put_back_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef const char *text
    cdef slice_t ignored
    cdef int64_t count
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    text = read_bulk(read_header(tx.reply.data, &count), &ignored)     # the key
    count = 1
    if tx.numbers[COUNT] != POP_BARE:
        text = read_header(text, &count)
    family_of(tx).put_back(&scope, &tx.keys[tx.numbers[CHOSEN]], text, count, tx.numbers[FIRST_END] != 0)


cdef int put_back_step(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_shard(tx, tx.key_shards[tx.numbers[CHOSEN]], put_back_hop)
    return TRANSACTION_DONE


# ---- Waiting -----------------------------------------------------------------------------------

cdef void reply_nothing(transaction_t *tx) noexcept nogil:
    reply_null_array(&tx.reply)


cdef void pop_family_init(pop_family_t *family, waiter_accepts_t accepts) noexcept nogil:
    family.rules.accepts = accepts
    family.rules.serve = pop_at
    family.rules.reply_nothing = reply_nothing
    family.rules.undo = put_back_step


cdef int pop_or_wait(transaction_t *tx, const pop_family_t *family, int64_t count, bint first_end,
                     int64_t timeout_ms) noexcept nogil:
    cdef int result
    if tx.stage == STEP_START and blocking_is_over(tx):
        return TRANSACTION_DONE
    result = pop_first_step(tx, family, count, first_end)
    if result != TRANSACTION_DONE or not has_nothing(tx):
        return result
    return blocking_wait(tx, tx.key_count, NO_SHARD, timeout_ms, &family.rules)


cdef int bpop_step(transaction_t *tx, const pop_family_t *family, bint first_end) noexcept nogil:
    cdef int64_t timeout_ms
    if not parse_timeout_seconds(&tx.reply, tx.argv[tx.argc - 1], &timeout_ms):
        return TRANSACTION_DONE
    return pop_or_wait(tx, family, POP_BARE, first_end, timeout_ms)


cdef int bmpop_step(transaction_t *tx, const pop_family_t *family) noexcept nogil:
    cdef int64_t timeout_ms
    cdef int64_t count
    cdef bint first_end
    if (not parse_timeout_seconds(&tx.reply, tx.argv[1], &timeout_ms)
            or not parse_mpop(tx, family, 2, &count, &first_end)):
        return TRANSACTION_DONE
    return pop_or_wait(tx, family, count, first_end, timeout_ms)


# ---- Of one key --------------------------------------------------------------------------------

cdef bint pop_count(call_t *call, int64_t *count) noexcept nogil:
    count[0] = -1
    if likely(call.argc == 2):
        return True
    if parse_int64(call.argv[2].data, call.argv[2].size, count) and count[0] >= 0:
        return True
    reply_error(call.reply, "ERR value is out of range, must be positive")
    return False
