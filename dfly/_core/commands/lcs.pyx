"""LCS: the longest common subsequence of two strings.

The values are copied from their shards; the computation runs on the connection's thread and holds
no shard. Dynamic programming over one row of lengths. To find the way back, Redis keeps the whole
table of 32-bit lengths; all it asks of a cell is which of two neighbours is larger, so we keep that
one bit per cell, a 32nd of the memory. LEN alone keeps no cells at all. What is refused as too
large is the same as in Redis: the size its table would have had.

Many common subsequences may be equally long; the walk makes Redis' choices at ties.
"""

from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.commands.string_multi cimport fetch_strings, fetched_strings
from dfly._core.engine.command cimport (ACL_STRING, COMMAND_READONLY, KEY_ACCESS, KEY_RO, command_spec_t,
                                        register_commands, reply_not_integer, reply_syntax_error,
                                        slice_equals, transaction_row)
from dfly._core.engine.transaction cimport TRANSACTION_DONE, transaction_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk_reserve, reply_bulk_text, reply_defer_array,
                                    reply_error, reply_int, reply_map, reply_set_deferred, reply_t)
from dfly._core.store.object cimport parse_int64
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef struct options_t:
    bint only_length
    bint as_ranges
    bint with_lengths
    int64_t shortest             # ranges below this are left out

cdef struct table_t:
    slice_t a
    slice_t b
    uint32_t *lengths            # one row
    uint8_t *up                  # bit per cell: the cell above is larger than the left one; NULL: not kept
    size_t stride                # bytes of a row of bits
    uint32_t length              # of the result

cdef struct range_t:
    # A run of bytes common to both strings; grows towards the front while the walk goes back.
    bint is_open
    size_t a
    size_t b
    size_t length


cdef bint parse_options(transaction_t *tx, options_t *options) noexcept nogil:
    cdef uint32_t position = 3
    memset(options, 0, sizeof(options_t))
    while position < tx.argc:
        if slice_equals(tx.argv[position], "idx"):
            options.as_ranges = True
        elif slice_equals(tx.argv[position], "len"):
            options.only_length = True
        elif slice_equals(tx.argv[position], "withmatchlen"):
            options.with_lengths = True
        elif slice_equals(tx.argv[position], "minmatchlen") and position + 1 < tx.argc:
            position += 1
            if not parse_int64(tx.argv[position].data, tx.argv[position].size, &options.shortest):
                reply_not_integer(&tx.reply)
                return False
        else:
            reply_syntax_error(&tx.reply)
            return False
        position += 1
    if options.as_ranges and options.only_length:
        reply_error(&tx.reply, "ERR If you want both the length and indexes, please just use IDX.")
        return False
    return True


