"""Running a shadow beside the live scheduler: later, and at its own risk."""

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from lambent_placement import shadow as module
from lambent_placement.core import events as on
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.shadow import Noted, Shadow, shadow_epoch
from lambent_placement.driver import Driver, Leading
from lambent_placement.settings import PlacementSettings
from lambent_placement.shadow import TURN, ShadowRun
from lambent_proto.ids import Epoch
from tests.unit.placement.scheduler_rows import N1, F, demanded, fleet

FOR_EVER = float("inf")


class Later:
    """Of an event loop: what is to be called in its next turn."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def __call__(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Broken(Shadow):
    """Breaks with the first tick."""

    def see(self, what: Noted) -> None:
        if isinstance(what.event, on.Tick):
            raise KeyError("lost")
        super().see(what)


class Beside:
    def __init__(self, kind: type[Shadow] = Shadow) -> None:
        self.later = Later()
        self.run = ShadowRun(kind(Scheduler(shadow_epoch(Epoch(1)))), self.later)
        leading = Leading(Epoch(1), lambda: FOR_EVER)
        self.driver = Driver(leading, Scheduler(Epoch(1)), self.run)

    def feed(self, *events: on.Event) -> None:
        for event in events:
            self.driver.feed(event)


def test_it_looks_at_events_in_later_turns() -> None:
    """None before what is sent now was sent, and a few at a time."""
    beside = Beside()
    beside.feed(*(on.Tick(1.0 + number) for number in range(TURN + 1)))
    assert beside.run.report().counted_s == 0
    assert len(beside.later.calls) == 1
    beside.later.turn()
    assert beside.run.report().counted_s == TURN - 1
    beside.later.turn()
    assert beside.run.report().counted_s == TURN
    assert beside.later.calls == []
    beside.feed(on.Tick(50.0))
    assert len(beside.later.calls) == 1


def test_both_are_reported() -> None:
    beside, core = Beside(), Scheduler(Epoch(1))
    for event in (*fleet(), demanded(F, 1, 1.0)):
        beside.run.take(event, core.handle(event), core.books)
    while beside.later.calls:
        beside.later.turn()
    report = beside.run.report()
    assert (report.state, report.reason) == ("running", "")
    assert report.live.starts == report.own.starts == {"no_instance": 1}


def test_a_fault_in_it_ends_it_alone() -> None:
    """The live scheduler goes on; the report says why there is no more, and the log."""
    beside = Beside(Broken)
    with capture_logs() as logs:
        beside.feed(*fleet(), on.Tick(1.0), on.Tick(2.0))
        beside.later.turn()
        beside.feed(on.Tick(3.0))
        beside.later.turn()
    assert [(line["event"], line["reason"]) for line in logs if line["log_level"] == "error"] == [
        ("shadow_failed", "KeyError('lost')")
    ]
    assert (beside.run.report().state, beside.run.report().reason) == ("failed", "KeyError('lost')")
    assert not beside.driver.over
    assert beside.driver.core.books.nodes[N1].connected
    assert beside.later.calls == []


def test_one_that_does_not_keep_up_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    beside = Beside()
    beside.feed(*(on.Tick(float(number)) for number in range(1, 6)))
    assert beside.run.report().reason == "it does not keep up: 4 events wait"
    beside.later.turn()
    assert beside.run.report().counted_s == 0


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ("keep_alive=histogram", "starts=1000, keep_alive=histogram, keep_alive_s=5, new_instances=spread"),
        (
            "keep_alive_s=0.5, new_instances=pack",
            "starts=1000, keep_alive=fixed, keep_alive_s=0.5, new_instances=pack",
        ),
        ("", None),
    ],
)
def test_what_is_different_in_a_shadow(
    given: str, policy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is as it is in the live policy."""
    monkeypatch.setenv("LAMBENT_SHADOW", given)
    settings = PlacementSettings(etcd=["e:1"], keep_alive_s=5.0)
    assert (None if settings.shadow_policy is None else str(settings.shadow_policy)) == policy


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("keep=fixed", "'keep=fixed' is not KEY=VALUE with one of the keys starts, keep_alive"),
        ("keep_alive", "'keep_alive' is not KEY=VALUE"),
        ("keep_alive=best", "keep_alive: input should be 'fixed', 'greedy-dual' or 'histogram'"),
        ("keep_alive_s=-1", "keep_alive_s: input should be greater than or equal to 0"),
    ],
)
def test_shadows_that_there_are_not(given: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PlacementSettings(etcd=["e:1"], shadow=[given])
