"""Streams and their index of IDs against Python's own dicts and lists."""

import bisect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dfly._core.sys.alloc import total_bytes
from dfly._core.testing.stream_testing import IdIndex, Stream, has_fine_sizes

MAX = 2**64 - 1
LAST = (MAX, MAX)
# Under a sanitizer blocks share allocations only for the tests' sake: what that saves is not measured there.
FINE_SIZES = has_fine_sizes()

few_ids = st.tuples(st.integers(0, 12), st.integers(0, 3))
ids = st.one_of(few_ids, few_ids, st.tuples(st.integers(0, 3000), st.integers(0, 2)),
                st.sampled_from([LAST, (MAX, 0), (0, MAX), (2**63, 2**63 + 1)]))


class IndexMachine(RuleBasedStateMachine):
    """Random inserts and removals, everything compared."""

    @initialize()
    def begin(self):
        self.index = IdIndex()
        self.model = {}
        self.counter = 0

    def add(self, pair):
        self.counter += 1
        assert self.index.insert(pair, self.counter) == (pair not in self.model)
        self.model.setdefault(pair, self.counter)

    @rule(pair=ids)
    def insert(self, pair):
        self.add(pair)

    @rule(start=st.integers(0, 3000), count=st.integers(1, 900), step=st.sampled_from([1, -1, 7]))
    def insert_many(self, start, count, step):
        for i in range(count):
            self.add((abs(start + i * step), 1))

    @rule(pair=ids)
    def remove(self, pair):
        assert self.index.remove(pair) == self.model.pop(pair, 0)

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 700), start=st.floats(0, 1), step=st.sampled_from([1, 1, 2, 5]))
    def remove_many(self, count, start, step):
        pairs = sorted(self.model)[int(start * len(self.model))::step][:count]
        for pair in pairs:
            assert self.index.remove(pair) == self.model.pop(pair)

    @precondition(lambda self: self.model)
    @rule(start=st.floats(0, 1), count=st.integers(1, 900), wrong=st.integers(0, 2000))
    def remove_run(self, start, count, wrong):
        """Up to one whose value is another."""
        pairs = sorted(self.model)[int(start * (len(self.model) - 1)):][:count]
        values = [0 if i == wrong else self.model[pair] for i, pair in enumerate(pairs)]
        assert self.index.remove_run(pairs[0], values) == min(wrong, len(pairs))
        for pair in pairs[:wrong]:
            del self.model[pair]

    @precondition(lambda self: self.model)
    @rule(count=st.integers(1, 300))
    def pop(self, count):
        for pair in sorted(self.model, reverse=True)[:count]:
            assert self.index.pop_last() == self.model.pop(pair)

    @rule(count=st.integers(0, 700), gap=st.integers(1, 300), start=st.integers(0, 3000))
    def append_all(self, count, gap, start):
        """Another index of IDs behind all of these."""
        first = max(self.model, default=(start, 0))[0] + gap
        if first + count < MAX:
            other = IdIndex()
            for i in range(count):
                self.counter += 1
                self.model[first + i, 7] = self.counter
                other.insert((first + i, 7), self.counter)
            self.index.append_all(other)
            other.check()
            assert len(other) == 0 and other.items() == []
            other.insert((1, 1), 1)

    @rule(cuts=st.lists(st.integers(0, 900), max_size=3))
    def take_first(self, cuts):
        """To an index that gets some more each time."""
        other, taken = IdIndex(), []
        for cut in cuts:
            pairs = sorted(self.model.items())[:cut]
            self.index.take_first(len(pairs), other)
            taken += pairs
            for pair, _ in pairs:
                del self.model[pair]
            other.check()
            assert other.items() == taken and len(other) == len(taken)

    @rule(budget=st.integers(1, 9))
    def clear(self, budget):
        leaves = self.index.info()["leaves"] if self.model else 0
        while True:
            done, left = self.index.clear_step(budget)
            self.index.check()
            leaves -= budget - left
            if done:
                break
            assert left == 0 and len(self.index) > 0
        assert leaves == 0
        self.model = {}

    @rule(pair=ids)
    def look(self, pair):
        pairs = sorted(self.model)
        at = bisect.bisect_left(pairs, pair)
        assert self.index.find(pair) == self.model.get(pair, 0)
        assert self.index.ceiling(pair) == (pairs[at] if at < len(pairs) else None)
        at = bisect.bisect_right(pairs, pair)
        assert self.index.floor(pair) == (pairs[at - 1] if at else None)

    @invariant()
    def same(self):
        self.index.check()
        assert self.index.items() == sorted(self.model.items())
        assert self.index.items(backward=True) == sorted(self.model.items(), reverse=True)
        assert len(self.index) == len(self.model)


