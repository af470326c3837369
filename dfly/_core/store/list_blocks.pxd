"""How the blocks of a list are found: its directory, and what those that work on blocks share (block_list, list_walk,
list_whole). See block_list.pxd for the layout.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.block_list cimport BLOCK_PLAIN, block_list_t, block_t, list_cursor_t, list_walk_t

cdef struct slot_t:
    block_t *block
    uint32_t count
    uint32_t mark                # bit 0: list_remove took elements out of it; the others: see the walk

cdef enum:
    TOUCHED = 1                  # of a mark
    OWN = 2                      # of a mark of the walk's slots: the list does not have the block any more

cdef struct directory_t:
    uint64_t count               # elements
    uint32_t first               # slots before it are free
    uint32_t size                # blocks
    uint32_t capacity            # slots
    uint32_t reserved
    list_walk_t *walk            # under way, or NULL; its owner's

# An empty block with room for bytes_; better for `wanted`, if its allocation stays within the limit.
cdef block_t *new_block(uint32_t bytes_, uint32_t wanted, uint32_t limit) noexcept nogil
cdef block_t *new_plain_block(const char *data, uint32_t size) noexcept nogil
cdef block_t *copy_block(const block_t *self) noexcept nogil
cdef directory_t *new_directory(uint32_t capacity) noexcept nogil     # an empty one


cdef inline char *area(const block_t *self) noexcept nogil:
    return <char *>(self + 1)


cdef inline bint is_packed(const block_t *self) noexcept nogil:
    return self.begin != BLOCK_PLAIN


cdef inline size_t block_bytes(const block_t *self) noexcept nogil:
    """Bytes of its elements."""
    return self.end - self.begin if is_packed(self) else self.end


cdef inline bint has_directory(block_list_t self) noexcept nogil:
    return <uint64_t>self & 1


cdef inline directory_t *directory_of(block_list_t self) noexcept nogil:
    return <directory_t *>(<char *>self - 1)


cdef inline slot_t *slots_of(const directory_t *self) noexcept nogil:
    return <slot_t *>(self + 1) + self.first


cdef inline void set_directory(block_list_t *self, directory_t *directory) noexcept nogil:
    self[0] = <char *>directory + 1


cdef inline void enter_block(list_cursor_t *self, bint at_end) noexcept nogil:
    cdef block_t *block = <block_t *>self.root
    if has_directory(self.root):
        block = slots_of(directory_of(self.root))[self.slot].block
    self.is_plain = not is_packed(block)
    self.begin = area(block) + (0 if self.is_plain else block.begin)
    self.end = area(block) + block.end
    self.position = self.end if at_end else self.begin
