"""Private to the loop: the bookkeeping of streams and listeners that both backends share.

Backends report what happened to a descriptor; this part decides which callback the owner gets,
and when. See stream.pyx.
"""

from dfly._core.loop.proactor cimport listener_t, proactor_t, stream_t

cdef void stream_queue(stream_t *self) noexcept nogil
cdef void stream_received(stream_t *self, const char *data, size_t size) noexcept nogil
cdef void stream_ended(stream_t *self) noexcept nogil
cdef void stream_begin_close(stream_t *self, int error) noexcept nogil
# More of send_data went out; True (after on_sent) when that was all.
cdef bint stream_progress(stream_t *self, size_t sent) noexcept nogil
# Sends directly, without waiting; True if nothing is left to do, False when the socket is full.
cdef bint stream_send_now(stream_t *self) noexcept nogil
cdef void stream_run_work(proactor_t *proactor) noexcept nogil

cdef void listener_accepted(listener_t *self, int fd) noexcept nogil
cdef void listener_failed(listener_t *self, int error) noexcept nogil    # on_error, and again in a while
cdef void listener_finish(listener_t *self) noexcept nogil
cdef void listener_forget_retry(listener_t *self) noexcept nogil
