"""A raw client: sends bytes, keeps the exact bytes of every reply.

A reply is a `Reply`: its bytes as they came, and on demand a tree of `(tag, value)` pairs. The tag is the
byte that RESP gives the type, so the tree of a RESP2 and of a RESP3 reply say which of the two was sent.
Nothing is converted or guessed, since the tests compare what servers say, not what a client library makes
of it.
Source: the RESP2 and RESP3 specifications.
"""

import select
import socket
import time

LINE_TAGS = b"+-:_#,("
BLOB_TAGS = b"$=!"
AGGREGATE_TAGS = b"*~>%|"


class ConnectionLost(Exception):
    """The peer closed or reset the connection; `received` is what came before that."""

    def __init__(self, received=b""):
        super().__init__(f"connection closed after {received[:200]!r}")
        self.received = received


class ReplyTimeout(Exception):
    """No complete reply within the time limit."""


class ProtocolViolation(Exception):
    """The server sent bytes that are not RESP."""


class NeedMore(Exception):
    pass


class Reply:
    """One reply: `raw` bytes and, computed when asked for, the `tree`."""

    __slots__ = ("_tree", "raw")

    def __init__(self, raw):
        self.raw = raw
        self._tree = None

    @property
    def tree(self):
        if self._tree is None:
            self._tree, end = parse(self.raw, 0)
            assert end == len(self.raw)
        return self._tree

    @property
    def is_error(self):
        return self.raw[:1] in b"-!"

    @property
    def value(self):
        """The plain Python value, where tags do not matter."""
        return plain(self.tree)

    def __eq__(self, other):
        return self.raw == (other.raw if isinstance(other, Reply) else other)

    def __hash__(self):
        return hash(self.raw)

    def __repr__(self):
        return repr(self.raw)


def encode(*arguments):
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in map(to_bytes, arguments):
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


def to_bytes(argument):
    if isinstance(argument, bytes):
        return argument
    return str(argument).encode()


def find_line(data, start):
    end = data.find(b"\r\n", start)
    if end < 0:
        raise NeedMore
    return bytes(data[start:end]), end + 2


def parse(data, start):
    """The reply tree that begins at `start`, and where it ends. Raises NeedMore."""
    line, position = find_line(data, start)
    tag, rest = line[:1], line[1:]
    if not tag or tag not in LINE_TAGS + BLOB_TAGS + AGGREGATE_TAGS:
        raise ProtocolViolation(bytes(data[start : start + 100]))
    if tag in LINE_TAGS:
        return (tag.decode(), int(rest) if tag == b":" else rest), position
    length = int(rest)
    if length < 0:
        return (tag.decode(), None), position
    if tag in BLOB_TAGS:
        end = position + length
        if len(data) < end + 2:
            raise NeedMore
        if data[end : end + 2] != b"\r\n":
            raise ProtocolViolation(bytes(data[start : end + 2][:200]))
        return (tag.decode(), bytes(data[position:end])), end + 2
    items = []
    for _ in range(length * 2 if tag in b"%|" else length):
        item, position = parse(data, position)
        items.append(item)
    if tag == b"|":  # an attribute belongs to the reply that follows it
        reply, position = parse(data, position)
        return ("|", (items, reply)), position
    if tag == b"%":
        items = list(zip(items[::2], items[1::2], strict=True))
    return (tag.decode(), items), position


def skip(data, position, needed):
    """Where `needed` replies or elements end: the position, and how many are still needed there, 0 if all are complete.

    It builds no tree, and goes on where it was when more has come: replies of a million elements are read in one pass.
    """
    size = len(data)
    while needed:
        end = data.find(b"\r\n", position)
        if end < 0:
            break
        tag = data[position : position + 1]
        behind = end + 2
        if tag in BLOB_TAGS:
            length = int(data[position + 1 : end])
            if length >= 0:
                behind += length + 2
                if size < behind:
                    break
                if data[behind - 2 : behind] != b"\r\n":
                    raise ProtocolViolation(bytes(data[position:behind][:200]))
        elif tag in AGGREGATE_TAGS:
            length = max(int(data[position + 1 : end]), 0)
            # An attribute belongs to the reply that follows it.
            needed += (2 * length if tag in b"%|" else length) + (tag == b"|")
        elif tag not in LINE_TAGS:
            raise ProtocolViolation(bytes(data[position : position + 100]))
        position = behind
        needed -= 1
    return position, needed


