"""The list commands with one key. LINSERT and LREM are in list_edits.pyx, those with several keys in list_moves.pyx
and list_pops.pyx.

Order of checks, replies and events as Redis 7.0: some commands read their numbers before they look the
key up, some after. The events of a change come in the order push, pop, del.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.commands.long_reads cimport (long_read_at_once, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted)
from dfly._core.commands.pops cimport pop_count
from dfly._core.engine.command cimport (ACL_LIST, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_RO, KEY_RW,
                                        KEY_UPDATE, call_int_argument, call_t, command_spec_t, key_row,
                                        register_commands, reply_syntax_error, reply_wrong_type,
                                        slice_equals, transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_LIST, delete_key, drop_value, find_read,
                                         find_write, insert_key, update_begin, update_end)
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_chain_header, reply_defer_array,
                                    reply_error, reply_int, reply_null, reply_null_array, reply_ok, reply_set_deferred,
                                    reply_t)
from dfly._core.store.block_list cimport (block_list_t, list_count, list_cursor_t, list_cut, list_drop,
                                          list_item_equals, list_item_t, list_limits_t,
                                          list_needle, list_next, list_peek, list_previous, list_push,
                                          list_replace, list_seek)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport (TYPE_LIST, key_t, object_is_container, object_pointer, object_root,
                                      object_set_container, object_t, parse_int64)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP


# ---- Shared with other modules -----------------------------------------------------------------

cdef list_lookup_t list_lookup(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if not find_write(scope, key, ref):
        return LIST_ABSENT
    if unlikely(not object_is_container(&ref.entry.value, TYPE_LIST)):
        return LIST_WRONG_TYPE
    return LIST_FOUND


cdef void list_push_element(scope_t *scope, const key_t *key, slice_t element, bint front) noexcept nogil:
    cdef list_limits_t limits = list_limits_of(scope)
    cdef dash_ref_t ref
    if find_write(scope, key, &ref):
        update_begin(scope, &ref)
    else:
        insert_key(scope, key, &ref)
        object_set_container(&ref.entry.value, TYPE_LIST, NULL)
    list_push(object_root(&ref.entry.value), element.data, element.size, front, &limits)
    update_end(scope, key, NOTIFY_LIST, list_push_event(front))


cdef void drop_blocks(scope_t *scope, block_list_t dropped) noexcept nogil:
    """Frees what came off a list, in slices if it is much."""
    cdef object_t value
    if dropped != NULL:
        object_set_container(&value, TYPE_LIST, dropped)
        drop_value(scope, &value)


cdef void list_finish_removal(scope_t *scope, const key_t *key, dash_ref_t *ref, const char *event) noexcept nogil:
    update_end(scope, key, NOTIFY_LIST, event)
    if unlikely(object_pointer(&ref.entry.value) == NULL):
        delete_key(scope, key, ref, NOTIFY_GENERIC, "del")


cdef void list_drop_elements(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count,
                             bint front) noexcept nogil:
    cdef block_list_t dropped = NULL
    update_begin(scope, ref)
    list_drop(object_root(&ref.entry.value), count, front, &dropped)
    drop_blocks(scope, dropped)
    list_finish_removal(scope, key, ref, list_pop_event(front))


cdef void reply_list_item(reply_t *reply, const list_item_t *item) noexcept nogil:
    if likely(item.data != NULL):
        reply_bulk(reply, item.data, item.size)
    else:
        reply_bulk_int(reply, item.integer)


cdef void list_pop_one(scope_t *scope, const key_t *key, dash_ref_t *ref, bint front,
                       reply_t *reply) noexcept nogil:
    cdef list_item_t item
    list_peek(object_pointer(&ref.entry.value), front, &item)
    reply_list_item(reply, &item)
    list_drop_elements(scope, key, ref, 1, front)


cdef void reply_items(reply_t *reply, block_list_t elements, uint64_t start, uint64_t count,
                      bint backward) noexcept nogil:
    """An array of count elements from the place before index `start`."""
    cdef list_cursor_t cursor
    cdef list_item_t item
    reply_array(reply, count)
    list_seek(elements, start, &cursor)
    while count > 0:
        if backward:
            list_previous(&cursor, &item)
        else:
            list_next(&cursor, &item)
        if likely(item.data != NULL):
            reply_bulk(reply, item.data, item.size)
        else:
            reply_bulk_int(reply, item.integer)
        count -= 1


cdef void list_pop_many(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count, bint front,
                        reply_t *reply) noexcept nogil:
    cdef block_list_t elements = object_pointer(&ref.entry.value)
    cdef uint64_t total = list_count(elements)
    if count > total:
        count = total
    reply_items(reply, elements, 0 if front else total, count, not front)
    list_drop_elements(scope, key, ref, count, front)


cdef bint parse_list_end(slice_t word, bint *front) noexcept nogil:
    front[0] = slice_equals(word, "left")
    return front[0] or slice_equals(word, "right")


# ---- Looking keys up -------------------------------------------------------------------------

cdef bint find_list(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    """For reading; False after the wrong type's error was replied."""
    found[0] = find_read(&call.scope, &call.key, ref)
    if unlikely(found[0] and not object_is_container(&ref.entry.value, TYPE_LIST)):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint list_find_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    cdef list_lookup_t result = list_lookup(&call.scope, &call.key, ref)
    found[0] = result == LIST_FOUND
    if unlikely(result == LIST_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint positive_argument(slice_t argument, int64_t *out) noexcept nogil:
    return parse_int64(argument.data, argument.size, out) and out[0] >= 0


cdef bint clip_range(int64_t *start, int64_t *end, int64_t count) noexcept nogil:
    """Resolves negative positions and clips both, which are included; False: nothing is left."""
    if start[0] < 0:
        start[0] = start[0] + count if start[0] + count > 0 else 0
    if end[0] < 0:
        end[0] += count
    if end[0] >= count:
        end[0] = count - 1
    return start[0] <= end[0]


# ---- Pushing and popping ---------------------------------------------------------------------

cdef inline void push_generic(call_t *call, bint front, bint only_existing) noexcept nogil:
    cdef list_limits_t limits = list_limits_of(&call.scope)
    cdef dash_ref_t ref
    cdef block_list_t *root
    cdef uint32_t i
    if likely(find_write(&call.scope, &call.key, &ref)):
        if unlikely(not object_is_container(&ref.entry.value, TYPE_LIST)):
            reply_wrong_type(call.reply)
            return
        update_begin(&call.scope, &ref)
    elif only_existing:
        reply_int(call.reply, 0)
        return
    else:
        insert_key(&call.scope, &call.key, &ref)
        object_set_container(&ref.entry.value, TYPE_LIST, NULL)
    root = object_root(&ref.entry.value)
    for i in range(2, call.argc):
        list_push(root, call.argv[i].data, call.argv[i].size, front, &limits)
    reply_int(call.reply, <int64_t>list_count(root[0]))
    update_end(&call.scope, &call.key, NOTIFY_LIST, list_push_event(front))


cdef void lpush_command(call_t *call) noexcept nogil:
    push_generic(call, True, False)


cdef void rpush_command(call_t *call) noexcept nogil:
    push_generic(call, False, False)


cdef void lpushx_command(call_t *call) noexcept nogil:
    push_generic(call, True, True)


cdef void rpushx_command(call_t *call) noexcept nogil:
    push_generic(call, False, True)


cdef bint go_on_with_popped(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef list_item_t item
    cdef scope_t scope
    if not read.is_begun:
        reply_array(&tx.reply, read.left)
        list_seek(object_pointer(&read.value), read.left if read.is_backward else 0, &read.cursor.elements)
    while read.left > 0 and work_goes_on(&read.work):
        if read.is_backward:
            list_previous(&read.cursor.elements, &item)
        else:
            list_next(&read.cursor.elements, &item)
        reply_list_item(&tx.reply, &item)
        read.left -= 1
    if read.left > 0:
        return False
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    drop_value(&scope, &read.value)
    return True


cdef void list_pop_begin(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count, bint front,
                         long_read_t *read) noexcept nogil:
    cdef list_limits_t limits = list_limits_of(scope)
    cdef block_list_t popped
    update_begin(scope, ref)
    list_cut(object_root(&ref.entry.value), count, front, &popped, &limits)
    list_finish_removal(scope, key, ref, list_pop_event(front))
    object_set_container(&read.value, TYPE_LIST, popped)
    read.go_on = go_on_with_popped
    read.left = list_count(popped)
    read.is_backward = not front


cdef void pop_in_slices(call_t *call, dash_ref_t *ref, uint64_t count, bint front) noexcept nogil:
    cdef long_read_t *read = long_read_begin(call, &ref.entry.value, go_on_with_popped)
    if read != NULL:
        list_pop_begin(&call.scope, &call.key, ref, count, front, read)
        # It reads no key any more.
        read.slices.first_key = 1


cdef inline void pop_generic(call_t *call, bint front) noexcept nogil:
    cdef char text[96]
    cdef dash_ref_t ref
    cdef int64_t count
    cdef bint found
    if unlikely(call.argc > 3):
        snprintf(text, sizeof(text), "ERR wrong number of arguments for '%s' command", call.spec.name)
        reply_error(call.reply, text)
        return
    if not pop_count(call, &count) or not list_find_to_change(call, &ref, &found):
        return
    if not found:
        if count < 0:
            reply_null(call.reply)
        else:
            reply_null_array(call.reply)
    elif count < 0:
        list_pop_one(&call.scope, &call.key, &ref, front, call.reply)
    elif count == 0:
        reply_array(call.reply, 0)
    elif long_read_wanted(call, min(<uint64_t>count, list_count(object_pointer(&ref.entry.value)))):
        pop_in_slices(call, &ref, <uint64_t>count, front)
    else:
        list_pop_many(&call.scope, &call.key, &ref, <uint64_t>count, front, call.reply)


cdef void lpop_command(call_t *call) noexcept nogil:
    pop_generic(call, True)


cdef void rpop_command(call_t *call) noexcept nogil:
    pop_generic(call, False)


# ---- Reading ---------------------------------------------------------------------------------

cdef void llen_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_list(call, &ref, &found):
        reply_int(call.reply, <int64_t>list_count(object_pointer(&ref.entry.value)) if found else 0)


cdef bint go_on_with_elements(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef list_item_t item
    if not read.is_begun:
        reply_array(&tx.reply, read.left)
        list_seek(object_pointer(&read.value), read.first, &read.cursor.elements)
    while read.left > 0 and work_goes_on(&read.work):
        list_next(&read.cursor.elements, &item)
        reply_list_item(&tx.reply, &item)
        read.left -= 1
    return read.left == 0


cdef void lrange_command(call_t *call) noexcept nogil:
    cdef long_read_t *read
    cdef dash_ref_t ref
    cdef block_list_t elements
    cdef int64_t start
    cdef int64_t end
    cdef bint found
    if not call_int_argument(call, 2, &start) or not call_int_argument(call, 3, &end):
        return
    if not find_list(call, &ref, &found):
        return
    if not found:
        reply_array(call.reply, 0)
        return
    elements = object_pointer(&ref.entry.value)
    if not clip_range(&start, &end, <int64_t>list_count(elements)):
        reply_array(call.reply, 0)
    elif long_read_wanted(call, <uint64_t>(end - start + 1)):
        read = long_read_begin(call, &ref.entry.value, go_on_with_elements)
        if read != NULL:
            read.first = <uint64_t>start
            read.left = <uint64_t>(end - start + 1)
    else:
        reply_items(call.reply, elements, <uint64_t>start, <uint64_t>(end - start + 1), False)


cdef bint resolve_index(int64_t *index, int64_t count) noexcept nogil:
    if index[0] < 0:
        index[0] += count
    return 0 <= index[0] < count


cdef void lindex_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef list_cursor_t cursor
    cdef list_item_t item
    cdef int64_t index
    cdef bint found
    if not find_list(call, &ref, &found):
        return
    if not found:
        reply_null(call.reply)
        return
    if not call_int_argument(call, 2, &index):
        return
    if not resolve_index(&index, <int64_t>list_count(object_pointer(&ref.entry.value))):
        reply_null(call.reply)
        return
    list_seek(object_pointer(&ref.entry.value), <uint64_t>index, &cursor)
    list_next(&cursor, &item)
    reply_list_item(call.reply, &item)


# ---- LPOS --------------------------------------------------------------------------------------

cdef struct position_options_t:
    int64_t rank                 # which match is the first to count; negative: from the back
    int64_t count                # matches wanted; 0: all, -1: one, not as an array
    int64_t limit                # elements looked at; 0: all


cdef bint parse_position_options(call_t *call, position_options_t *options) noexcept nogil:
    cdef uint32_t i = 3
    options.rank = 1
    options.count = -1
    options.limit = 0
    while i < call.argc:
        if slice_equals(call.argv[i], "rank") and i + 1 < call.argc:
            if not call_int_argument(call, i + 1, &options.rank):
                return False
            if options.rank == 0:
                reply_error(call.reply, "ERR RANK can't be zero: use 1 to start from the first match, 2 from "
                                        "the second ... or use negative to start from the end of the list")
                return False
        elif slice_equals(call.argv[i], "count") and i + 1 < call.argc:
            if not positive_argument(call.argv[i + 1], &options.count):
                reply_error(call.reply, "ERR COUNT can't be negative")
                return False
        elif slice_equals(call.argv[i], "maxlen") and i + 1 < call.argc:
            if not positive_argument(call.argv[i + 1], &options.limit):
                reply_error(call.reply, "ERR MAXLEN can't be negative")
                return False
        else:
            reply_syntax_error(call.reply)
            return False
        i += 2
    return True


cdef inline int64_t position_skip(int64_t rank) noexcept nogil:
    """Matches passed over. The smallest integer has no negation: Redis passes none, and ignores COUNT."""
    if rank > 0:
        return rank - 1
    return 0 if rank < -INT64_MAX else -rank - 1


cdef bint find_positions(long_read_t *read, reply_t *reply, slice_t element) noexcept nogil:
    """Goes through read.left elements, visited behind it, and replies matches: so many as read.first, behind read.tries
    of them. read.what: how many it has replied."""
    cdef int64_t total = <int64_t>list_count(object_pointer(&read.value))
    cdef list_item_t needle
    cdef list_item_t item
    list_needle(element.data, element.size, &needle)
    if not read.is_begun:
        read.is_begun = True
        list_seek(object_pointer(&read.value), <uint64_t>total if read.is_backward else 0, &read.cursor.elements)
    while read.left > 0 and read.first > 0:
        if not work_goes_on(&read.work):
            return False
        if read.is_backward:
            list_previous(&read.cursor.elements, &item)
        else:
            list_next(&read.cursor.elements, &item)
        if list_item_equals(&item, &needle):
            if read.tries > 0:
                read.tries -= 1
            else:
                reply_int(reply, total - 1 - <int64_t>read.visited if read.is_backward else <int64_t>read.visited)
                read.what += 1
                read.first -= 1
        read.visited += 1
        read.left -= 1
    return True


cdef void begin_positions(long_read_t *read, const position_options_t *options) noexcept nogil:
    cdef uint64_t total = list_count(object_pointer(&read.value))
    cdef bint is_bounded = options.count < 0 or (options.count > 0 and options.rank >= -INT64_MAX)
    read.is_backward = options.rank < 0
    read.left = min(total, <uint64_t>options.limit) if options.limit > 0 else total
    read.visited = 0
    read.tries = <uint64_t>position_skip(options.rank)
    read.first = <uint64_t>-1
    if is_bounded:
        read.first = <uint64_t>max(options.count, <int64_t>1)
    read.what = 0


cdef bint go_on_with_position(long_read_t *read, transaction_t *tx) noexcept nogil:
    if not find_positions(read, &tx.reply, tx.argv[2]):
        return False
    if read.what == 0:
        reply_null(&tx.reply)
    return True


cdef bint go_on_with_positions(long_read_t *read, transaction_t *tx) noexcept nogil:
    if not find_positions(read, &tx.reply, tx.argv[2]):
        return False
    reply_chain_header(&tx.chain, &tx.reply, c'*', read.what)
    return True


cdef void reply_positions(call_t *call, const object_t *value, const position_options_t *options) noexcept nogil:
    cdef long_read_t few
    cdef size_t mark = 0
    long_read_at_once(&few, value)
    begin_positions(&few, options)
    if options.count >= 0:
        mark = reply_defer_array(call.reply)
    find_positions(&few, call.reply, call.argv[2])
    if options.count >= 0:
        reply_set_deferred(call.reply, mark, c'*', few.what)
    elif few.what == 0:
        reply_null(call.reply)


cdef void lpos_command(call_t *call) noexcept nogil:
    cdef position_options_t options
    cdef long_read_t *read
    cdef uint64_t many
    cdef dash_ref_t ref
    cdef bint found
    if not parse_position_options(call, &options) or not find_list(call, &ref, &found):
        return
    if found:
        many = list_count(object_pointer(&ref.entry.value))
        if not long_read_wanted(call, min(many, <uint64_t>options.limit) if options.limit > 0 else many):
            reply_positions(call, &ref.entry.value, &options)
            return
        read = long_read_begin(call, &ref.entry.value,
                               go_on_with_positions if options.count >= 0 else go_on_with_position)
        if read != NULL:
            begin_positions(read, &options)
    elif options.count >= 0:
        reply_array(call.reply, 0)
    else:
        reply_null(call.reply)


# ---- Changing --------------------------------------------------------------------------------

cdef void lset_command(call_t *call) noexcept nogil:
    cdef list_limits_t limits = list_limits_of(&call.scope)
    cdef dash_ref_t ref
    cdef list_cursor_t cursor
    cdef int64_t index
    cdef bint found
    if not list_find_to_change(call, &ref, &found):
        return
    if not found:
        reply_error(call.reply, "ERR no such key")
        return
    if not call_int_argument(call, 2, &index):
        return
    if not resolve_index(&index, <int64_t>list_count(object_pointer(&ref.entry.value))):
        reply_error(call.reply, "ERR index out of range")
        return
    update_begin(&call.scope, &ref)
    list_seek(object_pointer(&ref.entry.value), <uint64_t>index, &cursor)
    list_replace(object_root(&ref.entry.value), &cursor, call.argv[3].data, call.argv[3].size, &limits)
    update_end(&call.scope, &call.key, NOTIFY_LIST, "lset")
    reply_ok(call.reply)


cdef void ltrim_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef block_list_t *root
    cdef block_list_t dropped = NULL
    cdef int64_t start
    cdef int64_t end
    cdef int64_t count
    cdef bint found
    if not call_int_argument(call, 2, &start) or not call_int_argument(call, 3, &end):
        return
    if not list_find_to_change(call, &ref, &found):
        return
    reply_ok(call.reply)
    if not found:
        return
    update_begin(&call.scope, &ref)
    root = object_root(&ref.entry.value)
    count = <int64_t>list_count(root[0])
    if not clip_range(&start, &end, count):
        start = count
        end = count - 1
    list_drop(root, <uint64_t>(count - 1 - end), False, &dropped)
    drop_blocks(&call.scope, dropped)
    list_drop(root, <uint64_t>start, True, &dropped)
    drop_blocks(&call.scope, dropped)
    list_finish_removal(&call.scope, &call.key, &ref, "ltrim")


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 12

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t shrink = COMMAND_WRITE
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t take = KEY_RW | KEY_ACCESS | KEY_DELETE
    rows[0] = key_row("lpush", -3, grow | COMMAND_FAST, ACL_LIST, KEY_RW | KEY_INSERT, lpush_command)
    rows[1] = key_row("rpush", -3, grow | COMMAND_FAST, ACL_LIST, KEY_RW | KEY_INSERT, rpush_command)
    rows[2] = key_row("lpushx", -3, grow | COMMAND_FAST, ACL_LIST, KEY_RW | KEY_INSERT, lpushx_command)
    rows[3] = key_row("rpushx", -3, grow | COMMAND_FAST, ACL_LIST, KEY_RW | KEY_INSERT, rpushx_command)
    rows[4] = key_row("lpop", -2, shrink | COMMAND_FAST, ACL_LIST, take, lpop_command)
    rows[4].step = long_read_step
    rows[5] = key_row("rpop", -2, shrink | COMMAND_FAST, ACL_LIST, take, rpop_command)
    rows[5].step = long_read_step
    rows[6] = key_row("llen", 2, read | COMMAND_FAST, ACL_LIST, KEY_RO, llen_command)
    rows[7] = key_row("lrange", 4, read, ACL_LIST, look, lrange_command)
    rows[7].step = long_read_step
    rows[8] = key_row("lindex", 3, read, ACL_LIST, look, lindex_command)
    rows[9] = key_row("lpos", -3, read, ACL_LIST, look, lpos_command)
    rows[9].step = long_read_step
    rows[10] = key_row("lset", 4, grow, ACL_LIST, KEY_RW | KEY_UPDATE, lset_command)
    rows[11] = key_row("ltrim", 4, shrink, ACL_LIST, KEY_RW | KEY_DELETE, ltrim_command)
    register_commands(rows, ROW_COUNT)
