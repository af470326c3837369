"""Loading snapshots: files of redis-server and Valkey, what clients see meanwhile, and files that are broken."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from .servers import Server, command_line, environment, free_port
from .wire import Connection

SMALL_LIMITS = {"list-max-listpack-size": 4, "hash-max-listpack-entries": 4,
                "set-max-intset-entries": 4, "zset-max-listpack-entries": 4, "stream-node-max-entries": 4}
SOURCES = ("redis", "valkey")


def fill_strings(client):
    for number in range(300):
        client.command("SET", f"string:{number}", f"value {number} " * (number % 40))
        client.command("SET", f"number:{number}", number * 12345678912345 ** (number % 2) - 3)
        client.command("SET", number, "key that is a number")
        if number % 3 == 0:
            client.command("PEXPIREAT", f"string:{number}", 4_000_000_000_000 + number)
    client.command("SET", "key that is compressed " * 20, "x" * 100000)
    client.command("SETBIT", "large", 8 * 3_000_000, 1)


def fill_lists(client):
    for size in (1, 2, 3, 5, 20, 300):
        for shape in ("a", "1234", "element that is much longer " * 4, "y" * 10000):
            client.command("RPUSH", f"list:{size}:{len(shape)}", *(f"{shape}{number}" for number in range(size)))
        client.command("RPUSH", f"list:numbers:{size}", *(number ** 7 - 500 for number in range(size)))


def fill_hashes(client):
    for size in (1, 4, 5, 100, 700):
        client.command("HSET", f"hash:{size}", *(part for n in range(size) for part in (f"field {n}", n * 7 - 9)))
        client.command("HSET", f"hash:long:{size}", *(part for n in range(size) for part in (n, f"{n} " * 40)))


def fill_sets(client):
    for size in (1, 4, 5, 100, 700):
        for scale in (1, 5000, 2**40):
            client.command("SADD", f"set:{size}:{scale}", *(n * scale - 3 for n in range(size)))
        client.command("SADD", f"set:text:{size}", *(f"member {n}" for n in range(size)))
        client.command("SADD", f"set:long:{size}", *(f"{n} " * 40 for n in range(size)))


def fill_zsets(client):
    for size in (1, 4, 5, 100, 300):
        scores = (part for n in range(size) for part in (n * 1.37 - 5, f"member {n}"))
        client.command("ZADD", f"zset:{size}", *scores)
        client.command("ZADD", f"zset:special:{size}", "inf", "a", "-inf", "b", "0", "c",
                       *(part for n in range(size) for part in (2**53 + n, f"{n} " * 40)))


def fill_streams(client):
    for size in (1, 5, 250):
        name = f"stream:{size}"
        for n in range(1, size + 1):
            client.command("XADD", name, f"{n}-{n % 3 + 1}", "field", n, *(("other", "x" * n) if n % 4 == 0 else ()))
        client.command("XGROUP", "CREATE", name, "group", "0")
        client.command("XGROUP", "CREATE", name, "idle", "$")
        client.command("XREADGROUP", "GROUP", "group", "one", "COUNT", 7, "STREAMS", name, ">")
        client.command("XREADGROUP", "GROUP", "group", "two", "COUNT", 5, "STREAMS", name, ">")
        client.command("XACK", name, "group", "2-3")
        client.command("XDEL", name, "3-1")
    client.command("XADD", "stream:empty", "5-5", "a", "b")
    client.command("XDEL", "stream:empty", "5-5")


folders = []


def new_folder():
    folders.append(tempfile.mkdtemp(prefix="compat-load-"))
    return folders[-1]


@pytest.fixture(scope="module", autouse=True)
def remove_folders():
    yield
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


FILLERS = {"string": fill_strings, "list": fill_lists, "hash": fill_hashes, "set": fill_sets, "zset": fill_zsets,
           "stream": fill_streams}


def digest(server):
    with server.connect() as client:
        return client.command("DEBUG", "DIGEST").raw


def wait_until_loaded(server, limit=30):
    deadline = time.monotonic() + limit
    with server.connect() as client:
        while b"loading:0" not in client.command("INFO", "persistence").raw:
            assert time.monotonic() < deadline and server.alive
            time.sleep(0.01)


def field(server, name):
    with server.connect() as client:
        text = client.command("INFO", "persistence").raw.decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)[name]


def fill(server):
    for database in (0, 9):
        with server.connect() as client:
            client.command("SELECT", database)
            for filler in FILLERS.values():
                filler(client)


@pytest.fixture(scope="module")
def reference():
    """Redis' digest of the data: Valkey 9 renders scores in another way."""
    server = Server("redis")
    try:
        fill(server)
        return digest(server)
    finally:
        server.stop()


