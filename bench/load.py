"""Loading a snapshot: dfly against redis-server and Valkey on the same RDB file, and from kill -9 to serving.

Redis writes the file (2 M keys of 200 bytes, not compressed). Each server then starts with it, in turn, several
rounds; the file lies in the page cache. Wall seconds are those of the servers' own line "DB loaded from disk", and from
the start of the process to the first command that is answered; CPU seconds are those of the process until then.
"""

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import report, servers
from harness.wire import Connection, ReplyError

HEADERS = ("what", "server", "load, s", "of Redis", "start to serving, s", "CPU, s", "MB/s", "bar")
BAR = 0.6
VALUE_SIZE = 200
START_LIMIT_S = 600.0


def start(name, options, folder, log):
    port = servers.free_port()
    line = servers.command_line(name, port, folder, options.threads, options)
    environment = {**os.environ, "PYTHONPATH": options.dfly_root}
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
                               env=environment)
    return process, port


def wait_until_served(process, port):
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit and process.poll() is None:
        try:
            with Connection(port, timeout=5.0) as client:
                client.command("DBSIZE")
                return
        except (OSError, ReplyError):
            time.sleep(0.005)
    raise SystemExit(f"{process.args[0]} does not serve")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_file(folder, options):
    """By redis-server, since every server reads its files."""
    with tempfile.TemporaryFile() as log:
        process, port = start("redis", options, folder, log)
        try:
            wait_until_served(process, port)
            with Connection(port, timeout=300.0) as client:
                client.command("CONFIG", "SET", "rdbcompression", "no")
                wire_load(port, options.keys)
                client.command("SAVE")
        finally:
            process.kill()
            process.wait()
    return os.path.getsize(os.path.join(folder, "dump.rdb"))


def wire_load(port, keys):
    from harness import wire
    wire.load_keys(port, 0, keys, wire.text_value(VALUE_SIZE))


def measure(name, options, folder):
    """One start of the server: seconds of the load, to serving, of CPU."""
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process, port = start(name, options, folder, log)
        try:
            wait_until_served(process, port)
            serving, cpu = time.monotonic() - started, cpu_seconds(process.pid)
            time.sleep(0.3)
            log.seek(0)
            text = log.read().decode(errors="replace")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    load = float(re.search(r"DB loaded from disk: ([0-9.]+) seconds", text)[1])
    return {"load": load, "serving": serving, "cpu": cpu}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    servers.add_arguments(parser)
    parser.add_argument("--keys", type=int, default=2_000_000)
    parser.add_argument("--threads", type=int, default=2, help="shard threads of dfly")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill-keys", type=int, default=5_000_000, help="keys of the restart after kill -9; 0: none")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-load-") as folder:
        size = write_file(folder, options)
        results = {}
        for number in range(options.rounds):
            for name in servers.chosen(options):
                results.setdefault(name, []).append(measure(name, options, folder))
                print(f"round {number + 1}/{options.rounds}, {name}: {results[name][-1]}", flush=True)
        medians = {name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
                   for name, runs in results.items()}
        for name, row in medians.items():
            ratio = row["load"] / medians["redis"]["load"] if "redis" in medians else 0
            rows.append((f"{options.keys} keys", name, f"{row['load']:.2f}", f"{ratio:.2f}", f"{row['serving']:.2f}",
                         f"{row['cpu']:.2f}", f"{size / 1e6 / row['load']:.0f}",
                         f"{BAR} ({'met' if ratio <= BAR else 'missed'})" if name == "dfly" else ""))
    if options.kill_keys and "dfly" in servers.chosen(options):
        options.keys = options.kill_keys
        with tempfile.TemporaryDirectory(prefix="bench-load-") as folder:
            size = write_file(folder, options)
            row = measure("dfly", options, folder)
            rows.append((f"kill -9, {options.keys} keys", "dfly", f"{row['load']:.2f}", "", f"{row['serving']:.2f}",
                         f"{row['cpu']:.2f}", f"{size / 1e6 / row['load']:.0f}", "reported"))
    print("\n" + report.text_table(HEADERS, rows))
    report.write_json("load", {"environment": report.environment(), "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
