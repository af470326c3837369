"""Periodic work of one shard thread, each piece bounded in time.

Two timers. expire_timer deletes what is due and frees dropped tables in slices of at most
SLICE_US, every EXPIRE_PERIOD_US while there is something to do. cron_timer runs ten times a second
and looks after clients and clocks. If another thread holds the shard's token, the piece is tried
again a millisecond later: a timer never waits for a token. Clients are looked after a tenth of them at a time.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.balance cimport balance
from dfly._core.engine.dispatch cimport dispatch_resume
from dfly._core.engine.eviction cimport memory_used_total
from dfly._core.engine.expiry cimport expire_due, next_deadline, purge_step, reclaim_step, sample_ttls
from dfly._core.engine.latency cimport LATENCY_EXPIRE_CYCLE, latency_add, latency_is_event
from dfly._core.engine.member_expiry cimport members_expire_due, members_sweep
from dfly._core.engine.server_state cimport CLIENT_PEAK_SECONDS, PAUSE_OFF, executor_t, server_t
from dfly._core.engine.settings cimport CLIENT_CLASS_NORMAL, CLIENT_CLASS_PUBSUB, output_limit_t, settings_t
from dfly._core.engine.shard cimport policy_tracks_access, shard_release, shard_t, shard_try_acquire
from dfly._core.engine.waiter cimport serve_shard_waiters
from dfly._core.loop.timer cimport timer_start, timer_stop, timer_t
from dfly._core.net.connection cimport (CONNECTION_MONITOR, CONNECTION_PUBSUB, connection_close, connection_has_output,
                                        connection_output_bytes, connection_release, connection_t)
from dfly._core.net.posix cimport peer_has_finished
from dfly._core.store.dash cimport dash_enable_access_tracking
from dfly._core.sys.alloc cimport mem_collect, mem_return_early_begin, mem_return_early_end, mem_return_to_system
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, atomic_load_relaxed, atomic_store_relaxed, cycle_ticks,
                                  prefetch, slice_t, unlikely)
from dfly._core.sys.clock cimport monotonic_us

__abi__ = DFLY_ABI_STAMP

cdef enum:
    QUIET_MS = 100               # after its last byte a client's end is looked for
    CRON_PERIOD_US = 100000
    CLIENTS_PERIOD_US = 1000000  # each client is looked after once in this time ...
    CLIENTS_LEAST = 16           # ... at least so many at once
    EXPIRE_PERIOD_US = 20000     # lag of expiry is at most about this plus a slice's wait
    IDLE_PERIOD_US = 100000      # nothing has a deadline
    RETRY_US = 1000
    SLICE_US = 1000
    EXPIRE_STEP = 64             # keys between looks at the clock
    RECLAIM_STEP = 256
    WALKED_BYTES = 0x8000000     # whose pages take less than a millisecond
    QUIET_LOOKS = 5              # of CRON_PERIOD_US, in which the allocator keeps a free page
    PURGE_STEP = 4               # blocks with what dozens of members have left


cdef bint expire_slice(executor_t *self, int64_t deadline_us) noexcept nogil:
    """True when nothing due is left."""
    cdef uint64_t done
    while True:
        done = expire_due(self.shard, self.proactor.now_ms, EXPIRE_STEP)
        if done < EXPIRE_STEP:
            return True
        if monotonic_us() >= deadline_us:
            return False


cdef bint reclaim_slice(executor_t *self, int64_t deadline_us) noexcept nogil:
    cdef bint is_done
    mem_return_early_begin()
    while True:
        is_done = reclaim_step(self.shard, RECLAIM_STEP)
        if is_done or monotonic_us() >= deadline_us:
            break
    mem_return_early_end()
    return is_done


cdef inline bint is_paused(const executor_t *self) noexcept nogil:
    """CLIENT PAUSE ends by its time: nobody takes its mode back then."""
    return (atomic_load_relaxed(&self.server.pause_mode) != PAUSE_OFF
            and <int64_t>atomic_load_relaxed(&self.server.pause_until_ms) > self.proactor.now_ms)


cdef bint purge_slice(executor_t *self, int64_t deadline_us) noexcept nogil:
    while not purge_step(self.shard, PURGE_STEP):
        if monotonic_us() >= deadline_us:
            return False
    return True


cdef void on_expire_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef executor_t *self = <executor_t *>timer.context
    cdef shard_t *shard = self.shard
    cdef int64_t wait_us = IDLE_PERIOD_US
    cdef int64_t slice_end
    cdef bint reclaiming = False
    cdef bint expired = True
    cdef uint64_t started
    cdef uint64_t spent
    if not shard_try_acquire(shard):
        timer_start(&self.proactor.timers, timer, now_us + RETRY_US)
        return
    slice_end = monotonic_us() + SLICE_US
    if (self.server.settings.active_expire_enabled and not is_paused(self)
            and atomic_load_relaxed(&self.server.save_pressure) == 0):
        started = cycle_ticks()
        expired = (expire_slice(self, slice_end)
                   and members_expire_due(shard, self.proactor.now_ms, slice_end))
        spent = cycle_ticks() - started
        shard.stats.expire_ticks += spent
        shard.stats.expire_cap_reached += not expired
        if latency_is_event(shard.settings, spent):
            latency_add(&shard.latency, shard.settings, LATENCY_EXPIRE_CYCLE, spent)
        if unlikely(shard.blocked.ready_first != NULL):
            # Readers of a group whose stream has expired.
            serve_shard_waiters(shard, self.proactor.now_ms)
        if next_deadline(shard) >= 0:
            wait_us = EXPIRE_PERIOD_US
    if shard.reclaim != NULL:
        reclaiming = True
        if reclaim_slice(self, slice_end):
            reclaiming = False
            mem_return_to_system()
    if unlikely(shard.purge_count != 0) and not purge_slice(self, slice_end):
        reclaiming = True
    if reclaiming or not expired:
        wait_us = RETRY_US
    shard_release(shard)
    timer_start(&self.proactor.timers, timer, now_us + wait_us)


cdef void expiry_soon(executor_t *self) noexcept nogil:
    timer_start(&self.proactor.timers, &self.expire_timer, self.proactor.now_us + RETRY_US)


cdef bint over_soft_limit(connection_t *connection, const output_limit_t *limit,
                          int64_t now_ms) noexcept nogil:
    if limit.soft_bytes == 0 or connection_output_bytes(connection) <= <size_t>limit.soft_bytes:
        connection.output_soft_since_ms = 0
        return False
    if connection.output_soft_since_ms == 0:
        connection.output_soft_since_ms = now_ms
        return False
    return now_ms - connection.output_soft_since_ms > limit.soft_seconds * 1000


cdef void check_client(executor_t *self, connection_t *connection, int64_t now_ms) noexcept nogil:
    cdef settings_t *settings = &self.server.settings
    cdef output_limit_t *limit = &settings.output_limits[
        CLIENT_CLASS_PUBSUB if connection.flags & CONNECTION_PUBSUB else CLIENT_CLASS_NORMAL]
    if (limit.hard_bytes != 0 and connection_output_bytes(connection) > <size_t>limit.hard_bytes) \
            or over_soft_limit(connection, limit, now_ms):
        self.stats.output_limit_closes += 1
        connection_close(connection)
    elif (settings.timeout_s > 0 and not connection.is_busy
            and not connection.flags & (CONNECTION_MONITOR | CONNECTION_PUBSUB)
            and now_ms - connection.last_interaction_ms > settings.timeout_s * 1000):
        self.stats.timeout_closes += 1
        connection_close(connection)
    elif (became_quiet(self, connection, now_ms) and is_at_rest(connection)
            and peer_has_finished(connection.stream.fd)):
        # The kernel's multishot receive has missed an end that came together with data, and stays armed
        # on the closed socket (seen on Linux 6.18).
        connection_close(connection)


cdef inline bint became_quiet(const executor_t *self, const connection_t *connection,
                              int64_t now_ms) noexcept nogil:
    """Since the last look, which was not before its walk: each connection is looked at after it has sent something."""
    return (connection.last_interaction_ms <= now_ms - QUIET_MS
            and connection.last_interaction_ms > self.clients_walk_before_ms - QUIET_MS)


cdef inline bint is_at_rest(const connection_t *connection) noexcept nogil:
    """Nothing is under way to a peer that may have gone."""
    return ((not connection.is_busy or connection.is_blocked) and not connection.is_client_paused
            and not connection.stream.is_paused and not connection.stream.is_sending
            and not connection.stream.is_closing and not connection_has_output(connection))


cdef inline void note_larger(uint64_t *peak, size_t size) noexcept nogil:
    if size > peak[0]:
        peak[0] = size


cdef inline void prefetch_client(const connection_t *connection) noexcept nogil:
    """What looking after it reads."""
    prefetch(&connection.next)
    prefetch(&connection.parser.argv_capacity)
    prefetch(&connection.output.capacity)
    prefetch(&connection.sending.capacity)
    prefetch(&connection.last_interaction_ms)


cdef bint may_begin_walk(executor_t *self) noexcept nogil:
    # The timer may come a little early or late.
    if self.proactor.now_us - self.clients_walk_us < CLIENTS_PERIOD_US - CRON_PERIOD_US // 2:
        return False
    self.clients_walk_us = self.proactor.now_us
    self.clients_walk_before_ms = self.clients_walk_ms
    self.clients_walk_ms = self.proactor.now_ms
    self.net.walk = self.net.connections
    return True


cdef void check_clients(executor_t *self) noexcept nogil:
    cdef uint64_t left = self.net.connection_count * CRON_PERIOD_US // CLIENTS_PERIOD_US + CLIENTS_LEAST
    cdef connection_t *connection
    cdef uint32_t second = <uint32_t>(self.proactor.now_ms // 1000 % CLIENT_PEAK_SECONDS)
    # The slot of the coming second is of eight seconds ago.
    self.input_peaks[(second + 1) % CLIENT_PEAK_SECONDS] = 0
    self.output_peaks[(second + 1) % CLIENT_PEAK_SECONDS] = 0
    if self.net.walk == NULL and not may_begin_walk(self):
        return
    while self.net.walk != NULL and left > 0:
        left -= 1
        connection = self.net.walk
        self.net.walk = connection.next
        if connection.next != NULL:
            prefetch_client(connection.next)
        if not connection.is_closed:
            note_larger(&self.input_peaks[second],
                        connection.input_capacity + connection.parser.argv_capacity * sizeof(slice_t))
            note_larger(&self.output_peaks[second], connection.output.capacity + connection.sending.capacity)
            check_client(self, connection, self.proactor.now_ms)


cdef void look_after_shard(shard_t *shard, int64_t now_ms) noexcept nogil:
    if not shard_try_acquire(shard):
        return
    if policy_tracks_access(shard.settings.maxmemory_policy):
        track_access(shard)
    if shard.settings.active_expire_enabled:
        sample_ttls(shard, now_ms)
    members_sweep(shard)
    shard_release(shard)


cdef void track_access(shard_t *shard) noexcept nogil:
    """CONFIG SET maxmemory-policy: existing tables get access words when the policy wants them."""
    cdef uint32_t i
    for i in range(shard.settings.databases):
        if shard.databases[i] != NULL and not shard.databases[i].table.access_tracking:
            dash_enable_access_tracking(&shard.databases[i].table, <uint32_t>atomic_load_relaxed(&shard.access_clock))


cdef void note_peak(server_t *server) noexcept nogil:
    cdef uint64_t used = <uint64_t>memory_used_total()
    if used > atomic_load_relaxed(&server.peak_used):
        atomic_store_relaxed(&server.peak_used, used)


cdef void find_free_pages(executor_t *self) noexcept nogil:
    """Those that others have freed, and some that the allocator keeps: a walk over all pages. So only where they are
    few, or when a sixteenth of all memory has gone."""
    cdef uint64_t used = <uint64_t>memory_used_total()
    if (self.most_used < WALKED_BYTES
            or (self.server.thread_count > 1 and self.most_used > used + self.most_used // 16)):
        mem_collect()
        self.most_used = used


cdef void return_pages_when_quiet(executor_t *self) noexcept nogil:
    """When nothing has changed and no client has gone since the last look, and some times more, until what became free
    last has been free for long enough: the allocator itself sees to free pages only while it is used."""
    cdef server_t *server = self.server
    cdef uint64_t gone = self.net.connections_received - self.net.connection_count
    cdef uint64_t version = 0
    cdef uint32_t i
    self.most_used = max(self.most_used, <uint64_t>memory_used_total())
    for i in range(server.thread_count):
        version += atomic_load_relaxed(&server.shards[i].version)
    if version != self.version_seen or gone != self.gone_seen:
        self.version_seen = version
        self.gone_seen = gone
        self.quiet_looks = 0
    elif self.quiet_looks < QUIET_LOOKS:
        self.quiet_looks += 1
        find_free_pages(self)
        mem_return_to_system()


cdef void on_cron_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef executor_t *self = <executor_t *>timer.context
    self.net.tcp_keepalive_s = self.server.settings.tcp_keepalive_s
    atomic_store_relaxed(&self.shard.access_clock, <uint64_t>((self.proactor.now_ms // 1000) & 0xFFFFFF))
    note_peak(self.server)
    check_clients(self)
    return_pages_when_quiet(self)
    look_after_shard(self.shard, self.proactor.now_ms)
    balance(self)
    if self.paused != NULL and <int64_t>atomic_load_relaxed(&self.server.pause_until_ms) <= self.proactor.now_ms:
        release_paused(self)
    timer_start(&self.proactor.timers, timer, now_us + CRON_PERIOD_US)


cdef void release_paused(executor_t *self) noexcept nogil:
    cdef connection_t *connection = self.paused
    cdef connection_t *following
    self.paused = NULL
    self.paused_count = 0
    while connection != NULL:
        following = connection.next_paused
        connection.is_client_paused = False
        connection.next_paused = NULL
        dispatch_resume(connection)
        connection_release(connection)
        connection = following


cdef void on_pause_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    release_paused(<executor_t *>timer.context)


cdef void release_paused_soon(executor_t *self) noexcept nogil:
    # Not at once: we may be in the middle of another connection's batch.
    timer_start(&self.proactor.timers, &self.pause_timer, self.proactor.now_us)


cdef void cron_start(executor_t *self) noexcept nogil:
    self.pause_timer.fire = on_pause_timer
    self.pause_timer.context = self
    self.cron_timer.fire = on_cron_timer
    self.cron_timer.context = self
    self.expire_timer.fire = on_expire_timer
    self.expire_timer.context = self
    timer_start(&self.proactor.timers, &self.cron_timer, self.proactor.now_us + CRON_PERIOD_US)
    timer_start(&self.proactor.timers, &self.expire_timer, self.proactor.now_us + IDLE_PERIOD_US)


cdef void cron_stop(executor_t *self) noexcept nogil:
    timer_stop(&self.proactor.timers, &self.cron_timer)
    timer_stop(&self.proactor.timers, &self.expire_timer)
    timer_stop(&self.proactor.timers, &self.pause_timer)
