"""The options of SET and its kin (GETEX, MSETEX, DELEX): words, conditions, moments of expiry."""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.engine.command cimport command_spec_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.object cimport object_t
from dfly._core.sys.base cimport slice_t

cdef enum set_flag_t:
    SET_NX = 1
    SET_XX = 2
    SET_GET = 4
    SET_KEEPTTL = 8
    SET_EX = 16
    SET_PX = 32
    SET_EXAT = 64
    SET_PXAT = 128
    SET_PERSIST = 256
    SET_IFEQ = 512
    SET_IFNE = 1024
    SET_IFDEQ = 2048
    SET_IFDNE = 4096
    SET_STICK = 8192
    SET_EXPIRY = 240                 # SET_EX | SET_PX | SET_EXAT | SET_PXAT
    SET_TTL = 504                    # what concerns the TTL: at most one of these
    SET_COMPARISON = 7680            # SET_IFEQ | SET_IFNE | SET_IFDEQ | SET_IFDNE
    SET_CONDITION = 7683             # at most one of these, too

cdef enum:
    DIGEST_TEXT_SIZE = 16

cdef struct set_options_t:
    uint32_t flags
    slice_t expiry
    slice_t comparison

# The words from argv[first] on, of those that are allowed; False: syntax error. The same one may come twice, as in
# Redis.
cdef bint parse_set_words(const slice_t *argv, uint32_t argc, uint32_t first, uint32_t allowed,
                          set_options_t *out) noexcept nogil
# The flag of an option that takes a time, 0 for any other word; that of a comparison.
cdef uint32_t expiry_word(slice_t word) noexcept nogil
cdef uint32_t comparison_word(slice_t word) noexcept nogil
# The moment an EX, PX, EXAT or PXAT argument means; replies the error and returns False if none.
cdef bint parse_expiry(const command_spec_t *spec, reply_t *reply, int64_t now_ms, slice_t argument,
                       uint32_t unit_flag, int64_t *deadline) noexcept nogil

# Of a string: whether IFEQ, IFNE, IFDEQ or IFDNE holds.
cdef bint comparison_holds(uint32_t flags, slice_t comparison, const object_t *value) noexcept nogil
# False after an error reply: a digest has 16 characters.
cdef bint check_digest(uint32_t flags, slice_t comparison, reply_t *reply) noexcept nogil
cdef void digest_text(const object_t *value, char *out) noexcept nogil     # DIGEST_TEXT_SIZE bytes and a zero
