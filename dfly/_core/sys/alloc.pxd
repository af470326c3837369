"""The allocator: every byte the data plane owns comes from here and is counted here.

Counting is exact (the block size the allocator really hands out, not the size asked for)
and per thread. Shard code runs under one thread at a time; the engine reads the counter
before and after it runs shard code and books the difference to the shard, so no structure
keeps accounts of its own. Memory may be freed by another thread than allocated it.

Two accounts: ACCOUNT_DATA (keys, values, tables) is what `mem_alloc` and friends use;
ACCOUNT_NET (connection buffers, messages, batches) is what `net_alloc` and friends use.
A block must be freed through the account it came from. Running out of memory aborts.
"""

from libc.stdint cimport int64_t

cdef enum:
    ACCOUNT_DATA = 0
    ACCOUNT_NET = 1
    MAX_ACCOUNT_THREADS = 1024

cdef void *mem_alloc(size_t size) noexcept nogil
cdef void *mem_zalloc(size_t size) noexcept nogil
cdef void *mem_realloc(void *p, size_t size) noexcept nogil
cdef void mem_free(void *p) noexcept nogil
cdef size_t mem_usable(const void *p) noexcept nogil      # bytes that may be used at p
cdef size_t mem_good_size(size_t size) noexcept nogil     # what mem_alloc(size) would really take

cdef void *net_alloc(size_t size) noexcept nogil
cdef void *net_zalloc(size_t size) noexcept nogil
cdef void *net_realloc(void *p, size_t size) noexcept nogil
cdef void net_free(void *p) noexcept nogil

cdef int64_t mem_thread_balance() noexcept nogil          # this thread's ACCOUNT_DATA bytes, may be negative
cdef int64_t mem_total(int account) noexcept nogil        # all threads, one account
# Gives pages of this thread back that are free, if they have been for a tenth of a second.
cdef void mem_return_to_system() noexcept nogil
# Before that: finds those that other threads have made free. A walk over all pages of this thread.
cdef void mem_collect() noexcept nogil
# Around the freeing of much: pages that become free go back at once, so that not all of them go in one moment later.
cdef void mem_return_early_begin() noexcept nogil
cdef void mem_return_early_end() noexcept nogil
cdef const char *mem_allocator_name() noexcept nogil      # "mimalloc-3.4.3" or "libc"
