"""String and bit commands on real shards, without a server: replies and notifications as Redis has them,
memory that comes back, limits."""

import pytest
from compat.arguments import FAR, examples
from compat.differential import resolve
from compat.test_bits import COMMANDS as BIT_COMMANDS
from compat.test_strings import COUNTERS, READS, WRITES
from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.commands_testing import Shards

KEYS = [b"a", b"b", b"c", b"d"]
WITHOUT_CLOCK = [*READS[:-1], *WRITES, *COUNTERS]  # all but TTL, whose replies depend on the clock
TOO_LONG = b"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n"


def with_distant_deadlines(line):
    """SET with a moment in the past: when its key expires would be a matter of timing."""
    line = list(line)
    for index in range(1, len(line)):
        is_moment = line[0].upper() == b"SET" and line[index - 1].upper() in (b"EXAT", b"PXAT")
        if is_moment and len(line[index]) < 10:
            line[index] = str(FAR * 1000).encode()
    return line


def compare(oracle, sequence, shard_count):
    shards = Shards(shard_count)
    oracle.client.command("FLUSHALL")
    for line in map(with_distant_deadlines, resolve(sequence)):
        reply, events = shards.execute(line)
        expected_reply, expected_events = oracle.execute(line)
        events = [(event, key) for _class, event, key in events]
        if shard_count > 1:
            # A command over several shards notifies shard by shard.
            events.sort()
            expected_events.sort()
        assert (line, reply, events) == (line, expected_reply, expected_events)


@examples(80)
@given(sequence=st.lists(st.one_of(*WITHOUT_CLOCK), max_size=20), shard_count=st.sampled_from([1, 2, 5]))
def test_strings_like_redis(oracle, sequence, shard_count):
    compare(oracle, sequence, shard_count)


@examples(60)
@given(sequence=st.lists(st.one_of(*BIT_COMMANDS), max_size=20), shard_count=st.sampled_from([1, 2, 5]))
def test_bits_like_redis(oracle, sequence, shard_count):
    compare(oracle, sequence, shard_count)


@examples(60)
@given(
    values=st.lists(st.text("abcd", max_size=40).map(str.encode), min_size=2, max_size=2),
    words=st.lists(
        st.sampled_from([(), ("LEN",), ("IDX",), ("IDX", "WITHMATCHLEN"), ("IDX", "MINMATCHLEN", 2)])
    ),
    shard_count=st.sampled_from([1, 5]),
)
def test_lcs_like_redis(oracle, values, words, shard_count):
    lines = [("MSET", "a", values[0], "b", values[1]), *(("LCS", "a", "b", *options) for options in words)]
    compare(oracle, lines, shard_count)


def test_every_value_form_is_overwritten_and_freed():
    """Cycles that leave nothing behind: the shards' memory after the second is that after the twentieth."""
    values = [b"", b"1", b"-9223372036854775808", b"x" * 15, b"y" * 16, b"y" * 17, b"z" * 18, b"w" * 5000]
    shards = Shards(3)
    seen = []
    for _cycle in range(20):
        for value in values:
            for key in KEYS:
                shards.execute([b"SET", key, value])
                shards.execute([b"APPEND", key, b"tail" * 10])
                shards.execute([b"SET", key, value, b"EX", b"100"])
                shards.execute([b"SETRANGE", key, b"3", b"middle"])
                shards.execute([b"GETSET", key, value])
                shards.execute([b"SETBIT", key, b"900", b"1"])
            shards.execute([b"MSET", b"a", value, b"b", value, b"c", value])
            shards.execute([b"BITOP", b"XOR", b"d", b"a", b"b", b"c", b"d"])
            shards.execute([b"BITOP", b"NOT", b"d", b"d"])
            shards.execute([b"MGET", *KEYS])
            shards.execute([b"LCS", b"a", b"b"])
        for key in KEYS:
            shards.execute([b"INCRBYFLOAT", key, b"0.5"])
            shards.execute([b"GETDEL", key])
        seen.append(shards.used_bytes())
    assert len(set(seen[1:])) == 1


def test_size_limit():
    shards = Shards(1, proto_max_bulk_len=64)
    shards.execute([b"SET", b"a", b"x" * 60])
    assert shards.execute([b"APPEND", b"a", b"12345"])[0] == TOO_LONG
    assert shards.execute([b"APPEND", b"a", b"1234"])[0] == b":64\r\n"
    assert shards.execute([b"SETRANGE", b"a", b"63", b"12"])[0] == TOO_LONG
    assert shards.execute([b"SETRANGE", b"a", b"9223372036854775807", b"12"])[0] == TOO_LONG
    assert shards.execute([b"SETRANGE", b"b", b"62", b"12"])[0] == b":64\r\n"
    out_of_range = b"-ERR bit offset is not an integer or out of range\r\n"
    assert shards.execute([b"SETBIT", b"c", b"512", b"1"])[0] == out_of_range
    assert shards.execute([b"SETBIT", b"c", b"511", b"1"])[0] == b":0\r\n"
    assert shards.execute([b"BITFIELD", b"c", b"GET", b"u8", b"#64"])[0] == out_of_range


def test_lcs_memory_limit():
    """The bound is that on Redis' table of 4 bytes a cell, although ours is smaller."""
    shards = Shards(1, proto_max_bulk_len=4 * 11 * 11)
    shards.execute([b"MSET", b"a", b"abcdefghij", b"b", b"xbxdxfxhxj", b"c", b"abcdefghijk"])
    assert shards.execute([b"LCS", b"a", b"b"])[0] == b"$5\r\nbdfhj\r\n"
    assert shards.execute([b"LCS", b"a", b"c", b"LEN"])[0] == (
        b"-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n"
    )