class TestIndex(IndexMachine.TestCase):
    settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_a_block_that_has_only_deleted_entries():
    """Trimming by ID may meet deleted ones behind the last that goes; what is stored of it is loaded again."""
    stream = Stream()
    for number in (1, 2, 3):
        stream.append((number, 1), b"a", b"b")
    stream.delete((2, 1))
    stream.delete((3, 1))
    assert stream.trim_id((2, 1)) == (1, 0)
    stream.check()
    other = Stream()
    assert other.load(stream.packs())
    for each in (stream, other):
        assert len(each) == 0 and each.read() == each.read(LAST, backward=True) == []
        each.append((9, 1), b"a", b"b")
        each.check()
        assert [pair for pair, _ in each.read()] == [(9, 1)]


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
def test_much_is_trimmed_as_if_block_by_block(by_id, approximate):
    """A limit makes it look at each block."""
    def filled():
        stream = Stream(0, 7)
        for number in range(1, 1001):
            stream.append((number, 1), b"f", b"v%d" % number)
        for number in (*range(1, 40), 500, *range(960, 1001, 3)):
            stream.delete((number, 1))
        return stream

    # From either end the first blocks are counted otherwise than those behind them.
    for bound in (*range(190), *range(190, 810, 9), *range(810, 1003), 2000):
        streams = filled(), filled()
        trims = [stream.trim_id if by_id else stream.trim_length for stream in streams]
        gone = [trim((bound, 1) if by_id else bound, approximate, limit)
                for trim, limit in zip(trims, (0, 10**9), strict=True)]
        assert gone[0] == gone[1]
        assert streams[0].read() == streams[1].read()
        assert len(streams[0].packs()) == len(streams[1].packs())
        for stream in streams:
            stream.check()
            stream.append((3000, 1), b"f", b"v")
            stream.check()