@pytest.fixture(scope="module", params=SOURCES)
def written(request, reference, tmp_path_factory):
    """(digest, path, kind): a file with all types, under usual and under small limits of compact encodings."""
    files = []
    for options in ({}, SMALL_LIMITS):
        if options and request.param == "valkey":
            options = {**options, "set-max-listpack-entries": 4}
        server = Server(request.param, **options)
        try:
            fill(server)
            with server.connect(timeout=60) as client:
                assert client.command("SAVE").raw == b"+OK\r\n"
            target = tmp_path_factory.mktemp("written") / "dump.rdb"
            shutil.copy(os.path.join(server.directory, "dump.rdb"), target)
            files.append((reference, target))
        finally:
            server.stop()
    return files


def start_with(path, **options):
    """dfly with a copy of that snapshot."""
    folder = new_folder()
    shutil.copy(path, os.path.join(folder, "dump.rdb"))
    return Server("dfly", dir=folder, dbfilename="dump.rdb", **options)


def run_to_end(path, *flags):
    """Exit status and output of a dfly that should not start."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(path, os.path.join(folder, "dump.rdb"))
        line = command_line("dfly", free_port(), {"dir": folder, "dbfilename": "dump.rdb"})
        result = subprocess.run([*line, *flags], cwd=folder, capture_output=True, timeout=60,
                                env=environment("dfly"))
        assert os.listdir(folder) == ["dump.rdb"]
    return result.returncode, (result.stdout + result.stderr).decode()


def test_files_of_others_hold_the_same_here(written):
    for expected, path in written:
        server = start_with(path)
        try:
            wait_until_loaded(server)
            assert digest(server) == expected
            assert field(server, "rdb_changes_since_last_save") == "0"
            assert int(field(server, "rdb_last_load_keys_loaded")) > 1000
            with server.connect(timeout=60) as client:
                assert client.command("DEBUG", "RELOAD").raw == b"+OK\r\n"
                assert digest(server) == expected
                assert client.command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE").raw == b"+OK\r\n"
                assert digest(server) == expected
                assert client.command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH").raw.startswith(b"-ERR Error trying")
                assert client.command("DEBUG", "RELOAD", "X").raw.startswith(b"-ERR DEBUG RELOAD only supports")
        finally:
            assert server.stop() == 0


def test_loads_into_its_own_layout_and_back(written):
    _, path = written[0]
    folder = new_folder()
    shutil.copy(path, os.path.join(folder, "dump.rdb"))
    expected, _ = written[0]
    server = Server("dfly", dir=folder, dbfilename="dump.rdb", df_snapshot_format="yes")
    try:
        wait_until_loaded(server)
        with server.connect(timeout=60) as client:
            # Times of files tell which is the newest.
            time.sleep(0.02)
            assert client.command("SAVE").raw == b"+OK\r\n"
            assert client.command("DEBUG", "RELOAD", "NOSAVE").raw == b"+OK\r\n"
        assert digest(server) == expected and b"summary" in server.log_tail().encode()
    finally:
        server.stop()


def test_kill_and_start_again():
    folder = new_folder()
    server = Server("dfly", dir=folder, dbfilename="dump-{timestamp}.rdb")
    try:
        with server.connect() as client:
            fill_strings(client)
            client.command("SAVE")
            expected = digest(server)
            client.command("FLUSHALL")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.start()
        wait_until_loaded(server)
        assert digest(server) == expected
    finally:
        server.stop()


def test_deadlines_and_groups_come_along(written):
    """What a digest does not see."""
    _, path = written[1]
    server = start_with(path)
    try:
        wait_until_loaded(server)
        with server.connect() as client:
            assert client.command("PEXPIRETIME", "string:3").raw == b":4000000000003\r\n"
            assert client.command("XPENDING", "stream:250", "group").raw == (
                b"*4\r\n:11\r\n$3\r\n1-2\r\n$4\r\n12-1\r\n"
                b"*2\r\n*2\r\n$3\r\none\r\n$1\r\n6\r\n*2\r\n$3\r\ntwo\r\n$1\r\n5\r\n")
            assert client.command("XADD", "stream:empty", "5-5", "a", "b").raw.startswith(b"-ERR The ID specified")
    finally:
        server.stop()


def test_fields_with_deadlines_of_valkey():
    with tempfile.TemporaryDirectory() as folder:
        valkey = Server("valkey", dir=folder)
        try:
            with valkey.connect() as client:
                for size in (3, 700):
                    fields = [part for n in range(size) for part in (f"field{n}", n)]
                    client.command("HSET", f"hash:{size}", *fields)
                    client.command("HPEXPIREAT", f"hash:{size}", 4_000_000_000_123, "FIELDS", 1, "field1")
                    client.command("HPEXPIRE", f"hash:{size}", 1, "FIELDS", 1, "field2")
                client.command("SAVE")
        finally:
            valkey.stop()
        time.sleep(0.01)
        server = start_with(os.path.join(folder, "dump.rdb"))
    try:
        wait_until_loaded(server)
        with server.connect() as client:
            for size in (3, 700):
                assert client.command("HPEXPIRETIME", f"hash:{size}", "FIELDS", 2, "field0", "field1").raw == (
                    b"*2\r\n:-1\r\n:4000000000123\r\n")
                assert client.command("HEXISTS", f"hash:{size}", "field2").raw == b":0\r\n"
    finally:
        server.stop()


# ---- While it loads ----------------------------------------------------------------------------

LARGE_KEYS = 3_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file that takes a while."""
    server = Server("redis")
    try:
        with server.connect(timeout=60) as client:
            client.command("DEBUG", "POPULATE", LARGE_KEYS, "key", 200)
            client.command("SAVE")
        target = tmp_path_factory.mktemp("large") / "dump.rdb"
        shutil.copy(os.path.join(server.directory, "dump.rdb"), target)
    finally:
        server.stop()
    return target


