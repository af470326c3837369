"""SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP: strings as arrays of bits.

The commands turn arguments into ranges of bits and leave the work to the kernels in bit_words.
Order of checks as in Redis 7.0, also where it is odd: BITCOUNT and BITPOS look the key up before
they parse their range, so a missing key hides a syntax error.

BITOP runs in one hop when one shard has all keys: it computes from the values where they lie.
Otherwise it fetches copies of the sources and computes on the destination's shard. Either way the
result is allocated under the token of the shard that will own it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from dfly._core.commands.bit_words cimport (BITS_AND, BITS_ANDOR, BITS_DIFF, BITS_DIFF1, BITS_NOT, BITS_ONE, BITS_OR,
                                            BITS_XOR, bit_operation_t, bits_combine, bits_count, bits_find)
from dfly._core.commands.string_multi cimport fetch_strings, fetched_strings, keys_share_shard
from dfly._core.commands.strings cimport overwrite_key, string_size_limit
from dfly._core.engine.command cimport (ACL_BITMAP, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_OW, KEY_RO, KEY_RW, KEY_UPDATE,
                                        call_int_argument, call_t, command_spec_t, key_row, register_commands,
                                        reply_syntax_error, reply_wrong_type, slice_equals, transaction_row)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_STRING, delete_key, find_read, find_write,
                                         insert_key, update_begin, update_end)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport (TRANSACTION_DONE, hop_on_keys, hop_on_shard, transaction_scope,
                                            transaction_t)
from dfly._core.resp.reply cimport reply_error, reply_int
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport (OBJECT_SCRATCH, object_free, object_is_string, object_resize,
                                      object_size, object_t, object_view, parse_int64)
from dfly._core.sys.alloc cimport net_alloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef struct bit_range_t:
    # Both ends included; empty if first > last.
    int64_t first
    int64_t last
    bint end_given


# ---- Shared with bitfield.pyx --------------------------------------------------------------

cdef bint parse_bit_offset(call_t *call, slice_t argument, uint32_t width, uint64_t *offset) noexcept nogil:
    cdef bint is_multiple = width > 0 and argument.size > 0 and argument.data[0] == c'#'
    cdef int64_t value = 0
    cdef bint is_valid = parse_int64(argument.data + is_multiple, argument.size - is_multiple, &value)
    if is_multiple:
        # Wraps around like Redis' multiplication.
        value = <int64_t>(<uint64_t>value * width)
    if not is_valid or value < 0 or <uint64_t>value >> 3 >= string_size_limit(&call.scope):
        reply_error(call.reply, "ERR bit offset is not an integer or out of range")
        return False
    offset[0] = <uint64_t>value
    return True


cdef char *open_bits(call_t *call, uint64_t last_bit, dash_ref_t *ref, size_t *size, bint *has_grown) noexcept nogil:
    cdef size_t wanted = <size_t>(last_bit >> 3) + 1
    has_grown[0] = True
    if find_write(&call.scope, &call.key, ref):
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return NULL
        update_begin(&call.scope, ref)
        size[0] = object_size(&ref.entry.value)
        has_grown[0] = size[0] < wanted
        size[0] = wanted if has_grown[0] else size[0]
    else:
        insert_key(&call.scope, &call.key, ref)
        size[0] = wanted
    # Also without growth: Redis calls a string "raw" once a bit command has opened it for writing.
    return object_resize(&ref.entry.value, size[0])


# ---- Single bits ---------------------------------------------------------------------------

cdef void setbit_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef uint64_t offset
    cdef int64_t bit
    cdef size_t size
    cdef bint has_grown
    cdef bint old
    cdef char *data
    cdef uint8_t mask
    if not parse_bit_offset(call, call.argv[2], 0, &offset):
        return
    if not parse_int64(call.argv[3].data, call.argv[3].size, &bit) or bit & ~<int64_t>1:
        reply_error(call.reply, "ERR bit is not an integer or out of range")
        return
    data = open_bits(call, offset, &ref, &size, &has_grown)
    if data == NULL:
        return
    mask = <uint8_t>(0x80 >> (offset & 7))
    old = (<uint8_t>data[offset >> 3] & mask) != 0
    if has_grown or old != bit:
        data[offset >> 3] = <char>((<uint8_t>data[offset >> 3] & ~mask) | (mask if bit else 0))
        update_end(&call.scope, &call.key, NOTIFY_STRING, "setbit")
    reply_int(call.reply, old)


cdef void getbit_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t ref
    cdef slice_t view
    cdef uint64_t offset
    if not parse_bit_offset(call, call.argv[2], 0, &offset):
        return
    if not find_read(&call.scope, &call.key, &ref):
        reply_int(call.reply, 0)
        return
    if not object_is_string(&ref.entry.value):
        reply_wrong_type(call.reply)
        return
    view = object_view(&ref.entry.value, scratch)
    if offset >> 3 >= view.size:
        reply_int(call.reply, 0)
    else:
        reply_int(call.reply, (<uint8_t>view.data[offset >> 3] >> (7 - (offset & 7))) & 1)


# ---- Ranges --------------------------------------------------------------------------------

cdef bint parse_unit(call_t *call, uint32_t position, bint *is_bit) noexcept nogil:
    """BYTE or BIT, if that argument is there."""
    is_bit[0] = False
    if position >= call.argc:
        return True
    is_bit[0] = slice_equals(call.argv[position], "bit")
    if is_bit[0] or slice_equals(call.argv[position], "byte"):
        return True
    reply_syntax_error(call.reply)
    return False


cdef void clip_range(int64_t start, int64_t end, bint is_bit, size_t size, bit_range_t *out) noexcept nogil:
    """Resolves negative positions and turns bytes into bits."""
    cdef int64_t total = <int64_t>size * 8 if is_bit else <int64_t>size
    if start < 0:
        start = start + total if start + total > 0 else 0
    if end < 0:
        end = end + total if end + total > 0 else 0
    if end >= total:
        end = total - 1
    if start > end:
        out.first = 1
        out.last = 0
    else:
        out.first = start if is_bit else start * 8
        out.last = end if is_bit else end * 8 + 7


cdef bint count_range(call_t *call, size_t size, bit_range_t *out) noexcept nogil:
    cdef int64_t start = 0
    cdef int64_t end = -1
    cdef bint is_bit = False
    if call.argc == 3 or call.argc > 5:
        reply_syntax_error(call.reply)
        return False
    if call.argc > 3:
        if not call_int_argument(call, 2, &start) or not call_int_argument(call, 3, &end):
            return False
        if start < 0 and end < 0 and start > end:
            out.first = 1
            out.last = 0
            return True
        if not parse_unit(call, 4, &is_bit):
            return False
    clip_range(start, end, is_bit, size, out)
    return True


cdef void bitcount_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t ref
    cdef slice_t view
    cdef bit_range_t span
    if not find_read(&call.scope, &call.key, &ref):
        reply_int(call.reply, 0)
        return
    if not object_is_string(&ref.entry.value):
        reply_wrong_type(call.reply)
        return
    view = object_view(&ref.entry.value, scratch)
    if not count_range(call, view.size, &span):
        return
    if span.first > span.last:
        reply_int(call.reply, 0)
    else:
        reply_int(call.reply, <int64_t>bits_count(view.data, <uint64_t>span.first, <uint64_t>span.last))


cdef bint search_range(call_t *call, size_t size, bit_range_t *out) noexcept nogil:
    cdef int64_t start = 0
    cdef int64_t end = -1
    cdef bint is_bit = False
    out.end_given = call.argc >= 5
    if call.argc > 6:
        reply_syntax_error(call.reply)
        return False
    if call.argc >= 4:
        if not call_int_argument(call, 3, &start) or not parse_unit(call, 5, &is_bit):
            return False
        if out.end_given and not call_int_argument(call, 4, &end):
            return False
    clip_range(start, end, is_bit, size, out)
    return True


cdef void bitpos_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t ref
    cdef slice_t view
    cdef bit_range_t span
    cdef int64_t bit
    cdef int64_t position
    if not call_int_argument(call, 2, &bit):
        return
    if bit & ~<int64_t>1:
        reply_error(call.reply, "ERR The bit argument must be 1 or 0.")
        return
    if not find_read(&call.scope, &call.key, &ref):
        reply_int(call.reply, -1 if bit else 0)
        return
    if not object_is_string(&ref.entry.value):
        reply_wrong_type(call.reply)
        return
    view = object_view(&ref.entry.value, scratch)
    if not search_range(call, view.size, &span):
        return
    position = -1
    if span.first <= span.last:
        position = bits_find(view.data, <uint64_t>span.first, <uint64_t>span.last, <bint>bit)
        # Without an end the string counts as followed by zeros.
        if position < 0 and not bit and not span.end_given:
            position = span.last + 1
    reply_int(call.reply, position)


# ---- BITOP ---------------------------------------------------------------------------------

cdef enum step_t:
    STEP_START = 0
    STEP_FETCHED = 1
    STEP_DONE = 2

cdef enum:
    OPERATION = 1                # its place in tx.numbers (0 is fetch_strings')


cdef void store_combination(scope_t *scope, transaction_t *tx, const slice_t *strings) noexcept nogil:
    """Computes the result from strings[1..] and puts it at key 0, or deletes that key."""
    cdef dash_ref_t ref
    cdef object_t result
    cdef size_t size = 0
    cdef char *out
    cdef uint32_t i
    for i in range(1, tx.key_count):
        if strings[i].size > size:
            size = strings[i].size
    tx.results[0].number = <int64_t>size
    if size == 0:
        if find_write(scope, &tx.keys[0], &ref):
            delete_key(scope, &tx.keys[0], &ref, NOTIFY_GENERIC, "del")
        return
    # Complete before the old value goes: it may be one of the sources.
    result.lo = 0
    result.hi = 0
    out = object_resize(&result, size)
    bits_combine(<bit_operation_t>tx.numbers[OPERATION], strings + 1, tx.key_count - 1, out, size)
    overwrite_key(scope, &tx.keys[0], &ref)
    object_free(&ref.entry.value)
    ref.entry.value = result
    update_end(scope, &tx.keys[0], NOTIFY_STRING, "set")


cdef void bitop_fetched_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    transaction_scope(tx, shard, &scope)
    store_combination(&scope, tx, <slice_t *>tx.state)


cdef void bitop_local_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """All keys are here. Short strings are copied: they lie inside entries, which a lookup may move."""
    cdef slice_t *strings = <slice_t *>tx.state
    cdef char *scratch = <char *>(strings + tx.key_count)
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(1, tx.key_count):
        strings[i].data = NULL
        strings[i].size = 0
        if find_read(&scope, &tx.keys[i], &ref):
            if not object_is_string(&ref.entry.value):
                tx.results[0].flag = True
                return
            strings[i] = object_view(&ref.entry.value, scratch)
            if strings[i].size <= OBJECT_SCRATCH and strings[i].data != scratch:
                memcpy(scratch, strings[i].data, strings[i].size)
                strings[i].data = scratch
        scratch += OBJECT_SCRATCH
    store_combination(&scope, tx, strings)


cdef bint is_short_of_sources(transaction_t *tx, const char *name) noexcept nogil:
    """DIFF and its kin compare one source with others."""
    cdef char text[96]
    if tx.argc > 4:
        return False
    snprintf(text, sizeof(text), "ERR BITOP %s must be called with at least two source keys.", name)
    reply_error(&tx.reply, text)
    return True


cdef bint parse_operation(transaction_t *tx) noexcept nogil:
    if slice_equals(tx.argv[1], "and"):
        tx.numbers[OPERATION] = BITS_AND
    elif slice_equals(tx.argv[1], "or"):
        tx.numbers[OPERATION] = BITS_OR
    elif slice_equals(tx.argv[1], "xor"):
        tx.numbers[OPERATION] = BITS_XOR
    elif slice_equals(tx.argv[1], "not"):
        tx.numbers[OPERATION] = BITS_NOT
    elif slice_equals(tx.argv[1], "one"):
        tx.numbers[OPERATION] = BITS_ONE
    elif slice_equals(tx.argv[1], "diff"):
        tx.numbers[OPERATION] = BITS_DIFF
        return not is_short_of_sources(tx, "DIFF")
    elif slice_equals(tx.argv[1], "diff1"):
        tx.numbers[OPERATION] = BITS_DIFF1
        return not is_short_of_sources(tx, "DIFF1")
    elif slice_equals(tx.argv[1], "andor"):
        tx.numbers[OPERATION] = BITS_ANDOR
        return not is_short_of_sources(tx, "ANDOR")
    else:
        reply_syntax_error(&tx.reply)
        return False
    if tx.numbers[OPERATION] == BITS_NOT and tx.argc != 4:
        reply_error(&tx.reply, "ERR BITOP NOT must be called with a single source key.")
        return False
    return True


cdef int bitop_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START:
        if not parse_operation(tx):
            return TRANSACTION_DONE
        if keys_share_shard(tx):
            tx.stage = STEP_DONE
            tx.state = net_alloc(tx.key_count * (sizeof(slice_t) + OBJECT_SCRATCH))
            return hop_on_keys(tx, bitop_local_hop)
        tx.stage = STEP_FETCHED
        return fetch_strings(tx, 1)
    if tx.stage == STEP_FETCHED and fetched_strings(tx) != NULL:
        tx.stage = STEP_DONE
        return hop_on_shard(tx, tx.key_shards[0], bitop_fetched_hop)
    if tx.stage == STEP_FETCHED or tx.results[0].flag:
        reply_wrong_type(&tx.reply)
    else:
        reply_int(&tx.reply, tx.results[0].number)
    return TRANSACTION_DONE


# ---- Registration --------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 5

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Adds this family's rows to the registry."""
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    cdef uint64_t read = COMMAND_READONLY
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    rows[0] = key_row("setbit", 4, grow, ACL_BITMAP, KEY_RW | KEY_ACCESS | KEY_UPDATE, setbit_command)
    rows[1] = key_row("getbit", 3, read | COMMAND_FAST, ACL_BITMAP, look, getbit_command)
    rows[2] = key_row("bitcount", -2, read, ACL_BITMAP, look, bitcount_command)
    rows[3] = key_row("bitpos", -3, read, ACL_BITMAP, look, bitpos_command)
    rows[4] = transaction_row("bitop", -4, grow, ACL_BITMAP, 2, -1, 1, KEY_OW | KEY_UPDATE, bitop_step)
    register_commands(rows, ROW_COUNT)
