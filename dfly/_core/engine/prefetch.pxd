"""Prefetching of what a run of single-key commands will touch, so that its cache misses overlap."""

from libc.stdint cimport uint32_t

from dfly._core.engine.command cimport call_t
from dfly._core.engine.shard cimport shard_t

# Of the calls for this shard, whose token is held. Sets call.collection and call.member_hash of these.
cdef void prefetch_calls(call_t *calls, uint32_t count, shard_t *shard, uint32_t database_index) noexcept nogil
