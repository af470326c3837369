"""Values of many elements are freed by the timer, in slices, whatever command took them off their key.

INFO counts those that went this way; one that is freed at once is not among them.
"""

import pytest

ELEMENTS = 20_000
SIZE = 50                       # of an element: lists are freed by blocks of 8 KB
LARGE = "p:0"
TYPES = ["LIST", "SET", "ZSET", "HASH", "STREAM"]

# What is there besides the large value: z, s, few, l, g are small, t is text, `none` is absent.
SMALL = [
    ("ZADD", "z", 1, "x", 2, "y"), ("SADD", "s", 1, 2, 3), ("SADD", "few", 4),
    ("RPUSH", "l", 3, 1, 2), ("SET", "t", "text"),
    ("GEOADD", "g", "13.3", "38.1", "palermo"),
]

OVERWRITES = [
    ("SINTERSTORE", LARGE, "s", "s"), ("SUNIONSTORE", LARGE, "s", "none"), ("SDIFFSTORE", LARGE, "s", "none"),
    ("ZUNIONSTORE", LARGE, 2, "z", "s"), ("ZINTERSTORE", LARGE, 1, "z"), ("ZDIFFSTORE", LARGE, 2, "z", "s"),
    ("ZRANGESTORE", LARGE, "z", 0, 0), ("SORT", "l", "STORE", LARGE), ("SORT", "s", "BY", "nosort", "STORE", LARGE),
    ("GEOSEARCHSTORE", LARGE, "g", "FROMLONLAT", 13, 38, "BYRADIUS", 500, "km"),
    ("GEORADIUS", "g", 13, 38, 500, "km", "STORE", LARGE),
    # Results without members: the key goes.
    ("SINTERSTORE", LARGE, "s", "none"), ("SUNIONSTORE", LARGE, "none"), ("SDIFFSTORE", LARGE, "s", "s"),
    ("ZUNIONSTORE", LARGE, 1, "none"), ("ZINTERSTORE", LARGE, 2, "z", "none"), ("ZDIFFSTORE", LARGE, 2, "z", "z"),
    ("ZRANGESTORE", LARGE, "z", 7, 9), ("SORT", "none", "STORE", LARGE),
    ("GEOSEARCHSTORE", LARGE, "g", "FROMLONLAT", 50, 50, "BYRADIUS", 1, "km"),
    ("BITOP", "NOT", LARGE, "none"),
    # Other commands that replace or delete.
    ("SET", LARGE, "x"), ("SET", LARGE, "x", "KEEPTTL"), ("SETEX", LARGE, 100, "x"), ("MSET", "a", 1, LARGE, 2),
    ("BITOP", "NOT", LARGE, "t"), ("RENAME", "z", LARGE), ("COPY", "z", LARGE, "REPLACE"), ("DEL", LARGE),
    ("UNLINK", LARGE), ("PEXPIRE", LARGE, -1), ("RESTORE", LARGE, 0, "the dump of z", "REPLACE"),
]


def counted(connection):
    fields = connection.command("INFO", "memory").value.decode().split("\r\n")
    fields = dict(line.split(":", 1) for line in fields if ":" in line)
    return int(fields["lazyfree_pending_objects"]) + int(fields["lazyfreed_objects"])


def populate(connection, kind):
    connection.command("FLUSHALL")
    connection.pipeline(SMALL)
    connection.command("DEBUG", "POPULATE", 1, "p", SIZE, "TYPE", kind, "ELEMENTS", ELEMENTS)


@pytest.fixture(scope="module")
def connection(subject):
    with subject.connect(timeout=60) as connection:
        yield connection
        connection.command("FLUSHALL")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("command", OVERWRITES, ids=lambda command: " ".join(map(str, command[:4])))
def test_what_a_key_loses(connection, command, kind):
    populate(connection, kind)
    dump = connection.command("DUMP", "z").value
    command = [dump if word == "the dump of z" else word for word in command]
    before = counted(connection)
    assert not connection.command(*command).is_error
    assert counted(connection) == before + 1


# ---- What commands take off a value, or build for a reply --------------------------------------

def test_elements_that_a_value_loses(connection):
    for kind, command in [("LIST", ("LTRIM", LARGE, 0, 9)), ("LIST", ("LTRIM", LARGE, 1, 0)),
                          ("LIST", ("LPOP", LARGE, ELEMENTS - 1)),
                          ("LIST", ("LMPOP", 1, LARGE, "LEFT", "COUNT", ELEMENTS)),
                          ("SET", ("SPOP", LARGE, ELEMENTS - 1)), ("SET", ("SPOP", LARGE, ELEMENTS)),
                          ("ZSET", ("ZREMRANGEBYRANK", LARGE, 0, -1)), ("STREAM", ("XTRIM", LARGE, "MAXLEN", 0))]:
        populate(connection, kind)
        before = counted(connection)
        assert not connection.command(*command).is_error
        assert counted(connection) == before + 1, command


@pytest.mark.parametrize("in_exec", [False, True])
@pytest.mark.parametrize("kind, command", [
    ("SET", ("SUNION", *[LARGE] * 8)), ("SET", ("SDIFF", LARGE, "s", "few")), ("ZSET", ("ZUNION", 2, LARGE, "s")),
    ("ZSET", ("ZINTER", 1, LARGE)), ("ZSET", ("ZDIFF", 2, LARGE, "s", "WITHSCORES")),
])
def test_what_is_built_for_a_reply(connection, kind, command, in_exec):
    populate(connection, kind)
    before = counted(connection)
    if in_exec:
        connection.command("MULTI")
    reply = connection.command(*command)
    if in_exec:
        reply = connection.command("EXEC")
        assert len(reply.value[0]) >= ELEMENTS
    assert not reply.is_error
    assert counted(connection) == before + 1
