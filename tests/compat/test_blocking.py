"""List commands that wait: who is served, in which order, with what, as from Redis."""

import random
import time

import pytest

from .waiting import Waiting, check_killed_clients, play_free, record, wait_for_blocked
from .wire import encode


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
            if number % 4 == 3:
                wait_for_blocked(pusher, 0)  # none of those before, or it is taken for this one
            victim = subject.connect()
            victim.send(encode("BLPOP", key, f"j{number}", "0"))
            if number % 4 == 3:
                wait_for_blocked(pusher, 1)
            if number % 2:
                victim.socket.shutdown(1)
            else:
                victim.close()
            if number % 4 == 3:
                # On another thread the push may be faster than the end of the input.
                wait_for_blocked(pusher, 0)
                pusher.command("RPUSH", key, "x")
                assert pusher.command("LLEN", key).value == 1
            victim.close()
        wait_for_blocked(pusher, 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_killed_clients_lose_no_element(start, threads):
    """They wait on several shards, while elements are pushed."""
    keys = [f"key{i}" for i in range(6)]

    def ask(rng):
        return rng.choice([
            (("BLPOP", *rng.sample(keys, 3), "0.2"), True),
            (("BLMPOP", "0.2", "3", *rng.sample(keys, 3), "LEFT", "COUNT", "2"), True),
            (("BLMOVE", *rng.sample(keys, 2), "LEFT", "RIGHT", "0.2"), False)])

    def add(rng, element):
        return rng.choice(["RPUSH", "LPUSH"]), rng.choice(keys), element

    looks = [("LRANGE", key, "0", "-1") for key in keys]
    check_killed_clients(start(proactor_threads=threads), threads, ask, add, looks)
