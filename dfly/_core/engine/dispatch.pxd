"""The dispatcher: from bytes of a connection to executed commands and replies in order."""

from dfly._core.engine.server_state cimport executor_t
from dfly._core.net.connection cimport connection_t, service_t

cdef void dispatch_service(service_t *out) noexcept nogil        # fills in the connection callbacks
cdef void dispatch_init(executor_t *self) noexcept nogil
cdef void dispatch_deinit(executor_t *self) noexcept nogil
cdef void dispatch_resume(connection_t *connection) noexcept nogil   # a reason to wait is gone: go on with kept input
