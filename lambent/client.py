"""The asyncio client of a Lambent frontend.

    async with Client() as client:
        done = await client.invoke("resize", {"width": 200})
        print(done.json(), done.explanation.start)

Errors are those of `lambent_proto.errors`; a function that fails is an answer with `function_error` set.
`lambent.SyncClient` is the same without asyncio.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio

from lambent.answer_stream import AnswerStream
from lambent.async_invocations import AsyncInvocations
from lambent.fleet import FleetCalls
from lambent.functions import FunctionCalls
from lambent.invocation_stream import GRACE_S, InvocationStream
from lambent.layers import LayerCalls
from lambent.messages import Invocation, Priority, encoded, fill_request, invocation_of
from lambent.rpc import (
    ASK_WITHIN_S,
    answer,
    checked_token,
    pauses,
    tls_of_environment,
    with_access_key,
)
from lambent.schedules import Schedules
from lambent.triggers import Triggers
from lambent.urls import FunctionUrls, Policies
from lambent.versions import Versions
from lambent_chassis import grpc_options
from lambent_chassis.clock import monotonic_s
from lambent_proto.errors import NotReady
from lambent_proto.v1 import (
    async_invocations_pb2_grpc,
    fleet_pb2_grpc,
    functions_pb2_grpc,
    invoke_pb2,
    invoke_pb2_grpc,
    layers_pb2_grpc,
    limits_pb2_grpc,
    policies_pb2_grpc,
    schedules_pb2_grpc,
    triggers_pb2_grpc,
    urls_pb2_grpc,
    versions_pb2_grpc,
)

DEFAULT_ENDPOINT: Final = "127.0.0.1:50051"

MAX_SHARED_BYTES: Final = 256 * 1024
"""Events above it go by themselves: a stream takes 64 MB at one time, and then nothing."""


class Client(FunctionCalls, LayerCalls, FleetCalls):
    def __init__(
        self,
        endpoint: str | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        access_key: str | None = None,
        retries: int = 3,
    ) -> None:
        """`endpoint` is HOST:PORT, by default that of LAMBENT_ENDPOINT, else 127.0.0.1:50051.

        `credentials` are TLS's, by default by LAMBENT_CA, LAMBENT_CERT and LAMBENT_CERT_KEY: docs/access.md.
        `access_key` is the token of an access key, by default that of LAMBENT_KEY; a fleet that asks nobody
        who they are needs none. `retries` is how often an invocation is sent again that certainly never ran
        because the frontend could not be reached or was not ready (NotReady), after a growing pause. After
        LostWithWorker or DeadlinePassed it may have run, and Throttled comes after a wait in the fleet's
        line: what then, the caller decides.
        """
        self.endpoint = endpoint or os.environ.get("LAMBENT_ENDPOINT") or DEFAULT_ENDPOINT
        self._credentials = credentials or tls_of_environment()
        self._access_key = checked_token(access_key or os.environ.get("LAMBENT_KEY") or "")
        self._retries = retries
        self._shared: InvocationStream | None = None

    async def __aenter__(self) -> Self:
        options, carriers = grpc_options.CHANNEL, with_access_key(self._access_key)
        if self._credentials is None:
            channel = grpc.aio.insecure_channel(self.endpoint, options=options, interceptors=carriers)
        else:
            channel = grpc.aio.secure_channel(
                self.endpoint, self._credentials, options=options, interceptors=carriers
            )
        self._channel = channel
        self._invocations = invoke_pb2_grpc.InvocationsStub(channel)
        self._functions = functions_pb2_grpc.FunctionsStub(channel)
        self._layers = layers_pb2_grpc.LayersStub(channel)
        self._limits = limits_pb2_grpc.LimitsStub(channel)
        self._fleet = fleet_pb2_grpc.FleetStub(channel)
        self.schedules = Schedules(schedules_pb2_grpc.SchedulesStub(channel))
        self.policies = Policies(policies_pb2_grpc.PoliciesStub(channel))
        self.urls = FunctionUrls(urls_pb2_grpc.FunctionUrlsStub(channel))
        self.versions = Versions(versions_pb2_grpc.VersionsStub(channel))
        self.async_invocations = AsyncInvocations(
            async_invocations_pb2_grpc.AsyncInvocationsStub(channel), self._invocations
        )
        self.triggers = Triggers(triggers_pb2_grpc.TriggersStub(channel))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shared is not None:
            await self._shared.abort()
        await self._channel.close()

    async def invoke(
        self,
        name: str,
        payload: bytes | object = b"",
        *,
        tail: bool = False,
        timeout_s: float | None = None,
        client_context: Mapping[str, object] | None = None,
        priority: Priority = "normal",
        tenant: str = "",
        sticky_key: str = "",
        idempotency_key: str = "",
    ) -> Invocation:
        """Runs one event. `payload` goes as it is if it is bytes, else as JSON; empty bytes mean `{}`.

        Calls that are under way at one time share messages of one stream, which costs both sides a fraction;
        large events go beside it, so that small ones need not wait for them.
        `timeout_s` is the longest to wait and run; by default the fleet's waiting time plus the function's
        timeout. Of calls that wait for the same function those of a higher `priority` are served first, and
        in one class the tenants take turns. Calls with one `sticky_key` go to the instance that served it
        last, or else to its node, where that costs no wait. Of a function's calls with one `idempotency_key`
        the first is run, and all get its answer. `async_invocations.begin` is for what nobody waits for.
        Raises a LambentError.
        """
        payload = encoded(payload)
        alone = idempotency_key or len(payload) > MAX_SHARED_BYTES
        ends_at = None if timeout_s is None else monotonic_s() + timeout_s
        left_s = timeout_s
        for pause_s in (*pauses(self._retries), None):
            try:
                invoke = (
                    partial(self._invoke_once, idempotency_key) if alone else self._stream_for_all().invoke
                )
                return await invoke(
                    name,
                    payload,
                    tail=tail,
                    timeout_s=left_s,
                    client_context=client_context,
                    priority=priority,
                    tenant=tenant,
                    sticky_key=sticky_key,
                )
            except NotReady:
                if ends_at is not None:
                    left_s = ends_at - monotonic_s() - (pause_s or 0.0)
                if pause_s is None or (left_s is not None and left_s <= 0):
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _invoke_once(
        self,
        idempotency_key: str,
        name: str,
        payload: bytes | object,
        *,
        timeout_s: float | None,
        **said: Any,
    ) -> Invocation:
        request = invoke_pb2.InvokeRequest(idempotency_key=idempotency_key)
        fill_request(request, name, payload, timeout_s=timeout_s, **said)
        within_s = None if timeout_s is None else timeout_s + GRACE_S
        return invocation_of(await answer(self._invocations.Invoke(request, timeout=within_s)))

    async def dry_run(self, name: str) -> str:
        """The version that an invocation would run, without running it. Raises what would refuse it."""
        request = invoke_pb2.InvokeRequest(
            function_name=name, invocation_type=invoke_pb2.INVOCATION_TYPE_DRY_RUN
        )
        return (await answer(self._invocations.Invoke(request, timeout=ASK_WITHIN_S))).executed_version

    def invoke_with_response_stream(
        self,
        name: str,
        payload: bytes | object = b"",
        *,
        tail: bool = False,
        timeout_s: float | None = None,
        client_context: Mapping[str, object] | None = None,
        priority: Priority = "normal",
        tenant: str = "",
        sticky_key: str = "",
    ) -> AnswerStream:
        """As `invoke`, for an answer that is taken in parts as the function writes them, 200 MB at the most.

        An async context manager to be iterated, once: `AnswerStream` says how. `timeout_s` is up to the
        answer's end.
        """
        request = invoke_pb2.InvokeRequest()
        fill_request(
            request,
            name,
            payload,
            tail=tail,
            timeout_s=timeout_s,
            client_context=client_context,
            priority=priority,
            tenant=tenant,
            sticky_key=sticky_key,
        )
        return AnswerStream(self._invocations, request, timeout_s, self._retries)

    async def map(
        self,
        name: str,
        payloads: Iterable[bytes | object] | AsyncIterable[bytes | object],
        *,
        in_flight: int = 64,
        timeout_s: float | None = None,
        priority: Priority = "normal",
        tenant: str = "",
    ) -> AsyncGenerator[Invocation, None]:
        """Runs one event for each payload, `in_flight` at one time, and gives the answers in their order.

        Payloads are taken as they are needed. The first that fails is raised in its place, and whoever stops
        iterating gives up those under way. Raises LambentError.
        """
        running: deque[asyncio.Task[Invocation]] = deque()
        try:
            async for payload in _each(payloads):
                call = self.invoke(name, payload, timeout_s=timeout_s, priority=priority, tenant=tenant)
                running.append(asyncio.create_task(call))
                if len(running) == in_flight:
                    yield await running.popleft()
            while running:
                yield await running.popleft()
        finally:
            for call_under_way in running:
                call_under_way.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _stream_for_all(self) -> InvocationStream:
        if self._shared is None or self._shared.is_over:
            self._shared = InvocationStream(self._invocations)
        return self._shared

    def stream(self) -> InvocationStream:
        """A stream of one's own: an async context manager whose end waits for all that was begun on it."""
        return InvocationStream(self._invocations)


async def _each(payloads: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[object]:
    if isinstance(payloads, AsyncIterable):
        async for payload in payloads:
            yield payload
    else:
        for payload in payloads:
            yield payload
