"""Generic commands over several keys, shards or whole databases.

DEL UNLINK EXISTS TOUCH take any number of keys; with one key they are ordinary single-key commands.
FLUSHALL frees in slices and lets others run between them. RENAME and COPY are in key_moves.pyx, what walks over keys
in key_walks.pyx.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_KEYSPACE, COMMAND_FAST, COMMAND_GLOBAL, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_DELETE, KEY_RM, KEY_RO, KEY_RW, KEY_UPDATE,
                                        TRANSACTION_DONE, TRANSACTION_YIELD, call_t, command_spec_t, hop_t,
                                        register_commands, reply_syntax_error, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, delete_key, find_read, find_write, flush_database, is_sticky,
                                         make_sticky, swap_databases, update_begin, update_end_unseen)
from dfly._core.engine.expiry cimport reclaim_step
from dfly._core.engine.server_state cimport executor_of
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.tracking cimport tracking_flushed
from dfly._core.engine.transaction cimport (hop_on_all_shards, hop_on_keys, hop_on_shard, transaction_release,
                                            transaction_scope)
from dfly._core.resp.reply cimport reply_bulk, reply_error, reply_int, reply_null, reply_ok
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_deadline, dash_ref_t
from dfly._core.store.dash_scan cimport dash_random
from dfly._core.store.object cimport OBJECT_SCRATCH, key_t, object_view, parse_int64
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, slice_t
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    RECLAIM_SLICE = 4096         # entries freed per shard between two looks at other work
    RANDOM_TRIES = 100


# ---- DEL UNLINK EXISTS TOUCH -----------------------------------------------------------------

cdef inline bint delete_one(scope_t *scope, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    if not find_write(scope, key, &ref):
        return False
    delete_key(scope, key, &ref, NOTIFY_GENERIC, "del")
    return True


cdef inline bint exists_one(scope_t *scope, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    return find_read(scope, key, &ref)


cdef void del_command(call_t *call) noexcept nogil:
    reply_int(call.reply, delete_one(&call.scope, &call.key))


cdef void exists_command(call_t *call) noexcept nogil:
    reply_int(call.reply, exists_one(&call.scope, &call.key))


cdef inline void on_each_key(transaction_t *tx, shard_t *shard,
                             bint (*action)(scope_t *, const key_t *) noexcept nogil) noexcept nogil:
    """The part of a hop on one shard; what the action says of a key is its result."""
    cdef scope_t scope
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = action(&scope, &tx.keys[i])


cdef void del_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    on_each_key(tx, shard, delete_one)


cdef void exists_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    on_each_key(tx, shard, exists_one)


cdef int reply_sum(transaction_t *tx) noexcept nogil:
    cdef int64_t total = 0
    cdef uint32_t i
    for i in range(tx.key_count):
        total += tx.results[i].number
    reply_int(&tx.reply, total)
    return TRANSACTION_DONE


cdef int sum_over_keys(transaction_t *tx, hop_t hop) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_keys(tx, hop)
    return reply_sum(tx)


cdef int del_step(transaction_t *tx) noexcept nogil:
    return sum_over_keys(tx, del_hop)


cdef int exists_step(transaction_t *tx) noexcept nogil:
    return sum_over_keys(tx, exists_hop)


# ---- STICK -----------------------------------------------------------------------------------

cdef inline bint stick_one(scope_t *scope, const key_t *key) noexcept nogil:
    """Dragonfly's: True if the key is and was not sticky. Nobody who reads the key sees it, so there is no event."""
    cdef dash_ref_t ref
    if not find_write(scope, key, &ref) or is_sticky(&ref):
        return False
    update_begin(scope, &ref)
    make_sticky(scope, &ref)
    update_end_unseen(scope, key, NOTIFY_GENERIC, NULL)
    return True


cdef void stick_command(call_t *call) noexcept nogil:
    reply_int(call.reply, stick_one(&call.scope, &call.key))


cdef void stick_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    on_each_key(tx, shard, stick_one)


