"""What SORT sorts: see sorting.pxd. Texts are compared byte by byte (the C locale)."""

from libc.math cimport isnan
from libc.stdint cimport uint64_t
from libc.stdlib cimport strtod
from libc cimport errno as c_errno
from libc.string cimport memcmp, memcpy

from dfly._core.engine.slices cimport work_goes_on, work_sort
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, list_count, list_item_text, list_next, list_seek)
from dfly._core.store.member_set cimport set_begin, set_count, set_next
from dfly._core.store.merge_sort cimport merge_sort_at, merge_sort_begin, merge_sort_end
from dfly._core.store.object cimport TYPE_LIST, TYPE_SET, object_is_container, object_pointer
from dfly._core.store.sorted_set cimport zset_count, zset_entry_t, zset_next, zset_seek
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    NUMBER_TEXT_MAX = 511
    CHUNK = 65_536


# ---- Texts -------------------------------------------------------------------------------------

cdef slice_t arena_keep(text_arena_t *self, slice_t text) noexcept nogil:
    cdef arena_chunk_t *chunk
    cdef slice_t out
    # Also for an empty text that comes first: it has an address like all others.
    if text.size > self.left or self.free == NULL:
        self.left = max(text.size, <size_t>CHUNK)
        chunk = <arena_chunk_t *>net_alloc(sizeof(arena_chunk_t) + self.left)
        chunk.next = self.chunks
        self.chunks = chunk
        self.free = <char *>(chunk + 1)
    out.data = self.free
    out.size = text.size
    if text.size > 0:
        memcpy(self.free, text.data, text.size)
    self.free += text.size
    self.left -= text.size
    return out


cdef void arena_free(text_arena_t *self) noexcept nogil:
    cdef arena_chunk_t *next
    while self.chunks != NULL:
        next = self.chunks.next
        net_free(self.chunks)
        self.chunks = next
    self.left = 0


# ---- Copying -----------------------------------------------------------------------------------

cdef uint64_t elements_count(const object_t *value) noexcept nogil:
    if object_is_container(value, TYPE_LIST):
        return list_count(object_pointer(value))
    return set_count(value) if object_is_container(value, TYPE_SET) else zset_count(value)


cdef void elements_begin(sort_elements_t *self, const object_t *value) noexcept nogil:
    self.value = value[0]
    self.count = elements_count(value)
    self.copied = 0
    self.is_reversed = False
    self.is_not_numeric = False
    self.is_sorting = False
    self.elements = <sort_element_t *>net_alloc(self.count * sizeof(sort_element_t))
    if self.count == 0:
        return
    if object_is_container(value, TYPE_LIST):
        list_seek(object_pointer(value), 0, &self.cursor.elements)
    elif object_is_container(value, TYPE_SET):
        set_begin(value, &self.cursor.members)
    else:
        zset_seek(value, 0, &self.cursor.scores)


cdef inline bint next_item(sort_elements_t *self, zset_entry_t *out) noexcept nogil:
    if object_is_container(&self.value, TYPE_LIST):
        return list_next(&self.cursor.elements, &out.member)
    if object_is_container(&self.value, TYPE_SET):
        return set_next(&self.cursor.members, &out.member)
    return zset_next(&self.cursor.scores, out)


cdef bint read_number(slice_t text, double *out) noexcept nogil:
    """As C does, up to an end mark in the text."""
    cdef char copy[NUMBER_TEXT_MAX + 1]
    cdef char *end
    if text.size > NUMBER_TEXT_MAX:
        return False
    memcpy(copy, text.data, text.size)
    copy[text.size] = 0
    c_errno.errno = 0
    out[0] = strtod(copy, &end)
    return end[0] == 0 and not isnan(out[0]) and c_errno.errno != c_errno.ERANGE


cdef bint elements_copy_work(sort_elements_t *self, work_t *work) noexcept nogil:
    cdef bint are_numbers = not (self.dont_sort or self.is_alpha or self.has_by)
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef sort_element_t *element
    cdef zset_entry_t entry
    while self.copied < self.count:
        if not work_goes_on(work):
            return False
        next_item(self, &entry)
        element = &self.elements[self.copied]
        self.copied += 1
        element.text = arena_keep(&self.arena, list_item_text(&entry.member, scratch))
        element.weight.is_missing = True
        element.number = 0
        element.all = self
        if are_numbers and not read_number(element.text, &element.number):
            self.is_not_numeric = True
    return True


cdef void elements_weigh(sort_elements_t *self, uint64_t i, slice_t weight) noexcept nogil:
    cdef sort_element_t *element = &self.elements[i]
    if self.is_alpha:
        element.weight.text = arena_keep(&self.arena, weight)
        element.weight.is_missing = False
    elif not read_number(weight, &element.number):
        self.is_not_numeric = True


# ---- Sorting -----------------------------------------------------------------------------------

cdef int compare_texts(slice_t a, slice_t b) noexcept nogil:
    cdef int order = memcmp(a.data, b.data, min(a.size, b.size))
    return order if order != 0 else <int>(a.size > b.size) - <int>(a.size < b.size)


cdef int compare_elements(const sort_element_t *a, const sort_element_t *b) noexcept nogil:
    if not a.all.is_alpha:
        if a.number != b.number:
            return 1 if a.number > b.number else -1
        return compare_texts(a.text, b.text)
    if not a.all.has_by:
        return compare_texts(a.text, b.text)
    if a.weight.is_missing or b.weight.is_missing:
        return <int>b.weight.is_missing - <int>a.weight.is_missing
    return compare_texts(a.weight.text, b.weight.text)


cdef int compare(const void *a, const void *b) noexcept nogil:
    """Equal ones keep their order, descending too."""
    cdef int order = compare_elements(<const sort_element_t *>a, <const sort_element_t *>b)
    return -order if (<const sort_element_t *>a).all.is_descending else order


cdef bint elements_sort_work(sort_elements_t *self, work_t *work) noexcept nogil:
    if self.dont_sort or self.is_not_numeric:
        # The order of a set is nobody's.
        self.is_reversed = self.is_descending and not object_is_container(&self.value, TYPE_SET)
        return True
    if not self.is_sorting:
        self.is_sorting = True
        merge_sort_begin(&self.sort, self.elements, sizeof(sort_element_t), self.count, compare)
    return work_sort(work, &self.sort)


cdef sort_element_t *elements_at(const sort_elements_t *self, uint64_t i) noexcept nogil:
    if self.is_sorting:
        return <sort_element_t *>merge_sort_at(&self.sort, i)
    return &self.elements[self.count - 1 - i if self.is_reversed else i]


cdef void elements_end(sort_elements_t *self) noexcept nogil:
    arena_free(&self.arena)
    net_free(self.elements)
    self.elements = NULL
    if self.is_sorting:
        self.is_sorting = False
        merge_sort_end(&self.sort)
