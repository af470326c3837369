"""The proactor over both backends: an echo server in a thread, driven by plain sockets."""

import contextlib
import hashlib
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest

from dfly._core.testing import loop_testing

IO_URING, EPOLL = 1, 2


@pytest.fixture(params=[pytest.param(IO_URING, id="io_uring"), pytest.param(EPOLL, id="epoll")])
def backend(request):
    return request.param


@contextlib.contextmanager
def echo_server(backend, family=socket.AF_INET, expect_errors=False, waiting=0, **options):
    """`waiting` clients lie in the listener's queue (server.clients) before the loop takes its first step."""
    with contextlib.ExitStack() as stack:
        if family == socket.AF_UNIX:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            listener = socket.socket(family)
            listener.bind(os.path.join(folder, "echo"))
        else:
            listener = socket.create_server(("127.0.0.1", 0))
        listener.listen(1024)
        listener.setblocking(False)
        address = listener.getsockname()
        clients = [connect(family, address) for _ in range(waiting)]
        server = loop_testing.EchoServer(backend, [listener.detach()], **options)
        assert server.result == 0, server.reason
        assert server.backend == backend
        server.connect = lambda: connect(family, address)
        server.clients = clients
        try:
            yield server
        finally:
            counters = server.stop()
        assert counters["violations"] == 0
        assert counters["opened"] == counters["closed"]
        if not expect_errors:
            assert counters["closed_with_error"] == 0, counters


def connect(family, address):
    client = socket.socket(family)
    client.settimeout(10)
    client.connect(address)
    return client


def receive(client, size):
    parts = []
    while size:
        part = client.recv(min(size, 1 << 20))
        assert part, f"closed with {size} bytes missing"
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_until_end(client):
    parts = []
    while part := client.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def until(condition, timeout=5.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.002)


