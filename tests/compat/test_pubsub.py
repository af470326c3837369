"""Pub/sub: what every client receives, push by push, as from Redis."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import examples
from .party import Party, play
from .test_robustness import reset
from .wire import ConnectionLost, encode

STEPS = [
    ("p", "FLUSHALL"),
    ("a", "SUBSCRIBE"),
    ("a", "SUBSCRIBE", "news"),
    ("a", "SUBSCRIBE", "news", "other", "news"),
    ("a", "EXEC"),
    ("b", "PSUBSCRIBE", "n*", "[xyz]", "n*"),
    ("p", "PUBLISH", "news", "one"),
    ("p", "PUBLISH", "nobody", "two"),
    ("p", "PUBLISH", "none", "three"),
    ("p", "PUBLISH", "", ""),
    ("p", "PUBLISH", "news"),
    ("p", "PUBLISH", "news", "x" * 20_000),
    ("a", "PSUBSCRIBE", "*"),
    ("p", "PUBLISH", "news", "four"),
    ("a", "GET", "k"),
    ("a", "SET", "k"),
    ("a", "NOSUCH"),
    ("a", "CLIENT", "GETNAME"),
    ("a", "PING", "text"),
    ("b", "GET", "k"),
    ("p", "PUBSUB", "NUMSUB", "news", "other", "nosuch"),
    ("p", "PUBSUB", "NUMSUB"),
    ("p", "PUBSUB", "NUMPAT"),
    ("p", "PUBSUB", "CHANNELS", "new*"),
    ("p", "PUBSUB", "CHANNELS", "nosuch*"),
    ("p", "PUBSUB", "CHANNELS", "a", "b"),
    ("p", "PUBSUB", "NUMPAT", "x"),
    ("p", "PUBSUB", "NOSUCH"),
    ("p", "PUBSUB"),
    ("a", "UNSUBSCRIBE", "nosuch", "news"),
    ("p", "PUBLISH", "news", "five"),
    ("a", "UNSUBSCRIBE"),
    ("a", "UNSUBSCRIBE"),
    ("a", "PUNSUBSCRIBE", "nosuch"),
    ("a", "PUNSUBSCRIBE"),
    ("a", "PUNSUBSCRIBE"),
    ("a", "GET", "k"),
    ("b", "PUNSUBSCRIBE", "n*"),
    ("b", "PUNSUBSCRIBE"),
    ("p", "PUBLISH", "news", "six"),
    ("a", "SSUBSCRIBE", "s1"),
    ("b", "SSUBSCRIBE", "s1"),
    ("p", "SPUBLISH", "s1", "seven"),
    ("p", "PUBLISH", "s1", "eight"),
    ("p", "PUBSUB", "SHARDCHANNELS"),
    ("p", "PUBSUB", "SHARDCHANNELS", "s*"),
    ("p", "PUBSUB", "SHARDNUMSUB", "s1", "s2"),
    ("a", "GET", "k"),
    ("a", "SUNSUBSCRIBE", "s1", "s2"),
    ("b", "SUNSUBSCRIBE"),
    ("b", "SUNSUBSCRIBE"),
    ("p", "SPUBLISH", "s1", "nine"),
    ("a", "SUBSCRIBE", "c1"),
    ("a", "RESET"),
    ("p", "PUBLISH", "c1", "ten"),
    ("a", "SUBSCRIBE", "self"),
    ("a", "PUBLISH", "self", "z"),
]


@pytest.mark.parametrize(
    "protocols",
    [{"a": 2, "b": 2, "p": 2}, {"a": 3, "b": 3, "p": 3}, {"a": 2, "b": 3, "p": 2}],
    ids=["RESP2", "RESP3", "mixed"],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_steps(start, redis_server, threads, protocols):
    subject = play(start(proactor_threads=threads), STEPS, **protocols)
    for mine, theirs in zip(subject, play(redis_server, STEPS, **protocols)):
        assert mine == theirs


def test_subscribing_and_publishing_inside_a_transaction(duel):
    """The same bytes; Redis sends the client's own message inside EXEC's reply, we send it before."""
    seen = []
    for server in (duel.subject, duel.oracle):
        with server.connect(protocol=3) as client:
            lines = [("MULTI",), ("SUBSCRIBE", "c1", "c2"), ("PUBLISH", "c1", "x"), ("EXEC",)]
            client.send(b"".join(encode(*line) for line in lines))
            data, closed = client.read_until_silent()
            assert not closed
            seen.append(sorted(data.split(b"\r\n")))
    assert seen[0] == seen[1]


names = st.sampled_from(["a", "b", "p"])
channels = st.sampled_from(["news", "next", "x", "", "n*"])
patterns = st.sampled_from(["n*", "*", "?", "[nx]*", "news", ""])
steps = st.lists(st.one_of(
    st.tuples(names, st.just("SUBSCRIBE"), channels),
    st.tuples(names, st.just("PSUBSCRIBE"), patterns),
    st.tuples(names, st.just("SSUBSCRIBE"), channels),
    st.tuples(names, st.just("UNSUBSCRIBE"), channels),
    st.tuples(names, st.just("PUNSUBSCRIBE"), patterns),
    st.tuples(names, st.just("SUNSUBSCRIBE"), channels),
    st.tuples(names, st.just("PUBLISH"), channels, st.text("ab", max_size=3)),
    st.tuples(names, st.just("SPUBLISH"), channels, st.text("ab", max_size=3)),
    st.tuples(names, st.just("RESET")),
    st.tuples(names, st.just("HELLO"), st.sampled_from(["2", "3"])),
), max_size=25)


def unordered(record):
    """Several patterns match in the order of a hash table: messages of one step as a multiset."""
    return [(step, {name: sorted(messages) for name, messages in received.items()})
            for step, received in record if step[1] != "HELLO"]


@examples(60)
@given(steps=steps, protocol=st.sampled_from([2, 3]))
def test_any_steps(subject, redis_server, steps, protocol):
    protocols = {"a": protocol, "b": 5 - protocol, "p": 3}
    assert unordered(play(subject, steps, **protocols)) == unordered(play(redis_server, steps, **protocols))


def test_a_thousand_subscribers_on_several_threads(start):
    server = start(proactor_threads=3)
    clients = [server.connect(protocol=2 + index % 2, timeout=30) for index in range(1000)]
    try:
        for index, client in enumerate(clients):
            client.send(encode("SUBSCRIBE", "all", f"own:{index}"))
        for client in clients:
            client.read_any(), client.read_any()
        with server.connect() as publisher:
            assert publisher.command("PUBLISH", "all", "hello").value == 1000
            assert publisher.command("PUBLISH", "own:17", "you").value == 1
            for index in range(200):
                publisher.command("PUBLISH", "all", str(index))
        for number, client in enumerate(clients):
            expected = [b"hello", *([b"you"] if number == 17 else []), *[b"%d" % each for each in range(200)]]
            for payload in expected:
                assert client.read_any().raw.endswith(b"\r\n" + payload + b"\r\n")
    finally:
        for client in clients:
            client.close()
    deadline = time.monotonic() + 5
    with server.connect() as connection:
        while connection.command("PUBSUB", "NUMSUB", "all").value[1] != 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert connection.command("PUBSUB", "CHANNELS") == b"*0\r\n"


def test_subscribers_that_die_while_messages_fly(start):
    server = start(proactor_threads=3)
    with server.connect(timeout=30) as publisher, server.connect() as faithful:
        faithful.command("SUBSCRIBE", "c")
        for index in range(200):
            dying = server.connect()
            dying.command("SUBSCRIBE", "c")
            publisher.send(encode("PUBLISH", "c", f"{index}") * 3)
            reset(dying) if index % 2 else dying.close()
            for _ in range(3):
                assert publisher.read().value >= 1
        for index in range(200):
            for _ in range(3):
                assert faithful.read_any().raw.endswith(b"\r\n%d\r\n" % index)


def test_a_slow_subscriber_is_cut_off_and_slows_nobody(start):
    server = start(proactor_threads=2, client_output_buffer_limit="pubsub 1mb 0 0")
    with server.connect() as slow, server.connect() as publisher, server.connect() as reader:
        slow.command("SUBSCRIBE", "flood")
        reader.command("SUBSCRIBE", "other")
        payload = "x" * 50_000
        slowest = 0.0
        for _ in range(400):
            begin = time.monotonic()
            receivers = publisher.command("PUBLISH", "flood", payload).value
            slowest = max(slowest, time.monotonic() - begin)
            if receivers == 0:
                break
        else:
            raise AssertionError("the slow subscriber is still there")
        assert slowest < 1
        assert publisher.command("PUBLISH", "other", "still here").value == 1
        assert b"still here" in reader.read_any().raw
        with pytest.raises(ConnectionLost):
            while True:
                slow.read_any()


def test_the_client_list_and_info_know_subscriptions(flushed):
    with Party(flushed, a=2, p=2) as party:
        party.step("a", "CLIENT", "SETNAME", "listener")
        party.step("a", "SUBSCRIBE", "one", "two")
        party.step("a", "PSUBSCRIBE", "*")
        party.step("a", "SSUBSCRIBE", "s")
        other = party.clients["p"]
        lines = other.command("CLIENT", "LIST").value.decode().splitlines()
        line = next(line for line in lines if "name=listener" in line)
        assert " sub=2 psub=1 ssub=1 " in line and " flags=P " in line
        info = other.command("INFO", "stats").value.decode()
        for field in ("pubsub_channels:2", "pubsub_patterns:1", "pubsubshard_channels:1"):
            assert field + "\r\n" in info
        assert other.command("CLIENT", "KILL", "TYPE", "pubsub").value == 1
