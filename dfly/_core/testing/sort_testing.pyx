"""Test door to the merge sort."""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.store.merge_sort cimport merge_sort_at, merge_sort_begin, merge_sort_end, merge_sort_step, merge_sort_t
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

cdef struct pair_t:
    int64_t number
    uint64_t place


cdef int compare(const void *a, const void *b) noexcept nogil:
    cdef int64_t left = (<const pair_t *>a).number
    cdef int64_t right = (<const pair_t *>b).number
    return <int>(left > right) - <int>(left < right)


def sort_in_steps(numbers, uint64_t budget):
    """(numbers with the places where they were, as sorted; how many steps it took)."""
    cdef uint64_t count = len(numbers)
    cdef pair_t *pairs = <pair_t *>net_alloc((count + 1) * sizeof(pair_t))
    cdef const pair_t *pair
    cdef merge_sort_t sort
    cdef uint64_t left = budget
    cdef uint64_t steps = 1
    cdef uint64_t i
    for i in range(count):
        pairs[i].number = numbers[i]
        pairs[i].place = i
    merge_sort_begin(&sort, pairs, sizeof(pair_t), count, compare)
    while not merge_sort_step(&sort, &left):
        assert left == 0
        left = budget
        steps += 1
    found = []
    for i in range(count):
        pair = <const pair_t *>merge_sort_at(&sort, i)
        found.append((pair.number, pair.place))
    merge_sort_end(&sort)
    net_free(pairs)
    return found, steps
