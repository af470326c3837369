"""PFADD, PFCOUNT, PFMERGE, PFDEBUG, PFSELFTEST (redis.io/docs/latest/develop/data-types/probabilistic/hyperloglogs).

A sketch is a string in Redis' representation (store/hyperloglog). A change works on a copy on the stack of at most
12 KB; PFCOUNT of one key writes the cardinality into the value's cache, as Redis does, so it is a change, too.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from dfly._core.engine.command cimport (ACL_HYPERLOGLOG, COMMAND_ADMIN, COMMAND_DENYOOM, COMMAND_FAST,
                                        COMMAND_READONLY, COMMAND_WRITE, KEY_ACCESS, KEY_INSERT, KEY_RW,
                                        TRANSACTION_DONE, call_t, command_spec_t, connection_row, key_row,
                                        register_commands, reply_wrong_type, slice_equals, transaction_row,
                                        transaction_t)
from dfly._core.engine.database cimport (NOTIFY_STRING, find_read, find_write, insert_key, update_begin, update_end)
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_scope
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_error, reply_int, reply_ok, reply_simple, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hyperloglog cimport (HLL_CHANGED, HLL_CORRUPT, HLL_DENSE, HLL_DENSE_SIZE, HLL_HEADER,
                                           HLL_REGISTERS, HLL_SPARSE, hll_add, hll_count,
                                           hll_count_registers, hll_dense_has, hll_encoding, hll_init,
                                           hll_is_stale, hll_is_valid, hll_make_stale, hll_merge, hll_raise_all,
                                           hll_result_t, hll_to_dense,
                                           run_is_long, run_is_value, run_length, run_value, sketch_t)
from dfly._core.store.object cimport (OBJECT_SCRATCH, object_is_string, object_resize, object_t,
                                      object_view)
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, load64, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    ROOM = HLL_DENSE_SIZE + 16
    DECODE_RUN_MAX = 16              # bytes of a run in PFDEBUG DECODE
    SELFTEST_SPARSE_MAX = 3000

cdef enum status_t:
    STATUS_ABSENT = 0
    STATUS_OK = 1
    STATUS_WRONG_TYPE = 2
    STATUS_NO_SKETCH = 3
    STATUS_CORRUPT = 4


cdef void reply_status_error(reply_t *reply, int64_t status) noexcept nogil:
    if status == STATUS_WRONG_TYPE:
        reply_wrong_type(reply)
    elif status == STATUS_NO_SKETCH:
        reply_error(reply, "WRONGTYPE Key is not a valid HyperLogLog string value.")
    else:
        reply_error(reply, "INVALIDOBJ Corrupted HLL object detected")


cdef status_t check(const object_t *value, char *scratch, slice_t *out) noexcept nogil:
    """The bytes of a sketch."""
    if not object_is_string(value):
        return STATUS_WRONG_TYPE
    out[0] = object_view(value, scratch)
    return STATUS_OK if hll_is_valid(out.data, out.size) else STATUS_NO_SKETCH


cdef void begin(sketch_t *sketch, uint8_t *room, slice_t text, const scope_t *scope) noexcept nogil:
    sketch.data = room
    sketch.size = text.size
    # Beyond the size of a dense one nothing is gained.
    sketch.sparse_max = min(scope.shard.settings.hll_sparse_max_bytes, <int64_t>HLL_DENSE_SIZE)
    if text.size > 0:
        memcpy(room, text.data, text.size)


cdef void store(object_t *value, const sketch_t *sketch) noexcept nogil:
    memcpy(object_resize(value, sketch.size), sketch.data, sketch.size)


# ---- PFADD -------------------------------------------------------------------------------------

cdef bint find_text(call_t *call, dash_ref_t *ref, char *scratch, slice_t *out, bint *found) noexcept nogil:
    """A sketch's bytes, none if it is absent. False after an error reply."""
    cdef status_t status
    out.data = NULL
    out.size = 0
    found[0] = find_write(&call.scope, &call.key, ref)
    if not found[0]:
        return True
    status = check(&ref.entry.value, scratch, out)
    # A sparse one never gets near that; a string that says it is one may be of any size.
    if status == STATUS_OK and out.size > HLL_DENSE_SIZE:
        status = STATUS_CORRUPT
    if status != STATUS_OK:
        reply_status_error(call.reply, status)
        return False
    return True


