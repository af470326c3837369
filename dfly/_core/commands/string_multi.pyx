"""MGET, MSET, MSETNX, MSETEX, and the fetch of several strings that BITOP and LCS begin with.

A hop writes what it reads into its shard's reply builder (connection memory, not the shard's), and
notes offset and size by key in tx.state; the step then gathers in the order of the keys. When all
keys lie on one shard, the hop writes the reply itself and nothing is gathered.

Within a hop keys are taken in windows: all their buckets are prefetched, then their entries, then
they are used, so that the cache misses of one window overlap.
"""

from libc.stdint cimport INT32_MAX, int64_t, uint32_t, uint64_t

from dfly._core.commands.set_options cimport (SET_EXPIRY, SET_KEEPTTL, SET_NX, SET_XX, parse_expiry,
                                              parse_set_words, set_options_t)
from dfly._core.commands.strings cimport overwrite_key, reply_value, store_string
from dfly._core.engine.command cimport (ACL_STRING, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_MOVABLE_KEYS,
                                        COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS, KEY_INSERT, KEY_OW, KEY_RO,
                                        KEY_UPDATE, call_t, command_spec_t, register_commands,
                                        reply_syntax_error, reply_wrong_arity, transaction_row)
from dfly._core.engine.database cimport NOTIFY_STRING, find_read, find_write, update_end
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport (TRANSACTION_DONE, hop_on_keys, transaction_scope,
                                            transaction_shard_reply, transaction_t)
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_error, reply_grow, reply_int, reply_null,
                                    reply_ok, reply_raw, reply_t)
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_ref_t
from dfly._core.store.dash_prefetch cimport DASH_PREFETCH_KEYS, dash_prefetch_keys
from dfly._core.store.object cimport (OBJECT_SCRATCH, object_is_string, object_replace_string, object_view,
                                      parse_int64)
from dfly._core.sys.alloc cimport net_alloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum step_t:
    STEP_START = 0
    STEP_CHECKED = 1             # MSETNX knows which keys exist
    STEP_DONE = 2


# ---- Keys of a hop -------------------------------------------------------------------------

