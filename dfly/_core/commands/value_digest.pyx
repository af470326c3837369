"""Digests of values for DEBUG: see value_digest.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from dfly._core.engine.database cimport get_deadline
from dfly._core.store.block_list cimport (LIST_ITEM_SCRATCH, list_cursor_t, list_item_t, list_item_text,
                                          list_next, list_seek)
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_ref_t
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_COUNT, TYPE_LIST, TYPE_STREAM, object_is_string,
                                      object_pointer, object_t, object_type, object_type_t, object_view)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, slice_t
from dfly._core.sys.sha1 cimport SHA1_SIZE, sha1

__abi__ = DFLY_ABI_STAMP

cdef value_digest_t mixers[TYPE_COUNT]


cdef void register_value_digest(object_type_t type, value_digest_t mix) noexcept nogil:
    mixers[<int>type] = mix


cdef void digest_xor(unsigned char *digest, const void *data, size_t size) noexcept nogil:
    cdef unsigned char hashed[SHA1_SIZE]
    cdef int i
    sha1(data, size, hashed)
    for i in range(SHA1_SIZE):
        digest[i] ^= hashed[i]


cdef void digest_mix(unsigned char *digest, const void *data, size_t size) noexcept nogil:
    """As digest_xor, but the order of what is mixed in matters."""
    cdef unsigned char before[SHA1_SIZE]
    digest_xor(digest, data, size)
    memcpy(before, digest, SHA1_SIZE)
    sha1(before, SHA1_SIZE, digest)


cdef void digest_number(unsigned char *digest, uint32_t number) noexcept nogil:
    cdef unsigned char text[4]
    cdef int i
    for i in range(4):
        text[i] = <unsigned char>(number >> (24 - 8 * i))
    digest_mix(digest, text, 4)


cdef void digest_list(unsigned char *digest, const object_t *value) noexcept nogil:
    cdef char scratch[LIST_ITEM_SCRATCH]
    cdef list_cursor_t cursor
    cdef list_item_t item
    cdef slice_t text
    list_seek(object_pointer(value), 0, &cursor)
    while list_next(&cursor, &item):
        text = list_item_text(&item, scratch)
        digest_mix(digest, text.data, text.size)


register_value_digest(TYPE_LIST, digest_list)


cdef void digest_value(unsigned char *digest, dash_ref_t *ref) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef object_t value = ref.entry.value
    cdef value_digest_t mix
    cdef slice_t text
    # Redis' numbers of types: five is a module's.
    digest_number(digest, 6 if object_type(&value) == TYPE_STREAM else <uint32_t>object_type(&value))
    if object_is_string(&value):
        text = object_view(&value, scratch)
        digest_mix(digest, text.data, text.size)
    else:
        mix = mixers[<int>object_type(&value)]
        DFLY_CHECK(mix != NULL, "a type without a digest")
        mix(digest, &value)
    if get_deadline(ref) != DASH_NO_DEADLINE:
        digest_xor(digest, "!!expire!!", 10)
