"""The io_uring backend. The only module that links liburing.

Set-up tries the kernel's features from best to plain and keeps what works; provided buffer rings and
multishot receive are required (without them epoll is the better choice), and are tested with
a real receive over a socket pair, since containers and old kernels fail in many ways. Rings are
entered by hand: one io_uring_enter per tick submits everything prepared and waits.

Receiving: one multishot RECV per stream, taking buffers from the proactor's ring of provided buffers
when data arrives; a buffer goes back as soon as on_data returns, so idle connections hold none.
The ring starts with few buffers, a megabyte instead of eight, and grows to its full size on
shortages (ENOBUFS ends the multishot; the bytes wait in the socket, and it is armed again).
Sending: tried directly (a system call, but the outcome is known at once and no completion ends the
next wait early); what the socket does not take is a SEND with MSG_WAITALL. Sending all by SEND cost as
much CPU: 0.42 us an echoed command at pipeline 32 against 0.43, without a pipeline 13.2 against 12.5.
Waking: a multishot POLL of the eventfd, which needs no read. (MSG_RING from the sender's ring measured
no better, and would hold the wake-up back until the sender's tick ends.)

Invariants:
- Every armed request counts in the in_flight of its stream or listener and of the ring until its
  completion without MORE. Memory the kernel may touch is not given back before.
- user_data is the address of the stream or listener with the request's kind in the low three bits.
- A cancellation is a request like any other and may fail to find what it should end: a receive that
  found data when it was armed is queued as task work, in no list that the kernel searches, and
  goes on afterwards. So it is repeated until what it was meant for has completed.
- A completion is copied and its slot released before the callback, so callbacks may submit.

Source: io_uring_enter(2), io_uring_setup(2), io_uring_register(2), linux/io_uring.h.
"""

from libc.errno cimport (
    EAGAIN, EBUSY, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSYS, EPERM, ETIME, errno,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdio cimport snprintf
from libc.string cimport memset, strerror

from dfly._core.loop.backend cimport STREAM_CANCELLING, STREAM_LEAVING, loop_state_t
from dfly._core.loop.file cimport (
    FILE_CLOSE, FILE_FSYNC, FILE_OPEN, FILE_READ, FILE_RENAME, FILE_UNLINK, FILE_WRITE, file_request_t,
)
from dfly._core.loop.proactor cimport backend_t, listener_t, proactor_options_t, proactor_t, stream_t
from dfly._core.loop.stream cimport (
    listener_accepted, listener_failed, listener_finish, stream_begin_close, stream_ended,
    stream_progress, stream_queue, stream_received, stream_send_now,
)
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, DFLY_DCHECK, prefetch_write
from dfly._core.sys.clock cimport monotonic_us
from dfly._core.sys.liburing cimport (
    IORING_CQE_F_BUFFER, IORING_ENTER_GETEVENTS, IORING_OP_ACCEPT, IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE,
    IORING_OP_FSYNC, IORING_OP_NOP, IORING_OP_OPENAT, IORING_OP_POLL_ADD, IORING_OP_READ, IORING_OP_RECV,
    IORING_OP_RENAMEAT, IORING_OP_SEND, IORING_OP_UNLINKAT, IORING_OP_WRITE, IOSQE_ASYNC,
    IOSQE_BUFFER_SELECT, URING_ACCEPT_MULTISHOT,
    URING_CANCEL_ALL, URING_CANCEL_ANY, URING_CANCEL_FD, URING_CQE_BUFFER_SHIFT, URING_CQE_F_MORE,
    URING_ENTER_EXT_ARG, URING_ENTER_NO_IOWAIT, URING_ENTER_REGISTERED_RING, URING_FEAT_EXT_ARG,
    URING_FEAT_NODROP, URING_FEAT_NO_IOWAIT, URING_POLL_ADD_MULTI, URING_RECVSEND_POLL_FIRST,
    URING_RECV_MULTISHOT, URING_REGISTER_PBUF_RING, URING_REGISTER_RING_FDS, URING_SETUP_CLAMP,
    URING_SETUP_COOP_TASKRUN, URING_SETUP_CQSIZE, URING_SETUP_DEFER_TASKRUN, URING_SETUP_NO_SQARRAY,
    URING_SETUP_SINGLE_ISSUER, URING_SETUP_SUBMIT_ALL, URING_SETUP_TASKRUN_FLAG, URING_SQ_CQ_OVERFLOW,
    URING_SQ_TASKRUN, URING_UNREGISTER_RING_FDS, __NR_io_uring_enter, __NR_io_uring_register, io_uring_cqe,
    io_uring_params, io_uring_queue_exit, io_uring_queue_init_params, io_uring_ring, io_uring_sqe,
    uring_buffer_registration_t, uring_buffer_t, uring_load, uring_ring_registration_t, uring_store,
    uring_store16, uring_timespec_t, uring_wait_argument_t,
)
from dfly._core.sys.posix_net cimport (
    AF_UNIX, AT_FDCWD, ECANCELED, EFD_CLOEXEC, EFD_NONBLOCK, EPOLLIN, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE,
    MSG_NOSIGNAL, MSG_WAITALL, PROT_READ, PROT_WRITE, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, close,
    eventfd, mmap, munmap, send, socketpair, syscall,
)

__abi__ = DFLY_ABI_STAMP

cdef enum kind_t:
    KIND_IGNORED = 0
    KIND_RECEIVE = 1
    KIND_SEND = 2
    KIND_ACCEPT = 3
    KIND_WAKE = 4
    KIND_TEST = 5                # or, with an owner, a file request
    KIND_CANCEL = 6
    KIND_CANCEL_ACCEPT = 7
    KIND_MASK = 7

cdef enum:
    DEFAULT_ENTRIES = 1024
    DEFAULT_BUFFER_COUNT = 512
    DEFAULT_BUFFER_SIZE = 16384
    INITIAL_BUFFERS = 4          # doubled at each shortage
    BUFFER_STAGGER = 192         # buffers on whole pages would all fall into the same cache sets
    SUBMIT_ATTEMPTS = 1000
    TEARDOWN_US = 1000000

cdef uint8_t[8] FILE_OPCODES
FILE_OPCODES[<int>FILE_OPEN] = IORING_OP_OPENAT
FILE_OPCODES[<int>FILE_READ] = IORING_OP_READ
FILE_OPCODES[<int>FILE_WRITE] = IORING_OP_WRITE
FILE_OPCODES[<int>FILE_FSYNC] = IORING_OP_FSYNC
FILE_OPCODES[<int>FILE_RENAME] = IORING_OP_RENAMEAT
FILE_OPCODES[<int>FILE_UNLINK] = IORING_OP_UNLINKAT
FILE_OPCODES[<int>FILE_CLOSE] = IORING_OP_CLOSE

cdef struct uring_t:
    loop_state_t loop
    io_uring_ring ring
    int enter_fd                 # the ring, or its registered index
    uint32_t enter_flags         # that go with every enter
    uint32_t setup_flags
    bint is_registered
    uint32_t sq_mask
    uint32_t sq_entries
    uint32_t sq_tail
    uint32_t cq_mask
    uint64_t in_flight
    # The ring of provided buffers and the memory it hands out, one mapping each.
    uring_buffer_t *buffers
    size_t buffers_size
    char *memory
    size_t memory_size
    uint32_t buffer_count
    uint32_t buffer_active       # how many of them are in circulation
    uint32_t buffer_size
    uint16_t buffer_tail
    uint16_t buffer_published
    # What the test completions of set-up said.
    int test_result
    uint32_t test_flags


cdef inline uring_t *uring_of(proactor_t *proactor) noexcept nogil:
    return <uring_t *>proactor.backend_state


# ---- entering ------------------------------------------------------------------------------------

cdef inline uint32_t unsubmitted(uring_t *self) noexcept nogil:
    return self.sq_tail - uring_load(self.ring.sq.khead)


cdef int enter(uring_t *self, uint32_t wait_for, int64_t timeout_us) noexcept nogil:
    """Submit all that is prepared, run the kernel's deferred work, and maybe wait. 0 or errno."""
    cdef uring_timespec_t timeout
    cdef uring_wait_argument_t argument
    cdef uint32_t flags = self.enter_flags | IORING_ENTER_GETEVENTS | URING_ENTER_EXT_ARG
    memset(&argument, 0, sizeof(argument))
    if wait_for and timeout_us >= 0:
        timeout.seconds = timeout_us // 1000000
        timeout.nanoseconds = timeout_us % 1000000 * 1000
        argument.timeout = <uintptr_t>&timeout
    uring_store(self.ring.sq.ktail, self.sq_tail)
    if syscall(__NR_io_uring_enter, self.enter_fd, unsubmitted(self), wait_for, flags, &argument,
               sizeof(argument)) < 0:
        return errno
    return 0


cdef inline void publish_buffers(uring_t *self) noexcept nogil:
    if self.buffer_published != self.buffer_tail:
        uring_store16(&self.buffers[0].tail, self.buffer_tail)
        self.buffer_published = self.buffer_tail


cdef void make_room(proactor_t *proactor, uring_t *self) noexcept nogil:
    """The submission queue is full: hand it over and go on."""
    cdef int _attempt
    cdef int error
    proactor.stats.submission_overflows += 1
    for _attempt in range(SUBMIT_ATTEMPTS):
        error = enter(self, 0, 0)
        DFLY_CHECK(error == 0 or error == EAGAIN or error == EBUSY or error == EINTR or error == ENOMEM,
                   "io_uring_enter failed")
        if unsubmitted(self) < self.sq_entries:
            return
    DFLY_CHECK(False, "the kernel takes no submissions")


cdef io_uring_sqe *next_sqe(proactor_t *proactor, int opcode, int fd, void *owner, int kind) noexcept nogil:
    cdef uring_t *self = uring_of(proactor)
    cdef io_uring_sqe *sqe
    DFLY_DCHECK(<uintptr_t>owner & KIND_MASK == 0, "streams and listeners must be 8-byte aligned")
    if unsubmitted(self) >= self.sq_entries:
        make_room(proactor, self)
    sqe = &self.ring.sq.sqes[self.sq_tail & self.sq_mask]
    self.sq_tail += 1
    memset(sqe, 0, sizeof(io_uring_sqe))
    sqe.opcode = <uint8_t>opcode
    sqe.fd = fd
    sqe.user_data = <uintptr_t>owner | <uintptr_t>kind
    return sqe


cdef void wait(proactor_t *proactor, int64_t timeout_us) noexcept nogil:
    cdef uring_t *self = uring_of(proactor)
    cdef uint32_t wait_for = 1 if timeout_us != 0 else 0
    cdef int error
    publish_buffers(self)
    if wait_for == 0 and unsubmitted(self) == 0 and self.setup_flags & URING_SETUP_TASKRUN_FLAG and not (
            uring_load(self.ring.sq.kflags) & (URING_SQ_TASKRUN | URING_SQ_CQ_OVERFLOW)):
        return
    error = enter(self, wait_for, timeout_us)
    DFLY_CHECK(error == 0 or error == ETIME or error == EINTR or error == EAGAIN or error == EBUSY
               or error == ENOMEM, "io_uring_enter failed")


# ---- requests ------------------------------------------------------------------------------------

cdef inline void count_request(stream_t *stream) noexcept nogil:
    stream.in_flight += 1
    uring_of(stream.proactor).in_flight += 1


cdef inline void uncount_request(stream_t *stream) noexcept nogil:
    stream.in_flight -= 1
    uring_of(stream.proactor).in_flight -= 1


cdef void read_start(stream_t *stream) noexcept nogil:
    cdef io_uring_sqe *sqe = next_sqe(stream.proactor, IORING_OP_RECV, stream.fd, stream, KIND_RECEIVE)
    sqe.ioprio = URING_RECV_MULTISHOT
    sqe.flags = IOSQE_BUFFER_SELECT
    stream.is_reading = True
    count_request(stream)


cdef io_uring_sqe *cancel(stream_t *stream, int fd) noexcept nogil:
    stream.state |= STREAM_CANCELLING
    count_request(stream)
    return next_sqe(stream.proactor, IORING_OP_ASYNC_CANCEL, fd, stream, KIND_CANCEL)


cdef void read_stop(stream_t *stream) noexcept nogil:
    if not stream.state & STREAM_CANCELLING:
        cancel(stream, -1).addr = <uintptr_t>stream | KIND_RECEIVE


cdef int stream_attach(stream_t *stream) noexcept nogil:
    read_start(stream)
    return 0


cdef void stream_detach(stream_t *stream) noexcept nogil:
    if stream.in_flight and not stream.state & STREAM_CANCELLING:
        cancel(stream, stream.fd).cancel_flags = URING_CANCEL_FD | URING_CANCEL_ALL


cdef void send_rest(stream_t *stream, int poll_first) noexcept nogil:
    cdef io_uring_sqe *sqe = next_sqe(stream.proactor, IORING_OP_SEND, stream.fd, stream, KIND_SEND)
    cdef size_t rest = stream.send_size - stream.send_done
    sqe.addr = <uintptr_t>(stream.send_data + stream.send_done)
    sqe.len = <uint32_t>(rest if rest < 0x40000000 else 0x40000000)
    sqe.msg_flags = MSG_NOSIGNAL | MSG_WAITALL
    sqe.ioprio = <uint16_t>poll_first
    count_request(stream)


cdef void flush(stream_t *stream) noexcept nogil:
    if not stream_send_now(stream):
        send_rest(stream, URING_RECVSEND_POLL_FIRST)


cdef int listener_attach(listener_t *listener) noexcept nogil:
    cdef io_uring_sqe *sqe = next_sqe(listener.proactor, IORING_OP_ACCEPT, listener.fd, listener, KIND_ACCEPT)
    sqe.ioprio = URING_ACCEPT_MULTISHOT
    sqe.accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC
    listener.in_flight += 1
    uring_of(listener.proactor).in_flight += 1
    return 0


cdef void listener_detach(listener_t *listener) noexcept nogil:
    cdef io_uring_sqe *sqe
    if listener.in_flight == 0:
        listener_finish(listener)
        return
    sqe = next_sqe(listener.proactor, IORING_OP_ASYNC_CANCEL, -1, listener, KIND_CANCEL_ACCEPT)
    sqe.addr = <uintptr_t>listener | KIND_ACCEPT
    listener.in_flight += 1
    uring_of(listener.proactor).in_flight += 1


cdef void arm_wake(proactor_t *proactor) noexcept nogil:
    cdef io_uring_sqe *sqe = next_sqe(proactor, IORING_OP_POLL_ADD, proactor.wake_fd, NULL, KIND_WAKE)
    sqe.len = URING_POLL_ADD_MULTI
    sqe.poll32_events = EPOLLIN
    uring_of(proactor).in_flight += 1


cdef void file_start(proactor_t *proactor, void *wanted) noexcept nogil:
    """To the kernel's workers at once: in place a write into the page cache would take this thread's time."""
    cdef file_request_t *request = <file_request_t *>wanted
    cdef int opcode = FILE_OPCODES[request.operation]
    cdef io_uring_sqe *sqe = next_sqe(proactor, opcode, request.fd, request, KIND_TEST)
    cdef size_t rest = request.size - request.done
    sqe.flags = IOSQE_ASYNC
    if request.operation == FILE_READ or request.operation == FILE_WRITE:
        sqe.addr = <uintptr_t>(request.data + request.done)
        sqe.len = <uint32_t>(rest if rest < 0x40000000 else 0x40000000)
        sqe.off = request.offset + request.done
    elif request.path != NULL:
        sqe.fd = AT_FDCWD
        sqe.addr = <uintptr_t>request.path
        if request.operation == FILE_OPEN:
            sqe.len = request.mode
            sqe.open_flags = <uint32_t>request.flags
        elif request.operation == FILE_RENAME:
            sqe.len = <uint32_t>AT_FDCWD
            sqe.off = <uintptr_t>request.new_path
    uring_of(proactor).in_flight += 1


# ---- provided buffers ----------------------------------------------------------------------------

cdef inline char *buffer_address(uring_t *self, uint32_t index) noexcept nogil:
    return self.memory + <size_t>index * (self.buffer_size + BUFFER_STAGGER)


cdef inline void give_buffer(uring_t *self, uint32_t index) noexcept nogil:
    # Field by field: the last one of entry 0 is the ring's tail.
    cdef uring_buffer_t *entry = &self.buffers[self.buffer_tail & (self.buffer_count - 1)]
    entry.address = <uintptr_t>buffer_address(self, index)
    entry.size = self.buffer_size
    entry.id = <uint16_t>index
    self.buffer_tail += 1


cdef void circulate_buffers(uring_t *self, uint32_t count) noexcept nogil:
    while self.buffer_active < count and self.buffer_active < self.buffer_count:
        give_buffer(self, self.buffer_active)
        self.buffer_active += 1


# ---- completions ---------------------------------------------------------------------------------

cdef void on_receive(stream_t *stream, int result, uint32_t flags) noexcept nogil:
    cdef uring_t *self = uring_of(stream.proactor)
    cdef uint32_t index = flags >> URING_CQE_BUFFER_SHIFT
    if not flags & URING_CQE_F_MORE:
        uncount_request(stream)
        stream.is_reading = False
    if result > 0:
        stream_received(stream, buffer_address(self, index), <size_t>result)
    if flags & IORING_CQE_F_BUFFER:
        give_buffer(self, index)
    if flags & URING_CQE_F_MORE:
        return
    if stream.is_closing:
        if stream.in_flight == 0:
            stream_queue(stream)
        return
    if result == 0:
        stream_ended(stream)
        if stream.state & STREAM_LEAVING and stream.in_flight == 0:
            stream_queue(stream)
        return
    if result == -ENOBUFS:
        stream.proactor.stats.receive_buffer_shortages += 1
        circulate_buffers(self, 2 * self.buffer_active)
    elif result < 0 and result != -ECANCELED and result != -EAGAIN and result != -EINTR:
        stream_begin_close(stream, result)
        return
    # on_data may have resumed reading itself.
    if not stream.is_paused and not stream.is_reading:
        read_start(stream)
    elif stream.state & STREAM_LEAVING and stream.in_flight == 0:
        stream_queue(stream)


cdef void on_send(stream_t *stream, int result) noexcept nogil:
    uncount_request(stream)
    if stream.is_closing:
        if stream.in_flight == 0:
            stream_queue(stream)
        return
    if result < 0 and result != -ECANCELED and result != -EAGAIN and result != -EINTR:
        stream_begin_close(stream, result)
    elif not stream_progress(stream, <size_t>(result if result > 0 else 0)):
        send_rest(stream, URING_RECVSEND_POLL_FIRST)


cdef void on_accept(listener_t *listener, int result, uint32_t flags) noexcept nogil:
    if not flags & URING_CQE_F_MORE:
        listener.in_flight -= 1
        uring_of(listener.proactor).in_flight -= 1
    if result >= 0:
        listener_accepted(listener, result)
    if flags & URING_CQE_F_MORE:
        return
    if listener.is_closing:
        if listener.in_flight == 0:
            listener_finish(listener)
    elif (result == -EMFILE or result == -ENFILE or result == -ENOBUFS or result == -ENOMEM
            or result == -EINVAL):
        listener_failed(listener, result)
    else:
        # The others concern the one connection (ECONNABORTED ...): on to the next.
        listener_attach(listener)


cdef void on_cancel(stream_t *stream) noexcept nogil:
    uncount_request(stream)
    stream.state &= ~<uint32_t>STREAM_CANCELLING
    # What was cancelled completes right behind this; the work list looks whether it did.
    if stream.is_closing or (stream.is_paused and stream.is_reading) or stream.state & STREAM_LEAVING:
        stream_queue(stream)


cdef void on_cancel_accept(listener_t *listener) noexcept nogil:
    listener.in_flight -= 1
    uring_of(listener.proactor).in_flight -= 1
    listener_detach(listener)


cdef void on_wake(proactor_t *proactor, uint32_t flags) noexcept nogil:
    proactor.stats.wakeups_received += 1
    if not flags & URING_CQE_F_MORE:
        uring_of(proactor).in_flight -= 1
        arm_wake(proactor)


cdef void dispatch(proactor_t *proactor, uintptr_t owner, int result, uint32_t flags) noexcept nogil:
    cdef int kind = owner & KIND_MASK
    owner &= ~<uintptr_t>KIND_MASK
    if kind == KIND_RECEIVE:
        on_receive(<stream_t *>owner, result, flags)
    elif kind == KIND_SEND:
        on_send(<stream_t *>owner, result)
    elif kind == KIND_WAKE:
        on_wake(proactor, flags)
    elif kind == KIND_ACCEPT:
        on_accept(<listener_t *>owner, result, flags)
    elif kind == KIND_CANCEL:
        on_cancel(<stream_t *>owner)
    elif kind == KIND_CANCEL_ACCEPT:
        on_cancel_accept(<listener_t *>owner)
    elif kind == KIND_TEST and owner != 0:
        uring_of(proactor).in_flight -= 1
        (<file_request_t *>owner).on_result(<file_request_t *>owner, result)
    elif kind == KIND_TEST:
        uring_of(proactor).test_result = result
        uring_of(proactor).test_flags = flags


cdef void reap(proactor_t *proactor) noexcept nogil:
    cdef uring_t *self = uring_of(proactor)
    cdef uint32_t head = self.ring.cq.khead[0]
    cdef uint32_t tail = uring_load(self.ring.cq.ktail)
    cdef io_uring_cqe *cqe
    cdef uint64_t owner
    cdef int32_t result
    cdef uint32_t flags
    proactor.stats.completions += tail - head
    while head != tail:
        cqe = &self.ring.cq.cqes[head & self.cq_mask]
        owner = cqe.user_data
        result = cqe.res
        flags = cqe.flags
        head += 1
        if head != tail:
            prefetch_write(<void *>(<uintptr_t>self.ring.cq.cqes[head & self.cq_mask].user_data
                                    & ~<uintptr_t>KIND_MASK))
        uring_store(self.ring.cq.khead, head)
        dispatch(proactor, <uintptr_t>owner, result, flags)
    publish_buffers(self)


# ---- set-up and teardown -------------------------------------------------------------------------

cdef int create_ring(uring_t *self, uint32_t entries, io_uring_params *params) noexcept nogil:
    """From the best set of flags to the plain one. 0 or -errno of the plain one."""
    cdef uint32_t common = URING_SETUP_CLAMP | URING_SETUP_CQSIZE
    cdef uint32_t[5] candidates
    cdef int error = 0
    cdef int i
    candidates[0] = (URING_SETUP_SUBMIT_ALL | URING_SETUP_SINGLE_ISSUER | URING_SETUP_DEFER_TASKRUN
                     | URING_SETUP_TASKRUN_FLAG)
    candidates[1] = (URING_SETUP_SUBMIT_ALL | URING_SETUP_SINGLE_ISSUER | URING_SETUP_COOP_TASKRUN
                     | URING_SETUP_TASKRUN_FLAG)
    candidates[2] = URING_SETUP_SUBMIT_ALL | URING_SETUP_COOP_TASKRUN | URING_SETUP_TASKRUN_FLAG
    candidates[3] = URING_SETUP_SUBMIT_ALL
    candidates[4] = 0
    for i in range(5):
        memset(params, 0, sizeof(io_uring_params))
        params.flags = common | candidates[i]
        params.cq_entries = 4 * entries
        error = io_uring_queue_init_params(entries, &self.ring, params)
        if error != -EINVAL:
            break
    return error


cdef void adopt_ring(uring_t *self, io_uring_params *params) noexcept nogil:
    cdef uring_ring_registration_t registration
    cdef uint32_t i
    self.setup_flags = params.flags
    self.sq_mask = self.ring.sq.kring_mask[0]
    self.sq_entries = self.ring.sq.kring_entries[0]
    self.cq_mask = self.ring.cq.kring_mask[0]
    self.sq_tail = self.ring.sq.ktail[0]
    # Without the array the ring's slots are used in order, which is what it says here anyway.
    if not params.flags & URING_SETUP_NO_SQARRAY:
        for i in range(self.sq_entries):
            self.ring.sq.array[i] = i
    self.enter_fd = self.ring.ring_fd
    if params.features & URING_FEAT_NO_IOWAIT:
        self.enter_flags |= URING_ENTER_NO_IOWAIT
    registration.offset = <uint32_t>-1
    registration.reserved = 0
    registration.data = <uint64_t>self.ring.ring_fd
    if syscall(__NR_io_uring_register, self.ring.ring_fd, URING_REGISTER_RING_FDS, &registration, 1) == 1:
        self.enter_fd = <int>registration.offset
        self.enter_flags |= URING_ENTER_REGISTERED_RING
        self.is_registered = True


cdef void *map_memory(size_t size) noexcept nogil:
    cdef void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    DFLY_CHECK(memory != MAP_FAILED, "out of memory for receive buffers")
    return memory


cdef uint32_t power_of_two(uint32_t wanted, uint32_t limit) noexcept nogil:
    cdef uint32_t size = 1
    while size < wanted and size < limit:
        size *= 2
    return size


cdef int register_buffers(uring_t *self) noexcept nogil:
    cdef uring_buffer_registration_t registration
    self.buffers_size = self.buffer_count * sizeof(uring_buffer_t)
    self.buffers = <uring_buffer_t *>map_memory(self.buffers_size)
    self.memory_size = <size_t>self.buffer_count * (self.buffer_size + BUFFER_STAGGER)
    self.memory = <char *>map_memory(self.memory_size)
    memset(&registration, 0, sizeof(registration))
    registration.ring_address = <uintptr_t>self.buffers
    registration.ring_entries = self.buffer_count
    if syscall(__NR_io_uring_register, self.ring.ring_fd, URING_REGISTER_PBUF_RING, &registration, 1) < 0:
        return -errno
    circulate_buffers(self, INITIAL_BUFFERS)
    publish_buffers(self)
    return 0


cdef int await_test(proactor_t *proactor) noexcept nogil:
    """Wait for one completion of KIND_TEST; 0 or -errno of entering."""
    cdef uring_t *self = uring_of(proactor)
    cdef int64_t until = monotonic_us() + 1000000
    cdef int error
    self.test_result = -ETIME
    self.test_flags = 0
    while self.test_result == -ETIME and monotonic_us() < until:
        error = enter(self, 1, 100000)
        if error != 0 and error != ETIME and error != EINTR:
            return -error
        reap(proactor)
    return 0


cdef int test_receive(proactor_t *proactor, int *pair) noexcept nogil:
    """A byte through a multishot receive into a provided buffer, then its end: -errno or 0."""
    cdef uring_t *self = uring_of(proactor)
    cdef io_uring_sqe *sqe = next_sqe(proactor, IORING_OP_RECV, pair[0], NULL, KIND_TEST)
    cdef int error
    sqe.ioprio = URING_RECV_MULTISHOT
    sqe.flags = IOSQE_BUFFER_SELECT
    if send(pair[1], "x", 1, MSG_NOSIGNAL) != 1:
        return -errno
    error = await_test(proactor)
    if error != 0:
        return error
    if self.test_flags & IORING_CQE_F_BUFFER:
        give_buffer(self, self.test_flags >> URING_CQE_BUFFER_SHIFT)
        publish_buffers(self)
    if self.test_result != 1 or not self.test_flags & URING_CQE_F_MORE:
        return self.test_result if self.test_result < 0 else -EINVAL
    close(pair[1])
    pair[1] = -1
    error = await_test(proactor)
    return error if error != 0 else self.test_result


cdef int test_ring(proactor_t *proactor) noexcept nogil:
    cdef int[2] pair
    cdef int error
    next_sqe(proactor, IORING_OP_NOP, -1, NULL, KIND_TEST)
    error = await_test(proactor)
    if error == 0:
        error = uring_of(proactor).test_result
    if error != 0:
        return explain(proactor, "io_uring_enter", error)
    if socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0:
        return explain(proactor, "socketpair", -errno)
    error = test_receive(proactor, pair)
    close(pair[0])
    if pair[1] >= 0:
        close(pair[1])
    if error != 0:
        return explain(proactor, "multishot receive", error)
    return 0


cdef int explain(proactor_t *proactor, const char *what, int error) noexcept nogil:
    cdef const char *hint = ""
    if error == -EPERM:
        hint = " (forbidden by seccomp or by kernel.io_uring_disabled)"
    elif error == -ENOSYS:
        hint = " (a kernel without io_uring, or a container that hides it)"
    elif error == -EINVAL:
        hint = " (the kernel is too old for it)"
    snprintf(proactor.backend_reason, sizeof(proactor.backend_reason), "%s: %s%s", what,
             strerror(-error), hint)
    return error


cdef void describe(proactor_t *proactor, uring_t *self) noexcept nogil:
    snprintf(proactor.backend_reason, sizeof(proactor.backend_reason),
             "multishot receive, provided buffers%s%s%s",
             <const char *>", deferred task work" if self.setup_flags & URING_SETUP_DEFER_TASKRUN
             else <const char *>"",
             <const char *>", registered ring" if self.is_registered else <const char *>"",
             <const char *>", no iowait" if self.enter_flags & URING_ENTER_NO_IOWAIT else <const char *>"")


cdef int prepare(proactor_t *proactor, uring_t *self, io_uring_params *params) noexcept nogil:
    cdef int error
    if not params.features & URING_FEAT_EXT_ARG or not params.features & URING_FEAT_NODROP:
        return explain(proactor, "io_uring without timeouts or overflow handling", -EINVAL)
    adopt_ring(self, params)
    error = register_buffers(self)
    if error != 0:
        return explain(proactor, "provided buffer ring", error)
    error = test_ring(proactor)
    if error != 0:
        return error
    arm_wake(proactor)
    describe(proactor, self)
    return 0


cdef int setup(proactor_t *proactor, const proactor_options_t *options) noexcept nogil:
    cdef uring_t *self = <uring_t *>net_zalloc(sizeof(uring_t))
    cdef io_uring_params params
    cdef uint32_t entries = options.ring_entries if options.ring_entries else DEFAULT_ENTRIES
    cdef int error = create_ring(self, power_of_two(entries, 32768), &params)
    if error != 0:
        net_free(self)
        return explain(proactor, "io_uring_setup", error)
    self.buffer_count = power_of_two(
        options.receive_buffer_count if options.receive_buffer_count else DEFAULT_BUFFER_COUNT, 32768)
    self.buffer_size = options.receive_buffer_size if options.receive_buffer_size else DEFAULT_BUFFER_SIZE
    proactor.backend_state = self
    error = prepare(proactor, self, &params)
    if error != 0:
        teardown(proactor)
        proactor.backend_state = NULL
    return error


cdef void quiesce(proactor_t *proactor, uring_t *self) noexcept nogil:
    """Closing a ring cancels in the background; the buffers must outlive that, so wait for it here."""
    cdef int64_t until = monotonic_us() + TEARDOWN_US
    cdef io_uring_sqe *sqe
    cdef uint32_t head
    cdef io_uring_cqe *cqe
    while self.in_flight and monotonic_us() < until:
        sqe = next_sqe(proactor, IORING_OP_ASYNC_CANCEL, -1, NULL, KIND_IGNORED)
        sqe.cancel_flags = URING_CANCEL_ANY | URING_CANCEL_ALL
        enter(self, 1, 10000)
        head = self.ring.cq.khead[0]
        while head != uring_load(self.ring.cq.ktail):
            cqe = &self.ring.cq.cqes[head & self.cq_mask]
            if cqe.user_data & KIND_MASK == KIND_ACCEPT and cqe.res >= 0:
                close(cqe.res)
            if cqe.user_data & KIND_MASK != KIND_IGNORED and not cqe.flags & URING_CQE_F_MORE:
                self.in_flight -= 1
            head += 1
            uring_store(self.ring.cq.khead, head)


cdef void teardown(proactor_t *proactor) noexcept nogil:
    cdef uring_t *self = uring_of(proactor)
    cdef uring_ring_registration_t registration
    if self.in_flight:
        quiesce(proactor, self)
    if self.is_registered:
        memset(&registration, 0, sizeof(registration))
        registration.offset = <uint32_t>self.enter_fd
        syscall(__NR_io_uring_register, self.ring.ring_fd, URING_UNREGISTER_RING_FDS, &registration, 1)
    io_uring_queue_exit(&self.ring)
    if self.buffers != NULL:
        munmap(self.buffers, self.buffers_size)
        munmap(self.memory, self.memory_size)
    net_free(self)


cdef int uring_probe(char *reason, size_t reason_size) noexcept nogil:
    """A whole set-up on this thread, thrown away."""
    cdef proactor_options_t options
    cdef proactor_t *proactor = <proactor_t *>net_zalloc(sizeof(proactor_t))
    cdef int error
    memset(&options, 0, sizeof(options))
    options.ring_entries = 8
    options.receive_buffer_count = 2
    options.receive_buffer_size = 64
    proactor.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
    if proactor.wake_fd < 0:
        error = explain(proactor, "eventfd", -errno)
    else:
        error = setup(proactor, &options)
        if error == 0:
            teardown(proactor)
        close(proactor.wake_fd)
    if reason_size:
        snprintf(reason, reason_size, "%s", proactor.backend_reason)
    net_free(proactor)
    return error


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
backend.file_start = file_start


cdef const backend_t *uring_backend() noexcept nogil:
    return &backend
