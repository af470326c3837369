"""Dragonfly's RM, which no oracle has: SCAN that deletes."""

import threading
import time

import pytest

from .test_scan_guarantee import LIMIT, names_of


def remove(connection, *options):
    """The whole iteration; how many were deleted, and in how many calls."""
    cursor, deleted, calls = b"0", 0, 0
    while True:
        cursor, count = connection.command("RM", cursor, *options).value
        assert isinstance(count, int) and int(cursor) < LIMIT
        deleted += count
        calls += 1
        if cursor == b"0":
            return deleted, calls
        assert calls < 100_000, "the iteration does not end"


@pytest.mark.parametrize("protocol", [2, 3])
def test_reply(flushed, protocol):
    with flushed.connect(protocol) as connection:
        connection.command("MSET", "key:1", "a", "key:2", "b", "key:3", "c", "other", "d")
        assert connection.command("RM", 0, "MATCH", "key:*", "COUNT", 100).raw == b"*2\r\n$1\r\n0\r\n:3\r\n"
        assert connection.command("KEYS", "*").value == [b"other"]
        assert connection.command("RM", 0, "MATCH", "key:*").raw == b"*2\r\n$1\r\n0\r\n:0\r\n"


def test_type_and_pattern(flushed):
    with flushed.connect() as connection:
        for number in range(50):
            connection.command("SET", f"s:{number}", 1)
            connection.command("RPUSH", f"l:{number}", *range(200))
            connection.command("HSET", f"h:{number}", "f", "v")
        assert remove(connection, "TYPE", "list", "MATCH", "?:1*")[0] == 11
        assert remove(connection, "TYPE", "LIST")[0] == 39
        assert remove(connection, "TYPE", "stream")[0] == 0
        assert connection.command("DBSIZE").value == 100
        assert remove(connection)[0] == 100
        assert connection.command("DBSIZE").value == 0


def test_count_limits_a_call(flushed):
    names = names_of(b"key", 5000)
    with flushed.connect(timeout=30) as connection:
        connection.pipeline([("SET", name, 1) for name in names])
        deleted, calls = remove(connection, "COUNT", 100)
        assert deleted == 5000 and 20 <= calls <= 60
        connection.pipeline([("SET", name, 1) for name in names])
        assert remove(connection, "COUNT", 100_000) == (5000, 1)


def test_errors(flushed):
    with flushed.connect() as connection:
        connection.command("SET", "a", 1)
        for line, error in [
            (("x",), "ERR invalid cursor"),
            ((0, "COUNT", 0), "ERR syntax error"),
            ((0, "COUNT", "x"), "ERR value is not an integer or out of range"),
            ((0, "MATCH"), "ERR syntax error"),
            ((0, "STICK", "x"), "ERR syntax error"),
            ((), "ERR wrong number of arguments for 'rm' command"),
        ]:
            assert connection.command("RM", *line).raw == b"-" + error.encode() + b"\r\n"
        assert connection.command("DBSIZE").value == 1


def test_deletion_is_seen_as_any_other(flushed):
    """Events, WATCH, and what has expired is not counted."""
    with flushed.connect() as connection, flushed.connect() as listener, flushed.connect() as watcher:
        connection.command("CONFIG", "SET", "notify-keyspace-events", "Eg")
        listener.command("PSUBSCRIBE", "__keyevent@0__:del")
        connection.command("MSET", "a", 1, "b", 2)
        connection.command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        connection.command("SET", "gone", 1, "PX", 1)
        time.sleep(0.02)
        watcher.command("WATCH", "b")
        assert remove(connection)[0] == 2
        connection.command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        connection.command("CONFIG", "SET", "notify-keyspace-events", "")
        assert {listener.read().value[-1] for _ in range(2)} == {b"a", b"b"}
        watcher.command("MULTI")
        watcher.command("PING")
        assert watcher.command("EXEC").value is None


def test_inside_exec(flushed):
    with flushed.connect() as connection:
        connection.command("MSET", *(word for name in names_of(b"key", 100) for word in (name, 1)))
        connection.command("MULTI")
        connection.command("RM", 0, "COUNT", 1000)
        connection.command("DBSIZE")
        assert connection.command("EXEC").value == [[b"0", 100], 0]


def test_what_stays_throughout_is_removed(flushed):
    """While others write, so that the tables split and merge below the cursor."""
    staying = names_of(b"staying", 3000)
    stop = threading.Event()

    def write():
        names = names_of(b"wave", 20_000)
        with flushed.connect(timeout=60) as connection:
            while not stop.is_set():
                connection.pipeline([("SET", name, 1) for name in names])
                connection.command("DEL", *names)

    writer = threading.Thread(target=write)
    with flushed.connect(timeout=60) as connection:
        writer.start()
        try:
            for _ in range(3):
                connection.pipeline([("SET", name, 1) for name in staying])
                assert remove(connection, "MATCH", "staying:*", "COUNT", 50)[0] == 3000
        finally:
            stop.set()
            writer.join()
