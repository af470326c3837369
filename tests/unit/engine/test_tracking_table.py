"""The invalidation table against a dict of sets."""

import random

import pytest

from dfly._core.testing.tracking_testing import TrackingTable

CLIENTS = 64
THREADS = 3


class Model:
    def __init__(self):
        self.keys = {}
        self.prefixes = {thread: [] for thread in range(THREADS)}

    def messages(self, key, writer, clients):
        result = [(thread, key, writer, None) for thread, prefixes in self.prefixes.items()
                  if any(key.startswith(prefix) for prefix in prefixes)]
        for thread in range(THREADS):
            if here := {client for client in clients if client % THREADS == thread}:
                result.append((thread, key, writer, here))
        return result

    @property
    def counts(self):
        different = {prefix for prefixes in self.prefixes.values() for prefix in prefixes}
        return len(self.keys), sum(map(len, self.keys.values())), len(different)


def sorted_messages(messages):
    return sorted(messages, key=lambda each: (each[0], each[3] is not None))


@pytest.mark.parametrize("seed", range(4))
def test_like_a_dict_of_sets(seed):
    chooser = random.Random(seed)
    table, model = TrackingTable(), Model()
    names = [b"%d:%d" % (index % 7, index) for index in range([20, 300, 3000, 5000][seed])]
    for _ in range(20_000):
        action = chooser.random()
        name = chooser.choice(names)
        if action < 0.7:
            client = int(CLIENTS * chooser.random() ** 2)
            known = model.keys.setdefault(name, set())
            assert table.add(name, client) == (client not in known)
            known.add(client)
        elif action < 0.9:
            clients = model.keys.pop(name, set())
            expected = sorted_messages(model.messages(name, 9, clients))
            assert sorted_messages(table.invalidate(name, 9)) == expected
        elif action < 0.92:
            thread, prefix = chooser.randrange(THREADS), b"%d:" % chooser.randrange(4)
            if chooser.random() < 0.5:
                table.want(prefix, thread)
                model.prefixes[thread].append(prefix)
            elif prefix in model.prefixes[thread]:
                table.unwant(prefix, thread)
                model.prefixes[thread].remove(prefix)
        elif action < 0.95 and model.keys:
            messages = table.evict()
            (evicted,) = {key for _, key, _, _ in messages}
            assert {client for *_, clients in messages for client in clients} == model.keys.pop(evicted)
        assert table.counts == model.counts
    for name, clients in model.keys.items():
        told = [each for each in table.invalidate(name) if each[3] is not None]
        assert {client for *_, some in told for client in some} == clients
    assert table.counts[:2] == (0, 0)
    assert [table.references(client) for client in range(CLIENTS)] == [0] * CLIENTS


@pytest.mark.parametrize("count", [1, 64, 65, 100, 1000, 40_000])
def test_what_is_dropped_is_freed_in_slices(count):
    """At every stage of the table's growth."""
    table = TrackingTable()
    for index in range(count):
        table.add(b"%d" % index, index % CLIENTS)
        table.add(b"%d" % index, (index + 1) % CLIENTS)
    table.want(b"1", 2)
    table.drop()
    assert table.counts == (0, 0, 1)
    assert table.invalidate(b"1") == [(2, b"1", 0, None)]
    steps = 0
    while not table.free_step(100):
        steps += 1
    assert count // 100 - 1 <= steps <= count // 100
    assert sum(table.references(client) for client in range(CLIENTS)) == 0
    assert table.add(b"new", 1)


def test_every_key_can_be_evicted_while_the_table_grows():
    table = TrackingTable()
    for index in range(3000):
        table.add(b"%d" % index, 1)
        if index % 3 == 0:
            assert len(table.evict()) == 1
    left = table.counts[0]
    assert left == 2000
    seen = {table.evict()[0][1] for _ in range(left)}
    assert len(seen) == left
    assert table.evict() == []
