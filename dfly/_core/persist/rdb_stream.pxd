"""Streams in RDB form, with groups, consumers and what is pending."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport rdb_loading_t, rdb_reader_t, rdb_saving_t, rdb_writer_t
from dfly._core.persist.stream_rest cimport stream_rest_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.object cimport object_t

cdef int rdb_stream_type(const object_t *value, uint32_t version) noexcept nogil
cdef void rdb_save_stream(const object_t *value, rdb_writer_t *out) noexcept nogil
cdef bint rdb_save_stream_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                               size_t budget) noexcept nogil
# For those who walk over the blocks: how many there are is written first, the rest comes behind them. It is kept as it
# is now, for a file of that version; owner: the walks' mark.
cdef void rdb_save_stream_pack(stream_id_t master, const uint8_t *pack, rdb_writer_t *out) noexcept nogil
cdef void rdb_keep_stream_rest(const object_t *value, uint32_t version, const void *owner,
                               stream_rest_t *out) noexcept nogil
# Into an empty container; faults are the reader's, the caller frees.
cdef bint rdb_load_stream(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                          rdb_loading_t *loading, uint64_t *budget) noexcept nogil
