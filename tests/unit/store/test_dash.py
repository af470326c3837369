"""The dash table against a dict: growth, splits, merges, deadlines, scans."""

import random
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dfly._core.testing.dash_testing import DashTable


def name(number):
    """Keys of all storage forms: inline, packed to 7 bits, not ASCII, on the heap."""
    kind = number % 4
    if kind == 0:
        return b"k%d" % number
    if kind == 1:
        return b"key:%012d" % number
    if kind == 2:
        return b"\xff\xfe%015d" % number
    return b"a-long-key-on-the-heap:%020d" % number


class DashMachine(RuleBasedStateMachine):
    """Random operations, a full verification of all invariants after each."""

    keys_only = False

    def __init__(self):
        super().__init__()
        self.table = DashTable(self.keys_only)
        self.model = {}
        self.deadlines = {}
        self.sticky = set()
        self.walked = None
        self.now = 10**12

    @rule(expected=st.sampled_from([0, 1, 800, 900, 5000, 100000]))
    def reserve(self, expected):
        segments = self.table.info()["segments"]
        self.table.reserve(expected)
        if self.model:
            assert self.table.info()["segments"] == segments

    @rule(start=st.integers(0, 3000), count=st.integers(1, 400))
    def insert_range(self, start, count):
        for i in range(start, start + count):
            self.table.set(name(i), b"v%d" % i)
            self.model[name(i)] = b"" if self.keys_only else b"v%d" % i

    @rule(start=st.integers(0, 3000), count=st.integers(1, 400), value=st.binary(max_size=40))
    def change_range(self, start, count, value):
        for i in range(start, start + count):
            self.table.set(name(i), value)
            self.model[name(i)] = b"" if self.keys_only else value

    @rule(start=st.integers(0, 3000), count=st.integers(1, 600))
    def erase_range(self, start, count):
        for i in range(start, start + count):
            key = name(i)
            assert self.table.erase(key) == (key in self.model)
            self.model.pop(key, None)
            self.deadlines.pop(key, None)
            self.sticky.discard(key)

    @rule(start=st.integers(0, 3000), count=st.integers(1, 100),
          ahead=st.sampled_from([1, 1000, 10**6, 2**41, 2**55]))
    def give_deadlines(self, start, count, ahead):
        for i in range(start, start + count):
            if self.table.set_deadline(name(i), self.now + ahead + i):
                self.deadlines[name(i)] = self.now + ahead + i

    @rule(start=st.integers(0, 3000), count=st.sampled_from([1, 50, 3400]))
    def stick(self, start, count):
        for key in {name(i) for i in range(start, start + count)} & self.model.keys():
            self.table.set_sticky(key)
            self.sticky.add(key)

    @rule(start=st.integers(0, 3000), count=st.integers(1, 100))
    def persist(self, start, count):
        for i in range(start, start + count):
            self.table.set_deadline(name(i), -1)
            self.deadlines.pop(name(i), None)

    @rule(step=st.sampled_from([1, 500, 2000, 10**6]), budget=st.sampled_from([1, 10, 10**6]))
    def expire(self, step, budget):
        self.now += step
        due = {k for k, d in self.deadlines.items() if d <= self.now}
        gone = self.table.visit_due(self.now, budget)
        assert len(gone) == len(set(gone)) == min(budget, len(due))
        assert set(gone) <= due
        for key in gone:
            del self.model[key], self.deadlines[key]
            self.sticky.discard(key)

    @rule(changes=st.lists(st.tuples(st.booleans(), st.integers(0, 3000), st.integers(1, 300)), max_size=6))
    def scan_while_changing(self, changes):
        """What is present throughout is returned, whatever grows, splits or merges meanwhile."""
        present = set(self.model)
        seen, cursor, changes = set(), 0, list(changes)
        while True:
            cursor, found = self.table.scan(cursor)
            assert cursor < 2**45
            seen.update(found)
            if changes and random.random() < 0.2:
                insert, start, count = changes.pop()
                if insert:
                    self.insert_range(start, count)
                else:
                    self.erase_range(start, count)
                    present -= {name(i) for i in range(start, start + count)}
            if cursor == 0:
                break
        assert present <= seen

    @rule()
    def copy(self):
        self.end_walk()
        copy = self.table.copy()
        self.table = copy

    @rule()
    def begin_walk(self):
        if self.walked is None:
            self.walked = dict(self.model)
            self.table.walk_begin()

    @rule(buckets=st.sampled_from([1, 10, 100, 1000]))
    def go_on_walking(self, buckets):
        """What was there when the walk began is visited, as it was, each entry once."""
        if self.walked is None:
            return
        found = self.table.walk_step(buckets)
        if found is not None:
            expected, self.walked = self.walked, None
            assert len(found) == len(expected) and dict(found) == expected

    @rule()
    def give_walk_up(self):
        """The next one finds marks of this one."""
        if self.walked is not None:
            self.walked = None
            self.table.walk_end()

    def end_walk(self):
        while self.walked is not None:
            self.go_on_walking(100)

    @rule(budget=st.sampled_from([1, 100, 10**6]))
    def clear_in_steps(self, budget):
        self.end_walk()
        steps = 0
        while not self.table.clear_step(budget):
            steps += 1
        assert steps * budget <= len(self.model)
        self.model.clear()
        self.deadlines.clear()
        self.sticky.clear()

    @rule()
    def random_key(self):
        key = self.table.random()
        assert (key in self.model) if self.model else key is None
        for found, there in [
            (self.table.sample(20), self.model),
            (self.table.sample(20, only_volatile=True), self.deadlines),
        ]:
            candidates = set(there) - self.sticky
            assert set(found) <= candidates and bool(found) == bool(candidates)

    @invariant()
    def is_sound(self):
        self.table.check()
        assert len(self.table) == len(self.model)
        assert self.table.info()["deadlines"] == len(self.deadlines)

    def teardown(self):
        self.end_walk()
        for key, value in self.model.items():
            assert self.table.get(key) == value
            assert self.table.deadline(key) == self.deadlines.get(key, -1)
            assert self.table.is_sticky(key) == (key in self.sticky)


