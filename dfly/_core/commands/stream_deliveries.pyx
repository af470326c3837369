"""XREADGROUP of many entries, in slices: see stream_deliveries.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.commands.stream_claims cimport (claim_begin, claim_by_time, claim_choose, claim_finish, claim_free,
                                                claim_is_still, claim_reply)
from dfly._core.commands.stream_ranges cimport entries_count
from dfly._core.commands.streams cimport (drop_group, has_behind, reply_claimed_entry, reply_entry, reply_stream_id,
                                          stream_of, take_consumer)
from dfly._core.engine.command cimport hop_t, transaction_t
from dfly._core.engine.database cimport NOTIFY_STREAM, find_peek, update_begin, update_end_unseen
from dfly._core.engine.shard cimport scope_t, shard_close_books, shard_open_books, shard_t
from dfly._core.engine.slices cimport slices_first, slices_next, slices_plan_t, slices_work, work_goes_on
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_map, reply_null_array, reply_t
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.id_index cimport (id_ceiling, id_count_from, id_equal, id_increment, id_index_t, id_last_slot,
                                        id_less, id_next, id_place_t, id_slot, stream_id_t)
from dfly._core.store.object cimport TYPE_STREAM, key_t, object_is_container, object_pointer, object_t
from dfly._core.store.stream cimport (stream_cursor_t, stream_range_is_short, stream_read_at, stream_read_next,
                                      stream_seek, stream_t)
from dfly._core.store.stream_groups cimport (batch_add, batch_deliver, batch_new, consumer_find, group_find,
                                             pending_deliver_again, stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_advance_group
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, likely, slice_t

__abi__ = DFLY_ABI_STAMP

ctypedef void (*visit_t)(deliveries_t *self, delivery_t *delivery, transaction_t *tx, scope_t *scope) noexcept nogil


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


cdef void reply_gone_entry(reply_t *reply, stream_id_t id) noexcept nogil:
    reply_array(reply, 2)
    reply_stream_id(reply, id)
    reply_null_array(reply)


# ---- One stream --------------------------------------------------------------------------------

cdef inline slice_t consumer_name(const deliveries_t *self, const transaction_t *tx) noexcept nogil:
    return tx.argv[self.consumer_position]


cdef inline bint has_unread_pending(const stream_group_t *group) noexcept nogil:
    """XCLAIM can make pending what nobody has read."""
    return group.pending.count > 0 and id_less(group.last_id, id_last_slot(&group.pending).id)


cdef bint is_still_pending(const deliveries_t *self, const delivery_t *delivery, transaction_t *tx,
                           const stream_t *stream) noexcept nogil:
    return (group_find(&stream.groups, self.group_name) == delivery.group
            and consumer_find(delivery.group, consumer_name(self, tx)) == delivery.consumer
            and delivery.consumer.birth == delivery.history.birth
            and delivery.consumer.moves == delivery.history.moves
            and not (delivery.history.has_begin and id_less(delivery.begin, stream.first_id)))


cdef bint is_still(const deliveries_t *self, const delivery_t *delivery, transaction_t *tx) noexcept nogil:
    """What it has read is there and new to the group, and so is what it has yet to read."""
    cdef const stream_t *stream
    cdef scope_t scope
    cdef dash_ref_t ref
    transaction_scope(tx, tx.shards[tx.key_shards[delivery.key]], &scope)
    if not find_peek(&scope, &tx.keys[delivery.key], &ref):
        return False
    if (not object_is_container(&ref.entry.value, TYPE_STREAM)
            or object_pointer(&ref.entry.value) != object_pointer(&delivery.value)):
        return False
    stream = <const stream_t *>object_pointer(&ref.entry.value)
    if stream.epoch != delivery.epoch:
        return False
    if delivery.history.is_wanted:
        return is_still_pending(self, delivery, tx, stream)
    if claims(self, delivery) and not claim_is_still(&delivery.claim, stream):
        return False
    # They may have gone and come back: what they are now counts.
    if (group_find(&stream.groups, self.group_name) != delivery.group
            or consumer_find(delivery.group, consumer_name(self, tx)) != delivery.consumer):
        return False
    if not delivery.has_new:
        return True
    return (not id_less(delivery.begin, stream.first_id) and id_equal(delivery.group.last_id, delivery.last_id)
            and delivery.group.entries_read == delivery.entries_read and not has_unread_pending(delivery.group))


cdef inline bint claims(const deliveries_t *self, const delivery_t *delivery) noexcept nogil:
    return self.min_idle_ms != NO_CLAIM and not delivery.history.is_wanted


cdef bint count_new(deliveries_t *self, delivery_t *delivery) noexcept nogil:
    """True: all are counted, or as many as are wanted."""
    cdef uint64_t most = self.most - delivery.claim.chosen.count
    if not delivery.has_new or most == 0:
        return True
    return entries_count(<const stream_t *>object_pointer(&delivery.value), &delivery.block, delivery.begin,
                         delivery.end, most, &delivery.count, &self.work)


cdef bint count_entries(deliveries_t *self, delivery_t *delivery, transaction_t *tx) noexcept nogil:
    """Its array begins with how many there are; True when that is replied."""
    if delivery.is_counted:
        return True
    if claims(self, delivery) and not claim_choose(&delivery.claim, <const stream_t *>object_pointer(&delivery.value),
                                                   &self.work):
        return False
    if not delivery.history.is_wanted and not count_new(self, delivery):
        return False
    delivery.is_counted = True
    begin_key(&tx.reply, tx.argv[self.first + delivery.key])
    reply_array(&tx.reply, delivery.claim.chosen.count + delivery.count)
    return True


cdef bint read_new(deliveries_t *self, delivery_t *delivery, transaction_t *tx) noexcept nogil:
    """True: all are read."""
    cdef const stream_t *stream = <const stream_t *>object_pointer(&delivery.value)
    cdef stream_cursor_t cursor
    stream_seek(stream, delivery.next, &cursor)
    stream_read_next(&cursor)
    while delivery.count > 0 and work_goes_on(&self.work):
        if claims(self, delivery):
            reply_claimed_entry(&tx.reply, &cursor, 0, 0)
        else:
            reply_entry(&tx.reply, &cursor)
        stream_advance_group(stream, delivery.batch, cursor.id)
        if not self.no_ack:
            batch_add(delivery.batch, delivery.consumer, cursor.id, self.now_ms)
        delivery.count -= 1
        if delivery.count > 0:
            stream_read_next(&cursor)
    delivery.next = cursor.id
    return delivery.count == 0


cdef bint read_entries(deliveries_t *self, delivery_t *delivery, transaction_t *tx) noexcept nogil:
    """True: all are read."""
    if delivery.history.is_wanted:
        return read_history(self, delivery, tx)
    if claims(self, delivery) and not claim_reply(&delivery.claim, <const stream_t *>object_pointer(&delivery.value),
                                                  &tx.reply, &self.work):
        return False
    return delivery.count == 0 or read_new(self, delivery, tx)


# ---- What is pending for one stream's consumer --------------------------------------------------

cdef void begin_history(deliveries_t *self, delivery_t *delivery) noexcept nogil:
    cdef history_t *history = &delivery.history
    cdef stream_id_t behind = history.behind
    history.birth = delivery.consumer.birth
    history.moves = delivery.consumer.moves
    history.is_begun = True
    history.total = 0
    if id_increment(&behind) and id_ceiling(&delivery.consumer.pending, behind, &history.first):
        history.total = min(self.most, id_count_from(&delivery.consumer.pending, history.first))
    history.place = history.first
    history.present = <uint8_t *>net_zalloc(history.total // 8 + 1)
    delivery.count = history.total


cdef bint read_history(deliveries_t *self, delivery_t *delivery, transaction_t *tx) noexcept nogil:
    """True: all are read."""
    cdef const stream_t *stream = <const stream_t *>object_pointer(&delivery.value)
    cdef const id_index_t *pending = &delivery.consumer.pending
    cdef history_t *history = &delivery.history
    cdef stream_cursor_t cursor
    cdef stream_id_t id
    cdef uint64_t at
    cursor.stream = NULL
    while delivery.count > 0 and work_goes_on(&self.work):
        id = id_slot(pending, history.place).id
        at = history.total - delivery.count
        if stream_read_at(stream, id, &cursor):
            reply_entry(&tx.reply, &cursor)
            history.present[at // 8] |= 1 << (at % 8)
            if not history.has_begin:
                history.has_begin = True
                delivery.begin = id
        else:
            reply_gone_entry(&tx.reply, id)
        delivery.count -= 1
        id_next(pending, &history.place)
    return delivery.count == 0


cdef void deliver_again(delivery_t *delivery, int64_t now_ms) noexcept nogil:
    cdef history_t *history = &delivery.history
    pending_deliver_again(delivery.group, delivery.consumer, history.first, history.total, history.present, now_ms)
    end_history(history)


cdef void end_history(history_t *history) noexcept nogil:
    net_free(history.present)
    history.present = NULL
    history.is_begun = False


# ---- All of them -------------------------------------------------------------------------------

cdef deliveries_t *deliveries_of(const transaction_t *tx) noexcept nogil:
    return <deliveries_t *>tx.state


cdef void visit(deliveries_t *self, transaction_t *tx, shard_t *shard, visit_t change) noexcept nogil:
    """Changes each group, in its own shard's books; those of `shard` are open."""
    cdef delivery_t *delivery
    cdef shard_t *other
    cdef scope_t scope
    cdef uint32_t i
    shard_close_books(shard)
    for i in range(self.count):
        delivery = &self.streams[i]
        other = tx.shards[tx.key_shards[delivery.key]]
        transaction_scope(tx, other, &scope)
        shard_open_books(other)
        change(self, delivery, tx, &scope)
        shard_close_books(other)
    shard_open_books(shard)


