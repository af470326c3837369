"""Test door of the loop: an echo server, a ping-pong of messages, and the plain structures.

Each class owns C structs and threads; Python sees only numbers. The echo server batches replies in
on_flush as the network room does, and counts every breach of the proactor's promises in
`violations` (data while paused, calls after on_closed, a short on_sent).
"""

import threading

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.loop.mailbox cimport mailbox_init, mailbox_push, mailbox_t, mailbox_take, message_t
from dfly._core.loop.proactor cimport (
    io_uring_probe, listener_close, listener_open, listener_t, proactor_deinit, proactor_init,
    proactor_options_t, proactor_post, proactor_run, proactor_stop, proactor_t, proactor_wake,
    stream_close, stream_join, stream_leave, stream_open, stream_pause_reading, stream_resume_reading, stream_send,
    stream_t,
)
from dfly._core.loop.timer cimport (
    timer_heap_deinit, timer_heap_init, timer_heap_t, timer_next_due, timer_run_due, timer_start,
    timer_stop, timer_t,
)
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_DEBUG_ENABLED, atomic_load, atomic_sub, cycle_ticks
from dfly._core.sys.posix_net cimport SOL_SOCKET, SO_SNDBUF, close, poll, setsockopt

__abi__ = DFLY_ABI_STAMP

debug_enabled = bool(DFLY_DEBUG_ENABLED)

cdef enum:
    MAX_LISTENERS = 4

# ---- echo ----------------------------------------------------------------------------------------

cdef struct buffer_t:
    char *data
    size_t size
    size_t capacity

cdef struct echo_t:
    stream_t stream
    server_t *server
    echo_t *previous
    echo_t *next
    echo_t *next_dirty
    bint is_dirty
    bint ended
    bint closed
    buffer_t pending             # received, not yet handed to the loop
    buffer_t sending             # the loop's until on_sent
    timer_t timer
    uint64_t received
    uint64_t stayed_since        # received when it last left the loop
    bint is_away

cdef struct server_t:
    proactor_t proactor
    listener_t listeners[MAX_LISTENERS]
    int listener_count
    echo_t *connections
    echo_t *dirty
    # How to behave.
    int send_buffer
    size_t pause_above           # pause reading while more than this waits to be sent; 0 = never
    int64_t pause_us             # pause this long after every piece of data; 0 = never
    size_t leave_after           # leave the loop after so many bytes, and join it again soon; 0 = never
    size_t close_after           # close with whatever is in flight after so many bytes; 0 = never
    # What happened.
    uint64_t opened
    uint64_t closed
    uint64_t closed_with_error
    uint64_t accept_errors
    uint64_t violations
    uint64_t pauses
    uint64_t leaves
    int last_error


cdef void buffer_append(buffer_t *self, const char *data, size_t size) noexcept nogil:
    if self.size + size > self.capacity:
        self.capacity = max(2 * self.capacity, self.size + size)
        self.data = <char *>net_realloc(self.data, self.capacity)
    memcpy(self.data + self.size, data, size)
    self.size += size


cdef void echo_mark_dirty(echo_t *self) noexcept nogil:
    if not self.is_dirty:
        self.is_dirty = True
        self.next_dirty = self.server.dirty
        self.server.dirty = self


cdef void echo_adjust_reading(echo_t *self) noexcept nogil:
    cdef size_t waiting = self.pending.size + self.sending.size
    if self.server.pause_above == 0:
        return
    if waiting > self.server.pause_above and not self.stream.is_paused:
        self.server.pauses += 1
        stream_pause_reading(&self.stream)
    elif waiting <= self.server.pause_above // 2 and self.stream.is_paused:
        stream_resume_reading(&self.stream)


cdef void echo_on_data(stream_t *stream, const char *data, size_t size) noexcept nogil:
    cdef echo_t *self = <echo_t *>stream
    if stream.is_paused or stream.is_closing or self.closed or self.ended:
        self.server.violations += 1
    if size == 0:
        self.ended = True
        echo_mark_dirty(self)
        return
    self.received += size
    buffer_append(&self.pending, data, size)
    echo_mark_dirty(self)
    echo_adjust_reading(self)
    if self.server.pause_us and not stream.is_paused:
        self.server.pauses += 1
        stream_pause_reading(stream)
        timer_start(&self.server.proactor.timers, &self.timer,
                    self.server.proactor.now_us + self.server.pause_us)
    if self.server.close_after and self.received >= self.server.close_after:
        timer_start(&self.server.proactor.timers, &self.timer, self.server.proactor.now_us + 2000)


cdef void echo_on_left(stream_t *stream) noexcept nogil:
    cdef echo_t *self = <echo_t *>stream
    if stream.in_flight or stream.is_closing or self.closed:
        self.server.violations += 1
    self.server.leaves += 1
    self.is_away = True
    timer_start(&self.server.proactor.timers, &self.timer, self.server.proactor.now_us + 300)


