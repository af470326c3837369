"""Eviction by sampling; see eviction.pxd. Redis' documentation of key eviction describes the policies."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.engine.access cimport access_eviction_score
from dfly._core.engine.database cimport NOTIFY_EVICTED, delete_key, get_deadline
from dfly._core.engine.expiry cimport reclaim_step
from dfly._core.engine.latency cimport (LATENCY_EVICTION_CYCLE, LATENCY_EVICTION_DEL, latency_start,
                                        latency_stop)
from dfly._core.engine.settings cimport (POLICY_ALLKEYS_LRU, POLICY_ALLKEYS_RANDOM, POLICY_NOEVICTION,
                                         POLICY_VOLATILE_LFU, POLICY_VOLATILE_LRU, POLICY_VOLATILE_RANDOM,
                                         POLICY_VOLATILE_TTL, settings_t)
from dfly._core.engine.shard cimport policy_tracks_access, scope_t, shard_t, shard_total_used
from dfly._core.store.dash cimport dash_enable_access_tracking, dash_ref_t
from dfly._core.store.dash_scan cimport dash_sample
from dfly._core.store.object cimport OBJECT_SCRATCH, key_init, key_t, object_t, object_view
from dfly._core.sys.alloc cimport ACCOUNT_DATA, ACCOUNT_NET, mem_total
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_load_relaxed, slice_t, unlikely
from dfly._core.sys.clock cimport monotonic_us
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    SAMPLE_MAX = 64
    EVICT_PER_WRITE = 64         # at most so many keys go for one write; the next write goes on
    RECLAIMS_PER_WRITE = 16      # and so many steps of freeing what was dropped
    RECLAIM_STEP = 64

cdef int64_t net_baseline = 0


cdef void eviction_set_baseline() noexcept nogil:
    global net_baseline
    net_baseline = mem_total(ACCOUNT_NET)


cdef void eviction_exempt(int64_t bytes_) noexcept nogil:
    atomic_add(<uint64_t *>&net_baseline, <uint64_t>bytes_)


cdef inline int64_t baseline() noexcept nogil:
    return <int64_t>atomic_load_relaxed(<uint64_t *>&net_baseline)


cdef int64_t memory_in_use(shard_t *shard) noexcept nogil:
    cdef int64_t net = mem_total(ACCOUNT_NET) - baseline()
    # Whole megabytes of buffers: a small one that comes and goes with each tick must not make writes
    # fail and succeed in turn at the limit.
    return shard_total_used(shard) + (net >> 20 << 20 if net > 0 else 0)


cdef int64_t memory_used_total() noexcept nogil:
    cdef int64_t net = mem_total(ACCOUNT_NET) - baseline()
    return mem_total(ACCOUNT_DATA) + (net >> 20 << 20 if net > 0 else 0)


cdef inline bint only_volatile(int64_t policy) noexcept nogil:
    return (policy == POLICY_VOLATILE_LRU or policy == POLICY_VOLATILE_LFU
            or policy == POLICY_VOLATILE_RANDOM or policy == POLICY_VOLATILE_TTL)


cdef uint64_t candidate_score(scope_t *scope, dash_ref_t *ref, int64_t policy) noexcept nogil:
    """Higher goes first."""
    cdef int64_t deadline
    if policy == POLICY_VOLATILE_TTL:
        deadline = get_deadline(ref)
        return ~<uint64_t>deadline
    if policy == POLICY_ALLKEYS_RANDOM or policy == POLICY_VOLATILE_RANDOM:
        return 0
    return access_eviction_score(scope, ref)


cdef bint evict_one(scope_t *scope) noexcept nogil:
    """Evicts the best candidate of a sample over the shard's databases; False if there is none."""
    cdef settings_t settings = scope.shard.settings[0]
    cdef dash_ref_t refs[SAMPLE_MAX]
    cdef scope_t best_scope = scope[0]
    cdef scope_t here = scope[0]
    cdef dash_ref_t best
    cdef uint64_t best_score = 0
    cdef uint64_t score
    cdef bint found = False
    cdef int64_t policy = settings.maxmemory_policy
    cdef uint32_t wanted = <uint32_t>settings.maxmemory_samples
    cdef uint32_t count
    cdef uint32_t i
    cdef uint32_t d
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t text
    cdef object_t stored
    cdef key_t key
    cdef uint64_t started
    if settings.cache_mode and policy == POLICY_NOEVICTION:
        policy = POLICY_ALLKEYS_LRU
    if wanted > SAMPLE_MAX:
        wanted = SAMPLE_MAX
    memset(&best, 0, sizeof(best))
    for d in range(settings.databases):
        here.database = scope.shard.databases[d]
        if here.database == NULL or here.database.table.count == 0:
            continue
        if policy_tracks_access(policy) and not here.database.table.access_tracking:
            dash_enable_access_tracking(&here.database.table, <uint32_t>((scope.now_ms // 1000) & 0xFFFFFF))
        count = dash_sample(&here.database.table, random_u64(), only_volatile(policy), refs, wanted)
        for i in range(count):
            score = candidate_score(&here, &refs[i], policy)
            if not found or score > best_score:
                found = True
                best_score = score
                best = refs[i]
                best_scope = here
    if not found:
        return False
    stored = best.entry.key
    text = object_view(&stored, scratch)
    key_init(&key, text.data, text.size)
    scope.shard.stats.evicted_keys += 1
    started = latency_start(scope.shard.settings)
    delete_key(&best_scope, &key, &best, NOTIFY_EVICTED, "evicted")
    latency_stop(&scope.shard.latency, scope.shard.settings, LATENCY_EVICTION_DEL, started)
    return True


cdef void note_limit(shard_t *shard, bint is_over) noexcept nogil:
    """Adds up the time above the limit, from one look at it to the next."""
    cdef int64_t now_us
    if not is_over and shard.over_limit_since_us == 0:
        return
    now_us = monotonic_us()
    if shard.over_limit_since_us != 0 and not is_over:
        shard.stats.eviction_exceeded_us += <uint64_t>(now_us - shard.over_limit_since_us)
        shard.over_limit_since_us = 0
    elif shard.over_limit_since_us == 0:
        shard.over_limit_since_us = now_us


cdef bint make_room(scope_t *scope) noexcept nogil:
    cdef shard_t *shard = scope.shard
    cdef uint64_t started
    cdef bint has_room = True
    if shard.settings.maxmemory == 0:
        return True
    if memory_in_use(shard) > shard.settings.maxmemory:
        started = latency_start(shard.settings)
        has_room = evict_to(scope, shard.settings.maxmemory)
        latency_stop(&shard.latency, shard.settings, LATENCY_EVICTION_CYCLE, started)
        note_limit(shard, memory_in_use(shard) > shard.settings.maxmemory)
    elif unlikely(shard.over_limit_since_us != 0):
        note_limit(shard, False)
    return has_room


cdef bint evict_to(scope_t *scope, int64_t limit) noexcept nogil:
    """False if the write must be refused."""
    cdef shard_t *shard = scope.shard
    cdef uint32_t evicted = 0
    cdef uint32_t reclaimed = 0
    while memory_in_use(shard) > limit:
        if shard.reclaim != NULL and reclaimed < RECLAIMS_PER_WRITE:
            # What was dropped but not freed yet comes before other keys.
            reclaim_step(shard, RECLAIM_STEP)
            reclaimed += 1
            continue
        if unlikely(shard.kept != NULL):
            # What was flushed goes when the snapshot is over that still needs it: no other key for that.
            return True
        if shard.settings.maxmemory_policy == POLICY_NOEVICTION and not shard.settings.cache_mode:
            return False
        if evicted >= EVICT_PER_WRITE or shard.reclaim != NULL:
            return True
        if not evict_one(scope):
            return False
        evicted += 1
    return True
