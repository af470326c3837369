"""XREAD and XREADGROUP, with and without BLOCK.

One hop over the shards looks keys and groups up, then all IDs are settled in the order of the arguments ("$" is
remembered as what it means now), then keys are served: XREAD in place, of many entries in slices (stream_long_reads),
XREADGROUP key by key on their shards, since it changes the group (of many entries in slices: stream_deliveries). A
waiter brings its IDs and its group along, so that who adds an entry can see at once whom it concerns
(engine/waiter.pxd); those behind a group wait for what is new to the group, whatever they have seen. With CLAIM a
group's reader first gets what has been pending for so long, and while it waits it tries again when the next entry
will be. What it meets there that is gone from the stream is no longer pending, as with XAUTOCLAIM. Order of checks
and replies as Redis 7.0; "+" as 7.4; CLAIM as 8.4 (redis.io/docs/latest/commands/xreadgroup).
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.commands.stream_claims cimport (claim_begin, claim_by_time, claim_choose, claim_finish, claim_free,
                                                claim_t)
from dfly._core.commands.stream_deliveries cimport (NO_CLAIM, begin_key, begin_single, deliveries_add,
                                                    deliveries_add_history, deliveries_begin, deliveries_first,
                                                    deliveries_is_stage, deliveries_next, deliveries_plan,
                                                    deliveries_t, delivery_is_long, delivery_is_possible, delivery_t,
                                                    history_is_long, reply_gone_entry)
from dfly._core.commands.stream_long_reads cimport (stream_left_t, streams_left_add, streams_left_begin,
                                                    streams_left_first, streams_left_is_long, streams_left_is_stage,
                                                    streams_left_next, streams_left_plan, streams_left_t)
from dfly._core.commands.streams cimport (STREAM_ABSENT, STREAM_FOUND, STREAM_WRONG_TYPE, has_behind, parse_integer,
                                          parse_stream_id, reply_claimed_entry, reply_entry, reply_names_error,
                                          reply_range, stream_lookup, stream_lookup_read, stream_of, take_consumer)
from dfly._core.commands.timeouts cimport parse_timeout_ms
from dfly._core.engine.blocking cimport blocking_is_over, blocking_try_at, blocking_wait
from dfly._core.engine.command cimport (ACL_BLOCKING, ACL_STREAM, COMMAND_BLOCKING, COMMAND_MOVABLE_KEYS,
                                        COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS, KEY_RO, TRANSACTION_DONE,
                                        TRANSACTION_WAIT, command_spec_t, register_commands, reply_syntax_error,
                                        reply_wrong_type, slice_equals, transaction_row, transaction_t)
from dfly._core.engine.database cimport NOTIFY_STREAM, update_begin, update_end_unseen
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport SLICES_LOOKED, slices_look, slices_plan_t, work_all, work_t
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_interrupt, transaction_scope
from dfly._core.engine.waiter cimport NO_SHARD, waiter_t, waiting_rules_t
from dfly._core.resp.reply cimport (reply_defer_array, reply_error, reply_null_array, reply_set_deferred,
                                    reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport (id_ceiling, id_decrement, id_increment, id_next, id_place_t, id_slot,
                                        stream_id, stream_id_t)
from dfly._core.store.object cimport TYPE_STREAM, object_is_container, object_pointer, object_t, parse_int64
from dfly._core.store.stream cimport (stream_cursor_t, stream_has, stream_last_entry, stream_read_at, stream_read_next,
                                      stream_seek, stream_t)
from dfly._core.store.stream_groups cimport (group_find, group_settle, pending_date, pending_deliver,
                                             pending_remove, pending_t, stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_advance_group
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely
from dfly._core.sys.clock cimport wall_ms

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    NEXT = 0                     # key of XREADGROUP to serve
    SERVED = 1                   # keys in the reply
    MARK = 2                     # of its header
    DUE = 3                      # when the next entry can be claimed, ms; DUE_NEVER
    BLOCKED_COUNT = 1000         # entries for a client that has waited and gave no COUNT, as in Redis

    DUE_LEAST_MS = 20            # what is not pending yet is looked for no sooner
    FORGET_AT_ONCE = 500         # pending entries that are gone, in one hop
    STREAMS_IN_SLICES = 64       # of XREADGROUP: they are compared pair by pair, and each slice looks at all of them

cdef int64_t DUE_NEVER = INT64_MAX


cdef enum step_t:
    STEP_START = 0
    STEP_MISSED = 6              # behind STREAMS_CHECKED
    STEP_SERVED = 7
    STEP_FORGOTTEN = 8
    STEP_INTERRUPTED = 9

cdef union slicing_t:
    streams_left_t left          # of XREAD
    deliveries_t deliveries      # of XREADGROUP

cdef struct wanted_t:
    # The command's options; in tx.state, later the waiter's. Its own memory throughout: arguments move.
    slicing_t in_slices          # first
    int64_t count                # 0: all
    int64_t timeout_ms
    bint blocks
    bint is_group
    bint no_ack
    int64_t min_idle_ms          # of CLAIM; NO_CLAIM
    uint32_t first               # position of the first key in argv
    uint32_t key_count
    uint32_t group_position      # of the group's name in argv, the consumer's is next
    slice_t group                # a copy behind the IDs
    stream_id_t *ids             # entries behind these; ID_NEW: behind the group's last


cdef inline stream_id_t id_new() noexcept nogil:
    return stream_id(<uint64_t>-1, <uint64_t>-1)


cdef inline bint is_new(stream_id_t id) noexcept nogil:
    return (id.ms & id.seq) == <uint64_t>-1


# ---- Arguments ---------------------------------------------------------------------------------

cdef bint find_streams(const slice_t *argv, uint32_t argc, uint32_t *first, uint32_t *count) noexcept nogil:
    """The keys behind STREAMS."""
    cdef uint32_t i = 1
    while i < argc:
        if slice_equals(argv[i], "block") or slice_equals(argv[i], "count"):
            i += 2
        elif slice_equals(argv[i], "claim"):
            i += 2
        elif slice_equals(argv[i], "group"):
            i += 3
        elif slice_equals(argv[i], "noack"):
            i += 1
        elif slice_equals(argv[i], "streams"):
            # Wrong arguments have keys too, as in Redis: the command itself complains.
            first[0] = i + 1
            count[0] = (argc - i - 1) // 2
            return count[0] > 0
        else:
            i += 1
    return False


cdef int read_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    cdef uint32_t first
    cdef uint32_t count
    cdef uint32_t i
    if not find_streams(argv, argc, &first, &count):
        return -1
    for i in range(count):
        out[i] = first + i
    return <int>count


cdef bint parse_claim(transaction_t *tx, wanted_t *out, slice_t text, bint is_group) noexcept nogil:
    if not is_group:
        reply_error(&tx.reply, "ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.")
        return False
    if not parse_int64(text.data, text.size, &out.min_idle_ms):
        reply_error(&tx.reply, "ERR min-idle-time is not an integer")
        return False
    if out.min_idle_ms < 0:
        reply_error(&tx.reply, "ERR min-idle-time must be a positive integer")
        return False
    return True


cdef bint parse_option(transaction_t *tx, wanted_t *out, uint32_t *i, bint is_group) noexcept nogil:
    """The option at i, which ends at its last word."""
    cdef uint32_t more = tx.argc - i[0] - 1
    cdef slice_t word = tx.argv[i[0]]
    if slice_equals(word, "block") and more > 0:
        i[0] += 1
        out.blocks = True
        return parse_timeout_ms(&tx.reply, tx.argv[i[0]], &out.timeout_ms)
    if slice_equals(word, "count") and more > 0:
        i[0] += 1
        if not parse_integer(&tx.reply, tx.argv[i[0]], &out.count):
            return False
        out.count = max(out.count, <int64_t>0)
        return True
    if slice_equals(word, "group") and more >= 2:
        if not is_group:
            reply_error(&tx.reply, "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.")
            return False
        out.group_position = i[0] + 1
        i[0] += 2
        return True
    if slice_equals(word, "claim") and more > 0:
        i[0] += 1
        return parse_claim(tx, out, tx.argv[i[0]], is_group)
    if slice_equals(word, "noack"):
        if not is_group:
            reply_error(&tx.reply, "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.")
            return False
        out.no_ack = True
        return True
    reply_syntax_error(&tx.reply)
    return False


cdef bint parse_read(transaction_t *tx, wanted_t *out, bint is_group) noexcept nogil:
    cdef uint32_t i = 1
    cdef uint32_t rest
    while i < tx.argc:
        if slice_equals(tx.argv[i], "streams") and i + 1 < tx.argc:
            out.first = i + 1
            break
        if not parse_option(tx, out, &i, is_group):
            return False
        i += 1
    rest = tx.argc - out.first
    if out.first != 0 and rest % 2 != 0:
        reply_error(&tx.reply, "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be "
                               "specified.")
        return False
    if out.first == 0:
        reply_syntax_error(&tx.reply)
        return False
    if is_group and out.group_position == 0:
        reply_error(&tx.reply, "ERR Missing GROUP option for XREADGROUP")
        return False
    out.key_count = rest // 2
    out.is_group = is_group
    return True


cdef wanted_t *make_wanted(transaction_t *tx, bint is_group) noexcept nogil:
    """NULL after an error reply."""
    cdef wanted_t parsed
    cdef wanted_t *wanted
    cdef size_t each = sizeof(delivery_t) if is_group else sizeof(stream_left_t)
    cdef size_t group_size = 0
    memset(&parsed.in_slices, 0, sizeof(slicing_t))
    parsed.count = 0
    parsed.timeout_ms = 0
    parsed.blocks = False
    parsed.no_ack = False
    parsed.min_idle_ms = NO_CLAIM
    parsed.first = 0
    parsed.group_position = 0
    if not parse_read(tx, &parsed, is_group):
        return NULL
    if is_group:
        group_size = tx.argv[parsed.group_position].size
    wanted = <wanted_t *>net_zalloc(sizeof(wanted_t) + group_size + parsed.key_count * (each + sizeof(stream_id_t)))
    wanted[0] = parsed
    if is_group:
        wanted.in_slices.deliveries.streams = <delivery_t *>(wanted + 1)
    else:
        wanted.in_slices.left.streams = <stream_left_t *>(wanted + 1)
    wanted.ids = <stream_id_t *>(<char *>(wanted + 1) + parsed.key_count * each)
    wanted.group.data = <const char *>(wanted.ids + parsed.key_count)
    wanted.group.size = group_size
    if is_group:
        memcpy(<char *>wanted.group.data, tx.argv[parsed.group_position].data, group_size)
    tx.state = wanted
    return wanted


# ---- Looking up, settling IDs ------------------------------------------------------------------

cdef void look_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Values are borrowed copies: an entry may move when another key goes, its stream does not."""
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] == shard.index:
            tx.results[i].number = stream_lookup_read(&scope, &tx.keys[i], &ref)
            if tx.results[i].number == STREAM_FOUND:
                tx.results[i].value = ref.entry.value


