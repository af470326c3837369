"""Snapshots without fork: what all shards held at one moment, written while they go on changing.

The cut. Under the tokens of all shards a walk (store/dash) begins on every table, at the version that the shard has
then. From then on a shard's tables are visited in slices, by its own thread or, while it is in use, by one that has
connections (walk_at), and what is about to change before it was visited is visited first, by whoever holds the token;
dash_walk_t and the door see to that. A visit encodes an entry into the shard's chunk. Full chunks go to the file
(save_file), which one thread writes. What a flush drops stays until its walk is over.

Large values are written in steps, with the token given back in between. Large lists, sets, hashes and sorted sets
have walks of their own for that (persist/rdb_walk), begun by the walk or by the first change of the key, whichever
comes first; from then on the key's entry counts as visited. A change writes the members that it is about to change, and
no more. Such a record is in a stream of its own (part_t) from its head to its end, and the file waits for the end once
it has a chunk of it. So these go before the walk over keys; while all streams are taken, a value that changes is
written as a whole. What is dropped meanwhile is kept (shard.kept), what goes to another shard is finished before. Other
large values are written by rdb_save_step; a change of one that is written in part or not at all waits until it is
encoded as a whole.

Pressure. The walk waits while WALK_BYTES of its own are sent and not written; one over members while PART_BYTES of its
own are, or any while PARTS_BYTES of all are, but never one that nothing is waiting of: the file may wait for it.
Changes cannot be put off by the door; so beyond PRESSURE_BYTES clients that want to write wait (server_t.save_pressure,
as for CLIENT PAUSE) until half is written.

Pace. While a shard or its thread is in use a slice is short, and the next one waits for many times its length.

Format. One Redis RDB file fed by all shards; or, as Dragonfly has it, a file a shard, each an RDB file of its own
written by the shard's own thread, and a summary that is renamed into place last and names them. The files of shards are
compressed in blocks (persist/frames), unless settings want strings compressed one by one, as always in the single file.

Ownership: the saver is the server's, for ever. A save lives from the cut to its end, which comes on the first
thread. Of a shard_save_t the token guards writer, rows and feeder; the timer is that of the thread that walks.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.engine.shard cimport grant_t, shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.timer cimport timer_t
from dfly._core.persist.rdb_io cimport rdb_saving_t, rdb_writer_t
from dfly._core.persist.rdb_walk cimport rdb_walk_t
from dfly._core.persist.save_file cimport feeder_t, save_file_t
from dfly._core.store.dash cimport dash_walk_t, entry_t

cdef enum:
    WALK_BYTES = 4194304
    PART_BYTES = 1048576
    PARTS_BYTES = 8388608
    PARTS = 8                    # large collections of a shard that are written at the same time
    STREAMS = 10                 # of a shard: the walk's, that of changes, and those of parts
    PRESSURE_BYTES = 25165824
    SAVE_REASON_MAX = 256
    SAVE_TEXTS = 4               # so many saves later a text is overwritten

cdef enum save_state_t:
    SAVE_IDLE = 0
    SAVE_RUNNING = 1

cdef enum compression_t:
    # --compression_mode: Dragonfly's numbers.
    COMPRESSION_NONE = 0
    COMPRESSION_STRINGS = 1      # each by LZF
    COMPRESSION_BLOCKS = 3       # LZ4; in a single file: strings

cdef struct walk_row_t:
    dash_walk_t walk
    shard_save_t *owner
    uint32_t database            # its number at the cut
    bint is_open

cdef struct stream_t:
    # Records of a shard on their way to a file.
    shard_save_t *owner
    feeder_t *out
    rdb_writer_t writer          # its buffer is a chunk's
    int64_t selected             # the database that the chunk speaks of, -1: none yet
    bint is_inside               # a record
    bint is_split                # a chunk that ends within this record is sent: the file waits for the next one

cdef struct part_t:
    # A large collection that is written member by member.
    stream_t stream              # begun when it is used first
    rdb_walk_t walk
    bint is_active

cdef struct shard_save_t:
    save_t *save
    shard_t *shard
    executor_t *executor         # whose thread walks, now or next
    # What the walk visits in its own time, and what changes bring forward: they may come in the middle of the walk's.
    stream_t walked
    stream_t forced
    part_t parts[8]              # PARTS
    uint64_t part_count          # active ones
    walk_row_t *rows             # one a table that had entries
    uint32_t row_count
    uint32_t row                 # the walk is in this one
    message_t start_message
    int64_t next_us              # when it walks on; set before start_message goes to another thread
    timer_t timer
    bint is_walking              # not a change's visit
    bint is_stuck                # parts wait for the file
    const entry_t *large         # the entry that is written in steps, NULL: none
    rdb_saving_t saving
    uint64_t uses_seen           # of the shard, by the last slice ...
    uint64_t commands_seen       # ... and of the thread
    executor_t *seen_by          # that ran it
    uint64_t *entries            # the saver's
    uint64_t forced_buckets      # visited because of a change

cdef struct save_t:
    saver_t *saver
    shard_save_t *shards
    uint32_t version             # of the RDB format
    uint64_t outstanding         # bytes sent and not written, of all
    uint64_t failed              # a shard cannot go on
    save_file_t *files           # one, or one a shard and then the summary
    uint32_t file_count
    feeder_t *feeders            # STREAMS a shard
    bint by_shard
    bint in_blocks               # the files of shards: frames
    bint compress                # strings, by LZF
    uint64_t files_left          # by_shard: of shards
    transaction_t *waiting       # SAVE; NULL: nobody waits
    int64_t cut_ms
    int64_t started_us
    uint64_t version_sum         # of the shards at the cut
    int error
    char reason[256]

cdef struct save_texts_t:
    char reason[256]             # SAVE_REASON_MAX: why the last one failed
    char path[1024]              # SAVE_PATH_MAX: of the last successful one

cdef struct saver_t:
    server_t *server
    uint64_t state               # save_state_t
    save_t *current
    # Settings; texts are replaced as a whole and never freed.
    const char *file_name
    const char *redis_version
    uint64_t by_shard
    uint64_t compression_mode    # compression_t
    uint64_t with_checksum
    # Asked for by Python: tokens are taken one after the other on the first thread.
    message_t ask_message
    grant_t grant
    uint32_t locked
    uint64_t asked
    # Results.
    uint64_t scheduled           # BGSAVE inside EXEC: Python starts it
    uint64_t ended               # saves, successful or not
    uint64_t saves
    uint64_t last_failed         # rdb_last_bgsave_status; SAVE only clears it, as in Redis
    uint64_t last_error          # of any kind of save
    uint64_t deny_on_error       # then writes are refused
    int64_t last_save_s
    int64_t last_try_s
    int64_t last_ms              # how long it took
    int64_t started_s
    uint64_t clean_version_sum   # of the shards at the last successful cut: rdb_changes_since_last_save
    uint64_t *entries            # one a thread: of the save under way; kept, so that anybody may read them
    uint64_t total_bytes
    uint64_t total_entries
    uint64_t total_forced
    uint64_t total_ms
    uint64_t pressure_count
    uint64_t last_bytes
    uint64_t last_entries
    uint64_t last_forced
    save_texts_t texts[4]        # SAVE_TEXTS; the last save's: saver_texts
    uint64_t texts_at

# Of the last save, from any thread; good while fewer than SAVE_TEXTS further saves end.
cdef const save_texts_t *saver_texts(saver_t *self) noexcept nogil

cdef void saver_init(server_t *server) noexcept nogil
cdef saver_t *saver_of(server_t *server) noexcept nogil
# Takes the right to save: a new save, or NULL when one is under way.
cdef save_t *save_new(saver_t *self) noexcept nogil
# Under the token of the shard, for every shard while the tokens of all are held.
cdef void save_cut(save_t *self, shard_t *shard) noexcept nogil
# After all cuts, still under the tokens.
cdef void save_prepare(save_t *self) noexcept nogil
# Then, on any thread. `waiting` is resumed on its origin when all is done, and reads self.error then.
cdef void save_launch(save_t *self, transaction_t *waiting) noexcept nogil
# From a thread that holds no token, the main one: the save begins soon. False: one is under way or asked for.
cdef bint save_ask(saver_t *self) noexcept nogil
cdef uint64_t saver_entries_so_far(saver_t *self) noexcept nogil      # of the save under way
cdef uint64_t saver_version_sum(saver_t *self) noexcept nogil
