"""Implementation of DEBUG POPULATE: see populate.pxd."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from dfly._core.commands.sets cimport set_limits_of
from dfly._core.commands.zsets cimport zset_limits_of
from dfly._core.engine.command cimport (TRANSACTION_DONE, TRANSACTION_YIELD, reply_subcommand_syntax,
                                        reply_syntax_error, slice_equals, transaction_t)
from dfly._core.engine.database cimport NOTIFY_GENERIC, find_peek, insert_key, update_end
from dfly._core.engine.shard cimport scope_t, shard_of, shard_t
from dfly._core.engine.transaction cimport hop_on_all_shards, transaction_scope
from dfly._core.resp.reply cimport reply_error, reply_ok
from dfly._core.store.block_list cimport list_limits, list_limits_t, list_push
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hash_map cimport HASH_NO_DEADLINE, HASH_SHOW_ALL, hash_limits_t, hash_set
from dfly._core.store.id_index cimport stream_id
from dfly._core.store.member_set cimport set_add, set_limits_t
from dfly._core.store.object cimport (TYPE_HASH, TYPE_LIST, TYPE_SET, TYPE_STREAM, TYPE_STRING, TYPE_ZSET, key_init,
                                      key_t, object_root, object_set_container, object_set_string, object_t,
                                      object_type_t,
                                      parse_int64)
from dfly._core.store.sorted_set cimport zset_add, zset_limits_t
from dfly._core.store.stream cimport stream_append, stream_limits_t, stream_new, stream_t
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    # Places in tx.numbers.
    NEXT = 0                     # key
    COUNT = 1
    SIZE = 2                     # of a value or an element, -1: as it comes
    TYPE = 3
    ELEMENTS = 4
    RANDOM = 5
    SLICE = 1000                 # elements between two chances for others
    PREFIX_MAX = 512
    SIZE_MAX_ = 536870912
    ELEMENTS_MAX = 100_000_000
    LEAST_TEXT = 32              # bytes of any element's own text


# ---- Arguments ---------------------------------------------------------------------------------

cdef bint parse_type(slice_t word, int64_t *out) noexcept nogil:
    if slice_equals(word, "string"):
        out[0] = TYPE_STRING
    elif slice_equals(word, "list"):
        out[0] = TYPE_LIST
    elif slice_equals(word, "set"):
        out[0] = TYPE_SET
    elif slice_equals(word, "zset"):
        out[0] = TYPE_ZSET
    elif slice_equals(word, "hash"):
        out[0] = TYPE_HASH
    else:
        out[0] = TYPE_STREAM
        return slice_equals(word, "stream")
    return True


cdef bint parse_number(transaction_t *tx, slice_t word, int64_t most, int64_t *out) noexcept nogil:
    if parse_int64(word.data, word.size, out) and 0 <= out[0] <= most:
        return True
    reply_error(&tx.reply, "ERR value is out of range, must be positive")
    return False


cdef bint parse(transaction_t *tx) noexcept nogil:
    cdef uint64_t i = 5
    tx.numbers[SIZE] = -1
    tx.numbers[TYPE] = TYPE_STRING
    tx.numbers[ELEMENTS] = 1
    if not parse_number(tx, tx.argv[2], 1 << 62, &tx.numbers[COUNT]):
        return False
    if tx.argc > 3 and tx.argv[3].size > PREFIX_MAX:
        reply_syntax_error(&tx.reply)
        return False
    if tx.argc > 4 and not parse_number(tx, tx.argv[4], SIZE_MAX_, &tx.numbers[SIZE]):
        return False
    while i < tx.argc:
        if slice_equals(tx.argv[i], "rand"):
            tx.numbers[RANDOM] = 1
        elif slice_equals(tx.argv[i], "type") and i + 1 < tx.argc and parse_type(tx.argv[i + 1], &tx.numbers[TYPE]):
            i += 1
        elif slice_equals(tx.argv[i], "elements") and i + 1 < tx.argc:
            i += 1
            if not parse_number(tx, tx.argv[i], ELEMENTS_MAX, &tx.numbers[ELEMENTS]) or tx.numbers[ELEMENTS] == 0:
                if tx.reply.size == 0:
                    reply_error(&tx.reply, "ERR value is out of range, must be positive")
                return False
        else:
            reply_subcommand_syntax(&tx.reply, tx.argv[1], "DEBUG")
            return False
        i += 1
    return True


# ---- Values ------------------------------------------------------------------------------------

cdef void write_text(char *out, size_t size, bint random, const char *word, int64_t number,
                     slice_t *text) noexcept nogil:
    """"<word>:<number>", padded with zero bytes as Redis does, or with letters; size 0: not padded, nor cut."""
    cdef char own[LEAST_TEXT]
    cdef size_t own_size = <size_t>snprintf(own, sizeof(own), "%s:%lld", word, <long long>number)
    cdef size_t i
    text.data = out
    text.size = size if size > 0 else own_size
    memset(out, 0, text.size)
    memcpy(out, own, min(own_size, text.size))
    if random:
        for i in range(own_size, text.size):
            out[i] = <char>(c'a' + random_u64() % 26)


cdef void fill_stream(object_t *value, const transaction_t *tx, const scope_t *scope, char *room,
                      size_t size) noexcept nogil:
    cdef stream_t *stream = stream_new()
    cdef stream_limits_t limits
    cdef slice_t texts[2]
    cdef int64_t i
    limits.bytes = <uint64_t>scope.shard.settings.stream_node_max_bytes
    limits.entries = <uint64_t>scope.shard.settings.stream_node_max_entries
    object_set_container(value, TYPE_STREAM, stream)
    texts[0].data = "field"
    texts[0].size = 5
    for i in range(tx.numbers[ELEMENTS]):
        write_text(room, size, tx.numbers[RANDOM] != 0, "element", i, &texts[1])
        stream_append(stream, stream_id(<uint64_t>i + 1, 0), texts, 1, &limits)


cdef void fill_container(object_t *value, const transaction_t *tx, const scope_t *scope, char *room,
                         size_t size) noexcept nogil:
    cdef list_limits_t of_lists = list_limits(scope.shard.settings.list_max_listpack_size)
    cdef set_limits_t of_sets = set_limits_of(scope)
    cdef zset_limits_t of_zsets = zset_limits_of(scope)
    cdef hash_limits_t of_hashes
    cdef int64_t type = tx.numbers[TYPE]
    cdef char field[LEAST_TEXT]
    cdef slice_t name
    cdef slice_t text
    cdef int64_t i
    of_hashes.entries = <uint64_t>scope.shard.settings.hash_max_listpack_entries
    of_hashes.bytes = <uint64_t>scope.shard.settings.hash_max_listpack_value
    object_set_container(value, <object_type_t>type, NULL)
    for i in range(tx.numbers[ELEMENTS]):
        write_text(room, size, tx.numbers[RANDOM] != 0, "element", i, &text)
        if type == TYPE_LIST:
            list_push(object_root(value), text.data, text.size, False, &of_lists)
        elif type == TYPE_SET:
            set_add(value, text.data, text.size, &of_sets)
        elif type == TYPE_ZSET:
            zset_add(value, text.data, text.size, <double>i, &of_zsets)
        else:
            write_text(field, 0, False, "field", i, &name)
            hash_set(value, name, text, HASH_NO_DEADLINE, HASH_SHOW_ALL, &of_hashes)


cdef void fill(object_t *value, const transaction_t *tx, const scope_t *scope, char *room,
               int64_t number) noexcept nogil:
    cdef size_t size = <size_t>max(tx.numbers[SIZE], <int64_t>0)
    cdef slice_t text
    if tx.numbers[TYPE] == TYPE_STRING:
        write_text(room, size, tx.numbers[RANDOM] != 0, "value", number, &text)
        object_set_string(value, text.data, text.size if tx.numbers[SIZE] != 0 else 0)
    elif tx.numbers[TYPE] == TYPE_STREAM:
        fill_stream(value, tx, scope, room, size)
    else:
        # Members of sets must differ: not cut below their own text.
        fill_container(value, tx, scope, room, size if size == 0 or size >= LEAST_TEXT else 0)


cdef int64_t keys_of_slice(const transaction_t *tx) noexcept nogil:
    return max(SLICE // tx.numbers[ELEMENTS], <int64_t>1)


cdef void populate_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef int64_t end = min(tx.numbers[NEXT] + keys_of_slice(tx), tx.numbers[COUNT])
    cdef char *room = <char *>net_alloc(<size_t>max(tx.numbers[SIZE], <int64_t>0) + LEAST_TEXT)
    cdef char name[PREFIX_MAX + 32]
    cdef int64_t i = tx.numbers[NEXT]
    cdef slice_t prefix
    cdef scope_t scope
    cdef dash_ref_t ref
    cdef key_t key
    cdef size_t size
    prefix.data = "key"
    prefix.size = 3
    if tx.argc > 3:
        prefix = tx.argv[3]
    memcpy(name, prefix.data, prefix.size)
    transaction_scope(tx, shard, &scope)
    while i < end:
        size = prefix.size + <size_t>snprintf(name + prefix.size, 32, ":%lld", <long long>i)
        key_init(&key, name, size)
        if shard_of(key.hash, tx.shard_count) == shard.index and not find_peek(&scope, &key, &ref):
            insert_key(&scope, &key, &ref)
            fill(&ref.entry.value, tx, &scope, room, i)
            update_end(&scope, &key, NOTIFY_GENERIC, NULL)
        i += 1
    net_free(room)


cdef int debug_populate(transaction_t *tx) noexcept nogil:
    if tx.stage == 0:
        if not parse(tx):
            return TRANSACTION_DONE
        tx.stage = 1
    elif tx.stage == 1:
        tx.numbers[NEXT] += keys_of_slice(tx)
        tx.stage = 2
        return TRANSACTION_YIELD
    if tx.numbers[NEXT] >= tx.numbers[COUNT]:
        reply_ok(&tx.reply)
        return TRANSACTION_DONE
    tx.stage = 1
    return hop_on_all_shards(tx, populate_hop)
