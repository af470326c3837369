"""Private to the loop: the io_uring backend."""

from dfly._core.loop.proactor cimport backend_t

cdef const backend_t *uring_backend() noexcept nogil
cdef int uring_probe(char *reason, size_t reason_size) noexcept nogil
