"""Continuations over shards: see transaction.pxd for how commands use them.

Invariants: while `locked` equals lock_count all hops over shards run in place, between the first step
and transaction_unlock. By message: `pending` counts the hop messages that have not run, plus one while
the origin hands them out; whoever brings it to zero ends the hop: the origin itself (then the next step
follows at once) or another thread (then done_message goes to the origin's mailbox). Steps run on the
origin's thread only. Everything another thread reaches lies on the heap.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from dfly._core.engine.command cimport (COMMAND_GLOBAL, COMMAND_READONLY, HOP_ALL, HOP_KEYS, HOP_ONE,
                                        HOP_THREADS, TRANSACTION_HOP, TRANSACTION_WAIT, TRANSACTION_YIELD,
                                        call_t, command_key_positions, hop_message_t, hop_target_t,
                                        key_result_t)
from dfly._core.engine.latency cimport LATENCY_TOKEN_WAIT, latency_add, latency_is_event
from dfly._core.engine.server_state cimport executor_of, executor_t
from dfly._core.engine.shard cimport (scope_t, shard_close_books, shard_database, shard_lock, shard_of,
                                      shard_open_books, shard_submit, shard_t, shard_unlock, token_set_t,
                                      tokens_release)
from dfly._core.engine.tracking cimport caller_of, tracking_remember
from dfly._core.engine.waiter cimport serve_waiters
from dfly._core.loop.mailbox cimport message_run_t, message_t
from dfly._core.net.migration cimport migration_hold, migration_let_go
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.resp.reply cimport reply_chain_free, reply_deinit, reply_init
from dfly._core.store.object cimport key_init, key_t, object_free
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_sub, atomic_store, cycle_ticks, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP


cdef void transaction_own_arguments(transaction_t *self) noexcept nogil:
    cdef size_t total = 0
    cdef uint32_t i
    cdef slice_t *copies
    cdef char *bytes_
    if self.owns_arguments:
        return
    for i in range(self.argc):
        total += self.argv[i].size
    copies = <slice_t *>net_alloc(self.argc * sizeof(slice_t) + total)
    bytes_ = <char *>(copies + self.argc)
    for i in range(self.argc):
        memcpy(bytes_, self.argv[i].data, self.argv[i].size)
        copies[i].data = bytes_
        copies[i].size = self.argv[i].size
        bytes_ += self.argv[i].size
    self.argv = copies
    self.owns_arguments = True
    for i in range(self.key_count):
        self.keys[i].data = copies[self.key_positions[i]].data


cdef void find_keys(transaction_t *self) noexcept nogil:
    cdef int count = command_key_positions(self.spec, self.argv, self.argc, self.key_positions)
    cdef uint32_t position
    cdef int i
    if count <= 0:
        return
    self.key_count = <uint32_t>count
    memset(self.results, 0, count * sizeof(key_result_t))
    for i in range(count):
        position = self.key_positions[i]
        key_init(&self.keys[i], self.argv[position].data, self.argv[position].size)
        self.key_shards[i] = shard_of(self.keys[i].hash, self.shard_count)
        transaction_lock_shard(self, self.key_shards[i])


cdef transaction_t *transaction_new(call_t *call, transaction_t *outer, proactor_t *origin, shard_t **shards,
                                    uint32_t shard_count, proactor_t **proactors,
                                    uint32_t proactor_count) noexcept nogil:
    cdef bint has_keys = call.spec.first_key != 0 or call.spec.get_keys != NULL
    cdef size_t per_key = sizeof(key_t) + sizeof(key_result_t) + 2 * sizeof(uint32_t)
    cdef size_t size = sizeof(transaction_t) + shard_count * sizeof(uint32_t) + (
        call.argc * per_key if has_keys else 0)
    cdef transaction_t *self = <transaction_t *>net_alloc(size)
    memset(self, 0, sizeof(transaction_t))
    if has_keys:
        self.keys = <key_t *>(self + 1)
        self.results = <key_result_t *>(self.keys + call.argc)
        self.key_shards = <uint32_t *>(self.results + call.argc)
        self.key_positions = self.key_shards + call.argc
        self.lock_shards = self.key_positions + call.argc
    else:
        self.lock_shards = <uint32_t *>(self + 1)
    self.origin = origin
    self.connection = call.connection
    self.spec = call.spec
    self.step = call.spec.step
    self.shards = shards
    self.shard_count = shard_count
    self.proactors = proactors
    self.proactor_count = proactor_count
    caller_of(call.connection, &self.caller)
    self.now_ms = origin.now_ms
    self.started_ticks = cycle_ticks()
    self.outer = outer
    self.is_inside = outer != NULL
    self.argv = call.argv
    self.argc = call.argc
    reply_init(&self.reply, call.connection.resp)
    if call.spec.flags & COMMAND_GLOBAL:
        transaction_lock_all(self)
    if has_keys:
        find_keys(self)
    if call.spec.prepare != NULL:
        call.spec.prepare(self)
    # One without keys may visit other threads between its steps, when the batch is gone.
    if not has_keys and outer == NULL:
        transaction_own_arguments(self)
    return self


cdef void transaction_lock_shard(transaction_t *self, uint32_t shard) noexcept nogil:
    cdef uint32_t i = self.lock_count
    while i > 0 and self.lock_shards[i - 1] > shard:
        i -= 1
    if i > 0 and self.lock_shards[i - 1] == shard:
        return
    memmove(self.lock_shards + i + 1, self.lock_shards + i, (self.lock_count - i) * sizeof(uint32_t))
    self.lock_shards[i] = shard
    self.lock_count += 1


cdef void transaction_lock_all(transaction_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.shard_count):
        self.lock_shards[i] = i
    self.lock_count = self.shard_count


cdef void transaction_free(transaction_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.key_count):
        if self.results[i].has_value:
            object_free(&self.results[i].value)
    if self.shard_replies != NULL:
        for i in range(self.shard_count):
            reply_deinit(&self.shard_replies[i])
        net_free(self.shard_replies)
    reply_chain_free(&self.chain)
    reply_deinit(&self.reply)
    net_free(self.state)
    net_free(self.messages)
    if self.owns_arguments:
        net_free(self.argv)
    net_free(self)


cdef void transaction_scope(transaction_t *self, shard_t *shard, scope_t *out) noexcept nogil:
    out.shard = shard
    out.database = shard_database(shard, self.caller.database_index)
    out.now_ms = self.now_ms
    out.client_id = self.caller.client_id
    out.keep_access = self.caller.keep_access


cdef void prepare_replies(transaction_t *self) noexcept nogil:
    cdef uint32_t i
    if self.shard_replies == NULL:
        self.shard_replies = <reply_t *>net_zalloc(self.shard_count * sizeof(reply_t))
        for i in range(self.shard_count):
            reply_init(&self.shard_replies[i], self.reply.resp)


cdef reply_t *transaction_shard_reply(transaction_t *self, shard_t *shard) noexcept nogil:
    # By message the array exists before the hop (hand_out), so shards only touch their own builder.
    prepare_replies(self)
    return &self.shard_replies[shard.index]


# ---- Tokens ------------------------------------------------------------------------------------

cdef inline bint holds_tokens(const transaction_t *self) noexcept nogil:
    return self.is_inside or (self.lock_count > 0 and not self.is_released)


cdef bint is_held(const transaction_t *self) noexcept nogil:
    """Does the batch hold every token it needs?"""
    cdef const token_set_t *held = self.held
    cdef uint32_t at = 0
    cdef uint32_t i
    for i in range(self.lock_count):
        while at < held.count and held.shards[at] < self.lock_shards[i]:
            at += 1
        if at == held.count or held.shards[at] != self.lock_shards[i]:
            return False
    return True


cdef bint take_tokens(transaction_t *self) noexcept nogil:
    """True when it holds all of them; False: granted goes on later."""
    if self.held != NULL and self.held.count > 0 and self.locked < self.lock_count:
        if is_held(self):
            self.uses_held = True
            self.locked = self.lock_count
            return True
        # In ascending order only: the batch's tokens go back before others are taken.
        tokens_release(self.held, self.shards)
    while self.locked < self.lock_count:
        self.grant.home = self.origin
        self.grant.on_granted = granted
        if not shard_lock(self.shards[self.lock_shards[self.locked]], &self.grant):
            # `granted` comes through this thread's mailbox, so not before we return to the loop.
            transaction_own_arguments(self)
            self.grant_asked_ticks = cycle_ticks()
            return False
        self.locked += 1
    return True


cdef void granted(message_t *message, void *context) noexcept nogil:
    cdef transaction_t *self = <transaction_t *>(<char *>message - <size_t>&(<transaction_t *>NULL).grant)
    cdef executor_t *executor = executor_of(self.connection)
    cdef uint64_t waited = cycle_ticks() - self.grant_asked_ticks
    executor.stats.token_waits += 1
    executor.stats.token_wait_ticks += waited
    if unlikely(latency_is_event(&executor.server.settings, waited)):
        latency_add(&executor.latency, &executor.server.settings, LATENCY_TOKEN_WAIT, waited)
    self.locked += 1
    transaction_resume(self)


cdef inline void serve_ready(transaction_t *self) noexcept nogil:
    """Who waits for keys that it changed comes before everybody else."""
    cdef uint32_t i
    for i in range(self.lock_count):
        if unlikely(self.shards[self.lock_shards[i]].blocked.ready_first != NULL):
            serve_waiters(self.shards, self.lock_shards, self.lock_count, self.now_ms)
            return


cdef void transaction_restart(transaction_t *self) noexcept nogil:
    self.stage = 0
    self.is_inside = False
    self.is_released = False
    self.uses_held = False
    self.held = NULL
    self.locked = 0


cdef int transaction_interrupt(transaction_t *self) noexcept nogil:
    transaction_own_arguments(self)
    transaction_release(self)
    self.is_released = False
    self.held = NULL
    self.done_message.run = resume_on_origin
    proactor_post(self.origin, &self.done_message)
    return TRANSACTION_WAIT


cdef void transaction_release(transaction_t *self) noexcept nogil:
    if self.is_inside or self.is_released:
        return
    serve_ready(self)
    self.is_released = True
    if self.uses_held:
        tokens_release(self.held, self.shards)
        self.uses_held = False
        self.locked = 0
    while self.locked > 0:
        self.locked -= 1
        shard_unlock(self.shards[self.lock_shards[self.locked]])


cdef void finish_tokens(transaction_t *self) noexcept nogil:
    """At its end: its tokens stay for the next transaction of its batch; the dispatcher gives them back."""
    if self.is_inside or self.is_released:
        return
    serve_ready(self)
    if self.uses_held:
        self.is_released = True
    elif self.held != NULL and self.held.count == 0 and self.locked > 0:
        self.is_released = True
        self.held.count = self.locked
        memcpy(self.held.shards, self.lock_shards, self.locked * sizeof(uint32_t))
    else:
        transaction_release(self)


cdef void leave_batch(transaction_t *self) noexcept nogil:
    """It waits: the batch ends without it, and what it used of the batch's tokens becomes its own."""
    if self.uses_held:
        self.uses_held = False
        self.lock_count = self.held.count
        self.locked = self.held.count
        memcpy(self.lock_shards, self.held.shards, self.held.count * sizeof(uint32_t))
        self.held.count = 0


