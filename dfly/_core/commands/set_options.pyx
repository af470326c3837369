"""Options of SET and its kin: see set_options.pxd. Words are Redis 8.4's; STICK is Dragonfly's."""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memset

from dfly._core.engine.command cimport command_spec_t, reply_not_integer, slice_equals
from dfly._core.resp.reply cimport reply_error, reply_t
from dfly._core.store.object cimport OBJECT_SCRATCH, object_t, object_view, parse_int64
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.xxh3 cimport xxh3

__abi__ = DFLY_ABI_STAMP

cdef enum:
    MS_PER_S = 1000


# ---- Words ---------------------------------------------------------------------------------

cdef uint32_t expiry_word(slice_t word) noexcept nogil:
    if slice_equals(word, "ex"):
        return SET_EX
    if slice_equals(word, "px"):
        return SET_PX
    if slice_equals(word, "exat"):
        return SET_EXAT
    if slice_equals(word, "pxat"):
        return SET_PXAT
    return 0


cdef uint32_t comparison_word(slice_t word) noexcept nogil:
    if slice_equals(word, "ifeq"):
        return SET_IFEQ
    if slice_equals(word, "ifne"):
        return SET_IFNE
    if slice_equals(word, "ifdeq"):
        return SET_IFDEQ
    if slice_equals(word, "ifdne"):
        return SET_IFDNE
    return 0


cdef uint32_t plain_word(slice_t word) noexcept nogil:
    if slice_equals(word, "nx"):
        return SET_NX
    if slice_equals(word, "xx"):
        return SET_XX
    if slice_equals(word, "get"):
        return SET_GET
    if slice_equals(word, "keepttl"):
        return SET_KEEPTTL
    if slice_equals(word, "stick"):
        return SET_STICK
    return 0


cdef bint flags_agree(uint32_t flags, uint32_t added) noexcept nogil:
    """Whether this one may come behind those."""
    if added & SET_TTL:
        return not flags & (SET_TTL & ~added)
    if added & SET_COMPARISON:
        return not flags & SET_CONDITION
    return not (added & SET_CONDITION and flags & (SET_CONDITION & ~added))


cdef bint parse_set_words(const slice_t *argv, uint32_t argc, uint32_t first, uint32_t allowed,
                          set_options_t *out) noexcept nogil:
    cdef uint32_t i = first
    cdef uint32_t flag
    memset(out, 0, sizeof(set_options_t))
    while i < argc:
        flag = plain_word(argv[i])
        if flag == 0:
            flag = expiry_word(argv[i]) | comparison_word(argv[i])
            i += 1
            if i == argc:
                return False
            if flag & SET_EXPIRY:
                out.expiry = argv[i]
            else:
                out.comparison = argv[i]
        if flag & allowed == 0 or not flags_agree(out.flags, flag):
            return False
        out.flags |= flag
        i += 1
    return True


# ---- Expiry --------------------------------------------------------------------------------

cdef void reply_invalid_expire(const command_spec_t *spec, reply_t *reply) noexcept nogil:
    cdef char text[96]
    snprintf(text, sizeof(text), "ERR invalid expire time in '%s' command", spec.name)
    reply_error(reply, text)


cdef bint parse_expiry(const command_spec_t *spec, reply_t *reply, int64_t now_ms, slice_t argument,
                       uint32_t unit_flag, int64_t *deadline) noexcept nogil:
    cdef int64_t value
    if not parse_int64(argument.data, argument.size, &value):
        reply_not_integer(reply)
        return False
    if value <= 0:
        reply_invalid_expire(spec, reply)
        return False
    if unit_flag & (SET_EX | SET_EXAT):
        if value > INT64_MAX // MS_PER_S:
            reply_invalid_expire(spec, reply)
            return False
        value *= MS_PER_S
    if unit_flag & (SET_EX | SET_PX):
        if value > INT64_MAX - now_ms:
            reply_invalid_expire(spec, reply)
            return False
        value += now_ms
    deadline[0] = value
    return True


# ---- Comparisons ---------------------------------------------------------------------------

cdef void digest_text(const object_t *value, char *out) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view = object_view(value, scratch)
    snprintf(out, DIGEST_TEXT_SIZE + 1, "%016llx", <unsigned long long>xxh3(view.data, view.size))


cdef bint check_digest(uint32_t flags, slice_t comparison, reply_t *reply) noexcept nogil:
    # Characters that are no hexadecimal digits make it a digest that nothing has, as in Redis.
    if not flags & (SET_IFDEQ | SET_IFDNE) or comparison.size == DIGEST_TEXT_SIZE:
        return True
    reply_error(reply, "ERR must be exactly 16 hexadecimal characters")
    return False


cdef bint comparison_holds(uint32_t flags, slice_t comparison, const object_t *value) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef char digest[DIGEST_TEXT_SIZE + 1]
    cdef slice_t view
    cdef bint is_equal
    if flags & (SET_IFDEQ | SET_IFDNE):
        digest_text(value, digest)
        return slice_equals(comparison, digest) == (flags & SET_IFDEQ != 0)
    view = object_view(value, scratch)
    is_equal = view.size == comparison.size and memcmp(view.data, comparison.data, view.size) == 0
    return is_equal == (flags & SET_IFEQ != 0)
