"""The dash table: see dash.pxd for the idea and the contract.

A segment is one block (dash_segment.pxd). `regular` home buckets come first, then the stash. Size classes are chosen
so that a block just fits one of the allocator's sizes (four steps a doubling): 64 + 480 * total (entries with values;
256 without) is at most 1, 2, 4, 8, 16, 20, 24, 28, 32 KB. The last class, twice as large, is for
halves of a split that do not fit: such a segment is split again at once.

Invariants
1. An entry lives in its home bucket, in the next regular bucket (its `displaced` bit set), or in a
   stash bucket (and the home bucket's `overflow` counts it).
2. busy bits cover exactly the used slots; displaced and deadline bits are subsets of busy.
3. The directory holds 1 << (depth - local_depth) consecutive words for each segment.
4. segment.earliest is a lower bound of its deadlines; a segment is in the due heap exactly while
   earliest is not DASH_NO_DEADLINE.
5. A bucket's version is at most the version of every entry in it: when entries move, the destination
   takes the smaller of both, so a snapshot that has not saved an entry still sees it as unsaved.
6. During a walk no entry enters a bucket or moves out of it before the bucket has been visited; one that changes
   in place or is erased has been visited itself. So the unvisited entries of a bucket are what they were.
7. A version with PARTIAL set is a mark of a walk: some slots of the bucket have been visited, the others not. One
   of a walk that was given up means nothing.

Ownership: the table owns segments, side arrays and keys; values are the engine's.
Source: Lu, Hao, Wang, Lo, "Dash: Scalable Hashing on Persistent Memory", VLDB 2020.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.mman cimport MADV_DONTNEED, madvise

from dfly._core.store.dash_due cimport due_remove, due_update
from dfly._core.store.dash_segment cimport (BUCKET_HEADER, KEY_SHIFT, PAIR_SHIFT, SEGMENT_HEADER, SLOT_MASK,
                                            bucket_at, bucket_bytes, bucket_entry, cell_index, directory_index,
                                            home_bucket, is_in_stash, make_ref, make_word, next_bucket, previous_bucket,
                                            segment_bucket, word_regular, word_segment, word_total)
from dfly._core.store.dash_walk cimport (hand_over, hand_over_segment, hand_over_two, is_visited, partial_mark,
                                         visited_slots)
from dfly._core.store.object cimport (key_to_object, object_dup, object_equals_image, object_equals_key, object_free,
                                      object_free_step, object_key_hash, object_t)
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_realloc, mem_usable, mem_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, ctz, likely, match16, unlikely

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CLASS_COUNT = 9
    SPARE_CLASS = 9              # only on the way from one split to the next
    SPLIT_CLASS = 4              # halves of a split are at least this large; smaller: small tables
    TOTAL_MAX = 254              # the directory has 8 bits for the number of buckets
    DEPTH_MAX = 24
    FILL_PERCENT = 85            # a rebuilt or split segment is at most so full
    RESERVED_PERCENT = 96        # and one that is made for what is to come
    SHRINK_PERCENT = 50          # below this a segment is rebuilt smaller, or merged with its sibling
    SHRUNK_PERCENT = 75          # and then is at most so full
    PAGE = 4096
    RETURN_MIN = 16384           # freed blocks from this size on give their pages back at once
    NARROW = 4                   # bytes of a deadline relative to the segment's base: 49 days
    WIDE = 8                     # bytes of an absolute deadline
    DAY_MS = 86400000
    ACCESS_BYTES = 3
    NO_SLOT = 0xFFFF

cdef struct saved_t:
    # What a transfer changes in its source: which slots are in use. Entries stay where they lie.
    bucket_t buckets[TOTAL_MAX]
    uint32_t count

cdef struct layout_t:
    # Buckets by size class.
    uint16_t regular[10]
    uint16_t total[10]
    # The same blocks with room for a narrow deadline a slot: fewer buckets instead of the next larger block.
    uint16_t timed_regular[10]
    uint16_t timed_total[10]

cdef layout_t PAIRS
PAIRS.regular = [1, 3, 7, 14, 31, 39, 47, 55, 64, 128]
PAIRS.total = [2, 4, 8, 16, 34, 42, 51, 59, 68, 136]
PAIRS.timed_regular = [1, 3, 7, 14, 27, 35, 41, 49, 57, 114]
PAIRS.timed_total = [2, 4, 8, 16, 30, 38, 45, 53, 61, 122]
cdef layout_t KEYS
KEYS.regular = [2, 6, 14, 29, 58, 74, 89, 104, 119, 238]
KEYS.total = [3, 7, 15, 31, 63, 79, 95, 111, 127, 254]
KEYS.timed_regular = [2, 6, 14, 29, 48, 60, 73, 85, 97, 194]
KEYS.timed_total = [3, 7, 15, 31, 52, 65, 78, 91, 104, 208]
if sizeof(segment_t) != SEGMENT_HEADER or sizeof(bucket_t) != BUCKET_HEADER or sizeof(entry_t) != 32:
    raise ImportError("dash table: unexpected struct layout")


# ---- Side arrays: deadlines and access words ---------------------------------------------------

cdef int64_t deadline_get(const segment_t *segment, size_t cell) noexcept nogil:
    cdef int64_t value = 0
    cdef const uint8_t *p = segment.deadlines + cell * segment.deadline_width
    if segment.deadline_width == WIDE:
        memcpy(&value, p, WIDE)
        return value
    memcpy(&value, p, NARROW)
    return value + segment.deadline_base


cdef inline bint fits_narrow(const segment_t *segment, int64_t deadline) noexcept nogil:
    return <uint64_t>(deadline - segment.deadline_base) < (<uint64_t>1 << 32)


cdef void deadline_put(segment_t *segment, size_t cell, int64_t deadline) noexcept nogil:
    cdef int64_t value = deadline if segment.deadline_width == WIDE else deadline - segment.deadline_base
    memcpy(segment.deadlines + cell * segment.deadline_width, &value, segment.deadline_width)


cdef inline uint8_t *inside_deadlines(segment_t *segment) noexcept nogil:
    """Where deadlines lie that share the segment's block: behind the entries."""
    return <uint8_t *>segment_bucket(segment, segment.total)


