"""The cold half of latency.pxd: events, allocation, bounds of buckets."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_store_pointer
from dfly._core.sys.clock cimport ticks_per_us, wall_ms

__abi__ = DFLY_ABI_STAMP

cdef const char *EVENT_NAMES[LATENCY_EVENTS]
EVENT_NAMES[0] = "command"
EVENT_NAMES[1] = "fast-command"
EVENT_NAMES[2] = "expire-cycle"
EVENT_NAMES[3] = "expire-del"
EVENT_NAMES[4] = "eviction-cycle"
EVENT_NAMES[5] = "eviction-del"
EVENT_NAMES[6] = "token-wait"


cdef const char *latency_event_name(uint32_t event) noexcept nogil:
    return EVENT_NAMES[event]


cdef void latency_add(latency_monitor_t **monitor, const settings_t *settings, uint32_t event,
                      uint64_t ticks) noexcept nogil:
    cdef int64_t duration_ms = <int64_t>(<double>ticks / ticks_per_us() / 1000)
    cdef int64_t now_s = wall_ms() // 1000
    cdef latency_series_t *series
    cdef latency_sample_t *last
    if duration_ms < settings.latency_monitor_threshold_ms:
        return
    if monitor[0] == NULL:
        atomic_store_pointer(<void **>monitor, net_zalloc(sizeof(latency_monitor_t)))
    series = &monitor[0].series[event]
    if series.resets != settings.latency_resets[event]:
        memset(series, 0, sizeof(latency_series_t))
        series.resets = settings.latency_resets[event]
    if duration_ms > series.longest_ms:
        series.longest_ms = duration_ms
    if series.count > 0:
        last = &series.samples[(series.count - 1) % LATENCY_SAMPLES]
        if last.time_s == now_s:
            if duration_ms > last.duration_ms:
                last.duration_ms = duration_ms
            return
    last = &series.samples[series.count % LATENCY_SAMPLES]
    last.time_s = now_s
    last.duration_ms = duration_ms
    series.count += 1


cdef uint64_t *latency_histogram_new() noexcept nogil:
    return <uint64_t *>net_zalloc(LATENCY_BUCKETS * sizeof(uint64_t))


cdef void latency_bucket_bounds(uint32_t bucket, uint64_t *low, uint64_t *high) noexcept nogil:
    cdef uint32_t octave = 0
    cdef uint64_t step = bucket
    if bucket >= 2 * LATENCY_STEPS:
        octave = (bucket >> LATENCY_STEP_BITS) - 1
        step = LATENCY_STEPS + bucket % LATENCY_STEPS
    low[0] = step << octave
    high[0] = ((step + 1) << octave) - 1
