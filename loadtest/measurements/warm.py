"""What a warm call costs, by path of the frontend and by part of the fleet."""

import statistics
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from lambent_frontend.settings import FrontendSettings
from loadtest import echo
from loadtest.etcd_counters import Counters
from loadtest.figures import Budget, Figures, Flat, Table, spread
from loadtest.fleet import ANY_ISOLATION, Fleet, fleet
from loadtest.hand_over import hand_over_us
from loadtest.measurement import Measurement, Plan
from loadtest.warm import PARTS, Callers, Measured, Path, callers

SERVERS: Final = ("grpcio", "own")
DEFAULT: Final[Any] = FrontendSettings.model_fields["grpc_server"].default
OTHER: Final = next(it for it in SERVERS if it != DEFAULT)

STREAM_LIMITS_US: Final = {"bound": 100.0, "goal": 60.0}
UNARY_LIMITS_US: Final = {"grpcio": {"bound": 450.0}, "own": {"bound": 150.0, "goal": 70.0}}
"""Budgets of a call at 64 in flight, by the frontend's gRPC server."""
P50_LIMIT_MS: Final = 0.5
"""At 1 in flight on an idle machine, by the leanest client of gRPC: a stream's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    instances: int = 16
    """Of the 64 calls in flight so many run. Fewer make a call dearer: less goes with each wake-up."""
    workers: int = 2
    scale: float = 1.0
    """Of the number of calls in a round."""


def paths(scale: float) -> list[Path]:
    """The other gRPC server's ones last."""
    default = [
        Path("stream", 64, 20_000),
        Path("unary", 64, 4_000),
        Path("http", 64, 8_000),
        Path("stream", 1, 1_000),
        Path("unary", 1, 1_000),
        Path("http", 1, 1_000),
    ]
    other = [replace(it, server=OTHER) for it in default if it.kind != "http"]
    return [replace(it, calls=max(100, int(it.calls * scale))) for it in (*default, *other)]


def run(setup: Setup, plan: Plan) -> Figures:
    warm = {path: Measured() for path in paths(setup.scale)}
    etcd = Counters.none()
    floor_us = hand_over_us()
    options = ("--workers", str(setup.workers), *ANY_ISOLATION)
    with ExitStack() as stack:
        fleets = {
            "": stack.enter_context(fleet(*options)),
            OTHER: stack.enter_context(fleet(*options, settings={"grpc_server": OTHER})),
        }
        for running in fleets.values():
            echo.deploy(running.endpoint, setup.instances)
        calling = _calling(stack, fleets, list(warm))
        for number in range(plan.repeats):
            plan.say(f"round {number + 1} of {plan.repeats}")
            for path, measured in warm.items():
                etcd += calling[path].round(measured)
        isolation = fleets[""].isolation
    return _figures(warm, etcd, isolation, floor_us)


