"""Mailbox and timer heap on their own."""

import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfly._core.testing import loop_testing


def test_mailbox_returns_oldest_first():
    mailbox = loop_testing.Mailbox()
    assert mailbox.take() == []
    assert mailbox.push_many(7, 3) == 1
    assert mailbox.push_many(8, 2) == 0
    assert mailbox.take() == [(7, 0), (7, 1), (7, 2), (8, 0), (8, 1)]
    assert mailbox.take() == []
    assert mailbox.push_many(7, 1) == 1
    assert mailbox.take() == [(7, 0)]


def test_mailbox_keeps_each_producers_order_and_loses_nothing():
    mailbox = loop_testing.Mailbox()
    producers, count = 4, 20000
    threads = [threading.Thread(target=mailbox.push_many, args=(i, count)) for i in range(producers)]
    for thread in threads:
        thread.start()
    following = [0] * producers
    while sum(following) < producers * count:
        for producer, number in mailbox.take():
            assert number == following[producer]
            following[producer] += 1
    for thread in threads:
        thread.join()
    assert mailbox.take() == []


def test_timers_fire_in_order_of_their_due_time():
    timers = loop_testing.Timers(3)
    timers.start(0, 30)
    timers.start(1, 10)
    timers.start(2, 20)
    assert timers.next_due() == 10
    assert timers.run_due(9) == []
    assert timers.run_due(20) == [1, 2]
    assert timers.next_due() == 30
    assert timers.run_due(100) == [0]
    assert timers.next_due() == -1


def test_a_running_timer_moves_and_a_stopped_one_does_not_fire():
    timers = loop_testing.Timers(3)
    for i in range(3):
        timers.start(i, 10 + i)
    timers.start(0, 50)
    timers.stop(1)
    timers.stop(1)
    assert [timers.is_running(i) for i in range(3)] == [True, False, True]
    assert timers.run_due(40) == [2]
    timers.start(0, 5)
    assert timers.run_due(5) == [0]


def test_a_timer_may_start_itself_again_and_the_limit_bounds_a_run():
    timers = loop_testing.Timers(2)
    timers.start(0, 10, again_us=10)
    timers.start(1, 25)
    assert timers.run_due(45) == [0, 0, 1, 0, 0]
    assert timers.run_due(1000, limit=3) == [0, 0, 0]


operations = st.lists(
    st.tuples(st.sampled_from(["start", "stop", "run"]), st.integers(0, 19), st.integers(0, 100)),
    max_size=200)


@given(operations)
@settings(max_examples=200, deadline=None)
def test_timers_against_a_model(steps):
    timers = loop_testing.Timers(20)
    model = {}
    for step, number, time in steps:
        if step == "start":
            timers.start(number, time)
            model[number] = time
        elif step == "stop":
            timers.stop(number)
            model.pop(number, None)
        else:
            fired = timers.run_due(time)
            due = {n: t for n, t in model.items() if t <= time}
            assert set(fired) == set(due) and len(fired) == len(due)
            assert [due[n] for n in fired] == sorted(due.values())
            for n in due:
                del model[n]
        assert timers.next_due() == min(model.values(), default=-1)
        assert {n for n in range(20) if timers.is_running(n)} == set(model)


def test_many_timers():
    timers = loop_testing.Timers(50000)
    due = [(i * 7919) % 50021 for i in range(50000)]
    for i, time in enumerate(due):
        timers.start(i, time)
    for i in range(0, 50000, 3):
        timers.stop(i)
    fired = timers.run_due(60000)
    assert len(fired) == 50000 - len(range(0, 50000, 3))
    assert [due[i] for i in fired] == sorted(due[i] for i in fired)


@pytest.mark.parametrize("call", ["push_from_stack", "start_timer_on_stack", "send_from_stack"])
def test_stack_addresses_abort_in_debug_builds(call):
    code = f"from dfly._core.testing import loop_testing; loop_testing.{call}()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if loop_testing.debug_enabled:
        assert done.returncode < 0
        assert "stack" in done.stderr
    else:
        assert done.returncode == 0
