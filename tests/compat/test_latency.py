"""LATENCY: events with their history and graph, the doctor, histograms per command, INFO latencystats."""

import re
import time

import pytest

from dfly.latency import cumulative, graph, highest_equivalent_ns, percentile

from .test_server import info_sections
from .wire import encode, pairs_of

OK = b"+OK\r\n"


def sleep(connection, ms):
    assert connection.command("DEBUG", "SLEEP", ms / 1000) == OK


def events(connection):
    return {row[0].decode(): row[1:] for row in connection.command("LATENCY", "LATEST").value}


def test_events(start_pair):
    """Slow commands are sampled as events once a threshold is set."""
    told = []
    for server in start_pair().servers():
        with server.connect() as connection:
            sleep(connection, 15)
            assert events(connection) == {}, "the monitor is off"
            assert connection.command("CONFIG", "SET", "latency-monitor-threshold", 10) == OK
            sleep(connection, 5)
            assert events(connection) == {}, "below the threshold"
            sleep(connection, 30)
            row = events(connection)["command"]
            history = connection.command("LATENCY", "HISTORY", "command").value
            assert row[1] >= 29 and row[2] >= 29 and abs(row[0] - time.time()) < 30
            assert history[-1][1] >= 29
            told.append((len(row), len(history[-1])))
            told[-1] += tuple(connection.command("LATENCY", "HISTORY", each).raw for each in ("COMMAND", "x"))
            for words in (["nosuch"], ["nosuch", "Command", "command"], ["command"], []):
                told[-1] += (connection.command("LATENCY", "RESET", *words).raw,)
            assert events(connection) == {}
            sleep(connection, 12)
            assert events(connection)["command"][2] < 29, "the longest of all is forgotten, too"
    assert told[0] == told[1]


def test_samples_of_one_second_are_one(start_pair):
    for server in start_pair().servers():
        with server.connect() as connection, server.connect() as other:
            connection.command("CONFIG", "SET", "latency-monitor-threshold", 1)
            for ms in (20, 40, 5):
                # Of whichever thread: two connections are on two of them.
                sleep(connection, ms)
                sleep(other, ms + 1)
            history = connection.command("LATENCY", "HISTORY", "command").value
            seconds = [second for second, _ in history]
            assert len(seconds) == len(set(seconds)) <= 3 and sorted(seconds) == seconds
            assert 41 <= max(duration for _, duration in history) < 100


def test_graph_and_doctor(start_pair):
    """Of the oracle's samples dfly would make the oracle's graph; both report in the same words."""
    servers = start_pair().servers()
    for ms in (30, 15, 60, 20):
        for server in servers:
            with server.connect() as connection:
                connection.command("CONFIG", "SET", "latency-monitor-threshold", 12)
                sleep(connection, ms)
                connection.command("CONFIG", "SET", "latency-monitor-threshold", 0)
        time.sleep(1.01)
    shape = re.compile(
        r"Dave, I have observed .*\n\n1\. command: 4 latency spikes \(average \d\dms, mean deviation \d\dms, "
        r"period \d\.\d\d sec\)\. Worst all time event \d\dms\.\n\nI have a few advices for you:\n\n(.*)",
        re.DOTALL,
    )
    advice = []
    for server in servers:
        with server.connect() as connection:
            # In the middle of a second: the oracle's own clock is some milliseconds behind.
            time.sleep((1.3 - time.time() % 1) % 1)
            now = int(time.time())
            shown = connection.command("LATENCY", "GRAPH", "command").value.decode()
            samples = dict(connection.command("LATENCY", "HISTORY", "command").value)
            assert shown == graph("command", events(connection)["command"][2], samples, now), server.kind
            assert len(samples) == 4
            report = connection.command("LATENCY", "DOCTOR").value.decode()
            advice.append(shape.fullmatch(report)[1])
    assert advice[0] == advice[1]


