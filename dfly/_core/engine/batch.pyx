"""Parsing of batches: see batch.pxd."""

from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from dfly._core.engine.command cimport (COMMAND_LOADING, COMMAND_NO_AUTH, KIND_CONTAINER, KIND_KEY, KIND_TRANSACTION,
                                        REFUSAL_ARITY, REFUSAL_LOADING, REFUSAL_NONE, REFUSAL_NO_AUTH,
                                        REFUSAL_SUBCOMMAND, REFUSAL_UNKNOWN, call_t, command_spec_t, find_command,
                                        find_subcommand)
from dfly._core.engine.server_state cimport executor_t
from dfly._core.engine.shard cimport shard_of
from dfly._core.net.connection cimport CONNECTION_AUTHENTICATED, connection_t
from dfly._core.resp.parser cimport PARSE_EMPTY, PARSE_OK, parser_next, parser_reset, parser_t
from dfly._core.store.object cimport key_init
from dfly._core.sys.alloc cimport net_alloc, net_free, net_realloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load, likely, same_word, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    ARGUMENTS_MIN = 1024
    FEW_ARGUMENTS = 4            # no more than a parser always has room for


cdef inline bint arity_fits(const command_spec_t *spec, uint32_t argc) noexcept nogil:
    if spec.arity >= 0:
        return argc == <uint32_t>spec.arity
    return argc >= <uint32_t>(-spec.arity)


cdef inline void prepare_key(executor_t *self, call_t *call, uint32_t position) noexcept nogil:
    key_init(&call.key, call.argv[position].data, call.argv[position].size)
    call.shard_index = shard_of(call.key.hash, self.server.thread_count)


cdef inline bint prepare_as_before(executor_t *self, connection_t *connection, call_t *call,
                                   const call_t *previous) noexcept nogil:
    """Pipelines repeat themselves: the same command with as many arguments, often on the same key."""
    cdef uint32_t position
    if (call.argc != previous.argc or previous.refusal != REFUSAL_NONE or previous.kind != KIND_KEY
            or previous.spec.parent != NULL or previous.spec.subcommand_count != 0
            or not same_word(&call.argv[0], &previous.argv[0])):
        return False
    position = <uint32_t>previous.spec.first_key
    call.spec = previous.spec
    call.refusal = REFUSAL_NONE
    call.connection = connection
    call.kind = KIND_KEY
    if same_word(&call.argv[position], &previous.argv[position]):
        call.key = previous.key
        call.key.data = call.argv[position].data
        call.shard_index = previous.shard_index
        call.is_repeated = True
        return True
    prepare_key(self, call, position)
    return True


cdef inline void prepare_call(executor_t *self, connection_t *connection, call_t *call) noexcept nogil:
    """Looks the command up and decides where it goes; call.argv and call.argc are set."""
    cdef command_spec_t *spec = find_command(call.argv[0].data, call.argv[0].size)
    cdef command_spec_t *subcommand
    call.spec = spec
    call.refusal = REFUSAL_NONE
    call.connection = connection
    if unlikely(spec == NULL):
        call.refusal = REFUSAL_UNKNOWN
        return
    if unlikely(spec.subcommand_count != 0) and call.argc >= 2:
        subcommand = find_subcommand(spec, call.argv[1].data, call.argv[1].size)
        if subcommand != NULL:
            spec = subcommand
            call.spec = spec
        elif spec.kind == KIND_CONTAINER or spec.arity == -1:
            call.refusal = REFUSAL_SUBCOMMAND
            return
    if unlikely(not arity_fits(spec, call.argc)):
        call.refusal = REFUSAL_ARITY
        return
    if unlikely(not connection.flags & CONNECTION_AUTHENTICATED) and not spec.flags & COMMAND_NO_AUTH:
        call.refusal = REFUSAL_NO_AUTH
        return
    if unlikely(atomic_load(&self.server.loading) != 0) and not spec.flags & COMMAND_LOADING:
        call.refusal = REFUSAL_LOADING
        return
    call.kind = spec.kind
    if spec.kind == KIND_TRANSACTION and spec.handler != NULL and call.argc == <uint32_t>spec.first_key + 1:
        call.kind = KIND_KEY
    if likely(call.kind == KIND_KEY):
        prepare_key(self, call, <uint32_t>spec.first_key)


cdef uint32_t parse_batch(executor_t *self, connection_t *connection, const char *data, size_t size,
                          size_t *consumed, int *last_result) noexcept nogil:
    cdef parser_t *parser = &connection.parser
    cdef uint32_t count = 0
    cdef uint32_t arguments = 0
    cdef size_t offset = 0
    cdef size_t used = 0
    cdef call_t *call
    # A client that has not authenticated may change that with its next command, and with it the
    # parser's limits: one command at a time.
    cdef uint32_t limit = BATCH_MAX if connection.flags & CONNECTION_AUTHENTICATED else 1
    last_result[0] = PARSE_OK
    parser.authenticated = (connection.flags & CONNECTION_AUTHENTICATED) != 0
    parser.max_bulk_size = self.server.settings.proto_max_bulk_len
    while count < limit and offset < size:
        last_result[0] = parser_next(parser, data + offset, size - offset, &used)
        if last_result[0] == PARSE_EMPTY:
            offset += used
            continue
        if last_result[0] != PARSE_OK:
            break
        # Few are copied as four.
        if arguments + parser.argc + FEW_ARGUMENTS > self.arguments_capacity:
            if count > 0:
                # No room behind the calls that already point here: this one opens the next batch.
                parser_reset(parser)
                last_result[0] = PARSE_OK
                break
            self.arguments_capacity = parser.argc + FEW_ARGUMENTS
            self.arguments = <slice_t *>net_realloc(self.arguments, self.arguments_capacity * sizeof(slice_t))
        call = &self.calls[count]
        call.argv = self.arguments + arguments
        call.argc = parser.argc
        if likely(parser.argc <= FEW_ARGUMENTS):
            memcpy(call.argv, parser.argv, FEW_ARGUMENTS * sizeof(slice_t))
        else:
            memcpy(call.argv, parser.argv, parser.argc * sizeof(slice_t))
        arguments += parser.argc
        offset += used
        call.input_end = offset
        call.is_repeated = False
        if count == 0 or not prepare_as_before(self, connection, call, call - 1):
            prepare_call(self, connection, call)
        count += 1
        if unlikely(parser.argv_is_stored):
            # Unquoted inline arguments lie in the parser until its next call.
            break
    consumed[0] = offset
    return count


cdef void batch_init(executor_t *self) noexcept nogil:
    self.calls = <call_t *>net_zalloc(BATCH_MAX * sizeof(call_t))
    self.arguments_capacity = ARGUMENTS_MIN
    self.arguments = <slice_t *>net_alloc(ARGUMENTS_MIN * sizeof(slice_t))


cdef void batch_deinit(executor_t *self) noexcept nogil:
    net_free(self.calls)
    net_free(self.arguments)
