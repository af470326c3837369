"""Collections that are written member by member while they change: what is written is what they were."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfly._core.testing.walk_testing import WalkedCollection

KINDS = ["set", "hash", "zset"]
NEAR = 1000

numbers = st.integers(0, 300)
change = st.one_of(
    st.tuples(st.just("put"), numbers, st.integers(0, 50)),
    st.tuples(st.just("put"), numbers, st.integers(0, 50)),
    st.tuples(st.just("remove"), numbers),
    st.tuples(st.just("remove many"), numbers, st.integers(1, 200)),
    st.tuples(st.just("put many"), numbers, st.integers(1, 400)),
    st.tuples(st.just("deadline"), numbers, st.sampled_from([-1, NEAR, 5000, 2**33, 2**41])),
    st.tuples(st.just("expire"), st.sampled_from([NEAR, 5000])),
    st.tuples(st.just("remove range"), numbers, st.integers(1, 200), st.sampled_from([1, 50, 10**6])),
    st.tuples(st.just("purge"), st.integers(1, 3)),
    st.tuples(st.just("step"), st.integers(1, 12)),
    st.tuples(st.just("copy")),
)


def name(number):
    """Short ones, long ones, and such as lie outside."""
    return b"%d" % number + b"x" * (0, 3, 20, 300)[number % 4]


def apply(collection, operation):
    kind, *arguments = operation
    if kind == "put":
        collection.put(name(arguments[0]), b"%d" % arguments[1] * (1 + arguments[1] % 9), arguments[1])
    elif kind == "put many":
        for number in range(arguments[0], arguments[0] + arguments[1]):
            collection.put(name(number), b"v%d" % number, number / 7)
    elif kind == "remove":
        collection.remove(name(arguments[0]))
    elif kind == "remove many":
        for number in range(arguments[0], arguments[0] + arguments[1]):
            collection.remove(name(number))
    elif kind == "deadline":
        collection.set_deadline(name(arguments[0]), arguments[1])
    elif kind == "expire":
        collection.expire(arguments[0])
    elif kind == "remove range":
        collection.remove_range(*arguments)
    elif kind == "purge":
        collection.purge(arguments[0])
    elif kind == "copy":
        assert collection.copy() == collection.contents()
    elif kind == "step":
        for _ in range(arguments[0]):
            collection.step()


def walk_while(collection, during, change, end, expected):
    """The walk has begun, and is ended so; what it has written is what was there, unless it was given up."""
    for operation in during:
        change(collection, operation)
        collection.check()
    if end == "finish":
        collection.finish()
    elif end == "drop":
        collection.drop()
    elif end == "give up":
        if not collection.step():
            collection.give_up()
        collection.check()
        return
    while not collection.step():
        pass
    assert collection.record() == expected
    collection.check()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=300, deadline=None)
@given(st.integers(1, 600), st.lists(change, max_size=6), st.lists(change, max_size=40),
       st.sampled_from(["steps", "finish", "drop", "again"]), st.integers(0, 2**16))
def test_what_is_written_is_what_was_there(kind, count, before, during, end, seed):
    collection = WalkedCollection(kind)
    order = list(range(count))
    random.Random(seed).shuffle(order)
    for number in order:
        collection.put(name(number), b"v%d" % number, number / 3)
    for operation in before:
        apply(collection, operation)
    for _ in range(2 if end == "again" else 1):
        collection.purge(10**6)
        expected = collection.contents()
        if not expected:
            return
        assert collection.begin()
        walk_while(collection, during, apply, end, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_costs_a_few_members(kind):
    collection = WalkedCollection(kind)
    for number in range(50000):
        collection.put(b"member:%d" % number, b"value", number)
    assert collection.begin()
    collection.put(b"new", b"value", 1)
    collection.put(b"member:7", b"other", 99)
    collection.remove(b"member:9")
    assert collection.forced() <= 300
    collection.give_up()
    assert collection.begin()
    while not collection.step():
        pass
    assert collection.record() == collection.contents()


def test_members_that_are_cut_out_and_not_freed_are_not_walked_over():
    collection = WalkedCollection("zset")
    for number in range(2000):
        collection.put(b"member:%d" % number, b"", number)
    collection.remove_range(100, 1000, 1)
    assert not collection.begin()
    collection.purge(10**6)
    assert collection.begin()


texts = st.integers(0, 60).map(lambda n: (b"%d" % n) * (1, 1, 1, 9, 60, 300)[n % 6])
list_change = st.one_of(
    st.tuples(st.just("push"), texts, st.booleans()),
    st.tuples(st.just("push many"), st.integers(1, 200), st.booleans()),
    st.tuples(st.just("cut"), st.integers(1, 5), st.booleans(), st.booleans()),
    st.tuples(st.just("cut"), st.integers(1, 400), st.booleans(), st.booleans()),
    st.tuples(st.just("cut out"), st.one_of(st.integers(1, 5), st.integers(1, 400)), st.booleans()),
    st.tuples(st.just("insert"), st.integers(0, 600), texts),
    st.tuples(st.just("replace"), st.integers(0, 600), texts),
    st.tuples(st.just("remove equal"), texts, st.integers(0, 3), st.booleans()),
    st.tuples(st.just("step"), st.integers(1, 5)),
    st.tuples(st.just("copy")),
)


def apply_to_list(collection, operation):
    kind, *arguments = operation
    if kind == "push many":
        for number in range(arguments[0]):
            collection.push(b"%d" % (number % 60), arguments[1])
    elif kind in ("step", "copy"):
        apply(collection, operation)
    elif kind == "cut out":
        count, front = arguments
        before = collection.contents()
        gone = before[:count] if front else before[max(0, len(before) - count):]
        assert collection.cut_out(count, front) == gone
        assert collection.contents() == (before[count:] if front else before[:max(0, len(before) - count)])
    else:
        getattr(collection, kind.replace(" ", "_"))(*arguments)


@settings(max_examples=600, deadline=None)
@given(st.lists(texts, min_size=60, max_size=300), st.lists(list_change, max_size=40),
       st.sampled_from(["steps", "finish", "drop", "again", "give up"]))
def test_what_is_written_of_a_list_is_what_was_there(start, during, end):
    collection = WalkedCollection("list")
    for text in start:
        collection.push(text, False)
    for _ in range(2 if end == "again" else 1):
        expected = collection.contents()
        if not collection.begin():
            return
        walk_while(collection, during, apply_to_list, end, expected)
        if end == "give up":
            return


def test_a_change_of_a_list_costs_a_few_blocks():
    collection = WalkedCollection("list")
    for number in range(50000):
        collection.push(b"element:%d" % number, False)
    expected = collection.contents()
    assert collection.begin()
    collection.push(b"new", True)
    collection.cut(3, False, False)
    collection.insert(20000, b"new")
    assert 1 <= collection.forced() <= 6
    while not collection.step():
        pass
    assert collection.record() == expected


stream_change = st.one_of(
    st.tuples(st.just("append"), texts),
    st.tuples(st.just("append many"), st.integers(1, 200)),
    st.tuples(st.just("delete"), st.integers(1, 400)),
    st.tuples(st.just("delete many"), st.integers(1, 400), st.integers(1, 60)),
    st.tuples(st.just("trim"), st.integers(0, 300), st.booleans(), st.booleans()),
    st.tuples(st.just("trim referenced"), st.integers(0, 300), st.booleans()),
    st.tuples(st.just("group"), st.sampled_from([b"g", b"h"])),
    st.tuples(st.just("step"), st.integers(1, 5)),
    st.tuples(st.just("copy")),
)


group_names = st.sampled_from([b"g", b"h", b"i"])
consumers = st.sampled_from([b"ann", b"bob", b"cy"])
times = st.integers(0, 9)
pending_change = st.one_of(
    st.tuples(st.just("deliver"), group_names, consumers, st.integers(1, 400), st.integers(1, 90), times),
    st.tuples(st.just("deliver batch"), group_names, consumers, st.integers(0, 300), times),
    st.tuples(st.just("give"), group_names, consumers, st.integers(1, 400), st.integers(1, 300), st.integers(1, 3),
              times),
    st.tuples(st.just("acknowledge"), group_names, st.integers(1, 600), st.integers(1, 90)),
    st.tuples(st.just("forget"), group_names, st.integers(1, 400), st.integers(1, 300), st.integers(1, 3)),
    st.tuples(st.just("delete consumer"), group_names, consumers),
    st.tuples(st.just("purge pending"), st.integers(1, 60)),
    st.tuples(st.just("destroy group"), group_names),
    st.tuples(st.just("append"), texts),
    st.tuples(st.just("step"), st.integers(1, 12)),
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.just("copy")),
)


def apply_to_stream(collection, operation):
    kind, *arguments = operation
    if kind == "append many":
        for number in range(arguments[0]):
            collection.append(b"value:%d" % number)
    elif kind == "delete many":
        for number in range(arguments[0], sum(arguments)):
            collection.delete(number)
    elif kind in ("step", "copy"):
        apply(collection, operation)
    else:
        getattr(collection, kind.replace(" ", "_"))(*arguments)


@settings(max_examples=600, deadline=None)
@given(st.integers(8, 900), st.lists(stream_change, max_size=8), st.lists(stream_change, max_size=40),
       st.sampled_from(["steps", "finish", "drop", "again", "give up"]))
def test_what_is_written_of_a_stream_is_what_was_there(count, before, during, end):
    collection = WalkedCollection("stream")
    for number in range(count):
        collection.append(b"value:%d" % number)
    for operation in before:
        apply_to_stream(collection, operation)
    for _ in range(2 if end == "again" else 1):
        expected = collection.contents()
        if not collection.begin():
            return
        walk_while(collection, during, apply_to_stream, end, expected)
        if end == "give up":
            return


@settings(max_examples=600, deadline=None)
@given(st.integers(1, 500), st.lists(pending_change, max_size=8), st.lists(pending_change, min_size=1, max_size=30),
       st.sampled_from(["steps", "finish", "drop", "again", "give up"]))
def test_what_is_written_of_groups_is_what_was_pending(count, before, during, end):
    collection = WalkedCollection("stream")
    for number in range(20):
        collection.append(b"value:%d" % number)
    for group in (b"g", b"h"):
        for first, consumer in ((1, b"ann"), (count // 2, b"bob")):
            collection.deliver(group, consumer, first, count, 5)
    for operation in before:
        apply_to_stream(collection, operation)
    for _ in range(2 if end == "again" else 1):
        expected = collection.contents()
        assert collection.begin()
        walk_while(collection, during, apply_to_stream, end, expected)
        collection.check()
        if end == "give up":
            return


@pytest.mark.parametrize("come", [
    lambda collection: collection.deliver(b"g", b"bob", 150, 3, 9),
    lambda collection: (collection.acknowledge(b"g", 300, 200), collection.deliver_batch(b"g", b"ann", 50, 9)),
    lambda collection: (collection.acknowledge(b"g", 300, 200), collection.deliver(b"g", b"new", 310, 9, 9)),
    lambda collection: (collection.destroy_group(b"g"), collection.deliver(b"g", b"ann", 1, 900, 9)),
    lambda collection: (collection.delete_consumer(b"g", b"ann"), collection.deliver(b"g", b"ann", 201, 4, 9)),
], ids=["between", "batch", "again", "another group", "another consumer"])
def test_entries_that_come_where_others_were(come):
    collection = WalkedCollection("stream")
    for number in range(20):
        collection.append(b"value:%d" % number)
    for first, count in ((1, 100), (200, 200)):
        collection.deliver(b"g", b"ann", first, count, 5)
    expected = collection.contents()
    assert collection.begin()
    come(collection)
    collection.check()
    while not collection.step():
        pass
    assert collection.record() == expected


@pytest.mark.parametrize("finishes", [False, True])
def test_a_stream_is_walked_over_until_its_groups_are_written(finishes):
    """Who takes it to another shard asks."""
    collection = WalkedCollection("stream")
    for number in range(20):
        collection.append(b"value:%d" % number)
    collection.deliver(b"g", b"ann", 1, 3_000, 5)
    expected = collection.contents()
    assert collection.begin()
    for _ in range(5):
        assert not collection.step()
    assert collection.is_walked()
    if finishes:
        collection.finish()
        assert not collection.is_walked()
    collection.acknowledge(b"g", 1, 3_000)
    while not collection.step():
        pass
    assert not collection.is_walked()
    assert collection.record() == expected


def test_a_change_of_a_stream_costs_a_few_blocks():
    collection = WalkedCollection("stream")
    for number in range(50000):
        collection.append(b"value:%d" % number)
    expected = collection.contents()
    assert collection.begin()
    for number in range(200):
        collection.append(b"new:%d" % number)
    collection.delete(20000)
    collection.trim(50100, False, False)
    assert 1 <= collection.forced() <= 80
    while not collection.step():
        pass
    assert collection.record() == expected
