"""What a snapshot keeps of a stream beside its blocks: all of one moment, until it is written.

Of a group a million entries may be pending, and any of them may change before the file has room for it. So they are
copied when the walk over the stream begins, in one go: packed to a few bytes each, since it is new memory that takes
the time. They are unpacked when they are written, some at a time. An entry is (LEB128 numbers, differences to the one
before):

    ms | seq, a difference if ms is 0 | with_delivery: delivered ms, zigzag | deliveries

    stream_rest_init(&self, version)
    texts into self.texts, stream_rest_keep(&self, entries, ...) where a list comes between them ...
    while not stream_rest_put(&self, out, bytes): ...
    stream_rest_free(&self)

Ownership: it owns its buffers (net_alloc), from stream_rest_init to stream_rest_free.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.persist.rdb_io cimport rdb_writer_t
from dfly._core.store.id_index cimport id_index_t, stream_id_t

cdef struct kept_list_t:
    size_t text_end              # of the texts before it
    uint64_t count
    bint with_delivery

cdef struct stream_rest_t:
    rdb_writer_t texts
    rdb_writer_t packed
    kept_list_t *lists
    uint32_t list_count
    uint32_t list_capacity
    # Writing: so far.
    size_t text_written
    size_t unpacked              # bytes
    uint32_t list                # the next one, or the one it is in
    uint64_t entries             # of that
    stream_id_t id               # the entry before
    int64_t delivered_ms

cdef void stream_rest_init(stream_rest_t *self, uint32_t version) noexcept nogil
cdef void stream_rest_keep(stream_rest_t *self, const id_index_t *entries, bint with_delivery) noexcept nogil
# Writes about so many bytes; True: all of it is written.
cdef bint stream_rest_put(stream_rest_t *self, rdb_writer_t *out, size_t budget) noexcept nogil
cdef void stream_rest_free(stream_rest_t *self) noexcept nogil

# An entry as the file has it: at most PENDING_BYTES_MAX bytes; returns how many.
cdef enum:
    PENDING_BYTES_MAX = 33
    PENDING_AT_ONCE = 64

cdef size_t pending_to_bytes(stream_id_t id, bint with_delivery, int64_t delivered_ms, uint64_t deliveries,
                             uint8_t *out) noexcept nogil
