"""DUMP and RESTORE: payloads go from dfly to Redis and Valkey and back, for every type and encoding."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import FAR, bad_integers, command, examples, keys, modes, often, options, protocols, sequences
from .differential import VALUE_COMMANDS, Duel
from .party import play
from .scripts import run_scripts
from .servers import SUBJECT, Server

NOISE = random.Random(5).randbytes(3000)
NUMBERS = [-70000, -1, 0, 12, 13, 127, 128, 4095, 4096, 40000, 2**31, 2**40, -(2**63), 2**63 - 1]

# What makes the value of the key "k".
VALUES = {
    "empty string": [("SET", "k", "")],
    "short string": [("SET", "k", "hello")],
    "packed string": [("SET", "k", "a" * 17)],
    "compressed string": [("SET", "k", "abc" * 1000)],
    "noise": [("SET", "k", NOISE)],
    "edited string": [("SET", "k", "hello"), ("APPEND", "k", " world")],
    **{f"integer {number}": [("SET", "k", number)] for number in NUMBERS},
    "list": [("RPUSH", "k", "a", "", "b" * 100, *NUMBERS)],
    "long list": [("RPUSH", "k", *range(3000)), ("LPUSH", "k", *["word %d" % i for i in range(500)])],
    "integer set": [("SADD", "k", *range(-5, 90, 3), 70000, 2**40)],
    "small integer set": [("SADD", "k", 1, 2, 3)],
    "large set of numbers": [("SADD", "k", *range(0, 3000, 3))],
    "small set": [("SADD", "k", "a", "", "b" * 60, *NUMBERS)],
    "set": [("SADD", "k", *("member %d" % i for i in range(700)), NOISE, 5, "")],
    "small hash": [("HSET", "k", "f", "v", "", "", "12", 34, "x" * 60, -1)],
    "hash": [("HSET", "k", *("%s %d" % (word, i) for i in range(600) for word in ("field", "value")))],
    "hash of large values": [("HSET", "k", "f", NOISE * 5, "g", "1", "h" * 70, "12345678901234567890")],
    "small sorted set": [("ZADD", "k", 1, "a", 1, "", -2.5, "b", "inf", "c", 3, 12, "1e300", "d", "0.1", "e")],
    "sorted set": [("ZADD", "k", *(word for i in range(500) for word in (i % 7 + 0.1, "member %d" % i)))],
    "sorted set of long members": [("ZADD", "k", 1, NOISE, "-inf", "x" * 65, -0.0, "zero")],
    "stream": [("XADD", "k", "%d-%d" % (i // 3 + 1, i % 3), "name", "n%d" % i, "value", i) for i in range(250)],
    "stream of other fields": [("XADD", "k", "1-1", "a", "b"), ("XADD", "k", "1-2", "c", NOISE),
                               ("XADD", "k", "5-0", "a", "")],
    "stream with groups": [
        *(("XADD", "k", "%d-1" % i, "f", i) for i in range(1, 30)), ("XDEL", "k", "3-1", "29-1"),
        ("XGROUP", "CREATE", "k", "g", 0), ("XGROUP", "CREATE", "k", "h", "5-1", "ENTRIESREAD", 5),
        ("XREADGROUP", "GROUP", "g", "ann", "COUNT", 5, "STREAMS", "k", ">"),
        ("XREADGROUP", "GROUP", "g", "bob", "COUNT", 5, "STREAMS", "k", ">"), ("XACK", "k", "g", "2-1"),
        ("XGROUP", "CREATECONSUMER", "k", "h", "idle"),
    ],
    "empty stream": [("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")],
    "emptied stream": [("XADD", "k", "1-1", "a", "b"), ("XADD", "k", "2-1", "a", "b"), ("XTRIM", "k", "MAXLEN", 0)],
    "list of large elements": [("RPUSH", "k", "x" * 9000, NOISE * 5, "y", "z" * 70000)],
}

OTHER_ENCODINGS = ("edited string", "small set")        # docs/differences.md


def written_for_redis(slicing):
    """Options of dfly: it writes what Redis 7.0 reads."""
    return {"rdb_version": 10, **slicing} if SUBJECT == "dfly" else {}


SLICINGS = {"params": [{}, {"slice_elements": 1}], "ids": ["as it is", "in slices of one"]}


@pytest.fixture(scope="module", **SLICINGS)
def trio(request):
    """dfly, Redis and Valkey."""
    options = written_for_redis(request.param)
    with Server(SUBJECT, **options) as subject, Server("redis") as redis, Server("valkey") as valkey:
        yield subject, redis, valkey


def make(connection, lines, key="k"):
    connection.command("DEL", key)
    for line in lines:
        reply = connection.command(*(key if word == "k" else word for word in line))
        assert not reply.is_error, (line, reply)


def contents(connection, key):
    """Type and value, without an order where there is none."""
    kind = connection.command("TYPE", key).value
    name, *rest = VALUE_COMMANDS[kind]
    value = connection.command(name, key, *rest).value
    if kind == b"set":
        value = sorted(value)
    if kind == b"zset":
        # Valkey writes 0.1 where Redis writes 0.10000000000000001.
        value = [(member, float(score)) for member, score in zip(value[::2], value[1::2], strict=True)]
    if kind == b"hash":
        value = sorted(zip(value[::2], value[1::2], strict=True))
    return kind, value


@pytest.mark.parametrize("name", VALUES)
def test_payloads_are_understood_by_all(trio, name):
    connections = [server.connect() for server in trio]
    dfly, redis, valkey = connections
    for connection in connections:
        make(connection, VALUES[name])
    expected = contents(redis, "k")
    digest = redis.command("DEBUG", "DIGEST-VALUE", "k").value
    for writer in connections:
        payload = writer.command("DUMP", "k").value
        for reader in connections:
            if writer is valkey and reader is redis:
                continue  # a version that it does not know
            assert reader.command("RESTORE", "copy", 0, payload, "REPLACE").raw == b"+OK\r\n"
            assert contents(reader, "copy") == expected
            if reader is dfly:
                assert reader.command("DEBUG", "DIGEST-VALUE", "copy").value == digest
                assert (reader.command("OBJECT", "ENCODING", "copy").value
                        == redis.command("OBJECT", "ENCODING", "k").value) or name in OTHER_ENCODINGS
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("name", [name for name in VALUES if "integer" in name or "short" in name])
def test_payloads_are_the_same_bytes(trio, name):
    with trio[0].connect() as dfly, trio[1].connect() as redis:
        make(dfly, VALUES[name])
        make(redis, VALUES[name])
        assert dfly.command("DUMP", "k").raw == redis.command("DUMP", "k").raw


@pytest.mark.parametrize("version", [9, 10, 11, 12])
def test_versions(trio, start, version):
    """What a version cannot express is written in an older form."""
    with start(rdb_version=version).connect() as dfly, trio[1].connect() as redis:
        for name, lines in VALUES.items():
            make(dfly, lines)
            payload = dfly.command("DUMP", "k").value
            assert payload[-10:-8] == bytes([version, 0])
            reply = redis.command("RESTORE", "k", 0, payload, "REPLACE")
            if version <= 10:
                assert reply.raw == b"+OK\r\n", name
                assert contents(redis, "k") == contents(dfly, "k")
            else:
                assert reply.is_error


@pytest.mark.parametrize("fields", [3, 700])
def test_deadlines_of_fields(trio, fields):
    """From Valkey's form and from the one of Redis 7.4; fields that are due do not come back."""
    names = ["field %d" % number for number in range(fields)]
    lines = [("HSET", "k", *(word for name in names for word in (name, "v"))),
             ("HPEXPIREAT", "k", FAR * 1000, "FIELDS", 1, names[0]),
             ("HPEXPIREAT", "k", FAR * 1000 + 5, "FIELDS", 1, names[1])]
    with trio[0].connect() as dfly, trio[2].connect() as valkey:
        for writer in (dfly, valkey):
            make(writer, lines)
            payload = writer.command("DUMP", "k").value
            assert dfly.command("RESTORE", "copy", 0, payload, "REPLACE").raw == b"+OK\r\n"
            assert contents(dfly, "copy") == contents(writer, "k")
            asked = dfly.command("HPEXPIRETIME", "copy", "FIELDS", 3, *names[:3]).value
            assert asked == [FAR * 1000, FAR * 1000 + 5, -1]
        make(dfly, lines)
        dfly.command("HPEXPIRE", "k", 30, "FIELDS", 1, names[2])
        payload = dfly.command("DUMP", "k").value
        time.sleep(0.05)
        assert dfly.command("RESTORE", "copy", 0, payload, "REPLACE").raw == b"+OK\r\n"
        assert dfly.command("HLEN", "copy").value == fields - 1


