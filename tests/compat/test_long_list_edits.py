"""LINSERT and LREM of long lists go in slices, and are atomic all the same: here in slices of one, of blocks of two."""

import pytest
from hypothesis import given

from . import test_lists
from .arguments import examples, modes, protocols, sequences
from .servers import SUBJECT, Server, wait_until
from .test_slices import Other, used
from .wire import encode

COUNT = 600


@pytest.fixture(scope="module", params=[(1, 2), (1, 128), (2, 2)], ids=["small-blocks", "blocks", "two-threads"])
def sliced(request):
    threads, limit = request.param
    with Server(SUBJECT, proactor_threads=threads, slice_elements=1, list_max_listpack_size=limit) as server:
        yield server


def filling(count=COUNT, key="a"):
    """Every third element is equal to others, some are rare, one fills a block."""
    return ("RPUSH", key, *("t" if number % 3 == 0 else "big" * 3_000 if number == 300 else number % 100
                            for number in range(count)))


LREMS = [("LREM", "a", count, element) for count in (0, 1, -1, 2, -3, 150, -150, 199, -200, 201, -(2**63), 2**63 - 1)
         for element in ("t", 7, "none", "big" * 3_000)]
LINSERTS = [("LINSERT", "a", side, pivot, "new") for side in ("BEFORE", "after")
            for pivot in (1, 99, "t", "none", "big" * 3_000, "last", "first")]


@examples(80)
@given(sequence=sequences(*test_lists.CHANGE, *test_lists.PUSH_MANY), protocol=protocols, mode=modes)
def test_sequences(sliced_duel, sequence, protocol, mode):
    sliced_duel.run(sequence, protocol, mode)


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_as_redis_replies(sliced_duel, protocol, mode):
    """With others before and behind in the pipeline, of the wrong type, of keys that are not there, and in an EXEC."""
    script = [("SET", "s", 1)]
    for edit in (*LREMS, *LINSERTS):
        script += [filling(), ("RPUSH", "a", "last"), ("LPUSH", "a", "first"), ("INCR", "n"), edit, ("INCR", "n"),
                   (edit[0], "none", *edit[2:]), (edit[0], "s", *edit[2:]), ("LRANGE", "a", 0, -1), edit, ("DEL", "a")]
    script += [("RPUSH", "a", *["t"] * COUNT), ("LREM", "a", 0, "t"), ("EXISTS", "a"),
               ("RPUSH", "a", *["t"] * COUNT), ("LREM", "a", -COUNT + 1, "t"), ("LRANGE", "a", 0, -1),
               ("RPUSH", "a", *["t"] * COUNT), ("EXPIRE", "a", 1000), ("LREM", "a", COUNT, "t"), ("LRANGE", "a", 0, -1),
               ("EXPIRE", "a", 100, "XX")]
    if mode != "spread":
        script += [("MULTI",), filling(), *LREMS, *LINSERTS, ("LRANGE", "a", 0, -1), ("EXEC",)]
    sliced_duel.run(script, protocol, mode)


@pytest.mark.parametrize("count", [0, 400, -400])
@pytest.mark.parametrize("many", [1, 150])
def test_a_removal_is_of_one_moment(sliced, many, count):
    """As many come to the front as to the back."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), ("RPUSH", "a", *range(COUNT))])
        pushes = [("MULTI",), ("LPUSH", "a", *["x"] * many), ("RPUSH", "a", *["x"] * many), ("EXEC",)]
        with Other(sliced, pushes, [("LPUSHX", "none", 1)], [("LPOS", "a", "none")] * 3):
            removed = [connection.command("LREM", "a", count, "x").value for _ in range(30)]
        assert count or all(number % (2 * many) == 0 for number in removed)
        assert (sum(removed) + connection.command("LREM", "a", 0, "x").value) % (2 * many) == 0
        assert connection.command("LRANGE", "a", 0, -1).value == [b"%d" % number for number in range(COUNT)]


def test_an_insertion_is_of_one_moment(sliced):
    """A pivot that moves from one end to the other is always found, and what is inserted is beside it."""
    moves = [[("LMOVE", "a", "a", "LEFT", "RIGHT")], [("LMOVE", "a", "a", "RIGHT", "LEFT")]]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), ("RPUSH", "a", "pivot", *range(COUNT))])
        with Other(sliced, *moves):
            lengths = [connection.command("LINSERT", "a", "AFTER", "pivot", "new").value for _ in range(30)]
        assert lengths == list(range(COUNT + 2, COUNT + 32))
        elements = connection.command("LRANGE", "a", 0, -1).value
        assert sorted(elements) == sorted([b"pivot", *[b"new"] * 30, *(b"%d" % number for number in range(COUNT))])


def test_the_list_goes_meanwhile(sliced):
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        with Other(sliced, [filling()], [("DEL", "a")], [("SET", "a", 1)], [("DEL", "a")]):
            for _ in range(60):
                removal = connection.command("LREM", "a", 0, "t")
                assert removal.raw.startswith(b"-WRONGTYPE") or removal.value in (0, COUNT // 3)
                insertion = connection.command("LINSERT", "a", "AFTER", "t", "new")
                assert insertion.raw.startswith(b"-WRONGTYPE") or insertion.value in (
                    -1, 0, COUNT + 1, COUNT - COUNT // 3 + 1)


def test_who_edits_goes(sliced):
    edits = [("LREM", "a", 0, "t"), ("LREM", "a", 0, "none"), ("LINSERT", "a", "BEFORE", "none", 1)]
    with sliced.connect() as other:
        other.command("FLUSHALL")
        for _ in range(20):
            other.pipeline([("DEL", "a"), filling()])
            with sliced.connect() as connection:
                connection.send(b"".join(encode(*edit) for edit in edits))
        other.command("LREM", "a", 0, "t")
        assert other.command("LLEN", "a").value == COUNT - COUNT // 3
        other.command("DEL", "a")
        # What a list was before is freed by the timer.
        wait_until(lambda: used(other) < 50_000)
