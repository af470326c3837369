"""Implementation of waiting: see blocking.pxd."""

from libc.stdint cimport int64_t, uint32_t

from dfly._core.engine.command cimport TRANSACTION_DONE, TRANSACTION_WAIT
from dfly._core.engine.listeners cimport listener_add, listeners_mark_ready
from dfly._core.engine.server_state cimport executor_of
from dfly._core.engine.shard cimport shard_submit, shard_t
from dfly._core.engine.transaction cimport (transaction_own_arguments, transaction_release,
                                            transaction_restart, transaction_resume)
from dfly._core.engine.waiter cimport (WAITER_ENDED, WAITER_WAITING, WAITER_WOKEN, serve_shard_waiters,
                                       waiter_claim, waiter_forget, waiter_release, waiter_t,
                                       waiting_key_t)
from dfly._core.loop.mailbox cimport message_t
from dfly._core.loop.proactor cimport proactor_post, proactor_t
from dfly._core.loop.timer cimport timer_start, timer_stop, timer_t
from dfly._core.net.connection cimport connection_queue_flush
from dfly._core.resp.reply cimport reply_error
from dfly._core.sys.alloc cimport net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load, atomic_store, cycle_ticks
from dfly._core.sys.clock cimport wall_ms

__abi__ = DFLY_ABI_STAMP

cdef enum:
    UNBLOCK_TIMEOUT = 1
    UNBLOCK_ERROR = 2


cdef inline waiter_t *waiter_of(const connection_t *connection) noexcept nogil:
    return <waiter_t *>connection.waiter


cdef inline bint is_gone(const connection_t *connection) noexcept nogil:
    return connection.is_closed or connection.stream.is_closing


# ---- How a wait ends ---------------------------------------------------------------------------

cdef void leave_table(message_t *message, void *context) noexcept nogil:
    """Under the token of the entry's shard."""
    cdef waiting_key_t *entry = <waiting_key_t *>message
    cdef shard_t *shard = <shard_t *>context
    cdef int64_t now_ms = entry.waiter.now_ms
    # Who came later has left this one the first try.
    if entry.waiter.was_woken:
        listeners_mark_ready(&shard.blocked, entry.listener.key)
    waiter_forget(entry, shard)
    if shard.blocked.ready_first != NULL:
        serve_shard_waiters(shard, now_ms)


cdef void end_wait(waiter_t *self) noexcept nogil:
    """The transaction no longer waits; its entries leave the tables."""
    cdef transaction_t *tx = self.tx
    cdef waiting_key_t *entry
    cdef uint32_t i
    tx.connection.waiter = NULL
    tx.connection.is_blocked = False
    tx.on_done = self.on_done
    # The time spent waiting is not the command's.
    tx.started_ticks = cycle_ticks() - self.active_ticks
    self.now_ms = tx.origin.now_ms
    timer_stop(&tx.origin.timers, &self.timer)
    timer_stop(&tx.origin.timers, &self.try_timer)
    executor_of(tx.connection).blocked_count -= 1
    for i in range(self.key_count):
        entry = &self.keys[i]
        # Who served it has taken it off the tables whose tokens he held.
        if entry.listener.key != NULL:
            entry.message.run = leave_table
            shard_submit(tx.shards[entry.shard], &entry.message)
    waiter_release(self)


cdef void finish(transaction_t *tx) noexcept nogil:
    end_wait(waiter_of(tx.connection))
    tx.on_done(tx)


cdef void on_served(message_t *message, void *context) noexcept nogil:
    cdef waiter_t *self = <waiter_t *>message
    cdef transaction_t *tx = self.tx
    if is_gone(tx.connection) and self.rules.undo != NULL:
        tx.step = self.rules.undo
        transaction_restart(tx)
        transaction_resume(tx)
        return
    finish(tx)


cdef void on_woken(message_t *message, void *context) noexcept nogil:
    cdef waiter_t *self = <waiter_t *>message
    self.was_woken = True
    self.tx.now_ms = self.tx.origin.now_ms
    transaction_restart(self.tx)
    transaction_resume(self.tx)


cdef void on_unblocked(message_t *message, void *context) noexcept nogil:
    finish((<waiter_t *>message).tx)


