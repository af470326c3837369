"""BZPOPMIN, BZPOPMAX, BZMPOP: who is served, in which order, with what, as from Redis."""

import random

import pytest

from .waiting import Waiting, check_killed_clients, play_free, record, wait_for_blocked
from .wire import encode

SCRIPTS = {
    "pops": [
        ("a", "BZPOPMIN", "k", "0"),
        ("b", "BZPOPMAX", "k", "0"),
        ("c", "BZMPOP", "0", "2", "j", "k", "MIN", "COUNT", "3"),
        ("p", "ZADD", "k", "1", "m1", "2", "m2", "2", "m22", "inf", "last", "-inf", "first", "0.1", "m01", "7", "m7"),
        ("p", "ZRANGE", "k", "0", "-1", "WITHSCORES"),
        ("a", "BZPOPMIN", "j", "k", "0"),
        ("a", "BZPOPMAX", "j", "k", "0"),
        ("a", "BZMPOP", "0", "3", "i", "j", "k", "MAX", "COUNT", "1"),
        ("b", "BZMPOP", "0", "1", "k", "MAX", "COUNT", "100"),
        ("p", "ZADD", "k", "1.5", "x", "-1", "y"),
        ("p", "EXISTS", "k"),
    ],
    "several keys": [
        ("a", "BZPOPMIN", "i", "j", "k", "l", "0"),
        ("p", "ZADD", "k", "1", "m"),
        ("p", "ZADD", "l", "1", "l"),
        ("p", "ZADD", "j", "1", "j"),
        ("a", "BZPOPMIN", "i", "j", "k", "l", "0"),
        ("a", "BZPOPMAX", "i", "l", "j", "0"),
        ("b", "BZMPOP", "0", "4", "l", "k", "j", "i", "MIN"),
        ("c", "BZPOPMIN", "j", "l", "0"),
        ("p", "ZADD", "l", "3", "x"),
        ("p", "ZADD", "l", "3", "y"),
        ("a", "BZPOPMIN", "same", "same", "0"),
        ("p", "ZADD", "same", "1", "x", "2", "y"),
        ("p", "EXISTS", "i", "j", "k", "l"),
    ],
    "order of arrival": [
        ("a", "BZPOPMIN", "k", "0"),
        ("b", "BZPOPMAX", "k", "0"),
        ("c", "BZPOPMIN", "k", "0"),
        ("p", "ZADD", "k", "1", "x"),
        ("a", "BZPOPMIN", "k", "0"),
        ("p", "ZADD", "k", "2", "y", "1", "z"),
        ("p", "ZINCRBY", "k", "3", "w"),
        ("p", "ZCARD", "k"),
        ("a", "BLPOP", "k", "0"),
        ("b", "BZPOPMIN", "k", "0"),
        ("c", "BLPOP", "k", "0"),
        ("p", "ZADD", "k", "1", "x"),
        ("p", "RPUSH", "k", "1", "2", "3"),
    ],
    "made by other commands": [
        ("p", "ZADD", "other", "1", "x", "2", "y", "3", "z", "4", "w"),
        ("a", "BZPOPMIN", "k", "0"),
        ("p", "RENAME", "other", "k"),
        ("b", "BZPOPMAX", "copy", "0"),
        ("p", "COPY", "k", "copy"),
        ("b", "BZPOPMAX", "copy", "again", "0"),
        ("p", "ZADD", "again", "NX", "CH", "5", "x"),
        ("a", "BZPOPMIN", "moved", "0"),
        ("p", "SELECT", "1"),
        ("p", "ZADD", "moved", "1", "m"),
        ("p", "MOVE", "moved", "0"),
        ("p", "ZADD", "swapped", "1", "s"),
        ("p", "SELECT", "0"),
        ("a", "BZPOPMIN", "swapped", "0"),
        ("p", "SWAPDB", "0", "1"),
        ("p", "SWAPDB", "0", "1"),
        ("a", "BZPOPMIN", "t", "0"),
        ("p", "ZADD", "t", "XX", "1", "x"),
        ("p", "ZADD", "t", "GT", "INCR", "2.5", "x"),
        ("a", "BZPOPMIN", "t", "0"),
        ("p", "RENAMENX", "k", "t"),
    ],
    "stored": [
        ("p", "ZADD", "z", "1", "x", "2", "y", "3", "z"),
        ("p", "ZADD", "empty", "1", "n"),
        ("p", "SADD", "s", "x", "w"),
        ("p", "GEOADD", "g", "13.3", "38.1", "palermo", "15.0", "37.5", "catania"),
        ("a", "BZPOPMIN", "k", "0"),
        ("b", "BZPOPMAX", "k", "0"),
        ("p", "ZUNIONSTORE", "k", "2", "z", "s", "WEIGHTS", "2", "3"),
        ("a", "BZMPOP", "0", "1", "l", "MIN", "COUNT", "2"),
        ("p", "ZINTERSTORE", "l", "2", "empty", "s"),
        ("p", "ZINTERSTORE", "l", "2", "z", "s", "AGGREGATE", "MAX"),
        ("a", "BZPOPMIN", "m", "0"),
        ("p", "ZDIFFSTORE", "m", "2", "z", "z"),
        ("p", "ZDIFFSTORE", "m", "2", "z", "s"),
        ("a", "BZPOPMIN", "n", "0"),
        ("p", "ZRANGESTORE", "n", "z", "5", "9"),
        ("p", "ZRANGESTORE", "n", "z", "0", "1", "REV"),
        ("a", "BZPOPMIN", "o", "0"),
        ("p", "SUNIONSTORE", "o", "s"),
        ("p", "SORT", "z", "ALPHA", "STORE", "o"),
        ("p", "SORT", "none", "STORE", "o"),
        ("p", "GEOSEARCHSTORE", "o", "g", "FROMLONLAT", "15", "37", "BYRADIUS", "300", "km", "ASC"),
        ("a", "BZPOPMAX", "geo", "0"),
        ("p", "GEOADD", "geo", "13.3", "38.1", "palermo"),
        ("p", "ZRANGE", "k", "0", "-1", "WITHSCORES"),
    ],
    "wrong types": [
        ("p", "SET", "s", "1"),
        ("p", "ZADD", "k", "1", "x", "2", "y"),
        ("a", "BZPOPMIN", "s", "0"),
        ("a", "BZPOPMIN", "k", "s", "0"),
        ("a", "BZPOPMAX", "s", "k", "0"),
        ("a", "BZPOPMAX", "none", "s", "k", "0"),
        ("a", "BZMPOP", "0", "2", "none", "s", "MIN"),
        ("a", "BZPOPMIN", "none", "j", "0"),
        ("p", "SET", "j", "text"),
        ("p", "DEL", "j"),
        ("p", "RPUSH", "j", "x"),
        ("p", "RENAME", "k", "j"),
        ("p", "ZRANGE", "j", "0", "-1"),
        ("a", "BZPOPMIN", "none", "0"),
        ("p", "RPUSH", "list", "1"),
        ("p", "RENAME", "list", "none"),
        ("p", "DEL", "none"),
        ("p", "ZADD", "none", "1", "x"),
    ],
    "errors and timeouts": [
        ("a", "BZPOPMIN", "none", "0.01"),
        ("a", "BZPOPMAX", "none", "nothing", "0.01"),
        ("a", "BZMPOP", "0", "1", "none", "MAX", "0.01"),
        ("p", "ZADD", "k", "1", "x", "2", "y"),
        ("a", "BZPOPMIN", "k"),
        ("a", "BZPOPMIN", "k", "x"),
        ("a", "BZPOPMIN", "k", "-1"),
        ("a", "BZPOPMIN", "k", "inf"),
        ("a", "BZPOPMIN", "k", "nan"),
        ("a", "BZPOPMAX", "k", "1e300"),
        ("a", "BZPOPMAX", "k", " 1"),
        ("a", "BZMPOP", "x", "1", "k", "MIN"),
        ("a", "BZMPOP", "-1", "1", "k", "MIN"),
        ("a", "BZMPOP", "0", "0", "k", "MIN"),
        ("a", "BZMPOP", "0", "x", "k", "MIN"),
        ("a", "BZMPOP", "0", "2", "k", "MIN"),
        ("a", "BZMPOP", "0", "1", "k", "LEFT"),
        ("a", "BZMPOP", "0", "1", "k", "MIN", "COUNT"),
        ("a", "BZMPOP", "0", "1", "k", "MIN", "COUNT", "0"),
        ("a", "BZMPOP", "0", "1", "k", "MIN", "COUNT", "-1"),
        ("a", "BZMPOP", "0", "1", "k", "MIN", "COUNT", "1", "COUNT", "2"),
        ("a", "BZMPOP", "0", "1", "k", "MIN", "COUNT", "9", "x"),
        ("a", "BZMPOP", "0", "1", "k", "mAx", "cOUNT", "9"),
        ("p", "EXISTS", "k"),
    ],
    "transactions": [
        ("a", "BZPOPMIN", "k", "0"),
        ("b", "BZPOPMAX", "k", "0"),
        ("p", "MULTI"),
        ("p", "BZPOPMIN", "none", "0"),
        ("p", "BZPOPMAX", "none", "nothing", "0"),
        ("p", "BZMPOP", "0", "1", "none", "MIN"),
        ("p", "ZADD", "k", "1", "x", "2", "y"),
        ("p", "BZPOPMIN", "none", "k", "0"),
        ("p", "ZADD", "k", "3", "z", "4", "w"),
        ("p", "BZMPOP", "0", "2", "none", "k", "MAX", "COUNT", "1"),
        ("p", "EXEC"),
        ("p", "ZRANGE", "k", "0", "-1"),
        ("a", "BZPOPMIN", "j", "0"),
        ("p", "MULTI"),
        ("p", "ZADD", "j", "1", "x"),
        ("p", "ZREM", "j", "x"),
        ("p", "EXEC"),
        ("p", "MULTI"),
        ("p", "ZADD", "j", "1", "x"),
        ("p", "DEL", "j"),
        ("p", "RPUSH", "j", "1"),
        ("p", "EXEC"),
        ("p", "MULTI"),
        ("p", "DEL", "j"),
        ("p", "ZADD", "j", "5", "x", "4", "y"),
        ("p", "ZINCRBY", "j", "-3", "x"),
        ("p", "EXEC"),
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


def test_restored(start, redis_server):
    with redis_server.connect() as client:
        client.command("DEL", "k")
        client.command("ZADD", "k", "1", "x", "2.5", "y")
        payload = client.command("DUMP", "k").value
    steps = [
        ("a", "BZPOPMIN", "k", "0"),
        ("b", "BZPOPMAX", "k", "0"),
        ("p", "RESTORE", "k", "0", payload),
        ("p", "EXISTS", "k"),
        ("a", "BZMPOP", "0", "2", "j", "k", "MAX", "COUNT", "5"),
        ("p", "SET", "k", "text"),
        ("p", "RESTORE", "k", "0", payload),
        ("p", "RESTORE", "k", "0", payload, "REPLACE"),
        ("p", "EXISTS", "k"),
    ]
    assert record(start(proactor_threads=3), steps, 2) == record(redis_server, steps, 2)


def random_steps(seed):
    """Steps of three clients that wait and one that adds; keys enough for several shards."""
    rng = random.Random(seed)
    keys = ["k0", "k1", "k2"]
    steps = []

    def pick():
        return rng.choice(keys)

    for number in range(60):
        member = f"m{rng.randrange(12)}"
        score = str(rng.randrange(-3, 4))
        if rng.randrange(8) < 3:
            # Of several keys Redis 7.0 serves the one that was written first: one key here.
            command = rng.choice([
                ("BZPOPMIN", pick(), "0"), ("BZPOPMAX", pick(), "0"),
                ("BZMPOP", "0", "1", pick(), "MAX", "COUNT", "2"), ("BZMPOP", "0", "1", pick(), "MIN")])
            steps.append((rng.choice("abc"), *command))
        else:
            steps.append(("p", *rng.choice([
                ("ZADD", pick(), score, member), ("ZADD", pick(), "1", f"n{number}", score, member),
                ("ZINCRBY", pick(), score, member), ("RENAMENX", pick(), pick()), ("ZREM", pick(), member),
                ("ZUNIONSTORE", pick(), "2", pick(), pick()), ("ZPOPMIN", pick()), ("COPY", "k0", "k1"),
                ("ZRANGE", pick(), "0", "-1", "WITHSCORES")])))
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
            waiting.step("a", "BZPOPMIN", *names, "0")
            waiting.step("p", "MULTI")
            for name in reversed(names[1:]):
                waiting.step("p", "ZADD", name, "1", name)
            received = waiting.step("p", "EXEC")
            assert received["a"] == [encode(names[1], names[1], "1")]


def test_unblock(start, redis_server):
    def ask(server):
        replies = []
        for arguments in ([], ["TIMEOUT"], ["ERROR"]):
            with Waiting(server, 3, ["a", "p"]) as waiting:
                number = waiting.clients["a"].command("CLIENT", "ID").value
                waiting.step("a", "BZMPOP", "0", "2", "k", "l", "MIN")
                replies.append(waiting.step("p", "CLIENT", "UNBLOCK", str(number), *arguments))
                replies.append(waiting.step("p", "CLIENT", "UNBLOCK", str(number), *arguments))
                replies.append(waiting.step("p", "ZADD", "k", "1", "x"))
        return replies

    assert ask(start(proactor_threads=2)) == ask(redis_server)


# ---- Clients that are gone ---------------------------------------------------------------------

@pytest.mark.parametrize("threads", [1, 3])
def test_killed_clients_lose_no_member(start, threads):
    """They wait on several shards, while members are added."""
    keys = [f"key{i}" for i in range(6)]

    def ask(rng):
        return rng.choice([
            ("BZPOPMIN", *rng.sample(keys, 3), "0.2"), ("BZPOPMAX", *rng.sample(keys, 3), "0.2"),
            ("BZMPOP", "0.2", "3", *rng.sample(keys, 3), "MIN", "COUNT", "2")]), True

    def add(rng, element):
        score = str(rng.randrange(100))
        return rng.choice([("ZADD", rng.choice(keys), score, element), ("ZINCRBY", rng.choice(keys), score, element)])

    looks = [("ZRANGE", key, "0", "-1") for key in keys]
    check_killed_clients(start(proactor_threads=threads), threads, ask, add, looks)


class Killed:
    """A client that is served and killed by one batch of another: the news of being served finds it gone.

    With one thread: what is sent home waits for the end of the batch.
    """

    def __init__(self, start, protocol=2):
        self.protocol = protocol
        self.subject = start(proactor_threads=1, notify_keyspace_events="KEA")

    def play(self, waits, before, after):
        """The keyspace events of it all, by their names."""
        with (self.subject.connect() as control, self.subject.connect(self.protocol) as victim,
              self.subject.connect() as listener):
            control.command("FLUSHALL")
            number = victim.command("CLIENT", "ID").value
            victim.send(encode(*waits))
            wait_for_blocked(control, 1)
            listener.command("PSUBSCRIBE", "__keyevent*")
            control.pipeline([*before, ("CLIENT", "KILL", "ID", number), *after])
            wait_for_blocked(control, 0)
            control.command("SET", "end", "")
            assert victim.read_until_closed() == b""
            events = []
            while (message := listener.read().value)[-1] != b"end":
                events.append(message[-2].rpartition(b":")[2].decode())
            return events

    def scores(self, key="k"):
        with self.subject.connect() as control:
            reply = control.command("ZRANGE", key, "0", "-1", "WITHSCORES").value
            return dict(zip(reply[::2], reply[1::2], strict=True))


WAITS = [("BZPOPMIN", "k", "0"), ("BZPOPMAX", "j", "k", "0"), ("BZMPOP", "0", "2", "j", "k", "MAX", "COUNT", "9")]


def event_of(waits):
    return "zpopmin" if waits[0] == "BZPOPMIN" else "zpopmax"


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("waits", WAITS)
def test_what_was_served_goes_back_with_its_scores(start, protocol, waits):
    killed = Killed(start, protocol)
    members = {b"x": b"-inf", b"y": b"2.5", b"z": b"1e+20", b"a\r\nb": b"inf", b"12": b"-17"}
    add = ("ZADD", "k", *(text for member, score in members.items() for text in (score, member)))
    events = killed.play(waits, [add], [])
    assert events == ["zadd", event_of(waits), *(["del"] if waits[0] == "BZMPOP" else []), "zadd"]
    assert {member: float(score) for member, score in killed.scores().items()} == {
        member: float(score) for member, score in members.items()}


@pytest.mark.parametrize("waits", WAITS)
def test_a_member_that_was_added_again_keeps_its_new_score(start, waits):
    killed = Killed(start)
    before = [("ZADD", "k", "1", "x")]
    so_far = ["zadd", event_of(waits), "del"]
    assert killed.play(waits, before, [("ZADD", "k", "5", "x")]) == [*so_far, "zadd"]
    assert killed.scores() == {b"x": b"5"}
    after = [("ZINCRBY", "k", "7", "x"), ("ZADD", "k", "3", "y")]
    assert killed.play(waits, before, after) == [*so_far, "zincr", "zadd"]
    assert killed.scores() == {b"x": b"7", b"y": b"3"}


def test_of_several_members_those_that_are_not_there_again_go_back(start):
    killed = Killed(start)
    everything = ("ZADD", "k", "1", "x", "2", "y", "3", "z", "4", "w")
    events = ["zadd", "zpopmax", "del", "zadd", "zadd"]
    assert killed.play(WAITS[2], [everything], [("ZADD", "k", "9", "y")]) == events
    assert killed.scores() == {b"x": b"1", b"y": b"9", b"z": b"3", b"w": b"4"}
    many = [("ZADD", "k", number, f"m{number}") for number in range(300)]
    assert killed.play(WAITS[2], [everything], [*many, ("ZADD", "k", "9", "y")]) == [*events, *300 * ["zadd"]]
    assert killed.scores() == {b"x": b"1", b"y": b"9", b"z": b"3", b"w": b"4",
                               **{b"m%d" % number: b"%d" % number for number in range(300)}}


@pytest.mark.parametrize("waits", WAITS)
def test_a_key_of_another_type_takes_nothing_back(start, waits):
    killed = Killed(start)
    events = killed.play(waits, [("ZADD", "k", "1", "x")], [("SET", "k", "text")])
    assert events == ["zadd", event_of(waits), "del", "set"]
    with killed.subject.connect() as control:
        assert control.command("GET", "k").value == b"text"


def test_what_goes_back_is_served_to_the_next(start):
    killed = Killed(start)
    with killed.subject.connect() as control, killed.subject.connect() as first, killed.subject.connect() as second:
        number = first.command("CLIENT", "ID").value
        first.send(encode(*WAITS[0]))
        wait_for_blocked(control, 1)
        second.send(encode("BZPOPMAX", "k", "0"))
        wait_for_blocked(control, 2)
        control.pipeline([("ZADD", "k", "1", "x"), ("CLIENT", "KILL", "ID", number)])
        assert second.read().value == [b"k", b"x", b"1"]
        assert control.command("EXISTS", "k").value == 0
