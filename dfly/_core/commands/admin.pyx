"""Server administration: TIME MONITOR SLOWLOG MEMORY DEBUG, and the rows of what Python answers.

Commands that look at every thread are hops over the threads. DEBUG has what test suites use (POPULATE,
OBJECT, SLEEP, SET-ACTIVE-EXPIRE, ERROR, STRINGMATCH-LEN); its other subcommands answer with an error.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport qsort, strtod
from libc.string cimport memcpy, memset

from dfly._core.engine.access cimport access_idle_seconds
from dfly._core.engine.command cimport (ACL_ADMIN, ACL_CONNECTION, ACL_DANGEROUS, COMMAND_ADMIN,
                                        COMMAND_ALLOW_BUSY, COMMAND_FAST, COMMAND_LOADING, COMMAND_NO_MULTI,
                                        COMMAND_NOSCRIPT, COMMAND_READONLY, COMMAND_STALE, KEY_RO,
                                        TRANSACTION_DONE, TRANSACTION_YIELD, call_t, command_spec_t,
                                        connection_row, container_row, control_row, key_row,
                                        register_commands, reply_not_integer, reply_syntax_error,
                                        slice_equals, transaction_row, transaction_t)
from dfly._core.engine.database cimport NOTIFY_GENERIC, find_peek, insert_key, update_end
from dfly._core.engine.server_state cimport executor_of, executor_t, slow_entry_t, slowlog_clear
from dfly._core.engine.shard cimport scope_t, shard_of, shard_t
from dfly._core.engine.transaction cimport hop_on_all_shards, hop_on_threads, transaction_scope
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport CONNECTION_MONITOR, net_thread_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_int, reply_bulk_text, reply_error,
                                    reply_error_slice, reply_int, reply_null, reply_ok, reply_raw,
                                    reply_simple, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.glob cimport glob_match
from dfly._core.store.object cimport (key_init, key_t, object_encoding_name, object_heap_bytes,
                                      object_set_string, object_size, parse_int64)
from dfly._core.sys.alloc cimport mem_return_to_system, net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, slice_t
from dfly._core.sys.clock cimport wall_us

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int microseconds) noexcept


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
            reply_syntax_error(&tx.reply)
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


# ---- DEBUG -----------------------------------------------------------------------------------

cdef void debug_sleep(call_t *call) noexcept nogil:
    """Blocks this shard thread, as it blocks all of Redis."""
    cdef char text[64]
    cdef size_t size = call.argv[2].size if call.argv[2].size < 63 else 63
    cdef double seconds
    memcpy(text, call.argv[2].data, size)
    text[size] = 0
    seconds = strtod(text, NULL)
    if seconds > 0:
        usleep(<unsigned int>(seconds * 1e6))
    reply_ok(call.reply)


cdef void debug_object(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef char text[256]
    cdef int64_t idle
    if not find_peek(&call.scope, &call.key, &ref):
        reply_error(call.reply, "ERR no such key")
        return
    idle = access_idle_seconds(&call.scope, &ref)
    snprintf(text, sizeof(text), "Value at:%p refcount:1 encoding:%s serializedlength:%llu lru:%lld lru_seconds_idle:%lld",
             <void *>&ref.entry.value, object_encoding_name(&ref.entry.value),
             <unsigned long long>object_size(&ref.entry.value),
             <long long>((call.scope.now_ms // 1000 - idle) & 0xFFFFFF), <long long>idle)
    reply_simple(call.reply, text)


cdef void debug_set_active_expire(call_t *call) noexcept nogil:
    executor_of(call.connection).server.settings.active_expire_enabled = slice_equals(call.argv[2], "1")
    reply_ok(call.reply)


cdef void debug_error(call_t *call) noexcept nogil:
    cdef char *text = <char *>net_alloc(call.argv[2].size + 1)
    cdef size_t i
    for i in range(call.argv[2].size):
        text[i] = call.argv[2].data[i]
        if text[i] == c'\r' or text[i] == c'\n':
            text[i] = c' '
    reply_error_slice(call.reply, text, call.argv[2].size)
    net_free(text)


cdef void debug_accepted(call_t *call) noexcept nogil:
    """Switches of Redis' own internals that test suites set: nothing here depends on them."""
    reply_ok(call.reply)


cdef void debug_stringmatch(call_t *call) noexcept nogil:
    """DEBUG STRINGMATCH-LEN count pattern: matches against a text of so many a's (Redis' own test)."""
    cdef int64_t count = 0
    cdef char *text
    if not parse_int64(call.argv[2].data, call.argv[2].size, &count) or count < 0 or count > 1048576:
        reply_not_integer(call.reply)
        return
    text = <char *>net_alloc(<size_t>count + 1)
    memset(text, c'a', <size_t>count)
    reply_int(call.reply, glob_match(call.argv[3].data, call.argv[3].size, text, <size_t>count, False))
    net_free(text)


# POPULATE. numbers[0]: the next number; numbers[1]: the count; numbers[2]: the size, -1 none.
cdef enum:
    POPULATE_SLICE = 4096
    PREFIX_MAX = 512


