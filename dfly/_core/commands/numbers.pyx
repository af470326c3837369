"""INCR and its kin: strings as numbers.

Integers: a value that is stored as an integer is changed in its sixteen bytes, nothing is parsed or
allocated. Floating point: Redis computes in the machine's long double and prints 17 decimals less
trailing zeros, which clients see byte for byte; so do we, through the C library.
"""

from libc cimport errno as c_errno
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy

from dfly._core.engine.command cimport (ACL_STRING, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_WRITE, KEY_ACCESS,
                                        KEY_RW, KEY_UPDATE, call_int_argument, call_t, command_spec_t, key_row,
                                        register_commands, reply_not_integer, reply_wrong_type)
from dfly._core.engine.database cimport (NOTIFY_STRING, find_write, insert_key, update_begin, update_end)
from dfly._core.resp.reply cimport reply_bulk, reply_error, reply_int
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport (OBJECT_INT, OBJECT_SCRATCH, object_free, object_get_int, object_is_string,
                                      object_set_int, object_set_string_plain, object_t, object_tag, object_view)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef extern from "stdlib.h" nogil:
    long double strtold(const char *text, char **end) noexcept

cdef extern from "math.h" nogil:
    bint isnan_long "isnan"(long double value) noexcept
    bint isinf_long "isinf"(long double value) noexcept

cdef extern from "ctype.h" nogil:
    bint isspace(int c) noexcept


# ---- Text ----------------------------------------------------------------------------------

cdef bint parse_long_double(const char *data, size_t size, long double *out) noexcept nogil:
    cdef char text[LONG_DOUBLE_TEXT_MAX]
    cdef char *end = NULL
    cdef long double value
    if size == 0 or size >= LONG_DOUBLE_TEXT_MAX or isspace(<unsigned char>data[0]):
        return False
    memcpy(text, data, size)
    text[size] = 0
    c_errno.errno = 0
    value = strtold(text, &end)
    if <size_t>(end - text) != size or c_errno.errno == c_errno.EINVAL or isnan_long(value):
        return False
    # Out of range: an overflow to infinity or an underflow to zero.
    if c_errno.errno == c_errno.ERANGE and (isinf_long(value) or value == 0):
        return False
    out[0] = value
    return True


cdef size_t format_long_double(long double value, char *out) noexcept nogil:
    cdef size_t size = <size_t>snprintf(out, LONG_DOUBLE_TEXT_MAX, "%.17Lf", value)
    if memchr(out, c'.', size) != NULL:
        while out[size - 1] == c'0':
            size -= 1
        if out[size - 1] == c'.':
            size -= 1
    if size == 2 and out[0] == c'-' and out[1] == c'0':
        out[0] = c'0'
        size = 1
    return size


# ---- Integers ------------------------------------------------------------------------------

cdef void increment(call_t *call, int64_t delta) noexcept nogil:
    cdef dash_ref_t ref
    cdef object_t *stored = NULL
    cdef int64_t value = 0
    cdef bint found = find_write(&call.scope, &call.key, &ref)
    if found:
        stored = &ref.entry.value
        if likely(object_tag(stored) == OBJECT_INT):
            value = <int64_t>stored.lo
        elif not object_is_string(stored):
            reply_wrong_type(call.reply)
            return
        elif not object_get_int(stored, &value):
            reply_not_integer(call.reply)
            return
    if unlikely((delta < 0 and value < INT64_MIN - delta) or (delta > 0 and value > INT64_MAX - delta)):
        reply_error(call.reply, "ERR increment or decrement would overflow")
        return
    value += delta
    if found:
        update_begin(&call.scope, &ref)
        if likely(object_tag(stored) == OBJECT_INT):
            stored.lo = <uint64_t>value
        else:
            object_free(stored)
            object_set_int(stored, value)
    else:
        insert_key(&call.scope, &call.key, &ref)
        object_set_int(&ref.entry.value, value)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "incrby")
    reply_int(call.reply, value)


cdef void incr_command(call_t *call) noexcept nogil:
    increment(call, 1)


cdef void decr_command(call_t *call) noexcept nogil:
    increment(call, -1)


cdef void incrby_command(call_t *call) noexcept nogil:
    cdef int64_t delta
    if call_int_argument(call, 2, &delta):
        increment(call, delta)


cdef void decrby_command(call_t *call) noexcept nogil:
    cdef int64_t delta
    if not call_int_argument(call, 2, &delta):
        return
    if delta == INT64_MIN:
        reply_error(call.reply, "ERR decrement would overflow")
        return
    increment(call, -delta)


# ---- Floating point ------------------------------------------------------------------------

cdef void incrbyfloat_command(call_t *call) noexcept nogil:
    cdef char text[LONG_DOUBLE_TEXT_MAX]
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t ref
    cdef slice_t view
    cdef long double value = 0
    cdef long double delta
    cdef size_t size
    cdef bint found = find_write(&call.scope, &call.key, &ref)
    cdef bint is_valid = True
    if found:
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return
        view = object_view(&ref.entry.value, scratch)
        is_valid = parse_long_double(view.data, view.size, &value)
    if not is_valid or not parse_long_double(call.argv[2].data, call.argv[2].size, &delta):
        reply_error(call.reply, "ERR value is not a valid float")
        return
    value += delta
    if isnan_long(value) or isinf_long(value):
        reply_error(call.reply, "ERR increment would produce NaN or Infinity")
        return
    size = format_long_double(value, text)
    if found:
        update_begin(&call.scope, &ref)
        object_free(&ref.entry.value)
    else:
        insert_key(&call.scope, &call.key, &ref)
    # Redis keeps the result as text even when it is a whole number; OBJECT ENCODING shows that.
    object_set_string_plain(&ref.entry.value, text, size)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "incrbyfloat")
    reply_bulk(call.reply, text, size)


# ---- Registration --------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 5

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Adds this family's rows to the registry."""
    cdef uint64_t flags = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_FAST
    cdef uint64_t update = KEY_RW | KEY_ACCESS | KEY_UPDATE
    rows[0] = key_row("incr", 2, flags, ACL_STRING, update, incr_command)
    rows[1] = key_row("decr", 2, flags, ACL_STRING, update, decr_command)
    rows[2] = key_row("incrby", 3, flags, ACL_STRING, update, incrby_command)
    rows[3] = key_row("decrby", 3, flags, ACL_STRING, update, decrby_command)
    rows[4] = key_row("incrbyfloat", 3, flags, ACL_STRING, update, incrbyfloat_command)
    register_commands(rows, ROW_COUNT)
