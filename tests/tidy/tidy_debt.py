"""Faults that were there before a rule was: how many a file may still have. The numbers only go down.

Clean a file up and delete its row. A file without a row has none.
"""

DEBT = {
    "long lines": {
        "dfly/_core/commands/connection.pyx": 2,
        "dfly/_core/commands/keys.pyx": 1,
        "dfly/_core/commands/keyspace.pyx": 2,
        "dfly/_core/engine/database.pxd": 3,
        "dfly/_core/engine/database.pyx": 1,
        "dfly/_core/engine/server_state.pxd": 1,
        "dfly/_core/engine/shard.pxd": 2,
        "dfly/_core/engine/transaction.pxd": 1,
        "dfly/_core/net/connection.pxd": 1,
        "dfly/_core/server.pyx": 1,
        "dfly/_core/store/dash.pxd": 3,
        "dfly/_core/store/dash.pyx": 1,
        "dfly/_core/store/glob.pxd": 1,
        "dfly/_core/store/object.pxd": 1,
        "dfly/_core/sys/dfly_base.h": 2,
        "dfly/_core/testing/dash_testing.pyx": 1,
        "dfly/control.py": 1,
        "dfly/info.py": 1,
        "setup.py": 1,
    },
    "cython-lint": {
        "dfly/_core/commands/admin.pyx": 11,
        "dfly/_core/commands/bitfield.pyx": 1,
        "dfly/_core/commands/bits.pyx": 1,
        "dfly/_core/commands/client.pyx": 4,
        "dfly/_core/commands/connection.pyx": 7,
        "dfly/_core/commands/keys.pyx": 8,
        "dfly/_core/commands/keyspace.pyx": 3,
        "dfly/_core/commands/lcs.pyx": 1,
        "dfly/_core/commands/numbers.pyx": 1,
        "dfly/_core/engine/acceptor.pyx": 3,
        "dfly/_core/engine/access.pyx": 1,
        "dfly/_core/engine/command.pyx": 1,
        "dfly/_core/engine/database.pyx": 1,
        "dfly/_core/engine/dispatch.pyx": 6,
        "dfly/_core/engine/eviction.pyx": 2,
        "dfly/_core/engine/expiry.pyx": 1,
        "dfly/_core/engine/server_state.pyx": 2,
        "dfly/_core/engine/shard.pyx": 2,
        "dfly/_core/engine/transaction.pyx": 6,
        "dfly/_core/loop/epoll.pyx": 2,
        "dfly/_core/loop/proactor.pyx": 1,
        "dfly/_core/loop/uring.pyx": 1,
        "dfly/_core/net/connection.pyx": 3,
        "dfly/_core/server.pyx": 13,
        "dfly/_core/store/dash.pyx": 2,
        "dfly/_core/store/object.pyx": 1,
        "dfly/_core/testing/dash_testing.pyx": 4,
    },
}


def over_debt(rule, counts):
    """The files of counts (file -> faults) that have more than their debt."""
    return {name for name, count in counts.items() if count > DEBT[rule].get(name, 0)}
