"""Test door to the invalidation table: threads and clients are small numbers, messages become tuples."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.tracking_table cimport (INVALIDATE_KEY, invalidation_t, tracker_retain, tracker_t,
                                               tracking_table_add, tracking_table_drop,
                                               tracking_table_evict, tracking_table_free_step,
                                               tracking_table_invalidate, tracking_table_t,
                                               tracking_table_unwant, tracking_table_want)
from dfly._core.loop.mailbox cimport mailbox_init, mailbox_take, message_t
from dfly._core.loop.proactor cimport proactor_t
from dfly._core.store.object cimport key_init, key_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP, slice_t

__abi__ = DFLY_ABI_STAMP

cdef enum:
    THREADS = 3
    CLIENTS = 64


cdef class TrackingTable:
    """Client c lives on thread c % 3."""

    cdef tracking_table_t table
    cdef tracking_table_t dropped
    cdef proactor_t *threads
    cdef tracker_t *trackers

    def __cinit__(self):
        cdef uint32_t i
        self.threads = <proactor_t *>net_zalloc(THREADS * sizeof(proactor_t))
        self.trackers = <tracker_t *>net_zalloc(CLIENTS * sizeof(tracker_t))
        for i in range(THREADS):
            mailbox_init(&self.threads[i].mailbox)
        for i in range(CLIENTS):
            # Never freed by a release: the block is ours.
            tracker_retain(&self.trackers[i])
            self.trackers[i].client_id = i
            self.trackers[i].home = &self.threads[i % THREADS]

    def __dealloc__(self):
        self.take_messages()
        tracking_table_free_step(&self.table, self.table.count)
        tracking_table_free_step(&self.dropped, self.dropped.count)
        net_free(self.threads)
        net_free(self.trackers)

    def add(self, bytes name, uint32_t client):
        cdef key_t key
        key_init(&key, name, len(name))
        return tracking_table_add(&self.table, &key, &self.trackers[client])

    def invalidate(self, bytes name, uint64_t writer=0):
        """[(thread, key, writer, {clients})], None for the clients where a prefix matched."""
        cdef key_t key
        key_init(&key, name, len(name))
        tracking_table_invalidate(&self.table, &key, writer)
        return self.take_messages()

    def evict(self):
        tracking_table_evict(&self.table)
        return self.take_messages()

    def drop(self):
        """All keys at once; free_step frees them."""
        assert self.dropped.count == 0
        tracking_table_drop(&self.table, &self.dropped)

    def free_step(self, uint64_t budget):
        return tracking_table_free_step(&self.dropped, budget)

    def want(self, bytes prefix, uint32_t thread):
        tracking_table_want(&self.table, as_slice(prefix), &self.threads[thread], NULL)

    def unwant(self, bytes prefix, uint32_t thread):
        tracking_table_unwant(&self.table, as_slice(prefix), &self.threads[thread])

    @property
    def counts(self):
        """Keys, clients in their entries, different prefixes."""
        return self.table.count, self.table.items, self.table.prefix_count

    def references(self, uint32_t client):
        """Those of the tables and of messages."""
        return self.trackers[client].references - 1

    cdef list take_messages(self):
        cdef invalidation_t *invalidation
        cdef message_t *message
        cdef message_t *following
        cdef uint32_t i
        cdef uint32_t t
        result = []
        for t in range(THREADS):
            message = mailbox_take(&self.threads[t].mailbox)
            while message != NULL:
                following = message.next
                invalidation = <invalidation_t *>message
                clients = None
                if invalidation.kind == INVALIDATE_KEY:
                    clients = set()
                    for i in range(invalidation.tracker_count):
                        clients.add(invalidation.trackers[i].client_id)
                        invalidation.trackers[i].references -= 1
                    assert len(clients) == invalidation.tracker_count
                name = invalidation.key.data[:invalidation.key.size]
                result.append((t, name, invalidation.writer, clients))
                net_free(invalidation)
                message = following
        return result


cdef slice_t as_slice(bytes text):
    cdef slice_t result
    result.data = text
    result.size = len(text)
    return result
