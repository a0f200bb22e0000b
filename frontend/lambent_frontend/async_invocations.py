"""What became of asynchronous calls: what both doors ask of the queue."""

import heapq
import itertools
from collections.abc import Mapping

from lambent_frontend.others import ALONE, Others
from lambent_frontend.queue.queue import Known, Queue
from lambent_frontend.queue.store import State
from lambent_frontend.rules import page_size
from lambent_proto.errors import InvalidRequest, UnknownRequest
from lambent_proto.ids import FrontendId, FunctionName, RequestId
from lambent_proto.v1 import async_invocations_pb2 as pb
from lambent_proto.v1.async_invocations_pb2_grpc import AsyncInvocationsStub as Stub


class AsyncInvocations:
    """`queue` is None where the frontend has no folder for one. What it does not know `others` may."""

    def __init__(self, queue: Queue | None, frontend: FrontendId, others: Others = ALONE) -> None:
        self._queue = queue
        self._frontend = frontend
        self._others = others

    async def get(self, request: pb.GetAsyncInvocationRequest) -> pb.AsyncInvocation:
        try:
            return self._described(await there(self._queue).get(*_named(request)))
        except UnknownRequest as unknown:
            return await self._others.whoever_knows(
                unknown, lambda channel: Stub(channel).GetAsyncInvocation(request)
            )

    async def list(self, request: pb.ListAsyncInvocationsRequest) -> pb.ListAsyncInvocationsResponse:
        """Each frontend's oldest first, and over all of them by the time they were received."""
        most, places = page_size(request.max_items), _places(request.marker)
        pages = {self._frontend: await self._page(request, most, places.get(self._frontend, 0))}
        missing: list[FrontendId] = []
        if self._others is not ALONE:
            others, heard = await self._others.all(
                lambda channel: Stub(channel).ListAsyncInvocations(request)
            )
            pages |= others
            missing = sorted(heard.missing)
        merged = heapq.merge(*(it.invocations for it in pages.values()), key=_received)
        page = list(itertools.islice(merged, most))
        more = len(page) < sum(len(it.invocations) for it in pages.values())
        more = more or any(it.next_marker for it in pages.values())
        places |= {FrontendId(it.frontend): it.number for it in page}
        return pb.ListAsyncInvocationsResponse(
            invocations=page, next_marker=_marker(places) if more else "", missing_frontends=missing
        )

    async def queue(self, request: pb.GetQueueRequest) -> pb.Queue:
        counts = await there(self._queue).counts()
        others, heard = await self._others.all(lambda channel: Stub(channel).GetQueue(request))
        return pb.Queue(
            frontend=self._frontend,
            by_state=counts.by_state,
            bytes=counts.bytes,
            most_bytes=counts.most_bytes,
            others=[others[it] for it in sorted(others)],
            missing_frontends=sorted(heard.missing),
        )

    async def cancel(self, request: pb.CancelAsyncInvocationRequest) -> pb.AsyncInvocation:
        try:
            return self._described(await there(self._queue).cancel(*_named(request)))
        except UnknownRequest as unknown:
            return await self._others.whoever_knows(
                unknown, lambda channel: Stub(channel).CancelAsyncInvocation(request)
            )

    async def redrive(self, request: pb.RedriveAsyncInvocationRequest) -> pb.AsyncInvocation:
        try:
            return self._described(await there(self._queue).redrive(*_named(request)))
        except UnknownRequest as unknown:
            return await self._others.whoever_knows(
                unknown, lambda channel: Stub(channel).RedriveAsyncInvocation(request)
            )

    async def _page(
        self, request: pb.ListAsyncInvocationsRequest, most: int, after: int
    ) -> pb.ListAsyncInvocationsResponse:
        """Of this frontend's queue; a marker says only that there is more."""
        name, state = FunctionName(request.function_name), _state(request.state)
        found = await there(self._queue).list(name, state, after, most + 1)
        return pb.ListAsyncInvocationsResponse(
            invocations=[self._described(it) for it in found[:most]],
            next_marker="more" if len(found) > most else "",
        )

    def _described(self, known: Known) -> pb.AsyncInvocation:
        told = described(known)
        told.frontend, told.number = self._frontend, known.event.item.number
        return told


def there(queue: Queue | None) -> Queue:
    """Raises InvalidRequest."""
    if queue is None:
        raise InvalidRequest(
            "this frontend takes no asynchronous calls and no idempotency keys, as it has no folder to keep "
            "them in: its setting `data` names one"
        )
    return queue


def described(known: Known) -> pb.AsyncInvocation:
    event, ending = known.event, known.event.ending
    told = pb.AsyncInvocation(
        request_id=event.id,
        function_name=event.asked.function,
        qualifier=event.asked.qualifier,
        state="running" if known.attempt else event.state.value,
        attempts=event.tally.attempts,
        breaks=event.tally.breaks,
        message=event.message,
        payload=known.answer,
    )
    told.received.FromNanoseconds(int(event.tally.received * 1e9))
    if event.state in (State.QUEUED, State.RETRYING) and not known.attempt:
        told.due.FromNanoseconds(int(event.item.due * 1e9))
    if ending is not None and event.state is not State.CANCELLED:
        told.condition, told.message = ending.condition, ending.message
        told.executed_version, told.running_ms = ending.version, ending.running_ms
        told.function_error = "Unhandled" if ending.failed else ""
        told.ended.FromNanoseconds(int(ending.ended * 1e9))
    return told


def _named(
    request: pb.GetAsyncInvocationRequest
    | pb.CancelAsyncInvocationRequest
    | pb.RedriveAsyncInvocationRequest,
) -> tuple[FunctionName, RequestId]:
    return FunctionName(request.function_name), RequestId(request.request_id)


def _state(text: str) -> State | None:
    if not text:
        return None
    try:
        return State(text)
    except ValueError:
        known = ", ".join(it.value for it in State)
        raise InvalidRequest(f"the state {text[:80]!r} is none of {known}") from None


def _received(it: pb.AsyncInvocation) -> int:
    return int(it.received.ToNanoseconds())


def _marker(places: Mapping[FrontendId, int]) -> str:
    """How far each frontend's queue has been listed. Of one that is new by the next page all is listed."""
    return ",".join(f"{frontend}:{number}" for frontend, number in sorted(places.items()) if number)


def _places(marker: str) -> dict[FrontendId, int]:
    places: dict[FrontendId, int] = {}
    for part in marker.split(",") if marker else []:
        frontend, _, number = part.rpartition(":")
        if not frontend or not (number.isascii() and number.isdecimal()) or len(number) > 18:
            raise InvalidRequest(f"the marker {marker[:80]!r} is none that was given")
        places[FrontendId(frontend)] = int(number)
    return places