cdef inline bint has_narrow_deadlines(const segment_t *segment) noexcept nogil:
    return segment.deadlines != NULL and segment.deadline_width == NARROW


cdef void free_deadlines(segment_t *segment) noexcept nogil:
    if segment.deadlines != inside_deadlines(segment):
        mem_free(segment.deadlines)
        segment.deadlines = NULL


cdef void widen_deadlines(segment_t *segment) noexcept nogil:
    """Deadlines more than 49 days apart: all of the segment's become absolute."""
    cdef size_t cells = <size_t>segment.total * DASH_SLOTS
    cdef uint8_t *wide = <uint8_t *>mem_zalloc(cells * WIDE)
    cdef size_t i
    cdef int64_t value
    for i in range(cells):
        value = deadline_get(segment, i)
        memcpy(wide + i * WIDE, &value, WIDE)
    free_deadlines(segment)
    segment.deadlines = wide
    segment.deadline_width = WIDE


cdef bint rebase_deadlines(segment_t *segment, int64_t deadline) noexcept nogil:
    """Moves the base so that the segment's deadlines and this one fit; False if they lie too far apart."""
    cdef int64_t lowest = deadline
    cdef int64_t highest = deadline
    cdef int64_t old_base = segment.deadline_base
    cdef int64_t value
    cdef uint32_t b
    cdef uint32_t mask
    cdef size_t cell
    for b in range(segment.total):
        mask = segment_bucket(segment, b).deadline
        while mask != 0:
            value = deadline_get(segment, cell_index(b, <uint32_t>ctz(mask)))
            mask &= mask - 1
            lowest = min(lowest, value)
            highest = max(highest, value)
    if highest - lowest >= (<int64_t>1 << 32) - DAY_MS:
        return False
    segment.deadline_base = lowest - DAY_MS
    for b in range(segment.total):
        mask = segment_bucket(segment, b).deadline
        while mask != 0:
            cell = cell_index(b, <uint32_t>ctz(mask))
            mask &= mask - 1
            value = 0
            memcpy(&value, segment.deadlines + cell * NARROW, NARROW)
            deadline_put(segment, cell, value + old_base)
    return True


cdef void reserve_deadlines(segment_t *segment, int64_t deadline) noexcept nogil:
    if segment.deadlines == NULL:
        segment.deadline_width = NARROW
        segment.deadlines = <uint8_t *>mem_zalloc(<size_t>segment.total * DASH_SLOTS * NARROW)
    if segment.deadline_width == NARROW and not fits_narrow(segment, deadline):
        if not rebase_deadlines(segment, deadline):
            widen_deadlines(segment)


cdef uint32_t access_get(const segment_t *segment, size_t cell) noexcept nogil:
    cdef uint32_t word = 0
    memcpy(&word, segment.access + cell * ACCESS_BYTES, ACCESS_BYTES)
    return word


cdef void access_put(segment_t *segment, size_t cell, uint32_t word) noexcept nogil:
    memcpy(segment.access + cell * ACCESS_BYTES, &word, ACCESS_BYTES)


# ---- For a walk ----------------------------------------------------------------------------------

cdef void dash_hand_over(dash_t *self, dash_ref_t *ref, uint64_t version) noexcept nogil:
    cdef dash_walk_t *walk = self.walk
    cdef bucket_t *bucket = ref.bucket
    cdef uint32_t slots
    if is_visited(bucket, walk):
        bucket.version = version
        return
    if bucket == walk.pending:
        hand_over(self, ref.segment, ref.bucket_index)
        bucket.version = version
        return
    # Only the entry: to visit the bucket takes several times as long as a command.
    slots = visited_slots(bucket, walk)
    if (slots >> ref.slot) & 1 == 0:
        walk.forced += 1
        walk.must_finish = True
        walk.visit(self, ref, walk.context)
        slots |= <uint32_t>1 << ref.slot
    bucket.version = partial_mark(walk, slots) if bucket.busy & ~slots != 0 else version


# ---- Segments ------------------------------------------------------------------------------------

cdef inline const layout_t *layout_of(const dash_t *self) noexcept nogil:
    return &PAIRS if self.entry_shift == PAIR_SHIFT else &KEYS


cdef segment_t *segment_new(dash_t *self, int size_class, uint32_t local_depth,
                            bint with_deadlines) noexcept nogil:
    """An empty segment. with_deadlines: room for narrow ones behind the entries, in the same block,
    whose pages go back to the system at once when it is freed; a small array's do not."""
    cdef bint timed = with_deadlines and size_class >= SPLIT_CLASS
    cdef const layout_t *layout = layout_of(self)
    cdef uint32_t total = layout.timed_total[size_class] if timed else layout.total[size_class]
    cdef size_t size = SEGMENT_HEADER + total * bucket_bytes(self.entry_shift)
    cdef segment_t *segment
    cdef uint32_t b
    segment = <segment_t *>mem_alloc(size + (<size_t>total * DASH_SLOTS * NARROW if timed else 0))
    # Entries need no clearing: busy bits say which exist.
    memset(segment, 0, SEGMENT_HEADER)
    for b in range(total):
        memset(bucket_at(segment, b, self.entry_shift), 0, BUCKET_HEADER)
    segment.regular = layout.timed_regular[size_class] if timed else layout.regular[size_class]
    segment.total = <uint16_t>total
    segment.entry_shift = self.entry_shift
    segment.size_class = <uint8_t>size_class
    segment.local_depth = <uint8_t>local_depth
    segment.earliest = DASH_NO_DEADLINE
    if timed:
        segment.deadlines = inside_deadlines(segment)
        segment.deadline_width = NARROW
    segment.shrink_below = total * DASH_SLOTS * SHRINK_PERCENT // 100 if size_class > 0 else 0
    if self.access_tracking:
        segment.access = <uint8_t *>mem_zalloc(<size_t>total * DASH_SLOTS * ACCESS_BYTES)
    self.segment_count += 1
    self.slot_count += total * DASH_SLOTS
    return segment


cdef size_t segment_bytes(const segment_t *segment) noexcept nogil:
    """Of its block: with the deadlines that share it."""
    cdef size_t size = SEGMENT_HEADER + segment.total * bucket_bytes(segment.entry_shift)
    if segment.deadlines == inside_deadlines(<segment_t *>segment):
        size += <size_t>segment.total * DASH_SLOTS * NARROW
    return size