cdef inline const stream_t *looked_up(const transaction_t *tx, uint32_t i) noexcept nogil:
    """NULL: no such key."""
    if tx.results[i].number != STREAM_FOUND:
        return NULL
    return <const stream_t *>object_pointer(&tx.results[i].value)


cdef inline bint is_word(slice_t text, char letter) noexcept nogil:
    return text.size == 1 and text.data[0] == letter


cdef bint settle_id(transaction_t *tx, wanted_t *wanted, uint32_t i) noexcept nogil:
    cdef slice_t word = tx.argv[wanted.first + wanted.key_count + i]
    cdef const stream_t *stream = looked_up(tx, i)
    cdef stream_id_t *id = &wanted.ids[i]
    if is_word(word, c'$'):
        if wanted.is_group:
            reply_error(&tx.reply, "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the "
                                   "history of this consumer by specifying a proper ID, or use the > ID to get new "
                                   "messages. The $ ID would just return an empty result set.")
            return False
        id[0] = stream_id(0, 0)
        if stream != NULL:
            id[0] = stream.last_id
        return True
    if is_word(word, c'+'):
        if wanted.is_group:
            reply_error(&tx.reply, "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the "
                                   "history of this consumer by specifying a proper ID, or use the > ID to get new "
                                   "messages. The + ID would just return an empty result set.")
            return False
        # The last entry: what is behind the ID before it.
        id[0] = stream_id(0, 0)
        if stream != NULL and stream_last_entry(stream, id):
            id_decrement(id)
        elif stream != NULL:
            id[0] = stream.last_id
        return True
    if is_word(word, c'>'):
        if not wanted.is_group:
            reply_error(&tx.reply, "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> "
                                   "<consumer> option.")
            return False
        id[0] = id_new()
        return True
    return parse_stream_id(&tx.reply, word, id, 0, True, NULL)


