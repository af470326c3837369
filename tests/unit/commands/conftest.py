"""A Redis to compare with: its replies and, through a subscription, its keyspace notifications."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from compat.servers import Server
from compat.wire import plain


class Oracle:
    """Runs a command and returns its reply's bytes and the events it caused: (event, key)."""

    MARK = b"__keyevent@0__:mark"

    def __init__(self, server):
        self.client = server.connect()
        self.listener = server.connect()
        self.listener.command("PSUBSCRIBE", "__keyevent@0__:*")

    def execute(self, line):
        reply = self.client.command(*line)
        self.client.command("PUBLISH", self.MARK, "")
        events = []
        while True:
            _, _, channel, key = plain(self.listener.read().tree)
            if channel == self.MARK:
                return reply.raw, events
            events.append((channel.split(b":", 1)[1].decode(), key))


@pytest.fixture(scope="session")
def redis_process():
    with Server("redis", notify_keyspace_events="KEAmn") as server:
        yield server


@pytest.fixture
def oracle(redis_process):
    oracle = Oracle(redis_process)
    yield oracle
    oracle.client.close()
    oracle.listener.close()
