"""DEBUG: what test suites and their authors ask of a server.

One command with one row, as in Redis: debug_command looks at the subcommand and its number of words and
hands over to that subcommand's own step. DEBUG LOG and CHANGE-REPL-ID are answered by Python.

DIGEST is Redis' digest (the SHA-1 of every entry, combined by exclusive or, so that neither order nor the
number of shards matters): equal data have equal digests here and there. It holds all shards for the walk.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod, strtol
from libc.string cimport memcpy, memset

from dfly._core.commands.populate cimport debug_populate
from dfly._core.commands.value_digest cimport digest_mix, digest_number, digest_value, digest_xor
from dfly._core.engine.access cimport access_idle_seconds
from dfly._core.engine.command cimport (ACL_ADMIN, ACL_DANGEROUS, COMMAND_ADMIN, COMMAND_LOADING,
                                        COMMAND_NOSCRIPT, COMMAND_STALE, TRANSACTION_DONE, TRANSACTION_WAIT,
                                        command_spec_t, register_commands,
                                        reply_not_integer, reply_subcommand_syntax, slice_equals, transaction_row,
                                        transaction_step_t, transaction_t)
from dfly._core.engine.database cimport find_peek
from dfly._core.engine.server_state cimport control_submit, executor_of
from dfly._core.engine.shard cimport scope_t, shard_of, shard_t
from dfly._core.engine.transaction cimport (hop_on_all_shards, hop_on_shard, transaction_lock_all,
                                            transaction_scope)
from dfly._core.resp.reply cimport (reply_array, reply_big_number, reply_bool, reply_bulk_text, reply_error,
                                    reply_header, reply_int, reply_map, reply_null,
                                    reply_ok, reply_push, reply_raw, reply_set, reply_simple, reply_t,
                                    reply_verbatim)
from dfly._core.store.block_list cimport block_list_t, list_count
from dfly._core.store.list_whole cimport list_block_count, list_data_bytes
from dfly._core.store.dash cimport dash_ref_t, dash_t
from dfly._core.store.dash_scan cimport dash_scan
from dfly._core.store.glob cimport glob_match
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_LIST, key_init, key_t, object_encoding_name,
                                      object_is_container, object_pointer, object_size,
                                      object_t, object_view, parse_int64)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.sha1 cimport SHA1_SIZE

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    int usleep(unsigned int microseconds) noexcept

cdef struct subcommand_t:
    const char *name             # lower case
    uint32_t least               # words, DEBUG and the subcommand included
    uint32_t most
    transaction_step_t step

cdef enum:
    ANY_NUMBER = 0xFFFFFFFF
    NUMBER_TEXT = 64             # bytes of a number argument that are looked at


cdef void number_text(slice_t argument, char *out) noexcept nogil:
    """A NUL-terminated copy for strtod and strtol: NUMBER_TEXT bytes."""
    cdef size_t size = argument.size if argument.size < NUMBER_TEXT - 1 else NUMBER_TEXT - 1
    memcpy(out, argument.data, size)
    out[size] = 0


# ---- Small ones ------------------------------------------------------------------------------

cdef int debug_sleep(transaction_t *tx) noexcept nogil:
    """Blocks this shard thread, as it blocks all of Redis."""
    cdef char text[NUMBER_TEXT]
    cdef double seconds
    number_text(tx.argv[2], text)
    seconds = strtod(text, NULL)
    if seconds > 0:
        usleep(<unsigned int>(seconds * 1e6))
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int debug_set_active_expire(transaction_t *tx) noexcept nogil:
    cdef char text[NUMBER_TEXT]
    number_text(tx.argv[2], text)
    executor_of(tx.connection).server.settings.active_expire_enabled = strtol(text, NULL, 10) != 0
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int debug_error(transaction_t *tx) noexcept nogil:
    """The text as an error reply. No error happened, so none is counted; Redis does the same."""
    cdef char *text = <char *>net_alloc(tx.argv[2].size + 1)
    cdef size_t i
    memcpy(text, tx.argv[2].data, tx.argv[2].size)
    for i in range(tx.argv[2].size):
        if text[i] == c'\r' or text[i] == c'\n':
            text[i] = c' '
    reply_raw(&tx.reply, "-", 1)
    reply_raw(&tx.reply, text, tx.argv[2].size)
    reply_raw(&tx.reply, "\r\n", 2)
    net_free(text)
    return TRANSACTION_DONE


cdef int debug_accepted(transaction_t *tx) noexcept nogil:
    """Switches of Redis' own internals that test suites set: nothing here depends on them."""
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int debug_replybuffer(transaction_t *tx) noexcept nogil:
    if slice_equals(tx.argv[2], "peak-reset-time") or slice_equals(tx.argv[2], "resizing"):
        return debug_accepted(tx)
    reply_subcommand_syntax(&tx.reply, tx.argv[1], "DEBUG")
    return TRANSACTION_DONE


