"""A small RESP client and a bulk loader on plain sockets.

The benchmarks must not measure their own client, so there is no object layer here: commands are
bytes, replies are parsed by a short recursive reader, and bulk loads count the bytes of replies
that are known beforehand.
"""

import socket
import string
import time


class ReplyError(Exception):
    """An error reply of the server; str() is its text."""


def encode(*arguments):
    """One command as RESP bytes; arguments are bytes, str, int or float."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if not isinstance(argument, bytes):
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


class Connection:
    """A blocking connection. command() raises ReplyError for an error reply; read_reply() returns it."""

    def __init__(self, port, host="127.0.0.1", timeout=30.0):
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.position = 0

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def _fill(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self.buffer = self.buffer[self.position:] + data
        self.position = 0

    def _line(self):
        while True:
            end = self.buffer.find(b"\r\n", self.position)
            if end >= 0:
                line = self.buffer[self.position:end]
                self.position = end + 2
                return line
            self._fill()

    def _bulk(self, size):
        chunks = []
        missing = size + 2
        while True:
            piece = self.buffer[self.position:self.position + missing]
            self.position += len(piece)
            missing -= len(piece)
            chunks.append(piece)
            if not missing:
                return b"".join(chunks)[:-2]
            self._fill()

    def read_reply(self):
        """The next reply; an error reply is returned as a ReplyError, not raised."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind in b"$=":
            return None if rest == b"-1" else self._bulk(int(rest))
        if kind in b"*~>":
            return None if rest == b"-1" else [self.read_reply() for _ in range(int(rest))]
        if kind == b"%":
            return {_hashable(self.read_reply()): self.read_reply() for _ in range(int(rest))}
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        raise ValueError(f"not a RESP reply: {line[:80]!r}")

    def command(self, *arguments):
        self.send(encode(*arguments))
        reply = self.read_reply()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def info(self, section=None):
        text = self.command("INFO", section) if section else self.command("INFO")
        pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        return {name: value.strip() for name, value in pairs}


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value


_ALPHABET = (string.ascii_letters + string.digits + "+/").encode()
# A fixed pool to cut values from: printable, without structure that an encoding could exploit.
_POOL = bytes(_ALPHABET[(i * i * 2654435761 + i * 40503 >> 7) & 63] for i in range(8192))
_BINARY_POOL = bytes((i * i * 2654435761 + i * 40503 >> 9) & 255 for i in range(8192))


def text_value(size):
    """A function index -> printable value of that size."""
    span = len(_POOL) - size
    return lambda index: _POOL[index * 37 % span:][:size]


def binary_value(size):
    span = len(_BINARY_POOL) - size
    return lambda index: _BINARY_POOL[index * 37 % span:][:size]


def integer_value(index):
    """Integers of eight digits: too large for a table of shared small integers."""
    return b"%d" % (10_000_000 + index * 7 % 89_999_999)


def load_keys(port, start, stop, value, key_format=b"key:%012d", expire_at_ms=None, batch=2000):
    """SET keys start..stop-1 through one pipelined connection; returns the seconds it took.

    value is a function index -> bytes; expire_at_ms, if given, a function index -> Unix time in ms.
    At most two batches are under way, so the unread replies stay below any output limit.
    """
    began = time.monotonic()
    with Connection(port) as connection:
        waiting = 0
        received = bytearray()
        for first in range(start, stop, batch):
            last = min(first + batch, stop)
            connection.send(b"".join(_set_command(index, value, key_format, expire_at_ms)
                                     for index in range(first, last)))
            if waiting:
                _expect_ok(connection.socket, waiting, received)
            waiting = last - first
        _expect_ok(connection.socket, waiting, received)
    return time.monotonic() - began


def pump(port, commands, window=16384):
    """Send commands (tuples of words) through one pipelined connection; the first error reply is raised.

    At most two windows of so many bytes are under way: what a server needs for its clients stays small.
    """
    with Connection(port) as connection:
        waiting = 0
        chunk = []
        size = 0
        for words in commands:
            chunk.append(encode(*words))
            size += len(chunk[-1])
            if size >= window:
                connection.send(b"".join(chunk))
                _expect_no_error(connection, waiting)
                waiting = len(chunk)
                chunk = []
                size = 0
        connection.send(b"".join(chunk))
        _expect_no_error(connection, waiting + len(chunk))


def _expect_no_error(connection, count):
    for reply in [connection.read_reply() for _ in range(count)]:
        if isinstance(reply, ReplyError):
            raise reply


def _set_command(index, value, key_format, expire_at_ms):
    key = key_format % index
    data = value(index)
    if expire_at_ms is None:
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(data), data)
    due = b"%d" % expire_at_ms(index)
    return b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$4\r\nPXAT\r\n$%d\r\n%b\r\n" % (
        len(key), key, len(data), data, len(due), due)


def _expect_ok(sock, count, received):
    """Read until `count` replies are there and take them off `received`; anything but +OK raises."""
    size = 5 * count
    while len(received) < size:
        data = sock.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the server closed the loader's connection")
        received += data
        if b"-" in data:
            break
    if received[:size] != b"+OK\r\n" * count:
        raise ReplyError(f"loader: {bytes(received[max(received.find(b'-'), 0):][:120])!r}")
    del received[:size]