cdef void echo_on_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef echo_t *self = <echo_t *>timer.context
    if self.is_away:
        self.is_away = False
        stream_join(&self.stream, &self.server.proactor)
    elif self.server.close_after:
        stream_close(&self.stream, 0)
        stream_close(&self.stream, -1)      # idempotent: the first one counts
    else:
        stream_resume_reading(&self.stream)


cdef void echo_send(echo_t *self) noexcept nogil:
    cdef buffer_t swap
    if self.stream.is_sending or self.stream.is_closing:
        return
    if self.pending.size:
        swap = self.sending
        self.sending = self.pending
        self.pending = swap
        self.pending.size = 0
        stream_send(&self.stream, self.sending.data, self.sending.size)
    elif self.ended:
        stream_close(&self.stream, 0)


cdef void echo_on_sent(stream_t *stream, size_t sent) noexcept nogil:
    cdef echo_t *self = <echo_t *>stream
    if sent != self.sending.size or self.closed:
        self.server.violations += 1
    self.sending.size = 0
    echo_mark_dirty(self)
    echo_adjust_reading(self)
    if (self.server.leave_after and self.received - self.stayed_since >= self.server.leave_after
            and not self.pending.size and not self.ended):
        self.stayed_since = self.received
        stream_leave(stream)


cdef void echo_on_closed(stream_t *stream, int error) noexcept nogil:
    cdef echo_t *self = <echo_t *>stream
    cdef server_t *server = self.server
    cdef echo_t **link = &server.dirty
    if self.closed or stream.in_flight or stream.fd != -1:
        server.violations += 1
    self.closed = True
    server.closed += 1
    if error:
        server.closed_with_error += 1
        server.last_error = error
    timer_stop(&server.proactor.timers, &self.timer)
    while self.is_dirty and link[0] != NULL:
        if link[0] == self:
            link[0] = self.next_dirty
            break
        link = &link[0].next_dirty
    if self.previous != NULL:
        self.previous.next = self.next
    else:
        server.connections = self.next
    if self.next != NULL:
        self.next.previous = self.previous
    net_free(self.pending.data)
    net_free(self.sending.data)
    memset(self, 0xdd, sizeof(echo_t))
    net_free(self)


cdef void server_on_flush(proactor_t *proactor) noexcept nogil:
    cdef server_t *self = <server_t *>proactor.context
    cdef echo_t *echo = self.dirty
    cdef echo_t *following
    self.dirty = NULL
    while echo != NULL:
        following = echo.next_dirty
        echo.is_dirty = False
        echo_send(echo)
        echo = following


cdef void server_on_accept(listener_t *listener, int fd) noexcept nogil:
    cdef server_t *self = <server_t *>listener.proactor.context
    cdef echo_t *echo = <echo_t *>net_zalloc(sizeof(echo_t))
    if self.send_buffer:
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &self.send_buffer, sizeof(int))
    echo.server = self
    echo.stream.on_data = echo_on_data
    echo.stream.on_sent = echo_on_sent
    echo.stream.on_closed = echo_on_closed
    echo.stream.on_left = echo_on_left
    echo.timer.fire = echo_on_timer
    echo.timer.context = echo
    if stream_open(&echo.stream, &self.proactor, fd) != 0:
        close(fd)
        net_free(echo)
        return
    self.opened += 1
    echo.next = self.connections
    if echo.next != NULL:
        echo.next.previous = echo
    self.connections = echo


cdef void server_on_error(listener_t *listener, int error) noexcept nogil:
    cdef server_t *self = <server_t *>listener.proactor.context
    self.accept_errors += 1
    self.last_error = error


cdef void server_shut_down(server_t *self) noexcept nogil:
    cdef echo_t *echo = self.connections
    cdef echo_t *following
    cdef int i
    for i in range(self.listener_count):
        listener_close(&self.listeners[i])
    while echo != NULL:
        following = echo.next
        stream_close(&echo.stream, 0)
        echo = following
    proactor_deinit(&self.proactor)


