"""Stream commands against Redis: entries, groups, what is pending, what is told of them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import test_generic
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
from .differential import Duel
from .party import play
from .scripts import run_scripts
from .servers import SUBJECT, Server

small_ids = st.integers(0, 12).map(lambda number: b"%d-%d" % (number // 3, number % 3))
LARGE = 2**64 - 1
odd_ids = st.sampled_from(
    [
        *(b"0", b"1", b"2", b"3", b"1-*", b"3-*", b"*-1", b"5-", b"-5", b"1-1-1", b"a-1", b"1-a", b"", b"--", b"1-01"),
        *(b"%d-%d" % (LARGE, LARGE), b"%d" % LARGE, b"%d-%d" % (LARGE, LARGE - 1), b"%d" % (LARGE + 1), b"+1-1"),
        *(b"(1-0", b"(-", b"(0-0", b"- ", b"9" * 200, b"1-18446744073709551616", b"1-1\x00", b"-1-1", b"01-1"),
    ]
)
ids = often(small_ids, odd_ids)
some_ids = st.lists(ids, min_size=1, max_size=4).map(tuple)
starts = st.one_of(st.just(b"-"), ids, small_ids.map(lambda text: b"(" + text), odd_ids)
ends = st.one_of(st.just(b"+"), ids, small_ids.map(lambda text: b"(" + text), odd_ids)
counts = often(st.integers(0, 5), integers)
fields = st.sampled_from([b"f", b"g", b"1", b"field", b""])
same_fields = st.lists(values, min_size=2, max_size=2).map(lambda drawn: (b"f", drawn[0], b"g", drawn[1]))
pairs = st.one_of(
    same_fields,
    values.map(lambda value: (b"f", value)),
    st.lists(st.tuples(fields, values), min_size=1, max_size=3).map(
        lambda drawn: tuple(word for pair in drawn for word in pair)
    ),
)
groups = often(st.sampled_from([b"g", b"h"]), st.sampled_from([b"", b"no\r\nsuch\x00group", b"G"]))
consumers = st.sampled_from([b"x", b"y", b"z"])
# So many milliseconds may pass between two commands on one server and not on the other.
BRIEF = {b"1", b"2", b"3", b"7", b"10", b"100"}
idles = often(st.sampled_from([0, 0, 10**9]), integers.filter(lambda text: text not in BRIEF))
approximations = st.sampled_from([(), (b"=",), (b"~",), (b"~",)])
trims = st.builds(
    lambda word, sign, value, limit: (word, *sign, value, *limit),
    st.one_of(spelled("MAXLEN"), spelled("MINID")),
    approximations,
    st.one_of(st.integers(0, 6), small_ids, bad_integers),
    st.one_of(st.just(()), counts.map(lambda count: (b"LIMIT", count))),
)
no_trim = st.one_of(st.just(()), st.just(()), st.just(()), trims)

ADD = [
    command("XADD", keys, no_trim, st.one_of(ids, st.integers(1, 9).map(lambda n: b"%d-*" % n)), pairs),
    command("XADD", keys, st.one_of(spelled("NOMKSTREAM").map(lambda w: (w,)), trims), ids, pairs),
]
GROW = command("XADD", st.sampled_from([b"a", b"b"]), st.integers(1, 4).map(lambda n: b"%d-*" % n), pairs)
READ = [
    command("XLEN", keys),
    command("XRANGE", keys, starts, ends, options(("COUNT", counts), max_size=2)),
    command("XREVRANGE", keys, ends, starts, options(("COUNT", counts), max_size=2)),
    command("XINFO", spelled("STREAM"), keys, options("FULL", ("COUNT", counts), max_size=2)),
]
CHANGE = [
    command("XDEL", keys, some_ids),
    command("XTRIM", keys, trims),
    command("XSETID", keys, ids, options(("ENTRIESADDED", counts), ("MAXDELETEDID", ids), max_size=2)),
]
stream_lists = st.lists(st.tuples(keys, ids), min_size=1, max_size=3).map(
    lambda drawn: (b"STREAMS", *(key for key, _ in drawn), *(id for _, id in drawn))
)
last_or = st.one_of(ids, st.just(b"$"))
new_or = st.one_of(st.just(b">"), st.just(b">"), ids, st.just(b"0"), st.just(b"$"))
READ_ON = [
    command("XREAD", options(("COUNT", counts), "NOACK", max_size=1), stream_lists),
    command("XREAD", options(("COUNT", counts), max_size=1), spelled("STREAMS"), keys, last_or),
]
GROUP_READ = [
    command(
        "XREADGROUP",
        *(spelled("GROUP"), groups, consumers),
        options(("COUNT", counts), "NOACK", max_size=2),
        *(spelled("STREAMS"), keys, new_or),
    ),
    command(
        "XREADGROUP",
        *(st.just(b"GROUP"), st.just(b"g"), consumers),
        options(("COUNT", st.integers(0, 3)), "NOACK", max_size=1),
        *(st.just(b"STREAMS"), st.just(b"a"), st.just(b">")),
    ),
    command("XREADGROUP", st.just(b"GROUP"), st.just(b"g"), consumers, spelled("STREAMS"), keys, keys, new_or, new_or),
]
group_options = options("MKSTREAM", ("ENTRIESREAD", counts), max_size=3)
GROUPS = [
    command("XGROUP", spelled("CREATE"), keys, groups, last_or, group_options),
    command("XGROUP", spelled("SETID"), keys, groups, last_or, options(("ENTRIESREAD", counts), max_size=2)),
    command("XGROUP", spelled("DESTROY"), keys, groups),
    command("XGROUP", spelled("CREATECONSUMER"), keys, groups, consumers),
    command("XGROUP", spelled("DELCONSUMER"), keys, groups, consumers),
]
claim_options = options(
    ("IDLE", idles), ("TIME", idles), ("RETRYCOUNT", counts), "FORCE", "JUSTID", ("LASTID", ids), max_size=3
)
PENDING = [
    command("XACK", keys, groups, some_ids),
    command("XPENDING", keys, groups),
    command("XPENDING", keys, groups, options(("IDLE", idles), max_size=1), starts, ends, counts),
    command("XPENDING", keys, groups, options(("IDLE", idles), max_size=1), starts, ends, counts, consumers),
    command("XCLAIM", keys, groups, consumers, idles, some_ids, claim_options),
    command("XAUTOCLAIM", keys, groups, consumers, idles, starts, options(("COUNT", counts), "JUSTID", max_size=2)),
]
GROUP_INFO = [
    command("XINFO", spelled("GROUPS"), keys),
    command("XINFO", spelled("CONSUMERS"), keys, groups),
    command("XINFO", st.just(b"STREAM"), keys, st.just(b"FULL"), options(("COUNT", counts), max_size=1)),
]
OTHERS = [
    command("SET", keys, values),
    command("DEL", keys),
    command("TYPE", keys),
    command("OBJECT", spelled("ENCODING"), keys),
    command("DEBUG", st.just(b"DIGEST-VALUE"), keys),
    command("COPY", keys, keys, options("REPLACE", max_size=1)),
]


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_small_blocks(request):
    """Blocks of at most three entries: every operation meets their boundaries."""
    threads = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    with (
        Server(SUBJECT, stream_node_max_entries=3, **threads) as subject,
        Server("redis", stream_node_max_entries=3) as oracle,
    ):
        yield Duel(subject, oracle)


FILLED = [
    *(("XADD", "a", f"{number // 4 + 1}-{number % 4}", "f", number, "g", "x" * number) for number in range(14)),
    ("XGROUP", "CREATE", "a", "g", "0"),
    ("XGROUP", "CREATE", "a", "h", "1-2", "ENTRIESREAD", "3"),
    ("XREADGROUP", "GROUP", "g", "x", "COUNT", "5", "STREAMS", "a", ">"),
    ("XREADGROUP", "GROUP", "g", "y", "COUNT", "2", "STREAMS", "a", ">"),
    ("XADD", "b", "1-1", "k", "v"),
    ("XGROUP", "CREATE", "b", "g", "$"),
]


def told_of(names):
    """Everything that XINFO says."""
    lines = []
    for name in names:
        lines += [("XINFO", "STREAM", name), ("XINFO", "STREAM", name, "FULL", "COUNT", "0"), ("XINFO", "GROUPS", name)]
        lines += [("XINFO", "CONSUMERS", name, group) for group in "gh"]
        lines += [("XPENDING", name, group) for group in "gh"]
    return lines


@examples(100)
@given(sequence=sequences(*ADD, GROW, *ADD, *READ, *CHANGE, *READ_ON, *OTHERS), protocol=protocols, mode=modes)
def test_entries(duel, sequence, protocol, mode):
    duel.run([*sequence, *told_of("ab")], protocol, mode)


@examples(100)
@given(sequence=sequences(*ADD, GROW, GROW, *READ, *CHANGE, *READ_ON), protocol=protocols, mode=modes)
def test_small_blocks(duel_of_small_blocks, sequence, protocol, mode):
    duel_of_small_blocks.run([*FILLED[:14], *sequence, *told_of("ab")], protocol, mode)


@examples(200)
@given(
    sequence=sequences(*GROUP_READ, *GROUP_READ, *PENDING, *GROUPS, *GROUP_INFO, GROW, *CHANGE, *OTHERS),
    protocol=protocols,
    mode=modes,
)
def test_groups(duel_of_small_blocks, sequence, protocol, mode):
    duel_of_small_blocks.run([*FILLED, *sequence, *told_of("ab")], protocol, mode)


@examples(80)
@given(sequence=sequences(*GROUP_READ, *PENDING, GROW, *CHANGE), protocol=protocols)
def test_pending_entries(duel_of_small_blocks, sequence, protocol):
    duel_of_small_blocks.run([*FILLED, *sequence, *told_of("a")], protocol, "pipeline")


@examples(80)
@given(
    sequence=sequences(*test_generic.COMMANDS, *test_generic.EXPIRIES, *test_generic.RARE, *ADD, GROW),
    protocol=protocols,
    mode=modes,
)
def test_generic_commands(duel, sequence, protocol, mode):
    """RENAME, COPY, MOVE, DEL, SCAN TYPE, EXPIRE and their like."""
    duel.run([*FILLED, *sequence], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "stream_errors", protocol)


def test_adding_by_the_clock(duel):
    for server in duel.servers():
        with server.connect() as connection:
            connection.command("FLUSHALL")
            now = connection.command("TIME").value
            replies = connection.pipeline([("XADD", "a", "*", "f", "v")] * 300)
            ids = [tuple(map(int, reply.value.split(b"-"))) for reply in replies]
            assert ids == sorted(set(ids))
            assert 0 <= ids[0][0] - int(now[0]) * 1000 < 60_000
            assert [entry[0] for entry in connection.command("XRANGE", "a", "-", "+").value] == [
                reply.value for reply in replies
            ]
            connection.command("XADD", "a", f"{ids[-1][0] + 10**6}-7", "f", "v")
            assert connection.command("XADD", "a", "*", "f", "v").value == b"%d-8" % (ids[-1][0] + 10**6)


@examples(15)
@given(
    parts=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=60),
    dense=st.integers(0, 60),
)
def test_nodes_of_the_tree_that_redis_has(duel_of_small_blocks, parts, dense):
    drawn = sorted({(ms, seq) for ms, seq in parts if ms | seq} | {(number, 0) for number in range(1, dense)})
    lines = [("XADD", "a", f"{ms}-{seq}", "f", "v") for ms, seq in drawn]
    duel_of_small_blocks.run([*lines, ("XINFO", "STREAM", "a")], mode="pipeline", walk=False)


@pytest.mark.parametrize(
    "settings",
    [(0, 100), (100, 0), (0, 0), (1, 1), (300, 7), (4096, 100), (70_000, 3000)],
    ids=lambda pair: f"{pair[0]}-bytes-{pair[1]}-entries",
)
def test_every_size_of_blocks(start_pair, settings):
    pair = start_pair(stream_node_max_bytes=settings[0], stream_node_max_entries=settings[1])
    lines = [("XADD", "a", f"{number + 1}-1", "f", "x" * (number % 90), "g", number) for number in range(400)]
    lines += [("XADD", "a", f"{number}-1", *(("k", "v") * (number % 5 + 1))) for number in range(500, 600)]
    lines += [("XDEL", "a", *(f"{number}-1" for number in range(40, 600, 3)))]
    for trim in (("MAXLEN", "~", 350), ("MINID", "~", 77), ("MAXLEN", 200), ("MINID", "550-0"), ("MAXLEN", "~", 0)):
        lines += [("XTRIM", "a", *trim), ("XINFO", "STREAM", "a"), ("XLEN", "a")]
    lines += [("XTRIM", "a", "MAXLEN", "~", 0, "LIMIT", 3), ("XTRIM", "a", "MAXLEN", "~", 0, "LIMIT", 0)]
    pair.run([*lines, ("XINFO", "STREAM", "a"), ("XRANGE", "a", "-", "+")], mode="pipeline")


WRITES = [
    ("XADD", "k", "1-1", "f", "v"),
    ("XADD", "k", "MAXLEN", "1", "2-1", "f", "v"),
    ("XADD", "k", "MAXLEN", "9", "3-1", "f", "v"),
    ("XTRIM", "k", "MAXLEN", "1"),
    ("XTRIM", "k", "MAXLEN", "1"),
    ("XDEL", "k", "9-9"),
    ("XDEL", "k", "3-1"),
    ("XSETID", "k", "5-5"),
    ("XADD", "k", "6-1", "f", "v"),
    ("XADD", "k", "6-2", "f", "v"),
    ("XGROUP", "CREATE", "k", "g", "0"),
    ("XGROUP", "CREATE", "k", "g", "0"),
    ("XGROUP", "CREATE", "new", "g", "$", "MKSTREAM"),
    ("XGROUP", "CREATECONSUMER", "k", "g", "x"),
    ("XGROUP", "CREATECONSUMER", "k", "g", "x"),
    ("XREADGROUP", "GROUP", "g", "x", "COUNT", "1", "STREAMS", "k", ">"),
    ("XREADGROUP", "GROUP", "g", "y", "COUNT", "1", "STREAMS", "k", ">"),
    ("XREADGROUP", "GROUP", "g", "z", "COUNT", "1", "STREAMS", "k", "0"),
    ("XREAD", "STREAMS", "k", "nosuch", "0", "0"),
    ("XACK", "k", "g", "9-9"),
    ("XCLAIM", "k", "g", "w", "0", "6-1"),
    ("XAUTOCLAIM", "k", "g", "v", "0", "0"),
    ("XACK", "k", "g", "6-1"),
    ("XPENDING", "nosuch", "g"),
    ("XGROUP", "SETID", "k", "g", "0"),
    ("XGROUP", "DELCONSUMER", "k", "g", "y"),
    ("XGROUP", "DELCONSUMER", "k", "g", "y"),
    ("XGROUP", "DESTROY", "k", "g"),
    ("XGROUP", "DESTROY", "k", "g"),
    ("XINFO", "STREAM", "nosuch"),
    ("XDEL", "k", "6-1", "6-2"),
    ("TYPE", "k"),
]


@pytest.mark.parametrize("flags", ["KEA", "KEAmn", "Et"])
def test_events(duel, flags):
    steps = [
        ("w", "FLUSHALL"),
        ("w", "CONFIG", "SET", "notify-keyspace-events", flags),
        ("l", "PSUBSCRIBE", "__key*"),
        *(("w", *line) for line in WRITES),
        ("w", "CONFIG", "SET", "notify-keyspace-events", ""),
    ]
    mine, theirs = (play(server, steps, w=2, l=3) for server in (duel.subject, duel.oracle))
    for ours, other in zip(mine, theirs, strict=True):
        assert ours[0] == other[0]
        assert ours[1].get("l") == other[1].get("l"), ours[0]


def test_what_fails_a_transaction(duel):
    """Which of these changes WATCH sees."""
    answers = []
    for server in (duel.subject, duel.oracle):
        with server.connect() as watcher, server.connect() as other:
            other.command("FLUSHALL")
            seen = []
            for line in WRITES:
                watcher.pipeline([("WATCH", "k", "new"), ("MULTI",), ("DBSIZE",)])
                other.command(*line)
                seen.append((line, watcher.command("EXEC").value is None))
            answers.append(seen)
    assert answers[0] == answers[1]


def entries_left(connection):
    pending = [[item[0] for item in connection.command("XPENDING", "k", group, "-", "+", 99).value] for group in "gh"]
    return [entry[0] for entry in connection.command("XRANGE", "k", "-", "+").value], *pending


@pytest.fixture
def delivered(flushed):
    """Four entries; g has read three, h two."""
    with flushed.connect() as connection:
        connection.pipeline([("XADD", "k", f"{number}-0", "f", "v") for number in range(1, 5)])
        for group, count in (("g", 3), ("h", 2)):
            connection.command("XGROUP", "CREATE", "k", group, "0")
            connection.command("XREADGROUP", "GROUP", group, "x", "COUNT", count, "STREAMS", "k", ">")
        yield connection


def test_deleting_with_references(delivered):
    def delete(*line):
        return delivered.command("XDELEX", "k", *line).value

    assert delete("IDS", 2, "1-0", "9-0") == [1, -1]
    assert entries_left(delivered) == ([b"2-0", b"3-0", b"4-0"], [b"1-0", b"2-0", b"3-0"], [b"1-0", b"2-0"])
    assert delete("DELREF", "IDS", 2, "1-0", "2-0") == [-1, 1]
    assert entries_left(delivered) == ([b"3-0", b"4-0"], [b"3-0"], [])
    assert delete("ACKED", "IDS", 3, "3-0", "4-0", "7-0") == [2, 2, -1]
    delivered.command("XACK", "k", "g", "3-0")
    assert delete("IDS", 1, "3-0", "acked") == [2]
    delivered.command("XGROUP", "SETID", "k", "h", "3-0")
    assert delete("IDS", 1, "3-0", "acked") == [1]
    assert delete("KEEPREF", "IDS", 1, "4-0") == [1]
    assert delivered.command("XINFO", "STREAM", "k").value[9] == b"4-0"
    assert delivered.command("XDELEX", "none", "IDS", 2, "1-1", "2-2").value == [-1, -1]


def test_acknowledging_and_deleting(delivered):
    def acknowledge(*line):
        return delivered.command("XACKDEL", "k", *line).value

    assert acknowledge("g", "IDS", 2, "4-0", "1-0") == [-1, 1]
    assert entries_left(delivered) == ([b"2-0", b"3-0", b"4-0"], [b"2-0", b"3-0"], [b"1-0", b"2-0"])
    assert acknowledge("h", "IDS", 1, "1-0") == [1]
    assert acknowledge("g", "ACKED", "IDS", 2, "2-0", "3-0") == [2, 2]
    assert acknowledge("h", "ACKED", "IDS", 1, "2-0") == [1]
    assert entries_left(delivered) == ([b"3-0", b"4-0"], [], [])
    for group in "gh":
        delivered.command("XREADGROUP", "GROUP", group, "x", "STREAMS", "k", ">")
    assert acknowledge("h", "DELREF", "IDS", 1, "4-0") == [1]
    assert entries_left(delivered) == ([b"3-0"], [], [b"3-0"])
    assert acknowledge("none", "IDS", 1, "3-0") == [-1]
    assert delivered.command("XACKDEL", "none", "g", "IDS", 1, "3-0").value == [-1]


@pytest.mark.parametrize("command_words", [("XDELEX", "k"), ("XACKDEL", "k", "g")], ids=lambda words: words[0])
def test_errors_of_deleting_with_references(delivered, command_words):
    def error(*line):
        return delivered.command(*command_words, *line).raw[1:-2].decode()

    number = "ERR Number of IDs must be a positive integer"
    assert [error("IDS", count, "1-1") for count in ("abc", "0", "-5")] == [number] * 3
    assert error("IDS", "3", "1-1", "2-2") == "ERR The `numids` parameter must match the number of arguments"
    assert error("IDS", "1", "1-1", "2-2") == "ERR syntax error"
    assert error("KEEPREF", "DELREF", "IDS", "1", "1-1") == "ERR syntax error"
    assert error("IDS", "1", "1-1", "ACKED", "ACKED") == "ERR syntax error"
    assert error("KEEPREF", "ids", "1") == "ERR The `numids` parameter must match the number of arguments"
    assert error("KEEPREF", "x", "1") == "ERR syntax error"
    assert error("IDS", "1", "x") == "ERR Invalid stream ID specified as stream command argument"
    name = command_words[0].lower()
    assert error("IDS", "1") == f"ERR wrong number of arguments for '{name}' command"
    delivered.command("SET", "k", "text")
    assert error("IDS", "1", "1-1").startswith("WRONGTYPE")
    assert delivered.command("TYPE", "k").value == b"string"


def test_trimming_with_references(delivered):
    def trim(*line):
        return delivered.command("XTRIM", "k", *line).value

    assert trim("MAXLEN", 2, "ACKED") == 0
    delivered.command("XACK", "k", "g", "1-0", "2-0", "3-0")
    delivered.command("XACK", "k", "h", "2-0")
    assert trim("ACKED", "MAXLEN", 2) == 1, "h has not acknowledged 1-0, nor read 3-0"
    assert entries_left(delivered) == ([b"1-0", b"3-0", b"4-0"], [], [b"1-0"])
    assert trim("MINID", "4-0", "DELREF") == 2
    assert entries_left(delivered) == ([b"4-0"], [], [])
    delivered.command("XREADGROUP", "GROUP", "g", "x", "STREAMS", "k", ">")
    assert delivered.command("XADD", "k", "KEEPREF", "MAXLEN", 1, "5-0", "f", "v").value == b"5-0"
    assert entries_left(delivered) == ([b"5-0"], [b"4-0"], [])
    delivered.command("XREADGROUP", "GROUP", "g", "x", "STREAMS", "k", ">")
    assert delivered.command("XADD", "k", "MAXLEN", 1, "DELREF", "6-0", "f", "v").value == b"6-0"
    assert entries_left(delivered) == ([b"6-0"], [b"4-0"], []), "4-0 had gone before"
    assert delivered.command("XADD", "k", "MAXLEN", 1, "ACKED", "NOMKSTREAM", "*", "f", "v").value
    assert delivered.command("XLEN", "k").value == 2
    assert delivered.command("XTRIM", "none", "MAXLEN", 0, "ACKED").value == 0


def test_trimming_with_references_without_groups(flushed):
    with flushed.connect() as connection:
        connection.pipeline([("XADD", "k", f"{number}-0", "f", "v") for number in range(1, 6)])
        assert connection.command("XTRIM", "k", "MAXLEN", 3, "ACKED").value == 2
        assert connection.command("XTRIM", "k", "MAXLEN", 1, "delref").value == 2


def test_errors_of_trimming_with_references(delivered):
    def error(*line):
        return delivered.command(*line).raw[1:-2].decode()

    assert error("XTRIM", "k", "MAXLEN", 1, "ACKED", "ACKED") == "ERR syntax error"
    assert error("XTRIM", "k", "KEEPREF", "DELREF", "MAXLEN", 1) == "ERR syntax error"
    assert error("XTRIM", "k", "ACKED", "DELREF") == "ERR syntax error"
    assert error("XTRIM", "k", "ACKED", "LIMIT", 1).endswith("without specifying a trimming strategy")
    invalid = "ERR Invalid stream ID specified as stream command argument"
    assert error("XADD", "k", "ACKED", "ACKED", "*", "f", "v") == invalid
    assert error("XADD", "k", "ACKED", "f", "v") == invalid


class Groups:
    """What XTRIM leaves of a stream with groups, entry by entry."""

    def __init__(self, draw):
        self.entries = list(range(1, draw.randrange(2, 80)))
        self.last = {group: draw.choice([0, len(self.entries), draw.randrange(len(self.entries) + 1)])
                     for group in draw.sample(["g", "h", "i"], draw.randrange(1, 4))}
        self.acked = {group: {number for number in self.entries if number <= last and draw.random() < 0.7}
                      for group, last in self.last.items()}

    def send(self, connection):
        lines = [("XADD", "k", f"{number}-0", "f", number) for number in self.entries]
        for group, last in self.last.items():
            lines.append(("XGROUP", "CREATE", "k", group, 0))
            if last:
                lines.append(("XREADGROUP", "GROUP", group, "x", "COUNT", last, "STREAMS", "k", ">"))
            if self.acked[group]:
                lines.append(("XACK", "k", group, *(f"{number}-0" for number in self.acked[group])))
        assert not any(reply.is_error for reply in connection.pipeline(lines))

    def pending(self, group):
        return [number for number in range(1, self.last[group] + 1) if number not in self.acked[group]]

    def may_go(self, number, references):
        return references != "ACKED" or all(number in acked for acked in self.acked.values())

    def trim(self, references, length=None, first=0):
        for number in list(self.entries):
            if number >= first if length is None else len(self.entries) <= length:
                return
            if self.may_go(number, references):
                self.entries.remove(number)
                if references == "DELREF":
                    for acked in self.acked.values():
                        acked.add(number)


@pytest.mark.parametrize("block", [1, 3, 10, 100])
@pytest.mark.parametrize("references", ["KEEPREF", "DELREF", "ACKED"])
def test_trimming_against_a_model(flushed, references, block):
    draw = random.Random(f"{references} {block}")
    with flushed.connect() as connection:
        connection.command("CONFIG", "SET", "stream-node-max-entries", block)
        for _ in range(60):
            connection.command("DEL", "k")
            model = Groups(draw)
            model.send(connection)
            for _ in range(3):
                before = len(model.entries)
                limit = draw.randrange(len(model.entries) + 3)
                if draw.random() < 0.5:
                    model.trim(references, length=limit)
                    line = ("XTRIM", "k", references, "MAXLEN", limit)
                else:
                    model.trim(references, first=limit)
                    line = ("XTRIM", "k", "MINID", f"{limit}-0", references)
                assert connection.command(*line).value == before - len(model.entries), line
                left = [entry[0] for entry in connection.command("XRANGE", "k", "-", "+").value]
                assert left == [b"%d-0" % number for number in model.entries]
                for group in model.last:
                    pending = connection.command("XPENDING", "k", group, "-", "+", 1000).value
                    assert [entry[0] for entry in pending] == [b"%d-0" % n for n in model.pending(group)]
                assert connection.command("XLEN", "k").value == len(model.entries)
        connection.command("CONFIG", "SET", "stream-node-max-entries", 100)


def test_trimming_roughly_with_references(flushed):
    """Of whole blocks, and within the limit; in them what is needed stays."""
    with flushed.connect() as connection:
        connection.command("CONFIG", "SET", "stream-node-max-entries", 10)
        connection.pipeline([("XADD", "k", f"{number}-0", "f", "v") for number in range(1, 101)])
        connection.command("XGROUP", "CREATE", "k", "g", 0)
        connection.command("XREADGROUP", "GROUP", "g", "x", "COUNT", 55, "STREAMS", "k", ">")
        connection.command("XACK", "k", "g", *(f"{number}-0" for number in range(1, 51) if number != 7))
        assert connection.command("XTRIM", "k", "MAXLEN", "~", 75, "LIMIT", 15, "ACKED").value == 9
        assert connection.command("XTRIM", "k", "MAXLEN", "~", 75, "ACKED").value == 10
        assert connection.command("XTRIM", "k", "MINID", "~", "58-0", "ACKED").value == 30
        assert connection.command("XTRIM", "k", "MINID", "58-0", "ACKED").value == 0
        assert connection.command("XLEN", "k").value == 51
        assert connection.command("XTRIM", "k", "MINID", "58-0", "DELREF").value == 8
        assert connection.command("XPENDING", "k", "g").value[0] == 0
        connection.command("CONFIG", "SET", "stream-node-max-entries", 100)


def test_dump_of_a_stream_of_deleted_entries(duel, subject, redis_server):
    lines = [("XADD", "k", f"{number}-1", "f", "v") for number in (1, 2, 3)]
    duel.run([*lines, ("XDEL", "k", "2-1", "3-1"), ("XTRIM", "k", "MINID", "2-1"), ("XINFO", "STREAM", "k")])
    with subject.connect() as connection, redis_server.connect() as other:
        for source in (connection, other):
            payload = source.command("DUMP", "k").value
            for target in (connection, other):
                assert target.command("RESTORE", "copy", 0, payload, "REPLACE").raw == b"+OK\r\n"
                assert target.command("XADD", "copy", "9-1", "f", "v").value == b"9-1"
                assert [entry[0] for entry in target.command("XRANGE", "copy", "-", "+").value] == [b"9-1"]


def test_when_consumers_were_active(delivered):
    """Since Redis 7.2 a consumer that asked in vain is seen, but not active."""
    delivered.command("XGROUP", "CREATECONSUMER", "k", "g", "idle")
    consumers = delivered.command("XINFO", "CONSUMERS", "k", "g").value
    told = [dict(zip(item[::2], item[1::2], strict=True)) for item in consumers]
    assert [consumer[b"name"] for consumer in told] == [b"idle", b"x"]
    assert told[0][b"inactive"] == -1
    assert 0 <= told[1][b"inactive"] < 10_000
    assert 0 <= told[1][b"idle"] < 10_000
