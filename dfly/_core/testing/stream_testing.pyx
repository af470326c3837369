"""Test doors to streams and to the index of IDs: IDs are pairs of integers, texts are bytes."""

from collections import Counter

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

from dfly._core.store.block_list cimport LIST_ITEM_SCRATCH, list_item_t, list_item_text
from dfly._core.store.id_index cimport (id_append_all, id_ceiling, id_check, id_clear, id_clear_step, id_find,
                                        id_first, id_floor, id_heap_bytes, id_index_t, id_insert, id_last,
                                        id_last_slot, id_next, id_place_t, id_pop_last, id_previous, id_remove,
                                        id_remove_run, id_slot, id_take_first, stream_id, stream_id_t)
from dfly._core.store.joined_packs cimport joined_of, pack_is_joined
from dfly._core.store.listpack cimport listpack_bytes
from dfly._core.store cimport stream
from dfly._core.store.stream cimport (stream_append, stream_block_count, stream_check, stream_cursor_t,
                                      stream_data_bytes, stream_delete, stream_dup, stream_free, stream_free_step,
                                      stream_has, stream_heap_bytes, stream_last_entry, stream_limits_t,
                                      stream_load_block, stream_new, stream_next_id, stream_pack_is_valid,
                                      stream_read_at, stream_read_next, stream_read_pair, stream_read_previous,
                                      stream_refresh_first, stream_seek, stream_seek_back, stream_t, stream_trim_id,
                                      stream_trim_length)
from dfly._core.store.stream_groups cimport (batch_add, batch_deliver, batch_new, claim_is_watched, claim_watch_begin,
                                             claim_watch_end, consumer_at, consumer_create, consumer_delete,
                                             consumer_find, group_add, group_at, group_create, group_find,
                                             group_pending_count, group_settle, group_take, groups_free_step,
                                             groups_purge_step, name_of, name_table_t, pending_deliver,
                                             pending_deliver_again, pending_find, pending_give_all, pending_remove,
                                             pending_remove_all, pending_t, stream_consumer_t, stream_group_t)
from dfly._core.store.stream_progress cimport stream_distance
from dfly._core.sys.alloc cimport mem_alloc, mem_free, mem_good_size, net_alloc, net_free
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP


def has_fine_sizes():
    """Has the allocator no steps that blocks of streams would gain from sharing? Then they share from now on."""
    if mem_good_size(2600) > 2700:
        return False
    stream.stream_joins_always = True
    return True


cdef stream_id_t id_of(pair):
    return stream_id(pair[0], pair[1])


cdef tuple pair_of(stream_id_t id):
    return id.ms, id.seq


cdef slice_t slice_of(bytes text):
    cdef slice_t out
    out.data = text
    out.size = len(text)
    return out


cdef bytes bytes_of(slice_t text):
    return text.data[:text.size]


cdef bytes item_bytes(list_item_t *item):
    cdef char scratch[LIST_ITEM_SCRATCH]
    return bytes_of(list_item_text(item, scratch))


cdef int64_t thread_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts)
    return <int64_t>ts.tv_sec * 1000000000 + ts.tv_nsec


cdef class IdIndex:
    """An index of IDs; values are integers above zero."""

    cdef id_index_t index

    def __dealloc__(self):
        id_clear(&self.index)

    def __len__(self):
        return self.index.count

    def insert(self, pair, uint64_t value):
        return id_insert(&self.index, id_of(pair), <void *>value)

    def remove(self, pair):
        return <uint64_t>id_remove(&self.index, id_of(pair))

    def remove_run(self, pair, numbers):
        cdef uint64_t *copies = <uint64_t *>net_alloc((len(numbers) + 1) * sizeof(uint64_t))
        for i, number in enumerate(numbers):
            copies[i] = number
        removed = id_remove_run(&self.index, id_of(pair), <void *const *>copies, len(numbers))
        net_free(copies)
        return removed

    def find(self, pair):
        return <uint64_t>id_find(&self.index, id_of(pair))

    def floor(self, pair):
        cdef id_place_t place
        return pair_of(id_slot(&self.index, place).id) if id_floor(&self.index, id_of(pair), &place) else None

    def ceiling(self, pair):
        cdef id_place_t place
        return pair_of(id_slot(&self.index, place).id) if id_ceiling(&self.index, id_of(pair), &place) else None

    def pop_last(self):
        return <uint64_t>id_pop_last(&self.index)

    def append_all(self, IdIndex behind):
        id_append_all(&self.index, &behind.index)

    def take_first(self, uint64_t count, IdIndex out):
        id_take_first(&self.index, count, &out.index)

    def clear_step(self, uint64_t budget):
        """(done, what is left of the budget)"""
        done = id_clear_step(&self.index, &budget)
        return done, budget

    def items(self, bint backward=False):
        cdef id_place_t place
        found = []
        more = id_last(&self.index, &place) if backward else id_first(&self.index, &place)
        while more:
            found.append((pair_of(id_slot(&self.index, place).id), <uint64_t>id_slot(&self.index, place).value))
            more = id_previous(&self.index, &place) if backward else id_next(&self.index, &place)
        return found

    def info(self):
        return {"leaves": self.index.leaf_count, "heap": id_heap_bytes(&self.index)}

    def check(self):
        id_check(&self.index)


