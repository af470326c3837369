"""Commands over many elements go in slices, and are atomic all the same: here in slices of one element."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from .snapshots import info, loaded, snapshot_path, wait_for_save

MEMBERS = 2_000


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def sliced(request, start):
    return start(proactor_threads=request.param, slice_elements=1, dbfilename="dump.rdb")


def fill(connection, kind, members=MEMBERS):
    """a and b overlap by half."""
    connection.command("FLUSHALL")
    for key, first in (("a", 0), ("b", members // 2)):
        names = [f"member:{number}" for number in range(first, first + members)]
        if kind == "set":
            connection.command("SADD", key, *names)
        else:
            connection.command("ZADD", key, *(word for name in names for word in (1, name)))


def command_of(kind):
    return ("SUNIONSTORE", "out", "a", "b") if kind == "set" else ("ZUNIONSTORE", "out", 2, "a", "b")


def used(connection):
    fields = connection.command("INFO", "memory").value.decode().split("\r\n")
    return int(dict(line.split(":", 1) for line in fields if ":" in line)["used_memory_dataset"])


class Other(threading.Thread):
    """Does one batch after the other, again and again, on a connection of its own."""

    def __init__(self, server, *batches):
        super().__init__()
        self.server, self.batches, self.stopped = server, batches, threading.Event()

    def run(self):
        with self.server.connect() as connection:
            while not self.stopped.is_set():
                for batch in self.batches:
                    connection.pipeline(batch)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_a_member_that_moves_is_in_one_of_both(sliced, kind):
    """Whoever looked at one source before the move and at the other one behind it would see it twice, or never."""
    if kind == "set":
        moves = [[("SMOVE", "a", "b", "x")], [("SMOVE", "b", "a", "x")]]
        union, common = ("SUNION", "a", "b"), ("SINTERCARD", 2, "a", "b")
    else:
        moves = [[("MULTI",), ("ZREM", "a", "x"), ("ZADD", "b", 1, "x"), ("EXEC",)],
                 [("MULTI",), ("ZREM", "b", "x"), ("ZADD", "a", 1, "x"), ("EXEC",)]]
        union, common = ("ZUNION", 2, "a", "b"), ("ZINTERCARD", 2, "a", "b")
    with sliced.connect() as connection:
        fill(connection, kind, 300)
        connection.pipeline([("SADD", "a", "x")] if kind == "set" else [("ZADD", "a", 1, "x")])
        with Other(sliced, *moves):
            for _ in range(40):
                assert len(connection.command(*union).value) == 451
                assert connection.command(*common).value == 150
                assert connection.command(*command_of(kind)).value == 451


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_one_that_changes_between_long_breaks(sliced, kind):
    """Time enough for some attempts to come to their end."""
    add = ("SADD", "a") if kind == "set" else ("ZADD", "a", 1)
    with sliced.connect() as connection, sliced.connect() as other:
        fill(connection, kind)
        for number in range(5):
            result = []
            worker = threading.Thread(target=lambda: result.append(connection.command(*command_of(kind)).value))
            worker.start()
            other.command(*add, f"new:{number}")
            worker.join()
            everything = MEMBERS + MEMBERS // 2 + number
            assert result[0] in (everything, everything + 1)
            members = connection.command("SMEMBERS" if kind == "set" else "ZUNION", *([1] if kind == "zset" else []),
                                         "out").value
            assert len(members) == result[0]


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_a_source_expires(sliced, kind):
    with sliced.connect() as connection:
        fill(connection, kind)
        connection.command("PEXPIRE", "a", 15)
        assert connection.command(*command_of(kind)).value in (MEMBERS, MEMBERS + MEMBERS // 2)


def test_a_member_expires(sliced):
    with sliced.connect() as connection:
        fill(connection, "set")
        connection.command("SADDEX", "a", 1, "due")
        while connection.command("SISMEMBER", "a", "due").value:
            size = connection.command("SUNIONSTORE", "out", "a", "b").value
            assert size in (MEMBERS + MEMBERS // 2, MEMBERS + MEMBERS // 2 + 1)
        assert connection.command("SUNIONSTORE", "out", "a", "b").value == MEMBERS + MEMBERS // 2


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_flushed_meanwhile(sliced, kind):
    with sliced.connect() as connection, sliced.connect() as other:
        connection.command("FLUSHALL")
        before = used(connection)
        for _ in range(5):
            fill(connection, kind)
            worker = threading.Thread(target=connection.command, args=command_of(kind))
            worker.start()
            other.command("FLUSHALL")
            worker.join()
            assert connection.command("DBSIZE").value == 0
        connection.command("FLUSHALL")
        assert abs(used(connection) - before) < 100_000


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_the_client_goes(sliced, kind):
    with sliced.connect() as other:
        fill(other, kind)
        with sliced.connect() as connection:
            words = [str(word).encode() for word in command_of(kind)]
            connection.send(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))
        while not other.command("EXISTS", "out").value:
            pass
        count = other.command("SCARD" if kind == "set" else "ZCARD", "out").value
        assert count == MEMBERS + MEMBERS // 2


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_within_a_transaction(sliced, kind):
    """Not in slices, and nobody who watches the result misses it."""
    with sliced.connect() as connection, sliced.connect() as other:
        fill(connection, kind)
        other.pipeline([("WATCH", "out"), ("MULTI",), ("SET", "t", 1)])
        connection.pipeline([("MULTI",), command_of(kind)])
        assert connection.command("EXEC").value == [MEMBERS + MEMBERS // 2]
        assert other.command("EXEC").value is None


def test_what_is_cut_out_of_a_sorted_set_is_gone_at_once(sliced):
    with sliced.connect() as connection:
        for first, last in ((0, 999), (500, 1500), (1000, -1)):
            fill(connection, "zset")
            removed = connection.command("ZREMRANGEBYRANK", "a", first, last).value
            assert connection.command("ZCARD", "a").value == MEMBERS - removed
            seen, cursor = [], b"0"
            while True:
                cursor, part = connection.command("ZSCAN", "a", cursor, "COUNT", 100).value
                seen += part[::2]
                if cursor == b"0":
                    break
            assert sorted(seen) == sorted(connection.command("ZRANGE", "a", 0, -1).value)
            connection.pipeline([("COPY", "a", "copy"), ("RENAME", "a", "moved"), ("SAVE",)])
            for key in ("copy", "moved"):
                assert sorted(connection.command("ZRANGE", key, 0, -1).value) == sorted(seen)


@pytest.mark.parametrize("kind", ["set", "zset"])
def test_a_snapshot_has_the_result_of_before_or_the_whole_one(sliced, tmp_path, kind):
    """Saves that begin and end between two slices."""
    members = 20_000
    with sliced.connect() as connection:
        connection.command("CONFIG", "SET", "snapshot-time-share", 50)
    count = "SCARD" if kind == "set" else "ZCARD"
    with sliced.connect(timeout=60) as connection, sliced.connect(timeout=60) as saving:
        fill(connection, kind, members)
        connection.command(*(("SADD", "out", "old") if kind == "set" else ("ZADD", "out", 1, "old")))
        assert connection.command("DEBUG", "POPULATE", 1000, "filler", 100) == b"+OK\r\n"
        saves, attempts = 0, 0
        while saves == 0:
            attempts += 1
            assert attempts < 20, "no save ended before the command did"
            with ThreadPoolExecutor(1) as executor:
                result = executor.submit(connection.command, *command_of(kind))
                while not result.done():
                    assert saving.command("BGSAVE").raw.startswith(b"+")
                    wait_for_save(saving)
                    saves += not result.done()
            assert result.result().value == members * 3 // 2
        assert info(saving)["rdb_last_bgsave_status"] == "ok"
        with loaded(snapshot_path(sliced), tmp_path) as redis, redis.connect() as client:
            assert client.command(count, "out").value in (1, members * 3 // 2)
            assert client.command(count, "a").value == client.command(count, "b").value == members
