"""Expiry: nothing is seen after its time, and memory is freed soon after, without being asked for."""

import time

import pytest

from .wire import ReplyTimeout

SETTERS = [
    lambda key, ms: [("SET", key, 1, "PX", ms)],
    lambda key, ms: [("PSETEX", key, ms, 1)],
    lambda key, ms: [("SET", key, 1), ("PEXPIRE", key, ms)],
    lambda key, ms: [("SET", key, 1), ("PEXPIREAT", key, int(time.time() * 1000) + ms)],
    lambda key, ms: [("SET", key, 1), ("GETEX", key, "PX", ms)],
    lambda key, ms: [("SET", key, 1, "PXAT", int(time.time() * 1000) + ms)],
]


@pytest.mark.parametrize("setter", SETTERS)
def test_seen_before_and_not_after(flushed, setter):
    with flushed.connect() as connection:
        begin = time.monotonic()
        for line in setter("short", 400):
            assert not connection.command(*line).is_error
        set_at = time.monotonic()
        reply = connection.command("GET", "short").raw
        if time.monotonic() - begin < 0.35:
            assert reply == b"$1\r\n1\r\n"
        time.sleep(max(0, 0.405 - (time.monotonic() - set_at)))
        assert connection.command("GET", "short") == b"$-1\r\n"
        assert connection.command("TTL", "short").value == -2


READERS = [
    (("GET", "due"), b"$-1\r\n"),
    (("EXISTS", "due", "due"), b":0\r\n"),
    (("TYPE", "due"), b"+none\r\n"),
    (("TTL", "due"), b":-2\r\n"),
    (("PEXPIRETIME", "due"), b":-2\r\n"),
    (("STRLEN", "due"), b":0\r\n"),
    (("MGET", "due", "due"), b"*2\r\n$-1\r\n$-1\r\n"),
    (("TOUCH", "due"), b":0\r\n"),
    (("OBJECT", "ENCODING", "due"), b"$-1\r\n"),
    (("GETRANGE", "due", 0, -1), b"$0\r\n\r\n"),
    (("DEL", "due"), b":0\r\n"),
    (("UNLINK", "due"), b":0\r\n"),
    (("PERSIST", "due"), b":0\r\n"),
    (("EXPIRE", "due", 100), b":0\r\n"),
    (("RENAME", "due", "x"), b"-ERR no such key\r\n"),
    (("COPY", "due", "x"), b":0\r\n"),
    (("MOVE", "due", 1), b":0\r\n"),
    (("KEYS", "*"), b"*0\r\n"),
    (("RANDOMKEY",), b"$-1\r\n"),
    (("SCAN", 0, "COUNT", 1000), b"*2\r\n$1\r\n0\r\n*0\r\n"),
    (("GETDEL", "due"), b"$-1\r\n"),
    (("GETSET", "due", 1), b"$-1\r\n"),
    (("SETNX", "due", 1), b":1\r\n"),
    (("SET", "due", 1, "XX"), b"$-1\r\n"),
    (("SET", "due", 1, "NX", "GET"), b"$-1\r\n"),
    (("INCR", "due"), b":1\r\n"),
    (("APPEND", "due", "ab"), b":2\r\n"),
    (("MSETNX", "due", 1, "x", 1), b":1\r\n"),
    (("SETBIT", "due", 0, 1), b":0\r\n"),
    (("RENAMENX", "there", "due"), b":1\r\n"),
]


@pytest.mark.parametrize("active", [True, False])
def test_nothing_sees_a_key_that_is_due(start, active):
    """Lazy expiry of each command, with and without the background."""
    server = start()
    with server.connect() as connection:
        connection.command("DEBUG", "SET-ACTIVE-EXPIRE", int(active))
        for line, expected in READERS:
            connection.command("FLUSHALL")
            if line[0] == "RENAMENX":
                connection.command("SET", "there", 1)
            connection.command("SET", "due", 5, "PX", 1)
            time.sleep(0.004)
            assert connection.command(*line) == expected, line
            if not expected.startswith(b":1") and line[0] not in ("GETSET",):
                assert connection.command("EXISTS", "due").value in (
                    0,
                    int(line[0] in ("APPEND", "SETBIT", "SET")),
                ), line


