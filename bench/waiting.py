#!/usr/bin/env python3
"""Commands that wait, and messages: `make bench-waiting`.

Round trip: one client pushes an element, one that is blocked in BLPOP takes it and sends its next BLPOP;
from the push until the element has arrived, p50. Delivery: PUBLISH of 64 bytes to 100 subscribers, to such that
read what arrives and to such that read when all is published, server CPU per delivered message. Memory: RSS growth
by 10,000 clients blocked on distinct keys. Tail: single-key commands, one at a time, alone and beside a constant
load of EXECs over several shards, p99 of each.
Runs of the servers alternate and ratios are taken within each round. Results: bench/results/waiting.json;
--publish writes the table into docs/benchmarks.md.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import random
import resource
import select
import socket
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare import choose_cores
from bench.harness import process, report, servers, wire

MEGABYTE = 1 << 20
MESSAGE = b"x" * 64
MESSAGE_BYTES = len(b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$64\r\n\r\n") + len(MESSAGE)
SUBSCRIBERS = 100
BLOCKED_CLIENTS = 10_000


def connect(server):
    peer = socket.create_connection(("127.0.0.1", server.port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.settimeout(30)
    return peer


def receive(peer, size):
    while size > 0:
        got = len(peer.recv(min(size, 1 << 18)))
        if got == 0:
            raise SystemExit("the server closed a connection")
        size -= got


def wait_for(server, field, wanted):
    with server.connect() as client:
        deadline = time.monotonic() + 30
        while int(client.info("clients")[field]) != wanted:
            if time.monotonic() > deadline:
                raise SystemExit(f"{server.name}: {field} does not become {wanted}")
            time.sleep(0.005)


def round_trip(server, quick):
    """p50 in microseconds from LPUSH to the element's arrival at the blocked client."""
    pop = wire.encode(b"BLPOP", b"queue", b"0")
    push = wire.encode(b"LPUSH", b"queue", MESSAGE)
    answer = len(b"*2\r\n$5\r\nqueue\r\n$64\r\n\r\n") + len(MESSAGE)
    times = []
    with connect(server) as consumer, connect(server) as producer:
        consumer.sendall(pop)
        wait_for(server, "blocked_clients", 1)
        for _ in range(2_000 if quick else 20_000):
            begin = time.perf_counter_ns()
            producer.sendall(push)
            receive(consumer, answer)
            times.append(time.perf_counter_ns() - begin)
            receive(producer, 4)
            consumer.sendall(pop)
    return statistics.median(times) / 1000


