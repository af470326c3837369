"""Load generators: memtier_benchmark where it is installed, redis-benchmark otherwise.

Both run as a pinned child with 50 connections on random keys out of a loaded range, and both report
the latency of one request as a client sees it (at pipeline 32: of a batch of 32).
"""

import json
import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from . import process

CLIENTS = 50


class GeneratorError(Exception):
    pass


@dataclass
class Load:
    """What the generator saw in one run."""

    throughput: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    generator_cpu_seconds: float


class RedisBenchmark:
    name = "redis-benchmark"
    key_format = b"key:%012d"
    first_key = 0

    def run(self, port, test, pipeline, requests, keys, value_size, cores):
        line = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", test.lower(),
                "-n", str(requests), "-P", str(pipeline), "-c", str(CLIENTS), "-r", str(keys),
                "-d", str(value_size), "--precision", "3"]
        output, cpu = _run(line, cores)
        return parse_redis_benchmark(output, cpu)


def run_command(port, words, pipeline, requests, span, cores):
    """redis-benchmark with one command; each __rand_int__ in it is 12 digits of its own, below span."""
    line = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-n", str(requests), "-P", str(pipeline),
            "-c", str(CLIENTS), "-r", str(span), "-q", *words]
    _run(line, cores)


def parse_redis_benchmark(output, generator_cpu_seconds=0.0):
    """Read the report; the percentile table holds p99.9 only as its neighbour 99.902."""
    text = output.replace("\r", "\n")
    throughput = re.search(r"throughput summary: ([\d.]+) requests per second", text)
    if not throughput:
        raise GeneratorError(f"redis-benchmark gave no summary:\n{text[-500:]}")
    percentiles = text.split("Cumulative distribution")[0]
    lines = re.findall(r"^([\d.]+)% <= ([\d.]+) milliseconds", percentiles, re.MULTILINE)
    table = [(float(percent), float(milliseconds)) for percent, milliseconds in lines]
    summary = re.search(r"avg\s+min\s+p50\s+p95\s+p99\s+max\s*\n\s*([\d. ]+)", text)
    if not table or not summary:
        raise GeneratorError(f"redis-benchmark's report is not understood:\n{text[-500:]}")
    columns = [float(word) for word in summary.group(1).split()]
    p999 = next(milliseconds for percent, milliseconds in table if percent >= 99.9)
    return Load(float(throughput.group(1)), columns[2], columns[4], p999, generator_cpu_seconds)


class Memtier:
    name = "memtier_benchmark"
    key_format = b"key:%d"
    first_key = 1

    def run(self, port, test, pipeline, requests, keys, value_size, cores):
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            line = ["memtier_benchmark", "-s", "127.0.0.1", "-p", str(port), "-t", "1", "-c", str(CLIENTS),
                    "-n", str(max(1, requests // CLIENTS)), f"--pipeline={pipeline}",
                    f"--data-size={value_size}", "--ratio=0:1" if test == "GET" else "--ratio=1:0",
                    "--key-prefix=key:", "--key-minimum=1", f"--key-maximum={keys}", "--key-pattern=R:R",
                    "--hide-histogram",
                    "--print-percentiles=50,99,99.9", f"--json-out-file={report.name}"]
            _, cpu = _run(line, cores)
            with open(report.name) as file:
                return parse_memtier(json.load(file), cpu)


def parse_memtier(report, generator_cpu_seconds=0.0):
    totals = report["ALL STATS"]["Totals"]
    percentiles = totals["Percentile Latencies"]
    return Load(totals["Ops/sec"], percentiles["p50.00"], percentiles["p99.00"], percentiles["p99.90"],
                generator_cpu_seconds)


def find(wanted=None):
    """The generator by name, or the best one installed."""
    known = {generator.name: generator for generator in (Memtier, RedisBenchmark)}
    for name in [wanted] if wanted else known:
        if name in known and shutil.which(name):
            return known[name]()
    raise GeneratorError(f"no load generator found: {wanted or ' or '.join(known)}")


def _run(line, cores):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with process.pinned(cores):
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        ending = done.stdout[-500:] + done.stderr[-500:]
        raise GeneratorError(f"{line[0]} ended with status {done.returncode}:\n{ending}")
    errors = [text for text in done.stderr.splitlines() if "error" in text.lower()]
    if errors:
        raise GeneratorError(f"{line[0]}: {errors[0]}")
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
