"""Set commands against Redis; and every other command on keys that hold sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import arguments, test_bits, test_generic, test_lists, test_strings
from .arguments import (
    command,
    examples,
    integers,
    keys,
    modes,
    often,
    options,
    protocols,
    values,
)
from .differential import Duel
from .scripts import run_scripts
from .servers import SUBJECT, Server

# Members that meet each other, and some that change widths and encodings.
numbers = st.one_of(
    st.integers(-3, 12), st.integers(-3, 12), st.sampled_from([300, -40000, 2**31, -(2**63), 2**63 - 1])
).map(lambda number: b"%d" % number)
few_members = st.sampled_from([b"a", b"b", b"c", b"", b"-0", b"01", b"member-of-15-by", b"m" * 16, b"L" * 70])
members = st.one_of(numbers, numbers, few_members)
any_members = st.one_of(members, members, values)
member_lists = st.lists(any_members, min_size=1, max_size=6).map(tuple)
number_lists = st.lists(numbers, min_size=1, max_size=10).map(tuple)
many_numbers = st.builds(
    lambda start, count: tuple(b"%d" % number for number in range(start, start + count)),
    st.integers(-30, 600), st.integers(1, 40),
)
many_texts = st.integers(1, 40).map(lambda count: tuple(b"text-%d" % number for number in range(count)))
key_lists = st.lists(keys, min_size=1, max_size=4).map(tuple)
key_groups = key_lists.map(lambda names: (len(names), *names))
bad_key_groups = st.tuples(integers, keys, keys)
all_of_it = st.sampled_from([0, 1_000_000, 2**62])


def is_no_flood(count):
    """SRANDMEMBER with -2147483648 keeps both servers busy for minutes."""
    try:
        return not -2**63 < int(count) < -1000
    except ValueError:
        return True


ADD = [command("SADD", keys, each) for each in (member_lists, number_lists, many_numbers, many_texts)]
REMOVE = [command("SREM", keys, member_lists), command("SREM", keys, many_numbers)]
READ = [
    command("SCARD", keys),
    command("SMEMBERS", keys),
    command("SISMEMBER", keys, members),
    command("SMISMEMBER", keys, member_lists),
    command("SRANDMEMBER", keys, often(st.one_of(all_of_it, st.integers(-9, 9)), integers.filter(is_no_flood))),
    command("SSCAN", keys, st.just(0), st.just(("COUNT", 10_000)),
            options(("MATCH", st.sampled_from(["*", "[0-9]*", "text*", "a"])), max_size=1)),
    *(command(name, key_lists) for name in ("SINTER", "SUNION", "SDIFF")),
    command("SINTERCARD", often(key_groups, bad_key_groups),
            options(("LIMIT", often(st.integers(0, 4), integers)), max_size=1)),
]
MOVE = [
    command("SMOVE", keys, keys, members),
    command("SMOVE", keys, keys, members),
    *(command(name, keys, key_lists) for name in ("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE")),
    command("SPOP", keys, all_of_it),
]
OTHERS = [
    command("SET", keys, values),
    command("DEL", keys),
    command("TYPE", keys),
    command("EXPIRE", keys, st.sampled_from([1000, -1])),
]
COMMANDS = [*ADD, *ADD, *REMOVE, *READ, *MOVE]


def pair_of(threads, **settings):
    # In slices of one element: what is in the way of long commands meets short ones.
    flags = {"proactor_threads": threads, "slice_elements": 1} if SUBJECT == "dfly" else {}
    return Server(SUBJECT, **settings, **flags), Server("redis", **redis_settings(settings))


def redis_settings(settings):
    """Those that 7.0 knows."""
    return {name: value for name, value in settings.items() if "listpack" not in name}


def sequences(*commands, **limits):
    """Without SPOP of one member, which a line cut short may be: which one goes is not the oracle's choice."""
    def is_same(line):
        return len(line) != 2 or line[0].upper() != b"SPOP"
    return arguments.sequences(*commands, **limits).map(lambda lines: list(filter(is_same, lines)))


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_small_sets(request):
    """Small limits, so that every operation meets conversions."""
    subject, oracle = pair_of(request.param, set_max_intset_entries=8, set_max_listpack_entries=6)
    with subject, oracle:
        yield Duel(subject, oracle)


@examples(150)
@given(sequence=sequences(*COMMANDS, *OTHERS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(120)
@given(sequence=sequences(*COMMANDS, max_size=40), protocol=protocols, mode=modes)
def test_small_limits(duel_of_small_sets, sequence, protocol, mode):
    duel_of_small_sets.run(sequence, protocol, mode)


FILLED = [
    ("SADD", "a", *range(0, 30, 2)),
    ("SADD", "b", *range(0, 30, 3)),
    ("SADD", "c", *(f"text-{number}" for number in range(20)), 6, 12),
    ("SADD", "d", 1, 2, 3, 4, 6),
]


@examples(120)
@given(sequence=sequences(*READ, *MOVE, *MOVE, *REMOVE, max_size=15), protocol=protocols)
def test_operations_on_filled_sets(duel_of_small_sets, sequence, protocol):
    """STORE over shards, with the destination among the sources, in all encodings."""
    duel_of_small_sets.run([*FILLED, *sequence], protocol, "pipeline")


unions = st.lists(st.sampled_from(["a", "b", "c", "d", "none"]), min_size=1, max_size=14)


@examples(60)
@given(sources=unions, more=st.lists(st.integers(0, 400), max_size=150), sequence=sequences(*ADD, max_size=6))
def test_unions_of_many(duel, duel_of_small_sets, sources, more, sequence):
    """Of few sources each member is looked for in the others, of many they are gathered in a set."""
    lines = [*FILLED, *([("SADD", "d", *more)] if more else []), *sequence, ("SUNION", *sources)]
    lines += [("SUNIONSTORE", "out", *sources), ("OBJECT", "ENCODING", "out"), ("SUNIONSTORE", "a", *sources)]
    duel_of_small_sets.run(lines, 2, "pipeline")
    duel.run([line for line in lines if not asks_encoding(line)], 3, "pipeline")


SETS = [("SADD", "a", "x", "y"), ("SADD", "b", "1"), ("SADD", "c", "7", "8", "EX"), ("EXPIRE", "c", 5000)]
generic = [*test_generic.COMMANDS, *test_generic.EXPIRIES, *test_generic.RARE]


@examples(120)
@given(
    sequence=sequences(*test_strings.READS, *test_strings.WRITES, *test_strings.COUNTERS, *test_bits.COMMANDS,
                       *test_lists.PUSH, *test_lists.READ, *test_lists.CHANGE, *test_lists.MOVE),
    protocol=protocols,
    mode=modes,
)
def test_other_types_commands(duel, sequence, protocol, mode):
    duel.run([*SETS, *sequence], protocol, mode)


def asks_encoding(line):
    """7.0 has no listpacks of sets."""
    words = [part.encode() if isinstance(part, str) else part for part in line[:2]]
    return [word.upper() for word in words if isinstance(word, bytes)] == [b"OBJECT", b"ENCODING"]


@examples(150)
@given(sequence=sequences(*generic, *ADD, *REMOVE), protocol=protocols, mode=modes)
def test_generic_commands(duel, sequence, protocol, mode):
    """RENAME, COPY, MOVE, DEL, SCAN TYPE, EXPIRE and their like."""
    duel.run([*SETS, *(line for line in sequence if not asks_encoding(line))], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "sets", protocol)
