"""The reply builder: each reply in both protocols, byte for byte; doubles against a real redis-server."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dfly._core.testing.resp_testing import Reply, net_bytes

INT64 = st.integers(-2**63, 2**63 - 1)
EDGES = [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 9999, 10_000, 10_001, 12_345_678, 99_999_999, 100_000_000,
         2**31, 2**32, 10**17, 10**18 - 1, 2**63 - 1, -1, -9, -10, -100, -2**63]
BOTH = pytest.mark.parametrize("resp", [2, 3])


def built(resp, name, *arguments):
    reply = Reply(resp)
    getattr(reply, name)(*arguments)
    return reply.take()


@pytest.mark.parametrize("name, arguments, resp2, resp3", [
    ("ok", (), b"+OK\r\n", b"+OK\r\n"),
    ("simple", (b"QUEUED",), b"+QUEUED\r\n", b"+QUEUED\r\n"),
    ("raw", (b":1\r\n",), b":1\r\n", b":1\r\n"),
    ("raw", (b"",), b"", b""),
    ("error", (b"ERR no",), b"-ERR no\r\n", b"-ERR no\r\n"),
    ("error_slice", (b"WRONGTYPE a",), b"-WRONGTYPE a\r\n", b"-WRONGTYPE a\r\n"),
    ("bulk", (b"",), b"$0\r\n\r\n", b"$0\r\n\r\n"),
    ("bulk", (b"a\r\n\0b",), b"$5\r\na\r\n\0b\r\n", b"$5\r\na\r\n\0b\r\n"),
    ("bulk_text", (b"hello",), b"$5\r\nhello\r\n", b"$5\r\nhello\r\n"),
    ("bulk_int", (-42,), b"$3\r\n-42\r\n", b"$3\r\n-42\r\n"),
    ("bulk_reserve", (b"abc",), b"$3\r\nabc\r\n", b"$3\r\nabc\r\n"),
    ("null", (), b"$-1\r\n", b"_\r\n"),
    ("null_array", (), b"*-1\r\n", b"_\r\n"),
    ("bool", (True,), b":1\r\n", b"#t\r\n"),
    ("bool", (False,), b":0\r\n", b"#f\r\n"),
    ("double", (1.5,), b"$3\r\n1.5\r\n", b",1.5\r\n"),
    ("double", (math.nan,), b"$3\r\nnan\r\n", b",nan\r\n"),
    ("double", (-math.nan,), b"$3\r\nnan\r\n", b",nan\r\n"),
    ("big_number", (b"123456789012345678901234567890",), b"$30\r\n123456789012345678901234567890\r\n",
     b"(123456789012345678901234567890\r\n"),
    ("verbatim", (b"text\r\n", b"txt"), b"$6\r\ntext\r\n\r\n", b"=10\r\ntxt:text\r\n\r\n"),
    ("header", ("*", 2**64 - 1), b"*18446744073709551615\r\n", b"*18446744073709551615\r\n"),
    ("array", (0,), b"*0\r\n", b"*0\r\n"),
    ("array", (1234,), b"*1234\r\n", b"*1234\r\n"),
    ("map", (3,), b"*6\r\n", b"%3\r\n"),
    ("set", (3,), b"*3\r\n", b"~3\r\n"),
    ("push", (3,), b"*3\r\n", b">3\r\n"),
])
def test_reply(name, arguments, resp2, resp3):
    assert built(2, name, *arguments) == resp2
    assert built(3, name, *arguments) == resp3


@given(INT64)
def test_int(value):
    assert built(2, "int", value) == b":%d\r\n" % value
    assert built(2, "bulk_int", value) == b"$%d\r\n%d\r\n" % (len(str(value)), value)


@pytest.mark.parametrize("value", EDGES)
def test_int_edges(value):
    assert built(3, "int", value) == b":%d\r\n" % value
    assert built(3, "bulk_int", value) == b"$%d\r\n%d\r\n" % (len(str(value)), value)


@pytest.mark.parametrize("size",
                         [*range(0, 13), 98, 99, 100, 101, 999, 1000, 1023, 1024, 1025, 9999, 65_536,
                          5_000_000])
def test_bulk_sizes(size):
    data = b"x" * size
    assert built(2, "bulk", data) == built(2, "bulk_reserve", data) == b"$%d\r\n%s\r\n" % (size, data)


@pytest.mark.parametrize("text, line", [
    (b"ERR a\r\nb", b"-ERR a  b\r\n"), (b"ERR a\r\n", b"-ERR a\r\n"), (b"ERR \n\r\n\r", b"-ERR \r\n"),
    (b"\r\n", b"-\r\n"),
    (b"ERR it's \xff\0", b"-ERR it's \xff\0\r\n"),
])
def test_error_stays_one_line(text, line):
    assert built(2, "error_slice", text) == line


def test_error_count():
    reply = Reply(2)
    reply.error(b"ERR a")
    reply.ok()
    reply.error_slice(b"ERR b")
    assert reply.error_count == 2
    reply.reset()
    assert reply.error_count == 0


def test_protocol_may_change_between_replies():
    reply = Reply(2)
    reply.null()
    reply.resp = 3
    reply.null()
    assert reply.take() == b"$-1\r\n_\r\n"


# ---- Doubles -------------------------------------------------------------------------------------

DOUBLES = ["0.1", "1e21", "3", "-0.0", "0", "1e-7", "1e16", "99999999999999984", "1e17", "-1e17",
           "123456789012345678",
           "1e300", "1.7976931348623157e308", "5e-324", "2.2250738585072014e-308", "inf", "-inf", "3.14",
           "1.5", "100000",
           "9007199254740993", "-123456789", "1e22", "0.3", "1e15", "1234567.891", "2.5e-5", "0.0001", "1e-5",
           "-2.5"]


def oracle_doubles(redis, resp, texts):
    """What ZADD INCR answers, a double each."""
    data = b"HELLO %d\r\nDEL z\r\n" % resp
    data += b"".join(b"ZADD z INCR %s member%d\r\n" % (text.encode(), i) for i, text in enumerate(texts))
    answer = redis.exchange(data)
    return answer[answer.index(b"modules\r\n*0\r\n:") + len("modules\r\n*0\r\n:0\r\n"):]


@BOTH
def test_doubles_as_redis_writes_them(redis, resp):
    reply = Reply(resp)
    for text in DOUBLES:
        reply.double(float(text))
    assert reply.take() == oracle_doubles(redis, resp, DOUBLES)


def printed(value):
    return b",%s\r\n" % (b"%.17g" % value)


@given(st.one_of(st.floats(-1e16, 1e16), st.floats(-10, 10), st.floats(-1, 1), st.floats(0.0035, 0.0045),
                 st.decimals(-1000, 1000, places=3).map(float),
                 st.tuples(st.integers(1, 2**53),
                           st.integers(0, 80)).map(lambda pair: pair[0] / 2.0 ** pair[1])))
@settings(max_examples=2000)
def test_fractions_as_printf_writes_them(value):
    assert built(3, "double", value) == printed(value)


def test_fractions_at_every_power_of_two_and_ten():
    for power in [2.0 ** i for i in range(-70, 60)] + [10.0 ** i for i in range(-10, 18)]:
        for near in (power, math.nextafter(power, 0), math.nextafter(power, math.inf), power * 3, power * 1.1,
                     power / 3):
            assert built(3, "double", near) == printed(near)
            assert built(3, "double", -near) == printed(-near)


@given(st.lists(st.one_of(st.floats(allow_nan=False), st.integers(-10**19, 10**19).map(float)), max_size=30))
def test_any_double_as_redis_writes_it(redis, values):
    reply = Reply(3)
    for value in values:
        reply.double(value)
    assert reply.take() == oracle_doubles(redis, 3, [repr(value) for value in values])


# ---- Replies whose length is known at the end ----------------------------------------------------

@BOTH
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 100, 1000, 100_000])
def test_deferred_array(resp, count):
    reply = Reply(resp)
    reply.ok()
    mark = reply.defer_array()
    for i in range(count):
        reply.int(i)
    reply.set_deferred(mark, "*", count)
    reply.ok()
    elements = b"".join(b":%d\r\n" % i for i in range(count))
    assert reply.take() == b"+OK\r\n*%d\r\n" % count + elements + b"+OK\r\n"


@pytest.mark.parametrize("kind, resp2, resp3", [("*", b"*7\r\n", b"*7\r\n"), ("~", b"*7\r\n", b"~7\r\n"),
                                                 (">", b"*7\r\n", b">7\r\n"), ("%", b"*14\r\n", b"%7\r\n")])
def test_deferred_kinds(kind, resp2, resp3):
    for resp, line in ((2, resp2), (3, resp3)):
        reply = Reply(resp)
        mark = reply.defer_array()
        reply.bulk(b"rest")
        reply.set_deferred(mark, kind, 7)
        assert reply.take() == line + b"$4\r\nrest\r\n"


trees = st.recursive(st.binary(max_size=20), lambda children: st.lists(children, max_size=15), max_leaves=60)


def encode_tree(tree):
    if isinstance(tree, bytes):
        return b"$%d\r\n%s\r\n" % (len(tree), tree)
    return b"*%d\r\n" % len(tree) + b"".join(map(encode_tree, tree))


def append_tree(reply, tree):
    if isinstance(tree, bytes):
        reply.bulk(tree)
        return
    mark = reply.defer_array()
    for child in tree:
        append_tree(reply, child)
    reply.set_deferred(mark, "*", len(tree))


@given(trees)
@example([b"x"] * 9 + [[b"y"] * 10] * 2)
def test_deferred_arrays_nest(tree):
    reply = Reply(2)
    append_tree(reply, tree)
    assert reply.take() == encode_tree(tree)


# ---- Memory --------------------------------------------------------------------------------------

@given(st.lists(st.one_of(INT64, st.binary(max_size=300),
                          st.integers(0, 20_000).map(lambda size: b"v" * size)),
                max_size=200))
def test_growth_keeps_what_is_there(values):
    reply = Reply(2)
    expected = []
    for value in values:
        if isinstance(value, int):
            reply.int(value)
            expected.append(b":%d\r\n" % value)
        else:
            reply.bulk(value)
            expected.append(b"$%d\r\n%s\r\n" % (len(value), value))
    assert reply.take() == b"".join(expected)


def test_growth_to_megabytes_and_memory():
    before = net_bytes()
    reply = Reply(2)
    assert net_bytes() == before, "nothing is allocated before the first byte"
    for _ in range(300_000):
        reply.bulk(b"sixteen bytes ..")
    assert reply.capacity >= 300_000 * 23
    assert reply.capacity <= 2 * 300_000 * 23
    assert reply.take() == b"$16\r\nsixteen bytes ..\r\n" * 300_000
    capacity = reply.capacity
    reply.ok()
    assert reply.capacity == capacity, "reset keeps the memory"
    del reply
    assert net_bytes() == before
