"""The list type: elements packed into blocks, blocks in a directory.

A list is one pointer, its root (block_list_t), NULL when empty. With one block the root is the block,
right-sized, so that a list of three short elements is one allocation of about 40 bytes. With more it is a
directory (low bit of the root set): an array with a gap at each end that holds pointer and element count
of every block. Finding an index adds up counts in that array (16 bytes a block, no block is touched); a
push or pop touches only the block at the end.

A block is a header of 16 bytes and an area in which the elements lie together, free room on both sides:

    capacity | begin | end | count | ....free.... e0 e1 e2 ... ....free....

An element is written so that it can be read from both sides:

    first byte    0..111     a string of that many bytes
                  112..119   an integer of 1..8 bytes, little-endian, signed
                  120        a string; its size follows as uint16
                  128..255   the integer 0..127; this byte is the whole element
    last byte     1..126     the bytes before it that belong to the element
                  127        the same as uint16 before this byte
                  128..255   as above

A text that is the canonical decimal of an int64 is kept as integer. An element that would fill a block is
alone in one, unpacked (begin is BLOCK_PLAIN, end its size, count 1).

A walk (list_walk_t) visits the blocks of a list with a directory as they were when it began, in their order, however
the list changes: it gets a copy of a block that is about to change, and the blocks themselves that are to be freed.

Ownership: a list owns its blocks (mem_alloc, the data account). An item borrows: valid until the list
changes, as is a cursor. Bytes given to a list must not lie in it. Nothing here suspends.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.sys.base cimport load64, slice_t, unlikely

ctypedef void *block_list_t

cdef enum:
    BLOCK_PLAIN = 0xFFFFFFFF
    ELEMENT_SHORT_MAX = 111
    ELEMENT_INT = 111                # plus the integer's width
    ELEMENT_LONG = 120
    ELEMENT_TINY = 128               # plus the integer
    ELEMENT_BACK_MAX = 126
    ELEMENT_BACK_LONG = 127
    LIST_ITEM_SCRATCH = 24           # bytes a caller gives list_item_text

cdef struct list_limits_t:
    # How full a block may get.
    uint32_t bytes                   # of its allocation
    uint32_t count                   # elements

cdef struct block_t:
    uint32_t capacity                # bytes behind this header
    uint32_t begin                   # of the first element, in bytes behind this header, or BLOCK_PLAIN
    uint32_t end
    uint32_t count

cdef struct list_item_t:
    const char *data                 # NULL: an integer
    uint32_t size
    int64_t integer

cdef struct list_cursor_t:
    # A place between two elements of a list.
    block_list_t root
    uint32_t slot                    # which block
    bint is_plain
    const char *begin                # of the block's elements
    const char *position
    const char *end

# `block` is at the beginning of a block and does not leave it.
ctypedef void (*list_visit_t)(const list_cursor_t *block, void *context) noexcept nogil

cdef struct list_walk_t:
    void *directory                  # of the list; NULL: it has none any more, what is left is the walk's own
    void *slots                      # as they were; freed when it is over
    uint32_t size                    # blocks
    uint32_t position                # the next one
    list_visit_t visit
    void *context
    const void *owner                # its beginner's mark
    uint64_t forced                  # blocks that were copied or taken over

# What list-max-listpack-size means: -1..-5 blocks of 4..64 KB, above zero so many elements and 8 KB.
cdef list_limits_t list_limits(int64_t setting) noexcept nogil

cdef uint64_t list_count(block_list_t self) noexcept nogil
cdef void list_push(block_list_t *self, const char *data, size_t size, bint front,
                    const list_limits_t *limits) noexcept nogil
cdef bint list_peek(block_list_t self, bint front, list_item_t *out) noexcept nogil      # False: empty
# Drops elements from one end. The blocks that go as a whole become a list of their own, for the caller
# to free (list_free_step); with dropped NULL they are freed here.
cdef void list_drop(block_list_t *self, uint64_t count, bint front, block_list_t *dropped) noexcept nogil
# The same, but what is dropped becomes a list of its own, the caller's.
cdef void list_cut(block_list_t *self, uint64_t count, bint front, block_list_t *out,
                   const list_limits_t *limits) noexcept nogil

# The place before element `index` (at most the count); walking from there reads index, index + 1, ...
# or index - 1, index - 2, ...
cdef void list_seek(block_list_t self, uint64_t index, list_cursor_t *out) noexcept nogil
cdef bint cursor_forward(list_cursor_t *self) noexcept nogil         # to the next block; False at the end
cdef bint cursor_backward(list_cursor_t *self) noexcept nogil
# Both end the cursor. list_replace replaces the element that list_next would read.
cdef void list_insert(block_list_t *self, const list_cursor_t *at, const char *data, size_t size,
                      const list_limits_t *limits) noexcept nogil
cdef void list_replace(block_list_t *self, list_cursor_t *at, const char *data, size_t size,
                       const list_limits_t *limits) noexcept nogil
# Removes elements equal to the bytes, at most `count` of them (0: all), from the front or the back;
# returns how many.
cdef uint64_t list_remove(block_list_t *self, const char *data, size_t size, uint64_t count, bint backward,
                          const list_limits_t *limits) noexcept nogil
# The same, but it looks into these blocks alone (list_cursor_t.slot), in this order.
cdef uint64_t list_remove_from(block_list_t *self, const uint32_t *blocks, uint32_t block_count, const char *data,
                               size_t size, uint64_t count, bint backward, const list_limits_t *limits) noexcept nogil

cdef void list_free(block_list_t *self) noexcept nogil
# Frees at most *budget blocks and takes them off the budget; True when the list is gone.
cdef bint list_free_step(block_list_t *self, uint64_t *budget) noexcept nogil

# Comparing many items with one text: list_needle once, then list_item_equals.
cdef void list_needle(const char *data, size_t size, list_item_t *out) noexcept nogil
cdef bint list_item_equals(const list_item_t *self, const list_item_t *needle) noexcept nogil
cdef slice_t list_item_text(const list_item_t *self, char *scratch) noexcept nogil


cdef inline uint32_t element_uint16(const char *p) noexcept nogil:
    return <uint32_t><uint8_t>p[0] | <uint32_t><uint8_t>p[1] << 8


cdef inline int64_t element_integer(const char *p, uint32_t width) noexcept nogil:
    """A signed integer of 1..8 bytes that end at p; the eight bytes before p belong to the block."""
    return <int64_t>load64(p - 8) >> (64 - 8 * width)


cdef inline const char *element_read(const char *p, list_item_t *out) noexcept nogil:
    """Reads the element at p; where the next one begins."""
    cdef uint32_t kind = <uint8_t>p[0]
    if kind <= ELEMENT_SHORT_MAX:
        out.data = p + 1
        out.size = kind
        return p + kind + 2
    if kind >= ELEMENT_TINY:
        out.data = NULL
        out.integer = kind - ELEMENT_TINY
        return p + 1
    if kind == ELEMENT_LONG:
        out.data = p + 3
        out.size = element_uint16(p + 1)
        return p + 3 + out.size + (1 if out.size + 3 <= ELEMENT_BACK_MAX else 3)
    out.data = NULL
    # The header of the block lies before its first element, so there are always eight bytes.
    out.integer = element_integer(p + 1 + kind - ELEMENT_INT, kind - ELEMENT_INT)
    return p + kind - ELEMENT_INT + 2


cdef inline const char *element_before(const char *p) noexcept nogil:
    """Where the element that ends at p begins."""
    cdef uint32_t back = <uint8_t>(p - 1)[0]
    if back <= ELEMENT_BACK_MAX:
        return p - 1 - back
    if back >= ELEMENT_TINY:
        return p - 1
    return p - 3 - element_uint16(p - 3)


cdef inline bint list_next(list_cursor_t *self, list_item_t *out) noexcept nogil:
    """Reads the element behind the cursor and steps over it; False at the end."""
    if unlikely(self.position == self.end) and not cursor_forward(self):
        return False
    if unlikely(self.is_plain):
        out.data = self.begin
        out.size = <uint32_t>(self.end - self.begin)
        self.position = self.end
    else:
        self.position = element_read(self.position, out)
    return True


cdef inline bint list_previous(list_cursor_t *self, list_item_t *out) noexcept nogil:
    if unlikely(self.position == self.begin) and not cursor_backward(self):
        return False
    if unlikely(self.is_plain):
        out.data = self.begin
        out.size = <uint32_t>(self.end - self.begin)
        self.position = self.begin
    else:
        self.position = element_before(self.position)
        element_read(self.position, out)
    return True
