"""Timeouts of blocking commands, with Redis' limits and words (redis.io/docs/latest/commands/blpop)."""

from libc.stdint cimport int64_t

from dfly._core.resp.reply cimport reply_t
from dfly._core.sys.base cimport slice_t

# In seconds, with a fraction; in milliseconds. 0: for ever. False after an error reply.
cdef bint parse_timeout_seconds(reply_t *reply, slice_t argument, int64_t *timeout_ms) noexcept nogil
cdef bint parse_timeout_ms(reply_t *reply, slice_t argument, int64_t *timeout_ms) noexcept nogil
