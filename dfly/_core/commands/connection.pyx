"""Connection commands: PING ECHO SELECT AUTH HELLO QUIT RESET and, as subcommands of one name, CLIENT.

All run on the connection's own thread. Replies and errors are those of Redis 7
(redis.io/docs/latest/commands, group "connection"). HELLO reports server "redis" and the Redis
version whose behaviour clients may rely on, since libraries switch on both.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf

from dfly._core.commands.client cimport client_row, set_client_name
from dfly._core.engine.command cimport (ACL_CONNECTION, COMMAND_ALLOW_BUSY,
                                        COMMAND_FAST, COMMAND_IMMEDIATE, COMMAND_LOADING, COMMAND_NOSCRIPT,
                                        COMMAND_NO_AUTH, COMMAND_STALE, COMMAND_WHILE_SUBSCRIBED, call_t,
                                        command_spec_t, connection_row, register_commands,
                                        reply_syntax_error, sanitize_error, slice_equals)
from dfly._core.engine.multi cimport multi_discard
from dfly._core.engine.pubsub cimport pubsub_leave
from dfly._core.engine.server_state cimport executor_of, server_t
from dfly._core.engine.settings cimport password_t
from dfly._core.engine.tracking cimport tracking_stop
from dfly._core.engine.watch cimport unwatch_all
from dfly._core.net.connection cimport (CONNECTION_AUTHENTICATED, CONNECTION_MONITOR, CONNECTION_NO_EVICT,
                                        CONNECTION_NO_TOUCH, CONNECTION_PUBSUB, CONNECTION_REPLY_OFF,
                                        CONNECTION_REPLY_SKIP, CONNECTION_REPLY_SKIP_NEXT, connection_close,
                                        connection_close_after_reply, connection_t)
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_text, reply_error, reply_int,
                                    reply_map, reply_ok, reply_simple)
from dfly._core.store.object cimport parse_int64
from dfly._core.sys.alloc cimport net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_sub, slice_t

from dfly import version

__abi__ = DFLY_ABI_STAMP

cdef bytes redis_version_bytes = version.REDIS_VERSION.encode()
cdef const char *redis_version = redis_version_bytes


cdef void ping_command(call_t *call) noexcept nogil:
    cdef connection_t *connection = call.connection
    if call.argc > 2:
        reply_error(call.reply, "ERR wrong number of arguments for 'ping' command")
    elif connection.flags & CONNECTION_PUBSUB and connection.resp == 2:
        reply_array(call.reply, 2)
        reply_bulk_text(call.reply, "pong")
        if call.argc == 2:
            reply_bulk(call.reply, call.argv[1].data, call.argv[1].size)
        else:
            reply_bulk_text(call.reply, "")
    elif call.argc == 2:
        reply_bulk(call.reply, call.argv[1].data, call.argv[1].size)
    else:
        reply_simple(call.reply, "PONG")


cdef void echo_command(call_t *call) noexcept nogil:
    reply_bulk(call.reply, call.argv[1].data, call.argv[1].size)


cdef void select_command(call_t *call) noexcept nogil:
    cdef int64_t index = 0
    if not parse_int64(call.argv[1].data, call.argv[1].size, &index) or index > 2147483647 or index < -2147483648:
        reply_error(call.reply, "ERR value is not an integer or out of range")
    elif index < 0 or index >= <int64_t>executor_of(call.connection).server.settings.databases:
        reply_error(call.reply, "ERR DB index is out of range")
    else:
        call.connection.database_index = <uint32_t>index
        reply_ok(call.reply)


cdef bint password_matches(const server_t *server, slice_t given) noexcept nogil:
    """Compares every byte whatever differs, so that time tells nothing."""
    cdef const password_t *password = server.settings.password
    cdef unsigned char different = 0
    cdef size_t i
    if password == NULL:
        return False
    if given.size != password.size:
        different = 1
    for i in range(given.size):
        different |= <unsigned char>(given.data[i] ^ password.text[i % (password.size if password.size > 0 else 1)])
    return different == 0


cdef bint authenticate(call_t *call, slice_t user, slice_t password) noexcept nogil:
    """User "default" only; without a password set, any password of it is right, as in Redis."""
    cdef const server_t *server = executor_of(call.connection).server
    if user.size == 7 and slice_equals(user, "default") and user.data[0] == c'd':
        if not server.settings.has_password or password_matches(server, password):
            call.connection.flags |= CONNECTION_AUTHENTICATED
            return True
    reply_error(call.reply, "WRONGPASS invalid username-password pair or user is disabled.")
    return False


cdef void auth_command(call_t *call) noexcept nogil:
    cdef slice_t user
    if call.argc > 3:
        reply_syntax_error(call.reply)
        return
    if call.argc == 2:
        if not executor_of(call.connection).server.settings.has_password:
            reply_error(call.reply, "ERR AUTH <password> called without any password configured for the default "
                                    "user. Are you sure your configuration is correct?")
            return
        user.data = "default"
        user.size = 7
        if authenticate(call, user, call.argv[1]):
            reply_ok(call.reply)
    elif authenticate(call, call.argv[1], call.argv[2]):
        reply_ok(call.reply)


cdef void reply_hello(call_t *call) noexcept nogil:
    reply_map(call.reply, 7)
    reply_bulk_text(call.reply, "server")
    reply_bulk_text(call.reply, "redis")
    reply_bulk_text(call.reply, "version")
    reply_bulk_text(call.reply, redis_version)
    reply_bulk_text(call.reply, "proto")
    reply_int(call.reply, call.connection.resp)
    reply_bulk_text(call.reply, "id")
    reply_int(call.reply, <int64_t>call.connection.id)
    reply_bulk_text(call.reply, "mode")
    reply_bulk_text(call.reply, "standalone")
    reply_bulk_text(call.reply, "role")
    reply_bulk_text(call.reply, "master")
    reply_bulk_text(call.reply, "modules")
    reply_array(call.reply, 0)


cdef void hello_command(call_t *call) noexcept nogil:
    cdef int64_t protocol = 0
    cdef uint32_t i = 2
    cdef uint32_t left
    cdef slice_t name
    cdef char text[256]
    name.data = NULL
    name.size = 0
    if call.argc >= 2:
        if not parse_int64(call.argv[1].data, call.argv[1].size, &protocol):
            reply_error(call.reply, "ERR Protocol version is not an integer or out of range")
            return
        if protocol < 2 or protocol > 3:
            reply_error(call.reply, "NOPROTO unsupported protocol version")
            return
    while i < call.argc:
        left = call.argc - i - 1
        if slice_equals(call.argv[i], "auth") and left >= 2:
            if not authenticate(call, call.argv[i + 1], call.argv[i + 2]):
                return
            i += 3
        elif slice_equals(call.argv[i], "setname") and left >= 1:
            name = call.argv[i + 1]
            i += 2
        else:
            snprintf(text, sizeof(text), "ERR Syntax error in HELLO option '%.*s'",
                     <int>(call.argv[i].size if call.argv[i].size < 128 else 128), call.argv[i].data)
            sanitize_error(text)
            reply_error(call.reply, text)
            return
    if not call.connection.flags & CONNECTION_AUTHENTICATED:
        reply_error(call.reply, "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
                                "HELLO AUTH <user> <pass> option can be used to authenticate the client and "
                                "select the RESP protocol version at the same time")
        return
    if name.data != NULL and not set_client_name(call, name):
        return
    if call.argc >= 2:
        call.connection.resp = <int>protocol
        call.reply.resp = <int>protocol
    reply_hello(call)


cdef void quit_command(call_t *call) noexcept nogil:
    reply_ok(call.reply)
    connection_close_after_reply(call.connection)


cdef void http_command(call_t *call) noexcept nogil:
    connection_close(call.connection)


cdef void reset_command(call_t *call) noexcept nogil:
    cdef connection_t *connection = call.connection
    cdef server_t *server = executor_of(connection).server
    if connection.flags & CONNECTION_MONITOR:
        connection.flags &= ~<uint32_t>CONNECTION_MONITOR
        atomic_sub(&server.monitor_count, 1)
    connection.flags &= ~<uint32_t>(CONNECTION_NO_EVICT | CONNECTION_NO_TOUCH | CONNECTION_REPLY_OFF
                                    | CONNECTION_REPLY_SKIP | CONNECTION_REPLY_SKIP_NEXT)
    if server.settings.has_password:
        connection.flags &= ~<uint32_t>CONNECTION_AUTHENTICATED
    multi_discard(connection)
    pubsub_leave(connection)
    unwatch_all(connection, server.shards)
    tracking_stop(connection)
    connection.database_index = 0
    connection.resp = 2
    call.reply.resp = 2
    net_free(connection.name)
    connection.name = NULL
    reply_simple(call.reply, "RESET")


cdef enum:
    COMMON = COMMAND_NOSCRIPT | COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST | COMMAND_NO_AUTH | COMMAND_ALLOW_BUSY
    ROW_COUNT = 10

cdef command_spec_t[ROW_COUNT] ROWS


def register():
    """Registers the family's rows."""
    ROWS[0] = connection_row("ping", -1, COMMAND_FAST | COMMAND_WHILE_SUBSCRIBED, ACL_CONNECTION, ping_command)
    ROWS[1] = connection_row("echo", 2, COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST, ACL_CONNECTION, echo_command)
    ROWS[2] = connection_row("select", 2, COMMAND_LOADING | COMMAND_STALE | COMMAND_FAST, ACL_CONNECTION,
                             select_command)
    ROWS[3] = connection_row("auth", -2, COMMON, ACL_CONNECTION, auth_command)
    ROWS[4] = connection_row("hello", -1, COMMON, ACL_CONNECTION, hello_command)
    ROWS[5] = connection_row("quit", -1, COMMON | COMMAND_IMMEDIATE | COMMAND_WHILE_SUBSCRIBED, ACL_CONNECTION,
                             quit_command)
    ROWS[6] = connection_row("reset", 1, COMMON | COMMAND_IMMEDIATE | COMMAND_WHILE_SUBSCRIBED, ACL_CONNECTION,
                             reset_command)
    ROWS[7] = client_row()
    # Lines of an HTTP request: a browser made to talk to a store. Redis closes without an answer.
    ROWS[8] = connection_row("post", -1, COMMON, 0, http_command)
    ROWS[9] = connection_row("host:", -1, COMMON, 0, http_command)
    register_commands(ROWS, ROW_COUNT)
