"""XXH3 against the package that everybody uses, and the commands that show or compare it: DIGEST, DELEX, SET."""

import random

import pytest
import xxhash

from dfly._core.testing.commands_testing import Shards, xxh3_of

SHORT = b"-ERR must be exactly 16 hexadecimal characters\r\n"
NIL = b"$-1\r\n"
OK = b"+OK\r\n"


def hexdigest(data):
    return xxhash.xxh3_64_hexdigest(data).encode()


@pytest.mark.parametrize("fill", ["random", "zeros", "ones"])
def test_all_lengths(fill):
    source = {"random": random.Random(5).randbytes(2000), "zeros": bytes(2000), "ones": b"\xff" * 2000}[fill]
    wrong = [size for size in range(2001) if xxh3_of(source[:size]) != xxhash.xxh3_64_intdigest(source[:size])]
    assert not wrong


@pytest.mark.parametrize("size", [1024 * 64 - 1, 1024 * 64, 1024 * 64 + 1, 3_000_000, 7_654_321])
def test_long_inputs(size):
    data = random.Random(size).randbytes(size)
    assert xxh3_of(data) == xxhash.xxh3_64_intdigest(data)


def test_unaligned_inputs():
    data = random.Random(6).randbytes(600)
    shards = Shards(1)
    for size in (8, 15, 100, 300):
        for start in range(8):
            part = data[start : start + size]
            shards.execute([b"SET", b"k", b"x" * start])
            shards.execute([b"APPEND", b"k", part])
            assert shards.execute([b"DIGEST", b"k"])[0] == b"$16\r\n%s\r\n" % hexdigest(b"x" * start + part)


# Values and digests as a real Redis 8.4 gives them.
@pytest.mark.parametrize(
    "value, digest",
    [(b"hello", b"9555e8555c62dcfd"), (b"", b"2d06800538d394c2"), (b"123", b"404a763b3f4c8c9a"),
     (b"v8", b"0cc76dbb41381419"), (b"Hello world", b"b6acb9d84a38ff74")],
)
def test_digest(value, digest):
    shards = Shards(2)
    shards.execute([b"SET", b"k", value])
    assert shards.execute([b"DIGEST", b"k"]) == (b"$16\r\n%s\r\n" % digest, [])


def test_digest_of_what_is_no_string():
    shards = Shards(1)
    assert shards.execute([b"DIGEST", b"none"])[0] == NIL
    shards.execute([b"RPUSH", b"l", b"a"])
    assert shards.execute([b"DIGEST", b"l"])[0].startswith(b"-WRONGTYPE")


CONDITIONS = [
    (b"IFEQ", b"hello", True), (b"ifeq", b"hell", False), (b"IFEQ", b"helloo", False), (b"IFEQ", b"", False),
    (b"IFNE", b"hello", False), (b"IfNe", b"hell", True),
    (b"IFDEQ", hexdigest(b"hello"), True), (b"ifdeq", hexdigest(b"hello").upper(), True),
    (b"IFDEQ", hexdigest(b"hell"), False), (b"IFDEQ", b"z" * 16, False),
    (b"IFDNE", hexdigest(b"hello"), False), (b"IFDNE", hexdigest(b"hello").upper(), False),
    (b"IFDNE", hexdigest(b"hell"), True), (b"IFDNE", b"z" * 16, True),
]


@pytest.mark.parametrize("word, operand, holds", CONDITIONS)
def test_delex(word, operand, holds):
    shards = Shards(2)
    assert shards.execute([b"DELEX", b"k", word, operand])[0] == b":0\r\n"
    shards.execute([b"SET", b"k", b"hello"])
    reply, events = shards.execute([b"DELEX", b"k", word, operand])
    assert reply == (b":1\r\n" if holds else b":0\r\n")
    assert [event[1:] for event in events] == ([("del", b"k")] if holds else [])
    assert shards.execute([b"EXISTS", b"k"])[0] == (b":0\r\n" if holds else b":1\r\n")


