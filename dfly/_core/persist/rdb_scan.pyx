"""Skipping encoded values: see rdb_scan.pxd."""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.persist.rdb_io cimport (RDB_HASH, RDB_HASH_LISTPACK, RDB_HASH_TTL, RDB_HASH_TTL_EARLY,
                                        RDB_HASH_TTL_LISTPACK, RDB_HASH_TTL_LISTPACK_EARLY, RDB_HASH_ZIPLIST,
                                        RDB_HASH_ZIPMAP, RDB_LIST, RDB_LIST_QUICKLIST, RDB_LIST_QUICKLIST_2,
                                        RDB_LIST_ZIPLIST, RDB_MODULE_2, RDB_SET, RDB_SET_DEADLINES,
                                        RDB_SET_INTSET, RDB_SET_LISTPACK, RDB_STREAM, RDB_STREAM_2, RDB_STREAM_3,
                                        RDB_STRING, RDB_STRING_MAX, RDB_ZSET, RDB_ZSET_2, RDB_ZSET_LISTPACK,
                                        RDB_ZSET_ZIPLIST)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    LENGTH_32 = 0x80
    LENGTH_64 = 0x81
    LENGTH_SPECIAL = 0xC0
    SPECIAL_LZF = 3
    # What follows in a module's value.
    MODULE_END = 0
    MODULE_SIGNED = 1
    MODULE_UNSIGNED = 2
    MODULE_FLOAT = 3
    MODULE_DOUBLE = 4
    MODULE_STRING = 5
    SCORE_TEXT_SPECIAL = 253         # and above: no text follows
    STREAM_ID = 16
    TIME = 8


cdef bint scan_bytes(scan_t *self, uint64_t size) noexcept nogil:
    cdef uint64_t here = <uint64_t>(self.end - self.p)
    if likely(size <= here):
        self.p += size
        return True
    if size - here > self.beyond:
        self.error = "unexpected end of the file"
    else:
        self.missing = size - here
    return False


cdef inline bint scan_byte(scan_t *self, uint8_t *out) noexcept nogil:
    if unlikely(not scan_bytes(self, 1)):
        return False
    out[0] = (self.p - 1)[0]
    return True


cdef bint read_length(scan_t *self, uint64_t *out, int *special) noexcept nogil:
    cdef uint8_t first = 0
    cdef uint8_t count
    cdef uint8_t i
    special[0] = -1
    if not scan_byte(self, &first):
        return False
    if first < 0x40:
        out[0] = first
        return True
    if first < LENGTH_32:
        if not scan_bytes(self, 1):
            return False
        out[0] = <uint64_t>(first & 0x3F) << 8 | (self.p - 1)[0]
        return True
    if first == LENGTH_32 or first == LENGTH_64:
        count = 4 if first == LENGTH_32 else 8
        if not scan_bytes(self, count):
            return False
        out[0] = 0
        for i in range(count):
            out[0] = out[0] << 8 | (self.p - count)[i]
        return True
    if first < LENGTH_SPECIAL:
        self.error = "unknown kind of length"
        return False
    special[0] = first & 0x3F
    return True


cdef bint scan_length(scan_t *self, uint64_t *out) noexcept nogil:
    cdef int special
    if not read_length(self, out, &special):
        return False
    if special >= 0:
        self.error = "a special encoding where a length belongs"
        return False
    return True


cdef bint scan_string(scan_t *self) noexcept nogil:
    cdef uint64_t size = 0
    cdef uint64_t unpacked = 0
    cdef int special
    if not read_length(self, &size, &special):
        return False
    if special >= 0:
        if special < SPECIAL_LZF:
            return scan_bytes(self, <uint64_t>1 << special)
        if special != SPECIAL_LZF:
            self.error = "unknown encoding of a string"
            return False
        if not scan_length(self, &size) or not scan_length(self, &unpacked):
            return False
        if unpacked > RDB_STRING_MAX:
            self.error = "a string that is too long"
            return False
    if size > RDB_STRING_MAX:
        self.error = "a string that is too long"
        return False
    return scan_bytes(self, size)


cdef bint scan_count(scan_t *self, uint64_t least, uint64_t *out) noexcept nogil:
    """A number of elements of at least so many bytes: more than the file can hold is refused at once."""
    if not scan_length(self, out):
        return False
    if out[0] > (<uint64_t>(self.end - self.p) + self.beyond) // least:
        self.error = "more elements announced than the file can hold"
        return False
    return True


cdef bint scan_strings(scan_t *self, uint64_t each, uint64_t extra) noexcept nogil:
    """A count, and for each element so many strings and bytes."""
    cdef uint64_t count = 0
    if not scan_count(self, each + extra, &count):
        return False
    while count > 0:
        for _ in range(each):
            if not scan_string(self):
                return False
        if extra != 0 and not scan_bytes(self, extra):
            return False
        count -= 1
    return True


cdef bint scan_zset_text(scan_t *self) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint8_t size = 0
    if not scan_count(self, 2, &count):
        return False
    while count > 0:
        if not scan_string(self) or not scan_byte(self, &size):
            return False
        if size < SCORE_TEXT_SPECIAL and not scan_bytes(self, size):
            return False
        count -= 1
    return True


