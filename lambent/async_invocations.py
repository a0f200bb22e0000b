"""Asynchronous calls, what became of them, and what is configured for them: `Client.async_invocations`.

Everything raises LambentError.
"""

from collections.abc import Mapping, Sequence

from lambent.messages import Priority, fill_request
from lambent.rpc import ASK_WITHIN_S, answer
from lambent_proto.v1 import async_invocations_pb2 as pb
from lambent_proto.v1 import async_invocations_pb2_grpc, invoke_pb2, invoke_pb2_grpc


class AsyncInvocations:
    def __init__(
        self,
        stub: "async_invocations_pb2_grpc.AsyncInvocationsAsyncStub",
        invocations: "invoke_pb2_grpc.InvocationsAsyncStub",
    ) -> None:
        self._stub = stub
        self._invocations = invocations

    async def begin(
        self,
        name: str,
        payload: bytes | object = b"",
        *,
        client_context: Mapping[str, object] | None = None,
        priority: Priority = "normal",
        tenant: str = "",
        sticky_key: str = "",
        idempotency_key: str = "",
    ) -> str:
        """Has an event run and does not wait for it. Returns its request id once the event is on disk.

        Calls of a function with the same `idempotency_key` are one call, and get the same id.
        """
        request = invoke_pb2.InvokeRequest(
            invocation_type=invoke_pb2.INVOCATION_TYPE_EVENT, idempotency_key=idempotency_key
        )
        fill_request(
            request,
            name,
            payload,
            tail=False,
            timeout_s=None,
            client_context=client_context,
            priority=priority,
            tenant=tenant,
            sticky_key=sticky_key,
        )
        return (await answer(self._invocations.Invoke(request, timeout=ASK_WITHIN_S))).request_id

    async def get(self, name: str, request_id: str) -> pb.AsyncInvocation:
        """Raises UnknownRequest if no frontend knows it."""
        request = pb.GetAsyncInvocationRequest(function_name=name, request_id=request_id)
        return await answer(self._stub.GetAsyncInvocation(request, timeout=ASK_WITHIN_S))

    async def ls(
        self, name: str, *, state: str = "", most: int = 1000, missing: set[str] | None = None
    ) -> list[pb.AsyncInvocation]:
        """Oldest first. Into `missing` go the names of frontends that did not answer for what they took."""
        found: list[pb.AsyncInvocation] = []
        request = pb.ListAsyncInvocationsRequest(function_name=name, state=state)
        while len(found) < most:
            request.max_items = min(most - len(found), 1000)
            page = await answer(self._stub.ListAsyncInvocations(request, timeout=ASK_WITHIN_S))
            found += page.invocations
            if missing is not None:
                missing.update(page.missing_frontends)
            if not page.next_marker:
                break
            request.marker = page.next_marker
        return found

    async def cancel(self, name: str, request_id: str) -> pb.AsyncInvocation:
        """What runs just now is finished, and nobody hears of it. Raises InUse for one that is over."""
        request = pb.CancelAsyncInvocationRequest(function_name=name, request_id=request_id)
        return await answer(self._stub.CancelAsyncInvocation(request, timeout=ASK_WITHIN_S))

    async def redrive(self, name: str, request_id: str) -> pb.AsyncInvocation:
        """One that was given up has all its attempts again. Raises InUse for any other."""
        request = pb.RedriveAsyncInvocationRequest(function_name=name, request_id=request_id)
        return await answer(self._stub.RedriveAsyncInvocation(request, timeout=ASK_WITHIN_S))

    async def queue(self) -> pb.Queue:
        """Of the frontend that is asked, and in `others` of those."""
        return await answer(self._stub.GetQueue(pb.GetQueueRequest(), timeout=ASK_WITHIN_S))

    async def configure(
        self,
        name: str,
        qualifier: str = "",
        *,
        retries: int | None = None,
        most_age_s: int | None = None,
        delays_s: Sequence[float] = (),
        on_success: str | None = None,
        on_failure: str | None = None,
        replace: bool = False,
    ) -> pb.EventInvokeConfig:
        """Changes what is given, or begins with it; with `replace` all else is as by default.

        Destinations are ARNs or URLs, empty for none: docs/async.md.
        """
        settings = pb.EventInvoke(
            retries=retries,
            most_age_s=most_age_s,
            delays_s=delays_s,
            on_success=on_success,
            on_failure=on_failure,
        )
        if not replace:
            known = await answer(
                self._stub.ListEventInvokeConfigs(
                    pb.ListEventInvokeConfigsRequest(function_name=name), timeout=ASK_WITHIN_S
                )
            )
            replace = (qualifier or "$LATEST") not in {it.qualifier for it in known.configs}
        if replace:
            put = pb.PutEventInvokeConfigRequest(function_name=name, qualifier=qualifier, settings=settings)
            return await answer(self._stub.PutEventInvokeConfig(put, timeout=ASK_WITHIN_S))
        update = pb.UpdateEventInvokeConfigRequest(function_name=name, qualifier=qualifier, settings=settings)
        return await answer(self._stub.UpdateEventInvokeConfig(update, timeout=ASK_WITHIN_S))

    async def configs(self, name: str) -> Sequence[pb.EventInvokeConfig]:
        """Of the function, its versions and its aliases, by qualifier."""
        request = pb.ListEventInvokeConfigsRequest(function_name=name)
        found = await answer(self._stub.ListEventInvokeConfigs(request, timeout=ASK_WITHIN_S))
        return found.configs

    async def unconfigure(self, name: str, qualifier: str = "") -> None:
        request = pb.DeleteEventInvokeConfigRequest(function_name=name, qualifier=qualifier)
        await answer(self._stub.DeleteEventInvokeConfig(request, timeout=ASK_WITHIN_S))
