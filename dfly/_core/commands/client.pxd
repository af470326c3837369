"""What other families need of CLIENT: its row, and setting a client's name."""

from dfly._core.engine.command cimport call_t, command_spec_t
from dfly._core.sys.base cimport slice_t

cdef command_spec_t client_row()
cdef bint set_client_name(call_t *call, slice_t name) noexcept nogil     # replies the error itself
