"""Blocks and directories of lists: see list_blocks.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from dfly._core.store.block_list cimport BLOCK_PLAIN, block_t
from dfly._core.sys.alloc cimport mem_alloc, mem_good_size
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef block_t *new_block(uint32_t bytes_, uint32_t wanted, uint32_t limit) noexcept nogil:
    cdef size_t total = mem_good_size(sizeof(block_t) + wanted)
    cdef block_t *self
    if total > limit:
        total = limit
    if total < sizeof(block_t) + bytes_:
        total = sizeof(block_t) + bytes_
    self = <block_t *>mem_alloc(total)
    self.capacity = <uint32_t>(total - sizeof(block_t))
    self.begin = 0
    self.end = 0
    self.count = 0
    return self


cdef block_t *new_plain_block(const char *data, uint32_t size) noexcept nogil:
    cdef block_t *self = <block_t *>mem_alloc(sizeof(block_t) + <size_t>size)
    self.capacity = size
    self.begin = BLOCK_PLAIN
    self.end = size
    self.count = 1
    memcpy(area(self), data, size)
    return self


cdef block_t *copy_block(const block_t *self) noexcept nogil:
    cdef uint32_t used = <uint32_t>block_bytes(self)
    cdef block_t *copy
    if not is_packed(self):
        return new_plain_block(area(self), used)
    copy = new_block(used, used, 0)
    memcpy(area(copy), area(self) + self.begin, used)
    copy.end = used
    copy.count = self.count
    return copy


cdef directory_t *new_directory(uint32_t capacity) noexcept nogil:
    cdef directory_t *self = <directory_t *>mem_alloc(sizeof(directory_t) + capacity * sizeof(slot_t))
    self.count = 0
    self.first = 0
    self.size = 0
    self.capacity = capacity
    self.reserved = 0
    self.walk = NULL
    return self
