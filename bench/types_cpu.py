#!/usr/bin/env python3
"""Server CPU per operation on collections of 100 and of 1 M elements: `make bench-types`.

redis-benchmark, 50 clients, pipeline 32, one shard thread. The large collection is one key; small ones are many,
of 100 elements each, so that a run does not change their size much. Members are 15 bytes and drawn at random; of
those that are added a sixth is new at first. Runs of the servers alternate, a ratio is taken within each round,
the table shows medians. CPU is user and system time of the server. A command that a server does not know is
skipped with a line that says so. Results: bench/results/types_cpu.json; --publish writes docs/benchmarks.md.
"""

import argparse
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare import choose_cores, median_of, ratio_of
from bench.harness import generators, process, report, servers, wire

LARGE = 1_000_000
SMALL = 100
SMALL_KEYS = 100                 # key and member are drawn from one range
GROWING_KEYS = 4_000             # of collections that a run makes longer or shorter
BARS = (("redis", 0.6), ("valkey", 0.85))
BATCH = 50
ANY = "__rand_int__"
VALUE = b"0123456789abcdef"


def member(index):
    return b"mem%012d" % index


# Elements as words of a command that adds several at once.
ELEMENTS = {
    "HSET": lambda index: (member(index), VALUE),
    "SADD": lambda index: (member(index),),
    "ZADD": lambda index: (b"%d" % index, member(index)),
    "RPUSH": lambda index: (member(index),),
}


def load(name, key, count):
    """The commands that fill a key with `count` elements."""
    if name == "XADD":
        for index in range(count):
            yield b"XADD", key, b"%d-1" % (index + 1), b"field", member(index)
        return
    words = ELEMENTS[name]
    for first in range(0, count, BATCH):
        yield name, key, *(word for index in range(first, min(first + BATCH, count)) for word in words(index))


@dataclass(frozen=True)
class Test:
    """A command; {key} is the collection, {any} a random number of 12 digits, {middle} half the elements."""

    name: str
    loaded_by: str
    words: str
    spread: float = 1.0          # of the random numbers, relative to the number of elements
    grows: bool = False

    def command(self, size):
        key = "key" if size == LARGE else f"key:{ANY}"
        middle = size // 2
        return self.words.format(key=key, any=ANY, member=f"mem{ANY}", first=middle, last=middle + 9).split()

    def keys(self, size):
        if size == LARGE:
            return [b"key"]
        return [b"key:%012d" % index for index in range(GROWING_KEYS if self.grows else SMALL_KEYS)]

    def span(self, size):
        """Of random numbers."""
        if size == SMALL and self.grows:
            return GROWING_KEYS
        return max(1, int(size * self.spread))


TESTS = (
    Test("HSET", "HSET", f"HSET {{key}} {{member}} {VALUE.decode()}", 1.2),
    Test("HGET", "HSET", "HGET {key} {member}"),
    Test("SADD", "SADD", "SADD {key} {member}", 1.2),
    Test("SISMEMBER", "SADD", "SISMEMBER {key} {member}"),
    Test("ZADD", "ZADD", "ZADD {key} {any} {member}", 1.2),
    Test("ZRANGE(10)", "ZADD", "ZRANGE {key} {first} {last}"),
    Test("ZRANGE(10) by score", "ZADD", "ZRANGE {key} {any} +inf BYSCORE LIMIT 0 10", 0.9),
    Test("ZRANK", "ZADD", "ZRANK {key} {member}"),
    Test("ZSCORE", "ZADD", "ZSCORE {key} {member}"),
    Test("LPUSH", "RPUSH", "LPUSH {key} member:00000000", grows=True),
    Test("RPOP", "RPUSH", "RPOP {key}", grows=True),
    Test("LRANGE(100)", "RPUSH", "LRANGE {key} 0 99"),
    Test("XADD", "XADD", "XADD {key} * field member:00000000", grows=True),
    Test("XRANGE(10)", "XADD", "XRANGE {key} {any} + COUNT 10", 0.9),
)


def fill(server, test, size):
    """A server that holds what this test works on, and nothing else."""
    with server.connect() as connection:
        connection.command("FLUSHALL")
    wire.pump(server.port, (words for key in test.keys(size) for words in load(test.loaded_by, key, size)))


