"""Two servers, one script: run the same commands on both and compare every reply, then everything that is
left.

A `Duel` holds the server under test (the subject) and the oracle. `run` sends a sequence in one of three
ways, and all must give the same: command by command, spread over several connections, and as one pipeline.
After each sequence the walk compares what is in the databases: type, encoding, TTL and value of every key.
"""

import json
import os
import socket
import time

from .differences import replies_agree
from .wire import ConnectionLost, ProtocolViolation, Reply, ReplyTimeout, encode, to_bytes

SURVEY = os.environ.get("DFLY_TEST_SURVEY")
WALKED_DATABASES = (0, 1, 2)
VALUE_COMMANDS = {
    b"string": (b"GET",),
    b"list": (b"LRANGE", 0, -1),
    b"hash": (b"HGETALL",),
    b"set": (b"SMEMBERS",),
    b"zset": (b"ZRANGE", 0, -1, b"WITHSCORES"),
    b"stream": (b"XRANGE", b"-", b"+"),
}
UNORDERED_TYPES = (b"hash", b"set")


class Mismatch(AssertionError):
    """Subject and oracle answered differently."""


class Relative:
    """A relative expiry time. No two of one sequence come out equal: what EXPIRE GT finds greater must not
    depend on the millisecond in which a command arrives."""

    def __init__(self, seconds, unit):
        self.seconds = seconds
        self.unit = unit

    def at(self, index):
        return (self.seconds + 11 * index) * self.unit

    def __repr__(self):
        return f"Relative({self.seconds}, {self.unit})"


def resolve(sequence):
    """The sequence with every argument as bytes."""
    return [
        [to_bytes(argument.at(index) if isinstance(argument, Relative) else argument) for argument in command]
        for index, command in enumerate(sequence)
    ]


def shorten(data, limit=300):
    text = repr(data)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(data)} bytes)"


def show(command):
    words = []
    for argument in command:
        text = repr(argument)[2:-1]
        words.append(text if text and " " not in text and len(text) <= 60 else shorten(argument, 60))
    return " ".join(words)


class Survey:
    """Collects mismatches in a file, one line for each kind, instead of stopping at the first."""

    def __init__(self, path):
        self.path = path
        self.seen = set()

    def kind_of(self, command, expected, actual):
        def sketch(raw):
            return raw[:24] if raw[:1] in b"-+" else raw[:1]

        return (command[0].upper(), len(command), sketch(expected), sketch(actual))

    def record(self, protocol, mode, commands, index, expected, actual):
        kind = self.kind_of(commands[index], expected, actual)
        if kind in self.seen:
            return
        self.seen.add(kind)
        with open(self.path, "a") as file:
            row = {
                "test": os.environ.get("PYTEST_CURRENT_TEST", ""),
                "protocol": protocol,
                "mode": mode,
                "command": show(commands[index]),
                "expected": shorten(expected),
                "actual": shorten(actual),
                "before": [show(command) for command in commands[:index]],
            }
            file.write(json.dumps(row) + "\n")