@pytest.mark.parametrize("by_id", [False, True])
def test_streams_of_every_length_are_trimmed(by_id):
    """Of as many blocks as are counted otherwise, of one more and one less, to nothing and to little."""
    for count in range(1, 150):
        for kept in {0, 1, 5, 16, count // 2, count - 6, count - 1, count} & set(range(count + 1)):
            stream = Stream(0, 4)
            for number in range(1, count + 1):
                stream.append((number, 1), b"f", b"v")
            bound = count - kept + 1
            assert (stream.trim_id((bound, 1)) if by_id else stream.trim_length(kept))[0] == count - kept
            stream.check()
            assert [pair[0] for pair, _ in stream.read()] == list(range(bound, count + 1))


def test_random_removals_leave_few_leaves():
    index = IdIndex()
    for i in range(20_000):
        index.insert((i, 0), i + 1)
    for i in range(20_000):
        if i % 50:
            index.remove((i, 0))
    index.check()
    assert len(index) == 400
    assert index.info()["leaves"] < 20
    assert index.info()["heap"] < 40_000


def test_a_queue_stays_small():
    index = IdIndex()
    for i in range(50_000):
        index.insert((i, 0), i + 1)
        if i >= 100:
            assert index.remove((i - 100, 0)) == i - 99
    index.check()
    assert index.info()["heap"] < 20_000


texts = st.one_of(
    st.sampled_from([b"", b"a", b"b", b"127", b"128", b"-1", b"4096", b"99999999999", b"v" * 63, b"v" * 64]),
    st.binary(max_size=12),
    st.sampled_from([b"x" * 200, b"y" * 5000]),
)
same_fields = st.lists(texts, min_size=2, max_size=2).map(lambda pair: [b"f", pair[0], b"g", pair[1]])
entries = st.one_of(same_fields, same_fields,
                    st.lists(st.tuples(texts, texts), min_size=1, max_size=4).map(
                        lambda pairs: [text for pair in pairs for text in pair]))
id_steps = st.tuples(st.sampled_from([0, 0, 1, 1, 200, 70_000, 2**40]), st.sampled_from([0, 1, 1, 5, 2**33]))


class StreamMachine(RuleBasedStateMachine):
    """Random operations on a stream with small blocks, all entries read in both directions after each."""

    @initialize(node_bytes=st.sampled_from([0, 4096, 300]), node_entries=st.sampled_from([0, 3, 100, 200]),
                many=st.booleans())
    def begin(self, node_bytes, node_entries, many):
        self.stream = Stream(node_bytes, node_entries)
        self.model = {}
        self.ever = []               # those that are gone too
        self.last = (0, 0)
        self.added = 0
        self.deleted = (0, 0)
        if many:
            # Blocks that share allocations; what comes then is put into blocks of the usual size.
            self.stream.set_limits(0, 2)
            for number in range(420):
                self.add((1, 0), [b"f", b"%d" % number * (number % 50)])
            assert self.stream.info()["joined"] > 50
            self.stream.set_limits(node_bytes, node_entries)

    def add(self, step, entry):
        ms, seq = step
        pair = (self.last[0] + ms, seq if ms else self.last[1] + seq + 1)
        self.stream.append(pair, *entry)
        self.model[pair] = entry
        self.ever.append(pair)
        self.last = pair
        self.added += 1

    @rule(step=id_steps, entry=entries)
    def append(self, step, entry):
        self.add(step, entry)

    @rule(step=id_steps, entry=entries, count=st.integers(1, 150))
    def append_many(self, step, entry, count):
        for _ in range(count):
            self.add(step if step[0] < 10 else (1, 0), entry)

    def remove(self, pair):
        present = self.model.pop(pair, None) is not None
        assert self.stream.delete(pair) == present
        if present:
            self.deleted = max(self.deleted, pair)

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1), count=st.integers(1, 40), step=st.sampled_from([1, 2, 9]))
    def delete(self, place, count, step):
        for pair in sorted(self.model)[int(place * len(self.model))::step][:count]:
            self.remove(pair)

    @rule(pair=ids)
    def delete_any(self, pair):
        self.remove(pair)

    @rule(length=st.integers(0, 400), approximate=st.booleans(), limit=st.sampled_from([0, 0, 5, 1000]))
    def trim_length(self, length, approximate, limit):
        before = len(self.model)
        count, _blocks = self.stream.trim_length(length, approximate, limit)
        assert count <= max(0, before - length)
        if not limit and not approximate:
            assert count == max(0, before - length)
        self.forget(count)

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1), before=st.booleans(), approximate=st.booleans(), limit=st.sampled_from([0, 0, 7]))
    def trim_id(self, place, before, approximate, limit):
        pair = sorted(self.model)[min(int(place * len(self.model)), len(self.model) - 1)]
        pair = pair if before else (pair[0], pair[1] + 1)
        smaller = sum(each < pair for each in self.model)
        count, _blocks = self.stream.trim_id(pair, approximate, limit)
        assert count <= smaller
        if not limit and not approximate:
            assert count == smaller
        self.forget(count)

    def forget(self, count):
        for pair in sorted(self.model)[:count]:
            del self.model[pair]

    @rule(start=ids, limit=st.integers(0, 5))
    def read(self, start, limit):
        pairs = sorted(self.model)
        behind = [(pair, self.model[pair]) for pair in pairs if pair >= start][:limit]
        before = [(pair, self.model[pair]) for pair in reversed(pairs) if pair <= start][:limit]
        assert self.stream.read(start, limit) == behind
        assert self.stream.read(start, limit, backward=True) == before
        assert self.stream.has(start) == (start in self.model)

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1), limit=st.integers(1, 5))
    def read_near(self, place, limit):
        ms, seq = sorted(self.model)[min(int(place * len(self.model)), len(self.model) - 1)]
        for start in ((ms, seq), (ms, seq + 1), (ms, seq - 1) if seq else (ms, seq)):
            self.read(start, limit)

    @rule(places=st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 1)), max_size=30), ascending=st.booleans(),
          step=st.sampled_from([1, 1, 3, 40]), missing=ids)
    def read_at(self, places, ascending, step, missing):
        wanted = [missing, *self.ever[::step][-200:]]
        for place, distance in places:
            ms, seq = self.ever[min(int(place * len(self.ever)), len(self.ever) - 1)] if self.ever else missing
            wanted.append((ms, min(max(seq + distance, 0), 2**64 - 1)))
        if ascending:
            wanted.sort()
        expected = [(pair, self.model[pair]) if pair in self.model else None for pair in wanted]
        assert self.stream.read_at(wanted) == [entry and (entry[0], entry[1] if i % 2 == 0 else entry[1][:2])
                                               for i, entry in enumerate(expected)]

    @precondition(lambda self: self.model)
    @rule(place=st.floats(0, 1), count=st.integers(1, 300), spare=st.sampled_from([7, 20, 1000]))
    def delete_most(self, place, count, spare):
        """All of many blocks, and few are left of those that share an allocation."""
        pairs = sorted(self.model)[int(place * len(self.model)):][:count]
        for number, pair in enumerate(pairs):
            if number % spare:
                self.remove(pair)

    @rule()
    def copy(self):
        copy = self.stream.copy()
        copy.check()
        assert copy.read() == self.stream.read()
        assert copy.state() == self.stream.state()
        assert copy.packs() == self.stream.packs()

    @rule()
    def load(self):
        other = Stream()
        assert other.load(self.stream.packs())
        other.check()
        assert other.read() == self.stream.read()

    @rule(budget=st.integers(1, 4))
    def free_a_copy(self, budget):
        copy = self.stream.copy()
        for _ in range(10_000):
            done, left = copy.free_step(budget)
            if done:
                return
            assert left == 0
        raise AssertionError("never done")

    @invariant()
    def same(self):
        if not hasattr(self, "stream"):
            return
        self.stream.check()
        pairs = sorted(self.model)
        everything = [(pair, self.model[pair]) for pair in pairs]
        assert self.stream.read() == everything
        assert self.stream.read(LAST, backward=True) == everything[::-1]
        assert [pair for pair, _ in self.stream.read(skip_pairs=True)] == pairs
        assert len(self.stream) == len(pairs)
        assert self.stream.state() == {
            "first": pairs[0] if pairs else (0, 0), "last": self.last, "added": self.added, "deleted": self.deleted,
            "last_entry": pairs[-1] if pairs else None}


