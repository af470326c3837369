"""Server commands: what a server says about itself and its commands, configuration, logs, debugging aids."""

import re
import socket
import time

import pytest

from .differences import flags_unordered
from .scripts import run_scripts
from .servers import free_port
from .wire import encode, pairs_of, plain

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"

# They take an option more since Redis 7.2.
WITH_NEWER_ARITY = {b"zrank", b"zrevrank"}
# Commands of Redis 7.0 that take part in no test of arity: they change the connection or end the server.
SENSITIVE = {
    b"shutdown",
    b"monitor",
    b"quit",
    b"subscribe",
    b"psubscribe",
    b"ssubscribe",
    b"sync",
    b"psync",
    b"reset",
    b"failover",
    b"replicaof",
    b"slaveof",
    b"multi",
    b"exec",
    b"debug",
}


@pytest.fixture(scope="module")
def commands(duel):
    """Names that both servers know, subcommands with a bar, in lower case."""
    lists = []
    for reply in duel.ask("COMMAND"):
        rows = reply.value
        names = {row[0] for row in rows} | {child[0] for row in rows for child in row[9]}
        lists.append(names)
    shared = sorted(lists[0] & lists[1])
    assert len(shared) > 100, "both know at least the commands of the foundation"
    return shared


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(start_pair, protocol):
    run_scripts(start_pair(), "server", protocol)


def test_arity_of_every_command(duel, commands):
    """Each command with one argument too few, and one too many where the number is fixed."""
    with duel.oracle.connect() as connection:
        rows = connection.command("COMMAND", "INFO", *commands).value
    lines = []
    for name, row in zip(commands, rows, strict=True):
        if row is None:  # a subcommand
            (row,) = (
                child for child in connection_info(duel.oracle, name.split(b"|")[0])[9] if child[0] == name
            )
        words = name.split(b"|")
        if words[0] in SENSITIVE | WITH_NEWER_ARITY or name in (b"client|reply", b"client|pause"):
            continue
        least = abs(row[1])
        if least > len(words):
            lines.append((*words, *[b"1"] * (least - 1 - len(words))))
        if row[1] > 0:
            lines.append((*words, *[b"1"] * (least + 1 - len(words))))
        if len(words) == 2:
            lines.append((words[0].upper(), words[1] + b"x"))
    run_each(duel, lines)


def connection_info(server, name):
    with server.connect() as connection:
        return connection.command("COMMAND", "INFO", name).value[0]


def run_each(duel, lines, same=None):
    """All lines on both; every difference in one message."""
    told = []
    for server in duel.servers():
        with server.connect() as connection:
            told.append(connection.pipeline(lines))
    wrong = []
    for line, expected, actual in zip(lines, *told, strict=True):
        left, right = (expected.raw, actual.raw) if same is None else (same(expected.tree), same(actual.tree))
        if left != right:
            wrong.append(f"{line}\n    expected {left}\n    actual   {right}")
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("protocol", [2, 3])
def test_command_info(duel, commands, protocol):
    """Arity, flags, keys, categories, tips, key specifications and subcommands of every command."""
    top = [name for name in commands if b"|" not in name]
    told = []
    for server in duel.servers():
        with server.connect(protocol) as connection:
            rows = connection.command("COMMAND", "INFO", *top).tree[1]
            told.append([flags_unordered(None, row) for row in rows])
    known = set(commands)
    fields = (
        "name",
        "arity",
        "flags",
        "first key",
        "last key",
        "step",
        "categories",
        "tips",
        "key specs",
        "subcommands",
    )
    wrong = []
    for name, expected, actual in zip(top, *told, strict=True):
        for field, left, right in zip(fields, expected[1], actual[1], strict=True):
            if field == "subcommands":
                left = shared_subcommands(left, known)
                right = shared_subcommands(right, known)
            if field == "arity" and name in WITH_NEWER_ARITY:
                continue
            if without_notes(left) != without_notes(right):
                wrong.append(f"{name.decode()} {field}: expected {left}, actual {right}")
    assert not wrong, "\n" + "\n".join(wrong)


