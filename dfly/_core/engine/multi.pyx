"""Implementation of MULTI and EXEC: see multi.pxd for the rules."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.engine.command cimport (COMMAND_ADMIN, COMMAND_GLOBAL, COMMAND_NO_AUTH, COMMAND_SKIP_MONITOR,
                                        KIND_CONNECTION, KIND_CONTROL, KIND_KEY, TRANSACTION_DONE,
                                        SLICING_NEVER, TRANSACTION_WAIT, call_t, command_key_positions)
from dfly._core.engine.execute cimport account_call, check_slow, run_on_shard
from dfly._core.engine.server_state cimport control_submit, executor_of, executor_t, monitor_feed
from dfly._core.engine.shard cimport caller_t, shard_close_books, shard_of, shard_open_books, shard_t
from dfly._core.engine.tracking cimport caller_of, tracking_command_done
from dfly._core.engine.transaction cimport (transaction_free, transaction_interrupt, transaction_lock_all,
                                            transaction_lock_shard, transaction_new, transaction_resume,
                                            transaction_run)
from dfly._core.engine.watch cimport unwatch_all, watch_failed, watch_shards
from dfly._core.net.connection cimport CONNECTION_MULTI
from dfly._core.resp.reply cimport reply_array, reply_error, reply_null_array, reply_raw
from dfly._core.store.object cimport key_init, key_t
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load_relaxed, cycle_ticks, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # transaction.numbers
    NEXT_CALL = 0
    WAS_INTERRUPTED = 1


# ---- The queue ---------------------------------------------------------------------------------

cdef void multi_begin(connection_t *connection) noexcept nogil:
    connection.multi = net_zalloc(sizeof(multi_t))
    connection.flags |= CONNECTION_MULTI


cdef void multi_abort(connection_t *connection) noexcept nogil:
    (<multi_t *>connection.multi).is_aborted = True


cdef void multi_queue(connection_t *connection, call_t *call) noexcept nogil:
    cdef multi_t *self = <multi_t *>connection.multi
    cdef call_t *copy
    cdef size_t total = 0
    cdef char *bytes_
    cdef uint32_t i
    if self.count == self.capacity:
        self.capacity = max(<uint32_t>8, 2 * self.capacity)
        self.calls = <call_t *>net_realloc(self.calls, self.capacity * sizeof(call_t))
    copy = &self.calls[self.count]
    self.count += 1
    copy[0] = call[0]
    for i in range(call.argc):
        total += call.argv[i].size
    copy.argv = <slice_t *>net_alloc(call.argc * sizeof(slice_t) + total)
    bytes_ = <char *>(copy.argv + call.argc)
    for i in range(call.argc):
        memcpy(bytes_, call.argv[i].data, call.argv[i].size)
        copy.argv[i].data = bytes_
        copy.argv[i].size = call.argv[i].size
        bytes_ += call.argv[i].size
    if copy.kind == KIND_KEY:
        copy.key.data = copy.argv[call.spec.first_key].data
    self.flags |= call.spec.flags
    self.bytes += sizeof(call_t) + call.argc * sizeof(slice_t) + total


cdef void free_queue(multi_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.count):
        net_free(self.calls[i].argv)
    net_free(self.calls)
    net_free(self)


cdef void multi_discard(connection_t *connection) noexcept nogil:
    if connection.multi != NULL:
        free_queue(<multi_t *>connection.multi)
        connection.multi = NULL
    connection.flags &= ~<uint32_t>CONNECTION_MULTI


# ---- EXEC --------------------------------------------------------------------------------------

cdef void lock_for_call(transaction_t *tx, call_t *call) noexcept nogil:
    cdef uint32_t *positions
    cdef key_t key
    cdef int count
    cdef int i
    if call.kind == KIND_KEY:
        transaction_lock_shard(tx, call.shard_index)
        return
    if call.kind == KIND_CONNECTION or call.kind == KIND_CONTROL:
        return
    # A command with a `prepare` may need shards that its keys do not tell of (SORT).
    if (call.spec.flags & COMMAND_GLOBAL or call.spec.prepare != NULL
            or (call.spec.first_key == 0 and call.spec.get_keys == NULL)):
        transaction_lock_all(tx)
        return
    positions = <uint32_t *>net_alloc(call.argc * sizeof(uint32_t))
    count = command_key_positions(call.spec, call.argv, call.argc, positions)
    for i in range(count):
        key_init(&key, call.argv[positions[i]].data, call.argv[positions[i]].size)
        transaction_lock_shard(tx, shard_of(key.hash, tx.shard_count))
    net_free(positions)


cdef void exec_prepare(transaction_t *tx) noexcept nogil:
    cdef connection_t *connection = tx.connection
    cdef multi_t *queue = <multi_t *>connection.multi
    cdef uint32_t i
    tx.state = queue
    connection.multi = NULL
    connection.flags &= ~<uint32_t>CONNECTION_MULTI
    if queue == NULL or queue.is_aborted:
        return
    watch_shards(connection, tx)
    for i in range(queue.count):
        lock_for_call(tx, &queue.calls[i])


cdef void inside_done(transaction_t *inside) noexcept nogil:
    """A command of the EXEC that waited (for other threads or the control plane) is complete."""
    cdef transaction_t *tx = inside.outer
    take_inside(tx, inside)
    transaction_resume(tx)


cdef void take_inside(transaction_t *tx, transaction_t *inside) noexcept nogil:
    cdef multi_t *queue = <multi_t *>tx.state
    cdef call_t *call = &queue.calls[tx.numbers[NEXT_CALL] - 1]
    reply_raw(&tx.reply, inside.reply.data, inside.reply.size)
    call.reply = &inside.reply
    call.reply_offset = 0
    call.ticks = cycle_ticks() - inside.started_ticks
    finish_call(tx, call, 0)
    transaction_free(inside)


cdef void finish_call(transaction_t *tx, call_t *call, uint64_t errors_before) noexcept nogil:
    cdef executor_t *executor = executor_of(tx.connection)
    call.reply_size = call.reply.size - call.reply_offset
    account_call(executor, call, errors_before)
    check_slow(executor, tx.connection, call)
    if (likely(atomic_load_relaxed(&executor.server.monitor_count) == 0)
            or call.spec.flags & (COMMAND_SKIP_MONITOR | COMMAND_ADMIN)):
        return
    # Arguments of AUTH and HELLO are passwords.
    monitor_feed(executor, tx.connection, call.argv, 1 if call.spec.flags & COMMAND_NO_AUTH else call.argc)


cdef bint run_inside(transaction_t *tx, call_t *call) noexcept nogil:
    """One queued command; False: it waits, and inside_done goes on."""
    cdef connection_t *connection = tx.connection
    cdef executor_t *executor = executor_of(connection)
    cdef uint64_t errors = tx.reply.error_count
    cdef uint64_t before = cycle_ticks()
    cdef shard_t *shard
    cdef caller_t caller
    cdef transaction_t *inside
    call.connection = connection
    if call.kind == KIND_KEY or call.kind == KIND_CONNECTION:
        call.reply = &tx.reply
        call.reply_offset = tx.reply.size
        if call.kind == KIND_KEY:
            shard = tx.shards[call.shard_index]
            shard_open_books(shard)
            caller_of(connection, &caller)
            run_on_shard(call, shard, &caller, tx.now_ms, &tx.reply, SLICING_NEVER)
            shard_close_books(shard)
        else:
            call.scope.now_ms = tx.now_ms
            call.spec.handler(call)
        call.ticks = cycle_ticks() - before
        finish_call(tx, call, errors)
        return True
    inside = transaction_new(call, tx, tx.origin, tx.shards, tx.shard_count, tx.proactors, tx.proactor_count)
    inside.reply.resp = tx.reply.resp
    inside.on_done = inside_done
    if call.kind == KIND_CONTROL:
        control_submit(executor.server, inside)
        return False
    if not transaction_run(inside):
        return False
    take_inside(tx, inside)
    return True


cdef int exec_step(transaction_t *tx) noexcept nogil:
    cdef multi_t *queue = <multi_t *>tx.state
    cdef connection_t *connection = tx.connection
    if tx.stage == 0:
        tx.stage = 1
        if queue == NULL:
            tracking_command_done(connection, NULL)
            reply_error(&tx.reply, "ERR EXEC without MULTI")
            return TRANSACTION_DONE
        if queue.is_aborted:
            reply_error(&tx.reply, "EXECABORT Transaction discarded because of previous errors.")
            end_queue(tx)
            return TRANSACTION_DONE
        if watch_failed(connection, tx.shards, tx.now_ms):
            reply_null_array(&tx.reply)
            end_queue(tx)
            return TRANSACTION_DONE
        unwatch_all(connection, tx.shards)
        reply_array(&tx.reply, queue.count)
    while tx.numbers[NEXT_CALL] < queue.count:
        if unlikely(executor_of(connection).server.settings.interrupt_transactions != 0):
            tx.numbers[WAS_INTERRUPTED] = not tx.numbers[WAS_INTERRUPTED]
            if tx.numbers[WAS_INTERRUPTED]:
                return transaction_interrupt(tx)
        tx.numbers[NEXT_CALL] += 1
        if not run_inside(tx, &queue.calls[tx.numbers[NEXT_CALL] - 1]):
            return TRANSACTION_WAIT
    # Errors of the commands were counted as theirs.
    tx.reply.error_count = 0
    end_queue(tx)
    return TRANSACTION_DONE


cdef void end_queue(transaction_t *tx) noexcept nogil:
    unwatch_all(tx.connection, tx.shards)
    tracking_command_done(tx.connection, NULL)
    free_queue(<multi_t *>tx.state)
    tx.state = NULL
