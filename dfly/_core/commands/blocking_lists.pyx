"""BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH: list commands that wait, and WAIT, which waits for replicas.

Each tries first what its sister without the B does (list_moves); see engine/blocking.pxd for the rest.
What a connection got that is gone goes back to the end it came from, read from the reply that nobody
will see; if the key is no list by then, as if the connection had gone a moment later. An element that
BLMOVE has moved is where it was to go.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.list_moves cimport (LIST_BARE, is_list, list_move, list_move_step, list_pop_at,
                                             list_pop_first_step, list_pop_keys, parse_list_pop)
from dfly._core.commands.lists cimport LIST_WRONG_TYPE, list_lookup, list_push_element, parse_list_end
from dfly._core.commands.timeouts cimport parse_timeout_ms, parse_timeout_seconds
from dfly._core.engine.blocking cimport blocking_is_over, blocking_wait
from dfly._core.engine.command cimport (ACL_BLOCKING, ACL_CONNECTION, ACL_LIST, COMMAND_BLOCKING,
                                        COMMAND_DENYOOM, COMMAND_MOVABLE_KEYS, COMMAND_NOSCRIPT,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_RW, TRANSACTION_DONE,
                                        command_spec_t, register_commands, reply_not_integer,
                                        reply_syntax_error, transaction_row, transaction_t)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_shard, transaction_run, transaction_scope
from dfly._core.engine.waiter cimport NO_SHARD, waiting_rules_t
from dfly._core.resp.reply cimport reply_int, reply_null, reply_null_array
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t, object_t, parse_int64
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers, beside those of list_moves.
    CHOSEN = 5
    TO_FRONT = 7


cdef void reply_no_elements(transaction_t *tx) noexcept nogil:
    reply_null_array(&tx.reply)


# ---- BLPOP, BRPOP, BLMPOP ----------------------------------------------------------------------

cdef void serve_pop(transaction_t *tx, uint32_t position) noexcept nogil:
    list_pop_at(tx, position)
    tx.numbers[CHOSEN] = position


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


cdef void put_back_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef const key_t *key = &tx.keys[tx.numbers[CHOSEN]]
    cdef const char *text
    cdef slice_t *elements
    cdef slice_t ignored
    cdef int64_t count
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef int64_t i
    transaction_scope(tx, shard, &scope)
    if list_lookup(&scope, key, &ref) == LIST_WRONG_TYPE:
        return
    text = read_bulk(read_header(tx.reply.data, &count), &ignored)
    count = 1
    if text[0] == c'*':
        text = read_header(text, &count)
    elements = <slice_t *>net_alloc(count * sizeof(slice_t))
    for i in range(count):
        text = read_bulk(text, &elements[i])
    for i in range(count):
        list_push_element(&scope, key, elements[count - 1 - i], tx.numbers[TO_FRONT] != 0)
    net_free(elements)


cdef int put_back_step(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_shard(tx, tx.key_shards[tx.numbers[CHOSEN]], put_back_hop)
    return TRANSACTION_DONE


cdef bint accepts_list(const object_t *value, const void *wanted, uint32_t position) noexcept nogil:
    return is_list(value)


cdef waiting_rules_t POP_RULES
POP_RULES.accepts = accepts_list
POP_RULES.serve = serve_pop
POP_RULES.reply_nothing = reply_no_elements
POP_RULES.undo = put_back_step


cdef int pop_or_wait(transaction_t *tx, uint64_t count, bint front, int64_t timeout_ms) noexcept nogil:
    cdef int result
    if tx.stage == 0 and blocking_is_over(tx):
        return TRANSACTION_DONE
    result = list_pop_first_step(tx, count, front)
    if result != TRANSACTION_DONE or tx.reply.size != 0:
        return result
    return blocking_wait(tx, tx.key_count, NO_SHARD, timeout_ms, &POP_RULES)


cdef int pop_generic(transaction_t *tx, bint front) noexcept nogil:
    cdef int64_t timeout_ms
    if not parse_timeout_seconds(&tx.reply, tx.argv[tx.argc - 1], &timeout_ms):
        return TRANSACTION_DONE
    return pop_or_wait(tx, LIST_BARE, front, timeout_ms)


cdef int blpop_step(transaction_t *tx) noexcept nogil:
    return pop_generic(tx, True)


cdef int brpop_step(transaction_t *tx) noexcept nogil:
    return pop_generic(tx, False)


cdef int blmpop_step(transaction_t *tx) noexcept nogil:
    cdef int64_t timeout_ms
    cdef int64_t count
    cdef bint front = False
    if (not parse_timeout_seconds(&tx.reply, tx.argv[1], &timeout_ms)
            or not parse_list_pop(tx, 2, &count, &front)):
        return TRANSACTION_DONE
    return pop_or_wait(tx, <uint64_t>count, front, timeout_ms)


cdef int blmpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    return list_pop_keys(argv, argc, 2, out)


# ---- BLMOVE, BRPOPLPUSH ------------------------------------------------------------------------

cdef void parse_ends(const transaction_t *tx, bint *from_front, bint *to_front) noexcept nogil:
    """Of a command that has them, else RIGHT and LEFT; already checked when it waits."""
    from_front[0] = False
    to_front[0] = True
    if tx.argc == 6:
        parse_list_end(tx.argv[3], from_front)
        parse_list_end(tx.argv[4], to_front)


cdef void serve_move(transaction_t *tx, uint32_t position) noexcept nogil:
    cdef bint from_front
    cdef bint to_front
    cdef scope_t scope
    parse_ends(tx, &from_front, &to_front)
    if tx.key_shards[0] == tx.key_shards[1]:
        transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
        list_move(&scope, &tx.keys[0], &tx.keys[1], from_front, to_front, &tx.reply)
        return
    # Over two shards: the steps of the command itself, under tokens that are not its own.
    tx.is_inside = True
    tx.stage = 0
    transaction_run(tx)
    tx.is_inside = False


cdef waiting_rules_t MOVE_RULES
MOVE_RULES.accepts = accepts_list
MOVE_RULES.serve = serve_move
MOVE_RULES.reply_nothing = reply_no_elements


cdef int move_generic(transaction_t *tx, slice_t timeout) noexcept nogil:
    cdef int64_t timeout_ms
    cdef bint from_front
    cdef bint to_front
    cdef int result
    if not parse_timeout_seconds(&tx.reply, timeout, &timeout_ms):
        return TRANSACTION_DONE
    if tx.stage == 0 and not tx.is_inside and blocking_is_over(tx):
        return TRANSACTION_DONE
    parse_ends(tx, &from_front, &to_front)
    result = list_move_step(tx, from_front, to_front)
    if result != TRANSACTION_DONE or tx.reply.size != 0:
        return result
    if tx.outer != NULL:
        # Not the null array of a timeout.
        reply_null(&tx.reply)
        return TRANSACTION_DONE
    return blocking_wait(tx, 1, NO_SHARD if tx.key_shards[0] == tx.key_shards[1] else tx.key_shards[1],
                         timeout_ms, &MOVE_RULES)


cdef int blmove_step(transaction_t *tx) noexcept nogil:
    cdef bint is_front
    if not parse_list_end(tx.argv[3], &is_front) or not parse_list_end(tx.argv[4], &is_front):
        reply_syntax_error(&tx.reply)
        return TRANSACTION_DONE
    return move_generic(tx, tx.argv[5])


cdef int brpoplpush_step(transaction_t *tx) noexcept nogil:
    return move_generic(tx, tx.argv[3])


# ---- WAIT --------------------------------------------------------------------------------------

cdef void reply_no_replicas(transaction_t *tx) noexcept nogil:
    reply_int(&tx.reply, 0)


cdef waiting_rules_t REPLICA_RULES
REPLICA_RULES.reply_nothing = reply_no_replicas


cdef int wait_step(transaction_t *tx) noexcept nogil:
    """There are no replicas: it has what it wants at once, or waits for its timeout."""
    cdef int64_t wanted
    cdef int64_t timeout_ms
    if not parse_int64(tx.argv[1].data, tx.argv[1].size, &wanted):
        reply_not_integer(&tx.reply)
        return TRANSACTION_DONE
    if not parse_timeout_ms(&tx.reply, tx.argv[2], &timeout_ms):
        return TRANSACTION_DONE
    if wanted <= 0:
        reply_no_replicas(tx)
        return TRANSACTION_DONE
    return blocking_wait(tx, 0, NO_SHARD, timeout_ms, &REPLICA_RULES)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 6

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t take = COMMAND_WRITE | COMMAND_NOSCRIPT | COMMAND_BLOCKING
    cdef uint64_t move = take | COMMAND_DENYOOM
    cdef uint64_t keys = KEY_RW | KEY_ACCESS | KEY_DELETE
    cdef uint64_t acl = ACL_LIST | ACL_BLOCKING
    rows[0] = transaction_row("blpop", -3, take, acl, 1, -2, 1, keys, blpop_step)
    rows[1] = transaction_row("brpop", -3, take, acl, 1, -2, 1, keys, brpop_step)
    rows[2] = transaction_row("blmpop", -5, COMMAND_WRITE | COMMAND_BLOCKING | COMMAND_MOVABLE_KEYS, acl,
                              0, 0, 0, keys, blmpop_step)
    rows[2].get_keys = blmpop_keys
    rows[3] = transaction_row("blmove", 6, move, acl, 1, 2, 1, keys, blmove_step)
    rows[4] = transaction_row("brpoplpush", 4, move, acl, 1, 2, 1, keys, brpoplpush_step)
    rows[5] = transaction_row("wait", 3, COMMAND_NOSCRIPT, ACL_CONNECTION, 0, 0, 0, 0, wait_step)
    register_commands(rows, ROW_COUNT)
