"""Snapshots with large collections that change during the save, in every way: the file is of the moment of the cut."""

import functools
import random
import signal
import time

import pytest

from .servers import BACKEND, SUBJECT, Server
from .snapshots import ask, info, loaded, snapshot_path, wait_for_save
from .test_load import digest, wait_until_loaded
from .wire import encode

pytestmark = pytest.mark.skipif(SUBJECT != "dfly", reason="what dfly does without fork")

# Saving does not know the backend: on the other one it is enough that it works.
SIZE = 12000 if BACKEND == "io_uring" else 6000
KEYS = 3
SMALL = 2000
LENGTHS = {"set": "SCARD", "hash": "HLEN", "zset": "ZCARD", "list": "LLEN", "stream": "XLEN"}
KINDS = tuple(LENGTHS)


def keys(kind):
    return [f"{kind}:{i}" for i in range(KEYS)]


@functools.cache
def member(number):
    """Some do not fit where short ones lie."""
    return b"member:%d" % number + b"." * (0, 0, 30, 300)[number % 4]


def add(kind, key, numbers, value="value"):
    numbers = list(numbers)
    if kind == "set":
        return ("SADD", key, *map(member, numbers))
    if kind == "list":
        return ("RPUSH" if value == "value" else "LPUSH", key, *map(member, numbers))
    if kind == "stream":
        return ("XADD", key, "*", "member", member(numbers[0]), value, value)
    if kind == "hash":
        return ("HSET", key, *(part for n in numbers for part in (member(n), f"{value}:{n}")))
    return ("ZADD", key, *(part for n in numbers for part in (n / 7 if value == "value" else -n, member(n))))


def remove(kind, key, numbers):
    if kind == "list":
        numbers = list(numbers)
        return ("LREM", key, 1, member(numbers[0])) if len(numbers) == 1 else ("LPOP", key, len(numbers))
    if kind == "stream":
        return ("XDEL", key, *(f"{number + 1}-1" for number in numbers))
    return ({"set": "SREM", "hash": "HDEL", "zset": "ZREM"}[kind], key, *map(member, numbers))


@functools.cache
def filling():
    """As bytes: most tests begin with it."""
    commands = [("FLUSHALL",), ("DEBUG", "POPULATE", SMALL, "small", 60),
                *(add(kind, key, range(first, first + 500))
                  for kind in KINDS[:4] for key in keys(kind) for first in range(0, SIZE, 500)),
                *(("XADD", key, f"{n + 1}-1", "member", member(n), "number", n)
                  for key in keys("stream") for n in range(SIZE))]
    return b"".join(encode(*command) for command in commands)


def fill(client):
    client.send(encode("CLIENT", "REPLY", "OFF") + filling() + encode("CLIENT", "REPLY", "ON"))
    assert client.read() == b"+OK\r\n"
    assert client.command("DBSIZE").value == SMALL + len(KINDS) * KEYS
    assert all(length == SIZE for length in ask(client, [(LENGTHS[kind], key) for kind in KINDS for key in keys(kind)]))


def each(make):
    """make(kind, key) for all collections, in turn."""
    lists = [make(kind, key) for kind in KINDS for key in keys(kind)]
    return [command for group in zip(*lists, strict=False) for command in group]


