"""Checksum, compression and the primitives of RDB files."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.persist_testing import checksum, checksum_by_tables, compress, decompress, read_string, write

texts = st.one_of(
    st.binary(max_size=100),
    st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 400)),
    st.lists(st.sampled_from([b"abc", b"abcd", b"xyz" * 100, b"\0" * 300, b"7"]), max_size=60).map(b"".join),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    st.sampled_from([b"-0", b"00", b"12345678901", b"2147483648", b"-2147483648", b"-2147483649"]),
)


def test_checksum_of_the_catalogue():
    assert checksum(b"123456789") == 0xE9C6D914C4B8D9CA
    assert checksum(b"") == 0


@given(data=st.binary(max_size=200), place=st.integers(0, 200))
def test_checksum_in_parts(data, place):
    assert checksum(data[place:], checksum(data[:place])) == checksum(data)


@given(st.binary(max_size=64), st.integers(0, 700), st.integers(0, 2 ** 64 - 1), st.integers(0, 255))
def test_checksum_of_long_texts_is_that_of_the_tables(text, size, crc, start):
    data = bytes(start) + (text * (size // max(1, len(text)) + 1))[:size]
    assert checksum(data, crc) == checksum_by_tables(data, crc)


def test_checksum_of_every_size():
    data = os.urandom(1200)
    for size in range(1, len(data)):
        assert checksum(data[:size], size) == checksum_by_tables(data[:size], size)



@given(data=texts)
def test_what_is_compressed_comes_back(data):
    packed = compress(data, len(data) + len(data) // 32 + 1)
    assert packed is None if len(data) < 5 else decompress(packed, len(data)) == data
    if packed is not None:
        assert compress(data, len(packed)) == packed
        assert compress(data, len(packed) - 1) is None
        assert decompress(packed, len(data) - 1) is None
        assert decompress(packed, len(data) + 1) is None


def test_far_matches_and_long_ones():
    noise = random.Random(1).randbytes(9000)
    for data in (noise[:8191] * 2, noise[:8192] * 2, noise * 2, noise[:10] + b"z" * 10000 + noise[:10]):
        packed = compress(data, len(data) * 2)
        assert decompress(packed, len(data)) == data
    assert len(compress(b"z" * 100_000, 100_000)) < 1200


@given(data=st.binary(max_size=60), size=st.integers(0, 500))
def test_hostile_compressed_bytes(data, size):
    made = decompress(data, size)
    assert made is None or len(made) == size


@given(pieces=st.lists(st.one_of(texts, st.integers(0, 2**64 - 1)), max_size=20),
       room=st.sampled_from([1, 256, 300, 1000]))
def test_the_flushed_blocks_are_the_whole(pieces, room):
    blocks = write(pieces, flush_bytes=room)
    assert b"".join(blocks) == write(pieces)[0]
    assert all(len(block) == max(room, 256) for block in blocks[:-1])


@given(data=texts, compressing=st.booleans())
def test_strings_come_back(data, compressing):
    written = write([data], compress=compressing)[0]
    assert read_string(written + b"rest") == (data, len(written))
    for size in range(len(written)):
        assert read_string(written[:size])[0] is None


@pytest.mark.parametrize("data, written", [
    (b"7", "c007"), (b"-128", "c080"), (b"128", "c18000"), (b"-32769", "c2ff7fffff"), (b"2147483647",
                                                                                       "c2ffffff7f"),
    (b"2147483648", "0a32313437343833363438"), (b"007", "03303037"), (b"", "00"), (b"aa" * 20,
                                                                                   "c305286161e01e00"),
])
def test_forms_of_strings(data, written):
    assert write([data])[0].hex() == written or len(data) == 40


@pytest.mark.parametrize("number, written", [
    (63, "3f"), (64, "4040"), (16383, "7fff"), (16384, "8000004000"), (2**32 - 1, "80ffffffff"),
    (2**32, "810000000100000000"),
])
def test_forms_of_lengths(number, written):
    assert write([number])[0].hex() == written


@given(data=st.binary(max_size=40))
def test_hostile_strings(data):
    text, taken = read_string(data)
    assert isinstance(taken, str) if text is None else taken <= len(data)


@pytest.mark.parametrize("data, reason", [
    ("81ffffffffffffffff", "impossible size"), ("80ffffffff", "impossible size"), ("c4", "unknown encoding"),
    ("82", "unknown kind"), ("c301", "unexpected end"), ("c30181ffffffffffffffff00", "impossible size"),
    ("c303050000", "unexpected end"), ("c30302000061", "broken"),
])
def test_reasons(data, reason):
    text, why = read_string(bytes.fromhex(data))
    assert text is None and reason in why
