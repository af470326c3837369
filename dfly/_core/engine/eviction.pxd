"""maxmemory: what must go before a write that needs memory may run.

Memory that counts is what keys and tables take plus connection buffers beyond what the idle server
holds. Each shard evicts from its own keys, the policy's choice among a sample, as Redis does
(maxmemory-samples); under noeviction the write gets -OOM and nothing is lost.
"""

from libc.stdint cimport int64_t

from dfly._core.engine.shard cimport scope_t, shard_t

cdef bint make_room(scope_t *scope) noexcept nogil               # False: the write must be refused
cdef int64_t memory_in_use(shard_t *shard) noexcept nogil        # what maxmemory is compared with
cdef int64_t memory_used_total() noexcept nogil                 # the same over all threads, for INFO
cdef void eviction_set_baseline() noexcept nogil                 # at start-up: buffers of an idle server
# So many bytes more of net_alloc (negative: fewer) do not count: buffers of a snapshot.
cdef void eviction_exempt(int64_t bytes_) noexcept nogil