def without_notes(tree):
    """Key specifications without Redis' prose notes, which are not repeated."""
    if not isinstance(tree, tuple) or not isinstance(tree[1], list):
        return [without_notes(each) for each in tree] if isinstance(tree, list) else tree
    kind, items = tree
    if kind == "%":
        return kind, [(k, without_notes(v)) for k, v in items if k != ("$", b"notes")]
    kept, skip = [], False
    for item in items:
        if skip:
            skip = False
        elif item == ("$", b"notes"):
            skip = True
        else:
            kept.append(without_notes(item))
    return kind, kept


def shared_subcommands(tree, known):
    return sorted((row for row in tree[1] if row[1][0][1] in known), key=repr)


def test_command_counts(subject):
    with subject.connect() as connection:
        count = connection.command("COMMAND", "COUNT").value
        assert count == len(connection.command("COMMAND").value)
        names = connection.command("COMMAND", "LIST").value
        assert len({name for name in names if b"|" not in name}) == count
        assert len(connection.command("COMMAND", "DOCS").value) == 2 * count
        assert {row[0] for row in connection.command("COMMAND", "INFO").value} <= set(names)


@pytest.mark.parametrize(
    "words",
    [
        "ACLCAT string",
        "ACLCAT dangerous",
        "ACLCAT keyspace",
        "ACLCAT connection",
        "ACLCAT read",
        "ACLCAT fast",
        "ACLCAT slow",
        "ACLCAT admin",
        "ACLCAT bitmap",
        "ACLCAT write",
        "PATTERN *get*",
        "PATTERN client|*",
    ],
)
def test_command_list_filters(duel, commands, words):
    expected, actual = duel.ask("COMMAND", "LIST", "FILTERBY", *words.split())
    assert sorted(set(actual.value) & set(commands)) == sorted(set(expected.value) & set(commands))


def documentation(tree):
    """COMMAND DOCS of one command without the prose, which is each server's own."""
    return {
        key[1]: plain(value)
        for key, value in pairs_of(tree)
        if key[1]
        not in (
            b"summary",
            b"complexity",
            b"history",
            b"subcommands",
            b"doc_flags",
            b"deprecated_since",
            b"replaced_by",
        )
    }


@pytest.mark.parametrize("protocol", [2, 3])
def test_command_docs(duel, commands, protocol):
    top = [name for name in commands if b"|" not in name]
    told = [pairs_of(reply.tree) for reply in duel.ask("COMMAND", "DOCS", *top, protocol=protocol)]
    expected, actual = ({name[1]: value for name, value in pairs} for pairs in told)
    wrong = []
    for name in top:
        left, right = documentation(expected[name]), documentation(actual[name])
        fields = [key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)]
        if fields:
            wrong += [
                f"{name.decode()} {key}: expected {left.get(key)}, actual {right.get(key)}" for key in fields
            ]
        texts = {key[1]: value[1] for key, value in pairs_of(actual[name])}
        if len(texts.get(b"summary", b"")) < 10:
            wrong.append(f"{name.decode()}: no summary")
    assert not wrong, "\n" + "\n".join(wrong)


def test_unknown_commands(duel):
    lines = [
        ("NOSUCH",),
        ("nosuch", "a", "b"),
        ("x" * 300, "y" * 300),
        ("nosuch", *"abcdefghij" * 20),
        ("a b", "c d"),
        ("CLIENT", "x" * 300),
        ("OBJECT", "nosuch", "a"),
        ("GETT", ""),
    ]
    run_each(duel, lines)


# --- INFO ---


