"""A frontend's shards: each call goes to the driver of its function's shard, and what is told adds up."""

import pytest

from lambent_frontend.calls import Answer, Call, Counted
from lambent_frontend.core import events as on
from lambent_frontend.driver import Driver
from lambent_frontend.shards import Shards
from lambent_proto import frames
from lambent_proto.errors import LambentError
from lambent_proto.ids import NodeId, RequestId
from tests.unit.frontend.dispatcher_rows import N1, N2, given
from tests.unit.frontend.followed import definition

FIRST, SECOND = definition("f"), definition("A")
"""Of the first and of the second of two shards."""
NODES = (N1, N2)


class Workers:
    def __init__(self) -> None:
        self.levels: dict[NodeId, str] = {}
        self.streaming: set[NodeId] = set()
        self.tracing: set[NodeId] = set()
        self.sent: list[tuple[NodeId, RequestId]] = []

    def send(self, node: NodeId, event: frames.Event) -> None:
        self.sent.append((node, event.request_id))

    def flow(self, node: NodeId, frame: frames.Taken | frames.Unheard) -> None:
        raise AssertionError

    def unlink(self, node: NodeId) -> None:
        raise AssertionError


def two() -> tuple[Shards, list[Driver], list[Workers]]:
    """Each shard has a node of its own with one idle instance of its function."""
    drivers, workers = [], []
    for node in NODES:
        driver = Driver(max_waiting=1, max_waiting_bytes=1000, rate_per_concurrency=0.0, linger_s=0.1)
        driver.workers = of_shard = Workers()
        driver.to_placement = lambda command: None
        driver.feed(on.PlacementAttached(0.0))
        driver.feed(on.LinkUp(node))
        drivers.append(driver)
        workers.append(of_shard)
    shards = Shards(drivers)
    for known, driver, node in zip((FIRST, SECOND), drivers, NODES, strict=True):
        shards.function_changed(known.name, None, known)
        driver.feed(given(f"i-{node}", node=node, version=known.key))
    return shards, drivers, workers


def call(request: str, name: str) -> Call:
    known = FIRST if name == "f" else SECOND
    return Call(RequestId(request), known, b"{}", False, "", 10.0)


async def test_a_call_goes_to_the_shard_of_its_function() -> None:
    shards, _, workers = two()
    shards.submit(call("r-1", "f"), lambda answer: None)
    shards.submit(call("r-2", "A"), lambda answer: None)
    assert [it.sent for it in workers] == [[(N1, "r-1")], [(N2, "r-2")]]


async def test_a_function_is_told_to_its_shard_alone() -> None:
    _, drivers, _ = two()
    assert [list(driver.core.books.lines) for driver in drivers] == [[FIRST.key], [SECOND.key]]


async def test_a_shard_without_a_leader_is_nothing_to_the_others() -> None:
    """What it has leased goes on as well."""
    shards, drivers, workers = two()
    drivers[0].feed(on.PlacementLost())
    shards.submit(call("r-1", "f"), lambda answer: None)
    shards.submit(call("r-2", "A"), lambda answer: None)
    assert [len(it.sent) for it in workers] == [1, 1]
    assert [driver.core.books.attached for driver in drivers] == [False, True]


@pytest.mark.parametrize(("name", "shard"), [("f", 0), ("A", 1)])
async def test_calls_of_every_shard_are_explained_and_counted(name: str, shard: int) -> None:
    shards, drivers, _ = two()
    answers: list[Answer | LambentError] = []
    for request in ("r-1", "r-2"):
        for known in ("f", "A"):
            shards.submit(call(f"{known}.{request}", known), answers.append)
            drivers[0 if known == "f" else 1].answered(
                frames.Answer(RequestId(f"{known}.{request}"), False, 1.5, None, b"1")
            )
    assert len(answers) == 4
    explained = shards.explain(RequestId(f"{name}.r-2"))
    assert explained is not None
    assert (explained.function, explained.node) == (name, NODES[shard].partition("@")[0])
    assert shards.counts[Counted("outcome", "succeeded")] == 4
    assert shards.explain(RequestId("r-9")) is None


async def test_a_caller_that_went_away_leaves_the_line_of_its_shard() -> None:
    shards, drivers, _ = two()
    for request in ("r-1", "r-2"):
        shards.submit(call(request, "A"), lambda answer: None)
    shards.abandon(RequestId("r-2"))
    assert list(drivers[1].core.books.calls) == ["r-1"]


async def test_what_all_shards_have_to_know() -> None:
    """The number of frontends and the fleet's concurrency, for the rates of calls."""
    shards, drivers, _ = two()
    shards.frontends_counted(3)
    shards.concurrency_set(7)
    assert [(it.core.rates.frontends, it.core.rates.fleet) for it in drivers] == [(3, 7)] * 2
