"""Private to the loop: the epoll backend."""

from dfly._core.loop.proactor cimport backend_t

cdef const backend_t *epoll_backend() noexcept nogil
