"""The proactor's backend-neutral part: ticks, sleeping and waking, and the public stream calls.

Sleeping without losing a wake-up. The sleeper publishes sleeping = 1, fences, and only then looks
once more at the mailbox, at `notified` and at `stopping`. A producer publishes its message (or
notified, or stopping), fences, and only then looks at `sleeping`. Whatever the interleaving, one
of the two sees the other. The producer that swaps sleeping from 1 to 0 writes the eventfd, so
a sleeper gets one wake-up however many producers there are, and an awake proactor none.
The eventfd is never read: both backends watch it edge-triggered, each write is an edge.

A tick is wait -> reap -> mailbox -> timers -> on_flush and work list, the latter two repeated while
callbacks run, a few times. The first wait of proactor_run does not sleep: fibers that ran
since may have produced output that on_flush has not seen.
"""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strerror

from dfly._core.loop.backend cimport (
    FLUSH_ROUNDS, STREAM_END_KEPT, STREAM_LEAVING, STREAM_SEND_QUEUED, TIMERS_A_TICK, backend_of,
    loop_of, loop_state_t,
)
from dfly._core.loop.epoll cimport epoll_backend
from dfly._core.loop.mailbox cimport mailbox_init, mailbox_is_empty, mailbox_push, mailbox_take
from dfly._core.loop.stream cimport (
    listener_forget_retry, stream_begin_close, stream_queue, stream_run_work,
)
from dfly._core.loop.timer cimport timer_heap_deinit, timer_heap_init, timer_next_due, timer_run_due
from dfly._core.loop.uring cimport uring_backend, uring_probe
from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_CHECK, DFLY_DCHECK, atomic_add, atomic_exchange, atomic_load, atomic_store,
    atomic_sub, count_shown, dfly_on_thread_stack, full_fence,
)
from dfly._core.sys.clock cimport monotonic_us, wall_ms
from dfly._core.sys.posix_net cimport EFD_CLOEXEC, EFD_NONBLOCK, close, eventfd, write

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef extern from * nogil:
    """
    /* The proactor that the calling thread runs, to book the wake-ups it sends. */
    static __thread void *current_proactor;
    static inline void set_current_proactor(void *proactor) { current_proactor = proactor; }
    """
    void *current_proactor
    void set_current_proactor(void *proactor) noexcept

__abi__ = DFLY_ABI_STAMP

cdef int64_t DRAIN_US = 1000000
cdef int64_t FILES_END_US = 5000000
cdef int64_t FILES_WAIT_US = 1000


cdef void refresh_time(proactor_t *self) noexcept nogil:
    self.now_us = monotonic_us()
    self.now_ms = wall_ms()


cdef int set_up(proactor_t *self, const backend_t *backend, const proactor_options_t *options) noexcept nogil:
    self.backend = backend
    return backend.setup(self, options)


cdef int choose_backend(proactor_t *self, const proactor_options_t *options) noexcept nogil:
    cdef int wanted = options.backend
    cdef int error = 0
    cdef char why[160]
    if wanted != BACKEND_EPOLL:
        self.backend_kind = BACKEND_IO_URING
        error = set_up(self, uring_backend(), options)
        if error == 0 or wanted == BACKEND_IO_URING:
            return error
        snprintf(why, sizeof(why), "%s", self.backend_reason)
    else:
        snprintf(why, sizeof(why), "chosen by configuration")
    self.backend_kind = BACKEND_EPOLL
    error = set_up(self, epoll_backend(), options)
    if error == 0:
        snprintf(self.backend_reason, sizeof(self.backend_reason), "%s", why)
    return error


cdef int proactor_init(proactor_t *self, uint32_t index, const proactor_options_t *options) noexcept nogil:
    cdef int error
    memset(self, 0, sizeof(proactor_t))
    self.index = index
    mailbox_init(&self.mailbox)
    timer_heap_init(&self.timers)
    refresh_time(self)
    self.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if self.wake_fd < 0:
        error = -errno
        snprintf(self.backend_reason, sizeof(self.backend_reason), "eventfd: %s", strerror(-error))
        return error
    error = choose_backend(self, options)
    if error != 0:
        close(self.wake_fd)
        self.wake_fd = -1
        self.backend_state = NULL
    return error


