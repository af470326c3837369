"""How far groups are (entries-read, lag): where nothing is gone as Redis 7.0 says, byte for byte, and else against
Valkey 9.1, since 7.0 counts on as if entries that are gone were there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import examples, protocols
from .differential import Duel, resolve
from .servers import SUBJECT, Server

ENTRIES = 9


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_groups(request):
    threads = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    with (
        Server(SUBJECT, stream_node_max_entries=3, **threads) as subject,
        Server("valkey", stream_node_max_entries=3) as oracle,
    ):
        yield Duel(subject, oracle)


def line(text, *parts):
    """A command: its first words, then what each strategy draws, a word or several."""
    return st.tuples(*parts).map(
        lambda drawn: (
            *text.split(),
            *(word for part in drawn for word in (part if isinstance(part, tuple) else (part,))),
        )
    )


ids = st.integers(0, ENTRIES + 3).map(lambda number: f"{number}-1")
early_ids = st.integers(0, ENTRIES).map(lambda number: f"{number}-1")
late_ids = st.integers(ENTRIES, ENTRIES + 3).map(lambda number: f"{number}-99")
counts = st.integers(0, ENTRIES + 2)
groups = st.sampled_from("gh")
none = st.just(())
entries_read = none | st.integers(-1, ENTRIES + 2).map(lambda count: ("ENTRIESREAD", count))
trims = st.tuples(st.just("MAXLEN"), st.integers(0, 6)) | st.tuples(st.just("MINID"), ids)
counted = st.tuples(st.just("ENTRIESADDED"), counts, st.just("MAXDELETEDID"), early_ids)
reads = line("XREADGROUP GROUP", groups, st.just(("x", "COUNT")), st.integers(1, 4), st.just(("STREAMS", "a", ">")))
STEPS = st.one_of(
    *(reads, reads, reads),
    line("XADD a", none | none | trims, st.just((f"{ENTRIES}-*", "f", "v"))),
    *(line("XDEL a", ids), line("XTRIM a", trims)),
    # Not before what was deleted: Redis 7.0 takes that, Valkey does not.
    line("XSETID a", late_ids, none | counted),
    line("XGROUP SETID a", groups, ids | st.just("$"), entries_read),
    line("XCLAIM a", groups, st.just(("y", "0")), ids, st.just("LASTID"), ids),
)
BEGINNING = [
    *(("XADD", "a", f"{number}-1", "f", "v") for number in range(1, ENTRIES + 1)),
    ("XGROUP", "CREATE", "a", "g", "0"),
    ("XGROUP", "CREATE", "a", "h", "3-1", "ENTRIESREAD", "3"),
    *(("XGROUP", "CREATECONSUMER", "a", group, consumer) for group in "gh" for consumer in "xy"),
]


def fields_of(value):
    """A map, whichever protocol told it."""
    return value if isinstance(value, dict) else dict(zip(value[::2], value[1::2], strict=True))


def progress(groups):
    """Of groups that XINFO tells: {name: (last delivered, entries read, lag)}."""
    told = map(fields_of, groups)
    return {group[b"name"]: (group[b"last-delivered-id"], group[b"entries-read"], group[b"lag"]) for group in told}


def number_of(id):
    return tuple(map(int, id.split(b"-")))


def with_true_lag(groups, stream):
    """As Redis 7.4: a group that is behind the first entry has all entries before it, however many were trimmed."""
    fields = fields_of(stream)
    length = fields[b"length"]
    if not length:
        return {name: (last, read, 0) for name, (last, read, _) in groups.items()}
    first = number_of(fields[b"first-entry"][0])
    if number_of(fields[b"max-deleted-entry-id"]) >= first:
        return groups
    return {
        name: (last, read, length if number_of(last) < first else lag) for name, (last, read, lag) in groups.items()
    }


GAINS = st.lists(
    st.one_of(
        *(reads, reads),
        line("XADD a", st.just((f"{ENTRIES}-*", "f", "v"))),
        line("XGROUP SETID a", groups, ids | st.just("$")),
        line("XCLAIM a", groups, st.just(("y", "0")), ids, st.just("LASTID"), ids),
    ),
    min_size=1,
    max_size=20,
)


@examples(60)
@given(steps=GAINS, protocol=protocols)
def test_lag_while_nothing_goes(duel, steps, protocol):
    asked = [("XINFO", "GROUPS", "a"), ("XINFO", "STREAM", "a", "FULL", "COUNT", "0")]
    lines = [*BEGINNING[:-4], *(line for step in steps for line in (step, asked[0])), asked[1]]
    expected, actual = (
        duel.collect(server, resolve(lines), protocol, "pipeline", walk=False, flush=True)[0]
        for server in duel.servers()
    )
    assert [reply.raw for reply in expected[:-1]] == [reply.raw for reply in actual[:-1]]
    told, full = (fields_of(replies[-1].value) for replies in (expected, actual))
    assert [[*fields_of(group)] for group in told[b"groups"]] == [[*fields_of(group)] for group in full[b"groups"]]
    assert progress(told[b"groups"]) == progress(full[b"groups"]) == progress(actual[-2].value)


@examples(200)
@given(steps=st.lists(STEPS, min_size=1, max_size=20), protocol=protocols)
def test_lag(duel_of_groups, steps, protocol):
    asked = [("XINFO", "GROUPS", "a"), ("XINFO", "STREAM", "a")]
    lines = [*BEGINNING, *(line for step in steps for line in (step, *asked))]
    (expected, _), (actual, _) = (
        duel_of_groups.collect(server, resolve(lines), protocol, "pipeline", walk=False, flush=True)
        for server in duel_of_groups.servers()
    )
    for place in range(len(BEGINNING), len(lines), 3):
        step, told, stream = expected[place : place + 3]
        assert step.raw[:4] == actual[place].raw[:4]  # some errors have other words since Redis 7.2
        right = with_true_lag(progress(told.value), stream.value)
        assert right == progress(actual[place + 1].value), lines[: place + 1]
