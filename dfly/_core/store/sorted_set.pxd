"""The sorted set type: members with scores, ordered by score, then by the members' bytes.

Compact (encoding ZSET_COMPACT): packed pairs (store/packed_pairs). Minus zero becomes zero. To clients it is a
"listpack", and what is dumped is one; in memory, pairs take fewer bytes and are searched faster.
Large (ZSET_LARGE): members in an arena, a B+ tree with ranks over them and an index by member.
An empty set has the root NULL; a new one is compact and becomes large when it outgrows the limits, for good.

A long range is cut out of the tree and purged in slices: until then index and arena still have its members, and who
finds one there asks the tree whether it is (score_tree, tree_cut). Nobody else sees anything of it.

Every range is a rank and a count: a command finds those, then walks with a cursor.

Ownership: the object owns all of it (mem_alloc, the data account). Places, cursors and entries borrow: valid
until the set changes. Bytes given to a set must not lie in it.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.member_arena cimport arena_t, arena_walk_t
from dfly._core.store.member_index cimport index_t
from dfly._core.store.object cimport TYPE_ZSET, object_is_container, object_t
from dfly._core.store.packed_pairs cimport pairs_trail_t
from dfly._core.store.score_tree cimport leaf_t, tree_t
from dfly._core.sys.base cimport slice_t

cdef enum zset_encoding_t:
    ZSET_COMPACT = 0
    ZSET_LARGE = 1

cdef enum:
    SCORE_TEXT_MAX = 40              # bytes a caller gives score_text

cdef struct large_zset_t:
    arena_t arena
    index_t index
    tree_t tree
    # What was cut out of the tree and is still in arena and index: a chain of leaves without a tree.
    leaf_t *cut
    uint32_t cut_leaves

cdef struct zset_limits_t:
    # Up to here a set is compact.
    int64_t entries
    int64_t value                    # bytes of a member

cdef struct zset_place_t:
    # Where a member is, or (zset_find said False) what helps to insert it.
    uint64_t hash                    # large
    uint32_t handle                  # large
    const uint8_t *position          # compact
    uint32_t rank                    # compact
    double score

cdef struct zset_entry_t:
    list_item_t member               # always text in a large set
    double score

cdef struct zset_cursor_t:
    # A place between two members.
    const large_zset_t *large        # NULL: compact
    leaf_t *leaf
    uint32_t slot
    uint32_t rank                    # compact, as all that follows
    const uint8_t *pack
    const uint8_t *position
    pairs_trail_t trail

cdef struct zset_bound_t:
    # One end of a range by score or by text.
    double score
    slice_t text
    int infinite                     # of a range by text: -1 before all, 1 behind all
    bint exclusive

ctypedef void (*zset_visit_t)(const zset_entry_t *entry, void *context) noexcept nogil

cdef uint64_t zset_count(const object_t *self) noexcept nogil

# One member.
cdef bint zset_find(const object_t *self, const char *data, size_t size, zset_place_t *out) noexcept nogil
cdef bint zset_score(const object_t *self, const char *data, size_t size, double *out) noexcept nogil
cdef uint64_t zset_rank(const object_t *self, const zset_place_t *place) noexcept nogil
# A member that zset_find has just not found. No score is NaN.
cdef void zset_insert(object_t *self, const zset_place_t *place, const char *data, size_t size, double score,
                      const zset_limits_t *limits) noexcept nogil
# A member that zset_find has just found.
cdef void zset_set_score(object_t *self, const zset_place_t *place, const char *data, size_t size,
                         double score) noexcept nogil
cdef void zset_erase(object_t *self, const zset_place_t *place) noexcept nogil
# Adds it or changes its score; True: it is new.
cdef bint zset_add(object_t *self, const char *data, size_t size, double score,
                   const zset_limits_t *limits) noexcept nogil

# Ranges. Both give the rank of the first member and their number, which may be 0.
cdef void zset_range_by_score(const object_t *self, const zset_bound_t *low, const zset_bound_t *high,
                              uint64_t *start, uint64_t *count) noexcept nogil
# By text alone. Where scores differ it is what a search from the front (backward: from the end) finds.
cdef void zset_range_by_text(const object_t *self, const zset_bound_t *low, const zset_bound_t *high,
                             bint backward, uint64_t *start, uint64_t *count) noexcept nogil
# More than `at_once` members are only cut out: object_purge_step frees them.
cdef void zset_remove_range(object_t *self, uint64_t start, uint64_t count, uint64_t at_once) noexcept nogil

# Walking: the place before the member of that rank (at most the count), and on from there in both directions.
cdef void zset_seek(const object_t *self, uint64_t rank, zset_cursor_t *out) noexcept nogil
cdef bint zset_next(zset_cursor_t *self, zset_entry_t *out) noexcept nogil            # False at the end
cdef bint zset_previous(zset_cursor_t *self, zset_entry_t *out) noexcept nogil
# SCAN: about `count` members; the next cursor, 0 at the end.
cdef uint64_t zset_scan(const object_t *self, uint64_t cursor, uint64_t count, zset_visit_t visit,
                        void *context) noexcept nogil

# Is it compact, and not empty? Redis would have a listpack then.
cdef bint zset_is_compact(const object_t *self) noexcept nogil
# Becomes large now. For what is loaded in that encoding, or to come in great number.
cdef void zset_make_large(object_t *self) noexcept nogil

# A walk over all members in any order, while the set changes (store/member_arena). Of a large set without members that
# are cut out and not freed yet; what is cut out later is visited like the others.
cdef bint zset_can_be_walked(const object_t *self) noexcept nogil
cdef void zset_walk_begin(object_t *self, arena_walk_t *walk) noexcept nogil

# Scores as Redis keeps them in texts: a whole number up to 2^62 as such, else 17 digits.
cdef size_t score_text(double score, char *out) noexcept nogil
cdef double score_of_item(const list_item_t *item) noexcept nogil

cdef bint zset_check(const object_t *self) noexcept nogil              # for tests; aborts on a broken invariant


cdef inline bint is_zset(const object_t *value) noexcept nogil:
    return object_is_container(value, TYPE_ZSET)
