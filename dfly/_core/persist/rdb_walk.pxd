"""Large collections written member by member while they change: sets, hashes, sorted sets; lists and streams by blocks.

A walk begins where the record's value begins, and writes how many members there are. From then on every member that was
there is written once, as it was: in steps, or before it changes or goes, by whoever changes it (the walks of store/dash
and store/member_arena see to that; they follow the container, whatever becomes of its key). Their order is free in all
these types, so what is loaded is the collection at the moment of the beginning. The order of a list is not: its walk
(store/block_list) gets blocks that are about to change as copies, and writes all in their turn. So does that of a
stream (store/stream_walk), and what is pending in its groups, which stands behind its blocks (persist/stream_rest).

Ownership: the walk must stay in place until it is over; writer and owner are the caller's. All of it runs under the
token of the shard that the owner stands for.
"""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.persist.rdb_io cimport rdb_writer_t
from dfly._core.persist.stream_rest cimport stream_rest_t
from dfly._core.store.block_list cimport list_walk_t
from dfly._core.store.dash cimport dash_walk_t
from dfly._core.store.member_arena cimport arena_walk_t
from dfly._core.store.object cimport object_t, object_type_t
from dfly._core.store.stream_walk cimport stream_walk_t

cdef struct rdb_walk_t:
    object_type_t type
    dash_walk_t table                # sets, hashes
    arena_walk_t arena               # sorted sets
    list_walk_t blocks               # lists
    stream_walk_t packs              # streams
    stream_rest_t rest               # of a stream, behind its blocks
    bint has_rest
    rdb_writer_t *out
    bint is_timed                    # members come with their deadlines
    int64_t least                    # of hashes: deadlines count from here

# Can it be written so, and has it more than so many members?
cdef bint rdb_can_walk(const object_t *value, uint64_t members) noexcept nogil
cdef void rdb_walk_begin(rdb_walk_t *self, object_t *value, rdb_writer_t *out, const void *owner) noexcept nogil
# Writes some more members; True: all are written.
cdef bint rdb_walk_step(rdb_walk_t *self) noexcept nogil
cdef void rdb_walk_end(rdb_walk_t *self) noexcept nogil              # gives it up
cdef uint64_t rdb_walk_forced(const rdb_walk_t *self) noexcept nogil     # how often a change was first