def start_slowly(path):
    """A server that is still loading: clients are answered before all is there."""
    folder = new_folder()
    shutil.copy(path, os.path.join(folder, "dump.rdb"))
    port = free_port()
    process = subprocess.Popen(command_line("dfly", port, {"dir": folder, "dbfilename": "dump.rdb",
                                                           "save": "1 1"}), cwd=folder, env=environment("dfly"),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return process, folder, Connection(("127.0.0.1", port), timeout=10)
        except OSError:
            time.sleep(0.002)
    raise AssertionError(process.stdout.read())


def test_loading_replies(large):
    process, _, client = start_slowly(large)
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    try:
        assert client.command("GET", "key:1").raw == loading
        info = client.command("INFO", "persistence").raw.decode()
        for name in ("loading:1", "loading_start_time:", "loading_total_bytes:", "loading_loaded_bytes:",
                     "loading_loaded_perc:", "loading_eta_seconds:"):
            assert name in info, info
        assert client.command("PING").raw == loading
        assert client.command("DBSIZE").raw == loading
        assert client.command("MULTI").raw == b"+OK\r\n"
        assert client.command("SET", "a", 1).raw == loading
        assert client.command("EXEC").raw.startswith(b"-EXECABORT")
        assert client.command("NOSUCH").raw.startswith(b"-ERR unknown command")
        assert client.command("GET").raw.startswith(b"-ERR wrong number")
        assert client.command("CONFIG", "GET", "port").raw.startswith(b"*2")
        while client.command("PING").raw == loading:
            time.sleep(0.01)
        assert client.command("DBSIZE").value == LARGE_KEYS
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_end_while_loading_leaves_the_file_alone(large):
    process, folder, client = start_slowly(large)
    assert client.command("PING").raw.startswith(b"-LOADING")
    process.send_signal(signal.SIGTERM)
    output = process.stdout.read()
    assert process.wait(20) == 0, output
    assert os.listdir(folder) == ["dump.rdb"]
    assert os.path.getsize(os.path.join(folder, "dump.rdb")) == os.path.getsize(large), output


# ---- Broken files ------------------------------------------------------------------------------

def test_truncated_files_are_refused(written, tmp_path):
    _, path = written[0]
    data = path.read_bytes()
    for size in (0, 8, 9, 100, len(data) // 2, len(data) - 9, len(data) - 1):
        broken = tmp_path / "broken.rdb"
        broken.write_bytes(data[:size])
        status, output = run_to_end(broken)
        assert status == 1 and "at byte" in output and "Refusing to start" in output, output


def test_changed_bytes_are_refused(written, tmp_path):
    _, path = written[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    broken = tmp_path / "broken.rdb"
    broken.write_bytes(data)
    status, output = run_to_end(broken)
    assert status == 1 and "at byte" in output, output


def test_a_part_is_kept_if_asked_for(written, tmp_path):
    _, path = written[0]
    data = path.read_bytes()
    broken = tmp_path / "broken.rdb"
    broken.write_bytes(data[:len(data) * 3 // 4])
    server = start_with(broken, load_partial="yes")
    try:
        wait_until_loaded(server)
        assert "keys are kept (load_partial)" in server.log_tail() and "at byte" in server.log_tail()
        assert int(field(server, "rdb_last_load_keys_loaded")) > 100
    finally:
        server.stop()
