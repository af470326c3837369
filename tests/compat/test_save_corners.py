"""Snapshots where they meet the machine: a directory that may not be written, the clock, an end in the middle."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from .servers import SUBJECT, environment, wait_until
from .snapshots import contents, info, loaded, snapshot_path, wait_for_save
from .test_save_commands import MISCONF, names
from .wire import encode

OK = b"+OK\r\n"
STARTED = b"+Background saving started\r\n"
NOBODY = 65534
ONLY_DFLY = pytest.mark.skipif(SUBJECT != "dfly", reason="settings of dfly")


def unprivileged():
    """A command that runs another without root's rights to write anywhere. Where Python itself lies in a directory
    that only root may enter, reading everything stays allowed."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    for more in ([], ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]):
        line = [*prefix, *more, sys.executable, "-c", "import dfly.server, dfly._core.server"]
        where = environment("dfly")
        if subprocess.run(line, cwd="/", env=where, capture_output=True, check=False).returncode == 0:
            return [*prefix, *more]
    return None


def saves(client):
    return int(info(client)["rdb_saves"])


@pytest.fixture
def folder():
    """A directory that its owner, who is not root, may write until the test says otherwise."""
    path = tempfile.mkdtemp(prefix="compat-corner-")
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("kind", [SUBJECT, "redis"])
def test_a_directory_that_may_not_be_written(folder, start, tmp_path, kind):
    prefix = unprivileged()
    if prefix is None:
        pytest.skip("this machine starts no Python as another user")
    server = start(kind, prefix=prefix, dir=folder, dbfilename="dump.rdb", save="3600 100000")
    path = os.path.join(folder, "dump.rdb")
    with server.connect(timeout=30) as client:
        client.command("SET", "kept", "1")
        assert client.command("BGSAVE") == STARTED
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "ok"
        saved = Path(path).read_bytes()
        assert os.stat(path).st_uid != 0
        os.chmod(folder, 0o555)
        client.command("SET", "more", "2")
        assert client.command("BGSAVE") == STARTED
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "err"
        assert client.command("SAVE") == b"-ERR\r\n"
        assert "ermission denied" in server.log_tail()
        assert os.listdir(folder) == ["dump.rdb"] and Path(path).read_bytes() == saved
        wait_until(lambda: client.command("SET", "a", "b").raw.startswith(MISCONF))
        assert client.command("GET", "more").value == b"2"
        os.chmod(folder, 0o755)
        assert client.command("BGSAVE") == STARTED
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "ok"
        client.command("DEL", "a")
        assert client.command("SET", "b", "c") == OK
    with loaded(path, tmp_path) as redis, redis.connect() as other:
        assert contents(other).items() >= {b"kept": b"1", b"more": b"2"}.items()


@ONLY_DFLY
def test_the_schedule_takes_a_snapshot_a_minute(start, tmp_path):
    """The schedule's clock is put forward by a minute each time; the first minute is that of the start."""
    server = start(dbfilename="dump.rdb", save="", snapshot_cron="* * * * *")
    with server.connect() as client:
        wait_until(lambda: "ready to accept connections" in server.log_tail())
        for number in (1, 2, 3):
            client.command("SET", "number", number)
            before = saves(client)
            assert client.command("CONFIG", "SET", "cron-clock-ahead", 60 * number) == OK
            wait_until(lambda: saves(client) > before)
            with loaded(snapshot_path(server), tmp_path) as redis, redis.connect() as other:
                assert contents(other) == {b"number": b"%d" % number}
        assert "snapshot_cron" in server.log_tail()
        # Minutes that are not in the schedule, and no schedule.
        half_an_hour_ahead = (time.localtime().tm_min + 30) % 60
        for schedule in (f"{half_an_hour_ahead} * * * *", ""):
            assert client.command("CONFIG", "SET", "snapshot_cron", schedule) == OK
            before = saves(client)
            for ahead in (5, 6, 7):
                assert client.command("CONFIG", "SET", "cron-clock-ahead", 60 * ahead) == OK
                time.sleep(0.3)
            assert saves(client) == before
        assert client.command("CONFIG", "SET", "snapshot_cron", "61 * * * *").raw.startswith(b"-ERR CONFIG SET failed")


@ONLY_DFLY
@pytest.mark.parametrize("words", [["SHUTDOWN", "NOSAVE"], ["SHUTDOWN", "NOSAVE", "NOW", "FORCE"], None])
@pytest.mark.parametrize("by_shard", ["no", "yes"])
def test_an_end_in_the_middle_of_a_snapshot(start, words, by_shard):
    """The snapshot before stays as it was, nothing half-written stays beside it, and the next start finds it."""
    save = "3600 1" if words else ""
    server = start(dbfilename="dump.rdb", save=save, df_snapshot_format=by_shard)
    with server.connect(timeout=60) as client:
        client.command("SET", "kept", "1")
        assert client.command("SAVE") == OK
        before = {name: Path(server.directory, name).read_bytes() for name in names(server)}
        client.command("DEBUG", "POPULATE", 800000, "more", 300)
        assert client.command("BGSAVE") == STARTED
        while not any(name.startswith("temp-") for name in names(server)):
            assert info(client)["rdb_bgsave_in_progress"] == "1", "the save was too fast for this test"
        if words:
            client.send(encode(*words))
        else:
            server.process.terminate()
        assert server.process.wait(20) == 0
    folder = Path(server.directory)
    found = {name: Path(folder, name).read_bytes() for name in names(server)}
    assert found == before
    again = start(dbfilename="dump.rdb", save="", dir=server.directory)
    with again.connect() as client:
        assert contents(client) == {b"kept": b"1"}
    assert names(server) == sorted(before)
