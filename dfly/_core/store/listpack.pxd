"""The listpack: a sequence of strings and integers in one block, in Redis' own byte format.

    total bytes: uint32 | elements: uint16 (65535: count them) | element ... | 0xFF

An element is its encoding byte with data, then the length of both, written to be read from its end. Texts
that are the canonical decimal of an int64 are kept as integers. Since the bytes are Redis', DUMP, RESTORE
and snapshots of compact hashes, sorted sets and streams copy them. Format: Redis' listpack specification
(github.com/antirez/listpack/blob/master/listpack.md).

A listpack may have at most LISTPACK_BYTES_MAX bytes; who uses one converts to something larger long
before. Ownership: `uint8_t *` is a block of mem_alloc that its owner frees with mem_free. Positions and items
borrow: valid until the listpack changes. Bytes given to a listpack must not lie in it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.block_list cimport list_item_t
from dfly._core.sys.base cimport likely, load32

cdef enum:
    LISTPACK_HEADER = 6
    LISTPACK_END = 0xFF
    LISTPACK_BYTES_MAX = 0x40000000
    LISTPACK_COUNT_UNKNOWN = 0xFFFF
    LISTPACK_ELEMENT_MAX = 14        # bytes of an element beyond its text, at most

cdef uint8_t *listpack_new(size_t room) noexcept nogil       # empty; room: bytes of elements to come
cdef uint8_t *listpack_dup(const uint8_t *self) noexcept nogil
cdef uint64_t listpack_count(const uint8_t *self) noexcept nogil

# Elements: a position is the address of an element, NULL where there is none.
cdef const uint8_t *listpack_first(const uint8_t *self) noexcept nogil
cdef const uint8_t *listpack_last(const uint8_t *self) noexcept nogil
cdef const uint8_t *listpack_next(const uint8_t *p) noexcept nogil       # NULL at the end
cdef const uint8_t *listpack_previous(const uint8_t *self, const uint8_t *p) noexcept nogil
# Negative: from the end.
cdef const uint8_t *listpack_seek(const uint8_t *self, int64_t index) noexcept nogil
# Reads the element at p (list_item_t of block_list.pxd: text or integer) and returns what follows it, which
# is the end mark after the last one: `while p[0] != LISTPACK_END: p = listpack_read(p, &item)`.
cdef const uint8_t *listpack_read(const uint8_t *p, list_item_t *out) noexcept nogil
# The first element equal to needle (see list_needle) at p or later, looking at each (skip + 1)th element.
cdef const uint8_t *listpack_find(const uint8_t *p, const list_item_t *needle, uint32_t skip) noexcept nogil
# Bytes an element of this text takes.
cdef size_t listpack_element_size(const char *data, size_t size) noexcept nogil

# Changes move the block; each returns the position that its comment names.
cdef const uint8_t *listpack_insert(uint8_t **self, const uint8_t *before, const char *data,
                                    size_t size) noexcept nogil      # the new one; before NULL: the end
cdef const uint8_t *listpack_insert_int(uint8_t **self, const uint8_t *before, int64_t value) noexcept nogil
cdef const uint8_t *listpack_replace(uint8_t **self, const uint8_t *p, const char *data,
                                     size_t size) noexcept nogil                  # the new element
cdef const uint8_t *listpack_replace_int(uint8_t **self, const uint8_t *p, int64_t value) noexcept nogil
cdef const uint8_t *listpack_delete(uint8_t **self, const uint8_t *p,
                                    uint64_t count) noexcept nogil                # what follows, or NULL

# Writing many elements at once, also into memory that is not mem_alloc's: the caller has room (listpack_room
# of each) from the header's end or the end mark on and puts one after another; each returns where the next one
# goes. Last comes listpack_seal, which says how many they were, or, where there was no header, listpack_write_ends.
cdef uint8_t *listpack_put(uint8_t *p, const char *data, size_t size) noexcept nogil
cdef uint8_t *listpack_put_int(uint8_t *p, int64_t value) noexcept nogil
cdef uint8_t *listpack_write(uint8_t *p, const list_item_t *item) noexcept nogil
cdef void listpack_seal(uint8_t *self, uint8_t *end, uint64_t added) noexcept nogil
cdef void listpack_write_ends(uint8_t *self, uint8_t *end, uint64_t count) noexcept nogil

# Of foreign bytes: is this a whole listpack of exactly `size` bytes whose every element is well formed?
cdef bint listpack_is_valid(const uint8_t *data, size_t size) noexcept nogil


cdef inline size_t listpack_bytes(const uint8_t *self) noexcept nogil:
    """All of it, header and end mark included."""
    return load32(self)


cdef inline size_t listpack_room(size_t size) noexcept nogil:
    """At most so many bytes does an element of a text of this size take."""
    return size + 10


cdef inline int64_t listpack_read_number(const uint8_t **p) noexcept nogil:
    """The element at p, which is an integer; p moves behind it."""
    cdef list_item_t item
    cdef int64_t value
    if likely(p[0][0] < 128):
        value = p[0][0]
        p[0] += 2
        return value
    item.integer = 0
    p[0] = listpack_read(p[0], &item)
    return item.integer
