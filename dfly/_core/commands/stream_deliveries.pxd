"""XREADGROUP of many entries, new ones or those that are pending, in slices.

The reply and what will be pending are made aside (stream_groups: a batch for each stream) and given to the consumer as
one in the last slice. What is read is what there was when it began. If meanwhile others read through one of the groups,
or entries go that are to be delivered, it begins again (engine/slices); that the consumer has come into being stays.
What is pending for the consumer and asked for again is replied as it is at the end: it begins again if one comes or
goes until then. Its times and counts change in the last slice, which is some nanoseconds each. With CLAIM what has
been pending for so long comes before what is new (stream_claims).

    at import:                  deliveries_plan(&PLAN, look_hop)
    stage 0, arguments read:    return slices_look(tx, &PLAN)
    SLICES_LOOKED:              if delivery_is_long(...) or history_is_long(...) of one, and delivery_is_possible(...)
                                of all that want new ones:
                                    deliveries_begin, deliveries_add or deliveries_add_history ...,
                                    return deliveries_first(tx, &self, &PLAN)
    deliveries_is_stage:        return deliveries_next(tx, &self, &PLAN)

Ownership: deliveries_t is the first member of what tx.state points to, its streams lie in the same block. It owns its
batches until they are delivered or dropped; groups, consumers and values are borrowed, and looked for again in each
slice.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from dfly._core.commands.stream_claims cimport claim_t
from dfly._core.engine.command cimport hop_t, transaction_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport SLICES_DROPPED, SLICES_WORKED, slices_plan_t, slices_t, work_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.id_index cimport id_place_t, stream_id_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport stream_consumer_t, stream_group_t
from dfly._core.sys.base cimport slice_t

cdef enum:
    NO_CLAIM = -1                # instead of a number of ms

cdef struct history_t:
    # What is pending for the consumer.
    bint is_wanted               # instead of new entries
    bint is_begun
    bint has_begin               # some entry was in the stream; the first one is the delivery's begin
    stream_id_t behind           # the ID that was given
    id_place_t first
    id_place_t place             # the next one
    uint64_t birth               # the consumer's
    uint64_t moves
    uint64_t total
    uint8_t *present             # a bit for each: it is in the stream, not just pending (net_alloc)

cdef struct delivery_t:
    # Of one stream.
    object_t value
    uint64_t epoch               # the stream's
    stream_id_t begin            # the first entry
    stream_id_t next             # where it goes on
    stream_id_t end              # the last one that there was
    stream_id_t block            # counting: where the block begins that comes next
    uint64_t count               # so many new ones are counted, or pending ones, later left
    uint32_t key                 # the transaction's
    bint is_counted
    stream_group_t *group
    stream_consumer_t *consumer
    stream_id_t last_id          # the group's, when it began
    int64_t entries_read
    stream_group_t *batch        # NULL: not begun, or nothing is new
    bint has_new
    history_t history
    claim_t claim                # with CLAIM

cdef struct deliveries_t:
    slices_t slices
    work_t work
    delivery_t *streams          # room for one for each key; those that have something new
    uint32_t count               # of streams
    uint32_t next                # of them
    uint32_t first               # key in argv
    uint32_t consumer_position   # of its name there
    uint64_t most                # entries of each
    int64_t min_idle_ms          # of CLAIM, the caller's; NO_CLAIM
    int64_t now_ms               # when it began
    slice_t group_name           # the caller's
    bint no_ack
    bint is_begun
    bint is_done

cdef void deliveries_plan(slices_plan_t *out, hop_t look) noexcept nogil
# Would what is new to this group, which there is, be much? most: at most so many entries are wanted.
cdef bint delivery_is_long(const transaction_t *tx, const stream_t *stream, slice_t group_name,
                           uint64_t most) noexcept nogil
# Does this consumer have much that is pending behind this ID?
cdef bint history_is_long(const transaction_t *tx, const stream_t *stream, slice_t group_name, slice_t consumer_name,
                          stream_id_t behind, uint64_t most) noexcept nogil
# Can it be made aside?
cdef bint delivery_is_possible(const stream_t *stream, slice_t group_name) noexcept nogil
# self: streams, group_name, first, consumer_position, min_idle_ms and no_ack are set. No key is there twice.
cdef void deliveries_begin(deliveries_t *self, transaction_t *tx, uint64_t most) noexcept nogil
# This key's value, which has something new to the group, or to be claimed.
cdef void deliveries_add(deliveries_t *self, uint32_t key, const object_t *value) noexcept nogil
cdef void deliveries_add_history(deliveries_t *self, uint32_t key, const object_t *value,
                                 stream_id_t behind) noexcept nogil
cdef int deliveries_first(transaction_t *tx, deliveries_t *self, const slices_plan_t *plan) noexcept nogil
cdef int deliveries_next(transaction_t *tx, deliveries_t *self, const slices_plan_t *plan) noexcept nogil

# Shared with readers that need no slices.
# [ID, nil]: pending, but no longer in the stream.
cdef void reply_gone_entry(reply_t *reply, stream_id_t id) noexcept nogil
# The reply's begin if it has one stream.
cdef void begin_single(reply_t *reply, slice_t key) noexcept nogil
cdef void begin_key(reply_t *reply, slice_t key) noexcept nogil


cdef inline bint deliveries_is_stage(const transaction_t *tx) noexcept nogil:
    return SLICES_WORKED <= tx.stage <= SLICES_DROPPED