cdef void return_pages(segment_t *segment) noexcept nogil:
    """Gives the whole pages inside a block that is about to be freed back to the system.

    While a table grows, segments move from one size class to the next in random order, so that the
    allocator's pages of the old class stay partly used for long: up to half of the table's memory.
    """
    cdef uint64_t size = mem_usable(segment)
    cdef uint64_t first = (<uint64_t>segment + PAGE - 1) & ~<uint64_t>(PAGE - 1)
    cdef uint64_t end = (<uint64_t>segment + size) & ~<uint64_t>(PAGE - 1)
    if size >= RETURN_MIN and end > first:
        madvise(<void *>first, end - first, MADV_DONTNEED)


cdef void segment_release(dash_t *self, segment_t *segment) noexcept nogil:
    """Frees the block and side arrays; entries have moved or been freed."""
    due_remove(self, segment)
    self.segment_count -= 1
    self.slot_count -= <uint64_t>segment.total * DASH_SLOTS
    free_deadlines(segment)
    mem_free(segment.access)
    return_pages(segment)
    mem_free(segment)


cdef void move_slot(segment_t *source, uint32_t from_bucket, uint32_t from_slot,
                    segment_t *target, uint32_t to_bucket, uint32_t to_slot, bint displaced) noexcept nogil:
    """Moves one entry with its fingerprint, deadline and access word; counts are the caller's."""
    cdef bucket_t *a = segment_bucket(source, from_bucket)
    cdef bucket_t *b = segment_bucket(target, to_bucket)
    cdef entry_t *entry = bucket_entry(a, from_slot, source.entry_shift)
    cdef entry_t *room = bucket_entry(b, to_slot, target.entry_shift)
    cdef uint16_t from_bit = <uint16_t>(1 << from_slot)
    cdef uint16_t to_bit = <uint16_t>(1 << to_slot)
    cdef size_t from_cell = cell_index(from_bucket, from_slot)
    cdef size_t to_cell = cell_index(to_bucket, to_slot)
    cdef int64_t deadline
    room.key = entry.key
    if source.entry_shift == PAIR_SHIFT:
        room.value = entry.value
    b.fingerprint[to_slot] = a.fingerprint[from_slot]
    if b.busy == 0 or a.version < b.version:
        b.version = a.version
    if b.busy == 0 or <uint16_t>(a.touched - b.touched) < 0x8000:
        b.touched = a.touched
    b.busy |= to_bit
    if displaced:
        b.displaced |= to_bit
    if a.deadline & from_bit:
        deadline = deadline_get(source, from_cell)
        reserve_deadlines(target, deadline)
        deadline_put(target, to_cell, deadline)
        b.deadline |= to_bit
        if target.earliest == DASH_NO_DEADLINE or deadline < target.earliest:
            target.earliest = deadline
    if target.access != NULL and source.access != NULL:
        access_put(target, to_cell, access_get(source, from_cell))
    a.busy &= ~from_bit
    a.displaced &= ~from_bit
    a.deadline &= ~from_bit


cdef inline uint32_t free_slot(const bucket_t *bucket) noexcept nogil:
    """Index of a free slot, or DASH_SLOTS."""
    cdef uint32_t mask = ~<uint32_t>bucket.busy & SLOT_MASK
    return <uint32_t>ctz(mask) if mask != 0 else DASH_SLOTS


cdef extern from *:
    int __builtin_popcount(unsigned int value) noexcept nogil


cdef inline void enter_stash(segment_t *segment, uint32_t home, uint32_t b) noexcept nogil:
    cdef bucket_t *bucket = segment_bucket(segment, home)
    bucket.overflow += 1
    bucket.stash |= <uint8_t>(1 << ((b - segment.regular) & 7))


cdef inline void leave_stash(segment_t *segment, uint64_t hash) noexcept nogil:
    cdef bucket_t *bucket = segment_bucket(segment, home_bucket(hash, segment.regular))
    bucket.overflow -= 1
    if bucket.overflow == 0:
        bucket.stash = 0


cdef bint displace(dash_t *self, segment_t *segment, uint32_t home, uint32_t following, uint32_t *out_bucket,
                   uint32_t *out_slot) noexcept nogil:
    """Makes room in `following` or `home` by moving one entry to its other bucket."""
    cdef bucket_t *bucket = segment_bucket(segment, following)
    cdef uint32_t regular = segment.regular
    cdef uint32_t target = next_bucket(following, regular)
    cdef uint32_t mask = bucket.busy & ~<uint32_t>bucket.displaced
    cdef uint32_t slot
    cdef uint32_t room
    # An entry at home in `following` may go one further.
    if target != home and target != following and mask != 0:
        room = free_slot(segment_bucket(segment, target))
        if room < DASH_SLOTS:
            slot = <uint32_t>ctz(mask)
            hand_over_two(self, segment, following, target)
            move_slot(segment, following, slot, segment, target, room, True)
            out_bucket[0] = following
            out_slot[0] = slot
            return True
    # An entry that was displaced into `home` may go back to where it is at home.
    target = previous_bucket(home, regular)
    mask = segment_bucket(segment, home).displaced
    if target != home and target != following and mask != 0:
        room = free_slot(segment_bucket(segment, target))
        if room < DASH_SLOTS:
            slot = <uint32_t>ctz(mask)
            hand_over_two(self, segment, home, target)
            move_slot(segment, home, slot, segment, target, room, False)
            out_bucket[0] = home
            out_slot[0] = slot
            return True
    return False


cdef bint find_place(dash_t *self, segment_t *segment, uint32_t home, uint32_t *out_bucket,
                     uint32_t *out_slot) noexcept nogil:
    """A free slot for an entry of this home bucket, after moving a neighbour if need be.

    At home as long as there is one, so that finding touches one bucket. To balance the two buckets, as the paper does,
    fills a segment to 98 % instead of 96 %, but has a third of all entries next door instead of a tenth.
    """
    cdef uint32_t following = next_bucket(home, segment.regular)
    cdef uint32_t slot = free_slot(segment_bucket(segment, home))
    cdef uint32_t i
    if likely(slot < DASH_SLOTS):
        out_bucket[0] = home
        out_slot[0] = slot
        return True
    slot = free_slot(segment_bucket(segment, following))
    if slot < DASH_SLOTS:
        out_bucket[0] = following
        out_slot[0] = slot
        return True
    if displace(self, segment, home, following, out_bucket, out_slot):
        return True
    for i in range(segment.regular, segment.total):
        slot = free_slot(segment_bucket(segment, i))
        if slot < DASH_SLOTS:
            out_bucket[0] = i
            out_slot[0] = slot
            return True
    return False


