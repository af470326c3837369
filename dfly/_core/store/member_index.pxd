"""The index of a large sorted set: from a member's bytes to its handle in the arena.

A directory, picked by the upper bits of the hash, points to segments; a segment is an open-addressed table
that is sorted by a tag of 16 other bits of the hash:

    capacity | count | depth | handles ... | tags ...        tag 0: an empty slot

The slot where a tag belongs is proportional to it, so a segment is made larger by one pass that looks at no
member, and stays full to 75 to 88 %. One that would be too large splits in two by the next bit of the hash:
nothing is ever rehashed as a whole. Six bytes a slot.

Ownership: the index owns directory and segments; handles belong to the arena.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from dfly._core.store.member_arena cimport arena_t

cdef struct segment_t:
    uint32_t capacity                # slots that tags are spread over
    uint32_t room                    # slots, with those behind for tags that find theirs taken
    uint32_t count
    uint32_t depth                   # bits of the hash that all its members share
    uint32_t handles[2]              # room of them, then as many tags

cdef struct index_t:
    segment_t **directory
    uint32_t depth
    uint32_t segment_count
    uint32_t freed                   # entries of the directory that index_free_step is done with

ctypedef void (*index_visit_t)(uint32_t handle, void *context) noexcept nogil

cdef void index_init(index_t *self) noexcept nogil
# 0: not there. The hash is hash_bytes of the member.
cdef uint32_t index_find(const index_t *self, const arena_t *arena, uint64_t hash, const char *data,
                         size_t size) noexcept nogil
cdef void index_add(index_t *self, const arena_t *arena, uint64_t hash, uint32_t handle) noexcept nogil
cdef void index_remove(index_t *self, uint64_t hash, uint32_t handle) noexcept nogil
# As index_remove, if it is there.
cdef void index_discard(index_t *self, uint64_t hash, uint32_t handle) noexcept nogil
# Visits about `count` members; the next cursor, 0 at the end. Every member that is there from the first
# to the last call is visited.
cdef uint64_t index_scan(const index_t *self, uint64_t cursor, uint64_t count, index_visit_t visit,
                         void *context) noexcept nogil
cdef void index_dup(const index_t *self, index_t *out) noexcept nogil
cdef bint index_free_step(index_t *self, uint64_t *budget) noexcept nogil
cdef uint64_t index_heap_bytes(const index_t *self) noexcept nogil
cdef uint64_t index_check(const index_t *self, const arena_t *arena) noexcept nogil      # members


cdef inline uint16_t *segment_tags(segment_t *self) noexcept nogil:
    return <uint16_t *>(self.handles + self.room)
