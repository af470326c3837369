"""Long replies of commands of several keys go in slices (XREAD; LMPOP, ZMPOP, those that would wait): here of one."""

import itertools
import threading
import time

import pytest

from .differential import Duel
from .servers import SUBJECT, Server
from .test_slices import Other, used
from .wire import encode

COUNT = 200


def entry(number, key="a", value="v"):
    return ("XADD", key, f"{number}-1", "n", number, "value", value)


def entries(key="a", count=COUNT, value="v"):
    return [entry(number, key, value) for number in range(1, count + 1)]


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def sliced(request):
    with Server(SUBJECT, proactor_threads=request.param, slice_elements=1, stream_node_max_entries=7) as server:
        yield server


def numbers(stream_entries):
    return [int(fields[1]) for _, fields in stream_entries]


# ---- XREAD ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_reads_as_redis_does(sliced, redis_server, protocol, mode):
    keys = ("a", "b", "c", "none")
    reads = [
        ("XREAD", "STREAMS", "a", 0), ("XREAD", "COUNT", 90, "STREAMS", "a", "30-1"),
        ("XREAD", "STREAMS", "a", "199-0"),
        ("XREAD", "STREAMS", *keys, 0, 0, 0, 0), ("XREAD", "COUNT", 150, "STREAMS", *keys, "100", "(1", 0, 0),
        ("XREAD", "COUNT", 7, "STREAMS", *keys, 100, 0, 0, 0), ("XREAD", "COUNT", 150, "STREAMS", *keys, 33, 5, 0, 0),
        ("XREAD", "STREAMS", "a", "a", "c", 5, 190, "$"), ("XREAD", "BLOCK", 5, "STREAMS", "none", "b", 0, 3),
        ("XREAD", "STREAMS", "c", "b", "a", "200-1", "60-1", "200"), ("XREAD", "STREAMS", "a", "s", 0, 0),
        ("XREAD", "COUNT", 0, "STREAMS", "b", "a", 4, 4), ("XREAD", "STREAMS", "e", "a", 0, 0),
        ("XREAD", "STREAMS", "b", "18446744073709551615-18446744073709551615"),
    ]
    script = [*entries("a"), *entries("b", 60), *entries("c", COUNT), entry(1, "e"), ("XDEL", "e", "1-1")]
    script += [("SET", "s", 1)]
    script += [("XDEL", "a", *(f"{number}-1" for number in (1, 2, 30, 31, 32, 33, 34, 35, 36, 37, 199, 200)))]
    for read in reads:
        script += [("INCR", "n"), read, ("INCR", "n"), ("XLEN", "a"), read]
    if mode != "spread":
        script += [("MULTI",), ("INCR", "n"), *reads[:8], ("INCR", "n"), ("EXEC",), ("GET", "n")]
    Duel(sliced, redis_server).run(script, protocol, mode)


@pytest.mark.parametrize("trimming", ["MAXLEN", "MINID"])
def test_streams_of_one_moment(sliced, trimming):
    """Two streams grow, and lose their oldest, together: both are one unbroken run to the same end."""
    stopped = threading.Event()

    def change():
        with sliced.connect() as other:
            for number in itertools.count(COUNT + 1, 2):
                if stopped.is_set():
                    return
                limit = COUNT if trimming == "MAXLEN" else f"{number + 2 - COUNT}-0"
                other.pipeline([("MULTI",), *(entry(number + i, key) for i in range(2) for key in "ab"),
                                *(("XTRIM", key, trimming, limit) for key in "ab"), ("EXEC",)])

    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *entries("a"), *entries("b")])
        thread = threading.Thread(target=change)
        thread.start()
        replies = [connection.command("XREAD", "STREAMS", "a", "b", 0, 0).value for _ in range(60)]
        stopped.set()
        thread.join()
    for (_, first), (_, second) in replies:
        found = numbers(first)
        assert found == numbers(second) == list(range(found[0], found[0] + COUNT))
        assert found[-1] % 2 == 0
    assert numbers(replies[-1][0][1])[0] > 1, "nothing has changed meanwhile"