cdef void save(segment_t *source, saved_t *out) noexcept nogil:
    cdef uint32_t b
    for b in range(source.total):
        out.buckets[b] = segment_bucket(source, b)[0]
    out.count = source.count


cdef void restore(segment_t *source, const saved_t *saved) noexcept nogil:
    """Undoes an interrupted transfer exactly. Moving the entries back would not do: they can come to lie
    in other places than before, and then the last one may find none."""
    cdef uint32_t b
    for b in range(source.total):
        segment_bucket(source, b)[0] = saved.buckets[b]
    source.count = saved.count


cdef bint transfer(dash_t *self, segment_t *source, segment_t *low, segment_t *high,
                   uint32_t split_shift) noexcept nogil:
    """Moves all entries of source into low, or by the hash bit at split_shift into low and high.

    False if one did not fit: the caller then restores the source and drops what it moved into.
    """
    cdef bucket_t *bucket
    cdef segment_t *target
    cdef uint64_t hash
    cdef uint32_t b
    cdef uint32_t mask
    cdef uint32_t slot
    cdef uint32_t home
    cdef uint32_t to_bucket = 0
    cdef uint32_t to_slot = 0
    for b in range(source.total):
        bucket = segment_bucket(source, b)
        mask = bucket.busy
        while mask != 0:
            slot = <uint32_t>ctz(mask)
            mask &= mask - 1
            hash = object_key_hash(&bucket_entry(bucket, slot, source.entry_shift).key)
            target = high if high != NULL and (hash >> split_shift) & 1 else low
            home = home_bucket(hash, target.regular)
            if not find_place(self, target, home, &to_bucket, &to_slot):
                return False
            if b >= source.regular:
                leave_stash(source, hash)
            move_slot(source, b, slot, target, to_bucket, to_slot, to_bucket < target.regular and to_bucket != home)
            if to_bucket >= target.regular:
                enter_stash(target, home, to_bucket)
            target.count += 1
            source.count -= 1
    return True


cdef int class_for(const dash_t *self, uint32_t count, uint32_t percent, int smallest, bint timed) noexcept nogil:
    cdef const layout_t *layout = layout_of(self)
    cdef const uint16_t *totals = &layout.timed_total[0] if timed else &layout.total[0]
    cdef int size_class = smallest
    while size_class < CLASS_COUNT - 1 and count * 100 > totals[size_class] * DASH_SLOTS * percent:
        size_class += 1
    return size_class


cdef void point_directory(dash_t *self, segment_t *segment, uint64_t hash) noexcept nogil:
    """Makes the directory words of the segment's subrange (which contains hash) point to it."""
    cdef uint32_t spread = self.depth - segment.local_depth
    cdef uint64_t prefix = directory_index(hash, segment.local_depth)
    cdef uint64_t first = prefix << spread
    cdef uint64_t word = make_word(segment)
    cdef uint64_t i
    segment.prefix = <uint32_t>prefix
    for i in range(first, first + (<uint64_t>1 << spread)):
        self.directory[i] = word


cdef bint rebuild(dash_t *self, segment_t *old, uint64_t hash, int size_class) noexcept nogil:
    """Replaces a segment by one of another size class; False if the entries did not fit."""
    cdef segment_t *fresh = segment_new(self, size_class, old.local_depth, has_narrow_deadlines(old))
    cdef saved_t saved
    hand_over_segment(self, old)
    save(old, &saved)
    while not transfer(self, old, fresh, NULL, 0):
        restore(old, &saved)
        segment_release(self, fresh)
        if size_class == CLASS_COUNT - 1:
            return False
        size_class += 1
        fresh = segment_new(self, size_class, old.local_depth, has_narrow_deadlines(old))
    point_directory(self, fresh, hash)
    segment_release(self, old)
    due_update(self, fresh)
    return True


cdef void double_directory(dash_t *self) noexcept nogil:
    cdef uint64_t size = <uint64_t>1 << self.depth
    cdef uint64_t *fresh
    cdef uint64_t i
    DFLY_CHECK(self.depth < DEPTH_MAX, "dash table: directory is at its largest")
    fresh = <uint64_t *>mem_alloc(size * 2 * sizeof(uint64_t))
    for i in range(size):
        fresh[2 * i] = self.directory[i]
        fresh[2 * i + 1] = self.directory[i]
    mem_free(self.directory)
    self.directory = fresh
    self.depth += 1


cdef void count_halves(segment_t *segment, uint32_t shift, uint32_t *high_count) noexcept nogil:
    cdef bucket_t *bucket
    cdef entry_t *entry
    cdef uint32_t b
    cdef uint32_t mask
    high_count[0] = 0
    for b in range(segment.total):
        bucket = segment_bucket(segment, b)
        mask = bucket.busy
        while mask != 0:
            entry = bucket_entry(bucket, <uint32_t>ctz(mask), segment.entry_shift)
            high_count[0] += (object_key_hash(&entry.key) >> shift) & 1
            mask &= mask - 1


