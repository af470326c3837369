"""Transactions in slices: see slices.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport TRANSACTION_DONE
from dfly._core.engine.database cimport find_peek
from dfly._core.engine.listeners cimport listener_add, listener_remove
from dfly._core.engine.pattern_listeners cimport pattern_listener_add, pattern_listener_remove, pattern_listener_t
from dfly._core.engine.shard cimport scope_t, shard_close_books, shard_open_books, shard_t
from dfly._core.engine.transaction cimport hop_on_keys, hop_on_shard, transaction_interrupt, transaction_scope
from dfly._core.resp.reply cimport REPLY_CHUNK, reply_chain_free, reply_chain_take, reply_reset
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.merge_sort cimport merge_sort_is_done, merge_sort_step
from dfly._core.store.object cimport object_next_member_deadline
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load, atomic_store, likely, unlikely
from dfly._core.sys.clock cimport monotonic_us

__abi__ = DFLY_ABI_STAMP

cdef enum:
    ATTEMPTS_MAX = 3
    SLICE_US = 500
    STEPS_A_LOOK = 32            # at the clock
    SORTED_A_STEP = 16


cdef bint is_wanted(const slices_t *self, const transaction_t *tx, uint64_t elements) noexcept nogil:
    return (elements > <uint64_t>tx.shards[0].settings.slice_elements and not tx.is_inside
            and self.attempts < ATTEMPTS_MAX)


cdef void listen(slices_t *self, transaction_t *tx, uint32_t first_key) noexcept nogil:
    cdef listener_t *listener
    cdef uint32_t i
    self.is_changed = 0
    self.first_key = first_key
    self.listeners = <listener_t *>net_zalloc((tx.key_count - first_key) * sizeof(listener_t))
    for i in range(first_key, tx.key_count):
        listener = &self.listeners[i - first_key]
        listener.owner = self
        listener.signal = &self.is_changed
        listener_add(&tx.shards[tx.key_shards[i]].watched, tx.caller.database_index, &tx.keys[i], listener)
    if self.pattern_count > 0:
        listen_to_patterns(self, tx)


cdef void listen_to_patterns(slices_t *self, transaction_t *tx) noexcept nogil:
    cdef pattern_listener_t *listener
    cdef uint32_t i
    self.pattern_listeners = <pattern_listener_t *>net_zalloc(
        self.pattern_count * tx.shard_count * sizeof(pattern_listener_t))
    for i in range(self.pattern_count * tx.shard_count):
        listener = &self.pattern_listeners[i]
        listener.pattern = self.patterns[i // tx.shard_count]
        listener.database = tx.caller.database_index
        listener.signal = &self.is_changed
        pattern_listener_add(&tx.shards[i % tx.shard_count].patterns, listener)


cdef void end_listening_to_patterns(slices_t *self, transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(self.pattern_count * tx.shard_count):
        pattern_listener_remove(&tx.shards[i % tx.shard_count].patterns, &self.pattern_listeners[i])
    net_free(self.pattern_listeners)
    self.pattern_listeners = NULL


cdef void end_listening(slices_t *self, transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    if self.listeners == NULL:
        return
    for i in range(self.first_key, tx.key_count):
        listener_remove(&tx.shards[tx.key_shards[i]].watched, &self.listeners[i - self.first_key])
    net_free(self.listeners)
    self.listeners = NULL
    if self.pattern_listeners != NULL:
        end_listening_to_patterns(self, tx)


cdef void slices_work(const slices_t *self, const transaction_t *tx, work_t *out) noexcept nogil:
    work_all(out)
    if self.listeners != NULL:
        out.more = <uint64_t>tx.shards[0].settings.slice_elements
        out.left = min(out.more, <uint64_t>STEPS_A_LOOK)
        out.more -= out.left
        out.deadline_us = monotonic_us() + SLICE_US


cdef void work_all(work_t *out) noexcept nogil:
    out.deadline_us = 0
    out.more = 0
    out.left = <uint64_t>-1


cdef bint work_look(work_t *self) noexcept nogil:
    if self.more == 0 or monotonic_us() >= self.deadline_us:
        return False
    self.left = min(self.more, <uint64_t>STEPS_A_LOOK)
    self.more -= self.left
    self.left -= 1
    return True


cdef bint work_sort(work_t *self, merge_sort_t *sort) noexcept nogil:
    cdef uint64_t budget
    while not merge_sort_is_done(sort):
        if not work_goes_on(self):
            return False
        budget = SORTED_A_STEP
        merge_sort_step(sort, &budget)
    return True


cdef bint slices_changed(slices_t *self) noexcept nogil:
    if likely(atomic_load(&self.is_changed) == 0):
        return False
    atomic_store(&self.is_changed, 0)
    return True


cdef void slices_ignore_changes(slices_t *self) noexcept nogil:
    atomic_store(&self.is_changed, 0)


cdef bint has_due(transaction_t *tx, uint32_t position) noexcept nogil:
    """A key that is due goes here, which its listener hears."""
    cdef shard_t *shard = tx.shards[tx.key_shards[position]]
    cdef int64_t due = -1
    cdef dash_ref_t ref
    cdef scope_t scope
    shard_open_books(shard)
    transaction_scope(tx, shard, &scope)
    if find_peek(&scope, &tx.keys[position], &ref):
        due = object_next_member_deadline(&ref.entry.value)
    shard_close_books(shard)
    return 0 <= due <= tx.now_ms


cdef bint may_go_on(slices_t *self, transaction_t *tx) noexcept nogil:
    """False: a source has changed, or a member of one is due."""
    cdef bint is_due = False
    cdef uint32_t i
    tx.now_ms = tx.origin.now_ms
    for i in range(self.first_key, tx.key_count):
        is_due = has_due(tx, i) or is_due
    return not is_due and (self.looks_itself or atomic_load(&self.is_changed) == 0)


cdef int drop_work(slices_t *self, transaction_t *tx, const slices_plan_t *plan) noexcept nogil:
    end_listening(self, tx)
    self.attempts += 1
    self.is_stale = False
    tx.stage = SLICES_DROPPED
    return hop_on_shard(tx, tx.key_shards[0], plan.drop)


# ---- Stages --------------------------------------------------------------------------------------

cdef int slices_look(transaction_t *tx, const slices_plan_t *plan) noexcept nogil:
    tx.stage = SLICES_LOOKED
    return hop_on_keys(tx, plan.look)


cdef int go_to_work(transaction_t *tx, const slices_plan_t *plan) noexcept nogil:
    tx.stage = SLICES_WORKED
    return hop_on_shard(tx, tx.key_shards[0], plan.work)


cdef int slices_first(slices_t *self, transaction_t *tx, uint64_t elements, uint32_t first_key,
                      const slices_plan_t *plan) noexcept nogil:
    if unlikely(is_wanted(self, tx, elements)):
        listen(self, tx, first_key)
    return go_to_work(tx, plan)


cdef int slices_next(slices_t *self, transaction_t *tx, bint is_done, const slices_plan_t *plan) noexcept nogil:
    if tx.stage == SLICES_WORKED:
        if unlikely(self.is_stale):
            return drop_work(self, tx, plan)
        if is_done:
            end_listening(self, tx)
            return TRANSACTION_DONE
        tx.stage = SLICES_PAUSED
        if tx.reply.size >= REPLY_CHUNK:
            reply_chain_take(&tx.chain, &tx.reply, False)
        return transaction_interrupt(tx)
    if tx.stage == SLICES_DROPPED:
        reply_reset(&tx.reply)
        reply_chain_free(&tx.chain)
        return slices_look(tx, plan)
    if may_go_on(self, tx):
        return go_to_work(tx, plan)
    return drop_work(self, tx, plan)
