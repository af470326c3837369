"""Pub/sub: who is subscribed to what, and the way of a message to its subscribers.

Each shard thread has tables of the topics (channels, patterns, shard channels) that its own connections
are subscribed to. One registry for the process counts subscribers by topic and thread, behind a small
lock that is held for a lookup: so PUBLISH knows its number of receivers at once, and only threads that
have some are told. A message travels as one block with a count of references; each thread renders it once
per protocol and appends the bytes to each subscriber's output.

pubsub_publish may be called on any thread, also while a shard's token is held (keyspace notifications).
Redis: redis.io/docs/latest/develop/interact/pubsub.

Ownership: a subscription_t belongs to its connection and is linked into its topic; topics are freed with
their last subscription. All of a thread's tables are touched by that thread only.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.net.connection cimport connection_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    TOPIC_CHANNEL = 0
    TOPIC_PATTERN = 1
    TOPIC_SHARD_CHANNEL = 2
    TOPIC_KINDS = 3

cdef struct topic_t:
    topic_t *next                # in its chain
    uint64_t hash
    uint32_t size
    uint32_t count               # subscribers: of this thread, or (registry) of all
    subscription_t *first        # a thread's: oldest first
    subscription_t *last
    uint32_t *by_thread          # the registry's: subscribers of each thread
    char *name                   # in the same block

cdef struct topic_table_t:
    topic_t **chains
    uint32_t chain_count
    uint32_t count

cdef struct subscription_t:
    topic_t *topic
    connection_t *connection
    subscription_t *previous     # of the topic
    subscription_t *next
    subscription_t *previous_own     # of the connection, one list a kind
    subscription_t *next_own

cdef struct subscriptions_t:
    # connection.subscriptions
    subscription_t *first[3]
    subscription_t *last[3]
    uint32_t count[3]

cdef struct pubsub_thread_t:
    # executor.pubsub
    topic_table_t topics[3]
    reply_t rendered[2]          # RESP2 and RESP3 of the message being delivered

cdef struct pubsub_t:
    # server.pubsub: the registry
    uint64_t lock
    topic_table_t topics[3]
    uint64_t counts[3]           # topics of each kind, to be read without the lock

cdef void pubsub_init(server_t *server) noexcept nogil      # lives as long as the process
# False: it was subscribed (or not) already.
cdef bint pubsub_subscribe(connection_t *connection, int kind, slice_t name) noexcept nogil
cdef bint pubsub_unsubscribe(connection_t *connection, int kind, slice_t name) noexcept nogil
cdef void pubsub_leave(connection_t *connection) noexcept nogil              # all of them, silently
cdef uint32_t pubsub_count(const connection_t *connection, int kind) noexcept nogil
# Sends to a channel (or shard channel); returns the number of receivers. publisher: the thread we are on, if
# its own subscribers may be served at once (not while a reply is half written); NULL: all by message.
cdef uint64_t pubsub_publish(server_t *server, executor_t *publisher, int kind, slice_t channel,
                             slice_t payload) noexcept nogil
# Keyspace notifications (notify-keyspace-events); the shards' mutation hook.
cdef void pubsub_notify(server_t *server, uint32_t database, const char *key, size_t key_size,
                        int event_class, const char *event) noexcept nogil
# Under the registry's lock: calls visit for each topic of a kind.
ctypedef void (*topic_visit_t)(topic_t *topic, void *context) noexcept nogil
cdef void pubsub_visit(server_t *server, int kind, topic_visit_t visit, void *context) noexcept nogil
cdef uint64_t pubsub_subscribers(server_t *server, int kind, slice_t name) noexcept nogil
cdef uint64_t pubsub_topics(server_t *server, int kind) noexcept nogil
