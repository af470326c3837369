"""ZMPOP, and the sorted set commands that wait: BZPOPMIN, BZPOPMAX, BZMPOP.

As the list commands of the same shape (list_moves, blocking_lists): those that wait try first. What a connection
was served that is gone goes back with its scores, read from the reply that nobody will see.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport strtod

from dfly._core.commands.list_moves cimport list_pop_keys
from dfly._core.commands.timeouts cimport parse_timeout_seconds
from dfly._core.commands.zsets cimport (ZSET_ABSENT, ZSET_FOUND, ZSET_WRONG_TYPE, zset_limits_of, zset_lookup_write,
                                        zset_pop)
from dfly._core.engine.blocking cimport blocking_is_over, blocking_wait
from dfly._core.engine.command cimport (ACL_BLOCKING, ACL_SORTEDSET, COMMAND_BLOCKING, COMMAND_FAST,
                                        COMMAND_MOVABLE_KEYS, COMMAND_NOSCRIPT, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE,
                                        KEY_RW, TRANSACTION_DONE, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport NOTIFY_ZSET, insert_key, update_begin, update_end
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.engine.waiter cimport NO_SHARD, waiting_rules_t
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_error, reply_null_array
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport TYPE_ZSET, key_t, object_set_container, object_t, parse_int64
from dfly._core.store.sorted_set cimport is_zset, zset_add, zset_count, zset_limits_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    CHOSEN = 5
    COUNT = 6
    FROM_END = 7

cdef enum:
    POP_BARE = 0                 # a count: one member, key, member and score in one array

cdef enum step_t:
    STEP_START = 0
    STEP_LOOKED = 1
    STEP_LAST = 2


# ---- Popping from the first key that has members -----------------------------------------------

cdef void pop_at(transaction_t *tx, uint32_t position) noexcept nogil:
    cdef const key_t *key = &tx.keys[position]
    cdef uint64_t count = <uint64_t>tx.numbers[COUNT]
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, tx.shards[tx.key_shards[position]], &scope)
    zset_lookup_write(&scope, key, &ref)
    tx.numbers[CHOSEN] = position
    if count == POP_BARE:
        reply_array(&tx.reply, 3)
        reply_bulk(&tx.reply, key.data, key.size)
        zset_pop(&scope, key, &ref, 1, tx.numbers[FROM_END] != 0, False, &tx.reply)
        return
    count = min(count, zset_count(&ref.entry.value))
    reply_array(&tx.reply, 2)
    reply_bulk(&tx.reply, key.data, key.size)
    reply_array(&tx.reply, count)
    zset_pop(&scope, key, &ref, count, tx.numbers[FROM_END] != 0, True, &tx.reply)


cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = zset_lookup_write(&scope, &tx.keys[i], &ref)


cdef void pop_chosen_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    pop_at(tx, <uint32_t>tx.numbers[CHOSEN])


cdef int finish(transaction_t *tx) noexcept nogil:
    tx.stage = STEP_START
    return TRANSACTION_DONE


cdef int pop_first_step(transaction_t *tx, uint64_t count, bint from_end) noexcept nogil:
    """Nothing in the reply: no key has members."""
    cdef uint32_t i
    if tx.stage == STEP_START:
        tx.numbers[COUNT] = <int64_t>count
        tx.numbers[FROM_END] = from_end
        tx.stage = STEP_LOOKED
        return hop_on_keys(tx, look_hop)
    if tx.stage == STEP_LOOKED:
        for i in range(tx.key_count):
            if tx.results[i].number == ZSET_WRONG_TYPE:
                reply_wrong_type(&tx.reply)
                break
            if tx.results[i].number == ZSET_FOUND:
                tx.numbers[CHOSEN] = i
                tx.stage = STEP_LAST
                return hop_on_shard(tx, tx.key_shards[i], pop_chosen_hop)
    return finish(tx)


cdef bint parse_pop(transaction_t *tx, uint32_t first, int64_t *count, bint *from_end) noexcept nogil:
    """numkeys at `first`, keys, MIN or MAX, COUNT."""
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
    from_end[0] = slice_equals(tx.argv[position], "max")
    if not from_end[0] and not slice_equals(tx.argv[position], "min"):
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


cdef int zmpop_step(transaction_t *tx) noexcept nogil:
    cdef int64_t count = 1
    cdef bint from_end = False
    cdef int result
    if not parse_pop(tx, 1, &count, &from_end):
        return TRANSACTION_DONE
    result = pop_first_step(tx, <uint64_t>count, from_end)
    if result == TRANSACTION_DONE and tx.reply.size == 0:
        reply_null_array(&tx.reply)
    return result


cdef int zmpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    return list_pop_keys(argv, argc, 1, out)


# ---- Waiting -----------------------------------------------------------------------------------

cdef void serve_pop(transaction_t *tx, uint32_t position) noexcept nogil:
    pop_at(tx, position)


cdef void reply_no_members(transaction_t *tx) noexcept nogil:
    reply_null_array(&tx.reply)


cdef const char *read_header(const char *text, int64_t *number) noexcept nogil:
    """The number in a line such as $12 or *3; what follows the line."""
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


cdef const char *read_score(const char *text, double *out) noexcept nogil:
    """A bulk string, or RESP3's double."""
    cdef int64_t size
    text = text + 1 if text[0] == c',' else read_header(text, &size)
    out[0] = strtod(text, NULL)
    while text[0] != c'\n':
        text += 1
    return text + 1