cdef bint check_memory(transaction_t *tx, size_t a, size_t b) noexcept nogil:
    """Redis' bound on the table."""
    cdef uint64_t limit = <uint64_t>tx.shards[0].settings.proto_max_bulk_len
    if a >= UINT32_MAX - 1 or b >= UINT32_MAX - 1:
        reply_error(&tx.reply, "ERR String too long for LCS")
        return False
    if <uint64_t>(a + 1) * (b + 1) > limit // sizeof(uint32_t):
        reply_error(&tx.reply, "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
        return False
    return True


cdef uint32_t fill_row(table_t *table, char letter, uint8_t *up) noexcept nogil:
    """Advances the row of lengths by one byte of a; returns its last length."""
    cdef uint32_t *lengths = table.lengths
    cdef const char *b = table.b.data
    cdef uint32_t diagonal = 0
    cdef uint32_t left = 0
    cdef uint32_t above
    cdef size_t j
    for j in range(table.b.size):
        above = lengths[j]
        if b[j] == letter:
            left = diagonal + 1
        elif above > left:
            left = above
            if up != NULL:
                up[j >> 3] |= <uint8_t>(1 << (j & 7))
        lengths[j] = left
        diagonal = above
    return left


cdef void fill_table(table_t *table, bint keep_way) noexcept nogil:
    cdef size_t i
    cdef uint8_t *up = NULL
    table.lengths = <uint32_t *>net_zalloc((table.b.size + 1) * sizeof(uint32_t))
    table.stride = (table.b.size + 7) >> 3
    table.up = <uint8_t *>net_zalloc(table.a.size * table.stride + 1) if keep_way else NULL
    table.length = 0
    for i in range(table.a.size):
        if table.up != NULL:
            up = table.up + i * table.stride
        table.length = fill_row(table, table.a.data[i], up)


cdef inline bint goes_up(const table_t *table, size_t i, size_t j) noexcept nogil:
    return (table.up[i * table.stride + (j >> 3)] >> (j & 7)) & 1


cdef void write_subsequence(const table_t *table, reply_t *reply) noexcept nogil:
    cdef char *out = reply_bulk_reserve(reply, table.length)
    cdef uint32_t left = table.length
    cdef size_t i = table.a.size
    cdef size_t j = table.b.size
    while out != NULL and left > 0:
        if table.a.data[i - 1] == table.b.data[j - 1]:
            left -= 1
            i -= 1
            j -= 1
            out[left] = table.a.data[i]
        elif goes_up(table, i - 1, j - 1):
            i -= 1
        else:
            j -= 1


cdef uint32_t close_range(reply_t *reply, const options_t *options, range_t *run) noexcept nogil:
    """Replies an open range that is long enough; returns how many array elements that made."""
    if not run.is_open:
        return 0
    run.is_open = False
    if options.shortest > 0 and run.length < <uint64_t>options.shortest:
        return 0
    reply_array(reply, 3 if options.with_lengths else 2)
    reply_array(reply, 2)
    reply_int(reply, <int64_t>run.a)
    reply_int(reply, <int64_t>(run.a + run.length - 1))
    reply_array(reply, 2)
    reply_int(reply, <int64_t>run.b)
    reply_int(reply, <int64_t>(run.b + run.length - 1))
    if options.with_lengths:
        reply_int(reply, <int64_t>run.length)
    return 1


cdef void write_ranges(const table_t *table, const options_t *options, reply_t *reply) noexcept nogil:
    """The ranges from the last to the first."""
    cdef size_t i = table.a.size
    cdef size_t j = table.b.size
    cdef uint32_t count = 0
    cdef size_t mark
    cdef range_t run
    run.is_open = False
    run.length = 0
    reply_map(reply, 2)
    reply_bulk_text(reply, "matches")
    mark = reply_defer_array(reply)
    while i > 0 and j > 0:
        if table.a.data[i - 1] == table.b.data[j - 1]:
            i -= 1
            j -= 1
            run.length = run.length + 1 if run.is_open else 1
            run.is_open = True
            run.a = i
            run.b = j
            continue
        count += close_range(reply, options, &run)
        if goes_up(table, i - 1, j - 1):
            i -= 1
        else:
            j -= 1
    count += close_range(reply, options, &run)
    reply_set_deferred(reply, mark, c'*', count)
    reply_bulk_text(reply, "len")
    reply_int(reply, table.length)


cdef void compute(transaction_t *tx, const slice_t *strings) noexcept nogil:
    cdef options_t options
    cdef table_t table
    if not parse_options(tx, &options) or not check_memory(tx, strings[0].size, strings[1].size):
        return
    table.a = strings[0]
    table.b = strings[1]
    fill_table(&table, not options.only_length)
    if options.as_ranges:
        write_ranges(&table, &options, &tx.reply)
    elif options.only_length:
        reply_int(&tx.reply, table.length)
    else:
        write_subsequence(&table, &tx.reply)
    net_free(table.up)
    net_free(table.lengths)


cdef int lcs_step(transaction_t *tx) noexcept nogil:
    cdef slice_t *strings
    if tx.stage == 0:
        tx.stage = 1
        return fetch_strings(tx, 0)
    strings = fetched_strings(tx)
    if strings == NULL:
        reply_error(&tx.reply, "ERR The specified keys must contain string values")
    else:
        compute(tx, strings)
    return TRANSACTION_DONE


cdef enum:
    ROW_COUNT = 1

cdef command_spec_t rows[ROW_COUNT]


def register():
    """Adds this family's row to the registry."""
    rows[0] = transaction_row("lcs", -3, COMMAND_READONLY, ACL_STRING, 1, 2, 1, KEY_RO | KEY_ACCESS, lcs_step)
    register_commands(rows, ROW_COUNT)
