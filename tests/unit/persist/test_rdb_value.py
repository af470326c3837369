"""Values in RDB format: every form that Redis has written is read, nothing broken is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.persist_testing import convert
from packed import length, listpack, string, ziplist

LIST, LIST_ZIPLIST, QUICKLIST, QUICKLIST_2 = 1, 10, 14, 18
OLD = 9                              # a version in which containers are written element by element

INTEGERS = [0, 1, 12, 13, 127, 128, -1, 4095, -4096, 32767, -32768, 8388607, 8388608, -8388609, 2**31 - 1,
            2**31,
            -(2**63), 2**63 - 1]
elements = st.one_of(
    st.sampled_from(INTEGERS),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([b"a", b"", b"-0", b"x" * 63, b"x" * 64, b"y" * 5000, b"z" * 20000]),
    st.binary(max_size=30).filter(lambda data: not data.lstrip(b"-").isdigit()),
)


def as_text(element):
    return b"%d" % element if isinstance(element, int) else element


def plain(values):
    """The body of a list or set as strings one by one, none of them in a special encoding."""
    return length(len(values)) + b"".join(string(value) for value in values)


def lists_of(values):
    """(type, body) in each form."""
    half = len(values) // 2
    parts = [part for part in (values[:half], values[half:]) if part]
    texts = [as_text(value) for value in values]
    return [
        (LIST, plain(texts)),
        (LIST_ZIPLIST, string(ziplist(values))),
        (QUICKLIST, length(len(parts)) + b"".join(string(ziplist(part)) for part in parts)),
        (QUICKLIST_2, length(len(parts)) + b"".join(b"\2" + string(listpack(part)) for part in parts)),
        (QUICKLIST_2, length(len(texts)) + b"".join(b"\1" + string(text) for text in texts)),
    ]


@given(values=st.lists(elements, min_size=1, max_size=30), limit=st.sampled_from([-2, 3]),
       room=st.sampled_from([0, 300]))
def test_lists(values, limit, room):
    written = {convert(kind, body, to_version=OLD, list_max_listpack_size=limit) for kind,
               body in lists_of(values)}
    assert len(written) == 1
    encoding, kind, body = written.pop()
    assert (encoding, kind) == ("quicklist", LIST)
    expected = convert(LIST, body, list_max_listpack_size=limit, flush_bytes=room)
    assert expected[1] == QUICKLIST_2
    assert convert(QUICKLIST_2, expected[2], to_version=OLD)[2] == body
    assert convert(LIST, plain([as_text(value) for value in values]), to_version=OLD)[2] == body


def test_containers_without_elements():
    for kind, body in [(LIST, b"\0"), (QUICKLIST, b"\0"), (QUICKLIST_2, b"\0"), (LIST_ZIPLIST,
                                                                                 string(ziplist([])))]:
        assert convert(kind, body) == "empty"


@pytest.mark.parametrize("kind", [6, 7, 8, 26, 31, 32, 200, 255])
def test_unknown_types(kind):
    assert convert(kind, b"\1\1a") == "unknown type of a value"


def mutations(data):
    """Something near: a changed byte, a cut, a part twice."""
    places = st.integers(0, max(len(data) - 1, 0))
    return st.one_of(
        st.builds(lambda at, byte: data[:at] + bytes([byte]) + data[at + 1:], places, st.integers(0, 255)),
        st.builds(lambda at: data[:at], places),
        st.builds(lambda at, size: data[:at] + data[at:at + size] + data[at:], places, st.integers(1, 9)),
        st.builds(lambda at, size: data[:at] + data[at + size:], places, st.integers(1, 9)),
    )


def samples():
    values = [1, b"two", 300, b"four" * 20, -70000, b"six" * 3]
    return lists_of(values)


@pytest.mark.parametrize("kind, body", samples(), ids=lambda part: part if isinstance(part, int) else "")
@given(data=st.data())
def test_mutated_bodies_are_refused_or_read(kind, body, data):
    broken = data.draw(mutations(body))
    result = convert(kind, broken)
    if not isinstance(result, str):
        assert convert(result[1], result[2])[1:] == result[1:]


@pytest.mark.parametrize("kind", range(32))
def test_noise(kind):
    noise = random.Random(kind)
    for _ in range(300):
        convert(kind, noise.randbytes(noise.randrange(60)))


def test_announced_counts_allocate_nothing():
    for kind in (LIST, QUICKLIST, QUICKLIST_2):
        assert convert(kind, length(2**40) + b"\1a") == "more elements announced than can follow"