cdef void put_back_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef const key_t *key = &tx.keys[tx.numbers[CHOSEN]]
    cdef zset_limits_t limits
    cdef slice_t member
    cdef const char *text
    cdef int64_t count
    cdef int64_t ignored
    cdef double score
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef int found
    transaction_scope(tx, shard, &scope)
    limits = zset_limits_of(&scope)
    found = zset_lookup_write(&scope, key, &ref)
    if found == ZSET_WRONG_TYPE:
        return
    if found == ZSET_ABSENT:
        insert_key(&scope, key, &ref)
        object_set_container(&ref.entry.value, TYPE_ZSET, NULL)
    else:
        update_begin(&scope, &ref)
    text = read_bulk(read_header(tx.reply.data, &count), &member)      # the key
    count = 1
    if tx.numbers[COUNT] != POP_BARE:
        text = read_header(text, &count)
    while count > 0:
        if tx.numbers[COUNT] != POP_BARE:
            text = read_header(text, &ignored)
        text = read_score(read_bulk(text, &member), &score)
        zset_add(&ref.entry.value, member.data, member.size, score, &limits)
        count -= 1
    update_end(&scope, key, NOTIFY_ZSET, "zadd")


cdef int put_back_step(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_shard(tx, tx.key_shards[tx.numbers[CHOSEN]], put_back_hop)
    return TRANSACTION_DONE


cdef bint accepts_zset(const object_t *value, const void *wanted, uint32_t position) noexcept nogil:
    return is_zset(value)


cdef waiting_rules_t POP_RULES
POP_RULES.accepts = accepts_zset
POP_RULES.serve = serve_pop
POP_RULES.reply_nothing = reply_no_members
POP_RULES.undo = put_back_step


cdef int pop_or_wait(transaction_t *tx, uint64_t count, bint from_end, int64_t timeout_ms) noexcept nogil:
    cdef int result
    if tx.stage == STEP_START and blocking_is_over(tx):
        return TRANSACTION_DONE
    result = pop_first_step(tx, count, from_end)
    if result != TRANSACTION_DONE or tx.reply.size != 0:
        return result
    return blocking_wait(tx, tx.key_count, NO_SHARD, timeout_ms, &POP_RULES)


cdef int bare_step(transaction_t *tx, bint from_end) noexcept nogil:
    cdef int64_t timeout_ms
    if not parse_timeout_seconds(&tx.reply, tx.argv[tx.argc - 1], &timeout_ms):
        return TRANSACTION_DONE
    return pop_or_wait(tx, POP_BARE, from_end, timeout_ms)


cdef int bzpopmin_step(transaction_t *tx) noexcept nogil:
    return bare_step(tx, False)


cdef int bzpopmax_step(transaction_t *tx) noexcept nogil:
    return bare_step(tx, True)


cdef int bzmpop_step(transaction_t *tx) noexcept nogil:
    cdef int64_t timeout_ms
    cdef int64_t count
    cdef bint from_end = False
    if (not parse_timeout_seconds(&tx.reply, tx.argv[1], &timeout_ms)
            or not parse_pop(tx, 2, &count, &from_end)):
        return TRANSACTION_DONE
    return pop_or_wait(tx, <uint64_t>count, from_end, timeout_ms)


cdef int bzmpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    return list_pop_keys(argv, argc, 2, out)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 4

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t take = COMMAND_WRITE | COMMAND_NOSCRIPT | COMMAND_FAST | COMMAND_BLOCKING
    cdef uint64_t keys = KEY_RW | KEY_ACCESS | KEY_DELETE
    cdef uint64_t acl = ACL_SORTEDSET | ACL_BLOCKING
    rows[0] = transaction_row("zmpop", -4, COMMAND_WRITE | COMMAND_MOVABLE_KEYS, ACL_SORTEDSET, 0, 0, 0, keys,
                              zmpop_step)
    rows[0].get_keys = zmpop_keys
    rows[1] = transaction_row("bzpopmin", -3, take, acl, 1, -2, 1, keys, bzpopmin_step)
    rows[2] = transaction_row("bzpopmax", -3, take, acl, 1, -2, 1, keys, bzpopmax_step)
    rows[3] = transaction_row("bzmpop", -5, COMMAND_WRITE | COMMAND_BLOCKING | COMMAND_MOVABLE_KEYS, acl, 0, 0, 0,
                              keys, bzmpop_step)
    rows[3].get_keys = bzmpop_keys
    register_commands(rows, ROW_COUNT)