class KeysOnlyMachine(DashMachine):
    """The same without values."""

    keys_only = True


DashMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestDash = DashMachine.TestCase
KeysOnlyMachine.TestCase.settings = DashMachine.TestCase.settings
TestKeysOnly = KeysOnlyMachine.TestCase
both_kinds = pytest.mark.parametrize("keys_only", [False, True])


@both_kinds
@pytest.mark.parametrize("count", [1000, 1700, 3000, 20_000, 100_000])
def test_entries_that_come_in_the_order_of_their_hashes(keys_only, count):
    """As when one table is filled from another's scan: one half of each split stays empty."""
    source, table = DashTable(keys_only), DashTable(keys_only)
    source.fill(0, count, 15)
    table.fill_in_order_of_hashes(source)
    table.check()
    assert len(table) == count
    assert table.info()["bytes"] < 1.4 * source.info()["bytes"]


@both_kinds
def test_grows_and_gives_memory_back(keys_only):
    value = b"" if keys_only else b"x" * 40
    table = DashTable(keys_only)
    for i in range(50000):
        table.set(name(i), value)
    table.check()
    full = table.info()
    assert full["splits"] > 10 and len(table) == 50000
    for i in range(50000):
        assert table.get(name(i)) == value
        assert table.erase(name(i))
    table.check()
    assert table.info()["bytes"] < full["bytes"] / 20


@both_kinds
def test_random_is_nearly_uniform(keys_only):
    table = DashTable(keys_only)
    for i in range(1500):
        table.set(name(i), b"v")
    counts = {}
    for _ in range(60000):
        key = table.random()
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 1500
    assert max(counts.values()) < 40 * 2.2


@pytest.mark.parametrize("keys", [250_000, 300_000])
@pytest.mark.parametrize(("keys_only", "limit"), [(False, 46), (True, 26)])
def test_bytes_per_entry(keys, keys_only, limit):
    """32 or 16 bytes of an entry and its share of metadata and free slots."""
    table = DashTable(keys_only)
    table.fill(0, keys, value_size=15)
    assert table.info()["bytes"] / keys < limit


def test_memory_comes_back_with_the_keys():
    """Over 150 hash seeds, half of the keys keep 0.725 to 0.751 of the bytes, a tenth 0.139 to 0.140."""
    table = DashTable()
    table.fill(0, 100_000)
    full = table.info()["bytes"]
    for i in range(0, 100_000, 2):
        assert table.erase(b"key:%012d" % i)
    table.check()
    assert table.info()["bytes"] < 0.78 * full
    for i in range(1, 100_000, 2):
        assert table.get(b"key:%012d" % i) == b"v" * 16
    for i in range(1, 80_000, 2):
        assert table.erase(b"key:%012d" % i)
    table.check()
    assert table.info()["bytes"] < 0.15 * full
    for i in range(80_001, 100_000, 2):
        assert table.get(b"key:%012d" % i) == b"v" * 16


@both_kinds
@pytest.mark.parametrize("far", [False, True])
def test_deadlines_cost_little_and_move_with_their_entries(far, keys_only):
    deadline = 2**50 if far else 2 * 10**12
    plain, table = DashTable(keys_only), DashTable(keys_only)
    plain.fill(0, 60_000)
    table.fill(0, 60_000, deadline=deadline)
    table.check()
    assert (table.info()["bytes"] - plain.info()["bytes"]) / 60_000 < 7
    for i in range(0, 60_000, 7):
        assert table.deadline(b"key:%012d" % i) == deadline + i
    assert table.next_due() <= deadline
    gone = table.visit_due(deadline + 60_000, 10**9)
    assert len(gone) == 60_000 and len(table) == 0
    table.check()
    assert table.info()["bytes"] < 10_000


