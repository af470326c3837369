"""SAVE, BGSAVE, LASTSAVE, rules, the end of the server, and what goes wrong."""

import glob
import os
import time

import pytest

from .servers import SUBJECT
from .snapshots import contents, info, loaded, snapshot_path, wait_for_save
from .wire import encode

OK = b"+OK\r\n"
ONLY_DFLY = pytest.mark.skipif(SUBJECT != "dfly", reason="uses hooks of dfly")
ENOSPC, EIO = 28, 5
MISCONF = b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "


def names(server):
    return sorted(os.path.basename(path) for path in glob.glob(server.directory + "/*") if not path.endswith("/log"))


def fail_next(client, text):
    assert client.command("CONFIG", "SET", "file-fault", text) == OK


def failed_save(client):
    """BGSAVE that fails; INFO then."""
    assert client.command("BGSAVE") == b"+Background saving started\r\n"
    return wait_for_save(client)


def test_replies_are_those_of_redis(start_pair):
    duel = start_pair(dbfilename="dump.rdb", save="")
    for words in (["BGSAVE", "foo"], ["BGSAVE", "schedule", "x"], ["SAVE", "x"], ["LASTSAVE", "x"], ["SAVE"], ["MULTI"],
                  ["SAVE"], ["EXEC"], ["MULTI"], ["SET", "a", "b"], ["BGSAVE"], ["BGSAVE", "schedule"], ["EXEC"],
                  ["COMMAND", "INFO", "save", "bgsave", "lastsave"],
                  ["CONFIG", "GET", "save"], ["CONFIG", "SET", "save", "x"], ["CONFIG", "SET", "save", "1"],
                  ["CONFIG", "SET", "save", "3600 1 60 10"], ["CONFIG", "GET", "save"],
                  ["CONFIG", "SET", "save", "0 1"], ["CONFIG", "SET", "save", ""], ["CONFIG", "GET", "save"],
                  ["SHUTDOWN", "foo"], ["SHUTDOWN", "save", "nosave"], ["SHUTDOWN", "abort"],
                  ["SHUTDOWN", "abort", "now"]):
        expected, actual = duel.ask(*words)
        assert expected.raw == actual.raw, f"{words}: {expected}, {actual}"
    for server in duel.servers():
        with server.connect() as client:
            wait_for_save(client)
            assert abs(client.command("LASTSAVE").value - time.time()) < 5
            assert client.command("BGSAVE") == b"+Background saving started\r\n"
            fields = wait_for_save(client)
            assert fields["rdb_last_bgsave_status"] == "ok" and fields["rdb_changes_since_last_save"] == "0"
            assert int(fields["rdb_last_bgsave_time_sec"]) >= 0


def test_info_has_the_fields_of_redis(start_pair):
    told = {}
    for server in start_pair(dbfilename="dump.rdb").servers():
        with server.connect() as client:
            told[server.kind] = set(info(client))
    assert told["redis"] <= told[SUBJECT]


def test_changes_are_counted_from_the_cut(start):
    server = start(dbfilename="dump.rdb")
    with server.connect() as client:
        for number in range(5):
            client.command("SET", f"k{number}", "v")
        assert info(client)["rdb_changes_since_last_save"] == "5"
        client.send(encode("BGSAVE") + encode("SET", "k", "v") + encode("DEL", "k", "k0"))
        for _ in range(3):
            client.read()
        assert wait_for_save(client)["rdb_changes_since_last_save"] == "3"


@ONLY_DFLY
@pytest.mark.parametrize("fault", [f"open {EIO} 0", f"write {ENOSPC} 0", f"write {ENOSPC} 3", f"fsync {EIO} 0",
                                   f"close {EIO} 0", f"rename {EIO} 0"])
def test_a_fault_leaves_the_file_before(start, tmp_path, fault):
    server = start(dbfilename="dump.rdb", save="")
    with server.connect(timeout=30) as client:
        client.command("SET", "kept", "1")
        assert client.command("SAVE") == OK
        client.command("DEBUG", "POPULATE", 20000, "more", 100)
        fail_next(client, fault)
        fields = failed_save(client)
        assert fields["rdb_last_bgsave_status"] == "err" and fields["rdb_saves"] == "1"
        assert names(server) == ["dump.rdb"]
        assert client.command("SAVE") == b"-ERR\r\n"
        assert client.command("SET", "a", "b") == OK
        with loaded(snapshot_path(server), tmp_path) as redis, redis.connect() as other:
            assert contents(other) == {b"kept": b"1"}
        fail_next(client, "")
        assert client.command("SAVE") == OK
        assert info(client)["rdb_last_bgsave_status"] == "ok"
        with loaded(snapshot_path(server), tmp_path) as redis, redis.connect() as other:
            assert other.command("DBSIZE").value == 20002


