"""What a placement tells Prometheus, read by Prometheus' own parser."""

from prometheus_client.parser import text_string_to_metric_families

from lambent_placement.core import events as on
from lambent_placement.core.commands import Reason, Unmet
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.tally import Tally
from lambent_placement.driver import Driver, Leading
from lambent_placement.metrics import Metrics
from lambent_proto.ids import Epoch, NodeId
from tests.unit.placement.scheduler_rows import F, demanded, fleet, ready, released

Page = dict[str, float]


async def read(metrics: Metrics) -> Page:
    """By name, with the labels' values behind it."""
    return {
        " ".join([sample.name.removeprefix("lambent_placement_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families((await metrics.page()).decode())
        for sample in family.samples
    }


def leading(*history: on.Event, until: float = float("inf")) -> tuple[Metrics, Driver, Tally]:
    """A leader that has been through this."""
    core, tally = Scheduler(Epoch(1)), Tally()
    for event in history:
        tally.count(core.handle(event), core.books.idle_mb, 0.0)
    driver = Driver(Leading(Epoch(1), lambda: until), core, tally=tally)
    return Metrics(lambda: driver, tally, 2), driver, tally


async def test_what_runs_and_where() -> None:
    """Three wanted, one ready and given back, and a worker that has registered and said nothing yet."""
    metrics, *_ = leading(
        *fleet(),
        demanded(F, 3),
        on.NodeRegistered(NodeId("n9@1"), 512),
        ready(1),
        demanded(F, 2),
        released(F, 1),
    )
    page = await read(metrics)
    states = {state: page[f"instances {state}"] for state in ("idle", "leased", "fencing", "stopping")}
    assert states == {"idle": 1, "leased": 2, "fencing": 0, "stopping": 0}
    assert (page["nodes connected"], page["nodes unreported"], page["nodes drained"]) == (2, 1, 0)
    assert page["memory_granted_bytes"] == 3 * 256 * 1024 * 1024
    assert (page["frontends"], page["epoch"], page["leading"]) == (3, 1, 1)
    assert page["instances_unreported"] == 4
    assert page["concurrency_used"] == 0, "all of it is reserved"


async def test_what_was_decided_and_why() -> None:
    """Starts, leases on what was warm, and waits, by the reasons that `lambent explain` tells."""
    metrics, driver, _ = leading(
        *fleet(limit=2), demanded(F, 2), ready(1), demanded(F, 1), released(F, 1), demanded(F, 2)
    )
    page = await read(metrics)
    assert sum(count for name, count in page.items() if name.startswith("starts_total ")) == 2
    assert page[f"warm_leases_total {Reason.MOST_RECENTLY_USED}"] == 1
    driver.feed(demanded(F, 9, at=1.0))
    assert (await read(metrics))[f"waits_total {Unmet.LIMIT.value}"] == 1


async def test_a_leader_that_is_none_any_more_tells_nothing_of_the_fleet() -> None:
    """What it has counted stays: a counter that falls is one that began anew."""
    metrics, driver, _ = leading(*fleet(), demanded(F, 1), until=0.0)
    driver.tick()
    page = await read(metrics)
    assert (page["leading"], page["shard"]) == (0, 2)
    assert "epoch" not in page
    assert any(name.startswith("starts_total") for name in page)


async def test_one_that_stands_by_says_so() -> None:
    assert await read(Metrics(lambda: None, Tally(), 0)) == {"leading": 0, "shard": 0}
