"""What the string commands share with their neighbours: overwriting a key, size limits, replies of values."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.database cimport drop_value, find_write, insert_key, set_deadline, update_begin
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_bulk, reply_t
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_ref_t
from dfly._core.store.object cimport OBJECT_SCRATCH, key_t, object_is_string, object_t, object_view
from dfly._core.sys.base cimport slice_t, unlikely

cdef enum:
    STRING_SIZE_MAX = 0xFFFFFFF0     # a heap object counts its bytes in 32 bits


cdef inline bint ref_has_deadline(const dash_ref_t *ref) noexcept nogil:
    return (ref.bucket.deadline >> ref.slot) & 1


cdef inline void drop_deadline(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    if unlikely(ref_has_deadline(ref)):
        set_deadline(scope, ref, DASH_NO_DEADLINE)


cdef inline void overwrite_key(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    """Leaves ref at the key, new or old, without deadline and with a value that the caller must replace
    before update_end (object_replace_string; of a new key an empty string)."""
    if find_write(scope, key, ref):
        update_begin(scope, ref)
        if unlikely(not object_is_string(&ref.entry.value)):
            drop_value(scope, &ref.entry.value)
        drop_deadline(scope, ref)
    else:
        insert_key(scope, key, ref)


cdef inline void reply_value(reply_t *reply, const object_t *value) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view = object_view(value, scratch)
    reply_bulk(reply, view.data, view.size)


cdef inline uint64_t string_size_limit(const scope_t *scope) noexcept nogil:
    cdef uint64_t limit = <uint64_t>scope.shard.settings.proto_max_bulk_len
    return limit if limit < STRING_SIZE_MAX else STRING_SIZE_MAX


# Replies Redis' error and returns False if a string of size + more bytes would be too long.
cdef bint check_string_size(scope_t *scope, reply_t *reply, uint64_t size, uint64_t more) noexcept nogil
# SET's change of a key that was looked up (found: ref is at it), with its events. deadline: DASH_NO_DEADLINE or
# a moment.
cdef void store_string(scope_t *scope, const key_t *key, dash_ref_t *ref, bint found, slice_t value,
                       int64_t deadline, bint keep_deadline) noexcept nogil
