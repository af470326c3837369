"""XREADGROUP with CLAIM, of Redis 8.4, which is no oracle here: what its documentation says of it.

redis.io/docs/latest/commands/xreadgroup; how long an entry has been idle is set by XCLAIM.
"""

import time

import pytest

from .servers import SUBJECT
from .waiting import Waiting, wait_for_blocked
from .wire import encode

pytestmark = pytest.mark.skipif(SUBJECT != "dfly", reason="redis-server 7.0 and Valkey have no CLAIM")


def claim(connection, consumer, min_idle, *options, keys=("k",), ids=None):
    """{key: [(id, whether it was idle so long, deliveries), ...]}; new entries have been idle 0 ms."""
    line = ("XREADGROUP", "GROUP", "g", consumer, *options, "CLAIM", min_idle, "STREAMS", *keys,
            *(ids or [">"] * len(keys)))
    return told(connection.command(*line).value, min_idle)


def told(reply, min_idle):
    found = {}
    for key, entries in (reply.items() if isinstance(reply, dict) else reply or []):
        found[key.decode()] = [(entry[0].decode(), "new" if entry[2:] == [0, 0] else entry[2] >= min_idle, entry[3])
                               for entry in entries]
        assert all(entry[1] == [b"f", b"v"] for entry in entries)
    return found


def pending(connection, key="k"):
    return [(item[0].decode(), item[1].decode(), item[3])
            for item in connection.command("XPENDING", key, "g", "-", "+", 99).value]


def make_idle(connection, number, idle_ms, key="k", consumer="x"):
    connection.command("XCLAIM", key, "g", consumer, 0, f"{number}-0", "IDLE", idle_ms, "JUSTID")


def fill(connection, key="k", entries=5, read=3):
    connection.command("XGROUP", "CREATE", key, "g", "0", "MKSTREAM")
    connection.pipeline([("XADD", key, f"{number}-0", "f", "v") for number in range(1, entries + 1)])
    if read:
        connection.command("XREADGROUP", "GROUP", "g", "x", "COUNT", read, "STREAMS", key, ">")


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def filled(flushed, request):
    """Five entries, three of them with x."""
    with flushed.connect(request.param) as connection:
        fill(connection)
        yield connection


def test_idle_entries_come_first_and_the_longest_idle_before_others(filled):
    for number, idle in ((1, 2000), (2, 9000), (3, 5000)):
        make_idle(filled, number, idle)
    new = [("4-0", "new", 0), ("5-0", "new", 0)]
    assert claim(filled, "y", 1500) == {"k": [("2-0", True, 1), ("3-0", True, 1), ("1-0", True, 1), *new]}
    assert pending(filled) == [("1-0", "y", 2), ("2-0", "y", 2), ("3-0", "y", 2), ("4-0", "y", 1), ("5-0", "y", 1)]
    # Now nothing is idle.
    assert claim(filled, "z", 1500) == {}
    assert filled.command("XINFO", "CONSUMERS", "k", "g").raw.count(b"name") == 2


def test_what_is_not_idle_enough_stays(filled):
    make_idle(filled, 2, 9000)
    assert claim(filled, "y", 5000, "COUNT", 1) == {"k": [("2-0", True, 1)]}
    assert claim(filled, "y", 5000, "COUNT", 1) == {"k": [("4-0", "new", 0)]}
    assert pending(filled) == [("1-0", "x", 1), ("2-0", "y", 2), ("3-0", "x", 1), ("4-0", "y", 1)]
    assert claim(filled, "y", 2 ** 63 - 1) == {"k": [("5-0", "new", 0)]}


def test_zero_claims_everything_at_once(filled):
    assert claim(filled, "x", 0, "COUNT", 4) == {"k": [(f"{n}-0", True, 1) for n in (1, 2, 3)] + [("4-0", "new", 0)]}
    assert [entry[2] for entry in pending(filled)] == [2, 2, 2, 1]


def test_count_holds_for_both(filled):
    make_idle(filled, 1, 3000)
    make_idle(filled, 3, 2000)
    assert claim(filled, "y", 1000, "COUNT", 1) == {"k": [("1-0", True, 1)]}
    assert claim(filled, "y", 1000, "COUNT", 2) == {"k": [("3-0", True, 1), ("4-0", "new", 0)]}


def test_noack_is_for_new_entries_only(filled):
    make_idle(filled, 1, 3000)
    assert claim(filled, "y", 1000, "NOACK") == {"k": [("1-0", True, 1), ("4-0", "new", 0), ("5-0", "new", 0)]}
    assert pending(filled) == [("1-0", "y", 2), ("2-0", "x", 1), ("3-0", "x", 1)]


