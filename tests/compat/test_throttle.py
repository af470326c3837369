"""CL.THROTTLE, which no oracle has: against the algorithm, and by the clock."""

import time


def test_bursts_and_refills(flushed):
    with flushed.connect() as connection:
        first = [connection.command("CL.THROTTLE", "k", 4, 10, 1).value for _ in range(6)]
        assert [reply[0] for reply in first] == [0, 0, 0, 0, 0, 1]
        assert [reply[1] for reply in first] == [5] * 6
        assert [reply[2] for reply in first] == [4, 3, 2, 1, 0, 0]
        assert [reply[3] for reply in first] == [-1] * 5 + [1]
        time.sleep(0.25)
        again = [connection.command("CL.THROTTLE", "k", 4, 10, 1).value[0] for _ in range(3)]
        assert again[:2] == [0, 0]
        assert 0 < connection.command("PTTL", "k").value <= 600
        time.sleep(0.7)
        assert connection.command("EXISTS", "k").value == 0


def test_quantities(flushed):
    with flushed.connect() as connection:
        assert connection.command("CL.THROTTLE", "k", 9, 1, 3600, 5).value == [0, 10, 5, -1, 18000]
        assert connection.command("CL.THROTTLE", "k", 9, 1, 3600, 6).value[:4] == [1, 10, 5, 3600]
        assert connection.command("CL.THROTTLE", "k", 9, 1, 3600, 11).value[:4] == [1, 10, 5, -1]
        assert connection.command("CL.THROTTLE", "k", 9, 1, 3600, 0).value[:4] == [0, 10, 5, -1]


def test_errors(flushed):
    with flushed.connect() as connection:
        for line, error in [
            (("k", 1, 1), "ERR wrong number of arguments for 'cl.throttle' command"),
            (("k", 1, 1, 1, 1, 1), "ERR syntax error"),
            (("k", "x", 1, 1), "ERR value is not an integer or out of range"),
            (("k", 1, 0, 1), "ERR value is out of range"),
            (("k", -1, 1, 1), "ERR value is out of range"),
            (("k", 10**9, 1, 10**9), "ERR value is out of range"),
        ]:
            assert connection.command("CL.THROTTLE", *line).raw == b"-" + error.encode() + b"\r\n"
        connection.command("LPUSH", "l", "a")
        assert connection.command("CL.THROTTLE", "l", 1, 1, 1).raw.startswith(b"-WRONGTYPE")
        connection.command("SET", "s", "text")
        assert connection.command("CL.THROTTLE", "s", 1, 1, 1).is_error
