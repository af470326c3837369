"""XREADGROUP of many new entries goes in slices, and is one step all the same: here in slices of one entry."""

import threading
import time

import pytest

from .differential import Duel
from .test_slices import Other, used
from .wire import encode

COUNT = 200


def entry(number, value="v", key="a"):
    return ("XADD", key, f"{number}-1", "n", number, "value", value)


def read(consumer, *options, group="g", keys=("a",)):
    return ("XREADGROUP", "GROUP", group, consumer, *options, "STREAMS", *keys, *(">" for _ in keys))


FILL = [*(entry(number) for number in range(1, COUNT + 1)), ("XDEL", "a", "7-1", "90-1", f"{COUNT}-1")]
CREATE = ("XGROUP", "CREATE", "a", "g", 0)
LEFT = COUNT - 3
# On both threads' shards.
SEVERAL = ("a", "b", "c")
SIZES = {"a": COUNT, "b": 50, "c": 1}
FILL_SEVERAL = [entry(number, key, key) for key in SEVERAL for number in range(1, SIZES[key] + 1)]
CREATE_SEVERAL = [("XGROUP", "CREATE", key, "g", 0) for key in SEVERAL]


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_as_redis_does(sliced, redis_server, protocol, mode):
    reads = [
        read("ann", "COUNT", 50), read("ann", "COUNT", 1), read("bob", "COUNT", 60, "NOACK"), read("ann"), read("ann"),
        read("cy", group="h"), read("dan", "COUNT", 1000, "BLOCK", 5, group="i"), read("eve", "COUNT", 5, group="j"),
        read("ann", group="none"), read("ann", keys=("none",)), read("ann", keys=("s",)),
        read("ann", "COUNT", 30, keys=("a", "b"), group="k"), read("ann", keys=("b", "a"), group="k"),
        read("ann", "COUNT", 100, group="l"), read("ann", "COUNT", 100, "BLOCK", 5, group="l"),
    ]
    looks = [("XPENDING", "a", group) for group in "ghijkl"] + [("XACK", "a", "g", "3-1", "90-1"), ("XLEN", "a")]
    script = [*FILL, ("XADD", "b", "1-1", "f", "v"), ("SET", "s", 1), ("XGROUP", "CREATE", "b", "k", 0)]
    groups = {"g": 0, "h": "100-1", "i": 0, "j": "$", "k": 0, "l": "55-1"}
    script += [("XGROUP", "CREATE", "a", group, start) for group, start in groups.items()]
    script += [("XGROUP", "SETID", "a", "l", "20-1", "ENTRIESREAD", 20)]
    for command in reads:
        script += [("INCR", "n"), command, ("INCR", "n"), *looks, ("XINFO", "GROUPS", "a")]
    # Once more, from an ID before what is pending: as one that has it already.
    script += [("XGROUP", "SETID", "a", "g", "10-1"), read("bob"), *looks, ("XINFO", "GROUPS", "a")]
    if mode != "spread":
        script += [("XGROUP", "SETID", "a", "h", 0), ("MULTI",), ("INCR", "n"), read("cy", group="h"), ("INCR", "n"),
                   ("EXEC",), *looks]
    Duel(sliced, redis_server).run(script, protocol, mode)


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_several_streams_as_redis_does(sliced, redis_server, protocol, mode):
    """Some with nothing new, some with little; one that is there twice, and one whose history is asked for."""
    looks = [command for key in SEVERAL for command in (("XPENDING", key, "g"), ("XINFO", "GROUPS", key))]
    again = [("XGROUP", "SETID", key, "g", start) for key, start in zip(SEVERAL, (0, "20-1", 0), strict=True)]
    script = [*FILL_SEVERAL, *CREATE_SEVERAL, ("XGROUP", "CREATE", "empty", "g", 0, "MKSTREAM"), ("SET", "s", 1),
              ("XADD", "none", "1-1", "f", "v")]
    for options in ((), ("COUNT", 70), ("COUNT", 1), ("NOACK",), ("COUNT", 40, "BLOCK", 5)):
        for keys in (SEVERAL, ("empty", "c", "b", "a"), ("b", "c"), ("a", "b", "a"), ("a", "none"), ("s", "a")):
            script += [("INCR", "n"), read("ann", *options, keys=keys), ("INCR", "n"), *looks, *again]
        history = ("XREADGROUP", "GROUP", "g", "ann", *options, "STREAMS", *SEVERAL, ">", "0", ">")
        script += [history, *looks, *again]
    if mode != "spread":
        script += [("MULTI",), ("INCR", "n"), read("cy", keys=SEVERAL), ("INCR", "n"), ("EXEC",), *looks]
    Duel(sliced, redis_server).run(script, protocol, mode)


def test_more_streams_than_go_in_slices(sliced, redis_server):
    keys = [f"stream:{number}" for number in range(70)]
    script = [("XADD", key, f"{number}-1", "n", number) for key in keys for number in range(1, 4)]
    script += [("XGROUP", "CREATE", key, "g", 0) for key in keys]
    script += [read("ann", "COUNT", 2, keys=keys), read("ann", keys=keys[:64]), read("ann", keys=keys)]
    Duel(sliced, redis_server).run([*script, *(("XPENDING", key, "g") for key in keys)], 2, "single")


