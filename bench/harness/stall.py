"""The longest stall of any reply while a table grows.

One thread drives a few pipelined connections that insert new keys, and a probe that reads one known key
every millisecond. A reply's time runs from just before its request is handed to the kernel to the moment
the kernel received the reply's last byte (SO_TIMESTAMPNS), so time that this process spends building
commands or waiting for its core is not in it.
"""

import selectors
import socket
import time

from . import process
from .wire import ReplyError, encode

CONNECTIONS = 8
DEPTH = 32
PROBE_INTERVAL_NS = 1_000_000
WINDOWS = 20
INSERT = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$16\r\nv%015d\r\n"


class Channel:
    """A connection with one request (of one or many commands) under way."""

    def __init__(self, port, is_probe):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        process.stamp_arrivals(self.socket)
        self.is_probe = is_probe
        self.sent_ns = 0
        self.expected = b""
        self.received = b""

    def send(self, request, expected):
        self.expected = expected
        self.received = b""
        self.sent_ns = time.time_ns()
        self.socket.sendall(request)

    def receive(self):
        """The reply's time in ns once it is complete, None before."""
        data, arrived = process.receive_stamped(self.socket)
        if not data:
            raise ConnectionResetError("the server closed a connection")
        self.received += data
        if len(self.received) < len(self.expected) and not self.received.startswith(b"-"):
            return None
        if self.received != self.expected:
            raise ReplyError(f"not the expected reply: {self.received[:120]!r}")
        return arrived - self.sent_ns


def insert_and_watch(server, count):
    """Insert `count` keys; what the replies' times were, with the machine's own share beside it."""
    channels = [Channel(server.port, False) for _ in range(CONNECTIONS)]
    probe = Channel(server.port, True)
    selector = selectors.DefaultSelector()
    for channel in [*channels, probe]:
        selector.register(channel.socket, selectors.EVENT_READ, channel)
    probe.send(encode("SET", "probe", "here"), b"+OK\r\n")
    waits = [], []
    worst = [0] * WINDOWS
    state = {"next": 0, "done": 0}
    began, stolen = time.monotonic(), process.stolen_seconds()
    queued = process.run_queue_wait_seconds(server.pid)
    for channel in channels:
        _insert_next(channel, state, count)
    probe_request, probe_reply = encode("GET", "probe"), b"$4\r\nhere\r\n"
    probe_due = 0
    probing = True
    while state["done"] < count:
        for key, _ in selector.select(0.0005):
            channel = key.data
            took = channel.receive()
            if took is None:
                continue
            waits[channel.is_probe].append(took)
            if channel.is_probe:
                probing = False
            else:
                state["done"] += len(channel.expected) // 5
                _insert_next(channel, state, count)
            window = min(state["done"] * WINDOWS // count, WINDOWS - 1)
            worst[window] = max(worst[window], took)
        if not probing and time.time_ns() >= probe_due:
            probe_due = time.time_ns() + PROBE_INTERVAL_NS
            probing = True
            probe.send(probe_request, probe_reply)
    seconds = time.monotonic() - began
    for channel in [*channels, probe]:
        channel.socket.close()
    selector.close()
    return _summary(waits, worst, seconds, {
        "stolen_ms": (process.stolen_seconds() - stolen) * 1e3,
        "run_queue_wait_ms": (process.run_queue_wait_seconds(server.pid) - queued) * 1e3,
    })


def recurring_ms(runs):
    """The longest stall that came in every run at the same size of the table.

    A stall that growth causes comes at the same sizes each time; one that the machine causes does not.
    """
    return max(min(took) for took in zip(*(run["worst_by_window_ms"] for run in runs)))


def empty_loop_hiccup_ms(core, seconds=3.0):
    """The longest gap in an empty loop on this core: what the machine alone does to a delay."""
    longest = 0
    with process.pinned([core]):
        last = time.monotonic_ns()
        end = last + int(seconds * 1e9)
        while last < end:
            now = time.monotonic_ns()
            longest = max(longest, now - last)
            last = now
    return longest / 1e6


def _insert_next(channel, state, count):
    first = state["next"]
    last = min(first + DEPTH, count)
    if first == last:
        return
    state["next"] = last
    numbers = [number for index in range(first, last) for number in (index, index)]
    channel.send(INSERT * (last - first) % tuple(numbers), b"+OK\r\n" * (last - first))


def _summary(waits, worst, seconds, noise):
    inserts, probes = sorted(waits[0]), sorted(waits[1])
    return {
        "worst_ms": max(inserts[-1], probes[-1]) / 1e6,
        "probe_worst_ms": probes[-1] / 1e6,
        "probe_p99_ms": probes[len(probes) * 99 // 100] / 1e6,
        "probes": len(probes),
        "seconds": seconds,
        "worst_by_window_ms": [took / 1e6 for took in worst],
        **noise,
    }