cdef int stick_step(transaction_t *tx) noexcept nogil:
    return sum_over_keys(tx, stick_hop)


# ---- RANDOMKEY, DBSIZE -------------------------------------------------------------------------

cdef void count_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    (<uint64_t *>tx.state)[shard.index] = scope.database.table.count


cdef int dbsize_step(transaction_t *tx) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    if tx.stage == 0:
        tx.stage = 1
        tx.state = net_zalloc(tx.shard_count * sizeof(uint64_t))
        return hop_on_all_shards(tx, count_hop)
    for i in range(tx.shard_count):
        total += (<uint64_t *>tx.state)[i]
    reply_int(&tx.reply, <int64_t>total)
    return TRANSACTION_DONE


cdef void random_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """A random key that has not expired; replies it."""
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t key
    cdef int64_t deadline
    cdef int _i
    transaction_scope(tx, shard, &scope)
    for _i in range(RANDOM_TRIES):
        if not dash_random(&scope.database.table, random_u64(), &ref):
            return
        deadline = dash_deadline(&ref)
        if deadline == DASH_NO_DEADLINE or deadline > scope.now_ms:
            key = object_view(&ref.entry.key, scratch)
            reply_bulk(&tx.reply, key.data, key.size)
            return


cdef int randomkey_step(transaction_t *tx) noexcept nogil:
    """A shard in proportion to its keys, then a key of it; another shard if that one had nothing alive."""
    cdef uint64_t *counts
    cdef uint64_t total = 0
    cdef uint64_t chosen
    cdef uint32_t i
    if tx.stage == 0:
        tx.stage = 1
        tx.state = net_zalloc(tx.shard_count * sizeof(uint64_t))
        return hop_on_all_shards(tx, count_hop)
    counts = <uint64_t *>tx.state
    for i in range(tx.shard_count):
        total += counts[i]
    if tx.reply.size > 0:
        return TRANSACTION_DONE
    if total == 0:
        reply_null(&tx.reply)
        return TRANSACTION_DONE
    chosen = random_u64() % total
    for i in range(tx.shard_count):
        if chosen < counts[i]:
            counts[i] = 0
            return hop_on_shard(tx, i, random_hop)
        chosen -= counts[i]
    return TRANSACTION_DONE


# ---- FLUSHDB, FLUSHALL, SWAPDB -------------------------------------------------------------------
# numbers[0]: -1 all databases, else the one; numbers[1]: 1 ASYNC; numbers[2]: shards still reclaiming.

cdef enum:
    WHICH = 0
    IN_BACKGROUND = 1
    RECLAIMING = 2


cdef void flush_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef uint32_t i
    if tx.numbers[WHICH] >= 0:
        flush_database(shard, <uint32_t>tx.numbers[WHICH])
        return
    for i in range(shard.settings.databases):
        flush_database(shard, i)


cdef void reclaim_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    if not reclaim_step(shard, RECLAIM_SLICE):
        atomic_add(<uint64_t *>&tx.numbers[RECLAIMING], 1)


cdef int flush_generic(transaction_t *tx, int64_t which) noexcept nogil:
    """Empties at once; without ASYNC the reply comes when the memory is free, slice by slice."""
    if tx.stage == 0:
        if tx.argc > 2 or (tx.argc == 2 and not slice_equals(tx.argv[1], "sync")
                           and not slice_equals(tx.argv[1], "async")):
            reply_syntax_error(&tx.reply)
            return TRANSACTION_DONE
        tx.numbers[WHICH] = which
        tx.numbers[IN_BACKGROUND] = tx.argc == 2 and slice_equals(tx.argv[1], "async")
        tx.stage = 1
        return hop_on_all_shards(tx, flush_hop)
    if tx.stage == 1:
        tracking_flushed(executor_of(tx.connection).server)
        tx.stage = 2
    if tx.stage == 2 and not tx.numbers[IN_BACKGROUND]:
        # All is empty, at one point in time; giving the memory back need not keep anybody waiting.
        transaction_release(tx)
        tx.stage = 3
        tx.numbers[RECLAIMING] = 0
        return hop_on_all_shards(tx, reclaim_hop)
    if tx.stage == 3 and tx.numbers[RECLAIMING] > 0:
        tx.stage = 2
        return TRANSACTION_YIELD
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int flushdb_step(transaction_t *tx) noexcept nogil:
    return flush_generic(tx, tx.caller.database_index)


