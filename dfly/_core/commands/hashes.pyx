"""Hash commands on single fields; walks are in hash_walks.pyx, deadlines of fields in hash_ttl.pyx.

Order of checks, replies and events as Redis 7.0, and as Valkey 9 where fields have deadlines: such a field is
gone for every command as soon as it is due, except that HLEN counts it until it has been removed.
"""

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.commands.numbers cimport LONG_DOUBLE_TEXT_MAX, format_long_double, parse_long_double
from dfly._core.commands.value_digest cimport digest_mix, digest_xor, register_value_digest
from dfly._core.engine.command cimport (ACL_HASH, COMMAND_DENYOOM, COMMAND_FAST, COMMAND_READONLY,
                                        COMMAND_WRITE, KEY_ACCESS, KEY_DELETE, KEY_INSERT, KEY_RO, KEY_RW,
                                        KEY_UPDATE, call_int_argument, call_t, command_spec_t, key_row,
                                        register_commands, reply_wrong_type)
from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_HASH, delete_key, find_read, find_write,
                                         insert_key, notify, update_begin, update_end)
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_error, reply_int, reply_null, reply_ok,
                                    reply_t)
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.decimal_text cimport format_int64, parse_int64
from dfly._core.store.hash_map cimport (HASH_KEEP_DEADLINE, HASH_NO_DEADLINE, HASH_REVIVED, HASH_SHOW_ALL,
                                        HASH_UPDATED, hash_count, hash_entry_t, hash_find, hash_limits_t,
                                        hash_place_t, hash_remove, hash_reserve, hash_scan, hash_set,
                                        hash_set_result_t, hash_trim, hash_value)
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_HASH, object_is_container, object_pointer,
                                      object_set_container, object_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t, unlikely
from dfly._core.sys.sha1 cimport SHA1_SIZE

__abi__ = DFLY_ABI_STAMP

cdef extern from "math.h" nogil:
    bint isnan_long "isnan"(long double value) noexcept
    bint isinf_long "isinf"(long double value) noexcept


# ---- Shared with other modules -----------------------------------------------------------------

cdef hash_limits_t hash_limits(const scope_t *scope) noexcept nogil:
    cdef hash_limits_t limits
    limits.entries = <uint64_t>scope.shard.settings.hash_max_listpack_entries
    limits.bytes = <uint64_t>scope.shard.settings.hash_max_listpack_value
    return limits


