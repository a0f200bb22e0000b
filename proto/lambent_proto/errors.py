"""Every way a request can fail.

    LambentError
    ├── CallerError        the request was wrong; sending it again as it is will fail again
    │   ├── InvalidRequest
    │   ├── PayloadTooLarge
    │   ├── BrokenPackage
    │   ├── UnknownFunction
    │   ├── UnknownAlias
    │   ├── UnknownLayer
    │   ├── UnknownNode
    │   ├── UnknownRequest
    │   ├── UnknownTrigger
    │   ├── FunctionExists
    │   ├── AliasExists
    │   ├── TriggerExists
    │   ├── NotProvisioned
    │   ├── StatementExists
    │   ├── UnknownStatement
    │   ├── PolicyTooLong
    │   ├── UrlExists
    │   ├── UnknownUrl
    │   ├── NotConfigured
    │   ├── ScheduleExists
    │   ├── UnknownSchedule
    │   ├── InUse
    │   ├── TriggerBusy
    │   ├── RevisionMismatch
    │   ├── NoCredentials
    │   ├── UnknownKey
    │   ├── IncompleteSignature
    │   ├── BadSignature
    │   └── AccessDenied
    └── PlatformError      we failed or are full; the same request may succeed later
        ├── Throttled
        ├── QueueFull
        ├── DeadlinePassed
        ├── LostWithWorker
        ├── NotReady
        ├── Contended
        ├── Unconfirmed
        └── Internal

A function that fails is not in this tree: that is an answer, not an error of the service.

The class says whose fault it was; `reason` crosses the wire in google.rpc.ErrorInfo; `status` is the
name of the gRPC status, kept as text so that the cores can import this module.
"""

from typing import ClassVar