cdef bint settle(transaction_t *tx, wanted_t *wanted) noexcept nogil:
    cdef const stream_t *stream
    cdef uint32_t i
    for i in range(wanted.key_count):
        if tx.results[i].number == STREAM_WRONG_TYPE:
            reply_wrong_type(&tx.reply)
            return False
        stream = looked_up(tx, i)
        if wanted.is_group and (stream == NULL or group_find(&stream.groups, wanted.group) == NULL):
            reply_names_error(&tx.reply, "NOGROUP No such key '", tx.argv[wanted.first + i], "' or consumer group '",
                              wanted.group, "' in XREADGROUP with GROUP option")
            return False
        if not settle_id(tx, wanted, i):
            return False
    return True


# ---- Serving -----------------------------------------------------------------------------------

cdef void serve_reader(transaction_t *tx, const stream_t *stream, uint32_t i, stream_id_t behind,
                       int64_t count) noexcept nogil:
    id_increment(&behind)
    begin_key(&tx.reply, tx.argv[(<const wanted_t *>tx.state).first + i])
    reply_range(&tx.reply, stream, behind, id_new(), <uint64_t>count, False)


cdef void reply_history(reply_t *reply, const stream_t *stream, stream_group_t *group, stream_consumer_t *consumer,
                        stream_id_t behind, int64_t count, int64_t now_ms) noexcept nogil:
    """What the consumer has and has not acknowledged, delivered once more."""
    cdef size_t mark = reply_defer_array(reply)
    cdef stream_cursor_t cursor
    cdef stream_id_t id
    cdef id_place_t place
    cdef pending_t *pending
    cdef int64_t written = 0
    cdef bint more = id_increment(&behind) and id_ceiling(&consumer.pending, behind, &place)
    cursor.stream = NULL
    while more and (count == 0 or written < count):
        id = id_slot(&consumer.pending, place).id
        pending = <pending_t *>id_slot(&consumer.pending, place).value
        if stream_read_at(stream, id, &cursor):
            reply_entry(reply, &cursor)
            pending_date(group, pending, now_ms)
            pending.deliveries += 1
        else:
            reply_gone_entry(reply, id)
        written += 1
        more = id_next(&consumer.pending, &place)
    reply_set_deferred(reply, mark, c'*', <size_t>written)


