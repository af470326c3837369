"""The dispatcher: parses a batch of commands, executes it, keeps the replies in order.

Life of a batch (all on the connection's thread, except what is said):
1. Parse (engine/batch) up to BATCH_MAX complete commands from the window; look each up, check arity and
   authentication, hash its key.
2. Runs of single-key commands go shard by shard: take the shard's token (borrowing it if another
   thread owns the shard), prefetch what the run will touch, execute. With one shard replies go
   straight to the connection's output. With several they go to the thread's scratch builder and are
   gathered in order.
3. A shard whose token is taken gets the run's calls as one message (batch_message_t, with copies of
   the arguments); whoever holds the token executes it and posts it back. Until then the connection is
   busy: its next input is kept, so program order holds without any order among messages.
4. Commands over several keys or shards are transactions (continuations); CONFIG, INFO and the like
   go to the Python control plane. Both make the connection busy while they wait.

Received bytes are copied when a run has to travel (3), instead of pinning the receive buffer: 32
small commands cost 100 ns to copy, and the kernel gets its buffer back at once.

Ownership: call_t and slices of a batch live in the executor and die with the batch; what waits is on
the heap (pending_run_t, batch_message_t, transaction_t), holds a reference to the connection, and is
freed when its last answer is in.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy

from dfly._core.engine.batch cimport batch_deinit, batch_init, parse_batch
from dfly._core.engine.blocking cimport blocking_on_close
from dfly._core.engine.command cimport (COMMAND_ADMIN, COMMAND_DENYOOM, COMMAND_IMMEDIATE, COMMAND_MAX,
                                        COMMAND_NO_AUTH, COMMAND_NO_MULTI, COMMAND_SKIP_MONITOR, COMMAND_SKIP_SLOWLOG,
                                        COMMAND_WHILE_SUBSCRIBED, COMMAND_WRITE, KIND_CONNECTION, KIND_CONTROL,
                                        KIND_KEY, REFUSAL_ARITY, REFUSAL_NONE, REFUSAL_NO_AUTH, REFUSAL_SUBCOMMAND,
                                        REFUSAL_UNKNOWN, SLICING_ALLOWED, SLICING_NEVER, SLICING_WANTED, call_t,
                                        command_spec_t, sanitize_error, slice_equals, slicing_t, transaction_t)
from dfly._core.engine.eviction cimport make_room
from dfly._core.engine.execute cimport (OUT_OF_MEMORY, account_call, account_latency, check_slow, count_error,
                                        count_failure, note_longest, run_on_shard)
from dfly._core.engine.multi cimport multi_abort, multi_discard, multi_queue, multi_t
from dfly._core.engine.prefetch cimport prefetch_calls
from dfly._core.engine.pubsub cimport pubsub_leave
from dfly._core.engine.server_state cimport (PAUSE_ALL, PAUSE_OFF, command_stats_t, control_submit, executor_t,
                                             monitor_feed, server_t, slowlog_add)
from dfly._core.engine.shard cimport (caller_t, shard_database, shard_release, shard_submit, shard_t,
                                      shard_try_acquire, tokens_release)
from dfly._core.engine.tracking cimport (caller_of, tracking_catch_up, tracking_command_done, tracking_is_caching,
                                         tracking_leave)
from dfly._core.engine.transaction cimport transaction_free, transaction_new, transaction_run
from dfly._core.engine.waiter cimport serve_shard_waiters
from dfly._core.engine.watch cimport unwatch_all
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, stream_pause_reading, stream_resume_reading
from dfly._core.net.connection cimport (CONNECTION_CLOSE_AFTER_REPLY, CONNECTION_MONITOR, CONNECTION_MULTI,
                                        CONNECTION_PUBSUB, CONNECTION_REPLY_OFF, CONNECTION_REPLY_SKIP,
                                        CONNECTION_REPLY_SKIP_NEXT, connection_append, connection_close,
                                        connection_close_after_reply,
                                        connection_consume_input, connection_keep_input, connection_output_bytes,
                                        connection_prepare_output, connection_queue_flush, connection_release,
                                        connection_retain, connection_t, service_t)
from dfly._core.resp.parser cimport PARSE_ERROR, PARSE_NEED_MORE, PARSE_OK, parser_reset, parser_trim
from dfly._core.resp.reply cimport (REPLY_CHUNK, reply_chain_take, reply_deinit, reply_error, reply_init, reply_raw,
                                    reply_reset, reply_simple, reply_t)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, atomic_load_relaxed, atomic_sub, count_shown, cycle_ticks, likely,
                                  slice_t, unlikely)
from dfly._core.sys.clock cimport ticks_per_us

__abi__ = DFLY_ABI_STAMP

cdef enum:
    SCRATCH_KEEP = 1048576       # the scratch builder gives memory beyond this back
    OUTPUT_STOP = 33554432       # unsent reply bytes of one connection, above which it is not read any more
    REPLY_SILENT = 224           # CONNECTION_REPLY_OFF | _SKIP_NEXT | _SKIP

cdef struct batch_message_t:
    # The calls of one run for one shard whose token was taken. Owned by its pending_run_t.
    message_t message            # to the shard's inbox, then back to the origin's mailbox
    pending_run_t *run
    executor_t *origin
    call_t *calls                # copies, with copied arguments behind them in the same block
    uint32_t *slots              # the position of each call in the run
    uint32_t count
    int64_t now_ms               # the origin's clock when it was sent
    caller_t caller              # its tracker lives: the run holds the connection
    reply_t reply
    batch_message_t *next

cdef struct reply_slot_t:
    reply_t *source
    size_t offset
    size_t size

cdef struct pending_run_t:
    # A run that waits for other threads; the connection's `pending`. Touched by its thread only.
    connection_t *connection
    executor_t *executor
    reply_slot_t *slots
    uint32_t count
    uint32_t outstanding
    reply_t local                # replies that were executed in place
    batch_message_t *messages


cdef inline bint is_silenced(const connection_t *connection) noexcept nogil:
    return connection.flags & (CONNECTION_REPLY_OFF | CONNECTION_REPLY_SKIP) != 0


cdef inline void end_silence(connection_t *connection) noexcept nogil:
    """The command that waited was the one whose reply is skipped."""
    connection.flags &= ~<uint32_t>CONNECTION_REPLY_SKIP


# ---- What is not executed ------------------------------------------------------------------

cdef inline bint is_exec(const command_spec_t *spec) noexcept nogil:
    return spec.prepare != NULL and spec.flags & COMMAND_IMMEDIATE != 0


cdef void reply_rejection(executor_t *self, const command_spec_t *spec, const char *error,
                          reply_t *reply) noexcept nogil:
    """Of an EXEC that is refused, Redis says that it discards the transaction, and why. spec: NULL, unknown."""
    cdef char text[640]
    if spec != NULL and is_exec(spec):
        snprintf(text, sizeof(text), "EXECABORT Transaction discarded because of: %s",
                 error + 4 if memcmp(error, b"ERR ", 4) == 0 else error)
    else:
        snprintf(text, sizeof(text), "%s", error)
    sanitize_error(text)
    count_error(self, text)
    reply_error(reply, text)


cdef void refuse(executor_t *self, connection_t *connection, call_t *call, reply_t *reply) noexcept nogil:
    """Redis' words for a command that is not executed."""
    cdef char text[512]
    cdef char arguments[160]
    cdef size_t used = 0
    cdef uint32_t i
    cdef int size
    cdef slice_t name = call.argv[0]
    if call.spec != NULL and call.refusal != REFUSAL_SUBCOMMAND:
        self.command_stats[call.spec.index].rejected += 1
    if call.refusal == REFUSAL_UNKNOWN:
        arguments[0] = 0
        i = 1
        while i < call.argc and used < 128:
            size = <int>(128 - used if call.argv[i].size > 128 - used else call.argv[i].size)
            used += snprintf(arguments + used, sizeof(arguments) - used, "'%.*s' ", size, call.argv[i].data)
            i += 1
        size = <int>(name.size if name.size < 128 else 128)
        snprintf(text, sizeof(text), "ERR unknown command '%.*s', with args beginning with: %s",
                 size, name.data, arguments)
    elif call.refusal == REFUSAL_ARITY:
        snprintf(text, sizeof(text), "ERR wrong number of arguments for '%s' command", call.spec.name)
    elif call.refusal == REFUSAL_SUBCOMMAND:
        size = <int>(call.argv[1].size if call.argv[1].size < 128 else 128)
        used = upper_name(call.spec.name, arguments)
        snprintf(text, sizeof(text), "ERR unknown subcommand '%.*s'. Try %s HELP.",
                 size, call.argv[1].data, arguments)
    elif call.refusal == REFUSAL_NO_AUTH:
        snprintf(text, sizeof(text), "NOAUTH Authentication required.")
    else:
        snprintf(text, sizeof(text), "LOADING Redis is loading the dataset in memory")
    reply_rejection(self, call.spec, text, reply)