cdef void finish(call_t *call, dash_ref_t *ref, const sketch_t *sketch, bint found) noexcept nogil:
    if found:
        update_begin(&call.scope, ref)
        store(&ref.entry.value, sketch)
    else:
        insert_key(&call.scope, &call.key, ref)
        store(&ref.entry.value, sketch)
    update_end(&call.scope, &call.key, NOTIFY_STRING, "pfadd")


cdef void pfadd_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef uint8_t room[ROOM]
    cdef hll_result_t result
    cdef sketch_t sketch
    cdef slice_t text
    cdef dash_ref_t ref
    cdef bint changed
    cdef bint found
    cdef const uint8_t *data
    cdef uint32_t first = 2
    cdef uint32_t i
    if not find_text(call, &ref, scratch, &text, &found):
        return
    if found and text.data[4] == HLL_DENSE:
        # Most elements change nothing: no copy for them.
        data = <const uint8_t *>text.data
        while first < call.argc and hll_dense_has(data, call.argv[first].data, call.argv[first].size):
            first += 1
        if first == call.argc:
            reply_int(call.reply, 0)
            return
    begin(&sketch, room, text, &call.scope)
    if not found:
        hll_init(&sketch)
    changed = not found
    for i in range(first, call.argc):
        result = hll_add(&sketch, call.argv[i].data, call.argv[i].size)
        if result == HLL_CORRUPT:
            reply_status_error(call.reply, STATUS_CORRUPT)
            return
        changed |= result == HLL_CHANGED
    if changed:
        hll_make_stale(sketch.data)
        finish(call, &ref, &sketch, found)
    reply_int(call.reply, changed)


# ---- PFCOUNT -----------------------------------------------------------------------------------

cdef void pfcount_command(call_t *call) noexcept nogil:
    """Of one key."""
    cdef char scratch[OBJECT_SCRATCH]
    cdef uint64_t cardinality
    cdef status_t status
    cdef dash_ref_t ref
    cdef slice_t text
    if not find_read(&call.scope, &call.key, &ref):
        reply_int(call.reply, 0)
        return
    status = check(&ref.entry.value, scratch, &text)
    if status != STATUS_OK:
        reply_status_error(call.reply, status)
        return
    if not hll_is_stale(<const uint8_t *>text.data):
        reply_int(call.reply, <int64_t>load64(text.data + 8))
        return
    if not hll_count(<const uint8_t *>text.data, text.size, &cardinality):
        reply_status_error(call.reply, STATUS_CORRUPT)
        return
    update_begin(&call.scope, &ref)
    memcpy(object_resize(&ref.entry.value, text.size) + 8, &cardinality, 8)
    update_end(&call.scope, &call.key, NOTIFY_STRING, NULL)
    reply_int(call.reply, <int64_t>cardinality)


cdef struct union_t:
    # Of several sketches.
    uint8_t registers[16384]
    bint has_dense


cdef void merge_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef union_t *merged = <union_t *>tx.state
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t text
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef uint32_t i
    transaction_scope(tx, shard, &scope)
    for i in range(tx.key_count):
        if tx.key_shards[i] != shard.index:
            continue
        tx.results[i].number = STATUS_ABSENT
        if not find_read(&scope, &tx.keys[i], &ref):
            continue
        tx.results[i].number = check(&ref.entry.value, scratch, &text)
        if tx.results[i].number == STATUS_OK:
            merged.has_dense |= text.data[4] == HLL_DENSE
            if not hll_merge(merged.registers, <const uint8_t *>text.data, text.size):
                tx.results[i].number = STATUS_CORRUPT


