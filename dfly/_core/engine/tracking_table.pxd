"""Which clients may have cached which keys: the invalidation table of CLIENT TRACKING, one a shard.

A key (its name, whatever the database) leads to the trackers of the clients that have read it. When the
key changes, its entry is taken out and each of them is told once, by one message to each thread concerned;
reading again enters them again. In broadcasting mode nothing is entered: the table knows which
prefixes each thread wants, and every change of a matching key goes to that thread.

All of it runs under the shard's token. What becomes of an invalidation_t is engine/tracking's business.
Redis: redis.io/docs/latest/develop/reference/client-side-caching.

Ownership: the table owns its entries; an entry, and a message, hold a reference to each of their
trackers. A tracker outlives its connection until the last of them is gone.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.loop.mailbox cimport message_run_t, message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.store.object cimport key_t
from dfly._core.sys.base cimport slice_t

cdef enum tracking_mode_t:
    TRACKING_ON = 1
    TRACKING_BCAST = 2
    TRACKING_OPTIN = 4
    TRACKING_OPTOUT = 8
    TRACKING_NOLOOP = 16

cdef enum invalidation_kind_t:
    INVALIDATE_KEY = 0           # trackers hold the key
    INVALIDATE_PREFIXES = 1      # who is in broadcasting mode, if it wants the key
    INVALIDATE_ALL = 2           # every client in tracking mode: all its keys

cdef struct tracker_t:
    # The address of a client, first in engine/tracking's client_tracking_t.
    uint64_t references
    uint64_t mode                # of tracking_mode_t; written by its own thread; 0 once it is closed
    uint64_t client_id
    proactor_t *home

cdef struct invalidation_t:
    # One block with its trackers and key. Owned by the thread that receives it.
    message_t message
    invalidation_kind_t kind
    uint64_t writer              # id of the client that changed the key, 0: nobody
    tracker_t **trackers
    uint32_t tracker_count
    slice_t key

cdef struct tracked_key_t:
    tracked_key_t *next          # in its chain
    uint64_t hash
    uint32_t size
    uint32_t count
    uint32_t capacity            # a power of two; 1: `one` instead of slots
    tracker_t *one
    tracker_t **slots            # hashed by address
    char *name                   # in the same block

cdef struct wanted_prefix_t:
    wanted_prefix_t *next
    uint32_t size
    uint32_t count               # clients of the thread that want it
    char *text                   # in the same block

cdef struct wanting_thread_t:
    wanting_thread_t *next
    proactor_t *home
    message_run_t run            # receives its invalidations
    wanted_prefix_t *prefixes

cdef struct tracking_table_t:
    tracked_key_t **chains
    uint32_t chain_count         # a power of two, or 0
    tracked_key_t **old_chains   # while it grows: half as many, those from `moved` on still hold keys
    uint32_t moved
    uint32_t cursor              # the chain from which keys go next, by eviction or in slices
    uint64_t count               # keys; other threads read it
    uint64_t items               # clients in the keys' entries
    uint32_t prefix_count        # different ones, over all threads
    wanting_thread_t *wanting    # threads with clients in broadcasting mode
    message_run_t run            # receives what is for trackers

cdef void tracker_retain(tracker_t *self) noexcept nogil
cdef void tracker_release(tracker_t *self) noexcept nogil
# False: it was entered already.
cdef bint tracking_table_add(tracking_table_t *self, const key_t *key, tracker_t *tracker) noexcept nogil
# The key has changed: whoever may hold it is told.
cdef void tracking_table_invalidate(tracking_table_t *self, const key_t *key, uint64_t writer) noexcept nogil
# Forgets some key to make room, and tells its clients.
cdef void tracking_table_evict(tracking_table_t *self) noexcept nogil
# Takes all keys out, silently, into `dropped`, which is all zero; prefixes stay.
cdef void tracking_table_drop(tracking_table_t *self, tracking_table_t *dropped) noexcept nogil
# Frees about so many keys of a dropped table; True: it is empty and owns nothing.
cdef bint tracking_table_free_step(tracking_table_t *self, uint64_t budget) noexcept nogil
cdef void tracking_table_want(tracking_table_t *self, slice_t prefix, proactor_t *home,
                              message_run_t run) noexcept nogil
cdef void tracking_table_unwant(tracking_table_t *self, slice_t prefix, proactor_t *home) noexcept nogil
cdef invalidation_t *invalidation_new(invalidation_kind_t kind, slice_t key, uint64_t writer,
                                      uint32_t trackers) noexcept nogil
