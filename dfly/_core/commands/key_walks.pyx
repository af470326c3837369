"""Walks over all keys: KEYS, SCAN, and RM, which is Dragonfly's SCAN that deletes what it finds.

They go in slices, shard by shard, and let others run between them: none is atomic, outside of an EXEC.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.commands.scan_options cimport SCAN_EMPTY_FACTOR, parse_scan_cursor, reply_scan_head
from dfly._core.engine.command cimport (ACL_DANGEROUS, ACL_KEYSPACE, COMMAND_READONLY, COMMAND_WRITE,
                                        TRANSACTION_DONE, TRANSACTION_YIELD, command_spec_t, hop_t,
                                        register_commands, reply_not_integer, reply_syntax_error, slice_equals,
                                        transaction_row, transaction_t)
from dfly._core.engine.database cimport NOTIFY_GENERIC, delete_key, find_write
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_all_shards, hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport (REPLY_CHUNK, reply_array, reply_bulk, reply_bulk_int, reply_chain_header,
                                    reply_chain_join, reply_chain_t, reply_chain_take, reply_error, reply_int,
                                    reply_raw, reply_t)
from dfly._core.store.dash cimport DASH_CURSOR_BITS, DASH_NO_DEADLINE, dash_deadline, dash_ref_t, dash_t
from dfly._core.store.dash_scan cimport dash_scan
from dfly._core.store.glob cimport glob_match
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_COUNT, key_init, key_t, object_type, object_type_t,
                                      object_view, parse_int64, type_name)
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    WALK_BUCKETS = 512           # of a table, between two looks at other work


cdef struct walk_t:
    # A walk over tables; lives in transaction.state, one element per shard for KEYS.
    uint64_t cursor
    uint64_t found
    bint is_done
    slice_t pattern              # data NULL: everything
    int type                     # -1: any
    scope_t scope
    reply_t *out
    reply_chain_t chain          # of KEYS: what was in `out` before


cdef bint is_wanted(const walk_t *walk, dash_ref_t *ref, slice_t key) noexcept nogil:
    cdef int64_t deadline
    if (ref.bucket.deadline >> ref.slot) & 1:
        deadline = dash_deadline(ref)
        if deadline != DASH_NO_DEADLINE and deadline <= walk.scope.now_ms:
            return False
    if walk.type >= 0 and <int>object_type(&ref.entry.value) != walk.type:
        return False
    return walk.pattern.data == NULL or glob_match(walk.pattern.data, walk.pattern.size, key.data, key.size, False)


cdef bint visit_key(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef walk_t *walk = <walk_t *>context
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t key = object_view(&ref.entry.key, scratch)
    if is_wanted(walk, ref, key):
        reply_bulk(walk.out, key.data, key.size)
        walk.found += 1
    return False


# ---- KEYS ------------------------------------------------------------------------------------


cdef void keys_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """A slice of this shard's table; goes on from its cursor at the next hop."""
    cdef walk_t *walk = &(<walk_t *>tx.state)[shard.index]
    cdef uint32_t _i
    if walk.is_done:
        return
    transaction_scope(tx, shard, &walk.scope)
    walk.out = &tx.shard_replies[shard.index]
    for _i in range(WALK_BUCKETS):
        walk.cursor = dash_scan(&walk.scope.database.table, walk.cursor, visit_key, walk)
        if walk.cursor == 0:
            walk.is_done = True
            break
    if walk.out.size >= REPLY_CHUNK and not tx.is_inside:
        reply_chain_take(&walk.chain, walk.out, False)