cdef inline void run_in_place(transaction_t *self, uint32_t index) noexcept nogil:
    cdef shard_t *shard = self.shards[index]
    shard_open_books(shard)
    self.hop(self, shard)
    shard_close_books(shard)


cdef void run_hop(transaction_t *self) noexcept nogil:
    """All shards of the hop, one after the other: their tokens are ours."""
    cdef uint32_t i
    if self.target == HOP_ONE:
        run_in_place(self, self.hop_shard)
    elif self.target == HOP_ALL:
        for i in range(self.shard_count):
            run_in_place(self, i)
    else:
        for i in range(self.lock_count):
            run_in_place(self, self.lock_shards[i])


# ---- Hops by message ---------------------------------------------------------------------------

cdef void finish_one(transaction_t *self) noexcept nogil:
    if atomic_sub(&self.pending, 1) == 0:
        self.done_message.run = resume_on_origin
        proactor_post(self.origin, &self.done_message)


cdef void run_shard_hop(message_t *message, void *context) noexcept nogil:
    cdef hop_message_t *hop = <hop_message_t *>message
    message.run = NULL
    hop.transaction.hop(hop.transaction, <shard_t *>context)
    finish_one(hop.transaction)


cdef void run_thread_hop(message_t *message, void *context) noexcept nogil:
    cdef hop_message_t *hop = <hop_message_t *>message
    message.run = NULL
    hop.transaction.thread_hop(hop.transaction, <proactor_t *>context)
    migration_let_go()
    finish_one(hop.transaction)


