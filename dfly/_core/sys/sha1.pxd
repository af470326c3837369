"""SHA-1 (FIPS 180-4), for what Redis names by it: DEBUG DIGEST. Not for anything that needs a safe hash."""

cdef enum:
    SHA1_SIZE = 20

cdef void sha1(const void *data, size_t size, unsigned char *out) noexcept nogil     # SHA1_SIZE bytes
