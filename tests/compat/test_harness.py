"""The tests of the tests: that replies are taken apart correctly, and that a difference is seen as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import examples
from .differences import INTENDED, UNSTEADY, replies_agree
from .differential import Duel, Mismatch
from .servers import Server, ServerLost
from .wire import NeedMore, ProtocolViolation, Reply, parse, skip

leaves = st.one_of(
    st.tuples(st.just(":"), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.sampled_from("+-,(_#"), st.text("abc 0.1", max_size=6).map(str.encode)),
    st.tuples(st.sampled_from("$=!"), st.one_of(st.none(), st.binary(max_size=20))),
    st.just(("*", None)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("*~>"), st.lists(inner, max_size=4)),
        st.tuples(st.just("%"), st.lists(st.tuples(inner, inner), max_size=3)),
    ),
    max_leaves=12,
)


def serialise(tree):
    tag, value = tree
    head = tag.encode()
    if value is None:
        return head + b"-1\r\n"
    if tag in "$=!":
        return head + b"%d\r\n%b\r\n" % (len(value), value)
    if tag == "%":
        return head + b"%d\r\n" % len(value) + b"".join(serialise(item) for pair in value for item in pair)
    if tag in "*~>":
        return head + b"%d\r\n" % len(value) + b"".join(map(serialise, value))
    return head + (b"%d" % value if tag == ":" else value) + b"\r\n"


@examples(150)
@given(tree=trees, rest=st.binary(max_size=5))
def test_parse(tree, rest):
    raw = serialise(tree)
    assert parse(raw + rest, 0) == (tree, len(raw))
    for cut in range(len(raw)):
        with pytest.raises(NeedMore):
            parse(raw[:cut], 0)


@examples(150)
@given(replies=st.lists(trees, min_size=1, max_size=3), step=st.integers(1, 9))
def test_skip(replies, step):
    """However it comes in pieces, it ends where it ends."""
    raw = b"".join(map(serialise, replies))
    position, needed = 0, len(replies)
    for cut in range(0, len(raw), step):
        position, needed = skip(raw[:cut], position, needed)
        assert position <= cut
        assert needed > 0
    assert skip(raw + b"+more", position, needed) == (len(raw), 0)


def test_what_is_not_resp_is_refused():
    for raw in (b"hello\r\n", b"\r\n", b"$2\r\nabcd\r\n"):
        with pytest.raises(ProtocolViolation):
            parse(raw, 0)
        with pytest.raises(ProtocolViolation):
            skip(raw, 0, 1)


def agree(command, left, right):
    return replies_agree([word.encode() for word in command.split()], Reply(left), Reply(right))


def test_normalisers():
    assert agree("GET a", b"$1\r\n1\r\n", b"$1\r\n1\r\n")
    assert not agree("GET a", b"$1\r\n1\r\n", b"$1\r\n2\r\n")
    assert not agree("GET a", b"$-1\r\n", b"_\r\n")
    assert agree("ttl a", b":100\r\n", b":99\r\n")
    assert not agree("TTL a", b":100\r\n", b":10\r\n")
    assert not agree("TTL a", b":-1\r\n", b":-2\r\n")
    assert not agree("TTL a", b":1\r\n", b":-1\r\n")
    assert not agree("PTTL a", b":1000\r\n", b"-ERR\r\n")
    assert agree("KEYS *", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"*2\r\n$1\r\nb\r\n$1\r\na\r\n")
    assert not agree("KEYS *", b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\nb\r\n")
    assert agree("SCAN 0", b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n", b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n")
    assert not agree("SCAN 0", b"*2\r\n$1\r\n0\r\n*0\r\n", b"*2\r\n$1\r\n5\r\n*0\r\n")
    assert agree("RANDOMKEY", b"$1\r\na\r\n", b"$1\r\nb\r\n")
    assert not agree("RANDOMKEY", b"$1\r\na\r\n", b"$-1\r\n")
    assert not agree("TIME x", b"-ERR a\r\n", b"-ERR b\r\n")


def test_tables_do_not_overlap():
    assert not INTENDED.keys() & UNSTEADY.keys()


@pytest.fixture
def unequal(redis_server, valkey_server):
    """Two servers that differ in known ways."""
    duel = Duel(valkey_server, redis_server)
    duel.survey = None
    return duel


@pytest.mark.parametrize("mode", ["single", "spread", "pipeline"])
def test_a_different_reply_is_found(unequal, mode):
    unequal.run([("SET", "a", 1), ("GET", "a")], 2, mode)
    with pytest.raises(Mismatch, match="unknown type name"):
        unequal.run([("SET", "a", 1), ("SCAN", 0, "TYPE", "nosuch"), ("GET", "a")], 2, mode)


@pytest.mark.parametrize(
    "hidden",
    [("SET", "only", 1), ("SET", "a", 2), ("EXPIRE", "a", 100), ("APPEND", "b", ""), ("MOVE", "a", 2)],
)
def test_the_walk_finds_different_contents(unequal, hidden):
    unequal.run([("MSET", "a", 1, "b", "text")])
    with unequal.oracle.connect() as connection:
        connection.command(*hidden)
    if hidden[0] == "APPEND":  # changes the encoding only
        with unequal.oracle.connect() as connection:
            connection.pipeline([("SET", "b", "10"), ("APPEND", "b", "0")])
        with unequal.subject.connect() as connection:
            connection.command("SET", "b", "100")
    with pytest.raises(Mismatch, match="walk"):
        unequal.run([("PING",)], flush=False)


def test_different_bytes_are_found(unequal):
    unequal.compare_bytes(b"PING\r\n")
    with pytest.raises(Mismatch):
        unequal.compare_bytes(b"SCAN -1\r\n")


def test_a_crash_is_blamed_on_the_subject(redis_server):
    with Server("redis") as victim:
        first = victim.process.pid
        victim.process.kill()
        victim.process.wait()
        with pytest.raises(ServerLost, match="redis died"):
            Duel(victim, redis_server).run([("SET", "a", 1)])
        assert victim.process.pid != first
        Duel(victim, redis_server).run([("SET", "a", 1)])
