"""The wire: pipelines, arguments split anywhere, inline commands, protocol errors and what each does to a
connection.

Most tests send bytes, close the sending side, and compare everything that comes back until the server
closes: a command appended to the bytes tells whether the connection was still served.
"""

import random
import threading
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from .arguments import examples, keys, modes, protocols, values
from .differential import shorten
from .wire import encode

PING = encode("PING")

INLINE = [
    b"PING\r\n",
    b"PING\n",
    b"ping hello\r\n",
    b"\r\n\r\nPING\r\n",
    b"\n\n\nPING\n",
    b"   \r\nPING\r\n",
    b"   PING   hello   \r\n",
    b"\tPING\thello\t\r\n",
    b'ECHO "hello world"\r\n',
    b'ECHO "a\\x41\\n\\r\\t\\b\\a\\"\\\\b\\q"\r\n',
    b'ECHO "\\xzz\\x4"\r\n',
    b"ECHO 'single \"quotes\" \\' here \\n'\r\n",
    b'ECHO ""\r\n',
    b"ECHO ''\r\n",
    b'ECHO "unbalanced\r\n',
    b"ECHO 'unbalanced\r\n",
    b'ECHO "a"b\r\n',
    b"ECHO 'a'b\r\n",
    b'ECHO a"b"\r\n',
    b'ECHO "a" "b"\r\n',
    b"SET key \xff\xfe\r\nGET key\r\n",
    b"SET key a\x00b\r\nGET key\r\n",
    b"\x00PING\r\n",
    b"PING\r\rPING\r\n",
    b"PING\rX\r\n",
    b"NOSUCH a b\r\n",
    b"GET\r\n",
    b"get a\r\nset a 1\r\nget a\r\n" * 5,
    b"PING\r\n" + PING + b"PING\r\n" + PING,
    b"ECHO " + b"x" * 65000 + b"\r\n",
    b"ECHO " + b"x" * 70000 + b"\r\n",
    b"x" * 70000,
    b"x" * 65536 + b"\r\n",
    b"GET / HTTP/1.1\r\n",
]

FRAMES = [
    b"*0\r\n",
    b"*-1\r\n",
    b"*-5\r\n",
    b"*\r\n",
    b"*abc\r\n",
    b"*1abc\r\n$4\r\nPING\r\n",
    b"* 1\r\n$4\r\nPING\r\n",
    b"*+1\r\n$4\r\nPING\r\n",
    b"*01\r\n$4\r\nPING\r\n",
    b"*1 \r\n$4\r\nPING\r\n",
    b"*1\n$4\r\nPING\r\n",
    b"*1\r\n$4\nPING\r\n",
    b"*1048577\r\n",
    b"*2147483648\r\n",
    b"*9223372036854775808\r\n",
    b"*1\r\n\r\n",
    b"*1\r\nPING\r\n",
    b"*1\r\n:4\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n+PING\r\n",
    b"*1\r\n\x00\r\n",
    b'*1\r\n"\r\n',
    b"*1\r\n$-1\r\n",
    b"*1\r\n$-4\r\nPING\r\n",
    b"*1\r\n$abc\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$+4\r\nPING\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$9223372036854775807\r\n",
    b"*1\r\n$9223372036854775808\r\n",
    b"*1\r\n$4\r\nPINGxx",
    b"*1\r\n$4\r\nPINGPING\r\n",
    b"*1\r\n$3\r\nPING\r\n",
    b"*1\r\n$5\r\nPING\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*2\r\n$0\r\n\r\n$1\r\na\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$-1\r\n",
    b"*2\r\n$4\r\nPING\r\n",
    b"*2\r\n$4\r\nPING\r\nx\r\n",
    b"*1" + b"0" * 70000 + b"\r\n",
    b"*" + b"1" * 70000,
    b"*1\r\n$" + b"1" * 70000,
    b"*1\r\n$" + b"4" * 70000 + b"\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$zz\r\n" + PING,
    PING * 3 + b"*1\r\nx" + PING,
    b"-ERR\r\n",
    b"+OK\r\n",
    b"$4\r\nPING\r\n",
    b"~1\r\n$4\r\nPING\r\n",
    b"%1\r\n$4\r\nPING\r\n$1\r\na\r\n",
    b"\xff\xfe\xfd\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"",
]


