"""CL.THROTTLE: a rate limiter per key (the generic cell rate algorithm), as redis-cell and Dragonfly have it.

    CL.THROTTLE key max_burst count period [quantity]      `count` requests each `period` seconds, bursts on top

The key holds, as a decimal in microseconds, the time at which a client that asks steadily would be at zero again; it
expires then. Reply: limited (0 or 1), the limit (max_burst + 1), what is left of it, seconds until a retry makes sense
(-1: it was let through, or never will be), seconds until all is as if nothing had happened. Seconds are rounded
up, so that who waits them is not early. Algorithm: en.wikipedia.org/wiki/Generic_cell_rate_algorithm.
"""

from libc.stdint cimport INT64_MAX, int64_t

from dfly._core.engine.command cimport (ACL_STRING, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_WRITE, KEY_ACCESS, KEY_RW,
                                        KEY_UPDATE, call_int_argument, call_t, command_spec_t, key_row,
                                        register_commands, reply_not_integer, reply_syntax_error, reply_wrong_type)
from dfly._core.engine.database cimport (NOTIFY_STRING, find_write, insert_key, set_deadline, update_begin, update_end)
from dfly._core.resp.reply cimport reply_array, reply_error, reply_int
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.decimal_text cimport format_int64
from dfly._core.store.object cimport object_get_int, object_is_string, object_replace_string
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    US = 1_000_000
    LARGEST = 1_000_000_000          # of each argument, so that their products fit

cdef struct limits_t:
    int64_t burst
    int64_t count
    int64_t period
    int64_t quantity


cdef bint parse(call_t *call, limits_t *out) noexcept nogil:
    out.quantity = 1
    if call.argc > 6:
        reply_syntax_error(call.reply)
        return False
    if (not call_int_argument(call, 2, &out.burst) or not call_int_argument(call, 3, &out.count)
            or not call_int_argument(call, 4, &out.period)
            or (call.argc == 6 and not call_int_argument(call, 5, &out.quantity))):
        return False
    if (0 <= out.burst <= LARGEST and 0 < out.count <= LARGEST and 0 < out.period <= LARGEST
            and 0 <= out.quantity <= LARGEST):
        return True
    reply_error(call.reply, "ERR value is out of range")
    return False


cdef inline int64_t seconds(int64_t us) noexcept nogil:
    return (us + US - 1) // US


cdef void store(call_t *call, dash_ref_t *ref, bint found, int64_t zero_us) noexcept nogil:
    cdef char text[24]
    if found:
        update_begin(&call.scope, ref)
    else:
        insert_key(&call.scope, &call.key, ref)
    object_replace_string(&ref.entry.value, text, format_int64(zero_us, text))
    set_deadline(&call.scope, ref, (zero_us + 999) // 1000)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "set")


cdef void throttle_command(call_t *call) noexcept nogil:
    cdef int64_t now_us = call.scope.now_ms * 1000
    cdef int64_t zero_us = now_us
    cdef int64_t retry_us = -1
    cdef int64_t interval
    cdef int64_t tolerance
    cdef int64_t wanted
    cdef int64_t excess
    cdef limits_t limits
    cdef dash_ref_t ref
    cdef bint limited
    cdef bint found
    if not parse(call, &limits):
        return
    found = find_write(&call.scope, &call.key, &ref)
    if found:
        if not object_is_string(&ref.entry.value):
            reply_wrong_type(call.reply)
            return
        if not object_get_int(&ref.entry.value, &zero_us):
            reply_not_integer(call.reply)
            return
    interval = max(limits.period * US // limits.count, <int64_t>1)
    if limits.burst + 1 > INT64_MAX // 4 // interval or limits.quantity > INT64_MAX // 4 // interval:
        reply_error(call.reply, "ERR value is out of range")
        return
    tolerance = interval * (limits.burst + 1)
    # A time that somebody else wrote is no reason to limit for ever.
    zero_us = min(max(zero_us, now_us), now_us + tolerance)
    wanted = zero_us + interval * limits.quantity
    excess = wanted - tolerance - now_us
    limited = excess > 0
    if not limited:
        zero_us = wanted
        if limits.quantity > 0:
            store(call, &ref, found, zero_us)
    elif interval * limits.quantity <= tolerance:
        retry_us = excess
    reply_array(call.reply, 5)
    reply_int(call.reply, limited)
    reply_int(call.reply, limits.burst + 1)
    reply_int(call.reply, (now_us + tolerance - zero_us) // interval)
    reply_int(call.reply, seconds(retry_us) if retry_us >= 0 else -1)
    reply_int(call.reply, seconds(zero_us - now_us))


cdef enum:
    ROW_COUNT = 1

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's row."""
    rows[0] = key_row("cl.throttle", -5, COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_FAST, ACL_STRING,
                      KEY_RW | KEY_ACCESS | KEY_UPDATE, throttle_command)
    register_commands(rows, ROW_COUNT)
