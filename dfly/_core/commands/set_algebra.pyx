"""Set commands over several keys: SMOVE, and SINTER, SUNION, SDIFF with their STORE forms and SINTERCARD.

The tokens of all shards concerned are held from the first step to the last. So one hop over the shards looks the
sources up (and removes members that are due), and then their sets are read in place, wherever they lie: nothing
can change them. Only a result that is stored is built by a hop on the shard that keeps it. It is complete before
the destination changes, which may be one of the sources.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp

from dfly._core.commands.sets cimport (SET_ABSENT, SET_FOUND, SET_WRONG_TYPE, reply_member, reply_set_members,
                                       set_finish_removal, set_limits_of, set_lookup_read, set_lookup_write,
                                       smembers_command)
from dfly._core.commands.strings cimport overwrite_key
from dfly._core.engine.command cimport (ACL_SET, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_MOVABLE_KEYS,
                                        COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_OW, KEY_RO,
                                        KEY_RW, KEY_UPDATE, TRANSACTION_DONE, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_SET, delete_key, drop_value, find_write, insert_key,
                                         update_begin, update_end)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport (reply_defer_array, reply_error, reply_int, reply_set_deferred,
                                    reply_t)
from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.member_set cimport (set_add, set_add_item, set_begin, set_contains, set_contains_item,
                                          set_count, set_cursor_t, set_limits_t, set_next, set_remove,
                                          set_remove_item)
from dfly._core.store.object cimport TYPE_SET, object_set_container, object_t, parse_int64
from dfly._core.sys.alloc cimport net_alloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    FIRST_SOURCE = 0             # 1 behind a destination
    OPERATION = 1
    LIMIT = 2                    # of SINTERCARD, 0: none

cdef enum operation_t:
    INTERSECTION = 0
    UNION = 1
    DIFFERENCE = 2

cdef enum step_t:
    STEP_START = 0
    STEP_LOOKED = 1
    STEP_STORED = 2
    STEP_REPLIED = 2
    STEP_REMOVED = 2             # of SMOVE
    STEP_ADDED = 3

cdef struct source_t:
    const object_t *value        # NULL: no such key
    uint64_t count

cdef struct sources_t:
    source_t *items              # in the order of the keys until an operation sorts them
    uint32_t count

cdef struct output_t:
    # Where members of a result go: into a reply, into a set, or nowhere but into the count.
    reply_t *reply
    object_t *value
    set_limits_t limits
    uint64_t count


# ---- Sources -----------------------------------------------------------------------------------

cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Values are borrowed copies: an entry may move when another key goes, its set does not."""
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(<uint32_t>tx.numbers[FIRST_SOURCE], tx.key_count):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = set_lookup_read(&scope, &tx.keys[i], &ref)
            if tx.results[i].number == SET_FOUND:
                tx.results[i].value = ref.entry.value


cdef bint gather(transaction_t *tx, sources_t *out) noexcept nogil:
    """False after the wrong type's error was replied."""
    cdef uint32_t first = <uint32_t>tx.numbers[FIRST_SOURCE]
    cdef uint32_t i
    out.count = tx.key_count - first
    tx.state = net_alloc(out.count * sizeof(source_t))
    out.items = <source_t *>tx.state
    for i in range(out.count):
        if tx.results[first + i].number == SET_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return False
        out.items[i].value = NULL
        out.items[i].count = 0
        if tx.results[first + i].number == SET_FOUND:
            out.items[i].value = &tx.results[first + i].value
            out.items[i].count = set_count(out.items[i].value)
    return True


cdef int smaller_first(const void *a, const void *b) noexcept nogil:
    cdef uint64_t left = (<const source_t *>a).count
    cdef uint64_t right = (<const source_t *>b).count
    return <int>(left > right) - <int>(left < right)


cdef int larger_first(const void *a, const void *b) noexcept nogil:
    return smaller_first(b, a)


# ---- Operations --------------------------------------------------------------------------------

cdef void emit(output_t *out, const list_item_t *item) noexcept nogil:
    if out.value != NULL:
        out.count += set_add_item(out.value, item, &out.limits)
        return
    if out.reply != NULL:
        reply_member(out.reply, item)
    out.count += 1


cdef void emit_all(output_t *out, const object_t *value) noexcept nogil:
    cdef set_cursor_t cursor
    cdef list_item_t item
    set_begin(value, &cursor)
    while set_next(&cursor, &item):
        emit(out, &item)


