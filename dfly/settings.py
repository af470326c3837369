"""The typed registry of settings: names, types, defaults, ranges, and what CONFIG SET may change.

A setting has Redis' name (`maxmemory-policy`) or, where Redis has none, Dragonfly's flag spelling
(`proactor_threads`). Both spellings of every name work everywhere: `-` and `_` are the same.
Files have redis.conf's format (https://redis.io/docs/latest/operate/oss_and_stack/management/config).

Settings of features that do not exist yet are known names that accept only their "off" value, so a
redis.conf from another server either works or says exactly which line cannot.
"""

import difflib
import fnmatch
import os
import re
import shlex
from dataclasses import dataclass, field

from dfly.cron import Schedule

MEMORY_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3,
                "t": 1000**4, "tb": 1024**4}
POLICIES = ("noeviction", "allkeys-lru", "allkeys-lfu", "allkeys-random",
            "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl")
NOTIFY_FLAGS = {"K": 1, "E": 2, "g": 4, "$": 8, "l": 16, "s": 32, "h": 64, "z": 128, "x": 256, "e": 512, "t": 1024,
                "m": 2048, "d": 8192, "n": 16384}
NOTIFY_ALL = "g$lshzxetd"
BUILD_VARIABLES = ("DFLY_BUILD", "DFLY_ALLOCATOR", "DFLY_ANNOTATE", "DFLY_STAMP")  # setup.py's


class ConfigError(ValueError):
    """A setting that cannot be used; the text says why."""


def parse_bool(text):
    if text.lower() in ("yes", "true", "1", "on"):
        return True
    if text.lower() in ("no", "false", "0", "off"):
        return False
    raise ConfigError("argument must be 'yes' or 'no'")


def parse_memory(text):
    """'100mb' and the like, in bytes; Redis' units (k is 1000, kb is 1024)."""
    digits = text.lower().rstrip("kmgtb")
    unit = text.lower()[len(digits):]
    if not digits.isdigit() or unit not in MEMORY_UNITS:
        raise ConfigError("argument must be a memory value")
    return int(digits) * MEMORY_UNITS[unit]


def parse_int(text):
    """A 64-bit integer in the one spelling that Redis takes: no sign but '-', no leading zero."""
    if re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text, re.ASCII) and -2**63 <= int(text) < 2**63:
        return int(text)
    raise ConfigError("argument couldn't be parsed into an integer")


def parse_octal(text):
    try:
        return int(text, 8)
    except ValueError:
        raise ConfigError("argument couldn't be parsed into an integer") from None


def parse_notify(text):
    """The flags of notify-keyspace-events as Redis' bit mask."""
    mask = 0
    for letter in text:
        if letter == "A":
            for each in NOTIFY_ALL:
                mask |= NOTIFY_FLAGS[each]
        elif letter in NOTIFY_FLAGS:
            mask |= NOTIFY_FLAGS[letter]
        else:
            raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
    return mask


def show_notify(mask):
    """Redis' canonical spelling of a mask."""
    everything = sum(NOTIFY_FLAGS[each] for each in NOTIFY_ALL)
    text = "A" if mask & everything == everything else "".join(f for f in NOTIFY_ALL if mask & NOTIFY_FLAGS[f])
    return text + "".join(f for f in "KEmn" if mask & NOTIFY_FLAGS[f])


def parse_percentiles(text):
    """'50 99 99.9' as a tuple of numbers."""
    try:
        values = tuple(float(word) for word in text.split())
    except ValueError:
        raise ConfigError("Invalid latency-tracking-info-percentiles parameters") from None
    if not all(0 <= value <= 100 for value in values):
        raise ConfigError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
    return values


def show_percentile(value):
    """Six decimals at most, without zeros at the end, as Redis shows it."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def parse_rules(text):
    """'3600 1 300 100' as ((seconds, changes), ...)."""
    words = text.split()
    if len(words) % 2 or not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
        raise ConfigError("Invalid save parameters")
    rules = tuple((int(seconds), int(changes)) for seconds, changes in zip(words[::2], words[1::2], strict=True))
    if any(seconds < 1 for seconds, _ in rules):
        raise ConfigError("Invalid save parameters")
    return rules


def parse_cron(text):
    if text:
        try:
            Schedule(text)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return text


def parse_file_name(text):
    if "/" in text:
        raise ConfigError("dbfilename can't be a path, just a filename")
    return text


COMPRESSION_MODES = "0 (none), 1 (strings by LZF) or 3 (blocks by LZ4; strings by LZF in a single file)"


def parse_compression(text):
    """Dragonfly's --compression_mode."""
    if text == "2":
        raise ConfigError(f"compression_mode 2 (zstd) is not supported; it can be {COMPRESSION_MODES}")
    if text not in ("0", "1", "3"):
        raise ConfigError(f"compression_mode can be {COMPRESSION_MODES}")
    return int(text)


