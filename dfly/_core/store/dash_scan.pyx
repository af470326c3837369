"""Implementation of walks through a dash table: see dash_scan.pxd."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.store.dash cimport dash_slots_widest
from dfly._core.store.dash_segment cimport (DASH_SLOTS, bucket_at, bucket_entry, bucket_t, directory_index, home_bucket,
                                            make_ref, next_bucket, segment_bucket, word_segment, word_total)
from dfly._core.store.object cimport object_is_sticky, object_key_hash
from dfly._core.sys.base cimport DFLY_ABI_STAMP, ctz, prefetch, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    SAMPLE_TRIES = 64
    DRAW_TRIES = 4096
    STICKY_SAMPLE_TRIES = 16     # each reads all keys of a segment, if all are sticky
    SCAN_BITS = 24


cdef void dash_begin(const dash_t *self, dash_cursor_t *out) noexcept nogil:
    out.table = self
    out.word = 0
    out.segment = word_segment(self.directory[0])
    out.bucket = 0
    out.mask = segment_bucket(out.segment, 0).busy


cdef bint next_filled(dash_cursor_t *self) noexcept nogil:
    """To the next bucket that has entries; False at the end of the table."""
    while self.mask == 0:
        self.bucket += 1
        if self.bucket == self.segment.total:
            self.word += <uint64_t>1 << (self.table.depth - self.segment.local_depth)
            if self.word >> self.table.depth:
                self.bucket -= 1
                return False
            self.segment = word_segment(self.table.directory[self.word])
            self.bucket = 0
        self.mask = segment_bucket(self.segment, self.bucket).busy
    return True


cdef bint dash_next(dash_cursor_t *self, dash_ref_t *out) noexcept nogil:
    if unlikely(self.mask == 0) and not next_filled(self):
        return False
    make_ref(out, self.segment, self.bucket, <uint32_t>ctz(self.mask))
    self.mask &= self.mask - 1
    return True


cdef void visit_home(dash_t *self, segment_t *segment, uint32_t b, uint32_t mask, uint32_t home,
                     uint64_t prefix, uint32_t prefix_depth, dash_visit_t visit, void *context) noexcept nogil:
    """Visits the slots in mask of bucket b whose entries are at home in `home` and begin with prefix."""
    cdef dash_ref_t ref
    cdef uint64_t hash
    cdef uint32_t slot
    while mask != 0:
        slot = <uint32_t>ctz(mask)
        mask &= mask - 1
        make_ref(&ref, segment, b, slot)
        if b >= segment.regular or prefix_depth > segment.local_depth:
            hash = object_key_hash(&ref.entry.key)
            if home_bucket(hash, segment.regular) != home:
                continue
            if directory_index(hash, prefix_depth) != prefix:
                continue
        visit(self, &ref, context)


cdef uint64_t dash_scan(dash_t *self, uint64_t cursor, dash_visit_t visit, void *context) noexcept nogil:
    cdef uint32_t position = <uint32_t>(cursor & 0xFFFF)
    cdef uint64_t bits = (cursor >> 16) & 0xFFFFFF
    cdef uint32_t depth = <uint32_t>((cursor >> 40) & 31)
    cdef segment_t *segment = word_segment(self.directory[bits >> (SCAN_BITS - self.depth)])
    cdef bucket_t *bucket
    cdef uint32_t regular = segment.regular
    cdef uint32_t home = (position * regular) >> 16
    cdef uint32_t following = next_bucket(home, regular)
    cdef uint64_t prefix
    cdef uint32_t b
    if depth > SCAN_BITS:
        return 0
    # A segment that is deeper than the cursor's subrange covers its beginning; one that is shallower
    # (siblings were merged) is visited only as far as the subrange goes.
    if depth < segment.local_depth:
        depth = segment.local_depth
    prefix = bits >> (SCAN_BITS - depth)
    bucket = segment_bucket(segment, home)
    visit_home(self, segment, home, bucket.busy & ~<uint32_t>bucket.displaced, home, prefix, depth, visit, context)
    if following != home:
        visit_home(self, segment, following, segment_bucket(segment, following).displaced, home, prefix, depth, visit,
                   context)
    if bucket.overflow != 0:
        for b in range(regular, segment.total):
            visit_home(self, segment, b, segment_bucket(segment, b).busy, home, prefix, depth, visit, context)
    if home + 1 < regular:
        position = ((home + 1) * 65536 + regular - 1) // regular
        return (<uint64_t>depth << 40) | (bits << 16) | position
    bits = (prefix + 1) << (SCAN_BITS - depth)
    if bits >> SCAN_BITS:
        return 0
    # Behind the end of a whole segment the next cursor starts afresh with the next segment's depth.
    if bits & ((<uint64_t>1 << (SCAN_BITS - segment.local_depth)) - 1) == 0:
        depth = word_segment(self.directory[bits >> (SCAN_BITS - self.depth)]).local_depth
    return (<uint64_t>depth << 40) | (bits << 16)


cdef inline uint64_t next_random(uint64_t *state) noexcept nogil:
    """xorshift64* (Vigna 2014); the seed is the caller's random number."""
    state[0] ^= state[0] >> 12
    state[0] ^= state[0] << 25
    state[0] ^= state[0] >> 27
    return state[0] * 2685821657736338717ULL


