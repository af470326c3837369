"""How much of a stream's front can go: see stream_front.pxd."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from dfly._core.store.id_index cimport (id_count_before, id_first, id_floor, id_index_t, id_last, id_next, id_place_t,
                                        id_previous, id_slot, stream_id_t)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, prefetch

__abi__ = DFLY_ABI_STAMP

cdef struct block_run_t:
    # Blocks from an end of the stream on, and their entries; `fetched` is as far ahead of `next` as headers need.
    uint64_t blocks
    uint64_t entries
    id_place_t next
    id_place_t fetched
    bint is_backwards
    bint is_fetching


cdef inline const uint8_t *pack_at(const id_index_t *blocks, id_place_t place) noexcept nogil:
    return <const uint8_t *>id_slot(blocks, place).value


cdef inline void run_begin(const id_index_t *blocks, block_run_t *run, bint is_backwards) noexcept nogil:
    memset(run, 0, sizeof(block_run_t))
    run.is_backwards = is_backwards
    if is_backwards:
        id_last(blocks, &run.next)
    else:
        id_first(blocks, &run.next)


cdef inline bint move(const id_index_t *blocks, const block_run_t *run, id_place_t *place) noexcept nogil:
    return id_previous(blocks, place) if run.is_backwards else id_next(blocks, place)


cdef inline void fetch_one(const id_index_t *blocks, block_run_t *run) noexcept nogil:
    run.is_fetching = run.is_fetching and move(blocks, run, &run.fetched)
    if run.is_fetching:
        prefetch(pack_at(blocks, run.fetched))


cdef void fetch_ahead(const id_index_t *blocks, block_run_t *run) noexcept nogil:
    cdef int _i
    run.fetched = run.next
    run.is_fetching = True
    for _i in range(FETCH_AHEAD):
        fetch_one(blocks, run)


cdef inline void run_extend(const id_index_t *blocks, block_run_t *run) noexcept nogil:
    run.entries += block_entries(pack_at(blocks, run.next))
    run.blocks += 1
    move(blocks, run, &run.next)
    fetch_one(blocks, run)


cdef uint64_t front_before(const id_index_t *blocks, uint64_t length, stream_id_t first_kept,
                           uint64_t *entries) noexcept nogil:
    cdef id_place_t place
    cdef block_run_t run
    cdef uint64_t gone
    if not id_floor(blocks, first_kept, &place):
        return 0
    gone = id_count_before(blocks, place)
    if gone < FRONT_LEAST:
        return 0
    run_begin(blocks, &run, 2 * gone > blocks.count)
    fetch_ahead(blocks, &run)
    while run.blocks < (blocks.count - gone if run.is_backwards else gone):
        run_extend(blocks, &run)
    entries[0] = length - run.entries if run.is_backwards else run.entries
    return gone


cdef uint64_t front_beyond(const id_index_t *blocks, uint64_t length, uint64_t kept, uint64_t *entries) noexcept nogil:
    cdef block_run_t front
    cdef block_run_t back
    cdef uint64_t left
    run_begin(blocks, &front, False)
    run_begin(blocks, &back, True)
    while front.blocks + back.blocks < blocks.count:
        left = length - front.entries
        if left <= kept or left - block_entries(pack_at(blocks, front.next)) < kept:
            break
        run_extend(blocks, &front)
        # Few go nearly always: nobody looks at the other end then.
        if front.blocks < FRONT_LEAST or front.blocks + back.blocks == blocks.count:
            continue
        if front.blocks == FRONT_LEAST:
            fetch_ahead(blocks, &front)
            fetch_ahead(blocks, &back)
        if back.entries >= kept and block_entries(pack_at(blocks, back.next)) > 0:
            entries[0] = length - back.entries
            return blocks.count - back.blocks
        run_extend(blocks, &back)
    entries[0] = front.entries
    return front.blocks


cdef void front_fetch_ahead(const id_index_t *blocks) noexcept nogil:
    cdef id_place_t place
    cdef int _i
    id_first(blocks, &place)
    for _i in range(FETCH_AHEAD):
        if not id_next(blocks, &place):
            return
    prefetch(pack_at(blocks, place))
