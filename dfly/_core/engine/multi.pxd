"""MULTI: the queue of a connection's commands, and EXEC, one transaction over all of their keys.

EXEC takes the tokens of every shard that its commands or the connection's watched keys touch, in
ascending order, looks at the watch, and runs the commands one after the other in place: atomic over any
number of shards, without a hop by message. A command over all shards in the queue (KEYS, FLUSHALL)
makes it take all tokens.

Errors as in Redis (redis.io/docs/latest/develop/interact/transactions): one while queueing aborts the EXEC,
one while executing is that command's reply and the others run.

Ownership: the queue belongs to the connection from MULTI to EXEC, then to EXEC's transaction.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.command cimport call_t, transaction_t
from dfly._core.net.connection cimport connection_t

cdef struct multi_t:
    call_t *calls                # each with argv and its bytes in a block of its own
    uint32_t count
    uint32_t capacity
    uint64_t flags               # of all commands, together
    size_t bytes
    bint is_aborted              # a command could not be queued

cdef void multi_begin(connection_t *connection) noexcept nogil
cdef void multi_queue(connection_t *connection, call_t *call) noexcept nogil       # copies the call
cdef void multi_abort(connection_t *connection) noexcept nogil                     # an error while queueing
cdef void multi_discard(connection_t *connection) noexcept nogil                   # forgets the queue, if any
cdef void exec_prepare(transaction_t *tx) noexcept nogil                           # which shards EXEC needs
cdef int exec_step(transaction_t *tx) noexcept nogil
