"""Prefetching in dash tables: see dash_prefetch.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dfly._core.store.dash_segment cimport (PAIR_SHIFT, bucket_at, bucket_entry, directory_index, home_bucket,
                                            is_in_stash, next_bucket, segment_t, word_regular, word_segment, word_total)
from dfly._core.store.object cimport OBJECT_HEAP, OBJECT_TAG_MASK, object_is_string, object_size, object_tag
from dfly._core.sys.base cimport DFLY_ABI_STAMP, ctz, likely, match16, prefetch, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CACHE_LINE = 64


cdef inline uint32_t slots_at_home(const bucket_t *bucket, uint64_t hash) noexcept nogil:
    return match16(bucket.fingerprint, <uint8_t>hash) & bucket.busy & ~<uint32_t>bucket.displaced


cdef inline entry_t *fetch_slots(dash_t *self, bucket_t *bucket, uint32_t mask) noexcept nogil:
    """Their entries; returns the first one."""
    cdef entry_t *first = bucket_entry(bucket, <uint32_t>ctz(mask), self.entry_shift)
    prefetch(first)
    mask &= mask - 1
    while unlikely(mask != 0):
        prefetch(bucket_entry(bucket, <uint32_t>ctz(mask), self.entry_shift))
        mask &= mask - 1
    return first


cdef bucket_t *dash_prefetch_bucket(dash_t *self, uint64_t hash) noexcept nogil:
    cdef uint64_t word = self.directory[directory_index(hash, self.depth)]
    cdef bucket_t *bucket = bucket_at(word_segment(word), home_bucket(hash, word_regular(word)), self.entry_shift)
    prefetch(bucket)
    return bucket


cdef void fetch_other_buckets(dash_t *self, const bucket_t *home, uint64_t hash) noexcept nogil:
    cdef uint64_t word = self.directory[directory_index(hash, self.depth)]
    cdef segment_t *segment = word_segment(word)
    cdef uint32_t regular = word_regular(word)
    cdef uint32_t b
    prefetch(bucket_at(segment, next_bucket(home_bucket(hash, regular), regular), self.entry_shift))
    if home.overflow != 0:
        for b in range(regular, word_total(word)):
            if is_in_stash(home, b, regular):
                prefetch(bucket_at(segment, b, self.entry_shift))


cdef entry_t *dash_prefetch_entry(dash_t *self, bucket_t *home, uint64_t hash) noexcept nogil:
    cdef uint32_t mask = slots_at_home(home, hash)
    if likely(mask != 0):
        return fetch_slots(self, home, mask)
    fetch_other_buckets(self, home, hash)
    return NULL


cdef entry_t *dash_prefetch_away(dash_t *self, uint64_t hash) noexcept nogil:
    cdef uint64_t word = self.directory[directory_index(hash, self.depth)]
    cdef segment_t *segment = word_segment(word)
    cdef uint32_t regular = word_regular(word)
    cdef uint32_t home = home_bucket(hash, regular)
    cdef const bucket_t *at_home = bucket_at(segment, home, self.entry_shift)
    cdef bucket_t *bucket = bucket_at(segment, next_bucket(home, regular), self.entry_shift)
    cdef uint32_t mask = match16(bucket.fingerprint, <uint8_t>hash) & bucket.displaced
    cdef uint32_t b
    if mask != 0:
        return fetch_slots(self, bucket, mask)
    if at_home.overflow != 0:
        for b in range(regular, word_total(word)):
            if not is_in_stash(at_home, b, regular):
                continue
            bucket = bucket_at(segment, b, self.entry_shift)
            mask = match16(bucket.fingerprint, <uint8_t>hash) & bucket.busy
            if mask != 0:
                return fetch_slots(self, bucket, mask)
    return NULL


cdef entry_t *dash_probable_entry(dash_t *self, uint64_t hash) noexcept nogil:
    cdef uint64_t word = self.directory[directory_index(hash, self.depth)]
    cdef bucket_t *bucket = bucket_at(word_segment(word), home_bucket(hash, word_regular(word)), self.entry_shift)
    cdef uint32_t mask = slots_at_home(bucket, hash)
    if likely(mask != 0):
        return bucket_entry(bucket, <uint32_t>ctz(mask), self.entry_shift)
    return dash_prefetch_away(self, hash)


cdef const object_t *dash_prefetch_value(const entry_t *entry) noexcept nogil:
    cdef const object_t *value = &entry.value
    cdef const char *block
    if object_tag(value) & OBJECT_TAG_MASK < OBJECT_HEAP:
        return NULL
    # A string or the root of a container; roots use low bits as marks.
    block = <const char *>(value.lo & ~<uint64_t>7)
    prefetch(block)
    if not object_is_string(value):
        prefetch(block + CACHE_LINE)
        return value
    if (<uint64_t>block & (CACHE_LINE - 1)) + object_size(value) > CACHE_LINE:
        prefetch(block + CACHE_LINE)
    return NULL


cdef void dash_prefetch_keys(dash_t *self, const uint64_t *hashes, uint32_t count) noexcept nogil:
    cdef void *probes[DASH_PREFETCH_KEYS]
    cdef entry_t *entry
    cdef uint32_t i
    for i in range(count):
        probes[i] = dash_prefetch_bucket(self, hashes[i])
    for i in range(count):
        probes[i] = dash_prefetch_entry(self, <bucket_t *>probes[i], hashes[i])
    for i in range(count):
        entry = <entry_t *>probes[i]
        if entry == NULL:
            entry = dash_prefetch_away(self, hashes[i])
        if entry != NULL and self.entry_shift == PAIR_SHIFT:
            dash_prefetch_value(entry)


cdef bint dash_prefetch_member(dash_t *self, uint64_t hash, int number, void **probe) noexcept nogil:
    if number == 0:
        probe[0] = dash_prefetch_bucket(self, hash)
    elif number == 1:
        probe[0] = dash_prefetch_entry(self, <bucket_t *>probe[0], hash)
        return probe[0] == NULL
    else:
        probe[0] = dash_prefetch_away(self, hash)
        return False
    return True
