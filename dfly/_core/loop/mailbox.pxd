"""Mailbox: many producers, one consumer at a time; intrusive, lock-free, no allocation.

A message is embedded first in whatever struct travels. Push is one compare-and-swap; take
removes everything at once and returns it oldest first, so each producer's order holds.
Ownership: the message belongs to the mailbox from push to take, then to the taker. It must
never lie on a stack.
"""

ctypedef void (*message_run_t)(message_t *message, void *context) noexcept nogil

cdef struct message_t:
    message_t *next
    message_run_t run            # called by the consumer with its own context (shard or proactor)

cdef struct mailbox_t:
    void *head                   # newest first
    char padding[56]             # a cache line of its own

cdef void mailbox_init(mailbox_t *self) noexcept nogil
cdef bint mailbox_push(mailbox_t *self, message_t *message) noexcept nogil   # True if it was empty before
cdef message_t *mailbox_take(mailbox_t *self) noexcept nogil                 # oldest first, or NULL

from dfly._core.sys.base cimport atomic_load_pointer

cdef inline bint mailbox_is_empty(mailbox_t *self) noexcept nogil:
    return atomic_load_pointer(&self.head) == NULL
