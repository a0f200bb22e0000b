"""Which version a call of an alias runs, and how many instances of each version are to be ready."""

import pytest

from lambent_proto.versions import Alias, provisioned_of

SPLIT = Alias(name="live", version="2", weights={"3": 0.25})


@pytest.mark.parametrize(("chance", "version"), [(0.0, "3"), (0.249, "3"), (0.25, "2"), (0.999, "2")])
def test_an_alias_shares_its_calls_out(chance: float, version: str) -> None:
    """A quarter to the one, the rest to the other."""
    assert SPLIT.pick(chance) == version


@pytest.mark.parametrize(("share", "version"), [(0.0, "2"), (1.0, "3")])
def test_all_or_nothing(share: float, version: str) -> None:
    alias = Alias(name="live", version="2", weights={"3": share})
    assert {alias.pick(chance) for chance in (0.0, 0.5, 0.999)} == {version}


@pytest.mark.parametrize(
    ("wanted", "counts"),
    [
        ({}, {}),
        ({"1": 4}, {"1": 4}),
        ({"live": 4}, {"2": 3, "3": 1}),
        ({"live": 1}, {"2": 1}),
        ({"live": 2}, {"2": 1, "3": 1}),
        ({"whole": 10}, {"2": 10}),
        ({"moved": 10}, {"4": 10}),
        ({"tenth": 10}, {"2": 9, "3": 1}),
        ({"1": 1, "whole": 2, "live": 4}, {"1": 1, "2": 5, "3": 1}),
    ],
)
def test_what_is_to_be_ready(wanted: dict[str, int], counts: dict[str, int]) -> None:
    """An alias's is shared out by its weights, and is no more than was asked for."""
    aliases = {
        "live": SPLIT,
        "whole": Alias(name="whole", version="2"),
        "moved": Alias(name="moved", version="2", weights={"4": 1.0}),
        "tenth": Alias(name="tenth", version="2", weights={"3": 0.1}),
    }
    assert provisioned_of(wanted, aliases) == counts


def test_an_alias_of_a_newer_release() -> None:
    """What is not known of it is left out."""
    import msgpack

    value = msgpack.unpackb(SPLIT.encode()) | {"headers": 1}
    assert Alias.decode(msgpack.packb(value)) == SPLIT
