#!/usr/bin/env python3
"""How long single commands over millions of elements keep others waiting: `bench/long_commands.py [NAMES]`.

One connection sends the command, a second one reads another key, again a millisecond after each answer. Shown for
each server: the longest wait of the second connection, and how long the command itself took. Times of the probe are
the kernel's (bench/harness/stall.py), without the time that the server was ready to run and had no core; the least of
the rounds is taken: a stall that the machine causes does not recur.
"""

import argparse
import selectors
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare import choose_cores
from bench.harness import process, servers, wire
from bench.harness.stall import Channel

CHUNK = 500
MARK = b"$8\r\nTHE-END!\r\n"
DUMPED = object()                # an argument: what DUMP makes of the key


def chunks(count, start=0):
    for first in range(start, start + count, CHUNK):
        yield range(first, min(first + CHUNK, start + count))


def a_list(port, count, key=b"a"):
    wire.pump(port, ((b"RPUSH", key, *(b"element:%d" % i for i in part)) for part in chunks(count)))


def a_hash(port, count, key=b"a"):
    wire.pump(port, ((b"HSET", key, *(word for i in part for word in (b"field:%d" % i, b"v%d" % i)))
                     for part in chunks(count)))


def a_set(port, count, key=b"a", start=0):
    wire.pump(port, ((b"SADD", key, *(b"member:%d" % i for i in part)) for part in chunks(count, start)))


