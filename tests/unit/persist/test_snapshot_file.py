"""The reader of RDB files: what it finds in files written by hand, and what it says of broken ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfly import tools
from dfly._core.snapshot_file import SnapshotFile, read_head
from dfly.loader import find_snapshot, snapshot_parts

from snapshot_bytes import FORMS, SMALL, expire_s, file, length, record, select, string
from snapshot_reading import read


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dump.rdb"


def types_of(source, database=0):
    found = {}
    for (kind, _), (keys, _) in source.databases[database]["forms"].items():
        found[kind] = found.get(kind, 0) + keys
    return found


@pytest.mark.parametrize(("kind", "body", "name"), FORMS)
def test_the_end_of_every_form_is_found(path, kind, body, name):
    follower = record(0, b"next", string(b"v"))
    source = read(path, file(select(0), record(kind, b"key", body), follower), decode=False)
    expected = {name: 1, "string": 1} if name != "string" else {"string": 2}
    assert types_of(source) == expected
    assert read(path, file(select(0), record(kind, b"key", body), follower)).is_complete
    # Cut off anywhere in the value: the end of the file is unexpected.
    for size in range(len(body)):
        with pytest.raises(ValueError, match=r"unexpected end|more elements|checksum|unknown|special|end|too long"):
            read(path, file(select(0), record(kind, b"key", body[:size]), checksum=1)[:-9], decode=False)


def test_hash_with_deadlines_of_valkey(path):
    body = length(1) + string(b"f") + string(b"v") + struct.pack("<q", 5)
    source = read(path, file(select(0), record(22, b"key", body), version=80, magic=b"VALKEY"), decode=False)
    assert types_of(source) == {"hash": 1} and source.version == 80


def test_what_is_in_a_file(path):
    source = read(path, SMALL)
    assert source.aux == [(b"redis-ver", b"7.0.15")]
    assert types_of(source) == {"string": 4} and types_of(source, 3) == {"list": 3, "module": 1}
    assert source.databases[0]["expires"] == 1 and source.databases[0]["expired"] == 0
    assert source.modules == {"ReJSON-RL": 1} and source.functions == [b"#!lua name=lib\nreturn"]
    assert source.has_checksum and source.is_complete
    assert source.biggest()[0][3] == b"idle"


@pytest.mark.parametrize("version", [*range(1, 13), 80])
def test_versions(path, version):
    magic = b"VALKEY" if version == 80 else b"REDIS"
    source = read(path, file(select(1), expire_s(5), record(0, b"k", string(b"v")), version=version, magic=magic))
    assert types_of(source, 1) == {"string": 1} and source.databases[1]["expired"] == 1


@pytest.mark.parametrize(("data", "reason"), [
    (b"", "too short"), (b"REDIS", "too short"), (b"RUBBISH007", "neither REDIS nor VALKEY"),
    (b"REDIS0099", "version 99 is not understood"), (b"REDIS00x1", "not a number"),
    (file(b"\xf3"), "unknown operation"), (file(b"\xf6"), "release candidate"),
    (file(record(8, b"k", b"")), "unknown type"), (file(record(6, b"k", length(1))), "only the module"),
    (file(record(0, b"k", b"\xc9")), "unknown encoding"), (file(select(2**40)), "no database"),
    (file(record(2, b"k", length(2**50))), "more elements announced"),
    (file(record(0, b"k", length(2**31))), "too long"), (file(checksum=1), "checksum is wrong"),
    (file() + b"x", "behind the end"),
])
def test_faults(path, data, reason):
    with pytest.raises(ValueError, match=rf"at byte [0-9]+: .*{reason}"):
        read(path, data)


def test_no_checksum(path):
    assert not read(path, file(checksum=0)).has_checksum
    assert read(path, file(checksum=1), checksum=False).is_complete


def test_missing_file(path):
    with pytest.raises(ValueError, match="No such file"):
        SnapshotFile(path)
    with pytest.raises(ValueError, match="not a regular file"):
        SnapshotFile(path.parent)


def test_every_truncation(path):
    for size in range(len(SMALL)):
        with pytest.raises(ValueError, match="at byte"):
            read(path, SMALL[:size])


def test_every_flipped_byte(path):
    """The checksum finds them all; without it nothing worse happens than wrong data."""
    for at in range(len(SMALL) - 8):
        for mask in (1, 0xC0):
            data = bytearray(SMALL)
            data[at] ^= mask
            with pytest.raises(ValueError, match="at byte"):
                read(path, bytes(data))
            try:
                read(path, bytes(data), checksum=False)
            except ValueError as error:
                assert "at byte" in str(error)


@given(st.lists(st.one_of(
    st.builds(lambda key, value: record(0, key, string(value)), st.binary(max_size=40), st.binary(max_size=3000)),
    st.builds(lambda key, n: record(0, key, string(b"x" * n)), st.binary(max_size=9), st.integers(0, 3 * 1048576)),
    st.builds(lambda n: record(1, b"list", length(n) + string(b"element") * n), st.integers(1, 300000)),
    st.builds(select, st.integers(0, 15))), max_size=20))
def test_records_over_the_borders_of_blocks(items):
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory() as folder:
        data = file(*items, checksum=0)
        source = read(Path(folder) / "dump.rdb", data)
    keys = sum(keys for rows in source.databases.values() for keys, _ in rows["forms"].values())
    assert keys == sum(item[0] != 0xFE for item in items) and source.position == len(data)


# ---- Names and layouts -------------------------------------------------------------------------

def test_newest_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_snapshot("dump.rdb") is None and find_snapshot("dump-{timestamp}.rdb") is None
    for name in ("dump-2026-01-01T00:00:00.rdb", "dump-2026-02-01T00:00:00.rdb", "dump-2025-12-31T00:00:00.rdb",
                 "dump-rubbish.rdb", "dump-2027-01-01T00:00:00.rdb.bak", "dump.rdb"):
        (tmp_path / name).write_bytes(b"")
    assert find_snapshot("dump-{timestamp}.rdb") == "dump-2026-02-01T00:00:00.rdb"
    (tmp_path / "dump-2026-03-01T00:00:00-summary.dfs").write_bytes(b"")
    assert find_snapshot("dump-{timestamp}.rdb") == "dump-2026-03-01T00:00:00-summary.dfs"
    assert find_snapshot("dump.rdb") == "dump.rdb" and find_snapshot("other") is None


def described(path, capsys):
    assert tools.main(["check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    # Not its own name, not the time it took, no order among equals.
    return sorted(line for line in lines[2:-1] if "dfly-" not in line)


def test_check_and_convert(path, capsys):
    path.write_bytes(SMALL)
    before = described(path, capsys)
    assert any("ReJSON-RL" in line for line in before) and any("database 3: 4 keys" in line for line in before)
    summary, back = path.parent / "shards-summary.dfs", path.parent / "back.rdb"
    assert tools.main(["convert", str(path), str(summary), "--shards", "3"]) == 0
    assert len(snapshot_parts(str(summary))) == 3 and (b"dfly-shards", b"3") in read_head(summary)
    assert tools.main(["convert", str(summary), str(back)]) == 0
    capsys.readouterr()
    assert described(summary, capsys) == before
    assert described(back, capsys) == before
    assert not list(path.parent.glob("temp-*"))


def test_check_and_convert_of_what_is_broken(path, capsys):
    path.write_bytes(SMALL[:-20])
    target = path.parent / "out.rdb"
    assert tools.main(["check", str(path)]) == 1
    assert tools.main(["convert", str(path), str(target)]) == 1
    assert "at byte" in capsys.readouterr().err
    assert tools.main(["check", str(target)]) == 1 and not target.exists()
    assert [each.name for each in path.parent.iterdir()] == ["dump.rdb"]
