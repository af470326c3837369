"""Finding the end of a value in RDB form without decoding it.

A loader cuts its file into records with this; what a value's bytes say inside of their strings is looked at by
persist/rdb_value, on the shard's thread. Foreign bytes: every length is checked before it is believed, nothing is
allocated, and the cost is that of the bytes that are there.
"""

from libc.stdint cimport uint8_t, uint64_t

cdef struct scan_t:
    const uint8_t *p             # the next byte
    const uint8_t *end           # what is here
    uint64_t beyond              # bytes of the file after that
    uint64_t missing             # not 0: at least so many more are needed, and the file has them
    const char *error            # not NULL: nonsense, or more than the file has

# Each returns False when `missing` or `error` says why; p is anywhere then.
cdef bint scan_bytes(scan_t *self, uint64_t size) noexcept nogil
cdef bint scan_length(scan_t *self, uint64_t *out) noexcept nogil
cdef bint scan_string(scan_t *self) noexcept nogil
cdef bint scan_module_fields(scan_t *self) noexcept nogil        # up to and with their end mark
cdef bint scan_value(scan_t *self, int type, bint is_valkey) noexcept nogil
# Nine letters, as Redis packs a module's name into its id. `out` has room for ten bytes.
cdef void module_name(uint64_t id, char *out) noexcept nogil
