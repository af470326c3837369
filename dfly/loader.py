"""Loading a snapshot: at start, and for DEBUG RELOAD. Which file, on which thread, and what the log says.

The reading thread lives in compiled code (persist/load); the main thread goes on answering INFO and signals.
"""

import glob
import logging
import os
import re
import threading
import time

from dfly import resp
from dfly.info import human
from dfly.settings import ConfigError

log = logging.getLogger("dfly")

TIMESTAMP = "{timestamp}"
TIMESTAMP_PATTERN = r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
PROGRESS_S = 2.0                 # between progress lines
POLL_S = 0.002
RELOAD_OPTIONS = {"nosave", "noflush", "merge"}


class LoadError(Exception):
    """A snapshot that cannot be loaded; the text says why, and where in the file."""


def find_snapshot(name):
    """The newest file of the working directory that `dbfilename` may have written, or None."""
    base = re.sub(r"\.(rdb|dfs)$", "", name)
    found = []
    for pattern in (name, base + "-summary.dfs"):
        for path in glob.glob("*".join(glob.escape(part) for part in pattern.split(TIMESTAMP))):
            match = re.fullmatch(TIMESTAMP_PATTERN.join(re.escape(part) for part in pattern.split(TIMESTAMP)), path)
            if match:
                # Names tell the order better than the time of a file that may have been copied.
                found.append((match.groups(), os.stat(path).st_mtime_ns, path))
    return max(found)[2] if found else None


def snapshot_parts(path):
    """The files that hold the keys: the file itself, or those that a summary names."""
    from dfly._core.snapshot_file import read_head
    head = read_head(path)
    parts = [value for name, value in head if name == b"dfly-file"]
    announced = [int(value) for name, value in head if name == b"dfly-shards"]
    if not parts and not announced:
        return [path]
    if announced != [len(parts)]:
        raise LoadError(f"'{path}' names {len(parts)} files of shards and announces {announced}")
    folder = os.path.dirname(path)
    for part in parts:
        if b"/" in part or part in (b"", b".", b".."):
            raise LoadError(f"'{path}' names a file outside of its directory: {part!r}")
    return [os.path.join(folder, os.fsdecode(part)) for part in parts]


