#!/usr/bin/env python3
"""Python allocations of the server must not grow under load: checked with memray.

dfly runs under `memray run --trace-python-allocators`, is warmed up, rests, and then serves a load of GETs
and SETs. The record holds every allocation with the time at which it was made, so two figures follow: how
many Python allocations the load made per operation (a server that makes one object per request shows at
least one), and by how much the live Python heap grew over the load. The rest before the load tells what the
server's own housekeeping in Python allocates.

The build must use the system's allocator or mimalloc; only Python's own allocators are counted, so the data
plane's memory is not in the figures. With --command a server other than dfly is checked.
"""

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import generators, process, report, servers

MEMRAY = (sys.executable, "-m", "memray", "run", "--trace-python-allocators", "--quiet", "--force", "-o")
ALLOCATIONS_PER_THOUSAND_OPERATIONS = 1.0
GROWTH_BYTES = 64 * 1024


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser, default="dfly")
    parser.add_argument("--quick", action="store_true", help="a tenth of the load")
    parser.add_argument("--threads", type=int, default=2, help="shard threads (2)")
    parser.add_argument("--command", help="Python arguments of another server to check; {port} is its port")
    return parser.parse_args()


def record(options, path, requests):
    """Run the server under memray and the load; the times (Unix, ms) of rest and load."""
    prefix = (*MEMRAY, str(path))
    command = shlex.split(options.command) if options.command else None
    generator = generators.find("redis-benchmark")
    with servers.Server("dfly", options, options.threads, prefix=prefix, command=command) as server:
        def load(count):
            for test in ("SET", "GET"):
                generator.run(server.port, test, 32, count, 100_000, 64, process.available_cores())

        load(max(requests // 20, 3200))
        time.sleep(1)
        rest_from = time.time()
        time.sleep(3)
        load_from = time.time()
        load(requests)
        load_to = time.time()
        time.sleep(1)
        end = time.time()
        server.check_alive()
    return {"rest": (rest_from * 1000, load_from * 1000), "load": (load_from * 1000, load_to * 1000),
            "end": end * 1000}


def python_allocations(path, windows):
    """Allocations per window, and the live bytes at its start and end, of Python's allocators."""
    from memray import AllocatorType, FileReader

    python = {AllocatorType.PYMALLOC_MALLOC, AllocatorType.PYMALLOC_CALLOC, AllocatorType.PYMALLOC_REALLOC}
    with FileReader(path) as reader:
        times = [snapshot.time for snapshot in reader.get_memory_snapshots()]
        bounds = {name: [sum(stamp < moment for stamp in times) for moment in window]
                  for name, window in windows.items()}
        found = {name: {"allocations": 0, "live_before": 0, "live_after": 0, "sites": {}} for name in bounds}
        for allocation in reader.get_temporal_allocation_records(merge_threads=True):
            if allocation.allocator not in python:
                continue
            for interval in allocation.intervals:
                born = interval.allocated_before_snapshot
                died = interval.deallocated_before_snapshot
                for name, (first, last) in bounds.items():
                    window = found[name]
                    if first < born <= last:
                        window["allocations"] += interval.n_allocations
                        stack = allocation.stack_trace(1)
                        site = f"{stack[0][1]}:{stack[0][2]} {stack[0][0]}" if stack else "(no Python frame)"
                        window["sites"][site] = window["sites"].get(site, 0) + interval.n_allocations
                    if born <= first and (died is None or died > first):
                        window["live_before"] += interval.n_bytes
                    if born <= last and (died is None or died > last):
                        window["live_after"] += interval.n_bytes
    return found


def main():
    options = parse_arguments()
    requests = 100_000 if options.quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="bench-memray-") as folder:
        path = Path(folder) / "allocations.bin"
        times = record(options, path, requests)
        end = times.pop("end")
        found = python_allocations(path, {**times, "load and after": (times["load"][0], end)})
    operations = 2 * requests
    per_thousand = found["load"]["allocations"] / operations * 1000
    growth = found["load and after"]["live_after"] - found["load"]["live_before"]
    seconds = {name: (window[1] - window[0]) / 1000 for name, window in times.items()}
    print(f"at rest: {found['rest']['allocations'] / seconds['rest']:.0f} Python allocations per second")
    print(f"load of {operations:,} operations in {seconds['load']:.1f} s: {found['load']['allocations']:,} "
          f"Python allocations, {per_thousand:.3f} per thousand operations "
          f"(bar {ALLOCATIONS_PER_THOUSAND_OPERATIONS:g})")
    print(f"live Python heap: {found['load']['live_before']:,} bytes before, growth {growth:,} bytes "
          f"(bar {GROWTH_BYTES:,})")
    for site, count in sorted(found["load"]["sites"].items(), key=lambda item: -item[1])[:5]:
        print(f"  {count:>8,}  {site}")
    passed = per_thousand <= ALLOCATIONS_PER_THOUSAND_OPERATIONS and growth <= GROWTH_BYTES
    report.write_json("memray", {"environment": report.environment(), "operations": operations,
                                 "found": found, "growth_bytes": growth, "per_thousand": per_thousand,
                                 "passed": passed})
    print("PASS" if passed else "FAIL")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
