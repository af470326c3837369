"""Multi-key and multi-shard commands as continuations: no fiber, no blocking.

A transaction is a heap struct that owns copies of its arguments. Its `step` function runs on the
connection's thread: first with stage 0, then again each time the hop it asked for has run on all
its shards. A step either asks for a hop (hop_on_keys, hop_on_all_shards, hop_on_shard,
hop_on_threads: `return hop_...(...)`) or writes the reply into transaction.reply and returns
TRANSACTION_DONE. Long work returns TRANSACTION_YIELD between slices. A hop callback runs under the
shard's token, for each shard concerned; by message it may run on any thread, at the same time for
different shards, and may only touch its shard and the parts of the transaction that belong to its
own keys.

Atomicity. A transaction with keys (or COMMAND_GLOBAL) takes the tokens of all shards concerned before
its first step, in ascending order (engine/shard.pxd), and gives them back after its last one: all
its hops run in place on the origin's thread. Without keys (KEYS, SCAN, DBSIZE, CLIENT LIST) it visits
shards one by one by message. A design with intents per key and hops by message is not needed:
nothing that holds tokens ever waits for the network, a file or another thread's tick.

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

from libc.stdint cimport uint32_t

from dfly._core.engine.command cimport (TRANSACTION_DONE, TRANSACTION_HOP, TRANSACTION_YIELD, call_t, hop_t,
                                        key_result_t, thread_hop_t, transaction_t)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.resp.reply cimport reply_t

# outer: the EXEC it is part of, or NULL. Arguments are borrowed from the call until the transaction waits.
cdef transaction_t *transaction_new(call_t *call, transaction_t *outer, proactor_t *origin, shard_t **shards,
                                    uint32_t shard_count, proactor_t **proactors,
                                    uint32_t proactor_count) noexcept nogil
cdef void transaction_free(transaction_t *self) noexcept nogil
# Runs steps until the transaction is done (True) or waits for another thread (False: on_done is
# called later on the origin's thread).
cdef bint transaction_run(transaction_t *self) noexcept nogil
# After TRANSACTION_WAIT, on its origin.
cdef void transaction_resume(transaction_t *self) noexcept nogil
# Makes it atomic over more shards; before its first step only.
cdef void transaction_lock_shard(transaction_t *self, uint32_t shard) noexcept nogil
cdef void transaction_lock_all(transaction_t *self) noexcept nogil
# Copies its arguments, which else are its batch's: before anything but a step of its own reads them later.
cdef void transaction_own_arguments(transaction_t *self) noexcept nogil
# Back to its first step, with no tokens: to be resumed. Its arguments are its own.
cdef void transaction_restart(transaction_t *self) noexcept nogil
# Gives the tokens away and takes them again in a later tick; the step returns its result. What it saw may have changed.
cdef int transaction_interrupt(transaction_t *self) noexcept nogil
# Gives the tokens back before the end: what follows is no longer atomic with what was.
cdef void transaction_release(transaction_t *self) noexcept nogil

cdef int hop_on_keys(transaction_t *self, hop_t hop) noexcept nogil               # the shards of its keys
cdef int hop_on_all_shards(transaction_t *self, hop_t hop) noexcept nogil
cdef int hop_on_shard(transaction_t *self, uint32_t shard, hop_t hop) noexcept nogil
cdef int hop_on_threads(transaction_t *self, thread_hop_t hop) noexcept nogil     # each proactor's own thread
cdef void transaction_scope(transaction_t *self, shard_t *shard, scope_t *out) noexcept nogil
cdef reply_t *transaction_shard_reply(transaction_t *self, shard_t *shard) noexcept nogil
# A pending transaction that something else completes (the control plane): posts it to its origin.
cdef void transaction_complete(transaction_t *self) noexcept nogil
