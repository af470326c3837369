"""Test doors below the server: commands on real shards without threads or sockets, and the kernels of
the bit and number commands and of DIGEST.

Shards executes one command at a time in the caller's thread, as the dispatcher would: single-key
commands under their shard's token, others as transactions, whose hops all run at once because
every token is free. It records what the door notifies, in order.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.commands.bit_words cimport (bit_operation_t, bits_combine, bits_count, bits_find,
                                            bits_read_field, bits_write_field)
from dfly._core.commands.numbers cimport LONG_DOUBLE_TEXT_MAX, format_long_double, parse_long_double
from dfly._core.engine.command cimport KIND_KEY, KIND_TRANSACTION, SLICING_NEVER, call_t, find_command
from dfly._core.engine.settings cimport settings_init_encoding_limits, settings_t
from dfly._core.engine.shard cimport (database_t, shard_acquire, shard_database, shard_free, shard_new,
                                      shard_of, shard_release, shard_t)
from dfly._core.engine.transaction cimport transaction_free, transaction_new, transaction_run, transaction_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport reply_deinit, reply_init, reply_raw, reply_reset, reply_t
from dfly._core.store.object cimport key_init
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.clock cimport wall_ms
from dfly._core.sys.xxh3 cimport xxh3

from dfly._core.commands import registration

__abi__ = DFLY_ABI_STAMP

registration.register_all()


cdef void record_event(shard_t *shard, database_t *database, const char *key, size_t key_size,
                       int event_class, const char *event, void *context) noexcept nogil:
    cdef char head[64]
    cdef int size = snprintf(head, sizeof(head), "%d %s %zu ", event_class, event, key_size)
    reply_raw(<reply_t *>context, head, size)
    reply_raw(<reply_t *>context, key, key_size)


cdef class Shards:
    """A keyspace of `count` shards."""

    cdef settings_t settings
    cdef shard_t *shards[16]
    cdef uint32_t count
    cdef proactor_t *proactor
    cdef connection_t *connection
    cdef reply_t events
    cdef reply_t reply

    def __cinit__(self, uint32_t count=1, int64_t proto_max_bulk_len=512 * 1024 * 1024):
        cdef uint32_t i
        if not 1 <= count <= 16:
            raise ValueError("1 to 16 shards")
        self.count = count
        self.settings.databases = 16
        self.settings.proto_max_bulk_len = proto_max_bulk_len
        self.settings.notify_keyspace_events = -1   # every class: the hook is called
        self.settings.slice_elements = INT64_MAX     # nobody else is there to have a turn
        settings_init_encoding_limits(&self.settings)
        reply_init(&self.events, 2)
        reply_init(&self.reply, 2)
        self.proactor = <proactor_t *>net_zalloc(sizeof(proactor_t))
        self.connection = <connection_t *>net_zalloc(sizeof(connection_t))
        self.connection.resp = 2
        for i in range(count):
            self.shards[i] = shard_new(i, count, &self.settings)
            self.shards[i].siblings = self.shards
            self.shards[i].on_mutation = record_event
            self.shards[i].mutation_context = &self.events

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.count):
            shard_free(self.shards[i])
        reply_deinit(&self.events)
        reply_deinit(&self.reply)
        net_free(self.connection)
        net_free(self.proactor)

    @property
    def resp(self):
        return self.connection.resp

    @resp.setter
    def resp(self, int version):
        self.connection.resp = version
        self.reply.resp = version

    def used_bytes(self):
        """Bytes booked to the shards."""
        return sum([self.shards[i].used_bytes for i in range(self.count)])

    def execute(self, list line):
        """Runs one command (bytes) and returns its reply as RESP, and [(class, event, key), ...]."""
        cdef call_t call
        cdef slice_t *argv = <slice_t *>net_alloc(len(line) * sizeof(slice_t))
        cdef Py_ssize_t i
        for i in range(len(line)):
            argv[i].data = <const char *>line[i]
            argv[i].size = len(line[i])
        try:
            call.spec = find_command(argv[0].data, argv[0].size)
            if call.spec == NULL:
                raise LookupError(f"unknown command {line[0]!r}")
            if len(line) < abs(call.spec.arity) or (call.spec.arity > 0 and len(line) != call.spec.arity):
                raise ValueError(f"wrong number of arguments for {line[0]!r}")
            call.argv = argv
            call.argc = <uint32_t>len(line)
            call.connection = self.connection
            self.proactor.now_ms = wall_ms()
            reply_reset(&self.events)
            reply_reset(&self.reply)
            has_one_key = call.spec.handler != NULL and call.argc == <uint32_t>call.spec.first_key + 1
            if call.spec.kind == KIND_KEY or (call.spec.kind == KIND_TRANSACTION and has_one_key):
                self._run_on_shard(&call)
            elif call.spec.kind == KIND_TRANSACTION:
                self._run_transaction(&call)
            else:
                raise ValueError("neither a key command nor a transaction")
        finally:
            net_free(argv)
        return self.reply.data[:self.reply.size], self._take_events()

    cdef void _run_on_shard(self, call_t *call) noexcept:
        cdef shard_t *shard
        key_init(&call.key, call.argv[call.spec.first_key].data, call.argv[call.spec.first_key].size)
        shard = self.shards[shard_of(call.key.hash, self.count)]
        shard_acquire(shard)
        call.scope.shard = shard
        call.scope.database = shard_database(shard, 0)
        call.scope.now_ms = self.proactor.now_ms
        call.scope.client_id = 0
        call.scope.keep_access = False
        call.reply = &self.reply
        call.slicing = SLICING_NEVER
        call.spec.handler(call)
        shard_release(shard)

    cdef void _run_transaction(self, call_t *call):
        cdef transaction_t *transaction = transaction_new(call, NULL, self.proactor, self.shards, self.count,
                                                          &self.proactor, 1)
        finished = transaction_run(transaction)
        reply_raw(&self.reply, transaction.reply.data, transaction.reply.size)
        transaction_free(transaction)
        if not finished:
            raise RuntimeError("the transaction waits for another thread")

    cdef list _take_events(self):
        result = []
        left = self.events.data[:self.events.size] if self.events.size else b""
        while left:
            event_class, event, size, left = left.split(b" ", 3)
            result.append((int(event_class), event.decode(), left[:int(size)]))
            left = left[int(size):]
        return result


def count_bits(bytes data, uint64_t first, uint64_t last):
    return bits_count(data, first, last)


def find_bit(bytes data, uint64_t first, uint64_t last, bint bit):
    return bits_find(data, first, last, bit)


def combine_bits(int operation, list sources):
    """The result has the size of the longest source."""
    cdef slice_t slices[32]
    cdef size_t size = max([len(source) for source in sources])
    cdef char *out = <char *>net_alloc(size + 1)
    cdef Py_ssize_t i
    for i in range(len(sources)):
        slices[i].data = <const char *>sources[i]
        slices[i].size = len(sources[i])
    bits_combine(<bit_operation_t>operation, slices, len(sources), out, size)
    result = out[:size]
    net_free(out)
    return result


def read_field(bytes data, uint64_t offset, uint32_t width):
    return bits_read_field(data, len(data), offset, width)


def write_field(bytes data, uint64_t offset, uint32_t width, uint64_t value):
    copy = bytearray(data)
    bits_write_field(copy, len(copy), offset, width, value)
    return bytes(copy)


def xxh3_of(bytes data):
    return xxh3(<const char *>data, len(data))


def long_double_text(bytes text):
    """The text of the number that `text` is, None if it is none."""
    cdef char out[LONG_DOUBLE_TEXT_MAX]
    cdef long double value
    if not parse_long_double(text, len(text), &value):
        return None
    return out[:format_long_double(value, out)]
