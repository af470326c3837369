"""Where replies may differ from the oracle's, and why. Everything else is compared byte for byte.

Two tables, both keyed by command, or by command and subcommand. UNSTEADY: the reply depends on the clock,
on chance or on the order of a hash table; two Redis servers would differ as well. INTENDED: dfly answers
otherwise on purpose; each entry has its line in docs/differences.md.

A normaliser takes the command's arguments and a reply tree and returns what must be equal. It runs only on
replies whose bytes differ.
"""

from .wire import pairs_of

CLOCK_TOLERANCE_MS = 5000


class Near:
    """A number that equals any number close to it; -1 and -2 (no TTL, no key) equal only themselves."""

    def __init__(self, value, tolerance):
        self.value = value
        self.tolerance = tolerance

    def __eq__(self, other):
        if self.value < 0 or other.value < 0:
            return self.value == other.value
        return abs(self.value - other.value) <= self.tolerance

    __hash__ = None

    def __repr__(self):
        return f"about {self.value}"


def near(tolerance):
    def normalise(arguments, tree):
        tag, value = tree
        return (tag, Near(value, tolerance) if tag == ":" else value)

    return normalise


def near_items(tolerance):
    """As near, for each item of an array."""
    one = near(tolerance)

    def normalise(arguments, tree):
        return (tree[0], [one(arguments, item) for item in tree[1]]) if tree[0] == "*" else tree

    return normalise


def unordered(arguments, tree):
    tag, value = tree
    return (tag, sorted(value, key=repr) if isinstance(value, list) else value)


def only_shape(arguments, tree):
    """Tag, and whether it is null; of an array the shapes of its items."""
    tag, value = tree
    if tag in "-!":
        return tree
    if isinstance(value, list) and tag in "*~>":
        return (tag, [only_shape(arguments, item) for item in value])
    return (tag, value is None)


def scan_reply(arguments, tree):
    """A scan over everything at once: the end cursor, and the keys in any order."""
    tag, value = tree
    if tag != "*":
        return tree
    cursor, keys = value
    return (tag, cursor, sorted(keys[1], key=repr))


def pairs_unordered(arguments, tree):
    """Fields with values, in any order."""
    if tree[0] in "-!":
        return tree
    items = tree[1]
    if tree[0] == "*":
        items = list(zip(items[::2], items[1::2], strict=True))
    return (tree[0], sorted(items, key=repr))


def element_scan_reply(arguments, tree):
    """HSCAN over everything at once."""
    tag, value = tree
    if tag != "*":
        return tree
    cursor, elements = value
    return (tag, cursor, pairs_unordered(arguments, elements))


def random_fields(arguments, tree):
    """HRANDFIELD: as many, and with values as many pairs."""
    tag, value = tree
    if tag != "*":
        return only_shape(arguments, tree)
    return (tag, [item[0] for item in value])


def random_members(arguments, tree):
    """ZRANDMEMBER of all members: in any order."""
    tag, value = tree
    if tag != "*":
        return tree
    flat_pairs = len(arguments) > 3 and value and value[0][0] != "*"
    return pairs_unordered(arguments, tree) if flat_pairs else unordered(arguments, tree)


def help_frame(arguments, tree):
    """First and last two lines of a HELP reply, which every container command shares."""
    tag, value = tree
    if tag != "*":
        return tree
    return (tag, value[0], value[-2:])


def flags_unordered(arguments, tree):
    """COMMAND INFO: flags, tips and key specification flags are sets, whatever their order."""
    tag, value = tree
    if not isinstance(value, list):
        return tree
    if value and all(item[0] == "+" for item in value):
        return (tag, sorted(value))
    if tag == "%":
        return (tag, [(key, flags_unordered(arguments, item)) for key, item in value])
    return (tag, [flags_unordered(arguments, item) for item in value])


def hello_fields(arguments, tree):
    """HELLO: the same fields in the same order; server, version and id are each server's own."""
    if tree[0] in "-!":
        return tree
    own = (b"version", b"id")
    return (tree[0], [(key, None if key[1] in own else value) for key, value in pairs_of(tree)])


def pending_range(arguments, tree):
    """XPENDING: how long each entry has been idle."""
    if tree[0] != "*" or not tree[1] or tree[1][0][0] != "*":
        return tree
    idle = near(CLOCK_TOLERANCE_MS)
    return ("*", [(item[0], [*item[1][:2], idle(arguments, item[1][2]), item[1][3]]) for item in tree[1]])


