"""Cold starts: a new function, its first call, and beside each the bare start of an interpreter."""

import os
import sys
from dataclasses import dataclass, field
from typing import Final

import grpc

from lambent_chassis.clock import monotonic_s
from lambent_proto.v1 import fleet_pb2, fleet_pb2_grpc, functions_pb2, functions_pb2_grpc, invoke_pb2
from lambent_proto.v1 import invoke_pb2_grpc as invoke_grpc
from loadtest.fleet import Off

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
