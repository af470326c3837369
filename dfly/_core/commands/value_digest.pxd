"""DEBUG DIGEST of one value: the same hash for the same data, however it is encoded.

A type's module registers how its elements are mixed in. Elements without an order are hashed one by one and
combined by digest_xor; those with an order go through digest_mix.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport object_t, object_type_t

# digest: SHA1_SIZE bytes, which already depend on the key and the type.
ctypedef void (*value_digest_t)(unsigned char *digest, const object_t *value) noexcept nogil

cdef void register_value_digest(object_type_t type, value_digest_t mix) noexcept nogil      # at import
cdef void digest_xor(unsigned char *digest, const void *data, size_t size) noexcept nogil
cdef void digest_mix(unsigned char *digest, const void *data, size_t size) noexcept nogil
cdef void digest_number(unsigned char *digest, uint32_t number) noexcept nogil
cdef void digest_value(unsigned char *digest, dash_ref_t *ref) noexcept nogil
