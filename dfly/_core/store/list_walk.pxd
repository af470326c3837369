"""Walks over lists (list_walk_t of block_list.pxd), and what changes of a list have to tell them.

While there is one, the mark of a slot that was there when it began is the number of the walk's slot that it was then,
plus one, times two. Marks of a walk that is over mean nothing, and its successor sets them all anew.
"""

from libc.stdint cimport uint32_t

from dfly._core.store.block_list cimport block_list_t, list_walk_t
from dfly._core.store.list_blocks cimport directory_of, directory_t, has_directory, slot_t, slots_of
from dfly._core.sys.alloc cimport mem_free
from dfly._core.sys.base cimport unlikely

# One walk at a time, over a list of at least two blocks; it must stay in place until it is over. Sets the fields but
# visit, context, owner. Nobody may change the list in a visit.
cdef void list_walk_begin(block_list_t self, list_walk_t *walk) noexcept nogil
cdef bint list_walk_step(list_walk_t *self) noexcept nogil            # one block; True: it is over
cdef void list_walk_end(list_walk_t *self) noexcept nogil             # before it is over
cdef list_walk_t *list_walk_of(block_list_t self) noexcept nogil      # NULL: there is none

# A walk is under way, and may want the block of this slot: it gets a copy, or the block itself.
cdef void hand_over(directory_t *self, slot_t *slot, bint as_copy) noexcept nogil


cdef inline void before_change(directory_t *self, slot_t *slot) noexcept nogil:
    """Of the block's elements, or of where they lie in it. The list keeps the block, the walk gets a copy."""
    if unlikely(self.walk != NULL):
        hand_over(self, slot, True)


cdef inline void before_change_at(block_list_t *self, uint32_t slot) noexcept nogil:
    if has_directory(self[0]):
        before_change(directory_of(self[0]), &slots_of(directory_of(self[0]))[slot])


cdef inline void free_block(directory_t *self, slot_t *slot) noexcept nogil:
    if unlikely(self.walk != NULL):
        hand_over(self, slot, False)
    else:
        mem_free(slot.block)
