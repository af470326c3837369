"""Workers of Celery and their tasks, some of which kill the worker that is at them."""

import os
import signal
import warnings

import redis
import redis.lock
from celery import Celery

VISIBILITY_TIMEOUT_S = 2
FATAL_EVERY = 100


class LockWithoutLua(redis.lock.Lock):
    """redis-py's lock, whose release is a script: by WATCH and MULTI here."""

    def register_scripts(self):
        pass

    def do_release(self, expected_token):
        def release(pipe):
            if pipe.get(self.name) != expected_token:
                raise redis.exceptions.LockNotOwnedError("another's by now")
            pipe.multi()
            pipe.delete(self.name)

        self.redis.transaction(release, self.name)


class Place:
    """Where this process works."""

    client = None
    name = None


app = Celery("jobs")
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, worker_hijack_root_logger=False, result_expires=3600,
    broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT_S, "unacked_mutex_expire": 2})


def connect_app(port):
    app.conf.update(broker_url=f"redis://127.0.0.1:{port}/0", result_backend=f"redis://127.0.0.1:{port}/1")


def is_fatal(number):
    return number % FATAL_EVERY == 7


def is_fatal_after(number):
    """Whether the worker dies when the task has left its mark; otherwise before."""
    return is_fatal(number) and number // FATAL_EVERY % 2 == 1


@app.task(bind=True, name="work")
def work(self, number):
    """Leaves in "runs:NUMBER" how it came to be run. A fatal one kills its worker, once."""
    is_last = is_fatal(number) and Place.client.set(f"died:{number}", Place.name, nx=True)
    if is_last and not is_fatal_after(number):
        os.kill(os.getpid(), signal.SIGKILL)
    Place.client.rpush(f"runs:{number}", "again" if self.request.delivery_info["redelivered"] else "new")
    if is_last:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 2


@app.task(name="add_up")
def add_up(numbers):
    return sum(numbers)


def run(port, name):
    redis.client.Lock = LockWithoutLua
    warnings.showwarning = lambda *_, **__: None       # of running as root, and of redis-py's deprecations
    connect_app(port)
    Place.client = redis.Redis(port=port, db=2)
    Place.name = name
    app.worker_main(["worker", "--pool=solo", "--loglevel=ERROR", "--without-mingle", f"--hostname={name}"])