cdef int flushall_step(transaction_t *tx) noexcept nogil:
    return flush_generic(tx, -1)


cdef void swap_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    swap_databases(shard, <uint32_t>tx.numbers[0], <uint32_t>tx.numbers[1])


cdef int swapdb_step(transaction_t *tx) noexcept nogil:
    cdef int64_t databases = tx.shards[0].settings.databases
    if tx.stage == 1:
        reply_ok(&tx.reply)
        return TRANSACTION_DONE
    if not parse_int64(tx.argv[1].data, tx.argv[1].size, &tx.numbers[0]):
        reply_error(&tx.reply, "ERR invalid first DB index")
        return TRANSACTION_DONE
    if not parse_int64(tx.argv[2].data, tx.argv[2].size, &tx.numbers[1]):
        reply_error(&tx.reply, "ERR invalid second DB index")
        return TRANSACTION_DONE
    if tx.numbers[0] < 0 or tx.numbers[0] >= databases or tx.numbers[1] < 0 or tx.numbers[1] >= databases:
        reply_error(&tx.reply, "ERR DB index is out of range")
        return TRANSACTION_DONE
    tx.stage = 1
    return hop_on_all_shards(tx, swap_hop)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 10

cdef command_spec_t[ROW_COUNT] ROWS


def register():
    """Registers the family's rows."""
    cdef uint64_t write = COMMAND_WRITE
    cdef uint64_t fast_read = COMMAND_READONLY | COMMAND_FAST
    ROWS[0] = transaction_row("del", -2, write, ACL_KEYSPACE, 1, -1, 1, KEY_RM | KEY_DELETE, del_step)
    ROWS[0].handler = del_command
    ROWS[1] = transaction_row("unlink", -2, write | COMMAND_FAST, ACL_KEYSPACE, 1, -1, 1, KEY_RM | KEY_DELETE, del_step)
    ROWS[1].handler = del_command
    ROWS[2] = transaction_row("exists", -2, fast_read, ACL_KEYSPACE, 1, -1, 1, KEY_RO, exists_step)
    ROWS[2].handler = exists_command
    ROWS[3] = transaction_row("touch", -2, fast_read, ACL_KEYSPACE, 1, -1, 1, KEY_RO, exists_step)
    ROWS[3].handler = exists_command
    ROWS[4] = transaction_row("randomkey", 1, COMMAND_READONLY, ACL_KEYSPACE, 0, 0, 0, 0, randomkey_step)
    ROWS[5] = transaction_row("dbsize", 1, fast_read, ACL_KEYSPACE, 0, 0, 0, 0, dbsize_step)
    ROWS[6] = transaction_row("flushdb", -1, write | COMMAND_GLOBAL, ACL_KEYSPACE | ACL_DANGEROUS, 0, 0, 0, 0,
                              flushdb_step)
    ROWS[7] = transaction_row("flushall", -1, write | COMMAND_GLOBAL, ACL_KEYSPACE | ACL_DANGEROUS, 0, 0, 0, 0,
                              flushall_step)
    ROWS[8] = transaction_row("swapdb", 3, write | COMMAND_FAST | COMMAND_GLOBAL, ACL_KEYSPACE | ACL_DANGEROUS,
                              0, 0, 0, 0, swapdb_step)
    ROWS[9] = transaction_row("stick", -2, write | COMMAND_FAST, ACL_KEYSPACE, 1, -1, 1, KEY_RW | KEY_UPDATE,
                              stick_step)
    ROWS[9].handler = stick_command
    register_commands(ROWS, ROW_COUNT)
