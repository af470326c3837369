"""Packed pairs against a sorted list, and their sizes against what the format promises."""

import bisect
import math
import struct

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfly._core.testing.listpack_testing import Listpack
from dfly._core.testing.pairs_testing import PackedPairs

EDGES = [0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 8388607, 8388608, 2**24 - 1, 2**24, 2**31 - 1, 2**31,
         2**32, 2**39, 2**40 - 1, 2**53, 2**55, 2**56, 2**62, 2**63 - 1]
INTEGERS = sorted({sign * edge for edge in EDGES for sign in (1, -1)} | {-(2**63)})
NOT_INTEGERS = [b"", b"-", b"-0", b"007", b"+1", b"1 ", b"1.0", b"9223372036854775808", b"-9223372036854775809",
                b"00000000000000000000", b"1x9", b"\x00", b"\xff\xff"]
SIZES = [7, 8, 9, 15, 16, 238, 239, 240, 241, 255, 256, 5000]

members = st.one_of(
    st.sampled_from(INTEGERS).map(lambda number: b"%d" % number),
    st.sampled_from(NOT_INTEGERS),
    st.tuples(st.sampled_from(SIZES), st.sampled_from([b"a", b"b"]), st.booleans()).map(
        # Alike but for one byte at either end.
        lambda drawn: drawn[1] + b"s" * (drawn[0] - 1) if drawn[2] else b"s" * (drawn[0] - 1) + drawn[1]),
    st.integers(0, 400).map(lambda number: b"member:%08d" % number),
    st.integers(-300, 300).map(lambda number: b"%d" % number),
    st.binary(max_size=20),
)
scores = st.one_of(
    st.integers(-3, 3).map(float), st.integers(-70000, 70000).map(float), st.sampled_from(INTEGERS).map(float),
    st.floats(allow_nan=False), st.floats(allow_nan=False, width=32),
    st.sampled_from([math.inf, -math.inf, -0.0, 0.5, -1.5, 0.1, 3.4028234663852886e38, 3.4028235e38, -1e300, 5e-324,
                     2.0**62 + 1024, -(2.0**63)]),
)
places = st.floats(0, 1)


class PairsMachine(RuleBasedStateMachine):
    """Random changes; after each the invariants, both directions and a look for every member."""

    def __init__(self):
        super().__init__()
        self.pairs = PackedPairs()
        self.model = []

    def known(self):
        return {member: score for score, member in self.model}

    @rule(member=members, score=scores)
    def put(self, member, score):
        known = self.known()
        if member not in known:
            self.pairs.insert(member, score)
        else:
            self.pairs.set_score(member, score)
            self.model.remove((known[member], member))
        bisect.insort(self.model, (score + 0.0, member))

    @rule(place=places, score=scores)
    def move(self, place, score):
        if self.model:
            self.put(self.model[int(place * (len(self.model) - 1))][1], score)

    @rule(count=st.integers(20, 120), width=st.integers(1, 5), score=st.integers(0, 100_000))
    def crowd(self, count, width, score):
        """Many that are alike, as they nearly always are."""
        for number in range(count):
            self.put(b"crowd:%0*d" % (width, number), float(score + number * 7 % count))

    @rule(place=places, count=st.integers(0, 50))
    def erase(self, place, count):
        rank = int(place * len(self.model))
        count = min(count, len(self.model) - rank)
        self.pairs.erase(rank, count)
        del self.model[rank:rank + count]

    @rule(member=members)
    def find(self, member):
        score = self.known().get(member)
        expected = None if score is None else (self.model.index((score, member)), score)
        assert self.pairs.find(member) == expected

    @rule(score=scores, inclusive=st.booleans(), place=places)
    def pass_scores(self, score, inclusive, place):
        rank = int(place * len(self.model))
        expected = sum(have < score or (inclusive and have == score) for have, _ in self.model[rank:])
        assert self.pairs.pass_scores(score, inclusive, rank) == expected

    @rule(drawn=st.lists(places, max_size=10))
    def before(self, drawn):
        ranks = [max(1, round(place * len(self.model))) for place in drawn if self.model]
        assert self.pairs.at_random(ranks) == [self.model[rank - 1][::-1] for rank in ranks]

    @rule()
    def copy(self):
        self.pairs = self.pairs.copy()

    @invariant()
    def same(self):
        self.pairs.check()
        expected = [(member, score) for score, member in self.model]
        assert len(self.pairs) == len(expected)
        assert self.pairs.forward() == expected
        assert self.pairs.backward(len(expected)) == expected[::-1]
        assert all(math.copysign(1, score) == 1 for _, score in self.pairs.forward() if score == 0)
        for rank, (member, score) in enumerate(expected):
            assert self.pairs.find(member) == (rank, score)
        used, room = self.pairs.bytes_used()
        assert used <= room