cdef bint scan_quicklist_2(scan_t *self) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint64_t kind = 0
    if not scan_count(self, 2, &count):
        return False
    while count > 0:
        if not scan_length(self, &kind) or not scan_string(self):
            return False
        count -= 1
    return True


cdef bint scan_hash_ttl(scan_t *self, bint has_earliest) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint64_t ttl = 0
    if (has_earliest and not scan_bytes(self, TIME)) or not scan_count(self, 3, &count):
        return False
    while count > 0:
        if not scan_length(self, &ttl) or not scan_string(self) or not scan_string(self):
            return False
        count -= 1
    return True


cdef bint scan_lengths(scan_t *self, int count) noexcept nogil:
    cdef uint64_t ignored = 0
    while count > 0:
        if not scan_length(self, &ignored):
            return False
        count -= 1
    return True


cdef bint scan_group(scan_t *self, int type) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint64_t pending = 0
    # Name, last id; entries read.
    if not scan_string(self) or not scan_lengths(self, 2 if type == RDB_STREAM else 3):
        return False
    if not scan_count(self, STREAM_ID + TIME + 1, &pending):
        return False
    while pending > 0:
        if not scan_bytes(self, STREAM_ID + TIME) or not scan_lengths(self, 1):
            return False
        pending -= 1
    if not scan_count(self, 1 + TIME + 1, &count):
        return False
    while count > 0:
        if not scan_string(self) or not scan_bytes(self, TIME if type != RDB_STREAM_3 else 2 * TIME):
            return False
        if not scan_count(self, STREAM_ID, &pending) or not scan_bytes(self, pending * STREAM_ID):
            return False
        count -= 1
    return True


cdef bint scan_stream(scan_t *self, int type) noexcept nogil:
    cdef uint64_t groups = 0
    # Blocks; then length, last id, and since 7.0 first id, largest deleted id, entries added.
    if not scan_strings(self, 2, 0) or not scan_lengths(self, 3 if type == RDB_STREAM else 8):
        return False
    if not scan_count(self, 5, &groups):
        return False
    while groups > 0:
        if not scan_group(self, type):
            return False
        groups -= 1
    return True


cdef bint scan_module_fields(scan_t *self) noexcept nogil:
    cdef uint64_t kind = 0
    while scan_length(self, &kind):
        if kind == MODULE_END:
            return True
        if kind == MODULE_SIGNED or kind == MODULE_UNSIGNED:
            if not scan_lengths(self, 1):
                return False
        elif kind == MODULE_FLOAT or kind == MODULE_DOUBLE:
            if not scan_bytes(self, 4 if kind == MODULE_FLOAT else 8):
                return False
        elif kind == MODULE_STRING:
            if not scan_string(self):
                return False
        else:
            self.error = "unknown kind of a module's field"
            return False
    return False


cdef bint scan_value(scan_t *self, int type, bint is_valkey) noexcept nogil:
    cdef uint64_t id = 0
    if type == RDB_STRING:
        return scan_string(self)
    if type == RDB_LIST or type == RDB_SET or type == RDB_LIST_QUICKLIST:
        return scan_strings(self, 1, 0)
    if type == RDB_ZSET:
        return scan_zset_text(self)
    if type == RDB_HASH:
        return scan_strings(self, 2, 0)
    if type == RDB_SET_DEADLINES:
        return scan_strings(self, 1, TIME)
    if type == RDB_ZSET_2:
        return scan_strings(self, 1, 8)
    if (type == RDB_HASH_ZIPMAP or type == RDB_LIST_ZIPLIST or type == RDB_SET_INTSET
            or type == RDB_ZSET_ZIPLIST or type == RDB_HASH_ZIPLIST or type == RDB_HASH_LISTPACK
            or type == RDB_ZSET_LISTPACK or type == RDB_SET_LISTPACK or type == RDB_HASH_TTL_LISTPACK_EARLY):
        return scan_string(self)
    if type == RDB_LIST_QUICKLIST_2:
        return scan_quicklist_2(self)
    if type == RDB_STREAM or type == RDB_STREAM_2 or type == RDB_STREAM_3:
        return scan_stream(self, type)
    if type == RDB_HASH_TTL_EARLY:
        return scan_strings(self, 2, TIME) if is_valkey else scan_hash_ttl(self, False)
    if type == RDB_HASH_TTL:
        return scan_hash_ttl(self, True)
    if type == RDB_HASH_TTL_LISTPACK:
        return scan_bytes(self, TIME) and scan_string(self)
    if type == RDB_MODULE_2:
        return scan_length(self, &id) and scan_module_fields(self)
    self.error = "unknown type of a value"
    return False


cdef void module_name(uint64_t id, char *out) noexcept nogil:
    cdef const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    cdef int i
    id >>= 10
    for i in range(9):
        out[8 - i] = letters[id & 63]
        id >>= 6
    out[9] = 0