cdef void split(dash_t *self, segment_t *old, uint64_t hash) noexcept nogil:
    """Divides a segment by its next directory bit."""
    cdef uint32_t shift = 63 - old.local_depth
    cdef bint timed = has_narrow_deadlines(old)
    cdef uint32_t high_count = 0
    cdef int low_class
    cdef int high_class
    cdef segment_t *low
    cdef segment_t *high
    cdef saved_t saved
    if old.local_depth == self.depth:
        double_directory(self)
    hand_over_segment(self, old)
    save(old, &saved)
    count_halves(old, shift, &high_count)
    low_class = class_for(self, old.count - high_count, FILL_PERCENT, SPLIT_CLASS, timed)
    high_class = class_for(self, high_count, FILL_PERCENT, SPLIT_CLASS, timed)
    while True:
        low = segment_new(self, low_class, old.local_depth + 1, timed)
        high = segment_new(self, high_class, old.local_depth + 1, timed)
        if transfer(self, old, low, high, shift):
            break
        # Crowded in one place: undo, and give both more room.
        restore(old, &saved)
        segment_release(self, low)
        segment_release(self, high)
        DFLY_CHECK(low_class < SPARE_CLASS or high_class < SPARE_CLASS, "dash table: split does not fit")
        low_class = low_class + 1 if low_class < SPARE_CLASS else low_class
        high_class = high_class + 1 if high_class < SPARE_CLASS else high_class
    point_directory(self, low, hash & ~(<uint64_t>1 << shift))
    point_directory(self, high, hash | (<uint64_t>1 << shift))
    segment_release(self, old)
    due_update(self, low)
    due_update(self, high)
    self.split_count += 1
    # Who inserts in the order of hashes fills one half only: its entries come apart further down.
    if unlikely(low.size_class == SPARE_CLASS):
        divide_spare(self, low)
    if unlikely(high.size_class == SPARE_CLASS):
        divide_spare(self, high)


cdef void divide_spare(dash_t *self, segment_t *segment) noexcept nogil:
    """A smaller block for a segment of the spare class, or a split of it, which calls this again."""
    cdef uint64_t hash = first_hash(segment)
    cdef int size_class = class_for(self, segment.count, FILL_PERCENT, SPLIT_CLASS, has_narrow_deadlines(segment))
    if not rebuild(self, segment, hash, size_class):
        split(self, segment, hash)


cdef void make_space(dash_t *self, segment_t *segment, uint64_t hash) noexcept nogil:
    """An entry of `hash` found no place: a larger size class, or a split."""
    if segment.size_class < CLASS_COUNT - 1 and rebuild(self, segment, hash, segment.size_class + 1):
        self.grow_count += 1
        return
    split(self, word_segment(self.directory[directory_index(hash, self.depth)]), hash)


cdef inline uint64_t first_hash(const segment_t *segment) noexcept nogil:
    """The smallest hash that belongs to the segment."""
    return <uint64_t>segment.prefix << (64 - segment.local_depth) if segment.local_depth > 0 else 0


cdef segment_t *merge(dash_t *self, segment_t *segment) noexcept nogil:
    """One segment instead of two siblings, or NULL if they are not both small."""
    cdef uint64_t hash = first_hash(segment)
    cdef uint32_t shift = 64 - segment.local_depth
    cdef segment_t *buddy
    cdef segment_t *joined
    cdef saved_t saved
    cdef saved_t saved_buddy
    cdef bint timed
    cdef uint32_t count
    if segment.local_depth == 0:
        return NULL
    buddy = word_segment(self.directory[directory_index(hash ^ (<uint64_t>1 << shift), self.depth)])
    # Well below what makes a segment split, so that merging and splitting do not alternate.
    count = buddy.count + segment.count
    if (buddy.local_depth != segment.local_depth
            or count * 100 > layout_of(self).total[CLASS_COUNT - 1] * DASH_SLOTS * SHRINK_PERCENT):
        return NULL
    timed = has_narrow_deadlines(segment) or has_narrow_deadlines(buddy)
    joined = segment_new(self, class_for(self, count, SHRUNK_PERCENT, SPLIT_CLASS, timed), segment.local_depth - 1,
                         timed)
    hand_over_segment(self, segment)
    hand_over_segment(self, buddy)
    save(segment, &saved)
    save(buddy, &saved_buddy)
    if transfer(self, segment, joined, NULL, 0) and transfer(self, buddy, joined, NULL, 0):
        point_directory(self, joined, hash)
        segment_release(self, segment)
        segment_release(self, buddy)
        due_update(self, joined)
        return joined
    # Rare: crowded in one place.
    restore(segment, &saved)
    restore(buddy, &saved_buddy)
    segment_release(self, joined)
    return NULL


cdef void give_space_back(dash_t *self, segment_t *segment) noexcept nogil:
    """After erases: siblings merge as long as they are small, then a smaller size class."""
    cdef segment_t *joined = merge(self, segment)
    cdef int size_class
    while joined != NULL:
        segment = joined
        joined = merge(self, segment)
    size_class = class_for(self, segment.count, SHRUNK_PERCENT, SPLIT_CLASS if segment.local_depth > 0 else 0,
                           has_narrow_deadlines(segment))
    if size_class < segment.size_class:
        rebuild(self, segment, first_hash(segment), size_class)


# ---- Public operations ---------------------------------------------------------------------------

cdef void dash_init(dash_t *self) noexcept nogil:
    init(self, PAIR_SHIFT)


cdef void dash_init_keys(dash_t *self) noexcept nogil:
    init(self, KEY_SHIFT)


cdef void init(dash_t *self, uint8_t entry_shift) noexcept nogil:
    cdef segment_t *segment
    memset(self, 0, sizeof(dash_t))
    self.entry_shift = entry_shift
    self.directory = <uint64_t *>mem_alloc(sizeof(uint64_t))
    segment = segment_new(self, 0, 0, False)
    self.directory[0] = make_word(segment)


cdef void dash_reserve(dash_t *self, uint64_t expected) noexcept nogil:
    cdef uint32_t most = layout_of(self).total[CLASS_COUNT - 1] * DASH_SLOTS * RESERVED_PERCENT // 100
    cdef uint32_t depth = 0
    cdef segment_t *segment
    cdef int size_class
    cdef uint64_t i
    if self.count != 0 or self.depth != 0 or self.walk != NULL:
        return
    while expected >> depth > most and depth < DEPTH_MAX:
        depth += 1
    if depth == 0:
        return
    segment_release(self, word_segment(self.directory[0]))
    size_class = class_for(self, <uint32_t>(expected >> depth), RESERVED_PERCENT, SPLIT_CLASS, False)
    self.directory = <uint64_t *>mem_realloc(self.directory, sizeof(uint64_t) << depth)
    self.depth = depth
    for i in range(<uint64_t>1 << depth):
        segment = segment_new(self, size_class, depth, False)
        segment.prefix = <uint32_t>i
        self.directory[i] = make_word(segment)


cdef void dash_move(dash_t *self, dash_t *target) noexcept nogil:
    target[0] = self[0]
    if target.walk != NULL:
        target.walk.table = target
    memset(self, 0, sizeof(dash_t))