cdef void populate_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef key_t key
    cdef char name[PREFIX_MAX + 32]
    cdef char *value = <char *>tx.state
    cdef int64_t end = tx.numbers[0] + POPULATE_SLICE
    cdef int64_t i = tx.numbers[0]
    cdef int size
    cdef slice_t prefix
    prefix.data = "key"
    prefix.size = 3
    if tx.argc > 3:
        prefix = tx.argv[3]
    transaction_scope(tx, shard, &scope)
    while i < end and i < tx.numbers[1]:
        size = snprintf(name, sizeof(name), "%.*s:%lld", <int>prefix.size, prefix.data, <long long>i)
        key_init(&key, name, size)
        if shard_of(key.hash, tx.shard_count) == shard.index and not find_peek(&scope, &key, &ref):
            insert_key(&scope, &key, &ref)
            populate_value(&ref, i, tx.numbers[2])
            update_end(&scope, &key, NOTIFY_GENERIC, NULL)
        i += 1


cdef void populate_value(dash_ref_t *ref, int64_t number, int64_t wanted) noexcept nogil:
    """"value:<n>", cut or padded with zero bytes to the wanted size as Redis does."""
    cdef char text[64]
    cdef char *padded
    cdef size_t size = <size_t>snprintf(text, sizeof(text), "value:%lld", <long long>number)
    if wanted < 0:
        object_set_string(&ref.entry.value, text, size)
        return
    padded = <char *>net_zalloc(<size_t>wanted + 1)
    memcpy(padded, text, size if size < <size_t>wanted else <size_t>wanted)
    object_set_string(&ref.entry.value, padded, <size_t>wanted)
    net_free(padded)


cdef int debug_populate(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.numbers[2] = -1
        if not parse_int64(tx.argv[2].data, tx.argv[2].size, &tx.numbers[1]) or tx.numbers[1] < 0:
            reply_error(&tx.reply, "ERR value is out of range, must be positive")
            return TRANSACTION_DONE
        if tx.argc > 5 or (tx.argc > 3 and tx.argv[3].size > PREFIX_MAX):
            reply_syntax_error(&tx.reply)
            return TRANSACTION_DONE
        if tx.argc == 5 and (not parse_int64(tx.argv[4].data, tx.argv[4].size, &tx.numbers[2])
                             or tx.numbers[2] < 0 or tx.numbers[2] > 536870912):
            reply_error(&tx.reply, "ERR value is out of range, must be positive")
            return TRANSACTION_DONE
        tx.stage = 1
    elif tx.stage == 1:
        tx.numbers[0] += POPULATE_SLICE
        tx.stage = 2
        return TRANSACTION_YIELD
    if tx.numbers[0] >= tx.numbers[1]:
        reply_ok(&tx.reply)
        return TRANSACTION_DONE
    tx.stage = 1
    return hop_on_all_shards(tx, populate_hop)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    COMMON = COMMAND_LOADING | COMMAND_STALE
    ADMIN = COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE

cdef command_spec_t[11] ROWS
cdef command_spec_t[4] SLOWLOG
cdef command_spec_t[6] MEMORY
cdef command_spec_t[11] DEBUG
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
    DEBUG[0] = transaction_row("debug|populate", -3, ADMIN, dangerous, 0, 0, 0, 0, debug_populate)
    DEBUG[1] = second_argument_key("debug|object", 3, ADMIN, debug_object)
    DEBUG[2] = connection_row("debug|sleep", 3, ADMIN, dangerous, debug_sleep)
    DEBUG[3] = connection_row("debug|set-active-expire", 3, ADMIN, dangerous, debug_set_active_expire)
    DEBUG[4] = connection_row("debug|error", 3, ADMIN, dangerous, debug_error)
    DEBUG[5] = connection_row("debug|stringmatch-len", 4, ADMIN, dangerous, debug_stringmatch)
    DEBUG[6] = connection_row("debug|quicklist-packed-threshold", 3, ADMIN, dangerous, debug_accepted)
    DEBUG[7] = connection_row("debug|set-disable-deny-scripts", 3, ADMIN, dangerous, debug_accepted)
    DEBUG[8] = connection_row("debug|replybuffer", -3, ADMIN, dangerous, debug_accepted)
    DEBUG[9] = connection_row("debug|dict-resizing", 3, ADMIN, dangerous, debug_accepted)
    DEBUG[10] = connection_row("debug|jmap", 2, ADMIN, dangerous, debug_accepted)
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
    ROWS[4] = container_row("debug", -2, ADMIN, dangerous, DEBUG, 11)
    ROWS[5] = container_row("config", -2, 0, 0, CONFIG, 5)
    ROWS[6] = control_row("command", -1, COMMON, ACL_CONNECTION)
    ROWS[6].subcommands = COMMAND
    ROWS[6].subcommand_count = 7
    ROWS[7] = control_row("info", -1, COMMON, ACL_DANGEROUS)
    ROWS[8] = control_row("shutdown", -1, ADMIN | COMMAND_NO_MULTI | COMMAND_ALLOW_BUSY, dangerous)
    ROWS[9] = control_row("lolwut", -1, COMMAND_READONLY | COMMAND_FAST, 0)
    ROWS[10] = container_row("latency", -2, 0, 0, LATENCY, 7)
    register_commands(ROWS, 11)
