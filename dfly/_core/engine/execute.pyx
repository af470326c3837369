"""The part of execution that is not inline: see execute.pxd."""

from libc.stdint cimport int64_t
from libc.string cimport memcmp, strlen

from dfly._core.engine.command cimport (COMMAND_DENYOOM, COMMAND_NO_AUTH, COMMAND_SKIP_SLOWLOG, call_t,
                                        command_spec_t)
from dfly._core.engine.error_stats cimport error_stats_add, error_stats_scan
from dfly._core.engine.server_state cimport command_stats_t, executor_t, slowlog_add
from dfly._core.net.connection cimport connection_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP
from dfly._core.sys.clock cimport ticks_per_us

__abi__ = DFLY_ABI_STAMP


cdef bint count_failure(executor_t *self, const command_spec_t *spec, const char *data,
                        size_t size) noexcept nogil:
    cdef command_stats_t *stats = &self.command_stats[spec.index]
    cdef bint was_rejected = spec.flags & COMMAND_DENYOOM != 0 and size > 4 and memcmp(data, b"-OOM", 4) == 0
    self.stats.errors += error_stats_scan(&self.error_stats, data, size)
    if was_rejected:
        stats.rejected += 1
    else:
        stats.failed += 1
    return was_rejected


cdef void count_error(executor_t *self, const char *text) noexcept nogil:
    self.stats.errors += 1
    error_stats_add(&self.error_stats, text, strlen(text))


cdef void check_slow(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    cdef int64_t limit = self.server.settings.slowlog_log_slower_than_us
    cdef int64_t duration_us = <int64_t>(<double>call.ticks / ticks_per_us())
    # AUTH and HELLO carry passwords.
    if limit >= 0 and duration_us >= limit and not call.spec.flags & (COMMAND_SKIP_SLOWLOG | COMMAND_NO_AUTH):
        slowlog_add(self, connection, call.argv, call.argc, duration_us)
