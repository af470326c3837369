"""The hash type against Python's dict."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dfly._core.testing.hash_testing import KEEP_DEADLINE, NO_DEADLINE, SHOW_ALL, Hash
from dfly._core.testing.listpack_testing import Listpack

ADDED, UPDATED, REVIVED = range(3)
NUMBERS = [0, 1, 63, 64, 127, 128, -1, 4095, 4096, -4096, -4097, 32767, 32768, 8388607, 8388608, 2**31 - 1, 2**31,
           2**63 - 1, -(2**63)]
NEARLY_INTEGERS = [b"-0", b"00", b"+1", b"-", b"1 ", b" 1", b"1.0", b"9223372036854775808"]
SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 18, 62, 63, 64, 65, 300, 4095, 4096, 5000]

few = st.sampled_from([b"a", b"b", b"c", b"7", b"-300", b"field", b"fieldX", b"Xfield"])
texts = st.one_of(
    few, few,
    st.sampled_from(NUMBERS).map(lambda number: b"%d" % number),
    st.sampled_from(NEARLY_INTEGERS),
    st.sampled_from(SIZES).map(lambda size: b"s" * size),
    st.binary(max_size=40),
)
clock_steps = st.integers(0, 40)
deadlines = st.one_of(st.integers(1, 60), st.sampled_from([10**6, 2**40, 2**62]))


class HashMachine(RuleBasedStateMachine):
    """Random operations, all invariants and all fields after each. The model: {field: (value, deadline)}."""

    @initialize(entries=st.sampled_from([0, 1, 4, 512]), length=st.sampled_from([4, 64, 10000]))
    def begin(self, entries, length):
        self.hash = Hash(entries, length)
        self.model = {}
        self.now = 1000

    def is_due(self, field):
        deadline = self.model[field][1]
        return deadline != NO_DEADLINE and deadline <= self.now

    def some_field(self, place):
        return list(self.model)[min(int(place * len(self.model)), len(self.model) - 1)]

    def put(self, field, value, deadline):
        expected = ADDED if field not in self.model else REVIVED if self.is_due(field) else UPDATED
        assert self.hash.set(field, value, deadline, self.now) == expected
        if deadline == KEEP_DEADLINE:
            deadline = self.model[field][1] if expected == UPDATED else NO_DEADLINE
        self.model[field] = value, deadline

    @rule(field=texts, value=texts, keep=st.booleans())
    def set(self, field, value, keep):
        self.put(field, value, KEEP_DEADLINE if keep else NO_DEADLINE)

    @rule(field=texts, value=texts, ahead=deadlines)
    def set_with_deadline(self, field, value, ahead):
        self.put(field, value, self.now + ahead)

    @rule(count=st.integers(1, 300), start=st.integers(0, 300))
    def set_many(self, count, start):
        if not self.model:
            self.hash.reserve(count * 2, 9 * count)
        for number in range(start, start + count):
            self.put(b"n%d" % number, b"%d" % (number * 7), NO_DEADLINE)
        self.hash.trim()

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1), ahead=deadlines)
    def give_deadline(self, place, ahead):
        field = self.some_field(place)
        assert self.hash.set_deadline(field, self.now + ahead)
        self.model[field] = self.model[field][0], self.now + ahead

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1))
    def take_deadline(self, place):
        field = self.some_field(place)
        assert self.hash.set_deadline(field, NO_DEADLINE)
        self.model[field] = self.model[field][0], NO_DEADLINE

    @rule(field=texts)
    def remove(self, field):
        expected = field in self.model and not self.is_due(field)
        assert self.hash.remove(field, self.now) == expected
        if expected:
            del self.model[field]

    @rule(part=st.floats(0, 1))
    def remove_some(self, part):
        for field in list(self.model)[:int(part * len(self.model))]:
            assert self.hash.remove(field, SHOW_ALL)
            del self.model[field]

    @rule(step=clock_steps)
    def wait(self, step):
        self.now += step

    @rule(budget=st.one_of(st.just(1 << 60), st.integers(1, 5)))
    def expire(self, budget):
        due = {field for field in self.model if self.is_due(field)}
        removed = self.hash.expire(self.now, budget)
        assert removed == min(len(due), budget)
        left = {field for field, _, _ in self.hash.items(SHOW_ALL)}
        assert self.model.keys() - left <= due
        for field in self.model.keys() - left:
            del self.model[field]

    @rule(entries=st.sampled_from([0, 1, 4, 512]), length=st.sampled_from([4, 64, 10000]))
    def change_limits(self, entries, length):
        self.hash.set_limits(entries, length)

    @rule(budget=st.integers(1, 50))
    def copy(self, budget):
        copy = self.hash.copy() if self.model else None
        if copy is None:
            return
        copy.check()
        assert copy.info()["encoding"] == self.hash.info()["encoding"]
        self.hash, copy = copy, self.hash
        steps = 0
        while not copy.free_step(budget)[0]:
            steps += 1
        assert steps <= len(self.model) / budget + 70

    @rule()
    def reload(self):
        """As from a snapshot."""
        loaded = Hash(4)
        for field, value, deadline in self.hash.items(SHOW_ALL):
            assert loaded.set(field, value, deadline) == ADDED
        self.hash = loaded
        if self.hash.listpack() and self.model:
            again = Hash(512)
            assert again.adopt(self.hash.listpack())
            self.hash = again

    @invariant()
    def holds_the_model(self):
        if not hasattr(self, "model"):
            return
        self.hash.check()
        assert len(self.hash) == len(self.model)
        visible = {field: pair for field, pair in self.model.items() if not self.is_due(field)}
        assert sorted(self.hash.items(self.now)) == sorted((f, v, d) for f, (v, d) in visible.items())
        assert len(self.hash.items(SHOW_ALL)) == len(self.model)
        for field in [b"a", b"7", b"field", b"", *list(self.model)[:20]]:
            assert self.hash.get(field, self.now) == visible.get(field)
        drawn = self.hash.random(self.now)
        assert (drawn is None and not visible) or drawn is None or visible[drawn[0]] == drawn[1:]
        earliest = min((d for _, d in self.model.values() if d != NO_DEADLINE), default=NO_DEADLINE)
        assert (self.hash.next_deadline() == NO_DEADLINE) == (earliest == NO_DEADLINE)
        assert self.hash.next_deadline() <= earliest


TestHash = HashMachine.TestCase
TestHash.settings = settings(stateful_step_count=30, max_examples=60, deadline=None)


@pytest.mark.parametrize("size", SIZES)
def test_fields_of_every_size_are_told_apart(size):
    """Those that differ in one byte, first, last or between, in both encodings."""
    for entries in (512, 0):
        hashed = Hash(entries, 10000)
        names = {b"s" * size, b"s" * size + b"x", b"x" + b"s" * size}
        for place in {0, size // 2, max(size - 9, 0), size - 1} if size else ():
            name = bytearray(b"s" * size)
            name[place] = ord("t")
            names.add(bytes(name))
        for name in names:
            assert hashed.set(name, b"v" + name) == ADDED
        hashed.check()
        for name in names:
            assert hashed.get(name)[0] == b"v" + name
        assert hashed.get(b"t" * size) is None or size <= 1


@given(st.dictionaries(texts, texts, max_size=30))
def test_a_scan_sees_everything_while_the_table_grows(pairs):
    hashed = Hash(2)
    for field, value in pairs.items():
        hashed.set(field, value)
    cursor, found, turn = 0, [], 0
    while True:
        cursor, page = hashed.scan(cursor)
        found += page
        for number in range(20):
            hashed.set(b"new %d %d" % (turn, number), b"x")
        turn += 1
        if cursor == 0 or turn > 100:
            break
    assert set(pairs) <= {field for field, _, _ in found}


def packed(*elements):
    pack = Listpack()
    for element in elements:
        pack.insert(None, element)
    return pack.image()


def test_foreign_listpacks_are_looked_at():
    assert Hash().adopt(packed(b"f", b"1", b"g", b"2")) is True
    assert Hash().adopt(packed()) is False
    assert Hash().adopt(packed(b"f")) is False
    assert Hash().adopt(packed(b"f", b"1", b"f", b"2")) is False
    assert Hash(1).adopt(packed(b"f", b"1", b"f", b"2")) is False
    assert Hash(1).adopt(packed(b"f", b"1", b"g")) is False
    assert Hash().adopt(b"no listpack") is None
    large = Hash(1)
    assert large.adopt(packed(b"f", b"1", b"g", b"2"))
    assert large.info()["encoding"] == "hashtable" and large.get(b"g")[0] == b"2"
    # An integer that was written as a text: valid, but not as we write it.
    text = b"\x82" + b"17" + b"\x03"
    body = text + b"\x81v\x02" + b"\x81f\x02" + b"\x82" + b"18" + b"\x03"
    foreign = (6 + len(body) + 1).to_bytes(4, "little") + b"\x04\x00" + body + b"\xff"
    hashed = Hash()
    assert hashed.adopt(foreign)
    hashed.check()
    assert hashed.get(b"17")[0] == b"v" and hashed.get(b"f")[0] == b"18"
    twice = (6 + 2 * len(text + b"\x81v\x02") + 1).to_bytes(4, "little") + b"\x04\x00"
    twice += (text + b"\x81v\x02") + (b"\x11\x01" + b"\x81v\x02") + b"\xff"
    twice = (len(twice)).to_bytes(4, "little") + twice[4:]
    assert Hash().adopt(twice) is False


def test_a_small_hash_is_one_small_block():
    hashed = Hash()
    hashed.reserve(10, 5 * (2 + 7))
    for number in range(5):
        hashed.set(b"f%d" % number, b"value:%d" % number)
    hashed.trim()
    assert hashed.info() == {"encoding": "listpack", "heap": hashed.info()["heap"], "blocks": 1, "data": 72}
    assert hashed.info()["heap"] <= 80


def test_a_large_hash_is_dense():
    hashed = Hash()
    for number in range(100_000):
        hashed.set(b"field:%09d" % number, b"value-of-16:%04d" % (number % 10000))
    hashed.check()
    assert hashed.info()["heap"] < 50 * 100_000