def round_trip(client, data):
    """Send and receive at the same time; compare."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    got = receive(client, len(data))
    sender.join()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_probe_says_yes_or_why_not():
    result, reason = loop_testing.probe()
    assert reason
    assert result == 0, f"the tests of io_uring need a kernel that has it: {reason}"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_echo_with_random_sizes_and_split_writes(backend, family):
    generator = random.Random(1)
    with echo_server(backend, family) as server:
        clients = [server.connect() for _ in range(10)]
        for _ in range(10):
            for client in clients:
                data = generator.randbytes(generator.choice([1, 2, 100, 5000, 70000]))
                cuts = sorted(generator.randrange(len(data) + 1) for _ in range(3))
                for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    client.sendall(data[start:end])
                assert receive(client, len(data)) == data
        for client in clients:
            client.close()
        until(lambda: server.counters()["closed"] == 10)


def test_large_transfers_on_many_connections_at_once(backend):
    with echo_server(backend) as server:
        clients = [server.connect() for _ in range(4)]
        threads = [threading.Thread(target=round_trip, args=(client, os.urandom(8 << 20)))
                   for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.counters()["bytes_sent"] == 4 * (8 << 20)
        for client in clients:
            client.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_half_closed_peer_still_gets_its_replies(backend, family):
    data = os.urandom(3 << 20)
    with echo_server(backend, family, send_buffer=4096) as server:
        client = server.connect()

        def send():
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert receive_until_end(client) == data
        sender.join()
        client.close()


def test_reset_peers(backend):
    with echo_server(backend, expect_errors=True) as server:
        for size in (0, 1, 100000, 1 << 20):
            client = server.connect()
            if size:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.send(b"x" * size)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        until(lambda: server.counters()["closed"] == 4)
        counters = server.counters()
        assert counters["closed_with_error"] >= 1
        assert counters["last_error"] < 0
        other = server.connect()
        round_trip(other, b"still there")
        other.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_slow_reader_gets_everything_in_order(backend, family):
    # The smallest send buffer: every reply is cut into many short writes.
    data = os.urandom((2 if family == socket.AF_INET else 6) << 20)
    with echo_server(backend, family, send_buffer=1, pause_above=65536) as server:
        client = server.connect()
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        digest = hashlib.sha256()
        generator = random.Random(2)
        missing = len(data)
        while missing:
            part = client.recv(generator.randrange(1, 200000))
            assert part
            missing -= len(part)
            digest.update(part)
            if generator.random() < 0.02:
                time.sleep(0.001)
        sender.join()
        assert digest.digest() == hashlib.sha256(data).digest()
        assert server.counters()["pauses"] > 0
        client.close()


def test_paused_reading_is_back_pressure_and_keeps_what_had_arrived(backend):
    data = os.urandom(300000)
    with echo_server(backend, pause_us=2000) as server:
        clients = [server.connect() for _ in range(5)]
        for client in clients:
            round_trip(client, data)
        assert server.counters()["pauses"] > 5
        for client in clients:
            client.sendall(b"last words")
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            assert receive_until_end(client) == b"last words"
            client.close()


def test_a_paused_reader_takes_no_more_than_the_socket_buffers_hold(backend):
    with echo_server(backend, pause_us=3_000_000) as server:
        client = server.connect()
        client.sendall(b"x")
        until(lambda: server.counters()["pauses"] == 1)
        time.sleep(0.01)
        client.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += client.send(b"y" * 65536)
        time.sleep(0.05)
        assert sent < 64 << 20
        assert server.counters()["bytes_received"] < 200000
        client.close()


def test_shortage_of_receive_buffers_loses_and_reorders_nothing():
    with echo_server(IO_URING, buffer_count=2, buffer_size=64) as server:
        clients = [server.connect() for _ in range(30)]
        payloads = [os.urandom(20000) for _ in clients]
        for client, data in zip(clients, payloads, strict=True):
            client.sendall(data)
        for client, data in zip(clients, payloads, strict=True):
            assert receive(client, len(data)) == data
        assert server.counters()["receive_buffer_shortages"] > 0
        for client in clients:
            client.close()


def test_tiny_buffers_of_epoll():
    with echo_server(EPOLL, buffer_size=64) as server:
        client = server.connect()
        round_trip(client, os.urandom(300000))
        client.close()


def test_full_submission_queue():
    # Clients that wait already are accepted in one go: more receives are due at once than the queue has entries.
    with echo_server(IO_URING, ring_entries=2, waiting=100) as server:
        clients = server.clients
        until(lambda: server.counters()["opened"] == 100)
        for _ in range(3):
            for client in clients:
                client.sendall(b"ping" * 10)
            for client in clients:
                assert receive(client, 40) == b"ping" * 10
        for client in clients:
            client.close()
        until(lambda: server.counters()["closed"] == 100)
        assert server.counters()["submission_overflows"] > 0


def test_full_completion_queue():
    # Two submission entries make eight completion entries; hundreds of completions are due at once.
    with echo_server(IO_URING, ring_entries=2, buffer_count=512, buffer_size=64) as server:
        clients = [server.connect() for _ in range(200)]
        until(lambda: server.counters()["opened"] == 200)
        for _ in range(5):
            for client in clients:
                client.sendall(b"z" * 500)
            for client in clients:
                assert receive(client, 500) == b"z" * 500
        for client in clients:
            client.close()


def test_close_with_a_send_in_flight(backend):
    with echo_server(backend, send_buffer=4096, close_after=500000) as server:
        clients = [server.connect() for _ in range(10)]

        def push(client):
            with contextlib.suppress(OSError):
                client.sendall(b"x" * 600000)

        threads = [threading.Thread(target=push, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        until(lambda: server.counters()["closed"] == 10)
        for client in clients:
            client.close()
        for thread in threads:
            thread.join()


def test_stopping_with_open_connections_and_sends_in_flight(backend):
    with echo_server(backend, send_buffer=4096) as server:
        clients = [server.connect() for _ in range(20)]
        for client in clients:
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(b"x" * 65536)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5
        for client in clients:
            client.close()


def test_a_stream_that_leaves_and_joins_again_loses_nothing(backend):
    generator = random.Random(7)
    with echo_server(backend, leave_after=1000) as server:
        clients = [server.connect() for _ in range(20)]
        for _ in range(40):
            data = [os.urandom(generator.choice((1, 900, 1500, 70000))) for _ in clients]
            for client, part in zip(clients, data):
                # The second half comes while the stream may be away.
                client.sendall(part[:len(part) // 2])
                client.sendall(part[len(part) // 2:])
            for client, part in zip(clients, data):
                received = b""
                while len(received) < len(part):
                    received += client.recv(100000)
                assert received == part
        assert server.counters()["leaves"] > 200
        # The end of the peer may come while it is away, too.
        for client in clients:
            client.sendall(b"x" * 1000)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while part := client.recv(100000):
                received += part
            assert received == b"x" * 1000
            client.close()


def test_closing_and_pausing_while_data_pours_in(backend):
    for options in ({"close_after": 300000}, {"pause_us": 100, "pause_above": 100000}):
        with echo_server(backend, send_buffer=4096, buffer_count=8, buffer_size=4096, **options) as server:
            clients = [server.connect() for _ in range(100)]
            chunk = b"x" * 65536
            for _ in range(20):
                for client in clients:
                    client.setblocking(False)
                    with contextlib.suppress(OSError):
                        client.send(chunk)
            if "close_after" in options:
                until(lambda server=server: server.counters()["closed"] > 90)
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 5
            for client in clients:
                client.close()


def test_stopping_while_data_pours_in(backend):
    # A receive that found data when it was armed is in no list that a cancellation searches.
    generator = random.Random(4)
    for _ in range(12):
        with echo_server(backend, send_buffer=4096) as server:
            clients = [server.connect() for _ in range(20)]
            done = threading.Event()

            def pour(clients=clients, done=done):
                while not done.is_set():
                    for client in clients:
                        with contextlib.suppress(OSError):
                            client.send(b"x" * 16384, socket.MSG_DONTWAIT)

            thread = threading.Thread(target=pour)
            thread.start()
            time.sleep(generator.random() * 0.03)
            server.stop()
            done.set()
            thread.join()
            for client in clients:
                client.close()


def test_thousands_of_connections_opened_and_dropped_at_random(backend):
    generator = random.Random(3)
    with echo_server(backend, expect_errors=True) as server:
        alive = []
        for i in range(2000):
            client = server.connect()
            alive.append(client)
            if generator.random() < 0.5:
                client.sendall(b"n%d" % i)
            if len(alive) > 100 or generator.random() < 0.4:
                victim = alive.pop(generator.randrange(len(alive)))
                if generator.random() < 0.3:
                    victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                victim.close()
        alive[0].settimeout(10)
        alive[0].sendall(b"END")
        got = b""
        while not got.endswith(b"END"):
            got += alive[0].recv(100)
        for client in alive:
            client.close()
        until(lambda: server.counters()["closed"] == 2000)


FD_EXHAUSTION = """
    import resource, socket, sys, time
    from dfly._core.testing import loop_testing
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    listener = socket.create_server(("127.0.0.1", 0)); listener.setblocking(False)
    port = listener.getsockname()[1]
    server = loop_testing.EchoServer(int(sys.argv[1]), [listener.detach()])
    print(port, flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    time.sleep(0.5)
    print(time.process_time() - cpu, server.counters()["accept_errors"], server.counters()["last_error"],
          flush=True)
    sys.stdin.readline()
    print(server.stop()["opened"], flush=True)
"""


def test_running_out_of_descriptors(backend):
    limit = 40
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(FD_EXHAUSTION), str(backend), str(limit)],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        port = int(child.stdout.readline())
        clients = [connect(socket.AF_INET, ("127.0.0.1", port)) for _ in range(limit + 10)]
        for client in clients:
            client.sendall(b"hello")
        child.stdin.write("\n")
        child.stdin.flush()
        cpu, errors, last_error = child.stdout.readline().split()
        assert float(cpu) < 0.1, "spinning on accept"
        assert 1 <= int(errors) <= 10
        assert int(last_error) == -24
        # The first ones are served; when they go, the waiting ones get their turn.
        readable, _, _ = select.select(clients, [], [], 0.5)
        assert 0 < len(readable) < len(clients)
        for client in readable:
            assert receive(client, 5) == b"hello"
            client.close()
        for client in clients:
            if client not in readable:
                assert receive(client, 5) == b"hello"
                client.close()
        child.stdin.write("\n")
        child.stdin.flush()
        assert int(child.stdout.readline()) == limit + 10


def test_idle_is_asleep(backend):
    with echo_server(backend) as server:
        clients = [server.connect() for _ in range(50)]
        round_trip(clients[0], b"warm up")
        until(lambda: server.counters()["opened"] == 50)
        clock = time.pthread_getcpuclockid(server.thread_ident)
        before, ticks = time.clock_gettime(clock), server.counters()["ticks"]
        time.sleep(0.5)
        assert time.clock_gettime(clock) - before < 0.0025
        assert server.counters()["ticks"] == ticks
        for client in clients:
            client.close()


def test_wake_makes_a_sleeper_tick_once(backend):
    with echo_server(backend) as server:
        ticks = server.counters()["ticks"]
        for _ in range(5):
            time.sleep(0.01)
            server.wake()
            until(lambda: server.counters()["ticks"] > ticks)
            ticks = server.counters()["ticks"]
        assert 5 <= server.counters()["wakeups_received"] <= ticks


@pytest.mark.parametrize("balls", [1, 3])
@pytest.mark.parametrize("pair", [(IO_URING, IO_URING), (EPOLL, EPOLL), (IO_URING, EPOLL)])
def test_no_wake_up_is_lost(pair, balls):
    bounces = 3000
    counters = loop_testing.ping_pong(*pair, balls, bounces, spin_limit=30000)
    assert sum(side["messages"] for side in counters) == balls * bounces
    for side in counters:
        assert side["sleeps"] > 0
        assert side["wakeups_sent"] <= side["messages"] + 2


def test_a_listener_serves_tcp_and_unix_at_once(backend, tmp_path):
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "both"))
    unix.listen(100)
    addresses = tcp.getsockname(), unix.getsockname()
    tcp.setblocking(False)
    unix.setblocking(False)
    server = loop_testing.EchoServer(backend, [tcp.detach(), unix.detach()])
    clients = [connect(socket.AF_INET, addresses[0]), connect(socket.AF_UNIX, addresses[1])]
    for client in clients:
        round_trip(client, b"both")
        client.close()
    assert server.stop()["violations"] == 0


def test_no_descriptor_and_no_memory_is_left_behind(backend):
    from dfly._core.sys import alloc

    with echo_server(backend):
        pass
    descriptors, memory = len(os.listdir("/proc/self/fd")), alloc.total_bytes()
    for _ in range(3):
        with echo_server(backend) as server:
            clients = [server.connect() for _ in range(10)]
            for client in clients:
                client.sendall(b"something")
            for client in clients:
                assert receive(client, 9) == b"something"
        for client in clients:
            client.close()
    del server
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert alloc.total_bytes()[1] <= memory[1] + 4096


def test_many_open_descriptors_do_not_matter(backend):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        with echo_server(backend) as server:
            clients = [server.connect() for _ in range(1500)]
            for client in clients:
                client.sendall(b"one of many")
            for client in clients:
                assert receive(client, 11) == b"one of many"
            for client in clients:
                client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