cdef int keys_step(transaction_t *tx) noexcept nogil:
    cdef walk_t *walks
    cdef uint64_t found = 0
    cdef uint32_t i
    cdef bint done = True
    if tx.stage == 0:
        walks = <walk_t *>net_zalloc(tx.shard_count * sizeof(walk_t))
        for i in range(tx.shard_count):
            walks[i].pattern = tx.argv[1]
            if tx.argv[1].size == 1 and tx.argv[1].data[0] == c'*':
                walks[i].pattern.data = NULL
            walks[i].type = -1
        tx.state = walks
        tx.stage = 1
        return hop_on_all_shards(tx, keys_hop)
    walks = <walk_t *>tx.state
    if tx.stage == 2:
        tx.stage = 1
        return hop_on_all_shards(tx, keys_hop)
    for i in range(tx.shard_count):
        done = done and walks[i].is_done
        found += walks[i].found
    if not done:
        tx.stage = 2
        return TRANSACTION_YIELD
    for i in range(tx.shard_count):
        if walks[i].chain.first != NULL:
            reply_chain_take(&tx.chain, &tx.reply, False)
            reply_chain_join(&tx.chain, &walks[i].chain)
        reply_raw(&tx.reply, tx.shard_replies[i].data, tx.shard_replies[i].size)
    reply_chain_header(&tx.chain, &tx.reply, c'*', found)
    return TRANSACTION_DONE


# ---- SCAN, RM --------------------------------------------------------------------------------
# The cursor: the shard above, the table's cursor below. numbers[0]: elements still wanted;
# numbers[1]: the shard.
cdef enum:
    WANTED = 0
    SHARD = 1
    BUCKETS = 2


cdef int parse_type_name(slice_t name) noexcept nogil:
    cdef int type
    for type in range(TYPE_COUNT):
        if slice_equals(name, type_name(<object_type_t>type)):
            return type
    return TYPE_COUNT            # a type nobody has: nothing matches, as in Redis 7.0


cdef bint parse_scan(transaction_t *tx, walk_t *walk) noexcept nogil:
    cdef uint32_t i = 2
    cdef int64_t count = 10
    cdef uint64_t cursor = 0
    if not parse_scan_cursor(tx.argv[1], &cursor):
        reply_error(&tx.reply, "ERR invalid cursor")
        return False
    while i < tx.argc:
        if i + 1 >= tx.argc:
            reply_syntax_error(&tx.reply)
            return False
        if slice_equals(tx.argv[i], "count"):
            if not parse_int64(tx.argv[i + 1].data, tx.argv[i + 1].size, &count):
                reply_not_integer(&tx.reply)
                return False
            if count < 1:
                reply_syntax_error(&tx.reply)
                return False
        elif slice_equals(tx.argv[i], "match"):
            walk.pattern = tx.argv[i + 1]
            if walk.pattern.size == 1 and walk.pattern.data[0] == c'*':
                walk.pattern.data = NULL
        elif slice_equals(tx.argv[i], "type"):
            walk.type = parse_type_name(tx.argv[i + 1])
        else:
            reply_syntax_error(&tx.reply)
            return False
        i += 2
    tx.numbers[WANTED] = count
    tx.numbers[BUCKETS] = count * SCAN_EMPTY_FACTOR if count < 1000000 else 10000000
    tx.numbers[SHARD] = <int64_t>(cursor >> DASH_CURSOR_BITS)
    walk.cursor = cursor & ((<uint64_t>1 << DASH_CURSOR_BITS) - 1)
    return True


cdef bint has_more(const transaction_t *tx, const walk_t *walk) noexcept nogil:
    return <int64_t>walk.found < tx.numbers[WANTED] and tx.numbers[BUCKETS] > 0


cdef void scan_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef walk_t *walk = <walk_t *>tx.state
    cdef uint32_t slice_ = WALK_BUCKETS
    transaction_scope(tx, shard, &walk.scope)
    while slice_ > 0 and has_more(tx, walk):
        walk.cursor = dash_scan(&walk.scope.database.table, walk.cursor, visit_key, walk)
        slice_ -= 1
        tx.numbers[BUCKETS] -= 1
        if walk.cursor == 0:
            tx.numbers[SHARD] += 1
            return


