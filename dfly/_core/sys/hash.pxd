"""The hash of keys: 64 bits, seeded once per process against crafted collisions.

Idea: multiply two 64-bit words to 128 bits and fold the halves (as in wyhash and its kin).
"""

from libc.stdint cimport uint64_t

cdef uint64_t hash_seed() noexcept nogil                                  # drawn at import
cdef uint64_t hash_bytes(const void *data, size_t size) noexcept nogil    # any length
cdef uint64_t hash_pair(uint64_t lo, uint64_t hi) noexcept nogil          # an inline object's two words
cdef uint64_t random_u64() noexcept nogil                                 # per-thread generator, not for secrets
