"""BITFIELD and BITFIELD_RO: integers of any width at any bit offset.

The operations are parsed twice, first to check them all and to find how far the string must reach,
then to execute them: nothing is stored in between, so their number costs no memory. Signed fields
have 1 to 64 bits, unsigned ones 1 to 63.

A result that does not fit wraps (WRAP), stays at the limit (SAT), or is not written and answers
null (FAIL). Sums are formed in 64 bits with an explicit test for overflow.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t

from dfly._core.commands.bit_words cimport bits_read_field, bits_write_field
from dfly._core.commands.bits cimport open_bits, parse_bit_offset
from dfly._core.engine.command cimport (ACL_BITMAP, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_RO, KEY_RW, KEY_UPDATE,
                                        KEY_VARIABLE_FLAGS, call_int_argument, call_t, command_spec_t, key_row,
                                        register_commands, reply_syntax_error, reply_wrong_type, slice_equals)
from dfly._core.engine.database cimport NOTIFY_STRING, find_read, update_end
from dfly._core.resp.reply cimport reply_array, reply_error, reply_int, reply_null
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport OBJECT_SCRATCH, object_is_string, object_view, parse_int64
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum action_t:
    ACTION_GET = 0
    ACTION_SET = 1
    ACTION_INCRBY = 2

cdef enum overflow_t:
    OVERFLOW_WRAP = 0
    OVERFLOW_SAT = 1
    OVERFLOW_FAIL = 2

cdef enum parse_result_t:
    PARSE_END = 0
    PARSE_OPERATION = 1
    PARSE_FAILED = 2             # the error has been replied

cdef struct field_t:
    action_t action
    overflow_t overflow          # set by OVERFLOW for all that follow
    bint is_signed
    uint32_t width
    uint64_t offset
    int64_t operand              # value or increment


# ---- Parsing -------------------------------------------------------------------------------

cdef bint parse_field_type(call_t *call, slice_t text, field_t *field) noexcept nogil:
    cdef int64_t width = 0
    cdef bint is_valid = text.size > 1 and (text.data[0] == c'i' or text.data[0] == c'u')
    is_valid = is_valid and parse_int64(text.data + 1, text.size - 1, &width)
    if is_valid:
        field.is_signed = text.data[0] == c'i'
        is_valid = width >= 1 and width <= (64 if field.is_signed else 63)
    if not is_valid:
        reply_error(call.reply, "ERR Invalid bitfield type. Use something like i16 u8. "
                                "Note that u64 is not supported but i64 is.")
        return False
    field.width = <uint32_t>width
    return True


cdef bint parse_overflow(call_t *call, slice_t word, field_t *field) noexcept nogil:
    if slice_equals(word, "wrap"):
        field.overflow = OVERFLOW_WRAP
    elif slice_equals(word, "sat"):
        field.overflow = OVERFLOW_SAT
    elif slice_equals(word, "fail"):
        field.overflow = OVERFLOW_FAIL
    else:
        reply_error(call.reply, "ERR Invalid OVERFLOW type specified")
        return False
    return True


cdef parse_result_t next_field(call_t *call, uint32_t *position, field_t *field) noexcept nogil:
    """Reads the operation at position; OVERFLOW only changes what the following ones do."""
    cdef slice_t word
    cdef uint32_t left
    while position[0] < call.argc:
        word = call.argv[position[0]]
        left = call.argc - position[0] - 1
        if slice_equals(word, "overflow") and left >= 1:
            if not parse_overflow(call, call.argv[position[0] + 1], field):
                return PARSE_FAILED
            position[0] += 2
            continue
        if slice_equals(word, "get") and left >= 2:
            field.action = ACTION_GET
        elif slice_equals(word, "set") and left >= 3:
            field.action = ACTION_SET
        elif slice_equals(word, "incrby") and left >= 3:
            field.action = ACTION_INCRBY
        else:
            reply_syntax_error(call.reply)
            return PARSE_FAILED
        if not parse_field_type(call, call.argv[position[0] + 1], field):
            return PARSE_FAILED
        if not parse_bit_offset(call, call.argv[position[0] + 2], field.width, &field.offset):
            return PARSE_FAILED
        if field.action == ACTION_GET:
            position[0] += 3
            return PARSE_OPERATION
        if not call_int_argument(call, position[0] + 3, &field.operand):
            return PARSE_FAILED
        position[0] += 4
        return PARSE_OPERATION
    return PARSE_END


# ---- Arithmetic ----------------------------------------------------------------------------

cdef inline int64_t sign_extend(uint64_t value, uint32_t width) noexcept nogil:
    return <int64_t>(value << (64 - width)) >> (64 - width)


cdef inline int64_t read_field(const char *data, size_t size, const field_t *field) noexcept nogil:
    cdef uint64_t bits = bits_read_field(data, size, field.offset, field.width)
    return sign_extend(bits, field.width) if field.is_signed else <int64_t>bits


cdef int64_t add_signed(const field_t *field, int64_t value, int64_t delta, bint *overflows) noexcept nogil:
    cdef int64_t highest = INT64_MAX >> (64 - field.width)
    cdef int64_t lowest = -highest - 1
    cdef int64_t total = <int64_t>(<uint64_t>value + <uint64_t>delta)
    cdef int64_t headroom = <int64_t>(<uint64_t>highest - <uint64_t>value)
    # Redis' room above a value of SET far below the field's range wraps around: it saturates at the top.
    cdef bint above = total > highest or (field.width < 64 and delta > headroom)
    cdef bint below = not above and total < lowest
    if ((value ^ total) & (delta ^ total)) < 0:
        # The sum left 64 bits, so its sign is the wrong one.
        above = value >= 0
        below = not above
    overflows[0] = above or below
    if not overflows[0]:
        return total
    if field.overflow == OVERFLOW_SAT:
        return highest if above else lowest
    return sign_extend(<uint64_t>total, field.width)


cdef int64_t add_unsigned(const field_t *field, int64_t value, int64_t delta, bint *overflows) noexcept nogil:
    """A negative value is SET's argument read as unsigned, hence far above; fields have at most 63 bits."""
    cdef uint64_t highest = (<uint64_t>1 << field.width) - 1
    cdef uint64_t total = <uint64_t>value + <uint64_t>delta
    cdef bint above = <uint64_t>value > highest or (delta > 0 and <uint64_t>delta > highest - <uint64_t>value)
    cdef bint below = not above and delta < 0 and delta < -value
    overflows[0] = above or below
    if not overflows[0]:
        return <int64_t>total
    if field.overflow == OVERFLOW_SAT:
        return <int64_t>highest if above else 0
    return <int64_t>(total & highest)


