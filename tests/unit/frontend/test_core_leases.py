"""How leases come and go: linger, recall, void, links, placement's coming and going, new versions."""

import pytest

from lambent_frontend.core import events as on
from lambent_frontend.core import throttles
from lambent_frontend.core.commands import (
    AnswerRecall,
    Attach,
    Command,
    Demand,
    Finish,
    Outcome,
    ReportLink,
    Unlink,
)
from lambent_frontend.core.dispatcher import Dispatcher
from lambent_proto.ids import NodeId
from tests.unit.frontend.dispatcher_rows import (
    CONNECTED,
    DELETED,
    N1,
    N2,
    V,
    W,
    answered,
    arrived,
    decide,
    dispatch,
    finish,
    given,
    leases,
    ready,
    recalled,
    refused,
    release,
    starting,
    voided,
)

N3 = NodeId("n3@1")
REPLACED = on.VersionReplaced(V, W, None, 1.0)


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param([given("i1")], on.Tick(0.09), [], id="an idle lease lingers"),
        pytest.param([given("i1")], on.Tick(0.1), [release(("i1", 1))], id="then it is released"),
        pytest.param(
            [given("i1"), given("i2", 2, 0.08)],
            on.Tick(0.12),
            [release(("i1", 1))],
            id="only what has been idle for too long is released",
        ),
        pytest.param(
            [arrived("r1"), given("i1"), answered("i1", "r1", 1.0)],
            on.Tick(1.1),
            [Demand(V, 0, 0.0), release(("i1", 1))],
            id="the demand is lowered before the release",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), answered("i1", "r1", 1.0)],
            on.Tick(1.09),
            [],
            id="an event starts the linger anew",
        ),
        pytest.param(
            [given("i1", 2)], given("i1", 1), [], id="a lease older than the one held is not a new one"
        ),
        pytest.param(
            [given("i1", 2), given("i1", 1)],
            arrived("r1"),
            [dispatch("i1", "r1", 2)],
            id="a lease older than the one held is not used",
        ),
        pytest.param(
            [given("i1"), arrived("r1")], given("i1"), [], id="a lease given twice is not a second instance"
        ),
        pytest.param(
            [given("i1"), given("i1", 2)],
            arrived("r1"),
            [dispatch("i1", "r1", 2)],
            id="a newer lease takes the place of an idle one",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2")],
            given("i1", 2),
            [release(("i1", 2), sure=False)],
            id="a newer lease on an instance that still runs our event is given back unsure",
        ),
        pytest.param(
            [given("i1", node=N3)],
            arrived("r1"),
            [Demand(V, 1, 0.0)],
            id="a lease on a node without a link is ignored",
        ),
        pytest.param([starting("i1")], ready("i1", 2), [], id="ready under another number has no effect"),
        pytest.param(
            [starting("i1"), ready("i1", 2)],
            arrived("r1"),
            [],
            id="an instance ready under another number is not used",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), starting("i1"), ready("i1")],
            ready("i1"),
            [],
            id="ready twice counts once",
        ),
        pytest.param(
            [starting("i1")], on.Tick(5.0), [], id="a lease on a starting instance does not linger away"
        ),
    ],
)
def test_a_lease(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """A lease is kept while there is work and for a linger; old, doubled and unreachable ones are ignored."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [given("i1"), given("i2", 2)],
            recalled(1),
            [AnswerRecall(V, leases(("i1", 1)))],
            id="an idle one goes back at once, the least recently used",
        ),
        pytest.param(
            [given("i1"), given("i2", 2)],
            recalled(2),
            [AnswerRecall(V, leases(("i1", 1), ("i2", 2)))],
            id="as many as asked for",
        ),
        pytest.param(
            [arrived("r1"), given("i1"), answered("i1", "r1")],
            recalled(1),
            [Demand(V, 0, 0.0), AnswerRecall(V, leases(("i1", 1)))],
            id="the demand is lowered before the answer",
        ),
        pytest.param(
            [given("i1"), arrived("r1")],
            recalled(1),
            [AnswerRecall(V, [])],
            id="nothing idle is an answer too",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2"), recalled(1)],
            answered("i1", "r1", 2.0),
            [finish("r1", Outcome.ANSWERED), Demand(V, 1, 2.0), release(("i1", 1))],
            id="the rest goes back as it becomes free, before our own line",
        ),
        pytest.param(
            [recalled(1), arrived("r1"), arrived("r2")],
            given("i1", at=1.0),
            [dispatch("i1", "r1", reason="most_recently_used", waited_s=1.0)],
            id="what has served nobody yet serves one call before it goes back",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2", 0.5), recalled(1), recalled(0)],
            answered("i1", "r1", 2.0),
            [finish("r1", Outcome.ANSWERED), dispatch("i1", "r2", reason="idle_lease", waited_s=1.5)],
            id="a recall taken back is owed no more",
        ),
        pytest.param([given("i1")], recalled(0), [], id="the end of a recall needs no answer"),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2", 0.5), recalled(1), on.PlacementLost()],
            answered("i1", "r1", 2.0),
            [finish("r1", Outcome.ANSWERED), dispatch("i1", "r2", reason="idle_lease", waited_s=1.5)],
            id="nothing is owed to a placement that is gone",
        ),
    ],
)
def test_a_recall(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """Others wait: idle leases go back at once, busy ones after their event."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [given("i1"), voided("i1")], arrived("r1"), [Demand(V, 1, 0.0)], id="a void lease is not used"
        ),
        pytest.param(
            [given("i1", 2), voided("i1", 1)],
            arrived("r1"),
            [dispatch("i1", "r1", 2)],
            id="the end of an older lease does not end this one",
        ),
        pytest.param(
            [given("i1"), arrived("r1")],
            voided("i1"),
            [],
            id="void while it runs: the answer may still come",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1")],
            answered("i1", "r1", 2.0),
            [finish("r1", Outcome.ANSWERED)],
            id="void while it runs: the answer counts",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1"), answered("i1", "r1", 2.0)],
            arrived("r2", 3.0),
            [Demand(V, 1, 0.0)],
            id="void while it runs: no other event follows there",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1")],
            refused("i1", "r1"),
            [Demand(V, 1, 1.0)],
            id="void and then refused: it waits again, and there is nothing to give back",
        ),
        pytest.param(
            [given("i1"), arrived("r1")],
            voided("i1", node_lost=True),
            [finish("r1", Outcome.LOST, "its node is gone (gone)")],
            id="the node is lost while it runs: so is the call",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1")],
            voided("i1", node_lost=True),
            [finish("r1", Outcome.LOST, "its node is gone (gone)")],
            id="void first, then the node is lost: so is the call",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1", node_lost=True)],
            answered("i1", "r1", 2.0),
            [],
            id="an answer from a lost node has no effect",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), starting("i1")],
            voided("i1", error=b"{}"),
            [finish("r1", Outcome.INIT_FAILED, error=b"{}")],
            id="a failed initialisation costs one call, the oldest",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), starting("i1"), voided("i1", error=b"{}"), on.Tick(1.05)],
            on.Tick(1.1),
            [Demand(V, 1, 1.1)],
            id="after a failed initialisation the others are still wanted",
        ),
        pytest.param([starting("i1")], voided("i1", error=b"{}"), [], id="it may cost nobody"),
        pytest.param(
            [arrived("r1"), starting("i1")],
            voided("i1"),
            [],
            id="a start that failed through no fault of the function costs no call",
        ),
    ],
)
def test_a_void_lease(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """A lease ends without our doing: what runs there is kept, lost or failed by what has happened."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param([], on.LinkUp(N3), [ReportLink(N3, True)], id="placement hears of a new link"),
        pytest.param([on.PlacementLost()], on.LinkUp(N3), [], id="nobody hears while placement is away"),
        pytest.param(
            [given("i1"), given("i2", 2, node=N2), arrived("r1")],
            on.LinkDown(N2, 1.0),
            [
                ReportLink(N2, False),
                finish("r1", Outcome.LOST, "the connection to its node broke"),
                release(("i2", 2), sure=False),
            ],
            id="a broken link loses the call that runs there, and its lease goes back unsure",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1")],
            on.LinkDown(N1, 2.0),
            [ReportLink(N1, False), finish("r1", Outcome.LOST, "the connection to its node broke")],
            id="a void lease has gone back already",
        ),
        pytest.param(
            [given("i1"), on.PlacementLost()],
            on.LinkDown(N1, 1.0),
            [],
            id="with placement away nobody hears of a broken link; the next attachment says it",
        ),
        pytest.param(
            [given("i1"), given("i2", 2, node=N2), arrived("r1"), on.LinkDown(N2, 1.0)],
            arrived("r2", 2.0),
            [dispatch("i1", "r2")],
            id="a broken link leaves what is on other nodes alone",
        ),
        pytest.param(
            [given("i1"), on.LinkDown(N1, 1.0), on.LinkUp(N1)],
            arrived("r1", 2.0),
            [Demand(V, 1, 0.0)],
            id="a link that came back brings no lease back",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2"), on.LinkDown(N1, 1.0)],
            given("i2", 2, 2.0, node=N2),
            [dispatch("i2", "r2", 2, node=N2, waited_s=2.0)],
            id="a call that waits outlives a broken link",
        ),
        pytest.param(
            [given("i1"), given("i2", 2, node=N2)],
            on.WorkerLeaves(N2, 1.0),
            [ReportLink(N2, False), release(("i2", 2), sure=False), Unlink(N2)],
            id="a worker that leaves and owes nothing is unlinked at once, and its leases go back",
        ),
        pytest.param(
            [given("i1"), arrived("r1")],
            on.WorkerLeaves(N1, 1.0),
            [ReportLink(N1, False), release(("i1", 1), sure=False)],
            id="one that still owes an answer is not",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), on.WorkerLeaves(N1, 1.0)],
            refused("i1", "r1", 2.0, "gone"),
            [Demand(V, 1, 2.0), Unlink(N1)],
            id="what was sent to it comes back and waits, and nothing is due there any more",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), on.WorkerLeaves(N1, 1.0)],
            answered("i1", "r1", 2.0),
            [finish("r1", Outcome.ANSWERED), Unlink(N1)],
            id="a late answer of its is welcome",
        ),
        pytest.param(
            [arrived("r1"), on.WorkerLeaves(N1, 1.0)],
            given("i1", at=2.0),
            [],
            id="a lease on it that was under way is of no use",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), on.WorkerLeaves(N1, 1.0), on.LinkDown(N1, 1.5)],
            on.Tick(2.0),
            [],
            id="one whose link broke meanwhile is not unlinked from",
        ),
        pytest.param([on.WorkerLeaves(N1, 1.0)], on.WorkerLeaves(N1, 2.0), [], id="it leaves once"),
        pytest.param(
            [given("i1"), arrived("r1"), starting("i2", 2), arrived("r2", 0.2), on.PlacementLost()],
            on.PlacementAttached(1.0),
            [Attach(leases(("i1", 1), ("i2", 2)), [Demand(V, 2, 0.8)], [N1, N2])],
            id="a new placement hears all that is held, wanted and in reach",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), voided("i1"), given("i2", 2), on.LinkDown(N2, 0.5)],
            on.PlacementAttached(1.0),
            [Attach(leases(("i2", 2)), [], [N1])],
            id="a new placement hears nothing of void leases and broken links",
        ),
        pytest.param(
            [on.PlacementLost(), given("i1"), arrived("r1")],
            answered("i1", "r1"),
            [finish("r1", Outcome.ANSWERED)],
            id="warm instances serve while placement is away",
        ),
        pytest.param(
            [arrived("r1"), on.PlacementLost(), on.PlacementAttached(0.5)],
            on.Tick(0.55),
            [],
            id="what the attachment said is not said again at once",
        ),
    ],
)
def test_links_and_placement(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """Connections come and go; what cannot be reached is not used, and placement always knows."""
    assert decide(history, last) == expected


@pytest.mark.parametrize(
    ("history", "last", "expected"),
    [
        pytest.param(
            [given("i1"), arrived("r1"), arrived("r2", 0.5)],
            REPLACED,
            [Demand(W, 1, 0.5)],
            id="calls that wait now wait for the new version",
        ),
        pytest.param([given("i1")], REPLACED, [release(("i1", 1))], id="idle ones of the old go back"),
        pytest.param(
            [given("i1"), arrived("r1"), REPLACED],
            answered("i1", "r1", 2.0),
            [finish("r1", Outcome.ANSWERED), release(("i1", 1))],
            id="a running call ends on the old version, which then goes back",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), REPLACED],
            refused("i1", "r1", 2.0),
            [release(("i1", 1), sure=False), Demand(W, 1, 2.0)],
            id="a call refused by the old version waits for the new one",
        ),
        pytest.param(
            [arrived("r1"), REPLACED],
            given("i1", 1, 2.0),
            [Demand(V, 0, 0.0), release(("i1", 1))],
            id="an instance of the old version that comes too late goes back",
        ),
        pytest.param(
            [arrived("r1"), on.VersionReplaced(V, W, 0, 1.0)],
            arrived("r2", 1.0, version=W),
            [
                finish(
                    "r2",
                    Outcome.THROTTLED,
                    "function 'f' is switched off: its concurrency is 0",
                    throttle=throttles.RESERVED,
                    refusal="switched_off",
                )
            ],
            id="the new version comes with its own limit",
        ),
        pytest.param(
            [arrived("r1"), arrived("r2"), starting("i1")],
            on.VersionRemoved(V, 1.0),
            [finish("r1", Outcome.REMOVED, DELETED), finish("r2", Outcome.REMOVED, DELETED)],
            id="calls that wait for a deleted function end",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), on.VersionRemoved(V, 0.5)],
            answered("i1", "r1"),
            [finish("r1", Outcome.ANSWERED), release(("i1", 1))],
            id="a call that runs when its function is deleted is answered",
        ),
        pytest.param(
            [given("i1"), arrived("r1"), on.VersionRemoved(V, 0.5)],
            refused("i1", "r1"),
            [release(("i1", 1), sure=False), finish("r1", Outcome.REMOVED, DELETED)],
            id="a call refused after its function was deleted ends",
        ),
        pytest.param(
            [on.VersionRemoved(V, 0.5)],
            given("i1"),
            [release(("i1", 1))],
            id="an instance of a deleted function goes back",
        ),
    ],
)
def test_new_versions(history: list[on.Event], last: on.Event, expected: list[Command]) -> None:
    """Waiting calls follow their function to its new version; nothing of the old one is kept."""
    assert decide(history, last) == expected


def test_an_old_version_is_forgotten_once_nothing_is_left_of_it() -> None:
    """A fleet that is deployed to every day does not grow."""
    dispatcher = Dispatcher(linger_s=0.1)
    for event in [*CONNECTED, given("i1"), arrived("r1"), REPLACED, on.Tick(1.1)]:
        dispatcher.handle(event)
    assert V in dispatcher.books.lines
    dispatcher.handle(answered("i1", "r1", 2.0))
    dispatcher.handle(on.Tick(2.1))
    assert not dispatcher.books.lines


def test_news_of_a_version_that_is_gone_leaves_no_trace() -> None:
    """What placement still says of it comes to a frontend that has forgotten it."""
    dispatcher = Dispatcher(linger_s=0.1)
    dispatcher.handle(on.UnmetTold(V, "limit_reached", "", 1.0))
    dispatcher.handle(on.RecallAsked(V, 0, 1.0))
    dispatcher.handle(on.Tick(1.1))
    assert not dispatcher.books.lines


def test_a_function_that_is_not_called_costs_no_tick() -> None:
    """However many are deployed with a limit: each tick looks at the lines that there are. It stays."""
    dispatcher = Dispatcher(linger_s=0.1)
    for event in [*CONNECTED, on.VersionDefined(V, 0), on.Tick(1.0)]:
        dispatcher.handle(event)
    assert not dispatcher.books.lines
    [refused] = dispatcher.handle(arrived("r1"))
    assert isinstance(refused, Finish)
    assert refused.refusal == "switched_off"
    dispatcher.handle(on.Tick(1.1))
    dispatcher.handle(on.VersionDefined(V, None))
    assert not dispatcher.books.limits
    assert not any(isinstance(it, Finish) for it in dispatcher.handle(arrived("r2")))
