#!/usr/bin/env python3
"""The other figures of dfly against their bars: memory, idle connections, expiry, growth, scale, GIL.

    memory   resident bytes per entry from 1.0 to 2.0 M keys, in five shapes
    idle     10,000 idle connections: resident bytes and CPU
    expiry   a million keys due within 60 s: how late they disappear
    growth   10 M pipelined inserts: the longest stall of any reply
    scale    GET at pipeline 32 with 10 M keys against 100 k keys
    gil      GIL acquisitions of the data plane over a million GETs

Peers are measured in the same run wherever a figure exists for them. Results: bench/results/figures.json;
--publish writes the table into docs/benchmarks.md.
"""

import argparse
import contextlib
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import generators, lag, process, report, servers, stall, wire

MEGABYTE = 1024 * 1024


class Results:
    """Rows of the table: a figure, its bar for dfly, and what each server showed."""

    def __init__(self):
        self.rows = []
        self.details = {}

    def add(self, figure, unit, bar, values, digits=1):
        """values: server -> number or None; dfly passes when it is at most the bar."""
        mine = values.get("dfly")
        verdict = ""
        if bar is not None and "dfly" in values:
            verdict = "PASS" if mine is not None and mine <= bar else "FAIL"
        self.rows.append({"figure": figure, "unit": unit, "bar": bar, "values": values, "digits": digits,
                          "verdict": verdict})
        shown = ", ".join(f"{name} {_number(value, digits)}" for name, value in values.items())
        print(f"  {figure} [{unit}]: {shown} {verdict}", flush=True)

    def table(self, names):
        headers = ("figure", "bar", *names, "")
        rows = [(f"{row['figure']} [{row['unit']}]", "-" if row["bar"] is None else f"{row['bar']:g}",
                 *(_number(row["values"].get(name), row["digits"]) for name in names), row["verdict"])
                for row in self.rows]
        return headers, rows


