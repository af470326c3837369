"""File requests and the helper thread of the epoll backend: see file.pxd for the contract.

Invariant: from file_submit to completion exactly one party has the request: the kernel's ring, the helper
thread, or the proactor's mailbox.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport rename

from dfly._core.loop.backend cimport backend_of
from dfly._core.loop.fiber cimport fiber_wait, waiter_init_fiber, waiter_wake, fiber_hub_current
from dfly._core.loop.mailbox cimport mailbox_init, mailbox_push, mailbox_t, mailbox_take, message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.sys.base cimport (
    DFLY_ABI_STAMP, DFLY_CHECK, DFLY_DCHECK, atomic_cas, atomic_load, atomic_store, dfly_on_thread_stack,
)
from dfly._core.sys.posix_net cimport close

cdef extern from * nogil:
    """
    #include <fcntl.h>
    #include <pthread.h>
    #include <semaphore.h>
    #include <signal.h>
    #include <unistd.h>

    /* A detached thread that takes no signals: those are Python's. */
    static int start_helper(void *(*body)(void *)) {
        sigset_t all, before;
        pthread_attr_t attributes;
        pthread_t thread;
        int error;
        sigfillset(&all);
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&thread, &attributes, body, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
        return error;
    }
    static sem_t helper_work;
    """
    ctypedef struct sem_t:
        pass
    sem_t helper_work
    int sem_init(sem_t *self, int shared, unsigned int value) noexcept
    int sem_post(sem_t *self) noexcept
    int sem_wait(sem_t *self) noexcept
    int start_helper(void *(*body)(void *) noexcept nogil) noexcept
    int posix_open "open"(const char *path, int flags, ...) noexcept
    ssize_t pread(int fd, void *data, size_t size, int64_t offset) noexcept
    ssize_t pwrite(int fd, const void *data, size_t size, int64_t offset) noexcept
    int fsync(int fd) noexcept
    int unlink(const char *path) noexcept

__abi__ = DFLY_ABI_STAMP

cdef mailbox_t helper_inbox
cdef uint64_t helper_runs = 0
# The fault that tests asked for.
cdef uint64_t fault_operation = 0
cdef int fault_error = 0
cdef uint64_t fault_skip = 0
mailbox_init(&helper_inbox)
sem_init(&helper_work, 0, 0)


cdef void file_inject_fault(int operation, int error, int64_t skip) noexcept nogil:
    atomic_store(&fault_operation, 0)
    global fault_error
    fault_error = error
    atomic_store(&fault_skip, <uint64_t>max(skip, <int64_t>0))
    if error != 0:
        atomic_store(&fault_operation, <uint64_t>operation)


cdef bint fails_for_test(file_request_t *self) noexcept nogil:
    cdef uint64_t skip
    if <uint64_t>self.operation != atomic_load(&fault_operation):
        return False
    while True:
        skip = atomic_load(&fault_skip)
        if skip == 0:
            return True
        if atomic_cas(&fault_skip, skip, skip - 1):
            return False


# ---- Requests --------------------------------------------------------------------------------

cdef inline void prepare(file_request_t *self, int operation, int fd) noexcept nogil:
    self.operation = operation
    self.fd = fd
    self.path = NULL
    self.new_path = NULL
    self.data = NULL
    self.size = 0
    self.done = 0
    self.offset = 0
    self.result = 0


cdef void file_open(file_request_t *self, const char *path, int flags, uint32_t mode) noexcept nogil:
    prepare(self, FILE_OPEN, -1)
    self.path = path
    self.flags = flags
    self.mode = mode


cdef void file_read(file_request_t *self, int fd, char *data, size_t size, uint64_t offset) noexcept nogil:
    prepare(self, FILE_READ, fd)
    self.data = data
    self.size = size
    self.offset = offset


cdef void file_write(file_request_t *self, int fd, const char *data, size_t size,
                     uint64_t offset) noexcept nogil:
    prepare(self, FILE_WRITE, fd)
    self.data = <char *>data
    self.size = size
    self.offset = offset


cdef void file_fsync(file_request_t *self, int fd) noexcept nogil:
    prepare(self, FILE_FSYNC, fd)


cdef void file_rename(file_request_t *self, const char *path, const char *new_path) noexcept nogil:
    prepare(self, FILE_RENAME, -1)
    self.path = path
    self.new_path = new_path


cdef void file_unlink(file_request_t *self, const char *path) noexcept nogil:
    prepare(self, FILE_UNLINK, -1)
    self.path = path


cdef void file_close(file_request_t *self, int fd) noexcept nogil:
    prepare(self, FILE_CLOSE, fd)


cdef void file_submit(file_request_t *self, proactor_t *proactor, file_done_t on_done) noexcept nogil:
    DFLY_DCHECK(not dfly_on_thread_stack(self), "a file request must not lie on a stack")
    DFLY_DCHECK(self.data == NULL or not dfly_on_thread_stack(self.data), "file data must not lie on a stack")
    self.proactor = proactor
    self.on_done = on_done
    self.on_result = on_result
    start(self)


cdef void start(file_request_t *self) noexcept nogil:
    if atomic_load(&self.proactor.stopping):
        return               # never completes, like what a loop that has ended still held
    self.proactor.files_in_flight += 1
    if fails_for_test(self):
        self.result = -fault_error
        self.message.run = arrive
        proactor_post(self.proactor, &self.message)
    elif backend_of(self.proactor).file_start != NULL:
        backend_of(self.proactor).file_start(self.proactor, self)
    else:
        give_to_helper(self)


cdef void on_result(file_request_t *self, int64_t result) noexcept nogil:
    """One system call has ended: the rest of a short read or write follows, or the request is complete."""
    self.proactor.files_in_flight -= 1
    if result == -EINTR or result == -EAGAIN:
        start(self)
        return
    if self.operation == FILE_READ or self.operation == FILE_WRITE:
        if result > 0:
            self.done += <size_t>result
            if self.done < self.size:
                start(self)
                return
            result = <int64_t>self.done
        elif result == 0:
            result = <int64_t>self.done
    self.result = result
    self.on_done(self)


cdef void wake_waiter(file_request_t *self) noexcept nogil:
    waiter_wake(&self.waiter)


cdef int file_perform(file_request_t *self) except -1:
    waiter_init_fiber(&self.waiter)
    file_submit(self, fiber_hub_current().proactor, wake_waiter)
    fiber_wait(&self.waiter)
    return 0


# ---- The helper thread -----------------------------------------------------------------------

cdef void give_to_helper(file_request_t *self) noexcept nogil:
    if atomic_load(&helper_runs) == 0 and atomic_cas(&helper_runs, 0, 1):
        DFLY_CHECK(start_helper(help) == 0, "no thread for files can be started")
    mailbox_push(&helper_inbox, &self.message)
    sem_post(&helper_work)


cdef int64_t do_call(file_request_t *self) noexcept nogil:
    """The system call; its result or -errno."""
    cdef int64_t result
    cdef int64_t offset = <int64_t>(self.offset + self.done)
    if self.operation == FILE_OPEN:
        result = posix_open(self.path, self.flags, self.mode)
    elif self.operation == FILE_READ:
        result = pread(self.fd, self.data + self.done, self.size - self.done, offset)
    elif self.operation == FILE_WRITE:
        result = pwrite(self.fd, self.data + self.done, self.size - self.done, offset)
    elif self.operation == FILE_FSYNC:
        result = fsync(self.fd)
    elif self.operation == FILE_RENAME:
        result = rename(self.path, self.new_path)
    elif self.operation == FILE_UNLINK:
        result = unlink(self.path)
    else:
        result = close(self.fd)
    return result if result >= 0 else -errno


cdef void *help(void *unused) noexcept nogil:
    """Body of the thread: for ever."""
    cdef message_t *message
    cdef message_t *following
    cdef file_request_t *request
    while True:
        sem_wait(&helper_work)
        message = mailbox_take(&helper_inbox)
        while message != NULL:
            following = message.next
            request = <file_request_t *>message
            request.result = do_call(request)
            request.message.run = arrive
            proactor_post(request.proactor, &request.message)
            message = following


cdef void arrive(message_t *message, void *context) noexcept nogil:
    """On the proactor's thread, with the result of the call in the request."""
    cdef file_request_t *self = <file_request_t *>message
    self.on_result(self, self.result)
