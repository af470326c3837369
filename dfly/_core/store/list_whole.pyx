"""Lists as a whole: see list_whole.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.store.block_list cimport block_list_t, block_t, element_before, element_read, list_item_t
from dfly._core.store.list_blocks cimport (TOUCHED, area, block_bytes, copy_block, directory_of, directory_t,
                                           has_directory, is_packed, new_directory, set_directory, slot_t, slots_of)
from dfly._core.sys.alloc cimport mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

__abi__ = DFLY_ABI_STAMP


cdef block_list_t list_dup(block_list_t self) noexcept nogil:
    cdef directory_t *directory
    cdef directory_t *copy
    cdef block_list_t result = NULL
    cdef uint32_t i
    if self == NULL:
        return NULL
    if not has_directory(self):
        return copy_block(<block_t *>self)
    directory = directory_of(self)
    copy = new_directory(directory.size)
    copy.size = directory.size
    copy.count = directory.count
    memcpy(slots_of(copy), slots_of(directory), directory.size * sizeof(slot_t))
    for i in range(copy.size):
        slots_of(copy)[i].block = copy_block(slots_of(directory)[i].block)
    set_directory(&result, copy)
    return result


cdef uint64_t list_block_count(block_list_t self) noexcept nogil:
    if has_directory(self):
        return directory_of(self).size
    return 1 if self != NULL else 0


cdef size_t list_heap_bytes(block_list_t self) noexcept nogil:
    cdef directory_t *directory
    cdef size_t total
    cdef uint32_t i
    if self == NULL:
        return 0
    if not has_directory(self):
        return mem_usable(self)
    directory = directory_of(self)
    total = mem_usable(directory)
    for i in range(directory.size):
        total += mem_usable(slots_of(directory)[i].block)
    return total


cdef size_t list_data_bytes(block_list_t self) noexcept nogil:
    cdef directory_t *directory
    cdef size_t total = 0
    cdef uint32_t i
    if self == NULL:
        return 0
    if not has_directory(self):
        return block_bytes(<block_t *>self)
    directory = directory_of(self)
    for i in range(directory.size):
        total += block_bytes(slots_of(directory)[i].block)
    return total


cdef void check_block(const block_t *self) noexcept nogil:
    cdef list_item_t item
    cdef const char *p = area(self) + self.begin
    cdef const char *following
    cdef uint32_t count = 0
    if not is_packed(self):
        DFLY_CHECK(self.count == 1 and self.end == self.capacity, "a plain block holds one element")
        return
    DFLY_CHECK(self.begin < self.end and self.end <= self.capacity, "elements lie inside the block")
    DFLY_CHECK(sizeof(block_t) + self.capacity <= mem_usable(self), "the block has its capacity")
    while p < area(self) + self.end:
        following = element_read(p, &item)
        DFLY_CHECK(element_before(following) == p, "an element reads the same from both sides")
        count += 1
        p = following
    DFLY_CHECK(p == area(self) + self.end and count == self.count, "the block has its elements")


cdef bint list_check(block_list_t self) noexcept nogil:
    cdef directory_t *directory
    cdef slot_t *slots
    cdef uint64_t total = 0
    cdef uint32_t i
    if self == NULL:
        return True
    if not has_directory(self):
        check_block(<block_t *>self)
        return True
    directory = directory_of(self)
    slots = slots_of(directory)
    DFLY_CHECK(directory.size >= 2, "a directory has two blocks")
    DFLY_CHECK(directory.first + directory.size <= directory.capacity, "slots lie inside the directory")
    for i in range(directory.size):
        check_block(slots[i].block)
        DFLY_CHECK(slots[i].count == slots[i].block.count and slots[i].mark & TOUCHED == 0,
                   "a slot knows its block")
        total += slots[i].count
    DFLY_CHECK(total == directory.count, "the directory knows the sum")
    return True
