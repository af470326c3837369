"""SAVE, BGSAVE and LASTSAVE: snapshots of persist/save. Texts as Redis 7.0.

Both take the cut under the tokens of all shards, so it stands exactly at the command's place among its client's
commands. SAVE then waits for the end, without tokens: other clients are served meanwhile, which Redis cannot do.
"""

from libc.stdint cimport uint64_t

from dfly._core.engine.command cimport (ACL_ADMIN, ACL_DANGEROUS, COMMAND_ADMIN, COMMAND_FAST, COMMAND_GLOBAL,
                                        COMMAND_LOADING, COMMAND_NO_ASYNC_LOADING, COMMAND_NO_MULTI,
                                        COMMAND_NOSCRIPT, COMMAND_STALE, TRANSACTION_DONE, TRANSACTION_WAIT, call_t,
                                        command_spec_t, connection_row, register_commands, reply_syntax_error,
                                        slice_equals, transaction_row, transaction_t)
from dfly._core.engine.server_state cimport executor_of
from dfly._core.engine.shard cimport shard_t
from dfly._core.engine.transaction cimport hop_on_all_shards, transaction_own_arguments, transaction_release
from dfly._core.persist.save cimport (SAVE_IDLE, save_cut, save_launch, save_new, save_prepare, save_t, saver_of,
                                      saver_t)
from dfly._core.resp.reply cimport reply_error, reply_int, reply_ok, reply_simple
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load, atomic_store

__abi__ = DFLY_ABI_STAMP

cdef const char *BUSY = "ERR Background save already in progress"


cdef void cut_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    save_cut(saver_of(executor_of(tx.connection).server).current, shard)


cdef bint begin(transaction_t *tx, saver_t *saver) noexcept nogil:
    """Stage 0 of both commands; False: the reply says why not."""
    if saver.file_name[0] == 0:
        reply_error(&tx.reply, "ERR snapshots are off: dbfilename is empty")
        return False
    if save_new(saver) == NULL:
        reply_error(&tx.reply, BUSY)
        return False
    tx.stage = 1
    return True


cdef int save_step(transaction_t *tx) noexcept nogil:
    cdef saver_t *saver = saver_of(executor_of(tx.connection).server)
    cdef save_t *save
    if tx.stage == 0:
        return hop_on_all_shards(tx, cut_hop) if begin(tx, saver) else TRANSACTION_DONE
    if tx.stage == 1:
        tx.stage = 2
        save = saver.current
        save_prepare(save)
        transaction_own_arguments(tx)
        transaction_release(tx)
        save_launch(save, tx)
        return TRANSACTION_WAIT
    if tx.numbers[0] != 0:
        reply_error(&tx.reply, "ERR")
    else:
        reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int bgsave_step(transaction_t *tx) noexcept nogil:
    cdef saver_t *saver = saver_of(executor_of(tx.connection).server)
    cdef save_t *save
    if tx.stage == 1:
        save = saver.current
        save_prepare(save)
        save_launch(save, NULL)
        reply_simple(&tx.reply, "Background saving started")
        return TRANSACTION_DONE
    if tx.argc > 2 or (tx.argc == 2 and not slice_equals(tx.argv[1], "schedule")):
        reply_syntax_error(&tx.reply)
        return TRANSACTION_DONE
    if tx.is_inside and atomic_load(&saver.state) == SAVE_IDLE:
        # The state that the file would hold is not one between transactions.
        atomic_store(&saver.scheduled, 1)
        reply_simple(&tx.reply, "Background saving scheduled")
        return TRANSACTION_DONE
    return hop_on_all_shards(tx, cut_hop) if begin(tx, saver) else TRANSACTION_DONE


cdef void lastsave_command(call_t *call) noexcept nogil:
    reply_int(call.reply, saver_of(executor_of(call.connection).server).last_save_s)


cdef enum:
    ROW_COUNT = 3
    SAVING = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_NO_ASYNC_LOADING | COMMAND_GLOBAL

cdef command_spec_t[ROW_COUNT] rows


def register():
    """Registers the family's rows."""
    cdef uint64_t acl = ACL_ADMIN | ACL_DANGEROUS
    rows[0] = transaction_row("save", 1, SAVING | COMMAND_NO_MULTI, 0, 0, 0, 0, 0, save_step)
    rows[1] = transaction_row("bgsave", -1, SAVING, 0, 0, 0, 0, 0, bgsave_step)
    rows[2] = connection_row("lastsave", 1, COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST, acl, lastsave_command)
    register_commands(rows, ROW_COUNT)
