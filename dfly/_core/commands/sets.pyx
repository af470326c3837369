"""The set commands with one key. Those with several keys are in set_algebra.pyx.

Order of checks, replies and events as Redis 7.0. The events of a change come in the order change, del.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t

from dfly._core.commands.element_scans cimport element_scan, element_scan_t
from dfly._core.commands.long_reads cimport (long_read_at_once, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted, long_read_work_t)
from dfly._core.commands.pops cimport pop_count
from dfly._core.commands.scan_options cimport parse_scan_cursor, reply_empty_scan, scan_pattern_matches
from dfly._core.commands.value_digest cimport digest_xor, register_value_digest
from dfly._core.engine.command cimport (ACL_SET, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY, COMMAND_WRITE,
                                        KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_RO, KEY_RW, call_int_argument,
                                        call_t, command_spec_t, key_row, register_commands, reply_syntax_error,
                                        reply_wrong_type, transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_SET, delete_key, drop_value, find_read, find_write,
                                         insert_key, notify, update_begin, update_end)
from dfly._core.engine.member_expiry cimport members_track
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_error,
                                    reply_int, reply_null, reply_set, reply_t)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_clear, dash_find, dash_init_keys, dash_insert,
                                    dash_next_due, dash_ref_t, dash_t)
from dfly._core.store.dash_scan cimport dash_draws_begin, dash_draws_t, dash_scan
from dfly._core.store.member_set cimport (SET_TABLE, set_add, set_add_new_item, set_add_timed, set_begin, set_contains,
                                          set_count, set_cursor_t, set_draw, set_limits_t, set_next, set_next_timed,
                                          set_place_t, set_random, set_remove, set_remove_at, set_table, set_to_table)
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_SET, key_init, key_t, object_encoding,
                                      object_expire_members, object_is_container, object_pointer,
                                      object_set_container, object_t, object_view)
from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    KEEP_FACTOR = 5              # SPOP leaving fewer than count / 5 members keeps those, as Redis does
    PART_MIN = 16                # SPOP of less than a sixteenth of a large set does not walk over it
    # Places in tx.numbers, of SPOP.
    WANTED = 0
    UNSEEN = 1
    WALK_FACTOR = 3              # SRANDMEMBER of more than a third of the members walks over all
    REPEATS_MAX = 0x7fffffff      # members with repetition in one reply


# ---- Shared with other modules -----------------------------------------------------------------

cdef set_limits_t set_limits_of(const scope_t *scope) noexcept nogil:
    cdef set_limits_t limits
    limits.integers = scope.shard.settings.set_max_intset_entries
    limits.entries = scope.shard.settings.set_max_listpack_entries
    limits.value = scope.shard.settings.set_max_listpack_value
    return limits


cdef inline bint has_deadlines(const object_t *value) noexcept nogil:
    return unlikely(object_encoding(value) == SET_TABLE and set_table(value).table.deadline_count != 0)


cdef inline bint has_due(const object_t *value, int64_t now_ms) noexcept nogil:
    return has_deadlines(value) and dash_next_due(&set_table(value).table) <= now_ms


cdef bint remove_due(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    """Removes members whose time has come; False if the key went with the last one."""
    cdef uint64_t removed
    update_begin(scope, ref)
    removed = object_expire_members(&ref.entry.value, scope.now_ms, <uint64_t>-1)
    if removed == 0:
        return True
    scope.shard.stats.expired_fields += removed
    update_end(scope, key, NOTIFY_SET, "sexpired")
    if object_pointer(&ref.entry.value) != NULL:
        return True
    delete_key(scope, key, ref, NOTIFY_GENERIC, "del")
    return False


cdef inline set_lookup_t checked(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if unlikely(not object_is_container(&ref.entry.value, TYPE_SET)):
        return SET_WRONG_TYPE
    if unlikely(has_due(&ref.entry.value, scope.now_ms)) and not remove_due(scope, key, ref):
        return SET_ABSENT
    return SET_FOUND


cdef set_lookup_t set_lookup_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    return checked(scope, key, ref) if find_read(scope, key, ref) else SET_ABSENT


cdef set_lookup_t set_lookup_write(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    return checked(scope, key, ref) if find_write(scope, key, ref) else SET_ABSENT


cdef void set_finish_removal(scope_t *scope, const key_t *key, dash_ref_t *ref, const char *event) noexcept nogil:
    update_end(scope, key, NOTIFY_SET, event)
    if unlikely(object_pointer(&ref.entry.value) == NULL):
        delete_key(scope, key, ref, NOTIFY_GENERIC, "del")


cdef void reply_member(reply_t *reply, const list_item_t *item) noexcept nogil:
    if likely(item.data != NULL):
        reply_bulk(reply, item.data, item.size)
    else:
        reply_bulk_int(reply, item.integer)


cdef void reply_all(reply_t *reply, const object_t *value) noexcept nogil:
    cdef set_cursor_t cursor
    cdef list_item_t item
    set_begin(value, &cursor)
    while set_next(&cursor, &item):
        if likely(item.data != NULL):
            reply_bulk(reply, item.data, item.size)
        else:
            reply_bulk_int(reply, item.integer)


cdef void reply_set_members(reply_t *reply, const object_t *value) noexcept nogil:
    reply_set(reply, set_count(value))
    reply_all(reply, value)


# ---- Looking keys up -------------------------------------------------------------------------

cdef bint find_set(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    """For reading; False after the wrong type's error was replied."""
    cdef set_lookup_t result = set_lookup_read(&call.scope, &call.key, ref)
    found[0] = result == SET_FOUND
    if unlikely(result == SET_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint find_set_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    cdef set_lookup_t result = set_lookup_write(&call.scope, &call.key, ref)
    found[0] = result == SET_FOUND
    if unlikely(result == SET_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


# ---- Adding and removing -----------------------------------------------------------------------

cdef void sadd_command(call_t *call) noexcept nogil:
    cdef set_limits_t limits = set_limits_of(&call.scope)
    cdef dash_ref_t ref
    cdef int64_t added = 0
    cdef uint32_t i
    cdef bint found
    if not find_set_to_change(call, &ref, &found):
        return
    if likely(found):
        update_begin(&call.scope, &ref)
    else:
        insert_key(&call.scope, &call.key, &ref)
        object_set_container(&ref.entry.value, TYPE_SET, NULL)
    for i in range(2, call.argc):
        added += set_add(&ref.entry.value, call.argv[i].data, call.argv[i].size, &limits)
    if added > 0:
        update_end(&call.scope, &call.key, NOTIFY_SET, "sadd")
    reply_int(call.reply, added)


cdef void srem_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef int64_t removed = 0
    cdef uint32_t i
    cdef bint found
    if not find_set_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
        return
    update_begin(&call.scope, &ref)
    for i in range(2, call.argc):
        removed += set_remove(&ref.entry.value, call.argv[i].data, call.argv[i].size)
    if removed > 0:
        set_finish_removal(&call.scope, &call.key, &ref, "srem")
    reply_int(call.reply, removed)


cdef void pop_one(call_t *call, dash_ref_t *ref) noexcept nogil:
    cdef set_place_t place
    update_begin(&call.scope, ref)
    set_random(&ref.entry.value, &place)
    reply_member(call.reply, &place.item)
    set_remove_at(&ref.entry.value, &place)
    set_finish_removal(&call.scope, &call.key, ref, "spop")


cdef bint go_on_with_members(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef list_item_t item
    if not read.is_begun:
        reply_set(&tx.reply, set_count(&read.value))
        set_begin(&read.value, &read.cursor.members)
    while work_goes_on(&read.work):
        if not set_next(&read.cursor.members, &item):
            return True
        reply_member(&tx.reply, &item)
    return False


cdef bint go_on_with_popped(long_read_t *read, transaction_t *tx) noexcept nogil:
    """All of a set that no key has any more."""
    cdef scope_t scope
    if not go_on_with_members(read, tx):
        return False
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    drop_value(&scope, &read.value)
    return True


cdef void pop_all_in_slices(call_t *call, dash_ref_t *ref) noexcept nogil:
    cdef long_read_t *read = long_read_begin(call, &ref.entry.value, go_on_with_popped)
    if read == NULL:
        return
    notify(&call.scope, &call.key, NOTIFY_SET, "spop")
    update_begin(&call.scope, ref)
    object_set_container(&ref.entry.value, TYPE_SET, NULL)
    delete_key(&call.scope, &call.key, ref, NOTIFY_GENERIC, "del")
    # It reads no key any more.
    read.slices.first_key = 1


cdef void pop_all(call_t *call, dash_ref_t *ref) noexcept nogil:
    if long_read_wanted(call, set_count(&ref.entry.value)):
        pop_all_in_slices(call, ref)
        return
    reply_set_members(call.reply, &ref.entry.value)
    notify(&call.scope, &call.key, NOTIFY_SET, "spop")
    delete_key(&call.scope, &call.key, ref, NOTIFY_GENERIC, "del")


cdef void pop_most(call_t *call, dash_ref_t *ref, uint64_t left) noexcept nogil:
    """The few that are left become a new set, and the rest of the old one is the reply."""
    cdef set_limits_t limits = set_limits_of(&call.scope)
    cdef dash_draws_t draws
    cdef set_place_t place
    cdef object_t kept
    cdef object_t popped
    object_set_container(&kept, TYPE_SET, NULL)
    update_begin(&call.scope, ref)
    dash_draws_begin(&draws, random_u64(), left)
    while left > 0:
        set_draw(&ref.entry.value, &draws, &place)
        set_add_new_item(&kept, &place.item, &limits)
        set_remove_at(&ref.entry.value, &place)
        left -= 1
    popped = ref.entry.value
    ref.entry.value = kept
    reply_set_members(call.reply, &popped)
    drop_value(&call.scope, &popped)
    update_end(&call.scope, &call.key, NOTIFY_SET, "spop")


cdef bint go_on_with_selection(long_read_t *read, transaction_t *tx) noexcept nogil:
    """Each member goes with the probability that still makes read.first of them; the others become a new set."""
    cdef object_t *kept = &tx.results[0].value
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef set_limits_t limits
    cdef list_item_t item
    cdef slice_t text
    cdef int64_t deadline
    cdef object_t old
    cdef dash_ref_t ref
    cdef scope_t scope
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    limits = set_limits_of(&scope)
    if not read.is_begun:
        object_set_container(kept, TYPE_SET, NULL)
        tx.results[0].has_value = True
        tx.numbers[WANTED] = <int64_t>read.first
        tx.numbers[UNSEEN] = <int64_t>set_count(&read.value)
        reply_set(&tx.reply, read.first)
        set_begin(&read.value, &read.cursor.members)
    while tx.numbers[UNSEEN] > 0:
        if not work_goes_on(&read.work):
            return False
        set_next_timed(&read.cursor.members, &item, &deadline)
        if <int64_t>((random_u64() >> 32) * <uint64_t>tx.numbers[UNSEEN] >> 32) < tx.numbers[WANTED]:
            reply_member(&tx.reply, &item)
            tx.numbers[WANTED] -= 1
        elif deadline != DASH_NO_DEADLINE:
            text = list_item_text(&item, scratch)
            set_add_timed(kept, text.data, text.size, deadline, &limits)
        else:
            set_add_new_item(kept, &item, &limits)
            if read.what and object_encoding(kept) != SET_TABLE:
                set_to_table(kept)
        tx.numbers[UNSEEN] -= 1
    set_lookup_write(&scope, &tx.keys[0], &ref)
    update_begin(&scope, &ref)
    old = ref.entry.value
    ref.entry.value = kept[0]
    tx.results[0].has_value = False
    drop_value(&scope, &old)
    members_track(&scope, &tx.keys[0], &ref.entry.value)
    update_end(&scope, &tx.keys[0], NOTIFY_SET, "spop")
    return True


cdef void pop_in_slices(call_t *call, dash_ref_t *ref, uint64_t count, bint keeps_table) noexcept nogil:
    cdef long_read_t *read = long_read_begin(call, &ref.entry.value, go_on_with_selection)
    if read != NULL:
        read.first = count
        read.what = keeps_table


cdef void pop_some(call_t *call, dash_ref_t *ref, uint64_t count) noexcept nogil:
    cdef dash_draws_t draws
    cdef set_place_t place
    update_begin(&call.scope, ref)
    reply_set(call.reply, count)
    dash_draws_begin(&draws, random_u64(), count)
    while count > 0:
        set_draw(&ref.entry.value, &draws, &place)
        reply_member(call.reply, &place.item)
        set_remove_at(&ref.entry.value, &place)
        count -= 1
    set_finish_removal(&call.scope, &call.key, ref, "spop")


cdef void spop_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef int64_t count
    cdef uint64_t total
    cdef bint keeps_few
    cdef bint found
    if unlikely(call.argc > 3):
        reply_syntax_error(call.reply)
        return
    if not pop_count(call, &count) or not find_set_to_change(call, &ref, &found):
        return
    if not found:
        if count < 0:
            reply_null(call.reply)
        else:
            reply_set(call.reply, 0)
        return
    if count < 0:
        pop_one(call, &ref)
        return
    total = set_count(&ref.entry.value)
    if count == 0:
        reply_set(call.reply, 0)
        return
    if <uint64_t>count >= total:
        pop_all(call, &ref)
        return
    keeps_few = (total - <uint64_t>count) * KEEP_FACTOR <= <uint64_t>count
    if long_read_wanted(call, <uint64_t>count) and total // PART_MIN <= <uint64_t>count:
        pop_in_slices(call, &ref, <uint64_t>count, not keeps_few and object_encoding(&ref.entry.value) == SET_TABLE)
    elif not keeps_few or has_deadlines(&ref.entry.value):
        pop_some(call, &ref, <uint64_t>count)
    else:
        pop_most(call, &ref, total - <uint64_t>count)


# ---- Reading ---------------------------------------------------------------------------------

cdef void sismember_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_set(call, &ref, &found):
        reply_int(call.reply, found and set_contains(&ref.entry.value, call.argv[2].data, call.argv[2].size))


cdef void smismember_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef uint32_t i
    cdef bint found
    if not find_set(call, &ref, &found):
        return
    reply_array(call.reply, call.argc - 2)
    for i in range(2, call.argc):
        reply_int(call.reply, found and set_contains(&ref.entry.value, call.argv[i].data, call.argv[i].size))


cdef void scard_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_set(call, &ref, &found):
        reply_int(call.reply, <int64_t>set_count(&ref.entry.value) if found else 0)


cdef void smembers_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if not find_set(call, &ref, &found):
        return
    if not found:
        reply_set(call.reply, 0)
    elif long_read_wanted(call, set_count(&ref.entry.value)):
        long_read_begin(call, &ref.entry.value, go_on_with_members)
    else:
        reply_set_members(call.reply, &ref.entry.value)


# ---- SRANDMEMBER -------------------------------------------------------------------------------

cdef bint repeat_members(long_read_t *read, reply_t *reply) noexcept nogil:
    """read.left members, each of them any."""
    cdef dash_draws_t draws
    cdef set_place_t place
    if not read.is_begun:
        reply_array(reply, read.left)
    dash_draws_begin(&draws, random_u64(), read.left)
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        set_draw(&read.value, &draws, &place)
        reply_member(reply, &place.item)
        read.left -= 1
    return True


cdef bint select_members(long_read_t *read, reply_t *reply) noexcept nogil:
    """Walks over all, read.first of them: each is taken with the probability that still makes read.left of them."""
    cdef list_item_t item
    if not read.is_begun:
        reply_array(reply, read.left)
        set_begin(&read.value, &read.cursor.members)
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        set_next(&read.cursor.members, &item)
        if (random_u64() >> 32) * read.first >> 32 < read.left:
            reply_member(reply, &item)
            read.left -= 1
        read.first -= 1
    return True


cdef bint draw_members(long_read_t *read, reply_t *reply) noexcept nogil:
    """Draws until read.left different ones have come; those are in read.extra."""
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef dash_draws_t draws
    cdef set_place_t place
    cdef dash_t *drawn
    cdef dash_ref_t ref
    cdef slice_t text
    cdef key_t key
    if not read.is_begun:
        reply_array(reply, read.left)
        read.extra = net_realloc(read.extra, sizeof(dash_t))
        dash_init_keys(<dash_t *>read.extra)
    drawn = <dash_t *>read.extra
    dash_draws_begin(&draws, random_u64(), read.left)
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        set_draw(&read.value, &draws, &place)
        text = list_item_text(&place.item, scratch)
        key_init(&key, text.data, text.size)
        if not dash_find(drawn, &key, &ref):
            dash_insert(drawn, &key, &ref)
            reply_bulk(reply, text.data, text.size)
            read.left -= 1
    dash_clear(drawn)
    return True


cdef void forget_drawn(long_read_t *read) noexcept nogil:
    if read.is_begun:
        dash_clear(<dash_t *>read.extra)


cdef bint go_on_repeating(long_read_t *read, transaction_t *tx) noexcept nogil:
    return repeat_members(read, &tx.reply)


cdef bint go_on_selecting(long_read_t *read, transaction_t *tx) noexcept nogil:
    return select_members(read, &tx.reply)


cdef bint go_on_drawing(long_read_t *read, transaction_t *tx) noexcept nogil:
    return draw_members(read, &tx.reply)


cdef bint is_walked(const object_t *value, uint64_t count) noexcept nogil:
    return object_encoding(value) != SET_TABLE or count * WALK_FACTOR > set_count(value)


cdef void random_in_slices(call_t *call, const object_t *value, bint repeats, uint64_t count) noexcept nogil:
    cdef long_read_work_t go_on = go_on_drawing
    cdef long_read_t *read
    if repeats:
        go_on = go_on_repeating
    elif is_walked(value, count):
        go_on = go_on_selecting
    read = long_read_begin(call, value, go_on)
    if read == NULL:
        return
    read.left = count
    read.first = set_count(value)
    if go_on == go_on_drawing:
        read.drop = forget_drawn


cdef void reply_random(call_t *call, const object_t *value, int64_t count) noexcept nogil:
    """Negative: so many, which may be the same."""
    cdef uint64_t wanted = <uint64_t>-count if count < 0 else min(<uint64_t>count, set_count(value))
    cdef long_read_t read
    if long_read_wanted(call, wanted):
        random_in_slices(call, value, count < 0, wanted)
        return
    long_read_at_once(&read, value)
    read.left = wanted
    read.first = set_count(value)
    if count < 0:
        repeat_members(&read, call.reply)
    elif is_walked(value, wanted):
        select_members(&read, call.reply)
    else:
        draw_members(&read, call.reply)
    net_free(read.extra)


cdef bint random_count(call_t *call, int64_t *count) noexcept nogil:
    if call.argc > 3:
        reply_syntax_error(call.reply)
        return False
    if not call_int_argument(call, 2, count):
        return False
    if count[0] < -INT64_MAX:
        reply_error(call.reply, "ERR value is out of range, value must between -9223372036854775807 and "
                                "9223372036854775807")
        return False
    if count[0] < -<int64_t>REPEATS_MAX:
        reply_error(call.reply, "ERR value is out of range")
        return False
    return True


cdef void srandmember_command(call_t *call) noexcept nogil:
    cdef set_place_t place
    cdef dash_ref_t ref
    cdef int64_t count = 0
    cdef bint found
    if call.argc > 2 and not random_count(call, &count):
        return
    if not find_set(call, &ref, &found):
        return
    if call.argc == 2:
        if found:
            set_random(&ref.entry.value, &place)
            reply_member(call.reply, &place.item)
        else:
            reply_null(call.reply)
    elif not found or count == 0:
        reply_array(call.reply, 0)
    else:
        reply_random(call, &ref.entry.value, count)


# ---- SSCAN -------------------------------------------------------------------------------------

cdef void scan_member(element_scan_t *scan, const char *data, size_t size) noexcept nogil:
    scan.counted += 1
    if scan_pattern_matches(&scan.options, data, size):
        reply_bulk(scan.elements, data, size)
        scan.found += 1


cdef bint scan_entry(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t text = object_view(&ref.entry.key, scratch)
    scan_member(<element_scan_t *>context, text.data, text.size)
    return False


cdef uint64_t scan_step(element_scan_t *scan, uint64_t cursor) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef set_cursor_t members
    cdef list_item_t item
    cdef slice_t text
    if object_encoding(scan.value) == SET_TABLE:
        return dash_scan(&set_table(scan.value).table, cursor, scan_entry, scan)
    set_begin(scan.value, &members)
    while set_next(&members, &item):
        text = list_item_text(&item, scratch)
        scan_member(scan, text.data, text.size)
    return 0


cdef void sscan_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef uint64_t cursor = 0
    cdef bint found
    if not parse_scan_cursor(call.argv[2], &cursor):
        reply_error(call.reply, "ERR invalid cursor")
        return
    if not find_set(call, &ref, &found):
        return
    if found:
        element_scan(call, &ref.entry.value, set_count(&ref.entry.value), cursor, scan_step, False)
    else:
        reply_empty_scan(call.reply)


# ---- DEBUG DIGEST ----------------------------------------------------------------------------

cdef void digest_set(unsigned char *digest, const object_t *value) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef set_cursor_t cursor
    cdef list_item_t item
    cdef slice_t text
    set_begin(value, &cursor)
    while set_next(&cursor, &item):
        text = list_item_text(&item, scratch)
        digest_xor(digest, text.data, text.size)


register_value_digest(TYPE_SET, digest_set)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 9

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t fast = COMMAND_FAST
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    rows[0] = key_row("sadd", -3, COMMAND_WRITE | COMMAND_DENYOOM | fast, ACL_SET, KEY_RW | KEY_INSERT, sadd_command)
    rows[1] = key_row("srem", -3, COMMAND_WRITE | fast, ACL_SET, KEY_RW | KEY_DELETE, srem_command)
    rows[2] = key_row("spop", -2, COMMAND_WRITE | fast, ACL_SET, KEY_RW | KEY_ACCESS | KEY_DELETE, spop_command)
    rows[2].step = long_read_step
    rows[3] = key_row("sismember", 3, read | fast, ACL_SET, KEY_RO, sismember_command)
    rows[4] = key_row("smismember", -3, read | fast, ACL_SET, look, smismember_command)
    rows[5] = key_row("scard", 2, read | fast, ACL_SET, KEY_RO, scard_command)
    rows[6] = key_row("smembers", 2, read, ACL_SET, look, smembers_command)
    rows[6].step = long_read_step
    rows[7] = key_row("srandmember", -2, read, ACL_SET, look, srandmember_command)
    rows[7].step = long_read_step
    rows[8] = key_row("sscan", -3, read, ACL_SET, look, sscan_command)
    rows[8].step = long_read_step
    register_commands(rows, ROW_COUNT)
