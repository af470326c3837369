"""Connections: buffers between the loop's stream and the service above. See connection.pxd.

Flow: stream.on_data -> service.on_input -> (replies appended to output, connection queued) ->
net_thread_flush at the end of the tick -> one stream_send -> on_sent returns the buffer.

Invariants: at most one send is in flight, from `sending`; `output` collects meanwhile. A connection
with references outlives its stream (is_closed) and is freed by the last connection_release.
An idle connection holds neither input nor output memory. Nothing here suspends.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memmove, memset

from dfly._core.loop.proactor cimport (BACKEND_IO_URING, proactor_t, stream_close, stream_open,
                                       stream_pause_reading, stream_resume_reading, stream_send, stream_t)
from dfly._core.loop.timer cimport timer_start, timer_t
from dfly._core.net.posix cimport (AF_INET, AF_INET6, IPPROTO_TCP, MSG_DONTWAIT, MSG_NOSIGNAL, SOL_SOCKET,
                                   SO_KEEPALIVE, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_NODELAY,
                                   getpeername, getsockname, inet_ntop, ntohs, send, setsockopt, sockaddr,
                                   sockaddr_in, sockaddr_in6, sockaddr_storage, sockaddr_un, socklen_t)
from dfly._core.resp.parser cimport parser_deinit, parser_init
from dfly._core.resp.reply cimport (reply_chain_free, reply_chain_join, reply_chain_pop, reply_chain_t,
                                    reply_chain_take, reply_init, reply_t)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    INPUT_KEEP_MAX = 1048576     # bytes kept for a connection that cannot run now, before reading stops
    INPUT_BUFFER_MIN = 1024
    PUSH_HOLD_CLIENTS = 8
    PUSH_HOLD_US_EACH = 3        # a send takes no less
    PUSH_HOLD_US_MAX = 500


cdef void net_thread_init(net_thread_t *self, proactor_t *proactor) noexcept nogil:
    memset(self, 0, sizeof(net_thread_t))
    self.proactor = proactor
    self.push_timer.fire = on_push_due
    self.buffer_cache = <char **>net_zalloc(BUFFER_CACHE_MAX * sizeof(char *))


cdef void take_buffer(net_thread_t *self, reply_t *output) noexcept nogil:
    if self.buffer_cached > 0:
        self.buffer_cached -= 1
        output.data = self.buffer_cache[self.buffer_cached]
    else:
        output.data = <char *>net_alloc(OUTPUT_BUFFER_SIZE)
    output.capacity = OUTPUT_BUFFER_SIZE
    output.size = 0


cdef void give_buffer(net_thread_t *self, reply_t *output) noexcept nogil:
    if output.data == NULL:
        return
    if output.capacity == OUTPUT_BUFFER_SIZE and self.buffer_cached < BUFFER_CACHE_MAX:
        self.buffer_cache[self.buffer_cached] = output.data
        self.buffer_cached += 1
    else:
        net_free(output.data)
    output.data = NULL
    output.capacity = 0
    output.size = 0


cdef void connection_prepare_output(connection_t *self) noexcept nogil:
    if self.output.data == NULL:
        take_buffer(self.thread, &self.output)


cdef void connection_queue_flush(connection_t *self) noexcept nogil:
    if self.is_flush_queued or self.is_closed:
        return
    self.is_flush_queued = True
    self.next_flush = self.thread.flush_list
    self.thread.flush_list = self
    connection_retain(self)


cdef void connection_queue_push(connection_t *self) noexcept nogil:
    cdef net_thread_t *thread = self.thread
    if self.is_push_queued or self.is_flush_queued or self.is_closed:
        return
    self.is_push_queued = True
    self.next_push = thread.push_list
    thread.push_list = self
    thread.push_count += 1
    connection_retain(self)


cdef void on_push_due(timer_t *timer, int64_t now_us) noexcept nogil:
    """The tick's flush, which follows, looks at the time."""


cdef bint hold_pushes(net_thread_t *self) noexcept nogil:
    """Sending to so many clients takes longer than this wait, and the last pushes have only just gone."""
    cdef int64_t now_us = self.proactor.now_us
    cdef int64_t hold_us = self.push_count * PUSH_HOLD_US_EACH
    if hold_us > PUSH_HOLD_US_MAX:
        hold_us = PUSH_HOLD_US_MAX
    if self.push_due_us != 0:
        return now_us < self.push_due_us
    # The other backend's waits are whole milliseconds.
    if self.push_count < PUSH_HOLD_CLIENTS or self.proactor.backend_kind != BACKEND_IO_URING:
        return False
    if now_us - self.push_sent_us >= 2 * hold_us:
        return False
    self.push_due_us = now_us + hold_us
    timer_start(&self.proactor.timers, &self.push_timer, self.push_due_us)
    return True


