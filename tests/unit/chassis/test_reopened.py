"""How soon a stream is opened again, and how much the log has of it."""

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from lambent_chassis import reopened as module
from lambent_chassis.reopened import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    SAID_AGAIN_S,
    STEADY_S,
    Trouble,
    reopened,
)


def test_a_peer_that_refuses_is_asked_ever_less() -> None:
    """For as long as that goes on; after a stream that was taken it begins anew."""
    trouble = Trouble()
    pauses = [trouble.ended(0.0, "no", at)[0] for at in range(8)]
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    assert trouble.ended(STEADY_S, "lost", 9.0)[0] == FIRST_PAUSE_S


def test_the_log_has_each_reason_once_in_a_while() -> None:
    """Another one at once, the same again after a minute, or after a stream that was taken."""
    trouble = Trouble()
    said = [
        trouble.ended(0.0, "no", 0.0)[1],
        trouble.ended(0.0, "no", 1.0)[1],
        trouble.ended(0.0, "never", 2.0)[1],
        trouble.ended(0.0, "never", 1.0 + SAID_AGAIN_S)[1],
        trouble.ended(0.0, "never", 2.0 + SAID_AGAIN_S)[1],
        trouble.ended(STEADY_S, "never", 3.0 + SAID_AGAIN_S)[1],
    ]
    assert said == [True, False, True, False, True, True]


async def test_one_that_was_lost_is_told_from_one_that_was_never_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However long it took to find out that nobody answers: the time after it was connected counts."""
    now, pauses = [0.0], list[float]()
    monkeypatch.setattr(module, "monotonic_s", lambda: now[0])
    ends = iter([("connected", "gone"), ("never", "nobody"), ("never", "nobody"), ("refused", "not you")])

    async def opened(connected: Callable[[], None]) -> None:
        how, why = next(ends, ("", ""))
        if not how:
            raise asyncio.CancelledError
        if how != "never":
            connected()
        now[0] += 0.0 if how == "refused" else 20.0
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), why)

    async def slept(pause_s: float) -> None:
        pauses.append(pause_s)

    monkeypatch.setattr(asyncio, "sleep", slept)
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await reopened("10.0.0.1:7000", opened)
    assert [(it["event"], it["log_level"], it["reason"].split(".")[0]) for it in logs] == [
        ("placement_lost", "info", "gone"),
        ("placement_not_reached", "warning", "nobody"),
        ("placement_not_reached", "warning", "not you"),
    ]
    assert pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
