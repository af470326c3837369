"""Keyspace events of sets, sorted sets and streams, event by event as Redis; and who is served by what, as Redis."""

import pytest

from .party import play
from .waiting import record
from .test_notifications import steps_with

SETS = [
    ("SADD", "s", 1, 2, 3), ("SADD", "s", 1), ("SREM", "s", 9), ("SREM", "s", 1, 2), ("SMOVE", "s", "t", 3),
    ("SMOVE", "t", "t", 3), ("SADD", "s", "a", "b", "c"), ("SINTERSTORE", "d", "s", "none"),
    ("SUNIONSTORE", "d", "s", "t"),
    ("SDIFFSTORE", "d", "s", "s"), ("SINTERSTORE", "d", "s", "s"), ("SPOP", "d", 2), ("SPOP", "d"), ("SPOP", "s", 5),
    ("SREM", "t", 3), ("SADD", "s", 1), ("SREM", "s", 1), ("SMEMBERS", "none"), ("SCARD", "none"), ("SINTER", "x", "y"),
]
ZSETS = [
    ("ZADD", "z", 1, "a"), ("ZADD", "z", 1, "a"), ("ZADD", "z", 2, "a", 3, "b"), ("ZADD", "z", "XX", 5, "none"),
    ("ZINCRBY", "z", 1, "a"), ("ZADD", "z", "INCR", 1, "a"), ("ZREM", "z", "none"), ("ZREM", "z", "a"),
    ("ZADD", "z", 1, "a", 2, "c", 3, "d", 4, "e"), ("ZRANGESTORE", "d", "z", 0, 1), ("ZRANGESTORE", "d", "z", 9, 9),
    ("ZUNIONSTORE", "d", 2, "z", "none"), ("ZINTERSTORE", "d", 2, "z", "none"), ("ZDIFFSTORE", "d", 1, "z"),
    ("ZREMRANGEBYRANK", "z", 0, 0), ("ZREMRANGEBYSCORE", "z", 2, 2), ("ZREMRANGEBYLEX", "z", "[x", "[y"),
    ("ZPOPMIN", "z"), ("ZPOPMAX", "d", 2), ("ZMPOP", 2, "none", "d", "MIN", "COUNT", 99), ("ZPOPMIN", "z", 9),
    ("ZADD", "z", 1, "a"), ("BZPOPMIN", "z", 1), ("ZADD", "z", 1, "a"), ("BZMPOP", 1, 1, "z", "MAX"),
    ("ZADD", "z", 1, "a"), ("ZREM", "z", "a"), ("ZRANGE", "none", 0, -1), ("ZSCORE", "none", "a"),
]
STREAMS = [
    ("XADD", "s", "1-1", "a", 1), ("XADD", "s", "MAXLEN", 1, "2-1", "a", 1), ("XADD", "s", "NOMKSTREAM", "3-1", "a", 1),
    ("XADD", "none", "NOMKSTREAM", "3-1", "a", 1), ("XDEL", "s", "9-9"), ("XDEL", "s", "2-1"),
    ("XTRIM", "s", "MAXLEN", 5),
    ("XTRIM", "s", "MAXLEN", 0), ("XSETID", "s", "9-9"), ("XGROUP", "CREATE", "s", "g", 0),
    ("XADD", "s", "10-1", "a", 1),
    ("XGROUP", "CREATE", "new", "g", 0, "MKSTREAM"), ("XGROUP", "CREATECONSUMER", "s", "g", "ann"),
    ("XGROUP", "CREATECONSUMER", "s", "g", "ann"), ("XREADGROUP", "GROUP", "g", "ann", "STREAMS", "s", ">"),
    ("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", ">"), ("XCLAIM", "s", "g", "cy", 0, "10-1"),
    ("XAUTOCLAIM", "s", "g", "dan", 0, 0), ("XACK", "s", "g", "10-1"), ("XGROUP", "DELCONSUMER", "s", "g", "dan"),
    ("XGROUP", "DELCONSUMER", "s", "g", "none"), ("XGROUP", "SETID", "s", "g", 0), ("XGROUP", "DESTROY", "s", "g"),
    ("XGROUP", "DESTROY", "s", "g"), ("XREAD", "STREAMS", "s", "s", 0, 0), ("XRANGE", "none", "-", "+"),
]

SEVERAL_KEYS = ("SINTER", "SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE", "ZUNIONSTORE", "ZINTERSTORE", "ZMPOP", "XREAD")


