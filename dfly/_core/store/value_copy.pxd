"""Copying a large value step by step, while it does not change.

    value_copy_begin(&self, value, &limits)
    while not value_copy_step(&self, &budget): ...      the budget is spent; others run
    self.copy is the caller's

Sets, hashes and sorted sets are built anew, member by member; lists too, with blocks of the limits given; streams block
by block, then what is pending in their groups: of these stream_mark must be what it was, too. What else there is,
strings and what lies in one block, is copied by the first step whatever the budget (object_dup).

Ownership: `copy` belongs to value_copy_t until it is taken, and is a valid value after each step. The source is
borrowed.
"""

from libc.stdint cimport uint64_t

from dfly._core.store.block_list cimport list_cursor_t, list_limits_t
from dfly._core.store.member_set cimport set_cursor_t
from dfly._core.store.object cimport object_t
from dfly._core.store.sorted_set cimport zset_cursor_t

cdef union copy_cursor_t:
    uint64_t buckets             # of a hash
    list_cursor_t elements
    set_cursor_t members
    zset_cursor_t scores

cdef struct value_copy_t:
    object_t source
    object_t copy
    copy_cursor_t cursor
    list_limits_t limits         # of lists

# How long object_dup takes, which copies blocks as they are: in elements as other commands handle them. What is not
# much is better copied that way, as member by member costs ten times as much.
cdef uint64_t value_copy_weight(const object_t *source) noexcept nogil
cdef void value_copy_begin(value_copy_t *self, const object_t *source, const list_limits_t *limits) noexcept nogil
# One off the budget for each member, or block of a stream; True when all is copied.
cdef bint value_copy_step(value_copy_t *self, uint64_t *budget) noexcept nogil
