"""Clients that wait for keys: who is served, step by step; and what becomes of elements when they are killed.

Every command has one reply, and INFO says how many clients wait: when as many wait as have not been
answered, the server has come to rest.
"""

import os
import random
import re
import threading
import time
from collections import Counter

from .wire import ReplyTimeout, encode

KILLS = int(os.environ.get("BLOCKED_KILLS", "0"))       # how many clients die at the least
SOON = ("0.01", "10")           # as timeouts: the reply comes without anybody's help


class Waiting:
    """Clients of one server by name; those that wait for an answer are remembered."""

    def __init__(self, server, protocol, names):
        self.protocol = protocol
        self.server = server
        self.control = server.connect(2, timeout=20)
        self.clients = {name: server.connect(protocol, timeout=20) for name in names}
        self.waiting = set()
        self.control.command("FLUSHALL")

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        for client in [*self.clients.values(), self.control]:
            client.close()

    def step(self, name, *command):
        """Sends one command; {client: what it received}, once the server has come to rest."""
        self.clients[name].send(encode(*command))
        self.waiting.add(name)
        received = {}
        deadline = time.monotonic() + 10
        # Whoever is answered is not waiting; the count says when nobody else will be.
        while time.monotonic() < deadline:
            self.collect(received)
            if name in self.waiting and command[-1] in SOON:
                continue
            if len(self.waiting) == self.blocked():
                self.collect(received)
                if len(self.waiting) == self.blocked():
                    return received
        raise AssertionError(f"{self.waiting} wait, the server says {self.blocked()}")

    def blocked(self):
        # Looks at each thread, behind the news of who was served there.
        self.control.command("CLIENT", "LIST")
        return int(re.search(rb"blocked_clients:(\d+)", self.control.command("INFO", "clients").raw)[1])

    def collect(self, received):
        for name in list(self.waiting):
            client = self.clients[name]
            client.socket.settimeout(0.005)
            try:
                reply = client.read_any().raw
                received.setdefault(name, []).append(reply)
                self.waiting.discard(name)
            except (ReplyTimeout, TimeoutError):
                pass
            finally:
                client.socket.settimeout(20)


def record(server, steps, protocol):
    names = sorted({step[0] for step in steps})
    with Waiting(server, protocol, names) as waiting:
        return [(step, waiting.step(*step)) for step in steps]


def play_free(server, steps):
    """As record, but a client that waits is passed over; what it would have sent is not sent."""
    with Waiting(server, 2, ["a", "b", "c", "p"]) as waiting:
        return [(step, waiting.step(*step)) for step in steps if step[0] not in waiting.waiting]


def wait_for_blocked(client, wanted):
    deadline = time.monotonic() + 10
    while b"blocked_clients:%d\r" % wanted not in client.command("INFO", "clients").raw:
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Consumers:
    """Clients that ask in threads of their own and are killed at random; `received` is what they got."""

    def __init__(self, subject, ask):
        self.subject = subject
        self.ask = ask
        self.killed = 0
        self.received = []
        self.stopping = threading.Event()
        self.workers = [threading.Thread(target=self.consume, args=(seed,)) for seed in range(8)]

    def __enter__(self):
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, *exc_info):
        self.stopping.set()
        for worker in self.workers:
            worker.join()

    def consume(self, seed):
        rng = random.Random(seed)
        while not self.stopping.is_set():
            with self.subject.connect(timeout=20) as client:
                number = client.command("CLIENT", "ID").value
                for _ in range(rng.randrange(1, 6)):
                    command, takes = self.ask(rng)
                    client.send(encode(*command))
                    is_last = rng.random() < 0.4
                    data = self.kill(rng, client, number) if is_last else client.read().raw
                    if takes:
                        self.received.extend(re.findall(rb"e\d+", data))
                    if is_last:
                        break

    def kill(self, rng, client, number):
        """What was sent before it died counts: the rest must be in the keys."""
        self.killed += 1
        if rng.random() < 0.5:
            client.socket.shutdown(1)
        else:
            with self.subject.connect() as killer:
                killer.command("CLIENT", "KILL", "ID", str(number))
        return client.read_until_closed()


def check_killed_clients(subject, seed, ask, add, looks):
    """Kills clients while elements are added: each is with one client or in the keys, once.

    ask(rng): a command that waits, and whether the elements of its reply are the client's; add(rng, element): a
    command; looks: commands whose replies are what is left.
    """
    rng = random.Random(seed)
    added = 0
    with Consumers(subject, ask) as consumers, subject.connect() as producer:
        while added < 1500 or consumers.killed < KILLS:
            assert all(worker.is_alive() for worker in consumers.workers)
            producer.command(*add(rng, f"e{added}"))
            added += 1
    with subject.connect() as client:
        left = [element for look in looks for element in client.command(*look).value]
    seen = Counter(consumers.received + left)
    print(consumers.killed, "killed,", added, "added,", len(consumers.received), "received")
    assert consumers.killed > 100
    assert seen == Counter(b"e%d" % number for number in range(added))
