"""Expiry on time: each segment of a table knows its earliest deadline, so the timer visits only what is due."""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.engine.shard cimport shard_t

# Under the shard's token: deletes keys that are due, at most `budget`; returns how many.
cdef uint64_t expire_due(shard_t *shard, int64_t now_ms, uint64_t budget) noexcept nogil
cdef int64_t next_deadline(shard_t *shard) noexcept nogil        # of keys and members, all databases; -1: none
# Frees at most `budget` entries of dropped tables; True when nothing is left.
cdef bint reclaim_step(shard_t *shard, uint64_t budget) noexcept nogil
# Frees at most `budget` blocks of what members have left that are gone from their values; True when nothing is left.
cdef bint purge_step(shard_t *shard, uint64_t budget) noexcept nogil
# Keeps the average time to live of each database up to date; ten times a second, under the token.
cdef void sample_ttls(shard_t *shard, int64_t now_ms) noexcept nogil
