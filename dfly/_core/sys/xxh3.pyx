"""XXH3_64 by length: up to 16 bytes in one mix, up to 240 in mixes of 16 bytes, longer ones in stripes of 64 bytes
over eight accumulators, scrambled after each block of 16 stripes.

The seed is always 0, so what the specification adds or subtracts for it is left out.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP, fold_multiply, load32, load64

__abi__ = DFLY_ABI_STAMP

cdef extern from *:
    """
    /* The specification's names. */
    #define PRIME32_1 0x9E3779B1ull
    #define PRIME32_2 0x85EBCA77ull
    #define PRIME32_3 0xC2B2AE3Dull
    #define PRIME64_1 0x9E3779B185EBCA87ull
    #define PRIME64_2 0xC2B2AE3D27D4EB4Full
    #define PRIME64_3 0x165667B19E3779F9ull
    #define PRIME64_4 0x85EBCA77C2B2AE63ull
    #define PRIME64_5 0x27D4EB2F165667C5ull
    #define PRIME_MX1 0x165667919E3779F9ull
    #define PRIME_MX2 0x9FB21C651E98DF25ull
    #define dfly_byte_swap64(v) __builtin_bswap64(v)
    static const unsigned char DFLY_XXH3_SECRET[192] = {
        0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
        0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
        0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
        0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
        0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
        0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
        0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
        0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
        0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
        0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
        0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
        0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
    };
    """
    const uint64_t PRIME32_1
    const uint64_t PRIME32_2
    const uint64_t PRIME32_3
    const uint64_t PRIME64_1
    const uint64_t PRIME64_2
    const uint64_t PRIME64_3
    const uint64_t PRIME64_4
    const uint64_t PRIME64_5
    const uint64_t PRIME_MX1
    const uint64_t PRIME_MX2
    const uint8_t DFLY_XXH3_SECRET[192]
    uint64_t byte_swap64 "dfly_byte_swap64"(uint64_t v) noexcept nogil

cdef enum:
    LANES = 8
    STRIPE = 64
    STRIPES_IN_BLOCK = 16
    BLOCK = 1024                 # STRIPES_IN_BLOCK * STRIPE
    SCRAMBLE_SECRET = 128        # offsets in the secret
    LAST_STRIPE_SECRET = 121
    MERGE_SECRET = 11


cdef inline uint64_t secret(size_t offset) noexcept nogil:
    return load64(DFLY_XXH3_SECRET + offset)


cdef inline uint64_t rotate(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef inline uint64_t avalanche(uint64_t hash) noexcept nogil:
    hash ^= hash >> 37
    hash *= PRIME_MX1
    return hash ^ (hash >> 32)


cdef inline uint64_t avalanche_short(uint64_t hash) noexcept nogil:
    """That of XXH64."""
    hash ^= hash >> 33
    hash *= PRIME64_2
    hash ^= hash >> 29
    hash *= PRIME64_3
    return hash ^ (hash >> 32)


cdef inline uint64_t mix16(const uint8_t *p, size_t offset) noexcept nogil:
    return fold_multiply(load64(p) ^ secret(offset), load64(p + 8) ^ secret(offset + 8))


cdef uint64_t hash_up_to_16(const uint8_t *p, size_t size) noexcept nogil:
    cdef uint64_t a
    cdef uint64_t b
    if size > 8:
        a = load64(p) ^ secret(24) ^ secret(32)
        b = load64(p + size - 8) ^ secret(40) ^ secret(48)
        return avalanche(size + byte_swap64(a) + b + fold_multiply(a, b))
    if size >= 4:
        a = (load32(p + size - 4) + (<uint64_t>load32(p) << 32)) ^ secret(8) ^ secret(16)
        a ^= rotate(a, 49) ^ rotate(a, 24)
        a *= PRIME_MX2
        a ^= (a >> 35) + size
        a *= PRIME_MX2
        return a ^ (a >> 28)
    if size > 0:
        a = (<uint64_t>p[0] << 16) | (<uint64_t>p[size >> 1] << 24) | p[size - 1] | (size << 8)
        return avalanche_short(a ^ load32(DFLY_XXH3_SECRET) ^ load32(DFLY_XXH3_SECRET + 4))
    return avalanche_short(secret(56) ^ secret(64))


cdef uint64_t hash_up_to_128(const uint8_t *p, size_t size) noexcept nogil:
    """Pairs of 16 bytes from both ends."""
    cdef uint64_t hash = size * PRIME64_1
    cdef size_t i
    for i in range((size + 31) // 32):
        hash += mix16(p + 16 * i, 32 * i) + mix16(p + size - 16 * (i + 1), 32 * i + 16)
    return avalanche(hash)


cdef uint64_t hash_up_to_240(const uint8_t *p, size_t size) noexcept nogil:
    cdef uint64_t hash = size * PRIME64_1
    cdef size_t i
    for i in range(8):
        hash += mix16(p + 16 * i, 16 * i)
    hash = avalanche(hash)
    for i in range(8, size // 16):
        hash += mix16(p + 16 * i, 16 * (i - 8) + 3)
    return avalanche(hash + mix16(p + size - 16, 119))


cdef inline void add_stripe(uint64_t *lanes, const uint8_t *p, size_t offset) noexcept nogil:
    cdef uint64_t value
    cdef uint64_t keyed
    cdef int i
    for i in range(LANES):
        value = load64(p + 8 * i)
        keyed = value ^ secret(offset + 8 * i)
        lanes[i ^ 1] += value
        lanes[i] += <uint64_t><uint32_t>keyed * (keyed >> 32)


cdef inline void scramble(uint64_t *lanes) noexcept nogil:
    cdef int i
    for i in range(LANES):
        lanes[i] = (lanes[i] ^ (lanes[i] >> 47) ^ secret(SCRAMBLE_SECRET + 8 * i)) * PRIME32_1


cdef uint64_t hash_long(const uint8_t *p, size_t size) noexcept nogil:
    cdef uint64_t lanes[LANES]
    cdef uint64_t hash = size * PRIME64_1
    cdef const uint8_t *last = p + size - STRIPE
    cdef size_t stripes = (size - 1) // STRIPE
    cdef size_t i
    lanes[0] = PRIME32_3
    lanes[1] = PRIME64_1
    lanes[2] = PRIME64_2
    lanes[3] = PRIME64_3
    lanes[4] = PRIME64_4
    lanes[5] = PRIME32_2
    lanes[6] = PRIME64_5
    lanes[7] = PRIME32_1
    for i in range(stripes):
        add_stripe(lanes, p + STRIPE * i, 8 * (i % STRIPES_IN_BLOCK))
        # The block that holds the last byte is not scrambled, even if its stripes are complete.
        if i % STRIPES_IN_BLOCK == STRIPES_IN_BLOCK - 1:
            scramble(lanes)
    add_stripe(lanes, last, LAST_STRIPE_SECRET)
    for i in range(0, LANES, 2):
        hash += fold_multiply(lanes[i] ^ secret(MERGE_SECRET + 8 * i), lanes[i + 1] ^ secret(MERGE_SECRET + 8 * i + 8))
    return avalanche(hash)


cdef uint64_t xxh3(const void *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>data
    if size <= 16:
        return hash_up_to_16(p, size)
    if size <= 128:
        return hash_up_to_128(p, size)
    if size <= 240:
        return hash_up_to_240(p, size)
    return hash_long(p, size)
