"""Files in compressed blocks: what a reader finds in them, and what it says of broken and hostile ones."""

import random
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfly import tools
from dfly._core.snapshot_file import SnapshotFile, SnapshotWriter

from frame_bytes import (HEADER, LZ4, PLAIN, STORED, cut, framed, frames_of, lz4_literals, lz4_run, lz4_unpacked,
                         unframed)
from snapshot_bytes import SMALL, file, length, record, select, string
from snapshot_reading import read

NOISE = random.Random(1).randbytes(40000)
# Compressed, stored, and a value that lies over several frames.
MIXED = file(select(0), *(record(0, b"text:%d" % n, string(b"some text %d " % n * 9)) for n in range(300)),
             record(0, b"noise", string(NOISE)), record(0, b"last", string(b"l" * 100)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dump-0000.dfs"


def written(data, folder, **options):
    """What SnapshotWriter makes of a file."""
    path = Path(folder) / "source.rdb"
    path.write_bytes(data)
    target = Path(folder) / "target.dfs"
    source = SnapshotFile(path)
    with open(target, "wb") as stream:
        writer = SnapshotWriter([stream.fileno()], source.version, [], **options)
        while writer.copy_some(source):
            pass
        writer.finish()
    return target.read_bytes()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    data = written(MIXED, tmp_path_factory.mktemp("frames"), in_blocks=True)
    assert {kind for _, kind, _, _ in frames_of(data)} == {STORED, LZ4}
    return data


def facts(source):
    return source.databases, source.aux, source.modules, source.functions, source.biggest(), source.version


# ---- What is right -----------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [STORED, LZ4])
@pytest.mark.parametrize("size", [16, 17, 100, 4096])
def test_a_file_in_blocks_is_the_file_inside(path, kind, size):
    plain = read(path, SMALL)
    # Literals alone make a block larger, which is refused: runs in front of them make it smaller.
    blocks = cut(SMALL, size)
    if kind == LZ4:
        inner = file(select(0), record(0, b"run", string(b"r" * 5000)), checksum=0)
        start = inner.index(b"r" * 5000)
        blocks = [*cut(inner[:start], size), (LZ4, 5000, lz4_run(b"r", 5000)), *cut(inner[start + 5000:], size)]
        plain = read(path, inner)
    source = read(path, framed(blocks))
    assert facts(source) == facts(plain)
    assert source.has_checksum and source.is_complete and source.position == source.size == path.stat().st_size
    assert source.unpacked == plain.size and plain.unpacked is None
    assert not read(path, framed(blocks, header=PLAIN)).has_checksum


def test_what_is_written_is_as_described(tmp_path, path):
    data = written(SMALL, tmp_path, in_blocks=True)
    inner = unframed(data)
    assert inner[-9:] == b"\xff" + bytes(8) and inner[:9] == SMALL[:9]
    assert facts(read(path, inner)) == facts(read(path, data))


def test_blocks_are_small_and_what_does_not_get_smaller_is_stored(mixed, path):
    found = frames_of(mixed)
    assert all(raw <= 16384 and len(block) <= raw for _, _, raw, block in found)
    assert lz4_unpacked(lz4_run(b"x", 5000)) == b"x" * 5000 and lz4_unpacked(lz4_literals(NOISE)) == NOISE
    assert len(mixed) < len(NOISE) + 10000 < len(MIXED)
    assert facts(read(path, mixed)) == facts(read(path, unframed(mixed)))


@given(st.lists(st.one_of(
    st.builds(lambda key, value: record(0, key, string(value)), st.binary(max_size=40), st.binary(max_size=3000)),
    st.builds(lambda key, n: record(0, key, string(b"x" * n)), st.binary(max_size=9), st.integers(0, 3 * 1048576)),
    st.builds(lambda n, seed: record(0, b"noise", string(random.Random(seed).randbytes(n))), st.integers(0, 300000),
              st.integers(0, 9)),
    st.builds(lambda n: record(1, b"list", length(n) + string(b"element") * n), st.integers(1, 300000)),
    st.builds(select, st.integers(0, 15))), max_size=15))
def test_records_over_the_borders_of_frames(items):
    with tempfile.TemporaryDirectory() as folder:
        data = written(file(*items, checksum=0), folder, in_blocks=True)
        source = read(Path(folder) / "dump.dfs", data)
        plain = read(Path(folder) / "dump.rdb", file(*items, checksum=0))
    assert source.databases == plain.databases and source.is_complete and source.position == len(data)


SEEDS = Path(__file__).parents[2] / "fuzz" / "seeds"


@pytest.mark.parametrize(("name", "beginning"), [("dfly-blocks", b"DFLYS0001"), ("dfly-strings", b"REDIS0012")])
def test_files_of_shards_of_earlier_versions(path, name, beginning):
    """As they were written once, with and without blocks."""
    data = (SEEDS / f"{name}.seed").read_bytes()
    source = read(path, data)
    assert data[:9] == beginning and source.is_complete and source.has_checksum
    assert sorted((name, kind) for _, kind, _, name in source.biggest()) == [
        (b"hash", "hash"), (b"integers", "set"), (b"list", "list"), (b"other", "string"), (b"set", "set"),
        (b"stream", "stream"), (b"temporary", "set"), (b"text", "string"), (b"with deadline", "string"),
        (b"zset", "zset")]
    assert {number: sum(keys for keys, _ in rows["forms"].values()) for number, rows in source.databases.items()} == {
        0: 10, 3: 1}
    assert source.databases[0]["forms"]["set", "hash table with TTLs"][0] == 1


# ---- What is broken ----------------------------------------------------------------------------

def fault(path, data, **options):
    """(offset, reason) of the refusal."""
    with pytest.raises(ValueError, match=r"^at byte [0-9]+: ") as error:
        read(path, data, **options)
    offset, reason = str(error.value)[8:].split(": ", 1)
    assert reason
    return int(offset), reason


def test_every_truncation(path):
    data = framed(cut(SMALL, 100))
    for size in range(len(data)):
        offset, _ = fault(path, data[:size])
        assert offset <= size


def test_truncation_at_each_border(path, mixed):
    for offset, _, _, _ in frames_of(mixed):
        assert fault(path, mixed[:offset]) == (offset, "unexpected end of the file: there is no end mark")
        assert fault(path, mixed[:offset + 12]) == (offset, "unexpected end of the file")
        assert fault(path, mixed[:offset], checksum=False)[0] == offset


def test_every_flipped_byte(path):
    data = framed(cut(SMALL, 100))
    for at in range(len(data)):
        for mask in (1, 0xC0):
            changed = bytearray(data)
            changed[at] ^= mask
            offset, _ = fault(path, bytes(changed))
            assert offset <= len(data)
            try:
                read(path, bytes(changed), checksum=False)
            except ValueError as error:
                assert "at byte" in str(error)


@given(changes=st.dictionaries(st.integers(0, 2**20), st.integers(1, 255), min_size=1, max_size=5))
def test_corruption_is_refused_where_it_is(mixed, changes):
    data = bytearray(mixed)
    changes = {at % len(data): mask for at, mask in changes.items()}
    for at, mask in changes.items():
        data[at] ^= mask
    first = min(changes)
    with tempfile.TemporaryDirectory() as folder:
        offset, reason = fault(Path(folder) / "dump.dfs", bytes(data))
        frames = [offset for offset, _, _, _ in frames_of(mixed)]
        if first < 16:
            # In the head, or, where it says another kind of checksum, at the first frame.
            assert offset <= 16, reason
        else:
            # At its frame, the last one of which is the end mark.
            frame = max(begin for begin in [*frames, len(data) - 20] if begin <= first)
            assert frame <= offset <= len(data), reason
            assert offset == frame or reason.startswith("bytes behind")
        try:
            read(Path(folder) / "dump.dfs", bytes(data), checksum=False)
        except ValueError as error:
            assert "at byte" in str(error)


ANY_SIZE = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 300), st.sampled_from([262143, 262144, 262145, 2**31]))


