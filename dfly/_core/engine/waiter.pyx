"""Implementation of serving waiters: see waiter.pxd for the rules."""

from libc.string cimport memcpy

from dfly._core.engine.database cimport find_peek
from dfly._core.engine.listeners cimport (listened_key_of, listened_key_t, listener_remove, listener_t,
                                          listeners_done_ready, listeners_take_ready)
from dfly._core.engine.shard cimport (scope_t, shard_close_books, shard_database, shard_open_books,
                                      shard_try_lock, shard_unlock)
from dfly._core.loop.proactor cimport proactor_post
from dfly._core.net.posix cimport peer_has_hung_up
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.object cimport key_t
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_cas, atomic_load, atomic_sub

__abi__ = DFLY_ABI_STAMP

cdef enum:
    TRIES = 50                   # for the token of another shard

cdef enum look_t:
    LOOK_ABSENT = 0              # nobody can be served by this key
    LOOK_REFUSED = 1             # not this waiter
    LOOK_ACCEPTED = 2

cdef struct held_tokens_t:
    # The caller's, then those that serving took.
    shard_t **shards
    uint32_t *indexes
    uint32_t count
    int64_t now_ms


cdef bint is_held(const held_tokens_t *held, uint32_t index) noexcept nogil:
    cdef uint32_t i
    for i in range(held.count):
        if held.indexes[i] == index:
            return True
    return False


cdef bint take_another(held_tokens_t *held, uint32_t index) noexcept nogil:
    # Only tried, never waited for: it may be smaller than one we hold.
    if is_held(held, index):
        return True
    for _ in range(TRIES):
        if shard_try_lock(held.shards[index]):
            held.indexes[held.count] = index
            held.count += 1
            return True
    return False


cdef bint waiter_claim(waiter_t *self, waiter_state_t state) noexcept nogil:
    return atomic_cas(&self.state, WAITER_WAITING, state)


cdef void waiter_release(waiter_t *self) noexcept nogil:
    if atomic_sub(&self.references, 1) == 0:
        net_free(self.wanted)
        net_free(self)


cdef void waiter_forget(waiting_key_t *entry, shard_t *shard) noexcept nogil:
    if entry.listener.key != NULL:
        listener_remove(&shard.blocked, &entry.listener)
        waiter_release(entry.waiter)


cdef look_t look_at(shard_t *shard, const waiting_key_t *entry, const listened_key_t *listened,
                    int64_t now_ms) noexcept nogil:
    cdef const waiter_t *waiter = entry.waiter
    cdef uint32_t position = <uint32_t>(entry - waiter.keys)
    cdef look_t result = LOOK_ABSENT
    cdef dash_ref_t ref
    cdef scope_t scope
    cdef key_t key
    shard_open_books(shard)
    scope.shard = shard
    scope.database = shard_database(shard, waiter.database_index)
    scope.now_ms = now_ms
    scope.client_id = 0
    scope.keep_access = True
    listened_key_of(listened, &key)
    if find_peek(&scope, &key, &ref):
        result = LOOK_ACCEPTED if waiter.rules.accepts(&ref.entry.value, waiter.wanted, position) else LOOK_REFUSED
    elif waiter.rules.sees_absent:
        result = LOOK_ACCEPTED if waiter.rules.accepts(NULL, waiter.wanted, position) else LOOK_REFUSED
    shard_close_books(shard)
    return result


cdef uint32_t choose_key(const held_tokens_t *held, const waiter_t *waiter) noexcept nogil:
    """The first of its keys, in its order, that can serve it now."""
    cdef const waiting_key_t *entry
    cdef uint32_t i
    for i in range(waiter.key_count):
        entry = &waiter.keys[i]
        if not is_held(held, entry.shard) or entry.listener.key == NULL:
            continue
        if look_at(held.shards[entry.shard], entry, entry.listener.key, held.now_ms) == LOOK_ACCEPTED:
            return i
    return waiter.key_count


cdef bint wake(waiter_t *waiter) noexcept nogil:
    """Its own thread shall try, with all tokens; False: it is no longer waiting."""
    if not waiter_claim(waiter, WAITER_WOKEN):
        return False
    waiter.message.run = waiter.on_woken
    proactor_post(waiter.tx.origin, &waiter.message)
    return True


