"""Declarations of dfly_base.h: checks, hints, SIMD matching, atomics. No state."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "dfly_base.h" nogil:
    """
    #ifndef DFLY_ABI_STAMP
    #define DFLY_ABI_STAMP "unstamped"
    #endif
    """
    const char *DFLY_ABI_STAMP          # hash of every .pxd and .h of the build
    int DFLY_DEBUG_ENABLED
    void DFLY_CHECK(bint condition, const char *what) noexcept
    void DFLY_DCHECK(bint condition, const char *what) noexcept
    bint dfly_on_thread_stack(const void *p) noexcept

    bint likely "dfly_likely"(bint condition) noexcept
    bint unlikely "dfly_unlikely"(bint condition) noexcept
    void prefetch "dfly_prefetch"(const void *p) noexcept
    void prefetch_write "dfly_prefetch_write"(const void *p) noexcept

    uint32_t match16 "dfly_match16"(const uint8_t *bytes, uint8_t value) noexcept
    uint64_t fold_multiply "dfly_fold_multiply"(uint64_t a, uint64_t b) noexcept
    uint64_t load64 "dfly_load64"(const void *p) noexcept
    uint32_t load32 "dfly_load32"(const void *p) noexcept
    void store64 "dfly_store64"(void *p, uint64_t v) noexcept
    uint64_t byte_swap64 "dfly_byte_swap64"(uint64_t v) noexcept
    int ctz "dfly_ctz"(uint32_t v) noexcept
    int ctz64 "dfly_ctz64"(uint64_t v) noexcept
    int clz64 "dfly_clz64"(uint64_t v) noexcept
    int popcount64 "dfly_popcount64"(uint64_t v) noexcept

    uint64_t atomic_load "dfly_atomic_load"(const uint64_t *p) noexcept
    uint64_t atomic_load_relaxed "dfly_atomic_load_relaxed"(const uint64_t *p) noexcept
    void atomic_store "dfly_atomic_store"(uint64_t *p, uint64_t v) noexcept
    void atomic_store_relaxed "dfly_atomic_store_relaxed"(uint64_t *p, uint64_t v) noexcept
    uint64_t atomic_add "dfly_atomic_add"(uint64_t *p, uint64_t v) noexcept
    uint64_t atomic_sub "dfly_atomic_sub"(uint64_t *p, uint64_t v) noexcept
    uint64_t atomic_exchange "dfly_atomic_exchange"(uint64_t *p, uint64_t v) noexcept
    bint atomic_cas "dfly_atomic_cas"(uint64_t *p, uint64_t expected, uint64_t desired) noexcept
    void *atomic_load_pointer "dfly_atomic_load_pointer"(void **p) noexcept
    void atomic_store_pointer "dfly_atomic_store_pointer"(void **p, void *v) noexcept
    void *atomic_exchange_pointer "dfly_atomic_exchange_pointer"(void **p, void *v) noexcept
    bint atomic_cas_pointer "dfly_atomic_cas_pointer"(void **p, void *expected, void *desired) noexcept
    void full_fence "dfly_fence"() noexcept
    uint64_t cycle_ticks "dfly_ticks"() noexcept


cdef struct slice_t:
    # Borrowed bytes: never freed through, never kept past the call that received it.
    const char *data
    size_t size


cdef inline void count_shown(uint64_t *counter) noexcept nogil:
    """Of this thread, read by others."""
    atomic_store_relaxed(counter, atomic_load_relaxed(counter) + 1)


cdef inline bint same_word(const slice_t *a, const slice_t *b) noexcept nogil:
    """Equal, and of 4 to 16 bytes: cheap enough to be asked before something is worked out again."""
    cdef size_t size = a.size
    if size != b.size or size > 16 or size < 4:
        return False
    if size >= 8:
        return load64(a.data) == load64(b.data) and load64(a.data + size - 8) == load64(b.data + size - 8)
    return load32(a.data) == load32(b.data) and load32(a.data + size - 4) == load32(b.data + size - 4)
