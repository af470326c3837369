"""Implementation of pub/sub: see pubsub.pxd for the way of a message."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memset, strlen

from dfly._core.engine.database cimport NOTIFY_KEYEVENT, NOTIFY_KEYSPACE
from dfly._core.engine.server_state cimport executor_of
from dfly._core.engine.settings cimport CLIENT_CLASS_PUBSUB
from dfly._core.engine.shard cimport database_t, shard_t
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.net.connection cimport (CONNECTION_PUBSUB, connection_close, connection_output_bytes,
                                        connection_prepare_output, connection_queue_push, net_thread_t)
from dfly._core.resp.reply cimport reply_bulk, reply_init, reply_push, reply_raw, reply_reset, reply_t
from dfly._core.store.glob cimport glob_match
from dfly._core.sys.alloc cimport net_alloc, net_free, net_zalloc
from dfly._core.sys.base cimport (DFLY_ABI_STAMP, atomic_cas, atomic_load_relaxed, atomic_store,
                                  atomic_store_relaxed, atomic_sub)
from dfly._core.sys.hash cimport hash_bytes

__abi__ = DFLY_ABI_STAMP

cdef extern from "sched.h" nogil:
    int sched_yield() noexcept

cdef enum:
    CHAINS_MIN = 16
    LOCK_SPINS = 100

cdef struct delivery_t:
    message_t message            # to one thread
    publication_t *publication

cdef struct publication_t:
    # A message on its way: one block with its deliveries, channel and payload.
    uint64_t references
    int kind
    slice_t channel
    slice_t payload
    delivery_t *deliveries       # one per thread


cdef inline pubsub_t *registry_of(server_t *server) noexcept nogil:
    return <pubsub_t *>server.pubsub


cdef inline pubsub_thread_t *thread_of(executor_t *executor) noexcept nogil:
    return <pubsub_thread_t *>executor.pubsub


# ---- Tables of topics ----------------------------------------------------------------------------

cdef topic_t *topic_find(topic_table_t *self, slice_t name, uint64_t hash) noexcept nogil:
    cdef topic_t *topic
    if self.count == 0:
        return NULL
    topic = self.chains[hash & (self.chain_count - 1)]
    while topic != NULL:
        if topic.hash == hash and topic.size == name.size and memcmp(topic.name, name.data, name.size) == 0:
            return topic
        topic = topic.next
    return NULL


cdef void table_grow(topic_table_t *self) noexcept nogil:
    cdef uint32_t old_count = self.chain_count
    cdef topic_t **old = self.chains
    cdef topic_t *topic
    cdef topic_t *following
    cdef uint32_t i
    self.chain_count = max(<uint32_t>CHAINS_MIN, 2 * old_count)
    self.chains = <topic_t **>net_zalloc(self.chain_count * sizeof(topic_t *))
    for i in range(old_count):
        topic = old[i]
        while topic != NULL:
            following = topic.next
            topic.next = self.chains[topic.hash & (self.chain_count - 1)]
            self.chains[topic.hash & (self.chain_count - 1)] = topic
            topic = following
    net_free(old)


cdef topic_t *topic_add(topic_table_t *self, slice_t name, uint64_t hash, uint32_t threads) noexcept nogil:
    """A new topic; with `threads` counters behind it (the registry's)."""
    cdef topic_t *topic = <topic_t *>net_zalloc(sizeof(topic_t) + threads * sizeof(uint32_t) + name.size)
    if self.count >= self.chain_count:
        table_grow(self)
    topic.by_thread = <uint32_t *>(topic + 1)
    topic.name = <char *>(topic.by_thread + threads)
    memcpy(topic.name, name.data, name.size)
    topic.size = <uint32_t>name.size
    topic.hash = hash
    topic.next = self.chains[hash & (self.chain_count - 1)]
    self.chains[hash & (self.chain_count - 1)] = topic
    self.count += 1
    return topic


cdef void topic_remove(topic_table_t *self, topic_t *topic) noexcept nogil:
    cdef topic_t **link = &self.chains[topic.hash & (self.chain_count - 1)]
    while link[0] != topic:
        link = &link[0].next
    link[0] = topic.next
    net_free(topic)
    self.count -= 1
    if self.count == 0:
        net_free(self.chains)
        self.chains = NULL
        self.chain_count = 0


# ---- The registry ----------------------------------------------------------------------------------

cdef void lock_registry(pubsub_t *self) noexcept nogil:
    cdef int spins = 0
    while atomic_load_relaxed(&self.lock) != 0 or not atomic_cas(&self.lock, 0, 1):
        spins += 1
        if spins > LOCK_SPINS:
            sched_yield()


cdef inline void unlock_registry(pubsub_t *self) noexcept nogil:
    atomic_store(&self.lock, 0)


cdef void registry_change(server_t *server, int kind, slice_t name, uint64_t hash, uint32_t thread,
                          int change) noexcept nogil:
    cdef pubsub_t *self = registry_of(server)
    cdef topic_t *topic
    lock_registry(self)
    topic = topic_find(&self.topics[kind], name, hash)
    if topic == NULL:
        topic = topic_add(&self.topics[kind], name, hash, server.thread_count)
    topic.count += change
    topic.by_thread[thread] += change
    if topic.count == 0:
        topic_remove(&self.topics[kind], topic)
    atomic_store_relaxed(&self.counts[kind], self.topics[kind].count)
    unlock_registry(self)


cdef void on_mutation(shard_t *shard, database_t *database, const char *key, size_t key_size, int event_class,
                      const char *event, void *context) noexcept nogil:
    pubsub_notify(<server_t *>context, database.index, key, key_size, event_class, event)


cdef void pubsub_init(server_t *server) noexcept nogil:
    cdef uint32_t i
    server.pubsub = net_zalloc(sizeof(pubsub_t))
    for i in range(server.thread_count):
        server.shards[i].on_mutation = on_mutation
        server.shards[i].mutation_context = server
        server.executors[i].pubsub = net_zalloc(sizeof(pubsub_thread_t))
        reply_init(&thread_of(server.executors[i]).rendered[0], 2)
        reply_init(&thread_of(server.executors[i]).rendered[1], 3)


cdef void pubsub_visit(server_t *server, int kind, topic_visit_t visit, void *context) noexcept nogil:
    cdef topic_table_t *table = &registry_of(server).topics[kind]
    cdef topic_t *topic
    cdef uint32_t i
    lock_registry(registry_of(server))
    for i in range(table.chain_count):
        topic = table.chains[i]
        while topic != NULL:
            visit(topic, context)
            topic = topic.next
    unlock_registry(registry_of(server))


cdef uint64_t pubsub_subscribers(server_t *server, int kind, slice_t name) noexcept nogil:
    cdef topic_t *topic
    cdef uint64_t count
    lock_registry(registry_of(server))
    topic = topic_find(&registry_of(server).topics[kind], name, hash_bytes(name.data, name.size))
    count = topic.count if topic != NULL else 0
    unlock_registry(registry_of(server))
    return count


cdef uint64_t pubsub_topics(server_t *server, int kind) noexcept nogil:
    return atomic_load_relaxed(&registry_of(server).counts[kind])


# ---- Subscriptions ---------------------------------------------------------------------------------

cdef uint32_t pubsub_count(const connection_t *connection, int kind) noexcept nogil:
    cdef const subscriptions_t *own = <const subscriptions_t *>connection.subscriptions
    return own.count[kind] if own != NULL else 0


cdef subscription_t *find_own(connection_t *connection, int kind, topic_t *topic) noexcept nogil:
    """The connection's subscription to the topic, or NULL; walks the shorter of the two lists."""
    cdef subscriptions_t *own = <subscriptions_t *>connection.subscriptions
    cdef subscription_t *each
    if topic == NULL or own == NULL:
        return NULL
    if own.count[kind] < topic.count:
        each = own.first[kind]
        while each != NULL and each.topic != topic:
            each = each.next_own
        return each
    each = topic.first
    while each != NULL and each.connection != connection:
        each = each.next
    return each


cdef bint pubsub_subscribe(connection_t *connection, int kind, slice_t name) noexcept nogil:
    cdef executor_t *executor = executor_of(connection)
    cdef topic_table_t *table = &thread_of(executor).topics[kind]
    cdef uint64_t hash = hash_bytes(name.data, name.size)
    cdef topic_t *topic = topic_find(table, name, hash)
    cdef subscriptions_t *own
    cdef subscription_t *each
    if find_own(connection, kind, topic) != NULL:
        return False
    if connection.subscriptions == NULL:
        connection.subscriptions = net_zalloc(sizeof(subscriptions_t))
    own = <subscriptions_t *>connection.subscriptions
    if topic == NULL:
        topic = topic_add(table, name, hash, 0)
    each = <subscription_t *>net_zalloc(sizeof(subscription_t))
    each.topic = topic
    each.connection = connection
    each.previous = topic.last
    if topic.last != NULL:
        topic.last.next = each
    else:
        topic.first = each
    topic.last = each
    topic.count += 1
    each.previous_own = own.last[kind]
    if own.last[kind] != NULL:
        own.last[kind].next_own = each
    else:
        own.first[kind] = each
    own.last[kind] = each
    own.count[kind] += 1
    connection.flags |= CONNECTION_PUBSUB
    registry_change(executor.server, kind, name, hash, executor.proactor.index, 1)
    return True


cdef void end_subscription(connection_t *connection, int kind, subscription_t *each) noexcept nogil:
    cdef executor_t *executor = executor_of(connection)
    cdef subscriptions_t *own = <subscriptions_t *>connection.subscriptions
    cdef topic_t *topic = each.topic
    cdef slice_t name
    if each.previous != NULL:
        each.previous.next = each.next
    else:
        topic.first = each.next
    if each.next != NULL:
        each.next.previous = each.previous
    else:
        topic.last = each.previous
    if each.previous_own != NULL:
        each.previous_own.next_own = each.next_own
    else:
        own.first[kind] = each.next_own
    if each.next_own != NULL:
        each.next_own.previous_own = each.previous_own
    else:
        own.last[kind] = each.previous_own
    own.count[kind] -= 1
    topic.count -= 1
    name.data = topic.name
    name.size = topic.size
    registry_change(executor.server, kind, name, topic.hash, executor.proactor.index, -1)
    if topic.count == 0:
        topic_remove(&thread_of(executor).topics[kind], topic)
    net_free(each)
    if own.count[TOPIC_CHANNEL] + own.count[TOPIC_PATTERN] + own.count[TOPIC_SHARD_CHANNEL] == 0:
        net_free(own)
        connection.subscriptions = NULL
        connection.flags &= ~<uint32_t>CONNECTION_PUBSUB


cdef bint pubsub_unsubscribe(connection_t *connection, int kind, slice_t name) noexcept nogil:
    cdef topic_table_t *table = &thread_of(executor_of(connection)).topics[kind]
    cdef subscription_t *each = find_own(
        connection, kind, topic_find(table, name, hash_bytes(name.data, name.size)))
    if each == NULL:
        return False
    end_subscription(connection, kind, each)
    return True


cdef void pubsub_leave(connection_t *connection) noexcept nogil:
    cdef int kind
    for kind in range(TOPIC_KINDS):
        while pubsub_count(connection, kind) > 0:
            end_subscription(connection, kind, (<subscriptions_t *>connection.subscriptions).first[kind])


# ---- Delivery --------------------------------------------------------------------------------------

cdef void render(reply_t *reply, int kind, const topic_t *pattern, slice_t channel,
                 slice_t payload) noexcept nogil:
    reply_reset(reply)
    if pattern != NULL:
        reply_push(reply, 4)
        reply_bulk(reply, "pmessage", 8)
        reply_bulk(reply, pattern.name, pattern.size)
    else:
        reply_push(reply, 3)
        if kind == TOPIC_SHARD_CHANNEL:
            reply_bulk(reply, "smessage", 8)
        else:
            reply_bulk(reply, "message", 7)
    reply_bulk(reply, channel.data, channel.size)
    reply_bulk(reply, payload.data, payload.size)


cdef void send_to(executor_t *executor, connection_t *connection, const reply_t *rendered) noexcept nogil:
    cdef int64_t limit = executor.server.settings.output_limits[CLIENT_CLASS_PUBSUB].hard_bytes
    if connection.is_closed or connection.stream.is_closing:
        return
    connection_prepare_output(connection)
    reply_raw(&connection.output, rendered.data, rendered.size)
    if limit != 0 and connection_output_bytes(connection) > <size_t>limit:
        executor.stats.output_limit_closes += 1
        connection_close(connection)
        return
    connection_queue_push(connection)


cdef void send_to_topic(executor_t *executor, int kind, topic_t *topic, bint is_pattern, slice_t channel,
                        slice_t payload) noexcept nogil:
    cdef reply_t *rendered = thread_of(executor).rendered
    cdef subscription_t *each = topic.first
    cdef bint done[2]
    cdef int which
    done[0] = False
    done[1] = False
    while each != NULL:
        which = each.connection.resp == 3
        if not done[which]:
            render(&rendered[which], kind, topic if is_pattern else NULL, channel, payload)
            done[which] = True
        send_to(executor, each.connection, &rendered[which])
        each = each.next


cdef void deliver(executor_t *executor, int kind, slice_t channel, slice_t payload) noexcept nogil:
    """To the subscribers of this thread: those of the channel, then those of patterns, as Redis does."""
    cdef topic_table_t *patterns = &thread_of(executor).topics[TOPIC_PATTERN]
    cdef topic_t *topic = topic_find(&thread_of(executor).topics[kind], channel,
                                     hash_bytes(channel.data, channel.size))
    cdef uint32_t i
    if topic != NULL:
        send_to_topic(executor, kind, topic, False, channel, payload)
    if kind != TOPIC_CHANNEL:
        return
    for i in range(patterns.chain_count):
        topic = patterns.chains[i]
        while topic != NULL:
            if glob_match(topic.name, topic.size, channel.data, channel.size, False):
                send_to_topic(executor, kind, topic, True, channel, payload)
            topic = topic.next


cdef void deliver_message(message_t *message, void *context) noexcept nogil:
    """On a subscriber's thread."""
    cdef publication_t *publication = (<delivery_t *>message).publication
    cdef executor_t *executor = <executor_t *>(<net_thread_t *>(<proactor_t *>context).context).context
    deliver(executor, publication.kind, publication.channel, publication.payload)
    if atomic_sub(&publication.references, 1) == 0:
        net_free(publication)


cdef uint64_t find_receivers(server_t *server, int kind, slice_t channel, uint32_t *by_thread) noexcept nogil:
    """Adds up the receivers of each thread; returns their sum."""
    cdef topic_table_t *patterns = &registry_of(server).topics[TOPIC_PATTERN]
    cdef topic_t *topic
    cdef uint64_t total = 0
    cdef uint32_t i
    cdef uint32_t t
    lock_registry(registry_of(server))
    topic = topic_find(&registry_of(server).topics[kind], channel, hash_bytes(channel.data, channel.size))
    if topic != NULL:
        total += topic.count
        for t in range(server.thread_count):
            by_thread[t] += topic.by_thread[t]
    if kind == TOPIC_CHANNEL:
        for i in range(patterns.chain_count):
            topic = patterns.chains[i]
            while topic != NULL:
                if glob_match(topic.name, topic.size, channel.data, channel.size, False):
                    total += topic.count
                    for t in range(server.thread_count):
                        by_thread[t] += topic.by_thread[t]
                topic = topic.next
    unlock_registry(registry_of(server))
    return total


cdef publication_t *new_publication(server_t *server, int kind, slice_t channel,
                                    slice_t payload) noexcept nogil:
    cdef publication_t *self = <publication_t *>net_alloc(
        sizeof(publication_t) + server.thread_count * sizeof(delivery_t) + channel.size + payload.size)
    cdef char *text
    self.kind = kind
    self.deliveries = <delivery_t *>(self + 1)
    text = <char *>(self.deliveries + server.thread_count)
    memcpy(text, channel.data, channel.size)
    self.channel.data = text
    self.channel.size = channel.size
    text += channel.size
    memcpy(text, payload.data, payload.size)
    self.payload.data = text
    self.payload.size = payload.size
    return self


cdef uint64_t pubsub_publish(server_t *server, executor_t *publisher, int kind, slice_t channel,
                             slice_t payload) noexcept nogil:
    cdef uint32_t few[16]
    cdef uint32_t *by_thread = few
    cdef uint64_t total
    cdef publication_t *publication = NULL
    cdef uint32_t others = 0
    cdef uint32_t t
    # Nobody listens to anything: no lock.
    if pubsub_topics(server, kind) == 0 and pubsub_topics(server, TOPIC_PATTERN) == 0:
        return 0
    if server.thread_count > 16:
        by_thread = <uint32_t *>net_alloc(server.thread_count * sizeof(uint32_t))
    memset(by_thread, 0, server.thread_count * sizeof(uint32_t))
    total = find_receivers(server, kind, channel, by_thread)
    for t in range(server.thread_count):
        others += by_thread[t] != 0 and server.executors[t] != publisher
    if others > 0:
        publication = new_publication(server, kind, channel, payload)
        publication.references = others
        for t in range(server.thread_count):
            if by_thread[t] != 0 and server.executors[t] != publisher:
                publication.deliveries[t].publication = publication
                publication.deliveries[t].message.run = deliver_message
                others -= 1
                proactor_post(&server.executors[t].proactor, &publication.deliveries[t].message)
                if others == 0:
                    break      # the last post may have freed it
    if publisher != NULL and by_thread[publisher.proactor.index] != 0:
        deliver(publisher, kind, channel, payload)
    if by_thread != few:
        net_free(by_thread)
    return total


# ---- Keyspace notifications --------------------------------------------------------------------------

cdef void publish_event(server_t *server, const char *prefix, uint32_t database, const char *name,
                        size_t name_size, const char *payload, size_t payload_size) noexcept nogil:
    cdef char *text = <char *>net_alloc(name_size + 64)
    cdef slice_t channel
    cdef slice_t body
    channel.size = <size_t>snprintf(text, 64, "__%s@%u__:", prefix, database)
    memcpy(text + channel.size, name, name_size)
    channel.data = text
    channel.size += name_size
    body.data = payload
    body.size = payload_size
    pubsub_publish(server, NULL, TOPIC_CHANNEL, channel, body)
    net_free(text)


cdef void pubsub_notify(server_t *server, uint32_t database, const char *key, size_t key_size,
                        int event_class, const char *event) noexcept nogil:
    cdef int64_t enabled = server.settings.notify_keyspace_events
    if not enabled & event_class:
        return
    # Events happen under a shard's token, perhaps in the middle of a reply: all by message.
    if enabled & NOTIFY_KEYSPACE:
        publish_event(server, "keyspace", database, key, key_size, event, strlen(event))
    if enabled & NOTIFY_KEYEVENT:
        publish_event(server, "keyevent", database, event, strlen(event), key, key_size)
