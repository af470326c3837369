"""XREADGROUP of many entries, in slices: see stream_deliveries.pxd."""

from libc.stdint cimport uint64_t

from dfly._core.commands.streams cimport drop_group, has_behind, reply_entry
from dfly._core.engine.command cimport hop_t, transaction_t
from dfly._core.engine.database cimport NOTIFY_STREAM, find_peek, notify, update_begin, update_end_unseen
from dfly._core.engine.shard cimport scope_t, shard_t
from dfly._core.engine.slices cimport slices_first, slices_next, slices_plan_t, slices_work, work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport (reply_array, reply_bulk, reply_chain_take, reply_init, reply_map, reply_t)
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport id_equal, id_increment, id_last_slot, id_less
from dfly._core.store.object cimport TYPE_STREAM, key_t, object_is_container, object_pointer, object_t
from dfly._core.store.stream cimport stream_cursor_t, stream_range_is_short, stream_read_next, stream_seek, stream_t
from dfly._core.store.stream_groups cimport (batch_add, batch_deliver, batch_new, consumer_create, consumer_find,
                                             group_find, stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_advance_group
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t

__abi__ = DFLY_ABI_STAMP


# ---- Shared ------------------------------------------------------------------------------------

cdef void begin_key(reply_t *reply, slice_t key) noexcept nogil:
    if reply.resp == 2:
        reply_array(reply, 2)
    reply_bulk(reply, key.data, key.size)


cdef void begin_single(reply_t *reply, slice_t key) noexcept nogil:
    if reply.resp == 2:
        reply_array(reply, 1)
    else:
        reply_map(reply, 1)
    begin_key(reply, key)


cdef stream_consumer_t *take_consumer(scope_t *scope, const key_t *key, stream_group_t *group,
                                      slice_t name) noexcept nogil:
    cdef stream_consumer_t *consumer = consumer_find(group, name)
    if consumer == NULL:
        consumer = consumer_create(group, name, scope.now_ms)
        notify(scope, key, NOTIFY_STREAM, "xgroup-createconsumer")
    consumer.seen_ms = scope.now_ms
    group.changes += 1
    return consumer


# ---- A slice -----------------------------------------------------------------------------------

cdef inline slice_t consumer_name(const delivery_t *self, const transaction_t *tx) noexcept nogil:
    return tx.argv[self.consumer_position]


cdef inline bint has_unread_pending(const stream_group_t *group) noexcept nogil:
    """XCLAIM can make pending what nobody has read."""
    return group.pending.count > 0 and id_less(group.last_id, id_last_slot(&group.pending).id)


cdef bint is_still(const delivery_t *self, const transaction_t *tx, const object_t *value) noexcept nogil:
    """What it has read is there and new to the group, and so is what it has yet to read."""
    cdef const stream_t *stream
    if not object_is_container(value, TYPE_STREAM) or object_pointer(value) != object_pointer(&self.value):
        return False
    stream = <const stream_t *>object_pointer(value)
    if stream.epoch != self.epoch or id_less(self.begin, stream.first_id):
        return False
    # It may have gone and come back: what it is now counts.
    return (group_find(&stream.groups, self.group_name) == self.group
            and consumer_find(self.group, consumer_name(self, tx)) == self.consumer
            and id_equal(self.group.last_id, self.last_id) and self.group.entries_read == self.entries_read
            and not has_unread_pending(self.group))


cdef void begin(delivery_t *self, transaction_t *tx, scope_t *scope, dash_ref_t *ref) noexcept nogil:
    update_begin(scope, ref)
    self.consumer = take_consumer(scope, &tx.keys[0], self.group, consumer_name(self, tx))
    update_end_unseen(scope, &tx.keys[0], NOTIFY_STREAM, NULL)
    self.batch = batch_new(self.group)


cdef void finish(delivery_t *self, transaction_t *tx, scope_t *scope, dash_ref_t *ref) noexcept nogil:
    cdef reply_t header
    update_begin(scope, ref)
    self.consumer.active_ms = self.now_ms
    batch_deliver(self.group, self.consumer, self.batch)
    self.batch = NULL
    update_end_unseen(scope, &tx.keys[0], NOTIFY_STREAM, NULL)
    reply_init(&header, tx.reply.resp)
    begin_single(&header, tx.argv[self.key_position])
    reply_array(&header, self.count)
    reply_chain_take(&tx.chain, &header, True)
    self.is_done = True


cdef bint go_on(delivery_t *self, transaction_t *tx) noexcept nogil:
    """True: all is read."""
    cdef const stream_t *stream = <const stream_t *>object_pointer(&self.value)
    cdef stream_cursor_t cursor
    stream_seek(stream, self.next, &cursor)
    while self.left > 0 and stream_read_next(&cursor) and not id_less(self.end, cursor.id):
        if not work_goes_on(&self.work):
            self.next = cursor.id
            return False
        reply_entry(&tx.reply, &cursor)
        stream_advance_group(stream, self.batch, cursor.id)
        if not self.no_ack:
            batch_add(self.batch, self.consumer, cursor.id, self.now_ms)
        self.count += 1
        self.left -= 1
    return True


cdef delivery_t *delivery_of(const transaction_t *tx) noexcept nogil:
    return <delivery_t *>tx.state


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef delivery_t *self = delivery_of(tx)
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, shard, &scope)
    if not find_peek(&scope, &tx.keys[0], &ref) or (self.batch != NULL and not is_still(self, tx, &ref.entry.value)):
        self.slices.is_stale = True
        return
    slices_work(&self.slices, tx, &self.work)
    if self.batch == NULL:
        begin(self, tx, &scope, &ref)
    if go_on(self, tx):
        finish(self, tx, &scope, &ref)


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """A look counts twice, as in Redis, and this one shall not."""
    cdef delivery_t *self = delivery_of(tx)
    cdef scope_t scope
    if self.batch != NULL:
        transaction_scope(tx, shard, &scope)
        drop_group(&scope, self.batch)
        self.batch = NULL
    shard.stats.hits -= 2


