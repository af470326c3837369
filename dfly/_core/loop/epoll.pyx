"""The epoll backend, for kernels and containers without a useful io_uring.

Level-triggered: a bounded number of reads per stream and tick goes into one buffer of the proactor,
so no connection starves the others and an idle one holds no memory; what is left in the socket
is reported again by the next wait. Sending is tried at once; only a full socket is watched
for room. in_flight stays 0: nothing outlives a call.

Interest is registered per stream as it changes. A descriptor without interest still reports EPOLLHUP
and EPOLLERR in every wait, so it is taken out of the set until there is interest again.

The user data of an event is a pointer: with bit 0 set to a listener, NULL for the eventfd, else
to a stream.
"""

from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport int64_t, uint32_t, uintptr_t
from libc.stdio cimport snprintf
from libc.string cimport strerror

from dfly._core.loop.backend cimport (
    STREAM_WATCHED, STREAM_WATCH_READ, STREAM_WATCH_WRITE, loop_state_t,
)
from dfly._core.loop.proactor cimport backend_t, listener_t, proactor_options_t, proactor_t, stream_t
from dfly._core.loop.stream cimport (
    listener_accepted, listener_failed, listener_finish, stream_begin_close, stream_ended,
    stream_received, stream_send_now,
)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK
from dfly._core.sys.posix_net cimport (
    EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL,
    EPOLL_CTL_MOD, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_NONBLOCK, accept4, close, epoll_create1,
    epoll_ctl, epoll_event, epoll_wait, recv,
)

__abi__ = DFLY_ABI_STAMP

cdef enum:
    EVENTS_A_WAIT = 256
    READS_A_TICK = 4
    ACCEPTS_A_TICK = 64
    DEFAULT_BUFFER_SIZE = 65536
    WATCH_ANY = STREAM_WATCH_READ | STREAM_WATCH_WRITE

cdef struct epoll_t:
    loop_state_t loop
    int fd
    int event_count
    char *buffer
    size_t buffer_size
    epoll_event events[EVENTS_A_WAIT]


cdef inline epoll_t *epoll_of(proactor_t *proactor) noexcept nogil:
    return <epoll_t *>proactor.backend_state


cdef int setup(proactor_t *proactor, const proactor_options_t *options) noexcept nogil:
    cdef epoll_t *self
    cdef epoll_event event
    cdef int error
    cdef int fd = epoll_create1(EPOLL_CLOEXEC)
    event.events = EPOLLIN | EPOLLET
    event.data.ptr = NULL
    if fd < 0 or epoll_ctl(fd, EPOLL_CTL_ADD, proactor.wake_fd, &event) != 0:
        error = errno
        if fd >= 0:
            close(fd)
        snprintf(proactor.backend_reason, sizeof(proactor.backend_reason), "epoll: %s", strerror(error))
        return -error
    self = <epoll_t *>net_zalloc(sizeof(epoll_t))
    self.fd = fd
    self.buffer_size = options.receive_buffer_size if options.receive_buffer_size else DEFAULT_BUFFER_SIZE
    self.buffer = <char *>net_alloc(self.buffer_size)
    proactor.backend_state = self
    return 0


cdef void teardown(proactor_t *proactor) noexcept nogil:
    cdef epoll_t *self = epoll_of(proactor)
    close(self.fd)
    net_free(self.buffer)
    net_free(self)


cdef void wait(proactor_t *proactor, int64_t timeout_us) noexcept nogil:
    cdef epoll_t *self = epoll_of(proactor)
    cdef int timeout_ms = -1
    if timeout_us >= 0:
        timeout_us = (timeout_us + 999) // 1000
        timeout_ms = <int>timeout_us if timeout_us < 1000000000 else 1000000000
    self.event_count = epoll_wait(self.fd, self.events, EVENTS_A_WAIT, timeout_ms)
    if self.event_count < 0:
        DFLY_CHECK(errno == EINTR, "epoll_wait failed")
        self.event_count = 0


cdef int watch(stream_t *stream, uint32_t wanted) noexcept nogil:
    """Register exactly the interest `wanted` (of WATCH_ANY); 0 or -errno."""
    cdef epoll_event event
    cdef int operation = EPOLL_CTL_MOD if stream.state & STREAM_WATCHED else EPOLL_CTL_ADD
    if stream.state & STREAM_WATCHED and stream.state & WATCH_ANY == wanted:
        return 0
    event.events = EPOLLIN if wanted & STREAM_WATCH_READ else 0
    if wanted & STREAM_WATCH_WRITE:
        event.events |= EPOLLOUT
    event.data.ptr = stream
    if epoll_ctl(epoll_of(stream.proactor).fd, operation, stream.fd, &event) != 0:
        return -errno
    stream.state = (stream.state & ~<uint32_t>WATCH_ANY) | wanted | STREAM_WATCHED
    return 0


cdef void unwatch(stream_t *stream) noexcept nogil:
    cdef epoll_event event
    if not stream.state & STREAM_WATCHED:
        return
    epoll_ctl(epoll_of(stream.proactor).fd, EPOLL_CTL_DEL, stream.fd, &event)
    stream.state &= ~<uint32_t>(WATCH_ANY | STREAM_WATCHED)


