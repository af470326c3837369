"""The part of execution that is not inline: see execute.pxd."""

from libc.stdint cimport int64_t

from dfly._core.engine.command cimport COMMAND_NO_AUTH, COMMAND_SKIP_SLOWLOG, call_t
from dfly._core.engine.server_state cimport executor_t, slowlog_add
from dfly._core.net.connection cimport connection_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP
from dfly._core.sys.clock cimport ticks_per_us

__abi__ = DFLY_ABI_STAMP


cdef void check_slow(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    cdef int64_t limit = self.server.settings.slowlog_log_slower_than_us
    cdef int64_t duration_us = <int64_t>(<double>call.ticks / ticks_per_us())
    # AUTH and HELLO carry passwords.
    if limit >= 0 and duration_us >= limit and not call.spec.flags & (COMMAND_SKIP_SLOWLOG | COMMAND_NO_AUTH):
        slowlog_add(self, connection, call.argv, call.argc, duration_us)
