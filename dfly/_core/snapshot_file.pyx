"""Snapshot files for Python: what a file begins with, what all of it holds (check), and copies in other layouts.

Nothing here belongs to a running server. Work is done in pieces, so that the caller can show how far it is.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memmove, memset

from dfly._core.engine.settings cimport settings_init_encoding_limits, settings_t
from dfly._core.engine.shard cimport shard_of
from dfly._core.persist.crc64 cimport crc64
from dfly._core.persist.frames cimport (FRAME_BYTES, FRAME_OVERHEAD, FRAMES_HEADER, FRAMES_TAIL_MAX, frame_put,
                                        frame_writer_t, frames_begin, frames_end)
from dfly._core.persist.rdb_file cimport (RDB_NEXT_AUX, RDB_NEXT_END, RDB_NEXT_ERROR, RDB_NEXT_FUNCTION,
                                          RDB_NEXT_MODULE_AUX, RDB_NEXT_MODULE_VALUE, RDB_NEXT_RECORD, RDB_NEXT_SIZES,
                                          rdb_file_close, rdb_file_done, rdb_file_fail, rdb_file_next,
                                          rdb_file_offset, rdb_file_open, rdb_file_t, rdb_next_t, rdb_record_t)
from dfly._core.persist.rdb_io cimport (RDB_STRING, rdb_flush, rdb_get_string, rdb_left, rdb_put, rdb_put_byte,
                                        rdb_put_length, rdb_put_ms, rdb_put_string, rdb_reader_init, rdb_reader_t,
                                        rdb_text_free, rdb_text_t, rdb_writer_deinit, rdb_writer_init, rdb_writer_t)
from dfly._core.persist.rdb_value cimport RDB_EMPTY, RDB_LOADED, rdb_load_value, rdb_result_t
from dfly._core.store.object cimport key_init, key_t, object_free, object_t
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP
from dfly._core.sys.clock cimport wall_ms

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void *data, size_t size) noexcept

cdef enum:
    PIECE = 20000                    # records between two looks at Python
    BIGGEST = 10
    NAME_MAX = 128
    TYPES = 97                       # the largest is ours: RDB_SET_DEADLINES
    WRITE_BYTES = 1048576
    OP_IDLE = 248
    OP_FREQUENCY = 249
    OP_EXPIRE_MS = 252
    OP_SELECT = 254
    OP_END = 255
    OTHER_ENCODING = 0xC0            # of a string: a number, or compressed

# By RDB's type byte: what it is to Redis' users, and the form it is written in.
FORMS = {
    0: ("string", "string"), 1: ("list", "linked list"), 2: ("set", "hash table"), 3: ("zset", "text scores"),
    4: ("hash", "hash table"), 5: ("zset", "skip list"), 6: ("module", "module 1"), 7: ("module", "module 2"),
    9: ("hash", "zipmap"), 10: ("list", "ziplist"), 11: ("set", "intset"), 12: ("zset", "ziplist"),
    13: ("hash", "ziplist"), 14: ("list", "quicklist"), 15: ("stream", "stream 1"), 16: ("hash", "listpack"),
    17: ("zset", "listpack"), 18: ("list", "quicklist 2"), 19: ("stream", "stream 2"), 20: ("set", "listpack"),
    21: ("stream", "stream 3"), 22: ("hash", "hash table with TTLs"), 23: ("hash", "listpack with TTLs"),
    24: ("hash", "hash table with TTLs"), 25: ("hash", "listpack with TTLs"),
    96: ("set", "hash table with TTLs"),
}

cdef struct big_t:
    uint64_t size
    uint32_t database
    int type
    uint32_t name_size
    char name[128]

cdef struct tally_t:
    # Of the current database.
    uint64_t keys[97]                # TYPES
    uint64_t bytes[97]
    uint64_t with_deadline
    uint64_t due
    # Of the file.
    uint64_t empty
    int big_count
    big_t big[10]                    # largest first


cdef class SnapshotFile:
    """Reads one RDB file to its end and tells what is in it. ValueError says what is wrong, and where."""

    cdef rdb_file_t *file
    cdef tally_t *tally
    cdef settings_t settings
    cdef bint decode
    cdef int64_t now_ms
    cdef uint32_t database
    cdef readonly object path
    cdef readonly list aux
    cdef readonly dict databases     # number: {form: (keys, bytes)}, and "expires", "expired"
    cdef readonly dict modules       # name: values
    cdef readonly list functions
    cdef readonly bint is_complete

    def __cinit__(self, path, bint checksum=True, bint decode=True):
        cdef bytes encoded = os.fsencode(path)
        self.path = path
        self.file = <rdb_file_t *>net_zalloc(sizeof(rdb_file_t))
        self.tally = <tally_t *>net_zalloc(sizeof(tally_t))
        self.decode = decode
        self.aux = []
        self.databases = {}
        self.modules = {}
        self.functions = []
        self.now_ms = wall_ms()
        memset(&self.settings, 0, sizeof(self.settings))
        settings_init_encoding_limits(&self.settings)
        if not rdb_file_open(self.file, encoded, checksum):
            self.fail()

    def __dealloc__(self):
        rdb_file_close(self.file)
        net_free(self.file)
        net_free(self.tally)

    cdef fail(self):
        raise ValueError(f"at byte {self.file.error_offset}: {self.file.reason.decode('utf-8', 'replace')}")

    @property
    def size(self):
        return self.file.size

    @property
    def position(self):
        """Bytes of the file that are read."""
        return rdb_file_done(self.file)

    @property
    def unpacked(self):
        """Of a file in compressed blocks: how much of what they hold is read. None: it is not one."""
        return rdb_file_offset(self.file) if self.file.frames != NULL else None

    @property
    def version(self):
        return self.file.version

    @property
    def has_checksum(self):
        """Known at the end."""
        return bool(self.file.has_checksum)

    @property
    def empty(self):
        return self.tally.empty

    def biggest(self):
        """[(bytes, type, database, name)], largest first."""
        return [(self.tally.big[i].size, FORMS[self.tally.big[i].type][0], self.tally.big[i].database,
                 self.tally.big[i].name[:self.tally.big[i].name_size]) for i in range(self.tally.big_count)]

    def step(self):
        """Reads a piece; False at the end of the file."""
        cdef rdb_record_t record
        cdef rdb_next_t kind
        with nogil:
            kind = self.read_records(&record)
        if kind == RDB_NEXT_ERROR:
            self.fail()
        if kind == RDB_NEXT_RECORD or kind == RDB_NEXT_MODULE_VALUE:
            if record.database != self.database:
                self.note_database()
                self.database = record.database
                if kind == RDB_NEXT_RECORD and not self.take(&record):
                    self.fail()
            if kind == RDB_NEXT_MODULE_VALUE:
                count(self.tally, self.now_ms, &record)
                name = self.file.first.data[:self.file.first.size].decode()
                self.modules[name] = self.modules.get(name, 0) + 1
        elif kind == RDB_NEXT_AUX:
            self.aux.append((self.file.first.data[:self.file.first.size],
                             self.file.second.data[:self.file.second.size]))
        elif kind == RDB_NEXT_FUNCTION:
            self.functions.append(self.file.second.data[:self.file.second.size])
        elif kind == RDB_NEXT_END:
            self.note_database()
            self.is_complete = True
        return kind != RDB_NEXT_END

    cdef rdb_next_t read_records(self, rdb_record_t *record) noexcept nogil:
        """Until PIECE records are read, the database changes, or something else comes."""
        cdef rdb_next_t kind = RDB_NEXT_RECORD
        cdef int left = PIECE
        while left > 0:
            kind = rdb_file_next(self.file, record)
            if kind != RDB_NEXT_RECORD:
                break
            if record.database != self.database:
                break            # step() tells them apart
            if not self.take(record):
                return RDB_NEXT_ERROR
            left -= 1
        return kind

    cdef bint take(self, const rdb_record_t *record) noexcept nogil:
        count(self.tally, self.now_ms, record)
        return not self.decode or self.decode_value(record)

    cdef bint decode_value(self, const rdb_record_t *record) noexcept nogil:
        cdef rdb_reader_t reader
        cdef rdb_result_t result
        cdef object_t value
        cdef char text[256]
        rdb_reader_init(&reader, record.value, record.value_size, self.file.version)
        result = rdb_load_value(record.type, &reader, &self.settings, 0, &value)
        if result == RDB_EMPTY:
            self.tally.empty += 1
            return True
        if result == RDB_LOADED:
            object_free(&value)
            if rdb_left(&reader) == 0:
                return True
            reader.error = "bytes behind the value"
            reader.error_position = reader.position
        snprintf(text, sizeof(text), "%s (key '%.*s')", reader.error,
                 <int>(record.key_size if record.key_size < 64 else 64), record.key)
        rdb_file_fail(self.file, self.file.block.offset + reader.error_position
                      + <uint64_t>(record.value - <const char *>self.file.block.data), text)
        return False

    cdef note_database(self):
        """Moves the counters of the current database to `databases`."""
        cdef int i
        cdef bint is_empty = True
        for i in range(TYPES):
            is_empty = is_empty and self.tally.keys[i] == 0
        if is_empty:
            return
        rows = self.databases.setdefault(self.database, {"forms": {}, "expires": 0, "expired": 0})
        for i in range(TYPES):
            if self.tally.keys[i] != 0:
                keys, size = rows["forms"].get(FORMS[i], (0, 0))
                rows["forms"][FORMS[i]] = (keys + self.tally.keys[i], size + self.tally.bytes[i])
                self.tally.keys[i] = self.tally.bytes[i] = 0
        rows["expires"] += self.tally.with_deadline
        rows["expired"] += self.tally.due
        self.tally.with_deadline = self.tally.due = 0


cdef void count(tally_t *self, int64_t now_ms, const rdb_record_t *record) noexcept nogil:
    cdef uint64_t size = record.key_size + record.value_size
    cdef int i
    self.keys[record.type] += 1
    self.bytes[record.type] += size
    if record.deadline_ms >= 0:
        self.with_deadline += 1
        self.due += record.deadline_ms < now_ms
    if self.big_count == BIGGEST and size <= self.big[BIGGEST - 1].size:
        return
    i = self.big_count if self.big_count < BIGGEST else BIGGEST - 1
    while i > 0 and self.big[i - 1].size < size:
        i -= 1
    memmove(&self.big[i + 1], &self.big[i], (BIGGEST - 1 - i) * sizeof(big_t))
    if self.big_count < BIGGEST:
        self.big_count += 1
    self.big[i].size = size
    self.big[i].database = record.database
    self.big[i].type = record.type
    self.big[i].name_size = <uint32_t>(record.key_size if record.key_size < NAME_MAX else NAME_MAX)
    memcpy(self.big[i].name, record.key, self.big[i].name_size)


def read_head(path):
    """The auxiliary fields that the file begins with: [(name, value)]. ValueError says what is wrong."""
    cdef rdb_file_t file
    cdef rdb_record_t record
    cdef bytes encoded = os.fsencode(path)
    fields = []
    try:
        if rdb_file_open(&file, encoded, True):
            while rdb_file_next(&file, &record) == RDB_NEXT_AUX:
                fields.append((file.first.data[:file.first.size], file.second.data[:file.second.size]))
        if file.reason[0] != 0:
            raise ValueError(f"at byte {file.error_offset}: {file.reason.decode('utf-8', 'replace')}")
    finally:
        rdb_file_close(&file)
    return fields


# ---- Copies ------------------------------------------------------------------------------------

cdef struct output_t:
    int fd
    int error                        # errno
    uint64_t crc
    uint32_t database
    bint has_database
    bint in_blocks                   # compressed ones: frames
    frame_writer_t frames
    rdb_writer_t writer


cdef void write_all(output_t *self, const char *data, size_t size) noexcept nogil:
    cdef ssize_t done
    while size > 0 and self.error == 0:
        done = write(self.fd, data, size)
        if done < 0:
            self.error = errno
            return
        data += done
        size -= <size_t>done


cdef void on_full(rdb_writer_t *writer) noexcept nogil:
    cdef output_t *self = <output_t *>writer.context
    if self.in_blocks:
        write_blocks(self, writer.data, writer.size)
    else:
        self.crc = crc64(self.crc, writer.data, writer.size)
        write_all(self, writer.data, writer.size)
    writer.size = 0


cdef void write_blocks(output_t *self, const char *data, size_t size) noexcept nogil:
    cdef char *frame = <char *>net_alloc(FRAME_BYTES + FRAME_OVERHEAD)
    cdef size_t piece
    while size > 0:
        piece = size if size < FRAME_BYTES else FRAME_BYTES
        write_all(self, frame, frame_put(&self.frames, data, piece, frame))
        data += piece
        size -= piece
    net_free(frame)


cdef bint put_plain_string(rdb_writer_t *out, const rdb_record_t *record) noexcept nogil:
    """Compresses a string that is not, since it came from a file in compressed blocks. False: it is none."""
    cdef rdb_reader_t reader
    cdef rdb_text_t text
    if not out.compress or record.type != RDB_STRING or <unsigned char>record.value[0] >= OTHER_ENCODING:
        return False
    rdb_reader_init(&reader, record.value, record.value_size, out.version)
    if not rdb_get_string(&reader, &text):
        return False
    rdb_put_string(out, text.data, text.size)
    rdb_text_free(&text)
    return True


cdef void put_record(output_t *self, const rdb_record_t *record) noexcept nogil:
    cdef rdb_writer_t *out = &self.writer
    if not self.has_database or self.database != record.database:
        self.has_database = True
        self.database = record.database
        rdb_put_byte(out, OP_SELECT)
        rdb_put_length(out, record.database)
    if record.deadline_ms >= 0:
        rdb_put_byte(out, OP_EXPIRE_MS)
        rdb_put_ms(out, record.deadline_ms)
    if record.idle_seconds >= 0:
        rdb_put_byte(out, OP_IDLE)
        rdb_put_length(out, <uint64_t>record.idle_seconds)
    if record.frequency >= 0:
        rdb_put_byte(out, OP_FREQUENCY)
        rdb_put_byte(out, <unsigned char>record.frequency)
    rdb_put_byte(out, <unsigned char>record.type)
    rdb_put_string(out, record.key, record.key_size)
    if not put_plain_string(out, record):
        rdb_put(out, record.value, record.value_size)


cdef class SnapshotWriter:
    """Writes RDB files with what other files hold: one file, or one a shard. `descriptors` stay the caller's.

    in_blocks: as frames (persist/frames). compress: strings that the source has as they are.
    """

    cdef output_t *outputs
    cdef uint32_t count
    cdef uint32_t version
    cdef readonly uint64_t keys

    def __cinit__(self, list descriptors, uint32_t version, list aux, bint in_blocks=False, bint compress=False):
        cdef char header[FRAMES_HEADER]
        cdef uint32_t i
        cdef bytes head
        cdef bytes name
        cdef bytes value
        self.count = len(descriptors)
        self.version = version
        self.outputs = <output_t *>net_zalloc(self.count * sizeof(output_t))
        head = b"REDIS%04d" % version if version != 80 else b"VALKEY080"
        for i in range(self.count):
            self.outputs[i].fd = descriptors[i]
            rdb_writer_init(&self.outputs[i].writer, version, False, on_full, &self.outputs[i], WRITE_BYTES)
            self.outputs[i].in_blocks = in_blocks
            if in_blocks:
                write_all(&self.outputs[i], header, frames_begin(&self.outputs[i].frames, True, header))
            rdb_put(&self.outputs[i].writer, <const char *>head, len(head))
            for name, value in aux:
                rdb_put_byte(&self.outputs[i].writer, 250)
                rdb_put_string(&self.outputs[i].writer, name, len(name))
                rdb_put_string(&self.outputs[i].writer, value, len(value))
            self.outputs[i].writer.compress = compress

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.count):
            rdb_writer_deinit(&self.outputs[i].writer)
        net_free(self.outputs)

    def copy_some(self, SnapshotFile source):
        """Copies a piece of the source, values as they are; False at its end."""
        cdef rdb_next_t kind
        with nogil:
            kind = self.copy_records(source.file)
        if kind == RDB_NEXT_ERROR:
            source.fail()
        return kind != RDB_NEXT_END

    cdef rdb_next_t copy_records(self, rdb_file_t *file) noexcept nogil:
        cdef rdb_record_t record
        cdef rdb_next_t kind = RDB_NEXT_RECORD
        cdef int left = PIECE
        cdef key_t key
        while left > 0:
            kind = rdb_file_next(file, &record)
            if kind == RDB_NEXT_RECORD or kind == RDB_NEXT_MODULE_VALUE:
                key_init(&key, record.key, record.key_size)
                put_record(&self.outputs[shard_of(key.hash, self.count)], &record)
                self.keys += 1
            elif kind == RDB_NEXT_FUNCTION or kind == RDB_NEXT_MODULE_AUX:
                # These are the file's, not a key's: they go to the first one.
                rdb_put(&self.outputs[0].writer, record.value, record.value_size)
            elif kind != RDB_NEXT_AUX and kind != RDB_NEXT_SIZES:
                break
            left -= 1
        return kind

    def finish(self):
        """End mark and checksum. OSError if anything could not be written."""
        cdef char tail[FRAMES_TAIL_MAX]
        cdef uint32_t i
        for i in range(self.count):
            if self.outputs[i].in_blocks:
                rdb_flush(&self.outputs[i].writer)
                write_all(&self.outputs[i], tail, frames_end(&self.outputs[i].frames, tail))
                continue
            rdb_put_byte(&self.outputs[i].writer, OP_END)
            rdb_flush(&self.outputs[i].writer)
            write_all(&self.outputs[i], <const char *>&self.outputs[i].crc, 8)
        for i in range(self.count):
            if self.outputs[i].error != 0:
                raise OSError(self.outputs[i].error, os.strerror(self.outputs[i].error))
