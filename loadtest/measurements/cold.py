"""Cold starts: a new function, its first call, and beside each the bare start of an interpreter."""

import os
import sys
from dataclasses import dataclass, field
from typing import Final

import grpc

from lambent_chassis.clock import monotonic_s
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc, functions_pb2, functions_pb2_grpc, invoke_pb2
from lambent_proto.v1 import invoke_pb2_grpc as invoke_grpc
from loadtest import echo
from loadtest.figures import Budget, Figures, Table, percentile
from loadtest.fleet import ANY_ISOLATION, Off, fleet
from loadtest.measurement import Measurement, Plan

UNCOUNTED: Final = 4
"""The first ones unpack the package on each worker."""

_EXEC: Final = (sys.executable, "-I", "-S", "-c", "pass")
_GONE_WITHIN_S: Final = 10.0
_NAME: Final = "cold"


@dataclass
class ColdStarts:
    first_calls_ms: list[float] = field(default_factory=list)
    """From the request to the answer, as the caller sees it."""
    execs_ms: list[float] = field(default_factory=list)
    """`python3 -I -S -c pass`, without any isolation."""
    starting_ms: list[float] = field(default_factory=list)
    init_ms: list[float] = field(default_factory=list)


def measure(
    endpoint: str, package: bytes, configuration: functions_pb2.Configuration, count: int
) -> ColdStarts:
    """One at a time; each instance is gone before the next start. Raises Off if a start was not cold."""
    measured = ColdStarts()
    create = functions_pb2.CreateFunctionRequest(name=_NAME, zip_file=package, configuration=configuration)
    delete = functions_pb2.DeleteFunctionRequest(name=_NAME)
    with grpc.insecure_channel(endpoint) as channel:
        functions, fleet = functions_pb2_grpc.FunctionsStub(channel), fleet_pb2_grpc.FleetStub(channel)
        invoke = invoke_grpc.InvocationsStub(channel).Invoke
        for number in range(count + UNCOUNTED):
            functions.CreateFunction(create)
            began = monotonic_s()
            response = invoke(invoke_pb2.InvokeRequest(function_name=_NAME, payload=b"{}"))
            first_call_ms = (monotonic_s() - began) * 1000
            functions.DeleteFunction(delete)
            _until_gone(fleet)
            if response.explanation.start != "cold":
                raise Off(f"a first call was {response.explanation.start}, not cold")
            if number >= UNCOUNTED:
                measured.first_calls_ms.append(first_call_ms)
                measured.starting_ms.append(response.explanation.starting_ms)
                measured.init_ms.append(response.explanation.init_ms)
                measured.execs_ms.append(_exec_ms())
    return measured


def _until_gone(fleet: fleet_pb2_grpc.FleetStub) -> None:
    deadline = monotonic_s() + _GONE_WITHIN_S
    asked = fleet_pb2.ListInstancesRequest(function_name=_NAME)
    while fleet.ListInstances(asked).instances:
        if monotonic_s() > deadline:
            raise Off("the instance of a deleted function is still there")


def _exec_ms() -> float:
    began = monotonic_s()
    pid = os.posix_spawn(_EXEC[0], _EXEC, os.environ)
    os.waitpid(pid, 0)
    return (monotonic_s() - began) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    starts: int = 100
    workers: int = 2


def run(setup: Setup, plan: Plan) -> Figures:
    with fleet("--workers", str(setup.workers), *ANY_ISOLATION) as running:
        plan.say(f"{setup.starts} starts")
        seen = measure(running.endpoint, echo.package(), echo.configuration(), setup.starts)
        isolation = running.isolation
    p50, p99 = (percentile(seen.first_calls_ms, share) for share in (0.5, 0.99))
    exec_ms = percentile(seen.execs_ms, 0.5)
    rows = [
        [name, *(f"{percentile(values, share):.1f}" for share in (0.5, 0.9, 0.99)), f"{min(values):.1f}"]
        for name, values in (
            ("request to first answer", seen.first_calls_ms),
            ("of it, until the runtime speaks", seen.starting_ms),
            ("of it, the function's init", seen.init_ms),
            ("`python3 -I -S -c pass`", seen.execs_ms),
        )
    ]
    return Figures(
        flat={
            "cold_p50_ms": round(p50, 1),
            "cold_p99_ms": round(p99, 1),
            "cold_starting_p50_ms": round(percentile(seen.starting_ms, 0.5), 1),
            "cold_init_p50_ms": round(percentile(seen.init_ms, 0.5), 1),
            "exec_p50_ms": round(exec_ms, 1),
            "cold_vs_exec": round(p50 / exec_ms, 2),
            "cold_starts": len(seen.first_calls_ms),
        },
        tables=[Table(("ms", "p50", "p90", "p99", "least"), rows)],
        budgets=[
            Budget("cold start of a trivial handler, p50", round(p50, 1), 5, "ms"),
            Budget("the same, of a bare `python3 -I -S -c pass`", round(p50 / exec_ms, 2), 0.4, "times"),
        ],
        notes=[f"Isolation level {isolation}."],
    )


MEASUREMENT: Final = Measurement(
    name="cold",
    title="Cold starts",
    says="""\
A new function each time, with a trivial Python handler, and its first call through gRPC, one at a time; its
instance is gone before the next one. Beside each, in turns, the bare start of an interpreter without any
isolation.""",
    takes_s=(20, 8),
    run=run,
    full=Setup(),
    quick=Setup(starts=10),
)