cdef bint has_claimable(const stream_t *stream, const stream_group_t *group, int64_t min_idle_ms, int64_t now_ms,
                        int64_t *due_ms) noexcept nogil:
    """Whether something has been pending for so long; if not, due_ms becomes the earlier of itself and when it will."""
    cdef const pending_t *pending
    cdef stream_cursor_t cursor
    if min_idle_ms == NO_CLAIM:
        return False
    group_settle(group)
    pending = group.oldest
    cursor.stream = NULL
    # Those in front that are gone were forgotten when the reader came (forget_gone).
    while pending != NULL and now_ms - pending.delivered_ms >= min_idle_ms:
        if stream_read_at(stream, pending.id, &cursor):
            return True
        pending = pending.newer
    if min_idle_ms > INT64_MAX - now_ms:
        return False
    # Who has nothing pending now may have some later.
    due_ms[0] = min(due_ms[0], max(now_ms + DUE_LEAST_MS, now_ms + min_idle_ms) if pending == NULL
                    else min(pending.delivered_ms, now_ms) + min_idle_ms)
    return False


cdef bint has_gone(const stream_t *stream, const stream_group_t *group, int64_t min_idle_ms,
                   int64_t now_ms) noexcept nogil:
    """The entry that would be claimed first is no longer in the stream."""
    if min_idle_ms == NO_CLAIM:
        return False
    group_settle(group)
    return (group.oldest != NULL and now_ms - group.oldest.delivered_ms >= min_idle_ms
            and not stream_has(stream, group.oldest.id))


cdef void forget_gone(const stream_t *stream, stream_group_t *group, int64_t min_idle_ms,
                      int64_t now_ms) noexcept nogil:
    """Some of those that come first, which each reader would walk over."""
    cdef int left = FORGET_AT_ONCE
    while left > 0 and has_gone(stream, group, min_idle_ms, now_ms):
        pending_remove(group, group.oldest.id)
        left -= 1


