"""The only place where an error becomes an answer of Lambda's HTTP API: status, name, and the words Lambda
has.

Clients go by the status and by `x-amzn-ErrorType`. AWS's own retry 429, 500, 502, 503 and 504 by themselves,
also where the event may have run or the change have been made; so that is answered with UNKNOWN_OUTCOME,
which none of them retries. Where Lambda's words stand in for our own, ours are in `x-lambent-message`.
"""

import json
from collections.abc import Callable, Mapping
from typing import Final

from lambent_frontend.http.messages import Response
from lambent_proto import errors
from lambent_proto.errors import LambentError

UNKNOWN_OUTCOME: Final = 520
"""Nobody knows whether the event ran, or the change was made: what gRPC's UNKNOWN says. No registered status
of that meaning exists."""

NOT_IMPLEMENTED: Final = 501

_MOST_HEADER: Final = 1024
_THROTTLED: Final = "Rate Exceeded."
_BROKEN: Final = "Could not unzip uploaded file. Please check your file, then try to upload again."
_CHANGED: Final = (
    "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to "
    "retrieve the latest Revision Id"
)


class Refused(Exception):
    """An answer that is an error. `name` is Lambda's, such as ResourceNotFoundException."""

    def __init__(
        self, status: int, name: str, message: str, fields: Mapping[str, str] | None = None, detail: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.name = name
        self.message = message
        self.fields = fields or {}
        """Further ones of the body."""
        self.detail = detail
        """Our own words, where `message` has Lambda's."""
        self.headers: dict[str, str] = {}


def response(refused: Refused) -> Response:
    fault = "User" if refused.status < 500 else "Service"
    key = "Message" if refused.name in _CAPITAL else "message"
    body = {**refused.fields, "Type": fault, key: refused.message}
    headers = {"x-amzn-ErrorType": refused.name, **refused.headers}
    if refused.detail:
        headers["x-lambent-message"] = _printable(refused.detail)
    return Response(refused.status, json.dumps(body).encode(), headers)


_CAPITAL: Final = frozenset({"ResourceNotFoundException", "ServiceException"})
"""Whose bodies AWS writes with `Message`; clients read either."""


def refused(error: LambentError, arn: str = "") -> Refused:
    """`arn` is what was asked for."""
    made = _TABLE[type(error)](error, arn)
    made.headers["x-lambent-error"] = error.reason
    return made


def invalid(message: str) -> Refused:
    return Refused(400, "InvalidParameterValueException", message)


def constraint(value: object, where: str, rule: str) -> Refused:
    """As AWS words what its model does not allow."""
    said = (
        f"1 validation error detected: Value '{str(value)[:170]}' at '{where}' failed to satisfy constraint: "
    )
    return Refused(400, "ValidationException", said + rule)


def not_there(operation: str, why: str = "") -> Refused:
    """For operations, and parts of them, that Lambda has and Lambent has not. No client of AWS retries it."""
    return Refused(
        NOT_IMPLEMENTED,
        "NotImplementedException",
        why or f"Lambent does not have the operation {operation}: docs/compatibility.md lists those it has.",
    )


def _plain(status: int, name: str) -> Callable[[LambentError, str], Refused]:
    return lambda error, _: Refused(status, name, error.message)


def _worded(status: int, name: str, message: str) -> Callable[[LambentError, str], Refused]:
    return lambda error, _: Refused(status, name, message, detail=error.message)


def _unknown_function(error: LambentError, arn: str) -> Refused:
    return Refused(404, "ResourceNotFoundException", f"Function not found: {arn}", detail=error.message)


def _unknown_alias(error: LambentError, arn: str) -> Refused:
    return Refused(404, "ResourceNotFoundException", f"Cannot find alias arn: {arn}", detail=error.message)


def _function_exists(error: LambentError, arn: str) -> Refused:
    name = arn.rpartition(":")[2]
    said = f"Function already exist: {name}"
    return Refused(409, "ResourceConflictException", said, detail=error.message)


def _alias_exists(error: LambentError, arn: str) -> Refused:
    return Refused(409, "ResourceConflictException", f"Alias already exists: {arn}", detail=error.message)


def _not_configured(error: LambentError, arn: str) -> Refused:
    said = f"The function {arn} doesn't have an EventInvokeConfig"
    return Refused(404, "ResourceNotFoundException", said, detail=error.message)


def _throttled(error: LambentError, _: str) -> Refused:
    why = error.throttle_reason if isinstance(error, errors.Throttled) else ""
    fields = {"Reason": why} if why else {}
    return Refused(429, "TooManyRequestsException", _THROTTLED, fields, detail=error.message)


def _printable(text: str) -> str:
    """As a header may carry it."""
    ascii_only = text[:_MOST_HEADER].encode("ascii", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in ascii_only)


_TABLE: Final[Mapping[type[LambentError], Callable[[LambentError, str], Refused]]] = {
    errors.InvalidRequest: _plain(400, "InvalidParameterValueException"),
    errors.PayloadTooLarge: _plain(413, "RequestEntityTooLargeException"),
    errors.BrokenPackage: _worded(400, "InvalidParameterValueException", _BROKEN),
    errors.UnknownFunction: _unknown_function,
    errors.UnknownAlias: _unknown_alias,
    errors.UnknownLayer: _worded(
        404, "ResourceNotFoundException", "The resource you requested does not exist."
    ),
    errors.UnknownNode: _plain(404, "ResourceNotFoundException"),
    errors.UnknownTrigger: _plain(404, "ResourceNotFoundException"),
    errors.UnknownRequest: _plain(404, "ResourceNotFoundException"),
    errors.FunctionExists: _function_exists,
    errors.AliasExists: _alias_exists,
    errors.TriggerExists: _plain(409, "ResourceConflictException"),
    errors.TriggerBusy: _plain(400, "ResourceInUseException"),
    errors.NotProvisioned: _plain(404, "ProvisionedConcurrencyConfigNotFoundException"),
    errors.StatementExists: _plain(409, "ResourceConflictException"),
    errors.UnknownStatement: _plain(404, "ResourceNotFoundException"),
    errors.PolicyTooLong: _plain(400, "PolicyLengthExceededException"),
    errors.UrlExists: _plain(409, "ResourceConflictException"),
    errors.UnknownUrl: _plain(404, "ResourceNotFoundException"),
    errors.NotConfigured: _not_configured,
    errors.ScheduleExists: _plain(409, "ResourceConflictException"),
    errors.UnknownSchedule: _plain(404, "ResourceNotFoundException"),
    errors.InUse: _plain(409, "ResourceConflictException"),
    errors.RevisionMismatch: _worded(412, "PreconditionFailedException", _CHANGED),
    errors.NoCredentials: _worded(403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
    errors.UnknownKey: _worded(
        403, "UnrecognizedClientException", "The security token included in the request is invalid."
    ),
    errors.IncompleteSignature: _plain(400, "IncompleteSignatureException"),
    errors.BadSignature: _plain(403, "InvalidSignatureException"),
    errors.AccessDenied: _plain(403, "AccessDeniedException"),
    errors.Throttled: _throttled,
    errors.QueueFull: _plain(503, "ServiceException"),
    errors.DeadlinePassed: _plain(UNKNOWN_OUTCOME, "ServiceException"),
    errors.LostWithWorker: _plain(UNKNOWN_OUTCOME, "ServiceException"),
    errors.NotReady: _plain(503, "ServiceException"),
    errors.Contended: _plain(409, "ResourceConflictException"),
    errors.Unconfirmed: _plain(UNKNOWN_OUTCOME, "ServiceException"),
    errors.Internal: _plain(UNKNOWN_OUTCOME, "ServiceException"),
}
