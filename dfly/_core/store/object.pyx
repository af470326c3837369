"""The compact object: see object.pxd for the layout.

Short ASCII text of 16 or 17 characters is packed to 7 bits a character, eight characters at a time
in one 64-bit word (three shift-and-mask steps), so that the commonest key sizes need no heap block.
Little-endian byte order is assumed: payload bytes 0..14 are the low bytes of lo and hi.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_realloc, mem_usable
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, likely, load32, load64, slice_t, store64
from dfly._core.sys.hash cimport hash_bytes, hash_pair

__abi__ = DFLY_ABI_STAMP

cdef enum:
    EMBEDDED_MAX = 44            # Redis says "embstr" up to this size
    PREALLOCATE_MAX = 1048576    # a growing string doubles up to here, then grows by this much

cdef extern from *:
    """
    #define DFLY_ASCII_HIGH 0x8080808080808080ull
    """
    const uint64_t DFLY_ASCII_HIGH


cdef const container_ops_t *containers[TYPE_COUNT]


cdef void object_register_container(object_type_t type, const container_ops_t *ops) noexcept nogil:
    containers[<int>type] = ops


cdef inline const container_ops_t *ops_of(const object_t *self) noexcept nogil:
    cdef const container_ops_t *ops = containers[(self.hi >> 32) & 0xFF]
    DFLY_CHECK(ops != NULL, "a container of a type that nobody has registered")
    return ops


# ---- 7-bit packing ---------------------------------------------------------------------------

cdef inline uint64_t pack8(uint64_t x) noexcept nogil:
    """Eight 7-bit characters, one a byte, to the low 56 bits."""
    x = (x & 0x007F007F007F007FULL) | ((x & 0x7F007F007F007F00ULL) >> 1)
    x = (x & 0x00003FFF00003FFFULL) | ((x & 0x3FFF00003FFF0000ULL) >> 2)
    return (x & 0x000000000FFFFFFFULL) | ((x & 0x0FFFFFFF00000000ULL) >> 4)


cdef inline uint64_t unpack8(uint64_t x) noexcept nogil:
    x = (x & 0x000000000FFFFFFFULL) | ((x & 0x00FFFFFFF0000000ULL) << 4)
    x = (x & 0x00003FFF00003FFFULL) | ((x & 0x0FFFC0000FFFC000ULL) << 2)
    return (x & 0x007F007F007F007FULL) | ((x & 0x3F803F803F803F80ULL) << 1)


cdef inline bint pack_ascii(object_t *out, const char *data, size_t size) noexcept nogil:
    """size is 16 or 17; False if the text is not ASCII."""
    cdef uint64_t first = load64(data)
    cdef uint64_t second = load64(data + 8)
    cdef uint64_t last = <uint8_t>data[16] if size == 17 else 0
    cdef uint64_t packed
    if (first | second) & DFLY_ASCII_HIGH or last & 0x80:
        return False
    packed = pack8(second)
    out.lo = pack8(first) | (packed << 56)
    out.hi = (packed >> 8) | (last << 48) | (<uint64_t>size << 56)
    return True


cdef inline void unpack_ascii(const object_t *self, char *out) noexcept nogil:
    """Writes 24 bytes at out, of which the string's size count."""
    store64(out, unpack8(self.lo & 0x00FFFFFFFFFFFFFFULL))
    store64(out + 8, unpack8((self.lo >> 56) | ((self.hi & 0x0000FFFFFFFFFFFFULL) << 8)))
    out[16] = <char>((self.hi >> 48) & 0x7F)


cdef inline void load_inline(object_t *out, const char *data, size_t size) noexcept nogil:
    """Up to 15 bytes, zero padded, without reading beyond them."""
    cdef uint64_t lo = 0
    cdef uint64_t hi = 0
    if size >= 8:
        lo = load64(data)
        if size > 8:
            hi = load64(data + size - 8) >> (8 * (16 - size))
    elif size >= 4:
        lo = load32(data) | (<uint64_t>load32(data + size - 4) << (8 * (size - 4)))
    elif size > 0:
        lo = <uint8_t>data[0]
        if size > 1:
            lo |= <uint64_t><uint8_t>data[1] << 8
        if size > 2:
            lo |= <uint64_t><uint8_t>data[2] << 16
    out.lo = lo
    out.hi = hi | (<uint64_t>size << 56)


cdef inline bint load_short(object_t *out, const char *data, size_t size) noexcept nogil:
    if size <= OBJECT_INLINE_MAX:
        load_inline(out, data, size)
        return True
    return size <= OBJECT_PACKED_MAX and pack_ascii(out, data, size)


cdef inline size_t block_size(size_t size) noexcept nogil:
    """Bytes of the block of a string that has not been edited: what allocators round to anyway."""
    return (size + 15) & ~<size_t>15


