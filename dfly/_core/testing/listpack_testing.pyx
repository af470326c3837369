"""Test door to the listpack: elements are bytes, positions as of a Python list."""

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text, list_needle
from dfly._core.store.listpack cimport (LISTPACK_END, LISTPACK_HEADER, listpack_bytes, listpack_count,
                                        listpack_delete, listpack_dup, listpack_element_size, listpack_find,
                                        listpack_first, listpack_insert, listpack_insert_int,
                                        listpack_is_valid, listpack_last, listpack_new, listpack_next,
                                        listpack_previous, listpack_read, listpack_replace,
                                        listpack_replace_int, listpack_seek)
from dfly._core.sys.alloc cimport mem_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef bytes element_bytes(const uint8_t *p):
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_item_t item
    cdef slice_t text
    listpack_read(p, &item)
    text = list_item_text(&item, scratch)
    return text.data[:text.size]


def is_valid(bytes data):
    return listpack_is_valid(data, len(data))


def element_size(bytes data):
    return listpack_element_size(data, len(data))


cdef class Listpack:
    """A listpack; index None is the end."""

    cdef uint8_t *block

    def __cinit__(self):
        self.block = listpack_new(0)

    def __dealloc__(self):
        mem_free(self.block)

    def __len__(self):
        return listpack_count(self.block)

    cdef const uint8_t *at(self, index):
        return NULL if index is None else listpack_seek(self.block, index)

    def get(self, index):
        cdef const uint8_t *p = self.at(index)
        return element_bytes(p) if p != NULL else None

    def insert(self, index, bytes data):
        return element_bytes(listpack_insert(&self.block, self.at(index), data, len(data)))

    def insert_int(self, index, value):
        return element_bytes(listpack_insert_int(&self.block, self.at(index), value))

    def replace(self, index, bytes data):
        return element_bytes(listpack_replace(&self.block, self.at(index), data, len(data)))

    def replace_int(self, index, value):
        return element_bytes(listpack_replace_int(&self.block, self.at(index), value))

    def delete(self, index, uint64_t count=1):
        cdef const uint8_t *p = listpack_delete(&self.block, self.at(index), count)
        return element_bytes(p) if p != NULL else None

    def find(self, bytes data, start=0, skip=0):
        """Index of the first equal element from start, looking at each (skip + 1)th, or None."""
        cdef list_item_t needle
        cdef const uint8_t *p
        cdef const uint8_t *walk = listpack_first(self.block)
        list_needle(data, len(data), &needle)
        p = listpack_find(self.at(start), &needle, skip)
        index = 0
        while p != NULL and walk != p:
            walk = listpack_next(walk)
            index += 1
        return index if p != NULL else None

    def forward(self):
        cdef const uint8_t *p = self.block + LISTPACK_HEADER
        cdef list_item_t item
        found = []
        while p[0] != LISTPACK_END:
            found.append(element_bytes(p))
            p = listpack_read(p, &item)
        return found

    def backward(self):
        cdef const uint8_t *p = listpack_last(self.block)
        found = []
        while p != NULL:
            found.append(element_bytes(p))
            p = listpack_previous(self.block, p)
        return found

    def image(self):
        return (<const char *>self.block)[:listpack_bytes(self.block)]

    def copy(self):
        other = Listpack()
        mem_free(other.block)
        other.block = listpack_dup(self.block)
        return other