def info_sections(reply):
    """{section: [field, ...]} in the order of the reply."""
    text = reply.value.decode()
    if reply.raw.startswith(b"="):
        assert text.startswith("txt:")
        text = text[4:]
    sections, current = {}, None
    for line in text.split("\r\n"):
        if line.startswith("# "):
            current = sections.setdefault(line[2:], {})
        elif line:
            name, value = line.split(":", 1)
            current[name] = value
    return sections


# Fields that name what only Redis has: its allocator's own figures and the loop of its main thread.
def optional_field(name):
    return name.startswith(
        ("lru_clock", "aof_rewrite", "slave_", "db", "errorstat_", "cmdstat_", "latency_percentiles")
    )


@pytest.mark.parametrize("protocol", [2, 3])
def test_info_has_every_section_and_field(duel, protocol):
    for server in duel.servers():
        with server.connect() as connection:
            connection.pipeline(
                [("SET", "a", 1), ("EXPIRE", "a", 100), ("SELECT", 3), ("SET", "b", 1), ("NOSUCH",)]
            )
    expected, actual = duel.ask("INFO", protocol=protocol)
    assert expected.raw[:1] == actual.raw[:1]
    wanted, found = info_sections(expected), info_sections(actual)
    assert [name for name in found if name in wanted] == list(wanted), "sections in Redis' order"
    missing = {
        name: [field for field in fields if field not in found[name] and not optional_field(field)]
        for name, fields in wanted.items()
    }
    assert not any(missing.values()), {name: fields for name, fields in missing.items() if fields}
    if duel.subject.kind == "dfly":
        assert found["Server"]["redis_version"] == "7.4.0"
        assert re.fullmatch(r"\d+\.\d+.*", found["Server"]["dfly_version"])
    assert found["Server"]["redis_mode"] == "standalone"
    assert found["Server"]["tcp_port"] == str(duel.subject.port)
    assert found["Server"]["process_id"] == str(duel.subject.process.pid)
    assert found["Replication"]["role"] == "master"
    assert re.fullmatch(r"keys=\d+,expires=\d+,avg_ttl=\d+.*", found["Keyspace"]["db0"])
    assert found["Keyspace"]["db3"].startswith("keys=1,expires=0,")


def test_info_selects_sections(duel):
    for words in (
        ["server"],
        ["SERVER"],
        ["cpu", "server"],
        ["nosuch"],
        ["server", "nosuch"],
        ["keyspace", "keyspace"],
        ["default"],
        ["all"],
        ["everything"],
        ["everything", "server"],
        ["commandstats"],
        ["errorstats"],
        ["latencystats"],
        ["modules"],
        ["cluster"],
    ):
        expected, actual = duel.ask("INFO", *words)
        assert list(info_sections(actual)) == list(info_sections(expected)), words


def test_info_counts(start):
    """Counters move with what is done, by the same amounts as Redis'."""
    story = [
        ("SET", "a", 1),
        ("GET", "a"),
        ("GET", "missing"),
        ("GET", "missing"),
        ("EXISTS", "a"),
        ("NOSUCH",),
        ("INCR", "a", "b"),
        ("SET", "a", "x"),
        ("INCR", "a"),
        ("SET", "t", 1, "PX", 1),
    ]
    told = []
    for kind in ("redis", None):
        server = start(kind) if kind else start()
        with server.connect() as connection:
            before = info_sections(connection.command("INFO", "everything"))
            connection.pipeline(story)
            time.sleep(0.3)
            after = info_sections(connection.command("INFO", "everything"))
            counters = (
                "keyspace_hits",
                "keyspace_misses",
                "expired_keys",
                "total_error_replies",
                "evicted_keys",
            )
            moved = {name: int(after["Stats"][name]) - int(before["Stats"][name]) for name in counters}
            commands = int(after["Stats"]["total_commands_processed"]) - int(
                before["Stats"]["total_commands_processed"]
            )
            assert 0 < int(after["Stats"]["total_net_input_bytes"]) - int(
                before["Stats"]["total_net_input_bytes"]
            )
            moved["commands"] = commands
            stats = {name: value for name, value in after["Commandstats"].items() if "info" not in name}
            moved["calls"] = {
                name: [pair for pair in value.split(",") if pair.startswith(("calls", "rejected", "failed"))]
                for name, value in stats.items()
                if name.split("_")[1] in ("set", "get", "exists", "incr")
            }
            moved["errors"] = after["Errorstats"]
            connection.command("CONFIG", "RESETSTAT")
            moved["reset"] = {
                name: info_sections(connection.command("INFO", "stats"))["Stats"][name] for name in counters
            }
            told.append(moved)
    assert told[0] == told[1]


