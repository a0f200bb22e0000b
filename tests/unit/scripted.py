"""A frontend's public server over a dispatcher that does as the test says."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from lambent_frontend.access import AccessKeys
from lambent_frontend.calling import Calling
from lambent_frontend.calls import Answer, Begun, Call, Counted, Explained
from lambent_frontend.fleet import Fleet
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.functions import Functions
from lambent_frontend.guard import Guard
from lambent_frontend.invoker import Invoker
from lambent_frontend.layers import Layers
from lambent_frontend.limits import Limits
from lambent_frontend.policies import Policies
from lambent_frontend.remembered import Remembered
from lambent_frontend.schedules.door import Schedules
from lambent_frontend.server import PublicServer
from lambent_frontend.service import Invocations
from lambent_frontend.services import (
    FunctionsService,
    FunctionUrlsService,
    LayersService,
    LimitsService,
    PoliciesService,
    SchedulesService,
    TriggersService,
    VersionsService,
)
from lambent_frontend.tls import PublicTls
from lambent_frontend.triggers.triggers import Triggers
from lambent_frontend.versions import Versions
from lambent_proto.access import AccessKey
from lambent_proto.definition import Definition
from lambent_proto.errors import LambentError
from lambent_proto.ids import FrontendId, FunctionName, RequestId
from lambent_proto.v1 import (
    async_invocations_pb2_grpc,
    functions_pb2_grpc,
    layers_pb2_grpc,
    limits_pb2_grpc,
    policies_pb2_grpc,
    schedules_pb2_grpc,
    triggers_pb2_grpc,
    urls_pb2_grpc,
    versions_pb2_grpc,
)

Done = Callable[[Answer | LambentError], None]

FRONTEND = FrontendId("front@1")
WAITING_S = 10.0


def answer(payload: bytes, *, failed: bool = False, tail: bytes = b"") -> Answer:
    return Answer(payload, failed, tail, "warm", "idle", "n1", "i-1", 1.0, 0.0, 0.0, 2.0, "", "namespaces")


OWN = True
"""Whether `serving` is by Lambent's own gRPC server; the fixture `door` sets it."""


