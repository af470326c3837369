"""A walk over what is pending in a group as it was when it began, however the group changes meanwhile.

It goes through the group's index, in the order of IDs. An entry that is about to change or to go is noted as it was, if
the walk has not been there yet; one that comes is noted as not there. So what is noted, and what else is in the index,
are together what was pending. Consumers are known by numbers, from 1 on, in the order of their names at the beginning.

    pending_walk_begin(&self, &group.walk, &group.pending, count, owner)        their numbers are set
    while self.left > 0: count = pending_walk_step(&self, entries, room) ...
    pending_walk_end(&self)                                                    before it is over, too

Ownership: the walk belongs to its beginner and must stay in place until its end; the group points to it meanwhile. The
notes are the walk's. All under the token of the stream's shard.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.store.id_index cimport id_index_t, stream_id_t

cdef struct walked_pending_t:
    stream_id_t id
    uint32_t consumer            # its number; 0: it was not pending
    int64_t delivered_ms
    uint64_t deliveries

# What an entry of the index is now.
ctypedef void (*pending_read_t)(const void *entry, walked_pending_t *out) noexcept nogil

cdef struct pending_walk_t:
    pending_walk_t **link        # the group's pointer to it; NULL: all that is left is noted
    const id_index_t *entries    # of the group
    pending_read_t read
    id_index_t noted             # of walked_pending_t, none of them visited
    stream_id_t next             # where it goes on
    stream_id_t last             # of those that were there
    uint64_t left                # entries that are still to be visited
    const void *owner            # its beginner's mark

# One walk of a group at a time. count: entries of the index whose consumers have a number.
cdef void pending_walk_begin(pending_walk_t *self, pending_walk_t **link, const id_index_t *entries,
                             pending_read_t read, uint64_t count, const void *owner) noexcept nogil
# The next ones, at most `room`; returns how many.
cdef uint32_t pending_walk_step(pending_walk_t *self, walked_pending_t *out, uint32_t room) noexcept nogil
cdef void pending_walk_end(pending_walk_t *self) noexcept nogil

# The entry is about to change or to go; or it was not there and has come (consumer 0).
cdef void pending_walk_note(pending_walk_t *self, const walked_pending_t *was) noexcept nogil
# The group goes, or goes elsewhere: all that is left is noted.
cdef void pending_walk_detach(pending_walk_t *self) noexcept nogil
