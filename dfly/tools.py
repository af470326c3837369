"""`dfly check FILE` and `dfly convert IN OUT`: snapshots without a server."""

import argparse
import contextlib
import os
import sys
import time

from tqdm import tqdm

from dfly.info import human
from dfly.loader import LoadError, snapshot_parts

SUMMARY = "-summary.dfs"
SHARDS_MAX = 1024
AUX_SHOWN = 200
FAILED = 1


class Progress:
    """A bar on standard error, if somebody looks."""

    def __init__(self, total, what):
        self.bar = tqdm(total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1024, leave=False,
                        disable=None)
        self.done = 0

    def show(self, position):
        self.bar.update(position - self.done)
        self.done = position

    def close(self):
        self.bar.close()


def text_of(data):
    """Bytes of a file as something that a terminal can show."""
    return data.decode("utf-8", "backslashreplace").encode("unicode_escape").decode()


def open_parts(path):
    """The paths that hold the keys of a snapshot, and their size. LoadError if it is none."""
    try:
        parts = snapshot_parts(path)
        return parts, sum(os.stat(part).st_size for part in parts)
    except (OSError, ValueError) as error:
        raise LoadError(f"{path}: {error}") from None


def read_parts(parts, total, step):
    """Runs step(file) over all parts until it is False, with a bar; LoadError names the part and the byte."""
    from dfly._core.snapshot_file import SnapshotFile
    files = []
    done = 0
    with contextlib.closing(Progress(total, "reading")) as progress:
        for part in parts:
            try:
                file = SnapshotFile(part)
                while step(file):
                    progress.show(done + file.position)
            except (OSError, ValueError) as error:
                raise LoadError(f"{part}: {error}") from None
            done += file.size
            files.append(file)
    return files


# ---- check -------------------------------------------------------------------------------------

def merge(files):
    """{database: {"forms": {(type, form): (keys, bytes)}, "expires": n, "expired": n}} of all files."""
    databases = {}
    for file in files:
        for number, rows in file.databases.items():
            into = databases.setdefault(number, {"forms": {}, "expires": 0, "expired": 0})
            for form, (keys, size) in rows["forms"].items():
                before = into["forms"].get(form, (0, 0))
                into["forms"][form] = (before[0] + keys, before[1] + size)
            into["expires"] += rows["expires"]
            into["expired"] += rows["expired"]
    return databases


def describe(path, parts, files, spent):
    """Lines about a snapshot that has been read to its end."""
    first = files[0]
    size = sum(file.size for file in files)
    yield f"{path}: valid, {human(size)} in {len(parts)} file{'' if len(parts) == 1 else 's'}"
    kind = "Valkey" if first.version == 80 else "Redis"
    sums = sum(file.has_checksum for file in files)
    unpacked = [file.unpacked for file in files if file.unpacked is not None]
    blocks = f", in LZ4 blocks ({human(sum(unpacked))} without)" if unpacked else ""
    yield f"  format {first.version} ({kind}), checksum {'right' if sums == len(files) else 'absent'}{blocks}"
    for name, value in first.aux:
        shown = text_of(value)[:AUX_SHOWN]
        if name == b"ctime" and value.isdigit():
            shown += time.strftime(" (%Y-%m-%d %H:%M:%S)", time.localtime(int(value)))
        yield f"  {text_of(name)}: {shown}"
    for number, rows in sorted(merge(files).items()):
        total = sum(keys for keys, _ in rows["forms"].values())
        yield (f"  database {number}: {total} keys, {rows['expires']} with a deadline"
               f"{', %d of them expired' % rows['expired'] if rows['expired'] else ''}")
        for (kind, form), (keys, form_size) in sorted(rows["forms"].items()):
            yield f"    {kind:<8} {form:<24} {keys:>12} keys {human(form_size):>10}"
    biggest = sorted((row for file in files for row in file.biggest()), key=lambda row: row[0], reverse=True)[:10]
    if biggest:
        yield "  biggest keys:"
    for key_size, kind, database, name in biggest:
        yield f"    {human(key_size):>10} {kind:<8} database {database}: {text_of(name)}"
    yield from describe_rest(files)
    yield f"  read in {spent:.2f} s ({size / 1e6 / max(spent, 1e-6):.0f} MB/s)"


def describe_rest(files):
    """What dfly does not load, or what is odd."""
    for file in files:
        for code in file.functions:
            yield f"  library of functions (not loaded): {text_of(code.split(bytes([10]))[0])[:AUX_SHOWN]}"
        for name, values in sorted(file.modules.items()):
            yield f"  module type {name}: {values} values (not loaded)"
        if file.empty:
            yield f"  keys without elements: {file.empty} (not loaded)"


