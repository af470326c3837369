"""Files without waiting: open, read, write, fsync, rename, unlink, close from a shard thread.

On io_uring a request goes through the thread's ring, to the kernel's workers at once (a buffered write of a
megabyte done in place would keep the clients waiting). With epoll one helper thread of the process does the
calls and posts the results.

A request is one struct on the heap, its owner's; paths and data too stay valid and in place until it is
complete. It completes on the thread that submitted it, from the loop and never from inside file_submit:
either on_done is called, or, on a fiber, file_perform returns. Reads and writes go on by themselves after
a short one; a read ends early only at the end of the file. When the loop is stopped, the system call that is under
way still ends, and what would come behind it does not begin.

Faults for tests: file_inject_fault lets a kind of request fail without being done.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from dfly._core.loop.fiber cimport waiter_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t

cdef enum file_operation_t:
    FILE_OPEN = 1
    FILE_READ = 2
    FILE_WRITE = 3
    FILE_FSYNC = 4
    FILE_RENAME = 5
    FILE_UNLINK = 6
    FILE_CLOSE = 7

ctypedef void (*file_done_t)(file_request_t *request) noexcept nogil

cdef struct file_request_t:
    message_t message            # to the helper thread, and back to the proactor's mailbox
    proactor_t *proactor
    int32_t operation
    int32_t fd
    int32_t flags                # of open
    uint32_t mode
    const char *path
    const char *new_path         # of rename
    char *data                   # written from, or read into
    size_t size
    size_t done                  # bytes so far
    uint64_t offset
    int64_t result               # descriptor, bytes or 0; negative: -errno
    file_done_t on_done
    void *context                # the owner's
    # The loop's own: the backend calls it with the result of one system call.
    void (*on_result)(file_request_t *request, int64_t result) noexcept nogil
    waiter_t waiter              # of file_perform

# Requests; the rest of the struct is the caller's (context) or theirs.
cdef void file_open(file_request_t *self, const char *path, int flags, uint32_t mode) noexcept nogil
cdef void file_read(file_request_t *self, int fd, char *data, size_t size, uint64_t offset) noexcept nogil
cdef void file_write(file_request_t *self, int fd, const char *data, size_t size,
                     uint64_t offset) noexcept nogil
cdef void file_fsync(file_request_t *self, int fd) noexcept nogil
cdef void file_rename(file_request_t *self, const char *path, const char *new_path) noexcept nogil
cdef void file_unlink(file_request_t *self, const char *path) noexcept nogil
cdef void file_close(file_request_t *self, int fd) noexcept nogil

# On the proactor's thread; on_done is called later.
cdef void file_submit(file_request_t *self, proactor_t *proactor, file_done_t on_done) noexcept nogil
# On a fiber: submits and suspends until it is complete; the result is in self.result. -1 with an exception
# set when the hub is closed meanwhile: then the request and its data must stay for ever.
cdef int file_perform(file_request_t *self) except -1

# The next `skip` requests of this operation succeed, all after them fail with `error` (0: no fault any more).
cdef void file_inject_fault(int operation, int error, int64_t skip) noexcept nogil
