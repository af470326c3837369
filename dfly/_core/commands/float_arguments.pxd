"""Floating-point arguments, as Redis reads them: C's strtod, in the C locale."""

from dfly._core.resp.reply cimport reply_t
from dfly._core.sys.base cimport slice_t

# The whole text is a number: no space before it, nothing behind it, no NaN, no overflow. "inf" is one.
cdef bint parse_double(slice_t text, double *out) noexcept nogil
# Replies "ERR value is not a valid float" if it is not.
cdef bint double_argument(reply_t *reply, slice_t text, double *out) noexcept nogil
# One end of a range of scores, which is laxer: spaces before the number and no number at all (zero) pass.
cdef bint parse_score_limit(slice_t text, double *out) noexcept nogil
