"""List commands on real shards, without a server: replies and notifications as Redis has them, memory that
comes back."""

import pytest
from compat.arguments import examples
from compat.differential import resolve
from compat.test_lists import CHANGE, MOVE, POP, PUSH, PUSH_IF, PUSH_MANY, READ
from hypothesis import given
from hypothesis import strategies as st

from dfly._core.testing.commands_testing import Shards

COMMANDS = [*PUSH, *PUSH, *PUSH_MANY, *PUSH_IF, *POP, *READ, *CHANGE, *MOVE]


@examples(150)
@given(sequence=st.lists(st.one_of(*COMMANDS), max_size=20), shard_count=st.sampled_from([1, 2, 5]))
def test_lists_like_redis(oracle, sequence, shard_count):
    shards = Shards(shard_count)
    oracle.client.command("FLUSHALL")
    for line in resolve(sequence):
        reply, events = shards.execute(line)
        expected_reply, expected_events = oracle.execute(line)
        events = [(event, key) for _class, event, key in events]
        assert (line, reply, events) == (line, expected_reply, expected_events)


@pytest.mark.parametrize("shard_count", [1, 4])
def test_memory_comes_back(shard_count):
    """Cycles that leave nothing behind: the shards' memory after the second is that after the last."""
    shards = Shards(shard_count)
    seen = []
    for _cycle in range(8):
        for key in (b"a", b"b", b"c"):
            shards.execute([b"RPUSH", key, *(b"element %d" % number for number in range(3000)), b"L" * 20000])
            shards.execute([b"LSET", key, b"10", b"M" * 30000])
            shards.execute([b"LINSERT", key, b"BEFORE", b"element 99", b"between"])
            shards.execute([b"COPY", key, b"copy"])
            shards.execute([b"LREM", b"copy", b"0", b"element 7"])
            shards.execute([b"LMOVE", key, b"copy", b"RIGHT", b"LEFT"])
            shards.execute([b"RENAME", b"copy", b"renamed"])
            shards.execute([b"LTRIM", b"renamed", b"100", b"-100"])
            shards.execute([b"LPOP", key, b"1000"])
            shards.execute([b"LMPOP", b"2", b"none", key, b"RIGHT", b"COUNT", b"5000"])
        shards.execute([b"SET", b"renamed", b"x"])
        shards.execute([b"DEL", b"a", b"b", b"c", b"renamed"])
        seen.append(shards.used_bytes())
    assert len(set(seen[1:])) == 1
