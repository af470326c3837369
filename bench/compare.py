#!/usr/bin/env python3
"""Compare dfly with Redis, Valkey and, if its path is given, Dragonfly: `make bench`.

50 clients read and write random keys out of a million loaded ones with values of 64 bytes, with a
pipeline of 32 and without one. The figure that counts is the server's CPU time per operation (user and
system, all threads), since on a small machine the load generator limits the throughput. Runs of the
servers alternate (A B C A B C ...), a ratio is taken within each round, and the table shows the median of
the rounds with its range, so drift of the machine cancels out.

Results: bench/results/compare.json and compare.png; --publish writes the tables into docs/benchmarks.md
and README.md.
"""

import argparse
import contextlib
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import generators, process, report, servers, wire

VALUE_SIZE = 64
TESTS = ("GET", "SET")


@dataclass(frozen=True)
class Case:
    """A load and the highest ratio of CPU per operation it may show to each peer."""

    threads: int
    pipeline: int
    bars: tuple

    @property
    def name(self):
        pipeline = f"pipeline {self.pipeline}" if self.pipeline > 1 else "no pipeline"
        return f"{self.threads} shard thread{'s' if self.threads > 1 else ''}, {pipeline}"


CASES = (
    Case(1, 32, (("redis", 0.38), ("valkey", 0.65))),
    Case(1, 1, (("redis", 0.92), ("valkey", 0.95))),
    Case(2, 32, (("redis", 0.55), ("valkey", 0.90))),
    Case(2, 1, (("redis", 1.00), ("valkey", 1.00))),
)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="short runs: a rough picture in two minutes")
    parser.add_argument("--rounds", type=int, help="rounds over all servers (5; with --quick 3)")
    parser.add_argument("--threads", default="1,2", help="dfly's shard threads to measure (1,2)")
    parser.add_argument("--pipelines", default="32,1", help="pipelines to measure (32,1)")
    parser.add_argument("--tests", default="GET,SET")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--generator", choices=("redis-benchmark", "memtier_benchmark"))
    parser.add_argument("--server-cores", help="pin the servers here, e.g. 0 or 0,1")
    parser.add_argument("--generator-cores", help="pin the load generator here")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md and README.md")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is missed")
    return parser.parse_args()


def choose_cores(threads, options):
    """(server cores, generator cores, a sentence on it). Apart wherever the machine has the cores."""
    cores = process.available_cores()
    if options.server_cores and options.generator_cores:
        server = [int(core) for core in options.server_cores.split(",")]
        generator = [int(core) for core in options.generator_cores.split(",")]
    elif len(cores) > threads:
        server, generator = cores[:threads], cores[threads:threads + 1]
    else:
        server, generator = cores[:threads], cores[-1:]
    shared = sorted(set(server) & set(generator))
    sentence = f"all servers on core {_numbers(server)}, the generator on core {_numbers(generator)}"
    if shared:
        sentence += f" (core {_numbers(shared)} is shared: no core is left for the generator alone)"
    return server, generator, sentence


def _numbers(cores):
    return ",".join(str(core) for core in cores)


def measure(server, test, case, requests, generator, keys, cores):
    server.check_alive()
    cpu = server.cpu_seconds()
    load = generator.run(server.port, test, case.pipeline, requests, keys, VALUE_SIZE, cores)
    cpu = server.cpu_seconds() - cpu
    return {
        "cpu_us": cpu / requests * 1e6,
        "generator_cpu_us": load.generator_cpu_seconds / requests * 1e6,
        "throughput": load.throughput,
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "p999_ms": load.p999_ms,
    }


def run_group(threads, cases, names, options, generator):
    """All cases with this number of shard threads; returns (runs by case and test, pinning, versions)."""
    server_cores, generator_cores, sentence = choose_cores(threads, options)
    print(f"\n{threads} shard thread{'s' if threads > 1 else ''}: {sentence}", flush=True)
    rounds = options.rounds or (3 if options.quick else 5)
    runs = {}
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.Server(name, options, threads, server_cores))
                   for name in names]
        stack.enter_context(process.pinned(generator_cores))
        for server in running:
            preload(server, options.keys, generator)
        for case in cases:
            requests = (2_000_000 if case.pipeline > 1 else 200_000) // (5 if options.quick else 1)
            for test in options.tests.upper().split(","):
                runs[case, test] = run_rounds(running, test, case, requests, rounds, generator, options.keys,
                                              generator_cores)
        versions = {server.name: server.version for server in running}
    return runs, sentence, versions


