"""The order of a large sorted set: a B+ tree with ranks over handles of its arena.

Every node has up to NODE_SLOTS entries of a handle and a hint: the upper 32 bits of the member's score in an
order-preserving form. Most comparisons need the hints only; equal hints look at the members. In an inner node
entry i is the least member of child i, and counts[i] how many members are below it.

    leaf    count | hints | handles | next, previous
    inner   count | hints | handles | counts | children

A place is found with a bound: how many members are below it is the rank of the first one that is not.
Ownership: the tree owns its nodes (mem_alloc, the data account), the arena the members.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dfly._core.store.member_arena cimport arena_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    NODE_SLOTS = 60
    HEIGHT_MAX = 10

cdef struct node_t:
    uint32_t count
    uint32_t unused
    int32_t hints[60]
    uint32_t handles[60]

cdef struct leaf_t:
    node_t node
    leaf_t *next
    leaf_t *previous

cdef struct inner_t:
    node_t node
    uint32_t counts[60]
    node_t *children[60]

cdef struct tree_t:
    node_t *root
    uint32_t height                  # 0: the root is a leaf
    uint32_t count
    uint32_t leaf_count
    uint32_t inner_count

cdef enum bound_kind_t:
    BOUND_MEMBER = 0                 # by score, then text
    BOUND_SCORE = 1
    BOUND_TEXT = 2                   # by text alone, where all scores are the same

cdef struct bound_t:
    bound_kind_t kind
    int32_t hint
    double score
    slice_t text
    bint inclusive                   # what is equal is below the bound too

cdef void tree_init(tree_t *self) noexcept nogil
cdef void tree_add(tree_t *self, const arena_t *arena, uint32_t handle) noexcept nogil
# The member has the score under which it was added.
cdef void tree_remove(tree_t *self, const arena_t *arena, uint32_t handle) noexcept nogil
# Changes the member's score, and its place if need be.
cdef void tree_change_score(tree_t *self, const arena_t *arena, uint32_t handle, double score) noexcept nogil
cdef uint64_t tree_rank(const tree_t *self, const arena_t *arena, const bound_t *bound) noexcept nogil
# The leaf with the member of this rank, which must be below the count, and its place there.
cdef leaf_t *tree_seek(const tree_t *self, uint64_t rank, uint32_t *place) noexcept nogil
# Takes up to `count` members from `rank` on out of one leaf; their handles go to out (NODE_SLOTS of them).
cdef uint32_t tree_take(tree_t *self, uint64_t rank, uint64_t count, uint32_t *out) noexcept nogil
# Is the member in the tree? The arena has it anyway.
cdef bint tree_holds(const tree_t *self, const arena_t *arena, uint32_t handle) noexcept nogil
# Cuts `count` members from `rank` on out, not all there are, and looks at none of them. Their handles are in a chain
# of leaves that is put before *cut, for the caller to free (mem_free); returns how many leaves there are.
cdef uint32_t tree_cut(tree_t *self, uint64_t rank, uint64_t count, leaf_t **cut) noexcept nogil
cdef void tree_dup(const tree_t *self, tree_t *out) noexcept nogil
cdef bint tree_free_step(tree_t *self, uint64_t *budget) noexcept nogil
cdef uint64_t tree_heap_bytes(const tree_t *self) noexcept nogil
cdef bint tree_check(const tree_t *self, const arena_t *arena) noexcept nogil


cdef inline int32_t score_hint(double score) noexcept nogil:
    """Ascends as scores do. Minus zero is zero."""
    cdef int64_t bits
    score += 0.0
    memcpy(&bits, &score, 8)
    if bits < 0:
        bits ^= INT64_MAX
    return <int32_t>(bits >> 32)


cdef inline void bound_set_score(bound_t *self, double score, bint inclusive) noexcept nogil:
    self.kind = BOUND_SCORE
    self.hint = score_hint(score)
    self.score = score
    self.inclusive = inclusive


cdef inline void bound_set_member(bound_t *self, double score, slice_t text, bint inclusive) noexcept nogil:
    self.kind = BOUND_MEMBER
    self.hint = score_hint(score)
    self.score = score
    self.text = text
    self.inclusive = inclusive


cdef inline void bound_set_text(bound_t *self, slice_t text, bint inclusive) noexcept nogil:
    self.kind = BOUND_TEXT
    self.hint = 0
    self.score = 0
    self.text = text
    self.inclusive = inclusive
