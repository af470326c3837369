"""String commands against Redis; SET's IFEQ against Valkey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import (
    at_milliseconds,
    at_seconds,
    bad_integers,
    command,
    examples,
    floats,
    integers,
    keys,
    milliseconds,
    modes,
    options,
    protocols,
    seconds,
    sequences,
    spelled,
    values,
)
from .scripts import run_scripts

EXPIRIES = [("EX", seconds), ("PX", milliseconds), ("EXAT", at_seconds), ("PXAT", at_milliseconds)]
small_ranges = st.one_of(st.integers(-12, 12), bad_integers)
# 512 MB is the limit: beyond is an error, and just below would fill the memory of the machine.
offsets = st.one_of(
    st.integers(-1, 30), st.sampled_from([300, 536870912, 4294967296, 2**63 - 1]), bad_integers
)
pairs = st.lists(st.tuples(keys, values), min_size=1, max_size=4).map(lambda drawn: sum(drawn, ()))
key_lists = st.lists(keys, min_size=1, max_size=5).map(tuple)

SET = command("SET", keys, values, options("NX", "XX", "GET", "KEEPTTL", *EXPIRIES))
PLAIN_SET = command("SET", keys, values)
READS = [
    command("GET", keys),
    command("GETEX", keys, options("PERSIST", *EXPIRIES, max_size=2)),
    command("GETDEL", keys),
    command("GETRANGE", keys, small_ranges, small_ranges),
    command("SUBSTR", keys, small_ranges, small_ranges),
    command("MGET", key_lists),
    command("STRLEN", keys),
    command("TTL", keys),
]
WRITES = [
    SET,
    command("GETSET", keys, values),
    command("SETRANGE", keys, offsets, values),
    command("SETEX", keys, seconds, values),
    command("PSETEX", keys, milliseconds, values),
    command("SETNX", keys, values),
    command("MSET", pairs),
    command("MSETNX", pairs),
    command("APPEND", keys, values),
]
COUNTERS = [
    command("INCR", keys),
    command("DECR", keys),
    command("INCRBY", keys, integers),
    command("DECRBY", keys, integers),
    command("INCRBYFLOAT", keys, floats),
    command("SET", keys, st.one_of(integers, floats)),
]


@examples(150)
@given(sequence=sequences(*READS, *WRITES, *COUNTERS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(80)
@given(sequence=sequences(SET, SET, command("GET", keys), max_size=12), protocol=protocols, mode=modes)
def test_set_options(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(80)
@given(sequence=sequences(*COUNTERS), protocol=protocols)
def test_counters(duel, sequence, protocol):
    duel.run(sequence, protocol, "pipeline")


few_letters = st.text("abc", max_size=12).map(str.encode)
LCS_OPTIONS = ["LEN", "IDX", "WITHMATCHLEN", ("MINMATCHLEN", st.one_of(st.integers(-1, 5), bad_integers))]


@examples(60)
@given(
    left=few_letters,
    right=few_letters,
    commands=st.lists(command("LCS", keys, keys, options(*LCS_OPTIONS, max_size=4)), min_size=1, max_size=5),
    protocol=protocols,
)
def test_lcs(duel, left, right, commands, protocol):
    duel.run([("MSET", "a", left, "b", right), *commands], protocol)


IFEQ = command("SET", keys, values, options("NX", "XX", "GET", "KEEPTTL", ("IFEQ", values), ("EX", seconds)))


@examples(60)
@given(sequence=sequences(IFEQ, IFEQ, PLAIN_SET, max_size=12), protocol=protocols, mode=modes)
def test_set_ifeq(duel_with_valkey, sequence, protocol, mode):
    duel_with_valkey.run(sequence, protocol, mode)


counts = st.one_of(st.integers(0, 5), bad_integers, st.sampled_from([b"2147483647", b"2147483648", b"-1"]))
MSETEX_OPTIONS = options("NX", "XX", "KEEPTTL", "GET", *EXPIRIES, ("IFEQ", values))
MSETEX = st.one_of(
    command("MSETEX", counts, pairs, MSETEX_OPTIONS),
    *(command("MSETEX", st.just(len(drawn) // 2), st.just(drawn), MSETEX_OPTIONS) for drawn in [
        (b"a", b"1", b"b", b"2"), (b"c", b"3"), (b"a", b"1", b"a", b"2", b"d", b"5")]),
)


@examples(100)
@given(
    sequence=sequences(MSETEX, MSETEX, PLAIN_SET, command("TTL", keys), command("DEL", keys), max_size=12),
    protocol=protocols,
    mode=modes,
)
def test_msetex(duel_with_valkey, sequence, protocol, mode):
    duel_with_valkey.run(sequence, protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "strings", protocol)


@examples(30)
@given(sequence=sequences(*READS, *WRITES, *COUNTERS), protocol=protocols, word=spelled("LPUSH"))
def test_wrong_type(duel, sequence, protocol, word):
    """Strings commands on a list. Begins when the server has lists."""
    if duel.subject_has("LPUSH"):
        duel.run([("RPUSH", "a", "x", "y"), (word, "b", "z"), *sequence], protocol)
