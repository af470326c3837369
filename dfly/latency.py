"""LATENCY and INFO latencystats: what the data plane recorded, in the shapes and words of Redis.

Events come as {name: (longest ms, {second: ms})}, histograms as {command: [(shortest us, longest us,
calls)]}, see dfly/_core/engine/latency.pxd. Redis keeps histograms of nanoseconds with 128 steps an octave
up to one second; bounds and percentiles are reported as that would report them, from our 16 steps.
"""

import time

from dfly import resp
from dfly.settings import show_percentile

GRAPH_COLUMNS = 80
GRAPH_ROWS = 4
GRAPH_LEVELS = "_o#"                 # within one row, from low to high; what is below the top is a bar
HISTOGRAM_FIRST_NS = 1024
HISTOGRAM_LAST_NS = 10**9            # what took longer counts as one second

DISABLED = """\
I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. \
You may use "CONFIG SET latency-monitor-threshold <milliseconds>." in order to enable it. \
If we weren't in a deep space mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.
"""
NO_SPIKES = """\
Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest bit. \
I honestly think you ought to sit down calmly, take a stress pill, and think things over.
"""
SPIKES = """\
Dave, I have observed latency spikes in this Redis instance. You don't mind talking about it, do you Dave?

"""
ADVICE_HEAD = "\nI have a few advices for you:\n\n"

SLOWLOG_OFF = """\
- There are latency issues with potentially slow commands you are using. Try to enable the Slow Log Redis \
feature using the command 'CONFIG SET slowlog-log-slower-than {micros}'. If the Slow log is disabled Redis \
is not able to log slow commands execution for you.
"""
SLOWLOG_TUNING = """\
- Your current Slow Log configuration only logs events that are slower than your configured latency monitor \
threshold. Please use 'CONFIG SET slowlog-log-slower-than {micros}'.
"""
SLOWLOG_INSPECT = """\
- Check your Slow Log to understand what are the commands you are running which are too slow to execute. \
Please check https://redis.io/commands/slowlog for more information.
"""
SCHEDULER = """\
- Commands that should be fast are slow: the machine may be overloaded, other processes may take the cores \
of the shard threads, or values are very large.
"""
BUSY_SHARDS = """\
-- Commands over several keys wait for shards that are busy with long commands. SLOWLOG GET names these.
"""
EXPIRES = """\
- Many keys are due at the same time. Spread their times to live, for instance by a random part.
"""
MASS_EVICTION = """\
- Writes evict many keys at once. A sudden change of maxmemory, or values of very different size, have this \
effect; change maxmemory in small steps.
"""
LARGE_OBJECTS = """\
- Deleting, expiring or evicting (because of maxmemory policy) large objects is a blocking operation. \
If you have very large objects that are often deleted, expired, or evicted, try to fragment those objects \
into multiple smaller objects.
"""


def highest_equivalent_ns(value):
    """The largest value that falls into the same step as `value` where an octave has 128 of them."""
    unit = 1 << max(0, value.bit_length() - 8)
    return value // unit * unit + unit - 1


