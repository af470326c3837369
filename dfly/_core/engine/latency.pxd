"""How long commands take, and what took too long: histograms per command, and events of the latency monitor.

A histogram counts calls by duration in cycle ticks: 16 steps an octave, so a step is at most 6 % wide. One
belongs to one command of one thread; it is allocated at the first call and lives as long as the thread.
Recording is one increment; ticks become microseconds when somebody asks (Server.latency_histograms).

An event (Redis' names: "command", "expire-cycle" ...) that took latency-monitor-threshold or longer leaves a
sample in a series of the last LATENCY_SAMPLES; samples of one second are one, the longest. A monitor is the
set of series of one writer: of a thread (commands) or of a shard (what runs under its token). LATENCY RESET
raises settings.latency_resets[event]; a series that was written under another number counts as empty.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.settings cimport settings_t
from dfly._core.sys.base cimport clz64, cycle_ticks, likely, unlikely

cdef enum latency_event_t:
    LATENCY_COMMAND = 0
    LATENCY_FAST_COMMAND = 1
    LATENCY_EXPIRE_CYCLE = 2
    LATENCY_EXPIRE_DEL = 3
    LATENCY_EVICTION_CYCLE = 4
    LATENCY_EVICTION_DEL = 5
    LATENCY_TOKEN_WAIT = 6       # a transaction waited for a shard that was busy
    LATENCY_EVENTS = 7           # of these; LATENCY_EVENTS_MAX in settings.pxd is room for more

cdef enum:
    LATENCY_SAMPLES = 160
    LATENCY_STEP_BITS = 4
    LATENCY_STEPS = 16           # an octave
    LATENCY_OCTAVES = 36         # up to 2^36 ticks, some 20 seconds; what is longer counts in the last step
    LATENCY_BUCKETS = 528        # (LATENCY_OCTAVES - LATENCY_STEP_BITS + 1) * LATENCY_STEPS

cdef struct latency_sample_t:
    int64_t time_s               # wall clock
    int64_t duration_ms

cdef struct latency_series_t:
    latency_sample_t samples[160]
    uint64_t count               # samples so far; the next goes to count % LATENCY_SAMPLES
    int64_t longest_ms
    uint64_t resets              # settings.latency_resets of the event when this was begun

cdef struct latency_monitor_t:
    latency_series_t series[7]

cdef const char *latency_event_name(uint32_t event) noexcept nogil
# Allocates the monitor if there is none yet.
cdef void latency_add(latency_monitor_t **monitor, const settings_t *settings, uint32_t event,
                      uint64_t ticks) noexcept nogil
cdef uint64_t *latency_histogram_new() noexcept nogil
# The ticks that a bucket holds: from low up to and including high.
cdef void latency_bucket_bounds(uint32_t bucket, uint64_t *low, uint64_t *high) noexcept nogil


cdef inline uint32_t latency_bucket(uint64_t ticks) noexcept nogil:
    cdef uint32_t octave = 63 - LATENCY_STEP_BITS - <uint32_t>clz64(ticks | LATENCY_STEPS)
    cdef uint32_t bucket = (octave << LATENCY_STEP_BITS) + <uint32_t>(ticks >> octave)
    return bucket if likely(bucket < LATENCY_BUCKETS) else LATENCY_BUCKETS - 1


cdef inline void latency_record(uint64_t **histogram, uint64_t ticks) noexcept nogil:
    if unlikely(histogram[0] == NULL):
        histogram[0] = latency_histogram_new()
    histogram[0][latency_bucket(ticks)] += 1


cdef inline bint latency_is_event(const settings_t *settings, uint64_t ticks) noexcept nogil:
    # Off is 0, and 0 - 1 is more ticks than there will ever be.
    return ticks > settings.latency_monitor_ticks - 1


cdef inline uint64_t latency_start(const settings_t *settings) noexcept nogil:
    """The time if the monitor is on, 0 if not: for latency_stop."""
    return cycle_ticks() if unlikely(settings.latency_monitor_ticks != 0) else 0


cdef inline void latency_stop(latency_monitor_t **monitor, const settings_t *settings, uint32_t event,
                              uint64_t started) noexcept nogil:
    if unlikely(started != 0) and latency_is_event(settings, cycle_ticks() - started):
        latency_add(monitor, settings, event, cycle_ticks() - started)
