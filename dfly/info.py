"""INFO: Redis' sections and fields (redis.io/docs/latest/commands/info), from the counters of all threads.

Fields of features that do not exist yet show what a Redis without them in use shows.
"""

import os
import platform
import resource
import sys
import time

from dfly.latency import Latency
from dfly.version import REDIS_VERSION, __version__

DEFAULT_SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules",
                    "errorstats", "cluster", "keyspace")
ALL_SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules",
                "commandstats", "errorstats", "latencystats", "cluster", "keyspace")


def human(size):
    """Redis' short form of a size: 1.50M."""
    for unit, factor in (("T", 1024**4), ("G", 1024**3), ("M", 1024**2), ("K", 1024)):
        if size >= factor:
            return f"{size / factor:.2f}{unit}"
    return f"{size}B"


def resident_bytes():
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()


def total_memory():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Info:
    """Renders INFO; keeps the samples that rates are computed from."""

    def __init__(self, server, settings, backend):
        self.server = server
        self.settings = settings
        self.backend = backend
        self.latency = Latency(server, settings)
        self.startup_used = server.stats()["used_memory"]
        self.rates = {"commands": 0, "net_input_bytes": 0, "net_output_bytes": 0}
        self.sampled = (time.monotonic(), server.stats())
        self.change_replication_id()

    def change_replication_id(self):
        """A new name for the history of this data: 40 hex digits."""
        self.replication_id = os.urandom(20).hex()

    def sample(self):
        """Called about once a second: operations and bytes per second."""
        now, stats = time.monotonic(), self.server.stats()
        then, before = self.sampled
        if now - then >= 0.5:
            for name in self.rates:
                self.rates[name] = max(0, (stats[name] - before[name]) / (now - then))
            self.sampled = (now, stats)

    def render(self, wanted):
        """The text of the wanted sections (names, or default, all, everything)."""
        names = []
        for name in wanted or ["default"]:
            name = name.lower()
            if name == "default":
                names += DEFAULT_SECTIONS
            elif name in ("all", "everything"):
                names += ALL_SECTIONS
            elif name in ALL_SECTIONS:
                names.append(name)
        parts = []
        for name in (each for each in ALL_SECTIONS if each in names):
            fields = getattr(self, "section_" + name)()
            title = name.upper() if name == "cpu" else name.capitalize()
            parts.append(f"# {title}\r\n" + "".join(f"{k}:{v}\r\n" for k, v in fields.items()))
        return "\r\n".join(parts)

    def section_server(self):
        stats = self.server.stats()
        uptime = int(time.time() - stats["started_ms"] / 1000)
        return {
            "redis_version": REDIS_VERSION, "dfly_version": __version__, "redis_git_sha1": "00000000",
            "redis_git_dirty": 0, "redis_build_id": __version__, "redis_mode": "standalone",
            "os": f"{platform.system()} {platform.release()} {platform.machine()}", "arch_bits": 64,
            "monotonic_clock": "POSIX clock_gettime", "multiplexing_api": self.backend,
            "atomicvar_api": "c11-builtin", "gcc_version": platform.python_compiler().removeprefix("GCC "),
            "process_id": os.getpid(), "process_supervised": "systemd" if os.environ.get("NOTIFY_SOCKET") else "no",
            "run_id": self.server.run_id, "tcp_port": self.settings["port"],
            "server_time_usec": time.time_ns() // 1000, "uptime_in_seconds": uptime,
            "uptime_in_days": uptime // 86400, "hz": self.settings["hz"], "configured_hz": self.settings["hz"],
            "lru_clock": int(time.time()) & 0xFFFFFF, "executable": sys.executable,
            "config_file": self.settings.file or "", "io_threads_active": int(stats["threads"] > 1),
            "thread_count": stats["threads"],
        }

    def section_clients(self):
        stats = self.server.stats()
        return {
            "connected_clients": stats["connected_clients"], "cluster_connections": 0,
            "maxclients": self.settings["maxclients"], "client_recent_max_input_buffer": stats["input_buffer_peak"],
            "client_recent_max_output_buffer": stats["output_buffer_peak"],
            "blocked_clients": stats["blocked_clients"], "tracking_clients": stats["tracking_clients"],
            "clients_in_timeout_table": 0, "timeout_disconnects": stats["timeout_closes"],
        }

    def section_memory(self):
        stats = self.server.stats()
        used, rss = stats["used_memory"], resident_bytes()
        peak = max(stats["peak_used_memory"], used)
        dataset = max(0, stats["used_memory_data"])
        total = total_memory()
        fields = {
            "used_memory": used, "used_memory_human": human(used), "used_memory_rss": rss,
            "used_memory_rss_human": human(rss), "used_memory_peak": peak, "used_memory_peak_human": human(peak),
            "used_memory_peak_perc": f"{100 * used / peak if peak else 100:.2f}%",
            "used_memory_overhead": used - dataset, "used_memory_startup": self.startup_used,
            "used_memory_dataset": dataset,
            "used_memory_dataset_perc": f"{100 * dataset / max(1, used - self.startup_used):.2f}%",
            "allocator_allocated": used, "allocator_active": rss, "allocator_resident": rss,
            "total_system_memory": total, "total_system_memory_human": human(total),
            "maxmemory": self.settings["maxmemory"], "maxmemory_human": human(self.settings["maxmemory"]),
            "maxmemory_policy": self.settings["maxmemory-policy"],
            "allocator_frag_ratio": f"{rss / max(1, used):.2f}", "allocator_frag_bytes": rss - used,
            "allocator_rss_ratio": "1.00", "allocator_rss_bytes": 0, "rss_overhead_ratio": "1.00",
            "rss_overhead_bytes": 0, "mem_fragmentation_ratio": f"{rss / max(1, used):.2f}",
            "mem_fragmentation_bytes": rss - used, "mem_clients_normal": stats["used_memory_net"],
            "mem_allocator": self.server.allocator, "active_defrag_running": 0,
            "lazyfree_pending_objects": stats["lazyfree_pending_objects"],
            "lazyfreed_objects": stats["lazyfreed_objects"],
        }
        for name in ("used_memory_lua", "used_memory_vm_eval", "used_memory_scripts_eval", "number_of_cached_scripts",
                     "number_of_functions", "number_of_libraries", "used_memory_vm_functions",
                     "used_memory_vm_total", "used_memory_functions", "used_memory_scripts",
                     "mem_not_counted_for_evict", "mem_replication_backlog", "mem_total_replication_buffers",
                     "mem_clients_slaves", "mem_cluster_links", "mem_aof_buffer"):
            fields[name] = 0
        for name in ("used_memory_lua_human", "used_memory_vm_total_human", "used_memory_scripts_human"):
            fields[name] = "0B"
        return fields

    def section_persistence(self):
        fields = dict.fromkeys((
            "loading", "async_loading", "current_cow_peak", "current_cow_size", "current_cow_size_age"), 0)
        fields["current_fork_perc"] = "0.00"
        fields.update(dict.fromkeys(("current_save_keys_processed", "current_save_keys_total"), 0))
        save = self.server.save_stats()
        load = self.server.load_stats()
        fields["loading"] = int(load["running"])
        running = save["running"]
        fields["current_save_keys_total"] = sum(keys for keys, _ in self.server.keyspace().values()) if running else 0
        fields["current_save_keys_processed"] = save["current_entries"]
        fields["rdb_changes_since_last_save"] = save["changes"]
        fields.update({
            "rdb_bgsave_in_progress": int(running), "rdb_last_save_time": save["last_save"],
            "rdb_last_bgsave_status": "err" if save["failed"] else "ok",
            "rdb_last_bgsave_time_sec": save["last_ms"] // 1000 if save["ended"] else -1,
            "rdb_current_bgsave_time_sec": int(time.time()) - save["started"] if running else -1,
            "rdb_saves": save["saves"], "rdb_last_cow_size": 0, "rdb_last_load_keys_expired": load["expired"],
            "rdb_last_load_keys_loaded": load["keys"], "aof_enabled": 0, "aof_rewrite_in_progress": 0,
            "aof_rewrite_scheduled": 0, "aof_last_rewrite_time_sec": -1, "aof_current_rewrite_time_sec": -1,
            "aof_last_bgrewrite_status": "ok", "aof_rewrites": 0, "aof_rewrites_consecutive_failures": 0,
            "aof_last_write_status": "ok", "aof_last_cow_size": 0, "module_fork_in_progress": 0,
            "module_fork_last_cow_size": 0})
        if load["running"]:
            fields.update({
                "loading_start_time": load["started"], "loading_total_bytes": load["total"],
                "loading_rdb_used_mem": 0, "loading_loaded_bytes": load["loaded"],
                "loading_loaded_perc": f"{load['percent']:.2f}", "loading_eta_seconds": load["eta"]})
        fields.update({
            # dfly's own
            "snapshot_last_bytes": save["bytes"], "snapshot_last_keys": save["entries"],
            "snapshot_last_msec": save["last_ms"], "snapshot_last_forced_visits": save["forced"],
            "snapshot_total_bytes": save["total_bytes"], "snapshot_total_keys": save["total_entries"],
            "snapshot_total_msec": save["total_ms"], "snapshot_total_forced_visits": save["total_forced"],
            "snapshot_writers_held_back": save["pressure"]})
        return fields

    def section_stats(self):
        stats = self.server.stats()
        fields = {
            "total_connections_received": stats["connections_received"],
            "total_commands_processed": stats["commands"],
            "instantaneous_ops_per_sec": int(self.rates["commands"]),
            "total_net_input_bytes": stats["net_input_bytes"], "total_net_output_bytes": stats["net_output_bytes"],
            "total_net_repl_input_bytes": 0, "total_net_repl_output_bytes": 0,
            "instantaneous_input_kbps": f"{self.rates['net_input_bytes'] / 1024:.2f}",
            "instantaneous_output_kbps": f"{self.rates['net_output_bytes'] / 1024:.2f}",
            "instantaneous_input_repl_kbps": "0.00", "instantaneous_output_repl_kbps": "0.00",
            "rejected_connections": stats["connections_rejected"], "sync_full": 0, "sync_partial_ok": 0,
            "sync_partial_err": 0, "expired_keys": stats["expired_keys"],
            "expired_subkeys": stats["expired_fields"], "expired_fields": stats["expired_fields"],
            "expired_stale_perc": f"{stats['expire_stale_percent']:.2f}",
            "expired_time_cap_reached_count": stats["expire_cap_reached"],
            "expire_cycle_cpu_milliseconds": stats["expire_cycle_ms"],
            "evicted_keys": stats["evicted_keys"], "evicted_clients": 0,
            "total_eviction_exceeded_time": stats["eviction_exceeded_ms"],
            "current_eviction_exceeded_time": stats["eviction_exceeding_ms"],
            "keyspace_hits": stats["hits"], "keyspace_misses": stats["misses"],
        }
        fields.update(dict.fromkeys((
            "latest_fork_usec", "total_forks",
            "migrate_cached_sockets", "slave_expires_tracked_keys", "active_defrag_hits", "active_defrag_misses",
            "active_defrag_key_hits", "active_defrag_key_misses", "total_active_defrag_time",
            "current_active_defrag_time", "unexpected_error_replies"), 0))
        fields.update({
            "tracking_total_keys": stats["tracking_keys"], "tracking_total_items": stats["tracking_items"],
            "tracking_total_prefixes": stats["tracking_prefixes"],
            "pubsub_channels": stats["pubsub_channels"], "pubsub_patterns": stats["pubsub_patterns"],
            "pubsubshard_channels": stats["pubsubshard_channels"],
            "total_error_replies": stats["errors"], "dump_payload_sanitizations": 0,
            "total_reads_processed": stats["completions"], "total_writes_processed": stats["batches"],
            "io_threaded_reads_processed": 0, "io_threaded_writes_processed": 0, "reply_buffer_shrinks": 0,
            "reply_buffer_expands": 0,
            # dfly's own
            "expire_lag_ms_max": stats["expire_lag_ms_max"], "oom_rejections": stats["oom_rejections"],
            "gil_acquisitions_data_plane": stats["gil_acquisitions"], "fiber_phases": stats["fiber_phases"],
            "fiber_switches": stats["fiber_switches"], "baton_waits": stats["baton_waits"],
            "foreign_commands_in_place": stats["foreign_in_place"],
            "foreign_commands_by_message": stats["foreign_messages"], "shard_tokens_borrowed": stats["borrowed"],
            "transactions_in_flight": stats["transactions_in_flight"], "token_waits": stats["token_waits"],
            "token_wait_usec": stats["token_wait_us"],
            "proactor_ticks": stats["ticks"], "proactor_sleeps": stats["sleeps"],
            "proactor_wakeups_sent": stats["wakeups_sent"],
            "connection_threads": stats["connection_threads"], "connections_moved": stats["connections_moved"],
            "receive_buffer_shortages": stats["receive_buffer_shortages"],
        })
        return fields

    def section_replication(self):
        return {
            "role": "master", "connected_slaves": 0, "master_failover_state": "no-failover",
            "master_replid": self.replication_id, "master_replid2": "0" * 40, "master_repl_offset": 0,
            "second_repl_offset": -1, "repl_backlog_active": 0, "repl_backlog_size": 1048576,
            "repl_backlog_first_byte_offset": 0, "repl_backlog_histlen": 0}

    def section_cpu(self):
        own, main = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_THREAD)
        return {
            "used_cpu_sys": f"{own.ru_stime:.6f}", "used_cpu_user": f"{own.ru_utime:.6f}",
            "used_cpu_sys_children": "0.000000", "used_cpu_user_children": "0.000000",
            "used_cpu_sys_main_thread": f"{main.ru_stime:.6f}", "used_cpu_user_main_thread": f"{main.ru_utime:.6f}"}

    def section_modules(self):
        return {}

    def section_commandstats(self):
        return {
            f"cmdstat_{name}": f"calls={calls},usec={int(usec)},usec_per_call={usec / calls if calls else 0:.2f},"
                               f"rejected_calls={rejected},failed_calls={failed}"
            for name, (calls, usec, rejected, failed) in self.server.command_stats().items()}

    def section_errorstats(self):
        errors = sorted(self.server.error_stats().items())
        return {f"errorstat_{code}": f"count={count}" for code, count in errors}

    def section_latencystats(self):
        return self.latency.percentiles()

    def section_cluster(self):
        return {"cluster_enabled": 0}

    def section_keyspace(self):
        ttls = self.server.average_ttls()
        return {f"db{index}": f"keys={keys},expires={expires},avg_ttl={ttls[index]}"
                for index, (keys, expires) in self.server.keyspace().items()}
