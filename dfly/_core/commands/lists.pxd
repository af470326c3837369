"""What list commands are made of, for those that move between keys, those that wait and those that edit.

All of it runs under the token of the scope's shard. A list key exists only while it has elements.
"""

from libc.stdint cimport uint64_t

from dfly._core.commands.long_reads cimport long_read_t
from dfly._core.engine.command cimport call_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.block_list cimport list_item_t, list_limits, list_limits_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport TYPE_LIST, key_t, object_is_container, object_t
from dfly._core.sys.base cimport slice_t

cdef enum list_lookup_t:
    LIST_ABSENT = 0
    LIST_FOUND = 1
    LIST_WRONG_TYPE = 2

# Looks a list up for writing; nothing is replied.
cdef list_lookup_t list_lookup(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil
# The same; False after the wrong type's error was replied.
cdef bint list_find_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil
# After elements went: announces it, and deletes a key without elements.
cdef void list_finish_removal(scope_t *scope, const key_t *key, dash_ref_t *ref, const char *event) noexcept nogil
# Pushes one element, which must not lie in this list. The key holds a list or does not exist.
cdef void list_push_element(scope_t *scope, const key_t *key, slice_t element, bint front) noexcept nogil
# Of a list just looked up: drops elements, announces that, deletes the key if it was the last.
cdef void list_drop_elements(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count,
                             bint front) noexcept nogil
# LPOP key: replies and drops one element. LPOP key count: an array of up to count elements.
cdef void list_pop_one(scope_t *scope, const key_t *key, dash_ref_t *ref, bint front,
                       reply_t *reply) noexcept nogil
cdef void list_pop_many(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count, bint front,
                        reply_t *reply) noexcept nogil
# The same for slices: the elements leave the key at once; then they are replied, whatever becomes of the key.
cdef void list_pop_begin(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count, bint front,
                         long_read_t *read) noexcept nogil
cdef void reply_list_item(reply_t *reply, const list_item_t *item) noexcept nogil
# LEFT (True) or RIGHT.
cdef bint parse_list_end(slice_t word, bint *front) noexcept nogil


cdef inline list_limits_t list_limits_of(const scope_t *scope) noexcept nogil:
    return list_limits(scope.shard.settings.list_max_listpack_size)


cdef inline bint is_list(const object_t *value) noexcept nogil:
    return object_is_container(value, TYPE_LIST)


cdef inline const char *list_push_event(bint front) noexcept nogil:
    if front:
        return "lpush"
    return "rpush"


cdef inline const char *list_pop_event(bint front) noexcept nogil:
    if front:
        return "lpop"
    return "rpop"
