#!/usr/bin/env python3
"""Soak: mixed load with connections killed at random, then everything must be as it was.

Several worker processes send random pipelines over several connections each. Half of the commands work on
keys that only this worker writes: their replies are checked against a model. The other half is chaos on keys
that all share. At random a connection dies: reset with replies unread, closed in the middle of a command,
half-closed, or killed by CLIENT KILL from another one. What a killed pipeline has done is unknown, so the
model forgets the keys it touched until they are written again.

Afterwards, with all connections gone and after FLUSHALL:
- used_memory is back at what it was at the start (--memory-slack for what buffers keep),
- RSS is within 15 % of what it was after a short warm-up load and FLUSHALL,
- no connection is left over, no reply was wrong, no error came that is not expected.
"""

import argparse
import multiprocessing
import random
import re
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.harness import servers
from bench.harness.wire import Connection, ReplyError, encode

CONNECTIONS = 8
OWN_KEYS = 400
SHARED_KEYS = 300
EXPECTED_ERRORS = re.compile(
    r"WRONGTYPE |ERR value is not |ERR no such key|ERR increment or decrement would overflow"
    r"|ERR source and destination objects are the same"
)
UNKNOWN = object()


class Wrong(Exception):
    """A reply that contradicts the model, or an error that is not expected."""


class Model:
    """What this worker's own keys hold: key -> bytes, absent, or UNKNOWN after a kill."""

    def __init__(self, prefix, chance):
        self.prefix, self.chance = prefix, chance
        self.values = {}

    def make(self):
        """(arguments, key, function old value -> (expected reply, new value))."""
        key = b"%b:%d" % (self.prefix, self.chance.randrange(OWN_KEYS))
        kind = self.chance.randrange(8)
        if kind <= 2:
            value = random_value(self.chance)
            return (b"SET", key, value), key, lambda old: (b"OK", value)
        if kind == 3:
            return (b"GET", key), key, lambda old: (old, old)
        if kind == 4:
            tail = random_value(self.chance)[:200]
            return (b"APPEND", key, tail), key, lambda old: (len(old or b"") + len(tail), (old or b"") + tail)
        if kind == 5:
            return (b"STRLEN", key), key, lambda old: (len(old or b""), old)
        if kind == 6:
            return (b"DEL", key), key, lambda old: (int(old is not None), None)
        start = self.chance.randrange(100)
        return (b"GETRANGE", key, start, start + 50), key, lambda old: ((old or b"")[start:start + 51], old)

    def apply(self, key, rule, reply):
        """Check the reply of an executed command and follow it."""
        old = self.values.get(key)
        if old is UNKNOWN:
            # Only a SET tells again what the key holds; 0 bytes stand in to compute the new value.
            expected, new = rule(b"")
            if expected == b"OK":
                self.values[key] = new
            return False
        expected, new = rule(old)
        if reply != expected:
            raise Wrong(f"key {key!r}: expected {str(expected)[:120]}, got {str(reply)[:120]}")
        self.values[key] = new
        return True


def random_value(chance):
    """Mostly short, sometimes long: bytes of any value, integers, packed text."""
    kind = chance.randrange(20)
    if kind < 6:
        return b"%d" % chance.randrange(-10**6, 10**12)
    if kind < 12:
        return b"text " * chance.randrange(1, 8)
    if kind < 18:
        return chance.randbytes(chance.randrange(1, 300))
    return chance.randbytes(chance.randrange(1000, 40_000 if kind == 18 else 150_000))


