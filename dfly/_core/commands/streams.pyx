"""The stream commands about entries: XADD, XLEN, XDEL, XTRIM, XSETID.

Order of checks, replies and events as Redis 7.0. XSETID is not seen by WATCH, as there.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtoull
from libc.string cimport memchr, memcpy, strlen

from dfly._core.commands.value_digest cimport digest_mix, register_value_digest
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_DELETE, KEY_RO, KEY_RW, KEY_UPDATE,
                                        call_t, command_spec_t, key_row, register_commands,
                                        reply_not_integer, reply_syntax_error, reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport (NOTIFY_STREAM, drop_value, find_read, find_write, insert_key, notify,
                                         update_begin, update_end, update_end_unseen)
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_defer_array, reply_error,
                                    reply_error_slice, reply_int, reply_null, reply_ok,
                                    reply_set_deferred, reply_t)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport (id_decrement, id_increment, id_is_zero, id_less, stream_id,
                                        stream_id_t)
from dfly._core.store.object cimport (TYPE_STREAM, key_t, object_is_container, object_pointer,
                                      object_set_container, object_t, parse_int64)
from dfly._core.store.stream cimport (STREAM_DROP_REFERENCES, STREAM_KEEP_REFERENCES, STREAM_ONLY_ACKNOWLEDGED,
                                      stream_append, stream_cursor_t, stream_delete, stream_entry_fits,
                                      stream_last_entry, stream_limits_t, stream_new, stream_next_id, stream_read_next,
                                      stream_read_pair, stream_read_previous, stream_references_t, stream_seek,
                                      stream_seek_back, stream_t, stream_trim_id, stream_trim_length,
                                      stream_trim_referenced)
from dfly._core.store.stream_groups cimport (consumer_create, consumer_find, group_add, group_find, stream_consumer_t,
                                             stream_group_t)
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    ID_TEXT_MAX = 127            # longer ones are no IDs
    DIGITS_SAFE = 19             # so many always fit 64 bits
    NUMBER_TEXT = 20
    IDS_ON_STACK = 16
    LIMIT_BLOCKS = 100           # of what approximate trimming does at once, by default
    LIMIT_LEAST = 10000          # entries, where blocks have no limit
    LIMIT_MOST = 1000000


# ---- IDs ---------------------------------------------------------------------------------------

cdef inline bint take_digits(const char **p, const char *end, uint64_t *out) noexcept nogil:
    """A plain number that surely fits."""
    cdef const char *begin = p[0]
    cdef uint64_t value = 0
    while p[0] < end and c'0' <= p[0][0] <= c'9':
        value = 10 * value + <uint64_t>(p[0][0] - c'0')
        p[0] += 1
    out[0] = value
    return 0 < p[0] - begin <= DIGITS_SAFE


cdef bint parse_plain_id(slice_t text, stream_id_t *out, uint64_t missing_seq) noexcept nogil:
    """What nearly all IDs look like."""
    cdef const char *p = text.data
    cdef const char *end = p + text.size
    if not take_digits(&p, end, &out.ms):
        return False
    out.seq = missing_seq
    if p == end:
        return True
    if p[0] != c'-':
        return False
    p += 1
    return take_digits(&p, end, &out.seq) and p == end


cdef bint parse_number(const char *text, uint64_t *out) noexcept nogil:
    """As Redis reads unsigned integers: canonical ones that are not negative, else what strtoull makes of it."""
    cdef int64_t value
    cdef char *end = NULL
    if parse_int64(text, strlen(text), &value):
        out[0] = <uint64_t>value
        return value >= 0
    out[0] = strtoull(text, &end, 10)
    # What is too large reads as the largest, which in digits is this.
    if out[0] == <uint64_t>-1 and not is_largest(text):
        return False
    return text[0] != 0 and end[0] == 0


cdef bint is_largest(const char *text) noexcept nogil:
    """Is a text that strtoull makes the largest number of really that number, and not out of range?"""
    cdef char digits[NUMBER_TEXT + 1]
    cdef bint negative = False
    cdef size_t size
    while text[0] == c' ' or 9 <= text[0] <= 13:
        text += 1
    if text[0] == c'-' or text[0] == c'+':
        negative = text[0] == c'-'
        text += 1
    while text[0] == c'0':
        text += 1
    size = strlen(text)
    if negative:
        # Its negation is the largest.
        return size == 1 and text[0] == c'1'
    snprintf(digits, sizeof(digits), "%llu", <unsigned long long><uint64_t>-1)
    return size == NUMBER_TEXT and same_bytes(text, digits, NUMBER_TEXT)


cdef inline bint same_bytes(const char *a, const char *b, size_t size) noexcept nogil:
    cdef size_t i
    for i in range(size):
        if a[i] != b[i]:
            return False
    return True


cdef bint parse_odd_id(slice_t text, stream_id_t *out, uint64_t missing_seq, bint strict,
                       bint *seq_given) noexcept nogil:
    cdef char copy[ID_TEXT_MAX + 1]
    cdef char *seq
    if text.size > ID_TEXT_MAX:
        return False
    memcpy(copy, text.data, text.size)
    copy[text.size] = 0
    if (copy[0] == c'-' or copy[0] == c'+') and copy[1] == 0:
        out.ms = out.seq = 0 if copy[0] == c'-' else <uint64_t>-1
        return not strict
    seq = <char *>memchr(copy, c'-', strlen(copy))
    if seq != NULL:
        seq[0] = 0
    if not parse_number(copy, &out.ms):
        return False
    if seq == NULL:
        out.seq = missing_seq
    elif seq_given != NULL and seq[1] == c'*' and seq[2] == 0:
        out.seq = 0
        seq_given[0] = False
    else:
        return parse_number(seq + 1, &out.seq)
    return True


cdef bint parse_stream_id(reply_t *reply, slice_t text, stream_id_t *out, uint64_t missing_seq, bint strict,
                          bint *seq_given) noexcept nogil:
    if seq_given != NULL:
        seq_given[0] = True
    if likely(parse_plain_id(text, out, missing_seq)):
        return True
    if parse_odd_id(text, out, missing_seq, strict, seq_given):
        return True
    if reply != NULL:
        reply_error(reply, "ERR Invalid stream ID specified as stream command argument")
    return False


cdef inline bint is_exclusive(slice_t *text) noexcept nogil:
    """Takes the bracket off."""
    if text.size > 1 and text.data[0] == c'(':
        text.data += 1
        text.size -= 1
        return True
    return False


cdef bint parse_range_start(reply_t *reply, slice_t text, stream_id_t *out) noexcept nogil:
    cdef bint exclusive = is_exclusive(&text)
    if not parse_stream_id(reply, text, out, 0, exclusive, NULL):
        return False
    if exclusive and not id_increment(out):
        reply_error(reply, "ERR invalid start ID for the interval")
        return False
    return True


cdef bint parse_range_end(reply_t *reply, slice_t text, stream_id_t *out) noexcept nogil:
    cdef bint exclusive = is_exclusive(&text)
    if not parse_stream_id(reply, text, out, <uint64_t>-1, exclusive, NULL):
        return False
    if exclusive and not id_decrement(out):
        reply_error(reply, "ERR invalid end ID for the interval")
        return False
    return True


cdef bint parse_integer(reply_t *reply, slice_t text, int64_t *out) noexcept nogil:
    if not parse_int64(text.data, text.size, out):
        reply_not_integer(reply)
        return False
    return True


cdef inline char *write_number(char *end, uint64_t value) noexcept nogil:
    """Its digits, up to `end`; where they begin."""
    while True:
        end -= 1
        end[0] = <char>(c'0' + value % 10)
        value //= 10
        if value == 0:
            return end


cdef void reply_stream_id(reply_t *reply, stream_id_t id) noexcept nogil:
    cdef char text[2 * NUMBER_TEXT + 1]
    cdef char *end = text + sizeof(text)
    cdef char *p = write_number(end, id.seq)
    p -= 1
    p[0] = c'-'
    p = write_number(p, id.ms)
    reply_bulk(reply, p, <size_t>(end - p))


# ---- Shared with other modules -----------------------------------------------------------------

cdef inline stream_lookup_t lookup_result(bint found, dash_ref_t *ref) noexcept nogil:
    if not found:
        return STREAM_ABSENT
    if unlikely(not object_is_container(&ref.entry.value, TYPE_STREAM)):
        return STREAM_WRONG_TYPE
    return STREAM_FOUND


cdef stream_lookup_t stream_lookup(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    return lookup_result(find_write(scope, key, ref), ref)


cdef stream_lookup_t stream_lookup_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    return lookup_result(find_read(scope, key, ref), ref)


cdef bint find_stream(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    cdef stream_lookup_t result = stream_lookup_read(&call.scope, &call.key, ref)
    found[0] = result == STREAM_FOUND
    if unlikely(result == STREAM_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint find_stream_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    cdef stream_lookup_t result = stream_lookup(&call.scope, &call.key, ref)
    found[0] = result == STREAM_FOUND
    if unlikely(result == STREAM_WRONG_TYPE):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint find_group_to_change(call_t *call, dash_ref_t *ref, stream_group_t **group) noexcept nogil:
    cdef bint found
    group[0] = NULL
    if not find_stream_to_change(call, ref, &found):
        return False
    if found:
        group[0] = group_find(&stream_of(ref).groups, call.argv[2])
    return True


cdef stream_consumer_t *take_consumer(scope_t *scope, const key_t *key, stream_group_t *group,
                                      slice_t name) noexcept nogil:
    cdef stream_consumer_t *consumer = consumer_find(group, name)
    if consumer == NULL:
        consumer = consumer_create(group, name, scope.now_ms)
        notify(scope, key, NOTIFY_STREAM, "xgroup-createconsumer")
    consumer.seen_ms = scope.now_ms
    group.changes += 1
    return consumer


cdef stream_consumer_t *take_claimer(scope_t *scope, const key_t *key, stream_group_t *group,
                                     slice_t name) noexcept nogil:
    cdef stream_consumer_t *consumer = take_consumer(scope, key, group, name)
    consumer.active_ms = scope.now_ms
    return consumer


cdef inline void reply_item(reply_t *reply, const list_item_t *item) noexcept nogil:
    if likely(item.data != NULL):
        reply_bulk(reply, item.data, item.size)
    else:
        reply_bulk_int(reply, item.integer)


cdef void put_entry(reply_t *reply, stream_cursor_t *cursor) noexcept nogil:
    cdef list_item_t field
    cdef list_item_t value
    reply_stream_id(reply, cursor.id)
    reply_array(reply, 2 * <size_t>cursor.pair_count)
    while cursor.pairs_left > 0:
        stream_read_pair(cursor, &field, &value)
        reply_item(reply, &field)
        reply_item(reply, &value)


cdef void reply_entry(reply_t *reply, stream_cursor_t *cursor) noexcept nogil:
    reply_array(reply, 2)
    put_entry(reply, cursor)


cdef void reply_claimed_entry(reply_t *reply, stream_cursor_t *cursor, int64_t idle_ms,
                              uint64_t deliveries) noexcept nogil:
    reply_array(reply, 4)
    put_entry(reply, cursor)
    reply_int(reply, idle_ms)
    reply_int(reply, <int64_t>deliveries)


cdef void reply_range(reply_t *reply, const stream_t *stream, stream_id_t start, stream_id_t end, uint64_t count,
                      bint backward) noexcept nogil:
    cdef stream_cursor_t cursor
    cdef size_t mark = reply_defer_array(reply)
    cdef uint64_t written = 0
    if backward:
        stream_seek_back(stream, end, &cursor)
        while (count == 0 or written < count) and stream_read_previous(&cursor) and not id_less(cursor.id, start):
            reply_entry(reply, &cursor)
            written += 1
    else:
        stream_seek(stream, start, &cursor)
        while (count == 0 or written < count) and stream_read_next(&cursor) and not id_less(end, cursor.id):
            reply_entry(reply, &cursor)
            written += 1
    reply_set_deferred(reply, mark, c'*', written)


cdef inline size_t c_size(slice_t text) noexcept nogil:
    """Up to the first NUL."""
    cdef const void *end = memchr(text.data, 0, text.size) if text.size > 0 else NULL
    return text.size if end == NULL else <size_t>(<const char *>end - text.data)


cdef void reply_names_error(reply_t *reply, const char *before, slice_t first, const char *between, slice_t second,
                            const char *behind) noexcept nogil:
    cdef size_t room
    cdef char *text
    first.size = c_size(first)
    second.size = c_size(second)
    room = strlen(before) + first.size + strlen(between) + second.size + strlen(behind) + 1
    text = <char *>net_alloc(room)
    snprintf(text, room, "%s%.*s%s%.*s%s", before, <int>first.size, first.data, between, <int>second.size,
             second.data, behind)
    reply_error_slice(reply, text, room - 1)
    net_free(text)


cdef void reply_no_group(call_t *call) noexcept nogil:
    reply_names_error(call.reply, "NOGROUP No such key '", call.argv[1], "' or consumer group '", call.argv[2], "'")


cdef void drop_stream(scope_t *scope, stream_t *dropped) noexcept nogil:
    cdef object_t value
    if dropped != NULL:
        object_set_container(&value, TYPE_STREAM, dropped)
        drop_value(scope, &value)


cdef void drop_group(scope_t *scope, stream_group_t *group) noexcept nogil:
    """As the group of a stream of nothing else it goes in slices."""
    cdef stream_t *dropped = stream_new()
    group_add(&dropped.groups, group)
    drop_stream(scope, dropped)


# ---- XADD, XTRIM -------------------------------------------------------------------------------

cdef enum trim_kind_t:
    TRIM_NOT = 0
    TRIM_LENGTH = 1
    TRIM_ID = 2

cdef struct add_options_t:
    # Of XADD and XTRIM.
    trim_kind_t trim
    int64_t length
    stream_id_t first_kept
    int64_t limit
    bint approximate
    bint has_limit
    bint only_existing           # NOMKSTREAM
    bint has_id                  # not *
    bint has_seq
    stream_id_t id
    uint32_t position            # of the ID in argv
    bint has_references
    stream_references_t references


cdef bint parse_references(slice_t word, stream_references_t *out) noexcept nogil:
    if slice_equals(word, "keepref"):
        out[0] = STREAM_KEEP_REFERENCES
    elif slice_equals(word, "delref"):
        out[0] = STREAM_DROP_REFERENCES
    elif slice_equals(word, "acked"):
        out[0] = STREAM_ONLY_ACKNOWLEDGED
    else:
        return False
    return True


cdef bint parse_trim(call_t *call, uint32_t *i, bint by_id, add_options_t *options) noexcept nogil:
    """MAXLEN or MINID at i, something follows; i ends at its last word."""
    cdef uint32_t left = call.argc - 1 - i[0]
    cdef slice_t word = call.argv[i[0] + 1]
    if options.trim != TRIM_NOT:
        reply_error(call.reply, "ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
        return False
    options.approximate = False
    if left >= 2 and word.size == 1 and (word.data[0] == c'~' or word.data[0] == c'='):
        options.approximate = word.data[0] == c'~'
        i[0] += 1
    i[0] += 1
    word = call.argv[i[0]]
    if by_id:
        options.trim = TRIM_ID
        return parse_stream_id(call.reply, word, &options.first_kept, 0, True, NULL)
    options.trim = TRIM_LENGTH
    if not parse_integer(call.reply, word, &options.length):
        return False
    if options.length < 0:
        reply_error(call.reply, "ERR The MAXLEN argument must be >= 0.")
        return False
    return True


cdef bint settle_limit(call_t *call, add_options_t *options, bint is_add) noexcept nogil:
    if options.limit != 0 and options.trim == TRIM_NOT:
        reply_error(call.reply, "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
        return False
    if not is_add and options.trim == TRIM_NOT:
        reply_error(call.reply, "ERR syntax error, XTRIM must be called with a trimming strategy")
        return False
    if options.has_limit:
        if not options.approximate:
            reply_error(call.reply, "ERR syntax error, LIMIT cannot be used without the special ~ option")
            return False
    elif options.approximate:
        # Some blocks at a time: trimming must not hold others up.
        options.limit = min(LIMIT_BLOCKS * call.scope.shard.settings.stream_node_max_entries, <int64_t>LIMIT_MOST)
        if options.limit <= 0:
            options.limit = LIMIT_LEAST
    return True


cdef bint parse_add_options(call_t *call, add_options_t *options, bint is_add) noexcept nogil:
    cdef uint32_t i = 2
    cdef slice_t word
    cdef bint more
    options.trim = TRIM_NOT
    options.limit = 0
    options.approximate = False
    options.has_limit = False
    options.only_existing = False
    options.has_id = False
    options.has_seq = False
    options.has_references = False
    options.references = STREAM_KEEP_REFERENCES
    while i < call.argc:
        word = call.argv[i]
        more = i + 1 < call.argc
        if is_add and word.size == 1 and word.data[0] == c'*':
            break
        if more and slice_equals(word, "maxlen"):
            if not parse_trim(call, &i, False, options):
                return False
        elif more and slice_equals(word, "minid"):
            if not parse_trim(call, &i, True, options):
                return False
        elif more and slice_equals(word, "limit"):
            i += 1
            if not parse_integer(call.reply, call.argv[i], &options.limit):
                return False
            if options.limit < 0:
                reply_error(call.reply, "ERR The LIMIT argument must be >= 0.")
                return False
            options.has_limit = True
        elif not options.has_references and parse_references(word, &options.references):
            options.has_references = True
        elif is_add and slice_equals(word, "nomkstream"):
            options.only_existing = True
        elif is_add:
            if not parse_stream_id(call.reply, word, &options.id, 0, True, &options.has_seq):
                return False
            options.has_id = True
            break
        else:
            reply_syntax_error(call.reply)
            return False
        i += 1
    options.position = i
    return settle_limit(call, options, is_add)


cdef uint64_t trim(scope_t *scope, stream_t *stream, const add_options_t *options) noexcept nogil:
    cdef stream_t *dropped = NULL
    cdef uint64_t deleted
    if unlikely(options.references != STREAM_KEEP_REFERENCES and stream.groups.count != 0):
        return stream_trim_referenced(stream, options.length if options.trim == TRIM_LENGTH else -1,
                                      options.first_kept, options.approximate, <uint64_t>options.limit,
                                      options.references)
    if options.trim == TRIM_LENGTH:
        deleted = stream_trim_length(stream, <uint64_t>options.length, options.approximate,
                                     <uint64_t>options.limit, &dropped)
    else:
        deleted = stream_trim_id(stream, options.first_kept, options.approximate, <uint64_t>options.limit,
                                 &dropped)
    drop_stream(scope, dropped)
    return deleted


cdef bint choose_id(call_t *call, const stream_t *stream, const add_options_t *options,
                    stream_id_t *id) noexcept nogil:
    """The ID of the new entry; stream NULL: a new one."""
    cdef stream_id_t last = stream.last_id if stream != NULL else stream_id(0, 0)
    if unlikely((last.ms & last.seq) == <uint64_t>-1):
        reply_error(call.reply, "ERR The stream has exhausted the last possible ID, unable to add more items")
        return False
    if not options.has_id:
        if stream != NULL:
            return stream_next_id(stream, call.scope.now_ms, id)
        id[0] = stream_id(<uint64_t>call.scope.now_ms, 0)
        return True
    id[0] = options.id
    if not options.has_seq and last.ms == id.ms:
        id.seq = last.seq + 1
        if id.seq == 0:
            id[0] = last
    if not id_less(last, id[0]):
        reply_error(call.reply, "ERR The ID specified in XADD is equal or smaller than the target stream top item")
        return False
    return True


cdef void xadd_command(call_t *call) noexcept nogil:
    cdef add_options_t options
    cdef stream_limits_t limits
    cdef stream_id_t id
    cdef dash_ref_t ref
    cdef stream_t *stream = NULL
    cdef uint32_t first
    cdef uint64_t trimmed = 0
    cdef bint found
    if not parse_add_options(call, &options, True):
        return
    first = options.position + 1
    if call.argc < first + 2 or (call.argc - first) % 2 == 1:
        reply_error(call.reply, "ERR wrong number of arguments for 'xadd' command")
        return
    if options.has_id and options.has_seq and id_is_zero(options.id):
        reply_error(call.reply, "ERR The ID specified in XADD must be greater than 0-0")
        return
    if not find_stream_to_change(call, &ref, &found):
        return
    if likely(found):
        stream = stream_of(&ref)
    elif options.only_existing:
        reply_null(call.reply)
        return
    if not choose_id(call, stream, &options, &id):
        return
    if unlikely(not stream_entry_fits(&call.argv[first], call.argc - first)):
        reply_error(call.reply, "ERR Elements are too large to be stored")
        return
    if likely(found):
        update_begin(&call.scope, &ref)
    else:
        insert_key(&call.scope, &call.key, &ref)
        stream = stream_new()
        object_set_container(&ref.entry.value, TYPE_STREAM, stream)
    limits.bytes = <uint64_t>call.scope.shard.settings.stream_node_max_bytes
    limits.entries = <uint64_t>call.scope.shard.settings.stream_node_max_entries
    stream_append(stream, id, &call.argv[first], (call.argc - first) // 2, &limits)
    reply_stream_id(call.reply, id)
    if options.trim != TRIM_NOT:
        trimmed = trim(&call.scope, stream, &options)
    update_end(&call.scope, &call.key, NOTIFY_STREAM, "xadd")
    if trimmed > 0:
        notify(&call.scope, &call.key, NOTIFY_STREAM, "xtrim")


cdef void xtrim_command(call_t *call) noexcept nogil:
    cdef add_options_t options
    cdef dash_ref_t ref
    cdef uint64_t trimmed
    cdef bint found
    if not parse_add_options(call, &options, False) or not find_stream_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
        return
    update_begin(&call.scope, &ref)
    trimmed = trim(&call.scope, stream_of(&ref), &options)
    if trimmed > 0:
        update_end(&call.scope, &call.key, NOTIFY_STREAM, "xtrim")
    reply_int(call.reply, <int64_t>trimmed)


# ---- XLEN --------------------------------------------------------------------------------------

cdef void xlen_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_stream(call, &ref, &found):
        reply_int(call.reply, <int64_t>stream_of(&ref).length if found else 0)


# ---- XDEL, XSETID ------------------------------------------------------------------------------

cdef void xdel_command(call_t *call) noexcept nogil:
    cdef stream_id_t on_stack[IDS_ON_STACK]
    cdef stream_id_t *ids = on_stack
    cdef uint32_t count = call.argc - 2
    cdef int64_t deleted = 0
    cdef dash_ref_t ref
    cdef uint32_t i
    cdef bint is_valid = True
    cdef bint found
    if not find_stream_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
        return
    if count > IDS_ON_STACK:
        ids = <stream_id_t *>net_alloc(count * sizeof(stream_id_t))
    for i in range(count):
        is_valid = parse_stream_id(call.reply, call.argv[2 + i], &ids[i], 0, True, NULL)
        if not is_valid:
            break
    if is_valid:
        update_begin(&call.scope, &ref)
        for i in range(count):
            deleted += stream_delete(stream_of(&ref), ids[i])
        if deleted > 0:
            update_end(&call.scope, &call.key, NOTIFY_STREAM, "xdel")
        reply_int(call.reply, deleted)
    if ids != on_stack:
        net_free(ids)


cdef bint parse_setid_options(call_t *call, stream_id_t id, int64_t *entries_added,
                              stream_id_t *max_deleted) noexcept nogil:
    cdef uint32_t i = 3
    while i < call.argc:
        if i + 1 < call.argc and slice_equals(call.argv[i], "entriesadded"):
            if not parse_integer(call.reply, call.argv[i + 1], entries_added):
                return False
            if entries_added[0] < 0:
                reply_error(call.reply, "ERR entries_added must be positive")
                return False
        elif i + 1 < call.argc and slice_equals(call.argv[i], "maxdeletedid"):
            if not parse_stream_id(call.reply, call.argv[i + 1], max_deleted, 0, True, NULL):
                return False
            if id_less(id, max_deleted[0]):
                reply_error(call.reply, "ERR The ID specified in XSETID is smaller than the provided "
                                        "max_deleted_entry_id")
                return False
        else:
            reply_syntax_error(call.reply)
            return False
        i += 2
    return True


cdef bint setid_fits(call_t *call, const stream_t *stream, stream_id_t id, int64_t entries_added) noexcept nogil:
    cdef stream_id_t last = stream_id(0, 0)
    if not stream_last_entry(stream, &last):
        return True
    if id_less(id, last):
        reply_error(call.reply, "ERR The ID specified in XSETID is smaller than the target stream top item")
        return False
    if entries_added != -1 and stream.length > <uint64_t>entries_added:
        reply_error(call.reply, "ERR The entries_added specified in XSETID is smaller than the target stream length")
        return False
    return True


cdef void xsetid_command(call_t *call) noexcept nogil:
    cdef stream_id_t id
    cdef stream_id_t max_deleted = stream_id(0, 0)
    cdef int64_t entries_added = -1
    cdef dash_ref_t ref
    cdef stream_t *stream
    cdef bint found
    if (not parse_stream_id(call.reply, call.argv[2], &id, 0, True, NULL)
            or not parse_setid_options(call, id, &entries_added, &max_deleted)
            or not find_stream_to_change(call, &ref, &found)):
        return
    if not found:
        reply_error(call.reply, "ERR no such key")
        return
    stream = stream_of(&ref)
    if not setid_fits(call, stream, id, entries_added):
        return
    update_begin(&call.scope, &ref)
    stream.last_id = id
    if entries_added != -1:
        stream.entries_added = <uint64_t>entries_added
    if not id_is_zero(max_deleted):
        stream.max_deleted_id = max_deleted
    reply_ok(call.reply)
    update_end_unseen(&call.scope, &call.key, NOTIFY_STREAM, "xsetid")


# ---- DEBUG DIGEST ------------------------------------------------------------------------------

cdef void mix_item(unsigned char *digest, const list_item_t *item) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    digest_mix(digest, text.data, text.size)


cdef void digest_stream(unsigned char *digest, const object_t *value) noexcept nogil:
    cdef char text[2 * NUMBER_TEXT + 2]
    cdef stream_cursor_t cursor
    cdef list_item_t field
    cdef list_item_t item
    cdef int size
    stream_seek(<const stream_t *>object_pointer(value), stream_id(0, 0), &cursor)
    while stream_read_next(&cursor):
        size = snprintf(text, sizeof(text), "%llu.%llu", <unsigned long long>cursor.id.ms,
                        <unsigned long long>cursor.id.seq)
        digest_mix(digest, text, <size_t>size)
        while cursor.pairs_left > 0:
            stream_read_pair(&cursor, &field, &item)
            mix_item(digest, &field)
            mix_item(digest, &item)


register_value_digest(TYPE_STREAM, digest_stream)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 5

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t quick = COMMAND_WRITE | COMMAND_FAST
    rows[0] = key_row("xadd", -5, quick | COMMAND_DENYOOM, ACL_STREAM, KEY_RW | KEY_UPDATE, xadd_command)
    rows[1] = key_row("xlen", 2, COMMAND_READONLY | COMMAND_FAST, ACL_STREAM, KEY_RO, xlen_command)
    rows[2] = key_row("xdel", -3, quick, ACL_STREAM, KEY_RW | KEY_DELETE, xdel_command)
    rows[3] = key_row("xtrim", -4, COMMAND_WRITE, ACL_STREAM, KEY_RW | KEY_DELETE, xtrim_command)
    rows[4] = key_row("xsetid", -3, quick | COMMAND_DENYOOM, ACL_STREAM, KEY_RW | KEY_UPDATE, xsetid_command)
    register_commands(rows, ROW_COUNT)
