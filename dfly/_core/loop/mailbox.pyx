"""Implementation of the mailbox: a Treiber stack that is only ever emptied as a whole.

Taking everything with one exchange rules out the ABA problem of popping single nodes, and
reversing the chain gives the order of pushing (Treiber, Systems programming: coping with
parallelism, 1986).
"""

from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_DCHECK, atomic_cas_pointer, atomic_exchange_pointer, atomic_load_pointer,
    dfly_on_thread_stack,
)

__abi__ = DFLY_ABI_STAMP


cdef void mailbox_init(mailbox_t *self) noexcept nogil:
    self.head = NULL


cdef bint mailbox_push(mailbox_t *self, message_t *message) noexcept nogil:
    cdef void *head
    DFLY_DCHECK(not dfly_on_thread_stack(message), "a message must not lie on a stack")
    while True:
        head = atomic_load_pointer(&self.head)
        message.next = <message_t *>head
        if atomic_cas_pointer(&self.head, head, message):
            return head == NULL


cdef message_t *mailbox_take(mailbox_t *self) noexcept nogil:
    cdef message_t *newest
    cdef message_t *oldest = NULL
    cdef message_t *following
    # A plain load first: an empty mailbox must not cost a locked instruction every tick.
    if atomic_load_pointer(&self.head) == NULL:
        return NULL
    newest = <message_t *>atomic_exchange_pointer(&self.head, NULL)
    while newest != NULL:
        following = newest.next
        newest.next = oldest
        oldest = newest
        newest = following
    return oldest
