"""Streams and listeners, the part that does not depend on the backend.

What the owner of a stream asks for outside of the loop's own phases is put on the work list of its
proactor and done in one pass after on_flush: sending, delivering what was kept while reading
was paused, and closing. So on_sent and on_closed never come from inside the call that caused
them, and a stream's memory is given back at one place only.

Invariants:
- A stream is on the work list at most once (STREAM_QUEUED).
- A closing stream is finished from the list, once in_flight is 0; the completion that brings it to 0
  puts it there. on_closed is the last call it gets. A backend whose cancellation found nothing
  puts it there too, to try again.
- While kept_size > 0 or the end is kept, what arrives is appended, so the order of bytes holds.
- The pass works on a snapshot: what callbacks queue runs in the next pass. Nothing is reaped
  within it, so nothing is appended to kept data while that is being delivered.
"""

from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, errno
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from dfly._core.loop.backend cimport (
    ACCEPT_RETRY_US, STREAM_END_KEPT, STREAM_LEAVING, STREAM_QUEUED, STREAM_SEND_QUEUED, backend_of, loop_of,
    loop_state_t,
)
from dfly._core.loop.timer cimport timer_start, timer_stop, timer_t
from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP
from dfly._core.sys.posix_net cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, POLLIN, close, dup, poll, pollfd, send,
)

__abi__ = DFLY_ABI_STAMP


cdef void stream_queue(stream_t *self) noexcept nogil:
    cdef loop_state_t *loop
    if self.state & STREAM_QUEUED:
        return
    loop = loop_of(self.proactor)
    self.state |= STREAM_QUEUED
    self.next = NULL
    if loop.work_first == NULL:
        loop.work_first = self
    else:
        loop.work_last.next = self
    loop.work_last = self


cdef void keep(stream_t *self, const char *data, size_t size) noexcept nogil:
    if self.kept_size + size > self.kept_capacity:
        self.kept_capacity = max(2 * self.kept_capacity, self.kept_size + size)
        self.kept_data = <char *>net_realloc(self.kept_data, self.kept_capacity)
    memcpy(self.kept_data + self.kept_size, data, size)
    self.kept_size += size


cdef void stream_received(stream_t *self, const char *data, size_t size) noexcept nogil:
    if self.is_closing:
        return
    self.proactor.stats.bytes_received += size
    if self.is_paused or self.kept_size:
        keep(self, data, size)
    else:
        self.on_data(self, data, size)


cdef void stream_ended(stream_t *self) noexcept nogil:
    if self.is_closing or self.read_ended:
        return
    self.read_ended = True
    if self.is_paused or self.kept_size:
        self.state |= STREAM_END_KEPT
    else:
        self.on_data(self, "", 0)


cdef void deliver_kept(stream_t *self) noexcept nogil:
    cdef char *data = self.kept_data
    cdef size_t size = self.kept_size
    self.kept_data = NULL
    self.kept_size = 0
    self.kept_capacity = 0
    loop_of(self.proactor).callbacks += 1
    if size:
        self.on_data(self, data, size)
    net_free(data)
    if self.state & STREAM_END_KEPT and not self.is_paused and not self.is_closing:
        self.state &= ~<unsigned int>STREAM_END_KEPT
        self.on_data(self, "", 0)


cdef void stream_begin_close(stream_t *self, int error) noexcept nogil:
    if self.is_closing:
        return
    self.is_closing = True
    self.close_error = error
    loop_of(self.proactor).closing_streams += 1
    backend_of(self.proactor).stream_detach(self)
    if self.in_flight == 0:
        stream_queue(self)


cdef void finish(stream_t *self) noexcept nogil:
    cdef loop_state_t *loop = loop_of(self.proactor)
    close(self.fd)
    self.fd = -1
    self.is_sending = False
    net_free(self.kept_data)
    self.kept_data = NULL
    self.kept_size = 0
    loop.closing_streams -= 1
    loop.open_streams -= 1
    loop.callbacks += 1
    self.on_closed(self, self.close_error)


cdef bint stream_progress(stream_t *self, size_t sent) noexcept nogil:
    self.proactor.stats.bytes_sent += sent
    self.send_done += sent
    if self.send_done < self.send_size:
        return False
    self.is_sending = False
    self.send_data = NULL
    self.on_sent(self, self.send_size)
    return True


