"""Implementation of the index of stream IDs: see id_index.pxd.

Invariants: no leaf is empty; IDs rise strictly through a leaf and from leaf to leaf; a fence holds the first
ID of its leaf. A leaf that has become small joins a neighbour, so random removals leave few leaves.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_good_size, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    LEAF_MAX = 256
    LEAF_SMALL = 64              # below this a leaf looks for a neighbour to join
    LEAF_JOINED_MAX = 192
    LEAF_FIRST = 2
    FENCES_MIN = 1
    SHRINK_MIN = 16


cdef inline id_fence_t *fences_of(const id_index_t *self) noexcept nogil:
    return self.fences + self.begin


# ---- Leaves ------------------------------------------------------------------------------------

cdef id_leaf_t *new_leaf(uint32_t capacity) noexcept nogil:
    """With room for at least `capacity` slots: as many as the allocation really takes."""
    cdef size_t total = mem_good_size(sizeof(id_leaf_t) + capacity * sizeof(id_slot_t))
    cdef id_leaf_t *self = <id_leaf_t *>mem_alloc(total)
    self.begin = 0
    self.count = 0
    self.capacity = <uint32_t>((total - sizeof(id_leaf_t)) // sizeof(id_slot_t))
    if self.capacity > LEAF_MAX:
        self.capacity = LEAF_MAX
    return self


cdef void resize_leaf(id_leaf_t **place, uint32_t capacity) noexcept nogil:
    cdef id_leaf_t *self = place[0]
    cdef id_leaf_t *other = new_leaf(capacity)
    other.count = self.count
    memcpy(id_slots(other), id_slots(self), self.count * sizeof(id_slot_t))
    mem_free(self)
    place[0] = other


cdef inline uint32_t lower_slot(const id_leaf_t *self, stream_id_t id) noexcept nogil:
    """The first slot whose ID is not less."""
    cdef const id_slot_t *slots = id_slots(self)
    cdef uint32_t low = 0
    cdef uint32_t high = self.count
    cdef uint32_t middle
    while low < high:
        middle = (low + high) // 2
        if id_less(slots[middle].id, id):
            low = middle + 1
        else:
            high = middle
    return low


cdef inline uint32_t leaf_of(const id_index_t *self, stream_id_t id) noexcept nogil:
    """The last leaf whose first ID is not greater, else the first; there is one."""
    cdef const id_fence_t *fences = fences_of(self)
    cdef uint32_t low = 0
    cdef uint32_t high = self.leaf_count
    cdef uint32_t middle
    while high - low > 1:
        middle = (low + high) // 2
        if id_less(id, fences[middle].first):
            high = middle
        else:
            low = middle
    return low


# ---- Lookups -----------------------------------------------------------------------------------

cdef bint id_ceiling(const id_index_t *self, stream_id_t id, id_place_t *out) noexcept nogil:
    if self.count == 0:
        return False
    out.leaf = leaf_of(self, id)
    out.slot = lower_slot(fences_of(self)[out.leaf].leaf, id)
    if out.slot == fences_of(self)[out.leaf].leaf.count:
        out.leaf += 1
        out.slot = 0
    return out.leaf < self.leaf_count


cdef bint id_floor(const id_index_t *self, stream_id_t id, id_place_t *out) noexcept nogil:
    cdef const id_leaf_t *leaf
    if self.count == 0:
        return False
    out.leaf = leaf_of(self, id)
    leaf = fences_of(self)[out.leaf].leaf
    out.slot = lower_slot(leaf, id)
    if out.slot < leaf.count and id_equal(id_slots(leaf)[out.slot].id, id):
        return True
    # Only before the very first ID is there no slot to the left.
    if out.slot == 0:
        return False
    out.slot -= 1
    return True


cdef void *id_find(const id_index_t *self, stream_id_t id) noexcept nogil:
    cdef id_place_t place
    if not id_ceiling(self, id, &place) or not id_equal(id_slot(self, place).id, id):
        return NULL
    return id_slot(self, place).value


cdef bint id_first(const id_index_t *self, id_place_t *out) noexcept nogil:
    out.leaf = 0
    out.slot = 0
    return self.count > 0


cdef bint id_last(const id_index_t *self, id_place_t *out) noexcept nogil:
    if self.count == 0:
        return False
    out.leaf = self.leaf_count - 1
    out.slot = fences_of(self)[out.leaf].leaf.count - 1
    return True


cdef bint id_next(const id_index_t *self, id_place_t *place) noexcept nogil:
    place.slot += 1
    if place.slot < fences_of(self)[place.leaf].leaf.count:
        return True
    place.leaf += 1
    place.slot = 0
    return place.leaf < self.leaf_count


cdef bint id_previous(const id_index_t *self, id_place_t *place) noexcept nogil:
    if place.slot > 0:
        place.slot -= 1
        return True
    if place.leaf == 0:
        return False
    place.leaf -= 1
    place.slot = fences_of(self)[place.leaf].leaf.count - 1
    return True


# ---- Fences ------------------------------------------------------------------------------------

cdef void add_fence(id_index_t *self, uint32_t at, id_leaf_t *leaf) noexcept nogil:
    """A leaf that has its slots becomes the one at `at`."""
    cdef id_fence_t *larger
    cdef id_fence_t *fences
    cdef size_t total
    if self.begin + self.leaf_count == self.capacity:
        if self.begin > self.capacity // 4:
            memmove(self.fences, fences_of(self), self.leaf_count * sizeof(id_fence_t))
        else:
            total = mem_good_size((self.leaf_count + self.leaf_count // 2 + FENCES_MIN) * sizeof(id_fence_t))
            larger = <id_fence_t *>mem_alloc(total)
            if self.leaf_count > 0:
                memcpy(larger, fences_of(self), self.leaf_count * sizeof(id_fence_t))
            mem_free(self.fences)
            self.fences = larger
            self.capacity = <uint32_t>(total // sizeof(id_fence_t))
        self.begin = 0
    fences = fences_of(self)
    memmove(&fences[at + 1], &fences[at], (self.leaf_count - at) * sizeof(id_fence_t))
    fences[at].leaf = leaf
    fences[at].first = id_slots(leaf)[0].id
    self.leaf_count += 1


cdef void remove_fences(id_index_t *self, uint32_t at, uint32_t count) noexcept nogil:
    """Their leaves are freed."""
    cdef id_fence_t *fences = fences_of(self)
    self.leaf_count -= count
    if self.leaf_count == 0:
        id_clear(self)
    elif at == 0:
        self.begin += count
    else:
        memmove(&fences[at], &fences[at + count], (self.leaf_count - at) * sizeof(id_fence_t))


cdef void remove_leaf(id_index_t *self, uint32_t at) noexcept nogil:
    mem_free(fences_of(self)[at].leaf)
    remove_fences(self, at, 1)


# ---- Changing ----------------------------------------------------------------------------------

cdef id_leaf_t *make_room(id_index_t *self, uint32_t at) noexcept nogil:
    """Room for a slot behind the last one of a leaf that is not full."""
    cdef id_fence_t *fence = &fences_of(self)[at]
    cdef id_leaf_t *leaf = fence.leaf
    cdef id_slot_t *slots
    if leaf.begin + leaf.count < leaf.capacity:
        return leaf
    if leaf.begin > leaf.capacity // 4:
        slots = id_slots(leaf)
        leaf.begin = 0
        memmove(id_slots(leaf), slots, leaf.count * sizeof(id_slot_t))
        return leaf
    resize_leaf(&fence.leaf, min(<uint32_t>LEAF_MAX, leaf.count + leaf.count // 2 + 1))
    return fence.leaf


cdef void append(id_index_t *self, stream_id_t id, void *value) noexcept nogil:
    cdef id_leaf_t *leaf
    cdef id_slot_t *slot
    cdef uint32_t at
    if self.leaf_count > 0 and fences_of(self)[self.leaf_count - 1].leaf.count < LEAF_MAX:
        at = self.leaf_count - 1
        leaf = make_room(self, at)
        slot = id_slots(leaf) + leaf.count
        slot.id = id
        slot.value = value
        leaf.count += 1
    else:
        leaf = new_leaf(LEAF_SMALL if self.leaf_count > 0 else LEAF_FIRST)
        slot = id_slots(leaf)
        slot.id = id
        slot.value = value
        leaf.count = 1
        add_fence(self, self.leaf_count, leaf)
    self.count += 1


cdef void id_append_all(id_index_t *self, id_index_t *behind) noexcept nogil:
    cdef uint32_t i
    if self.leaf_count == 0:
        id_clear(self)
        self[0] = behind[0]
    else:
        for i in range(behind.leaf_count):
            add_fence(self, self.leaf_count, fences_of(behind)[i].leaf)
        self.count += behind.count
        mem_free(behind.fences)
    memset(behind, 0, sizeof(id_index_t))


cdef void split_leaf(id_index_t *self, uint32_t at) noexcept nogil:
    cdef id_leaf_t *leaf = fences_of(self)[at].leaf
    cdef uint32_t half = leaf.count // 2
    cdef id_leaf_t *upper = new_leaf(leaf.count - half + LEAF_SMALL)
    upper.count = leaf.count - half
    memcpy(id_slots(upper), id_slots(leaf) + half, upper.count * sizeof(id_slot_t))
    leaf.count = half
    add_fence(self, at + 1, upper)


cdef uint64_t id_count_from(const id_index_t *self, id_place_t place) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint32_t i
    for i in range(place.leaf, self.leaf_count):
        count += self.fences[self.begin + i].leaf.count
    return count - place.slot


cdef uint64_t id_count_before(const id_index_t *self, id_place_t place) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint32_t i
    for i in range(place.leaf):
        count += self.fences[self.begin + i].leaf.count
    return count + place.slot


cdef bint id_insert(id_index_t *self, stream_id_t id, void *value) noexcept nogil:
    cdef id_leaf_t *leaf
    cdef id_slot_t *slots
    cdef uint32_t at
    cdef uint32_t slot
    if self.count == 0 or id_less(id_last_slot(self).id, id):
        append(self, id, value)
        return True
    at = leaf_of(self, id)
    leaf = fences_of(self)[at].leaf
    slot = lower_slot(leaf, id)
    if slot < leaf.count and id_equal(id_slots(leaf)[slot].id, id):
        return False
    if leaf.count == LEAF_MAX:
        split_leaf(self, at)
        if slot > leaf.count:
            slot -= leaf.count
            at += 1
    leaf = make_room(self, at)
    slots = id_slots(leaf)
    memmove(&slots[slot + 1], &slots[slot], (leaf.count - slot) * sizeof(id_slot_t))
    slots[slot].id = id
    slots[slot].value = value
    leaf.count += 1
    self.count += 1
    fences_of(self)[at].first = slots[0].id
    return True


cdef void join_next(id_index_t *self, uint32_t at) noexcept nogil:
    """A small leaf takes the slots of the next one, if both together are small enough."""
    cdef id_fence_t *fence = &fences_of(self)[at]
    cdef id_leaf_t *following
    cdef id_leaf_t *joined
    if at + 1 >= self.leaf_count:
        return
    following = fences_of(self)[at + 1].leaf
    if fence.leaf.count + following.count > LEAF_JOINED_MAX:
        return
    joined = new_leaf(fence.leaf.count + following.count)
    joined.count = fence.leaf.count + following.count
    memcpy(id_slots(joined), id_slots(fence.leaf), fence.leaf.count * sizeof(id_slot_t))
    memcpy(id_slots(joined) + fence.leaf.count, id_slots(following), following.count * sizeof(id_slot_t))
    mem_free(fence.leaf)
    fence.leaf = joined
    remove_leaf(self, at + 1)


cdef void tidy_leaf(id_index_t *self, uint32_t at) noexcept nogil:
    """It has lost slots, and has some left."""
    cdef id_fence_t *fence = &fences_of(self)[at]
    cdef id_leaf_t *leaf = fence.leaf
    if likely(leaf.count >= LEAF_SMALL):
        return
    if leaf.capacity > SHRINK_MIN and leaf.count < leaf.capacity // 4:
        resize_leaf(&fence.leaf, leaf.count * 2)
    join_next(self, at)
    if at > 0:
        join_next(self, at - 1)


cdef void cut_leaf(id_index_t *self, uint32_t at, uint32_t slot, uint32_t count) noexcept nogil:
    """Takes slots out of it, not all."""
    cdef id_fence_t *fence = &fences_of(self)[at]
    cdef id_leaf_t *leaf = fence.leaf
    cdef id_slot_t *slots = id_slots(leaf)
    leaf.count -= count
    self.count -= count
    if slot == 0:
        leaf.begin += count
        fence.first = slots[count].id
    else:
        memmove(&slots[slot], &slots[slot + count], (leaf.count - slot) * sizeof(id_slot_t))


cdef void id_remove_at(id_index_t *self, id_place_t place) noexcept nogil:
    if fences_of(self)[place.leaf].leaf.count == 1:
        self.count -= 1
        remove_leaf(self, place.leaf)
        return
    cut_leaf(self, place.leaf, place.slot, 1)
    tidy_leaf(self, place.leaf)


cdef uint32_t run_in_leaf(const id_leaf_t *leaf, uint32_t slot, void *const *values, uint64_t count) noexcept nogil:
    """How many slots have these values, one after the other."""
    cdef const id_slot_t *slots = id_slots(leaf) + slot
    cdef uint32_t most = <uint32_t>min(<uint64_t>(leaf.count - slot), count)
    cdef uint32_t run = 0
    while run < most and slots[run].value == values[run]:
        run += 1
    return run


cdef uint64_t remove_first_slots(id_index_t *self, uint32_t at, void *const *values, uint64_t count) noexcept nogil:
    """A run that begins with the leaf: whole leaves, and what is in front of the next one."""
    cdef uint64_t removed = 0
    cdef uint32_t end = at
    cdef id_leaf_t *leaf
    cdef uint32_t run
    while end < self.leaf_count and removed < count:
        leaf = fences_of(self)[end].leaf
        run = run_in_leaf(leaf, 0, values + removed, count - removed)
        removed += run
        if run < leaf.count:
            if run > 0:
                cut_leaf(self, end, 0, run)
            break
        self.count -= run
        mem_free(leaf)
        end += 1
    if end > at:
        remove_fences(self, at, end - at)
    return removed


cdef uint64_t id_remove_run(id_index_t *self, stream_id_t id, void *const *values, uint64_t count) noexcept nogil:
    cdef uint64_t removed = 0
    cdef id_leaf_t *leaf
    cdef id_place_t place
    cdef uint32_t at
    cdef bint goes_on = True
    if not id_ceiling(self, id, &place):
        return 0
    at = place.leaf
    if place.slot > 0:
        leaf = fences_of(self)[at].leaf
        removed = run_in_leaf(leaf, place.slot, values, count)
        goes_on = removed == leaf.count - place.slot
        if removed > 0:
            cut_leaf(self, at, place.slot, <uint32_t>removed)
        at += 1
    if goes_on:
        removed += remove_first_slots(self, at, values + removed, count - removed)
    # Both sides of the gap, the right one first: it may join.
    if at < self.leaf_count:
        tidy_leaf(self, at)
    if 0 < at <= self.leaf_count:
        tidy_leaf(self, at - 1)
    return removed


cdef void *id_remove(id_index_t *self, stream_id_t id) noexcept nogil:
    cdef id_place_t place
    cdef void *value
    if not id_ceiling(self, id, &place) or not id_equal(id_slot(self, place).id, id):
        return NULL
    value = id_slot(self, place).value
    id_remove_at(self, place)
    return value


cdef void id_take_first(id_index_t *self, uint64_t count, id_index_t *out) noexcept nogil:
    cdef uint32_t whole = 0
    cdef id_leaf_t *leaf
    cdef uint32_t i
    while count > 0:
        leaf = fences_of(self)[whole].leaf
        if leaf.count > count:
            break
        add_fence(out, out.leaf_count, leaf)
        out.count += leaf.count
        self.count -= leaf.count
        count -= leaf.count
        whole += 1
    if whole > 0:
        remove_fences(self, 0, whole)
    if count > 0:
        leaf = fences_of(self)[0].leaf
        for i in range(<uint32_t>count):
            append(out, id_slots(leaf)[i].id, id_slots(leaf)[i].value)
        cut_leaf(self, 0, 0, <uint32_t>count)
        tidy_leaf(self, 0)


cdef void *id_pop_last(id_index_t *self) noexcept nogil:
    cdef id_leaf_t *leaf
    cdef void *value
    if self.count == 0:
        return NULL
    leaf = fences_of(self)[self.leaf_count - 1].leaf
    leaf.count -= 1
    self.count -= 1
    value = id_slots(leaf)[leaf.count].value
    if leaf.count == 0:
        remove_leaf(self, self.leaf_count - 1)
    return value


cdef void id_clear(id_index_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.leaf_count):
        mem_free(fences_of(self)[i].leaf)
    mem_free(self.fences)
    memset(self, 0, sizeof(id_index_t))


cdef bint id_clear_step(id_index_t *self, uint64_t *budget) noexcept nogil:
    cdef id_leaf_t *leaf
    while self.leaf_count > 0:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        self.leaf_count -= 1
        leaf = fences_of(self)[self.leaf_count].leaf
        self.count -= leaf.count
        mem_free(leaf)
    id_clear(self)
    return True


# ---- For accounts and tests ----------------------------------------------------------------------

cdef size_t id_heap_bytes(const id_index_t *self) noexcept nogil:
    cdef size_t total = 0
    cdef uint32_t i
    if self.fences == NULL:
        return 0
    for i in range(self.leaf_count):
        total += mem_usable(fences_of(self)[i].leaf)
    return total + mem_usable(self.fences)


cdef void id_check(const id_index_t *self) noexcept nogil:
    cdef const id_slot_t *last = NULL
    cdef const id_leaf_t *leaf
    cdef size_t total = 0
    cdef uint32_t i
    cdef uint32_t j
    DFLY_CHECK(self.begin + self.leaf_count <= self.capacity, "fences lie inside their array")
    DFLY_CHECK((self.fences == NULL) == (self.leaf_count == 0), "an empty index owns nothing")
    for i in range(self.leaf_count):
        leaf = fences_of(self)[i].leaf
        DFLY_CHECK(leaf.count > 0 and leaf.begin + leaf.count <= leaf.capacity, "slots lie inside their leaf")
        DFLY_CHECK(id_equal(id_slots(leaf)[0].id, fences_of(self)[i].first), "a fence knows its leaf")
        for j in range(leaf.count):
            DFLY_CHECK(last == NULL or id_less(last.id, id_slots(leaf)[j].id), "IDs rise")
            last = &id_slots(leaf)[j]
        total += leaf.count
    DFLY_CHECK(total == self.count, "the index knows how many slots it has")
