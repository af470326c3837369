"""What a snapshot keeps of a stream beside its blocks: all of one moment, until it is written.

Of a group a million entries may be pending, and any of them may change before the file has room for it. So the texts
between the lists of entries are kept, and a walk begins over each group (store/pending_walk). When a group's list is
written, some entries at a time, the IDs of each of its consumers are packed to a few bytes (LEB128 numbers: ms, a
difference to the one before | seq, a difference if that of ms is 0); their lists, which come behind it, are unpacked.

    stream_rest_init(&self, version, groups)
    for each group: texts into self.texts, stream_rest_keep_group(&self, group, owner);
                    for each consumer: texts, stream_rest_keep_consumer(&self, count)
    while not stream_rest_put(&self, out, bytes): ...
    stream_rest_free(&self)

Ownership: it owns its buffers (net_alloc) and its walks, from stream_rest_init to stream_rest_free; it must stay in
place meanwhile.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.persist.rdb_io cimport rdb_writer_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.pending_walk cimport pending_walk_t
from dfly._core.store.stream_groups cimport stream_group_t

cdef struct kept_list_t:
    size_t text_end              # of the texts before it
    uint64_t count
    uint32_t consumer            # its number; 0: the group's own list

cdef struct packed_ids_t:
    uint8_t *bytes               # net_alloc
    size_t size
    size_t capacity
    stream_id_t last

cdef struct stream_rest_t:
    rdb_writer_t texts
    kept_list_t *lists
    uint32_t list_count
    uint32_t list_capacity
    pending_walk_t *walks        # of the groups
    uint32_t walk_count
    # Writing: so far.
    size_t text_written
    uint32_t list                # the next one, or the one it is in
    uint32_t walk                # of its group
    uint64_t entries             # of the list
    size_t unpacked              # bytes of it
    stream_id_t id               # the entry before
    packed_ids_t *packed         # of the group's consumers
    uint32_t consumer_count

cdef void stream_rest_init(stream_rest_t *self, uint32_t version, uint32_t groups) noexcept nogil
cdef void stream_rest_keep_group(stream_rest_t *self, stream_group_t *group, const void *owner) noexcept nogil
cdef void stream_rest_keep_consumer(stream_rest_t *self, uint64_t count) noexcept nogil
# Writes about so many bytes; True: all of it is written.
cdef bint stream_rest_put(stream_rest_t *self, rdb_writer_t *out, size_t budget) noexcept nogil
cdef void stream_rest_free(stream_rest_t *self) noexcept nogil

# An entry as the file has it: at most PENDING_BYTES_MAX bytes; returns how many.
cdef enum:
    PENDING_BYTES_MAX = 33
    PENDING_AT_ONCE = 64

cdef size_t pending_to_bytes(stream_id_t id, bint with_delivery, int64_t delivered_ms, uint64_t deliveries,
                             uint8_t *out) noexcept nogil
