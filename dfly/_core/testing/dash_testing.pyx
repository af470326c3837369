"""Test door to the store: dash table (keys and values are bytes), compact object, glob patterns."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

from dfly._core.store.dash cimport (dash_access_get, dash_access_set, dash_before_change, dash_bytes, dash_check,
                                    dash_clear, dash_clear_step, dash_deadline, dash_dup, dash_enable_access_tracking,
                                    dash_erase, dash_find, dash_init, dash_init_keys, dash_insert, dash_next_due,
                                    dash_ref_t, dash_reserve, dash_set_deadline, dash_set_sticky, dash_t,
                                    dash_visit_due, dash_walk_t)
from dfly._core.store.dash_prefetch cimport DASH_PREFETCH_KEYS, dash_prefetch_keys
from dfly._core.store.dash_walk cimport dash_walk_begin, dash_walk_end, dash_walk_step
from dfly._core.store.dash_scan cimport dash_random, dash_sample, dash_scan
from dfly._core.store.glob cimport glob_match
from dfly._core.store.object cimport (OBJECT_SCRATCH, key_init, key_t, object_dup, object_encoding_name,
                                      object_equals_key,
                                      object_free, object_is_sticky, object_key_hash, object_resize,
                                      object_set_string, object_set_string_plain, object_size, object_t,
                                      object_view, parse_int64)
from dfly._core.sys.base cimport DFLY_ABI_STAMP, DFLY_CHECK, slice_t
from dfly._core.sys.hash cimport random_u64

__abi__ = DFLY_ABI_STAMP


cdef enum:
    PAIR_SHIFT = 5


cdef bytes key_bytes(dash_ref_t *ref):
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view = object_view(&ref.entry.key, scratch)
    return view.data[:view.size]


cdef bint collect(dash_t *table, dash_ref_t *ref, void *context) noexcept with gil:
    (<list>context).append(key_bytes(ref))
    return False


cdef bint collect_and_erase(dash_t *table, dash_ref_t *ref, void *context) noexcept with gil:
    (<list>context).append(key_bytes(ref))
    dash_before_change(table, ref, table.walk.cut + 1 if table.walk != NULL else ref.bucket.version)
    if table.entry_shift == PAIR_SHIFT:
        object_free(&ref.entry.value)
    dash_erase(table, ref)
    return True


cdef bint collect_items(dash_t *table, dash_ref_t *ref, void *context) noexcept with gil:
    """Each second entry takes two visits, unless it must be finished."""
    cdef char scratch[OBJECT_SCRATCH]
    cdef DashTable self = <DashTable>context
    cdef slice_t view
    key = key_bytes(ref)
    if self.half_visited == key:
        self.half_visited = None
    else:
        assert self.half_visited is None or table.walk.must_finish
        if len(self.walked) % 2 and not table.walk.must_finish:
            self.half_visited = key
            return False
    if table.entry_shift != PAIR_SHIFT:
        self.walked.append((key, b""))
        return True
    view = object_view(&ref.entry.value, scratch)
    self.walked.append((key, view.data[:view.size]))
    return True


cdef class DashTable:
    """A dash table of bytes to bytes, or of bytes alone: then every value is empty."""

    cdef dash_t table
    cdef dash_walk_t walk
    cdef uint64_t newest         # version
    cdef list walked
    cdef bytes half_visited
    cdef bint keys_only

    def __cinit__(self, bint keys_only=False):
        self.keys_only = keys_only
        self.begin()

    cdef void begin(self) noexcept:
        if self.keys_only:
            dash_init_keys(&self.table)
        else:
            dash_init(&self.table)

    def walk_begin(self):
        """Begins a walk; walk_step's entries come from what the table holds now."""
        self.walked = []
        self.half_visited = None
        dash_walk_begin(&self.table, &self.walk, self.newest, collect_items, <void *>self)
        self.newest += 1

    def walk_step(self, uint32_t buckets):
        """None while the walk goes on, then what it has visited: [(key, value), ...]."""
        return self.walked if dash_walk_step(&self.table, buckets) else None

    def walk_end(self):
        """Gives it up."""
        dash_walk_end(&self.table)

    @property
    def walk_forced(self):
        return self.walk.forced

    def __dealloc__(self):
        dash_clear(&self.table)

    def __len__(self):
        return self.table.count

    def set(self, bytes key, bytes value):
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            dash_insert(&self.table, &k, &ref)
            ref.bucket.version = self.newest
        else:
            dash_before_change(&self.table, &ref, self.newest)
            if not self.keys_only:
                object_free(&ref.entry.value)
        if not self.keys_only:
            object_set_string(&ref.entry.value, value, len(value))

    def get(self, bytes key):
        cdef key_t k
        cdef dash_ref_t ref
        cdef char scratch[OBJECT_SCRATCH]
        cdef slice_t view
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            return None
        if self.keys_only:
            return b""
        view = object_view(&ref.entry.value, scratch)
        return view.data[:view.size]

    def erase(self, bytes key):
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            return False
        dash_before_change(&self.table, &ref, self.newest)
        if not self.keys_only:
            object_free(&ref.entry.value)
        dash_erase(&self.table, &ref)
        return True

    def set_deadline(self, bytes key, int64_t deadline):
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            return False
        dash_set_deadline(&self.table, &ref, deadline)
        return True

    def deadline(self, bytes key):
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        return dash_deadline(&ref) if dash_find(&self.table, &k, &ref) else None

    def visit_due(self, int64_t now, uint64_t budget, bint erase=True):
        found = []
        visited = dash_visit_due(&self.table, now, budget, collect_and_erase if erase else collect, <void *>found)
        assert visited == len(found)
        return found

    def next_due(self):
        return dash_next_due(&self.table)

    def scan(self, uint64_t cursor):
        found = []
        return dash_scan(&self.table, cursor, collect, <void *>found), found

    def random(self):
        cdef dash_ref_t ref
        return key_bytes(&ref) if dash_random(&self.table, random_u64(), &ref) else None

    def sample(self, int count, bint only_volatile=False):
        cdef dash_ref_t[64] refs
        cdef uint32_t taken = dash_sample(&self.table, random_u64(), only_volatile, refs, min(count, 64))
        return [key_bytes(&refs[i]) for i in range(<int>taken)]

    def set_sticky(self, bytes key):
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            raise KeyError(key)
        dash_set_sticky(&self.table, &ref)

    def is_sticky(self, bytes key):
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        return dash_find(&self.table, &k, &ref) and object_is_sticky(&ref.entry.key)

    def clear_step(self, uint64_t budget):
        done = dash_clear_step(&self.table, &budget)
        if done:
            self.begin()
        return done

    def copy(self):
        cdef DashTable other = DashTable(self.keys_only)
        dash_clear(&other.table)
        dash_dup(&self.table, &other.table)
        other.newest = self.newest
        return other

    def fill_in_order_of_hashes(self, DashTable other):
        """Inserts the keys of another table as a scan of it gives them."""
        cdef uint64_t cursor = 0
        while True:
            cursor, found = other.scan(cursor)
            for key in found:
                self.set(key, other.get(key))
            if cursor == 0:
                return

    def reserve(self, uint64_t expected):
        dash_reserve(&self.table, expected)

    def check(self):
        return dash_check(&self.table)

    def info(self):
        return {"bytes": dash_bytes(&self.table), "segments": self.table.segment_count, "depth": self.table.depth,
                "splits": self.table.split_count, "grown": self.table.grow_count, "slots": self.table.slot_count,
                "deadlines": self.table.deadline_count}

    def access(self, bytes key, word=None):
        """The access word of a key, after setting it if a word is given."""
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            return None
        if word is not None:
            dash_access_set(&self.table, &ref, word)
        return dash_access_get(&ref)

    def enable_access_tracking(self, uint32_t initial):
        dash_enable_access_tracking(&self.table, initial)

    def version(self, bytes key, raise_to=None):
        """The version of the key's bucket, after raising it if a version is given."""
        cdef key_t k
        cdef dash_ref_t ref
        key_init(&k, key, len(key))
        if not dash_find(&self.table, &k, &ref):
            return None
        if raise_to is not None:
            ref.bucket.version = raise_to
        return ref.bucket.version

    def fill(self, uint64_t first, uint64_t count, int value_size=16, int64_t deadline=-1):
        """Inserts count keys "key:%012d" with ASCII values.

        Returns the CPU nanoseconds per insert (reading the clock is part of it), of the longest insert
        that changed segments, and of the longest that did not: the machine's own hiccups, for comparison.
        """
        cdef char text[32]
        cdef char value[512]
        cdef uint64_t i
        cdef key_t k
        cdef dash_ref_t ref
        cdef int64_t start
        cdef int64_t before
        cdef int64_t now
        cdef int64_t[2] longest = [0, 0]
        cdef uint64_t changes = 0
        cdef int changed
        DFLY_CHECK(0 <= value_size <= 512, "value_size")
        memset(value, c'v', 512)
        with nogil:
            start = before = now = thread_ns()
            for i in range(first, first + count):
                make_key(text, i)
                key_init(&k, text, 16)
                if not dash_find(&self.table, &k, &ref):
                    dash_insert(&self.table, &k, &ref)
                    if not self.keys_only:
                        object_set_string_plain(&ref.entry.value, value, value_size)
                if deadline >= 0:
                    dash_set_deadline(&self.table, &ref, deadline + <int64_t>(i % 60000))
                now = thread_ns()
                changed = self.table.grow_count + self.table.split_count != changes
                changes = self.table.grow_count + self.table.split_count
                if now - before > longest[changed]:
                    longest[changed] = now - before
                before = now
        return (now - start) / max(count, 1), longest[1], longest[0]

    def time_finds(self, uint64_t first, uint64_t range_, uint64_t count, int batch=1):
        """CPU nanoseconds per find of random keys numbered first to first + range_, and the share found.

        Making keys and hashing them is not measured. batch > 1, at most DASH_PREFETCH_KEYS: they are prefetched.
        """
        cdef char[256][32] text
        cdef key_t[256] keys
        cdef uint64_t[DASH_PREFETCH_KEYS] hashes
        cdef dash_ref_t ref
        cdef uint64_t done = 0
        cdef uint64_t hits = 0
        cdef uint64_t bytes_read = 0
        cdef int i
        cdef int b
        cdef int64_t elapsed = 0
        DFLY_CHECK(0 < batch <= DASH_PREFETCH_KEYS and 256 % batch == 0, "batch divides 256")
        with nogil:
            while done < count:
                for i in range(256):
                    make_key(text[i], first + random_u64() % range_)
                    key_init(&keys[i], text[i], 16)
                elapsed -= thread_ns()
                b = 0
                while b < 256:
                    if batch > 1:
                        for i in range(batch):
                            hashes[i] = keys[b + i].hash
                        dash_prefetch_keys(&self.table, hashes, batch)
                    for i in range(b, b + batch):
                        if dash_find(&self.table, &keys[i], &ref):
                            hits += 1
                            bytes_read += ref.entry.key.hi & 1
                    b += batch
                elapsed += thread_ns()
                done += 256
        return elapsed / done, hits / done + 0 * bytes_read


