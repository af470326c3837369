"""Walks over streams: see stream_walk.pxd."""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.store.id_index cimport (id_compare, id_first, id_index_t, id_next, id_place_t, id_slot, id_slot_t,
                                        stream_id_t)
from dfly._core.store.joined_packs cimport pack_free
from dfly._core.store.listpack cimport listpack_dup
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

__abi__ = DFLY_ABI_STAMP

cdef enum:
    STEP_PACKS = 4


cdef void stream_walk_begin(stream_walk_t *self, const id_index_t *blocks, stream_walk_t **link) noexcept nogil:
    cdef const id_slot_t *slot
    cdef id_place_t place
    cdef bint more = id_first(blocks, &place)
    DFLY_CHECK(more and link[0] == NULL, "stream: a walk over nothing, or two walks at once")
    self.packs = <walked_pack_t *>mem_alloc(blocks.count * sizeof(walked_pack_t))
    self.size = 0
    while more:
        slot = id_slot(blocks, place)
        self.packs[self.size].master = slot.id
        self.packs[self.size].pack = <uint8_t *>slot.value
        self.packs[self.size].is_own = False
        self.size += 1
        more = id_next(blocks, &place)
    self.position = 0
    self.forced = 0
    self.link = link
    link[0] = self


cdef inline void leave(walked_pack_t *walked) noexcept nogil:
    if walked.is_own:
        pack_free(walked.pack)


cdef void stream_walk_end(stream_walk_t *self) noexcept nogil:
    if self.packs == NULL:
        return
    while self.position < self.size:
        leave(&self.packs[self.position])
        self.position += 1
    mem_free(self.packs)
    self.packs = NULL
    if self.link != NULL:
        self.link[0] = NULL
        self.link = NULL


cdef bint stream_walk_step(stream_walk_t *self) noexcept nogil:
    cdef walked_pack_t *walked
    cdef int _i
    for _i in range(STEP_PACKS):
        if self.packs == NULL or self.position == self.size:
            stream_walk_end(self)
            return True
        walked = &self.packs[self.position]
        self.visit(walked.master, walked.pack, self.context)
        leave(walked)
        self.position += 1
    return False


cdef walked_pack_t *wanted(stream_walk_t *self, stream_id_t master) noexcept nogil:
    """NULL: it has the block already, or it is a newer one."""
    cdef uint64_t low = self.position
    cdef uint64_t high = self.size
    cdef uint64_t middle
    cdef int order
    if low == high or id_compare(self.packs[high - 1].master, master) < 0:
        return NULL
    while low < high:
        middle = (low + high) // 2
        order = id_compare(self.packs[middle].master, master)
        if order == 0:
            return NULL if self.packs[middle].is_own else &self.packs[middle]
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return NULL


cdef void stream_walk_keep(stream_walk_t *self, stream_id_t master) noexcept nogil:
    cdef walked_pack_t *walked = wanted(self, master)
    if walked != NULL:
        walked.pack = listpack_dup(walked.pack)
        walked.is_own = True
        self.forced += 1


cdef bint stream_walk_take(stream_walk_t *self, stream_id_t master) noexcept nogil:
    cdef walked_pack_t *walked = wanted(self, master)
    if walked == NULL:
        return False
    walked.is_own = True
    self.forced += 1
    return True
