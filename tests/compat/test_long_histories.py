"""XREADGROUP of much that is pending goes in slices, and is one step all the same: here in slices of one entry."""

import pytest

from .differential import Duel
from .servers import wait_until
from .test_long_deliveries import COUNT, CREATE, FILL, LEFT, SEVERAL, entry, read
from .test_slices import Other, used
from .wire import encode


def history(consumer, *options, group="g", **behind):
    behind = behind or {"a": 0}
    return ("XREADGROUP", "GROUP", group, consumer, *options, "STREAMS", *behind, *behind.values())


def pending(connection, key="a", consumer=()):
    """ID, consumer, deliveries."""
    found = connection.command("XPENDING", key, "g", "-", "+", 10_000, *consumer).value
    return [(item[0], item[1], item[3]) for item in found]


HALVES = [read("ann", "COUNT", 60), read("bob", "COUNT", 60), read("ann"), ("XGROUP", "CREATECONSUMER", "a", "g", "cy")]


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_as_redis_does(sliced, redis_server, protocol, mode):
    script = [*FILL, ("SET", "s", 1), CREATE, *HALVES, ("XACK", "a", "g", "3-1", "95-1", "150-1"),
              ("XDEL", "a", "1-1", "4-1", "61-1", "160-1"), ("XCLAIM", "a", "g", "ann", 0, "100-1", "101-1")]
    for consumer in ("ann", "bob", "cy", "new"):
        for options in ((), ("COUNT", 40), ("COUNT", 1), ("NOACK",), ("BLOCK", 5)):
            for behind in (0, "50-1", "50-7", "199-1", f"{2**64 - 1}-{2**64 - 1}"):
                script += [("INCR", "n"), history(consumer, *options, a=behind), ("INCR", "n")]
        script += [("XPENDING", "a", "g"), ("XINFO", "GROUPS", "a")]
    script += [history("ann", group="none"), history("ann", none=0), history("ann", s=0),
               ("XTRIM", "a", "MAXLEN", 50), history("ann"), history("bob"), history("ann", a="120-1")]
    if mode != "spread":
        script += [("MULTI",), history("ann"), ("INCR", "n"), history("bob"), ("EXEC",)]
    Duel(sliced, redis_server).run(script, protocol, mode)
    with sliced.connect() as ours, redis_server.connect() as theirs:
        assert pending(ours) == pending(theirs)
        assert max(item[2] for item in pending(ours)) > 5


@pytest.mark.parametrize("protocol", [2, 3])
def test_several_streams_as_redis_does(sliced, redis_server, protocol):
    """New entries of one and the history of another; a stream that is there twice."""
    script = [entry(number, key, key) for key in SEVERAL for number in range(1, 101)]
    script += [command for key in SEVERAL for command in (
        ("XGROUP", "CREATE", key, "g", 0), read("ann", "COUNT", 40, keys=(key,)), read("bob", "COUNT", 9, keys=(key,)))]
    for options in ((), ("COUNT", 30)):
        for behind in ({"a": 0, "b": 0}, {"a": 0, "b": ">", "c": "10-1"}, {"c": ">", "a": ">", "b": "39-1"},
                       {"b": "100-1", "a": 0}):
            script += [history("ann", *options, **behind)]
        script += [("XREADGROUP", "GROUP", "g", "ann", *options, "STREAMS", "a", "b", "a", 0, 0, ">")]
        script += [look for key in SEVERAL for look in (("XPENDING", key, "g"), ("XINFO", "GROUPS", key))]
    Duel(sliced, redis_server).run(script, protocol, "single")
    with sliced.connect() as ours, redis_server.connect() as theirs:
        for key in SEVERAL:
            assert pending(ours, key) == pending(theirs, key)


def ids_of(reply):
    return [item[0] for item in reply.value[0][1]]


