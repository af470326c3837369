"""RESP replies built by Python: for the commands of the control plane."""


class Simple(str):
    """A simple string (+text)."""


class Error(str):
    """An error; starts with its code: 'ERR ...'."""


class Map(dict):
    """A map in RESP3, a flat array in RESP2."""


class Verbatim(str):
    """Text: a verbatim string in RESP3, a bulk string in RESP2."""


class Set(list):
    """A set in RESP3, an array in RESP2."""


NO_REPLY = object()              # nothing is sent


def encode(value, resp):
    """Python value to RESP bytes, for protocol version 2 or 3."""
    if value is NO_REPLY:
        return b""
    if isinstance(value, Error):
        return b"-" + " ".join(value.splitlines()).encode() + b"\r\n"
    if isinstance(value, Simple):
        return b"+" + value.encode() + b"\r\n"
    if isinstance(value, Verbatim):
        data = value.encode("utf-8", "surrogateescape")
        if resp == 3:
            return b"=%d\r\ntxt:%s\r\n" % (len(data) + 4, data)
        return b"$%d\r\n%s\r\n" % (len(data), data)
    if value is None:
        return b"_\r\n" if resp == 3 else b"$-1\r\n"
    if isinstance(value, bool):
        return (b"#t\r\n" if value else b"#f\r\n") if resp == 3 else b":%d\r\n" % value
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, float):
        text = b"%.17g" % value
        return b"," + text + b"\r\n" if resp == 3 else b"$%d\r\n%s\r\n" % (len(text), text)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    if isinstance(value, dict):
        head = b"%%%d\r\n" % len(value) if resp == 3 else b"*%d\r\n" % (2 * len(value))
        return head + b"".join(encode(k, resp) + encode(v, resp) for k, v in value.items())
    kind = b"~" if isinstance(value, Set) and resp == 3 else b"*"
    return kind + b"%d\r\n" % len(value) + b"".join(encode(item, resp) for item in value)
