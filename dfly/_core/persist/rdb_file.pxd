"""Reading an RDB file record by record, in large blocks, from any thread that may wait for the disk.

rdb_file_next cuts the file into records and says what else is in it. It decodes no values: a record points to
their bytes. Everything is checked that can be without decoding: lengths, the order of things, the checksum. The
first fault ends the file; it is in `reason` and `error_offset`.

A file in compressed blocks (persist/frames) is read as the RDB file inside it. Offsets are those of that file then, but
for faults of frames; `reason` says so.

Ownership: the file holds its current block; who keeps pointers into a block longer than until the next
rdb_file_next takes a reference to it. A block may be released by any thread.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from dfly._core.persist.frames cimport frame_reader_t
from dfly._core.persist.rdb_io cimport rdb_text_t

cdef enum:
    RDB_REASON_MAX = 256

cdef extern from "semaphore.h" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *self, int shared, unsigned int value) noexcept
    int sem_destroy(sem_t *self) noexcept
    int sem_post(sem_t *self) noexcept
    int sem_wait(sem_t *self) noexcept

cdef enum rdb_next_t:
    RDB_NEXT_ERROR = 0
    RDB_NEXT_RECORD = 1
    RDB_NEXT_END = 2                 # all read, checksum right or absent
    RDB_NEXT_AUX = 3                 # text: name and value
    RDB_NEXT_FUNCTION = 4            # second text: the library's code
    RDB_NEXT_MODULE_AUX = 5          # first text: the module's name
    RDB_NEXT_MODULE_VALUE = 6        # a record, whose value only the module can read; first text: its name
    RDB_NEXT_SIZES = 7               # numbers: keys of the database, and those with a deadline

cdef struct rdb_block_t:
    uint64_t references
    sem_t *room                      # posted when the block is freed; NULL: nobody counts
    uint64_t offset                  # of its first byte in the file
    size_t size
    size_t capacity
    bint is_unpacked                 # the offset is that of what frames hold
    char data[1]

cdef struct rdb_record_t:
    const char *key                  # in the block or, if key_is_packed, in the file's memory until the next call
    size_t key_size
    bint key_is_packed
    # In the block. Of what is no record: all its bytes, as they stand in the file.
    const char *value
    size_t value_size
    uint64_t offset                  # of the type byte
    int64_t deadline_ms              # -1: none
    int64_t idle_seconds             # -1: not given
    int32_t frequency                # -1: not given
    int32_t type
    uint32_t database

cdef struct rdb_file_t:
    int fd
    uint64_t size                    # bytes, when it was opened
    rdb_block_t *block
    size_t position                  # in the block: the next record
    uint64_t crc                     # of all before crc_position
    size_t crc_position
    bint with_checksum               # compare it
    bint has_checksum                # known at the end
    sem_t *room                      # waited for before each block but the first
    size_t block_bytes
    frame_reader_t *frames           # NULL: the file is not compressed in blocks
    uint32_t version
    bint is_valkey
    # For the next key.
    uint32_t database
    int64_t deadline_ms
    int64_t idle_seconds
    int32_t frequency
    rdb_text_t first
    rdb_text_t second
    uint64_t numbers[2]
    char reason[256]                 # empty: no fault
    uint64_t error_offset

# Opens and reads the header. False: see reason; rdb_file_close is needed all the same.
cdef bint rdb_file_open(rdb_file_t *self, const char *path, bint with_checksum) noexcept nogil
# The same for bytes, which are copied.
cdef bint rdb_file_open_bytes(rdb_file_t *self, const char *data, size_t size, bint with_checksum) noexcept nogil
cdef void rdb_file_close(rdb_file_t *self) noexcept nogil
cdef rdb_next_t rdb_file_next(rdb_file_t *self, rdb_record_t *out) noexcept nogil
cdef void rdb_file_fail(rdb_file_t *self, uint64_t offset, const char *reason) noexcept nogil    # the first counts
# Goes behind the reason, where the offset is not that of the file's own bytes.
cdef const char *rdb_offset_note(bint is_unpacked) noexcept nogil
cdef void rdb_block_release(rdb_block_t *self) noexcept nogil


cdef inline uint64_t rdb_file_offset(const rdb_file_t *self) noexcept nogil:
    return 0 if self.block == NULL else self.block.offset + self.position


cdef inline uint64_t rdb_file_done(const rdb_file_t *self) noexcept nogil:
    """Bytes of the file that are read."""
    return rdb_file_offset(self) if self.frames == NULL else self.frames.offset
