"""The hash type: fields with values, compact while small.

A hash is a container object (store/object.pxd) of TYPE_HASH; its encoding says what the root points to:

    HASH_LISTPACK  a listpack: field, value, field, value ... ("listpack"). Fields have no deadlines.
    HASH_TABLE     a dash_t whose entries are field and value ("hashtable"). Fields up to 15 bytes and values up
                   to 17 ASCII characters lie in the entry; an entry may have a deadline, as a key has.

A hash becomes a table when it outgrows its limits or when a field gets a deadline, and stays one. The root is
NULL exactly while there are no fields.

A field whose deadline has passed stays until hash_expire removes it, but nobody sees it: functions that
take now_ms leave out what is due by then (HASH_SHOW_ALL: nothing). hash_count alone counts it.

Ownership: the object owns listpack or table. Places and items borrow: valid until the hash changes. Bytes
given to a hash must not lie in it.

To save a hash: hash_scan until the cursor is 0, or hash_listpack for its bytes as they are. To load one:
object_set_container(&value, TYPE_HASH, NULL) and hash_set for each field, or hash_adopt_listpack; a key that
got a hash with deadlines is then told to members_track (engine/member_expiry.pxd).
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport dash_ref_t, dash_t
from dfly._core.store.object cimport OBJECT_SCRATCH, object_encoding, object_pointer, object_t
from dfly._core.sys.base cimport likely, slice_t

cdef enum hash_encoding_t:
    HASH_LISTPACK = 0
    HASH_TABLE = 1

cdef enum:
    HASH_NO_DEADLINE = -1
    HASH_KEEP_DEADLINE = -2      # for hash_set: what the field has
    HASH_SHOW_ALL = -1           # as now_ms

cdef enum hash_set_result_t:
    HASH_ADDED = 0
    HASH_UPDATED = 1
    HASH_REVIVED = 2             # it was there, but due: to the client it is new

cdef struct hash_limits_t:
    # How large a listpack may get.
    uint64_t entries
    uint64_t bytes               # of its longest field or value

cdef struct hash_place_t:
    # Where a field is.
    const uint8_t *field         # HASH_LISTPACK: its element and that of its value
    const uint8_t *value
    dash_ref_t ref               # HASH_TABLE

cdef struct hash_entry_t:
    # A field as readers get it. Items may point into the texts here, so it must not be copied.
    list_item_t field
    list_item_t value
    int64_t deadline             # ms since the epoch, or HASH_NO_DEADLINE
    char field_text[OBJECT_SCRATCH]
    char value_text[OBJECT_SCRATCH]

ctypedef void (*hash_visit_t)(const hash_entry_t *entry, void *context) noexcept nogil

# Looking up. `scratch` (OBJECT_SCRATCH bytes) and `out` are the caller's.
cdef bint hash_find(const object_t *self, slice_t field, int64_t now_ms, hash_place_t *out) noexcept nogil
cdef void hash_value(const object_t *self, const hash_place_t *place, char *scratch, list_item_t *out) noexcept nogil
cdef int64_t hash_deadline(const object_t *self, const hash_place_t *place) noexcept nogil

# Changing.
# Adds a field or replaces its value. deadline: HASH_NO_DEADLINE takes away what it has.
cdef hash_set_result_t hash_set(object_t *self, slice_t field, slice_t value, int64_t deadline, int64_t now_ms,
                                const hash_limits_t *limits) noexcept nogil
# Of an existing field; the place ends.
cdef void hash_set_deadline(object_t *self, slice_t field, hash_place_t *place, int64_t deadline) noexcept nogil
cdef void hash_remove(object_t *self, hash_place_t *place) noexcept nogil
# Removes at most `budget` fields that are due; returns how many.
cdef uint64_t hash_expire(object_t *self, int64_t now_ms, uint64_t budget) noexcept nogil
# The earliest deadline or something before it; HASH_NO_DEADLINE: no field has one.
cdef int64_t hash_next_deadline(const object_t *self) noexcept nogil
# Before many hash_set on a new hash: a block with room for `bytes` of fields and values. Afterwards hash_trim.
cdef void hash_reserve(object_t *self, uint64_t elements, uint64_t bytes) noexcept nogil
cdef void hash_trim(object_t *self) noexcept nogil
cdef void hash_to_table(object_t *self) noexcept nogil

# Walking. Each call visits some fields and returns the next cursor, 0 at the end; begin with 0. A field that is
# there all the time is visited, whatever changes between the calls. The visitor may not change the hash.
cdef uint64_t hash_scan(const object_t *self, uint64_t cursor, int64_t now_ms, hash_visit_t visit,
                        void *context) noexcept nogil
# A random field; False if there is none, or nearly all are due.
cdef bint hash_random(const object_t *self, int64_t now_ms, hash_entry_t *out) noexcept nogil
cdef void hash_read_table_entry(const dash_ref_t *ref, hash_entry_t *out) noexcept nogil

# Takes over a listpack of foreign bytes (checked by listpack_is_valid) as the root of an empty hash; False, and
# it stays the caller's, if it does not hold fields, each once, with values.
cdef bint hash_adopt_listpack(object_t *self, uint8_t *listpack, const hash_limits_t *limits) noexcept nogil

cdef uint64_t hash_listpack_count(const uint8_t *listpack) noexcept nogil
cdef bint hash_check(const object_t *self) noexcept nogil                # for tests; aborts on a broken invariant


cdef inline const uint8_t *hash_listpack(const object_t *self) noexcept nogil:
    """The listpack of a compact hash, else NULL."""
    if object_encoding(self) == HASH_LISTPACK:
        return <const uint8_t *>object_pointer(self)
    return NULL


cdef inline dash_t *hash_table(const object_t *self) noexcept nogil:
    return <dash_t *>object_pointer(self)


cdef inline uint64_t hash_count(const object_t *self) noexcept nogil:
    if object_pointer(self) == NULL:
        return 0
    if likely(object_encoding(self) == HASH_LISTPACK):
        return hash_listpack_count(<const uint8_t *>object_pointer(self))
    return hash_table(self).count