@pytest.mark.parametrize("word, operand, holds", CONDITIONS)
def test_set(word, operand, holds):
    shards = Shards(2)
    shards.execute([b"SET", b"k", b"hello"])
    reply, events = shards.execute([b"SET", b"k", b"new", word, operand])
    assert reply == (OK if holds else NIL)
    assert [event[1:] for event in events] == ([("set", b"k")] if holds else [])
    shards.execute([b"SET", b"k", b"hello"])
    assert shards.execute([b"SET", b"k", b"new", b"GET", word, operand])[0] == b"$5\r\nhello\r\n"
    assert shards.execute([b"GET", b"k"])[0] == (b"$3\r\nnew\r\n" if holds else b"$5\r\nhello\r\n")
    is_negative = b"N" in word.upper()
    assert shards.execute([b"SET", b"none", b"v", word, operand])[0] == (OK if is_negative else NIL)
    assert shards.execute([b"EXISTS", b"none"])[0] == b":%d\r\n" % is_negative
    assert shards.execute([b"SET", b"nil", b"v", word, operand, b"GET"])[0] == NIL
    assert shards.execute([b"EXISTS", b"nil"])[0] == b":%d\r\n" % is_negative


def test_set_of_a_list_under_a_condition():
    shards = Shards(1)
    shards.execute([b"RPUSH", b"l", b"a"])
    for word in (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"):
        reply, events = shards.execute([b"SET", b"l", b"v", word, b"0" * 16])
        assert reply.startswith(b"-WRONGTYPE") and not events


def test_set_syntax():
    shards = Shards(1)
    shards.execute([b"SET", b"k", b"v"])
    for tail in ([b"IFNE"], [b"IFNE", b"a", b"NX"], [b"XX", b"IFDEQ", b"0" * 16], [b"IFEQ", b"v", b"IFNE", b"w"],
                 [b"IFNE", b"a", b"IFNE", b"a"], [b"STICKY"], [b"PERSIST"]):
        assert shards.execute([b"SET", b"k", b"w", *tail])[0] == b"-ERR syntax error\r\n", tail
    assert shards.execute([b"SET", b"k", b"w", b"IFNE", b"a", b"EX", b"100", b"GET"])[0] == b"$1\r\nv\r\n"


@pytest.mark.parametrize("digest", [b"", b"1234567890", b"0" * 15, b"0" * 17])
@pytest.mark.parametrize("tail", [[], [b"GET"]], ids=["set", "get"])
def test_digests_of_a_wrong_length(digest, tail):
    """An error only where there is a string to compare with, as in Redis 8.4's own tests."""
    shards = Shards(1)
    shards.execute([b"SET", b"k", b"v"])
    shards.execute([b"RPUSH", b"l", b"a"])
    for word in (b"IFDEQ", b"IFDNE"):
        assert shards.execute([b"SET", b"k", b"w", word, digest, *tail]) == (SHORT, [])
        assert shards.execute([b"SET", b"l", b"w", word, digest, *tail])[0].startswith(b"-WRONGTYPE")
        assert shards.execute([b"SET", word, b"w", word, digest, *tail])[0] == (
            NIL if tail or word == b"IFDEQ" else OK
        )
        assert shards.execute([b"EXISTS", word])[0] == b":%d\r\n" % (word == b"IFDNE")
    assert shards.execute([b"GET", b"k"])[0] == b"$1\r\nv\r\n"


def test_delex_errors_in_their_order():
    shards = Shards(1)
    shards.execute([b"SET", b"k", b"v"])
    shards.execute([b"RPUSH", b"l", b"a"])
    arity = b"-ERR wrong number of arguments for 'delex' command\r\n"
    assert shards.execute([b"DELEX", b"none", b"IFEQ"])[0] == arity
    assert shards.execute([b"DELEX", b"k", b"IFEQ", b"v", b"x"])[0] == arity
    assert shards.execute([b"DELEX", b"none", b"FOO", b"v"])[0] == b":0\r\n"
    for word in (b"IFEQ", b"IFDNE", b"FOO"):
        assert shards.execute([b"DELEX", b"l", word, b"v"])[0] == (
            b"-ERR Key should be of string type if conditions are specified\r\n"
        )
    assert shards.execute([b"DELEX", b"k", b"FOO", b"v"])[0] == (
        b"-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n"
    )
    for digest in (b"", b"0" * 15, b"0" * 17):
        assert shards.execute([b"DELEX", b"k", b"IFDEQ", digest])[0] == SHORT
    assert shards.execute([b"DELEX", b"k"])[0] == shards.execute([b"DELEX", b"l"])[0] == b":1\r\n"
    assert shards.execute([b"DELEX", b"k"]) == (b":0\r\n", [])
