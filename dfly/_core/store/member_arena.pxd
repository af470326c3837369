"""Members of a large sorted set with their scores, in chunks of the set's own.

A member is known by a handle of 32 bits: the chunk's number and the place in the chunk, counted in units of
8 bytes. Tree and index keep handles, which are half as large as pointers, and a set of millions of members is
freed chunk by chunk. A handle stays valid until its member is freed; its address does not (a chunk that is
not full yet is reallocated).

    score: double | size: uint8 | bytes ...            at most MEMBER_INLINE_MAX bytes, rounded up to units
    score: double | MEMBER_LARGE | ... | pointer       longer ones lie outside
    next: uint32 | ... | MEMBER_FREE                   a free block

All blocks of a chunk have the same size, so that a free one fits again; a chunk without members is freed.
A walk (arena_walk_t) visits every member once, as it was when the walk began, in the order of handles; one that is
about to change or to go is visited first. A map of handles says who has been visited or has come later.

Ownership: the arena owns chunks and outside members (mem_alloc, the data account).
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from dfly._core.sys.base cimport likely, slice_t, unlikely

cdef enum:
    MEMBER_INLINE_MAX = 253
    MEMBER_FREE = 254
    MEMBER_LARGE = 255
    MEMBER_UNITS_MAX = 33            # 9 + 253 bytes
    CHUNK_BITS = 12                  # of a handle: the place in the chunk
    CHUNK_MASK = 4095

cdef struct chunk_t:
    uint32_t next                    # of the chunks with free blocks of this size; NO_CHUNK: none
    uint32_t previous
    uint16_t units                   # of a block
    uint16_t live                    # members
    uint16_t free_first              # place of the first free block, 0: none
    uint16_t used                    # units up to here have been blocks
    uint16_t capacity                # units, this header included
    uint16_t is_open                 # in the list of its size
    uint32_t unused

cdef struct large_member_t:
    large_member_t *next
    large_member_t *previous
    uint32_t size
    char data[4]                     # size bytes

ctypedef void (*arena_visit_t)(const char *member, void *context) noexcept nogil

cdef struct arena_t                  # defined below

cdef struct arena_walk_t:
    arena_t *arena                   # NULL: arena_walk_finish has been called
    arena_visit_t visit
    void *context
    const void *owner                # its beginner's mark
    uint64_t *seen                   # a bit a handle: nothing is to be visited there any more
    uint32_t chunk_count             # when it began: chunks with larger numbers are new
    # Where it is.
    uint32_t number
    uint32_t place
    uint64_t forced                  # members that were visited because they were about to change

cdef struct arena_t:
    char **chunks
    uint32_t chunk_count             # numbers in use, with those of freed chunks
    uint32_t chunk_capacity
    uint32_t live_chunks
    uint32_t free_number             # 1 + the last freed chunk's number, whose entry holds the next one; 0: none
    uint32_t open[34]                # by units: chunks with free blocks
    uint32_t growing[34]             # by units: the chunk that is not full-sized yet
    uint64_t live_units              # of members
    uint64_t total_units             # of chunks
    uint64_t text_bytes              # of members
    large_member_t *large
    uint64_t large_count
    uint64_t large_bytes             # real ones
    arena_walk_t *walk               # under way, or NULL; its owner's

cdef void arena_init(arena_t *self) noexcept nogil
cdef uint32_t arena_add(arena_t *self, const char *data, size_t size, double score) noexcept nogil
cdef void arena_remove(arena_t *self, uint32_t handle) noexcept nogil
cdef void arena_dup(const arena_t *self, arena_t *out) noexcept nogil    # the same handles
cdef bint arena_free_step(arena_t *self, uint64_t *budget) noexcept nogil
cdef uint64_t arena_heap_bytes(const arena_t *self) noexcept nogil
# One walk at a time; it must stay in place until it is over. Sets the fields but visit, context, owner.
cdef void arena_walk_begin(arena_t *self, arena_walk_t *walk) noexcept nogil
cdef bint arena_walk_step(arena_t *self, uint32_t members) noexcept nogil        # True when it is over
cdef void arena_walk_end(arena_t *self) noexcept nogil                            # before it is over
cdef void arena_walk_finish(arena_t *self) noexcept nogil     # visits at once all that is left, if there is a walk
cdef void arena_hand_over(arena_t *self, uint32_t handle) noexcept nogil
cdef bint arena_check(const arena_t *self) noexcept nogil


cdef inline char *member_at(const arena_t *self, uint32_t handle) noexcept nogil:
    return self.chunks[handle >> CHUNK_BITS] + ((handle & CHUNK_MASK) << 3)


cdef inline double *member_score(char *member) noexcept nogil:
    return <double *>member


cdef inline slice_t member_text(const char *member) noexcept nogil:
    cdef slice_t text
    cdef const large_member_t *large
    text.size = <uint8_t>member[8]
    text.data = member + 9
    if likely(text.size <= MEMBER_INLINE_MAX):
        return text
    large = (<large_member_t **>(member + 16))[0]
    text.data = large.data
    text.size = large.size
    return text


cdef inline void arena_before_change(arena_t *self, uint32_t handle) noexcept nogil:
    """Of a member's score; adding and removing see to it themselves."""
    if unlikely(self.walk != NULL):
        arena_hand_over(self, handle)
