"""Commands that wait: who is served, in which order, with what, as from Redis.

Every command has one reply, and INFO says how many clients wait: when as many wait as have not been
answered, the server has come to rest.
"""

import os
import random
import re
import threading
import time
from collections import Counter

import pytest

from .wire import ConnectionLost, ReplyTimeout, encode


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


SCRIPTS = {
    "pops": [
        ("a", "BLPOP", "k", "0"),
        ("b", "BRPOP", "k", "0"),
        ("c", "BLMPOP", "0", "2", "j", "k", "LEFT", "COUNT", "3"),
        ("p", "RPUSH", "k", "1", "2", "3", "4", "5", "6", "7"),
        ("p", "LRANGE", "k", "0", "-1"),
        ("a", "BLPOP", "j", "k", "0"),
        ("a", "BRPOP", "j", "k", "0"),
        ("a", "BLPOP", "j", "i", "0"),
        ("p", "SET", "j", "text"),
        ("p", "DEL", "j"),
        ("p", "RPUSH", "j", "x"),
        ("p", "EXISTS", "j", "i"),
    ],
    "order of arrival": [
        ("a", "BLPOP", "k", "0"),
        ("b", "BLPOP", "k", "0"),
        ("c", "BLPOP", "k", "0"),
        ("p", "LPUSH", "k", "1"),
        ("p", "LPUSH", "k", "2"),
        ("a", "BLPOP", "k", "0"),
        ("p", "LPUSH", "k", "3", "4"),
        ("p", "LLEN", "k"),
    ],
    "moves": [
        ("a", "BLMOVE", "k", "l", "LEFT", "RIGHT", "0"),
        ("b", "BRPOPLPUSH", "l", "m", "0"),
        ("c", "BLPOP", "m", "0"),
        ("p", "RPUSH", "k", "x"),
        ("p", "EXISTS", "k", "l", "m"),
        ("a", "BLMOVE", "k", "k", "LEFT", "RIGHT", "0"),
        ("p", "RPUSH", "k", "1", "2"),
        ("p", "LRANGE", "k", "0", "-1"),
        ("p", "DEL", "k"),
        ("p", "SET", "l", "text"),
        ("a", "BLMOVE", "k", "l", "LEFT", "RIGHT", "0"),
        ("p", "RPUSH", "k", "1"),
        ("p", "LRANGE", "k", "0", "-1"),
        ("a", "BLMOVE", "l", "k", "LEFT", "RIGHT", "0"),
    ],
    "made by other commands": [
        ("p", "RPUSH", "other", "1", "2", "3"),
        ("a", "BLPOP", "k", "0"),
        ("p", "RENAME", "other", "k"),
        ("b", "BLPOP", "copy", "0"),
        ("p", "COPY", "k", "copy"),
        ("a", "BLPOP", "moved", "0"),
        ("p", "SELECT", "1"),
        ("p", "RPUSH", "moved", "m"),
        ("p", "MOVE", "moved", "0"),
        ("p", "RPUSH", "swapped", "s"),
        ("p", "SELECT", "0"),
        ("a", "BLPOP", "swapped", "0"),
        ("p", "SWAPDB", "0", "1"),
        ("a", "BLPOP", "t", "0"),
        ("p", "LPUSHX", "t", "1"),
        ("p", "LMOVE", "k", "t", "LEFT", "LEFT"),
        ("p", "RPUSH", "k", "9"),
        ("p", "LMOVE", "k", "t", "LEFT", "LEFT"),
    ],
    "transactions": [
        ("a", "BLPOP", "k", "0"),
        ("p", "MULTI"),
        ("p", "BLPOP", "none", "0"),
        ("p", "BLMOVE", "none", "k", "LEFT", "LEFT", "0"),
        ("p", "BLMPOP", "0", "1", "none", "LEFT"),
        ("p", "RPUSH", "k", "1"),
        ("p", "RPUSH", "k", "2"),
        ("p", "LPUSH", "k", "0"),
        ("p", "LPOP", "k"),
        ("p", "WAIT", "1", "0"),
        ("p", "EXEC"),
        ("p", "LRANGE", "k", "0", "-1"),
        ("a", "BLPOP", "j", "0"),
        ("p", "MULTI"),
        ("p", "RPUSH", "j", "1"),
        ("p", "DEL", "j"),
        ("p", "EXEC"),
        ("p", "MULTI"),
        ("p", "RPUSH", "j", "1"),
        ("p", "DEL", "j"),
        ("p", "RPUSH", "j", "2"),
        ("p", "EXEC"),
    ],
    "errors and limits": [
        ("p", "SET", "s", "1"),
        ("p", "RPUSH", "k", "1", "2"),
        ("a", "BLPOP", "s", "0"),
        ("a", "BLPOP", "k", "s", "0"),
        ("a", "BLPOP", "s", "k", "0"),
        ("a", "BLMOVE", "s", "k", "LEFT", "LEFT", "0"),
        ("a", "BLMOVE", "k", "s", "LEFT", "LEFT", "0"),
        ("a", "BLMOVE", "k", "s", "MIDDLE", "LEFT", "0"),
        ("a", "BLPOP", "k"),
        ("a", "BLPOP", "k", "x"),
        ("a", "BLPOP", "k", "-1"),
        ("a", "BLPOP", "k", "inf"),
        ("a", "BLPOP", "k", "nan"),
        ("a", "BLPOP", "k", "1e300"),
        ("a", "BLPOP", "k", " 1"),
        ("a", "BLPOP", "none", "0.01"),
        ("a", "BRPOPLPUSH", "none", "k", "0.01"),
        ("a", "BLMOVE", "none", "k", "LEFT", "LEFT", "0.01"),
        ("a", "BLMOVE", "none", "s", "LEFT", "LEFT", "0.01"),
        ("a", "BLMPOP", "x", "1", "k", "LEFT"),
        ("a", "BLMPOP", "0", "0", "k", "LEFT"),
        ("a", "BLMPOP", "0", "2", "k", "LEFT"),
        ("a", "BLMPOP", "0", "1", "k", "LEFT", "COUNT", "0"),
        ("a", "BLMPOP", "0", "1", "k", "LEFT", "COUNT", "9", "x"),
        ("a", "BLMPOP", "0", "1", "k", "RIGHT", "COUNT", "9"),
        ("a", "WAIT", "0", "0"),
        ("a", "WAIT", "1", "10"),
        ("a", "WAIT", "x", "10"),
        ("a", "WAIT", "1", "x"),
        ("a", "WAIT", "1", "-1"),
        ("p", "CLIENT", "UNBLOCK", "x"),
        ("p", "CLIENT", "UNBLOCK", "999999"),
        ("p", "CLIENT", "UNBLOCK", "999999", "NOW"),
    ],
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(start, redis_server, threads, protocol, script):
    subject = start(proactor_threads=threads)
    expected = record(redis_server, SCRIPTS[script], protocol)
    for ours, theirs in zip(record(subject, SCRIPTS[script], protocol), expected, strict=True):
        assert ours == theirs


def random_steps(seed):
    """Steps of three clients that wait and one that pushes; keys enough for several shards."""
    rng = random.Random(seed)
    keys = ["k0", "k1", "k2"]
    steps = []

    def pick():
        return rng.choice(keys)

    for number in range(40):
        kind = rng.randrange(8)
        value = str(number)
        if kind < 3:
            name = rng.choice("abc")
            # Of several keys Redis 7.0 serves the one that was written first: one key here.
            command = rng.choice([
                ("BLPOP", pick(), "0"), ("BRPOP", pick(), "0"),
                ("BLMOVE", pick(), pick(), "LEFT", "RIGHT", "0"),
                ("BLMPOP", "0", "1", pick(), "RIGHT", "COUNT", "2"), ("BRPOPLPUSH", pick(), pick(), "0")])
            steps.append((name, *command))
        else:
            steps.append(("p", *rng.choice([
                ("RPUSH", pick(), value), ("LPUSH", pick(), value, value + "b"), ("RENAMENX", pick(), pick()),
                ("LMOVE", pick(), pick(), "LEFT", "LEFT"), ("LPOP", pick()), ("LLEN", pick())])))
    return steps


def play_free(server, steps):
    """As record, but a client that waits is passed over; what it would have sent is not sent."""
    with Waiting(server, 2, ["a", "b", "c", "p"]) as waiting:
        return [(step, waiting.step(*step)) for step in steps if step[0] not in waiting.waiting]


@pytest.mark.parametrize("seed", range(6))
def test_random_steps(start, redis_server, seed):
    steps = random_steps(seed)
    expected = play_free(redis_server, steps)
    assert play_free(start(proactor_threads=1 + seed % 3), steps) == expected


def test_first_key_in_the_order_of_the_command_wins(start):
    """Of an EXEC that fills several keys: Redis 7.0 takes the first that was written, later ones this one."""
    subject = start(proactor_threads=3)
    for attempt in range(12):
        names = [f"{attempt}:{i}" for i in range(4)]
        with Waiting(subject, 2, ["a", "p"]) as waiting:
            waiting.step("a", "BLPOP", *names, "0")
            waiting.step("p", "MULTI")
            for name in reversed(names[1:]):
                waiting.step("p", "RPUSH", name, name)
            received = waiting.step("p", "EXEC")
            assert received["a"] == [encode(names[1], names[1])]


def test_unblock(start, redis_server):
    def ask(server):
        replies = []
        for arguments in ([], ["TIMEOUT"], ["ERROR"]):
            with Waiting(server, 2, ["a", "p"]) as waiting:
                number = waiting.clients["a"].command("CLIENT", "ID").value
                waiting.step("a", "BLMOVE", "k", "l", "LEFT", "LEFT", "0")
                replies.append(waiting.step("p", "CLIENT", "UNBLOCK", str(number), *arguments))
                replies.append(waiting.step("p", "CLIENT", "UNBLOCK", str(number), *arguments))
                replies.append(waiting.step("p", "RPUSH", "k", "1"))
        return replies

    assert ask(start(proactor_threads=2)) == ask(redis_server)


def test_timeouts_are_kept(start):
    subject = start(proactor_threads=2)
    with subject.connect() as client:
        for seconds in (0.05, 0.3):
            started = time.monotonic()
            assert client.command("BLPOP", "none", str(seconds)).raw == b"*-1\r\n"
            assert seconds <= time.monotonic() - started < seconds + 2


def test_a_client_that_hangs_up_takes_nothing(start):
    subject = start(proactor_threads=2)
    with subject.connect() as pusher:
        for number in range(200):
            key = f"k{number}"
            victim = subject.connect()
            victim.send(encode("BLPOP", key, f"j{number}", "0"))
            if number % 4 == 3:
                wait_for_blocked(pusher, 1)
            if number % 2:
                victim.socket.shutdown(1)
            else:
                victim.close()
            if number % 4 == 3:
                pusher.command("RPUSH", key, "x")
                assert pusher.command("LLEN", key).value == 1
            victim.close()
        wait_for_blocked(pusher, 0)


def wait_for_blocked(client, wanted):
    deadline = time.monotonic() + 10
    while b"blocked_clients:%d\r" % wanted not in client.command("INFO", "clients").raw:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("threads", [1, 3])
def test_killed_clients_lose_no_element(start, threads):
    """Clients that wait on several shards are killed at random while elements are pushed."""
    subject = start(proactor_threads=threads)
    rng = random.Random(threads)
    elements = 0
    killed = []
    keys = [f"key{i}" for i in range(6)]
    received = []
    stopping = threading.Event()

    def consume(seed):
        own = random.Random(seed)
        while not stopping.is_set():
            client = subject.connect(timeout=20)
            number = client.command("CLIENT", "ID").value
            try:
                for _ in range(own.randrange(1, 6)):
                    kind = own.randrange(3)
                    if kind == 0:
                        client.send(encode("BLPOP", *own.sample(keys, 3), "0.2"))
                    elif kind == 1:
                        client.send(encode("BLMPOP", "0.2", "3", *own.sample(keys, 3), "LEFT", "COUNT", "2"))
                    else:
                        client.send(encode("BLMOVE", *own.sample(keys, 2), "LEFT", "RIGHT", "0.2"))
                    if own.random() < 0.4:
                        die(own, client, number, kind)
                        break
                    take(client.read(), kind)
            except ConnectionLost as lost:
                assert not lost.received
            client.close()

    def die(own, client, number, kind):
        killed.append(kind)
        if own.random() < 0.5:
            client.socket.shutdown(1)
        else:
            with subject.connect() as killer:
                killer.command("CLIENT", "KILL", "ID", str(number))
        # What was sent before it died counts: the rest must be in the lists.
        data = client.read_until_closed()
        if data:
            take_raw(data, kind)

    def take(reply, kind):
        take_raw(reply.raw, kind)

    def take_raw(data, kind):
        if kind < 2:
            received.extend(re.findall(rb"e\d+", data))

    workers = [threading.Thread(target=consume, args=(seed,)) for seed in range(8)]
    for worker in workers:
        worker.start()
    with subject.connect() as pusher:
        while elements < 1500 or len(killed) < KILLS:
            assert any(worker.is_alive() for worker in workers)
            pusher.command(rng.choice(["RPUSH", "LPUSH"]), rng.choice(keys), f"e{elements}")
            elements += 1
        stopping.set()
        for worker in workers:
            worker.join()
        left = [element for key in keys for element in pusher.command("LRANGE", key, "0", "-1").value]
    seen = Counter(received + left)
    pushed = {b"e%d" % number for number in range(elements)}
    print(len(killed), "killed,", elements, "pushed,", len(received), "received")
    assert (pushed - set(seen), [element for element in seen if seen[element] > 1]) == (set(), [])
