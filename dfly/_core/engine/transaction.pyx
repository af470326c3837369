"""Continuations over shards: see transaction.pxd for how commands use them.

Invariants: `pending` counts the hop messages that have not run, plus one while the origin hands
them out; whoever brings it to zero ends the hop: the origin itself (then the next step follows at
once) or another thread (then done_message goes to the origin's mailbox). Steps run on the origin's
thread only. Everything another thread reaches lies on the heap.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.engine.command cimport (TRANSACTION_WAIT, TRANSACTION_YIELD, call_t, command_key_positions,
                                        hop_message_t, key_result_t)
from dfly._core.engine.shard cimport scope_t, shard_database, shard_of, shard_submit, shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.net.connection cimport CONNECTION_NO_TOUCH
from dfly._core.resp.reply cimport reply_deinit, reply_init
from dfly._core.store.object cimport key_init, key_t, object_free
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_sub, atomic_store, cycle_ticks, slice_t

__abi__ = DFLY_ABI_STAMP


cdef void copy_arguments(transaction_t *self, call_t *call) noexcept nogil:
    cdef size_t total = 0
    cdef uint32_t i
    cdef char *bytes_
    for i in range(call.argc):
        total += call.argv[i].size
    self.argc = call.argc
    self.argv = <slice_t *>net_alloc(call.argc * sizeof(slice_t) + total)
    bytes_ = <char *>(self.argv + call.argc)
    for i in range(call.argc):
        memcpy(bytes_, call.argv[i].data, call.argv[i].size)
        self.argv[i].data = bytes_
        self.argv[i].size = call.argv[i].size
        bytes_ += call.argv[i].size


cdef void find_keys(transaction_t *self) noexcept nogil:
    cdef int count
    cdef int i
    cdef uint32_t position
    if self.spec.first_key == 0 and self.spec.get_keys == NULL:
        return
    self.key_positions = <uint32_t *>net_alloc(self.argc * sizeof(uint32_t))
    count = command_key_positions(self.spec, self.argv, self.argc, self.key_positions)
    if count <= 0:
        return
    self.key_count = <uint32_t>count
    self.keys = <key_t *>net_alloc(count * sizeof(key_t))
    self.key_shards = <uint32_t *>net_alloc(count * sizeof(uint32_t))
    self.results = <key_result_t *>net_zalloc(count * sizeof(key_result_t))
    for i in range(count):
        position = self.key_positions[i]
        key_init(&self.keys[i], self.argv[position].data, self.argv[position].size)
        self.key_shards[i] = shard_of(self.keys[i].hash, self.shard_count)


cdef transaction_t *transaction_new(call_t *call, proactor_t *origin, shard_t **shards, uint32_t shard_count,
                                    proactor_t **proactors, uint32_t proactor_count) noexcept nogil:
    cdef transaction_t *self = <transaction_t *>net_zalloc(sizeof(transaction_t))
    self.origin = origin
    self.connection = call.connection
    self.spec = call.spec
    self.step = call.spec.step
    self.shards = shards
    self.shard_count = shard_count
    self.proactors = proactors
    self.proactor_count = proactor_count
    self.database_index = call.connection.database_index
    self.keep_access = (call.connection.flags & CONNECTION_NO_TOUCH) != 0
    self.now_ms = origin.now_ms
    self.started_ticks = cycle_ticks()
    reply_init(&self.reply, call.connection.resp)
    copy_arguments(self, call)
    find_keys(self)
    return self


cdef void transaction_free(transaction_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.key_count):
        if self.results[i].has_value:
            object_free(&self.results[i].value)
    if self.shard_replies != NULL:
        for i in range(self.shard_count):
            reply_deinit(&self.shard_replies[i])
        net_free(self.shard_replies)
    reply_deinit(&self.reply)
    net_free(self.state)
    net_free(self.messages)
    net_free(self.results)
    net_free(self.key_shards)
    net_free(self.keys)
    net_free(self.key_positions)
    net_free(self.argv)
    net_free(self)


cdef void transaction_scope(transaction_t *self, shard_t *shard, scope_t *out) noexcept nogil:
    out.shard = shard
    out.database = shard_database(shard, self.database_index)
    out.now_ms = self.now_ms
    out.keep_access = self.keep_access


cdef reply_t *transaction_shard_reply(transaction_t *self, shard_t *shard) noexcept nogil:
    # The array exists before the hop (see prepare_messages), so shards only touch their own builder.
    return &self.shard_replies[shard.index]


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
    finish_one(hop.transaction)


cdef void resume_on_origin(message_t *message, void *context) noexcept nogil:
    """The hop has ended on another thread: next step, here on the connection's thread."""
    cdef transaction_t *self = <transaction_t *>message
    if transaction_run(self):
        self.on_done(self)


