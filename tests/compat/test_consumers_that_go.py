"""XGROUP DELCONSUMER of a consumer with much that is pending: nobody sees what is still to be cleared away.

What comes next in a pipeline finds the group before the timer has been there.
"""

import pytest

from .differential import Duel
from .servers import SUBJECT, Server, wait_until
from .test_slices import used

COUNT = 3_000
GONE = ("XGROUP", "DELCONSUMER", "a", "g", "ann")


@pytest.fixture(scope="module", params=[1, 2], ids=["one-thread", "two-threads"])
def subject(request):
    with Server(SUBJECT, proactor_threads=request.param, slice_elements=500) as server:
        yield server


def read(consumer, *options):
    return ("XREADGROUP", "GROUP", "g", consumer, *options, "STREAMS", "a", ">")


def filling():
    """Turn by turn to three consumers, a hundred each."""
    yield ("DEL", "a", "b", "out")
    for number in range(COUNT):
        yield ("XADD", "a", f"{number + 1}-1", "n", number)
    yield ("XGROUP", "CREATE", "a", "g", 0)
    for number in range(COUNT // 100):
        yield read(("ann", "bob", "cy")[number % 3], "COUNT", 100)


LOOKS = {
    "summary": [("XPENDING", "a", "g")],
    "groups": [("XINFO", "GROUPS", "a")],
    "acknowledged": [("XACK", "a", "g", "1-1", "101-1", "2999-1")],
    "claimed": [("XCLAIM", "a", "g", "dan", 0, "1-1", "101-1", "JUSTID"),
                ("XCLAIM", "a", "g", "dan", 0, "2-1", "102-1", "JUSTID", "FORCE"), ("XACK", "a", "g", "2-1")],
    "autoclaimed": [("XAUTOCLAIM", "a", "g", "dan", 0, "50-1", "COUNT", 120, "JUSTID"),
                    ("XAUTOCLAIM", "a", "g", "dan", 0, 0, "COUNT", 10_000, "JUSTID")],
    "history": [("XREADGROUP", "GROUP", "g", consumer, "STREAMS", "a", 0) for consumer in ("bob", "ann")],
    "read again": [("XGROUP", "SETID", "a", "g", 0), read("ann", "COUNT", 150), read("cy"), ("XACK", "a", "g", "1-1")],
    "a new one": [("XADD", "a", "9999-1", "n", 1), read("ann"), ("XGROUP", "CREATECONSUMER", "a", "g", "ann")],
    "others too": [("XGROUP", "DELCONSUMER", "a", "g", "bob"), ("XGROUP", "DELCONSUMER", "a", "g", "ann"),
                   ("XGROUP", "DELCONSUMER", "a", "g", "cy"), read("ann")],
    "renamed": [("RENAME", "a", "out"), ("XPENDING", "out", "g"), ("RENAME", "out", "a")],
    "copied": [("COPY", "a", "out"), ("XPENDING", "out", "g"), ("XINFO", "GROUPS", "out")],
    "destroyed": [("XGROUP", "DESTROY", "a", "g"), ("XGROUP", "CREATE", "a", "g", 0), read("ann", "COUNT", 3)],
    "deleted": [("DEL", "a"), ("XPENDING", "a", "g"), ("EXISTS", "a")],
    "trimmed": [("XTRIM", "a", "MAXLEN", 10), ("XAUTOCLAIM", "a", "g", "dan", 0, 0, "COUNT", 1_000, "JUSTID")],
    "inside": [("MULTI",), ("XPENDING", "a", "g"), ("XAUTOCLAIM", "a", "g", "dan", 0, 0), ("EXEC",)],
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("look", LOOKS)
def test_as_in_redis(subject, redis_server, look, protocol):
    script = [*filling(), GONE, *LOOKS[look], ("XPENDING", "a", "g"), GONE]
    Duel(subject, redis_server).run(script, protocol, "pipeline")


def pending(connection, *more):
    return [item[:2] for item in connection.command("XPENDING", "a", "g", "-", "+", COUNT, *more).value]


def test_what_is_left(subject):
    with subject.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling()])
        left = [item for item in pending(connection) if item[1] != b"ann"]
        replies = connection.pipeline([GONE, ("XPENDING", "a", "g", "-", "+", COUNT)])
        assert replies[0].value == COUNT - len(left)
        assert [item[:2] for item in replies[1].value] == left
        assert pending(connection, "ann") == []


def test_xackdel_and_xdelex(subject):
    with subject.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling()])
        replies = connection.pipeline([
            GONE, ("XACKDEL", "a", "g", "ACKED", "IDS", 2, "1-1", "101-1"),
            ("XDELEX", "a", "ACKED", "IDS", 2, "2-1", "102-1"), ("XDELEX", "a", "DELREF", "IDS", 2, "3-1", "103-1"),
            ("XINFO", "GROUPS", "a")])
        assert [reply.value for reply in replies[1:4]] == [[-1, 1], [1, 2], [1, 1]]
        assert replies[4].value[0][5] == COUNT - COUNT // 3 - 2


@pytest.mark.parametrize("full", [0, 5])
def test_xinfo_full(subject, full):
    with subject.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling()])
        reply = connection.pipeline([GONE, ("XINFO", "STREAM", "a", "FULL", "COUNT", full)])[1].value
        group = dict(zip(*[iter(dict(zip(*[iter(reply)] * 2, strict=True))[b"groups"][0])] * 2, strict=True))
        assert group[b"pel-count"] == COUNT - COUNT // 3
        assert len(group[b"pending"]) == (full or COUNT - COUNT // 3)
        assert {item[1] for item in group[b"pending"]} <= {b"bob", b"cy"}


def test_claim_finds_those_that_are_there(subject):
    with subject.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling()])
        claim = ("XREADGROUP", "GROUP", "g", "dan", "CLAIM", 0, "STREAMS", "a", ">")
        entries = connection.pipeline([GONE, claim])[1].value[0][1]
        assert len(entries) == COUNT - COUNT // 3
        assert entries[0][0] == b"101-1"


def test_dumped_and_saved(subject, redis_server):
    with subject.connect() as connection, redis_server.connect() as redis:
        connection.pipeline([("FLUSHALL",), *filling()])
        redis.command("FLUSHALL")
        payload = connection.pipeline([GONE, ("DUMP", "a")])[1].value
        assert redis.command("RESTORE", "a", 0, payload).raw == b"+OK\r\n"
        assert redis.command("XPENDING", "a", "g").value == connection.command("XPENDING", "a", "g").value


def test_it_is_cleared_away(subject):
    with subject.connect() as connection:
        connection.command("FLUSHALL")
        wait_until(lambda: used(connection) < 50_000)
        connection.pipeline([*filling(), GONE, ("XGROUP", "DELCONSUMER", "a", "g", "bob"),
                             ("XGROUP", "DELCONSUMER", "a", "g", "cy")])
        # The stream alone: a pending entry takes a hundred bytes and more.
        wait_until(lambda: used(connection) < 50 * COUNT)
        assert connection.command("XLEN", "a").value == COUNT
