"""Prefetching: see prefetch.pxd."""

from libc.stdint cimport uint32_t

from dfly._core.engine.command cimport call_t
from dfly._core.engine.shard cimport database_t, shard_t
from dfly._core.store.dash cimport bucket_t, dash_t, entry_t
from dfly._core.store.dash_prefetch cimport (dash_prefetch_away, dash_prefetch_bucket, dash_prefetch_entry,
                                             dash_prefetch_value, dash_probable_entry)
from dfly._core.store.object cimport key_init, key_t, object_is_worth_prefetching, object_prefetch_member
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    RUN_MIN = 4                  # below, there is little to overlap
    PLAIN_RUNS = 16              # a power of two
    CACHED_SLOTS = 2048          # a table of so few is in the processor's cache: 100 KB


cdef inline bint is_looked_up(const call_t *calls, uint32_t i, const shard_t *shard) noexcept nogil:
    """For this shard, and not what the run's call before it looks up. The first one is, whatever was before the run."""
    return calls[i].shard_index == shard.index and (i == 0 or not calls[i].is_repeated)


cdef bint prefetch_members(call_t *calls, uint32_t count, const shard_t *shard) noexcept nogil:
    """The same for what a large collection holds: bucket and entry of the member that stands behind the key. False:
    there is none."""
    cdef slice_t member
    cdef key_t key
    cdef bint goes_on = False
    cdef int number = 0
    cdef uint32_t i
    for i in range(count):
        if calls[i].shard_index != shard.index or calls[i].collection == NULL:
            continue
        if (calls[i].argc > <uint32_t>calls[i].spec.first_key + 1
                and object_is_worth_prefetching(calls[i].collection)):
            member = calls[i].argv[calls[i].spec.first_key + 1]
            key_init(&key, member.data, member.size)
            calls[i].member_hash = key.hash
            object_prefetch_member(calls[i].collection, key.hash, 0, &calls[i].probe)
            goes_on = True
        else:
            calls[i].collection = NULL
    if not goes_on:
        return False
    while goes_on:
        goes_on = False
        number += 1
        for i in range(count):
            if calls[i].shard_index != shard.index or calls[i].collection == NULL:
                continue
            if object_prefetch_member(calls[i].collection, calls[i].member_hash, number, &calls[i].probe):
                goes_on = True
            else:
                calls[i].collection = NULL
    return True


cdef void prefetch_entries(call_t *calls, uint32_t count, const shard_t *shard, dash_t *table) noexcept nogil:
    cdef bint goes_on = False
    cdef uint32_t i
    for i in range(count):
        if is_looked_up(calls, i, shard):
            calls[i].probe = dash_prefetch_bucket(table, calls[i].key.hash)
    for i in range(count):
        if is_looked_up(calls, i, shard):
            calls[i].probe = dash_prefetch_entry(table, <bucket_t *>calls[i].probe, calls[i].key.hash)
            goes_on = goes_on or calls[i].probe == NULL
    if not goes_on:
        return
    for i in range(count):
        if is_looked_up(calls, i, shard) and calls[i].probe == NULL:
            calls[i].probe = dash_prefetch_away(table, calls[i].key.hash)


cdef void prefetch_calls(call_t *calls, uint32_t count, shard_t *shard, uint32_t database_index) noexcept nogil:
    """Passes, so that the cache misses of a run overlap: metadata, entries, values."""
    cdef database_t *database = shard.databases[database_index]
    cdef bint has_collections = False
    cdef bint is_small
    cdef dash_t *table
    cdef uint32_t i
    if count < RUN_MIN or database == NULL:
        return
    table = &database.table
    is_small = table.slot_count <= CACHED_SLOTS
    if not is_small:
        prefetch_entries(calls, count, shard, table)
    elif database.plain_runs & (PLAIN_RUNS - 1) != 0:
        # Of few keys the values alone, and those only while there are large ones among them: now and then it looks.
        database.plain_runs += 1
        return
    for i in range(count):
        if is_looked_up(calls, i, shard):
            if is_small:
                calls[i].probe = dash_probable_entry(table, calls[i].key.hash)
            calls[i].collection = NULL
            if calls[i].probe != NULL:
                calls[i].collection = dash_prefetch_value(<entry_t *>calls[i].probe)
            has_collections = has_collections or calls[i].collection != NULL
        elif calls[i].shard_index == shard.index:
            calls[i].collection = calls[i - 1].collection
    database.plain_runs += 1
    if has_collections and prefetch_members(calls, count, shard):
        database.plain_runs = 0
