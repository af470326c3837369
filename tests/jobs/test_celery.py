"""Celery through dfly, as broker and for results: workers that are killed while they are at a task.

What Celery promises with `acks_late`. A worker takes a message by BRPOP and then enters it among the unacknowledged
(a hash, and a sorted set by time); when the task has ended it strikes it out. A message that has been there for longer
than `visibility_timeout` goes back into its queue, marked as redelivered, when a worker starts (and every 100 s). So a
task whose worker died runs again, also if it had come to its end. A worker that dies between BRPOP and the entry loses
the message, with Redis too; therefore workers die inside a task here.

The mutex of that sweep is redis-py's lock, whose release is a script. There are none yet, so a worker of Celery does
not start; the workers here release it by WATCH and MULTI, and all the rest is Celery's own.
"""

import gc
import time

import celery
import pytest
import redis
from compat.arguments import DEPTH

from .celery_workers import VISIBILITY_TIMEOUT_S, add_up, app, connect_app, is_fatal, is_fatal_after, work

JOBS = max(200, int(1000 * min(1, DEPTH)))
WORKERS = 3
LIMIT_S = 90


def test_scripts_are_not_there(start):
    """When this fails, the workers' lock without Lua can go, and the limit on Celery's version in the Makefile."""
    with redis.Redis(port=start().port) as client:
        with pytest.raises(redis.ResponseError, match="unknown command 'EVALSHA'"):
            client.evalsha("0" * 40, 0)


@pytest.fixture
def tasks(start, start_workers):
    """The server, its workers, and a list of results: freed before the server ends, since they unsubscribe then."""
    server = start(proactor_threads=2)
    connect_app(server.port)
    results = []
    yield server, start_workers("celery_workers", server.port), results
    results.clear()
    gc.collect()
    app.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")      # of redis-py, that kombu causes
def test_no_task_is_lost_or_done_twice_without_a_death(tasks):
    server, workers, results = tasks
    client = redis.Redis(port=server.port)
    marks = redis.Redis(port=server.port, db=2)
    results += [work.delay(number) for number in range(JOBS)]
    deadline = time.monotonic() + LIMIT_S
    progress, since = None, 0
    wanted = JOBS + sum(map(is_fatal, range(JOBS)))
    while (done := marks.dbsize()) < wanted or client.hlen("unacked"):
        left = (client.llen("celery"), client.hlen("unacked"))
        assert time.monotonic() < deadline, f"{done} marks of {wanted}; waiting, unacknowledged: {left}"
        workers.take_dead()
        if progress != (done, *left):
            progress, since = (done, *left), time.monotonic()
        elif time.monotonic() - since > VISIBILITY_TIMEOUT_S:
            # Only what somebody died over is left: workers find it when they start.
            workers.kill_all()
            since = time.monotonic()
        workers.fill(WORKERS)
        time.sleep(0.2)
    assert client.llen("celery") == 0 and client.zcard("unacked_index") == 0
    runs = [marks.lrange(f"runs:{number}", 0, -1) for number in range(JOBS)]
    assert all(runs)
    # Nobody is given what another has, unless it was said to be his no more.
    assert not [number for number, found in enumerate(runs) if found[1:] != [b"again"] * (len(found) - 1)]
    assert {number for number, found in enumerate(runs) if len(found) > 1} == set(filter(is_fatal_after, range(JOBS)))
    assert [result.get(timeout=20) for result in results] == [number * 2 for number in range(JOBS)]
    assert celery.chord(work.s(JOBS + number) for number in range(10, 20))(add_up.s()).get(timeout=20) == sum(
        2 * (JOBS + number) for number in range(10, 20))