def chaos_command(chance):
    """A command on shared keys whose reply nobody can know."""
    def key():
        return b"{shared}:%d" % chance.randrange(SHARED_KEYS)

    makers = (
        lambda: (b"SET", key(), random_value(chance), b"PX", chance.randrange(1, 200)),
        lambda: (b"MSET", key(), random_value(chance), key(), random_value(chance)),
        lambda: (b"MGET", *(key() for _ in range(chance.randrange(1, 20)))),
        lambda: (b"DEL", *(key() for _ in range(chance.randrange(1, 6)))),
        lambda: (b"INCRBY", key(), chance.randrange(-1000, 1000)),
        lambda: (b"SETRANGE", key(), chance.randrange(5000), random_value(chance)[:500]),
        lambda: (b"SETBIT", key(), chance.randrange(40_000), chance.randrange(2)),
        lambda: (b"BITCOUNT", key()),
        lambda: (b"RENAME", key(), key()),
        lambda: (b"COPY", key(), key(), b"REPLACE"),
        lambda: (b"PEXPIRE", key(), chance.randrange(1, 300)),
        lambda: (b"PERSIST", key()),
        lambda: (b"PTTL", key()),
        lambda: (b"EXISTS", key(), key()),
        lambda: (b"GETEX", key(), b"PX", chance.randrange(1, 300)),
        lambda: (b"GETDEL", key()),
        lambda: (b"TYPE", key()),
        lambda: (b"SCAN", 0, b"COUNT", 50),
        lambda: (b"RANDOMKEY",),
        lambda: (b"DBSIZE",),
        lambda: (b"PING",),
    )
    return chance.choice(makers)()


class Worker:
    """A process' share of the load."""

    def __init__(self, port, number, seed, seconds, shared_load):
        self.port, self.deadline = port, time.monotonic() + seconds
        self.chance = random.Random(f"{seed}/{number}")
        self.model = Model(b"own%d" % number, self.chance)
        self.shared_load = shared_load
        self.connections = [self.connect() for _ in range(CONNECTIONS)]
        self.counts = dict.fromkeys(("commands", "checked", "killed", "expected errors"), 0)

    def connect(self):
        connection = Connection(self.port)
        connection.number = connection.command("CLIENT", "ID")
        return connection

    def run(self):
        while time.monotonic() < self.deadline:
            place = self.chance.randrange(CONNECTIONS)
            batch = self.make_batch()
            if self.chance.random() < 0.05:
                self.kill(place, batch)
            else:
                self.execute(self.connections[place], batch)
        for connection in self.connections:
            connection.close()
        return self.counts

    def make_batch(self):
        batch = []
        for _ in range(self.chance.choice((1, 1, 4, 16, 64))):
            if self.chance.random() < self.shared_load:
                batch.append((chaos_command(self.chance), None, None))
            else:
                batch.append(self.model.make())
        return batch

    def execute(self, connection, batch):
        connection.send(b"".join(encode(*arguments) for arguments, _, _ in batch))
        for arguments, key, rule in batch:
            self.check(arguments, key, rule, connection.read_reply())

    def check(self, arguments, key, rule, reply):
        self.counts["commands"] += 1
        if isinstance(reply, ReplyError):
            if key is not None or not EXPECTED_ERRORS.match(str(reply)):
                raise Wrong(f"{str(arguments)[:120]}: {reply}")
            self.counts["expected errors"] += 1
        elif key is not None:
            self.counts["checked"] += self.model.apply(key, rule, reply)

    def kill(self, place, batch):
        """End a connection in one of several ways and put a new one in its place."""
        connection = self.connections[place]
        data = b"".join(encode(*arguments) for arguments, _, _ in batch)
        for _, key, _ in batch:
            if key is not None:
                self.model.values[key] = UNKNOWN
        way = self.chance.choice(("reset", "reset late", "cut", "half-close", "client kill"))
        try:
            if way == "client kill":
                connection.send(data)
                other = self.connections[(place + 1) % CONNECTIONS]
                other.command("CLIENT", "KILL", "ID", connection.number)
                self.read_to_end(connection)
            elif way == "half-close":
                connection.send(data)
                connection.socket.shutdown(socket.SHUT_WR)
                self.read_to_end(connection)
            else:
                connection.send(data[:self.chance.randrange(len(data))] if way == "cut" else data)
                if way == "reset late":
                    connection.socket.recv(10)
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except ConnectionError:
            pass
        connection.close()
        self.counts["killed"] += 1
        # A worker's own keys have one writer at a time only if the dead connection's commands are over.
        self.connections[place] = self.connect()
        self.wait_until_gone(connection.number, place)

    def read_to_end(self, connection):
        while connection.socket.recv(1 << 16):
            pass

    def wait_until_gone(self, number, place, limit=10.0):
        deadline = time.monotonic() + limit
        while self.connections[place].command("CLIENT", "LIST", "ID", number).strip():
            if time.monotonic() > deadline:
                raise Wrong(f"connection {number} is still listed {limit:.0f} s after its end")
            time.sleep(0.001)


