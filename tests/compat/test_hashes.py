"""Hash commands against Redis; and every other command on keys that hold hashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import test_bits, test_generic, test_strings
from .arguments import (
    bad_integers,
    command,
    examples,
    floats,
    good_integers,
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
from .servers import SUBJECT, Server
from .test_lists import memory_of, wait_until

fields = st.one_of(
    st.sampled_from([b"f", b"g", b"h", b"1", b"-7", b"300", b"", b"f" * 15, b"f" * 17, b"g" * 63, b"g" * 64]),
    st.sampled_from([b"f", b"g", b"h", b"1", b"2"]),
    st.sampled_from([b"g" * 65, b"\x00\xff\r\n", b"9223372036854775807", b"9223372036854775808", b"01"]),
)
pairs = st.lists(st.tuples(fields, values), min_size=1, max_size=4).map(
    lambda drawn: tuple(word for pair in drawn for word in pair)
)
many_pairs = st.integers(1, 40).map(
    lambda count: tuple(word for number in range(count) for word in (b"n%d" % number, b"%d" % (number * 37)))
)
field_lists = st.lists(fields, min_size=1, max_size=4).map(tuple)
counts = often(st.integers(-3, 12), st.one_of(bad_integers, st.sampled_from([-(2**63), 2**63 - 1])))

SET = [command(name, keys, pairs) for name in ("HSET", "HMSET")]
SET += [command("HSETNX", keys, fields, values), command("HSET", keys, many_pairs)]
COUNT = [command("HINCRBY", keys, fields, integers), command("HINCRBYFLOAT", keys, fields, floats)]
COUNT += [command("HINCRBY", keys, fields, good_integers)]
READ = [command(name, keys, fields) for name in ("HGET", "HEXISTS", "HSTRLEN")]
READ += [command("HMGET", keys, field_lists), command("HLEN", keys)]
REMOVE = [command("HDEL", keys, field_lists)]
WALK = [command(name, keys) for name in ("HGETALL", "HKEYS", "HVALS")]
RANDOM = [
    command("HRANDFIELD", keys),
    command("HRANDFIELD", keys, counts.filter(lambda count: count != 2**63 - 1)),
    command("HRANDFIELD", keys, counts, st.one_of(spelled("WITHVALUES"))),
]
SCAN = [
    command("HSCAN", keys, st.just(0), st.just("COUNT"), st.just(1000)),
    command("HSCAN", keys, st.just(0), st.just("COUNT"), st.just(1000), st.just("MATCH"), st.just("[fg]*")),
    command("HSCAN", keys, st.sampled_from([b"x", b"0", b"1.5", b""]), st.just("COUNT"), bad_integers,
            st.just("MATCH"), st.just("no such field")),
    command("HSCAN", keys, st.just(0), st.just("COUNT"), st.just(1000),
            options("MATCH", "COUNT", ("TYPE", st.just("hash")), max_size=1)),
]
OTHERS = [
    command("SET", keys, values),
    command("DEL", keys),
    command("TYPE", keys),
    command("EXPIRE", keys, st.sampled_from([1000, -1])),
    command("OBJECT", st.sampled_from(["ENCODING", "REFCOUNT"]), keys),
    command("DEBUG", st.just("DIGEST-VALUE"), keys),
]
COMMANDS = [*SET, *SET, *COUNT, *READ, *READ, *REMOVE, *WALK]


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_small_listpacks(request):
    """Listpacks of at most three fields: nearly every sequence converts."""
    threads = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    limits = {"hash_max_listpack_entries": 3, "hash_max_listpack_value": 16}
    with Server(SUBJECT, **limits, **threads) as subject, Server("redis", **limits) as oracle:
        yield Duel(subject, oracle)


@examples(150)
@given(sequence=sequences(*COMMANDS, *COMMANDS, *RANDOM, *SCAN, *OTHERS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(150)
@given(sequence=sequences(*COMMANDS, *RANDOM, *SCAN, *OTHERS), protocol=protocols, mode=modes)
def test_small_listpacks(duel_of_small_listpacks, sequence, protocol, mode):
    duel_of_small_listpacks.run(sequence, protocol, mode)


HASHES = [
    ("HSET", "a", "f", "1", "g", "x" * 20, "300", "-5"),
    ("HSET", "b", *(b"n%d" % number for number in range(40))),
    ("HSET", "c", "EX", "7"),
    ("EXPIRE", "c", 5000),
]


@examples(100)
@given(sequence=sequences(*READ, *COUNT, *REMOVE, *WALK, *RANDOM, *SCAN, max_size=15), protocol=protocols)
def test_filled_hashes(duel_of_small_listpacks, sequence, protocol):
    duel_of_small_listpacks.run([*HASHES, *sequence], protocol, "pipeline")


@examples(100)
@given(
    sequence=sequences(
        *test_strings.READS, *test_strings.WRITES, *test_strings.COUNTERS, *test_bits.COMMANDS
    ),
    protocol=protocols,
    mode=modes,
)
def test_other_types_commands(duel, sequence, protocol, mode):
    duel.run([*HASHES, *sequence], protocol, mode)


@examples(100)
@given(
    sequence=sequences(*test_generic.COMMANDS, *test_generic.EXPIRIES, *test_generic.RARE, *SET, *REMOVE),
    protocol=protocols,
    mode=modes,
)
def test_generic_commands(duel_of_small_listpacks, sequence, protocol, mode):
    """RENAME, COPY, MOVE, DEL, SCAN TYPE, EXPIRE and their like."""
    duel_of_small_listpacks.run([*HASHES, *sequence], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "hashes", protocol)


def test_settings(start_pair):
    pair = start_pair()
    for name in ("hash-max-listpack-entries", "hash-max-ziplist-entries", "hash-max-listpack-value",
                 "hash-max-ziplist-value"):
        lines = [("CONFIG", "GET", name)]
        for value in ("3", "0", "-1", "2147483647", "99999999999999999999", "x", "512"):
            lines += [("CONFIG", "SET", name, value), ("CONFIG", "GET", name)]
        pair.run(lines, walk=False)


def test_limits_that_change_take_effect(start_pair):
    pair = start_pair()
    hash_of_four = ("HSET", "a", *"abcdefgh")
    pair.run([hash_of_four, ("CONFIG", "SET", "hash-max-listpack-entries", 2), ("OBJECT", "ENCODING", "a"),
              ("HDEL", "a", "a"), ("OBJECT", "ENCODING", "a"), ("HSET", "a", "c", "x"),
              ("OBJECT", "ENCODING", "a"), ("HDEL", "a", *"ceg"), hash_of_four,
              ("CONFIG", "SET", "hash-max-listpack-entries", 512, "hash-max-listpack-value", 5),
              ("HSET", "b", "f", "12345"), ("OBJECT", "ENCODING", "b"), ("HINCRBY", "b", "f", 1000000),
              ("OBJECT", "ENCODING", "b"), ("HINCRBY", "c", "a long field", 1), ("OBJECT", "ENCODING", "c"),
              ("HINCRBYFLOAT", "d", "f", "0.12345678"), ("OBJECT", "ENCODING", "d"),
              ("HSETNX", "d", "f", "too long"), ("HSETNX", "e", "f", "too long"), ("OBJECT", "ENCODING", "e")],
             walk=False)


def test_encoding_and_debug_object(duel):
    for server in duel.servers():
        with server.connect() as connection:
            connection.command("FLUSHALL")
            connection.command("HSET", "hash", "f", "v")
            assert connection.command("OBJECT", "ENCODING", "hash").value == b"listpack"
            assert 40 < connection.command("MEMORY", "USAGE", "hash").value < 200
            connection.pipeline([("HSET", "hash", f"field:{number}", "x" * 20) for number in range(5000)])
            assert connection.command("OBJECT", "ENCODING", "hash").value == b"hashtable"
            words = connection.command("DEBUG", "OBJECT", "hash").value.split()
            assert [word.split(b":")[0] for word in words[1:]] == [
                b"at", b"refcount", b"encoding", b"serializedlength", b"lru", b"lru_seconds_idle"]
            assert connection.command("MEMORY", "USAGE", "hash").value > 200_000
            assert connection.command("SCAN", 0, "TYPE", "hash").value[1] == [b"hash"]
            assert connection.command("SCAN", 0, "TYPE", "string").value[1] == []


ENDINGS = [
    ("DEL", "hash"),
    ("UNLINK", "hash"),
    ("SET", "hash", "x"),
    ("PEXPIRE", "hash", 1),
    ("RENAME", "other", "hash"),
    ("FLUSHALL",),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda line: line[0])
def test_the_memory_of_a_large_hash_comes_back(flushed, ending):
    with flushed.connect() as connection:
        connection.command("SET", "other", "x")
        used = memory_of(connection)
        for part in range(20):
            connection.pipeline([("HSET", "hash", *[word for number in range(500) for word in
                                                    (f"field:{part}:{start}:{number}", "v" * 30)])
                                 for start in range(10)])
        assert memory_of(connection) > used + 5_000_000
        connection.command(*ending)
        wait_until(lambda: memory_of(connection) < used + 300_000)


def test_random_fields_are_spread(flushed):
    """Each of ten fields comes up about as often as the others, in every way to ask."""
    with flushed.connect() as connection:
        for size, limit in ((10, 512), (10, 3), (200, 3)):
            connection.command("FLUSHALL")
            connection.command("CONFIG", "SET", "hash-max-listpack-entries", limit)
            connection.command("HSET", "h", *[word for n in range(size) for word in (f"f{n}", n)])
            connection.command("CONFIG", "SET", "hash-max-listpack-entries", 512)
            for arguments in ((), (-5,), (5,), (2,)):
                seen = {}
                for reply in connection.pipeline([("HRANDFIELD", "h", *arguments)] * 1000):
                    drawn = reply.value if arguments else [reply.value]
                    if arguments and arguments[0] > 0:
                        assert len(set(drawn)) == len(drawn) == arguments[0]
                    for field in drawn:
                        seen[field] = seen.get(field, 0) + 1
                average = sum(seen.values()) / size
                assert len(seen) > size * 0.95
                assert all(average / 3 < count + 3 < average * 3 + 10 for count in seen.values())


def test_scan_finds_what_stays(flushed):
    """Fields that are there all the time are returned while the table grows and shrinks."""
    with flushed.connect() as connection:
        connection.command("CONFIG", "SET", "hash-max-listpack-entries", 3)
        stay = {b"stay:%d" % number for number in range(300)}
        connection.command("HSET", "h", *[word for field in stay for word in (field, "v")])
        for step in range(20):
            cursor, found, turn = b"0", set(), 0
            while True:
                cursor, page = connection.command("HSCAN", "h", cursor, "COUNT", 20).value
                found.update(page[::2])
                turn += 1
                names = [f"temporary:{turn}:{number}" for number in range(200)]
                if (turn + step) % 3:
                    connection.command("HSET", "h", *[word for field in names for word in (field, "v")])
                else:
                    gone = [f"temporary:{back}:{number}" for back in range(turn) for number in range(200)]
                    connection.command("HDEL", "h", *gone, "x")
                if cursor == b"0" or turn > 2000:
                    break
            assert stay <= found
            pages = connection.command("HSCAN", "h", 0, "COUNT", 100000, "NOVALUES").value[1]
            assert stay <= set(pages)
        connection.command("CONFIG", "SET", "hash-max-listpack-entries", 512)