cdef void on_timeout(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef waiter_t *self = <waiter_t *>timer.context
    # If it is woken, its next try looks at the deadline.
    if waiter_claim(self, WAITER_ENDED):
        self.rules.reply_nothing(self.tx)
        finish(self.tx)


cdef void on_try_time(timer_t *timer, int64_t now_us) noexcept nogil:
    cdef waiter_t *self = <waiter_t *>timer.context
    if waiter_claim(self, WAITER_WOKEN):
        on_woken(&self.message, NULL)


cdef void blocking_on_close(connection_t *connection) noexcept nogil:
    cdef waiter_t *self = waiter_of(connection)
    # If it is claimed or woken, a message is on its way and finds the connection closed.
    if self != NULL and waiter_claim(self, WAITER_ENDED):
        finish(self.tx)


cdef void reply_unblocked(waiter_t *self, int reason) noexcept nogil:
    if reason == UNBLOCK_ERROR:
        reply_error(&self.tx.reply, "UNBLOCKED client unblocked via CLIENT UNBLOCK")
    else:
        self.rules.reply_nothing(self.tx)


cdef bint blocking_unblock(connection_t *connection, bint with_error) noexcept nogil:
    cdef waiter_t *self = waiter_of(connection)
    cdef int reason = UNBLOCK_ERROR if with_error else UNBLOCK_TIMEOUT
    if self == NULL:
        return False
    if waiter_claim(self, WAITER_ENDED):
        reply_unblocked(self, reason)
        # Not now: we are in the middle of another connection's batch.
        self.message.run = on_unblocked
        proactor_post(self.tx.origin, &self.message)
        return True
    if atomic_load(&self.state) != WAITER_WOKEN or self.unblock != 0:
        return False
    self.unblock = reason
    return True


cdef bint blocking_is_over(const transaction_t *tx) noexcept nogil:
    return tx.outer == NULL and is_gone(tx.connection)


# ---- How it begins -----------------------------------------------------------------------------

cdef int wait_on(waiter_t *self) noexcept nogil:
    """It was woken and found nothing."""
    cdef transaction_t *tx = self.tx
    if self.unblock != 0:
        reply_unblocked(self, self.unblock)
        return TRANSACTION_DONE
    if self.deadline_us != 0 and self.deadline_us <= tx.origin.now_us:
        self.rules.reply_nothing(tx)
        return TRANSACTION_DONE
    atomic_store(&self.state, WAITER_WAITING)
    transaction_release(tx)
    return TRANSACTION_WAIT


cdef waiter_t *new_waiter(transaction_t *tx, uint32_t key_count) noexcept nogil:
    cdef waiter_t *self = <waiter_t *>net_zalloc(sizeof(waiter_t) + key_count * sizeof(waiting_key_t))
    self.keys = <waiting_key_t *>(self + 1)
    self.key_count = key_count
    self.references = key_count + 1
    self.tx = tx
    self.on_done = tx.on_done
    self.on_served = on_served
    self.on_woken = on_woken
    self.fd = tx.connection.stream.fd
    self.database_index = tx.caller.database_index
    self.active_ticks = cycle_ticks() - tx.started_ticks
    self.timer.fire = on_timeout
    self.timer.context = self
    self.try_timer.fire = on_try_time
    self.try_timer.context = self
    return self


cdef int blocking_wait(transaction_t *tx, uint32_t key_count, uint32_t other_shard, int64_t timeout_ms,
                       const waiting_rules_t *rules) noexcept nogil:
    cdef waiter_t *self
    cdef waiting_key_t *entry
    cdef uint32_t i
    if tx.outer != NULL:
        rules.reply_nothing(tx)
        return TRANSACTION_DONE
    if tx.connection.waiter != NULL:
        return wait_on(waiter_of(tx.connection))
    # It may have gone while the transaction waited for its tokens.
    if is_gone(tx.connection):
        return TRANSACTION_DONE
    if tx.connection.is_peer_done:
        connection_queue_flush(tx.connection)
    self = new_waiter(tx, key_count)
    self.rules = rules
    self.other_shard = other_shard
    if rules.keeps_state:
        self.wanted = tx.state
        tx.state = NULL
    if timeout_ms != 0:
        self.deadline_us = tx.origin.now_us + 1000 * timeout_ms
        timer_start(&tx.origin.timers, &self.timer, self.deadline_us)
    tx.on_done = finish
    tx.connection.waiter = self
    tx.connection.is_blocked = True
    executor_of(tx.connection).blocked_count += 1
    # Who serves it may be another thread, as soon as the tokens are back.
    transaction_own_arguments(tx)
    for i in range(key_count):
        entry = &self.keys[i]
        entry.waiter = self
        entry.shard = tx.key_shards[i]
        entry.listener.owner = entry
        listener_add(&tx.shards[entry.shard].blocked, tx.caller.database_index, &tx.keys[i], &entry.listener)
    transaction_release(tx)
    return TRANSACTION_WAIT


cdef void blocking_try_at(transaction_t *tx, int64_t at_ms) noexcept nogil:
    cdef proactor_t *proactor = tx.origin
    cdef int64_t delay_ms = max(at_ms - wall_ms(), <int64_t>1)
    timer_start(&proactor.timers, &waiter_of(tx.connection).try_timer, proactor.now_us + 1000 * delay_ms)