def info_of(connection, section):
    return info_sections(connection.command("INFO", section))[section.capitalize()]


def test_error_statistics(start_pair):
    """Errors by code, of every way to fail: refused, failed, queued, out of memory, malformed."""
    story = [
        ("NOSUCH",),
        ("GET",),
        ("SET", "a", "b"),
        ("INCR", "a"),
        ("SETRANGE", "a", -1, "x"),
        ("CONFIG", "SET", "maxmemory", 1),
        ("SET", "q", 1),
        ("MSET", "q", 1, "r", 2),
        ("CONFIG", "SET", "maxmemory", 0),
        ("MULTI",),
        ("INCR", "a"),
        ("NOSUCH",),
        ("EXEC",),
        ("MULTI",),
        ("INCR", "a"),
        ("GET", "a"),
        ("INCR", "a"),
        ("EXEC",),
        ("EXEC",),
        ("HELLO", 9),
        ("AUTH", "x"),
        ("AUTH", "x", "y"),
        ("DEBUG", "ERROR", "CODE of no error"),
        ("CONFIG", "SET", "nosuch", "x"),
        ("CLIENT", "NOSUCH"),
        ("ECHO", "-NOT an error"),
    ]
    told = []
    for server in start_pair().servers():
        with server.connect() as connection:
            for line in story:
                connection.command(*line)
            with server.connect() as other:
                other.send(b"*1\r\n$x\r\n")
                assert b"Protocol error" in other.read().raw
            calls = {}
            for name, value in info_of(connection, "commandstats").items():
                fields = dict(field.split("=") for field in value.split(","))
                calls[name] = tuple(fields[field] for field in ("calls", "rejected_calls", "failed_calls"))
            calls = {name: counts for name, counts in calls.items() if name[8:] not in ("info", "ping")}
            told.append((info_of(connection, "errorstats"), calls))
            total = info_of(connection, "stats")["total_error_replies"]
            assert sum(int(value[6:]) for value in told[-1][0].values()) == int(total)
            connection.command("CONFIG", "RESETSTAT")
            assert info_of(connection, "errorstats") == {}
    assert told[0] == told[1]
    assert told[0][0]["errorstat_OOM"] == "count=2"


def test_error_statistics_without_authentication(start_pair):
    told = []
    for server in start_pair(requirepass="secret").servers():
        with server.connect(authenticate=False) as connection:
            for line in (("GET", "a"), ("AUTH", "wrong"), ("SET", "a", 1), ("NOSUCH",)):
                assert connection.command(*line).is_error
        with server.connect() as connection:
            # Starting up asked for a PING too, once or twice.
            told.append(info_of(connection, "errorstats"))
            told[-1]["errorstat_NOAUTH"] = int(told[-1]["errorstat_NOAUTH"][6:]) >= 2
    assert told[0] == told[1]


def test_average_ttl(start_pair):
    for server in start_pair().servers():
        with server.connect() as connection:
            connection.pipeline([("SET", f"key:{index}", 1, "PX", 100_000) for index in range(200)])
            connection.pipeline([("SELECT", 2), ("SET", "a", 1), ("SELECT", 0)])
            time.sleep(0.5)
            keyspace = info_of(connection, "keyspace")
            average = int(re.fullmatch(r"keys=200,expires=200,avg_ttl=(\d+)", keyspace["db0"])[1])
            assert 95_000 < average < 100_000
            assert keyspace["db2"] == "keys=1,expires=0,avg_ttl=0"
            connection.pipeline([("PERSIST", f"key:{index}") for index in range(200)])
            time.sleep(0.5)
            assert info_of(connection, "keyspace")["db0"] == "keys=200,expires=0,avg_ttl=0"


