"""The compact object: 16 bytes that hold a key or a value.

    byte  0..14  payload        byte 15  tag

    tag                      payload
    0..15                    string of that many bytes, stored as is, zero padded
    16, 17                   ASCII string of that length, 7 bits a character (14 or 15 bytes)
    OBJECT_INT               int64 at 0..7: a string that is the canonical decimal of that integer
    OBJECT_HEAP              pointer at 0..7, uint32 size at 8..11: a string block of mem_alloc
    OBJECT_TYPED             pointer at 0..7, type at 12, encoding at 13: a container; bytes 8..11 are its
                             module's own

Bit 7 of the tag (OBJECT_RAW) changes no bytes: it says that Redis would call this string
"raw" (it was edited in place), which OBJECT ENCODING reports.

Two equal short keys have equal 16 bytes but for that bit: that is how the dash table compares them. Keys never
use OBJECT_INT; of a key, bit 7 (OBJECT_STICKY) is its owner's mark: the key is not to be evicted.

Ownership: an object owns its heap block. Copying the 16 bytes moves it; `object_free` ends it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.decimal_text cimport format_int64, parse_int64
from dfly._core.sys.base cimport slice_t

cdef enum:
    OBJECT_INLINE_MAX = 15
    OBJECT_PACKED_MAX = 17
    OBJECT_INT = 32
    OBJECT_HEAP = 33
    OBJECT_TYPED = 34
    OBJECT_RAW = 0x80
    OBJECT_STICKY = 0x80
    OBJECT_TAG_MASK = 0x7F
    OBJECT_SCRATCH = 32          # bytes a caller gives object_view for unpacking

cdef enum object_type_t:
    TYPE_STRING = 0
    TYPE_LIST = 1
    TYPE_SET = 2
    TYPE_ZSET = 3
    TYPE_HASH = 4
    TYPE_STREAM = 5
    TYPE_COUNT = 6

cdef struct object_t:
    uint64_t lo
    uint64_t hi

# What a container's module does for every command that takes any type (COPY, UNLINK, OBJECT, MEMORY).
# An empty container (root NULL) may be freed and counted, nothing else.
ctypedef void (*object_dup_t)(const object_t *self, object_t *out) noexcept nogil
ctypedef bint (*object_free_step_t)(object_t *self, uint64_t *budget) noexcept nogil
ctypedef uint64_t (*object_number_t)(const object_t *self) noexcept nogil
ctypedef const char *(*object_name_t)(const object_t *self) noexcept nogil
ctypedef uint64_t (*object_expire_t)(object_t *self, int64_t now_ms, uint64_t budget) noexcept nogil
ctypedef int64_t (*object_deadline_t)(const object_t *self) noexcept nogil
ctypedef bint (*object_test_t)(const object_t *self) noexcept nogil
ctypedef const void *(*object_owner_t)(const object_t *self) noexcept nogil
ctypedef void (*object_finish_t)(object_t *self) noexcept nogil
ctypedef bint (*object_prefetch_t)(const object_t *self, uint64_t hash, int number, void **probe) noexcept nogil

cdef struct container_ops_t:
    object_dup_t dup                 # root and payload of out; its tag is set already
    object_free_step_t free_step     # as object_free_step; the root is NULL when it returns True
    object_number_t block_count      # allocations, roughly: what freeing costs
    object_number_t heap_bytes       # real bytes of all it owns
    object_number_t data_bytes       # of its elements as they are stored ("serializedlength")
    object_name_t encoding_name
    # Frees what members have left that are gone already, as free_step; NULL: they never leave anything.
    object_free_step_t purge_step
    # Of types whose members may have deadlines; NULL: they have none.
    object_expire_t expire_members       # removes at most so many that are due; the root is NULL if none is left
    object_deadline_t next_member_deadline   # the earliest or something before it, -1: no member has one
    # Of types that a snapshot writes member by member while they change (persist/rdb_walk); NULL: none does. Who has
    # begun the walk over this one, NULL: there is none. The other brings one to its end at once.
    object_owner_t walk_owner
    object_finish_t finish_walk
    # Is it so large that prefetching what a look-up of a member touches is worth it? NULL: never. The other does
    # that, in two steps, with the hash of the member's key_t.
    object_test_t is_worth_prefetching
    object_prefetch_t prefetch_member

cdef struct key_t:
    # A key as commands carry it: the caller's bytes, its hash, and (short keys) its 16 bytes.
    const char *data
    uint32_t size
    bint is_short           # image is valid: compare by image; otherwise compare bytes
    uint64_t hash
    object_t image

# Keys
cdef void key_init(key_t *key, const char *data, size_t size) noexcept nogil
cdef void key_to_object(const key_t *key, object_t *out) noexcept nogil       # a new owned object
cdef uint64_t object_key_hash(const object_t *stored) noexcept nogil          # equals key_t.hash of the same bytes
cdef bint object_equals_key(const object_t *stored, const key_t *key) noexcept nogil

# Strings. `object_view` borrows: valid until the object changes; short packed strings and
# integers are rendered into scratch (OBJECT_SCRATCH bytes, the caller's).
cdef void object_set_string(object_t *out, const char *data, size_t size) noexcept nogil  # may choose int
cdef void object_set_string_plain(object_t *out, const char *data, size_t size) noexcept nogil  # never int
cdef void object_set_int(object_t *out, int64_t value) noexcept nogil
cdef slice_t object_view(const object_t *self, char *scratch) noexcept nogil
cdef size_t object_size(const object_t *self) noexcept nogil                  # string length in bytes
# Parses strings that are canonical, too.
cdef bint object_get_int(const object_t *self, int64_t *out) noexcept nogil
# Makes self a writable heap string of new_size bytes (kept bytes, zero filled beyond), marks it
# raw, with spare room when growing; returns its bytes.
cdef char *object_resize(object_t *self, size_t new_size) noexcept nogil
cdef void object_dup(const object_t *self, object_t *out) noexcept nogil
cdef void object_free(object_t *self) noexcept nogil
# Frees what it holds and becomes this string (may choose int); data must not lie in itself.
cdef void object_replace_string(object_t *self, const char *data, size_t size) noexcept nogil
# Frees at most *budget blocks and takes them off the budget; True when all is free and self an empty
# string. object_block_count is what that costs in all.
cdef bint object_free_step(object_t *self, uint64_t *budget) noexcept nogil
cdef uint64_t object_block_count(const object_t *self) noexcept nogil
# Frees at most *budget blocks of what a container holds for members that are gone; True when there is nothing of it.
cdef bint object_purge_step(object_t *self, uint64_t *budget) noexcept nogil
cdef uint64_t object_expire_members(object_t *self, int64_t now_ms, uint64_t budget) noexcept nogil
cdef int64_t object_next_member_deadline(const object_t *self) noexcept nogil
cdef const void *object_walk_owner(const object_t *self) noexcept nogil           # NULL: it is not walked over
cdef void object_finish_walk(object_t *self) noexcept nogil                       # of one that is
cdef bint object_is_worth_prefetching(const object_t *self) noexcept nogil          # of a container
# Of such a one: pass 0, 1, ... of a run, each of which uses what the one before has begun to fetch. False: that was
# the member's last one. *probe is kept from pass to pass.
cdef bint object_prefetch_member(const object_t *self, uint64_t hash, int number, void **probe) noexcept nogil
cdef object_type_t object_type(const object_t *self) noexcept nogil
cdef const char *object_encoding_name(const object_t *self) noexcept nogil    # "int" "embstr" "raw" ...
cdef const char *type_name(object_type_t type) noexcept nogil                 # "string" "list" ...
cdef size_t object_heap_bytes(const object_t *self) noexcept nogil            # real bytes beyond the 16


cdef inline uint8_t object_tag(const object_t *self) noexcept nogil:
    return <uint8_t>(self.hi >> 56)


cdef inline bint object_is_string(const object_t *self) noexcept nogil:
    return (object_tag(self) & OBJECT_TAG_MASK) != OBJECT_TYPED


cdef inline bint object_is_sticky(const object_t *key) noexcept nogil:
    return key.hi >> 63


cdef inline void object_set_sticky(object_t *key) noexcept nogil:
    key.hi |= <uint64_t>OBJECT_STICKY << 56


# Of a short key's image.
cdef inline bint object_equals_image(const object_t *stored, const object_t *image) noexcept nogil:
    return ((stored.lo ^ image.lo) | ((stored.hi ^ image.hi) << 1)) == 0


cdef inline void *object_pointer(const object_t *self) noexcept nogil:
    return <void *>self.lo


# Containers. A new one is empty (its root is NULL); functions of its type change it through the root.
# At import, by the type's module; ops live for ever.
cdef void object_register_container(object_type_t type, const container_ops_t *ops) noexcept nogil


cdef inline void object_set_container(object_t *out, object_type_t type, void *root) noexcept nogil:
    out.lo = <uint64_t>root
    out.hi = (<uint64_t>type << 32) | (<uint64_t>OBJECT_TYPED << 56)


cdef inline bint object_is_container(const object_t *self, object_type_t type) noexcept nogil:
    return object_tag(self) == OBJECT_TYPED and <uint8_t>(self.hi >> 32) == <uint8_t>type


cdef inline void **object_root(object_t *self) noexcept nogil:
    return <void **>&self.lo


# The encoding says what the root points to; its values are the type's own, 0 in a new container.
cdef inline uint32_t object_encoding(const object_t *self) noexcept nogil:
    return <uint32_t>(self.hi >> 40) & 0xFF


cdef inline void object_set_encoding(object_t *self, uint32_t encoding) noexcept nogil:
    self.hi = (self.hi & ~(<uint64_t>0xFF << 40)) | (<uint64_t>encoding << 40)
