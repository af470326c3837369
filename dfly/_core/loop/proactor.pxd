"""The proactor: the event loop of one shard thread, over io_uring or epoll.

One proactor belongs to one thread; only `proactor_post`, `proactor_wake` and `proactor_stop` may be
called from other threads. The backend (io_uring or epoll) is a table of functions, `backend_t`;
nothing above this room knows which one runs.

A tick: reap completions (stream callbacks) -> mailbox -> timers -> on_flush -> submit and, if
nothing is left to do, sleep until a completion, a wake-up or the next timer.

Streams. The owner embeds stream_t first in its own struct and keeps it until on_closed:
- on_data(stream, data, size): bytes arrived; borrowed until the callback returns. size 0: the peer
  has closed its sending side; a negative error goes to on_closed instead. The callback may call
  any stream_ function on this stream, also stream_close.
- stream_send(stream, data, size): one send in flight at a time (is_sending says so); data stays the
  loop's until on_sent(stream, sent) is called, from the loop, never from inside stream_send. Short
  writes are continued by the loop; sent is always the whole size, or the stream is closed.
- stream_pause_reading / stream_resume_reading: back-pressure; bytes that the kernel has already
  handed over are kept by the loop and delivered on resume.
  Errors that the peer causes while reading is paused are seen at the next send or resume.
- stream_leave: for another loop. Reading stops; once the kernel holds nothing of the stream, on_left(stream) comes
  from the loop, exactly once, unless the stream is closed before (then on_closed comes instead). From there until
  stream_join, on the new loop's thread, it belongs to no loop and no stream_ function may be called on it.
  Not while a send is in flight or reading is paused. Bytes that arrive meanwhile are delivered after stream_join.
- stream_close: idempotent; cancels what is in flight, closes the descriptor, and calls
  on_closed(stream, error) from a later point of the loop exactly once, when the kernel holds no
  pointer into the stream's memory any more. After on_closed the owner may free it. error is 0 or -errno.

Listeners. The loop owns the descriptor from a successful listener_open on and closes it some ticks after
listener_close; the listener's memory must stay until proactor_deinit.

Hooks. on_flush may run several times a tick: again whenever callbacks ran after it, so that what
they produced goes out before the thread sleeps. on_sleep and on_awake come in pairs and must not
call stream_ functions; a wake-up may also come between them before the thread really slept.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from dfly._core.loop.mailbox cimport mailbox_t, message_t
from dfly._core.loop.timer cimport timer_heap_t

cdef enum backend_kind_t:
    BACKEND_AUTO = 0
    BACKEND_IO_URING = 1
    BACKEND_EPOLL = 2

ctypedef void (*stream_data_t)(stream_t *stream, const char *data, size_t size) noexcept nogil
ctypedef void (*stream_sent_t)(stream_t *stream, size_t sent) noexcept nogil
ctypedef void (*stream_left_t)(stream_t *stream) noexcept nogil
ctypedef void (*stream_closed_t)(stream_t *stream, int error) noexcept nogil
ctypedef void (*listener_accept_t)(listener_t *listener, int fd) noexcept nogil
ctypedef void (*listener_error_t)(listener_t *listener, int error) noexcept nogil
ctypedef void (*proactor_hook_t)(proactor_t *proactor) noexcept nogil

cdef struct stream_t:
    proactor_t *proactor
    int fd                       # -1 once closed
    stream_data_t on_data
    stream_sent_t on_sent
    stream_closed_t on_closed
    stream_left_t on_left        # may be NULL where stream_leave is never called
    # The rest is the loop's own.
    bint is_sending
    bint is_reading              # a receive is armed (io_uring) or wanted (epoll)
    bint is_paused
    bint is_closing
    bint read_ended              # peer closed its sending side
    int close_error
    uint32_t in_flight           # completions the kernel still owes
    const char *send_data
    size_t send_size
    size_t send_done
    char *kept_data              # bytes that arrived while paused
    size_t kept_size
    size_t kept_capacity
    stream_t *next               # list of streams with something to do
    uint32_t state               # backend's bits

cdef struct listener_t:
    proactor_t *proactor
    int fd
    listener_accept_t on_accept  # a connected, non-blocking, close-on-exec descriptor: the callee's
    listener_error_t on_error    # accept failed (EMFILE ...): the loop tries again after 100 ms
    uint32_t in_flight
    bint is_closing
    listener_t *next

cdef struct proactor_stats_t:
    uint64_t ticks
    uint64_t sleeps
    uint64_t wakeups_sent        # to other threads
    uint64_t wakeups_received
    uint64_t completions
    uint64_t messages
    uint64_t timers
    uint64_t bytes_received
    uint64_t bytes_sent
    uint64_t receive_buffer_shortages     # ENOBUFS
    uint64_t submission_overflows         # SQ was full

cdef struct proactor_options_t:
    int backend                  # backend_kind_t
    uint32_t ring_entries        # SQ size, a power of two; 0 = default (1024)
    uint32_t receive_buffer_count   # provided buffers, a power of two; 0 = default (512)
    uint32_t receive_buffer_size    # bytes each; 0 = default (16384)

cdef struct backend_t            # private to the loop, defined at the end

cdef struct proactor_t:
    # Outlives every thread that may post to it: proactor_post looks at it behind its message.
    uint32_t index
    void *context                # the network room's per-thread state
    mailbox_t mailbox            # messages to this thread: run(message, proactor)
    timer_heap_t timers
    int64_t now_us               # monotonic, refreshed once a tick
    int64_t now_ms               # wall clock, refreshed once a tick
    uint64_t sleeping            # 1 while (about to be) asleep: see proactor_wake
    uint64_t notified            # proactor_wake was called since the tick began: do not sleep
    uint64_t stopping
    uint64_t files_in_flight     # calls of loop/file that the kernel or the helper thread has begun
    uint64_t wakers              # other threads that may be writing wake_fd right now
    proactor_hook_t on_flush     # at the end of each tick, before submitting; may be NULL
    proactor_hook_t on_sleep     # just before sleeping; may be NULL
    proactor_hook_t on_awake     # just after; may be NULL
    proactor_stats_t stats
    const backend_t *backend     # private to the loop, like backend_state
    void *backend_state
    int backend_kind             # the one that runs: BACKEND_IO_URING or BACKEND_EPOLL
    char backend_reason[160]     # why, for the log: e.g. "io_uring_setup: Operation not permitted"
    int wake_fd                  # eventfd
    bint (*fibers_ready)(proactor_t *) noexcept nogil   # set by the fiber hub; may be NULL

# Must be called on the thread that will run it. Returns 0 or -errno (message in backend_reason).
cdef int proactor_init(proactor_t *self, uint32_t index, const proactor_options_t *options) noexcept nogil
# On the thread that ran it, all streams closed or closing; waits at most a second for the kernel to let go.
cdef void proactor_deinit(proactor_t *self) noexcept nogil
# Runs ticks, at least one, until proactor_stop (returns False) or until fibers_ready says so (True). Behind a stop
# calls on files that are under way end, within FILES_END_US; none begins any more.
cdef bint proactor_run(proactor_t *self) noexcept nogil
cdef void proactor_stop(proactor_t *self) noexcept nogil                       # any thread
cdef void proactor_post(proactor_t *self, message_t *message) noexcept nogil   # any thread; wakes a sleeper
cdef void proactor_wake(proactor_t *self) noexcept nogil   # any thread; at least one more tick

# Arms receiving; 0, or -errno and the descriptor is still the caller's.
cdef int stream_open(stream_t *self, proactor_t *proactor, int fd) noexcept nogil
cdef void stream_send(stream_t *self, const char *data, size_t size) noexcept nogil
cdef void stream_pause_reading(stream_t *self) noexcept nogil
cdef void stream_resume_reading(stream_t *self) noexcept nogil
cdef void stream_leave(stream_t *self) noexcept nogil
cdef void stream_join(stream_t *self, proactor_t *proactor) noexcept nogil     # on that proactor's thread
cdef void stream_close(stream_t *self, int error) noexcept nogil

cdef int listener_open(listener_t *self, proactor_t *proactor, int fd) noexcept nogil   # a listening one
cdef void listener_close(listener_t *self) noexcept nogil

# Tries io_uring for real (setup, and a no-op through enter) on this thread; 0, or -errno with a reason.
cdef int io_uring_probe(char *reason, size_t reason_size) noexcept nogil

# Private to the loop: what a backend offers. (Here, since C wants the structs above declared first.)
cdef struct backend_t:
    # 0 or -errno, with the reason in proactor.backend_reason.
    int (*setup)(proactor_t *, const proactor_options_t *) noexcept nogil
    void (*teardown)(proactor_t *) noexcept nogil
    # Hands everything prepared to the kernel and waits for an event: timeout 0 not at all, -1 for ever.
    void (*wait)(proactor_t *, int64_t timeout_us) noexcept nogil
    # Calls back for what has arrived.
    void (*reap)(proactor_t *) noexcept nogil
    int (*stream_attach)(stream_t *) noexcept nogil
    # Drops the kernel's interest; what is in flight comes back as completions.
    void (*stream_detach)(stream_t *) noexcept nogil
    void (*read_start)(stream_t *) noexcept nogil
    void (*read_stop)(stream_t *) noexcept nogil
    # Sends what stream.send_data still holds, now or when the socket has room.
    void (*flush)(stream_t *) noexcept nogil
    int (*listener_attach)(listener_t *) noexcept nogil
    void (*listener_detach)(listener_t *) noexcept nogil
    # One system call of a file_request_t (loop/file), which hears of its result from the loop. NULL: the
    # helper thread does it.
    void (*file_start)(proactor_t *, void *request) noexcept nogil
