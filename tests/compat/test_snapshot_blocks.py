"""Snapshots by shards in compressed blocks: what is in the files, under each --compression_mode, and broken ones."""

import glob
import os
import random
import shutil
import subprocess
import time

import pytest

from dfly import tools

from .servers import SUBJECT, THREADS, Server, command_line, free_port, environment
from .snapshots import ask, info, wait_for_save
from .test_load import FILLERS, digest, wait_until_loaded

OK = b"+OK\r\n"

pytestmark = pytest.mark.skipif(SUBJECT != "dfly", reason="the layout of dfly")


def parts(folder):
    return sorted(glob.glob(os.path.join(folder, "dump-*-????.dfs")))


def beginnings(folder):
    return {open(path, "rb").read(5) for path in parts(folder)}


def fill(client):
    """All types, in two databases; what does not get smaller; values that take many blocks."""
    for database in (0, 9):
        client.command("SELECT", database)
        for filler in FILLERS.values():
            filler(client)
    noise = random.Random(1)
    ask(client, [("SET", f"noise:{n}", noise.randbytes(n)) for n in range(1, 3000, 7)])
    client.command("SET", "large noise", noise.randbytes(3_000_000))
    client.command("SET", "large text", "some text " * 300_000)
    client.command("RPUSH", "many", *(f"element {n}" for n in range(100_000)))


@pytest.fixture(scope="module")
def expected():
    """The digest of those data."""
    server = Server("dfly")
    try:
        with server.connect(timeout=60) as client:
            fill(client)
        return digest(server)
    finally:
        server.stop()


MODES = [({"compression_mode": 3}, b"DFLYS"), ({}, b"DFLYS"), ({"compression_mode": 1}, b"REDIS"),
         ({"compression_mode": 0}, b"REDIS"), ({"rdbcompression": "no"}, b"REDIS"), ({"rdbchecksum": "no"}, b"DFLYS")]


@pytest.mark.parametrize(("options", "beginning"), MODES)
def test_all_types_there_and_back(start, expected, options, beginning):
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes", **options)
    with server.connect(timeout=60) as client:
        fill(client)
        assert client.command("SAVE") == OK
        assert beginnings(server.directory) == {beginning}
        size = sum(os.path.getsize(path) for path in glob.glob(server.directory + "/*.dfs"))
        fields = info(client, "all")
        # Bytes are those of the files.
        assert int(fields["snapshot_last_bytes"]) == int(fields["snapshot_total_bytes"]) == size
        assert client.command("DEBUG", "RELOAD", "NOSAVE") == OK
        assert int(info(client)["rdb_last_load_keys_loaded"]) > 2000
    assert digest(server) == expected
    summary = server.directory + "/dump-summary.dfs"
    assert tools.main(["check", summary]) == 0
    # A server that writes something else reads it all the same.
    again = start(dbfilename="dump.rdb", dir=server.directory, compression_mode=1)
    wait_until_loaded(again)
    assert digest(again) == expected


def test_sizes(start):
    sizes = {}
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes")
    with server.connect(timeout=60) as client:
        ask(client, [("SET", f"key:{n}", f"user {n} active true city London order {n * 7} " * 4) for n in range(20000)])
        for mode in (0, 1, 3):
            assert client.command("CONFIG", "SET", "compression_mode", mode) == OK
            assert client.command("SAVE") == OK
            sizes[mode] = int(info(client, "all")["snapshot_last_bytes"])
        assert sizes[3] < 0.8 * sizes[1] < 0.8 * sizes[0]
        assert client.command("CONFIG", "SET", "df_snapshot_format", "no") == OK
        single = {}
        for mode in (0, 1, 3):
            client.command("CONFIG", "SET", "compression_mode", mode)
            assert client.command("SAVE") == OK
            single[mode] = int(info(client, "all")["snapshot_last_bytes"])
        # Redis' format knows strings only.
        assert single[1] == single[3] < single[0]
        with open(server.directory + "/dump.rdb", "rb") as file:
            assert file.read(5) == b"REDIS"


