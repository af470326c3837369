"""RESP request parser: RESP2 arrays of bulk strings and inline commands. No allocation per command.

The parser is incremental over a byte window: `parser_next` is called with the bytes from the start
of the first unconsumed command. On PARSE_NEED_MORE nothing of that command is consumed; the caller
keeps the bytes and calls again with more, perhaps at another address. What was parsed is remembered
as offsets, so a large command that arrives in pieces is not parsed again from its start.

Limits and error texts are Redis' (behaviour of 7.0.15, asked from a running server): 2^31 - 1
arguments, 512 MB bulk (proto-max-bulk-len), 64 KB for an inline or header line. Neither the byte
behind the "\\r" of a header nor the two behind a bulk are looked at, as in Redis.

Ownership: argument slices borrow from the window and stay good as long as its bytes do. The one
exception is an inline command with quotes, whose unquoted arguments lie in the parser's own
storage until the next call: `argv_is_stored` says so.
"""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.sys.base cimport slice_t, unlikely

cdef enum parse_result_t:
    PARSE_OK = 0                 # one command: argc and argv are set, `consumed` bytes used
    PARSE_NEED_MORE = 1
    PARSE_ERROR = 2              # `error` holds the text (without "-ERR "); Redis then closes the connection
    PARSE_EMPTY = 3              # an empty inline line or "*0": consumed, no command, no reply

cdef enum:
    PARSER_ARGV_KEEP = 64        # what an idle parser may keep

cdef struct parser_t:
    int64_t max_bulk_size        # from settings, at least 1 MB as in Redis
    bint authenticated           # unauthenticated clients: at most 10 args of at most 16 KB, as Redis
    bint argv_is_stored          # arguments of the last command lie in inline_storage
    # Arguments of the last command. Grows as they arrive; owned by the parser.
    slice_t *argv
    uint32_t argc
    uint32_t argv_capacity
    # State of a command that is not complete yet; args_expected 0: its first line is not read.
    uint32_t args_expected
    uint32_t args_kept           # so many of argv came in earlier calls: their `data` is an offset
    size_t offset                # parsed so far, from the start of this command
    size_t line_scanned          # no line end in so many bytes behind `offset`
    int64_t bulk_size            # -1: the header of the next bulk is not read yet
    size_t bytes_wanted          # the window must reach this size before the next try makes sense
    char *inline_storage
    size_t inline_capacity
    char error[64]

cdef void parser_init(parser_t *self) noexcept nogil
cdef void parser_deinit(parser_t *self) noexcept nogil
cdef int parser_next(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil
# Forgets a command that is not complete: the next parser_next starts at the first byte of a command.
cdef void parser_reset(parser_t *self) noexcept nogil
# Between commands: frees all memory, and with it the last command's argv.
cdef void parser_shrink(parser_t *self) noexcept nogil


cdef inline void parser_trim(parser_t *self) noexcept nogil:
    """parser_shrink, if the parser holds more than an idle connection should."""
    if unlikely(self.argv_capacity > PARSER_ARGV_KEEP or self.inline_storage != NULL):
        parser_shrink(self)
