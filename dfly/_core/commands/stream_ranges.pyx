"""XRANGE and XREVRANGE, long ones in slices.

A stream that lives is added to and trimmed all the time, which takes nothing from a range: its end is the last entry
that there was when the command began, and what has been replied may go. So of what others do between two slices only
this makes it begin again: entries deleted by ID, and trimming that reaches what is not replied yet.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.long_reads cimport (entries_left_t, long_read_begin, long_read_step, long_read_t,
                                             long_read_wanted)
from dfly._core.commands.streams cimport (find_stream, parse_integer, parse_range_end, parse_range_start, reply_entry,
                                          reply_range, stream_of)
from dfly._core.engine.command cimport (ACL_STREAM, COMMAND_READONLY, KEY_ACCESS, KEY_RO, call_t, command_spec_t,
                                        key_row, register_commands, reply_syntax_error, slice_equals,
                                        transaction_t)
from dfly._core.engine.slices cimport work_goes_on, work_t
from dfly._core.resp.reply cimport reply_array, reply_chain_header, reply_null_array
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport id_ceiling, id_equal, id_less, id_next, id_place_t, id_slot, stream_id_t
from dfly._core.store.object cimport TYPE_STREAM, object_is_container, object_pointer, object_t
from dfly._core.store.stream cimport (stream_count_in_block, stream_cursor_t, stream_has, stream_range_is_short,
                                      stream_read_next, stream_read_previous, stream_seek, stream_seek_back, stream_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef struct range_t:
    stream_id_t start
    stream_id_t end
    uint64_t count               # at most
    bint backward


cdef inline void seek_range(const stream_t *stream, const range_t *range, stream_cursor_t *cursor) noexcept nogil:
    if range.backward:
        stream_seek_back(stream, range.end, cursor)
    else:
        stream_seek(stream, range.start, cursor)


cdef inline bint read_range(stream_cursor_t *cursor, const range_t *range) noexcept nogil:
    """The next entry, if the range has one."""
    if range.backward:
        return stream_read_previous(cursor) and not id_less(cursor.id, range.start)
    return stream_read_next(cursor) and not id_less(range.end, cursor.id)


# ---- In slices -----------------------------------------------------------------------------------

cdef inline void range_left(const long_read_t *read, range_t *out) noexcept nogil:
    out.start = read.cursor.entries.start
    out.end = read.cursor.entries.end
    out.count = read.left
    out.backward = read.is_backward


cdef bint go_on_with_entries(long_read_t *read, transaction_t *tx) noexcept nogil:
    """read.first: how many are replied."""
    cdef const stream_t *stream = <const stream_t *>object_pointer(&read.value)
    cdef stream_cursor_t cursor
    cdef range_t range
    cdef bint more
    range_left(read, &range)
    seek_range(stream, &range, &cursor)
    more = range.count > 0 and read_range(&cursor, &range)
    while more and work_goes_on(&read.work):
        reply_entry(&tx.reply, &cursor)
        read.first += 1
        read.left -= 1
        more = read.left > 0 and read_range(&cursor, &range)
    if not more:
        reply_chain_header(&tx.chain, &tx.reply, c'*', read.first)
        return True
    if read.is_backward:
        read.cursor.entries.end = cursor.id
    else:
        read.cursor.entries.start = cursor.id
    entries_left_note(&read.cursor.entries, stream)
    return False


cdef void entries_left_note(entries_left_t *self, const stream_t *stream) noexcept nogil:
    self.first = stream.first_id
    self.epoch = stream.epoch


cdef bint entries_count(const stream_t *stream, stream_id_t *block, stream_id_t start, stream_id_t end, uint64_t most,
                        uint64_t *count, work_t *work) noexcept nogil:
    cdef id_place_t place
    cdef bint more = id_ceiling(&stream.blocks, block[0], &place)
    while more and count[0] < most:
        block[0] = id_slot(&stream.blocks, place).id
        if not work_goes_on(work):
            return False
        count[0] += stream_count_in_block(stream, &place, start, end)
        more = id_next(&stream.blocks, &place) and not id_less(end, id_slot(&stream.blocks, place).id)
    count[0] = min(count[0], most)
    return True


cdef bint entries_left_are_still(const entries_left_t *self, const object_t *begun, const object_t *value,
                                 bint backward) noexcept nogil:
    cdef const stream_t *stream
    if not object_is_container(value, TYPE_STREAM) or object_pointer(value) != object_pointer(begun):
        return False
    stream = <const stream_t *>object_pointer(value)
    if stream.epoch != self.epoch:
        return False
    if id_equal(stream.first_id, self.first):
        return True
    # Trimmed. Forward, the next entry is the first to go.
    if backward:
        return stream.length > 0 and not id_less(self.start, stream.first_id)
    return stream_has(stream, self.start)


cdef bint is_untouched(const long_read_t *read, const object_t *value) noexcept nogil:
    return entries_left_are_still(&read.cursor.entries, &read.value, value, read.is_backward)


# ---- The commands --------------------------------------------------------------------------------

cdef bint is_long(const call_t *call, const stream_t *stream, const range_t *range) noexcept nogil:
    return (long_read_wanted(call, min(range.count, stream.length))
            and not stream_range_is_short(stream, range.start, range.end,
                                          <uint64_t>call.scope.shard.settings.slice_elements))


cdef void begin_slices(call_t *call, const object_t *value, const range_t *range) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef long_read_t *read = long_read_begin(call, value, go_on_with_entries)
    if read == NULL:
        return
    read.still = is_untouched
    read.first = 0
    read.left = range.count
    read.is_backward = range.backward
    read.cursor.entries.start = range.start
    read.cursor.entries.end = range.end
    if id_less(stream.last_id, range.end):
        read.cursor.entries.end = stream.last_id
    entries_left_note(&read.cursor.entries, stream)


cdef bint parse_range(call_t *call, bint backward, range_t *out) noexcept nogil:
    cdef int64_t count
    cdef uint32_t i
    out.backward = backward
    out.count = <uint64_t>-1
    if (not parse_range_start(call.reply, call.argv[3 if backward else 2], &out.start)
            or not parse_range_end(call.reply, call.argv[2 if backward else 3], &out.end)):
        return False
    for i in range(4, call.argc, 2):
        if not slice_equals(call.argv[i], "count") or i + 1 == call.argc:
            reply_syntax_error(call.reply)
            return False
        if not parse_integer(call.reply, call.argv[i + 1], &count):
            return False
        out.count = <uint64_t>max(count, <int64_t>0)
    return True


cdef void range_generic(call_t *call, bint backward) noexcept nogil:
    cdef range_t range
    cdef dash_ref_t ref
    cdef bint found
    if not parse_range(call, backward, &range) or not find_stream(call, &ref, &found):
        return
    if not found:
        reply_array(call.reply, 0)
    elif range.count == 0:
        reply_null_array(call.reply)
    elif is_long(call, stream_of(&ref), &range):
        begin_slices(call, &ref.entry.value, &range)
    else:
        reply_range(call.reply, stream_of(&ref), range.start, range.end, range.count, backward)


cdef void xrange_command(call_t *call) noexcept nogil:
    range_generic(call, False)


cdef void xrevrange_command(call_t *call) noexcept nogil:
    range_generic(call, True)


# ---- Rows ----------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = KEY_RO | KEY_ACCESS
    cdef int i
    rows[0] = key_row("xrange", -4, COMMAND_READONLY, ACL_STREAM, read, xrange_command)
    rows[1] = key_row("xrevrange", -4, COMMAND_READONLY, ACL_STREAM, read, xrevrange_command)
    for i in range(ROW_COUNT):
        rows[i].step = long_read_step
    register_commands(rows, ROW_COUNT)
