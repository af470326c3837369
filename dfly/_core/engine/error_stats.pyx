"""Counting errors by code; see error_stats.pxd. Runs only when a command failed."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from dfly._core.store.object cimport parse_int64
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef void add_code(error_stats_t *self, const char *code, size_t size) noexcept nogil:
    cdef uint32_t i
    for i in range(self.used):
        if memcmp(self.rows[i].code, code, size) == 0 and self.rows[i].code[size] == 0:
            self.rows[i].count += 1
            return
    if self.used == ERROR_CODES_MAX:
        # The first row was begun as ERR, see below.
        self.rows[0].count += 1
        return
    memcpy(self.rows[self.used].code, code, size)
    self.rows[self.used].count = 1
    self.used += 1


cdef void error_stats_add(error_stats_t *self, const char *text, size_t size) noexcept nogil:
    cdef const char *space
    if self.used == 0:
        memcpy(self.rows[0].code, "ERR", 3)
        self.used = 1
    if size > 0 and text[0] == c'-':
        text += 1
        size -= 1
    space = <const char *>memchr(text, c' ', size if size <= ERROR_CODE_MAX else ERROR_CODE_MAX + 1)
    if space == NULL:
        add_code(self, "ERR", 3)
    else:
        add_code(self, text, <size_t>(space - text))


cdef uint64_t error_stats_scan(error_stats_t *self, const char *data, size_t size) noexcept nogil:
    cdef const char *end = data + size
    cdef const char *line_end
    cdef int64_t length = 0
    cdef uint64_t found = 0
    # Heads of arrays and maps are lines like others: what they hold follows them.
    while data < end:
        line_end = <const char *>memchr(data, c'\r', <size_t>(end - data))
        if line_end == NULL:
            break
        if data[0] == c'-':
            error_stats_add(self, data, <size_t>(line_end - data))
            found += 1
        elif (data[0] == c'$' or data[0] == c'=') \
                and parse_int64(data + 1, <size_t>(line_end - data - 1), &length) and length >= 0:
            line_end += length + 2
        data = line_end + 2
    return found