def test_events_of_expiry_and_eviction(start):
    """Each is seen where it happens: the threshold is the lowest, the work large enough for it."""
    server = start(proactor_threads=1)
    with server.connect(timeout=60) as connection:
        connection.command("CONFIG", "SET", "latency-monitor-threshold", 1)
        connection.command("SETRANGE", "large", 60_000_000, "x")
        connection.command("GET", "large")
        assert "fast-command" in events(connection)
        # All due at once, and more than a slice of a millisecond gets through.
        connection.command("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        at = int(time.time() * 1000) + 1500
        connection.pipeline([("SET", f"due:{index}", "v", "PXAT", at) for index in range(100_000)])
        time.sleep(max(0, at / 1000 - time.time()))
        connection.command("DEBUG", "SET-ACTIVE-EXPIRE", 1)
        time.sleep(1)
        assert "expire-cycle" in events(connection)
        stats = info_sections(connection.command("INFO", "stats"))["Stats"]
        assert int(stats["expired_time_cap_reached_count"]) > 5 < int(stats["expire_cycle_cpu_milliseconds"])
        # One eviction looks at 64 keys of each database, one write evicts up to 64 keys.
        for database in range(16):
            connection.pipeline([("SELECT", database), ("DEBUG", "POPULATE", 3000, "key", 1000)])
        connection.command("CONFIG", "SET", "maxmemory-samples", 64)
        connection.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "20mb")
        connection.pipeline([("SET", f"more:{index}", "x") for index in range(200)])
        assert "eviction-cycle" in events(connection)
        stats = info_sections(connection.command("INFO", "stats"))["Stats"]
        assert int(stats["evicted_keys"]) > 1000
        exceeded, exceeding = (int(stats[f"{each}_eviction_exceeded_time"]) for each in ("total", "current"))
        assert exceeded >= exceeding > 0
        connection.command("CONFIG", "SET", "maxmemory", "1gb")
        connection.command("SET", "more", "x")
        stats = info_sections(connection.command("INFO", "stats"))["Stats"]
        assert int(stats["current_eviction_exceeded_time"]) == 0
        assert int(stats["total_eviction_exceeded_time"]) >= exceeded


@pytest.mark.parametrize("protocol", [2, 3])
def test_histogram_shape(start_pair, protocol):
    told = []
    for server in start_pair().servers():
        with server.connect(protocol) as connection:
            connection.pipeline([("SET", "a", 1)] * 10 + [("GET", "a")] * 5 + [("CONFIG", "GET", "port")])
            sleep(connection, 40)
            reply = connection.command("LATENCY", "HISTOGRAM", "set", "GET", "nosuch", "config", "debug")
            shape = []
            for name, row in pairs_of(reply.tree):
                fields = [(key[1], value) for key, value in pairs_of(row)]
                buckets = [(bound[1], count[1]) for bound, count in pairs_of(fields[1][1])]
                assert buckets == sorted(buckets) and buckets[-1][1] == fields[0][1][1]
                shape.append((name, [key for key, _ in fields], fields[0], fields[1][1][0]))
                if name[1] == b"debug":
                    assert buckets == [(67633, 1)]
            told.append(shape)
            connection.command("CONFIG", "RESETSTAT")
            assert not connection.command("LATENCY", "HISTOGRAM", "set", "get").value
            connection.command("CONFIG", "SET", "latency-tracking", "no")
            connection.pipeline([("SET", "a", 1)] * 10)
            assert not connection.command("LATENCY", "HISTOGRAM", "set").value
            assert info_sections(connection.command("INFO", "latencystats"))["Latencystats"] == {}
    assert told[0] == told[1]


def test_histogram_counts_every_call_of_every_thread(start):
    server = start(proactor_threads=3)
    connections = [server.connect() for _index in range(6)]
    for connection in connections:
        connection.pipeline([("SET", f"key:{index}", "x") for index in range(500)])
        connection.pipeline([("MGET", "key:1", "key:2", "key:3")] * 20)
        connection.pipeline([("SET", "key:1")] * 3)
    histograms = connections[0].command("LATENCY", "HISTOGRAM", "set", "mget").value
    assert histograms[0] == b"set" and histograms[1][1] == 3000
    assert histograms[2] == b"mget" and histograms[3][1] == 120
    for connection in connections:
        connection.close()