cdef void proactor_deinit(proactor_t *self) noexcept nogil:
    cdef loop_state_t *loop = loop_of(self)
    cdef int64_t until = monotonic_us() + DRAIN_US
    if loop == NULL:
        return
    set_current_proactor(self)
    while loop.closing_streams or loop.closing_listeners or loop.work_first != NULL:
        if self.now_us >= until:
            break
        stream_run_work(self)
        backend_of(self).wait(self, 0 if loop.work_first != NULL else 10000)
        refresh_time(self)
        backend_of(self).reap(self)
    DFLY_DCHECK(loop.open_streams == 0, "proactor_deinit with open streams")
    backend_of(self).teardown(self)
    self.backend_state = NULL
    timer_heap_deinit(&self.timers)
    # The thread was woken by something else meanwhile, and another thread is still about to wake it.
    while atomic_load(&self.wakers):
        sched_yield()
    close(self.wake_fd)
    self.wake_fd = -1
    set_current_proactor(NULL)


cdef inline int64_t time_to_sleep(proactor_t *self) noexcept nogil:
    """Microseconds until the next timer; -1 without one, 0 when there is something to do now."""
    cdef loop_state_t *loop = loop_of(self)
    cdef int64_t due
    if loop.work_first != NULL or loop.unsettled or not mailbox_is_empty(&self.mailbox):
        return 0
    due = timer_next_due(&self.timers)
    if due < 0:
        return -1
    due -= monotonic_us()
    return due if due > 0 else 0


cdef inline bint nothing_came(proactor_t *self) noexcept nogil:
    return (mailbox_is_empty(&self.mailbox) and not atomic_load(&self.notified)
            and not atomic_load(&self.stopping))


cdef void wait_for_events(proactor_t *self, bint may_sleep) noexcept nogil:
    cdef int64_t timeout_us = time_to_sleep(self) if may_sleep else 0
    if timeout_us == 0 or not nothing_came(self):
        backend_of(self).wait(self, 0)
        refresh_time(self)
        return
    if self.on_sleep != NULL:
        self.on_sleep(self)
    atomic_exchange(&self.sleeping, 1)     # sequentially consistent: the fence of the protocol
    if nothing_came(self):
        count_shown(&self.stats.sleeps)
        backend_of(self).wait(self, timeout_us)
    else:
        backend_of(self).wait(self, 0)
    atomic_store(&self.sleeping, 0)
    refresh_time(self)
    if self.on_awake != NULL:
        self.on_awake(self)


cdef void run_messages(proactor_t *self) noexcept nogil:
    cdef message_t *message = mailbox_take(&self.mailbox)
    cdef message_t *following
    while message != NULL:
        following = message.next
        self.stats.messages += 1
        message.run(message, self)
        message = following


cdef void flush_output(proactor_t *self) noexcept nogil:
    cdef loop_state_t *loop = loop_of(self)
    cdef uint64_t before
    cdef int _i
    loop.unsettled = True
    for _i in range(FLUSH_ROUNDS):
        if self.on_flush != NULL:
            self.on_flush(self)
        before = loop.callbacks
        if loop.work_first != NULL:
            stream_run_work(self)
        if loop.callbacks == before:
            loop.unsettled = False
            return


cdef void finish_files(proactor_t *self) noexcept nogil:
    """A file that is made behind the end would stay where nobody looks for it."""
    cdef int64_t until = monotonic_us() + FILES_END_US
    while self.files_in_flight > 0 and monotonic_us() < until:
        backend_of(self).wait(self, FILES_WAIT_US)
        backend_of(self).reap(self)
        run_messages(self)


cdef bint proactor_run(proactor_t *self) noexcept nogil:
    cdef bint may_sleep = False
    set_current_proactor(self)
    while True:
        wait_for_events(self, may_sleep)
        may_sleep = True
        # Before anything is looked at: what is announced from here on keeps the next wait short.
        if atomic_load(&self.notified):
            atomic_exchange(&self.notified, 0)
        count_shown(&self.stats.ticks)
        backend_of(self).reap(self)
        run_messages(self)
        self.stats.timers += timer_run_due(&self.timers, self.now_us, TIMERS_A_TICK)
        flush_output(self)
        if atomic_load(&self.stopping):
            backend_of(self).wait(self, 0)     # what is prepared shall still go out
            finish_files(self)
            return False
        if self.fibers_ready != NULL and self.fibers_ready(self):
            return True


