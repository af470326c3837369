"""Prefetching in dash tables: the cache lines of many look-ups are fetched at once, not one after another.

Passes over a run of keys; each uses what the one before has begun to fetch. What a pass returns is the caller's to
keep until the next one, and holds as long as the table does not change.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.dash cimport bucket_t, dash_t, entry_t
from dfly._core.store.object cimport object_t

cdef enum:
    DASH_PREFETCH_KEYS = 32

# First: the home bucket's metadata.
cdef bucket_t *dash_prefetch_bucket(dash_t *self, uint64_t hash) noexcept nogil
# Second: the entry that probably has this hash's key. NULL: it is not at home, and the metadata of where else it may
# be is on its way.
cdef entry_t *dash_prefetch_entry(dash_t *self, bucket_t *home, uint64_t hash) noexcept nogil
# For those that were not at home: the same with the next bucket and the stash. NULL: no such key.
cdef entry_t *dash_prefetch_away(dash_t *self, uint64_t hash) noexcept nogil
# What these would find, without prefetching: in a table so small that it is in the cache.
cdef entry_t *dash_probable_entry(dash_t *self, uint64_t hash) noexcept nogil
# Last: a heap value, of a table that has values. Returns the value if it is a container, else NULL.
cdef const object_t *dash_prefetch_value(const entry_t *entry) noexcept nogil

# All of these over a few keys, at most DASH_PREFETCH_KEYS.
cdef void dash_prefetch_keys(dash_t *self, const uint64_t *hashes, uint32_t count) noexcept nogil

# The passes for a table that is a value, as object_prefetch_member wants them.
cdef bint dash_prefetch_member(dash_t *self, uint64_t hash, int number, void **probe) noexcept nogil
