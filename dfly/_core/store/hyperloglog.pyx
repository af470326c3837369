"""HyperLogLog: see hyperloglog.pxd."""

from libc.math cimport INFINITY, llround, pow, sqrt
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from dfly._core.sys.base cimport DFLY_ABI_STAMP, ctz64, load64

__abi__ = DFLY_ABI_STAMP

cdef extern from "hll_dense.h" nogil:
    void dfly_hll_max(uint8_t *registers, const uint8_t *dense) noexcept
    void dfly_hll_pack(uint8_t *dense, const uint8_t *registers) noexcept
    void dfly_hll_histogram(const uint8_t *registers, int *counts) noexcept

cdef enum:
    INDEX_BITS = 14
    RANK_BITS = 50                   # of a hash without the index
    ZERO_MAX = 64                    # registers of one short run of zeroes
    VALUE_MAX = 32                   # of a sparse register
    VALUE_RUN_MAX = 4
    MERGE_STEPS = 5                  # runs looked at after a change

cdef double ALPHA = 0.721347520444481703680
cdef uint64_t SEED = 0xADC83B19
cdef uint64_t MULTIPLIER = 0xC6A4A7935BD1E995


# ---- Hash --------------------------------------------------------------------------------------

cdef uint64_t murmur(const uint8_t *data, size_t size) noexcept nogil:
    """MurmurHash64A by Austin Appleby (public domain)."""
    cdef uint64_t hash = SEED ^ (<uint64_t>size * MULTIPLIER)
    cdef const uint8_t *end = data + (size & ~<size_t>7)
    cdef size_t rest = size & 7
    cdef uint64_t block
    while data != end:
        block = load64(data) * MULTIPLIER
        block ^= block >> 47
        hash = (hash ^ (block * MULTIPLIER)) * MULTIPLIER
        data += 8
    if rest > 0:
        block = 0
        memcpy(&block, data, rest)
        hash = (hash ^ block) * MULTIPLIER
    hash ^= hash >> 47
    hash *= MULTIPLIER
    return hash ^ (hash >> 47)


cdef uint8_t rank_of(uint64_t hash) noexcept nogil:
    """One more than the number of trailing zeroes."""
    hash |= <uint64_t>1 << RANK_BITS
    return <uint8_t>(ctz64(hash) + 1)


# ---- Dense registers -------------------------------------------------------------------------------

cdef inline uint8_t dense_get(const uint8_t *registers, uint64_t index) noexcept nogil:
    cdef uint64_t bit = index * 6
    cdef uint64_t byte = bit >> 3
    cdef uint32_t shift = <uint32_t>(bit & 7)
    cdef uint32_t both = registers[byte]
    if shift > 2:
        both |= <uint32_t>registers[byte + 1] << 8
    return <uint8_t>((both >> shift) & 63)


cdef inline void dense_put(uint8_t *registers, uint64_t index, uint8_t value) noexcept nogil:
    cdef uint64_t bit = index * 6
    cdef uint64_t byte = bit >> 3
    cdef uint32_t shift = <uint32_t>(bit & 7)
    registers[byte] = <uint8_t>((registers[byte] & ~(63 << shift)) | (value << shift))
    if shift > 2:
        registers[byte + 1] = <uint8_t>((registers[byte + 1] & ~(63 >> (8 - shift))) | (value >> (8 - shift)))


cdef hll_result_t dense_raise(uint8_t *registers, uint64_t index, uint8_t value) noexcept nogil:
    if dense_get(registers, index) >= value:
        return HLL_SAME
    dense_put(registers, index, value)
    return HLL_CHANGED


# ---- Sparse registers ------------------------------------------------------------------------------

cdef uint8_t *put_zeroes(uint8_t *p, uint64_t length) noexcept nogil:
    """What follows the run."""
    if length > ZERO_MAX:
        p[0] = <uint8_t>(((length - 1) >> 8) | 0x40)
        p[1] = <uint8_t>((length - 1) & 0xFF)
        return p + 2
    p[0] = <uint8_t>(length - 1)
    return p + 1


cdef uint8_t *put_value(uint8_t *p, uint8_t value, uint64_t length) noexcept nogil:
    p[0] = <uint8_t>(((value - 1) << 2) | (length - 1) | 0x80)
    return p + 1


cdef inline const uint8_t *next_run(const uint8_t *p) noexcept nogil:
    return p + 2 if run_is_long(p[0]) else p + 1


