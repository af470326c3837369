"""Test door to sorted sets: members are bytes, ranges are (start, count)."""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_text
from dfly._core.store.object cimport (TYPE_ZSET, object_block_count, object_dup, object_encoding_name,
                                      object_free, object_free_step, object_heap_bytes, object_purge_step,
                                      object_set_container, object_size, object_t)
from dfly._core.store.sorted_set cimport (zset_add, zset_bound_t, zset_check, zset_count, zset_cursor_t,
                                          zset_entry_t, zset_erase, zset_find, zset_is_compact, zset_limits_t,
                                          zset_make_large, zset_next, zset_place_t, zset_previous,
                                          zset_range_by_score, zset_range_by_text, zset_rank,
                                          zset_remove_range, zset_scan, zset_seek)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef tuple entry_pair(const zset_entry_t *entry):
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(&entry.member, scratch)
    return text.data[:text.size], entry.score


cdef void visit(const zset_entry_t *entry, void *context) noexcept nogil:
    with gil:
        (<list>context).append(entry_pair(entry))


cdef class SortedSet:
    """A sorted set; entries and value are the limits of its compact form."""

    cdef object_t value
    cdef zset_limits_t limits

    def __cinit__(self, int64_t entries=128, int64_t value=64):
        object_set_container(&self.value, TYPE_ZSET, NULL)
        self.limits.entries = entries
        self.limits.value = value

    def __dealloc__(self):
        object_free(&self.value)

    def __len__(self):
        return zset_count(&self.value)

    def add(self, bytes member, double score):
        return zset_add(&self.value, member, len(member), score, &self.limits)

    def add_many(self, pairs):
        for member, score in pairs:
            self.add(member, score)

    def find(self, bytes member):
        """(score, rank), or None."""
        cdef zset_place_t place
        if not zset_find(&self.value, member, len(member), &place):
            return None
        return place.score, zset_rank(&self.value, &place)

    def remove(self, bytes member):
        cdef zset_place_t place
        if not zset_find(&self.value, member, len(member), &place):
            return False
        zset_erase(&self.value, &place)
        self.revive()
        return True

    def remove_range(self, uint64_t start, uint64_t count, uint64_t at_once=<uint64_t>-1):
        zset_remove_range(&self.value, start, count, at_once)
        self.revive()

    def purge(self, uint64_t budget):
        """Frees so many leaves of what was cut out; True when there is nothing of it."""
        return object_purge_step(&self.value, &budget)

    cdef revive(self):
        if zset_count(&self.value) == 0:
            object_set_container(&self.value, TYPE_ZSET, NULL)

    def walk(self, uint64_t rank, bint backward=False, limit=None):
        cdef zset_cursor_t cursor
        cdef zset_entry_t entry
        if zset_count(&self.value) == 0:
            return []
        zset_seek(&self.value, rank, &cursor)
        found = []
        while limit is None or len(found) < limit:
            if not (zset_previous(&cursor, &entry) if backward else zset_next(&cursor, &entry)):
                break
            found.append(entry_pair(&entry))
        return found

    def by_score(self, double low, double high, bint low_exclusive=False, bint high_exclusive=False):
        cdef zset_bound_t bounds[2]
        cdef uint64_t start
        cdef uint64_t count
        bounds[0].score = low
        bounds[0].exclusive = low_exclusive
        bounds[1].score = high
        bounds[1].exclusive = high_exclusive
        zset_range_by_score(&self.value, &bounds[0], &bounds[1], &start, &count)
        return start, count

    def by_text(self, bytes low, bytes high, bint low_exclusive=False, bint high_exclusive=False,
                bint backward=False):
        """None: without an end."""
        cdef zset_bound_t bounds[2]
        cdef uint64_t start
        cdef uint64_t count
        bounds[0].infinite = -1 if low is None else 0
        bounds[1].infinite = 1 if high is None else 0
        if low is not None:
            bounds[0].text.data = low
            bounds[0].text.size = len(low)
        if high is not None:
            bounds[1].text.data = high
            bounds[1].text.size = len(high)
        bounds[0].exclusive = low_exclusive
        bounds[1].exclusive = high_exclusive
        zset_range_by_text(&self.value, &bounds[0], &bounds[1], backward, &start, &count)
        return start, count

    def scan(self, uint64_t cursor, uint64_t count):
        """(next cursor, pairs)"""
        found = []
        cursor = zset_scan(&self.value, cursor, count, visit, <void *>found)
        return cursor, found

    def copy(self):
        cdef SortedSet other = SortedSet(self.limits.entries, self.limits.value)
        object_dup(&self.value, &other.value)
        return other

    def make_large(self):
        zset_make_large(&self.value)

    def is_compact(self):
        return zset_is_compact(&self.value)

    def free_step(self, uint64_t budget):
        """(done, what is left of the budget)"""
        done = object_free_step(&self.value, &budget)
        if done:
            object_set_container(&self.value, TYPE_ZSET, NULL)
        return done, budget

    def check(self):
        return zset_check(&self.value)

    def info(self):
        return {"blocks": object_block_count(&self.value), "heap": object_heap_bytes(&self.value),
                "data": object_size(&self.value), "encoding": object_encoding_name(&self.value).decode()}