def test_history_is_read_as_without(filled):
    make_idle(filled, 1, 3000)
    plain = filled.command("XREADGROUP", "GROUP", "g", "x", "STREAMS", "k", "0").raw
    assert filled.command("XREADGROUP", "GROUP", "g", "x", "CLAIM", 1000, "STREAMS", "k", "0").raw == plain
    assert pending(filled)[0] == ("1-0", "x", 3)


def test_entries_that_are_gone_are_no_longer_pending_once_they_are_met(filled):
    for number in (1, 2, 3):
        make_idle(filled, number, 10000 - number)
    filled.command("XDEL", "k", "1-0", "2-0", "4-0", "5-0")
    assert claim(filled, "y", 20000) == {}
    assert pending(filled) == [("1-0", "x", 1), ("2-0", "x", 1), ("3-0", "x", 1)]
    assert claim(filled, "y", 1000, "COUNT", 1) == {"k": [("3-0", True, 1)]}
    assert pending(filled) == [("3-0", "y", 2)]
    filled.command("XTRIM", "k", "MAXLEN", 0)
    assert claim(filled, "y", 0) == {}
    assert pending(filled) == []
    assert filled.command("XINFO", "CONSUMERS", "k", "g").raw.count(b"pending\r\n:0\r\n") == 2


def test_entries_that_are_gone_between_others(filled):
    for number in (1, 2, 3):
        make_idle(filled, number, 10000 - number)
    filled.command("XDEL", "k", "2-0")
    # COUNT is reached before it is met.
    assert claim(filled, "y", 1000, "COUNT", 1) == {"k": [("1-0", True, 1)]}
    assert pending(filled) == [("1-0", "y", 2), ("2-0", "x", 1), ("3-0", "x", 1)]
    assert claim(filled, "y", 0, "COUNT", 3) == {"k": [("3-0", True, 1), ("1-0", True, 2), ("4-0", "new", 0)]}
    assert pending(filled) == [("1-0", "y", 3), ("3-0", "y", 2), ("4-0", "y", 1)]


def test_history_still_shows_what_is_gone(filled):
    filled.command("XDEL", "k", "1-0")
    shown = filled.command("XREADGROUP", "GROUP", "g", "x", "CLAIM", 0, "STREAMS", "k", "0").raw
    assert b"1-0\r\n*-1\r\n" in shown or b"1-0\r\n_\r\n" in shown
    assert len(pending(filled)) == 3


@pytest.mark.parametrize("count", [499, 500, 501, 2600])
def test_many_that_are_gone(filled, count):
    """More than one hop forgets."""
    fill(filled, "many", count + 2, count + 1)
    filled.command("XTRIM", "many", "MAXLEN", 2)
    filled.command("COPY", "many", "copy")
    assert claim(filled, "y", 100000, keys=["many"]) == {"many": [(f"{count + 2}-0", "new", 0)]}
    assert filled.command("XPENDING", "many", "g").value[0] == count + 2
    last = [(f"{count + 1}-0", True, 1), (f"{count + 2}-0", "new", 0)]
    assert claim(filled, "y", 0, keys=["copy", "k"]) == {
        "copy": last, "k": [*((f"{number}-0", True, 1) for number in (1, 2, 3)), ("4-0", "new", 0), ("5-0", "new", 0)]}
    assert filled.command("XPENDING", "copy", "g").value[0] == 2
    # Nobody gets anything, and yet they are forgotten.
    filled.command("XTRIM", "many", "MAXLEN", 0)
    assert claim(filled, "y", 0, keys=["many"]) == {}
    assert filled.command("XPENDING", "many", "g").value[0] == 0


def test_what_a_group_that_was_set_back_reads_again_is_new(filled):
    filled.command("XGROUP", "SETID", "k", "g", "1-0")
    assert claim(filled, "y", 0, "COUNT", 5) == {
        "k": [*((f"{number}-0", True, 1) for number in (1, 2, 3)), ("2-0", "new", 0), ("3-0", "new", 0)]}
    assert pending(filled) == [("1-0", "y", 2), ("2-0", "y", 1), ("3-0", "y", 1)]


