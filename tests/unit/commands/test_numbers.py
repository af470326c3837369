"""Text of long doubles. The expected values are what Redis 7.0.15 answers on x86-64."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.commands_testing import long_double_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"3.0", b"3"),
        (b"0.1", b"0.1"),
        (b"-0.0", b"0"),
        (b"-0.000000000000000000001", b"0"),
        (b"1e20", b"100000000000000000000"),
        (b"5.0e3", b"5000"),
        (b"0x1p3", b"8"),
        (b"100", b"100"),
        (b"1.5e-17", b"0.00000000000000002"),
        (b".5", b"0.5"),
        (b"1.", b"1"),
        (b"+2.25", b"2.25"),
    ],
)
def test_format(text, expected):
    assert long_double_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [b"", b" 1", b"1 ", b"\t1", b"1x", b"1\x00", b"nan", b"-nan", b"abc", b"1e5000", b"-1e5000", b"1e-5000",
     b"--1", b"1e", b"0" * 5120],
)  # fmt: skip
def test_refused(text):
    assert long_double_text(text) is None


def test_longest():
    assert long_double_text(b"1" + b"0" * 4000) is not None
    assert len(long_double_text(b"1e4932")) == 4933


@given(st.integers(-(2**63), 2**63 - 1))
def test_integers_are_exact(number):
    assert long_double_text(str(number).encode()) == str(number).encode()


# Beyond 64 the 17th decimal is no longer exact in a long double of 64 bits, in Redis neither.
@given(st.decimals(-60, 60, places=6))
def test_short_decimals_survive(number):
    expected = f"{number:f}".rstrip("0").rstrip(".") if "." in f"{number:f}" else f"{number:f}"
    assert long_double_text(f"{number:f}".encode()) == ("0" if expected in ("-0", "") else expected).encode()