cdef class Stream:
    """A stream; limits are those of stream-node-max-bytes and stream-node-max-entries."""

    cdef stream_t *root
    cdef stream_limits_t limits

    def __cinit__(self, uint64_t node_bytes=4096, uint64_t node_entries=100):
        self.limits.bytes = node_bytes
        self.limits.entries = node_entries
        self.root = stream_new()

    def __dealloc__(self):
        stream_free(&self.root)

    def __len__(self):
        return self.root.length

    def append(self, pair, *texts):
        cdef slice_t *slices = <slice_t *>net_alloc(len(texts) * sizeof(slice_t))
        for i, text in enumerate(texts):
            slices[i] = slice_of(text)
        stream_append(self.root, id_of(pair), slices, len(texts) // 2, &self.limits)
        net_free(slices)

    def next_id(self, int64_t now_ms):
        cdef stream_id_t id
        return pair_of(id) if stream_next_id(self.root, now_ms, &id) else None

    def delete(self, pair):
        return stream_delete(self.root, id_of(pair))

    def trim_length(self, uint64_t length, bint approximate=False, uint64_t limit=0):
        """(how many entries went, in how many blocks as a whole)"""
        cdef stream_t *dropped = NULL
        count = stream_trim_length(self.root, length, approximate, limit, &dropped)
        blocks = dropped.blocks.count if dropped != NULL else 0
        stream_free(&dropped)
        return count, blocks

    def trim_id(self, pair, bint approximate=False, uint64_t limit=0):
        cdef stream_t *dropped = NULL
        count = stream_trim_id(self.root, id_of(pair), approximate, limit, &dropped)
        blocks = dropped.blocks.count if dropped != NULL else 0
        stream_free(&dropped)
        return count, blocks

    def read(self, start=(0, 0), limit=None, bint backward=False, bint skip_pairs=False):
        """Entries as (id, [field, value, ...]); skip_pairs reads only the first pair of each."""
        cdef stream_cursor_t cursor
        cdef list_item_t field
        cdef list_item_t value
        found = []
        if backward:
            stream_seek_back(self.root, id_of(start), &cursor)
        else:
            stream_seek(self.root, id_of(start), &cursor)
        while limit is None or len(found) < limit:
            if not (stream_read_previous(&cursor) if backward else stream_read_next(&cursor)):
                break
            texts = []
            for _ in range(1 if skip_pairs else cursor.pair_count):
                stream_read_pair(&cursor, &field, &value)
                texts += [item_bytes(&field), item_bytes(&value)]
            found.append((pair_of(cursor.id), texts))
        return found

    def has(self, pair):
        return stream_has(self.root, id_of(pair))

    def read_at(self, pairs):
        """The entries of these IDs, read by one cursor; of each other one only its first pair. None: there is none."""
        cdef stream_cursor_t cursor
        cdef list_item_t field
        cdef list_item_t value
        cursor.stream = NULL
        found = []
        for pair in pairs:
            if not stream_read_at(self.root, id_of(pair), &cursor):
                found.append(None)
                continue
            texts = []
            for _ in range(cursor.pair_count if len(found) % 2 == 0 else 1):
                stream_read_pair(&cursor, &field, &value)
                texts += [item_bytes(&field), item_bytes(&value)]
            found.append((pair_of(cursor.id), texts))
        return found

    def distance(self, pair):
        return stream_distance(self.root, id_of(pair))

    def state(self):
        cdef stream_id_t last
        return {"first": pair_of(self.root.first_id), "last": pair_of(self.root.last_id),
                "added": self.root.entries_added, "deleted": pair_of(self.root.max_deleted_id),
                "last_entry": pair_of(last) if stream_last_entry(self.root, &last) else None}

    def copy(self):
        cdef Stream other = Stream(self.limits.bytes, self.limits.entries)
        stream_free(&other.root)
        other.root = stream_dup(self.root)
        return other

    def packs(self):
        """The blocks as they are saved: (master id, bytes)."""
        cdef id_place_t place
        cdef uint8_t *pack
        found = []
        more = id_first(&self.root.blocks, &place)
        while more:
            pack = <uint8_t *>id_slot(&self.root.blocks, place).value
            found.append((pair_of(id_slot(&self.root.blocks, place).id), (<char *>pack)[:listpack_bytes(pack)]))
            more = id_next(&self.root.blocks, &place)
        return found

    def load(self, packs):
        """Appends saved blocks; False at the first one that is no block or not in order."""
        cdef uint64_t entries
        cdef stream_id_t last
        cdef uint8_t *pack
        cdef bytes data
        for pair, data in packs:
            pack = <uint8_t *>mem_alloc(len(data))
            memcpy(pack, <const char *>data, len(data))
            if (not stream_pack_is_valid(pack, len(data), id_of(pair), &entries, &last)
                    or not stream_load_block(self.root, id_of(pair), pack)):
                mem_free(pack)
                return False
            self.root.length += entries
            self.root.entries_added += entries
            self.root.last_id = last
        stream_refresh_first(self.root)
        return True

    def free_step(self, uint64_t budget):
        """(done, what is left of the budget)"""
        done = stream_free_step(&self.root, &budget)
        if done:
            self.root = stream_new()
        return done, budget

    def check(self):
        return stream_check(self.root)

    def info(self):
        cdef id_place_t place
        cdef const uint8_t *pack
        allocations = Counter()
        more = id_first(&self.root.blocks, &place)
        while more:
            pack = <const uint8_t *>id_slot(&self.root.blocks, place).value
            if pack_is_joined(pack):
                allocations[<size_t>joined_of(pack)] += 1
            more = id_next(&self.root.blocks, &place)
        # Blocks that share an allocation, and those of them that are alone there.
        return {"blocks": self.root.blocks.count, "joined": sum(allocations.values()),
                "lone": sum(count == 1 for count in allocations.values()),
                "allocations": stream_block_count(self.root),
                "heap": stream_heap_bytes(self.root), "data": stream_data_bytes(self.root)}

    def set_limits(self, uint64_t node_bytes, uint64_t node_entries):
        self.limits.bytes = node_bytes
        self.limits.entries = node_entries

    def time_append(self, bytes field, bytes value, uint64_t count):
        """CPU nanoseconds of one append."""
        cdef slice_t texts[2]
        cdef stream_id_t id = self.root.last_id
        cdef int64_t start
        cdef uint64_t _i
        texts[0] = slice_of(field)
        texts[1] = slice_of(value)
        with nogil:
            start = thread_ns()
            for _i in range(count):
                id.ms += 1
                stream_append(self.root, id, texts, 1, &self.limits)
            start = thread_ns() - start
        return start / max(count, 1)

    # Groups

    cdef stream_group_t *group(self, bytes name) except NULL:
        cdef stream_group_t *found = group_find(&self.root.groups, slice_of(name))
        if found == NULL:
            raise KeyError(name)
        return found

    cdef stream_consumer_t *consumer(self, bytes group, bytes name) except NULL:
        cdef stream_consumer_t *found = consumer_find(self.group(group), slice_of(name))
        if found == NULL:
            raise KeyError(name)
        return found

    def create_group(self, bytes name, pair=(0, 0), int64_t entries_read=-1):
        return group_create(&self.root.groups, slice_of(name), id_of(pair), entries_read) != NULL

    def destroy_group(self, bytes name):
        cdef name_table_t gone
        cdef uint64_t budget = <uint64_t>-1
        cdef stream_group_t *group = group_take(&self.root.groups, slice_of(name))
        if group == NULL:
            return False
        memset(&gone, 0, sizeof(gone))
        group_add(&gone, group)
        return groups_free_step(&gone, &budget)

    def create_consumer(self, bytes group, bytes name, int64_t now_ms=0):
        return consumer_create(self.group(group), slice_of(name), now_ms) != NULL

    def delete_consumer(self, bytes group, bytes name):
        return consumer_delete(self.group(group), self.consumer(group, name))

    def deliver(self, bytes group, bytes name, pair, int64_t now_ms=0):
        pending_deliver(self.group(group), self.consumer(group, name), id_of(pair), now_ms)

    def deliver_batch(self, bytes group, bytes name, pairs, int64_t now_ms=0):
        """As one; the pairs rise, and are behind all that is pending."""
        cdef stream_group_t *found = self.group(group)
        cdef stream_consumer_t *consumer = self.consumer(group, name)
        cdef stream_group_t *batch = batch_new(found)
        if pairs and found.pending.count > 0 and pair_of(id_last_slot(&found.pending).id) >= pairs[0]:
            # Of a consumer that is gone.
            group_settle(found)
        for pair in pairs:
            batch_add(batch, consumer, id_of(pair), now_ms)
            batch.last_id = id_of(pair)
        batch_deliver(found, consumer, batch)

    def drop_batch(self, bytes group, bytes name, pairs, uint64_t step):
        """Makes the same and frees it, in steps of that budget; returns how many."""
        cdef stream_group_t *batch = batch_new(self.group(group))
        cdef name_table_t gone
        cdef uint64_t budget = step
        for pair in pairs:
            batch_add(batch, self.consumer(group, name), id_of(pair), 0)
        memset(&gone, 0, sizeof(gone))
        group_add(&gone, batch)
        steps = 1
        while not groups_free_step(&gone, &budget):
            budget = step
            steps += 1
        return steps

    def deliver_again(self, bytes group, bytes name, uint64_t first, bytes chosen, int64_t now_ms):
        """Of the consumer's entries from that one on those with a bit in `chosen`."""
        cdef stream_consumer_t *consumer = self.consumer(group, name)
        cdef id_place_t place
        cdef uint64_t _i
        id_first(&consumer.pending, &place)
        for _i in range(first):
            id_next(&consumer.pending, &place)
        pending_deliver_again(self.group(group), consumer, place, min(8 * len(chosen), consumer.pending.count - first),
                              <const uint8_t *><const char *>chosen, now_ms)

    cdef pending_t **entries(self, bytes group, pairs) except NULL:
        """What is pending of these; the caller frees the list."""
        cdef pending_t **found = <pending_t **>net_alloc((len(pairs) + 1) * sizeof(pending_t *))
        for i, pair in enumerate(pairs):
            found[i] = pending_find(self.group(group), id_of(pair))
            assert found[i] != NULL
        return found

    def give_all(self, bytes group, bytes name, pairs, int64_t now_ms, uint64_t deliveries):
        cdef pending_t **found = self.entries(group, pairs)
        pending_give_all(self.group(group), self.consumer(group, name), found, len(pairs), now_ms, deliveries)
        net_free(found)

    def remove_all(self, bytes group, pairs):
        cdef pending_t **found = self.entries(group, pairs)
        pending_remove_all(self.group(group), found, len(pairs))
        net_free(found)

    def watch_claim(self, bytes group, first, last, int64_t latest_ms, bint at_any_time=False):
        """The number of a claim that has seen this."""
        cdef stream_group_t *found = self.group(group)
        number = claim_watch_begin(found)
        found.claim.first = id_of(first)
        found.claim.last = id_of(last)
        found.claim.latest_ms = latest_ms
        found.claim.at_any_time = at_any_time
        return number

    def is_watched(self, bytes group, uint64_t number):
        return claim_is_watched(self.group(group), number)

    def end_claim(self, bytes group, uint64_t number):
        claim_watch_end(self.group(group), number)

    def settle(self, bytes group):
        group_settle(self.group(group))

    def purge_step(self, uint64_t budget):
        return groups_purge_step(&self.root.groups, &budget)

    def pending_count(self, bytes group):
        return group_pending_count(self.group(group))

    def acknowledge(self, bytes group, pair):
        return pending_remove(self.group(group), id_of(pair))

    def pending(self, bytes group, pair):
        """(consumer, time, deliveries)"""
        cdef pending_t *found = pending_find(self.group(group), id_of(pair))
        if found == NULL:
            return None
        return bytes_of(name_of(found.consumer)), found.delivered_ms, found.deliveries

    def by_time(self, bytes group):
        """[(time, id), ...] of what is pending, what was delivered first in front."""
        cdef pending_t *pending = self.group(group).oldest
        found = []
        while pending != NULL:
            if not pending.consumer.is_gone:
                found.append((pending.delivered_ms, pair_of(pending.id)))
            pending = pending.newer
        return found

    def groups(self):
        """{group: {consumer: [id, ...]}}, both in order."""
        cdef stream_group_t *group
        cdef stream_consumer_t *consumer
        cdef id_place_t place
        cdef uint32_t i
        cdef uint32_t j
        found = {}
        for i in range(self.root.groups.count):
            group = group_at(&self.root.groups, i)
            consumers = {}
            for j in range(group.consumers.count):
                consumer = consumer_at(group, j)
                ids = []
                more = id_first(&consumer.pending, &place)
                while more:
                    ids.append(pair_of(id_slot(&consumer.pending, place).id))
                    more = id_next(&consumer.pending, &place)
                consumers[bytes_of(name_of(consumer))] = ids
            found[bytes_of(name_of(group))] = consumers
        return found
