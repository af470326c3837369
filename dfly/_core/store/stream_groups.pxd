"""Consumer groups of a stream: what was delivered to whom and not acknowledged.

A group has its pending entries ordered by ID, and so has each consumer; the pending_t is one object in
both. Groups of a stream and consumers of a group are in tables sorted by name (byte order): they are few,
found by binary search, and listed in that order.

A consumer of many entries that is deleted is only taken out of the table (group.gone): its entries stay in the group's
index and list until group_purge_step or, before somebody walks over these or counts, group_settle has removed them.
To look an ID up, to acknowledge and to deliver it they are not there.

Ownership: a table owns its members, a group owns its consumers and its pending entries; consumers only refer to
them. Names lie behind their struct in the same block.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.store.id_index cimport id_index_t, id_place_t, stream_id_t
from dfly._core.store.pending_walk cimport pending_walk_t
from dfly._core.sys.base cimport slice_t, unlikely

cdef enum:
    ENTRIES_READ_UNKNOWN = -1

cdef struct named_t:
    # What groups and consumers begin with.
    uint32_t name_size
    uint32_t name_offset         # from the struct's begin

cdef struct name_table_t:
    named_t **members            # sorted by name
    uint32_t count
    uint32_t capacity

cdef struct stream_consumer_t:
    named_t named
    int64_t seen_ms              # it last asked for something
    int64_t active_ms            # it last got something; -1: never
    uint64_t birth               # a number that no other consumer has or had
    uint64_t moves               # of entries to it and away from it, so far
    bint is_gone                 # deleted, but not its entries
    stream_consumer_t *next_gone
    uint32_t number              # in the group's walk; 0: it has come since
    id_index_t pending           # of pending_t, the group's

cdef struct pending_t:
    stream_consumer_t *consumer  # NULL: while it is loaded
    pending_t *older             # delivered no later, in the group's list
    pending_t *newer
    stream_id_t id
    int64_t delivered_ms         # changed by pending_date alone
    uint64_t deliveries

cdef struct claim_watch_t:
    # A claim that is being made, of what is pending with these IDs (both included) and was delivered no later than
    # that, or at any time. Ended by the first change of it.
    uint64_t number              # 0: none is; no other one has or had it
    stream_id_t first
    stream_id_t last             # so far
    int64_t latest_ms
    bint at_any_time

cdef struct stream_group_t:
    named_t named
    uint64_t birth               # a number that no other group has or had
    stream_id_t last_id          # last delivered
    int64_t entries_read         # ENTRIES_READ_UNKNOWN
    uint64_t changes             # of what is pending, and of consumers, so far
    id_index_t pending           # of pending_t, those of consumers that are gone too
    stream_consumer_t *gone      # a list
    pending_t *oldest            # both ends of the list by time of delivery
    pending_t *newest
    name_table_t consumers
    claim_watch_t claim          # the last one that began
    pending_walk_t *walk         # under way, or NULL; its owner's

# Groups. NULL: there is none.
cdef stream_group_t *group_find(const name_table_t *groups, slice_t name) noexcept nogil
# NULL: there is one of this name.
cdef stream_group_t *group_create(name_table_t *groups, slice_t name, stream_id_t last_id,
                                  int64_t entries_read) noexcept nogil
# Takes it out of the table; the caller owns it (group_free_step).
cdef stream_group_t *group_take(name_table_t *groups, slice_t name) noexcept nogil
cdef void group_add(name_table_t *groups, stream_group_t *group) noexcept nogil      # of a name that is not there

# Consumers
cdef stream_consumer_t *consumer_find(const stream_group_t *group, slice_t name) noexcept nogil
# NULL: there is one of this name.
cdef stream_consumer_t *consumer_create(stream_group_t *group, slice_t name, int64_t now_ms) noexcept nogil
# Its pending entries are no longer pending; returns how many. If they are many the group is to be purged.
cdef uint64_t consumer_delete(stream_group_t *group, stream_consumer_t *consumer) noexcept nogil
# Frees at most *budget entries of consumers that are gone and takes them off the budget; True when there are none.
cdef bint groups_purge_step(name_table_t *self, uint64_t *budget) noexcept nogil
cdef void group_purge(stream_group_t *self) noexcept nogil               # all of them

# Pending entries
cdef pending_t *pending_find(const stream_group_t *group, stream_id_t id) noexcept nogil
# A new one, which nobody has yet; NULL: it is pending already. Then pending_assign.
cdef pending_t *pending_create(stream_group_t *group, stream_id_t id, int64_t delivered_ms,
                               uint64_t deliveries) noexcept nogil
# The same for a loader: times come in any order, and group_sort_pending puts the list right at the end.
cdef pending_t *pending_load(stream_group_t *group, stream_id_t id, int64_t delivered_ms,
                             uint64_t deliveries) noexcept nogil
cdef void group_sort_pending(stream_group_t *group) noexcept nogil
# It was delivered at that time. Costs steps only for what was delivered later still.
cdef void pending_date(stream_group_t *group, pending_t *self, int64_t delivered_ms) noexcept nogil
# So many of the consumer's, from this one on, are delivered once more, at one time: those whose bit is set in `chosen`.
# Runs that were delivered one after the other move as one.
cdef void pending_deliver_again(stream_group_t *group, const stream_consumer_t *consumer, id_place_t place,
                                uint64_t count, const uint8_t *chosen, int64_t now_ms) noexcept nogil
# From the consumer that has it, if any, to another one.
cdef void pending_assign(pending_t *self, stream_id_t id, stream_consumer_t *consumer) noexcept nogil
# Delivered now, for the first time, whoever had it before.
cdef void pending_deliver(stream_group_t *group, stream_consumer_t *consumer, stream_id_t id,
                          int64_t now_ms) noexcept nogil
cdef bint pending_remove(stream_group_t *group, stream_id_t id) noexcept nogil        # False: it was not pending
# Many at once, in any order, each there once; what follows each other costs some nanoseconds each. Delivered now, to
# this consumer; so many more deliveries.
cdef void pending_give_all(stream_group_t *group, stream_consumer_t *consumer, pending_t **entries, uint64_t count,
                           int64_t now_ms, uint64_t deliveries) noexcept nogil
cdef void pending_remove_all(stream_group_t *group, pending_t **entries, uint64_t count) noexcept nogil

# A claim begins: group.claim is its own, and says what it has seen (nothing yet). Returns its number.
cdef uint64_t claim_watch_begin(stream_group_t *group) noexcept nogil
cdef void claim_watch_end(stream_group_t *group, uint64_t number) noexcept nogil

# A walk over what is pending now (store/pending_walk). All walks over groups of a stream have one owner.
cdef void group_walk_begin(stream_group_t *group, pending_walk_t *walk, const void *owner) noexcept nogil
cdef const void *groups_walk_owner(const name_table_t *self) noexcept nogil           # NULL: none is walked over
cdef void groups_detach_walks(name_table_t *self) noexcept nogil

# A batch: what a consumer will be given as one, made aside. It is a group that is in no table; its last_id and
# entries_read, at first the group's, go on with it (stream_advance_group). Until it is delivered or freed
# (group_add to some stream that goes) the consumer must not go.
cdef stream_group_t *batch_new(const stream_group_t *group) noexcept nogil
cdef void batch_add(stream_group_t *self, stream_consumer_t *consumer, stream_id_t id, int64_t now_ms) noexcept nogil
# All its IDs are behind all that is pending. Frees it. Costs steps for its leaves, and for what was delivered later.
cdef void batch_deliver(stream_group_t *group, stream_consumer_t *consumer, stream_group_t *self) noexcept nogil

# Whole tables of groups
# Adds what is not there yet, from the first group on; at most *budget pending entries, which it takes off. True when
# all is there. Between two steps nothing of it may change.
cdef bint groups_dup_step(const name_table_t *self, name_table_t *out, uint64_t *budget) noexcept nogil
# mark_mix of `mark` and all that can change of them.
cdef uint64_t groups_mark(const name_table_t *self, uint64_t mark) noexcept nogil
# Frees at most *budget allocations and takes them off the budget; True when the table is empty and owns nothing.
cdef bint groups_free_step(name_table_t *self, uint64_t *budget) noexcept nogil
cdef uint64_t groups_block_count(const name_table_t *self) noexcept nogil
cdef size_t groups_heap_bytes(const name_table_t *self) noexcept nogil
cdef void groups_check(const name_table_t *self) noexcept nogil


cdef inline void group_settle(const stream_group_t *self) noexcept nogil:
    """Before its index, its list or a count is looked at. Nobody sees a difference, so it may be const."""
    if unlikely(self.gone != NULL):
        group_purge(<stream_group_t *>self)


cdef inline bint claim_is_watched(const stream_group_t *self, uint64_t number) noexcept nogil:
    """Nothing that it has seen has changed."""
    return self.claim.number == number


cdef inline uint64_t group_pending_count(const stream_group_t *self) noexcept nogil:
    cdef const stream_consumer_t *gone = self.gone
    cdef uint64_t count = self.pending.count
    while unlikely(gone != NULL):
        count -= gone.pending.count
        gone = gone.next_gone
    return count


cdef inline uint64_t mark_mix(uint64_t mark, uint64_t number) noexcept nogil:
    """A step of Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4)."""
    mark = (mark ^ number) * <uint64_t>0x9E3779B97F4A7C15
    return mark ^ mark >> 29


cdef inline slice_t name_of(const void *named) noexcept nogil:
    """The name of a group or a consumer."""
    cdef slice_t name
    name.data = <const char *>named + (<const named_t *>named).name_offset
    name.size = (<const named_t *>named).name_size
    return name


cdef inline stream_group_t *group_at(const name_table_t *self, uint32_t i) noexcept nogil:
    return <stream_group_t *>self.members[i]


cdef inline stream_consumer_t *consumer_at(const stream_group_t *self, uint32_t i) noexcept nogil:
    return <stream_consumer_t *>self.consumers.members[i]
