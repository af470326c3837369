"""Frames of compressed files: see frames.pxd."""

from libc.errno cimport errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset, strerror

from dfly._core.persist.crc64 cimport crc64
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, load32, load64

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    ssize_t pread(int fd, void *data, size_t size, long long offset) noexcept

cdef extern from "lz4.h" nogil:
    int LZ4_compress_fast(const char *data, char *out, int size, int room, int acceleration) noexcept
    int LZ4_decompress_safe(const char *data, char *out, int size, int room) noexcept

cdef enum:
    MAGIC = 5
    VERSION_END = 9
    FLAGS = 9
    WITH_CHECKSUM = 1
    FRAME_HEAD = 12
    CHECKSUM = 8
    KIND_STORED = 0                  # as numbers of compression_mode
    KIND_LZ4 = 3
    KIND_END = 255
    RDB_END = 0xFF
    READ_BYTES = 524288              # holds any frame
    ACCELERATION_MAX = 8             # of LZ4: steps between places that it looks at

cdef const char *HEADER = b"DFLYS0001"


# ---- Writing -----------------------------------------------------------------------------------

cdef size_t frames_begin(frame_writer_t *self, bint with_checksum, char *out) noexcept nogil:
    memset(out, 0, FRAMES_HEADER)
    memcpy(out, HEADER, VERSION_END)
    out[FLAGS] = WITH_CHECKSUM if with_checksum else 0
    self.with_checksum = with_checksum
    self.acceleration = 1
    self.crc = crc64(0, out, FRAMES_HEADER)
    return FRAMES_HEADER


cdef size_t seal(frame_writer_t *self, char *frame, uint32_t kind, size_t raw, size_t stored) noexcept nogil:
    """Head and checksum of a frame whose block is in place."""
    cdef uint32_t head[3]
    cdef size_t size = FRAME_HEAD + stored
    head[0] = kind
    head[1] = <uint32_t>raw
    head[2] = <uint32_t>stored
    memcpy(frame, head, FRAME_HEAD)
    memset(frame + size, 0, CHECKSUM)
    if self.with_checksum:
        self.crc = crc64(self.crc, frame, size)
        memcpy(frame + size, &self.crc, CHECKSUM)
    return size + CHECKSUM