cdef bint change_field(call_t *call, const field_t *field, char *data, size_t size, bint has_grown) noexcept nogil:
    """SET or INCRBY with its reply; True if that counts as a change: written, and new or different bits."""
    cdef int64_t old = read_field(data, size, field)
    cdef int64_t value = field.operand if field.action == ACTION_SET else old
    cdef int64_t delta = 0 if field.action == ACTION_SET else field.operand
    cdef bint overflows
    if field.is_signed:
        value = add_signed(field, value, delta, &overflows)
    else:
        value = add_unsigned(field, value, delta, &overflows)
    if overflows and field.overflow == OVERFLOW_FAIL:
        reply_null(call.reply)
        return False
    reply_int(call.reply, old if field.action == ACTION_SET else value)
    bits_write_field(data, size, field.offset, field.width, <uint64_t>value)
    return has_grown or value != old


# ---- Commands ------------------------------------------------------------------------------

cdef void execute_reading(call_t *call, uint32_t count) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t ref
    cdef field_t field
    cdef slice_t view
    cdef uint32_t position = 2
    view.data = NULL
    view.size = 0
    if find_read(&call.scope, &call.key, &ref):
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return
        view = object_view(&ref.entry.value, scratch)
    reply_array(call.reply, count)
    while next_field(call, &position, &field) == PARSE_OPERATION:
        reply_int(call.reply, read_field(view.data, view.size, &field))


cdef void execute_writing(call_t *call, uint32_t count, uint64_t last_bit) noexcept nogil:
    cdef dash_ref_t ref
    cdef field_t field
    cdef uint32_t position = 2
    cdef size_t size
    cdef bint has_grown
    cdef bint has_changed = False
    cdef char *data = open_bits(call, last_bit, &ref, &size, &has_grown)
    if data == NULL:
        return
    reply_array(call.reply, count)
    field.overflow = OVERFLOW_WRAP
    while next_field(call, &position, &field) == PARSE_OPERATION:
        if field.action == ACTION_GET:
            reply_int(call.reply, read_field(data, size, &field))
        elif change_field(call, &field, data, size, has_grown):
            has_changed = True
    if has_changed:
        update_end(&call.scope, &call.key, NOTIFY_STRING, "setbit")
    elif has_grown:
        # Every operation failed: the string is longer, but Redis notifies nobody.
        update_end(&call.scope, &call.key, NOTIFY_STRING, NULL)


cdef void bitfield_generic(call_t *call, bint only_get) noexcept nogil:
    cdef field_t field
    cdef uint32_t position = 2
    cdef uint32_t count = 0
    cdef uint64_t last_bit = 0
    cdef bint writes = False
    cdef parse_result_t result
    field.overflow = OVERFLOW_WRAP
    while True:
        result = next_field(call, &position, &field)
        if result == PARSE_FAILED:
            return
        if result == PARSE_END:
            break
        count += 1
        if field.action != ACTION_GET:
            writes = True
            if field.offset + field.width - 1 > last_bit:
                last_bit = field.offset + field.width - 1
    if not writes:
        execute_reading(call, count)
    elif only_get:
        reply_error(call.reply, "ERR BITFIELD_RO only supports the GET subcommand")
    else:
        execute_writing(call, count, last_bit)


cdef void bitfield_command(call_t *call) noexcept nogil:
    bitfield_generic(call, False)


cdef void bitfield_ro_command(call_t *call) noexcept nogil:
    bitfield_generic(call, True)


# ---- Registration --------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 2

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Adds this family's rows to the registry."""
    rows[0] = key_row("bitfield", -2, COMMAND_WRITE | COMMAND_DENYOOM, ACL_BITMAP,
                      KEY_RW | KEY_ACCESS | KEY_UPDATE | KEY_VARIABLE_FLAGS, bitfield_command)
    rows[1] = key_row("bitfield_ro", -2, COMMAND_READONLY | COMMAND_FAST, ACL_BITMAP, KEY_RO | KEY_ACCESS,
                      bitfield_ro_command)
    register_commands(rows, ROW_COUNT)
