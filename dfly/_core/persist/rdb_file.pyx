"""RDB files record by record: see rdb_file.pxd.

Invariant: block.data[0:position] is read; crc covers the file up to block.offset + crc_position, and
crc_position <= position. A record that is not whole in the block is carried over into the next one.
"""

from libc.errno cimport errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset, strerror

from dfly._core.persist.crc64 cimport crc64
from dfly._core.persist.frames cimport (frames_begin_so, frames_close, frames_next, frames_open,
                                        frames_take)
from dfly._core.persist.rdb_io cimport (RDB_MODULE, RDB_MODULE_2, RDB_VERSION_VALKEY, rdb_get_string, rdb_reader_init,
                                        rdb_reader_t, rdb_text_free, rdb_text_t, rdb_version_is_known)
from dfly._core.persist.rdb_scan cimport (module_name, scan_bytes, scan_length, scan_module_fields, scan_string,
                                          scan_t, scan_value)
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_sub, likely, load32, load64

__abi__ = DFLY_ABI_STAMP

cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <sys/stat.h>
    #include <unistd.h>
    static int dfly_open_for_reading(const char *path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        return fd;
    }
    /* -1: not a regular file. */
    static long long dfly_file_size(int fd) {
        struct stat facts;
        if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode))
            return -1;
        return facts.st_size;
    }
    """
    int dfly_open_for_reading(const char *path) noexcept
    long long dfly_file_size(int fd) noexcept
    ssize_t pread(int fd, void *data, size_t size, long long offset) noexcept
    int close(int fd) noexcept

cdef enum:
    BLOCK_BYTES = 262144             # small enough to stay in a core's cache until it is decoded
    HEADER = 9
    FOOTER = 8
    VERSION_CHECKSUM = 5
    OP_SLOT_INFO = 244
    OP_FUNCTION = 245
    OP_FUNCTION_EARLY = 246
    OP_MODULE_AUX = 247
    OP_IDLE = 248
    OP_FREQUENCY = 249
    OP_AUX = 250
    OP_RESIZE = 251
    OP_EXPIRE_MS = 252
    OP_EXPIRE_S = 253
    OP_SELECT = 254
    OP_END = 255
    OP_FIRST = 243
    NAME_ROOM = 16
    UNKNOWN = 0x4000000000000000     # bytes: more frames come

cdef enum step_t:
    STEP_GO_ON = 100                 # nothing to report


# ---- Blocks ------------------------------------------------------------------------------------

cdef void rdb_block_release(rdb_block_t *self) noexcept nogil:
    cdef sem_t *room = self.room
    # atomic_sub gives the new value.
    if atomic_sub(&self.references, 1) == 0:
        net_free(self)
        if room != NULL:
            sem_post(room)


cdef rdb_block_t *new_block(rdb_file_t *self, size_t capacity) noexcept nogil:
    cdef rdb_block_t *block = <rdb_block_t *>net_alloc(sizeof(rdb_block_t) + capacity)
    memset(block, 0, sizeof(rdb_block_t))
    block.references = 1
    block.room = self.room
    block.capacity = capacity
    block.is_unpacked = self.frames != NULL
    return block


cdef inline uint64_t beyond_block(const rdb_file_t *self) noexcept nogil:
    if self.frames == NULL:
        return self.size - (self.block.offset + self.block.size)
    return 0 if self.frames.at_end else UNKNOWN


cdef rdb_block_t *next_block(rdb_file_t *self, size_t wanted) noexcept nogil:
    """Room for so many bytes, and in it what is not read yet of the block before."""
    cdef rdb_block_t *old = self.block
    cdef size_t kept = old.size - self.position
    cdef rdb_block_t *block
    if self.room != NULL:
        sem_wait(self.room)
    block = new_block(self, wanted)
    block.offset = old.offset + self.position
    block.size = kept
    memcpy(block.data, old.data + self.position, kept)
    self.block = block
    self.position = 0
    self.crc_position = 0
    rdb_block_release(old)
    return block


cdef bint unpack_more(rdb_file_t *self) noexcept nogil:
    """A new block with at least one frame more. How much it asks for does not follow from what the file says is to
    come, but from what was there: twice as much."""
    cdef size_t kept = self.block.size - self.position
    cdef size_t wanted = self.block_bytes
    cdef size_t size = frames_next(self.frames)
    cdef rdb_block_t *block
    if size == 0:
        if self.frames.reason != NULL:
            rdb_file_fail(self, self.frames.error_offset, self.frames.reason)
        return self.frames.at_end
    if wanted < 2 * kept:
        wanted = 2 * kept
    if wanted < kept + size:
        wanted = kept + size
    block = next_block(self, wanted)
    while size != 0 and block.size + size <= block.capacity:
        if not frames_take(self.frames, block.data + block.size):
            # Of what came before it, records are read still.
            break
        block.size += size
        size = frames_next(self.frames)
    return True


cdef bint read_more(rdb_file_t *self, uint64_t least) noexcept nogil:
    """A new block, which begins with what is not read yet and has at least so many bytes more."""
    cdef rdb_block_t *old = self.block
    cdef size_t kept = old.size - self.position
    cdef uint64_t left = self.size - (old.offset + old.size)
    cdef size_t wanted = self.block_bytes
    cdef rdb_block_t *block
    cdef ssize_t got
    if self.frames != NULL:
        return unpack_more(self)
    if wanted < 2 * kept:
        wanted = 2 * kept
    if wanted < kept + least:
        wanted = kept + least
    if wanted - kept > left:
        wanted = kept + left
    self.crc = crc64(self.crc, old.data + self.crc_position, self.position - self.crc_position)
    block = next_block(self, wanted)
    while block.size < block.capacity:
        got = pread(self.fd, block.data + block.size, block.capacity - block.size,
                    <long long>(block.offset + block.size))
        if got < 0:
            rdb_file_fail(self, block.offset + block.size, strerror(errno))
            return False
        if got == 0:
            rdb_file_fail(self, block.offset + block.size, "unexpected end of the file, which has become shorter")
            return False
        block.size += <size_t>got
    return True


# ---- Opening -----------------------------------------------------------------------------------

cdef void rdb_file_fail(rdb_file_t *self, uint64_t offset, const char *reason) noexcept nogil:
    cdef bint is_inside = self.frames != NULL and reason != self.frames.reason
    if self.reason[0] == 0:
        snprintf(self.reason, RDB_REASON_MAX, "%s%s", reason, rdb_offset_note(is_inside))
        self.error_offset = offset


cdef const char *rdb_offset_note(bint is_unpacked) noexcept nogil:
    if is_unpacked:
        return " (counted in what the blocks hold)"
    return ""


cdef bint fail_number(rdb_file_t *self, uint64_t offset, const char *pattern, uint64_t number) noexcept nogil:
    cdef char text[RDB_REASON_MAX]
    snprintf(text, sizeof(text), pattern, <unsigned long long>number)
    rdb_file_fail(self, offset, text)
    return False


cdef void begin(rdb_file_t *self, bint with_checksum) noexcept nogil:
    memset(self, 0, sizeof(rdb_file_t))
    self.fd = -1
    self.with_checksum = with_checksum
    self.block_bytes = BLOCK_BYTES
    self.deadline_ms = -1
    self.idle_seconds = -1
    self.frequency = -1


cdef bint open_frames(rdb_file_t *self) noexcept nogil:
    """From here on the file is what its blocks hold."""
    self.frames = frames_open(self.fd, self.size, self.block.data if self.fd < 0 else NULL, self.with_checksum)
    rdb_block_release(self.block)
    self.block = new_block(self, 0)
    if self.frames.reason == NULL:
        return True
    rdb_file_fail(self, self.frames.error_offset, self.frames.reason)
    return False


cdef bint read_header(rdb_file_t *self) noexcept nogil:
    cdef const char *text
    cdef size_t magic
    cdef size_t i
    if self.size < HEADER:
        rdb_file_fail(self, 0, "too short for a snapshot")
        return False
    while self.block.size < HEADER:
        if beyond_block(self) == 0:
            rdb_file_fail(self, 0, "too short for a snapshot")
            return False
        if not read_more(self, HEADER):
            return False
    text = self.block.data
    if self.frames == NULL and frames_begin_so(text, self.block.size):
        return open_frames(self) and read_header(self)
    if memcmp(text, "REDIS", 5) == 0:
        magic = 5
    elif memcmp(text, "VALKEY", 6) == 0:
        magic = 6
    else:
        rdb_file_fail(self, 0, "not a snapshot: it begins with neither REDIS nor VALKEY")
        return False
    for i in range(magic, HEADER):
        if text[i] < c'0' or text[i] > c'9':
            rdb_file_fail(self, i, "the version is not a number")
            return False
        self.version = self.version * 10 + <uint32_t>(text[i] - c'0')
    if not rdb_version_is_known(self.version):
        return fail_number(self, magic, "version %llu is not understood", self.version)
    self.is_valkey = self.version == RDB_VERSION_VALKEY
    self.position = HEADER
    return True


cdef bint rdb_file_open(rdb_file_t *self, const char *path, bint with_checksum) noexcept nogil:
    cdef long long size
    begin(self, with_checksum)
    self.fd = dfly_open_for_reading(path)
    if self.fd < 0:
        rdb_file_fail(self, 0, strerror(errno))
        return False
    size = dfly_file_size(self.fd)
    if size < 0:
        rdb_file_fail(self, 0, "not a regular file")
        return False
    self.size = <uint64_t>size
    self.block = new_block(self, 0)
    self.block.room = NULL
    return read_header(self)


cdef bint rdb_file_open_bytes(rdb_file_t *self, const char *data, size_t size, bint with_checksum) noexcept nogil:
    begin(self, with_checksum)
    self.size = size
    self.block = new_block(self, size)
    self.block.size = size
    if size > 0:
        memcpy(self.block.data, data, size)
    return read_header(self)


cdef void rdb_file_close(rdb_file_t *self) noexcept nogil:
    rdb_text_free(&self.first)
    rdb_text_free(&self.second)
    memset(&self.first, 0, sizeof(rdb_text_t))
    memset(&self.second, 0, sizeof(rdb_text_t))
    if self.block != NULL:
        rdb_block_release(self.block)
        self.block = NULL
    frames_close(self.frames)
    self.frames = NULL
    if self.fd >= 0:
        close(self.fd)
        self.fd = -1


# ---- Items -------------------------------------------------------------------------------------

cdef bint take_text(rdb_file_t *self, scan_t *scan, rdb_text_t *out) noexcept nogil:
    """The string at scan.p, unpacked."""
    cdef const uint8_t *begin_ = scan.p
    cdef rdb_reader_t reader
    if not scan_string(scan):
        return False
    rdb_reader_init(&reader, <const char *>begin_, <size_t>(scan.p - begin_), self.version)
    rdb_text_free(out)
    memset(out, 0, sizeof(rdb_text_t))
    if rdb_get_string(&reader, out):
        return True
    memset(out, 0, sizeof(rdb_text_t))
    scan.error = reader.error
    return False


cdef void set_module_name(rdb_file_t *self, uint64_t id) noexcept nogil:
    rdb_text_free(&self.first)
    memset(&self.first, 0, sizeof(rdb_text_t))
    module_name(id, self.first.scratch)
    self.first.data = self.first.scratch
    self.first.size = 9


cdef int read_key(rdb_file_t *self, scan_t *scan, int type, rdb_record_t *out) noexcept nogil:
    """Key and value after the type byte."""
    cdef const char *data = self.block.data
    cdef const uint8_t *start = scan.p
    cdef scan_t id_scan
    cdef uint64_t id = 0
    out.type = type
    out.offset = self.block.offset + self.position
    if not take_text(self, scan, &self.first):
        return RDB_NEXT_ERROR
    out.key = self.first.data
    out.key_size = self.first.size
    out.key_is_packed = not (<const char *>start <= out.key < data + self.block.size)
    out.value = <const char *>scan.p
    out.database = self.database
    out.deadline_ms = self.deadline_ms
    out.idle_seconds = self.idle_seconds
    out.frequency = self.frequency
    id_scan = scan[0]
    if type == RDB_MODULE:
        scan_length(scan, &id)
        if scan.missing == 0 and scan.error == NULL:
            scan.error = "a module's value in a form that only the module can read"
        return RDB_NEXT_ERROR
    if not scan_value(scan, type, self.is_valkey):
        return RDB_NEXT_ERROR
    out.value_size = <size_t>(<const char *>scan.p - out.value)
    self.deadline_ms = -1
    self.idle_seconds = -1
    self.frequency = -1
    if type != RDB_MODULE_2:
        return RDB_NEXT_RECORD
    # The key's text makes way for the module's name.
    rdb_text_free(&self.second)
    self.second = self.first
    if self.first.data == self.first.scratch:
        self.second.data = self.second.scratch
    out.key = self.second.data
    memset(&self.first, 0, sizeof(rdb_text_t))
    scan_length(&id_scan, &id)
    set_module_name(self, id)
    return RDB_NEXT_MODULE_VALUE


cdef bint is_checksum_right(rdb_file_t *self, size_t end, uint64_t stored) noexcept nogil:
    if self.frames != NULL:
        # Each of them has been checked.
        self.has_checksum = self.frames.has_checksum
        return True
    self.crc = crc64(self.crc, self.block.data + self.crc_position, end - self.crc_position)
    self.crc_position = end
    self.has_checksum = stored != 0
    return not self.has_checksum or not self.with_checksum or stored == self.crc


cdef int read_end(rdb_file_t *self, scan_t *scan) noexcept nogil:
    """The end mark and the checksum. A checksum of 0 means that there is none."""
    cdef size_t end = <size_t>(place_of(self, scan) - self.block.offset)
    if self.version >= VERSION_CHECKSUM:
        if not scan_bytes(scan, FOOTER):
            return RDB_NEXT_ERROR
        if not is_checksum_right(self, end, load64(scan.p - FOOTER)):
            self.position = end
            scan.error = "the checksum is wrong: some bytes of the file have changed"
            return RDB_NEXT_ERROR
    if self.frames != NULL and scan.p == scan.end and scan.beyond != 0:
        # What comes next should be the frames' end mark.
        scan.missing = 1
        return RDB_NEXT_ERROR
    if scan.p != scan.end or scan.beyond != 0:
        scan.error = "bytes behind the end of the snapshot"
        return RDB_NEXT_ERROR
    return RDB_NEXT_END


cdef int read_expiry(rdb_file_t *self, scan_t *scan, int op) noexcept nogil:
    cdef uint32_t size = 8 if op == OP_EXPIRE_MS else 4
    cdef int64_t value
    if not scan_bytes(scan, size):
        return RDB_NEXT_ERROR
    value = <int64_t>load64(scan.p - 8) if size == 8 else <int64_t><int32_t>load32(scan.p - 4) * 1000
    # Before the epoch is long ago.
    self.deadline_ms = value if value >= 0 else 0
    return STEP_GO_ON


cdef int read_operation(rdb_file_t *self, scan_t *scan, int op) noexcept nogil:
    cdef uint64_t number = 0
    if op == OP_EXPIRE_MS or op == OP_EXPIRE_S:
        return read_expiry(self, scan, op)
    if op == OP_FREQUENCY:
        if not scan_bytes(scan, 1):
            return RDB_NEXT_ERROR
        self.frequency = (scan.p - 1)[0]
        return STEP_GO_ON
    if op == OP_IDLE:
        if not scan_length(scan, &number):
            return RDB_NEXT_ERROR
        self.idle_seconds = <int64_t>(number >> 1 if number >> 63 else number)
        return STEP_GO_ON
    if op == OP_SELECT:
        if not scan_length(scan, &number):
            return RDB_NEXT_ERROR
        if number > 0x7FFFFFFF:
            scan.error = "no database has such a number"
            return RDB_NEXT_ERROR
        self.database = <uint32_t>number
        return STEP_GO_ON
    if op == OP_RESIZE:
        if scan_length(scan, &self.numbers[0]) and scan_length(scan, &self.numbers[1]):
            return RDB_NEXT_SIZES
        return RDB_NEXT_ERROR
    if op == OP_SLOT_INFO:
        if scan_length(scan, &number) and scan_length(scan, &number) and scan_length(scan, &number):
            return STEP_GO_ON
        return RDB_NEXT_ERROR
    if op == OP_AUX:
        return RDB_NEXT_AUX if (take_text(self, scan, &self.first)
                                and take_text(self, scan, &self.second)) else RDB_NEXT_ERROR
    if op == OP_FUNCTION:
        return RDB_NEXT_FUNCTION if take_text(self, scan, &self.second) else RDB_NEXT_ERROR
    if op == OP_MODULE_AUX:
        if not scan_length(scan, &number) or not scan_module_fields(scan):
            return RDB_NEXT_ERROR
        set_module_name(self, number)
        return RDB_NEXT_MODULE_AUX
    if op == OP_FUNCTION_EARLY:
        scan.error = "a function in the form of a release candidate of Redis 7.0"
    else:
        scan.error = "unknown operation"
    return RDB_NEXT_ERROR


cdef uint64_t place_of(const rdb_file_t *self, const scan_t *scan) noexcept nogil:
    cdef const char *data = self.block.data
    return self.block.offset + <uint64_t>(<const char *>scan.p - data)


cdef rdb_next_t rdb_file_next(rdb_file_t *self, rdb_record_t *out) noexcept nogil:
    cdef const char *item
    cdef scan_t scan
    cdef int result
    cdef int op
    while self.reason[0] == 0:
        scan.p = <const uint8_t *>self.block.data + self.position
        scan.end = <const uint8_t *>self.block.data + self.block.size
        scan.beyond = beyond_block(self)
        scan.missing = 0
        scan.error = NULL
        result = RDB_NEXT_ERROR
        if likely(scan_bytes(&scan, 1)):
            op = (scan.p - 1)[0]
            if likely(op < OP_FIRST):
                result = read_key(self, &scan, op, out)
            elif op == OP_END:
                result = read_end(self, &scan)
            else:
                result = read_operation(self, &scan, op)
        if likely(result != RDB_NEXT_ERROR):
            item = self.block.data + self.position
            self.position = <size_t>(place_of(self, &scan) - self.block.offset)
            if result != STEP_GO_ON:
                if result != RDB_NEXT_RECORD and result != RDB_NEXT_MODULE_VALUE:
                    out.value = item
                    out.value_size = <size_t>(self.block.data + self.position - item)
                return <rdb_next_t>result
        elif scan.missing != 0 and scan.error == NULL:
            if not read_more(self, scan.missing):
                break
        else:
            if scan.error == NULL:
                scan.error = "unexpected end of the file"
            rdb_file_fail(self, place_of(self, &scan), scan.error)
    return RDB_NEXT_ERROR
