"""The admin endpoint: /healthz and /metrics over HTTP, on a thread of its own.

Metric names follow Dragonfly's, with the prefix dfly_. A scrape reads counters that the shard threads
publish; it takes no lock and stops nobody.
"""

import asyncio
import threading

from aiohttp import web

from dfly.info import resident_bytes
from dfly.version import __version__

COUNTERS = {
    "commands_processed_total": ("commands", "commands executed"),
    "connections_received_total": ("connections_received", "connections accepted"),
    "net_input_bytes_total": ("net_input_bytes", "bytes received"),
    "net_output_bytes_total": ("net_output_bytes", "bytes sent"),
    "keyspace_hits_total": ("hits", "lookups that found a key"),
    "keyspace_misses_total": ("misses", "lookups that found none"),
    "keyspace_mutations_total": ("mutations", "changes of keys"),
    "expired_keys_total": ("expired_keys", "keys whose time to live ended"),
    "evicted_keys_total": ("evicted_keys", "keys evicted for memory"),
    "error_replies_total": ("errors", "error replies"),
    "pipeline_dispatch_calls_total": ("batches", "batches of commands"),
    "foreign_commands_in_place_total": ("foreign_in_place", "commands for another shard, executed by borrowing it"),
    "foreign_commands_by_message_total": ("foreign_messages", "commands for another shard that travelled"),
    "proactor_wakeups_total": ("wakeups_sent", "wake-ups of sleeping threads"),
    "gil_acquisitions_total": ("gil_acquisitions", "acquisitions of the GIL on the data path"),
}
GAUGES = {
    "connected_clients": ("connected_clients", "clients connected now"),
    "memory_used_bytes": ("used_memory", "bytes allocated"),
    "memory_used_peak_bytes": ("peak_used_memory", "most bytes allocated so far"),
    "connection_memory_bytes": ("used_memory_net", "bytes of connection buffers"),
    "expire_lag_ms_max": ("expire_lag_ms_max", "longest time from due to expired since the last reset"),
}


SNAPSHOT_COUNTERS = {
    "snapshots_total": ("saves", "snapshots that were completed"),
    "snapshot_bytes_total": ("total_bytes", "bytes of snapshots written"),
    "snapshot_entries_total": ("total_entries", "keys written to snapshots"),
    "snapshot_hook_hits_total": ("total_forced", "visits of entries or buckets that a change has brought forward"),
    "snapshot_writers_held_back_total": ("pressure", "times that clients waited for the disk"),
}
SNAPSHOT_GAUGES = {
    "snapshot_running": ("running", "1 while one is taken"),
    "snapshot_failed": ("failed", "1 if the last one failed"),
    "snapshot_last_bytes": ("bytes", "size of the last one"),
    "snapshot_last_entries": ("entries", "keys in the last one"),
    "snapshot_last_time_seconds": ("last_save", "when it was completed"),
    "changes_since_last_snapshot": ("changes", "changes of keys since the last one"),
}


def render(process):
    """The metrics in Prometheus' text format."""
    stats = process.core.stats()
    lines = []

    def metric(name, kind, text, samples):
        lines.append(f"# HELP dfly_{name} {text}")
        lines.append(f"# TYPE dfly_{name} {kind}")
        lines.extend(f"dfly_{name}{labels} {value}" for labels, value in samples)

    metric("version", "gauge", "the version that runs", [(f'{{version="{__version__}"}}', 1)])
    metric("uptime_in_seconds", "counter", "seconds since start",
           [("", process.info.section_server()["uptime_in_seconds"])])
    metric("max_clients", "gauge", "connection limit", [("", process.settings["maxclients"])])
    metric("memory_max_bytes", "gauge", "maxmemory", [("", process.settings["maxmemory"])])
    metric("used_memory_rss_bytes", "gauge", "resident memory", [("", resident_bytes())])
    metric("oom_errors_total", "counter", "writes refused for memory", [('{type="cmd"}', stats["oom_rejections"])])
    for name, (field, text) in COUNTERS.items():
        metric(name, "counter", text, [("", stats[field])])
    for name, (field, text) in GAUGES.items():
        metric(name, "gauge", text, [("", stats[field])])
    snapshots = process.core.save_stats()
    for name, (field, text) in SNAPSHOT_COUNTERS.items():
        metric(name, "counter", text, [("", snapshots[field])])
    for name, (field, text) in SNAPSHOT_GAUGES.items():
        metric(name, "gauge", text, [("", int(snapshots[field]))])
    metric("snapshot_duration_seconds_total", "counter", "time spent taking snapshots",
           [("", snapshots["total_ms"] / 1000)])
    keyspace = process.core.keyspace()
    metric("db_keys", "gauge", "keys", [(f'{{db="db{d}"}}', keys) for d, (keys, _) in keyspace.items()])
    metric("db_keys_expiring", "gauge", "keys with a time to live",
           [(f'{{db="db{d}"}}', expiring) for d, (_, expiring) in keyspace.items()])
    called = process.core.command_stats()
    metric("commands_total", "counter", "calls of each command",
           [(f'{{cmd="{name}"}}', calls) for name, (calls, _, _, _) in called.items()])
    metric("commands_duration_seconds", "counter", "time spent in each command",
           [(f'{{cmd="{name}"}}', f"{usec / 1e6:.6f}") for name, (_, usec, _, _) in called.items()])
    return "\n".join(lines) + "\n"


class AdminEndpoint:
    """An aiohttp server on its own thread and event loop."""

    def __init__(self, process):
        self.process = process
        self.loop = asyncio.new_event_loop()
        self.started = threading.Event()
        self.error = None
        self.runner = None
        self.thread = threading.Thread(target=self._run, name="admin", daemon=True)

    def start(self):
        """Starts listening; OSError if the address cannot be used."""
        self.thread.start()
        self.started.wait()
        if self.error is not None:
            raise self.error

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._open())
        except OSError as error:
            self.error = error
            self.started.set()
            return
        self.started.set()
        self.loop.run_forever()
        self.loop.run_until_complete(self.runner.cleanup())

    async def _open(self):
        app = web.Application()
        app.add_routes([web.get("/healthz", self.healthz), web.get("/metrics", self.metrics)])
        self.runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self.runner.setup()
        settings = self.process.settings
        await web.TCPSite(self.runner, settings["admin_bind"], settings["admin_port"]).start()

    async def healthz(self, request):
        return web.Response(text="OK\n") if self.process.stopping is None else web.Response(status=503)

    async def metrics(self, request):
        return web.Response(text=render(self.process), content_type="text/plain")