def test_recent_client_buffers(start_pair):
    """What one client left in its buffers for a second is seen for some seconds."""
    servers = start_pair().servers()
    writers, readers = [server.connect() for server in servers], [server.connect() for server in servers]
    for writer, reader in zip(writers, readers, strict=True):
        reader.command("SETRANGE", "large", 30_000_000, "x")
        writer.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2000000\r\n" + b"x" * 1_000_000)
        reader.send(encode("GET", "large"))
    time.sleep(2.2)
    for server in servers:
        with server.connect() as connection:
            clients = info_of(connection, "clients")
            assert 1_000_000 <= int(clients["client_recent_max_input_buffer"]) < 4_000_000
            assert 10_000_000 <= int(clients["client_recent_max_output_buffer"]) < 80_000_000
    for connection in writers + readers:
        connection.close()


def test_paused_clients_are_blocked_clients(start_pair):
    for server in start_pair().servers():
        with server.connect() as connection, server.connect() as writer:
            connection.command("CLIENT", "PAUSE", 600, "WRITE")
            writer.send(encode("SET", "a", 1))
            time.sleep(0.2)
            assert info_of(connection, "clients")["blocked_clients"] == "1"
            assert writer.read() == OK
            assert info_of(connection, "clients")["blocked_clients"] == "0"


def test_lazily_freed_objects(start_pair):
    told = []
    for server in start_pair().servers():
        with server.connect(timeout=60) as connection:
            connection.command("DEBUG", "POPULATE", 200_000)
            replies = connection.pipeline([("FLUSHALL", "ASYNC"), ("INFO", "memory")])
            fields = info_sections(replies[1])["Memory"]
            pending, freed = (int(fields[name]) for name in ("lazyfree_pending_objects", "lazyfreed_objects"))
            assert 0 <= pending <= 200_000 and pending + freed == 200_000
            for _attempt in range(100):
                fields = info_of(connection, "memory")
                if fields["lazyfree_pending_objects"] == "0":
                    break
                time.sleep(0.1)
            told.append((fields["lazyfree_pending_objects"], fields["lazyfreed_objects"]))
            connection.command("CONFIG", "RESETSTAT")
            assert info_of(connection, "memory")["lazyfreed_objects"] == "0"
    assert told == [("0", "200000")] * 2


# --- CONFIG ---

# Settings that clients and test suites read, and that mean the same here as in Redis.
SHARED_SETTINGS = """
activerehashing appendonly bind databases dbfilename dir hz latency-monitor-threshold lfu-decay-time
lfu-log-factor maxclients maxmemory maxmemory-policy maxmemory-samples notify-keyspace-events port
proto-max-bulk-len protected-mode requirepass save slowlog-log-slower-than slowlog-max-len tcp-backlog
tcp-keepalive timeout unixsocket
client-output-buffer-limit client-query-buffer-limit maxmemory-clients lazyfree-lazy-user-flush loglevel
""".split()
OWN_DEFAULTS = {
    "bind",
    "dbfilename",
    "dir",
    "port",
    "save",
    "loglevel",
    "maxclients",
    "lazyfree-lazy-user-flush",
    "activerehashing",
}


