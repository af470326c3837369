"""SORT against Redis: all sources, BY and GET over keys and hashes of any shard, STORE."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import bad_integers, command, examples, keys, modes, often, protocols, sequences
from .party import play
from .scripts import run_scripts
from .test_notifications import steps_with

elements = st.one_of(st.integers(-3, 12).map(lambda n: b"%d" % n), st.sampled_from([b"1.5", b"1e2", b"07", b"-0"]))
words = st.one_of(elements, st.sampled_from([b"a", b"b", b"", b"nan", b" 1", b"x y"]))
element_lists = st.one_of(st.lists(elements, min_size=1, max_size=8),
                          st.lists(words, min_size=1, max_size=6)).map(tuple)
patterns = st.sampled_from([b"w_*", b"w_*", b"h_*->f", b"h_*->g", b"*", b"nosort", b"#", b"w_*->f", b"h_*->", b"*_w*"])
limits = st.tuples(st.just(b"LIMIT"), often(st.integers(-2, 5), bad_integers), often(st.integers(-2, 5), bad_integers))
choices = st.one_of(
    st.sampled_from([b"ASC", b"DESC", b"desc", b"ALPHA", b"ALPHA"]).map(lambda word: (word,)),
    patterns.map(lambda text: (b"BY", text)), patterns.map(lambda text: (b"BY", text)),
    patterns.map(lambda text: (b"GET", text)), limits, keys.map(lambda key: (b"STORE", key)),
)
options = st.lists(choices, max_size=4).map(lambda drawn: tuple(word for option in drawn for word in option))
WEIGHTS = [
    ("MSET", *(word for n in range(0, 12, 2) for word in (f"w_{n}", (n * 7) % 5)), "w_a", "x", "w_b", "7"),
    *(("HSET", f"h_{n}", "f", (n * 3) % 7, "g", f"text {n}") for n in range(0, 12, 3)),
]
COMMANDS = [
    *[command("SORT", keys, options)] * 4,
    command("SORT_RO", keys, options),
    command("RPUSH", keys, element_lists),
    command("ZADD", keys, st.lists(st.tuples(st.integers(0, 9), words), min_size=1, max_size=5).map(
        lambda drawn: tuple(word for pair in drawn for word in pair))),
    command("DEL", keys),
]


def without_dice(sequence):
    """Of members without a weight, ALPHA leaves the order open: in a sorted set that is the one of Redis' hash seed."""
    if not any(line[0].upper() == b"ZADD" for line in sequence):
        return sequence
    upper = [{word.upper() for word in line if isinstance(word, bytes)} for line in sequence]
    return [line for line, words in zip(sequence, upper, strict=True) if not {b"ALPHA", b"BY"} <= words]


@examples(200)
@given(sequence=sequences(*COMMANDS).map(without_dice), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    # Without the walk over all keys: to Redis, SORT makes a compact sorted set a large one.
    lists = [("LRANGE", key, 0, -1) for key in "abcd"]
    duel.run([*WEIGHTS, ("RPUSH", "a", 3, 1, 2, 10, 7), *sequence, *lists], protocol, mode, walk=False)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "sort", protocol, walk=False)


def test_events(subject, redis_server):
    steps = steps_with("KEA", [("RPUSH", "l", 2, 1), ("SORT", "l", "STORE", "d"), ("SORT", "none", "STORE", "d"),
                               ("SORT", "l", "BY", "w_*", "STORE", "l"), ("SORT", "none", "STORE", "d")])
    assert play(subject, steps, w=2, l=3) == play(redis_server, steps, w=2, l=3)