def test_info_latencystats(start_pair):
    told = []
    for server in start_pair().servers():
        with server.connect() as connection:
            connection.pipeline([("SET", "a", 1)] * 99)
            sleep(connection, 40)
            fields = info_sections(connection.command("INFO", "latencystats"))["Latencystats"]
            stats = {name.removeprefix("latency_percentiles_usec_"): value for name, value in fields.items()}
            pattern = r"p50=(\d+\.\d{3}),p99=(\d+\.\d{3}),p99\.9=(\d+\.\d{3})"
            small, middle, large = map(float, re.fullmatch(pattern, stats["set"]).groups())
            assert 0 < small <= middle <= large < 1_000_000
            assert 40_000 <= float(re.fullmatch(pattern, stats["debug"])[1]) < 60_000
            connection.command("CONFIG", "SET", "latency-tracking-info-percentiles", "0 12.5 100")
            text = info_sections(connection.command("INFO", "all"))["Latencystats"]
            text = text["latency_percentiles_usec_set"]
            low, middle, high = map(
                float, re.fullmatch(r"p0=([\d.]+),p12\.5=([\d.]+),p100=([\d.]+)", text).groups()
            )
            assert low <= middle <= high
            connection.command("CONFIG", "SET", "latency-tracking-info-percentiles", "")
            fields = info_sections(connection.command("INFO", "latencystats"))["Latencystats"]
            told.append(fields["latency_percentiles_usec_set"])
    assert told == ["", ""]


# --- The arithmetic, against Redis' published bounds ---


def test_bounds_are_those_of_redis():
    bounds = [highest_equivalent_ns(1024 << index) // 1000 for index in range(21)]
    assert bounds == [
        1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227, 8454, 16908, 33816, 67633, 135266, 270532,
        541065, 1082130,
    ]  # fmt: skip
    assert cumulative([(0.5, 0.6, 3), (1.5, 1.6, 4), (900.0, 950.0, 5), (9e6, 9.5e6, 1)]) == {
        1: 3, 2: 7, 1056: 12, 1082130: 13,
    }  # fmt: skip


def test_percentiles():
    rows = [(1.0, 2.0, 50), (2.0, 3.0, 49), (100.0, 110.0, 1)]
    assert [percentile(rows, each) for each in (0, 1, 50, 50.6, 99, 99.5, 100)] == [1, 2, 2, 3, 3, 110, 110]
    assert percentile([(9e6, 9.5e6, 1)], 50) == 1e6, "as Redis: one second at most"


def test_graph_of_many_samples_has_two_parts():
    shown = graph("command", 200, {1000 + index: 1 + index % 7 for index in range(100)}, 1100)
    lines = shown.split("\n")
    assert lines[0] == "command - high 7 ms, low 1 ms (all time high 200 ms)"
    assert len(lines[2]) == 80 and lines[10] == "" and len(lines[11]) == 20


def in_stats(connection, field):
    return int(info_sections(connection.command("INFO", "stats"))["Stats"][field])


def test_waiting_for_a_busy_shard_is_seen(start):
    """While one client counts bits for long, transactions over all shards wait for its shard."""
    server = start(proactor_threads=3)
    keys = [f"k{index}" for index in range(20)]
    with server.connect(timeout=60) as slow, server.connect() as other:
        other.command("CONFIG", "SET", "latency-monitor-threshold", 1)
        slow.command("SETBIT", "big", 8 * 200_000_000, 1)
        waiting = 0
        for _ in range(5):
            slow.send(encode("BITCOUNT", "big"))
            time.sleep(0.002)
            other.send(encode("MGET", *keys))
            with server.connect() as third:
                waiting += in_stats(third, "transactions_in_flight")
            slow.read(), other.read()
        assert waiting > 0
        assert "token-wait" in events(other)
        assert in_stats(other, "token_waits") > 0 and in_stats(other, "token_wait_usec") > 1000
        assert in_stats(other, "transactions_in_flight") == 0
