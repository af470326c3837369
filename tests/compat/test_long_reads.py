"""Long replies of one key go in slices, and show one moment all the same: here in slices of one element."""

import threading
import time

import pytest

from .servers import wait_until
from .test_slices import Other, used
from .wire import encode

COUNT = 300
WHOLE = {
    "list": ("LRANGE", "a", 0, -1),
    "hash": ("HGETALL", "a"),
    "set": ("SMEMBERS", "a"),
    "one-set": ("SUNION", "a"),
    "zset": ("ZRANGE", "a", 0, -1),
}
PAIRS = {
    # What adds two elements, and what takes them away again.
    "list": ([("MULTI",), ("LPUSH", "a", "x"), ("RPUSH", "a", "y"), ("EXEC",)],
             [("MULTI",), ("LPOP", "a"), ("RPOP", "a"), ("EXEC",)]),
    "hash": ([("HSET", "a", "x", 1, "y", 2)], [("HDEL", "a", "x", "y")]),
    "set": ([("SADD", "a", "x", "y")], [("SREM", "a", "x", "y")]),
    "one-set": ([("SADD", "a", "x", "y")], [("SREM", "a", "x", "y")]),
    "zset": ([("ZADD", "a", -5, "x", 1_000_000, "y")], [("ZREM", "a", "x", "y")]),
}


