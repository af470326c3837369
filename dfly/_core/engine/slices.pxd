"""Commands over many elements, in slices: others get their turn between two of them, and the command stays atomic.

For commands that read some keys and, at their end, reply or change one key. Such a transaction works under its tokens
for a slice, builds its result aside, gives its tokens away and goes on in a later tick. Meanwhile it listens to its
sources as WATCH does. If one of them has changed, it drops what it has and begins again; after a few attempts it goes
on to its end under its tokens, so nobody can keep it from ending. It takes place as a whole at the moment of its last
slice. A command of an EXEC is never sliced. Changes of sources must show to WATCH (of groups of streams they do not).
Where not every change matters the work hop looks itself: slices_changed, then is_stale. Sources that no argument names
(SORT's BY and GET) are listened to by their form, on all shards, whose tokens the command then needs.

    stage 0, arguments read:    return slices_look(tx, &PLAN)
    stage SLICES_LOOKED:        the job is made;
                                return slices_first(&job.slices, tx, elements, first_source, &PLAN)
    any other:                  return slices_next(&job.slices, tx, job.is_done, &PLAN)
    the work hop:               slices_work(&job.slices, tx, &work);
                                while work_goes_on(&work) and ...: an element

What a slice has replied may be in tx.chain by the next one; a header that comes last is reply_chain_header's. When the
work is dropped, so is the reply.

Ownership: slices_t lies in the transaction's state, zero at first; its listeners are in their shards' tables from
slices_first until the work is done or dropped.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport hop_t, transaction_t
from dfly._core.engine.listeners cimport listener_t
from dfly._core.engine.pattern_listeners cimport key_pattern_t, pattern_listener_t
from dfly._core.store.merge_sort cimport merge_sort_t
from dfly._core.sys.base cimport likely

cdef enum slices_stage_t:
    # tx.stage; 0 is the command's own.
    SLICES_LOOKED = 1
    SLICES_WORKED = 2
    SLICES_PAUSED = 3
    SLICES_DROPPED = 4

cdef struct slices_plan_t:
    hop_t look                   # on the keys: what there is
    hop_t work                   # on the first key's shard: a slice, at last the result
    hop_t drop                   # there: what is built is in vain

cdef struct slices_t:
    uint64_t is_changed          # a source
    bint looks_itself            # the work hop does at such changes; set before slices_first
    bint is_stale                # and has found that its work is in vain
    uint32_t attempts            # that were in vain
    uint32_t first_key           # sources: the keys from here on
    const key_pattern_t *patterns    # and these keys, borrowed; set before slices_first
    uint32_t pattern_count
    listener_t *listeners        # one for each source; NULL: it does not pause
    pattern_listener_t *pattern_listeners    # one for each pattern and shard

cdef struct work_t:
    uint64_t left                # steps until the next look at the clock
    uint64_t more                # behind those
    int64_t deadline_us

cdef int slices_look(transaction_t *tx, const slices_plan_t *plan) noexcept nogil
# elements: about so many are to be read.
cdef int slices_first(slices_t *self, transaction_t *tx, uint64_t elements, uint32_t first_key,
                      const slices_plan_t *plan) noexcept nogil
cdef int slices_next(slices_t *self, transaction_t *tx, bint is_done, const slices_plan_t *plan) noexcept nogil
cdef void slices_work(const slices_t *self, const transaction_t *tx, work_t *out) noexcept nogil
cdef bint work_look(work_t *self) noexcept nogil
cdef void work_all(work_t *out) noexcept nogil           # it goes on for ever
# True when all is sorted, which takes no step: they are for what comes next.
cdef bint work_sort(work_t *self, merge_sort_t *sort) noexcept nogil
# For the work hop: has a source changed since it was asked last?
cdef bint slices_changed(slices_t *self) noexcept nogil
# For the work hop, which holds all tokens: what has changed since it began was due when the work began.
cdef void slices_ignore_changes(slices_t *self) noexcept nogil


cdef inline bint work_goes_on(work_t *self) noexcept nogil:
    """Asked before each step."""
    if likely(self.left > 0):
        self.left -= 1
        return True
    return work_look(self)
