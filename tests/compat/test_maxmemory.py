"""maxmemory: refusal under noeviction, eviction under every other policy."""

import random
import time

import pytest

from .test_server import info_sections

OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
OK = b"+OK\r\n"
VALUE = random.Random(1).randbytes(1000)  # nothing that a server could pack
POLICIES = [
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
]


def used_memory(connection):
    return int(info_sections(connection.command("INFO", "memory"))["Memory"]["used_memory"])


def evicted_keys(connection):
    return int(info_sections(connection.command("INFO", "stats"))["Stats"]["evicted_keys"])


def limit_above_use(connection, extra, policy):
    limit = used_memory(connection) + extra
    assert connection.command("CONFIG", "SET", "maxmemory", limit, "maxmemory-policy", policy) == OK
    return limit


def fill(connection, prefix, begin, end, *options):
    return connection.pipeline([("SET", f"{prefix}:{index}", VALUE, *options) for index in range(begin, end)])


def fill_until_evicted(connection, prefix, count, *options, between=lambda: None):
    """Add keys until so many were evicted, however much a server needs for each."""
    for begin in range(0, 100_000, 250):
        between()
        assert {reply.raw for reply in fill(connection, prefix, begin, begin + 250, *options)} == {OK}
        if evicted_keys(connection) >= count:
            return
    raise AssertionError("nothing is evicted")


@pytest.fixture
def server(start):
    return start()


def test_noeviction_refuses_and_keeps(server):
    """Writes that need memory are refused; reads, deletions and everything stored go on."""
    with server.connect(timeout=30) as connection:
        limit = limit_above_use(connection, 4 << 20, "noeviction")
        stored = 0
        while True:
            # One by one: in a pipeline the shards fill up one after the other.
            (reply,) = fill(connection, "kept", stored, stored + 1)
            if reply != OK:
                assert reply == OOM
                break
            stored += 1
            assert stored < 10_000, "maxmemory is not enforced"
        assert stored > 1000, "4 MB hold at least a thousand values of 1 KB"
        assert used_memory(connection) < limit + (1 << 20)
        assert connection.command("DBSIZE").value == stored
        values = connection.command("MGET", *(f"kept:{index}" for index in range(stored))).value
        assert values == [VALUE] * stored, "nothing is lost"
        refused = [
            ("SET", "a", 1),
            ("MSET", "a", 1, "b", 2),
            ("APPEND", "kept:0", 1),
            ("INCR", "n"),
            ("SETRANGE", "a", 0, 1),
            ("GETSET", "a", 1),
            ("SETBIT", "a", 0, 1),
            ("BITFIELD", "a", "SET", "u8", 0, 1),
            ("COPY", "kept:0", "b"),
            ("BITOP", "NOT", "b", "kept:0"),
            ("SETNX", "a", 1),
            ("MSETNX", "a", 1),
            ("SETEX", "a", 10, 1),
            ("INCRBYFLOAT", "f", 1),
        ]
        assert [reply.raw for reply in connection.pipeline(refused)] == [OOM] * len(refused)
        allowed = [
            ("GET", "kept:0"),
            ("DEL", "kept:1"),
            ("EXPIRE", "kept:2", 100),
            ("RENAME", "kept:3", "moved"),
            ("PERSIST", "kept:2"),
            ("GETDEL", "kept:4"),
            ("PING",),
            ("EXISTS", "kept:5"),
            ("UNLINK", "kept:6"),
        ]
        assert not any(reply.is_error for reply in connection.pipeline(allowed))
        connection.command("DEL", *(f"kept:{index}" for index in range(stored)))
        assert connection.command("SET", "a", 1) == OK
        assert evicted_keys(connection) == 0


