"""Kernels of the bit commands against Python's integers and strings of '0' and '1'."""

from functools import reduce
from operator import and_, or_, xor

from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.commands_testing import combine_bits, count_bits, find_bit, read_field, write_field

AND, OR, XOR, NOT, DIFF, DIFF1, ANDOR, ONE = range(8)
# What Redis 8.2 documents, of the first source and the others.
OF_FIRST_AND_OTHERS = {
    DIFF: lambda first, others: first & ~reduce(or_, others),
    DIFF1: lambda first, others: ~first & reduce(or_, others),
    ANDOR: lambda first, others: first & reduce(or_, others),
}
# Long runs of equal bytes make the word loops turn; their edges come from random ones.
runs = st.builds(
    lambda byte, size: bytes([byte]) * size, st.sampled_from([0, 0, 255, 255, 1, 128]), st.integers(0, 90)
)
data = st.lists(st.one_of(runs, st.binary(max_size=3)), min_size=1, max_size=4).map(b"".join)
some_data = data.filter(len)


def text_of(string):
    return "".join(f"{byte:08b}" for byte in string)


@st.composite
def data_and_range(draw):
    string = draw(some_data)
    first = draw(st.integers(0, len(string) * 8 - 1))
    return string, first, draw(st.integers(first, len(string) * 8 - 1))


@given(data_and_range())
def test_count(case):
    string, first, last = case
    assert count_bits(string, first, last) == text_of(string)[first : last + 1].count("1")


@given(data_and_range(), st.booleans())
def test_find(case, bit):
    string, first, last = case
    assert find_bit(string, first, last, bit) == text_of(string).find(str(int(bit)), first, last + 1)


def test_find_and_count_in_every_position():
    for position in range(150 * 8):
        string = (1 << (1199 - position)).to_bytes(150, "big")
        inverted = bytes(byte ^ 255 for byte in string)
        assert find_bit(string, 0, 1199, True) == position
        assert find_bit(inverted, 0, 1199, False) == position
        assert find_bit(string, position + 1, 1199, True) == -1 if position < 1199 else True
        assert count_bits(string, 0, 1199) == 1
        assert count_bits(string, position, position) == 1


@given(st.sampled_from([AND, OR, XOR]), st.lists(data, min_size=1, max_size=5))
def test_combine(operation, sources):
    size = max(map(len, sources))
    numbers = [int.from_bytes(source.ljust(size, b"\0"), "big") for source in sources]
    expected = reduce((and_, or_, xor)[operation], numbers).to_bytes(size, "big")
    assert combine_bits(operation, sources) == expected


@given(st.sampled_from([DIFF, DIFF1, ANDOR]), st.lists(data, min_size=2, max_size=5))
def test_first_against_others(operation, sources):
    size = max(map(len, sources))
    first, *others = [int.from_bytes(source.ljust(size, b"\0"), "big") for source in sources]
    expected = OF_FIRST_AND_OTHERS[operation](first, others).to_bytes(size, "big")
    assert combine_bits(operation, sources) == expected


@given(st.lists(data, min_size=1, max_size=6))
def test_in_exactly_one(sources):
    size = max(map(len, sources))
    columns = zip(*(text_of(source.ljust(size, b"\0")) for source in sources), strict=True)
    expected = "".join("1" if column.count("1") == 1 else "0" for column in columns)
    assert text_of(combine_bits(ONE, sources)) == expected


@given(data)
def test_invert(source):
    assert combine_bits(NOT, [source]) == bytes(byte ^ 255 for byte in source)


def test_combine_across_blocks():
    """Longer than the block that is combined at a time, and ending inside of one."""
    first = bytes(range(256)) * 200
    second = bytes(range(255, -1, -1)) * 150
    padded = second.ljust(len(first), b"\0")
    for operation, combine in ((AND, and_), (OR, or_), (XOR, xor)):
        expected = bytes(map(combine, first, padded))
        assert combine_bits(operation, [first, second]) == expected
        assert combine_bits(operation, [second, first]) == expected
    assert combine_bits(ONE, [first, second]) == combine_bits(XOR, [first, second])
    assert combine_bits(ONE, [second, first, second]) == combine_bits(DIFF, [first, second])
    assert combine_bits(DIFF1, [second, first]) == combine_bits(DIFF, [first, second])
    assert combine_bits(ANDOR, [second, first]) == combine_bits(AND, [first, second])


fields = st.tuples(st.integers(0, 200), st.integers(1, 64))


@given(data, fields)
def test_read_field(string, field):
    offset, width = field
    padded = text_of(string).ljust(offset + width, "0")
    assert read_field(string, offset, width) == int(padded[offset : offset + width], 2)


@given(st.binary(min_size=40, max_size=40), fields, st.integers(0, 2**64 - 1))
def test_write_field(string, field, value):
    offset, width = field
    text = text_of(string)
    bits = f"{value:064b}"[64 - width :]
    expected = text[:offset] + bits + text[offset + width :]
    assert text_of(write_field(string, offset, width, value)) == expected
