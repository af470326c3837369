"""Server administration: TIME MONITOR SLOWLOG MEMORY, and the rows of what Python answers.

Commands that look at every thread are hops over the threads.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy

from dfly._core.engine.command cimport (ACL_ADMIN, ACL_CONNECTION, ACL_DANGEROUS, COMMAND_ADMIN,
                                        COMMAND_ALLOW_BUSY, COMMAND_FAST, COMMAND_LOADING, COMMAND_NOSCRIPT,
                                        COMMAND_NO_MULTI, COMMAND_READONLY, COMMAND_STALE, KEY_RO,
                                        TRANSACTION_DONE, call_t, command_spec_t, connection_row,
                                        container_row, control_row, key_row, register_commands,
                                        reply_not_integer, reply_subcommand_syntax, reply_syntax_error,
                                        slice_equals, transaction_row, transaction_t)
from dfly._core.engine.database cimport find_peek
from dfly._core.engine.server_state cimport executor_of, executor_t, slow_entry_t, slowlog_clear
from dfly._core.engine.transaction cimport hop_on_threads
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport CONNECTION_MONITOR, net_thread_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_bulk_text, reply_error,
                                    reply_int, reply_null, reply_ok, reply_raw, reply_simple, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport object_heap_bytes, parse_int64
from dfly._core.sys.alloc cimport mem_return_to_system, net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add
from dfly._core.sys.clock cimport wall_us

__abi__ = DFLY_ABI_STAMP


cdef void time_command(call_t *call) noexcept nogil:
    cdef int64_t now_us = wall_us()
    reply_array(call.reply, 2)
    reply_bulk_int(call.reply, now_us // 1000000)
    reply_bulk_int(call.reply, now_us % 1000000)


cdef void monitor_command(call_t *call) noexcept nogil:
    if not call.connection.flags & CONNECTION_MONITOR:
        call.connection.flags |= CONNECTION_MONITOR
        atomic_add(&executor_of(call.connection).server.monitor_count, 1)
    reply_ok(call.reply)


# ---- SLOWLOG ---------------------------------------------------------------------------------

cdef struct slow_line_t:
    uint64_t id
    reply_t *source
    size_t offset
    size_t size

cdef struct slow_lines_t:
    slow_line_t *lines           # of one thread; net_alloc, freed when merged
    uint32_t count


cdef void slow_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    """Writes each of the thread's entries as RESP and notes where it lies."""
    cdef executor_t *executor = <executor_t *>(<net_thread_t *>proactor.context).context
    cdef slow_lines_t *out = &(<slow_lines_t *>tx.state)[proactor.index]
    cdef reply_t *reply = &tx.shard_replies[proactor.index]
    cdef slow_entry_t *entry = executor.slow_entries
    cdef slow_line_t *line
    cdef uint32_t i
    out.lines = <slow_line_t *>net_alloc((executor.slow_count + 1) * sizeof(slow_line_t))
    while entry != NULL:
        line = &out.lines[out.count]
        line.id = entry.id
        line.source = reply
        line.offset = reply.size
        reply_array(reply, 6)
        reply_int(reply, <int64_t>entry.id)
        reply_int(reply, entry.time_s)
        reply_int(reply, entry.duration_us)
        reply_array(reply, entry.argc)
        for i in range(entry.argc):
            reply_bulk(reply, entry.args[i].data, entry.args[i].size)
        reply_bulk_text(reply, entry.peer)
        if entry.client_name != NULL:
            reply_bulk_text(reply, entry.client_name)
        else:
            reply_bulk_text(reply, "")
        line.size = reply.size - line.offset
        out.count += 1
        entry = entry.next


cdef int newest_first(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const slow_line_t *>a).id
    cdef uint64_t y = (<const slow_line_t *>b).id
    return (1 if x < y else 0) - (1 if x > y else 0)


