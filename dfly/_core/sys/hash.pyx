"""Seeded 64-bit hash by folded 128-bit multiplication (the idea of wyhash and its kin).

Short inputs cost two multiplications, long ones one per 16 bytes. The seed is drawn from the
system at import, so crafted keys cannot be prepared against a running server.
"""

import os

from libc.stdint cimport uint8_t, uint64_t

from dfly._core.sys.base cimport DFLY_ABI_STAMP, cycle_ticks, fold_multiply, load32, load64

__abi__ = DFLY_ABI_STAMP

cdef extern from *:
    """
    /* Odd 64-bit constants with about half of their bits set (hexadecimal digits of pi and e). */
    #define DFLY_MIX_A 0x243f6a8885a308d3ull
    #define DFLY_MIX_B 0x13198a2e03707345ull
    #define DFLY_MIX_C 0xb7e151628aed2a6bull
    static __thread uint64_t dfly_random_state;
    """
    const uint64_t DFLY_MIX_A
    const uint64_t DFLY_MIX_B
    const uint64_t DFLY_MIX_C
    uint64_t dfly_random_state

cdef uint64_t seed = int.from_bytes(os.urandom(8), "little")


cdef uint64_t hash_seed() noexcept nogil:
    return seed


cdef uint64_t hash_pair(uint64_t lo, uint64_t hi) noexcept nogil:
    cdef uint64_t mixed = fold_multiply(lo ^ seed ^ DFLY_MIX_A, hi ^ DFLY_MIX_B)
    return fold_multiply(mixed ^ seed, DFLY_MIX_C)


cdef uint64_t hash_bytes(const void *data, size_t size) noexcept nogil:
    cdef const uint8_t *p = <const uint8_t *>data
    cdef uint64_t state = seed ^ DFLY_MIX_C
    cdef size_t left = size
    cdef uint64_t a = 0
    cdef uint64_t b = 0
    while left > 16:
        state = fold_multiply(load64(p) ^ DFLY_MIX_A ^ state, load64(p + 8) ^ DFLY_MIX_B)
        p += 16
        left -= 16
    if size >= 16:
        # The last 16 bytes, overlapping what was read before.
        p += left
        a = load64(p - 16)
        b = load64(p - 8)
    elif left >= 8:
        a = load64(p)
        b = load64(p + left - 8)
    elif left >= 4:
        a = load32(p)
        b = load32(p + left - 4)
    elif left > 0:
        a = (<uint64_t>p[0] << 16) | (<uint64_t>p[left >> 1] << 8) | p[left - 1]
    state = fold_multiply(a ^ DFLY_MIX_A ^ state, b ^ DFLY_MIX_B)
    return fold_multiply(state ^ <uint64_t>size, DFLY_MIX_C ^ seed)


cdef uint64_t random_u64() noexcept nogil:
    global dfly_random_state
    if dfly_random_state == 0:
        dfly_random_state = seed ^ cycle_ticks() ^ <uint64_t>&dfly_random_state
    dfly_random_state += DFLY_MIX_A
    return fold_multiply(dfly_random_state, dfly_random_state ^ DFLY_MIX_B)
