"""Implementation of consumer groups: see stream_groups.pxd.

Invariant: each pending entry of a group is in the index of the group and in that of its consumer, and in no
other; the counts of the consumers add up to that of the group (once loading has assigned all). The list from
`oldest` to `newest` has the same entries, and times do not fall along it (once loading has sorted it).
"""

from libc.stdint cimport INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from dfly._core.store.id_index cimport (id_append_all, id_check, id_clear, id_clear_step, id_find, id_first,
                                        id_heap_bytes,
                                        id_insert, id_less, id_next, id_place_t, id_pop_last, id_remove, id_remove_run,
                                        id_slot, stream_id_t)
from dfly._core.store.pending_walk cimport (pending_walk_begin, pending_walk_detach, pending_walk_note, pending_walk_t,
                                            walked_pending_t)
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_realloc, mem_usable, mem_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, atomic_add, prefetch, slice_t, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    SORT_RUNS = 48
    DELETED_AT_ONCE = 256        # entries of a consumer
    FETCHED_AHEAD = 16           # entries
    GIVEN_AT_ONCE = 1024         # they are visited twice, while they are in the cache


cdef uint64_t births = 0         # numbers of groups, consumers and claims


# ---- Tables of names ---------------------------------------------------------------------------

cdef void *new_named(size_t struct_size, slice_t name) noexcept nogil:
    cdef named_t *self = <named_t *>mem_zalloc(struct_size + name.size)
    self.name_size = <uint32_t>name.size
    self.name_offset = <uint32_t>struct_size
    memcpy(<char *>self + struct_size, name.data, name.size)
    return self


cdef int compare_names(slice_t a, slice_t b) noexcept nogil:
    cdef int order = memcmp(a.data, b.data, min(a.size, b.size))
    if order != 0 or a.size == b.size:
        return order
    return -1 if a.size < b.size else 1


cdef bint table_seek(const name_table_t *self, slice_t name, uint32_t *out) noexcept nogil:
    """Where the name is (True), or would be."""
    cdef uint32_t low = 0
    cdef uint32_t high = self.count
    cdef uint32_t middle
    cdef int order
    while low < high:
        middle = (low + high) // 2
        order = compare_names(name_of(self.members[middle]), name)
        if order == 0:
            out[0] = middle
            return True
        if order < 0:
            low = middle + 1
        else:
            high = middle
    out[0] = low
    return False


cdef named_t *table_find(const name_table_t *self, slice_t name) noexcept nogil:
    cdef uint32_t at
    return self.members[at] if table_seek(self, name, &at) else NULL


cdef void table_insert(name_table_t *self, uint32_t at, void *member) noexcept nogil:
    if self.count == self.capacity:
        self.capacity += self.capacity // 2 + 1
        self.members = <named_t **>mem_realloc(self.members, self.capacity * sizeof(named_t *))
    memmove(&self.members[at + 1], &self.members[at], (self.count - at) * sizeof(named_t *))
    self.members[at] = <named_t *>member
    self.count += 1


cdef void table_remove(name_table_t *self, uint32_t at) noexcept nogil:
    self.count -= 1
    memmove(&self.members[at], &self.members[at + 1], (self.count - at) * sizeof(named_t *))
    if self.count == 0:
        table_clear(self)


cdef void table_clear(name_table_t *self) noexcept nogil:
    mem_free(self.members)
    memset(self, 0, sizeof(name_table_t))


# ---- Groups ------------------------------------------------------------------------------------

cdef stream_group_t *group_find(const name_table_t *groups, slice_t name) noexcept nogil:
    return <stream_group_t *>table_find(groups, name)


cdef stream_group_t *group_create(name_table_t *groups, slice_t name, stream_id_t last_id,
                                  int64_t entries_read) noexcept nogil:
    cdef stream_group_t *self
    cdef uint32_t at
    if table_seek(groups, name, &at):
        return NULL
    self = <stream_group_t *>new_named(sizeof(stream_group_t), name)
    self.birth = atomic_add(&births, 1)
    self.last_id = last_id
    self.entries_read = entries_read
    table_insert(groups, at, self)
    return self