class Loader:
    """Loads snapshots, one at a time, each on a thread of its own."""

    def __init__(self, server, settings):
        self.server = server
        self.settings = settings
        self.thread = None
        self.error = None            # why the last load failed
        self.has_failed = False      # the one at start: the process ends
        self.is_loading = False
        self.is_cancelled = False
        self.said = 0                # notes in the log already
        self.next_progress = 0.0
        self.path = None

    # -- At start --------------------------------------------------------------------------------

    def begin(self):
        """Before clients are listened to: finds the file and refuses commands. False: there is none."""
        self.path = find_snapshot(self.settings["dbfilename"]) if self.settings["dbfilename"] else None
        if self.path is None:
            return False
        self.is_loading = True
        self.server.load_begin(os.stat(self.path).st_size, self.options())
        return True

    def launch(self):
        """Loads what begin() has found."""
        self.start_thread(self.load_at_start)

    def load_at_start(self):
        try:
            self.load_file(self.path)
            self.server.set_clean()
        except LoadError as error:
            if self.is_cancelled:
                log.info("%s", error)
            elif self.settings["load_partial"]:
                log.warning("%s", error)
                log.warning("Loaded a part of the snapshot: %d keys are kept (load_partial)",
                            self.server.load_stats()["keys"])
            else:
                self.error = str(error)
                self.has_failed = True
        finally:
            self.end()

    # -- DEBUG RELOAD ----------------------------------------------------------------------------

    def reload(self, request):
        """DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE]: answers the request when all is done."""
        words = {word.decode("utf-8", "replace").lower() for word in request.args[2:]}
        if words - RELOAD_OPTIONS:
            self.answer(request, "DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
        elif self.is_loading:
            self.answer(request, "a snapshot is being loaded")
        elif not self.settings["dbfilename"]:
            self.answer(request, "snapshots are off: dbfilename is empty")
        else:
            self.is_loading = True
            self.server.load_begin(0, self.options(may_replace="merge" in words))
            self.start_thread(lambda: self.reload_now(request, words))

    def reload_now(self, request, words):
        error = ""
        try:
            path = find_snapshot(self.settings["dbfilename"]) if "nosave" in words else self.save()
            if path is None:
                raise LoadError("there is no snapshot")
            if "noflush" not in words:
                self.server.load_flush()
            self.load_file(path)
            if not words:
                self.server.set_clean()
        except ConfigError:
            error = None
        except LoadError as problem:
            log.warning("DEBUG RELOAD: %s", problem)
            error = "Error trying to load the RDB dump, check server logs."
        finally:
            self.end()
        self.answer(request, error)

    def save(self):
        """A snapshot of now; its path. ConfigError if that fails."""
        while self.server.save_stats()["running"]:
            time.sleep(POLL_S)
        before = self.server.save_stats()["ended"]
        if self.server.save():
            while self.server.save_stats()["running"]:
                time.sleep(POLL_S)
        stats = self.server.save_stats()
        if stats["ended"] == before or stats["error"]:
            raise ConfigError(f"DEBUG RELOAD: cannot save: {stats['reason']}")
        return stats["path"]

    @staticmethod
    def answer(request, error):
        """`error`: "" is none; None is Redis' bare -ERR."""
        text = b"-ERR\r\n" if error is None else resp.encode(resp.Error(f"ERR {error}"), 2) if error else b"+OK\r\n"
        request.reply(text)

    # -- Both ------------------------------------------------------------------------------------

    def options(self, may_replace=False):
        return {"checksum": self.settings["rdbchecksum"], "partial": self.settings["load_partial"],
                "refuse_modules": self.settings["load_module_values"] == "refuse", "may_replace": may_replace}

    def start_thread(self, target):
        self.said = 0
        self.next_progress = time.monotonic() + PROGRESS_S
        self.thread = threading.Thread(target=target, name="loader", daemon=True)
        self.thread.start()

    def end(self):
        self.report_notes()
        self.is_loading = False
        self.server.load_end()
        self.server.wake_control()

    def load_file(self, path):
        """LoadError with the offset and the reason if it cannot be loaded as a whole."""
        self.path = path
        started = time.monotonic()
        try:
            parts = snapshot_parts(path)
            total = sum(os.stat(part).st_size for part in parts)
        except (OSError, ValueError) as error:
            raise LoadError(f"Cannot load the snapshot '{path}': {error}") from None
        self.server.load_set_total(total)
        log.info("Loading '%s', %s", path, human(total))
        for part in parts:
            if not self.server.load_run(os.fsencode(part)):
                stats = self.server.load_stats()
                raise LoadError(f"Cannot load the snapshot '{part}': at byte {stats['fault_offset']}: "
                                f"{stats['reason']}")
        spent = max(time.monotonic() - started, 1e-6)
        stats = self.server.load_stats()
        left_out = "".join(f", {what}: {stats[name]}" for name, what in (
            ("empty", "empty keys skipped"), ("broken", "broken values skipped"),
            ("modules", "values of modules skipped"), ("functions", "libraries of functions skipped")) if stats[name])
        log.info("Done loading RDB, keys loaded: %d, keys expired: %d%s.", stats["keys"], stats["expired"], left_out)
        log.info("DB loaded from disk: %.3f seconds (%.0f MB/s)", spent, total / 1e6 / spent)

    # -- On the main thread ----------------------------------------------------------------------

    def tick(self):
        """Several times a second: lines for the log."""
        if not self.is_loading:
            return
        self.report_notes()
        if time.monotonic() < self.next_progress:
            return
        self.next_progress = time.monotonic() + PROGRESS_S
        stats = self.server.load_stats()
        log.info("Loading '%s': %.1f %% of %s, %d keys, %.0f MB/s, %d s left", self.path, stats["percent"],
                 human(stats["total"]), stats["keys"], stats["rate"] / 1e6, stats["eta"])

    def report_notes(self):
        notes = self.server.load_notes()
        for note in notes[self.said:]:
            log.warning("Loading '%s': %s", self.path, note)
        self.said = len(notes)

    def cancel(self):
        """Before the process ends: the reading thread stops, and what it has loaded is never saved."""
        if self.thread is not None and self.thread.is_alive():
            self.is_cancelled = True
            self.server.load_cancel()
            self.thread.join(60)
