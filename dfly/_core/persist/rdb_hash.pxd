"""Hashes in RDB form, with the deadlines of their fields where there are any."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport rdb_loading_t, rdb_reader_t, rdb_saving_t, rdb_writer_t
from dfly._core.store.object cimport object_t

cdef enum:
    RDB_VERSION_FIELD_DEADLINES = 12     # of readers that know them

cdef int rdb_hash_type(const object_t *value, uint32_t version) noexcept nogil
cdef void rdb_save_hash(const object_t *value, rdb_writer_t *out) noexcept nogil
cdef bint rdb_save_hash_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                             size_t budget) noexcept nogil
# Into an empty container; faults are the reader's, the caller frees. Fields that are due at input.now_ms are left out.
cdef bint rdb_load_hash(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil
