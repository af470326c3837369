"""Writing one file of a snapshot: see save_file.pxd for the contract.

Invariants: the struct is touched by its thread only, but for chunks in its mailbox and `error`, which feeders read.
While a request is in flight or the timer runs, is_idle is False and nobody else starts one.
"""

from libc.errno cimport EIO
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from dfly._core.engine.eviction cimport eviction_exempt
from dfly._core.loop.file cimport (file_close, file_fsync, file_open, file_rename, file_request_t, file_submit,
                                   file_unlink, file_write)
from dfly._core.loop.mailbox cimport mailbox_init, mailbox_push, mailbox_take, message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.loop.timer cimport timer_start, timer_t
from dfly._core.persist.crc64 cimport crc64
from dfly._core.persist.frames cimport FRAME_BYTES, FRAME_OVERHEAD, FRAMES_HEADER, frame_put, frames_begin, frames_end
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_load_relaxed, atomic_store, atomic_sub
from dfly._core.sys.clock cimport monotonic_us

__abi__ = DFLY_ABI_STAMP

cdef extern from "fcntl.h" nogil:
    int O_WRONLY
    int O_RDONLY
    int O_CREAT
    int O_TRUNC
    int O_CLOEXEC
    int O_DIRECTORY

cdef enum:
    RDB_EOF = 0xFF
    TAIL_BYTES = 9
    FILE_MODE = 0o644
    PACKED_BYTES = FRAMES_HEADER + 17 * (FRAME_BYTES + FRAME_OVERHEAD)   # a whole chunk that does not get smaller
    SLICE_BUSY_US = 20               # then no further frame is begun: with the one before about 40
    SLICE_IDLE_US = 400
    PAUSE_IDLE_US = 10
    PAUSE_FACTOR = 4                 # of the slice, while commands are executed ...
    HURRY_BYTES = 1048576            # ... and less than this waits for it: the walk stops at four times that

cdef const char *STEPS[11]
STEPS[<int>STEP_OPEN] = "open"
STEPS[<int>STEP_WRITE] = "write"
STEPS[<int>STEP_TAIL] = "write"
STEPS[<int>STEP_FSYNC] = "fsync"
STEPS[<int>STEP_CLOSE] = "close"
STEPS[<int>STEP_RENAME] = "rename"
STEPS[<int>STEP_OPEN_FOLDER] = "open the directory of"
STEPS[<int>STEP_FSYNC_FOLDER] = "fsync the directory of"
STEPS[<int>STEP_CLOSE_FOLDER] = "close the directory of"
STEPS[<int>STEP_UNLINK] = "unlink"
STEPS[<int>STEP_DONE] = "end"


cdef const char *save_step_name(int step) noexcept nogil:
    return STEPS[step]


# ---- Chunks ------------------------------------------------------------------------------------

cdef void feeder_init(feeder_t *self, save_file_t *file, uint64_t *outstanding) noexcept nogil:
    self.file = file
    self.waiting = 0
    self.outstanding = outstanding
    mailbox_init(&self.returned)
    self.spare = NULL
    self.first = NULL
    self.last = NULL
    self.has_ended = False


cdef chunk_t *chunk_new(feeder_t *self) noexcept nogil:
    cdef chunk_t *chunk
    if self.spare == NULL:
        self.spare = mailbox_take(&self.returned)
    if self.spare != NULL:
        chunk = <chunk_t *>self.spare
        self.spare = self.spare.next
    else:
        chunk = <chunk_t *>net_alloc(sizeof(chunk_t) + CHUNK_BYTES)
        # It is not the clients': no key has to go for it.
        eviction_exempt(sizeof(chunk_t) + CHUNK_BYTES)
    chunk.feeder = self
    chunk.next = NULL
    chunk.size = 0
    chunk.continues = False
    chunk.is_last = False
    chunk.error = 0
    return chunk


cdef void chunk_free(chunk_t *self) noexcept nogil:
    if self != NULL:
        eviction_exempt(-<int64_t>(sizeof(chunk_t) + CHUNK_BYTES))
        net_free(self)


cdef void free_list(message_t *message) noexcept nogil:
    cdef message_t *following
    while message != NULL:
        following = message.next
        chunk_free(<chunk_t *>message)
        message = following


cdef void chunk_send(chunk_t *self) noexcept nogil:
    atomic_add(self.feeder.outstanding, self.size)
    atomic_add(&self.feeder.waiting, self.size)
    self.message.run = receive
    proactor_post(self.feeder.file.proactor, &self.message)


cdef void receive(message_t *message, void *context) noexcept nogil:
    cdef chunk_t *chunk = <chunk_t *>message
    cdef feeder_t *feeder = chunk.feeder
    cdef save_file_t *self = feeder.file
    if feeder.last == NULL:
        feeder.first = chunk
    else:
        feeder.last.next = chunk
    feeder.last = chunk
    if self.is_idle:
        go_on(self)


cdef chunk_t *take_chunk(save_file_t *self) noexcept nogil:
    """The next to be written, or NULL."""
    cdef feeder_t *feeder = self.bound
    cdef chunk_t *chunk
    cdef uint32_t i
    if feeder == NULL:
        for i in range(self.feeder_count):
            feeder = &self.feeders[(self.turn + i) % self.feeder_count]
            if feeder.first != NULL:
                break
        self.turn += 1
    if feeder == NULL or feeder.first == NULL:
        return NULL
    chunk = feeder.first
    feeder.first = chunk.next
    if feeder.first == NULL:
        feeder.last = NULL
    self.bound = feeder if chunk.continues else NULL
    return chunk


cdef void done_with(save_file_t *self, chunk_t *chunk) noexcept nogil:
    cdef feeder_t *feeder = chunk.feeder
    atomic_sub(feeder.outstanding, chunk.size)
    atomic_sub(&feeder.waiting, chunk.size)
    if chunk.is_last:
        feeder.has_ended = True
        self.ended += 1
        chunk_free(chunk)
    else:
        mailbox_push(&feeder.returned, &chunk.message)
    if self.on_written != NULL:
        self.on_written(self)


# ---- The steps ---------------------------------------------------------------------------------

cdef void save_file_start(save_file_t *self, proactor_t *proactor) noexcept nogil:
    self.proactor = proactor
    self.fd = -1
    self.folder_fd = -1
    self.step = STEP_OPEN if self.error == 0 else STEP_DONE
    self.start_message.run = on_start
    proactor_post(proactor, &self.start_message)


cdef void save_file_deinit(save_file_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.feeder_count):
        free_list(self.feeders[i].spare)
        free_list(mailbox_take(&self.feeders[i].returned))
    net_free(self.head)
    if self.packed != NULL:
        eviction_exempt(-<int64_t>PACKED_BYTES)
        net_free(self.packed)


cdef void on_start(message_t *message, void *context) noexcept nogil:
    go_on(<save_file_t *>(<char *>message - <size_t>&(<save_file_t *>NULL).start_message))


cdef void submit(save_file_t *self) noexcept nogil:
    self.is_idle = False
    self.request.context = self
    file_submit(&self.request, self.proactor, on_result)


cdef void fail(save_file_t *self, int64_t error) noexcept nogil:
    """The first fault counts; what is there of the file goes away."""
    if self.error == 0:
        self.failed_step = self.step
        atomic_store(&self.error, <uint64_t>error)
    if self.fd >= 0:
        self.step = STEP_CLOSE
    elif STEP_OPEN < self.step <= STEP_RENAME:
        self.step = STEP_UNLINK
    elif self.folder_fd >= 0:
        self.step = STEP_CLOSE_FOLDER
    else:
        self.step = STEP_DONE


cdef void write_next(save_file_t *self) noexcept nogil:
    cdef const char *data = self.head
    cdef size_t size = self.head_size
    cdef int error
    if self.source_done < self.source_size:
        pack_soon(self, PAUSE_IDLE_US)
        return
    if self.head_is_written:
        self.current = take_chunk(self)
        if self.current == NULL:
            if self.ended < self.feeder_count:
                self.is_idle = True
                return
            self.step = STEP_TAIL
            write_tail(self)
            return
        data = self.current.data
        size = self.current.size
        error = self.current.error
        if size == 0 or error != 0:
            done_with(self, self.current)
            self.current = NULL
            if error != 0:
                fail(self, error)
            go_on(self)
            return
    if self.is_framed:
        self.source = data
        self.source_size = size
        self.source_done = 0
        pack_soon(self, PAUSE_IDLE_US)
        return
    if self.with_checksum:
        self.crc = crc64(self.crc, data, size)
    file_write(&self.request, self.fd, data, size, self.offset)
    submit(self)


cdef void pack_soon(save_file_t *self, int64_t pause_us) noexcept nogil:
    self.is_idle = False
    self.timer.fire = on_pack_timer
    self.timer.context = self
    timer_start(&self.proactor.timers, &self.timer, monotonic_us() + pause_us)


cdef uint64_t waiting_bytes(save_file_t *self) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(self.feeder_count):
        total += atomic_load_relaxed(&self.feeders[i].waiting)
    return total


cdef bint pack_frame(save_file_t *self) noexcept nogil:
    """False: the source has ended, or there is no room for another one."""
    cdef size_t piece = self.source_size - self.source_done
    if self.packed == NULL:
        self.packed = <char *>net_alloc(PACKED_BYTES)
        eviction_exempt(PACKED_BYTES)
        self.packed_size = frames_begin(&self.frames, self.with_checksum, self.packed)
    if piece > FRAME_BYTES:
        piece = FRAME_BYTES
    self.packed_size += frame_put(&self.frames, self.source + self.source_done, piece, self.packed + self.packed_size)
    self.source_done += piece
    return self.source_done < self.source_size and self.packed_size + FRAME_BYTES + FRAME_OVERHEAD <= PACKED_BYTES