def subscribe(server, stack):
    peers = [stack.enter_context(connect(server)) for _ in range(SUBSCRIBERS)]
    for peer in peers:
        peer.sendall(wire.encode(b"SUBSCRIBE", b"news"))
        receive(peer, len(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"))
    return peers


def publish(publisher, count):
    data = wire.encode(b"PUBLISH", b"news", MESSAGE)
    for _ in range(count):
        publisher.sendall(data)
        receive(publisher, len(b":100\r\n"))


def read_messages(peers, count):
    """Reads what arrives, from whichever peer, until each has had `count` messages."""
    left = count * len(peers) * MESSAGE_BYTES
    by_number = {peer.fileno(): peer for peer in peers}
    with select.epoll() as ready:
        for number in by_number:
            ready.register(number, select.EPOLLIN)
        while left > 0:
            for number, _ in ready.poll():
                left -= len(by_number[number].recv(1 << 16))


def delivery(server, quick):
    """Server CPU in microseconds per message delivered to subscribers that read what arrives.

    They are in a process of their own: those that share the publisher's interpreter read when it lets them.
    """
    count = 1_000 if quick else 5_000
    with contextlib.ExitStack() as stack:
        peers = subscribe(server, stack)
        publisher = stack.enter_context(connect(server))
        reader = multiprocessing.get_context("fork").Process(target=read_messages, args=(peers, count))
        reader.start()
        cpu = server.cpu_seconds()
        publish(publisher, count)
        reader.join()
        cpu = server.cpu_seconds() - cpu
        if reader.exitcode != 0:
            raise SystemExit("the subscribers' process failed")
    return cpu / count / SUBSCRIBERS * 1e6


def late_delivery(server, quick):
    """The same with subscribers that read nothing until all is published.

    Once a subscriber's socket is full, which takes some hundred messages, a send only lengthens the kernel's queue.
    """
    count = 1_000 if quick else 5_000
    with contextlib.ExitStack() as stack:
        peers = subscribe(server, stack)
        publisher = stack.enter_context(connect(server))
        cpu = server.cpu_seconds()
        publish(publisher, count)
        for peer in peers:
            receive(peer, MESSAGE_BYTES * count)
        cpu = server.cpu_seconds() - cpu
    return cpu / count / SUBSCRIBERS * 1e6


def blocked_memory(server, quick):
    """RSS growth in MB by clients that are blocked on distinct keys."""
    before = server.settled_rss_bytes()
    with contextlib.ExitStack() as stack:
        for number in range(BLOCKED_CLIENTS):
            peer = stack.enter_context(connect(server))
            peer.sendall(wire.encode(b"BLPOP", b"wait:%012d" % number, b"0"))
        wait_for(server, "blocked_clients", BLOCKED_CLIENTS)
        grown = server.settled_rss_bytes() - before
    wait_for(server, "blocked_clients", 0)
    return grown / MEGABYTE


def probe(server, count):
    """p99 in microseconds of single-key commands, one at a time."""
    chance = random.Random(1)
    times = []
    with connect(server) as peer:
        for number in range(count):
            key = b"key:%012d" % chance.randrange(100_000)
            data = wire.encode(b"SET", key, MESSAGE) if number % 2 else wire.encode(b"EXISTS", key)
            begin = time.perf_counter_ns()
            peer.sendall(data)
            peer.recv(64)
            times.append(time.perf_counter_ns() - begin)
    return statistics.quantiles(times, n=100)[98] / 1000


def exec_block(chance):
    keys = [b"key:%012d" % chance.randrange(100_000) for _ in range(5)]
    return (wire.encode(b"MULTI") + b"".join(wire.encode(b"SET", key, MESSAGE) for key in keys)
            + wire.encode(b"EXEC"))


def exec_load(server, stopping):
    """EXECs over random keys, paced: constant load, not saturation.

    In a process of its own, and ready made: the probe shall wait for the server, not for the generator's interpreter.
    """
    chance = random.Random(2)
    blocks = [exec_block(chance) for _ in range(1000)]
    with connect(server) as peer:
        for block in itertools.cycle(blocks):
            if stopping.is_set():
                return
            peer.sendall(block)
            receive(peer, 5 + 5 * len(b"+QUEUED\r\n") + len(b"*5\r\n") + 5 * 5)
            time.sleep(0.001)


def tail(server, quick):
    """p99 beside a load of EXECs, as a multiple of p99 alone."""
    count = 20_000 if quick else 200_000
    alone = probe(server, count)
    processes = multiprocessing.get_context("fork")
    stopping = processes.Event()
    loads = [processes.Process(target=exec_load, args=(server, stopping)) for _ in range(2)]
    for load in loads:
        load.start()
    beside = probe(server, count)
    stopping.set()
    for load in loads:
        load.join()
    return beside / alone


# name, what, unit, shard threads, bar if any, whether the bar is a ratio to Redis
CASES = (
    ("LPUSH to one client in BLPOP, 1 shard thread", round_trip, "us p50", 1, 1.3, True),
    # First on its server, and once: what others leave behind would be used again, and not be growth.
    ("10,000 clients blocked on distinct keys, 2 shard threads", blocked_memory, "MB RSS", 2, 60, False),
    ("LPUSH to one client in BLPOP, 2 shard threads", round_trip, "us p50", 2, 1.3, True),
    ("PUBLISH to 100 subscribers, 1 shard thread", delivery, "us CPU per message", 1, 0.7, True),
    ("PUBLISH to 100 subscribers, 2 shard threads", delivery, "us CPU per message", 2, 0.7, True),
    ("PUBLISH to 100 subscribers, read later, 1 shard thread", late_delivery, "us CPU per message", 1, None, True),
    ("PUBLISH to 100 subscribers, read later, 2 shard threads", late_delivery, "us CPU per message", 2, None, True),
    ("single-key p99 beside EXECs, 2 shard threads", tail, "times alone", 2, 2.0, False),
)
HEADERS = ("case", "server", "median", "unit", "to Redis", "bar", "")


def run(options):
    rounds = 2 if options.quick else 4
    results = {}
    for threads in (1, 2):
        server_cores, generator_cores, sentence = choose_cores(threads, options)
        print(f"\n{threads} shard thread{'s' if threads > 1 else ''}: {sentence}", flush=True)
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(servers.Server(name, options, threads, server_cores,
                                                          max_clients=BLOCKED_CLIENTS + 100))
                       for name in servers.chosen(options)]
            stack.enter_context(process.pinned(generator_cores))
            for name, measure, unit, wanted, *_ in CASES:
                if wanted != threads:
                    continue
                values = results[name] = {server.name: [] for server in running}
                for number in range(1 if measure is blocked_memory else rounds):
                    for server in running:
                        server.check_alive()
                        values[server.name].append(measure(server, options.quick))
                    shown = ", ".join(f"{server} {each[-1]:.2f}" for server, each in values.items())
                    print(f"  {name}, round {number + 1}/{rounds}: {shown} {unit}", flush=True)
    return results


def table_rows(results):
    rows = []
    for name, _, unit, _, bar, is_ratio in CASES:
        for server, values in results[name].items():
            median = statistics.median(values)
            ratio = None
            if server != "redis" and "redis" in results[name]:
                ratio = statistics.median(mine / theirs for mine, theirs
                                          in zip(values, results[name]["redis"], strict=True))
            judged = ratio if is_ratio else median
            has_bar = server == "dfly" and bar is not None
            verdict = ("PASS" if judged <= bar else "FAIL") if has_bar and judged is not None else ""
            rows.append((name, server, f"{median:.2f}", unit, f"{ratio:.2f}" if ratio else "",
                         f"{bar:g}" if has_bar else "", verdict))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser, default="dfly,redis")
    parser.add_argument("--quick", action="store_true", help="short runs")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args()
    options.server_cores = options.generator_cores = None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * BLOCKED_CLIENTS)), hard))
    results = run(options)
    rows = table_rows(results)
    print("\n" + report.text_table(HEADERS, rows))
    report.write_json("waiting", {"environment": report.environment(), "runs": results})
    if options.publish:
        report.publish_document("waiting", "## Commands that wait, and messages\n\n"
                                + report.markdown_table(HEADERS, rows))


if __name__ == "__main__":
    main()
