"""A shard: one partition of the keyspace, all databases of it, and the token that guards it.

One thread at a time manages a shard: the one that holds its token, a single atomic word taken by
compare-and-swap. The owner thread runs the shard's timers; any thread that has work for a shard
takes a free token, runs its work in place, and gives the token back ("borrowing"). If the token is
taken, the work goes into the shard's inbox, and whoever gives the token back first looks into the
inbox: work never waits for a sleeping thread and nobody is woken to do it.

Several tokens at once. What must be atomic over several shards takes their tokens in ascending
order (two-phase locking, so no deadlock) and then runs in place: no message, no intent per key.
A token that is taken is asked for through the inbox (grant_t): its holder, when done, leaves it taken
and hands it over. Such a holder has no accounts open: it books around each piece of work.

Shard code gets a scope and assumes nothing about the thread it runs on.

The door. Every change of a key goes through the functions of engine/database.pxd, which keep
version, a snapshot's walk, expiry, watch, notification, journal and memory accounts.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.latency cimport latency_monitor_t
from dfly._core.engine.listeners cimport listener_table_t
from dfly._core.engine.pattern_listeners cimport pattern_table_t
from dfly._core.engine.settings cimport settings_t
from dfly._core.engine.tracking_table cimport tracker_t, tracking_table_t
from dfly._core.loop.mailbox cimport mailbox_t, message_run_t, message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.store.dash cimport dash_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.sys.base cimport atomic_store_relaxed

cdef struct purge_t:
    # A key whose value still holds what members have left that are gone: purged in slices. Owned by the database.
    purge_t *next
    uint32_t size
    char *name                   # in the same block

cdef struct database_t:
    dash_t table
    dash_t members               # keys whose members have deadlines (engine/member_expiry.pxd); no directory: none yet
    uint32_t index
    uint32_t plain_runs          # of commands since one met a large collection
    uint64_t expired             # keys
    int64_t avg_ttl_ms           # running average of samples, for INFO keyspace
    uint64_t mutations
    purge_t *purges

cdef struct shard_stats_t:
    uint64_t hits
    uint64_t misses
    uint64_t expired_keys
    uint64_t expired_fields      # and members of sets
    uint64_t evicted_keys
    uint64_t oom_rejections
    uint64_t mutations
    uint64_t borrowed            # times a foreign thread took the token
    uint64_t inbox_messages      # work that found the token taken
    int64_t expire_lag_ms_max    # since the last RESETSTAT
    uint64_t lazyfreed_objects
    uint64_t expire_ticks        # time spent in the expire cycle, in cycle ticks
    uint64_t expire_cap_reached  # slices of it that ended by the clock
    double expire_stale_part     # of sampled keys those that were due: running average, 0 to 1
    uint64_t eviction_exceeded_us        # time that used memory was above maxmemory

# Hook at the door; NULL when nobody listens. Runs under the token, must not block.
ctypedef void (*mutation_hook_t)(shard_t *shard, database_t *database, const char *key, size_t key_size,
                                 int event_class, const char *event, void *context) noexcept nogil

cdef struct reclaim_t:
    # A dropped table, or a dropped value of many blocks, that is freed in slices. Owned by the shard.
    dash_t table
    dash_t members
    tracking_table_t tracked
    object_t value
    reclaim_t *next

cdef struct shard_t:
    uint64_t token               # 0 free, 1 taken; a cache line of its own
    char token_padding[56]
    mailbox_t inbox              # run(message, shard), under the token
    message_t *backlog           # taken out of the inbox, not run yet; the token's holder's
    uint32_t index
    uint32_t shard_count
    const settings_t *settings
    shard_t **siblings           # all shards, for the sum of used memory
    database_t **databases       # settings.databases pointers, NULL until first used
    int64_t used_bytes           # ACCOUNT_DATA bytes booked to this shard
    int64_t balance_at_acquire
    uint64_t version             # rises with every mutation, by shard_next_version; others' threads look at it
    shard_stats_t stats
    reclaim_t *reclaim
    reclaim_t *kept              # flushed tables and dropped values that a snapshot still walks over
    uint32_t value_walks         # of a snapshot, over large values
    uint64_t reclaim_pending     # keys in both
    uint32_t purge_count         # keys to be purged, in all databases
    latency_monitor_t *latency   # events of this shard; NULL before the first one
    int64_t over_limit_since_us  # 0: memory is within the limit, as far as writes have seen
    uint64_t access_clock        # seconds & 0xFFFFFF, refreshed by the owner's timer, read by all
    uint32_t eviction_cursor
    listener_table_t watched     # WATCH
    listener_table_t blocked     # commands that wait for a key: see engine/waiter.pxd
    tracking_table_t tracked     # CLIENT TRACKING
    pattern_table_t patterns     # keys of a form: commands in slices
    mutation_hook_t on_mutation      # while notify-keyspace-events is not empty
    void *mutation_context

cdef struct grant_t:
    # A place in the line for a token. Owned by who waits; lives on the heap.
    message_t message            # in the inbox, then in home's mailbox
    proactor_t *home             # where on_granted runs, with the proactor as context
    message_run_t on_granted

cdef struct token_set_t:
    # Tokens that a thread keeps from one transaction of a batch to the next.
    uint32_t *shards             # ascending; capacity: the number of shards
    uint32_t count

cdef struct caller_t:
    # On whose behalf a command runs: what of its connection travels with it.
    uint64_t client_id
    tracker_t *tracker           # remembers the keys that are read; NULL: not
    uint32_t database_index
    bint keep_access             # CLIENT NO-TOUCH: do not change access words

cdef struct scope_t:
    # Where an operation runs.
    shard_t *shard
    database_t *database
    int64_t now_ms               # wall clock of this batch
    uint64_t client_id           # who asked for it, 0: nobody (expiry, eviction)
    bint keep_access

cdef shard_t *shard_new(uint32_t index, uint32_t shard_count, const settings_t *settings) noexcept nogil
cdef void shard_free(shard_t *self) noexcept nogil

cdef bint shard_try_acquire(shard_t *self) noexcept nogil
cdef void shard_acquire(shard_t *self) noexcept nogil        # spins, then yields the CPU; for rare work only
cdef void shard_release(shard_t *self) noexcept nogil        # runs what came into the inbox meanwhile
# Runs message.run(message, shard) under the token: at once if it is free (True), else by whoever
# holds it (False).
cdef bint shard_submit(shard_t *self, message_t *message) noexcept nogil

# The token alone, for holders of several: open the books around each piece of work.
cdef bint shard_try_lock(shard_t *self) noexcept nogil
# True: ours now. False: grant.on_granted will run on grant.home's thread, and then it is ours.
cdef bint shard_lock(shard_t *self, grant_t *grant) noexcept nogil
cdef void shard_unlock(shard_t *self) noexcept nogil         # runs what came into the inbox meanwhile
cdef void tokens_release(token_set_t *self, shard_t **shards) noexcept nogil
cdef void shard_open_books(shard_t *self) noexcept nogil     # allocations of this thread count for this shard
cdef void shard_close_books(shard_t *self) noexcept nogil

cdef database_t *shard_database(shard_t *self, uint32_t index) noexcept nogil     # creates it on first use
cdef int64_t shard_total_used(shard_t *self) noexcept nogil                       # data bytes of all shards

cdef inline void shard_next_version(shard_t *self) noexcept nogil:
    atomic_store_relaxed(&self.version, self.version + 1)


cdef inline uint32_t shard_of(uint64_t hash, uint32_t shard_count) noexcept nogil:
    # Bits 24..39 of the hash, see store/dash.pxd.
    return <uint32_t>((((hash >> 24) & 0xFFFF) * shard_count) >> 16)


cdef bint policy_tracks_access(int64_t policy) noexcept nogil            # LRU and LFU policies keep access words
