"""The sorted set against a plain model, in both encodings and across the conversion."""

import bisect
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dfly._core.testing.zset_testing import SortedSet

members = st.one_of(
    st.integers(0, 40).map(lambda number: b"%d" % number),
    st.integers(0, 200).map(lambda number: b"member:%d" % number),
    st.sampled_from([b"", b"a", b"b" * 15, b"c" * 64, b"d" * 65, b"e" * 253, b"f" * 254, b"g" * 5000, b"-1", b"007"]),
)
scores = st.one_of(
    st.integers(-5, 5).map(float), st.integers(-5, 5).map(float),
    st.floats(allow_nan=False, width=64),
    st.sampled_from([float("inf"), float("-inf"), 0.0, 2.0**53, 2.0**62, 2.0**63, 1e-300, 1.5, 1.5000000001]),
)


class Model:
    def __init__(self):
        self.scores = {}

    def pairs(self):
        return sorted(((score, member) for member, score in self.scores.items()))

    def walk(self):
        return [(member, score) for score, member in self.pairs()]


class SortedSetMachine(RuleBasedStateMachine):
    @initialize(entries=st.sampled_from([0, 8, 10_000]), crowd=st.sampled_from([0, 0, 500]))
    def begin(self, entries, crowd):
        self.set = SortedSet(entries=entries)
        self.model = Model()
        for number in range(crowd):
            self.add(b"crowd:%d" % number, float(number % 7))

    @rule(member=members, score=scores)
    def add(self, member, score):
        assert self.set.add(member, score) == (member not in self.model.scores)
        self.model.scores[member] = score + 0.0

    @rule(member=members)
    def remove(self, member):
        assert self.set.remove(member) == (self.model.scores.pop(member, None) is not None)

    @rule(start=st.integers(0, 600), count=st.integers(0, 500), at_once=st.sampled_from([0, 10, 1000]))
    def remove_range(self, start, count, at_once):
        walk = self.model.walk()
        start = min(start, len(walk))
        count = min(count, len(walk) - start)
        self.set.remove_range(start, count, at_once)
        for member, _ in walk[start:start + count]:
            del self.model.scores[member]

    @rule(leaves=st.integers(0, 3))
    def purge(self, leaves):
        """Between two looks what was cut out may be purged in part."""
        self.set.purge(leaves)

    @rule(member=members)
    def find(self, member):
        if member not in self.model.scores:
            assert self.set.find(member) is None
            return
        score, rank = self.set.find(member)
        assert score == self.model.scores[member]
        assert rank == bisect.bisect_left(self.model.pairs(), (score, member))

    @rule(low=scores, high=scores, low_exclusive=st.booleans(), high_exclusive=st.booleans())
    def by_score(self, low, high, low_exclusive, high_exclusive):
        def inside(score):
            return ((score > low if low_exclusive else score >= low)
                    and (score < high if high_exclusive else score <= high))
        start, count = self.set.by_score(low, high, low_exclusive, high_exclusive)
        expected = [pair for pair in self.model.walk() if inside(pair[1])]
        assert count == len(expected)
        if count:
            assert self.set.walk(start, limit=count) == expected

    @rule(rank=st.integers(0, 600), backward=st.booleans())
    def walk(self, rank, backward):
        everything = self.model.walk()
        rank = min(rank, len(everything))
        expected = everything[:rank][::-1] if backward else everything[rank:]
        assert self.set.walk(rank, backward) == expected

    @rule()
    def convert(self):
        if self.model.scores:
            self.set.make_large()

    @rule()
    def copy(self):
        other = self.set.copy()
        other.check()
        self.set = other

    @invariant()
    def same(self):
        if hasattr(self, "set"):
            self.set.check()
            assert len(self.set) == len(self.model.scores)


class TestSortedSet(SortedSetMachine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def filled(count, **limits):
    result = SortedSet(**limits)
    result.add_many((b"member:%06d" % number, float(number * 7919 % count)) for number in range(count))
    return result


def test_ranges_by_text():
    words = [b"", b"a", b"aa", b"ab", b"b", b"ba", b"c"]
    for entries in (0, 100):
        subject = SortedSet(entries=entries)
        subject.add_many((word, 1.0) for word in words)
        for low in [None, *words, b"zz"]:
            for high in [None, *words, b"zz"]:
                for low_exclusive in (False, True):
                    for high_exclusive in (False, True):
                        start, count = subject.by_text(low, high, low_exclusive, high_exclusive)
                        expected = [word for word in words
                                    if (low is None or (word > low if low_exclusive else word >= low))
                                    and (high is None or (word < high if high_exclusive else word <= high))]
                        assert [member for member, _ in subject.walk(start, limit=count)] == expected


@pytest.mark.parametrize("count", [1, 128, 129, 20_000])
def test_scan_finds_every_member_that_stays(count):
    subject = filled(count)
    found, cursor, steps = set(), 0, 0
    while True:
        cursor, pairs = subject.scan(cursor, 10)
        found.update(member for member, _ in pairs)
        steps += 1
        if steps % 5 == 0:
            subject.add(b"new:%d" % steps, 1.0)
        if cursor == 0:
            break
    assert found >= {b"member:%06d" % number for number in range(count)}


def test_memory_of_many_members():
    subject = filled(200_000)
    subject.check()
    assert subject.info()["heap"] / 200_000 < 54


def test_encodings():
    assert filled(128).info()["encoding"] == "listpack"
    assert filled(129).info()["encoding"] == "skiplist"
    subject = SortedSet()
    subject.add(b"x" * 65, 1.0)
    assert subject.info()["encoding"] == "skiplist"


def test_freed_in_slices():
    subject = filled(50_000)
    slices = 0
    while True:
        done, left = subject.free_step(10)
        slices += 1
        if done:
            break
        assert left == 0
    assert 10 < slices < 10_000
    assert len(subject) == 0


def test_random_changes_of_a_large_set():
    dice = random.Random(7)
    subject, model = SortedSet(entries=0), {}
    for _ in range(30_000):
        member = b"m%d" % dice.randrange(3000)
        if dice.random() < 0.4:
            subject.remove(member)
            model.pop(member, None)
        else:
            model[member] = dice.choice([0.0, 1.0, dice.random()])
            subject.add(member, model[member])
    subject.check()
    assert subject.walk(0) == [(member, score) for score, member in sorted((s, m) for m, s in model.items())]


@pytest.mark.parametrize("count", [100, 5_000, 50_000])
@pytest.mark.parametrize("part", [(0, 0.5), (0.25, 0.5), (0.5, 0.5), (0.001, 0.998)])
def test_a_part_is_cut_out_and_purged(count, part):
    subject, whole = filled(count, entries=0), filled(count, entries=0).walk(0)
    start, size = int(part[0] * count), int(part[1] * count)
    subject.remove_range(start, size, 0)
    gone, kept = whole[start:start + size], whole[:start] + whole[start + size:]
    subject.check()
    assert subject.walk(0) == kept and subject.walk(len(kept), True) == kept[::-1]
    assert subject.find(gone[0][0]) is None and subject.find(gone[-1][0]) is None
    # Half of them come back, before what they left is purged.
    for member, _ in gone[::2]:
        assert subject.add(member, -1.0)
    assert not subject.purge(1) or size < 200
    subject.check()
    while not subject.purge(5):
        pass
    subject.check()
    assert len(subject) == len(kept) + len(gone[::2])
    assert {member for member, _ in subject.walk(0, limit=len(gone[::2]))} == {member for member, _ in gone[::2]}
