"""`make demo`: a fleet on this machine, and a real function on it, called cold and 2,000 times warm.

At the end all is stopped. The exit code is 0 only if everything was as it should be.
"""

import asyncio
import base64
import json
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import grpc.aio

from lambent_chassis.clock import monotonic_s
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc, invoke_pb2, invoke_pb2_grpc
from loadtest.figures import percentile
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, command, fleet

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = ROOT / "examples" / "thumbnail"
BUILT: Final = ROOT / "build" / "demo" / "thumbnail"

CALLS: Final = 2000
CALLERS: Final = 32
WORKERS: Final = 2
CONCURRENCY: Final = 8
WIDTHS: Final = range(64, 192, 16)
CALL_WITHIN_S: Final = 60.0


@dataclass
class Measured:
    """What the callers saw."""

    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: {"cold": [], "warm": []})
    starts: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    instances: Counter[str] = field(default_factory=Counter)
    """By node."""


def main() -> int:
    began = monotonic_s()
    try:
        _build()
        with fleet("--workers", str(WORKERS), *ANY_ISOLATION) as running:
            click.echo(f"The fleet is up: etcd, a placement, {WORKERS} workers and a frontend.")
            _deploy(running)
            measured = asyncio.run(_measure(running))
        _report(measured)
    except Off as off:
        click.echo(f"\nThe demo failed: {off}", err=True)
        return 1
    except KeyboardInterrupt:
        return 130
    click.echo(f"Everything is stopped, nothing is left running. {monotonic_s() - began:.0f} s in all.")
    return 0


def _build() -> None:
    """Puts the function and its dependency into one folder, as for Lambda."""
    requirements = EXAMPLE / "requirements.txt"
    built_from = BUILT.parent / "requirements.txt"
    if not built_from.exists() or built_from.read_text() != requirements.read_text():
        shutil.rmtree(BUILT, ignore_errors=True)
        click.echo(f"Installing {requirements.read_text().strip()} into the function's folder.")
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        done = subprocess.run(
            [*pip, "--only-binary", ":all:", "--target", BUILT, "--requirement", requirements], check=False
        )
        if done.returncode:
            raise Off("pip could not install the function's dependency")
        shutil.copy(requirements, built_from)
    shutil.copy(EXAMPLE / "thumbnail.py", BUILT)


def _deploy(running: Fleet) -> None:
    options = ("--name", "thumbnail", "--handler", "thumbnail.handler", "--memory", "256", "--timeout", "30")
    limit = ("--concurrency", str(CONCURRENCY))
    printed = command(running.endpoint, ["deploy", str(BUILT), *options, *limit, "--json"])
    function = json.loads(printed)
    size = f"{function['code_size'] / 1e6:.1f} MB of ZIP"
    click.echo(f"Deployed {function['name']}: {size}, at most {CONCURRENCY} instances.")


async def _measure(running: Fleet) -> Measured:
    picture = base64.b64encode((EXAMPLE / "picture.jpg").read_bytes()).decode()
    measured = Measured()
    async with grpc.aio.insecure_channel(running.endpoint) as channel:
        invoke = invoke_pb2_grpc.InvocationsStub(channel).Invoke
        explanation = await _call(invoke, picture, WIDTHS[0], measured)
        if explanation.start != "cold":
            raise Off(f"the first call was {explanation.start}, not cold")
        click.echo(
            f"First call: {measured.latencies_ms['cold'][0]:.0f} ms; unpacking the ZIP and starting took "
            f"{explanation.starting_ms:.0f}, the import of Pillow {explanation.init_ms:.0f}, "
            f"the thumbnail {explanation.running_ms:.0f}."
        )
        before, began = running.cpu_s(), monotonic_s()
        numbers = iter(range(CALLS))
        try:
            async with asyncio.TaskGroup() as callers:
                for _ in range(CALLERS):
                    callers.create_task(_caller(invoke, picture, numbers, measured))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        measured.elapsed_s = monotonic_s() - began
        after = running.cpu_s()
        measured.cpu_s = {name: after[name] - before[name] for name in after}
        stub = fleet_pb2_grpc.FleetStub(channel)
        listed = await stub.ListInstances(fleet_pb2.ListInstancesRequest())
        measured.instances.update(instance.node for instance in listed.instances)
    _check(measured)
    return measured


async def _caller(invoke: Any, picture: str, numbers: Iterator[int], measured: Measured) -> None:
    for number in numbers:
        explanation = None
        while explanation is None or explanation.start == "cold":  # the first ones open further instances
            explanation = await _call(invoke, picture, WIDTHS[number % len(WIDTHS)], measured)


async def _call(invoke: Any, picture: str, width: int, measured: Measured) -> invoke_pb2.Explanation:
    request = invoke_pb2.InvokeRequest(
        function_name="thumbnail", payload=json.dumps({"image": picture, "width": width}).encode()
    )
    began = monotonic_s()
    try:
        response: invoke_pb2.InvokeResponse = await invoke(request, timeout=CALL_WITHIN_S)
    except grpc.aio.AioRpcError as error:
        raise Off(f"a call failed with {error.code().name}: {error.details()}") from error
    elapsed_ms = (monotonic_s() - began) * 1000
    if response.function_error:
        raise Off(f"the function failed: {response.payload.decode()}")
    answer = json.loads(response.payload)
    size = jpeg_size(base64.b64decode(answer["thumbnail"]))
    if size != (width, answer["height"]) or answer["width"] != width:
        raise Off(f"asked for a thumbnail {width} wide, got one of {size}")
    explanation = response.explanation
    measured.latencies_ms[explanation.start].append(elapsed_ms)
    measured.starts[f"{explanation.start}: {explanation.reason}"] += 1
    return explanation


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header of a JPEG (ITU-T T.81, B.2.2); raises Off if it is none."""
    at = 2
    while data[:2] == b"\xff\xd8" and data[at : at + 1] == b"\xff":
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xC3:
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 2 + length
    raise Off("the answer is not a picture")


def _check(measured: Measured) -> None:
    cold, warm = (len(measured.latencies_ms[start]) for start in ("cold", "warm"))
    instances = sum(measured.instances.values())
    if warm != CALLS:
        raise Off(f"{warm} warm calls instead of {CALLS}")
    if cold > CONCURRENCY or not 1 <= instances <= CONCURRENCY:
        raise Off(f"{cold} cold starts and {instances} instances where {CONCURRENCY} are allowed")


def _report(measured: Measured) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    click.echo(f"\n{CALLS} warm calls from {CALLERS} callers, {CALLS / measured.elapsed_s:.0f} a second;")
    click.echo(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load average {load}.\n")
    click.echo(f"{'latency, ms':<24}{'calls':>8}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    for start, latencies in measured.latencies_ms.items():
        columns = "".join(f"{percentile(latencies, share):9.1f}" for share in (0.5, 0.9, 0.99, 1.0))
        click.echo(f"  {start:<22}{len(latencies):>8}{columns}")
    _table("starts", {reason: f"{count:8}" for reason, count in measured.starts.most_common()})
    _table("instances", {node: f"{count:8}" for node, count in sorted(measured.instances.items())})
    per_call = {name: spent / CALLS * 1000 for name, spent in measured.cpu_s.items()}
    per_call["all together"] = sum(per_call.values())
    _table("CPU per call, ms", {name: f"{ms:8.2f}" for name, ms in per_call.items()})
    click.echo("")


def _table(title: str, rows: dict[str, str]) -> None:
    click.echo(f"\n{title}")
    for name, value in rows.items():
        click.echo(f"  {name:<30}{value}")


if __name__ == "__main__":
    sys.exit(main())
