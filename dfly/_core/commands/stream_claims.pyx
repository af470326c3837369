"""Claims of many pending entries: see stream_claims.pxd."""

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from dfly._core.commands.streams cimport reply_claimed_entry, reply_entry, reply_stream_id
from dfly._core.engine.slices cimport work_goes_on, work_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.id_index cimport (id_ceiling, id_equal, id_increment, id_less, id_next, id_place_t, id_slot,
                                        stream_id, stream_id_t)
from dfly._core.store.stream cimport stream_cursor_t, stream_read_at, stream_t
from dfly._core.store.stream_groups cimport (claim_is_watched, claim_watch_begin, claim_watch_end, group_at,
                                             group_settle, pending_give_all, pending_remove_all, pending_t,
                                             stream_consumer_t, stream_group_t)
from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef enum:
    LIST_FIRST = 32              # room for entries


cdef void list_add(pending_list_t *self, pending_t *pending) noexcept nogil:
    if self.count == self.capacity:
        self.capacity = self.capacity * 2 if self.capacity > 0 else LIST_FIRST
        self.entries = <pending_t **>net_realloc(self.entries, self.capacity * sizeof(pending_t *))
    self.entries[self.count] = pending
    self.count += 1


cdef void claim_by_id(claim_t *self, stream_id_t start, int64_t min_idle_ms, uint64_t most, uint64_t attempts,
                      bint just_id, int64_t now_ms) noexcept nogil:
    memset(self, 0, sizeof(claim_t))
    self.next = start
    self.min_idle_ms = min_idle_ms
    self.most = most
    self.attempts = attempts
    self.just_id = just_id
    self.now_ms = now_ms


cdef void claim_by_time(claim_t *self, int64_t min_idle_ms, uint64_t most, int64_t now_ms) noexcept nogil:
    memset(self, 0, sizeof(claim_t))
    self.by_time = True
    self.min_idle_ms = min_idle_ms
    self.most = most
    self.now_ms = now_ms


cdef void claim_begin(claim_t *self, const stream_t *stream, stream_group_t *group, bint in_slices) noexcept nogil:
    group_settle(group)
    self.group = group
    self.first_id = stream.first_id
    self.epoch = stream.epoch
    if not in_slices:
        return
    self.number = claim_watch_begin(group)
    if self.by_time:
        group.claim.last = stream_id(<uint64_t>-1, <uint64_t>-1)
    else:
        group.claim.first = self.next
        group.claim.latest_ms = latest_idle(self)


# ---- Choosing ----------------------------------------------------------------------------------

cdef inline bint is_idle(const claim_t *self, const pending_t *pending) noexcept nogil:
    """For so long."""
    return self.min_idle_ms <= 0 or self.now_ms - pending.delivered_ms >= self.min_idle_ms


cdef inline int64_t latest_idle(const claim_t *self) noexcept nogil:
    return self.now_ms - self.min_idle_ms if self.min_idle_ms > 0 else INT64_MAX


cdef inline void reply_one(const claim_t *self, const pending_t *pending, reply_t *reply,
                           stream_cursor_t *cursor) noexcept nogil:
    """The entry that the cursor has read."""
    if self.just_id:
        reply_stream_id(reply, pending.id)
    elif self.by_time:
        reply_claimed_entry(reply, cursor, self.now_ms - pending.delivered_ms, pending.deliveries)
    else:
        reply_entry(reply, cursor)


cdef inline void choose(claim_t *self, pending_t *pending, stream_cursor_t *cursor) noexcept nogil:
    list_add(&self.chosen, pending)
    if self.at_once != NULL:
        reply_one(self, pending, self.at_once, cursor)


