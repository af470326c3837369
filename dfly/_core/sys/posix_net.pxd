"""libc and kernel declarations for sockets, epoll, eventfd and memory mappings. No state."""

from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE 1
    #endif
    #include <sys/types.h>
    #include <sys/socket.h>
    #include <sys/un.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <arpa/inet.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/mman.h>
    #include <sys/syscall.h>
    #include <poll.h>
    #include <fcntl.h>
    #include <unistd.h>
    #include <errno.h>
    #include <signal.h>
    """
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        pass

    cdef enum:
        AF_UNIX
        AF_INET
        AF_INET6
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_SNDBUF
        SO_RCVBUF
        SHUT_RD
        SHUT_WR
        SHUT_RDWR
        MSG_NOSIGNAL
        MSG_DONTWAIT
        MSG_WAITALL
        F_GETFL
        F_SETFL
        O_NONBLOCK
        AT_FDCWD
        ECANCELED

    int socket(int domain, int type, int protocol) noexcept
    int socketpair(int domain, int type, int protocol, int *pair) noexcept
    int accept4(int fd, sockaddr *address, socklen_t *size, int flags) noexcept
    ssize_t recv(int fd, void *data, size_t size, int flags) noexcept
    ssize_t send(int fd, const void *data, size_t size, int flags) noexcept
    ssize_t read(int fd, void *data, size_t size) noexcept
    ssize_t write(int fd, const void *data, size_t size) noexcept
    int shutdown(int fd, int how) noexcept
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size) noexcept
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size) noexcept
    int close(int fd) noexcept
    int dup(int fd) noexcept
    int fcntl(int fd, int command, ...) noexcept
    long syscall(long number, ...) noexcept

    cdef enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        EPOLLRDHUP
        POLLIN
        EFD_CLOEXEC
        EFD_NONBLOCK
    cdef uint32_t EPOLLET             # does not fit a signed enum

    ctypedef union epoll_data_t:
        void *ptr
        int fd
        uint32_t u32
        uint64_t u64

    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data

    cdef struct pollfd:
        int fd
        short events
        short revents

    int epoll_create1(int flags) noexcept
    int epoll_ctl(int epoll_fd, int operation, int fd, epoll_event *event) noexcept
    int epoll_wait(int epoll_fd, epoll_event *events, int capacity, int timeout_ms) noexcept
    int eventfd(unsigned int value, int flags) noexcept
    int poll(pollfd *descriptors, unsigned long count, int timeout_ms) noexcept

    cdef enum:
        PROT_READ
        PROT_WRITE
        MAP_PRIVATE
        MAP_ANONYMOUS
    void *MAP_FAILED
    void *mmap(void *address, size_t size, int protection, int flags, int fd, long offset) noexcept
    int munmap(void *address, size_t size) noexcept
