"""`lambent loadtest` against a fleet: what it counts is what the functions noted, and how it ends."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from lambent.client import Client
from tests.e2e.evidence import Evidence, deploy
from tests.e2e.fleet import Fleet
from tests.e2e.load import eventually

pytestmark = pytest.mark.e2e

NEVER_LATE = ("--late", "60000")
"""The machine of a test may be busy with others; what is late is for the tests that want it."""


async def begun(fleet: Fleet, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "lambent",
        "loadtest",
        *arguments,
        "--json",
        "--endpoint",
        fleet.endpoint,
        "--http-endpoint",
        fleet.http,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("LAMBENT_")},
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, dict[str, Any], str]:
    out, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out), said.decode()


@pytest.mark.parametrize("via", ["stream", "unary", "http"])
@pytest.mark.parametrize(
    "load",
    [("--rate", "100", "--constant"), ("--concurrency", "4", "--processes", "2")],
    ids=["open", "closed by two"],
)
async def test_it_counts_what_ran(
    shared: Fleet, client: Client, name: str, evidence: Evidence, via: str, load: tuple[str, ...]
) -> None:
    await deploy(client, name, evidence, concurrency=4)
    code, found, said = await ended(
        await begun(shared, name, "--via", via, *load, "--duration", "0.5", *NEVER_LATE)
    )
    runs = evidence.runs()
    # A machine that is too busy for a closed loop voids it.
    assert (code, found["errors"]) in ((0, {}), (4, {})), said
    assert found["sent"] == found["succeeded"] == len(runs) > 0
    assert found["cold_percent"] == pytest.approx(100 * found["latency_ms_counts"]["cold"] / len(runs))
    assert found["latency_ms_counts"]["cold"] >= 1


async def test_a_function_that_fails_is_told_by_code(
    shared: Fleet, client: Client, name: str, evidence: Evidence, tmp_path: Path
) -> None:
    """And so is one that is not there; that no call succeeded goes before what thresholds say."""
    await deploy(client, name, evidence, handler="fails")
    page = tmp_path / "page.html"
    arguments = (name, "nobody", "--rate", "40", "--constant", "--duration", "0.5", *NEVER_LATE)
    code, found, said = await ended(
        await begun(shared, *arguments, "--fail-if", "errors>10%", "--html", str(page))
    )
    assert code == 3, said
    assert set(found["errors"]) == {"FUNCTION_ERROR (Unhandled)", "UNKNOWN_FUNCTION"}
    assert "UNKNOWN_FUNCTION" in page.read_text()


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_rate_that_cannot_be_sent_voids_the_run_and_ends_it(shared: Fleet, processes: str) -> None:
    """It would be at it for ten minutes."""
    load = ("--rate", "400", "--duration", "600", "--late", "0", "--processes", processes)
    code, found, said = await ended(await begun(shared, "nobody", *load))
    assert code == 4
    assert (found["void"], found["stopped"], found["interrupted"]) == (True, True, False)
    assert "VOID" in said


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_ctrl_c_ends_it_with_what_there_is(
    shared: Fleet, client: Client, name: str, evidence: Evidence, processes: str
) -> None:
    await deploy(client, name, evidence)
    load = ("--rate", "50", "--duration", "1000", "--processes", processes)
    process = await begun(shared, name, *load, *NEVER_LATE)
    await eventually(lambda: len(evidence.runs()) >= 5, "5 calls have run")
    process.send_signal(signal.SIGINT)
    code, found, said = await ended(process)
    assert (code, found["interrupted"]) == (130, True), said
    assert found["succeeded"] >= 1
    assert "Traceback" not in said
