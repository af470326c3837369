"""Stream commands against Redis, and what it does not show yet against Valkey; readers that wait; job queues."""


import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import test_generic
from .arguments import command, examples, integers, keys, modes, often, options, protocols, sequences, values
from .differential import Duel
from .scripts import run_scripts
from .servers import SUBJECT, Server

small_ids = st.builds(lambda ms, seq: b"%d-%d" % (ms, seq), st.integers(0, 9), st.integers(0, 3))
ids = often(st.one_of(small_ids, small_ids, st.integers(0, 9).map(lambda ms: b"%d" % ms)),
            st.sampled_from([b"x", b"", b"1-", b"-1", b"1-x", b"18446744073709551615-18446744073709551615", b"1-*"]))
add_ids = st.one_of(st.integers(0, 9).map(lambda ms: b"%d-*" % ms), ids)
range_ids = st.one_of(st.sampled_from([b"-", b"+"]), ids, small_ids.map(lambda text: b"(" + text))
names = st.sampled_from([b"a", b"b", b"c", b"a", b"", b"12", b"x" * 70])
pairs = st.lists(st.tuples(names, st.one_of(names, values, st.integers(-5, 200).map(lambda n: b"%d" % n))),
                 min_size=1, max_size=3).map(lambda drawn: tuple(word for pair in drawn for word in pair))
same_pairs = st.integers(0, 99).map(lambda number: (b"a", b"%d" % number, b"b", b"text"))
counts = often(st.integers(0, 6), integers)
maximum = st.tuples(st.just(b"MAXLEN"), st.sampled_from([b"=", b"~"]), counts)
minimum = st.tuples(st.just(b"MINID"), st.sampled_from([b"=", b"~"]), ids)
plain_trim = st.one_of(st.tuples(st.just(b"MAXLEN"), counts), st.tuples(st.just(b"MINID"), ids), maximum, minimum)
trims = st.one_of(plain_trim, st.tuples(plain_trim, st.integers(0, 3)).map(lambda t: (*t[0], b"LIMIT", t[1])))
add_options = st.one_of(st.just(()), st.just(()), st.just((b"NOMKSTREAM",)), trims)
groups = st.sampled_from([b"g", b"h"])
consumers = st.sampled_from([b"ann", b"bob", b"cy"])
id_lists = st.lists(ids, min_size=1, max_size=4).map(tuple)
read_ids = st.one_of(ids, st.just(b"0"), st.just(b"$"))
group_ids = st.one_of(st.just(b">"), st.just(b">"), st.just(b"0"), ids)
count_option = options(("COUNT", counts), max_size=1)
claim_options = options("FORCE", "JUSTID", ("RETRYCOUNT", counts), ("LASTID", ids), max_size=2)


def streams_of(kind):
    """STREAMS key ... id ..."""
    return st.lists(st.tuples(keys, kind), min_size=1, max_size=3).map(
        lambda drawn: (b"STREAMS", *(key for key, _ in drawn), *(each for _, each in drawn))
    )


ADD = [
    command("XADD", keys, add_options, add_ids, pairs),
    command("XADD", keys, add_ids, same_pairs),
    command("XADD", keys, st.integers(0, 9).map(lambda ms: b"%d-*" % ms), same_pairs),
]
CHANGE = [
    command("XDEL", keys, id_lists),
    command("XTRIM", keys, trims),
    command("XSETID", keys, ids, options(("ENTRIESADDED", counts), ("MAXDELETEDID", ids), max_size=2)),
]
READ = [
    command("XLEN", keys),
    command("XRANGE", keys, range_ids, range_ids, count_option),
    command("XREVRANGE", keys, range_ids, range_ids, count_option),
    command("XRANGE", keys, st.just(b"-"), st.just(b"+")),
    command("XREAD", count_option, streams_of(read_ids)),
]
GROUP = [
    command("XGROUP", st.just(b"CREATE"), keys, groups, st.one_of(st.just(b"0"), st.just(b"$"), ids),
            options("MKSTREAM", max_size=1)),
    command("XGROUP", st.just(b"SETID"), keys, groups, st.one_of(st.just(b"0"), st.just(b"$"), ids)),
    command("XGROUP", st.sampled_from([b"CREATECONSUMER", b"DELCONSUMER"]), keys, groups, consumers),
    command("XGROUP", st.just(b"DESTROY"), keys, groups),
    *[command("XREADGROUP", st.just(b"GROUP"), groups, consumers, count_option, options("NOACK", max_size=1),
              streams_of(group_ids))] * 3,
    command("XACK", keys, groups, id_lists),
    command("XPENDING", keys, groups),
    command("XPENDING", keys, groups, range_ids, range_ids, counts, st.lists(consumers, max_size=1).map(tuple)),
    command("XCLAIM", keys, groups, consumers, st.sampled_from([b"0", b"0", b"100000", b"x"]), id_lists, claim_options),
    command("XAUTOCLAIM", keys, groups, consumers, st.sampled_from([b"0", b"0", b"100000"]), range_ids,
            options(("COUNT", counts), "JUSTID", max_size=2)),
]
OTHERS = [command("SET", keys, values), command("DEL", keys), command("TYPE", keys), command("COPY", keys, keys)]
FILLED = [
    *(("XADD", key, f"{number}-1", "a", number, "b", "text") for key in "ab" for number in range(1, 8)),
    ("XGROUP", "CREATE", "a", "g", 0), ("XGROUP", "CREATE", "a", "h", "3-1"), ("XGROUP", "CREATE", "b", "g", 0),
    ("XREADGROUP", "GROUP", "g", "ann", "COUNT", 3, "STREAMS", "a", ">"),
    ("XREADGROUP", "GROUP", "g", "bob", "COUNT", 2, "STREAMS", "a", ">"),
]


@pytest.fixture(scope="module", params=[1, 3], ids=["one-thread", "three-threads"])
def duel_of_small_blocks(request):
    settings = {"stream_node_max_entries": 3, "stream_node_max_bytes": 200}
    flags = {"proactor_threads": request.param} if SUBJECT == "dfly" else {}
    with Server(SUBJECT, **settings, **flags) as subject, Server("redis", **settings) as oracle:
        yield Duel(subject, oracle)


@examples(150)
@given(sequence=sequences(*ADD, *ADD, *ADD, *CHANGE, *READ, *GROUP, *OTHERS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run(sequence, protocol, mode)


@examples(150)
@given(sequence=sequences(*ADD, *ADD, *CHANGE, *READ, max_size=40), protocol=protocols, mode=modes)
def test_small_blocks(duel_of_small_blocks, sequence, protocol, mode):
    duel_of_small_blocks.run(sequence, protocol, mode)


@examples(200)
@given(sequence=sequences(*GROUP, *GROUP, *GROUP, *ADD, *CHANGE, max_size=20), protocol=protocols, mode=modes)
def test_groups(duel_of_small_blocks, sequence, protocol, mode):
    duel_of_small_blocks.run([*FILLED, *sequence], protocol, mode)


@examples(100)
@given(sequence=sequences(*test_generic.COMMANDS, *ADD, *CHANGE, *GROUP), protocol=protocols, mode=modes)
def test_generic_commands(duel, sequence, protocol, mode):
    """RENAME, COPY, MOVE, DEL, SCAN TYPE and their like."""
    duel.run([*FILLED, *sequence], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "streams", protocol)


@pytest.mark.parametrize("protocol", [2, 3])
def test_what_streams_tell_of_themselves(duel_with_valkey, protocol):
    run_scripts(duel_with_valkey, "streams_info", protocol)
