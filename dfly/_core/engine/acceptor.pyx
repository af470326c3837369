"""The accepting side: one thread accepts, connections go round the shard threads.

A descriptor travels to its thread in an accept_message_t (heap; freed by the receiver). Refusals are
written and closed here, with Redis' words, before a connection exists.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.string cimport memcmp, memset, strlen, strerror

from dfly._core.engine.balance cimport balance_place
from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport listener_open, listener_t, proactor_post, proactor_t
from dfly._core.net.connection cimport (CONNECTION_ADMIN, CONNECTION_AUTHENTICATED, CONNECTION_UNIX_SOCKET,
                                        connection_open, net_thread_t)
from dfly._core.net.posix cimport (AF_INET, AF_INET6, getpeername, sockaddr, sockaddr_in, sockaddr_in6,
                                   sockaddr_storage, socklen_t)
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_load_relaxed

__abi__ = DFLY_ABI_STAMP

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void *data, size_t size) noexcept
    int close(int fd) noexcept

cdef struct accept_message_t:
    message_t message
    int fd
    uint32_t flags
    uint64_t id                  # given on acceptance, so that ids follow the order of connecting

cdef extern from *:
    """
    #define DFLY_FULL "-ERR max number of clients reached\\r\\n"
    #define DFLY_DENIED "-DENIED dfly is running in protected mode because protected mode is enabled and no " \
        "password is set for the default user. In this mode connections are only accepted from the loopback " \
        "interface. To connect from other computers either set a password with the requirepass setting, " \
        "or set protected-mode to no (with CONFIG SET from the same host, in the configuration file, or on " \
        "the command line), or start the server bound to the addresses you trust only.\\r\\n"
    """
    const char *DFLY_FULL
    const char *DFLY_DENIED


cdef bint peer_is_local(int fd) noexcept nogil:
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    cdef const unsigned char *bytes_
    cdef unsigned char loopback[16]
    memset(&address, 0, sizeof(address))
    if getpeername(fd, <sockaddr *>&address, &size) != 0:
        return False
    if address.ss_family == AF_INET:
        bytes_ = <const unsigned char *>&(<sockaddr_in *>&address).sin_addr
        return bytes_[0] == 127
    if address.ss_family == AF_INET6:
        bytes_ = (<sockaddr_in6 *>&address).sin6_addr.s6_addr
        memset(loopback, 0, sizeof(loopback))
        loopback[15] = 1
        if memcmp(bytes_, loopback, 16) == 0:
            return True
        # ::ffff:127.x.x.x
        return bytes_[10] == 0xFF and bytes_[11] == 0xFF and bytes_[12] == 127
    return True


cdef void refuse_client(executor_t *executor, int fd, const char *text) noexcept nogil:
    # One attempt into an empty socket buffer; a client that cannot take it is closed all the same.
    write(fd, text, strlen(text))
    close(fd)
    executor.stats.connections_rejected += 1


cdef void open_here(message_t *message, void *context) noexcept nogil:
    """On the connection's own thread."""
    cdef accept_message_t *accepted = <accept_message_t *>message
    cdef net_thread_t *net = <net_thread_t *>(<proactor_t *>context).context
    cdef executor_t *executor = <executor_t *>net.context
    cdef server_t *server = executor.server
    connection_open(net, &server.service, accepted.fd, accepted.id, accepted.flags)
    net_free(accepted)


cdef void on_accept(listener_t *listener, int fd) noexcept nogil:
    cdef acceptor_t *self = <acceptor_t *>listener
    cdef server_t *server = self.server
    cdef uint32_t flags = self.flags
    cdef accept_message_t *accepted
    cdef executor_t *target
    self.logged_error = False
    if self.is_protected and server.settings.protected_mode and not server.settings.has_password \
            and not flags & CONNECTION_UNIX_SOCKET and not peer_is_local(fd):
        refuse_client(self.executor, fd, DFLY_DENIED)
        return
    if <int64_t>atomic_load_relaxed(&server.connected_clients) >= server.settings.maxclients \
            and not flags & CONNECTION_ADMIN:
        refuse_client(self.executor, fd, DFLY_FULL)
        return
    atomic_add(&server.connected_clients, 1)
    if not server.settings.has_password or flags & CONNECTION_ADMIN and server.admin_without_password:
        flags |= CONNECTION_AUTHENTICATED
    accepted = <accept_message_t *>net_zalloc(sizeof(accept_message_t))
    accepted.fd = fd
    accepted.flags = flags
    accepted.id = atomic_add(&server.next_client_id, 1)
    accepted.message.run = open_here
    target = balance_place(server)
    if target == self.executor:
        open_here(&accepted.message, &target.proactor)
    else:
        proactor_post(&target.proactor, &accepted.message)


cdef void on_accept_error(listener_t *listener, int error) noexcept nogil:
    cdef acceptor_t *self = <acceptor_t *>listener
    if not self.logged_error:
        # Once until the next success: at descriptor exhaustion this would fill the log.
        self.logged_error = True
        fprintf(stderr, "Accepting client connection: %s\n", strerror(error if error > 0 else -error))


cdef int acceptor_open(acceptor_t *self, server_t *server, executor_t *executor, int fd, uint32_t flags) noexcept nogil:
    memset(self, 0, sizeof(acceptor_t))
    self.server = server
    self.executor = executor
    self.flags = flags
    self.listener.on_accept = on_accept
    self.listener.on_error = on_accept_error
    return listener_open(&self.listener, &executor.proactor, fd)