def test_refusals_agree_with_redis(start_pair):
    """Over the limit from the start: command by command the same are refused."""
    duel = start_pair()
    for server in duel.servers():
        with server.connect() as connection:
            connection.pipeline([("SET", "a", "1"), ("SET", "b", "text"), ("CONFIG", "SET", "maxmemory", 1)])
    lines = [
        ("SET", "a", 1),
        ("GET", "a"),
        ("SET", "a", 1, "XX"),
        ("DEL", "c"),
        ("GET",),
        ("SET", "a"),
        ("NOSUCH",),
        ("MSET", "a", 1, "b"),
        ("SETNX", "a", 1),
        ("GETEX", "a", "EX", 100),
        ("EXPIRE", "a", 100),
        ("PERSIST", "a"),
        ("RENAME", "a", "c"),
        ("COPY", "c", "d"),
        ("BITCOUNT", "b"),
        ("BITFIELD", "b", "GET", "u8", 0),
        ("BITFIELD_RO", "b", "GET", "u8", 0),
        ("LCS", "b", "b"),
        ("SWAPDB", 0, 1),
        ("SWAPDB", 0, 1),
        ("MOVE", "c", 1),
        ("FLUSHDB",),
    ]
    duel.run(lines, flush=False, walk=False)


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.startswith("allkeys")])
def test_allkeys_policies_make_room(server, policy):
    with server.connect(timeout=30) as connection:
        limit = limit_above_use(connection, 4 << 20, policy)
        for begin in range(0, 12_000, 500):
            assert {reply.raw for reply in fill(connection, "filler", begin, begin + 500)} == {OK}, begin
            assert used_memory(connection) < limit + (1 << 20)
        assert evicted_keys(connection) > 5000
        left = connection.command("DBSIZE").value
        assert 12_000 <= left + evicted_keys(connection) <= 12_100, "INFO's own reply may evict a few more"
        assert left > 2000, "evicts what it must, not more"


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.startswith("volatile")])
def test_volatile_policies_touch_only_keys_with_a_ttl(server, policy):
    with server.connect(timeout=30) as connection:
        limit_above_use(connection, 4 << 20, policy)
        assert {reply.raw for reply in fill(connection, "staying", 0, 1000)} == {OK}
        for begin in range(0, 8000, 500):
            assert {reply.raw for reply in fill(connection, "going", begin, begin + 500, "EX", 5000)} == {OK}
        assert connection.command("EXISTS", *(f"staying:{index}" for index in range(1000))).value == 1000
        assert evicted_keys(connection) > 3000
        connection.command("CONFIG", "SET", "maxmemory", 1)
        assert any(connection.command("SET", "a", 1) == OOM for _ in range(500)), (
            "nothing with a TTL is left to evict"
        )
        assert connection.command("EXISTS", *(f"staying:{index}" for index in range(1000))).value == 1000


@pytest.mark.parametrize("policy", POLICIES)
def test_sticky_keys_stay(server, policy):
    """Whatever the policy takes by: here they are the oldest, least used and soonest to expire."""
    with server.connect(timeout=30) as connection:
        fill(connection, "sticky", 0, 1000, "EX", 1000, "STICK")
        limit_above_use(connection, 3 << 20, policy)
        fill_until_evicted(connection, "going", 3000, "EX", 5000)
        assert connection.command("EXISTS", *(f"sticky:{index}" for index in range(1000))).value == 1000
        connection.command("CONFIG", "SET", "maxmemory", 1)
        for _ in range(100):
            refused = [reply == OOM for reply in fill(connection, "more", 0, 100, "EX", 5000)]
            if all(refused):
                break
        assert all(refused), "nothing else is left to evict"
        assert connection.command("DBSIZE").value == 1000
        assert connection.command("EXISTS", *(f"sticky:{index}" for index in range(1000))).value == 1000


def test_sticky_keys_stay_in_cache_mode(start):
    server = start(cache_mode="true")
    with server.connect(timeout=30) as connection:
        fill(connection, "sticky", 0, 1000, "STICK")
        limit_above_use(connection, 3 << 20, "noeviction")
        fill_until_evicted(connection, "going", 3000)
        assert connection.command("EXISTS", *(f"sticky:{index}" for index in range(1000))).value == 1000


def survivors(connection, prefix, count):
    found = connection.pipeline([("OBJECT", "ENCODING", f"{prefix}:{index}") for index in range(count)])
    return sum(reply.value is not None for reply in found) / count


