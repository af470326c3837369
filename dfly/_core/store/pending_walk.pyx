"""Walks over what is pending: see pending_walk.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.store.id_index cimport (id_ceiling, id_clear, id_equal, id_first, id_increment, id_index_t, id_insert,
                                        id_last_slot, id_less, id_next, id_place_t, id_remove_at, id_slot, id_slot_t)
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

__abi__ = DFLY_ABI_STAMP


cdef void pending_walk_begin(pending_walk_t *self, pending_walk_t **link, const id_index_t *entries,
                             pending_read_t read, uint64_t count, const void *owner) noexcept nogil:
    DFLY_CHECK(link[0] == NULL, "two walks at once over what is pending")
    memset(self, 0, sizeof(pending_walk_t))
    self.owner = owner
    self.left = count
    if count == 0:
        return
    self.entries = entries
    self.read = read
    self.last = id_last_slot(entries).id
    self.link = link
    link[0] = self


cdef void unlink(pending_walk_t *self) noexcept nogil:
    if self.link != NULL:
        self.link[0] = NULL
        self.link = NULL


cdef void pending_walk_end(pending_walk_t *self) noexcept nogil:
    cdef id_place_t place
    cdef bint more = id_first(&self.noted, &place)
    while more:
        mem_free(id_slot(&self.noted, place).value)
        more = id_next(&self.noted, &place)
    id_clear(&self.noted)
    self.left = 0
    unlink(self)


cdef void pending_walk_note(pending_walk_t *self, const walked_pending_t *was) noexcept nogil:
    cdef walked_pending_t *note
    if self.left == 0 or id_less(was.id, self.next) or id_less(self.last, was.id):
        return
    note = <walked_pending_t *>mem_alloc(sizeof(walked_pending_t))
    note[0] = was[0]
    if not id_insert(&self.noted, was.id, note):
        # It has changed before.
        mem_free(note)


cdef void pending_walk_detach(pending_walk_t *self) noexcept nogil:
    cdef walked_pending_t was
    cdef id_place_t place
    cdef bint more = self.left > 0 and id_ceiling(self.entries, self.next, &place)
    while more:
        self.read(id_slot(self.entries, place).value, &was)
        pending_walk_note(self, &was)
        more = id_next(self.entries, &place)
    unlink(self)


cdef void take_note(pending_walk_t *self, walked_pending_t *out) noexcept nogil:
    """The first one."""
    cdef id_place_t place
    id_first(&self.noted, &place)
    out[0] = (<walked_pending_t *>id_slot(&self.noted, place).value)[0]
    mem_free(id_slot(&self.noted, place).value)
    id_remove_at(&self.noted, place)


cdef inline const id_slot_t *first_note(const pending_walk_t *self) noexcept nogil:
    """NULL: there is none."""
    cdef id_place_t place
    return id_slot(&self.noted, place) if id_first(&self.noted, &place) else NULL


cdef uint32_t pending_walk_step(pending_walk_t *self, walked_pending_t *out, uint32_t room) noexcept nogil:
    cdef const id_slot_t *slot = NULL
    cdef const id_slot_t *note
    cdef id_place_t place
    cdef bint more = self.link != NULL and self.left > 0 and id_ceiling(self.entries, self.next, &place)
    cdef uint32_t count = 0
    while count < room and self.left > 0:
        note = first_note(self)
        slot = id_slot(self.entries, place) if more else NULL
        DFLY_CHECK(note != NULL or slot != NULL, "an entry that was pending is lost")
        if note != NULL and (slot == NULL or not id_less(slot.id, note.id)):
            if slot != NULL and id_equal(slot.id, note.id):
                more = id_next(self.entries, &place)
            take_note(self, &out[count])
        else:
            self.read(slot.value, &out[count])
            more = id_next(self.entries, &place)
        self.next = out[count].id
        if out[count].consumer != 0:
            count += 1
            self.left -= 1
        if not id_increment(&self.next):
            break
    if self.left == 0:
        # Nothing that was there is left, and what has come since is of no interest.
        pending_walk_end(self)
    return count