def test_keys_expire_again_when_a_pause_is_over(start):
    """It ends by its time; nobody has to say so."""
    with start().connect() as connection:
        connection.pipeline([("SET", "due", 1, "PX", 1), ("CLIENT", "PAUSE", 50, "WRITE")])
        deadline = time.monotonic() + 20
        while connection.command("DBSIZE").value:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_old_ttl_does_not_survive_a_new_value(flushed):
    with flushed.connect() as connection:
        for line in [
            ("SET", "a", 2),
            ("GETSET", "a", 3),
            ("MSET", "a", 4),
            ("COPY", "other", "a", "REPLACE"),
            ("RENAME", "other", "a"),
        ]:
            connection.pipeline([("SET", "other", 1), ("SET", "a", 1, "PX", 30), line])
            assert connection.command("TTL", "a").value == -1, line
        time.sleep(0.05)
        assert connection.command("EXISTS", "a").value == 1
        for line in [("INCR", "a"), ("APPEND", "a", 1), ("SETRANGE", "a", 0, 1), ("SET", "a", 1, "KEEPTTL")]:
            connection.pipeline([("SET", "a", 1, "PX", 3000), line])
            assert connection.command("TTL", "a").value > 0, line


def test_freed_on_time_without_access(start):
    """20,000 keys due at about the same time are gone soon after, though nobody asks for them."""
    server = start()
    with server.connect(timeout=60) as connection:
        due = int(time.time() * 1000) + 1500
        for begin in range(0, 20_000, 2000):
            connection.pipeline(
                [
                    ("SET", f"due:{index}", "x" * 50, "PXAT", due + index % 200)
                    for index in range(begin, begin + 2000)
                ]
            )
        connection.pipeline([("SET", f"staying:{index}", 1) for index in range(1000)])
        assert time.time() * 1000 < due, "the machine is too slow for this test"
        assert connection.command("DBSIZE").value == 21_000
        while connection.command("DBSIZE").value > 1000:
            assert time.time() * 1000 < due + 200 + 3000, "not freed in time"
            time.sleep(0.005)
        lag = time.time() * 1000 - (due + 200)
        if server.kind == "dfly":
            assert lag < 500, f"the last key was freed {lag:.0f} ms late"
        info = connection.command("INFO", "stats").value
        assert b"expired_keys:20000\r\n" in info


def test_far_and_near_mixed(start):
    """A near expiry among many far ones is still on time."""
    server = start()
    with server.connect(timeout=60) as connection:
        connection.pipeline([("SET", f"far:{index}", 1, "EX", 10_000 + index) for index in range(20_000)])
        connection.command("SET", "near", 1, "PX", 200)
        assert connection.command("DBSIZE").value == 20_001
        time.sleep(0.2)
        begin = time.monotonic()
        while connection.command("DBSIZE").value > 20_000:
            assert time.monotonic() - begin < (0.5 if server.kind == "dfly" else 120)
            time.sleep(0.005)


def test_expiry_while_pipelines_run(flushed):
    """Values that expire all the time under load: a read gives the value or nothing."""
    with flushed.connect(timeout=30) as connection:
        for round_number in range(20):
            lines = []
            for index in range(200):
                lines += [("SET", f"x:{index}", round_number, "PX", 1 + index % 5), ("GET", f"x:{index}")]
            replies = connection.pipeline(lines)
            assert {reply.value for reply in replies[1::2]} <= {b"%d" % round_number, None}
        try:
            time.sleep(0.05)
            assert connection.command("MGET", *(f"x:{index}" for index in range(200))).value == [None] * 200
        except ReplyTimeout:
            flushed.lost("hangs")
