"""Walks that are asked for much go in slices, here of one element: KEYS, SCAN, HSCAN, SSCAN, ZSCAN."""

import pytest

from .servers import wait_until
from .test_slices import Other, used
from .wire import encode

COUNT = 600


def name(number):
    return f"element:{number}"


FILLS = {
    "HSCAN": ("HSET", "a", *(word for number in range(COUNT) for word in (name(number), number))),
    "SSCAN": ("SADD", "a", *map(name, range(COUNT))),
    "ZSCAN": ("ZADD", "a", *(word for number in range(COUNT) for word in (number / 7, name(number)))),
}
WIDTH = {"HSCAN": 2, "SSCAN": 1, "ZSCAN": 2}


def scanned(connection, scan, *options, count=10**6):
    """All of it: calls, and what they brought."""
    cursor, calls, found = b"0", 0, []
    while True:
        cursor, elements = connection.command(scan, "a", cursor, "COUNT", count, *options).value
        calls += 1
        found += elements
        if cursor == b"0":
            return calls, found


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("scan", FILLS)
def test_all_of_it(sliced, redis_server, scan, protocol):
    with sliced.connect() as ours, redis_server.connect() as theirs:
        results = []
        for connection in (ours, theirs):
            connection.pipeline([("HELLO", protocol), ("FLUSHALL",), FILLS[scan]])
            plain = scanned(connection, scan)
            matching = scanned(connection, scan, "MATCH", "*:1?")
            nothing = scanned(connection, scan, "MATCH", "none*")
            some = scanned(connection, scan, count=50)
            by_member = sorted(zip(*[iter(plain[1])] * WIDTH[scan], strict=True))
            results.append((plain[0], by_member, sorted(matching[1]), nothing, sorted(some[1]) == sorted(plain[1])))
        assert results[0] == results[1]
        assert 2 < scanned(ours, scan, count=50)[0] < 30
        if scan == "HSCAN":
            assert sorted(scanned(ours, scan, "NOVALUES")[1]) == sorted(map(str.encode, map(name, range(COUNT))))


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("scan", FILLS)
def test_errors_and_neighbours(sliced_duel, scan, mode):
    script = [FILLS[scan], ("SET", "s", 1)]
    for arguments in (("a", "x"), ("a", 0, "COUNT", 0), ("a", 0, "COUNT", "x"), ("a", 0, "WHAT"), ("none", 0),
                      ("s", 0, "COUNT", 1000), ("a", 0, "MATCH", "none", "COUNT", 10_000)):
        script += [("INCR", "n"), (scan, *arguments), ("INCR", "n")]
    if mode != "spread":
        script += [("MULTI",), (scan, "a", 0, "MATCH", "none", "COUNT", 10_000), ("INCR", "n"), ("EXEC",)]
    sliced_duel.run(script, 2, mode)


@pytest.mark.parametrize("scan", FILLS)
def test_what_stays_is_found_while_others_come_and_go(sliced, scan):
    """As SCAN promises; what comes and goes may be there or not."""
    names = [f"other:{number}" for number in range(40)]
    come = {"HSCAN": ("HSET", "a", *(word for one in names for word in (one, 1))), "SSCAN": ("SADD", "a", *names),
            "ZSCAN": ("ZADD", "a", *(word for one in names for word in (1, one)))}[scan]
    go = ({"HSCAN": "HDEL", "SSCAN": "SREM", "ZSCAN": "ZREM"}[scan], "a", *names)
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), FILLS[scan]])
        with Other(sliced, [come], [go]):
            for _ in range(20):
                calls, found = scanned(connection, scan)
                members = found[::WIDTH[scan]]
                assert calls == 1
                assert {member for member in members if member.startswith(b"element")} == {
                    name(number).encode() for number in range(COUNT)}


@pytest.mark.parametrize("scan", FILLS)
def test_it_goes_meanwhile(sliced, scan):
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        with Other(sliced, [FILLS[scan]], [("DEL", "a")], [("SET", "a", 1)], [("DEL", "a")], [("LPUSH", "a", 1)],
                   [("DEL", "a")]):
            for _ in range(60):
                reply = connection.command(scan, "a", 0, "COUNT", 10_000)
                assert reply.raw.startswith(b"-WRONGTYPE") or len(reply.value[1]) in (0, COUNT * WIDTH[scan])
        for _ in range(10):
            with sliced.connect() as other:
                other.send(encode(scan, "a", 0, "COUNT", 10_000) * 3)
        connection.command("FLUSHALL")
        wait_until(lambda: used(connection) < 50_000)


@pytest.mark.parametrize("protocol", [2, 3])
def test_long_lists_of_keys(sliced, protocol):
    """More than one buffer of a reply: in order behind their header, in a pipeline and in an EXEC too."""
    names = [b"key:%d:" % number + b"x" * 200 for number in range(3_000)]
    with sliced.connect() as connection:
        connection.pipeline([("HELLO", protocol), ("FLUSHALL",),
                             ("MSET", *(word for one in names for word in (one, 1)))])
        walks = [("KEYS", "*"), ("SCAN", 0, "COUNT", 10_000), ("KEYS", "key:1*"), ("KEYS", "none"),
                 ("SCAN", 0, "COUNT", 10_000, "MATCH", "key:2*")]
        for batch in ([("INCR", "n"), *walks, ("INCR", "n")], [("MULTI",), *walks, ("EXEC",)]):
            replies = connection.pipeline([("DEL", "n"), *batch])
            values = replies[-1].value if batch[0] == ("MULTI",) else [reply.value for reply in replies[2:-1]]
            keys, everything, ones, none, twos = values
            assert sorted(key for key in keys if key != b"n") == sorted(names)
            assert everything[0] == twos[0] == b"0"
            assert sorted(key for key in everything[1] if key != b"n") == sorted(names)
            assert sorted(ones) == sorted(one for one in names if one.startswith(b"key:1"))
            assert sorted(twos[1]) == sorted(one for one in names if one.startswith(b"key:2"))
            assert none == []
        cursor, found = b"0", []
        while True:
            cursor, keys = connection.command("SCAN", cursor, "COUNT", 700).value
            found += keys
            if cursor == b"0":
                break
        assert sorted(key for key in found if key != b"n") == sorted(names)
