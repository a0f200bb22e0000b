"""docs/metrics.md names every metric of every part, with its labels, and no other."""

import re
from collections import Counter
from pathlib import Path
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families

from lambent_chassis.etcd.answers import Answers
from lambent_frontend.metrics import Metrics as FrontendMetrics
from lambent_placement.core.scheduler import Scheduler
from lambent_placement.core.tally import Tally
from lambent_placement.driver import Driver as PlacementDriver
from lambent_placement.driver import Leading
from lambent_placement.metrics import Metrics as PlacementMetrics
from lambent_proto.ids import Epoch
from lambent_worker.core.agent import Agent
from lambent_worker.metrics import Metrics as WorkerMetrics
from tests.unit.frontend.test_driver import attached
from tests.unit.frontend.test_metrics import Queued
from tests.unit.worker.test_metrics import GIVEN

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


async def pages() -> str:
    """Of a frontend with a queue, a placement that leads, and a worker."""
    driver, _ = attached()
    queue = cast("Any", Queued())
    frontend = FrontendMetrics([driver.core.books], Counter, Counter(), driver.durations, queue, Answers())
    leader = PlacementDriver(Leading(Epoch(1), lambda: float("inf")), Scheduler(Epoch(1)))
    placement = PlacementMetrics(lambda: leader, Tally(), 0)
    placement.etcd = Answers()
    worker = WorkerMetrics(GIVEN, Agent(1024), etcd=Answers())
    told = [await part.page() for part in (frontend, placement, worker)]
    return b"".join(told).decode()


async def test_every_metric_is_documented() -> None:
    """By its name as queries have it."""
    there = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(await pages())
        if not family.name.endswith("_created")
    }
    documented = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(there)
