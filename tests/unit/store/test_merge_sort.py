"""The merge sort in steps against Python's sorted, which is stable too."""

from hypothesis import example, given
from hypothesis import strategies as st

from dfly._core.testing.sort_testing import sort_in_steps


@given(numbers=st.lists(st.integers(-20, 20), max_size=400), budget=st.integers(1, 500))
@example(numbers=[], budget=1)
@example(numbers=[3] * 33, budget=7)
def test_as_sorted(numbers, budget):
    found, steps = sort_in_steps(numbers, budget)
    assert found == sorted(((number, place) for place, number in enumerate(numbers)), key=lambda pair: pair[0])
    assert steps <= 1 + 6 * (len(numbers) + 16) // budget + len(numbers)


def test_of_many():
    numbers = [(number * 7_919) % 100_003 for number in range(100_003)]
    found, steps = sort_in_steps(numbers, 1_000)
    assert [number for number, _ in found] == sorted(numbers)
    assert steps > 1_000
