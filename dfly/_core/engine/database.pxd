"""The door: the only way to find and change keys. Everything here runs under the shard's token.

Reading: find_read (counts hits and misses, refreshes the access word, expires lazily).
Changing an existing key:   find_write -> update_begin -> change ref.entry.value -> update_end
Adding a key:               insert_key -> set ref.entry.value -> update_end
Removing:                   delete_key
TTL:                        set_deadline between update_begin and update_end
A dash_ref_t is valid until the next insert_key or delete_key in the same database, or find_* of another key (it
may expire that key).

event_class and event are those of Redis' keyspace notifications (NOTIFY_STRING, "set").
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.shard cimport database_t, scope_t, shard_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t, object_t

cdef enum notify_class_t:
    NOTIFY_KEYSPACE = 1          # K
    NOTIFY_KEYEVENT = 2          # E
    NOTIFY_GENERIC = 4           # g
    NOTIFY_STRING = 8            # $
    NOTIFY_LIST = 16             # l
    NOTIFY_SET = 32              # s
    NOTIFY_HASH = 64             # h
    NOTIFY_ZSET = 128            # z
    NOTIFY_EXPIRED = 256         # x
    NOTIFY_EVICTED = 512         # e
    NOTIFY_STREAM = 1024         # t
    NOTIFY_KEY_MISS = 2048       # m
    NOTIFY_MODULE = 8192         # d
    NOTIFY_NEW = 16384           # n

cdef bint find_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
# Without stats and access word (OBJECT, TTL, DEBUG).
cdef bint find_peek(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
# Counts hits and misses and announces a miss, but leaves the access word alone (TYPE, TTL).
cdef bint find_untouched(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
cdef bint find_write(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil

cdef void insert_key(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil   # must not exist
# From a snapshot: no notification, no change to be saved.
cdef void load_key(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil     # must not exist
cdef void update_begin(scope_t *scope, dash_ref_t *ref) noexcept nogil
cdef void update_end(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil
# The same for a change that readers of the key do not see (a consumer group got on): as in Redis, WATCH does not fail,
# caches keep what they have, and who waits for the key waits on.
cdef void update_end_unseen(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil
# Who waits for the key is looked at when the command has ended.
cdef void wake_waiters(scope_t *scope, const key_t *key) noexcept nogil
# Further notification for the same change (SET with EX sends "set" and "expire").
cdef void notify(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil
# Frees the value and erases the entry. event may be NULL (no notification, e.g. RENAME's source uses its own).
cdef void delete_key(scope_t *scope, const key_t *key, dash_ref_t *ref, int event_class,
                     const char *event) noexcept nogil
# Frees a value that a key has lost (its key keeps an empty string). One of many blocks is freed in slices.
cdef void drop_value(scope_t *scope, object_t *value) noexcept nogil
# What the key's value still holds of members that are gone, if anything, is freed in slices. Called for every value
# that comes to a key from another one (RENAME, MOVE), while both shards' tokens are held.
cdef void purge_later(scope_t *scope, const key_t *key, object_t *value) noexcept nogil
# Takes the value out without freeing it (RENAME, MOVE): the caller owns it. Then erases the entry.
cdef void take_value(scope_t *scope, const key_t *key, dash_ref_t *ref, void *out_object) noexcept nogil

# The key holds no members with deadlines any more: see engine/member_expiry.pxd. The door does it for keys that go.
cdef void forget_members(scope_t *scope, const key_t *key) noexcept nogil

cdef int64_t get_deadline(dash_ref_t *ref) noexcept nogil                                # ms since epoch, -1: none
cdef void set_deadline(scope_t *scope, dash_ref_t *ref, int64_t deadline_ms) noexcept nogil   # -1: persist

# Eviction passes the key over, for as long as its entry lives (STICK).
cdef bint is_sticky(const dash_ref_t *ref) noexcept nogil
cdef void make_sticky(scope_t *scope, dash_ref_t *ref) noexcept nogil

# Its memory is reclaimed in slices.
cdef void flush_database(shard_t *shard, uint32_t index) noexcept nogil
cdef void swap_databases(shard_t *shard, uint32_t a, uint32_t b) noexcept nogil
# Flushed tables and dropped values whose walks are over: to be reclaimed. False: there are none.
cdef bint release_kept(shard_t *shard) noexcept nogil
