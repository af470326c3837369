"""Files in compressed blocks written and read by hand, as persist/frames.pxd describes them."""

import struct

from snapshot_bytes import crc64

HEADER = b"DFLYS0001\1" + bytes(6)
PLAIN = b"DFLYS0001\0" + bytes(6)
STORED, LZ4, END = 0, 3, 255
HEAD, CHECKSUM = 12, 8


def extended(number):
    """What follows a length of 15 in a token."""
    return b"\xff" * (number // 255) + bytes([number % 255])


def lz4_literals(data):
    """A block that saves nothing: one run of literals."""
    if len(data) < 15:
        return bytes([len(data) << 4]) + data
    return b"\xf0" + extended(len(data) - 15) + data


def lz4_run(byte, count):
    """A block of one byte many times: one literal, a match that overlaps itself, five literals."""
    matched = count - 6
    return b"\x1f" + byte + b"\1\0" + extended(matched - 4 - 15) + lz4_literals(byte * 5)


def lz4_unpacked(block):
    out = bytearray()
    at = 0

    def length(first):
        nonlocal at
        total = first
        while first == 15:
            total += block[at]
            at += 1
            if block[at - 1] != 255:
                break
        return total

    while at < len(block):
        token = block[at]
        at += 1
        literals = length(token >> 4)
        out += block[at:at + literals]
        at += literals
        if at < len(block):
            distance, = struct.unpack_from("<H", block, at)
            at += 2
            matched = 4 + length(token & 15)
            while matched > 0:
                piece = out[len(out) - distance:][:matched]
                out += piece
                matched -= len(piece)
    return bytes(out)


def framed(blocks, header=HEADER, end=True):
    """A file of (kind, raw size, stored bytes), with right checksums unless the header says that it has none."""
    out, seen = bytearray(header), bytes(header)
    for kind, raw, stored in [*blocks, *([(END, 0, b"")] if end else [])]:
        frame = struct.pack("<III", kind, raw, len(stored)) + stored
        seen += frame
        out += frame + struct.pack("<Q", crc64(seen) if header[9] else 0)
    return bytes(out)


def cut(data, size, kind=STORED):
    """The blocks of `data`."""
    pieces = [data[at:at + size] for at in range(0, len(data), size)]
    return [(kind, len(piece), piece if kind == STORED else lz4_literals(piece)) for piece in pieces]


def frames_of(data):
    """[(offset, kind, raw size, stored bytes)] of a file, whose checksums are looked at."""
    assert data[:16] == HEADER
    at, seen, found = 16, data[:16], []
    while at < len(data):
        kind, raw, stored = struct.unpack_from("<III", data, at)
        seen += data[at:at + HEAD + stored]
        assert struct.unpack_from("<Q", data, at + HEAD + stored) == (crc64(seen),)
        found.append((at, kind, raw, data[at + HEAD:at + HEAD + stored]))
        at += HEAD + stored + CHECKSUM
    assert found[-1][1:] == (END, 0, b"")
    return found[:-1]


def unframed(data):
    """The file inside."""
    out = b""
    for _, kind, raw, stored in frames_of(data):
        content = lz4_unpacked(stored) if kind == LZ4 else stored
        assert len(content) == raw
        out += content
    return out