cdef bint find_hash(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    found[0] = find_read(&call.scope, &call.key, ref)
    if unlikely(found[0] and not object_is_container(&ref.entry.value, TYPE_HASH)):
        reply_wrong_type(call.reply)
        return False
    return True


cdef bint find_hash_to_change(call_t *call, dash_ref_t *ref, bint *found) noexcept nogil:
    found[0] = find_write(&call.scope, &call.key, ref)
    if unlikely(found[0] and not object_is_container(&ref.entry.value, TYPE_HASH)):
        reply_wrong_type(call.reply)
        return False
    return True


cdef object_t *hash_begin(call_t *call, dash_ref_t *ref, bint found) noexcept nogil:
    if likely(found):
        update_begin(&call.scope, ref)
    else:
        insert_key(&call.scope, &call.key, ref)
        object_set_container(&ref.entry.value, TYPE_HASH, NULL)
    return &ref.entry.value


cdef void announce_revived(call_t *call, uint64_t revived) noexcept nogil:
    call.scope.shard.stats.expired_fields += revived
    notify(&call.scope, &call.key, NOTIFY_HASH, "hexpired")


cdef void finish_hash_removal(call_t *call, dash_ref_t *ref, const char *event) noexcept nogil:
    update_end(&call.scope, &call.key, NOTIFY_HASH, event)
    if unlikely(object_pointer(&ref.entry.value) == NULL):
        delete_key(&call.scope, &call.key, ref, NOTIFY_GENERIC, "del")


cdef void reply_field(reply_t *reply, const object_t *hash, slice_t field, int64_t now_ms) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef hash_place_t place
    cdef list_item_t item
    if hash_find(hash, field, now_ms, &place):
        hash_value(hash, &place, scratch, &item)
        reply_hash_item(reply, &item)
    else:
        reply_null(reply)


# ---- Setting -------------------------------------------------------------------------------------

cdef void reserve_for_arguments(call_t *call, object_t *hash) noexcept nogil:
    cdef uint64_t bytes = 0
    cdef uint32_t i
    for i in range(2, call.argc):
        bytes += call.argv[i].size
    hash_reserve(hash, call.argc - 2, bytes)


cdef inline bint set_fields(call_t *call, uint64_t *added) noexcept nogil:
    """HSET and HMSET; False after an error reply."""
    cdef hash_limits_t limits = hash_limits(&call.scope)
    cdef uint64_t revived = 0
    cdef hash_set_result_t result
    cdef char text[96]
    cdef dash_ref_t ref
    cdef object_t *hash
    cdef uint32_t i
    cdef bint found
    if unlikely(call.argc % 2 == 1):
        snprintf(text, sizeof(text), "ERR wrong number of arguments for '%s' command", call.spec.name)
        reply_error(call.reply, text)
        return False
    if not find_hash_to_change(call, &ref, &found):
        return False
    hash = hash_begin(call, &ref, found)
    if not found and <uint64_t>(call.argc - 2) // 2 <= limits.entries:
        reserve_for_arguments(call, hash)
    added[0] = 0
    for i in range(2, call.argc, 2):
        result = hash_set(hash, call.argv[i], call.argv[i + 1], HASH_NO_DEADLINE, call.scope.now_ms, &limits)
        added[0] += result != HASH_UPDATED
        revived += result == HASH_REVIVED
    if not found:
        hash_trim(hash)
    if unlikely(revived > 0):
        announce_revived(call, revived)
    update_end(&call.scope, &call.key, NOTIFY_HASH, "hset")
    return True


cdef void hset_command(call_t *call) noexcept nogil:
    cdef uint64_t added = 0
    if set_fields(call, &added):
        reply_int(call.reply, <int64_t>added)


cdef void hmset_command(call_t *call) noexcept nogil:
    cdef uint64_t added = 0
    if set_fields(call, &added):
        reply_ok(call.reply)


cdef bint store_value(call_t *call, dash_ref_t *ref, bint found, slice_t value, int64_t deadline,
                      const char *event) noexcept nogil:
    """Of the field argv[2]."""
    cdef hash_limits_t limits = hash_limits(&call.scope)
    cdef object_t *hash = hash_begin(call, ref, found)
    cdef hash_set_result_t result
    result = hash_set(hash, call.argv[2], value, deadline, call.scope.now_ms, &limits)
    if unlikely(result == HASH_REVIVED):
        announce_revived(call, 1)
    update_end(&call.scope, &call.key, NOTIFY_HASH, event)


cdef void hsetnx_command(call_t *call) noexcept nogil:
    cdef hash_place_t place
    cdef dash_ref_t ref
    cdef bint found
    if not find_hash_to_change(call, &ref, &found):
        return
    if found and hash_find(&ref.entry.value, call.argv[2], call.scope.now_ms, &place):
        reply_int(call.reply, 0)
        return
    store_value(call, &ref, found, call.argv[3], HASH_NO_DEADLINE, "hset")
    reply_int(call.reply, 1)


# ---- Numbers -------------------------------------------------------------------------------------

cdef bint current_value(call_t *call, dash_ref_t *ref, bint found, char *scratch, list_item_t *out) noexcept nogil:
    """The value of the field argv[2]; False: it has none."""
    cdef hash_place_t place
    if not found or not hash_find(&ref.entry.value, call.argv[2], call.scope.now_ms, &place):
        return False
    hash_value(&ref.entry.value, &place, scratch, out)
    return True


cdef void hincrby_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef char text[OBJECT_SCRATCH]
    cdef list_item_t item
    cdef slice_t stored
    cdef dash_ref_t ref
    cdef int64_t value = 0
    cdef int64_t delta
    cdef bint found
    if not call_int_argument(call, 3, &delta) or not find_hash_to_change(call, &ref, &found):
        return
    if current_value(call, &ref, found, scratch, &item):
        if item.data == NULL:
            value = item.integer
        elif not parse_int64(item.data, item.size, &value):
            reply_error(call.reply, "ERR hash value is not an integer")
            return
    if unlikely((delta < 0 and value < INT64_MIN - delta) or (delta > 0 and value > INT64_MAX - delta)):
        reply_error(call.reply, "ERR increment or decrement would overflow")
        return
    value += delta
    stored.data = text
    stored.size = format_int64(value, text)
    store_value(call, &ref, found, stored, HASH_KEEP_DEADLINE, "hincrby")
    reply_int(call.reply, value)


cdef void hincrbyfloat_command(call_t *call) noexcept nogil:
    cdef char text[LONG_DOUBLE_TEXT_MAX]
    cdef char scratch[OBJECT_SCRATCH]
    cdef list_item_t item
    cdef slice_t stored
    cdef dash_ref_t ref
    cdef long double value = 0
    cdef long double delta
    cdef bint found
    if not parse_long_double(call.argv[3].data, call.argv[3].size, &delta):
        reply_error(call.reply, "ERR value is not a valid float")
        return
    if isnan_long(delta) or isinf_long(delta):
        reply_error(call.reply, "ERR value is NaN or Infinity")
        return
    if not find_hash_to_change(call, &ref, &found):
        return
    if current_value(call, &ref, found, scratch, &item):
        if item.data == NULL:
            value = <long double>item.integer
        elif not parse_long_double(item.data, item.size, &value):
            reply_error(call.reply, "ERR hash value is not a float")
            return
    value += delta
    if isnan_long(value) or isinf_long(value):
        reply_error(call.reply, "ERR increment would produce NaN or Infinity")
        return
    stored.data = text
    stored.size = format_long_double(value, text)
    store_value(call, &ref, found, stored, HASH_KEEP_DEADLINE, "hincrbyfloat")
    reply_bulk(call.reply, stored.data, stored.size)


# ---- Reading -------------------------------------------------------------------------------------

cdef void hget_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if not find_hash(call, &ref, &found):
        return
    if found:
        reply_field(call.reply, &ref.entry.value, call.argv[2], call.scope.now_ms)
    else:
        reply_null(call.reply)


cdef void hmget_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef uint32_t i
    cdef bint found
    if not find_hash(call, &ref, &found):
        return
    reply_array(call.reply, call.argc - 2)
    for i in range(2, call.argc):
        if found:
            reply_field(call.reply, &ref.entry.value, call.argv[i], call.scope.now_ms)
        else:
            reply_null(call.reply)


cdef void hlen_command(call_t *call) noexcept nogil:
    cdef dash_ref_t ref
    cdef bint found
    if find_hash(call, &ref, &found):
        reply_int(call.reply, <int64_t>hash_count(&ref.entry.value) if found else 0)


cdef void hexists_command(call_t *call) noexcept nogil:
    cdef hash_place_t place
    cdef dash_ref_t ref
    cdef bint found
    if find_hash(call, &ref, &found):
        reply_int(call.reply, found and hash_find(&ref.entry.value, call.argv[2], call.scope.now_ms, &place))


cdef void hstrlen_command(call_t *call) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef char text[LIST_ITEM_SCRATCH]
    cdef list_item_t item
    cdef dash_ref_t ref
    cdef bint found
    if not find_hash(call, &ref, &found):
        return
    if current_value(call, &ref, found, scratch, &item):
        reply_int(call.reply, <int64_t>list_item_text(&item, text).size)
    else:
        reply_int(call.reply, 0)


# ---- Removing ------------------------------------------------------------------------------------

cdef void hdel_command(call_t *call) noexcept nogil:
    cdef hash_place_t place
    cdef dash_ref_t ref
    cdef object_t *hash
    cdef int64_t removed = 0
    cdef uint32_t i
    cdef bint found
    if not find_hash_to_change(call, &ref, &found):
        return
    if not found:
        reply_int(call.reply, 0)
        return
    hash = &ref.entry.value
    for i in range(2, call.argc):
        if not hash_find(hash, call.argv[i], call.scope.now_ms, &place):
            continue
        if removed == 0:
            update_begin(&call.scope, &ref)
        hash_remove(hash, &place)
        removed += 1
        if object_pointer(hash) == NULL:
            break
    if removed > 0:
        finish_hash_removal(call, &ref, "hdel")
    reply_int(call.reply, removed)


# ---- DEBUG DIGEST --------------------------------------------------------------------------------

cdef void digest_entry(const hash_entry_t *entry, void *context) noexcept nogil:
    cdef unsigned char mixed[SHA1_SIZE]
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text
    cdef int i
    for i in range(SHA1_SIZE):
        mixed[i] = 0
    text = list_item_text(&entry.field, scratch)
    digest_mix(mixed, text.data, text.size)
    text = list_item_text(&entry.value, scratch)
    digest_mix(mixed, text.data, text.size)
    digest_xor(<unsigned char *>context, mixed, SHA1_SIZE)


cdef void digest_hash(unsigned char *digest, const object_t *value) noexcept nogil:
    cdef uint64_t cursor = 0
    while True:
        cursor = hash_scan(value, cursor, HASH_SHOW_ALL, digest_entry, digest)
        if cursor == 0:
            return


register_value_digest(TYPE_HASH, digest_hash)


# ---- Rows ------------------------------------------------------------------------------------

cdef enum:
    ROW_COUNT = 11

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Registers the family's rows."""
    cdef uint64_t read = COMMAND_READONLY | COMMAND_FAST
    cdef uint64_t grow = COMMAND_WRITE | COMMAND_DENYOOM | COMMAND_FAST
    cdef uint64_t look = KEY_RO | KEY_ACCESS
    cdef uint64_t count = KEY_RW | KEY_ACCESS | KEY_UPDATE
    rows[0] = key_row("hset", -4, grow, ACL_HASH, KEY_RW | KEY_UPDATE, hset_command)
    rows[1] = key_row("hmset", -4, grow, ACL_HASH, KEY_RW | KEY_UPDATE, hmset_command)
    rows[2] = key_row("hsetnx", 4, grow, ACL_HASH, KEY_RW | KEY_INSERT, hsetnx_command)
    rows[3] = key_row("hincrby", 4, grow, ACL_HASH, count, hincrby_command)
    rows[4] = key_row("hincrbyfloat", 4, grow, ACL_HASH, count, hincrbyfloat_command)
    rows[5] = key_row("hget", 3, read, ACL_HASH, look, hget_command)
    rows[6] = key_row("hmget", -3, read, ACL_HASH, look, hmget_command)
    rows[7] = key_row("hlen", 2, read, ACL_HASH, KEY_RO, hlen_command)
    rows[8] = key_row("hexists", 3, read, ACL_HASH, KEY_RO, hexists_command)
    rows[9] = key_row("hstrlen", 3, read, ACL_HASH, KEY_RO, hstrlen_command)
    rows[10] = key_row("hdel", -3, COMMAND_WRITE | COMMAND_FAST, ACL_HASH, KEY_RW | KEY_DELETE, hdel_command)
    register_commands(rows, ROW_COUNT)
