"""What redis-py does with a server: its handshakes, pipelines, locks and pools, as applications use them."""

import threading
import time

import pytest
import redis


@pytest.fixture(params=[2, 3])
def client(flushed, request):
    with redis.Redis(port=flushed.port, protocol=request.param, decode_responses=True) as client:
        yield client


def test_handshake(flushed):
    """The default handshake of redis-py: HELLO 3, CLIENT SETINFO, and a name."""
    with redis.Redis(port=flushed.port, client_name="handshake") as client:
        assert client.ping()
        (mine,) = [row for row in client.client_list() if row["name"] == "handshake"]
        if flushed.kind != "redis":  # Redis 7.0 has no SETINFO
            assert mine["lib-name"] == "redis-py"
            assert mine["lib-ver"] == redis.__version__


def test_url_with_database_and_password(start):
    server = start(requirepass="secret")
    with redis.from_url(f"redis://:secret@127.0.0.1:{server.port}/3") as client:
        client.set("a", 1)
        assert client.client_info()["db"] == 3
    with (
        redis.from_url(f"redis://127.0.0.1:{server.port}/3") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with redis.from_url(f"redis://default:wrong@127.0.0.1:{server.port}") as client:
        with pytest.raises(redis.AuthenticationError):
            client.ping()


def test_values(client):
    assert client.set("a", "1") is True
    assert client.set("a", "2", nx=True) is None
    assert client.set("a", "3", xx=True, get=True) == "1"
    assert client.get("a") == "3" and client.get("missing") is None
    assert client.incr("a", 4) == 7 and client.decr("a") == 6
    assert client.incrbyfloat("f", "1.5") == 1.5
    assert client.append("t", "ab") == 2 and client.getrange("t", 0, -1) == "ab"
    assert client.mset({"x": 1, "y": 2}) and client.mget("x", "y", "z") == ["1", "2", None]
    assert client.msetnx({"x": 1, "w": 2}) is False
    assert client.getex("x", ex=100) == "1" and 90 < client.ttl("x") <= 100
    assert client.getdel("x") == "1" and client.exists("x", "y", "y") == 2
    assert client.expire("y", 100, nx=True) is True and client.expire("y", 50, gt=True) is False
    assert client.expiretime("y") > time.time() and client.persist("y") is True
    assert client.type("y") == "string" and client.object("encoding", "y") == "int"
    assert client.rename("y", "v") and client.copy("v", "u") is True
    assert client.setbit("bits", 7, 1) == 0 and client.bitcount("bits") == 1 and client.bitpos("bits", 1) == 7
    assert client.bitop("NOT", "flipped", "bits") == 1
    assert client.bitfield("field").set("u8", 0, 200).incrby("u8", 0, 100, overflow="SAT").execute() == [
        0,
        255,
    ]
    assert client.unlink("u", "v") == 2 and client.touch("a") == 1
    assert client.lcs("t", "t", len=True) == 2


def test_errors_are_typed(client):
    client.set("a", "text")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("a")
    with pytest.raises(redis.ResponseError, match="unknown command"):
        client.execute_command("NOSUCH", "a")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        client.execute_command("GET")


def test_pipelines(client):
    pipeline = client.pipeline(transaction=False)
    for index in range(5000):
        pipeline.set(f"p:{index}", index)
        pipeline.get(f"p:{index}")
    results = pipeline.execute()
    assert results[1::2] == [str(index) for index in range(5000)]
    pipeline.set("a", "x").incr("a").get("a")
    results = pipeline.execute(raise_on_error=False)
    assert results[0] is True and isinstance(results[1], redis.ResponseError) and results[2] == "x"


def test_scans(client):
    client.mset({f"scan:{index}": index for index in range(500)})
    assert sorted(client.scan_iter("scan:*", count=50)) == sorted(f"scan:{index}" for index in range(500))
    assert len(list(client.scan_iter(_type="string"))) == 500
    assert sorted(client.keys("scan:49?")) == [f"scan:49{digit}" for digit in range(10)]
    assert client.randomkey().startswith("scan:") and client.dbsize() == 500
    assert client.flushdb() and client.dbsize() == 0


def test_lock_by_set_nx(client):
    """A lock as applications write it: only one of many holds it at a time."""
    holders, largest, turns = [], [], []

    def work(number):
        for _ in range(10):
            while not client.set("lock", number, nx=True, px=5000):
                time.sleep(0.0005)
            holders.append(number)
            largest.append(len(holders))
            turns.append(number)
            holders.remove(number)
            assert client.get("lock") == str(number)
            assert client.delete("lock") == 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(turns) == 80 and max(largest) == 1


def test_server_commands(client):
    info = client.info()
    assert info["redis_mode"] == "standalone" and info["role"] == "master"
    assert client.info("server")["tcp_port"] > 0
    assert client.config_get("maxmemory*")["maxmemory"] == "0"
    assert client.config_set("slowlog-max-len", 99) and client.config_get("slowlog-max-len") == {
        "slowlog-max-len": "99"
    }
    assert client.config_set("slowlog-max-len", 128) and client.config_resetstat()
    assert client.client_setname("me") and client.client_getname() == "me"
    assert client.client_id() > 0 and client.client_info()["name"] == "me"
    assert client.client_no_evict("ON") == "OK"
    assert abs(client.time()[0] - time.time()) < 3
    assert client.echo("x") == "x" and client.ping() is True
    assert client.command_count() > 70 and "get" in {name.lower() for name in client.command()}
    assert client.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
    assert isinstance(client.slowlog_get(), list) and client.slowlog_len() >= 0 and client.slowlog_reset()
    client.set("a", 1)
    assert client.memory_usage("a") > 0 and client.memory_stats()["keys.count"] >= 1 and client.memory_purge()
    assert client.swapdb(0, 1) and client.get("a") is None and client.swapdb(0, 1)


def test_monitor(client):
    with client.monitor() as monitor:
        client.set("watched", "value")
        line = monitor.next_command()
        while "watched" not in line["command"]:
            line = monitor.next_command()
        assert line["command"] == "SET watched value" and line["db"] == 0


def test_pool_survives_killed_connections(flushed):
    """A client whose connections are killed connects again and goes on."""
    pool = redis.ConnectionPool(port=flushed.port, max_connections=20)
    with redis.Redis(connection_pool=pool) as client:
        threads = [threading.Thread(target=lambda: [client.incr("n") for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert int(client.get("n")) == 400
        with redis.Redis(port=flushed.port) as killer:
            killer.client_kill_filter(_type="normal", skipme=True)
        assert int(client.get("n")) == 400
    pool.disconnect()