cdef size_t frame_put(frame_writer_t *self, const char *data, size_t size, char *out) noexcept nogil:
    # What does not get smaller by a thirty-second is not worth the unpacking.
    cdef int packed = LZ4_compress_fast(data, out + FRAME_HEAD, <int>size, <int>(size - size // 32), self.acceleration)
    if packed > 0 and <size_t>packed < size:
        self.acceleration = 1
        return seal(self, out, KIND_LZ4, size, <size_t>packed)
    # The next one is looked at less closely: what is random is found to be so at a third of the cost.
    if self.acceleration < ACCELERATION_MAX:
        self.acceleration *= 2
    memcpy(out + FRAME_HEAD, data, size)
    return seal(self, out, KIND_STORED, size, size)


cdef size_t frames_end(frame_writer_t *self, char *out) noexcept nogil:
    cdef char tail[9]
    cdef size_t size
    memset(tail, 0, sizeof(tail))
    tail[0] = <char>RDB_END
    size = frame_put(self, tail, sizeof(tail), out)
    return size + seal(self, out + size, KIND_END, 0, 0)


# ---- Reading -----------------------------------------------------------------------------------

cdef bint frames_begin_so(const char *data, size_t size) noexcept nogil:
    return size >= MAGIC and memcmp(data, HEADER, MAGIC) == 0


cdef frame_reader_t *frames_open(int fd, uint64_t size, const char *data, bint with_checksum) noexcept nogil:
    cdef frame_reader_t *self = <frame_reader_t *>net_zalloc(sizeof(frame_reader_t))
    cdef const char *head
    cdef int i
    self.fd = fd
    self.size = size
    self.with_checksum = with_checksum
    self.capacity = READ_BYTES
    if data != NULL:
        self.capacity = <size_t>size
    self.buffer = <char *>net_alloc(self.capacity)
    if data != NULL:
        memcpy(self.buffer, data, self.capacity)
        self.held = self.capacity
    head = look(self, FRAMES_HEADER)
    if head == NULL:
        return self
    if memcmp(head, HEADER, VERSION_END) != 0:
        fail(self, MAGIC, "this version of frames is not understood")
        return self
    for i in range(FLAGS, FRAMES_HEADER):
        if head[i] != 0 and (i != FLAGS or head[i] != WITH_CHECKSUM):
            fail(self, <uint64_t>i, "an unknown flag")
            return self
    self.has_checksum = head[FLAGS] == WITH_CHECKSUM
    self.crc = crc64(0, head, FRAMES_HEADER)
    self.offset = FRAMES_HEADER
    return self


cdef void frames_close(frame_reader_t *self) noexcept nogil:
    if self != NULL:
        net_free(self.buffer)
        net_free(self)


cdef bint fail(frame_reader_t *self, uint64_t offset, const char *reason) noexcept nogil:
    if self.reason == NULL:
        self.reason = reason
        self.error_offset = offset
    return False


cdef const char *look(frame_reader_t *self, size_t size) noexcept nogil:
    """So many bytes at `offset`, at most READ_BYTES; NULL: a fault."""
    cdef size_t skipped = <size_t>(self.offset - self.buffer_offset)
    cdef ssize_t got
    if size > self.size - self.offset:
        fail(self, self.offset, "unexpected end of the file")
        return NULL
    if likely(size <= self.held - skipped):
        return self.buffer + skipped
    self.held -= skipped
    memmove(self.buffer, self.buffer + skipped, self.held)
    self.buffer_offset = self.offset
    while self.held < size:
        got = pread(self.fd, self.buffer + self.held, self.capacity - self.held,
                    <long long>(self.buffer_offset + self.held))
        if got <= 0:
            if got < 0:
                fail(self, self.buffer_offset + self.held, strerror(errno))
            else:
                fail(self, self.buffer_offset + self.held, "unexpected end of the file, which has become shorter")
            return NULL
        self.held += <size_t>got
    return self.buffer


cdef bint is_possible(const frame_reader_t *self) noexcept nogil:
    """Do kind and sizes go together?"""
    if self.kind == KIND_END:
        return self.raw == 0 and self.stored == 0
    if self.raw == 0 or self.raw > FRAME_RAW_MAX or self.stored == 0:
        return False
    if self.kind == KIND_STORED:
        return self.stored == self.raw
    return self.stored < self.raw


cdef size_t frames_next(frame_reader_t *self) noexcept nogil:
    cdef const char *frame
    cdef uint64_t stored_crc
    cdef size_t size
    if self.at_end or self.reason != NULL:
        return 0
    if self.is_ready:
        return self.raw
    if self.offset == self.size:
        fail(self, self.offset, "unexpected end of the file: there is no end mark")
        return 0
    frame = look(self, FRAME_HEAD)
    if frame == NULL:
        return 0
    self.kind = load32(frame)
    self.raw = load32(frame + 4)
    self.stored = load32(frame + 8)
    if self.kind != KIND_STORED and self.kind != KIND_LZ4 and self.kind != KIND_END:
        fail(self, self.offset, "an unknown kind of frame")
        return 0
    if not is_possible(self):
        fail(self, self.offset, "a frame of an impossible size")
        return 0
    size = FRAME_HEAD + self.stored
    frame = look(self, size + CHECKSUM)
    if frame == NULL:
        return 0
    stored_crc = load64(frame + size)
    if not self.has_checksum:
        if stored_crc != 0:
            fail(self, self.offset, "a checksum in a file that has none")
            return 0
    elif self.with_checksum and crc64(self.crc, frame, size) != stored_crc:
        fail(self, self.offset, "the checksum of a frame is wrong: some bytes of the file have changed")
        return 0
    if self.kind == KIND_END:
        if self.offset + size + CHECKSUM != self.size:
            fail(self, self.offset + size + CHECKSUM, "bytes behind the end mark")
            return 0
        self.at_end = True
        self.offset = self.size
        return 0
    self.is_ready = True
    return self.raw


cdef bint frames_take(frame_reader_t *self, char *out) noexcept nogil:
    cdef const char *block = self.buffer + <size_t>(self.offset - self.buffer_offset) + FRAME_HEAD
    cdef size_t size = self.stored + FRAME_OVERHEAD
    if self.kind == KIND_STORED:
        memcpy(out, block, self.stored)
    elif LZ4_decompress_safe(block, out, <int>self.stored, <int>self.raw) != <int>self.raw:
        return fail(self, self.offset, "a compressed block that is broken")
    self.crc = load64(block + self.stored)
    self.offset += size
    self.is_ready = False
    return True