def churn(kind, key, first=0):
    """Members come, change and go, one by one."""
    numbers = [n * 7919 % (SIZE + 2000) + first for n in range(600)]
    if kind == "list":
        # LREM looks at all elements.
        return [(("LSET", key, n % (SIZE // 2), "changed"), ("LINSERT", key, "BEFORE", member(n % 500), "new"),
                 add(kind, key, [n], "other"), ("LPOP", key), ("RPOP", key), ("LTRIM", key, 1, -2))[i % 6]
                if i % 20 else remove(kind, key, [n]) for i, n in enumerate(numbers)]
    if kind == "stream":
        return [(add(kind, key, [n]), remove(kind, key, [n]), add(kind, key, [n], "other"),
                 ("XTRIM", key, "MAXLEN", SIZE - 5 * i), ("XTRIM", key, "MAXLEN", "~", SIZE - 9 * i),
                 ("XTRIM", key, "MINID", 4 * i, "DELREF"))[i % 6] for i, n in enumerate(numbers)]
    return [(add, remove)[i % 3 == 2](kind, key, [n]) if i % 2 else add(kind, key, [n], "other")
            for i, n in enumerate(numbers)]


def emptied(kind, key):
    return [remove(kind, key, range(first, first + 50)) for first in range(0, SIZE, 50)]


def popped(kind, key):
    if kind == "set":
        return [("SPOP", key), ("SPOP", key, 100), ("SPOP", key, SIZE - 500), ("SPOP", key, SIZE)]
    if kind == "zset":
        return [("ZPOPMIN", key), ("ZPOPMAX", key, 100), ("ZREMRANGEBYRANK", key, 10, SIZE // 2),
                ("ZREMRANGEBYRANK", key, 0, -100)]
    if kind == "stream":
        return [("XTRIM", key, "MAXLEN", SIZE - 333), ("XDEL", key, f"{SIZE}-1"), ("XTRIM", key, "MINID", SIZE // 2),
                ("XADD", key, "MAXLEN", 10, "*", "a", "b"), ("XTRIM", key, "MAXLEN", 0)]
    if kind == "list":
        return [("LPOP", key, 300), ("RPOP", key, 1000), ("LTRIM", key, 2000, 6000),
                ("LMOVE", key, key, "LEFT", "RIGHT"), ("LTRIM", key, -500, -1), ("RPOP", key, SIZE)]
    return [("HDEL", key, member(1)), ("HINCRBY", key, "counter", 1), remove(kind, key, range(1000)),
            remove(kind, key, range(SIZE))]


def renamed(kind, key):
    other = key + ":renamed"
    return [add(kind, key, [1], "other"), ("RENAME", key, other), *churn(kind, other)[:100],
            ("RENAME", other, key + ":again"), *churn(kind, key + ":again")[:100], ("DEL", key + ":again")]


def moved(kind, key):
    return [add(kind, key, [1], "other"), ("MOVE", key, 7), ("SELECT", 7), *churn(kind, key)[:100], ("UNLINK", key),
            ("SELECT", 0)]


def copied(kind, key):
    return [add(kind, key, [1], "other"), ("COPY", key, key + ":copy"), *churn(kind, key + ":copy")[:50],
            *churn(kind, key)[:50], ("COPY", key + ":copy", key, "REPLACE")]


def overwritten(kind, key):
    return [add(kind, key, [SIZE + 1]), remove(kind, key, [5]), ("SET", key, "x") if key.endswith("0") else
            ("SUNIONSTORE", key, "set:1", "set:2") if kind == "set" else
            ("SORT", key, "ALPHA", "STORE", key) if kind == "list" else
            ("ZUNIONSTORE", key, 1, "zset:1") if kind == "zset" else ("SET", key, "y"), ("TYPE", key)]


DROPS = {"deleted": ("DEL",), "unlinked": ("UNLINK",), "expired": ("PEXPIRE", 1)}


def dropped(name):
    def make(kind, key):
        command, *rest = DROPS[name]
        return [add(kind, key, [SIZE + 1]), remove(kind, key, [5]), (command, key, *rest), ("EXISTS", key),
                add(kind, key, range(300), "other")]
    return make


CHANGES = {
    "churn": each(churn),
    "emptied": each(emptied),
    "popped": each(popped),
    "renamed": [command for kind in KINDS for key in keys(kind) for command in renamed(kind, key)],
    "moved": [command for kind in KINDS for key in keys(kind) for command in moved(kind, key)],
    "copied": each(copied),
    "overwritten": each(overwritten),
    **{name: each(dropped(name)) for name in DROPS},
    "grown": each(lambda kind, key: [add(kind, key, range(n, n + 200)) for n in range(SIZE, 4 * SIZE, 200)]),
    "flushed": [*each(churn)[:300], ("FLUSHALL",), *each(churn)[:300], ("FLUSHALL",)],
    "swapped": [*each(churn)[:200], ("SWAPDB", 0, 1), *each(churn)[:200], ("SWAPDB", 0, 1), *each(churn)[200:400],
                ("SWAPDB", 0, 2), ("FLUSHDB",), ("SELECT", 2), ("FLUSHDB",), ("SELECT", 0)],
    "in transactions": [command for group in range(0, 900, 6) for command in
                        (("MULTI",), *each(churn)[group : group + 6], ("EXEC",))],
}


@pytest.fixture(scope="module", params=[False, True], ids=["one file", "files by shard"])
def shared(request):
    layout = {"df_snapshot_format": "yes"} if request.param else {}
    server = Server("dfly", dbfilename="dump.rdb", save="", snapshot_elements=50, proactor_threads=2, **layout)
    server.by_shard = request.param
    yield server
    assert server.stop() == 0


def assert_saved(server, tmp_path, expected):
    if not server.by_shard:
        with loaded(snapshot_path(server), tmp_path) as redis, redis.connect(timeout=60) as other:
            assert other.command("DEBUG", "DIGEST").value == expected
        return
    with Server("dfly", dbfilename="dump.rdb", dir=server.directory, save="") as again:
        wait_until_loaded(again)
        assert digest(again) == b"+%b\r\n" % expected


def save_during(server, client, changes, at_once=40):
    """The first changes come in the same batch as the cut, the others while the save goes on."""
    expected = client.command("DEBUG", "DIGEST").value
    client.send(encode("BGSAVE") + b"".join(encode(*change) for change in changes[:at_once]))
    assert client.read() == b"+Background saving started\r\n"
    for _ in changes[:at_once]:
        assert not client.read().is_error
    ask(client, changes[at_once:], batch=10)
    fields = wait_for_save(client)
    assert fields["rdb_last_bgsave_status"] == "ok", server.log_tail()
    return expected, fields


@pytest.mark.parametrize("at_once", [40, 0], ids=["at once", "later"])
@pytest.mark.parametrize("name", CHANGES)
def test_collections_are_saved_as_they_were(shared, tmp_path, name, at_once):
    with shared.connect(timeout=60) as client:
        fill(client)
        expected, fields = save_during(shared, client, CHANGES[name], at_once)
        assert int(fields["snapshot_last_keys"]) == SMALL + len(KINDS) * KEYS
    assert_saved(shared, tmp_path, expected)


def test_changes_at_random_during_many_saves(shared, tmp_path):
    rng = random.Random(5)
    with shared.connect(timeout=60) as client:
        fill(client)
        for _ in range(4):
            changes = []
            for _ in range(1500):
                kind = rng.choice(KINDS)
                key = rng.choice(keys(kind))
                numbers = [rng.randrange(2 * SIZE) for _ in range(rng.choice([1, 1, 5, 60]))]
                changes.append(rng.choice([add(kind, key, numbers), add(kind, key, numbers, "other"),
                                           remove(kind, key, numbers)]))
            for kind in KINDS:
                key, other = rng.sample(keys(kind), 2)
                changes.insert(rng.randrange(1500), ("COPY", other, key, "REPLACE"))
                changes.insert(rng.randrange(1500), ("RENAME", key, other))
                changes.insert(1500, add(kind, key, range(3 * SIZE, 3 * SIZE + 100)))
            expected, _ = save_during(shared, client, changes)
            assert_saved(shared, tmp_path, expected)


@pytest.mark.parametrize("layout", [{}, {"df_snapshot_format": "yes"}], ids=["one file", "files by shard"])
def test_deadlines_of_members_are_those_of_the_cut(start, tmp_path, layout):
    server = start(dbfilename="dump.rdb", save="", snapshot_elements=50, proactor_threads=2, **layout)
    far = 4_000_000_000_000
    with server.connect(timeout=60) as client:
        fill(client)
        for i in range(KEYS):
            ask(client, [("HPEXPIREAT", f"hash:{i}", far + n, "FIELDS", 1, member(n)) for n in range(0, SIZE, 5)])
            ask(client, [("HPEXPIRE", f"hash:{i}", 30_000, "FIELDS", 1, member(n)) for n in range(1, SIZE, 50)])
        changes = []
        for i in range(KEYS):
            changes += [("HPEXPIREAT", f"hash:{i}", far * 2, "FIELDS", 1, member(n)) for n in range(0, SIZE, 45)]
            changes += [("HPERSIST", f"hash:{i}", "FIELDS", 1, member(n)) for n in range(5, SIZE, 45)]
            changes += [("HPEXPIRE", f"hash:{i}", 1, "FIELDS", 1, member(n)) for n in range(10, SIZE, 45)]
            changes += [("HSET", f"hash:{i}", member(n), "without") for n in range(15, SIZE, 45)]
            changes += [("HPEXPIREAT", f"hash:{i}", far * 3, "FIELDS", 1, member(n)) for n in range(2, SIZE, 45)]
        random.Random(1).shuffle(changes)
        expected = [client.command("HPEXPIRETIME", f"hash:{i}", "FIELDS", SIZE, *map(member, range(SIZE))).value
                    for i in range(KEYS)]
        values = [client.command("HMGET", f"hash:{i}", *map(member, range(SIZE))).value for i in range(KEYS)]
        client.send(encode("BGSAVE") + b"".join(encode(*change) for change in changes))
        for _ in range(len(changes) + 1):
            assert not client.read().is_error
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "ok"
        assert expected != [client.command("HPEXPIRETIME", f"hash:{i}", "FIELDS", SIZE,
                                           *map(member, range(SIZE))).value for i in range(KEYS)]
    with Server("dfly", dbfilename="dump.rdb", dir=server.directory, save="") as again:
        wait_until_loaded(again)
        with again.connect(timeout=60) as client:
            for i in range(KEYS):
                assert client.command("HPEXPIRETIME", f"hash:{i}", "FIELDS", SIZE,
                                      *map(member, range(SIZE))).value == expected[i]
                assert client.command("HMGET", f"hash:{i}", *map(member, range(SIZE))).value == values[i]


def moved(key):
    """To other names, most of them of other shards; and back."""
    for name in [f"moved:{i}" for i in range(6)]:
        yield from [("RENAME", key, name), ("XACK", name, "g", *(f"{n}-1" for n in range(200, 900, 7))),
                    ("XCLAIM", name, "g", "e", 0, *(f"{n}-1" for n in range(1000, 2000, 9))), ("RENAME", name, key)]


def gone(key):
    return [("XGROUP", "DESTROY", key, "g"), ("XGROUP", "CREATE", key, "g", 0),
            ("XREADGROUP", "GROUP", "g", "f", "COUNT", 3000, "STREAMS", key, ">"),
            ("XGROUP", "DELCONSUMER", key, "g", "f"), ("DEL", key)]


@pytest.mark.parametrize("then", [None, moved, gone])
@pytest.mark.parametrize("layout", [{}, {"df_snapshot_format": "yes"}], ids=["one file", "files by shard"])
def test_groups_are_those_of_the_cut(start, layout, then):
    server = start(dbfilename="dump.rdb", save="", snapshot_elements=50, proactor_threads=2, **layout)
    read = ("XREADGROUP", "GROUP", "g", "c", "COUNT", 300, "STREAMS")
    questions = [("XINFO", "STREAM", key, "FULL", "COUNT", 0) for key in keys("stream")]
    with server.connect(timeout=60) as client:
        fill(client)
        changes = []
        for key in keys("stream"):
            ask(client, [("XGROUP", "CREATE", key, "g", 0), ("XGROUP", "CREATE", key, "h", 50), (*read, key, ">"),
                         ("XACK", key, "g", "7-1", "9-1")])
            if then is not None:
                # So many that their walk is not over when that of the blocks is.
                ask(client, [("XREADGROUP", "GROUP", "g", name, "COUNT", 5000, "STREAMS", key, ">") for name in "cd"])
                changes += then(key)
                continue
            changes += [("XACK", key, "g", *(f"{n}-1" for n in range(1, 100))), (*read, key, ">"), (*read, key, 0),
                        ("XCLAIM", key, "g", "d", 0, "150-1"), ("XGROUP", "DESTROY", key, "h"),
                        ("XGROUP", "CREATE", key, "i", "$"), ("XGROUP", "SETID", key, "g", 5),
                        ("XAUTOCLAIM", key, "g", "e", 0, 0), ("XGROUP", "DELCONSUMER", key, "g", "c"),
                        ("XADD", key, "MAXLEN", 100, "*", "a", "b"), ("XTRIM", key, "MAXLEN", 10, "ACKED")]
        if then is None:
            random.Random(3).shuffle(changes)
        expected = [client.command(*question).raw for question in questions]
        if then is None:
            client.send(encode("BGSAVE") + b"".join(encode(*change) for change in changes))
            for _ in range(len(changes) + 1):
                client.read()
        else:
            # All along the save, whose walks are at other places each time.
            client.command("CONFIG", "SET", "snapshot-time-share", 2)
            client.command("BGSAVE")
            for change in changes:
                client.command(*change)
                time.sleep(0.002)
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "ok"
        assert expected != [client.command(*question).raw for question in questions]
        deadline = time.monotonic() + 10
        while int(info(client, "memory")["lazyfree_pending_objects"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert info(client, "memory")["lazyfree_pending_objects"] == "0"
    with Server("dfly", dbfilename="dump.rdb", dir=server.directory, save="") as again:
        wait_until_loaded(again)
        with again.connect(timeout=60) as client:
            assert [client.command(*question).raw for question in questions] == expected


def test_a_change_writes_a_few_members(start):
    """The others are the walk's: INFO counts what changes have brought forward, here buckets and members."""
    server = start(dbfilename="dump.rdb", save="", proactor_threads=1)
    with server.connect(timeout=60) as client:
        fill(client)
        # The walk cannot begin before the changes have been executed.
        _, fields = save_during(server, client, each(lambda kind, key: [add(kind, key, [5], "other")]))
        assert len(KINDS) * KEYS <= int(fields["snapshot_last_forced_visits"]) <= 600


def test_what_was_dropped_during_the_save_is_freed_after_it(start):
    server = start(dbfilename="dump.rdb", save="", proactor_threads=2, snapshot_elements=50)
    with server.connect(timeout=60) as client:
        before = int(info(client, "memory")["used_memory"])
        fill(client)
        filled = int(info(client, "memory")["used_memory"])
        save_during(server, client, [*CHANGES["deleted"], *(("DEL", key) for kind in KINDS for key in keys(kind)),
                                     ("FLUSHALL",)])
        deadline = time.monotonic() + 10
        while int(info(client, "memory")["lazyfree_pending_objects"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert int(info(client, "memory")["used_memory"]) - before < (filled - before) / 4


def test_the_server_may_be_killed_while_members_are_written(tmp_path):
    with Server("dfly", dbfilename="dump.rdb", save="", proactor_threads=2, snapshot_elements=50) as server:
        server.by_shard = False
        with server.connect(timeout=60) as client:
            fill(client)
            expected, _ = save_during(server, client, [])
            client.send(encode("BGSAVE") + b"".join(encode(*change) for change in CHANGES["churn"][:200]))
            client.read()
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        # The one before is there as a whole, or the new one; both are of the same contents.
        assert_saved(server, tmp_path, expected)


def test_a_save_that_fails_leaves_nothing_behind(start, tmp_path):
    server = start(dbfilename="dump.rdb", save="", proactor_threads=2, snapshot_elements=50)
    with server.connect(timeout=60) as client:
        fill(client)
        client.command("CONFIG", "SET", "file-fault", "write 28 1")
        client.send(encode("BGSAVE") + b"".join(encode(*change) for change in CHANGES["churn"]))
        for _ in range(len(CHANGES["churn"]) + 1):
            assert not client.read().is_error
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "err"
        client.command("CONFIG", "SET", "file-fault", "")
        expected, _ = save_during(server, client, CHANGES["emptied"])
    server.by_shard = False
    assert_saved(server, tmp_path, expected)
