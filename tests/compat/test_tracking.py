"""CLIENT TRACKING: who is told of which change, and when, as by Redis."""

import random
import threading
import time

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from redis.cache import CacheConfig

from .arguments import examples
from .party import Party
from .wire import encode


class Trackers(Party):
    """In commands "@a" stands for the id of client a, and in what is received its id becomes "@a"."""

    def __init__(self, server, **protocols):
        super().__init__(server, **protocols)
        self.ids = {name: client.command("CLIENT", "ID").value for name, client in self.clients.items()}
        next(iter(self.clients.values())).command("FLUSHALL")

    def step(self, name, *command):
        if isinstance(command[0], tuple):
            command = tuple(tuple(map(self.fill_in, each)) for each in command)
        else:
            command = tuple(map(self.fill_in, command))
        received = super().step(name, *command)
        if command[0] != "CLIENT":
            return received          # other numbers may be equal to an id
        return {each: [self.take_out(message) for message in messages] for each, messages in received.items()}

    def fill_in(self, word):
        return str(self.ids.get(word[1:], word)) if isinstance(word, str) and word[:1] == "@" else word

    def take_out(self, message):
        for name, number in self.ids.items():
            message = message.replace(b":%d\r\n" % number, b":@%s\r\n" % name.encode())
        return message


def play(server, steps, **protocols):
    with Trackers(server, **protocols) as party:
        return [(step, received) for step in steps if (received := party.step(*step)) and step[1] != "HELLO"]


