"""Which threads have connections: see balance.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.server_state cimport executor_t, server_t, spread_trial_t, trial_hold_t
from dfly._core.loop.timer cimport timer_start, timer_t
from dfly._core.net.connection cimport connection_t
from dfly._core.net.migration cimport connection_move
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_load_relaxed, atomic_store_relaxed
from dfly._core.sys.clock cimport monotonic_us, thread_cpu_us, ticks_per_us

__abi__ = DFLY_ABI_STAMP

cdef enum:
    SHUFFLE_US = 1000            # for tests: everything moves all the time
    FULL = 900                   # permille of a thread's time, in ...
    FULL_PERIODS = 2             # ... so many periods of cron on end: more threads
    ENOUGH = 500                 # permille for each thread that would be left, in ...
    ENOUGH_PERIODS = 30          # ... so many periods on end: fewer
    TRIAL_PERIODS = 5            # of more threads, until they are judged ...
    TRIAL_SETTLING = 2           # ... by all of these but the first
    TRIAL_KEEPS = 97             # percent of the commands that were done before
    HOLD_MS = 4000               # until the next trial after one that failed; twice as long each time ...
    HOLD_MAX_MS = 60000          # ... up to this
    WAITS_MANY = 100             # a token wait for every so many commands, in ...
    WAITS_LEAST = 100            # ... at least so many waits a period ...
    WAITS_PERIODS = 2            # ... and so many periods on end: a trial of half as many threads
    TRIAL_GATHERS = 105          # percent of the commands that were done before
    GATHER_HOLD_MAX_MS = 600000
    SLOW_US = 10000              # a command that takes so long ...
    SLOW_KEEPS_MS = 60000        # ... spreads connections over all threads for this time
    LOOKED_AT_MAX = 4096         # connections a period
    MOVED_MAX = 512


cdef uint32_t balance_threads(const server_t *server) noexcept nogil:
    cdef uint32_t used = <uint32_t>atomic_load_relaxed(&server.connection_threads)
    return used if used > 0 else 1


cdef executor_t *balance_place(server_t *server) noexcept nogil:
    return server.executors[(atomic_add(&server.listener_next, 1) - 1) % balance_threads(server)]


cdef void measure(executor_t *self) noexcept nogil:
    cdef int64_t now_us = monotonic_us()
    cdef int64_t cpu_us = thread_cpu_us()
    cdef int64_t elapsed = now_us - self.measured_us
    if elapsed > 0:
        atomic_store_relaxed(&self.busy_permille, <uint64_t>((cpu_us - self.measured_cpu_us) * 1000 // elapsed))
    self.measured_us = now_us
    self.measured_cpu_us = cpu_us
    atomic_store_relaxed(&self.client_count, self.net.connection_count)
    atomic_store_relaxed(&self.command_count, self.stats.commands)
    atomic_store_relaxed(&self.wait_count, self.stats.token_waits)
    if self.longest_ticks > <uint64_t>(SLOW_US * ticks_per_us()):
        atomic_store_relaxed(&self.server.spread_until_ms, <uint64_t>(self.proactor.now_ms + SLOW_KEEPS_MS))
    self.longest_ticks = 0


cdef void take_counts(server_t *server) noexcept nogil:
    """How many commands all threads have executed since it was last asked, and how often one waited for tokens."""
    cdef uint64_t commands = 0
    cdef uint64_t waits = 0
    cdef uint32_t i
    for i in range(server.thread_count):
        commands += atomic_load_relaxed(&server.executors[i].command_count)
        waits += atomic_load_relaxed(&server.executors[i].wait_count)
    server.commands_done = commands - server.commands_seen
    server.waits_done = waits - server.waits_seen
    server.commands_seen = commands
    server.waits_seen = waits


cdef uint32_t begin_trial(server_t *server, uint64_t done, uint32_t used, uint32_t tried) noexcept nogil:
    cdef spread_trial_t *trial = &server.spread_trial
    trial.threads_before = used
    trial.done_before = done
    trial.done = 0
    trial.busy = 0
    trial.periods_left = TRIAL_PERIODS
    server.full_periods = 0
    server.waiting_periods = 0
    return tried


cdef void hold(trial_hold_t *self, int64_t most_ms, int64_t now_ms) noexcept nogil:
    self.last_ms = min(2 * self.last_ms, most_ms) if self.last_ms > 0 else <int64_t>HOLD_MS
    self.until_ms = now_ms + self.last_ms


cdef uint32_t go_on_with_trial(server_t *server, uint64_t busy, uint32_t used, int64_t now_ms) noexcept nogil:
    """Where cores are few, or threads mostly wait for one another, more threads get less done."""
    cdef spread_trial_t *trial = &server.spread_trial
    cdef uint64_t counted = TRIAL_PERIODS - TRIAL_SETTLING
    cdef bint is_of_fewer = used < trial.threads_before
    trial.periods_left -= 1
    if trial.periods_left < counted:
        trial.done += server.commands_done
        trial.busy += busy
    if trial.periods_left > 0:
        return used
    if trial.done * 100 >= trial.done_before * counted * (TRIAL_GATHERS if is_of_fewer else TRIAL_KEEPS):
        if is_of_fewer:
            trial.gather_hold.last_ms = 0
            hold(&trial.spread_hold, HOLD_MAX_MS, now_ms)
            trial.gathered_until_ms = trial.spread_hold.until_ms
        else:
            trial.spread_hold.last_ms = 0
            trial.gather_hold.until_ms = max(trial.gather_hold.until_ms, now_ms + HOLD_MS)
        return used
    # A load that has ended says nothing.
    if trial.busy >= ENOUGH * counted:
        if is_of_fewer:
            hold(&trial.gather_hold, GATHER_HOLD_MAX_MS, now_ms)
        else:
            hold(&trial.spread_hold, HOLD_MAX_MS, now_ms)
    return <uint32_t>trial.threads_before


cdef uint64_t count_periods(server_t *server, uint32_t used) noexcept nogil:
    """For how many periods on end the threads have been like this; returns what all of them were busy."""
    cdef uint64_t total = 0
    cdef uint64_t peak = 0
    cdef uint64_t busy
    cdef uint32_t i
    for i in range(server.thread_count):
        busy = atomic_load_relaxed(&server.executors[i].busy_permille)
        total += busy
        if i < used:
            peak = max(peak, busy)
    server.full_periods = server.full_periods + 1 if peak >= FULL else 0
    server.idle_periods = server.idle_periods + 1 if used > 1 and total <= ENOUGH * (used - 1) else 0
    if used > 1 and server.waits_done >= max(server.commands_done // WAITS_MANY, <uint64_t>WAITS_LEAST):
        server.waiting_periods += 1
    else:
        server.waiting_periods = 0
    return total


cdef uint32_t wanted_threads(server_t *server, int64_t now_ms) noexcept nogil:
    cdef uint32_t used = balance_threads(server)
    cdef uint64_t before = server.commands_done
    cdef int64_t fixed = <int64_t>atomic_load_relaxed(<const uint64_t *>&server.settings.conn_io_threads)
    cdef spread_trial_t *trial = &server.spread_trial
    cdef uint64_t busy
    cdef bint is_slow
    take_counts(server)
    busy = count_periods(server, used)
    if fixed > 0:
        trial.periods_left = 0
        return <uint32_t>min(fixed, <int64_t>server.thread_count)
    # Where fewer threads have just done more, that counts.
    is_slow = <int64_t>atomic_load_relaxed(&server.spread_until_ms) > now_ms and now_ms >= trial.gathered_until_ms
    if trial.periods_left > 0:
        server.full_periods = 0
        return go_on_with_trial(server, busy, used, now_ms)
    if is_slow and used < server.thread_count:
        return server.thread_count
    if server.waiting_periods >= WAITS_PERIODS and now_ms >= trial.gather_hold.until_ms:
        return begin_trial(server, (before + server.commands_done) // 2, used, used // 2)
    if server.full_periods >= FULL_PERIODS and now_ms >= trial.spread_hold.until_ms and used < server.thread_count:
        return begin_trial(server, (before + server.commands_done) // 2, used, min(2 * used, server.thread_count))
    if server.idle_periods >= ENOUGH_PERIODS and not is_slow:
        server.idle_periods = 0
        return used - 1
    return used


cdef executor_t *emptiest(server_t *server) noexcept nogil:
    cdef executor_t *best = server.executors[0]
    cdef uint32_t i
    for i in range(1, balance_threads(server)):
        if atomic_load_relaxed(&server.executors[i].client_count) < atomic_load_relaxed(&best.client_count):
            best = server.executors[i]
    return best


cdef uint64_t excess(const executor_t *self) noexcept nogil:
    """How many connections it has too many."""
    cdef const server_t *server = self.server
    cdef uint32_t used = balance_threads(server)
    cdef uint64_t own = self.net.connection_count
    cdef uint64_t total = 0
    cdef uint64_t share
    cdef uint32_t i
    if self.proactor.index >= used:
        return own
    if used == 1:
        return 0
    for i in range(server.thread_count):
        total += atomic_load_relaxed(&server.executors[i].client_count)
    # The counts are of different moments: what is nearly even stays.
    share = total // used + 1 + total // (8 * used)
    return own - share if own > share else 0


cdef bint move_to_emptiest(executor_t *self, connection_t *connection) noexcept nogil:
    cdef executor_t *target = emptiest(self.server)
    if target == self or not connection_move(connection, &target.net):
        return False
    atomic_add(&target.client_count, 1)              # until its own next look
    return True


cdef void give_away(executor_t *self, uint64_t count) noexcept nogil:
    cdef connection_t *connection = self.net.connections
    cdef uint32_t looked_at = 0
    while connection != NULL and count > 0 and looked_at < LOOKED_AT_MAX:
        looked_at += 1
        count -= move_to_emptiest(self, connection)
        connection = connection.next
    self.net.leaving = count


cdef void balance_on_sent(connection_t *connection) noexcept nogil:
    cdef executor_t *self = <executor_t *>connection.thread.context
    self.net.leaving -= move_to_emptiest(self, connection)


cdef void shuffle(executor_t *self) noexcept nogil:
    cdef server_t *server = self.server
    cdef executor_t *target = server.executors[(self.proactor.index + 1) % server.thread_count]
    cdef connection_t *connection = self.net.connections
    while connection != NULL:
        connection_move(connection, &target.net)
        connection = connection.next


cdef void on_shuffle_timer(timer_t *timer, int64_t now_us) noexcept nogil:
    shuffle(<executor_t *>timer.context)
    timer_start(&(<executor_t *>timer.context).proactor.timers, timer, now_us + SHUFFLE_US)


cdef void balance(executor_t *self) noexcept nogil:
    cdef server_t *server = self.server
    cdef uint64_t count
    if server.thread_count == 1:
        return
    measure(self)
    if self.proactor.index == 0:
        atomic_store_relaxed(&server.connection_threads, wanted_threads(server, self.proactor.now_ms))
    if not server.settings.shuffle_connections:
        count = excess(self)
        give_away(self, count if count < MOVED_MAX else MOVED_MAX)


cdef void balance_start(executor_t *self) noexcept nogil:
    if self.proactor.index == 0:
        atomic_store_relaxed(&self.server.connection_threads, wanted_threads(self.server, self.proactor.now_ms))
    self.measured_us = monotonic_us()
    self.measured_cpu_us = thread_cpu_us()
    if self.server.settings.shuffle_connections:
        self.shuffle_timer.fire = on_shuffle_timer
        self.shuffle_timer.context = self
        timer_start(&self.proactor.timers, &self.shuffle_timer, self.proactor.now_us + SHUFFLE_US)