def filling(kind, count=COUNT):
    numbers = range(count)
    if kind == "list":
        return ("RPUSH", "a", *(number if number % 3 else f"element:{number}" for number in numbers))
    if kind == "hash":
        return ("HSET", "a", *(word for number in numbers for word in (f"field:{number}", number)))
    if kind == "zset":
        return ("ZADD", "a", *(word for number in numbers for word in (number // 2 / 4, f"member:{number:04d}")))
    return ("SADD", "a", *(f"member:{number}" for number in numbers))



READS = {
    "list": [
        ("LRANGE", "a", 0, -1), ("LRANGE", "a", 5, 250), ("LRANGE", "a", -3, -1), ("LRANGE", "a", 9, 2),
        ("LPOS", "a", 250), ("LPOS", "a", "element:270"), ("LPOS", "a", "element:0", "RANK", -1), ("LPOS", "a", "no"),
        ("LPOS", "a", "no", "COUNT", 0), ("LPOS", "a", 7, "COUNT", 0), ("LPOS", "a", 7, "COUNT", 3, "MAXLEN", 5),
        ("LPOS", "a", 299, "RANK", -1, "COUNT", 2), ("LPOS", "a", "element:0", "MAXLEN", 1),
        ("LPOS", "a", 1, "RANK", 2), ("LPOS", "a", 1, "RANK", -9223372036854775808, "COUNT", 1),
        ("LPOS", "a", 1, "RANK", 0),
    ],
    "hash": [("HGETALL", "a"), ("HKEYS", "a"), ("HVALS", "a")],
    "set": [("SMEMBERS", "a"), ("SINTER", "a"), ("SUNION", "a"), ("SDIFF", "a")],
    "zset": [
        ("ZRANGE", "a", 0, -1), ("ZRANGE", "a", 0, -1, "WITHSCORES"), ("ZRANGE", "a", 3, 70, "REV", "WITHSCORES"),
        ("ZRANGE", "a", 5, "(30", "BYSCORE", "LIMIT", 2, 50, "WITHSCORES"),
        ("ZRANGE", "a", "+inf", "-inf", "BYSCORE", "REV"), ("ZREVRANGE", "a", 0, -1, "WITHSCORES"),
        ("ZRANGEBYSCORE", "a", "-inf", 20, "WITHSCORES"), ("ZREVRANGEBYSCORE", "a", 20, 2),
        ("ZREVRANGE", "a", 290, -1), ("ZRANGE", "a", 299, -1),
    ],
}


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", READS)
def test_as_redis_replies(sliced_duel, kind, protocol, mode):
    """With others before and behind in the pipeline, of the wrong type, of keys that are not there, and in an EXEC."""
    script = [filling(kind), ("SET", "s", 1)]
    for read in READS[kind]:
        other = "LLEN" if kind != "list" else "HLEN"
        script += [("INCR", "n"), read, ("INCR", "n"), (read[0], "none", *read[2:]), (read[0], "s", *read[2:]),
                   (other, "a"), read]
    if mode != "spread" and kind in ("list", "zset"):
        # What has no order is not compared inside of a reply.
        script += [("MULTI",), ("INCR", "n"), *READS[kind], ("INCR", "n"), ("EXEC",), ("GET", "n")]
    sliced_duel.run(script, protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_by_text(sliced_duel, protocol):
    script = [("ZADD", "a", *(word for number in range(COUNT) for word in (0, f"m:{number:04d}")))]
    script += [("ZRANGE", "a", "[m:0010", "(m:0200", "BYLEX"), ("ZRANGE", "a", "+", "-", "BYLEX", "REV", "LIMIT", 1, 9),
               ("ZRANGEBYLEX", "a", "-", "+"), ("ZREVRANGEBYLEX", "a", "+", "[m:0100", "LIMIT", 3, 90)]
    sliced_duel.run(script, protocol)


@pytest.mark.parametrize("kind", WHOLE)
def test_of_one_moment(sliced, kind):
    """Two elements come and go together, at both ends where there are ends."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling(kind)])
        with Other(sliced, *PAIRS[kind]):
            seen = {len(connection.command(*WHOLE[kind]).value) for _ in range(60)}
            inside = connection.pipeline([("GET", "t"), WHOLE[kind], ("SET", "t", 1), WHOLE[kind]])
            queued = connection.pipeline([("MULTI",), WHOLE[kind], WHOLE[kind], ("EXEC",)])[3].value
        factor = 2 if kind == "hash" else 1
        assert seen <= {COUNT * factor, (COUNT + 2) * factor}
        assert len(queued[0]) == len(queued[1])
        assert {len(inside[1].value), len(inside[3].value), len(queued[0])} <= {COUNT * factor, (COUNT + 2) * factor}


@pytest.mark.parametrize("kind", WHOLE)
def test_deleted_meanwhile(sliced, kind):
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        with Other(sliced, [filling(kind)], [("DEL", "a")]):
            seen = {len(connection.command(*WHOLE[kind]).value) for _ in range(60)}
        assert seen <= {0, COUNT * (2 if kind == "hash" else 1)}


@pytest.mark.parametrize("kind", WHOLE)
def test_another_type_meanwhile(sliced, kind):
    with sliced.connect() as connection, sliced.connect() as other:
        for _ in range(10):
            connection.pipeline([("FLUSHALL",), filling(kind)])
            connection.send(encode(*WHOLE[kind]))
            other.command("SET", "a", "text")
            reply = connection.read()
            assert reply.raw.startswith(b"-WRONGTYPE") or len(reply.value) >= COUNT


@pytest.mark.parametrize("kind", WHOLE)
def test_the_key_expires(sliced, kind):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling(kind), ("PEXPIRE", "a", 15)])
        sizes = [len(connection.command(*WHOLE[kind]).value) for _ in range(30)]
        time.sleep(0.02)
        assert set(sizes) <= {0, COUNT * (2 if kind == "hash" else 1)}
        assert len(connection.command(*WHOLE[kind]).value) == 0


def test_a_field_expires(sliced):
    with sliced.connect() as connection:
        due = ("HPEXPIRE", "a", 20, "FIELDS", 2, "field:0", "field:299")
        connection.pipeline([("FLUSHALL",), filling("hash"), due])
        sizes = [len(connection.command("HKEYS", "a").value) for _ in range(20)]
        time.sleep(0.03)
        sizes.append(len(connection.command("HKEYS", "a").value))
        assert set(sizes) <= {COUNT, COUNT - 2}
        assert sizes[-1] == COUNT - 2


@pytest.mark.parametrize("kind", WHOLE)
def test_the_client_goes(sliced, kind):
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), filling(kind)])
        before = used(other)
        for _ in range(20):
            with sliced.connect() as connection:
                connection.send(encode(*WHOLE[kind]) * 3)
        assert len(other.command(*WHOLE[kind]).value) >= COUNT
        assert abs(used(other) - before) < 50_000


def fields(connection, section):
    text = connection.command("INFO", section).value.decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


@pytest.mark.parametrize("kind", WHOLE)
def test_counted_once(sliced, kind):
    name = WHOLE[kind][0]
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling(kind), ("CONFIG", "RESETSTAT"), ("SLOWLOG", "RESET"),
                             ("CONFIG", "SET", "slowlog-log-slower-than", 0)])
        connection.command(*WHOLE[kind])
        connection.command("CONFIG", "SET", "slowlog-log-slower-than", 10_000_000)
        stats = fields(connection, "stats")
        assert (stats["keyspace_hits"], stats["keyspace_misses"]) == ("1", "0")
        assert fields(connection, "commandstats")[f"cmdstat_{name.lower()}"].startswith("calls=1,")
        logged = [entry[3][0] for entry in connection.command("SLOWLOG", "GET", 100).value]
        assert logged.count(name.encode()) == 1


@pytest.mark.parametrize("kind", WHOLE)
def test_shown_once(sliced, kind):
    with sliced.connect() as connection, sliced.connect() as watcher:
        connection.pipeline([("FLUSHALL",), filling(kind)])
        assert watcher.command("MONITOR").raw == b"+OK\r\n"
        connection.pipeline([("PING", "before"), WHOLE[kind], ("PING", "behind")])
        lines = [watcher.read().raw for _ in range(3)]
        assert [line.split(b'"')[1].decode() for line in lines] == ["PING", WHOLE[kind][0], "PING"]


@pytest.mark.parametrize("kind", WHOLE)
def test_silenced(sliced, kind):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling(kind)])
        connection.send(encode("CLIENT", "REPLY", "SKIP") + encode(*WHOLE[kind]) + encode("ECHO", "first"))
        assert connection.read().value == b"first"
        connection.send(encode("CLIENT", "REPLY", "OFF") + encode(*WHOLE[kind]) * 2 + encode("CLIENT", "REPLY", "ON")
                        + encode("ECHO", "second"))
        assert connection.read().raw == b"+OK\r\n"
        assert connection.read().value == b"second"


@pytest.mark.parametrize("kind", WHOLE)
def test_clients_that_cache(sliced, kind):
    with sliced.connect(protocol=3) as connection, sliced.connect() as other:
        other.pipeline([("FLUSHALL",), filling(kind)])
        connection.pipeline([("CLIENT", "TRACKING", "ON", "OPTIN"), ("CLIENT", "CACHING", "YES")])
        assert len(connection.command(*WHOLE[kind]).value) >= COUNT
        for batch in PAIRS[kind]:
            other.pipeline(batch)
        push = connection.read_any().value
        assert push == [b"invalidate", [b"a"]]
        assert connection.command("PING").raw == b"+PONG\r\n"
        # Not told to cache: no further push.
        connection.command(*WHOLE[kind])
        other.pipeline(PAIRS[kind][0])
        assert connection.command("PING").raw == b"+PONG\r\n"


def test_very_long_ones(start):
    """Replies of many parts, in order, behind and before others, while the reader is slow."""
    server = start(proactor_threads=2)
    text = "x" * 200_000
    with server.connect(timeout=60) as connection:
        for first in range(0, 120_000, 10_000):
            connection.command("RPUSH", "a", *(f"element:{number}" for number in range(first, first + 10_000)))
        connection.command("SET", "t", text)
        connection.send(b"".join(encode(*words) for words in [
            ("GET", "t"), ("LRANGE", "a", 0, -1), ("GET", "t"), ("LRANGE", "a", 10, 100_000), ("LLEN", "a")]))
        time.sleep(0.3)
        assert connection.read().value.decode() == text
        assert connection.read().value == [b"element:%d" % number for number in range(120_000)]
        assert connection.read().value.decode() == text
        assert connection.read().value == [b"element:%d" % number for number in range(10, 100_001)]
        assert connection.read().value == 120_000


def test_many_readers(start):
    """On both threads, each with tokens the others want; none is answered with another's reply."""
    server = start(proactor_threads=2, slice_elements=1)
    keys = {f"k{number}": 50 + number for number in range(8)}
    wrong = []
    with server.connect() as connection:
        for key, size in keys.items():
            connection.command("RPUSH", key, *(f"{key}:{number}" for number in range(size)))

    def read(key, size):
        with server.connect() as connection:
            for _ in range(15):
                for reply in connection.pipeline([("LRANGE", key, 0, -1), ("LLEN", key), ("LRANGE", key, 0, -1)])[::2]:
                    if reply.value != [f"{key}:{number}".encode() for number in range(size)]:
                        wrong.append((key, reply.raw[:100]))

    readers = [threading.Thread(target=read, args=item) for item in keys.items()]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert not wrong


# ---- What takes away -------------------------------------------------------------------------------

POPS = {
    "list": [("LPOP", "a", 120), ("RPOP", "a", 130), ("LPOP", "a", 1), ("RPUSH", "a", 1, "x", 2), ("RPOP", "a", 2),
             ("LPOP", "a", 1000), ("LPOP", "a", 3)],
    "zset": [("ZPOPMIN", "a", 120), ("ZPOPMAX", "a", 130), ("ZPOPMIN", "a", 1), ("ZADD", "a", 1, "x", 5, "y"),
             ("ZPOPMAX", "a", 2), ("ZPOPMIN", "a", 1000), ("ZPOPMAX", "a", 3)],
}


@pytest.mark.parametrize("mode", ["single", "pipeline", "spread"])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", POPS)
def test_pops_as_redis_does(sliced_duel, kind, protocol, mode):
    script = []
    for _ in range(2):
        script += [("DEL", "a"), filling(kind)]
        for pop in POPS[kind]:
            script += [pop, ("EXISTS", "a"), (*WHOLE[kind],)]
    script += [filling(kind), ("MULTI",), *POPS[kind], ("EXEC",)]
    sliced_duel.run(script if mode != "spread" else script[:-len(POPS[kind]) - 2], protocol, mode)


@pytest.mark.parametrize("limit", [-1, -5, 1, 7])
def test_long_lists_are_cut_in_two(start_pair, limit):
    """Within blocks and between them."""
    pair = start_pair(list_max_listpack_size=limit)
    with pair.subject.connect() as connection:
        assert connection.command("CONFIG", "SET", "slice-elements", 1).raw == b"+OK\r\n"
    script = [filling("list", 3_000)]
    for count in (1, 2, 7, 8, 300, 511):
        script += [("LPOP", "a", count), ("RPOP", "a", count), ("RPUSH", "a", "t" * 9_000, count), ("LLEN", "a")]
    pair.run([*script, ("LRANGE", "a", 0, -1), ("LPOP", "a", 5_000)])


@pytest.mark.parametrize("kind", POPS)
def test_nothing_is_popped_twice(sliced, kind):
    """Two that pop, and one that adds meanwhile: what comes out is what went in, each once."""
    pop = ("LPOP", "a", 40) if kind == "list" else ("ZPOPMIN", "a", 40)
    taken, lock = [], threading.Lock()
    done = threading.Event()

    def take():
        with sliced.connect() as connection:
            while True:
                was_done = done.is_set()
                members = connection.command(*pop).value or []
                with lock:
                    taken.extend(members if kind == "list" else members[::2])
                if was_done and not members:
                    return

    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        takers = [threading.Thread(target=take) for _ in range(2)]
        for taker in takers:
            taker.start()
        for number in range(2_000):
            connection.command(*(("RPUSH", "a") if kind == "list" else ("ZADD", "a", number)), f"m:{number}")
        done.set()
        for taker in takers:
            taker.join()
    assert sorted(taken) == sorted(b"m:%d" % number for number in range(2_000))


@pytest.mark.parametrize("kind", POPS)
def test_who_pops_goes(sliced, kind):
    """What is popped is gone at once, and its memory too."""
    pop = ("LPOP", "a", COUNT - 1) if kind == "list" else ("ZPOPMIN", "a", COUNT - 1)
    with sliced.connect() as other:
        other.pipeline([("FLUSHALL",), filling(kind)])
        for _ in range(20):
            other.pipeline([("DEL", "a"), filling(kind)])
            with sliced.connect() as connection:
                connection.send(encode(*pop))
            if kind == "list":
                assert other.command("LLEN", "a").value in (0, 1, COUNT)
        deadline = time.monotonic() + 10
        # The one before may have come late, and popped of these.
        while other.command("LLEN" if kind == "list" else "ZCARD", "a").value > 1:
            assert time.monotonic() < deadline
        other.command("FLUSHALL")
        time.sleep(0.1)
        assert used(other) < 100_000


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_whole_set_is_popped(sliced, protocol):
    with sliced.connect(protocol=protocol) as connection:
        connection.command("FLUSHALL")
        for _ in range(5):
            replies = connection.pipeline([filling("set"), ("SPOP", "a", COUNT + 5), ("EXISTS", "a"), ("SCARD", "a")])
            assert replies[1].raw.startswith(b"*300" if protocol == 2 else b"~300")
            assert sorted(replies[1].value) == sorted(b"member:%d" % number for number in range(COUNT))
            assert [reply.value for reply in replies[2:]] == [0, 0]
        time.sleep(0.1)
        assert used(connection) < 100_000


@pytest.mark.parametrize("options", [(), ("REV",)], ids=["forward", "backward"])
def test_a_range_is_stored_as_of_one_moment(sliced, options):
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling("zset")])
        with Other(sliced, *PAIRS["zset"]):
            for _ in range(40):
                stored = connection.command("ZRANGESTORE", "out", "a", 0, -1, *options).value
                members = connection.command("ZRANGE", "out", 0, -1).value
                assert len(members) == stored
                assert (b"x" in members, b"y" in members, stored) in ((True, True, COUNT + 2), (False, False, COUNT))
        connection.command("ZRANGESTORE", "a", "a", 10, 19)
        assert connection.command("ZRANGE", "a", 0, -1).value == [b"member:%04d" % number for number in range(10, 20)]


@pytest.mark.parametrize("count", [20, 100, 200, 290])
@pytest.mark.parametrize("members", ["text", "integers"])
def test_a_part_of_a_set_is_popped(sliced, count, members):
    everything = [b"%d" % number if members == "integers" else b"member:%d" % number for number in range(COUNT)]
    seen = set()
    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        for _ in range(5):
            connection.pipeline([("DEL", "a"), ("SADD", "a", *everything)])
            popped = connection.command("SPOP", "a", count).value
            rest = connection.command("SMEMBERS", "a").value
            assert len(popped) == count
            assert sorted(popped + rest) == sorted(everything)
            seen.add(tuple(sorted(popped)))
        assert len(seen) == 5
        encoding = connection.command("OBJECT", "ENCODING", "a").value
        assert encoding == (b"intset" if members == "integers" else b"listpack" if count == 290 else b"hashtable")
        connection.command("FLUSHALL")
        time.sleep(0.1)
        assert used(connection) < 100_000


def expired(connection):
    fields = connection.command("INFO", "stats").value.decode().split("\r\n")
    return int(dict(line.split(":", 1) for line in fields if ":" in line)["expired_subkeys"])


@pytest.mark.parametrize("count", [20, 150, 290])
def test_deadlines_stay_with_the_members_that_stay(sliced, count):
    with sliced.connect() as connection:
        for _ in range(5):
            connection.pipeline([("FLUSHALL",), ("SADD", "a", *(f"plain:{number}" for number in range(100)))])
            for part in range(3):
                connection.command("SADDEX", "a", 1_000 * (part + 1), *(f"timed:{part}:{i}" for i in range(66)))
            popped = connection.command("SPOP", "a", count).value
            rest = connection.command("SMEMBERS", "a").value
            assert (len(popped), len(set(popped + rest))) == (count, 298)
            for member in rest:
                left = connection.command("FIELDTTL", "a", member).value
                if member.startswith(b"plain"):
                    assert left == -1
                else:
                    due = 1_000 * (int(member.split(b":")[1]) + 1)
                    assert due - 60 < left <= due
        connection.pipeline([("FLUSHALL",), ("CONFIG", "RESETSTAT"), ("SADD", "a", *range(100)),
                             ("SADDEX", "a", 1, *(f"timed:{number}" for number in range(200)))])
        timed = 200 - sum(member.startswith(b"timed") for member in connection.command("SPOP", "a", 40).value)
        # No command looks it up: the timer knows of it.
        wait_until(lambda: expired(connection) == timed)
        assert connection.command("SCARD", "a").value == 60 + 200 - timed


def test_no_member_is_popped_twice(sliced):
    """While others pop, add, and take the key away."""
    taken, lock, done = [], threading.Lock(), threading.Event()

    def take():
        with sliced.connect() as connection:
            while True:
                was_done = done.is_set()
                members = connection.command("SPOP", "a", 40).value
                with lock:
                    taken.extend(members)
                if was_done and not members:
                    return

    with sliced.connect() as connection:
        connection.command("FLUSHALL")
        takers = [threading.Thread(target=take) for _ in range(2)]
        for taker in takers:
            taker.start()
        for number in range(2_000):
            connection.command("SADD", "a", f"m:{number}")
            if number % 100 == 0:
                connection.pipeline([("RENAME", "a", "b"), ("RENAME", "b", "a")])
        done.set()
        for taker in takers:
            taker.join()
        connection.command("RENAME", "b", "a")
        taken += connection.command("SMEMBERS", "a").value
    assert sorted(taken) == sorted(b"m:%d" % number for number in range(2_000))


def test_the_limit_of_output(start):
    """A long reply that is above it closes the connection, with no further command."""
    server = start(slice_elements=100)
    with server.connect() as connection, server.connect() as other:
        connection.command("RPUSH", "a", *(f"element:{number}" for number in range(50_000)))
        other.command("CONFIG", "SET", "client-output-buffer-limit", "normal 200000 0 0")
        connection.send(encode("LRANGE", "a", 0, -1))
        assert len(connection.read_until_closed()) < 700_000
        assert other.command("LLEN", "a").value == 50_000
        other.command("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")
        assert len(other.command("LRANGE", "a", 0, -1).value) == 50_000


# ---- What is drawn -------------------------------------------------------------------------------

RANDOM = {"hash": "HRANDFIELD", "set": "SRANDMEMBER", "zset": "ZRANDMEMBER"}


@pytest.mark.parametrize("count", [2, 20, 90, 110, 250, 299, 300, 1_000, -2, -40, -700])
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", RANDOM)
def test_random_members(sliced, kind, protocol, count):
    """Selected in a walk, drawn one by one, all, or with repetitions."""
    with sliced.connect(protocol=protocol) as connection:
        connection.pipeline([("FLUSHALL",), filling(kind)])
        everything = set(connection.command(*WHOLE[kind]).value[::2] if protocol == 2 and kind == "hash"
                         else connection.command(*WHOLE[kind]).value)
        draws = []
        for _ in range(4):
            reply = connection.command(RANDOM[kind], "a", count)
            assert reply.raw.startswith(b"*%d\r\n" % (-count if count < 0 else min(count, COUNT)))
            assert set(reply.value) <= everything
            if count > 0:
                assert len(set(reply.value)) == min(count, COUNT)
            draws.append(tuple(sorted(reply.value)))
        assert len(set(draws)) > 1 or count >= COUNT or count == 299 or abs(count) == 2
        draw = (RANDOM[kind], "a", count)
        replies = connection.pipeline([("INCR", "n"), draw, ("INCR", "n"), (RANDOM[kind], "none", 9), ("SET", "s", 1),
                                       (RANDOM[kind], "s", 9), ("MULTI",), draw, ("EXEC",)])
        assert (replies[0].value, replies[2].value) == (1, 2)
        assert replies[3].value == [] and replies[5].raw.startswith(b"-WRONGTYPE")
        assert len(replies[8].value[0]) == (-count if count < 0 else min(count, COUNT))


@pytest.mark.parametrize("count", [60, 200, -200])
@pytest.mark.parametrize("protocol", [2, 3])
def test_random_members_with_what_is_theirs(sliced, protocol, count):
    with sliced.connect(protocol=protocol) as connection:
        connection.pipeline([("FLUSHALL",), filling("hash")])
        found = connection.command("HRANDFIELD", "a", count, "WITHVALUES").value
        pairs = [tuple(pair) for pair in found] if protocol == 3 else list(zip(found[::2], found[1::2], strict=True))
        assert len(pairs) == abs(count)
        assert all(field == b"field:" + value for field, value in pairs)
        connection.pipeline([("FLUSHALL",), filling("zset")])
        found = connection.command("ZRANDMEMBER", "a", count, "WITHSCORES").value
        pairs = [tuple(pair) for pair in found] if protocol == 3 else list(zip(found[::2], found[1::2], strict=True))
        assert len(pairs) == abs(count)
        assert all(float(score) == int(member[7:]) // 2 / 4 for member, score in pairs)


@pytest.mark.parametrize("kind", RANDOM)
def test_random_members_while_others_change_it(sliced, kind):
    """Drawn ones are dropped with what had been taken of them."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling(kind)])
        before = used(connection)
        with Other(sliced, *PAIRS[kind]):
            for count in (60, 200, -200) * 12:
                members = connection.command(RANDOM[kind], "a", count).value
                assert len(members) == abs(count) and (count < 0 or len(set(members)) == count)
        connection.pipeline(PAIRS[kind][1])
        assert used(connection) - before < 50_000


@pytest.mark.parametrize("kind", RANDOM)
def test_every_member_is_as_likely(sliced, kind):
    """Of 60 drawn or 150 selected out of 300: each is expected in a fifth, or half, of the replies."""
    with sliced.connect() as connection:
        connection.pipeline([("FLUSHALL",), filling(kind)])
        for count, rounds in ((60, 200), (150, 80)):
            times = {}
            for _ in range(rounds):
                for member in connection.command(RANDOM[kind], "a", count).value:
                    times[member] = times.get(member, 0) + 1
            assert len(times) == COUNT
            expected = rounds * count / COUNT
            # Chi-square over 299 degrees of freedom, scaled by the variance of draws without replacement: 6 sigma.
            spread = sum((seen - expected) ** 2 for seen in times.values()) / (expected * (1 - count / COUNT))
            assert spread < 299 + 6 * (2 * 299) ** 0.5