cdef inline void set_heap(object_t *out, void *block, size_t size, uint64_t raw) noexcept nogil:
    out.lo = <uint64_t>block
    out.hi = <uint64_t><uint32_t>size | ((<uint64_t>OBJECT_HEAP | raw) << 56)


# ---- Keys ------------------------------------------------------------------------------------

cdef void key_init(key_t *key, const char *data, size_t size) noexcept nogil:
    key.data = data
    key.size = <uint32_t>size
    key.is_short = load_short(&key.image, data, size)
    if likely(key.is_short):
        key.hash = hash_pair(key.image.lo, key.image.hi)
    else:
        key.hash = hash_bytes(data, size)


cdef void key_to_object(const key_t *key, object_t *out) noexcept nogil:
    cdef char *block
    if key.is_short:
        out[0] = key.image
        return
    block = <char *>mem_alloc(block_size(key.size))
    memcpy(block, key.data, key.size)
    set_heap(out, block, key.size, 0)


cdef uint64_t object_key_hash(const object_t *stored) noexcept nogil:
    if object_tag(stored) & OBJECT_TAG_MASK == OBJECT_HEAP:
        return hash_bytes(<const void *>stored.lo, <uint32_t>stored.hi)
    return hash_pair(stored.lo, stored.hi << 1 >> 1)


cdef bint object_equals_key(const object_t *stored, const key_t *key) noexcept nogil:
    if key.is_short:
        return object_equals_image(stored, &key.image)
    return (object_tag(stored) & OBJECT_TAG_MASK == OBJECT_HEAP and <uint32_t>stored.hi == key.size
            and memcmp(<const void *>stored.lo, key.data, key.size) == 0)


# ---- Strings ---------------------------------------------------------------------------------

cdef void object_set_int(object_t *out, int64_t value) noexcept nogil:
    out.lo = <uint64_t>value
    out.hi = <uint64_t>OBJECT_INT << 56


cdef void object_set_string_plain(object_t *out, const char *data, size_t size) noexcept nogil:
    cdef char *block
    if load_short(out, data, size):
        return
    block = <char *>mem_alloc(block_size(size))
    memcpy(block, data, size)
    set_heap(out, block, size, 0)


cdef void object_set_string(object_t *out, const char *data, size_t size) noexcept nogil:
    cdef int64_t value
    if size <= 20 and size > 0 and (<uint8_t>(data[0] - c'0') <= 9 or data[0] == c'-') \
            and parse_int64(data, size, &value):
        object_set_int(out, value)
        return
    object_set_string_plain(out, data, size)


cdef void object_replace_string(object_t *self, const char *data, size_t size) noexcept nogil:
    # The block serves again if a new one would have its size: no cache miss in the allocator's lists.
    # One that was edited in place (OBJECT_RAW) has another size.
    if object_tag(self) == OBJECT_HEAP and size > 20 and block_size(size) == block_size(<uint32_t>self.hi):
        memcpy(<char *>self.lo, data, size)
        set_heap(self, <char *>self.lo, size, 0)
        return
    object_free(self)
    object_set_string(self, data, size)


cdef slice_t object_view(const object_t *self, char *scratch) noexcept nogil:
    cdef slice_t view
    cdef uint8_t tag = object_tag(self) & OBJECT_TAG_MASK
    if tag == OBJECT_HEAP:
        view.data = <const char *>self.lo
        view.size = <uint32_t>self.hi
    elif tag <= OBJECT_INLINE_MAX:
        view.data = <const char *>self
        view.size = tag
    elif tag <= OBJECT_PACKED_MAX:
        unpack_ascii(self, scratch)
        view.data = scratch
        view.size = tag
    else:
        DFLY_CHECK(tag == OBJECT_INT, "object_view of a container")
        view.size = format_int64(<int64_t>self.lo, scratch)
        view.data = scratch
    return view


cdef size_t object_size(const object_t *self) noexcept nogil:
    cdef uint8_t tag = object_tag(self) & OBJECT_TAG_MASK
    cdef char text[OBJECT_SCRATCH]
    if tag == OBJECT_TYPED:
        return ops_of(self).data_bytes(self)
    if tag == OBJECT_HEAP:
        return <uint32_t>self.hi
    if tag == OBJECT_INT:
        return format_int64(<int64_t>self.lo, text)
    return tag


cdef bint object_get_int(const object_t *self, int64_t *out) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view
    if object_tag(self) & OBJECT_TAG_MASK == OBJECT_INT:
        out[0] = <int64_t>self.lo
        return True
    if not object_is_string(self):
        return False
    view = object_view(self, scratch)
    return parse_int64(view.data, view.size, out)