def work(port, number, seed, seconds, shared_load, queue):
    try:
        queue.put((number, Worker(port, number, seed, seconds, shared_load).run(), None))
    except Exception as error:  # noqa: BLE001 - the parent reports it, whatever it is
        queue.put((number, {}, f"worker {number}: {type(error).__name__}: {error}"))


def run_load(server, options, seconds, phase):
    """Run the workers; (summed counts, what went wrong, highest used_memory and the RSS then)."""
    queue = multiprocessing.Queue()
    seed = f"{options.seed}/{phase}"
    workers = [multiprocessing.Process(target=work, args=(server.port, number, seed, seconds, 0.5, queue))
               for number in range(options.workers)]
    for worker in workers:
        worker.start()
    counts, problems, peak = {}, [], (0, 0)
    missing = set(range(options.workers))
    deadline = time.monotonic() + seconds + 60
    with server.connect() as watcher:
        while missing and time.monotonic() < deadline:
            server.check_alive()
            peak = max(peak, (int(watcher.info("memory")["used_memory"]), server.rss_bytes()))
            time.sleep(0.1)
            while not queue.empty():
                number, found, problem = queue.get()
                missing.discard(number)
                problems += [problem] if problem else []
                for name, value in found.items():
                    counts[name] = counts.get(name, 0) + value
    problems += [f"worker {number} did not end" for number in missing]
    for worker in workers:
        worker.kill()
        worker.join()
    return counts, problems, peak


def rest(server, limit=15.0):
    """FLUSHALL, wait until memory has settled; (used_memory, RSS, connections besides the asking one)."""
    with server.connect() as connection:
        connection.command("FLUSHALL")
        previous = None
        deadline = time.monotonic() + limit
        while True:
            time.sleep(0.5)
            info = connection.info()
            current = int(info["used_memory"]), server.rss_bytes()
            others = int(info["connected_clients"]) - 1
            if (current == previous and not others) or time.monotonic() > deadline:
                return (*current, others)
            previous = current


def judge(options, start, warm, end, counts):
    """What is not as it was."""
    problems = []
    if end[0] > start[0] + options.memory_slack:
        problems.append(f"used_memory: {start[0]:,} at the start, {end[0]:,} at the end")
    # A few megabytes beside the data (thread stacks, Python) do not scale with it.
    if end[1] > warm[1] * 1.15 + (16 << 20):
        problems.append(f"RSS: {warm[1]:,} after the warm-up, {end[1]:,} at the end (more than 15 %)")
    if end[2]:
        problems.append(f"{end[2]} connections are left over")
    problems += [f"the load was empty: {name} is 0" for name in ("commands", "checked", "killed")
                 if not counts.get(name)]
    return problems


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser, default="dfly")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--quick", action="store_true", help="10 seconds")
    parser.add_argument("--threads", type=int, default=2, help="shard threads (2)")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--memory-slack", type=int, default=64 * 1024, help="bytes (65536)")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds = 10
    return options


def soak(options):
    """Run it all on one server; the list of problems."""
    name = servers.chosen(options)[0]
    with servers.Server(name, options, options.threads) as server:
        start = rest(server)
        warm_seconds = min(20.0, max(1.0, options.seconds / 6))
        _, problems, _ = run_load(server, options, warm_seconds, "warm")
        warm = rest(server)
        counts, more, peak = run_load(server, options, options.seconds, "main")
        end = rest(server)
        server.check_alive()
        problems += more + judge(options, start, warm, end, counts)
        status = server.stop()
        if status != 0:
            problems.append(f"exit status {status} after SIGTERM")
    print(f"{name}, seed {options.seed}, {options.seconds:g} s: "
          + ", ".join(f"{value:,} {key}" for key, value in counts.items()))
    states = {"start": start, "after warm-up": warm, "peak": peak, "end": end}
    for title, (used, resident, *_) in states.items():
        print(f"  {title:14} used_memory {used:>13,}  RSS {resident:>13,}")
    return problems


def main():
    problems = soak(parse_arguments())
    for problem in problems:
        print(f"WRONG: {problem}")
    print("FAIL" if problems else "PASS")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
