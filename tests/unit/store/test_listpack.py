"""The listpack against Python's list, and against bytes written by hand from the format's description."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfly._core.testing.listpack_testing import Listpack, element_size, is_valid

INTEGERS = [0, 1, 127, 128, -1, 4095, 4096, -4096, -4097, 32767, 32768, -32768, -32769, 8388607, 8388608,
            -8388608, -8388609, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)]
SIZES = [0, 1, 62, 63, 64, 125, 126, 127, 128, 4094, 4095, 4096, 16380, 16383, 16384, 70000]

elements = st.one_of(
    st.sampled_from([b"a", b"b", b"-0", b"00", b"9223372036854775808"]),
    st.sampled_from(INTEGERS).map(lambda number: b"%d" % number),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    st.sampled_from(SIZES).map(lambda size: b"s" * size),
    st.binary(max_size=80),
)
places = st.floats(0, 1)


class ListpackMachine(RuleBasedStateMachine):
    """Random changes; all elements from both ends, and the validator, after each."""

    def __init__(self):
        super().__init__()
        self.pack = Listpack()
        self.model = []

    def index(self, place):
        return min(int(place * len(self.model)), len(self.model) - 1)

    @rule(data=elements)
    def append(self, data):
        assert self.pack.insert(None, data) == data
        self.model.append(data)

    @rule(data=elements, place=places)
    def insert(self, data, place):
        if self.model:
            index = self.index(place)
            assert self.pack.insert(index, data) == data
            self.model.insert(index, data)

    @rule(value=st.one_of(st.sampled_from(INTEGERS), st.integers(-(2**63), 2**63 - 1)))
    def append_int(self, value):
        assert self.pack.insert_int(None, value) == b"%d" % value
        self.model.append(b"%d" % value)

    @rule(data=elements, place=places)
    def replace(self, data, place):
        if self.model:
            index = self.index(place)
            assert self.pack.replace(index, data) == data
            self.model[index] = data

    @rule(value=st.sampled_from(INTEGERS), place=places)
    def replace_int(self, value, place):
        if self.model:
            index = self.index(place)
            assert self.pack.replace_int(index - len(self.model), value) == b"%d" % value
            self.model[index] = b"%d" % value

    @rule(place=places, count=st.integers(0, 4))
    def delete(self, place, count):
        if self.model:
            index = self.index(place)
            del self.model[index:index + count]
            assert self.pack.delete(index, count) == (self.model[index] if index < len(self.model) else None)

    @rule(data=elements, place=places, skip=st.integers(0, 2))
    def find(self, data, place, skip):
        if self.model:
            start = self.index(place)
            found = [i for i in range(start, len(self.model), skip + 1) if self.model[i] == data]
            assert self.pack.find(data, start, skip) == (found[0] if found else None)

    @rule()
    def copy(self):
        self.pack = self.pack.copy()

    @invariant()
    def same(self):
        assert self.pack.forward() == self.model
        assert self.pack.backward() == self.model[::-1]
        assert len(self.pack) == len(self.model)
        assert len(self.pack.image()) == 7 + sum(map(element_size, self.model))
        assert is_valid(self.pack.image())


TestListpack = ListpackMachine.TestCase
TestListpack.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_bytes_are_those_of_the_format():
    pack = Listpack()
    for element in (b"a", b"5", b"-1", b"300", b"70000", b"x" * 64):
        pack.insert(None, element)
    body = (b"\x81a\x02" b"\x05\x01" b"\xdf\xff\x02" b"\xc1\x2c\x02" b"\xf2\x70\x11\x01\x04"
            b"\xe0\x40" + b"x" * 64 + b"\x42")
    assert pack.image() == (len(body) + 7).to_bytes(4, "little") + b"\x06\x00" + body + b"\xff"


def test_more_elements_than_the_count_field_holds():
    pack = Listpack()
    for number in range(65540):
        pack.insert(None, b"%d" % (number % 100))
    assert len(pack) == 65540 and pack.get(65539) == b"39" and pack.get(-65540) == b"0"
    pack.delete(0, 10)
    assert len(pack) == 65530 and is_valid(pack.image())


@settings(max_examples=300, deadline=None)
@given(data=st.lists(elements, max_size=6), place=st.floats(0, 1), value=st.integers(0, 255))
def test_foreign_bytes_are_checked(data, place, value):
    """A changed byte is refused, or it is another listpack that can be read whole."""
    pack = Listpack()
    for element in data:
        pack.insert(None, element)
    image = bytearray(pack.image())
    for size in range(max(0, len(image) - 10), len(image)):
        assert not is_valid(bytes(image[:size]))
    assert not is_valid(bytes(image) + b"\xff")
    position = min(int(place * len(image)), len(image) - 1)
    image[position] = value
    is_valid(bytes(image))
