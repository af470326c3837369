"""The parser against a real redis-server: the same bytes give the same commands and the same errors.

What a server makes of a line shows in its replies: PING and ECHO answer, EVAL "return ARGV" gives back
every argument, and an unknown command is quoted in its error.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dfly._core.testing.resp_testing import Parser

PING = b"*1\r\n$4\r\nPING\r\n"


def bulk(text):
    return b"$%d\r\n%s\r\n" % (len(text), text)


def c_string(text, limit):
    return text.split(b"\0")[0][:limit]


def unknown_command(command):
    quoted = b""
    for text in command[1:]:
        if len(quoted) >= 128:
            break
        quoted += b"'" + c_string(text, 128 - len(quoted)) + b"' "
    line = b"unknown command '" + c_string(command[0], 128) + b"', with args beginning with: " + quoted
    return b"-ERR " + line.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"


def reply_of(command):
    name = command[0].upper()
    if name == b"PING" and len(command) == 1:
        return b"+PONG\r\n"
    if name in (b"PING", b"ECHO"):
        if len(command) == 2:
            return bulk(command[1])
        return b"-ERR wrong number of arguments for '%s' command\r\n" % name.lower()
    if name == b"EVAL" and command[1:3] == [b"return ARGV", b"0"]:
        return b"*%d\r\n" % len(command[3:]) + b"".join(map(bulk, command[3:]))
    return unknown_command(command)


def replies(data, authenticated=True):
    commands, error, _ = Parser(authenticated=authenticated).parse_all(data)
    out = b"".join(map(reply_of, commands))
    return out if error is None else out + b"-ERR " + error + b"\r\n"


CASES = [
    b"*0\r\n" + PING, b"*-1\r\n" + PING, b"*-9223372036854775808\r\n" + PING,
    b"*-9223372036854775809\r\n" + PING,
    b"*1048576\r\n", b"*1048577\r\n", b"*2147483647\r\n", b"*2147483648\r\n", b"*9223372036854775807\r\n",
    b"*9223372036854775808\r\n", b"*\r\n", b"*-\r\n", b"*-0\r\n", b"*00\r\n", b"*01\r\n" + PING, b"*+1\r\n",
    b"* 1\r\n",
    b"*1 \r\n", b"*1x\r\n", b"*x\r\n", b"*1\n$4\r\nPING\r\n", b"*1\r", b"*x\r", b"*x\rq", b"*1*1*1\r\n",
    b"*1\0\r\n", b"*1\r\n\0\r\n", b"*1\r\n$4\0\r\nPING\r\n", b"\0PING\r\n", b"PING\0\r\n",
    b"PING\r\n\0\r\nPING\r\n",
    b"*1\r\n\r\n", b"*1\r\n\n\r\n", b"*1\r\n \r\n", b"*1\r\nabc\r\n", b"*1\r\n:1\r\n", b"*1\r\n*1\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n$x\r", b"*1\r\n$x\rq", b"*1\r\nx\r", b"*1\r\nx\rq",
    b"*1\r\n$-1\r\n", b"*1\r\n$-0\r\n", b"*1\r\n$\r\n", b"*1\r\n$04\r\nPING\r\n", b"*1\r\n$+4\r\nPING\r\n",
    b"*1\r\n$4 \r\nPING\r\n", b"*1\r\n$536870912\r\n", b"*1\r\n$536870913\r\n",
    b"*1\r\n$99999999999999999999\r\n",
    b"*1\r\n$9223372036854775807\r\n", b"*1\r\n$100000000\r\n", b"*1\r\n$1000000x\r\n", b"*1\r\n$123x\r\n",
    b"*1\r\n$1x3\r\n",
    b"*1\rX$4\rYPINGab" + PING, b"*1\r\n$0\r\n\r\n" + PING, b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\nx\r\n", b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"\n\nPING\n\r\nPING\r\r\n", b"\r\n", b"\n", b"   \r\n PING \r\n", b"\rPING\r\n", b"PING \r \r\n",
    b"PI\rNG\r\n", b"\t\x0b\x0cPING\r\n",
    b"ECHO \x0ba\x0bb\r\n", b'ECHO "a"\x0b\r\n', b'ECHO "a"b\r\n', b'ECHO a"b c"\r\n', b'ECHO a"b"c\r\n',
    b'ECHO """"\r\n',
    b'ECHO ""\r\n', b"ECHO ''\r\n", b"ECHO '\"'\r\n", b'ECHO "\'"\r\n', b'"PING\r\n', b'"PING"\r\n',
    b"'PING\r\n",
    b'ECHO "\\x41\\n\\r\\t\\b\\a\\q\\"\\\\\\xzz\\x4"\r\n', b'ECHO "\\x4"\r\n', b'ECHO "\\xfF"\r\n',
    b'ECHO "a\\\r\n', b"ECHO 'a\\\r\n",
    b"ECHO 'a\\'b\\n'\r\n", b"ECHO 'a\\'\r\n", b"echo a\\x41\r\n", b"$4\r\nPING\r\n", b"+OK\r\n",
    b"NOSUCH " + b"a" * 200 + b" b c\r\n",
    b"x" * 65_536, b"x" * 65_537, b"x" * 65_535 + b"\n", b"x" * 65_536 + b"\n", b"x" * 200_000 + b"\n",
    b"x" * 300_000,
    b"\0" * 65_536, b"\0" * 65_537, b"\0" * 65_537 + b"\nPING\n",
    b"*" + b"1" * 65_535, b"*" + b"1" * 65_536, b"*" + b"1" * 65_537, b"*1" + b"0" * 65_530 + b"\r\n",
    b"*\0" + b"1" * 65_600,
    b"*1\r\n$" + b"1" * 65_535, b"*1\r\n$" + b"1" * 65_536, b"*1\r\n$" + b"1" * 65_530 + b"\r\n",
    b"*1\r\n" + b"1" * 65_537,
    PING + b"*1\r\nx\r\n" + PING, PING * 3 + b"*1\r\n$x\r\n", b"PING\r\n*1\r\n\r\r\n",
]