cdef inline bint all_contain(const source_t *sources, uint32_t count, const list_item_t *item) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if not set_contains_item(sources[i].value, item):
            return False
    return True


cdef inline bint any_contains(const source_t *sources, uint32_t count, const list_item_t *item) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if sources[i].value != NULL and set_contains_item(sources[i].value, item):
            return True
    return False


cdef void intersect(sources_t *sources, uint64_t limit, output_t *out) noexcept nogil:
    """Walks over the smallest set; limit 0: none."""
    cdef set_cursor_t cursor
    cdef list_item_t item
    qsort(sources.items, sources.count, sizeof(source_t), smaller_first)
    if sources.items[0].value == NULL:
        return
    set_begin(sources.items[0].value, &cursor)
    while set_next(&cursor, &item):
        if all_contain(sources.items + 1, sources.count - 1, &item):
            emit(out, &item)
            if out.count == limit:
                return


cdef void unite(const sources_t *sources, output_t *out) noexcept nogil:
    """Into a set, unless at most one of them exists."""
    cdef uint32_t i
    for i in range(sources.count):
        if sources.items[i].value != NULL:
            emit_all(out, sources.items[i].value)


cdef void take_away(const sources_t *sources, output_t *out) noexcept nogil:
    """From a copy of the first set in out.value the members of all others."""
    cdef set_cursor_t cursor
    cdef list_item_t item
    cdef uint32_t i
    emit_all(out, sources.items[0].value)
    for i in range(1, sources.count):
        if sources.items[i].value == NULL:
            continue
        set_begin(sources.items[i].value, &cursor)
        while out.count > 0 and set_next(&cursor, &item):
            out.count -= set_remove_item(out.value, &item)


cdef void pick_missing(sources_t *sources, output_t *out) noexcept nogil:
    """Members of the first set that no other has; large sets are asked first."""
    cdef set_cursor_t cursor
    cdef list_item_t item
    qsort(sources.items + 1, sources.count - 1, sizeof(source_t), larger_first)
    set_begin(sources.items[0].value, &cursor)
    while set_next(&cursor, &item):
        if not any_contains(sources.items + 1, sources.count - 1, &item):
            emit(out, &item)


cdef bint copy_is_cheaper(const sources_t *sources) noexcept nogil:
    """Redis' choice: the encoding of a stored difference depends on it."""
    cdef uint64_t asking = 0
    cdef uint64_t copying = 0
    cdef uint32_t i
    for i in range(sources.count):
        if sources.items[i].value != NULL:
            asking += sources.items[0].count
            copying += sources.items[i].count
    return asking // 2 > copying


cdef inline bint is_single(const sources_t *sources) noexcept nogil:
    cdef uint32_t existing = 0
    cdef uint32_t i
    for i in range(sources.count):
        existing += sources.items[i].value != NULL
    return existing <= 1


cdef bint needs_set(int64_t operation, const sources_t *sources) noexcept nogil:
    """Whether the result must be built in a set, even if it is only replied."""
    if operation == UNION:
        return not is_single(sources)
    return operation == DIFFERENCE and sources.items[0].value != NULL and copy_is_cheaper(sources)


cdef void operate(int64_t operation, sources_t *sources, uint64_t limit, output_t *out) noexcept nogil:
    if operation == INTERSECTION:
        intersect(sources, limit, out)
    elif operation == UNION:
        unite(sources, out)
    elif sources.items[0].value != NULL:
        if copy_is_cheaper(sources):
            take_away(sources, out)
        else:
            pick_missing(sources, out)


# ---- Results -----------------------------------------------------------------------------------

cdef void reply_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """On any shard of its keys, which books the set that is built."""
    cdef int64_t operation = tx.numbers[OPERATION]
    cdef sources_t sources
    cdef output_t out
    cdef object_t built
    cdef scope_t scope
    cdef size_t mark
    if not gather(tx, &sources):
        return
    out.count = 0
    out.value = NULL
    out.reply = &tx.reply
    if needs_set(operation, &sources):
        object_set_container(&built, TYPE_SET, NULL)
        transaction_scope(tx, shard, &scope)
        out.limits = set_limits_of(&scope)
        out.value = &built
        operate(operation, &sources, 0, &out)
        reply_set_members(&tx.reply, &built)
        drop_value(&scope, &built)
        return
    mark = reply_defer_array(&tx.reply)
    operate(operation, &sources, 0, &out)
    reply_set_deferred(&tx.reply, mark, c'~', out.count)


