"""The registry of commands: rows from the families, looked up by name.

Lookup hashes the lower-cased name as three 64-bit words; a name of up to 24 bytes costs two
multiplications and one compare. Rows are registered at import, before any thread runs, and are
read-only from then on.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset, strchr, strlen

from dfly._core.resp.reply cimport reply_error, reply_t
from dfly._core.store.object cimport parse_int64
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, fold_multiply, load32, load64, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    NAME_WORDS = 3
    NAME_MAX = 24
    TABLE_SIZE = 4096            # a power of two, well above COMMAND_MAX
    LOWER_CASE = 0x20

cdef struct name_t:
    uint64_t words[3]

cdef struct cell_t:
    name_t name
    command_spec_t *spec

cdef registry_t registry
cdef cell_t table[TABLE_SIZE]
memset(&registry, 0, sizeof(registry))
memset(table, 0, sizeof(table))


cdef inline bint name_load(const char *text, size_t size, name_t *out) noexcept nogil:
    """Lower-cases a name into words; False when it is too long to be a command's."""
    cdef uint64_t fold = 0x2020202020202020ULL
    cdef size_t i
    if size == 0 or size > NAME_MAX:
        return False
    out.words[0] = 0
    out.words[1] = 0
    out.words[2] = 0
    # Loads that overlap: a copy's bytes would have to be stored before they can be loaded as words.
    if 8 <= size <= 16:
        out.words[0] = load64(text)
        if size > 8:
            out.words[1] = load64(text + size - 8) >> (8 * (16 - size))
    elif 4 <= size < 8:
        out.words[0] = load32(text) | <uint64_t>load32(text + size - 4) << (8 * (size - 4))
    else:
        memcpy(out.words, text, size)
    for i in range(NAME_WORDS):
        out.words[i] |= fold
    return True


cdef inline uint32_t name_slot(const name_t *name) noexcept nogil:
    cdef uint64_t mixed = fold_multiply(name.words[0] ^ 0x9E3779B97F4A7C15ULL,
                                        name.words[1] ^ (name.words[2] * 3) ^ 0xD6E8FEB86659FD93ULL)
    return <uint32_t>(mixed & (TABLE_SIZE - 1))


cdef inline bint name_equals(const name_t *a, const name_t *b) noexcept nogil:
    return a.words[0] == b.words[0] and a.words[1] == b.words[1] and a.words[2] == b.words[2]


cdef void add_row(command_spec_t *row, command_spec_t *parent) noexcept nogil:
    cdef name_t name
    cdef uint32_t slot
    cdef uint32_t i
    DFLY_CHECK(registry.count < COMMAND_MAX, "too many commands")
    row.name_size = <uint32_t>strlen(row.name)
    row.index = registry.count
    row.parent = parent
    registry.specs[registry.count] = row
    registry.count += 1
    if parent == NULL:
        DFLY_CHECK(name_load(row.name, row.name_size, &name), "command name too long")
        slot = name_slot(&name)
        while table[slot].spec != NULL:
            DFLY_CHECK(not name_equals(&table[slot].name, &name), "command registered twice")
            slot = (slot + 1) & (TABLE_SIZE - 1)
        table[slot].name = name
        table[slot].spec = row
    for i in range(row.subcommand_count):
        add_row(&row.subcommands[i], row)


cdef void register_commands(command_spec_t *rows, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        add_row(&rows[i], NULL)


cdef registry_t *command_registry() noexcept nogil:
    return &registry


cdef command_spec_t *find_command(const char *name, size_t size) noexcept nogil:
    cdef name_t wanted
    cdef uint32_t slot
    if not name_load(name, size, &wanted):
        return NULL
    slot = name_slot(&wanted)
    while table[slot].spec != NULL:
        if name_equals(&table[slot].name, &wanted) and table[slot].spec.name_size == size:
            return table[slot].spec
        slot = (slot + 1) & (TABLE_SIZE - 1)
    return NULL


cdef command_spec_t *find_subcommand(command_spec_t *parent, const char *name, size_t size) noexcept nogil:
    cdef uint32_t i
    cdef slice_t wanted
    cdef const char *bar
    wanted.data = name
    wanted.size = size
    for i in range(parent.subcommand_count):
        bar = strchr(parent.subcommands[i].name, c'|')
        if slice_equals(wanted, bar + 1 if bar != NULL else parent.subcommands[i].name):
            return &parent.subcommands[i]
    return NULL


cdef int command_key_positions(command_spec_t *spec, const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil:
    cdef int32_t last
    cdef int32_t position
    cdef int count = 0
    if spec.get_keys != NULL:
        return spec.get_keys(argv, argc, out)
    if spec.first_key == 0:
        return 0
    last = spec.last_key if spec.last_key >= 0 else <int32_t>argc + spec.last_key
    if last >= <int32_t>argc:
        last = <int32_t>argc - 1
    position = spec.first_key
    while position <= last:
        out[count] = <uint32_t>position
        count += 1
        position += spec.key_step if spec.key_step > 0 else 1
    return count


cdef bint slice_equals(slice_t self, const char *lower_text) noexcept nogil:
    cdef size_t i
    cdef uint8_t c
    for i in range(self.size):
        c = <uint8_t>self.data[i]
        if c >= c'A' and c <= c'Z':
            c |= LOWER_CASE
        if lower_text[i] == 0 or c != <uint8_t>lower_text[i]:
            return False
    return lower_text[self.size] == 0


cdef bint call_int_argument(call_t *call, uint32_t position, int64_t *out) noexcept nogil:
    if parse_int64(call.argv[position].data, call.argv[position].size, out):
        return True
    reply_not_integer(call.reply)
    return False


cdef void reply_wrong_type(reply_t *reply) noexcept nogil:
    reply_error(reply, "WRONGTYPE Operation against a key holding the wrong kind of value")


cdef void reply_syntax_error(reply_t *reply) noexcept nogil:
    reply_error(reply, "ERR syntax error")


cdef void reply_not_integer(reply_t *reply) noexcept nogil:
    reply_error(reply, "ERR value is not an integer or out of range")


cdef void reply_wrong_arity(reply_t *reply, const command_spec_t *spec) noexcept nogil:
    cdef char text[96]
    snprintf(text, sizeof(text), "ERR wrong number of arguments for '%s' command", spec.name)
    reply_error(reply, text)


cdef void reply_unknown_subcommand(reply_t *reply, slice_t subcommand, const char *parent_upper) noexcept nogil:
    """Redis 7's text; at most 128 bytes of what the client sent."""
    cdef char text[320]
    cdef int size = <int>(subcommand.size if subcommand.size < 128 else 128)
    snprintf(text, sizeof(text), "ERR unknown subcommand '%.*s'. Try %s HELP.", size, subcommand.data, parent_upper)
    sanitize_error(text)
    reply_error(reply, text)


cdef void reply_subcommand_syntax(reply_t *reply, slice_t subcommand,
                                  const char *parent_upper) noexcept nogil:
    cdef char text[320]
    cdef int size = <int>(subcommand.size if subcommand.size < 128 else 128)
    snprintf(text, sizeof(text),
             "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.",
             size, subcommand.data, parent_upper)
    reply_error(reply, text)


cdef void sanitize_error(char *text) noexcept nogil:
    """An error is one line: line ends inside it become spaces, as in Redis."""
    cdef size_t i = 0
    while text[i] != 0:
        if text[i] == c'\r' or text[i] == c'\n':
            text[i] = c' '
        i += 1
