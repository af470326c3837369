"""LINSERT and LREM: list commands that look for an element, in slices if there are many, and then change the list.

The search begins again when the list changes meanwhile (long_reads). LREM notes in which blocks it has found something.
If these are few it removes there; else it builds what is left aside, which takes the list's place. Order of checks,
replies and events as Redis 7.0.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.lists cimport list_find_to_change, list_finish_removal, list_limits_of
from dfly._core.commands.long_reads cimport (long_read_at_once, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted)
from dfly._core.engine.command cimport (ACL_LIST, COMMAND_DENYOOM, COMMAND_WRITE, KEY_DELETE, KEY_INSERT, KEY_RW,
                                        call_int_argument, call_t, command_spec_t, key_row, register_commands,
                                        reply_syntax_error, slice_equals, transaction_t)
from dfly._core.engine.database cimport NOTIFY_LIST, drop_value, find_write, update_begin, update_end
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport reply_int, reply_t
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, list_count, list_insert, list_item_equals, list_item_t,
                                          list_item_text, list_limits_t, list_needle, list_next, list_previous,
                                          list_push, list_remove, list_remove_from, list_seek)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport (TYPE_LIST, key_t, object_pointer, object_root, object_set_container, object_t)
from dfly._core.sys.alloc cimport net_alloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    BLOCKS_IN_PLACE = 128        # more are not filtered in one go: some microseconds each

cdef struct removal_t:
    # What a long read of LREM has found; in read.extra.
    uint64_t found
    uint64_t begin               # the elements among which all equal ones go
    uint64_t end
    uint64_t copied              # of all elements
    uint32_t blocks[BLOCKS_IN_PLACE]
    uint32_t block_count         # one more than there is room for: too many
    bint is_searched


# ---- LINSERT -----------------------------------------------------------------------------------

cdef bint find_pivot(long_read_t *read, slice_t pivot, bint *found) noexcept nogil:
    """Its cursor is behind the first element equal to pivot; True: found, or there is none."""
    cdef list_item_t needle
    cdef list_item_t item
    list_needle(pivot.data, pivot.size, &needle)
    if not read.is_begun:
        list_seek(object_pointer(&read.value), 0, &read.cursor.elements)
    found[0] = False
    while work_goes_on(&read.work):
        if not list_next(&read.cursor.elements, &item):
            return True
        if list_item_equals(&item, &needle):
            found[0] = True
            return True
    return False


cdef void insert(long_read_t *read, scope_t *scope, const key_t *key, dash_ref_t *ref, const slice_t *argv,
                 reply_t *reply) noexcept nogil:
    cdef list_limits_t limits = list_limits_of(scope)
    cdef list_item_t item
    if slice_equals(argv[2], "before"):
        list_previous(&read.cursor.elements, &item)
    update_begin(scope, ref)
    list_insert(object_root(&ref.entry.value), &read.cursor.elements, argv[4].data, argv[4].size, &limits)
    reply_int(reply, <int64_t>list_count(object_pointer(&ref.entry.value)))
    update_end(scope, key, NOTIFY_LIST, "linsert")


cdef bint go_on_with_insertion(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef bint found
    if not find_pivot(read, tx.argv[3], &found):
        return False
    if not found:
        reply_int(&tx.reply, -1)
        return True
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    find_write(&scope, &tx.keys[0], &ref)
    insert(read, &scope, &tx.keys[0], &ref, tx.argv, &tx.reply)
    return True


cdef void linsert_command(call_t *call) noexcept nogil:
    cdef long_read_t few
    cdef dash_ref_t ref
    cdef bint found
    if not slice_equals(call.argv[2], "after") and not slice_equals(call.argv[2], "before"):
        reply_syntax_error(call.reply)
        return
    if not list_find_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
    elif long_read_wanted(call, list_count(object_pointer(&ref.entry.value))):
        long_read_begin(call, &ref.entry.value, go_on_with_insertion)
    else:
        long_read_at_once(&few, &ref.entry.value)
        find_pivot(&few, call.argv[3], &found)
        if found:
            insert(&few, &call.scope, &call.key, &ref, call.argv, call.reply)
        else:
            reply_int(call.reply, -1)


# ---- LREM --------------------------------------------------------------------------------------

cdef bint search(long_read_t *read, removal_t *removal, const list_item_t *needle) noexcept nogil:
    """Through the elements, for read.left of them that are equal; True when it is over."""
    cdef uint64_t total = list_count(object_pointer(&read.value))
    cdef list_item_t item
    cdef uint32_t slot
    if not read.is_begun:
        list_seek(object_pointer(&read.value), total if read.is_backward else 0, &read.cursor.elements)
    while read.visited < total and read.left > 0:
        if not work_goes_on(&read.work):
            return False
        if read.is_backward:
            list_previous(&read.cursor.elements, &item)
        else:
            list_next(&read.cursor.elements, &item)
        read.visited += 1
        if list_item_equals(&item, needle):
            slot = read.cursor.elements.slot
            read.left -= 1
            removal.found += 1
            if removal.block_count <= BLOCKS_IN_PLACE and (
                    removal.block_count == 0 or removal.blocks[removal.block_count - 1] != slot):
                if removal.block_count < BLOCKS_IN_PLACE:
                    removal.blocks[removal.block_count] = slot
                removal.block_count += 1
    removal.begin = total - read.visited if read.is_backward else 0
    removal.end = total if read.is_backward else read.visited
    removal.is_searched = True
    return True


cdef bint build(long_read_t *read, removal_t *removal, const list_item_t *needle, object_t *out,
                const list_limits_t *limits) noexcept nogil:
    """What is left becomes a list of its own."""
    cdef uint64_t total = list_count(object_pointer(&read.value))
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_item_t item
    cdef slice_t text
    if removal.copied == 0:
        list_seek(object_pointer(&read.value), 0, &read.cursor.elements)
    while removal.copied < total:
        if not work_goes_on(&read.work):
            return False
        list_next(&read.cursor.elements, &item)
        if not (removal.begin <= removal.copied < removal.end and list_item_equals(&item, needle)):
            text = list_item_text(&item, scratch)
            list_push(object_root(out), text.data, text.size, False, limits)
        removal.copied += 1
    return True


cdef bint go_on_with_removal(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef removal_t *removal = <removal_t *>read.extra
    cdef object_t *built = &tx.results[0].value
    cdef list_item_t needle
    cdef list_limits_t limits
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    limits = list_limits_of(&scope)
    list_needle(tx.argv[3].data, tx.argv[3].size, &needle)
    if not removal.is_searched and not search(read, removal, &needle):
        return False
    if removal.block_count > BLOCKS_IN_PLACE:
        if not tx.results[0].has_value:
            tx.results[0].has_value = True
            object_set_container(built, TYPE_LIST, NULL)
        if not build(read, removal, &needle, built, &limits):
            return False
    reply_int(&tx.reply, <int64_t>removal.found)
    if removal.found == 0:
        return True
    find_write(&scope, &tx.keys[0], &ref)
    update_begin(&scope, &ref)
    if tx.results[0].has_value:
        drop_value(&scope, &ref.entry.value)
        ref.entry.value = built[0]
        tx.results[0].has_value = False
    else:
        list_remove_from(object_root(&ref.entry.value), removal.blocks, removal.block_count, tx.argv[3].data,
                         tx.argv[3].size, removal.found, read.is_backward, &limits)
    list_finish_removal(&scope, &tx.keys[0], &ref, "lrem")
    return True


cdef inline uint64_t most_of(int64_t count) noexcept nogil:
    if count == 0:
        return <uint64_t>-1
    return 0 - <uint64_t>count if count < 0 else <uint64_t>count


cdef void remove_in_slices(call_t *call, const object_t *value, int64_t count) noexcept nogil:
    cdef long_read_t *read = long_read_begin(call, value, go_on_with_removal)
    cdef removal_t *removal
    if read == NULL:
        return
    if read.extra == NULL:
        read.extra = net_alloc(sizeof(removal_t))
    removal = <removal_t *>read.extra
    removal.found = 0
    removal.copied = 0
    removal.block_count = 0
    removal.is_searched = False
    read.visited = 0
    read.left = most_of(count)
    read.is_backward = count < 0


cdef void lrem_command(call_t *call) noexcept nogil:
    cdef list_limits_t limits = list_limits_of(&call.scope)
    cdef dash_ref_t ref
    cdef int64_t count
    cdef uint64_t removed
    cdef bint found
    if not call_int_argument(call, 2, &count) or not list_find_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
        return
    if long_read_wanted(call, list_count(object_pointer(&ref.entry.value))):
        remove_in_slices(call, &ref.entry.value, count)
        return
    update_begin(&call.scope, &ref)
    removed = list_remove(object_root(&ref.entry.value), call.argv[3].data, call.argv[3].size, most_of(count),
                          count < 0, &limits)
    reply_int(call.reply, <int64_t>removed)
    if removed > 0:
        list_finish_removal(&call.scope, &call.key, &ref, "lrem")


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    rows[0] = key_row("linsert", 5, COMMAND_WRITE | COMMAND_DENYOOM, ACL_LIST, KEY_RW | KEY_INSERT, linsert_command)
    rows[1] = key_row("lrem", 4, COMMAND_WRITE, ACL_LIST, KEY_RW | KEY_DELETE, lrem_command)
    rows[0].step = long_read_step
    rows[1].step = long_read_step
    register_commands(rows, ROW_COUNT)
