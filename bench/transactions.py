#!/usr/bin/env python3
"""Server CPU of commands over several keys, and of MULTI and EXEC: `make bench-transactions`.

50 clients send blocks of commands on random keys out of a million with values of 64 bytes. The generator
is this process: its replies have a known size, so that it only counts bytes. Runs of the servers alternate
and ratios are taken within each round, as in compare.py. Results: bench/results/transactions.json;
--publish writes the table into docs/benchmarks.md.
"""

import argparse
import contextlib
import random
import selectors
import socket
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare import choose_cores, median_of, preload, ratio_of
from bench.harness import generators, process, report, servers, wire

VALUE = b"x" * 64
CLIENTS = 50
BLOCKS = 16                      # different blocks a client sends in turn
BULK = 64 + len(b"$64\r\n\r\n")


@dataclass(frozen=True)
class Case:
    """A block of commands: `build(keys, chance)` gives its bytes and the size of its replies."""

    name: str
    threads: int
    repeat: int                  # operations in a block
    build: object
    bar: float                   # of Redis' CPU per operation


def mset(key, chance):
    return wire.encode(b"MSET", *[word for _ in range(10) for word in (key(), VALUE)]), 5


def mget(key, chance):
    return wire.encode(b"MGET", *[key() for _ in range(10)]), 5 + 10 * BULK


def transaction(keys):
    """SET, GET, SET, GET, SET of the keys between MULTI and EXEC."""
    data = wire.encode(b"MULTI")
    size = 5 + 5 * len(b"+QUEUED\r\n") + len(b"*5\r\n")
    for number, key in enumerate(keys):
        data += wire.encode(b"GET", key) if number % 2 else wire.encode(b"SET", key, VALUE)
        size += BULK if number % 2 else 5
    return data + wire.encode(b"EXEC"), size


def exec_on_one_shard(key, chance):
    return transaction([key()] * 5)


def exec_on_random_keys(key, chance):
    return transaction([key() for _ in range(5)])


CASES = (
    Case("MSET of 10 keys, pipeline 16, 1 shard thread", 1, 16, mset, 0.50),
    Case("MGET of 10 keys, pipeline 16, 1 shard thread", 1, 16, mget, 0.50),
    Case("MSET of 10 keys, pipeline 16, 2 shard threads", 2, 16, mset, 0.90),
    Case("MGET of 10 keys, pipeline 16, 2 shard threads", 2, 16, mget, 0.90),
    Case("MULTI, 5 commands on one shard, EXEC, pipeline 8, 2 shard threads", 2, 8, exec_on_one_shard, 0.90),
    Case("MULTI, 5 commands on any keys, EXEC, pipeline 8, 2 shard threads", 2, 8, exec_on_random_keys, 2.0),
)


class Client:
    """One connection that keeps one block in flight."""

    def __init__(self, port, blocks):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(30)
        self.blocks = blocks
        self.sent = 0
        self.missing = 0

    def send(self):
        data, size = self.blocks[self.sent % len(self.blocks)]
        self.sent += 1
        self.missing = size
        self.socket.sendall(data)

    def receive(self):
        """True when the block's replies are complete."""
        got = len(self.socket.recv(262144))
        if got == 0:
            raise SystemExit("the server closed a connection")
        self.missing -= got
        if self.missing < 0:
            raise SystemExit("more reply bytes than expected: an error reply?")
        return self.missing == 0


def make_blocks(case, keys, chance):
    def key():
        return b"key:%012d" % chance.randrange(keys)

    blocks = []
    for _ in range(BLOCKS):
        parts = [case.build(key, chance) for _ in range(case.repeat)]
        blocks.append((b"".join(data for data, _ in parts), sum(size for _, size in parts)))
    return blocks


def pound(port, case, keys, operations):
    """Sends `operations` of the case; returns the wall seconds it took."""
    chance = random.Random(1)
    selector = selectors.DefaultSelector()
    clients = [Client(port, make_blocks(case, keys, chance)) for _ in range(CLIENTS)]
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    left = operations // case.repeat
    begin = time.monotonic()
    for client in clients:
        client.send()
        left -= 1
    waiting = len(clients)
    while waiting:
        found = selector.select(30)
        if not found:
            raise SystemExit("no reply for 30 s: fewer reply bytes than expected?")
        for ready, _ in found:
            client = ready.data
            if not client.receive():
                continue
            if left > 0:
                client.send()
                left -= 1
            else:
                waiting -= 1
                selector.unregister(client.socket)
    seconds = time.monotonic() - begin
    for client in clients:
        client.socket.close()
    return seconds


def measure(server, case, keys, operations):
    server.check_alive()
    cpu = server.cpu_seconds()
    seconds = pound(server.port, case, keys, operations)
    cpu = server.cpu_seconds() - cpu
    return {"cpu_us": cpu / operations * 1e6, "throughput": operations / seconds}


def run_group(threads, cases, options, generator):
    server_cores, generator_cores, sentence = choose_cores(threads, options)
    print(f"\n{threads} shard thread{'s' if threads > 1 else ''}: {sentence}", flush=True)
    operations = 40_000 if options.quick else 200_000
    rounds = 3 if options.quick else 5
    runs = {}
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.Server(name, options, threads, server_cores))
                   for name in servers.chosen(options)]
        stack.enter_context(process.pinned(generator_cores))
        for server in running:
            preload(server, options.keys, generator)
        for case in cases:
            results = {server.name: [] for server in running}
            for server in running:
                measure(server, case, options.keys, operations // 10)
            for number in range(rounds):
                for server in running:
                    results[server.name].append(measure(server, case, options.keys, operations))
                shown = ", ".join(f"{name} {values[-1]['cpu_us']:.2f}" for name, values in results.items())
                print(f"  {case.name}, round {number + 1}/{rounds}: CPU us/op {shown}", flush=True)
            runs[case] = results
    return runs


HEADERS = ("case", "server", "CPU µs/op", "to Redis", "ops/s", "bar", "")


def table_rows(runs):
    rows = []
    for case, results in runs.items():
        for name, values in results.items():
            ratio = ratio_of(results, name, "redis") if name != "redis" else None
            mine = name == "dfly"
            rows.append((
                case.name, name, f"{median_of(values, 'cpu_us'):.2f}",
                f"{ratio[0]:.2f} [{ratio[1]:.2f}-{ratio[2]:.2f}]" if ratio else "",
                f"{statistics.median(run['throughput'] for run in values):,.0f}",
                f"{case.bar:.2f}" if mine else "",
                ("PASS" if ratio[0] <= case.bar else "FAIL") if mine and ratio else ""))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--threads", default="1,2", help="dfly's shard threads to measure (1,2)")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    options.server_cores = options.generator_cores = None
    # Keys are loaded in redis-benchmark's format.
    generator = generators.RedisBenchmark()
    runs = {}
    for threads in [int(word) for word in options.threads.split(",")]:
        cases = [case for case in CASES if case.threads == threads]
        runs.update(run_group(threads, cases, options, generator))
    rows = table_rows(runs)
    print("\n" + report.text_table(HEADERS, rows))
    report.write_json("transactions", {
        "environment": report.environment(),
        "runs": [{"case": case.name, "bar": case.bar, "runs": results} for case, results in runs.items()]})
    if options.publish:
        body = "## Commands over several keys, and transactions\n\n" + report.markdown_table(HEADERS, rows)
        report.publish_document("transactions", body)


if __name__ == "__main__":
    main()
