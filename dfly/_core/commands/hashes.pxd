"""What hash commands are made of. All of it runs under the token of the scope's shard.

A hash key exists only while it has fields.
"""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.engine.command cimport call_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_bulk, reply_bulk_int, reply_t
from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hash_map cimport hash_limits_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.sys.base cimport likely, slice_t

cdef hash_limits_t hash_limits(const scope_t *scope) noexcept nogil
# For reading and for changing; False after the wrong type's error was replied.
cdef bint find_hash(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil
cdef bint find_hash_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil
# A key for hash_set: looked up, or new and empty.
cdef object_t *hash_begin(call_t *call, dash_ref_t *ref, bint found) noexcept nogil
# `revived` fields were due and have been set anew: to listeners they expired first.
cdef void announce_revived(call_t *call, uint64_t revived) noexcept nogil
# After fields went: announces it, and deletes a key without fields.
cdef void finish_hash_removal(call_t *call, dash_ref_t *ref, const char *event) noexcept nogil
# Replies a field's value, or null.
cdef void reply_field(reply_t *reply, const object_t *hash, slice_t field, int64_t now_ms) noexcept nogil


cdef inline void reply_hash_item(reply_t *reply, const list_item_t *item) noexcept nogil:
    if likely(item.data != NULL):
        reply_bulk(reply, item.data, item.size)
    else:
        reply_bulk_int(reply, item.integer)
