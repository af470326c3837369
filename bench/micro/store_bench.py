"""The dash table by itself: ns per find and insert, the longest insert, bytes per entry by RSS.

    python bench/micro/store_bench.py [--large 10000000]

All times are CPU time of one thread. Memory is measured in a fresh process per line, since freed
memory that stays with the allocator would hide growth.
"""

import argparse
import subprocess
import sys

from dfly._core.testing.dash_testing import DashTable

PAGE = 4096


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def report_memory(value_size, deadline):
    """RSS growth per entry of one table as it grows from 1.0 to 2.0 million keys."""
    table = DashTable()
    table.fill(0, 1000, value_size, deadline)
    before, done, costs = resident(), 1000, []
    for millions in (1.0, 1.2, 1.4, 1.6, 1.8, 2.0):
        keys = int(millions * 1_000_000)
        table.fill(done, keys - done, value_size, deadline)
        done = keys
        costs.append((resident() - before) / (keys - 1000))
        booked = table.info()["bytes"] / keys
        print(f"  {millions:.1f} M keys: {costs[-1]:6.2f} B RSS, {booked:6.2f} B by account")
    print(f"  mean {sum(costs) / len(costs):.2f} B")


def report_speed(keys):
    table = DashTable()
    mean, longest, hiccup = table.fill(0, keys)
    print(f"{keys} keys: insert {mean:.0f} ns (with the clock); "
          f"longest that changed segments {longest / 1000:.0f} us, longest other {hiccup / 1000:.0f} us")
    for what, first in (("hit", 0), ("miss", keys)):
        for batch in (1, 32):
            cost, found = min(table.time_finds(first, keys, 1_000_000, batch) for _ in range(3))
            assert found == (what == "hit")
            print(f"  {what:4} batch {batch:2}: {cost:6.1f} ns")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=10_000_000, help="keys of the large table")
    parser.add_argument("--memory", nargs=2, type=int, metavar=("VALUE_SIZE", "DEADLINE"),
                        help="one memory run only")
    options = parser.parse_args()
    if options.memory:
        report_memory(*options.memory)
        return
    for title, arguments in (("16-byte keys and values", ("16", "-1")),
                             ("the same, TTL on every key", ("16", "2000000000000")),
                             ("64-byte values", ("64", "-1"))):
        print(title, flush=True)
        subprocess.run([sys.executable, __file__, "--memory", *arguments], check=True)
    for keys in (100_000, options.large):
        report_speed(keys)


if __name__ == "__main__":
    main()