cdef char *object_resize(object_t *self, size_t new_size) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view = object_view(self, scratch)
    cdef size_t old_size = view.size
    cdef size_t room = new_size
    cdef char *block
    if old_size > 0 and new_size > old_size:
        room = new_size * 2 if new_size < PREALLOCATE_MAX else new_size + PREALLOCATE_MAX
    if object_tag(self) & OBJECT_TAG_MASK == OBJECT_HEAP:
        block = <char *>self.lo
        if new_size > mem_usable(block):
            block = <char *>mem_realloc(block, room)
    else:
        block = <char *>mem_alloc(room if room > 0 else 1)
        memcpy(block, view.data, old_size if old_size < new_size else new_size)
    if new_size > old_size:
        memset(block + old_size, 0, new_size - old_size)
    set_heap(self, block, new_size, OBJECT_RAW)
    return block


cdef void object_dup(const object_t *self, object_t *out) noexcept nogil:
    cdef char *block
    cdef uint32_t size
    out[0] = self[0]
    if not object_is_string(self):
        ops_of(self).dup(self, out)
        return
    if object_tag(self) & OBJECT_TAG_MASK == OBJECT_HEAP:
        size = <uint32_t>self.hi
        block = <char *>mem_alloc(block_size(size if size > 0 else 1))
        memcpy(block, <const void *>self.lo, size)
        out.lo = <uint64_t>block


cdef void object_free(object_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    if object_tag(self) & OBJECT_TAG_MASK == OBJECT_HEAP:
        mem_free(<void *>self.lo)
    elif not object_is_string(self):
        object_free_step(self, &budget)
    self.lo = 0
    self.hi = 0


cdef bint object_free_step(object_t *self, uint64_t *budget) noexcept nogil:
    if object_is_string(self):
        if budget[0] == 0:
            return False
        budget[0] -= 1
        object_free(self)
        return True
    if not ops_of(self).free_step(self, budget):
        return False
    self.lo = 0
    self.hi = 0
    return True


cdef uint64_t object_block_count(const object_t *self) noexcept nogil:
    return 1 if object_is_string(self) else ops_of(self).block_count(self)


cdef bint object_purge_step(object_t *self, uint64_t *budget) noexcept nogil:
    cdef object_free_step_t step = NULL if object_is_string(self) else ops_of(self).purge_step
    return step == NULL or step(self, budget)


cdef uint64_t object_expire_members(object_t *self, int64_t now_ms, uint64_t budget) noexcept nogil:
    return ops_of(self).expire_members(self, now_ms, budget)


cdef int64_t object_next_member_deadline(const object_t *self) noexcept nogil:
    if object_is_string(self) or ops_of(self).next_member_deadline == NULL:
        return -1
    return ops_of(self).next_member_deadline(self)


cdef const void *object_walk_owner(const object_t *self) noexcept nogil:
    if object_is_string(self) or ops_of(self).walk_owner == NULL:
        return NULL
    return ops_of(self).walk_owner(self)


cdef void object_finish_walk(object_t *self) noexcept nogil:
    ops_of(self).finish_walk(self)


cdef bint object_is_worth_prefetching(const object_t *self) noexcept nogil:
    cdef object_test_t test = ops_of(self).is_worth_prefetching
    return test != NULL and test(self)


cdef bint object_prefetch_member(const object_t *self, uint64_t hash, int number, void **probe) noexcept nogil:
    return ops_of(self).prefetch_member(self, hash, number, probe)


cdef object_type_t object_type(const object_t *self) noexcept nogil:
    if object_is_string(self):
        return TYPE_STRING
    return <object_type_t>((self.hi >> 32) & 0xFF)


cdef const char *object_encoding_name(const object_t *self) noexcept nogil:
    cdef uint8_t tag = object_tag(self)
    if not object_is_string(self):
        return ops_of(self).encoding_name(self)
    if tag & OBJECT_TAG_MASK == OBJECT_INT:
        return "int"
    if tag & OBJECT_RAW or object_size(self) > EMBEDDED_MAX:
        return "raw"
    return "embstr"


cdef const char *type_name(object_type_t type) noexcept nogil:
    if type == TYPE_STRING:
        return "string"
    if type == TYPE_LIST:
        return "list"
    if type == TYPE_SET:
        return "set"
    if type == TYPE_ZSET:
        return "zset"
    if type == TYPE_HASH:
        return "hash"
    return "stream"


cdef size_t object_heap_bytes(const object_t *self) noexcept nogil:
    if object_tag(self) & OBJECT_TAG_MASK == OBJECT_HEAP:
        return mem_usable(<const void *>self.lo)
    return 0 if object_is_string(self) else ops_of(self).heap_bytes(self)