class LambentError(Exception):
    """Base of all; never raised itself. `message` says what happened and what to do."""

    reason: ClassVar[str] = ""
    status: ClassVar[str] = ""

    def __init__(self, message: str, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


class CallerError(LambentError):
    """The request was wrong."""


class PlatformError(LambentError):
    """The platform failed or is full."""


class InvalidRequest(CallerError):
    reason = "INVALID_REQUEST"
    status = "INVALID_ARGUMENT"


class PayloadTooLarge(CallerError):
    reason = "PAYLOAD_TOO_LARGE"
    status = "INVALID_ARGUMENT"


class BrokenPackage(CallerError):
    """The ZIP cannot be taken: unreadable, escaping its root, or exploding."""

    reason = "BROKEN_PACKAGE"
    status = "INVALID_ARGUMENT"


class UnknownFunction(CallerError):
    reason = "UNKNOWN_FUNCTION"
    status = "NOT_FOUND"


class UnknownAlias(CallerError):
    """The function that was asked for has no alias of that name. Nothing was done."""

    reason = "UNKNOWN_ALIAS"
    status = "NOT_FOUND"


class UnknownLayer(CallerError):
    """There is no such version of a layer, or no longer."""

    reason = "UNKNOWN_LAYER"
    status = "NOT_FOUND"


class UnknownNode(CallerError):
    """No worker of this name is there."""

    reason = "UNKNOWN_NODE"
    status = "NOT_FOUND"


class UnknownRequest(CallerError):
    """No call of this id is remembered here."""

    reason = "UNKNOWN_REQUEST"
    status = "NOT_FOUND"


class UnknownTrigger(CallerError):
    reason = "UNKNOWN_TRIGGER"
    status = "NOT_FOUND"


class FunctionExists(CallerError):
    reason = "FUNCTION_EXISTS"
    status = "ALREADY_EXISTS"


class AliasExists(CallerError):
    reason = "ALIAS_EXISTS"
    status = "ALREADY_EXISTS"


class TriggerExists(CallerError):
    """The function has a trigger for this source."""

    reason = "TRIGGER_EXISTS"
    status = "ALREADY_EXISTS"


class NotProvisioned(CallerError):
    """Nothing is kept ready for this version or alias."""

    reason = "NOT_PROVISIONED"
    status = "NOT_FOUND"


class StatementExists(CallerError):
    """The resource policy has a statement of this id."""

    reason = "STATEMENT_EXISTS"
    status = "ALREADY_EXISTS"


class UnknownStatement(CallerError):
    """There is no such statement, or no resource policy at all."""

    reason = "UNKNOWN_STATEMENT"
    status = "NOT_FOUND"


class PolicyTooLong(CallerError):
    reason = "POLICY_TOO_LONG"
    status = "INVALID_ARGUMENT"


class UrlExists(CallerError):
    """The function, or the alias, has a URL already."""

    reason = "URL_EXISTS"
    status = "ALREADY_EXISTS"


class UnknownUrl(CallerError):
    """The function, or the alias, has no URL."""

    reason = "UNKNOWN_URL"
    status = "NOT_FOUND"


class NotConfigured(CallerError):
    """Nothing is configured for the asynchronous calls of this function, version or alias."""

    reason = "NOT_CONFIGURED"
    status = "NOT_FOUND"


class ScheduleExists(CallerError):
    reason = "SCHEDULE_EXISTS"
    status = "ALREADY_EXISTS"


class UnknownSchedule(CallerError):
    reason = "UNKNOWN_SCHEDULE"
    status = "NOT_FOUND"


class InUse(CallerError):
    """Something else refers to it."""

    reason = "IN_USE"
    status = "FAILED_PRECONDITION"


class TriggerBusy(CallerError):
    """It is being deleted."""

    reason = "TRIGGER_BUSY"
    status = "FAILED_PRECONDITION"


class RevisionMismatch(CallerError):
    """Somebody else changed the function meanwhile."""

    reason = "REVISION_MISMATCH"
    status = "FAILED_PRECONDITION"


class NoCredentials(CallerError):
    """The request says nothing of who sent it."""

    reason = "NO_CREDENTIALS"
    status = "UNAUTHENTICATED"


class UnknownKey(CallerError):
    """There is no such access key, or no longer, or its secret is another."""

    reason = "UNKNOWN_KEY"
    status = "UNAUTHENTICATED"


class IncompleteSignature(CallerError):
    """The request is signed, and not as Signature Version 4 wants it."""

    reason = "INCOMPLETE_SIGNATURE"
    status = "UNAUTHENTICATED"


class BadSignature(CallerError):
    """The signature is of another request, by another secret, or of another time."""

    reason = "BAD_SIGNATURE"
    status = "UNAUTHENTICATED"


class AccessDenied(CallerError):
    """Who asks is known, and may not do this."""

    reason = "ACCESS_DENIED"
    status = "PERMISSION_DENIED"


class Throttled(PlatformError):
    """The line is full, the function is switched off, or nothing became free in time. It never ran."""

    reason = "THROTTLED"
    status = "RESOURCE_EXHAUSTED"
    throttle_reason: str = ""
    """Lambda's name for why, such as ConcurrentInvocationLimitExceeded; empty where it has none."""


class QueueFull(PlatformError):
    """The event was not taken: the queue of asynchronous calls has no room for it. It never ran."""

    reason = "QUEUE_FULL"
    status = "RESOURCE_EXHAUSTED"


class DeadlinePassed(PlatformError):
    """The caller's deadline passed while the event ran; the function may still finish it."""

    reason = "DEADLINE_PASSED"
    status = "DEADLINE_EXCEEDED"


class LostWithWorker(PlatformError):
    """The worker or the way to it was lost while the event ran. It may have run: decide before a retry.

    The status is UNKNOWN, not UNAVAILABLE: generic gRPC clients send an UNAVAILABLE call again by themselves.
    """

    reason = "LOST_WITH_WORKER"
    status = "UNKNOWN"


class NotReady(PlatformError):
    """This part is not able to serve yet, or is stopping. It never ran."""

    reason = "NOT_READY"
    status = "UNAVAILABLE"


class Contended(PlatformError):
    """Others change the same thing over and over. Nothing was changed."""

    reason = "CONTENDED"
    status = "ABORTED"


class Unconfirmed(PlatformError):
    """A change may have been made, or was made and cannot be shown yet. Look before it is made again.

    The status is UNKNOWN, as that of LostWithWorker.
    """

    reason = "UNCONFIRMED"
    status = "UNKNOWN"


class Internal(PlatformError):
    """A fault of Lambent's own. It never ran, or its outcome is in the message."""

    reason = "INTERNAL"
    status = "INTERNAL"