def cumulative(rows):
    """A histogram as Redis shows it: {bound in us: calls up to it}, bounds by powers of two."""
    shown, total, bound, index = {}, 0, HISTOGRAM_FIRST_NS, 0
    while index < len(rows):
        before = total
        while index < len(rows):
            low, high, calls = rows[index]
            if min(HISTOGRAM_LAST_NS, 1000 * (low + high) / 2) > highest_equivalent_ns(bound):
                break
            total += calls
            index += 1
        if total > before:
            shown[highest_equivalent_ns(bound) // 1000] = total
        bound *= 2
    return shown


def percentile(rows, wanted):
    """The duration in us that `wanted` percent of the calls do not exceed; for 0 the shortest."""
    if wanted == 0:
        return rows[0][0]
    rank = max(1, int(wanted / 100 * sum(calls for _, _, calls in rows) + 0.5))
    total = 0
    for _, high, calls in rows:
        total += calls
        if total >= rank:
            return min(high, HISTOGRAM_LAST_NS / 1000)
    return 0


def ago(seconds):
    """The label below a column of the graph."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def columns_of(values, low, high):
    """Each value as its column of GRAPH_ROWS characters, from the top down."""
    steps = len(GRAPH_LEVELS) * GRAPH_ROWS
    columns = []
    for value in values:
        step = min(steps - 1, int((value - low) * steps / (high - low or 1)))
        full, level = divmod(step, len(GRAPH_LEVELS))
        columns.append(" " * (GRAPH_ROWS - 1 - full) + GRAPH_LEVELS[level] + "|" * full)
    return columns


def graph(name, longest, samples, now):
    """LATENCY GRAPH of one event: samples is {second: ms} in order of time."""
    low, high = min(samples.values()), max(samples.values())
    head = f"{name} - high {high} ms, low {low} ms (all time high {longest} ms)"
    text = [head, "\n", "-" * GRAPH_COLUMNS, "\n"]
    columns = columns_of(samples.values(), low, high)
    labels = [ago(now - second) for second in samples]
    for start in range(0, len(columns), GRAPH_COLUMNS):
        part = slice(start, start + GRAPH_COLUMNS)
        depth = max(map(len, labels[part]))
        whole = [column + " " + label.ljust(depth) for column, label in zip(columns[part], labels[part])]
        text.append("\n" if start else "")
        text.extend("".join(row) + "\n" for row in zip(*whole))
    return "".join(text)


def describe_event(number, name, longest, samples, now):
    """One line of the doctor's report."""
    values = list(samples.values())
    average = sum(values) // len(values)
    deviation = sum(abs(average - value) for value in values) // len(values)
    period = (now - min(samples)) / len(values) or 1
    return (f"{number}. {name}: {len(values)} latency spikes (average {average}ms, "
            f"mean deviation {deviation}ms, period {period:.2f} sec). "
            f"Worst all time event {longest}ms.\n")


class Latency:
    """The LATENCY commands; `server` is the data plane's door."""

    def __init__(self, server, settings):
        self.server = server
        self.settings = settings

    def latest(self, args, client):
        rows = []
        for name, (longest, samples) in self.server.latency_events().items():
            second = max(samples)
            rows.append([name, second, samples[second], longest])
        return rows

    def history(self, args, client):
        _, samples = self.server.latency_events().get(args[2], (0, {}))
        return [[second, duration] for second, duration in samples.items()]

    def reset(self, args, client):
        wanted = {word.lower() for word in args[2:]}
        names = [name for name in self.server.latency_events() if not wanted or name in wanted]
        self.server.latency_reset(names)
        return len(names)

    def graph(self, args, client):
        event = self.server.latency_events().get(args[2])
        if event is None:
            return resp.Error(f"ERR No samples available for event '{args[2]}'")
        return resp.Verbatim(graph(args[2], *event, int(time.time())))

    def histogram(self, args, client):
        found = self.server.latency_histograms()
        names = found
        if len(args) > 2:
            names = []
            for word in (word.lower() for word in args[2:]):
                # A command with subcommands stands for all of them.
                names += [name for name in found if name == word or name.startswith(word + "|")]
        return resp.Map({name: resp.Map({
            "calls": sum(calls for _, _, calls in found[name]),
            "histogram_usec": resp.Map(cumulative(found[name]))}) for name in names})

    def percentiles(self):
        """The fields of INFO latencystats."""
        if not self.settings["latency-tracking"]:
            return {}
        wanted = self.settings["latency-tracking-info-percentiles"]
        return {f"latency_percentiles_usec_{name}":
                ",".join(f"p{show_percentile(each)}={percentile(rows, each):.3f}" for each in wanted)
                for name, rows in self.server.latency_histograms().items()}

    def advice(self, events):
        """What could be done about these events, each piece once."""
        threshold = self.settings["latency-monitor-threshold"]
        slowlog = self.settings["slowlog-log-slower-than"]
        pieces = []
        if "command" in events:
            if slowlog < 0 or self.settings["slowlog-max-len"] == 0:
                pieces.append(SLOWLOG_OFF)
            elif slowlog // 1000 > threshold:
                pieces.append(SLOWLOG_TUNING)
            pieces.append(SLOWLOG_INSPECT)
        if "fast-command" in events:
            pieces.append(SCHEDULER)
        if "token-wait" in events:
            pieces.append(BUSY_SHARDS)
        if "expire-cycle" in events:
            pieces.append(EXPIRES)
        if "eviction-cycle" in events:
            pieces.append(MASS_EVICTION)
        if events.keys() & {"command", "expire-cycle", "expire-del", "eviction-del"}:
            pieces.append(LARGE_OBJECTS)
        return "".join(pieces).format(micros=threshold * 1000)

    def doctor(self, args, client):
        events, now = self.server.latency_events(), int(time.time())
        if not events:
            return resp.Verbatim(NO_SPIKES if self.settings["latency-monitor-threshold"] else DISABLED)
        lines = [describe_event(number, name, *event, now)
                 for number, (name, event) in enumerate(events.items(), 1)]
        return resp.Verbatim(SPIKES + "".join(lines) + ADVICE_HEAD + self.advice(events))
