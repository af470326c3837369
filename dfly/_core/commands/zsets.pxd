"""What sorted set commands are made of, for those with ranges, with several keys, and those that wait.

All of it runs under the token of the scope's shard. A sorted set key exists only while it has members.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.long_reads cimport long_read_t
from dfly._core.engine.command cimport call_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.store.sorted_set cimport zset_entry_t, zset_limits_t

cdef enum zset_lookup_t:
    ZSET_ABSENT = 0
    ZSET_FOUND = 1
    ZSET_WRONG_TYPE = 2

cdef enum add_flag_t:
    ADD_NX = 1
    ADD_XX = 2
    ADD_GT = 4
    ADD_LT = 8
    ADD_CH = 16
    ADD_INCR = 32

cdef zset_limits_t zset_limits_of(const scope_t *scope) noexcept nogil
# Nothing is replied.
cdef zset_lookup_t zset_lookup_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
cdef zset_lookup_t zset_lookup_write(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
# Of the call's key; False after the wrong type's error was replied.
cdef bint find_zset(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil
cdef bint find_zset_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil
# After members were removed: announces that, and deletes a key without members.
cdef void zset_finish_removal(scope_t *scope, const key_t *key, dash_ref_t *ref, const char *event) noexcept nogil
# A new value for a key, whatever it holds; an empty one (no members) deletes the key. Takes over *value.
cdef void zset_store(scope_t *scope, const key_t *key, object_t *value, const char *event) noexcept nogil

# ZADD of as many members as there are groups of `stride` arguments from `first` on; the last of each is the member.
cdef void zset_add_all(call_t *call, const double *scores, uint32_t first, uint32_t stride,
                       uint32_t flags) noexcept nogil

# `nested`: the pair as an array of its own, as RESP3 has them.
cdef void reply_zset_entry(reply_t *reply, const zset_entry_t *entry, bint with_score, bint nested) noexcept nogil
# The header of so many of them.
cdef void reply_zset_header(reply_t *reply, uint64_t count, bint with_scores) noexcept nogil
# Replies the first or last `count` members, which it has, and removes them.
cdef void zset_pop(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count, bint from_end, bint nested,
                   reply_t *reply) noexcept nogil
# The same for slices: they are removed with the last of them.
cdef void zset_pop_begin(const object_t *value, uint64_t count, bint from_end, bint nested,
                         long_read_t *read) noexcept nogil
cdef bint zset_long_argument(reply_t *reply, const char *data, size_t size, int64_t *out) noexcept nogil
