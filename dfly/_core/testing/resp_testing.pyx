"""Test door to the request parser and the reply builder.

Windows are copied into blocks of exactly their size, so that a sanitizer sees a read past the end.
The checks that split an input at every place run without Python: they compare what a parser
makes of the whole with what it makes of the pieces, argument by argument as offsets.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from dfly._core.resp.parser cimport (PARSE_EMPTY, PARSE_ERROR, PARSE_NEED_MORE, PARSE_OK, parser_deinit,
                                     parser_init, parser_next, parser_reset, parser_shrink, parser_t,
                                     parser_trim)
from dfly._core.resp.reply cimport (reply_array, reply_big_number, reply_bool, reply_bulk, reply_bulk_int,
                                    reply_bulk_reserve, reply_bulk_text, reply_defer_array, reply_deinit,
                                    reply_double, reply_error, reply_error_slice, reply_header, reply_init,
                                    reply_int, reply_map, reply_null, reply_null_array, reply_ok, reply_push,
                                    reply_raw, reply_reset, reply_set, reply_set_deferred, reply_simple,
                                    reply_t,
                                    reply_verbatim)
from dfly._core.sys.alloc cimport ACCOUNT_NET, mem_total, net_alloc, net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP
from dfly._core.sys.clock cimport monotonic_us
from dfly._core.sys.hash cimport hash_bytes

__abi__ = DFLY_ABI_STAMP

NAMES = {PARSE_OK: "ok", PARSE_NEED_MORE: "need_more", PARSE_ERROR: "error", PARSE_EMPTY: "empty"}


# ---- A log of what a parser answered ---------------------------------------------------------

cdef struct log_t:
    # Per answer: result, end of the command, argc, then per argument its place (or the hash of
    # stored bytes) and its size. An error is the hash of its text.
    uint64_t *words
    size_t count
    size_t capacity


cdef void log_word(log_t *self, uint64_t word) noexcept nogil:
    if self.count == self.capacity:
        self.capacity = self.capacity * 2 if self.capacity > 0 else 256
        self.words = <uint64_t *>net_realloc(self.words, self.capacity * sizeof(uint64_t))
    self.words[self.count] = word
    self.count += 1


cdef void log_answer(log_t *self, const parser_t *parser, int result, const char *window, size_t place,
                     size_t used) noexcept nogil:
    cdef uint32_t i
    log_word(self, result)
    if result == PARSE_ERROR:
        log_word(self, hash_bytes(parser.error, strlen(parser.error)))
        return
    log_word(self, place + used)
    if result != PARSE_OK:
        return
    log_word(self, parser.argc)
    for i in range(parser.argc):
        if parser.argv_is_stored:
            log_word(self, hash_bytes(parser.argv[i].data, parser.argv[i].size))
        else:
            log_word(self, <uint64_t>(parser.argv[i].data - window) + place)
        log_word(self, parser.argv[i].size)


cdef int drain(log_t *log, parser_t *parser, const char *data, size_t size, size_t *place) noexcept nogil:
    """Parses all that is complete in [*place, size); returns what stopped it."""
    cdef size_t used = 0
    cdef int result = PARSE_NEED_MORE
    while place[0] < size:
        result = parser_next(parser, data + place[0], size - place[0], &used)
        if result == PARSE_NEED_MORE:
            break
        log_answer(log, parser, result, data + place[0], place[0], used)
        if result == PARSE_ERROR:
            break
        place[0] += used
    return result


cdef bint same_log(const log_t *a, const log_t *b) noexcept nogil:
    return a.count == b.count and (a.count == 0 or memcmp(a.words, b.words, a.count * sizeof(uint64_t)) == 0)


cdef void run_pieces(log_t *log, parser_t *parser, const char *first, const char *second, size_t size,
                     const size_t *cuts, size_t cut_count) noexcept nogil:
    """The window grows cut by cut and changes between two copies of the input."""
    cdef size_t place = 0
    cdef size_t i
    cdef size_t end
    for i in range(cut_count + 1):
        end = cuts[i] if i < cut_count else size
        if drain(log, parser, first if i % 2 == 0 else second, end, &place) == PARSE_ERROR:
            return


def split_mismatch(bytes data, bint authenticated=True, size_t step=1):
    """Parses `data` in two pieces, for every place to cut; returns the first cut that differs, or None."""
    cdef const char *first = PyBytes_AS_STRING(data)
    cdef bytes copy = bytes(bytearray(data))
    cdef const char *second = PyBytes_AS_STRING(copy)
    cdef size_t size = len(data)
    cdef size_t cut = 0
    cdef bint same = True
    cdef log_t whole
    cdef log_t pieces
    cdef parser_t parser
    whole.words = pieces.words = NULL
    whole.count = whole.capacity = pieces.count = pieces.capacity = 0
    with nogil:
        parser_init(&parser)
        parser.authenticated = authenticated
        run_pieces(&whole, &parser, first, second, size, NULL, 0)
        parser_reset(&parser)
        while cut <= size:
            pieces.count = 0
            run_pieces(&pieces, &parser, first, second, size, &cut, 1)
            if not same_log(&whole, &pieces):
                same = False
                break
            parser_reset(&parser)
            parser_trim(&parser)
            cut += step
        parser_deinit(&parser)
        net_free(whole.words)
        net_free(pieces.words)
    return None if same else cut


def pieces_differ(bytes data, list places, bint authenticated=True):
    """Whether `data` cut at all these places parses differently from the whole."""
    cdef const char *first = PyBytes_AS_STRING(data)
    cdef bytes copy = bytes(bytearray(data))
    cdef log_t whole
    cdef log_t pieces
    cdef parser_t parser
    cdef size_t *cuts = <size_t *>net_alloc((len(places) + 1) * sizeof(size_t))
    cdef bint same
    for i, place in enumerate(sorted(places)):
        cuts[i] = place
    whole.words = pieces.words = NULL
    whole.count = whole.capacity = pieces.count = pieces.capacity = 0
    parser_init(&parser)
    parser.authenticated = authenticated
    run_pieces(&whole, &parser, first, PyBytes_AS_STRING(copy), len(data), NULL, 0)
    parser_reset(&parser)
    run_pieces(&pieces, &parser, first, PyBytes_AS_STRING(copy), len(data), cuts, len(places))
    same = same_log(&whole, &pieces)
    parser_deinit(&parser)
    net_free(whole.words)
    net_free(pieces.words)
    net_free(cuts)
    return not same


def net_bytes():
    """Live bytes of the account that parsers and reply builders allocate from."""
    return mem_total(ACCOUNT_NET)


cdef class Parser:
    """One parser; windows are bytes objects."""
    cdef parser_t parser

    def __cinit__(self, bint authenticated=True, int64_t max_bulk_size=512 * 1024 * 1024):
        parser_init(&self.parser)
        self.parser.authenticated = authenticated
        self.parser.max_bulk_size = max_bulk_size

    def __dealloc__(self):
        parser_deinit(&self.parser)

    def next(self, bytes window):
        """(result, arguments or error text or None, consumed)"""
        cdef size_t size = len(window)
        cdef char *data = <char *>net_alloc(size)
        cdef size_t used = 0
        cdef int result
        memcpy(data, PyBytes_AS_STRING(window), size)
        with nogil:
            result = parser_next(&self.parser, data, size, &used)
        answer = None
        if result == PARSE_OK:
            answer = [self.parser.argv[i].data[:self.parser.argv[i].size] for i in range(self.parser.argc)]
        elif result == PARSE_ERROR:
            answer = <bytes>self.parser.error
        net_free(data)
        return NAMES[result], answer, used

    def parse_all(self, bytes data):
        """(commands, error text or None, bytes consumed)"""
        commands = []
        place = 0
        while place < len(data):
            result, answer, used = self.next(data[place:])
            if result == "ok":
                commands.append(answer)
            elif result == "error":
                return commands, answer, place
            elif result == "need_more":
                break
            place += used
        return commands, None, place

    def reset(self):
        parser_reset(&self.parser)

    def shrink(self):
        parser_shrink(&self.parser)

    def trim(self):
        parser_trim(&self.parser)

    @property
    def bytes_wanted(self):
        return self.parser.bytes_wanted

    @property
    def argv_capacity(self):
        return self.parser.argv_capacity

    @property
    def inline_capacity(self):
        return self.parser.inline_capacity


def measure_parser(bytes data, uint32_t rounds):
    """(nanoseconds a command, commands a round) of parsing `data` over and over."""
    cdef const char *window = PyBytes_AS_STRING(data)
    cdef size_t size = len(data)
    cdef size_t place
    cdef size_t used = 0
    cdef uint64_t commands = 0
    cdef uint32_t _
    cdef parser_t parser
    cdef int64_t start = monotonic_us()
    with nogil:
        parser_init(&parser)
        for _ in range(rounds):
            place = 0
            while place < size and parser_next(&parser, window + place, size - place, &used) == PARSE_OK:
                place += used
                commands += 1
        parser_deinit(&parser)
    return (monotonic_us() - start) * 1000.0 / <double>(commands if commands > 0 else 1), commands // rounds


def measure_arrival(bytes data, size_t piece):
    """(microseconds, calls) of parsing one command that arrives in pieces of this size."""
    cdef const char *window = PyBytes_AS_STRING(data)
    cdef size_t size = len(data)
    cdef size_t end = 0
    cdef size_t used = 0
    cdef uint64_t calls = 0
    cdef int result = PARSE_NEED_MORE
    cdef parser_t parser
    cdef int64_t start = monotonic_us()
    with nogil:
        parser_init(&parser)
        while result == PARSE_NEED_MORE and end < size:
            end = end + piece if end + piece < size else size
            result = parser_next(&parser, window, end, &used)
            calls += 1
        parser_deinit(&parser)
    if result != PARSE_OK or used != size:
        raise ValueError("not exactly one command")
    return monotonic_us() - start, calls


# ---- The reply builder ------------------------------------------------------------------------

cdef class Reply:
    """One reply builder; `take` hands out what was appended."""
    cdef reply_t reply

    def __cinit__(self, int resp=2):
        reply_init(&self.reply, resp)

    def __dealloc__(self):
        reply_deinit(&self.reply)

    def take(self):
        cdef bytes out = PyBytes_FromStringAndSize(self.reply.data, self.reply.size)
        reply_reset(&self.reply)
        return out

    @property
    def resp(self):
        return self.reply.resp

    @resp.setter
    def resp(self, int value):
        self.reply.resp = value

    @property
    def error_count(self):
        return self.reply.error_count

    @property
    def capacity(self):
        return self.reply.capacity

    def raw(self, bytes data):
        reply_raw(&self.reply, data, len(data))

    def simple(self, bytes text):
        reply_simple(&self.reply, text)

    def ok(self):
        reply_ok(&self.reply)

    def error(self, bytes text):
        reply_error(&self.reply, text)

    def error_slice(self, bytes text):
        reply_error_slice(&self.reply, text, len(text))

    def int(self, int64_t value):
        reply_int(&self.reply, value)

    def bulk(self, bytes data):
        reply_bulk(&self.reply, data, len(data))

    def bulk_text(self, bytes text):
        reply_bulk_text(&self.reply, text)

    def bulk_int(self, int64_t value):
        reply_bulk_int(&self.reply, value)

    def bulk_reserve(self, bytes data):
        memcpy(reply_bulk_reserve(&self.reply, len(data)), PyBytes_AS_STRING(data), len(data))

    def null(self):
        reply_null(&self.reply)

    def null_array(self):
        reply_null_array(&self.reply)

    def bool(self, bint value):
        reply_bool(&self.reply, value)

    def double(self, double value):
        reply_double(&self.reply, value)

    def big_number(self, bytes text):
        reply_big_number(&self.reply, text)

    def verbatim(self, bytes data, bytes format3):
        reply_verbatim(&self.reply, data, len(data), format3)

    def header(self, str kind, uint64_t value):
        reply_header(&self.reply, <char>ord(kind), value)

    def array(self, size_t count):
        reply_array(&self.reply, count)

    def map(self, size_t pairs):
        reply_map(&self.reply, pairs)

    def set(self, size_t count):
        reply_set(&self.reply, count)

    def push(self, size_t count):
        reply_push(&self.reply, count)

    def defer_array(self):
        return reply_defer_array(&self.reply)

    def set_deferred(self, size_t mark, str kind, size_t count):
        reply_set_deferred(&self.reply, mark, <char>ord(kind), count)

    def reset(self):
        reply_reset(&self.reply)


def measure_reply(str kind, uint32_t rounds, size_t size=16, double number=3.0, int64_t integer=7):
    """Nanoseconds to append one reply of a kind: bulk, int, ok, null, double, array."""
    cdef bytes text = b"x" * size
    cdef const char *data = text
    cdef reply_t reply
    cdef uint32_t i
    cdef int which = ["bulk", "int", "ok", "null", "double", "array"].index(kind)
    cdef int64_t start = monotonic_us()
    reply_init(&reply, 2)
    with nogil:
        for i in range(rounds):
            if i % 64 == 0:
                reply_reset(&reply)
            if which == 0:
                reply_bulk(&reply, data, size)
            elif which == 1:
                reply_int(&reply, integer)
            elif which == 2:
                reply_ok(&reply)
            elif which == 3:
                reply_null(&reply)
            elif which == 4:
                reply_double(&reply, number)
            else:
                reply_array(&reply, <size_t>integer)
        reply_deinit(&reply)
    return (monotonic_us() - start) * 1000.0 / rounds
