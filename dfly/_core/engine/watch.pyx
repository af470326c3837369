"""Implementation of WATCH: see watch.pxd for who owns what."""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.engine.database cimport find_peek
from dfly._core.engine.listeners cimport (listened_key_of, listened_key_t, listener_add, listener_remove,
                                          listener_t, listeners_of)
from dfly._core.engine.shard cimport (scope_t, shard_close_books, shard_database, shard_open_books,
                                      shard_submit, shard_t)
from dfly._core.engine.transaction cimport transaction_lock_shard
from dfly._core.loop.mailbox cimport message_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_load, atomic_sub

__abi__ = DFLY_ABI_STAMP


cdef bint is_watched(watcher_t *watcher, const scope_t *scope, const key_t *key) noexcept nogil:
    cdef listened_key_t *found = listeners_of(&scope.shard.watched, scope.database.index, key)
    cdef listener_t *listener = found.first if found != NULL else NULL
    while listener != NULL:
        if listener.owner == watcher:
            return True
        listener = listener.next
    return False


cdef void watch_key(connection_t *connection, scope_t *scope, const key_t *key) noexcept nogil:
    cdef watcher_t *watcher = <watcher_t *>connection.watcher
    cdef watched_key_t *entry
    cdef dash_ref_t ref
    if watcher == NULL:
        watcher = <watcher_t *>net_zalloc(sizeof(watcher_t))
        watcher.references = 1
        connection.watcher = watcher
    if is_watched(watcher, scope, key):
        return
    # What is due goes now: later it would look like a change.
    find_peek(scope, key, &ref)
    entry = <watched_key_t *>net_zalloc(sizeof(watched_key_t))
    entry.watcher = watcher
    entry.shard = scope.shard.index
    entry.next = watcher.keys
    watcher.keys = entry
    atomic_add(&watcher.references, 1)
    entry.listener.owner = watcher
    entry.listener.signal = &watcher.is_dirty
    listener_add(&scope.shard.watched, scope.database.index, key, &entry.listener)


cdef inline void watcher_release(watcher_t *self) noexcept nogil:
    if atomic_sub(&self.references, 1) == 0:
        net_free(self)


cdef void forget(message_t *message, void *context) noexcept nogil:
    """Under the token of the entry's shard."""
    cdef watched_key_t *entry = <watched_key_t *>message
    listener_remove(&(<shard_t *>context).watched, &entry.listener)
    watcher_release(entry.watcher)
    net_free(entry)


cdef void unwatch_all(connection_t *connection, shard_t **shards) noexcept nogil:
    cdef watcher_t *watcher = <watcher_t *>connection.watcher
    cdef watched_key_t *entry
    cdef watched_key_t *following
    if watcher == NULL:
        return
    connection.watcher = NULL
    entry = watcher.keys
    while entry != NULL:
        # Once it is submitted, the entry is its shard's.
        following = entry.next
        entry.message.run = forget
        shard_submit(shards[entry.shard], &entry.message)
        entry = following
    watcher_release(watcher)


cdef bint watch_failed(connection_t *connection, shard_t **shards, int64_t now_ms) noexcept nogil:
    cdef watcher_t *watcher = <watcher_t *>connection.watcher
    cdef watched_key_t *entry
    cdef dash_ref_t ref
    cdef scope_t scope
    cdef key_t key
    if watcher == NULL:
        return False
    entry = watcher.keys
    while entry != NULL and atomic_load(&watcher.is_dirty) == 0:
        scope.shard = shards[entry.shard]
        shard_open_books(scope.shard)
        scope.database = shard_database(scope.shard, entry.listener.key.database)
        scope.now_ms = now_ms
        scope.client_id = 0
        scope.keep_access = True
        listened_key_of(entry.listener.key, &key)
        find_peek(&scope, &key, &ref)
        shard_close_books(scope.shard)
        entry = entry.next
    return atomic_load(&watcher.is_dirty) != 0


cdef void watch_shards(connection_t *connection, transaction_t *tx) noexcept nogil:
    cdef watcher_t *watcher = <watcher_t *>connection.watcher
    cdef watched_key_t *entry = watcher.keys if watcher != NULL else NULL
    while entry != NULL:
        transaction_lock_shard(tx, entry.shard)
        entry = entry.next


cdef uint32_t watched_count(connection_t *connection) noexcept nogil:
    cdef watcher_t *watcher = <watcher_t *>connection.watcher
    cdef watched_key_t *entry
    cdef uint32_t count = 0
    if watcher != NULL:
        entry = watcher.keys
        while entry != NULL:
            count += 1
            entry = entry.next
    return count
