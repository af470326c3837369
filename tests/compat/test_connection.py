"""Connection commands: the handshake, CLIENT and its subcommands."""

import time
from contextlib import ExitStack

import pytest

from .client_lines import NEWER_FIELDS, client_info, client_lines, field_names, parse_line
from .scripts import run_scripts
from .servers import PRELOAD, THREADS, wait_until
from .wire import Connection, encode

OK = b"+OK\r\n"


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "connection", protocol, walk=False)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts_of_newer_commands(duel_with_valkey, protocol):
    run_scripts(duel_with_valkey, "connection_valkey", protocol, walk=False)


def test_scripts_with_password(start_pair):
    duel = start_pair(requirepass="secret")
    for server in duel.servers():
        server.password = None  # the scripts begin without it
    run_scripts(duel, "noauth", 2, walk=False, flush=False)
    for server in duel.servers():
        server.password = "secret"
    run_scripts(duel, "connection", 2, walk=False, flush=False)


@pytest.mark.parametrize("protocol", [2, 3])
def test_hello_fields(subject, protocol):
    with subject.connect() as connection:
        hello = connection.command("HELLO", protocol)
        assert hello.raw[:1] == (b"*" if protocol == 2 else b"%")
        fields = hello.value if protocol == 3 else dict(zip(hello.value[::2], hello.value[1::2], strict=True))
        assert fields[b"proto"] == protocol
        assert fields[b"mode"] == b"standalone"
        assert fields[b"role"] == b"master"
        assert fields[b"modules"] == []
        assert fields[b"id"] == connection.command("CLIENT", "ID").value


def test_ids_grow(subject):
    seen = []
    for _ in range(20):
        with subject.connect() as connection:
            seen.append(connection.command("CLIENT", "ID").value)
    assert seen == sorted(set(seen)), "ids are unique and grow over all threads"


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("command", [("CLIENT", "LIST"), ("CLIENT", "INFO")])
def test_line_fields(duel, protocol, command):
    expected, actual = duel.ask(*command, protocol=protocol)
    assert actual.raw[:1] == expected.raw[:1]
    wanted = field_names(client_lines(expected)[-1])
    found = field_names(client_lines(actual)[-1])
    assert found == wanted + [name for name in NEWER_FIELDS if name not in wanted]


def test_line_values(duel):
    """What CLIENT INFO says about one and the same history on both servers."""
    told = []
    for server in duel.servers():
        with server.connect() as connection:
            host, port = connection.socket.getsockname()
            steps = [("SELECT", 5), ("CLIENT", "SETNAME", "me"), ("CLIENT", "NO-EVICT", "on"), ("HELLO", 3)]
            for step in steps:
                assert not connection.command(*step).is_error
            info = client_info(connection)
            assert info["addr"] == f"{host}:{port}"
            assert info["laddr"] == f"127.0.0.1:{server.port}"
            assert int(info["id"]) == connection.command("CLIENT", "ID").value
            assert int(info["fd"]) > 0 and int(info["tot-mem"]) > 0
            steady = ("name", "flags", "db", "sub", "psub", "multi", "events", "cmd", "user", "redir", "resp")
            told.append({name: info[name] for name in (*steady, "age", "idle", "obl", "oll", "omem", "ssub")})
    assert told[0] == told[1]


def test_library_in_list(duel_with_valkey):
    for server in duel_with_valkey.servers():
        with server.connect() as connection:
            assert connection.command("CLIENT", "SETINFO", "LIB-NAME", "library") == OK
            assert connection.command("CLIENT", "SETINFO", "lib-ver", "1.2") == OK
            info = client_info(connection)
            assert (info["lib-name"], info["lib-ver"]) == ("library", "1.2")
            assert connection.command("RESET") == b"+RESET\r\n"
            info = client_info(connection)
            assert (info["lib-name"], info["lib-ver"]) == ("library", "1.2"), "RESET leaves the library"


