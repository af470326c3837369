"""Frames: an RDB file in compressed blocks, the layout of a shard's file under --compression_mode 3.

    header      "DFLYS" and the version's four digits, flags (bit 0: checksums), six zero bytes
    frame       kind, raw size, stored size (32 bits each), the block, checksum (64 bits); little-endian
    ...
    end mark    a frame of kind 255 with sizes of 0

Kind 0 is a block as it is, 3 one in LZ4's block format; blocks do not refer to others. Behind each other their
contents are an RDB file, with no checksum of its own. A frame's checksum is the CRC-64 of all of the file up to
it but for the checksums: so it also tells that a frame is missing or stands elsewhere, and nothing is unpacked
that has changed.

LZ4 and not zstd: on values of 200 bytes like JSON it takes two thirds of the CPU of zstd at its fastest, a quarter of
it when loading, and what is random costs it little; its files are a third larger.

Foreign bytes: no size is believed beyond FRAME_RAW_MAX, and LZ4's safe decoder stays inside of both buffers.

Ownership: the writer has no memory. A reader owns its buffer and borrows the descriptor.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    FRAME_BYTES = 16384              # raw, as they are written: about 30 us of LZ4, within a slice of the loop
    FRAME_RAW_MAX = 262144           # as they may be read
    FRAME_OVERHEAD = 20
    FRAMES_HEADER = 16
    FRAMES_TAIL_MAX = 64             # what frames_end writes is not longer

cdef struct frame_writer_t:
    uint64_t crc                     # of all that is written
    bint with_checksum
    int acceleration                 # more while blocks do not get smaller

cdef struct frame_reader_t:
    int fd                           # -1: all is in the buffer
    uint64_t size                    # of the file
    uint64_t offset                  # of the next frame
    char *buffer
    size_t capacity
    size_t held                      # bytes in it
    uint64_t buffer_offset           # of its first byte
    uint64_t crc                     # of all before `offset`
    bint has_checksum
    bint with_checksum               # compare it
    bint at_end                      # the end mark was there
    bint is_ready                    # a frame is found and not taken
    uint32_t kind                    # of the frame that frames_next has found
    uint32_t raw
    uint32_t stored
    const char *reason               # NULL: no fault
    uint64_t error_offset

# Each writes to `out`, and returns how much.
cdef size_t frames_begin(frame_writer_t *self, bint with_checksum, char *out) noexcept nogil
# At most FRAME_RAW_MAX bytes; out has room for FRAME_OVERHEAD more than they are.
cdef size_t frame_put(frame_writer_t *self, const char *data, size_t size, char *out) noexcept nogil
# The end of the RDB file, which is its end mark and no checksum, and the frames' own.
cdef size_t frames_end(frame_writer_t *self, char *out) noexcept nogil

cdef bint frames_begin_so(const char *data, size_t size) noexcept nogil      # is that such a file?
# Of a file, or, with data, of bytes, which are copied. `reason` may be set at once. frames_close frees it.
cdef frame_reader_t *frames_open(int fd, uint64_t size, const char *data, bint with_checksum) noexcept nogil
cdef void frames_close(frame_reader_t *self) noexcept nogil
# The raw size of the next frame, whose checksum is right. 0: the end (at_end), or a fault (reason).
cdef size_t frames_next(frame_reader_t *self) noexcept nogil
# Unpacks that frame into so many bytes. False: a fault.
cdef bint frames_take(frame_reader_t *self, char *out) noexcept nogil