# ---- Steps -------------------------------------------------------------------------------------

cdef void deliveries_plan(slices_plan_t *out, hop_t look) noexcept nogil:
    out.look = look
    out.work = work_hop
    out.drop = drop_hop


cdef bint delivery_is_long(const transaction_t *tx, const stream_t *stream, slice_t group_name,
                           uint64_t most) noexcept nogil:
    cdef uint64_t many = <uint64_t>tx.shards[0].settings.slice_elements
    cdef const stream_group_t *group
    if likely(min(most, stream.length) <= many) or tx.is_inside:
        return False
    group = group_find(&stream.groups, group_name)
    return (has_behind(stream, group.last_id) and not has_unread_pending(group)
            and not stream_range_is_short(stream, group.last_id, stream.last_id, many))


cdef int delivery_first(transaction_t *tx, delivery_t *self, const object_t *value, uint64_t most,
                        const slices_plan_t *plan) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef stream_cursor_t cursor
    self.group = group_find(&stream.groups, self.group_name)
    self.last_id = self.group.last_id
    self.entries_read = self.group.entries_read
    self.begin = self.last_id
    id_increment(&self.begin)
    stream_seek(stream, self.begin, &cursor)
    stream_read_next(&cursor)
    self.begin = cursor.id
    self.next = cursor.id
    self.end = stream.last_id
    self.value = value[0]
    self.epoch = stream.epoch
    self.left = most
    self.count = 0
    self.now_ms = tx.now_ms
    self.batch = NULL
    self.is_done = False
    self.slices.looks_itself = True
    return slices_first(&self.slices, tx, <uint64_t>-1, 0, plan)


cdef int delivery_next(transaction_t *tx, delivery_t *self, const slices_plan_t *plan) noexcept nogil:
    return slices_next(&self.slices, tx, self.is_done, plan)
