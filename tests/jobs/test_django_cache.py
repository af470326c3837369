"""django-redis through dfly: a cache's daily work, and what it does by scripts, which are not there yet."""

import pickle
import time

import pytest
import redis
from django.conf import settings
from django_redis.cache import RedisCache

KEYS = 2000


@pytest.fixture
def cache(start):
    """django's cache on a server of its own."""
    if not settings.configured:
        settings.configure(USE_TZ=True)
    cache = RedisCache(f"redis://127.0.0.1:{start(proactor_threads=2).port}/1", {"KEY_PREFIX": "shop"})
    yield cache
    cache.client.get_client().connection_pool.disconnect()


def test_values(cache):
    value = {"name": "Ada", "tags": ["a", "b"], "price": 12.5, "text": "\u00e4" * 5000}
    assert cache.get("missing") is None and cache.get("missing", 5) == 5
    assert cache.set("item", value) and cache.get("item") == value
    assert not cache.add("item", 1) and cache.add("other", 1)
    assert not cache.set("item", 2, nx=True) and cache.get("item") == value
    assert cache.has_key("item") and "other" in cache and cache.delete("other") and not cache.delete("other")
    cache.set_many({f"many:{number}": number for number in range(100)}, timeout=60)
    assert cache.get_many([f"many:{number}" for number in range(101)]) == {
        f"many:{number}": number for number in range(100)}
    assert cache.delete_many([f"many:{number}" for number in range(101)]) == 100
    assert cache.get_or_set("made", lambda: [1, 2]) == [1, 2] and cache.get("made") == [1, 2]
    cache.set("versioned", "old", version=1)
    cache.incr_version("versioned", version=1)
    assert cache.get("versioned", version=2) == "old" and cache.get("versioned", version=1) is None
    assert pickle.loads(cache.client.get_client().get("shop:1:item")) == value


def test_time_to_live(cache):
    cache.set("short", 1, timeout=0.1)
    cache.set("long", 1, timeout=100)
    cache.set("ever", 1, timeout=None)
    assert cache.ttl("long") in (99, 100) and 99_000 < cache.pttl("long") <= 100_000
    assert cache.ttl("ever") is None and cache.ttl("missing") == 0
    assert cache.touch("long", 500) and cache.ttl("long") > 400 and not cache.touch("missing", 5)
    assert cache.expire("ever", 100) and cache.ttl("ever") > 90
    assert cache.persist("ever") and cache.ttl("ever") is None
    assert cache.pexpire_at("long", int(time.time() * 1000) + 50)
    time.sleep(0.2)
    assert cache.get("short") is None and cache.get("long") is None and cache.get("ever") == 1
    cache.set("gone", 1, timeout=0)
    assert cache.get("gone") is None


def test_walks_over_keys(cache):
    cache.set_many({f"user:{number}": number for number in range(KEYS)})
    cache.set("group:1", 1)
    assert sorted(cache.keys("user:199*")) == sorted(f"user:{number}" for number in range(KEYS)
                                                     if str(number).startswith("199"))
    assert set(cache.iter_keys("user:*", itersize=100)) == {f"user:{number}" for number in range(KEYS)}
    assert cache.delete_pattern("user:*", itersize=300) == KEYS
    assert cache.keys("*") == ["group:1"]
    cache.clear()
    assert cache.keys("*") == []


def test_other_types(cache):
    assert cache.sadd("colours", "red", "green") == 2 and cache.smembers("colours") == {"red", "green"}
    assert cache.hset("cart", "apples", 3) == 1 and cache.hkeys("cart") == ["apples"]
    assert cache.zadd("ranks", {"a": 1.0, "b": 2.0}) == 2 and cache.zrange("ranks", 0, -1, withscores=True) == [
        ("a", 1.0), ("b", 2.0)]


def test_counting_falls_back_to_reading_and_writing(cache):
    """The script fails, and django-redis then does what it does for numbers that are too large: GET and SET. It counts,
    but two clients that count at the same time may lose one."""
    cache.set("count", 1, timeout=100)
    assert cache.incr("count") == 2 and cache.incr("count", 10) == 12 and cache.decr("count", 2) == 10
    assert cache.get("count") == 10 and 90 < cache.ttl("count") <= 100
    with pytest.raises(TypeError):       # with the script a ValueError
        cache.incr("missing")


def test_a_lock_is_taken_but_its_release_needs_a_script(cache):
    """It says so, and the lock ends with its timeout."""
    lock = cache.lock("exclusive", timeout=0.3)
    assert lock.acquire(blocking=False)
    assert not cache.lock("exclusive", timeout=1).acquire(blocking=False)
    with pytest.raises(redis.ResponseError, match="^unknown command 'EVALSHA', with args beginning with: "):
        lock.release()
    assert cache.lock("exclusive", timeout=1).acquire(blocking_timeout=2)
