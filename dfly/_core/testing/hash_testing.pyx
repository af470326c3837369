"""Test door to the hash type: fields and values are bytes, the clock is an argument."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.hash_map cimport (HASH_KEEP_DEADLINE, HASH_NO_DEADLINE, HASH_SHOW_ALL,
                                        hash_adopt_listpack, hash_check, hash_count, hash_deadline,
                                        hash_entry_t, hash_expire, hash_find, hash_limits_t, hash_listpack,
                                        hash_next_deadline, hash_place_t, hash_random, hash_remove,
                                        hash_reserve, hash_scan, hash_set, hash_set_deadline, hash_trim,
                                        hash_value)
from dfly._core.store.listpack cimport listpack_bytes, listpack_is_valid
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_HASH, object_block_count, object_dup,
                                      object_encoding_name, object_free, object_free_step,
                                      object_heap_bytes, object_pointer, object_set_container, object_size,
                                      object_t)
from dfly._core.sys.alloc cimport mem_alloc, mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

NO_DEADLINE = HASH_NO_DEADLINE
KEEP_DEADLINE = HASH_KEEP_DEADLINE
SHOW_ALL = HASH_SHOW_ALL


cdef slice_t slice_of(bytes data):
    cdef slice_t out
    out.data = data
    out.size = len(data)
    return out


cdef bytes item_bytes(const list_item_t *item):
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef slice_t text = list_item_text(item, scratch)
    return text.data[:text.size]


cdef void collect(const hash_entry_t *entry, void *context) noexcept nogil:
    with gil:
        (<list>context).append((item_bytes(&entry.field), item_bytes(&entry.value), entry.deadline))


cdef class Hash:
    """A hash with its limits; a hash without fields is empty, not gone."""

    cdef object_t value
    cdef hash_limits_t limits

    def __cinit__(self, uint64_t entries=512, uint64_t length=64):
        object_set_container(&self.value, TYPE_HASH, NULL)
        self.set_limits(entries, length)

    def __dealloc__(self):
        object_free(&self.value)

    def set_limits(self, uint64_t entries, uint64_t length):
        self.limits.entries = entries
        self.limits.bytes = length

    def __len__(self):
        return hash_count(&self.value)

    def reserve(self, uint64_t elements, uint64_t length):
        hash_reserve(&self.value, elements, length)

    def trim(self):
        hash_trim(&self.value)

    def set(self, bytes field, bytes value, int64_t deadline=HASH_NO_DEADLINE, int64_t now=0):
        return <int>hash_set(&self.value, slice_of(field), slice_of(value), deadline, now, &self.limits)

    def get(self, bytes field, int64_t now=0):
        """(value, deadline) or None"""
        cdef char scratch[OBJECT_SCRATCH]
        cdef hash_place_t place
        cdef list_item_t item
        if object_pointer(&self.value) == NULL or not hash_find(&self.value, slice_of(field), now, &place):
            return None
        hash_value(&self.value, &place, scratch, &item)
        return item_bytes(&item), hash_deadline(&self.value, &place)

    def set_deadline(self, bytes field, int64_t deadline):
        cdef hash_place_t place
        if object_pointer(&self.value) == NULL or not hash_find(&self.value, slice_of(field), HASH_SHOW_ALL, &place):
            return False
        hash_set_deadline(&self.value, slice_of(field), &place, deadline)
        return True

    def remove(self, bytes field, int64_t now=0):
        cdef hash_place_t place
        if object_pointer(&self.value) == NULL or not hash_find(&self.value, slice_of(field), now, &place):
            return False
        hash_remove(&self.value, &place)
        return True

    def expire(self, int64_t now, uint64_t budget=1 << 60):
        return hash_expire(&self.value, now, budget)

    def next_deadline(self):
        return hash_next_deadline(&self.value)

    def scan(self, uint64_t cursor=0, int64_t now=0):
        """(next cursor, [(field, value, deadline)])"""
        found = []
        return hash_scan(&self.value, cursor, now, collect, <void *>found), found

    def items(self, int64_t now=0):
        cursor, found = self.scan(0, now)
        while cursor:
            cursor, more = self.scan(cursor, now)
            found += more
        return found

    def random(self, int64_t now=0):
        cdef hash_entry_t entry
        if not hash_random(&self.value, now, &entry):
            return None
        return item_bytes(&entry.field), item_bytes(&entry.value), entry.deadline

    def listpack(self):
        cdef const uint8_t *block = hash_listpack(&self.value)
        return None if block == NULL else (<const char *>block)[:listpack_bytes(block)]

    def adopt(self, bytes data):
        cdef uint8_t *block
        if not listpack_is_valid(data, len(data)):
            return None
        block = <uint8_t *>mem_alloc(len(data))
        memcpy(block, <const char *>data, len(data))
        if hash_adopt_listpack(&self.value, block, &self.limits):
            return True
        mem_free(block)
        return False

    def copy(self):
        other = Hash()
        other.limits = self.limits
        object_dup(&self.value, &(<Hash>other).value)
        return other

    def free_step(self, uint64_t budget):
        """(done, what is left of the budget)"""
        done = object_free_step(&self.value, &budget)
        if done:
            object_set_container(&self.value, TYPE_HASH, NULL)
        return done, budget

    def check(self):
        return hash_check(&self.value)

    def info(self):
        return {"encoding": object_encoding_name(&self.value).decode(), "heap": object_heap_bytes(&self.value),
                "blocks": object_block_count(&self.value),
                "data": object_size(&self.value) if len(self) else 0}
