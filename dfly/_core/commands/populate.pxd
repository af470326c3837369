"""DEBUG POPULATE: many keys of any type, made by the server itself.

    POPULATE count [prefix] [size] [RAND] [TYPE type] [ELEMENTS n]

TYPE: string, list, set, zset, hash or stream. size: bytes of a value or an element; RAND: of random letters.
Without options as Redis; with them as Dragonfly.
"""

from dfly._core.engine.command cimport transaction_t

cdef int debug_populate(transaction_t *tx) noexcept nogil
