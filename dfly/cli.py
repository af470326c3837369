"""The command line: `dfly [redis.conf] [--flag value]`.

Flags have Dragonfly's spelling (--proactor_threads) or Redis' (--maxmemory-policy); both work. Order of
precedence: configuration file, environment (DFLY_<flag>), command line.
"""

import logging
import os
import sys
import textwrap

from dfly.settings import SETTINGS, ConfigError, Settings, find
from dfly.version import REDIS_VERSION, __version__

SWITCH_INTERVAL_S = 0.0005
TOOLS = ("check", "convert")      # words that are no configuration file

USAGE = """\
Usage: dfly [redis.conf | -] [--flag value | --flag=value | --noflag] ...
       dfly check FILE                      validate and describe a snapshot
       dfly convert IN OUT [--shards N]     copy a snapshot into the other layout

An in-memory data store that speaks the Redis protocol and uses every core.
"-" reads the configuration from standard input. DFLY_<flag> in the environment sets a flag too.

  --help, --version

Settings (both spellings, maxmemory-policy and maxmemory_policy, work everywhere):
"""


def usage():
    """The help text, from the registry."""
    lines = [USAGE]
    for setting in SETTINGS:
        if setting.hidden:
            continue
        shown = setting.show(setting.default)
        head = f"  --{setting.name}"
        text = f"{setting.help} (default: {shown or 'empty'}{'' if setting.mutable else '; fixed at start'})"
        lines.append(textwrap.fill(text, 100, initial_indent=f"{head:<36}", subsequent_indent=" " * 36))
    return "\n".join(lines)


def parse_arguments(arguments, settings):
    """Reads flags; returns "help", "version" or None. ConfigError if one is wrong."""
    flags, paths = [], []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            return "help"
        if word in ("--version", "-v"):
            return "version"
        if word == "-" or not word.startswith("-"):
            paths.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        setting = find(name)
        if setting is None and name.startswith("no") and find(name[2:]) is not None \
                and find(name[2:]).kind == "bool":
            name, value = name[2:], "no"
        elif not equals:
            if setting is not None and setting.kind == "bool" and (not rest or rest[0].startswith("--")):
                value = "yes"
            elif not rest:
                raise ConfigError(f"'--{name}' needs a value")
            else:
                value = rest.pop(0)
                while setting is not None and setting.kind == "rules" and rest and rest[0].isdigit():
                    value += " " + rest.pop(0)
        flags.append((name, value))
    if len(paths) > 1:
        raise ConfigError(f"more than one configuration file: {', '.join(paths)}")
    for path in paths:
        if path == "-":
            settings.load_lines(sys.stdin.readlines(), "standard input")
        else:
            settings.load_file(path)
    settings.load_environment(os.environ)
    for name, value in flags:
        try:
            settings.set_text(name, value)
        except ConfigError as error:
            raise ConfigError(f"--{name} {value}: {error}") from None
    return None


def configure_log(settings):
    """Log lines in Redis' shape: pid, time, level mark, text."""
    handler = logging.StreamHandler(sys.stdout)
    if settings["logfile"] and not settings["logtostdout"]:
        handler = logging.FileHandler(settings["logfile"])
    formatter = logging.Formatter("%(process)d %(asctime)s.%(msecs)03d %(mark)s %(message)s", "%d %b %Y %H:%M:%S")
    marks = {"DEBUG": ".", "INFO": "*", "WARNING": "#", "ERROR": "#", "CRITICAL": "#"}

    def mark(record):
        record.mark = marks[record.levelname]
        return True

    handler.addFilter(mark)
    handler.setFormatter(formatter)
    logger = logging.getLogger("dfly")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel({"debug": logging.DEBUG, "verbose": logging.INFO, "notice": logging.INFO,
                     "warning": logging.WARNING}[settings["loglevel"]])


def main(arguments=None):
    """Entry point; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in TOOLS:
        from dfly import tools
        return tools.main(words)
    settings = Settings()
    try:
        wanted = parse_arguments(words, settings)
    except ConfigError as error:
        print(f"dfly: {error}", file=sys.stderr)
        return 1
    if wanted == "help":
        print(usage())
        return 0
    if wanted == "version":
        print(f"dfly {__version__} (Redis protocol and commands as of {REDIS_VERSION})")
        return 0
    configure_log(settings)
    import gc

    from dfly.server import Process
    gc.disable()
    # A shard thread that enters its fiber phase waits for the GIL, and its clients with it.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        process = Process(settings)
        gc.freeze()
        return process.run()
    except (ConfigError, OSError) as error:
        print(f"dfly: {error}", file=sys.stderr)
        return 1
