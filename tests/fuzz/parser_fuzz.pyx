"""libFuzzer target for the request parser, run from Python; libFuzzer itself is preloaded (build.py).

An input is: options, a count n, n piece sizes, then the bytes a client sends. Checked for each:
* the bytes parsed at once and in those pieces give the same commands, errors and consumed counts;
* arguments lie inside the window, or inside the parser's storage;
* a command written by the reply builder as an array and parsed again is the same command;
* nothing stays allocated.
Every window is a block of exactly its size at a new address, so that AddressSanitizer sees any read
past its end or through an old one. A violation aborts, which libFuzzer reports with the input.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, strlen, strncmp

from dfly._core.resp.parser cimport (PARSE_ERROR, PARSE_NEED_MORE, PARSE_OK, parser_deinit,
                                     parser_init, parser_next, parser_shrink, parser_t, parser_trim)
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_deinit, reply_init, reply_set_deferred,
                                    reply_defer_array, reply_t)
from dfly._core.sys.alloc cimport ACCOUNT_NET, mem_total, net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK

__abi__ = DFLY_ABI_STAMP

cdef extern from *:
    """
    #include <stdint.h>
    #include <stddef.h>
    extern int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*target)(const uint8_t *data, size_t size));
    """
    ctypedef int (*target_t)(const uint8_t *data, size_t size) noexcept nogil
    int LLVMFuzzerRunDriver(int *argc, char ***argv, target_t target) noexcept nogil

cdef enum:
    OPTION_UNAUTHENTICATED = 1
    OPTION_SHRINK = 2            # give memory back behind every command
    OPTION_SMALL_BULKS = 4       # a proto-max-bulk-len of 1 MB, the least there is
    OPTION_LONG_RUNS = 0xF8      # the byte 0x01 stands for a long run of the one behind it: costly, so rare
    RUN_LENGTH = 16384
    RUNS_MAX = 6
    LINE_MAX = 65536

cdef struct bytes_t:
    char *data
    size_t size
    size_t capacity


cdef void append(bytes_t *self, const void *data, size_t size) noexcept nogil:
    if self.size + size > self.capacity:
        self.capacity = (self.size + size) * 2
        self.data = <char *>net_realloc(self.data, self.capacity)
    if size > 0:
        memcpy(self.data + self.size, data, size)
        self.size += size


cdef void append_number(bytes_t *self, uint64_t value) noexcept nogil:
    append(self, &value, sizeof(value))


cdef void check_argument(const parser_t *parser, const char *data, const char *window,
                         size_t size) noexcept nogil:
    if parser.argv_is_stored:
        window = parser.inline_storage
        size = parser.inline_capacity
    DFLY_CHECK(data >= window and data <= window + size, "an argument begins in its window")


cdef void check_answer(const parser_t *parser, int result, const char *window, size_t size,
                       size_t used) noexcept nogil:
    cdef uint32_t i
    DFLY_CHECK(used <= size, "no more is consumed than is there")
    if result == PARSE_NEED_MORE:
        DFLY_CHECK(used == 0 and parser.bytes_wanted > size, "an incomplete command wants more than there is")
        return
    DFLY_CHECK(result == PARSE_ERROR or used > 0, "a command consumes something")
    if result != PARSE_OK:
        return
    DFLY_CHECK(parser.argc > 0, "a command has a name")
    for i in range(parser.argc):
        check_argument(parser, parser.argv[i].data, window, size)
        check_argument(parser, parser.argv[i].data + parser.argv[i].size, window, size)


cdef void log_answer(bytes_t *log, const parser_t *parser, int result, size_t end) noexcept nogil:
    cdef uint32_t i
    append_number(log, <uint64_t>result)
    if result == PARSE_ERROR:
        append(log, parser.error, strlen(parser.error))
        return
    append_number(log, end)
    if result != PARSE_OK:
        return
    append_number(log, parser.argc)
    for i in range(parser.argc):
        append_number(log, parser.argv[i].size)
        append(log, parser.argv[i].data, parser.argv[i].size)


cdef void check_round_trip(const parser_t *parser) noexcept nogil:
    """The command as an array of bulks, parsed again by another parser."""
    cdef reply_t reply
    cdef parser_t again
    cdef size_t used = 0
    cdef size_t mark
    cdef uint32_t i
    reply_init(&reply, 2)
    if parser.argc % 2 == 0:
        reply_array(&reply, parser.argc)
        mark = 0
    else:
        mark = reply_defer_array(&reply)
    for i in range(parser.argc):
        reply_bulk(&reply, parser.argv[i].data, parser.argv[i].size)
    if parser.argc % 2 == 1:
        reply_set_deferred(&reply, mark, c'*', parser.argc)
    parser_init(&again)
    DFLY_CHECK(parser_next(&again, reply.data, reply.size, &used) == PARSE_OK, "what was built is a command")
    DFLY_CHECK(used == reply.size and again.argc == parser.argc, "what was built is one command")
    for i in range(parser.argc):
        DFLY_CHECK(again.argv[i].size == parser.argv[i].size
                   and memcmp(again.argv[i].data, parser.argv[i].data, again.argv[i].size) == 0,
                   "the same arguments")
    parser_deinit(&again)
    reply_deinit(&reply)


cdef int drain(bytes_t *log, parser_t *parser, const char *input, size_t *place, size_t end,
               uint8_t options) noexcept nogil:
    """Parses what is complete in [*place, end)."""
    cdef int result = PARSE_NEED_MORE
    cdef size_t used = 0
    cdef size_t size
    cdef char *window
    while place[0] < end:
        size = end - place[0]
        window = <char *>malloc(size)
        memcpy(window, input + place[0], size)
        result = parser_next(parser, window, size, &used)
        check_answer(parser, result, window, size, used)
        if result != PARSE_NEED_MORE:
            log_answer(log, parser, result, place[0] + used)
        if result == PARSE_OK:
            check_round_trip(parser)
        free(window)
        if result == PARSE_NEED_MORE or result == PARSE_ERROR:
            break
        if options & OPTION_SHRINK:
            parser_shrink(parser)
        else:
            parser_trim(parser)
        place[0] += used
    return result


cdef size_t parse(bytes_t *log, const char *input, size_t size, const uint8_t *steps, uint32_t step_count,
                  uint8_t options, bint *too_long) noexcept nogil:
    """Parses the input in pieces of the given sizes, or at once; returns how far it came."""
    cdef parser_t parser
    cdef size_t place = 0
    cdef size_t end = 0
    cdef uint32_t i = 0
    cdef int result = PARSE_NEED_MORE
    parser_init(&parser)
    parser.authenticated = not options & OPTION_UNAUTHENTICATED
    if options & OPTION_SMALL_BULKS:
        parser.max_bulk_size = 1024 * 1024
    too_long[0] = False
    while end < size and result != PARSE_ERROR:
        if step_count == 0:
            end = size
        else:
            # Long inputs in a few pieces: each costs a copy of the window.
            end += 1 + steps[i % step_count] + (size >> 4 if size >= RUN_LENGTH else 0)
            end = end if end < size else size
            i += 1
        result = drain(log, &parser, input, &place, end, options)
    if result == PARSE_ERROR:
        too_long[0] = strncmp(parser.error, b"Protocol error: too big", 23) == 0
    parser_deinit(&parser)
    return place


cdef void expand(bytes_t *out, const uint8_t *data, size_t size, bint long_runs) noexcept nogil:
    cdef size_t i = 0
    cdef uint32_t runs = 0
    cdef uint32_t _
    while i < size:
        if long_runs and data[i] == 1 and i + 1 < size and runs < RUNS_MAX:
            for _ in range(RUN_LENGTH // 64):
                append(out, EACH[data[i + 1]], 64)
            runs += 1
            i += 2
        else:
            append(out, data + i, 1)
            i += 1


cdef char[256][64] EACH


cdef int fuzz_one(const uint8_t *data, size_t size) noexcept nogil:
    cdef bytes_t input
    cdef bytes_t whole
    cdef bytes_t pieces
    cdef uint8_t options
    cdef uint32_t step_count
    cdef size_t whole_end
    cdef size_t pieces_end
    cdef bint whole_too_long = False
    cdef bint pieces_too_long = False
    cdef int64_t before = mem_total(ACCOUNT_NET)
    if size < 3:
        return 0
    options = data[0]
    step_count = 1 + data[1] % 8
    if size < 2 + step_count:
        return 0
    input.data = whole.data = pieces.data = NULL
    input.size = whole.size = pieces.size = 0
    input.capacity = whole.capacity = pieces.capacity = 0
    expand(&input, data + 2 + step_count, size - 2 - step_count,
           options & OPTION_LONG_RUNS == OPTION_LONG_RUNS)
    whole_end = parse(&whole, input.data, input.size, NULL, 0, options, &whole_too_long)
    pieces_end = parse(&pieces, input.data, input.size, data + 2, step_count, options, &pieces_too_long)
    # Over 64 KB the moment counts: a line is refused while incomplete, and passes complete.
    if not pieces_too_long and not whole_too_long:
        DFLY_CHECK(whole_end == pieces_end, "pieces consume what the whole does")
        DFLY_CHECK(whole.size == pieces.size
                   and (whole.size == 0 or memcmp(whole.data, pieces.data, whole.size) == 0),
                   "pieces give the answers of the whole")
    elif input.size <= LINE_MAX:
        DFLY_CHECK(False, "a short input has no long line")
    net_free(input.data)
    net_free(whole.data)
    net_free(pieces.data)
    DFLY_CHECK(mem_total(ACCOUNT_NET) == before, "nothing stays allocated")
    return 0


def run(list arguments):
    """Runs libFuzzer with these command line arguments; its exit status."""
    cdef int argc = len(arguments)
    cdef char **argv = <char **>calloc(argc + 1, sizeof(char *))
    cdef char **given = argv
    cdef int status
    cdef int i
    cdef int j
    for i in range(256):
        for j in range(64):
            EACH[i][j] = <char>i
    for i in range(argc):
        argv[i] = arguments[i]
    with nogil:
        status = LLVMFuzzerRunDriver(&argc, &given, fuzz_one)
    free(argv)
    return status
