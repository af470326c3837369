"""FIELDEXPIRE and FIELDTTL, which act on hashes and sets as Dragonfly documents them (none of the oracles has them)."""

import time

import pytest

from .test_lists import wait_until


@pytest.fixture(params=[1, 3])
def server(request, start):
    return start(proactor_threads=request.param)


@pytest.fixture
def connection(server):
    with server.connect() as connection:
        yield connection


def value(connection, *words):
    return connection.command(*words).value


COLLECTIONS = {"hash": ("HSET", "k", "a", "1", "b", "2", "7", "3"), "integers": ("SADD", "k", "7", "8"),
               "compact": ("SADD", "k", "a", "b", "7"), "table": ("SADD", "k", "a", "7", "x" * 200)}


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_replies(connection, kind):
    connection.command(*COLLECTIONS[kind])
    assert value(connection, "FIELDTTL", "k", "7") == -1
    assert value(connection, "FIELDTTL", "k", "nosuch") == -3
    assert value(connection, "FIELDTTL", "nosuch", "7") == -2
    assert value(connection, "FIELDEXPIRE", "k", 100, "7", "nosuch", "7") == [1, -2, 1]
    assert value(connection, "FIELDEXPIRE", "nosuch", 100, "7", "8") == [-2, -2]
    assert value(connection, "FIELDTTL", "k", "7") == 100
    assert value(connection, "OBJECT", "ENCODING", "k") == b"hashtable"
    assert value(connection, "FIELDEXPIRE", "k", 1 << 40, "7") == [1]
    assert value(connection, "FIELDTTL", "k", "7") == 1 << 40
    assert value(connection, "EXISTS", "k", "nosuch") == 1


def test_errors(connection):
    connection.command("SET", "s", "x")
    connection.command("HSET", "h", "f", "x")
    for bad in ("0", "-1", "x", "1.5", "9223372036854775807"):
        assert value(connection, "FIELDEXPIRE", "h", bad, "f") == b"ERR value is not an integer or out of range"
    wrong = b"WRONGTYPE Operation against a key holding the wrong kind of value"
    assert value(connection, "FIELDEXPIRE", "s", 10, "f") == wrong
    assert value(connection, "FIELDTTL", "s", "f") == wrong
    for words in (("FIELDEXPIRE", "h", 1), ("FIELDTTL", "h"), ("FIELDTTL", "h", "f", "g")):
        assert b"wrong number of arguments" in value(connection, *words)


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_members_go_on_time(server, connection, kind):
    """One by one, the key with the last; RENAME and COPY take deadlines along."""
    connection.command("CONFIG", "SET", "notify-keyspace-events", "KEA")
    connection.command(*COLLECTIONS[kind])
    members = value(connection, "HKEYS" if kind == "hash" else "SMEMBERS", "k")
    with server.connect() as listener:
        listener.command("PSUBSCRIBE", "__keyevent@0__:*")
        connection.command("FIELDEXPIRE", "k", 1, *members)
        connection.command("COPY", "k", "copy")
        connection.command("RENAME", "k", "renamed")
        connection.command("HSET" if kind == "hash" else "SADD", "copy", *["new"] * (2 if kind == "hash" else 1))
        wait_until(lambda: value(connection, "DBSIZE") == 1)
        names = [listener.read_any().value[2:] for _ in range(8)]
    assert value(connection, "HKEYS" if kind == "hash" else "SMEMBERS", "copy") == [b"new"]
    seen = [(name.partition(b":")[2], key) for name, key in names]
    letter = b"h" if kind == "hash" else b"s"
    assert seen[0] == (letter + b"expire", b"k")
    assert sorted(seen[5:]) == sorted([(letter + b"expired", b"copy"), (letter + b"expired", b"renamed"),
                                       (b"del", b"renamed")])


def test_many_members_at_once(connection):
    """A large set loses its members in slices; those that stay are right."""
    members = [f"member:{number}" for number in range(20_000)]
    connection.command("SADD", "s", *members, "stays")
    assert value(connection, "FIELDEXPIRE", "s", 1, *members) == [1] * len(members)
    time.sleep(1.1)
    wait_until(lambda: value(connection, "SCARD", "s") == 1)
    assert value(connection, "SMEMBERS", "s") == [b"stays"]
