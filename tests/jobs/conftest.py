"""Fixtures: servers as in tests/compat; worker processes that never outlive the test."""

import subprocess
import sys
from pathlib import Path

import pytest
from compat.conftest import start

__all__ = ["start", "start_workers"]


class Workers:
    """Worker processes of one library, by name. They are children of a nursery (nursery.py)."""

    def __init__(self, module, port):
        self.process = subprocess.Popen([sys.executable, Path(__file__).with_name("nursery.py"), module, str(port)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.started = 0
        self.names = []
        self.killed = set()

    def ask(self, *words):
        print(*words, file=self.process.stdin)
        answer = self.process.stdout.readline().split()
        assert answer[:1] == ["done"], f"{words}: {answer}"
        return answer[1:]

    def fill(self, count):
        """Starts workers until there are as many."""
        while len(self.names) < count:
            self.started += 1
            self.names.append(f"worker-{self.started}")
            self.ask("start", self.names[-1])

    def kill(self, name):
        self.names.remove(name)
        self.ask("kill", name)
        self.killed.add(name)

    def take_dead(self):
        """Forgets those that have died by themselves."""
        dead = self.ask("dead")
        self.names = [name for name in self.names if name not in dead]
        self.killed.update(dead)

    def kill_all(self):
        """With all that they have started; none lives when this returns."""
        self.killed.update(self.names)
        self.names.clear()
        self.ask("kill-all")

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.stdout.close()


@pytest.fixture
def start_workers():
    """Gives workers of a module of this folder; they are killed with the test, whatever its end."""
    started = []

    def start_workers(module, port):
        started.append(Workers(module, port))
        return started[-1]

    yield start_workers
    for workers in started:
        workers.close()