cdef int slowlog_get(transaction_t *tx) noexcept nogil:
    cdef slow_lines_t *threads
    cdef slow_line_t *all_lines
    cdef uint32_t total = 0
    cdef uint32_t t
    cdef int64_t wanted = 10
    if tx.stage == 0:
        if tx.argc > 3:
            reply_subcommand_syntax(&tx.reply, tx.argv[1], "SLOWLOG")
            return TRANSACTION_DONE
        if tx.argc == 3 and (not parse_int64(tx.argv[2].data, tx.argv[2].size, &wanted) or wanted < -1):
            reply_error(&tx.reply, "ERR count should be greater than or equal to -1")
            return TRANSACTION_DONE
        tx.numbers[0] = wanted
        tx.stage = 1
        tx.state = net_zalloc(tx.proactor_count * sizeof(slow_lines_t))
        return hop_on_threads(tx, slow_hop)
    threads = <slow_lines_t *>tx.state
    for t in range(tx.proactor_count):
        total += threads[t].count
    all_lines = <slow_line_t *>net_alloc((total + 1) * sizeof(slow_line_t))
    total = 0
    for t in range(tx.proactor_count):
        memcpy(all_lines + total, threads[t].lines, threads[t].count * sizeof(slow_line_t))
        total += threads[t].count
        net_free(threads[t].lines)
    qsort(all_lines, total, sizeof(slow_line_t), newest_first)
    if tx.numbers[0] >= 0 and total > tx.numbers[0]:
        total = <uint32_t>tx.numbers[0]
    reply_array(&tx.reply, total)
    for t in range(total):
        reply_raw(&tx.reply, all_lines[t].source.data + all_lines[t].offset, all_lines[t].size)
    net_free(all_lines)
    return TRANSACTION_DONE


cdef void slow_count_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    atomic_add(<uint64_t *>&tx.numbers[0], (<executor_t *>(<net_thread_t *>proactor.context).context).slow_count)