cdef int64_t claim_idle(reply_t *reply, const stream_t *stream, stream_group_t *group, stream_consumer_t *consumer,
                        const wanted_t *wanted, int64_t count, int64_t now_ms) noexcept nogil:
    """Replies with what has been pending for so long, the longest first, and gives it to the consumer."""
    cdef claim_t claim
    cdef work_t work
    cdef int64_t written
    claim_by_time(&claim, wanted.min_idle_ms, <uint64_t>(count if count > 0 else -1), now_ms)
    claim.at_once = reply
    claim_begin(&claim, stream, group, False)
    work_all(&work)
    claim_choose(&claim, stream, &work)
    claim_finish(&claim, consumer, now_ms)
    written = <int64_t>claim.chosen.count
    claim_free(&claim)
    return written


cdef void reply_new(reply_t *reply, stream_t *stream, stream_group_t *group, stream_consumer_t *consumer,
                    const wanted_t *wanted, int64_t count, int64_t now_ms) noexcept nogil:
    """What nobody of the group has got yet, behind what is claimed."""
    cdef size_t mark = reply_defer_array(reply)
    cdef stream_id_t behind = group.last_id
    cdef stream_cursor_t cursor
    cdef int64_t written = 0
    if wanted.min_idle_ms != NO_CLAIM:
        written = claim_idle(reply, stream, group, consumer, wanted, count, now_ms)
    id_increment(&behind)
    stream_seek(stream, behind, &cursor)
    while (count == 0 or written < count) and stream_read_next(&cursor):
        stream_advance_group(stream, group, cursor.id)
        if not wanted.no_ack:
            pending_deliver(group, consumer, cursor.id, now_ms)
        if wanted.min_idle_ms == NO_CLAIM:
            reply_entry(reply, &cursor)
        else:
            reply_claimed_entry(reply, &cursor, 0, 0)
        written += 1
    if written > 0:
        consumer.active_ms = now_ms
    reply_set_deferred(reply, mark, c'*', <size_t>written)


cdef inline wanted_t *wanted_of(transaction_t *tx) noexcept nogil:
    """The transaction's, or its waiter's."""
    if tx.state != NULL:
        return <wanted_t *>tx.state
    return <wanted_t *>(<waiter_t *>tx.connection.waiter).wanted


cdef void serve_group_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef uint32_t i = <uint32_t>tx.numbers[NEXT]
    cdef wanted_t *wanted = wanted_of(tx)
    cdef stream_id_t id = wanted.ids[i]
    cdef stream_consumer_t *consumer
    cdef stream_group_t *group
    cdef stream_t *stream
    cdef bint has_new
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    stream_lookup(&scope, &tx.keys[i], &ref)
    stream = stream_of(&ref)
    group = group_find(&stream.groups, wanted.group)
    has_new = is_new(id) and (has_behind(stream, group.last_id)
                              or has_claimable(stream, group, wanted.min_idle_ms, scope.now_ms, &tx.numbers[DUE]))
    if is_new(id) and not has_new:
        return
    # As 7.0, a consumer comes into being when it is served for the first time.
    update_begin(&scope, &ref)
    consumer = take_consumer(&scope, &tx.keys[i], group, tx.argv[wanted.group_position + 1])
    tx.numbers[SERVED] += 1
    begin_key(&tx.reply, tx.argv[wanted.first + i])
    if has_new:
        reply_new(&tx.reply, stream, group, consumer, wanted, wanted.count, scope.now_ms)
    else:
        reply_history(&tx.reply, stream, group, consumer, id, wanted.count, scope.now_ms)
    update_end_unseen(&scope, &tx.keys[i], NOTIFY_STREAM, NULL)


cdef void forget_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef wanted_t *wanted = wanted_of(tx)
    cdef stream_group_t *group
    cdef stream_t *stream
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] != shard.index:
            continue
        # They are looked up once more.
        shard.stats.hits -= 2
        if not is_new(wanted.ids[i]):
            continue
        stream_lookup(&scope, &tx.keys[i], &ref)
        stream = stream_of(&ref)
        group = group_find(&stream.groups, wanted.group)
        if has_gone(stream, group, wanted.min_idle_ms, scope.now_ms):
            update_begin(&scope, &ref)
            forget_gone(stream, group, wanted.min_idle_ms, scope.now_ms)
            update_end_unseen(&scope, &tx.keys[i], NOTIFY_STREAM, NULL)


# ---- Waiting -----------------------------------------------------------------------------------