class Duel:
    """The subject and the oracle, compared."""

    def __init__(self, subject, oracle):
        self.subject = subject
        self.oracle = oracle
        self.survey = Survey(SURVEY) if SURVEY else None
        self.known_commands = None

    def servers(self):
        return (self.oracle, self.subject)

    def subject_has(self, name):
        """Whether the subject has this command: tests of what is still to come begin when it comes."""
        if self.known_commands is None:
            with self.subject.connect() as connection:
                self.known_commands = {name.upper() for name in connection.command("COMMAND", "LIST").value}
        return to_bytes(name).upper() in self.known_commands

    def ask_settled(self, step):
        """Asks both again a moment later: DBSIZE counts what is due until a timer has collected it."""
        time.sleep(0.3)
        replies = []
        for server in (self.oracle, self.subject):
            with server.connect() as connection:
                connection.command("SELECT", step[0])
                replies.append(connection.command(*step[1:]))
        return replies

    def run(self, sequence, protocol=2, mode="single", walk=True, flush=True):
        """Run on both, compare. Modes: single (one connection), spread (three, in turn), pipeline."""
        commands = resolve(sequence)
        expected = self.collect(self.oracle, commands, protocol, mode, walk, flush)
        actual = self.collect(self.subject, commands, protocol, mode, walk, flush)
        replies = list(zip(expected[0], actual[0], strict=True))
        for index, (expected_reply, actual_reply) in enumerate(replies):
            if not replies_agree(commands[index], expected_reply, actual_reply):
                self.mismatch(protocol, mode, commands, index, expected_reply.raw, actual_reply.raw)
                return
        for step in sorted(expected[1].keys() | actual[1].keys(), key=repr):
            if self.oracle.kind == "valkey" and step[1:3] == (b"OBJECT", b"ENCODING"):
                # Valkey embeds by the size of key and value together; encodings follow Redis 7.0.
                continue
            left, right = expected[1].get(step), actual[1].get(step)
            if step[1:] == (b"DBSIZE",) and left.raw != right.raw:
                left, right = self.ask_settled(step)
            if left is None or right is None or not replies_agree(step[1:], left, right):
                walked = [*commands, [b"(walk)", *step]]
                self.mismatch(protocol, mode, walked, len(commands), raw_of(left), raw_of(right))
                return

    def mismatch(self, protocol, mode, commands, index, expected, actual):
        if self.survey:
            self.survey.record(protocol, mode, commands, index, expected, actual)
            return
        script = "\n".join(f"    {show(command)}" for command in commands[: index + 1])
        raise Mismatch(
            f"RESP{protocol}, {mode}\n{script}\n  {self.oracle.kind}: {shorten(expected, 2000)}\n"
            f"  {self.subject.kind}: {shorten(actual, 2000)}"
        )

    def collect(self, server, commands, protocol, mode, walk, flush):
        """All replies of one server, and the walk after them; ServerLost if it dies or hangs on the way."""
        connections = [server.connect(protocol) for _ in range(3 if mode == "spread" else 1)]
        done = []
        try:
            if flush:
                connections[0].command("FLUSHALL")
            if mode == "pipeline":
                done = connections[0].pipeline(commands)
            else:
                for index, command in enumerate(commands):
                    done.append(connections[index % len(connections)].command(*command))
            encodings = self.oracle.kind != "valkey"  # Valkey's strings are "embstr" by other lengths
            if not walk:
                return done, {}
            possible_keys = {argument for command in commands for argument in command[1:]}
            return done, walk_databases(connections[0], possible_keys, encodings)
        except (ConnectionLost, ReplyTimeout, ProtocolViolation) as error:
            script = "\n".join(f"    {show(command)}" for command in commands)
            server.process.poll()
            time.sleep(0.2)
            how = "does not answer" if server.alive else "died"
            server.lost(f"{how}: {error!r} after {len(done)} replies to (RESP{protocol}, {mode})\n{script}\n")
        finally:
            for connection in connections:
                connection.close()

    def compare_bytes(self, data, protocol=2, chunks=None, flush=True):
        """Send bytes to both and close the sending side: all that comes until they close must be the same.

        A last command tells whether the connection was still served when `data` was done. With `chunks` the
        subject gets the bytes in these pieces.
        """
        for _attempt in range(5):
            expected, reset_by_oracle = self.bytes_until_closed(self.oracle, [data], protocol, flush)
            actual, reset_by_subject = self.bytes_until_closed(
                self.subject, chunks or [data], protocol, flush
            )
            if expected == actual:
                return
            # Closing with unread input resets the connection, and a reset may overtake the reply. And a slow oracle
            # forgets what it has not sent when the end of the input reaches it.
            if not (reset_by_oracle or reset_by_subject or actual.startswith(expected)):
                break
        self.mismatch(protocol, "bytes", [[data]], 0, expected, actual)

    def bytes_until_closed(self, server, pieces, protocol, flush):
        if flush:
            with server.connect() as admin:
                admin.command("FLUSHALL")
        with server.connect(protocol) as connection:
            try:
                for piece in pieces[:-1]:
                    connection.send(piece)
                    time.sleep(0.0005)
                connection.send(b"".join(pieces[-1:]) + encode("ECHO", "still served"))
                connection.socket.shutdown(socket.SHUT_WR)
            except (ConnectionLost, OSError):
                pass  # closed in the middle: what it said is compared
            try:
                received = connection.read_until_closed()
            except ReplyTimeout as error:
                server.lost(f"does not close after end of file: {error} {shorten(b''.join(pieces))}")
            if server.process.poll() is not None:
                server.lost(f"died of {shorten(b''.join(pieces))}")
            return received, connection.was_reset

    def ask(self, *command, protocol=2):
        """One command on fresh connections: the two replies."""
        replies = []
        for server in self.servers():
            with server.connect(protocol) as connection:
                replies.append(connection.command(*command))
        return replies


def raw_of(reply):
    return b"(nothing)" if reply is None else reply.raw


def walk_databases(connection, possible_keys, encodings):
    """Everything that is stored: {(database, command...): reply}.

    Redis counts keys that are due until it comes across them; asking for all that may exist settles that.
    """
    found = {}
    for database in WALKED_DATABASES:
        connection.command("SELECT", database)
        connection.command("EXISTS", b"", *possible_keys)
        keys = sorted(connection.command("KEYS", "*").value)
        found[(database, b"KEYS", b"*")] = Reply(b"".join(b"%d:%b " % (len(key), key) for key in keys))
        types = connection.pipeline([("TYPE", key) for key in keys])
        questions = []
        for key, kind in zip(keys, types, strict=True):
            name, *rest = VALUE_COMMANDS[kind.value]
            questions += [(b"TYPE", key), (b"PTTL", key), (name, key, *rest)]
            if encodings:
                questions.append((b"OBJECT", b"ENCODING", key))
        of_sets = {key for key, kind in zip(keys, types, strict=True) if kind.value == b"set"}
        for question, reply in zip(questions, connection.pipeline(questions), strict=True):
            if question[0] == b"OBJECT" and question[2] in of_sets:
                # Small sets of texts are listpacks since Redis 7.2 (docs/differences.md).
                reply = Reply(reply.raw.replace(b"$8\r\nlistpack", b"$9\r\nhashtable"))
            found[(database, *question)] = reply
        found[(database, b"DBSIZE")] = connection.command("DBSIZE")
    return found