cdef int slowlog_len(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_threads(tx, slow_count_hop)
    # Each thread keeps up to slowlog-max-len entries; together no more are shown.
    if tx.numbers[0] > tx.shards[0].settings.slowlog_max_len:
        tx.numbers[0] = tx.shards[0].settings.slowlog_max_len
    reply_int(&tx.reply, tx.numbers[0])
    return TRANSACTION_DONE


cdef void slow_reset_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    slowlog_clear(<executor_t *>(<net_thread_t *>proactor.context).context)


cdef int slowlog_reset(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_threads(tx, slow_reset_hop)
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef const char *SLOWLOG_HELP[12]
SLOWLOG_HELP[0] = "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
SLOWLOG_HELP[1] = "GET [<count>]"
SLOWLOG_HELP[2] = "    Return top <count> entries from the slowlog (default: 10, -1 mean all)."
SLOWLOG_HELP[3] = "    Entries are made of:"
SLOWLOG_HELP[4] = "    id, timestamp, time in microseconds, arguments array, client IP and port,"
SLOWLOG_HELP[5] = "    client name"
SLOWLOG_HELP[6] = "LEN"
SLOWLOG_HELP[7] = "    Return the length of the slowlog."
SLOWLOG_HELP[8] = "RESET"
SLOWLOG_HELP[9] = "    Reset the slowlog."
SLOWLOG_HELP[10] = "HELP"
SLOWLOG_HELP[11] = "    Prints this help."


cdef void slowlog_help(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 12)
    for i in range(12):
        reply_simple(call.reply, SLOWLOG_HELP[i])


# ---- MEMORY ----------------------------------------------------------------------------------

cdef void memory_usage(call_t *call) noexcept nogil:
    """What the key really takes: its entry and the blocks of key and value."""
    cdef dash_ref_t ref
    cdef int64_t samples = 0
    if call.argc != 3 and not (call.argc == 5 and slice_equals(call.argv[3], "samples")):
        reply_syntax_error(call.reply)
        return
    if call.argc == 5:
        if not parse_int64(call.argv[4].data, call.argv[4].size, &samples):
            reply_not_integer(call.reply)
            return
        if samples < 0:
            reply_syntax_error(call.reply)
            return
    if not find_peek(&call.scope, &call.key, &ref):
        reply_null(call.reply)
        return
    reply_int(call.reply, <int64_t>(sizeof(ref.entry[0]) + 2 + object_heap_bytes(&ref.entry.key)
                                    + object_heap_bytes(&ref.entry.value)))


cdef void purge_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    mem_return_to_system()


cdef int memory_purge(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.stage = 1
        return hop_on_threads(tx, purge_hop)
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    COMMON = COMMAND_LOADING | COMMAND_STALE
    ADMIN = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE

cdef command_spec_t[10] ROWS
cdef command_spec_t[4] SLOWLOG
cdef command_spec_t[6] MEMORY
cdef command_spec_t[5] CONFIG
cdef command_spec_t[7] COMMAND
cdef command_spec_t[7] LATENCY


cdef command_spec_t second_argument_key(const char *name, int arity, uint64_t flags,
                                        void (*handler)(call_t *) noexcept nogil):
    cdef command_spec_t row = key_row(name, arity, flags, 0, KEY_RO, handler)
    row.first_key = 2
    row.last_key = 2
    return row


def register():
    """Registers the family's rows."""
    cdef uint64_t dangerous = ACL_ADMIN | ACL_DANGEROUS
    SLOWLOG[0] = transaction_row("slowlog|get", -2, COMMAND_ADMIN | COMMON, 0, 0, 0, 0, 0, slowlog_get)
    SLOWLOG[1] = connection_row("slowlog|help", 2, COMMON, 0, slowlog_help)
    SLOWLOG[2] = transaction_row("slowlog|len", 2, COMMAND_ADMIN | COMMON, 0, 0, 0, 0, 0, slowlog_len)
    SLOWLOG[3] = transaction_row("slowlog|reset", 2, COMMAND_ADMIN | COMMON, 0, 0, 0, 0, 0, slowlog_reset)
    MEMORY[0] = control_row("memory|doctor", 2, 0, 0)
    MEMORY[1] = control_row("memory|help", 2, COMMON, 0)
    MEMORY[2] = control_row("memory|malloc-stats", 2, 0, 0)
    MEMORY[3] = transaction_row("memory|purge", 2, 0, 0, 0, 0, 0, 0, memory_purge)
    MEMORY[4] = control_row("memory|stats", 2, 0, 0)
    MEMORY[5] = second_argument_key("memory|usage", -3, COMMAND_READONLY, memory_usage)
    CONFIG[0] = control_row("config|get", -3, ADMIN, dangerous)
    CONFIG[1] = control_row("config|help", 2, COMMON, 0)
    CONFIG[2] = control_row("config|resetstat", 2, ADMIN, dangerous)
    CONFIG[3] = control_row("config|rewrite", 2, ADMIN, dangerous)
    CONFIG[4] = control_row("config|set", -4, ADMIN, dangerous)
    COMMAND[0] = control_row("command|count", 2, COMMON, ACL_CONNECTION)
    COMMAND[1] = control_row("command|docs", -2, COMMON, ACL_CONNECTION)
    COMMAND[2] = control_row("command|getkeys", -4, COMMON, ACL_CONNECTION)
    COMMAND[3] = control_row("command|getkeysandflags", -4, COMMON, ACL_CONNECTION)
    COMMAND[4] = control_row("command|help", 2, COMMON, ACL_CONNECTION)
    COMMAND[5] = control_row("command|info", -2, COMMON, ACL_CONNECTION)
    COMMAND[6] = control_row("command|list", -2, COMMON, ACL_CONNECTION)
    LATENCY[0] = control_row("latency|doctor", 2, ADMIN, dangerous)
    LATENCY[1] = control_row("latency|graph", 3, ADMIN, dangerous)
    LATENCY[2] = control_row("latency|help", 2, COMMON, 0)
    LATENCY[3] = control_row("latency|histogram", -2, ADMIN, dangerous)
    LATENCY[4] = control_row("latency|history", 3, ADMIN, dangerous)
    LATENCY[5] = control_row("latency|latest", 2, ADMIN, dangerous)
    LATENCY[6] = control_row("latency|reset", -2, ADMIN, dangerous)
    ROWS[0] = connection_row("time", 1, COMMON | COMMAND_FAST, 0, time_command)
    ROWS[1] = connection_row("monitor", 1, ADMIN, dangerous, monitor_command)
    ROWS[2] = container_row("slowlog", -2, 0, 0, SLOWLOG, 4)
    ROWS[3] = container_row("memory", -2, 0, 0, MEMORY, 6)
    ROWS[4] = container_row("config", -2, 0, 0, CONFIG, 5)
    ROWS[5] = control_row("command", -1, COMMON, ACL_CONNECTION)
    ROWS[5].subcommands = COMMAND
    ROWS[5].subcommand_count = 7
    ROWS[6] = control_row("info", -1, COMMON, ACL_DANGEROUS)
    ROWS[7] = control_row("shutdown", -1, ADMIN | COMMAND_NO_MULTI | COMMAND_ALLOW_BUSY, dangerous)
    ROWS[8] = control_row("lolwut", -1, COMMAND_READONLY | COMMAND_FAST, 0)
    ROWS[9] = container_row("latency", -2, 0, 0, LATENCY, 7)
    register_commands(ROWS, 10)
