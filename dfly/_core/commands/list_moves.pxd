"""Moving and popping over several list keys: the part that LMOVE shares with BLMOVE, LMPOP with BLMPOP.

On one shard these are plain functions. Over shards they are steps of a transaction that holds the tokens
of all its keys: a command's step returns what they return while that is TRANSACTION_HOP. At
TRANSACTION_DONE the reply is written, or it is empty because there was nothing to take; tx.stage is 0
again then, so that who waits can try once more.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport TYPE_LIST, key_t, object_is_container, object_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    LIST_BARE = 0

# Both keys on the scope's shard. Replies the element or WRONGTYPE; False: the source does not exist,
# nothing is replied.
cdef bint list_move(scope_t *scope, const key_t *source, const key_t *destination, bint from_front,
                    bint to_front, reply_t *reply) noexcept nogil
# Pops up to `count` elements from the first key that exists. Replies [key, [element ...]], with count
# LIST_BARE [key, element], or WRONGTYPE; False: no key exists.
cdef bint list_pop_first(scope_t *scope, const key_t *keys, uint32_t key_count, uint64_t count, bint front,
                         reply_t *reply) noexcept nogil

# tx.keys[0] is the source, tx.keys[1] the destination. Uses tx.state and tx.numbers[6..7].
cdef int list_move_step(transaction_t *tx, bint from_front, bint to_front) noexcept nogil
# From the first of tx.keys that exists. Uses tx.numbers[5..7].
cdef int list_pop_first_step(transaction_t *tx, uint64_t count, bint front) noexcept nogil
# The last part of list_pop_first_step alone, for a waiter: tx.keys[position] holds a list.
cdef void list_pop_at(transaction_t *tx, uint32_t position) noexcept nogil

# What follows the keys of LMPOP, from argv[first] on: numkeys key ... LEFT|RIGHT [COUNT count].
cdef bint parse_list_pop(transaction_t *tx, uint32_t first, int64_t *count, bint *front) noexcept nogil
# Their positions in argv, for get_keys.
cdef int list_pop_keys(const slice_t *argv, uint32_t argc, uint32_t first, uint32_t *out) noexcept nogil

cdef inline bint is_list(const object_t *value) noexcept nogil:
    return object_is_container(value, TYPE_LIST)
