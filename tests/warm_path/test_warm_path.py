"""A warm call does not become dearer without anybody's saying so: bytecodes are counted, wall time is not."""

from typing import Final

import pytest

from loadtest.bare import Bare, Size
from loadtest.bytecodes import Bytecodes
from tests.warm_path import PYTHON, counted, recorded

MARGIN: Final = 0.02
"""What may be added before anybody has to say that it is worth it."""


@pytest.fixture(scope="module")
def now() -> dict[str, dict[str, int]]:
    return counted()


def test_it_takes_no_more_than_recorded(now: dict[str, dict[str, int]]) -> None:
    known = recorded()
    if known is None:
        pytest.skip(f"nothing was recorded for Python {PYTHON}: `python -m tests.warm_path` does it")
    dearer = [
        f"{part} takes {count} bytecodes for a warm call when {situation}, {count / was - 1:.1%} more than "
        f"the {was} recorded"
        for situation, parts in now.items()
        for part, count in parts.items()
        if count > (was := known[situation][part]) * (1 + MARGIN)
    ]
    advice = (
        "`python -m loadtest.bytecodes` says which functions they are in. If it is worth it: "
        "`python -m tests.warm_path` records what it is now; commit that with the reason."
    )
    assert not dearer, "\n".join([*dearer, advice])


def test_it_is_the_same_each_time(now: dict[str, dict[str, int]]) -> None:
    """On any machine, however busy."""
    assert counted() == now


@pytest.mark.parametrize(
    ("few", "many", "most"),
    [
        pytest.param(Size(instances=100), Size(instances=10_000), 1.01, id="idle instances"),
        pytest.param(Size(instances=200, workers=1), Size(instances=200, workers=100), 1.03, id="workers"),
        pytest.param(Size(instances=64), Size(instances=64, deployed=1_000), 1.01, id="functions deployed"),
        pytest.param(
            Size(instances=1_000), Size(instances=1_000, functions=1_000), 1.1, id="functions called in turn"
        ),
    ],
)
def test_it_is_flat(few: Size, many: Size, most: float) -> None:
    """A call costs what it costs in a fleet of any size, ticks included."""
    costs = []
    for size in (few, many):
        meter = Bytecodes()
        bare = Bare(size, meter)
        bare.calls(512)
        with meter.counting():
            bare.calls(512)
        costs.append(meter.of_part.total() / 512)
    assert costs[1] < costs[0] * most, f"{costs[0]:.0f} bytecodes a call, and {costs[1]:.0f}"
