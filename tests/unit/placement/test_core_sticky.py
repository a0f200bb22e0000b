"""Demands with sticky keys: which instance is given, and on which node one is started."""

from dataclasses import replace
from typing import Final

import pytest

from lambent_placement.core import commands as do
from lambent_placement.core import events as on
from lambent_proto.ids import FrontendId
from tests.unit.placement.scheduler_rows import (
    N1,
    N2,
    OTHER,
    F,
    G,
    V,
    decide,
    defined,
    demanded,
    fleet,
    idle,
    instance,
    link,
    ready,
    released,
    started,
    warm,
)

KEY: Final = 7


def keyed(frontend: FrontendId, wanted: int, *keys: int, at: float = 9.0) -> on.Demanded:
    return on.Demanded(frontend, on.Wish(V, wanted, 0.0, keys), at)


def served(serial: int, *keys: int) -> on.KeysServed:
    return on.KeysServed(F, [(instance(serial), key) for key in keys], 8.0)


def given(serial: int, number: int, frontend: FrontendId = F, *, reason: str) -> do.GiveLease:
    """On N2, where the odd ones are."""
    return replace(warm(serial, number, N2 if serial % 2 else N1, frontend), reason=reason)


FOUR: Final[list[on.Event]] = [*fleet(), *idle(1, 2, 3, 4)]
"""Idle ones of f, the odd ones on N2, the fourth one used last."""


ANOTHER: Final[list[on.Event]] = [
    defined(None, OTHER, at=6.0),
    demanded(G, 1, 6.0, version=OTHER),
    ready(5, at=6.5),
    demanded(G, 0, 7.0, version=OTHER),
    released(G, 5, at=7.0),
]
"""One of g on N2, used last of all."""


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(FOUR, keyed(G, 1, KEY), [warm(4, 5, N1, G)], id="a key that nobody knows"),
        pytest.param(
            [*FOUR, served(1, KEY)],
            keyed(G, 1, KEY),
            [given(1, 5, G, reason="sticky_instance")],
            id="the instance that served it last, whichever frontend wants it",
        ),
        pytest.param(
            [*FOUR, served(1, KEY), keyed(F, 1, KEY)],
            keyed(G, 1, KEY),
            [given(3, 6, G, reason="sticky_node")],
            id="while that is held another one on its node",
        ),
        pytest.param(
            [*FOUR, served(1, KEY), served(2, KEY)],
            keyed(G, 1, KEY),
            [given(2, 5, G, reason="sticky_instance")],
            id="the last one counts",
        ),
        pytest.param(
            [*FOUR, served(1, KEY), served(2, 8)],
            keyed(G, 3, 8, KEY),
            [
                given(2, 5, G, reason="sticky_instance"),
                given(1, 6, G, reason="sticky_instance"),
                warm(4, 7, N1, G),
            ],
            id="one for each key, then as without",
        ),
        pytest.param(
            [*FOUR, served(1, KEY), link(G, N2, up=False)],
            keyed(G, 1, KEY),
            [warm(4, 5, N1, G)],
            id="out of the frontend's reach",
        ),
        pytest.param(
            [*FOUR, *ANOTHER, served(1, KEY), keyed(F, 1, KEY)],
            keyed(G, 1, KEY),
            [given(3, 7, G, reason="sticky_node")],
            id="on its node one of the same function",
        ),
        pytest.param(
            [*FOUR, served(1, KEY)], demanded(G, 1, 9.0), [warm(4, 5, N1, G)], id="a demand without a key"
        ),
        pytest.param(
            [*FOUR, served(9, KEY)], keyed(G, 1, KEY), [warm(4, 5, N1, G)], id="an instance that nobody knows"
        ),
        pytest.param(
            [*fleet(), demanded(F, 2), ready(1), ready(2), served(1, KEY)],
            keyed(F, 3, KEY, at=1.0),
            started(3, N2, reason="all_busy"),
            id="a new one is started on its node",
        ),
        pytest.param(
            [*fleet(), demanded(F, 2), ready(1), ready(2), served(2, KEY)],
            keyed(F, 3, KEY, at=1.0),
            started(3, N1, reason="all_busy"),
            id="or on the other, if that one is the key's",
        ),
    ],
)
def test_who_is_given(history: list[on.Event], last: on.Event, expected: list[do.Command]) -> None:
    assert decide(history, last) == expected


def test_what_is_served_changes_nothing_by_itself() -> None:
    """A hint, from whoever it comes."""
    assert decide(FOUR, served(1, KEY)) == []
    assert decide(FOUR, on.KeysServed(FrontendId("nobody@1"), [(instance(1), KEY)], 8.0)) == []
    assert decide([*FOUR, served(1, KEY)], released(F, 1)) == []