@pytest.mark.parametrize("data", INLINE, ids=lambda data: shorten(data, 40))
def test_inline(duel, data):
    duel.compare_bytes(data)


@pytest.mark.parametrize("data", FRAMES, ids=lambda data: shorten(data, 40))
def test_frames(duel, data):
    duel.compare_bytes(data)


ERRORS = [
    encode("NOSUCH"),
    encode("nosuch", "a", "b", "c"),
    encode("x" * 200, "y" * 200, "z" * 200),
    encode(*(["nosuch"] + ["argument"] * 100)),
    encode("no\r\nsuch", "a\r\nb"),
    encode("\x00\xff", "\x01"),
    encode("", "a"),
    encode("GET"),
    encode("gEt", "a", "b"),
    encode("GET "),
    encode("CLIENT", "x" * 200),
    encode("CLIENT", "a\r\nb"),
    encode("OBJECT"),
    encode("POST", "x"),
    encode("Host:", "x"),
    encode("GET", "a") * 3 + encode("host:", "x") + encode("GET", "a"),
    b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("data", ERRORS, ids=lambda data: shorten(data, 40))
def test_command_errors(duel, data):
    duel.compare_bytes(data)


# What resembles the command before it, of which the dispatcher takes over what is the same.
ALIKE = [
    [("SET", "first", "1"), ("SET", "first", "2"), ("set", "first", "3"), ("SET", "other", "4"), ("GET", "first"),
     ("GET", "other"), ("GET", "other"), ("GETX", "other"), ("GET", "first"), ("get", "first")],
    [("GET", "aaaa"), ("GET",), ("GET", "aaaa", "b"), ("GET", "aaaa"), ("SET", "aaaa", "1"), ("GET", "aaaa")],
    [("LPUSH", "aaaa", "1"), ("RPUSH", "aaaa", "2"), ("LPUSH", "aaab", "3"), ("LPUSH", "aaaa", "4"),
     ("LRANGE", "aaaa", "0", "-1"), ("LRANGE", "aaab", "0", "-1")],
    [("OBJECT", "ENCODING", "aaaa"), ("OBJECT", "REFCOUNT", "aaaa"), ("OBJECT", "ENCODINGX", "aaaa"),
     ("SET", "aaaa", "1"), ("OBJECT", "ENCODING", "aaaa"), ("OBJECT", "REFCOUNT", "aaaa"), ("OBJECT", "HELP", "aaaa")],
    [("SADD", "aaaa", "1"), ("SINTER", "aaaa"), ("SINTER", "aaaa"), ("SINTER", "bbbb"), ("SINTER", "aaaa", "aaaa"),
     ("SINTER", "aaaa", "bbbb"), ("SUNION", "aaaa"), ("EXISTS", "aaaa"), ("EXISTS", "aaaa"), ("DEL", "aaaa"),
     ("DEL", "aaaa"), ("EXISTS", "aaaa")],
    [("SET", "key:000000000001", "1"), ("SET", "key:000000000002", "2"), ("GET", "key:000000000001"),
     ("GET", "key:000000000002"), ("GET", "key:00000000000001"), ("GET", "key:00000000000002")],
    [("SET", "aaaa", "0"), ("SELECT", "1"), ("SET", "aaaa", "1"), ("GET", "aaaa"), ("SELECT", "0"), ("GET", "aaaa"),
     ("GET", "aaaa"), ("MULTI",), ("GET", "aaaa"), ("GET", "aaaa"), ("INCR", "aaaa"), ("EXEC",), ("INCR", "aaaa")],
]


@pytest.mark.parametrize("commands", ALIKE, ids=lambda commands: " ".join(commands[0]))
def test_commands_like_the_one_before(duel, commands):
    duel.compare_bytes(b"".join(encode(*words) for words in commands))


def test_limits_before_authentication(start_pair):
    duel = start_pair(requirepass="secret")
    duel.subject.password = duel.oracle.password = None
    frames = [
        b"*11\r\n$4\r\nPING\r\n",
        b"*10\r\n$4\r\nPING\r\n" + b"$1\r\na\r\n" * 9,
        b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
        b"*2\r\n$4\r\nAUTH\r\n$16384\r\n" + b"x" * 16384 + b"\r\n",
    ]
    for data in frames:
        duel.compare_bytes(data, flush=False)


SPLIT_STREAM = (
    encode("SET", "split:{a}", "value with \r\n inside")
    + b"PING inline\r\n"
    + encode("GET", "split:{a}")
    + encode("MSET", "split:1", "x", "split:2", "y", "split:3", "z")
    + encode("MGET", "split:1", "split:2", "split:3")
    + b"\r\n*0\r\n"
    + encode("APPEND", "split:{b}", "0123456789" * 5)
    + encode("NOSUCH", "a b")
    + b"ECHO 'a b'\n"
    + encode("DEL", "split:1", "split:2")
)


def test_split_at_every_byte(duel):
    """The stream in two pieces, cut at each byte in turn, gives what it gives in one."""
    duel.compare_bytes(SPLIT_STREAM)
    with duel.oracle.connect() as connection:
        connection.command("FLUSHALL")
        connection.send(SPLIT_STREAM + encode("ECHO", "end"))
        expected = b"".join(connection.read().raw for _ in range(10))
    for cut in range(1, len(SPLIT_STREAM)):
        with duel.subject.connect() as connection:
            connection.command("FLUSHALL")
            connection.send(SPLIT_STREAM[:cut])
            time.sleep(0.0005)
            connection.send(SPLIT_STREAM[cut:] + encode("ECHO", "end"))
            assert b"".join(connection.read().raw for _ in range(10)) == expected, f"cut at {cut}"


def test_byte_by_byte(duel):
    duel.compare_bytes(
        SPLIT_STREAM, chunks=[SPLIT_STREAM[index : index + 1] for index in range(len(SPLIT_STREAM))]
    )


pieces = st.one_of(
    st.lists(
        st.one_of(st.sampled_from([b"GET", b"SET", b"ECHO", b"PING", b"MGET", b"APPEND"]), keys, values),
        max_size=4,
    ).map(lambda words: encode(*words)),
    st.sampled_from(
        [
            b"PING\r\n",
            b"\r\n",
            b"*1\r\n",
            b"$4\r\n",
            b"PING",
            b"*0\r\n",
            b"*-1\r\n",
            b"ECHO 'a'\r\n",
            b"$-1\r\n",
        ]
    ),
)


def damage(data, changes):
    data = bytearray(data)
    for kind, position, byte in changes:
        at = position % (len(data) + 1)
        if kind == "insert":
            data.insert(at, byte)
        elif at < len(data):
            if kind == "delete":
                del data[at]
            else:
                data[at] = byte
    return bytes(data)


changes = st.tuples(
    st.sampled_from(["insert", "delete", "replace"]),
    st.integers(0, 400),
    st.sampled_from([*b"\r\n$*0123456789-+ \"'a\x00\xff"]),
)


@examples(150)
@given(
    parts=st.lists(pieces, min_size=1, max_size=8),
    changes=st.lists(changes, max_size=3),
    cuts=st.lists(st.integers(1, 300), max_size=6),
    protocol=protocols,
)
@example(parts=[b"*1\r\n$4\r\nPING\r\n"], changes=[("delete", 12, 0)], cuts=[], protocol=2)
def test_damaged_streams(duel, parts, changes, cuts, protocol):
    data = damage(b"".join(parts), changes)
    assume(b"hello" not in data.lower())  # as a command it would tell the version
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[left:right] for left, right in zip(edges, edges[1:], strict=False)]
    duel.compare_bytes(data, protocol, chunks)