CACHED = [(("CLIENT", "CACHING", "YES"), ("GET", "k")), (("CLIENT", "CACHING", "NO"), ("GET", "k"))]
STEPS = [
    ("a", "CLIENT", "TRACKINGINFO"),
    ("a", "CLIENT", "GETREDIR"),
    ("a", "CLIENT", "TRACKING", "ON"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("a", "CLIENT", "GETREDIR"),
    ("a", "GET", "k"),
    ("b", "SET", "k", "1"),
    ("b", "SET", "k", "2"),
    ("a", "MGET", "k", "l", "m"),
    ("b", "MSET", "k", "1", "l", "1"),
    ("b", "DEL", "m"),
    ("a", "GET", "k"),
    ("a", "SET", "k", "own"),
    ("a", "GET", "k"),
    ("b", "EXPIRE", "k", "100"),
    ("a", "TTL", "k"),
    ("b", "PERSIST", "k"),
    ("a", "EXISTS", "k", "l"),
    ("b", "RENAME", "k", "l"),
    ("a", "STRLEN", "l"),
    ("b", "SELECT", "3"),
    ("b", "SET", "l", "in another database"),
    ("b", "SELECT", "0"),
    ("a", "GET", "l"),
    ("b", "APPEND", "l", ""),
    ("b", "GETEX", "l", "PERSIST"),
    ("b", "GETDEL", "l"),
    ("a", "LRANGE", "list", "0", "-1"),
    ("a", "LLEN", "list"),
    ("b", "RPUSH", "list", "1", "2"),
    ("a", "LLEN", "list"),
    ("b", "LPOP", "list"),
    ("a", "LLEN", "list"),
    ("b", "BLPOP", "list", "1"),
    ("a", "GET", "f"),
    ("b", "FLUSHDB"),
    ("b", "FLUSHALL", "ASYNC"),
    ("a", "FLUSHALL"),
    ("a", "GETSET", "f", "1"),
    ("b", "SET", "f", "2"),
    ("a", ("MULTI",), ("GET", "inside"), ("MGET", "inside", "more"), ("EXEC",)),
    ("b", "MSET", "inside", "1", "more", "2"),
    ("a", "GET", "swap"),
    ("b", "SWAPDB", "0", "5"),
    ("b", "SWAPDB", "0", "5"),
    ("b", "SET", "swap", "1"),
    ("a", "CLIENT", "CACHING", "YES"),
    ("a", "CLIENT", "TRACKING", "ON", "OPTIN"),
    ("a", "CLIENT", "TRACKING", "ON", "OPTOUT"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("a", "GET", "k"),
    ("b", "SET", "k", "3"),
    ("a", *CACHED[0]),
    ("b", "SET", "k", "4"),
    ("a", *CACHED[1]),
    ("a", ("CLIENT", "CACHING", "YES"), ("ECHO", "x"), ("GET", "k")),
    ("b", "SET", "k", "5"),
    ("a", ("CLIENT", "CACHING", "YES"), ("CLIENT", "TRACKINGINFO"), ("GET", "k"), ("GET", "l")),
    ("b", "MSET", "k", "6", "l", "7"),
    ("a", ("CLIENT", "CACHING", "YES"), ("MULTI",), ("GET", "k"), ("GET", "l"), ("EXEC",), ("GET", "m")),
    ("b", "MSET", "k", "6", "l", "7", "m", "8"),
    ("a", ("CLIENT", "CACHING", "YES"), ("EXEC",), ("GET", "k")),
    ("a", ("CLIENT", "CACHING", "YES"), ("NOSUCH",), ("GET", "l")),
    ("b", "MSET", "k", "6", "l", "7", "m", "8"),
    ("a", "CLIENT", "TRACKING", "OFF"),
    ("a", "CLIENT", "TRACKING", "ON", "OPTOUT", "NOLOOP"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("a", "GET", "k"),
    ("a", "SET", "k", "8"),
    ("b", "SET", "k", "9"),
    ("a", "GET", "k"),
    ("b", "SET", "k", "10"),
    ("a", *CACHED[1]),
    ("b", "SET", "k", "11"),
    ("a", ("CLIENT", "CACHING", "NO"), ("CLIENT", "TRACKINGINFO")),
    ("a", *CACHED[0]),
    ("a", "CLIENT", "TRACKING", "OFF"),
    ("b", "SET", "k", "12"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("b", "SET", "new", "1"),
    ("b", "DEL", "nosuch"),
    ("b", "MSET", "z", "1", "y", "2", "x", "3", "z", "4"),
    ("a", "SET", "own", "1"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a"),
    ("a", "CLIENT", "TRACKING", "ON"),
    ("b", "FLUSHALL"),
    ("a", "CLIENT", "TRACKING", "OFF"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "o", "PREFIX", "ob"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:", "PREFIX", "object:", "NOLOOP"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "user:1", "NOLOOP"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "item:", "NOLOOP"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("b", "MSET", "user:2", "x", "object:1", "x", "user:1", "x", "neither", "x", "item:", "x"),
    ("a", "MSET", "user:2", "x", "object:1", "x"),
    ("b", "RENAME", "user:2", "object:2"),
    ("a", "RESET"),
    ("a", "HELLO", "3"),
    ("b", "SET", "user:2", "y"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT", "@b"),
    ("a", "CLIENT", "TRACKINGINFO"),
    ("a", "CLIENT", "GETREDIR"),
    ("a", "GET", "k"),
    ("c", "SET", "k", "1"),
    ("b", "SUBSCRIBE", "__redis__:invalidate"),
    ("a", "GET", "k"),
    ("c", "SET", "k", "1"),
    ("a", "GET", "k"),
    ("c", "FLUSHALL"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT", "@a"),
    ("a", "GET", "k"),
    ("c", "SET", "k", "1"),
    ("a", "CLIENT", "TRACKING", "ON"),
    ("a", "GET", "k"),
    ("c", "SET", "k", "1", "PX", "1"),
    ("a", "CLIENT", "TRACKING", "MAYBE"),
    ("a", "CLIENT", "TRACKING"),
    ("a", "CLIENT", "TRACKING", "ON", "NOSUCH"),
    ("a", "CLIENT", "TRACKING", "ON", "PREFIX"),
    ("a", "CLIENT", "TRACKING", "ON", "PREFIX", "x"),
    ("a", "CLIENT", "TRACKING", "OFF", "PREFIX", "x"),
    ("a", "CLIENT", "TRACKING", "ON", "BCAST", "OPTIN"),
    ("a", "CLIENT", "TRACKING", "ON", "OPTIN", "OPTOUT"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT", "99999999", "NOSUCH"),
    ("a", "CLIENT", "TRACKING", "ON", "NOSUCH", "REDIRECT", "99999999"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT", "x"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT", "0"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT", "@b", "REDIRECT", "@b"),
    ("a", "CLIENT", "TRACKING", "ON", "REDIRECT"),
    ("a", "CLIENT", "CACHING", "MAYBE"),
    ("a", "CLIENT", "CACHING"),
    ("a", "CLIENT", "GETREDIR", "x"),
    ("a", "CLIENT", "TRACKINGINFO", "x"),
    ("a", "CLIENT", "TRACKING", "ON", "OPTIN"),
    ("a", "CLIENT", "CACHING", "NO"),
    ("a", "CLIENT", "CACHING", "MAYBE"),
    ("a", ("MULTI",), ("CLIENT", "TRACKING", "OFF"), ("CLIENT", "TRACKING", "ON"), ("GET", "k"), ("EXEC",)),
    ("a", ("MULTI",), ("SET", "k", "inside"), ("GET", "k"), ("EXEC",)),
    ("b", "SET", "k", "outside"),
]


@pytest.mark.parametrize(
    "protocols", [{"a": 3, "b": 2, "c": 2}, {"a": 3, "b": 3, "c": 3}, {"a": 2, "b": 2, "c": 2}],
    ids=["mixed", "RESP3", "RESP2"],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_steps(start, redis_server, threads, protocols):
    subject = play(start(proactor_threads=threads), STEPS, **protocols)
    for mine, theirs in zip(subject, play(redis_server, STEPS, **protocols)):
        assert as_comparable(mine) == as_comparable(theirs)


NO_KEYS_RESP2 = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n"
# Redis writes the null of the client that flushes, which may not be the protocol of who is told.
NO_KEYS = (NO_KEYS_RESP2, b">2\r\n$10\r\ninvalidate\r\n_\r\n", b">2\r\n$10\r\ninvalidate\r\n$-1\r\n")
NO_KEYS_WRONG = NO_KEYS_RESP2.replace(b"$-1", b"_")


def keys_of(message):
    """Of an invalidation: in RESP3, or of all keys."""
    if message in NO_KEYS:
        return [b"(all)"]
    lines = message.split(b"\r\n")
    return lines[4:-1:1][1::2] if message.startswith(b">2\r\n$10\r\ninvalidate\r\n*") else None


def as_comparable(record):
    """Keys of a broadcast may come in several pushes when their shards have different threads, and a key that one
    command changes twice in two of them; the own client's pushes come behind the replies of its pipeline, and what
    another thread redirects to it possibly behind its reply. Redis sends RESP3's null to
    a RESP2 client when it is the target of a RESP3 client's redirection: we send RESP2's."""
    step, received = record
    result = {}
    for name, messages in received.items():
        messages = [NO_KEYS_RESP2 if message == NO_KEYS_WRONG else message for message in messages]
        pushes = [keys_of(message) for message in messages]
        result[name] = (
            [message for message, keys in zip(messages, pushes) if keys is None],
            sorted({key for keys in pushes if keys is not None for key in keys}),
        )
    return step, result


names = st.sampled_from(["a", "b", "c"])
some_keys = st.sampled_from(["k", "l", "p:1", "p:2", "q:1"])
modes = st.lists(st.sampled_from(
    [("BCAST",), ("PREFIX", "p:"), ("PREFIX", "q:"), ("OPTIN",), ("OPTOUT",), ("NOLOOP",), ("REDIRECT", "@b"),
     ("REDIRECT", "@c")]), max_size=3).map(lambda chosen: tuple(word for words in chosen for word in words))
steps_of_any_kind = st.lists(st.one_of(
    st.tuples(names, modes).map(lambda drawn: (drawn[0], "CLIENT", "TRACKING", "ON", *drawn[1])),
    st.tuples(names, st.just("CLIENT"), st.just("TRACKING"), st.just("OFF")),
    st.tuples(names, st.just("CLIENT"), st.just("TRACKINGINFO")),
    st.tuples(names, st.sampled_from(["YES", "NO"]), some_keys).map(
        lambda drawn: (drawn[0], ("CLIENT", "CACHING", drawn[1]), ("GET", drawn[2]))),
    st.tuples(names, st.sampled_from(["GET", "TYPE", "GETDEL", "INCR"]), some_keys),
    st.tuples(names, st.sampled_from(["MGET", "EXISTS", "DEL", "RENAME"]), some_keys, some_keys),
    st.tuples(names, st.just("SET"), some_keys, st.sampled_from(["1", "x"])),
    st.tuples(names, some_keys, some_keys).map(
        lambda drawn: (drawn[0], ("MULTI",), ("GET", drawn[1]), ("SET", drawn[2], "1"), ("EXEC",))),
    st.tuples(names, st.sampled_from(["FLUSHDB", "RESET"])),
    st.tuples(names, st.just("SUBSCRIBE"), st.just("__redis__:invalidate")),
), max_size=25)


@examples(60)
@given(steps=steps_of_any_kind, protocol=st.sampled_from([2, 3]))
def test_any_steps(subject, redis_server, steps, protocol):
    protocols = {"a": 3, "b": protocol, "c": 3}
    mine = [as_comparable(each) for each in play(subject, steps, **protocols)]
    assert mine == [as_comparable(each) for each in play(redis_server, steps, **protocols)]


def invalidated(client):
    return keys_of(client.read_any().raw)


def test_expiry_and_eviction_are_changes(start):
    server = start(proactor_threads=2)
    with server.connect(3) as tracking, server.connect() as other:
        assert tracking.command("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
        other.command("SET", "short", "1", "PX", "30")
        tracking.command("GET", "short")
        assert invalidated(tracking) == [b"short"]
        other.command("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        for index in range(100):
            other.command("SET", f"evicted:{index}", "x" * 100_000)
            tracking.command("GET", f"evicted:{index}")
        other.command("CONFIG", "SET", "maxmemory", "3mb")
        other.command("SET", "more", "1")
        assert invalidated(tracking)[0].startswith(b"evicted:")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_redirection_whose_target_has_gone(start, redis_server, threads):
    def record(server):
        seen = []
        with server.connect(3) as tracking, server.connect(2) as other:
            target = server.connect(2)
            number = target.command("CLIENT", "ID").value
            tracking.command("CLIENT", "TRACKING", "ON", "REDIRECT", str(number))
            tracking.command("GET", "k")
            target.close()
            deadline = time.monotonic() + 10
            while b"id=%d " % number in other.command("CLIENT", "LIST").raw and time.monotonic() < deadline:
                time.sleep(0.01)
            other.command("SET", "k", "1")
            seen.append(tracking.read_any().raw)
            for words in (("CLIENT", "TRACKINGINFO"), ("CLIENT", "GETREDIR"), ("CLIENT", "TRACKING", "ON"),
                          ("CLIENT", "TRACKINGINFO")):
                seen.append(tracking.command(*words).raw)
            return [each.replace(b":%d\r\n" % number, b":target\r\n") for each in seen]

    server = start(proactor_threads=threads)
    for _ in range(2 * threads):
        assert record(server) == record(redis_server)


def test_the_table_has_a_limit(start):
    server = start(proactor_threads=1, tracking_table_max_keys="10")
    with server.connect(3) as tracking, server.connect() as other:
        tracking.command("CLIENT", "TRACKING", "ON")
        for index in range(15):
            tracking.send(encode("GET", f"k{index}"))
        pushes = 0
        for _ in range(20):
            message = tracking.read_any().raw
            pushes += keys_of(message) is not None
        assert pushes == 5
        fields = other.command("INFO", "stats").raw
        assert b"tracking_total_keys:10\r\n" in fields and b"tracking_total_items:10\r\n" in fields
        assert b"tracking_clients:1\r\n" in other.command("INFO", "clients").raw


def test_the_client_list_shows_modes(start_pair):
    for server in (duel := start_pair()).subject, duel.oracle:
        with server.connect(3) as client, server.connect(2) as other:
            client.command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "b")
            line = client.command("CLIENT", "INFO").raw
            assert b" flags=tB " in line and b" redir=0 " in line
            number = other.command("CLIENT", "ID").value
            client.command("CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", str(number), "PREFIX", "c")
            line = client.command("CLIENT", "INFO").raw
            assert b" flags=tB " in line and b" redir=%d " % number in line
            assert b" redir=-1 " in other.command("CLIENT", "INFO").raw
            assert b"tracking_total_prefixes:3\r\n" in other.command("INFO", "stats").raw
        with server.connect(2) as other:
            deadline = time.monotonic() + 10
            while b"tracking_total_prefixes:0\r\n" not in other.command("INFO", "stats").raw:
                assert time.monotonic() < deadline
                time.sleep(0.01)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_cache_is_never_stale_for_long(start, threads):
    """Readers that cache by the rules, pipelines of reads over all shards, beside writers that count up:
    once the writers are done and the pushes are in, every cache holds the last values."""
    server = start(proactor_threads=threads)
    keys = [f"k{index}" for index in range(40)]
    stop = threading.Event()
    failures = []

    def write(seed):
        chooser = random.Random(seed)
        with server.connect() as client:
            for _ in range(1500):
                some = chooser.sample(keys, 4)
                values = [str(chooser.randrange(10**6)) for _ in some]
                several = [word for pair in zip(some, values) for word in pair]
                client.command(*chooser.choice([("INCR", some[0]), ("MSET", *several)]))

    def read(seed):
        chooser = random.Random(seed)
        cache = {}
        mode = [(), ("BCAST",)][seed % 2]
        with server.connect(3, timeout=30) as client, server.connect() as checking:
            client.command("CLIENT", "TRACKING", "ON", *mode)
            while True:
                last = stop.is_set()
                wanted = [key for key in chooser.sample(keys, 12) if key not in cache] if not last else keys
                client.send(b"".join(encode("GET", key) for key in wanted) + encode("PING"))
                answers = iter(wanted)
                while (message := client.read_any().raw) != b"+PONG\r\n":
                    if message.startswith(b">"):
                        for key in keys_of(message):
                            cache.pop(key.decode(), None)
                    else:
                        key = next(answers)
                        # What was read while it was cached already tells nothing new.
                        cache[key] = message
                if last:
                    break
            for key in keys:
                if key in cache and cache[key] != checking.command("GET", key).raw:
                    failures.append((seed, key, cache[key]))

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures


def test_nobody_hears_of_a_change_before_the_reply_that_it_makes_stale(start):
    """One shard is busy for long, so a pipeline over all shards waits with the replies that it has."""
    server = start(proactor_threads=3)
    keys = [f"k{index}" for index in range(12)]
    with server.connect(3) as reader, server.connect() as slow, server.connect() as writer:
        slow.command("SETBIT", "big", str(8 * 200_000_000), "1")
        reader.command("CLIENT", "TRACKING", "ON")
        for turn in range(10):
            slow.send(encode("BITCOUNT", "big"))
            time.sleep(0.002)
            reader.send(b"".join(encode("GET", key) for key in keys))
            writer.send(b"".join(encode("SET", key, str(turn)) for key in keys))
            answered = 0
            while answered < len(keys):
                message = reader.read_any().raw
                if message.startswith(b">"):
                    for key in keys_of(message):
                        assert keys.index(key.decode()) < answered
                else:
                    answered += 1
            for _ in keys:
                writer.read()
            slow.read()
            # What the last changes have posted to its thread may come behind the first answer, not the second.
            for _ in range(2):
                reader.send(encode("PING"))
                while reader.read_any().raw != b"+PONG\r\n":
                    pass


def test_trackers_that_die_while_keys_change(start):
    server = start(proactor_threads=3)
    with server.connect() as writer, server.connect(3) as faithful:
        faithful.command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "k")
        for index in range(200):
            dying = server.connect(3)
            mode = [(), ("BCAST",), ("BCAST", "PREFIX", "k")][index % 3]
            dying.command("CLIENT", "TRACKING", "ON", *mode)
            dying.command("GET", f"k{index}")
            writer.send(encode("SET", f"k{index}", "1") * 2)
            dying.close()
            writer.read(), writer.read()
        seen = set()
        while len(seen) < 200:
            seen.update(invalidated(faithful))
        deadline = time.monotonic() + 10
        while b"tracking_clients:1\r\n" not in writer.command("INFO", "clients").raw:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_cache_of_redis_py(start):
    server = start(proactor_threads=2)
    caching = {"protocol": 3, "cache_config": CacheConfig(), "decode_responses": True}
    with redis.Redis(port=server.port, **caching) as cached, redis.Redis(port=server.port) as other:
        other.set("k", "1")
        assert cached.get("k") == "1"
        assert cached.get_cache().size == 1
        other.set("k", "2")
        deadline = time.monotonic() + 10
        while cached.get("k") != "2":
            assert time.monotonic() < deadline


def test_the_same_key_behind_one_that_is_cached(start):
    """What follows begins a run of its own, with a key that the call before it has looked up; its place in the batch
    has found another one last, in a table that is gone."""
    server = start(proactor_threads=1)
    with server.connect(protocol=3) as connection:
        connection.command("CLIENT", "TRACKING", "ON", "OPTIN")
        for _ in range(3):
            for words in (("SET", "v" * 40), ("STRLEN",)):
                connection.pipeline([(words[0], f"other:{number}", *words[1:]) for number in range(5_000)])
            connection.command("FLUSHALL")
            time.sleep(0.2)
            connection.command("DEBUG", "POPULATE", 5_000)
            replies = connection.pipeline([("CLIENT", "CACHING", "YES"), *[("STRLEN", "key:7")] * 20])
            assert {reply.value for reply in replies[1:]} == {len("value:7")}
