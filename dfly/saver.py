"""When snapshots are taken: `save` rules, --snapshot_cron, what BGSAVE inside EXEC has put off; and what the log says.

Lives on the main thread; the data plane does the work (persist/save). tick() is called several times a second.
"""

import contextlib
import glob
import logging
import os
import re
import time

from dfly.cron import Schedule

log = logging.getLogger("dfly")

RETRY_S = 5                      # after a failure the rules wait so long
TEMPORARY = "temp-dfly-*.rdb"
FINAL_SAVE_LIMIT_S = 3600.0


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove_temporary_files():
    """In the working directory: what killed saves have left, of processes that do not live any more and of this one."""
    for path in glob.glob(TEMPORARY):
        pid = re.match(r"temp-dfly-([0-9]+)-", path)
        if pid and (int(pid[1]) == os.getpid() or not is_alive(int(pid[1]))):
            log.info("removing '%s', which an interrupted snapshot has left", path)
            with contextlib.suppress(OSError):
                os.unlink(path)


class Saver:
    """Decides when a snapshot is due, starts it, and reports how it went."""

    def __init__(self, server, settings):
        self.server = server
        self.settings = settings
        self.reported = 0
        self.was_running = False
        self.cron_minute = None

    def tick(self):
        """Notices what has ended, starts what is due."""
        stats = self.server.save_stats()
        if stats["ended"] != self.reported:
            self.report(stats)
        self.update_deny()
        if stats["running"] or not self.settings["dbfilename"]:
            return
        if self.server.take_scheduled_save():
            self.start("asked for inside a transaction")
            return
        now = time.time()
        if self.is_cron_due(now):
            self.start("snapshot_cron")
            return
        for seconds, changes in self.settings["save"]:
            if (stats["changes"] >= changes and now - stats["last_save"] > seconds
                    and (not stats["failed"] or now - stats["last_try"] > RETRY_S)):
                self.start(f"{changes} changes in {seconds} seconds. Saving...")
                return

    def start(self, why):
        if self.server.save():
            log.info("%s", why)

    def is_cron_due(self, now):
        schedule = self.settings["snapshot_cron"]
        now += self.settings["cron-clock-ahead"]
        minute = int(now // 60)
        if minute == self.cron_minute:
            return False
        is_first, self.cron_minute = self.cron_minute is None, minute
        return bool(schedule) and not is_first and Schedule(schedule).matches(time.localtime(now))

    def report(self, stats):
        self.reported = stats["ended"]
        if stats["error"]:
            log.warning("Snapshot failed: %s", stats["reason"])
            return
        log.info("Snapshot '%s' saved: %d keys, %.1f MB in %.2f s, %d visits ahead of a change", stats["path"],
                 stats["entries"], stats["bytes"] / 1e6, stats["last_ms"] / 1e3, stats["forced"])
        if self.settings["df_snapshot_format"]:
            self.remove_old_parts(stats["path"])

    def remove_old_parts(self, summary):
        """Files of shards that no summary names any more: those of the snapshot before, and of failed ones."""
        base = summary.removesuffix("-summary.dfs")
        try:
            with open(summary, "rb") as file:
                named = file.read()
        except OSError as error:
            # Somebody has moved it, say to another disk: of its parts nothing is known then.
            log.warning("Snapshot '%s' cannot be read, older files of shards stay: %s", summary, error.strerror)
            return
        for path in glob.glob(glob.escape(base) + "-*-[0-9][0-9][0-9][0-9].dfs"):
            rest = path[len(base):]
            if re.fullmatch(r"-[0-9a-f]+-[0-9]{4}\.dfs", rest) and os.path.basename(path).encode() not in named:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def update_deny(self):
        """stop-writes-on-bgsave-error: Redis refuses writes while rules are set and the last save has failed."""
        self.server.deny_writes_on_error(bool(self.settings["save"] and self.settings["stop-writes-on-bgsave-error"]))

    def save_now(self, keep_serving):
        """The snapshot before the end; calls keep_serving meanwhile. True if it succeeded."""
        limit = time.monotonic() + FINAL_SAVE_LIMIT_S
        self.wait(keep_serving, limit)
        before = self.server.save_stats()["ended"]
        if not self.server.save():
            return False
        self.wait(keep_serving, limit)
        stats = self.server.save_stats()
        if stats["ended"] != self.reported:
            self.report(stats)
        return stats["ended"] > before and not stats["error"]

    def wait(self, keep_serving, limit):
        while self.server.save_stats()["running"] and time.monotonic() < limit:
            keep_serving()