def pending(connection, group="g", key="a"):
    return [(item[0], item[1]) for item in connection.command("XPENDING", key, group, "-", "+", 10_000).value]


@pytest.mark.parametrize("has_consumer", [False, True])
def test_what_is_pending_then(sliced, has_consumer):
    """All of it with its consumer, once delivered; by time, too: XREADGROUP with CLAIM goes through that list."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE])
        if has_consumer:
            connection.pipeline([read("ann", "COUNT", 5), read("bob", "COUNT", 5), ("XACK", "a", "g", "2-1")])
        reply = connection.command(*read("ann"))
        ids = [item[0] for item in reply.value[0][1]]
        assert len(ids) == LEFT - 10 * has_consumer
        assert pending(connection)[-len(ids):] == [(name, b"ann") for name in ids]
        counts = connection.command("XPENDING", "a", "g").value[3]
        assert counts == ([[b"ann", b"%d" % (LEFT - 6)], [b"bob", b"5"]] if has_consumer else [[b"ann", b"%d" % LEFT]])
        claimed = connection.command(*read("cy", "CLAIM", 0, "COUNT", 20)).value[0][1]
        assert len(claimed) == 20
        assert {item[3] for item in claimed} == {1}
        assert connection.command("XACK", "a", "g", *ids).value == len(ids)
        assert connection.command("XPENDING", "a", "g").value[0] == 9 * has_consumer


@pytest.mark.parametrize("keys", [("a",), SEVERAL], ids=["one-stream", "three-streams"])
def test_each_entry_goes_to_one(sliced, keys):
    """Three read all, others a few, while entries come: each entry goes to one of them, in order."""
    got, lock, stopped = {key: {} for key in keys}, threading.Lock(), threading.Event()
    failed = []

    def take(name, keys, *options):
        with sliced.connect() as connection:
            while True:
                was_stopped = stopped.is_set()
                reply = connection.command(*read(name, *options, keys=keys)).value or []
                with lock:
                    for key, entries in reply:
                        for one, _ in entries:
                            if one in got[key.decode()]:
                                failed.append((key, one))
                            got[key.decode()][one] = name.encode()
                if was_stopped and not reply:
                    return

    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number, key=key) for key in keys for number in range(1, COUNT + 1)),
                             *(("XGROUP", "CREATE", key, "g", 0) for key in keys)])
        takers = [threading.Thread(target=take, args=(f"all{i}", keys)) for i in range(3)]
        takers += [threading.Thread(target=take, args=("few", keys[-1:], "COUNT", 3))]
        for taker in takers:
            taker.start()
        for number in range(COUNT + 1, 12 * COUNT // len(keys), 20):
            connection.pipeline([entry(number + i, key=key) for i in range(20) for key in keys])
        stopped.set()
        for taker in takers:
            taker.join()
        assert not failed
        for key in keys:
            assert len(got[key]) == connection.command("XLEN", key).value
            assert dict(pending(connection, key=key)) == got[key]


def test_several_streams_are_one_moment(sliced):
    """Entries come to all of them in one step: who reads them has as many of each, whatever goes on in one."""
    fill = [("MULTI",), *(("XADD", key, "*", "n", 1) for key in SEVERAL), ("EXEC",)]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number, key=key) for key in SEVERAL for number in range(1, 31)),
                             *CREATE_SEVERAL])
        with Other(sliced, fill), Other(sliced, [("XGROUP", "CREATE", "b", "h", 0), ("XGROUP", "DESTROY", "b", "h")],
                                        [("XCLAIM", "c", "g", "dan", 0, "3-1", "FORCE", "JUSTID"),
                                         ("XACK", "c", "g", "3-1")]):
            for _ in range(40):
                reply = connection.command(*read("ann", "COUNT", 30, keys=SEVERAL)).value
                if reply is not None:
                    assert [key for key, _ in reply] == [b"a", b"b", b"c"]
                    assert len({len(entries) for _, entries in reply}) == 1


def test_trimmed_meanwhile(sliced):
    """As a stream lives: always two come and the two oldest go; what is read is one unbroken run of one moment."""
    adding = [("XADD", "a", "*", "n", 1)] * 2
    batch = [("MULTI",), *adding, ("XTRIM", "a", "MAXLEN", COUNT), ("EXEC",)]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *(entry(number) for number in range(1, COUNT + 1)), CREATE])
        with Other(sliced, batch):
            for _ in range(40):
                connection.command("XGROUP", "SETID", "a", "g", 0)
                ids = [item[0] for item in connection.command(*read("ann")).value[0][1]]
                assert len(ids) == len(set(ids)) == COUNT
                assert connection.command("XACK", "a", "g", *ids).value == COUNT


def test_it_goes_meanwhile(sliced):
    """The consumer, the group, or the stream: and comes back."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE])
        with Other(sliced, [("XGROUP", "DELCONSUMER", "a", "g", "ann")], [("XGROUP", "SETID", "a", "g", 0)],
                   [("XGROUP", "DESTROY", "a", "g"), CREATE], [("SET", "a", 1)],
                   [("MULTI",), ("DEL", "a"), *FILL, CREATE, ("EXEC",)]):
            replies = [connection.command(*read("ann")) for _ in range(100)]
        connection.pipeline([("DEL", "a"), *FILL, CREATE])
        assert len(connection.command(*read("ann")).value[0][1]) == LEFT
        assert len(pending(connection)) == LEFT
    seen = set()
    for reply in replies:
        if not reply.raw.startswith((b"-NOGROUP", b"-WRONGTYPE")) and reply.value:
            seen.add(len(reply.value[0][1]))
    assert seen <= {LEFT}