cdef void merge_values(sketch_t *self, uint8_t *p) noexcept nogil:
    """Neighbouring runs of one value become one, as far as a few runs from p on."""
    cdef uint8_t *end = self.data + self.size
    cdef int steps = MERGE_STEPS
    cdef uint64_t length
    while p < end and steps > 0:
        steps -= 1
        if not run_is_value(p[0]):
            p = <uint8_t *>next_run(p)
            continue
        if p + 1 < end and run_is_value(p[1]) and run_value(p) == run_value(p + 1):
            length = run_length(p) + run_length(p + 1)
            if length <= VALUE_RUN_MAX:
                put_value(p + 1, run_value(p), length)
                memmove(p, p + 1, <size_t>(end - p - 1))
                self.size -= 1
                end -= 1
                continue
        p += 1


cdef hll_result_t promote(sketch_t *self, uint64_t index, uint8_t value) noexcept nogil:
    if not hll_to_dense(self):
        return HLL_CORRUPT
    return dense_raise(self.data + HLL_HEADER, index, value)


cdef uint64_t split_run(const uint8_t *p, uint64_t before, uint64_t behind, uint8_t value, uint8_t *out) noexcept nogil:
    """The run at p with one register changed, as up to three runs; how many bytes they take."""
    cdef uint8_t old = run_value(p)
    cdef uint8_t *q = out
    if before > 0:
        q = put_value(q, old, before) if old > 0 else put_zeroes(q, before)
    q = put_value(q, value, 1)
    if behind > 0:
        q = put_value(q, old, behind) if old > 0 else put_zeroes(q, behind)
    return <uint64_t>(q - out)


cdef struct run_place_t:
    # A run from which to look for the next register, a larger one. Zeroes: before the first run.
    size_t offset                # behind the header
    uint64_t first               # its first register


cdef inline hll_result_t raise_from(sketch_t *self, uint64_t index, uint8_t value, run_place_t *place) noexcept nogil:
    """place: where the last register before this one was raised; NULL: anywhere."""
    cdef uint8_t *p = self.data + HLL_HEADER + (place.offset if place != NULL else 0)
    cdef uint8_t *end = self.data + self.size
    cdef uint8_t *previous = p
    cdef uint8_t *following
    cdef uint8_t runs[6]
    cdef uint64_t first = place.first if place != NULL else 0
    cdef uint64_t previous_first = first
    cdef uint64_t length = 0
    cdef uint64_t written
    cdef uint64_t old_bytes
    if value > VALUE_MAX:
        return promote(self, index, value)
    while p < end:
        if run_is_long(p[0]) and p + 1 == end:
            return HLL_CORRUPT
        length = run_length(p)
        if index < first + length:
            break
        if place != NULL:
            # The next one may be in `previous` already, if that run is joined with what is behind it: begin before it.
            place.offset = <size_t>(previous - self.data) - HLL_HEADER if previous < p else 0
            place.first = previous_first if previous < p else 0
        previous = p
        previous_first = first
        first += length
        p = <uint8_t *>next_run(p)
    if p >= end:
        return HLL_CORRUPT
    if run_value(p) >= value:
        return HLL_SAME
    following = <uint8_t *>next_run(p)
    old_bytes = <uint64_t>(following - p)
    written = split_run(p, index - first, first + length - 1 - index, value, runs)
    if written > old_bytes and <int64_t>(self.size + written - old_bytes) > self.sparse_max:
        return promote(self, index, value)
    memmove(p + written, following, <size_t>(end - following))
    memcpy(p, runs, written)
    self.size += written - old_bytes
    merge_values(self, previous)
    return HLL_CHANGED


cdef hll_result_t sparse_raise(sketch_t *self, uint64_t index, uint8_t value) noexcept nogil:
    return raise_from(self, index, value, NULL)


cdef hll_result_t sparse_raise_next(sketch_t *self, uint64_t index, uint8_t value, run_place_t *place) noexcept nogil:
    """Those of rising numbers, one after the other."""
    return raise_from(self, index, value, place)


cdef bint hll_to_dense(sketch_t *self) noexcept nogil:
    cdef uint8_t dense[HLL_DENSE_SIZE]
    cdef const uint8_t *p = self.data + HLL_HEADER
    cdef const uint8_t *end = self.data + self.size
    cdef uint64_t index = 0
    cdef uint64_t length
    if hll_encoding(self.data) == HLL_DENSE:
        return True
    memset(dense, 0, HLL_DENSE_SIZE)
    memcpy(dense, self.data, HLL_HEADER)
    dense[4] = HLL_DENSE
    while p < end:
        if run_is_long(p[0]) and p + 1 == end:
            return False
        length = run_length(p)
        if index + length > HLL_REGISTERS:
            return False
        if run_is_value(p[0]):
            while length > 0:
                dense_put(dense + HLL_HEADER, index, run_value(p))
                index += 1
                length -= 1
        index += length
        p = next_run(p)
    if index != HLL_REGISTERS:
        return False
    memcpy(self.data, dense, HLL_DENSE_SIZE)
    self.size = HLL_DENSE_SIZE
    return True


