"""Shards and their tokens: see shard.pxd for the protocol.

Invariants: shard data is touched only while its token is held; whoever frees it looks into the inbox
afterwards, so a message that was pushed while the token was taken is always run by somebody. While
the token is free the backlog is empty. Accounts: the thread's allocation balance is read when the books
are opened and when they are closed; the difference is this shard's.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport (POLICY_ALLKEYS_LFU, POLICY_ALLKEYS_LRU, POLICY_VOLATILE_LFU,
                                         POLICY_VOLATILE_LRU, settings_t)
from dfly._core.engine.tracking_table cimport tracking_table_free_step
from dfly._core.loop.mailbox cimport mailbox_init, mailbox_is_empty, mailbox_push, mailbox_take, message_t
from dfly._core.loop.proactor cimport proactor_post
from dfly._core.store.dash cimport dash_clear, dash_init, dash_enable_access_tracking
from dfly._core.store.object cimport object_free
from dfly._core.sys.alloc cimport mem_free, mem_thread_balance, mem_zalloc, net_free, net_zalloc
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, DFLY_DCHECK, atomic_cas, atomic_load_relaxed, atomic_store,
                                  atomic_store_relaxed, dfly_on_thread_stack, full_fence, likely, unlikely)

__abi__ = DFLY_ABI_STAMP

cdef extern from "sched.h" nogil:
    int sched_yield() noexcept

cdef extern from *:
    """
    #if defined(__x86_64__)
    #define dfly_cpu_pause() __builtin_ia32_pause()
    #else
    #define dfly_cpu_pause() __asm__ __volatile__("yield" ::: "memory")
    #endif
    """
    void cpu_pause "dfly_cpu_pause"() noexcept nogil

cdef enum:
    LOCK_SPINS = 50


cdef shard_t *shard_new(uint32_t index, uint32_t shard_count, const settings_t *settings) noexcept nogil:
    cdef shard_t *self = <shard_t *>net_zalloc(sizeof(shard_t))
    mailbox_init(&self.inbox)
    self.index = index
    self.shard_count = shard_count
    self.settings = settings
    self.databases = <database_t **>net_zalloc(settings.databases * sizeof(database_t *))
    return self


cdef void shard_free(shard_t *self) noexcept nogil:
    cdef uint32_t i
    cdef reclaim_t *dropped
    cdef purge_t *purge
    while self.kept != NULL:
        dropped = self.kept
        self.kept = dropped.next
        dropped.next = self.reclaim
        self.reclaim = dropped
    for i in range(self.settings.databases):
        if self.databases[i] != NULL:
            dash_clear(&self.databases[i].table)
            dash_clear(&self.databases[i].members)
            while self.databases[i].purges != NULL:
                purge = self.databases[i].purges
                self.databases[i].purges = purge.next
                net_free(purge)
            mem_free(self.databases[i])
    while self.reclaim != NULL:
        dropped = self.reclaim
        self.reclaim = dropped.next
        dash_clear(&dropped.table)
        dash_clear(&dropped.members)
        object_free(&dropped.value)
        tracking_table_free_step(&dropped.tracked, dropped.tracked.count)
        mem_free(dropped)
    tracking_table_free_step(&self.tracked, self.tracked.count)
    net_free(self.databases)
    net_free(self)


cdef void shard_open_books(shard_t *self) noexcept nogil:
    self.balance_at_acquire = mem_thread_balance()


cdef void shard_close_books(shard_t *self) noexcept nogil:
    # Others add it up meanwhile.
    atomic_store_relaxed(<uint64_t *>&self.used_bytes,
                         <uint64_t>(self.used_bytes + mem_thread_balance() - self.balance_at_acquire))


cdef bint shard_try_lock(shard_t *self) noexcept nogil:
    return atomic_load_relaxed(&self.token) == 0 and atomic_cas(&self.token, 0, 1)


cdef bint shard_try_acquire(shard_t *self) noexcept nogil:
    if not shard_try_lock(self):
        return False
    shard_open_books(self)
    return True


cdef void shard_acquire(shard_t *self) noexcept nogil:
    cdef int spins = 0
    while not shard_try_acquire(self):
        spins += 1
        if spins > 64:
            sched_yield()


cdef void hand_over(message_t *message, void *context) noexcept nogil:
    """Marks a grant_t in the inbox; never called."""


cdef bint run_backlog(shard_t *self) noexcept nogil:
    """Runs what was taken out of the inbox; False if the token now belongs to somebody else."""
    cdef message_t *message
    cdef grant_t *grant
    shard_open_books(self)
    while self.backlog != NULL:
        message = self.backlog
        self.backlog = message.next
        if message.run == hand_over:
            shard_close_books(self)
            grant = <grant_t *>message
            message.run = grant.on_granted
            proactor_post(grant.home, message)
            return False
        self.stats.inbox_messages += 1
        message.run(message, self)
    shard_close_books(self)
    return True


cdef void shard_unlock(shard_t *self) noexcept nogil:
    while True:
        if unlikely(self.backlog != NULL) and not run_backlog(self):
            return
        atomic_store(&self.token, 0)
        # A producer pushes, then tries the token; we free the token, then look: with a full fence
        # between the two steps on both sides one of us sees the other.
        full_fence()
        if likely(mailbox_is_empty(&self.inbox)):
            return
        if not shard_try_lock(self):
            return
        self.backlog = mailbox_take(&self.inbox)


cdef void shard_release(shard_t *self) noexcept nogil:
    shard_close_books(self)
    shard_unlock(self)


cdef void enqueue(shard_t *self, message_t *message) noexcept nogil:
    mailbox_push(&self.inbox, message)
    full_fence()
    if shard_try_lock(self):
        self.backlog = mailbox_take(&self.inbox)
        shard_unlock(self)


cdef bint shard_submit(shard_t *self, message_t *message) noexcept nogil:
    # Also if it runs at once: next time it will not.
    DFLY_DCHECK(not dfly_on_thread_stack(message), "a message to a shard must not lie on a stack")
    if shard_try_acquire(self):
        message.run(message, self)
        shard_release(self)
        return True
    enqueue(self, message)
    return False


cdef bint shard_lock(shard_t *self, grant_t *grant) noexcept nogil:
    cdef int _i
    DFLY_DCHECK(not dfly_on_thread_stack(grant), "a grant must not lie on a stack")
    # Most holders are done within a microsecond; a message there and back costs several.
    for _i in range(LOCK_SPINS):
        if shard_try_lock(self):
            return True
        cpu_pause()
    grant.message.run = hand_over
    enqueue(self, &grant.message)
    return False


cdef void tokens_release(token_set_t *self, shard_t **shards) noexcept nogil:
    # Descending: who waits for the first of them will find the others free.
    while self.count > 0:
        self.count -= 1
        shard_unlock(shards[self.shards[self.count]])


cdef bint policy_tracks_access(int64_t policy) noexcept nogil:
    return (policy == POLICY_ALLKEYS_LRU or policy == POLICY_ALLKEYS_LFU
            or policy == POLICY_VOLATILE_LRU or policy == POLICY_VOLATILE_LFU)


cdef database_t *shard_database(shard_t *self, uint32_t index) noexcept nogil:
    cdef database_t *database = self.databases[index]
    if database == NULL:
        database = <database_t *>mem_zalloc(sizeof(database_t))
        dash_init(&database.table)
        database.index = index
        if policy_tracks_access(self.settings.maxmemory_policy):
            dash_enable_access_tracking(&database.table, <uint32_t>atomic_load_relaxed(&self.access_clock))
        self.databases[index] = database
    return database


cdef int64_t shard_total_used(shard_t *self) noexcept nogil:
    cdef int64_t total = 0
    cdef uint32_t i
    for i in range(self.shard_count):
        total += <int64_t>atomic_load_relaxed(<const uint64_t *>&self.siblings[i].used_bytes)
    # What this thread changed since it took its token is not booked yet.
    return total + mem_thread_balance() - self.balance_at_acquire