cdef void reject(executor_t *self, connection_t *connection, call_t *call, const char *text) noexcept nogil:
    """Not executed for a reason that was found only now."""
    self.command_stats[call.spec.index].rejected += 1
    reply_rejection(self, call.spec, text, &connection.output)


cdef size_t upper_name(const char *name, char *out) noexcept nogil:
    cdef size_t i = 0
    while name[i] != 0:
        out[i] = name[i] - 32 if name[i] >= c'a' and name[i] <= c'z' else name[i]
        i += 1
    out[i] = 0
    return i


# ---- Runs of single-key commands -----------------------------------------------------------

cdef uint32_t execute_calls(executor_t *self, connection_t *connection, call_t *calls, uint32_t count,
                            shard_t *shard, reply_t *reply, slicing_t slicing) noexcept nogil:
    """Executes the run's calls for one shard whose token this thread holds; notes where each reply lies.

    Returns their number, or the position of one that is to go in slices: what follows it waits.
    """
    cdef int64_t now_ms = self.proactor.now_ms
    cdef caller_t caller
    cdef bint watch_slow = self.server.settings.slowlog_log_slower_than_us >= 0
    cdef uint64_t slow_ticks = 0
    cdef uint64_t errors
    cdef uint64_t before
    cdef uint64_t after
    cdef uint32_t i
    cdef call_t *call
    if watch_slow:
        slow_ticks = <uint64_t>(<double>self.server.settings.slowlog_log_slower_than_us * ticks_per_us())
    caller_of(connection, &caller)
    prefetch_calls(calls, count, shard, caller.database_index)
    before = cycle_ticks()
    for i in range(count):
        call = &calls[i]
        if call.shard_index != shard.index:
            continue
        errors = reply.error_count
        call.reply_offset = reply.size
        run_on_shard(call, shard, &caller, now_ms, reply, slicing)
        call.reply_size = reply.size - call.reply_offset
        if unlikely(call.slicing == SLICING_WANTED):
            return i
        after = cycle_ticks()
        call.ticks = after - before
        before = after
        account_call(self, call, errors)
        if unlikely(watch_slow and call.ticks >= slow_ticks):
            check_slow(self, connection, call)
        if unlikely(shard.blocked.ready_first != NULL):
            serve_shard_waiters(shard, now_ms)
    return count


