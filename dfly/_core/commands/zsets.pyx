"""The sorted set commands with one key that need no range: adding, removing, asking for members, popping, scanning.

Ranges are in zset_ranges.pyx, several keys in zset_algebra.pyx, ZMPOP and those that wait in zset_pops.pyx.
Order of checks, replies and events as Redis 7.0; ZRANK's WITHSCORE as 7.2.
"""

from libc.math cimport isnan
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from dfly._core.commands.element_scans cimport element_scan, element_scan_t
from dfly._core.commands.float_arguments cimport double_argument
from dfly._core.commands.lists cimport reply_list_item
from dfly._core.commands.long_reads cimport (long_read_at_once, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted, long_read_work_t)
from dfly._core.commands.pops cimport pop_count
from dfly._core.commands.scan_options cimport parse_scan_cursor, reply_empty_scan, scan_pattern_matches
from dfly._core.commands.strings cimport overwrite_key
from dfly._core.commands.value_digest cimport digest_mix, digest_xor, register_value_digest
from dfly._core.engine.command cimport (ACL_SORTEDSET, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY, COMMAND_WRITE,
                                        KEY_ACCESS, KEY_DELETE, KEY_RO, KEY_RW, KEY_UPDATE,
                                        call_int_argument, call_t, command_spec_t, key_row, register_commands,
                                        reply_not_integer, reply_syntax_error, reply_wrong_type, slice_equals,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_ZSET, delete_key, drop_value, find_read, find_write,
                                         insert_key, purge_later, update_begin, update_end)
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_double, reply_error,
                                    reply_int, reply_null, reply_null_array, reply_t)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport TYPE_ZSET, key_t, object_pointer, object_set_container, object_t, parse_int64
from dfly._core.store.sorted_set cimport (SCORE_TEXT_MAX, is_zset, score_text, zset_count, zset_cursor_t,
                                          zset_entry_t, zset_erase, zset_find, zset_insert, zset_is_compact,
                                          zset_limits_t, zset_next, zset_place_t, zset_previous, zset_rank,
                                          zset_remove_range, zset_scan, zset_score, zset_seek, zset_set_score)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely
from dfly._core.sys.hash cimport random_u64
from dfly._core.sys.sha1 cimport SHA1_SIZE

__abi__ = DFLY_ABI_STAMP

cdef enum:
    SCORES_ON_STACK = 64
    WALK_FACTOR = 3              # ZRANDMEMBER of more than a third of the members walks over all
    REPEATS_MAX = 0x7FFFFFFF     # members with repetition in one reply
    SCAN_STEP = 8                # members of ZSCAN

cdef enum add_result_t:
    ADD_NOTHING = 0
    ADD_SAME = 1                 # there already, with this score
    ADD_NEW = 2
    ADD_CHANGED = 3
    ADD_NAN = 4


# ---- Shared with other modules -----------------------------------------------------------------

cdef zset_limits_t zset_limits_of(const scope_t *scope) noexcept nogil:
    cdef zset_limits_t limits
    limits.entries = scope.shard.settings.zset_max_listpack_entries
    limits.value = scope.shard.settings.zset_max_listpack_value
    return limits


cdef zset_lookup_t zset_lookup_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if not find_read(scope, key, ref):
        return ZSET_ABSENT
    return ZSET_FOUND if likely(is_zset(&ref.entry.value)) else ZSET_WRONG_TYPE


