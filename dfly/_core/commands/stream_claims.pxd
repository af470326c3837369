"""Claims of many pending entries: what XAUTOCLAIM and XREADGROUP with CLAIM share.

What is to be claimed is chosen first, then replied, then given to its consumer as one. The first two go in slices if
the caller has them, the last one costs some nanoseconds an entry. A claim in slices is watched (stream_groups): as soon
as an entry that it has seen is claimed, acknowledged or delivered by others it is no longer still, and begins again.
What happens to other entries does not disturb it, nor do those that are added, or trimmed and not pending.

    claim_by_id(&self, ...) or claim_by_time(&self, ...)
    claim_begin(&self, stream, group, in_slices)
    claim_choose(&self, stream, &work)                   True: self.chosen and self.gone are known
    claim_reply(&self, stream, &reply, &work)            True: all chosen ones are replied; not if they were at once
    claim_finish(&self, consumer, now_ms)
    claim_free(&self)

In slices claim_is_still comes before each one.

Ownership: a claim owns its two lists (net_alloc), until claim_free; the entries are the group's, and there as long as
it is still. A claim that is given up leaves its watch behind, which does no harm.
"""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.engine.slices cimport work_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport pending_t, stream_consumer_t, stream_group_t

cdef struct pending_list_t:
    pending_t **entries
    uint64_t count
    uint64_t capacity

cdef struct claim_t:
    int64_t now_ms               # when it began
    int64_t min_idle_ms
    uint64_t most                # chosen ones; by ID, those that are gone count as well
    uint64_t attempts            # entries that are looked at
    bint by_time                 # the longest pending first; else by ID
    bint just_id                 # their IDs alone, and no further delivery
    bint is_chosen
    stream_group_t *group
    uint64_t number              # of its watch; 0: it has none
    stream_id_t next             # by ID: where it goes on; at the end where the next claim would, or zero
    pending_t *visited           # by time: the last one; NULL: none
    stream_id_t first_id         # the stream's, when it was looked at last
    uint64_t epoch               # the stream's
    uint64_t replied             # of the chosen ones
    reply_t *at_once             # where they are replied while they are chosen, or NULL; set before they are
    pending_list_t chosen
    pending_list_t gone          # pending, but no longer in the stream

cdef void claim_by_id(claim_t *self, stream_id_t start, int64_t min_idle_ms, uint64_t most, uint64_t attempts,
                      bint just_id, int64_t now_ms) noexcept nogil
cdef void claim_by_time(claim_t *self, int64_t min_idle_ms, uint64_t most, int64_t now_ms) noexcept nogil
cdef void claim_begin(claim_t *self, const stream_t *stream, stream_group_t *group, bint in_slices) noexcept nogil
cdef bint claim_choose(claim_t *self, const stream_t *stream, work_t *work) noexcept nogil
cdef bint claim_reply(claim_t *self, const stream_t *stream, reply_t *reply, work_t *work) noexcept nogil
# consumer NULL: nothing is chosen.
cdef void claim_finish(claim_t *self, stream_consumer_t *consumer, int64_t now_ms) noexcept nogil
cdef void claim_free(claim_t *self) noexcept nogil
# stream: what the key has now, and had.
cdef bint claim_is_still(claim_t *self, const stream_t *stream) noexcept nogil
