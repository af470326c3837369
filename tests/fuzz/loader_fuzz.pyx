"""libFuzzer target for the reader of snapshots and the decoders of values; libFuzzer is preloaded (build.py).

An input is: a block size, then a file. Checked for each:
* what a record points to lies inside its block, and offsets rise;
* the file read at once and in blocks of that size gives the same records and the same end;
* every value is decoded and freed, and nothing stays allocated.
The checksums are not compared: they would stop at nearly every input, and none would reach LZ4's decoder. Blocks are of exactly the size that is read, so
AddressSanitizer sees any read past an end.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from dfly._core.engine.settings cimport settings_init_encoding_limits, settings_t
from dfly._core.persist.rdb_file cimport (RDB_NEXT_END, RDB_NEXT_ERROR, RDB_NEXT_RECORD, rdb_file_close,
                                          rdb_file_next, rdb_file_open, rdb_file_open_bytes, rdb_file_t,
                                          rdb_next_t, rdb_record_t)
from dfly._core.persist.rdb_io cimport rdb_reader_init, rdb_reader_t
from dfly._core.persist.rdb_value cimport RDB_LOADED, rdb_load_value
from dfly._core.store.object cimport object_free, object_t
from dfly._core.sys.alloc cimport ACCOUNT_DATA, ACCOUNT_NET, mem_total
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

__abi__ = DFLY_ABI_STAMP

cdef extern from *:
    """
    #define _GNU_SOURCE
    #include <stdint.h>
    #include <stddef.h>
    #include <stdio.h>
    #include <sys/mman.h>
    #include <unistd.h>
    extern int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*target)(const uint8_t *data, size_t size));
    static int input_fd = -1;
    static char input_path[64];
    /* One file in memory, with another content each time. */
    static const char *input_as_file(const void *data, size_t size)
    {
        if (input_fd < 0) {
            input_fd = memfd_create("input", 0);
            snprintf(input_path, sizeof(input_path), "/proc/self/fd/%d", input_fd);
        }
        if (ftruncate(input_fd, 0) != 0 || pwrite(input_fd, data, size, 0) != (ssize_t)size)
            return NULL;
        return input_path;
    }
    """
    ctypedef int (*target_t)(const uint8_t *data, size_t size) noexcept nogil
    int LLVMFuzzerRunDriver(int *argc, char ***argv, target_t target) noexcept nogil
    const char *input_as_file(const void *data, size_t size) noexcept nogil

cdef settings_t settings


cdef void decode(const rdb_file_t *file, const rdb_record_t *record) noexcept nogil:
    cdef rdb_reader_t reader
    cdef object_t value
    rdb_reader_init(&reader, record.value, record.value_size, file.version)
    if rdb_load_value(record.type, &reader, &settings, 1, &value) == RDB_LOADED:
        object_free(&value)
    elif reader.error != NULL:
        DFLY_CHECK(reader.error_position <= reader.size, "the fault lies in the value")


cdef void check_record(const rdb_file_t *file, const rdb_record_t *record) noexcept nogil:
    cdef const char *begin = file.block.data
    cdef const char *end = begin + file.block.size
    DFLY_CHECK(record.value >= begin and record.value + record.value_size <= end, "a value lies in its block")
    if not record.key_is_packed:
        DFLY_CHECK(record.key >= begin and record.key + record.key_size <= end, "a key lies in its block")


cdef uint64_t mix(uint64_t state, uint64_t value) noexcept nogil:
    return (state ^ value) * <uint64_t>0x1E3779B97F4A7C15 + (state >> 29)


cdef uint64_t mix_text(uint64_t state, const char *data, size_t size) noexcept nogil:
    cdef size_t i
    for i in range(size):
        state = mix(state, <uint8_t>data[i])
    return mix(state, size)


cdef uint64_t read_all(rdb_file_t *file, bint with_values) noexcept nogil:
    """A digest of everything that is in the file."""
    cdef uint64_t digest = file.version
    cdef uint64_t offset = 0
    cdef rdb_next_t kind = RDB_NEXT_RECORD
    cdef rdb_record_t record
    while kind != RDB_NEXT_END:
        kind = rdb_file_next(file, &record)
        digest = mix(digest, kind)
        if kind == RDB_NEXT_ERROR:
            # How much of the file is still to come is known earlier with large blocks, if it is in frames.
            return mix(digest, file.error_offset if file.frames == NULL else 0)
        if kind == RDB_NEXT_RECORD:
            DFLY_CHECK(record.offset > offset, "offsets rise")
            offset = record.offset
            check_record(file, &record)
            digest = mix_text(mix(digest, <uint64_t>record.deadline_ms), record.key, record.key_size)
            digest = mix_text(mix(digest, record.database), record.value, record.value_size)
            if with_values:
                decode(file, &record)
    return digest


cdef int target(const uint8_t *data, size_t size) noexcept nogil:
    cdef int64_t data_before = mem_total(ACCOUNT_DATA)
    cdef int64_t net_before = mem_total(ACCOUNT_NET)
    cdef const char *path
    cdef uint64_t expected = 0
    cdef rdb_file_t file
    if size < 1:
        return 0
    if rdb_file_open_bytes(&file, <const char *>data + 1, size - 1, False):
        expected = read_all(&file, True)
    rdb_file_close(&file)
    path = input_as_file(data + 1, size - 1)
    DFLY_CHECK(path != NULL, "the input is a file")
    if rdb_file_open(&file, path, False):
        file.block_bytes = 1 + <size_t>data[0]
        DFLY_CHECK(read_all(&file, False) == expected, "in blocks it is the same")
    else:
        DFLY_CHECK(expected == 0, "both can be opened, or none")
    rdb_file_close(&file)
    DFLY_CHECK(mem_total(ACCOUNT_DATA) == data_before and mem_total(ACCOUNT_NET) == net_before,
               "nothing stays allocated")
    return 0


def run(list arguments):
    """libFuzzer's main; returns its exit status."""
    cdef char *argv[64]
    cdef char **pointer = argv
    cdef int count = len(arguments)
    cdef bytes argument
    memset(&settings, 0, sizeof(settings))
    settings_init_encoding_limits(&settings)
    for i, argument in enumerate(arguments):
        argv[i] = argument
    argv[count] = NULL
    return LLVMFuzzerRunDriver(&count, &pointer, target)
