"""COPY and DUMP of a stream with much that is pending go in slices, and are of one moment: here in slices of one."""

import pytest

from .test_long_deliveries import CREATE, FILL, LEFT, read
from .test_slices import Other

UNSLICED = 1_000_000
GROUPS = [CREATE, ("XGROUP", "CREATE", "a", "h", 0), ("XGROUP", "CREATE", "a", "empty", "$", "ENTRIESREAD", 7),
          ("XGROUP", "CREATECONSUMER", "a", "h", "idle"), read("ann", "COUNT", 60), read("bob", "COUNT", 60),
          read("ann"), read("cy", group="h"), ("XACK", "a", "g", "3-1", "95-1", "150-1"),
          ("XCLAIM", "a", "g", "bob", 0, "10-1", "152-1", "IDLE", 70_000), ("XACK", "a", "h", "60-1")]


def by_copy(connection):
    assert connection.command("COPY", "a", "b", "REPLACE").value == 1


def by_dump(connection):
    dump = connection.command("DUMP", "a").value
    assert connection.command("RESTORE", "b", 0, dump, "REPLACE").raw == b"+OK\r\n"


@pytest.fixture(params=[by_copy, by_dump], ids=["copy", "dump"])
def copy(request):
    return request.param


def groups_of(connection, key):
    """{group: (facts, [(consumer, pending), ...], [(ID, consumer, deliveries), ...])}"""
    found = {}
    for group in connection.command("XINFO", "GROUPS", key).value:
        facts = dict(zip(group[::2], group[1::2], strict=True))
        name = facts[b"name"]
        consumers = [tuple(item[1:4:2]) for item in connection.command("XINFO", "CONSUMERS", key, name).value]
        listed = connection.command("XPENDING", key, name, "-", "+", 10_000).value
        found[name] = (facts, consumers, [(item[0], item[1], item[3]) for item in listed])
    return found


def idle_order(connection, key):
    """IDs by the time of their delivery, as far as they differ by much."""
    listed = connection.command("XPENDING", key, "g", "-", "+", 10_000).value
    return {item[0] for item in listed if item[2] > 60_000}


def test_all_of_it(sliced, copy):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, *GROUPS])
        copy(connection)
        ours, theirs = groups_of(connection, "a"), groups_of(connection, "b")
        assert ours == theirs
        assert [len(group[2]) for group in ours.values()] == [0, LEFT - 3, LEFT - 1]
        assert idle_order(connection, "a") == idle_order(connection, "b") == {b"10-1", b"152-1"}
        # The oldest come first, in the copy as well.
        claims = [("XREADGROUP", "GROUP", "g", "new", "COUNT", 2, "CLAIM", 60_000, "STREAMS", key, ">") for key in "ab"]
        got = [[item[0] for item in reply.value[0][1]] for reply in connection.pipeline(claims)]
        assert got[0] == got[1] and len(got[0]) == 2


def test_the_same_bytes_in_slices_and_not(sliced, redis_server):
    with sliced.connect() as connection, redis_server.connect() as redis:
        connection.pipeline([("FLUSHALL",), *FILL, *GROUPS])
        dumps = []
        for limit in (1, 7, UNSLICED):
            connection.command("CONFIG", "SET", "slice-elements", limit)
            dumps.append(connection.command("DUMP", "a").value)
        connection.command("CONFIG", "SET", "slice-elements", 1)
        assert dumps[0] == dumps[1] == dumps[2]
        redis.command("FLUSHALL")
        assert redis.command("RESTORE", "a", 0, dumps[0]).raw == b"+OK\r\n"
        assert groups_of(redis, "a") == groups_of(connection, "a")


def test_pending_entries_go_together(sliced, copy):
    """Two, one near each end, are one consumer's or the other's."""
    names = ("5-1", "190-1")
    moves = [[("MULTI",), *(("XCLAIM", "a", "g", name, 0, entry, "JUSTID") for entry in names), ("EXEC",)]
             for name in ("bob", "dan")]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, *GROUPS])
        with Other(sliced, *moves, [("XGROUP", "CREATECONSUMER", "a", "g", "eve")]):
            for _ in range(30):
                copy(connection)
                listed = {item[0].decode(): item[1] for item in groups_of(connection, "b")[b"g"][2]}
                assert listed[names[0]] == listed[names[1]]


def test_groups_go_together(sliced, copy):
    """Of two groups both have an entry, or none; a third one comes and goes with its consumers."""
    back = [("XCLAIM", "a", group, "ann", 0, "100-1", "FORCE", "JUSTID") for group in "gh"]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, *GROUPS])
        with Other(sliced, [("MULTI",), *(("XACK", "a", group, "100-1") for group in "gh"), ("EXEC",)],
                   [("MULTI",), *back, ("EXEC",)],
                   [("MULTI",), ("XGROUP", "CREATE", "a", "z", 0), read("ann", group="z"), ("EXEC",)],
                   [("XGROUP", "SETID", "a", "empty", "5-1")], [("XGROUP", "DESTROY", "a", "z")],
                   [("XGROUP", "SETID", "a", "empty", "$")]):
            for _ in range(30):
                copy(connection)
                found = groups_of(connection, "b")
                has = [b"100-1" in {item[0] for item in found[group][2]} for group in (b"g", b"h")]
                assert has[0] == has[1]
                if b"z" in found:
                    assert len(found[b"z"][2]) == LEFT


def test_a_consumer_that_has_just_gone(sliced, copy):
    """With more entries than are cleared away at once."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(("XADD", "a", f"{number}-1", "f", "v") for number in range(1, 1001)),
                             CREATE])
        for _ in range(5):
            connection.pipeline([read("ann", "COUNT", 400), read("bob"), ("XGROUP", "DELCONSUMER", "a", "g", "ann")])
            copy(connection)
            assert groups_of(connection, "a") == groups_of(connection, "b")
            assert len(groups_of(connection, "b")[b"g"][2]) == 600
            connection.pipeline([("XGROUP", "DELCONSUMER", "a", "g", "bob"), ("XGROUP", "SETID", "a", "g", 0)])
            copy(connection)
            assert groups_of(connection, "b")[b"g"][1:] == ([], [])
