"""Long XPENDING and XINFO STREAM FULL go in slices and show one moment all the same: here in slices of one entry."""

import time

import pytest

from .test_slices import Other, used
from .wire import encode

COUNT = 200
UNSLICED = 2**60
IDLE = 2                         # its place in an entry of XPENDING

FILL = [
    *(("XADD", "a", f"{number}-1", "n", number) for number in range(1, COUNT + 1)),
    ("XGROUP", "CREATE", "a", "g", 0), ("XGROUP", "CREATE", "a", "h", "100-1"), ("XGROUP", "CREATE", "a", "empty", 0),
    ("XREADGROUP", "GROUP", "g", "ann", "COUNT", 90, "STREAMS", "a", ">"),
    ("XREADGROUP", "GROUP", "g", "bob", "COUNT", 90, "STREAMS", "a", ">"),
    ("XREADGROUP", "GROUP", "h", "cy", "STREAMS", "a", ">"), ("XGROUP", "CREATECONSUMER", "a", "h", "idle"),
    ("XACK", "a", "g", "5-1", "150-1"), ("XDEL", "a", "7-1", "160-1"),
    ("XCLAIM", "a", "g", "bob", 0, "20-1", "30-1", "IDLE", 3_600_000),
    ("SET", "s", 1),
]

LISTS = [
    ("XPENDING", "a", "g", "-", "+", 1000), ("XPENDING", "a", "g", "-", "+", 100),
    ("XPENDING", "a", "g", 20, 150, 1000),
    ("XPENDING", "a", "g", "(20-1", "(150-1", 1000, "bob"), ("XPENDING", "a", "g", "-", "+", 1000, "ann"),
    ("XPENDING", "a", "g", "-", "+", 0), ("XPENDING", "a", "g", "-", "+", -5), ("XPENDING", "a", "g", 500, "+", 10),
    ("XPENDING", "a", "g", 150, 20, 100), ("XPENDING", "a", "g", "IDLE", 3_000_000, "-", "+", 1000),
    ("XPENDING", "a", "g", "IDLE", 3_000_000, "-", "+", 1, "bob"), ("XPENDING", "a", "g", "-", "+", 10, "nobody"),
    ("XPENDING", "a", "none", "-", "+", 10), ("XPENDING", "s", "g", "-", "+", 10), ("XPENDING", "a", "g"),
    ("XPENDING", "none", "g", "-", "+", 10), ("XPENDING", "a", "g", "-", "+", "x"),
    ("XPENDING", "a", "empty", "-", "+", 9),
]
FULL = [
    ("XINFO", "STREAM", "a", "FULL"), ("XINFO", "STREAM", "a", "FULL", "COUNT", 0),
    ("XINFO", "STREAM", "a", "FULL", "COUNT", 1), ("XINFO", "STREAM", "a", "FULL", "COUNT", 60),
    ("XINFO", "STREAM", "a", "FULL", "COUNT", 1000), ("XINFO", "STREAM", "a", "FULL", "COUNT", -1),
    ("XINFO", "STREAM", "a"), ("XINFO", "STREAM", "none", "FULL", "COUNT", 0), ("XINFO", "STREAM", "s", "FULL"),
    ("XINFO", "STREAM", "e", "FULL", "COUNT", 0), ("XINFO", "STREAM", "a", "FULL", "COUNT"),
]


