"""RESP request parser: RESP2 arrays of bulk strings and inline commands. No allocation per command.

The parser is incremental over a byte window: `parser_next` is called with the bytes from the start
of the first unconsumed command. On PARSE_NEED_MORE nothing of that command is consumed; the caller
keeps the bytes and calls again with more (the parser remembers where it stood, so a large command
that arrives in pieces is not parsed again from its start). Limits and error texts are Redis'
(networking.c of 7.0): 1,048,576 arguments, 512 MB bulk (proto-max-bulk-len), 64 KB inline.

Ownership: argument slices borrow from the window; after NEED_MORE and a moved window the parser
re-bases its offsets itself (it stores offsets, not pointers).
"""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.sys.base cimport slice_t

cdef enum parse_result_t:
    PARSE_OK = 0                 # one command: argc and argv are set, `consumed` bytes used
    PARSE_NEED_MORE = 1
    PARSE_ERROR = 2              # `error` holds the text (without "-"); Redis then closes the connection
    PARSE_EMPTY = 3              # an empty inline line or "*0": consumed, no command, no reply

cdef struct parser_t:
    int64_t max_bulk_size        # from settings
    uint32_t max_args
    bint authenticated           # unauthenticated clients: at most 10 args of at most 16 KB, as Redis
    # Arguments of the last command. Grows as needed; owned by the parser.
    slice_t *argv
    uint32_t argc
    uint32_t argv_capacity
    # State of a command that is not complete yet.
    uint32_t args_expected
    uint32_t args_done
    size_t offset                # parsed so far, from the start of this command
    int64_t bulk_size            # -1: the header of the next bulk is not read yet
    uint32_t *offsets_pending    # (offset, size) pairs as size_t; see parser.pyx
    size_t bytes_wanted          # a hint: the window must reach this size before the next try makes sense
    char *inline_storage         # unquoted inline arguments live here
    size_t inline_capacity
    char error[128]

cdef void parser_init(parser_t *self) noexcept nogil
cdef void parser_deinit(parser_t *self) noexcept nogil       # frees argv; an idle parser holds no memory after parser_shrink
cdef void parser_shrink(parser_t *self) noexcept nogil
cdef int parser_next(parser_t *self, const char *data, size_t size, size_t *consumed) noexcept nogil
# Forgets a command that is not complete: the next parser_next starts at the first byte of a command.
cdef void parser_reset(parser_t *self) noexcept nogil
