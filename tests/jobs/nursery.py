"""Starts worker processes by fork, so that a library is imported once: nursery.py MODULE PORT.

Commands on standard input, one a line, each answered by "done": `start NAME` calls MODULE.run(PORT, NAME) in a new
process, `kill NAME` kills it, `dead` names those that have died by themselves, `kill-all` kills every descendant. At
the end of the input, which also comes when the test is killed, all are killed: orphans become this process' children
(PR_SET_CHILD_SUBREAPER), so none is overlooked.
"""

import ctypes
import importlib
import os
import signal
import sys
import traceback
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def descend(module, port, name):
    """The new process. It does not hold the nursery's pipes."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    try:
        module.run(port, name)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def children():
    with open("/proc/thread-self/children") as file:
        return [int(word) for word in file.read().split()]


def kill_all():
    """A killed process' children come to this one, so it takes rounds."""
    while True:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def take_dead(pids):
    """The names of workers that live no more."""
    found = [name for name, pid in pids.items() if os.waitpid(pid, os.WNOHANG)[0]]
    for name in found:
        del pids[name]
    return found


def main(module, port):
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    module = importlib.import_module(f"jobs.{module}")
    pids = {}
    try:
        for line in sys.stdin:
            command, *name = line.split()
            answer = ["done"]
            if command == "start":
                pid = os.fork()
                if pid == 0:
                    descend(module, port, *name)
                pids[name[0]] = pid
            elif command == "kill":
                pid = pids.pop(name[0])
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            elif command == "dead":
                answer += take_dead(pids)
            elif command == "kill-all":
                kill_all()
                pids.clear()
            print(*answer, flush=True)
    finally:
        kill_all()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
