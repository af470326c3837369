"""A real redis-server as the oracle of the protocol: bytes in, bytes out."""

import shutil
import socket
import subprocess
import time

import pytest


class Oracle:
    """Sends raw bytes on a connection of their own and returns all that comes back until it closes."""

    def __init__(self, path):
        self.path = path

    def exchange(self, data, setup=b""):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(self.path)
            if setup:
                client.sendall(setup)
                answer = client.recv(4096)
                assert answer.startswith(b"+OK"), answer
            out = bytearray()
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            except BrokenPipeError:
                pass  # It closed on an error before it had read everything.
            while True:
                try:
                    chunk = client.recv(1 << 20)
                except ConnectionResetError:
                    continue  # Told once; what was sent before is still there.
                if not chunk:
                    break
                out += chunk
            return bytes(out)


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory):
    binary = shutil.which("redis-server")
    assert binary, "redis-server is not installed (Debian: apt-get install redis-server)"
    processes = []

    def start(*options):
        path = str(tmp_path_factory.mktemp("redis") / "redis.sock")
        line = [binary, "--port", "0", "--unixsocket", path, "--save", "", "--logfile", "/dev/null", *options]
        processes.append(subprocess.Popen(line))
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    return Oracle(path)
            time.sleep(0.02)
        raise AssertionError("redis-server does not start")

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def redis(start_redis):
    return start_redis()


@pytest.fixture(scope="session")
def locked_redis(start_redis):
    """One that wants a password."""
    return start_redis("--requirepass", "secret")
