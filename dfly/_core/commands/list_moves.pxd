"""Moving an element between list keys: the part that LMOVE shares with BLMOVE.

On one shard it is a plain function. Over shards it is steps of a transaction that holds the tokens of both keys: a
command's step returns what list_move_step returns while that is TRANSACTION_HOP. At TRANSACTION_DONE the reply is
written, or it is empty because there was nothing to take; tx.stage is 0 again then, so that who waits can try once
more.
"""

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport key_t

# Both keys on the scope's shard. Replies the element or WRONGTYPE; False: the source does not exist,
# nothing is replied.
cdef bint list_move(scope_t *scope, const key_t *source, const key_t *destination, bint from_front,
                    bint to_front, reply_t *reply) noexcept nogil
# tx.keys[0] is the source, tx.keys[1] the destination. Uses tx.state and tx.numbers[6..7].
cdef int list_move_step(transaction_t *tx, bint from_front, bint to_front) noexcept nogil
