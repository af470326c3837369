"""The dash table: extendible hashing over segments of buckets (Lu, Hao, Wang, Lo 2020).

A directory, indexed by the top bits of the hash, points to segments. A segment holds `regular`
home buckets and a few stash buckets, 14 slots each. A bucket's entries lie behind its metadata: a
lookup touches the home bucket's 32-byte metadata (one-byte fingerprints compared with SIMD) and
then the one cache line of the entry, nearly always on the same page. An entry lives in its home bucket as
long as there is room, else in the next one, else in the stash, where the home bucket says in which of
its buckets. No full rehash ever: a full segment is rebuilt into a larger size class, or
split in two when it is in the largest; both are microseconds and touch only that segment.

Where this differs from design.md: the number of buckets in a segment is not fixed at 56+4 but one
of several size classes. With one size all segments fill and split together and the table swings
between half empty and full; size classes keep it near full at every number of keys. And an entry goes next door only
when its home is full, where the paper balances the two: finding then touches one bucket for nine keys of ten.

Use of the hash: bits 40..63 directory, 24..39 shard (engine), 8..23 position in the segment
(bucket = position * regular >> 16), 0..7 fingerprint.

Scan order is hash order within a subrange of the directory: a cursor holds the subrange's depth (5
bits), its directory bits (24) and a position (16), so it stays valid while segments grow, split and
merge: an element present throughout is returned.

TTLs are part of the entry: a segment with at least one deadline carries an array of 4-byte
deadlines (ms since the segment's base), widened to 8 bytes when they lie more than 49 days apart. Each
segment knows its earliest deadline; a heap of segments by that gives what is due.

A walk (dash_walk_t) visits every entry as it was when the walk began, exactly once, however the table changes
meanwhile: an entry that is about to change or to go and has not been visited is visited first, and so is a bucket
that gains entries or whose entries move. That goes by the buckets' versions: those up to walk.cut have not been
visited; others say which of their entries have been. The caller says what changes in place or is about to be erased
(dash_before_change); the rest is seen here.

Tables of keys only (dash_init_keys): entries are 16 bytes, ref.entry.value does not exist.

Ownership: the table owns its keys; values belong to the caller's rules (free before erase).
A dash_ref_t is valid until the next insert or erase in the same table. Nothing here suspends.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dfly._core.store.dash_segment cimport DASH_SLOTS, bucket_t, dash_ref_t, entry_t, segment_t
from dfly._core.store.object cimport key_t, object_set_sticky, object_t
from dfly._core.sys.base cimport unlikely

cdef enum:
    DASH_NO_DEADLINE = -1
    DASH_CURSOR_BITS = 45

cdef struct dash_walk_t              # defined below

cdef struct dash_t:
    uint64_t *directory          # 1 << depth words: pointer and bucket count packed
    uint32_t depth
    uint32_t segment_count
    uint64_t count               # entries
    uint64_t deadline_count      # entries that have a deadline
    uint64_t slot_count          # capacity, for metrics
    segment_t **due              # binary heap of segments that have deadlines
    uint32_t due_count
    uint32_t due_capacity
    uint8_t entry_shift          # an entry takes 1 << entry_shift bytes
    bint is_visiting             # dash_visit_due runs: segments keep their size
    bint has_sticky              # some key is sticky, or was
    bint access_tracking         # segments carry 24-bit access words (LRU clock or LFU)
    uint64_t grow_count
    uint64_t split_count
    dash_walk_t *walk            # under way, or NULL; its owner's

ctypedef bint (*dash_visit_t)(dash_t *table, dash_ref_t *ref, void *context) noexcept nogil

cdef struct dash_walk_t:
    dash_t *table                # moves with the table (dash_move); NULL: dash_walk_finish has been called
    uint64_t cut                 # version of the newest bucket when it began; changes from then on have higher ones
    # May not change the table. False: it has not finished with this entry and wants to be called for it again, by
    # the next step; not if must_finish.
    dash_visit_t visit
    void *context
    bint must_finish             # the entry is about to change
    bucket_t *pending            # visited in part: slots of pending_mask are still to come
    uint32_t pending_mask
    uint64_t hash                # where it is: in the segment that holds this hash,
    uint32_t bucket              # before this bucket
    uint64_t forced              # buckets and single entries that were visited because they were about to change
    const void *owner            # its beginner's mark

cdef void dash_init(dash_t *self) noexcept nogil
# The table's struct goes to another place; `self` is empty and invalid then.
cdef void dash_move(dash_t *self, dash_t *target) noexcept nogil
cdef void dash_init_keys(dash_t *self) noexcept nogil         # of keys without values
# Room for so many entries at once; only a table that has never had one takes it.
cdef void dash_reserve(dash_t *self, uint64_t expected) noexcept nogil
cdef void dash_clear(dash_t *self) noexcept nogil             # frees keys, values and segments, in one go
# Frees at most *budget entries (or blocks of containers) of a table that nobody uses any more, and takes
# them off the budget; True when all is freed.
cdef bint dash_clear_step(dash_t *self, uint64_t *budget) noexcept nogil
cdef void dash_dup(const dash_t *self, dash_t *out) noexcept nogil    # deadlines too, access words not

cdef bint dash_find(dash_t *self, const key_t *key, dash_ref_t *out) noexcept nogil
# Inserts a key that is not present; the value is zero (an empty string) and the caller's to set.
cdef void dash_insert(dash_t *self, const key_t *key, dash_ref_t *out) noexcept nogil
# Frees the key and the deadline, not the value.
cdef void dash_erase(dash_t *self, dash_ref_t *ref) noexcept nogil

# What dash_walk (dash_walk.pxd) has not visited of an entry that is about to change.
cdef void dash_hand_over(dash_t *self, dash_ref_t *ref, uint64_t version) noexcept nogil


cdef inline void dash_before_change(dash_t *self, dash_ref_t *ref, uint64_t version) noexcept nogil:
    """version: the newest; the bucket's from now on, unless some of its entries are still to be visited."""
    if unlikely(self.walk != NULL):
        dash_hand_over(self, ref, version)
    else:
        ref.bucket.version = version


