"""Which shard a function belongs to, what part of a number each has, and how many shards a fleet may have."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent_proto import keys
from lambent_proto.ids import FunctionName, NodeId
from lambent_proto.shards import MOST_SHARDS, Shard, WrongShards, check, shard_of, too_late

FIXED = [
    ("f", (0, 0, 2, 10)),
    ("echo", (0, 2, 6, 30)),
    ("report", (0, 1, 4, 28)),
    ("billing-nightly", (1, 0, 3, 35)),
    ("A", (1, 0, 1, 57)),
    ("a" * 64, (1, 2, 5, 45)),
]
"""For 2, 3, 8 and 64 shards. With other answers a release would have a function in two shards at once."""


@pytest.mark.parametrize(("name", "expected"), FIXED)
def test_the_hash_never_changes(name: str, expected: tuple[int, ...]) -> None:
    """Not with the release, the machine, or the seed of Python's own hash."""
    assert tuple(shard_of(FunctionName(name), shards) for shards in (2, 3, 8, 64)) == expected


def test_functions_are_shared_out_evenly() -> None:
    """Names that differ in a number alone too: each of eight shards has 9 to 16 in a hundred of them."""
    counts = Counter(shard_of(FunctionName(f"service-{number}"), 8) for number in range(4000))
    assert len(counts) == 8
    assert all(360 <= count <= 640 for count in counts.values())


@given(name=st.text(min_size=1, max_size=64), shards=st.integers(1, MOST_SHARDS))
def test_one_shard_owns_a_function(name: str, shards: int) -> None:
    function = FunctionName(name)
    owners = [number for number in range(shards) if Shard(number, shards).owns(function)]
    assert owners == [shard_of(function, shards)]


@given(whole=st.integers(0, 1_000_000), shards=st.integers(1, MOST_SHARDS))
def test_shares_are_equal_and_together_the_whole(whole: int, shards: int) -> None:
    """The remainder goes to the first ones."""
    parts = [Shard(number, shards).share(whole) for number in range(shards)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True)


@pytest.mark.parametrize(("number", "of"), [(-1, 2), (2, 2), (1, 1), (0, 0)])
def test_a_shard_that_is_not_there(number: int, of: int) -> None:
    with pytest.raises(ValueError, match="there is no shard"):
        Shard(number, of)


def test_another_number_is_refused_and_the_error_says_what_to_do() -> None:
    check(b"2", 2)
    with pytest.raises(WrongShards, match=r"has 2 shards.* is 3: give it 2 .*stop every part"):
        check(b"2", 3)
    with pytest.raises(WrongShards, match=r"has 1 shard, .*/lambent/shards"):
        check(b"1", 3)
    with pytest.raises(WrongShards, match=r"parts of it run.*cannot have 3: stop every part"):
        check(None, 3)


def test_keys_of_shards_stay_apart() -> None:
    """The first has those of a fleet that is not shared out; no prefix of one holds a key of another."""
    node = NodeId("worker-1@ab12")
    assert (keys.nodes(0), keys.leader(0), keys.epoch(0)) == (keys.NODES, keys.LEADER, keys.EPOCH)
    own = [(keys.node(it, node), keys.leader(it), keys.epoch(it)) for it in range(MOST_SHARDS)]
    assert len({key for some in own for key in some}) == 3 * MOST_SHARDS
    for shard in range(MOST_SHARDS):
        held = [it for it, (key, _, _) in enumerate(own) if key.startswith(keys.nodes(shard))]
        assert held == [shard]
        assert keys.node_of_key(own[shard][0]) == node


def test_what_makes_it_too_late_is_every_key_under_a_lease() -> None:
    """A fleet that runs may say that it is one shard, unless there are others."""
    assert keys.nodes(5).startswith(too_late(1))
    assert not keys.nodes(0).startswith(too_late(1))
    for key in (keys.nodes(0), keys.leader(0), keys.nodes(5), keys.leader(5), keys.FRONTENDS):
        assert key.startswith(too_late(2))
    assert not keys.epoch(5).startswith(too_late(2)), "it outlives the parts"
