"""Snapshots without fork: see save.pxd for how it works.

Invariants
1. saver.state is SAVE_RUNNING from save_new to finish; `current` is valid in between.
2. A stream sends its last chunk exactly once, when none of the shard's tables and values has a walk any more; after
   that no thread reaches its shard_save_t through one, and its timer does not run.
3. Between two entries of different feeders the file stands at the beginning of a record: a chunk begins with one
   unless the chunk before it `continues`.
"""

from libc.errno cimport EINVAL, ENAMETOOLONG
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset, strerror, strlen, strncmp, strrchr

from dfly._core.engine.access cimport ACCESS_MASK, access_frequency, policy_is_lfu
from dfly._core.engine.balance cimport balance_threads
from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.cron cimport expiry_soon, release_paused_soon
from dfly._core.engine.database cimport release_kept
from dfly._core.engine.eviction cimport memory_used_total
from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.engine.shard cimport (policy_tracks_access, scope_t, shard_close_books, shard_lock,
                                      shard_next_version, shard_open_books, shard_release, shard_t,
                                      shard_try_acquire, shard_unlock)
from dfly._core.engine.transaction cimport transaction_resume
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.loop.timer cimport timer_start, timer_t
from dfly._core.net.connection cimport net_thread_t
from dfly._core.persist.rdb_io cimport (rdb_put, rdb_put_byte, rdb_put_integer, rdb_put_length, rdb_put_ms,
                                        rdb_put_string, rdb_saving_t, rdb_writer_deinit, rdb_writer_init, rdb_writer_t)
from dfly._core.persist.rdb_walk cimport (rdb_can_walk, rdb_walk_begin, rdb_walk_end, rdb_walk_forced, rdb_walk_step)
from dfly._core.persist.rdb_value cimport (rdb_save_step, rdb_save_value, rdb_value_is_known, rdb_value_is_large,
                                           rdb_value_type)
from dfly._core.persist.save_file cimport (CHUNK_BYTES, SAVE_PATH_MAX, chunk_new, chunk_of,
                                           chunk_send, chunk_t, feeder_init, feeder_t, save_file_deinit,
                                           save_file_start, save_file_t, save_step_name)
from dfly._core.store.dash cimport DASH_NO_DEADLINE, dash_access_get, dash_deadline, dash_ref_t, dash_t
from dfly._core.store.dash_walk cimport dash_walk_begin, dash_walk_end, dash_walk_step
from dfly._core.store.object cimport OBJECT_SCRATCH, object_is_string, object_t, object_view
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, atomic_cas, atomic_load, atomic_load_relaxed,
                                  atomic_store, atomic_store_relaxed, atomic_sub,
                                  slice_t, unlikely)
from dfly._core.sys.clock cimport monotonic_us, wall_ms

__abi__ = DFLY_ABI_STAMP

cdef extern from * nogil:
    """
    #include <time.h>
    #include <unistd.h>
    static void dfly_time_text(long long seconds, char *out, size_t size) {
        time_t at = (time_t)seconds;
        struct tm parts;
        localtime_r(&at, &parts);
        strftime(out, size, "%Y-%m-%dT%H:%M:%S", &parts);
    }
    """
    void dfly_time_text(long long seconds, char *out, size_t size) noexcept
    int getpid() noexcept

cdef enum:
    # Opcodes.
    RDB_FREQUENCY = 0xF9
    RDB_IDLE = 0xF8
    RDB_AUX = 0xFA
    RDB_RESIZE = 0xFB
    RDB_EXPIRE_MS = 0xFC
    RDB_SELECT = 0xFE
    VERSION_MEMBER_DEADLINES = 12
    ENTRY_ROOM = 4096            # a chunk with less room is full: most entries stay whole
    WALK_BUCKETS = 2             # between looks at the clock
    SLICE_BUSY_US = 40
    SLICE_IDLE_US = 400
    PAUSE_IDLE_US = 10
    FIRST_US = 30000000
    SHARE_LATER = 11             # percent of a shard's time, while commands are executed; before, a setting
    RETRY_US = 500               # the token is taken, or too much is not written yet
    STEP_BYTES = 65536           # of a large value, between looks at the clock
    WORDS = 40
    ENTRIES_STRIDE = 8           # a cache line each


# ---- The saver ---------------------------------------------------------------------------------

cdef void saver_init(server_t *server) noexcept nogil:
    cdef saver_t *self = <saver_t *>net_zalloc(sizeof(saver_t))
    self.server = server
    self.file_name = "dump.rdb"
    self.redis_version = "7.0.0"
    self.with_checksum = 1
    self.compression_mode = COMPRESSION_BLOCKS
    self.entries = <uint64_t *>net_zalloc(server.thread_count * ENTRIES_STRIDE * sizeof(uint64_t))
    self.last_save_s = wall_ms() // 1000
    server.saver = self


