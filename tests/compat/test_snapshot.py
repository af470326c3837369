"""Snapshots: point in time over all shards while clients write, and that Redis reads the files."""

import os
import random
import shutil
import threading
import time

import pytest

from .servers import SUBJECT, Server
from .snapshots import ask, contents, info, loaded, snapshot_path, wait_for_save
from .wire import encode

SAVES = int(os.environ.get("SNAPSHOT_SAVES", "3"))
WRITERS = 3
ACCOUNTS = 40
PAIRS = 60
LISTS = 8
FILLER = 60000

pytestmark = pytest.mark.skipif(SUBJECT != "dfly", reason="what dfly does without fork")


def transaction(*commands):
    return b"".join([encode("MULTI"), *(encode(*command) for command in commands), encode("EXEC")]), len(commands) + 2


class Writer(threading.Thread):
    """Transactions that keep the invariants of check_invariants, until it is told to stop."""

    def __init__(self, server, number):
        super().__init__()
        self.server, self.number, self.rng = server, number, random.Random(number)
        self.stopping = threading.Event()
        self.sequence = 0
        self.error = None

    def pick(self):
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            amount = rng.randrange(1, 100)
            return transaction(("DECRBY", f"account:{rng.randrange(ACCOUNTS)}", amount),
                               ("INCRBY", f"account:{rng.randrange(ACCOUNTS)}", amount))
        pair = rng.randrange(PAIRS)
        if kind == 1:
            value = "v" * rng.choice([3, 20, 300, 5000]) + str(rng.random())
            return encode("MSET", f"pair:a:{pair}", value, f"pair:b:{pair}", value), 1
        if kind == 2:
            return encode("DEL", f"pair:a:{pair}", f"pair:b:{pair}"), 1
        numbered = rng.randrange(LISTS)
        if kind == 3:
            value = "e" * rng.choice([1, 10, 200])
            return transaction(("RPUSH", f"list:a:{numbered}", value), ("LPUSH", f"list:b:{numbered}", value))
        if kind == 4:
            return transaction(("LPOP", f"list:a:{numbered}"), ("RPOP", f"list:b:{numbered}"))
        self.sequence += 1
        return transaction(("INCR", f"sequence:{self.number}"),
                           ("SET", f"log:{self.number}:{self.sequence}", "x" * rng.randrange(100)),
                           ("PEXPIRE", f"filler:{rng.randrange(FILLER)}", rng.choice([1, 5, 100000])))

    def run(self):
        try:
            with self.server.connect(timeout=30) as client:
                while not self.stopping.is_set():
                    expected = 0
                    sent = []
                    for _ in range(20):
                        data, replies = self.pick()
                        sent.append(data)
                        expected += replies
                    client.send(b"".join(sent))
                    for _ in range(expected):
                        reply = client.read()
                        assert not reply.is_error, reply
        except BaseException as error:
            self.error = error


def check_invariants(data):
    accounts = [int(value) for key, value in data.items() if key.startswith(b"account:")]
    assert sum(accounts) == 0
    for prefix in (b"pair", b"list"):
        for key, value in data.items():
            if key.startswith(prefix + b":a:"):
                twin = data[key.replace(b":a:", b":b:")]
                assert twin == (value if prefix == b"pair" else value[::-1]), key
            elif key.startswith(prefix + b":b:"):
                assert key.replace(b":b:", b":a:") in data, key
    for number in range(WRITERS):
        logs = {int(key.split(b":")[2]) for key in data if key.startswith(b"log:%d:" % number)}
        assert logs == set(range(1, int(data.get(b"sequence:%d" % number, 0)) + 1))


