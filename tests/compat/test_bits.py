"""Bit commands against Redis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import (
    bad_integers,
    command,
    examples,
    integers,
    keys,
    modes,
    often,
    options,
    protocols,
    sequences,
    spelled,
    values,
)
from .scripts import run_scripts

# Offsets from 2**32 on are errors; those just below would fill the memory of the machine.
TOO_FAR = [2**32, 2**63 - 1, -1]
bit_offsets = often(st.integers(0, 200), st.one_of(st.sampled_from(TOO_FAR), bad_integers))
bit_values = often(st.integers(0, 1), st.one_of(st.integers(-1, 2), bad_integers))
positions = often(st.integers(-70, 70), st.one_of(bad_integers, st.just(2**63 - 1)))
units = st.one_of(spelled("BYTE"), spelled("BIT"))
ranges = st.one_of(
    st.just(()), st.tuples(positions), st.tuples(positions, positions), st.tuples(positions, positions, units)
)
key_lists = st.lists(keys, min_size=1, max_size=4).map(tuple)

widths = often(
    st.tuples(st.sampled_from("ui"), st.integers(1, 64)).map(lambda drawn: f"{drawn[0]}{drawn[1]}"),
    st.sampled_from(["u0", "i0", "u64", "i65", "x8", "u", "", "8", "u08", "u-1", "U8", "I8"]),
)
field_offsets = often(
    st.one_of(st.integers(0, 130), st.integers(0, 12).map(lambda number: f"#{number}")),
    st.sampled_from(["-1", "#-1", "#", "", "abc", "#abc", "4294967296", "#4294967296", "##1"]),
)
SUBCOMMANDS = [
    ("GET", widths, field_offsets),
    ("SET", widths, field_offsets, integers),
    ("INCRBY", widths, field_offsets, integers),
    ("OVERFLOW", st.sampled_from(["WRAP", "SAT", "FAIL", "wrap", "sat", "fail", "BAD"])),
]

COMMANDS = [
    command("SETBIT", keys, bit_offsets, bit_values),
    command("SETBIT", keys, bit_offsets, bit_values),
    command("GETBIT", keys, bit_offsets),
    command("BITCOUNT", keys, ranges),
    command("BITPOS", keys, bit_values, ranges),
    command("BITOP", st.one_of(*map(spelled, ["AND", "OR", "XOR", "NOT"])), keys, key_lists),
    command("BITFIELD", keys, options(*SUBCOMMANDS, max_size=5)),
    command("BITFIELD_RO", keys, options(*SUBCOMMANDS[:1], max_size=4)),
    command("BITFIELD_RO", keys, options(*SUBCOMMANDS, max_size=3)),
    command("SET", keys, values),
    command("GET", keys),
]


@examples(150)
@given(sequence=sequences(*COMMANDS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(100)
@given(
    value=st.binary(max_size=24),
    ranges=st.lists(
        st.tuples(st.sampled_from([("BITCOUNT", "a"), ("BITPOS", "a", 0), ("BITPOS", "a", 1)]), ranges)
    ),
    protocol=protocols,
)
def test_ranges(duel, value, ranges, protocol):
    duel.run([("SET", "a", value), *((*start, *rest) for start, rest in ranges)], protocol, "pipeline")


@examples(100)
@given(
    value=st.binary(max_size=20),
    commands=st.lists(options(*SUBCOMMANDS, max_size=6), min_size=1, max_size=6),
    protocol=protocols,
)
def test_fields(duel, value, commands, protocol):
    duel.run([("SET", "a", value), *(("BITFIELD", "a", *rest) for rest in commands)], protocol, "pipeline")


@examples(40)
@given(
    operation=st.sampled_from(["AND", "OR", "XOR", "NOT"]),
    sources=st.lists(st.binary(max_size=80), min_size=1, max_size=4),
    protocol=protocols,
)
def test_operations(duel, operation, sources, protocol):
    names = [f"source:{index}" for index in range(len(sources))]
    stores = [("SET", name, source) for name, source in zip(names, sources, strict=True)]
    duel.run(
        [*stores, ("BITOP", operation, "target", *names), ("BITOP", operation, names[0], *names)], protocol
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "bits", protocol)
