"""Members with deadlines: see member_expiry.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.database cimport (NOTIFY_GENERIC, NOTIFY_HASH, NOTIFY_SET, delete_key, forget_members,
                                         update_begin, update_end)
from dfly._core.engine.shard cimport database_t, scope_t, shard_t
from dfly._core.store.dash cimport (DASH_NO_DEADLINE, dash_deadline, dash_find, dash_init, dash_insert, dash_next_due,
                                    dash_ref_t, dash_set_deadline, dash_t, dash_visit_due)
from dfly._core.store.dash_scan cimport dash_sample
from dfly._core.store.object cimport (OBJECT_SCRATCH, TYPE_HASH, key_init, key_t, object_expire_members,
                                      object_next_member_deadline, object_pointer, object_t, object_type,
                                      object_view)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t
from dfly._core.sys.clock cimport monotonic_us
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP

cdef enum:
    MEMBER_STEP = 64             # members between looks at the clock
    KEY_STEP = 64                # keys between looks at other databases
    SWEEP_SAMPLES = 20           # entries of a database in one sweep


cdef void members_track(scope_t *scope, const key_t *key, const object_t *value) noexcept nogil:
    cdef dash_t *members = &scope.database.members
    cdef int64_t due = object_next_member_deadline(value)
    cdef dash_ref_t ref
    if due == DASH_NO_DEADLINE:
        return
    if members.directory == NULL:
        dash_init(members)
    if not dash_find(members, key, &ref):
        dash_insert(members, key, &ref)
    elif dash_deadline(&ref) <= due:
        return
    dash_set_deadline(members, &ref, due)


cdef struct slice_of_work_t:
    scope_t scope
    int64_t deadline_us
    bint is_late


cdef bint still_holds(scope_t *scope, const key_t *key, dash_ref_t *found) noexcept nogil:
    return (dash_find(&scope.database.table, key, found)
            and object_next_member_deadline(&found.entry.value) != DASH_NO_DEADLINE)


cdef inline bint type_is_hash(const object_t *value) noexcept nogil:
    return object_type(value) == TYPE_HASH


cdef bint remove_due(slice_of_work_t *work, dash_ref_t *found) noexcept nogil:
    """Removes members until none is due or the time is up; False: none was due."""
    cdef uint64_t removed
    cdef uint64_t total = 0
    while True:
        removed = object_expire_members(&found.entry.value, work.scope.now_ms, MEMBER_STEP)
        total += removed
        if removed < MEMBER_STEP or object_pointer(&found.entry.value) == NULL:
            break
        if monotonic_us() >= work.deadline_us:
            work.is_late = True
            break
    work.scope.shard.stats.expired_fields += total
    return total > 0


cdef bint expire_members_of(dash_t *members, dash_ref_t *ref, void *context) noexcept nogil:
    """Visits a key that is due; True: its entry is gone."""
    cdef slice_of_work_t *work = <slice_of_work_t *>context
    cdef scope_t *scope = &work.scope
    cdef char scratch[OBJECT_SCRATCH]
    cdef object_t stored = ref.entry.key
    cdef slice_t text = object_view(&stored, scratch)
    cdef dash_ref_t found
    cdef key_t key
    cdef bint is_hash
    cdef int64_t due
    if work.is_late:
        return False
    key_init(&key, text.data, text.size)
    if not still_holds(scope, &key, &found):
        forget_members(scope, &key)
        return True
    if object_next_member_deadline(&found.entry.value) <= scope.now_ms:
        update_begin(scope, &found)
        if remove_due(work, &found):
            is_hash = type_is_hash(&found.entry.value)
            update_end(scope, &key, NOTIFY_HASH if is_hash else NOTIFY_SET, "hexpired" if is_hash else "sexpired")
    if object_pointer(&found.entry.value) == NULL:
        # Its entry here goes with it.
        delete_key(scope, &key, &found, NOTIFY_GENERIC, "del")
        return True
    due = object_next_member_deadline(&found.entry.value)
    if due == DASH_NO_DEADLINE:
        forget_members(scope, &key)
        return True
    dash_set_deadline(members, ref, due)
    return False


cdef bint members_expire_due(shard_t *shard, int64_t now_ms, int64_t deadline_us) noexcept nogil:
    cdef slice_of_work_t work
    cdef database_t *database
    cdef uint64_t done
    cdef uint32_t i
    work.scope.shard = shard
    work.scope.now_ms = now_ms
    work.scope.client_id = 0
    work.scope.keep_access = True
    work.deadline_us = deadline_us
    work.is_late = False
    for i in range(shard.settings.databases):
        database = shard.databases[i]
        if database == NULL or database.members.count == 0:
            continue
        work.scope.database = database
        while not work.is_late:
            done = dash_visit_due(&database.members, now_ms, KEY_STEP, expire_members_of, &work)
            if done < KEY_STEP:
                break
            work.is_late = work.is_late or monotonic_us() >= deadline_us
    return not work.is_late


cdef int64_t members_next_deadline(const database_t *database) noexcept nogil:
    if database.members.count == 0:
        return DASH_NO_DEADLINE
    return dash_next_due(<dash_t *>&database.members)


cdef void members_sweep(shard_t *shard) noexcept nogil:
    cdef char scratch[OBJECT_SCRATCH]
    cdef dash_ref_t refs[SWEEP_SAMPLES]
    cdef object_t stale
    cdef dash_ref_t found
    cdef scope_t scope
    cdef slice_t text
    cdef key_t key
    cdef uint32_t taken
    cdef uint32_t i
    cdef uint32_t d
    scope.shard = shard
    for d in range(shard.settings.databases):
        if shard.databases[d] == NULL or shard.databases[d].members.count == 0:
            continue
        scope.database = shard.databases[d]
        taken = dash_sample(&scope.database.members, random_u64(), False, refs, SWEEP_SAMPLES)
        for i in range(taken):
            stale = refs[i].entry.key
            text = object_view(&stale, scratch)
            key_init(&key, text.data, text.size)
            if not still_holds(&scope, &key, &found):
                forget_members(&scope, &key)
                # The others' places may have moved.
                break