cdef void serve(held_tokens_t *held, waiter_t *waiter, uint32_t position) noexcept nogil:
    cdef shard_t *shard = held.shards[waiter.keys[position].shard]
    waiter.tx.now_ms = held.now_ms
    if waiter.other_shard != NO_SHARD:
        waiter.rules.serve(waiter.tx, position)
        return
    shard_open_books(shard)
    waiter.rules.serve(waiter.tx, position)
    shard_close_books(shard)


cdef void send_home(held_tokens_t *held, waiter_t *waiter) noexcept nogil:
    cdef waiting_key_t *entry
    cdef uint32_t i
    # The reference of the transaction keeps the waiter until its thread has the message.
    for i in range(waiter.key_count):
        entry = &waiter.keys[i]
        if is_held(held, entry.shard):
            waiter_forget(entry, held.shards[entry.shard])
    waiter.message.run = waiter.on_served
    proactor_post(waiter.tx.origin, &waiter.message)


cdef void serve_key(held_tokens_t *held, shard_t *shard, listened_key_t *key) noexcept nogil:
    cdef listener_t *listener = key.first
    cdef waiter_t *served = NULL
    cdef waiter_t **last = &served
    cdef const waiting_key_t *entry
    cdef waiter_t *waiter
    cdef look_t look
    cdef uint32_t position
    cdef bint is_absent = False
    while listener != NULL:
        entry = <waiting_key_t *>listener.owner
        waiter = entry.waiter
        listener = listener.next
        if is_absent and not waiter.rules.sees_absent:
            continue
        if atomic_load(&waiter.state) == WAITER_WOKEN:
            break
        if atomic_load(&waiter.state) != WAITER_WAITING:
            continue
        look = look_at(shard, entry, key, held.now_ms)
        if look == LOOK_ABSENT:
            # Nobody else but those who wait for its end.
            is_absent = True
            continue
        if look == LOOK_REFUSED or peer_has_hung_up(waiter.fd):
            continue
        if waiter.other_shard != NO_SHARD and not take_another(held, waiter.other_shard):
            if wake(waiter):
                break
            continue
        position = choose_key(held, waiter)
        if not waiter_claim(waiter, WAITER_CLAIMED):
            continue
        serve(held, waiter, position)
        # Listeners stay until the walk is over: removing them frees keys.
        waiter.message.next = NULL
        last[0] = waiter
        last = <waiter_t **>&waiter.message.next
    while served != NULL:
        waiter = served
        served = <waiter_t *>waiter.message.next
        send_home(held, waiter)


cdef shard_t *next_ready(const held_tokens_t *held) noexcept nogil:
    cdef uint32_t i
    for i in range(held.count):
        if held.shards[held.indexes[i]].blocked.ready_first != NULL:
            return held.shards[held.indexes[i]]
    return NULL


cdef void serve_waiters(shard_t **shards, const uint32_t *indexes, uint32_t count,
                        int64_t now_ms) noexcept nogil:
    cdef held_tokens_t held
    cdef listened_key_t *key
    cdef shard_t *shard
    held.shards = shards
    held.count = count
    held.now_ms = now_ms
    shard = shards[indexes[0]]
    held.indexes = <uint32_t *>net_alloc(shard.shard_count * sizeof(uint32_t))
    memcpy(held.indexes, indexes, count * sizeof(uint32_t))
    shard = next_ready(&held)
    while shard != NULL:
        key = listeners_take_ready(&shard.blocked)
        serve_key(&held, shard, key)
        listeners_done_ready(&shard.blocked, key)
        shard = next_ready(&held)
    while held.count > count:
        held.count -= 1
        shard_unlock(shards[held.indexes[held.count]])
    net_free(held.indexes)


cdef void serve_shard_waiters(shard_t *shard, int64_t now_ms) noexcept nogil:
    shard_close_books(shard)
    serve_waiters(shard.siblings, &shard.index, 1, now_ms)
    shard_open_books(shard)