cdef bint accepts_stream(const object_t *value, const void *context, uint32_t position) noexcept nogil:
    """A group's reader also hears that its stream or its group has gone."""
    cdef const wanted_t *wanted = <const wanted_t *>context
    cdef const stream_t *stream
    cdef const stream_group_t *group
    cdef int64_t due_ms = DUE_NEVER
    if value == NULL or not object_is_container(value, TYPE_STREAM):
        return wanted.is_group
    stream = <const stream_t *>object_pointer(value)
    if not wanted.is_group:
        return has_behind(stream, wanted.ids[position])
    group = group_find(&stream.groups, wanted.group)
    return (group == NULL or has_behind(stream, group.last_id)
            or has_claimable(stream, group, wanted.min_idle_ms, wall_ms(), &due_ms))


cdef void serve_waiting(transaction_t *tx, uint32_t position) noexcept nogil:
    cdef wanted_t *wanted = wanted_of(tx)
    cdef slice_t key = tx.argv[wanted.first + position]
    cdef int64_t count = wanted.count if wanted.count > 0 else BLOCKED_COUNT
    cdef stream_group_t *group
    cdef stream_consumer_t *consumer
    cdef stream_id_t behind
    cdef stream_t *stream
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, tx.shards[tx.key_shards[position]], &scope)
    if stream_lookup(&scope, &tx.keys[position], &ref) != STREAM_FOUND:
        reply_error(&tx.reply, "UNBLOCKED the stream key no longer exists")
        return
    stream = stream_of(&ref)
    if not wanted.is_group:
        behind = wanted.ids[position]
        id_increment(&behind)
        begin_single(&tx.reply, key)
        reply_range(&tx.reply, stream, behind, id_new(), <uint64_t>count, False)
        return
    group = group_find(&stream.groups, wanted.group)
    if group == NULL:
        reply_error(&tx.reply, "NOGROUP the consumer group this client was blocked on no longer exists")
        return
    update_begin(&scope, &ref)
    consumer = take_consumer(&scope, &tx.keys[position], group, tx.argv[wanted.group_position + 1])
    begin_single(&tx.reply, key)
    reply_new(&tx.reply, stream, group, consumer, wanted, count, scope.now_ms)
    update_end_unseen(&scope, &tx.keys[position], NOTIFY_STREAM, NULL)


cdef void reply_nothing(transaction_t *tx) noexcept nogil:
    reply_null_array(&tx.reply)


cdef waiting_rules_t RULES
RULES.accepts = accepts_stream
RULES.serve = serve_waiting
RULES.reply_nothing = reply_nothing
RULES.sees_absent = True
RULES.keeps_state = True


# ---- Steps -------------------------------------------------------------------------------------

cdef slices_plan_t PLAN
streams_left_plan(&PLAN, look_hop)
cdef slices_plan_t GROUP_PLAN
deliveries_plan(&GROUP_PLAN, look_hop)


cdef int finish(transaction_t *tx, wanted_t *wanted) noexcept nogil:
    cdef uint64_t served = <uint64_t>tx.numbers[SERVED]
    cdef int64_t due_ms = tx.numbers[DUE]
    cdef int result
    if served > 0:
        reply_set_deferred(&tx.reply, <size_t>tx.numbers[MARK], c'*' if tx.reply.resp == 2 else c'%', served)
        return TRANSACTION_DONE
    tx.reply.size = 0
    if wanted.blocks:
        tx.stage = STEP_START
        result = blocking_wait(tx, tx.key_count, NO_SHARD, wanted.timeout_ms, &RULES)
        if result == TRANSACTION_WAIT and due_ms != DUE_NEVER:
            blocking_try_at(tx, due_ms)
        return result
    reply_null_array(&tx.reply)
    return TRANSACTION_DONE


cdef void miss_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """As in Redis, a key that is not there is missed when it is checked and when it is read."""
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] == shard.index and tx.results[i].number == STREAM_ABSENT:
            stream_lookup_read(&scope, &tx.keys[i], &ref)


cdef void count_hits(transaction_t *tx) noexcept nogil:
    """Nor is one that is there found only once."""
    cdef uint32_t i
    for i in range(tx.key_count):
        if tx.results[i].number == STREAM_FOUND:
            tx.shards[tx.key_shards[i]].stats.hits += 1


