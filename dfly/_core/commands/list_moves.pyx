"""LMOVE and RPOPLPUSH, and what their blocking forms share with them: see list_moves.pxd.

An element that moves between shards is not copied: its bytes stay in the source's block while the hop at
the destination reads them, since the transaction holds both tokens. The hops follow the order of Redis'
events: push, pop, del.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dfly._core.commands.lists cimport (LIST_ABSENT, LIST_FOUND, LIST_WRONG_TYPE, list_drop_elements,
                                        list_lookup, list_lookup_t, list_pop_event, list_push_element,
                                        list_push_event, parse_list_end, reply_list_item)
from dfly._core.engine.command cimport (ACL_LIST, COMMAND_DENYOOM, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_RW,
                                        TRANSACTION_DONE, command_spec_t, register_commands, reply_syntax_error,
                                        reply_wrong_type, transaction_row, transaction_t)
from dfly._core.engine.database cimport NOTIFY_LIST, notify, update_begin, update_end
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport reply_bulk, reply_null, reply_t
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, block_list_t, list_drop, list_item_t,
                                          list_item_text, list_limits, list_limits_t, list_peek, list_push)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t, object_pointer, object_root
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    FROM_FRONT = 6
    TO_FRONT = 7
    ELEMENT_ON_STACK_MAX = 512

cdef enum step_t:
    STEP_START = 0
    STEP_LOOKED = 1
    STEP_PEEKED = 2
    STEP_PUSHED = 3
    STEP_LAST = 4


# ---- On one shard ------------------------------------------------------------------------------

cdef inline bint same_key(const key_t *a, const key_t *b) noexcept nogil:
    return a.hash == b.hash and a.size == b.size and memcmp(a.data, b.data, a.size) == 0


cdef void rotate(scope_t *scope, const key_t *key, dash_ref_t *ref, bint from_front, bint to_front,
                 reply_t *reply) noexcept nogil:
    """From one end of a list to an end of the same list."""
    cdef list_limits_t limits = list_limits(scope.shard.settings.list_max_listpack_size)
    cdef block_list_t *root = object_root(&ref.entry.value)
    cdef char stack[ELEMENT_ON_STACK_MAX]
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef char *copy = stack
    cdef list_item_t item
    cdef slice_t text
    list_peek(root[0], from_front, &item)
    text = list_item_text(&item, scratch)
    reply_bulk(reply, text.data, text.size)
    if text.size > ELEMENT_ON_STACK_MAX:
        copy = <char *>net_alloc(text.size)
    memcpy(copy, text.data, text.size)
    update_begin(scope, ref)
    list_drop(root, 1, from_front, NULL)
    list_push(root, copy, text.size, to_front, &limits)
    update_end(scope, key, NOTIFY_LIST, list_push_event(to_front))
    notify(scope, key, NOTIFY_LIST, list_pop_event(from_front))
    if copy != stack:
        net_free(copy)


cdef bint list_move(scope_t *scope, const key_t *source, const key_t *destination, bint from_front,
                    bint to_front, reply_t *reply) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef dash_ref_t ref
    cdef dash_ref_t target
    cdef list_item_t item
    cdef list_lookup_t found = list_lookup(scope, source, &ref)
    if found == LIST_ABSENT:
        return False
    if found == LIST_FOUND and same_key(source, destination):
        rotate(scope, source, &ref, from_front, to_front, reply)
        return True
    if found == LIST_WRONG_TYPE or list_lookup(scope, destination, &target) == LIST_WRONG_TYPE:
        reply_wrong_type(reply)
        return True
    # Looking at one key may expire it and move entries; the element's bytes lie in the list's own block.
    list_lookup(scope, source, &ref)
    list_peek(object_pointer(&ref.entry.value), from_front, &item)
    reply_list_item(reply, &item)
    list_push_element(scope, destination, list_item_text(&item, scratch), to_front)
    list_lookup(scope, source, &ref)
    list_drop_elements(scope, source, &ref, 1, from_front)
    return True


# ---- Over shards -------------------------------------------------------------------------------

cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = list_lookup(&scope, &tx.keys[i], &ref)


cdef void move_here_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    list_move(&scope, &tx.keys[0], &tx.keys[1], tx.numbers[FROM_FRONT] != 0, tx.numbers[TO_FRONT] != 0,
              &tx.reply)


cdef void peek_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef list_item_t *item = <list_item_t *>tx.state
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    list_lookup(&scope, &tx.keys[0], &ref)
    list_peek(object_pointer(&ref.entry.value), tx.numbers[FROM_FRONT] != 0, item)
    reply_list_item(&tx.reply, item)


cdef void push_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    list_push_element(&scope, &tx.keys[1], list_item_text(<list_item_t *>tx.state, scratch),
                      tx.numbers[TO_FRONT] != 0)


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    list_lookup(&scope, &tx.keys[0], &ref)
    list_drop_elements(&scope, &tx.keys[0], &ref, 1, tx.numbers[FROM_FRONT] != 0)


cdef int finish(transaction_t *tx) noexcept nogil:
    tx.stage = STEP_START
    return TRANSACTION_DONE


cdef int list_move_step(transaction_t *tx, bint from_front, bint to_front) noexcept nogil:
    if tx.stage == STEP_START:
        tx.numbers[FROM_FRONT] = from_front
        tx.numbers[TO_FRONT] = to_front
        if tx.key_shards[0] == tx.key_shards[1]:
            tx.stage = STEP_LAST
            return hop_on_shard(tx, tx.key_shards[0], move_here_hop)
        tx.stage = STEP_LOOKED
        return hop_on_keys(tx, look_hop)
    if tx.stage == STEP_LOOKED:
        if tx.results[0].number == LIST_ABSENT:
            return finish(tx)
        if tx.results[0].number == LIST_WRONG_TYPE or tx.results[1].number == LIST_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return finish(tx)
        if tx.state == NULL:
            tx.state = net_alloc(sizeof(list_item_t))
        tx.stage = STEP_PEEKED
        return hop_on_shard(tx, tx.key_shards[0], peek_hop)
    if tx.stage == STEP_PEEKED:
        tx.stage = STEP_PUSHED
        return hop_on_shard(tx, tx.key_shards[1], push_hop)
    if tx.stage == STEP_PUSHED:
        tx.stage = STEP_LAST
        return hop_on_shard(tx, tx.key_shards[0], drop_hop)
    return finish(tx)


# ---- Commands ----------------------------------------------------------------------------------

cdef int move_generic(transaction_t *tx, bint from_front, bint to_front) noexcept nogil:
    cdef int result = list_move_step(tx, from_front, to_front)
    if result == TRANSACTION_DONE and tx.reply.size == 0:
        reply_null(&tx.reply)
    return result


cdef int lmove_step(transaction_t *tx) noexcept nogil:
    cdef bint from_front
    cdef bint to_front
    if not parse_list_end(tx.argv[3], &from_front) or not parse_list_end(tx.argv[4], &to_front):
        reply_syntax_error(&tx.reply)
        return TRANSACTION_DONE
    return move_generic(tx, from_front, to_front)


cdef int rpoplpush_step(transaction_t *tx) noexcept nogil:
    return move_generic(tx, False, True)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t take = KEY_RW | KEY_ACCESS | KEY_DELETE
    rows[0] = transaction_row("lmove", 5, grow, ACL_LIST, 1, 2, 1, take, lmove_step)
    rows[1] = transaction_row("rpoplpush", 3, grow, ACL_LIST, 1, 2, 1, take, rpoplpush_step)
    register_commands(rows, ROW_COUNT)
