"""XREADGROUP of many new entries of one stream, in slices.

The reply and what will be pending are made aside (stream_groups: a batch) and given to the consumer as one in the last
slice. What is read is what there was when it began. If meanwhile others read through the group, or entries go that are
to be delivered, it begins again (engine/slices); that the consumer has come into being stays.

    at import:                  deliveries_plan(&PLAN, look_hop)
    stage 0, arguments read:    return slices_look(tx, &PLAN)
    SLICES_LOOKED:              if delivery_is_long(...): return delivery_first(tx, &self, ..., &PLAN)
    delivery_is_stage:          return delivery_next(tx, &self, &PLAN)

Ownership: delivery_t is the first member of what tx.state points to. It owns its batch until it is
delivered or dropped; group, consumer and value are borrowed, and looked for again in each slice.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from dfly._core.engine.command cimport hop_t, transaction_t
from dfly._core.engine.shard cimport scope_t
from dfly._core.engine.slices cimport SLICES_DROPPED, SLICES_WORKED, slices_plan_t, slices_t, work_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.object cimport key_t, object_t
from dfly._core.store.stream cimport stream_t
from dfly._core.store.stream_groups cimport stream_consumer_t, stream_group_t
from dfly._core.sys.base cimport slice_t

cdef struct delivery_t:
    slices_t slices
    work_t work
    object_t value
    uint64_t epoch               # the stream's
    stream_id_t begin            # the first entry
    stream_id_t next             # where it goes on
    stream_id_t end              # the last one that there was
    uint64_t left                # at most so many more
    uint64_t count               # so many are in the reply
    int64_t now_ms               # when it began
    slice_t group_name           # the caller's
    uint32_t consumer_position   # of its name in argv
    uint32_t key_position        # there
    bint no_ack
    bint is_done
    stream_group_t *group
    stream_consumer_t *consumer
    stream_id_t last_id          # the group's, when it began
    int64_t entries_read
    stream_group_t *batch        # NULL: not begun

cdef void deliveries_plan(slices_plan_t *out, hop_t look) noexcept nogil
# Would what is new to this group, which there is, be much? most: at most so many entries are wanted.
cdef bint delivery_is_long(const transaction_t *tx, const stream_t *stream, slice_t group_name,
                           uint64_t most) noexcept nogil
# self: group_name, the positions and no_ack are set. The key is the transaction's only one.
cdef int delivery_first(transaction_t *tx, delivery_t *self, const object_t *value, uint64_t most,
                        const slices_plan_t *plan) noexcept nogil
cdef int delivery_next(transaction_t *tx, delivery_t *self, const slices_plan_t *plan) noexcept nogil

# Shared with readers that need no slices. Made if it is not there, and seen now; under update_begin.
cdef stream_consumer_t *take_consumer(scope_t *scope, const key_t *key, stream_group_t *group,
                                      slice_t name) noexcept nogil
# The reply's begin if it has one stream.
cdef void begin_single(reply_t *reply, slice_t key) noexcept nogil
cdef void begin_key(reply_t *reply, slice_t key) noexcept nogil


cdef inline bint delivery_is_stage(const transaction_t *tx) noexcept nogil:
    return SLICES_WORKED <= tx.stage <= SLICES_DROPPED