def consumer_list(arguments, tree):
    """XINFO CONSUMERS: idle times; `inactive` came with Redis 7.2."""
    if tree[0] != "*":
        return tree
    idle = near(CLOCK_TOLERANCE_MS)
    consumers = [{key[1]: value for key, value in pairs_of(item)} for item in tree[1]]
    for consumer in consumers:
        consumer[b"idle"] = idle(arguments, consumer[b"idle"])
        consumer.pop(b"inactive", None)
    return consumers


def without(items, *names):
    """A flat list of names and values without these."""
    return [item for place in range(0, len(items), 2) if items[place][1] not in names for item in items[place:][:2]]


PROGRESS = (b"entries-read", b"lag")


def group_list(arguments, tree):
    """XINFO GROUPS: 7.0 counts on where entries are gone; test_stream_lag looks at both fields."""
    if tree[0] != "*":
        return tree
    return [without([item for pair in pairs_of(group) for item in pair], *PROGRESS) for group in tree[1]]


def steady_info(tree):
    """Of XINFO STREAM FULL: without how far groups are, and when consumers were active (since 7.2); times are near."""
    tag, value = tree
    if tag == ":":
        return (tag, Near(value, CLOCK_TOLERANCE_MS) if value > 10**12 else value)
    if tag not in "*%" or value is None:
        return tree
    items = [item for pair in value for item in pair] if tag == "%" else value
    names = [item[1] for item in items[::2]]
    if b"active-time" in names:
        items = without(items, b"active-time")
    elif b"lag" in names:
        items = without(items, *PROGRESS)
    return (tag, [steady_info(item) for item in items])


def stream_info(arguments, tree):
    return steady_info(tree) if len(arguments) > 3 else tree


UNSTEADY = {
    "TTL": near(CLOCK_TOLERANCE_MS // 1000),
    "PTTL": near(CLOCK_TOLERANCE_MS),
    "EXPIRETIME": near(CLOCK_TOLERANCE_MS // 1000),
    "PEXPIRETIME": near(CLOCK_TOLERANCE_MS),
    "HTTL": near_items(CLOCK_TOLERANCE_MS // 1000),
    "HPTTL": near_items(CLOCK_TOLERANCE_MS),
    "HEXPIRETIME": near_items(CLOCK_TOLERANCE_MS // 1000),
    "HPEXPIRETIME": near_items(CLOCK_TOLERANCE_MS),
    "KEYS": unordered,
    "SCAN": scan_reply,
    "SMEMBERS": unordered,
    "SINTER": unordered,
    "SUNION": unordered,
    "SDIFF": unordered,
    "SSCAN": scan_reply,
    "SPOP": unordered,
    "SRANDMEMBER": only_shape,
    "RANDOMKEY": only_shape,
    "HGETALL": pairs_unordered,
    "HKEYS": unordered,
    "HVALS": unordered,
    "HSCAN": element_scan_reply,
    "XPENDING": pending_range,
    "ZSCAN": element_scan_reply,
    "ZRANDMEMBER": random_members,
    "HRANDFIELD": random_fields,
    "TIME": only_shape,
    "LASTSAVE": only_shape,
    "OBJECT IDLETIME": near(5),
    "OBJECT FREQ": near(255),
    "MEMORY USAGE": only_shape,
    "CLIENT ID": only_shape,
    "CONFIG GET": unordered,
    "COMMAND": unordered,
    "COMMAND LIST": unordered,
    "COMMAND INFO": flags_unordered,
    "COMMAND GETKEYSANDFLAGS": flags_unordered,
}

INTENDED = {
    "HELLO": hello_fields,
    "CLIENT HELP": help_frame,
    "COMMAND HELP": help_frame,
    "CONFIG HELP": help_frame,
    "DEBUG HELP": help_frame,
    "LATENCY HELP": help_frame,
    "MEMORY HELP": help_frame,
    "OBJECT HELP": help_frame,
    "SLOWLOG HELP": help_frame,
    "XGROUP HELP": help_frame,
    "XINFO HELP": help_frame,
    "XINFO CONSUMERS": consumer_list,
    "XINFO GROUPS": group_list,
    "XINFO STREAM": stream_info,
}


def normaliser_of(arguments):
    names = [argument.decode("latin-1").upper() for argument in arguments[:2]]
    for table in (INTENDED, UNSTEADY):
        for name in (" ".join(names), names[0] if names else ""):
            if name in table:
                return table[name]
    return None


def replies_agree(arguments, expected, actual):
    """Whether two replies to one command are the same, or differ only as the tables allow."""
    if expected.raw == actual.raw:
        return True
    normalise = normaliser_of(arguments)
    return normalise is not None and normalise(arguments, expected.tree) == normalise(arguments, actual.tree)
