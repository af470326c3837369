"""XREAD and XREADGROUP that wait: who is served, with what, as from Redis."""

import pytest

from .servers import SUBJECT, Server
from .waiting import Waiting, record, wait_for_blocked
from .wire import encode

READ = ("XREAD", "BLOCK", "0", "STREAMS")


def read_group(consumer, *rest, group="g", options=()):
    return ("XREADGROUP", "GROUP", group, consumer, "BLOCK", "0", *options, "STREAMS", *rest)


TWO_READERS = [
    ("p", "XGROUP", "CREATE", "k", "g", "$", "MKSTREAM"),
    ("p", "XGROUP", "CREATE", "j", "g", "$", "MKSTREAM"),
    ("a", *read_group("x", "k", ">")),
    ("b", *read_group("y", "j", "k", ">", ">")),
    ("c", *READ, "k", "$"),
]
LEFT_OVER = [("p", "DEL", "k", "j"), ("p", "XADD", "k", "9-9", "f", "v"), ("p", "FLUSHALL")]

SCRIPTS = {
    "readers": [
        ("a", *READ, "k", "$"),
        ("b", "XREAD", "COUNT", "1", *READ[1:], "j", "k", "0", "0"),
        ("c", *READ, "k", "5-0"),
        ("p", "XADD", "k", "1-1", "f", "v"),
        ("a", *READ, "k", "$"),
        ("p", "XADD", "k", "5-0", "f", "v", "g", "w"),
        ("p", "XADD", "k", "5-1", "f", "v"),
        ("a", *READ, "j", "k", "0", "$"),
        ("p", "XADD", "j", "1-0", "f", "v"),
        ("a", *READ, "j", "k", "$", "$"),
        ("p", "LPUSH", "other", "1"),
        ("p", "XDEL", "j", "1-0"),
        ("p", "XADD", "j", "2-0", "f", "v"),
        ("p", "DEL", "j"),
        ("a", *READ, "j", "0"),
        ("p", "SET", "j", "text"),
        ("p", "DEL", "j"),
        ("p", "XADD", "j", "7-1", "f", "v"),
    ],
    "timeouts": [
        ("a", "XREAD", "BLOCK", "10", "STREAMS", "k", "10"),
        ("p", "XGROUP", "CREATE", "k", "g", "0", "MKSTREAM"),
        ("a", "XREAD", "BLOCK", "10", "STREAMS", "k", "l", "$", "10"),
        ("p", "MULTI"),
        ("p", *READ, "k", "$"),
        ("p", *read_group("x", "k", ">")),
        ("p", "EXEC"),
    ],
    "made by other commands": [
        ("p", "XADD", "other", "1-1", "f", "v"),
        ("a", *READ, "k", "$"),
        ("p", "RENAME", "other", "k"),
        ("a", *READ, "copy", "0"),
        ("p", "COPY", "k", "copy"),
        ("a", *READ, "k", "$"),
        ("p", "MULTI"),
        ("p", "XADD", "k", "2-1", "f", "v"),
        ("p", "XADD", "k", "2-2", "f", "v"),
        ("p", "EXEC"),
        ("a", *READ, "moved", "0"),
        ("p", "SELECT", "1"),
        ("p", "XADD", "moved", "1-1", "f", "v"),
        ("p", "MOVE", "moved", "0"),
        ("p", "XADD", "swapped", "1-1", "f", "v"),
        ("p", "SELECT", "0"),
        ("a", *READ, "swapped", "0"),
        ("p", "SWAPDB", "0", "1"),
    ],
    "groups": [
        ("a", *read_group("x", "k", ">")),
        *TWO_READERS,
        ("p", "XADD", "k", "1-1", "f", "v"),
        ("p", "XADD", "j", "1-1", "f", "v"),
        ("p", "XPENDING", "k", "g"),
        ("a", *read_group("x", "k", ">", options=("COUNT", "1", "NOACK"))),
        ("b", *read_group("y", "k", ">", options=("COUNT", "1"))),
        ("p", "MULTI"),
        ("p", "XADD", "k", "2-1", "f", "v"),
        ("p", "XADD", "k", "2-2", "f", "v"),
        ("p", "XADD", "k", "2-3", "f", "v"),
        ("p", "EXEC"),
        ("b", *read_group("y", "k", ">", options=("COUNT", "1"))),
        ("a", *read_group("x", "k", ">")),
        ("p", "XADD", "k", "3-1", "f", "v"),
        ("p", "XADD", "k", "3-2", "f", "v"),
        ("p", "XINFO", "GROUPS", "k"),
        ("a", *read_group("x", "k", ">")),
        ("a", *read_group("x", "k", ">")),
        ("p", "XGROUP", "SETID", "k", "g", "0"),
        ("p", "XADD", "k", "4-1", "f", "v"),
        ("p", "XINFO", "GROUPS", "k"),
    ],
    "another group goes": [
        *TWO_READERS,
        ("p", "XGROUP", "CREATE", "k", "h", "0"),
        ("p", "XGROUP", "DESTROY", "k", "h"),
        ("p", "XGROUP", "DESTROY", "j", "g"),
        ("p", "XGROUP", "CREATECONSUMER", "k", "g", "w"),
        *LEFT_OVER,
    ],
    "group goes": [*TWO_READERS, ("p", "XGROUP", "DESTROY", "k", "g"), *LEFT_OVER],
    "key goes": [*TWO_READERS, ("p", "DEL", "k"), *LEFT_OVER],
    "other key goes": [*TWO_READERS, ("p", "UNLINK", "j"), *LEFT_OVER],
    "key is overwritten": [*TWO_READERS, ("p", "SET", "k", "text"), *LEFT_OVER],
    "key is renamed": [*TWO_READERS, ("p", "RENAME", "k", "other"), *LEFT_OVER],
    "key is replaced": [
        *TWO_READERS,
        ("p", "XADD", "other", "1-1", "f", "v"),
        ("p", "RENAME", "other", "k"),
        *LEFT_OVER,
    ],
    "key is moved": [*TWO_READERS, ("p", "MOVE", "k", "1"), *LEFT_OVER],
    "all keys go": [*TWO_READERS, ("p", "FLUSHALL"), *LEFT_OVER],
    "the database goes": [*TWO_READERS, ("p", "FLUSHDB"), *LEFT_OVER],
    "databases are swapped": [*TWO_READERS, ("p", "SWAPDB", "0", "1"), *LEFT_OVER],
    "made again": [
        *TWO_READERS,
        ("p", "MULTI"),
        ("p", "DEL", "k"),
        ("p", "XADD", "k", "1-1", "f", "v"),
        ("p", "EXEC"),
        *LEFT_OVER,
    ],
    "of all kinds": [
        ("a", "BLPOP", "k", "0"),
        *TWO_READERS[:2],
        ("b", *read_group("y", "k", ">")),
        ("c", *READ, "k", "$"),
        ("d", "BZPOPMIN", "k", "0"),
        ("p", "DEL", "k"),
        ("p", "XADD", "k", "9-9", "f", "v"),
        ("p", "DEL", "k"),
        ("p", "ZADD", "k", "1", "m"),
        ("p", "RPUSH", "k", "x"),
    ],
}


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def server(request):
    threads = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    with Server(SUBJECT, **threads) as subject:
        yield subject


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts(server, redis_server, script):
    protocol = 2 + len(script) % 2
    expected = record(redis_server, SCRIPTS[script], protocol)
    for ours, theirs in zip(record(server, SCRIPTS[script], protocol), expected, strict=True):
        assert ours == theirs