@pytest.mark.parametrize("data", CASES, ids=lambda data: ascii(data[:24]))
def test_case(redis, data):
    assert replies(data) == redis.exchange(data)


FRAGMENTS = [PING, b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n", b"PING\r\n", b'ECHO "a\\x41"\r\n', b"ECHO x\n",
             b"*1\r\n", b"*2\r\n", b"*3\r\n",
             b"$4\r\n", b"$4\r\nPING\r\n", b"$4\r\nECHO\r\n", b"$1\r\nx\r\n", b"$0\r\n", b"PING", b"ECHO ",
             b"*", b"$", b"1", b"0", b"-",
             b"9", b"536870912", b"\r\n", b"\r", b"\n", b"\0", b"'", b'"', b"\\", b" ", b"x", b"\xff",
             b"12345678"]
MESSAGES = [PING, b"*2\r\n$4\r\nECHO\r\n$10\r\n0123456789\r\n", b"PING\r\n", b'ECHO "a b"\r\n', b"*0\r\n",
            b"*3\r\n$3\r\nFOO\r\n$0\r\n\r\n$12\r\nfirst\r\nother\r\n"]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12))
@settings(max_examples=400)
def test_fragments(redis, fragments):
    data = b"".join(fragments)
    assert replies(data) == redis.exchange(data)


@given(st.lists(st.sampled_from(MESSAGES), min_size=1, max_size=5), st.integers(0, 200),
       st.sampled_from(b"*$0159-\r\n\0 x'\"\\\xff"))
@settings(max_examples=400)
def test_one_byte_wrong(redis, messages, place, byte):
    data = bytearray(b"".join(messages))
    data[place % len(data)] = byte
    assert replies(bytes(data)) == redis.exchange(bytes(data))


@given(st.text(" \"'\\xanrtb04zAfF\t\x0b\x0c\r\xff;$*", max_size=24).map(lambda text: text.encode("latin-1")))
@example(b"\"a\\\"b\" 'c\\'d' e\"f\" \\x41 \"\\x41\\x4g\"")
@settings(max_examples=600)
def test_inline_arguments(redis, line):
    data = b'EVAL "return ARGV" 0 ' + line + b"\r\n"
    assert replies(data) == redis.exchange(data)


@pytest.mark.parametrize("data", [
    b"*10\r\n", b"*11\r\n", b"*1000\r\n", b"*2147483648\r\n", b"*x\r\n", b"*-1\r\n", b"*1\r\n$16384\r\n",
    b"*1\r\n$16385\r\n",
    b"*1\r\n$999999999999\r\n", b"*1\r\n$-1\r\n", b"*1\r\nx\r\n",
    b"*1\r\n$100000\r\n" + b"x" * 100_000 + b"\r\n",
    b"*12\r\n$4\r\nECHO\r\n", b"\r\n\r\n", b'"\n',
], ids=lambda data: ascii(data[:24]))
def test_unauthenticated(locked_redis, data):
    assert replies(data, authenticated=False) == locked_redis.exchange(data)