def test_acknowledged_and_forgotten_entries_are_not_claimed(filled):
    filled.command("XACK", "k", "g", "2-0")
    assert [entry[0] for entry in claim(filled, "y", 0, "COUNT", 2)["k"]] == ["1-0", "3-0"]
    filled.command("XGROUP", "DELCONSUMER", "k", "g", "y")
    assert claim(filled, "z", 0, "COUNT", 1) == {"k": [("4-0", "new", 0)]}
    filled.command("XACKDEL", "k", "g", "IDS", 1, "4-0")
    assert claim(filled, "z", 0, "COUNT", 1) == {"k": [("5-0", "new", 0)]}


def test_copies_and_restored_values_know_what_is_idle(filled):
    for number, idle in ((3, 9000), (1, 7000), (2, 5000)):
        make_idle(filled, number, idle)
    filled.command("COPY", "k", "copy")
    filled.command("RESTORE", "restored", 0, filled.command("DUMP", "k").value)
    for key in ("copy", "restored", "k"):
        assert claim(filled, "y", 4000, "COUNT", 3, keys=[key]) == {
            key: [("3-0", True, 1), ("1-0", True, 1), ("2-0", True, 1)]}


def test_several_streams(filled):
    fill(filled, "j", 2, 1)
    fill(filled, "empty", 0, 0)
    make_idle(filled, 1, 3000)
    make_idle(filled, 1, 3000, key="j")
    expected = {"k": [("1-0", True, 1), ("4-0", "new", 0), ("5-0", "new", 0)],
                "j": [("1-0", True, 1), ("2-0", "new", 0)]}
    assert claim(filled, "y", 1000, keys=("k", "empty", "j")) == expected


def test_many_that_are_gone_in_a_transaction(filled):
    fill(filled, "many", 1300, 1299)
    filled.command("XTRIM", "many", "MAXLEN", 1)
    line = ("XREADGROUP", "GROUP", "g", "y", "CLAIM", 0, "STREAMS", "many", ">")
    reply = filled.pipeline([("MULTI",), line, ("XPENDING", "many", "g"), ("EXEC",)])[-1].value
    assert told(reply[0], 0) == {"many": [("1300-0", "new", 0)]}
    assert reply[1][:3] == [1, b"1300-0", b"1300-0"]


@pytest.mark.parametrize("text", ["test", "5.5", "5,5", "10e", "+10", "*10", "10/2", "-0", "-5.5", "(-10)", "", "COUNT",
                                  "9223372036854775808"])
def test_what_is_no_time(filled, text):
    reply = filled.command("XREADGROUP", "GROUP", "g", "y", "CLAIM", text, "STREAMS", "k", ">").raw
    assert reply == b"-ERR min-idle-time is not an integer\r\n"


def test_errors(filled):
    def error(*line):
        return filled.command(*line).raw.decode()

    group = ("XREADGROUP", "GROUP", "g", "y")
    assert error(*group, "CLAIM", -10, "STREAMS", "k", ">") == "-ERR min-idle-time must be a positive integer\r\n"
    assert error("XREADGROUP", "CLAIM", *group[1:], "COUNT", 1, "STREAMS", "k", ">").startswith("-ERR min-idle-time is")
    assert error(*group, "STREAMS", "k", "CLAIM", ">").startswith("-ERR Unbalanced")
    assert error(*group, "STREAMS", "k", ">", "CLAIM", 50).startswith("-ERR Invalid stream ID")
    assert error(*group[:3], "CLAIM", 50, "y", "STREAMS", "k", ">") == "-ERR syntax error\r\n"
    assert error("XREADGROUP", "GROUP", "h", "y", "CLAIM", 5, "STREAMS", "k", ">").startswith("-NOGROUP No such key")
    assert error("XREAD", "CLAIM", 50, "STREAMS", "k", "0").startswith("-ERR The CLAIM option is only supported by")
    # The last of several counts, wherever they stand.
    assert claim(filled, "y", 0, "CLAIM", 9999, "COUNT", 1) == {"k": [("1-0", True, 1)]}
    assert filled.command("COMMAND", "GETKEYS", "XREADGROUP", "CLAIM", 5, "GROUP", "g", "c", "STREAMS", "k", "j", ">",
                          ">").value == [b"k", b"j"]


# ---- Waiting -----------------------------------------------------------------------------------

def blocked(consumer, min_idle, *keys, wait=0, options=()):
    return ("XREADGROUP", "GROUP", "g", consumer, "BLOCK", wait, *options, "CLAIM", min_idle, "STREAMS", *keys,
            *[">"] * len(keys))


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def waiting(start, request):
    with Waiting(start(proactor_threads=request.param), 2, ["a", "b", "p"]) as clients:
        fill(clients.clients["p"], entries=1, read=1)
        fill(clients.clients["p"], "j", entries=1, read=1)
        yield clients


