"""Fetching the values of several keys, for commands that compute with them (BITOP, LCS)."""

from libc.stdint cimport uint32_t

from dfly._core.engine.shard cimport shard_t
from dfly._core.engine.transaction cimport transaction_t
from dfly._core.sys.base cimport slice_t

# True when one hop sees all keys, so that nothing needs to be copied.
cdef bint keys_share_shard(const transaction_t *tx) noexcept nogil
# A hop that copies the strings of all keys from tx.keys[first] on; a key that does not exist is empty.
cdef int fetch_strings(transaction_t *tx, uint32_t first) noexcept nogil
# After that hop: the strings by key (valid as long as the transaction), NULL if a value is no string.
cdef slice_t *fetched_strings(transaction_t *tx) noexcept nogil
