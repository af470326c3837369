"""The set type: distinct members, in one of three encodings (object_encoding):

    SET_INTEGERS   an integer set (intset.pxd), while all members are integers and few enough: "intset"
    SET_COMPACT    a listpack of the members, while they are few and short: "listpack"
    SET_TABLE      member_table_t: a dash table of keys only, 16 bytes a member: "hashtable"

A container without members (root NULL) is SET_EMPTY. Members that are the canonical decimal of an int64 are
integers in the first two encodings, text in the table. Conversions go down this list only, where Redis 7.4 makes
them. Members of tables may have deadlines (the table's own); who looks a set up removes what is due first.

Ownership: a set owns its block or table with all members. Items borrow: valid until the set changes (of a cursor or
a place: until it moves). Bytes given to a set must not lie in it. Nothing here suspends.

Walking:    set_begin(value, &cursor); while set_next(&cursor, &item): ...
Copying a compact set's bytes (DUMP): set_block, with object_encoding; back: set_adopt.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.dash cimport dash_ref_t, dash_t
from dfly._core.store.dash_scan cimport dash_cursor_t, dash_draws_t
from dfly._core.store.object cimport object_encoding, object_pointer, object_t

cdef enum:
    SET_EMPTY = 0
    SET_INTEGERS = 1
    SET_COMPACT = 2
    SET_TABLE = 3
    SET_SCRATCH = 32

cdef struct set_limits_t:
    # Up to where the smaller encodings go.
    int64_t integers             # members of an integer set
    int64_t entries              # members of a compact one
    int64_t value                # bytes of its longest member

cdef struct member_table_t:
    dash_t table
    uint64_t text_bytes          # of all members
    uint64_t heap_bytes          # blocks of members that are too long for an entry

cdef struct set_cursor_t:
    uint32_t encoding
    uint32_t index               # integers: of the next one
    const uint8_t *block
    const uint8_t *position      # compact: the next one
    dash_cursor_t entries
    char scratch[SET_SCRATCH]    # of the item

cdef struct set_place_t:
    # One member of a set.
    list_item_t item
    uint32_t index               # integers
    const uint8_t *position      # compact
    dash_ref_t ref               # table
    char scratch[SET_SCRATCH]

cdef uint64_t set_count(const object_t *self) noexcept nogil
cdef bint set_contains(const object_t *self, const char *data, size_t size) noexcept nogil
cdef bint set_contains_item(const object_t *self, const list_item_t *item) noexcept nogil
# self is a container of TYPE_SET, maybe an empty one. False: the member was there.
cdef bint set_add(object_t *self, const char *data, size_t size, const set_limits_t *limits) noexcept nogil
# With a deadline: the set becomes a table.
cdef bint set_add_timed(object_t *self, const char *data, size_t size, int64_t deadline,
                        const set_limits_t *limits) noexcept nogil
cdef bint set_add_item(object_t *self, const list_item_t *item, const set_limits_t *limits) noexcept nogil
# The same of one that is not in it: a compact one is not searched.
cdef void set_add_new_item(object_t *self, const list_item_t *item, const set_limits_t *limits) noexcept nogil
# Removing the last member leaves an empty container. False: there was no such member.
cdef bint set_remove(object_t *self, const char *data, size_t size) noexcept nogil
cdef bint set_remove_item(object_t *self, const list_item_t *item) noexcept nogil
# Any member, all equally likely; the set must not be empty.
cdef void set_random(const object_t *self, set_place_t *out) noexcept nogil
# The same for many (dash_draws_begin), which may be removed one by one.
cdef void set_draw(const object_t *self, dash_draws_t *draws, set_place_t *out) noexcept nogil
cdef void set_remove_at(object_t *self, set_place_t *place) noexcept nogil

cdef void set_begin(const object_t *self, set_cursor_t *out) noexcept nogil
cdef bint set_next(set_cursor_t *self, list_item_t *out) noexcept nogil
# The same with the member's deadline, DASH_NO_DEADLINE where it has none.
cdef bint set_next_timed(set_cursor_t *self, list_item_t *out, int64_t *deadline) noexcept nogil
# Has any member a deadline?
cdef bint set_has_deadlines(const object_t *self) noexcept nogil

# A block of mem_alloc that holds a valid, not empty integer set or listpack of distinct members becomes a set.
cdef void set_adopt(object_t *out, uint32_t encoding, uint8_t *block) noexcept nogil
# For members with deadlines: makes it a table.
cdef member_table_t *set_to_table(object_t *self) noexcept nogil
# Removes an entry that a visit of the set's table came across (dash_visit_due, dash_find).
cdef void set_erase_entry(member_table_t *self, dash_ref_t *ref) noexcept nogil
cdef bint set_check(const object_t *self) noexcept nogil          # for tests; aborts on a broken invariant


cdef inline const uint8_t *set_block(const object_t *self) noexcept nogil:
    """The bytes of SET_INTEGERS or SET_COMPACT."""
    return <const uint8_t *>object_pointer(self)


cdef inline member_table_t *set_table(const object_t *self) noexcept nogil:
    return <member_table_t *>object_pointer(self)