def _calling(stack: ExitStack, fleets: dict[str, Fleet], of: list[Path]) -> dict[Path, Callers]:
    found: dict[Path, Callers] = {}
    for path in of:
        found[path] = stack.enter_context(callers(fleets[path.server], echo.NAME, path))
        found[path].call(path.calls // 4)  # until everything is warm
    return found


def _figures(warm: dict[Path, Measured], etcd: Counters, isolation: str, floor_us: float) -> Figures:
    calls = sum(sum(it.calls for it in measured.rounds) for measured in warm.values())
    operations = sum(etcd.operations.values()) / calls
    found = Figures(
        {
            "sandbox": isolation,
            "hand_over_us": round(floor_us, 1),
            "etcd_ops_per_warm_call": operations,
            "etcd_ops_counted_calls": calls,
            "etcd_probes_and_renewals": sum(etcd.requests.values()),
        }
    )
    for path, measured in warm.items():
        found.flat |= _flat(path, measured)
    found.tables.append(
        Table(
            ("", "all", *PARTS, "client", "calls/s", "p50 ms", "p99 ms"),
            [_row(path, measured) for path, measured in warm.items()],
            "µs of CPU a call, by part:",
        )
    )
    found.budgets = [*_budgets(warm), Budget("etcd operations a warm call", operations, 0, "")]
    found.notes.append(
        f"etcd did {sum(etcd.operations.values()):,} operations on keys in {calls:,} warm calls, by its own "
        f"counters; {sum(etcd.requests.values()):,} probes and renewals of leases came with the time that it "
        f'took. Isolation level {isolation}. The rows that name a server are of a fleet with `grpc_server = "'
        f'{OTHER}"`, the others with the default, `"{DEFAULT}"`.'
    )
    found.notes.append(
        f"On this machine a byte takes {floor_us:.1f} µs of CPU from one process to another that sleeps for "
        "it, with nothing else done. At 1 in flight a call changes hands six times, two of them with the "
        "client; at 64 several go at once."
    )
    return found


def _budgets(warm: dict[Path, Measured]) -> list[Budget]:
    limits = {"stream": ("stream, 64 in flight", STREAM_LIMITS_US)}
    for server, of_server in UNARY_LIMITS_US.items():
        limits[_unary(server)] = (f"unary, 64 in flight, server `{server}`", of_server)
    found = [
        Budget(f"{what}, {kind}", _us(warm, name), limit, "µs of CPU a call")
        for name, (what, by_kind) in limits.items()
        for kind, limit in by_kind.items()
    ]
    alone = next(measured for path, measured in warm.items() if path.name == "stream_1")
    p50_ms = statistics.median(it.p50_ms for it in alone.rounds)
    return [*found, Budget("stream, 1 in flight, p50", p50_ms, P50_LIMIT_MS, "ms")]


def _unary(server: str) -> str:
    return "unary" if server == DEFAULT else f"unary_{server}"


def _us(warm: dict[Path, Measured], name: str) -> float:
    return next(statistics.median(it.total_us()) for path, it in warm.items() if path.name == name)


def _row(path: Path, measured: Measured) -> list[str]:
    rounds = measured.rounds
    server = f", {path.server}" if path.server else ""
    return [
        f"{path.kind}, {path.in_flight} in flight{server}",
        f"**{spread(measured.total_us())}**",
        *(f"{statistics.median(by[part] for by in measured.cpu_us):,.0f}" for part in PARTS),
        f"{statistics.median(it.cpu_s / it.calls for it in rounds) * 1e6:,.0f}",
        f"{statistics.median(it.calls / it.elapsed_s for it in rounds):,.0f}",
        f"{statistics.median(it.p50_ms for it in rounds):.2f}",
        f"{statistics.median(it.p99_ms for it in rounds):.2f}",
    ]


def _flat(path: Path, measured: Measured) -> Flat:
    rounds, name = measured.rounds, path.name
    total_us = measured.total_us()
    figures: Flat = {
        f"{name}_cpu_us": round(statistics.median(total_us), 1),
        f"{name}_cpu_us_min": round(min(total_us), 1),
        f"{name}_cpu_us_max": round(max(total_us), 1),
    }
    for part in PARTS:
        figures[f"{name}_{part}_cpu_us"] = round(statistics.median(by[part] for by in measured.cpu_us), 1)
    return figures | {
        f"{name}_client_cpu_us": round(statistics.median(it.cpu_s / it.calls for it in rounds) * 1e6, 1),
        f"{name}_calls_per_s": round(statistics.median(it.calls / it.elapsed_s for it in rounds)),
        f"{name}_p50_ms": round(statistics.median(it.p50_ms for it in rounds), 2),
        f"{name}_p99_ms": round(statistics.median(it.p99_ms for it in rounds), 2),
        f"{name}_calls_per_message": round(statistics.median(it.calls / it.received for it in rounds), 1),
        f"{name}_calls": sum(it.calls for it in rounds),
    }


MEASUREMENT: Final = Measurement(
    name="warm",
    title="Warm calls",
    says="""\
100 bytes are echoed by a Python function through each way into the frontend, 64 calls in flight and one at
a time, in turns. At 1 in flight the p50 is what Lambent adds to a call; at 64 the machine is busy, and CPU
is what counts.""",
    takes_s=(90, 25),
    run=run,
    full=Setup(),
    quick=Setup(scale=0.5),
)