cdef void resume_on_origin(message_t *message, void *context) noexcept nogil:
    """The hop has ended on another thread: next step, here on the connection's thread."""
    transaction_resume(<transaction_t *>message)


cdef void transaction_resume(transaction_t *self) noexcept nogil:
    if transaction_run(self):
        self.on_done(self)


cdef void prepare_messages(transaction_t *self) noexcept nogil:
    cdef uint32_t wanted = self.shard_count if self.shard_count > self.proactor_count else self.proactor_count
    cdef uint32_t i
    prepare_replies(self)
    if self.messages == NULL:
        self.messages = <hop_message_t *>net_zalloc(wanted * sizeof(hop_message_t))
    for i in range(wanted):
        self.messages[i].transaction = self
        self.messages[i].target = i
    self.message_count = 0


cdef void select_target(transaction_t *self, uint32_t index, message_run_t run) noexcept nogil:
    """Adds a shard or thread to the coming hop, once: message.run is set from here until the hop runs there."""
    if self.messages[index].message.run == NULL:
        self.messages[index].message.run = run
        self.message_count += 1


cdef void set_hop(transaction_t *self, hop_t hop, hop_target_t target) noexcept nogil:
    self.hop = hop
    self.target = target
    # Walks without keys collect per shard, and point at the builders before the hop runs.
    if self.key_count == 0:
        prepare_replies(self)