cdef void begin(deliveries_t *self, delivery_t *delivery, transaction_t *tx, scope_t *scope) noexcept nogil:
    cdef const key_t *key = &tx.keys[delivery.key]
    cdef dash_ref_t ref
    find_peek(scope, key, &ref)
    update_begin(scope, &ref)
    delivery.consumer = take_consumer(scope, key, delivery.group, consumer_name(self, tx))
    update_end_unseen(scope, key, NOTIFY_STREAM, NULL)
    if delivery.history.is_wanted:
        begin_history(self, delivery)
        return
    if claims(self, delivery):
        claim_by_time(&delivery.claim, self.min_idle_ms, self.most, self.now_ms)
        claim_begin(&delivery.claim, stream_of(&ref), delivery.group, True)
    if delivery.has_new:
        delivery.batch = batch_new(delivery.group)


cdef void finish(deliveries_t *self, delivery_t *delivery, transaction_t *tx, scope_t *scope) noexcept nogil:
    cdef const key_t *key = &tx.keys[delivery.key]
    cdef dash_ref_t ref
    find_peek(scope, key, &ref)
    update_begin(scope, &ref)
    if delivery.history.is_wanted:
        deliver_again(delivery, scope.now_ms)
    else:
        delivery.consumer.active_ms = self.now_ms
        if claims(self, delivery):
            claim_finish(&delivery.claim, delivery.consumer, scope.now_ms)
            claim_free(&delivery.claim)
        if delivery.has_new:
            batch_deliver(delivery.group, delivery.consumer, delivery.batch)
            delivery.batch = NULL
    update_end_unseen(scope, key, NOTIFY_STREAM, NULL)


