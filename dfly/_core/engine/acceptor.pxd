"""Accepting clients: limits, protected mode, and spreading connections over the shard threads."""

from libc.stdint cimport uint32_t

from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.loop.proactor cimport listener_t

cdef struct acceptor_t:
    listener_t listener          # first
    server_t *server
    executor_t *executor         # the thread that accepts
    uint32_t flags               # CONNECTION_UNIX_SOCKET, CONNECTION_ADMIN
    bint is_protected            # reachable from outside without a password: loopback clients only
    bint logged_error

cdef int acceptor_open(acceptor_t *self, server_t *server, executor_t *executor, int fd, uint32_t flags) noexcept nogil
