"""RESTORE of a large value goes in slices, and is one step all the same: here in slices of one element."""

import time

import pytest

from .servers import SUBJECT, Server, wait_until
from .test_dump import checksum
from .test_long_dumps import COUNT, COUNTING, KINDS, filling
from .test_long_group_copies import GROUPS, groups_of
from .test_long_deliveries import FILL
from .test_slices import Other, used
from .wire import encode

BUSY = b"-BUSYKEY Target key name already exists.\r\n"
OK = b"+OK\r\n"


def payload_of(connection, kind):
    connection.pipeline([("FLUSHALL",), *filling(kind)])
    return connection.command("DUMP", "k").value


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_value(sliced, kind):
    with sliced.connect() as connection:
        payload = payload_of(connection, kind)
        for options in ((), ("REPLACE",)):
            assert connection.command("RESTORE", "copy", 0, payload, *options).raw == OK
            digests = connection.command("DEBUG", "DIGEST-VALUE", "k", "copy").value
            assert digests[0] == digests[1]
            encodings = {connection.command("OBJECT", "ENCODING", key).value for key in ("k", "copy")}
            assert len(encodings) == 1
        assert connection.command("RESTORE", "copy", 0, payload).raw == BUSY


def test_groups(sliced):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, *GROUPS])
        assert connection.command("RESTORE", "b", 0, connection.command("DUMP", "a").value).raw == OK
        assert groups_of(connection, "a") == groups_of(connection, "b")
        # Entries by their time: those that XCLAIM made old come first.
        claims = [("XREADGROUP", "GROUP", "g", "new", "COUNT", 5, "CLAIM", 0, "STREAMS", key, ">") for key in "ab"]
        first, second = (reply.value[0][1] for reply in connection.pipeline(claims))
        assert [item[0] for item in first] == [item[0] for item in second]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_there_as_a_whole(sliced, kind):
    """Others get their turn, and see nothing or all of it; in a pipeline what comes behind sees all."""
    with sliced.connect() as connection, sliced.connect() as other:
        payload = payload_of(connection, kind)
        whole = connection.command(COUNTING[kind], "k").value
        for _ in range(5):
            connection.send(encode("RESTORE", "new", 0, payload) + encode(COUNTING[kind], "new"))
            seen = [other.command(COUNTING[kind], "new").value for _ in range(20)]
            assert connection.read().raw == OK
            assert connection.read().value == whole
            assert set(seen) <= {0, whole}
            assert seen == sorted(seen)
            connection.command("DEL", "new")
        assert connection.pipeline([("MULTI",), ("RESTORE", "new", 0, payload), (COUNTING[kind], "new"),
                                    ("EXEC",)])[-1].value[1] == whole


def test_others_get_their_turn(sliced):
    with sliced.connect() as connection, sliced.connect() as other:
        connection.pipeline([("FLUSHALL",), ("RPUSH", "k", *("x" * 9_000 for _ in range(3_000)))])
        payload = connection.command("DUMP", "k").value
        connection.send(encode("RESTORE", "new", 0, payload))
        turns = 0
        while not other.command("EXISTS", "new").value:
            turns += 1
        assert connection.read().raw == OK
        assert turns > 3


@pytest.mark.parametrize("options", [(), ("REPLACE",)])
def test_the_key_comes_meanwhile(sliced, options):
    """Without REPLACE what another one has put there stays."""
    with sliced.connect() as connection:
        payload = payload_of(connection, "hash")

        def restored():
            reply = connection.command("RESTORE", "new", 0, payload, *options).raw
            assert reply in ((OK,) if options else (OK, BUSY))
            return reply == OK

        with Other(sliced, [("SET", "new", "text")], [("DEL", "new")], [("GET", "none")] * 20):
            for _ in range(60):
                restored()
            # The other one may well be there each time.
            wait_until(restored)
        connection.command("DEL", "new")
        assert connection.command("RESTORE", "new", 0, payload, *options).raw == OK
        assert connection.command("HLEN", "new").value == COUNT


def test_deadlines(sliced):
    with sliced.connect() as connection:
        payload = payload_of(connection, "set")
        assert connection.command("RESTORE", "new", 50_000, payload).raw == OK
        assert 40_000 < connection.command("PTTL", "new").value <= 50_000
        assert connection.command("RESTORE", "new", 4_000_000_000_000, payload, "ABSTTL", "REPLACE").raw == OK
        assert connection.command("PEXPIRETIME", "new").value == 4_000_000_000_000
        assert connection.command("RESTORE", "new", 1, payload, "ABSTTL", "REPLACE").raw == OK
        assert connection.command("EXISTS", "new").value == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_broken_leaves_nothing(sliced, kind):
    """Found near the end, when much has been built."""
    with sliced.connect() as connection:
        payload = payload_of(connection, kind)
        body, version = payload[:-10], payload[-10:-8]
        memory = used(connection)
        for broken in (body[:-1], body[:-3], body + b"x"):
            line = ("RESTORE", "new", 0, broken + version + checksum(broken + version))
            assert connection.command(*line).raw == b"-ERR Bad data format\r\n"
        assert connection.command("RESTORE", "new", 0, payload[:-1] + bytes([payload[-1] ^ 1])).is_error
        assert connection.command("EXISTS", "new").value == 0
        deadline = time.monotonic() + 5
        while abs(used(connection) - memory) > 1_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert abs(used(connection) - memory) <= 1_000


def test_who_asks_goes(sliced):
    """It is restored all the same, as any command that has been sent whole."""
    with sliced.connect() as connection:
        payload = payload_of(connection, "list")
        with sliced.connect() as short:
            short.send(encode("RESTORE", "new", 0, payload))
        deadline = time.monotonic() + 5
        while not connection.command("EXISTS", "new").value and time.monotonic() < deadline:
            time.sleep(0.01)
        assert connection.command("LLEN", "new").value == connection.command("LLEN", "k").value


def test_large_ones_as_they_are_by_default():
    with Server(SUBJECT, proactor_threads=2) as server, server.connect() as connection:
        connection.pipeline([("ZADD", "k", *(word for i in range(1000) for word in (i * j % 977, f"member:{i}:{j}")))
                             for j in range(100)])
        payload = connection.command("DUMP", "k").value
        replies = connection.pipeline([("GET", "none"), ("RESTORE", "copy", 0, payload), ("ZCARD", "copy")])
        assert [replies[1].raw, replies[2].value] == [OK, 100_000]
        digests = connection.command("DEBUG", "DIGEST-VALUE", "k", "copy").value
        assert digests[0] == digests[1] != b"0" * 40
