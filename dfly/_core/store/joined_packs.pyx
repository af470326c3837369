"""Implementation of joined listpacks: see joined_packs.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from dfly._core.store.listpack cimport listpack_bytes, listpack_dup
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_sub

__abi__ = DFLY_ABI_STAMP


cdef void packs_join(uint8_t **packs, uint32_t count) noexcept nogil:
    cdef size_t total = sizeof(joined_t)
    cdef size_t size
    cdef uint32_t offset
    cdef uint8_t *at
    cdef joined_t *joined
    cdef uint32_t i
    for i in range(count):
        total += joined_room(listpack_bytes(packs[i]))
    joined = <joined_t *>mem_alloc(total)
    joined.live = count
    joined.total = count
    joined.reserved = 0
    at = <uint8_t *>(joined + 1)
    for i in range(count):
        size = listpack_bytes(packs[i])
        offset = <uint32_t>(at + JOINED_OFFSET - <uint8_t *>joined)
        memcpy(at, &offset, JOINED_OFFSET)
        memcpy(at + JOINED_OFFSET, packs[i], size)
        mem_free(packs[i])
        packs[i] = at + JOINED_OFFSET
        at += joined_room(size)


cdef void pack_free(uint8_t *pack) noexcept nogil:
    cdef joined_t *joined
    if not pack_is_joined(pack):
        mem_free(pack)
        return
    joined = joined_of(pack)
    # Blocks that were trimmed are freed later, and the stream may be another shard's by then.
    if atomic_sub(&joined.live, 1) == 0:
        mem_free(joined)


cdef uint8_t *pack_separate(uint8_t *pack) noexcept nogil:
    cdef uint8_t *copy
    if not pack_is_joined(pack):
        return pack
    copy = listpack_dup(pack)
    pack_free(pack)
    return copy
