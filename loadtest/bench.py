"""`make bench`: what a warm call and a cold start cost on this machine, by part.

A fleet of its own: etcd, one placement, two workers, one frontend, and a function that answers with the 100
bytes it was given. Prints tables and writes build/bench.json, flat. CPU per call is what a busy machine
leaves comparable; the wall times are only as good as the load average beside them.
"""

import asyncio
import json
import os
import statistics
import sys
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path as File
from typing import Final

import click
import grpc

from lambent_chassis.clock import monotonic_s
from lambent_proto.v1 import functions_pb2, functions_pb2_grpc
from loadtest import cold, machine, sandboxes
from loadtest.cold import ColdStarts
from loadtest.etcd_counters import Counters
from loadtest.figures import percentile
from loadtest.fleet import ANY_ISOLATION, Fleet, Off, fleet
from loadtest.warm import PARTS, Callers, Measured, Path, callers

OUT: Final = File(__file__).resolve().parent.parent / "build" / "bench.json"

INSTANCES: Final = 16
"""Of the 64 calls in flight so many run. Fewer make a call dearer: less goes together with each wake-up."""
WORKERS: Final = 2
SOURCE: Final = "def handler(event, context):\n    return event\n"

Figures = dict[str, float | int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    paths: tuple[Path, ...]
    repeats: int
    cold_starts: int
    sandbox_starts: int
    sandbox_seconds: float
    instances: int = INSTANCES
    workers: int = WORKERS


FULL: Final = Plan(
    paths=(
        Path("stream", 64, 20_000),
        Path("unary", 64, 4_000),
        Path("http", 64, 8_000),
        Path("stream", 1, 1_000),
        Path("unary", 1, 1_000),
        Path("http", 1, 1_000),
    ),
    repeats=5,
    cold_starts=100,
    sandbox_starts=60,
    sandbox_seconds=10.0,
)
QUICK: Final = Plan(
    paths=(
        Path("stream", 64, 10_000),
        Path("unary", 64, 2_000),
        Path("http", 64, 4_000),
        Path("stream", 1, 500),
        Path("unary", 1, 500),
        Path("http", 1, 500),
    ),
    repeats=1,
    cold_starts=10,
    sandbox_starts=10,
    sandbox_seconds=2.0,
)


@click.command()
@click.option("--quick", is_flag=True, help="One short round of each, in about 15 seconds.")
@click.option("--instances", type=click.IntRange(min=1), default=INSTANCES, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=WORKERS, show_default=True)
def main(quick: bool, instances: int, workers: int) -> None:
    """Measures warm calls and cold starts on a fleet of its own."""
    plan = replace(QUICK if quick else FULL, instances=instances, workers=workers)
    try:
        figures = _run(plan)
    except Off as off:
        raise click.ClickException(str(off)) from None
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    click.echo(f"\nWritten to {os.path.relpath(OUT)}.")


def _run(plan: Plan) -> Figures:
    figures: Figures = {
        **machine.facts(),
        "workers": plan.workers,
        "instances": plan.instances,
        "load_before": machine.load(),
    }
    began, busy_s = monotonic_s(), machine.busy_s()
    with fleet("--workers", str(plan.workers), *ANY_ISOLATION) as running:
        package, configuration = _package(), _configuration(plan.instances)
        _deploy(running, package, configuration)
        warm, etcd = _warm(running, plan)
        ours_s = sum(running.cpu_s().values())
        cores_busy = (machine.busy_s() - busy_s - ours_s) / (monotonic_s() - began)
        starts = cold.measure(running.endpoint, package, configuration, plan.cold_starts)
    figures |= {"other_cores_busy": round(cores_busy, 2), "load_after": machine.load()}
    figures |= {"repeats": plan.repeats}
    for path, measured in warm.items():
        figures |= _warm_figures(path, measured)
    figures |= _etcd_figures(etcd, sum(sum(r.calls for r in measured.rounds) for measured in warm.values()))
    figures |= _cold_figures(starts)
    figures |= {"sandbox": running.isolation}
    shut_in = asyncio.run(sandboxes.measure(plan.sandbox_starts, plan.sandbox_seconds))
    figures |= sandboxes.figures_of(shut_in)
    _report(figures, plan)
    sandboxes.report(shut_in)
    return figures


def _package() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("echo.py", SOURCE)
    return packed.getvalue()


def _configuration(instances: int) -> functions_pb2.Configuration:
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    limit = functions_pb2.Concurrency(limit=instances)
    return functions_pb2.Configuration(
        runtime=runtime, handler="echo.handler", timeout_s=30, concurrency=limit
    )


def _deploy(running: Fleet, package: bytes, configuration: functions_pb2.Configuration) -> None:
    request = functions_pb2.CreateFunctionRequest(name="echo", zip_file=package, configuration=configuration)
    with grpc.insecure_channel(running.endpoint) as channel:
        functions_pb2_grpc.FunctionsStub(channel).CreateFunction(request)


def _warm(running: Fleet, plan: Plan) -> tuple[dict[Path, Measured], Counters]:
    """The paths take turns, so that a change of the machine's load meets all of them."""
    warm = {path: Measured() for path in plan.paths}
    total = Counters.none()
    with ExitStack() as processes:
        calling: dict[Path, Callers] = {}
        for path in plan.paths:
            calling[path] = processes.enter_context(callers(running, "echo", path))
            calling[path].call(path.calls // 4)  # until everything is warm
        for _ in range(plan.repeats):
            for path, measured in warm.items():
                total += calling[path].round(measured)
    return warm, total


def _warm_figures(path: Path, measured: Measured) -> Figures:
    rounds, name = measured.rounds, path.name
    total_us = measured.total_us()
    figures: Figures = {
        f"{name}_cpu_us": round(statistics.median(total_us), 1),
        f"{name}_cpu_us_min": round(min(total_us), 1),
        f"{name}_cpu_us_max": round(max(total_us), 1),
    }
    for part in PARTS:
        figures[f"{name}_{part}_cpu_us"] = round(statistics.median(by[part] for by in measured.cpu_us), 1)
    return figures | {
        f"{name}_client_cpu_us": round(statistics.median(r.cpu_s / r.calls for r in rounds) * 1e6, 1),
        f"{name}_calls_per_s": round(statistics.median(r.calls / r.elapsed_s for r in rounds)),
        f"{name}_p50_ms": round(statistics.median(r.p50_ms for r in rounds), 2),
        f"{name}_p99_ms": round(statistics.median(r.p99_ms for r in rounds), 2),
        f"{name}_calls_per_message": round(statistics.median(r.calls / r.received for r in rounds), 1),
        f"{name}_calls": sum(r.calls for r in rounds),
    }


def _etcd_figures(etcd: Counters, calls: int) -> Figures:
    return {
        "etcd_ops_per_warm_call": sum(etcd.operations.values()) / calls,
        "etcd_ops_counted_calls": calls,
        "etcd_probes_and_renewals": sum(etcd.requests.values()),
    }


def _cold_figures(starts: ColdStarts) -> Figures:
    first_p50, exec_p50 = percentile(starts.first_calls_ms, 0.5), percentile(starts.execs_ms, 0.5)
    return {
        "cold_p50_ms": round(first_p50, 1),
        "cold_p99_ms": round(percentile(starts.first_calls_ms, 0.99), 1),
        "cold_starting_p50_ms": round(percentile(starts.starting_ms, 0.5), 1),
        "cold_init_p50_ms": round(percentile(starts.init_ms, 0.5), 1),
        "exec_p50_ms": round(exec_p50, 1),
        "cold_vs_exec": round(first_p50 / exec_p50, 2),
        "cold_starts": len(starts.first_calls_ms),
    }


def _report(figures: Figures, plan: Plan) -> None:
    click.echo(
        f"{figures['cpu']}, {figures['cores']} cores, Linux {figures['kernel']}, Python {figures['python']} "
        f"({figures['python_executable']}), grpcio {figures['grpcio']}\n"
        f"Load average before {figures['load_before']}, after {figures['load_after']}; "
        f"beside the fleet {figures['other_cores_busy']} cores were busy, the callers among them.\n"
        f"100-byte echo, {plan.instances} instances on {plan.workers} workers, isolation level "
        f"{figures['sandbox']}, {plan.repeats} rounds: medians.\n"
    )
    columns = (*PARTS, "client", "calls/s", "p50 ms", "p99 ms")
    click.echo(f"{'CPU us a call':<16}{'all (range)':>20}" + "".join(f"{column:>11}" for column in columns))
    for path in plan.paths:
        name = path.name
        keys = [f"{name}_{part}_cpu_us" for part in (*PARTS, "client")]
        keys += [f"{name}_{figure}" for figure in ("calls_per_s", "p50_ms", "p99_ms")]
        total = (
            f"{figures[f'{name}_cpu_us']} ({figures[f'{name}_cpu_us_min']}-{figures[f'{name}_cpu_us_max']})"
        )
        cells = "".join(f"{figures[key]:>11}" for key in keys)
        click.echo(f"{path.kind + ', ' + str(path.in_flight):<16}{total:>20}{cells}")
    click.echo(
        f"\netcd: {figures['etcd_ops_per_warm_call']:g} operations a call over "
        f"{figures['etcd_ops_counted_calls']} warm calls; {figures['etcd_probes_and_renewals']} probes and "
        f"renewals of leases, which come with time.\n"
        f"Cold start, {figures['cold_starts']} new instances: p50 {figures['cold_p50_ms']} ms, p99 "
        f"{figures['cold_p99_ms']} ms, of which starting {figures['cold_starting_p50_ms']}, init "
        f"{figures['cold_init_p50_ms']}; {figures['cold_vs_exec']} of `python3 -I -S -c pass` "
        f"({figures['exec_p50_ms']} ms)."
    )


if __name__ == "__main__":
    main()
