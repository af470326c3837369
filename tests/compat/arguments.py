"""Hypothesis strategies for arguments, good and bad, and for commands.

Few keys, so that commands meet each other's values; many spellings of numbers, since that is where servers
differ.
"""

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from .differential import Relative

FAR = 4102444800  # the year 2100
FURTHER = 33177117420
LONG_KEY = b"long-key-" * 40

keys = st.one_of(
    st.sampled_from([b"a", b"b", b"c", b"d"]),
    st.sampled_from([b"a", b"b", b"key:{tag}:1", b"key:{tag}:2", b"", b"\x00\xff\r\n", LONG_KEY]),
)

GOOD_INTEGERS = [b"0", b"1", b"-1", b"2", b"3", b"7", b"10", b"-5", b"100"]
LIMIT_INTEGERS = [
    b"2147483647",
    b"-2147483648",
    b"2147483648",
    b"4294967295",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775806",
]
BAD_INTEGERS = [
    b"",
    b"abc",
    b"1.5",
    b"+1",
    b" 1",
    b"1 ",
    b"-0",
    b"00",
    b"01",
    b"0x10",
    b"1e3",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551615",
    b"99999999999999999999999",
    b"1\x00",
    b"-",
    b"\xff",
]
good_integers = st.sampled_from(GOOD_INTEGERS)
limit_integers = st.sampled_from(LIMIT_INTEGERS)
bad_integers = st.sampled_from(BAD_INTEGERS)
integers = st.one_of(good_integers, good_integers, limit_integers, bad_integers)

floats = st.one_of(
    st.sampled_from(
        [
            b"0.1",
            b"1.0",
            b"-2.5",
            b"3",
            b"1e3",
            b"5.0e3",
            b"1.",
            b".5",
            b"-.5",
            b"+1.5",
            b"1e-10",
            b"1e17",
            b"1e30",
            b"1e308",
            b"-1e308",
            b"1e4000",
            b"1e5000",
            b"inf",
            b"-inf",
            b"nan",
            b"infinity",
            b"0x1p3",
            b"",
            b"abc",
            b" 1.5",
            b"1.5 ",
            b"1.5abc",
            b"-0.0",
            b"123456789.123456789",
            b"0.30000000000000004",
            b"1e",
            b"1e+",
        ]
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: repr(number).encode()),
    st.decimals(-10000, 10000, places=3).map(lambda number: str(number).encode()),
)

values = st.one_of(
    st.sampled_from([b"", b"x", b"hello", b"10", b"-1", b"0", b"3.0", b"1.5", b"\x00\x01\xff", b"abcdabcd"]),
    st.sampled_from([b"y" * 11, b"y" * 12, b"y" * 13, b"y" * 15, b"y" * 16, b"y" * 17, b"z" * 44, b"z" * 45]),
    st.sampled_from(
        [b"1" * 18, b"1" * 20, b"long value " * 40, b"\x80" * 63, b"ascii text " * 7, b"q" * 5000]
    ),
    integers,
    floats,
    st.binary(max_size=20),
)

expiry_seconds = st.sampled_from([Relative(100, 1), Relative(10_000, 1), Relative(1_000_000, 1)])
expiry_milliseconds = st.sampled_from(
    [Relative(100, 1000), Relative(10_000, 1000), Relative(1_000_000, 1000)]
)
bad_expiries = st.sampled_from(
    [
        b"0",
        b"-1",
        b"abc",
        b"",
        b"1.5",
        b"9223372036854775807",
        b"9223372036854775",
        b"9223372036854776",
        b"-9223372036854775808",
        b"9223372036854775808",
        b"99999999999999999999",
    ]
)
instants = st.sampled_from([FAR, FAR + 1, FURTHER, 1, 1000])
instants_ms = st.sampled_from([FAR * 1000, FAR * 1000 + 1, FURTHER * 1000, 1, 1000000])


def often(good, bad):
    """Mostly good arguments: a sequence of nothing but errors tests little."""
    return st.integers(0, 7).flatmap(lambda draw: bad if draw == 0 else good)


seconds = often(expiry_seconds, bad_expiries)
milliseconds = often(expiry_milliseconds, bad_expiries)
at_seconds = often(instants, bad_expiries)
at_milliseconds = often(instants_ms, bad_expiries)


def spelled(word):
    """A keyword as written in any case; rarely with a letter too many."""
    word = word.encode() if isinstance(word, str) else word
    return st.sampled_from([word, word, word, word.lower(), word.title(), word, word.swapcase(), word + b"X"])


def command(name, *parts):
    """A command from strategies for its arguments. A part may also yield a tuple: several arguments."""

    def join(drawn):
        line = [drawn[0]]
        for part in drawn[1:]:
            line += part if isinstance(part, tuple | list) else [part]
        return tuple(line)

    return st.tuples(st.sampled_from([name.encode(), name.encode(), name.lower().encode()]), *parts).map(join)


def options(*choices, max_size=3):
    """A few options in any order. A choice is a word, or a tuple: a word, strategies for its arguments."""

    def option(choice):
        if isinstance(choice, str):
            return st.tuples(spelled(choice))
        return st.tuples(spelled(choice[0]), *choice[1:])

    one = st.one_of(*map(option, choices))
    return st.lists(one, max_size=max_size).map(lambda drawn: tuple(word for part in drawn for word in part))


def with_wrong_arity(commands):
    """Mostly the commands as they are; now and then an argument less or more."""

    def damage(line, draw):
        if draw == 0:
            return line[:-1] or line
        if draw == 1:
            return (*line, b"extra")
        return line

    return st.builds(damage, commands, st.integers(0, 24))


def sequences(*commands, max_size=25):
    return st.lists(with_wrong_arity(st.one_of(*commands)), min_size=1, max_size=max_size)


protocols = st.sampled_from([2, 3])
modes = st.sampled_from(["single", "spread", "pipeline"])

DEPTH = float(os.environ.get("DFLY_TEST_DEPTH", "1"))


def examples(count):
    """Settings for `count` examples with the default profile; a profile or DFLY_TEST_DEPTH gives more."""
    scale = settings.default.max_examples / 100 * DEPTH
    return settings(
        max_examples=max(1, int(count * scale)),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
