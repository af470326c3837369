"""Timers of a shard thread: expiry, reclaim, idle clients, output limits, paused clients, clocks."""

from dfly._core.engine.server_state cimport executor_t

cdef void cron_start(executor_t *self) noexcept nogil
cdef void cron_stop(executor_t *self) noexcept nogil
cdef void expiry_soon(executor_t *self) noexcept nogil           # something was dropped or is due: run without delay
# CLIENT PAUSE has ended: on this thread, in its next tick.
cdef void release_paused_soon(executor_t *self) noexcept nogil
