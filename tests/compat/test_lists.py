"""List commands against Redis; and every other command on keys that hold lists."""


import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import test_bits, test_generic, test_strings
from .arguments import (
    bad_integers,
    command,
    examples,
    integers,
    keys,
    modes,
    often,
    options,
    protocols,
    sequences,
    spelled,
    values,
)
from .differential import Duel
from .scripts import run_scripts
from .servers import SUBJECT, Server, wait_until

# Few elements, so that pivots, LREM and LPOS find something; some that change blocks and encodings.
few_elements = st.sampled_from([b"a", b"b", b"c", b"1", b"2", b"-7", b"300", b""])
elements = st.one_of(few_elements, few_elements, values)
element_lists = st.lists(elements, min_size=1, max_size=6).map(tuple)
long_element_lists = st.one_of(
    element_lists,
    st.builds(lambda data, times: tuple(data) * times, element_lists, st.integers(1, 40)),
    st.integers(1, 300).map(lambda count: tuple(b"%d" % (number * 37) for number in range(count))),
)
far_indexes = st.sampled_from([50, -50, 2**31, -(2**63), 2**63 - 1])
good_indexes = st.one_of(st.integers(-8, 8), st.integers(-8, 8), far_indexes)
indexes = often(good_indexes, bad_integers)
counts = often(st.integers(0, 7), integers)
ends = st.one_of(spelled("LEFT"), spelled("RIGHT"))
sides = st.one_of(spelled("BEFORE"), spelled("AFTER"))
positions = options(
    ("RANK", often(st.sampled_from([1, -1, 2, -2, 3]), st.one_of(integers, st.just(0)))),
    ("COUNT", counts),
    ("MAXLEN", counts),
)
key_groups = st.lists(keys, min_size=1, max_size=4).map(lambda names: (len(names), *names))
bad_key_groups = st.tuples(integers, keys, keys)

PUSH = [command(name, keys, element_lists) for name in ("LPUSH", "RPUSH")]
PUSH_IF = [command(name, keys, element_lists) for name in ("LPUSHX", "RPUSHX")]
PUSH_MANY = [command(name, keys, long_element_lists) for name in ("LPUSH", "RPUSH")]
POP = [command(name, keys, *rest) for name in ("LPOP", "RPOP") for rest in ((), (counts,))]
READ = [
    command("LLEN", keys),
    command("LINDEX", keys, indexes),
    command("LRANGE", keys, indexes, indexes),
    command("LPOS", keys, elements, positions),
]
CHANGE = [
    command("LSET", keys, indexes, elements),
    command("LINSERT", keys, sides, few_elements, elements),
    command("LREM", keys, indexes, elements),
    command("LTRIM", keys, indexes, indexes),
]
MOVE = [
    command("LMOVE", keys, keys, ends, ends),
    command("RPOPLPUSH", keys, keys),
    command("LMPOP", often(key_groups, bad_key_groups), ends, options(("COUNT", counts), max_size=2)),
]
OTHERS = [
    command("SET", keys, values),
    command("DEL", keys),
    command("TYPE", keys),
    command("EXPIRE", keys, st.sampled_from([1000, -1])),
    command("OBJECT", st.sampled_from(["ENCODING", "REFCOUNT"]), keys),
]
COMMANDS = [*PUSH, *PUSH, *PUSH_MANY, *PUSH_IF, *POP, *READ, *CHANGE, *MOVE]


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_small_blocks(request):
    """Blocks of at most three elements: every operation meets their boundaries."""
    threads = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    with (
        Server(SUBJECT, list_max_listpack_size=3, **threads) as subject,
        Server("redis", list_max_listpack_size=3) as oracle,
    ):
        yield Duel(subject, oracle)