def test_a_stream_that_expires_ends_the_wait_of_a_group(start):
    with Waiting(start(proactor_threads=2), 2, ["a", "p"]) as waiting:
        waiting.step("p", "XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
        waiting.step("a", *read_group("x", "k", ">"))
        waiting.step("p", "PEXPIRE", "k", "5")
        assert waiting.clients["a"].read().raw == b"-UNBLOCKED the stream key no longer exists\r\n"


def test_of_an_entry_that_went_at_once_nobody_hears(start):
    """As Redis since 7.2; 7.0 sends an empty array."""
    with Waiting(start(), 2, ["a", "p"]) as waiting:
        waiting.step("a", *READ, "k", "$")
        for line in (("MULTI",), ("XADD", "k", "1-1", "f", "v"), ("XDEL", "k", "1-1"), ("EXEC",)):
            assert "a" not in waiting.step("p", *line)
        assert waiting.step("p", "XADD", "k", "1-2", "f", "v")["a"]


def test_readers_that_hang_up_leave_the_entries_to_others(start):
    subject = start(proactor_threads=2)
    with subject.connect() as control:
        control.command("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
        client = subject.connect()
        client.send(encode(*read_group("x", "k", ">")))
        wait_for_blocked(control, 1)
        client.close()
        wait_for_blocked(control, 0)
        control.command("XADD", "k", "1-1", "f", "v")
        assert control.command("XPENDING", "k", "g").value[0] == 0
        assert control.command(*read_group("y", "k", ">")).value == [[b"k", [[b"1-1", [b"f", b"v"]]]]]


def test_the_last_entry(start):
    """The ID + of XREAD, since Redis 7.4."""
    with start().connect() as connection:
        assert connection.command("XREAD", "STREAMS", "k", "+").value is None
        connection.command("XADD", "k", "1-0", "f", "1")
        connection.command("XADD", "k", "2-0", "f", "2")
        connection.command("XADD", "k", "3-0", "f", "3")
        last = [[b"k", [[b"3-0", [b"f", b"3"]]]]]
        assert connection.command("XREAD", "STREAMS", "k", "+").value == last
        assert connection.command("XREAD", "BLOCK", "0", "COUNT", "5", "STREAMS", "k", "+").value == last
        connection.command("XDEL", "k", "3-0")
        assert connection.command("XREAD", "STREAMS", "k", "+").value == [[b"k", [[b"2-0", [b"f", b"2"]]]]]
        connection.command("XDEL", "k", "1-0", "2-0")
        assert connection.command("XREAD", "BLOCK", "1", "STREAMS", "k", "+").value is None
        connection.command("XGROUP", "CREATE", "k", "g", "0")
        reply = connection.command("XREADGROUP", "GROUP", "g", "x", "STREAMS", "k", "+")
        assert reply.raw.startswith(b"-ERR The + ID is meaningless in the context of XREADGROUP")
