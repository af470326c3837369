"""The measuring tools: what they read, compute and refuse. A wrong tool gives figures that look right."""

import argparse
import importlib.util
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench import compare, figures  # noqa: E402
from bench.harness import generators, lag, process, report, servers, stall, wire  # noqa: E402

REPORT = """\
====== GET ======
  200000 requests completed in 0.18 seconds

Latency by percentile distribution:
0.000% <= 0.487 milliseconds (cumulative count 32)
50.000% <= 1.271 milliseconds (cumulative count 101376)
99.805% <= 2.407 milliseconds (cumulative count 199648)
99.902% <= 2.463 milliseconds (cumulative count 199808)
100.000% <= 2.591 milliseconds (cumulative count 200000)

Cumulative distribution of latencies:
100.000% <= 3.103 milliseconds (cumulative count 200000)

Summary:
  throughput summary: 1098901.12 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        1.282     0.480     1.271     1.735     2.071     2.591
"""


@pytest.fixture(scope="module")
def redis():
    with servers.Server("redis", argparse.Namespace()) as server:
        yield server


def test_report_of_redis_benchmark():
    load = generators.parse_redis_benchmark(REPORT)
    assert (load.throughput, load.p50_ms, load.p99_ms, load.p999_ms) == (1098901.12, 1.271, 2.071, 2.463)


def test_report_that_is_cut_off_is_refused():
    with pytest.raises(generators.GeneratorError):
        generators.parse_redis_benchmark(REPORT[:300])


def test_report_of_memtier():
    totals = {"Ops/sec": 5.5, "Percentile Latencies": {"p50.00": 1.0, "p99.00": 2.0, "p99.90": 3.0}}
    load = generators.parse_memtier({"ALL STATS": {"Totals": totals}})
    assert (load.throughput, load.p50_ms, load.p99_ms, load.p999_ms) == (5.5, 1.0, 2.0, 3.0)


def test_generator_against_a_server(redis):
    cpu = redis.cpu_seconds()
    load = generators.RedisBenchmark().run(redis.port, "SET", 16, 20_000, 1000, 64, process.available_cores())
    assert load.throughput > 1000
    assert 0 < load.p50_ms <= load.p99_ms <= load.p999_ms
    assert load.generator_cpu_seconds > 0
    assert redis.cpu_seconds() > cpu


@pytest.mark.parametrize(("data", "expected"), [
    (b"+OK\r\n", b"OK"), (b":-7\r\n", -7), (b"$-1\r\n", None), (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
    (b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n", [1, [b""]]), (b"%1\r\n+a\r\n#t\r\n", {b"a": True}), (b",1.5\r\n", 1.5),
    (b"_\r\n", None),
])
def test_replies_split_at_every_byte(data, expected):
    for cut in range(len(data)):
        ours, theirs = socket.socketpair()
        connection = wire.Connection.__new__(wire.Connection)
        connection.socket, connection.buffer, connection.position = ours, b"", 0
        with ours, theirs:
            theirs.sendall(data[:cut] if cut else data)
            if cut:
                theirs.sendall(data[cut:])
            assert connection.read_reply() == expected


def test_loader_fills_every_key_and_reports_errors(redis):
    with redis.connect() as connection:
        connection.command("FLUSHALL")
        wire.load_keys(redis.port, 0, 5000, wire.text_value(16), batch=700)
        assert connection.command("DBSIZE") == 5000
        assert len(connection.command("GET", "key:000000004999")) == 16
        connection.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(wire.ReplyError, match="OOM"):
            wire.load_keys(redis.port, 0, 5000, wire.text_value(16))
        connection.command("CONFIG", "SET", "maxmemory", "0")


def test_cpu_clock_agrees_with_the_ticks_of_proc():
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.5)
        exact, ticks = process.cpu_seconds(busy.pid), process.cpu_seconds_by_ticks(busy.pid)
        assert exact > 0.01
        assert ticks - 0.03 <= exact <= ticks + 0.05
    finally:
        busy.kill()
        busy.wait()


def test_schedule_gives_every_key_its_own_time():
    schedule = lag.Schedule(1000, 10, 500.0)
    assert sorted(schedule.key_due(index) for index in range(1000)) == [500_000 + 10 * k for k in range(1000)]


def test_lag_by_count():
    schedule = lag.Schedule(100, 1, 0.0)
    on_time = [((rank + 1) / 100, rank + 1) for rank in range(100)]
    assert lag.count_lags(on_time, schedule)["count_p99_ms"] == pytest.approx(10)
    late = [(2.0, 100)]
    assert lag.count_lags(late, schedule) == {"count_p99_ms": 1990, "count_max_ms": 2000}
    assert lag.count_lags([(0.5, 50)], schedule)["count_p99_ms"] is None


def test_expiry_and_stalls_are_measured(redis):
    measured = lag.measure(redis, 2000, 1.0, patience=5)
    assert measured["events"] == 2000
    assert measured["event_p99_ms"] > 0
    run = stall.insert_and_watch(redis, 20_000)
    assert 0 < run["probe_p99_ms"] <= run["worst_ms"] < 5000


def test_stall_counts_only_when_it_recurs():
    runs = [{"worst_by_window_ms": [1, 9, 2]}, {"worst_by_window_ms": [8, 3, 2]}]
    assert stall.recurring_ms(runs) == 3


def test_verdict_is_by_the_median_ratio_of_each_round():
    case = compare.CASES[0]
    results = {"dfly": [{"cpu_us": 0.7}] * 3, "redis": [{"cpu_us": cost} for cost in (2.0, 2.0, 1.0)],
               "valkey": [{"cpu_us": 1.4}] * 3}
    assert compare.ratio_of(results, "dfly", "redis") == (0.35, 0.35, 0.7)
    assert compare.verdict_of(results, case) == "PASS"
    results["valkey"] = [{"cpu_us": 1.0}] * 3
    assert compare.verdict_of(results, case) == "FAIL"
    assert compare.verdict_of({"redis": results["redis"]}, case) is None


def test_figure_without_a_value_fails_its_bar():
    results = figures.Results()
    results.add("lag", "ms", 100, {"dfly": None})
    results.add("lag", "ms", 100, {"dfly": 100})
    results.add("lag", "ms", 100, {"redis": 2000})
    assert [row["verdict"] for row in results.rows] == ["FAIL", "PASS", ""]


def test_publishing_replaces_only_its_own_section(tmp_path):
    path = tmp_path / "benchmarks.md"
    report.publish_document("compare", "first", path)
    report.publish_document("figures", "second", path)
    report.publish_document("compare", "third", path)
    text = path.read_text()
    assert "first" not in text
    assert text.index("third") < text.index("second")
    readme = tmp_path / "README.md"
    assert not report.publish_readme("bench", "table", readme)
    readme.write_text("a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nz\n")
    assert report.publish_readme("bench", "table", readme)
    assert readme.read_text() == "a\n<!-- bench:begin -->\ntable\n<!-- bench:end -->\nz\n"


def test_soak_model_catches_a_lost_write_and_forgets_after_a_kill():
    specification = importlib.util.spec_from_file_location("soak", ROOT / "tests" / "soak" / "soak.py")
    soak = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(soak)
    model = soak.Model(b"own", random.Random(1))
    model.apply(b"k", lambda old: (b"OK", b"value"), b"OK")
    with pytest.raises(soak.Wrong):
        model.apply(b"k", lambda old: (old, old), None)
    model.values[b"k"] = soak.UNKNOWN
    assert not model.apply(b"k", lambda old: (old, old), None)
