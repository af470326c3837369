"""Reading and writing the primitives of Redis' RDB format: lengths, strings, numbers.

A length is 6, 14, 32 or 64 bits, as the two highest bits of its first byte say; 11 in these bits says that
the
rest is a string in a special encoding (an integer of 1, 2 or 4 bytes, or LZF). Integers are little-endian but
for lengths, which are big-endian. Format: Redis' rdb.h, and rdb.fnordig.com/file_format.html.

The writer has one buffer. With `flush` it hands it over when it is full, also in the middle of a value, so
that a snapshot needs no more memory than that; without, the buffer grows. The reader never reads beyond its
bytes: the first fault (what, and where) stays, and everything read after it is zero or empty.

Ownership: the writer owns its buffers (net_alloc), the reader borrows its bytes. An rdb_text_t borrows from
the reader's bytes or owns what it had to unpack: rdb_text_free ends it in either case.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    RDB_VERSION_MIN = 1
    RDB_VERSION_MAX = 12             # the newest of Redis that is understood
    RDB_VERSION_VALKEY = 80          # Valkey's own since 9.0
    RDB_STRING_MAX = 0x40000000      # bytes; a larger one is refused, as a sign of broken input
    RDB_TEXT_SCRATCH = 24
    RDB_LENGTH_MAX = 9

    # Type bytes.
    RDB_STRING = 0
    RDB_LIST = 1
    RDB_SET = 2
    RDB_ZSET = 3                     # scores as text
    RDB_HASH = 4
    RDB_ZSET_2 = 5                   # scores as doubles
    RDB_MODULE = 6
    RDB_MODULE_2 = 7
    RDB_HASH_ZIPMAP = 9
    RDB_LIST_ZIPLIST = 10
    RDB_SET_INTSET = 11
    RDB_ZSET_ZIPLIST = 12
    RDB_HASH_ZIPLIST = 13
    RDB_LIST_QUICKLIST = 14          # nodes are ziplists
    RDB_STREAM = 15
    RDB_HASH_LISTPACK = 16
    RDB_ZSET_LISTPACK = 17
    RDB_LIST_QUICKLIST_2 = 18        # nodes are listpacks or plain
    RDB_STREAM_2 = 19
    RDB_SET_LISTPACK = 20
    RDB_STREAM_3 = 21
    # Redis 7.4 before its release; in Valkey's version 80: RDB_HASH_TTL_VALKEY
    RDB_HASH_TTL_EARLY = 22
    RDB_HASH_TTL_LISTPACK_EARLY = 23
    RDB_HASH_TTL = 24
    RDB_HASH_TTL_LISTPACK = 25
    # Ours: no other server has members of sets with deadlines in this form.
    RDB_SET_DEADLINES = 96

# Takes writer.data[0:writer.size] and sets size to 0; may put another buffer in its place. May set is_failed.
ctypedef void (*rdb_flush_t)(rdb_writer_t *writer) noexcept nogil

cdef struct rdb_writer_t:
    char *data
    size_t size
    size_t capacity
    rdb_flush_t flush                # NULL: the buffer grows
    void *context                    # flush's own
    uint32_t version                 # what readers understand: an older form is written for an older one
    bint compress                    # strings, by LZF
    bint gives_up                    # tries fewer of them while they do not get smaller
    uint32_t misses                  # that did not, in a row
    uint32_t skip                    # so many are not tried
    bint is_failed                   # what is written after that is dropped
    char *scratch                    # rdb_scratch
    size_t scratch_size
    char *packed                     # the compressor's
    size_t packed_size

cdef struct rdb_reader_t:
    const char *data
    size_t size
    size_t position
    const char *error                # NULL: all is well
    size_t error_position
    uint32_t version                 # of the file or payload
    int64_t now_ms                   # what is due then is left out (rdb_load_value)

cdef struct rdb_text_t:
    const char *data
    size_t size
    char *owned                      # NULL: nothing to free
    char scratch[24]                 # RDB_TEXT_SCRATCH

cdef struct rdb_saving_t:
    # How far a value is written that is written in steps; zero before the first one. It must not change between them.
    bint has_begun
    uint64_t done                    # bytes or elements, as its type wants
    uint64_t[16] place               # its type's cursor

cdef struct rdb_loading_t:
    # How far a value is loaded that is loaded in steps; zero before the first one.
    bint has_begun
    uint64_t left                    # elements, nodes or blocks
    uint64_t[12] place               # its type's own

# flush_bytes: how large the buffer is, if there is a flush.
cdef void rdb_writer_init(rdb_writer_t *self, uint32_t version, bint compress, rdb_flush_t flush,
                          void *context,
                          size_t flush_bytes) noexcept nogil
cdef void rdb_writer_deinit(rdb_writer_t *self) noexcept nogil
cdef void rdb_flush(rdb_writer_t *self) noexcept nogil               # hands over what there is
cdef void rdb_put(rdb_writer_t *self, const void *data, size_t size) noexcept nogil
cdef void rdb_put_byte(rdb_writer_t *self, uint8_t byte) noexcept nogil
cdef void rdb_put_length(rdb_writer_t *self, uint64_t length) noexcept nogil
# What that puts, at most RDB_LENGTH_MAX bytes; returns how many.
cdef int rdb_length_bytes(uint64_t length, uint8_t *out) noexcept nogil
# So many more bytes are to come; for a writer that keeps all it is given.
cdef void rdb_reserve(rdb_writer_t *self, size_t more) noexcept nogil
cdef void rdb_put_string(rdb_writer_t *self, const char *data, size_t size) noexcept nogil
# as the string of its decimal
cdef void rdb_put_integer(rdb_writer_t *self, int64_t value) noexcept nogil
cdef void rdb_put_double(rdb_writer_t *self, double value) noexcept nogil
cdef void rdb_put_ms(rdb_writer_t *self, int64_t ms) noexcept nogil
# Temporary memory of at least so many bytes, kept for the next value; what was in it is kept too.
cdef char *rdb_scratch(rdb_writer_t *self, size_t size) noexcept nogil

cdef void rdb_reader_init(rdb_reader_t *self, const char *data, size_t size, uint32_t version) noexcept nogil
# The first fault counts; returns False for the caller to return.
cdef bint rdb_fail(rdb_reader_t *self, const char *reason) noexcept nogil
cdef const char *rdb_get(rdb_reader_t *self, size_t size) noexcept nogil          # borrowed; NULL: too short
cdef uint8_t rdb_get_byte(rdb_reader_t *self) noexcept nogil
cdef uint64_t rdb_get_length(rdb_reader_t *self) noexcept nogil
# A number of elements that follow, each of at least so many bytes: more than there can be is a fault.
cdef uint64_t rdb_get_count(rdb_reader_t *self, size_t element_bytes) noexcept nogil
cdef bint rdb_get_string(rdb_reader_t *self, rdb_text_t *out) noexcept nogil      # False: nothing to free
cdef bint rdb_skip_string(rdb_reader_t *self) noexcept nogil
cdef double rdb_get_double(rdb_reader_t *self) noexcept nogil
cdef double rdb_get_double_text(rdb_reader_t *self) noexcept nogil                # of RDB_ZSET
cdef int64_t rdb_get_ms(rdb_reader_t *self) noexcept nogil


cdef inline bint rdb_version_is_known(uint32_t version) noexcept nogil:
    return RDB_VERSION_MIN <= version <= RDB_VERSION_MAX or version == RDB_VERSION_VALKEY


cdef inline size_t rdb_left(const rdb_reader_t *self) noexcept nogil:
    return self.size - self.position


cdef void rdb_text_free(rdb_text_t *self) noexcept nogil
