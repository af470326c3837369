"""Peers that misbehave: they come in crowds, vanish, half close, do not read. Nobody else may notice."""

import socket
import struct
import threading
import time

import pytest

from .servers import PRELOAD, wait_until
from .wire import ConnectionLost, ReplyTimeout, encode

PONG = b"+PONG\r\n"


@pytest.fixture
def healthy(subject):
    """The server, and after the test the proof that it still serves."""
    yield subject
    with subject.connect() as connection:
        assert connection.command("PING") == PONG
        assert connection.command("SET", "after", 1) == b"+OK\r\n"


def connected_clients(server):
    with server.connect() as connection:
        for line in connection.command("INFO", "clients").value.decode().splitlines():
            if line.startswith("connected_clients:"):
                return int(line.split(":")[1])
    raise AssertionError("no connected_clients in INFO")


def client_list(server):
    with server.connect() as connection:
        return connection.command("CLIENT", "LIST").value.decode()


def wait_for_clients(server, count, patience=10.0):
    deadline = time.monotonic() + patience
    while (found := connected_clients(server)) > count:
        assert time.monotonic() < deadline, f"{found} connections are still there: {client_list(server)}"
        time.sleep(0.02)


def reset(connection):
    """Close with a RST instead of a FIN."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_ten_thousand_connections_one_after_the_other(healthy):
    begin = time.monotonic()
    for index in range(10_000):
        with healthy.connect() as connection:
            if index % 10 == 0:
                assert connection.command("PING") == PONG
    assert time.monotonic() - begin < 30
    wait_for_clients(healthy, 1)


def test_three_thousand_connections_at_once(start):
    server = start(maxclients=5000)
    connections = []
    try:
        for _ in range(3000):
            connections.append(server.connect(timeout=30))
        for connection in connections:
            connection.send(encode("INCR", "crowd"))
        assert sorted(connection.read().value for connection in connections) == list(range(1, 3001))
        assert connected_clients(server) == 3001
        for connection in connections[::2]:
            reset(connection)
        wait_for_clients(server, 1501)
        assert connections[1].command("GET", "crowd") == b"$4\r\n3000\r\n"
    finally:
        for connection in connections:
            connection.close()
    wait_for_clients(server, 1)


def test_half_closed_peer_gets_its_replies(healthy):
    with healthy.connect() as connection:
        connection.command("SET", "half", "x" * 10_000)
        connection.send(encode("GET", "half") * 100 + encode("MGET", "half", "after") + encode("PING"))
        connection.socket.shutdown(socket.SHUT_WR)
        received = len(connection.read_until_closed())
        # Redis loses what does not fit into the socket's buffer at that moment; we do not.
        assert received > (100 * 10_000 if healthy.kind == "dfly" else 10_000)
    with healthy.connect() as connection:
        connection.send(b"*2\r\n$3\r\nGET\r\n$10\r\nhal")
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.read_until_closed() == b""


def test_half_closed_peer_that_reads_late(start):
    """More replies than the server holds for one connection, and commands that other threads answer."""
    server = start()
    with server.connect(timeout=60) as connection:
        connection.command("SET", "half", "x" * 100_000)
        requests = encode("GET", "half") + encode("MGET", "half", "a", "b", "c")
        connection.send(requests * 300 + encode("INFO", "cpu"))
        connection.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.3)
        received = connection.read_until_closed()
    value = b"$100000\r\n" + b"x" * 100_000 + b"\r\n"
    replies = (value + b"*4\r\n" + value + 3 * b"$-1\r\n") * 300
    in_order = replies.startswith(received[: len(replies)])
    assert received and in_order
    # Redis drops what the socket does not take at the moment of the half close.
    if server.kind == "dfly":
        assert b"used_cpu_sys" in received[len(replies) :]


def test_resetting_peers(healthy):
    """Connections reset with commands in flight, half-sent commands and unread replies."""
    with healthy.connect() as connection:
        connection.command("SET", "large", "x" * 100_000)
    for index in range(300):
        connection = healthy.connect()
        connection.send(
            [
                encode("GET", "large") * 20,
                b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nxy",
                encode("MGET", *["large"] * 5) * 4,
                b"GET large",
            ][index % 4]
        )
        reset(connection)
    wait_for_clients(healthy, 1)


def test_peers_that_vanish_under_load(healthy):
    """Writers keep going while others are reset; the writers lose nothing."""
    stop = threading.Event()

    def vanish():
        while not stop.is_set():
            connection = healthy.connect()
            connection.send(
                encode("MSET", "v:1", 1, "v:2", 2, "v:3", 3) * 50 + encode("MGET", "v:1", "v:2", "v:3") * 50
            )
            reset(connection)

    vandals = [threading.Thread(target=vanish) for _ in range(2)]
    with healthy.connect(timeout=30) as connection:
        connection.command("DEL", "steady")
        for vandal in vandals:
            vandal.start()
        try:
            for _ in range(60):
                replies = connection.pipeline([("INCR", "steady"), ("MGET", "v:1", "v:2", "v:3")] * 50)
                assert all(len(reply.value) == 3 for reply in replies[1::2])
        finally:
            stop.set()
            for vandal in vandals:
                vandal.join()
        assert connection.command("GET", "steady").value == b"3000"
    wait_for_clients(healthy, 1)


def send_without_reading(connection, data, limit, silence=0.5):
    """Send until the server takes no more (or the limit); bytes sent, and whether the server closed."""
    sent = 0
    connection.socket.settimeout(silence)
    try:
        while sent < limit:
            sent += connection.socket.send(data[sent % len(data) :])
    except TimeoutError:
        return sent, False
    except OSError:
        return sent, True
    return sent, False


def test_pipeline_of_a_client_that_does_not_read(start):
    """It is stopped or cut off; its replies do not pile up without bound, and others are served meanwhile."""
    server = start(client_output_buffer_limit="normal 8mb 0 0")
    with server.connect() as admin:
        admin.command("SET", "large", "x" * 10_000)
        before = server.resident_memory()
        with server.connect() as greedy:
            data = encode("GET", "large") * 1000
            send_without_reading(greedy, data, 40 * len(data))
            begin = time.monotonic()
            for index in range(200):
                assert admin.command("INCR", f"other:{index}").value == 1
            assert time.monotonic() - begin < 2
            assert server.resident_memory() - before < 150 << 20
    wait_for_clients(server, 1)


@pytest.mark.parametrize("greedy_commands", [encode("MGET", *["large"] * 40), encode("GET", "large") * 40])
def test_output_buffer_limit_closes(start_pair, greedy_commands):
    """Replies beyond the hard limit close the connection, as in Redis; within it, it is served."""
    for server in start_pair(client_output_buffer_limit="normal 1mb 0 0").servers():
        with server.connect() as admin:
            admin.command("SET", "large", "x" * 500_000)
        with server.connect() as modest:
            assert len(modest.command("GET", "large").value) == 500_000
        with server.connect() as greedy:
            greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            try:
                greedy.send(greedy_commands)
                time.sleep(0.5)
                received, closed = greedy.read_until_silent(2.0)
            except (ConnectionLost, OSError):
                received, closed = b"", True
            assert closed and len(received) < 40 * 500_000, server.kind


def test_slow_reader_gets_everything(healthy):
    """A reader of 50 KB at a time gets all replies, and others do not wait for it."""
    with healthy.connect() as other:
        other.command("SET", "large", "x" * 100_000)
        expected = 100 * (100_000 + len(b"$100000\r\n\r\n"))
        with healthy.connect(timeout=20) as slow:
            slow.send(encode("GET", "large") * 100)
            received, worst = 0, 0.0
            while received < expected:
                data = slow.socket.recv(50_000)
                assert data, "closed while reading slowly"
                received += len(data)
                if received % 7 == 0:
                    begin = time.monotonic()
                    assert other.command("PING") == PONG
                    worst = max(worst, time.monotonic() - begin)
            assert received == expected and worst < 1


def test_slow_sender(healthy):
    """A command that comes in drops is answered when it is whole; others do not wait."""
    data = encode("SET", "drops", "x" * 200)
    with healthy.connect() as slow, healthy.connect() as other:
        for index in range(0, len(data), 10):
            slow.send(data[index : index + 10])
            assert other.command("PING") == PONG
        assert slow.read() == b"+OK\r\n"


def test_huge_pipeline(healthy):
    """Two hundred thousand commands in one go, replies read at the same time."""
    count = 200_000
    with healthy.connect(timeout=60) as connection:
        connection.command("DEL", "huge")
        data = encode("INCR", "huge") * count
        received = connection.exchange(data, count)
        assert [received[index].value for index in (0, 1, count // 2, count - 1)] == [
            1,
            2,
            count // 2 + 1,
            count,
        ]


@pytest.mark.parametrize("arguments", [1, 30000])
def test_large_command_behind_one_that_waits(healthy, arguments):
    """More comes than is kept for a connection that waits, and all that is kept is one command's begin."""
    large = encode("RPUSH", "behind", *["x" * (3_000_000 // arguments)] * arguments)
    with healthy.connect() as connection:
        connection.send(encode("DEL", "behind") + encode("BLPOP", "none", "0.4") + large + encode("PING"))
        assert connection.read() == b":0\r\n"
        assert connection.read() == b"*-1\r\n"
        assert connection.read() == b":%d\r\n" % arguments
        assert connection.read() == PONG
        assert connection.command("DEL", "behind") == b":1\r\n"


def test_unfinished_giant_argument_costs_what_was_sent(start):
    """Announcing 500 MB reserves nothing: memory follows what arrives."""
    server = start()
    with server.connect() as admin:
        before = server.resident_memory()
        connections = [server.connect() for _ in range(50)]
        for connection in connections:
            connection.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500000000\r\n" + b"x" * 1000)
        time.sleep(0.3)
        assert admin.command("PING") == PONG
        assert server.resident_memory() - before < 100 << 20
        for connection in connections:
            connection.close()
    wait_for_clients(server, 1)


def test_crowd_beyond_maxclients(start):
    """More connections than allowed: the rest is refused, and those that are in are served."""
    server = start(maxclients=100)
    inside = []
    for _ in range(90):
        connection = server.connect()
        assert connection.command("PING") == PONG
        inside.append(connection)
    crowd = []
    for _ in range(200):
        try:
            crowd.append(server.connect(timeout=5))
        except OSError:
            break
    for connection in inside:
        assert connection.command("PING") == PONG
    for connection in crowd:
        connection.close()
    for connection in inside[10:]:
        connection.close()
    wait_for_clients(server, 11)
    with server.connect() as connection:
        assert connection.command("PING") == PONG


def test_timeouts_do_not_hide(healthy):
    """The tests above wait with limits: a server that answers nothing is seen as such."""
    with healthy.connect(timeout=0.1) as connection:
        with pytest.raises(ReplyTimeout):
            connection.read()


@pytest.mark.skipif(PRELOAD is not None, reason="a sanitizer keeps what is freed")
def test_free_pages_go_back_to_the_system_when_nothing_happens(start):
    """The allocator itself sees to them only while it is used."""
    server = start(proactor_threads=1)
    with server.connect() as connection:
        connection.pipeline([("SET", f"key:{index}", "x" * 1000) for index in range(50_000)])
        time.sleep(0.5)
        full = server.resident_memory()
        connection.pipeline([("DEL", f"key:{index}") for index in range(50_000)])
        # What has been free for a moment goes at the next quiet one.
        wait_until(lambda: server.resident_memory() < full - (45 << 20))
