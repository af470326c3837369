"""What tests of snapshots share: waiting for a save, and reading a saved file with Redis."""

import contextlib
import os
import shutil
import time

from .servers import Server
from .wire import encode

SAVE_LIMIT = 60.0


def info(client, section="persistence"):
    lines = client.command("INFO", section).value.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def wait_for_save(client, limit=SAVE_LIMIT):
    """Waits until no save runs; the fields of INFO persistence then."""
    deadline = time.monotonic() + limit
    while True:
        fields = info(client)
        if fields["rdb_bgsave_in_progress"] == "0":
            return fields
        assert time.monotonic() < deadline, "the save does not end"
        time.sleep(0.005)


def snapshot_path(server):
    return os.path.join(server.directory, server.options.get("dbfilename", "dump.rdb"))


@contextlib.contextmanager
def loaded(path, folder, kind="redis"):
    """A server of that kind that has loaded a copy of the file."""
    shutil.copy(path, os.path.join(folder, "loaded.rdb"))
    with Server(kind, dir=str(folder), dbfilename="loaded.rdb") as server:
        yield server


def contents(client, database=0):
    """{key: value} of a database: strings as bytes, lists as lists of bytes."""
    assert client.command("SELECT", database) == b"+OK\r\n"
    keys = client.command("KEYS", "*").value
    types = ask(client, [("TYPE", key) for key in keys])
    found = ask(client, [("GET", key) if kind == b"string" else ("LRANGE", key, 0, -1)
                         for key, kind in zip(keys, types, strict=True)])
    return dict(zip(keys, found, strict=True))


def ask(client, commands, batch=500):
    """The values of many commands, pipelined."""
    values = []
    for first in range(0, len(commands), batch):
        part = commands[first : first + batch]
        client.send(b"".join(encode(*command) for command in part))
        values += [client.read().value for _ in part]
    return values
