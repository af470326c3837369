"""Who listens to a key: a hash table from (database, key) to a list of listeners, in order of arrival.

A shard has one for each kind of interest (WATCH, blocking commands). Keys need not exist. All of it runs
under the shard's token. For those who wait, the table also has a queue of keys that may have become ready.

Ownership: the table owns its key nodes; a listener_t is embedded in the struct of who listens, lives
on the heap, and is linked from listener_add to listener_remove.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.object cimport key_t

cdef struct listener_t:
    listened_key_t *key          # NULL: not linked
    listener_t *previous
    listener_t *next             # in order of arrival
    uint64_t *signal             # listeners_signal sets it to 1; may be NULL
    void *owner                  # who listens

cdef struct listened_key_t:
    listened_key_t *next         # in its chain
    listened_key_t *next_ready
    uint64_t hash
    uint32_t database
    uint32_t size
    listener_t *first
    listener_t *last
    char *name                   # in the same block
    bint is_ready                # queued, or being looked at: it stays even without listeners

cdef struct listener_table_t:
    listened_key_t **chains
    uint32_t chain_count         # a power of two, or 0
    uint32_t count               # keys somebody listens to
    listened_key_t *ready_first
    listened_key_t *ready_last

ctypedef void (*listened_key_visit_t)(listened_key_t *key, void *context) noexcept nogil

cdef void listener_add(listener_table_t *self, uint32_t database, const key_t *key,
                       listener_t *listener) noexcept nogil
cdef void listener_remove(listener_table_t *self, listener_t *listener) noexcept nogil
# NULL: nobody listens.
cdef listened_key_t *listeners_of(listener_table_t *self, uint32_t database, const key_t *key) noexcept nogil
cdef void listeners_signal(listened_key_t *key) noexcept nogil
# The queue of ready keys: a key is in it at most once, from listeners_mark_ready to listeners_done_ready.
cdef void listeners_mark_ready(listener_table_t *self, listened_key_t *key) noexcept nogil
cdef listened_key_t *listeners_take_ready(listener_table_t *self) noexcept nogil     # NULL: none
cdef void listeners_done_ready(listener_table_t *self, listened_key_t *key) noexcept nogil
# Every key of one database; the visitor may not add or remove.
cdef void listeners_visit(listener_table_t *self, uint32_t database, listened_key_visit_t visit,
                          void *context) noexcept nogil
# As a key_t, valid while somebody listens.
cdef void listened_key_of(const listened_key_t *self, key_t *out) noexcept nogil
cdef void listeners_deinit(listener_table_t *self) noexcept nogil
