"""The control plane: commands that Python answers on the main thread.

A handler takes (args, client) and returns a value for dfly.resp.encode. Errors are ConfigError or
dfly.resp.Error. Commands come in order of arrival; none of them may take long.
"""

import logging

from dfly import resp
from dfly.command_facts import FACTS
from dfly.info import resident_bytes
from dfly.settings import ConfigError
from dfly.version import __version__

log = logging.getLogger("dfly")

CONFIG_HELP = """\
CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
GET <pattern>
    Return parameters matching the glob-like <pattern> and their values.
SET <directive> <value>
    Set the configuration <directive> to <value>.
RESETSTAT
    Reset statistics reported by the INFO command.
REWRITE
    Rewrite the configuration file.
HELP
    Prints this help."""

COMMAND_HELP = """\
COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
(no subcommand)
    Return details about all Redis commands.
COUNT
    Return the total number of commands in this Redis server.
LIST
    Return a list of all commands in this Redis server.
INFO [<command-name> ...]
    Return details about multiple Redis commands.
    If no command names are given, documentation details for all
    commands are returned.
DOCS [<command-name> ...]
    Return documentation details about multiple Redis commands.
    If no command names are given, documentation details for all
    commands are returned.
GETKEYS <full-command>
    Return the keys from a full Redis command.
GETKEYSANDFLAGS <full-command>
    Return the keys and the access flags from a full Redis command.
HELP
    Prints this help."""

MEMORY_HELP = """\
MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DOCTOR
    Return memory problems reports.
MALLOC-STATS
    Return internal statistics report from the memory allocator.
PURGE
    Attempt to purge dirty pages for reclamation by the allocator.
STATS
    Return information about the memory usage of the server.
USAGE <key> [SAMPLES <count>]
    Return memory in bytes used by <key> and its value. Nested values are
    sampled up to <count> times (default: 5, 0 means sample all).
HELP
    Prints this help."""


LATENCY_HELP = """\
LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DOCTOR
    Return a human readable latency analysis report.
GRAPH <event>
    Return an ASCII latency graph for the <event> class.
HISTORY <event>
    Return time-latency samples for the <event> class.
LATEST
    Return the latest latency samples for all events.
RESET [<event> ...]
    Reset latency data of one or more <event> classes.
    (default: reset all data for all event classes)
HISTOGRAM [COMMAND ...]
    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.
    If no commands are specified then all histograms are replied.
HELP
    Prints this help."""


def typed_spec(spec):
    """A key specification of command_facts.json with RESP's types."""
    return resp.Map({name: resp.Set(resp.Simple(flag) for flag in value) if name == "flags"
                     else resp.Map(type=value["type"], spec=resp.Map(value["spec"]))
                     for name, value in spec.items()})


def typed_argument(argument):
    return resp.Map({
        name: resp.Set(resp.Simple(flag) for flag in value) if name == "flags"
        else [typed_argument(each) for each in value] if name == "arguments" else value
        for name, value in argument.items()})


def help_lines(text):
    return [resp.Simple(line) for line in text.split("\n")]


