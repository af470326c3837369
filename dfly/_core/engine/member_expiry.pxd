"""Members with deadlines (fields of hashes, members of sets): which keys hold some, and when they are due.

Each database has a second table, `members`: the keys that hold members with deadlines, and for each the
earliest one or something before it. So the timer finds them as it finds keys that are due (engine/expiry),
and a key costs about 40 bytes there. What a key's value says counts: an entry whose key has gone or holds
nothing with a deadline any more is dropped when it comes due, or by members_sweep.

A type takes part by its container_ops_t: expire_members and next_member_deadline.
"""

from libc.stdint cimport int64_t

from dfly._core.engine.shard cimport database_t, scope_t, shard_t
from dfly._core.store.object cimport key_t, object_t

# After a command gave members of this key's value deadlines, or the key got a whole value (RENAME, COPY, MOVE,
# RESTORE, loading). Does nothing for values without.
cdef void members_track(scope_t *scope, const key_t *key, const object_t *value) noexcept nogil
# Removes members that are due, until deadline_us (monotonic); True when nothing due is left.
cdef bint members_expire_due(shard_t *shard, int64_t now_ms, int64_t deadline_us) noexcept nogil
cdef int64_t members_next_deadline(const database_t *database) noexcept nogil       # -1: none
# Drops some entries that have become useless; ten times a second.
cdef void members_sweep(shard_t *shard) noexcept nogil
