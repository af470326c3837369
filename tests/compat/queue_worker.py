"""A worker of a reliable queue, to be killed: queue_worker.py PORT NAME.

A job moves from "queue" to the worker's own list, leaves its mark in "done:JOB", and goes off that list, with
the mark, in one transaction. What a killed worker had in hand is in its list.
"""

import random
import sys
import time

import redis


def main(port, name):
    client = redis.Redis(port=port)
    in_hand = f"worker:{name}"
    while True:
        job = client.blmove("queue", in_hand, 20, "RIGHT", "LEFT")
        if job is None:
            return
        if random.random() < 0.1:
            time.sleep(random.random() / 50)
        with client.pipeline(transaction=True) as pipe:
            pipe.incr(f"done:{job.decode()}")
            pipe.lrem(in_hand, 1, job)
            pipe.execute()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