def plain(tree):
    tag, value = tree
    if tag == "%":
        return {plain(key): plain(item) for key, item in value}
    if tag in "*~>" and value is not None:
        return [plain(item) for item in value]
    return value


def pairs_of(tree):
    """The pairs of a map, sent as a map (RESP3) or as a flat array (RESP2)."""
    tag, value = tree
    if tag == "%":
        return value
    return list(zip(value[::2], value[1::2], strict=True))


class Connection:
    """A blocking connection over TCP or a unix socket, with a time limit on everything."""

    def __init__(self, address, timeout=10.0, protocol=2, password=None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.timeout = timeout
        self.buffer = bytearray()
        self.pushes = []
        self.was_reset = False
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if password is not None:
            assert self.command("AUTH", password) == b"+OK\r\n"
        if protocol == 3:
            hello = self.command("HELLO", 3)
            assert not hello.is_error, hello

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise ReplyTimeout(f"could not send {data[:80]!r}") from None
        except OSError as error:
            raise ConnectionLost from error

    def receive(self):
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            raise ReplyTimeout(f"incomplete reply: {bytes(self.buffer[:200])!r}") from None
        except OSError:
            self.was_reset = True
            data = b""
        if not data:
            raise ConnectionLost(bytes(self.buffer))
        self.buffer += data

    def read(self):
        """The next reply; out-of-band push messages (RESP3) are put aside in `pushes`."""
        while True:
            reply = self.read_any()
            if reply.raw[:1] != b">":
                return reply
            self.pushes.append(reply)

    def read_any(self):
        position, needed = skip(self.buffer, 0, 1)
        while needed:
            self.receive()
            position, needed = skip(self.buffer, position, needed)
        reply = Reply(bytes(self.buffer[:position]))
        del self.buffer[:position]
        return reply

    def read_line(self):
        """One raw line, for MONITOR and the like."""
        while b"\r\n" not in self.buffer:
            self.receive()
        line, _, rest = bytes(self.buffer).partition(b"\r\n")
        self.buffer[:] = rest
        return line

    def command(self, *arguments):
        self.send(encode(*arguments))
        return self.read()

    def pipeline(self, commands):
        return self.exchange(b"".join(encode(*command) for command in commands), len(commands))

    def exchange(self, data, count):
        """Send `data` while reading, so that neither side can block the other; `count` replies."""
        view = memoryview(data)
        received = [self.buffer]
        replies = []
        deadline = time.monotonic() + self.timeout
        self.socket.setblocking(False)
        try:
            while len(view):
                readable, writable, _ = select.select([self.socket], [self.socket], [], 1.0)
                if writable:
                    view = view[self.socket.send(view) :]
                    deadline = time.monotonic() + self.timeout
                if readable:
                    chunk = self.socket.recv(1 << 18)
                    if not chunk:
                        break
                    received.append(chunk)
                    deadline = time.monotonic() + self.timeout
                if time.monotonic() > deadline:
                    raise ReplyTimeout(f"stuck with {len(view)} bytes to send")
        except OSError:
            pass  # a reset while sending: what was answered before it is read below
        finally:
            self.socket.settimeout(self.timeout)
        self.buffer = bytearray().join(received)
        begin = position = 0
        needed = 1
        while len(replies) < count:
            position, needed = skip(self.buffer, position, needed)
            if needed:
                del self.buffer[:begin]
                position -= begin
                begin = 0
                self.receive()
                continue
            reply = Reply(bytes(self.buffer[begin:position]))
            (self.pushes if self.buffer[begin] == ord(">") else replies).append(reply)
            begin = position
            needed = 1
        del self.buffer[:begin]
        return replies

    def read_until_closed(self):
        """All that comes until the peer closes; ReplyTimeout if it does not close."""
        while True:
            try:
                self.receive()
            except ConnectionLost:
                data = bytes(self.buffer)
                self.buffer.clear()
                return data

    def read_until_silent(self, silence=0.15):
        """All that comes until nothing comes for a while, and whether the peer closed."""
        self.socket.settimeout(silence)
        try:
            return self.read_until_closed(), True
        except ReplyTimeout:
            data = bytes(self.buffer)
            self.buffer.clear()
            return data, False
        finally:
            self.socket.settimeout(self.timeout)
