"""XAUTOCLAIM and XREADGROUP with CLAIM of many entries go in slices, and are one step: here in slices of one entry."""

import pytest

from .differential import Duel
from .servers import wait_until
from .test_long_deliveries import COUNT, CREATE, FILL, LEFT, SEVERAL, entry, read
from .test_long_histories import HALVES, pending
from .test_slices import Other, used
from .wire import encode

LONG_AGO = 10_000_000
NEVER = 2**63 - 1


def autoclaim(consumer, *options, idle=0, start=0, group="g", key="a"):
    return ("XAUTOCLAIM", key, group, consumer, idle, start, *options)


def make_idle(*names, consumer="ann", key="a", idle=LONG_AGO):
    return ("XCLAIM", key, "g", consumer, 0, *names, "IDLE", idle, "JUSTID")


def name_of(number):
    return f"{number}-1"


def ids_of(reply):
    return [item[0] for item in reply.value[1]]


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_as_redis_does(sliced, redis_server, protocol, mode):
    looks = [("XPENDING", "a", "g"), ("XINFO", "GROUPS", "a")]
    old = [make_idle(*(name_of(number) for number in range(first, 160, 9)), consumer=consumer)
           for first, consumer in ((11, "ann"), (12, "ann"), (13, "bob"), (18, "bob"))]
    script = [*FILL, ("SET", "s", 1), CREATE, *HALVES, ("XACK", "a", "g", "3-1", "95-1", "150-1"), *old]
    for idle in (LONG_AGO // 2, NEVER, 0, -1):
        for start in (0, "50-1", "(50-1", "50-7", "199-1", f"{2**64 - 1}-{2**64 - 1}"):
            for options in (("COUNT", 1), ("COUNT", 40), (), ("COUNT", 7, "JUSTID"), ("COUNT", 1000), ("JUSTID",)):
                script += [("INCR", "n"), autoclaim("cy", *options, idle=idle, start=start), ("INCR", "n"), *looks]
                script += old if idle > 0 else [HALVES[0], make_idle("20-1", "21-1"), make_idle("60-1", consumer="bob")]
    # Some are gone from the stream, claimed or not.
    script += [*old, ("XDEL", "a", "11-1", "12-1", "13-1", "14-1", "100-1", "159-1"),
               autoclaim("dan", "COUNT", 5, idle=LONG_AGO // 2), *looks,
               autoclaim("dan", idle=LONG_AGO // 2), *looks, ("XTRIM", "a", "MAXLEN", 50),
               autoclaim("none", "COUNT", 30, idle=NEVER, start="10-1"), *looks, autoclaim("eve"), *looks,
               autoclaim("eve", start=3), autoclaim("eve", group="none"), autoclaim("eve", key="none"),
               autoclaim("eve", key="s"), autoclaim("eve", "COUNT", 0), autoclaim("eve", "JUST")]
    if mode != "spread":
        script += [("MULTI",), autoclaim("fay"), ("INCR", "n"), autoclaim("gil", "JUSTID"), ("EXEC",), *looks]
    Duel(sliced, redis_server).run(script, protocol, mode)
    with sliced.connect() as ours, redis_server.connect() as theirs:
        assert pending(ours) == pending(theirs)
        assert max(item[2] for item in pending(ours)) > 5


def test_it_goes_on_in_slices(sliced):
    """Others get their turn: else this test would show nothing."""
    with sliced.connect() as connection, sliced.connect() as other:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        for command in (autoclaim("bob", "COUNT", 1000), read("cy", "CLAIM", 0)):
            connection.send(encode(*command))
            other.pipeline([("XPENDING", "a", "g")])
            while pending(other)[0][1] == b"ann":
                pass
            seen = {item[1] for item in pending(other)}
            connection.read()
            assert len(seen) == 1


def claimed_by(command, connection):
    """{ID: fields}: what it claims of what has been pending for so long."""
    reply = connection.command(*command)
    entries = reply.value[1] if command[0] == "XAUTOCLAIM" else (reply.value[0][1] if reply.value else [])
    return {item[0].decode(): item[1] for item in entries}


CLAIMS = {"xautoclaim": autoclaim("cy", "COUNT", 1000, idle=LONG_AGO // 2),
          "xreadgroup": read("cy", "CLAIM", LONG_AGO // 2)}


@pytest.mark.parametrize("command", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize("away", ["claimed", "acknowledged", "deleted", "delivered", "trimmed", "consumer"])
def test_it_is_of_one_moment(sliced, command, away):
    """Two entries, one near each end of those that can be claimed, come and go together."""
    names, others = ("5-1", "190-1"), [name_of(number) for number in range(6, 190)]
    again = [("MULTI",), make_idle(*others), make_idle(*names), ("EXEC",)]
    back = [("MULTI",), ("XCLAIM", "a", "g", "ann", 0, *names, "FORCE", "JUSTID"), make_idle(*names), ("EXEC",)]
    move = {
        "claimed": [("MULTI",), *(("XCLAIM", "a", "g", "bob", 0, name, "JUSTID") for name in names), ("EXEC",)],
        "acknowledged": [("XACK", "a", "g", *names)],
        "deleted": [("XDEL", "a", *names)],
        "delivered": [("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "a", 0)],
        "trimmed": [("XTRIM", "a", "MINID", "191-1")],
        "consumer": [("MULTI",), ("XGROUP", "DELCONSUMER", "a", "g", "ann"), *back[1:]],
    }[away]
    is_final = away in ("deleted", "trimmed")
    with sliced.connect() as connection:
        for _ in range(8 if is_final else 1):
            connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
            with Other(sliced, move, again if is_final else back):
                for _ in range(6 if is_final else 40):
                    found = claimed_by(command, connection)
                    assert (names[0] in found) == (names[1] in found)
                    assert None not in found.values()


@pytest.mark.parametrize("command", CLAIMS.values(), ids=CLAIMS)
def test_what_others_do_does_not_matter(sliced, command):
    """Entries are added, read and acknowledged while others are claimed: each of these is claimed each time."""
    names = [name_of(number) for number in range(40, 140) if number != 90]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann"), ("XACK", "a", "g", *range(40))])
        with Other(sliced, [("XADD", "a", "*", "f", "v")] * 5, [read("bob", "COUNT", 3)], [("XACK", "a", "g", "150-1")],
                   [("XREADGROUP", "GROUP", "g", "bob", "COUNT", 9, "STREAMS", "a", 0)],
                   [("XGROUP", "CREATECONSUMER", "a", "g", 1), ("XPENDING", "a", "g")]):
            for _ in range(29):
                connection.command(*make_idle(*names))
                found = claimed_by(command, connection)
                assert set(names) <= set(found)
        counts = {item[0].decode(): item[2] for item in pending(connection, consumer=["cy"])}
        assert {counts[name] for name in names} == {30}


@pytest.mark.parametrize("command", CLAIMS.values(), ids=CLAIMS)
def test_two_claim_at_a_time(sliced, command):
    """An entry is one's or the other's, and is counted once for each time that somebody got it."""
    rival = tuple("dan" if word == "cy" else word for word in command)
    names = [name_of(number) for number in range(40, 140) if number != 90]
    got = {name: 0 for name in names}
    with sliced.connect() as connection, sliced.connect() as other:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        for _ in range(25):
            connection.command(*make_idle(*names))
            other.send(encode(*rival))
            found = claimed_by(command, connection)
            reply = other.read()
            entries = reply.value[1] if command[0] == "XAUTOCLAIM" else (reply.value[0][1] if reply.value else [])
            theirs = {item[0].decode() for item in entries}
            assert not theirs & set(found)
            assert theirs | set(found) == set(names)
            for name in names:
                got[name] += 1
        assert {item[0].decode(): item[2] for item in pending(connection)
                if item[0].decode() in got} == {name: 1 + count for name, count in got.items()}


@pytest.mark.parametrize("command", CLAIMS.values(), ids=CLAIMS)
def test_it_goes_meanwhile(sliced, command):
    """The consumer, the group, or the stream: and comes back, with as much that can be claimed."""
    old = make_idle(*(name_of(number) for number in range(20, 80)))
    everything = [*FILL, CREATE, read("ann"), old]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *everything])
        with Other(sliced, [("MULTI",), ("XGROUP", "DELCONSUMER", "a", "g", "ann"), ("XGROUP", "SETID", "a", "g", 0),
                            read("ann"), old, ("EXEC",)],
                   [("MULTI",), ("XGROUP", "DESTROY", "a", "g"), CREATE, read("ann"), old, ("EXEC",)],
                   [("XGROUP", "DELCONSUMER", "a", "g", "cy")], [("RENAME", "a", "b")],
                   [("XGROUP", "DESTROY", "b", "g"), ("RENAME", "b", "a"), CREATE], [("SET", "a", 1)],
                   [("MULTI",), ("DEL", "a"), *everything, ("EXEC",)]):
            replies = [connection.command(*command) for _ in range(150)]
        connection.pipeline([("DEL", "a"), *everything])
        assert len(claimed_by(command, connection)) == 60
    for reply in replies:
        if not reply.raw.startswith((b"-NOGROUP", b"-WRONGTYPE")) and reply.value:
            entries = reply.value[1] if command[0] == "XAUTOCLAIM" else reply.value[0][1]
            # With CLAIM new entries come behind them.
            assert len([item for item in entries if item[2:] != [0, 0]]) in (0, 60)


def test_claimed_and_new_ones_in_one_reply(sliced):
    """Up to COUNT of each stream, those that were pending first; a stream without any has no part in it."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number, key, key) for key in SEVERAL for number in range(1, 101)),
                             *(("XGROUP", "CREATE", key, "g", start) for key, start in zip("abc", (0, 0, "$"),
                                                                                           strict=True)),
                             read("ann", "COUNT", 60, keys=("a", "b"))])
        for count, (old, new) in ((90, (60, 30)), (20, (20, 0)), (None, (90, 10))):
            options = () if count is None else ("COUNT", count)
            reply = dict(connection.command(*read("cy", *options, "CLAIM", 0, keys=SEVERAL)).value)
            assert sorted(reply) == [b"a", b"b"]
            for entries in reply.values():
                assert len(entries) == old + new
                assert [item[3] > 0 for item in entries] == [True] * old + [False] * new
        for key in "ab":
            assert {item[1] for item in pending(connection, key)} == {b"cy"}
            assert len(pending(connection, key)) == 100


def test_what_is_gone_is_forgotten(sliced):
    """However many there are in front, or between."""
    with sliced.connect() as connection:
        for kept in (range(150, 160), range(1, 200, 10), (1,), ()):
            connection.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1)), CREATE, read("ann"),
                                 make_idle(*(name_of(number) for number in range(1, COUNT + 1))),
                                 ("XDEL", "a", *(name_of(number) for number in range(1, COUNT + 1)
                                                 if number not in kept))])
            found = connection.command(*read("cy", "CLAIM", LONG_AGO // 2)).value
            assert [item[0].decode() for item in (found[0][1] if found else [])] == [name_of(number) for number in kept]
            assert [item[0].decode() for item in pending(connection)] == [name_of(number) for number in kept]


@pytest.mark.parametrize("command", CLAIMS.values(), ids=CLAIMS)
def test_who_asks_goes(sliced, command):
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann")])
        before = used(other)
        for _ in range(20):
            other.command(*make_idle(*(name_of(number) for number in range(20, 80))))
            with sliced.connect() as connection:
                connection.send(encode(*command) * 3)
        wait_until(lambda: abs(used(other) - before) < 20_000)
        assert len(pending(other)) == LEFT
