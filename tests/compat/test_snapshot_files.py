"""Snapshots as a file a shard and a summary, and what is left when a save is killed."""

import glob
import os
import random
import time

import pytest

from dfly import tools

from .servers import SUBJECT, THREADS, Server
from .snapshots import ask, contents, loaded, wait_for_save
from .test_snapshot import FILLER, WRITERS, Writer, check_invariants

CRASHES = int(os.environ.get("SNAPSHOT_CRASHES", "6"))
OK = b"+OK\r\n"

pytestmark = pytest.mark.skipif(SUBJECT != "dfly", reason="the layout of dfly")


def parts(server):
    """The files of the shards that the summary names."""
    with open(server.directory + "/dump-summary.dfs", "rb") as file:
        named = file.read()
    found = [path for path in sorted(glob.glob(server.directory + "/dump-*-????.dfs"))
             if os.path.basename(path).encode() in named]
    assert len(found) == THREADS
    return found


def merged(paths, folder):
    data = {}
    for path in paths:
        # Redis does not read files in blocks.
        single = os.path.join(folder, "single.rdb")
        assert tools.main(["convert", path, single]) == 0
        with loaded(single, folder) as redis, redis.connect(timeout=60) as client:
            found = contents(client)
        assert not data.keys() & found.keys()
        data.update(found)
    return data


def test_a_file_a_shard_is_of_one_moment(start, tmp_path):
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes", save="")
    with server.connect(timeout=60) as client:
        client.command("DEBUG", "POPULATE", FILLER, "filler", 100)
        writers = [Writer(server, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for _ in range(2):
            time.sleep(0.3)
            assert client.command("SAVE") == OK
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
            assert writer.error is None, writer.error
        deadline = time.monotonic() + 10
        while len(glob.glob(server.directory + "/*.dfs")) > THREADS + 1:
            assert time.monotonic() < deadline, "files of the snapshot before stay"
            time.sleep(0.05)
        check_invariants(merged(parts(server), tmp_path))


@pytest.mark.parametrize("fault", ["open 5 0", "write 28 1", "fsync 5 0", "rename 5 0", "rename 5 1", "rename 5 2"])
def test_a_fault_leaves_the_files_before(start, tmp_path, fault):
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes", save="")
    with server.connect(timeout=60) as client:
        ask(client, [("SET", f"key:{i}", i) for i in range(1000)])
        assert client.command("SAVE") == OK
        client.command("SET", "key:1", "changed")
        client.command("CONFIG", "SET", "file-fault", fault)
        assert client.command("BGSAVE").raw.startswith(b"+")
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "err"
        assert not glob.glob(server.directory + "/temp*")
        assert merged(parts(server), tmp_path) == {b"key:%d" % i: b"%d" % i for i in range(1000)}
        client.command("CONFIG", "SET", "file-fault", "")
        assert client.command("SAVE") == OK
        assert merged(parts(server), tmp_path)[b"key:1"] == b"changed"


@pytest.mark.parametrize("by_shard", ["no", "yes"])
def test_killed_saves_leave_the_file_before(tmp_path, by_shard):
    """Kill -9 at random moments of a save: the data are always those of the last save that was complete."""
    rng = random.Random(CRASHES)
    folder = str(tmp_path)
    path = os.path.join(folder, "dump.rdb")
    single = str(tmp_path / "copy" / "single.rdb")
    os.mkdir(os.path.dirname(single))
    versions = {}
    longest = 0.1
    last = 0
    for number in range(CRASHES):
        server = Server("dfly", dbfilename="dump.rdb", save="", dir=folder, df_snapshot_format=by_shard)
        assert not glob.glob(folder + "/temp-dfly*")
        with server.connect(timeout=60) as client:
            if number > 0:
                assert client.command("DEBUG", "DIGEST").value == versions[last]
            client.command("FLUSHALL")
            client.command("DEBUG", "POPULATE", 30000, f"run{number}:", 100)
            client.command("SET", "number", number)
            versions[number] = client.command("DEBUG", "DIGEST").value
            began = time.monotonic()
            if number == 0:
                assert client.command("SAVE") == OK
                longest = time.monotonic() - began
            else:
                assert client.command("BGSAVE").raw.startswith(b"+")
                for i in range(1000):
                    client.command("SET", f"run{number}::{i}", "changed")
                    if time.monotonic() - began > longest * number / CRASHES:
                        break
                time.sleep(rng.random() * longest / CRASHES)
        server.process.kill()
        server.process.wait()
        if by_shard == "yes":
            path = os.path.join(folder, "dump-summary.dfs")
        assert tools.main(["convert", path, single]) == 0
        with loaded(single, os.path.dirname(single)) as redis, redis.connect(timeout=60) as client:
            found = int(client.command("GET", "number").value)
            assert found in (last, number)
            last = found
            assert client.command("DEBUG", "DIGEST").value == versions[found]


def test_a_summary_that_is_moved_away_at_once_stops_nothing(start):
    """Somebody's backup may do so before the main thread has looked for the parts of the snapshot before."""
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes", save="")
    with server.connect() as client:
        for number in range(3):
            client.command("SET", "key", number)
            assert client.command("SAVE") == OK
            os.rename(server.directory + "/dump-summary.dfs", f"{server.directory}/kept-{number}.dfs")
            # It looks four times a second.
            time.sleep(0.6)
            assert client.command("DBSIZE").value == 1
            assert server.process.poll() is None
    assert "cannot be read, older files of shards stay: No such file or directory" in server.log_tail()
