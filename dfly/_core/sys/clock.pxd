"""Time: wall clock and monotonic clock, and cycle ticks for command durations."""

from libc.stdint cimport int64_t, uint64_t

cdef int64_t wall_ms() noexcept nogil             # since the epoch; what TTLs are measured in
cdef int64_t wall_us() noexcept nogil
cdef int64_t monotonic_us() noexcept nogil
cdef int64_t thread_cpu_us() noexcept nogil        # user and system time of the calling thread
cdef double ticks_per_us() noexcept nogil         # of base.cycle_ticks(), calibrated at import
