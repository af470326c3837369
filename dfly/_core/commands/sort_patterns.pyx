"""What BY and GET look up: see sort_patterns.pxd."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from dfly._core.engine.command cimport transaction_t
from dfly._core.engine.database cimport find_read
from dfly._core.engine.shard cimport shard_close_books, shard_of, shard_open_books, shard_t
from dfly._core.engine.transaction cimport transaction_scope
from dfly._core.store.block_list cimport list_item_t, list_item_text
from dfly._core.store.dash cimport dash_ref_t
from dfly._core.store.hash_map cimport hash_find, hash_place_t, hash_value
from dfly._core.store.object cimport (TYPE_HASH, key_init, key_t, object_is_container, object_is_string, object_t,
                                      object_view)
from dfly._core.sys.alloc cimport net_free, net_realloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


# ---- Patterns ----------------------------------------------------------------------------------

cdef const char *find_arrow(const char *p, const char *end) noexcept nogil:
    """The arrow of a hash's field, if something follows it."""
    while p + 2 < end:
        if p[0] == c'-' and p[1] == c'>':
            return p
        p += 1
    return NULL


cdef void sort_pattern_parse(slice_t text, sort_pattern_t *out) noexcept nogil:
    cdef const char *end = text.data + text.size
    cdef const char *star = <const char *>memchr(text.data, c'*', text.size)
    cdef const char *arrow
    out.is_element = text.size == 1 and text.data[0] == c'#'
    out.is_constant = star == NULL
    out.field.data = NULL
    if star == NULL:
        return
    out.key.prefix.data = text.data
    out.key.prefix.size = <size_t>(star - text.data)
    out.key.suffix.data = star + 1
    out.key.suffix.size = <size_t>(end - star - 1)
    arrow = find_arrow(star + 1, end)
    if arrow != NULL:
        out.key.suffix.size = <size_t>(arrow - star - 1)
        out.field.data = arrow + 2
        out.field.size = <size_t>(end - arrow - 2)


# ---- Looking up --------------------------------------------------------------------------------

cdef void enter(lookups_t *self, shard_t *shard) noexcept nogil:
    """What a look-up frees (a key that is due) is its shard's."""
    cdef int64_t now_ms = self.scope.now_ms
    if self.scope.shard != shard:
        shard_close_books(self.scope.shard)
        shard_open_books(shard)
        transaction_scope(self.tx, shard, &self.scope)
        self.scope.now_ms = now_ms


cdef void lookups_begin(lookups_t *self, transaction_t *tx, shard_t *shard, int64_t now_ms) noexcept nogil:
    self.tx = tx
    transaction_scope(tx, shard, &self.scope)
    self.scope.now_ms = now_ms


cdef void lookups_end(lookups_t *self, shard_t *shard) noexcept nogil:
    enter(self, shard)


cdef void make_key(lookups_t *self, const sort_pattern_t *pattern, slice_t element, key_t *out) noexcept nogil:
    cdef size_t prefix = pattern.key.prefix.size
    cdef size_t suffix = pattern.key.suffix.size
    cdef size_t size = prefix + element.size + suffix
    if size > self.capacity:
        self.capacity = 2 * size
        self.name = <char *>net_realloc(self.name, self.capacity)
    memcpy(self.name, pattern.key.prefix.data, prefix)
    memcpy(self.name + prefix, element.data, element.size)
    memcpy(self.name + prefix + element.size, pattern.key.suffix.data, suffix)
    key_init(out, self.name, size)


cdef bint read_value(lookups_t *self, const object_t *value, slice_t field, slice_t *out) noexcept nogil:
    cdef hash_place_t place
    cdef list_item_t item
    if field.data == NULL:
        if not object_is_string(value):
            return False
        out[0] = object_view(value, self.scratch)
        return True
    if not object_is_container(value, TYPE_HASH) or not hash_find(value, field, self.scope.now_ms, &place):
        return False
    hash_value(value, &place, self.scratch, &item)
    out[0] = list_item_text(&item, self.number)
    return True


cdef bint looks_up(lookups_t *self, const sort_pattern_t *pattern, slice_t element, slice_t *out) noexcept nogil:
    cdef dash_ref_t ref
    cdef key_t key
    if pattern.is_element:
        out[0] = element
        return True
    if pattern.is_constant:
        return False
    make_key(self, pattern, element, &key)
    enter(self, self.tx.shards[shard_of(key.hash, self.tx.shard_count)])
    if not find_read(&self.scope, &key, &ref):
        self.misses += 1
        return False
    self.hits += 1
    return read_value(self, &ref.entry.value, pattern.field, out)


cdef uint64_t take_back(uint64_t *count, uint64_t many) noexcept nogil:
    """Returns what is left: there is less if counts were reset meanwhile, or others' share is elsewhere."""
    cdef uint64_t taken = min(count[0], many)
    count[0] -= taken
    return many - taken


cdef void lookups_forget(lookups_t *self, transaction_t *tx) noexcept nogil:
    cdef uint32_t i
    for i in range(tx.shard_count):
        self.hits = take_back(&tx.shards[i].stats.hits, self.hits)
        self.misses = take_back(&tx.shards[i].stats.misses, self.misses)
    self.hits = 0
    self.misses = 0


cdef void lookups_free(lookups_t *self) noexcept nogil:
    net_free(self.name)
    self.name = NULL
    self.capacity = 0
