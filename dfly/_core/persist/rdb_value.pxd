"""Values in Redis' RDB format: what DUMP, RESTORE and snapshots share.

A value is a type byte (RDB_* of rdb_io.pxd) and a body; in files the key stands between them. Each type has
a module of its own with these functions; this one knows who does what.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport rdb_loading_t, rdb_reader_t, rdb_saving_t, rdb_writer_t
from dfly._core.store.object cimport object_t

cdef enum:
    RDB_DUMP_FOOTER = 10             # bytes

cdef enum rdb_result_t:
    RDB_LOADED = 0
    RDB_BROKEN = 1                   # reader.error says why, and where
    RDB_EMPTY = 2                    # a container without elements, which Redis never writes

cdef bint rdb_value_is_known(const object_t *value) noexcept nogil      # False: this type has no form yet
# The type byte of a value for readers of this version.
cdef int rdb_value_type(const object_t *value, uint32_t version) noexcept nogil
# The version that a reader must have at least, if it is above the wanted one: what no older form can hold.
cdef uint32_t rdb_value_version(const object_t *value, uint32_t version) noexcept nogil
# The body. It may be much longer than the writer's buffer: flush is called in between, and until the function
# returns the value must not change.
cdef void rdb_save_value(const object_t *value, rdb_writer_t *out) noexcept nogil
# `out` becomes the caller's if the result is RDB_LOADED, else there is nothing to free. Fields of hashes that
# are due at now_ms are left out.
cdef rdb_result_t rdb_load_value(int type, rdb_reader_t *input, const settings_t *settings, int64_t now_ms,
                                 object_t *out) noexcept nogil
# The same in steps of at most *budget elements, nodes or entries; True: it is over. Before the first one `loading` is
# zero and input.now_ms is set. `out`, at first an empty string, is a valid value after each and the caller's to free,
# whatever the result.
cdef bint rdb_load_step(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil
cdef rdb_result_t rdb_load_result(const rdb_reader_t *input, const object_t *out) noexcept nogil
# Is it so large that it should be written in steps?
cdef bint rdb_value_is_large(const object_t *value) noexcept nogil
# Writes some more of its body, about `budget` bytes; True: that was all. Large strings are not compressed.
cdef bint rdb_save_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving, size_t budget) noexcept nogil
cdef bint rdb_type_is_known(int type) noexcept nogil

# A DUMP payload: type, body, version (uint16), CRC-64 of all before it. The writer must have no flush.
cdef void rdb_dump(const object_t *value, rdb_writer_t *out) noexcept nogil
# The same in steps: rdb_dump_begin, rdb_save_step until it is all, and the footer behind it.
cdef void rdb_dump_begin(const object_t *value, rdb_writer_t *out) noexcept nogil
cdef void rdb_dump_footer(uint32_t version, uint64_t crc, uint8_t *out) noexcept nogil     # RDB_DUMP_FOOTER bytes
# Is it whole, and of a version that is understood? Then a reader of its type byte and body.
cdef bint rdb_open_dump(const char *data, size_t size, rdb_reader_t *out) noexcept nogil
# The value in it, as rdb_load_value; bytes behind it are a fault.
cdef rdb_result_t rdb_restore(rdb_reader_t *input, const settings_t *settings, int64_t now_ms,
                              object_t *out) noexcept nogil