cdef bint stream_send_now(stream_t *self) noexcept nogil:
    cdef ssize_t sent
    while True:
        sent = send(self.fd, self.send_data + self.send_done, self.send_size - self.send_done,
                    MSG_NOSIGNAL | MSG_DONTWAIT)
        if sent >= 0:
            loop_of(self.proactor).callbacks += 1
            if stream_progress(self, <size_t>sent):
                return True
        elif errno == EAGAIN:
            return False
        elif errno != EINTR:
            stream_begin_close(self, -errno)
            return True


cdef void leave(stream_t *self) noexcept nogil:
    cdef loop_state_t *loop = loop_of(self.proactor)
    self.state &= ~<unsigned int>STREAM_LEAVING
    backend_of(self.proactor).stream_detach(self)
    loop.open_streams -= 1
    loop.callbacks += 1
    self.on_left(self)


cdef void run_stream(stream_t *self) noexcept nogil:
    self.state &= ~<unsigned int>STREAM_QUEUED
    if not self.is_closing and not self.is_paused and (self.kept_size or self.state & STREAM_END_KEPT):
        deliver_kept(self)
    if not self.is_closing and self.state & STREAM_SEND_QUEUED:
        self.state &= ~<unsigned int>STREAM_SEND_QUEUED
        backend_of(self.proactor).flush(self)
    if self.state & STREAM_QUEUED:
        return     # closed by a callback above: the next pass goes on
    if self.is_closing:
        if self.in_flight == 0:
            finish(self)
        else:
            backend_of(self.proactor).stream_detach(self)
    elif self.is_paused and self.is_reading:
        backend_of(self.proactor).read_stop(self)
    elif self.state & STREAM_LEAVING and self.in_flight == 0:
        leave(self)


cdef void stream_run_work(proactor_t *proactor) noexcept nogil:
    cdef loop_state_t *loop = loop_of(proactor)
    cdef stream_t *stream = loop.work_first
    cdef stream_t *following
    loop.work_first = NULL
    loop.work_last = NULL
    while stream != NULL:
        following = stream.next
        run_stream(stream)
        stream = following


cdef void listener_accepted(listener_t *self, int fd) noexcept nogil:
    if self.is_closing:
        close(fd)
    else:
        self.on_accept(self, fd)


cdef void listener_failed(listener_t *self, int error) noexcept nogil:
    """Out of descriptors or memory: trying again at once would spin."""
    cdef loop_state_t *loop = loop_of(self.proactor)
    if loop.retries == NULL:
        loop.retry_timer.fire = retry_accepts
        loop.retry_timer.context = self.proactor
        timer_start(&self.proactor.timers, &loop.retry_timer, self.proactor.now_us + ACCEPT_RETRY_US)
    self.next = loop.retries
    loop.retries = self
    if self.on_error != NULL:
        self.on_error(self, error)


cdef void retry_accepts(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef loop_state_t *loop = loop_of(<proactor_t *>timer.context)
    cdef listener_t *listener = loop.retries
    cdef listener_t *following
    loop.retries = NULL
    while listener != NULL:
        following = listener.next
        listener.next = NULL
        if not listener.is_closing:
            retry_accept(listener, now_us)
        listener = following


cdef void retry_accept(listener_t *self, int64_t now_us) noexcept nogil:
    # io_uring's accept takes its descriptor before it looks for a connection, so while the table is
    # full it would fail with nobody there. on_error is for connections that really wait.
    cdef loop_state_t *loop = loop_of(self.proactor)
    cdef pollfd waiting
    cdef int spare = dup(self.fd)
    if spare >= 0:
        close(spare)
        backend_of(self.proactor).listener_attach(self)
        return
    if errno == EMFILE or errno == ENFILE:
        waiting.fd = self.fd
        waiting.events = POLLIN
        waiting.revents = 0
        if poll(&waiting, 1, 0) == 1:
            listener_failed(self, -EMFILE)
            return
    if loop.retries == NULL:
        timer_start(&self.proactor.timers, &loop.retry_timer, now_us + ACCEPT_RETRY_US)
    self.next = loop.retries
    loop.retries = self


cdef void listener_forget_retry(listener_t *self) noexcept nogil:
    cdef loop_state_t *loop = loop_of(self.proactor)
    cdef listener_t **link = &loop.retries
    while link[0] != NULL:
        if link[0] == self:
            link[0] = self.next
            break
        link = &link[0].next
    if loop.retries == NULL:
        timer_stop(&self.proactor.timers, &loop.retry_timer)


cdef void listener_finish(listener_t *self) noexcept nogil:
    """The kernel holds nothing of it any more."""
    if self.fd >= 0:
        close(self.fd)
        self.fd = -1
        loop_of(self.proactor).open_listeners -= 1
        loop_of(self.proactor).closing_listeners -= 1