def test_entries_deleted_by_id_meanwhile(sliced):
    stopped = threading.Event()

    def change():
        with sliced.connect() as other:
            for number in range(1, 80):
                if stopped.is_set():
                    return
                other.pipeline([("MULTI",), ("XDEL", "a", f"{number}-1"), ("XDEL", "b", f"{COUNT + 1 - number}-1"),
                                ("EXEC",)])

    with sliced.connect() as connection:
        for _ in range(4):
            connection.pipeline([("FLUSHALL",), *entries("a"), *entries("b")])
            thread = threading.Thread(target=change)
            thread.start()
            replies = [connection.command("XREAD", "STREAMS", "a", "b", 0, 0).value for _ in range(20)]
            stopped.set()
            thread.join()
            stopped.clear()
            for (_, first), (_, second) in replies:
                gone = numbers(first)[0] - 1
                assert numbers(first) == list(range(gone + 1, COUNT + 1))
                assert numbers(second) == list(range(1, COUNT + 1 - gone))


@pytest.mark.parametrize("how", ["deleted", "another", "emptied", "of another type"])
def test_a_stream_goes_meanwhile(sliced, how):
    fill = entries("b", value="b")
    going = {
        "deleted": [[("DEL", "b")]],
        "another": [[("MULTI",), ("DEL", "b"), *entries("b", value="c"), ("EXEC",)]],
        "emptied": [[("MULTI",), ("XTRIM", "b", "MAXLEN", 0), ("XSETID", "b", "0-1"), *entries("b", value="c"),
                     ("EXEC",)], [("DEL", "b")]],
        "of another type": [[("SET", "b", 1)], [("DEL", "b")]],
    }[how]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *entries("a")])
        with Other(sliced, [("MULTI",), ("DEL", "b"), *fill, ("EXEC",)], *going):
            replies = [connection.command("XREAD", "STREAMS", "a", "b", 0, 0) for _ in range(40)]
    for reply in replies:
        if how == "of another type" and reply.raw.startswith(b"-WRONGTYPE"):
            continue
        found = {key: stream_entries for key, stream_entries in reply.value}
        assert numbers(found[b"a"]) == list(range(1, COUNT + 1))
        assert len(found.get(b"b", fill)) == COUNT
        assert len({fields[3] for _, fields in found.get(b"b", [])}) <= 1


def test_a_reader_that_waits_gets_all_that_is_there(sliced):
    with sliced.connect() as connection, sliced.connect() as other:
        connection.pipeline([("FLUSHALL",), *entries("a")])
        assert len(connection.command("XREAD", "BLOCK", 0, "STREAMS", "a", "b", 0, 0).value[0][1]) == COUNT
        connection.send(encode("XREAD", "BLOCK", 0, "STREAMS", "a", "b", "$", "$"))
        time.sleep(0.05)
        other.pipeline([("MULTI",), *entries("b", 20), ("EXEC",)])
        reply = connection.read().value
        assert reply[0][0] == b"b" and len(reply[0][1]) == 20


def stats(connection):
    text = connection.command("INFO", "stats").value.decode()
    found = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    return int(found["keyspace_hits"]), int(found["keyspace_misses"])


@pytest.mark.parametrize("read", [
    ("XREAD", "STREAMS", "a", "b", "none", 0, 0, 0), ("XREAD", "COUNT", 1, "STREAMS", "a", 0),
    ("XREAD", "STREAMS", "a", "$"), ("XREAD", "STREAMS", "a", "x"), ("XREAD", "STREAMS", "a", "s", 0, 0),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", "none", 0, 0),
], ids=lambda read: " ".join(map(str, read)))
def test_hits_and_misses(sliced, redis_server, read):
    seen = []
    for server in (sliced, redis_server):
        with server.connect() as connection:
            connection.pipeline([("FLUSHALL",), *entries("a"), *entries("b"), ("SET", "s", 1),
                                 ("XGROUP", "CREATE", "a", "g", 0), ("CONFIG", "RESETSTAT")])
            connection.command(*read)
            seen.append(stats(connection))
    assert seen[0] == seen[1]


def test_a_read_that_begins_again_counts_once(sliced):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *entries("a"), *entries("b")])
        with Other(sliced, [("DEL", "b")], [("MULTI",), *entries("b", 10), ("EXEC",)]):
            connection.command("CONFIG", "RESETSTAT")
            served = [len(connection.command("XREAD", "STREAMS", "a", "b", 0, 0).value) for _ in range(30)]
            hits, misses = stats(connection)
        assert (hits, misses) == (2 * sum(served), 2 * (2 * 30 - sum(served)))


# ---- LMPOP, ZMPOP, BLMPOP, BZMPOP ----------------------------------------------------------------

ENDS = {"list": ("LEFT", "RIGHT"), "zset": ("MIN", "MAX")}


