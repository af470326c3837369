"""One file of a snapshot, written on one shard thread from chunks that any thread may send.

Chunks come from feeders, some a shard. A feeder's chunks are written in its order; those of several feeders are
mixed, except where a chunk says that the next one of its feeder must follow (the middle of a value). The file is
written under a temporary name, with one request in flight (loop/file: no thread ever waits for the disk), then
fsync, rename, fsync of the directory. A fault at any step removes the temporary file; the chunks that still come
are thrown away.

With is_framed a chunk is compressed first, one frame (persist/frames) at a time: each takes about 30 us, less than
a slice of the walk, and between two of them the thread's clients are served, as between slices. Not in the walk:
that holds the shard's token, which other threads may wait for. Not on a helper thread: with a shard thread on every
core it would take the processor from one of them for milliseconds, or, with little priority, never get it.

It is a continuation and no fiber: nothing of it needs the GIL.

Ownership: a chunk belongs to its feeder until chunk_send, then to the file, which returns it to the feeder's pool.
The file's struct stays in place until on_done, which comes when all feeders have sent their last chunk.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from dfly._core.loop.file cimport file_request_t
from dfly._core.loop.mailbox cimport mailbox_t, message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.loop.timer cimport timer_t
from dfly._core.persist.frames cimport frame_writer_t

cdef enum:
    CHUNK_BYTES = 262144 - 64
    SAVE_PATH_MAX = 1024

cdef enum save_step_t:
    STEP_OPEN = 0
    STEP_WRITE = 1               # chunks, while there are any
    STEP_TAIL = 2
    STEP_FSYNC = 3
    STEP_CLOSE = 4
    STEP_RENAME = 5
    STEP_OPEN_FOLDER = 6
    STEP_FSYNC_FOLDER = 7
    STEP_CLOSE_FOLDER = 8
    STEP_UNLINK = 9              # after a fault
    STEP_DONE = 10

cdef struct chunk_t:
    message_t message            # to the file's thread, and back to the pool
    feeder_t *feeder
    chunk_t *next                # in the file's queue
    size_t size
    bint continues               # nothing of another feeder may come between this and the next one
    bint is_last                 # of its feeder
    int32_t error                # errno: its feeder cannot go on, the file is not to be
    char data[1]                 # CHUNK_BYTES

cdef struct feeder_t:
    save_file_t *file
    uint64_t waiting             # bytes of its own that are sent and not written
    uint64_t *outstanding        # bytes sent and not written, over all feeders of a snapshot
    mailbox_t returned
    message_t *spare             # chunks to be used again: its owner's
    # The file's:
    chunk_t *first
    chunk_t *last
    bint has_ended

ctypedef void (*save_file_hook_t)(save_file_t *self) noexcept nogil
ctypedef bint (*save_file_asks_t)(save_file_t *self) noexcept nogil

cdef struct save_file_t:
    proactor_t *proactor
    message_t start_message
    file_request_t request       # at most one in flight
    int32_t step                 # save_step_t
    bint is_idle                 # waits for chunks
    int32_t fd
    int32_t folder_fd
    feeder_t *feeders
    uint32_t feeder_count
    uint32_t ended               # feeders
    feeder_t *bound              # its next chunk must come next
    uint32_t turn
    chunk_t *current             # being written
    char *head                   # what the file begins with; freed with the file
    size_t head_size
    bint head_is_written
    bint with_checksum
    # Compression: of `source`, which is the head or a chunk, so much is in `packed` or written.
    bint is_framed
    frame_writer_t frames
    timer_t timer
    const char *source
    size_t source_size
    size_t source_done
    char *packed
    size_t packed_size
    save_file_asks_t is_busy     # have commands been executed since it was asked last?
    uint64_t commands_seen       # its own
    char tail[64]                # FRAMES_TAIL_MAX
    uint64_t offset
    uint64_t crc
    uint64_t bytes               # the file's size once it is complete
    # A fault: errno, and the step in which it came.
    uint64_t error
    int32_t failed_step
    char path[1024]              # temporary
    char final_path[1024]
    char folder[1024]
    save_file_hook_t on_written  # a chunk is written: there is room again
    save_file_hook_t on_done     # on its thread
    void *context

# All fields zero but paths, feeders, head, hooks, is_framed. `head` becomes its own. With an error it only waits for
# its feeders.
cdef void save_file_start(save_file_t *self, proactor_t *proactor) noexcept nogil     # any thread
cdef void save_file_deinit(save_file_t *self) noexcept nogil                          # after on_done
cdef void feeder_init(feeder_t *self, save_file_t *file, uint64_t *outstanding) noexcept nogil
cdef chunk_t *chunk_new(feeder_t *self) noexcept nogil
cdef void chunk_send(chunk_t *self) noexcept nogil
cdef void chunk_free(chunk_t *self) noexcept nogil
cdef const char *save_step_name(int step) noexcept nogil


cdef inline chunk_t *chunk_of(char *data) noexcept nogil:
    """The chunk whose data that is."""
    return <chunk_t *>(data - <size_t>&(<chunk_t *>NULL).data[0])
