"""What set commands are made of, for those over several keys.

All of it runs under the token of the scope's shard. A set key exists only while it has members.
"""

from dfly._core.engine.command cimport call_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.member_set cimport set_limits_t
from dfly._core.store.object cimport key_t, object_t

cdef enum set_lookup_t:
    SET_ABSENT = 0
    SET_FOUND = 1
    SET_WRONG_TYPE = 2

# Look a set up; its members that are due are gone then, and with the last one the key. Nothing is replied.
cdef set_lookup_t set_lookup_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
cdef set_lookup_t set_lookup_write(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
# After members were removed: announces that, and deletes a key without members.
cdef void set_finish_removal(scope_t *scope, const key_t *key, dash_ref_t *ref, const char *event) noexcept nogil
# An array with RESP2, a set with RESP3.
cdef void reply_set_members(reply_t *reply, const object_t *value) noexcept nogil
cdef void reply_member(reply_t *reply, const list_item_t *item) noexcept nogil
# Serves SINTER, SUNION and SDIFF of one key as well.
cdef void smembers_command(call_t *call) noexcept nogil
cdef set_limits_t set_limits_of(const scope_t *scope) noexcept nogil
