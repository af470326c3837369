"""Kernels of the bit commands. Pure functions over bytes; no keys, no replies.

Counting and searching read unaligned 64-bit words, four at a time, with the edges of a range cut
out of single bytes. Words are little-endian in the register: after a byte swap the first bit of
the string is the highest bit, so counting leading zeros gives a position.

BITOP walks the result in blocks that stay in the first-level cache and applies one source after
the other to a block; the inner loops are plain enough for the compiler to vectorise.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.sys.base cimport DFLY_ABI_STAMP, clz64, load64, popcount64, slice_t, store64

__abi__ = DFLY_ABI_STAMP

cdef extern from *:
    """
    #define dfly_byte_swap64(v) __builtin_bswap64(v)
    """
    uint64_t byte_swap64 "dfly_byte_swap64"(uint64_t v) noexcept nogil

cdef enum:
    WORD = 8
    STRIDE = 32                  # bytes of an unrolled round
    BLOCK = 8192                 # bytes of the result combined at a time
    BYTE_LEADING_ZEROS = 56      # of a byte held in a 64-bit word

cdef uint64_t ALL_ONES = 0xFFFFFFFFFFFFFFFFULL


cdef inline uint8_t head_mask(uint64_t first) noexcept nogil:
    """The bits of a byte from position first on."""
    return <uint8_t>(0xFF >> (first & 7))


cdef inline uint8_t tail_mask(uint64_t last) noexcept nogil:
    """The bits of a byte up to and with position last."""
    return <uint8_t>(0xFF << (7 - (last & 7)))


# ---- Counting ------------------------------------------------------------------------------

cdef uint64_t count_bytes(const char *data, size_t size) noexcept nogil:
    cdef uint64_t a = 0
    cdef uint64_t b = 0
    cdef uint64_t c = 0
    cdef uint64_t d = 0
    cdef uint64_t tail = 0
    while size >= STRIDE:
        a += popcount64(load64(data))
        b += popcount64(load64(data + 8))
        c += popcount64(load64(data + 16))
        d += popcount64(load64(data + 24))
        data += STRIDE
        size -= STRIDE
    while size >= WORD:
        a += popcount64(load64(data))
        data += WORD
        size -= WORD
    if size:
        memcpy(&tail, data, size)
    return a + b + c + d + popcount64(tail)


cdef uint64_t bits_count(const char *data, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t begin = first >> 3
    cdef uint64_t end = last >> 3
    cdef uint64_t count = count_bytes(data + begin, end - begin + 1)
    count -= popcount64(<uint8_t>data[begin] & ~head_mask(first) & 0xFF)
    return count - popcount64(<uint8_t>data[end] & ~tail_mask(last) & 0xFF)


# ---- Searching -----------------------------------------------------------------------------

cdef int64_t find_in_bytes(const char *data, uint64_t size, uint64_t flip) noexcept nogil:
    """Position of the first bit that is set after XOR with flip (all ones or zero), -1: none."""
    cdef uint64_t i = 0
    while i + STRIDE <= size:
        if ((load64(data + i) ^ flip) | (load64(data + i + 8) ^ flip)
                | (load64(data + i + 16) ^ flip) | (load64(data + i + 24) ^ flip)) != 0:
            break
        i += STRIDE
    while i + WORD <= size:
        if load64(data + i) != flip:
            return <int64_t>(i * 8) + clz64(byte_swap64(load64(data + i) ^ flip))
        i += WORD
    while i < size:
        if <uint8_t>data[i] != <uint8_t>flip:
            return <int64_t>(i * 8) + clz64(<uint8_t>data[i] ^ <uint8_t>flip) - BYTE_LEADING_ZEROS
        i += 1
    return -1


cdef int64_t bits_find(const char *data, uint64_t first, uint64_t last, bint bit) noexcept nogil:
    cdef uint64_t flip = 0 if bit else ALL_ONES
    cdef uint64_t begin = first >> 3
    cdef uint64_t end = last >> 3
    cdef int64_t found
    cdef uint8_t edge = (<uint8_t>data[begin] ^ <uint8_t>flip) & head_mask(first)
    if begin == end:
        edge &= tail_mask(last)
    if edge != 0:
        return <int64_t>(begin * 8) + clz64(edge) - BYTE_LEADING_ZEROS
    if begin == end:
        return -1
    found = find_in_bytes(data + begin + 1, end - begin - 1, flip)
    if found >= 0:
        return <int64_t>((begin + 1) * 8) + found
    edge = (<uint8_t>data[end] ^ <uint8_t>flip) & tail_mask(last)
    if edge != 0:
        return <int64_t>(end * 8) + clz64(edge) - BYTE_LEADING_ZEROS
    return -1


# ---- Combining -----------------------------------------------------------------------------

cdef void combine_words(bit_operation_t operation, const char *source, char *out, size_t size) noexcept nogil:
    """out = out <operation> source; of whole words and the bytes behind them."""
    cdef size_t words = size & ~<size_t>7
    cdef size_t i
    if operation == BITS_AND:
        for i in range(0, words, 8):
            store64(out + i, load64(out + i) & load64(source + i))
        for i in range(words, size):
            out[i] = out[i] & source[i]
    elif operation == BITS_OR:
        for i in range(0, words, 8):
            store64(out + i, load64(out + i) | load64(source + i))
        for i in range(words, size):
            out[i] = out[i] | source[i]
    elif operation == BITS_DIFF:
        for i in range(0, words, 8):
            store64(out + i, load64(out + i) & ~load64(source + i))
        for i in range(words, size):
            out[i] = out[i] & ~source[i]
    else:
        for i in range(0, words, 8):
            store64(out + i, load64(out + i) ^ load64(source + i))
        for i in range(words, size):
            out[i] = out[i] ^ source[i]


cdef void invert_words(char *out, size_t size) noexcept nogil:
    cdef size_t words = size & ~<size_t>7
    cdef size_t i
    for i in range(0, words, 8):
        store64(out + i, ~load64(out + i))
    for i in range(words, size):
        out[i] = ~out[i]


cdef inline size_t part_in_block(const slice_t *source, size_t start, size_t length) noexcept nogil:
    """Bytes of the source inside the block."""
    if source.size <= start:
        return 0
    return source.size - start if source.size - start < length else length


cdef void load_block(const slice_t *source, size_t start, size_t length, char *out) noexcept nogil:
    cdef size_t part = part_in_block(source, start, length)
    if part:
        memcpy(out, source.data + start, part)
    memset(out + part, 0, length - part)


cdef void apply_source(bit_operation_t operation, const slice_t *source, size_t start, size_t length,
                       char *out) noexcept nogil:
    cdef size_t part = part_in_block(source, start, length)
    if part:
        combine_words(operation, source.data + start, out, part)
    if operation == BITS_AND:
        memset(out + part, 0, length - part)


cdef void combine_block(bit_operation_t operation, const slice_t *sources, uint64_t count, size_t start,
                        size_t length, char *out) noexcept nogil:
    """One operation over all sources, from the first to the last."""
    cdef uint64_t i
    load_block(&sources[0], start, length, out)
    for i in range(1, count):
        apply_source(operation, &sources[i], start, length, out)


cdef void combine_one(const slice_t *sources, uint64_t count, size_t start, size_t length, char *out) noexcept nogil:
    """A bit that is met where one is already is in more than one, whatever comes then."""
    cdef char once[BLOCK]
    cdef char more[BLOCK]
    cdef uint64_t i
    load_block(&sources[0], start, length, out)
    memset(more, 0, length)
    for i in range(1, count):
        load_block(&sources[i], start, length, once)
        combine_words(BITS_AND, out, once, length)
        combine_words(BITS_OR, once, more, length)
        apply_source(BITS_OR, &sources[i], start, length, out)
    combine_words(BITS_DIFF, more, out, length)


cdef void bits_combine(bit_operation_t operation, const slice_t *sources, uint64_t count,
                       char *out, size_t size) noexcept nogil:
    cdef size_t start = 0
    cdef size_t length
    while start < size:
        length = size - start if size - start < BLOCK else BLOCK
        if operation == BITS_ONE:
            combine_one(sources, count, start, length, out + start)
        elif operation == BITS_DIFF1 or operation == BITS_ANDOR:
            combine_block(BITS_OR, sources + 1, count - 1, start, length, out + start)
            apply_source(BITS_AND if operation == BITS_ANDOR else BITS_DIFF, &sources[0], start, length, out + start)
        else:
            combine_block(operation, sources, count, start, length, out + start)
            if operation == BITS_NOT:
                invert_words(out + start, length)
        start += length


# ---- Fields --------------------------------------------------------------------------------

cdef inline size_t field_bytes(uint64_t offset, uint32_t width) noexcept nogil:
    return <size_t>(((offset & 7) + width + 7) >> 3)


cdef uint64_t bits_read_field(const char *data, size_t size, uint64_t offset, uint32_t width) noexcept nogil:
    cdef char window[16]
    cdef uint64_t begin = offset >> 3
    cdef uint32_t shift = <uint32_t>(offset & 7)
    cdef size_t length = field_bytes(offset, width)
    cdef uint64_t high
    memset(window, 0, sizeof(window))
    if begin < size:
        memcpy(window, data + begin, length if length < size - begin else size - begin)
    high = byte_swap64(load64(window)) << shift
    if shift:
        high |= <uint64_t><uint8_t>window[8] >> (8 - shift)
    return high >> (64 - width)


cdef void bits_write_field(char *data, size_t size, uint64_t offset, uint32_t width, uint64_t value) noexcept nogil:
    cdef char window[16]
    cdef uint64_t begin = offset >> 3
    cdef uint32_t shift = <uint32_t>(offset & 7)
    cdef size_t length = field_bytes(offset, width)
    cdef uint64_t mask = (ALL_ONES << (64 - width)) >> shift
    cdef uint64_t bits = value << (64 - width)
    cdef uint8_t spill_mask
    memset(window, 0, sizeof(window))
    memcpy(window, data + begin, length)
    store64(window, byte_swap64((byte_swap64(load64(window)) & ~mask) | (bits >> shift)))
    if shift + width > 64:
        # The last bits lie in a ninth byte, at its high end.
        spill_mask = <uint8_t>(0xFF << (72 - shift - width))
        window[8] = <char>((<uint8_t>window[8] & ~spill_mask) | (<uint8_t>(bits << (64 - shift) >> 56) & spill_mask))
    memcpy(data + begin, window, length)
