"""A batch: the complete commands of a window of input, parsed, looked up and routed.

What is parsed points into the window and into the executor's arrays (calls, arguments), until the next batch.
"""

from libc.stdint cimport uint32_t

from dfly._core.engine.server_state cimport executor_t
from dfly._core.net.connection cimport connection_t

cdef enum:
    BATCH_MAX = 64               # commands executed together; also bounds how long a token is held

cdef void batch_init(executor_t *self) noexcept nogil
cdef void batch_deinit(executor_t *self) noexcept nogil
# Parses complete commands into executor.calls; returns their number. last_result: the parser's, PARSE_OK if the batch
# ended for another reason.
cdef uint32_t parse_batch(executor_t *self, connection_t *connection, const char *data, size_t size,
                          size_t *consumed, int *last_result) noexcept nogil
