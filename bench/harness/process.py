"""Clocks and sizes of another process, and pinning.

CPU time comes from the process' CPU clock (clock_getcpuclockid(3)): the scheduler's own sum over all
threads, in nanoseconds. /proc/PID/stat shows the same sum cut to 10 ms ticks and is the fallback.
"""

import contextlib
import os
import socket
import struct
import time

TICK = os.sysconf("SC_CLK_TCK")
SO_TIMESTAMPNS = 35


def cpu_seconds(pid):
    """User and system time of all threads of the process, also of those that have ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return cpu_seconds_by_ticks(pid)


def cpu_seconds_by_ticks(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_bytes(pid):
    """Resident bytes; smaps_rollup is exact, VmRSS may lag by a batch of pages per core."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Rss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no resident size for process {pid}")


def settled_rss_bytes(pid, limit=4.0, step=0.25):
    """Resident bytes once two samples agree within 64 KB (allocators purge a little later)."""
    previous = rss_bytes(pid)
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        time.sleep(step)
        current = rss_bytes(pid)
        if abs(current - previous) <= 65536:
            return current
        previous = current
    return previous


def run_queue_wait_seconds(pid):
    """Time the process' threads were ready to run and had to wait for a core: noise, not the server."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[1])
        except (OSError, IndexError):
            continue
    return total / 1e9


def stolen_seconds():
    """Time the hypervisor took from all cores since boot."""
    with open("/proc/stat") as file:
        return int(file.readline().split()[8]) / TICK


_ALL_CORES = sorted(os.sched_getaffinity(0))


def available_cores():
    """The cores this process was started with, however it is pinned now."""
    return _ALL_CORES


@contextlib.contextmanager
def pinned(cores):
    """Pin this process, and what it starts meanwhile, to these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def favoured(priority=-15):
    """Run this process, and what it starts meanwhile, before others, as far as that is permitted.

    For figures about single delays: on a shared machine they would show the other processes instead. Linux
    weighs sessions against one another first (sched(7), autogroup), so the session's weight is raised too.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0), _autogroup_nice()
    try:
        os.setpriority(os.PRIO_PROCESS, 0, priority)
        _set_autogroup_nice(priority)
    except PermissionError:
        pass
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before[0])
        _set_autogroup_nice(before[1])


def _autogroup_nice():
    try:
        with open("/proc/self/autogroup") as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError, IndexError):
        return None


def _set_autogroup_nice(value):
    if value is not None and value != _autogroup_nice():
        with open("/proc/self/autogroup", "w") as file:
            file.write(str(value))


def stamp_arrivals(sock):
    """Ask the kernel for the arrival time of what this socket receives (read by receive_stamped)."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def receive_stamped(sock, size=1 << 16):
    """(data, Unix time in ns at which its last segment arrived): independent of when we got to run."""
    data, ancillary, _, _ = sock.recvmsg(size, 64)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", payload[:16])
            return data, seconds * 1_000_000_000 + nanoseconds
    return data, time.time_ns()