def test_list_shows_connections_of_all_threads(subject):
    connections = [subject.connect() for _ in range(8 * THREADS)]
    try:
        for index, connection in enumerate(connections):
            assert connection.command("CLIENT", "SETNAME", f"listed:{index}") == OK
        ids = [connection.command("CLIENT", "ID").value for connection in connections]
        lines = [parse_line(line) for line in client_lines(connections[0].command("CLIENT", "LIST"))]
        assert {f"listed:{index}" for index in range(len(connections))} <= {line["name"] for line in lines}
        assert len({line["id"] for line in lines}) == len(lines)
        chosen = client_lines(connections[0].command("CLIENT", "LIST", "ID", *ids[2:5]))
        assert sorted(int(parse_line(line)["id"]) for line in chosen) == ids[2:5]
        normal = client_lines(connections[0].command("CLIENT", "LIST", "TYPE", "normal"))
        assert len(normal) >= len(connections)
    finally:
        for connection in connections:
            connection.close()


def is_closed(connection, patience=2.0):
    connection.socket.settimeout(patience)
    return connection.read_until_silent(patience)[1]


def test_kill_by_every_filter(duel):
    """The same kills on both: the same counts, and the same connections gone."""
    told = []
    for server in duel.servers():
        with server.connect() as killer:
            story = []

            def victim_for(*command, server=server, killer=killer, story=story):
                with server.connect() as victim:
                    client = victim.command("CLIENT", "ID").value
                    port = victim.socket.getsockname()[1]
                    line = [word.format(id=client, port=port) for word in command]
                    story.append((line[2], killer.command(*line).raw, is_closed(victim, 0.5)))

            victim_for("CLIENT", "KILL", "ID", "{id}")
            victim_for("CLIENT", "KILL", "ADDR", "127.0.0.1:{port}")
            victim_for(
                "CLIENT",
                "KILL",
                "ID",
                "{id}",
                "ADDR",
                "127.0.0.1:{port}",
                "TYPE",
                "normal",
                "USER",
                "default",
            )
            victim_for("CLIENT", "KILL", "ID", "{id}", "ADDR", "127.0.0.1:1")
            victim_for("CLIENT", "KILL", "ID", "{id}", "TYPE", "pubsub")
            victim_for("client", "kill", "user", "nosuch")
            with server.connect() as victim:
                reply = killer.command("CLIENT", "KILL", "127.0.0.1:%d" % victim.socket.getsockname()[1])
                story.append(("old style", reply.raw, is_closed(victim)))
            with server.connect() as suicide:
                client = suicide.command("CLIENT", "ID").value
                story.append(("skip me", suicide.command("CLIENT", "KILL", "ID", client).raw))
                suicide.send(encode("CLIENT", "KILL", "ID", client, "SKIPME", "no") + encode("PING"))
                story.append(("suicide", suicide.read_until_silent(0.5)))
            told.append(story)
    assert told[0] == told[1]


def test_kill_all_others(start):
    server = start()
    others = [server.connect() for _ in range(10)]
    for other in others:
        other.command("PING")
    with server.connect() as killer:
        assert killer.command("CLIENT", "KILL", "LADDR", f"127.0.0.1:{server.port}").value == len(others)
        assert all(is_closed(other) for other in others)
        assert killer.command("PING") == b"+PONG\r\n"


REPLY_SCRIPTS = {
    "off": [
        ("CLIENT", "REPLY", "OFF"),
        ("PING",),
        ("NOSUCH",),
        ("SET", "a", 1),
        ("CLIENT", "REPLY", "ON"),
        ("GET", "a"),
    ],
    "skip": [
        ("CLIENT", "REPLY", "SKIP"),
        ("PING",),
        ("ECHO", "x"),
        ("CLIENT", "REPLY", "SKIP"),
        ("NOSUCH",),
        ("PING",),
    ],
    "skip twice": [("CLIENT", "REPLY", "SKIP"), ("CLIENT", "REPLY", "SKIP"), ("PING",), ("ECHO", "x")],
    "skip while off": [("CLIENT", "REPLY", "OFF"), ("CLIENT", "REPLY", "SKIP"), ("PING",), ("ECHO", "x")],
    "off and on": [
        ("CLIENT", "REPLY", "OFF"),
        ("CLIENT", "REPLY", "ON"),
        ("CLIENT", "REPLY", "ON"),
        ("PING",),
    ],
    "bad while off": [
        ("CLIENT", "REPLY", "OFF"),
        ("CLIENT", "REPLY", "junk"),
        ("CLIENT", "REPLY", "on"),
        ("PING",),
    ],
    "reset while off": [("CLIENT", "REPLY", "OFF"), ("RESET",), ("PING",)],
    "skip and mget": [
        ("CLIENT", "REPLY", "SKIP"),
        ("MGET", "a", "b", "c"),
        ("MSET", "a", 1, "b", 2),
        ("MGET", "a", "b"),
    ],
}


