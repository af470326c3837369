"""Strict serialisability of a history of transactions over lists, by cycle detection on list-append.

Every append adds a value of its own, so a read of a list tells which appends came before it and in which
order. From the reads follow the dependencies between transactions: ww (the next append to a list), wr (a
read sees an append), rw (a read does not see the next append); from the clock: a transaction that began
after another had ended comes behind it. A history is strictly serialisable only if these have no cycle.
Source: Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", 2020.
"""

from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Transaction:
    """What one client did at one point in time: ("append", key, value) and ("read", key, [value ...])."""

    begin: float
    end: float
    operations: list = field(default_factory=list)


class Violation(AssertionError):
    pass


def version_orders(history):
    """{key: its values in the order of their appends}, from the longest read; every read begins like it."""
    orders = {}
    for transaction in history:
        for kind, key, values in transaction.operations:
            if kind == "read" and len(values) > len(orders.get(key, ())):
                orders[key] = values
    for transaction in history:
        for kind, key, values in transaction.operations:
            if kind == "read" and orders.get(key, [])[: len(values)] != values:
                raise Violation(f"{key}: {values} is not how {orders[key]} begins")
    return orders


def writers_of(history, orders):
    writers = {}
    for number, transaction in enumerate(history):
        for kind, key, value in transaction.operations:
            if kind == "append":
                writers[key, value] = number
    for key, values in orders.items():
        if len(set(values)) != len(values):
            raise Violation(f"{key}: a value twice in {values}")
        for value in values:
            if (key, value) not in writers:
                raise Violation(f"{key}: nobody appended {value}")
    return writers


def dependencies(history, orders, writers):
    for key, values in orders.items():
        for first, second in pairwise(values):
            yield writers[key, first], writers[key, second]
    for number, transaction in enumerate(history):
        for kind, key, values in transaction.operations:
            if kind != "read":
                continue
            if values:
                yield writers[key, values[-1]], number
            if len(values) < len(orders[key]):
                yield number, writers[key, orders[key][len(values)]]


def real_time(history):
    """Edges by way of barriers, one after each end: as many as transactions, not their square."""
    events = sorted([(transaction.begin, 1, number) for number, transaction in enumerate(history)]
                    + [(transaction.end, 0, number) for number, transaction in enumerate(history)])
    barrier = None
    for _, is_begin, number in events:
        if is_begin:
            if barrier is not None:
                yield barrier, number
        else:
            yield number, ("after", number)
            if barrier is not None:
                yield barrier, ("after", number)
            barrier = ("after", number)


def cycle(edges):
    """The transactions of some strongly connected component, or None. Tarjan 1972, without recursion."""
    graph = {}
    for source, target in edges:
        if source != target:
            graph.setdefault(source, []).append(target)
            graph.setdefault(target, [])
    index, low, stack, on_stack = {}, {}, [], set()
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(graph[root]))]
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(graph[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    if len(component) > 1:
                        return [each for each in component if isinstance(each, int)]
    return None


def check(history):
    """Raises Violation if no order of the transactions explains the history."""
    orders = version_orders(history)
    writers = writers_of(history, orders)
    found = cycle([*dependencies(history, orders, writers), *real_time(history)])
    if found is not None:
        raise Violation("a cycle: " + "; ".join(str(history[number]) for number in sorted(found)[:6]))
    for key, value in writers:
        if any(kind == "read" and name == key for kind, name, _ in history[-1].operations):
            if value not in orders.get(key, ()):
                raise Violation(f"{key}: {value} was lost")