cdef class EchoServer:
    """Echoes what it reads on the given listening descriptors (which become its own)."""

    cdef server_t *server
    cdef proactor_options_t options
    cdef object thread
    cdef object ready
    cdef list listeners
    cdef bint stopped
    cdef readonly object result
    cdef readonly str reason
    cdef public object connect       # for the test to hang its own on
    cdef public list clients

    def __cinit__(self, int backend, listeners, uint32_t ring_entries=0, uint32_t buffer_count=0,
                  uint32_t buffer_size=0, int send_buffer=0, size_t pause_above=0, int64_t pause_us=0,
                  size_t close_after=0, size_t leave_after=0):
        self.server = <server_t *>net_zalloc(sizeof(server_t))
        self.options.backend = backend
        self.options.ring_entries = ring_entries
        self.options.receive_buffer_count = buffer_count
        self.options.receive_buffer_size = buffer_size
        self.server.send_buffer = send_buffer
        self.server.pause_above = pause_above
        self.server.pause_us = pause_us
        self.server.close_after = close_after
        self.server.leave_after = leave_after
        self.listeners = list(listeners)
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.ready.wait()

    def __dealloc__(self):
        net_free(self.server)

    def _run(self):
        cdef int fd
        self.result = proactor_init(&self.server.proactor, 0, &self.options)
        self.reason = self.server.proactor.backend_reason.decode()
        if self.result != 0:
            self.ready.set()
            self.stopped = True
            return
        self.server.proactor.context = self.server
        self.server.proactor.on_flush = server_on_flush
        for fd in self.listeners:
            self.server.listeners[self.server.listener_count].on_accept = server_on_accept
            self.server.listeners[self.server.listener_count].on_error = server_on_error
            listener_open(&self.server.listeners[self.server.listener_count], &self.server.proactor, fd)
            self.server.listener_count += 1
        self.ready.set()
        with nogil:
            proactor_run(&self.server.proactor)
            server_shut_down(self.server)

    @property
    def thread_ident(self):
        return self.thread.ident

    @property
    def backend(self):
        return self.server.proactor.backend_kind

    def stop(self):
        """Stop, wait for the thread, and return the counters."""
        if not self.stopped:
            self.stopped = True
            proactor_stop(&self.server.proactor)
            self.thread.join(10)
            if self.thread.is_alive():
                raise RuntimeError("the echo server did not stop")
        return self.counters()

    def wake(self):
        proactor_wake(&self.server.proactor)

    def counters(self):
        counters = dict(self.server.proactor.stats)
        counters.update(
            opened=self.server.opened, closed=self.server.closed, pauses=self.server.pauses,
            leaves=self.server.leaves,
            closed_with_error=self.server.closed_with_error, violations=self.server.violations,
            accept_errors=self.server.accept_errors, last_error=self.server.last_error)
        return counters


def probe():
    """(result, reason) of io_uring_probe on this thread."""
    cdef char[160] reason
    cdef int result
    reason[0] = 0
    with nogil:
        result = io_uring_probe(reason, 160)
    return result, reason.decode()


# ---- ping-pong -----------------------------------------------------------------------------------

cdef struct ball_t:
    message_t message
    court_t *court
    int side                     # where it is
    uint64_t bounces
    uint64_t random

cdef struct court_t:
    proactor_t sides[2]
    uint64_t bounces_wanted
    uint64_t balls_left
    uint64_t spin_limit          # cycles


cdef void ball_run(message_t *message, void *context) noexcept nogil:
    cdef ball_t *self = <ball_t *>message
    cdef court_t *court = self.court
    cdef uint64_t until
    self.bounces += 1
    if self.bounces >= court.bounces_wanted:
        if atomic_sub(&court.balls_left, 1) == 0:
            proactor_stop(&court.sides[0])
            proactor_stop(&court.sides[1])
        return
    # A random pause moves the post over the other side's going to sleep.
    self.random = self.random * 6364136223846793005ULL + 1442695040888963407ULL
    until = cycle_ticks() + (self.random >> 33) % court.spin_limit
    while cycle_ticks() < until:
        pass
    if (self.random >> 60) == 0:
        poll(NULL, 0, 1)
    self.side = 1 - self.side
    proactor_post(&court.sides[self.side], message)


def ping_pong(int backend_a, int backend_b, int balls, uint64_t bounces, uint64_t spin_limit=20000,
              double timeout=30):
    """Bounce messages between two proactors without timers: a lost wake-up hangs. Counters of both."""
    cdef court_t *court = <court_t *>net_zalloc(sizeof(court_t))
    cdef ball_t *all_balls = <ball_t *>net_zalloc(balls * sizeof(ball_t))
    cdef int i
    court.bounces_wanted = bounces
    court.balls_left = balls
    court.spin_limit = spin_limit
    barrier = threading.Barrier(3)

    def play(int side, int backend):
        cdef proactor_options_t options
        memset(&options, 0, sizeof(options))
        options.backend = backend
        options.ring_entries = 8
        options.receive_buffer_count = 2
        result = proactor_init(&court.sides[side], side, &options)
        barrier.wait()
        if result == 0:
            with nogil:
                proactor_run(&court.sides[side])
        barrier.wait()
        proactor_deinit(&court.sides[side])

    threads = [threading.Thread(target=play, args=item, daemon=True)
               for item in ((0, backend_a), (1, backend_b))]
    for thread in threads:
        thread.start()
    barrier.wait()
    for i in range(balls):
        all_balls[i].message.run = ball_run
        all_balls[i].court = court
        all_balls[i].random = 0x9e3779b97f4a7c15ULL * (i + 1)
        all_balls[i].side = i & 1
        proactor_post(&court.sides[i & 1], &all_balls[i].message)
    try:
        barrier.wait(timeout)
    except threading.BrokenBarrierError:
        # The threads still use the memory: leak it.
        raise RuntimeError(f"hung with {atomic_load(&court.balls_left)} messages under way") from None
    for thread in threads:
        thread.join(10)
    counters = [dict(court.sides[0].stats), dict(court.sides[1].stats)]
    net_free(all_balls)
    net_free(court)
    return counters