cdef void drop(deliveries_t *self, delivery_t *delivery, transaction_t *tx, scope_t *scope) noexcept nogil:
    if delivery.batch != NULL:
        drop_group(scope, delivery.batch)
        delivery.batch = NULL
    claim_free(&delivery.claim)
    end_history(&delivery.history)


cdef bint are_still(const deliveries_t *self, transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(self.count):
        if not is_still(self, &self.streams[i], tx):
            return False
    return True


cdef void work_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    cdef deliveries_t *self = deliveries_of(tx)
    cdef delivery_t *delivery
    if not self.is_begun:
        self.is_begun = True
        visit(self, tx, shard, begin)
    elif not are_still(self, tx):
        self.slices.is_stale = True
        return
    slices_work(&self.slices, tx, &self.work)
    while self.next < self.count:
        delivery = &self.streams[self.next]
        if not count_entries(self, delivery, tx):
            return
        if not read_entries(self, delivery, tx):
            return
        self.next += 1
    visit(self, tx, shard, finish)
    self.is_done = True


cdef void drop_hop(transaction_t *tx, shard_t *shard) noexcept nogil:
    """A look counts twice, as in Redis, and this one shall not."""
    cdef uint32_t i
    visit(deliveries_of(tx), tx, shard, drop)
    for i in range(tx.key_count):
        tx.shards[tx.key_shards[i]].stats.hits -= 2


# ---- Steps -------------------------------------------------------------------------------------

cdef void deliveries_plan(slices_plan_t *out, hop_t look) noexcept nogil:
    out.look = look
    out.work = work_hop
    out.drop = drop_hop


cdef bint delivery_is_possible(const stream_t *stream, slice_t group_name) noexcept nogil:
    return not has_unread_pending(group_find(&stream.groups, group_name))


cdef bint delivery_is_long(const transaction_t *tx, const stream_t *stream, slice_t group_name,
                           uint64_t most) noexcept nogil:
    cdef uint64_t many = <uint64_t>tx.shards[0].settings.slice_elements
    cdef const stream_group_t *group
    if likely(min(most, stream.length) <= many) or tx.is_inside:
        return False
    group = group_find(&stream.groups, group_name)
    return (has_behind(stream, group.last_id)
            and not stream_range_is_short(stream, group.last_id, stream.last_id, many))


cdef void deliveries_begin(deliveries_t *self, transaction_t *tx, uint64_t most) noexcept nogil:
    self.count = 0
    self.next = 0
    self.most = most
    self.now_ms = tx.now_ms
    self.is_begun = False
    self.is_done = False


cdef void deliveries_add(deliveries_t *self, uint32_t key, const object_t *value) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef delivery_t *delivery = &self.streams[self.count]
    cdef stream_cursor_t cursor
    self.count += 1
    memset(delivery, 0, sizeof(delivery_t))
    delivery.value = value[0]
    delivery.epoch = stream.epoch
    delivery.key = key
    delivery.group = group_find(&stream.groups, self.group_name)
    delivery.has_new = has_behind(stream, delivery.group.last_id)
    if not delivery.has_new:
        return
    delivery.last_id = delivery.group.last_id
    delivery.entries_read = delivery.group.entries_read
    delivery.begin = delivery.last_id
    id_increment(&delivery.begin)
    stream_seek(stream, delivery.begin, &cursor)
    stream_read_next(&cursor)
    delivery.begin = cursor.id
    delivery.next = cursor.id
    delivery.end = stream.last_id
    delivery.block = cursor.master


cdef void deliveries_add_history(deliveries_t *self, uint32_t key, const object_t *value,
                                 stream_id_t behind) noexcept nogil:
    cdef const stream_t *stream = <const stream_t *>object_pointer(value)
    cdef delivery_t *delivery = &self.streams[self.count]
    self.count += 1
    memset(delivery, 0, sizeof(delivery_t))
    delivery.value = value[0]
    delivery.epoch = stream.epoch
    delivery.key = key
    delivery.group = group_find(&stream.groups, self.group_name)
    delivery.history.is_wanted = True
    delivery.history.behind = behind


cdef bint history_is_long(const transaction_t *tx, const stream_t *stream, slice_t group_name, slice_t consumer_name,
                          stream_id_t behind, uint64_t most) noexcept nogil:
    cdef uint64_t many = <uint64_t>tx.shards[0].settings.slice_elements
    cdef const stream_group_t *group = group_find(&stream.groups, group_name)
    cdef const stream_consumer_t *consumer
    cdef id_place_t place
    if likely(min(most, group.pending.count) <= many) or tx.is_inside:
        return False
    consumer = consumer_find(group, consumer_name)
    return (consumer != NULL and consumer.pending.count > many and id_increment(&behind)
            and id_ceiling(&consumer.pending, behind, &place)
            and id_count_from(&consumer.pending, place) > many)


cdef int deliveries_first(transaction_t *tx, deliveries_t *self, const slices_plan_t *plan) noexcept nogil:
    if tx.reply.resp == 2:
        reply_array(&tx.reply, self.count)
    else:
        reply_map(&tx.reply, self.count)
    self.slices.looks_itself = True
    return slices_first(&self.slices, tx, <uint64_t>-1, 0, plan)


cdef int deliveries_next(transaction_t *tx, deliveries_t *self, const slices_plan_t *plan) noexcept nogil:
    return slices_next(&self.slices, tx, self.is_done, plan)
