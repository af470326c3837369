"""A real process: start-up log, admin endpoint, clean end on SIGTERM, one GIL count."""

import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(400):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens on port {port}")


@pytest.fixture
def process(tmp_path):
    port, admin = free_port(), free_port()
    running = subprocess.Popen(
        [sys.executable, "-m", "dfly", "--save", "", "--port", str(port), "--admin_port", str(admin),
         "--proactor_threads", "2", "--pidfile", str(tmp_path / "pid"), "--dir", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(port)
    wait_for(admin)
    yield running, port, admin, tmp_path
    if running.poll() is None:
        running.kill()
    running.wait()


def ask(port, request):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        reply = b""
        while chunk := client.recv(1 << 20):
            reply += chunk
        return reply


def test_admin_endpoint_and_clean_end(process):
    running, port, admin, folder = process
    ask(port, b"SET a 1\r\nGET a\r\n")
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/healthz", timeout=10) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'dfly_commands_total{cmd="get"} 1' in text and 'dfly_db_keys{db="db0"} 1' in text
    assert int((folder / "pid").read_text()) == running.pid
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate(timeout=20)
    assert running.returncode == 0
    for word in ("shard threads", "backend", "memory limit", "listening on 127.0.0.1"):
        assert word in output
    assert not (folder / "pid").exists()


def test_the_data_path_never_takes_the_gil(process):
    _, port, _, _ = process
    replies = ask(port, b"SET a 1\r\n" + b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n" * 100_000)
    assert len(replies) == 5 + 7 * 100_000
    info = ask(port, b"INFO stats\r\n").decode()
    assert "gil_acquisitions_data_plane:0\r\n" in info
    assert "fiber_phases:0\r\n" in info and "fiber_switches:0\r\n" in info
    assert "keyspace_hits:100000\r\n" in info