cdef void on_pack_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    """A slice: one frame, or some if they are quick or nobody else has anything to do."""
    cdef save_file_t *self = <save_file_t *>timer.context
    cdef bint is_busy = self.is_busy(self)
    cdef int64_t started = monotonic_us()
    cdef int64_t spent
    while pack_frame(self):
        spent = monotonic_us() - started
        if spent >= (SLICE_BUSY_US if is_busy else SLICE_IDLE_US):
            # What is far above was the kernel's doing.
            if not is_busy or waiting_bytes(self) > HURRY_BYTES:
                spent = 0
            elif spent > 4 * SLICE_BUSY_US:
                spent = 4 * SLICE_BUSY_US
            pack_soon(self, PAUSE_IDLE_US + spent * PAUSE_FACTOR)
            return
    file_write(&self.request, self.fd, self.packed, self.packed_size, self.offset)
    submit(self)


cdef void write_tail(save_file_t *self) noexcept nogil:
    if self.is_framed:
        file_write(&self.request, self.fd, self.tail, frames_end(&self.frames, self.tail), self.offset)
        submit(self)
        return
    self.tail[0] = <char>RDB_EOF
    if self.with_checksum:
        self.crc = crc64(self.crc, self.tail, 1)
    memcpy(self.tail + 1, &self.crc, 8)
    file_write(&self.request, self.fd, self.tail, TAIL_BYTES, self.offset)
    submit(self)


cdef void throw_away(save_file_t *self) noexcept nogil:
    """After a fault or at the end: waits for the last chunk of each feeder."""
    cdef chunk_t *chunk
    self.bound = NULL
    while True:
        chunk = take_chunk(self)
        if chunk == NULL:
            break
        done_with(self, chunk)
    if self.ended < self.feeder_count:
        self.is_idle = True
        return
    self.is_idle = False
    self.on_done(self)


cdef void go_on(save_file_t *self) noexcept nogil:
    """Starts what the step asks for; nothing is in flight."""
    cdef file_request_t *request = &self.request
    if self.step == STEP_DONE:
        throw_away(self)
        return
    if self.step == STEP_WRITE:
        write_next(self)
        return
    if self.step == STEP_OPEN:
        file_open(request, self.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE)
    elif self.step == STEP_FSYNC:
        file_fsync(request, self.fd)
    elif self.step == STEP_CLOSE:
        file_close(request, self.fd)
    elif self.step == STEP_RENAME:
        file_rename(request, self.path, self.final_path)
    elif self.step == STEP_UNLINK:
        file_unlink(request, self.path)
    elif self.step == STEP_OPEN_FOLDER:
        file_open(request, self.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
    elif self.step == STEP_FSYNC_FOLDER:
        file_fsync(request, self.folder_fd)
    else:
        file_close(request, self.folder_fd)
    submit(self)


cdef void advance(save_file_t *self, int64_t result) noexcept nogil:
    """What follows a step that went well."""
    if self.step == STEP_OPEN:
        self.fd = <int>result
        self.step = STEP_WRITE
    elif self.step == STEP_WRITE:
        self.offset += <uint64_t>result
        self.packed_size = 0
        if self.source_done < self.source_size:
            return
        self.head_is_written = True
        if self.current != NULL:
            done_with(self, self.current)
            self.current = NULL
    elif self.step == STEP_TAIL:
        self.bytes = self.offset + <uint64_t>result
        self.step = STEP_FSYNC
    elif self.step == STEP_CLOSE:
        self.fd = -1
        self.step = STEP_RENAME if self.error == 0 else STEP_UNLINK
    elif self.step == STEP_OPEN_FOLDER:
        self.folder_fd = <int>result
        self.step = STEP_FSYNC_FOLDER
    elif self.step == STEP_CLOSE_FOLDER or self.step == STEP_UNLINK:
        self.folder_fd = -1
        self.step = STEP_DONE
    else:
        # fsync, rename, fsync of the folder: the next in order
        self.step += 1


cdef bint is_short(const file_request_t *request, int step) noexcept nogil:
    return (step == STEP_WRITE or step == STEP_TAIL) and request.result < <int64_t>request.size


cdef void on_result(file_request_t *request) noexcept nogil:
    cdef save_file_t *self = <save_file_t *>request.context
    cdef int64_t error = -request.result if request.result < 0 else 0
    if error == 0 and is_short(request, self.step):
        error = EIO
    if error == 0:
        advance(self, request.result)
    else:
        if self.current != NULL:
            done_with(self, self.current)
            self.current = NULL
        if self.step == STEP_CLOSE:
            self.fd = -1
        elif self.step == STEP_CLOSE_FOLDER:
            self.folder_fd = -1
        if self.step == STEP_UNLINK:
            self.step = STEP_DONE
        else:
            fail(self, error)
    go_on(self)
