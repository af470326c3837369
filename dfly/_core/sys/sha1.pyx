"""SHA-1 in one call over borrowed bytes; no state, no allocation."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    BLOCK = 64
    LENGTH_AT = 56               # where the last block holds the length in bits

cdef inline uint32_t rotate(uint32_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (32 - bits))


cdef void add_block(uint32_t *state, const unsigned char *block) noexcept nogil:
    cdef uint32_t w[80]
    cdef uint32_t a = state[0]
    cdef uint32_t b = state[1]
    cdef uint32_t c = state[2]
    cdef uint32_t d = state[3]
    cdef uint32_t e = state[4]
    cdef uint32_t mixed
    cdef uint32_t i
    for i in range(16):
        w[i] = (<uint32_t>block[4 * i] << 24 | <uint32_t>block[4 * i + 1] << 16
                | <uint32_t>block[4 * i + 2] << 8 | <uint32_t>block[4 * i + 3])
    for i in range(16, 80):
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    for i in range(80):
        if i < 20:
            mixed = ((b & c) | (~b & d)) + 0x5A827999U
        elif i < 40:
            mixed = (b ^ c ^ d) + 0x6ED9EBA1U
        elif i < 60:
            mixed = ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDCU
        else:
            mixed = (b ^ c ^ d) + 0xCA62C1D6U
        mixed += rotate(a, 5) + e + w[i]
        e = d
        d = c
        c = rotate(b, 30)
        b = a
        a = mixed
    state[0] += a
    state[1] += b
    state[2] += c
    state[3] += d
    state[4] += e


cdef void sha1(const void *data, size_t size, unsigned char *out) noexcept nogil:
    cdef const unsigned char *bytes_ = <const unsigned char *>data
    cdef unsigned char last[2 * BLOCK]
    cdef uint32_t state[5]
    cdef size_t whole = size // BLOCK
    cdef size_t rest = size % BLOCK
    cdef size_t padded = BLOCK if rest < LENGTH_AT else 2 * BLOCK
    cdef uint64_t bits = <uint64_t>size * 8
    cdef size_t i
    state[0] = 0x67452301U
    state[1] = 0xEFCDAB89U
    state[2] = 0x98BADCFEU
    state[3] = 0x10325476U
    state[4] = 0xC3D2E1F0U
    for i in range(whole):
        add_block(state, bytes_ + i * BLOCK)
    memset(last, 0, sizeof(last))
    if rest > 0:
        memcpy(last, bytes_ + whole * BLOCK, rest)
    last[rest] = 0x80
    for i in range(8):
        last[padded - 1 - i] = <unsigned char>(bits >> (8 * i))
    add_block(state, last)
    if padded > BLOCK:
        add_block(state, last + BLOCK)
    for i in range(SHA1_SIZE):
        out[i] = <unsigned char>(state[i // 4] >> (24 - 8 * (i % 4)))
