"""Commands as data: the registration table, and one execution of a command.

A family module in commands/ holds a C array of command_spec_t rows and registers it. Everything
else (dispatch, COMMAND, ACL categories, routing, docs) is derived from these rows.

The shapes of a call and of a transaction stand here together, since a row names functions over both;
what transactions do is engine/transaction.pxd.

Kinds say where a handler runs:
- KIND_KEY: on the one shard that owns argv[first_key], under that shard's token, by whichever
  thread holds it. It replies into call.reply and may touch call.scope only (never connection).
- KIND_CONNECTION: on the connection's own thread, no shard. May touch call.connection.
- KIND_TRANSACTION: several keys or several shards (or all threads): spec.step is called as a continuation, see
  engine/transaction.pxd. Used for every command that needs more than one key or shard.
  A row of this kind may also have a handler: it serves the call with exactly one key, as KIND_KEY.
  A handler of either kind may leave a long call to the step of its row (slicing_t).
- KIND_CONTROL: executed by Python on the main thread (CONFIG, INFO, COMMAND DOCS ...).
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.engine.shard cimport caller_t, grant_t, scope_t, shard_t, token_set_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport reply_chain_t, reply_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.sys.base cimport slice_t

cdef enum command_flag_t:
    COMMAND_WRITE = 1
    COMMAND_READONLY = 2
    COMMAND_DENYOOM = 4
    COMMAND_ADMIN = 8
    COMMAND_PUBSUB = 16
    COMMAND_NOSCRIPT = 32
    COMMAND_BLOCKING = 64
    COMMAND_LOADING = 128            # allowed while loading
    COMMAND_STALE = 256
    COMMAND_SKIP_MONITOR = 512
    COMMAND_SKIP_SLOWLOG = 1024
    COMMAND_FAST = 2048
    COMMAND_NO_AUTH = 4096           # allowed before AUTH
    COMMAND_ALLOW_BUSY = 8192
    COMMAND_NO_MULTI = 16384
    COMMAND_NO_ASYNC_LOADING = 32768
    COMMAND_MOVABLE_KEYS = 65536     # positions come from get_keys
    COMMAND_MAY_REPLICATE = 131072
    COMMAND_NO_MANDATORY_KEYS = 262144
    COMMAND_ONLY_RESP3_MAP = 524288
    # Not shown by COMMAND:
    COMMAND_GLOBAL = 1048576         # atomic over all shards (FLUSHALL, SWAPDB)
    COMMAND_WHILE_SUBSCRIBED = 4194304   # allowed to a RESP2 client with subscriptions
    COMMAND_IMMEDIATE = 2097152      # executed inside MULTI too, not queued (EXEC, DISCARD, WATCH)

# ACL categories, Redis' names. Those that follow from flags (@read, @write, @fast, @slow, @admin,
# @dangerous, @pubsub, @blocking) are derived; rows name the group and what is special.
cdef enum acl_category_t:
    ACL_KEYSPACE = 1
    ACL_READ = 2
    ACL_WRITE = 4
    ACL_SET = 8
    ACL_SORTEDSET = 16
    ACL_LIST = 32
    ACL_HASH = 64
    ACL_STRING = 128
    ACL_BITMAP = 256
    ACL_HYPERLOGLOG = 512
    ACL_GEO = 1024
    ACL_STREAM = 2048
    ACL_PUBSUB = 4096
    ACL_ADMIN = 8192
    ACL_FAST = 16384
    ACL_SLOW = 32768
    ACL_BLOCKING = 65536
    ACL_DANGEROUS = 131072
    ACL_CONNECTION = 262144
    ACL_TRANSACTION = 524288
    ACL_SCRIPTING = 1048576

# What a command does with its keys, Redis' key-spec flags.
cdef enum key_flag_t:
    KEY_RO = 1
    KEY_RW = 2
    KEY_OW = 4
    KEY_RM = 8
    KEY_ACCESS = 16
    KEY_UPDATE = 32
    KEY_INSERT = 64
    KEY_DELETE = 128
    KEY_VARIABLE_FLAGS = 256
    KEY_INCOMPLETE = 512

cdef enum command_kind_t:
    KIND_KEY = 1
    KIND_CONNECTION = 2
    KIND_TRANSACTION = 3
    KIND_CONTROL = 4
    KIND_CONTAINER = 5               # has subcommands only; the subcommand's row decides

ctypedef void (*command_handler_t)(call_t *call) noexcept nogil
ctypedef void (*transaction_prepare_t)(transaction_t *transaction) noexcept nogil
ctypedef int (*transaction_step_t)(transaction_t *transaction) noexcept nogil
# Writes the positions of keys in argv to out (capacity argc) and returns their number, -1: syntax error.
ctypedef int (*get_keys_t)(const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil

cdef struct command_spec_t:
    const char *name                 # lower case; of a subcommand: "client|list"
    int32_t arity                    # counts the name (and the subcommand); negative: at least
    uint64_t flags
    uint64_t acl
    int32_t first_key                # 0: none
    int32_t last_key                 # negative: from the end
    int32_t key_step
    uint64_t key_flags
    int32_t kind
    command_handler_t handler
    transaction_step_t step
    transaction_prepare_t prepare    # asks for more shards than those of its keys; NULL: none
    get_keys_t get_keys
    command_spec_t *subcommands      # KIND_CONTAINER, or a command that also has subcommands
    uint32_t subcommand_count
    # Filled in at registration:
    uint32_t index                   # dense number, for statistics
    uint32_t name_size
    command_spec_t *parent

cdef enum refusal_t:
    REFUSAL_NONE = 0
    REFUSAL_UNKNOWN = 1
    REFUSAL_ARITY = 2
    REFUSAL_SUBCOMMAND = 3
    REFUSAL_NO_AUTH = 4
    REFUSAL_LOADING = 5

cdef enum slicing_t:
    # May a handler whose row has a step, too, leave the call to a transaction of that step, which goes in slices?
    SLICING_NEVER = 0
    SLICING_ALLOWED = 1
    SLICING_WANTED = 2               # it does: it has replied nothing, and changed nothing
    SLICING_TRANSACTION = 3          # the transaction asks the handler what there is to do: commands/long_reads

cdef struct call_t:
    # One execution of one command. Lives in the thread's batch or in a shard message.
    command_spec_t *spec
    slice_t *argv                    # argv[0] is the name as sent
    uint32_t argc
    uint32_t shard_index
    key_t key                        # KIND_KEY: argv[spec.first_key]
    scope_t scope                    # shard, database, time; set just before the handler runs
    reply_t *reply
    connection_t *connection         # KIND_CONNECTION only; NULL elsewhere
    int32_t kind                     # spec.kind, or KIND_KEY when a command of many keys got just one
    bint is_repeated                 # KIND_KEY: the call before it in the batch has the same key
    int32_t refusal                  # refusal_t: found before execution (arity, unknown command, ...)
    uint32_t slicing                 # slicing_t
    uint32_t next_in_shard           # dispatch: the batch's next call for the same shard
    size_t input_end                 # where its bytes end in the window that was parsed
    size_t reply_offset              # where its reply lies in a shared buffer, for gathering
    size_t reply_size
    uint64_t ticks                   # cycles it took
    const object_t *collection       # while a run is prefetched: what the key probably holds, or NULL
    uint64_t member_hash
    void *probe                      # the same: what a pass has found for the next one

cdef enum transaction_result_t:
    TRANSACTION_DONE = 0
    TRANSACTION_HOP = 1
    TRANSACTION_YIELD = 2        # call the step again in the next tick: others get their turn
    TRANSACTION_WAIT = 3         # call the step again when transaction_resume is called

cdef enum hop_target_t:
    HOP_KEYS = 0                 # the shards of the transaction's keys
    HOP_ALL = 1
    HOP_ONE = 2                  # hop_shard
    HOP_THREADS = 3

ctypedef void (*hop_t)(transaction_t *transaction, shard_t *shard) noexcept nogil
ctypedef void (*thread_hop_t)(transaction_t *transaction, proactor_t *proactor) noexcept nogil
ctypedef void (*transaction_done_t)(transaction_t *transaction) noexcept nogil

cdef struct key_result_t:
    # One per key, written by the hop of that key's shard.
    int64_t number
    object_t value               # a copy owned by the transaction (freed with it), if has_value
    bint has_value
    bint flag

cdef struct hop_message_t:
    message_t message
    transaction_t *transaction
    uint32_t target              # shard or thread index

cdef struct transaction_t:
    message_t done_message       # to the origin's mailbox
    uint64_t pending             # hops still out, plus one while the origin hands them out
    proactor_t *origin
    connection_t *connection
    command_spec_t *spec
    slice_t *argv                # the batch's, or copies (owns_arguments) once it waits
    uint32_t argc
    bint owns_arguments
    key_t *keys                  # by command_key_positions; with the next four in the transaction's own block
    uint32_t *key_shards
    uint32_t *key_positions      # in argv
    uint32_t key_count
    key_result_t *results        # one per key
    uint32_t *lock_shards        # the shards it is atomic over, ascending
    uint32_t lock_count
    uint32_t locked              # how many of them it holds, from the first
    token_set_t *held            # what the thread's batch holds: from the one before, for the one after
    bint uses_held               # its tokens are the batch's
    bint is_inside               # a command of an EXEC, which holds its tokens for it
    bint is_released             # gave its tokens back before its end
    grant_t grant                # the token it waits for
    uint64_t grant_asked_ticks
    caller_t caller
    int64_t now_ms
    int stage
    transaction_step_t step
    hop_t hop
    thread_hop_t thread_hop
    hop_target_t target
    uint32_t hop_shard
    hop_message_t *messages      # one per shard or thread
    uint32_t message_count
    shard_t **shards
    uint32_t shard_count
    proactor_t **proactors
    uint32_t proactor_count
    reply_chain_t chain          # what comes before `reply`, if slices wrote much
    reply_t reply
    reply_t *shard_replies       # one builder per shard, created by transaction_shard_reply
    void *state                  # the command's own, net_alloc: freed with the transaction
    int64_t numbers[8]           # small state of a command
    uint64_t started_ticks
    transaction_done_t on_done   # set by the dispatcher
    transaction_t *outer         # the EXEC it is part of

cdef enum:
    COMMAND_MAX = 1024

cdef struct registry_t:
    command_spec_t *specs[1024]      # by index; subcommands too
    uint32_t count

# Rows must live for ever (module-level arrays). Called at import of the family modules.
cdef void register_commands(command_spec_t *rows, uint32_t count) noexcept nogil
cdef registry_t *command_registry() noexcept nogil
# Case-insensitive; NULL if unknown.
cdef command_spec_t *find_command(const char *name, size_t size) noexcept nogil
cdef command_spec_t *find_subcommand(command_spec_t *parent, const char *name, size_t size) noexcept nogil
# Key positions of a call by table or get_keys; returns their number, -1 on a syntax error.
cdef int command_key_positions(command_spec_t *spec, const slice_t *argv, uint32_t argc, uint32_t *out) noexcept nogil

# Arguments
cdef bint slice_equals(slice_t self, const char *lower_text) noexcept nogil      # case-insensitive, text in lower case
# Parses an int64 argument; on failure replies "ERR value is not an integer or out of range" and returns False.
cdef bint call_int_argument(call_t *call, uint32_t position, int64_t *out) noexcept nogil
cdef void reply_wrong_type(reply_t *reply) noexcept nogil
cdef void reply_syntax_error(reply_t *reply) noexcept nogil
cdef void reply_not_integer(reply_t *reply) noexcept nogil
# For what the row's arity does not say.
cdef void reply_wrong_arity(reply_t *reply, const command_spec_t *spec) noexcept nogil
cdef void reply_unknown_subcommand(reply_t *reply, slice_t subcommand, const char *parent_upper) noexcept nogil
# "unknown subcommand or wrong number of arguments": commands that look at their subcommands themselves.
cdef void reply_subcommand_syntax(reply_t *reply, slice_t subcommand, const char *parent_upper) noexcept nogil
cdef void sanitize_error(char *text) noexcept nogil                              # CR and LF become spaces


# Rows. A family fills a module-level array with these and registers it.
cdef inline command_spec_t base_row(const char *name, int32_t arity, uint64_t flags, uint64_t acl,
                                    int32_t kind) noexcept nogil:
    cdef command_spec_t row
    memset(&row, 0, sizeof(row))
    row.name = name
    row.arity = arity
    row.flags = flags
    row.acl = acl
    row.kind = kind
    return row


cdef inline command_spec_t key_row(const char *name, int32_t arity, uint64_t flags, uint64_t acl,
                                   uint64_t key_flags, command_handler_t handler) noexcept nogil:
    """A command with one key, its first argument."""
    cdef command_spec_t row = base_row(name, arity, flags, acl, KIND_KEY)
    row.first_key = 1
    row.last_key = 1
    row.key_step = 1
    row.key_flags = key_flags
    row.handler = handler
    return row


cdef inline command_spec_t connection_row(const char *name, int32_t arity, uint64_t flags, uint64_t acl,
                                          command_handler_t handler) noexcept nogil:
    cdef command_spec_t row = base_row(name, arity, flags, acl, KIND_CONNECTION)
    row.handler = handler
    return row


cdef inline command_spec_t transaction_row(const char *name, int32_t arity, uint64_t flags, uint64_t acl,
                                           int32_t first_key, int32_t last_key, int32_t key_step,
                                           uint64_t key_flags, transaction_step_t step) noexcept nogil:
    cdef command_spec_t row = base_row(name, arity, flags, acl, KIND_TRANSACTION)
    row.first_key = first_key
    row.last_key = last_key
    row.key_step = key_step
    row.key_flags = key_flags
    row.step = step
    return row


cdef inline command_spec_t control_row(const char *name, int32_t arity, uint64_t flags, uint64_t acl) noexcept nogil:
    return base_row(name, arity, flags, acl, KIND_CONTROL)


cdef inline command_spec_t container_row(const char *name, int32_t arity, uint64_t flags, uint64_t acl,
                                         command_spec_t *subcommands, uint32_t count) noexcept nogil:
    cdef command_spec_t row = base_row(name, arity, flags, acl, KIND_CONTAINER)
    row.subcommands = subcommands
    row.subcommand_count = count
    return row
