"""RDB files written by hand, as the format's description has them."""

import struct

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
