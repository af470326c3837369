"""How many whole blocks at the front of a stream can go, by their headers alone.

The index of the blocks does not add up their entries: a million entries have 10,000 blocks, whose headers lie all over
the heap. So headers are fetched ahead, and the end that is nearer to where the trimming stops is counted.
"""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.store.id_index cimport id_index_t, stream_id_t
from dfly._core.store.listpack cimport LISTPACK_HEADER, listpack_read_number

cdef enum:
    FETCH_AHEAD = 8              # blocks whose header is fetched early
    FRONT_LEAST = 16             # blocks: where fewer go, each is looked at anyway

# Both say how many blocks go, and how many entries they have, of a stream with so many.
# What a trimming by ID surely takes: blocks behind which another one begins with this ID or a smaller one. 0 if few.
cdef uint64_t front_before(const id_index_t *blocks, uint64_t length, stream_id_t first_kept,
                           uint64_t *entries) noexcept nogil
# What a trimming to `kept` entries takes, of a stream that has more. Where more than FRONT_LEAST go, blocks without
# entries may stay.
cdef uint64_t front_beyond(const id_index_t *blocks, uint64_t length, uint64_t kept, uint64_t *entries) noexcept nogil

# For those who take one block after the other away: fetches the header of the one that comes FETCH_AHEAD later.
cdef void front_fetch_ahead(const id_index_t *blocks) noexcept nogil


cdef inline uint64_t block_entries(const uint8_t *pack) noexcept nogil:
    """Entries that are not deleted."""
    cdef const uint8_t *p = pack + LISTPACK_HEADER
    return <uint64_t>listpack_read_number(&p)