@both_kinds
@pytest.mark.parametrize("days", [-60, -48, -2, 0, 2, 48, 60, 5000])
def test_deadlines_far_from_each_other_stay_exact(days, keys_only):
    """Within 49 days the segment's base moves; beyond, its deadlines become absolute."""
    table = DashTable(keys_only)
    table.fill(0, 5_000, deadline=2 * 10**12)
    expected = {}
    for i in range(0, 5_000, 11):
        expected[b"key:%012d" % i] = 2 * 10**12 + days * 86_400_000 + i
        table.set_deadline(b"key:%012d" % i, 2 * 10**12 + days * 86_400_000 + i)
    table.check()
    for i in range(5_000):
        key = b"key:%012d" % i
        assert table.deadline(key) == expected.get(key, 2 * 10**12 + i)
    table.fill(5_000, 20_000, deadline=2 * 10**12)
    table.check()
    assert all(table.deadline(key) == deadline for key, deadline in expected.items())
    assert table.next_due() <= min(2 * 10**12 + 1, *expected.values())


def test_a_deadline_that_is_left_alone_is_offered_again_later():
    table = DashTable()
    table.set(b"a", b"1")
    table.set_deadline(b"a", 2 * 10**12)
    assert table.visit_due(2 * 10**12 - 1, 10) == []
    assert table.visit_due(2 * 10**12, 10, erase=False) == [b"a"]
    assert table.next_due() == 2 * 10**12 + 1
    assert table.visit_due(2 * 10**12 + 1, 10) == [b"a"]
    assert table.next_due() == -1


def test_access_words_follow_their_entries():
    table = DashTable()
    for i in range(500):
        table.set(name(i), b"v")
    table.enable_access_tracking(77)
    assert {table.access(name(i)) for i in range(500)} == {77}
    for i in range(20000):
        table.set(name(i), b"v")
        table.access(name(i), i * 700 & 0xFFFFFF)
    table.check()
    assert all(table.access(name(i)) == i * 700 & 0xFFFFFF for i in range(20000))
    for i in range(15000):
        table.erase(name(i))
    table.check()
    assert all(table.access(name(i)) == i * 700 & 0xFFFFFF for i in range(15000, 20000))


def test_a_bucket_is_never_newer_than_an_entry_that_moved_into_it():
    """Snapshots skip buckets at or above their cut: no entry that is not saved may get into one."""
    table = DashTable()
    for i in range(3000):
        table.set(name(i), b"v")
    saved = {name(i) for i in range(0, 3000, 60)}
    for key in saved:
        table.version(key, 9)
    unsaved = {name(i) for i in range(3000) if table.version(name(i)) == 0}
    assert unsaved
    for i in range(3000, 12000):
        table.set(name(i), b"v")
    assert all(table.version(key) == 0 for key in unsaved)
    for i in range(3000, 12000):
        table.erase(name(i))
    table.check()
    assert all(table.version(key) == 0 for key in unsaved)


@both_kinds
@pytest.mark.parametrize("rate", [50, 200, 400])
def test_a_stream_of_keys_that_expire(rate, keys_only):
    """Inserts between expiries: segments are rebuilt, split and merged at any fill, also where moves fail."""
    table, number = DashTable(keys_only), 20_000
    for i in range(number):
        now = 10**12 + i // rate
        table.set(b"k%d" % i, b"v")
        table.set_deadline(b"k%d" % i, now + 300)
        if i % (rate * 20) == 0:
            while table.visit_due(now, 64):
                pass
            table.check()
    while table.visit_due(now + 1000, 64):
        pass
    assert len(table) == 0
    for i in range(number):
        table.set(b"k%d" % i, b"v")
    table.check()
    assert len(table) == number


def test_a_large_table_of_sticky_keys_is_sampled_in_bounded_time():
    """An eviction that finds nobody must not read every key for each write."""
    table = DashTable()
    for i in range(200_000):
        table.set(name(i), b"")
        table.set_sticky(name(i))
    start = time.process_time()
    for _ in range(20):
        assert table.sample(5) == []
    assert time.process_time() - start < 0.5
    for i in range(0, 200_000, 50):
        assert table.erase(name(i))
        table.set(name(i), b"")
    assert all(len(table.sample(5)) == 5 for _ in range(50)), "one in fifty is found"


@pytest.mark.parametrize("keys_only", [False, True])
def test_room_that_was_made_is_enough(keys_only):
    """Of 600 hash seeds six made one segment too full, none two."""
    grown, reserved = DashTable(keys_only), DashTable(keys_only)
    reserved.reserve(100000)
    slots = reserved.info()["slots"]
    for number in range(100000):
        grown.set(name(number), b"")
        reserved.set(name(number), b"")
    assert reserved.check() and len(reserved) == len(grown) == 100000
    assert reserved.info()["splits"] <= 2 and slots <= reserved.info()["slots"] <= 1.1 * slots
    assert reserved.info()["bytes"] < 1.35 * grown.info()["bytes"]