cdef inline void dash_before_member_change(dash_t *self, dash_ref_t *ref) noexcept nogil:
    """The same for a table that is (part of) a value, where versions mean nothing without a walk."""
    if unlikely(self.walk != NULL):
        dash_hand_over(self, ref, self.walk.cut + 1)


cdef int64_t dash_deadline(const dash_ref_t *ref) noexcept nogil            # ms since epoch or DASH_NO_DEADLINE
cdef void dash_set_deadline(dash_t *self, dash_ref_t *ref, int64_t deadline_ms) noexcept nogil
cdef int64_t dash_next_due(dash_t *self) noexcept nogil                     # lower bound, or DASH_NO_DEADLINE
# Visits entries due at now_ms, at most `budget` of them. The visitor must erase the entry (through
# the engine's door) and return True, or return False to leave it. Returns the number visited.
cdef uint64_t dash_visit_due(dash_t *self, int64_t now_ms, uint64_t budget, dash_visit_t visit,
                             void *context) noexcept nogil

# The key is marked, and dash_sample passes it over.
cdef inline void dash_set_sticky(dash_t *self, dash_ref_t *ref) noexcept nogil:
    object_set_sticky(&ref.entry.key)
    self.has_sticky = True


# 24-bit access words (what they mean is the engine's: LRU seconds or LFU counter). Exist once
# access_tracking is on; dash_access_get falls back to the bucket's stamp when it is off.
cdef void dash_enable_access_tracking(dash_t *self, uint32_t initial) noexcept nogil
cdef uint32_t dash_access_get(const dash_ref_t *ref) noexcept nogil
cdef void dash_access_set(dash_t *self, dash_ref_t *ref, uint32_t word) noexcept nogil

cdef uint32_t dash_slots_widest(const dash_t *self) noexcept nogil           # of a segment
cdef size_t dash_bytes(dash_t *self) noexcept nogil           # segments, directory, deadline arrays
# Full verification, for tests; aborts on a broken invariant.
cdef bint dash_check(dash_t *self) noexcept nogil