cdef void free_entries(dash_t *self, segment_t *segment, uint64_t *budget) noexcept nogil:
    """Frees keys and values, at most *budget entries or blocks of containers."""
    cdef bucket_t *bucket
    cdef entry_t *entry
    cdef uint32_t b
    for b in range(segment.total):
        bucket = segment_bucket(segment, b)
        while bucket.busy != 0:
            if budget[0] == 0:
                return
            entry = bucket_entry(bucket, <uint32_t>ctz(bucket.busy), segment.entry_shift)
            if segment.entry_shift == KEY_SHIFT:
                budget[0] -= 1
            elif not object_free_step(&entry.value, budget):
                return
            object_free(&entry.key)
            bucket.busy &= bucket.busy - 1
            segment.count -= 1
            self.count -= 1


cdef bint dash_clear_step(dash_t *self, uint64_t *budget) noexcept nogil:
    cdef uint64_t size
    cdef uint64_t i
    cdef segment_t *segment
    if self.directory == NULL:
        return True
    self.walk = NULL
    size = <uint64_t>1 << self.depth
    # Words of freed segments are zeroed; split_count serves as the place to go on from.
    if not self.is_visiting:
        self.is_visiting = True
        self.split_count = 0
    i = self.split_count
    while i < size:
        segment = word_segment(self.directory[i])
        free_entries(self, segment, budget)
        if segment.count > 0:
            self.split_count = i
            return False
        i += <uint64_t>1 << (self.depth - segment.local_depth)
        segment_release(self, segment)
        if budget[0] == 0 and i < size:
            self.split_count = i
            return False
    mem_free(self.directory)
    mem_free(self.due)
    memset(self, 0, sizeof(dash_t))
    return True


cdef void dash_clear(dash_t *self) noexcept nogil:
    cdef uint64_t budget = <uint64_t>-1
    dash_clear_step(self, &budget)


cdef void dash_dup(const dash_t *self, dash_t *out) noexcept nogil:
    cdef uint64_t i = 0
    cdef uint64_t k
    cdef uint64_t spread
    cdef segment_t *segment
    memset(out, 0, sizeof(dash_t))
    out.entry_shift = self.entry_shift
    out.has_sticky = self.has_sticky
    out.depth = self.depth
    out.directory = <uint64_t *>mem_alloc(sizeof(uint64_t) << self.depth)
    while i < <uint64_t>1 << self.depth:
        segment = segment_dup(out, word_segment(self.directory[i]))
        spread = <uint64_t>1 << (self.depth - segment.local_depth)
        for k in range(i, i + spread):
            out.directory[k] = make_word(segment)
        i += spread


cdef segment_t *segment_dup(dash_t *table, const segment_t *source) noexcept nogil:
    """A copy that belongs to `table`; access words are not copied."""
    cdef bucket_t *bucket
    cdef segment_t *copy = <segment_t *>mem_alloc(segment_bytes(source))
    cdef bint inside = source.deadlines == inside_deadlines(<segment_t *>source)
    cdef size_t cells = <size_t>source.total * DASH_SLOTS
    cdef object_t key
    cdef entry_t *entry
    cdef uint32_t b
    cdef uint32_t mask
    memcpy(copy, source, segment_bytes(source))
    copy.access = NULL
    copy.due_position = 0
    if inside:
        copy.deadlines = inside_deadlines(copy)
    elif source.deadlines != NULL:
        copy.deadlines = <uint8_t *>mem_alloc(cells * source.deadline_width)
        memcpy(copy.deadlines, source.deadlines, cells * source.deadline_width)
    for b in range(copy.total):
        bucket = segment_bucket(copy, b)
        mask = bucket.busy
        table.deadline_count += <uint32_t>__builtin_popcount(bucket.deadline)
        while mask != 0:
            entry = bucket_entry(bucket, <uint32_t>ctz(mask), copy.entry_shift)
            mask &= mask - 1
            key = entry.key
            object_dup(&key, &entry.key)
            if copy.entry_shift == PAIR_SHIFT:
                key = entry.value
                object_dup(&key, &entry.value)
    table.count += copy.count
    table.slot_count += cells
    table.segment_count += 1
    due_update(table, copy)
    return copy


cdef inline bint find_in(segment_t *segment, bucket_t *bucket, uint32_t b, uint32_t mask, const key_t *key,
                         uint32_t shift, dash_ref_t *out) noexcept nogil:
    """Looks at the slots in mask of a bucket, the segment's b-th."""
    cdef entry_t *entry
    cdef uint32_t slot
    while mask != 0:
        slot = <uint32_t>ctz(mask)
        entry = bucket_entry(bucket, slot, shift)
        if likely(object_equals_inline(entry, key)):
            out.segment = segment
            out.bucket = bucket
            out.entry = entry
            out.bucket_index = <uint16_t>b
            out.slot = <uint8_t>slot
            return True
        mask &= mask - 1
    return False


cdef inline bint object_equals_inline(const entry_t *entry, const key_t *key) noexcept nogil:
    if likely(key.is_short):
        return object_equals_image(&entry.key, &key.image)
    return object_equals_key(&entry.key, key)


cdef bint find_in_stash(segment_t *segment, const bucket_t *home, uint32_t regular, uint32_t total, const key_t *key,
                        dash_ref_t *out) noexcept nogil:
    cdef bucket_t *bucket
    cdef uint8_t fingerprint = <uint8_t>key.hash
    cdef uint32_t b
    for b in range(regular, total):
        if not is_in_stash(home, b, regular):
            continue
        bucket = segment_bucket(segment, b)
        if find_in(segment, bucket, b, match16(bucket.fingerprint, fingerprint) & bucket.busy, key,
                   segment.entry_shift, out):
            return True
    return False


