"""HyperLogLog against Redis: the same bytes after the same commands, sparse and dense, and across the promotion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import command, examples, keys, modes, protocols, sequences, values
from .differential import Duel
from .party import play
from .scripts import run_scripts
from .servers import SUBJECT, Server
from .test_notifications import steps_with

words = st.one_of(st.integers(0, 200).map(lambda number: b"w%d" % number), values)
many = st.builds(lambda start, count: tuple(b"e%d" % number for number in range(start, start + count)),
                 st.integers(0, 5000), st.integers(1, 300))
word_lists = st.one_of(st.lists(words, max_size=6).map(tuple), many)
key_lists = st.lists(keys, min_size=1, max_size=3).map(tuple)
COMMANDS = [
    *[command("PFADD", keys, word_lists)] * 3,
    command("PFCOUNT", keys), command("PFCOUNT", key_lists),
    command("PFMERGE", keys, key_lists), command("PFMERGE", keys),
    command("PFDEBUG", st.sampled_from([b"ENCODING", b"DECODE", b"TODENSE"]), keys),
    command("GET", keys), command("DEL", keys),
]


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_small_sketches(request):
    """Promotion to the dense form comes early."""
    flags = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    settings = {"hll_sparse_max_bytes": 300}
    with Server(SUBJECT, **settings, **flags) as subject, Server("redis", **settings) as oracle:
        yield Duel(subject, oracle)


@examples(100)
@given(sequence=sequences(*COMMANDS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(100)
@given(sequence=sequences(*COMMANDS), protocol=protocols, mode=modes)
def test_promotion(duel_of_small_sketches, sequence, protocol, mode):
    duel_of_small_sketches.run(sequence, protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "hyperloglog", protocol)


def test_many_elements(duel):
    """From nothing to dense, counted on the way."""
    lines = []
    for start in range(0, 20_000, 500):
        lines += [("PFADD", "h", *(f"element {number}" for number in range(start, start + 500))), ("PFCOUNT", "h")]
    duel.run([*lines, ("GET", "h")], 2, "pipeline")


def test_events(subject, redis_server):
    steps = steps_with("KEAn", [("PFADD", "h", "a"), ("PFADD", "h", "a"), ("PFCOUNT", "h"), ("PFMERGE", "d", "h"),
                                ("PFCOUNT", "h", "d"), ("PFDEBUG", "TODENSE", "h"), ("PFADD", "h", "b")])
    assert play(subject, steps, w=2, l=3) == play(redis_server, steps, w=2, l=3)
