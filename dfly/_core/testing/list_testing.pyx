"""Test door to the block list: elements are bytes, positions as of a Python list."""

from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, block_list_t, list_count, list_cursor_t, list_drop,
                                          list_free, list_free_step, list_insert, list_item_equals, list_item_t,
                                          list_item_text, list_limits, list_limits_t, list_needle, list_next,
                                          list_peek, list_previous, list_push, list_remove, list_replace, list_seek)
from dfly._core.store.list_whole cimport list_block_count, list_check, list_data_bytes, list_dup, list_heap_bytes
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef bytes item_bytes(list_item_t *item):
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    return text.data[:text.size]


cdef int64_t thread_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts)
    return <int64_t>ts.tv_sec * 1000000000 + ts.tv_nsec


cdef class BlockList:
    """A block list; `setting` is list-max-listpack-size."""

    cdef block_list_t root
    cdef list_limits_t limits

    def __cinit__(self, int64_t setting=-2):
        self.limits = list_limits(setting)

    def __dealloc__(self):
        list_free(&self.root)

    def __len__(self):
        return list_count(self.root)

    def change_setting(self, int64_t setting):
        self.limits = list_limits(setting)

    def push(self, bytes data, bint front=False):
        list_push(&self.root, data, len(data), front, &self.limits)

    def peek(self, bint front=False):
        cdef list_item_t item
        return item_bytes(&item) if list_peek(self.root, front, &item) else None

    def drop(self, uint64_t count, bint front, bint detach=False):
        """Drops from one end; with detach, the number of elements in the list that came off."""
        cdef block_list_t dropped = NULL
        list_drop(&self.root, count, front, &dropped if detach else NULL)
        list_check(dropped)
        detached = list_count(dropped)
        list_free(&dropped)
        return detached

    def walk(self, uint64_t index, bint backward=False, limit=None):
        """Elements from the place before `index` on, forward or backward."""
        cdef list_cursor_t cursor
        cdef list_item_t item
        list_seek(self.root, index, &cursor)
        found = []
        while limit is None or len(found) < limit:
            if not (list_previous(&cursor, &item) if backward else list_next(&cursor, &item)):
                break
            found.append(item_bytes(&item))
        return found

    def insert(self, uint64_t index, bytes data, bint stepped_back=False):
        """stepped_back: the cursor comes from the element behind the place, as LINSERT BEFORE does."""
        cdef list_cursor_t cursor
        cdef list_item_t item
        if stepped_back and index < list_count(self.root):
            list_seek(self.root, index, &cursor)
            list_next(&cursor, &item)
            list_previous(&cursor, &item)
        else:
            list_seek(self.root, index, &cursor)
        list_insert(&self.root, &cursor, data, len(data), &self.limits)

    def replace(self, uint64_t index, bytes data):
        cdef list_cursor_t cursor
        list_seek(self.root, index, &cursor)
        list_replace(&self.root, &cursor, data, len(data), &self.limits)

    def remove(self, bytes data, uint64_t count=0, bint backward=False):
        return list_remove(&self.root, data, len(data), count, backward, &self.limits)

    def positions(self, bytes data):
        cdef list_cursor_t cursor
        cdef list_item_t needle
        cdef list_item_t item
        found = []
        list_needle(data, len(data), &needle)
        list_seek(self.root, 0, &cursor)
        index = 0
        while list_next(&cursor, &item):
            if list_item_equals(&item, &needle):
                found.append(index)
            index += 1
        return found

    def copy(self):
        other = BlockList()
        other.limits = self.limits
        other.root = list_dup(self.root)
        return other

    def free_step(self, uint64_t budget):
        """(done, what is left of the budget)"""
        done = list_free_step(&self.root, &budget)
        return done, budget

    def check(self):
        return list_check(self.root)

    def info(self):
        return {"blocks": list_block_count(self.root), "heap": list_heap_bytes(self.root),
                "data": list_data_bytes(self.root)}

    def time_queue(self, bytes data, uint64_t count):
        """CPU nanoseconds of a push at the front with a pop at the back."""
        cdef uint64_t _i
        cdef list_item_t item
        cdef const char *text = data
        cdef size_t size = len(data)
        cdef int64_t start
        with nogil:
            start = thread_ns()
            for _i in range(count):
                list_push(&self.root, text, size, True, &self.limits)
                list_peek(self.root, False, &item)
                list_drop(&self.root, 1, False, NULL)
            start = thread_ns() - start
        return start / max(count, 1)

    def fill(self, bytes data, uint64_t count, bint front=False):
        """Pushes the same bytes many times; CPU nanoseconds of one push."""
        cdef uint64_t _i
        cdef const char *text = data
        cdef size_t size = len(data)
        cdef int64_t start
        with nogil:
            start = thread_ns()
            for _i in range(count):
                list_push(&self.root, text, size, front, &self.limits)
            start = thread_ns() - start
        return start / max(count, 1)
