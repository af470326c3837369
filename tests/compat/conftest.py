"""Fixtures: the servers, started once for all tests that need no settings of their own."""

import pytest

from .differential import Duel
from .servers import SUBJECT, Server


def keep(kind, **options):
    server = Server(kind, **options)
    yield server
    status = server.stop()
    assert status == 0, f"{kind} stopped with status {status}\n{server.log_tail()}"


@pytest.fixture(scope="session")
def subject():
    """The server under test."""
    yield from keep(SUBJECT)


@pytest.fixture(scope="session")
def redis_server():
    """The oracle, Redis 7.0.15."""
    yield from keep("redis")


@pytest.fixture(scope="session")
def valkey_server():
    """The oracle for what is newer than Redis 7.0."""
    yield from keep("valkey")


@pytest.fixture(scope="session")
def duel(subject, redis_server):
    return Duel(subject, redis_server)


@pytest.fixture(scope="session")
def duel_with_valkey(subject, valkey_server):
    return Duel(subject, valkey_server)


@pytest.fixture(scope="module", params=[1, 2], ids=["one-thread", "two-threads"])
def sliced(request):
    """The server under test, with slices of one element: long commands meet what comes between them."""
    with Server(SUBJECT, proactor_threads=request.param, slice_elements=1, stream_node_max_entries=7) as server:
        yield server


@pytest.fixture
def sliced_duel(sliced, redis_server):
    return Duel(sliced, redis_server)


@pytest.fixture
def flushed(subject):
    """The server under test, empty."""
    with subject.connect() as connection:
        connection.command("FLUSHALL")
    return subject


@pytest.fixture
def start():
    """Starts servers with settings of their own; they stop with the test."""
    started = []

    def start(kind=SUBJECT, **options):
        server = Server(kind, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        status = server.stop()
        assert status == 0, f"{server.kind} stopped with status {status}\n{server.log_tail()}"


@pytest.fixture
def start_pair(start):
    """The server under test and Redis, both started with the same settings."""

    def start_both(**options):
        return Duel(start(SUBJECT, **options), start("redis", **options))

    return start_both