def mixed_commands(seed, count, prefix="mixed"):
    """Commands of all kinds over keys of all shards: one key, several keys, no key, errors."""
    pick = random.Random(seed)

    def key():
        return f"{prefix}:{pick.randrange(40)}"

    makers = [
        lambda: ("SET", key(), pick.randrange(1000)),
        lambda: ("SET", key(), "value " * pick.randrange(1, 100)),
        lambda: ("GET", key()),
        lambda: ("GET", key()),
        lambda: ("INCR", key()),
        lambda: ("APPEND", key(), pick.randrange(10)),
        lambda: ("MGET", key(), key(), key()),
        lambda: ("MSET", key(), 1, key(), 2, key(), 3),
        lambda: ("MSETNX", key(), 1, key(), 2),
        lambda: ("DEL", key(), key()),
        lambda: ("EXISTS", key(), key(), key()),
        lambda: ("RENAME", key(), key()),
        lambda: ("COPY", key(), key(), "REPLACE"),
        lambda: ("ECHO", pick.randrange(10**6)),
        lambda: ("BITOP", "XOR", key(), key(), key()),
        lambda: ("NOSUCH", pick.randrange(100)),
        lambda: ("GET",),
        lambda: ("STRLEN", key()),
        lambda: ("SELECT", pick.randrange(3)),
        lambda: ("DBSIZE",),
        lambda: ("PING",),
    ]
    return [pick.choice(makers)() for _ in range(count)]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_deep_pipelines(duel, seed, protocol):
    """A thousand commands at once: replies in order, each sees the effects of all before it."""
    duel.run(mixed_commands(seed, 1000), protocol, "pipeline")


