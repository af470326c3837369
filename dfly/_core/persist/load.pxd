"""Loading snapshots: one reader, and all shard threads decode.

The reader, a thread that may wait for the disk, cuts the file into records (rdb_file), hashes their keys and sends
each shard a batch of its records of one block. The shard's owner decodes the values where they lie in the block and
puts them into its tables. At most LOAD_BLOCKS blocks are on the way, so memory is bounded but for single large values.

While server_t.loading is set, clients get -LOADING for all commands without the loading flag. A fault ends the load;
what was loaded until then is the caller's to keep or to flush.

Start-up and DEBUG RELOAD: dfly/loader.py calls load_begin, then load_run for each file on a thread of its own,
then load_end.

Ownership: the loader is the server's, for ever. A batch belongs to who has it: the reader, the mailbox, the shard's
thread, which frees it.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.server_state cimport server_t
from dfly._core.engine.shard cimport shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.persist.rdb_file cimport rdb_block_t, rdb_file_t, sem_t

cdef enum:
    LOAD_BLOCKS = 12
    LOAD_NOTES = 64
    LOAD_NOTE_MAX = 256

cdef enum load_fault_t:
    FAULT_NONE = 0
    FAULT_WRITING = 1                # claimed, its text is not there yet
    FAULT_SET = 2

cdef struct load_record_t:
    uint64_t hash
    const char *key                  # in the block; NULL: in the batch's own texts, at key_place
    const char *value
    size_t value_size
    int64_t deadline_ms
    int64_t idle_seconds
    uint32_t key_size
    uint32_t key_place
    uint32_t database
    short frequency
    unsigned char type

cdef struct load_batch_t:
    message_t message
    loader_t *loader
    shard_t *shard
    rdb_block_t *block
    uint32_t version
    load_record_t *records
    uint32_t count
    uint32_t capacity
    char *texts                      # keys that had to be unpacked
    size_t texts_size
    size_t texts_capacity
    bint flush                       # first drop all keys
    uint64_t expected                # of the database `database`: make room for so many keys first; 0: for none
    uint32_t database

cdef struct loader_t:
    server_t *server
    # Options of this load.
    bint with_checksum
    bint keep_partial                # values that are broken are left out, not the end
    bint refuse_modules
    bint may_replace                 # a key that exists already is replaced (DEBUG RELOAD MERGE)
    int64_t now_ms                   # what is due at that time is dropped
    # Progress; written by the reader and the shards, read by anybody.
    uint64_t is_cancelled
    uint64_t outstanding             # batches
    uint64_t total_bytes
    uint64_t loaded_bytes
    uint64_t keys                    # loaded
    uint64_t expired                 # dropped since they were due
    uint64_t empty                   # dropped since they had no elements
    uint64_t broken                  # left out: keep_partial
    uint64_t modules                 # values left out
    uint64_t functions               # libraries left out
    int64_t started_s
    int64_t started_us
    # The first fault.
    uint64_t fault                   # load_fault_t
    uint64_t fault_offset
    char reason[256]
    uint64_t note_count              # complete ones, for the log
    uint64_t notes_begun
    char notes[64][256]
    load_batch_t **batches           # one a shard, NULL: nothing for it yet
    sem_t room

cdef void loader_init(server_t *server) noexcept nogil
cdef loader_t *loader_of(server_t *server) noexcept nogil
# Sets server_t.loading and forgets the last load. On one thread at a time.
cdef void load_begin(loader_t *self, uint64_t total_bytes) noexcept nogil
# All keys of all databases go; on a thread that may wait.
cdef void load_flush(loader_t *self) noexcept nogil
# Reads one file to its end; waits until all shards have it. False: see fault. On a thread that may wait.
cdef bint load_run(loader_t *self, const char *path) noexcept nogil
cdef void load_end(loader_t *self) noexcept nogil            # clients are served again
cdef void load_cancel(loader_t *self) noexcept nogil         # any thread: it ends soon, as by a fault