cdef inline bint find(dash_t *self, const key_t *key, uint32_t shift, dash_ref_t *out) noexcept nogil:
    """shift is a constant where this is called: address arithmetic by instructions' own scaling."""
    cdef uint64_t word = self.directory[directory_index(key.hash, self.depth)]
    cdef segment_t *segment = word_segment(word)
    cdef uint32_t regular = word_regular(word)
    cdef uint8_t fingerprint = <uint8_t>key.hash
    cdef uint32_t home = home_bucket(key.hash, regular)
    cdef uint32_t following = next_bucket(home, regular)
    cdef bucket_t *bucket = bucket_at(segment, home, shift)
    cdef bucket_t *other
    if find_in(segment, bucket, home,
               match16(bucket.fingerprint, fingerprint) & bucket.busy & ~<uint32_t>bucket.displaced, key, shift, out):
        return True
    other = bucket_at(segment, following, shift)
    if find_in(segment, other, following, match16(other.fingerprint, fingerprint) & other.displaced, key, shift, out):
        return True
    if unlikely(bucket.overflow != 0):
        return find_in_stash(segment, bucket, regular, word_total(word), key, out)
    return False


cdef bint dash_find(dash_t *self, const key_t *key, dash_ref_t *out) noexcept nogil:
    if likely(self.entry_shift == PAIR_SHIFT):
        return find(self, key, PAIR_SHIFT, out)
    return find(self, key, KEY_SHIFT, out)


cdef void dash_insert(dash_t *self, const key_t *key, dash_ref_t *out) noexcept nogil:
    cdef uint64_t word
    cdef segment_t *segment
    cdef bucket_t *bucket
    cdef uint32_t home
    cdef uint32_t b = 0
    cdef uint32_t slot = 0
    while True:
        word = self.directory[directory_index(key.hash, self.depth)]
        segment = word_segment(word)
        home = home_bucket(key.hash, segment.regular)
        if likely(find_place(self, segment, home, &b, &slot)):
            break
        make_space(self, segment, key.hash)
    if unlikely(self.walk != NULL):
        hand_over(self, segment, b)
    make_ref(out, segment, b, slot)
    bucket = out.bucket
    key_to_object(key, &out.entry.key)
    if segment.entry_shift == PAIR_SHIFT:
        out.entry.value.lo = 0
        out.entry.value.hi = 0
    bucket.fingerprint[slot] = <uint8_t>key.hash
    if b >= segment.regular:
        enter_stash(segment, home, b)
    elif b != home:
        bucket.displaced |= <uint16_t>(1 << slot)
    bucket.busy |= <uint16_t>(1 << slot)
    segment.count += 1
    self.count += 1


cdef void dash_erase(dash_t *self, dash_ref_t *ref) noexcept nogil:
    cdef segment_t *segment = ref.segment
    cdef uint16_t bit = <uint16_t>(1 << ref.slot)
    cdef uint64_t hash = object_key_hash(&ref.entry.key)
    if ref.bucket.deadline & bit:
        self.deadline_count -= 1
    if ref.bucket_index >= segment.regular:
        leave_stash(segment, hash)
    object_free(&ref.entry.key)
    ref.bucket.busy &= ~bit
    ref.bucket.displaced &= ~bit
    ref.bucket.deadline &= ~bit
    segment.count -= 1
    self.count -= 1
    if unlikely(segment.count < segment.shrink_below) and not self.is_visiting:
        give_space_back(self, segment)


# ---- Deadlines -------------------------------------------------------------------------------

cdef int64_t dash_deadline(const dash_ref_t *ref) noexcept nogil:
    if ref.bucket.deadline & (1 << ref.slot) == 0:
        return DASH_NO_DEADLINE
    return deadline_get(ref.segment, cell_index(ref.bucket_index, ref.slot))


cdef void dash_set_deadline(dash_t *self, dash_ref_t *ref, int64_t deadline_ms) noexcept nogil:
    cdef segment_t *segment = ref.segment
    cdef uint16_t bit = <uint16_t>(1 << ref.slot)
    if unlikely(self.walk != NULL) and not is_visited(ref.bucket, self.walk):
        # The door has done it for a key, not for a member of a value.
        dash_hand_over(self, ref, self.walk.cut + 1)
    if deadline_ms == DASH_NO_DEADLINE:
        if ref.bucket.deadline & bit:
            ref.bucket.deadline &= ~bit
            self.deadline_count -= 1
        return
    reserve_deadlines(segment, deadline_ms)
    deadline_put(segment, cell_index(ref.bucket_index, ref.slot), deadline_ms)
    if ref.bucket.deadline & bit == 0:
        ref.bucket.deadline |= bit
        self.deadline_count += 1
    if segment.earliest == DASH_NO_DEADLINE or deadline_ms < segment.earliest:
        segment.earliest = deadline_ms
        due_update(self, segment)


cdef int64_t dash_next_due(dash_t *self) noexcept nogil:
    return self.due[0].earliest if self.due_count > 0 else DASH_NO_DEADLINE


cdef bint visit_segment(dash_t *self, segment_t *segment, int64_t now_ms, uint64_t *left,
                        dash_visit_t visit, void *context) noexcept nogil:
    """Visits what is due in one segment and finds its next earliest deadline; False: budget is used up."""
    cdef int64_t earliest = DASH_NO_DEADLINE
    cdef int64_t deadline
    cdef dash_ref_t ref
    cdef uint32_t b
    cdef uint32_t mask
    cdef uint32_t slot
    for b in range(segment.total):
        mask = segment_bucket(segment, b).deadline
        while mask != 0:
            slot = <uint32_t>ctz(mask)
            mask &= mask - 1
            deadline = deadline_get(segment, cell_index(b, slot))
            if deadline <= now_ms:
                if left[0] == 0:
                    return False
                left[0] -= 1
                make_ref(&ref, segment, b, slot)
                if visit(self, &ref, context):
                    continue
                # Left alone: looked at again in the next millisecond, not in an endless loop.
                deadline = now_ms + 1
            if earliest == DASH_NO_DEADLINE or deadline < earliest:
                earliest = deadline
    segment.earliest = earliest
    due_update(self, segment)
    if earliest == DASH_NO_DEADLINE:
        free_deadlines(segment)
    return True


cdef uint64_t dash_visit_due(dash_t *self, int64_t now_ms, uint64_t budget, dash_visit_t visit,
                             void *context) noexcept nogil:
    cdef uint64_t left = budget
    cdef segment_t *segment
    cdef bint go_on = True
    while go_on and self.due_count > 0 and self.due[0].earliest <= now_ms and left > 0:
        segment = self.due[0]
        # The segment must not be rebuilt under the visitor; its memory is given back afterwards.
        self.is_visiting = True
        go_on = visit_segment(self, segment, now_ms, &left, visit, context)
        self.is_visiting = False
        if segment.count < segment.shrink_below:
            give_space_back(self, segment)
    return budget - left