cdef const char *store_event(int64_t operation) noexcept nogil:
    if operation == INTERSECTION:
        return "sinterstore"
    return "sunionstore" if operation == UNION else "sdiffstore"


cdef void store_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef int64_t operation = tx.numbers[OPERATION]
    cdef sources_t sources
    cdef output_t out
    cdef object_t built
    cdef scope_t scope
    cdef dash_ref_t ref
    if not gather(tx, &sources):
        return
    transaction_scope(tx, shard, &scope)
    object_set_container(&built, TYPE_SET, NULL)
    out.count = 0
    out.reply = NULL
    out.value = &built
    out.limits = set_limits_of(&scope)
    operate(operation, &sources, 0, &out)
    if out.count > 0:
        overwrite_key(&scope, &tx.keys[0], &ref)
        drop_value(&scope, &ref.entry.value)
        ref.entry.value = built
        update_end(&scope, &tx.keys[0], NOTIFY_SET, store_event(operation))
    elif find_write(&scope, &tx.keys[0], &ref):
        delete_key(&scope, &tx.keys[0], &ref, NOTIFY_GENERIC, "del")
    reply_int(&tx.reply, <int64_t>out.count)


cdef int look(transaction_t *tx, uint32_t first, operation_t operation) noexcept nogil:
    tx.numbers[FIRST_SOURCE] = first
    tx.numbers[OPERATION] = operation
    tx.stage = STEP_LOOKED
    return hop_on_keys(tx, look_hop)


cdef int reply_step(transaction_t *tx, operation_t operation) noexcept nogil:
    if tx.stage == STEP_START:
        return look(tx, 0, operation)
    if tx.stage == STEP_LOOKED:
        tx.stage = STEP_REPLIED
        return hop_on_shard(tx, tx.key_shards[0], reply_hop)
    return TRANSACTION_DONE


cdef int store_step(transaction_t *tx, operation_t operation) noexcept nogil:
    if tx.stage == STEP_START:
        return look(tx, 1, operation)
    if tx.stage == STEP_LOOKED:
        tx.stage = STEP_STORED
        return hop_on_shard(tx, tx.key_shards[0], store_hop)
    return TRANSACTION_DONE


cdef int sinter_step(transaction_t *tx) noexcept nogil:
    return reply_step(tx, INTERSECTION)


cdef int sunion_step(transaction_t *tx) noexcept nogil:
    return reply_step(tx, UNION)


cdef int sdiff_step(transaction_t *tx) noexcept nogil:
    return reply_step(tx, DIFFERENCE)


cdef int sinterstore_step(transaction_t *tx) noexcept nogil:
    return store_step(tx, INTERSECTION)


cdef int sunionstore_step(transaction_t *tx) noexcept nogil:
    return store_step(tx, UNION)


cdef int sdiffstore_step(transaction_t *tx) noexcept nogil:
    return store_step(tx, DIFFERENCE)


# ---- SINTERCARD --------------------------------------------------------------------------------

cdef bint parse_sintercard(transaction_t *tx) noexcept nogil:
    cdef int64_t key_count = 0
    cdef uint32_t i
    if not parse_int64(tx.argv[1].data, tx.argv[1].size, &key_count) or key_count <= 0:
        reply_error(&tx.reply, "ERR numkeys should be greater than 0")
        return False
    if key_count > <int64_t>tx.argc - 2:
        reply_error(&tx.reply, "ERR Number of keys can't be greater than number of args")
        return False
    i = <uint32_t>key_count + 2
    while i < tx.argc:
        if not slice_equals(tx.argv[i], "limit") or i + 1 == tx.argc:
            reply_syntax_error(&tx.reply)
            return False
        if not parse_int64(tx.argv[i + 1].data, tx.argv[i + 1].size, &tx.numbers[LIMIT]) or tx.numbers[LIMIT] < 0:
            reply_error(&tx.reply, "ERR LIMIT can't be negative")
            return False
        i += 2
    return True


cdef int sintercard_step(transaction_t *tx) noexcept nogil:
    cdef sources_t sources
    cdef output_t out
    if tx.stage == STEP_START:
        if not parse_sintercard(tx):
            return TRANSACTION_DONE
        return look(tx, 0, INTERSECTION)
    if gather(tx, &sources):
        out.count = 0
        out.value = NULL
        out.reply = NULL
        intersect(&sources, <uint64_t>tx.numbers[LIMIT], &out)
        reply_int(&tx.reply, <int64_t>out.count)
    return TRANSACTION_DONE


