"""SORT and searches for positions of much go in slices, and show one moment all the same: here in slices of one."""

import random
import time

import pytest
from hypothesis import given

from . import test_geo, test_sort
from .arguments import examples, modes, protocols, sequences
from .test_slices import Other, used
from .wire import encode

COUNT = 300


# ---- SORT ----------------------------------------------------------------------------------------

@examples(60)
@given(sequence=sequences(*test_sort.COMMANDS).map(test_sort.without_dice), protocol=protocols, mode=modes)
def test_sorts_as_redis_does(sliced_duel, sequence, protocol, mode):
    lists = [("LRANGE", key, 0, -1) for key in "abcd"]
    sliced_duel.run([*test_sort.WEIGHTS, ("RPUSH", "a", 3, 1, 2, 10, 7), *sequence, *lists], protocol, mode, walk=False)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 33, 500])
def test_sorts_of_every_length(sliced_duel, count, protocol):
    numbers = [random.Random(count).randrange(count) for _ in range(count)]
    script = [("RPUSH", "a", *numbers), ("SADD", "s", *numbers),
              ("ZADD", "z", *(word for number in numbers for word in (number % 7, number)))]
    for key in "asz":
        script += [("SORT", key), ("SORT", key, "DESC", "ALPHA"), ("SORT", key, "LIMIT", 3, 20),
                   ("SORT_RO", key, "ALPHA"), ("SORT", key, "STORE", "out", "DESC"), ("LRANGE", "out", 0, -1),
                   ("SORT", key, "GET", "#", "GET", "none"),
                   ("SORT", key, "BY", "w_*", "GET", "#", "STORE", "out"), ("LLEN", "out")]
    script += [("SORT", "a", "BY", "nosort", "DESC"), ("SORT", "z", "BY", "nosort", "LIMIT", 1, 9),
               ("SORT", "s", "BY", "nosort", "STORE", "out"), ("LRANGE", "out", 0, -1), ("RPUSH", "a", "word"),
               ("SORT", "a"), ("SORT", "a", "STORE", "out"), ("LRANGE", "out", 0, -1), ("SORT", "none", "STORE", "out"),
               ("EXISTS", "out"), ("MULTI",), ("SORT", "z"), ("SORT", "a", "ALPHA"), ("EXEC",)]
    sliced_duel.run(script, protocol, walk=False)


@pytest.mark.parametrize("where", ["reply", "stored", "onto itself"])
def test_a_sort_is_of_one_moment(sliced, where):
    """Two elements come and go together."""
    order = [b"%03d" % number for number in range(COUNT)]
    with sliced.connect() as connection:
        shuffled = random.Random(1).sample(order, COUNT)
        connection.pipeline([("FLUSHALL",), ("RPUSH", "a", *shuffled)])
        changes = [[("MULTI",), ("LPUSH", "a", "x"), ("RPUSH", "a", "y"), ("EXEC",)],
                   [("MULTI",), ("LREM", "a", 0, "x"), ("LREM", "a", 0, "y"), ("EXEC",)]]
        with Other(sliced, *changes):
            for _ in range(40):
                if where == "reply":
                    found = connection.command("SORT", "a", "ALPHA").value
                else:
                    target = "out" if where == "stored" else "a"
                    stored = connection.command("SORT", "a", "ALPHA", "STORE", target).value
                    found = connection.command("LRANGE", "out", 0, -1).value if where == "stored" else None
                if found is not None:
                    assert found in (order, [*order, b"x", b"y"])
                else:
                    assert stored in (COUNT, COUNT + 2)


def test_what_is_sorted_goes(sliced):
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        fill = ("RPUSH", "a", *range(COUNT))
        with Other(sliced, [fill], [("DEL", "a")], [("SET", "a", 1)], [("DEL", "a")]):
            for _ in range(60):
                reply = connection.command("SORT", "a", "DESC")
                assert reply.raw.startswith(b"-WRONGTYPE") or len(reply.value) in (0, COUNT)
        connection.command(*fill)
        for _ in range(20):
            with sliced.connect() as other:
                other.send(encode("SORT", "a") * 2 + encode("SORT", "a", "STORE", "out"))
        connection.command("FLUSHALL")
        assert connection.command("SORT", "a").value == []


# ---- SORT with keys to look up --------------------------------------------------------------------

def looked_up(version=0, count=COUNT):
    """Weights and data of all elements; in version 1 the first and the last one change places."""
    places = list(range(count))
    if version:
        places[0], places[-1] = places[-1], places[0]
    return [("MSET", *(word for number, place in enumerate(places) for word in (f"w_{number}", place))),
            *(("HSET", f"h_{number}", "f", f"v{version}") for number in (0, count - 1))]