class ScriptedDispatcher:
    """Answers `echo` at once, fails the event for `failing`, and holds what is for `held` until released.

    A function named like an error's reason fails with that error. `begin`, `write` and `end` stream a held
    answer.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.held: dict[RequestId, tuple[Call, Done]] = {}
        self.abandoned: list[RequestId] = []
        self.taken_bytes = 0
        self.explained: dict[RequestId, Explained] = {}
        self.errors: dict[str, LambentError] = {}
        self.counts: Counter[Counted] = Counter()
        self._changed = asyncio.Event()

    def submit(self, call: Call, done: Done) -> None:
        self.calls.append(call)
        name = call.definition.name
        if name in self.errors:
            done(self.errors[name])
        elif name == "held":
            self.held[call.request_id] = call, done
        elif name == "failing":
            done(answer(b'{"errorType":"E"}', failed=True))
        else:
            done(answer(call.payload, tail=b"END" if call.tail else b""))
        self._changed.set()

    def taken(self, request_id: RequestId, size: int) -> None:
        self.taken_bytes += size
        self._changed.set()

    def begin(self, content_type: str = "text/plain") -> None:
        call, _ = next(iter(self.held.values()))
        assert call.parts is not None, "its answer is wanted whole"
        call.parts.began(Begun(content_type, answer(b"")))

    def write(self, *parts: bytes) -> None:
        call, _ = next(iter(self.held.values()))
        assert call.parts is not None, "its answer is wanted whole"
        for part in parts:
            call.parts.part(part)

    def end(self, outcome: Answer | LambentError | None = None) -> None:
        _, done = self.held.pop(next(iter(self.held)))
        done(answer(b"", tail=b"END") if outcome is None else outcome)

    def abandon(self, request_id: RequestId) -> None:
        self.abandoned.append(request_id)
        self._changed.set()

    def under_way(self, request_id: RequestId) -> bool:
        return request_id in self.held

    def explain(self, request_id: RequestId) -> Explained | None:
        return self.explained.get(request_id)

    def release(self, payload: bytes) -> None:
        """Answers the held call that has this payload."""
        request_id = next(held for held, (call, _) in self.held.items() if call.payload == payload)
        call, done = self.held.pop(request_id)
        done(answer(call.payload))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class AnyFunction:
    """Every name is a function but `unknown` and the empty one."""

    def get(self, name: FunctionName) -> Definition | None:
        if name in ("unknown", ""):
            return None
        return Definition(
            name=name, revision="r1", runtime="python3.11", handler="a.b", code_sha256="00", code_size=1
        )

    def resolve(self, name: FunctionName, qualifier: str, chance: float) -> Definition | None:
        """Each has a version 7, and an alias `live`, which points to it."""
        latest = self.get(name)
        if latest is None or qualifier == "$LATEST":
            return latest
        return replace(latest, version="7") if qualifier in ("7", "live") else None


class Known(AccessKeys):
    """Those given, as if etcd had told of them."""

    def __init__(self, *known: AccessKey) -> None:
        self._keys = {key.id: key for key in known}

    def forget(self, key: AccessKey) -> None:
        del self._keys[key.id]


class NoVersions(versions_pb2_grpc.VersionsServicer):
    """For tests of the other services."""

    def PublishVersion(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    ListVersions = DeleteVersion = PublishVersion  # type: ignore[assignment]
    CreateAlias = UpdateAlias = GetAlias = ListAliases = DeleteAlias = PublishVersion  # type: ignore[assignment]
    PutProvisioned = GetProvisioned = ListProvisioned = PublishVersion  # type: ignore[assignment]
    DeleteProvisioned = PublishVersion  # type: ignore[assignment]


class NoFunctions(functions_pb2_grpc.FunctionsServicer):
    """For tests of the other services."""

    def GetCode(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def CreateFunction(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    UpdateFunction = GetFunction = ListFunctions = DeleteFunction = CreateFunction  # type: ignore[assignment]


class NoLayers(layers_pb2_grpc.LayersServicer):
    """For tests of the other services."""

    def GetLayerCode(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def PublishLayerVersion(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    GetLayerVersion = ListLayers = ListLayerVersions = DeleteLayerVersion = PublishLayerVersion  # type: ignore[assignment]


class NoStore:
    async def put(self, key: str, value: bytes) -> int:
        raise NotImplementedError

    async def delete(self, key: str) -> bool:
        raise NotImplementedError


class NoLimits(limits_pb2_grpc.LimitsServicer):
    def GetConcurrency(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    SetConcurrency = GetConcurrency  # type: ignore[assignment]


class NoPolicies(policies_pb2_grpc.PoliciesServicer):
    def AddPermission(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    GetPolicy = RemovePermission = AddPermission  # type: ignore[assignment]


class NoUrls(urls_pb2_grpc.FunctionUrlsServicer):
    def CreateFunctionUrl(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    GetFunctionUrl = UpdateFunctionUrl = ListFunctionUrls = CreateFunctionUrl  # type: ignore[assignment]
    DeleteFunctionUrl = CreateFunctionUrl  # type: ignore[assignment]


class NoSchedules(schedules_pb2_grpc.SchedulesServicer):
    """For tests of the other services."""

    def CreateSchedule(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    UpdateSchedule = GetSchedule = ListSchedules = DeleteSchedule = CreateSchedule  # type: ignore[assignment]


class NoAsyncInvocations(async_invocations_pb2_grpc.AsyncInvocationsServicer):
    """For tests of the other services."""

    def GetAsyncInvocation(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    ListAsyncInvocations = CancelAsyncInvocation = GetAsyncInvocation  # type: ignore[assignment]
    RedriveAsyncInvocation = PutEventInvokeConfig = GetAsyncInvocation  # type: ignore[assignment]
    UpdateEventInvokeConfig = GetEventInvokeConfig = GetAsyncInvocation  # type: ignore[assignment]
    DeleteEventInvokeConfig = ListEventInvokeConfigs = GetQueue = GetAsyncInvocation  # type: ignore[assignment]


class NoTriggers(triggers_pb2_grpc.TriggersServicer):
    def CreateTrigger(self, request: object, context: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    UpdateTrigger = GetTrigger = ListTriggers = DeleteTrigger = CreateTrigger  # type: ignore[assignment]


@asynccontextmanager
async def serving(
    dispatcher: ScriptedDispatcher,
    functions: Functions | None = None,
    layers: Layers | None = None,
    fleet: Fleet | None = None,
    limits: Limits | None = None,
    versions: Versions | None = None,
    policies: Policies | None = None,
    urls: FunctionUrls | None = None,
    schedules: Schedules | None = None,
    triggers: Triggers | None = None,
    guard: Guard | None = None,
    address: str = "127.0.0.1:0",
    tls: PublicTls | None = None,
) -> AsyncIterator[str]:
    """The address of a ready public server."""
    server = PublicServer(
        Invocations(Calling(Invoker(AnyFunction(), dispatcher, waiting_s=WAITING_S))),
        FunctionsService(functions) if functions else NoFunctions(),
        VersionsService(versions) if versions else NoVersions(),
        LayersService(layers) if layers else NoLayers(),
        fleet or Fleet(lambda: [""], Remembered(dispatcher, FRONTEND), NoStore()),
        LimitsService(limits) if limits else NoLimits(),
        PoliciesService(policies) if policies else NoPolicies(),
        FunctionUrlsService(urls) if urls else NoUrls(),
        NoAsyncInvocations(),
        SchedulesService(schedules) if schedules else NoSchedules(),
        TriggersService(triggers) if triggers else NoTriggers(),
        guard or Guard(None),
        own=OWN,
    )
    port = await server.start(address, tls)
    await server.set_ready(True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