# ---- RESTORE's options ---------------------------------------------------------------------------

PAYLOADS = [
    bytes.fromhex("0005 68656c6c6f 0a00 cb0733a3f5e9c4b2"),     # the checksum is wrong
    b"", b"x", b"0123456789", b"01234567890",
]
good_ttls = st.sampled_from([0, 100_000, FAR * 1000, 2**62])
ttls = often(good_ttls, st.one_of(bad_integers, st.just(-1)))
numbers = st.sampled_from([0, 1, 10, 255, 256, -1, 10**9, 2**63 - 1, b"x", b""])
idle_seconds = numbers.filter(lambda number: number != 2**63 - 1)  # Redis' arithmetic overflows there


@pytest.fixture(scope="module")
def payloads(trio):
    """Payloads of Redis, whole and broken."""
    found = list(PAYLOADS)
    with trio[1].connect() as redis:
        for name in ("short string", "integer 128", "list", "sorted set"):
            make(redis, VALUES[name])
            payload = redis.command("DUMP", "k").value
            found += [payload] * 4
            found += [payload[:-1], b"\xff" + payload[1:], payload[:-10] + b"\xff\xff" + payload[-8:]]
    return found


@pytest.fixture(scope="module", **SLICINGS)
def tracked_pair(request):
    """Under a policy that wants them idle times are kept by the key; otherwise keys of one bucket share theirs."""
    with (Server(SUBJECT, maxmemory_policy="allkeys-lru", **written_for_redis(request.param)) as subject,
          Server("redis", maxmemory_policy="allkeys-lru") as redis):
        yield Duel(subject, redis)


