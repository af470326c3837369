"""Private to the loop: the state that every backend's begins with, and the limits of a tick.

The backend-neutral part (proactor, stream) calls the backend through `backend_t` (proactor.pxd);
the backends call back into stream.pyx. Nothing outside this room may cimport this file.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.loop.proactor cimport backend_t, listener_t, proactor_t, stream_t
from dfly._core.loop.timer cimport timer_t

cdef enum stream_state_t:
    STREAM_QUEUED = 1            # in the work list
    STREAM_SEND_QUEUED = 2       # the work list has to send
    STREAM_END_KEPT = 4          # the peer's end of file came while paused
    STREAM_CANCELLING = 8        # io_uring: the completion of a cancellation is due
    STREAM_WATCHED = 16          # epoll: registered
    STREAM_WATCH_READ = 32       # epoll: registered for reading
    STREAM_WATCH_WRITE = 64      # epoll: registered for writing
    STREAM_LEAVING = 128         # for another loop, once nothing is in flight

cdef enum:
    ACCEPT_RETRY_US = 100000
    TIMERS_A_TICK = 256
    FLUSH_ROUNDS = 4

cdef struct loop_state_t:
    # First member of each backend's state.
    stream_t *work_first         # streams with something to do outside of the reaping
    stream_t *work_last
    uint64_t callbacks           # made from the work list; tells whether on_flush must run again
    uint32_t open_streams
    uint32_t closing_streams
    uint32_t open_listeners
    uint32_t closing_listeners
    bint unsettled               # callbacks ran after the last on_flush: another tick before sleeping
    listener_t *retries          # listeners whose accept failed
    timer_t retry_timer

cdef inline const backend_t *backend_of(proactor_t *proactor) noexcept nogil:
    return proactor.backend

cdef inline loop_state_t *loop_of(proactor_t *proactor) noexcept nogil:
    return <loop_state_t *>proactor.backend_state