cdef saver_t *saver_of(server_t *server) noexcept nogil:
    return <saver_t *>server.saver


cdef uint64_t saver_version_sum(saver_t *self) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    for i in range(self.server.thread_count):
        total += atomic_load_relaxed(&self.server.shards[i].version)
    return total


cdef uint64_t saver_entries_so_far(saver_t *self) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t i
    if atomic_load(&self.state) == SAVE_IDLE:
        return 0
    for i in range(self.server.thread_count):
        total += atomic_load_relaxed(&self.entries[i * ENTRIES_STRIDE])
    return total


cdef save_t *save_new(saver_t *self) noexcept nogil:
    cdef uint32_t count = self.server.thread_count
    cdef save_t *save
    cdef shard_save_t *part
    cdef uint32_t i
    cdef uint32_t k
    if not atomic_cas(&self.state, SAVE_IDLE, SAVE_RUNNING):
        return NULL
    save = <save_t *>net_zalloc(sizeof(save_t))
    save.saver = self
    save.by_shard = self.by_shard != 0
    choose_compression(save)
    save.cut_ms = wall_ms()
    save.started_us = monotonic_us()
    save.version = <uint32_t>self.server.settings.rdb_version
    save.file_count = count + 1 if save.by_shard else 1
    save.files = <save_file_t *>net_zalloc(save.file_count * sizeof(save_file_t))
    save.feeders = <feeder_t *>net_zalloc(STREAMS * count * sizeof(feeder_t))
    save.shards = <shard_save_t *>net_zalloc(count * sizeof(shard_save_t))
    save.files_left = count
    for i in range(count):
        part = &save.shards[i]
        part.save = save
        part.shard = self.server.shards[i]
        part.executor = self.server.executors[i]
        prepare_stream(&part.walked, part, STREAMS * i)
        prepare_stream(&part.forced, part, STREAMS * i + 1)
        for k in range(PARTS):
            prepare_stream(&part.parts[k].stream, part, STREAMS * i + 2 + k)
        part.entries = &self.entries[i * ENTRIES_STRIDE]
        part.entries[0] = 0
    self.started_s = save.cut_ms // 1000
    self.last_try_s = self.started_s
    self.current = save
    return save


cdef void choose_compression(save_t *self) noexcept nogil:
    cdef uint64_t mode = self.saver.compression_mode
    if self.saver.server.settings.rdb_compression == 0:
        mode = COMPRESSION_NONE
    self.in_blocks = self.by_shard and mode == COMPRESSION_BLOCKS
    self.compress = mode != COMPRESSION_NONE and not self.in_blocks


