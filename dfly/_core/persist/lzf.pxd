"""LZF, the compression of strings in RDB files.

A compressed text is a sequence of control bytes with what they ask for:

    000nnnnn                        n + 1 bytes follow, to be copied
    lllooooo oooooooo               l + 2 bytes from o + 1 bytes back in the output; l is 1..6
    111ooooo llllllll oooooooo      the same with l + 9 bytes
"""

from libc.stdint cimport uint64_t

cdef enum:
    LZF_RATIO_MAX = 88               # no compressed byte makes more: three give 264
    LZF_INPUT_MIN = 5                # what is shorter never gets smaller

# Into at most `room` bytes; the compressed size, 0: it does not fit.
cdef size_t lzf_compress(const char *data, size_t size, char *out, size_t room) noexcept nogil
# Foreign bytes: True only if they are well formed and make exactly out_size bytes. out is never overrun.
cdef bint lzf_decompress(const char *data, size_t size, char *out, size_t out_size) noexcept nogil