def test_a_snapshot_is_of_one_moment(start, tmp_path):
    server = start(dbfilename="dump.rdb")
    with server.connect(timeout=60) as client:
        assert client.command("DEBUG", "POPULATE", FILLER, "filler", 100) == b"+OK\r\n"
        writers = [Writer(server, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        files = []
        for number in range(SAVES):
            wait_for_save(client)
            # The cut stands at BGSAVE's place among its client's commands.
            client.send(encode("SET", "marker", number) + encode("BGSAVE") + encode("SET", "marker", "later"))
            assert [client.read().raw for _ in range(3)] == [
                b"+OK\r\n", b"+Background saving started\r\n", b"+OK\r\n"]
            fields = wait_for_save(client)
            assert fields["rdb_last_bgsave_status"] == "ok", server.log_tail()
            files.append(shutil.copy(snapshot_path(server), tmp_path / f"{number}.rdb"))
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
            assert writer.error is None, writer.error
        assert int(info(client)["rdb_saves"]) == SAVES
    for number, path in enumerate(files):
        with loaded(path, tmp_path) as redis, redis.connect(timeout=60) as client:
            data = contents(client)
            assert data[b"marker"] == b"%d" % number
            check_invariants(data)


def test_redis_finds_what_was_saved(start, tmp_path):
    """Every database, deadlines, every type in each size, integers, long and binary texts."""
    server = start(dbfilename="dump.rdb")
    rng = random.Random(1)
    with server.connect(timeout=60) as client:
        for database in (0, 3, 15):
            ask(client, [("SELECT", database)])
            commands = []
            for i in range(3000):
                commands.append(("SET", f"key:{i}", rng.choice([
                    str(rng.randrange(-2**40, 2**40)), rng.randbytes(rng.randrange(50)), "abc" * rng.randrange(2000)])))
            for i in range(30):
                size = 2**rng.randrange(11)
                commands.append(("HSET", f"hash:{i}", *(rng.choice([k, rng.randbytes(20)]) for k in range(2 * size))))
                commands.append(("SADD", f"set:{i}", *(rng.choice([k, rng.randbytes(20)]) for k in range(size))))
                commands.append(("SADD", f"integers:{i}", *range(size)))
                commands.append(("ZADD", f"zset:{i}", *(rng.choice([rng.random() * 100, 3]) if k % 2 == 0 else
                                                         f"member{k}" for k in range(2 * size))))
                commands += [("XADD", f"stream:{i}", f"{k + 1}-{i}", "field", k) for k in range(size // 2 + 1)]
                commands.append(("XGROUP", "CREATE", f"stream:{i}", "group", 0))
                commands.append(("XREADGROUP", "GROUP", "group", "someone", "COUNT", 3, "STREAMS", f"stream:{i}", ">"))
                elements = [rng.choice([str(i), rng.randbytes(rng.randrange(300))])
                            for _ in range(2**rng.randrange(10))]
                commands.append(("RPUSH", f"list:{i}", *elements))
            commands.append(("SET", "huge", b"0123456789abcdef" * 200000))
            commands += [("PEXPIREAT", f"key:{i}", 4000000000000 + i) for i in range(0, 3000, 7)]
            ask(client, commands)
        assert client.command("SAVE") == b"+OK\r\n"
        expected = client.command("DEBUG", "DIGEST").value
        with loaded(snapshot_path(server), tmp_path) as redis, redis.connect(timeout=60) as other:
            assert other.command("DEBUG", "DIGEST").value == expected
            assert other.command("PEXPIRETIME", "key:7").value == 4000000000007
            assert info(other, "keyspace").keys() == {"db0", "db3", "db15"}
            assert other.command("SAVE") == b"+OK\r\n"
            shutil.move(tmp_path / "loaded.rdb", tmp_path / "of-redis.rdb")
        # Valkey's digest differs from Redis': what it makes of Redis' own file is compared.
        digests = []
        for path in (snapshot_path(server), tmp_path / "of-redis.rdb"):
            with loaded(path, tmp_path, "valkey") as valkey, valkey.connect(timeout=60) as other:
                digests.append(other.command("DEBUG", "DIGEST").value)
        assert digests[0] == digests[1]


KEYS = 30000


def filled(start, **options):
    server = start(dbfilename="dump.rdb", save="", **options)
    with server.connect(timeout=60) as client:
        assert client.command("DEBUG", "POPULATE", KEYS, "key", 60) == b"+OK\r\n"
    return server


def save_while(server, *changes, batch=200):
    """BGSAVE and, in the same pipeline, what changes everything; INFO and log when the save is over."""
    with server.connect(timeout=60) as client:
        size = client.command("DBSIZE").value
        digest = client.command("DEBUG", "DIGEST").value
        client.send(encode("BGSAVE") + b"".join(encode(*change) for change in changes[:batch]))
        assert client.read() == b"+Background saving started\r\n"
        for _ in changes[:batch]:
            assert not client.read().is_error
        ask(client, changes[batch:])
        fields = wait_for_save(client)
        assert fields["rdb_last_bgsave_status"] == "ok", server.log_tail()
        return size, digest, fields


def assert_saved(server, tmp_path, digest):
    with loaded(snapshot_path(server), tmp_path) as redis, redis.connect(timeout=60) as other:
        assert other.command("DEBUG", "DIGEST").value == digest


CHANGES = {
    "overwritten": [("SET", f"key:{i}", "new") for i in range(0, KEYS, 3)],
    "edited": [("APPEND", f"key:{i}", "more") for i in range(0, KEYS, 3)],
    "deleted": [("DEL", f"key:{i}") for i in range(KEYS)],
    "halved": [("UNLINK", *(f"key:{i + k}" for k in range(10))) for i in range(0, KEYS, 20)],
    "created": [("SET", f"other:{i}", i) for i in range(2 * KEYS)],
    "given deadlines": [("PEXPIRE", f"key:{i}", 1 + i % 200) for i in range(0, KEYS, 2)],
    "renamed": [("RENAME", f"key:{i}", f"name:{i}") for i in range(0, KEYS, 5)],
    "moved": [("MOVE", f"key:{i}", 7) for i in range(0, KEYS, 5)],
    "flushed": [("FLUSHALL",), *(("SET", f"key:{i}", "after") for i in range(1000))],
    "flushed twice": [("FLUSHDB",), ("DEBUG", "POPULATE", 1000), ("FLUSHALL",), ("SET", "key:1", "x")],
    "swapped": [("SWAPDB", 0, 1), *(("SET", f"key:{i}", "after") for i in range(1000)), ("SWAPDB", 1, 2),
                *(("DEL", f"key:{i}") for i in range(1000)), ("SWAPDB", 0, 2)],
    "swapped and flushed": [("SWAPDB", 0, 1), ("FLUSHALL",), ("SWAPDB", 0, 1), ("SET", "key:1", "x")],
    "in transactions": [command for i in range(0, KEYS, 50) for command in (
        ("MULTI",), ("SET", f"key:{i}", "a"), ("DEL", f"key:{i + 1}", f"key:{i + 2}"), ("SET", f"new:{i}", "b"),
        ("EXEC",))],
}


@pytest.fixture(scope="module")
def shared():
    server = Server("dfly", dbfilename="dump.rdb", save="")
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_after_the_cut_is_saved_as_it_was(shared, tmp_path, name):
    server = shared
    with server.connect(timeout=60) as client:
        ask(client, [("FLUSHALL",), ("DEBUG", "POPULATE", KEYS, "key", 60)])
    _, digest, fields = save_while(server, *CHANGES[name])
    if not name.startswith(("flushed", "swapped")):
        assert int(fields["snapshot_last_forced_visits"]) > 0
    assert_saved(server, tmp_path, digest)


def test_what_expires_during_the_save_is_saved(start, tmp_path):
    server = filled(start)
    with server.connect(timeout=60) as client:
        client.command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        ask(client, [("SET", f"short:{i}", i, "PX", 700 + i % 100) for i in range(KEYS)], batch=5000)
        size = client.command("DBSIZE").value
        assert size == 2 * KEYS
        # They become due while one thread sleeps; then the timers delete them, and the walk goes on.
        client.send(encode("BGSAVE") + encode("DEBUG", "SLEEP", 1) + encode("DEBUG", "SET-ACTIVE-EXPIRE", 1))
        for _ in range(3):
            client.read()
        fields = wait_for_save(client)
        assert fields["rdb_last_bgsave_status"] == "ok" and int(fields["snapshot_last_keys"]) == size
    with loaded(snapshot_path(server), tmp_path) as redis, redis.connect(timeout=60) as other:
        told = info(other)
        assert int(told["rdb_last_load_keys_loaded"]) == KEYS
        assert int(told["rdb_last_load_keys_expired"]) == KEYS


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_what_is_evicted_during_the_save_is_saved(start, tmp_path, policy):
    server = filled(start, maxmemory_policy=policy)
    with server.connect(timeout=60) as client:
        client.command("CONFIG", "SET", "maxmemory", info(client, "memory")["used_memory"])
        size, _, fields = save_while(server, *(("SET", f"big:{i}", "x" * 1000) for i in range(3000)))
        assert int(info(client, "stats")["evicted_keys"]) > 1000
        assert int(fields["snapshot_last_keys"]) == size
    with loaded(snapshot_path(server), tmp_path) as redis, redis.connect(timeout=60) as other:
        assert other.command("DBSIZE").value == size
        data = contents(other)
        assert all(key.startswith(b"key:") and len(value) == 60 for key, value in data.items())


def test_memory_of_what_was_flushed_comes_back_after_the_save(start):
    server = filled(start)
    with server.connect(timeout=60) as client:
        before = int(info(client, "memory")["used_memory"])
        save_while(server, ("FLUSHALL",))
        deadline = time.monotonic() + 10
        while int(info(client, "memory")["lazyfree_pending_objects"]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert int(info(client, "memory")["used_memory"]) < before / 4


def test_large_values_are_saved_in_steps_and_as_they_were(start, tmp_path):
    """Each changes while it is not written, written in part, or written; small ones are written meanwhile."""
    server = start(dbfilename="dump.rdb", save="")
    rng = random.Random(3)
    with server.connect(timeout=60) as client:
        for i in range(6):
            ask(client, [("SET", f"large:{i}", rng.randbytes(3000000)),
                         *(("RPUSH", f"list:{i}", *(rng.randbytes(40) for _ in range(2000))) for _ in range(30)),
                         *(("SADD", f"set:{i}", *(rng.randbytes(40) for _ in range(2000))) for _ in range(10)),
                         *(("HSET", f"hash:{i}", *(rng.randbytes(40) for _ in range(2000))) for _ in range(10)),
                         *(("ZADD", f"zset:{i}", *(rng.randbytes(40) if k % 2 else rng.random() for k in range(2000)))
                           for _ in range(10)),
                         *(("XADD", f"stream:{i}", "*", "field", rng.randbytes(100)) for _ in range(3000))])
        client.command("DEBUG", "POPULATE", 5000, "small", 100)
        for _ in range(3):
            digest = client.command("DEBUG", "DIGEST").value
            small = [("SET", f"small:{i}", rng.random()) for i in range(0, 5000, 10)]
            changes = [(("APPEND", f"large:{i}", "x"), ("LPOP", f"list:{i}"), ("RPUSH", f"list:{i}", "x"),
                        ("SETRANGE", f"large:{i}", 1000, "changed"), ("SADD", f"set:{i}", rng.random()),
                        ("HSET", f"hash:{i}", rng.random(), "x"), ("ZPOPMIN", f"zset:{i}"),
                        ("XADD", f"stream:{i}", "*", "a", "b")) for i in range(6)]
            changes = [*small, *(change for group in changes for change in group), ("DEL", "large:0"),
                       ("DEL", "list:0")]
            rng.shuffle(changes)
            client.send(encode("BGSAVE") + b"".join(encode(*change) for change in changes))
            assert client.read() == b"+Background saving started\r\n"
            for _ in changes:
                assert not client.read().is_error
            assert wait_for_save(client)["rdb_last_bgsave_status"] == "ok"
            assert_saved(server, tmp_path, digest)
