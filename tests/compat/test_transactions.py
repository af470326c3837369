"""MULTI, EXEC, DISCARD, WATCH: replies as Redis', and atomicity over shards that Redis gets for free."""

import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import command, examples, keys, modes, protocols, sequences, values
from .differential import Duel
from .scripts import run_scripts
from .test_robustness import reset
from .wire import ConnectionLost, encode

OK = b"+OK\r\n"
QUEUED = b"+QUEUED\r\n"
THREADS = [1, 2, 5]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("threads", THREADS)
def test_scripts(start, redis_server, threads, protocol):
    run_scripts(Duel(start(proactor_threads=threads), redis_server), "transactions", protocol)


key_lists = st.lists(keys, min_size=1, max_size=5).map(tuple)
COMMANDS = [
    command("MULTI"),
    command("MULTI"),
    command("EXEC"),
    command("EXEC"),
    command("DISCARD"),
    command("WATCH", key_lists),
    command("UNWATCH"),
    command("SET", keys, values),
    command("GET", keys),
    command("INCR", keys),
    command("APPEND", keys, values),
    command("MGET", key_lists),
    command("MSETNX", keys, values, keys, values),
    command("DEL", key_lists),
    command("RENAME", keys, keys),
    command("COPY", keys, keys),
    command("EXISTS", key_lists),
    command("SELECT", st.sampled_from([b"0", b"1"])),
    command("SWAPDB", st.just(b"0"), st.just(b"1")),
    command("DBSIZE"),
    command("GET"),
    command("NOSUCH"),
]


@examples(150)
@given(sequence=sequences(*COMMANDS, max_size=40), protocol=protocols, mode=modes)
def test_any_sequence(duel, sequence, protocol, mode):
    # Three of each: spread over three connections, every one must be out of its MULTI before the walk.
    duel.run([*sequence, *[(b"DISCARD",)] * 3, *[(b"SELECT", b"0")] * 3], protocol, mode)


# What another client does between WATCH and EXEC of key `k`.
CHANGES = [
    [],
    [["SET", "other", "1"]],
    [["GET", "k"]],
    [["SET", "k", "2"]],
    [["SET", "k", "1"]],
    [["SETNX", "k", "2"]],
    [["APPEND", "k", ""]],
    [["APPEND", "k", "x"]],
    [["INCR", "k"]],
    [["SETRANGE", "k", "0", ""]],
    [["SETBIT", "k", "1", "0"]],
    [["BITFIELD", "k", "GET", "u8", "0"]],
    [["BITFIELD", "k", "SET", "u8", "0", "1"]],
    [["BITOP", "NOT", "k", "k"]],
    [["BITOP", "AND", "k", "nosuch"]],
    [["GETSET", "k", "1"]],
    [["GETDEL", "k"]],
    [["GETEX", "k"]],
    [["GETEX", "k", "EX", "100"]],
    [["GETEX", "k", "PERSIST"]],
    [["MSET", "a", "1", "k", "2"]],
    [["MSETNX", "a", "1", "k", "2"]],
    [["DEL", "k"]],
    [["UNLINK", "k", "other"]],
    [["EXPIRE", "k", "100"]],
    [["EXPIRE", "k", "-1"]],
    [["PERSIST", "k"]],
    [["RENAME", "k", "k2"]],
    [["SET", "k2", "1"], ["RENAME", "k2", "k"]],
    [["SET", "k2", "1"], ["RENAMENX", "k2", "k"]],
    [["SET", "k2", "1"], ["COPY", "k2", "k", "REPLACE"]],
    [["COPY", "k", "k2"]],
    [["MOVE", "k", "1"]],
    [["TOUCH", "k"]],
    [["FLUSHDB"]],
    [["FLUSHALL", "ASYNC"]],
    [["SELECT", "1"], ["FLUSHDB"]],
    [["SELECT", "1"], ["SET", "k", "1"]],
    [["SWAPDB", "0", "1"]],
    [["SWAPDB", "1", "2"]],
    [["SELECT", "1"], ["SET", "k", "1"], ["SWAPDB", "0", "1"]],
    [["MULTI"], ["SET", "k", "9"], ["EXEC"]],
    [["MULTI"], ["SET", "k", "9"], ["DISCARD"]],
]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: " ".join(sum(change, [])))
def test_what_another_client_does_to_a_watched_key(duel, change, exists):
    answers = []
    for server in (duel.subject, duel.oracle):
        with server.connect() as watcher, server.connect() as other:
            other.command("FLUSHALL")
            if exists:
                other.command("SET", "k", "1")
            seen = watcher.pipeline([["WATCH", "k", "unused"], ["MULTI"], ["DBSIZE"]])
            for line in change:
                seen.append(other.command(*line))
            seen.append(watcher.command("EXEC"))
            answers.append([reply.raw for reply in seen])
    assert answers[0] == answers[1]


