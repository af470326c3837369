"""LZF: see lzf.pxd for the format.

The compressor remembers where each hash of three bytes was seen last, in a table on its stack (a small one for
small inputs: clearing it counts), and takes a match if the bytes are the same and near enough. No lazy matching,
and the longer nothing matches the larger its steps: a snapshot wants speed.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from dfly._core.sys.base cimport DFLY_ABI_STAMP, load32, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    HASH_BITS = 12
    HASH_BITS_MIN = 8
    PATIENCE = 5                 # steps grow by one every 1 << PATIENCE misses
    LITERALS_MAX = 32
    OFFSET_MAX = 8192
    MATCH_MAX = 264


cdef inline uint32_t hash3(const uint8_t *p, uint32_t shift) noexcept nogil:
    return ((<uint32_t>p[0] << 16 | <uint32_t>p[1] << 8 | p[2]) * <uint32_t>2654435761) >> shift


cdef inline size_t match_length(const uint8_t *a, const uint8_t *b, size_t limit) noexcept nogil:
    """Equal bytes at a and b, of which the first three are known to be equal."""
    cdef size_t length = 3
    while length + 4 <= limit and load32(a + length) == load32(b + length):
        length += 4
    while length < limit and a[length] == b[length]:
        length += 1
    return length


cdef uint8_t *put_literals(uint8_t *out, const uint8_t *end, const uint8_t *p, size_t count) noexcept nogil:
    """Runs of up to 32 bytes; NULL: no room."""
    cdef size_t run
    while count > 0:
        run = count
        if run > LITERALS_MAX:
            run = LITERALS_MAX
        if <size_t>(end - out) < run + 1:
            return NULL
        out[0] = <uint8_t>(run - 1)
        memcpy(out + 1, p, run)
        out += run + 1
        p += run
        count -= run
    return out


cdef size_t lzf_compress(const char *data, size_t size, char *out, size_t room) noexcept nogil:
    cdef uint32_t[1 << HASH_BITS] seen           # position + 1 of the last three bytes of that hash
    cdef const uint8_t *begin = <const uint8_t *>data
    cdef uint8_t *target = <uint8_t *>out
    cdef const uint8_t *end = target + room
    cdef size_t position = 0
    cdef size_t literals = 0                     # where bytes begin that are not written yet
    cdef size_t previous
    cdef size_t length
    cdef size_t offset
    cdef uint32_t slot
    cdef uint32_t bits = HASH_BITS_MIN
    cdef uint32_t shift
    cdef size_t misses = 0
    if size < LZF_INPUT_MIN or size > <size_t>0xFFFFFFFF:
        return 0
    while bits < HASH_BITS and <size_t>1 << bits < size:
        bits += 1
    shift = 32 - bits
    memset(seen, 0, sizeof(uint32_t) << bits)
    while position + 3 <= size:
        slot = hash3(begin + position, shift)
        previous = seen[slot]
        seen[slot] = <uint32_t>position + 1
        offset = position - previous             # distance less one
        if (previous == 0 or offset >= OFFSET_MAX or begin[previous - 1] != begin[position]
                or begin[previous] != begin[position + 1] or begin[previous + 1] != begin[position + 2]):
            misses += 1
            position += 1 + (misses >> PATIENCE)
            continue
        misses = 0
        length = size - position
        if length > MATCH_MAX:
            length = MATCH_MAX
        length = match_length(begin + previous - 1, begin + position, length)
        target = put_literals(target, end, begin + literals, position - literals)
        if target == NULL or end - target < (2 if length < 9 else 3):
            return 0
        if length < 9:
            target[0] = <uint8_t>((length - 2) << 5 | offset >> 8)
        else:
            target[0] = <uint8_t>(7 << 5 | offset >> 8)
            target[1] = <uint8_t>(length - 9)
            target += 1
        target[1] = <uint8_t>(offset & 0xFF)
        target += 2
        position += length
        literals = position
        # The last place within the match is remembered too: repetitions go on from there.
        if position + 2 <= size:
            seen[hash3(begin + position - 1, shift)] = <uint32_t>position
    target = put_literals(target, end, begin + literals, size - literals)
    return <size_t>(<char *>target - out) if target != NULL else 0


cdef bint lzf_decompress(const char *data, size_t size, char *out, size_t out_size) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>data
    cdef const uint8_t *end = p + size
    cdef uint8_t *target = <uint8_t *>out
    cdef uint8_t *limit = target + out_size
    cdef size_t control
    cdef size_t length
    cdef size_t offset
    while p < end:
        control = p[0]
        p += 1
        if control < LITERALS_MAX:
            length = control + 1
            if <size_t>(end - p) < length or <size_t>(limit - target) < length:
                return False
            memcpy(target, p, length)
            p += length
            target += length
            continue
        length = control >> 5
        if length == 7:
            if p == end:
                return False
            length += p[0]
            p += 1
        length += 2
        if p == end:
            return False
        offset = ((control & 0x1F) << 8 | p[0]) + 1
        p += 1
        if offset > <size_t>(target - <uint8_t *>out) or length > <size_t>(limit - target):
            return False
        if unlikely(offset < length):
            # Source and target overlap: the bytes just written are read again.
            while length > 0:
                target[0] = (target - offset)[0]
                target += 1
                length -= 1
        else:
            memcpy(target, target - offset, length)
            target += length
    return target == limit