SHUTDOWN_WORDS = ("default", "save", "nosave", "now", "force")


def parse_shutdown(text):
    """Words of shutdown-on-sigterm, as a tuple."""
    words = tuple(text.lower().split())
    if not words or not set(words) <= set(SHUTDOWN_WORDS) or {"save", "nosave"} <= set(words) \
            or ("default" in words and len(words) > 1):
        raise ConfigError("argument(s) must be one of the following: " + ", ".join(SHUTDOWN_WORDS))
    return words


OUTPUT_CLASSES = {"normal": "normal", "slave": "replica", "replica": "replica", "pubsub": "pubsub"}


def parse_output_limits(text, current=None):
    """'normal 0 0 0 pubsub 32mb 8mb 60' over what is set already: {class: (hard, soft, seconds)}."""
    words = text.split()
    if not words or len(words) % 4:
        raise ConfigError("Wrong number of arguments in buffer limit configuration.")
    limits = dict(current or {})
    for name, hard, soft, seconds in zip(*[iter(words)] * 4):
        if name.lower() not in OUTPUT_CLASSES:
            raise ConfigError("Invalid client class specified in buffer limit configuration.")
        try:
            limits[OUTPUT_CLASSES[name.lower()]] = (parse_memory(hard), parse_memory(soft), parse_int(seconds))
        except ConfigError:
            raise ConfigError("Error in hard, soft or soft_seconds setting in buffer limit configuration.") from None
    return limits


def show_output_limits(limits):
    shown = {"normal": "normal", "replica": "slave", "pubsub": "pubsub"}
    return " ".join(f"{shown[k]} {h} {s} {t}" for k, (h, s, t) in limits.items())


QUOTED_KINDS = ("text", "notify", "rules", "cron", "file-name")
PARSERS = {"rules": parse_rules, "cron": parse_cron, "file-name": parse_file_name, "shutdown": parse_shutdown,
           "compression": parse_compression}


@dataclass
class Setting:
    """One setting. `kind` says how text becomes a value; ranges are inclusive."""

    name: str
    kind: str
    default: object
    help: str
    mutable: bool = True
    low: int = None
    high: int = None
    choices: tuple = ()
    aliases: tuple = ()
    hidden: bool = False
    only: object = field(default=None)       # the one value that works until the feature exists

    def parse(self, text, current=None):
        value = self._parse(text, current)
        if self.low is not None and not self.low <= value <= self.high:
            raise ConfigError(f"argument must be between {self.low} and {self.high} inclusive")
        if self.only is not None and value != self.only:
            raise ConfigError(f"'{self.name} {text}' is not supported yet; the only value is '{self.show(self.only)}'")
        return value

    def _parse(self, text, current):
        if self.kind == "bool":
            return parse_bool(text)
        if self.kind == "int":
            return parse_int(text)
        if self.kind == "memory":
            return parse_memory(text)
        if self.kind == "octal":
            return parse_octal(text) if text else 0
        if self.kind == "enum":
            if text.lower() not in self.choices:
                raise ConfigError("argument(s) must be one of the following: " + ", ".join(self.choices))
            return text.lower()
        if self.kind == "notify":
            return parse_notify(text)
        if self.kind == "percentiles":
            return parse_percentiles(text)
        if self.kind == "output-limits":
            return parse_output_limits(text, current)
        if self.kind in PARSERS:
            return PARSERS[self.kind](text)
        return text

    def show(self, value):
        """The value as CONFIG GET shows it."""
        if self.kind == "bool":
            return "yes" if value else "no"
        if self.kind == "octal":
            return f"{value:o}"
        if self.kind == "notify":
            return show_notify(value)
        if self.kind == "percentiles":
            return " ".join(map(show_percentile, value))
        if self.kind == "output-limits":
            return show_output_limits(value)
        if self.kind == "rules":
            return " ".join(f"{seconds} {changes}" for seconds, changes in value)
        if self.kind == "shutdown":
            return " ".join(value)
        return str(value)


