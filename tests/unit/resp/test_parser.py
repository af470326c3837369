"""The request parser: what was encoded comes out, however the bytes arrive, and nothing stays behind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfly._core.testing.resp_testing import Parser, measure_arrival, net_bytes, pieces_differ, split_mismatch


def encode(arguments):
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(text), text) for text in arguments)


def quote(text):
    return b'"' + b"".join(b"\\x%02x" % byte for byte in text) + b'"'


NOISE = b"\r\n$3\r\n*1\r\n\0\xff'\"\\ "
blocks = st.builds(lambda size, shift: (NOISE * (size // len(NOISE) + 2))[shift:shift + size],
                   st.one_of(st.integers(0, 70_000),
                             st.sampled_from([0, 9, 10, 99, 100, 999, 1000, 9999, 65536])),
                   st.integers(0, len(NOISE) - 1))
arguments = st.one_of(st.binary(max_size=20), st.binary(max_size=200), blocks)
commands = st.one_of(st.lists(st.binary(max_size=12), min_size=1, max_size=4),
                     st.lists(arguments, min_size=1, max_size=12))
words = st.text("abcXYZ019$*:\\\x0b\x0c\x80", min_size=1, max_size=8).map(lambda text: text.encode("latin-1"))
bare_lines = st.lists(words.filter(lambda word: word.strip(b"\x0b\x0c*") == word), min_size=1, max_size=5)
quoted_lines = st.lists(st.binary(max_size=12), min_size=1, max_size=4)


@st.composite
def pipelines(draw):
    """(bytes, the commands in them): arrays, inline lines bare and quoted, and what is no command."""
    data, expected = [], []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["array", "array", "array", "bare", "quoted", "nothing"]))
        if kind == "array":
            expected.append(draw(commands))
            data.append(encode(expected[-1]))
        elif kind == "bare":
            expected.append(draw(bare_lines))
            data.append(b" ".join(expected[-1]) + draw(st.sampled_from([b"\r\n", b"\n", b" \r\n"])))
        elif kind == "quoted":
            expected.append(draw(quoted_lines))
            data.append(b" ".join(map(quote, expected[-1])) + b"\r\n")
        else:
            data.append(draw(st.sampled_from([b"\r\n", b"\n", b"*0\r\n", b"*-1\r\n", b"  \t\r\n"])))
    return b"".join(data), expected


@given(pipelines())
@settings(max_examples=60)
def test_pipeline_split_at_every_byte(pipeline):
    data, expected = pipeline
    assert Parser().parse_all(data) == (expected, None, len(data))
    assert split_mismatch(data) is None


@given(pipelines(), st.data())
@settings(max_examples=60)
def test_pipeline_in_many_pieces(pipeline, draw):
    data, _ = pipeline
    places = draw.draw(st.lists(st.integers(0, len(data)), max_size=40))
    assert not pieces_differ(data, places)


@given(st.lists(st.lists(st.binary(max_size=5), min_size=1, max_size=30), min_size=1, max_size=4))
def test_byte_by_byte(pipeline):
    data = b"".join(map(encode, pipeline))
    assert not pieces_differ(data, list(range(len(data))))


FRAGMENTS = [b"*1\r\n$4\r\nPING\r\n", b"*2\r\n", b"$1\r\nx\r\n", b"$10\r\n0123456789\r\n", b"PING\r\n", b"*",
             b"$", b"1",
             b"0", b"-", b"12345678", b"\r\n", b"\r", b"\n", b"\0", b"'", b'"', b"\\", b" ", b"x", b"\xff",
             b"*3\r\n"]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=20), st.booleans())
@settings(max_examples=400)
def test_garbage_split_at_every_byte(fragments, authenticated):
    data = b"".join(fragments)
    assert split_mismatch(data, authenticated) is None
    assert not pieces_differ(data, list(range(len(data))), authenticated)


@pytest.mark.parametrize("size",
                         [*range(0, 12), 98, 99, 100, 101, 998, 999, 1000, 9999, 99_999, 999_999, 1_000_000,
                                  9_999_999, 10_000_000])
def test_every_header_width(size):
    command = [b"SET", b"k", b"x" * size]
    data = encode(command) + encode([b"PING"])
    assert Parser().parse_all(data) == ([command, [b"PING"]], None, len(data))


@pytest.mark.parametrize("count", [1, 2, 8, 9, 10, 11, 16, 17, 99, 100, 1000, 12_345])
def test_every_argument_count(count):
    command = [b"%d" % i for i in range(count)]
    data = encode(command)
    assert Parser().parse_all(data * 2) == ([command] * 2, None, 2 * len(data))
    assert not pieces_differ(data, list(range(0, len(data), 97)))


def test_line_end_bytes_are_not_looked_at():
    # Redis skips them too: only the "\r" of a header counts.
    assert Parser().parse_all(b"*1\rX$4\rYPINGab") == ([[b"PING"]], None, 14)


def test_nothing_in_the_window():
    assert Parser().next(b"") == ("need_more", None, 0)


def test_wanted_size():
    parser = Parser()
    head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n"
    assert parser.next(head) == ("need_more", None, 0)
    assert parser.bytes_wanted == len(head) + 1
    assert parser.next(head + b"$1000000\r\n") == ("need_more", None, 0)
    assert parser.bytes_wanted == len(head) + 10 + 1_000_002
    whole = head + b"$1000000\r\n" + b"v" * 1_000_000 + b"\r\n"
    assert parser.next(whole[:-1]) == ("need_more", None, 0)
    assert parser.next(whole + b"rest") == ("ok", [b"SET", b"k", b"v" * 1_000_000], len(whole))
    assert parser.bytes_wanted == 0


def test_work_does_not_grow_with_the_number_of_pieces():
    # 100,000 arguments in pieces of 5 bytes: from the start each time would be 10^10 arguments.
    data = encode([b"x"] * 100_000)
    microseconds, calls = measure_arrival(data, 5)
    assert calls > 100_000 and microseconds < 2_000_000
    # A long line byte by byte.
    data = b"ECHO " + b"x" * 65_000 + b"\n"
    microseconds, calls = measure_arrival(data, 1)
    assert calls == len(data) and microseconds < 2_000_000


def test_reset_forgets_the_incomplete_command():
    for start in (b"*", b"*2\r\n", b"*2\r\n$3\r\nGET\r\n$1", b"*2\r\n$3\r\nGET\r\n$100\r\nabc", b"inline"):
        parser = Parser()
        assert parser.next(start)[0] == "need_more"
        parser.reset()
        assert parser.next(encode([b"PING"])) == ("ok", [b"PING"], 14)


# ---- Errors and limits: the texts are compared with a real server in test_parser_oracle.py -----

def outcome(data, **options):
    return Parser(**options).parse_all(data)[1]


def test_limits_of_the_unauthenticated():
    assert outcome(encode([b"x"] * 10) * 2, authenticated=False) is None
    assert outcome(encode([b"x"] * 11),
                   authenticated=False) == b"Protocol error: unauthenticated multibulk length"
    assert outcome(encode([b"x" * 16_384]), authenticated=False) is None
    assert outcome(encode([b"x" * 16_385]),
                   authenticated=False) == b"Protocol error: unauthenticated bulk length"


def test_bulk_limit():
    limit = 1024 * 1024
    assert outcome(encode([b"x" * limit]), max_bulk_size=limit) is None
    assert outcome(encode([b"x" * (limit + 1)]),
                   max_bulk_size=limit) == b"Protocol error: invalid bulk length"


def test_parser_goes_on_after_an_error():
    parser = Parser()
    assert parser.next(b"*1\r\n$x\r\n")[:2] == ("error", b"Protocol error: invalid bulk length")
    assert parser.next(encode([b"PING"])) == ("ok", [b"PING"], 14)


# ---- Memory --------------------------------------------------------------------------------------

def test_memory_follows_what_arrives_not_what_is_promised():
    before = net_bytes()
    parser = Parser()
    assert parser.next(b"*2147483647\r\n$536870912\r\n")[0] == "need_more"
    assert net_bytes() - before < 1024
    parser.next(b"*2147483647\r\n$536870912\r\n" + b"x" * 100_000)
    assert net_bytes() - before < 1024


def test_shrink_leaves_nothing():
    before = net_bytes()
    parser = Parser()
    assert parser.next(encode([b"x"] * 50_000))[0] == "ok"
    assert parser.next(b'ECHO "' + b"x" * 50_000 + b'"\r\n')[0] == "ok"
    assert net_bytes() - before > 50_000
    parser.shrink()
    assert net_bytes() == before
    assert parser.next(encode([b"PING"])) == ("ok", [b"PING"], 14)


def test_trim_keeps_a_little_and_drops_a_lot():
    parser = Parser()
    parser.next(encode([b"x"] * 20))
    parser.trim()
    assert 20 <= parser.argv_capacity <= 64
    parser.next(encode([b"x"] * 100))
    parser.trim()
    assert parser.argv_capacity == 0
    parser.next(b'"quoted"\n')
    parser.trim()
    assert parser.inline_capacity == 0


def test_shrink_in_the_middle_of_a_command_does_nothing():
    parser = Parser()
    data = encode([b"%d" % i for i in range(100)])
    assert parser.next(data[:-5])[0] == "need_more"
    parser.shrink()
    parser.trim()
    assert parser.next(data)[:2] == ("ok", [b"%d" % i for i in range(100)])


def test_no_memory_left_behind():
    before = net_bytes()
    for data in (encode([b"x"] * 100)[:-1], b'"a" b', b"*1\r\n$x\r\n", b'"a\n', encode([b"y"])):
        Parser().parse_all(data)
    assert net_bytes() == before