@examples(150)
@given(data=st.data(), protocol=protocols, mode=modes)
def test_restore(tracked_pair, payloads, data, protocol, mode):
    choice = options(("IDLETIME", idle_seconds), ("FREQ", numbers), ("REPLACE",), ("ABSTTL",), max_size=3)
    lines = sequences(
        *[command("RESTORE", keys, ttls, st.sampled_from(payloads), choice)] * 4,
        command("SET", keys, st.just("x")),
        command("DEL", keys),
        command("TTL", keys),
        command("OBJECT", st.sampled_from(["IDLETIME", "FREQ"]), keys),
        max_size=25,
    )
    tracked_pair.run(data.draw(lines), protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(trio, protocol):
    run_scripts(Duel(trio[0], trio[1]), "dump", protocol)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "noeviction"])
def test_idle_time_and_frequency(start_pair, policy):
    pair = start_pair(maxmemory_policy=policy)
    with pair.oracle.connect() as redis:
        redis.command("SET", "k", "v")
        payload = redis.command("DUMP", "k").value
    pair.run([("RESTORE", "a", 0, payload, "IDLETIME", 1000), ("OBJECT", "IDLETIME", "a"), ("OBJECT",
                                                                                            "FREQ", "a"),
              ("RESTORE", "b", 0, payload, "FREQ", 77), ("OBJECT", "FREQ", "b"), ("OBJECT", "IDLETIME", "b"),
              ("RESTORE", "c", 0, payload), ("OBJECT", "FREQ", "c")], walk=False)


def test_events(trio):
    with trio[1].connect() as redis:
        redis.command("SET", "k", "v")
        payload = redis.command("DUMP", "k").value
    steps = [("w", "FLUSHALL"), ("w", "CONFIG", "SET", "notify-keyspace-events", "KEAn"),
             ("l", "PSUBSCRIBE", "__key*"),
             *[("w", "RESTORE", *rest) for rest in (
                 ("a", 0, payload), ("a", 0, payload, "REPLACE"), ("a", 100_000, payload, "REPLACE"),
                 ("a", 1, payload, "ABSTTL", "REPLACE"), ("a", 1, payload, "ABSTTL", "REPLACE"), ("a", 0,
                                                                                                  "x"))],
             ("w", "DUMP", "a"), ("w", "DUMP", "b"), ("w", "CONFIG", "SET", "notify-keyspace-events", "")]
    assert play(trio[0], steps, w=2, l=3) == play(trio[1], steps, w=2, l=3)


# ---- Hostile payloads ----------------------------------------------------------------------------

def checksum(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95AC9329AC4BC9B5 if crc & 1 else 0)
    return crc.to_bytes(8, "little")


@pytest.mark.parametrize("name", [name for name in VALUES if "long" not in name and "large" not in name])
def test_mutated_payloads_are_refused_or_loaded(trio, name):
    """The checksum is put right, so that the damage reaches the loader."""
    noise = random.Random(name)
    with trio[0].connect() as dfly:
        make(dfly, VALUES[name])
        body = dfly.command("DUMP", "k").value[:-8]
        lines = []
        for _ in range(60):
            broken = bytearray(body)
            for _ in range(noise.randrange(1, 4)):
                broken[noise.randrange(len(broken) - 2)] = noise.choice([0, 1, 127, 128, 255,
                                                                         noise.randrange(256)])
            if noise.random() < 0.3:
                del broken[noise.randrange(len(broken) - 2):-2]
            lines.append(("RESTORE", "k", 0, bytes(broken) + checksum(broken), "REPLACE"))
            lines += [("DEBUG", "DIGEST-VALUE", "k"), ("DUMP", "k"), ("DEL", "k")]
        replies = dfly.pipeline(lines)
        for restored, digest, dumped in zip(replies[::4], replies[1::4], replies[2::4], strict=True):
            if restored.is_error:
                assert restored.raw in (b"-ERR Bad data format\r\n",
                                        b"-ERR DUMP payload version or checksum are wrong\r\n")
                continue
            # What the damage made of it is a value like any other: it goes out and comes back the same.
            assert dfly.command("RESTORE", "k", 0, dumped.value, "REPLACE").raw == b"+OK\r\n"
            assert dfly.command("DEBUG", "DIGEST-VALUE", "k").raw == digest.raw
            dfly.command("DEL", "k")
        assert dfly.command("PING").raw == b"+PONG\r\n"