@pytest.mark.parametrize("away", ["claimed", "acknowledged", "deleted"])
def test_it_is_of_one_moment(sliced, away):
    """Two entries, one near each end, come and go together."""
    names = ("5-1", "190-1")
    back = [("MULTI",), *(("XCLAIM", "a", "g", "ann", 0, name, "FORCE", "JUSTID") for name in names), ("EXEC",)]
    batches = {
        "claimed": [[("MULTI",), *(("XCLAIM", "a", "g", "bob", 0, name, "JUSTID") for name in names), ("EXEC",)], back],
        "acknowledged": [[("XACK", "a", "g", *names)], back],
        "deleted": [[("XDEL", "a", *names)]],
    }[away]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        with Other(sliced, *batches):
            for _ in range(40):
                entries = dict(connection.command(*history("ann")).value[0][1])
                assert len(entries) in (LEFT - 2, LEFT)
                first, last = (entries.get(name.encode(), "away") for name in names)
                assert (first == "away") == (last == "away")
                assert (first is None) == (last is None)


def test_what_others_do_does_not_matter(sliced):
    """Each reply counts as one delivery of each entry, whoever reads and acknowledges meanwhile."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        with Other(sliced, [("XADD", "a", "*", "f", "v")] * 5, [read("bob")], [("XPENDING", "a", "g")]):
            for _ in range(30):
                assert len(ids_of(connection.command(*history("ann")))) == LEFT
        assert {item[2] for item in pending(connection, consumer=["ann"])} == {31}
        assert {item[2] for item in pending(connection, consumer=["bob"])} <= {1}


def test_times_go_with_it(sliced):
    """What was delivered again is the last that CLAIM finds."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, *HALVES])
        connection.command(*history("ann", "COUNT", 30))
        claimed = connection.command(*read("cy", "CLAIM", 0)).value[0][1]
        again = {item[0] for item in claimed[-30:]}
        assert again == {item[0] for item in claimed if item[3] == 2}
        assert len(again) == 30


def test_it_is_trimmed_meanwhile(sliced):
    """Of what is gone all is gone, up to one entry."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        with Other(sliced, *([("XTRIM", "a", "MAXLEN", length)] for length in range(LEFT, 0, -1))):
            gone = []
            for _ in range(40):
                fields = [item[1] for item in connection.command(*history("ann")).value[0][1]]
                gone.append(fields.count(None))
                assert fields[:gone[-1]] == [None] * gone[-1]
                assert len(fields) == LEFT
        assert gone == sorted(gone)


def test_it_goes_meanwhile(sliced):
    """The consumer, the group, or the stream: and comes back, with as many entries or more."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE])
        everything = [*FILL, CREATE, read("ann")]
        with Other(sliced, [("MULTI",), ("XGROUP", "DELCONSUMER", "a", "g", "ann"), ("XGROUP", "SETID", "a", "g", 0),
                            read("ann"), ("EXEC",)],
                   [("MULTI",), ("XGROUP", "DESTROY", "a", "g"), CREATE, read("ann"), ("EXEC",)],
                   [("XGROUP", "DESTROY", "a", "g"), CREATE], [("SET", "a", 1)],
                   [("MULTI",), ("DEL", "a"), *everything, ("EXEC",)]):
            replies = [connection.command(*history("ann")) for _ in range(150)]
        connection.pipeline([("DEL", "a"), *everything])
        assert len(ids_of(connection.command(*history("ann")))) == LEFT
    seen = {len(ids_of(reply)) for reply in replies if not reply.raw.startswith((b"-NOGROUP", b"-WRONGTYPE"))}
    assert seen <= {0, LEFT}


def test_who_asks_goes(sliced):
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        before = used(other)
        for _ in range(20):
            with sliced.connect() as connection:
                connection.send(encode(*history("ann")) * 3)
        assert len(ids_of(other.command(*history("ann")))) == LEFT
        wait_until(lambda: abs(used(other) - before) < 20_000)
        assert len(pending(other)) == COUNT - 3