def number(name, default, text, low=0, high=2**31 - 1, **more):
    return Setting(name, "int", default, text, low=low, high=high, **more)


def fixed(name, kind, only, text, **more):
    """A setting of a feature that does not exist yet."""
    return Setting(name, kind, only, text, only=only, **more)


DEFAULT_OUTPUT_LIMITS = {"normal": (0, 0, 0), "replica": (256 * 1024**2, 64 * 1024**2, 60),
                         "pubsub": (32 * 1024**2, 8 * 1024**2, 60)}

SETTINGS = [
    # Network
    number("port", 6379, "TCP port; 0 turns TCP off", high=65535),
    Setting("bind", "text", "127.0.0.1 -::1", "addresses to listen on; '*' is all; '-' before one: may be missing"),
    number("tcp-backlog", 511, "length of the accept queue", mutable=False),
    Setting("unixsocket", "text", "", "path of a unix socket to listen on", mutable=False),
    Setting("unixsocketperm", "octal", 0, "its mode, octal", mutable=False, low=0, high=0o777),
    number("admin_port", 0, "HTTP port for /healthz and /metrics; 0 is off", high=65535, mutable=False),
    Setting("admin_bind", "text", "127.0.0.1", "address of the admin port", mutable=False),
    number("timeout", 0, "close idle clients after so many seconds; 0 never"),
    number("tcp-keepalive", 300, "TCP keepalive, seconds; 0 is off"),
    Setting("protected-mode", "bool", True, "without a password, refuse clients from other machines"),
    number("maxclients", 10000, "most clients at once", low=1, high=2**32 - 1),
    Setting("requirepass", "text", "", "password of the default user"),
    Setting("client-output-buffer-limit", "output-limits", DEFAULT_OUTPUT_LIMITS, "class hard soft seconds ..."),
    Setting("client-query-buffer-limit", "memory", 1024**3, "most unprocessed input of a client",
            low=1024**2, high=2**63 - 1),
    Setting("proto-max-bulk-len", "memory", 512 * 1024**2, "largest argument and string",
            low=1024**2, high=2**32 - 1),
    # Threads
    number("proactor_threads", 0, "shard threads; 0: as many as cores", high=256, mutable=False,
           aliases=("io-threads",)),
    number("conn_io_threads", 0, "so many threads have connections; 0: as many as the load needs", high=256),
    Setting("force_epoll", "bool", False, "use epoll also where io_uring works", mutable=False),
    # Keyspace
    number("databases", 16, "databases for SELECT", low=1, high=16384, mutable=False, aliases=("dbnum",)),
    Setting("maxmemory", "memory", 0, "memory limit in bytes; 0 is none", low=0, high=2**63 - 1),
    Setting("maxmemory-policy", "enum", "noeviction", "what goes when memory is full",
            choices=POLICIES[4:] + POLICIES[1:4] + POLICIES[:1]),
    fixed("maxmemory-clients", "memory", 0, "memory limit of all clients together"),
    number("maxmemory-samples", 5, "candidates looked at for one eviction, at most 64", low=1),
    Setting("cache_mode", "bool", False, "evict instead of refusing writes, as Dragonfly's flag", mutable=False),
    number("lfu-log-factor", 10, "how slowly LFU counters grow"),
    number("lfu-decay-time", 1, "minutes after which LFU counters shrink"),
    Setting("notify-keyspace-events", "notify", 0, "classes of keyspace events"),
    number("tracking-table-max-keys", 1000000, "keys that CLIENT TRACKING remembers; 0 is no limit",
           high=2**63 - 1),
    number("hz", 10, "kept for compatibility; timers follow what is due", low=0, high=500),
    Setting("dynamic-hz", "bool", True, "kept for compatibility"),
    Setting("active-expire", "bool", True, "expire keys on time, not only when they are read", hidden=True),
    number("cron-clock-ahead", 0, "for tests: seconds by which the clock of snapshot_cron is ahead", hidden=True),
    Setting("file-fault", "text", "", "for tests: operation, errno, how many succeed before", hidden=True),
    Setting("shuffle-connections", "bool", False, "for tests: they move to other threads all the time",
            hidden=True, mutable=False),
    Setting("interrupt-transactions", "bool", False, "for tests: breaks them on purpose", hidden=True),
    number("slice-elements", 5000, "for tests: commands over more elements go in slices", low=1, high=2**62,
           hidden=True),
    number("snapshot-elements", 2000, "for tests: larger collections are saved member by member", low=1, high=2**62,
           hidden=True),
    # Diagnostics
    number("slowlog-log-slower-than", 10000, "microseconds; -1 is off", low=-1, high=2**63 - 1),
    number("slowlog-max-len", 128, "entries kept", high=2**63 - 1),
    number("latency-monitor-threshold", 0, "milliseconds; 0 is off", high=2**63 - 1),
    Setting("latency-tracking", "bool", True, "keep a histogram of durations for each command"),
    Setting("latency-tracking-info-percentiles", "percentiles", (50.0, 99.0, 99.9),
            "those of INFO latencystats"),
    Setting("loglevel", "enum", "notice", "debug, verbose, notice or warning",
            choices=("debug", "verbose", "notice", "warning")),
    Setting("logfile", "text", "", "log file; empty is standard output", mutable=False),
    Setting("logtostdout", "bool", False, "log to standard output whatever logfile says", mutable=False),
    # Process
    Setting("dir", "text", ".", "working directory", mutable=False),
    Setting("dbfilename", "file-name", "dump.rdb", "name of the snapshot; {timestamp} becomes its time; empty: none"),
    Setting("save", "rules", ((3600, 1), (300, 100), (60, 10000)),
            "a snapshot after so many seconds with so many changes, several rules; '' is none"),
    Setting("snapshot_cron", "cron", "", "crontab fields of when to take snapshots: '*/30 * * * *'"),
    number("snapshot-time-share", 1, "percent of a shard's time that a snapshot takes in its first half minute, while "
           "the shard executes commands; later at least a tenth", low=1, high=50),
    Setting("stop-writes-on-bgsave-error", "bool", True, "refuse writes while snapshots fail"),
    Setting("shutdown-on-sigterm", "shutdown", ("default",), "default, or some of save, nosave, now, force"),
    Setting("shutdown-on-sigint", "shutdown", ("default",), "the same for SIGINT"),
    Setting("df_snapshot_format", "bool", False, "snapshots as a file a shard, written in parallel, and a summary"),
    Setting("compression_mode", "compression", 3, "of snapshots: 0 none, 1 strings by LZF, 3 with df_snapshot_format"
            " blocks by LZ4; rdbcompression no is 0"),
    number("compression_level", 2, "kept for compatibility: LZ4 is always its fast compressor", high=2),
    Setting("load_partial", "bool", False, "start with what can be read of a snapshot that is broken", mutable=False),
    Setting("load_module_values", "enum", "skip", "values of Redis modules in a snapshot: skip them, or refuse it",
            choices=("skip", "refuse")),
    Setting("pidfile", "text", "", "where to write the process id", mutable=False),
    fixed("daemonize", "bool", False, "use systemd or another supervisor", mutable=False),
    Setting("supervised", "enum", "auto", "whom to notify of readiness", mutable=False,
            choices=("no", "auto", "systemd")),
    Setting("always-show-logo", "bool", False, "kept for compatibility", mutable=False),
    Setting("set-proc-title", "bool", True, "kept for compatibility"),
    # Known names of features that do not exist yet: their "off" values.
    fixed("appendonly", "bool", False, "append-only file"),
    Setting("appendfsync", "enum", "everysec", "of the append-only file", choices=("always", "everysec", "no")),
    Setting("rdbcompression", "bool", True, "compress snapshots"),
    Setting("rdbchecksum", "bool", True, "checksum snapshots", mutable=False),
    fixed("cluster-enabled", "bool", False, "cluster mode", mutable=False),
    fixed("replicaof", "text", "", "replication", aliases=("slaveof",), mutable=False),
    Setting("replica-read-only", "bool", True, "replicas refuse writes", aliases=("slave-read-only",)),
    Setting("replica-serve-stale-data", "bool", True, "replicas answer while disconnected",
            aliases=("slave-serve-stale-data",)),
    number("repl-timeout", 60, "seconds", low=1),
    Setting("repl-diskless-sync", "bool", True, "stream full syncs"),
    fixed("aclfile", "text", "", "ACL users", mutable=False),
    fixed("tls-port", "int", 0, "TLS", mutable=False),
    number("lua-time-limit", 5000, "milliseconds a script may run", aliases=("busy-reply-threshold",)),
    Setting("lazyfree-lazy-eviction", "bool", False, "freeing is always done in slices"),
    Setting("lazyfree-lazy-expire", "bool", False, "freeing is always done in slices"),
    Setting("lazyfree-lazy-server-del", "bool", False, "freeing is always done in slices"),
    Setting("lazyfree-lazy-user-del", "bool", False, "freeing is always done in slices"),
    Setting("lazyfree-lazy-user-flush", "bool", False, "freeing is always done in slices"),
    Setting("activerehashing", "bool", True, "kept for compatibility: tables never rehash as a whole"),
    Setting("activedefrag", "bool", False, "kept for compatibility"),
    number("list-max-listpack-size", -2, "size class of list blocks", low=-(2**31), aliases=("list-max-ziplist-size",)),
    number("list-compress-depth", 0, "list blocks left uncompressed at each end"),
    number("hash-max-listpack-entries", 512, "fields of a compact hash", high=2**63 - 1,
           aliases=("hash-max-ziplist-entries",)),
    Setting("hash-max-listpack-value", "memory", 64, "bytes of its longest field", low=0, high=2**63 - 1,
            aliases=("hash-max-ziplist-value",)),
    number("set-max-intset-entries", 512, "members of a set of integers"),
    number("set-max-listpack-entries", 128, "members of a compact set"),
    number("set-max-listpack-value", 64, "bytes of its longest member"),
    number("zset-max-listpack-entries", 128, "members of a compact sorted set", aliases=("zset-max-ziplist-entries",)),
    number("zset-max-listpack-value", 64, "bytes of its longest member", aliases=("zset-max-ziplist-value",)),
    number("hll-sparse-max-bytes", 3000, "bytes of a sparse HyperLogLog"),
    number("stream-node-max-bytes", 4096, "bytes of a stream block"),
    number("stream-node-max-entries", 100, "entries of a stream block"),
    number("rdb-version", 10, "RDB format of DUMP and snapshots: 10 is read by Redis 7.0 and all after it", low=9,
           high=12),
]


