"""Test door to sets: members are bytes."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text, list_needle
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_deadline, dash_find, dash_ref_t, dash_set_deadline,
                                    dash_t, dash_visit_due)
from dfly._core.store.dash_scan cimport dash_draws_begin, dash_draws_t
from dfly._core.store.intset cimport intset_bytes, intset_is_valid
from dfly._core.store.listpack cimport listpack_bytes
from dfly._core.store.member_set cimport (SET_COMPACT, SET_INTEGERS, SET_TABLE, set_add, set_add_item, set_adopt,
                                          set_begin, set_block, set_check, set_contains, set_contains_item,
                                          set_count, set_cursor_t, set_draw, set_erase_entry, set_limits_t, set_next,
                                          set_place_t, set_random, set_remove, set_remove_at, set_remove_item,
                                          member_table_t, set_table, set_to_table)
from dfly._core.store.object cimport (TYPE_SET, key_init, key_t, object_block_count, object_dup, object_encoding,
                                      object_encoding_name, object_free, object_free_step, object_heap_bytes,
                                      object_pointer, object_set_container, object_size, object_t)
from dfly._core.sys.alloc cimport mem_alloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP


cdef bytes item_bytes(const list_item_t *item):
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    return text.data[:text.size]


cdef bint erase(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    set_erase_entry(<member_table_t *>context, ref)
    return True


cdef class MemberSet:
    """A set with its limits."""

    cdef object_t value
    cdef set_limits_t limits

    def __cinit__(self, int64_t integers=512, int64_t entries=128, int64_t value=64):
        object_set_container(&self.value, TYPE_SET, NULL)
        self.change_limits(integers, entries, value)

    def __dealloc__(self):
        object_free(&self.value)

    def __len__(self):
        return set_count(&self.value)

    def change_limits(self, int64_t integers, int64_t entries, int64_t value):
        self.limits.integers = integers
        self.limits.entries = entries
        self.limits.value = value

    def add(self, bytes data, bint as_item=False):
        cdef list_item_t item
        if not as_item:
            return set_add(&self.value, data, len(data), &self.limits)
        list_needle(data, len(data), &item)
        return set_add_item(&self.value, &item, &self.limits)

    def remove(self, bytes data, bint as_item=False):
        cdef list_item_t item
        if not as_item:
            return set_remove(&self.value, data, len(data))
        list_needle(data, len(data), &item)
        return set_remove_item(&self.value, &item)

    def contains(self, bytes data, bint as_item=False):
        cdef list_item_t item
        if not as_item:
            return set_contains(&self.value, data, len(data))
        list_needle(data, len(data), &item)
        return set_contains_item(&self.value, &item)

    def members(self):
        cdef set_cursor_t cursor
        cdef list_item_t item
        found = []
        set_begin(&self.value, &cursor)
        while set_next(&cursor, &item):
            found.append(item_bytes(&item))
        return found

    def random(self, bint remove=False):
        cdef set_place_t place
        set_random(&self.value, &place)
        member = item_bytes(&place.item)
        if remove:
            set_remove_at(&self.value, &place)
        return member

    def draws(self, uint64_t count, bint remove=False):
        """So many random members, one after the other."""
        cdef dash_draws_t draws
        cdef set_place_t place
        cdef uint64_t _i
        found = []
        dash_draws_begin(&draws, random_u64(), count)
        for _i in range(count):
            set_draw(&self.value, &draws, &place)
            found.append(item_bytes(&place.item))
            if remove:
                set_remove_at(&self.value, &place)
        return found

    def encoding(self):
        return object_encoding_name(&self.value).decode() if object_pointer(&self.value) != NULL else None

    def copy(self):
        cdef MemberSet other = MemberSet()
        other.limits = self.limits
        if object_pointer(&self.value) != NULL:
            object_dup(&self.value, &other.value)
        return other

    def block(self):
        """The bytes of a set that is not a table."""
        cdef const uint8_t *block = set_block(&self.value)
        if object_encoding(&self.value) == SET_INTEGERS:
            return (<const char *>block)[:intset_bytes(block)]
        if object_encoding(&self.value) == SET_COMPACT:
            return (<const char *>block)[:listpack_bytes(block)]
        return None

    def adopt(self, bytes data, bint integers):
        cdef uint8_t *block = <uint8_t *>mem_alloc(len(data))
        memcpy(block, <const char *>data, len(data))
        object_free(&self.value)
        set_adopt(&self.value, SET_INTEGERS if integers else SET_COMPACT, block)

    def set_deadline(self, bytes data, int64_t deadline):
        cdef member_table_t *table = set_to_table(&self.value)
        cdef dash_ref_t ref
        cdef key_t key
        key_init(&key, data, len(data))
        if not dash_find(&table.table, &key, &ref):
            return False
        dash_set_deadline(&table.table, &ref, deadline)
        return True

    def deadline(self, bytes data):
        cdef dash_ref_t ref
        cdef key_t key
        if object_encoding(&self.value) != SET_TABLE:
            return DASH_NO_DEADLINE
        key_init(&key, data, len(data))
        return dash_deadline(&ref) if dash_find(&set_table(&self.value).table, &key, &ref) else None

    def expire(self, int64_t now):
        cdef member_table_t *table
        if object_encoding(&self.value) != SET_TABLE:
            return 0
        table = set_table(&self.value)
        return dash_visit_due(&table.table, now, <uint64_t>-1, erase, table)

    def free_step(self, uint64_t budget):
        """(done, what is left of the budget)"""
        done = object_free_step(&self.value, &budget)
        if done:
            object_set_container(&self.value, TYPE_SET, NULL)
        return done, budget

    def check(self):
        return set_check(&self.value)

    def info(self):
        return {"blocks": object_block_count(&self.value), "heap": object_heap_bytes(&self.value),
                "data": object_size(&self.value)}

    def fill(self, uint64_t first, uint64_t count, bytes prefix=b"member:"):
        """Adds prefix and an eight-digit number, many times."""
        for number in range(first, first + count):
            self.add(b"%b%08d" % (prefix, number))


def intset_accepts(bytes data):
    return intset_is_valid(data, len(data))
