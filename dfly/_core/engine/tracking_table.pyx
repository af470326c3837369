"""Implementation of the invalidation table: see tracking_table.pxd.

Chained hashing; the set of trackers of a key is one pointer, then an open table of addresses: many
clients may hold the same key, and each of their reads asks whether it is entered.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from dfly._core.loop.proactor cimport proactor_post
from dfly._core.store.object cimport key_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, atomic_add, atomic_store_relaxed, atomic_sub

__abi__ = DFLY_ABI_STAMP

cdef enum:
    CHAINS_MIN = 64
    SLOTS_MIN = 4
    MOVED_A_KEY = 2


cdef void tracker_retain(tracker_t *self) noexcept nogil:
    atomic_add(&self.references, 1)


cdef void tracker_release(tracker_t *self) noexcept nogil:
    if atomic_sub(&self.references, 1) == 0:
        net_free(self)


# ---- The set of trackers of a key --------------------------------------------------------------

cdef inline uint32_t slot_of(const tracker_t *tracker, uint32_t capacity) noexcept nogil:
    return <uint32_t>((<uint64_t>tracker * 0x9E3779B97F4A7C15ULL) >> 40) & (capacity - 1)


cdef void grow_set(tracked_key_t *self) noexcept nogil:
    cdef uint32_t capacity = SLOTS_MIN if self.capacity == 1 else 2 * self.capacity
    cdef tracker_t **slots = <tracker_t **>net_zalloc(capacity * sizeof(tracker_t *))
    cdef tracker_t *tracker
    cdef uint32_t i
    cdef uint32_t at
    for i in range(self.capacity):
        tracker = tracker_at(self, i)
        if tracker != NULL:
            at = slot_of(tracker, capacity)
            while slots[at] != NULL:
                at = (at + 1) & (capacity - 1)
            slots[at] = tracker
    net_free(self.slots)
    self.slots = slots
    self.capacity = capacity


cdef inline tracker_t *tracker_at(const tracked_key_t *self, uint32_t index) noexcept nogil:
    """NULL: the slot is empty."""
    return self.one if self.capacity == 1 else self.slots[index]


cdef bint add_to_set(tracked_key_t *self, tracker_t *tracker) noexcept nogil:
    cdef uint32_t at
    if self.capacity == 1:
        if self.one == tracker:
            return False
        if self.one == NULL:
            self.one = tracker
            self.count = 1
            return True
        grow_set(self)
    at = slot_of(tracker, self.capacity)
    while self.slots[at] != NULL:
        if self.slots[at] == tracker:
            return False
        at = (at + 1) & (self.capacity - 1)
    self.slots[at] = tracker
    self.count += 1
    if self.count * 4 > self.capacity * 3:
        grow_set(self)
    return True


# ---- Keys ----------------------------------------------------------------------------------------

cdef inline tracked_key_t **chain_of(tracking_table_t *self, uint64_t hash) noexcept nogil:
    cdef uint32_t place = <uint32_t>(hash >> 8)
    if self.old_chains != NULL and place & (self.chain_count // 2 - 1) >= self.moved:
        return &self.old_chains[place & (self.chain_count // 2 - 1)]
    return &self.chains[place & (self.chain_count - 1)]


cdef void move_chains(tracking_table_t *self, uint32_t wanted) noexcept nogil:
    """A part of its growth: a table of a million keys must not move all of them at once."""
    cdef uint32_t end = min(self.moved + wanted, self.chain_count // 2)
    cdef tracked_key_t *key
    cdef tracked_key_t *following
    cdef tracked_key_t **chain
    while self.moved < end:
        key = self.old_chains[self.moved]
        self.moved += 1
        while key != NULL:
            following = key.next
            chain = chain_of(self, key.hash)
            key.next = chain[0]
            chain[0] = key
            key = following
    if self.moved == self.chain_count // 2:
        net_free(self.old_chains)
        self.old_chains = NULL


cdef void make_room(tracking_table_t *self) noexcept nogil:
    """Before a key is entered."""
    if self.old_chains != NULL:
        # Done long before the table is full again.
        move_chains(self, MOVED_A_KEY)
    elif self.count >= self.chain_count:
        self.old_chains = self.chains
        self.moved = 0
        self.chain_count = max(<uint32_t>CHAINS_MIN, 2 * self.chain_count)
        self.chains = <tracked_key_t **>net_zalloc(self.chain_count * sizeof(tracked_key_t *))


cdef bint tracking_table_add(tracking_table_t *self, const key_t *key, tracker_t *tracker) noexcept nogil:
    cdef tracked_key_t *found = NULL
    cdef tracked_key_t **chain
    make_room(self)
    chain = chain_of(self, key.hash)
    found = chain[0]
    while found != NULL and not (found.hash == key.hash and found.size == key.size
                                 and memcmp(found.name, key.data, key.size) == 0):
        found = found.next
    if found == NULL:
        found = <tracked_key_t *>net_zalloc(sizeof(tracked_key_t) + key.size)
        found.name = <char *>(found + 1)
        memcpy(found.name, key.data, key.size)
        found.size = key.size
        found.hash = key.hash
        found.capacity = 1
        found.next = chain[0]
        chain[0] = found
        atomic_store_relaxed(&self.count, self.count + 1)
    if not add_to_set(found, tracker):
        return False
    tracker_retain(tracker)
    self.items += 1
    return True


cdef void forget(tracking_table_t *self, tracked_key_t **link) noexcept nogil:
    """Takes the entry off its chain and frees it; its references are gone, or have been passed on."""
    cdef tracked_key_t *key = link[0]
    link[0] = key.next
    atomic_store_relaxed(&self.count, self.count - 1)
    self.items -= key.count
    net_free(key.slots)
    net_free(key)


cdef tracked_key_t **last_of(tracked_key_t **chain) noexcept nogil:
    """The link to the oldest key of a chain."""
    while chain[0].next != NULL:
        chain = &chain[0].next
    return chain


cdef tracked_key_t **some_key(tracking_table_t *self) noexcept nogil:
    """The link to a key: of those that are to be moved, else from where the cursor is. There must be one."""
    while self.old_chains != NULL:
        if self.old_chains[self.moved] != NULL:
            return last_of(&self.old_chains[self.moved])
        move_chains(self, 1)
    while True:
        self.cursor &= self.chain_count - 1
        if self.chains[self.cursor] != NULL:
            return last_of(&self.chains[self.cursor])
        self.cursor += 1


cdef void tracking_table_drop(tracking_table_t *self, tracking_table_t *dropped) noexcept nogil:
    dropped.chains = self.chains
    dropped.chain_count = self.chain_count
    dropped.old_chains = self.old_chains
    dropped.moved = self.moved
    dropped.count = self.count
    dropped.items = self.items
    self.chains = NULL
    self.chain_count = 0
    self.old_chains = NULL
    self.cursor = 0
    atomic_store_relaxed(&self.count, 0)
    self.items = 0


cdef bint tracking_table_free_step(tracking_table_t *self, uint64_t budget) noexcept nogil:
    cdef tracked_key_t **link
    cdef uint32_t at
    while self.count > 0:
        if budget == 0:
            return False
        budget -= 1
        link = some_key(self)
        for at in range(link[0].capacity):
            if tracker_at(link[0], at) != NULL:
                tracker_release(tracker_at(link[0], at))
        forget(self, link)
    net_free(self.chains)
    net_free(self.old_chains)
    self.chains = NULL
    self.old_chains = NULL
    self.chain_count = 0
    return True


# ---- Messages --------------------------------------------------------------------------------------

cdef invalidation_t *invalidation_new(invalidation_kind_t kind, slice_t key, uint64_t writer,
                                      uint32_t trackers) noexcept nogil:
    cdef invalidation_t *self = <invalidation_t *>net_zalloc(
        sizeof(invalidation_t) + trackers * sizeof(tracker_t *) + key.size)
    cdef char *text
    self.kind = kind
    self.writer = writer
    self.trackers = <tracker_t **>(self + 1)
    text = <char *>(self.trackers + trackers)
    if key.size > 0:
        memcpy(text, key.data, key.size)
    self.key.data = text
    self.key.size = key.size
    return self


cdef void tell_trackers(tracking_table_t *self, tracked_key_t *key, uint64_t writer) noexcept nogil:
    """One message to each thread that has some of them; takes their references over."""
    cdef invalidation_t *message
    cdef tracker_t *tracker
    cdef proactor_t *home
    cdef slice_t name
    cdef uint32_t left = key.count
    cdef uint32_t first = 0
    cdef uint32_t i
    name.data = key.name
    name.size = key.size
    while left > 0:
        while tracker_at(key, first) == NULL:
            first += 1
        home = tracker_at(key, first).home
        message = invalidation_new(INVALIDATE_KEY, name, writer, left)
        for i in range(first, key.capacity):
            tracker = tracker_at(key, i)
            if tracker != NULL and tracker.home == home:
                message.trackers[message.tracker_count] = tracker
                message.tracker_count += 1
                if key.capacity == 1:
                    key.one = NULL
                else:
                    key.slots[i] = NULL
        left -= message.tracker_count
        message.message.run = self.run
        proactor_post(home, &message.message)


cdef void tell_wanting(tracking_table_t *self, const key_t *key, uint64_t writer) noexcept nogil:
    cdef wanting_thread_t *thread = self.wanting
    cdef wanted_prefix_t *prefix
    cdef invalidation_t *message
    cdef slice_t name
    name.data = key.data
    name.size = key.size
    while thread != NULL:
        prefix = thread.prefixes
        while prefix != NULL and not (prefix.size <= key.size
                                      and memcmp(prefix.text, key.data, prefix.size) == 0):
            prefix = prefix.next
        if prefix != NULL:
            message = invalidation_new(INVALIDATE_PREFIXES, name, writer, 0)
            message.message.run = thread.run
            proactor_post(thread.home, &message.message)
        thread = thread.next


cdef void tracking_table_invalidate(tracking_table_t *self, const key_t *key, uint64_t writer) noexcept nogil:
    cdef tracked_key_t **link
    if self.wanting != NULL:
        tell_wanting(self, key, writer)
    if self.count == 0:
        return
    link = chain_of(self, key.hash)
    while link[0] != NULL:
        if (link[0].hash == key.hash and link[0].size == key.size
                and memcmp(link[0].name, key.data, key.size) == 0):
            tell_trackers(self, link[0], writer)
            forget(self, link)
            return
        link = &link[0].next


cdef void tracking_table_evict(tracking_table_t *self) noexcept nogil:
    cdef tracked_key_t **link
    if self.count == 0:
        return
    link = some_key(self)
    self.cursor += 1
    tell_trackers(self, link[0], 0)
    forget(self, link)


# ---- Prefixes ----------------------------------------------------------------------------------------

cdef wanted_prefix_t **find_prefix(wanting_thread_t *thread, slice_t text) noexcept nogil:
    """Where its link is, or would be."""
    cdef wanted_prefix_t **link = &thread.prefixes
    while link[0] != NULL and not (link[0].size == text.size
                                   and memcmp(link[0].text, text.data, text.size) == 0):
        link = &link[0].next
    return link


cdef wanting_thread_t **find_thread(tracking_table_t *self, proactor_t *home) noexcept nogil:
    cdef wanting_thread_t **link = &self.wanting
    while link[0] != NULL and link[0].home != home:
        link = &link[0].next
    return link


cdef bint is_wanted(tracking_table_t *self, slice_t text) noexcept nogil:
    cdef wanting_thread_t *thread = self.wanting
    while thread != NULL:
        if find_prefix(thread, text)[0] != NULL:
            return True
        thread = thread.next
    return False


cdef void tracking_table_want(tracking_table_t *self, slice_t prefix, proactor_t *home,
                              message_run_t run) noexcept nogil:
    cdef bint is_new = not is_wanted(self, prefix)
    cdef wanting_thread_t **thread = find_thread(self, home)
    cdef wanted_prefix_t **link
    if thread[0] == NULL:
        thread[0] = <wanting_thread_t *>net_zalloc(sizeof(wanting_thread_t))
        thread[0].home = home
        thread[0].run = run
    link = find_prefix(thread[0], prefix)
    if link[0] == NULL:
        link[0] = <wanted_prefix_t *>net_zalloc(sizeof(wanted_prefix_t) + prefix.size)
        link[0].text = <char *>(link[0] + 1)
        link[0].size = <uint32_t>prefix.size
        if prefix.size > 0:
            memcpy(link[0].text, prefix.data, prefix.size)
    link[0].count += 1
    self.prefix_count += is_new


cdef void tracking_table_unwant(tracking_table_t *self, slice_t prefix, proactor_t *home) noexcept nogil:
    cdef wanting_thread_t **thread = find_thread(self, home)
    cdef wanting_thread_t *empty
    cdef wanted_prefix_t **link
    cdef wanted_prefix_t *unwanted
    if thread[0] == NULL:
        return
    link = find_prefix(thread[0], prefix)
    unwanted = link[0]
    if unwanted == NULL:
        return
    unwanted.count -= 1
    if unwanted.count > 0:
        return
    link[0] = unwanted.next
    if not is_wanted(self, prefix):
        self.prefix_count -= 1
    net_free(unwanted)
    if thread[0].prefixes == NULL:
        empty = thread[0]
        thread[0] = empty.next
        net_free(empty)