cdef bint misses_any(const transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(tx.key_count):
        if tx.results[i].number == STREAM_ABSENT:
            return True
    return False


cdef inline uint64_t most_of(const wanted_t *wanted) noexcept nogil:
    return <uint64_t>(wanted.count if wanted.count > 0 else -1)


cdef bint is_long(transaction_t *tx, const wanted_t *wanted) noexcept nogil:
    cdef uint64_t most = most_of(wanted)
    cdef const stream_t *stream
    cdef uint32_t i
    for i in range(wanted.key_count):
        stream = looked_up(tx, i)
        if unlikely(stream != NULL and streams_left_is_long(tx, stream, wanted.ids[i], most)
                    and has_behind(stream, wanted.ids[i])):
            return True
    return False


cdef int serve_in_slices(transaction_t *tx, wanted_t *wanted) noexcept nogil:
    cdef const stream_t *stream
    cdef uint32_t i
    tx.reply.size = 0
    streams_left_begin(&wanted.in_slices.left, tx, wanted.first, most_of(wanted))
    for i in range(wanted.key_count):
        stream = looked_up(tx, i)
        if stream != NULL and has_behind(stream, wanted.ids[i]):
            streams_left_add(&wanted.in_slices.left, i, &tx.results[i].value, wanted.ids[i])
    return streams_left_first(tx, &PLAN)


cdef int serve_readers(transaction_t *tx, wanted_t *wanted) noexcept nogil:
    cdef const stream_t *stream
    cdef uint32_t i
    if unlikely(is_long(tx, wanted)):
        return serve_in_slices(tx, wanted)
    for i in range(wanted.key_count):
        stream = looked_up(tx, i)
        if stream != NULL and has_behind(stream, wanted.ids[i]):
            tx.numbers[SERVED] += 1
            serve_reader(tx, stream, i, wanted.ids[i], wanted.count)
    return finish(tx, wanted)


cdef bint may_have_key_twice(const transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t k
    if tx.key_count > STREAMS_IN_SLICES:
        return True
    for i in range(1, tx.key_count):
        for k in range(i):
            if tx.keys[i].hash == tx.keys[k].hash:
                return True
    return False


cdef bint claims_many(const transaction_t *tx, const wanted_t *wanted, const stream_t *stream) noexcept nogil:
    cdef uint64_t many = <uint64_t>tx.shards[0].settings.slice_elements
    cdef const stream_group_t *group = group_find(&stream.groups, wanted.group)
    return (min(most_of(wanted), group.pending.count) > many and not tx.is_inside
            and is_claimable(tx, wanted, stream))


cdef bint is_claimable(const transaction_t *tx, const wanted_t *wanted, const stream_t *stream) noexcept nogil:
    cdef int64_t due_ms = DUE_NEVER
    return has_claimable(stream, group_find(&stream.groups, wanted.group), wanted.min_idle_ms, tx.now_ms, &due_ms)


cdef bint delivers_many(const transaction_t *tx, const wanted_t *wanted) noexcept nogil:
    """A stream that is there twice is read on by its second reader."""
    cdef slice_t consumer = tx.argv[wanted.group_position + 1]
    cdef bint is_long = False
    cdef uint32_t i
    for i in range(wanted.key_count):
        if is_new(wanted.ids[i]):
            is_long = (is_long or delivery_is_long(tx, looked_up(tx, i), wanted.group, most_of(wanted))
                       or claims_many(tx, wanted, looked_up(tx, i)))
        else:
            is_long = is_long or history_is_long(tx, looked_up(tx, i), wanted.group, consumer, wanted.ids[i],
                                                 most_of(wanted))
    if likely(not is_long):
        return False
    for i in range(wanted.key_count):
        if is_new(wanted.ids[i]) and not delivery_is_possible(looked_up(tx, i), wanted.group):
            return False
    return not may_have_key_twice(tx)


cdef int deliver_many(transaction_t *tx, wanted_t *wanted) noexcept nogil:
    cdef deliveries_t *deliveries = &wanted.in_slices.deliveries
    cdef const stream_t *stream
    cdef uint32_t i
    tx.reply.size = 0
    deliveries.group_name = wanted.group
    deliveries.consumer_position = wanted.group_position + 1
    deliveries.first = wanted.first
    deliveries.no_ack = wanted.no_ack
    deliveries.min_idle_ms = wanted.min_idle_ms
    deliveries_begin(deliveries, tx, most_of(wanted))
    for i in range(wanted.key_count):
        stream = looked_up(tx, i)
        if not is_new(wanted.ids[i]):
            deliveries_add_history(deliveries, i, &tx.results[i].value, wanted.ids[i])
        elif (has_behind(stream, group_find(&stream.groups, wanted.group).last_id)
              or is_claimable(tx, wanted, stream)):
            deliveries_add(deliveries, i, &tx.results[i].value)
    return deliveries_first(tx, deliveries, &GROUP_PLAN)


cdef bint has_any_gone(const transaction_t *tx, const wanted_t *wanted) noexcept nogil:
    cdef const stream_t *stream
    cdef uint32_t i
    for i in range(wanted.key_count):
        stream = looked_up(tx, i)
        if is_new(wanted.ids[i]) and has_gone(stream, group_find(&stream.groups, wanted.group), wanted.min_idle_ms,
                                              tx.now_ms):
            return True
    return False


cdef int serve_groups(transaction_t *tx, wanted_t *wanted) noexcept nogil:
    if wanted.min_idle_ms != NO_CLAIM and has_any_gone(tx, wanted):
        tx.stage = STEP_FORGOTTEN
        return hop_on_keys(tx, forget_hop)
    if unlikely(delivers_many(tx, wanted)):
        return deliver_many(tx, wanted)
    tx.stage = STEP_SERVED
    tx.numbers[NEXT] = 0
    return hop_on_shard(tx, tx.key_shards[0], serve_group_hop)


cdef int look_again(transaction_t *tx) noexcept nogil:
    """Others get their turn; what there is then counts."""
    tx.reply.size = 0
    if tx.is_inside:
        return slices_look(tx, &PLAN)
    tx.stage = STEP_INTERRUPTED
    return transaction_interrupt(tx)


cdef int read_step(transaction_t *tx, bint is_group) noexcept nogil:
    cdef wanted_t *wanted = <wanted_t *>tx.state
    if tx.stage == STEP_START:
        # Who tries again has parsed them.
        if blocking_is_over(tx) or (wanted == NULL and make_wanted(tx, is_group) == NULL):
            return TRANSACTION_DONE
        return slices_look(tx, &PLAN)
    if unlikely(is_group and deliveries_is_stage(tx)):
        return deliveries_next(tx, &wanted.in_slices.deliveries, &GROUP_PLAN)
    if unlikely(streams_left_is_stage(tx)):
        return streams_left_next(tx, &PLAN)
    if tx.stage == SLICES_LOOKED:
        if not settle(tx, wanted):
            return TRANSACTION_DONE
        count_hits(tx)
        tx.numbers[SERVED] = 0
        tx.numbers[DUE] = DUE_NEVER
        tx.numbers[MARK] = <int64_t>reply_defer_array(&tx.reply)
        if not is_group and misses_any(tx):
            tx.stage = STEP_MISSED
            return hop_on_keys(tx, miss_hop)
        return serve_groups(tx, wanted) if is_group else serve_readers(tx, wanted)
    if tx.stage == STEP_MISSED:
        return serve_readers(tx, wanted)
    if tx.stage == STEP_FORGOTTEN:
        return look_again(tx)
    if tx.stage == STEP_INTERRUPTED:
        tx.now_ms = tx.origin.now_ms
        return slices_look(tx, &PLAN)
    tx.numbers[NEXT] += 1
    if tx.numbers[NEXT] < wanted.key_count:
        return hop_on_shard(tx, tx.key_shards[tx.numbers[NEXT]], serve_group_hop)
    return finish(tx, wanted)


cdef int xread_step(transaction_t *tx) noexcept nogil:
    return read_step(tx, False)


cdef int xreadgroup_step(transaction_t *tx) noexcept nogil:
    return read_step(tx, True)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t common = COMMAND_BLOCKING | COMMAND_MOVABLE_KEYS
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    rows[0] = transaction_row("xread", -4, COMMAND_READONLY | common, ACL_STREAM | ACL_BLOCKING, 0, 0, 0, look,
                              xread_step)
    rows[1] = transaction_row("xreadgroup", -7, COMMAND_WRITE | common, ACL_STREAM | ACL_BLOCKING, 0, 0, 0, look,
                              xreadgroup_step)
    rows[0].get_keys = read_keys
    rows[1].get_keys = read_keys
    register_commands(rows, ROW_COUNT)
