"""Fibers: suspension, waking across threads, pooling, failures, closing, and the baton."""

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from dfly._core.testing import fiber_testing as ft
from loops import Loops, on_fiber, wait_for

BACKENDS = (1, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_thousands_of_fibers_sleep_at_once(backend):
    count, woke = 1000, [0, 0, 0]
    with Loops(3, backend) as loops:
        def sleeper(index, generator):
            for _ in range(3):
                ft.sleep_us(generator.randrange(0, 20000))
            woke[index] += 1

        for index, loop in enumerate(loops):
            for i in range(count):
                loop.hub.spawn_on(sleeper, index, random.Random(i))
        wait_for(lambda: woke == [count] * 3)
    for loop in loops:
        stats = loop.hub.stats()
        assert stats["finished"] == count + 1
        assert stats["live"] == 0 and stats["failed"] == 0
        assert stats["switches"] >= 4 * count


def test_sleep_takes_its_time_and_sleepers_wake_in_order():
    order = []
    with Loops(1) as (loop,):
        def sleeper(ms):
            started = time.monotonic()
            ft.sleep_us(ms * 1000)
            order.append((ms, time.monotonic() - started))

        for ms in (30, 10, 20, 0):
            loop.hub.spawn_on(sleeper, ms)
        wait_for(lambda: len(order) == 4)
    assert [ms for ms, _ in order] == [0, 10, 20, 30]
    assert all(taken >= ms / 1000 for ms, taken in order)


def test_stacks_of_suspended_fibers_are_their_own():
    done = []
    with Loops(2) as loops:
        def body(depth):
            for _ in range(3):
                ft.deep_sleep_us(depth, 1000)
            done.append(depth)

        for i in range(200):
            loops[i % 2].hub.spawn_on(body, i % 37)
        wait_for(lambda: len(done) == 200)
    assert sum(loop.hub.stats()["failed"] for loop in loops) == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_goes_round_over_several_threads(backend):
    size, rounds = 300, 20
    with Loops(3, backend) as loops:
        ring = ft.Ring(loops, size, rounds)
        ring.spawn()
        wait_for(lambda: ring.armed == size)
        ring.push_token()
        wait_for(lambda: ring.finished == size)
    assert ring.passes() == [rounds] * size
    assert sum(loop.hub.stats()["foreign_wakes"] for loop in loops) >= size * rounds - 1


def test_a_token_goes_round_on_one_thread_without_messages():
    size, rounds = 50, 40
    with Loops(1) as (loop,):
        ring = ft.Ring([loop], size, rounds)
        ring.spawn()
        wait_for(lambda: ring.armed == size)
        ring.push_token()
        wait_for(lambda: ring.finished == size)
    assert ring.passes() == [rounds] * size
    assert loop.hub.stats()["foreign_wakes"] == 1          # the first push came from this thread


def test_concurrent_wakers_wake_each_fiber_exactly_once():
    count = 3000
    with Loops(3) as loops:
        crowd = ft.Crowd(loops, count)
        crowd.spawn()
        first = []

        def waker(number):
            total = 0
            while crowd.armed < count or number < 0:
                total += crowd.wake_all(number * 977 % count, number % 2)
            first.append(total + crowd.wake_all())

        wakers = [threading.Thread(target=waker, args=(n,)) for n in range(4)]
        for thread in wakers:
            thread.start()
        for thread in wakers:
            thread.join(20)
        wait_for(lambda: crowd.resumed == count)
        assert crowd.wake_all() == 0
    assert sum(first) == count
    assert crowd.resumptions() == [1] * count
    assert crowd.wakes() == [1] * count


def test_a_wake_up_and_a_timeout_at_the_same_moment():
    count = 2000
    with Loops(2) as loops:
        crowd = ft.Crowd(loops, count, timeout_us=15000)
        crowd.spawn()
        deadline = time.monotonic() + 20
        generator = random.Random(7)
        while crowd.resumed + crowd.timed_out < count:
            assert time.monotonic() < deadline
            if crowd.armed > count // 2:
                crowd.wake_all(generator.randrange(count))
            time.sleep(0.0003)
    woken = crowd.wakes()
    assert crowd.resumptions() == [1] * count
    assert crowd.resumed == sum(woken)
    assert crowd.timed_out == count - sum(woken)


def test_all_fibers_time_out_where_nobody_wakes_them():
    with Loops(1) as (loop,):
        crowd = ft.Crowd([loop], 100, timeout_us=5000)
        crowd.spawn()
        wait_for(lambda: crowd.timed_out == 100)
    assert crowd.resumed == 0
    assert loop.hub.stats()["live"] == 0


def test_greenlets_are_reused_and_the_pool_is_bounded():
    with Loops(1, pool_limit=10) as (loop,):
        for _ in range(50):
            on_fiber(loop, ft.on_fiber)
        stats = loop.hub.stats()
        assert stats["reused"] >= 49
        assert stats["created"] <= 3
        done = []
        for i in range(100):
            loop.hub.spawn_on(lambda i=i: (ft.sleep_us(5000), done.append(i)))
        wait_for(lambda: len(done) == 100)
        wait_for(lambda: loop.hub.stats()["live"] == 0)
        assert loop.hub.stats()["pooled"] == 10
        assert on_fiber(loop, ft.on_fiber)


def test_a_suspending_call_outside_of_a_fiber_is_refused():
    with pytest.raises(RuntimeError, match="outside of a fiber"):
        ft.sleep_us(1)
    assert not ft.on_fiber()


def test_exceptions_are_logged_once_and_counted(caplog):
    with Loops(1) as (loop,), caplog.at_level(logging.ERROR, logger="dfly.fiber"):
        def fails():
            ft.yield_now()
            raise KeyError("from a callable")

        loop.hub.spawn_on(fails)
        ft.spawn_failing(loop)
        wait_for(lambda: loop.hub.stats()["failed"] == 2)
        assert on_fiber(loop, ft.on_fiber), "the loop goes on"
    raised = sorted(str(record.exc_info[1]) for record in caplog.records)
    assert raised == ["'from a callable'", "a C fiber fails"]


def test_exceptions_being_handled_stay_with_their_fiber():
    seen = []
    with Loops(1) as (loop,):
        def body(name):
            try:
                raise ValueError(name)
            except ValueError:
                for _ in range(5):
                    ft.yield_now()
                    seen.append((name, str(sys.exc_info()[1])))

        for i in range(20):
            loop.hub.spawn_on(body, str(i))
        wait_for(lambda: len(seen) == 100)
    assert all(name == message for name, message in seen)


def test_closing_unwinds_suspended_fibers_and_drops_those_not_started(caplog):
    unwound = []
    late = []
    with Loops(1) as (loop,):
        def body(i):
            try:
                ft.sleep_us(60_000_000)
            finally:
                unwound.append(i)
                loop.hub.spawn_on(late.append, i)

        for i in range(50):
            loop.hub.spawn_on(body, i)
        crowd = ft.Crowd([loop], 50)
        crowd.spawn()
        wait_for(lambda: crowd.armed == 50 and loop.hub.stats()["live"] == 100)
    assert sorted(unwound) == list(range(50))
    assert late == []
    stats = loop.hub.stats()
    assert stats["live"] == 0 and stats["failed"] == 0
    assert not caplog.records
    loop.hub.close()                                       # again: nothing happens
    with pytest.raises(RuntimeError):
        loop.hub.spawn(late.append, 1)


def test_closing_while_wake_ups_are_on_their_way():
    for seed in range(10):
        with Loops(2) as loops:
            crowd = ft.Crowd(loops, 400)
            crowd.spawn()
            wait_for(lambda crowd=crowd: crowd.armed == 400)
            waker = threading.Thread(target=crowd.wake_all, args=(seed * 40,))
            for loop in loops:
                loop.stop()
            waker.start()
            waker.join(20)
        for loop in loops:
            assert loop.hub.stats()["live"] == 0


def test_closing_while_a_waker_is_held_up_between_its_steps(caplog):
    with Loops(1) as loops:
        crowd = ft.Crowd(loops, 1)
        crowd.spawn()
        wait_for(lambda: crowd.armed == 1)
        assert crowd.begin_wake(0)
        waker = threading.Timer(0.1, crowd.end_wake, (0,))
        waker.start()
    waker.join(20)
    assert loops[0].hub.stats()["live"] == 0 and not caplog.records


def test_a_fiber_that_refuses_to_end_is_reported(caplog):
    with Loops(1) as (loop,):
        def stubborn():
            while True:
                try:
                    ft.sleep_us(60_000_000)
                except BaseException:
                    pass

        loop.hub.spawn_on(stubborn)
        wait_for(lambda: loop.hub.stats()["live"] == 1)
        time.sleep(0.01)
    assert "did not end" in caplog.text
    assert loop.hub.stats()["live"] == 1


def test_a_continuation_runs_once_on_its_owners_thread():
    with Loops(2) as (owner, other):
        foreign = ft.Continuation(owner)
        assert on_fiber(other, foreign.wake) is True
        wait_for(lambda: foreign.runs()[0] == 1)
        assert on_fiber(other, foreign.wake) is False
        assert foreign.wake() is False
        assert foreign.runs() == (1, 0, 0)
        local = ft.Continuation(owner)
        assert on_fiber(owner, local.wake_on_owner) is True
        wait_for(lambda: local.runs()[0] == 1)
        assert local.runs() == (1, 0, 0), "it must not run inside waiter_wake"


def test_a_thread_has_one_hub_only():
    with Loops(1) as (loop,):
        with pytest.raises(RuntimeError, match="in use"):
            on_fiber(loop, ft.LoopThread().run)
        assert on_fiber(loop, ft.on_fiber)


def test_ready_fibers_do_not_starve_the_data_plane():
    with Loops(1) as (loop,):
        beat = ft.Heartbeat(loop, 1000)
        on_fiber(loop, beat.start)
        busy = [True]

        def spinner():
            while busy[0]:
                ft.yield_now()

        for _ in range(200):
            loop.hub.spawn_on(spinner)
        before = beat.beats
        time.sleep(0.3)
        beats = beat.beats - before
        busy[0] = False
        wait_for(lambda: loop.hub.stats()["live"] == 0)
        on_fiber(loop, beat.stop)
    assert beats >= 30, "200 fibers that are always ready leave the data plane its ticks"


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_data_plane_goes_on_while_another_thread_has_the_baton(backend):
    with Loops(2, backend) as (holder, server):
        beat = ft.Heartbeat(server, 500)
        on_fiber(server, beat.start)
        waiting = ft.Crowd([server], 1)
        waiting.spawn()
        wait_for(lambda: waiting.armed == 1)
        waits_before = server.hub.stats()["baton_waits"]

        def hold():
            # The GIL is held all through: a thread that asked for it would stand still.
            waiting.wake_all()
            before = beat.beats, server.ticks()
            ft.hold_gil(200_000)
            return beat.beats - before[0], server.ticks() - before[1], waiting.resumed

        beats, ticks, resumed = on_fiber(holder, hold)
        wait_for(lambda: waiting.resumed == 1)
        on_fiber(server, beat.stop)
    assert beats >= 100 and ticks >= 100, "200 ms have room for 400 beats"
    if ft.has_baton:
        assert resumed == 0
        assert server.hub.stats()["baton_waits"] > waits_before


def test_waiting_for_the_gil_is_measured():
    with Loops(1) as (loop,):
        event, woken = ft.Event(loop), []
        loop.hub.spawn_on(lambda: (event.wait(), woken.append(1)))
        wait_for(lambda: loop.hub.stats()["live"] == 1)
        time.sleep(0.02)
        event.set()                                         # keeps the GIL, as the next call does
        ft.hold_gil(50_000)
        wait_for(lambda: woken)
        stats = loop.hub.stats()
    assert 20_000 <= stats["gil_wait_us_max"] <= stats["gil_wait_us"]


def test_threads_that_contend_for_the_baton_all_get_it():
    with Loops(4) as loops:
        counts = [0] * 4
        busy = [True]

        def body(index):
            while busy[0]:
                ft.hold_gil(300)
                counts[index] += 1
                ft.yield_now()

        for index, loop in enumerate(loops):
            for _ in range(3):
                loop.hub.spawn_on(body, index)
        time.sleep(1.0)
        busy[0] = False
        wait_for(lambda: all(loop.hub.stats()["live"] == 0 for loop in loops))
        for loop in loops:
            assert on_fiber(loop, ft.on_fiber)
    assert min(counts) * 10 > max(counts), counts
    if ft.has_baton:
        assert sum(loop.hub.stats()["baton_waits"] for loop in loops) > 0


def test_work_without_gil_and_baton_lets_other_threads_run_fibers():
    with Loops(2) as (worker, other):
        done = threading.Event()
        worker.hub.spawn_on(lambda: (ft.sleep_detached(400_000), done.set()))
        time.sleep(0.05)
        started = time.monotonic()
        for _ in range(20):
            assert on_fiber(other, ft.on_fiber)
        taken = time.monotonic() - started
        assert not done.is_set() and taken < 0.3
        assert done.wait(20)
        assert on_fiber(worker, ft.on_fiber)


def test_a_waiter_on_a_stack_aborts_in_debug_builds():
    code = "from dfly._core.testing import fiber_testing as ft; ft.waiter_on_stack(); print('returned')"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True,
                         timeout=60, env=dict(os.environ, PYTHONPATH=os.getcwd()))
    if ft.is_debug_build:
        assert run.returncode == -signal.SIGABRT
        assert "must not lie on a stack" in run.stderr
    else:
        assert run.returncode == 0 and run.stdout == "returned\n"
