"""Runs a fuzz target for some seconds: `run.py parser|loader SECONDS [libFuzzer options]`. See run.sh."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parents[1] / "build" / "fuzz"
PING = b"*1\r\n$4\r\nPING\r\n"
SEEDS = [
    PING * 3,
    b"*3\r\n$3\r\nSET\r\n$5\r\nkey:1\r\n$12\r\nhello\r\nworld\r\n*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n",
    b"SET key value\r\nGET key\nPING\r\n\r\n  \r\n",
    b'ECHO "a\\x41\\n\\"" \'b\\\'c\' d"e"\r\n',
    b"*0\r\n*-1\r\n" + PING,
    b"*12\r\n" + b"$1\r\nx\r\n" * 12 + PING,
    b"*2\r\n$4\r\nECHO\r\n$100\r\n" + b"v" * 100 + b"\r\n" + PING,
    b"*2\r\n$4\r\nECHO\r\n$16384\r\n\x01v\r\n" + PING,
    b"ECHO \x01a\x01b\x01c\r\n" + PING,
    b"\x01a\x01b\x01c\x01d\x01e\n",
    b"*1\r\n$\x011\x011\x011\x011\x011\r\n",
    b"*1\r\nx\r\n", b"*x\r\n", b"*1\r\n$-1\r\n", b"*2147483648\r\n", b"*1\r\n$536870913\r\n",
    b"PING\0\r\nPING\r\n",
]
DICTIONARY = [b"\r\n", b"*1\r\n", b"*3\r\n", b"*10\r\n", b"$0\r\n\r\n", b"$1\r\nx\r\n", b"$4\r\nPING\r\n",
              b"*0\r\n", b"*-1\r\n",
              b"$10\r\n", b"$16385\r\n", b"$1048577\r\n", b"\\x41", b"\\\"", b"\"", b"'", b"\0", b"99",
              b"\x01a", b"9223372036854775807"]


def folders(target):
    """What was found in earlier runs, and what is written here."""
    for name in ("corpus", "seeds"):
        folder = OUT / f"{target}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def write_dictionary(words):
    lines = ["\"" + "".join(f"\\x{byte:02x}" for byte in word) + "\"" for word in words]
    (OUT / "dictionary").write_text("\n".join(lines) + "\n")


def write_loader_corpus():
    """Files of redis-server, Valkey and dfly (seeds/), one for each form that values have ever had, some in frames."""
    sys.path.insert(0, str(HERE.parent / "unit" / "persist"))
    import frame_bytes
    import snapshot_bytes

    _, seeds = folders("loader")
    files = {path.name: path.read_bytes() for path in sorted((HERE / "seeds").iterdir())}
    files["small"] = snapshot_bytes.SMALL
    for kind, body, _ in snapshot_bytes.FORMS:
        files[f"{kind}-{len(files)}"] = snapshot_bytes.file(
            snapshot_bytes.select(0), snapshot_bytes.record(kind, b"key", body))
    run = frame_bytes.lz4_run(b"r", 300)
    head = snapshot_bytes.file(snapshot_bytes.select(0))[:-9] + b"\0\1k" + snapshot_bytes.length(300)
    files["frames-stored"] = frame_bytes.framed(frame_bytes.cut(snapshot_bytes.SMALL, 100))
    files["frames-plain"] = frame_bytes.framed(frame_bytes.cut(snapshot_bytes.SMALL, 60), frame_bytes.PLAIN)
    files["frames-lz4"] = frame_bytes.framed(
        [*frame_bytes.cut(head, 100), (frame_bytes.LZ4, 300, run), *frame_bytes.cut(b"\xff" + bytes(8), 100)])
    for name, data in files.items():
        (seeds / name).write_bytes(b"\x20" + data)
    write_dictionary([b"REDIS0011", b"VALKEY080", b"DFLYS0001", b"\xfe\x00",
                      b"\xff", b"\xc3", b"\x81", b"\x80", b"\xfa",
                      b"\xc0", b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4"])


def write_parser_corpus():
    _, seeds = folders("parser")
    for i, data in enumerate(SEEDS):
        headers = [b"\x00\x00\x00", b"\x07\x01\x10\x03"]
        if b"\x01" in data:
            headers.append(b"\xf8\x02\x00\x07\x40")
        for j, header in enumerate(headers):
            (seeds / f"{i:02}-{j}").write_bytes(header + data)
    write_dictionary(DICTIONARY)


def main(target, seconds, *options):
    {"parser": write_parser_corpus, "loader": write_loader_corpus}[target]()
    sys.path.insert(0, str(OUT / "tree"))
    module = importlib.import_module(f"{target}_fuzz")

    arguments = [f"{target}_fuzz", f"-max_total_time={seconds}", f"-dict={OUT}/dictionary", "-max_len=4096",
                 "-timeout=20",
                 "-rss_limit_mb=2048", "-detect_leaks=0", "-print_final_stats=1", "-verbosity=1",
                 f"-artifact_prefix={OUT}/finding-{target}-",
                 *options]
    if not any(not option.startswith("-") for option in options):
        arguments += [str(folder) for folder in folders(target)]
    return module.run([text.encode() for text in arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
