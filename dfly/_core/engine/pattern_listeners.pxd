"""Who listens to all keys of a form: a prefix, anything, a suffix. SORT does so for the keys that BY and GET look up.

A shard has one table of them; all of it runs under its token. They are few (each mutation of a key compares with all),
and there for as long as a command lasts.

Ownership: a pattern_listener_t is embedded in the struct of who listens, lives on the heap, and is linked from
pattern_listener_add to pattern_listener_remove. Its texts are borrowed as long.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.object cimport key_t
from dfly._core.sys.base cimport slice_t

cdef struct key_pattern_t:
    slice_t prefix
    slice_t suffix

cdef struct pattern_listener_t:
    pattern_listener_t *previous
    pattern_listener_t *next
    key_pattern_t pattern
    uint32_t database
    uint64_t *signal             # set to 1 at each change

cdef struct pattern_table_t:
    pattern_listener_t *first
    uint32_t count

cdef void pattern_listener_add(pattern_table_t *self, pattern_listener_t *listener) noexcept nogil
cdef void pattern_listener_remove(pattern_table_t *self, pattern_listener_t *listener) noexcept nogil
cdef void patterns_signal(pattern_table_t *self, uint32_t database, const key_t *key) noexcept nogil
# Whatever they listen to in a database: it is flushed or becomes another one.
cdef void patterns_signal_all(pattern_table_t *self, uint32_t database) noexcept nogil
