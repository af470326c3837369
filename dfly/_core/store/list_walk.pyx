"""Walks over lists: see list_walk.pxd."""

from libc.stdint cimport uint32_t

from dfly._core.store.block_list cimport block_list_t, list_cursor_t, list_walk_t
from dfly._core.store.list_blocks cimport (OWN, TOUCHED, copy_block, directory_of, directory_t, enter_block,
                                           has_directory, slot_t, slots_of)
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

__abi__ = DFLY_ABI_STAMP


cdef slot_t *walked_slot(directory_t *self, const slot_t *slot) noexcept nogil:
    """The walk's, if it still wants the block."""
    cdef list_walk_t *walk = self.walk
    cdef uint32_t number = slot.mark >> 1
    return &(<slot_t *>walk.slots)[number - 1] if number > walk.position else NULL


cdef void hand_over(directory_t *self, slot_t *slot, bint as_copy) noexcept nogil:
    cdef slot_t *walked = walked_slot(self, slot)
    slot.mark &= TOUCHED
    if walked == NULL:
        if not as_copy:
            mem_free(slot.block)
        return
    walked.block = copy_block(slot.block) if as_copy else slot.block
    walked.mark = OWN
    self.walk.forced += 1


cdef void list_walk_begin(block_list_t self, list_walk_t *walk) noexcept nogil:
    cdef directory_t *directory = directory_of(self)
    cdef slot_t *slots = slots_of(directory)
    cdef slot_t *copy
    cdef uint32_t i
    DFLY_CHECK(has_directory(self) and directory.walk == NULL, "list: a walk over one block, or two walks at once")
    copy = <slot_t *>mem_alloc(directory.size * sizeof(slot_t))
    for i in range(directory.size):
        slots[i].mark = (i + 1) << 1
        copy[i].block = slots[i].block
        copy[i].mark = 0
    walk.directory = directory
    walk.slots = copy
    walk.size = directory.size
    walk.position = 0
    walk.forced = 0
    directory.walk = walk


cdef void list_walk_end(list_walk_t *self) noexcept nogil:
    cdef slot_t *slots = <slot_t *>self.slots
    while self.position < self.size:
        if slots[self.position].mark == OWN:
            mem_free(slots[self.position].block)
        self.position += 1
    if self.directory != NULL:
        (<directory_t *>self.directory).walk = NULL
        self.directory = NULL
    mem_free(slots)
    self.slots = NULL


cdef bint list_walk_step(list_walk_t *self) noexcept nogil:
    cdef slot_t *slot = &(<slot_t *>self.slots)[self.position]
    cdef list_cursor_t cursor
    if self.slots == NULL:
        return True
    if self.position < self.size:
        cursor.root = slot.block
        cursor.slot = 0
        enter_block(&cursor, False)
        self.visit(&cursor, self.context)
        self.position += 1
        if slot.mark == OWN:
            mem_free(slot.block)
    if self.position < self.size:
        return False
    list_walk_end(self)
    return True


cdef list_walk_t *list_walk_of(block_list_t self) noexcept nogil:
    return directory_of(self).walk if has_directory(self) else NULL