@pytest.mark.parametrize("name", REPLY_SCRIPTS)
def test_reply_modes(duel, name):
    duel.compare_bytes(b"".join(encode(*command) for command in REPLY_SCRIPTS[name]))


def test_quit_answers_and_closes(duel):
    duel.compare_bytes(encode("PING") + encode("QUIT") + encode("PING"))
    duel.compare_bytes(b"quit\r\nPING\r\n")
    duel.compare_bytes(encode("QUIT", "x") + encode("PING"))


def answered_after(connection, command):
    """Seconds until the reply to a command."""
    begin = time.monotonic()
    connection.command(*command)
    return time.monotonic() - begin


@pytest.mark.parametrize("kind", ["write", "all"])
def test_pause(duel, kind):
    for server in duel.servers():
        with server.connect() as admin, server.connect() as user, server.connect() as reader:
            assert admin.command("CLIENT", "PAUSE", 600, kind) == OK
            read = answered_after(reader, ("GET", "a"))
            write = answered_after(user, ("SET", "a", 1))
            assert (read < 0.3) == (kind == "write"), server.kind
            assert 0.4 < write + read < 5, server.kind
            assert answered_after(user, ("SET", "a", 1)) < 0.3, "the pause is over"


def test_unpause(duel):
    for server in duel.servers():
        with server.connect() as admin, server.connect() as user, server.connect() as multi:
            assert admin.command("CLIENT", "PAUSE", 60000, "write") == OK
            user.send(encode("SET", "a", 2) + encode("GET", "a"))
            multi.send(encode("MSET", "a", 2, "b", 2, "c", 2) + encode("DEL", "x", "y", "z"))
            time.sleep(0.15)
            assert admin.command("CLIENT", "UNPAUSE") == OK
            assert user.read() == OK and user.read() == b"$1\r\n2\r\n", server.kind
            assert multi.read() == OK and multi.read() == b":0\r\n", server.kind


def test_unix_socket(start, tmp_path):
    path = str(tmp_path / "socket")
    start(unixsocket=path)
    with Connection(path) as connection:
        assert connection.command("SET", "a", 1) == OK
        assert connection.command("GET", "a") == b"$1\r\n1\r\n"
        info = client_info(connection)
        assert (info["addr"], info["laddr"]) == (f"{path}:0", f"{path}:0")
        assert info["flags"] == "U"


def test_maxclients(start_pair):
    duel = start_pair(maxclients=10)
    told = []
    for server in duel.servers():
        connections = [server.connect() for _ in range(10)]
        for connection in connections:
            assert connection.command("PING") == b"+PONG\r\n"
        with server.connect() as refused:
            told.append(refused.read_until_silent(1.0))
        connections.pop().close()
        time.sleep(0.1)
        with server.connect() as welcome:
            assert welcome.command("PING") == b"+PONG\r\n"
        for connection in connections:
            connection.close()
    assert told[0] == told[1]


def test_idle_timeout(start):
    server = start(timeout=1)
    with server.connect() as idle:
        assert idle.command("PING") == b"+PONG\r\n"
        begin = time.monotonic()
        assert is_closed(idle, 6.0)
        assert time.monotonic() - begin > 0.8


@pytest.mark.skipif(PRELOAD is not None, reason="a sanitizer keeps what is freed")
def test_memory_of_clients_goes_back_to_the_system(start):
    """Each has sent the beginning of a command when it leaves; nothing else happens then."""
    server = start(proactor_threads=1)
    size, count = 50_000, 400
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(server.connect()).send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n" + b"x" * size)
        with server.connect() as watcher:
            wait_until(lambda: watcher.command("CLIENT", "LIST").value.count(b" qbuf=500") == count)
        with_them = server.resident_memory()
    wait_until(lambda: server.resident_memory() < with_them - count * size // 2)
