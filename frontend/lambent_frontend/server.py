"""The frontend's public gRPC server: its services, health and reflection."""

from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from lambent_chassis import grpc_options
from lambent_frontend.grpc_door.server import ALPN, OwnServer
from lambent_frontend.guard import Guard
from lambent_frontend.tls import PublicTls
from lambent_proto.v1 import (
    async_invocations_pb2,
    async_invocations_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    functions_pb2,
    functions_pb2_grpc,
    invoke_pb2,
    invoke_pb2_grpc,
    layers_pb2,
    layers_pb2_grpc,
    limits_pb2,
    limits_pb2_grpc,
    policies_pb2,
    policies_pb2_grpc,
    schedules_pb2,
    schedules_pb2_grpc,
    triggers_pb2,
    triggers_pb2_grpc,
    urls_pb2,
    urls_pb2_grpc,
    versions_pb2,
    versions_pb2_grpc,
)

SERVICES: Final = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (invoke_pb2, "Invocations"),
        (functions_pb2, "Functions"),
        (versions_pb2, "Versions"),
        (layers_pb2, "Layers"),
        (fleet_pb2, "Fleet"),
        (limits_pb2, "Limits"),
        (policies_pb2, "Policies"),
        (urls_pb2, "FunctionUrls"),
        (async_invocations_pb2, "AsyncInvocations"),
        (schedules_pb2, "Schedules"),
        (triggers_pb2, "Triggers"),
    )
)


class PublicServer:
    """Owns the gRPC server: grpc.aio's, or with `own` Lambent's. The same services are behind both.

    Health answers for each service and, by the empty name, for the whole.

    Where callers are asked who they are health alone answers everybody; there is no reflection then.
    """

    def __init__(
        self,
        invocations: invoke_pb2_grpc.InvocationsServicer,
        functions: functions_pb2_grpc.FunctionsServicer,
        versions: versions_pb2_grpc.VersionsServicer,
        layers: layers_pb2_grpc.LayersServicer,
        fleet: fleet_pb2_grpc.FleetServicer,
        limits: limits_pb2_grpc.LimitsServicer,
        policies: policies_pb2_grpc.PoliciesServicer,
        urls: urls_pb2_grpc.FunctionUrlsServicer,
        async_invocations: async_invocations_pb2_grpc.AsyncInvocationsServicer,
        schedules: schedules_pb2_grpc.SchedulesServicer,
        triggers: triggers_pb2_grpc.TriggersServicer,
        guard: Guard,
        *,
        own: bool = False,
        share_ports: bool = False,
    ) -> None:
        self._own = own
        self._server = _server(guard, own=own, share_ports=share_ports)
        for add, servicer, file, name in (
            (invoke_pb2_grpc.add_InvocationsServicer_to_server, invocations, invoke_pb2, "Invocations"),
            (functions_pb2_grpc.add_FunctionsServicer_to_server, functions, functions_pb2, "Functions"),
            (versions_pb2_grpc.add_VersionsServicer_to_server, versions, versions_pb2, "Versions"),
            (layers_pb2_grpc.add_LayersServicer_to_server, layers, layers_pb2, "Layers"),
            (fleet_pb2_grpc.add_FleetServicer_to_server, fleet, fleet_pb2, "Fleet"),
            (limits_pb2_grpc.add_LimitsServicer_to_server, limits, limits_pb2, "Limits"),
            (policies_pb2_grpc.add_PoliciesServicer_to_server, policies, policies_pb2, "Policies"),
            (urls_pb2_grpc.add_FunctionUrlsServicer_to_server, urls, urls_pb2, "FunctionUrls"),
            (
                async_invocations_pb2_grpc.add_AsyncInvocationsServicer_to_server,
                async_invocations,
                async_invocations_pb2,
                "AsyncInvocations",
            ),
            (schedules_pb2_grpc.add_SchedulesServicer_to_server, schedules, schedules_pb2, "Schedules"),
            (triggers_pb2_grpc.add_TriggersServicer_to_server, triggers, triggers_pb2, "Triggers"),
        ):
            add(guard.over(servicer, file.DESCRIPTOR.services_by_name[name]), self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if not guard.asks:
            shown = reflection.aio.ReflectionServicer(
                (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
            )
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(shown, self._server)

    async def start(self, address: str, tls: PublicTls | None = None) -> int:
        """Listens on `HOST:PORT`, port 0 taking a free one, and returns the port. Not ready until told.

        Raises OSError if it cannot listen there, CannotEncrypt.
        """
        try:
            if tls is None:
                port: int = self._server.add_insecure_port(address)
            else:
                credentials = tls.context(ALPN) if self._own else tls.of_grpcio()
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is something else there? ({error})") from None
        await self.set_ready(False)
        await self._server.start()
        return port

    async def set_ready(self, ready: bool) -> None:
        """What the health service says from now on."""
        answer = health_pb2.HealthCheckResponse
        status = answer.SERVING if ready else answer.NOT_SERVING
        for service in ("", *SERVICES):
            await self._health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """Takes no new call, gives those under way `grace_s` seconds, then cancels them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


def _server(guard: Guard, *, own: bool, share_ports: bool) -> Any:
    """The generated code takes either, and is typed for one."""
    if own:
        whose: Any = guard.caller
        return OwnServer(whose=whose, share_ports=share_ports)
    return grpc.aio.server(options=grpc_options.SHARING if share_ports else grpc_options.SERVER)
