"""SCAN's promise: what is in the database from the first call to the last is returned, whatever the table
does.

A writer makes the tables grow and shrink while the scan walks; cursors stay below 2**53, so that clients
that keep numbers as doubles can hold them.
"""

import threading

import pytest

from .wire import Connection

STAYING = 3000
LIMIT = 2**53


def names_of(prefix, count):
    return [b"%s:%d" % (prefix, index) for index in range(count)]


def write_in_waves(server, stop, waves):
    """Add and remove 20,000 keys, again and again."""
    names = names_of(b"wave", 20_000)
    with server.connect(timeout=60) as connection:
        while not stop.is_set():
            for begin in range(0, len(names), 1000):
                connection.pipeline([("SET", name, 1) for name in names[begin : begin + 1000]])
            for begin in range(0, len(names), 1000):
                connection.command("DEL", *names[begin : begin + 1000])
            waves.append(1)


def scan_once(connection, *options):
    """All names of one scan, and its largest cursor."""
    cursor, seen, largest, calls = 0, set(), 0, 0
    while True:
        next_cursor, names = connection.command("SCAN", cursor, *options).value
        seen.update(names)
        cursor = int(next_cursor)
        largest = max(largest, cursor)
        calls += 1
        if cursor == 0:
            return seen, largest
        assert calls < 200_000, "the scan does not end"


@pytest.mark.parametrize(
    "options", [(), ("COUNT", 100), ("MATCH", "staying:*", "COUNT", 1000), ("TYPE", "string")]
)
def test_staying_keys_are_returned(flushed, options):
    staying = names_of(b"staying", STAYING)
    with Connection(flushed.address, timeout=60) as connection:
        connection.pipeline([("SET", name, 1) for name in staying])
        stop, waves = threading.Event(), []
        writer = threading.Thread(target=write_in_waves, args=(flushed, stop, waves))
        writer.start()
        scans = 0
        try:
            while (len(waves) < 2 or scans < 2) and writer.is_alive():
                seen, largest = scan_once(connection, *options)
                missing = set(staying) - seen
                assert not missing, f"{len(missing)} of {STAYING} were not returned, {sorted(missing)[:5]}"
                assert largest < LIMIT
                scans += 1
        finally:
            stop.set()
            writer.join()
        assert waves, "the writer got through"


def test_scan_over_growth(flushed):
    """The table grows a hundredfold in the middle of a scan."""
    staying = set(names_of(b"staying", 500))
    with flushed.connect(timeout=60) as connection:
        connection.pipeline([("SET", name, 1) for name in staying])
        cursor, names = connection.command("SCAN", 0, "COUNT", 20).value
        seen = set(names)
        fresh = names_of(b"fresh", 50_000)
        while cursor != b"0":
            connection.pipeline([("SET", name, 1) for name in fresh[:5000]])
            del fresh[:5000]
            assert int(cursor) < LIMIT
            cursor, names = connection.command("SCAN", cursor, "COUNT", 20 if fresh else 1000).value
            seen.update(names)
        assert staying <= seen


def test_scan_over_shrinking(flushed):
    """Most keys go in the middle of a scan; those that stay are returned."""
    staying = set(names_of(b"staying", 500))
    with flushed.connect(timeout=60) as connection:
        connection.pipeline([("SET", name, 1) for name in [*staying, *names_of(b"going", 30_000)]])
        cursor, names = connection.command("SCAN", 0, "COUNT", 100).value
        seen = set(names)
        connection.command("DEL", *names_of(b"going", 30_000))
        while cursor != b"0":
            cursor, names = connection.command("SCAN", cursor, "COUNT", 100).value
            seen.update(names)
        assert staying <= seen


def test_foreign_cursors_end(flushed):
    """A cursor that no scan returned is no danger: the scan ends."""
    with flushed.connect() as connection:
        connection.pipeline([("SET", name, 1) for name in names_of(b"any", 2000)])
        for cursor in (1, 17, 12345, 2**31, 2**48, 2**52, 2**53 - 1, 2**63 - 1, 2**64 - 1):
            reply = connection.command("SCAN", cursor)
            assert not reply.is_error
            calls = 0
            while reply.value[0] != b"0":
                reply = connection.command("SCAN", reply.value[0], "COUNT", 100)
                calls += 1
                assert calls < 10_000, f"the scan from {cursor} does not end"


def write(kind, names):
    """The command that adds elements with these names."""
    if kind == "SADD":
        return kind, "key", *names
    return kind, "key", *(word for name in names for word in ((b"1", name) if kind == "ZADD" else (name, b"1")))


ELEMENTS = {"SADD": ("SSCAN", "SREM"), "HSET": ("HSCAN", "HDEL"), "ZADD": ("ZSCAN", "ZREM")}


@pytest.mark.parametrize("change", ["conversion", "growth", "shrinking"])
@pytest.mark.parametrize("kind", ELEMENTS)
def test_staying_elements_are_returned(flushed, kind, change):
    """The collection changes its encoding, grows or shrinks in the middle of a scan."""
    scan, remove = ELEMENTS[kind]
    staying = names_of(b"staying", 40 if change == "conversion" else 1000)
    passing = names_of(b"passing", 30_000)
    with flushed.connect(timeout=60) as connection:
        connection.command(*write(kind, staying))
        if change == "shrinking":
            connection.command(*write(kind, passing))
        cursor, seen, calls = b"0", set(), 0
        while cursor != b"0" or calls == 0:
            cursor, elements = connection.command(scan, "key", cursor, "COUNT", 20 if passing else 1000).value
            assert int(cursor) < LIMIT
            seen.update(elements if kind == "SADD" else elements[::2])
            calls += 1
            part, passing = passing[:5000], passing[5000:]
            if part:
                connection.command(*((remove, "key", *part) if change == "shrinking" else write(kind, part)))
        assert set(staying) <= seen
        assert calls > 1 or change == "conversion"