cdef bint choose_by_id(claim_t *self, const stream_t *stream, work_t *work) noexcept nogil:
    cdef stream_group_t *group = self.group
    cdef stream_cursor_t cursor
    cdef pending_t *pending
    cdef id_place_t place
    cdef bint more = id_ceiling(&group.pending, self.next, &place)
    cursor.stream = NULL
    while more and self.attempts > 0 and self.chosen.count + self.gone.count < self.most:
        if not work_goes_on(work):
            return False
        self.attempts -= 1
        pending = <pending_t *>id_slot(&group.pending, place).value
        if self.number != 0:
            group.claim.last = pending.id
        if not stream_read_at(stream, pending.id, &cursor):
            list_add(&self.gone, pending)
            if self.number != 0 and not is_idle(self, pending):
                group.claim.at_any_time = True
        elif is_idle(self, pending):
            choose(self, pending, &cursor)
        self.next = pending.id
        if not id_increment(&self.next):
            more = False
            break
        more = id_next(&group.pending, &place)
    self.next = id_slot(&group.pending, place).id if more else stream_id(0, 0)
    if not more and self.number != 0:
        group.claim.last = stream_id(<uint64_t>-1, <uint64_t>-1)
    return True


cdef bint choose_by_time(claim_t *self, const stream_t *stream, work_t *work) noexcept nogil:
    cdef stream_group_t *group = self.group
    cdef pending_t *pending = group.oldest if self.visited == NULL else self.visited.newer
    cdef stream_cursor_t cursor
    cursor.stream = NULL
    while pending != NULL and self.chosen.count < self.most and is_idle(self, pending):
        if not work_goes_on(work):
            return False
        if self.number != 0:
            group.claim.latest_ms = pending.delivered_ms
        if stream_read_at(stream, pending.id, &cursor):
            choose(self, pending, &cursor)
        else:
            list_add(&self.gone, pending)
        self.visited = pending
        pending = pending.newer
    if self.number != 0 and self.chosen.count < self.most:
        group.claim.latest_ms = latest_idle(self)
    return True


cdef bint claim_choose(claim_t *self, const stream_t *stream, work_t *work) noexcept nogil:
    if not self.is_chosen:
        self.is_chosen = choose_by_time(self, stream, work) if self.by_time else choose_by_id(self, stream, work)
    return self.is_chosen


# ---- Replying ----------------------------------------------------------------------------------

cdef bint claim_reply(claim_t *self, const stream_t *stream, reply_t *reply, work_t *work) noexcept nogil:
    cdef stream_cursor_t cursor
    cdef const pending_t *pending
    cursor.stream = NULL
    while self.replied < self.chosen.count:
        if not work_goes_on(work):
            return False
        pending = self.chosen.entries[self.replied]
        self.replied += 1
        if not self.just_id:
            stream_read_at(stream, pending.id, &cursor)
        reply_one(self, pending, reply, &cursor)
    return True


# ---- The end -----------------------------------------------------------------------------------

cdef void claim_finish(claim_t *self, stream_consumer_t *consumer, int64_t now_ms) noexcept nogil:
    claim_watch_end(self.group, self.number)
    if self.gone.count > 0:
        pending_remove_all(self.group, self.gone.entries, self.gone.count)
    if self.chosen.count > 0:
        pending_give_all(self.group, consumer, self.chosen.entries, self.chosen.count, now_ms, not self.just_id)


cdef void claim_free(claim_t *self) noexcept nogil:
    net_free(self.chosen.entries)
    net_free(self.gone.entries)
    memset(&self.chosen, 0, sizeof(pending_list_t))
    memset(&self.gone, 0, sizeof(pending_list_t))


cdef bint has_lost_pending(claim_t *self, const stream_t *stream) noexcept nogil:
    """Has the stream been trimmed of an entry that is pending?"""
    cdef stream_id_t old = self.first_id
    cdef id_place_t place
    if id_equal(old, stream.first_id):
        return False
    self.first_id = stream.first_id
    return (id_ceiling(&self.group.pending, old, &place)
            and id_less(id_slot(&self.group.pending, place).id, stream.first_id))


cdef bint has_group(const stream_t *stream, const stream_group_t *group) noexcept nogil:
    cdef uint32_t i
    for i in range(stream.groups.count):
        if group_at(&stream.groups, i) == group:
            return True
    return False


cdef bint claim_is_still(claim_t *self, const stream_t *stream) noexcept nogil:
    # Another group may be where it was; that is not watched by this number.
    return (has_group(stream, self.group) and claim_is_watched(self.group, self.number)
            and stream.epoch == self.epoch and not has_lost_pending(self, stream))
