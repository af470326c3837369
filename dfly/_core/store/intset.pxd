"""The integer set: distinct integers in ascending order in one block, in Redis' own byte format.

    width: uint32 (2, 4 or 8 bytes) | count: uint32 | integers, little-endian

The width is that of the widest integer that was ever added. Since the bytes are Redis', DUMP, RESTORE and
snapshots copy them.

Ownership: `uint8_t *` is a block of mem_alloc that its owner frees with mem_free. Changes may move it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.sys.base cimport load32

cdef enum:
    INTSET_HEADER = 8

cdef uint8_t *intset_new() noexcept nogil                                     # empty
cdef uint8_t *intset_dup(const uint8_t *self) noexcept nogil
# The index of a value, or -1.
cdef int64_t intset_find(const uint8_t *self, int64_t value) noexcept nogil
cdef int64_t intset_get(const uint8_t *self, uint32_t index) noexcept nogil
cdef bint intset_add(uint8_t **self, int64_t value) noexcept nogil            # False: it was there
cdef void intset_remove_at(uint8_t **self, uint32_t index) noexcept nogil
# Of foreign bytes: is this a whole integer set of exactly `size` bytes, ascending, without doubles?
cdef bint intset_is_valid(const uint8_t *data, size_t size) noexcept nogil


cdef inline uint32_t intset_width(const uint8_t *self) noexcept nogil:
    return load32(self)


cdef inline uint32_t intset_count(const uint8_t *self) noexcept nogil:
    return load32(self + 4)


cdef inline size_t intset_bytes(const uint8_t *self) noexcept nogil:
    return INTSET_HEADER + <size_t>intset_width(self) * intset_count(self)
