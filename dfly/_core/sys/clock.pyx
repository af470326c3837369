"""Clocks (clock_gettime, served by the vDSO) and the calibration of the cycle counter."""

from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

from dfly._core.sys.base cimport DFLY_ABI_STAMP, cycle_ticks

__abi__ = DFLY_ABI_STAMP

cdef double measured_ticks_per_us = 1000.0


cdef int64_t read_us(int clock) noexcept nogil:
    cdef timespec ts
    clock_gettime(clock, &ts)
    return <int64_t>ts.tv_sec * 1000000 + ts.tv_nsec // 1000


cdef int64_t wall_ms() noexcept nogil:
    return read_us(CLOCK_REALTIME) // 1000


cdef int64_t wall_us() noexcept nogil:
    return read_us(CLOCK_REALTIME)


cdef int64_t monotonic_us() noexcept nogil:
    return read_us(CLOCK_MONOTONIC)


cdef int64_t thread_cpu_us() noexcept nogil:
    return read_us(CLOCK_THREAD_CPUTIME_ID)


cdef double ticks_per_us() noexcept nogil:
    return measured_ticks_per_us


cdef double calibrate() noexcept nogil:
    """Ticks of the cycle counter per microsecond, over 10 ms of wall time."""
    cdef int64_t start_us = monotonic_us()
    cdef uint64_t start = cycle_ticks()
    cdef int64_t now_us = start_us
    while now_us - start_us < 10000:
        now_us = monotonic_us()
    return <double>(cycle_ticks() - start) / <double>(now_us - start_us)


measured_ticks_per_us = calibrate()
