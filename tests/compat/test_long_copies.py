"""COPY of much goes in slices, and makes one moment's copy all the same: here in slices of one member."""

import time

import pytest

from .differential import Duel
from .servers import SUBJECT, Server
from .test_long_reads import PAIRS, WHOLE, filling
from .test_slices import Other, used

COUNT = 300
KINDS = ["list", "hash", "set", "zset", "stream"]
READS = {**{kind: WHOLE[kind] for kind in KINDS[:4]}, "stream": ("XRANGE", "a", "-", "+")}
CHANGES = {**{kind: PAIRS[kind] for kind in KINDS[:4]},
           "stream": ([("XADD", "a", "*", "x", 1)], [("XTRIM", "a", "MAXLEN", COUNT)])}
HOME = {"hash": "hashtable", "set": "hashtable", "zset": "skiplist", "list": "quicklist", "stream": "stream"}


def filled(kind, count=COUNT, key="a"):
    """Commands that make it, of large encoding."""
    if kind == "stream":
        return [("XADD", key, f"{number}-1", "n", number, "value", "v") for number in range(1, count + 1)]
    name, _, *words = filling(kind, count)
    return [(name, key, *words)]


def whole(kind, key):
    return (READS[kind][0], key, *READS[kind][2:])


def content(connection, kind, key):
    value = connection.command(*whole(kind, key)).value
    if kind == "hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    return sorted(value) if kind == "set" else value


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def sliced(request):
    with Server(SUBJECT, proactor_threads=request.param, slice_elements=1, stream_node_max_entries=7) as server:
        yield server


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_as_redis_does(sliced, redis_server, kind, protocol):
    script = [*filled(kind), ("SET", "s", 1), ("EXPIREAT", "a", 9_999_999_999)]
    read = (lambda key: whole(kind, key)) if kind not in ("set", "hash") else \
        lambda key: ("SCARD" if kind == "set" else "HLEN", key)
    for copy in [("COPY", "a", "b"), ("COPY", "a", "b"), ("COPY", "a", "b", "REPLACE"), ("COPY", "a", "s"),
                 ("COPY", "a", "s", "REPLACE"), ("COPY", "none", "c"), ("COPY", "a", "a"), ("COPY", "a", "b", "DB", 3),
                 ("COPY", "a", "b", "DB", 3), ("COPY", "a", "a", "DB", 3, "REPLACE"), ("COPY", "a", "a", "DB", 3),
                 ("COPY", "a", "b", "NX"), ("COPY", "a", "b", "DB", 99), ("COPY", "a", "b", "DB", "x")]:
        script += [copy, *(("TYPE", key) for key in "abs"), read("b"), ("EXPIRETIME", "b"), ("DBSIZE",)]
    script += [("DEL", "a"), read("b"), ("OBJECT", "ENCODING", "b"), ("SELECT", 3), read("a"), read("b"), ("DBSIZE",),
               ("SELECT", 0), ("MULTI",), ("COPY", "b", "c"), read("c"), ("COPY", "c", "b"), ("EXEC",), ("DBSIZE",)]
    Duel(sliced, redis_server).run(script, protocol)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_equal(sliced, kind):
    with sliced.connect() as connection:
        for count in (1, 2, 130, 3_000):
            connection.pipeline([("FLUSHALL",), *filled(kind, count)])
            assert connection.command("COPY", "a", "b").value == 1
            assert content(connection, kind, "a") == content(connection, kind, "b")
            encodings = {connection.command("OBJECT", "ENCODING", key).value for key in "ab"}
            assert len(encodings) == 1
            if count > 600:
                assert encodings == {HOME[kind].encode()}
            for command in CHANGES[kind]:
                connection.pipeline(command)
            if kind != "stream":
                assert content(connection, kind, "a") == content(connection, kind, "b")
            connection.command("DEL", "a")
            connection.command("COPY", "b", "a")
            assert content(connection, kind, "a") == content(connection, kind, "b")


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_of_one_moment(sliced, kind):
    """Two elements come and go together."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filled(kind)])
        factor = 2 if kind == "hash" else 1
        seen = set()
        with Other(sliced, *CHANGES[kind]):
            for _ in range(60):
                assert connection.command("COPY", "a", "b", "REPLACE").value == 1
                seen.add(len(connection.command(*whole(kind, "b")).value) // factor)
        assert seen <= ({COUNT, COUNT + 1} if kind == "stream" else {COUNT, COUNT + 2})


@pytest.mark.parametrize("database", [0, 5])
@pytest.mark.parametrize("kind", ["list", "zset"])
def test_the_destination_comes_and_goes(sliced, kind, database):
    """It is never overwritten without REPLACE, in another database neither."""
    with sliced.connect() as connection, sliced.connect() as other:
        connection.pipeline([("FLUSHALL",), *filled(kind)])
        connection.command("SELECT", database)
        select = [("SELECT", database), ("SET", "b", "text"), ("SELECT", 0)]
        with Other(sliced, select, [("SELECT", database), ("DEL", "b"), ("SELECT", 0)]):
            other.command("SELECT", 0)
            copied = 0
            for _ in range(60):
                if other.command("COPY", "a", "b", *(("DB", database) if database else ())).value:
                    copied += 1
                    kept = connection.pipeline([("MULTI",), ("TYPE", "b"), ("DEL", "b"), ("EXEC",)])[3].value
                    # Its copy, or what came when its copy had been deleted.
                    assert kept[0] in (b"string", b"none", kind.encode())
        connection.pipeline([("DEL", "b"), ("SELECT", 0)])
        assert other.command("COPY", "a", "b", *(("DB", database) if database else ())).value == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_goes(sliced, kind):
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        with Other(sliced, [("MULTI",), *filled(kind), ("EXEC",)], [("DEL", "a")]):
            for _ in range(60):
                if connection.command("COPY", "a", "b", "REPLACE").value:
                    size = len(connection.command(*whole(kind, "b")).value)
                    assert size == COUNT * (2 if kind == "hash" else 1)
        connection.command("FLUSHALL")
        time.sleep(0.1)
        assert used(connection) < 150_000


def test_deadlines_of_members(sliced):
    with sliced.connect() as connection:
        fields = [f"field:{number}" for number in range(0, COUNT, 3)]
        connection.pipeline([
            ("FLUSHALL",), *filled("hash"), ("HPEXPIRE", "a", 60_000, "FIELDS", len(fields), *fields),
            ("SADDEX", "s", 100, *(f"timed:{number}" for number in range(150))),
            ("SADD", "s", *(f"member:{number}" for number in range(150)))])
        assert [connection.command("COPY", *keys).value for keys in (("a", "b"), ("s", "t"))] == [1, 1]
        all_fields = [f"field:{number}" for number in range(COUNT)]
        times = [connection.command("HPEXPIRETIME", key, "FIELDS", COUNT, *all_fields).value for key in "ab"]
        assert times[0] == times[1] and times[0].count(-1) == COUNT - len(fields)
        for member, has_deadline in (("timed:7", True), ("member:7", False)):
            left = [connection.command("FIELDTTL", key, member).value for key in "st"]
            assert (left[0] == left[1] or abs(left[0] - left[1]) <= 1) and (left[1] > 0) is has_deadline


def test_groups_of_streams(sliced):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filled("stream"), ("XGROUP", "CREATE", "a", "g", 0),
                             ("XREADGROUP", "GROUP", "g", "c", "COUNT", 50, "STREAMS", "a", ">")])
        assert connection.command("COPY", "a", "b").value == 1
        for question in (("XPENDING", "{}", "g"), ("XINFO", "STREAM", "{}"), ("XPENDING", "{}", "g", "-", "+", 100)):
            replies = [connection.command(*(word.replace("{}", key) if isinstance(word, str) else word
                                            for word in question)).value for key in "ab"]
            if question[-1] == 100:
                replies = [[(entry[0], entry[1], entry[3]) for entry in reply] for reply in replies]
            if question[0] == "XINFO":
                replies = [[*reply[:2], *reply[6:]] for reply in replies]
            assert replies[0] == replies[1]
