"""Lists in RDB files: written as a quicklist whose nodes are our blocks, read from every form."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.persist.rdb_io cimport rdb_loading_t, rdb_reader_t, rdb_saving_t, rdb_writer_t
from dfly._core.store.block_list cimport block_list_t, list_cursor_t
from dfly._core.store.object cimport object_t

cdef int rdb_list_type(const object_t *value, uint32_t version) noexcept nogil
# What a record of it begins with, and the next part of it: that of the block at whose beginning the cursor is.
cdef uint64_t rdb_list_length(block_list_t elements, uint32_t version) noexcept nogil
cdef void rdb_save_list_block(const list_cursor_t *block, rdb_writer_t *out) noexcept nogil
cdef void rdb_save_list(const object_t *value, rdb_writer_t *out) noexcept nogil
cdef bint rdb_save_list_step(const object_t *value, rdb_writer_t *out, rdb_saving_t *saving,
                             size_t budget) noexcept nogil
# `out` is an empty list object, which gets the elements. True: all of them, or a fault; at most *budget nodes, which it
# takes off. The caller frees. As the loaders of other types.
cdef bint rdb_load_list(int type, rdb_reader_t *input, const settings_t *settings, object_t *out,
                        rdb_loading_t *loading, uint64_t *budget) noexcept nogil