@given(kind=st.sampled_from([0, 1, 2, 3, 4, 255, 256, 2**31]), raw=ANY_SIZE, stored=ANY_SIZE,
       block=st.binary(max_size=300), exact=st.booleans(), header=st.sampled_from([HEADER, PLAIN]))
def test_hostile_frames(kind, raw, stored, block, exact, header):
    """Whatever a frame says of itself, with a right checksum."""
    blocks = [*cut(SMALL[:200], 50), (kind, raw, block), *cut(SMALL[200:], 50)]
    data = bytearray(framed(blocks, header=header))
    if not exact:
        at = 16 + 4 * (12 + 50 + 8) + 8
        data[at:at + 4] = struct.pack("<I", stored)
    with tempfile.TemporaryDirectory() as folder:
        for checksum in (True, False):
            try:
                read(Path(folder) / "dump.dfs", bytes(data), checksum=checksum)
            except ValueError as error:
                assert "at byte" in str(error)


@given(st.binary(max_size=400), st.integers(1, 262144))
def test_hostile_blocks(block, raw):
    """LZ4's decoder sees anything, and stays inside of its buffers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dump.dfs"
        for claimed in {raw, len(block) + 1}:
            if claimed > len(block) > 0:
                fault(path, framed([(LZ4, claimed, block)]))


@pytest.mark.parametrize(("data", "offset", "reason"), [
    (framed([(7, 5, b"REDIS")]), 16, "an unknown kind of frame"),
    (framed([(STORED, 4, b"REDIS")]), 16, "a frame of an impossible size"),
    (framed([(STORED, 0, b"")]), 16, "a frame of an impossible size"),
    (framed([(LZ4, 0, b"x")]), 16, "a frame of an impossible size"),
    (framed([(LZ4, 262145, lz4_run(b"x", 262145))]), 16, "a frame of an impossible size"),
    (framed([(LZ4, 4, lz4_literals(b"abcd"))]), 16, "a frame of an impossible size"),
    (framed([(LZ4, 5001, lz4_run(b"x", 5000))]), 16, "a compressed block that is broken"),
    (framed([(LZ4, 4999, lz4_run(b"x", 5000))]), 16, "a compressed block that is broken"),
    (framed([(LZ4, 2**32 - 1, b"x")]), 16, "a frame of an impossible size"),
    (framed(cut(SMALL, 100)) + b"x", len(framed(cut(SMALL, 100))), "bytes behind the end mark"),
    (framed(cut(SMALL, 100), end=False), len(framed(cut(SMALL, 100), end=False)),
     "unexpected end of the file: there is no end mark"),
    (framed(cut(SMALL, 100), header=b"DFLYS0002\1" + bytes(6)), 5, "this version of frames is not understood"),
    (framed(cut(SMALL, 100), header=b"DFLYS0001\3" + bytes(6)), 9, "an unknown flag"),
    (framed(cut(SMALL, 100), header=b"DFLYS0001\1" + bytes(5) + b"\1"), 15, "an unknown flag"),
    (b"DFLYS0001", 0, "unexpected end of the file"),
    (framed([]), 0, "too short for a snapshot (counted in what the blocks hold)"),
    (framed(cut(framed(cut(SMALL, 100)), 100)), 0,
     "not a snapshot: it begins with neither REDIS nor VALKEY (counted in what the blocks hold)"),
    (framed(cut(SMALL[:-20], 100)), len(SMALL) - 30, "unexpected end of the file (counted in what the blocks hold)"),
    (framed(cut(SMALL + b"x", 100)), len(SMALL),
     "bytes behind the end of the snapshot (counted in what the blocks hold)"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_faults(path, data, offset, reason):
    assert fault(path, data) == (offset, reason)


def test_a_frame_that_is_missing_or_stands_elsewhere(path, mixed):
    found = frames_of(mixed)
    starts = [offset for offset, _, _, _ in found]
    pieces = [mixed[a:b] for a, b in zip(starts, [*starts[1:], len(mixed) - 20], strict=True)]
    head, end = mixed[:16], mixed[-20:]
    reason = "the checksum of a frame is wrong: some bytes of the file have changed"
    assert fault(path, b"".join([head, *pieces[1:], end])) == (16, reason)
    assert fault(path, b"".join([head, pieces[0], pieces[0], *pieces[1:], end])) == (starts[1], reason)
    assert fault(path, b"".join([head, pieces[1], pieces[0], *pieces[2:], end])) == (16, reason)
    assert fault(path, b"".join([head, *pieces[:-1], end]))[1] == reason


def test_a_checksum_in_a_file_that_has_none(path):
    data = bytearray(framed(cut(SMALL, 100), header=PLAIN))
    data[16 + 12 + 100] = 1
    assert fault(path, bytes(data)) == (16, "a checksum in a file that has none")


def test_a_length_is_not_believed_before_its_bytes_are_there(path):
    """A string of a gigabyte is announced, and ten bytes of it come."""
    import resource
    body = file(select(0), record(0, b"k", length(2**30) + b"0123456789"), checksum=0)[:-9]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fault(path, framed(cut(body, 100)))[1].startswith("unexpected end of the file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100000


# ---- Tools -------------------------------------------------------------------------------------

def described(path, capsys):
    assert tools.main(["check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[1], sorted(line for line in lines[2:-1] if "dfly-" not in line)


@pytest.mark.parametrize("mode", [0, 3])
def test_check_and_convert(tmp_path, capsys, mode):
    source, summary, back = tmp_path / "in.rdb", tmp_path / "shards-summary.dfs", tmp_path / "back.rdb"
    source.write_bytes(SMALL)
    _, before = described(source, capsys)
    assert tools.main(["convert", str(source), str(summary), "--shards", "2", "--compression_mode", str(mode)]) == 0
    parts = sorted(tmp_path.glob("shards-*-000?.dfs"))
    assert [part.read_bytes()[:5] for part in parts] == [b"DFLYS" if mode else b"REDIS"] * 2
    assert summary.read_bytes()[:5] == b"REDIS"
    assert tools.main(["convert", str(summary), str(back)]) == 0
    capsys.readouterr()
    line, found = described(summary, capsys)
    assert ("in LZ4 blocks" in line) == bool(mode) and "checksum right" in line and found == before
    line, found = described(back, capsys)
    assert "in LZ4 blocks" not in line and found == before
    # One file of a shard is a snapshot too.
    assert tools.main(["check", str(parts[0])]) == 0


def test_strings_of_blocks_are_compressed_in_a_single_file(tmp_path, capsys):
    text, key = b"some text " * 100, b"a key " * 20
    source, summary = tmp_path / "in.rdb", tmp_path / "shards-summary.dfs"
    source.write_bytes(file(select(0), record(0, key, string(text)), record(0, b"noise", string(NOISE))))
    assert tools.main(["convert", str(source), str(summary)]) == 0
    for mode, smaller in (("0", False), ("3", True)):
        assert tools.main(["convert", str(summary), str(tmp_path / "out.rdb"), "--compression_mode", mode]) == 0
        data = (tmp_path / "out.rdb").read_bytes()
        assert (text not in data and key not in data) == smaller and NOISE in data
        assert tools.main(["check", str(tmp_path / "out.rdb")]) == 0


def test_check_says_where_a_part_is_broken(tmp_path, capsys, mixed):
    path = tmp_path / "dump-1-0000.dfs"
    offset = frames_of(mixed)[2][0]
    path.write_bytes(mixed[:offset + 30] + b"!!!" + mixed[offset + 33:])
    assert tools.main(["check", str(path)]) == 1
    assert f"{path}: at byte {offset}: the checksum of a frame is wrong" in capsys.readouterr().err
    assert tools.main(["convert", str(path), str(tmp_path / "out.rdb")]) == 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]

