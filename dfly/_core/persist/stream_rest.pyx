"""What a snapshot keeps of a stream's groups: see stream_rest.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.persist.rdb_io cimport rdb_length_bytes, rdb_put, rdb_writer_deinit, rdb_writer_init, rdb_writer_t
from dfly._core.store.id_index cimport stream_id, stream_id_t
from dfly._core.store.pending_walk cimport pending_walk_end, pending_walk_step, pending_walk_t, walked_pending_t
from dfly._core.store.stream_groups cimport group_walk_begin, stream_group_t
from dfly._core.sys.alloc cimport net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, byte_swap64, store64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    PACKED_MAX = 20              # bytes: two numbers of ten


# ---- Numbers -----------------------------------------------------------------------------------

cdef inline uint8_t *put_number(uint8_t *p, uint64_t number) noexcept nogil:
    while number >= 0x80:
        p[0] = <uint8_t>(number | 0x80)
        p += 1
        number >>= 7
    p[0] = <uint8_t>number
    return p + 1


cdef inline const uint8_t *get_number(const uint8_t *p, uint64_t *out) noexcept nogil:
    cdef uint64_t number = 0
    cdef int shift = 0
    while p[0] & 0x80:
        number |= <uint64_t>(p[0] & 0x7F) << shift
        shift += 7
        p += 1
    out[0] = number | <uint64_t>p[0] << shift
    return p + 1


cdef size_t pending_to_bytes(stream_id_t id, bint with_delivery, int64_t delivered_ms, uint64_t deliveries,
                             uint8_t *out) noexcept nogil:
    store64(out, byte_swap64(id.ms))
    store64(out + 8, byte_swap64(id.seq))
    if not with_delivery:
        return 16
    memcpy(out + 16, &delivered_ms, sizeof(int64_t))
    return 24 + rdb_length_bytes(deliveries, out + 24)


# ---- Keeping -----------------------------------------------------------------------------------

cdef void stream_rest_init(stream_rest_t *self, uint32_t version, uint32_t groups) noexcept nogil:
    memset(self, 0, sizeof(stream_rest_t))
    rdb_writer_init(&self.texts, version, False, NULL, NULL, 0)
    if groups > 0:
        self.walks = <pending_walk_t *>net_zalloc(groups * sizeof(pending_walk_t))


cdef void keep_list(stream_rest_t *self, uint64_t count, uint32_t consumer) noexcept nogil:
    cdef kept_list_t *kept
    if self.list_count == self.list_capacity:
        self.list_capacity += self.list_capacity // 2 + 4
        self.lists = <kept_list_t *>net_realloc(self.lists, self.list_capacity * sizeof(kept_list_t))
    kept = &self.lists[self.list_count]
    self.list_count += 1
    kept.text_end = self.texts.size
    kept.count = count
    kept.consumer = consumer


cdef void stream_rest_keep_group(stream_rest_t *self, stream_group_t *group, const void *owner) noexcept nogil:
    cdef pending_walk_t *walk = &self.walks[self.walk_count]
    self.walk_count += 1
    group_walk_begin(group, walk, owner)
    keep_list(self, walk.left, 0)


cdef void stream_rest_keep_consumer(stream_rest_t *self, uint64_t count) noexcept nogil:
    keep_list(self, count, self.lists[self.list_count - 1].consumer + 1)


cdef void drop_packed(stream_rest_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.consumer_count):
        net_free(self.packed[i].bytes)
    net_free(self.packed)
    self.packed = NULL
    self.consumer_count = 0


cdef void stream_rest_free(stream_rest_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.walk_count):
        pending_walk_end(&self.walks[i])
    drop_packed(self)
    rdb_writer_deinit(&self.texts)
    net_free(self.walks)
    net_free(self.lists)
    self.walks = NULL
    self.walk_count = 0
    self.lists = NULL


# ---- IDs of consumers --------------------------------------------------------------------------

cdef void make_packed(stream_rest_t *self) noexcept nogil:
    """For the consumers of the group whose own list comes now."""
    cdef uint32_t last = self.list
    while last + 1 < self.list_count and self.lists[last + 1].consumer != 0:
        last += 1
    self.consumer_count = self.lists[last].consumer
    if self.consumer_count > 0:
        self.packed = <packed_ids_t *>net_zalloc(self.consumer_count * sizeof(packed_ids_t))


cdef void pack_id(packed_ids_t *self, stream_id_t id) noexcept nogil:
    cdef uint64_t ms = id.ms - self.last.ms
    cdef uint8_t *p
    if self.capacity - self.size < PACKED_MAX:
        self.capacity = self.capacity * 2 + 2 * PACKED_MAX
        self.bytes = <uint8_t *>net_realloc(self.bytes, self.capacity)
    p = put_number(self.bytes + self.size, ms)
    p = put_number(p, id.seq - self.last.seq if ms == 0 else id.seq)
    self.last = id
    self.size = <size_t>(p - self.bytes)


cdef stream_id_t unpack_id(stream_rest_t *self, const packed_ids_t *packed) noexcept nogil:
    cdef const uint8_t *p = packed.bytes + self.unpacked
    cdef uint64_t number
    p = get_number(p, &number)
    self.id.ms += number
    if number != 0:
        self.id.seq = 0
    p = get_number(p, &number)
    self.id.seq += number
    self.unpacked = <size_t>(p - packed.bytes)
    return self.id


# ---- Writing -----------------------------------------------------------------------------------

cdef size_t put_group_entries(stream_rest_t *self, rdb_writer_t *out) noexcept nogil:
    """Some; returns how many bytes."""
    cdef walked_pending_t entries[PENDING_AT_ONCE]
    cdef uint8_t piece[PENDING_AT_ONCE * PENDING_BYTES_MAX]
    cdef uint8_t *end = piece
    cdef uint32_t count = pending_walk_step(&self.walks[self.walk], entries, PENDING_AT_ONCE)
    cdef uint32_t i
    for i in range(count):
        end += pending_to_bytes(entries[i].id, True, entries[i].delivered_ms, entries[i].deliveries, end)
        pack_id(&self.packed[entries[i].consumer - 1], entries[i].id)
    self.entries += count
    rdb_put(out, piece, end - piece)
    return <size_t>(end - piece)


cdef size_t put_consumer_entries(stream_rest_t *self, const kept_list_t *kept, rdb_writer_t *out) noexcept nogil:
    cdef uint8_t piece[PENDING_AT_ONCE * PENDING_BYTES_MAX]
    cdef uint8_t *end = piece
    cdef uint64_t count = min(kept.count - self.entries, <uint64_t>PENDING_AT_ONCE)
    self.entries += count
    while count > 0:
        count -= 1
        end += pending_to_bytes(unpack_id(self, &self.packed[kept.consumer - 1]), False, 0, 0, end)
    rdb_put(out, piece, end - piece)
    return <size_t>(end - piece)


cdef void go_to_next_list(stream_rest_t *self) noexcept nogil:
    self.list += 1
    self.entries = 0
    self.unpacked = 0
    self.id = stream_id(0, 0)
    if self.list < self.list_count and self.lists[self.list].consumer == 0:
        self.walk += 1
        drop_packed(self)


cdef size_t put_text(stream_rest_t *self, rdb_writer_t *out, size_t end) noexcept nogil:
    cdef size_t size = end - self.text_written
    rdb_put(out, self.texts.data + self.text_written, size)
    self.text_written = end
    return size


cdef bint stream_rest_put(stream_rest_t *self, rdb_writer_t *out, size_t budget) noexcept nogil:
    cdef const kept_list_t *kept
    cdef size_t written = 0
    while self.list < self.list_count:
        if written >= budget:
            return False
        kept = &self.lists[self.list]
        written += put_text(self, out, kept.text_end)
        if self.entries == kept.count:
            go_to_next_list(self)
        elif kept.consumer == 0:
            if self.packed == NULL:
                make_packed(self)
            written += put_group_entries(self, out)
        else:
            written += put_consumer_entries(self, kept, out)
    put_text(self, out, self.texts.size)
    return True
