"""Test door: how many threads the balance of connections wants, period by period."""

from libc.stdint cimport uint32_t, uint64_t

from dfly._core.engine.balance cimport wanted_threads
from dfly._core.engine.server_state cimport executor_t, server_t
from dfly._core.sys.alloc cimport net_free, net_zalloc
from dfly._core.sys.base cimport DFLY_ABI_STAMP

__abi__ = DFLY_ABI_STAMP

PERIOD_MS = 100


def play(uint32_t thread_count, load, int periods, uint64_t spread_until_ms=0):
    """load(threads in use, period) gives (permille of its time for each thread, commands of all in the period, waits).

    spread_until_ms: until then there has been a slow command. Returns the threads that are in use after each period.
    """
    cdef server_t *server = <server_t *>net_zalloc(sizeof(server_t))
    cdef uint32_t i
    server.thread_count = thread_count
    server.executors = <executor_t **>net_zalloc(thread_count * sizeof(executor_t *))
    for i in range(thread_count):
        server.executors[i] = <executor_t *>net_zalloc(sizeof(executor_t))
    server.connection_threads = 1
    server.spread_until_ms = spread_until_ms
    found = []
    try:
        for period in range(periods):
            busy, commands, *waits = load(server.connection_threads, period)
            for i in range(thread_count):
                server.executors[i].busy_permille = busy[i]
            server.executors[0].command_count += commands
            server.executors[0].wait_count += sum(waits)
            server.connection_threads = wanted_threads(server, (period + 1) * PERIOD_MS)
            found.append(server.connection_threads)
    finally:
        for i in range(thread_count):
            net_free(server.executors[i])
        net_free(server.executors)
        net_free(server)
    return found
