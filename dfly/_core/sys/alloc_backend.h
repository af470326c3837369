/* The one place that knows the allocator. Included by sys/alloc.pyx only: the thread-local
 * counter below must exist once in the process. */
#ifndef DFLY_ALLOC_BACKEND_H
#define DFLY_ALLOC_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef DFLY_USE_MIMALLOC
#include <mimalloc.h>

#define RETURNING_BYTES (4u << 20)
#define PURGE_DELAY_MS 100

static inline void *backend_alloc(size_t size, size_t *block) { return mi_umalloc(size, block); }
static inline void *backend_zalloc(size_t size, size_t *block) { return mi_ucalloc(1, size, block); }
static inline void *backend_realloc(void *p, size_t size, size_t *before, size_t *after)
{ return mi_urealloc(p, size, before, after); }
static inline void backend_free(void *p, size_t *block) { mi_ufree(p, block); }
static inline size_t backend_usable(const void *p) { return mi_usable_size(p); }
static inline size_t backend_good_size(size_t size) { return mi_good_size(size); }
/* Who gives a large block back gives all pages back that have been free for PURGE_DELAY_MS, and walks over no others.
 * mi_collect walks over every page of the thread, 4 to 8 ms for ten million keys, and by force over each free block,
 * 60 ms for two million deleted keys. But it finds pages whose blocks another thread has freed. */
static inline void backend_return(void)
{
    int i;
    for (i = 0; i < 2; i++) mi_free(mi_malloc(RETURNING_BYTES));
}
static inline void backend_collect(void) { mi_collect(0); }
/* A tenth of what it is otherwise: less goes back at once, and sooner. */
static inline void backend_begin(void) { mi_option_set(mi_option_purge_delay, PURGE_DELAY_MS); }

/* Between these free pages go back one by one. Otherwise they wait, and go all at once. The option is the
 * process's: two threads that begin and end at the same time may leave one with the usual delay, no more. */
static long usual_purge_delay;
static int return_early_count;

static inline void backend_return_early_begin(void)
{
    long delay;
    if (__atomic_fetch_add(&return_early_count, 1, __ATOMIC_RELAXED) != 0) return;
    delay = mi_option_get(mi_option_purge_delay);
    if (delay <= 0) return;
    __atomic_store_n(&usual_purge_delay, delay, __ATOMIC_RELAXED);
    mi_option_set(mi_option_purge_delay, 0);
}

static inline void backend_return_early_end(void)
{
    long delay = __atomic_load_n(&usual_purge_delay, __ATOMIC_RELAXED);
    if (__atomic_sub_fetch(&return_early_count, 1, __ATOMIC_RELAXED) == 0 && delay > 0)
        mi_option_set(mi_option_purge_delay, delay);
}
#define DFLY_ALLOCATOR_NAME "mimalloc-" DFLY_MIMALLOC_VERSION
#else
#include <malloc.h>

static inline void *backend_alloc(size_t size, size_t *block)
{ void *p = malloc(size); *block = p ? malloc_usable_size(p) : 0; return p; }
static inline void *backend_zalloc(size_t size, size_t *block)
{ void *p = calloc(1, size); *block = p ? malloc_usable_size(p) : 0; return p; }
static inline void *backend_realloc(void *p, size_t size, size_t *before, size_t *after)
{
    *before = p ? malloc_usable_size(p) : 0;
    p = realloc(p, size);
    *after = p ? malloc_usable_size(p) : 0;
    return p;
}
static inline void backend_free(void *p, size_t *block)
{ *block = p ? malloc_usable_size(p) : 0; free(p); }
static inline size_t backend_usable(const void *p) { return malloc_usable_size((void *)p); }
static inline size_t backend_good_size(size_t size)
{ size_t n = (size + 8 + 15) & ~(size_t)15; return (n < 32 ? 32 : n) - 8; }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* The sanitizer's allocator has taken over: libc's would be set up by whoever trims it first, which two threads
 * must not do at the same time. */
static inline void backend_return(void) {}
#else
static inline void backend_return(void) { malloc_trim(0); }
#endif
static inline void backend_collect(void) {}
static inline void backend_begin(void) {}
static inline void backend_return_early_begin(void) {}
static inline void backend_return_early_end(void) {}
#define DFLY_ALLOCATOR_NAME "libc"
#endif

/* One cell per thread and account. A cell is never freed: what a finished thread allocated
 * still counts. */
typedef struct { int64_t bytes[2]; char padding[48]; } account_cell_t;

#define DFLY_MAX_ACCOUNT_THREADS 1024
static account_cell_t account_cells[DFLY_MAX_ACCOUNT_THREADS] __attribute__((aligned(64)));
static uint32_t account_cell_count;
static __thread account_cell_t *account_cell;

static __attribute__((noinline)) account_cell_t *account_cell_assign(void)
{
    uint32_t n = __atomic_fetch_add(&account_cell_count, 1, __ATOMIC_RELAXED);
    /* Threads beyond the table share the last cell, with atomic adds in account_add. */
    if (n >= DFLY_MAX_ACCOUNT_THREADS) n = DFLY_MAX_ACCOUNT_THREADS - 1;
    account_cell = &account_cells[n];
    return account_cell;
}

static inline void account_add(int account, int64_t delta)
{
    account_cell_t *cell = account_cell;
    if (__builtin_expect(cell == NULL, 0)) cell = account_cell_assign();
    if (__builtin_expect(cell == &account_cells[DFLY_MAX_ACCOUNT_THREADS - 1], 0))
        __atomic_add_fetch(&cell->bytes[account], delta, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&cell->bytes[account], cell->bytes[account] + delta, __ATOMIC_RELAXED);
}

static inline int64_t account_thread(int account)
{
    account_cell_t *cell = account_cell;
    return cell == NULL ? 0 : cell->bytes[account];
}

static inline int64_t account_total(int account)
{
    int64_t total = 0;
    uint32_t n = __atomic_load_n(&account_cell_count, __ATOMIC_ACQUIRE);
    if (n > DFLY_MAX_ACCOUNT_THREADS) n = DFLY_MAX_ACCOUNT_THREADS;
    for (uint32_t i = 0; i < n; i++)
        total += __atomic_load_n(&account_cells[i].bytes[account], __ATOMIC_RELAXED);
    return total;
}
#endif
