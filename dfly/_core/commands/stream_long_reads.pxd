"""XREAD of many entries, in slices.

It takes place as a whole when it begins: what is added later is not replied, and what has been replied may go. If what
is to be replied yet is trimmed or deleted it begins again (engine/slices).

    at import:                  streams_left_plan(&PLAN, look_hop)
    stage 0, arguments read:    return slices_look(tx, &PLAN)
    SLICES_LOOKED:              IDs are settled
                                if streams_left_is_long(...): streams_left_begin, streams_left_add ...,
                                    return streams_left_first(tx, &PLAN)
    streams_left_is_stage:      return streams_left_next(tx, &PLAN)

Ownership: streams_left_t is the first member of what tx.state points to, its streams lie in the same block. Values
borrow.
"""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.commands.long_reads cimport entries_left_t
from dfly._core.engine.command cimport hop_t, transaction_t
from dfly._core.engine.slices cimport SLICES_WORKED, slices_plan_t, slices_t, work_t
from dfly._core.store.id_index cimport stream_id_t
from dfly._core.store.object cimport object_t
from dfly._core.store.stream cimport stream_t

cdef enum:
    STREAMS_CHECKED = 5          # tx.stage, behind those of slices

cdef enum stream_left_phase_t:
    LEFT_NOTHING = 0
    LEFT_COUNTING = 1
    LEFT_REPLYING = 2

cdef struct stream_left_t:
    object_t value
    entries_left_t entries
    stream_id_t block            # counting: where the block begins that comes next
    uint64_t count               # so many are counted, later left
    stream_left_phase_t phase

cdef struct streams_left_t:
    slices_t slices
    work_t work
    stream_left_t *streams       # one for each key
    uint32_t next                # of them
    uint32_t first               # key in argv
    uint64_t most                # entries of each
    bint is_done

cdef void streams_left_plan(slices_plan_t *out, hop_t look) noexcept nogil
# Would the entries behind this ID be many? most: at most so many are wanted.
cdef bint streams_left_is_long(const transaction_t *tx, const stream_t *stream, stream_id_t behind,
                               uint64_t most) noexcept nogil
cdef void streams_left_begin(streams_left_t *self, transaction_t *tx, uint32_t first, uint64_t most) noexcept nogil
# Position i of the keys: this value, which has entries behind the ID.
cdef void streams_left_add(streams_left_t *self, uint32_t i, const object_t *value, stream_id_t behind) noexcept nogil
cdef int streams_left_first(transaction_t *tx, const slices_plan_t *plan) noexcept nogil
cdef int streams_left_next(transaction_t *tx, const slices_plan_t *plan) noexcept nogil


cdef inline bint streams_left_is_stage(const transaction_t *tx) noexcept nogil:
    return SLICES_WORKED <= tx.stage <= STREAMS_CHECKED
