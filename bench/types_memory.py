#!/usr/bin/env python3
"""Resident bytes per element of every type: `make bench-types`.

Each shape is loaded into a fresh server, which has answered a PING and settled; the figure is the growth of its
resident size, settled again, by the number of elements. dfly has one shard thread. A shape that a server has no
commands for is skipped with a line that says so. Results: bench/results/types_memory.json; --publish writes the
table into docs/benchmarks.md.
"""

import argparse
import random
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import report, servers, wire

BATCH = 50                       # elements of one command, where it takes several


def member(index):
    """15 bytes."""
    return b"member:%08d" % index


VALUE = wire.text_value(16)


def batches(first, stop):
    return (range(begin, min(begin + BATCH, stop)) for begin in range(first, stop, BATCH))


def scores(count):
    """Distinct integers, in no order."""
    drawn = list(range(count))
    random.Random(1).shuffle(drawn)
    return drawn


def one_set(count):
    for part in batches(0, count):
        yield b"SADD", b"key", *map(member, part)


def one_hash(count):
    for part in batches(0, count):
        yield b"HSET", b"key", *(word for index in part for word in (member(index), VALUE(index)))


def one_sorted_set(count):
    drawn = scores(count)
    for part in batches(0, count):
        yield b"ZADD", b"key", *(word for index in part for word in (drawn[index], member(index)))


def one_list(count):
    for part in batches(0, count):
        yield b"RPUSH", b"key", *map(member, part)


def one_stream(count):
    for index in range(count):
        yield b"XADD", b"key", b"*", b"field", member(index)


def small_hashes(count):
    """Of 5 short fields."""
    for key in range(count // 5):
        values = (word for field in range(5) for word in (b"f%d" % field, VALUE(key * 5 + field)[:8]))
        yield b"HSET", b"hash:%06d" % key, *values


def integer_sets(count):
    """Of 100 integers that need 4 bytes each."""
    chance = random.Random(2)
    for key in range(count // 100):
        yield b"SADD", b"set:%06d" % key, *chance.sample(range(1_000_000, 100_000_000), 100)


def small_sorted_sets(count):
    for key in range(count // 100):
        drawn = (word for index in range(100) for word in (key * 100 + index, member(key * 100 + index)))
        yield b"ZADD", b"zset:%06d" % key, *drawn


@dataclass(frozen=True)
class Shape:
    """Elements that one server gets, and the most bytes each may take in dfly."""

    name: str
    commands: object
    count: int
    bar: float


SHAPES = (
    Shape("one set of 1 M members of 15 bytes", one_set, 1_000_000, 30),
    Shape("one hash of 1 M fields of 15 bytes, 16-byte values", one_hash, 1_000_000, 56),
    Shape("one sorted set of 1 M members of 15 bytes", one_sorted_set, 1_000_000, 54),
    Shape("one list of 1 M elements of 15 bytes", one_list, 1_000_000, 18),
    Shape("one stream of 1 M entries, one field", one_stream, 1_000_000, 27),
    Shape("200 k hashes of 5 short fields, per field", small_hashes, 1_000_000, 25),
    Shape("10 k sets of 100 integers, per element", integer_sets, 1_000_000, 5.2),
    Shape("10 k sorted sets of 100 members, per element", small_sorted_sets, 1_000_000, 24),
)


def measure(name, shape, count, options):
    """Bytes per element, or None if the server does not know the commands."""
    with servers.Server(name, options) as server:
        with server.connect() as connection:
            connection.command("PING")
        before = server.settled_rss_bytes()
        try:
            wire.pump(server.port, shape.commands(count))
        except wire.ReplyError as error:
            print(f"  {shape.name}: {name} skipped: {error}", flush=True)
            return None
        return (server.settled_rss_bytes() - before) / count


def table(results, names):
    peers = [name for name in names if name != "dfly"]
    headers = ("bytes of RSS per element", *names, *(f"to {peer}" for peer in peers), "bar", "")
    rows = []
    for shape, values in results:
        mine = values.get("dfly")
        ratios = [mine / values[peer] if mine and values[peer] else None for peer in peers]
        verdict = "" if mine is None else "PASS" if round(mine, 1) <= shape.bar else "FAIL"
        rows.append((shape.name, *(_number(values[name], 1) for name in names),
                     *(_number(ratio, 2) for ratio in ratios), f"{shape.bar:g}", verdict))
    return headers, rows


def _number(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="a tenth of the elements")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--strict", action="store_true", help="exit status 1 if a bar is missed")
    options = parser.parse_args()
    names = servers.chosen(options)
    results = []
    for shape in SHAPES:
        if options.only not in shape.name:
            continue
        count = shape.count // (10 if options.quick else 1)
        values = {name: measure(name, shape, count, options) for name in names}
        results.append((shape, values))
        shown = ", ".join(f"{name} {_number(value, 1)}" for name, value in values.items())
        print(f"  {shape.name}: {shown}", flush=True)
    place = report.environment()
    headers, rows = table(results, names)
    print("\n" + report.environment_line(place) + "\n\n" + report.text_table(headers, rows))
    report.write_json("types_memory", {"environment": place, "quick": options.quick,
                                       "shapes": {shape.name: values for shape, values in results}})
    if options.publish:
        report.publish_document("types-memory", f"## Memory per element\n\n{report.environment_line(place)}\n\n"
                                + report.markdown_table(headers, rows))
    return 1 if options.strict and any(row[-1] == "FAIL" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