cdef inline bint single_shard(const call_t *calls, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(1, count):
        if calls[i].shard_index != calls[0].shard_index:
            return False
    return True


cdef bint run_keys(executor_t *self, connection_t *connection, call_t *calls, uint32_t count,
                   uint32_t *done) noexcept nogil:
    """Executes a run of single-key commands; False if part of it travels and the connection waits.

    *done is `count`, or the position of one that is to go in slices now: what follows it waits.
    """
    cdef shard_t *shard
    cdef bint is_complete
    done[0] = count
    if self.server.thread_count == 1 or single_shard(calls, count):
        shard = self.server.shards[calls[0].shard_index]
        if likely(shard_try_acquire(shard)):
            if shard != self.shard:
                shard.stats.borrowed += 1
                self.stats.foreign_in_place += count
            done[0] = execute_calls(self, connection, calls, count, shard, &connection.output, SLICING_ALLOWED)
            shard_release(shard)
            return True
    is_complete = run_keys_scattered(self, connection, calls, count)
    if is_complete and count == 1 and calls[0].slicing == SLICING_WANTED:
        done[0] = 0
    return is_complete


cdef bint run_keys_scattered(executor_t *self, connection_t *connection, call_t *calls,
                             uint32_t count) noexcept nogil:
    """A run over several shards: own or free ones in place, taken ones by message, replies in order."""
    cdef reply_t *scratch = &self.scratch
    cdef pending_run_t *run = NULL
    cdef uint32_t i
    cdef uint32_t pass_
    cdef uint32_t left = count
    cdef shard_t *shard
    scratch.resp = connection.resp
    reply_reset(scratch)
    for i in range(count):
        calls[i].next_in_shard = 0
    # First pass: what is free now. Second: another try, now that time has passed. Then messages.
    for pass_ in range(2):
        for i in range(count):
            if calls[i].next_in_shard != 0:
                continue
            shard = self.server.shards[calls[i].shard_index]
            if shard_try_acquire(shard):
                left -= execute_marked(self, connection, calls, count, shard, scratch)
                shard_release(shard)
            elif pass_ == 1:
                if run == NULL:
                    run = new_pending_run(self, connection, count)
                left -= send_marked(self, run, connection, calls, count, shard)
        if left == 0:
            break
    if run == NULL:
        for i in range(count):
            reply_raw(&connection.output, scratch.data + calls[i].reply_offset, calls[i].reply_size)
        if scratch.capacity > SCRATCH_KEEP:
            reply_deinit(scratch)
        return True
    # The scratch builder goes along with the run; the thread starts a new one.
    run.local = scratch[0]
    reply_init(scratch, 2)
    for i in range(count):
        if run.slots[i].source == NULL:
            run.slots[i].source = &run.local
            run.slots[i].offset = calls[i].reply_offset
            run.slots[i].size = calls[i].reply_size
    connection.is_busy = True
    connection.pending = run
    connection_retain(connection)
    launch_messages(self, run)
    return False


cdef uint32_t execute_marked(executor_t *self, connection_t *connection, call_t *calls, uint32_t count,
                             shard_t *shard, reply_t *reply) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t executed = 0
    # In a run that is scattered nothing may be left for later: replies are gathered in order.
    execute_calls(self, connection, calls, count, shard, reply, SLICING_ALLOWED if count == 1 else SLICING_NEVER)
    for i in range(count):
        if calls[i].shard_index == shard.index:
            calls[i].next_in_shard = 1
            executed += 1
    if shard != self.shard:
        shard.stats.borrowed += 1
        self.stats.foreign_in_place += executed
    return executed


cdef pending_run_t *new_pending_run(executor_t *self, connection_t *connection, uint32_t count) noexcept nogil:
    cdef pending_run_t *run = <pending_run_t *>net_zalloc(sizeof(pending_run_t))
    run.connection = connection
    run.executor = self
    run.count = count
    run.slots = <reply_slot_t *>net_zalloc(count * sizeof(reply_slot_t))
    reply_init(&run.local, connection.resp)
    return run


cdef uint32_t send_marked(executor_t *self, pending_run_t *run, connection_t *connection, call_t *calls,
                          uint32_t count, shard_t *shard) noexcept nogil:
    """Packs the run's calls for one taken shard into a message (handed over by launch_messages)."""
    cdef size_t bytes_ = 0
    cdef uint32_t arguments = 0
    cdef uint32_t packed = 0
    cdef uint32_t i
    cdef batch_message_t *batch
    cdef slice_t *argv
    cdef char *text
    for i in range(count):
        if calls[i].shard_index == shard.index:
            packed += 1
            arguments += calls[i].argc
            bytes_ += arguments_size(&calls[i])
    batch = <batch_message_t *>net_zalloc(sizeof(batch_message_t))
    batch.run = run
    batch.origin = self
    batch.now_ms = self.proactor.now_ms
    caller_of(connection, &batch.caller)
    batch.slots = <uint32_t *>net_alloc(packed * sizeof(uint32_t))
    batch.calls = <call_t *>net_alloc(packed * sizeof(call_t) + arguments * sizeof(slice_t) + bytes_)
    argv = <slice_t *>(batch.calls + packed)
    text = <char *>(argv + arguments)
    reply_init(&batch.reply, connection.resp)
    for i in range(count):
        if calls[i].shard_index != shard.index:
            continue
        calls[i].next_in_shard = 1
        batch.slots[batch.count] = i
        run.slots[i].source = &batch.reply
        text = copy_call(&batch.calls[batch.count], &calls[i], argv, text)
        argv += calls[i].argc
        batch.count += 1
    batch.next = run.messages
    run.messages = batch
    run.outstanding += 1
    self.stats.foreign_messages += packed
    return packed


cdef inline size_t arguments_size(const call_t *call) noexcept nogil:
    cdef size_t total = 0
    cdef uint32_t i
    for i in range(call.argc):
        total += call.argv[i].size
    return total


cdef char *copy_call(call_t *out, const call_t *call, slice_t *argv, char *text) noexcept nogil:
    """Copies a call and its arguments; the key must point into the copy."""
    cdef uint32_t i
    memcpy(out, call, sizeof(call_t))
    out.argv = argv
    out.connection = NULL
    for i in range(call.argc):
        memcpy(text, call.argv[i].data, call.argv[i].size)
        argv[i].data = text
        argv[i].size = call.argv[i].size
        text += call.argv[i].size
    out.key.data = argv[call.spec.first_key].data
    return text


cdef void launch_messages(executor_t *self, pending_run_t *run) noexcept nogil:
    cdef batch_message_t *batch = run.messages
    cdef batch_message_t *following
    while batch != NULL:
        # Once it is submitted, the message is not ours: read `next` first.
        following = batch.next
        batch.message.run = run_batch_message
        shard_submit(self.server.shards[batch.calls[0].shard_index], &batch.message)
        batch = following


cdef void run_batch_message(message_t *message, void *context) noexcept nogil:
    """On whichever thread holds the shard's token."""
    cdef batch_message_t *batch = <batch_message_t *>message
    cdef shard_t *shard = <shard_t *>context
    cdef call_t *call
    cdef uint64_t before = cycle_ticks()
    cdef uint64_t after
    cdef uint64_t errors
    cdef uint32_t i
    for i in range(batch.count):
        call = &batch.calls[i]
        errors = batch.reply.error_count
        call.reply_offset = batch.reply.size
        run_on_shard(call, shard, &batch.caller, batch.now_ms, &batch.reply,
                     SLICING_ALLOWED if batch.run.count == 1 else SLICING_NEVER)
        call.reply_size = batch.reply.size - call.reply_offset
        call.refusal = batch.reply.error_count != errors
        after = cycle_ticks()
        call.ticks = after - before
        before = after
        if unlikely(shard.blocked.ready_first != NULL):
            serve_shard_waiters(shard, batch.now_ms)
    message.run = take_in_batch
    proactor_post(&batch.origin.proactor, message)


cdef void take_in_batch(message_t *message, void *context) noexcept nogil:
    """Back on the origin's thread: note the replies; when the run is complete, gather them."""
    cdef batch_message_t *batch = <batch_message_t *>message
    cdef pending_run_t *run = batch.run
    cdef executor_t *self = batch.origin
    cdef connection_t *connection = run.connection
    cdef reply_slot_t *slot
    cdef call_t *call
    cdef uint32_t i
    for i in range(batch.count):
        call = &batch.calls[i]
        slot = &run.slots[batch.slots[i]]
        slot.offset = call.reply_offset
        slot.size = call.reply_size
        if unlikely(call.slicing == SLICING_WANTED):
            continue
        # An error was counted where it happened (call.refusal says so): one more before than after.
        account_call(self, call, call.reply.error_count - <uint64_t>call.refusal)
        check_slow_travelled(self, connection, call)
    run.outstanding -= 1
    if run.outstanding == 0:
        finish_run(self, run)


cdef inline void check_slow_travelled(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    if self.server.settings.slowlog_log_slower_than_us >= 0:
        check_slow(self, connection, call)


cdef void finish_run(executor_t *self, pending_run_t *run) noexcept nogil:
    cdef connection_t *connection = run.connection
    cdef batch_message_t *batch
    cdef uint32_t i
    connection.pending = NULL
    connection.is_busy = False
    if not connection.is_closed:
        connection_prepare_output(connection)
        if not is_silenced(connection):
            for i in range(run.count):
                reply_raw(&connection.output, run.slots[i].source.data + run.slots[i].offset, run.slots[i].size)
        batch = run.messages
        if unlikely(run.count == 1 and batch.calls[0].slicing == SLICING_WANTED):
            batch.calls[0].connection = connection
            start_in_slices(self, connection, &batch.calls[0], &batch.caller)
        else:
            end_silence(connection)
    else:
        connection_gone(connection)
    while run.messages != NULL:
        batch = run.messages
        run.messages = batch.next
        reply_deinit(&batch.reply)
        net_free(batch.calls)
        net_free(batch.slots)
        net_free(batch)
    reply_deinit(&run.local)
    net_free(run.slots)
    net_free(run)
    dispatch_resume(connection)
    tokens_release(&self.held, self.server.shards)
    connection_release(connection)


# ---- Transactions and the control plane ------------------------------------------------------

cdef void transaction_finished(transaction_t *transaction) noexcept nogil:
    """A transaction that waited is complete: on the connection's thread."""
    cdef connection_t *connection = transaction.connection
    cdef executor_t *self = <executor_t *>connection.thread.context
    connection.is_busy = False
    if transaction.spec.kind != KIND_CONTROL:
        self.transactions_in_flight -= 1
    if not connection.is_closed:
        take_transaction_reply(self, connection, transaction)
        end_silence(connection)
        close_over_limit(self, connection)
    else:
        connection_gone(connection)
    transaction_free(transaction)
    # What follows in the connection's input may use the same tokens.
    dispatch_resume(connection)
    tokens_release(&self.held, self.server.shards)
    connection_release(connection)


cdef uint64_t take_transaction_reply(executor_t *self, connection_t *connection,
                                     transaction_t *transaction) noexcept nogil:
    """Returns the ticks it took."""
    cdef command_stats_t *stats = &self.command_stats[transaction.spec.index]
    cdef uint64_t ticks = cycle_ticks() - transaction.started_ticks
    cdef int64_t duration_us = <int64_t>(<double>ticks / ticks_per_us())
    cdef int64_t limit = self.server.settings.slowlog_log_slower_than_us
    stats.calls += 1
    stats.ticks += ticks
    count_shown(&self.stats.commands)
    if transaction.reply.error_count != 0:
        count_failure(self, transaction.spec, transaction.reply.data, transaction.reply.size)
    account_latency(self, stats, transaction.spec, ticks)
    if limit >= 0 and duration_us >= limit and not transaction.spec.flags & COMMAND_SKIP_SLOWLOG:
        slowlog_add(self, connection, transaction.argv, transaction.argc, duration_us)
    if is_silenced(connection):
        pass
    elif transaction.chain.first == NULL and transaction.reply.size < REPLY_CHUNK:
        connection_prepare_output(connection)
        reply_raw(&connection.output, transaction.reply.data, transaction.reply.size)
    else:
        reply_chain_take(&transaction.chain, &transaction.reply, False)
        connection_append(connection, &transaction.chain)
    connection_prepare_output(connection)
    return ticks


cdef bint start_transaction(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    """True when it is complete and its reply appended; False: the connection waits."""
    cdef transaction_t *transaction
    cdef server_t *server = self.server
    if unlikely(server.settings.maxmemory != 0) and call.spec.flags & COMMAND_DENYOOM:
        if not room_for_transaction(self, connection):
            self.shard.stats.oom_rejections += 1
            reject(self, connection, call, OUT_OF_MEMORY)
            return True
    transaction = transaction_new(call, NULL, &self.proactor, server.shards, server.thread_count,
                                  server.proactors, server.thread_count)
    return launch(self, connection, transaction)


cdef bint start_in_slices(executor_t *self, connection_t *connection, call_t *call,
                          const caller_t *caller) noexcept nogil:
    """A call that its handler has left to its row's step; caller: what it was with, NULL: the connection's."""
    cdef transaction_t *transaction = transaction_new(call, NULL, &self.proactor, self.server.shards,
                                                      self.server.thread_count, self.server.proactors,
                                                      self.server.thread_count)
    if caller != NULL:
        transaction.caller = caller[0]
    # The handler has touched the key.
    transaction.caller.keep_access = True
    return launch(self, connection, transaction)


cdef bint launch(executor_t *self, connection_t *connection, transaction_t *transaction) noexcept nogil:
    cdef command_spec_t *spec = transaction.spec
    transaction.on_done = transaction_finished
    transaction.held = &self.held
    if spec.kind != KIND_CONTROL and transaction_run(transaction):
        note_longest(self, take_transaction_reply(self, connection, transaction))
        transaction_free(transaction)
        return True
    connection.is_busy = True
    connection_retain(connection)
    if spec.kind == KIND_CONTROL:
        control_submit(self.server, transaction)
    else:
        self.transactions_in_flight += 1
    return False


cdef bint room_for_transaction(executor_t *self, connection_t *connection) noexcept nogil:
    """Evicts from this thread's shard if it must; several shards' worth is left to their own writers."""
    cdef call_t *call = &self.calls[0]
    cdef bint has_room = True
    tokens_release(&self.held, self.server.shards)
    if shard_try_acquire(self.shard):
        call.scope.shard = self.shard
        call.scope.database = shard_database(self.shard, connection.database_index)
        call.scope.now_ms = self.proactor.now_ms
        has_room = make_room(&call.scope)
        shard_release(self.shard)
    return has_room


# ---- The batch -----------------------------------------------------------------------------

cdef void run_connection_command(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    cdef uint64_t before = cycle_ticks()
    cdef uint64_t errors = connection.output.error_count
    call.reply = &connection.output
    call.reply_offset = connection.output.size
    call.scope.now_ms = self.proactor.now_ms
    call.spec.handler(call)
    connection.output.resp = connection.resp
    call.ticks = cycle_ticks() - before
    call.reply_size = connection.output.size - call.reply_offset
    account_call(self, call, errors)
    if self.server.settings.slowlog_log_slower_than_us >= 0:
        check_slow(self, connection, call)


cdef bint must_pause(executor_t *self, const call_t *call) noexcept nogil:
    """CLIENT PAUSE, or a snapshot that cannot follow: does this command wait?"""
    cdef server_t *server = self.server
    cdef bint writes
    if call.spec == NULL or call.spec.kind == KIND_CONNECTION or call.spec.kind == KIND_CONTROL:
        return False
    # An EXEC waits if what is queued writes.
    writes = call.spec.flags & COMMAND_WRITE != 0 or (
        is_exec(call.spec) and call.connection.multi != NULL
        and (<multi_t *>call.connection.multi).flags & COMMAND_WRITE != 0)
    if atomic_load_relaxed(&server.save_pressure) != 0 and writes:
        return True
    if (atomic_load_relaxed(&server.pause_mode) == PAUSE_OFF
            or <int64_t>atomic_load_relaxed(&server.pause_until_ms) <= self.proactor.now_ms):
        return False
    return atomic_load_relaxed(&server.pause_mode) == PAUSE_ALL or writes


cdef void pause_connection(executor_t *self, connection_t *connection) noexcept nogil:
    if not connection.is_client_paused:
        connection.is_client_paused = True
        connection.next_paused = self.paused
        self.paused = connection
        self.paused_count += 1
        connection_retain(connection)


cdef bint refuse_subscribed(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    """RESP2 has no pushes: a client with subscriptions may do little else."""
    cdef char text[256]
    if connection.resp == 3 or call.refusal != REFUSAL_NONE or call.spec.flags & COMMAND_WHILE_SUBSCRIBED:
        return False
    snprintf(text, sizeof(text), "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
             "RESET are allowed in this context", call.spec.name)
    reject(self, connection, call, text)
    if connection.flags & CONNECTION_MULTI:
        multi_abort(connection)
    return True


cdef inline bint is_queued(const connection_t *connection, const call_t *call) noexcept nogil:
    return connection.flags & CONNECTION_MULTI != 0 and not (
        call.refusal == REFUSAL_NONE and call.spec.flags & COMMAND_IMMEDIATE)


cdef bint queue_call(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    """Between MULTI and EXEC; False: the command is executed all the same."""
    if not is_queued(connection, call):
        return False
    if call.refusal != REFUSAL_NONE:
        refuse(self, connection, call, &connection.output)
        if call.spec != NULL and is_exec(call.spec):
            # EXEC with arguments ends the transaction.
            connection_left(connection)
        else:
            multi_abort(connection)
    elif call.spec.flags & COMMAND_NO_MULTI:
        reject(self, connection, call, "ERR Command not allowed inside a transaction")
        multi_abort(connection)
    elif self.server.settings.maxmemory != 0 and not room_for_transaction(self, connection):
        # Reads too: a queue may grow without end.
        reject(self, connection, call, OUT_OF_MEMORY)
        multi_abort(connection)
    else:
        multi_queue(connection, call)
        reply_simple(&connection.output, "QUEUED")
    return True


cdef const char *MISCONF = (
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that "
    "may modify the data set are disabled, because this instance is configured to report errors during writes if RDB "
    "snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    "error.")


cdef bint refuse_unsaved(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    """The last snapshot has failed: no writes, and no PING, so that those who watch the server hear of it."""
    if call.refusal != REFUSAL_NONE:
        return False
    if is_exec(call.spec):
        if connection.multi == NULL or not (<multi_t *>connection.multi).flags & COMMAND_WRITE:
            return False
        reject(self, connection, call, MISCONF)
        connection_left(connection)
        return True
    if not call.spec.flags & COMMAND_WRITE and not slice_equals(call.argv[0], "ping"):
        return False
    reject(self, connection, call, MISCONF)
    if connection.flags & CONNECTION_MULTI:
        multi_abort(connection)
    return True


cdef uint32_t run_batch(executor_t *self, connection_t *connection, call_t *calls, uint32_t count) noexcept nogil:
    """Executes calls in order; returns how many are done (a waiting one counts as done)."""
    cdef uint32_t done
    done = run_calls(self, connection, calls, count)
    if unlikely(self.held.count != 0):
        tokens_release(&self.held, self.server.shards)
    return done


cdef uint32_t run_calls(executor_t *self, connection_t *connection, call_t *calls,
                        uint32_t count) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint32_t end
    cdef uint32_t done
    cdef bint waits
    cdef call_t *call
    while i < count:
        call = &calls[i]
        waits = False
        if unlikely(connection.flags & CONNECTION_CLOSE_AFTER_REPLY != 0):
            return count
        if unlikely(connection.flags & CONNECTION_PUBSUB != 0) and refuse_subscribed(self, connection, call):
            i += 1
            continue
        if unlikely(atomic_load_relaxed(&self.server.deny_writes) != 0) and refuse_unsaved(self, connection, call):
            i += 1
            continue
        if (unlikely((atomic_load_relaxed(&self.server.pause_mode)
                      | atomic_load_relaxed(&self.server.save_pressure)) != 0)
                and must_pause(self, call)):
            pause_connection(self, connection)
            return i
        if unlikely(connection.flags & CONNECTION_MULTI != 0) and queue_call(self, connection, call):
            i += 1
            continue
        end = i + 1
        if likely(call.refusal == REFUSAL_NONE and call.kind == KIND_KEY):
            if likely((atomic_load_relaxed(&self.server.pause_mode) | atomic_load_relaxed(&self.server.save_pressure)
                       | atomic_load_relaxed(&self.server.deny_writes)) == 0
                      and connection.flags & REPLY_SILENT == 0
                      and not tracking_is_caching(connection)):
                while end < count and calls[end].refusal == REFUSAL_NONE and calls[end].kind == KIND_KEY:
                    end += 1
            if unlikely(self.held.count != 0):
                tokens_release(&self.held, self.server.shards)
            waits = not run_keys(self, connection, call, end - i, &done)
            if unlikely(done < end - i):
                call += done
                end = i + done + 1
                waits = not start_in_slices(self, connection, call, NULL)
        elif call.refusal != REFUSAL_NONE:
            refuse(self, connection, call, &connection.output)
        elif call.spec.kind == KIND_CONNECTION:
            run_connection_command(self, connection, call)
            # CLIENT REPLY: what follows is executed by run_silenced.
            waits = unlikely(connection.flags & REPLY_SILENT != 0)
        else:
            waits = not start_transaction(self, connection, call)
        if unlikely(connection.tracking != NULL):
            tracking_command_done(connection, call.spec)
        if waits:
            return end
        i = end
    return count


cdef uint32_t run_monitored(executor_t *self, connection_t *connection, call_t *calls, uint32_t count) noexcept nogil:
    """Somebody watches: one command at a time, shown after it ran (SELECT shows its new database)."""
    cdef uint32_t i
    cdef bint queued
    cdef call_t *call
    for i in range(count):
        call = &calls[i]
        queued = is_queued(connection, call)
        if run_batch(self, connection, call, 1) == 0:
            return i
        # What is queued shows when EXEC runs it.
        if (call.refusal == REFUSAL_NONE and not queued
                and not call.spec.flags & (COMMAND_SKIP_MONITOR | COMMAND_ADMIN)):
            # Arguments of AUTH and HELLO are passwords.
            monitor_feed(self, connection, call.argv, 1 if call.spec.flags & COMMAND_NO_AUTH else call.argc)
        if connection.is_busy or connection.flags & REPLY_SILENT:
            return i + 1
    return count


cdef uint32_t run_silenced(executor_t *self, connection_t *connection, call_t *calls, uint32_t count) noexcept nogil:
    """CLIENT REPLY OFF or SKIP is in force: one command at a time, its reply cut off again."""
    cdef uint32_t i
    cdef size_t size
    cdef bint silent
    for i in range(count):
        silent = connection.flags & (CONNECTION_REPLY_OFF | CONNECTION_REPLY_SKIP) != 0
        size = connection.output.size
        if run_batch(self, connection, &calls[i], 1) == 0:
            return i
        if connection.is_busy:
            # Its reply is dropped when it comes: is_silenced.
            return i + 1
        # CLIENT REPLY ON answers for itself.
        if silent and connection.flags & (CONNECTION_REPLY_OFF | CONNECTION_REPLY_SKIP):
            connection.output.size = size
        connection.flags &= ~<uint32_t>CONNECTION_REPLY_SKIP
        if connection.flags & CONNECTION_REPLY_SKIP_NEXT:
            connection.flags = (connection.flags & ~<uint32_t>CONNECTION_REPLY_SKIP_NEXT) | CONNECTION_REPLY_SKIP
        if connection.flags & REPLY_SILENT == 0 and i + 1 < count:
            return i + 1
    return count


cdef void fail_protocol(executor_t *self, connection_t *connection) noexcept nogil:
    """A protocol error is answered, then the connection closes, as in Redis."""
    cdef char text[160]
    snprintf(text, sizeof(text), "ERR %s", connection.parser.error)
    sanitize_error(text)
    count_error(self, text)
    reply_error(&connection.output, text)
    connection_close_after_reply(connection)


cdef inline bint must_wait(const connection_t *connection) noexcept nogil:
    return connection.is_busy or connection.is_client_paused or connection.is_paused_for_output


cdef inline bint over_hard_limit(executor_t *self, connection_t *connection) noexcept nogil:
    """client-output-buffer-limit normal: closed at once; the soft limit is the cron's."""
    cdef int64_t limit = self.server.settings.output_limits[0].hard_bytes
    return limit != 0 and connection_output_bytes(connection) > <size_t>limit


cdef bint close_over_limit(executor_t *self, connection_t *connection) noexcept nogil:
    if likely(not over_hard_limit(self, connection)):
        return False
    self.stats.output_limit_closes += 1
    connection_close(connection)
    return True


cdef size_t process_window(executor_t *self, connection_t *connection, const char *data, size_t size) noexcept nogil:
    """Executes what is complete in the window; returns the bytes it is done with."""
    cdef size_t offset = 0
    cdef size_t consumed = 0
    cdef uint32_t count
    cdef uint32_t done
    cdef int result = PARSE_OK
    while offset < size and not connection.flags & CONNECTION_CLOSE_AFTER_REPLY:
        count = parse_batch(self, connection, data + offset, size - offset, &consumed, &result)
        if count > 0:
            self.stats.batches += 1
            connection.commands += count
            connection.last_command = self.calls[count - 1].spec
            connection_prepare_output(connection)
            connection.output.resp = connection.resp
            if unlikely(connection.flags & CONNECTION_REPLY_SKIP_NEXT != 0):
                connection.flags = (connection.flags & ~<uint32_t>CONNECTION_REPLY_SKIP_NEXT) | CONNECTION_REPLY_SKIP
            if unlikely(atomic_load_relaxed(&self.server.monitor_count) != 0) and connection.flags & REPLY_SILENT == 0:
                done = run_monitored(self, connection, self.calls, count)
            elif likely(connection.flags & REPLY_SILENT == 0):
                done = run_batch(self, connection, self.calls, count)
            else:
                done = run_silenced(self, connection, self.calls, count)
            if done < count or connection.is_busy:
                # Commands behind the one that waits are parsed again later.
                parser_reset(&connection.parser)
                offset += self.calls[done - 1].input_end if done > 0 else 0
                if must_wait(connection):
                    return offset
                continue
        offset += consumed
        if result == PARSE_ERROR:
            connection_prepare_output(connection)
            fail_protocol(self, connection)
            return size
        if unlikely(close_over_limit(self, connection)):
            return size
        if result == PARSE_NEED_MORE:
            break
        if unlikely(connection_output_bytes(connection) > OUTPUT_STOP):
            connection.is_paused_for_output = True
            stream_pause_reading(&connection.stream)
            break
    return offset if not connection.flags & CONNECTION_CLOSE_AFTER_REPLY else size


cdef void on_input(connection_t *connection, const char *data, size_t size) noexcept nogil:
    cdef executor_t *self = <executor_t *>connection.thread.context
    cdef size_t consumed
    if unlikely(connection.is_processing):
        # The loop handed over kept bytes while we were executing earlier ones.
        connection_keep_input(connection, data, size)
        return
    if likely(connection.input_size == 0 and not must_wait(connection)):
        connection.is_processing = True
        consumed = process_window(self, connection, data, size)
        connection.is_processing = False
        if consumed < size:
            connection_keep_input(connection, data + consumed, size - consumed)
        elif likely(not connection.is_busy):
            parser_trim(&connection.parser)
    else:
        if size > 0:
            connection_keep_input(connection, data, size)
        process_kept(self, connection)
    if connection.input_size > <size_t>self.server.settings.client_query_buffer_limit:
        self.stats.input_limit_closes += 1
        connection_close(connection)
        return
    connection_queue_flush(connection)


cdef void process_kept(executor_t *self, connection_t *connection) noexcept nogil:
    cdef size_t consumed
    # Something may have been kept while this ran: go on until nothing moves.
    while connection.input_size > 0 and not must_wait(connection):
        if connection.input_size < connection.parser.bytes_wanted:
            break
        connection.is_processing = True
        consumed = process_window(self, connection, connection.input, connection.input_size)
        connection.is_processing = False
        connection_consume_input(connection, consumed)
        if connection.input_size == 0 and not connection.is_busy:
            parser_trim(&connection.parser)
        if consumed == 0:
            break
    if unlikely(connection.stream.is_paused) and not must_wait(connection):
        # So much was kept that reading stopped, and all of it is the begin of one command: the rest must come.
        stream_resume_reading(&connection.stream)


cdef void dispatch_resume(connection_t *connection) noexcept nogil:
    cdef executor_t *self = <executor_t *>connection.thread.context
    if connection.is_closed or connection.stream.is_closing:
        return
    if unlikely(connection.tracking != NULL):
        tracking_catch_up(connection)
    process_kept(self, connection)
    connection_queue_flush(connection)


cdef void connection_left(connection_t *connection) noexcept nogil:
    """Its transaction is over: the queue and the watch go."""
    multi_discard(connection)
    unwatch_all(connection, (<executor_t *>connection.thread.context).server.shards)


cdef void connection_gone(connection_t *connection) noexcept nogil:
    """It is closed and nothing of it is in flight: it leaves what it was part of."""
    cdef server_t *server = (<executor_t *>connection.thread.context).server
    connection_left(connection)
    pubsub_leave(connection)
    tracking_leave(connection)
    if connection.flags & CONNECTION_MONITOR:
        connection.flags &= ~<uint32_t>CONNECTION_MONITOR
        atomic_sub(&server.monitor_count, 1)


cdef void on_close(connection_t *connection) noexcept nogil:
    atomic_sub(&(<executor_t *>connection.thread.context).server.connected_clients, 1)
    # An EXEC in flight needs its watch and may still subscribe: what waits calls connection_gone at its end.
    if connection.is_busy:
        pubsub_leave(connection)
        blocking_on_close(connection)
    else:
        connection_gone(connection)


cdef void dispatch_service(service_t *out) noexcept nogil:
    out.on_input = on_input
    out.on_close = on_close


cdef void dispatch_init(executor_t *self) noexcept nogil:
    batch_init(self)
    self.held.shards = <uint32_t *>net_zalloc(self.server.thread_count * sizeof(uint32_t))
    self.command_stats = <command_stats_t *>net_zalloc(COMMAND_MAX * sizeof(command_stats_t))
    reply_init(&self.scratch, 2)
    reply_init(&self.discarded, 2)


cdef void dispatch_deinit(executor_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(COMMAND_MAX):
        net_free(self.command_stats[i].latency)
    net_free(self.latency)
    reply_deinit(&self.scratch)
    reply_deinit(&self.discarded)
    net_free(self.held.shards)
    batch_deinit(self)
    net_free(self.command_stats)
