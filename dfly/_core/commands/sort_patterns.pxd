"""The keys that SORT's BY and GET look up: an element in place of the pattern's "*", on whichever shard it lies.

Under the tokens of all shards, in the work hop of one (redis.io/docs/latest/commands/sort):

    lookups_begin(&self, tx, shard, now_ms)
    looks_up(&self, &pattern, element, &text) ...
    lookups_end(&self, shard)

Ownership: lookups_t lies on the heap and is zero at first; it owns its buffer until lookups_free. Patterns and what is
found are borrowed: the arguments must not move, and a text lasts until the next one is looked up.
"""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.pattern_listeners cimport key_pattern_t
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH
from dfly._core.store.object cimport OBJECT_SCRATCH
from dfly._core.sys.base cimport slice_t

cdef struct sort_pattern_t:
    bint is_element              # "#"
    bint is_constant             # without "*": nothing is ever found
    key_pattern_t key
    slice_t field                # of a hash; data NULL: the key is a string

cdef struct lookups_t:
    transaction_t *tx
    scope_t scope                # of the shard whose books are open
    uint64_t hits
    uint64_t misses
    char *name                   # of the key
    size_t capacity
    char scratch[OBJECT_SCRATCH]
    char number[LIST_ITEM_SCRATCH]

cdef void sort_pattern_parse(slice_t text, sort_pattern_t *out) noexcept nogil
cdef void lookups_begin(lookups_t *self, transaction_t *tx, shard_t *shard, int64_t now_ms) noexcept nogil
# False: there is nothing.
cdef bint looks_up(lookups_t *self, const sort_pattern_t *pattern, slice_t element, slice_t *out) noexcept nogil
cdef void lookups_end(lookups_t *self, shard_t *shard) noexcept nogil
# They were in vain: hits and misses do not count.
cdef void lookups_forget(lookups_t *self, transaction_t *tx) noexcept nogil
cdef void lookups_free(lookups_t *self) noexcept nogil


cdef inline bint sort_pattern_looks_up(const sort_pattern_t *self) noexcept nogil:
    return not (self.is_element or self.is_constant)