@pytest.mark.parametrize("flags", ["KEA", "KEAmn", "Es", "Kz", "Et"])
@pytest.mark.parametrize("commands", [SETS, ZSETS, STREAMS], ids=["sets", "zsets", "streams"])
def test_events(subject, redis_server, commands, flags):
    steps = steps_with(flags, commands)
    for mine, expected in zip(play(subject, steps, w=2, l=3), play(redis_server, steps, w=2, l=3), strict=True):
        if mine[0][1] == "SPOP":
            mine, expected = mine[1].get("l"), expected[1].get("l")
        elif mine[0][1] in SEVERAL_KEYS:
            # Keys on several shards: shard by shard (docs/differences.md).
            mine, expected = ({name: sorted(got) for name, got in each[1].items()} for each in (mine, expected))
        assert mine == expected


ZSET_WAITS = [
    ("a", "BZPOPMIN", "z", 0), ("b", "BZPOPMAX", "y", "z", 0), ("w", "ZADD", "z", 1, "one", 2, "two", 3, "three"),
    ("w", "ZCARD", "z"), ("w", "DEL", "z"),
    ("a", "BZMPOP", 0, 2, "y", "z", "MIN", "COUNT", 2), ("b", "BZPOPMIN", "z", 0), ("w", "ZADD", "z", 1, "x", 2, "y"),
    ("w", "ZADD", "z", 5, "z"), ("a", "BZPOPMIN", "z", "0.01"),
    ("a", "BZPOPMIN", "z", 0), ("w", "LPUSH", "z", "no set"), ("w", "DEL", "z"), ("w", "SADD", "t", "m"),
    ("w", "ZUNIONSTORE", "z", 1, "t"), ("a", "BZPOPMAX", "z", 0), ("w", "ZADD", "other", 1, "m"),
    ("w", "RENAME", "other", "z"),
    ("a", "BZPOPMAX", "z", 0), ("w", "ZINCRBY", "z", "2.5", "m"), ("a", "BZPOPMIN", "z", 0), ("w", "ZADD", "y", 7, "k"),
    ("w", "ZRANGESTORE", "z", "y", 0, -1),
]
STREAM_WAITS = [
    ("a", "XREAD", "BLOCK", 0, "STREAMS", "s", "$"),
    ("b", "XREAD", "BLOCK", 0, "COUNT", 1, "STREAMS", "t", "s", "$", "0"),
    ("w", "XADD", "s", "1-1", "k", "v"), ("a", "XREAD", "BLOCK", 0, "STREAMS", "s", "t", "$", "$"),
    ("w", "XADD", "t", "5-1", "k", "v"),
    ("w", "XGROUP", "CREATE", "s", "g", "$"), ("a", "XREADGROUP", "GROUP", "g", "ann", "BLOCK", 0, "STREAMS", "s", ">"),
    ("b", "XREADGROUP", "GROUP", "g", "bob", "BLOCK", 0, "STREAMS", "s", ">"),
    ("c", "XREAD", "BLOCK", 0, "STREAMS", "s", "$"),
    ("w", "XADD", "s", "2-1", "k", "v"), ("w", "XADD", "s", "3-1", "k", "w"), ("w", "XPENDING", "s", "g"),
    ("a", "XREADGROUP", "GROUP", "g", "ann", "BLOCK", 0, "STREAMS", "s", "0"),
    ("a", "XREADGROUP", "GROUP", "g", "ann", "BLOCK", 0, "STREAMS", "s", ">"), ("w", "XGROUP", "DESTROY", "s", "g"),
    ("w", "XGROUP", "CREATE", "s", "g", "$"), ("a", "XREADGROUP", "GROUP", "g", "ann", "BLOCK", 0, "STREAMS", "s", ">"),
    ("b", "XREAD", "BLOCK", 0, "STREAMS", "s", "$"), ("w", "DEL", "s"), ("w", "XADD", "s", "9-1", "k", "v"),
    ("w", "XGROUP", "CREATE", "s", "g", "$"), ("a", "XREADGROUP", "GROUP", "g", "ann", "BLOCK", 0, "STREAMS", "s", ">"),
    ("w", "SET", "s", "text"), ("w", "DEL", "s"), ("w", "XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"),
    ("a", "XREADGROUP", "GROUP", "g", "ann", "NOACK", "BLOCK", 0, "STREAMS", "s", ">"),
    ("w", "XADD", "s", "1-1", "f", "v"),
    ("w", "XPENDING", "s", "g"),
]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("steps", [ZSET_WAITS, STREAM_WAITS], ids=["zsets", "streams"])
@pytest.mark.parametrize("threads", [1, 3])
def test_waiting(start, redis_server, steps, protocol, threads):
    assert record(start(proactor_threads=threads), steps, protocol) == record(redis_server, steps, protocol)
