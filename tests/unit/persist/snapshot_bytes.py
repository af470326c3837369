"""RDB files written by hand, as the format's description has them."""

import struct

from packed import listpack, ziplist

POLYNOMIAL = 0x95AC9329AC4BC9B5


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    return crc


def length(number):
    if number < 64:
        return bytes([number])
    if number < 16384:
        return bytes([0x40 | number >> 8, number & 0xFF])
    if number < 2**32:
        return b"\x80" + struct.pack(">I", number)
    return b"\x81" + struct.pack(">Q", number)


def string(data):
    return length(len(data)) + data


def integer(number):
    """The string of that number in the short form."""
    for first, pattern, limit in ((0xC0, "<b", 2**7), (0xC1, "<h", 2**15), (0xC2, "<i", 2**31)):
        if -limit <= number < limit:
            return bytes([first]) + struct.pack(pattern, number)
    raise ValueError(number)


def compressed(data):
    """LZF without any saving: literals only."""
    packed = b"".join(bytes([len(piece) - 1]) + piece
                      for piece in (data[at:at + 32] for at in range(0, len(data), 32)))
    return b"\xc3" + length(len(packed)) + length(len(data)) + packed


def aux(name, value):
    return b"\xfa" + string(name) + string(value)


def select(database):
    return b"\xfe" + length(database)


def sizes(keys, expires):
    return b"\xfb" + length(keys) + length(expires)


def expire_ms(at):
    return b"\xfc" + struct.pack("<q", at)


def expire_s(at):
    return b"\xfd" + struct.pack("<i", at)


def record(kind, key, body):
    return bytes([kind]) + (string(key) if isinstance(key, bytes) else integer(key)) + body


def module_id(name, version=0):
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in name:
        number = number << 6 | letters.index(letter)
    return number << 10 | version


def module_body(name):
    """All kinds of fields."""
    return (length(module_id(name)) + b"\x02" + length(7) + b"\x01" + length(9) + b"\x05" + string(b"text")
            + b"\x04" + struct.pack("<d", 1.5) + b"\x03" + struct.pack("<f", 2.5) + b"\x00")


def file(*items, version=11, magic=b"REDIS", checksum=None):
    head = magic + str(version).zfill(9 - len(magic)).encode()
    body = head + b"".join(items) + b"\xff"
    if version < 5:
        return body
    return body + struct.pack("<Q", crc64(body) if checksum is None else checksum)


FAR_MS = 4_000_000_000_000
ZIPMAP = b"\x01\x01a\x02\x00bc\xff"
INTSET = struct.pack("<II", 2, 2) + struct.pack("<hh", 1, 2)
STREAM_ID = struct.pack(">QQ", 1, 1)


def stream(kind):
    """One entry, one group with one consumer and one pending entry."""
    block = listpack([1, 0, 1, b"f", 0, 2, 0, 0, b"v", 4])
    facts = length(1) + length(1) + length(1)
    if kind > 15:
        facts += length(1) + length(1) + length(0) + length(0) + length(1)
    group = string(b"group") + length(1) + length(1) + (length(1) if kind > 15 else b"")
    group += length(1) + STREAM_ID + struct.pack("<q", 5) + length(1)
    group += length(1) + string(b"consumer") + struct.pack("<q", 5) + (struct.pack("<q", 5) if kind == 21 else b"")
    group += length(1) + STREAM_ID
    return length(1) + string(STREAM_ID) + string(block) + facts + length(1) + group


# Every form: type byte, body, type.
FORMS = [
    (0, string(b"text"), "string"),
    (0, integer(-5), "string"),
    (0, integer(300), "string"),
    (0, integer(70000), "string"),
    (0, compressed(b"x" * 100), "string"),
    (1, length(2) + string(b"a") + integer(7), "list"),
    (2, length(2) + string(b"a") + string(b"b"), "set"),
    (3, length(3) + string(b"a") + b"\x031.5" + string(b"b") + b"\xfe" + string(b"c") + b"\xff", "zset"),
    (4, length(1) + string(b"f") + string(b"v"), "hash"),
    (5, length(1) + string(b"a") + struct.pack("<d", 1.5), "zset"),
    (9, string(ZIPMAP), "hash"),
    (10, string(ziplist([b"a", 5])), "list"),
    (11, string(INTSET), "set"),
    (12, string(ziplist([b"a", 5])), "zset"),
    (13, string(ziplist([b"a", 5])), "hash"),
    (14, length(2) + string(ziplist([b"a", 5])) + string(ziplist([b"z"])), "list"),
    (15, stream(15), "stream"),
    (16, string(listpack([b"a", 5])), "hash"),
    (17, string(listpack([b"a", 5])), "zset"),
    (18, length(2) + length(2) + string(listpack([b"a", 5])) + length(1) + string(b"plain"), "list"),
    (19, stream(19), "stream"),
    (20, string(listpack([b"a", b"b"])), "set"),
    (21, stream(21), "stream"),
    (22, length(1) + length(0) + string(b"f") + string(b"v"), "hash"),
    (23, string(listpack([b"a", 5, 0])), "hash"),
    (24, struct.pack("<q", 5) + length(1) + length(1) + string(b"f") + string(b"v"), "hash"),
    (25, struct.pack("<q", 5) + string(listpack([b"a", 5, 5])), "hash"),
]

# What the codecs of values understand so far is decoded too.
SMALL = file(
    aux(b"redis-ver", b"7.0.15"), select(0), sizes(3, 1),
    record(0, b"key", string(b"value")), expire_ms(FAR_MS), record(0, 12345, integer(7)),
    b"\xf8" + length(100), record(0, b"idle", compressed(b"y" * 70)), b"\xf9\x05", record(0, b"freq", string(b"")),
    select(3), record(1, b"list", length(2) + string(b"a") + string(b"b")),
    record(14, b"quick", length(1) + string(ziplist([b"a", 5]))),
    record(18, b"quick2", length(1) + length(2) + string(listpack([b"a", 500]))),
    record(7, b"module", module_body("ReJSON-RL")), b"\xf7" + module_body("ReJSON-RL"),
    b"\xf5" + string(b"#!lua name=lib\nreturn"),
)