cdef stream_group_t *group_take(name_table_t *groups, slice_t name) noexcept nogil:
    cdef stream_group_t *self
    cdef uint32_t at
    if not table_seek(groups, name, &at):
        return NULL
    self = group_at(groups, at)
    table_remove(groups, at)
    return self


cdef void group_add(name_table_t *groups, stream_group_t *group) noexcept nogil:
    cdef uint32_t at
    DFLY_CHECK(not table_seek(groups, name_of(group), &at), "a group of this name is there")
    table_insert(groups, at, group)


# ---- Consumers ---------------------------------------------------------------------------------

cdef stream_consumer_t *consumer_find(const stream_group_t *group, slice_t name) noexcept nogil:
    return <stream_consumer_t *>table_find(&group.consumers, name)


cdef stream_consumer_t *consumer_create(stream_group_t *group, slice_t name, int64_t now_ms) noexcept nogil:
    cdef stream_consumer_t *self
    cdef uint32_t at
    if table_seek(&group.consumers, name, &at):
        return NULL
    self = <stream_consumer_t *>new_named(sizeof(stream_consumer_t), name)
    self.seen_ms = now_ms
    self.active_ms = -1
    self.birth = atomic_add(&births, 1)
    table_insert(&group.consumers, at, self)
    group.changes += 1
    return self


cdef uint64_t consumer_delete(stream_group_t *group, stream_consumer_t *consumer) noexcept nogil:
    cdef uint64_t count = consumer.pending.count
    cdef uint64_t budget = DELETED_AT_ONCE
    cdef uint32_t at
    table_seek(&group.consumers, name_of(consumer), &at)
    table_remove(&group.consumers, at)
    group.changes += 1
    if count > 0:
        group.claim.number = 0
    consumer.is_gone = True
    consumer.next_gone = group.gone
    group.gone = consumer
    if count <= DELETED_AT_ONCE:
        purge_first(group, &budget)
    return count


cdef bint purge_first(stream_group_t *group, uint64_t *budget) noexcept nogil:
    """Of those that are gone; True: it is freed."""
    cdef stream_consumer_t *consumer = group.gone
    cdef pending_t *pending
    while consumer.pending.count > 0:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        pending = <pending_t *>id_pop_last(&consumer.pending)
        note_old(group, pending)
        id_remove(&group.pending, pending.id)
        unlink_run(group, pending, pending)
        mem_free(pending)
    group.gone = consumer.next_gone
    id_clear(&consumer.pending)
    mem_free(consumer)
    return True


