"""Events, mutexes, channels and counters between fibers, and the two doors for other threads."""

import random

from dfly._core.testing import fiber_testing as ft
from loops import Loops, on_fiber, wait_for


def test_an_event_wakes_all_who_wait_and_lets_later_ones_through():
    woken = []
    with Loops(1) as (loop,):
        event = ft.Event(loop)
        for i in range(100):
            loop.hub.spawn_on(lambda i=i: (event.wait(), woken.append(i)))
        on_fiber(loop, ft.yield_now)
        assert woken == []
        on_fiber(loop, event.set)
        wait_for(lambda: len(woken) == 100)
        assert woken == list(range(100)), "first come, first served"
        on_fiber(loop, event.wait)
        on_fiber(loop, event.reset)
        loop.hub.spawn_on(lambda: (event.wait(), woken.append("again")))
        on_fiber(loop, ft.yield_now)
        assert woken[-1] == 99
        event.set()                                         # from this thread
        wait_for(lambda: woken[-1] == "again")


def test_an_event_set_by_many_threads_at_once():
    with Loops(3) as (owner, *others):
        event = ft.Event(owner)
        for _ in range(50):
            woken = []
            on_fiber(owner, event.reset)
            for _ in range(10):
                owner.hub.spawn_on(lambda woken=woken: (event.wait(), woken.append(1)))
            for loop in others:
                loop.hub.spawn_on(event.set)
            wait_for(lambda woken=woken: len(woken) == 10)
            for loop in others:
                on_fiber(loop, ft.on_fiber)                 # its set is through before the reset
            on_fiber(owner, ft.on_fiber)


def test_a_mutex_keeps_others_out_over_a_suspension_and_is_fair():
    order, inside = [], []
    with Loops(1) as (loop,):
        mutex = ft.Mutex()

        def body(i):
            with mutex:
                assert inside == []
                inside.append(i)
                ft.sleep_us(100 * (i % 3))
                order.append(inside.pop())

        for i in range(100):
            loop.hub.spawn_on(body, i)
        wait_for(lambda: len(order) == 100)
        assert not mutex.is_locked

        def taken():
            with mutex:
                return mutex.try_lock()

        assert on_fiber(loop, taken) is False
    assert order == list(range(100))
    assert loop.hub.stats()["failed"] == 0


def test_a_mutex_is_free_after_its_waiting_fibers_were_ended():
    with Loops(1) as (loop,):
        mutex = ft.Mutex()

        def body():
            with mutex:
                ft.sleep_us(60_000_000)

        for _ in range(10):
            loop.hub.spawn_on(body)
        wait_for(lambda: mutex.is_locked)
        on_fiber(loop, ft.yield_now)
    assert not mutex.is_locked
    assert loop.hub.stats()["live"] == 0


def test_a_channel_hands_everything_on_in_order_within_its_bound():
    got = []
    with Loops(1) as (loop,):
        channel = ft.Channel(7)
        generator = random.Random(3)

        def producer():
            for i in range(1000):
                assert channel.push(i)
                assert channel.count <= 7
                if generator.random() < 0.1:
                    ft.yield_now()
            channel.close()

        def consumer():
            while (item := channel.pop()) is not None:
                got.append(item)
                if generator.random() < 0.1:
                    ft.yield_now()
            return channel.push(5)

        loop.hub.spawn_on(producer)
        assert on_fiber(loop, consumer) is False, "a closed channel takes nothing"
    assert got == list(range(1000))


def test_a_channel_with_many_producers_and_consumers_loses_nothing():
    got, ended = [], []
    with Loops(1) as (loop,):
        channel = ft.Channel(3)

        def producer(start):
            for i in range(50):
                channel.push(start + i)
                ft.yield_now()
            ended.append(start)

        def consumer():
            while (item := channel.pop()) is not None:
                got.append(item)
            ended.append("consumer")

        for _ in range(5):
            loop.hub.spawn_on(consumer)
        for k in range(20):
            loop.hub.spawn_on(producer, k * 50)
        wait_for(lambda: len(ended) == 20)
        on_fiber(loop, channel.close)
        wait_for(lambda: len(ended) == 25)
    assert sorted(got) == list(range(1000))


def test_a_counter_waits_for_work_on_other_threads():
    with Loops(3) as (owner, *others):
        def body(work):
            counter = ft.Counter()
            counter.start(work)
            for i in range(work):
                others[i % 2].hub.spawn_on(counter.done)
            counter.wait()
            return work

        for work in (0, 1, 2, 500):
            assert on_fiber(owner, body, work) == work


def test_counters_on_every_thread_at_once():
    rounds, results = 30, []
    with Loops(3) as loops:
        def body(index):
            for _ in range(rounds):
                counter = ft.Counter()
                counter.start(len(loops))
                for loop in loops:
                    loop.hub.spawn_on(counter.done)
                counter.wait()
            results.append(index)

        for index, loop in enumerate(loops):
            for _ in range(10):
                loop.hub.spawn_on(body, index)
        wait_for(lambda: len(results) == 30)
    assert sorted(results) == sorted([0, 1, 2] * 10)
