"""WATCH: which connections want to know whether a key changed before their EXEC.

A watcher belongs to a connection and counts references: its own and one for each watched key. The keys'
entries lie in their shards' listener tables; a change under the token sets `is_dirty`. EXEC looks at it
while it holds the tokens of all shards concerned, so the answer cannot change under it.
Redis: redis.io/docs/latest/develop/interact/transactions, WATCH.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.listeners cimport listener_t
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.net.connection cimport connection_t
from dfly._core.store.object cimport key_t

cdef struct watched_key_t:
    message_t message            # to its shard, to be taken off the table
    listener_t listener
    watcher_t *watcher
    watched_key_t *next          # of the same watcher
    uint32_t shard

cdef struct watcher_t:
    uint64_t is_dirty
    uint64_t references
    watched_key_t *keys

# Under the token.
cdef void watch_key(connection_t *connection, scope_t *scope, const key_t *key) noexcept nogil
# On the connection's thread.
cdef void unwatch_all(connection_t *connection, shard_t **shards) noexcept nogil
# Expires what is due among the watched keys, then: has one changed? Under the tokens of their shards.
cdef bint watch_failed(connection_t *connection, shard_t **shards, int64_t now_ms) noexcept nogil
# EXEC takes the tokens of the watched keys too.
cdef void watch_shards(connection_t *connection, transaction_t *tx) noexcept nogil
cdef uint32_t watched_count(connection_t *connection) noexcept nogil