cdef void rewatch(stream_t *stream, uint32_t wanted) noexcept nogil:
    cdef int error = watch(stream, wanted)
    if error != 0:
        stream_begin_close(stream, error)


cdef int stream_attach(stream_t *stream) noexcept nogil:
    cdef int error = watch(stream, STREAM_WATCH_READ)
    stream.is_reading = error == 0
    return error


cdef void stream_detach(stream_t *stream) noexcept nogil:
    # Explicitly, not by close: a forked child may still hold the open file, which would stay registered.
    unwatch(stream)
    stream.is_reading = False


cdef void read_start(stream_t *stream) noexcept nogil:
    stream.is_reading = True
    rewatch(stream, (stream.state & STREAM_WATCH_WRITE) | STREAM_WATCH_READ)


cdef void read_stop(stream_t *stream) noexcept nogil:
    stream.is_reading = False
    rewatch(stream, stream.state & STREAM_WATCH_WRITE)


cdef void flush(stream_t *stream) noexcept nogil:
    if not stream_send_now(stream):
        rewatch(stream, (stream.state & STREAM_WATCH_READ) | STREAM_WATCH_WRITE)


cdef void on_writable(stream_t *stream) noexcept nogil:
    if not stream_send_now(stream) or stream.is_closing:
        return
    # on_sent may have queued the next send; it is watched again only if the socket is full again.
    rewatch(stream, stream.state & STREAM_WATCH_READ)


cdef void on_readable(stream_t *stream) noexcept nogil:
    cdef epoll_t *self = epoll_of(stream.proactor)
    cdef ssize_t size
    cdef int _i
    for _i in range(READS_A_TICK):
        size = recv(stream.fd, self.buffer, self.buffer_size, MSG_DONTWAIT)
        if size > 0:
            stream_received(stream, self.buffer, <size_t>size)
            if not stream.is_reading or <size_t>size < self.buffer_size:
                return
        elif size == 0:
            read_stop(stream)
            stream_ended(stream)
            return
        elif errno == EAGAIN:
            return
        elif errno != EINTR:
            stream_begin_close(stream, -errno)
            return


cdef void on_stream_event(stream_t *stream, uint32_t events) noexcept nogil:
    if stream.is_closing:
        return
    if events & (EPOLLIN | EPOLLERR | EPOLLHUP) and stream.is_reading:
        on_readable(stream)
    if stream.is_closing:
        return
    if events & (EPOLLOUT | EPOLLERR | EPOLLHUP) and stream.state & STREAM_WATCH_WRITE:
        on_writable(stream)
    if not stream.is_closing and not stream.state & WATCH_ANY and events & (EPOLLERR | EPOLLHUP):
        unwatch(stream)


cdef int listener_attach(listener_t *listener) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN
    event.data.ptr = <void *>(<uintptr_t>listener | 1)
    if epoll_ctl(epoll_of(listener.proactor).fd, EPOLL_CTL_ADD, listener.fd, &event) != 0:
        return -errno
    return 0


cdef void listener_detach(listener_t *listener) noexcept nogil:
    cdef epoll_event event
    epoll_ctl(epoll_of(listener.proactor).fd, EPOLL_CTL_DEL, listener.fd, &event)
    listener_finish(listener)


cdef void on_acceptable(listener_t *listener) noexcept nogil:
    cdef epoll_event event
    cdef int fd
    cdef int _i
    for _i in range(ACCEPTS_A_TICK):
        if listener.is_closing:
            return
        fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd >= 0:
            listener_accepted(listener, fd)
        elif errno == EAGAIN:
            return
        elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
            fd = -errno
            epoll_ctl(epoll_of(listener.proactor).fd, EPOLL_CTL_DEL, listener.fd, &event)
            listener_failed(listener, fd)
            return
        # Anything else concerns the one connection (ECONNABORTED, EPROTO, EINTR ...): on to the next.


cdef void reap(proactor_t *proactor) noexcept nogil:
    cdef epoll_t *self = epoll_of(proactor)
    cdef uintptr_t target
    cdef int i
    for i in range(self.event_count):
        target = <uintptr_t>self.events[i].data.ptr
        proactor.stats.completions += 1
        if target == 0:
            proactor.stats.wakeups_received += 1
        elif target & 1:
            on_acceptable(<listener_t *>(target - 1))
        else:
            on_stream_event(<stream_t *>target, self.events[i].events)
    self.event_count = 0


cdef backend_t backend
backend.setup = setup
backend.teardown = teardown
backend.wait = wait
backend.reap = reap
backend.stream_attach = stream_attach
backend.stream_detach = stream_detach
backend.read_start = read_start
backend.read_stop = read_stop
backend.flush = flush
backend.listener_attach = listener_attach
backend.listener_detach = listener_detach
backend.file_start = NULL


cdef const backend_t *epoll_backend() noexcept nogil:
    return &backend
