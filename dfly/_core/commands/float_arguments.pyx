"""Implementation of floating-point arguments: see float_arguments.pxd."""

from libc cimport errno as c_errno
from libc.math cimport isinf, isnan
from libc.stdlib cimport strtod
from libc.string cimport memcpy

from dfly._core.resp.reply cimport reply_error, reply_t
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    TEXT_ON_STACK_MAX = 255


cdef size_t read_double(const char *data, size_t size, double *out) noexcept nogil:
    """strtod of a text without an end mark; returns how many bytes it took."""
    cdef char stack[TEXT_ON_STACK_MAX + 1]
    cdef char *text = stack
    cdef char *end
    cdef size_t taken
    if size > TEXT_ON_STACK_MAX:
        text = <char *>net_alloc(size + 1)
    memcpy(text, data, size)
    text[size] = 0
    c_errno.errno = 0        # the bare name would be a local variable
    out[0] = strtod(text, &end)
    taken = <size_t>(end - text)
    if text != stack:
        net_free(text)
    return taken


cdef bint parse_double(slice_t text, double *out) noexcept nogil:
    if text.size == 0 or text.data[0] == c' ' or c'\t' <= text.data[0] <= c'\r':
        return False
    if read_double(text.data, text.size, out) != text.size:
        return False
    if c_errno.errno == c_errno.ERANGE and (isinf(out[0]) or out[0] == 0):
        return False
    return not isnan(out[0])


cdef bint double_argument(reply_t *reply, slice_t text, double *out) noexcept nogil:
    if parse_double(text, out):
        return True
    reply_error(reply, "ERR value is not a valid float")
    return False


cdef bint parse_score_limit(slice_t text, double *out) noexcept nogil:
    cdef size_t taken = read_double(text.data, text.size, out)
    return not isnan(out[0]) and (taken == text.size or text.data[taken] == 0)