cdef void release_pushes(net_thread_t *self) noexcept nogil:
    cdef connection_t *connection = self.push_list
    cdef connection_t *following
    self.push_list = NULL
    self.push_count = 0
    self.push_due_us = 0
    self.push_tick = self.proactor.stats.ticks
    while connection != NULL:
        following = connection.next_push
        connection.is_push_queued = False
        connection_queue_flush(connection)
        connection_release(connection)
        connection = following


cdef void start_sending(connection_t *self) noexcept nogil:
    if not reply_chain_pop(&self.queue, &self.sending):
        self.sending = self.output
        self.output.data = NULL
        self.output.size = 0
        self.output.capacity = 0
    self.bytes_out += self.sending.size
    self.thread.net_output_bytes += self.sending.size
    stream_send(&self.stream, self.sending.data, self.sending.size)


cdef void net_thread_flush(net_thread_t *self) noexcept nogil:
    cdef connection_t *connection
    cdef connection_t *following
    if self.push_tick != 0 and self.push_tick != self.proactor.stats.ticks:
        # The kernel took them before this tick began.
        self.push_tick = 0
        self.push_sent_us = self.proactor.now_us
    if self.push_list != NULL and not hold_pushes(self):
        release_pushes(self)
    connection = self.flush_list
    self.flush_list = NULL
    while connection != NULL:
        following = connection.next_flush
        connection.is_flush_queued = False
        if not connection.is_closed and not connection.stream.is_closing:
            if not connection.stream.is_sending:
                if connection_has_output(connection):
                    start_sending(connection)
                else:
                    give_buffer(self, &connection.output)
                    close_if_finished(connection)
        connection_release(connection)
        connection = following


cdef void close_if_finished(connection_t *self) noexcept nogil:
    cdef bint waits = self.is_client_paused or self.is_paused_for_output
    if self.is_blocked and self.is_peer_done:
        # What it waits for may never come.
        stream_close(&self.stream, 0)
    elif ((self.flags & CONNECTION_CLOSE_AFTER_REPLY or self.is_peer_done and not waits)
            and not self.is_busy and not connection_has_output(self) and not self.stream.is_sending):
        stream_close(&self.stream, 0)


cdef void on_sent(stream_t *stream, size_t sent) noexcept nogil:
    cdef connection_t *self = <connection_t *>stream
    give_buffer(self.thread, &self.sending)
    if connection_has_output(self):
        connection_queue_flush(self)
        return
    if self.is_paused_for_output and not self.stream.is_closing:
        self.is_paused_for_output = False
        stream_resume_reading(&self.stream)
        self.service.on_input(self, NULL, 0)
    close_if_finished(self)
    if unlikely(self.thread.leaving != 0):
        self.service.on_sent(self)


cdef void on_data(stream_t *stream, const char *data, size_t size) noexcept nogil:
    cdef connection_t *self = <connection_t *>stream
    if size == 0:
        # The peer has finished sending: what it asked for, and what is kept of it, is still answered.
        self.is_peer_done = True
        connection_queue_flush(self)
        return
    self.bytes_in += size
    self.thread.net_input_bytes += size
    self.last_interaction_ms = self.thread.proactor.now_ms
    self.service.on_input(self, data, size)


cdef void connection_link(connection_t *self, net_thread_t *thread) noexcept nogil:
    self.thread = thread
    self.previous = NULL
    self.next = thread.connections
    if self.next != NULL:
        self.next.previous = self
    thread.connections = self
    thread.connection_count += 1


cdef void connection_unlink(connection_t *self) noexcept nogil:
    if self.thread.walk == self:
        self.thread.walk = self.next
    if self.previous != NULL:
        self.previous.next = self.next
    else:
        self.thread.connections = self.next
    if self.next != NULL:
        self.next.previous = self.previous
    self.thread.connection_count -= 1


cdef void on_closed(stream_t *stream, int error) noexcept nogil:
    cdef connection_t *self = <connection_t *>stream
    self.is_closed = True
    connection_unlink(self)
    self.service.on_close(self)
    connection_release(self)


cdef void connection_destroy(connection_t *self) noexcept nogil:
    reply_chain_free(&self.queue)
    give_buffer(self.thread, &self.output)
    give_buffer(self.thread, &self.sending)
    parser_deinit(&self.parser)
    net_free(self.input)
    net_free(self.name)
    net_free(self.library_name)
    net_free(self.library_version)
    net_free(self)


cdef void connection_retain(connection_t *self) noexcept nogil:
    self.references += 1


cdef void connection_release(connection_t *self) noexcept nogil:
    self.references -= 1
    if self.references == 0:
        connection_destroy(self)


cdef void format_address(const sockaddr_storage *address, char *out, size_t size) noexcept nogil:
    cdef char host[64]
    cdef const sockaddr_in *v4
    cdef const sockaddr_in6 *v6
    if address.ss_family == AF_INET:
        v4 = <const sockaddr_in *>address
        inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host))
        snprintf(out, size, "%s:%d", host, <int>ntohs(v4.sin_port))
    elif address.ss_family == AF_INET6:
        v6 = <const sockaddr_in6 *>address
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host))
        snprintf(out, size, "[%s]:%d", host, <int>ntohs(v6.sin6_port))
    else:
        # A client's end of a unix socket has no name: both are shown as the path of ours.
        snprintf(out, size, "%s:0", (<const sockaddr_un *>address).sun_path)


