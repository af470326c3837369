#!/usr/bin/env python3
"""Server CPU per operation of many commands, each on something small: `bench/many_commands.py [NAMES]`.

The other benchmarks look at what is used most; this one at what nobody would look at, so that a command that became
slow is seen. One connection, pipelines of some hundred commands, one shard thread. CPU is user and system time of the
server, the least of three rounds, in microseconds for each command of the case. The last column of a case says how many
times the CPU of the first peer dfly takes, the worst ones are repeated at the end. To compare two trees of dfly, run
each tree's own copy with --servers dfly --save FILE, then with --before FILE.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.compare import choose_cores
from bench.harness import process, servers, wire

PIPELINE = 400
STREAM = 1000
LONG_STREAM = 100_000
ROUNDS = 3
LEAST_SECONDS = 0.03             # of CPU in a round, or its clock says little
WORST = 8
NEW = object()                   # another word each time


def pairs(count, make):
    return [word for number in range(count) for word in make(number)]


def elements(name, first, last):
    return [f"{name}{number}" for number in range(first, last)]


def fill(client):
    lines = [
        ("SADD", "set", *elements("m", 0, 200)),
        ("SADD", "other-set", *elements("m", 100, 300)),
        ("SADD", "integers", *range(100)),
        ("SADD", "small-set", *"abcdef"),
        ("HSET", "hash", *pairs(10, lambda number: (f"f{number}", number))),
        ("HSET", "long-hash", *pairs(600, lambda number: (f"f{number}", number))),
        ("ZADD", "zset", *pairs(300, lambda number: (number, f"m{number}"))),
        ("ZADD", "small-zset", *pairs(20, lambda number: (number, f"m{number}"))),
        ("RPUSH", "list", *range(300)),
        ("RPUSH", "small-list", *range(10)),
        ("SET", "text", "x" * 100),
        ("SET", "text-too", "y" * 50 + "x" * 50),
        ("SET", "float", "0.5"),
        ("SET", "number", 1),
        ("SETRANGE", "bits", 1000, "x"),
        ("GEOADD", "places", *pairs(50, lambda number: (number * 0.01, number * 0.01, f"p{number}"))),
        *(("XADD", "stream", f"{number + 1}-1", "f", "v", "g", number) for number in range(STREAM)),
        *(("XADD", "long-stream", f"{number + 1}-1", "f", "v") for number in range(LONG_STREAM)),
        ("XGROUP", "CREATE", "stream", "g", "0"),
        ("XGROUP", "CREATE", "stream", "new", "$"),
        ("XREADGROUP", "GROUP", "g", "c", "COUNT", STREAM // 2, "STREAMS", "stream", ">"),
        *(("PFADD", f"sparse{part}", *elements(f"s{part}", 0, 800)) for part in "12"),
        *(("PFADD", f"dense{part}", *elements(f"d{part}", first, first + 1000))
          for part in "12" for first in range(0, 60_000, 1000)),
    ]
    for first in range(0, len(lines), PIPELINE):
        run(client, lines[first : first + PIPELINE])


def cases(dumps):
    """{name: commands that leave things much as they were}."""
    read = ("XREADGROUP", "GROUP", "new", "c", "COUNT", 1, "STREAMS", "stream", ">")
    return {
        "ping": [("PING",)],
        "incr": [("INCR", "number")],
        "append": [("SET", "appended", "x"), ("APPEND", "appended", "y")],
        "getrange": [("GETRANGE", "text", 0, 5)],
        "mget": [("MGET", "text", "number", "none")],
        "mset": [("MSET", "a", 1, "b", 2, "c", 3)],
        "del": [("SET", "deleted", "x"), ("DEL", "deleted")],
        "unlink": [("RPUSH", "deleted", "x", "y"), ("UNLINK", "deleted")],
        "exists": [("EXISTS", "number", "text")],
        "expire": [("EXPIRE", "number", 1000)],
        "type": [("TYPE", "stream")],
        "rename": [("RENAME", "text", "renamed"), ("RENAME", "renamed", "text")],
        "copy": [("COPY", "hash", "copied", "REPLACE")],
        **{f"dump-{name}": [("DUMP", name)] for name in dumps},
        **{f"restore-{name}": [("RESTORE", "restored", 0, dump, "REPLACE")] for name, dump in dumps.items()},
        "multi": [("MULTI",), ("INCR", "number"), ("INCR", "number"), ("EXEC",)],
        "publish": [("PUBLISH", "channel", "x")],
        "echo": [("ECHO", "x")],
        "select": [("SELECT", 0)],
        "dbsize": [("DBSIZE",)],
        "time": [("TIME",)],
        "ttl": [("PTTL", "number")],
        "persist": [("EXPIRE", "number", 1000), ("PERSIST", "number")],
        "touch": [("TOUCH", "number", "text")],
        "randomkey": [("RANDOMKEY",)],
        "scan": [("SCAN", 0)],
        "keys": [("KEYS", "dense*")],
        "object-encoding": [("OBJECT", "ENCODING", "hash")],
        "memory-usage": [("MEMORY", "USAGE", "long-hash")],
        "watch": [("WATCH", "number"), ("UNWATCH",)],
        "client-id": [("CLIENT", "ID")],
        "config-get": [("CONFIG", "GET", "maxmemory")],
        "setex": [("SETEX", "timed", 100, "x")],
        "set-get": [("SET", "text-too", "x" * 20, "GET")],
        "getex": [("GETEX", "timed", "EX", 100)],
        "getdel": [("SET", "deleted", "x"), ("GETDEL", "deleted")],
        "setnx": [("SETNX", "number", 5)],
        "msetnx": [("MSETNX", "number", 5, "none", 6)],
        "setrange": [("SETRANGE", "text", 10, "yy")],
        "strlen": [("STRLEN", "text")],
        "incrbyfloat": [("INCRBYFLOAT", "float", "0.5")],
        "lcs": [("LCS", "text", "text-too", "LEN")],
        "bitpos": [("BITPOS", "bits", 1)],
        "bitfield": [("BITFIELD", "bits", "GET", "u8", 100, "INCRBY", "i5", 200, 1)],
        "setbit": [("SETBIT", "bits", 100, 1)],
        "bitcount": [("BITCOUNT", "bits")],
        "bitop": [("BITOP", "AND", "bits-out", "bits", "bits")],
        "lpush-rpop": [("LPUSH", "list", "x"), ("RPOP", "list")],
        "lindex": [("LINDEX", "list", 150)],
        "llen": [("LLEN", "list")],
        "lmpop": [("RPUSH", "small-list", "x"), ("LMPOP", 1, "small-list", "RIGHT")],
        "lrange": [("LRANGE", "list", 0, 9)],
        "lpos": [("LPOS", "list", "200")],
        "lset": [("LSET", "list", 150, "y")],
        "lrem": [("LREM", "small-list", 1, "5"), ("RPUSH", "small-list", "5")],
        "linsert": [("LINSERT", "small-list", "BEFORE", "5", "x"), ("LREM", "small-list", 1, "x")],
        "ltrim": [("RPUSH", "list", "z"), ("LTRIM", "list", 1, -1)],
        "lmove": [("LMOVE", "list", "list", "LEFT", "RIGHT")],
        "sort": [("SORT", "small-list")],
        "sort-by": [("SORT", "small-list", "BY", "weight_*", "GET", "#")],
        "hset": [("HSET", "hash", "f8", "v", "f9", "w")],
        "hget": [("HGET", "hash", "f5")],
        "hmget": [("HMGET", "long-hash", "f5", "f500", "none")],
        "hsetnx": [("HSETNX", "hash", "f1", "v")],
        "hexists": [("HEXISTS", "long-hash", "f5")],
        "hlen": [("HLEN", "hash")],
        "hkeys": [("HKEYS", "hash")],
        "hvals": [("HVALS", "hash")],
        "hincrbyfloat": [("HINCRBYFLOAT", "hash", "float", "0.5")],
        "hgetall": [("HGETALL", "hash")],
        "hgetall-long": [("HGETALL", "long-hash")],
        "hdel": [("HSET", "long-hash", "k", "v"), ("HDEL", "long-hash", "k")],
        "hincrby": [("HINCRBY", "hash", "f1", 1)],
        "hrandfield": [("HRANDFIELD", "long-hash", 3)],
        "hscan": [("HSCAN", "hash", 0)],
        "spop": [("SPOP", "set"), ("SADD", "set", "q")],
        "srandmember": [("SRANDMEMBER", "set", 5)],
        "smove": [("SMOVE", "set", "moved", "m5"), ("SMOVE", "moved", "set", "m5")],
        "smembers": [("SMEMBERS", "small-set")],
        "smembers-long": [("SMEMBERS", "other-set")],
        "sadd-srem": [("SADD", "set", "q"), ("SREM", "set", "q")],
        "sadd-srem-integers": [("SADD", "integers", 500), ("SREM", "integers", 500)],
        "smismember": [("SMISMEMBER", "set", "m1", "m2", "none")],
        "scard": [("SCARD", "set")],
        "sintercard": [("SINTERCARD", 2, "set", "other-set", "LIMIT", 10)],
        "sinter": [("SINTER", "set", "other-set")],
        "sinterstore": [("SINTERSTORE", "stored", "set", "other-set")],
        "sunion": [("SUNION", "small-set", "integers")],
        "sunion-many": [("SUNION", "set", "other-set", "integers", "small-set", "moved")],
        "sunion-members": [("SUNION", "set", "other-set")],
        "sunionstore": [("SUNIONSTORE", "stored", "small-set", "integers")],
        "sunionstore-large": [("SUNIONSTORE", "stored", "set", "other-set")],
        "sdiffstore": [("SDIFFSTORE", "stored", "set", "integers")],
        "sdiff": [("SDIFF", "small-set", "other-set")],
        "sscan": [("SSCAN", "other-set", 0)],
        "zadd-new": [("ZADD", "zset", 150.5, "q"), ("ZREM", "zset", "q")],
        "zadd-moves": [("ZADD", "zset", 10, "m250", 250, "m250")],
        "zadd-small": [("ZADD", "small-zset", 15.5, "q"), ("ZREM", "small-zset", "q")],
        "zincrby": [("ZINCRBY", "zset", 0.5, "m100"), ("ZINCRBY", "zset", -0.5, "m100")],
        "zscore": [("ZSCORE", "zset", "m200")],
        "zmscore": [("ZMSCORE", "zset", "m200", "none")],
        "zrank": [("ZRANK", "zset", "m200")],
        "zlexcount": [("ZLEXCOUNT", "zset", "-", "+")],
        "zrangebylex": [("ZRANGEBYLEX", "small-zset", "[m1", "[m2")],
        "zrangestore": [("ZRANGESTORE", "zset-out", "zset", 0, 9)],
        "zremrangebyscore": [("ZADD", "zset", 5.5, "q"), ("ZREMRANGEBYSCORE", "zset", 5.5, 5.5)],
        "zunion": [("ZUNION", 2, "small-zset", "zset", "WITHSCORES")],
        "zdiff": [("ZDIFF", 2, "small-zset", "zset")],
        "zdiffstore": [("ZDIFFSTORE", "zset-out", 2, "zset", "small-zset")],
        "zinterstore": [("ZINTERSTORE", "zset-out", 2, "zset", "zset")],
        "zintercard": [("ZINTERCARD", 2, "small-zset", "zset")],
        "zmpop": [("ZADD", "small-zset", -1, "q"), ("ZMPOP", 1, "small-zset", "MIN")],
        "zcount": [("ZCOUNT", "zset", 10, 20)],
        "zrangebyscore": [("ZRANGEBYSCORE", "zset", 10, 20)],
        "zrange-rev": [("ZRANGE", "zset", 0, 9, "REV", "WITHSCORES")],
        "zpopmin": [("ZPOPMIN", "zset"), ("ZADD", "zset", 0, "m0")],
        "zremrangebyrank": [("ZADD", "zset", 5, "m5"), ("ZREMRANGEBYRANK", "zset", 5, 5)],
        "zrandmember": [("ZRANDMEMBER", "zset", 3)],
        "zunionstore": [("ZUNIONSTORE", "zset-out", 2, "small-zset", "small-zset")],
        "zinter": [("ZINTER", 2, "small-zset", "zset")],
        "zscan": [("ZSCAN", "small-zset", 0)],
        "geoadd": [("GEOADD", "places", 0.2, 0.2, "p20")],
        "geodist": [("GEODIST", "places", "p1", "p40", "km")],
        "geopos": [("GEOPOS", "places", "p1", "p2")],
        "geohash": [("GEOHASH", "places", "p1", "p2")],
        "geosearch-box": [("GEOSEARCH", "places", "FROMMEMBER", "p5", "BYBOX", 20, 20, "km", "ASC", "WITHDIST")],
        "geosearchstore": [("GEOSEARCHSTORE", "zset-out", "places", "FROMLONLAT", 0, 0, "BYRADIUS", 10, "km")],
        "geosearch": [("GEOSEARCH", "places", "FROMLONLAT", 0, 0, "BYRADIUS", 10, "km")],
        "pfadd": [("PFADD", "sparse1", "q")],
        "pfadd-new": [("DEL", "merged"), ("PFADD", "merged", *range(100))],
        "pfadd-dense": [("PFADD", "dense1", NEW)],
        "pfcount": [("PFADD", "dense1", NEW), ("PFCOUNT", "dense1")],
        "pfcount-two": [("PFCOUNT", "dense1", "dense2")],
        "pfmerge": [("PFMERGE", "dense1", "dense2")],
        "pfmerge-sparse": [("DEL", "merged"), ("PFMERGE", "merged", "sparse1", "sparse2")],
        "xdel": [("XDEL", "stream", "77777-1")],
        "xrevrange": [("XREVRANGE", "stream", "+", "-", "COUNT", 5)],
        "xrange-middle": [("XRANGE", "long-stream", "50000-1", "+", "COUNT", 5)],
        "xack": [("XACK", "stream", "g", "3-1", "4-1")],
        "xgroup": [("XGROUP", "CREATE", "stream", "brief", "$"), ("XGROUP", "DESTROY", "stream", "brief")],
        "xinfo-groups": [("XINFO", "GROUPS", "stream")],
        "xinfo-consumers": [("XINFO", "CONSUMERS", "stream", "g")],
        "xlen": [("XLEN", "stream")],
        "xrange": [("XRANGE", "stream", "-", "+", "COUNT", 5)],
        "xread": [("XREAD", "COUNT", 5, "STREAMS", "stream", "0")],
        "xinfo": [("XINFO", "STREAM", "stream")],
        "xpending": [("XPENDING", "stream", "g")],
        "xpending-range": [("XPENDING", "stream", "g", "-", "+", 10)],
        "xclaim": [("XCLAIM", "stream", "g", "d", 0, "5-1", "6-1")],
        "xautoclaim": [("XAUTOCLAIM", "stream", "g", "d", 0, "0", "COUNT", 5)],
        "xreadgroup-history": [("XREADGROUP", "GROUP", "g", "d", "COUNT", 5, "STREAMS", "stream", "0")],
        "xreadgroup": [("XADD", "stream", "MAXLEN", "~", STREAM, "*", "f", "v"), read,
                       ("XACK", "stream", "new", "1-1")],
        "xadd-maxlen": [("XADD", "stream", "MAXLEN", STREAM, "*", "f", "v")],
        "xadd-maxlen-roughly": [("XADD", "stream", "MAXLEN", "~", STREAM, "*", "f", "v")],
        "xadd-maxlen-long": [("XADD", "long-stream", "MAXLEN", LONG_STREAM, "*", "f", "v")],
    }


def run(client, lines):
    client.send(b"".join(wire.encode(*line) for line in lines))
    for line in lines:
        reply = client.read_reply()
        if isinstance(reply, wire.ReplyError):
            raise SystemExit(f"{line}: {reply}")


def batches(lines, serial):
    """A pipeline of the case over and over."""
    drawn = []
    for number in range(max(1, PIPELINE // len(lines))):
        drawn += [[f"new{serial}-{number}" if word is NEW else word for word in line] for line in lines]
    return drawn


def measure(server, client, lines):
    """CPU microseconds of a command."""
    best = None
    serial = 0
    for _ in range(ROUNDS):
        done, began = 0, server.cpu_seconds()
        while server.cpu_seconds() - began < LEAST_SECONDS:
            serial += 1
            drawn = batches(lines, serial)
            run(client, drawn)
            done += len(drawn)
        spent = (server.cpu_seconds() - began) / done * 1e6
        best = spent if best is None else min(best, spent)
    return best


def survey(name, options, server_cores):
    """{case: microseconds} of one server."""
    found = {}
    with servers.Server(name, options, options.threads, server_cores) as server, server.connect(timeout=60) as client:
        fill(client)
        dumps = {key: client.command("DUMP", key) for key in ("hash", "small-list", "text")}
        for case, lines in cases(dumps).items():
            if options.names and case not in options.names:
                continue
            found[case] = measure(server, client, lines)
            # What was dropped is freed later: not within the next case.
            time.sleep(0.02)
    return found


def show(found, before):
    names = list(found)
    columns = [*names, *(["before"] if before else [])]
    print(f"{'case':22}" + "".join(f"{column + ' us':>14}" for column in columns) + f"{'ratio':>8}")
    ratios = {}
    for case, own in found[names[0]].items():
        others = [found[name][case] for name in names[1:]] + ([before[case]] if before and case in before else [])
        ratios[case] = own / others[0] if others else 0
        print(f"{case:22}" + "".join(f"{value:14.3f}" for value in (own, *others)) + f"{ratios[case]:8.2f}")
    worst = sorted(ratios, key=ratios.get, reverse=True)[:WORST]
    print("worst: " + ", ".join(f"{case} {ratios[case]:.2f}" for case in worst))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    servers.add_arguments(parser, default="dfly,redis,valkey")
    parser.add_argument("names", nargs="*", help="of the cases (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--server-cores")
    parser.add_argument("--generator-cores")
    parser.add_argument("--save", help="a file for the first server's numbers")
    parser.add_argument("--before", help="such a file, to compare with")
    options = parser.parse_args()
    server_cores, client_cores, _ = choose_cores(options.threads, options)
    with process.pinned(client_cores):
        found = {name: survey(name, options, server_cores) for name in servers.chosen(options)}
    if options.save:
        Path(options.save).write_text(json.dumps(next(iter(found.values()))))
    show(found, json.loads(Path(options.before).read_text()) if options.before else None)


if __name__ == "__main__":
    main()