def test_an_entry_becomes_idle_while_somebody_waits(waiting):
    began = time.monotonic()
    waiting.clients["a"].send(encode(*blocked("y", 300, "k")))
    assert told(waiting.clients["a"].read().value, 300) == {"k": [("1-0", True, 1)]}
    assert time.monotonic() - began > 0.2
    assert pending(waiting.control) == [("1-0", "y", 2)]


def test_of_several_streams_the_one_that_is_idle_first(waiting):
    make_idle(waiting.control, 1, 100, key="j")
    waiting.clients["a"].send(encode(*blocked("y", 400, "k", "j")))
    assert told(waiting.clients["a"].read().value, 400) == {"j": [("1-0", True, 1)]}


def test_what_is_gone_and_becomes_idle_while_somebody_waits(waiting):
    waiting.control.pipeline([("XADD", "k", "2-0", "f", "v"), ("XREADGROUP", "GROUP", "g", "x", "STREAMS", "k", ">"),
                              ("XDEL", "k", "1-0")])
    make_idle(waiting.control, 2, 0)
    waiting.clients["a"].send(encode(*blocked("y", 300, "k")))
    assert told(waiting.clients["a"].read().value, 300) == {"k": [("2-0", True, 1)]}
    assert pending(waiting.control) == [("2-0", "y", 2)]


def test_a_new_entry_ends_the_wait_before(waiting):
    assert waiting.step("a", *blocked("y", 60000, "k")) == {}
    answers = waiting.step("p", "XADD", "k", "2-0", "f", "v")
    assert b"2-0" in answers["a"][0] and answers["a"][0].endswith(b":0\r\n:0\r\n")


def test_one_gets_it_new_and_the_next_when_it_is_idle(waiting):
    assert waiting.step("a", *blocked("y", 500, "k")) == {}
    waiting.control.command("XACK", "k", "g", "1-0")
    assert waiting.step("b", *blocked("z", 500, "k")) == {}
    answers = waiting.step("p", "XADD", "k", "2-0", "f", "v")
    assert answers["a"][0].endswith(b":0\r\n:0\r\n") and "b" not in answers
    assert told(waiting.clients["b"].read().value, 500) == {"k": [("2-0", True, 1)]}
    assert pending(waiting.control) == [("2-0", "z", 2)]


def test_what_another_makes_idle_is_claimed_at_once(waiting):
    assert waiting.step("a", *blocked("y", 60000, "k")) == {}
    answers = waiting.step("p", "XCLAIM", "k", "g", "x", 0, "1-0", "IDLE", 70000, "JUSTID")
    assert b"1-0" in answers["a"][0] and answers["a"][0].endswith(b":1\r\n")


def test_time_runs_out_with_nothing_idle(waiting):
    began = time.monotonic()
    reply = waiting.control.command(*blocked("y", 100000, "k", wait=150))
    assert reply.value is None and 0.1 < time.monotonic() - began < 5
    # It tried again several times, with nothing to claim, and then there was no time left.
    waiting.control.command("XACK", "k", "g", "1-0")
    began = time.monotonic()
    assert waiting.control.command(*blocked("y", 1, "k", wait=200)).value is None
    assert 0.15 < time.monotonic() - began < 5


def test_who_hangs_up_claims_nothing(waiting):
    with waiting.server.connect() as client:
        client.send(encode(*blocked("y", 300, "k")))
        wait_for_blocked(waiting.control, 1)
    wait_for_blocked(waiting.control, 0)
    time.sleep(0.4)
    assert pending(waiting.control) == [("1-0", "x", 1)]


def test_in_a_transaction_nobody_waits(waiting):
    answers = waiting.control.pipeline([("MULTI",), blocked("y", 60000, "k"), blocked("y", 0, "k"), ("EXEC",)])
    assert answers[-1].value[0] is None and told(answers[-1].value[1], 0) == {"k": [("1-0", True, 1)]}


def test_unblocking_while_it_tries_again(waiting):
    waiting.control.command("XACK", "k", "g", "1-0")
    identity = waiting.clients["a"].command("CLIENT", "ID").value
    assert waiting.step("a", *blocked("y", 1, "k")) == {}
    time.sleep(0.1)
    assert waiting.control.command("CLIENT", "UNBLOCK", identity, "ERROR").value == 1
    assert waiting.clients["a"].read().raw.startswith(b"-UNBLOCKED")
