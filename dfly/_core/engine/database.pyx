"""The door to a shard's keys: see database.pxd for the order of calls.

Each change passes here: version of the bucket and the walk of a snapshot over it, lazy expiry, notification (and
with it watch and journal, which listen at the same hook), mutation counters. Memory is booked by
the token (engine/shard). Nothing here suspends or blocks.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dfly._core.engine.access cimport access_start, access_touch
from dfly._core.engine.latency cimport LATENCY_EXPIRE_DEL, latency_start, latency_stop
from dfly._core.engine.listeners cimport (listened_key_of, listened_key_t, listener_table_t,
                                          listeners_mark_ready, listeners_of, listeners_signal,
                                          listeners_visit)
from dfly._core.engine.pattern_listeners cimport patterns_signal, patterns_signal_all
from dfly._core.engine.shard cimport (database_t, purge_t, reclaim_t, scope_t, shard_database,
                                      shard_next_version, shard_t, policy_tracks_access)
from dfly._core.engine.tracking_table cimport tracking_table_drop, tracking_table_invalidate
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_before_change, dash_deadline,
                                    dash_enable_access_tracking, dash_erase, dash_find, dash_init, dash_insert,
                                    dash_move, dash_ref_t, dash_set_deadline, dash_set_sticky, dash_t)
from dfly._core.store.object cimport (key_t, object_block_count, object_finish_walk, object_free, object_is_sticky,
                                      object_is_string, object_purge_step, object_t, object_walk_owner)
from dfly._core.sys.alloc cimport mem_zalloc, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_load_relaxed, likely, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    FREE_AT_ONCE_MAX = 64        # blocks of a value; more are the timer's work


cdef inline void announce(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil:
    cdef shard_t *shard = scope.shard
    if unlikely(shard.settings.notify_keyspace_events != 0):
        shard.on_mutation(shard, scope.database, key.data, key.size, event_class, event, shard.mutation_context)


cdef void signal_listeners(scope_t *scope, const key_t *key) noexcept nogil:
    """WATCH fails, caches forget; who waits for the key is looked at when the command has ended."""
    cdef shard_t *shard = scope.shard
    cdef listened_key_t *found = listeners_of(&shard.watched, scope.database.index, key)
    if found != NULL:
        listeners_signal(found)
    found = listeners_of(&shard.blocked, scope.database.index, key)
    if found != NULL:
        listeners_mark_ready(&shard.blocked, found)
    if shard.patterns.count != 0:
        patterns_signal(&shard.patterns, scope.database.index, key)
    tracking_table_invalidate(&shard.tracked, key, scope.client_id)


cdef inline void count_mutation(scope_t *scope, const key_t *key) noexcept nogil:
    cdef shard_t *shard = scope.shard
    if unlikely((shard.watched.count | shard.blocked.count | shard.tracked.count
                 | shard.tracked.prefix_count | shard.patterns.count) != 0):
        signal_listeners(scope, key)
    shard_next_version(scope.shard)
    scope.shard.stats.mutations += 1
    scope.database.mutations += 1


cdef bint expire_if_due(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    """Removes the entry if its deadline has passed; True if it is gone."""
    cdef int64_t deadline
    cdef uint64_t started
    if likely((ref.bucket.deadline >> ref.slot) & 1 == 0):
        return False
    deadline = dash_deadline(ref)
    if deadline == DASH_NO_DEADLINE or deadline > scope.now_ms:
        return False
    scope.shard.stats.expired_keys += 1
    scope.database.expired += 1
    started = latency_start(scope.shard.settings)
    delete_key(scope, key, ref, NOTIFY_EXPIRED, "expired")
    latency_stop(&scope.shard.latency, scope.shard.settings, LATENCY_EXPIRE_DEL, started)
    return True


cdef bint find_read(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if not find_untouched(scope, key, ref):
        return False
    access_touch(scope, ref)
    return True


cdef bint find_untouched(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if not dash_find(&scope.database.table, key, ref) or expire_if_due(scope, key, ref):
        scope.shard.stats.misses += 1
        announce(scope, key, NOTIFY_KEY_MISS, "keymiss")
        return False
    scope.shard.stats.hits += 1
    return True


cdef bint find_peek(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    return dash_find(&scope.database.table, key, ref) and not expire_if_due(scope, key, ref)


cdef bint find_write(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    if not dash_find(&scope.database.table, key, ref) or expire_if_due(scope, key, ref):
        return False
    access_touch(scope, ref)
    return True


cdef void insert_key(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    dash_insert(&scope.database.table, key, ref)
    access_start(scope, ref)
    ref.bucket.version = scope.shard.version
    announce(scope, key, NOTIFY_NEW, "new")


cdef void load_key(scope_t *scope, const key_t *key, dash_ref_t *ref) noexcept nogil:
    dash_insert(&scope.database.table, key, ref)
    access_start(scope, ref)
    ref.bucket.version = scope.shard.version


cdef void update_begin(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    dash_before_change(&scope.database.table, ref, scope.shard.version)


cdef void update_end(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil:
    count_mutation(scope, key)
    if event != NULL:
        announce(scope, key, event_class, event)


cdef void wake_waiters(scope_t *scope, const key_t *key) noexcept nogil:
    cdef listened_key_t *found
    if unlikely(scope.shard.blocked.count != 0):
        found = listeners_of(&scope.shard.blocked, scope.database.index, key)
        if found != NULL:
            listeners_mark_ready(&scope.shard.blocked, found)


cdef void update_end_unseen(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil:
    shard_next_version(scope.shard)
    scope.shard.stats.mutations += 1
    scope.database.mutations += 1
    if event != NULL:
        announce(scope, key, event_class, event)


cdef void notify(scope_t *scope, const key_t *key, int event_class, const char *event) noexcept nogil:
    announce(scope, key, event_class, event)


cdef void delete_key(scope_t *scope, const key_t *key, dash_ref_t *ref, int event_class,
                     const char *event) noexcept nogil:
    update_begin(scope, ref)
    # Before the entry goes: the key may be the entry's own bytes (expiry, eviction).
    count_mutation(scope, key)
    if event != NULL:
        announce(scope, key, event_class, event)
    drop_value(scope, &ref.entry.value)
    if unlikely(scope.database.members.count != 0):
        forget_members(scope, key)
    dash_erase(&scope.database.table, ref)


cdef void forget_members(scope_t *scope, const key_t *key) noexcept nogil:
    cdef dash_ref_t ref
    if dash_find(&scope.database.members, key, &ref):
        dash_erase(&scope.database.members, &ref)


cdef void drop_value(scope_t *scope, object_t *value) noexcept nogil:
    cdef reclaim_t *dropped
    if likely(object_is_string(value)) or object_block_count(value) <= FREE_AT_ONCE_MAX:
        object_free(value)
        return
    dropped = <reclaim_t *>mem_zalloc(sizeof(reclaim_t))
    dropped.value = value[0]
    scope.shard.reclaim_pending += 1
    if unlikely(scope.shard.value_walks != 0) and object_walk_owner(value) != NULL:
        # A snapshot still wants it.
        dropped.next = scope.shard.kept
        scope.shard.kept = dropped
    else:
        dropped.next = scope.shard.reclaim
        scope.shard.reclaim = dropped
    memset(value, 0, sizeof(object_t))


cdef void purge_later(scope_t *scope, const key_t *key, object_t *value) noexcept nogil:
    cdef uint64_t budget = 0
    cdef purge_t *purge
    cdef const void *owner = object_walk_owner(value)
    if unlikely(owner != NULL and owner != scope.shard):
        # It has come from another shard, whose snapshot still walks over it: both tokens are held only now.
        object_finish_walk(value)
    if likely(object_purge_step(value, &budget)):
        return
    purge = <purge_t *>net_zalloc(sizeof(purge_t) + key.size)
    purge.name = <char *>(purge + 1)
    purge.size = key.size
    memcpy(purge.name, key.data, key.size)
    purge.next = scope.database.purges
    scope.database.purges = purge
    scope.shard.purge_count += 1


cdef void take_value(scope_t *scope, const key_t *key, dash_ref_t *ref, void *out_object) noexcept nogil:
    update_begin(scope, ref)
    (<object_t *>out_object)[0] = ref.entry.value
    memset(&ref.entry.value, 0, sizeof(object_t))
    count_mutation(scope, key)
    if unlikely(scope.database.members.count != 0):
        forget_members(scope, key)
    dash_erase(&scope.database.table, ref)


cdef int64_t get_deadline(dash_ref_t *ref) noexcept nogil:
    if (ref.bucket.deadline >> ref.slot) & 1 == 0:
        return DASH_NO_DEADLINE
    return dash_deadline(ref)


cdef void set_deadline(scope_t *scope, dash_ref_t *ref, int64_t deadline_ms) noexcept nogil:
    dash_set_deadline(&scope.database.table, ref, deadline_ms)


cdef bint is_sticky(const dash_ref_t *ref) noexcept nogil:
    return object_is_sticky(&ref.entry.key)


cdef void make_sticky(scope_t *scope, dash_ref_t *ref) noexcept nogil:
    dash_set_sticky(&scope.database.table, ref)


cdef void signal_if_exists(listened_key_t *listened, void *context) noexcept nogil:
    cdef dash_ref_t ref
    cdef key_t key
    listened_key_of(listened, &key)
    if dash_find(<dash_t *>context, &key, &ref):
        listeners_signal(listened)


cdef void mark_ready(listened_key_t *listened, void *context) noexcept nogil:
    listeners_mark_ready(<listener_table_t *>context, listened)


cdef void drop_tracked(shard_t *shard) noexcept nogil:
    cdef reclaim_t *dropped = <reclaim_t *>mem_zalloc(sizeof(reclaim_t))
    tracking_table_drop(&shard.tracked, &dropped.tracked)
    dropped.next = shard.reclaim
    shard.reclaim = dropped


cdef void flush_database(shard_t *shard, uint32_t index) noexcept nogil:
    cdef database_t *database = shard.databases[index]
    cdef reclaim_t *dropped
    if shard.tracked.count != 0:
        drop_tracked(shard)
    if database == NULL:
        return
    listeners_visit(&shard.watched, index, signal_if_exists, &database.table)
    patterns_signal_all(&shard.patterns, index)
    listeners_visit(&shard.blocked, index, mark_ready, &shard.blocked)
    dropped = <reclaim_t *>mem_zalloc(sizeof(reclaim_t))
    dash_move(&database.table, &dropped.table)
    shard.reclaim_pending += dropped.table.count
    dropped.members = database.members
    memset(&database.members, 0, sizeof(dash_t))
    if dropped.table.walk != NULL or shard.value_walks != 0:
        # A snapshot still wants it, or maybe a value in it.
        dropped.next = shard.kept
        shard.kept = dropped
    else:
        dropped.next = shard.reclaim
        shard.reclaim = dropped
    dash_init(&database.table)
    if policy_tracks_access(shard.settings.maxmemory_policy):
        dash_enable_access_tracking(&database.table, <uint32_t>atomic_load_relaxed(&shard.access_clock))
    shard_next_version(shard)


cdef bint release_kept(shard_t *shard) noexcept nogil:
    cdef reclaim_t **link = &shard.kept
    cdef reclaim_t *dropped
    cdef bint is_any = False
    while link[0] != NULL:
        dropped = link[0]
        if dropped.table.walk != NULL or shard.value_walks != 0:
            link = &dropped.next
            continue
        link[0] = dropped.next
        dropped.next = shard.reclaim
        shard.reclaim = dropped
        is_any = True
    return is_any


cdef void swap_databases(shard_t *shard, uint32_t a, uint32_t b) noexcept nogil:
    cdef database_t *first = shard_database(shard, a)
    cdef database_t *second = shard_database(shard, b)
    listeners_visit(&shard.watched, a, signal_if_exists, &first.table)
    listeners_visit(&shard.watched, a, signal_if_exists, &second.table)
    listeners_visit(&shard.watched, b, signal_if_exists, &first.table)
    listeners_visit(&shard.watched, b, signal_if_exists, &second.table)
    patterns_signal_all(&shard.patterns, a)
    patterns_signal_all(&shard.patterns, b)
    shard.databases[a] = second
    shard.databases[b] = first
    second.index = a
    first.index = b
    listeners_visit(&shard.blocked, a, mark_ready, &shard.blocked)
    listeners_visit(&shard.blocked, b, mark_ready, &shard.blocked)
    shard_next_version(shard)
