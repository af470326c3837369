"""Strict serialisability: many clients, transactions over several shards, and a checker of the history."""

import os
import random
import threading
import time

import pytest

from .history import Transaction, Violation, check
from .wire import encode

KEYS = [f"list{i}" for i in range(5)]
SECONDS = float(os.environ.get("SERIAL_SECONDS", "3"))


def append(key, value):
    return ("append", key, value)


def read(key, *values):
    return ("read", key, list(values))


def together(*operations):
    """One of the transactions that run at the same time."""
    return Transaction(0, 9, list(operations))


def later(*operations):
    return Transaction(10, 11, list(operations))


GOOD = [
    [together(append("a", 1)), later(append("a", 2)), Transaction(12, 13, [read("a", 1, 2)])],
    [together(append("a", 1)), together(read("a")), later(read("a", 1))],
    [together(read("a"), append("b", 1)), together(append("a", 1)), later(read("a", 1), read("b", 1))],
]
BAD = {
    "stale read": [together(append("a", 1)), later(read("a")), Transaction(12, 13, [read("a", 1)])],
    "write skew": [together(read("a"), append("b", 1)), together(read("b"), append("a", 1)),
                   later(read("a", 1), read("b", 1))],
    "torn write": [together(append("a", 1), append("b", 1)), together(read("a", 1), read("b")),
                   later(read("a", 1), read("b", 1))],
    "writes in two orders": [together(append("a", 1), append("b", 1)),
                             together(append("a", 2), append("b", 2)),
                             later(read("a", 1, 2), read("b", 2, 1))],
    "lost": [together(append("a", 1)), together(append("a", 2)), later(read("a", 2))],
    "twice": [together(append("a", 1)), later(read("a", 1, 1))],
    "two histories": [together(append("a", 1)), together(append("a", 2)), together(read("a", 1)),
                      later(read("a", 2, 1))],
    "from nowhere": [together(append("a", 1)), later(read("a", 1, 7))],
}


@pytest.mark.parametrize("history", GOOD)
def test_the_checker_accepts(history):
    check(history)


@pytest.mark.parametrize("name", BAD)
def test_the_checker_refuses(name):
    with pytest.raises(Violation):
        check(BAD[name])


def run_client(server, seed, history, stopping, as_one):
    """Random appends and reads; as_one: between MULTI and EXEC, else one after the other."""
    rng = random.Random(seed)
    number = 0
    with server.connect(timeout=20) as client:
        while not stopping.is_set():
            commands = []
            for _ in range(rng.randrange(1, 5)):
                if rng.random() < 0.5:
                    number += 1
                    commands.append(("RPUSH", rng.choice(KEYS), f"{seed}.{number}"))
                else:
                    commands.append(("LRANGE", rng.choice(KEYS), "0", "-1"))
            begin = time.monotonic()
            if as_one:
                client.send(b"".join(encode(*each) for each in [("MULTI",), *commands, ("EXEC",)]))
                for _ in range(len(commands) + 1):
                    client.read()
                replies = client.read().value
            else:
                replies = [client.command(*each).value for each in commands]
            end = time.monotonic()
            history.append(Transaction(begin, end, [
                ("append", command[1], command[2].encode()) if command[0] == "RPUSH"
                else ("read", command[1], reply) for command, reply in zip(commands, replies, strict=True)]))


def run_load(server, as_one, seconds):
    """The history of some clients; its last transaction reads everything."""
    stopping = threading.Event()
    histories = [[] for _ in range(6)]
    clients = [threading.Thread(target=run_client, args=(server, seed, history, stopping, as_one))
               for seed, history in enumerate(histories)]
    with server.connect() as control:
        control.command("DEL", *KEYS)
        for client in clients:
            client.start()
        deadline = time.monotonic() + seconds
        # Lists of some hundred elements: reads stay short.
        while time.monotonic() < deadline and control.command("LLEN", KEYS[0]).value < 400:
            time.sleep(0.01)
        stopping.set()
        for client in clients:
            client.join()
        last = Transaction(time.monotonic(), time.monotonic() + 1, [
            ("read", key, control.command("LRANGE", key, "0", "-1").value) for key in KEYS])
    return [transaction for history in histories for transaction in history] + [last]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_transactions_are_strictly_serialisable(start, threads):
    subject = start(proactor_threads=threads)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        check(run_load(subject, as_one=True, seconds=SECONDS))


def test_the_checker_sees_tokens_that_do_not_hold(start):
    """The lock table broken on purpose: an EXEC gives its tokens away between its commands."""
    subject = start(proactor_threads=2, interrupt_transactions="yes")
    with pytest.raises(Violation):
        for _ in range(10):
            check(run_load(subject, as_one=True, seconds=SECONDS))


def test_the_checker_sees_a_server_without_transactions(start):
    """The same load without MULTI: each transaction's commands interleave with others'."""
    subject = start(proactor_threads=2)
    with pytest.raises(Violation):
        for _ in range(10):
            check(run_load(subject, as_one=False, seconds=SECONDS))
