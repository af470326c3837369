"""Execution of one call, for whoever holds its shard's token: the dispatcher and EXEC.

Inline, since the dispatcher does this for every command.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport (COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY, SLICING_WANTED, call_t,
                                        command_spec_t, slicing_t)
from dfly._core.engine.eviction cimport make_room
from dfly._core.engine.latency cimport (LATENCY_COMMAND, LATENCY_FAST_COMMAND, latency_add, latency_is_event,
                                        latency_record)
from dfly._core.engine.server_state cimport command_stats_t, executor_t
from dfly._core.engine.settings cimport settings_t
from dfly._core.engine.shard cimport caller_t, shard_database, shard_t
from dfly._core.engine.tracking cimport tracking_remember
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport reply_error, reply_t
from dfly._core.sys.base cimport count_shown, likely, unlikely


cdef extern from *:
    """
    #define DFLY_OUT_OF_MEMORY "OOM command not allowed when used memory > 'maxmemory'."
    """
    const char *OUT_OF_MEMORY "DFLY_OUT_OF_MEMORY"

# Counts the errors in a reply; True if it says that the command was not executed (OOM).
cdef bint count_failure(executor_t *self, const command_spec_t *spec, const char *data,
                        size_t size) noexcept nogil
cdef void count_error(executor_t *self, const char *text) noexcept nogil     # of no command, or a refused one


# Of commands that others waited for, not of those that waited themselves.
cdef inline void note_longest(executor_t *self, uint64_t ticks) noexcept nogil:
    if unlikely(ticks > self.longest_ticks):
        self.longest_ticks = ticks


# Counts a call that has replied into call.reply, at reply_offset; error_count was errors_before.
cdef inline void account_call(executor_t *self, call_t *call, uint64_t errors_before) noexcept nogil:
    cdef command_stats_t *stats = &self.command_stats[call.spec.index]
    if unlikely(call.reply.error_count != errors_before):
        if count_failure(self, call.spec, call.reply.data + call.reply_offset, call.reply_size):
            return
    stats.calls += 1
    stats.ticks += call.ticks
    count_shown(&self.stats.commands)
    note_longest(self, call.ticks)
    account_latency(self, stats, call.spec, call.ticks)


cdef inline void account_latency(executor_t *self, command_stats_t *stats, const command_spec_t *spec,
                                 uint64_t ticks) noexcept nogil:
    cdef settings_t *settings = &self.server.settings
    if likely(settings.latency_tracking != 0):
        latency_record(&stats.latency, ticks)
    if unlikely(latency_is_event(settings, ticks)):
        latency_add(&self.latency, settings,
                    LATENCY_FAST_COMMAND if spec.flags & COMMAND_FAST else LATENCY_COMMAND, ticks)


# One single-key command under the shard's token.
cdef inline void run_on_shard(call_t *call, shard_t *shard, const caller_t *caller, int64_t now_ms,
                              reply_t *reply, slicing_t slicing) noexcept nogil:
    call.slicing = slicing
    call.scope.shard = shard
    call.scope.database = shard_database(shard, caller.database_index)
    call.scope.now_ms = now_ms
    call.scope.client_id = caller.client_id
    call.scope.keep_access = caller.keep_access
    call.reply = reply
    if unlikely(shard.settings.maxmemory != 0) and call.spec.flags & COMMAND_DENYOOM:
        if not make_room(&call.scope):
            shard.stats.oom_rejections += 1
            reply_error(reply, OUT_OF_MEMORY)
            return
    call.spec.handler(call)
    if (unlikely(caller.tracker != NULL) and call.spec.flags & COMMAND_READONLY
            and call.slicing != SLICING_WANTED):
        tracking_remember(shard, &call.key, caller.tracker)


# Into the slow log if it took longer than slowlog-log-slower-than (call.ticks).
cdef void check_slow(executor_t *self, connection_t *connection, call_t *call) noexcept nogil
