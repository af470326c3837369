"""What SETBIT and BITFIELD share."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.command cimport call_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.sys.base cimport slice_t

# A bit offset, with width > 0 also "#n" for n * width. Replies the error and returns False.
cdef bint parse_bit_offset(call_t *call, slice_t argument, uint32_t width, uint64_t *offset) noexcept nogil
# Opens the call's key for writing up to last_bit: creates or grows it, after update_begin. Returns the
# bytes, or NULL after a wrong type's error. The caller ends with update_end if anything changed.
cdef char *open_bits(call_t *call, uint64_t last_bit, dash_ref_t *ref, size_t *size, bint *has_grown) noexcept nogil