cdef void prepare_messages(transaction_t *self) noexcept nogil:
    cdef uint32_t wanted = self.shard_count if self.shard_count > self.proactor_count else self.proactor_count
    cdef uint32_t i
    if self.messages == NULL:
        self.messages = <hop_message_t *>net_zalloc(wanted * sizeof(hop_message_t))
        self.shard_replies = <reply_t *>net_zalloc(self.shard_count * sizeof(reply_t))
        for i in range(self.shard_count):
            reply_init(&self.shard_replies[i], self.reply.resp)
    for i in range(wanted):
        self.messages[i].transaction = self
        self.messages[i].target = i
    self.message_count = 0


cdef void select_shard(transaction_t *self, uint32_t shard) noexcept nogil:
    """Adds a shard to the coming hop, once: message.run is set from here until the hop runs there."""
    if self.messages[shard].message.run == NULL:
        self.messages[shard].message.run = run_shard_hop
        self.message_count += 1


cdef int hop_on_keys(transaction_t *self, hop_t hop) noexcept nogil:
    cdef uint32_t i
    prepare_messages(self)
    self.hop = hop
    for i in range(self.key_count):
        select_shard(self, self.key_shards[i])
    return TRANSACTION_HOP


cdef int hop_on_all_shards(transaction_t *self, hop_t hop) noexcept nogil:
    cdef uint32_t i
    prepare_messages(self)
    self.hop = hop
    for i in range(self.shard_count):
        select_shard(self, i)
    return TRANSACTION_HOP


cdef int hop_on_shard(transaction_t *self, uint32_t shard, hop_t hop) noexcept nogil:
    prepare_messages(self)
    self.hop = hop
    select_shard(self, shard)
    return TRANSACTION_HOP


cdef int hop_on_threads(transaction_t *self, thread_hop_t hop) noexcept nogil:
    cdef uint32_t i
    prepare_messages(self)
    self.thread_hop = hop
    for i in range(self.proactor_count):
        self.messages[i].message.run = run_thread_hop
    self.message_count = self.proactor_count
    return TRANSACTION_HOP


cdef bint hand_out(transaction_t *self) noexcept nogil:
    """Sends the hop's messages; True if all of them have run when it returns."""
    cdef uint32_t i
    cdef uint32_t limit = self.shard_count if self.shard_count > self.proactor_count else self.proactor_count
    cdef hop_message_t *hop
    # Own count plus one for us, so that nobody can end the hop before all messages are out.
    atomic_store(&self.pending, <uint64_t>self.message_count + 1)
    for i in range(limit):
        hop = &self.messages[i]
        if hop.message.run == run_shard_hop:
            shard_submit(self.shards[i], &hop.message)
        elif hop.message.run == run_thread_hop:
            if self.proactors[i] == self.origin:
                hop.message.run(&hop.message, self.origin)
            else:
                proactor_post(self.proactors[i], &hop.message)
    return atomic_sub(&self.pending, 1) == 0


cdef bint transaction_run(transaction_t *self) noexcept nogil:
    cdef int result
    while True:
        result = self.step(self)
        if result == TRANSACTION_DONE:
            return True
        if result == TRANSACTION_WAIT:
            return False
        if result == TRANSACTION_YIELD:
            self.done_message.run = resume_on_origin
            proactor_post(self.origin, &self.done_message)
            return False
        if not hand_out(self):
            return False


cdef void transaction_complete(transaction_t *self) noexcept nogil:
    self.done_message.run = finish_on_origin
    proactor_post(self.origin, &self.done_message)


cdef void finish_on_origin(message_t *message, void *context) noexcept nogil:
    cdef transaction_t *self = <transaction_t *>message
    self.on_done(self)
