"""Long XRANGE and XREVRANGE go in slices and show one moment all the same: here in slices of one entry."""

import itertools
import threading
import time

import pytest

from .differential import Duel
from .test_slices import Other, used
from .wire import encode

COUNT = 200
BOTH = [("XRANGE", "a", "-", "+"), ("XREVRANGE", "a", "+", "-")]


def entry(number, value="v"):
    return ("XADD", "a", f"{number}-1", "n", number, "value", value)


def numbers(reply):
    """Of its entries, the first one first."""
    found = [int(fields[1]) for _, fields in reply.value]
    return found if found == sorted(found) else found[::-1]


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_as_redis_replies(sliced, redis_server, protocol, mode):
    """With others before and behind in the pipeline, of the wrong type, of keys that are not there, and in an EXEC."""
    reads = [*BOTH, ("XRANGE", "a", 20, 150), ("XRANGE", "a", "(20-1", "(150-1"), ("XREVRANGE", "a", "(150-1", 20),
             ("XRANGE", "a", 5, "+", "COUNT", 60), ("XREVRANGE", "a", "+", "-", "COUNT", 60),
             ("XRANGE", "a", "-", "+", "COUNT", 0), ("XRANGE", "a", "-", "+", "COUNT", 1000), ("XRANGE", "a", 150, 20),
             ("XRANGE", "a", "-", "+", "COUNT", -3, "COUNT", 9), ("XREVRANGE", "a", 300, 250), ("XRANGE", "a", 50, 50),
             ("XRANGE", "a", "-", "+", "COUNT"), ("XRANGE", "a", "(18446744073709551615-18446744073709551615", "+")]
    script = [entry(number) for number in range(1, COUNT + 1)] + [("SET", "s", 1)]
    script += [("XDEL", "a", *(f"{number}-1" for number in (1, 2, 30, 31, 32, 33, 34, 35, 36, 37, 199, 200)))]
    for read in reads:
        script += [("INCR", "n"), read, ("INCR", "n"), (read[0], "none", *read[2:]), (read[0], "s", *read[2:]),
                   ("XLEN", "a"), read]
    if mode != "spread":
        script += [("MULTI",), ("INCR", "n"), *reads[:5], ("INCR", "n"), ("EXEC",), ("GET", "n")]
    Duel(sliced, redis_server).run(script, protocol, mode)


@pytest.mark.parametrize("read", BOTH, ids=["forward", "backward"])
def test_added_and_trimmed_meanwhile(sliced, read):
    """As a stream lives: always two come and the two oldest go."""
    adding = [("XADD", "a", "*", "n", 1, "value", "v")] * 2
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1))])
        with Other(sliced, [("MULTI",), *adding, ("EXEC",)], [("XTRIM", "a", "MAXLEN", COUNT)]):
            replies = [connection.command(*read) for _ in range(60)]
    for reply in replies:
        ids = [tuple(map(int, name.split(b"-"))) for name, _ in reply.value]
        assert ids == sorted(set(ids), reverse=read[0] == "XREVRANGE")
        assert len(ids) in (COUNT, COUNT + 2)


@pytest.mark.parametrize("read", BOTH, ids=["forward", "backward"])
@pytest.mark.parametrize("trimming", ["MAXLEN", "MINID"])
def test_one_moment_of_numbered_entries(sliced, read, trimming):
    """Entries come in pairs, and the oldest go in pairs with the same step: what is there is an unbroken run."""
    stopped = threading.Event()

    def change():
        with sliced.connect() as other:
            for number in itertools.count(COUNT + 1, 2):
                if stopped.is_set():
                    return
                limit = COUNT if trimming == "MAXLEN" else f"{number + 2 - COUNT}-0"
                trim = ("XTRIM", "a", trimming, limit)
                other.pipeline([("MULTI",), entry(number), entry(number + 1), trim, ("EXEC",)])

    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1))])
        thread = threading.Thread(target=change)
        thread.start()
        replies = [numbers(connection.command(*read)) for _ in range(60)]
        stopped.set()
        thread.join()
    for found in replies:
        assert found == list(range(found[0], found[0] + COUNT))
        assert found[-1] % 2 == 0
    assert replies == sorted(replies)
    assert replies[-1][0] > 1, "nothing has changed meanwhile"


