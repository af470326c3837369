"""What a snapshot keeps of a stream's groups is, written in pieces, what would have been written at once."""

from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.persist_testing import stream_rest

numbers = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1), st.just(2**64 - 1), st.just(1_700_000_000_000))
times = st.one_of(st.integers(1_700_000_000_000, 1_700_000_000_100), st.integers(-(2**63), 2**63 - 1))
entries = st.tuples(st.tuples(numbers, numbers), times, numbers, st.sampled_from([b"", b"ann", b"bob"]))
lists = st.lists(entries, max_size=40, unique_by=lambda entry: entry[0])
groups = st.dictionaries(st.sampled_from([b"", b"g", b"h"]), lists)


@given(groups=groups, budget=st.sampled_from([1, 50, 5_000]))
def test_written_in_pieces(groups, budget):
    at_once, later = stream_rest(groups, budget)
    assert later == at_once


def test_more_than_a_leaf_of_an_index():
    """Rising IDs, as they come, and times that fall; groups with nothing pending between others."""
    many = [((number // 3, number), 10**12 - number, number % 300, b"c%d" % (number % 7)) for number in range(5_000)]
    for budget in (1, 1_000, 10**9):
        at_once, later = stream_rest({b"a": many, b"b": [], b"c": many[::2]}, budget)
        assert later == at_once
        assert len(at_once) > 7_500 * 41
