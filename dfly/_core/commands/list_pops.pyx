"""LMPOP, and the list commands that wait for elements: BLPOP, BRPOP, BLMPOP. All but the type is in pops.

What goes back goes to the end it came from; if the key is no list by then, it is as if the connection had gone a
moment later.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.lists cimport (LIST_WRONG_TYPE, is_list, list_lookup, list_pop_begin, list_pop_many,
                                        list_pop_one, list_push_element)
from dfly._core.commands.long_reads cimport long_read_t
from dfly._core.commands.pops cimport (POP_BARE, bmpop_keys, bmpop_step, bpop_step, mpop_keys, mpop_step,
                                       pop_family_init, pop_family_t, pop_look_t, read_bulk)
from dfly._core.engine.command cimport (ACL_BLOCKING, ACL_LIST, COMMAND_BLOCKING, COMMAND_MOVABLE_KEYS,
                                        COMMAND_NOSCRIPT, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_RW,
                                        command_spec_t, register_commands, transaction_row, transaction_t)
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef pop_family_t LISTS


cdef pop_look_t look(scope_t *scope, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    return <pop_look_t>list_lookup(scope, key, &ref)


cdef void pop(scope_t *scope, const key_t *key, uint64_t count, bint front, reply_t *reply) noexcept nogil:
    cdef dash_ref_t ref
    list_lookup(scope, key, &ref)
    reply_array(reply, 2)
    reply_bulk(reply, key.data, key.size)
    if count == POP_BARE:
        list_pop_one(scope, key, &ref, front, reply)
    else:
        list_pop_many(scope, key, &ref, count, front, reply)


cdef void begin(scope_t *scope, const key_t *key, uint64_t count, bint front, long_read_t *read) noexcept nogil:
    cdef dash_ref_t ref
    list_lookup(scope, key, &ref)
    list_pop_begin(scope, key, &ref, count, front, read)


cdef void put_back(scope_t *scope, const key_t *key, const char *text, int64_t count, bint front) noexcept nogil:
    cdef slice_t *elements
    cdef dash_ref_t ref
    cdef int64_t i
    if list_lookup(scope, key, &ref) == LIST_WRONG_TYPE:
        return
    elements = <slice_t *>net_alloc(count * sizeof(slice_t))
    for i in range(count):
        text = read_bulk(text, &elements[i])
    for i in range(count):
        list_push_element(scope, key, elements[count - 1 - i], front)
    net_free(elements)


cdef bint accepts(const object_t *value, const void *wanted, uint32_t position) noexcept nogil:
    return is_list(value)


LISTS.first_word = "left"
LISTS.last_word = "right"
LISTS.look = look
LISTS.pop = pop
LISTS.begin = begin
LISTS.is_cut = True
LISTS.put_back = put_back
pop_family_init(&LISTS, accepts)


cdef int lmpop_step(transaction_t *tx) noexcept nogil:
    return mpop_step(tx, &LISTS)


cdef int blpop_step(transaction_t *tx) noexcept nogil:
    return bpop_step(tx, &LISTS, True)


cdef int brpop_step(transaction_t *tx) noexcept nogil:
    return bpop_step(tx, &LISTS, False)


cdef int blmpop_step(transaction_t *tx) noexcept nogil:
    return bmpop_step(tx, &LISTS)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 4

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t take = COMMAND_WRITE | COMMAND_NOSCRIPT | COMMAND_BLOCKING
    cdef uint64_t keys = KEY_RW | KEY_ACCESS | KEY_DELETE
    cdef uint64_t acl = ACL_LIST | ACL_BLOCKING
    rows[0] = transaction_row("lmpop", -4, COMMAND_WRITE | COMMAND_MOVABLE_KEYS, ACL_LIST, 0, 0, 0, keys, lmpop_step)
    rows[0].get_keys = mpop_keys
    rows[1] = transaction_row("blpop", -3, take, acl, 1, -2, 1, keys, blpop_step)
    rows[2] = transaction_row("brpop", -3, take, acl, 1, -2, 1, keys, brpop_step)
    rows[3] = transaction_row("blmpop", -5, COMMAND_WRITE | COMMAND_BLOCKING | COMMAND_MOVABLE_KEYS, acl, 0, 0, 0,
                              keys, blmpop_step)
    rows[3].get_keys = bmpop_keys
    register_commands(rows, ROW_COUNT)
