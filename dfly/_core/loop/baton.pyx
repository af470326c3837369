"""Implementation of the baton: see baton.pxd for the contract.

No wake-up is lost: a thread pushes its mark and then tries once more; a holder frees the word and then
looks at the queue once more. Both steps are sequentially consistent, so one of the two sees the other.

Who wakes another thread holds a pointer to its seat and proactor meanwhile. baton_wakers counts such
moments; baton_seat_deinit takes the seat out of the queue and then waits for the count to be zero.
"""

from libc.stdint cimport uint64_t
from posix.time cimport nanosleep, timespec

from dfly._core.loop.mailbox cimport (
    mailbox_init, mailbox_is_empty, mailbox_push, mailbox_t, mailbox_take, message_t,
)
from dfly._core.loop.proactor cimport proactor_t, proactor_wake
from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_CHECK, DFLY_DCHECK, atomic_add, atomic_cas, atomic_exchange, atomic_load,
    atomic_store, atomic_store_relaxed, atomic_sub, dfly_on_thread_stack, full_fence,
)
from dfly._core.sys.clock cimport monotonic_us

cdef extern from * nogil:
    """
    #ifdef Py_GIL_DISABLED
    #define DFLY_BATON_EXISTS 0
    #else
    #define DFLY_BATON_EXISTS 1
    #endif
    """
    bint DFLY_BATON_EXISTS

__abi__ = DFLY_ABI_STAMP

cdef enum:
    MARK_NONE = 0          # not in the queue
    MARK_WANTING = 1       # in the queue
    MARK_STALE = 2         # in the queue, but the thread got the baton by itself since

cdef uint64_t baton_word = 0            # 1 while held
cdef uint64_t baton_wakers = 0          # threads in the middle of pass_on
cdef mailbox_t baton_marks
cdef message_t *baton_queue = NULL      # marks taken out of baton_marks, oldest first: the holder's
mailbox_init(&baton_marks)


cdef void baton_seat_init(baton_seat_t *self, proactor_t *proactor) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(self), "a baton seat must not lie on a stack")
    self.mark.next = NULL
    self.mark.run = NULL
    self.proactor = proactor
    self.mark_state = MARK_NONE
    self.granted = 0
    self.waiting_since_us = 0
    self.holds = False
    self.waits = 0


cdef baton_seat_t *pop_marked() noexcept nogil:
    """The longest waiting seat that still wants the baton, or NULL. For the holder."""
    global baton_queue
    cdef baton_seat_t *seat
    while True:
        if baton_queue == NULL:
            baton_queue = mailbox_take(&baton_marks)
            if baton_queue == NULL:
                return NULL
        seat = <baton_seat_t *>baton_queue
        baton_queue = baton_queue.next          # before the exchange: from then on the seat may mark again
        if atomic_exchange(&seat.mark_state, MARK_NONE) == MARK_WANTING:
            return seat


cdef bint taken(baton_seat_t *self) noexcept nogil:
    self.holds = True
    atomic_store(&self.waiting_since_us, 0)
    atomic_cas(&self.mark_state, MARK_WANTING, MARK_STALE)
    return True


cdef bint leave_mark(baton_seat_t *self) noexcept nogil:
    """True if a mark was newly announced, so that the caller has to look at the baton once more."""
    if atomic_load(&self.mark_state) == MARK_WANTING:
        return False
    if self.waiting_since_us == 0:
        atomic_store(&self.waiting_since_us, <uint64_t>monotonic_us())
        atomic_store_relaxed(&self.waits, self.waits + 1)
    if atomic_cas(&self.mark_state, MARK_STALE, MARK_WANTING):
        return True
    if atomic_cas(&self.mark_state, MARK_NONE, MARK_WANTING):
        mailbox_push(&baton_marks, &self.mark)
    return True


cdef bint baton_try_unmarked(baton_seat_t *self) noexcept nogil:
    if not DFLY_BATON_EXISTS or self.holds:
        return True
    if atomic_load(&self.granted):
        atomic_store(&self.granted, 0)
        return taken(self)
    return atomic_cas(&baton_word, 0, 1) and taken(self)


cdef bint baton_try(baton_seat_t *self) noexcept nogil:
    if baton_try_unmarked(self):
        return True
    if leave_mark(self):
        full_fence()
        if atomic_cas(&baton_word, 0, 1):
            return taken(self)
    return False


cdef bint pass_on(baton_seat_t *next_seat) noexcept nogil:
    """Wakes the next thread; True if it was handed the baton itself."""
    cdef uint64_t since = atomic_load(&next_seat.waiting_since_us)
    cdef bint handed = since != 0 and <uint64_t>monotonic_us() - since >= BATON_HANDOVER_US
    cdef proactor_t *proactor = next_seat.proactor
    if handed:
        atomic_store(&next_seat.granted, 1)
    proactor_wake(proactor)
    return handed


cdef void baton_release(baton_seat_t *self) noexcept nogil:
    cdef baton_seat_t *next_seat
    cdef bint handed
    if not DFLY_BATON_EXISTS or not self.holds:
        return
    self.holds = False
    while True:
        atomic_add(&baton_wakers, 1)
        next_seat = pop_marked()
        handed = next_seat != NULL and pass_on(next_seat)
        atomic_sub(&baton_wakers, 1)
        if handed:
            return
        DFLY_CHECK(atomic_exchange(&baton_word, 0) == 1, "the baton was let go twice")
        # A mark that came while we let go: whoever gets the baton now looks after it.
        if mailbox_is_empty(&baton_marks) or not atomic_cas(&baton_word, 0, 1):
            return


cdef void unlink_mark(baton_seat_t *self) noexcept nogil:
    """For the holder."""
    global baton_queue
    cdef message_t **link = &baton_queue
    cdef message_t *fresh = mailbox_take(&baton_marks)
    while link[0] != NULL:
        link = &link[0].next
    link[0] = fresh
    link = &baton_queue
    while link[0] != NULL:
        if link[0] == &self.mark:
            link[0] = self.mark.next
            return
        link = &link[0].next


cdef void baton_seat_deinit(baton_seat_t *self) noexcept nogil:
    cdef timespec pause
    if not DFLY_BATON_EXISTS:
        return
    pause.tv_sec = 0
    pause.tv_nsec = 100000
    while not baton_try(self):
        nanosleep(&pause, NULL)
    unlink_mark(self)
    atomic_store(&self.mark_state, MARK_NONE)
    baton_release(self)
    while atomic_load(&baton_wakers) != 0:
        nanosleep(&pause, NULL)


cdef bint baton_exists() noexcept nogil:
    return DFLY_BATON_EXISTS
