"""RQ through dfly: jobs, dependents and results, with workers that are killed with SIGKILL at random.

What RQ promises. A worker takes a job by BLMOVE into the queue's intermediate list, enters the execution in the
registry of started jobs, and takes the job off the intermediate list; one MULTI at the end writes result and state. So
a job whose worker died is in one of the two, and RQ's maintenance gives it back: from the registry when the execution's
heartbeat is overdue, from the intermediate list when it was seen there for a minute, if the job has retries left. It
runs again then, also if its function had come to its end: at least once, and more than once only after a death.
Dependents become ready in the transaction that ends a job and are enqueued after it; what is in between when a worker
dies, or when two get in each other's way, maintenance finds as well.

Left out is what RQ does by Lua, which is not there yet: `unique=True`, rate limits, the locks of the scheduler
(`with_scheduler=True`, so jobs `enqueue_in` some time are kept and not started), `Queue.empty()` and
`Queue.delete()` with its jobs.
"""

import random
import time

import redis
import rq
from compat.arguments import DEPTH
from rq.job import JobStatus
from rq.registry import FinishedJobRegistry, StartedJobRegistry, clean_registries

from .rq_workers import QUEUE, work

JOBS = max(100, int(1000 * min(1, DEPTH)))
DEPENDENTS = JOBS // 10
WORKERS = 4
KILLS = 8
LIMIT_S = 90
FAR_S = 10**6


def enqueue(queue):
    retry = rq.Retry(max=KILLS)
    first = [queue.prepare_data(work, args=(number,), job_id=f"job-{number}", retry=retry)
             for number in range(JOBS - DEPENDENTS)]
    queue.enqueue_many(first)
    for number in range(JOBS - DEPENDENTS, JOBS):
        after = number - (JOBS - DEPENDENTS)
        queue.enqueue(work, number, after, job_id=f"job-{number}", retry=retry, depends_on=f"job-{after}")


def give_back_abandoned(queue, client):
    """RQ's maintenance as it would be done later, when no worker lives: with its clocks put forward."""
    queue.release_maintenance_lock()        # of a worker that died doing it
    clean_registries(queue)
    StartedJobRegistry(QUEUE, connection=client).cleanup(timestamp=time.time() + FAR_S)
    intermediate = queue.intermediate_queue
    first_seen = [intermediate.get_first_seen_key(job_id) for job_id in intermediate.get_job_ids()]
    for key in first_seen:
        client.set(key, time.time() - FAR_S)
    intermediate.cleanup(rq.SimpleWorker([queue], connection=client), queue)
    assert intermediate.get_job_ids() == []
    if first_seen:      # RQ leaves them for a day, and maintenance would take a job back from who has it next
        client.delete(*first_seen)


def test_no_job_is_lost_or_done_twice_without_a_death(start, start_workers):
    server = start(proactor_threads=2)
    client = redis.Redis(port=server.port)
    queue = rq.Queue(QUEUE, connection=client)
    workers = start_workers("rq_workers", server.port)
    enqueue(queue)
    finished = FinishedJobRegistry(QUEUE, connection=client)
    deadline = time.monotonic() + LIMIT_S
    while finished.get_job_count(cleanup=False) < JOBS:
        assert time.monotonic() < deadline, f"{len(finished)} of {JOBS} jobs are done"
        workers.fill(WORKERS)
        done = finished.get_job_count(cleanup=False)
        if queue.count == 0:
            time.sleep(0.3)
            if finished.get_job_count(cleanup=False) == done:
                workers.kill_all()
                give_back_abandoned(queue, client)
        elif len(workers.killed) < KILLS and done > len(workers.killed) * JOBS / (KILLS + 2):
            time.sleep(random.random() / 100)
            workers.kill(random.choice(workers.names))
        time.sleep(0.02)
    died_at_work = set(workers.killed)
    workers.kill_all()
    assert queue.count == 0 and client.lrange("early", 0, -1) == []
    runs = [line.decode().split() for line in client.lrange("runs", 0, -1)]
    assert {int(number) for number, _ in runs} == set(range(JOBS))
    # Nobody is told that a job is his unless it is new or its last worker has died with it in hand.
    last_of_worker = {name: number for number, name in runs}
    last_run = {number: name for number, name in runs}
    repeated = [(number, name) for number, name in runs if last_run[number] != name]
    assert len(runs) == JOBS + len(repeated)
    assert all(last_of_worker[name] == number and name in died_at_work for number, name in repeated)
    jobs = rq.job.Job.fetch_many([f"job-{number}" for number in range(JOBS)], connection=client)
    assert {job.get_status(refresh=False) for job in jobs} == {JobStatus.FINISHED}
    assert [job.return_value() for job in jobs] == [number * 2 for number in range(JOBS)]
    assert len(workers.killed) > KILLS
