"""Test door to packed pairs: pairs are (member, score), positions are ranks."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.packed_pairs cimport (pairs_before, pairs_bytes, pairs_check, pairs_count, pairs_dup, pairs_end,
                                            pairs_erase, pairs_find, pairs_first, pairs_insert, pairs_new,
                                            pairs_pass_scores, pairs_read, pairs_seek, pairs_set_score,
                                            pairs_trail_t)
from dfly._core.sys.alloc cimport mem_free, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef class PackedPairs:
    """Packed pairs; members given to insert are new ones."""

    cdef uint8_t *block

    def __cinit__(self):
        self.block = pairs_new(0)

    def __dealloc__(self):
        mem_free(self.block)

    def __len__(self):
        return pairs_count(self.block)

    cdef tuple pair_at(self, const uint8_t *p):
        cdef char scratch[LIST_ITEM_SCRATCH]
        cdef list_item_t item
        cdef slice_t text
        cdef double score
        pairs_read(p, &item, &score)
        text = list_item_text(&item, scratch)
        return text.data[:text.size], score

    def insert(self, bytes member, double score):
        pairs_insert(&self.block, member, len(member), score)

    def find(self, bytes member):
        """(rank, score), or None."""
        cdef uint32_t rank = 0
        cdef const uint8_t *p = pairs_find(self.block, member, len(member), &rank)
        if p == NULL:
            return None
        assert p == pairs_seek(self.block, rank)
        return rank, self.pair_at(p)[1]

    def set_score(self, bytes member, double score):
        cdef uint32_t rank
        pairs_set_score(&self.block, pairs_find(self.block, member, len(member), &rank), member, len(member), score)

    def erase(self, uint32_t rank, uint32_t count=1):
        pairs_erase(&self.block, pairs_seek(self.block, rank), count)

    def forward(self, uint32_t rank=0):
        cdef const uint8_t *p = pairs_seek(self.block, rank)
        cdef list_item_t item
        cdef double score
        found = []
        while p != pairs_end(self.block):
            found.append(self.pair_at(p))
            p = pairs_read(p, &item, &score)
        return found

    def backward(self, uint32_t rank):
        """What is before that rank."""
        cdef pairs_trail_t trail
        memset(&trail, 0, sizeof(trail))
        return [self.pair_at(pairs_before(self.block, at, &trail)) for at in range(rank, 0, -1)]

    def at_random(self, ranks):
        """The pairs before these ranks, all looked up by one trail."""
        cdef pairs_trail_t trail
        memset(&trail, 0, sizeof(trail))
        return [self.pair_at(pairs_before(self.block, at, &trail)) for at in ranks]

    def pass_scores(self, double score, bint inclusive, uint32_t rank=0):
        """How many pairs from that rank on."""
        cdef const uint8_t *p = pairs_seek(self.block, rank)
        passed = pairs_pass_scores(self.block, &p, score, inclusive)
        assert p == pairs_seek(self.block, rank + passed)
        return passed

    def check(self):
        assert pairs_first(self.block) <= pairs_end(self.block)
        return pairs_check(self.block)

    def bytes_used(self):
        return pairs_bytes(self.block), mem_usable(self.block)

    def copy(self):
        other = PackedPairs()
        mem_free(other.block)
        other.block = pairs_dup(self.block)
        return other