cdef void wake_sleeper(proactor_t *self) noexcept nogil:
    cdef uint64_t one = 1
    cdef ssize_t written
    full_fence()
    if not atomic_load(&self.sleeping):
        return
    # Whoever finds sleeping set is counted before: proactor_deinit waits for the write.
    atomic_add(&self.wakers, 1)
    if not atomic_exchange(&self.sleeping, 0):
        atomic_sub(&self.wakers, 1)
        return
    written = write(self.wake_fd, &one, sizeof(one))
    atomic_sub(&self.wakers, 1)
    DFLY_CHECK(written == sizeof(one), "a wake-up could not be written")
    if current_proactor != NULL:
        (<proactor_t *>current_proactor).stats.wakeups_sent += 1


cdef void proactor_stop(proactor_t *self) noexcept nogil:
    atomic_store(&self.stopping, 1)
    wake_sleeper(self)


cdef void proactor_post(proactor_t *self, message_t *message) noexcept nogil:
    mailbox_push(&self.mailbox, message)
    wake_sleeper(self)


cdef void proactor_wake(proactor_t *self) noexcept nogil:
    atomic_store(&self.notified, 1)
    wake_sleeper(self)


cdef int stream_open(stream_t *self, proactor_t *proactor, int fd) noexcept nogil:
    cdef int error
    DFLY_DCHECK(not dfly_on_thread_stack(self), "a stream must not lie on a stack")
    self.proactor = proactor
    self.fd = fd
    self.is_sending = False
    self.is_reading = False
    self.is_paused = False
    self.is_closing = False
    self.read_ended = False
    self.close_error = 0
    self.in_flight = 0
    self.send_data = NULL
    self.send_size = 0
    self.send_done = 0
    self.kept_data = NULL
    self.kept_size = 0
    self.kept_capacity = 0
    self.next = NULL
    self.state = 0
    error = backend_of(proactor).stream_attach(self)
    if error == 0:
        loop_of(proactor).open_streams += 1
    return error


cdef void stream_send(stream_t *self, const char *data, size_t size) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(data), "data to send must not lie on a stack")
    DFLY_DCHECK(not self.is_sending, "stream_send while a send is in flight")
    if self.is_closing:
        return
    self.is_sending = True
    self.send_data = data
    self.send_size = size
    self.send_done = 0
    self.state |= STREAM_SEND_QUEUED
    stream_queue(self)


cdef void stream_pause_reading(stream_t *self) noexcept nogil:
    if self.is_paused or self.is_closing:
        return
    self.is_paused = True
    if self.is_reading:
        backend_of(self.proactor).read_stop(self)


cdef void stream_resume_reading(stream_t *self) noexcept nogil:
    if not self.is_paused or self.is_closing:
        return
    self.is_paused = False
    if self.kept_size or self.state & STREAM_END_KEPT:
        stream_queue(self)
    if not self.is_reading and not self.read_ended:
        backend_of(self.proactor).read_start(self)


cdef void stream_leave(stream_t *self) noexcept nogil:
    DFLY_DCHECK(not self.is_sending and not self.is_paused, "a stream that leaves is at rest")
    if self.is_closing or self.state & STREAM_LEAVING:
        return
    self.state |= STREAM_LEAVING
    stream_pause_reading(self)
    stream_queue(self)


cdef void stream_join(stream_t *self, proactor_t *proactor) noexcept nogil:
    self.proactor = proactor
    self.next = NULL
    loop_of(proactor).open_streams += 1
    stream_resume_reading(self)


cdef void stream_close(stream_t *self, int error) noexcept nogil:
    stream_begin_close(self, error)


cdef int listener_open(listener_t *self, proactor_t *proactor, int fd) noexcept nogil:
    cdef int error
    self.proactor = proactor
    self.fd = fd
    self.in_flight = 0
    self.is_closing = False
    self.next = NULL
    error = backend_of(proactor).listener_attach(self)
    if error == 0:
        loop_of(proactor).open_listeners += 1
    return error


cdef void listener_close(listener_t *self) noexcept nogil:
    if self.is_closing:
        return
    self.is_closing = True
    loop_of(self.proactor).closing_listeners += 1
    listener_forget_retry(self)
    backend_of(self.proactor).listener_detach(self)


cdef int io_uring_probe(char *reason, size_t reason_size) noexcept nogil:
    return uring_probe(reason, reason_size)
