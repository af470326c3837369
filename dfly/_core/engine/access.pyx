"""LRU clock and LFU counter of entries; see access.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport POLICY_ALLKEYS_LFU, POLICY_VOLATILE_LFU, settings_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.store.dash cimport dash_access_get, dash_access_set, dash_ref_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    STAMP_MASK = 0xFFFF
    COUNTER_MAX = 255


cdef bint policy_is_lfu(const settings_t *settings) noexcept nogil:
    return (settings.maxmemory_policy == POLICY_ALLKEYS_LFU
            or settings.maxmemory_policy == POLICY_VOLATILE_LFU)


cdef uint32_t decayed_counter(scope_t *scope, uint32_t word) noexcept nogil:
    """The counter loses one for each lfu-decay-time minutes since its last decrement."""
    cdef uint32_t minutes = <uint32_t>((scope.now_ms // 60000) & 0xFFFF)
    cdef uint32_t elapsed = (minutes - (word >> 8)) & 0xFFFF
    cdef uint32_t counter = word & 0xFF
    cdef int64_t decay = scope.shard.settings.lfu_decay_time
    cdef uint64_t periods = elapsed // <uint64_t>decay if decay > 0 else 0
    return <uint32_t>(counter - periods) if periods < counter else 0


cdef uint32_t incremented_counter(scope_t *scope, uint32_t counter) noexcept nogil:
    cdef double base
    if counter >= COUNTER_MAX:
        return COUNTER_MAX
    base = <double>counter - LFU_INITIAL
    if base < 0:
        base = 0
    if <double>(random_u64() >> 11) / 9007199254740992.0 < 1.0 / (base * scope.shard.settings.lfu_log_factor + 1):
        return counter + 1
    return counter


cdef inline uint32_t lfu_word(scope_t *scope, uint32_t counter) noexcept nogil:
    return <uint32_t>(((scope.now_ms // 60000) & 0xFFFF) << 8) | counter


cdef void access_touch(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    cdef uint32_t seconds = <uint32_t>((scope.now_ms // 1000) & ACCESS_MASK)
    cdef uint32_t word
    if scope.keep_access:
        return
    if not scope.database.table.access_tracking:
        # Written only when it changes: a read must not dirty the line each time.
        if ref.bucket.touched != <uint32_t>(seconds & STAMP_MASK):
            ref.bucket.touched = <unsigned short>(seconds & STAMP_MASK)
        return
    if policy_is_lfu(scope.shard.settings):
        word = dash_access_get(ref)
        dash_access_set(&scope.database.table, ref,
                        lfu_word(scope, incremented_counter(scope, decayed_counter(scope, word))))
    else:
        dash_access_set(&scope.database.table, ref, seconds)


cdef void access_start(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    cdef uint32_t seconds = <uint32_t>((scope.now_ms // 1000) & ACCESS_MASK)
    if not scope.database.table.access_tracking:
        ref.bucket.touched = <unsigned short>(seconds & STAMP_MASK)
    elif policy_is_lfu(scope.shard.settings):
        dash_access_set(&scope.database.table, ref, lfu_word(scope, LFU_INITIAL))
    else:
        dash_access_set(&scope.database.table, ref, seconds)


cdef void access_set_idle(scope_t *scope, dash_ref_t *ref, int64_t seconds) noexcept nogil:
    cdef int64_t clock = scope.now_ms // 1000
    cdef uint32_t word = <uint32_t>(clock - (seconds if seconds < clock else clock))
    if policy_is_lfu(scope.shard.settings):
        return
    if scope.database.table.access_tracking:
        dash_access_set(&scope.database.table, ref, word & ACCESS_MASK)
    else:
        ref.bucket.touched = <unsigned short>(word & STAMP_MASK)


cdef void access_set_frequency(scope_t *scope, dash_ref_t *ref, uint32_t counter) noexcept nogil:
    if policy_is_lfu(scope.shard.settings) and scope.database.table.access_tracking:
        dash_access_set(&scope.database.table, ref, lfu_word(scope, counter))


cdef int64_t access_idle_seconds(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    cdef uint32_t seconds = <uint32_t>((scope.now_ms // 1000) & ACCESS_MASK)
    if not scope.database.table.access_tracking:
        return (seconds - ref.bucket.touched) & STAMP_MASK
    return (seconds - dash_access_get(ref)) & ACCESS_MASK


cdef uint32_t access_frequency(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    return decayed_counter(scope, dash_access_get(ref))


cdef uint32_t access_eviction_score(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    if policy_is_lfu(scope.shard.settings):
        return COUNTER_MAX - access_frequency(scope, ref)
    return <uint32_t>access_idle_seconds(scope, ref)
