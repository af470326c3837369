"""Commands that wait for a key (BLPOP and its kin), from the side of who makes the key ready.

A waiter has a listener on each of its keys, in the tables `blocked` of their shards. A change of such a key
at the door puts it into its shard's queue of ready keys; when the command or EXEC that changed it has
ended, and before the token goes back, serve_waiters looks at these keys in order and serves who waits, in
order of arrival: nobody can take an element in between, exactly as in Redis.

A waiter is served in place by the thread that holds the token, whoever that is. It claims the waiter
first (state, compare-and-swap), so timeout, disconnect and shards compete fairly; then the waiter's `serve`
takes the elements and writes the reply, and a message brings it home. One whose peer has hung up is
passed over. Of several keys the first in the command's order that is ready serves, among those whose
tokens are held.

A waiter that needs one more shard (BLMOVE) gets its token by trying; if that fails, its command is
tried again by its own thread (WAITER_WOKEN), with all tokens; it keeps its place, and who came later
waits for it.

Ownership: waiter_t belongs to its transaction and to its entries in the tables, by `references`. Before
the claim only the waiter itself may be touched, after it also its transaction.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport transaction_done_t, transaction_step_t, transaction_t
from dfly._core.engine.listeners cimport listener_t
from dfly._core.engine.shard cimport shard_t
from dfly._core.loop.mailbox cimport message_run_t, message_t
from dfly._core.loop.timer cimport timer_t
from dfly._core.store.object cimport object_t

cdef enum waiter_state_t:
    WAITER_WAITING = 0
    WAITER_CLAIMED = 1           # somebody serves it: its message is on the way
    WAITER_WOKEN = 2             # its thread is to try again: its message is on the way
    WAITER_ENDED = 3             # by its own thread

cdef enum:
    NO_SHARD = 0xFFFFFFFF

# Can this value, of the waiter's key at that position, serve it? NULL: there is no such key (sees_absent).
# wanted: the waiter's.
ctypedef bint (*waiter_accepts_t)(const object_t *value, const void *wanted, uint32_t position) noexcept nogil
# Executes the command on tx.keys[position] and replies, under the tokens it needs; the books of that
# key's shard are open unless the waiter has an other_shard.
ctypedef void (*waiter_serve_t)(transaction_t *tx, uint32_t position) noexcept nogil
ctypedef void (*waiter_reply_t)(transaction_t *tx) noexcept nogil

cdef struct waiting_rules_t:
    # What a blocking command brings along; static.
    waiter_accepts_t accepts
    waiter_serve_t serve
    waiter_reply_t reply_nothing     # the reply of a timeout
    transaction_step_t undo          # puts back what a closed connection was served; NULL: not needed
    bint sees_absent                 # it may be served because its key has gone
    bint keeps_state                 # tx.state becomes waiter.wanted when the wait begins

cdef struct waiting_key_t:
    message_t message            # to its shard, to be taken off the table
    listener_t listener          # listener.key NULL: it is off
    waiter_t *waiter
    uint32_t shard

cdef struct waiter_t:
    message_t message            # to its own thread
    uint64_t state
    uint64_t references
    transaction_t *tx
    const waiting_rules_t *rules
    message_run_t on_served
    message_run_t on_woken
    int fd                       # of the peer
    uint32_t database_index
    uint32_t other_shard         # NO_SHARD, or needed besides that of the key
    uint32_t key_count
    waiting_key_t *keys          # in the same block
    void *wanted                 # what `accepts` needs to know; net_alloc, freed with the waiter
    timer_t timer
    timer_t try_timer            # engine/blocking: it tries again without being woken
    int64_t deadline_us          # 0: none
    int64_t now_ms               # when its wait ended
    uint64_t active_ticks        # spent before it began to wait
    transaction_done_t on_done   # of the transaction
    bint was_woken
    int unblock                  # CLIENT UNBLOCK came while it was woken: UNBLOCK_* of engine/blocking

# Serves the ready keys of the given shards, whose tokens the caller holds with their books closed.
cdef void serve_waiters(shard_t **shards, const uint32_t *indexes, uint32_t count,
                        int64_t now_ms) noexcept nogil
# The same for one shard with its books open.
cdef void serve_shard_waiters(shard_t *shard, int64_t now_ms) noexcept nogil
cdef bint waiter_claim(waiter_t *self, waiter_state_t state) noexcept nogil   # from WAITING; False: too late
cdef void waiter_release(waiter_t *self) noexcept nogil
# Takes an entry off its shard's table, under the token.
cdef void waiter_forget(waiting_key_t *entry, shard_t *shard) noexcept nogil