cdef int64_t thread_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts)
    return <int64_t>ts.tv_sec * 1000000000 + ts.tv_nsec


cdef void make_key(char *text, uint64_t number) noexcept nogil:
    cdef int d
    text[0] = c'k'
    text[1] = c'e'
    text[2] = c'y'
    text[3] = c':'
    for d in range(12):
        text[15 - d] = <char>(c'0' + number % 10)
        number //= 10


def object_round_trip(bytes data):
    """(bytes, size, encoding, hash matches, dup bytes) of a string through the compact object."""
    cdef object_t value
    cdef object_t copy
    cdef key_t key
    cdef object_t stored
    cdef char scratch[OBJECT_SCRATCH]
    cdef slice_t view
    object_set_string(&value, data, len(data))
    object_dup(&value, &copy)
    view = object_view(&value, scratch)
    text = view.data[:view.size]
    size = object_size(&value)
    encoding = object_encoding_name(&value).decode()
    object_free(&value)
    view = object_view(&copy, scratch)
    duplicate = view.data[:view.size]
    object_free(&copy)
    object_set_string_plain(&stored, data, len(data))
    key_init(&key, data, len(data))
    same = object_key_hash(&stored) == key.hash and object_equals_key(&stored, &key)
    object_free(&stored)
    return text, size, encoding, same, duplicate


def object_resized(bytes data, size_t size):
    """The string's bytes after object_resize, and its encoding."""
    cdef object_t value
    cdef char *text
    object_set_string(&value, data, len(data))
    text = object_resize(&value, size)
    result = text[:size], object_encoding_name(&value).decode()
    object_free(&value)
    return result


def parse_integer(bytes data):
    """The int64 that Redis would read from the text, or None."""
    cdef int64_t value = 0
    return value if parse_int64(data, len(data), &value) else None


def glob(bytes pattern, bytes text, bint nocase=False):
    return glob_match(pattern, len(pattern), text, len(text), nocase)
