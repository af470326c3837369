"""HyperLogLog against Redis: the same bytes after the same commands, sparse and dense, and across the promotion."""

import pytest
from hypothesis import example, given
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


REGISTERS = 16384
sparse_runs = st.lists(
    st.one_of(
        *[st.tuples(st.integers(1, 3), st.integers(1, 4))] * 3,
        st.tuples(st.integers(1, 32), st.integers(1, 4)),
        st.tuples(st.just(0), st.integers(1, 3)),
        st.tuples(st.just(0), st.integers(1, 2000)),
    ),
    max_size=80,
)


def sparse_sketch(runs, after):
    """Of (value, registers), behind so many that are zero: neighbours that could be one run stay two."""
    data, left = bytearray(b"HYLL\x01" + bytes(3) + b"\x80" * 8), REGISTERS
    for value, length in [(0, after), *runs, (0, REGISTERS)]:
        length = min(length, left)
        left -= length
        if not length:
            continue
        if value:
            data.append(0x80 | (value - 1) << 2 | length - 1)
        elif length <= 64:
            data.append(length - 1)
        else:
            data += bytes([0x40 | (length - 1) >> 8, (length - 1) & 255])
    return bytes(data)


# Where raising one register joins runs, and the next one is in what was joined.
tight_runs = st.lists(st.sampled_from([(0, 1), (0, 2), (1, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]), max_size=16)


@examples(100)
@example(pairs=[([(1, 1), (1, 1), (0, 1), (1, 1)], [(0, 2), (1, 1), (2, 1)])], first=0)
@example(pairs=[([(2, 2), (1, 1), (1, 1), (0, 1), (1, 1)], [(0, 4), (1, 1), (2, 1)])], first=9)
@given(pairs=st.lists(st.tuples(tight_runs, tight_runs), min_size=1, max_size=30), first=st.integers(0, 200))
def test_merges_that_join_runs(duel, pairs, first):
    lines = []
    for name, pair in enumerate(pairs):
        lines += [("SET", f"{part}{name}", sparse_sketch(runs, first)) for part, runs in zip("ds", pair, strict=True)]
        lines.append(("PFMERGE", f"d{name}", f"s{name}"))
    duel.run(lines, 2, "pipeline")


@examples(150)
@given(
    sketches=st.lists(st.builds(sparse_sketch, sparse_runs, st.sampled_from([0, 0, 1, 5, 16000, 16300])), min_size=2,
                      max_size=4),
    dense=st.sampled_from([(), (), (), (0,), (1,)]),
)
def test_merges_of_any_runs(duel, duel_of_small_sketches, sketches, dense):
    names = "dabc"[: len(sketches)]
    lines = [("SET", name, sketch) for name, sketch in zip(names, sketches, strict=True)]
    lines += [("PFDEBUG", "TODENSE", names[place]) for place in dense]
    lines += [("PFMERGE", "new", *names[1:]), ("PFMERGE", *names), ("PFCOUNT", "d"), ("PFCOUNT", *names)]
    lines += [("PFADD", "d", *range(40)), ("PFADD", "d", *range(40)), ("PFCOUNT", "d")]
    for each in (duel, duel_of_small_sketches):
        each.run(lines, 2, "pipeline")
