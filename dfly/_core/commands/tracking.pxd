"""The subcommands of CLIENT about tracking; their rows stand in commands/client."""

from libc.stdint cimport int64_t

from dfly._core.engine.command cimport call_t, transaction_t
from dfly._core.net.connection cimport connection_t

cdef int client_tracking(transaction_t *tx) noexcept nogil
cdef void client_caching(call_t *call) noexcept nogil
cdef void client_getredir(call_t *call) noexcept nogil
cdef void client_trackinginfo(call_t *call) noexcept nogil
# An id, 0: to itself, -1: not in tracking mode.
cdef int64_t redirect_of(const connection_t *connection) noexcept nogil
