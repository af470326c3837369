"""MULTI, EXEC, DISCARD, WATCH, UNWATCH: the commands over engine/multi and engine/watch."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.command cimport (ACL_TRANSACTION, COMMAND_ALLOW_BUSY, COMMAND_FAST, COMMAND_IMMEDIATE,
                                        COMMAND_LOADING, COMMAND_NOSCRIPT, COMMAND_SKIP_SLOWLOG,
                                        COMMAND_STALE, KEY_RO, TRANSACTION_DONE, call_t, command_spec_t,
                                        connection_row, register_commands, transaction_row, transaction_t)
from dfly._core.engine.multi cimport exec_prepare, exec_step, multi_begin, multi_discard
from dfly._core.engine.server_state cimport executor_of
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_keys, transaction_scope
from dfly._core.engine.watch cimport unwatch_all, watch_key
from dfly._core.net.connection cimport CONNECTION_MULTI
from dfly._core.resp.reply cimport reply_error, reply_ok
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef void multi_command(call_t *call) noexcept nogil:
    if call.connection.flags & CONNECTION_MULTI:
        reply_error(call.reply, "ERR MULTI calls can not be nested")
        return
    multi_begin(call.connection)
    reply_ok(call.reply)


cdef void discard_command(call_t *call) noexcept nogil:
    if not call.connection.flags & CONNECTION_MULTI:
        reply_error(call.reply, "ERR DISCARD without MULTI")
        return
    multi_discard(call.connection)
    unwatch_all(call.connection, executor_of(call.connection).server.shards)
    reply_ok(call.reply)


cdef void unwatch_command(call_t *call) noexcept nogil:
    unwatch_all(call.connection, executor_of(call.connection).server.shards)
    reply_ok(call.reply)


cdef void watch_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] == shard.index:
            watch_key(tx.connection, &scope, &tx.keys[i])


cdef int watch_step(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        if tx.connection.flags & CONNECTION_MULTI:
            reply_error(&tx.reply, "ERR WATCH inside MULTI is not allowed")
            return TRANSACTION_DONE
        tx.stage = 1
        return hop_on_keys(tx, watch_hop)
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef enum:
    COMMON = COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_ALLOW_BUSY
    ROW_COUNT = 5

cdef command_spec_t[ROW_COUNT] ROWS


def register():
    """Registers the family's rows."""
    cdef uint64_t at_once = COMMON | COMMAND_FAST | COMMAND_IMMEDIATE
    cdef uint64_t exec_flags = (COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_SKIP_SLOWLOG
                                | COMMAND_IMMEDIATE)
    ROWS[0] = connection_row("multi", 1, at_once, ACL_TRANSACTION, multi_command)
    ROWS[1] = transaction_row("exec", 1, exec_flags, ACL_TRANSACTION, 0, 0, 0, 0, exec_step)
    ROWS[1].prepare = exec_prepare
    ROWS[2] = connection_row("discard", 1, at_once, ACL_TRANSACTION, discard_command)
    ROWS[3] = transaction_row("watch", -2, at_once, ACL_TRANSACTION, 1, -1, 1, KEY_RO, watch_step)
    ROWS[4] = connection_row("unwatch", 1, COMMON | COMMAND_FAST, ACL_TRANSACTION, unwatch_command)
    register_commands(ROWS, ROW_COUNT)
