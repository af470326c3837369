"""BLMOVE, BRPOPLPUSH: list commands that wait for an element to move, and WAIT, which waits for replicas.

They try first what their sisters without the B do (list_moves); see engine/blocking.pxd for the rest. An element
that was moved for a connection which is gone is where it was to go. Those that pop are in list_pops.pyx.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.list_moves cimport list_move, list_move_step
from dfly._core.commands.lists cimport is_list, parse_list_end
from dfly._core.commands.timeouts cimport parse_timeout_ms, parse_timeout_seconds
from dfly._core.engine.blocking cimport blocking_is_over, blocking_wait
from dfly._core.engine.command cimport (ACL_BLOCKING, ACL_CONNECTION, ACL_LIST, COMMAND_BLOCKING,
                                        COMMAND_DENYOOM, COMMAND_NOSCRIPT, COMMAND_WRITE, KEY_ACCESS,
                                        KEY_DELETE, KEY_RW, TRANSACTION_DONE,
                                        command_spec_t, register_commands, reply_not_integer,
                                        reply_syntax_error, transaction_row, transaction_t)
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.transaction cimport transaction_run, transaction_scope
from dfly._core.engine.waiter cimport NO_SHARD, waiting_rules_t
from dfly._core.resp.reply cimport reply_int, reply_null, reply_null_array
from dfly._core.store.object cimport object_t, parse_int64
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


# ---- BLMOVE, BRPOPLPUSH ------------------------------------------------------------------------

cdef void reply_no_element(transaction_t *tx) noexcept nogil:
    reply_null_array(&tx.reply)


cdef bint accepts_list(const object_t *value, const void *wanted, uint32_t position) noexcept nogil:
    return is_list(value)


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
MOVE_RULES.reply_nothing = reply_no_element


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
    ROW_COUNT = 3

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t move = COMMAND_WRITE | COMMAND_NOSCRIPT | COMMAND_BLOCKING | COMMAND_DENYOOM
    cdef uint64_t keys = KEY_RW | KEY_ACCESS | KEY_DELETE
    cdef uint64_t acl = ACL_LIST | ACL_BLOCKING
    rows[0] = transaction_row("blmove", 6, move, acl, 1, 2, 1, keys, blmove_step)
    rows[1] = transaction_row("brpoplpush", 4, move, acl, 1, 2, 1, keys, brpoplpush_step)
    rows[2] = transaction_row("wait", 3, COMMAND_NOSCRIPT, ACL_CONNECTION, 0, 0, 0, 0, wait_step)
    register_commands(rows, ROW_COUNT)
