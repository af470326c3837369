"""Reading the packed formats that Redis wrote before listpacks: ziplist and zipmap. Foreign bytes, checked.

    ziplist     bytes: uint32 | offset of the last entry: uint32 | entries: uint16 (65535: count them) |
                entry ... | 0xFF
    entry       size of the one before (1 byte, or 254 and uint32) | encoding | data
    zipmap      pairs (254: count them) | field size, field, value size, free, value, free bytes ... | 0xFF

Format: Redis' ziplist.c and zipmap.c.
"""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.store.block_list cimport list_item_t

cdef enum:
    ZIPLIST_HEADER = 10
    ZIPLIST_END = 0xFF

# Walking a valid one: `p` begins at ziplist_first and ends at ZIPLIST_END.
cdef bint ziplist_is_valid(const uint8_t *data, size_t size) noexcept nogil
cdef const uint8_t *ziplist_read(const uint8_t *p, list_item_t *out) noexcept nogil       # what follows it
cdef bint zipmap_is_valid(const uint8_t *data, size_t size) noexcept nogil
cdef const uint8_t *zipmap_read(const uint8_t *p, list_item_t *field, list_item_t *value) noexcept nogil


cdef inline const uint8_t *ziplist_first(const uint8_t *data) noexcept nogil:
    return data + ZIPLIST_HEADER


cdef inline const uint8_t *zipmap_first(const uint8_t *data) noexcept nogil:
    return data + 1
