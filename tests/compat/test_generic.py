"""Commands that treat all types alike: keys, expiry, databases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import (
    FAR,
    at_milliseconds,
    at_seconds,
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
from .scripts import run_scripts

databases = often(
    st.integers(0, 2), st.sampled_from([b"15", b"16", b"-1", b"abc", b"", b"99999999999999999999"])
)
key_lists = st.lists(keys, min_size=1, max_size=5).map(tuple)
patterns = st.one_of(
    st.sampled_from(
        [b"*", b"?", b"a", b"[ab]", b"[^a]", b"[a-c]", b"key:*", b"*tag*", b"\\a", b"[", b"[a", b"", b"**"]
    ),
    st.text("ab*?[]^-\\c", max_size=6).map(str.encode),
)
conditions = options("NX", "XX", "GT", "LT", max_size=2)

COMMANDS = [
    command("SET", keys, values),
    command("SET", keys, values, options(("EX", seconds), ("PXAT", at_milliseconds), max_size=1)),
    command("DEL", key_lists),
    command("UNLINK", key_lists),
    command("EXISTS", key_lists),
    command("TOUCH", key_lists),
    command("TYPE", keys),
    command("RENAME", keys, keys),
    command("RENAMENX", keys, keys),
    command("COPY", keys, keys, options("REPLACE", ("DB", databases))),
    command("MOVE", keys, databases),
    command("PERSIST", keys),
    command("KEYS", patterns),
    command("RANDOMKEY"),
    command("SELECT", databases),
    command("SWAPDB", databases, databases),
    command(
        "SCAN",
        st.just(0),
        st.just(("COUNT", 1000000)),
        options(("MATCH", patterns), ("TYPE", keys), max_size=2),
    ),
    command("OBJECT", st.sampled_from(["ENCODING", "REFCOUNT", "IDLETIME", "FREQ", "encoding", "BAD"]), keys),
    *(command(name, keys) for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "GET")),
]
RARE = [
    command("FLUSHDB", options("ASYNC", "SYNC", max_size=1)),
    command("FLUSHALL", options("ASYNC", "SYNC")),
]
EXPIRIES = [
    command("EXPIRE", keys, seconds, conditions),
    command("PEXPIRE", keys, milliseconds, conditions),
    command("EXPIREAT", keys, at_seconds, conditions),
    command("PEXPIREAT", keys, at_milliseconds, conditions),
]


@examples(150)
@given(sequence=sequences(*COMMANDS, *COMMANDS, *EXPIRIES, *RARE), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(100)
@given(
    sequence=sequences(
        *EXPIRIES, command("TTL", keys), command("PERSIST", keys), command("SET", keys, values)
    ),
    protocol=protocols,
    mode=modes,
)
def test_expiry(duel, sequence, protocol, mode):
    duel.run([("MSET", "a", 1, "b", 2, "c", 3), *sequence], protocol, mode)


few_keys = st.sampled_from([b"a", b"b", b"c"])
MOVES = [
    command("RENAME", few_keys, few_keys),
    command("RENAMENX", few_keys, few_keys),
    command("COPY", few_keys, few_keys, options("REPLACE", ("DB", databases), max_size=2)),
    command("MOVE", few_keys, databases),
    command("SET", few_keys, values, options(("EXAT", st.just(FAR)), max_size=1)),
    command("SELECT", st.integers(0, 2)),
    command("SWAPDB", st.integers(0, 2), st.integers(0, 2)),
    command("DEL", few_keys),
    command("DBSIZE"),
]


@examples(120)
@given(sequence=sequences(*MOVES), protocol=protocols, mode=modes)
def test_moves(duel, sequence, protocol, mode):
    """Values move between keys, shards and databases, with their TTL."""
    duel.run(sequence, protocol, mode)


@examples(100)
@given(
    names=st.lists(st.text("ab*?[]^-\\c", max_size=5), max_size=8), questions=st.lists(patterns, max_size=12)
)
def test_patterns(duel, names, questions):
    stores = [("SET", name, 1) for name in names]
    scans = [("SCAN", 0, "COUNT", 100000, "MATCH", pattern) for pattern in questions]
    duel.run([*stores, *(("KEYS", pattern) for pattern in questions), *scans], mode="pipeline", walk=False)


SCAN_WORDS = options(
    ("MATCH", patterns),
    ("COUNT", st.sampled_from([b"0", b"-1", b"abc", b"1000000", b"9223372036854775808"])),
    ("TYPE", spelled("string")),
    "JUNK",
)
bad_cursors = st.sampled_from(
    [b"abc", b"", b"-1", b"0x1", b"1.5", b" 0", b"0 ", b"18446744073709551616", b"00", b"+0"]
)


@examples(80)
@given(
    lines=st.lists(command("SCAN", often(st.just(b"0"), bad_cursors), SCAN_WORDS), max_size=10),
    protocol=protocols,
)
def test_scan_arguments(duel, lines, protocol):
    duel.run([*lines], protocol, "pipeline", walk=False)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "generic", protocol)


def scan_all(connection, *options):
    """All keys that a scan returns, and how often each."""
    cursor, seen = b"0", []
    for _ in range(100_000):
        cursor, keys = connection.command("SCAN", cursor, *options).value
        seen += keys
        if cursor == b"0":
            return seen
    raise AssertionError("the scan does not end")


@pytest.mark.parametrize("count", [None, 1, 7, 100, 5000])
def test_scan_collects_everything(flushed, count):
    names = {b"scan:%d" % index for index in range(1500)}
    with flushed.connect() as connection:
        connection.pipeline([("SET", name, 1) for name in names])
        seen = scan_all(connection, *(("COUNT", count) if count else ()))
        assert set(seen) == names
        assert len(seen) == len(names), "no table grew, so nothing should come twice"
        assert set(scan_all(connection, "MATCH", "scan:1*")) == {
            name for name in names if name.startswith(b"scan:1")
        }
        assert scan_all(connection, "TYPE", "list") == []
        assert len(scan_all(connection, "TYPE", "string", "COUNT", 50)) == len(names)


def test_randomkey_reaches_every_key(flushed):
    names = {b"random:%d" % index for index in range(20)}
    with flushed.connect() as connection:
        connection.pipeline([("SET", name, 1) for name in names])
        assert {reply.value for reply in connection.pipeline([("RANDOMKEY",)] * 3000)} == names