def test_lru_keeps_what_is_used(server):
    """Keys that are read all the time outlive most of those that are not."""
    with server.connect(timeout=30) as connection:
        connection.command("CONFIG", "SET", "maxmemory-samples", 10)
        limit_above_use(connection, 6 << 20, "allkeys-lru")
        fill(connection, "hot", 0, 500)
        fill(connection, "cold", 0, 2500)
        time.sleep(2.1)  # Redis' clock for this counts seconds
        hot_reads = [("GET", f"hot:{index}") for index in range(500)]
        fill_until_evicted(connection, "fresh", 1800, between=lambda: connection.pipeline(hot_reads))
        hot, cold = survivors(connection, "hot", 500), survivors(connection, "cold", 2500)
        assert hot > 0.8 and cold < 0.5, f"hot {hot:.2f} cold {cold:.2f}"


def test_lfu_keeps_what_is_used_often(server):
    with server.connect(timeout=30) as connection:
        connection.command("CONFIG", "SET", "maxmemory-samples", 10)
        limit_above_use(connection, 6 << 20, "allkeys-lfu")
        fill(connection, "hot", 0, 300)
        for _ in range(60):
            connection.pipeline([("GET", f"hot:{index}") for index in range(300)])
        fill(connection, "cold", 0, 2500)
        fill_until_evicted(connection, "fresh", 1500)
        hot, cold = survivors(connection, "hot", 300), survivors(connection, "cold", 2500)
        assert hot > 0.9 and cold < 0.95, f"hot {hot:.2f} cold {cold:.2f}"
        assert connection.command("OBJECT", "FREQ", "hot:0").value > 5


def test_ttl_evicts_the_soonest(server):
    with server.connect(timeout=30) as connection:
        connection.command("CONFIG", "SET", "maxmemory-samples", 10)
        limit_above_use(connection, 6 << 20, "volatile-ttl")
        fill(connection, "late", 0, 1500, "EX", 100_000)
        fill(connection, "soon", 0, 1500, "EX", 500)
        fill_until_evicted(connection, "later", 1000, "EX", 200_000)
        soon, late = survivors(connection, "soon", 1500), survivors(connection, "late", 1500)
        assert soon < late - 0.3, f"soon {soon:.2f} late {late:.2f}"


def test_object_freq_and_idletime_by_policy(start_pair):
    """FREQ needs an LFU policy and IDLETIME the others; the errors are Redis'."""
    duel = start_pair()
    for policy in ("noeviction", "allkeys-lfu", "volatile-lfu", "allkeys-random", "allkeys-lru"):
        duel.run(
            [
                ("CONFIG", "SET", "maxmemory-policy", policy),
                ("SET", "a", "text"),
                ("OBJECT", "FREQ", "a"),
                ("OBJECT", "IDLETIME", "a"),
                ("OBJECT", "FREQ", "missing"),
                ("OBJECT", "IDLETIME", "missing"),
            ]
        )


def test_used_memory_returns_after_flush(server):
    with server.connect(timeout=60) as connection:
        connection.pipeline([("PING",)] * 100)
        before = used_memory(connection)
        for begin in range(0, 40_000, 2000):
            fill(connection, "filled", begin, begin + 2000)
        full = used_memory(connection)
        assert 40_000_000 < full - before < 60_000_000
        connection.command("FLUSHALL")
        after = used_memory(connection)
        assert after - before < 2 << 20, f"before {before}, full {full}, after {after}"


def test_setting_at_start(start):
    server = start(maxmemory="64mb", maxmemory_policy="allkeys-lru")
    with server.connect() as connection:
        assert connection.command("CONFIG", "GET", "maxmemory").value == [b"maxmemory", b"%d" % (64 << 20)]
        memory = info_sections(connection.command("INFO", "memory"))["Memory"]
        assert (memory["maxmemory"], memory["maxmemory_policy"]) == (str(64 << 20), "allkeys-lru")
        assert memory["maxmemory_human"] == "64.00M"
