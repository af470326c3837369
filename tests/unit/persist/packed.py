"""The packed formats of RDB files, written by hand from their descriptions."""

import struct


def listpack(elements, count=None):
    body = b"".join(listpack_element(element) for element in elements)
    total = len(elements) if count is None else count
    return struct.pack("<IH", len(body) + 7, total) + body + b"\xff"


def listpack_element(element):
    if isinstance(element, int):
        if 0 <= element <= 127:
            data = bytes([element])
        elif -32768 <= element <= 32767:
            data = b"\xf1" + struct.pack("<h", element)
        elif -(2**31) <= element < 2**31:
            data = b"\xf3" + struct.pack("<i", element)
        else:
            data = b"\xf4" + struct.pack("<q", element)
    elif len(element) < 64:
        data = bytes([0x80 | len(element)]) + element
    elif len(element) < 4096:
        data = bytes([0xE0 | len(element) >> 8, len(element) & 0xFF]) + element
    else:
        data = b"\xf0" + struct.pack("<I", len(element)) + element
    size = len(data)
    back = []
    while True:
        back.append(size & 127)
        size >>= 7
        if size == 0:
            break
    back = [byte | (128 if at > 0 else 0) for at, byte in enumerate(reversed(back))]
    return data + bytes(back)


def ziplist(elements):
    entries = []
    previous = 0
    for element in elements:
        head = bytes([previous]) if previous < 254 else b"\xfe" + struct.pack("<I", previous)
        entries.append(head + ziplist_data(element))
        previous = len(entries[-1])
    body = b"".join(entries)
    tail = 10 + len(body) - (len(entries[-1]) if entries else 0)
    return struct.pack("<IIH", len(body) + 11, tail, len(entries)) + body + b"\xff"


def ziplist_data(element):
    if isinstance(element, int):
        if 0 <= element <= 12:
            return bytes([0xF1 + element])
        for code, form, bits in ((0xFE, "<b", 8), (0xC0, "<h", 16), (0xD0, "<i", 32), (0xE0, "<q", 64)):
            if bits == 32 and -(2**23) <= element < 2**23:
                return b"\xf0" + struct.pack("<i", element)[:3]
            if -(2 ** (bits - 1)) <= element < 2 ** (bits - 1):
                return bytes([code]) + struct.pack(form, element)
    size = len(element)
    if size < 64:
        return bytes([size]) + element
    if size < 16384:
        return bytes([0x40 | size >> 8, size & 0xFF]) + element
    return b"\x80" + struct.pack(">I", size) + element


def zipmap(pairs):
    def part(data, free=None):
        head = bytes([len(data)]) if len(data) < 254 else b"\xfe" + struct.pack("<I", len(data))
        return head + (b"" if free is None else bytes([free])) + data + b"\0" * (free or 0)

    body = b"".join(part(field) + part(value, at % 3) for at, (field, value) in enumerate(pairs))
    return bytes([min(len(pairs), 254)]) + body + b"\xff"


def intset(width, numbers):
    form = {2: "h", 4: "i", 8: "q"}[width]
    return struct.pack(f"<II{len(numbers)}{form}", width, len(numbers), *numbers)


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
