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


def contended(commands, waits):
    """Full threads; commands and waits for tokens in a period by the number of threads in use."""
    def load(used, period):
        return [1000 if i < used else 0 for i in range(4)], commands[used], waits[used]
    return load


MEETING = contended({1: 30000, 2: 20000, 4: 10000}, {1: 0, 2: 2000, 4: 2000})


def test_threads_that_wait_for_one_another_are_brought_together_where_fewer_do_more():
    apart = contended({1: 1000, 2: 1900, 4: 3600}, {1: 0, 2: 0, 4: 0})
    found = runs(play(4, lambda used, period: (apart if period < 100 else MEETING)(used, period), 250))
    assert found[:3] == [(1, 1), (2, 7), (4, 93)]
    # Trials of 2 and of 1; 8 s later one of 2, which fails.
    assert [threads for threads, _ in found[3:]] == [2, 1, 2, 1]
    assert 80 <= found[4][1] <= 86 and found[5][1] == 5


def test_threads_that_wait_and_still_do_more_stay():
    found = runs(play(4, contended({1: 10000, 2: 11000, 4: 12000}, {1: 0, 2: 2000, 4: 4000}), 500))
    assert found[:2] == [(1, 1), (2, 7)]
    tries = [periods for threads, periods in found[2:] if threads == 2]
    assert tries == [5] * 4                       # after 4 s, and then 4, 8 and 16 behind each other


def test_a_slow_command_spreads_unless_fewer_threads_have_just_done_more():
    never = 1 << 40
    assert runs(play(4, lambda used, period: ([100] * 4, 1000), 50, never)) == [(4, 50)]
    found = runs(play(4, MEETING, 120, never))
    assert [threads for threads, _ in found[:5]] == [4, 2, 1, 4, 2]
    assert 80 <= found[2][1] <= 86