def check(arguments):
    """Validates a snapshot down to each value, and describes it."""
    started = time.monotonic()
    parts, total = open_parts(arguments.file)
    files = read_parts(parts, total, lambda file: file.step())
    if len({file.version for file in files}) != 1:
        raise LoadError(f"{arguments.file}: its files have different versions")
    for line in describe(arguments.file, parts, files, time.monotonic() - started):
        print(line)
    return 0


# ---- convert -----------------------------------------------------------------------------------

def synced(stream):
    stream.flush()
    os.fsync(stream.fileno())


def write_summary(path, names, version, aux):
    from dfly._core.snapshot_file import SnapshotWriter
    fields = [*aux, (b"dfly-shards", b"%d" % len(names)), *((b"dfly-file", os.fsencode(name)) for name in names)]
    with open(path, "wb") as stream:
        SnapshotWriter([stream.fileno()], version, fields).finish()
        synced(stream)


def convert(arguments):
    """Copies a snapshot into the other layout; values keep their form."""
    from dfly._core.snapshot_file import SnapshotFile, SnapshotWriter
    parts, total = open_parts(arguments.source)
    try:
        heads = [SnapshotFile(part) for part in parts]
    except ValueError as error:
        raise LoadError(f"{arguments.source}: {error}") from None
    if len({file.version for file in heads}) != 1:
        raise LoadError(f"{arguments.source}: its files have different versions")
    version, aux = heads[0].version, [(name, value) for name, value in read_aux(parts[0])]
    by_shard = arguments.target.endswith(SUMMARY)
    base = arguments.target.removesuffix(SUMMARY)
    stamp = f"{int(time.time() * 1000):x}"
    names = [f"{base}-{stamp}-{number:04d}.dfs" for number in range(arguments.shards)] if by_shard \
        else [arguments.target]
    temporary = [f"{os.path.join(os.path.dirname(name), 'temp-dfly-')}{os.getpid()}-{number}.rdb"
                 for number, name in enumerate([*names, arguments.target] if by_shard else names)]
    try:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(open(path, "wb")) for path in temporary[:len(names)]]
            # A file in blocks has its strings as they are: in a single file each is compressed by itself.
            writer = SnapshotWriter([stream.fileno() for stream in streams], version, aux,
                                    in_blocks=by_shard and arguments.compression_mode == 3,
                                    compress=arguments.compression_mode != 0 and not by_shard
                                    and any(head.unpacked is not None for head in heads))
            read_parts(parts, total, writer.copy_some)
            writer.finish()
            for stream in streams:
                synced(stream)
        if by_shard:
            write_summary(temporary[-1], [os.path.basename(name) for name in names], version, aux)
        for path, name in zip(temporary, [*names, arguments.target] if by_shard else names):
            os.rename(path, name)
    finally:
        for path in temporary:
            with contextlib.suppress(OSError):
                os.unlink(path)
    print(f"{arguments.source} -> {arguments.target}: {writer.keys} keys, "
          f"{len(names)} file{'' if len(names) == 1 else 's'}")
    return 0


def read_aux(path):
    from dfly._core.snapshot_file import read_head
    return [(name, value) for name, value in read_head(path) if not name.startswith(b"dfly-")]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="dfly", description="Snapshots without a server.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="validate and describe a snapshot")
    checking.add_argument("file", help="an RDB file, or the summary of a snapshot by shards (...-summary.dfs)")
    converting = commands.add_parser("convert", help="copy a snapshot into the other layout")
    converting.add_argument("source", help="an RDB file or a summary")
    converting.add_argument("target", help=f"an RDB file, or NAME{SUMMARY} for a file a shard")
    converting.add_argument("--shards", type=int, default=len(os.sched_getaffinity(0)),
                            help="files of the layout by shards (default: %(default)s)")
    converting.add_argument("--compression_mode", type=int, choices=(0, 3), default=3,
                            help="3: files of the layout by shards consist of LZ4 blocks (default); 0: nothing is"
                                 " compressed anew")
    words = parser.parse_args(arguments)
    if words.command == "convert" and not 1 <= words.shards <= SHARDS_MAX:
        parser.error(f"--shards is 1 to {SHARDS_MAX}")
    return words


def main(arguments):
    """`arguments` begin with check or convert; returns the exit status."""
    words = parse(arguments)
    try:
        return check(words) if words.command == "check" else convert(words)
    except (LoadError, OSError) as error:
        print(f"dfly: {error}", file=sys.stderr)
        return FAILED
