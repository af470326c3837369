"""Execution of one call, for whoever holds its shard's token: the dispatcher and EXEC.

Inline, since the dispatcher does this for every command.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport COMMAND_DENYOOM, call_t
from dfly._core.engine.eviction cimport make_room
from dfly._core.engine.server_state cimport command_stats_t, executor_t
from dfly._core.engine.shard cimport shard_database, shard_t
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport reply_error, reply_t
from dfly._core.sys.base cimport unlikely


# Counts a call that has replied into call.reply, whose error_count was errors_before.
cdef inline void account_call(executor_t *self, call_t *call, uint64_t errors_before) noexcept nogil:
    cdef command_stats_t *stats = &self.command_stats[call.spec.index]
    stats.calls += 1
    stats.ticks += call.ticks
    if unlikely(call.reply.error_count != errors_before):
        stats.failed += 1
        self.stats.errors += 1
    self.stats.commands += 1


# One single-key command under the shard's token.
cdef inline void run_on_shard(call_t *call, shard_t *shard, uint32_t database_index, int64_t now_ms,
                              bint keep_access, reply_t *reply) noexcept nogil:
    call.scope.shard = shard
    call.scope.database = shard_database(shard, database_index)
    call.scope.now_ms = now_ms
    call.scope.keep_access = keep_access
    call.reply = reply
    if unlikely(shard.settings.maxmemory != 0) and call.spec.flags & COMMAND_DENYOOM:
        if not make_room(&call.scope):
            shard.stats.oom_rejections += 1
            reply_error(reply, "OOM command not allowed when used memory > 'maxmemory'.")
            return
    call.spec.handler(call)


# Into the slow log if it took longer than slowlog-log-slower-than (call.ticks).
cdef void check_slow(executor_t *self, connection_t *connection, call_t *call) noexcept nogil
