"""What commands that pop share: LPOP, SPOP and ZPOPMIN their count; those of several keys all but the type.

LMPOP and ZMPOP are mpop_step, BLPOP, BRPOP, BZPOPMIN and BZPOPMAX bpop_step, BLMPOP and BZMPOP bmpop_step: they pop
from the first of their keys that exists, over any number of shards. Those that wait try first (engine/blocking). What a
connection was served that is gone goes back to the key, read from the reply that nobody will see: of bpop_step
[key, element], of the others [key, [element ...]]. Many elements that were there at once are replied in slices.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.commands.long_reads cimport long_read_t
from dfly._core.engine.command cimport call_t, transaction_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.waiter cimport waiter_accepts_t, waiting_rules_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport key_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    POP_BARE = 0                 # as a count: one element, with no array of its own

cdef enum pop_look_t:
    POP_ABSENT = 0
    POP_FOUND = 1
    POP_WRONG_TYPE = 2

cdef struct pop_family_t:
    # A type; all of it runs under the token of the key's shard. `first_end`: LEFT, MIN.
    const char *first_word       # how its ends are called, in lower case
    const char *last_word
    pop_look_t (*look)(scope_t *scope, const key_t *key) noexcept nogil
    # From a key that was found at most `count`, or POP_BARE; the whole reply.
    void (*pop)(scope_t *scope, const key_t *key, uint64_t count, bint first_end, reply_t *reply) noexcept nogil
    # The same of more than slice_elements, in slices: what long_reads want, for the first of tx.keys. If is_cut, the
    # elements have left the key when it returns; else they leave it with the last slice.
    void (*begin)(scope_t *scope, const key_t *key, uint64_t count, bint first_end, long_read_t *read) noexcept nogil
    bint is_cut
    # `text`: so many elements as `pop` replied them. The key may be anything by now.
    void (*put_back)(scope_t *scope, const key_t *key, const char *text, int64_t count, bint first_end) noexcept nogil
    waiting_rules_t rules        # pop_family_init sets them

cdef void pop_family_init(pop_family_t *family, waiter_accepts_t accepts) noexcept nogil

# They use tx.numbers[4..7].
cdef int mpop_step(transaction_t *tx, const pop_family_t *family) noexcept nogil
cdef int bpop_step(transaction_t *tx, const pop_family_t *family, bint first_end) noexcept nogil
cdef int bmpop_step(transaction_t *tx, const pop_family_t *family) noexcept nogil
# Their get_keys.
cdef int mpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil
cdef int bmpop_keys(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil

# Reading a reply: the number in a line such as $12 or *3; a bulk string. Both return what follows.
cdef const char *read_header(const char *text, int64_t *number) noexcept nogil
cdef const char *read_bulk(const char *text, slice_t *out) noexcept nogil

# The count in argv[2], -1 if there is none; False after an error reply.
cdef bint pop_count(call_t *call, int64_t *count) noexcept nogil