cdef int debug_stringmatch(transaction_t *tx) noexcept nogil:
    """DEBUG STRINGMATCH-LEN count pattern: matches against a text of so many a's (Redis 7.2's own test)."""
    cdef int64_t count = 0
    cdef char *text
    if not parse_int64(tx.argv[2].data, tx.argv[2].size, &count) or count < 0 or count > 1048576:
        reply_not_integer(&tx.reply)
        return TRANSACTION_DONE
    text = <char *>net_alloc(<size_t>count + 1)
    memset(text, c'a', <size_t>count)
    reply_int(&tx.reply, glob_match(tx.argv[3].data, tx.argv[3].size, text, <size_t>count, False))
    net_free(text)
    return TRANSACTION_DONE


cdef int debug_by_python(transaction_t *tx) noexcept nogil:
    """Hands the transaction to the control plane, which completes it."""
    control_submit(executor_of(tx.connection).server, tx)
    return TRANSACTION_WAIT


cdef int debug_reload(transaction_t *tx) noexcept nogil:
    """Save, flush, load (dfly/loader.py). Inside EXEC it would wait for tokens that the transaction holds."""
    if tx.is_inside:
        reply_error(&tx.reply, "ERR DEBUG RELOAD cannot be part of a transaction")
        return TRANSACTION_DONE
    return debug_by_python(tx)


cdef int debug_loadaof(transaction_t *tx) noexcept nogil:
    reply_error(&tx.reply, "ERR there is no append-only file: DEBUG RELOAD loads the snapshot")
    return TRANSACTION_DONE


# ---- OBJECT ----------------------------------------------------------------------------------

cdef void list_details(scope_t *scope, const object_t *value, char *out, size_t size) noexcept nogil:
    """What Redis adds for a list; its nodes are our blocks, none of them compressed."""
    cdef block_list_t elements = object_pointer(value)
    cdef uint64_t blocks = list_block_count(elements)
    snprintf(out, size, " ql_nodes:%llu ql_avg_node:%.2f ql_listpack_max:%d ql_compressed:0 "
             "ql_uncompressed_size:%llu",
             <unsigned long long>blocks, <double>list_count(elements) / <double>blocks,
             <int>scope.shard.settings.list_max_listpack_size,
             <unsigned long long>list_data_bytes(elements))


