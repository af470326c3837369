"""Geo commands against Redis: searches of every size and place, with the order of results that are not sorted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .arguments import command, examples, keys, modes, protocols, sequences
from .party import play
from .scripts import run_scripts
from .test_notifications import steps_with

longitudes = st.one_of(st.sampled_from([0, 180, -180, 179.999, -179.999, 13.361389]), st.floats(-180, 180))
latitudes = st.one_of(st.sampled_from([0, 85.05112878, -85.05112878, 70.5, -81.25, 38.115556]), st.floats(-85, 85))
points = st.tuples(longitudes, latitudes).map(lambda point: tuple(b"%.9f" % each for each in point))
names = st.integers(0, 30).map(lambda number: b"m%d" % number)
members = st.lists(st.tuples(points, names), min_size=1, max_size=6).map(
    lambda drawn: tuple(word for point, name in drawn for word in (*point, name)))
units = st.sampled_from([b"m", b"km", b"mi", b"ft"])
sizes = st.one_of(st.sampled_from([0, 1, 100, 5000, 20000]), st.floats(0, 8000)).map(lambda size: b"%.3f" % size)
centers = st.one_of(points.map(lambda point: (b"FROMLONLAT", *point)), names.map(lambda name: (b"FROMMEMBER", name)))
extents = st.one_of(st.tuples(st.just(b"BYRADIUS"), sizes, st.just(b"km")),
                    st.tuples(st.just(b"BYRADIUS"), sizes, units),
                    st.tuples(st.just(b"BYBOX"), sizes, sizes, st.just(b"km")))
choices = st.lists(st.sampled_from([(b"ASC",), (b"DESC",), (b"WITHDIST",), (b"WITHHASH",), (b"WITHCOORD",),
                                    (b"COUNT", b"3"), (b"COUNT", b"2", b"ANY")]), max_size=3).map(
    lambda drawn: tuple(word for option in drawn for word in option))
COMMANDS = [
    command("GEOADD", keys, members), command("GEOADD", keys, members),
    command("GEOADD", keys, st.sampled_from([(b"NX",), (b"XX",), (b"CH",)]), members),
    *[command("GEOSEARCH", keys, centers, extents, choices)] * 3,
    command("GEOSEARCHSTORE", keys, keys, centers, extents, st.sampled_from([(), (b"STOREDIST",), (b"COUNT", b"2")])),
    command("GEORADIUS", keys, points, sizes, units, choices),
    command("GEORADIUSBYMEMBER", keys, names, sizes, units, choices),
    command("GEODIST", keys, names, names, units), command("GEOPOS", keys, names), command("GEOHASH", keys, names),
    command("ZREM", keys, names),
]
WORLD = [("GEOADD", "a", *(word for number in range(31) for word in
                           (-180 + number * 11.7, -84 + (number * 37) % 168, f"m{number}")))]


@examples(200)
@given(sequence=sequences(*COMMANDS), protocol=protocols, mode=modes)
def test_sequences(duel, sequence, protocol, mode):
    duel.run([*WORLD, *sequence], protocol, mode)


@pytest.mark.parametrize("protocol", [2, 3])
def test_scripts(duel, protocol):
    run_scripts(duel, "geo", protocol)


def test_events(subject, redis_server):
    steps = steps_with("KEA", [*WORLD, ("GEOADD", "a", 1, 1, "m1"),
                               ("GEOSEARCHSTORE", "d", "a", "FROMLONLAT", 1, 1, "BYRADIUS", 3000, "km"),
                               ("GEORADIUS", "a", 1, 1, 3000, "km", "STORE", "e"),
                               ("GEORADIUS", "none", 1, 1, 3000, "km", "STORE", "e")])
    assert play(subject, steps, w=2, l=3) == play(redis_server, steps, w=2, l=3)
