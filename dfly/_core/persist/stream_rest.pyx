"""What a snapshot keeps of a stream's groups: see stream_rest.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.persist.rdb_io cimport (rdb_length_bytes, rdb_put, rdb_reserve, rdb_writer_deinit, rdb_writer_init,
                                        rdb_writer_t)
from dfly._core.store.id_index cimport id_index_t, id_leaf_t, id_slot_t, id_slots, stream_id, stream_id_t
from dfly._core.store.stream_groups cimport pending_t
from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, byte_swap64, prefetch, store64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    PACKED_MAX = 40              # bytes: four numbers of ten
    FETCHED_AHEAD = 16           # entries of a leaf


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


cdef inline uint64_t zigzag(int64_t number) noexcept nogil:
    return <uint64_t>number << 1 ^ <uint64_t>(number >> 63)


cdef inline int64_t unzigzag(uint64_t number) noexcept nogil:
    return <int64_t>(number >> 1 ^ (0 - (number & 1)))


cdef size_t pending_to_bytes(stream_id_t id, bint with_delivery, int64_t delivered_ms, uint64_t deliveries,
                             uint8_t *out) noexcept nogil:
    store64(out, byte_swap64(id.ms))
    store64(out + 8, byte_swap64(id.seq))
    if not with_delivery:
        return 16
    memcpy(out + 16, &delivered_ms, sizeof(int64_t))
    return 24 + rdb_length_bytes(deliveries, out + 24)


# ---- Keeping -----------------------------------------------------------------------------------

cdef void stream_rest_init(stream_rest_t *self, uint32_t version) noexcept nogil:
    memset(self, 0, sizeof(stream_rest_t))
    rdb_writer_init(&self.texts, version, False, NULL, NULL, 0)
    rdb_writer_init(&self.packed, version, False, NULL, NULL, 0)


cdef void stream_rest_free(stream_rest_t *self) noexcept nogil:
    rdb_writer_deinit(&self.texts)
    rdb_writer_deinit(&self.packed)
    net_free(self.lists)
    self.lists = NULL


cdef void keep_leaf(stream_rest_t *self, const id_leaf_t *leaf, bint with_delivery) noexcept nogil:
    cdef const id_slot_t *slots = id_slots(leaf)
    cdef const pending_t *pending
    cdef uint8_t *begin
    cdef uint8_t *p
    cdef uint64_t ms
    cdef uint32_t i
    rdb_reserve(&self.packed, leaf.count * <size_t>PACKED_MAX)
    begin = <uint8_t *>self.packed.data
    p = begin + self.packed.size
    for i in range(leaf.count):
        if with_delivery and i + FETCHED_AHEAD < leaf.count:
            prefetch(&(<const pending_t *>slots[i + FETCHED_AHEAD].value).delivered_ms)
        ms = slots[i].id.ms - self.id.ms
        p = put_number(p, ms)
        p = put_number(p, slots[i].id.seq - self.id.seq if ms == 0 else slots[i].id.seq)
        self.id = slots[i].id
        if with_delivery:
            pending = <const pending_t *>slots[i].value
            p = put_number(p, zigzag(<int64_t>(<uint64_t>pending.delivered_ms - <uint64_t>self.delivered_ms)))
            p = put_number(p, pending.deliveries)
            self.delivered_ms = pending.delivered_ms
    self.packed.size = <size_t>(p - begin)


cdef void begin_list(stream_rest_t *self) noexcept nogil:
    self.id = stream_id(0, 0)
    self.delivered_ms = 0
    self.entries = 0


cdef void stream_rest_keep(stream_rest_t *self, const id_index_t *entries, bint with_delivery) noexcept nogil:
    cdef kept_list_t *kept
    cdef uint32_t i
    if self.list_count == self.list_capacity:
        self.list_capacity += self.list_capacity // 2 + 4
        self.lists = <kept_list_t *>net_realloc(self.lists, self.list_capacity * sizeof(kept_list_t))
    kept = &self.lists[self.list_count]
    self.list_count += 1
    kept.text_end = self.texts.size
    kept.count = entries.count
    kept.with_delivery = with_delivery
    begin_list(self)
    for i in range(entries.leaf_count):
        keep_leaf(self, entries.fences[entries.begin + i].leaf, with_delivery)
    begin_list(self)


# ---- Writing -----------------------------------------------------------------------------------

cdef size_t put_entries(stream_rest_t *self, const kept_list_t *kept, rdb_writer_t *out) noexcept nogil:
    """Some of a list."""
    cdef uint8_t piece[PENDING_AT_ONCE * PENDING_BYTES_MAX]
    cdef const uint8_t *begin = <const uint8_t *>self.packed.data
    cdef const uint8_t *p = begin + self.unpacked
    cdef uint8_t *end = piece
    cdef uint64_t count = min(kept.count - self.entries, <uint64_t>PENDING_AT_ONCE)
    cdef uint64_t deliveries = 0
    cdef uint64_t number
    self.entries += count
    while count > 0:
        p = get_number(p, &number)
        self.id.ms += number
        if number != 0:
            self.id.seq = 0
        p = get_number(p, &number)
        self.id.seq += number
        if kept.with_delivery:
            p = get_number(p, &number)
            self.delivered_ms = <int64_t>(<uint64_t>self.delivered_ms + <uint64_t>unzigzag(number))
            p = get_number(p, &deliveries)
        end += pending_to_bytes(self.id, kept.with_delivery, self.delivered_ms, deliveries, end)
        count -= 1
    self.unpacked = <size_t>(p - begin)
    rdb_put(out, piece, end - piece)
    return <size_t>(end - piece)


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
        if self.entries < kept.count:
            written += put_entries(self, kept, out)
        else:
            self.list += 1
            begin_list(self)
    put_text(self, out, self.texts.size)
    return True
