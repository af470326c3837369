#!/usr/bin/env python3
"""What a snapshot costs those who write meanwhile: `make bench-snapshot`.

Each server holds the same keys. 20 clients overwrite random ones at full speed (redis-benchmark, no pipeline), a
probe sends a SET every millisecond (the kernel's clock says when its reply came). First without a snapshot, then
during one: write throughput, the probe's p99 and longest time, peak memory (PSS of the server and its children).
Then, without clients, the CPU time of a save: of Redis' child, of the whole process where there is none. Runs of the
servers alternate. Results: bench/results/snapshot.json; --publish writes the table into docs/benchmarks.md.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import report, servers, wire
from bench.harness.stall import Channel

VALUE_SIZE = 200
WRITERS = 20
PROBE_S = 0.001
MEMORY_S = 0.1
SAVE_LIMIT_S = 300
MEGABYTE = 1 << 20
PROBE = b"*3\r\n$3\r\nSET\r\n$5\r\nprobe\r\n$5\r\nvalue\r\n"


def tree(pid):
    """The process and its children."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(word) for word in file.read().split()]
    return found


def pss(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def memory(pid):
    """PSS of the tree. Alone, a process' resident size is nearly that, and reading it stops nobody."""
    pids = tree(pid)
    if len(pids) == 1:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return sum(map(pss, pids))


class Watcher(threading.Thread):
    """The probe and the memory, while it runs."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.times = []              # (when sent, ms it took)
        self.sizes = []
        self.ending = threading.Event()

    def run(self):
        sampler = threading.Thread(target=self.sample, daemon=True)
        sampler.start()
        channel = Channel(self.server.port, True)
        while not self.ending.is_set():
            began = time.monotonic()
            channel.send(PROBE, b"+OK\r\n")
            took = None
            while took is None:
                took = channel.receive()
            self.times.append((began, took / 1e6))
            time.sleep(max(0, PROBE_S - (time.monotonic() - began)))
        sampler.join()

    def sample(self):
        while not self.ending.is_set():
            self.sizes.append((time.monotonic(), memory(self.server.pid)))
            time.sleep(MEMORY_S)

    def between(self, begin, end):
        return (sorted(took for when, took in self.times if begin <= when < end),
                [size for when, size in self.sizes if begin <= when < end])


def commands(client):
    return int(client.info("stats")["total_commands_processed"])


def is_saving(client):
    fields = client.info("persistence")
    return fields.get("rdb_bgsave_in_progress", fields.get("saving")) == "1"


def wait_for_save(client):
    deadline = time.monotonic() + SAVE_LIMIT_S
    while is_saving(client):
        if time.monotonic() > deadline:
            raise SystemExit("the save does not end")
        time.sleep(0.05)


def percentile(values, part):
    return values[min(len(values) - 1, int(len(values) * part))]


def start_writers(server, keys):
    line = ["redis-benchmark", "-p", str(server.port), "-t", "set", "-r", str(keys), "-d", str(VALUE_SIZE), "-c",
            str(WRITERS), "-n", "2000000000", "-q"]
    return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def under_load(server, keys, seconds):
    with server.connect(timeout=120.0) as client:
        writers = start_writers(server, keys)
        watcher = Watcher(server)
        watcher.start()
        time.sleep(1)
        begin, first = time.monotonic(), commands(client)
        time.sleep(seconds)
        middle, second = time.monotonic(), commands(client)
        client.command("BGSAVE")
        wait_for_save(client)
        end, third = time.monotonic(), commands(client)
        watcher.ending.set()
        watcher.join()
        writers.kill()
        writers.wait()
    before, sizes_before = watcher.between(begin, middle)
    during, sizes = watcher.between(middle, end)
    base = statistics.median(sizes_before)
    peak = max([*sizes, base])
    return {
        "extra_mb": (peak - base) / MEGABYTE, "extra_percent": 100 * (peak - base) / base, "base_mb": base / MEGABYTE,
        "throughput": 100 * ((third - second) / (end - middle)) / ((second - first) / (middle - begin)),
        "writes_before": (second - first) / (middle - begin), "save_s": end - middle,
        "p99": percentile(during, 0.99) / percentile(before, 0.99), "p99_ms": percentile(during, 0.99),
        "p99_before_ms": percentile(before, 0.99), "longest_ms": during[-1], "longest_before_ms": before[-1]}


def cpu_of_save(server, keys):
    """CPU seconds of a save without clients, per GB of values."""
    with server.connect(timeout=120.0) as client:
        forks = server.name in ("redis", "valkey")
        time.sleep(1)
        before = child_seconds(client) if forks else server.cpu_seconds()
        began = time.monotonic()
        client.command("BGSAVE")
        wait_for_save(client)
        wall = time.monotonic() - began
        time.sleep(0.3)
        after = child_seconds(client) if forks else server.cpu_seconds()
    gigabytes = keys * VALUE_SIZE / 1e9
    path = max(Path(server.folder).glob("*.rdb"), key=lambda each: each.stat().st_mtime, default=None)
    return {"cpu_s_per_gb": (after - before) / gigabytes, "idle_save_s": wall,
            "file_mb": path.stat().st_size / MEGABYTE if path else 0}


def child_seconds(client):
    fields = client.info("cpu")
    return float(fields["used_cpu_sys_children"]) + float(fields["used_cpu_user_children"])


HEADERS = ("during the save", "server", "median", "bar", "")
BARS = (("extra_percent", "peak extra memory, % (bar: 3 % + 32 MB)", None),
        ("throughput", "write throughput, % of before", 85), ("p99", "p99 of the probe, times before", 1.3),
        ("longest_ms", "longest stall of the probe, ms", 12), ("save_s", "seconds it took", None),
        ("cpu_s_per_gb", "CPU seconds per GB, without clients", None),
        ("idle_save_s", "seconds, without clients", None))


def verdict(name, value, values, results):
    if name == "extra_percent":
        allowed = statistics.median(0.03 * each["base_mb"] + 32 for each in values)
        return "PASS" if statistics.median(each["extra_mb"] for each in values) <= allowed else "FAIL"
    if name == "throughput":
        return "PASS" if value >= 85 else "FAIL"
    if name in ("p99", "longest_ms"):
        return "PASS" if value <= dict((key, bar) for key, _, bar in BARS)[name] else "FAIL"
    if name == "cpu_s_per_gb" and "redis" in results:
        ratio = value / statistics.median(each[name] for each in results["redis"])
        return f"{ratio:.2f} of Redis' child: {'PASS' if ratio <= 0.8 else 'FAIL'}"
    return ""


def table_rows(results):
    rows = []
    for name, title, bar in BARS:
        for server, values in results.items():
            value = statistics.median(each[name] for each in values)
            rows.append((title, server, f"{value:.2f}", bar if server == "dfly" and bar else "",
                         verdict(name, value, values, results) if server == "dfly" else ""))
    return rows


def measure(name, options):
    with servers.Server(name, options, options.threads) as server:
        with server.connect(timeout=120.0) as client:
            client.command("CONFIG", "SET", "save", "")
        wire.load_keys(server.port, 0, options.keys, wire.text_value(VALUE_SIZE))
        time.sleep(1)
        found = under_load(server, options.keys, options.seconds)
        found.update(cpu_of_save(server, options.keys))
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser)
    parser.add_argument("--keys", type=int, default=2_000_000)
    parser.add_argument("--threads", type=int, default=2, help="shard threads of dfly and Dragonfly")
    parser.add_argument("--seconds", type=float, default=6, help="how long it is measured without a save")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="200,000 keys, one round")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    if options.quick:
        options.keys, options.rounds, options.seconds = 200_000, 1, 3
    if not shutil.which("redis-benchmark"):
        raise SystemExit("redis-benchmark is not installed")
    results = {}
    for number in range(options.rounds):
        for name in servers.chosen(options):
            results.setdefault(name, []).append(measure(name, options))
            shown = ", ".join(f"{key} {value:.2f}" for key, value in results[name][-1].items())
            print(f"round {number + 1}/{options.rounds}, {name}: {shown}", flush=True)
    rows = table_rows(results)
    print("\n" + report.text_table(HEADERS, rows))
    report.write_json("snapshot", {"environment": report.environment(), "keys": options.keys, "runs": results})
    if options.publish:
        report.publish_document("snapshot", "## Snapshots\n\n" + report.markdown_table(HEADERS, rows))


if __name__ == "__main__":
    main()
