"""CLIENT and its subcommands (redis.io/docs/latest/commands/client).

What concerns the own connection runs in place. LIST, KILL, UNBLOCK, PAUSE and UNPAUSE are hops over
all shard threads: each looks at its own connections only. LIST gathers the threads' lines and sorts
them by id, which is the order in which Redis shows them.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, strlen

from dfly._core.commands.tracking cimport (client_caching, client_getredir, client_tracking,
                                           client_trackinginfo, redirect_of)
from dfly._core.engine.command cimport (ACL_ADMIN, ACL_CONNECTION, ACL_DANGEROUS, COMMAND_ADMIN,
                                        COMMAND_LOADING, COMMAND_NOSCRIPT, COMMAND_STALE, TRANSACTION_DONE,
                                        call_t, command_spec_t, connection_row, container_row,
                                        reply_not_integer, reply_subcommand_syntax, reply_syntax_error,
                                        sanitize_error, slice_equals, transaction_row, transaction_t)
from dfly._core.engine.blocking cimport blocking_unblock
from dfly._core.engine.cron cimport release_paused_soon
from dfly._core.engine.multi cimport multi_t
from dfly._core.engine.pubsub cimport TOPIC_CHANNEL, TOPIC_PATTERN, TOPIC_SHARD_CHANNEL, pubsub_count
from dfly._core.engine.server_state cimport (PAUSE_ALL, PAUSE_OFF, PAUSE_WRITE, executor_of, executor_t,
                                             server_t)
from dfly._core.engine.tracking cimport client_tracking_t
from dfly._core.engine.tracking_table cimport TRACKING_BCAST, TRACKING_ON
from dfly._core.engine.transaction cimport hop_on_threads
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport (CONNECTION_CLOSE_AFTER_REPLY, CONNECTION_MONITOR, CONNECTION_MULTI,
                                        CONNECTION_NO_EVICT, CONNECTION_NO_TOUCH, CONNECTION_PUBSUB,
                                        CONNECTION_REPLY_OFF, CONNECTION_REPLY_SKIP,
                                        CONNECTION_REPLY_SKIP_NEXT, CONNECTION_UNIX_SOCKET,
                                        connection_close_after_reply, connection_kill, connection_memory,
                                        connection_t, net_thread_t)
from dfly._core.resp.reply cimport (reply_array, reply_bulk_text, reply_error, reply_int, reply_null, reply_ok,
                                    reply_raw, reply_simple, reply_t, reply_verbatim)
from dfly._core.store.object cimport parse_int64
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_store, slice_t
from dfly._core.sys.clock cimport wall_ms

__abi__ = DFLY_ABI_STAMP

cdef enum client_type_t:
    TYPE_ANY = 0
    TYPE_NORMAL = 1
    TYPE_PUBSUB = 2
    TYPE_NONE = 3                # master, replica: known words, no such clients yet
    LINE_MAX = 1024
    HELP_LINES = 64

cdef enum:
    # Places in transaction.numbers.
    UNBLOCK_COUNT = 0
    UNBLOCK_ID = 1
    UNBLOCK_WITH_ERROR = 2

cdef struct client_filter_t:
    # What LIST and KILL look for; lives in transaction.state. Slices point into the transaction's argv.
    uint64_t *ids
    uint32_t id_count
    int type
    slice_t address
    slice_t local_address
    slice_t user
    bint skip_me
    bint old_form                # CLIENT KILL addr: replies OK or an error
    uint64_t self_id
    int64_t max_age_s            # -1: not given


# ---- Names -----------------------------------------------------------------------------------

cdef bint is_printable_word(slice_t text) noexcept nogil:
    cdef size_t i
    for i in range(text.size):
        if text.data[i] < c'!' or text.data[i] > c'~':
            return False
    return True


cdef char *copy_text(slice_t text) noexcept nogil:
    cdef char *copy
    if text.size == 0:
        return NULL
    copy = <char *>net_alloc(text.size + 1)
    memcpy(copy, text.data, text.size)
    copy[text.size] = 0
    return copy


cdef bint set_client_name(call_t *call, slice_t name) noexcept nogil:
    if not is_printable_word(name):
        reply_error(call.reply, "ERR Client names cannot contain spaces, newlines or special characters.")
        return False
    net_free(call.connection.name)
    call.connection.name = copy_text(name)
    return True


cdef void client_setname(call_t *call) noexcept nogil:
    if set_client_name(call, call.argv[2]):
        reply_ok(call.reply)


cdef void client_getname(call_t *call) noexcept nogil:
    if call.connection.name == NULL:
        reply_null(call.reply)
    else:
        reply_bulk_text(call.reply, call.connection.name)


cdef void client_setinfo(call_t *call) noexcept nogil:
    cdef connection_t *connection = call.connection
    cdef char text[256]
    cdef slice_t option = call.argv[2]
    cdef bint is_name = slice_equals(option, "lib-name")
    if not is_name and not slice_equals(option, "lib-ver"):
        snprintf(text, sizeof(text), "ERR Unrecognized option '%.*s'",
                 <int>(option.size if option.size < 128 else 128), option.data)
        sanitize_error(text)
        reply_error(call.reply, text)
        return
    if not is_printable_word(call.argv[3]):
        snprintf(text, sizeof(text), "ERR %.*s cannot contain spaces, newlines or special characters.",
                 <int>option.size, option.data)
        reply_error(call.reply, text)
        return
    if is_name:
        net_free(connection.library_name)
        connection.library_name = copy_text(call.argv[3])
    else:
        net_free(connection.library_version)
        connection.library_version = copy_text(call.argv[3])
    reply_ok(call.reply)


cdef void client_id(call_t *call) noexcept nogil:
    reply_int(call.reply, <int64_t>call.connection.id)


# ---- INFO and LIST ---------------------------------------------------------------------------

cdef int format_flags(const connection_t *connection, char *out) noexcept nogil:
    cdef const client_tracking_t *tracking = <const client_tracking_t *>connection.tracking
    cdef int size = 0
    if connection.flags & CONNECTION_MONITOR:
        out[size] = c'O'
        size += 1
    if connection.flags & CONNECTION_PUBSUB:
        out[size] = c'P'
        size += 1
    if connection.flags & CONNECTION_MULTI:
        out[size] = c'x'
        size += 1
    if connection.is_blocked or connection.is_client_paused:
        out[size] = c'b'
        size += 1
    if tracking != NULL and tracking.tracker.mode & TRACKING_ON:
        out[size] = c't'
        size += 1
        if tracking.is_redirect_broken:
            out[size] = c'R'
            size += 1
        if tracking.tracker.mode & TRACKING_BCAST:
            out[size] = c'B'
            size += 1
    if connection.flags & CONNECTION_CLOSE_AFTER_REPLY:
        out[size] = c'c'
        size += 1
    if connection.flags & CONNECTION_UNIX_SOCKET:
        out[size] = c'U'
        size += 1
    if connection.flags & CONNECTION_NO_EVICT:
        out[size] = c'e'
        size += 1
    if connection.flags & CONNECTION_NO_TOUCH:
        out[size] = c'T'
        size += 1
    if size == 0:
        out[0] = c'N'
        size = 1
    out[size] = 0
    return size


cdef inline const char *text_or_empty(const char *text) noexcept nogil:
    if text == NULL:
        return ""
    return text


cdef int format_client(connection_t *connection, const char *command, char *line) noexcept nogil:
    """One line of CLIENT LIST, in Redis' fields and order; at most LINE_MAX - 1 bytes."""
    cdef char flags[16]
    cdef int64_t now_ms = connection.thread.proactor.now_ms
    cdef int size
    cdef size_t output = connection.queue.size + connection.output.size
    cdef const multi_t *queue = <const multi_t *>connection.multi
    cdef const char *events = "r"
    if connection.stream.is_sending:
        events = "rw"
    format_flags(connection, flags)
    size = snprintf(
        line, LINE_MAX,
        "id=%llu addr=%s laddr=%s fd=%d name=%.128s age=%lld idle=%lld flags=%s db=%u sub=%u psub=%u ssub=%u "
        "multi=%d qbuf=%llu qbuf-free=%llu argv-mem=%llu multi-mem=%llu rbs=%llu rbp=%llu obl=%llu oll=%d "
        "omem=%llu tot-mem=%llu events=%s cmd=%s user=default redir=%lld resp=%d lib-name=%.64s lib-ver=%.64s",
        <unsigned long long>connection.id, connection.peer_address, connection.local_address,
        connection.stream.fd, text_or_empty(connection.name),
        <long long>((now_ms - connection.created_ms) // 1000),
        <long long>((now_ms - connection.last_interaction_ms) // 1000), flags,
        <unsigned int>connection.database_index, <unsigned int>pubsub_count(connection, TOPIC_CHANNEL),
        <unsigned int>pubsub_count(connection, TOPIC_PATTERN),
        <unsigned int>pubsub_count(connection, TOPIC_SHARD_CHANNEL), <int>queue.count if queue != NULL else -1,
        <unsigned long long>connection.input_size,
        <unsigned long long>(connection.input_capacity - connection.input_size),
        <unsigned long long>(connection.parser.argv_capacity * sizeof(slice_t)),
        <unsigned long long>queue.bytes if queue != NULL else 0,
        <unsigned long long>connection.output.capacity, <unsigned long long>connection.output.capacity,
        <unsigned long long>0, <int>(1 if output > 0 else 0), <unsigned long long>output,
        <unsigned long long>connection_memory(connection),
        events, command, <long long>redirect_of(connection), connection.resp,
        text_or_empty(connection.library_name),
        text_or_empty(connection.library_version))
    return size if size < LINE_MAX else LINE_MAX - 1


cdef const char *last_command_name(const connection_t *connection) noexcept nogil:
    if connection.last_command == NULL:
        return "NULL"
    return (<command_spec_t *>connection.last_command).name


cdef void client_info(call_t *call) noexcept nogil:
    cdef char line[LINE_MAX + 1]
    cdef int size = format_client(call.connection, "client|info", line)
    line[size] = c'\n'
    reply_verbatim(call.reply, line, size + 1, "txt")


cdef int parse_type(slice_t word) noexcept nogil:
    if slice_equals(word, "normal"):
        return TYPE_NORMAL
    if slice_equals(word, "pubsub"):
        return TYPE_PUBSUB
    if slice_equals(word, "master") or slice_equals(word, "replica") or slice_equals(word, "slave"):
        return TYPE_NONE
    return -1


cdef void reply_unknown_type(reply_t *reply, slice_t word) noexcept nogil:
    cdef char text[256]
    snprintf(text, sizeof(text), "ERR Unknown client type '%.*s'",
             <int>(word.size if word.size < 128 else 128), word.data)
    sanitize_error(text)
    reply_error(reply, text)


cdef bint matches_type(const connection_t *connection, int type) noexcept nogil:
    if type == TYPE_ANY:
        return True
    if type == TYPE_PUBSUB:
        return connection.flags & CONNECTION_PUBSUB != 0
    return type == TYPE_NORMAL and connection.flags & CONNECTION_PUBSUB == 0


cdef bint matches(const connection_t *connection, const client_filter_t *filter) noexcept nogil:
    cdef uint32_t i
    cdef bint found = filter.id_count == 0
    for i in range(filter.id_count):
        found = found or filter.ids[i] == connection.id
    if not found or not matches_type(connection, filter.type):
        return False
    if filter.address.data != NULL and not equals_text(filter.address, connection.peer_address):
        return False
    if filter.local_address.data != NULL and not equals_text(filter.local_address, connection.local_address):
        return False
    if filter.max_age_s >= 0 and (connection.thread.proactor.now_ms - connection.created_ms) // 1000 < filter.max_age_s:
        return False
    return not (filter.skip_me and connection.id == filter.self_id)


cdef bint equals_text(slice_t slice, const char *text) noexcept nogil:
    return strlen(text) == slice.size and memcmp(slice.data, text, slice.size) == 0


cdef client_filter_t *new_filter(transaction_t *tx) noexcept nogil:
    # Room for as many ids as there are arguments, behind the struct: one block, freed with the transaction.
    cdef client_filter_t *filter = <client_filter_t *>net_zalloc(sizeof(client_filter_t) + tx.argc * sizeof(uint64_t))
    filter.ids = <uint64_t *>(filter + 1)
    filter.self_id = tx.connection.id
    filter.max_age_s = -1
    tx.state = filter
    return filter


cdef bint parse_list(transaction_t *tx, client_filter_t *filter) noexcept nogil:
    cdef int64_t id = 0
    cdef uint32_t i
    if tx.argc == 2:
        return True
    if tx.argc == 4 and slice_equals(tx.argv[2], "type"):
        filter.type = parse_type(tx.argv[3])
        if filter.type < 0:
            reply_unknown_type(&tx.reply, tx.argv[3])
            return False
        return True
    if tx.argc > 3 and slice_equals(tx.argv[2], "id"):
        for i in range(3, tx.argc):
            if not parse_int64(tx.argv[i].data, tx.argv[i].size, &id):
                reply_error(&tx.reply, "ERR Invalid client ID")
                return False
            filter.ids[filter.id_count] = <uint64_t>id
            filter.id_count += 1
        return True
    reply_syntax_error(&tx.reply)
    return False


cdef void list_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    cdef net_thread_t *net = <net_thread_t *>proactor.context
    cdef reply_t *out = &tx.shard_replies[proactor.index]
    cdef client_filter_t *filter = <client_filter_t *>tx.state
    cdef connection_t *connection = net.connections
    cdef char line[LINE_MAX + 1]
    cdef int size
    while connection != NULL:
        if not connection.is_closed and not connection.stream.is_closing and matches(connection, filter):
            size = format_client(connection, last_command_name(connection), line)
            line[size] = c'\n'
            reply_raw(out, line, size + 1)
        connection = connection.next


cdef struct line_t:
    uint64_t id
    const char *text
    size_t size


cdef int compare_lines(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<const line_t *>a).id
    cdef uint64_t y = (<const line_t *>b).id
    return (1 if x > y else 0) - (1 if x < y else 0)


cdef uint32_t cut_lines(transaction_t *tx, line_t *out) noexcept nogil:
    """Counts the threads' lines; with out, also fills it in."""
    cdef uint32_t count = 0
    cdef uint32_t t
    cdef size_t at
    cdef size_t start
    cdef uint64_t id
    for t in range(tx.proactor_count):
        at = 0
        while at < tx.shard_replies[t].size:
            start = at
            id = 0
            at += 3
            while tx.shard_replies[t].data[at] != c' ':
                id = id * 10 + <uint64_t>(tx.shard_replies[t].data[at] - c'0')
                at += 1
            while tx.shard_replies[t].data[at] != c'\n':
                at += 1
            at += 1
            if out != NULL:
                out[count].id = id
                out[count].text = tx.shard_replies[t].data + start
                out[count].size = at - start
            count += 1
    return count


cdef void order_as_asked(line_t *lines, uint32_t count, const client_filter_t *filter) noexcept nogil:
    """CLIENT LIST ID shows clients in the order of the ids."""
    cdef uint32_t placed = 0
    cdef uint32_t i
    cdef uint32_t k
    cdef line_t swapped
    for i in range(filter.id_count):
        for k in range(placed, count):
            if lines[k].id == filter.ids[i]:
                swapped = lines[placed]
                lines[placed] = lines[k]
                lines[k] = swapped
                placed += 1
                break


cdef int client_list(transaction_t *tx) noexcept nogil:
    cdef line_t *lines
    cdef uint32_t count
    cdef uint32_t i
    cdef size_t total = 0
    cdef char *text
    cdef char *p
    if tx.stage == 0:
        if not parse_list(tx, new_filter(tx)):
            return TRANSACTION_DONE
        tx.stage = 1
        return hop_on_threads(tx, list_hop)
    count = cut_lines(tx, NULL)
    lines = <line_t *>net_alloc((count + 1) * sizeof(line_t))
    cut_lines(tx, lines)
    qsort(lines, count, sizeof(line_t), compare_lines)
    order_as_asked(lines, count, <client_filter_t *>tx.state)
    for i in range(count):
        total += lines[i].size
    text = <char *>net_alloc(total + 1)
    p = text
    for i in range(count):
        memcpy(p, lines[i].text, lines[i].size)
        p += lines[i].size
    reply_verbatim(&tx.reply, text, total, "txt")
    net_free(text)
    net_free(lines)
    return TRANSACTION_DONE


# ---- KILL and UNBLOCK --------------------------------------------------------------------------

cdef bint parse_kill_option(transaction_t *tx, client_filter_t *filter, slice_t name, slice_t value) noexcept nogil:
    cdef int64_t number = 0
    cdef char text[256]
    if slice_equals(name, "id"):
        if not parse_int64(value.data, value.size, &number) or number < 1:
            reply_error(&tx.reply, "ERR client-id should be greater than 0")
            return False
        filter.ids[0] = <uint64_t>number
        filter.id_count = 1
    elif slice_equals(name, "type"):
        filter.type = parse_type(value)
        if filter.type < 0:
            reply_unknown_type(&tx.reply, value)
            return False
    elif slice_equals(name, "addr"):
        filter.address = value
    elif slice_equals(name, "laddr"):
        filter.local_address = value
    elif slice_equals(name, "user"):
        if not slice_equals(value, "default"):
            snprintf(text, sizeof(text), "ERR No such user '%.*s'",
                     <int>(value.size if value.size < 128 else 128), value.data)
            sanitize_error(text)
            reply_error(&tx.reply, text)
            return False
    elif slice_equals(name, "skipme") and (slice_equals(value, "yes") or slice_equals(value, "no")):
        filter.skip_me = slice_equals(value, "yes")
    elif slice_equals(name, "maxage") and parse_int64(value.data, value.size, &number) and number > 0:
        filter.max_age_s = number
    else:
        reply_syntax_error(&tx.reply)
        return False
    return True


cdef bint parse_kill(transaction_t *tx, client_filter_t *filter) noexcept nogil:
    cdef uint32_t i = 2
    filter.skip_me = True
    if tx.argc == 3:
        filter.address = tx.argv[2]
        filter.old_form = True
        filter.skip_me = False
        return True
    if tx.argc % 2 != 0:
        reply_syntax_error(&tx.reply)
        return False
    while i < tx.argc:
        if not parse_kill_option(tx, filter, tx.argv[i], tx.argv[i + 1]):
            return False
        i += 2
    return True


cdef void kill_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    cdef net_thread_t *net = <net_thread_t *>proactor.context
    cdef client_filter_t *filter = <client_filter_t *>tx.state
    cdef connection_t *connection = net.connections
    while connection != NULL:
        if not connection.is_closed and not connection.stream.is_closing and matches(connection, filter):
            atomic_add(<uint64_t *>&tx.numbers[0], 1)
            if connection == tx.connection:
                # The caller still gets its answer.
                connection_close_after_reply(connection)
            else:
                connection_kill(connection)
        connection = connection.next


cdef int client_kill(transaction_t *tx) noexcept nogil:
    cdef client_filter_t *filter
    if tx.stage == 0:
        if not parse_kill(tx, new_filter(tx)):
            return TRANSACTION_DONE
        tx.stage = 1
        return hop_on_threads(tx, kill_hop)
    filter = <client_filter_t *>tx.state
    if not filter.old_form:
        reply_int(&tx.reply, tx.numbers[0])
    elif tx.numbers[0] > 0:
        reply_ok(&tx.reply)
    else:
        reply_error(&tx.reply, "ERR No such client")
    return TRANSACTION_DONE


cdef void unblock_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    cdef connection_t *connection = (<net_thread_t *>proactor.context).connections
    while connection != NULL:
        if connection.id == <uint64_t>tx.numbers[UNBLOCK_ID] and not connection.is_closed:
            if blocking_unblock(connection, tx.numbers[UNBLOCK_WITH_ERROR] != 0):
                atomic_add(<uint64_t *>&tx.numbers[UNBLOCK_COUNT], 1)
            return
        connection = connection.next


cdef int client_unblock(transaction_t *tx) noexcept nogil:
    if tx.stage == 1:
        reply_int(&tx.reply, tx.numbers[UNBLOCK_COUNT])
        return TRANSACTION_DONE
    tx.stage = 1
    if tx.argc > 4:
        reply_subcommand_syntax(&tx.reply, tx.argv[1], "CLIENT")
        return TRANSACTION_DONE
    if tx.argc == 4 and not slice_equals(tx.argv[3], "timeout"):
        if not slice_equals(tx.argv[3], "error"):
            reply_error(&tx.reply, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
            return TRANSACTION_DONE
        tx.numbers[UNBLOCK_WITH_ERROR] = 1
    if not parse_int64(tx.argv[2].data, tx.argv[2].size, &tx.numbers[UNBLOCK_ID]):
        reply_not_integer(&tx.reply)
        return TRANSACTION_DONE
    return hop_on_threads(tx, unblock_hop)


# ---- Switches of the own connection --------------------------------------------------------------

cdef void set_flag(call_t *call, uint32_t flag) noexcept nogil:
    if slice_equals(call.argv[2], "on"):
        call.connection.flags |= flag
        reply_ok(call.reply)
    elif slice_equals(call.argv[2], "off"):
        call.connection.flags &= ~flag
        reply_ok(call.reply)
    else:
        reply_syntax_error(call.reply)


cdef void client_no_evict(call_t *call) noexcept nogil:
    set_flag(call, CONNECTION_NO_EVICT)


cdef void client_no_touch(call_t *call) noexcept nogil:
    set_flag(call, CONNECTION_NO_TOUCH)


cdef void client_reply(call_t *call) noexcept nogil:
    cdef connection_t *connection = call.connection
    if slice_equals(call.argv[2], "on"):
        connection.flags &= ~<uint32_t>(CONNECTION_REPLY_OFF | CONNECTION_REPLY_SKIP | CONNECTION_REPLY_SKIP_NEXT)
        reply_ok(call.reply)
    elif slice_equals(call.argv[2], "off"):
        connection.flags |= CONNECTION_REPLY_OFF
    elif slice_equals(call.argv[2], "skip"):
        if not connection.flags & CONNECTION_REPLY_OFF:
            connection.flags |= CONNECTION_REPLY_SKIP_NEXT
    else:
        reply_syntax_error(call.reply)


# ---- PAUSE -------------------------------------------------------------------------------------

cdef void client_pause(call_t *call) noexcept nogil:
    cdef server_t *server = executor_of(call.connection).server
    cdef int64_t timeout = 0
    cdef uint64_t mode = PAUSE_ALL
    cdef int64_t until
    if call.argc > 4:
        reply_subcommand_syntax(call.reply, call.argv[1], "CLIENT")
        return
    if call.argc == 4:
        if slice_equals(call.argv[3], "write"):
            mode = PAUSE_WRITE
        elif not slice_equals(call.argv[3], "all"):
            reply_error(call.reply, "ERR CLIENT PAUSE mode must be WRITE or ALL")
            return
    if not parse_int64(call.argv[2].data, call.argv[2].size, &timeout):
        reply_error(call.reply, "ERR timeout is not an integer or out of range")
        return
    if timeout < 0:
        reply_error(call.reply, "ERR timeout is negative")
        return
    if timeout > 9223372036854775807LL - wall_ms():
        reply_error(call.reply, "ERR timeout is out of range")
        return
    until = wall_ms() + timeout
    # A pause is only ever made longer and stricter while it lasts, as in Redis.
    if <int64_t>server.pause_until_ms > wall_ms():
        if mode < server.pause_mode:
            mode = server.pause_mode
        if <int64_t>server.pause_until_ms > until:
            until = <int64_t>server.pause_until_ms
    atomic_store(&server.pause_until_ms, <uint64_t>until)
    atomic_store(&server.pause_mode, mode)
    reply_ok(call.reply)


cdef void unpause_hop(transaction_t *tx, proactor_t *proactor) noexcept nogil:
    release_paused_soon(<executor_t *>(<net_thread_t *>proactor.context).context)


cdef int client_unpause(transaction_t *tx) noexcept nogil:
    cdef server_t *server = executor_of(tx.connection).server
    if tx.stage == 0:
        tx.stage = 1
        atomic_store(&server.pause_mode, PAUSE_OFF)
        atomic_store(&server.pause_until_ms, 0)
        return hop_on_threads(tx, unpause_hop)
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


# ---- HELP and the rows ---------------------------------------------------------------------------

cdef const char *HELP[HELP_LINES]
cdef uint32_t help_count = 0
cdef list help_texts = [text.encode() for text in """\
CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CACHING (YES|NO)
    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.
GETREDIR
    Return the client ID we are redirecting to when tracking is enabled.
GETNAME
    Return the name of the current connection.
ID
    Return the ID of the current connection.
INFO
    Return information about the current client connection.
KILL <ip:port>
    Kill connection made from <ip:port>.
KILL <option> <value> [<option> <value> [...]]
    Kill connections. Options are:
    * ADDR (<ip:port>|<unixsocket>:0)
      Kill connections made from the specified address
    * LADDR (<ip:port>|<unixsocket>:0)
      Kill connections made to specified local address
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
      Kill connections by type.
    * USER <username>
      Kill connections authenticated by <username>.
    * SKIPME (YES|NO)
      Skip killing current connection (default: yes).
LIST [options ...]
    Return information about client connections. Options:
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
      Return clients of specified type.
UNPAUSE
    Stop the current client pause, resuming traffic.
PAUSE <timeout> [WRITE|ALL]
    Suspend all, or just write, clients for <timeout> milliseconds.
REPLY (ON|OFF|SKIP)
    Control the replies sent to the current connection.
SETNAME <name>
    Assign the name <name> to the current connection.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    Unblock the specified blocked client.
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]
         [OPTIN] [OPTOUT] [NOLOOP]
    Control server assisted client side caching.
TRACKINGINFO
    Report tracking status for the current connection.
NO-EVICT (ON|OFF)
    Protect current client connection from eviction.
HELP
    Prints this help.""".split("\n")]


cdef void client_help(call_t *call) noexcept nogil:
    cdef uint32_t i
    reply_array(call.reply, help_count)
    for i in range(help_count):
        reply_simple(call.reply, HELP[i])


cdef enum:
    SUBCOMMANDS = 20
    COMMON = COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE

cdef command_spec_t[SUBCOMMANDS] ROWS


cdef command_spec_t client_row():
    global help_count
    cdef uint64_t admin = COMMON | COMMAND_ADMIN
    cdef uint64_t dangerous = ACL_CONNECTION | ACL_ADMIN | ACL_DANGEROUS
    for i, text in enumerate(help_texts):
        HELP[i] = text
    help_count = len(help_texts)
    ROWS[0] = connection_row("client|caching", 3, COMMON, ACL_CONNECTION, client_caching)
    ROWS[1] = connection_row("client|getname", 2, COMMON, ACL_CONNECTION, client_getname)
    ROWS[2] = connection_row("client|getredir", 2, COMMON, ACL_CONNECTION, client_getredir)
    ROWS[3] = connection_row("client|help", 2, COMMAND_LOADING | COMMAND_STALE, ACL_CONNECTION, client_help)
    ROWS[4] = connection_row("client|id", 2, COMMON, ACL_CONNECTION, client_id)
    ROWS[5] = connection_row("client|info", 2, COMMON, ACL_CONNECTION, client_info)
    ROWS[6] = transaction_row("client|kill", -3, admin, dangerous, 0, 0, 0, 0, client_kill)
    ROWS[7] = transaction_row("client|list", -2, admin, dangerous, 0, 0, 0, 0, client_list)
    ROWS[8] = connection_row("client|no-evict", 3, admin, dangerous, client_no_evict)
    ROWS[9] = connection_row("client|no-touch", 3, COMMON, ACL_CONNECTION, client_no_touch)
    ROWS[10] = connection_row("client|pause", -3, admin, dangerous, client_pause)
    ROWS[11] = connection_row("client|reply", 3, COMMON, ACL_CONNECTION, client_reply)
    ROWS[12] = connection_row("client|setinfo", 4, COMMON, ACL_CONNECTION, client_setinfo)
    ROWS[13] = connection_row("client|setname", 3, COMMON, ACL_CONNECTION, client_setname)
    ROWS[14] = transaction_row("client|tracking", -3, COMMON, ACL_CONNECTION, 0, 0, 0, 0, client_tracking)
    ROWS[15] = connection_row("client|trackinginfo", 2, COMMON, ACL_CONNECTION, client_trackinginfo)
    ROWS[16] = transaction_row("client|unblock", -3, admin, dangerous, 0, 0, 0, 0, client_unblock)
    ROWS[17] = transaction_row("client|unpause", 2, admin, dangerous, 0, 0, 0, 0, client_unpause)
    return container_row("client", -2, 0, 0, ROWS, 18)
