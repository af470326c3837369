"""Commands that wait, from the side of their connection: begin, timeout, disconnect, CLIENT UNBLOCK, end.

A blocking command is a transaction whose step first tries. If there is nothing to take, it returns
`blocking_wait(...)`: while the transaction still holds its tokens the waiter (engine/waiter.pxd) goes
into the tables of its keys, then the tokens go back. Inside an EXEC nobody waits: the reply is that of a
timeout. All of this runs on the connection's thread.

How a wait ends: it was served (the reply is there); it was woken to try again; its time is over; its
connection is closed; CLIENT UNBLOCK. If its connection is gone by the time the news of being served
arrives, what it was served is put back where it came from (rules.undo): no element is lost.
Redis: redis.io/docs/latest/commands/blpop.
"""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.waiter cimport waiting_rules_t
from dfly._core.net.connection cimport connection_t

# Waits for the first key_count keys of the transaction (0: for nothing but the timeout).
# other_shard: needed besides that of the key, or NO_SHARD. timeout_ms 0: for ever.
cdef int blocking_wait(transaction_t *tx, uint32_t key_count, uint32_t other_shard, int64_t timeout_ms,
                       const waiting_rules_t *rules) noexcept nogil
# Right after a wait has begun: at that time (wall clock) its own thread runs the step again, with all tokens, even if
# no key has changed. What waits next tells so anew.
cdef void blocking_try_at(transaction_t *tx, int64_t at_ms) noexcept nogil
# Its connection has gone while it waited, for a key or for tokens: it must not take anything.
cdef bint blocking_is_over(const transaction_t *tx) noexcept nogil
cdef void blocking_on_close(connection_t *connection) noexcept nogil
# CLIENT UNBLOCK; False: it does not wait.
cdef bint blocking_unblock(connection_t *connection, bint with_error) noexcept nogil
