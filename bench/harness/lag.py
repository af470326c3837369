"""How late keys disappear: from the moment a key's TTL is due until it is gone.

Two measurements at once. Events: with notify-keyspace-events Ex a subscriber gets every key's `expired`
event; the key's number tells when it was due. Count: DBSIZE is asked every few milliseconds; the k-th key
to disappear is set against the k-th due time, which is the lag of the keys' memory whether or not the
server has events.
"""

import re
import select
import time

from .wire import ReplyError, encode, load_keys, text_value

COUNT_INTERVAL = 0.005
EVENT_KEY = re.compile(rb"key:(\d{12})\r\n")


class Schedule:
    """Due times of `count` keys spread evenly over `span` seconds, in an order unlike the insertion's."""

    def __init__(self, count, span, begin):
        self.count, self.span, self.begin = count, span, begin
        candidates = range(int(count * 0.618), count * 2)
        self.stride = next(number for number in candidates if _coprime(number, count))

    def rank_due(self, rank):
        """Unix time of the rank-th key to be due, in ms."""
        return int((self.begin + rank * self.span / self.count) * 1000)

    def key_due(self, index):
        return self.rank_due(index * self.stride % self.count)


def _coprime(first, second):
    while second:
        first, second = second, first % second
    return first == 1


def measure(server, count, span, patience=30.0):
    """Load the keys, wait until they are gone, and return the lags; limited to patience after the end."""
    subscriber = subscribe(server)
    # The load must be over before the first key is due.
    schedule = Schedule(count, span, time.time() + 4 + count / 100_000)
    load_keys(server.port, 0, count, text_value(16), expire_at_ms=schedule.key_due)
    late = time.time() - schedule.begin
    if late > 0:
        raise RuntimeError(f"{server.name}: loading took {late:.1f} s longer than planned")
    cpu = server.cpu_seconds()
    events, removals = watch(server, subscriber, schedule, patience)
    left = count - (removals[-1][1] if removals else 0)
    event_lags = sorted(max(0.0, arrived * 1000 - schedule.key_due(index)) for arrived, index in events)
    return {
        "keys": count, "span_seconds": span, "left": left, "events": len(events),
        "event_p99_ms": _percentile(event_lags, count),
        "event_max_ms": event_lags[-1] if event_lags else None,
        **count_lags(removals, schedule),
        "cpu_us_per_key": (server.cpu_seconds() - cpu) / count * 1e6,
    }


def subscribe(server):
    """A connection that receives expired events, or None where the server has none."""
    connection = server.connect()
    try:
        connection.command("CONFIG", "SET", "notify-keyspace-events", "Ex")
        connection.command("SUBSCRIBE", "__keyevent@0__:expired")
    except ReplyError as error:
        print(f"  {server.name}: no expired events ({error})", flush=True)
        connection.close()
        return None
    return connection


def watch(server, subscriber, schedule, patience):
    """([(arrival, key)], [(time, keys gone)]) until all are gone or patience is over."""
    events, removals = [], []
    counter = server.connect()
    question = encode("DBSIZE")
    end = schedule.begin + schedule.span + patience
    pending = b""
    sockets = [subscriber.socket] if subscriber else []
    next_count = 0.0
    gone = 0
    while time.time() < end and (gone < schedule.count or (subscriber and len(events) < schedule.count)):
        if select.select(sockets, [], [], COUNT_INTERVAL)[0]:
            pending += subscriber.socket.recv(1 << 18)
            arrived = time.time()
            cut = pending.rfind(b"\r\n") + 2
            events += [(arrived, int(number)) for number in EVENT_KEY.findall(pending, 0, cut)]
            pending = pending[cut:]
        now = time.time()
        if now >= next_count:
            next_count = now + COUNT_INTERVAL
            counter.send(question)
            gone = schedule.count - counter.read_reply()
            removals.append((time.time(), gone))
        if gone >= schedule.count and now > schedule.begin + schedule.span + 5:
            break
    counter.close()
    if subscriber:
        subscriber.close()
    return events, removals


def count_lags(removals, schedule):
    """Lag of the k-th removal behind the k-th due time; what never went counts as infinitely late."""
    lags = []
    before = 0
    for seen, gone in removals:
        # Every key of this step was still there at the last question: it went at `seen` at the latest.
        for rank in range(before, gone):
            lags.append(max(0.0, seen * 1000 - schedule.rank_due(rank)))
        before = max(before, gone)
    lags.sort()
    return {"count_p99_ms": _percentile(lags, schedule.count), "count_max_ms": lags[-1] if lags else None}


def _percentile(lags, expected, percent=99):
    """The percentile over all expected keys; None when too many of them never came."""
    rank = -(-expected * percent // 100) - 1
    return lags[rank] if rank < len(lags) else None
