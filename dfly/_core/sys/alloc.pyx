"""Implementation of the counting allocator: see alloc.pxd for the contract.

Invariants: every block is counted when it is handed out and when it is given back, with the size
the allocator reports; the counters of all threads sum to what is live. Nothing here suspends.
"""

from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

cdef extern from "alloc_backend.h" nogil:
    void *backend_alloc(size_t size, size_t *block) noexcept
    void *backend_zalloc(size_t size, size_t *block) noexcept
    void *backend_realloc(void *p, size_t size, size_t *before, size_t *after) noexcept
    void backend_free(void *p, size_t *block) noexcept
    size_t backend_usable(const void *p) noexcept
    size_t backend_good_size(size_t size) noexcept
    void backend_return() noexcept
    void backend_collect() noexcept
    void backend_begin() noexcept
    void backend_return_early_begin() noexcept
    void backend_return_early_end() noexcept
    const char *DFLY_ALLOCATOR_NAME
    void account_add(int account, int64_t delta) noexcept
    int64_t account_thread(int account) noexcept
    int64_t account_total(int account) noexcept

cdef extern from "sys/prctl.h" nogil:
    int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) noexcept
    int PR_SET_THP_DISABLE

__abi__ = DFLY_ABI_STAMP

# No transparent huge pages: the kernel clears 2 MB inside one page fault (8 ms where memory is
# virtual), and one used line keeps all of it resident. Finds in 5 M keys cost the same without.
prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
backend_begin()


cdef inline void *allocate(size_t size, int account) noexcept nogil:
    cdef size_t block = 0
    cdef void *p = backend_alloc(size, &block)
    DFLY_CHECK(p != NULL, "out of memory")
    account_add(account, <int64_t>block)
    return p


cdef inline void *allocate_zeroed(size_t size, int account) noexcept nogil:
    cdef size_t block = 0
    cdef void *p = backend_zalloc(size, &block)
    DFLY_CHECK(p != NULL, "out of memory")
    account_add(account, <int64_t>block)
    return p


cdef inline void *reallocate(void *p, size_t size, int account) noexcept nogil:
    cdef size_t before = 0
    cdef size_t after = 0
    p = backend_realloc(p, size, &before, &after)
    DFLY_CHECK(p != NULL, "out of memory")
    account_add(account, <int64_t>after - <int64_t>before)
    return p


cdef inline void release(void *p, int account) noexcept nogil:
    cdef size_t block = 0
    if p == NULL:
        return
    backend_free(p, &block)
    account_add(account, -<int64_t>block)


cdef void *mem_alloc(size_t size) noexcept nogil:
    return allocate(size, ACCOUNT_DATA)


cdef void *mem_zalloc(size_t size) noexcept nogil:
    return allocate_zeroed(size, ACCOUNT_DATA)


cdef void *mem_realloc(void *p, size_t size) noexcept nogil:
    return reallocate(p, size, ACCOUNT_DATA)


cdef void mem_free(void *p) noexcept nogil:
    release(p, ACCOUNT_DATA)


cdef size_t mem_usable(const void *p) noexcept nogil:
    return backend_usable(p)


cdef size_t mem_good_size(size_t size) noexcept nogil:
    return backend_good_size(size)


cdef void *net_alloc(size_t size) noexcept nogil:
    return allocate(size, ACCOUNT_NET)


cdef void *net_zalloc(size_t size) noexcept nogil:
    return allocate_zeroed(size, ACCOUNT_NET)


cdef void *net_realloc(void *p, size_t size) noexcept nogil:
    return reallocate(p, size, ACCOUNT_NET)


cdef void net_free(void *p) noexcept nogil:
    release(p, ACCOUNT_NET)


cdef int64_t mem_thread_balance() noexcept nogil:
    return account_thread(ACCOUNT_DATA)


cdef int64_t mem_total(int account) noexcept nogil:
    return account_total(account)


cdef void mem_return_to_system() noexcept nogil:
    backend_return()


cdef void mem_collect() noexcept nogil:
    backend_collect()


cdef void mem_return_early_begin() noexcept nogil:
    backend_return_early_begin()


cdef void mem_return_early_end() noexcept nogil:
    backend_return_early_end()


cdef const char *mem_allocator_name() noexcept nogil:
    return DFLY_ALLOCATOR_NAME


def allocator_name():
    """Name of the allocator this build uses."""
    return DFLY_ALLOCATOR_NAME.decode()


def total_bytes():
    """(data, net): live bytes of each account, over all threads."""
    return account_total(ACCOUNT_DATA), account_total(ACCOUNT_NET)