cdef zset_lookup_t zset_lookup_write(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if not find_write(scope, key, ref):
        return ZSET_ABSENT
    return ZSET_FOUND if likely(is_zset(&ref.entry.value)) else ZSET_WRONG_TYPE


cdef bint find_zset(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    cdef zset_lookup_t result = zset_lookup_read(&call.scope, &call.key, ref)
    found[0] = result == ZSET_FOUND
    if unlikely(result == ZSET_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint find_zset_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    cdef zset_lookup_t result = zset_lookup_write(&call.scope, &call.key, ref)
    found[0] = result == ZSET_FOUND
    if unlikely(result == ZSET_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


cdef void zset_finish_removal(scope_t *scope, const key_t *key, dash_ref_t *ref, const char *event) noexcept nogil:
    update_end(scope, key, NOTIFY_ZSET, event)
    if unlikely(object_pointer(&ref.entry.value) == NULL or zset_count(&ref.entry.value) == 0):
        delete_key(scope, key, ref, NOTIFY_GENERIC, "del")


cdef void zset_store(scope_t *scope, const key_t *key, object_t *value, const char *event) noexcept nogil:
    cdef dash_ref_t ref
    if zset_count(value) > 0:
        overwrite_key(scope, key, &ref)
        drop_value(scope, &ref.entry.value)
        ref.entry.value = value[0]
        update_end(scope, key, NOTIFY_ZSET, event)
    elif find_write(scope, key, &ref):
        delete_key(scope, key, &ref, NOTIFY_GENERIC, "del")


cdef void reply_zset_entry(reply_t *reply, const zset_entry_t *entry, bint with_score, bint nested) noexcept nogil:
    if nested:
        reply_array(reply, 2)
    reply_list_item(reply, &entry.member)
    if with_score:
        reply_double(reply, entry.score)


cdef void reply_zset_header(reply_t *reply, uint64_t count, bint with_scores) noexcept nogil:
    reply_array(reply, count * 2 if with_scores and reply.resp == 2 else count)


cdef void remove_popped(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count,
                        bint from_end) noexcept nogil:
    update_begin(scope, ref)
    zset_remove_range(&ref.entry.value, zset_count(&ref.entry.value) - count if from_end else 0, count,
                      <uint64_t>scope.shard.settings.slice_elements)
    purge_later(scope, key, &ref.entry.value)
    zset_finish_removal(scope, key, ref, "zpopmax" if from_end else "zpopmin")


cdef void zset_pop(scope_t *scope, const key_t *key, dash_ref_t *ref, uint64_t count, bint from_end, bint nested,
                   reply_t *reply) noexcept nogil:
    cdef uint64_t total = zset_count(&ref.entry.value)
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    cdef uint64_t left = count
    zset_seek(&ref.entry.value, total if from_end else 0, &cursor)
    while left > 0:
        if from_end:
            zset_previous(&cursor, &entry)
        else:
            zset_next(&cursor, &entry)
        reply_zset_entry(reply, &entry, True, nested)
        left -= 1
    remove_popped(scope, key, ref, count, from_end)


cdef bint zset_long_argument(reply_t *reply, const char *data, size_t size, int64_t *out) noexcept nogil:
    if likely(parse_int64(data, size, out)):
        return True
    reply_not_integer(reply)
    return False


# ---- ZADD, ZINCRBY -----------------------------------------------------------------------------

cdef bint parse_add_flags(call_t *call, uint32_t *first, uint32_t *flags) noexcept nogil:
    """The options, and whether pairs follow them; False after an error reply."""
    cdef uint32_t i = 2
    cdef slice_t word
    cdef uint32_t count
    while i < call.argc:
        word = call.argv[i]
        if word.size == 2 and slice_equals(word, "nx"):
            flags[0] |= ADD_NX
        elif word.size == 2 and slice_equals(word, "xx"):
            flags[0] |= ADD_XX
        elif word.size == 2 and slice_equals(word, "ch"):
            flags[0] |= ADD_CH
        elif word.size == 2 and slice_equals(word, "gt"):
            flags[0] |= ADD_GT
        elif word.size == 2 and slice_equals(word, "lt"):
            flags[0] |= ADD_LT
        elif word.size == 4 and slice_equals(word, "incr"):
            flags[0] |= ADD_INCR
        else:
            break
        i += 1
    first[0] = i
    count = call.argc - i
    if count == 0 or count % 2 != 0:
        reply_syntax_error(call.reply)
    elif flags[0] & ADD_NX and flags[0] & ADD_XX:
        reply_error(call.reply, "ERR XX and NX options at the same time are not compatible")
    elif (flags[0] & ADD_GT and flags[0] & (ADD_NX | ADD_LT)) or (flags[0] & ADD_LT and flags[0] & ADD_NX):
        reply_error(call.reply, "ERR GT, LT, and/or NX options at the same time are not compatible")
    elif flags[0] & ADD_INCR and count > 2:
        reply_error(call.reply, "ERR INCR option supports a single increment-element pair")
    else:
        return True
    return False


cdef add_result_t add_member(object_t *value, slice_t member, double *score, uint32_t flags,
                             const zset_limits_t *limits) noexcept nogil:
    """*score becomes the one that the member has afterwards."""
    cdef zset_place_t place
    if not zset_find(value, member.data, member.size, &place):
        if flags & ADD_XX:
            return ADD_NOTHING
        zset_insert(value, &place, member.data, member.size, score[0], limits)
        return ADD_NEW
    if flags & ADD_NX:
        return ADD_NOTHING
    if flags & ADD_INCR:
        score[0] += place.score
        if isnan(score[0]):
            return ADD_NAN
    if (flags & ADD_LT and score[0] >= place.score) or (flags & ADD_GT and score[0] <= place.score):
        return ADD_NOTHING
    if score[0] == place.score:
        return ADD_SAME
    zset_set_score(value, &place, member.data, member.size, score[0])
    return ADD_CHANGED


cdef void zset_add_all(call_t *call, const double *scores, uint32_t first, uint32_t stride,
                       uint32_t flags) noexcept nogil:
    cdef zset_limits_t limits = zset_limits_of(&call.scope)
    cdef add_result_t result = ADD_NOTHING
    cdef uint64_t added = 0
    cdef uint64_t changed = 0
    cdef double score = 0
    cdef dash_ref_t ref
    cdef bint found
    cdef uint32_t i
    if not find_zset_to_change(call, &ref, &found):
        return
    if likely(found):
        update_begin(&call.scope, &ref)
    elif flags & ADD_XX:
        if flags & ADD_INCR:
            reply_null(call.reply)
        else:
            reply_int(call.reply, 0)
        return
    else:
        insert_key(&call.scope, &call.key, &ref)
        object_set_container(&ref.entry.value, TYPE_ZSET, NULL)
    for i in range((call.argc - first) // stride):
        score = scores[i]
        result = add_member(&ref.entry.value, call.argv[first + stride * (i + 1) - 1], &score, flags, &limits)
        if unlikely(result == ADD_NAN):
            break
        added += result == ADD_NEW
        changed += result == ADD_CHANGED
    if added + changed > 0:
        update_end(&call.scope, &call.key, NOTIFY_ZSET, "zincr" if flags & ADD_INCR else "zadd")
    if unlikely(result == ADD_NAN):
        reply_error(call.reply, "ERR resulting score is not a number (NaN)")
    elif flags & ADD_INCR:
        if result == ADD_NOTHING:
            reply_null(call.reply)
        else:
            reply_double(call.reply, score)
    else:
        reply_int(call.reply, <int64_t>(added + changed if flags & ADD_CH else added))


cdef void add_generic(call_t *call, uint32_t first, uint32_t flags) noexcept nogil:
    """Scores are read before anything changes."""
    cdef double stack[SCORES_ON_STACK]
    cdef double *scores = stack
    cdef uint32_t count = (call.argc - first) // 2
    cdef uint32_t i
    if count > SCORES_ON_STACK:
        scores = <double *>net_alloc(count * sizeof(double))
    for i in range(count):
        if not double_argument(call.reply, call.argv[first + 2 * i], &scores[i]):
            break
    else:
        zset_add_all(call, scores, first, 2, flags)
    if scores != stack:
        net_free(scores)


cdef void zadd_command(call_t *call) noexcept nogil:
    cdef uint32_t first
    cdef uint32_t flags = 0
    if parse_add_flags(call, &first, &flags):
        add_generic(call, first, flags)


cdef void zincrby_command(call_t *call) noexcept nogil:
    add_generic(call, 2, ADD_INCR)


# ---- ZREM --------------------------------------------------------------------------------------

cdef void zrem_command(call_t *call) noexcept nogil:
    cdef zset_place_t place
    cdef dash_ref_t ref
    cdef int64_t removed = 0
    cdef bint found
    cdef uint32_t i
    if not find_zset_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
        return
    update_begin(&call.scope, &ref)
    for i in range(2, call.argc):
        if zset_find(&ref.entry.value, call.argv[i].data, call.argv[i].size, &place):
            zset_erase(&ref.entry.value, &place)
            removed += 1
            if zset_count(&ref.entry.value) == 0:
                break
    if removed > 0:
        zset_finish_removal(&call.scope, &call.key, &ref, "zrem")
    reply_int(call.reply, removed)


# ---- Asking for members ------------------------------------------------------------------------

cdef void zcard_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_zset(call, &ref, &found):
        reply_int(call.reply, <int64_t>zset_count(&ref.entry.value) if found else 0)


cdef void reply_score(call_t *call, const object_t *value, slice_t member) noexcept nogil:
    """value NULL: no such key."""
    cdef double score
    if value != NULL and zset_score(value, member.data, member.size, &score):
        reply_double(call.reply, score)
    else:
        reply_null(call.reply)


cdef void zscore_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_zset(call, &ref, &found):
        reply_score(call, &ref.entry.value if found else NULL, call.argv[2])


cdef void zmscore_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    cdef uint32_t i
    if not find_zset(call, &ref, &found):
        return
    reply_array(call.reply, call.argc - 2)
    for i in range(2, call.argc):
        reply_score(call, &ref.entry.value if found else NULL, call.argv[i])


cdef void rank_generic(call_t *call, bint reverse) noexcept nogil:
    cdef bint with_score = call.argc > 3
    cdef zset_place_t place
    cdef dash_ref_t ref
    cdef uint64_t rank
    cdef bint found
    if call.argc > 4 or (with_score and not slice_equals(call.argv[3], "withscore")):
        reply_syntax_error(call.reply)
        return
    if not find_zset(call, &ref, &found):
        return
    if not found or not zset_find(&ref.entry.value, call.argv[2].data, call.argv[2].size, &place):
        if with_score:
            reply_null_array(call.reply)
        else:
            reply_null(call.reply)
        return
    rank = zset_rank(&ref.entry.value, &place)
    if reverse:
        rank = zset_count(&ref.entry.value) - 1 - rank
    if with_score:
        reply_array(call.reply, 2)
    reply_int(call.reply, <int64_t>rank)
    if with_score:
        reply_double(call.reply, place.score)


cdef void zrank_command(call_t *call) noexcept nogil:
    rank_generic(call, False)


cdef void zrevrank_command(call_t *call) noexcept nogil:
    rank_generic(call, True)


# ---- ZPOPMIN, ZPOPMAX --------------------------------------------------------------------------

cdef bint go_on_with_popped(long_read_t *read, transaction_t *tx) noexcept nogil:
    """They are replied while they are members still, and leave as soon as the reply is complete."""
    cdef bint nested = read.what != 0
    cdef zset_entry_t entry
    cdef dash_ref_t ref
    cdef scope_t scope
    if not read.is_begun:
        reply_array(&tx.reply, read.left if nested else 2 * read.left)
        zset_seek(&read.value, zset_count(&read.value) if read.is_backward else 0, &read.cursor.scores)
    while read.left > 0 and work_goes_on(&read.work):
        if read.is_backward:
            zset_previous(&read.cursor.scores, &entry)
        else:
            zset_next(&read.cursor.scores, &entry)
        reply_zset_entry(&tx.reply, &entry, True, nested)
        read.left -= 1
    if read.left > 0:
        return False
    transaction_scope(tx, tx.shards[tx.key_shards[0]], &scope)
    if zset_lookup_write(&scope, &tx.keys[0], &ref) == ZSET_FOUND:
        remove_popped(&scope, &tx.keys[0], &ref, read.first, read.is_backward)
    return True


cdef void zset_pop_begin(const object_t *value, uint64_t count, bint from_end, bint nested,
                         long_read_t *read) noexcept nogil:
    read.go_on = go_on_with_popped
    read.value = value[0]
    read.first = count
    read.left = count
    read.is_backward = from_end
    read.what = nested


cdef void pop_generic(call_t *call, bint from_end) noexcept nogil:
    cdef long_read_t *read
    cdef int64_t count
    cdef dash_ref_t ref
    cdef bint found
    cdef bint nested
    if call.argc > 3:
        reply_syntax_error(call.reply)
        return
    if not pop_count(call, &count) or not find_zset_to_change(call, &ref, &found):
        return
    if not found or count == 0:
        reply_array(call.reply, 0)
        return
    nested = call.reply.resp == 3 and count != -1
    if count == -1:
        count = 1
    if <uint64_t>count > zset_count(&ref.entry.value):
        count = <int64_t>zset_count(&ref.entry.value)
    if long_read_wanted(call, <uint64_t>count):
        read = long_read_begin(call, &ref.entry.value, go_on_with_popped)
        if read != NULL:
            zset_pop_begin(&ref.entry.value, <uint64_t>count, from_end, nested, read)
        return
    reply_array(call.reply, count if nested else 2 * count)
    zset_pop(&call.scope, &call.key, &ref, <uint64_t>count, from_end, nested, call.reply)


cdef void zpopmin_command(call_t *call) noexcept nogil:
    pop_generic(call, False)


cdef void zpopmax_command(call_t *call) noexcept nogil:
    pop_generic(call, True)


# ---- ZRANDMEMBER -------------------------------------------------------------------------------

cdef void reply_at_rank(reply_t *reply, const object_t *value, uint64_t rank, bint with_score) noexcept nogil:
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    zset_seek(value, rank, &cursor)
    zset_next(&cursor, &entry)
    reply_zset_entry(reply, &entry, with_score, with_score and reply.resp == 3)


cdef bint repeat_members(long_read_t *read, reply_t *reply) noexcept nogil:
    """read.left members, each of them any. read.what: with scores."""
    if not read.is_begun:
        reply_zset_header(reply, read.left, read.what != 0)
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        reply_at_rank(reply, &read.value, random_u64() % zset_count(&read.value), read.what != 0)
        read.left -= 1
    return True


cdef bint select_members(long_read_t *read, reply_t *reply) noexcept nogil:
    """Walks over all, read.first of them: each is taken with the probability that makes all selections of read.left
    equally likely (Knuth's algorithm S)."""
    cdef bint with_scores = read.what != 0
    cdef zset_entry_t entry
    if not read.is_begun:
        reply_zset_header(reply, read.left, with_scores)
        zset_seek(&read.value, 0, &read.cursor.scores)
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        zset_next(&read.cursor.scores, &entry)
        if random_u64() % read.first < read.left:
            reply_zset_entry(reply, &entry, with_scores, with_scores and reply.resp == 3)
            read.left -= 1
        read.first -= 1
    return True


cdef bint draw_members(long_read_t *read, reply_t *reply) noexcept nogil:
    """Draws ranks, until read.left different ones have come; those drawn are in an open-addressed table of read.first
    slots, in read.extra."""
    cdef uint64_t total = zset_count(&read.value)
    cdef uint64_t *drawn
    cdef uint64_t rank
    cdef uint64_t i
    if not read.is_begun:
        reply_zset_header(reply, read.left, read.what != 0)
        read.first = 16
        while read.first < read.left * 2:
            read.first *= 2
        read.extra = net_realloc(read.extra, read.first * sizeof(uint64_t))
        memset(read.extra, 0, read.first * sizeof(uint64_t))
    drawn = <uint64_t *>read.extra
    while read.left > 0:
        if not work_goes_on(&read.work):
            return False
        rank = random_u64() % total
        i = rank & (read.first - 1)
        while drawn[i] != 0 and drawn[i] != rank + 1:
            i = (i + 1) & (read.first - 1)
        if drawn[i] == 0:
            drawn[i] = rank + 1
            reply_at_rank(reply, &read.value, rank, read.what != 0)
            read.left -= 1
    return True


cdef bint go_on_repeating(long_read_t *read, transaction_t *tx) noexcept nogil:
    return repeat_members(read, &tx.reply)


cdef bint go_on_selecting(long_read_t *read, transaction_t *tx) noexcept nogil:
    return select_members(read, &tx.reply)


cdef bint go_on_drawing(long_read_t *read, transaction_t *tx) noexcept nogil:
    return draw_members(read, &tx.reply)


cdef void random_in_slices(call_t *call, const object_t *value, bint repeats, uint64_t count,
                           bint with_scores) noexcept nogil:
    cdef long_read_work_t go_on = go_on_drawing
    cdef long_read_t *read
    if repeats:
        go_on = go_on_repeating
    elif count * WALK_FACTOR > zset_count(value):
        go_on = go_on_selecting
    read = long_read_begin(call, value, go_on)
    if read != NULL:
        read.left = count
        read.first = zset_count(value)
        read.what = with_scores


cdef void reply_random(call_t *call, const object_t *value, int64_t count, bint with_scores) noexcept nogil:
    """Negative: so many, which may be the same."""
    cdef uint64_t wanted = <uint64_t>-count if count < 0 else min(<uint64_t>count, zset_count(value))
    cdef long_read_t read
    if long_read_wanted(call, wanted):
        random_in_slices(call, value, count < 0, wanted, with_scores)
        return
    long_read_at_once(&read, value)
    read.left = wanted
    read.first = zset_count(value)
    read.what = with_scores
    if count < 0:
        repeat_members(&read, call.reply)
    elif wanted * WALK_FACTOR > read.first:
        select_members(&read, call.reply)
    else:
        draw_members(&read, call.reply)
    net_free(read.extra)


cdef bint parse_random(call_t *call, int64_t *count, bint *with_scores) noexcept nogil:
    with_scores[0] = call.argc == 4
    if not call_int_argument(call, 2, count):
        return False
    if count[0] < -INT64_MAX:
        reply_error(call.reply, "ERR value is out of range, value must between -9223372036854775807 and "
                                "9223372036854775807")
        return False
    if call.argc > 4 or (with_scores[0] and not slice_equals(call.argv[3], "withscores")):
        reply_syntax_error(call.reply)
        return False
    if count[0] < -<int64_t>REPEATS_MAX or (with_scores[0] and count[0] > INT64_MAX // 2):
        reply_error(call.reply, "ERR value is out of range")
        return False
    return True


cdef void zrandmember_command(call_t *call) noexcept nogil:
    cdef int64_t count = 0
    cdef bint with_scores
    cdef dash_ref_t ref
    cdef bint found
    if call.argc > 2:
        if not parse_random(call, &count, &with_scores) or not find_zset(call, &ref, &found):
            return
        if not found or count == 0:
            reply_array(call.reply, 0)
        else:
            reply_random(call, &ref.entry.value, count, with_scores)
        return
    if not find_zset(call, &ref, &found):
        return
    if found:
        reply_at_rank(call.reply, &ref.entry.value, random_u64() % zset_count(&ref.entry.value), False)
    else:
        reply_null(call.reply)


# ---- ZSCAN -------------------------------------------------------------------------------------

cdef void scan_entry(const zset_entry_t *entry, void *context) noexcept nogil:
    cdef element_scan_t *scan = <element_scan_t *>context
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef char text[SCORE_TEXT_MAX]
    cdef slice_t member = list_item_text(&entry.member, scratch)
    scan.counted += 1
    if not scan_pattern_matches(&scan.options, member.data, member.size):
        return
    reply_bulk(scan.elements, member.data, member.size)
    # As Redis: a compact set shows scores as they are stored, a large one never shows 1e17 as a whole number.
    if zset_is_compact(scan.value):
        reply_bulk(scan.elements, text, score_text(entry.score, text))
    else:
        reply_bulk(scan.elements, text, <size_t>snprintf(text, sizeof(text), "%.17g", entry.score))
    scan.found += 2


cdef uint64_t scan_step(element_scan_t *scan, uint64_t cursor) noexcept nogil:
    cdef uint64_t left = <uint64_t>scan.options.count - scan.counted
    return zset_scan(scan.value, cursor, min(left, <uint64_t>SCAN_STEP), scan_entry, scan)


cdef void zscan_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef uint64_t cursor = 0
    cdef bint found
    if not parse_scan_cursor(call.argv[2], &cursor):
        reply_error(call.reply, "ERR invalid cursor")
        return
    if not find_zset(call, &ref, &found):
        return
    if found:
        element_scan(call, &ref.entry.value, zset_count(&ref.entry.value), cursor, scan_step, False)
    else:
        reply_empty_scan(call.reply)


# ---- DEBUG DIGEST ------------------------------------------------------------------------------

cdef void digest_zset(unsigned char *digest, const object_t *value) noexcept nogil:
    cdef unsigned char of_entry[SHA1_SIZE]
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef char text[SCORE_TEXT_MAX]
    cdef zset_cursor_t cursor
    cdef zset_entry_t entry
    cdef slice_t member
    zset_seek(value, 0, &cursor)
    while zset_next(&cursor, &entry):
        member = list_item_text(&entry.member, scratch)
        memset(of_entry, 0, sizeof(of_entry))
        digest_mix(of_entry, member.data, member.size)
        digest_mix(of_entry, text, <size_t>snprintf(text, sizeof(text), "%.17g", entry.score))
        digest_xor(digest, of_entry, SHA1_SIZE)


register_value_digest(TYPE_ZSET, digest_zset)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 12

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t fast = COMMAND_FAST
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_FAST
    cdef uint64_t pop = KEY_RW | KEY_ACCESS | KEY_DELETE
    rows[0] = key_row("zadd", -4, grow, ACL_SORTEDSET, KEY_RW | KEY_UPDATE, zadd_command)
    rows[1] = key_row("zincrby", 4, grow, ACL_SORTEDSET, KEY_RW | KEY_ACCESS | KEY_UPDATE, zincrby_command)
    rows[2] = key_row("zrem", -3, COMMAND_WRITE | fast, ACL_SORTEDSET, KEY_RW | KEY_DELETE, zrem_command)
    rows[3] = key_row("zcard", 2, read | fast, ACL_SORTEDSET, KEY_RO, zcard_command)
    rows[4] = key_row("zscore", 3, read | fast, ACL_SORTEDSET, look, zscore_command)
    rows[5] = key_row("zmscore", -3, read | fast, ACL_SORTEDSET, look, zmscore_command)
    rows[6] = key_row("zrank", -3, read | fast, ACL_SORTEDSET, look, zrank_command)
    rows[7] = key_row("zrevrank", -3, read | fast, ACL_SORTEDSET, look, zrevrank_command)
    rows[8] = key_row("zpopmin", -2, COMMAND_WRITE | fast, ACL_SORTEDSET, pop, zpopmin_command)
    rows[8].step = long_read_step
    rows[9] = key_row("zpopmax", -2, COMMAND_WRITE | fast, ACL_SORTEDSET, pop, zpopmax_command)
    rows[9].step = long_read_step
    rows[10] = key_row("zrandmember", -2, read, ACL_SORTEDSET, look, zrandmember_command)
    rows[10].step = long_read_step
    rows[11] = key_row("zscan", -3, read, ACL_SORTEDSET, look, zscan_command)
    rows[11].step = long_read_step
    register_commands(rows, ROW_COUNT)
