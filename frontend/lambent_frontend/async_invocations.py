"""What became of asynchronous calls: what both doors ask of the queue."""

from lambent_frontend.queue.queue import Known, Queue
from lambent_frontend.queue.store import State
from lambent_frontend.rules import page_size
from lambent_proto.errors import InvalidRequest
from lambent_proto.ids import FunctionName, RequestId
from lambent_proto.v1 import async_invocations_pb2 as pb


class AsyncInvocations:
    """`queue` is None where the frontend has no folder for one."""

    def __init__(self, queue: Queue | None) -> None:
        self._queue = queue

    async def get(self, request: pb.GetAsyncInvocationRequest) -> pb.AsyncInvocation:
        found = await there(self._queue).get(*_named(request))
        return described(found)

    async def list(self, request: pb.ListAsyncInvocationsRequest) -> pb.ListAsyncInvocationsResponse:
        most, after = page_size(request.max_items), _number(request.marker)
        name, state = FunctionName(request.function_name), _state(request.state)
        found = await there(self._queue).list(name, state, after, most + 1)
        more = len(found) > most
        return pb.ListAsyncInvocationsResponse(
            invocations=[described(it) for it in found[:most]],
            next_marker=str(found[most - 1].event.item.number) if more else "",
        )

    async def cancel(self, request: pb.CancelAsyncInvocationRequest) -> pb.AsyncInvocation:
        return described(await there(self._queue).cancel(*_named(request)))

    async def redrive(self, request: pb.RedriveAsyncInvocationRequest) -> pb.AsyncInvocation:
        return described(await there(self._queue).redrive(*_named(request)))


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


def _number(marker: str) -> int:
    if not marker:
        return 0
    if not (marker.isascii() and marker.isdecimal()) or len(marker) > 18:
        raise InvalidRequest(f"the marker {marker[:80]!r} is none that was given")
    return int(marker)