def canonical(name):
    return name.lower().replace("_", "-")


BY_NAME = {canonical(each): setting for setting in SETTINGS for each in (setting.name, *setting.aliases)}


def find(name):
    """The setting of a name in either spelling, or None."""
    return BY_NAME.get(canonical(name))


def nearest(name):
    """The valid name most like an unknown one, as a hint; empty if nothing is close."""
    close = difflib.get_close_matches(canonical(name), BY_NAME, n=1, cutoff=0.6)
    return f", did you mean '{BY_NAME[close[0]].name}'?" if close else ""


def split_line(line):
    """A line of a configuration file as words, or None for a blank or a comment."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
        lexer.whitespace_split = True
        lexer.commenters = ""
        return list(lexer)
    except ValueError:
        raise ConfigError("Unbalanced quotes in configuration line") from None


class Settings:
    """The values in force. `apply` is called with (name, value) for each change at run time.

    `prepare` has functions by name for what may fail: called with all new values before anything changes;
    the text of their ConfigError becomes the reply.
    """

    def __init__(self):
        self.values = {setting.name: setting.default for setting in SETTINGS}
        self.explicit = set()
        self.file = None
        self.apply = None
        self.prepare = {}
        self.warnings = []

    def __getitem__(self, name):
        return self.values[find(name).name]

    def set_text(self, name, text):
        """Sets one setting from text, at start-up; ConfigError if it cannot be."""
        setting = find(name)
        if setting is None:
            raise ConfigError(f"Bad directive or wrong number of arguments: '{name}'{nearest(name)}")
        value = setting.parse(text, self.values[setting.name])
        if setting.kind == "rules" and value and setting.name in self.explicit:
            # Each line adds one, as in redis.conf; the first replaces the default.
            value = self.values[setting.name] + value
        self.values[setting.name] = value
        self.explicit.add(setting.name)

    def load_lines(self, lines, source):
        """Reads redis.conf lines; an error names the source and the line."""
        for index, line in enumerate(lines, 1):
            try:
                words = split_line(line)
                if words is None:
                    continue
                if words[0].lower() == "include":
                    self.load_file(" ".join(words[1:]))
                    continue
                if len(words) < 2:
                    raise ConfigError(f"'{words[0]}' has no value")
                self.set_text(words[0], " ".join(words[1:]))
            except ConfigError as error:
                if str(error).startswith("*** "):
                    raise
                raise ConfigError(f"*** {source}, line {index}: >>> '{line.strip()}' <<< {error}") from None

    def load_file(self, path):
        try:
            with open(path, encoding="utf-8") as stream:
                lines = stream.readlines()
        except OSError as error:
            raise ConfigError(f"cannot read configuration file '{path}': {error.strerror}") from None
        self.file = self.file or os.path.abspath(path)
        self.load_lines(lines, path)

    def load_environment(self, environment):
        """DFLY_<flag>=value, and DFLY_PASSWORD for requirepass. Unknown names are errors."""
        for name, value in sorted(environment.items()):
            ours = name.startswith("DFLY_") and not name.startswith(("DFLY_TEST_", "DFLY_BENCH_"))
            if not ours or name in BUILD_VARIABLES:
                continue
            flag = "requirepass" if name == "DFLY_PASSWORD" else name[5:].lower()
            try:
                self.set_text(flag, value)
            except ConfigError as error:
                raise ConfigError(f"environment variable {name}: {error}") from None

    # -- CONFIG at run time --------------------------------------------------------------------

    def get(self, patterns):
        """CONFIG GET: [(name, shown value)] of all settings that match one of the globs."""
        found = {}
        for pattern in patterns:
            if not set(pattern) & set("*?["):
                # A plain name is answered as it was spelled.
                setting = find(pattern)
                if setting is not None:
                    found[pattern] = setting.show(self.values[setting.name])
                continue
            for setting in SETTINGS:
                for name in (setting.name, *setting.aliases):
                    if not setting.hidden and fnmatch.fnmatchcase(name, pattern.lower()):
                        found[name] = setting.show(self.values[setting.name])
        return list(found.items())

    def set_many(self, pairs):
        """CONFIG SET: all or nothing. ConfigError carries Redis' text, without the code."""
        wanted = {}
        for name, text in pairs:
            setting = find(name)
            if setting is None or setting.hidden and name != setting.name:
                raise ConfigError(f"Unknown option or number of arguments for CONFIG SET - '{name}'")
            if setting.name in wanted:
                raise ConfigError(f"CONFIG SET failed (possibly related to argument '{name}') - duplicate parameter")
            if not setting.mutable:
                raise ConfigError(f"CONFIG SET failed (possibly related to argument '{name}') - "
                                  "can't set immutable config")
            try:
                wanted[setting.name] = setting.parse(text, self.values[setting.name])
            except ConfigError as error:
                raise ConfigError(
                    f"CONFIG SET failed (possibly related to argument '{name}') - {error}") from None
        for name in wanted:
            if name in self.prepare:
                try:
                    self.prepare[name](wanted)
                except ConfigError as error:
                    raise ConfigError(
                        f"CONFIG SET failed (possibly related to argument '{name}') - {error}") from None
        for name, value in wanted.items():
            self.values[name] = value
            self.explicit.add(name)
            if self.apply is not None:
                self.apply(name, value)

    def rewrite(self):
        """CONFIG REWRITE: keeps comments and order, replaces values, appends what differs from the default."""
        if self.file is None:
            raise ConfigError("The server is running without a config file")
        with open(self.file, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
        written = set()
        output = []
        for line in lines:
            words = split_line(line)
            setting = find(words[0]) if words else None
            if setting is None:
                output.append(line)
            elif setting.name not in written:
                written.add(setting.name)
                output.append(f"{words[0]} {self._quoted(setting)}")
        for setting in SETTINGS:
            if setting.name not in written and self.values[setting.name] != setting.default \
                    and setting.name in self.explicit:
                output.append(f"{setting.name} {self._quoted(setting)}")
        temporary = f"{self.file}.tmp-{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as stream:
            stream.write("\n".join(output) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.file)

    def _quoted(self, setting):
        text = setting.show(self.values[setting.name])
        if setting.kind == "percentiles" and not text:
            return '""'
        if setting.kind in QUOTED_KINDS and (not text or any(c in text for c in "\"'\\#$ ")) \
                and setting.name != "bind":
            return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return text