SORTS_OF_KEYS = {
    "reply": ("SORT", "a", "BY", "w_*", "GET", "#", "GET", "h_*->f"),
    "texts": ("SORT", "a", "BY", "w_*", "ALPHA", "GET", "#", "GET", "h_*->f"),
    "stored": ("SORT", "a", "BY", "w_*", "GET", "#", "GET", "h_*->f", "STORE", "out"),
    "no order": ("SORT", "a", "BY", "nosort", "GET", "w_*", "GET", "h_*->f"),
}


def results_of_keys(connection, where):
    reply = connection.command(*SORTS_OF_KEYS[where]).value
    return connection.command("LRANGE", "out", 0, -1).value if where == "stored" else reply


@pytest.mark.parametrize("where", SORTS_OF_KEYS)
def test_a_sort_by_keys_is_of_one_moment(sliced, where):
    """Two weights and two hashes change together, as the keys of many shards do."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), ("RPUSH", "a", *range(COUNT)), *looked_up(1)])
        expected = [results_of_keys(connection, where)]
        connection.pipeline(looked_up(0))
        expected.append(results_of_keys(connection, where))
        assert expected[0] != expected[1]
        with Other(sliced, *([("MULTI",), *looked_up(version), ("EXEC",)] for version in (1, 0))):
            for _ in range(30):
                assert results_of_keys(connection, where) in expected
        with Other(sliced, [("INCR", "w_x")], [("INCR", "other")]):
            for _ in range(10):
                assert results_of_keys(connection, where) == expected[1]


def test_keys_that_are_looked_up_expire_together(sliced):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), ("RPUSH", "a", *range(COUNT))])
        for attempt in range(15):
            connection.pipeline(looked_up())
            due = int(time.time() * 1000) + attempt
            for number in (0, COUNT // 2, COUNT - 1):
                connection.command("PEXPIREAT", f"w_{number}", due)
            found = connection.command("SORT", "a", "BY", "nosort", "GET", "w_*").value
            assert [found[number] is None for number in (0, COUNT // 2, COUNT - 1)] in ([True] * 3, [False] * 3)
            while connection.command("EXISTS", "w_0").value:
                pass
            assert connection.command("SORT", "a", "BY", "nosort", "GET", "w_*").value.count(None) == 3


@pytest.mark.parametrize("flush", [("FLUSHDB",), ("SWAPDB", 0, 1)])
def test_databases_go_while_keys_are_looked_up(sliced, flush):
    everything = [("RPUSH", "a", *range(COUNT)), *looked_up()]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *everything])
        back = [("MULTI",), *everything, ("EXEC",)] if flush[0] == "FLUSHDB" else [flush]
        with Other(sliced, [flush], back):
            for _ in range(30):
                found = connection.command("SORT", "a", "BY", "nosort", "GET", "w_*").value
                assert found in ([], [b"%d" % number for number in range(COUNT)])


def test_what_is_looked_up_counts_once(sliced):
    """However often it began again."""
    def hits():
        fields = connection.command("INFO", "stats").value.decode().split("\r\n")
        return [int(line.split(":")[1]) for line in fields if line.startswith("keyspace_")]

    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), ("RPUSH", "a", *range(COUNT)), *looked_up(), ("CONFIG", "RESETSTAT")])
        with Other(sliced, [("SET", "w_0", 0)]):
            for _ in range(10):
                connection.command("SORT", "a", "BY", "w_*", "GET", "h_*->f", "GET", "#")
        assert hits() == [10 * (1 + COUNT + 2), 10 * (COUNT - 2)]


def test_many_patterns_at_once(sliced_duel):
    gets = [word for number in range(70) for word in ("GET", f"w_*{number % 3 or ''}")]
    sliced_duel.run([("RPUSH", "a", *range(60)), *looked_up(count=50), ("SORT", "a", *gets), ("SORT", "a", *gets[:60]),
                     ("SORT", "a", *gets, "STORE", "out"), ("LRANGE", "out", 0, -1)], 2, walk=False)


def test_who_sorts_by_keys_goes(sliced):
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), ("RPUSH", "a", *range(COUNT)), *looked_up()])
        before = used(other)
        for _ in range(20):
            with sliced.connect() as connection:
                connection.send(encode(*SORTS_OF_KEYS["reply"]) * 2 + encode(*SORTS_OF_KEYS["stored"]))
        assert len(other.command(*SORTS_OF_KEYS["reply"]).value) == 2 * COUNT
        other.command("DEL", "out")
        assert abs(used(other) - before) < 50_000


# ---- Positions -----------------------------------------------------------------------------------

@examples(60)
@given(sequence=sequences(*test_geo.COMMANDS), protocol=protocols, mode=modes)
def test_searches_as_redis_does(sliced_duel, sequence, protocol, mode):
    sliced_duel.run([*test_geo.WORLD, *sequence], protocol, mode)


def places(count=COUNT, key="a"):
    draw = random.Random(count)
    return ("GEOADD", key, *(word for number in range(count) for word in
                             (round(draw.uniform(-179, 179), 5), round(draw.uniform(-84, 84), 5), f"place:{number}")))


SEARCHES = [
    ("GEOSEARCH", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 25_000, "km"),
    ("GEOSEARCH", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 3_000, "km", "ASC", "WITHDIST", "WITHCOORD", "WITHHASH"),
    ("GEOSEARCH", "a", "FROMMEMBER", "place:7", "BYBOX", 9_000, 4_000, "km", "DESC", "WITHDIST"),
    ("GEOSEARCH", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 9_000, "mi", "COUNT", 20, "WITHDIST"),
    ("GEOSEARCH", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 9_000, "mi", "COUNT", 20, "ANY"),
    ("GEOSEARCH", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 1, "m"),
    ("GEOSEARCH", "a", "FROMMEMBER", "nobody", "BYRADIUS", 1, "m"),
    ("GEORADIUS", "a", 10, 50, 8_000, "km", "WITHDIST", "ASC"), ("GEORADIUS_RO", "a", 10, 50, 8_000, "km", "COUNT", 3),
    ("GEORADIUSBYMEMBER", "a", "place:9", 8_000, "km"), ("GEORADIUSBYMEMBER_RO", "a", "place:9", 8_000, "km", "DESC"),
]
STORES = [
    ("GEOSEARCHSTORE", "out", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 9_000, "km"),
    ("GEOSEARCHSTORE", "out", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 9_000, "km", "COUNT", 30, "STOREDIST"),
    ("GEOSEARCHSTORE", "out", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 1, "m"),
    ("GEORADIUS", "a", 10, 50, 8_000, "km", "STORE", "out"),
    ("GEORADIUSBYMEMBER", "a", "place:3", 8_000, "km", "STOREDIST", "out"),
    ("GEOSEARCHSTORE", "a", "a", "FROMLONLAT", 10, 50, "BYRADIUS", 7_000, "km"),
]


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_long_searches_as_redis_does(sliced_duel, protocol, mode):
    script = [places(), ("SET", "s", 1)]
    for search in SEARCHES:
        script += [("INCR", "n"), search, ("INCR", "n"), (search[0], "none", *search[2:]),
                   (search[0], "s", *search[2:])]
    for store in STORES:
        script += [store, ("ZRANGE", "out", 0, -1, "WITHSCORES"), ("ZCARD", "a"), ("EXISTS", "out")]
    if mode != "spread":
        script += [places(), ("MULTI",), *SEARCHES, *STORES, ("EXEC",)]
    sliced_duel.run(script, protocol, mode)


@pytest.mark.parametrize("where", ["reply", "sorted", "radius", "stored"])
def test_a_search_is_of_one_moment(sliced, where):
    search = {
        "reply": ("GEOSEARCH", "a", "FROMLONLAT", 0, 0, "BYRADIUS", 30_000, "km"),
        "sorted": ("GEOSEARCH", "a", "FROMLONLAT", 0, 0, "BYRADIUS", 30_000, "km", "ASC"),
        "radius": ("GEORADIUS", "a", 0, 0, 30_000, "km"),
        "stored": ("GEOSEARCHSTORE", "out", "a", "FROMLONLAT", 0, 0, "BYRADIUS", 30_000, "km"),
    }[where]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), places()])
        with Other(sliced, [("GEOADD", "a", -170, -80, "x", 170, 80, "y")], [("ZREM", "a", "x", "y")]):
            sizes = []
            for _ in range(40):
                reply = connection.command(*search).value
                sizes.append(reply if where == "stored" else len(set(reply)))
        assert set(sizes) <= {COUNT, COUNT + 2}
        with Other(sliced, [("DEL", "a")], [places()]):
            for _ in range(40):
                reply = connection.command(*search).value
                assert (reply if where == "stored" else len(reply)) in (0, COUNT)


def test_who_searches_goes(sliced):
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), places()])
        before = used(other)
        for _ in range(20):
            with sliced.connect() as connection:
                connection.send(encode(*SEARCHES[1]) * 2 + encode(*STORES[0]))
        assert len(other.command(*SEARCHES[0]).value) == COUNT
        other.command("DEL", "out")
        assert abs(used(other) - before) < 50_000
