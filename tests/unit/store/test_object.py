"""The compact object: every string comes back, integers are recognised exactly as Redis does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.dash_testing import object_resized, object_round_trip, parse_integer


@given(st.one_of(st.binary(max_size=70), st.text("abcXYZ019 -_:~\x00\x7f", max_size=70).map(str.encode)))
def test_round_trip(data):
    text, size, _, same, duplicate = object_round_trip(data)
    assert text == duplicate == data and size == len(data) and same


@pytest.mark.parametrize("length", range(71))
@pytest.mark.parametrize("byte", [b"\x00", b"a", b"\x7f", b"\x80", b"\xff"])
def test_all_lengths(length, byte):
    data = byte * length
    text, size, _, same, duplicate = object_round_trip(data)
    assert text == duplicate == data and size == length and same


@given(st.integers(-2**63 - 2, 2**64))
def test_integers(value):
    text = b"%d" % value
    expected = value if -2**63 <= value < 2**63 else None
    assert parse_integer(text) == expected
    assert object_round_trip(text)[0] == text
    assert (object_round_trip(text)[2] == "int") == (expected is not None)


@pytest.mark.parametrize("text", [b"", b"-", b"-0", b"+1", b" 1", b"1 ", b"01", b"1.0", b"0x1", b"--1",
                                  b"1" * 21])
def test_not_integers(text):
    assert parse_integer(text) is None


@given(st.binary(max_size=60), st.integers(0, 200))
def test_resize(data, size):
    text, encoding = object_resized(data, size)
    assert text == data[:size] + b"\0" * max(0, size - len(data))
    assert encoding == "raw"


@pytest.mark.parametrize("length, encoding", [(1, "embstr"), (44, "embstr"), (45, "raw"), (1000, "raw")])
def test_encoding_names(length, encoding):
    assert object_round_trip(b"x" * length)[2] == encoding