def test_monitor_shows_queued_commands_when_they_run(duel):
    lines = []
    for server in (duel.subject, duel.oracle):
        with server.connect() as monitor, server.connect() as client:
            monitor.command("MONITOR")
            client.pipeline([["MULTI"], ["SET", "a", "1"], ["GET", "a"], ["EXEC"], ["PING"]])
            text, _ = monitor.read_until_silent()
            lines.append([line.split(b"] ", 1)[1] for line in text.split(b"\r\n") if b"] " in line])
    assert lines[0] == lines[1]


def test_hello_in_a_transaction_changes_the_protocol_from_there_on(flushed):
    with flushed.connect() as connection:
        connection.pipeline([["MULTI"], ["GET", "nosuch"], ["HELLO", "3"], ["GET", "nosuch"]])
        reply = connection.command("EXEC").raw
        assert reply.startswith(b"*3\r\n$-1\r\n%7\r\n") and reply.endswith(b"_\r\n")
        assert connection.command("GET", "nosuch") == b"_\r\n"


def test_client_list_shows_the_queue(flushed):
    with flushed.connect() as connection, flushed.connect() as other:
        connection.pipeline([["CLIENT", "SETNAME", "q"], ["MULTI"], ["GET", "a"], ["GET", "b"]])
        lines = other.command("CLIENT", "LIST").value.decode().splitlines()
        line = next(line for line in lines if "name=q" in line)
        assert " flags=x " in line and " multi=2 " in line
        connection.command("DISCARD")
        lines = other.command("CLIENT", "LIST").value.decode().splitlines()
        assert " multi=-1 " in next(line for line in lines if "name=q" in line)


def test_paused_writers_wait_with_their_exec(flushed):
    with flushed.connect() as connection, flushed.connect() as other:
        connection.pipeline([["MULTI"], ["SET", "a", "1"]])
        other.command("CLIENT", "PAUSE", "300", "WRITE")
        begin = time.monotonic()
        assert connection.command("EXEC") == b"*1\r\n+OK\r\n"
        assert time.monotonic() - begin > 0.2


def test_oom_while_queueing_aborts(duel):
    answers = []
    for server in (duel.subject, duel.oracle):
        with server.connect() as connection:
            connection.command("FLUSHALL")
            connection.command("CONFIG", "SET", "maxmemory", "1")
            replies = connection.pipeline([["MULTI"], ["SET", "a", "1"], ["GET", "a"], ["EXEC"]])
            connection.command("CONFIG", "SET", "maxmemory", "0")
            answers.append([reply.raw for reply in replies])
    assert answers[0] == answers[1]


def workers(count, target, seconds=None):
    """Runs target(index, chance, until) in threads; an exception in one of them fails the test."""
    failures = []
    until = time.monotonic() + (seconds or 0)

    def run(index):
        try:
            target(index, random.Random(index), until)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("threads", THREADS)