cdef bint merged_well(transaction_t *tx) noexcept nogil:
    """False after the first key's error was replied."""
    cdef uint32_t i
    for i in range(tx.key_count):
        if tx.results[i].number > STATUS_OK:
            reply_status_error(&tx.reply, tx.results[i].number)
            return False
    return True


cdef int pfcount_step(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.state = net_zalloc(sizeof(union_t))
        tx.stage = 1
        return hop_on_keys(tx, merge_hop)
    if merged_well(tx):
        reply_int(&tx.reply, <int64_t>hll_count_registers((<union_t *>tx.state).registers))
    return TRANSACTION_DONE


# ---- PFMERGE -----------------------------------------------------------------------------------

cdef void store_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef const union_t *merged = <const union_t *>tx.state
    cdef char scratch[OBJECT_SCRATCH]
    cdef uint8_t room[ROOM]
    cdef sketch_t sketch
    cdef slice_t text
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef bint found
    transaction_scope(tx, shard, &scope)
    found = find_write(&scope, &tx.keys[0], &ref)
    text.data = NULL
    text.size = 0
    if found:
        text = object_view(&ref.entry.value, scratch)
    if text.size > HLL_DENSE_SIZE:
        reply_status_error(&tx.reply, STATUS_CORRUPT)
        return
    begin(&sketch, room, text, &scope)
    if not found:
        hll_init(&sketch)
    if merged.has_dense:
        hll_to_dense(&sketch)
    if not hll_raise_all(&sketch, merged.registers):
        reply_status_error(&tx.reply, STATUS_CORRUPT)
        return
    hll_make_stale(sketch.data)
    if found:
        update_begin(&scope, &ref)
        store(&ref.entry.value, &sketch)
    else:
        insert_key(&scope, &tx.keys[0], &ref)
        store(&ref.entry.value, &sketch)
    update_end(&scope, &tx.keys[0], NOTIFY_STRING, "pfadd")
    reply_ok(&tx.reply)


cdef int pfmerge_step(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        tx.state = net_zalloc(sizeof(union_t))
        tx.stage = 1
        return hop_on_keys(tx, merge_hop)
    if tx.stage == 1 and merged_well(tx):
        tx.stage = 2
        return hop_on_shard(tx, tx.key_shards[0], store_hop)
    return TRANSACTION_DONE


# ---- PFDEBUG, PFSELFTEST -----------------------------------------------------------------------

cdef void debug_registers(call_t *call, dash_ref_t *ref, sketch_t *sketch) noexcept nogil:
    cdef uint8_t registers[HLL_REGISTERS]
    cdef uint32_t i
    memset(registers, 0, HLL_REGISTERS)
    if not make_dense(call, ref, sketch) or not hll_merge(registers, sketch.data, sketch.size):
        return
    reply_array(call.reply, HLL_REGISTERS)
    for i in range(HLL_REGISTERS):
        reply_int(call.reply, registers[i])


cdef bint make_dense(call_t *call, dash_ref_t *ref, sketch_t *sketch) noexcept nogil:
    if hll_encoding(sketch.data) == HLL_DENSE:
        return True
    if not hll_to_dense(sketch):
        reply_status_error(call.reply, STATUS_CORRUPT)
        return False
    update_begin(&call.scope, ref)
    store(&ref.entry.value, sketch)
    update_end(&call.scope, &call.key, NOTIFY_STRING, NULL)
    return True


cdef void debug_decode(call_t *call, const sketch_t *sketch) noexcept nogil:
    cdef char text[ROOM * DECODE_RUN_MAX]
    cdef const uint8_t *p = sketch.data + HLL_HEADER
    cdef const uint8_t *end = sketch.data + sketch.size
    cdef size_t size = 0
    if hll_encoding(sketch.data) != HLL_SPARSE:
        reply_error(call.reply, "ERR HLL encoding is not sparse")
        return
    while p < end and not (run_is_long(p[0]) and p + 1 == end):
        if run_is_value(p[0]):
            size += <size_t>snprintf(text + size, DECODE_RUN_MAX, "v:%d,%d ", <int>run_value(p), <int>run_length(p))
            p += 1
        elif run_is_long(p[0]):
            size += <size_t>snprintf(text + size, DECODE_RUN_MAX, "Z:%d ", <int>run_length(p))
            p += 2
        else:
            size += <size_t>snprintf(text + size, DECODE_RUN_MAX, "z:%d ", <int>run_length(p))
            p += 1
    reply_bulk(call.reply, text, size - 1 if size > 0 else 0)


cdef void pfdebug_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef uint8_t room[ROOM]
    cdef char text[160]
    cdef sketch_t sketch
    cdef slice_t bytes_
    cdef dash_ref_t ref
    cdef bint found
    if not find_text(call, &ref, scratch, &bytes_, &found):
        return
    begin(&sketch, room, bytes_, &call.scope)
    if not found:
        reply_error(call.reply, "ERR The specified key does not exist")
    elif slice_equals(call.argv[1], "getreg"):
        debug_registers(call, &ref, &sketch)
    elif slice_equals(call.argv[1], "decode"):
        debug_decode(call, &sketch)
    elif slice_equals(call.argv[1], "encoding"):
        reply_simple(call.reply, "dense" if hll_encoding(sketch.data) == HLL_DENSE else "sparse")
    elif slice_equals(call.argv[1], "todense"):
        if hll_encoding(sketch.data) == HLL_DENSE:
            reply_int(call.reply, 0)
        elif make_dense(call, &ref, &sketch):
            reply_int(call.reply, 1)
    else:
        snprintf(text, sizeof(text), "ERR Unknown PFDEBUG subcommand '%.*s'", <int>min(call.argv[1].size, <size_t>100),
                 call.argv[1].data)
        reply_error(call.reply, text)


cdef void pfselftest_command(call_t *call) noexcept nogil:
    """A sketch of known elements must count them within four times its standard error, in both encodings."""
    cdef uint8_t room[ROOM]
    cdef sketch_t sketch
    cdef uint64_t counted = 0
    cdef uint64_t i
    sketch.data = room
    sketch.sparse_max = SELFTEST_SPARSE_MAX
    hll_init(&sketch)
    for i in range(20_000):
        if hll_add(&sketch, <const char *>&i, sizeof(i)) == HLL_CORRUPT:
            break
        if i == 99 and (hll_encoding(room) != HLL_SPARSE or not hll_count(room, sketch.size, &counted)
                        or not 96 <= counted <= 104):
            reply_error(call.reply, "ERR TESTFAILED a sparse sketch counts wrong")
            return
    if hll_encoding(room) != HLL_DENSE or not hll_count(room, sketch.size, &counted) or not 19_350 <= counted <= 20_650:
        reply_error(call.reply, "ERR TESTFAILED a dense sketch counts wrong")
        return
    reply_ok(call.reply)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 5

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM
    rows[0] = key_row("pfadd", -2, grow | COMMAND_FAST, ACL_HYPERLOGLOG, KEY_RW | KEY_INSERT, pfadd_command)
    rows[1] = transaction_row("pfcount", -2, COMMAND_READONLY, ACL_HYPERLOGLOG, 1, -1, 1, KEY_RW | KEY_ACCESS,
                              pfcount_step)
    rows[1].handler = pfcount_command
    rows[2] = transaction_row("pfmerge", -2, grow, ACL_HYPERLOGLOG, 1, -1, 1, KEY_RW | KEY_ACCESS | KEY_INSERT,
                              pfmerge_step)
    rows[3] = key_row("pfdebug", 3, grow | COMMAND_ADMIN, ACL_HYPERLOGLOG, KEY_RW | KEY_ACCESS, pfdebug_command)
    rows[3].first_key = 2
    rows[3].last_key = 2
    rows[4] = connection_row("pfselftest", 1, COMMAND_ADMIN, ACL_HYPERLOGLOG, pfselftest_command)
    register_commands(rows, ROW_COUNT)
