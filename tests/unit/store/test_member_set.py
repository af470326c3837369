"""Sets against Python's set, through all encodings."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dfly._core.testing.set_testing import MemberSet, intset_accepts

EDGES = [sign * 2**bits + step for bits in (7, 12, 15, 23, 31, 63) for sign in (1, -1) for step in (-1, 0, 1)]
INTEGERS = [number for number in EDGES if -(2**63) <= number < 2**63]
NEARLY_INTEGERS = [b"-0", b"00", b"+1", b"-", b"1 ", b"", b"1.0", b"9223372036854775808", b"-9223372036854775809"]
integers = st.one_of(st.integers(-20, 20), st.sampled_from(INTEGERS)).map(lambda number: b"%d" % number)
texts = st.one_of(
    st.sampled_from(NEARLY_INTEGERS),
    st.sampled_from([b"a", b"b", b"c", b"member-of-15-by", b"x" * 16, b"y" * 17, b"\xff" * 16, b"z" * 18]),
    st.sampled_from([62, 63, 64, 65, 300, 4096]).map(lambda size: b"s" * size),
    st.binary(max_size=20),
)
members = st.one_of(integers, integers, texts)
limits = st.sampled_from([(512, 128, 64), (4, 8, 20), (8, 4, 64), (0, 5, 64), (6, 0, 64), (0, 0, 0), (20, 30, 3)])


def is_integer(member):
    try:
        return -(2**63) <= int(member) < 2**63 and b"%d" % int(member) == member
    except ValueError:
        return False


class SetMachine(RuleBasedStateMachine):
    """Random operations, all invariants and all members after each; encodings as Redis 7.4 would have them."""

    @initialize(limits=limits)
    def begin(self, limits):
        self.set = MemberSet(*limits)
        self.limits = limits
        self.model = set()
        self.deadlines = {}
        self.encoding = None
        self.now = 10**12

    def expect_add(self, member):
        """What the encoding must be after this member has been added."""
        max_integers, max_entries, max_value = self.limits
        count = len(self.model)
        fits = count < max_entries and len(member) <= max_value
        if self.encoding is None:
            integer = is_integer(member) and max_integers > 0
            self.encoding = "intset" if integer else "listpack" if fits else "hashtable"
        elif member in self.model:
            pass
        elif self.encoding == "intset":
            if not is_integer(member):
                fits = fits and max(len(b"%d" % f(map(int, self.model))) for f in (min, max)) <= max_value
                self.encoding = "listpack" if fits else "hashtable"
            elif count + 1 > max_integers:
                self.encoding = "hashtable"
        elif self.encoding == "listpack" and not fits:
            self.encoding = "hashtable"

    @rule(data=st.lists(members, min_size=1, max_size=10), as_item=st.booleans())
    def add(self, data, as_item):
        for member in data:
            self.expect_add(member)
            assert self.set.add(member, as_item) == (member not in self.model)
            self.model.add(member)

    @rule(start=st.integers(-40000, 40000), count=st.integers(1, 700), step=st.integers(1, 300))
    def add_numbers(self, start, count, step):
        self.add([b"%d" % number for number in range(start, start + count * step, step)], False)

    @rule(start=st.integers(0, 1000), count=st.integers(1, 300))
    def add_texts(self, start, count):
        self.add([b"text-%d" % number for number in range(start, start + count)], False)

    def forget(self, member):
        self.model.discard(member)
        self.deadlines.pop(member, None)
        if not self.model:
            self.encoding = None

    @rule(data=st.lists(members, min_size=1, max_size=10), as_item=st.booleans())
    def remove(self, data, as_item):
        for member in data:
            assert self.set.contains(member, as_item) == (member in self.model)
            assert self.set.remove(member, as_item) == (member in self.model)
            self.forget(member)

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 400))
    def pop(self, count):
        for _ in range(min(count, len(self.model))):
            assert self.set.random() in self.model
            member = self.set.random(True)
            assert member in self.model
            self.forget(member)

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 400))
    def pop_many(self, count):
        """The set changes between two draws."""
        drawn = self.set.draws(min(count, len(self.model)), True)
        assert len(set(drawn)) == len(drawn)
        for member in drawn:
            assert member in self.model
            self.forget(member)

    @rule(limits=limits)
    def change_limits(self, limits):
        self.limits = limits
        self.set.change_limits(*limits)

    @precondition(lambda self: self.model)
    @rule(ahead=st.sampled_from([1, 1000, 2**41]), count=st.integers(1, 30))
    def give_deadlines(self, ahead, count):
        for member in sorted(self.model)[:count]:
            assert self.set.set_deadline(member, self.now + ahead)
            self.deadlines[member] = self.now + ahead
        self.encoding = "hashtable"
        assert not self.set.set_deadline(b"no such member", 1)

    @rule(step=st.sampled_from([1, 1000]))
    def expire(self, step):
        due = {member for member, at in self.deadlines.items() if at <= self.now + step}
        if due == self.model:
            return
        self.now += step
        assert self.set.expire(self.now) == len(due)
        for member in due:
            self.forget(member)

    @rule(budget=st.integers(1, 300))
    def copy(self, budget):
        copy = self.set.copy()
        copy.check()
        self.set, copy = copy, self.set
        steps = 0
        while not copy.free_step(budget)[0]:
            steps += 1
        assert steps * budget <= max(1, self.set.info()["blocks"])

    @precondition(lambda self: self.encoding in ("intset", "listpack"))
    @rule()
    def adopt(self):
        self.set.adopt(self.set.block(), self.encoding == "intset")

    @invariant()
    def holds_the_model(self):
        if not hasattr(self, "model"):
            return
        self.set.check()
        assert len(self.set) == len(self.model)
        found = self.set.members()
        assert len(found) == len(self.model) and set(found) == self.model
        assert self.set.encoding() == self.encoding
        if self.encoding == "intset":
            assert [int(member) for member in found] == sorted(map(int, self.model))
        for member, at in self.deadlines.items():
            assert self.set.deadline(member) == at


TestMemberSet = SetMachine.TestCase
TestMemberSet.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(st.one_of(st.integers(-(2**15), 2**15 - 1), st.integers(-(2**63), 2**63 - 1)), min_size=1,
                max_size=80))
def test_integer_sets_have_redis_bytes(numbers):
    subject = MemberSet()
    for number in numbers:
        subject.add(b"%d" % number)
    distinct = sorted(set(numbers))
    width = max(next(w for w in (2, 4, 8) if -(2 ** (8 * w - 1)) <= n < 2 ** (8 * w - 1)) for n in distinct)
    code = {2: "h", 4: "i", 8: "q"}[width]
    assert subject.block() == struct.pack(f"<II{len(distinct)}{code}", width, len(distinct), *distinct)
    assert intset_accepts(subject.block())


@pytest.mark.parametrize(
    "data",
    [b"", b"\2\0\0\0", struct.pack("<II", 2, 0), struct.pack("<IIh", 3, 1, 1), struct.pack("<IIhh", 2, 1, 1, 2),
     struct.pack("<IIh", 2, 2, 1), struct.pack("<IIhh", 2, 2, 2, 1), struct.pack("<IIhh", 2, 2, 1, 1),
     struct.pack("<IIh", 2, 2**31 + 1, 1)],
)
def test_broken_integer_sets_are_refused(data):
    assert not intset_accepts(data)


def test_bytes_of_integers():
    subject = MemberSet()
    for number in range(100):
        subject.add(b"%d" % (1_000_000 + number * 977))
    assert subject.encoding() == "intset"
    assert subject.info()["heap"] <= 448


def test_bytes_of_a_large_set():
    subject = MemberSet()
    subject.fill(0, 300_000)
    subject.check()
    assert subject.encoding() == "hashtable"
    assert subject.info()["heap"] < 26 * 300_000


@pytest.mark.parametrize("count", [2, 100, 500, 3000])
@pytest.mark.parametrize("prefix", [b"", b"m:"])
@pytest.mark.parametrize("at_once", [False, True], ids=["one", "many"])
def test_random_members_are_equally_likely(count, prefix, at_once):
    """Chi-square over all members; the bar is about eight standard deviations above the mean."""
    subject = MemberSet()
    for number in range(count):
        subject.add(b"%b%d" % (prefix, number))
    draws = 40 * count
    seen = dict.fromkeys(subject.members(), 0)
    for member in subject.draws(draws) if at_once else (subject.random() for _ in range(draws)):
        seen[member] += 1
    expected = draws / count
    chi = sum((times - expected) ** 2 / expected for times in seen.values())
    assert chi < count - 1 + 8 * (2 * count) ** 0.5 + 20
