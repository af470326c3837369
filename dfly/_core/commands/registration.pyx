"""The list of families: importing this module and calling register_all fills the registry."""

from dfly._core.sys.base cimport DFLY_ABI_STAMP

from dfly._core.commands import (
    admin,
    bitfield,
    bits,
    blocking_lists,
    connection,
    debug,
    dump,
    geo,
    hash_ttl,
    hash_walks,
    hashes,
    hyperloglog,
    key_moves,
    key_walks,
    keys,
    keyspace,
    lcs,
    list_edits,
    list_moves,
    list_pops,
    lists,
    member_deadlines,
    numbers,
    persistence,
    pubsub,
    set_algebra,
    sets,
    sort,
    stream_autoclaim,
    stream_group_admin,
    stream_info,
    stream_pending,
    stream_pending_lists,
    stream_ranges,
    stream_reads,
    streams,
    string_multi,
    strings,
    throttle,
    transactions,
    zset_algebra,
    zset_pops,
    zset_ranges,
    zsets,
)

__abi__ = DFLY_ABI_STAMP

FAMILIES = (
    connection,
    keys,
    keyspace,
    key_moves,
    key_walks,
    strings,
    numbers,
    string_multi,
    bits,
    bitfield,
    lcs,
    admin,
    transactions,
    pubsub,
    debug,
    lists,
    list_edits,
    list_moves,
    list_pops,
    blocking_lists,
    hashes,
    hash_walks,
    hash_ttl,
    sets,
    set_algebra,
    dump,
    streams,
    stream_ranges,
    zsets,
    zset_ranges,
    zset_pops,
    zset_algebra,
    stream_reads,
    stream_autoclaim,
    stream_group_admin,
    stream_info,
    stream_pending,
    stream_pending_lists,
    persistence,
    member_deadlines,
    sort,
    hyperloglog,
    geo,
    throttle,
)

registered = False


def register_all():
    """Registers every family's rows, once a process."""
    global registered
    if registered:
        return
    for family in FAMILIES:
        family.register()
    registered = True