@examples(150)
@given(sequence=sequences(*COMMANDS, *COMMANDS, *OTHERS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(100)
@given(sequence=sequences(*COMMANDS), protocol=protocols, mode=modes)
def test_small_blocks(duel_of_small_blocks, sequence, protocol, mode):
    duel_of_small_blocks.run(sequence, protocol, mode)


FILLED = [
    ("RPUSH", "a", *(b"%d" % (number % 9) for number in range(40))),
    ("LPUSH", "b", "x", "y", "x", "y" * 3000),
]


@examples(100)
@given(sequence=sequences(*READ, *CHANGE, *MOVE, *POP, max_size=15), protocol=protocols)
def test_filled_lists(duel_of_small_blocks, sequence, protocol):
    duel_of_small_blocks.run([*FILLED, *sequence], protocol, "pipeline")


@examples(60)
@given(
    lines=st.lists(command("LPOS", st.just("a"), few_elements, positions), max_size=20), protocol=protocols
)
def test_positions(duel, lines, protocol):
    duel.run([("RPUSH", "a", *"abcabc1212", *["300", ""] * 3), *lines], protocol, "pipeline", walk=False)


@examples(60)
@given(
    sequence=sequences(*MOVE, *PUSH_IF, *POP, command("LRANGE", keys, st.just(0), st.just(-1)), max_size=30),
    protocol=protocols,
    mode=modes,
)
def test_moves(duel, sequence, protocol, mode):
    lists = [("RPUSH", key, *(f"{key}{number}" for number in range(4))) for key in "abcd"]
    duel.run([*lists, ("SET", "", "no list"), *sequence], protocol, mode)


LISTS = [("RPUSH", "a", "x", "y"), ("LPUSH", "b", "1"), ("RPUSH", "c", "7", "8", "EX"), ("EXPIRE", "c", 5000)]


@examples(150)
@given(
    sequence=sequences(
        *test_strings.READS, *test_strings.WRITES, *test_strings.COUNTERS, *test_bits.COMMANDS
    ),
    protocol=protocols,
    mode=modes,
)
def test_other_types_commands(duel, sequence, protocol, mode):
    """Strings and bits on lists: errors where Redis has them, lists overwritten where it does that."""
    duel.run([*LISTS, *sequence], protocol, mode)


@examples(60)
@given(
    lines=st.lists(command("LCS", keys, keys, options(*test_strings.LCS_OPTIONS, max_size=2)), max_size=8),
    protocol=protocols,
)
def test_lcs(duel, lines, protocol):
    duel.run([*LISTS, ("SET", "d", "text"), *lines], protocol)


@examples(150)
@given(
    sequence=sequences(*test_generic.COMMANDS, *test_generic.EXPIRIES, *test_generic.RARE, *PUSH, *POP),
    protocol=protocols,
    mode=modes,
)
def test_generic_commands(duel, sequence, protocol, mode):
    """RENAME, COPY, MOVE, DEL, SCAN TYPE, EXPIRE and their like."""
    duel.run([*LISTS, *sequence], protocol, mode)


@examples(80)
@given(sequence=sequences(*test_generic.MOVES, *PUSH, *POP, *CHANGE), protocol=protocols, mode=modes)
def test_copies_are_independent(duel_of_small_blocks, sequence, protocol, mode):
    duel_of_small_blocks.run([*LISTS, *FILLED[:1], *sequence], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "lists", protocol)


@pytest.mark.parametrize("setting", [-5, -1, 1, 0, 1000])
def test_every_block_size(start_pair, setting):
    sizes = [0, 1, 60, 111, 112, 250, 4000, 4096, 8000, 8192, 9000, 65500, 70000]
    data = [b"%d:" % size + b"z" * size for size in sizes]
    pair = start_pair(list_max_listpack_size=setting)
    sequence = [("RPUSH", "a", *data, *data), ("LPUSH", "a", *data)]
    sequence += [("LINSERT", "a", "BEFORE", data[size], "between") for size in range(len(sizes))]
    sequence += [("LSET", "a", index, data[-1 - index]) for index in range(len(sizes))]
    sequence += [("LINDEX", "a", index) for index in range(-20, 20)]
    sequence += [("COPY", "a", "b"), ("LREM", "b", -1, data[-1]), ("LREM", "b", 0, "between")]
    sequence += [("LMOVE", "a", "b", "LEFT", "RIGHT"), ("LMOVE", "a", "a", "RIGHT", "LEFT")] * 20
    sequence += [("LTRIM", "b", 5, -5), ("LPOP", "a", 12), ("RPOP", "a", 7)]
    pair.run(sequence, mode="pipeline")


def test_settings(start_pair):
    pair = start_pair()
    for name in ("list-max-listpack-size", "list-max-ziplist-size", "list-compress-depth"):
        lines = [("CONFIG", "GET", name)]
        for value in ("-1", "5", "0", "-6", "-2147483648", "2147483647", "99999999999", "x", "-2"):
            lines += [("CONFIG", "SET", name, value), ("CONFIG", "GET", name)]
        pair.run(lines, walk=False)


def test_encoding_and_debug_object(duel):
    for server in duel.servers():
        with server.connect() as connection:
            connection.command("FLUSHALL")
            connection.pipeline([("RPUSH", "list", *range(500))] * 20)
            assert connection.command("OBJECT", "ENCODING", "list").value == b"quicklist"
            words = connection.command("DEBUG", "OBJECT", "list").value.split()
            names = [word.split(b":")[0] for word in words[1:]]
            assert names == [
                *(b"at", b"refcount", b"encoding", b"serializedlength", b"lru", b"lru_seconds_idle"),
                *(b"ql_nodes", b"ql_avg_node", b"ql_listpack_max", b"ql_compressed", b"ql_uncompressed_size"),
            ]
            assert connection.command("MEMORY", "USAGE", "list").value > 20000
            assert connection.command("SCAN", 0, "TYPE", "list").value[1] == [b"list"]
            assert connection.command("SCAN", 0, "TYPE", "string").value[1] == []


ENDINGS = [
    ("DEL", "list"),
    ("UNLINK", "list"),
    ("SET", "list", "x"),
    ("LTRIM", "list", 5, 6),
    ("LREM", "list", 0, "some element of a list"),
    ("PEXPIRE", "list", 1),
    ("RENAME", "other", "list"),
    ("FLUSHALL",),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda line: line[0])
def test_a_long_list_goes_in_slices_and_its_memory_comes_back(flushed, ending):
    """Neither the command nor another client waits for millions of elements, and nothing is lost."""
    with flushed.connect() as connection:
        connection.command("SET", "other", "x")
        used = memory_of(connection)
        connection.pipeline([("RPUSH", "list", *[b"some element of a list"] * 10_000)] * 100)
        assert memory_of(connection) > used + 20_000_000
        connection.command(*ending)
        # Buffers, which may have grown, count in whole megabytes.
        wait_until(lambda: memory_of(connection) < used + (1 << 20) + 300_000)


def memory_of(connection):
    text = connection.command("INFO", "memory").value
    return int(text.split(b"used_memory:")[1].split()[0])
