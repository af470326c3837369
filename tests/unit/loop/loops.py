"""Loops on threads, for the tests of fibers."""

import threading
import time

from dfly._core.testing import fiber_testing as ft


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)


class Loops:
    """Loops on threads of their own; leaving stops and joins them, and raises what they raised."""

    def __init__(self, count, backend=0, **options):
        self.loops = [ft.LoopThread(i, backend, **options) for i in range(count)]
        self.threads = []
        self.errors = []

    def __enter__(self):
        for loop in self.loops:
            ready = threading.Event()
            thread = threading.Thread(target=self._main, args=(loop, ready), daemon=True)
            self.threads.append(thread)
            thread.start()
            assert ready.wait(20), self.errors
        return self.loops

    def _main(self, loop, ready):
        try:
            loop.run(ready.set)
        except BaseException as error:
            self.errors.append(error)

    def __exit__(self, *exc):
        for loop in self.loops:
            loop.stop()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive(), "a loop does not stop"
        if self.errors and exc[1] is None:
            raise self.errors[0]


def on_fiber(loop, function, *args, timeout=20):
    """Runs function on a fiber of the loop and returns its result."""
    done = threading.Event()
    box = []

    def body():
        try:
            box.append((True, function(*args)))
        except BaseException as error:
            box.append((False, error))
            if not isinstance(error, Exception):
                raise
        finally:
            done.set()

    loop.hub.spawn_on(body)
    assert done.wait(timeout), "the fiber did not end"
    ok, value = box[0]
    if not ok:
        raise value
    return value
