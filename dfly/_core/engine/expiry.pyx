"""Active expiry and background reclaim of one shard, in slices. See expiry.pxd.

Lazy expiry (a read finds a dead key) is in engine/database; this is the timer's half.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.database cimport NOTIFY_EXPIRED, delete_key, get_deadline
from dfly._core.engine.shard cimport reclaim_t, scope_t, shard_t
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_clear_step, dash_next_due, dash_ref_t, dash_t,
                                    dash_visit_due)
from dfly._core.store.object cimport OBJECT_SCRATCH, key_init, key_t, object_t, object_view
from dfly._core.sys.alloc cimport mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef bint expire_visit(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef scope_t *scope = <scope_t *>context
    cdef char scratch[OBJECT_SCRATCH]
    cdef object_t stored = ref.entry.key
    cdef slice_t text = object_view(&stored, scratch)
    cdef key_t key
    cdef int64_t lag = scope.now_ms - get_deadline(ref)
    if lag > scope.shard.stats.expire_lag_ms_max:
        scope.shard.stats.expire_lag_ms_max = lag
    key_init(&key, text.data, text.size)
    scope.shard.stats.expired_keys += 1
    scope.database.expired += 1
    delete_key(scope, &key, ref, NOTIFY_EXPIRED, "expired")
    return True


cdef uint64_t expire_due(shard_t *shard, int64_t now_ms, uint64_t budget) noexcept nogil:
    cdef scope_t scope
    cdef uint64_t done = 0
    cdef uint32_t i
    scope.shard = shard
    scope.now_ms = now_ms
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
        if shard.databases[i] == NULL or shard.databases[i].table.deadline_count == 0:
            continue
        due = dash_next_due(&shard.databases[i].table)
        if due != DASH_NO_DEADLINE and (earliest == DASH_NO_DEADLINE or due < earliest):
            earliest = due
    return earliest


cdef bint reclaim_step(shard_t *shard, uint64_t budget) noexcept nogil:
    cdef reclaim_t *dropped = shard.reclaim
    if dropped == NULL:
        return True
    if dash_clear_step(&dropped.table, budget):
        shard.reclaim = dropped.next
        mem_free(dropped)
    return shard.reclaim == NULL
