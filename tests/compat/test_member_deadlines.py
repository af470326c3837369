"""SADDEX, FIELDEXPIRE and FIELDTTL, as Dragonfly documents them (none of the oracles has them)."""

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


def test_saddex_replies(connection):
    """The number of new members; old ones get the deadline, or keep theirs with KEEPTTL."""
    assert value(connection, "SADDEX", "s", 100, "a", "7", "a") == 2
    assert value(connection, "SADD", "s", "a", "b") == 1
    assert [value(connection, "FIELDTTL", "s", member) for member in ("a", "7", "b")] == [100, 100, -1]
    assert value(connection, "SADDEX", "s", "KeepTTL", 50, "a", "b", "c") == 1
    assert [value(connection, "FIELDTTL", "s", member) for member in ("a", "b", "c")] == [100, -1, 50]
    assert value(connection, "SADDEX", "s", 70, "a", "b") == 0
    assert [value(connection, "FIELDTTL", "s", member) for member in ("a", "b", "c")] == [70, 70, 50]
    assert value(connection, "SREM", "s", "a") == 1
    assert value(connection, "SADD", "s", "a") == 1
    assert value(connection, "FIELDTTL", "s", "a") == -1
    assert value(connection, "SADDEX", "new", "keepttl", 9, "x") == 1
    assert value(connection, "FIELDTTL", "new", "x") == 9


def test_saddex_errors(connection):
    connection.command("SET", "string", "x")
    assert value(connection, "SADDEX", "string", 1, "a").startswith(b"WRONGTYPE")
    for bad in ("0", "-1", "x", "1.5", "9223372036854775807"):
        assert value(connection, "SADDEX", "s", bad, "a") == b"ERR value is not an integer or out of range"
    for words in (("SADDEX", "s", 1), ("SADDEX", "s", "KEEPTTL", 1)):
        assert value(connection, *words) == b"ERR wrong number of arguments for 'saddex' command"
    assert value(connection, "EXISTS", "s") == 0


def test_members_that_are_due_are_not_seen(connection):
    """By no command, before the timer has come; the key goes with the last."""
    for name in ("one", "two"):
        connection.command("SADD", name, "stays")
        connection.command("SADDEX", name, 1, "goes", "1")
    connection.command("SADDEX", "empty", 1, "goes")
    connection.command("SADD", "plain", "goes", "stays")
    time.sleep(1.05)
    assert value(connection, "SCARD", "one") == 1
    assert value(connection, "SINTER", "two", "plain") == [b"stays"]
    assert value(connection, "SISMEMBER", "empty", "goes") == 0
    assert value(connection, "SMOVE", "one", "empty", "goes") == 0
    wait_until(lambda: value(connection, "DBSIZE") == 3)


def test_spop_leaves_deadlines(connection):
    """Of which there are few left, too."""
    connection.command("SADDEX", "s", 100, *range(1000))
    assert len(value(connection, "SPOP", "s", 995)) == 995
    assert [value(connection, "FIELDTTL", "s", member) for member in value(connection, "SMEMBERS", "s")] == [100] * 5


def with_deadlines(connection, key="k", members=200):
    """Half of the members go in 1000 s, one of them soon."""
    connection.command("SADD", key, *(f"stays{number}" for number in range(members)), "7", "soon")
    connection.command("FIELDEXPIRE", key, 1000, *(f"stays{number}" for number in range(0, members, 2)), "7")
    connection.command("FIELDEXPIRE", key, 1, "soon")


def deadlines(connection, key="k"):
    members = sorted(set(value(connection, "SMEMBERS", key)) - {b"soon"})
    return [(member, value(connection, "FIELDTTL", key, member) > 0) for member in members]


def test_dumps_keep_deadlines(connection, redis_server):
    with_deadlines(connection)
    before = deadlines(connection)
    payload = value(connection, "DUMP", "k")
    assert value(connection, "RESTORE", "copy", 0, payload) == b"OK"
    assert deadlines(connection, "copy") == before and sum(timed for _, timed in before) == 101
    assert 990 < value(connection, "FIELDTTL", "copy", "stays0") <= 1000
    wait_until(lambda: value(connection, "SCARD", "copy") == 201)
    # What was due while it lay there does not come back; a set of nothing else is refused, as a hash is by Redis 7.4.
    assert value(connection, "RESTORE", "late", 0, payload) == b"OK"
    assert value(connection, "SCARD", "late") == 201
    connection.command("SADDEX", "brief", 1, "a", "b")
    payload = value(connection, "DUMP", "brief")
    wait_until(lambda: value(connection, "EXISTS", "brief") == 0)
    assert value(connection, "RESTORE", "brief", 0, payload) == b"ERR Bad data format"
    with redis_server.connect() as redis:
        assert value(redis, "RESTORE", "k", 0, payload, "REPLACE").startswith(b"ERR Bad data format")


@pytest.mark.parametrize("place", range(12, 60, 7))
def test_a_broken_dump_is_refused(connection, place):
    connection.command("SADDEX", "k", 1000, "first", "second", "third")
    payload = bytearray(value(connection, "DUMP", "k"))
    payload[place % len(payload)] ^= 0x55
    assert value(connection, "RESTORE", "copy", 0, bytes(payload)).startswith(b"ERR")


@pytest.mark.parametrize("layout", ["rdb", "shards"])
def test_snapshots_keep_deadlines(start, tmp_path, layout):
    server = start(proactor_threads=2, dir=str(tmp_path), dbfilename="dump.rdb",
                   df_snapshot_format="yes" if layout == "shards" else "no")
    with server.connect() as connection:
        with_deadlines(connection)
        with_deadlines(connection, "large", 20000)
        before = deadlines(connection), deadlines(connection, "large")
        assert value(connection, "DEBUG", "RELOAD") == b"OK"
        assert (deadlines(connection), deadlines(connection, "large")) == before
        wait_until(lambda: value(connection, "SCARD", "k") == 201 and value(connection, "SCARD", "large") == 20001)
