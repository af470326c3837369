"""The block list against Python's list."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dfly._core.testing.list_testing import BlockList

WIDTHS = [0, 1, 127, 128, -1, -128, -129, *(sign * 2**bits + step for bits in range(7, 64, 8)
                                            for sign in (1, -1) for step in (-1, 0, 1))]
INTEGERS = [number for number in WIDTHS if -(2**63) <= number < 2**63]
# Around the changes of the encoding: prefixes, sizes behind, 16 bits.
SIZES = [0, 1, 2, 15, 110, 111, 112, 122, 123, 124, 125, 126, 127, 128, 255, 256, 257, 1000, 3000]
LARGE_SIZES = [4070, 4080, 4096, 8160, 8170, 8176, 8177, 8192, 20000, 64999, 65000, 65001, 65536, 100000]
NEARLY_INTEGERS = [b"-0", b"00", b"+1", b"-", b"1 ", b" 1", b"1.0", b"9223372036854775808",
                   b"-9223372036854775809"]

few = st.sampled_from([b"a", b"b", b"7", b"-300", b"x" * 200])
elements = st.one_of(
    few, few,
    st.sampled_from(INTEGERS).map(lambda number: b"%d" % number),
    st.sampled_from(NEARLY_INTEGERS),
    st.sampled_from(SIZES).map(lambda size: b"s" * size),
    st.binary(max_size=40),
)
with_large = st.one_of(elements, elements, st.sampled_from(LARGE_SIZES).map(lambda size: b"L" * size))
list_settings = st.sampled_from([-1, -1, -2, -5, 1, 2, 3, 7])
places = st.floats(0, 1)


class ListMachine(RuleBasedStateMachine):
    """Random operations, all invariants and all elements after each."""

    @initialize(setting=list_settings)
    def begin(self, setting):
        self.list = BlockList(setting)
        self.model = []

    def index(self, place, extra=0):
        return min(int(place * (len(self.model) + extra)), len(self.model) + extra - 1)

    @rule(data=st.lists(with_large, min_size=1, max_size=8), front=st.booleans())
    def push(self, data, front):
        for element in data:
            self.list.push(element, front)
            self.model.insert(0 if front else len(self.model), element)

    @rule(element=elements, count=st.integers(1, 300), front=st.booleans())
    def push_many(self, element, count, front):
        self.list.fill(element, count, front)
        self.model[:] = [element] * count + self.model if front else self.model + [element] * count

    @rule(turns=st.integers(1, 200), element=elements)
    def push_both_ends(self, turns, element):
        for turn in range(turns):
            self.list.push(element, turn % 2 == 0)
        self.model[:] = [element] * ((turns + 1) // 2) + self.model + [element] * (turns // 2)

    @rule(turns=st.integers(1, 400), front=st.booleans())
    def queue(self, turns, front):
        for _ in range(turns):
            self.list.push(b"queued", front)
            self.model.insert(0 if front else len(self.model), b"queued")
            assert self.list.peek(not front) == self.model[-1 if front else 0]
            self.list.drop(1, not front)
            del self.model[-1 if front else 0]

    @rule(count=st.one_of(st.integers(0, 10), st.integers(0, 800)), front=st.booleans(), detach=st.booleans())
    def drop(self, count, front, detach):
        detached = self.list.drop(count, front, detach)
        assert detached <= min(count, len(self.model)) and (detach or not detached)
        if front:
            del self.model[:count]
        else:
            del self.model[max(0, len(self.model) - count):]

    @rule(place=places, element=with_large, times=st.integers(1, 20), stepped_back=st.booleans())
    def insert(self, place, element, times, stepped_back):
        for _ in range(times):
            index = self.index(place, 1)
            self.list.insert(index, element, stepped_back)
            self.model.insert(index, element)

    @precondition(lambda self: self.model)
    @rule(place=places, element=with_large)
    def replace(self, place, element):
        index = self.index(place)
        self.list.replace(index, element)
        self.model[index] = element

    @rule(element=elements, count=st.sampled_from([0, 0, 1, 2, 100]), backward=st.booleans())
    def remove(self, element, count, backward):
        positions = [i for i, each in enumerate(self.model) if each == element]
        assert self.list.positions(element) == positions
        if count:
            positions = positions[-count:] if backward else positions[:count]
        assert self.list.remove(element, count, backward) == len(positions)
        gone = set(positions)
        self.model[:] = [each for i, each in enumerate(self.model) if i not in gone]

    @precondition(lambda self: self.model)
    @rule(place=places, count=st.sampled_from([0, 1]), backward=st.booleans())
    def remove_present(self, place, count, backward):
        self.remove(self.model[self.index(place)], count, backward)

    @rule(place=places, limit=st.integers(1, 50))
    def walk_from(self, place, limit):
        index = self.index(place, 1)
        assert self.list.walk(index, limit=limit) == self.model[index:index + limit]
        assert self.list.walk(index, True, limit=limit) == self.model[max(0, index - limit):index][::-1]

    @rule(setting=list_settings)
    def change_setting(self, setting):
        self.list.change_setting(setting)

    @rule(budget=st.integers(1, 5))
    def copy(self, budget):
        copy = self.list.copy()
        copy.check()
        assert copy.walk(0) == self.model
        self.list, copy = copy, self.list
        steps = 0
        while not copy.free_step(budget)[0]:
            steps += 1
        assert steps * budget <= self.list.info()["blocks"]

    @invariant()
    def holds_the_model(self):
        if not hasattr(self, "model"):
            return
        self.list.check()
        assert len(self.list) == len(self.model)
        assert self.list.walk(0) == self.model
        assert self.list.walk(len(self.model), True) == self.model[::-1]
        assert self.list.peek(True) == (self.model[0] if self.model else None)
        assert self.list.peek(False) == (self.model[-1] if self.model else None)


TestBlockList = ListMachine.TestCase
TestBlockList.settings = settings(stateful_step_count=40, deadline=None)


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
                          st.binary(max_size=400)), max_size=60))
def test_every_element_reads_the_same_from_both_sides(data):
    blocks = BlockList()
    for element in data:
        blocks.push(element)
    blocks.check()
    assert blocks.walk(0) == data
    assert blocks.walk(len(data), True) == data[::-1]


@pytest.mark.parametrize("size", SIZES + LARGE_SIZES)
def test_sizes(size):
    for setting in (-1, -2, -5, 3):
        blocks = BlockList(setting)
        for element in (b"a", b"s" * size, b"17", b"s" * size, b"z"):
            blocks.push(element)
        blocks.check()
        assert blocks.walk(0) == [b"a", b"s" * size, b"17", b"s" * size, b"z"]
        assert blocks.walk(5, True) == [b"z", b"s" * size, b"17", b"s" * size, b"a"]


@pytest.mark.parametrize("front", [False, True])
def test_a_long_list_is_packed_tightly(front):
    blocks = BlockList()
    blocks.fill(b"element-of-15-b", 1_000_000, front)
    blocks.check()
    assert blocks.info()["heap"] < 17.5e6


def test_integers_are_packed():
    blocks = BlockList()
    blocks.fill(b"100", 100_000)
    assert blocks.info()["heap"] < 1.1 * 100_000
    blocks = BlockList()
    blocks.fill(b"1700000000000", 100_000)
    assert blocks.info()["heap"] < 8.5 * 100_000


@pytest.mark.parametrize("front", [False, True])
def test_a_short_list_is_one_small_block(front):
    blocks = BlockList()
    for element in (b"alpha", b"beta", b"gamma"):
        blocks.push(element, front)
    assert blocks.info()["blocks"] == 1
    assert blocks.info()["heap"] <= 56


def test_a_list_that_was_long_gives_its_memory_back():
    blocks = BlockList()
    blocks.fill(b"element", 100_000)
    while len(blocks) > 3:
        blocks.drop(1, True)
    blocks.check()
    assert blocks.info()["blocks"] == 1
    assert blocks.info()["heap"] <= 128


def test_what_is_left_of_blocks_is_merged():
    blocks = BlockList()
    for _ in range(20_000):
        blocks.push(b"goes-away")
        blocks.push(b"goes-too")
        blocks.push(b"stays" * 2)
    before = blocks.info()["blocks"]
    assert blocks.remove(b"goes-away") == blocks.remove(b"goes-too") == 20_000
    blocks.check()
    assert blocks.info()["blocks"] < before * 0.7
    assert blocks.walk(0) == [b"stays" * 2] * 20_000
