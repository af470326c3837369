"""XXH3, 64 bits, without seed or secret of one's own: the hash that DIGEST and its kin show to clients.

Written from the published specification (xxHash, doc/xxhash_spec.md, by Y. Collet). The hash of keys is sys/hash:
this one is known to everybody.
"""

from libc.stdint cimport uint64_t

cdef uint64_t xxh3(const void *data, size_t size) noexcept nogil