def two_sets(port, count):
    a_set(port, count)
    a_set(port, count, b"b", count // 2)


def a_zset(port, count, key=b"a", start=0, score=lambda i: i):
    wire.pump(port, ((b"ZADD", key, *(word for i in part for word in (b"%d" % score(i), b"member:%08d" % i)))
                     for part in chunks(count, start)))


def two_zsets(port, count):
    a_zset(port, count)
    a_zset(port, count, b"b", count // 2)


def places(port, count):
    wire.pump(port, ((b"GEOADD", b"a", *(word for i in part for word in (
        b"%.4f" % (i * 7919 % 3_000_000 / 10_000 - 150), b"%.4f" % (i * 104_729 % 1_500_000 / 10_000 - 75),
        b"place:%08d" % i))) for part in chunks(count)))


def strings(port, count):
    wire.pump(port, ((b"MSET", *(word for i in part for word in (b"key:%d" % i, b"v" * 64))) for part in chunks(count)))


def every_other(port, count):
    wire.pump(port, ((b"RPUSH", b"a", *(b"t" if i % 2 else b"element:%d" % i for i in part)) for part in chunks(count)))


def timed(port, count):
    """A set whose members have deadlines; of servers that know SADDEX."""
    wire.pump(port, ((b"SADDEX", b"a", b"10000", *(b"member:%d" % i for i in part)) for part in chunks(count)))


def weighted(port, count):
    """A list with two keys for each element."""
    a_list(port, count)
    for part in chunks(count):
        wire.pump(port, [(b"MSET", *(word for i in part for word in (
            b"weight_element:%d" % i, b"%d" % (i * 7919 % count))))])
        wire.pump(port, [(b"HSET", b"data_element:%d" % i, b"name", b"name %d" % i) for i in part])


def a_flat_zset(port, count):
    a_zset(port, count, score=lambda i: 0)


def a_stream(port, count, key=b"a"):
    wire.pump(port, ((b"XADD", key, b"%d-1" % (i + 1), b"f", b"value") for i in range(count)))


def a_group(port, count, key=b"a"):
    a_stream(port, count, key)
    wire.pump(port, [(b"XGROUP", b"CREATE", key, b"g", b"0")])


def two_groups(port, count):
    for key in (b"a", b"b"):
        a_group(port, count // 2, key)


def pending(port, count):
    a_group(port, count)
    wire.pump(port, ((b"XREADGROUP", b"GROUP", b"g", b"c%d" % (i % 2), b"COUNT", b"1000", b"STREAMS", b"a", b">")
                     for i in range(count // 1000)))


def cases(count):
    half = count // 2
    quarter = count // 4
    return {
        "zremrangebyrank": (a_zset, ("ZREMRANGEBYRANK", "a", 0, half)),
        "zremrangebyscore": (a_zset, ("ZREMRANGEBYSCORE", "a", quarter, quarter + half)),
        "zremrangebylex": (a_flat_zset, ("ZREMRANGEBYLEX", "a", "-", "[member:%08d" % half)),
        "zpopmin": (a_zset, ("ZPOPMIN", "a", half)),
        "ltrim": (a_list, ("LTRIM", "a", quarter, quarter + half)),
        "lpop": (a_list, ("LPOP", "a", half)),
        "lrem": (a_list, ("LREM", "a", 0, "none")),
        "rpop": (a_list, ("RPOP", "a", half)),
        "lmpop": (a_list, ("LMPOP", 2, "none", "a", "LEFT", "COUNT", half)),
        "zmpop": (a_zset, ("ZMPOP", 2, "none", "a", "MIN", "COUNT", half)),
        "zpopmax": (a_zset, ("ZPOPMAX", "a", half)),
        "spop": (a_set, ("SPOP", "a", half)),
        "copy-list": (a_list, ("COPY", "a", "copy")),
        "copy-hash": (a_hash, ("COPY", "a", "copy")),
        "copy-set": (a_set, ("COPY", "a", "copy")),
        "copy-zset": (a_zset, ("COPY", "a", "copy")),
        "copy-stream": (a_stream, ("COPY", "a", "copy")),
        "rename": (a_set, ("RENAME", "a", "other")),
        "move": (a_set, ("MOVE", "a", 1)),
        "sunionstore": (two_sets, ("SUNIONSTORE", "out", "a", "b")),
        "sinterstore": (two_sets, ("SINTERSTORE", "out", "a", "b")),
        "sdiffstore": (two_sets, ("SDIFFSTORE", "out", "a", "b")),
        "sunion": (two_sets, ("SUNION", "a", "b")),
        "sinter": (two_sets, ("SINTER", "a", "b")),
        "sdiff": (two_sets, ("SDIFF", "a", "b")),
        "sintercard": (two_sets, ("SINTERCARD", 2, "a", "b")),
        "smembers": (a_set, ("SMEMBERS", "a")),
        "sunion-one": (a_set, ("SUNION", "a")),
        "hgetall": (a_hash, ("HGETALL", "a")),
        "hkeys": (a_hash, ("HKEYS", "a")),
        "hvals": (a_hash, ("HVALS", "a")),
        "lrange": (a_list, ("LRANGE", "a", 0, -1)),
        "zrange": (a_zset, ("ZRANGE", "a", 0, -1)),
        "zrange-scores": (a_zset, ("ZRANGE", "a", 0, -1, "WITHSCORES")),
        "zrevrange": (a_zset, ("ZREVRANGE", "a", 0, -1)),
        "zrangebyscore": (a_zset, ("ZRANGEBYSCORE", "a", "-inf", "+inf")),
        "zrangebylex": (a_flat_zset, ("ZRANGEBYLEX", "a", "-", "+")),
        "zunionstore": (two_zsets, ("ZUNIONSTORE", "out", 2, "a", "b")),
        "zinterstore": (two_zsets, ("ZINTERSTORE", "out", 2, "a", "b")),
        "zdiffstore": (two_zsets, ("ZDIFFSTORE", "out", 2, "a", "b")),
        "zrangestore": (a_zset, ("ZRANGESTORE", "out", "a", 0, half)),
        "zunion": (two_zsets, ("ZUNION", 2, "a", "b")),
        "zinter": (two_zsets, ("ZINTER", 2, "a", "b")),
        "zdiff": (two_zsets, ("ZDIFF", 2, "a", "b")),
        "xrange": (a_stream, ("XRANGE", "a", "-", "+")),
        "xrevrange": (a_stream, ("XREVRANGE", "a", "+", "-")),
        "xread": (a_stream, ("XREAD", "STREAMS", "a", 0)),
        "xreadgroup": (a_group, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">")),
        "xreadgroup-history": (pending, ("XREADGROUP", "GROUP", "g", "c0", "STREAMS", "a", 0)),
        "xinfo-full": (pending, ("XINFO", "STREAM", "a", "FULL", "COUNT", 0)),
        "xpending": (pending, ("XPENDING", "a", "g", "-", "+", count)),
        "xtrim": (a_stream, ("XTRIM", "a", "MAXLEN", half)),
        "xtrim-most": (a_stream, ("XTRIM", "a", "MAXLEN", 3)),
        "xreadgroup-streams": (two_groups, ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", "b", ">", ">")),
        "xgroup-delconsumer": (pending, ("XGROUP", "DELCONSUMER", "a", "g", "c0")),
        "xautoclaim": (pending, ("XAUTOCLAIM", "a", "g", "c2", 0, 0, "COUNT", half)),
        "xautoclaim-ids": (pending, ("XAUTOCLAIM", "a", "g", "c2", 0, 0, "COUNT", half, "JUSTID")),
        "copy-groups": (pending, ("COPY", "a", "copy")),
        "xgroup-destroy": (pending, ("XGROUP", "DESTROY", "a", "g")),
        "hrandfield": (a_hash, ("HRANDFIELD", "a", half, "WITHVALUES")),
        "srandmember": (a_set, ("SRANDMEMBER", "a", half)),
        "srandmember-again": (a_set, ("SRANDMEMBER", "a", -half)),
        "zrandmember": (a_zset, ("ZRANDMEMBER", "a", half, "WITHSCORES")),
        "geosearch": (places, ("GEOSEARCH", "a", "FROMLONLAT", 0, 0, "BYRADIUS", 30_000, "km")),
        "dump": (a_set, ("DUMP", "a")),
        "dump-groups": (pending, ("DUMP", "a")),
        "restore-list": (a_list, ("RESTORE", "b", 0, DUMPED)),
        "restore-hash": (a_hash, ("RESTORE", "b", 0, DUMPED)),
        "restore-set": (a_set, ("RESTORE", "b", 0, DUMPED)),
        "restore-zset": (a_zset, ("RESTORE", "b", 0, DUMPED)),
        "restore-groups": (pending, ("RESTORE", "b", 0, DUMPED)),
        "keys": (strings, ("KEYS", "*")),
        "scan": (strings, ("SCAN", 0, "COUNT", count)),
        "hscan": (a_hash, ("HSCAN", "a", 0, "COUNT", count)),
        "sscan": (a_set, ("SSCAN", "a", 0, "COUNT", count)),
        "zscan": (a_zset, ("ZSCAN", "a", 0, "COUNT", count)),
        "bgsave-groups": (pending, ("BGSAVE",)),
        "lrem-half": (every_other, ("LREM", "a", 0, "t")),
        "linsert": (a_list, ("LINSERT", "a", "BEFORE", "element:%d" % (count - 10), "x")),
        "spop-deadlines": (timed, ("SPOP", "a", half)),
        "xreadgroup-claim": (pending, ("XREADGROUP", "GROUP", "g", "c2", "CLAIM", 0, "STREAMS", "a", ">")),
        "lpos": (a_list, ("LPOS", "a", "none")),
        "sort": (a_list, ("SORT", "a", "ALPHA")),
        "sort-by": (a_list, ("SORT", "a", "BY", "weight_*", "GET", "name_*", "GET", "#")),
        "sort-weighted": (weighted, ("SORT", "a", "BY", "weight_*", "GET", "data_*->name", "GET", "#")),
        "sort-store": (a_list, ("SORT", "a", "ALPHA", "STORE", "out")),
        "del": (a_zset, ("DEL", "a")),
        "del-set": (a_set, ("DEL", "a")),
    }


def watch(server, command):
    """Longest wait of the probe and seconds the command took."""
    port = server.port
    if command[-1] is DUMPED:
        with wire.Connection(port) as client:
            command = (*command[:-1], client.command("DUMP", "a"))
    probe = Channel(port, True)
    probe.send(wire.encode("SET", "probe", "here"), b"+OK\r\n")
    queued = process.run_queue_wait_seconds(server.pid)
    request, expected = wire.encode("GET", "probe"), b"$4\r\nhere\r\n"
    with wire.Connection(port) as client, selectors.DefaultSelector() as selector:
        selector.register(probe.socket, selectors.EVENT_READ, probe)
        selector.register(client.socket, selectors.EVENT_READ, client)
        longest, probing, due, tail, took, began, head = 0, True, 0, b"", None, None, b""
        # For a moment after the answer too: what is freed later may be in others' way as well.
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for key, _ in selector.select(0.0005):
                if key.data is client:
                    data = client.socket.recv(1 << 20)
                    head = head or data[:100]
                    tail = (tail + data)[-len(MARK):]
                    if tail == MARK and took is None:
                        took = time.monotonic() - began
                        end = time.monotonic() + 0.3
                    continue
                waited = probe.receive()
                if waited is not None:
                    waited -= (process.run_queue_wait_seconds(server.pid) - queued) * 1e9
                    probing = False
                    if began is not None:
                        longest = max(longest, waited)
                    due = time.monotonic() + 0.001
            if not probing and time.monotonic() >= due:
                if began is None:
                    began = time.monotonic()
                    client.send(wire.encode(*command) + wire.encode("ECHO", "THE-END!"))
                    time.sleep(0.0002)
                probing = True
                queued = process.run_queue_wait_seconds(server.pid)
                probe.send(request, expected)
    probe.socket.close()
    if took is None:
        raise SystemExit(f"{command}: no answer")
    if head.startswith(b"-"):
        raise SystemExit(f"{command}: {head!r}")
    return longest / 1e6, took


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    servers.add_arguments(parser, default="dfly,redis")
    parser.add_argument("names", nargs="*", help="of the commands (default: all)")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--server-cores")
    parser.add_argument("--generator-cores")
    options = parser.parse_args()
    server_cores, client_cores, _ = choose_cores(options.threads, options)
    names = servers.chosen(options)
    print(f"{'command':20}" + "".join(f"{name + ' stall ms':>18}{'took ms':>10}" for name in names))
    with process.pinned(client_cores):
        for case, (fill, command) in cases(options.count).items():
            if options.names and case not in options.names:
                continue
            line = f"{case:20}"
            for name in names:
                seen = []
                with servers.Server(name, options, options.threads, server_cores) as server:
                    for _ in range(options.rounds):
                        with server.connect() as client:
                            client.command("FLUSHALL")
                        fill(server.port, options.count)
                        time.sleep(0.3)
                        seen.append(watch(server, command))
                line += f"{min(stall for stall, _ in seen):18.1f}{min(took for _, took in seen) * 1e3:10.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
