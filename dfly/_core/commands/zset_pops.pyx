"""ZMPOP, and the sorted set commands that wait: BZPOPMIN, BZPOPMAX, BZMPOP. All but the type is in pops."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport strtod

from dfly._core.commands.long_reads cimport long_read_t
from dfly._core.commands.pops cimport (POP_BARE, bmpop_keys, bmpop_step, bpop_step, mpop_keys, mpop_step,
                                       pop_family_init, pop_family_t, pop_look_t, read_bulk, read_header)
from dfly._core.commands.zsets cimport (ZSET_ABSENT, ZSET_WRONG_TYPE, zset_limits_of, zset_lookup_write, zset_pop,
                                        zset_pop_begin)
from dfly._core.engine.command cimport (ACL_BLOCKING, ACL_SORTEDSET, COMMAND_BLOCKING, COMMAND_FAST,
                                        COMMAND_MOVABLE_KEYS, COMMAND_NOSCRIPT, COMMAND_WRITE, KEY_ACCESS, KEY_DELETE,
                                        KEY_RW, command_spec_t, register_commands, transaction_row, transaction_t)
from dfly._core.engine.database cimport NOTIFY_ZSET, insert_key, update_begin, update_end
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport TYPE_ZSET, key_t, object_set_container, object_t
from dfly._core.store.sorted_set cimport is_zset, zset_count, zset_find, zset_insert, zset_limits_t, zset_place_t
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef pop_family_t ZSETS


cdef pop_look_t look(scope_t *scope, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    return <pop_look_t>zset_lookup_write(scope, key, &ref)


cdef void pop(scope_t *scope, const key_t *key, uint64_t count, bint lowest, reply_t *reply) noexcept nogil:
    cdef bint nested = count != POP_BARE
    cdef dash_ref_t ref
    zset_lookup_write(scope, key, &ref)
    reply_array(reply, 2 if nested else 3)
    reply_bulk(reply, key.data, key.size)
    if nested:
        count = min(count, zset_count(&ref.entry.value))
        reply_array(reply, count)
    zset_pop(scope, key, &ref, count if nested else 1, not lowest, nested, reply)


cdef void begin(scope_t *scope, const key_t *key, uint64_t count, bint lowest, long_read_t *read) noexcept nogil:
    cdef dash_ref_t ref
    zset_lookup_write(scope, key, &ref)
    zset_pop_begin(&ref.entry.value, min(count, zset_count(&ref.entry.value)), not lowest, True, read)


cdef const char *read_score(const char *text, double *out) noexcept nogil:
    """A bulk string, or RESP3's double."""
    cdef int64_t size
    text = text + 1 if text[0] == c',' else read_header(text, &size)
    out[0] = strtod(text, NULL)
    while text[0] != c'\n':
        text += 1
    return text + 1


cdef const char *read_entry(const char *text, slice_t *member, double *score) noexcept nogil:
    """A member and its score, with or without an array around them."""
    cdef int64_t ignored
    if text[0] == c'*':
        text = read_header(text, &ignored)
    return read_score(read_bulk(text, member), score)


cdef void put_back(scope_t *scope, const key_t *key, const char *text, int64_t count, bint lowest) noexcept nogil:
    cdef zset_limits_t limits = zset_limits_of(scope)
    cdef slice_t member
    cdef zset_place_t place
    cdef double score
    cdef dash_ref_t ref
    cdef int found = zset_lookup_write(scope, key, &ref)
    cdef bint is_changed = False
    if found == ZSET_WRONG_TYPE:
        return
    if found == ZSET_ABSENT:
        insert_key(scope, key, &ref)
        object_set_container(&ref.entry.value, TYPE_ZSET, NULL)
    else:
        update_begin(scope, &ref)
    while count > 0:
        text = read_entry(text, &member, &score)
        # One that is there again was added since: its score is newer.
        if not zset_find(&ref.entry.value, member.data, member.size, &place):
            zset_insert(&ref.entry.value, &place, member.data, member.size, score, &limits)
            is_changed = True
        count -= 1
    if is_changed:
        update_end(scope, key, NOTIFY_ZSET, "zadd")


cdef bint accepts(const object_t *value, const void *wanted, uint32_t position) noexcept nogil:
    return is_zset(value)


ZSETS.first_word = "min"
ZSETS.last_word = "max"
ZSETS.look = look
ZSETS.pop = pop
ZSETS.begin = begin
ZSETS.is_cut = False
ZSETS.put_back = put_back
pop_family_init(&ZSETS, accepts)


cdef int zmpop_step(transaction_t *tx) noexcept nogil:
    return mpop_step(tx, &ZSETS)


cdef int bzpopmin_step(transaction_t *tx) noexcept nogil:
    return bpop_step(tx, &ZSETS, True)


cdef int bzpopmax_step(transaction_t *tx) noexcept nogil:
    return bpop_step(tx, &ZSETS, False)


cdef int bzmpop_step(transaction_t *tx) noexcept nogil:
    return bmpop_step(tx, &ZSETS)


# ---- Rows --------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 4

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t take = COMMAND_WRITE | COMMAND_NOSCRIPT | COMMAND_FAST | COMMAND_BLOCKING
    cdef uint64_t keys = KEY_RW | KEY_ACCESS | KEY_DELETE
    cdef uint64_t acl = ACL_SORTEDSET | ACL_BLOCKING
    rows[0] = transaction_row("zmpop", -4, COMMAND_WRITE | COMMAND_MOVABLE_KEYS, ACL_SORTEDSET, 0, 0, 0, keys,
                              zmpop_step)
    rows[0].get_keys = mpop_keys
    rows[1] = transaction_row("bzpopmin", -3, take, acl, 1, -2, 1, keys, bzpopmin_step)
    rows[2] = transaction_row("bzpopmax", -3, take, acl, 1, -2, 1, keys, bzpopmax_step)
    rows[3] = transaction_row("bzmpop", -5, COMMAND_WRITE | COMMAND_BLOCKING | COMMAND_MOVABLE_KEYS, acl, 0, 0, 0,
                              keys, bzmpop_step)
    rows[3].get_keys = bmpop_keys
    register_commands(rows, ROW_COUNT)
