"""Commands over many elements, in slices: others get their turn between two of them, and the command stays atomic.

For commands that read some keys and, at their end, reply or change one key. Such a transaction works under its tokens
for a slice, builds its result aside, gives its tokens away and goes on in a later tick. Meanwhile it listens to its
sources as WATCH does. If one of them has changed, it drops what it has and begins again; after a few attempts it goes
on to its end under its tokens, so nobody can keep it from ending. It takes place as a whole at the moment of its last
slice. A command of an EXEC is never sliced. Sources must be of types whose changes all show to WATCH: streams are not.

    stage of the first look:    if slices_wanted(tx, elements): slices_begin(&job.slices, tx, first_source)
    a hop:                      slices_work(&job.slices, tx, &work); while work_goes_on(&work) and ...: an element
    behind it, not finished:    return slices_pause(tx)
    then:                       if slices_resume(&job.slices, tx): the hop again; else: drop, look again
    at its end:                 slices_end(&job.slices, tx)

Ownership: slices_t lies in the transaction's state; its listeners are in their shards' tables from slices_begin to
slices_end or to a slices_resume that says False.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.listeners cimport listener_t
from dfly._core.sys.base cimport likely

cdef struct slices_t:
    uint64_t is_changed          # a source
    uint32_t attempts            # that were in vain
    uint32_t first_key           # sources: the keys from here on
    listener_t *listeners        # one for each source; NULL: it does not pause

cdef struct work_t:
    uint64_t left                # steps until the next look at the clock
    uint64_t more                # behind those
    int64_t deadline_us

cdef bint slices_wanted(const slices_t *self, const transaction_t *tx, uint64_t elements) noexcept nogil
cdef void slices_begin(slices_t *self, transaction_t *tx, uint32_t first_key) noexcept nogil
cdef void slices_end(slices_t *self, transaction_t *tx) noexcept nogil
cdef void slices_work(const slices_t *self, const transaction_t *tx, work_t *out) noexcept nogil
cdef int slices_pause(transaction_t *tx) noexcept nogil
# False: a source has changed, or a member of one is due.
cdef bint slices_resume(slices_t *self, transaction_t *tx) noexcept nogil
cdef bint work_look(work_t *self) noexcept nogil


cdef inline bint work_goes_on(work_t *self) noexcept nogil:
    """Asked before each step."""
    if likely(self.left > 0):
        self.left -= 1
        return True
    return work_look(self)
