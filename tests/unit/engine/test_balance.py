"""How many threads connections lie on, as the load has it (engine/balance)."""

from itertools import groupby

from dfly._core.testing.balance_testing import play


def runs(found):
    """[(threads, for how many periods)]"""
    return [(threads, len(list(group))) for threads, group in groupby(found)]


def full(threads, commands):
    """Every thread in use has no time left; commands[number of threads in use] are executed in a period."""
    def load(used, period):
        return [1000 if i < used else 0 for i in range(threads)], commands[used]
    return load


def test_a_small_load_stays_on_one_thread():
    assert runs(play(4, lambda used, period: ([890, 0, 0, 0], 1000), 100)) == [(1, 100)]


def test_threads_that_help_stay():
    assert runs(play(4, full(4, {1: 1000, 2: 1900, 4: 3600}), 100)) == [(1, 1), (2, 7), (4, 92)]


def test_threads_that_help_nothing_and_harm_nothing_stay():
    """Clients that send at a fixed rate: their commands wait less."""
    assert runs(play(2, full(2, {1: 1000, 2: 1000}), 100)) == [(1, 1), (2, 99)]


def test_threads_that_harm_are_given_up_and_tried_ever_more_rarely():
    found = runs(play(2, full(2, {1: 1000, 2: 500}), 2000))
    assert all(periods == 5 for threads, periods in found if threads == 2)
    apart = [periods for threads, periods in found if threads == 1][1:-1]
    assert all(40 * 2**i <= periods <= 40 * 2**i + 1 for i, periods in enumerate(apart[:4])), apart
    assert all(600 <= periods <= 601 for periods in apart[4:])


def test_the_end_of_a_load_in_a_trial_is_no_verdict():
    def load(used, period):
        begins = period % 10
        return ([1000, 0], 1000) if begins < 3 else ([0, 0], 0)
    found = runs(play(2, load, 100))
    assert found[:4] == [(1, 1), (2, 5), (1, 5), (2, 5)]


def test_a_load_that_has_become_small_is_brought_together():
    def load(used, period):
        return ([1000, 1000, 1000, 1000], 1000 * used) if period < 50 else ([100, 100, 100, 100], 400)
    assert runs(play(4, load, 200))[-3:] == [(3, 30), (2, 30), (1, 61)]