cdef void prepare_stream(stream_t *self, shard_save_t *owner, uint32_t number) noexcept nogil:
    self.owner = owner
    self.out = &owner.save.feeders[number]
    feeder_init(self.out, &owner.save.files[number // STREAMS if owner.save.by_shard else 0], &owner.save.outstanding)


# ---- The cut -----------------------------------------------------------------------------------

cdef void save_cut(save_t *self, shard_t *shard) noexcept nogil:
    cdef shard_save_t *part = &self.shards[shard.index]
    cdef uint32_t databases = shard.settings.databases
    cdef walk_row_t *row
    cdef uint32_t d
    part.rows = <walk_row_t *>net_zalloc(databases * sizeof(walk_row_t))
    for d in range(databases):
        if shard.databases[d] == NULL or shard.databases[d].table.count == 0:
            continue
        if shard.databases[d].members.count != 0 and self.version < VERSION_MEMBER_DEADLINES:
            self.version = VERSION_MEMBER_DEADLINES
        row = &part.rows[part.row_count]
        row.owner = part
        row.database = d
        row.is_open = True
        dash_walk_begin(&shard.databases[d].table, &row.walk, shard.version, visit, row)
        part.row_count += 1
    shard_next_version(shard)
    self.version_sum += shard.version


cdef void begin_stream(stream_t *self) noexcept nogil:
    """Its writer: before the first change after the cut, so under the tokens still."""
    cdef chunk_t *chunk = chunk_new(self.out)
    rdb_writer_init(&self.writer, self.owner.save.version, False, on_full, self, 0)
    net_free(self.writer.data)
    self.writer.data = chunk.data
    self.writer.capacity = CHUNK_BYTES
    self.writer.gives_up = True
    self.selected = -1


# ---- Entries -----------------------------------------------------------------------------------

cdef void on_full(rdb_writer_t *writer) noexcept nogil:
    """The chunk goes; in the middle of a record the next one must follow it."""
    cdef stream_t *self = <stream_t *>writer.context
    cdef chunk_t *chunk = chunk_of(writer.data)
    chunk.size = writer.size
    chunk.continues = self.is_inside
    self.is_split = self.is_inside
    chunk_send(chunk)
    writer.data = chunk_new(self.out).data
    writer.size = 0
    if not self.is_inside:
        self.selected = -1
    check_pressure(self.owner.save)


cdef void put_access(shard_save_t *self, rdb_writer_t *out, dash_ref_t *ref) noexcept nogil:
    """What Redis writes for policies that go by the access word."""
    cdef scope_t scope
    if not policy_tracks_access(self.shard.settings.maxmemory_policy):
        return
    scope.shard = self.shard
    scope.database = NULL
    scope.now_ms = self.save.cut_ms
    if policy_is_lfu(self.shard.settings):
        rdb_put_byte(out, RDB_FREQUENCY)
        rdb_put_byte(out, <unsigned char>access_frequency(&scope, ref))
    else:
        rdb_put_byte(out, RDB_IDLE)
        rdb_put_length(out, <uint64_t>((self.save.cut_ms // 1000 - dash_access_get(ref)) & ACCESS_MASK))


cdef bint visit(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil:
    cdef walk_row_t *row = <walk_row_t *>context
    cdef shard_save_t *self = row.owner
    cdef stream_t *stream = &self.walked if self.is_walking else &self.forced
    if unlikely(has_failed(self)):
        self.large = NULL
        return True
    if unlikely(self.large == ref.entry):
        return go_on_with_large(self, ref, row.walk.must_finish)
    if unlikely(not rdb_value_is_known(&ref.entry.value)):
        atomic_store(&self.save.failed, EINVAL)
        return True
    if unlikely(is_part(self, &ref.entry.value)):
        if self.is_walking and self.part_count > 0:
            # The walk has time; a file that waits for one record should not have to wait for others.
            return False
        if begin_part(self, ref, row.database):
            return True
    if stream.writer.size > CHUNK_BYTES - ENTRY_ROOM:
        on_full(&stream.writer)
    stream.is_inside = True
    # A change must not wait for the compressor.
    stream.writer.compress = self.is_walking and self.save.compress
    put_head(self, stream, ref, row.database)
    if self.is_walking and unlikely(rdb_value_is_large(&ref.entry.value)):
        self.large = ref.entry
        memset(&self.saving, 0, sizeof(rdb_saving_t))
        return False
    rdb_save_value(&ref.entry.value, &stream.writer)
    end_record(stream)
    return True


cdef inline bint is_part(const shard_save_t *self, const object_t *value) noexcept nogil:
    return (not object_is_string(value)
            and rdb_can_walk(value, <uint64_t>self.shard.settings.snapshot_elements))


cdef bint begin_part(shard_save_t *self, dash_ref_t *ref, uint32_t database) noexcept nogil:
    """From here on it is written member by member, as it is now; False: all streams are taken."""
    cdef part_t *part = NULL
    cdef uint32_t i
    for i in range(PARTS):
        if not self.parts[i].is_active:
            part = &self.parts[i]
            break
    if part == NULL:
        return False
    if part.stream.writer.data == NULL:
        begin_stream(&part.stream)
    elif part.stream.writer.size > CHUNK_BYTES - ENTRY_ROOM:
        on_full(&part.stream.writer)
    part.is_active = True
    atomic_store_relaxed(&self.part_count, self.part_count + 1)
    self.shard.value_walks += 1
    part.stream.is_inside = True
    part.stream.writer.compress = False
    put_head(self, &part.stream, ref, database)
    rdb_walk_begin(&part.walk, &ref.entry.value, &part.stream.writer, self.shard)
    return True


cdef void end_part(shard_save_t *self, part_t *part) noexcept nogil:
    part.is_active = False
    atomic_store_relaxed(&self.part_count, self.part_count - 1)
    self.shard.value_walks -= 1
    self.forced_buckets += rdb_walk_forced(&part.walk)


cdef bint may_go_on(const shard_save_t *self, const part_t *part) noexcept nogil:
    """One that nothing is waiting of always may: the file may be waiting for it."""
    cdef uint64_t waiting = atomic_load_relaxed(&part.stream.out.waiting)
    return waiting == 0 or (waiting <= PART_BYTES and atomic_load_relaxed(&self.save.outstanding) <= PARTS_BYTES)


cdef bint go_on_with_parts(shard_save_t *self) noexcept nogil:
    """Some members of the first one that may go on; False: none may."""
    cdef part_t *part
    cdef uint32_t i
    for i in range(PARTS):
        part = &self.parts[i]
        if not part.is_active or not may_go_on(self, part):
            continue
        part.stream.writer.compress = self.save.compress
        if rdb_walk_step(&part.walk):
            end_record(&part.stream)
            end_part(self, part)
        part.stream.writer.compress = False
        return True
    return False


cdef void end_record(stream_t *self) noexcept nogil:
    self.is_inside = False
    self.owner.entries[0] += 1
    if unlikely(self.is_split):
        # Nothing else is written before the rest of it: that must not wait for what fills its chunk.
        on_full(&self.writer)


cdef void put_head(shard_save_t *self, stream_t *stream, dash_ref_t *ref, uint32_t database) noexcept nogil:
    """All of a record but the value."""
    cdef rdb_writer_t *out = &stream.writer
    cdef char scratch[OBJECT_SCRATCH]
    cdef object_t key = ref.entry.key
    cdef slice_t text = object_view(&key, scratch)
    cdef int64_t deadline
    if stream.selected != database:
        stream.selected = database
        rdb_put_byte(out, RDB_SELECT)
        rdb_put_length(out, database)
    if (ref.bucket.deadline >> ref.slot) & 1:
        deadline = dash_deadline(ref)
        if deadline != DASH_NO_DEADLINE:
            rdb_put_byte(out, RDB_EXPIRE_MS)
            rdb_put_ms(out, deadline)
    put_access(self, out, ref)
    rdb_put_byte(out, <unsigned char>rdb_value_type(&ref.entry.value, out.version))
    rdb_put_string(out, text.data, text.size)


cdef bint go_on_with_large(shard_save_t *self, dash_ref_t *ref, bint must_finish) noexcept nogil:
    """In the stream of the walk, also when a change wants the rest."""
    cdef bint is_done = rdb_save_step(&ref.entry.value, &self.walked.writer, &self.saving, STEP_BYTES)
    while must_finish and not is_done:
        is_done = rdb_save_step(&ref.entry.value, &self.walked.writer, &self.saving, STEP_BYTES)
    if is_done:
        self.large = NULL
        end_record(&self.walked)
    return is_done


cdef inline bint has_failed(const shard_save_t *self) noexcept nogil:
    return atomic_load_relaxed(&self.save.failed) != 0 or atomic_load_relaxed(&self.walked.out.file.error) != 0


# ---- Pressure ----------------------------------------------------------------------------------

cdef void check_pressure(save_t *self) noexcept nogil:
    cdef server_t *server = self.saver.server
    if atomic_load_relaxed(&self.outstanding) > PRESSURE_BYTES and atomic_cas(&server.save_pressure, 0, 1):
        self.saver.pressure_count += 1


cdef void end_pressure(save_t *self) noexcept nogil:
    """On a file's thread. Who waits is released by its own thread."""
    cdef server_t *server = self.saver.server
    cdef message_t *message
    cdef uint32_t i
    if not atomic_cas(&server.save_pressure, 1, 0):
        return
    for i in range(server.thread_count):
        message = <message_t *>net_zalloc(sizeof(message_t))
        message.run = release_writers
        proactor_post(server.proactors[i], message)


cdef void release_writers(message_t *message, void *context) noexcept nogil:
    release_paused_soon(<executor_t *>(<net_thread_t *>(<proactor_t *>context).context).context)
    net_free(message)


cdef void on_written(save_file_t *file) noexcept nogil:
    cdef save_t *self = <save_t *>file.context
    if (unlikely(atomic_load_relaxed(&self.saver.server.save_pressure) != 0)
            and atomic_load_relaxed(&self.outstanding) < PRESSURE_BYTES // 2):
        end_pressure(self)


# ---- The walk ----------------------------------------------------------------------------------

cdef bint is_in_use(shard_save_t *self) noexcept nogil:
    """Has anybody used the shard since the last slice, or has this thread executed commands?"""
    cdef const shard_t *shard = self.shard
    cdef uint64_t uses = shard.version + shard.stats.hits + shard.stats.misses
    cdef uint64_t commands = self.executor.stats.commands
    cdef bint result = uses != self.uses_seen or (self.seen_by == self.executor and commands != self.commands_seen)
    self.uses_seen = uses
    self.seen_by = self.executor
    self.commands_seen = commands
    return result


cdef void on_start_part(message_t *message, void *context) noexcept nogil:
    """On the thread that is to walk."""
    cdef shard_save_t *self = <shard_save_t *>(<char *>message - <size_t>&(<shard_save_t *>NULL).start_message)
    self.timer.fire = on_walk_timer
    self.timer.context = self
    timer_start(&self.executor.proactor.timers, &self.timer, max(self.next_us, self.executor.proactor.now_us))


cdef void walk_at(shard_save_t *self, int64_t at_us, bint is_busy) noexcept nogil:
    """By its own thread, or, of a shard that is in use, by one that has connections: two threads would take the token
    from each other, and who is put off the processor while he has it stops the other."""
    cdef server_t *server = self.save.saver.server
    cdef executor_t *next_one = server.executors[self.shard.index]
    if is_busy:
        next_one = server.executors[self.shard.index % balance_threads(server)]
    if next_one == self.executor:
        timer_start(&next_one.proactor.timers, &self.timer, at_us)
        return
    self.executor = next_one
    self.next_us = at_us
    proactor_post(&next_one.proactor, &self.start_message)


cdef bint must_wait(const shard_save_t *self) noexcept nogil:
    """Without the token: too much of the walk's is not written yet. What parts wait for is looked at under it."""
    return (atomic_load_relaxed(&self.walked.out.waiting) > WALK_BYTES and not has_failed(self)
            and atomic_load_relaxed(&self.part_count) == 0)


cdef void free_kept(shard_save_t *self) noexcept nogil:
    cdef message_t *message
    if release_kept(self.shard):
        message = <message_t *>net_zalloc(sizeof(message_t))
        message.run = on_walk_over
        proactor_post(self.save.saver.server.proactors[self.shard.index], message)


cdef void on_walk_over(message_t *message, void *context) noexcept nogil:
    """What a flush had dropped can be freed now, by the shard's own thread."""
    expiry_soon(<executor_t *>(<net_thread_t *>(<proactor_t *>context).context).context)
    net_free(message)


cdef bint walk_slice(shard_save_t *self, int64_t until_us) noexcept nogil:
    """True when all tables have been visited, and the collections that their walks have begun with."""
    cdef walk_row_t *row
    self.is_walking = True
    self.is_stuck = False
    while self.part_count > 0 or self.row < self.row_count:
        if self.part_count > 0:
            self.is_stuck = not go_on_with_parts(self)
            if self.is_stuck or monotonic_us() >= until_us or has_failed(self):
                break
            continue
        row = &self.rows[self.row]
        if dash_walk_step(row.walk.table, WALK_BUCKETS):
            row.is_open = False
            self.forced_buckets += row.walk.forced
            self.row += 1
        elif (monotonic_us() >= until_us or has_failed(self)
                or atomic_load_relaxed(&self.walked.out.waiting) > WALK_BYTES):
            break
    self.is_walking = False
    return self.part_count == 0 and self.row == self.row_count


cdef void abandon(shard_save_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(PARTS):
        if self.parts[i].is_active:
            rdb_walk_end(&self.parts[i].walk)
            end_part(self, &self.parts[i])
    for i in range(self.row, self.row_count):
        dash_walk_end(self.rows[i].walk.table)
        self.rows[i].is_open = False
    self.row = self.row_count


cdef chunk_t *end_stream(stream_t *self) noexcept nogil:
    """Its last chunk, to be sent once the token is given back."""
    cdef chunk_t *chunk
    if self.writer.data == NULL:
        begin_stream(self)
    chunk = chunk_of(self.writer.data)
    chunk.size = self.writer.size
    chunk.is_last = True
    chunk.error = <int>atomic_load(&self.owner.save.failed)
    self.writer.data = NULL
    rdb_writer_deinit(&self.writer)
    return chunk


cdef int64_t pause_after(shard_save_t *self, int64_t now_us, int64_t spent, bint is_busy) noexcept nogil:
    cdef int64_t share = self.shard.settings.snapshot_time_share
    if self.is_stuck:
        return RETRY_US
    if not is_busy:
        return PAUSE_IDLE_US
    # What is above was the kernel's doing.
    if spent > 2 * SLICE_BUSY_US:
        spent = 2 * SLICE_BUSY_US
    if now_us - self.save.started_us >= FIRST_US:
        share = max(share, <int64_t>SHARE_LATER)
    return spent * (100 - share) // share


cdef void on_walk_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef shard_save_t *self = <shard_save_t *>timer.context
    cdef executor_t *executor = self.executor
    cdef bint is_busy
    cdef chunk_t *last[STREAMS]
    cdef uint32_t i
    cdef int64_t started
    cdef int64_t spent
    cdef bint is_done
    if must_wait(self) or not shard_try_acquire(self.shard):
        timer_start(&executor.proactor.timers, timer, now_us + RETRY_US)
        return
    started = monotonic_us()
    is_busy = is_in_use(self)
    if has_failed(self):
        abandon(self)
    is_done = walk_slice(self, started + (SLICE_BUSY_US if is_busy else SLICE_IDLE_US))
    if self.shard.kept != NULL and (is_done or self.shard.value_walks == 0):
        free_kept(self)
    if is_done:
        last[0] = end_stream(&self.walked)
        last[1] = end_stream(&self.forced)
        for i in range(PARTS):
            last[2 + i] = end_stream(&self.parts[i].stream)
        net_free(self.rows)
        shard_release(self.shard)
        # With the last one goes all that is ours.
        for i in range(STREAMS):
            chunk_send(last[i])
        return
    shard_release(self.shard)
    spent = monotonic_us() - started
    walk_at(self, started + spent + pause_after(self, started, spent, is_busy), is_busy)


# ---- The head of a file ------------------------------------------------------------------------

cdef void put_text(rdb_writer_t *out, const char *text) noexcept nogil:
    rdb_put_string(out, text, strlen(text))


cdef void put_aux(rdb_writer_t *out, const char *name, const char *value) noexcept nogil:
    rdb_put_byte(out, RDB_AUX)
    put_text(out, name)
    put_text(out, value)


cdef void put_aux_number(rdb_writer_t *out, const char *name, int64_t value) noexcept nogil:
    rdb_put_byte(out, RDB_AUX)
    put_text(out, name)
    rdb_put_integer(out, value)


cdef void begin_head(save_t *self, rdb_writer_t *out) noexcept nogil:
    cdef char text[WORDS]
    rdb_writer_init(out, self.version, False, NULL, NULL, 0)
    snprintf(text, sizeof(text), "REDIS%04u", self.version)
    rdb_put(out, text, 9)
    put_aux(out, "redis-ver", self.saver.redis_version)
    put_aux_number(out, "redis-bits", 64)
    put_aux_number(out, "ctime", self.cut_ms // 1000)
    put_aux_number(out, "used-mem", memory_used_total())
    put_aux_number(out, "aof-base", 0)


cdef void give_head(save_file_t *file, rdb_writer_t *out) noexcept nogil:
    file.head = out.data
    file.head_size = out.size
    out.data = NULL
    rdb_writer_deinit(out)


cdef void put_sizes(save_t *self, uint32_t first, uint32_t end, rdb_writer_t *out) noexcept nogil:
    """How many keys each database has in these shards, so that loaders make room at once. Under the tokens."""
    cdef server_t *server = self.saver.server
    cdef uint64_t keys
    cdef uint64_t deadlines
    cdef uint32_t d
    cdef uint32_t i
    for d in range(server.settings.databases):
        keys = 0
        deadlines = 0
        for i in range(first, end):
            if server.shards[i].databases[d] != NULL:
                keys += server.shards[i].databases[d].table.count
                deadlines += server.shards[i].databases[d].table.deadline_count
        if keys != 0:
            rdb_put_byte(out, RDB_SELECT)
            rdb_put_length(out, d)
            rdb_put_byte(out, RDB_RESIZE)
            rdb_put_length(out, keys)
            rdb_put_length(out, deadlines)


# ---- Names -------------------------------------------------------------------------------------

cdef bint expand_name(const char *pattern, int64_t now_s, char *out) noexcept nogil:
    """{timestamp} becomes the time; False: too long."""
    cdef const char *mark = "{timestamp}"
    cdef char time_text[WORDS]
    cdef size_t size = 0
    cdef size_t piece
    dfly_time_text(now_s, time_text, sizeof(time_text))
    while pattern[0] != 0:
        if strncmp(pattern, mark, strlen(mark)) == 0:
            piece = strlen(time_text)
            if size + piece >= SAVE_PATH_MAX - WORDS:
                return False
            memcpy(out + size, time_text, piece)
            pattern += strlen(mark)
        else:
            piece = 1
            if size + piece >= SAVE_PATH_MAX - WORDS:
                return False
            out[size] = pattern[0]
            pattern += 1
        size += piece
    out[size] = 0
    return True


cdef void cut_extension(char *name) noexcept nogil:
    cdef char *dot = strrchr(name, c'.')
    if dot != NULL and (strncmp(dot, ".rdb", 5) == 0 or strncmp(dot, ".dfs", 5) == 0):
        dot[0] = 0


cdef void name_file(save_t *self, save_file_t *file, const char *base, const char *ending,
                    uint32_t number) noexcept nogil:
    """Its temporary name stands beside the final one, for rename; start-up knows it by its beginning."""
    cdef const char *slash
    snprintf(file.final_path, SAVE_PATH_MAX, "%s%s", base, ending)
    slash = strrchr(file.final_path, c'/')
    if slash == NULL:
        snprintf(file.folder, SAVE_PATH_MAX, ".")
    else:
        snprintf(file.folder, SAVE_PATH_MAX, "%.*s", <int>(slash - file.final_path + 1), file.final_path)
    snprintf(file.path, SAVE_PATH_MAX, "%.*s/temp-dfly-%d-%u.rdb", SAVE_PATH_MAX - WORDS - 10, file.folder,
             getpid(), number)


cdef bint name_files(save_t *self) noexcept nogil:
    cdef save_file_t *summary = &self.files[self.file_count - 1]
    cdef char base[SAVE_PATH_MAX]
    cdef char ending[WORDS]
    cdef uint32_t i
    if self.saver.file_name[0] == 0 or not expand_name(self.saver.file_name, self.cut_ms // 1000, base):
        return False
    if not self.by_shard:
        name_file(self, summary, base, "", 0)
        return True
    cut_extension(base)
    name_file(self, summary, base, "-summary.dfs", 0)
    for i in range(self.file_count - 1):
        # The cut's time makes the names new: the files of the snapshot before stay until the summary is there.
        snprintf(ending, sizeof(ending), "-%llx-%04u.dfs", <unsigned long long>self.cut_ms, i)
        name_file(self, &self.files[i], base, ending, i + 1)
    return True


# ---- From the cut to the end -------------------------------------------------------------------

cdef void prepare_file(save_t *self, save_file_t *file, feeder_t *feeders, uint32_t count) noexcept nogil:
    file.feeders = feeders
    file.feeder_count = count
    file.with_checksum = self.saver.with_checksum != 0
    file.on_written = on_written
    file.on_done = on_file_done
    file.context = self


cdef bint is_busy(save_file_t *file) noexcept nogil:
    """On any thread: clients may need the processor on which an idle one compresses."""
    cdef save_t *self = <save_t *>file.context
    cdef server_t *server = self.saver.server
    cdef uint64_t commands = 0
    cdef bint result
    cdef uint32_t i
    for i in range(server.thread_count):
        commands += atomic_load_relaxed(&server.executors[i].stats.commands)
    result = commands != file.commands_seen
    file.commands_seen = commands
    return result


cdef void save_prepare(save_t *self) noexcept nogil:
    """Under the tokens, after the cuts."""
    cdef uint32_t count = self.saver.server.thread_count
    cdef rdb_writer_t out
    cdef uint32_t i
    if not name_files(self):
        self.failed = EINVAL if self.saver.file_name[0] == 0 else ENAMETOOLONG
    for i in range(count):
        begin_stream(&self.shards[i].walked)
        begin_stream(&self.shards[i].forced)
    if not self.by_shard:
        begin_head(self, &out)
        put_sizes(self, 0, count, &out)
        give_head(&self.files[0], &out)
        prepare_file(self, &self.files[0], self.feeders, STREAMS * count)
        return
    for i in range(count):
        begin_head(self, &out)
        put_sizes(self, i, i + 1, &out)
        give_head(&self.files[i], &out)
        prepare_file(self, &self.files[i], &self.feeders[STREAMS * i], STREAMS)
        self.files[i].is_framed = self.in_blocks
        self.files[i].is_busy = is_busy
    begin_head(self, &out)
    put_aux_number(&out, "dfly-shards", count)
    for i in range(count):
        put_aux(&out, "dfly-file", base_name(self.files[i].final_path))
    give_head(&self.files[count], &out)
    prepare_file(self, &self.files[count], NULL, 0)


cdef const char *base_name(const char *path) noexcept nogil:
    cdef const char *slash = strrchr(path, c'/')
    return path if slash == NULL else slash + 1


cdef void save_launch(save_t *self, transaction_t *waiting) noexcept nogil:
    cdef server_t *server = self.saver.server
    cdef uint32_t count = server.thread_count
    cdef uint32_t i
    self.waiting = waiting
    for i in range(count if self.by_shard else 1):
        save_file_start(&self.files[i], server.proactors[i])
    for i in range(count):
        self.shards[i].start_message.run = on_start_part
        proactor_post(server.proactors[i], &self.shards[i].start_message)


cdef void take_error(save_t *self, save_file_t *file) noexcept nogil:
    if file.error != 0 and self.error == 0:
        self.error = <int>file.error
        snprintf(self.reason, sizeof(self.reason), "cannot %s '%.120s': %.80s", save_step_name(file.failed_step),
                 file.path, strerror(<int>file.error))


cdef void on_file_done(save_file_t *file) noexcept nogil:
    cdef save_t *self = <save_t *>file.context
    cdef save_file_t *summary = &self.files[self.file_count - 1]
    cdef uint32_t i
    if file == summary:
        finish(self)
    elif atomic_sub(&self.files_left, 1) == 0:
        summary.error = atomic_load(&self.failed)
        for i in range(self.file_count - 1):
            if self.files[i].error != 0:
                summary.error = self.files[i].error
        save_file_start(summary, self.saver.server.proactors[0])


cdef const save_texts_t *saver_texts(saver_t *self) noexcept nogil:
    return &self.texts[atomic_load(&self.texts_at) % SAVE_TEXTS]


cdef void publish_texts(save_t *self) noexcept nogil:
    """Readers of the ones before are not disturbed."""
    cdef saver_t *saver = self.saver
    cdef save_texts_t *texts = &saver.texts[(saver.texts_at + 1) % SAVE_TEXTS]
    memcpy(texts.reason, self.reason, SAVE_REASON_MAX)
    if self.error == 0:
        snprintf(texts.path, SAVE_PATH_MAX, "%s", self.files[self.file_count - 1].final_path)
    else:
        memcpy(texts.path, saver_texts(saver).path, SAVE_PATH_MAX)
    atomic_store(&saver.texts_at, saver.texts_at + 1)


cdef void finish(save_t *self) noexcept nogil:
    """On the first thread: all files are complete or gone."""
    cdef saver_t *saver = self.saver
    cdef transaction_t *waiting = self.waiting
    cdef uint64_t entries = 0
    cdef uint64_t forced = 0
    cdef uint64_t size = 0
    cdef uint32_t i
    end_pressure(self)
    for i in range(self.file_count):
        take_error(self, &self.files[i])
        size += self.files[i].bytes
    for i in range(saver.server.thread_count):
        entries += self.shards[i].entries[0]
        forced += self.shards[i].forced_buckets
    saver.last_ms = (monotonic_us() - self.started_us) // 1000
    saver.last_error = <uint64_t>self.error
    if self.error == 0 or waiting == NULL:
        atomic_store(&saver.last_failed, self.error != 0)
        atomic_store(&saver.server.deny_writes, self.error != 0 and atomic_load(&saver.deny_on_error) != 0)
    if self.error == 0:
        saver.last_save_s = wall_ms() // 1000
        saver.saves += 1
        saver.last_bytes = size
        saver.last_entries = entries
        saver.last_forced = forced
        saver.clean_version_sum = self.version_sum
    publish_texts(self)
    saver.total_bytes += size
    saver.total_entries += entries
    saver.total_forced += forced
    saver.total_ms += <uint64_t>saver.last_ms
    if waiting != NULL:
        waiting.numbers[0] = self.error
    free_save(self)
    saver.current = NULL
    atomic_store(&saver.ended, saver.ended + 1)
    atomic_store(&saver.state, SAVE_IDLE)
    if waiting != NULL:
        waiting.done_message.run = resume_waiting
        proactor_post(waiting.origin, &waiting.done_message)


cdef void free_save(save_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.file_count):
        save_file_deinit(&self.files[i])
    net_free(self.files)
    net_free(self.feeders)
    net_free(self.shards)
    net_free(self)


cdef void resume_waiting(message_t *message, void *context) noexcept nogil:
    transaction_resume(<transaction_t *>message)


# ---- Asked for by Python -----------------------------------------------------------------------

cdef bint save_ask(saver_t *self) noexcept nogil:
    if atomic_load(&self.state) != SAVE_IDLE or not atomic_cas(&self.asked, 0, 1):
        return False
    self.ask_message.run = on_ask
    proactor_post(self.server.proactors[0], &self.ask_message)
    return True


cdef void on_ask(message_t *message, void *context) noexcept nogil:
    cdef saver_t *self = <saver_t *>(<char *>message - <size_t>&(<saver_t *>NULL).ask_message)
    self.locked = 0
    take_tokens(self)


cdef void on_granted(message_t *message, void *context) noexcept nogil:
    cdef saver_t *self = <saver_t *>(<char *>message - <size_t>&(<saver_t *>NULL).grant)
    self.locked += 1
    take_tokens(self)


cdef void take_tokens(saver_t *self) noexcept nogil:
    """In ascending order, as every transaction; then the cut."""
    cdef server_t *server = self.server
    cdef save_t *save
    cdef uint32_t i
    while self.locked < server.thread_count:
        self.grant.home = server.proactors[0]
        self.grant.on_granted = on_granted
        if not shard_lock(server.shards[self.locked], &self.grant):
            return
        self.locked += 1
    save = save_new(self)
    if save != NULL:
        for i in range(server.thread_count):
            shard_open_books(server.shards[i])
            save_cut(save, server.shards[i])
            shard_close_books(server.shards[i])
        save_prepare(save)
    while self.locked > 0:
        self.locked -= 1
        shard_unlock(server.shards[self.locked])
    atomic_store(&self.asked, 0)
    if save != NULL:
        save_launch(save, NULL)