cdef int hop_on_keys(transaction_t *self, hop_t hop) noexcept nogil:
    self.hop = hop
    self.target = HOP_KEYS
    return TRANSACTION_HOP


cdef int hop_on_all_shards(transaction_t *self, hop_t hop) noexcept nogil:
    set_hop(self, hop, HOP_ALL)
    return TRANSACTION_HOP


cdef int hop_on_shard(transaction_t *self, uint32_t shard, hop_t hop) noexcept nogil:
    set_hop(self, hop, HOP_ONE)
    self.hop_shard = shard
    return TRANSACTION_HOP


cdef int hop_on_threads(transaction_t *self, thread_hop_t hop) noexcept nogil:
    self.thread_hop = hop
    self.target = HOP_THREADS
    return TRANSACTION_HOP


cdef void select_targets(transaction_t *self) noexcept nogil:
    cdef uint32_t i
    if self.target == HOP_ONE:
        select_target(self, self.hop_shard, run_shard_hop)
    elif self.target == HOP_THREADS:
        for i in range(self.proactor_count):
            select_target(self, i, run_thread_hop)
            migration_hold()
    elif self.target == HOP_ALL:
        for i in range(self.shard_count):
            select_target(self, i, run_shard_hop)
    else:
        for i in range(self.key_count):
            select_target(self, self.key_shards[i], run_shard_hop)


cdef bint hand_out(transaction_t *self) noexcept nogil:
    """Sends the hop's messages; True if all of them have run when it returns."""
    cdef uint32_t i
    cdef uint32_t limit = self.shard_count if self.shard_count > self.proactor_count else self.proactor_count
    cdef hop_message_t *hop
    prepare_messages(self)
    select_targets(self)
    # Own count plus one for us, so that nobody can end the hop before all messages are out.
    atomic_store(&self.pending, <uint64_t>self.message_count + 1)
    for i in range(limit):
        hop = &self.messages[i]
        if hop.message.run == run_shard_hop:
            shard_submit(self.shards[i], &hop.message)
        elif hop.message.run == run_thread_hop:
            if self.proactor_count == 1:
                hop.message.run(&hop.message, self.origin)
            else:
                # To the own thread too: a connection that moves here may be on its way.
                proactor_post(self.proactors[i], &hop.message)
    return atomic_sub(&self.pending, 1) == 0


cdef void remember_keys(transaction_t *self) noexcept nogil:
    """CLIENT TRACKING: it has read them, and still holds their tokens."""
    cdef uint32_t i
    if not self.spec.flags & COMMAND_READONLY:
        return
    for i in range(self.key_count):
        tracking_remember(self.shards[self.key_shards[i]], &self.keys[i], self.caller.tracker)


cdef bint transaction_run(transaction_t *self) noexcept nogil:
    if run_steps(self):
        if unlikely(self.caller.tracker != NULL) and holds_tokens(self):
            remember_keys(self)
        finish_tokens(self)
        return True
    leave_batch(self)
    return False


cdef bint run_steps(transaction_t *self) noexcept nogil:
    cdef int result
    if not self.is_inside and not self.is_released and not take_tokens(self):
        return False
    while True:
        result = self.step(self)
        if result == TRANSACTION_DONE:
            return True
        if result == TRANSACTION_WAIT:
            return False
        if result == TRANSACTION_YIELD:
            if holds_tokens(self):
                continue
            self.done_message.run = resume_on_origin
            proactor_post(self.origin, &self.done_message)
            return False
        if self.target != HOP_THREADS and holds_tokens(self):
            run_hop(self)
        elif not hand_out(self):
            return False


cdef void transaction_complete(transaction_t *self) noexcept nogil:
    self.done_message.run = finish_on_origin
    proactor_post(self.origin, &self.done_message)


cdef void finish_on_origin(message_t *message, void *context) noexcept nogil:
    cdef transaction_t *self = <transaction_t *>message
    self.on_done(self)
