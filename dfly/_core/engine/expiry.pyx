"""Active expiry and background reclaim of one shard, in slices. See expiry.pxd.

Lazy expiry (a read finds a dead key) is in engine/database; this is the timer's half.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.database cimport NOTIFY_EXPIRED, delete_key, get_deadline
from dfly._core.engine.latency cimport LATENCY_EXPIRE_DEL, latency_start, latency_stop
from dfly._core.engine.member_expiry cimport members_next_deadline
from dfly._core.engine.shard cimport database_t, purge_t, reclaim_t, scope_t, shard_t
from dfly._core.engine.tracking_table cimport tracking_table_free_step
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_clear_step, dash_find, dash_next_due, dash_ref_t, dash_t,
                                    dash_visit_due)
from dfly._core.store.dash_scan cimport dash_sample
from dfly._core.store.object cimport (OBJECT_SCRATCH, key_init, key_t, object_free_step,
                                      object_is_string, object_purge_step, object_t, object_view)
from dfly._core.sys.alloc cimport mem_free, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    TTL_SAMPLES = 20             # keys of a database in one sample


cdef bint expire_visit(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef scope_t *scope = <scope_t *>context
    cdef char scratch[OBJECT_SCRATCH]
    cdef object_t stored = ref.entry.key
    cdef slice_t text = object_view(&stored, scratch)
    cdef key_t key
    cdef int64_t lag = scope.now_ms - get_deadline(ref)
    cdef uint64_t started
    if lag > scope.shard.stats.expire_lag_ms_max:
        scope.shard.stats.expire_lag_ms_max = lag
    key_init(&key, text.data, text.size)
    scope.shard.stats.expired_keys += 1
    scope.database.expired += 1
    started = latency_start(scope.shard.settings)
    delete_key(scope, &key, ref, NOTIFY_EXPIRED, "expired")
    latency_stop(&scope.shard.latency, scope.shard.settings, LATENCY_EXPIRE_DEL, started)
    return True


cdef uint64_t expire_due(shard_t *shard, int64_t now_ms, uint64_t budget) noexcept nogil:
    cdef scope_t scope
    cdef uint64_t done = 0
    cdef uint32_t i
    scope.shard = shard
    scope.now_ms = now_ms
    scope.client_id = 0
    scope.keep_access = True
    for i in range(shard.settings.databases):
        scope.database = shard.databases[i]
        if scope.database != NULL and scope.database.table.deadline_count != 0 and done < budget:
            done += dash_visit_due(&scope.database.table, now_ms, budget - done, expire_visit, &scope)
    return done


cdef int64_t next_deadline(shard_t *shard) noexcept nogil:
    cdef int64_t earliest = DASH_NO_DEADLINE
    cdef int64_t due
    cdef uint32_t i
    for i in range(shard.settings.databases):
        if shard.databases[i] == NULL:
            continue
        if shard.databases[i].table.deadline_count != 0:
            due = dash_next_due(&shard.databases[i].table)
            if due != DASH_NO_DEADLINE and (earliest == DASH_NO_DEADLINE or due < earliest):
                earliest = due
        due = members_next_deadline(shard.databases[i])
        if due != DASH_NO_DEADLINE and (earliest == DASH_NO_DEADLINE or due < earliest):
            earliest = due
    return earliest


cdef void sample_ttls(shard_t *shard, int64_t now_ms) noexcept nogil:
    cdef dash_ref_t refs[TTL_SAMPLES]
    cdef database_t *database
    cdef int64_t sum_ms
    cdef int64_t live
    cdef int64_t due = 0
    cdef int64_t looked_at = 0
    cdef uint32_t taken
    cdef uint32_t i
    cdef uint32_t d
    for d in range(shard.settings.databases):
        database = shard.databases[d]
        if database == NULL:
            continue
        if database.table.deadline_count == 0:
            database.avg_ttl_ms = 0
            continue
        taken = dash_sample(&database.table, random_u64(), True, refs, TTL_SAMPLES)
        sum_ms = 0
        live = 0
        for i in range(taken):
            if get_deadline(&refs[i]) > now_ms:
                sum_ms += get_deadline(&refs[i]) - now_ms
                live += 1
        looked_at += taken
        due += <int64_t>taken - live
        if live > 0:
            # Redis' weights: a new sample counts for 2 %, the first one for all.
            if database.avg_ttl_ms == 0:
                database.avg_ttl_ms = sum_ms // live
            else:
                database.avg_ttl_ms = database.avg_ttl_ms // 50 * 49 + sum_ms // live // 50
    shard.stats.expire_stale_part *= 0.95
    if looked_at > 0:
        shard.stats.expire_stale_part += 0.05 * <double>due / <double>looked_at


cdef bint reclaim_step(shard_t *shard, uint64_t budget) noexcept nogil:
    cdef reclaim_t *dropped = shard.reclaim
    cdef uint64_t freed          # keys
    cdef bint is_done
    if dropped == NULL:
        return True
    if dropped.tracked.count != 0:
        is_done = tracking_table_free_step(&dropped.tracked, budget)
        freed = 0
    elif dropped.members.directory != NULL:
        dash_clear_step(&dropped.members, &budget)
        return False
    elif object_is_string(&dropped.value):
        freed = dropped.table.count
        is_done = dash_clear_step(&dropped.table, &budget)
        freed -= dropped.table.count
    else:
        is_done = object_free_step(&dropped.value, &budget)
        freed = is_done
    if is_done:
        shard.reclaim = dropped.next
        mem_free(dropped)
    shard.reclaim_pending -= freed
    shard.stats.lazyfreed_objects += freed
    return shard.reclaim == NULL


cdef bint purge_first(database_t *database, uint64_t *budget) noexcept nogil:
    """No change that anybody sees: neither bucket version nor a walk of a snapshot has to do with it."""
    cdef purge_t *purge = database.purges
    cdef dash_ref_t ref
    cdef key_t key
    key_init(&key, purge.name, purge.size)
    if dash_find(&database.table, &key, &ref) and not object_purge_step(&ref.entry.value, budget):
        return False
    database.purges = purge.next
    net_free(purge)
    return True


cdef bint purge_step(shard_t *shard, uint64_t budget) noexcept nogil:
    cdef database_t *database
    cdef uint32_t i
    for i in range(shard.settings.databases):
        database = shard.databases[i]
        while database != NULL and database.purges != NULL:
            if not purge_first(database, &budget):
                return False
            shard.purge_count -= 1
    return True
