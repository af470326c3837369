"""Implementation of listener tables: chained hashing, see listeners.pxd.

The chains double when there are more keys than chains and are given back when the last key goes:
a server without WATCH and without blocked clients holds no memory for them.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dfly._core.store.object cimport key_init, key_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_DCHECK, atomic_store, dfly_on_thread_stack

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CHAINS_MIN = 64


cdef inline listened_key_t **chain_of(listener_table_t *self, uint64_t hash) noexcept nogil:
    return &self.chains[(hash >> 8) & (self.chain_count - 1)]


cdef void grow(listener_table_t *self) noexcept nogil:
    cdef uint32_t old_count = self.chain_count
    cdef listened_key_t **old = self.chains
    cdef listened_key_t *key
    cdef listened_key_t *following
    cdef listened_key_t **chain
    cdef uint32_t i
    self.chain_count = max(<uint32_t>CHAINS_MIN, 2 * old_count)
    self.chains = <listened_key_t **>net_zalloc(self.chain_count * sizeof(listened_key_t *))
    for i in range(old_count):
        key = old[i]
        while key != NULL:
            following = key.next
            chain = chain_of(self, key.hash)
            key.next = chain[0]
            chain[0] = key
            key = following
    net_free(old)


cdef listened_key_t *listeners_of(listener_table_t *self, uint32_t database, const key_t *key) noexcept nogil:
    cdef listened_key_t *found
    if self.count == 0:
        return NULL
    found = chain_of(self, key.hash)[0]
    while found != NULL:
        if (found.hash == key.hash and found.database == database and found.size == key.size
                and memcmp(found.name, key.data, key.size) == 0):
            return found
        found = found.next
    return NULL


cdef void listener_add(listener_table_t *self, uint32_t database, const key_t *key,
                       listener_t *listener) noexcept nogil:
    cdef listened_key_t *found = listeners_of(self, database, key)
    cdef listened_key_t **chain
    DFLY_DCHECK(not dfly_on_thread_stack(listener), "a listener must not lie on a stack")
    if found == NULL:
        if self.count >= self.chain_count:
            grow(self)
        found = <listened_key_t *>net_zalloc(sizeof(listened_key_t) + key.size)
        found.name = <char *>(found + 1)
        memcpy(found.name, key.data, key.size)
        found.size = key.size
        found.hash = key.hash
        found.database = database
        chain = chain_of(self, key.hash)
        found.next = chain[0]
        chain[0] = found
        self.count += 1
    listener.key = found
    listener.next = NULL
    listener.previous = found.last
    if found.last != NULL:
        found.last.next = listener
    else:
        found.first = listener
    found.last = listener


cdef void forget_key(listener_table_t *self, listened_key_t *key) noexcept nogil:
    cdef listened_key_t **link = chain_of(self, key.hash)
    while link[0] != key:
        link = &link[0].next
    link[0] = key.next
    net_free(key)
    self.count -= 1
    if self.count == 0:
        listeners_deinit(self)


cdef void listener_remove(listener_table_t *self, listener_t *listener) noexcept nogil:
    cdef listened_key_t *key = listener.key
    if key == NULL:
        return
    if listener.previous != NULL:
        listener.previous.next = listener.next
    else:
        key.first = listener.next
    if listener.next != NULL:
        listener.next.previous = listener.previous
    else:
        key.last = listener.previous
    listener.key = NULL
    if key.first == NULL and not key.is_ready:
        forget_key(self, key)


cdef void listeners_signal(listened_key_t *key) noexcept nogil:
    cdef listener_t *listener = key.first
    while listener != NULL:
        atomic_store(listener.signal, 1)
        listener = listener.next


cdef void listeners_mark_ready(listener_table_t *self, listened_key_t *key) noexcept nogil:
    if key.is_ready:
        return
    key.is_ready = True
    key.next_ready = NULL
    if self.ready_last != NULL:
        self.ready_last.next_ready = key
    else:
        self.ready_first = key
    self.ready_last = key


cdef listened_key_t *listeners_take_ready(listener_table_t *self) noexcept nogil:
    cdef listened_key_t *key = self.ready_first
    if key != NULL:
        self.ready_first = key.next_ready
        if self.ready_first == NULL:
            self.ready_last = NULL
    return key


cdef void listeners_done_ready(listener_table_t *self, listened_key_t *key) noexcept nogil:
    key.is_ready = False
    if key.first == NULL:
        forget_key(self, key)


cdef void listeners_visit(listener_table_t *self, uint32_t database, listened_key_visit_t visit,
                          void *context) noexcept nogil:
    cdef listened_key_t *key
    cdef uint32_t i
    for i in range(self.chain_count):
        key = self.chains[i]
        while key != NULL:
            if key.database == database:
                visit(key, context)
            key = key.next


cdef void listened_key_of(const listened_key_t *self, key_t *out) noexcept nogil:
    key_init(out, self.name, self.size)


cdef void listeners_deinit(listener_table_t *self) noexcept nogil:
    net_free(self.chains)
    self.chains = NULL
    self.chain_count = 0
