"""libc declarations of the network room: addresses and socket options."""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint16_t, uint32_t

cdef extern from "sys/socket.h" nogil:
    """
    #include <sys/un.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <arpa/inet.h>
    """
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct sockaddr_storage:
        unsigned short ss_family
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        unsigned char s6_addr[16]
    struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    struct sockaddr_un:
        char sun_path[108]
    int AF_INET, AF_INET6, AF_UNIX
    int SOL_SOCKET, SO_KEEPALIVE, IPPROTO_TCP, TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT
    int MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK
    ssize_t recv(int fd, void *buffer, size_t size, int flags) noexcept
    ssize_t send(int fd, const void *data, size_t size, int flags) noexcept
    int getpeername(int fd, sockaddr *address, socklen_t *size) noexcept
    int getsockname(int fd, sockaddr *address, socklen_t *size) noexcept
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size) noexcept
    const char *inet_ntop(int family, const void *source, char *out, socklen_t size) noexcept
    uint16_t ntohs(uint16_t value) noexcept

cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int POLLRDHUP, POLLHUP, POLLERR
    int poll(pollfd *fds, unsigned long count, int timeout_ms) noexcept


cdef inline bint peer_has_hung_up(int fd) noexcept nogil:
    """Has the other side closed, or ended its sending? Any thread may ask; a closed descriptor has not."""
    cdef pollfd waiting
    waiting.fd = fd
    waiting.events = <short>POLLRDHUP
    waiting.revents = 0
    return poll(&waiting, 1, 0) > 0 and waiting.revents & (POLLRDHUP | POLLHUP | POLLERR) != 0


cdef inline bint peer_has_finished(int fd) noexcept nogil:
    """Has it hung up, and is all that it sent read?"""
    cdef char byte
    cdef ssize_t size = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT)
    return size == 0 or size < 0 and errno != EAGAIN and errno != EINTR