# ---- Sketches ----------------------------------------------------------------------------------

cdef bint hll_is_valid(const char *data, size_t size) noexcept nogil:
    if size < HLL_HEADER or memcmp(data, b"HYLL", 4) != 0:
        return False
    return data[4] == HLL_SPARSE or (data[4] == HLL_DENSE and size == HLL_DENSE_SIZE)


cdef void hll_init(sketch_t *self) noexcept nogil:
    memset(self.data, 0, HLL_HEADER)
    memcpy(self.data, b"HYLL", 4)
    self.data[4] = HLL_SPARSE
    put_zeroes(self.data + HLL_HEADER, HLL_REGISTERS)
    self.size = HLL_EMPTY_SIZE


cdef hll_result_t hll_set(sketch_t *self, uint64_t index, uint8_t value) noexcept nogil:
    if hll_encoding(self.data) == HLL_DENSE:
        return dense_raise(self.data + HLL_HEADER, index, value)
    return sparse_raise(self, index, value)


cdef hll_result_t hll_add(sketch_t *self, const char *data, size_t size) noexcept nogil:
    cdef uint64_t hash = murmur(<const uint8_t *>data, size)
    return hll_set(self, hash & (HLL_REGISTERS - 1), rank_of(hash >> INDEX_BITS))


cdef bint hll_dense_has(const uint8_t *sketch, const char *data, size_t size) noexcept nogil:
    cdef uint64_t hash = murmur(<const uint8_t *>data, size)
    return dense_get(sketch + HLL_HEADER, hash & (HLL_REGISTERS - 1)) >= rank_of(hash >> INDEX_BITS)


cdef bint hll_merge(uint8_t *registers, const uint8_t *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = data + HLL_HEADER
    cdef const uint8_t *end = data + size
    cdef uint64_t index = 0
    cdef uint64_t length
    cdef uint8_t value
    if hll_encoding(data) == HLL_DENSE:
        dfly_hll_max(registers, p)
        return True
    while p < end:
        if run_is_long(p[0]) and p + 1 == end:
            return False
        length = run_length(p)
        if index + length > HLL_REGISTERS:
            return False
        value = run_value(p)
        if value > 0:
            while length > 0:
                if value > registers[index]:
                    registers[index] = value
                index += 1
                length -= 1
        index += length
        p = next_run(p)
    return index == HLL_REGISTERS


cdef bint hll_raise_all(sketch_t *self, const uint8_t *registers) noexcept nogil:
    cdef uint8_t old[HLL_REGISTERS]
    cdef run_place_t place
    cdef uint64_t i
    if hll_encoding(self.data) == HLL_SPARSE:
        memset(old, 0, HLL_REGISTERS)
        if not hll_merge(old, self.data, self.size):
            return False
        memset(&place, 0, sizeof(run_place_t))
        for i in range(HLL_REGISTERS):
            if registers[i] <= old[i]:
                continue
            if sparse_raise_next(self, i, registers[i], &place) == HLL_CORRUPT:
                return False
            if hll_encoding(self.data) == HLL_DENSE:
                break
    if hll_encoding(self.data) == HLL_DENSE:
        dfly_hll_pack(self.data + HLL_HEADER, registers)
    return True


# ---- Estimate ----------------------------------------------------------------------------------

cdef double tau(double x) noexcept nogil:
    cdef double y = 1
    cdef double z = 1 - x
    cdef double before
    if x == 0 or x == 1:
        return 0
    while True:
        x = sqrt(x)
        before = z
        y *= 0.5
        z -= pow(1 - x, 2) * y
        if z == before:
            return z / 3


cdef double sigma(double x) noexcept nogil:
    cdef double y = 1
    cdef double z = x
    cdef double before
    if x == 1:
        return INFINITY
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


cdef uint64_t estimate(const int *histogram) noexcept nogil:
    """histogram: how many registers have each value, up to 63."""
    cdef double m = HLL_REGISTERS
    cdef double z = m * tau((m - histogram[RANK_BITS + 1]) / m)
    cdef int i = RANK_BITS
    while i >= 1:
        z += histogram[i]
        z *= 0.5
        i -= 1
    z += m * sigma(histogram[0] / m)
    return <uint64_t>llround(ALPHA * m * m / z)


cdef uint64_t hll_count_registers(const uint8_t *registers) noexcept nogil:
    cdef int histogram[64]
    dfly_hll_histogram(registers, histogram)
    return estimate(histogram)


cdef bint hll_count(const uint8_t *data, size_t size, uint64_t *out) noexcept nogil:
    cdef uint8_t registers[HLL_REGISTERS]
    memset(registers, 0, HLL_REGISTERS)
    if not hll_merge(registers, data, size):
        return False
    out[0] = hll_count_registers(registers)
    return True