cdef void object_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    # The origin waits for this one hop: nobody else writes the reply.
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef key_t key
    cdef char text[256]
    cdef int64_t idle
    cdef size_t size
    transaction_scope(tx, shard, &scope)
    key_init(&key, tx.argv[2].data, tx.argv[2].size)
    if not find_peek(&scope, &key, &ref):
        reply_error(&tx.reply, "ERR no such key")
        return
    idle = access_idle_seconds(&scope, &ref)
    size = <size_t>snprintf(
        text, sizeof(text),
        "Value at:%p refcount:1 encoding:%s serializedlength:%llu lru:%lld lru_seconds_idle:%lld",
        <void *>&ref.entry.value, object_encoding_name(&ref.entry.value),
        <unsigned long long>object_size(&ref.entry.value),
        <long long>((scope.now_ms // 1000 - idle) & 0xFFFFFF), <long long>idle)
    if object_is_container(&ref.entry.value, TYPE_LIST):
        list_details(&scope, &ref.entry.value, text + size, sizeof(text) - size)
    reply_simple(&tx.reply, text)


cdef int debug_object(transaction_t *tx) noexcept nogil:
    cdef key_t key
    if tx.stage == 1:
        return TRANSACTION_DONE
    tx.stage = 1
    key_init(&key, tx.argv[2].data, tx.argv[2].size)
    return hop_on_shard(tx, shard_of(key.hash, tx.shard_count), object_hop)


# ---- PROTOCOL --------------------------------------------------------------------------------

cdef int debug_protocol(transaction_t *tx) noexcept nogil:
    """A value of the wanted type, for the authors of clients."""
    cdef reply_t *reply = &tx.reply
    cdef slice_t wanted = tx.argv[2]
    cdef int i
    if slice_equals(wanted, "string"):
        reply_bulk_text(reply, "Hello World")
    elif slice_equals(wanted, "integer"):
        reply_int(reply, 12345)
    elif slice_equals(wanted, "double"):
        # Three digits, as Redis has it; reply_double would write all that the double holds.
        if reply.resp == 3:
            reply_raw(reply, ",3.141\r\n", 8)
        else:
            reply_bulk_text(reply, "3.141")
    elif slice_equals(wanted, "null"):
        reply_null(reply)
    elif slice_equals(wanted, "array") or slice_equals(wanted, "set"):
        if slice_equals(wanted, "array"):
            reply_array(reply, 3)
        else:
            reply_set(reply, 3)
        for i in range(3):
            reply_int(reply, i)
    elif slice_equals(wanted, "map"):
        reply_map(reply, 3)
        for i in range(3):
            reply_int(reply, i)
            reply_bool(reply, i == 1)
    elif slice_equals(wanted, "attrib"):
        if reply.resp == 3:
            reply_header(reply, c'|', 1)
            reply_bulk_text(reply, "key-popularity")
            reply_array(reply, 2)
            reply_bulk_text(reply, "key:123")
            reply_int(reply, 90)
        reply_bulk_text(reply, "Some real reply following the attribute")
    elif slice_equals(wanted, "push"):
        if reply.resp == 2:
            reply_error(reply, "ERR RESP2 is not supported by this command")
            return TRANSACTION_DONE
        reply_push(reply, 2)
        reply_bulk_text(reply, "server-cpu-usage")
        reply_int(reply, 42)
        reply_bulk_text(reply, "Some real reply following the push reply")
    elif slice_equals(wanted, "bignum"):
        reply_big_number(reply, "1234567999999999999999999999999999999")
    elif slice_equals(wanted, "true"):
        reply_bool(reply, True)
    elif slice_equals(wanted, "false"):
        reply_bool(reply, False)
    elif slice_equals(wanted, "verbatim"):
        reply_verbatim(reply, "This is a verbatim\nstring", 25, "txt")
    else:
        reply_error(reply, "ERR Wrong protocol type name. Please use one of the following: string|integer|"
                    "double|bignum|null|array|set|map|attrib|push|verbatim|true|false")
    return TRANSACTION_DONE


# ---- DIGEST ----------------------------------------------------------------------------------

cdef struct digest_t:
    unsigned char bytes[SHA1_SIZE]
    uint64_t entries


cdef bint digest_visit(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef digest_t *total = <digest_t *>context
    cdef unsigned char digest[SHA1_SIZE]
    cdef char scratch[OBJECT_SCRATCH]
    cdef object_t stored = ref.entry.key
    cdef slice_t text = object_view(&stored, scratch)
    memset(digest, 0, SHA1_SIZE)
    digest_mix(digest, text.data, text.size)
    digest_value(digest, ref)
    digest_xor(total.bytes, digest, SHA1_SIZE)
    total.entries += 1
    return True


cdef void digest_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Fills this shard's row of tx.state: a digest_t a database."""
    cdef uint32_t databases = shard.settings.databases
    cdef digest_t *row = <digest_t *>tx.state + <size_t>shard.index * databases
    cdef uint64_t cursor
    cdef uint32_t d
    for d in range(databases):
        if shard.databases[d] == NULL or shard.databases[d].table.count == 0:
            continue
        cursor = dash_scan(&shard.databases[d].table, 0, digest_visit, &row[d])
        while cursor != 0:
            cursor = dash_scan(&shard.databases[d].table, cursor, digest_visit, &row[d])


cdef void reply_digest(reply_t *reply, const unsigned char *digest) noexcept nogil:
    cdef char text[2 * SHA1_SIZE + 1]
    cdef int i
    for i in range(SHA1_SIZE):
        snprintf(text + 2 * i, 3, "%02x", <unsigned int>digest[i])
    reply_simple(reply, text)


cdef int debug_digest(transaction_t *tx) noexcept nogil:
    cdef uint32_t databases = tx.shards[0].settings.databases
    cdef unsigned char total[SHA1_SIZE]
    cdef digest_t *cell
    cdef uint64_t entries
    cdef uint32_t d
    cdef uint32_t s
    cdef int i
    if tx.stage == 0:
        tx.stage = 1
        tx.state = net_zalloc(<size_t>tx.shard_count * databases * sizeof(digest_t))
        return hop_on_all_shards(tx, digest_hop)
    memset(total, 0, SHA1_SIZE)
    for d in range(databases):
        entries = 0
        for s in range(tx.shard_count):
            entries += (<digest_t *>tx.state)[<size_t>s * databases + d].entries
        if entries == 0:
            continue
        digest_number(total, d)
        for s in range(tx.shard_count):
            cell = &(<digest_t *>tx.state)[<size_t>s * databases + d]
            for i in range(SHA1_SIZE):
                total[i] ^= cell.bytes[i]
    reply_digest(&tx.reply, total)
    return TRANSACTION_DONE


cdef void digest_value_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef key_t key
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(2, tx.argc):
        key_init(&key, tx.argv[i].data, tx.argv[i].size)
        if shard_of(key.hash, tx.shard_count) == shard.index and find_peek(&scope, &key, &ref):
            digest_value((<digest_t *>tx.state)[i].bytes, &ref)


cdef int debug_digest_value(transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    if tx.stage == 0:
        tx.stage = 1
        tx.state = net_zalloc(tx.argc * sizeof(digest_t))
        return hop_on_all_shards(tx, digest_value_hop)
    reply_array(&tx.reply, tx.argc - 2)
    for i in range(2, tx.argc):
        reply_digest(&tx.reply, (<digest_t *>tx.state)[i].bytes)
    return TRANSACTION_DONE


# ---- HELP and the table ----------------------------------------------------------------------

cdef enum:
    HELP_LINES = 34
    SUBCOMMANDS = 18

cdef const char *HELP[HELP_LINES]
HELP[0] = "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
HELP[1] = "CHANGE-REPL-ID"
HELP[2] = "    Take a new replication id."
HELP[3] = "DICT-RESIZING <0|1>"
HELP[4] = "    Accepted; tables here never resize as a whole."
HELP[5] = "DIGEST"
HELP[6] = "    A hex digest of all databases; equal data, equal digest."
HELP[7] = "DIGEST-VALUE <key> [<key> ...]"
HELP[8] = "    A hex digest of each key's value."
HELP[9] = "ERROR <string>"
HELP[10] = "    Reply with this error."
HELP[11] = "LOG <message>"
HELP[12] = "    Write a line to the log."
HELP[13] = "OBJECT <key>"
HELP[14] = "    Show address, encoding and size of a value."
HELP[15] = "POPULATE <count> [<prefix>] [<size>] [RAND] [TYPE <type>] [ELEMENTS <n>]"
HELP[16] = "    Create <count> keys named <prefix>:<number>, unless they exist."
HELP[17] = "PROTOCOL <type>"
HELP[18] = "    Reply with a value of that type: string, integer, double, bignum, null, array, set, map,"
HELP[19] = "    attrib, push, verbatim, true, false."
HELP[20] = "QUICKLIST-PACKED-THRESHOLD <size>"
HELP[21] = "    Accepted."
HELP[22] = "RELOAD [MERGE] [NOFLUSH] [NOSAVE]"
HELP[23] = "    Save the data, drop them, and load them again."
HELP[24] = "REPLYBUFFER <PEAK-RESET-TIME|RESIZING> <value>"
HELP[25] = "    Accepted."
HELP[26] = "SET-ACTIVE-EXPIRE <0|1>"
HELP[27] = "    Stop or start freeing keys that are due before somebody asks for them."
HELP[28] = "SLEEP <seconds>"
HELP[29] = "    Block this shard thread. Decimals allowed."
HELP[30] = "STRINGMATCH-LEN <count> <pattern>"
HELP[31] = "    Match a pattern against so many a's."
HELP[32] = "HELP"
HELP[33] = "    Prints this help."


cdef int debug_help(transaction_t *tx) noexcept nogil:
    cdef int i
    reply_array(&tx.reply, HELP_LINES)
    for i in range(HELP_LINES):
        reply_simple(&tx.reply, HELP[i])
    return TRANSACTION_DONE


cdef subcommand_t TABLE[SUBCOMMANDS]
cdef command_spec_t ROWS[1]


cdef int debug_command(transaction_t *tx) noexcept nogil:
    """The first step: finds the subcommand, whose own step takes over."""
    cdef uint32_t i
    for i in range(SUBCOMMANDS):
        if slice_equals(tx.argv[1], TABLE[i].name) and TABLE[i].least <= tx.argc <= TABLE[i].most:
            tx.step = TABLE[i].step
            return tx.step(tx)
    reply_subcommand_syntax(&tx.reply, tx.argv[1], "DEBUG")
    return TRANSACTION_DONE


cdef void debug_prepare(transaction_t *tx) noexcept nogil:
    if slice_equals(tx.argv[1], "digest") or slice_equals(tx.argv[1], "digest-value"):
        transaction_lock_all(tx)


cdef subcommand_t subcommand(const char *name, uint32_t least, uint32_t most, transaction_step_t step):
    cdef subcommand_t row
    row.name = name
    row.least = least
    row.most = most
    row.step = step
    return row


def register():
    """Registers the family's row."""
    TABLE[0] = subcommand("change-repl-id", 2, 2, debug_by_python)
    TABLE[1] = subcommand("dict-resizing", 3, 3, debug_accepted)
    TABLE[2] = subcommand("digest", 2, 2, debug_digest)
    TABLE[3] = subcommand("digest-value", 2, ANY_NUMBER, debug_digest_value)
    TABLE[4] = subcommand("error", 3, 3, debug_error)
    TABLE[5] = subcommand("help", 2, 2, debug_help)
    TABLE[6] = subcommand("loadaof", 2, 2, debug_loadaof)
    TABLE[7] = subcommand("log", 3, 3, debug_by_python)
    TABLE[8] = subcommand("object", 3, 3, debug_object)
    TABLE[9] = subcommand("populate", 3, ANY_NUMBER, debug_populate)
    TABLE[10] = subcommand("protocol", 3, 3, debug_protocol)
    TABLE[11] = subcommand("quicklist-packed-threshold", 3, 3, debug_accepted)
    TABLE[12] = subcommand("reload", 2, ANY_NUMBER, debug_reload)
    TABLE[13] = subcommand("replybuffer", 4, 4, debug_replybuffer)
    TABLE[14] = subcommand("set-active-expire", 3, 3, debug_set_active_expire)
    TABLE[15] = subcommand("set-disable-deny-scripts", 3, 3, debug_accepted)
    TABLE[16] = subcommand("sleep", 3, 3, debug_sleep)
    TABLE[17] = subcommand("stringmatch-len", 4, 4, debug_stringmatch)
    ROWS[0] = transaction_row("debug", -2, COMMAND_ADMIN | COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE,
                              ACL_ADMIN | ACL_DANGEROUS, 0, 0, 0, 0, debug_command)
    ROWS[0].prepare = debug_prepare
    register_commands(ROWS, 1)