def measure(server, test, size, requests, cores):
    server.check_alive()
    if test.grows:
        fill(server, test, size)
    cpu = server.cpu_seconds()
    generators.run_command(server.port, test.command(size), 32, requests, test.span(size), cores)
    return {"cpu_us": (server.cpu_seconds() - cpu) / requests * 1e6}


def knows(server, test, size):
    """Tries the command."""
    try:
        fill(server, test, size)
        with server.connect() as connection:
            connection.command(*(word.replace(ANY, "%012d" % 1) for word in test.command(size)))
    except wire.ReplyError as error:
        print(f"  {test.name}: {server.name} skipped: {error}", flush=True)
        return False
    return True


def run_test(running, test, size, options, cores):
    rounds = options.rounds or (3 if options.quick else 5)
    requests = 100_000 if options.quick else 1_000_000
    if test.grows and size == SMALL:
        requests = GROWING_KEYS * SMALL * 2 // 5
    elif test.name == "LRANGE(100)":
        requests //= 4
    taking_part = [server for server in running if knows(server, test, size)]
    results = {server.name: [] for server in taking_part}
    for server in taking_part:
        measure(server, test, size, requests // 10, cores)
    for _ in range(rounds):
        for server in taking_part:
            results[server.name].append(measure(server, test, size, requests, cores))
    shown = ", ".join(f"{name} {median_of(values, 'cpu_us'):.2f}" for name, values in results.items())
    print(f"  {test.name}, {size:,} elements: CPU us/op {shown}", flush=True)
    return results


def verdict_of(results):
    ratios = [(ratio_of(results, "dfly", peer), bar) for peer, bar in BARS]
    ratios = [(ratio[0], bar) for ratio, bar in ratios if ratio]
    if not ratios:
        return ""
    return "PASS" if all(round(ratio, 2) <= bar for ratio, bar in ratios) else "FAIL"


def table(results, names):
    peers = [name for name in names if name != "dfly"]
    headers = ("server CPU, us per operation", *names, *(f"to {peer}" for peer in peers), "")
    rows = []
    for (test, size), values in results.items():
        shown = [f"{median_of(values[name], 'cpu_us'):.2f}" if name in values else "-" for name in names]
        ratios = [ratio_of(values, "dfly", peer) for peer in peers]
        rows.append((f"{test.name}, {size:,} elements", *shown,
                     *(f"{ratio[0]:.2f} [{ratio[1]:.2f}-{ratio[2]:.2f}]" if ratio else "-" for ratio in ratios),
                     verdict_of(values)))
    return headers, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--rounds", type=int, help="rounds over all servers (5; with --quick 3)")
    parser.add_argument("--tests", default="", help="comma-separated beginnings of names, e.g. HSET,ZRANGE")
    parser.add_argument("--sizes", default=f"{SMALL},{LARGE}")
    parser.add_argument("--server-cores", help="pin the servers here, e.g. 0")
    parser.add_argument("--generator-cores", help="pin the load generator here")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is missed")
    options = parser.parse_args()
    names = servers.chosen(options)
    wanted = tuple(options.tests.upper().split(","))
    place = report.environment()
    server_cores, generator_cores, sentence = choose_cores(1, options)
    print(f"1 shard thread, pipeline 32: {sentence}", flush=True)
    results = {}
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.Server(name, options, 1, server_cores)) for name in names]
        stack.enter_context(process.pinned(generator_cores))
        for test in TESTS:
            if test.name.startswith(wanted):
                for size in (int(word) for word in options.sizes.split(",")):
                    results[test, size] = run_test(running, test, size, options, generator_cores)
    headers, rows = table(results, names)
    bars = "bars: " + ", ".join(f"{bar} of {peer}" for peer, bar in BARS)
    print(f"\n{report.environment_line(place)}\n{bars}\n\n" + report.text_table(headers, rows))
    report.write_json("types_cpu", {"environment": place, "quick": options.quick, "runs": [
        {"test": test.name, "size": size, "runs": values} for (test, size), values in results.items()]})
    if options.publish:
        report.publish_document("types-cpu", f"## CPU per operation on collections\n\n"
                                f"{report.environment_line(place)}; {sentence}; {bars}\n\n"
                                + report.markdown_table(headers, rows))
    return 1 if options.strict and any(row[-1] == "FAIL" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
