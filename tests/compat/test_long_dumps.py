"""DUMP of a large value goes in slices, and its bytes are those of one go: here in slices of one step."""

import time

import pytest

from .servers import SUBJECT, Server
from .test_slices import Other, used
from .wire import encode

COUNT = 400
UNSLICED = 2**60
KINDS = ["list", "hash", "timed-hash", "set", "numbers", "zset", "stream"]
COUNTING = {"list": "LLEN", "hash": "HLEN", "timed-hash": "HLEN", "set": "SCARD", "numbers": "SCARD", "zset": "ZCARD",
            "stream": "XLEN"}
PAIRS = {
    # What adds two elements, and what takes them away again.
    "list": ([("MULTI",), ("LPUSH", "k", "x"), ("RPUSH", "k", "y"), ("EXEC",)],
             [("MULTI",), ("LPOP", "k"), ("RPOP", "k"), ("EXEC",)]),
    "hash": ([("HSET", "k", "x", 1, "y", 2)], [("HDEL", "k", "x", "y")]),
    "timed-hash": ([("HSET", "k", "x", 1, "y", 2)], [("HDEL", "k", "x", "y")]),
    "set": ([("SADD", "k", "x", "y")], [("SREM", "k", "x", "y")]),
    "numbers": ([("SADD", "k", -1, -2)], [("SREM", "k", -1, -2)]),
    "zset": ([("ZADD", "k", -5, "x", 1_000_000, "y")], [("ZREM", "k", "x", "y")]),
    "stream": ([("MULTI",), ("XADD", "k", "900-1", "f", "v"), ("XADD", "k", "900-2", "f", "v"), ("EXEC",)],
               [("XDEL", "k", "900-1", "900-2")]),
}


def filling(kind):
    numbers = range(COUNT)
    if kind == "list":
        return [("RPUSH", "k", *(number if number % 3 else f"element:{number}" * 5 for number in numbers), "z" * 9000)]
    if kind == "hash":
        return [("HSET", "k", *(word for number in numbers for word in (f"field:{number}", f"{number} " * 20)))]
    if kind == "timed-hash":
        return [*filling("hash"), ("HPEXPIREAT", "k", 4_000_000_000_000, "FIELDS", 2, "field:1", "field:2")]
    if kind == "set":
        return [("SADD", "k", *(f"member:{number}" * 3 for number in numbers))]
    if kind == "numbers":
        return [("SADD", "k", *numbers)]
    if kind == "zset":
        return [("ZADD", "k", *(word for number in numbers for word in (number // 2 / 4, f"member:{number:04d}")))]
    return [*(("XADD", "k", f"{number + 1}-1", "n", number) for number in numbers), ("XGROUP", "CREATE", "k", "g", 0),
            ("XREADGROUP", "GROUP", "g", "ann", "COUNT", 300, "STREAMS", "k", ">"), ("XDEL", "k", "17-1")]


@pytest.fixture(scope="module", params=[1, 2], ids=["one-thread", "two-threads"])
def sliced(request):
    flags = {"stream_node_max_entries": 4, "list_max_listpack_size": 3, "set_max_intset_entries": 100}
    with Server(SUBJECT, proactor_threads=request.param, slice_elements=1, **flags) as server:
        yield server


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes(sliced, kind, protocol):
    """With others before and behind in the pipeline, and in an EXEC."""
    script = [("INCR", "n"), ("DUMP", "k"), ("DUMP", "k"), ("INCR", "n"), ("DUMP", "none"),
              ("MULTI",), ("DUMP", "k"), ("EXEC",), ("DUMP", "k")]
    with sliced.connect() as connection:
        connection.pipeline([("HELLO", protocol), ("FLUSHALL",), *filling(kind)])
        replies = []
        for limit in (1, UNSLICED):
            connection.pipeline([("CONFIG", "SET", "slice-elements", limit), ("SET", "n", 0)])
            replies.append([reply.raw for reply in connection.pipeline(script)])
        connection.command("CONFIG", "SET", "slice-elements", 1)
    assert replies[0] == replies[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "timed-hash"])
def test_redis_restores_it(sliced, redis_server, kind):
    whole = {"list": ("LRANGE", "k", 0, -1), "hash": ("HGETALL", "k"), "set": ("SMEMBERS", "k"),
             "numbers": ("SMEMBERS", "k"), "zset": ("ZRANGE", "k", 0, -1, "WITHSCORES"),
             "stream": ("XRANGE", "k", "-", "+")}[kind]
    with sliced.connect() as connection, redis_server.connect() as redis:
        connection.pipeline([("FLUSHALL",), *filling(kind)])
        redis.command("FLUSHALL")
        assert redis.command("RESTORE", "k", 0, connection.command("DUMP", "k").value).raw == b"+OK\r\n"
        theirs, ours = redis.command(*whole).value, connection.command(*whole).value
    if kind in ("hash", "set", "numbers"):
        assert sorted(theirs) == sorted(ours)
    else:
        assert theirs == ours


@pytest.mark.parametrize("kind", KINDS)
def test_one_moment(sliced, kind):
    """Two elements come and go together, at both ends where there are ends."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling(kind)])
        count = connection.command(COUNTING[kind], "k").value
        with Other(sliced, *PAIRS[kind]):
            dumps = [connection.command("DUMP", "k").value for _ in range(30)]
        counts = set()
        for dump in dumps:
            assert connection.command("RESTORE", "copy", 0, dump, "REPLACE").raw == b"+OK\r\n"
            counts.add(connection.command(COUNTING[kind], "copy").value)
    assert counts <= {count, count + 2}


def test_it_goes_meanwhile(sliced):
    again = [("MULTI",), ("DEL", "k"), *filling("zset"), ("EXEC",)]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling("zset")])
        with Other(sliced, [("DEL", "k")], [("SET", "k", "text")], again):
            dumps = [connection.command("DUMP", "k") for _ in range(60)]
        for dump in dumps:
            if dump.value is not None:
                assert connection.command("RESTORE", "copy", 0, dump.value, "REPLACE").raw == b"+OK\r\n"
                assert connection.command("TYPE", "copy").value in ("zset", "string", b"zset", b"string")


def test_who_goes_before_the_end(sliced):
    """What it has built goes too."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), *filling("hash")])
        memory = used(connection)
        for _ in range(20):
            with sliced.connect() as short:
                short.send(encode("DUMP", "k") * 3)
        time.sleep(0.3)
        assert used(connection) == memory
        assert len(connection.command("DUMP", "k").value) > 8_000


def test_large_values_as_they_are_by_default(start):
    """Of more than one part of a reply."""
    server = start(proactor_threads=2)
    with server.connect() as connection:
        connection.pipeline([("RPUSH", "k", *(f"element:{i}:{j}" for j in range(1000))) for i in range(300)])
        dump = connection.pipeline([("GET", "none"), ("DUMP", "k"), ("LLEN", "k")])
        assert dump[2].value == 300_000 and len(dump[1].value) > 1_000_000
        assert connection.command("RESTORE", "copy", 0, dump[1].value).raw == b"+OK\r\n"
        assert connection.command("LLEN", "copy").value == 300_000
        assert connection.command("LRANGE", "copy", 0, -1).raw == connection.command("LRANGE", "k", 0, -1).raw
        assert connection.command("DEBUG", "DIGEST-VALUE", "k", "copy").value[0] != b"0" * 40