class TestStream(StreamMachine.TestCase):
    settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


class GroupMachine(RuleBasedStateMachine):
    """Deliveries, acknowledgements, consumers and groups that come and go."""

    names = st.sampled_from([b"a", b"b", b"ab", b"", b"a\0", b"long name " * 9])

    @initialize()
    def begin(self):
        self.stream = Stream()
        self.model = {}
        self.pending = {}
        self.times = {}

    @rule(name=names)
    def create(self, name):
        assert self.stream.create_group(name) == (name not in self.model)
        self.model.setdefault(name, set())

    @rule(name=names)
    def destroy(self, name):
        assert self.stream.destroy_group(name) == (name in self.model)
        self.model.pop(name, None)
        self.pending = {key: value for key, value in self.pending.items() if key[0] != name}

    @rule(name=names, consumer=names)
    def create_consumer(self, name, consumer):
        if name in self.model:
            assert self.stream.create_consumer(name, consumer) == (consumer not in self.model[name])
            self.model[name].add(consumer)

    @rule(name=names, consumer=names)
    def delete_consumer(self, name, consumer):
        if consumer in self.model.get(name, ()):
            theirs = [key for key, value in self.pending.items() if key[0] == name and value == consumer]
            assert self.stream.delete_consumer(name, consumer) == len(theirs)
            self.model[name].discard(consumer)
            for key in theirs:
                del self.pending[key]

    @rule(name=names, consumer=names, pairs=st.lists(st.tuples(ids, st.integers(0, 9)), max_size=8))
    def deliver(self, name, consumer, pairs):
        if consumer in self.model.get(name, ()):
            for pair, now_ms in pairs:
                self.stream.deliver(name, consumer, pair, now_ms)
                self.pending[name, pair] = consumer
                self.times[name, pair] = now_ms
                assert self.stream.pending(name, pair) == (consumer, now_ms, 1)

    @rule(name=names, consumer=names, gap=st.integers(1, 9), count=st.integers(0, 600), now_ms=st.integers(0, 9),
          dropped=st.sampled_from([0, 0, 0, 1, 5, 1000]))
    def deliver_batch(self, name, consumer, gap, count, now_ms, dropped):
        if consumer in self.model.get(name, ()):
            first = max((pair for group, pair in self.pending if group == name), default=(0, 0))[0] + gap
            pairs = [(first + i, 5) for i in range(count)]
            if first + count >= MAX:
                return
            if dropped:
                # Its entries, the leaves of the consumer's index, the consumer.
                at_once = count + -(-count // 256) + 1 <= dropped
                assert (self.stream.drop_batch(name, consumer, pairs, dropped) == 1) == at_once
                return
            self.stream.deliver_batch(name, consumer, pairs, now_ms)
            for pair in pairs:
                self.pending[name, pair] = consumer
                self.times[name, pair] = now_ms

    @rule(name=names, pair=ids)
    def acknowledge(self, name, pair):
        if name in self.model:
            assert self.stream.acknowledge(name, pair) == (self.pending.pop((name, pair), None) is not None)
            assert self.stream.pending(name, pair) is None

    @rule(name=names, consumer=names, first=st.integers(0, 500), chosen=st.binary(max_size=70),
          now_ms=st.integers(0, 9))
    def deliver_again(self, name, consumer, first, chosen, now_ms):
        theirs = sorted(pair for (group, pair), owner in self.pending.items() if group == name and owner == consumer)
        if first < len(theirs):
            self.stream.deliver_again(name, consumer, first, chosen, now_ms)
            for i, pair in enumerate(theirs[first:first + 8 * len(chosen)]):
                if chosen[i // 8] >> i % 8 & 1:
                    self.times[name, pair] = now_ms
                    assert self.stream.pending(name, pair)[1] == now_ms

    def some_of(self, name, draw):
        """Some that are pending: a run of them, all but some, or in any order."""
        theirs = sorted(pair for group, pair in self.pending if group == name)
        first, last, step, is_shuffled = draw
        some = theirs[first:last:step]
        return some[::2] + some[1::2][::-1] if is_shuffled else some

    some = st.tuples(st.integers(0, 400), st.integers(0, 1200), st.sampled_from([1, 1, 2, 7]), st.booleans())

    @rule(name=names, consumer=names, draw=some, now_ms=st.integers(0, 9), deliveries=st.integers(0, 1))
    def give_all(self, name, consumer, draw, now_ms, deliveries):
        if consumer in self.model.get(name, ()):
            pairs = self.some_of(name, draw)
            were = [self.stream.pending(name, pair)[2] for pair in pairs]
            self.stream.settle(name)
            self.stream.give_all(name, consumer, pairs, now_ms, deliveries)
            for pair, was in zip(pairs, were, strict=True):
                assert self.stream.pending(name, pair) == (consumer, now_ms, was + deliveries)
                self.pending[name, pair] = consumer
                self.times[name, pair] = now_ms

    @rule(name=names, draw=some)
    def remove_all(self, name, draw):
        if name in self.model:
            pairs = self.some_of(name, draw)
            self.stream.settle(name)
            self.stream.remove_all(name, pairs)
            for pair in pairs:
                del self.pending[name, pair]

    @rule(budget=st.integers(1, 300))
    def purge(self, budget):
        self.stream.purge_step(budget)

    @rule(name=names)
    def settle(self, name):
        if name in self.model:
            self.stream.settle(name)

    @rule()
    def copy(self):
        copy = self.stream.copy()
        copy.check()
        assert copy.groups() == self.stream.groups()
        assert all(copy.by_time(name) == sorted(copy.by_time(name)) for name in self.model)
        while not copy.free_step(2)[0]:
            pass

    @invariant()
    def same(self):
        self.stream.check()
        found = self.stream.groups()
        assert list(found) == sorted(self.model)
        for name, consumers in found.items():
            assert list(consumers) == sorted(self.model[name])
            assert self.stream.pending_count(name) == sum(map(len, consumers.values()))
            by_time = self.stream.by_time(name)
            assert [time for time, _ in by_time] == sorted(time for time, _ in by_time)
            assert sorted(by_time) == sorted((self.times[key], key[1]) for key in self.pending if key[0] == name)
            for consumer, pairs in consumers.items():
                assert pairs == sorted(pair for (group, pair), owner in self.pending.items()
                                       if group == name and owner == consumer)


def test_a_consumer_of_many_goes_by_and_by():
    stream = Stream()
    stream.create_group(b"g")
    for name in (b"a", b"b"):
        stream.create_consumer(b"g", name)
    for number in range(2_000):
        stream.deliver(b"g", b"b" if number % 3 else b"a", (number, 0), number)
    assert stream.delete_consumer(b"g", b"a") == 667
    assert (stream.pending_count(b"g"), list(stream.groups()[b"g"])) == (1_333, [b"b"])
    assert not stream.acknowledge(b"g", (0, 0))
    assert stream.pending(b"g", (3, 0)) is None
    stream.create_consumer(b"g", b"a")
    for number in (3, 1_998):
        # Not of the one of the same name that is gone.
        stream.deliver(b"g", b"a", (number, 0), 5_000)
        assert stream.pending(b"g", (number, 0)) == (b"a", 5_000, 1)
    stream.check()
    steps = 1
    while not stream.purge_step(50):
        stream.check()
        steps += 1
    assert steps == 664 // 50 + 1
    assert stream.by_time(b"g")[-2:] == [(5_000, (3, 0)), (5_000, (1_998, 0))]
    assert stream.groups()[b"g"][b"a"] == [(3, 0), (1_998, 0)]
    stream.check()


def seen_by(change, latest_ms=10, at_any_time=False):
    """Does a claim of what is pending from 10 to 20 see this change of 40 entries, delivered at 1, 2, ...?"""
    stream = Stream()
    stream.create_group(b"g")
    stream.create_group(b"other")
    for consumer in (b"a", b"b", b"none"):
        stream.create_consumer(b"g", consumer)
    stream.create_consumer(b"other", b"a")
    for number in range(40):
        stream.deliver(b"g", b"a", (number, 0), number)
        stream.deliver(b"other", b"a", (number, 0), number)
    claim = stream.watch_claim(b"g", (10, 0), (20, 0), latest_ms, at_any_time)
    assert stream.is_watched(b"g", claim)
    change(stream)
    seen = not stream.is_watched(b"g", claim)
    stream.end_claim(b"g", claim)
    assert not stream.is_watched(b"g", claim)
    return seen


def test_what_a_claim_sees():
    def is_seen(number, latest_ms, at_any_time=False):
        changes = [lambda stream: stream.acknowledge(b"g", (number, 0)),
                   lambda stream: stream.deliver(b"g", b"b", (number, 0), 99),
                   lambda stream: stream.give_all(b"g", b"b", [(number, 0)], 99, 1),
                   lambda stream: stream.remove_all(b"g", [(number, 0)]),
                   lambda stream: stream.deliver_again(b"g", b"a", number, b"\1", 99)]
        answers = {seen_by(change, latest_ms, at_any_time) for change in changes}
        assert len(answers) == 1
        return answers.pop()

    assert [number for number in range(40) if is_seen(number, 15)] == list(range(10, 16))
    assert [number for number in range(40) if is_seen(number, 99)] == list(range(10, 21))
    assert [number for number in range(40) if is_seen(number, 15, True)] == list(range(10, 21))
    # What comes between, or becomes old enough.
    assert seen_by(lambda stream: stream.deliver(b"g", b"b", (15, 1), 10))
    assert not seen_by(lambda stream: stream.deliver(b"g", b"b", (15, 1), 11))
    assert not seen_by(lambda stream: stream.deliver(b"g", b"b", (20, 1), 1))
    assert seen_by(lambda stream: stream.deliver(b"g", b"b", (18, 0), 9))
    assert not seen_by(lambda stream: stream.deliver_batch(b"g", b"b", [(100, 0)], 1))
    assert seen_by(lambda stream: stream.delete_consumer(b"g", b"a"))
    for change in (lambda stream: stream.delete_consumer(b"g", b"none"),
                   lambda stream: stream.acknowledge(b"other", (10, 0)),
                   lambda stream: stream.create_consumer(b"g", b"new")):
        assert not seen_by(change)


def test_the_second_claim_ends_the_first():
    stream = Stream()
    stream.create_group(b"g")
    first, second = (stream.watch_claim(b"g", (0, 0), LAST, 9) for _ in range(2))
    assert first != second and not stream.is_watched(b"g", first)
    stream.end_claim(b"g", first)
    assert stream.is_watched(b"g", second)


class TestGroups(GroupMachine.TestCase):
    settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_the_last_entry_is_deleted_in_front_of_a_reader():
    stream = Stream()
    for number in range(1, 9):
        stream.append((number, 1), b"f", b"%d" % number)
    for number in (4, 7, 8):
        assert stream.delete((number, 1))
    assert stream.read_at([(6, 1), (8, 1)]) == [((6, 1), [b"f", b"6"]), None]
    found = stream.read_at([(number, seq) for number in range(10) for seq in (0, 1, 2)])
    assert [entry[0] for entry in found if entry] == [(number, 1) for number in (1, 2, 3, 5, 6)]


def test_ids_of_now():
    stream = Stream()
    assert stream.next_id(0) == (0, 1)
    assert stream.next_id(5) == (5, 0)
    stream.append((5, 0), b"f", b"v")
    assert stream.next_id(5) == (5, 1) and stream.next_id(4) == (5, 1) and stream.next_id(6) == (6, 0)
    stream.append((5, MAX), b"f", b"v")
    assert stream.next_id(5) == (6, 0)
    stream.append(LAST, b"f", b"v")
    assert stream.next_id(5) is None


def saved():
    stream = Stream(node_entries=5)
    for i in range(14):
        stream.append((1000 + 300 * i, i % 3), b"f", b"%d" % (i * 77), *((b"g", b"text") if i % 4 == 3 else ()))
    for i in (1, 6, 7):
        stream.delete((1000 + 300 * i, i % 3))
    return stream.packs()


def test_blocks_out_of_order_are_refused():
    packs = saved()
    assert len(packs) == 3
    assert Stream().load(packs)
    assert not Stream().load(packs[::-1])
    assert not Stream().load([packs[0], packs[0]])


@settings(max_examples=300, deadline=None)
@given(block=st.integers(0, 2), place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_blocks_are_refused_or_harmless(block, place, byte, cut):
    """Whatever a byte is changed to: what is taken can be read, changed and freed."""
    pair, data = saved()[block]
    at = min(int(place * len(data)), len(data) - 1)
    data = data[:at] if cut else data[:at] + bytes([byte]) + data[at + 1:]
    stream = Stream(node_entries=5)
    if stream.load([(pair, data)]):
        stream.check()
        entries = stream.read()
        assert len(entries) == len(stream)
        assert entries == stream.read(LAST, backward=True)[::-1]
        for each, _texts in entries:
            assert stream.delete(each)
        assert len(stream) == 0


@pytest.mark.parametrize("value", [b"v" * 15, b"12345678"])
def test_memory_of_a_million_entries_would_do(value):
    """Blocks are as large as what is in them, but for the allocator's steps; the index is nearly nothing."""
    stream = Stream()
    stream.time_append(b"field", value, 100_000)
    info = stream.info()
    assert info["heap"] < info["data"] * 1.25
    assert info["heap"] / 100_000 < 27


# ---- Blocks that share allocations --------------------------------------------------------------

def live_bytes():
    return total_bytes()[0]


def many(value=b"x" * 23, entries=100_000):
    stream = Stream()
    stream.time_append(b"field", value, entries)
    return stream


@pytest.mark.parametrize("size", [4, 10, 18, 19, 22, 30, 33, 40, 54])
def test_whatever_entries_measure_little_is_wasted(size):
    """Sizes of the allocator are up to a quarter apart."""
    stream = many(b"x" * size)
    info = stream.info()
    stream.check()
    assert info["heap"] < info["data"] * 1.08
    assert stream.copy().info()["heap"] < info["data"] * 1.08
    loaded = Stream()
    assert loaded.load(stream.packs())
    assert loaded.info()["heap"] < info["data"] * 1.08


def test_what_a_stream_says_it_has_is_what_it_has():
    before = live_bytes()
    stream = many()
    assert stream.info()["joined"] > 800
    assert live_bytes() - before == stream.info()["heap"]
    assert stream.trim_length(50_050) == (49_950, 499)
    assert live_bytes() - before == stream.info()["heap"]
    for number in range(70_000, 99_000):
        stream.delete((number, 0))
    assert live_bytes() - before == stream.info()["heap"]
    stream.check()
    stream = None
    assert live_bytes() == before


@pytest.mark.parametrize("kept", [1, 3, 20])
def test_few_blocks_that_are_left_do_not_keep_their_neighbours_memory(kept):
    stream = many()
    for number in range(1, 100_001):
        if (number // 100) % 100 >= kept:
            stream.delete((number, 0))
    stream.check()
    assert len(stream) == 1000 * kept
    assert FINE_SIZES or stream.info()["heap"] < 1000 * kept * 46 + 120_000


def test_the_front_of_a_queue_is_not_kept():
    stream = many()
    for length in range(100_000, 100, -100):
        stream.trim_length(length, approximate=True)
        info = stream.info()
        assert info["lone"] == 0
        assert FINE_SIZES or info["heap"] < info["data"] * 1.04 + 25_000
    stream.check()


def test_short_streams_share_nothing():
    assert many(entries=12_000).info()["joined"] == 0


def test_large_blocks_share_nothing():
    stream = Stream(node_bytes=0, node_entries=100)
    stream.time_append(b"field", b"x" * 90, 50_000)
    assert stream.info()["joined"] == 0


def test_the_last_block_may_share_an_allocation_and_grow_again():
    stream = many()
    packs = stream.packs()
    last = len(packs) - 21
    for pair in [pair for pair, _texts in stream.read(packs[last + 1][0])]:
        stream.delete(pair)
    assert stream.info()["blocks"] == last + 1
    stream.set_limits(0, 1000)
    for number in range(200_000, 200_900):
        stream.append((number, 0), b"field", b"x" * 23)
        stream.check()
    assert stream.info()["blocks"] == last + 1
    assert len(stream) == 100 * (last + 1) + 900


@pytest.mark.parametrize("size", range(1, 9))
def test_counts_that_grow_where_blocks_share_an_allocation(size):
    """More than 127 are deleted while more than 127 are left: the number takes another byte."""
    stream = Stream(node_bytes=0, node_entries=300)
    field = b"f" * size
    stream.time_append(field, b"text", 60_000)
    assert stream.info()["joined"] > 50
    for number in range(1, 60_000, 2):
        stream.delete((number, 0))
    stream.check()
    assert stream.read() == [((number, 0), [field, b"text"]) for number in range(2, 60_001, 2)]
