"""RESP request parser: RESP2 arrays of bulk strings and inline commands. No allocation per command.

The parser is incremental over a byte window: `parser_next` is called with the bytes from the start
of the first unconsumed command. On PARSE_NEED_MORE nothing of that command is consumed; the caller
keeps the bytes and calls again with more (the parser remembers where it stood, so a large command
that arrives in pieces is not parsed again from its start). Limits and error texts are Redis'
(behaviour of 7.0, redis.io/docs/latest/develop/reference/protocol-spec): 512 MB bulk
(proto-max-bulk-len), 64 KB inline or header line.

Ownership: argument slices borrow from the window (inline arguments: from inline_storage) until the
next call. When the window has moved between two calls the parser re-bases what it has.
"""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.sys.base cimport slice_t

cdef enum parse_result_t:
    PARSE_OK = 0                 # one command: argc and argv are set, `consumed` bytes used
    PARSE_NEED_MORE = 1
    PARSE_ERROR = 2              # `error` holds the text (without "-ERR "); Redis then closes the connection
    PARSE_EMPTY = 3              # an empty inline line or "*0": consumed, no command, no reply

cdef struct parser_t:
    int64_t max_bulk_size        # from settings
    bint authenticated           # unauthenticated clients: at most 10 args of at most 16 KB, as Redis
    # Arguments of the last command. Grows as needed; owned by the parser.
    slice_t *argv
    uint32_t argc
    uint32_t argv_capacity
    # State of a command that is not complete yet; args_expected 0: at the start of one.
    uint32_t args_expected
    size_t offset                # parsed so far, from the start of this command
    int64_t bulk_size            # -1: the header of the next bulk is not read yet
    const char *base             # the window argv points into
    size_t bytes_wanted          # the window must reach this size before the next try makes sense
    char *inline_storage         # unquoted inline arguments
    size_t inline_capacity
    char error[96]

cdef void parser_init(parser_t *self) noexcept nogil
cdef void parser_deinit(parser_t *self) noexcept nogil
cdef void parser_shrink(parser_t *self) noexcept nogil       # gives back memory beyond a few arguments
cdef int parser_next(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil
# Forgets a command that is not complete: the next parser_next starts at the first byte of a command.
cdef void parser_reset(parser_t *self) noexcept nogil