def test_a_name_that_is_taken_is_an_error(start):
    server = start(dbfilename="dump.rdb", save="")
    os.makedirs(server.directory + "/dump.rdb/full")
    with server.connect() as client:
        client.command("SET", "a", "b")
        assert failed_save(client)["rdb_last_bgsave_status"] == "err"
    assert names(server) == ["dump.rdb"]


@ONLY_DFLY
def test_writes_are_refused_while_snapshots_fail(start):
    server = start(dbfilename="dump.rdb", save="3600 100000")
    with server.connect() as client:
        assert client.command("SET", "a", "b") == OK
        fail_next(client, f"rename {EIO} 0")
        failed_save(client)
        for words in (["SET", "a", "c"], ["DEL", "a", "b"], ["PING"]):
            assert client.command(*words).raw.startswith(MISCONF)
        assert client.command("GET", "a").value == b"b"
        assert client.command("MULTI") == OK
        assert client.command("SET", "a", "c").raw.startswith(MISCONF)
        assert client.command("EXEC").raw.startswith(b"-EXECABORT Transaction discarded because of previous errors.")
        client.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        time.sleep(0.6)
        assert client.command("MULTI") == OK
        assert client.command("SET", "a", "d") == b"+QUEUED\r\n"
        with server.connect() as other:
            other.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
        time.sleep(0.6)
        assert client.command("EXEC").raw.startswith(b"-EXECABORT Transaction discarded because of: MISCONF Redis")
        client.command("CONFIG", "SET", "save", "")
        time.sleep(0.6)
        assert client.command("SET", "a", "e") == OK
        client.command("CONFIG", "SET", "save", "3600 100000")
        time.sleep(0.6)
        assert client.command("SET", "a", "f").raw.startswith(MISCONF)
        fail_next(client, "")
        assert client.command("SAVE") == OK
        assert client.command("SET", "a", "f") == OK


def test_rules(start, tmp_path):
    server = start(dbfilename="dump.rdb", save="1 3")
    with server.connect() as client:
        for number in range(3):
            client.command("SET", f"k{number}", number)
        deadline = time.monotonic() + 10
        while not os.path.exists(snapshot_path(server)) and time.monotonic() < deadline:
            time.sleep(0.05)
        wait_for_save(client)
        with loaded(snapshot_path(server), tmp_path) as redis, redis.connect() as other:
            assert other.command("DBSIZE").value == 3


@pytest.mark.parametrize(("save", "words", "saved"), [
    ("", ["SHUTDOWN"], False), ("3600 1", ["SHUTDOWN"], True), ("3600 1", ["SHUTDOWN", "NOSAVE"], False),
    ("", ["SHUTDOWN", "SAVE"], True), ("3600 1", None, True), ("", None, False)])
def test_the_end(start, tmp_path, save, words, saved):
    server = start(dbfilename="dump.rdb", save=save)
    with server.connect() as client:
        client.command("SET", "a", "b")
        if words:
            client.send(encode(*words))
        else:
            server.process.terminate()
        server.process.wait(20)
    assert os.path.exists(snapshot_path(server)) == saved
    if saved:
        with loaded(snapshot_path(server), tmp_path) as redis, redis.connect() as other:
            assert contents(other) == {b"a": b"b"}


@ONLY_DFLY
def test_the_end_waits_for_a_snapshot_that_succeeds(start):
    server = start(dbfilename="dump.rdb", save="3600 1")
    with server.connect() as client:
        client.command("SET", "a", "b")
        fail_next(client, f"write {ENOSPC} 0")
        assert client.command("SHUTDOWN") == b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
        server.process.terminate()
        time.sleep(1)
        assert server.alive and client.command("GET", "a").value == b"b"
        client.send(encode("SHUTDOWN", "FORCE"))
        assert server.process.wait(20) == 0
    assert names(server) == []


@ONLY_DFLY
def test_names_with_the_time(start):
    server = start(dbfilename="dump-{timestamp}.rdb", save="")
    with server.connect() as client:
        client.command("SET", "a", "b")
        assert client.command("SAVE") == OK
    (name,) = names(server)
    time.strptime(name, "dump-%Y-%m-%dT%H:%M:%S.rdb")


@ONLY_DFLY
def test_left_over_files_are_removed_at_start(start):
    server = start(dbfilename="dump.rdb", save="")
    with server.connect() as client:
        client.command("SET", "a", "b")
        assert client.command("CONFIG", "GET", "dir").value[1]
    folder = server.directory
    for name in ("temp-dfly-999999999-0.rdb", "temp-dfly-1-0.rdb", "temp-other.rdb"):
        open(os.path.join(folder, name), "w").close()
    start(dbfilename="dump.rdb", save="", dir=folder)
    # Process 1 lives: it may be another server's.
    assert names(server) == ["temp-dfly-1-0.rdb", "temp-other.rdb"]