@pytest.mark.parametrize("mode", ["single", "spread"])
def test_long_conversations(duel, mode):
    duel.run(mixed_commands(99, 400), 2, mode)


def test_pipelines_side_by_side(duel):
    """Connections with keys of their own do not disturb each other."""
    scripts = [
        [line for line in mixed_commands(seed, 800, f"own:{seed}") if line[0] not in ("SELECT", "DBSIZE")]
        for seed in range(12)
    ]
    told = []
    for server in duel.servers():
        with server.connect() as admin:
            admin.command("FLUSHALL")
        results = [None] * len(scripts)

        def work(index, server=server, results=results):
            with server.connect() as connection:
                results[index] = [reply.raw for reply in connection.pipeline(scripts[index])]

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(scripts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told.append(results)
    for script, expected, actual in zip(scripts, *told, strict=True):
        for line, left, right in zip(script, expected, actual, strict=True):
            assert left == right, line


def test_order_of_replies_of_one_counter(subject):
    """INCR on one shard between MGETs over all: numbers come back in order."""
    with subject.connect() as connection:
        connection.command("FLUSHALL")
        lines = []
        for index in range(2000):
            lines += [("INCR", "counter"), ("MGET", "counter", f"other:{index % 50}"), ("ECHO", index)]
        replies = connection.pipeline(lines)
        for index in range(2000):
            count, pair, echo = replies[3 * index : 3 * index + 3]
            assert (count.value, pair.value[0], echo.value) == (index + 1, b"%d" % (index + 1), b"%d" % index)


@pytest.mark.parametrize("size", [1, 15, 16, 1000, 16383, 16384, 16385, 65536, 1 << 20, 20_000_000])
def test_value_sizes(duel, size):
    value = random.Random(size).randbytes(size)
    duel.run(
        [("SET", "big", value), ("STRLEN", "big"), ("GET", "big"), ("GETRANGE", "big", -5, -1)], walk=False
    )


def test_many_arguments(duel):
    names = [b"many:%d" % index for index in range(50_000)]
    pairs = [word for name in names for word in (name, name[-2:])]
    duel.run(
        [
            ("MSET", *pairs),
            ("MGET", *names),
            ("EXISTS", *names),
            ("DEL", *names[:40_000]),
            ("DBSIZE",),
            ("UNLINK", *names),
        ]
    )


@examples(60)
@given(stored=st.dictionaries(st.binary(max_size=40), st.binary(max_size=60), max_size=20), mode=modes)
def test_binary_safe(duel, stored, mode):
    stores = [("SET", key, value) for key, value in stored.items()]
    duel.run([*stores, *(("GET", key) for key in stored), ("MGET", b"x", *stored)], mode=mode)
