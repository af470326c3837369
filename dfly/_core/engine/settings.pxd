"""The settings that the data plane reads, as plain words: written by the main thread only
(CONFIG SET), read by shard threads without locks. dfly/settings.py is the registry they come from.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef enum eviction_policy_t:
    POLICY_NOEVICTION = 0
    POLICY_ALLKEYS_LRU = 1
    POLICY_ALLKEYS_LFU = 2
    POLICY_ALLKEYS_RANDOM = 3
    POLICY_VOLATILE_LRU = 4
    POLICY_VOLATILE_LFU = 5
    POLICY_VOLATILE_RANDOM = 6
    POLICY_VOLATILE_TTL = 7

cdef enum:
    CLIENT_CLASS_NORMAL = 0
    CLIENT_CLASS_REPLICA = 1
    CLIENT_CLASS_PUBSUB = 2
    CLIENT_CLASS_COUNT = 3

cdef enum:
    LATENCY_EVENTS_MAX = 16

cdef struct output_limit_t:
    int64_t hard_bytes           # 0: no limit
    int64_t soft_bytes
    int64_t soft_seconds

cdef struct password_t:
    size_t size
    char text[1]                 # size bytes

cdef struct settings_t:
    uint32_t databases
    int64_t maxmemory            # bytes, 0: no limit
    int64_t maxmemory_policy
    int64_t maxmemory_samples
    int64_t cache_mode
    int64_t lfu_log_factor
    int64_t lfu_decay_time
    int64_t maxclients
    int64_t timeout_s
    int64_t tcp_keepalive_s
    int64_t protected_mode
    int64_t proto_max_bulk_len
    int64_t client_query_buffer_limit
    int64_t slowlog_log_slower_than_us
    int64_t slowlog_max_len
    int64_t latency_monitor_threshold_ms
    uint64_t latency_monitor_ticks       # the same in cycle ticks; 0: off
    int64_t latency_tracking
    uint64_t latency_resets[16]          # by event: how often LATENCY RESET has emptied it
    int64_t notify_keyspace_events
    int64_t tracking_table_max_keys      # 0: no limit
    int64_t active_expire_enabled
    int64_t conn_io_threads          # so many threads have connections; 0: as many as the load needs
    int64_t shuffle_connections      # for tests: every connection moves to another thread all the time
    int64_t interrupt_transactions   # for tests: an EXEC gives its tokens away between its commands
    int64_t slice_elements           # what handles more elements goes in slices of at most so many: engine/slices.pxd
    int64_t snapshot_time_share      # percent of a shard's time, at first: persist/save.pyx
    int64_t snapshot_elements        # a snapshot writes larger collections member by member: persist/rdb_walk.pxd
    int64_t list_max_listpack_size   # see list_limits in store/block_list.pxd
    # Up to these sizes a container is compact: elements, and bytes of its longest one.
    int64_t hash_max_listpack_entries
    int64_t hash_max_listpack_value
    int64_t set_max_intset_entries
    int64_t set_max_listpack_entries
    int64_t set_max_listpack_value
    int64_t zset_max_listpack_entries
    int64_t zset_max_listpack_value
    int64_t stream_node_max_bytes
    int64_t stream_node_max_entries
    int64_t hll_sparse_max_bytes
    int64_t rdb_version              # of DUMP and of snapshots: the newest format that readers know
    int64_t rdb_compression          # strings in DUMP payloads and snapshots are compressed
    output_limit_t output_limits[3]
    # The password: replaced as a whole by the main thread, never changed in place and never freed,
    # so that a shard thread may compare with an old one for a moment. NULL: none.
    const password_t *password
    int64_t has_password


cdef inline void settings_init_encoding_limits(settings_t *self) noexcept nogil:
    """Redis' defaults."""
    self.list_max_listpack_size = -2
    self.hash_max_listpack_entries = 512
    self.hash_max_listpack_value = 64
    self.set_max_intset_entries = 512
    self.set_max_listpack_entries = 128
    self.set_max_listpack_value = 64
    self.zset_max_listpack_entries = 128
    self.zset_max_listpack_value = 64
    self.stream_node_max_bytes = 4096
    self.stream_node_max_entries = 100
    self.hll_sparse_max_bytes = 3000
    self.rdb_version = 10
    self.rdb_compression = 1