def test_modes_that_there_are_not(start):
    server = start()
    with server.connect() as client:
        reply = client.command("CONFIG", "SET", "compression_mode", 2).raw
        assert reply.startswith(b"-ERR CONFIG SET failed") and b"2 (zstd) is not supported" in reply
        assert client.command("CONFIG", "GET", "compression_mode").value == [b"compression_mode", b"3"]
        assert client.command("CONFIG", "SET", "compression-mode", 1) == OK
        assert client.command("CONFIG", "GET", "compression-mode").value == [b"compression-mode", b"1"]
    line = command_line("dfly", free_port(), {"dir": server.directory})
    result = subprocess.run([*line, "--compression_mode=2"], capture_output=True, timeout=60, env=environment("dfly"))
    assert result.returncode != 0 and b"2 (zstd) is not supported" in result.stdout + result.stderr


def test_many_databases(start):
    """The head of a file is longer than a block."""
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes", databases=8000)
    with server.connect(timeout=60) as client:
        ask(client, [each for n in range(8000) for each in (("SELECT", n), ("SET", f"key:{n}", n))])
        before = digest(server)
        assert client.command("DEBUG", "RELOAD") == OK
    assert digest(server) == before and beginnings(server.directory) == {b"DFLYS"}


def test_files_of_earlier_versions(start, tmp_path, expected):
    """Their files of shards are not in blocks."""
    server = start(dbfilename="dump.rdb")
    with server.connect(timeout=60) as client:
        fill(client)
        assert client.command("SAVE") == OK
    summary = str(tmp_path / "dump-summary.dfs")
    assert tools.main(["convert", server.directory + "/dump.rdb", summary, "--shards", "3",
                       "--compression_mode", "0"]) == 0
    assert len(parts(tmp_path)) == 3 and beginnings(tmp_path) == {b"REDIS"}
    again = start(dbfilename="dump.rdb", df_snapshot_format="yes", dir=str(tmp_path))
    wait_until_loaded(again)
    assert digest(again) == expected
    with again.connect(timeout=60) as client:
        assert client.command("DEBUG", "RELOAD") == OK
    assert digest(again) == expected and b"DFLYS" in beginnings(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    server = Server("dfly", dbfilename="dump.rdb", df_snapshot_format="yes", dir=str(folder))
    try:
        with server.connect(timeout=60) as client:
            ask(client, [("SET", f"key:{n}", f"text {n} " * 20) for n in range(5000)])
            assert client.command("SAVE") == OK
    finally:
        server.stop()
    return folder


@pytest.mark.parametrize("how", ["flipped", "short"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_a_broken_part_is_refused(saved, tmp_path, how, place):
    folder = shutil.copytree(saved, tmp_path / "copy")
    path = parts(folder)[-1]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    at = int(len(data) * place)
    if how == "flipped":
        # In what was written: a frame's head that is broken may be known by what it says.
        at = data.rindex(b"key:", 0, at)
    data[at] ^= 0x55
    with open(path, "wb") as file:
        file.write(data[:at] if how == "short" else data)
    line = command_line("dfly", free_port(), {"dir": str(folder), "dbfilename": "dump.rdb"})
    result = subprocess.run(line, capture_output=True, timeout=60, env=environment("dfly"))
    text = (result.stdout + result.stderr).decode()
    assert result.returncode != 0 and f"Cannot load the snapshot '{os.path.basename(path)}': at byte " in text, text
    assert ("unexpected end of the file" if how == "short" else "checksum of a frame is wrong") in text
    with Server("dfly", dir=str(folder), dbfilename="dump.rdb", load_partial="yes") as server:
        wait_until_loaded(server)
        with server.connect() as client:
            # The other file, and of this one what lies before the fault.
            assert 0 < client.command("DBSIZE").value < 5000 or place > 0.9


def test_writers_are_served_while_blocks_are_compressed(start):
    """Answers come between two blocks, not after a chunk."""
    server = start(dbfilename="dump.rdb", df_snapshot_format="yes")
    with server.connect(timeout=60) as client:
        client.command("DEBUG", "POPULATE", 200000, "key", 300, "RAND")
        assert client.command("BGSAVE").raw.startswith(b"+")
        longest, count, last = 0.0, 0, time.monotonic()
        while count % 20 or info(client)["rdb_bgsave_in_progress"] == "1":
            client.command("SET", f"other:{count}", count)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            count += 1
        assert wait_for_save(client)["rdb_last_bgsave_status"] == "ok"
        assert count > 100 and longest < 1.0
        expected = digest(server)
        client.command("SAVE")
        assert client.command("DEBUG", "RELOAD", "NOSAVE") == OK
    assert digest(server) == expected and len(parts(server.directory)) == THREADS