# ---- Access words ------------------------------------------------------------------------------

cdef void dash_enable_access_tracking(dash_t *self, uint32_t initial) noexcept nogil:
    """Existing entries start with `initial`. Costs one pass over the segments."""
    cdef uint64_t i = 0
    cdef size_t cell
    cdef segment_t *segment
    if self.access_tracking:
        return
    self.access_tracking = True
    while i < <uint64_t>1 << self.depth:
        segment = word_segment(self.directory[i])
        if segment.access == NULL:
            segment.access = <uint8_t *>mem_zalloc(<size_t>segment.total * DASH_SLOTS * ACCESS_BYTES)
            for cell in range(<size_t>segment.total * DASH_SLOTS):
                access_put(segment, cell, initial)
        i += <uint64_t>1 << (self.depth - segment.local_depth)


cdef uint32_t dash_access_get(const dash_ref_t *ref) noexcept nogil:
    if ref.segment.access == NULL:
        return ref.bucket.touched
    return access_get(ref.segment, cell_index(ref.bucket_index, ref.slot))


cdef void dash_access_set(dash_t *self, dash_ref_t *ref, uint32_t word) noexcept nogil:
    if ref.segment.access != NULL:
        access_put(ref.segment, cell_index(ref.bucket_index, ref.slot), word)


# ---- Sizes and verification ----------------------------------------------------------------------

cdef uint32_t dash_slots_widest(const dash_t *self) noexcept nogil:
    return layout_of(self).total[CLASS_COUNT - 1] * DASH_SLOTS


cdef size_t dash_bytes(dash_t *self) noexcept nogil:
    cdef size_t total
    cdef uint64_t i = 0
    cdef segment_t *segment
    if self.directory == NULL:
        return 0
    total = mem_usable(self.directory) + (mem_usable(self.due) if self.due != NULL else 0)
    while i < <uint64_t>1 << self.depth:
        segment = word_segment(self.directory[i])
        total += mem_usable(segment)
        if segment.deadlines != NULL and segment.deadlines != inside_deadlines(segment):
            total += mem_usable(segment.deadlines)
        if segment.access != NULL:
            total += mem_usable(segment.access)
        i += <uint64_t>1 << (self.depth - segment.local_depth)
    return total


cdef void check_segment(segment_t *segment, uint64_t prefix, uint64_t *entries_seen,
                        uint64_t *deadlines_seen) noexcept nogil:
    cdef bucket_t *bucket
    cdef uint32_t[TOTAL_MAX] overflow
    cdef uint64_t hash
    cdef uint32_t count = 0
    cdef uint32_t home
    cdef uint32_t b
    cdef uint32_t slot
    memset(overflow, 0, sizeof(overflow))
    for b in range(segment.total):
        bucket = segment_bucket(segment, b)
        DFLY_CHECK(bucket.busy & ~SLOT_MASK == 0, "busy bits")
        DFLY_CHECK(bucket.displaced & ~bucket.busy == 0, "displaced bits")
        DFLY_CHECK(bucket.deadline & ~bucket.busy == 0, "deadline bits")
        for slot in range(DASH_SLOTS):
            if not (bucket.busy >> slot) & 1:
                continue
            count += 1
            hash = object_key_hash(&bucket_entry(bucket, slot, segment.entry_shift).key)
            home = home_bucket(hash, segment.regular)
            DFLY_CHECK(directory_index(hash, segment.local_depth) == prefix, "entry in the wrong segment")
            DFLY_CHECK(bucket.fingerprint[slot] == <uint8_t>hash, "fingerprint")
            if b >= segment.regular:
                overflow[home] += 1
                DFLY_CHECK(is_in_stash(segment_bucket(segment, home), b, segment.regular), "stash bit")
            elif (bucket.displaced >> slot) & 1:
                DFLY_CHECK(next_bucket(home, segment.regular) == b and home != b, "displaced entry")
            else:
                DFLY_CHECK(home == b, "entry away from home")
            if (bucket.deadline >> slot) & 1:
                deadlines_seen[0] += 1
                DFLY_CHECK(segment.earliest != DASH_NO_DEADLINE, "earliest missing")
                DFLY_CHECK(segment.earliest <= deadline_get(segment, cell_index(b, slot)), "earliest too late")
    for b in range(segment.regular):
        bucket = segment_bucket(segment, b)
        DFLY_CHECK(bucket.overflow == overflow[b], "overflow count")
        DFLY_CHECK((bucket.overflow != 0) == (bucket.stash != 0), "stash bits")
    DFLY_CHECK(count == segment.count, "segment count")
    entries_seen[0] += count


cdef bint dash_check(dash_t *self) noexcept nogil:
    cdef uint64_t i = 0
    cdef uint64_t k
    cdef uint64_t spread
    cdef uint64_t entries = 0
    cdef uint64_t deadlines = 0
    cdef uint32_t segments = 0
    cdef segment_t *segment
    while i < <uint64_t>1 << self.depth:
        segment = word_segment(self.directory[i])
        spread = <uint64_t>1 << (self.depth - segment.local_depth)
        for k in range(spread):
            DFLY_CHECK(self.directory[i + k] == make_word(segment), "directory")
        DFLY_CHECK(segment.prefix == i >> (self.depth - segment.local_depth), "prefix")
        check_segment(segment, i >> (self.depth - segment.local_depth), &entries, &deadlines)
        DFLY_CHECK((segment.due_position != 0) == (segment.earliest != DASH_NO_DEADLINE), "due heap membership")
        if segment.due_position != 0:
            DFLY_CHECK(self.due[segment.due_position - 1] == segment, "due heap position")
        segments += 1
        i += spread
    for i in range(1, self.due_count):
        DFLY_CHECK(self.due[(i + 1) // 2 - 1].earliest <= self.due[i].earliest, "due heap order")
    DFLY_CHECK(entries == self.count, "entry count")
    DFLY_CHECK(deadlines == self.deadline_count, "deadline count")
    DFLY_CHECK(segments == self.segment_count, "segment count of the table")
    return True
