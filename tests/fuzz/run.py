"""Runs the fuzz target for some seconds: `run.py SECONDS [libFuzzer options]`. See run.sh."""

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


def write_corpus():
    seeds = OUT / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    (OUT / "corpus").mkdir(exist_ok=True)
    for i, data in enumerate(SEEDS):
        headers = [b"\x00\x00\x00", b"\x07\x01\x10\x03"]
        if b"\x01" in data:
            headers.append(b"\xf8\x02\x00\x07\x40")
        for j, header in enumerate(headers):
            (seeds / f"{i:02}-{j}").write_bytes(header + data)
    lines = ["\"" + "".join(f"\\x{byte:02x}" for byte in word) + "\"" for word in DICTIONARY]
    (OUT / "dictionary").write_text("\n".join(lines) + "\n")


def main(seconds, *options):
    write_corpus()
    sys.path.insert(0, str(OUT / "tree"))
    import parser_fuzz

    arguments = ["parser_fuzz", f"-max_total_time={seconds}", f"-dict={OUT}/dictionary", "-max_len=4096",
                 "-timeout=20",
                 "-rss_limit_mb=2048", "-detect_leaks=0", "-print_final_stats=1", "-verbosity=1",
                 f"-artifact_prefix={OUT}/finding-",
                 *options]
    if not any(not option.startswith("-") for option in options):
        arguments += [str(OUT / "corpus"), str(OUT / "seeds")]
    return parser_fuzz.run([text.encode() for text in arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