cdef bint keys_share_shard(const transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(1, tx.key_count):
        if tx.key_shards[i] != tx.key_shards[0]:
            return False
    return True


cdef void prefetch_window(transaction_t *tx, scope_t *scope, uint32_t start) noexcept nogil:
    cdef uint64_t hashes[DASH_PREFETCH_KEYS]
    cdef uint32_t count = 0
    cdef uint32_t i
    for i in range(start, min(start + DASH_PREFETCH_KEYS, tx.key_count)):
        if tx.key_shards[i] == scope.shard.index:
            hashes[count] = tx.keys[i].hash
            count += 1
    dash_prefetch_keys(&scope.database.table, hashes, count)


cdef inline bint next_key(transaction_t *tx, scope_t *scope, uint32_t *position) noexcept nogil:
    """Moves position to the next key of this shard, starting with itself; False at the end."""
    while position[0] < tx.key_count:
        if position[0] % DASH_PREFETCH_KEYS == 0:
            prefetch_window(tx, scope, position[0])
        if tx.key_shards[position[0]] == scope.shard.index:
            return True
        position[0] += 1
    return False


# ---- Fragments: pieces of the shards' builders, by key --------------------------------------

cdef slice_t *new_fragments(transaction_t *tx) noexcept nogil:
    """The pieces hold an offset instead of an address until resolve_fragments."""
    tx.state = net_alloc(tx.key_count * sizeof(slice_t))
    return <slice_t *>tx.state


cdef void resolve_fragments(transaction_t *tx, uint32_t first) noexcept nogil:
    cdef slice_t *fragments = <slice_t *>tx.state
    cdef reply_t *source
    cdef uint32_t i
    for i in range(first, tx.key_count):
        source = transaction_shard_reply(tx, tx.shards[tx.key_shards[i]])
        fragments[i].data = source.data + <size_t>fragments[i].data


cdef inline void add_fragment(transaction_t *tx, uint32_t key, const reply_t *reply, size_t start) noexcept nogil:
    cdef slice_t *fragments = <slice_t *>tx.state
    fragments[key].data = <const char *>start
    fragments[key].size = reply.size - start


# ---- MGET ----------------------------------------------------------------------------------

cdef void mget_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef slice_t view
    cdef size_t start
    cdef uint32_t i = 0
    cdef reply_t *reply = &tx.reply if tx.state == NULL else transaction_shard_reply(tx, shard)
    transaction_scope(tx, shard, &scope)
    while next_key(tx, &scope, &i):
        start = reply.size
        if find_read(&scope, &tx.keys[i], &ref) and object_is_string(&ref.entry.value):
            view = object_view(&ref.entry.value, scratch)
            reply_bulk(reply, view.data, view.size)
        else:
            reply_null(reply)
        if tx.state != NULL:
            add_fragment(tx, i, reply, start)
        i += 1


cdef void mget_one_command(call_t *call) noexcept nogil:
    """MGET of a single key: the dispatcher treats it as a command with one key."""
    cdef dash_ref_t ref
    reply_array(call.reply, 1)
    if find_read(&call.scope, &call.key, &ref) and object_is_string(&ref.entry.value):
        reply_value(call.reply, &ref.entry.value)
    else:
        reply_null(call.reply)


cdef int mget_step(transaction_t *tx) noexcept nogil:
    cdef slice_t *fragments
    cdef size_t total = 0
    cdef uint32_t i
    if tx.stage == STEP_START:
        tx.stage = STEP_DONE
        reply_array(&tx.reply, tx.key_count)
        if not keys_share_shard(tx):
            new_fragments(tx)
        return hop_on_keys(tx, mget_hop)
    if tx.state != NULL:
        resolve_fragments(tx, 0)
        fragments = <slice_t *>tx.state
        for i in range(tx.key_count):
            total += fragments[i].size
        reply_grow(&tx.reply, total)
        for i in range(tx.key_count):
            reply_raw(&tx.reply, fragments[i].data, fragments[i].size)
    return TRANSACTION_DONE


# ---- MSET, MSETNX --------------------------------------------------------------------------

cdef void mset_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef slice_t value
    cdef uint32_t i = 0
    transaction_scope(tx, shard, &scope)
    while next_key(tx, &scope, &i):
        value = tx.argv[tx.key_positions[i] + 1]
        overwrite_key(&scope, &tx.keys[i], &ref)
        object_replace_string(&ref.entry.value, value.data, value.size)
        update_end(&scope, &tx.keys[i], NOTIFY_STRING, "set")
        i += 1


cdef void exists_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i = 0
    transaction_scope(tx, shard, &scope)
    while next_key(tx, &scope, &i):
        tx.results[i].flag = find_write(&scope, &tx.keys[i], &ref)
        i += 1


cdef bint any_flag(const transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(tx.key_count):
        if tx.results[i].flag:
            return True
    return False


cdef void msetnx_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """Check and change in one go, when this shard has all the keys."""
    exists_hop(tx, shard)
    if not any_flag(tx):
        mset_hop(tx, shard)


cdef bint pairs_are_complete(transaction_t *tx) noexcept nogil:
    if tx.argc % 2 == 1:
        return True
    reply_wrong_arity(&tx.reply, tx.spec)
    return False


cdef int mset_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START:
        if not pairs_are_complete(tx):
            return TRANSACTION_DONE
        tx.stage = STEP_DONE
        return hop_on_keys(tx, mset_hop)
    reply_ok(&tx.reply)
    return TRANSACTION_DONE


cdef int msetnx_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START:
        if not pairs_are_complete(tx):
            return TRANSACTION_DONE
        if keys_share_shard(tx):
            tx.stage = STEP_DONE
            return hop_on_keys(tx, msetnx_hop)
        tx.stage = STEP_CHECKED
        return hop_on_keys(tx, exists_hop)
    if tx.stage == STEP_CHECKED and not any_flag(tx):
        tx.stage = STEP_DONE
        return hop_on_keys(tx, mset_hop)
    reply_int(&tx.reply, 0 if any_flag(tx) else 1)
    return TRANSACTION_DONE


# ---- MSETEX --------------------------------------------------------------------------------
# MSET with Redis 8.4's options; order of checks and texts as Valkey 9.1. numbers[0]: set_flag_t; numbers[1]: the
# keys' new deadline.

cdef enum:
    FLAGS = 0
    DEADLINE = 1
    FIRST_PAIR = 2               # in argv
    MSETEX_WORDS = SET_NX | SET_XX | SET_KEEPTTL | SET_EXPIRY


cdef int msetex_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    cdef int64_t count
    cdef int i
    if (not parse_int64(argv[1].data, argv[1].size, &count) or count <= 0
            or count > (<int64_t>argc - FIRST_PAIR) // 2):
        return -1
    for i in range(<int>count):
        out[i] = FIRST_PAIR + 2 * <uint32_t>i
    return <int>count


cdef bint parse_msetex(transaction_t *tx) noexcept nogil:
    cdef set_options_t options
    cdef int64_t count
    if not parse_int64(tx.argv[1].data, tx.argv[1].size, &count) or count <= 0 or count > INT32_MAX:
        reply_error(&tx.reply, "ERR invalid numkeys value or out of range")
        return False
    if (count > (<int64_t>tx.argc - FIRST_PAIR) // 2
            or not parse_set_words(tx.argv, tx.argc, FIRST_PAIR + 2 * <uint32_t>count, MSETEX_WORDS, &options)):
        reply_syntax_error(&tx.reply)
        return False
    tx.numbers[FLAGS] = options.flags
    tx.numbers[DEADLINE] = DASH_NO_DEADLINE
    return options.flags & SET_EXPIRY == 0 or parse_expiry(tx.spec, &tx.reply, tx.now_ms, options.expiry,
                                                           options.flags, &tx.numbers[DEADLINE])


cdef void msetex_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef bint found
    cdef uint32_t i = 0
    transaction_scope(tx, shard, &scope)
    while next_key(tx, &scope, &i):
        found = find_write(&scope, &tx.keys[i], &ref)
        store_string(&scope, &tx.keys[i], &ref, found, tx.argv[tx.key_positions[i] + 1], tx.numbers[DEADLINE],
                     tx.numbers[FLAGS] & SET_KEEPTTL != 0)
        i += 1


cdef bint msetex_allowed(const transaction_t *tx) noexcept nogil:
    """NX: none of the keys exists, XX: all of them; known after exists_hop."""
    cdef uint32_t i
    if tx.numbers[FLAGS] & (SET_NX | SET_XX) == 0:
        return True
    for i in range(tx.key_count):
        if tx.results[i].flag != (tx.numbers[FLAGS] & SET_XX != 0):
            return False
    return True


cdef int msetex_step(transaction_t *tx) noexcept nogil:
    if tx.stage == STEP_START:
        if not parse_msetex(tx):
            return TRANSACTION_DONE
        tx.stage = STEP_CHECKED
        if tx.numbers[FLAGS] & (SET_NX | SET_XX):
            return hop_on_keys(tx, exists_hop)
    if tx.stage == STEP_CHECKED and msetex_allowed(tx):
        tx.stage = STEP_DONE
        return hop_on_keys(tx, msetex_hop)
    reply_int(&tx.reply, tx.stage == STEP_DONE)
    return TRANSACTION_DONE


# ---- Fetch ---------------------------------------------------------------------------------

cdef void fetch_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef slice_t view
    cdef size_t start
    cdef uint32_t i = <uint32_t>tx.numbers[0]
    cdef reply_t *copies = transaction_shard_reply(tx, shard)
    transaction_scope(tx, shard, &scope)
    while next_key(tx, &scope, &i):
        start = copies.size
        if find_read(&scope, &tx.keys[i], &ref):
            if object_is_string(&ref.entry.value):
                view = object_view(&ref.entry.value, scratch)
                reply_raw(copies, view.data, view.size)
            else:
                tx.results[i].flag = True
        add_fragment(tx, i, copies, start)
        i += 1


cdef int fetch_strings(transaction_t *tx, uint32_t first) noexcept nogil:
    tx.numbers[0] = first
    new_fragments(tx)
    return hop_on_keys(tx, fetch_hop)


cdef slice_t *fetched_strings(transaction_t *tx) noexcept nogil:
    if any_flag(tx):
        return NULL
    resolve_fragments(tx, <uint32_t>tx.numbers[0])
    return <slice_t *>tx.state


# ---- Registration --------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 4

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Adds this family's rows to the registry."""
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    rows[0] = transaction_row("mget", -2, COMMAND_READONLY | COMMAND_FAST, ACL_STRING, 1, -1, 1,
                              KEY_RO | KEY_ACCESS, mget_step)
    rows[0].handler = mget_one_command
    rows[1] = transaction_row("mset", -3, grow, ACL_STRING, 1, -1, 2, KEY_OW | KEY_UPDATE, mset_step)
    rows[2] = transaction_row("msetnx", -3, grow, ACL_STRING, 1, -1, 2, KEY_OW | KEY_INSERT, msetnx_step)
    rows[3] = transaction_row("msetex", -4, grow | COMMAND_MOVABLE_KEYS, ACL_STRING, 0, 0, 0, KEY_OW | KEY_UPDATE,
                              msetex_step)
    rows[3].get_keys = msetex_keys
    register_commands(rows, ROW_COUNT)
