"""Searching for positions: see geo_search.pxd. Order of results that are not sorted as Redis 7.0."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf

from dfly._core.commands.lists cimport reply_list_item
from dfly._core.commands.numbers cimport LONG_DOUBLE_TEXT_MAX, format_long_double
from dfly._core.engine.slices cimport work_goes_on, work_sort
from dfly._core.resp.reply cimport reply_array, reply_bulk, reply_int, reply_raw
from dfly._core.store.geohash cimport (GEO_AREAS, geo_cell_t, geo_contains, geo_cover, geo_decode, geo_scores)
from dfly._core.store.merge_sort cimport merge_sort_at, merge_sort_begin, merge_sort_end
from dfly._core.store.sorted_set cimport zset_bound_t, zset_entry_t, zset_next, zset_range_by_score, zset_seek
from dfly._core.sys.alloc cimport net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP


cdef void add_cell(search_t *self, const object_t *value, geo_cell_t cell) noexcept nogil:
    cdef score_range_t *out = &self.ranges[self.range_count]
    cdef zset_bound_t low
    cdef zset_bound_t high
    geo_scores(cell, &low.score, &high.score)
    low.exclusive = False
    high.exclusive = True
    out.start = 0
    out.count = 0
    zset_range_by_score(value, &low, &high, &out.start, &out.count)
    if out.count > 0:
        self.range_count += 1


cdef uint64_t search_resolve(search_t *self, const object_t *value) noexcept nogil:
    cdef geo_cell_t cells[GEO_AREAS]
    cdef uint64_t total = 0
    cdef int last = 0
    cdef int i
    self.range_count = 0
    self.next_range = 0
    self.left = 0
    self.found = NULL
    self.found_count = 0
    self.is_sorting = False
    self.sort.items = NULL
    self.is_replying = False
    self.replied = 0
    geo_cover(&self.shape, cells)
    for i in range(GEO_AREAS):
        if cells[i].bits == 0 and cells[i].step == 0:
            continue
        # With a radius of half the world, neighbours are the same cell.
        if last > 0 and cells[i].bits == cells[last].bits and cells[i].step == cells[last].step:
            continue
        add_cell(self, value, cells[i])
        last = i
    for i in range(self.range_count):
        total += self.ranges[i].count
    return total


cdef inline bint is_full(const search_t *self) noexcept nogil:
    return self.any and self.found_count >= <uint64_t>self.count


cdef bint ask_members(search_t *self, const object_t *value, work_t *work) noexcept nogil:
    """True when nobody is left to ask, or enough are found."""
    cdef zset_entry_t entry
    cdef found_t *found
    while not is_full(self):
        if self.left == 0:
            if self.next_range == self.range_count:
                return True
            self.left = self.ranges[self.next_range].count
            zset_seek(value, self.ranges[self.next_range].start, &self.cursor)
            self.next_range += 1
        if not work_goes_on(work):
            return False
        zset_next(&self.cursor, &entry)
        self.left -= 1
        found = &self.found[self.found_count]
        found.point = geo_decode(<uint64_t>entry.score)
        if geo_contains(&self.shape, found.point, &found.distance):
            found.member = entry.member
            found.score = entry.score
            self.found_count += 1
    return True


cdef int nearer(const void *a, const void *b) noexcept nogil:
    cdef double left = (<const found_t *>a).distance
    cdef double right = (<const found_t *>b).distance
    return <int>(left > right) - <int>(left < right)


cdef int farther(const void *a, const void *b) noexcept nogil:
    return nearer(b, a)


cdef bint sort_found(search_t *self, work_t *work) noexcept nogil:
    if not self.is_sorting:
        self.is_sorting = True
        merge_sort_begin(&self.sort, self.found, sizeof(found_t), self.found_count,
                         nearer if self.order == ORDER_ASC else farther)
    return work_sort(work, &self.sort)


cdef uint64_t room_for(const search_t *self) noexcept nogil:
    cdef uint64_t total = 1
    cdef int i
    for i in range(self.range_count):
        total += self.ranges[i].count
    return min(total, <uint64_t>self.count) if self.any else total


cdef bint search_work(search_t *self, const object_t *value, work_t *work) noexcept nogil:
    if self.found == NULL:
        # For all that there may be: what is not used is not touched.
        self.found = <found_t *>net_alloc(room_for(self) * sizeof(found_t))
    if not self.is_sorting and not ask_members(self, value, work):
        return False
    if self.order != ORDER_NONE and self.found_count > 1 and not sort_found(self, work):
        return False
    if self.count > 0 and self.found_count > <uint64_t>self.count:
        self.found_count = <uint64_t>self.count
    return True


cdef const found_t *search_found(const search_t *self, uint64_t i) noexcept nogil:
    if self.is_sorting:
        return <const found_t *>merge_sort_at(&self.sort, i)
    return &self.found[i]


cdef void search_end(search_t *self) noexcept nogil:
    net_free(self.found)
    self.found = NULL
    if self.sort.items != NULL:
        merge_sort_end(&self.sort)


# ---- Replies -----------------------------------------------------------------------------------

cdef void reply_distance(reply_t *reply, double distance) noexcept nogil:
    cdef char text[64]
    reply_bulk(reply, text, <size_t>snprintf(text, sizeof(text), "%.4f", distance))


cdef void reply_degrees(reply_t *reply, double value) noexcept nogil:
    """RESP2: a bulk string; RESP3: a double with the same digits."""
    cdef char text[LONG_DOUBLE_TEXT_MAX]
    cdef size_t size = format_long_double(value, text)
    if reply.resp == 2:
        reply_bulk(reply, text, size)
        return
    reply_raw(reply, ",", 1)
    reply_raw(reply, text, size)
    reply_raw(reply, "\r\n", 2)


cdef void reply_point(reply_t *reply, geo_point_t point) noexcept nogil:
    reply_array(reply, 2)
    reply_degrees(reply, point.longitude)
    reply_degrees(reply, point.latitude)


cdef bint search_reply_work(search_t *self, reply_t *reply, work_t *work) noexcept nogil:
    cdef uint32_t options = self.with_distance + self.with_hash + self.with_point
    cdef const found_t *found
    if not self.is_replying:
        self.is_replying = True
        reply_array(reply, self.found_count)
    while self.replied < self.found_count:
        if not work_goes_on(work):
            return False
        found = search_found(self, self.replied)
        self.replied += 1
        if options > 0:
            reply_array(reply, options + 1)
        reply_list_item(reply, &found.member)
        if self.with_distance:
            reply_distance(reply, found.distance / self.unit)
        if self.with_hash:
            reply_int(reply, <int64_t>found.score)
        if self.with_point:
            reply_point(reply, found.point)
    return True
