"""A walk over the blocks of a stream as they were when it began, however the stream changes meanwhile.

It notes all blocks at its beginning. A block that is about to change is copied for it (stream_walk_keep), one that goes
becomes the walk's own (stream_walk_take); what it has visited, and what is newer, does not concern it.

Ownership: the walk belongs to its beginner and must stay in place until it is over; the stream points to it meanwhile.
The list of blocks, and the blocks that are its own, are the walk's. All under the token of the stream's shard.
"""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.store.id_index cimport id_index_t, stream_id_t

ctypedef void (*stream_visit_t)(stream_id_t master, const uint8_t *pack, void *context) noexcept nogil

cdef struct walked_pack_t:
    stream_id_t master
    uint8_t *pack
    bint is_own

cdef struct stream_walk_t:
    stream_walk_t **link         # the stream's pointer to it; NULL: the stream is gone, what is left is the walk's own
    walked_pack_t *packs         # in order; NULL: it is over
    uint64_t size
    uint64_t position            # the next one
    stream_visit_t visit
    void *context
    const void *owner            # its beginner's mark
    uint64_t forced              # blocks that were copied or taken over

# One walk at a time. Sets the fields but visit, context and owner.
cdef void stream_walk_begin(stream_walk_t *self, const id_index_t *blocks, stream_walk_t **link) noexcept nogil
cdef bint stream_walk_step(stream_walk_t *self) noexcept nogil               # some blocks; True: it is over
cdef void stream_walk_end(stream_walk_t *self) noexcept nogil                # before it is over, too
# The block is about to change, or to move.
cdef void stream_walk_keep(stream_walk_t *self, stream_id_t master) noexcept nogil
# The block goes. True: the walk has it now; False: the caller frees it.
cdef bint stream_walk_take(stream_walk_t *self, stream_id_t master) noexcept nogil
