"""Which methods of which services the page may call: what it shows and does, and nothing else."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from lambent_frontend.console.calls import Method, methods
from lambent_frontend.guard import Guard
from lambent_proto.v1 import async_invocations_pb2, fleet_pb2, functions_pb2, invoke_pb2, triggers_pb2

_CALLED: Final = (
    (
        fleet_pb2,
        "Fleet",
        ("ListNodes", "ListInstances", "GetActivity", "Explain", "ReadLogs"),
    ),
    (functions_pb2, "Functions", ("ListFunctions",)),
    (invoke_pb2, "Invocations", ("Invoke",)),
    (
        async_invocations_pb2,
        "AsyncInvocations",
        ("ListAsyncInvocations", "RedriveAsyncInvocation", "GetQueue"),
    ),
    (triggers_pb2, "Triggers", ("ListTriggers", "UpdateTrigger")),
)


class Behind(NamedTuple):
    """The servicers, in the order of the list above."""

    fleet: Any
    functions: Any
    invocations: Any
    async_invocations: Any
    triggers: Any

    def methods(self, guard: Guard) -> Mapping[str, Method]:
        """By their names, which are one service's alone."""
        found: dict[str, Method] = {}
        for servicer, (file, name, called) in zip(self, _CALLED, strict=True):
            service = file.DESCRIPTOR.services_by_name[name]
            found |= methods(guard.over(servicer, service), service, called)
        return found
