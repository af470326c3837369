"""Keyspace notifications: every event that Redis sends, in its order."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import examples
from .party import play

COMMANDS = [
    ("SET", "k", "1"),
    ("SET", "k", "2", "EX", "100"),
    ("SET", "k", "3", "PXAT", "99999999999999"),
    ("SET", "k", "3", "KEEPTTL"),
    ("SET", "k", "4", "NX"),
    ("SET", "k", "4", "XX", "GET"),
    ("SET", "new", "4", "NX", "EX", "10"),
    ("SETNX", "k", "1"),
    ("SETNX", "k1", "1"),
    ("SETEX", "k2", "100", "v"),
    ("PSETEX", "k2", "100000", "v"),
    ("GETSET", "k", "5"),
    ("GET", "k"),
    ("GET", "nosuch"),
    ("MGET", "k", "nosuch", "nosuch2"),
    ("GETEX", "k", "EX", "100"),
    ("GETEX", "k", "PERSIST"),
    ("GETEX", "k"),
    ("GETEX", "k", "PXAT", "1"),
    ("SET", "k", "5"),
    ("GETDEL", "k"),
    ("GETDEL", "k"),
    ("MSET", "a", "1", "b", "2", "a", "3"),
    ("MSETNX", "a", "1", "z", "2"),
    ("MSETNX", "y", "1", "z", "2"),
    ("APPEND", "a", "x"),
    ("APPEND", "a", ""),
    ("APPEND", "fresh", "x"),
    ("SETRANGE", "a", "3", "abc"),
    ("SETRANGE", "a", "0", ""),
    ("SETRANGE", "fresh2", "0", ""),
    ("STRLEN", "nosuch"),
    ("INCR", "n"),
    ("DECR", "n"),
    ("INCRBY", "n", "5"),
    ("DECRBY", "n", "2"),
    ("INCRBYFLOAT", "n", "1.5"),
    ("INCR", "a"),
    ("SETBIT", "bits", "7", "1"),
    ("SETBIT", "bits", "7", "1"),
    ("GETBIT", "nosuch", "7"),
    ("BITFIELD", "bits", "GET", "u8", "0"),
    ("BITFIELD", "bits", "SET", "u8", "0", "1"),
    ("BITFIELD", "bits", "INCRBY", "u8", "8", "1", "INCRBY", "u8", "0", "1"),
    ("BITFIELD", "bits", "OVERFLOW", "FAIL", "INCRBY", "u1", "0", "5"),
    ("BITOP", "AND", "dest", "bits", "a"),
    ("BITOP", "AND", "dest", "nosuch", "nosuch2"),
    ("BITOP", "NOT", "dest", "nosuch"),
    ("EXPIRE", "a", "100"),
    ("EXPIRE", "a", "200", "LT"),
    ("EXPIRE", "a", "50", "LT"),
    ("PEXPIRE", "a", "100000"),
    ("EXPIREAT", "a", "99999999999"),
    ("PEXPIREAT", "a", "99999999999999"),
    ("PERSIST", "a"),
    ("PERSIST", "a"),
    ("EXPIRE", "a", "-1"),
    ("EXPIRE", "a", "100"),
    ("SET", "a", "1"),
    ("PEXPIREAT", "a", "1"),
    ("SET", "a", "1"),
    ("RENAME", "a", "b"),
    ("RENAME", "b", "b"),
    ("RENAMENX", "b", "z"),
    ("RENAMENX", "b", "c"),
    ("SET", "e", "1", "EX", "100"),
    ("RENAME", "e", "c"),
    ("COPY", "c", "d"),
    ("COPY", "c", "d", "REPLACE"),
    ("COPY", "c", "d", "DB", "1"),
    ("MOVE", "z", "1"),
    ("MOVE", "nosuch", "1"),
    ("SWAPDB", "0", "1"),
    ("SWAPDB", "0", "1"),
    ("TOUCH", "c", "nosuch"),
    ("EXISTS", "c", "nosuch"),
    ("TYPE", "nosuch"),
    ("TTL", "nosuch"),
    ("OBJECT", "ENCODING", "nosuch"),
    ("DUMP", "nosuch"),
    ("DEL", "c", "nosuch", "d"),
    ("UNLINK", "z", "n", "bits"),
    ("SELECT", "1"),
    ("SET", "other", "1"),
    ("SELECT", "0"),
    ("FLUSHDB",),
    ("FLUSHALL",),
]
SEVERAL_KEYS = ("MSET", "MGET", "DEL", "UNLINK", "MSETNX", "TOUCH", "EXISTS", "BITOP")
LISTENERS = [("l", "PSUBSCRIBE", "__key*")]


def steps_with(flags, commands):
    return [("w", "FLUSHALL"), ("w", "CONFIG", "SET", "notify-keyspace-events", flags), *LISTENERS,
            *[("w", *command) for command in commands],
            ("w", "CONFIG", "SET", "notify-keyspace-events", "")]


def assert_same(mine, redis, several_shards=True):
    """Events of keys on several shards come shard by shard (docs/differences.md): their order is left out."""
    assert len(mine) == len(redis)
    for subject, oracle in zip(mine, redis):
        if several_shards and subject[0][1] in SEVERAL_KEYS:
            subject, oracle = [(each[0], {name: sorted(got) for name, got in each[1].items()})
                               for each in (subject, oracle)]
        assert subject == oracle


@pytest.mark.parametrize("flags", ["KEA", "K$", "Eg", "Em", "KEmn", "KEAmn", "E$x", "A", "K"])
@pytest.mark.parametrize("threads", [1, 3])
def test_events_of_every_command(start, redis_server, threads, flags):
    commands = [command for command in COMMANDS if command[0] != "DUMP"]
    steps = steps_with(flags, commands)
    mine = play(start(proactor_threads=threads), steps, w=2, l=3)
    assert_same(mine, play(redis_server, steps, w=2, l=3), several_shards=threads > 1)


names = st.sampled_from(["a", "b", "c"])
lines = st.one_of(
    st.tuples(st.just("SET"), names, st.just("1")),
    st.tuples(st.just("SET"), names, st.just("1"), st.just("EX"), st.just("100")),
    st.tuples(st.just("INCR"), names),
    st.tuples(st.just("APPEND"), names, st.sampled_from(["", "x"])),
    st.tuples(st.just("GETDEL"), names),
    st.tuples(st.just("DEL"), names),
    st.tuples(st.just("RENAME"), names, names),
    st.tuples(st.just("RENAMENX"), names, names),
    st.tuples(st.just("COPY"), names, names),
    st.tuples(st.just("MOVE"), names, st.just("1")),
    st.tuples(st.just("EXPIRE"), names, st.sampled_from(["100", "0"])),
    st.tuples(st.just("PERSIST"), names),
    st.tuples(st.just("GET"), names),
    st.tuples(st.just("BITOP"), st.just("OR"), names, names, names),
)


@examples(40)
@given(commands=st.lists(lines, max_size=15), flags=st.sampled_from(["KEA", "KEAmn", "Eg$"]))
def test_events_of_any_sequence(subject, redis_server, commands, flags):
    steps = steps_with(flags, commands)
    assert_same(play(subject, steps, w=2, l=3), play(redis_server, steps, w=2, l=3))


def test_expired_and_evicted_keys_are_announced(start):
    server = start(proactor_threads=2)
    with server.connect() as listener, server.connect() as writer:
        writer.command("CONFIG", "SET", "notify-keyspace-events", "Exe")
        listener.command("PSUBSCRIBE", "__keyevent@*__:*")
        long_name = "a key whose name does not fit into an entry: " + "x" * 100
        begin = time.monotonic()
        writer.command("SET", long_name, "1", "PX", "60")
        message = listener.read_any().raw
        assert b"__keyevent@0__:expired" in message and long_name.encode() in message
        assert time.monotonic() - begin < 2
        writer.command("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        for index in range(200):
            writer.command("SET", f"{long_name}:{index}", "x" * 50_000)
        writer.command("CONFIG", "SET", "maxmemory", "6mb")
        writer.command("SET", "one more", "x" * 50_000)
        message = listener.read_any().raw
        assert b"__keyevent@0__:evicted" in message and b"does not fit" in message
