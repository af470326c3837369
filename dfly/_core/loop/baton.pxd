"""The baton: who may run fibers, that is, who may ask for the GIL. One in the process.

A thread never blocks for the baton. It tries; where that fails it leaves a mark and goes on with its
data plane, and a holder that lets go wakes one marked thread (proactor_wake), which tries again.

Invariants:
1. A thread that failed has its mark in the queue, or has been woken since the mark was taken out.
   It keeps wanting until it holds the baton: ready fibers do not go away by themselves.
2. The queue is taken apart only by the holder; marks are pushed by anybody.
3. Barging is allowed (the woken thread may find the baton gone and marks again), but a thread that
   has waited for BATON_HANDOVER_US is given the baton directly.

On a free-threaded Python there is no GIL and so no baton: every try succeeds.
"""

from libc.stdint cimport uint64_t

from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t

cdef enum:
    BATON_HANDOVER_US = 2000

cdef struct baton_seat_t:
    message_t mark               # link in the queue; first, so that a mark is its seat
    proactor_t *proactor         # whom to wake
    uint64_t mark_state          # MARK_NONE, MARK_WANTING, MARK_STALE
    uint64_t granted             # the baton was handed over to this thread
    uint64_t waiting_since_us    # 0: not waiting
    bint holds
    uint64_t waits               # times it had to leave a mark

cdef void baton_seat_init(baton_seat_t *self, proactor_t *proactor) noexcept nogil
# Before the seat's memory is freed, without the GIL: unlinks the mark; may wait for the holder.
cdef void baton_seat_deinit(baton_seat_t *self) noexcept nogil
cdef bint baton_try(baton_seat_t *self) noexcept nogil            # for who goes on wanting it
cdef bint baton_try_unmarked(baton_seat_t *self) noexcept nogil   # leaves no mark
cdef void baton_release(baton_seat_t *self) noexcept nogil        # nothing happens where it is not held
cdef bint baton_exists() noexcept nogil