# ---- structures ----------------------------------------------------------------------------------

cdef struct letter_t:
    message_t message
    uint32_t producer
    uint32_t number


cdef class Mailbox:
    cdef mailbox_t mailbox

    def __cinit__(self):
        mailbox_init(&self.mailbox)

    def push_many(self, uint32_t producer, uint32_t count):
        """Push letters 0 to count - 1, without the GIL; returns how often the mailbox was empty before."""
        cdef uint32_t i
        cdef uint32_t firsts = 0
        cdef letter_t *letter
        with nogil:
            for i in range(count):
                letter = <letter_t *>net_zalloc(sizeof(letter_t))
                letter.producer = producer
                letter.number = i
                firsts += mailbox_push(&self.mailbox, &letter.message)
        return firsts

    def take(self):
        """[(producer, number), ...], oldest first."""
        cdef message_t *message = mailbox_take(&self.mailbox)
        cdef message_t *following
        taken = []
        while message != NULL:
            following = message.next
            taken.append(((<letter_t *>message).producer, (<letter_t *>message).number))
            net_free(message)
            message = following
        return taken


cdef struct test_timer_t:
    timer_t timer
    uint32_t id
    int64_t again_us             # restart itself so much later; 0 = not
    uint32_t *fired
    uint32_t *fired_count
    timer_heap_t *heap


cdef void test_timer_fire(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef test_timer_t *self = <test_timer_t *>timer
    self.fired[self.fired_count[0]] = self.id
    self.fired_count[0] += 1
    if self.again_us:
        timer_start(self.heap, timer, timer.due_us + self.again_us)


cdef class Timers:
    """A heap of `count` timers, by number."""

    cdef timer_heap_t *heap
    cdef test_timer_t *timers
    cdef uint32_t count
    cdef uint32_t *fired
    cdef uint32_t fired_count

    def __cinit__(self, uint32_t count):
        cdef uint32_t i
        self.count = count
        self.heap = <timer_heap_t *>net_alloc(sizeof(timer_heap_t))
        self.timers = <test_timer_t *>net_zalloc(count * sizeof(test_timer_t))
        self.fired = <uint32_t *>net_alloc(1000000 * sizeof(uint32_t))
        timer_heap_init(self.heap)
        for i in range(count):
            self.timers[i].timer.fire = test_timer_fire
            self.timers[i].id = i
            self.timers[i].heap = self.heap
            self.timers[i].fired = self.fired
            self.timers[i].fired_count = &self.fired_count

    def __dealloc__(self):
        timer_heap_deinit(self.heap)
        net_free(self.heap)
        net_free(self.timers)
        net_free(self.fired)

    def start(self, uint32_t id, int64_t due_us, int64_t again_us=0):
        self.timers[id].again_us = again_us
        timer_start(self.heap, &self.timers[id].timer, due_us)

    def stop(self, uint32_t id):
        timer_stop(self.heap, &self.timers[id].timer)

    def is_running(self, uint32_t id):
        return self.timers[id].timer.position != 0

    def next_due(self):
        return timer_next_due(self.heap)

    def run_due(self, int64_t now_us, uint32_t limit=1000000):
        """Numbers of the timers that fired, in order."""
        cdef uint32_t i
        self.fired_count = 0
        count = timer_run_due(self.heap, now_us, limit)
        assert count == self.fired_count
        return [self.fired[i] for i in range(self.fired_count)]


def push_from_stack():
    """Hands a stack address to the mailbox: aborts in debug builds."""
    cdef mailbox_t mailbox
    cdef message_t message
    mailbox_init(&mailbox)
    mailbox_push(&mailbox, &message)


def start_timer_on_stack():
    cdef timer_heap_t heap
    cdef timer_t timer
    timer.position = 0
    timer_heap_init(&heap)
    timer_start(&heap, &timer, 1)
    timer_heap_deinit(&heap)


def send_from_stack():
    cdef stream_t *stream = <stream_t *>net_zalloc(sizeof(stream_t))
    cdef char[8] data
    stream.is_closing = True
    stream_send(stream, data, 8)
    net_free(stream)
