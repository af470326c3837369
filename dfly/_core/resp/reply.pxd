"""Reply builder: appends RESP2 or RESP3 to one growable buffer.

Each function takes the protocol from `self.resp` (2 or 3), so handlers are written once. Header
functions (array, map, set, push) say how many elements follow. For a reply whose length is known only
at the end, reply_defer_array leaves a place that reply_set_deferred fills; nested ones are filled
innermost first, since filling one may shift what lies behind it. Protocol: Redis' RESP specification
(redis.io/docs/latest/develop/reference/protocol-spec).

Invariant: what was appended is whole replies, so a caller may cut back to an earlier `size`.
Ownership: the buffer is the builder's (net_alloc); reply_deinit ends that. Nothing is allocated
before the first byte.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from dfly._core.sys.base cimport likely, unlikely

cdef struct reply_t:
    char *data
    size_t size
    size_t capacity
    int resp                     # 2 or 3
    uint64_t error_count         # error replies appended, for stats

cdef struct reply_chunk_t:
    reply_chunk_t *next
    char *data
    size_t size
    size_t capacity

cdef struct reply_chain_t:
    # Finished bytes in several buffers: what is long is neither grown, nor copied, nor freed at once. Zero: empty.
    reply_chunk_t *first
    reply_chunk_t *last
    size_t size
    size_t capacity

cdef enum:
    REPLY_CHUNK = 65536          # less is not worth a buffer of its own

cdef void reply_init(reply_t *self, int resp) noexcept nogil
cdef void reply_deinit(reply_t *self) noexcept nogil
cdef void reply_reset(reply_t *self) noexcept nogil                             # size = 0, memory kept
cdef void reply_grow(reply_t *self, size_t more) noexcept nogil                 # room for `more` bytes

# Errors: "-" + text, which starts with its code: "ERR ...". Line ends at its end are dropped, others
# become spaces.
cdef void reply_error(reply_t *self, const char *text) noexcept nogil
cdef void reply_error_slice(reply_t *self, const char *text, size_t size) noexcept nogil

# Scalars. `text` is NUL terminated.
cdef void reply_simple(reply_t *self, const char *text) noexcept nogil          # +text
cdef void reply_int_slow(reply_t *self, int64_t value) noexcept nogil
cdef void reply_bulk_text(reply_t *self, const char *text) noexcept nogil
cdef void reply_bulk_int(reply_t *self, int64_t value) noexcept nogil           # integer as bulk string
cdef void reply_null_array(reply_t *self) noexcept nogil                        # *-1 or _
cdef void reply_bool(reply_t *self, bint value) noexcept nogil                  # :1/:0 or #t/#f
cdef void reply_double(reply_t *self, double value) noexcept nogil              # bulk or ","; %.17g as Redis
cdef void reply_big_number(reply_t *self, const char *text) noexcept nogil      # bulk or "("
# A bulk string of `size` bytes for the caller to fill; header and line end are written.
cdef char *reply_bulk_reserve(reply_t *self, size_t size) noexcept nogil
# Bulk or "="; format3 is three letters such as "txt".
cdef void reply_verbatim(reply_t *self, const char *data, size_t size, const char *format3) noexcept nogil

# Headers: so many elements follow.
cdef void reply_header(reply_t *self, char kind, uint64_t value) noexcept nogil  # "<kind><value>\r\n"
cdef void reply_array(reply_t *self, size_t count) noexcept nogil
cdef void reply_map(reply_t *self, size_t pairs) noexcept nogil                 # RESP2: array of 2 * pairs
cdef void reply_set(reply_t *self, size_t count) noexcept nogil
cdef void reply_push(reply_t *self, size_t count) noexcept nogil
# The header comes later: defer returns a mark; kind is '*', '%', '~' or '>'.
cdef size_t reply_defer_array(reply_t *self) noexcept nogil
cdef void reply_set_deferred(reply_t *self, size_t mark, char kind, size_t count) noexcept nogil

# The builder's buffer becomes the last part of the chain (or the first one); the builder is empty then.
cdef void reply_chain_take(reply_chain_t *self, reply_t *reply, bint front) noexcept nogil
cdef void reply_chain_join(reply_chain_t *self, reply_chain_t *behind) noexcept nogil
# The first part becomes the buffer of an empty builder; False: there is none.
cdef bint reply_chain_pop(reply_chain_t *self, reply_t *out) noexcept nogil
cdef void reply_chain_free(reply_chain_t *self) noexcept nogil
# The header of all that chain and builder hold; kind as above, or '$', whose count is their bytes.
cdef void reply_chain_header(reply_chain_t *self, reply_t *reply, char kind, size_t count) noexcept nogil


cdef inline char *reply_reserve(reply_t *self, size_t more) noexcept nogil:
    """Room for `more` bytes; where the next byte goes."""
    if unlikely(self.size + more > self.capacity):
        reply_grow(self, more)
    return self.data + self.size


cdef inline void reply_raw(reply_t *self, const char *data, size_t size) noexcept nogil:
    """Finished RESP bytes."""
    if size > 0:
        memcpy(reply_reserve(self, size), data, size)
        self.size += size


cdef inline void reply_ok(reply_t *self) noexcept nogil:
    memcpy(reply_reserve(self, 5), b"+OK\r\n", 5)
    self.size += 5


cdef inline void reply_int(reply_t *self, int64_t value) noexcept nogil:
    cdef char *p
    if likely(<uint64_t>value <= 9):
        p = reply_reserve(self, 4)
        p[0] = c':'
        p[1] = <char>(c'0' + value)
        p[2] = c'\r'
        p[3] = c'\n'
        self.size += 4
    else:
        reply_int_slow(self, value)


cdef inline void reply_null(reply_t *self) noexcept nogil:
    """$-1 or _"""
    if self.resp == 3:
        memcpy(reply_reserve(self, 3), b"_\r\n", 3)
        self.size += 3
    else:
        memcpy(reply_reserve(self, 5), b"$-1\r\n", 5)
        self.size += 5


cdef inline void reply_bulk(reply_t *self, const char *data, size_t size) noexcept nogil:
    cdef char *p
    if likely(size < 100):
        # Most values: a one or two digit header written by hand.
        p = reply_reserve(self, size + 7)
        p[0] = c'$'
        if size < 10:
            p[1] = <char>(c'0' + size)
            p += 2
        else:
            p[1] = <char>(c'0' + size // 10)
            p[2] = <char>(c'0' + size % 10)
            p += 3
        p[0] = c'\r'
        p[1] = c'\n'
        if size > 0:
            memcpy(p + 2, data, size)
        p += 2 + size
        p[0] = c'\r'
        p[1] = c'\n'
        self.size = <size_t>(p + 2 - self.data)
    else:
        memcpy(reply_bulk_reserve(self, size), data, size)
