"""SUBSCRIBE and its kin, PUBLISH, PUBSUB: the commands over engine/pubsub."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.engine.command cimport (COMMAND_FAST, COMMAND_LOADING, COMMAND_NOSCRIPT, COMMAND_PUBSUB,
                                        COMMAND_STALE, COMMAND_WHILE_SUBSCRIBED, KEY_RO, call_t,
                                        command_spec_t, connection_row, container_row, register_commands,
                                        sanitize_error)
from dfly._core.engine.pubsub cimport (TOPIC_CHANNEL, TOPIC_PATTERN, TOPIC_SHARD_CHANNEL, pubsub_count,
                                       pubsub_publish, pubsub_subscribe, pubsub_subscribers, pubsub_topics,
                                       pubsub_unsubscribe, pubsub_visit, subscriptions_t, topic_t)
from dfly._core.engine.server_state cimport executor_of, server_t
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_bulk_text, reply_defer_array, reply_error,
                                    reply_int, reply_null, reply_push, reply_set_deferred, reply_simple,
                                    reply_t)
from dfly._core.store.glob cimport glob_match
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


cdef uint32_t shown_count(const connection_t *connection, int kind) noexcept nogil:
    if kind == TOPIC_SHARD_CHANNEL:
        return pubsub_count(connection, TOPIC_SHARD_CHANNEL)
    return pubsub_count(connection, TOPIC_CHANNEL) + pubsub_count(connection, TOPIC_PATTERN)


cdef void subscribe_all(call_t *call, int kind, const char *name) noexcept nogil:
    cdef uint32_t i
    for i in range(1, call.argc):
        pubsub_subscribe(call.connection, kind, call.argv[i])
        reply_push(call.reply, 3)
        reply_bulk_text(call.reply, name)
        reply_bulk(call.reply, call.argv[i].data, call.argv[i].size)
        reply_int(call.reply, shown_count(call.connection, kind))


cdef void reply_left(call_t *call, const char *name, const char *channel, size_t size) noexcept nogil:
    reply_push(call.reply, 3)
    reply_bulk_text(call.reply, name)
    if channel == NULL:
        reply_null(call.reply)
    else:
        reply_bulk(call.reply, channel, size)


cdef void unsubscribe_all(call_t *call, int kind, const char *name) noexcept nogil:
    """The named ones, or all."""
    cdef subscriptions_t *own
    cdef slice_t channel
    cdef uint32_t i
    for i in range(1, call.argc):
        pubsub_unsubscribe(call.connection, kind, call.argv[i])
        reply_left(call, name, call.argv[i].data, call.argv[i].size)
        reply_int(call.reply, shown_count(call.connection, kind))
    if call.argc > 1:
        return
    if pubsub_count(call.connection, kind) == 0:
        reply_left(call, name, NULL, 0)
        reply_int(call.reply, shown_count(call.connection, kind))
        return
    while pubsub_count(call.connection, kind) > 0:
        own = <subscriptions_t *>call.connection.subscriptions
        channel.data = own.first[kind].topic.name
        channel.size = own.first[kind].topic.size
        reply_left(call, name, channel.data, channel.size)
        pubsub_unsubscribe(call.connection, kind, channel)
        reply_int(call.reply, shown_count(call.connection, kind))


cdef void subscribe_command(call_t *call) noexcept nogil:
    subscribe_all(call, TOPIC_CHANNEL, "subscribe")


cdef void psubscribe_command(call_t *call) noexcept nogil:
    subscribe_all(call, TOPIC_PATTERN, "psubscribe")


cdef void ssubscribe_command(call_t *call) noexcept nogil:
    subscribe_all(call, TOPIC_SHARD_CHANNEL, "ssubscribe")


cdef void unsubscribe_command(call_t *call) noexcept nogil:
    unsubscribe_all(call, TOPIC_CHANNEL, "unsubscribe")


cdef void punsubscribe_command(call_t *call) noexcept nogil:
    unsubscribe_all(call, TOPIC_PATTERN, "punsubscribe")


cdef void sunsubscribe_command(call_t *call) noexcept nogil:
    unsubscribe_all(call, TOPIC_SHARD_CHANNEL, "sunsubscribe")


cdef void publish_command(call_t *call) noexcept nogil:
    reply_int(call.reply, <long long>pubsub_publish(
        executor_of(call.connection).server, executor_of(call.connection), TOPIC_CHANNEL, call.argv[1],
        call.argv[2]))


cdef void spublish_command(call_t *call) noexcept nogil:
    reply_int(call.reply, <long long>pubsub_publish(
        executor_of(call.connection).server, executor_of(call.connection), TOPIC_SHARD_CHANNEL, call.argv[1],
        call.argv[2]))


# ---- PUBSUB ------------------------------------------------------------------------------------------

cdef struct listing_t:
    # Lives on the stack of one handler: pubsub_visit calls back before it returns, on the same thread.
    reply_t *reply
    const slice_t *pattern       # NULL: all
    size_t count


cdef void list_topic(topic_t *topic, void *context) noexcept nogil:
    cdef listing_t *listing = <listing_t *>context
    if listing.pattern == NULL or glob_match(listing.pattern.data, listing.pattern.size, topic.name,
                                             topic.size, False):
        reply_bulk(listing.reply, topic.name, topic.size)
        listing.count += 1


cdef void list_channels(call_t *call, int kind) noexcept nogil:
    cdef listing_t listing
    cdef size_t mark
    cdef char text[256]
    if call.argc > 3:
        snprintf(text, sizeof(text),
                 "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try PUBSUB HELP.",
                 <int>(call.argv[1].size if call.argv[1].size < 128 else 128), call.argv[1].data)
        sanitize_error(text)
        reply_error(call.reply, text)
        return
    mark = reply_defer_array(call.reply)
    listing.reply = call.reply
    listing.pattern = &call.argv[2] if call.argc > 2 else NULL
    listing.count = 0
    pubsub_visit(executor_of(call.connection).server, kind, list_topic, &listing)
    reply_set_deferred(call.reply, mark, c'*', listing.count)


cdef void count_subscribers(call_t *call, int kind) noexcept nogil:
    cdef server_t *server = executor_of(call.connection).server
    cdef uint32_t i
    reply_array(call.reply, 2 * (call.argc - 2))
    for i in range(2, call.argc):
        reply_bulk(call.reply, call.argv[i].data, call.argv[i].size)
        reply_int(call.reply, <long long>pubsub_subscribers(server, kind, call.argv[i]))


cdef void channels_command(call_t *call) noexcept nogil:
    list_channels(call, TOPIC_CHANNEL)


cdef void shardchannels_command(call_t *call) noexcept nogil:
    list_channels(call, TOPIC_SHARD_CHANNEL)


cdef void numsub_command(call_t *call) noexcept nogil:
    count_subscribers(call, TOPIC_CHANNEL)


cdef void shardnumsub_command(call_t *call) noexcept nogil:
    count_subscribers(call, TOPIC_SHARD_CHANNEL)


cdef void numpat_command(call_t *call) noexcept nogil:
    reply_int(call.reply, <long long>pubsub_topics(executor_of(call.connection).server, TOPIC_PATTERN))


cdef const char *PUBSUB_HELP[14]
PUBSUB_HELP[0] = "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
PUBSUB_HELP[1] = "CHANNELS [<pattern>]"
PUBSUB_HELP[2] = "    Lists channels that have subscribers; all, or those that match."
PUBSUB_HELP[3] = "NUMPAT"
PUBSUB_HELP[4] = "    Counts the patterns that have subscribers."
PUBSUB_HELP[5] = "NUMSUB [<channel> ...]"
PUBSUB_HELP[6] = "    Counts the subscribers of each channel, patterns not included."
PUBSUB_HELP[7] = "SHARDCHANNELS [<pattern>]"
PUBSUB_HELP[8] = "    Lists shard channels that have subscribers."
PUBSUB_HELP[9] = "SHARDNUMSUB [<shardchannel> ...]"
PUBSUB_HELP[10] = "    Counts the subscribers of each shard channel."
PUBSUB_HELP[11] = "HELP"
PUBSUB_HELP[12] = "    Prints this help."


cdef void pubsub_help(call_t *call) noexcept nogil:
    cdef int i
    reply_array(call.reply, 13)
    for i in range(13):
        reply_simple(call.reply, PUBSUB_HELP[i])


cdef enum:
    COMMON = COMMAND_PUBSUB | COMMAND_LOADING | COMMAND_STALE
    ROW_COUNT = 9

cdef command_spec_t[ROW_COUNT] ROWS
cdef command_spec_t[6] PUBSUB


cdef command_spec_t shard_channel_row(const char *name, int arity, uint64_t flags, int last_key,
                                      void (*handler)(call_t *) noexcept nogil):
    cdef command_spec_t row = connection_row(name, arity, flags, 0, handler)
    row.first_key = 1
    row.last_key = last_key
    row.key_step = 1
    row.key_flags = KEY_RO
    return row


def register():
    """Registers the family's rows."""
    cdef uint64_t subscribing = COMMON | COMMAND_NOSCRIPT | COMMAND_WHILE_SUBSCRIBED
    cdef uint64_t publishing = COMMON | COMMAND_FAST
    PUBSUB[0] = connection_row("pubsub|channels", -2, COMMON, 0, channels_command)
    PUBSUB[1] = connection_row("pubsub|help", 2, COMMAND_LOADING | COMMAND_STALE, 0, pubsub_help)
    PUBSUB[2] = connection_row("pubsub|numpat", 2, COMMON, 0, numpat_command)
    PUBSUB[3] = connection_row("pubsub|numsub", -2, COMMON, 0, numsub_command)
    PUBSUB[4] = connection_row("pubsub|shardchannels", -2, COMMON, 0, shardchannels_command)
    PUBSUB[5] = connection_row("pubsub|shardnumsub", -2, COMMON, 0, shardnumsub_command)
    ROWS[0] = connection_row("subscribe", -2, subscribing, 0, subscribe_command)
    ROWS[1] = connection_row("psubscribe", -2, subscribing, 0, psubscribe_command)
    ROWS[2] = connection_row("unsubscribe", -1, subscribing, 0, unsubscribe_command)
    ROWS[3] = connection_row("punsubscribe", -1, subscribing, 0, punsubscribe_command)
    ROWS[4] = connection_row("publish", 3, publishing, 0, publish_command)
    ROWS[5] = container_row("pubsub", -2, 0, 0, PUBSUB, 6)
    ROWS[6] = shard_channel_row("ssubscribe", -2, subscribing, -1, ssubscribe_command)
    ROWS[7] = shard_channel_row("sunsubscribe", -1, subscribing, -1, sunsubscribe_command)
    ROWS[8] = shard_channel_row("spublish", 3, publishing, 1, spublish_command)
    register_commands(ROWS, ROW_COUNT)