def filling(kind, key, count=COUNT):
    if kind == "list":
        return ("RPUSH", key, *(number if number % 3 else f"{key}:{number}" for number in range(count)))
    return ("ZADD", key, *(word for number in range(count) for word in (number // 2 / 4, f"{key}:{number:04d}")))


def pop_of(kind, waits, *rest):
    name = "LMPOP" if kind == "list" else "ZMPOP"
    return ("B" + name, "0.01", *rest) if waits else (name, *rest)


def whole(kind, key):
    return ("LRANGE" if kind == "list" else "ZRANGE", key, 0, -1)


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "would-wait"])
@pytest.mark.parametrize("kind", ENDS)
def test_pops_as_redis_does(sliced, redis_server, kind, waits, protocol, mode):
    """Up to four keys, of which the first ones are not there; wrong ones before and behind."""
    pops = []
    for end, count in itertools.product(ENDS[kind], (1, 2, 90, 500)):
        for keys in (("a",), ("none", "a"), ("b", "a", "c"), ("none", "b", "s", "a"), ("a", "s"), ("s", "a")):
            pops.append(pop_of(kind, waits, len(keys), *keys, end, "COUNT", count))
    script = [("SET", "s", 1)]
    for i, pop in enumerate(pops):
        if i % 4 == 0:
            script += [filling(kind, key, 120) for key in "abc"]
        script += [pop, ("EXISTS", "a", "b", "c"), *(whole(kind, key) for key in "abc"), ("INCR", "n")]
    end = ENDS[kind][0]
    if not waits:
        script += [pop_of(kind, waits, 1, "none", end, "COUNT", 10)]
    script += [pop_of(kind, waits, 1, "a", end, "COUNT", 0), pop_of(kind, waits, 1, "a", end, "COUNT", "x")]
    if mode != "spread":
        script += [filling(kind, "a"), ("MULTI",), pop_of(kind, waits, 2, "none", "a", end, "COUNT", 150),
                   pop_of(kind, waits, 2, "none", "a", end, "COUNT", 150),
                   pop_of(kind, waits, 2, "none", "a", end, "COUNT", 150), ("EXEC",)]
    Duel(sliced, redis_server).run(script, protocol, mode)


@pytest.mark.parametrize("waits", [False, True], ids=["at-once", "would-wait"])
@pytest.mark.parametrize("kind", ENDS)
def test_nothing_is_popped_twice(sliced, kind, waits):
    """Two that pop of three keys, one that adds, one that moves keys about: what comes out went in, each once."""
    pop = pop_of(kind, waits, 3, "a", "b", "c", ENDS[kind][0], "COUNT", 40)
    taken, lock, done = [], threading.Lock(), threading.Event()

    def take():
        with sliced.connect() as connection:
            while True:
                was_done = done.is_set()
                reply = connection.command(*pop).value
                if reply:
                    with lock:
                        taken.extend(member if kind == "list" else member[0] for member in reply[1])
                elif was_done:
                    return

    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        takers = [threading.Thread(target=take) for _ in range(2)]
        for taker in takers:
            taker.start()
        for number in range(1_500):
            key = "abc"[number % 3]
            connection.command(*(("RPUSH", key) if kind == "list" else ("ZADD", key, number)), f"m:{number}")
            if number % 50 == 0:
                connection.pipeline([("RENAMENX", "c", "b"), ("RENAMENX", "b", "a")])
        done.set()
        for taker in takers:
            taker.join()
    assert sorted(taken) == sorted(b"m:%d" % number for number in range(1_500))


@pytest.mark.parametrize("kind", ENDS)
def test_who_pops_goes(sliced, kind):
    pop = pop_of(kind, False, 2, "none", "a", ENDS[kind][1], "COUNT", COUNT)
    with sliced.connect() as other:
        for _ in range(20):
            other.pipeline([("FLUSHALL",), filling(kind, "a")])
            with sliced.connect() as connection:
                connection.send(encode(*pop))
        deadline = time.monotonic() + 10
        while other.command("EXISTS", "a").value:
            # The last of them has not come yet, or never came.
            if time.monotonic() > deadline - 9.5:
                other.command("FLUSHALL")
            assert time.monotonic() < deadline
        time.sleep(0.1)
        assert used(other) < 100_000


def test_who_has_waited_is_served_at_once(sliced):
    """More than a slice."""
    for kind, end in (("list", "LEFT"), ("zset", "MAX")):
        with sliced.connect() as connection, sliced.connect() as other:
            other.command("FLUSHALL")
            name, _, *words = pop_of(kind, True, 2, "none", "a", end, "COUNT", 150)
            connection.send(encode(name, 10, *words))
            time.sleep(0.05)
            other.command(*filling(kind, "a"))
            key, members = connection.read().value
            assert (key, len(members)) == (b"a", 150)
