"""Searching for positions: GEOSEARCH and its kin, from the shape to the reply, in slices where it is much.

The shape is covered by up to nine cells, each a range of scores; every member there is asked for its distance. Then
what was found is sorted, cut to COUNT, and replied (or stored, by the caller).

    search_resolve(&self, value)             how many members there are to ask
    while not search_work(&self, work): ...  others run; the set does not change
    search_reply_work(&self, reply, work)    likewise
    search_end(&self)

Ownership: search_t owns what was found and the sort's pointers (net_alloc); members and cursor borrow from the set.
"""

from libc.stdint cimport int64_t, uint64_t

from dfly._core.engine.slices cimport work_t
from dfly._core.resp.reply cimport reply_t
from dfly._core.store.block_list cimport list_item_t
from dfly._core.store.geohash cimport geo_point_t, geo_shape_t
from dfly._core.store.merge_sort cimport merge_sort_t
from dfly._core.store.object cimport object_t
from dfly._core.store.sorted_set cimport zset_cursor_t

cdef enum order_t:
    ORDER_NONE = 0
    ORDER_ASC = 1
    ORDER_DESC = 2

cdef struct found_t:
    list_item_t member           # borrowed from the set
    double score
    double distance              # m
    geo_point_t point

cdef struct score_range_t:
    uint64_t start               # rank
    uint64_t count

cdef struct search_t:
    # As asked for.
    geo_shape_t shape
    double unit                  # m
    order_t order
    int64_t count                # 0: all
    bint any
    bint with_distance
    bint with_hash
    bint with_point
    bint has_store
    bint stores_distance
    # Where it is.
    score_range_t ranges[9]
    int range_count
    int next_range
    uint64_t left                # of the range before that
    zset_cursor_t cursor
    found_t *found
    uint64_t found_count
    bint is_sorting
    merge_sort_t sort
    bint is_replying
    uint64_t replied

cdef uint64_t search_resolve(search_t *self, const object_t *value) noexcept nogil
cdef bint search_work(search_t *self, const object_t *value, work_t *work) noexcept nogil
# What was found, in order; i below found_count.
cdef const found_t *search_found(const search_t *self, uint64_t i) noexcept nogil
cdef bint search_reply_work(search_t *self, reply_t *reply, work_t *work) noexcept nogil
cdef void search_end(search_t *self) noexcept nogil

cdef void reply_distance(reply_t *reply, double distance) noexcept nogil
cdef void reply_point(reply_t *reply, geo_point_t point) noexcept nogil
