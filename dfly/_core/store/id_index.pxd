"""An ordered map from stream IDs to pointers: the blocks of a stream, the pending entries of a group.

Two levels: leaves of up to 256 sorted slots, and an array of fences that holds the first ID of each leaf. Keys
come in rising order nearly always, so a radix tree's work per byte buys nothing here: an append writes one
slot, a lookup is two binary searches, removing at the front moves nothing. What is moved at once is
bounded: a leaf has 6 KB, and a million entries have 4000 fences (96 KB), which move only when a leaf comes or
goes in the middle.

Ownership: the index owns its arrays, never what the pointers point to. A place is valid until the index
changes. An index of zeroes is empty.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef struct stream_id_t:
    uint64_t ms
    uint64_t seq

cdef struct id_slot_t:
    stream_id_t id
    void *value

cdef struct id_leaf_t:
    uint32_t begin               # free slots before the first one
    uint32_t count
    uint32_t capacity
    uint32_t reserved

cdef struct id_fence_t:
    stream_id_t first            # of its leaf
    id_leaf_t *leaf

cdef struct id_index_t:
    id_fence_t *fences
    uint32_t begin               # free fences before the first one
    uint32_t leaf_count
    uint32_t capacity
    uint32_t reserved
    uint64_t count               # slots

cdef struct id_place_t:
    uint32_t leaf
    uint32_t slot

# Lookups; False: there is none.
cdef void *id_find(const id_index_t *self, stream_id_t id) noexcept nogil                  # NULL: absent
cdef bint id_floor(const id_index_t *self, stream_id_t id, id_place_t *out) noexcept nogil     # last at or before
cdef bint id_ceiling(const id_index_t *self, stream_id_t id, id_place_t *out) noexcept nogil   # first at or behind
cdef bint id_first(const id_index_t *self, id_place_t *out) noexcept nogil
cdef bint id_last(const id_index_t *self, id_place_t *out) noexcept nogil
cdef bint id_next(const id_index_t *self, id_place_t *place) noexcept nogil
cdef bint id_previous(const id_index_t *self, id_place_t *place) noexcept nogil

cdef uint64_t id_count_from(const id_index_t *self, id_place_t place) noexcept nogil      # slots from there on
cdef uint64_t id_count_before(const id_index_t *self, id_place_t place) noexcept nogil

cdef bint id_insert(id_index_t *self, stream_id_t id, void *value) noexcept nogil          # False: it was there
# All of another one, whose IDs are behind its own; that one is empty then. Moves leaves, not slots.
cdef void id_append_all(id_index_t *self, id_index_t *behind) noexcept nogil
cdef void *id_remove(id_index_t *self, stream_id_t id) noexcept nogil                      # NULL: it was not
# From this ID on, which is there, as many of values[0], values[1], ... as follow each other here; returns how many.
# Costs little for those of one leaf, and none of its moves are longer than the fences.
cdef uint64_t id_remove_run(id_index_t *self, stream_id_t id, void *const *values, uint64_t count) noexcept nogil
cdef void id_remove_at(id_index_t *self, id_place_t place) noexcept nogil
# The first ones, so many, go to another index, whose IDs are before them. Moves leaves, and slots of one of them.
cdef void id_take_first(id_index_t *self, uint64_t count, id_index_t *out) noexcept nogil
cdef void *id_pop_last(id_index_t *self) noexcept nogil                                    # NULL: empty
cdef void id_clear(id_index_t *self) noexcept nogil
# The same, leaf by leaf: each takes one off the budget. False: some are left.
cdef bint id_clear_step(id_index_t *self, uint64_t *budget) noexcept nogil

cdef size_t id_heap_bytes(const id_index_t *self) noexcept nogil
cdef void id_check(const id_index_t *self) noexcept nogil                # for tests; aborts on a broken invariant


cdef inline int id_compare(stream_id_t a, stream_id_t b) noexcept nogil:
    if a.ms != b.ms:
        return -1 if a.ms < b.ms else 1
    if a.seq != b.seq:
        return -1 if a.seq < b.seq else 1
    return 0


cdef inline bint id_less(stream_id_t a, stream_id_t b) noexcept nogil:
    return a.ms < b.ms or (a.ms == b.ms and a.seq < b.seq)


cdef inline bint id_equal(stream_id_t a, stream_id_t b) noexcept nogil:
    return a.ms == b.ms and a.seq == b.seq


cdef inline bint id_is_zero(stream_id_t self) noexcept nogil:
    return (self.ms | self.seq) == 0


cdef inline stream_id_t stream_id(uint64_t ms, uint64_t seq) noexcept nogil:
    cdef stream_id_t result
    result.ms = ms
    result.seq = seq
    return result


cdef inline bint id_increment(stream_id_t *self) noexcept nogil:
    """False, and zero, after the largest."""
    self.seq += 1
    if self.seq == 0:
        self.ms += 1
        return self.ms != 0
    return True


cdef inline bint id_decrement(stream_id_t *self) noexcept nogil:
    """False, and the largest, before zero."""
    self.seq -= 1
    if self.seq == <uint64_t>-1:
        self.ms -= 1
        return self.ms != <uint64_t>-1
    return True


cdef inline id_slot_t *id_slots(const id_leaf_t *leaf) noexcept nogil:
    return <id_slot_t *>(leaf + 1) + leaf.begin


cdef inline id_slot_t *id_slot(const id_index_t *self, id_place_t place) noexcept nogil:
    return id_slots(self.fences[self.begin + place.leaf].leaf) + place.slot


cdef inline id_slot_t *id_last_slot(const id_index_t *self) noexcept nogil:
    """Of an index that is not empty."""
    cdef id_leaf_t *leaf = self.fences[self.begin + self.leaf_count - 1].leaf
    return id_slots(leaf) + leaf.count - 1
