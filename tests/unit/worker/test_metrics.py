"""The worker's metrics, read as Prometheus reads them: over HTTP, by its own parser."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lambent_chassis.metrics import serving
from lambent_worker.core.agent import Agent
from lambent_worker.core.events import InstanceReady
from lambent_worker.metrics import Metrics
from lambent_worker.sandbox.api import LEVELS, PROTECTIONS, Protections
from tests.unit.worker.test_core_agent import I1, granted

MB = 1024 * 1024
GIVEN = Protections("namespaces", LEVELS["namespaces-user"])

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(page: str) -> Samples:
    found: Iterator[tuple[str, dict[str, str], float]] = (
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    )
    return {(name, frozenset(labels.items())): value for name, labels, value in found}


def value(of: Samples, name: str, /, **labels: str) -> float:
    return of[f"lambent_worker_{name}", frozenset(labels.items())]


async def asked(address: str, request: bytes) -> tuple[str, str]:
    """Status line and body."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        answer = (await reader.read()).decode()
    finally:
        writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.partition("\r\n")[0], body


async def page_of(metrics: Metrics) -> Samples:
    async with serving(metrics.page, "127.0.0.1", 0) as address:
        status, body = await asked(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status == "HTTP/1.1 200 OK"
        return samples(body)


async def test_the_isolation_is_told() -> None:
    """The level by its name and backend, and each protection as 0 or 1."""
    page = await page_of(Metrics(GIVEN, Agent(1024)))
    assert value(page, "isolation_level", level="namespaces-user", backend="namespaces") == 1
    told = {name: value(page, "protection", name=name) for name in PROTECTIONS}
    assert told["files"] == 1
    assert told["memory_limit"] == 0
    assert sum(told.values()) == len(GIVEN.given)


@pytest.mark.parametrize("shard", [0, 3])
async def test_the_shard_is_told(shard: int) -> None:
    """The first is 0, which is that of a fleet with one."""
    metrics = Metrics(GIVEN, Agent(1024), shard) if shard else Metrics(GIVEN, Agent(1024))
    assert value(await page_of(metrics), "shard") == shard


async def test_instances_and_memory_are_those_of_now() -> None:
    """By state, and all states are there from the beginning."""
    core = Agent(1024)
    metrics = Metrics(GIVEN, core)
    page = await page_of(metrics)
    assert [value(page, "instances", state=s) for s in ("starting", "idle", "busy", "stopping")] == [0] * 4
    assert (value(page, "memory_granted_bytes"), value(page, "memory_bytes")) == (0, 1024 * MB)
    core.handle(granted())
    page = await page_of(metrics)
    assert (value(page, "instances", state="starting"), value(page, "instances", state="idle")) == (1, 0)
    assert value(page, "memory_granted_bytes") == core.memory_used_mb * MB > 0
    core.handle(InstanceReady(I1, 1.0, 2.0))
    page = await page_of(metrics)
    assert (value(page, "instances", state="starting"), value(page, "instances", state="idle")) == (0, 1)


async def test_starts_are_counted() -> None:
    """By runtime and by kind."""
    metrics = Metrics(GIVEN, Agent(1024))
    for kind in ("new", "parked", "parked"):
        metrics.launched("python3.11", kind)
    page = await page_of(metrics)
    assert value(page, "starts_total", runtime="python3.11", kind="new") == 1
    assert value(page, "starts_total", runtime="python3.11", kind="parked") == 2


@pytest.mark.parametrize(
    "request_line", ["GET / HTTP/1.1", "POST /metrics HTTP/1.1", "GET", "GET /metricsx "]
)
async def test_nothing_else_is_there(request_line: str) -> None:
    """Whatever else is asked for is not found."""
    async with serving(Metrics(GIVEN, Agent(1024)).page, "127.0.0.1", 0) as address:
        status, _ = await asked(address, f"{request_line}\r\n\r\n".encode())
        assert status == "HTTP/1.1 404 Not Found"


async def test_what_is_no_request_gets_no_answer() -> None:
    """A header without end is cut off, and the next one is answered."""
    async with serving(Metrics(GIVEN, Agent(1024)).page, "127.0.0.1", 0) as address:
        with contextlib.suppress(ConnectionError):  # reset, or closed, as the kernel has it
            assert await asked(address, b"GET /" + b"x" * 200_000) == ("", "")
        status, _ = await asked(address, b"GET /metrics?x=1 HTTP/1.1\r\n\r\n")
        assert status == "HTTP/1.1 200 OK"


async def test_a_port_that_is_taken_is_an_error() -> None:
    """The worker does not start with a port that nobody finds."""
    metrics = Metrics(GIVEN, Agent(1024))
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="already in use"):
        async with serving(metrics.page, "127.0.0.1", other.getsockname()[1]):
            pass
