"""Access words: how recently or how often a key was used, 24 bits an entry (Redis' LRU and LFU).

LRU: seconds modulo 2^24. LFU: 16 bits of minutes of the last decrement and 8 bits of a logarithmic
counter, as described in Redis' documentation of key eviction. When the policy needs neither, the bucket's
16-bit stamp serves OBJECT IDLETIME approximately.
"""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.engine.shard cimport database_t, scope_t
from dfly._core.store.dash cimport dash_ref_t

cdef enum:
    LFU_INITIAL = 5
    ACCESS_MASK = 0xFFFFFF

cdef void access_touch(scope_t *scope, dash_ref_t *ref) noexcept nogil
cdef void access_start(scope_t *scope, dash_ref_t *ref) noexcept nogil           # of a new entry
cdef int64_t access_idle_seconds(scope_t *scope, dash_ref_t *ref) noexcept nogil
cdef uint32_t access_frequency(scope_t *scope, dash_ref_t *ref) noexcept nogil   # decayed LFU counter
cdef bint policy_is_lfu(const settings_t *settings) noexcept nogil
# What RESTORE brings along; a word of the kind that the policy does not keep is ignored.
cdef void access_set_idle(scope_t *scope, dash_ref_t *ref, int64_t seconds) noexcept nogil
cdef void access_set_frequency(scope_t *scope, dash_ref_t *ref, uint32_t counter) noexcept nogil
# Higher means a better candidate for eviction.
cdef uint32_t access_eviction_score(scope_t *scope, dash_ref_t *ref) noexcept nogil