cdef void group_purge(stream_group_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    while self.gone != NULL:
        purge_first(self, &budget)


cdef bint groups_purge_step(name_table_t *self, uint64_t *budget) noexcept nogil:
    cdef stream_group_t *group
    cdef uint32_t i
    for i in range(self.count):
        group = group_at(self, i)
        while group.gone != NULL:
            if not purge_first(group, budget):
                return False
    return True


# ---- Pending entries ---------------------------------------------------------------------------

cdef void read_pending(const void *entry, walked_pending_t *out) noexcept nogil:
    cdef const pending_t *pending = <const pending_t *>entry
    out.id = pending.id
    # One that is just being made has no consumer yet.
    out.consumer = pending.consumer.number if pending.consumer != NULL else 0
    out.delivered_ms = pending.delivered_ms
    out.deliveries = pending.deliveries


cdef inline void note_old(stream_group_t *group, const pending_t *pending) noexcept nogil:
    """Before it changes or goes."""
    cdef walked_pending_t was
    if unlikely(group.walk != NULL):
        read_pending(pending, &was)
        pending_walk_note(group.walk, &was)


cdef inline void note_new(stream_group_t *group, stream_id_t id) noexcept nogil:
    """Nothing was pending there."""
    cdef walked_pending_t was
    if unlikely(group.walk != NULL):
        memset(&was, 0, sizeof(walked_pending_t))
        was.id = id
        pending_walk_note(group.walk, &was)


cdef inline void see_change(stream_group_t *group, const pending_t *pending) noexcept nogil:
    """Of an entry, as it is before it or behind it: a claim that has seen it is no longer watched."""
    cdef const claim_watch_t *claim = &group.claim
    if unlikely(claim.number != 0) and (
            not id_less(pending.id, claim.first) and not id_less(claim.last, pending.id)
            and (claim.at_any_time or pending.delivered_ms <= claim.latest_ms)):
        group.claim.number = 0


cdef inline bint has_gone(const pending_t *self) noexcept nogil:
    return self.consumer != NULL and self.consumer.is_gone


cdef pending_t *pending_find(const stream_group_t *group, stream_id_t id) noexcept nogil:
    cdef pending_t *self = <pending_t *>id_find(&group.pending, id)
    return NULL if self == NULL or has_gone(self) else self


cdef void link_run(stream_group_t *group, pending_t *first, pending_t *last, pending_t *older) noexcept nogil:
    """One or several that follow each other, behind `older`; NULL: as the oldest."""
    first.older = older
    last.newer = group.oldest if older == NULL else older.newer
    if last.newer != NULL:
        last.newer.older = last
    else:
        group.newest = last
    if older != NULL:
        older.newer = first
    else:
        group.oldest = first


cdef void unlink_run(stream_group_t *group, pending_t *first, pending_t *last) noexcept nogil:
    if first.older != NULL:
        first.older.newer = last.newer
    else:
        group.oldest = last.newer
    if last.newer != NULL:
        last.newer.older = first.older
    else:
        group.newest = first.older


cdef pending_t *older_than(const stream_group_t *group, int64_t delivered_ms) noexcept nogil:
    """The last one that was delivered no later; NULL: none."""
    cdef pending_t *older = group.newest
    if group.oldest != NULL and delivered_ms < group.oldest.delivered_ms:
        return NULL
    while older != NULL and older.delivered_ms > delivered_ms:
        older = older.older
    return older


cdef void link_by_time(stream_group_t *group, pending_t *self) noexcept nogil:
    link_run(group, self, self, older_than(group, self.delivered_ms))


cdef pending_t *pending_load(stream_group_t *group, stream_id_t id, int64_t delivered_ms,
                             uint64_t deliveries) noexcept nogil:
    cdef pending_t *self = <pending_t *>mem_alloc(sizeof(pending_t))
    if not id_insert(&group.pending, id, self):
        if group.gone == NULL or pending_find(group, id) != NULL:
            mem_free(self)
            return NULL
        pending_remove(group, id)
        id_insert(&group.pending, id, self)
    self.consumer = NULL
    self.id = id
    self.delivered_ms = delivered_ms
    self.deliveries = deliveries
    link_run(group, self, self, group.newest)
    note_new(group, id)
    see_change(group, self)
    group.changes += 1
    return self


cdef pending_t *pending_create(stream_group_t *group, stream_id_t id, int64_t delivered_ms,
                               uint64_t deliveries) noexcept nogil:
    cdef pending_t *self = pending_load(group, id, delivered_ms, deliveries)
    if self != NULL:
        pending_date(group, self, delivered_ms)
    return self


cdef void pending_date(stream_group_t *group, pending_t *self, int64_t delivered_ms) noexcept nogil:
    note_old(group, self)
    see_change(group, self)
    unlink_run(group, self, self)
    self.delivered_ms = delivered_ms
    link_by_time(group, self)
    see_change(group, self)
    group.changes += 1


cdef struct redelivery_t:
    # Of many entries at one time: neighbours move as one.
    stream_group_t *group
    pending_t *first             # of a run that is to be moved
    pending_t *last              # NULL: there is none
    int64_t now_ms


cdef void redelivery_flush(redelivery_t *self) noexcept nogil:
    if self.last != NULL:
        unlink_run(self.group, self.first, self.last)
        link_run(self.group, self.first, self.last, older_than(self.group, self.now_ms))
        self.last = NULL


cdef inline void redeliver(redelivery_t *self, pending_t *pending, uint64_t deliveries) noexcept nogil:
    if self.last != NULL and self.last.newer != pending:
        redelivery_flush(self)
    if self.last == NULL:
        self.first = pending
    self.last = pending
    note_old(self.group, pending)
    see_change(self.group, pending)
    pending.delivered_ms = self.now_ms
    pending.deliveries += deliveries


cdef void pending_deliver_again(stream_group_t *group, const stream_consumer_t *consumer, id_place_t place,
                                uint64_t count, const uint8_t *chosen, int64_t now_ms) noexcept nogil:
    cdef redelivery_t redelivery
    cdef pending_t *pending
    cdef uint64_t i
    redelivery.group = group
    redelivery.last = NULL
    redelivery.now_ms = now_ms
    for i in range(count):
        pending = <pending_t *>id_slot(&consumer.pending, place).value
        id_next(&consumer.pending, &place)
        if chosen[i // 8] >> (i % 8) & 1:
            redeliver(&redelivery, pending, 1)
    redelivery_flush(&redelivery)
    group.changes += 1


cdef inline void fetch_ahead(pending_t **entries, uint64_t i, uint64_t count) noexcept nogil:
    if i + FETCHED_AHEAD < count:
        prefetch(entries[i + FETCHED_AHEAD])


cdef void assign_all(pending_t **entries, uint64_t count, stream_consumer_t *consumer) noexcept nogil:
    cdef stream_consumer_t *other
    cdef uint64_t end
    cdef uint64_t i = 0
    while i < count:
        other = entries[i].consumer
        if other == consumer:
            i += 1
            continue
        end = i + id_remove_run(&other.pending, entries[i].id, <void *const *>(entries + i), count - i)
        other.moves += 1
        while i < end:
            entries[i].consumer = consumer
            id_insert(&consumer.pending, entries[i].id, entries[i])
            i += 1
    consumer.moves += 1


cdef void pending_give_all(stream_group_t *group, stream_consumer_t *consumer, pending_t **entries, uint64_t count,
                           int64_t now_ms, uint64_t deliveries) noexcept nogil:
    cdef redelivery_t redelivery
    cdef uint64_t begin = 0
    cdef uint64_t end
    cdef uint64_t i
    redelivery.group = group
    redelivery.last = NULL
    redelivery.now_ms = now_ms
    while begin < count:
        end = min(count, begin + GIVEN_AT_ONCE)
        for i in range(begin, end):
            fetch_ahead(entries, i, count)
            redeliver(&redelivery, entries[i], deliveries)
        assign_all(entries + begin, end - begin, consumer)
        begin = end
    redelivery_flush(&redelivery)
    group.changes += 1


cdef void pending_remove_all(stream_group_t *group, pending_t **entries, uint64_t count) noexcept nogil:
    cdef uint64_t end
    cdef uint64_t i = 0
    cdef uint64_t k
    for i in range(count):
        note_old(group, entries[i])
    i = 0
    while i < count:
        end = i + id_remove_run(&group.pending, entries[i].id, <void *const *>(entries + i),
                                min(count - i, <uint64_t>GIVEN_AT_ONCE))
        k = i
        while k < end:
            entries[k].consumer.moves += 1
            k += id_remove_run(&entries[k].consumer.pending, entries[k].id, <void *const *>(entries + k), end - k)
        while i < end:
            fetch_ahead(entries, i, count)
            see_change(group, entries[i])
            unlink_run(group, entries[i], entries[i])
            mem_free(entries[i])
            i += 1
    group.changes += 1


cdef pending_t *merge_by_time(pending_t *a, pending_t *b) noexcept nogil:
    """Of two lists along `newer`; what is in a comes first among equals."""
    cdef pending_t *first = NULL
    cdef pending_t **last = &first
    while a != NULL and b != NULL:
        if b.delivered_ms < a.delivered_ms:
            last[0] = b
            b = b.newer
        else:
            last[0] = a
            a = a.newer
        last = &last[0].newer
    last[0] = a if a != NULL else b
    return first


cdef pending_t *cut_run(pending_t *first) noexcept nogil:
    """The list up to where times fall ends there; returns the rest."""
    cdef pending_t *rest
    while first.newer != NULL and first.newer.delivered_ms >= first.delivered_ms:
        first = first.newer
    rest = first.newer
    first.newer = NULL
    return rest


cdef void group_sort_pending(stream_group_t *group) noexcept nogil:
    """Merges natural runs, as many of them at a time (Knuth, The Art of Computer Programming 3, 5.2.4)."""
    cdef pending_t *runs[SORT_RUNS]      # runs[i]: NULL, or 2^i runs that are merged
    cdef pending_t *run
    cdef pending_t *rest = group.oldest
    cdef pending_t *older = NULL
    cdef uint32_t i
    memset(runs, 0, sizeof(runs))
    while rest != NULL:
        run = rest
        rest = cut_run(rest)
        i = 0
        while runs[i] != NULL:
            run = merge_by_time(runs[i], run)
            runs[i] = NULL
            i += 1
        runs[i] = run
    run = NULL
    for i in range(SORT_RUNS):
        run = merge_by_time(runs[i], run)
    group.oldest = run
    while run != NULL:
        run.older = older
        older = run
        run = run.newer
    group.newest = older


cdef inline void take_from_consumer(pending_t *self, stream_id_t id) noexcept nogil:
    id_remove(&self.consumer.pending, id)
    self.consumer.moves += 1


cdef void pending_assign(pending_t *self, stream_id_t id, stream_consumer_t *consumer) noexcept nogil:
    if self.consumer == consumer:
        return
    if self.consumer != NULL:
        take_from_consumer(self, id)
    self.consumer = consumer
    id_insert(&consumer.pending, id, self)
    consumer.moves += 1


cdef void pending_deliver(stream_group_t *group, stream_consumer_t *consumer, stream_id_t id,
                          int64_t now_ms) noexcept nogil:
    cdef pending_t *self = pending_create(group, id, now_ms, 1)
    if self == NULL:
        # Possible after XGROUP SETID.
        self = pending_find(group, id)
        pending_date(group, self, now_ms)
        self.deliveries = 1
    pending_assign(self, id, consumer)


cdef bint pending_remove(stream_group_t *group, stream_id_t id) noexcept nogil:
    cdef pending_t *self = <pending_t *>id_remove(&group.pending, id)
    cdef bint was_gone
    if self == NULL:
        return False
    was_gone = has_gone(self)
    note_old(group, self)
    see_change(group, self)
    if self.consumer != NULL:
        take_from_consumer(self, id)
    unlink_run(group, self, self)
    mem_free(self)
    group.changes += 1
    return not was_gone


# ---- Claims that are made aside -----------------------------------------------------------------

cdef uint64_t claim_watch_begin(stream_group_t *group) noexcept nogil:
    memset(&group.claim, 0, sizeof(claim_watch_t))
    # Nothing is pending that early.
    group.claim.latest_ms = INT64_MIN
    group.claim.number = atomic_add(&births, 1)
    return group.claim.number


cdef void claim_watch_end(stream_group_t *group, uint64_t number) noexcept nogil:
    if group.claim.number == number:
        group.claim.number = 0


# ---- Walks ---------------------------------------------------------------------------------------

cdef void group_walk_begin(stream_group_t *group, pending_walk_t *walk, const void *owner) noexcept nogil:
    cdef stream_consumer_t *gone = group.gone
    cdef uint32_t i
    for i in range(group.consumers.count):
        consumer_at(group, i).number = i + 1
    while gone != NULL:
        gone.number = 0
        gone = gone.next_gone
    pending_walk_begin(walk, &group.walk, &group.pending, read_pending, group_pending_count(group), owner)


cdef const void *groups_walk_owner(const name_table_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.count):
        if group_at(self, i).walk != NULL:
            return group_at(self, i).walk.owner
    return NULL


cdef void groups_detach_walks(name_table_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.count):
        if group_at(self, i).walk != NULL:
            pending_walk_detach(group_at(self, i).walk)


# ---- Batches -----------------------------------------------------------------------------------

cdef stream_group_t *batch_new(const stream_group_t *group) noexcept nogil:
    cdef stream_group_t *self
    cdef slice_t name
    name.data = ""
    name.size = 0
    self = <stream_group_t *>new_named(sizeof(stream_group_t), name)
    self.last_id = group.last_id
    self.entries_read = group.entries_read
    consumer_create(self, name, 0)
    return self


cdef void batch_add(stream_group_t *self, stream_consumer_t *consumer, stream_id_t id, int64_t now_ms) noexcept nogil:
    cdef pending_t *pending = pending_load(self, id, now_ms, 1)
    pending.consumer = consumer
    id_insert(&consumer_at(self, 0).pending, id, pending)


cdef void note_batch(stream_group_t *group, const stream_group_t *batch) noexcept nogil:
    """Its entries may be where others were when a walk began."""
    cdef id_place_t place
    cdef stream_id_t id
    cdef bint more = group.walk != NULL and id_first(&batch.pending, &place)
    while more:
        id = id_slot(&batch.pending, place).id
        if id_less(group.walk.last, id):
            return
        note_new(group, id)
        more = id_next(&batch.pending, &place)


cdef void batch_deliver(stream_group_t *group, stream_consumer_t *consumer, stream_group_t *self) noexcept nogil:
    cdef stream_consumer_t *its_consumer = consumer_at(self, 0)
    if self.oldest != NULL:
        link_run(group, self.oldest, self.newest, older_than(group, self.oldest.delivered_ms))
        see_change(group, self.oldest)
        note_batch(group, self)
    id_append_all(&group.pending, &self.pending)
    id_append_all(&consumer.pending, &its_consumer.pending)
    consumer.moves += 1
    group.last_id = self.last_id
    group.entries_read = self.entries_read
    group.changes += 1
    table_clear(&self.consumers)
    mem_free(its_consumer)
    mem_free(self)


# ---- Whole tables ------------------------------------------------------------------------------

cdef stream_group_t *dup_group_begin(const stream_group_t *self, name_table_t *out) noexcept nogil:
    """All but what is pending."""
    cdef stream_group_t *copy = group_create(out, name_of(self), self.last_id, self.entries_read)
    cdef const stream_consumer_t *consumer
    cdef uint32_t i
    for i in range(self.consumers.count):
        consumer = consumer_at(self, i)
        consumer_create(copy, name_of(consumer), consumer.seen_ms).active_ms = consumer.active_ms
    return copy


cdef bint dup_group_step(const stream_group_t *self, stream_group_t *copy, uint64_t *budget) noexcept nogil:
    """Along the list by time; the last one that is copied says where it goes on."""
    cdef const stream_consumer_t *consumer = NULL
    cdef stream_consumer_t *consumer_copy = NULL
    cdef const pending_t *pending
    cdef pending_t *pending_copy
    while self.gone != NULL:
        if not purge_first(<stream_group_t *>self, budget):
            return False
    pending = self.oldest
    if copy.newest != NULL:
        pending = (<const pending_t *>id_find(&self.pending, copy.newest.id)).newer
    while pending != NULL:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        if pending.consumer != consumer:
            consumer = pending.consumer
            consumer_copy = consumer_find(copy, name_of(consumer))
        pending_copy = pending_load(copy, pending.id, pending.delivered_ms, pending.deliveries)
        pending_copy.consumer = consumer_copy
        id_insert(&consumer_copy.pending, pending.id, pending_copy)
        pending = pending.newer
    return True


cdef bint groups_dup_step(const name_table_t *self, name_table_t *out, uint64_t *budget) noexcept nogil:
    cdef stream_group_t *copy
    while True:
        if out.count > 0:
            copy = group_at(out, out.count - 1)
            if not dup_group_step(group_at(self, out.count - 1), copy, budget):
                return False
        if out.count == self.count:
            return True
        dup_group_begin(group_at(self, out.count), out)


cdef uint64_t groups_mark(const name_table_t *self, uint64_t mark) noexcept nogil:
    cdef const stream_group_t *group
    cdef uint32_t i
    for i in range(self.count):
        group = group_at(self, i)
        mark = mark_mix(mark_mix(mark, group.birth), group.changes)
        mark = mark_mix(mark_mix(mark_mix(mark, group.last_id.ms), group.last_id.seq), <uint64_t>group.entries_read)
    return mark_mix(mark, self.count)


cdef bint free_group_step(stream_group_t *self, uint64_t *budget) noexcept nogil:
    cdef stream_consumer_t *consumer
    if self.walk != NULL:
        # A few entries: what is larger is kept for it (engine/database, drop_value).
        pending_walk_detach(self.walk)
    while self.pending.count > 0:
        if budget[0] == 0:
            return False
        budget[0] -= 1
        mem_free(id_pop_last(&self.pending))
    while self.gone != NULL:
        consumer = self.gone
        if not id_clear_step(&consumer.pending, budget) or budget[0] == 0:
            return False
        budget[0] -= 1
        self.gone = consumer.next_gone
        mem_free(consumer)
    while self.consumers.count > 0:
        consumer = consumer_at(self, self.consumers.count - 1)
        if not id_clear_step(&consumer.pending, budget) or budget[0] == 0:
            return False
        budget[0] -= 1
        self.consumers.count -= 1
        mem_free(consumer)
    mem_free(self.consumers.members)
    mem_free(self)
    return True


cdef bint groups_free_step(name_table_t *self, uint64_t *budget) noexcept nogil:
    while self.count > 0:
        if budget[0] == 0 or not free_group_step(group_at(self, self.count - 1), budget):
            return False
        self.count -= 1
        budget[0] -= 1 if budget[0] > 0 else 0
    table_clear(self)
    return True


cdef uint64_t groups_block_count(const name_table_t *self) noexcept nogil:
    cdef uint64_t total = self.count
    cdef uint32_t i
    for i in range(self.count):
        total += group_at(self, i).pending.count + group_at(self, i).consumers.count
    return total


cdef size_t table_heap_bytes(const name_table_t *self) noexcept nogil:
    return mem_usable(self.members) if self.members != NULL else 0


cdef size_t groups_heap_bytes(const name_table_t *self) noexcept nogil:
    cdef const stream_group_t *group
    cdef id_place_t place
    cdef size_t total = table_heap_bytes(self)
    cdef uint32_t i
    cdef uint32_t j
    for i in range(self.count):
        group = group_at(self, i)
        total += mem_usable(group) + id_heap_bytes(&group.pending) + table_heap_bytes(&group.consumers)
        if id_first(&group.pending, &place):
            # All are of one size.
            total += group.pending.count * mem_usable(id_slot(&group.pending, place).value)
        for j in range(group.consumers.count):
            total += mem_usable(consumer_at(group, j)) + id_heap_bytes(&consumer_at(group, j).pending)
    return total


cdef void check_group(const stream_group_t *self) noexcept nogil:
    cdef const pending_t *pending = self.oldest
    cdef const pending_t *older = NULL
    cdef const stream_consumer_t *gone
    cdef id_place_t place
    cdef uint64_t total = 0
    cdef uint32_t i
    cdef bint more
    while pending != NULL:
        DFLY_CHECK(pending.older == older and (older == NULL or older.delivered_ms <= pending.delivered_ms)
                   and id_find(&self.pending, pending.id) == pending, "the list is by time, of what is pending")
        total += 1
        older = pending
        pending = pending.newer
    DFLY_CHECK(total == self.pending.count and self.newest == older, "the list has all that is pending")
    total = 0
    id_check(&self.pending)
    for i in range(self.consumers.count):
        id_check(&consumer_at(self, i).pending)
        total += consumer_at(self, i).pending.count
        DFLY_CHECK(i == 0 or compare_names(name_of(self.consumers.members[i - 1]),
                                           name_of(self.consumers.members[i])) < 0, "names rise")
    gone = self.gone
    while gone != NULL:
        DFLY_CHECK(gone.is_gone, "what is gone is marked")
        id_check(&gone.pending)
        total += gone.pending.count
        gone = gone.next_gone
    DFLY_CHECK(total == self.pending.count, "each pending entry has one consumer")
    more = id_first(&self.pending, &place)
    while more:
        pending = <const pending_t *>id_slot(&self.pending, place).value
        DFLY_CHECK(pending.consumer != NULL and id_find(&pending.consumer.pending,
                                                        id_slot(&self.pending, place).id) == pending,
                   "a consumer has what it is given")
        more = id_next(&self.pending, &place)


cdef void groups_check(const name_table_t *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.count):
        DFLY_CHECK(i == 0 or compare_names(name_of(self.members[i - 1]), name_of(self.members[i])) < 0,
                   "names rise")
        check_group(group_at(self, i))