cdef bint try_draw(dash_t *self, uint64_t seed, dash_ref_t *out) noexcept nogil:
    """Uniform by rejection: a random directory word, then a random slot of the largest size class.

    A shallow segment has several directory words, so it is accepted with the inverse probability. out NULL: only
    fetches what is needed to decide.
    """
    cdef uint64_t i = next_random(&seed) >> 1 >> (63 - self.depth)
    cdef uint64_t word = self.directory[i]
    cdef segment_t *segment = word_segment(word)
    cdef uint32_t slots = word_total(word) * DASH_SLOTS
    cdef uint32_t cell = <uint32_t>(((next_random(&seed) >> 32)
                                     * (slots if self.depth == 0 else dash_slots_widest(self))) >> 32)
    cdef uint32_t slot = cell % DASH_SLOTS
    cdef bucket_t *bucket
    cdef uint32_t spread
    if cell >= slots:
        return False
    bucket = bucket_at(segment, cell // DASH_SLOTS, self.entry_shift)
    if out == NULL:
        prefetch(segment)
        prefetch(bucket)
        prefetch(bucket_entry(bucket, slot, self.entry_shift))
        return False
    if self.depth > 0 and self.directory[i ^ 1] == word:
        spread = self.depth - segment.local_depth
        if (next_random(&seed) >> 32) & ((<uint64_t>1 << spread) - 1):
            return False
    if not (bucket.busy >> slot) & 1:
        return False
    make_ref(out, segment, cell // DASH_SLOTS, slot)
    return True


cdef bint dash_random(dash_t *self, uint64_t random, dash_ref_t *out) noexcept nogil:
    cdef uint64_t state = random | 1
    cdef uint32_t _tries
    if self.count == 0:
        return False
    for _tries in range(DRAW_TRIES):
        if try_draw(self, next_random(&state), out):
            return True
    return dash_sample(self, state, False, out, 1) == 1


cdef void dash_draws_begin(dash_draws_t *self, uint64_t random, uint64_t count) noexcept nogil:
    self.state = random | 1
    self.ahead = <uint32_t>max(<uint64_t>1, min(count, <uint64_t>DASH_DRAWS))
    self.next = 0
    self.is_filled = False


cdef inline void refill_draw(dash_t *self, dash_draws_t *draws, uint32_t i) noexcept nogil:
    draws.seeds[i] = next_random(&draws.state)
    try_draw(self, draws.seeds[i], NULL)


cdef bint dash_draw(dash_t *self, dash_draws_t *draws, dash_ref_t *out) noexcept nogil:
    cdef uint32_t _tries
    cdef uint32_t i
    cdef uint64_t seed
    if self.count == 0:
        return False
    if not draws.is_filled:
        draws.is_filled = True
        for i in range(draws.ahead):
            refill_draw(self, draws, i)
    for _tries in range(DRAW_TRIES):
        i = draws.next
        draws.next = i + 1 if i + 1 < draws.ahead else 0
        seed = draws.seeds[i]
        refill_draw(self, draws, i)
        if try_draw(self, seed, out):
            return True
    return dash_sample(self, draws.state, False, out, 1) == 1


cdef uint32_t sample_segment(segment_t *segment, uint32_t start, bint only_volatile, bint may_be_sticky,
                             dash_ref_t *out, uint32_t capacity) noexcept nogil:
    """Takes entries bucket by bucket from a random start."""
    cdef bucket_t *bucket
    cdef uint32_t taken = 0
    cdef uint32_t mask
    cdef uint32_t i
    cdef uint32_t b
    for i in range(segment.total):
        b = (start + i) % segment.total
        bucket = segment_bucket(segment, b)
        mask = bucket.deadline if only_volatile else bucket.busy
        while mask != 0 and taken < capacity:
            make_ref(&out[taken], segment, b, <uint32_t>ctz(mask))
            mask &= mask - 1
            taken += not (may_be_sticky and object_is_sticky(&out[taken].entry.key))
        if taken == capacity:
            break
    return taken


cdef uint32_t dash_sample(dash_t *self, uint64_t random, bint only_volatile, dash_ref_t *out,
                          uint32_t capacity) noexcept nogil:
    cdef uint64_t state = random | 1
    cdef uint32_t taken = 0
    cdef uint64_t _tries
    cdef uint64_t i
    cdef segment_t *segment
    if self.count == 0 or (only_volatile and self.due_count == 0):
        return 0
    for _tries in range(STICKY_SAMPLE_TRIES if self.has_sticky else SAMPLE_TRIES):
        if only_volatile:
            segment = self.due[(next_random(&state) >> 32) % self.due_count]
        else:
            segment = word_segment(self.directory[next_random(&state) >> 1 >> (63 - self.depth)])
        taken = sample_segment(segment, <uint32_t>(next_random(&state) >> 32), only_volatile, self.has_sticky,
                               out, capacity)
        if taken > 0:
            return taken
    # Nearly empty table: look everywhere.
    for i in range(0 if self.has_sticky and self.segment_count > SAMPLE_TRIES else <uint64_t>1 << self.depth):
        taken = sample_segment(word_segment(self.directory[i]), 0, only_volatile, self.has_sticky, out, capacity)
        if taken > 0:
            return taken
    return 0