TestPairs = PairsMachine.TestCase
TestPairs.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)


def size_of(member, score):
    pairs = PackedPairs()
    pairs.insert(member, score)
    pairs.check()
    assert pairs.forward() == [(member, score)]
    return pairs.bytes_used()[0] - 6


def test_sizes_of_pairs():
    assert size_of(b"member:12345678", 2.0**24 - 1) == 20
    assert size_of(b"member:12345678", 2.0**24) == 21
    assert size_of(b"", 0.0) == 3
    assert size_of(b"m" * 239, 0.5) == 2 + 239 + 4
    assert size_of(b"m" * 240, 0.1) == 6 + 240 + 8
    assert size_of(b"5", -math.inf) == 2 + 1 + 8


@pytest.mark.parametrize("number", INTEGERS)
def test_integers_take_no_more_than_in_a_listpack(number):
    for score in (0, 127, 128, 40_000, -1, 2**40):
        pack = Listpack()
        pack.insert(None, b"%d" % number)
        pack.insert_int(None, score)
        assert size_of(b"%d" % number, float(score)) <= len(pack.image()) - 7


def test_a_hundred_members_of_15_bytes_fit_in_two_kilobytes():
    pairs = PackedPairs()
    for number in range(100):
        pairs.insert(b"member:%08d" % number, 1_000_000.0 + number)
    assert pairs.bytes_used()[0] == 6 + 100 * 20


def test_every_float_width_is_exact():
    narrow = struct.unpack("<f", struct.pack("<f", 0.1))[0]
    for score in (1.5, 0.1, narrow, 1e-45, 2.0**-149, 1e39, 2.0**63, 1e15 + 0.5):
        for signed in (score, -score):
            size_of(b"m", signed)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 239, 240, 300])
def test_members_that_differ_in_one_byte_are_told_apart(size):
    """Each is looked for among all others, before and after it is in."""
    words = [b"s" * at + b"x" + b"s" * (size - at - 1) for at in range(size)] + [b"s" * size]
    pairs = PackedPairs()
    for rank, word in enumerate(words):
        assert pairs.find(word) is None
        pairs.insert(word, float(rank))
    assert [pairs.find(word) for word in words] == [(rank, float(rank)) for rank in range(len(words))]


def test_the_largest_compact_set_backwards():
    """A trail holds few of them, and of long members still fewer."""
    pairs = PackedPairs()
    for number in range(32_767):
        pairs.insert(b"%d" % number, -float(number))
    pairs.check()
    assert pairs.backward(len(pairs)) == [(b"%d" % number, -float(number)) for number in range(32_767)]
    pairs = PackedPairs()
    for number in range(40):
        pairs.insert(b"%d" % number + b"x" * 20_000 * (number % 5), float(number))
    assert [score for _, score in pairs.backward(40)] == [float(number) for number in range(39, -1, -1)]


def test_what_shrinks_gives_memory_back():
    pairs = PackedPairs()
    for number in range(2000):
        pairs.insert(b"member:%08d" % number, 0.0)
    before = pairs.bytes_used()[1]
    pairs.erase(10, 1985)
    assert [member for member, _ in pairs.forward()] == [b"member:%08d" % n for n in [*range(10), *range(1995, 2000)]]
    assert pairs.bytes_used()[1] < before / 50
