"""Dragonfly's STICK, which no oracle has: what is marked, what keeps the mark, and what ends it.

That eviction passes sticky keys over is in test_maxmemory.
"""

import time

import pytest

LONG = b"a-key-that-is-stored-on-the-heap-of-the-server"
PACKED = b"seventeen-ascii-c"


def sticky(connection, *names):
    """Which of the names are sticky. Asking marks the others, so each is asked once."""
    return [connection.command("STICK", name).value == 0 for name in names]


def test_counts_what_is_marked_newly(flushed):
    with flushed.connect() as connection:
        assert connection.command("STICK", "a", "b").value == 0
        connection.command("MSET", "a", 1, "b", 2, PACKED, 3, LONG, 4)
        assert connection.command("STICK", "a").value == 1
        assert connection.command("STICK", "a", "b", "c", "b", PACKED, LONG).value == 3
        assert connection.command("STICK", "a", "b", PACKED, LONG).value == 0
        assert connection.command("MGET", "a", "b", PACKED, LONG).value == [b"1", b"2", b"3", b"4"]
        assert sorted(connection.command("KEYS", "*").value) == sorted([b"a", b"b", PACKED, LONG])
        assert connection.command("DEL", "a", "b", PACKED, LONG).value == 4
        assert connection.command("DBSIZE").value == 0


def test_keys_are_found_whatever_the_table_does(flushed):
    """The mark is a bit of the stored key: growth, splits and merges go by its hash."""
    names = [b"%s-%d" % (prefix, number) for number in range(3000) for prefix in (b"k", b"number-of", LONG)]
    with flushed.connect(timeout=60) as connection:
        connection.pipeline([("SET", name, name) for name in names[:3000]])
        assert connection.command("STICK", *names[:3000:2]).value == 1500
        connection.pipeline([("SET", name, name) for name in names[3000:]])
        assert connection.command("MGET", *names).value == names
        connection.command("DEL", *names[3000:])
        assert connection.command("STICK", *names[:3000]).value == 1500
        assert connection.command("MGET", *names[:3000]).value == names[:3000]


@pytest.mark.parametrize(
    "line",
    [("SET", "k", "new"), ("APPEND", "k", "more"), ("GETSET", "k", "v"), ("SETEX", "k", 100, "v"), ("INCR", "k"),
     ("SETRANGE", "k", 3, "x"), ("MSET", "k", 1), ("EXPIRE", "k", 100), ("SET", "k", "v", "EX", 5),
     ("SET", "k", "v", "XX"), ("DELEX", "k", "IFEQ", "none")],
)
def test_writes_keep_the_mark(flushed, line):
    with flushed.connect() as connection:
        connection.command("SET", "k", 1)
        assert connection.command("STICK", "k").value == 1
        connection.command(*line)
        assert sticky(connection, "k") == [True]


@pytest.mark.parametrize("name", ["k", PACKED, LONG])
def test_rename_copy_and_move_carry_it(flushed, name):
    with flushed.connect() as connection:
        for number in range(20):
            target = f"target{number}"
            connection.command("SET", name, 1)
            connection.command("STICK", name)
            connection.command("COPY", name, "copied" + target)
            connection.command("RENAME", name, target)
            assert sticky(connection, target, "copied" + target) == [True, True]
            connection.command("SET", name, 1)
            assert sticky(connection, name) == [False], "a new key of the old name"
            connection.command("DEL", name)
        connection.command("MOVE", "target0", 1)
        connection.command("SELECT", 1)
        assert sticky(connection, "target0") == [True]
        connection.command("SET", "plain", 1)
        connection.command("RENAME", "plain", "target0")
        assert sticky(connection, "target0") == [False], "the mark is the source's"
        connection.command("FLUSHALL")


def test_options_of_set_and_restore(flushed):
    with flushed.connect() as connection:
        assert connection.command("SET", "a", 1, "STICK").raw == b"+OK\r\n"
        assert connection.command("SET", "a", 1, "NX", "STICK").raw == b"$-1\r\n"
        assert connection.command("SET", "b", 1, "EX", 100, "stick", "GET").raw == b"$-1\r\n"
        connection.command("SET", "plain", 1)
        assert connection.command("SET", "plain", 1, "NX", "STICK").raw == b"$-1\r\n"
        assert sticky(connection, "a", "b", "plain") == [True, True, False]
        payload = connection.command("DUMP", "a").value
        assert connection.command("RESTORE", "c", 0, payload, "STICK").raw == b"+OK\r\n"
        assert connection.command("RESTORE", "d", 0, payload).raw == b"+OK\r\n"
        assert connection.command("RESTORE", "a", 0, payload, "REPLACE").raw == b"+OK\r\n"
        assert sticky(connection, "c", "d", "a") == [True, False, False]


def test_what_ends_it(flushed):
    with flushed.connect() as connection:
        connection.command("SET", "a", 1, "STICK")
        connection.command("SET", "b", 1, "STICK", "PX", 30)
        time.sleep(0.3)
        connection.command("DEL", "a")
        assert connection.command("EXISTS", "a", "b").value == 0, "a sticky key expires as others do"
        connection.command("MSET", "a", 1, "b", 1)
        assert sticky(connection, "a", "b") == [False, False]
        connection.command("FLUSHDB")
        connection.command("SET", "a", 1)
        assert sticky(connection, "a") == [False]


def test_nobody_else_notices(flushed):
    """WATCH does not fail and there is no event: the value is as it was."""
    with flushed.connect() as connection, flushed.connect() as other, flushed.connect() as listener:
        connection.command("SET", "a", 1)
        connection.command("CONFIG", "SET", "notify-keyspace-events", "EA")
        listener.command("PSUBSCRIBE", "__keyevent@0__:*")
        connection.command("WATCH", "a")
        assert other.command("STICK", "a").value == 1
        connection.command("MULTI")
        connection.command("STICK", "a", "b")
        connection.command("SET", "b", 1, "STICK")
        assert connection.command("EXEC").value == [0, b"OK"]
        connection.command("CONFIG", "SET", "notify-keyspace-events", "")
        assert listener.read().value[2:] == [b"__keyevent@0__:set", b"b"]
