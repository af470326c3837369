"""Walks over the elements of one key: see element_scans.pxd."""

from libc.stdint cimport uint64_t

from dfly._core.commands.long_reads cimport long_read_begin, long_read_t, long_read_wanted
from dfly._core.commands.scan_options cimport parse_element_scan, reply_scan_head, scan_bucket_limit
from dfly._core.engine.command cimport call_t, transaction_t
from dfly._core.engine.slices cimport work_all, work_goes_on, work_t
from dfly._core.resp.reply cimport reply_chain_take, reply_deinit, reply_init, reply_raw, reply_t
from dfly._core.store.object cimport object_is_string, object_pointer, object_t, object_type
from dfly._core.sys.alloc cimport net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef struct left_t:
    # A scan under way; read.extra of one in slices.
    element_scan_t scan
    element_scan_step_t step
    uint64_t cursor
    uint64_t buckets             # that it may still visit
    bint allow_no_values


cdef bint go_on(left_t *self, work_t *work) noexcept nogil:
    """True: it has enough."""
    while self.buckets > 0 and self.scan.counted < <uint64_t>self.scan.options.count:
        if not work_goes_on(work):
            return False
        self.cursor = self.step(&self.scan, self.cursor)
        self.buckets -= 1
        if self.cursor == 0:
            return True
    return True


cdef bint go_on_in_slices(long_read_t *read, transaction_t *tx) noexcept nogil:
    cdef left_t *left = <left_t *>read.extra
    # Arguments move.
    parse_element_scan(tx.argv, tx.argc, left.allow_no_values, &left.scan.options, &tx.reply)
    left.scan.elements = &tx.reply
    left.scan.value = &read.value
    left.scan.now_ms = tx.now_ms
    if not go_on(left, &read.work):
        return False
    reply_chain_take(&tx.chain, &tx.reply, False)
    reply_scan_head(&tx.reply, left.cursor, left.scan.found)
    reply_chain_take(&tx.chain, &tx.reply, True)
    return True


cdef bint is_same(const long_read_t *read, const object_t *value) noexcept nogil:
    return (not object_is_string(value) and object_type(value) == object_type(&read.value)
            and object_pointer(value) == object_pointer(&read.value))


cdef void element_scan(call_t *call, const object_t *value, uint64_t size, uint64_t cursor, element_scan_step_t step,
                       bint allow_no_values) noexcept nogil:
    cdef long_read_t *read
    cdef reply_t elements
    cdef left_t left
    cdef work_t work
    if not parse_element_scan(call.argv, call.argc, allow_no_values, &left.scan.options, call.reply):
        return
    left.scan.value = value
    left.scan.now_ms = call.scope.now_ms
    left.scan.found = 0
    left.scan.counted = 0
    left.step = step
    left.cursor = cursor
    left.buckets = scan_bucket_limit(&left.scan.options)
    left.allow_no_values = allow_no_values
    if long_read_wanted(call, min(<uint64_t>left.scan.options.count, size)):
        read = long_read_begin(call, value, go_on_in_slices)
        if read != NULL:
            read.extra = net_realloc(read.extra, sizeof(left_t))
            (<left_t *>read.extra)[0] = left
            read.still = is_same
        return
    reply_init(&elements, call.reply.resp)
    left.scan.elements = &elements
    work_all(&work)
    go_on(&left, &work)
    reply_scan_head(call.reply, left.cursor, left.scan.found)
    reply_raw(call.reply, elements.data, elements.size)
    reply_deinit(&elements)
