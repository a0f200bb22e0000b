"""The only place where `lambent_proto.errors` becomes a gRPC status, and a gRPC status one of them again.

A status carries a google.rpc.ErrorInfo: domain `lambent`, the error's reason, and the request id in its
metadata. The cores do not import this module: it reaches gRPC.
"""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from lambent_proto import errors
from lambent_proto.errors import LambentError
from lambent_proto.v1 import invoke_pb2

DOMAIN: Final = "lambent"

REQUEST_ID_KEY: Final = "lambent-request-id"
"""Trailing metadata of every unary invocation, whatever its outcome."""

_DETAILS_KEY: Final = "grpc-status-details-bin"

_NEVER_TAKEN: Final = (
    "failed to connect",
    "errors resolving",
    "DNS resolution failed",
    "Stream removed (GOAWAY received",  # "Stream removed (Socket closed (GOAWAY ..." may have been
)
"""gRPC's words for a call that did not leave this machine, or that a server left out when it said goodbye."""

# The status travels in HTTP/2 headers twice, once with three bytes for each that is not ASCII, and peers
# may refuse more than 8 KB of headers.
_MAX_MESSAGE_BYTES: Final = 1500

Context = grpc.aio.ServicerContext[Any, Any]

_Servicer = TypeVar("_Servicer")
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Method = Callable[[_Servicer, _Request, Context], Coroutine[Any, Any, _Response]]


def leaves(base: type[LambentError] = LambentError) -> list[type[LambentError]]:
    """Every error that can be raised."""
    below = [leaf for child in base.__subclasses__() for leaf in leaves(child)]
    return below or [base]


_BY_REASON: Final = {leaf.reason: leaf for leaf in leaves()}


def code_of(error: LambentError) -> grpc.StatusCode:
    return grpc.StatusCode[error.status]


async def abort(context: Context, error: LambentError) -> NoReturn:
    """Ends the call with the error."""
    await context.abort(*status_of(error))


def status_of(error: LambentError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Code, message and trailing metadata."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    trailing: list[tuple[str, str | bytes]] = []
    if error.request_id:
        info.metadata["request_id"] = error.request_id
        trailing.append((REQUEST_ID_KEY, error.request_id))
    if isinstance(error, errors.Throttled) and error.throttle_reason:
        info.metadata["throttle_reason"] = error.throttle_reason
    detail = AnyMessage()
    detail.Pack(info)
    message = error.message.encode()[:_MAX_MESSAGE_BYTES].decode(errors="ignore")
    code = code_of(error)
    rich = status_pb2.Status(code=code.value[0], message=message, details=[detail])
    return code, message, (*trailing, *rpc_status.to_status(rich).trailing_metadata)


def errors_as_status(
    method: _Method[_Servicer, _Request, _Response],
) -> _Method[_Servicer, _Request, _Response]:
    """Wraps a unary method of a servicer: a LambentError that it raises ends the call with its status."""

    @functools.wraps(method)
    async def wrapped(servicer: _Servicer, request: _Request, context: Context) -> _Response:
        try:
            return await method(servicer, request, context)
        except LambentError as error:
            await abort(context, error)

    return wrapped


def fill(service_error: invoke_pb2.ServiceError, error: LambentError) -> None:
    """Writes the error the way a stream's result carries it."""
    service_error.code = code_of(error).value[0]
    service_error.reason = error.reason
    service_error.message = error.message
    service_error.request_id = error.request_id
    if isinstance(error, errors.Throttled):
        service_error.throttle_reason = error.throttle_reason


def from_service_error(error: invoke_pb2.ServiceError) -> LambentError:
    known = _BY_REASON.get(error.reason, errors.Internal)(error.message, error.request_id)
    if isinstance(known, errors.Throttled):
        known.throttle_reason = error.throttle_reason
    return known


def from_rpc(error: grpc.aio.AioRpcError) -> LambentError:
    """The error that a call failed with; one that is not of Lambent's making becomes the nearest."""
    said = error.details() or error.code().name
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            rich = status_pb2.Status.FromString(value)
            for detail in rich.details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == DOMAIN:
                    known = _BY_REASON.get(info.reason, errors.Internal)(
                        said, info.metadata.get("request_id", "")
                    )
                    if isinstance(known, errors.Throttled):
                        known.throttle_reason = info.metadata.get("throttle_reason", "")
                    return known
    return _foreign(error.code(), said)


def _foreign(code: grpc.StatusCode, said: str) -> LambentError:
    """For what gRPC itself, or something between the parties, answered."""
    if code is grpc.StatusCode.UNAVAILABLE:
        if any(words in said for words in _NEVER_TAKEN):
            return errors.NotReady(f"nobody answers there: {said}")
        return errors.LostWithWorker(
            f"the connection to the frontend was lost, what was under way may have run: {said}"
        )
    if code is grpc.StatusCode.CANCELLED:
        # So gRPC's server ends what it has not handed out when it is stopped. What it has, it ends otherwise.
        return errors.NotReady("the frontend is being stopped and did not take the call")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlinePassed("the deadline of the call passed before the frontend answered")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.PayloadTooLarge(said)
    if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED):
        return errors.InvalidRequest(said)
    return errors.Internal(f"{code.name}: {said}")