def preload(server, keys, generator):
    first = generator.first_key
    wire.load_keys(server.port, first, first + keys, wire.text_value(VALUE_SIZE), generator.key_format)
    with server.connect() as connection:
        size = connection.command("DBSIZE")
    if size != keys:
        raise SystemExit(f"{server.name}: {size} keys after loading {keys}")


def run_rounds(running, test, case, requests, rounds, generator, keys, cores):
    results = {server.name: [] for server in running}
    for server in running:
        measure(server, test, case, requests // 10, generator, keys, cores)
    for number in range(rounds):
        for server in running:
            results[server.name].append(measure(server, test, case, requests, generator, keys, cores))
        shown = ", ".join(f"{name} {values[-1]['cpu_us']:.2f}" for name, values in results.items())
        print(f"  {case.name}, {test}, round {number + 1}/{rounds}: CPU us/op {shown}", flush=True)
    return results


def median_of(results, field):
    return statistics.median(run[field] for run in results)


def ratio_of(results, name, peer):
    """(median, lowest, highest) over the rounds of CPU per operation relative to a peer."""
    if name not in results or peer not in results:
        return None
    ratios = [mine["cpu_us"] / other["cpu_us"] for mine, other in zip(results[name], results[peer])]
    return statistics.median(ratios), min(ratios), max(ratios)


def verdict_of(results, case):
    """PASS or FAIL against the bars, and None when dfly or all the peers are not in the run."""
    checks = [(ratio_of(results, "dfly", peer), bar) for peer, bar in case.bars]
    checks = [(ratio, bar) for ratio, bar in checks if ratio]
    if not checks:
        return None
    return "PASS" if all(ratio[0] <= bar for ratio, bar in checks) else "FAIL"


HEADERS = ("case", "server", "CPU µs/op", "to Redis", "to Valkey", "ops/s", "p50 ms", "p99 ms", "p99.9 ms",
           "bars (Redis, Valkey)", "")


def table_rows(runs):
    rows = []
    for (case, test), results in runs.items():
        for name, values in results.items():
            rows.append((
                f"{case.name}, {test}", name, f"{median_of(values, 'cpu_us'):.2f}",
                _ratio_text(ratio_of(results, name, "redis")) if name != "redis" else "",
                _ratio_text(ratio_of(results, name, "valkey")) if name != "valkey" else "",
                f"{median_of(values, 'throughput'):,.0f}", f"{median_of(values, 'p50_ms'):.2f}",
                f"{median_of(values, 'p99_ms'):.2f}", f"{median_of(values, 'p999_ms'):.2f}",
                ", ".join(f"{bar:.2f}" for _, bar in case.bars) if name == "dfly" else "",
                (verdict_of(results, case) or "") if name == "dfly" else "",
            ))
    return rows


def _ratio_text(ratio):
    return f"{ratio[0]:.2f} [{ratio[1]:.2f}-{ratio[2]:.2f}]" if ratio else "-"


README_HEADERS = ("50 clients, 1 M keys, 64-byte values: server CPU µs per operation", "dfly", "Redis",
                  "Valkey", "to Redis", "to Valkey")


def readme_rows(runs):
    rows = []
    for (case, test), results in runs.items():
        cells = [f"{median_of(results[name], 'cpu_us'):.2f}" if name in results else "-"
                 for name in ("dfly", "redis", "valkey")]
        ratios = [ratio_of(results, "dfly", peer) for peer in ("redis", "valkey")]
        shown = [f"{ratio[0]:.2f}" if ratio else "-" for ratio in ratios]
        rows.append((f"{case.name}, {test}", *cells, *shown))
    return rows


COLOURS = {"dfly": "#1b7837", "redis": "#c0392b", "valkey": "#4477aa", "dragonfly": "#ddaa33"}


def plot(runs, path):
    """CPU per operation and throughput of every case, the rounds' range as error bars."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pipelines = sorted({case.pipeline for case, _ in runs}, reverse=True)
    figure, axes = pyplot.subplots(2, len(pipelines), figsize=(7 * len(pipelines), 8), squeeze=False)
    for column, pipeline in enumerate(pipelines):
        shown = [(key, results) for key, results in runs.items() if key[0].pipeline == pipeline]
        suffix = f"pipeline {pipeline}" if pipeline > 1 else "no pipeline"
        draw_bars(axes[0][column], shown, "cpu_us", f"server CPU µs per operation, {suffix}")
        draw_bars(axes[1][column], shown, "throughput", f"operations per second, {suffix}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_bars(axis, shown, field, title):
    names = list(shown[0][1])
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        values = [[run[field] for run in results[name]] for _, results in shown]
        middle = [statistics.median(value) for value in values]
        errors = [[height - min(value) for height, value in zip(middle, values)],
                  [max(value) - height for height, value in zip(middle, values)]]
        offset = (place - (len(names) - 1) / 2) * width
        axis.bar([x + offset for x in range(len(shown))], middle, width, yerr=errors, capsize=2, label=name,
                 color=COLOURS[name])
    labels = [f"{test}\n{case.threads} thread{'s' if case.threads > 1 else ''}" for (case, test), _ in shown]
    axis.set_xticks(range(len(shown)), labels)
    axis.set_title(title, fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.legend(fontsize=8)


def plain_runs(runs):
    """The runs as JSON can hold them."""
    return [{"threads": case.threads, "pipeline": case.pipeline, "test": test, "bars": dict(case.bars),
             "verdict": verdict_of(results, case), "runs": results,
             "ratios": {peer: ratio_of(results, "dfly", peer) for peer in results if peer != "dfly"}}
            for (case, test), results in runs.items()]


def publish(runs, notes, options):
    body = "## Throughput, latency and CPU\n\n" + "\n".join(f"- {note}" for note in notes) + "\n\n"
    body += report.markdown_table(HEADERS, table_rows(runs))
    report.publish_document("compare", body)
    short = report.markdown_table(README_HEADERS, readme_rows(runs)) + "\n\n" + notes[0] + "."
    if not report.publish_readme("bench", short):
        print("README.md has no <!-- bench:begin --> ... <!-- bench:end -->: its table was not written")


def main():
    options = parse_arguments()
    generator = generators.find(options.generator)
    names = servers.chosen(options)
    place = report.environment()
    wanted = [int(word) for word in options.threads.split(",")]
    pipelines = [int(word) for word in options.pipelines.split(",")]
    runs, notes, versions = {}, [report.environment_line(place)], {}
    began = time.monotonic()
    for threads in wanted:
        cases = [case for case in CASES if case.threads == threads and case.pipeline in pipelines]
        if not cases:
            raise SystemExit(f"no case has {threads} threads and a pipeline out of {pipelines}")
        group, sentence, versions = run_group(threads, cases, names, options, generator)
        runs.update(group)
        notes.append(f"{threads} shard thread{'s' if threads > 1 else ''}: {sentence}")
    notes.append(f"{generator.name}, {generators.CLIENTS} clients, {options.keys:,} keys, "
                 f"{VALUE_SIZE}-byte values; "
                 + ", ".join(f"{name} {version}" for name, version in versions.items()))
    notes.append("CPU: user and system time of the server; ratios: median of the rounds [lowest-highest]")
    print("\n" + "\n".join(notes) + "\n\n" + report.text_table(HEADERS, table_rows(runs)))
    path = report.write_json("compare", {"environment": place, "notes": notes, "versions": versions,
                                         "quick": options.quick, "cases": plain_runs(runs)})
    plot(runs, path.with_suffix(".png"))
    print(f"\n{time.monotonic() - began:.0f} s; written: {path.relative_to(report.ROOT)} and compare.png")
    if options.publish:
        publish(runs, notes, options)
    failed = [verdict_of(results, case) for (case, _), results in runs.items()].count("FAIL")
    return 1 if options.strict and failed else 0


if __name__ == "__main__":
    sys.exit(main())
