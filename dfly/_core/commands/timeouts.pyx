"""Implementation of timeouts: see timeouts.pxd."""

from libc.math cimport ceill
from libc.stdint cimport int64_t

from dfly._core.commands.numbers cimport parse_long_double
from dfly._core.resp.reply cimport reply_error
from dfly._core.store.object cimport parse_int64
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef extern from *:
    """
    #define DFLY_TWO_TO_63 9223372036854775808.0L
    #define DFLY_TIMEOUT_MAX_MS 1000000000000000
    """
    long double TWO_TO_63 "DFLY_TWO_TO_63"
    int64_t TIMEOUT_MAX_MS "DFLY_TIMEOUT_MAX_MS"         # no server runs so long


cdef bint take(reply_t *reply, int64_t value, int64_t *timeout_ms) noexcept nogil:
    if value < 0:
        reply_error(reply, "ERR timeout is negative")
        return False
    timeout_ms[0] = value if value < TIMEOUT_MAX_MS else TIMEOUT_MAX_MS
    return True


cdef bint parse_timeout_seconds(reply_t *reply, slice_t argument, int64_t *timeout_ms) noexcept nogil:
    cdef long double value
    if not parse_long_double(argument.data, argument.size, &value):
        reply_error(reply, "ERR timeout is not a float or out of range")
        return False
    value = ceill(value * 1000)
    # What does not fit an integer of milliseconds is negative there.
    return take(reply, <int64_t>value if -TWO_TO_63 < value < TWO_TO_63 else -1, timeout_ms)


cdef bint parse_timeout_ms(reply_t *reply, slice_t argument, int64_t *timeout_ms) noexcept nogil:
    cdef int64_t value
    if not parse_int64(argument.data, argument.size, &value):
        reply_error(reply, "ERR timeout is not an integer or out of range")
        return False
    return take(reply, value, timeout_ms)