def timeless(value):
    """Without what the clock goes on with between two replies."""
    if isinstance(value, list) and len(value) == 4 and isinstance(value[IDLE], int) and isinstance(value[1], bytes):
        return [*value[:IDLE], value[IDLE] // 600_000, value[3]]
    return [timeless(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("protocol", [2, 3])
def test_as_in_one_go(sliced, protocol):
    """With others before and behind in the pipeline, and in an EXEC."""
    with sliced.connect() as connection:
        connection.pipeline([("HELLO", protocol), ("FLUSHALL",), *FILL, ("XGROUP", "CREATE", "e", "g", 0, "MKSTREAM")])
        script = [command for one in LISTS + FULL for command in (("INCR", "n"), one, one, ("XLEN", "a"))]
        script += [("MULTI",), *LISTS[:5], *FULL[:3], ("EXEC",)]
        replies = []
        for limit in (1, UNSLICED):
            connection.pipeline([("CONFIG", "SET", "slice-elements", limit), ("SET", "n", 0)])
            replies.append(connection.pipeline(script))
        connection.command("CONFIG", "SET", "slice-elements", 1)
    for command, long, short in zip(script, *replies, strict=True):
        if command[0] in ("XPENDING", "EXEC"):
            assert timeless(long.value) == timeless(short.value), command
        else:
            assert long.raw == short.raw, command


def test_as_redis_replies(sliced, redis_server):
    """What FULL shows has other fields in 7.2: its lists of pending entries here, and XPENDING."""
    found = []
    for server in (sliced, redis_server):
        with server.connect() as connection:
            connection.pipeline([("FLUSHALL",), *FILL])
            lists = [reply.value for reply in connection.pipeline(LISTS)]
            full = connection.command("XINFO", "STREAM", "a", "FULL", "COUNT", 0).value
        fields = dict(zip(full[::2], full[1::2], strict=True))
        groups = [dict(zip(group[::2], group[1::2], strict=True)) for group in fields[b"groups"]]
        # The third one is a time of delivery.
        shown = [[(item[0], item[1], item[3]) for item in group[b"pending"]] for group in groups]
        consumers = [[dict(zip(one[::2], one[1::2], strict=True)) for one in group[b"consumers"]] for group in groups]
        names = [[(one[b"name"], [(item[0], item[2]) for item in one[b"pending"]]) for one in group]
                 for group in consumers if group]
        # A consumer that has only been created is not listed before 7.2 there once it is idle: it is here too.
        found.append((timeless(lists), fields[b"entries"], shown, names))
    assert found[0] == found[1]


CLAIM = ("XCLAIM", "a", "g", "dan", 0, "1-1", "199-1", "FORCE", "JUSTID")
ACK = ("XACK", "a", "g", "1-1", "199-1")


def pending_ids(full):
    fields = dict(zip(full[::2], full[1::2], strict=True))
    group = fields[b"groups"][1]
    assert group[1] == b"g"
    group = dict(zip(group[::2], group[1::2], strict=True))
    ids = [item[0] for item in group[b"pending"]]
    consumers = [dict(zip(one[::2], one[1::2], strict=True)) for one in group[b"consumers"]]
    assert sorted(item[0] for one in consumers for item in one[b"pending"]) == sorted(ids)
    assert group[b"pel-count"] == len(ids)
    return ids


@pytest.mark.parametrize("what", ["pending", "idle", "full"])
def test_one_moment(sliced, what):
    """Two entries, one at each end, become pending and are acknowledged together."""
    command = {"pending": LISTS[0], "idle": ("XPENDING", "a", "g", "IDLE", 0, "-", "+", 1000), "full": FULL[1]}[what]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, ACK])
        before = len(connection.command(*LISTS[0]).value)
        with Other(sliced, [CLAIM], [ACK]):
            replies = [connection.command(*command).value for _ in range(60)]
    sizes = set()
    for reply in replies:
        ids = pending_ids(reply) if what == "full" else [item[0] for item in reply]
        assert (b"1-1" in ids) == (b"199-1" in ids)
        sizes.add(len(ids))
    assert sizes <= {before, before + 2}


@pytest.mark.parametrize("command", [LISTS[0], LISTS[4], FULL[1]], ids=["pending", "of-one", "full"])
def test_it_goes_meanwhile(sliced, command):
    """The group, its consumer, or the stream: and comes back."""
    again = [("XGROUP", "CREATE", "a", "g", 0), ("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "a", ">")]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL])
        with Other(sliced, [("XGROUP", "DELCONSUMER", "a", "g", "ann")], [("XGROUP", "DESTROY", "a", "g")], again,
                   [("MULTI",), ("DEL", "a"), *FILL, ("EXEC",)]):
            replies = [connection.command(*command) for _ in range(80)]
        after = connection.pipeline([("XLEN", "a"), ("XPENDING", "a", "g")])
    for reply in replies:
        if reply.raw.startswith((b"-NOGROUP", b"-ERR no such key")):
            continue
        if command[0] == "XPENDING":
            ids = [item[0] for item in reply.value]
            assert len(ids) == len(set(ids)) and {item[1] for item in reply.value} <= {b"ann", b"bob"}
        else:
            assert reply.value[1] == len(reply.value[15]) == COUNT - 2
    assert after[0].value == COUNT - 2


def test_what_others_do_meanwhile(sliced):
    """They have their turns: a list of many does not keep one waiting that comes behind it."""
    with sliced.connect() as reader, sliced.connect() as other:
        reader.pipeline([("FLUSHALL",), *FILL])
        memory = used(reader)
        for _ in range(20):
            reader.send(encode(*FULL[1]) + encode(*LISTS[0]))
            assert other.command("PING").raw == b"+PONG\r\n"
            assert len(reader.read().value[15]) == COUNT - 2
            assert len(reader.read().value) == 178
        assert used(reader) == memory


def test_who_goes_before_the_end(sliced):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL])
        memory = used(connection)
        for _ in range(30):
            with sliced.connect() as short:
                short.send(encode(*FULL[1]) + encode(*LISTS[0]))
        time.sleep(0.3)
        assert used(connection) == memory
        assert len(connection.command(*LISTS[0]).value) == 178


def test_a_destroyed_group_goes_in_slices(sliced):
    """What its consumers' lists took, too."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *FILL, ("XGROUP", "DESTROY", "a", "g")])
        time.sleep(0.1)
        memory = used(connection)
        for _ in range(3):
            connection.pipeline([("XGROUP", "CREATE", "a", "g", 0),
                                 ("XREADGROUP", "GROUP", "g", "x", "STREAMS", "a", ">"),
                                 ("XGROUP", "DESTROY", "a", "g")])
            deadline = time.monotonic() + 5
            while used(connection) != memory and time.monotonic() < deadline:
                time.sleep(0.01)
            assert used(connection) == memory
