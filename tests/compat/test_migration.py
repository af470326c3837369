"""Connections that move from thread to thread, and how many threads have any."""

import random
import threading
import time

import pytest

from .wire import encode


def stats(connection):
    lines = connection.command("INFO", "stats").value.decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def moved(connection):
    return int(stats(connection)["connections_moved"])


@pytest.fixture
def moving(start):
    """A server whose connections move on every millisecond."""
    return start(proactor_threads=3, conn_io_threads=0, shuffle_connections="yes")


class Client(threading.Thread):
    """Checks every reply it gets; what went wrong is in `error`."""

    def __init__(self, server, number, seconds):
        super().__init__(daemon=True)
        self.random = random.Random(number)
        self.connection = server.connect(protocol=2 + number % 2)
        self.number = number
        self.seconds = seconds
        self.counter = 0
        self.error = None

    def run(self):
        try:
            until = time.monotonic() + self.seconds
            while time.monotonic() < until:
                self.random.choice((self.count, self.pipeline, self.split, self.several, self.transaction, self.wait,
                                    self.block))()
        except BaseException as error:      # noqa: BLE001 - the test asks for it
            self.error = error

    def count(self):
        for _ in range(5):
            self.counter += 1
            assert self.connection.command("INCR", f"count{self.number}").value == self.counter

    def pipeline(self):
        texts = [b"%d-%d" % (self.number, index) for index in range(self.random.choice((2, 100, 700)))]
        self.connection.send(b"".join(encode("ECHO", text) for text in texts))
        for text in texts:
            assert self.connection.read().value == text

    def split(self):
        """One command in several pieces: parts of it are kept while the connection moves."""
        data = encode("ECHO", b"x" * 5000)
        at = self.random.randrange(1, len(data))
        self.connection.send(data[:at])
        time.sleep(self.random.random() * 0.003)
        self.connection.send(data[at:])
        assert self.connection.read().value == b"x" * 5000

    def several(self):
        keys = [f"m{self.number}-{index}" for index in range(6)]
        assert self.connection.command("MSET", *[word for key in keys for word in (key, self.number)]).value == b"OK"
        assert self.connection.command("MGET", *keys).value == [b"%d" % self.number] * 6

    def transaction(self):
        self.connection.command("WATCH", f"count{self.number}")
        self.connection.command("MULTI")
        self.connection.command("INCR", f"count{self.number}")
        self.counter += 1
        assert self.connection.command("EXEC").value == [self.counter]

    def wait(self):
        time.sleep(self.random.random() * 0.005)

    def block(self):
        assert self.connection.command("BLPOP", f"nothing{self.number}", "0.004").raw in (b"*-1\r\n", b"_\r\n")


def test_every_reply_is_right_while_connections_move(moving):
    clients = [Client(moving, number, 3) for number in range(8)]
    with moving.connect() as watcher:
        before = moved(watcher)
        for client in clients:
            client.start()
        while any(client.is_alive() for client in clients):
            # A walk over all threads sees each connection once, wherever it is.
            assert watcher.command("CLIENT", "LIST").value.count(b" laddr=") == 9
        assert [client.error for client in clients] == [None] * 8
        assert moved(watcher) - before > 500


def test_a_client_that_moves_is_found_and_killed(moving):
    with moving.connect() as watcher:
        for _ in range(300):
            client = moving.connect()
            number = client.command("CLIENT", "ID").value
            assert watcher.command("CLIENT", "KILL", "ID", number).value == 1
            assert client.read_until_closed() == b""
            client.close()
        assert watcher.command("CLIENT", "LIST").value.count(b" laddr=") == 1


def test_peers_that_go_while_they_move(moving):
    """Reset or closed at any moment: nothing of them stays."""
    chance = random.Random(1)
    with moving.connect() as watcher:
        for _ in range(60):
            several = [moving.connect() for _ in range(10)]
            time.sleep(chance.random() * 0.004)
            for client in several:
                client.send(encode("PING") if chance.random() < 0.5 else b"*2\r\n$4\r\nECHO")
                client.close()
        until = time.monotonic() + 10
        while watcher.command("CLIENT", "LIST").value.count(b" laddr=") > 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert b"connected_clients:1\r\n" in watcher.command("INFO", "clients").value


def test_state_of_a_connection_moves_with_it(moving):
    with moving.connect(protocol=3) as client:
        client.command("SELECT", "7")
        client.command("CLIENT", "SETNAME", "traveller")
        client.command("CLIENT", "NO-EVICT", "on")
        before = moved(client)
        until = time.monotonic() + 10
        while moved(client) < before + 20:
            assert time.monotonic() < until
            time.sleep(0.002)
        line = client.command("CLIENT", "INFO").value
        assert b" name=traveller " in line and b" db=7 " in line and b" resp=3 " in line and b" flags=e " in line


def test_a_light_load_needs_one_thread(start):
    server = start(proactor_threads=3, conn_io_threads=0, shuffle_connections="no")
    clients = [server.connect() for _ in range(12)]
    for number, client in enumerate(clients):
        client.command("SET", f"key{number}", "1")
    assert stats(clients[0])["connection_threads"] == "1"
    for client in clients:
        client.close()


def test_a_slow_command_spreads_the_others(start):
    server = start(proactor_threads=3, conn_io_threads=0, shuffle_connections="no")
    clients = [server.connect() for _ in range(12)]
    clients[0].command("DEBUG", "SLEEP", "0.05")
    clients[0].command("SETBIT", "big", 8 * 250_000_000, 1)
    until = time.monotonic() + 10
    while moved(clients[0]) < 4:
        assert time.monotonic() < until
        clients[0].command("BITCOUNT", "big")
        time.sleep(0.05)
    assert stats(clients[0])["connection_threads"] == "3"
    assert all(client.command("PING").value == b"PONG" for client in clients)
    for client in clients:
        client.close()


def test_a_fixed_number_of_threads(start):
    server = start(proactor_threads=3, conn_io_threads=2, shuffle_connections="no")
    with server.connect() as client:
        until = time.monotonic() + 10
        while stats(client)["connection_threads"] != "2":
            assert time.monotonic() < until
            time.sleep(0.02)
        client.command("CONFIG", "SET", "conn_io_threads", "1")
        while stats(client)["connection_threads"] != "1":
            assert time.monotonic() < until
            time.sleep(0.02)
        assert client.command("CONFIG", "GET", "conn_io_threads").value == [b"conn_io_threads", b"1"]
