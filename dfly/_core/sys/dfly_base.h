/* Base header of the data plane: checks, hints, SIMD matching, atomics.
 *
 * Holds no state: a variable here would exist once in every extension module.
 * Checks abort with file and line; Python's `assert` must not be used in nogil code
 * (it prints and goes on), and C's is compiled out by CPython's own flags.
 */
#ifndef DFLY_BASE_H
#define DFLY_BASE_H

#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <time.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define dfly_likely(x) __builtin_expect(!!(x), 1)
#define dfly_unlikely(x) __builtin_expect(!!(x), 0)
#define dfly_prefetch(p) __builtin_prefetch((const void *)(p), 0, 3)
#define dfly_prefetch_write(p) __builtin_prefetch((const void *)(p), 1, 3)

static __attribute__((noreturn, noinline, cold, unused)) void
dfly_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "dfly: check failed: %s (%s:%d)\n", what, file, line);
    fflush(stderr);
    abort();
}

/* Always on. The condition must hold or the process ends. */
#define DFLY_CHECK(cond, what) \
    do { if (dfly_unlikely(!(cond))) dfly_fail((what), __FILE__, __LINE__); } while (0)

/* Debug builds only (-DDFLY_DEBUG=1, set by `make asan`). */
#ifdef DFLY_DEBUG
#define DFLY_DCHECK(cond, what) DFLY_CHECK(cond, what)
#define DFLY_DEBUG_ENABLED 1
#else
#define DFLY_DCHECK(cond, what) do { (void)sizeof(cond); } while (0)
#define DFLY_DEBUG_ENABLED 0
#endif

/* True when p lies on the calling thread's stack (used to refuse such addresses). */
static inline int dfly_on_thread_stack(const void *p)
{
    pthread_attr_t attr;
    void *base = NULL;
    size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return 0;
    pthread_attr_getstack(&attr, &base, &size);
    pthread_attr_destroy(&attr);
    return (const char *)p >= (const char *)base && (const char *)p < (const char *)base + size;
}

/* Bit i of the result is set when bytes[i] == value, for i in 0..15. Reads 16 bytes. */
static inline uint32_t dfly_match16(const uint8_t *bytes, uint8_t value)
{
#if defined(__SSE2__)
    __m128i group = _mm_loadu_si128((const __m128i *)bytes);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8((char)value)));
#elif defined(__ARM_NEON)
    static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t equal = vceqq_u8(vld1q_u8(bytes), vdupq_n_u8(value));
    uint8x16_t bits = vandq_u8(equal, vld1q_u8(weights));
    return (uint32_t)vaddv_u8(vget_low_u8(bits)) | ((uint32_t)vaddv_u8(vget_high_u8(bits)) << 8);
#else
    uint32_t mask = 0;
    for (int i = 0; i < 16; i++) mask |= (uint32_t)(bytes[i] == value) << i;
    return mask;
#endif
}

/* 64x64 -> 128 multiply, both halves folded by xor. */
static inline uint64_t dfly_fold_multiply(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t dfly_load64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint32_t dfly_load32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline void dfly_store64(void *p, uint64_t v) { memcpy(p, &v, 8); }
#define dfly_byte_swap64(v) __builtin_bswap64(v)
static inline int dfly_ctz(uint32_t v) { return __builtin_ctz(v); }
static inline int dfly_ctz64(uint64_t v) { return __builtin_ctzll(v); }
static inline int dfly_clz64(uint64_t v) { return __builtin_clzll(v); }
static inline int dfly_popcount64(uint64_t v) { return __builtin_popcountll(v); }

/* Atomics on plain words: the order is in the name. */
static inline uint64_t dfly_atomic_load(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint64_t dfly_atomic_load_relaxed(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void dfly_atomic_store(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void dfly_atomic_store_relaxed(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline uint64_t dfly_atomic_add(uint64_t *p, uint64_t v) { return __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL); }
static inline uint64_t dfly_atomic_sub(uint64_t *p, uint64_t v) { return __atomic_sub_fetch(p, v, __ATOMIC_ACQ_REL); }
static inline uint64_t dfly_atomic_exchange(uint64_t *p, uint64_t v)
{
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}
static inline int dfly_atomic_cas(uint64_t *p, uint64_t expected, uint64_t desired)
{
    return __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
static inline void *dfly_atomic_load_pointer(void **p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void dfly_atomic_store_pointer(void **p, void *v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void *dfly_atomic_exchange_pointer(void **p, void *v)
{
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}
static inline int dfly_atomic_cas_pointer(void **p, void *expected, void *desired)
{
    return __atomic_compare_exchange_n(p, &expected, desired, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}
static inline void dfly_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

/* Cycle counter for command durations; calibrated against the clock by sys/clock. */
static inline uint64_t dfly_ticks(void)
{
#if defined(__x86_64__)
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return ((uint64_t)hi << 32) | lo;
#elif defined(__aarch64__)
    uint64_t v;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
#else
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
#endif
}
#endif