def test_config_get_of_shared_settings(duel):
    wrong = []
    for name in SHARED_SETTINGS:
        expected, actual = (reply.value for reply in duel.ask("CONFIG", "GET", name))
        if len(actual) != 2 or (name not in OWN_DEFAULTS and expected != actual):
            wrong.append(f"{name}: expected {expected}, actual {actual}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_config_set_is_seen_by_get(start):
    server = start()
    with server.connect() as connection:
        assert connection.command("CONFIG", "SET", "maxmemory", "123mb", "slowlog-max-len", 77) == OK
        names = connection.command("CONFIG", "GET", "*").value
        assert len(names) % 2 == 0 and len(names) > 2 * len(SHARED_SETTINGS)
        settings = dict(zip(names[::2], names[1::2], strict=True))
        assert settings[b"maxmemory"] == b"%d" % (123 << 20)
        assert settings[b"slowlog-max-len"] == b"77"
        assert settings[b"port"] == b"%d" % server.port
        assert connection.command("CONFIG", "GET", "slowlog-max-le?").value == [b"slowlog-max-len", b"77"]


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_config_set_port(start_pair):
    """The server listens on the new port and no more on the old one; who is connected stays so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = []
        for server in start_pair().servers():
            first, second = server.port, free_port()
            with server.connect() as connection:
                told.append([])
                for port in (taken.getsockname()[1], second, first, second, second, 0, first):
                    reply = connection.command("CONFIG", "SET", "port", port, "slowlog-max-len", port + 1)
                    now = int(connection.command("CONFIG", "GET", "port").value[1])
                    length = int(connection.command("CONFIG", "GET", "slowlog-max-len").value[1])
                    listening = [connects(first), connects(second)]
                    told[-1].append((reply.raw, length == port + 1, now == port, listening))
                    assert listening == [now == first, now == second]
        assert told[0] == told[1]


BINDINGS = ("", "127.0.0.1 127.0.0.2", "127.0.0.1 198.51.100.7", "127.0.0.1 -198.51.100.7", "198.51.100.7", "*",
            "127.0.0.2 127.0.0.1", "nohost.invalid", "127.0.0.2 127.0.0.2", "localhost", "127.0.0.1  127.0.0.2",
            "-198.51.100.7", " 127.0.0.1", "-", "--127.0.0.1", "0.0.0.0", "127.0.0.2", " ".join("x" * 17),
            "127.0.0.1")


def answers_on(port, *addresses):
    found = []
    for address in addresses:
        try:
            socket.create_connection((address, port), timeout=5).close()
        except ConnectionRefusedError:
            continue
        found.append(address)
    return found


def test_config_set_bind(start_pair):
    """The server listens on the addresses asked for and on no others, or on those of before when it cannot."""
    told = []
    for server in start_pair().servers():
        told.append([])
        with server.connect() as connection:
            for bind in BINDINGS:
                reply = connection.command("CONFIG", "SET", "bind", bind)
                told[-1].append((bind, reply.raw, connection.command("CONFIG", "GET", "bind").raw,
                                 answers_on(server.port, "127.0.0.1", "127.0.0.2", "127.0.0.3")))
    assert told[0] == told[1]
    assert [len(step[3]) for step in told[0]][:3] == [0, 2, 2]


def test_config_set_bind_and_port(start_pair):
    """Both at once: what cannot be is named after the first of them, and then neither changes."""
    told = []
    for server in start_pair().servers():
        told.append([])
        first, second = server.port, free_port()
        with server.connect() as connection:
            for bind, port in [("127.0.0.2", second), ("198.51.100.7", first), ("127.0.0.1 127.0.0.2", first),
                               ("*", second)]:
                for words in ("bind", bind, "port", port), ("port", port, "bind", bind):
                    reply = connection.command("CONFIG", "SET", *words)
                    told[-1].append((reply.raw, connection.command("CONFIG", "GET", "bind").raw,
                                     answers_on(first, "127.0.0.1", "127.0.0.2"),
                                     answers_on(second, "127.0.0.1", "127.0.0.2")))
    assert told[0] == told[1]


# --- logs and aids ---


@pytest.mark.parametrize("protocol", [2, 3])
def test_slowlog(start_pair, protocol):
    """The same commands are logged, newest first, with the same words (long arguments shortened)."""
    told = []
    for server in start_pair().servers():
        with server.connect(protocol) as connection:
            connection.command("CLIENT", "SETNAME", "slow")
            connection.command("CONFIG", "SET", "slowlog-log-slower-than", 0)
            connection.command("SLOWLOG", "RESET")
            connection.command("SET", "a", "x" * 200)
            connection.command("MSET", *(word for index in range(40) for word in (f"k{index}", index)))
            connection.command("GET", "a")
            connection.command("NOSUCH", "a")
            connection.command("CONFIG", "SET", "slowlog-log-slower-than", -1)
            entries = connection.command("SLOWLOG", "GET", -1).tree[1]
            host, port = connection.socket.getsockname()
            for entry in entries:
                number, instant, micros, words, address, name = entry[1]
                assert number[0] == instant[0] == micros[0] == ":"
                assert abs(instant[1] - time.time()) < 30
                assert micros[1] >= 0
                assert (address[1], name[1]) == (f"{host}:{port}".encode(), b"slow")
            ids = [entry[1][0][1] for entry in entries]
            assert ids == list(range(ids[0], ids[0] - len(ids), -1))
            told.append([entry[1][3] for entry in entries])
            assert connection.command("SLOWLOG", "LEN").value == len(entries)
            assert len(connection.command("SLOWLOG", "GET", 2).value) == 2
            assert connection.command("CONFIG", "SET", "slowlog-max-len", 1) == OK
    assert told[0] == told[1]


def test_monitor(start_pair):
    """Lines of the same form and words, from connections of all threads."""
    told = []
    for server in start_pair().servers():
        with server.connect() as monitor, server.connect() as user:
            assert monitor.command("MONITOR") == OK
            lines = [
                ("SET", "a", "with space"),
                ("get", "a"),
                ("ECHO", '\x00"\\\n\r\t\x07\x08\xff'),
                ("SELECT", 5),
                ("GET", "b"),
                ("NOSUCH", "x"),
                ("GET",),
                ("CLIENT", "SETNAME", "me"),
                ("MGET", "a", "b", "c"),
                ("PING",),
            ]
            for line in lines:
                user.command(*line)
            host, port = user.socket.getsockname()
            seen = []
            pattern = re.compile(rb'\+(\d+\.\d{6}) \[(\d+) ([^]]+)\] (".*")')
            while not seen or seen[-1][1] != b'"PING"':
                line = monitor.read_line()
                instant, database, address, words = pattern.fullmatch(line).groups()
                assert abs(float(instant) - time.time()) < 30
                assert address == f"{host}:{port}".encode()
                seen.append((database, words))
            told.append(seen)
            assert monitor.command("QUIT") == OK
    assert told[0] == told[1]


def test_monitor_reset_ends(start):
    server = start()
    with server.connect() as monitor, server.connect() as user:
        assert monitor.command("MONITOR") == OK
        assert monitor.command("RESET") == b"+RESET\r\n"
        user.command("SET", "a", 1)
        monitor.send(encode("PING"))
        assert monitor.read() == PONG


@pytest.mark.parametrize("protocol", [2, 3])
def test_memory_stats_fields(duel, protocol):
    expected, actual = duel.ask("MEMORY", "STATS", protocol=protocol)
    assert actual.raw[:1] == expected.raw[:1]
    wanted, found = (
        {key[1]: value[0] for key, value in pairs_of(reply.tree)} for reply in (expected, actual)
    )
    wanted = {name: tag for name, tag in wanted.items() if not name.startswith(b"db.")}
    assert {name: found.get(name) for name in wanted} == wanted


def test_memory_usage_grows_with_values(flushed):
    with flushed.connect() as connection:
        sizes = []
        for size in (1, 100, 10_000, 1_000_000):
            connection.command("SET", "a", "x" * size)
            sizes.append(connection.command("MEMORY", "USAGE", "a").value)
        assert sizes == sorted(sizes)
        assert 1_000_000 < sizes[-1] < 1_400_000 and 10 < sizes[0] < 120


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "command", [("MEMORY", "DOCTOR"), ("LATENCY", "DOCTOR"), ("LOLWUT",), ("LOLWUT", "VERSION", "5")]
)
def test_prose_replies(duel, command, protocol):
    """Text for people: its own words, of the same reply type."""
    expected, actual = duel.ask(*command, protocol=protocol)
    assert actual.raw[:1] == expected.raw[:1]
    assert len(actual.value) > 10
    if command[0] == "LOLWUT":
        assert re.search(rb"ver\. \d+\.\d+\S*\n$", actual.value)


def test_debug_object(duel):
    pattern = (
        rb"\+Value at:0x[0-9a-f]+ refcount:(\d+) encoding:(\w+) "
        rb"serializedlength:\d+ lru:\d+ lru_seconds_idle:\d+\r\n"
    )
    for value in (b"abc", b"123", b"x" * 1000):
        told = []
        for server in duel.servers():
            with server.connect() as connection:
                connection.command("SET", "debugged", value)
                match = re.fullmatch(pattern, connection.command("DEBUG", "OBJECT", "debugged").raw)
                assert match, server.kind
                told.append(match[2])
        assert told[0] == told[1]


def test_digest_is_the_same_whatever_the_order_and_the_threads(start):
    lines = [("SET", f"key:{index}", index * index) for index in range(300)]
    digests = set()
    for order, threads in ((1, 1), (-1, 3)):
        server = start("dfly", proactor_threads=threads)
        with server.connect() as connection:
            connection.pipeline([("SELECT", 4), *lines[::order]])
            digests.add(connection.command("DEBUG", "DIGEST").value)
    assert len(digests) == 1 and re.fullmatch(rb"[0-9a-f]{40}", digests.pop())


def test_debug_log_is_written(start_pair):
    for server in start_pair().servers():
        with server.connect() as connection:
            assert connection.command("DEBUG", "LOG", "two words") == OK
            assert re.search(r"# DEBUG LOG: two words\n", server.log_tail())


def test_debug_change_repl_id(start_pair):
    for server in start_pair().servers():
        with server.connect() as connection:
            ids = []
            for _round in range(2):
                fields = info_sections(connection.command("INFO", "replication"))["Replication"]
                ids.append(fields["master_replid"])
                assert connection.command("DEBUG", "CHANGE-REPL-ID") == OK
            assert ids[0] != ids[1] and all(re.fullmatch("[0-9a-f]{40}", each) for each in ids)


def test_debug_sleep_stops_the_server(start):
    server = start()
    with server.connect() as sleeper, server.connect() as user:
        begin = time.monotonic()
        assert sleeper.command("DEBUG", "SLEEP", 0.3) == OK
        assert time.monotonic() - begin >= 0.3
        assert user.command("PING") == PONG


def test_time(duel):
    for server in duel.servers():
        with server.connect() as connection:
            seconds, micros = connection.command("TIME").value
            assert abs(int(seconds) - time.time()) < 3 and 0 <= int(micros) < 1_000_000


@pytest.mark.parametrize(
    "words", [("SHUTDOWN",), ("SHUTDOWN", "NOSAVE"), ("shutdown", "nosave", "now", "force")]
)
def test_shutdown(start, words):
    server = start()
    with server.connect() as connection, server.connect() as other:
        other.command("PING")
        connection.send(encode(*words))
        assert connection.read_until_closed() == b""
        assert other.read_until_closed() == b""
    assert server.process.wait(10) == 0


def test_nobody_is_accepted_behind_the_end(start):
    """A client that comes back at once must find the next server, or nothing."""
    server = start()
    server.process.terminate()
    assert server.process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, timeout=5)
