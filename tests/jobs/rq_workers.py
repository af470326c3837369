"""Workers of RQ and the job they do. Every fourth forks for each job, as RQ's default does; the others do not."""

import logging
import random
import time

import redis
from rq import Queue, SimpleWorker, Worker

QUEUE = "jobs"


class Place:
    """Where this process works."""

    client = None
    name = None


def work(number, after=None):
    """Leaves number and worker in "runs", and the number in "early" if the job it depends on has not run."""
    if after is not None and not Place.client.sismember("done", after):
        Place.client.rpush("early", number)
    with Place.client.pipeline(transaction=True) as pipe:
        pipe.sadd("done", number)
        pipe.rpush("runs", f"{number} {Place.name}")
        pipe.execute()
    if random.random() < 0.1:
        time.sleep(random.random() / 50)
    return number * 2


def run(port, name):
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    random.seed(name)
    Place.client = redis.Redis(port=port)
    Place.name = name
    kind = Worker if name.endswith(("4", "8")) else SimpleWorker
    connection = redis.Redis(port=port)
    kind([Queue(QUEUE, connection=connection)], name=name, connection=connection).work(logging_level="WARNING")
