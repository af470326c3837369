"""Multi-key and multi-shard commands as continuations: no fiber, no blocking.

A transaction is a heap struct that owns copies of its arguments. Its `step` function runs on the
connection's thread: first with stage 0, then again each time the hop it asked for has run on all
its shards. A step either asks for a hop (hop_on_keys, hop_on_all_shards, hop_on_shard,
hop_on_threads: `return hop_...(...)`) or writes the reply into transaction.reply and returns
TRANSACTION_DONE. A hop callback runs under the shard's token, on whichever thread holds it, for
each shard concerned (possibly at the same time for different shards), and may only touch its shard and
the parts of the transaction that belong to its own keys.

Today shards are visited one by one without intent locks; the transaction engine (VLL) will put
scheduling behind the same functions.

    cdef int step_exists(transaction_t *tx) noexcept nogil:
        if tx.stage == 0:
            tx.stage = 1
            return hop_on_keys(tx, exists_hop)
        ...sum tx.results[i].number...; reply_int(&tx.reply, sum); return TRANSACTION_DONE

    cdef void exists_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
        cdef scope_t scope
        transaction_scope(tx, shard, &scope)
        for i in range(tx.key_count):
            if tx.key_shards[i] == shard.index: ...tx.keys[i]...
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport call_t, command_spec_t, transaction_step_t
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.sys.base cimport slice_t

cdef enum transaction_result_t:
    TRANSACTION_DONE = 0
    TRANSACTION_HOP = 1

ctypedef void (*hop_t)(transaction_t *transaction, shard_t *shard) noexcept nogil
ctypedef void (*thread_hop_t)(transaction_t *transaction, proactor_t *proactor) noexcept nogil
ctypedef void (*transaction_done_t)(transaction_t *transaction) noexcept nogil

cdef struct key_result_t:
    # One per key, written by the hop of that key's shard.
    int64_t number
    object_t value               # a copy owned by the transaction (freed with it), if has_value
    bint has_value
    bint flag

cdef struct hop_message_t:
    message_t message
    transaction_t *transaction
    uint32_t target              # shard or thread index

cdef struct transaction_t:
    message_t done_message       # to the origin's mailbox
    uint64_t pending             # hops still out, plus one while the origin hands them out
    proactor_t *origin
    connection_t *connection
    command_spec_t *spec
    slice_t *argv                # copies, owned
    uint32_t argc
    key_t *keys                  # by command_key_positions
    uint32_t *key_shards
    uint32_t *key_positions      # in argv
    uint32_t key_count
    key_result_t *results        # one per key
    uint32_t database_index
    int64_t now_ms
    bint keep_access
    int stage
    transaction_step_t step
    hop_t hop
    thread_hop_t thread_hop
    hop_message_t *messages      # one per shard or thread
    uint32_t message_count
    shard_t **shards
    uint32_t shard_count
    proactor_t **proactors
    uint32_t proactor_count
    reply_t reply
    reply_t *shard_replies       # one builder per shard, created by transaction_shard_reply
    void *state                  # the command's own, net_alloc: freed with the transaction
    int64_t numbers[8]           # small state of a command
    uint64_t started_ticks
    transaction_done_t on_done   # set by the dispatcher
    transaction_t *next

cdef transaction_t *transaction_new(call_t *call, proactor_t *origin, shard_t **shards, uint32_t shard_count,
                                    proactor_t **proactors, uint32_t proactor_count) noexcept nogil
cdef void transaction_free(transaction_t *self) noexcept nogil
# Runs steps until the transaction is done (True) or waits for another thread (False: on_done is
# called later on the origin's thread).
cdef bint transaction_run(transaction_t *self) noexcept nogil

cdef int hop_on_keys(transaction_t *self, hop_t hop) noexcept nogil               # the shards of its keys
cdef int hop_on_all_shards(transaction_t *self, hop_t hop) noexcept nogil
cdef int hop_on_shard(transaction_t *self, uint32_t shard, hop_t hop) noexcept nogil
cdef int hop_on_threads(transaction_t *self, thread_hop_t hop) noexcept nogil     # each proactor's own thread
cdef void transaction_scope(transaction_t *self, shard_t *shard, scope_t *out) noexcept nogil
cdef reply_t *transaction_shard_reply(transaction_t *self, shard_t *shard) noexcept nogil
# A pending transaction that something else completes (the control plane): posts it to its origin.
cdef void transaction_complete(transaction_t *self) noexcept nogil
