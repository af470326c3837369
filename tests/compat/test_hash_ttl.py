"""Deadlines of hash fields, against Valkey 9.1: commands, events, and what becomes of fields that are due."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import (
    FAR,
    FURTHER,
    at_milliseconds,
    at_seconds,
    bad_expiries,
    bad_integers,
    command,
    examples,
    keys,
    milliseconds,
    modes,
    often,
    options,
    protocols,
    seconds,
    sequences,
    spelled,
    values,
)
from .party import play
from .scripts import run_scripts
from .test_lists import memory_of, wait_until

fields = st.sampled_from([b"f", b"g", b"h", b"1", b"", b"g" * 70])
good_fields = st.lists(fields, min_size=1, max_size=4).map(lambda drawn: (b"FIELDS", len(drawn), *drawn))
bad_fields = st.one_of(
    st.tuples(spelled("FIELDS"), bad_integers, fields),
    st.tuples(spelled("FIELDS"), st.sampled_from([0, -1, 2, 3]), fields),
    st.tuples(fields, st.just(1), fields),
)
field_lists = often(good_fields, bad_fields)
good_pairs = st.lists(st.tuples(fields, values), min_size=1, max_size=4).map(
    lambda drawn: (b"FIELDS", len(drawn), *(word for pair in drawn for word in pair))
)
pair_lists = often(good_pairs, bad_fields)
conditions = options("NX", "XX", "GT", "LT", max_size=1)
many_conditions = often(conditions, options("NX", "XX", "GT", "LT", "BAD"))
expiry = st.one_of(
    st.tuples(spelled("EX"), seconds),
    st.tuples(spelled("PX"), milliseconds),
    st.tuples(spelled("EXAT"), at_seconds),
    st.tuples(spelled("PXAT"), at_milliseconds),
)
get_options = often(
    st.one_of(st.just(()), expiry, st.tuples(spelled("PERSIST"))),
    options("PERSIST", ("EX", seconds), ("PXAT", at_milliseconds), "KEEPTTL", "EX"),
)
set_conditions = options("NX", "XX", "FNX", "FXX", max_size=1)
set_options = often(
    st.tuples(set_conditions, st.one_of(st.just(()), expiry, st.tuples(spelled("KEEPTTL")))).map(
        lambda drawn: (*drawn[0], *drawn[1])
    ),
    options("NX", "XX", "FNX", "FXX", "KEEPTTL", ("EX", seconds), ("PX", bad_expiries), "PERSIST"),
)

EXPIRE = [
    command("HEXPIRE", keys, seconds, many_conditions, field_lists),
    command("HPEXPIRE", keys, milliseconds, many_conditions, field_lists),
    command("HEXPIREAT", keys, at_seconds, many_conditions, field_lists),
    command("HPEXPIREAT", keys, at_milliseconds, many_conditions, field_lists),
]
ASK = [command(name, keys, field_lists) for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME")]
CHANGE = [
    command("HPERSIST", keys, field_lists),
    command("HGETEX", keys, get_options, field_lists),
    command("HSETEX", keys, set_options, pair_lists),
    command("HGETDEL", keys, field_lists),
]
HASH_COMMANDS = [
    command("HSET", keys, fields, values),
    command("HSETNX", keys, fields, values),
    command("HINCRBY", keys, fields, st.just(1)),
    command("HINCRBYFLOAT", keys, fields, st.just("0.5")),
    command("HDEL", keys, fields, fields),
    command("HGETALL", keys),
    command("HLEN", keys),
    command("HRANDFIELD", keys, st.just(10)),
]
MOVES = [
    command("RENAME", keys, keys),
    command("COPY", keys, keys, options("REPLACE", ("DB", st.just(1)), max_size=2)),
    command("MOVE", keys, st.just(1)),
    command("SWAPDB", st.just(0), st.just(1)),
]
COMMANDS = [*EXPIRE, *ASK, *CHANGE, *CHANGE, *HASH_COMMANDS]
HASHES = [
    ("HSET", "a", "f", "1", "g", "2", "h", "3"),
    ("HSETEX", "b", "EXAT", FAR, "FIELDS", "3", "f", "1", "g", "2", "1", "7"),
]


@examples(150)
@given(sequence=sequences(*COMMANDS), protocol=protocols, mode=modes)
def test_sequences(duel_with_valkey, sequence, protocol, mode):
    duel_with_valkey.run([*HASHES, *sequence], protocol, mode)


@examples(80)
@given(sequence=sequences(*COMMANDS, *MOVES, *MOVES), protocol=protocols, mode=modes)
def test_deadlines_travel_with_their_hash(duel_with_valkey, sequence, protocol, mode):
    asked = [(name, key, "FIELDS", 4, "f", "g", "h", "1") for name in ("HPEXPIRETIME", "HPTTL") for key in "abcd"]
    duel_with_valkey.run([*HASHES, *sequence, *asked], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel_with_valkey, protocol):
    run_scripts(duel_with_valkey, "hash_ttl", protocol)


EVENT_COMMANDS = [
    ("HSET", "h", "f", "1", "g", "2", "x", "1", "y", "2", "z", "3"),
    ("HGETEX", "h", "EX", "100", "FIELDS", "2", "f", "nosuch"),
    ("HGETEX", "h", "PERSIST", "FIELDS", "2", "f", "g"),
    ("HGETEX", "h", "PERSIST", "FIELDS", "2", "f", "g"),
    ("HGETEX", "h", "EX", "0", "FIELDS", "1", "f"),
    ("HGETEX", "nosuch", "FIELDS", "1", "f"),
    ("HGETDEL", "nosuch", "FIELDS", "1", "f"),
    ("HGETDEL", "h", "FIELDS", "1", "nosuch"),
    ("HGETDEL", "h", "FIELDS", "1", "g"),
    ("HEXPIRE", "nosuch", "10", "FIELDS", "1", "g"),
    ("HEXPIRE", "h", "10", "FIELDS", "2", "x", "nosuch"),
    ("HEXPIRE", "h", "0", "FIELDS", "2", "x", "nosuch"),
    ("HTTL", "nosuch", "FIELDS", "1", "f"),
    ("HEXPIRE", "h", "10", "FIELDS", "1", "y"),
    ("HPERSIST", "h", "FIELDS", "1", "y"),
    ("HPERSIST", "h", "FIELDS", "1", "y"),
    ("HSETEX", "h", "EX", "10", "FIELDS", "1", "y", "1"),
    ("HSETEX", "h", "EX", "0", "FIELDS", "1", "y", "1"),
    ("HSETEX", "h", "FIELDS", "1", "y", "1"),
    ("HSETEX", "h", "KEEPTTL", "FIELDS", "1", "y", "1"),
    ("HSETEX", "new", "EX", "0", "FIELDS", "1", "y", "1"),
    ("HSETEX", "new", "EX", "10", "FIELDS", "1", "y", "1"),
    ("HSETEX", "new", "FXX", "FIELDS", "1", "z", "1"),
    ("HSETNX", "new", "y", "2"),
    ("HINCRBY", "new", "y", "2"),
    ("HINCRBYFLOAT", "new", "y", "2"),
    ("HMSET", "new", "y", "2"),
    ("HDEL", "new", "y"),
    ("HGETDEL", "h", "FIELDS", "2", "y", "z"),
    ("HSET", "h", "f", "1"),
    ("HPEXPIREAT", "h", "1", "FIELDS", "1", "f"),
    ("HSET", "h", "f", "1"),
    ("HDEL", "h", "f"),
]
MAKE_DUE = [("HSETEX", "h", "PX", "1", "FIELDS", "2", "a", "1", "b", "2"), ("DEBUG", "SLEEP", "0.005")]
DUE_COMMANDS = [
    *MAKE_DUE,
    ("HLEN", "h"),
    ("HKEYS", "h"),
    ("HGET", "h", "a"),
    ("HEXISTS", "h", "a"),
    ("HSTRLEN", "h", "a"),
    ("HMGET", "h", "a", "b"),
    ("HRANDFIELD", "h"),
    ("HRANDFIELD", "h", "3"),
    ("HRANDFIELD", "h", "-3"),
    ("HRANDFIELD", "h", "1", "WITHVALUES"),
    ("HSCAN", "h", "0"),
    ("HGETALL", "h"),
    ("HDEL", "h", "a"),
    ("HGETDEL", "h", "FIELDS", "1", "a"),
    ("HGETEX", "h", "EX", "10", "FIELDS", "1", "a"),
    ("HEXPIRE", "h", "10", "FIELDS", "1", "a"),
    ("HTTL", "h", "FIELDS", "1", "a"),
    ("HPERSIST", "h", "FIELDS", "1", "a"),
    ("TYPE", "h"),
    ("EXISTS", "h"),
    ("HSET", "h", "a", "1"),
    ("HINCRBY", "h", "b", "1"),
    ("HTTL", "h", "FIELDS", "2", "a", "b"),
    ("HLEN", "h"),
    *MAKE_DUE,
    ("HSETNX", "h", "a", "2"),
    ("HINCRBYFLOAT", "h", "b", "1"),
    *MAKE_DUE,
    ("HSETEX", "h", "FNX", "FIELDS", "1", "b", "1"),
    ("HSETEX", "h", "FXX", "FIELDS", "1", "a", "1"),
    ("HSETEX", "h", "KEEPTTL", "FIELDS", "1", "a", "1"),
    ("HTTL", "h", "FIELDS", "2", "a", "b"),
    *MAKE_DUE,
    ("HSETEX", "h", "EX", "0", "FIELDS", "1", "a", "1"),
    ("HLEN", "h"),
    ("RENAME", "h", "renamed"),
    ("HLEN", "renamed"),
    ("HGETALL", "renamed"),
]


def events(server, commands, flags="KEAmn"):
    steps = [("w", "FLUSHALL"), ("w", "CONFIG", "SET", "notify-keyspace-events", flags), ("l", "PSUBSCRIBE", "__key*")]
    steps += [("w", *command) for command in commands]
    return play(server, [*steps, ("w", "CONFIG", "SET", "notify-keyspace-events", "")], w=2, l=3)


@pytest.mark.parametrize("flags", ["KEAmn", "Eh", "Kg"])
def test_events(subject, valkey_server, flags):
    assert events(subject, EVENT_COMMANDS, flags) == events(valkey_server, EVENT_COMMANDS, flags)


def test_fields_that_are_due_are_seen_by_nobody(subject, valkey_server):
    """Even while nobody removes them."""
    seen = []
    for server in (subject, valkey_server):
        with server.connect() as connection:
            connection.command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
            try:
                seen.append(events(server, DUE_COMMANDS))
            finally:
                connection.command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    assert seen[0] == seen[1]


# ---- On time -----------------------------------------------------------------------------------

def info(connection, field):
    text = connection.command("INFO", "stats").value
    return int(text.split(field.encode() + b":")[1].split()[0])


@pytest.fixture(params=[1, 3])
def server(request, start):
    return start(proactor_threads=request.param)


def test_fields_expire_on_time(server):
    with server.connect() as connection:
        for number in range(200):
            connection.command("HSET", f"h{number}", "stays", "1", "goes", "2", "goes too", "3")
            connection.command("HPEXPIRE", f"h{number}", 100 + number % 50, "FIELDS", 2, "goes", "goes too")
        before = info(connection, "expired_fields")
        time.sleep(0.35)
        assert info(connection, "expired_fields") - before <= 400
        lengths = [reply.value for reply in connection.pipeline([("HLEN", f"h{n}") for n in range(200)])]
        assert lengths == [1] * 200
        assert info(connection, "expired_fields") == info(connection, "expired_subkeys") == 400


def test_events_of_fields_that_expire(server):
    with server.connect() as listener, server.connect() as writer:
        writer.command("CONFIG", "SET", "notify-keyspace-events", "Ehg")
        listener.command("PSUBSCRIBE", "__keyevent@*__:*")
        long_name = "a key whose name does not fit into an entry: " + "x" * 100
        writer.command("SELECT", 2)
        writer.pipeline([("HSET", long_name, "f", "1", "g", "2"), ("HPEXPIRE", long_name, 30, "FIELDS", 2, "f", "g")])
        found = [listener.read_any().value[2:] for _ in range(4)]
        assert found == [[b"__keyevent@2__:" + name, long_name.encode()]
                         for name in (b"hset", b"hexpire", b"hexpired", b"del")]
        assert writer.command("EXISTS", long_name).value == 0


def test_many_fields_due_at_once_do_not_stall_others(server):
    with server.connect() as connection, server.connect() as other:
        used = memory_of(connection)
        for part in range(20):
            names = [f"field:{part}:{number}" for number in range(5000)]
            connection.command("HSET", "h", *[word for name in names for word in (name, "v")])
            connection.command("HPEXPIRE", "h", 1500, "FIELDS", len(names), *names)
        connection.command("HSET", "h", "stays", "1")
        worst, deadline = 0, time.monotonic() + 20
        while connection.command("HLEN", "h").value > 1:
            begin = time.monotonic()
            other.command("PING")
            worst = max(worst, time.monotonic() - begin)
            assert time.monotonic() < deadline
        assert worst < 0.2
        assert connection.command("HGETALL", "h").value == [b"stays", b"1"]
        wait_until(lambda: memory_of(connection) < used + 300_000)


def test_the_index_follows_keys(server):
    """RENAME, COPY, MOVE, SWAPDB and FLUSHDB: fields expire where they are then, and nothing is left behind."""
    with server.connect() as connection:
        used = memory_of(connection)
        for name in ("renamed", "copied", "moved", "swapped", "flushed", "deleted", "overwritten"):
            connection.command("SELECT", 4 if name == "swapped" else 6 if name == "flushed" else 0)
            connection.command("HSET", name, "f", "1", "stays", "1")
            connection.command("HPEXPIRE", name, 300, "FIELDS", 1, "f")
        connection.command("SELECT", 0)
        connection.pipeline([("RENAME", "renamed", "new name"), ("COPY", "copied", "copy"), ("MOVE", "moved", 3),
                             ("SWAPDB", 4, 5), ("DEL", "deleted"), ("SET", "overwritten", "x")])
        connection.command("SELECT", 6)
        connection.command("FLUSHDB")
        connection.command("HSET", "flushed", "f", "1")
        connection.command("SELECT", 0)
        time.sleep(0.6)
        for database, name, left in ((0, "new name", 1), (0, "copied", 1), (0, "copy", 1), (3, "moved", 1),
                                     (5, "swapped", 1), (6, "flushed", 1)):
            connection.command("SELECT", database)
            assert connection.command("HLEN", name).value == left, name
        assert connection.command("HGETALL", "flushed").value == [b"f", b"1"]
        connection.command("FLUSHALL")
        wait_until(lambda: memory_of(connection) < used + 100_000)


def test_entries_without_a_use_are_swept_away(server):
    """Hashes with far deadlines that are overwritten leave nothing behind for long."""
    with server.connect() as connection:
        connection.command("SET", "x", "1")
        used = memory_of(connection)
        for number in range(400):
            connection.command("HSETEX", f"a rather long name of a key: {number}", "EX", 1000000, "FIELDS", 1, "f", "v")
            connection.command("SET", f"a rather long name of a key: {number}", "x")
        connection.command("DEL", *[f"a rather long name of a key: {number}" for number in range(400)])
        wait_until(lambda: memory_of(connection) < used + 60_000)


def test_a_watched_hash_that_loses_a_field_has_changed(server):
    with server.connect() as connection:
        connection.command("HSETEX", "h", "PX", 50, "FIELDS", 1, "f", "v")
        connection.command("HSET", "h", "g", "1")
        connection.command("WATCH", "h")
        time.sleep(0.3)
        connection.command("MULTI")
        connection.command("HLEN", "h")
        assert connection.command("EXEC").value is None


def test_field_names_like_keywords(duel_with_valkey):
    names = ("FIELDS", "EX", "PERSIST", "NX", "fields")
    duel_with_valkey.run([("HSET", "h", *[word for name in names for word in (name, "1")]),
                          ("HEXPIRE", "h", 1000, "FIELDS", len(names), *names),
                          ("HTTL", "h", "FIELDS", len(names), *names),
                          ("HGETEX", "h", "PERSIST", "FIELDS", len(names), *names),
                          ("HSETEX", "h", "EX", 100, "FIELDS", 2, "FIELDS", "2", "NX", "FIELDS"),
                          ("HSETEX", "FIELDS", "EX", 100, "FIELDS", 1, "f", "v"),
                          ("HEXPIRE", "FIELDS", 100, "FIELDS", 1, "f"),
                          ("HPEXPIREAT", "h", FURTHER, "FIELDS", 1, "EX")])
