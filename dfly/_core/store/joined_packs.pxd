"""Finished listpacks of a stream that share one allocation.

The allocator's sizes are up to a quarter apart, which a block of a hundred entries meets by chance; of several blocks
in a row one can choose so many that together they just fit.

    live: uint64 | total: uint32 | - | offset: uint32 | listpack | (to a multiple of 8) | offset | listpack ...

An allocation is aligned to 8 bytes and a joined listpack is not, so the address tells which one a listpack is. The
offset before it leads to the begin, where those are counted that are in use: with the last one the memory goes.

Ownership: as of any listpack, but it is freed by pack_free and must not be resized. Owners of listpacks of one
allocation may be on different threads.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dfly._core.sys.base cimport load32

cdef enum:
    JOINED_OFFSET = 4            # bytes of the offset
    JOINED_ALIGNMENT = 8

cdef struct joined_t:
    uint64_t live                # listpacks in use, atomic
    uint32_t total               # there were so many
    uint32_t reserved

# Copies them into one allocation, frees them, and sets the pointers to the copies. None may be joined.
cdef void packs_join(uint8_t **packs, uint32_t count) noexcept nogil
cdef void pack_free(uint8_t *pack) noexcept nogil          # joined or not
# The same by itself, so that it can be resized; what is not joined stays where it is.
cdef uint8_t *pack_separate(uint8_t *pack) noexcept nogil


cdef inline size_t joined_room(size_t size) noexcept nogil:
    """What a listpack of this size takes among others; joined_t comes on top."""
    return (size + JOINED_OFFSET + JOINED_ALIGNMENT - 1) & ~<size_t>(JOINED_ALIGNMENT - 1)


cdef inline bint pack_is_joined(const uint8_t *pack) noexcept nogil:
    return <size_t>pack % JOINED_ALIGNMENT != 0


cdef inline joined_t *joined_of(const uint8_t *pack) noexcept nogil:
    return <joined_t *>(pack - load32(pack - JOINED_OFFSET))