class ControlPlane:
    """Answers CONFIG, INFO, COMMAND, MEMORY, LATENCY, SHUTDOWN and LOLWUT."""

    def __init__(self, server, settings, info, process):
        self.server = server
        self.settings = settings
        self.info = info
        self.latency = info.latency
        self.process = process
        self.commands = {row["name"]: row for row in server.command_table()}
        self.handlers = {
            "info": self.do_info, "lolwut": self.do_lolwut, "shutdown": self.do_shutdown,
            "config|get": self.config_get, "config|set": self.config_set, "config|rewrite": self.config_rewrite,
            "config|resetstat": self.config_resetstat, "config|help": lambda a, c: help_lines(CONFIG_HELP),
            "command": lambda a, c: [self.describe(row) for row in self.commands.values()],
            "command|count": lambda a, c: len(self.commands), "command|list": self.command_list,
            "command|info": self.command_info, "command|docs": self.command_docs,
            "command|getkeys": lambda a, c: self.get_keys(a, False),
            "command|getkeysandflags": lambda a, c: self.get_keys(a, True),
            "command|help": lambda a, c: help_lines(COMMAND_HELP),
            "memory|doctor": self.memory_doctor, "memory|stats": self.memory_stats,
            "memory|malloc-stats": lambda a, c: resp.Verbatim(self.server.malloc_stats()),
            "latency|latest": self.latency.latest, "latency|history": self.latency.history,
            "latency|reset": self.latency.reset, "latency|graph": self.latency.graph,
            "latency|histogram": self.latency.histogram, "latency|doctor": self.latency.doctor,
            "latency|help": lambda a, c: help_lines(LATENCY_HELP),
            "memory|help": lambda a, c: help_lines(MEMORY_HELP), "debug": self.do_debug,
        }

    def handle(self, request):
        """Answers one ControlRequest."""
        name = request.name.decode()
        if name == "debug" and request.args[1].lower() == b"reload":
            self.process.loader.reload(request)
            return
        args = [arg.decode("utf-8", "surrogateescape") for arg in request.args]
        try:
            value = self.handlers[name](args, request.client)
        except ConfigError as error:
            value = resp.Error(f"ERR {error}")
        except Exception:
            log.exception("command '%s' failed", name)
            value = resp.Error("ERR internal error, see the server's log")
        request.reply(resp.encode(value, request.resp))

    # -- INFO and friends ------------------------------------------------------------------------

    def do_info(self, args, client):
        return resp.Verbatim(self.info.render(args[1:]))

    def do_debug(self, args, client):
        """DEBUG LOG and CHANGE-REPL-ID; RELOAD is the loader's, the others are compiled."""
        if args[1].lower() == "log":
            log.warning("DEBUG LOG: %s", args[2])
        else:
            log.warning("Changing replication IDs after receiving DEBUG change-repl-id")
            self.info.change_replication_id()
        return resp.Simple("OK")

    def do_lolwut(self, args, client):
        return resp.Verbatim("   __ ____\n  / _|__ /   many legs, one shared-nothing body\n\n"
                             f"dfly ver. {__version__}\n")

    def do_shutdown(self, args, client):
        words = [word.lower() for word in args[1:]]
        if set(words) - {"nosave", "save", "now", "force", "abort"} or {"save", "nosave"} <= set(words) \
                or ("abort" in words and len(words) > 1):
            return resp.Error("ERR syntax error")
        if words == ["abort"]:
            return resp.Error("ERR No shutdown in progress.")
        if not self.process.may_stop(words):
            return resp.Error("ERR Errors trying to SHUTDOWN. Check logs.")
        # None: the snapshot is taken already.
        self.process.shut_down("SHUTDOWN command", None)
        return resp.NO_REPLY

    # -- CONFIG ----------------------------------------------------------------------------------

    def config_get(self, args, client):
        return resp.Map(self.settings.get(args[2:]))

    def config_set(self, args, client):
        if len(args) % 2:
            return resp.Error("ERR syntax error")
        self.settings.set_many(list(zip(args[2::2], args[3::2])))
        return resp.Simple("OK")

    def config_rewrite(self, args, client):
        try:
            self.settings.rewrite()
        except OSError as error:
            return resp.Error(f"ERR Rewriting config file: {error.strerror}")
        return resp.Simple("OK")

    def config_resetstat(self, args, client):
        self.server.reset_stats()
        return resp.Simple("OK")

    # -- COMMAND ---------------------------------------------------------------------------------

    def describe(self, row):
        """One element of COMMAND INFO."""
        return [row["name"], row["arity"], resp.Set(resp.Simple(f) for f in row["flags"]), row["first_key"],
                row["last_key"], row["key_step"], resp.Set(resp.Simple("@" + c) for c in row["categories"]),
                resp.Set(FACTS.get(row["name"], {}).get("tips", ())), self.key_specs(row),
                [self.describe(sub) for sub in row["subcommands"]] or resp.Set()]

    @staticmethod
    def key_specs(row):
        facts = FACTS.get(row["name"])
        if facts is not None:
            return resp.Set(typed_spec(spec) for spec in facts["key_specs"])
        if not row["first_key"]:
            return []
        last = row["last_key"] - row["first_key"] if row["last_key"] > 0 else row["last_key"]
        return resp.Set([resp.Map({
            "flags": resp.Set(resp.Simple(f) for f in row["key_flags"]),
            "begin_search": resp.Map(type="index", spec=resp.Map(index=row["first_key"])),
            "find_keys": resp.Map(type="range", spec=resp.Map(lastkey=last, keystep=row["key_step"], limit=0))})])

    def find(self, name):
        """A row by name, 'parent|sub' included."""
        parent, _, sub = name.lower().partition("|")
        row = self.commands.get(parent)
        if row is None or not sub:
            return row
        return next((each for each in row["subcommands"] if each["name"] == name.lower()), None)

    def command_info(self, args, client):
        rows = [self.find(name) for name in args[2:]] if len(args) > 2 else self.commands.values()
        return [self.describe(row) if row else None for row in rows]

    def command_list(self, args, client):
        names = [name for row in self.commands.values()
                 for name in (row["name"], *(sub["name"] for sub in row["subcommands"]))]
        if len(args) == 2:
            return list(names)
        if len(args) != 5 or args[2].lower() != "filterby":
            return resp.Error("ERR syntax error")
        kind, value = args[3].lower(), args[4].lower()
        if kind == "module":
            return []
        if kind == "aclcat":
            return [name for name in names if value in self.find(name)["categories"]]
        if kind == "pattern":
            return [name for name in names if self.server.glob(value, name)]
        return resp.Error("ERR syntax error")

    def command_docs(self, args, client):
        rows = [self.find(name) for name in args[2:]] if len(args) > 2 else self.commands.values()
        return resp.Map({row["name"]: self.documentation(row) for row in rows if row})

    def documentation(self, row):
        facts = FACTS.get(row["name"], {})
        docs = resp.Map(summary=row["summary"])
        for name in ("since", "group", "complexity"):
            if name in facts:
                docs[name] = facts[name]
        docs.setdefault("group", row["group"])
        if "arguments" in facts:
            docs["arguments"] = [typed_argument(each) for each in facts["arguments"]]
        if row["subcommands"]:
            docs["subcommands"] = resp.Map({sub["name"]: self.documentation(sub) for sub in row["subcommands"]})
        return docs

    def get_keys(self, args, with_flags):
        row = self.find(args[2])
        if row is None:
            return resp.Error("ERR Invalid command specified")
        if row["subcommands"] and len(args) > 3:
            row = self.find(f"{args[2]}|{args[3]}") or row
        command = args[2:]
        if not (len(command) == row["arity"] or row["arity"] < 0 and len(command) >= -row["arity"]):
            return resp.Error("ERR Invalid number of arguments specified for command")
        positions = self.server.key_positions(row["name"], [a.encode("utf-8", "surrogateescape") for a in command])
        if positions is None:
            return resp.Error("ERR Invalid arguments specified for command")
        if not positions:
            return resp.Error("ERR The command has no key arguments")
        if not with_flags:
            return [command[i] for i in positions]
        return [[command[i], resp.Set(resp.Simple(f) for f in self.access_flags(row, command, i))]
                for i in positions]

    @staticmethod
    def access_flags(row, command, position):
        """What a command does with the key at a position; SET and BITFIELD depend on their options."""
        words = {word.lower() for word in command[2:]}
        if row["name"] == "set":
            return ("RW", "access", "update") if "get" in words else ("OW", "update")
        if row["name"] == "bitfield":
            return ("RW", "access", "update") if words & {"set", "incrby"} else ("RO", "access")
        specs = [spec for spec in FACTS.get(row["name"], {}).get("key_specs", ())
                 if spec["begin_search"]["spec"].get("index", 0) <= position]
        return specs[-1]["flags"] if specs else row["key_flags"]

    # -- MEMORY ----------------------------------------------------------------------------------

    def memory_doctor(self, args, client):
        stats, rss = self.server.stats(), resident_bytes()
        if stats["used_memory_data"] < 5 * 1024 * 1024:
            return resp.Verbatim("This instance holds very little data: there is nothing to diagnose.\n")
        if rss > 1.4 * stats["used_memory"]:
            return resp.Verbatim(
                f"Resident memory ({rss} bytes) is well above what is used ({stats['used_memory']} bytes). "
                "If much was deleted just now, MEMORY PURGE returns free pages to the system.\n")
        return resp.Verbatim("No memory problem found: resident memory is close to what is used.\n")

    def memory_stats(self, args, client):
        stats, rss = self.server.stats(), resident_bytes()
        used = stats["used_memory"]
        keys = sum(keys for keys, _ in self.server.keyspace().values())
        dataset = max(0, stats["used_memory_data"])
        peak = max(stats["peak_used_memory"], used)
        return resp.Map({
            "peak.allocated": peak, "total.allocated": used, "startup.allocated": self.info.startup_used,
            "replication.backlog": 0, "clients.slaves": 0, "clients.normal": stats["used_memory_net"],
            "cluster.links": 0, "aof.buffer": 0, "lua.caches": 0, "functions.caches": 0,
            "overhead.total": used - dataset, "keys.count": keys,
            "keys.bytes-per-key": dataset // keys if keys else 0, "dataset.bytes": dataset,
            "dataset.percentage": 100.0 * dataset / max(1, used - self.info.startup_used),
            "peak.percentage": 100.0 * used / max(1, peak), "allocator.allocated": used, "allocator.active": rss,
            "allocator.resident": rss, "allocator-fragmentation.ratio": rss / max(1, used),
            "allocator-fragmentation.bytes": rss - used, "allocator-rss.ratio": 1.0, "allocator-rss.bytes": 0,
            "rss-overhead.ratio": 1.0, "rss-overhead.bytes": 0, "fragmentation": rss / max(1, used),
            "fragmentation.bytes": rss - used})