def test_claimed_before_it_is_delivered(sliced):
    """XCLAIM with FORCE makes pending what nobody has read: it is delivered all the same, once."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE])
        with Other(sliced, [("XCLAIM", "a", "g", "dan", 0, "100-1", "FORCE", "JUSTID")], [("XACK", "a", "g", "100-1")]):
            for _ in range(30):
                connection.command("XGROUP", "SETID", "a", "g", 0)
                ids = [item[0] for item in connection.command(*read("ann")).value[0][1]]
                assert len(ids) == LEFT
                connection.command("XACK", "a", "g", *ids)
        connection.command("XACK", "a", "g", "100-1")
        assert connection.command("XPENDING", "a", "g").value[0] == 0


def test_who_goes_before_the_end(sliced):
    """As in Redis, who goes has been given what was asked for; no memory stays behind."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, CREATE, read("ann"), ("XGROUP", "DESTROY", "a", "g")])
        time.sleep(0.1)
        memory = used(connection)
        for _ in range(20):
            connection.command(*CREATE)
            with sliced.connect() as short:
                short.send(encode(*read("ann")))
            deadline = time.monotonic() + 5
            while connection.command("XPENDING", "a", "g").value[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.002)
            assert connection.command("XPENDING", "a", "g").value[0] == LEFT
            connection.command("XGROUP", "DESTROY", "a", "g")
        deadline = time.monotonic() + 5
        while used(connection) != memory and time.monotonic() < deadline:
            time.sleep(0.01)
        assert used(connection) == memory


def test_who_goes_before_the_end_of_several(sliced):
    with sliced.connect() as connection:
        away = [("XGROUP", "DESTROY", key, "g") for key in SEVERAL]
        connection.pipeline([("FLUSHALL",), *FILL_SEVERAL, *CREATE_SEVERAL, read("ann", keys=SEVERAL), *away])
        time.sleep(0.1)
        memory = used(connection)
        for _ in range(20):
            connection.pipeline(CREATE_SEVERAL)
            with sliced.connect() as short:
                short.send(encode(*read("ann", keys=SEVERAL)))
            deadline = time.monotonic() + 5
            while connection.command("XPENDING", "c", "g").value[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.002)
            assert {key: connection.command("XPENDING", key, "g").value[0] for key in SEVERAL} == SIZES
            connection.pipeline(away)
        deadline = time.monotonic() + 5
        while used(connection) != memory and time.monotonic() < deadline:
            time.sleep(0.01)
        assert used(connection) == memory


def stats(connection):
    text = connection.command("INFO", "stats").value.decode()
    return [line for line in text.splitlines() if line.startswith(("keyspace_hits", "keyspace_misses"))]


@pytest.mark.parametrize("keys", [("a",), SEVERAL], ids=["one-stream", "three-streams"])
def test_it_is_found_as_often(sliced, redis_server, keys):
    found = []
    for server in (sliced, redis_server):
        with server.connect() as connection:
            connection.pipeline([("FLUSHALL",), *FILL_SEVERAL, *CREATE_SEVERAL, ("CONFIG", "RESETSTAT")])
            connection.command(*read("ann", keys=keys))
            found.append(stats(connection))
    assert found[0] == found[1]


def test_saved_meanwhile(start):
    """A snapshot has the groups as before the delivery, or with all of it."""
    server = start(slice_elements=1, stream_node_max_entries=7, proactor_threads=2, dbfilename="dump.rdb")
    with server.connect() as connection, server.connect() as other:
        connection.pipeline([*FILL_SEVERAL, *CREATE_SEVERAL])
        for _ in range(5):
            connection.send(encode(*read("ann", keys=SEVERAL)))
            other.command("SAVE")
            assert {key.decode(): len(entries) for key, entries in connection.read().value} == SIZES
            other.command("DEBUG", "RELOAD", "NOSAVE")
            counts = {key: other.command("XPENDING", key, "g").value[0] for key in SEVERAL}
            assert counts in (SIZES, dict.fromkeys(SEVERAL, 0))
            other.pipeline([("DEL", *SEVERAL), *FILL_SEVERAL, *CREATE_SEVERAL])