@pytest.mark.parametrize("read", BOTH, ids=["forward", "backward"])
@pytest.mark.parametrize("deleting", [("XDEL", "a"), ("XDELEX", "a", "KEEPREF", "IDS", 2)], ids=["xdel", "xdelex"])
def test_deleted_by_id_meanwhile(sliced, read, deleting):
    """One near each end go together."""
    stopped = threading.Event()

    def change():
        with sliced.connect() as other:
            for number in range(1, 80):
                if stopped.is_set():
                    return
                other.command(*deleting, f"{number}-1", f"{COUNT + 1 - number}-1")

    with sliced.connect() as connection:
        for _ in range(4):
            connection.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1))])
            thread = threading.Thread(target=change)
            thread.start()
            replies = [numbers(connection.command(*read)) for _ in range(20)]
            stopped.set()
            thread.join()
            stopped.clear()
            for found in replies:
                assert found == list(range(found[0], COUNT + 2 - found[0]))
            assert replies == sorted(replies)


@pytest.mark.parametrize("read", BOTH, ids=["forward", "backward"])
@pytest.mark.parametrize("how", ["made again", "emptied", "copied", "renamed", "trimmed by reference"])
def test_another_one_meanwhile(sliced, read, how):
    """With the same IDs, and other values."""
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        for key in "bc":
            connection.pipeline([("XADD", key, f"{number}-1", "value", key) for number in range(1, COUNT + 1)])
        if how == "made again":
            changes = [[("MULTI",), ("DEL", "a"), *(("XADD", "a", f"{number}-1", "value", key)
                                                    for number in range(1, COUNT + 1)), ("EXEC",)] for key in "bc"]
        elif how == "emptied":
            changes = [[("MULTI",), ("XTRIM", "a", "MAXLEN", 0), ("XSETID", "a", "0-1"),
                        *(("XADD", "a", f"{number}-1", "value", key) for number in range(1, COUNT + 1)), ("EXEC",)]
                       for key in "bc"]
        elif how == "trimmed by reference":
            changes = [[("COPY", "b", "a", "REPLACE")], [("XTRIM", "a", "MAXLEN", 0, "DELREF")]]
        elif how == "copied":
            changes = [[("COPY", key, "a", "REPLACE")] for key in "bc"]
        else:
            changes = [[("MULTI",), ("COPY", key, "t"), ("RENAME", "t", "a"), ("EXEC",)] for key in "bc"]
        connection.command("COPY", "b", "a")
        with Other(sliced, *changes):
            replies = [connection.command(*read).value for _ in range(40)]
        sizes = {len(reply) for reply in replies}
        assert sizes <= ({0, COUNT} if how == "trimmed by reference" else {COUNT})
        for reply in replies:
            assert len({fields[1] for _, fields in reply}) <= 1


def test_the_key_goes_or_expires(sliced):
    fill = [entry(number) for number in range(1, COUNT + 1)]
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        with Other(sliced, [("MULTI",), *fill, ("EXEC",)], [("DEL", "a")]):
            assert {len(connection.command(*BOTH[0]).value) for _ in range(40)} <= {0, COUNT}
        with Other(sliced, [("MULTI",), *fill, ("EXEC",)], [("DEL", "a"), ("SADD", "a", "x")], [("DEL", "a")]):
            for _ in range(40):
                reply = connection.command(*BOTH[0])
                assert reply.raw.startswith(b"-WRONGTYPE") or len(reply.value) in (0, COUNT)
        connection.pipeline([("FLUSHALL",), *fill, ("PEXPIRE", "a", 15)])
        sizes = [len(connection.command(*BOTH[1]).value) for _ in range(30)]
        time.sleep(0.02)
        assert set(sizes) <= {0, COUNT}
        assert not connection.command(*BOTH[1]).value


def test_the_client_goes(sliced):
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1))])
        before = used(other)
        for _ in range(20):
            with sliced.connect() as connection:
                connection.send(encode(*BOTH[0]) * 3)
        assert len(other.command(*BOTH[0]).value) == COUNT
        assert abs(used(other) - before) < 50_000


def test_groups_meanwhile(sliced):
    """What changes groups only concerns no range."""
    group = [("XREADGROUP", "GROUP", "g", "c", "COUNT", 5, "STREAMS", "a", ">"), ("XGROUP", "SETID", "a", "g", 0)]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1)),
                             ("XGROUP", "CREATE", "a", "g", 0)])
        with Other(sliced, group):
            for _ in range(40):
                assert numbers(connection.command(*BOTH[0])) == list(range(1, COUNT + 1))
