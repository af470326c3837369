"""A reliable queue as job libraries build it, over redis-py: a thousand jobs, workers killed at random.

RQ itself keeps jobs in hashes and sorted sets, which are not there yet.
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import redis

WORKER = Path(__file__).with_name("queue_worker.py")
JOBS = 1000
WORKERS = 4


class Pool:
    def __init__(self, port):
        self.port = port
        self.started = 0
        self.workers = {}

    def fill(self):
        while len(self.workers) < WORKERS:
            self.started += 1
            name = str(self.started)
            self.workers[name] = subprocess.Popen([sys.executable, WORKER, str(self.port), name])

    def kill_one(self):
        """Some worker; returns its name."""
        name, worker = self.workers.popitem() if random.random() < 0.5 else self.take_oldest()
        worker.kill()
        worker.wait()
        return name

    def take_oldest(self):
        name = next(iter(self.workers))
        return name, self.workers.pop(name)

    def kill_all(self):
        while self.workers:
            self.kill_one()


def test_no_job_is_lost_or_done_twice_when_workers_are_killed(start):
    server = start(proactor_threads=2)
    client = redis.Redis(port=server.port, decode_responses=True)
    pool = Pool(server.port)
    pushed = 0
    dead = []
    deadline = time.monotonic() + 100
    try:
        while len(client.keys("done:*")) < JOBS:
            assert time.monotonic() < deadline
            pool.fill()
            if pushed < JOBS:
                client.lpush("queue", *range(pushed, pushed + 25))
                pushed += 25
            time.sleep(random.random() / 10)
            if client.llen("queue") == 0 or random.random() < 0.3:
                dead.append(pool.kill_one())
            # What they had in hand is somebody else's now, as a supervisor would do it. A server may hand a
            # job to a worker whose end it has not heard of yet, so all are looked at each time.
            for name in dead:
                while client.exists(f"worker:{name}"):
                    client.lmove(f"worker:{name}", "queue", "RIGHT", "RIGHT")
    finally:
        pool.kill_all()
    assert len(dead) > 5
    assert client.llen("queue") == 0
    assert client.keys("worker:*") == []
    # A job leaves its mark and the worker's hand in one transaction: never twice.
    counts = client.mget([f"done:{job}" for job in range(JOBS)])
    assert counts == ["1"] * JOBS