def _number(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def cores_for(threads):
    cores = process.available_cores()
    return cores[:threads], cores[threads:threads + 1] or cores[-1:]


# Shapes of entries: name, value, with a TTL, bar of the mean, bar of every point.
SHAPES = (
    ("16-byte key and value", wire.text_value(16), False, 50, 64),
    ("64-byte value", wire.text_value(64), False, 110, None),
    ("integer value", wire.integer_value, False, 50, None),
    ("16-byte value, TTL", wire.text_value(16), True, None, None),
    ("16-byte binary value", wire.binary_value(16), False, None, None),
)


def measure_memory(names, options, results):
    """RSS growth per entry, on a fresh server for each shape."""
    unit = 100_000 if options.quick else 1_000_000
    points = [round(unit * factor / 10) for factor in (10, 12, 14, 16, 18, 20)]
    means = {}
    for shape, value, with_ttl, mean_bar, point_bar in SHAPES:
        growth = {}
        for name in names:
            with servers.Server(name, options, options.memory_threads) as server:
                growth[name] = growth_by_keys(server, points, value, with_ttl)
        results.details[f"memory: {shape}"] = {"keys": points, "bytes_per_entry": growth}
        means[shape] = {name: statistics.mean(values) for name, values in growth.items()}
        span = f"{points[0]:,} to {points[-1]:,} keys"
        results.add(f"{shape}: mean of {span}", "B/entry", mean_bar, means[shape])
        if point_bar:
            results.add(f"{shape}: largest", "B/entry", point_bar,
                        {name: max(values) for name, values in growth.items()})
        results.add(f"{shape}: at {points[0]:,} keys", "B/entry", None,
                    {name: values[0] for name, values in growth.items()})
    plain, timed = means["16-byte key and value"], means["16-byte value, TTL"]
    results.add("TTL on every key: more than without", "B/entry", 8,
                {name: timed[name] - plain[name] for name in plain})


def growth_by_keys(server, points, value, with_ttl):
    due = int((time.time() + 1_000_000) * 1000)
    with server.connect() as connection:
        connection.command("PING")
    base = server.settled_rss_bytes()
    loaded = 0
    growth = []
    for keys in points:
        wire.load_keys(server.port, loaded, keys, value,
                       expire_at_ms=(lambda index: due + index) if with_ttl else None)
        loaded = keys
        growth.append((server.settled_rss_bytes() - base) / keys)
    return growth


def measure_idle(names, options, results):
    """Idle connections, each of which has had one PING answered."""
    count = 1000 if options.quick else 10_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < count + 100:
        raise SystemExit(f"idle: {count} connections need more than {hard} open files")
    seconds = 3 if options.quick else 10
    memory, processor = {}, {}
    for name in names:
        with servers.Server(name, options, options.memory_threads, max_clients=count + 100) as server, \
                contextlib.ExitStack() as stack:
            stack.enter_context(server.connect()).command("PING")
            base = server.settled_rss_bytes()
            for _ in range(count):
                stack.enter_context(server.connect()).command("PING")
            memory[name] = (server.settled_rss_bytes() - base) / MEGABYTE
            time.sleep(1)
            cpu, began = server.cpu_seconds(), time.monotonic()
            time.sleep(seconds)
            processor[name] = (server.cpu_seconds() - cpu) / (time.monotonic() - began) * 100
    results.add(f"{count:,} idle connections: RSS growth", "MB", 30, memory)
    results.add(f"{count:,} idle connections: CPU", "% of a core", 0.5, processor, 2)


def measure_expiry(names, options, results):
    count, span = (100_000, 6) if options.quick else (1_000_000, 60)
    server_cores, own_cores = cores_for(1)
    measured = {}
    for name in names:
        with process.favoured(), servers.Server(name, options, 1, server_cores) as server, \
                process.pinned(own_cores):
            measured[name] = lag.measure(server, count, span)
    results.details["expiry"] = measured
    what = f"{count:,} keys due within {span} s"
    results.add(f"{what}: lag until gone (DBSIZE), p99", "ms", 100, _field(measured, "count_p99_ms"))
    results.add(f"{what}: lag until gone (DBSIZE), longest", "ms", None, _field(measured, "count_max_ms"))
    results.add(f"{what}: lag of the expired event, p99", "ms", 100, _field(measured, "event_p99_ms"))
    results.add(f"{what}: expired events missing", "keys", 0,
                {name: count - values["events"] for name, values in measured.items()}, 0)
    results.add(f"{what}: server CPU", "µs/key", None, _field(measured, "cpu_us_per_key"), 2)


def _field(measured, field):
    return {name: values[field] for name, values in measured.items()}


def measure_growth(names, options, results):
    """Delays of single replies, so the machine's own hiccups are measured beside them."""
    count = 1_000_000 if options.quick else 10_000_000
    rounds = 2 if options.quick else 3
    server_cores, own_cores = cores_for(1)
    measured = {name: [] for name in names}
    hiccups = []
    for _ in range(rounds):
        with process.favoured():
            hiccups.append(stall.empty_loop_hiccup_ms(server_cores[0]))
        for name in names:
            with process.favoured(), servers.Server(name, options, 1, server_cores) as server, \
                    process.pinned(own_cores):
                measured[name].append(stall.insert_and_watch(server, count))
    results.details["growth"] = {"runs": measured, "empty_loop_hiccups_ms": hiccups}
    what = f"{count:,} pipelined inserts"
    results.add(f"{what}: longest stall of any reply, least of {rounds} rounds", "ms", 5, {
        name: min(run["worst_ms"] for run in runs) for name, runs in measured.items()}, 2)
    results.add(f"{what}: longest stall that comes at the same size in all rounds", "ms", 5, {
        name: stall.recurring_ms(runs) for name, runs in measured.items()}, 2)
    others = {"worst_ms": "longest stall of any reply", "probe_p99_ms": "p99 of a probe beside them",
              "run_queue_wait_ms": "server waited for its core, in all"}
    for field, title in others.items():
        results.add(f"{what}: {title}, median", "ms", None, {
            name: statistics.median(run[field] for run in runs) for name, runs in measured.items()}, 2)
    results.add(f"an empty loop of 3 s on the same core: its longest gap, median of {rounds}", "ms", None,
                dict.fromkeys(names, statistics.median(hiccups)), 2)


def measure_scale(names, options, results):
    """CPU of a GET with many keys over that with few; runs of all servers and sizes alternate."""
    small, large = (10_000, 1_000_000) if options.quick else (100_000, 10_000_000)
    requests = 400_000 if options.quick else 2_000_000
    generator = generators.find(options.generator)
    server_cores, own_cores = cores_for(1)
    costs = {(name, size): [] for name in names for size in (small, large)}
    with contextlib.ExitStack() as stack:
        running = {key: stack.enter_context(servers.Server(key[0], options, 1, server_cores))
                   for key in costs}
        stack.enter_context(process.pinned(own_cores))
        first = generator.first_key
        for (_, size), server in running.items():
            wire.load_keys(server.port, first, first + size, wire.text_value(64), generator.key_format)
        for _ in range(2 if options.quick else 5):
            for key, server in running.items():
                cpu = server.cpu_seconds()
                generator.run(server.port, "GET", 32, requests, key[1], 64, own_cores)
                costs[key].append((server.cpu_seconds() - cpu) / requests * 1e6)
    for size in (small, large):
        results.add(f"GET, pipeline 32, {size:,} keys: server CPU", "µs/op", None,
                    {name: statistics.median(costs[name, size]) for name in names}, 2)
    results.add(f"GET, pipeline 32: {large:,} keys to {small:,} keys", "ratio", 1.5, {
        name: statistics.median(many / few for many, few in zip(costs[name, large], costs[name, small]))
        for name in names}, 2)


def measure_gil(names, options, results):
    """dfly only: its own counter must stand still over a million GETs; absent, it fails."""
    if "dfly" not in names:
        return
    requests = 100_000 if options.quick else 1_000_000
    generator = generators.find(options.generator)
    field = "gil_acquisitions_data_plane"
    for threads in (1, 2):
        with servers.Server("dfly", options, threads) as server, server.connect() as connection:
            first = generator.first_key
            wire.load_keys(server.port, first, first + 100_000, wire.text_value(64), generator.key_format)
            before = connection.info().get(field)
            generator.run(server.port, "GET", 32, requests, 100_000, 64, process.available_cores())
            after = connection.info().get(field)
        missing = before is None or after is None
        if missing:
            print(f"  INFO has no field {field}", flush=True)
        results.add(f"GIL acquisitions over {requests:,} GETs, {threads} shard threads", "count", 0,
                    {"dfly": None if missing else int(after) - int(before)}, 0)


FIGURES = {"memory": measure_memory, "idle": measure_idle, "expiry": measure_expiry, "growth": measure_growth,
           "scale": measure_scale, "gil": measure_gil}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    servers.add_arguments(parser)
    parser.add_argument("figures", nargs="*", metavar="figure", help=f"{', '.join(FIGURES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the keys and short runs")
    parser.add_argument("--memory-threads", type=int, default=2,
                        help="dfly's shard threads for memory and idle (2)")
    parser.add_argument("--generator", choices=("redis-benchmark", "memtier_benchmark"))
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is missed")
    options = parser.parse_args()
    for figure in options.figures:
        if figure not in FIGURES:
            parser.error(f"no such figure: {figure} (there are {', '.join(FIGURES)})")
    return options


def main():
    options = parse_arguments()
    names = servers.chosen(options)
    place = report.environment()
    results = Results()
    began = time.monotonic()
    for figure in options.figures or FIGURES:
        print(f"{figure}:", flush=True)
        FIGURES[figure](names, options, results)
    headers, rows = results.table(names)
    note = report.environment_line(place) + ("; --quick" if options.quick else "")
    print(f"\n{note}\n\n{report.text_table(headers, rows)}\n\n{time.monotonic() - began:.0f} s")
    report.write_json("figures", {"environment": place, "quick": options.quick, "rows": results.rows,
                                  "details": results.details})
    if options.publish:
        report.publish_document("figures", f"## Memory, connections, expiry, growth\n\n{note}\n\n"
                                + report.markdown_table(headers, rows))
    return 1 if options.strict and any(row["verdict"] == "FAIL" for row in results.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