cdef void set_tcp_options(int fd, int64_t keepalive_s) noexcept nogil:
    cdef int on = 1
    cdef int idle = <int>keepalive_s
    cdef int interval = <int>(keepalive_s // 3) if keepalive_s >= 3 else 1
    cdef int count = 3
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(int))
    if keepalive_s > 0:
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(int))
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(int))
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(int))
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(int))


cdef void read_addresses(connection_t *self, int fd) noexcept nogil:
    cdef sockaddr_storage address
    cdef socklen_t size = sizeof(address)
    memset(&address, 0, sizeof(address))
    if getpeername(fd, <sockaddr *>&address, &size) == 0:
        format_address(&address, self.peer_address, sizeof(self.peer_address))
    size = sizeof(address)
    if getsockname(fd, <sockaddr *>&address, &size) == 0:
        format_address(&address, self.local_address, sizeof(self.local_address))


cdef connection_t *connection_open(net_thread_t *thread, const service_t *service, int fd, uint64_t id,
                                   uint32_t flags) noexcept nogil:
    cdef connection_t *self = <connection_t *>net_zalloc(sizeof(connection_t))
    self.thread = thread
    self.service = service
    self.id = id
    self.flags = flags
    self.resp = 2
    self.references = 1
    self.stream.on_data = on_data
    self.stream.on_sent = on_sent
    self.stream.on_closed = on_closed
    self.created_ms = thread.proactor.now_ms
    self.last_interaction_ms = self.created_ms
    parser_init(&self.parser)
    reply_init(&self.output, 2)
    reply_init(&self.sending, 2)
    read_addresses(self, fd)
    if flags & CONNECTION_UNIX_SOCKET:
        memcpy(self.peer_address, self.local_address, sizeof(self.peer_address))
    else:
        set_tcp_options(fd, thread.tcp_keepalive_s)
    connection_link(self, thread)
    thread.connections_received += 1
    if stream_open(&self.stream, thread.proactor, fd) != 0:
        on_closed(&self.stream, 0)
        return NULL
    service.on_open(self)
    return self


cdef void connection_close(connection_t *self) noexcept nogil:
    if not self.is_closed:
        stream_close(&self.stream, 0)


cdef void connection_kill(connection_t *self) noexcept nogil:
    cdef bint is_open = not self.is_closed and not self.stream.is_closing
    if is_open and not self.stream.is_sending and self.queue.first == NULL and self.output.size > 0:
        # An element that it has popped would be lost without its reply.
        send(self.stream.fd, self.output.data, self.output.size, MSG_DONTWAIT | MSG_NOSIGNAL)
    connection_close(self)


cdef void connection_close_after_reply(connection_t *self) noexcept nogil:
    self.flags |= CONNECTION_CLOSE_AFTER_REPLY
    connection_queue_flush(self)


cdef void connection_keep_input(connection_t *self, const char *data, size_t size) noexcept nogil:
    cdef size_t wanted = self.input_size + size
    cdef size_t grown
    if wanted > self.input_capacity:
        grown = self.input_capacity * 2
        if grown < INPUT_BUFFER_MIN:
            grown = INPUT_BUFFER_MIN
        if grown < wanted:
            grown = wanted
        # A large bulk announces its size: one allocation instead of many doublings.
        if grown < self.parser.bytes_wanted and self.input_size > 0:
            grown = self.parser.bytes_wanted
        self.input = <char *>net_realloc(self.input, grown)
        self.input_capacity = grown
    memcpy(self.input + self.input_size, data, size)
    self.input_size = wanted
    if self.is_busy and wanted > INPUT_KEEP_MAX and not self.stream.is_paused:
        stream_pause_reading(&self.stream)


cdef void connection_consume_input(connection_t *self, size_t size) noexcept nogil:
    self.input_size -= size
    if self.input_size == 0:
        net_free(self.input)
        self.input = NULL
        self.input_capacity = 0
    elif size > 0:
        memmove(self.input, self.input + size, self.input_size)
    if self.stream.is_paused and not self.is_paused_for_output and self.input_size <= INPUT_KEEP_MAX:
        stream_resume_reading(&self.stream)


cdef void connection_append(connection_t *self, reply_chain_t *chain) noexcept nogil:
    reply_chain_take(&self.queue, &self.output, False)
    reply_chain_join(&self.queue, chain)


cdef size_t connection_output_bytes(connection_t *self) noexcept nogil:
    return self.queue.size + self.output.size + self.sending.size


cdef size_t connection_memory(connection_t *self) noexcept nogil:
    return (sizeof(connection_t) + self.input_capacity + self.queue.capacity + self.output.capacity
            + self.sending.capacity + self.parser.argv_capacity * 16)