def test_money_is_neither_made_nor_lost(start, threads):
    """Transfers between accounts on all shards; every MGET, and every EXEC of GETs, sees the same sum."""
    server = start(proactor_threads=threads)
    accounts = [f"account:{i}" for i in range(12)]
    with server.connect() as connection:
        connection.command("MSET", *[word for name in accounts for word in (name, "100")])

    def teller(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                lines = []
                for _ in range(20):
                    source, target = chance.sample(accounts, 2)
                    lines += [["MULTI"], ["DECRBY", source, "7"], ["INCRBY", target, "7"], ["EXEC"]]
                assert not any(reply.is_error for reply in connection.pipeline(lines))

    def auditor(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                if chance.random() < 0.5:
                    found = connection.command("MGET", *accounts).value
                else:
                    names = chance.sample(accounts, len(accounts))
                    lines = [["MULTI"], *[["GET", name] for name in names], ["EXEC"]]
                    found = connection.pipeline(lines)[-1].value
                assert sum(int(amount) for amount in found) == 1200

    workers(6, lambda index, *rest: (teller if index < 3 else auditor)(index, *rest), seconds=3)


@pytest.mark.parametrize("threads", THREADS)
def test_mset_is_seen_whole_or_not_at_all(start, threads):
    server = start(proactor_threads=threads)
    names = [f"n:{i}" for i in range(10)]

    def writer(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                lines = []
                for _ in range(30):
                    value = str(chance.random())
                    shuffled = chance.sample(names, 10)
                    lines.append(["MSET", *[word for name in shuffled for word in (name, value)]])
                connection.pipeline(lines)

    def reader(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                for reply in connection.pipeline([["MGET", *names]] * 10):
                    assert len(set(reply.value)) == 1

    workers(5, lambda index, *rest: (writer if index < 3 else reader)(index, *rest), seconds=2)


@pytest.mark.parametrize("threads", THREADS)
def test_watch_makes_increments_safe(start, threads):
    """Read, then write under WATCH: no increment is lost, whoever wins."""
    server = start(proactor_threads=threads)
    done = [0] * 4

    def counter(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                key = chance.choice(["c1", "c2"])
                connection.command("WATCH", key)
                value = int(connection.command("GET", key).value or 0)
                lines = [["MULTI"], ["SET", key, str(value + 1)], ["INCR", "total"], ["EXEC"]]
                if connection.pipeline(lines)[-1].value is not None:
                    done[index] += 1

    workers(4, counter, seconds=3)
    with server.connect() as connection:
        found = [int(value or 0) for value in connection.command("MGET", "c1", "c2", "total").value]
    assert found[0] + found[1] == found[2] == sum(done) > 100


@pytest.mark.parametrize("threads", THREADS)
def test_a_key_that_is_renamed_around_is_always_in_one_place(start, threads):
    server = start(proactor_threads=threads)
    names = [f"place:{i}" for i in range(6)]
    with server.connect() as connection:
        connection.command("SET", names[0], "x")

    def mover(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                connection.pipeline([["RENAMENX", *chance.sample(names, 2)] for _ in range(30)])

    def looker(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                for reply in connection.pipeline([["EXISTS", *names]] * 10):
                    assert reply == b":1\r\n"

    workers(4, lambda index, *rest: (mover if index < 2 else looker)(index, *rest), seconds=2)


def test_clients_killed_with_transactions_in_flight(start):
    """Half-sent transactions do nothing, whole ones everything; the server holds nothing of them."""
    server = start(proactor_threads=3)

    def killer(index, chance, until):
        while time.monotonic() < until:
            connection = server.connect(timeout=30)
            try:
                number = str(chance.randrange(10**9))
                data = encode("WATCH", "w1", "w2") + encode("MULTI")
                for name in ("a", "b", "c", "d"):
                    data += encode("SET", name, number)
                data += encode("EXEC")
                if chance.random() < 0.3:
                    connection.exchange(data, 7)
                else:
                    connection.send(data[: chance.randrange(len(data) + 1)])
            except ConnectionLost:
                pass
            finally:
                connection.close()

    def watcher(index, chance, until):
        with server.connect(timeout=30) as connection:
            while time.monotonic() < until:
                assert len(set(connection.command("MGET", "a", "b", "c", "d").value)) == 1
                connection.command("SET", "w1", "x")

    workers(4, lambda index, *rest: (killer if index < 3 else watcher)(index, *rest), seconds=3)


def test_an_exec_outlives_its_client(start):
    """The client goes while its EXEC waits for the control plane: what it subscribed to goes with it."""
    server = start(proactor_threads=2)
    for index in range(200):
        connection = server.connect()
        lines = [("MULTI",), ("INFO",), ("SUBSCRIBE", "c"), ("MONITOR",), ("SET", "a", str(index)), ("EXEC",)]
        connection.send(b"".join(encode(*line) for line in lines))
        time.sleep(0.0005 * (index % 5))
        reset(connection)
    with server.connect() as connection:
        deadline = time.monotonic() + 5
        while connection.command("PUBLISH", "c", "anybody?").value:
            assert time.monotonic() < deadline
        assert connection.command("PUBSUB", "NUMSUB", "c").value == [b"c", 0]
