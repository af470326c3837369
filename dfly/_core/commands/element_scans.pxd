"""HSCAN, SSCAN and ZSCAN: the walk over the elements of one key, in slices if many are asked for.

A family says how a step goes: over the elements of one bucket, or over all of a compact value. What SCAN promises holds
while the value changes (redis.io/docs/latest/commands/scan), so slices go on where they were as long as it is the same
value.

    if parse_scan_cursor(...): look the key up ...
        element_scan(call, value, size, cursor, step, allow_no_values)
"""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.commands.scan_options cimport scan_options_t
from dfly._core.engine.command cimport call_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport object_t

cdef struct element_scan_t:
    scan_options_t options
    reply_t *elements
    uint64_t found               # elements of the reply's array
    uint64_t counted             # what COUNT bounds
    const object_t *value
    int64_t now_ms

# One step from the cursor on: replies to scan.elements and counts. Returns the next cursor, 0 at the end.
ctypedef uint64_t (*element_scan_step_t)(element_scan_t *scan, uint64_t cursor) noexcept nogil

# Options, reply, errors; the value has `size` elements.
cdef void element_scan(call_t *call, const object_t *value, uint64_t size, uint64_t cursor, element_scan_step_t step,
                       bint allow_no_values) noexcept nogil