cdef int sintercard_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    cdef int64_t key_count = 0
    cdef int i
    if (not parse_int64(argv[1].data, argv[1].size, &key_count) or key_count <= 0
            or key_count > <int64_t>argc - 2):
        return -1
    for i in range(<int>key_count):
        out[i] = <uint32_t>i + 2
    return <int>key_count


# ---- SMOVE -------------------------------------------------------------------------------------

cdef void look_both_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(2):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = set_lookup_write(&scope, &tx.keys[i], &ref)
            if i == 0 and tx.results[i].number == SET_FOUND:
                tx.results[i].flag = set_contains(&ref.entry.value, tx.argv[3].data, tx.argv[3].size)


cdef void remove_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    set_lookup_write(&scope, &tx.keys[0], &ref)
    update_begin(&scope, &ref)
    set_remove(&ref.entry.value, tx.argv[3].data, tx.argv[3].size)
    set_finish_removal(&scope, &tx.keys[0], &ref, "srem")


cdef void add_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef set_limits_t limits
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    limits = set_limits_of(&scope)
    if set_lookup_write(&scope, &tx.keys[1], &ref) == SET_FOUND:
        update_begin(&scope, &ref)
    else:
        insert_key(&scope, &tx.keys[1], &ref)
        object_set_container(&ref.entry.value, TYPE_SET, NULL)
    if set_add(&ref.entry.value, tx.argv[3].data, tx.argv[3].size, &limits):
        update_end(&scope, &tx.keys[1], NOTIFY_SET, "sadd")


cdef bint same_key(const transaction_t *tx) noexcept nogil:
    return (tx.keys[0].hash == tx.keys[1].hash and tx.keys[0].size == tx.keys[1].size
            and memcmp(tx.keys[0].data, tx.keys[1].data, tx.keys[0].size) == 0)


cdef int smove_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START:
        tx.stage = STEP_LOOKED
        return hop_on_keys(tx, look_both_hop)
    if tx.stage == STEP_LOOKED:
        if tx.results[0].number == SET_ABSENT:
            reply_int(&tx.reply, 0)
            return TRANSACTION_DONE
        if tx.results[0].number == SET_WRONG_TYPE or tx.results[1].number == SET_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return TRANSACTION_DONE
        if same_key(tx) or not tx.results[0].flag:
            reply_int(&tx.reply, tx.results[0].flag)
            return TRANSACTION_DONE
        tx.stage = STEP_REMOVED
        return hop_on_shard(tx, tx.key_shards[0], remove_hop)
    if tx.stage == STEP_REMOVED:
        tx.stage = STEP_ADDED
        return hop_on_shard(tx, tx.key_shards[1], add_hop)
    reply_int(&tx.reply, 1)
    return TRANSACTION_DONE


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 8

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t overwrite = KEY_OW | KEY_UPDATE
    cdef int i
    rows[0] = transaction_row("sinter", -2, read, ACL_SET, 1, -1, 1, look, sinter_step)
    rows[1] = transaction_row("sunion", -2, read, ACL_SET, 1, -1, 1, look, sunion_step)
    rows[2] = transaction_row("sdiff", -2, read, ACL_SET, 1, -1, 1, look, sdiff_step)
    for i in range(3):
        rows[i].handler = smembers_command
    rows[3] = transaction_row("sinterstore", -3, grow, ACL_SET, 1, -1, 1, overwrite, sinterstore_step)
    rows[4] = transaction_row("sunionstore", -3, grow, ACL_SET, 1, -1, 1, overwrite, sunionstore_step)
    rows[5] = transaction_row("sdiffstore", -3, grow, ACL_SET, 1, -1, 1, overwrite, sdiffstore_step)
    rows[6] = transaction_row("smove", 4, COMMAND_WRITE | COMMAND_FAST, ACL_SET, 1, 2, 1,
                              KEY_RW | KEY_ACCESS | KEY_DELETE, smove_step)
    rows[7] = transaction_row("sintercard", -3, read | COMMAND_MOVABLE_KEYS, ACL_SET, 0, 0, 0, look, sintercard_step)
    rows[7].get_keys = sintercard_keys
    register_commands(rows, ROW_COUNT)