cdef bint collect_key(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    """Size and bytes of a key, into the walk's buffer: a visitor may not erase."""
    cdef walk_t *walk = <walk_t *>context
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t key = object_view(&ref.entry.key, scratch)
    if is_wanted(walk, ref, key):
        reply_raw(walk.out, <const char *>&key.size, sizeof(key.size))
        reply_raw(walk.out, key.data, key.size)
    return False


cdef void delete_collected(walk_t *walk) noexcept nogil:
    cdef dash_ref_t ref
    cdef key_t key
    cdef size_t size
    cdef size_t at = 0
    while at < walk.out.size:
        memcpy(&size, walk.out.data + at, sizeof(size))
        key_init(&key, walk.out.data + at + sizeof(size), size)
        at += sizeof(size) + size
        if find_write(&walk.scope, &key, &ref):
            delete_key(&walk.scope, &key, &ref, NOTIFY_GENERIC, "del")
            walk.found += 1
    walk.out.size = 0


cdef void rm_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """As scan_hop; the keys of each bucket go before the next is looked at."""
    cdef walk_t *walk = <walk_t *>tx.state
    cdef uint32_t slice_ = WALK_BUCKETS
    transaction_scope(tx, shard, &walk.scope)
    while slice_ > 0 and has_more(tx, walk):
        walk.cursor = dash_scan(&walk.scope.database.table, walk.cursor, collect_key, walk)
        delete_collected(walk)
        slice_ -= 1
        tx.numbers[BUCKETS] -= 1
        if walk.cursor == 0:
            tx.numbers[SHARD] += 1
            return


cdef int scan_generic(transaction_t *tx, hop_t hop, bint counts) noexcept nogil:
    """counts: the reply has the number of elements instead of them."""
    cdef walk_t *walk
    cdef uint64_t cursor
    if tx.stage == 0:
        walk = <walk_t *>net_zalloc(sizeof(walk_t))
        walk.type = -1
        tx.state = walk
        if not parse_scan(tx, walk):
            return TRANSACTION_DONE
        if tx.numbers[SHARD] >= tx.shard_count:
            # Not a cursor of ours: an empty end of the iteration, as Redis answers.
            tx.numbers[BUCKETS] = 0
        tx.stage = 1
    walk = <walk_t *>tx.state
    if walk.out != NULL and walk.out.size >= REPLY_CHUNK and not tx.is_inside:
        reply_chain_take(&tx.chain, walk.out, False)
    if tx.stage == 2:
        tx.stage = 1
        return TRANSACTION_YIELD
    if has_more(tx, walk) and tx.numbers[SHARD] < tx.shard_count:
        tx.stage = 2 if walk.out != NULL else 1
        # shard_replies exist once a hop was prepared; all of them share the first one here.
        hop_on_shard(tx, <uint32_t>tx.numbers[SHARD], hop)
        walk.out = &tx.shard_replies[0]
        return 1
    cursor = 0
    if tx.numbers[SHARD] < tx.shard_count:
        cursor = (<uint64_t>tx.numbers[SHARD] << DASH_CURSOR_BITS) | walk.cursor
    if counts:
        reply_array(&tx.reply, 2)
        reply_bulk_int(&tx.reply, <int64_t>cursor)
        reply_int(&tx.reply, <int64_t>walk.found)
        return TRANSACTION_DONE
    reply_scan_head(&tx.reply, cursor, walk.found)
    if tx.chain.first != NULL:
        reply_chain_take(&tx.chain, &tx.reply, True)
    if walk.out != NULL:
        reply_raw(&tx.reply, walk.out.data, walk.out.size)
    return TRANSACTION_DONE


cdef int scan_step(transaction_t *tx) noexcept nogil:
    return scan_generic(tx, scan_hop, False)


cdef int rm_step(transaction_t *tx) noexcept nogil:
    return scan_generic(tx, rm_hop, True)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 3

cdef command_spec_t[ROW_COUNT] ROWS


def register():
    """Registers the family's rows."""
    ROWS[0] = transaction_row("keys", 2, COMMAND_READONLY, ACL_KEYSPACE | ACL_DANGEROUS, 0, 0, 0, 0, keys_step)
    ROWS[1] = transaction_row("scan", -2, COMMAND_READONLY, ACL_KEYSPACE, 0, 0, 0, 0, scan_step)
    ROWS[2] = transaction_row("rm", -2, COMMAND_WRITE, ACL_KEYSPACE | ACL_DANGEROUS, 0, 0, 0, 0, rm_step)
    register_commands(ROWS, ROW_COUNT)
