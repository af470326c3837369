"""Replies of many elements of one key, in slices.

The handler of a KIND_KEY row with long_read_step as its step looks its key up and finds that it would reply many
elements. Then it says what they are (long_read_begin) and returns. The dispatcher starts a transaction, whose hop
asks the handler again, since the key may have changed meanwhile; what it says then is replied slice by slice
(engine/slices). One that has taken out of the key what it replies (LPOP) sets slices.first_key to 1: it listens to
no key, and never begins again. One that not every change concerns (XRANGE) sets still: whether, after a change, what
was replied and what is left are one moment's.

    if long_read_wanted(call, count):
        read = long_read_begin(call, value, go_on)
        if read != NULL:
            read.left = count ...
        return

Ownership: long_read_t is the transaction's state; its value and cursor borrow, as slices drop them with any change.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.command cimport SLICING_NEVER, call_t, transaction_t
from dfly._core.engine.slices cimport slices_t, work_t
from dfly._core.store.block_list cimport list_cursor_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.member_set cimport set_cursor_t
from dfly._core.store.object cimport object_t
from dfly._core.store.sorted_set cimport zset_cursor_t
from dfly._core.sys.base cimport unlikely

cdef struct entries_left_t:
    stream_id_t start            # where it goes on: an entry that there is, or the range's own end
    stream_id_t end
    stream_id_t first            # the stream's, when they were found
    uint64_t epoch               # the stream's

cdef union read_cursor_t:
    uint64_t buckets             # of a hash
    entries_left_t entries       # of a stream
    list_cursor_t elements
    set_cursor_t members
    zset_cursor_t scores

# Replies while work_goes_on(&self.work), the header too; True when all is replied.
ctypedef bint (*long_read_work_t)(long_read_t *self, transaction_t *tx) noexcept nogil
ctypedef void (*long_read_drop_t)(long_read_t *self) noexcept nogil
ctypedef bint (*long_read_still_t)(const long_read_t *self, const object_t *value) noexcept nogil

cdef struct long_read_t:
    slices_t slices
    work_t work
    long_read_work_t go_on
    long_read_still_t still      # of the key's value as it is now; NULL: any change is one too many
    object_t value
    read_cursor_t cursor
    void *extra                  # the family's, freed with the read (net_alloc); NULL
    long_read_drop_t drop        # frees what go_on has made there when its work is dropped; NULL
    uint64_t first               # the families' own, as those up to is_backward
    uint64_t left
    uint64_t visited
    uint64_t tries
    uint32_t what
    bint is_backward
    bint is_unseen               # WATCH does not see each change of what is read: still is asked before every slice
    bint is_begun                # False: go_on has not been called
    bint is_wanted               # the handler left it to slices
    bint is_done

# NULL: the dispatcher is asked for a transaction first.
cdef long_read_t *long_read_begin(call_t *call, const object_t *value, long_read_work_t go_on) noexcept nogil
cdef int long_read_step(transaction_t *tx) noexcept nogil
# For families that reply few elements by the same function: all of it, without a transaction. extra is the caller's.
cdef void long_read_at_once(long_read_t *self, const object_t *value) noexcept nogil


cdef inline bint long_read_wanted(const call_t *call, uint64_t count) noexcept nogil:
    """Are these so many elements that others should not wait for them, and may the call go in slices?"""
    return (unlikely(count > <uint64_t>call.scope.shard.settings.slice_elements)
            and call.slicing != SLICING_NEVER)