@pytest.mark.parametrize("shard_count", [1, 4])
def test_mget_in_resp3(shard_count):
    shards = Shards(shard_count)
    shards.resp = 3
    names = [b"key%d" % number for number in range(100)]
    shards.execute([b"MSET", *(word for name in names[:50] for word in (name, name * 3))])
    expected = b"".join(b"$%d\r\n%s\r\n" % (len(name) * 3, name * 3) for name in names[:50])
    expected += b"_\r\n" * 50
    assert shards.execute([b"MGET", *names])[0] == b"*100\r\n" + expected


def test_msetnx_changes_nothing_if_one_exists():
    for shard_count in (1, 4):
        shards = Shards(shard_count)
        names = [b"key%d" % number for number in range(20)]
        shards.execute([b"SET", names[13], b"old"])
        reply, events = shards.execute([b"MSETNX", *(word for name in names for word in (name, b"new"))])
        assert reply == b":0\r\n"
        assert not [event for event in events if event[1] == "set"]
        assert shards.execute([b"MGET", names[12], names[13]])[0] == b"*2\r\n$-1\r\n$3\r\nold\r\n"


def test_msetex_events_and_atomicity():
    names = [b"key%d" % number for number in range(20)]
    pairs = [word for name in names for word in (name, b"new")]
    for shard_count in (1, 4):
        shards = Shards(shard_count)
        shards.execute([b"SET", names[13], b"old"])
        for line in ([b"MSETEX", b"20", *pairs, b"NX"], [b"MSETEX", b"20", *pairs, b"XX", b"PX", b"5000"]):
            assert shards.execute(line) == (b":0\r\n", [])
        reply, events = shards.execute([b"MSETEX", b"20", *pairs, b"EX", b"100"])
        assert reply == b":1\r\n"
        happened = [event[1:] for event in events]
        for name in names:
            expected = ["set", "expire"] if name == names[13] else ["new", "set", "expire"]
            assert [event for event, key in happened if key == name] == expected
        reply, events = shards.execute([b"MSETEX", b"20", *pairs, b"XX", b"KEEPTTL"])
        assert reply == b":1\r\n" and {event[1] for event in events} == {"set"}
        assert shards.execute([b"TTL", names[3]])[0] == b":100\r\n"


def test_delifeq():
    shards = Shards(2)
    shards.execute([b"SET", b"a", b"12"])
    assert shards.execute([b"DELIFEQ", b"a", b"13"]) == (b":0\r\n", [])
    reply, events = shards.execute([b"DELIFEQ", b"a", b"12"])
    assert (reply, [event[1:] for event in events]) == (b":1\r\n", [("del", b"a")])
    assert shards.execute([b"DELIFEQ", b"a", b"12"])[0] == b":0\r\n"


@pytest.mark.parametrize("shard_count", [1, 4])
def test_bitop_of_redis_8_2(shard_count):
    shards = Shards(shard_count)
    shards.execute([b"MSET", b"x", b"\xf0\xff", b"y", b"\x3c", b"z", b"\x0f\x01\x80"])
    for operation, result in [(b"DIFF", b"\xc0\xfe\0"), (b"diff1", b"\x0f\0\x80"), (b"ANDOR", b"\x30\x01\0"),
                              (b"One", b"\xc3\xfe\x80")]:
        reply, events = shards.execute([b"BITOP", operation, b"d", b"x", b"y", b"z"])
        assert reply == b":3\r\n" and ("set", b"d") in [event[1:] for event in events]
        assert shards.execute([b"GET", b"d"])[0] == b"$3\r\n%s\r\n" % result
    assert shards.execute([b"BITOP", b"ONE", b"d", b"y"])[0] == b":1\r\n"
    assert shards.execute([b"BITOP", b"DIFF", b"y", b"y", b"none"])[0] == b":1\r\n"
    assert shards.execute([b"GET", b"y"])[0] == b"$1\r\n\x3c\r\n"
    for operation in (b"DIFF", b"DIFF1", b"ANDOR"):
        assert shards.execute([b"BITOP", operation.lower(), b"d", b"x"])[0] == (
            b"-ERR BITOP %s must be called with at least two source keys.\r\n" % operation
        )
        assert shards.execute([b"BITOP", operation, b"d", b"none", b"nil"])[0] == b":0\r\n"


def test_big_bitmaps_across_shards():
    """BITOP with sources of several blocks on several shards gives what one shard gives."""
    sources = [bytes((index * factor) & 255 for index in range(20000 + factor)) for factor in (3, 7, 11)]
    results = []
    for shard_count in (1, 8):
        shards = Shards(shard_count)
        shards.execute([b"MSET", b"a", sources[0], b"b", sources[1], b"c", sources[2]])
        for operation in (b"AND", b"OR", b"XOR"):
            reply, _ = shards.execute([b"BITOP", operation, b"d" + operation, b"a", b"b", b"c"])
            assert reply == b":20011\r\n"
        assert shards.execute([b"BITOP", b"NOT", b"a", b"a"])[0] == b":20003\r\n"
        results.append(shards.execute([b"MGET", b"dAND", b"dOR", b"dXOR", b"a"])[0])
    assert results[0] == results[1]
